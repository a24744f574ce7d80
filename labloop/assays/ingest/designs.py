"""A list of designs that somebody made: a table, a workbook or FASTA, without values, in any order of columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from labloop.assays.ingest.cells import Part, Table, count
from labloop.assays.ingest.choose import stack
from labloop.assays.ingest.columns import check_sequences, design_columns, known_names
from labloop.assays.ingest.keys import numeric_columns, pointed
from labloop.assays.ingest.long import NoRowsError
from labloop.assays.ingest.parse import find_marks
from labloop.assays.ingest.read import Opened, content_of, open_file, printable
from labloop.config.campaign import CampaignConfig
from labloop.errors import DesignError, Fault, IngestError
from labloop.types import Array

log = logging.getLogger("labloop")


@dataclass(frozen=True, eq=False, kw_only=True)
class DesignCells:
    """The cells of a list of designs as text; whether they are designs is for the space to say."""

    name: str
    lines: Array
    """(n,) the line, or the sheet's row, of each design."""
    cells: pd.DataFrame
    """The space's columns, decimal points for decimal commas."""
    others: pd.DataFrame
    """All other columns, such as the names in a FASTA file."""
    columns: Mapping[str, str]
    """labloop's columns to the file's."""
    what: str
    """What the file was read as."""

    def __len__(self) -> int:
        return len(self.lines)


def cells_of_designs(content: bytes, name: str, config: CampaignConfig, *, known: pd.DataFrame | None = None) -> DesignCells:
    """Take a file of designs apart; the campaign's names of columns count, and so does the case of no letter in them.

    Args:
        known: designs by `design_id`, with which a file may name them by their ids alone.

    Raises:
        DesignError: the design's columns are not there, or a row has more cells than the header, or an id is unknown.
        IngestError: the file cannot be read.
    """
    try:
        opened = _opened(content, name, config)
    except NoRowsError as error:
        raise DesignError(f"{name}: has no design: write one a row, under {', '.join(config.space.columns)}") from error
    if any(part.grid is not None for part in opened.parts):
        raise DesignError(f"{name}: is a plate drawn as a grid: write a table, one row a design")
    try:
        table = stack([part.table for part in opened.parts])
    except IngestError as error:
        raise DesignError(str(error)) from error
    check_sequences(opened.reader, table.columns, config, file=name)
    found = design_columns(table.columns, config, file=name)
    missing = [column for column in config.space.columns if column not in found]
    by_id = bool(missing) and "design_id" in found and known is not None
    if missing and not by_id:
        raise DesignError(
            f"{name} row 1: has no column {', '.join(missing)} (there are: {', '.join(table.columns)}): name the columns as the "
            "campaign does, one row a design"
        )
    faults = list(table.faults)
    if by_id and known is not None:
        cells, more = _by_id(table, found["design_id"], known, list(config.space.columns))
        faults += more
    else:
        marks = find_marks(table, [found[one] for one in numeric_columns(config.space)])
        texts = {one: table.columns[found[one]] for one in config.space.columns}
        written = {one: column.spread(pointed(one, column, config.space, marks)) for one, column in texts.items()}
        cells = pd.DataFrame(written, columns=list(config.space.columns), dtype=object)
    if faults:
        rows = len({fault.row for fault in faults})
        raise DesignError(f"{name}: {count(rows, 'row')} of {len(table)} cannot be read", sorted(faults, key=lambda one: one.row))
    used = {found["design_id"]} if by_id else {found[one] for one in config.space.columns}
    others = {one: column.cells for one, column in table.columns.items() if one not in used}
    return DesignCells(
        name=name, lines=table.lines, cells=cells, columns=found,
        others=pd.DataFrame(others, index=range(len(table)), dtype=object), what=f"{table.form}, {count(len(table), 'row')}",
    )  # fmt: skip


def _opened(content: bytes, name: str, config: CampaignConfig) -> Opened:
    """Open a file and keep its tables of designs: a workbook may have sheets of other things, whose columns are known too."""
    opened = first = open_file(content, name, known_names(config, config.objective.assay))
    if not (lists := _lists(opened, config, name)):
        with suppress(IngestError):  # perhaps a sheet of one column stands beside those
            opened = open_file(content, name, (*config.space.columns, "design_id"))
            lists = _lists(opened, config, name)
    if not lists:
        return first
    passed = [f"passed over {part.where}" for part in opened.parts if part not in lists]
    for remark in dict.fromkeys([*passed, *(one for part in opened.parts for one in part.table.remarks)]):
        log.warning("%s: %s", name, remark)
    return replace(opened, parts=tuple(lists))


def _lists(opened: Opened, config: CampaignConfig, name: str) -> list[Part]:
    return [part for part in opened.parts if part.grid is None and design_columns(part.table.columns, config, file=name)]


def read_designs(
    path: Path | str, config: CampaignConfig, *, known: pd.DataFrame | None = None, name: str | None = None
) -> tuple[DesignCells, pd.DataFrame]:
    """Read a file of designs and check that each can be one of the space; whether it is allowed is another question.

    Args:
        known: designs by `design_id`, with which a file may name them by their ids alone.
        name: what the file is called, where that is not its path's name.

    Returns:
        The file's cells, and the designs as the space has them, in the file's order.

    Raises:
        DesignError: with every cell that cannot be one of the space, by the file's rows.
        IngestError: the file cannot be read.
    """
    path = Path(path)
    name = name or printable(path.name)
    read = cells_of_designs(content_of(path), name, config, known=known)
    try:
        X = config.space.encode(read.cells, strict=False)
    except DesignError as error:
        faults = [
            Fault(int(read.lines[one.row]), read.columns.get(one.column, one.column), one.rule, one.cell) for one in error.faults
        ]
        rows = len({fault.row for fault in faults})
        raise DesignError(f"{name}: {count(rows, 'row')} of {len(read)} cannot be designs of {config.name}", faults) from error
    return read, config.space.decode_as_written(X)


def _by_id(table: Table, place: str, known: pd.DataFrame, columns: list[str]) -> tuple[pd.DataFrame, list[Fault]]:
    """Look designs up by the ids that labloop gave them."""
    ids = np.array([text.lower() for text in table.columns[place].cells.tolist()], dtype=object)
    strange = ~pd.Index(ids).isin(known.index)
    faults = table.mark(
        strange, place, "is no design that labloop knows: mend it, or write the design out in " + ", ".join(columns)
    )
    return known.reindex(ids)[columns].reset_index(drop=True).astype(object), faults
