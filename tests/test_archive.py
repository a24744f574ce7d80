"""A workbook is refused before it fills memory, with the sheet and the bound, and read where it is merely untidy."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest

from labloop.assays.ingest import archive
from labloop.assays.ingest.excel import Workbook
from labloop.errors import IngestError

openpyxl = pytest.importorskip("openpyxl")

_HEAD = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
_TAIL = b"</sheetData></worksheet>"
_TABLE = b"".join(
    b'<row r="%d">' % row + b"".join(b'<c r="%s%d" t="inlineStr"><is><t>%s</t></is></c>' % (*cell,) for cell in cells) + b"</row>"
    for row, cells in (
        (1, [(b"A", 1, b"plate"), (b"B", 1, b"well"), (b"C", 1, b"value")]),
        (2, [(b"A", 2, b"P1"), (b"B", 2, b"A1"), (b"C", 2, b"0.5")]),
    )
)


def book(sheet: bytes, **parts: bytes) -> bytes:
    """A workbook whose only sheet, `Results`, is this XML."""
    made = openpyxl.Workbook()
    made.active.title = "Results"
    raw, out = io.BytesIO(), io.BytesIO()
    made.save(raw)
    parts = {"xl/worksheets/sheet1.xml": sheet, **parts}
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, parts.get(name, old.read(name)))
    return out.getvalue()


def cells(sheet: bytes) -> list[str]:
    parts = Workbook().read(book(sheet), "book.xlsx", known=("plate", "well", "value"))
    return parts[0].table.columns["value"].cells.tolist()


def rows(n: int, cell: Callable[[int], bytes]) -> bytes:
    return b"".join(b'<row r="%d">%s</row>' % (i, cell(i)) for i in range(1, n + 1))


@pytest.mark.parametrize(
    ("sheet", "bound"),
    [
        (_TABLE + b'<row r="2000000000"><c r="A2000000000"><v>1</v></c></row>', "row 1,048,576"),
        (rows(3000, lambda i: b'<c r="XFD%d"><v>1</v></c>' % i), "1,000,000"),
        (rows(120, lambda i: b"<c/>" * 10_000), "1,000,000"),
        (b'<row r="1"><c r="AAAA1"><v>1</v></c></row>', "column XFD"),
        (b'<row r="1">' + b"<x/>" * 400_000 + b"</row>", "300,000 elements"),
    ],
    ids=["a row far below", "rows out to XFD", "empty cells", "a column beyond", "no cells at all"],
)
def test_a_small_workbook_of_endless_cells_is_refused_by_sheet_and_bound_before_openpyxl_sees_it(monkeypatch, sheet, bound):
    monkeypatch.setattr(openpyxl, "load_workbook", None)
    content = book(_HEAD + sheet + _TAIL)
    assert len(content) < 200_000
    with pytest.raises(IngestError, match="sheet Results") as caught:
        Workbook().read(content, "book.xlsx", known=("value",))
    assert bound in str(caught.value)


def test_what_unpacks_to_more_than_any_plate_is_refused_before_it_is_unpacked():
    with pytest.raises(IngestError, match=r"sheet Results alone to \d+ MB.* labloop reads \d+ MB"):
        Workbook().read(book(_HEAD + b" " * (archive.UNPACKED + 1) + _TAIL), "book.xlsx", known=("value",))


def test_formats_without_end_are_refused():
    styles = b'<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><cellXfs>' + b"<xf/>" * 400_000
    with pytest.raises(IngestError, match=r"part xl/styles\.xml has more than"):
        Workbook().read(book(_HEAD + _TABLE + _TAIL, **{"xl/styles.xml": styles}), "book.xlsx", known=("value",))


def test_a_document_type_is_refused():
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha">]>' + _HEAD + _TAIL
    with pytest.raises(IngestError, match="sheet Results declares a document type"):
        Workbook().read(book(bomb), "book.xlsx", known=("value",))


@pytest.mark.parametrize(
    "sheet",
    [
        _TABLE + b'<row r="2"><c r="A2"><v>1</v></c></row>',
        b'<row r="9"><c r="A9"><v>1</v></c></row>' + _TABLE,
        _TABLE + b'<row r="3"><c r="C3"><v>1</v></c><c r="A3"><v>1</v></c></row>',
    ],
    ids=["a row twice", "a row above another", "a cell left of another"],
)
def test_rows_and_cells_that_would_be_passed_over_are_refused(sheet):
    with pytest.raises(IngestError, match=r"damaged workbook \(sheet Results: "):
        cells(_HEAD + sheet + _TAIL)


def test_formats_down_to_the_last_row_of_a_sheet_do_no_harm():
    assert cells(_HEAD + _TABLE + b'<row r="1048576" s="1"><c r="A1048576"/></row>' + _TAIL) == ["0.5"]


def test_other_parts_may_hold_what_they_like():
    content = io.BytesIO(book(_HEAD + _TABLE + _TAIL))
    with zipfile.ZipFile(content, "a") as more:
        more.writestr("xl/calcChain.xml", '<calcChain xmlns="urn:x"><c r="B2"/><c r="A1"/></calcChain>')
        more.writestr("xl/drawings/vmlDrawing1.vml", "<xml><br></xml>")
        more.writestr("xl/media/image1.svg", "<!DOCTYPE svg><svg/>")
    parts = Workbook().read(content.getvalue(), "book.xlsx", known=("plate", "well", "value"))
    assert parts[0].table.columns["value"].cells.tolist() == ["0.5"]
