"""The reader of Excel workbooks: long tables and plate grids, a sheet or several."""

from __future__ import annotations

import io
import operator
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Any

import numpy as np

from labloop.assays.ingest.archive import check_size
from labloop.assays.ingest.blocks import Sheet
from labloop.assays.ingest.cells import Part, count, fold
from labloop.assays.ingest.frame import header_at, is_remark
from labloop.assays.ingest.grid import parts_of
from labloop.assays.ingest.long import tabulate
from labloop.assays.ingest.parse import is_marked
from labloop.assays.ingest.titles import plate_said
from labloop.config.assay import ROLES
from labloop.errors import IngestError
from labloop.registry import plugin

_DAMAGED = (
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error,
)  # fmt: skip
"""What openpyxl and the libraries below it raise over a workbook that is not one; it promises nothing narrower."""


@plugin
class Workbook:
    """Excel workbooks (.xlsx): long tables or plate grids, a sheet or several."""

    def recognise(self, content: bytes, name: str) -> str | None:
        """A zip archive that holds a workbook."""
        return "an Excel workbook" if content.startswith(b"PK\x03\x04") and b"xl/workbook" in content else None

    def read(self, content: bytes, name: str, *, known: Collection[str]) -> Sequence[Part]:
        """Read every sheet that holds a plate or a table; hidden sheets and sheets of other things are passed over.

        Raises:
            IngestError: the workbook is damaged or locked, or no sheet can be read, or openpyxl is not installed.
        """
        folded = {fold(one) for one in known}
        sheets, hidden = _sheets(content, name)
        filled = [sheet for sheet in sheets if any(map(any, sheet.rows))]
        for least in (2, 1) if len(filled) > 1 else (0,):  # a list of designs may have one column
            parts, passed = _parts(filled, folded, least)
            if parts:
                break
        else:
            own = [one for one in dict.fromkeys(known) if one not in ROLES][:4]
            there = ", ".join([*passed, *(f"{one}, which is hidden" for one in hidden)]) or "only empty ones"
            raise IngestError(
                f"{name}: no sheet holds a plate or a table with columns that the campaign knows (there are {there}): write its "
                f"names of columns into a sheet's first row, such as {', '.join(own) or 'plate, well, value'}"
            )
        remarks = [
            f"passed over {count(len(some), what)} {', '.join(some)}"
            for some, what in ((passed, "other sheet"), (hidden, "hidden sheet"))
            if some
        ]
        first = parts[0]
        return [replace(first, table=replace(first.table, remarks=(*first.table.remarks, *remarks))), *parts[1:]]


def _parts(sheets: Sequence[Sheet], known: Collection[str], least: int) -> tuple[list[Part], list[str]]:
    """Read plates and tables of at least so many known columns; returns them, and the names of the other sheets."""
    parts: list[Part] = []
    passed: list[str] = []
    for sheet in sheets:
        grids = parts_of(sheet, known, form="Excel workbook", delimiter=",")
        if grids:
            parts += grids
        elif (table := _long(sheet, known, least)) is not None:
            parts.append(table)
        else:
            passed.append(sheet.name)
    return parts, passed


def _sheets(content: bytes, name: str) -> tuple[list[Sheet], list[str]]:
    """Read all cells as text: the visible sheets, and the names of the hidden ones."""
    try:
        import openpyxl
    except ModuleNotFoundError as error:
        raise IngestError(
            f"{name}: reading Excel needs openpyxl: pip install 'labloop-toolkit[excel]', or save the sheet as CSV"
        ) from error
    try:
        last = check_size(content, name)
        # A formula's last value, and the formula itself: one that was never calculated has no value.
        books = [openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=values) for values in (True, False)]
        return _cells(books[0], books[1], name, last), [one.title for one in books[0].worksheets if one.sheet_state != "visible"]
    except _DAMAGED as error:
        raise IngestError(
            f"{name}: is a damaged or locked workbook ({error}): copy or export it again, or save it as CSV"
        ) from error


def _cells(values: Any, formulas: Any, name: str, last: Mapping[str, int]) -> list[Sheet]:
    sheets = []
    for sheet, other in zip(values.worksheets, formulas.worksheets):
        if sheet.sheet_state != "visible":
            continue
        for one in (sheet, other):
            one.reset_dimensions()  # what the file claims as its size may be wrong
        rows: list[list[str]] = []
        typed: dict[tuple[int, int], str] = {}
        for cells, written in islice(zip(sheet.iter_rows(), other.iter_rows()), last.get(sheet.title)):
            rows.append([_text(cell, again) for cell, again in zip(cells, written)])
            texts = [(i, text) for i, (cell, text) in enumerate(zip(cells, rows[-1])) if isinstance(cell.value, str)]
            typed.update({(len(rows) - 1, i): text for i, text in texts if is_marked(text)})
        sheets.append(Sheet(file=name, rows=rows, name=sheet.title, typed=typed))
    return sheets


def _text(cell: Any, formula: Any) -> str:
    """Write a cell as it would stand in a CSV."""
    value = cell.value
    if value is None:
        return "#FORMULA" if isinstance(formula.value, str) and formula.value.startswith("=") else ""
    shown = str(cell.number_format or "") if not isinstance(value, str) else ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        if "%" in _section(value, shown):
            return f"{value * 100:.12g}%"
        return repr(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime | date):
        return _date(value, shown.lower())
    if isinstance(value, time | timedelta):
        return str(value)
    return str(value).strip()


_LITERAL = re.compile(r'"[^"]*"|\\.|[_*].|\[[^\]]*\]', re.DOTALL)
"""What a number's format shows as it is, or not at all: text, a letter, the room of one, colours, a condition."""
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)\s*([+-]?[0-9]+(?:\.[0-9]*)?)\]")
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "<>": operator.ne}


def _section(value: float, shown: str) -> str:
    """Give the part of a number's format that applies to a value: that of its sign, or whose condition it keeps; no literals."""
    sections = _LITERAL.sub(lambda found: found[0] * bool(_CONDITION.fullmatch(found[0])), shown).split(";")[:3]
    signs = (value >= 0 if len(sections) == 2 else value > 0, value < 0, True) if len(sections) > 1 else (True,)
    for section, mine in zip(sections, signs):
        told = _CONDITION.search(section)
        if _COMPARE[told[1]](value, float(told[2])) if told else mine:
            return section
    return sections[-1]


def _date(value: datetime | date, shown: str) -> str:
    """A date as ISO 8601 writes it; as the spreadsheet shows it where that is a day and a month, hardly meant as a date."""
    if "d" in shown and "mmm" in shown and "y" not in shown:
        return f"{value.day}-{value:%b}"
    text = value.isoformat()
    return text.removesuffix("T00:00:00")


def _long(sheet: Sheet, known: Collection[str], least: int) -> Part | None:
    """Read a sheet as a long table; None where it has fewer columns that the campaign knows, of a workbook's only one any do."""
    rows = sheet.rows
    top = header_at(rows, known)
    header = list(rows[top]) if rows else []
    while header and not header[-1]:
        header.pop()
    if not header or sum(fold(cell) in known for cell in header) < least:
        return None
    end = _end(rows, top, len(header))
    body = list(_body(rows[top + 1 : end], len(header)))
    remarks = [f"passed over {count(n, 'row')} {side}" for n, side in ((top, "above"), (sum(map(any, rows[end:])), "below")) if n]
    table = tabulate(
        sheet.file, header, [list(column) for column in zip(*body)] or [[] for _ in header], range(top + 2, end + 1),
        form="Excel workbook", remarks=remarks,
    )  # fmt: skip
    places = np.full(len(table), f"sheet {sheet.name}", dtype=object) if least else None
    said, firm = plate_said(rows[:top])
    text = "\n".join(" ".join(filter(None, row)) for row in rows[:top])
    typed: dict[str, frozenset[str]] = {}
    for (row, column), cell in sheet.typed.items():
        if top < row < end and column < len(header):
            typed[header[column]] = typed.get(header[column], frozenset()) | {cell}
    return Part(
        table=replace(table, places=places, typed=typed), where=f"sheet {sheet.name}", plate=said or sheet.name, firm=firm,
        texts=(f"{text}\n{sheet.name}",),
    )  # fmt: skip


def _body(rows: Sequence[Sequence[str]], width: int) -> Iterator[Sequence[str]]:
    for row in rows:
        yield (*row, *[""] * (width - len(row)))[:width]


def _end(rows: Sequence[Sequence[str]], top: int, width: int) -> int:
    """Find where the remarks below a table begin: after a blank row, and nothing like a row of it."""
    end = place = len(rows)
    while True:
        while end > top and not any(rows[end - 1]):
            end -= 1
        start = end
        while start > top and any(rows[start - 1]):
            start -= 1
        if start <= top or not all(is_remark(row, width) for row in rows[start:end]):
            return place
        place = end = start
