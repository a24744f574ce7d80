"""Wells by name: rows and columns count from 1, the first well is `A01`."""

from __future__ import annotations

import re

SHAPES = {96: (8, 12), 384: (16, 24)}
"""Rows and columns of the plates there are."""

_ROWS = "ABCDEFGHIJKLMNOP"

_WELL = re.compile(r"([A-Za-z])0{0,2}([1-9][0-9]?)")


def well_name(row: int, column: int) -> str:
    """Name the well in a row and a column, both counted from 1, as `A01`.

    Raises:
        ValueError: no 384-well plate has that row and column.
    """
    if not (1 <= row <= SHAPES[384][0] and 1 <= column <= SHAPES[384][1]):
        raise ValueError(f"row {row}, column {column} is on no plate: rows run from 1 to 16, columns from 1 to 24")
    return f"{_ROWS[row - 1]}{column:02d}"


def parse_well(text: str, wells: int = 384) -> tuple[int, int]:
    """Read a well as people and plate readers write it (`A1`, `a01`, ` A01 `) into its row and column, counted from 1.

    Args:
        wells: 96 or 384, the plate that it must be on.

    Raises:
        ValueError: it is no well of such a plate; the message says which wells there are.
    """
    rows, columns = SHAPES[wells]
    match = _WELL.fullmatch(str(text).strip())
    row = _ROWS.find(match[1].upper()) + 1 if match else 0
    column = int(match[2]) if match else 0
    if not (1 <= row <= rows and 1 <= column <= columns):
        raise ValueError(f"{str(text)!r} is no well of a {wells}-well plate, whose wells are A1 to {_ROWS[rows - 1]}{columns}")
    return row, column
