"""The same readings are not new readings: rows of a file that the ledger has already, whatever bytes they come in.

Two rows are one reading where assay, design (of a control: its well), value to twelve digits, bound and status are equal and
nothing that both tell (plate, well, round, time) differs; one that stands twice in the ledger can be repeated twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from labloop.assays.ingest import AssayFile
from labloop.assays.ingest.cells import count, listed
from labloop.errors import Fault, IngestError
from labloop.ledger.memory import Memory
from labloop.types import Array

_TOLD = ("plate", "well", "round", "measured_at")
"""What tells two equal readings apart, where both say it."""
CORRECTS = "a file that corrects a mistake: labloop correct"
_ANEW = "if they were measured anew, say so with --again"


def fresh(memory: Memory, file: AssayFile) -> tuple[pd.DataFrame, str]:
    """Give the rows of a file that are new to the ledger, of each of its assays; see `_fresh`.

    Raises:
        IngestError: every row is a repetition, or some of a table that is no form of labloop's.
    """
    assays = file.measurements["assay"].unique().tolist()
    if len(assays) < 2:
        return _fresh(memory, file)
    rows, said = [], []
    for assay in assays:
        part = file.measurements[file.measurements["assay"] == assay]
        try:
            new, told = _fresh(memory, replace(file, assay=assay, measurements=part))
        except IngestError as error:
            if error.faults:
                raise
            new, told, last = part.iloc[:0], f"all of {assay} left out: the ledger has it already", error
        rows.append(new)
        said += [told] if told else []
    found = pd.concat(rows)
    if found.empty:
        raise last
    return found, "; ".join(said)


def _fresh(memory: Memory, file: AssayFile) -> tuple[pd.DataFrame, str]:
    """Give the rows of a file that are new to the ledger, and what to tell of the others ('' where there are none).

    A form that comes again with more of its wells filled in repeats the earlier ones: they are left out. A plate on which a well
    reads otherwise than before was read again, and is taken whole. Bounds and failures alone prove no repetition, since two
    readings of a poor design easily agree in them.

    Raises:
        IngestError: every row is a repetition, or some of a table that is no form of labloop's.
    """
    new = file.measurements
    old = _like(memory, file.assay, new)
    if old.empty:
        return new, ""
    found = matches(new, old)
    same = found >= 0
    laid = _laid_out(new, memory.ledger.wells(memory.name))
    otherwise = _read_otherwise(new, old, same)
    again = laid & new["plate"].isin(new.loc[otherwise, "plate"]).to_numpy()
    same &= ~again
    anew = int((otherwise & laid).sum())
    told = f"{count(anew, 'well')} read before, and otherwise: the later reading counts ({CORRECTS})" if anew else ""
    exact = ((new["qualifier"] == "=") & new["value"].notna()).to_numpy()
    if not same.any() or not (same.all() or (same & (exact | laid)).any()):
        return new, told
    where = _sources(old.iloc[found[same]])
    if same.all():
        raise IngestError(
            f"{file.name}: {'its only reading is' if len(new) == 1 else f'all its {len(new):,} readings are'} in the ledger "
            f"already ({where}): nothing of it is new; {_ANEW}"
        )
    if (same & ~laid).any():
        rows = np.flatnonzero(same & ~laid)
        here = old.iloc[found[rows]]
        rules = [f"is in the ledger already, from {name} ({_day(at)})" for name, at in zip(here["file"], here["at"])]
        cells = [f"{value:.6g}" for value in new["value"].to_numpy(float)[rows]]
        raise IngestError(
            f"{file.name}: {count(len(rows), 'row')} of {len(new):,} in the ledger already ({where}): "
            f"take them out and ingest the rest; {_ANEW}",
            [Fault(int(line), "value", rule, cell) for line, rule, cell in zip(new["row"].to_numpy()[rows], rules, cells)],
        )
    left = f"{count(int(same.sum()), 'row')} left out that the ledger has already ({where})"
    return new[~same], f"{told}; {left}" if told else left


def has_all(memory: Memory, file: AssayFile) -> bool:
    """Say whether the ledger has every reading of a file, of each of its assays; what was corrected since counts too."""
    for assay, new in file.measurements.groupby("assay", sort=False):
        if (matches(new, _like(memory, str(assay), new)) < 0).any():
            return False
    return True


def _like(memory: Memory, assay: str, new: pd.DataFrame) -> pd.DataFrame:
    """The ledger's readings of the designs and plates of new ones."""
    ids, plates = (new[name].dropna().unique().tolist() for name in ("design_id", "plate"))
    return memory.ledger.known(memory.name, assay, designs=ids, plates=plates)


def matches(new: pd.DataFrame, old: pd.DataFrame) -> Array:
    """Find for each new row the old one that it repeats, each of them once; (n,) positions in `old`, -1 where there is none."""
    names = ["design_id", "value", "qualifier", "status", *_TOLD]
    both = pd.concat([frame[names].assign(round=frame["round"].astype(float)) for frame in (new, old)], ignore_index=True)
    side = np.arange(len(both)) < len(new)
    base = _codes([_what(both), rounded(both["value"]), both["qualifier"], both["status"]])
    told = np.column_stack([pd.factorize(both[name])[0] for name in _TOLD])  # -1 where nothing is told
    shapes = (told >= 0) @ (1 << np.arange(len(_TOLD)))
    shapes[~side & ~np.isin(base, base[side])] = -1  # what nothing new is like
    found = np.full(len(both), -1)
    pairs = product(np.unique(shapes[side]), np.unique(shapes[~side & (shapes >= 0)]))
    for mine, theirs in sorted(pairs, key=lambda pair: (-int(pair[0] & pair[1]).bit_count(), pair)):
        rows = np.flatnonzero((found < 0) & (shapes == np.where(side, mine, theirs)))
        common = [told[rows, i] for i in range(len(_TOLD)) if (mine & theirs) >> i & 1]
        key = _codes([base[rows], *common])
        nth = pd.Series(key).groupby([key, side[rows]], sort=False).cumcount().to_numpy()
        key = _codes([key, nth])
        here = side[rows]
        at = pd.Index(key[~here]).get_indexer(pd.Index(key[here]))
        taken = rows[~here][at[at >= 0]]
        found[rows[here][at >= 0]] = taken - len(new)
        found[taken] = 0  # an old reading is repeated once
    return found[: len(new)]


def _what(frame: pd.DataFrame) -> Array:
    """The design; of a control, which has none, the well that it stands in."""
    what = frame["design_id"].to_numpy(dtype=object).copy()
    held = np.flatnonzero(frame["design_id"].isna())
    what[held] = [f"{plate}\0{well}" for plate, well in frame.loc[held, ["plate", "well"]].itertuples(index=False)]
    return what


def rounded(values: pd.Series) -> Array:  # type: ignore[type-arg]
    """Twelve significant digits, so that a file that went through a spreadsheet is still the same."""
    value = values.to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (11 - np.floor(np.log10(np.abs(value))))
        rounded = np.round(value * scale) / scale
    return np.where(np.isfinite(rounded), rounded, value)


def _codes(columns: Sequence[Array | pd.Series]) -> Array:  # type: ignore[type-arg]
    """Number the distinct combinations of columns; what is missing is equal to itself."""
    codes, n = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        one, distinct = pd.factorize(column, use_na_sentinel=False)
        n *= len(distinct)
        if n > 1 << 62:
            codes, some = pd.factorize(codes)
            n = len(some) * len(distinct)
        codes = codes * len(distinct) + one
    return codes


def _laid_out(new: pd.DataFrame, wells: pd.DataFrame) -> Array:
    return (new["plate"].isin(wells["plate"]) & new["well"].notna()).to_numpy()


def _read_otherwise(new: pd.DataFrame, old: pd.DataFrame, same: Array) -> Array:
    """Which rows are of a well that was read before and reads otherwise now; (n,) booleans."""
    placed = (new["plate"].notna() & new["well"].notna()).to_numpy() & ~same
    spots = pd.MultiIndex.from_frame(new.loc[placed, ["plate", "well"]].astype(object))
    placed[placed] = spots.isin(pd.MultiIndex.from_frame(old[["plate", "well"]].dropna().astype(object)))
    return placed


def _sources(rows: pd.DataFrame) -> str:
    files = rows.groupby(["file", "at"], sort=False, dropna=False).size().reset_index(name="n")
    told = zip(files["file"], files["at"], files["n"].tolist())
    return listed([f"{n:,} from {name}, taken in {_day(at)}" for name, at, n in told], 3)


def _day(at: str) -> str:
    return str(at)[:16].replace("T", " ")
