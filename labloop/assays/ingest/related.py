"""A file of an old assay as a related task: what its rows say of designs of this space; what is none of them is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labloop.assays.ingest.choose import stack
from labloop.assays.ingest.columns import check_sequences, known_names, value_column
from labloop.assays.ingest.keys import numeric_columns, pointed
from labloop.assays.ingest.parse import find_marks, readings, statuses
from labloop.assays.ingest.read import open_file
from labloop.config.campaign import CampaignConfig
from labloop.config.history import Related
from labloop.errors import DesignError, Fault, IngestError
from labloop.plates.statuses import GONE
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Mixture, Real
from labloop.types import Array, FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class RelatedRows:
    """What a file has of this space."""

    designs: pd.DataFrame
    """One row a measurement: the space's columns, as text or numbers."""
    values: FloatArray
    """As the file has them."""
    skipped: tuple[str, ...]
    """What was left out and why, one sentence a reason."""


def related_rows(content: bytes, name: str, told: Related, config: CampaignConfig) -> RelatedRows:
    """Read a file of an old assay.

    Raises:
        IngestError: it cannot be read, a column is not there, or a value is no number; with its rows.
    """
    assay = config.objective.assay if not told.of or config.goal is None else config.goal.properties[told.of].assay
    opened = open_file(content, name, (*known_names(config, config.objective.assay), told.value, *told.columns.values()))
    if any(part.grid is not None for part in opened.parts):
        raise IngestError(f"{name}: is a plate drawn as a grid: history needs a table, one row a measurement with its design")
    table = stack([part.table for part in opened.parts])
    header = list(table.columns)
    check_sequences(opened.reader, header, config, file=name)
    found = {one: _column(told.columns.get(one, one), header, name, f"history: columns: {{{one}: …}}")
             for one in config.space.columns}  # fmt: skip
    value = _column(told.value, header, name, "history: value") if told.value else _values(header, config, assay, told, name)
    marks = find_marks(table, [*(found[one] for one in numeric_columns(config.space)), value])
    read = readings(table.columns[value].texts, marks)
    column = table.columns[value]
    bad = column.spread(np.array([bool(rule) for rule in read.rule]) & ~read.nothing)
    faults = [*table.faults, *table.mark(bad, value, "is no number: mend it, or leave the cell empty")]
    if faults:
        raise IngestError(f"{name}: cannot be read as history", sorted(faults, key=lambda one: one.row))
    values = column.spread(np.where(read.nothing, np.nan, read.number)).astype(float)
    blank = ~np.isfinite(values)
    failed = np.zeros(len(table), dtype=bool)
    if "status" in header:
        status = table.columns["status"]
        failed = status.spread(np.isin(statuses(status.texts)[0].astype(str), GONE))
    cells = {one: table.columns[place].spread(pointed(one, table.columns[place], config.space, marks))
             for one, place in found.items()}  # fmt: skip
    frame = on_steps(pd.DataFrame(cells, columns=list(config.space.columns), dtype=object), config.space)
    outside, why = not_ours(frame, config.space)
    keep = ~(blank | failed | outside)
    skipped = [f"{n} rows {what}" for n, what in ((int((blank | failed).sum()), "without a value"),) if n]
    return RelatedRows(
        designs=frame[keep].reset_index(drop=True), values=values[keep], skipped=(*skipped, *why)
    )  # fmt: skip


def on_steps(designs: pd.DataFrame, space: DesignSpace) -> pd.DataFrame:
    """Move amounts (n rows) to the nearest steps of a space: another campaign may have had finer ones."""
    moved = designs.copy()
    for one in space.parameters:
        if not isinstance(one, Real | Mixture):
            continue
        names = list(one.columns)
        values = designs[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)
        if isinstance(one, Real):
            ours = ((values >= one.low) & (values <= one.high))[:, 0] & (one.step is not None)
            moved.loc[ours, names] = one.decode(one.encode(values[ours, 0]))[:, None]
        else:
            ours = (values >= 0).all(1) & (np.abs(values.sum(1) - 1) <= 1e-3)
            moved.loc[ours, names] = one.decode(values[ours])
    return moved


def not_ours(designs: pd.DataFrame, space: DesignSpace, *, what: str = "rows") -> tuple[Array, tuple[str, ...]]:
    """Say which rows can be no designs of a space, (n,) bool, and why: the commonest reasons; `what` they are called."""
    bad, why = np.zeros(len(designs), dtype=bool), Counter[str]()
    faults: Sequence[Fault] = ()
    if len(designs):
        try:
            space.encode(designs, strict=False)
        except DesignError as error:
            faults = error.faults
    for fault in faults:
        if not bad[fault.row]:
            why[f"{fault.column} {fault.cell!r} {fault.rule}"] += 1
        bad[fault.row] = True
    if not bad.any():
        return bad, ()
    shown = "; ".join(f"{reason} ({n})" for reason, n in why.most_common(3)) + ("; …" if len(why) > 3 else "")
    return bad, (f"{int(bad.sum())} {what} are of no design of this space: {shown}",)


def _column(name: str, header: Collection[str], file: str, key: str) -> str:
    alike = [one for one in header if one.casefold() == name.casefold()]
    if name in header or alike:
        return name if name in header else alike[0]
    raise IngestError(f"{file}: has no column {name!r} (its columns are: {', '.join(header)}): name it under {key}")


def _values(header: Collection[str], config: CampaignConfig, assay: str, told: Related, file: str) -> str:
    own = value_column(header, config, assay, file=file)
    for name in (own, told.of, "value", assay):
        if name and name in header:
            return name
    raise IngestError(
        f"{file}: does not say which column has the values (its columns are: {', '.join(header)}): name it under history: value"
    )
