"""Find the plates drawn in a sheet of cells: a line of column numbers, rows with letters, and what stands beside them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from labloop.assays.ingest.cells import fold, listed
from labloop.assays.ingest.frame import header_at, reach
from labloop.assays.ingest.titles import is_softmax
from labloop.errors import IngestError
from labloop.plates.wells import SHAPES, row_name, row_number

WIDEST = SHAPES[1536][1]
_COLUMN = re.compile(r"0?([1-9][0-9]?)(?:\.0)?")
_FULL = {columns: rows for rows, columns in SHAPES.values()}
"""Rows of a whole plate by its columns."""
_COMMON = 16
"""Rows of the plates that are usual; letters beyond theirs are rows only where they follow on the row before."""
_WAVELENGTH = re.compile(r"[1-9][0-9]{2,3}")
_NUMERIC = re.compile(r"[+-]?[0-9.,]+(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Sheet:
    """A rectangle of cells as text: a text file, or one sheet of a workbook."""

    file: str
    rows: Sequence[Sequence[str]]
    """Stripped cells; the row at index i is line i + 1."""
    name: str = ""
    """Of the workbook's sheet; '' for a text file."""
    typed: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Cells that a workbook holds as text although they look like a number with a mark, by the indices of row and column."""
    ended: bool = True
    """Whether the text's last line has an end: a file that was cut short has none."""

    def at(self, row: int) -> str:
        """Tell where a row is, for people."""
        return f"{self.file}: {f'sheet {self.name}, row' if self.name else 'line'} {row + 1}"

    def cell(self, row: int, column: int) -> str:
        cells = self.rows[row]
        return cells[column] if 0 <= column < len(cells) else ""


@dataclass(frozen=True)
class Cell:
    """One well's cell."""

    row: int
    """Index of the sheet's row."""
    letter: str
    column: int
    """As the plate counts, from 1."""
    text: str
    label: str
    """What stands after the row, where programs name the read; '' where there is nothing."""


@dataclass
class DrawnPlate:
    """A plate as drawn."""

    top: int
    """Index of the row with the column numbers."""
    left: int
    """Index of the column that holds the plate's first number."""
    numbers: range
    """The plate's columns."""
    bottom: int = 0
    """Index of the last row."""
    cells: list[Cell] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """How far the plate reaches: its last row and its last column, counted from 1."""
        return row_number(self.cells[-1].letter), self.numbers[-1]

    def place(self, cell: Cell) -> int:
        """Index of the sheet's column in which a well's cell stands."""
        return self.left + cell.column - self.numbers[0]


def find_blocks(sheet: Sheet, known: Collection[str] = ()) -> list[list[DrawnPlate]]:
    """Find every plate in a sheet, top to bottom; those that stand side by side under one header line come together.

    Args:
        known: folded names of columns that the campaign knows: rows below two of them are a table's, however they look.

    Raises:
        IngestError: a plate is cut short, has a gap, is too large, or is followed by rows that belong to no header.
    """
    found: list[list[DrawnPlate]] = []
    row, softmax = 0, is_softmax(sheet.rows)
    header, width = _header(sheet, known)
    while row < len(sheet.rows):
        runs = _runs(sheet.rows[row])
        if runs and header < row and reach(sheet.rows[row]) <= width and sheet.cell(row, runs[0][0] - 1) not in ("", "<>"):
            runs = []
        blocks = _read(sheet, row, runs, softmax=softmax) if runs else []
        if blocks:
            found.append(blocks)
            row = blocks[0].bottom
        row += 1
    return found


def _header(sheet: Sheet, known: Collection[str]) -> tuple[int, int]:
    """Find the header of a table, half of whose names and two the campaign knows: its row, and how many columns it names.

    A line above a plate, such as `Plate, P1, Unit, OD`, has texts between such names.
    """
    row = header_at(sheet.rows, known)
    names = [cell for cell in sheet.rows[row] if cell] if sheet.rows else []
    return row, reach(sheet.rows[row]) if sum(fold(one) in known for one in names) >= max(2, len(names) / 2) else 0


def _runs(cells: Sequence[str]) -> list[tuple[int, range]]:
    """Find where consecutive column numbers stand in a row: their place and the numbers."""
    runs: list[tuple[int, range]] = []
    numbers = [int(match[1]) if (match := _COLUMN.fullmatch(cell)) else 0 for cell in cells]
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[0] - pair[1] if pair[1] else None):
        places = list(group)
        left, first = places[0]
        if first and (len(places) > 2 or (left and cells[left - 1] == "<>")):
            runs.append((left, range(first, first + len(places))))
    return runs


def _read(sheet: Sheet, top: int, runs: Sequence[tuple[int, range]], *, softmax: bool) -> list[DrawnPlate]:
    """Read the plates below one line of column numbers; none where no rows of a plate follow."""
    left = runs[0][0]
    lettered = top + 1 < len(sheet.rows) and _letter(sheet.cell(top + 1, left - 1)) != ""
    if not lettered and not (softmax and any(sheet.cell(top + 1, left + i) for i in range(3) if top + 1 < len(sheet.rows))):
        return []
    for _, numbers in runs:
        if numbers[-1] > WIDEST:
            raise IngestError(f"{sheet.at(top)}: a plate of {numbers[-1]} columns is larger than labloop lays out (32 x 48)")
    rows = _lettered(sheet, top, runs) if lettered else _unlettered(sheet, top, runs)
    blocks = []
    for i, (place, numbers) in enumerate(runs):
        end = place + len(numbers)
        limit = runs[i + 1][0] - 1 if i + 1 < len(runs) else max(len(sheet.rows[row]) for row, _ in rows)
        if any(_letter(sheet.cell(row, place - 1), after=letter) not in ("", letter) for row, letter in rows):
            raise IngestError(f"{sheet.at(top)}: plates that stand side by side have other letters before the same row")
        block = DrawnPlate(top, place, numbers, bottom=rows[-1][0])
        labels = _beside(sheet, block, rows, end, limit)
        for (row, letter), label in zip(rows, labels):
            block.cells += [Cell(row, letter, number, sheet.cell(row, place + j), label) for j, number in enumerate(numbers)]
        blocks.append(block)
    return blocks


def _lettered(sheet: Sheet, top: int, runs: Sequence[tuple[int, range]]) -> list[tuple[int, str]]:
    """List the rows of a plate whose rows begin with letters: index and letter; several rows may share one, a read each."""
    left, numbers = runs[0]
    rows: list[tuple[int, str]] = []
    for row in range(top + 1, len(sheet.rows)):
        text = sheet.cell(row, left - 1)
        letter = _letter(text, after=rows[-1][1] if rows else "")
        if not any(sheet.rows[row]):
            continue
        if letter and (not rows or row_number(letter) == row_number(rows[-1][1]) + 1):
            rows.append((row, letter))
        elif letter and letter != "A":
            raise IngestError(
                f"{sheet.at(row)}: row {letter} of the plate follows row {rows[-1][1]}: a row is missing or stands twice, "
                "export the file again"
            )
        elif not text and row == rows[-1][0] + 1 and sheet.cell(row, left + len(numbers)):
            rows.append((row, rows[-1][1]))  # Gen5 writes the further reads of a row below it, each with its name behind
        else:
            _nothing_left(sheet, row, left, numbers)
            break
    else:
        _whole(sheet, rows, numbers)
    return rows


def _unlettered(sheet: Sheet, top: int, runs: Sequence[tuple[int, range]]) -> list[tuple[int, str]]:
    """List the rows of a plate without letters, as SoftMax Pro writes it: all of them, up to a blank line."""
    left, numbers = runs[0]
    rows: list[tuple[int, str]] = []
    row, wanted = top + 1, _FULL.get(len(numbers), 0)
    while row < len(sheet.rows) and len(rows) < wanted and len(sheet.rows[row]) > 1 and not sheet.cell(row, 0).startswith("~"):
        rows.append((row, row_name(len(rows) + 1)))
        row += 1
    if numbers[0] != 1 or not rows or len(rows) != wanted:
        raise IngestError(
            f"{sheet.at(top)}: a plate of {len(rows)} rows and {len(numbers)} columns without letters before its rows: "
            "export the whole plate, or export it as a list"
        )
    after = next((i for i in range(row, len(sheet.rows)) if any(sheet.rows[i])), None)
    if after is not None:
        _nothing_left(sheet, after, left, numbers)
    return rows


def _nothing_left(sheet: Sheet, row: int, left: int, numbers: range) -> None:
    """Refuse rows of numbers below a plate: further time points or plates under the same header would be lost silently."""
    label, values = sheet.cell(row, left - 1), [sheet.cell(row, left + i) for i in range(len(numbers))]
    if len(label) > 1 and not _NUMERIC.fullmatch(label):
        return  # a summary of the columns, such as `Mean`
    if sum(bool(_NUMERIC.fullmatch(value)) for value in values) * 2 > len(numbers) and not _runs(sheet.rows[row]):
        raise IngestError(
            f"{sheet.at(row)}: rows of numbers go on below the plate: a kinetic run or several plates under one header; "
            "export one endpoint, each plate with its column numbers"
        )


def _whole(sheet: Sheet, rows: Sequence[tuple[int, str]], numbers: range) -> None:
    """Refuse a plate that ends with its file before its last row; a part of a plate is followed by other lines."""
    wanted = _FULL.get(len(numbers), 0) if numbers[0] == 1 and len(numbers) >= 12 and not sheet.name else 0
    if rows[0][1] == "A" and row_number(rows[-1][1]) < wanted:
        raise IngestError(
            f"{sheet.at(rows[-1][0])}: the file ends at row {rows[-1][1]} of a plate of {wanted} rows: it is cut short, "
            "export it again"
        )
    last = sheet.rows[rows[-1][0]]
    if not sheet.ended and rows[-1][0] == len(sheet.rows) - 1 and len(last) <= len(numbers):
        raise IngestError(
            f"{sheet.at(rows[-1][0])}: the file ends in the middle of a plate's row: it is cut short, export it again"
        )


def _beside(sheet: Sheet, block: DrawnPlate, rows: Sequence[tuple[int, str]], end: int, limit: int) -> list[str]:
    """Give each row the name of its read, if programs wrote one behind it; what else stands there is no part of the plate.

    Raises:
        IngestError: there are more values than columns.
    """
    behind = [sheet.cell(row, end) if end < limit else "" for row, _ in rows]
    titled = sheet.cell(block.top, end) != "" if end < limit else False
    sets = [
        sorted(text for _, text in group)
        for _, group in groupby(zip([letter for _, letter in rows], behind), lambda pair: pair[0])
    ]
    alike = any(behind) and all(one == sets[0] and len(set(one)) == len(one) for one in sets)
    further = any(sheet.cell(row, end + 1) for row, _ in rows if end + 1 < limit)
    # A name of digits alone is a wavelength with nothing behind it; else it is a value too many.
    named = (
        not titled
        and alike
        and all(not _NUMERIC.fullmatch(one) or (_WAVELENGTH.fullmatch(one) and not further) for one in behind)
    )
    if not named and not titled:
        loose = [row for (row, _), text in zip(rows, behind) if _NUMERIC.fullmatch(text)]
        if loose:
            raise IngestError(
                f"{sheet.at(loose[0])}: has more values than the plate has columns: where commas are decimal marks, "
                "separate the columns with semicolons or tabs"
            )
    if len(rows) > len(sets) and not named:
        raise IngestError(
            f"{sheet.at(rows[0][0])}: the rows of a well's reads do not all have the same names behind them ({listed(behind)})"
        )
    parked = [i for i, _ in rows if any(sheet.cell(i, j) for j in range(end + named, limit))]
    if parked:
        block.remarks.append(f"ignored what stands to the right of the plate on line {listed(str(i + 1) for i in parked)}")
    return behind if named else [""] * len(rows)


def _letter(text: str, *, after: str = "") -> str:
    """Give the letters of a row, '' where the text is none; `after` is the row before, which rows beyond P have to follow on."""
    number = row_number(text) if 0 < len(text) <= 2 else 0
    return text.upper() if 0 < number <= (_COMMON if number != row_number(after) + 1 else SHAPES[1536][0]) else ""
