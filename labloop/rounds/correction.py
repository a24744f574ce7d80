"""Corrections: a file's readings replace those that stand of the same wells, in one transaction, with the reason.

A well that was merely read again needs no correction: ingest the file, and quality control's rule `reread` says what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.ingest import AssayFile
from labloop.assays.ingest.cells import count
from labloop.errors import CampaignError, Fault, IngestError
from labloop.ledger import Ledger

_MANY = 5_000
"""Plates from which on all readings are looked through instead of theirs."""

_CONTENT = ("design_id", "value", "qualifier", "unit", "status")
"""What makes two readings of one well the same."""
_PLACE = ("plate", "well", "round")


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectedFile:
    """A file held against the readings that stand."""

    changes: pd.DataFrame
    """The file's rows that differ, as they are to be stored, with `supersedes`: the id of the reading that each replaces."""
    old: pd.DataFrame
    """The readings that they replace, in the same order."""
    equal: int
    """Rows that say what stands."""
    faults: tuple[Fault, ...]
    """Rows that match no reading, or more than one."""
    added: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Rows of a file that has grown, where no reading stood."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Corrected:
    """What one correction did, or would do in a dry run."""

    file: str
    sha256: str
    reason: str
    dialect: str
    changes: pd.DataFrame
    """One row a reading that was replaced: row, plate, well, design_id, old, new (texts), and old_file and old_row."""
    equal: int
    """Rows that said what stood already."""
    stored: bool
    added: int = 0
    """Rows of a file that has grown, which were stored as new readings."""


def correct(
    ledger: Ledger, campaign: str, file: AssayFile, *, reason: str, dry_run: bool = False, grown_from: int | None = None
) -> Corrected:
    """Let a corrected file's readings supersede those that stand, in one transaction with the reason.

    Args:
        grown_from: rows that the file had when it was taken in, if it has been written on since: rows where no reading stands
            are then its new ones.

    Raises:
        CampaignError: there is no reason.
        IngestError: a row matches no reading that stands, or cannot tell which, or a file that has grown has fewer rows than it
            had; nothing was stored.
    """
    if not reason.strip():
        raise CampaignError("a correction needs a reason, which the ledger keeps: --reason 'wells B3 and B4 were swapped'")
    with ledger.begin():
        known = ledger.has_file(campaign, file.sha256)
        new = file.measurements.drop(columns="control")
        found = correction(new, _standing(ledger, campaign, new), file=file.name, grown=grown_from is not None)
        if grown_from is not None and len(new) < grown_from:
            raise IngestError(f"{file.name}: has {count(len(new), 'row')} now, where it had {grown_from}")
        if found.faults:
            raise IngestError(f"{file.name}: {count(len(found.faults), 'row')} cannot be matched with what stands", found.faults)
        told_anew = len(found.changes) + len(found.added)
        stored = not dry_run and not known and told_anew > 0
        if known and told_anew:
            raise CampaignError(
                f"{file.name} was taken in before, and its readings were corrected since: a later correction stands; "
                "send a file with another content to go back"
            )
        if stored:
            ledger.add_file(
                campaign, sha256=file.sha256, name=file.name, designs=file.designs,
                measurements=pd.concat([found.changes, found.added]) if len(found.added) else found.changes,
                reader=file.reader, dialect=file.dialect,
            )  # fmt: skip
            told = {"sha256": file.sha256, "file": file.name, "reason": reason.strip(), "n": len(found.changes)}
            ledger.add_event(campaign, "correction", told)
    return Corrected(
        file=file.name, sha256=file.sha256, reason=reason.strip(), dialect=file.dialect, changes=_shown(found), equal=found.equal,
        stored=stored, added=len(found.added),
    )  # fmt: skip


def _standing(ledger: Ledger, campaign: str, new: pd.DataFrame) -> pd.DataFrame:
    plates = new["plate"].dropna().unique().tolist()
    whole = new["well"].isna().any() or len(plates) > _MANY
    return ledger.measurements(campaign, plates=None if whole else plates)


def _shown(found: CorrectedFile) -> pd.DataFrame:
    new, old = found.changes, found.old
    return pd.DataFrame(
        {
            **{name: new[name].to_numpy() for name in ("row", "plate", "well", "design_id")},
            "old": [reading(one) for one in old.to_dict("records")],
            "new": [reading(one) for one in new.to_dict("records")],
            "old_file": old["file"].to_numpy(),
            "old_row": old["row"].to_numpy(),
        }
    )


def reading(row: Mapping[Any, Any]) -> str:
    """Write a reading as a person would: bound, value, unit, and the status where it is not ok."""
    status = "" if row["status"] == "ok" else str(row["status"])
    if pd.isna(row["value"]):
        return status or "no value"
    sign = "" if row["qualifier"] == "=" else row["qualifier"]
    unit = "" if pd.isna(row["unit"]) or not row["unit"] else f" {row['unit']}"
    return f"{sign}{row['value']:.6g}{unit}" + (f", {status}" if status else "")


def correction(new: pd.DataFrame, standing: pd.DataFrame, *, file: str, grown: bool = False) -> CorrectedFile:
    """Match a file's rows with the readings that stand: by plate and well, or by design where a row names no well.

    Args:
        new: readings of one assay, as `AssayFile.measurements`.
        standing: the readings that stand, as `Ledger.measurements`, of any assay.
        file: the file's name; of several readings of a design, the one of the same row of a file of this name is meant, of a
            well the latest.
        grown: whether the file was written on: a row where no reading stands is a new one, not a fault.
    """
    standing = standing[standing["assay"].isin(new["assay"].unique())]
    elsewhere: set[str] = set()
    if grown:  # another file's readings are none that this one could have meant when it was taken
        own = (standing["file"] == file).to_numpy(dtype=bool)
        elsewhere, standing = set(_places(standing[~own])), standing[own]
    mine, theirs = _without_equal(new, standing)
    equal = len(new) - len(mine)
    candidates = theirs.groupby("place", sort=False).indices if len(theirs) else {}
    news = mine.groupby("place", sort=False).size()
    rows, olds, faults, added = [], [], [], []
    taken: set[int] = set()
    for position, (place, line) in enumerate(zip(mine["place"].tolist(), mine["row"].tolist())):
        found = [i for i in candidates.get(place, ()) if i not in taken]
        if len(found) > 1 or news[place] > 1:
            here = theirs.iloc[found]
            found = [i for i, same in zip(found, ((here["file"] == file) & (here["row"] == line)).tolist()) if same] or found
            if len(found) > 1 and news[place] == 1 and not pd.isna(mine["well"].iloc[position]):
                found = found[-1:]  # of a well that was read again, the latest reading is the one that counts
            if len(found) > 1 or (found and news[place] > 1 and len(candidates[place]) < news[place]):
                shown = ", ".join(f"row {one['row']} of {one['file']}" for one in theirs.iloc[found].to_dict("records"))
                rule = f"{count(len(found), 'reading')} could be meant ({shown}): name plate and well, or keep their file and row"
                faults.append(_fault(mine.iloc[position], rule))
                continue
        if not found and grown and place not in elsewhere:
            added.append(position)
            continue
        if not found:
            rule = "another file's reading stands here" if grown else "no reading stands here that it could correct"
            faults.append(_fault(mine.iloc[position], f"{rule}: ingest it as a new one"))
            continue
        taken.add(found[0])
        rows.append(position)
        olds.append(found[0])
    old = theirs.iloc[olds].drop(columns="place")
    changes = mine.iloc[rows].drop(columns="place").assign(supersedes=old["id"].to_numpy())
    more = mine.iloc[added].drop(columns="place").assign(supersedes=None)
    return CorrectedFile(changes=changes, old=old, equal=equal, faults=tuple(faults), added=more)


def _without_equal(new: pd.DataFrame, standing: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take pairs of equal readings of one place out of both; adds a column `place`."""
    sides = []
    for frame in (new, standing):
        frame = frame.assign(place=_places(frame))
        said = [frame["place"], *(_plain(frame[name]) for name in _CONTENT)]
        key = pd.MultiIndex.from_arrays([pd.Series(one, dtype=object).to_numpy() for one in said])
        # Two equal readings of a place go out only where two stand.
        nth = pd.Series(np.arange(len(key))).groupby(pd.factorize(key)[0]).cumcount() if len(key) else pd.Series(dtype=int)
        sides.append((frame, pd.MultiIndex.from_arrays([*(key.get_level_values(i) for i in range(key.nlevels)), nth.to_numpy()])))
    (mine, mine_key), (theirs, theirs_key) = sides
    return mine[~mine_key.isin(theirs_key)], theirs[~theirs_key.isin(mine_key)]


def _places(frame: pd.DataFrame) -> pd.Series[str]:
    """Where each reading is found again: plate, well and round, or the design where there is no well."""
    spot = frame["plate"].notna() & frame["well"].notna()
    texts = [_plain(frame[name]).astype(str) for name in _PLACE]
    where = texts[0] + "\0" + texts[1] + "\0" + texts[2]
    return frame["assay"].astype(str) + "\0" + where.where(spot, "\0\0" + _plain(frame["design_id"]).astype(str))


def _plain(cells: pd.Series) -> pd.Series:  # type: ignore[type-arg]
    """Cells that compare equal where they mean the same: whole numbers as such, nothing for what is missing."""
    if cells.name == "round":
        return cells.astype(float).fillna(-1).astype(int)
    if cells.name == "value":
        return cells.astype(float).fillna(np.inf)  # which no reading is
    return cells.astype(object).where(cells.notna(), "")


def _fault(row: pd.Series, rule: str) -> Fault:  # type: ignore[type-arg]
    what = f"{row['well']} of plate {row['plate']}: " if not pd.isna(row["well"]) else ""
    return Fault(int(row["row"]), "value", what + rule, "" if pd.isna(row["value"]) else f"{row['value']:.6g}")
