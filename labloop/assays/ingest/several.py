"""One table with a column a property: each is read as its own assay, and all of them are one file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from labloop.assays.ingest.assay import AssayFile, named_assay, settle, understood
from labloop.assays.ingest.cells import Table, count
from labloop.assays.ingest.choose import take
from labloop.assays.ingest.columns import lost_column, value_column
from labloop.assays.ingest.options import ReadOptions
from labloop.assays.ingest.read import Opened, digest
from labloop.config.assay import assay_options
from labloop.config.campaign import CampaignConfig
from labloop.errors import IngestError


def columns_of_properties(opened: Opened, config: CampaignConfig, assay: str | None, *, file: str) -> dict[str, str]:
    """Give each property's column of a file's tables, by assay; nothing where the file has one column of values.

    Args:
        assay: the one that is asked for; all where left out.

    Raises:
        IngestError: the campaign has several properties, and the file says of none which it is.
    """
    if config.goal is None:
        return {}
    header = list(dict.fromkeys(name for part in opened.parts for name in part.table.columns))
    wanted = config.goal.assays if assay is None else (named_assay(config, assay, file),)
    drawn = any(part.grid is not None for part in opened.parts)
    found = {} if drawn else {one: value_column(header, config, one, file=file) for one in wanted}
    columns = {one: column for one, column in found.items() if column is not None}
    if not columns and assay is None and len(wanted) > 1:
        raise IngestError(
            f"{file}: which of the campaign's properties does it hold? Say it with {assay_options(wanted)}"
            + ("" if drawn else f", or name the columns so; its columns are {', '.join(header)}")
        )
    mapped = {place for told in config.assays.values() for place in told.columns.values()}
    free = [one for one in header if one not in {*columns.values(), *mapped, *config.space.columns}]
    for one in set(wanted) - set(columns) if columns else ():
        if lost := lost_column(free, config, one):
            name = config.column_of(one)[0]
            raise IngestError(
                f"{file}: column {lost!r} looks like {name}, but would be passed over: name it {name!r}, its unit in a column "
                f"{name}_unit, or map it: assays: {{{one}: {{columns: {{value: {lost!r}}}}}}}"
            )
    return columns


def read_properties(
    opened: Opened, columns: dict[str, str], config: CampaignConfig, *, wells: pd.DataFrame, designs: pd.DataFrame,
    options: ReadOptions, content: bytes, file: str,
) -> AssayFile:  # fmt: skip
    """Read every property of a table; a cell that is blank where others of its row are not was not measured.

    Raises:
        IngestError: with the faults of all properties at once.
    """
    read: list[AssayFile] = []
    faults, said = [], []
    blank: IngestError | None = None
    settled = {
        assay: settle(opened, config, assay, wells=wells, options=options, file=file, value=column)
        for assay, column in columns.items()
    }
    named = list(dict.fromkeys(place for _, found in settled.values() for place in found.values()))
    for assay, (table, found) in settled.items():
        rows = _of_property(table, found, list(columns.values()))
        if not len(rows):
            continue
        part = table if len(rows) == len(table) else take(table, rows)
        try:
            one = understood(
                part, found, config, assay, wells=wells, designs=designs, reader=opened.reader, sha256=digest(content),
                others=named,
            )  # fmt: skip
            read.append(one)
        except IngestError as error:
            if not error.faults:
                blank = error
            faults += [one for one in error.faults if one not in faults]
            said.append(assay)
    if faults:
        rows_of = len({fault.row for fault in faults})
        raise IngestError(f"{file}: {count(len(faults), 'fault')} in {count(rows_of, 'row')}; nothing was taken", faults)
    if blank is not None:
        raise blank
    if not read:
        raise IngestError(f"{file}: this is the empty template: fill in {' and '.join(columns.values())}, then ingest it again")
    if len(read) == 1:
        return read[0]
    known = pd.concat([one.designs for one in read], ignore_index=True).drop_duplicates("design_id", ignore_index=True)
    told = [f"{one.assay}: {count(len(one.measurements), 'row')}" for one in read]
    return replace(
        read[0], assay=" + ".join(one.assay for one in read), dialect=f"{read[0].dialect}; {', '.join(told)}", designs=known,
        measurements=pd.concat([one.measurements for one in read], ignore_index=True),
        new=tuple(dict.fromkeys(new for one in read for new in one.new)),
        columns={**read[0].columns, **{one.assay: one.columns["value"] for one in read}},
    )  # fmt: skip


def _of_property(table: Table, found: dict[str, str], columns: Collection[str]) -> np.ndarray:  # type: ignore[type-arg]
    """Rows that say something of this property: a value, a status other than ok, or a word about a row without any value."""
    mine = table.columns[found["value"]].given
    others = np.any([table.columns[name].given for name in columns if name in table.columns], axis=0)
    status = np.zeros(len(table), dtype=bool)
    if "status" in found:
        cells = table.columns[found["status"]]
        status = cells.given & ~pd.Series(cells.cells).astype(str).str.strip().str.casefold().isin(["", "ok"]).to_numpy()
    noted = np.any([table.columns[found[name]].given for name in ("note", "measured_at") if name in found] + [mine], axis=0)
    return np.flatnonzero(mine | status | (~others & noted))
