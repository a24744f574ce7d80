"""What the judge says of designs that somebody asks about: value, interval, doubt, whether they are allowed, what is nearest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.ingest.designs import read_designs
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, DesignError, LabloopError
from labloop.ledger.memory import Memory
from labloop.proposing.dataset import Dataset
from labloop.proposing.panel import Panel
from labloop.rounds import insights, judging, state
from labloop.rounds.judging import Bench
from labloop.rounds.tidy import write_tidy
from labloop.runtime.files import write_bytes
from labloop.space.objective import Objective
from labloop.types import Array, FloatArray

COVERAGE = 0.9
Z = 1.6448536269514722
"""Standard deviations on either side of the mean that hold so much of a normal distribution."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictions:
    """A list of designs as the judge sees it."""

    campaign: str
    file: str
    table: pd.DataFrame
    """One row a design, in the file's order.

    Columns: `rank` (1 the best of those that are allowed; none of the others), `row` of the file, the file's own other columns
    (one that has the name of one of these is `NAME_in_file`), `design_id`, the space's columns and what mutants are called;
    `predicted` with `low` and `high`, between which a reading lies with 90 % probability, all in `unit`; `belief_std`, the doubt
    about the design's own value, in `unit` (in logarithms under a logarithm); `allowed`, and the rule that it is `refused_by`;
    `known` (`measured`, `in the lab`, `failed` or `new`), and `measured`, the mean of its readings; `nearest_id`,
    `nearest_distance` and `nearest_value` of the nearest other design that is measured. Of several properties each has its name
    for `predicted`, `NAME_low` and so on, and `chance` is that of keeping every limit; NaN of those that nobody measured.
    """
    columns: tuple[str, ...]
    """The design's."""
    units: Mapping[str, str]
    """By predicted column."""
    judge: str
    n_measured: int
    fingerprint: str
    """Of the data that the judge was fitted to."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        return {
            "campaign": self.campaign, "file": self.file, "judge": self.judge, "n_measured": self.n_measured,
            "fingerprint": self.fingerprint, "coverage": COVERAGE, "units": dict(self.units), "notes": list(self.notes),
            "designs": [{str(key): _plain(value) for key, value in row.items()} for row in rows],
        }  # fmt: skip

    def write(self, path: Path | str) -> Path:
        """Write the table as `.csv`, `.xlsx`, `.parquet`, or all of it as `.json`, whole or not at all.

        Raises:
            LabloopError: the name ends otherwise, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".json":
            return write_bytes(path, (json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())
        if path.suffix.lower() not in (".csv", ".xlsx", ".parquet"):
            raise LabloopError(f"{path}: name the file .csv, .xlsx, .parquet or .json")
        return write_tidy(self.table, path, sheet="predictions")


def predict(memory: Memory, designs: Path | str | pd.DataFrame, *, config: RoundConfig | Path | str | None = None) -> Predictions:
    """Tell what the judge of the open or the next round thinks of designs; nothing in the ledger changes.

    Args:
        designs: a CSV, Excel or FASTA file with the space's columns in any order, or `design_id` of known designs; or a table.
        config: a round with the judge that is meant; the latest round's, else `auto`, where left out.

    Raises:
        DesignError: rows that cannot be designs of the space; with each row.
        CampaignError: too few designs are measured.
        IngestError: the file cannot be read.
    """
    space = memory.config.space
    if isinstance(designs, pd.DataFrame):
        name, X = "", space.encode(designs, strict=False)
        lines, others = np.arange(1, len(X) + 1), _writable(designs.drop(columns=list(space.columns)).reset_index(drop=True))
    else:
        read, table = read_designs(designs, memory.config, known=state.designs(memory))
        X, name, lines, others = space.encode(table, strict=False), read.name, read.lines, read.others
    if not len(X):
        raise DesignError("there is no design to predict: give one a row")
    told = judging.bench(memory, config)
    ids = space.ids(X)
    said = _said(memory, told, X, ids)
    spelled = space.decode_as_written(X)
    ours = pd.concat(
        [pd.DataFrame({"design_id": ids}), spelled, space.names(spelled), _values(memory, told.data, said),
         _allowed(memory, X), _neighbours(told.data, X, ids, memory.config.objective)],
        axis=1,
    )  # fmt: skip
    theirs, renamed = _of_file(lines, others, ours)
    table = pd.concat([theirs, ours], axis=1)
    worth = np.where(table["allowed"], said["worth"], np.nan)
    rank = pd.Series(-worth).rank(method="min").astype("Int64")
    table.insert(0, "rank", rank)
    return Predictions(
        campaign=memory.name, file=name, table=table, columns=space.columns, units=_units(memory),
        judge=told.name, n_measured=len(told.data.lead), fingerprint=told.data.fingerprint,
        notes=(*_notes(memory, told, table), *(f"The file's column {one} is {new} here" for one, new in renamed.items())),
    )  # fmt: skip


_SAID = ("mean", "std", "belief", "worth", "chance")


def _said(memory: Memory, told: Bench, X: FloatArray, ids: list[str]) -> dict[str, FloatArray]:
    """Ask the judge, or what was kept of an earlier question: mean, std, belief's std (n, k), worth and chance (n,)."""
    name = f"{told.data.fingerprint}/predictions-{told.key}.json"
    kept = judging.kept(memory, name) or {}
    known = {one: found for one, found in kept.items() if isinstance(found, dict) and found.keys() >= set(_SAID)}
    first: dict[str, int] = {}
    for i, one in enumerate(ids):
        first.setdefault(one, i)
    if new := [one for one in first if one not in known]:
        found = _asked(told, memory, X[[first[one] for one in new]])
        known = {**known, **{one: {key: values[k].tolist() for key, values in found.items()} for k, one in enumerate(new)}}
        judging.keep(memory, name, known)
    said = {key: np.array([known[one][key] for one in ids], dtype=float) for key in _SAID}
    if (several := told.data.properties) is not None:
        said |= {key: np.where(several.judged, said[key], np.nan) for key in ("mean", "std", "belief")}
        said["chance"] = said["chance"] if several.limits_judged else np.full(len(ids), np.nan)
    return said


def _asked(told: Bench, memory: Memory, X: FloatArray) -> dict[str, FloatArray]:
    judge = judging.fitted(memory, told)
    mean, std = judge(X)
    value, doubt = judge.belief(X)
    if not isinstance(judge, Panel):
        found = {"mean": mean[:, None], "std": std[:, None], "belief": doubt[:, None], "worth": value, "chance": np.ones(len(X))}
    else:
        values, doubts = judge.beliefs(X)
        readings = [(mean, std), *(one(X) for one in judge.others)]
        judged = judge.properties.judged  # what nobody measured has no number
        found = {
            "mean": np.where(judged, np.column_stack([one for one, _ in readings]), 0.0),
            "std": np.where(judged, np.column_stack([one for _, one in readings]), 0.0),
            "belief": doubts, "worth": judge.worth(X, 0.0), "chance": judge.chances(X, values, doubts),
        }  # fmt: skip
    if not all(np.isfinite(one).all() for one in found.values()):
        raise CampaignError(f"the judge {told.name!r} has no number for some designs: name another with a round's file")
    return found


def _writable(others: pd.DataFrame) -> pd.DataFrame:
    """Give a table's columns names of their own and cells that any file can hold: text for all but numbers, texts and dates."""
    made: dict[str, pd.Series[Any]] = {}
    for told, (_, cells) in zip(map(str, others.columns), others.items(), strict=True):
        name, kinds = told, {type(one) for one in cells.dropna()}
        while name in made:
            name = f"{name}_in_file"
        alike = any(all(issubclass(one, kind) for one in kinds) for kind in (str, (int, float, np.number)))
        mixed = cells.dtype == object and not alike
        if mixed or pd.api.types.is_complex_dtype(cells) or getattr(cells.dtype, "tz", None) is not None:
            cells = cells.astype(object).where(cells.isna(), cells.map(str).astype(object))
        made[name] = cells
    return pd.DataFrame(made, index=others.index)


def _of_file(lines: Array, others: pd.DataFrame, ours: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """What the file says of its rows besides the designs; returns that, and how columns are called whose name one of ours has.

    A column that says the same as ours of that name is left out.
    """
    taken, renamed = {"rank", "row", "chance", *ours.columns}, dict[str, str]()
    same = [
        one
        for one in others.columns
        if one in ours.columns and others[one].astype(str).tolist() == ours[one].astype(str).tolist()
    ]
    others = others.drop(columns=same)
    for one in others.columns:
        name = one
        while name in taken or (name != one and name in others.columns):
            name = renamed[one] = f"{name}_in_file"
    return pd.concat([pd.DataFrame({"row": lines}), others.rename(columns=renamed)], axis=1), renamed


def _properties(memory: Memory) -> dict[str, Objective]:
    """Each predicted property by the name of its columns; the only one of a plain campaign is `predicted`."""
    goal = memory.config.goal
    return {"predicted": memory.config.objective} if goal is None else dict(goal.properties)


def _units(memory: Memory) -> dict[str, str]:
    return {name: one.unit for name, one in _properties(memory).items()}


def _values(memory: Memory, data: Dataset, said: Mapping[str, FloatArray]) -> pd.DataFrame:
    """Predictions in the lab's units."""
    columns: dict[str, Any] = {}
    several = data.properties is not None
    for j, (name, objective) in enumerate(_properties(memory).items()):
        mean, std = said["mean"][:, j], said["std"][:, j]
        ends = np.sort([objective.to_value(mean - Z * std), objective.to_value(mean + Z * std)], axis=0)
        lead = f"{name}_" if several else ""
        columns |= {name: objective.to_value(mean), f"{lead}low": ends[0], f"{lead}high": ends[1]}
        columns |= {f"{lead}unit": objective.unit, f"{lead}belief_std": said["belief"][:, j]}
    if several:
        columns["chance"] = said["chance"]
    return pd.DataFrame(columns)


def _allowed(memory: Memory, X: FloatArray) -> pd.DataFrame:
    """Whether the space allows each design, and which rules refuse it."""
    why: list[list[str]] = [[] for _ in range(len(X))]
    for rule, rows in memory.config.space.broken(X).items():
        for i in rows.tolist():
            why[i].append(f"not a design that {rule}")
    return pd.DataFrame({"allowed": [not one for one in why], "refused_by": ["; ".join(one) for one in why]})


def _neighbours(data: Dataset, X: FloatArray, ids: list[str], objective: Objective) -> pd.DataFrame:
    """What is known of each design, and its nearest other measured one."""
    lead = data.lead
    place = {one: i for i, one in enumerate(lead.ids)}
    failed = set() if data.failed is None else set(data.space.ids(data.failed))
    waits = set(data.space.ids(data.pending)) - failed
    known = [
        "measured" if one in place else "failed" if one in failed else "in the lab" if one in waits else "new" for one in ids
    ]
    own = np.array([place.get(one, -1) for one in ids])
    values = objective.to_value(lead.y)
    nearest, distance = other_nearest(lead, X, own)
    return pd.DataFrame({
        "known": known, "measured": np.where(own >= 0, values[own], np.nan),
        "nearest_id": [lead.ids[i] for i in nearest.tolist()], "nearest_distance": distance, "nearest_value": values[nearest],
    })  # fmt: skip


def other_nearest(data: Dataset, X: FloatArray, own: Array) -> tuple[Array, FloatArray]:
    """Find the nearest measured design of each row of X (n, d) that is not the row itself, whose place in the data is `own`."""
    index, near = np.zeros(len(X), dtype=np.int64), np.zeros(len(X))
    step = max(1, 8_000_000 // len(data))
    for start in range(0, len(X), step):
        rows = np.arange(start, min(start + step, len(X)))
        D = data.space.distance(X[rows], data.X)
        mine = np.flatnonzero(own[rows] >= 0)
        if len(data) > 1:
            D[mine, own[rows][mine]] = np.inf
        index[rows], near[rows] = D.argmin(1), D.min(1)
    return index, near


def _notes(memory: Memory, told: Bench, table: pd.DataFrame) -> list[str]:
    notes = []
    if kept := insights.kept_of(memory, told):
        notes.append(kept.trust)
    else:
        notes.append(f"How far this judge can be trusted on designs that it has not seen: labloop why {memory.name}")
    several = told.data.properties
    if several is not None and not several.judged.all():
        left = [name for name, known in zip(several.goal.names, several.judged.tolist(), strict=True) if not known]
        more = "" if several.limits_judged else ", nor of the chance of keeping every limit"
        notes.append(f"Nothing can be said of {' and '.join(left)}{more}, before 2 designs have a value of it")
    if n := int((~table["allowed"]).sum()):
        rules = table.loc[~table["allowed"], "refused_by"].astype(str).unique().tolist()
        said = "; ".join(rules[:3]) + ("; … (column refused_by)" if len(rules) > 3 else "")
        notes.append(f"{n} of {len(table)} designs {'is' if n == 1 else 'are'} not allowed by the space: {said}")
    return notes


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value if isinstance(value, str | int | float) else str(value)
