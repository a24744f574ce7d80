"""A round's batch: picks and controls in wells, and the files that go to the lead and to the bench.

`render` turns a batch into bytes, equal for equal batches on every machine; `write_batch` puts them on disk, whole or not at all.
Wells stand row after row in every file (A01, A02, …), as plate readers list them and spreadsheets sort them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.errors import BatchError, LabloopError
from labloop.plates.layout import LAYOUT_COLUMNS
from labloop.plates.statuses import FORM_HELP
from labloop.plates.wells import SHAPES, parse_well, row_name
from labloop.runtime.files import write_all
from labloop.runtime.spreadsheet import csv_bytes
from labloop.space.objective import Objective
from labloop.types import FloatArray

log = logging.getLogger("labloop")

PICK_COLUMNS = (
    "arm", "design_id", "rank", "proposer", "score", "mean", "std", "lcb", "beta", "nearest_id", "nearest_distance",
)  # fmt: skip
"""What `Batch.picks` holds, one row an arm's pick."""
SCORE = "score (its own unit, larger is better)"
"""The pick list's column of what a proposer thinks: the only one that is not in the lab's unit."""
ASSAY_COLUMNS = ("plate", "well", "value", "unit", "status", "measured_at", "note")
"""The columns of the empty assay file, which `labloop ingest` reads with no mapping."""

_SAMPLE_LENGTH = 30


RESERVED = frozenset(
    {
        "arm", "design_id", "rank", "proposer", "score", "mean", "std", "lcb", "nearest_id", "nearest_distance",
        "plate", "well", "value", "unit", "status", "measured_at", "note", "sample", "control", "predicted", "in_space",
        "source_plate", "source_well", "assay", "qualifier", "round", "arms", "proposers", "file", "row", "y", "sem",
        "n_replicates", "flags",
    }
)  # fmt: skip
"""Columns of labloop's own files; a design column of such a name could not be told from them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """What a lab gets for one round, and why.

    Raises at construction:
        BatchError: a design column has the name of one of labloop's own columns.
        ValueError: the tables do not fit together.
    """

    campaign: str
    round: int
    picks: pd.DataFrame
    """One row an arm's pick with `PICK_COLUMNS`; mean and std (of a reading) and the bound lcb (of what the design is worth, with
    its beta) are the judge's, in y (larger is better)."""
    wells: pd.DataFrame
    """One row a used well, as `labloop.plates.layout.lay_out` gives."""
    designs: pd.DataFrame
    """The design columns, indexed by `design_id`; designs of no well are ignored."""
    manifest: Mapping[str, Any]
    """Where the batch comes from: campaign and round config, seed, dataset fingerprint, versions. Plain values only."""
    objective: Objective
    arms: tuple[str, ...]
    """In the order in which a shared design names them."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Columns of the results' form with their units, where there are several properties."""
    predictions: pd.DataFrame | None = None
    """What the judge said of the other properties, in the lab's units, indexed by `design_id`, a column each as the pick list
    shows it; None where there is one only."""
    names: pd.DataFrame | None = None
    """What people call the designs besides, indexed as `designs`: mutants by their substitutions; None where there is no name."""
    shape: tuple[int, int] | None = None
    """Rows and columns of the plates; the smallest plate of 96 or more wells that has all of them, if None."""

    def __post_init__(self) -> None:
        for table, wanted in ((self.picks, PICK_COLUMNS), (self.wells, LAYOUT_COLUMNS)):
            missing = [column for column in wanted if column not in table.columns]
            if missing:
                raise ValueError(f"columns are missing: {', '.join(missing)}")
        clash = sorted(RESERVED & {str(column) for column in self.designs.columns})
        if clash:
            raise BatchError(f"design columns {', '.join(clash)} have names that labloop's files use: rename these parameters")
        placed = self.wells["design_id"].dropna().tolist()
        if (
            (self.wells["design_id"].isna() == self.wells["control"].isna()).any()
            or len(set(Counter(placed).values())) > 1
            or set(placed) != set(self.picks["design_id"])
        ):
            raise ValueError("every picked design needs a well, all of them equally many, and every other well a control")
        if not set(placed) <= set(self.designs.index) or not self.designs.index.is_unique:
            raise ValueError("designs must hold every picked design, each once")
        if not set(self.picks["arm"]) <= set(self.arms):
            raise ValueError(f"picks are of arms that are not among {', '.join(self.arms)}")
        if (self.wells[["row", "column"]].max().to_numpy() > (self.shape or SHAPES[1536])).any():
            raise ValueError("wells lie outside plates of {} x {}".format(*(self.shape or SHAPES[1536])))
        if {"batch", "files"} & set(self.manifest):
            raise ValueError("manifest keys 'batch' and 'files' are written by write_batch")

    @property
    def stem(self) -> str:
        """How the names of this batch's files begin."""
        return f"{self.campaign}-R{self.round:02d}"

    @property
    def plate_shape(self) -> tuple[int, int]:
        """Rows and columns of the plates."""
        last = (self.wells["row"].max(), self.wells["column"].max())
        return self.shape or next(one for n, one in SHAPES.items() if n >= 96 and last[0] <= one[0] and last[1] <= one[1])


def render(batch: Batch, more: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Make the files of a batch: name to content, the manifest last.

    - `…_picks.csv`, for the lead: one row a design's well, with arm, proposer and the judge's reasons. A design that two arms
      chose names both (`offline+bo`); its rank, score and bound are those of the arm named first. All in the lab's unit:
      `predicted` is the judge's mean, a reading is expected from `predicted_from` to `predicted_to` (one standard deviation), and
      `bound` is what the design is worth at `bound_beta` standard deviations on the worse side (negative: the better side).
      Behind them stand the unit and, of several properties, what is predicted of the others and the chance that limits are kept.
    - `…_platemap.csv`, for the bench: every used well with its sample name and design or control. It is blinded: nothing in it
      tells arms apart.
    - `…_grid.csv`, to print: each plate as it lies on the bench; a cell holds the control, the design where it is one short
      text, else the sample name.
    - `…_assay.csv`: the empty form for the results; the header of its last column lists what can stand in `status`.
    - `…_manifest.json`: where all this comes from, and the SHA-256 of each file.

    Args:
        more: further files of the batch, such as order sheets, by name.
    """
    wells = wells_with_samples(batch)
    designs = _cells(_named(batch))
    files = {
        f"{batch.stem}_picks.csv": csv_bytes(_pick_list(batch, wells, designs)),
        f"{batch.stem}_platemap.csv": csv_bytes(_plate_map(wells, designs)),
        f"{batch.stem}_grid.csv": csv_bytes(_grid(batch, wells, designs)),
        f"{batch.stem}_assay.csv": csv_bytes(form_lines(_places(wells), unit=batch.objective.unit, properties=batch.properties)),
        **(more or {}),
    }
    manifest = {
        **batch.manifest,
        "batch": _summary(batch),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    text = json.dumps(_plain(manifest), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {**files, f"{batch.stem}_manifest.json": (text + "\n").encode()}


def write_batch(batch: Batch, folder: Path, *, more: Mapping[str, bytes] | None = None, replace: bool = False) -> dict[str, Path]:
    """Write the files of a batch into a folder; files that are already there and equal are left alone.

    A results form that the lab has filled in where it lies is the lab's: it stays as it is while the plate map beside it is
    this batch's. A full disk or a killed process leaves no half-written file, see `write_all`; the manifest takes its place
    last.

    Args:
        more: further files of the batch by name, see `render`.
        replace: overwrite the files of another batch.

    Returns:
        The paths of `picks`, `platemap`, `grid`, `assay`, of what is in `more`, and of `manifest`.

    Raises:
        BatchError: a file cannot be written, or one of that name with other content is there (the manifest, which names
            versions, aside) and `replace` is not set. Only a rename that fails can leave some files new and others not yet there.
    """
    files = {folder / name: content for name, content in render(batch, more).items()}
    try:
        stale = [at for at, content in files.items() if not at.exists() or at.read_bytes() != content]
    except OSError as error:
        raise BatchError(f"{folder}: cannot be read: {error.strerror or error}; choose another folder") from error
    for form in (folder / f"{batch.stem}_{kind}" for kind in ("assay.csv", "form.xlsx")):
        if folder / f"{batch.stem}_platemap.csv" not in stale and form in stale and form.exists():
            log.info("%s: was filled in, it stays as it is", form)
            stale.remove(form)
    for at in stale:
        if at.exists() and at.suffix != ".json" and not replace and not _of_older_labloop(at, files[at]):
            raise BatchError(
                f"{at}: is there already with other content (edited, or of another batch): move it away or choose another folder"
            )
    try:
        write_all(folder, {at.name: files[at] for at in stale})
    except LabloopError as error:
        raise BatchError(f"{error}, then export again (no file was left half-written)") from error
    return {path.stem.removeprefix(f"{batch.stem}_"): path for path in files}


def _of_older_labloop(path: Path, content: bytes) -> bool:
    """Whether a file is a pick list as an older labloop wrote it: with predictions in two signs, or without the last columns."""
    if not path.name.endswith("_picks.csv"):
        return False
    old, new = path.read_bytes().splitlines(), content.splitlines()
    fewer = len(old) == len(new) and all(b.startswith(a + b",") for a, b in zip(old, new, strict=True))
    return fewer or b",score,predicted,mean,std,lcb," in b"".join(old[:1])


def wells_with_samples(batch: Batch) -> pd.DataFrame:
    """Give a batch's wells by plate and row after row, with the name of what stands in each, its tube's, as `sample`."""
    wells = _in_order(batch.wells)
    return wells.assign(sample=sample_names(batch.campaign, batch.round, wells))


def tubes(campaign: str, wells: pd.DataFrame) -> pd.DataFrame:
    """Give wells of any rounds, as the ledger has them, with their tubes' names as `sample`; the index counts theirs."""
    places = [parse_well(well) for well in wells["well"]]
    wells = wells.assign(at=range(len(wells)), row=[row for row, _ in places], column=[column for _, column in places])
    rounds = [_in_order(mine).set_index("at") for _, mine in wells.groupby("round")]
    named = [mine.assign(sample=sample_names(campaign, int(mine["round"].iloc[0]), mine)) for mine in rounds]
    return pd.concat(named) if named else wells.assign(sample="")


def plate_names(campaign: str, number: int, plates: int) -> list[str]:
    """Name the plates of a round, such as tfbind8-R01-P1."""
    return [f"{campaign}-R{number:02d}-P{i}" for i in range(1, plates + 1)]


def short_name(name: str, room: int) -> str:
    """Cut a campaign's name to `room` characters; two long ones that begin alike do not become one."""
    return name if len(name) <= room else name[: room - 5] + "-" + hashlib.sha256(name.encode()).hexdigest()[:4].upper()


def _pick_list(batch: Batch, wells: pd.DataFrame, designs: Mapping[str, Mapping[str, str]]) -> list[Sequence[str]]:
    place = {arm: i for i, arm in enumerate(batch.arms)}
    picks = batch.picks.iloc[np.argsort(batch.picks["arm"].map(place).to_numpy(), kind="stable")]
    arms: dict[str, list[str]] = {}
    proposers: dict[str, dict[str, None]] = {}
    for one, arm, proposer in zip(picks["design_id"].tolist(), picks["arm"].tolist(), picks["proposer"].tolist()):
        arms.setdefault(one, []).append(arm)
        proposers.setdefault(one, {})[proposer] = None
    one_each = picks.drop_duplicates("design_id").set_index("design_id")
    one_each = one_each.assign(
        arm=["+".join(arms[one]) for one in one_each.index],
        proposer=["+".join(proposers[one]) for one in one_each.index],
        **_predictions(batch.objective, one_each),
    ).rename(columns={"score": SCORE, "beta": "bound_beta"})
    before = _cells(one_each[["rank", "arm", "proposer"]])
    told = [SCORE, "predicted", "predicted_from", "predicted_to", "bound", "bound_beta", "nearest_id", "nearest_distance"]
    if batch.objective.unit:
        one_each, told = one_each.assign(unit=batch.objective.unit), [*told, "unit"]
    if batch.predictions is not None:
        one_each, told = one_each.join(batch.predictions), [*told, *batch.predictions]
    after = _cells(one_each[told], digits=6)
    lines: list[Sequence[str]] = [["plate", "well", *before, "design_id", *designs, *after]]
    for place_of, one in zip(_places(wells), wells["design_id"].tolist(), strict=True):
        if one in one_each.index:
            parts = ([column[one] for column in group.values()] for group in (before, {"": {one: one}}, designs, after))
            lines.append([*place_of, *(cell for part in parts for cell in part)])
    return lines


def _predictions(objective: Objective, picks: pd.DataFrame) -> dict[str, FloatArray]:
    """Turn what the judge said of picks, in y, into the lab's unit."""
    mean, std, lcb = (picks[name].to_numpy(float) for name in ("mean", "std", "lcb"))
    ends = np.sort([objective.to_value(mean - std), objective.to_value(mean + std)], axis=0)
    return {
        "predicted": objective.to_value(mean), "predicted_from": ends[0], "predicted_to": ends[1],
        "bound": objective.to_value(lcb),
    }  # fmt: skip


def form_lines(places: Iterable[tuple[str, str]], *, unit: str, properties: Mapping[str, str]) -> list[Sequence[str]]:
    """Make the empty form: one value a well, or a column a property, whose units the last header tells.

    Args:
        places: plate and well of each line.
        properties: columns with their units, where there are several properties.
    """
    if not properties:
        return [(*ASSAY_COLUMNS, FORM_HELP), *((plate, well, "", unit, *[""] * 4) for plate, well in places)]
    units = ", ".join(f"{name} in {one}" for name, one in properties.items() if one)
    told = f"{FORM_HELP}; a property that was not measured stays blank" + (f"; {units}" if units else "")
    named = (*ASSAY_COLUMNS[:2], *properties, *ASSAY_COLUMNS[4:])
    return [(*named, told), *((plate, well, *[""] * (len(named) - 1)) for plate, well in places)]


def _plate_map(wells: pd.DataFrame, designs: Mapping[str, Mapping[str, str]]) -> list[Sequence[str]]:
    told = [[column.get(one, "") for column in designs.values()] for one in wells["design_id"]]
    rows = zip(_places(wells), wells["sample"], told, wells["control"].map(_cell), strict=True)
    return [
        ["plate", "well", "sample", *designs, "control"],
        *([*place, name, *cells, held] for place, name, cells, held in rows),
    ]


def _named(batch: Batch) -> pd.DataFrame:
    """The designs, and their names behind them."""
    return batch.designs if batch.names is None else batch.designs.join(batch.names)


def _grid(batch: Batch, wells: pd.DataFrame, designs: Mapping[str, Mapping[str, str]]) -> list[Sequence[str]]:
    only = list(designs.values())[-1] if len(batch.designs.columns) == 1 else {}  # the name where there is one
    short = all(len(only.get(one, "")) <= _SAMPLE_LENGTH for one in wells["design_id"])
    n_rows, n_columns = batch.plate_shape
    lines: list[Sequence[str]] = []
    for plate, there in wells.groupby("plate", sort=False):
        held = there["control"].map(_cell)
        shown = held.where(held != "", there["design_id"].map(only).fillna(there["sample"]) if short else there["sample"])
        cells = dict(zip(zip(there["row"], there["column"]), shown.tolist()))
        columns = range(1, n_columns + 1)
        if lines:
            lines.append([])
        lines.append([str(plate), *map(str, columns)])
        lines += [[row_name(r), *(cells.get((r, c), "") for c in columns)] for r in range(1, n_rows + 1)]
    return lines


def sample_names(campaign: str, number: int, wells: pd.DataFrame) -> list[str]:
    """Name each well's tube for order sheets: at most 30 of [A-Za-z0-9_-], a letter first, such as TFBIND8_R01_A01.

    Args:
        wells: all of round `number`, by plate and row after row.
    """
    plates = list(dict.fromkeys(wells["plate"]))
    of = {plate: f"_P{i}" if len(plates) > 1 else "" for i, plate in enumerate(plates, start=1)}
    ends = [f"_R{number:02d}{of[plate]}_{well}" for plate, well in _places(wells)]
    name = short_name(campaign, _SAMPLE_LENGTH - max(map(len, ends))).upper()
    first: dict[str, str] = {}  # replicates are filled from one tube, which is named by the design's first well
    designs = wells["design_id"].tolist()
    return [name + (end if pd.isna(one) else first.setdefault(one, end)) for one, end in zip(designs, ends, strict=True)]


def _summary(batch: Batch) -> dict[str, Any]:
    credited = Counter(batch.picks["arm"])
    n_arms = Counter(one for one, _ in set(zip(batch.picks["design_id"].tolist(), batch.picks["arm"].tolist())))
    return {
        "schema_version": 1,
        "campaign": batch.campaign,
        "round": batch.round,
        "plates": list(dict.fromkeys(batch.wells["plate"])),
        "n_wells": len(batch.wells),
        "designs": len(n_arms),
        "designs_by_arm": {arm: credited[arm] for arm in batch.arms},
        "designs_shared": sum(n > 1 for n in n_arms.values()),
        "controls": dict(Counter(batch.wells["control"].dropna())),
    }


def _in_order(wells: pd.DataFrame) -> pd.DataFrame:
    """Sort wells by plate, in the layout's order so that P10 stands after P9, then row by row."""
    plates = {plate: i for i, plate in enumerate(dict.fromkeys(wells["plate"]))}
    return wells.iloc[np.lexsort((wells["column"], wells["row"], wells["plate"].map(plates)))].reset_index(drop=True)


def _places(wells: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(wells["plate"].tolist(), wells["well"].tolist(), strict=True))


def _cells(table: pd.DataFrame, digits: int = 10) -> dict[str, dict[str, str]]:
    """Write a table for people: column -> row's name -> text; ten digits are those of a design's own canonical text."""
    return {str(name): {i: _cell(v, digits) for i, v in zip(table.index, column.tolist())} for name, column in table.items()}


def _cell(value: Any, digits: int = 10) -> str:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{float(value) + 0.0:.{digits}g}"
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    """Turn NumPy numbers into Python's and infinities into text, which JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
