"""One assay file, from bytes to checked measurements: all of it, or an error that lists every fault."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.ingest.cells import Table, count
from labloop.assays.ingest.choose import add_plates, join, rename_plates, stack, take
from labloop.assays.ingest.columns import check_sequences, find_columns, lacks_plate, tells_designs
from labloop.assays.ingest.excel_dates import explain_dates
from labloop.assays.ingest.keys import Keys, numeric_columns, resolve
from labloop.assays.ingest.options import ReadOptions
from labloop.assays.ingest.parse import Marks, find_marks, instants
from labloop.assays.ingest.read import Opened
from labloop.assays.ingest.tubes import ours
from labloop.assays.ingest.values import Values, find_values
from labloop.config.campaign import CampaignConfig
from labloop.errors import Fault, IngestError
from labloop.plates.batch import tubes
from labloop.plates.statuses import FORM_HELP
from labloop.space.design_space import DesignSpace
from labloop.types import Array


@dataclass(frozen=True, eq=False, kw_only=True)
class AssayFile:
    """A file that was understood in every cell; nothing of it is stored yet."""

    name: str
    """The file's name without its folder."""
    sha256: str
    """Of the file's bytes, 64 hex digits: the same file is recognised by it."""
    assay: str
    reader: str
    """The reader's name."""
    dialect: str
    """What was recognised, one line for people."""
    columns: Mapping[str, str]
    """labloop's columns to the file's."""
    measurements: pd.DataFrame
    """One row a measured well, in the file's order.

    Columns: `row` (line of the file), `design_id` (NaN for a control), `control` (NaN for a design), `assay`, `value` (float in
    `unit`, NaN where the well gave none), `qualifier` (`=`, `<`, `>`), `unit`, `status`, `plate`, `well`, `round`,
    `measured_at` (ISO 8601) and `note`; NaN where the file or the layout says nothing.
    """
    designs: pd.DataFrame
    """The designs measured, once each: `design_id`, the space's columns, and `in_space`: whether it keeps the constraints."""
    new: tuple[str, ...]
    """Ids among `designs` that labloop neither proposed nor saw before."""


def understood(
    table: Table, found: Mapping[str, str], config: CampaignConfig, assay: str, *, wells: pd.DataFrame, designs: pd.DataFrame,
    reader: str, sha256: str, others: Collection[str] = (),
) -> AssayFile:  # fmt: skip
    """Check every cell of a settled table, see `read_assay`.

    Args:
        others: columns that are read as other properties.

    Raises:
        IngestError: with every fault at once.
    """
    table = without_blanks(table, found, wells)
    marks = marks_of(table, found, config, assay)
    values = find_values(table, found, config, assay, marks)
    keys = resolve(table, found, config, marks, wells=wells, designs=designs)
    measured_at, note, more = _remarks(table, found, config, assay)
    faults = sorted([*table.faults, *values.faults, *keys.faults, *more], key=lambda fault: fault.row)
    faults = explain_dates(faults, table, found, config)
    if faults:
        rows = len({fault.row for fault in faults})
        raise IngestError(
            f"{table.name}: {count(len(faults), 'fault')} in {rows} of {count(len(table), 'row')}; nothing was taken", faults
        )
    measurements = pd.DataFrame(
        {
            "row": table.lines,
            "design_id": _texts(keys.design_id),
            "control": _texts(keys.control),
            "assay": _texts(np.full(len(table), assay, dtype=object)),
            "value": values.value,
            "qualifier": _texts(values.qualifier),
            "unit": _texts(np.full(len(table), values.unit, dtype=object)),
            "status": _texts(values.status),
            "plate": _texts(keys.plate),
            "well": _texts(keys.well),
            "round": keys.round,
            "measured_at": _texts(measured_at),
            "note": _texts(np.where(pd.isna(note), values.said, note)),
        },
        copy=False,
    )
    measured, new = _designs(keys, config.space, designs)
    return AssayFile(
        name=table.name,
        sha256=sha256,
        assay=assay,
        reader=reader,
        dialect="; ".join([describe(table, found, marks, others), *_by_note(values)]),
        columns=found,
        measurements=measurements,
        designs=measured,
        new=new,
    )


def _texts(cells: Array) -> pd.Series[Any]:
    """Keep texts (n,) as Python's own: those that repeat are one object, where pandas' column of texts would hold each anew."""
    return pd.Series(cells, dtype=object)


_SAYS = ("value", "status", "measured_at", "note")
"""Columns in which a person says that a well was measured, or why not."""


def without_blanks(table: Table, found: Mapping[str, str], wells: pd.DataFrame) -> Table:
    """Leave out the rows of a form that nobody has filled in: wells that labloop laid out and that go on waiting.

    A file in which no row is filled in stays as it is, and so does a blank row that names its design or a plate of the lab's own:
    there a value was lost.
    """
    if not {"plate", "well"} <= found.keys():
        return table
    said = np.any([table.columns[found[name]].given for name in _SAYS if name in found], axis=0)
    plate, well = (table.columns[found[name]] for name in ("plate", "well"))
    laid = plate.spread(pd.Index(plate.texts).isin(wells["plate"].astype(str))) & well.given
    blank = np.flatnonzero(~said & laid)
    if said.all() or not said.any() or not len(blank):
        return table
    places = [f"{one} of {plate_of}" for one, plate_of in zip(well.cells[blank[:6]], plate.cells[blank[:6]])]
    more = ", …" if len(blank) > len(places) else ""
    remark = f"{count(len(blank), 'blank row')} not measured yet, which go on waiting: {', '.join(places)}{more}"
    return replace(take(table, np.flatnonzero(said | ~laid)), remarks=(*table.remarks, remark))


def named_assay(config: CampaignConfig, assay: str | None, file: str) -> str:
    """Give the assay that a file is of: the one asked for, else the objective's.

    Raises:
        IngestError: the campaign has no such assay.
    """
    assay = config.objective.assay if assay is None else assay
    if assay not in config.assays:
        raise IngestError(f"{file}: assay {assay!r} is not in campaign {config.name}; it has {', '.join(config.assays)}")
    return assay


def settle(
    opened: Opened,
    config: CampaignConfig,
    assay: str,
    *,
    wells: pd.DataFrame,
    options: ReadOptions,
    file: str,
    value: str | None = None,
) -> tuple[Table, dict[str, str]]:
    """Make one table of what the file holds, and find its columns.

    Args:
        value: the column of the values, where there are several, see `find_columns`.

    Raises:
        IngestError: a read, a plate or a sheet has to be chosen, or a column is missing.
    """
    asked, options = (
        options.read,
        replace(options, read=options.read or config.assays[assay].read, place=f"assays.{assay}.read in the campaign"),
    )
    grids = [part for part in opened.parts if part.grid is not None]
    if grids and len(grids) < len(opened.parts):
        drawn, long = (next(part.where for part in opened.parts if (part.grid is None) is kind) for kind in (False, True))
        raise IngestError(f"{file}: holds a plate on {drawn} and a table on {long}: send one of them")
    if grids:
        return join(grids, options, wells, config.plate.shape, file), {name: name for name in ("value", "plate", "well")}
    if asked and not any(part.read for part in opened.parts):
        raise IngestError(f"{file}: is a table without named reads, so --read {asked} means nothing: leave it out")
    tables = [part.table for part in opened.parts]
    lacking = [i for i, table in enumerate(tables) if lacks_plate(table.columns, config, assay, file=file)]
    if not lacking and not all("=" in plate for plate in options.plates):
        raise IngestError(
            f"{file}: its rows name their plates or designs themselves: leave --plate out, or say which of the file's plates is "
            "labloop's with --plate 'NAME IN THE FILE=NAME'"
        )
    if lacking and (options.plates or any(opened.parts[i].plate for i in lacking) or options.waiting()):
        for i, table in zip(lacking, add_plates([opened.parts[i] for i in lacking], options, wells, file)):
            tables[i] = table
        if options.plates and not any(map(len, tables)):
            raise IngestError(f"{file}: --plate leaves out every table: name the plate of one")
    table = stack(tables)
    check_sequences(opened.reader, table.columns, config, file=file)
    found = find_columns(table.columns, config, assay, file=file, value=value)
    if options.plates and not lacking:
        if "plate" not in found:
            raise IngestError(f"{file}: its rows name their designs and no plates: leave --plate out")
        table = rename_plates(table, found["plate"], options, wells)
    if (
        "sample" in found
        and tells_designs(found, config.space)
        and not ours(table.columns[found["sample"]], tubes(config.name, wells)).any()
    ):
        del found["sample"]  # many labs have names of their own in a column so called
    return table, found


def marks_of(table: Table, found: Mapping[str, str], config: CampaignConfig, assay: str) -> Marks:
    """Find out what point and comma mean: from the numbers, the rest of the file, or the campaign."""
    names = [name for name in ("value", *numeric_columns(config.space)) if name in found]
    marks = find_marks(table, [found[name] for name in names])
    declared = config.assays[assay].decimal
    return replace(marks, decimal=declared) if declared else replace(marks, decimal=marks.decimal or table.decimal)


def describe(table: Table, found: Mapping[str, str], marks: Marks, others: Collection[str] = ()) -> str:
    """Say in one line what was recognised, so that a person notices what was not.

    Args:
        others: columns that are read as other properties.
    """
    read = ", ".join(name if name == place else f"{name} from {place!r}" for name, place in found.items())
    ignored = [name for name in table.columns if name not in (*found.values(), *others) and not name.startswith(FORM_HELP)]
    parts = [
        f"{table.form}, {marks.describe}",
        f"{count(len(table), 'row')}, columns {read}",
        *([f"ignored {', '.join(ignored)}"] if ignored else []),
        *table.remarks,
    ]
    return "; ".join(parts)


def _by_note(values: Values) -> list[str]:
    """Say what became of rows of which only a note says why they have no value: what it means for the design is not read."""
    n = int(values.by_note.sum())
    if not n:
        return []
    return [
        f"{count(n, 'row')} with a note in place of a value, taken as failed_technical: such designs may be tried again (write "
        "failed_design into column status where the design is at fault)"
    ]


def _remarks(table: Table, found: Mapping[str, str], config: CampaignConfig, assay: str) -> tuple[Array, Array, list[Fault]]:
    """Read when each row was measured and what was noted, and notice a column `assay` that speaks of another one."""
    when, note = np.full(len(table), np.nan, dtype=object), np.full(len(table), np.nan, dtype=object)
    faults: list[Fault] = []
    if "measured_at" in found:
        column = table.columns[found["measured_at"]]
        texts, rules = instants(column.texts)
        when = column.spread(texts)
        faults += table.mark(column.spread(rules != ""), found["measured_at"], "{}", column.spread(rules))
    if "note" in found:
        column = table.columns[found["note"]]
        note = np.where(column.given, column.cells, np.nan)
    if "assay" in table.columns and "assay" not in found.values():
        column = table.columns["assay"]
        other = column.spread(pd.Index(column.texts).isin(set(config.assays) - {assay}))
        faults += table.mark(other, "assay", f"the file is read as assay {assay}: put other assays into files of their own")
    return when, note, faults


def _designs(keys: Keys, space: DesignSpace, designs: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """List the designs measured, in the order of their first row, and the ids that labloop had not seen."""
    distinct = pd.unique(keys.design_id)
    ids = pd.Index(distinct[~pd.isna(distinct)], dtype=object)
    seen = ids.isin(designs.index)
    parts = [keys.written.loc[ids[~seen]]]
    if seen.any():
        known = designs.loc[ids[seen], list(space.columns)]
        faulty = {fault.row for fault in space.check(known.reset_index(drop=True))}
        parts.append(known.assign(in_space=[i not in faulty for i in range(len(known))]))
    parts = [part for part in parts if len(part)]
    table = pd.concat(parts).loc[ids] if parts else keys.written.iloc[:0]
    return table.rename_axis("design_id").reset_index(), tuple(ids[~seen])
