"""Wells by name: rows and columns count from 1, the first well is `A01`; rows after Z go on with AA, AB, …"""

from __future__ import annotations

import re

SHAPES = {6: (2, 3), 12: (3, 4), 24: (4, 6), 48: (6, 8), 96: (8, 12), 384: (16, 24), 1536: (32, 48)}
"""Rows and columns of the usual plates."""

LARGEST = (52, 99)
"""Rows and columns that a vessel may have at most: rows to AZ, columns of two digits."""

_WELL = re.compile(r"([A-Za-z]{1,2})0{0,2}([1-9][0-9]?)")


def row_name(row: int) -> str:
    """Name a row, counted from 1: A … Z, then AA … AZ.

    Raises:
        ValueError: no vessel has that row.
    """
    if not 1 <= row <= LARGEST[0]:
        raise ValueError(f"row {row} is on no plate: rows run from 1 (A) to {LARGEST[0]} (AZ)")
    before, letter = divmod(row - 1, 26)
    return ("A" if before else "") + chr(ord("A") + letter)


def row_number(name: str) -> int:
    """Give the number of a row, from 1, by its letters; 0 where they name none."""
    letters = name.upper()
    if len(letters) == 1 and "A" <= letters <= "Z":
        return ord(letters) - ord("A") + 1
    return ord(letters[1]) - ord("A") + 27 if len(letters) == 2 and letters[0] == "A" and "A" <= letters[1] <= "Z" else 0


def well_name(row: int, column: int) -> str:
    """Name the well in a row and a column, both counted from 1, as `A01`.

    Raises:
        ValueError: no vessel has that row and column.
    """
    if not (1 <= row <= LARGEST[0] and 1 <= column <= LARGEST[1]):
        raise ValueError(
            f"row {row}, column {column} is on no plate: rows run from 1 to {LARGEST[0]}, columns from 1 to {LARGEST[1]}"
        )
    return f"{row_name(row)}{column:02d}"


def parse_well(text: str, wells: int | tuple[int, int] | None = None) -> tuple[int, int]:
    """Read a well as people and plate readers write it (`A1`, `a01`, ` A01 `, `AF48`) into its row and column, from 1.

    Args:
        wells: the plate that it must be on, by its wells where it is a usual one, else rows and columns; any, if None.

    Raises:
        ValueError: it is no well of such a plate; the message says which wells there are.
    """
    rows, columns = LARGEST if wells is None else SHAPES[wells] if isinstance(wells, int) else wells
    match = _WELL.fullmatch(str(text).strip())
    row = row_number(match[1]) if match else 0
    column = int(match[2]) if match else 0
    if not (1 <= row <= rows and 1 <= column <= columns):
        if wells is None:
            raise ValueError(f"{str(text)!r} is no well of any plate: write a row's letter and a column's number, such as A1")
        size = wells if isinstance(wells, int) else rows * columns
        raise ValueError(f"{str(text)!r} is no well of a {size}-well plate, whose wells are A1 to {row_name(rows)}{columns}")
    return row, column


def holding(row: int, column: int) -> tuple[int, int]:
    """Give rows and columns of the smallest usual plate that has a well, or of one that ends with it where none has."""
    return next((shape for shape in SHAPES.values() if row <= shape[0] and column <= shape[1]), (row, column))


def spot_range(text: str, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Read a part of a plate: a well (`A1`), a rectangle (`A1:C6`), columns (`1-3`) or rows (`A-C`); rows and columns from 1.

    Raises:
        ValueError: it is none, or not on a plate of this shape.
    """
    rows, columns = shape
    told = str(text).strip()
    if match := re.fullmatch(r"(?:columns? )?(\d{1,2})(?: ?- ?(\d{1,2}))?", told):
        low, high = int(match[1]), int(match[2] or match[1])
        if not 1 <= low <= high <= columns:
            raise ValueError(f"{told!r}: the columns of this plate are 1 to {columns}")
        return [(r, c) for r in range(1, rows + 1) for c in range(low, high + 1)]
    if match := re.fullmatch(r"(?:rows? )?([A-Za-z]{1,2})(?: ?- ?([A-Za-z]{1,2}))?", told):
        low, high = row_number(match[1]), row_number(match[2] or match[1])
        if not 1 <= low <= high <= rows:
            raise ValueError(f"{told!r}: the rows of this plate are A to {row_name(rows)}")
        return [(r, c) for r in range(low, high + 1) for c in range(1, columns + 1)]
    first, _, last = told.partition(":")
    (top, left), (bottom, right) = parse_well(first, shape), parse_well(last or first, shape)
    if top > bottom or left > right:
        raise ValueError(f"{told!r}: write the upper left well first, such as A1:C6")
    return [(r, c) for r in range(top, bottom + 1) for c in range(left, right + 1)]
