"""What each row measured: value, bound, unit and status together, since each can change what the others mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labloop.assays.ingest.cells import Table
from labloop.assays.ingest.parse import Marks, factors, readings, statuses, unit_key
from labloop.config.campaign import CampaignConfig
from labloop.errors import Fault, IngestError
from labloop.plates.statuses import GONE
from labloop.types import Array, FloatArray


@dataclass(frozen=True, eq=False)
class Values:
    """One entry a row, (n,)."""

    value: FloatArray
    """In `unit`; NaN where the well gave no number."""
    qualifier: Array
    """`<`: the truth is the value or lower, `>`: the value or higher, `=`: the value."""
    status: Array
    said: Array
    """The reader's own word for a well that it did not read, else NaN."""
    by_note: Array
    """Whether a note alone says why there is nothing."""
    unit: str
    """The objective's unit, or the file's where the campaign names none."""
    faults: tuple[Fault, ...]


def find_values(table: Table, found: Mapping[str, str], config: CampaignConfig, assay: str, marks: Marks) -> Values:
    """Turn value, unit and status columns into numbers in one unit, bounds and statuses.

    Raises:
        IngestError: the file is a template that nobody has filled in.
    """
    place, column = found["value"], table.columns[found["value"]]
    noted = table.columns[found["note"]].given if "note" in found else np.zeros(len(table), dtype=bool)
    stated, faults = _stated(table, found)
    if not column.given.any() and not noted.any() and not (stated != "").any():
        raise IngestError(f"{table.name}: this is the empty template: fill in column {place!r}, then ingest it again")
    read = readings(column.texts, marks)
    # `n.d.` can be not determined or not detected; with a status beside it, it is clear.
    explained = column.spread(read.nothing) & (stated != "") & (stated != "ok")
    rule = np.where(explained, "", column.spread(read.rule))
    faults += table.mark(rule != "", place, "{}", rule)
    missing = column.spread(read.unread) | explained

    qualifier, limit, more = _bounds(table, found, column.spread(read.qualifier), column.spread(read.limit), stated, missing)
    faults += more
    gone = _among(stated, GONE)
    silent = missing & (limit == "") & ~gone
    # A reader's word for a well it skipped, or a note, says why there is nothing: not the design's fault.
    skipped = silent & (stated == "") & (column.given | noted)
    faults += table.mark(
        silent & ~skipped, place, "there is no value: fill it in, delete the row, or say why in a column status or note"
    )
    unsaid = (stated == "excluded") & ~noted
    ask = "is excluded without a reason: say why in column note, for whoever reads the data later"
    faults += table.mark(unsaid, found.get("status", place), ask)
    status = np.where(skipped, "failed_technical", np.where(stated == "", "ok", stated))
    status = np.where((status == "ok") & (qualifier == "<"), "censored_low", status)
    status = np.where((status == "ok") & (qualifier == ">"), "censored_high", status)

    factor, unit, more = _factor(table, found, config, assay, percent=column.spread(read.percent), used=~missing & (rule == ""))
    faults += more
    value = column.spread(read.number) * factor
    value, more = _limited(table, place, config, assay, unit, value, np.where(gone, "", limit), counts=~gone)
    said = np.where(skipped & column.given, column.cells, np.nan)
    return Values(value, qualifier, status, said, skipped & ~column.given, unit, (*faults, *more))


def _stated(table: Table, found: Mapping[str, str]) -> tuple[Array, list[Fault]]:
    """The statuses that the file gives, '' where it gives none."""
    if "status" not in found:
        return np.full(len(table), "", dtype=object), []
    column = table.columns[found["status"]]
    texts, rules = statuses(column.texts)
    return column.spread(texts), table.mark(column.spread(rules != ""), found["status"], "{}", column.spread(rules))


def _among(statuses: Array, some: tuple[str, ...]) -> Array:
    return pd.Index(statuses).isin(some)


def _bounds(
    table: Table, found: Mapping[str, str], qualifier: Array, limit: Array, stated: Array, missing: Array
) -> tuple[Array, Array, list[Fault]]:
    """Let a censored status make a bound of a plain or empty value; one that says the opposite of the cell is a fault."""
    faults: list[Fault] = []
    for status, side, sign in (("censored_low", "low", "<"), ("censored_high", "high", ">")):
        mine = stated == status
        if not mine.any():
            continue
        opposed = mine & (qualifier != "=") & (qualifier != sign)
        faults += table.mark(opposed, found.get("status", found["value"]), "contradicts the value, a bound the other way")
        limit = np.where(mine & missing & (limit == ""), side, limit)
        qualifier = np.where(mine & (qualifier == "="), sign, qualifier)
    return qualifier, limit, faults


def _factor(
    table: Table, found: Mapping[str, str], config: CampaignConfig, assay: str, *, percent: Array, used: Array
) -> tuple[FloatArray, str, list[Fault]]:
    """Give each row's factor to the unit that the values end up in, and that unit."""
    spec, where = config.assays[assay], f"assays.{assay}"
    ones = [unit for unit, factor in spec.units.items() if factor == 1]
    target = config.property_of(assay).unit or ("" if assay == config.objective.assay else next(iter(ones), ""))
    place = found.get("unit", found["value"])
    faults: list[Fault] = []
    cells = table.columns[found["unit"]].cells if "unit" in found else np.full(len(table), "", dtype=object)
    faults += table.mark(
        percent & (cells != "") & (cells != "%"), found["value"], "has a percent sign, but its unit is {}", cells
    )
    codes, texts = pd.factorize(np.where(percent & (cells == ""), "%", cells).astype(object))
    if not target and not spec.units:
        # The campaign names no unit, so any is fine, as long as it is the same in every row.
        keys = np.array([unit_key(text) for text in texts], dtype=object)[codes]
        first = keys[used][0] if used.any() else ""
        rule = f"is not the first row's unit ({first or 'none'}): convert it, or give both a factor under {where}.units"
        faults += table.mark(used & (keys != first), place, rule)
        return np.ones(len(table)), str(first), faults
    factor, rules = factors(texts, {target: 1.0, **spec.units, "": 1.0}, f"{where}.units")
    faults += table.mark(used & (rules != "")[codes], place, "{}", rules[codes])
    return factor[codes], target, faults


def _limited(
    table: Table, place: str, config: CampaignConfig, assay: str, unit: str, value: FloatArray, limit: Array, *, counts: Array
) -> tuple[FloatArray, list[Fault]]:
    """Put the assay's limits where a bound names them, and check that what counts lies between them."""
    spec, where = config.assays[assay], f"assays.{assay}"
    faults: list[Fault] = []
    for side, end in (("low", spec.low), ("high", spec.high)):
        if end is None:
            rule = f"names a limit that the campaign does not give: set {where}.{side}, or write the number"
            faults += table.mark(limit == side, place, rule)
            continue
        value = np.where(limit == side, end, value)
        beyond = counts & (value < end if side == "low" else value > end)
        text = (
            f"is {'below' if side == 'low' else 'above'} {where}.{side} ({f'{end:g} {unit}'.strip()}): mend the value or its unit"
        )
        faults += table.mark(beyond, place, text)
    transform = config.property_of(assay).transform
    if transform != "identity":
        whose = "objective" if assay == config.objective.assay else f"property {assay}"
        rule = f"must be above zero, since {whose}.transform is {transform}: give a bound such as <0.1, or a status"
        faults += table.mark(counts & (value <= 0), place, rule)
    return value, faults
