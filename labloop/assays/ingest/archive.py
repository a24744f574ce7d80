"""How much a workbook may hold: measured on its packed XML, a piece at a time, before anything of it is built in memory.

A workbook of a few kilobytes can claim two thousand million rows, or unpack to any number of cells. So every part is first run
through once, and refused at the first element beyond a bound; what passes, openpyxl reads in bounded time and memory.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from xml.parsers import expat

from labloop.errors import IngestError

CELLS = 1_000_000
"""Cells of all sheets together, empty ones to the left of others included: six hundred plates of 1,536 wells."""
UNPACKED = 96 << 20
"""Bytes that a workbook may unpack to: more than that many cells take."""
_ELEMENTS = 5 * CELLS
"""Elements of all parts together: a cell with its value and formula, a text of its own, and the rows."""
_RUN = 300_000
"""Elements of one row, or of a part without rows and texts: four times what Excel allows in formats."""
_WIDEST, _TALLEST = 1 << 14, 1 << 20
"""Columns and rows of a sheet in Excel."""
_PIECE = 1 << 18
_SAVE = "save the sheet with the results as CSV"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main "
_ROW, _CELL, _TEXTS = f"{_MAIN}row", f"{_MAIN}c", f"{_MAIN}sst"
_CONTENT = frozenset(f"{_MAIN}{tag}" for tag in ("v", "is", "f"))


def check_size(content: bytes, name: str) -> dict[str, int]:
    """See that a workbook can be read in bounded time and memory, and that no row or cell of it would be passed over.

    Returns:
        The last row that holds anything, by the sheet's title; a sheet may be formatted far below it.

    Raises:
        IngestError: it cannot: the message names the sheet and the bound.
        Exception: whatever zipfile raises over a damaged archive.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        titles = _titles(archive, name)
        entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > UNPACKED:
            most = max(entries, key=lambda entry: entry.file_size)
            raise IngestError(
                f"{name}: unpacks to {unpacked >> 20} MB ({_place(most.filename, titles)} alone to {most.file_size >> 20} MB); "
                f"labloop reads {UNPACKED >> 20} MB: {_SAVE}"
            )
        left, last = _Left(), dict[str, int]()
        for entry in entries:
            with archive.open(entry) as part:
                scan: _Scan | None = None
                while piece := part.read(_PIECE):  # to the end even where it is a picture: there the archive checks its sum
                    if part.tell() == len(piece) and b"<" in piece[:64]:
                        scan = _Scan(name, _place(entry.filename, titles), left)
                    if scan is not None:
                        going = scan.feed(piece)
                        last[titles.get(entry.filename, "")] = scan.row - scan.blank
                        scan = scan if going else None
        return last


@dataclass
class _Left:
    """What the workbook may still hold."""

    cells: int = CELLS
    rows: int = 4 * _TALLEST
    elements: int = _ELEMENTS


@dataclass
class _Scan:
    """One part of a workbook on its way through the parser."""

    file: str
    place: str
    left: _Left
    row: int = 0
    column: int = 0
    blank: int = 0
    """Rows since the last one that holds anything: they cost cells only where another follows that does."""
    run: int = 0
    """Elements since the last row."""
    texts: bool = False
    parser: expat.XMLParserType = field(init=False)

    def __post_init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartElementHandler = self._start
        if self.place.startswith("sheet ") or self.place.endswith((".xml", ".rels")):  # a picture may have one
            self.parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, piece: bytes) -> bool:
        """Go on; False where it is no XML from here on, which is for whoever reads the part to say."""
        try:
            self.parser.Parse(piece, False)
        except expat.ExpatError:
            return False
        return True

    def _doctype(self, *_: object) -> None:
        raise IngestError(f"{self.file}: {self.place} declares a document type, as no spreadsheet program writes it: {_SAVE}")

    def _start(self, tag: str, about: Mapping[str, str]) -> None:
        self.run += 1
        self.left.elements -= 1
        if tag == _CELL:
            self._cell(about.get("r", ""))
        elif tag in _CONTENT:
            self._use(self.blank)
            self.blank = 0
        elif tag == _ROW:
            self._row(about.get("r", ""))
        elif tag == _TEXTS:
            self.texts = True
        if self.left.elements < 0 or (self.run > _RUN and not self.texts):
            most = _ELEMENTS if self.left.elements < 0 else _RUN
            raise IngestError(f"{self.file}: {self.place} has more than {most:,} elements, all that labloop reads: {_SAVE}")

    def _row(self, said: str) -> None:
        row = int(float(said)) if said else self.row + 1
        if row <= self.row:
            self._out_of_order(f"row {row} stands below row {self.row}")
        if row > _TALLEST:
            raise IngestError(f"{self.file}: {self.place} reaches to row {row:,}, but a sheet ends at row {_TALLEST:,}: {_SAVE}")
        self.blank += row - self.row
        self.left.rows -= row - self.row
        self.row, self.column, self.run = row, 0, 0
        if self.left.rows < 0:
            raise IngestError(f"{self.file}: the sheets reach to more than {4 * _TALLEST:,} rows together: {_SAVE}")

    def _cell(self, said: str) -> None:
        """A cell costs all that its row leaves out to the left of it, too, since that is read as blank."""
        column = _column(said) if said else self.column + 1
        if column > _WIDEST:
            raise IngestError(
                f"{self.file}: {self.place}, row {self.row:,} reaches beyond column XFD, where a sheet ends: {_SAVE}"
            )
        if column <= self.column:
            self._out_of_order(f"cell {said} stands to the right of its place")
        self._use(column - self.column)
        self.column = column

    def _use(self, n: int) -> None:
        self.left.cells -= n
        if self.left.cells < 0:
            raise IngestError(
                f"{self.file}: {self.place} has so many cells by row {self.row:,} that the workbook has more than {CELLS:,}, "
                f"empty ones counted, all that labloop reads: delete what lies beside and below the results, or {_SAVE}"
            )

    def _out_of_order(self, what: str) -> None:
        raise IngestError(f"{self.file}: is a damaged workbook ({self.place}: {what}): copy or export it again")


def _column(said: str) -> int:
    """Count a cell's column from 1; a name that is too long for a sheet gives a number beyond it."""
    column = 0
    for letter in said[:5].upper():
        if not "A" <= letter <= "Z":
            break
        column = 26 * column + ord(letter) - ord("A") + 1
    return column


def _place(part: str, titles: Mapping[str, str]) -> str:
    return f"sheet {titles[part]}" if part in titles else f"part {part}"


def _titles(archive: zipfile.ZipFile, name: str) -> dict[str, str]:
    """Give the sheets' titles by the parts that hold them; none where the workbook is too odd to tell.

    Raises:
        IngestError: two sheets, or two parts, are one.
    """
    try:
        book, rels = (_beginning(archive, part) for part in ("xl/workbook.xml", "xl/_rels/workbook.xml.rels"))
    except (KeyError, expat.ExpatError):
        return {}
    targets = {about.get("Id"): about.get("Target", "") for tag, about in rels if tag == "Relationship"}
    titles: dict[str, str] = {}
    for about in (about for tag, about in book if tag == "sheet"):
        target = targets.get(next((said for key, said in about.items() if key.endswith(" id")), None), "")
        part = str(PurePosixPath("/xl") / target).lstrip("/")  # one that begins with a slash stands for itself
        if part in titles:
            raise IngestError(f"{name}: is a damaged workbook ({part} holds two sheets): copy or export it again")
        titles[part] = about.get("name", "")
    if len(set(archive.namelist())) < len(archive.namelist()):
        raise IngestError(f"{name}: is a damaged workbook (two parts have the same name): copy or export it again")
    return titles


def _beginning(archive: zipfile.ZipFile, part: str) -> list[tuple[str, Mapping[str, str]]]:
    """The elements of a small part; of one that claims to be large, those at its beginning."""
    elements: list[tuple[str, Mapping[str, str]]] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda tag, about: elements.append((tag.rpartition(" ")[2], about))
    with archive.open(part) as file:
        parser.Parse(file.read(_PIECE), False)
    return elements
