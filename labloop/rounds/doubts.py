"""What speaks against a file: its plate has no files yet, or it reads as another plate's, another assay's or in another unit."""

from __future__ import annotations

import pandas as pd

from labloop.assays.ingest import AssayFile
from labloop.assays.ingest.cells import count, listed
from labloop.ledger.memory import Memory
from labloop.ledger.states import RoundState
from labloop.rounds.repeats import CORRECTS, rounded
from labloop.runtime.numbers import spelt

_ALIKE = 8
"""Different values that two plates must have in the same wells before one is taken for the other; values that tell a scale."""
_LATEST = 5000
"""Readings of an assay, the latest, that a file's values are held against."""
_APART = 5
"""So many times apart must the middle eight tenths of two sets of values lie before one is taken for another unit's."""


def doubts(memory: Memory, file: AssayFile) -> list[str]:
    """Say what speaks against a file; nothing, as a rule."""
    return [told for told in (unwritten(memory, file), as_elsewhere(memory, file), *out_of_scale(memory, file)) if told]


def unwritten(memory: Memory, file: AssayFile) -> str:
    """Say which of a file's plates were never handed to the lab, as their files were not written; else ''."""
    proposed = [entry.number for entry in memory.ledger.rounds(memory.name) if entry.state == RoundState.PROPOSED]
    wells = memory.ledger.wells(memory.name)
    shown = set(wells.loc[wells["round"].isin(proposed), "plate"]) & set(file.measurements["plate"].dropna())
    if not shown:
        return ""
    return f"no files of {listed(sorted(shown))} were written yet: see that it is the right plate"


def as_elsewhere(memory: Memory, file: AssayFile) -> str:
    """Say whose file this seems to be: another plate's, or another assay's, which the ledger has well by well; else ''.

    Plates that came back not long ago are looked at: those of the file's rounds, and of the one before.
    """
    wells, given = memory.ledger.wells(memory.name), file.measurements
    ours = given["plate"].isin(wells["plate"].unique()) & (given["qualifier"] == "=") & given["well"].notna()
    for (assay, plate), mine in given.loc[ours, ["assay", "plate", "well", "value"]].groupby(["assay", "plate"]):
        number = int(wells.loc[wells["plate"] == plate, "round"].iloc[0])
        near = wells.loc[wells["round"].between(number - 1, number) & (wells["plate"] != plate), "plate"].unique().tolist()
        if mine["value"].nunique() < _ALIKE:
            continue
        beside = [(one, [str(plate)]) for one in memory.config.assays if one != assay]
        for of, plates in [(str(assay), near), *beside] if near else beside:
            old = memory.ledger.known(memory.name, of, plates=plates)
            both = mine[["well", "value"]].merge(old[["plate", "well", "value", "file"]], on="well", suffixes=("", "_old"))
            both = both.assign(same=rounded(both["value"]) == rounded(both["value_old"]))
            for (other, name), found in both.groupby(["plate", "file"]):
                if found["same"].all() and found["value"].nunique() >= _ALIKE:
                    said = f"as {other} does" if of == assay else f"of {assay} as it does of {of}"
                    return (
                        f"{plate} reads in {count(len(found), 'well')} {said} ({name}): where it is the wrong file, ingest the "
                        "right one, which then counts"
                    )
    return ""


def out_of_scale(memory: Memory, file: AssayFile) -> list[str]:
    """Say of which assays a file's values lie far below or above all that was measured lately, as those of another unit do."""
    told = []
    for assay in file.measurements["assay"].unique():
        before = _exact(memory.ledger.known(memory.name, str(assay), last=_LATEST))
        if len(before) < _ALIKE:  # the first file of an assay, however large, is held against nothing
            continue
        mine = _exact(file.measurements[file.measurements["assay"] == assay])
        if len(mine) < _ALIKE:
            continue
        (low, mid, high), (least, middle, most) = (values.quantile([0.1, 0.5, 0.9]) for values in (mine, before))
        if not (low > 0 and least > 0 and (low > _APART * most or high * _APART < least)):
            continue
        ratio = f"{float(f'{max(mid / middle, middle / mid):.2g}'):,.6g}"
        times = f"{ratio} times" if mid > middle else f"1/{ratio} of"
        unit = memory.config.property_of(str(assay)).unit
        told.append(
            f"{count(len(mine), 'value')} of {assay}, most from {spelt(low, 3)} to {spelt(high, 3)}, are {times} what was "
            f"measured before ({spelt(least, 3)} to {spelt(most, 3)}{f' {unit}' if unit else ''}): see that the unit is "
            f"right ({CORRECTS})"
        )
    return told


def _exact(readings: pd.DataFrame) -> pd.Series[float]:
    """The values of readings that are numbers, not bounds."""
    return readings.loc[(readings["qualifier"] == "=") & (readings["status"] == "ok"), "value"]
