"""Tables that a spreadsheet opens without harm: CSV cells that are no formulas, workbooks of equal bytes for equal cells."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from labloop.errors import LabloopError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_START = r"'*[\s\ufeff\u200b]*[=+\-@|\t\r\uff1d\uff0b\uff0d\uff20\uff5c]"
"""How a formula begins: behind blanks, too, and with the full-width signs that East Asian spreadsheets take for the others."""
_FORMULA = re.compile(_START)
_GUARD = re.compile(f"'(?={_START})")
_WHEN = datetime(2000, 1, 1)
"""Every workbook says that it was made then: a clock would make other bytes of the same order."""


def neutral(text: str) -> str:
    """Keep a spreadsheet from taking a cell for a formula: prefix it with `'` if it starts like one and is no plain number.

    A text that starts with such an apostrophe itself gets another, so that `plain` gives back every text.
    """
    return "'" + text if len(text) > 1 and _FORMULA.match(text) and not _NUMBER.fullmatch(text.strip()) else text


def plain(text: str) -> str:
    """Take the apostrophe of `neutral` away again; `labloop ingest` does so with every cell."""
    return _GUARD.sub("", text, count=1) if text.startswith("'") and _GUARD.match(text) else text


def csv_bytes(lines: Iterable[Sequence[str]]) -> bytes:
    """Write lines of cells as CSV in UTF-8, every cell neutralised."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([neutral(cell) for cell in line] for line in lines)
    return text.getvalue().encode()


def xlsx_bytes(
    sheets: Mapping[str, Iterable[Sequence[str | int | float | None]]], *, choices: Mapping[str, Sequence[str]] | None = None
) -> bytes:  # fmt: skip
    """Write sheets of cells as an Excel workbook, the same bytes each time; texts are neutralised, numbers stay numbers.

    Args:
        choices: by the header of a column, the words that its cells offer as a drop-down.

    Raises:
        LabloopError: openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
        from openpyxl.utils import get_column_letter
        from openpyxl.worksheet.datavalidation import DataValidation
    except ModuleNotFoundError as error:
        raise LabloopError("an Excel workbook needs the package 'openpyxl': pip install 'labloop-toolkit[excel]'") from error
    book = Workbook()
    book.remove(book.worksheets[0])
    for name, lines in sheets.items():
        sheet = book.create_sheet(name)
        for line in lines:
            sheet.append([neutral(cell) or None if isinstance(cell, str) else cell for cell in line])
        for number, cell in enumerate(next(sheet.iter_rows(max_row=1, values_only=True), ()), start=1):
            if words := (choices or {}).get(str(cell)):
                list_of = DataValidation(type="list", formula1=f'"{",".join(words)}"', allow_blank=True, showErrorMessage=True)
                list_of.error = f"write one of: {', '.join(words)}"
                list_of.add(f"{get_column_letter(number)}2:{get_column_letter(number)}{max(sheet.max_row, 2)}")
                sheet.add_data_validation(list_of)
    book.properties.created = _WHEN
    draft = io.BytesIO()
    book.save(draft)
    return _undated(draft.getvalue())


def _undated(archive: bytes) -> bytes:
    """Pack a workbook again without the hour at which it was saved, in its parts' dates and in its properties."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for part in old.namelist():
            content = old.read(part)
            if part == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + f"{_WHEN.isoformat()}Z".encode(), content)
            new.writestr(zipfile.ZipInfo(part, _WHEN.timetuple()[:6]), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()
