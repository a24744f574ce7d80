"""What was laid out and what was measured: made up, so that every file's content is known without reading it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

LETTERS = "ABCDEFGHIJKLMNOP"
_EIGHTS = ["".join(letters) for letters in product("ACGT", repeat=8)]


def _plate(wells: list[str], controls: dict[str, str], start: int) -> dict[str, tuple[str, str]]:
    """Give every well its design or its control: the well to (dna, control), one of them blank."""
    return {
        well: ("", controls[well]) if well in controls else (_EIGHTS[(start + i) * 2711 % 32768], "")
        for i, well in enumerate(wells)
    }


_SMALL = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in (1, 2)][:14]
_WIDE = [f"{row}{column:02d}" for row in "AP" for column in (1, 2, 23, 24)]
PLATES = {
    ("six6", "six6-R01-P1"): _plate(_SMALL, {"A01": "positive", "D02": "negative"}, 1),
    ("six6", "six6-R01-P2"): _plate(_SMALL, {"B01": "positive", "E02": "negative"}, 21),
    ("wide", "wide-R01-P1"): _plate(_WIDE, {"A01": "positive"}, 41),
}
P1, P2, WIDE = (plate for _, plate in PLATES)


def wells(plate: str) -> list[str]:
    """List a plate's used wells, row after row."""
    return sorted(next(held for (_, name), held in PLATES.items() if name == plate))


def values(plate: str, scale: float = 1.0, digits: int = 3) -> dict[str, str]:
    """Give every used well of a plate its measured value, as text."""
    start = 0.052 if plate == P1 else 0.061
    return {well: f"{(start + 0.083 * i) * scale:.{digits}f}" for i, well in enumerate(wells(plate))}


@dataclass
class Told:
    """What stands in the index beside a file: how to read it, and what comes of it."""

    trouble: str
    """What makes it hard, for the table in the README."""
    campaign: str = "six6"
    options: dict[str, Any] = field(default_factory=dict)
    """`read`, `plates` and `assay` as given to ingest; `waiting`: the plates that wait for results."""
    reader: str = ""
    rows: list[list[Any]] | None = None
    """plate, well, value, qualifier, status; or design, value for files that write designs out."""
    message: str = ""
    """What a refusal says."""


def rows_of(plate: str, measured: dict[str, str], odd: dict[str, tuple[float | None, str, str]] | None = None) -> list[list[Any]]:
    """List what becomes of a plate's wells: plain values are `=` and `ok`; `odd` gives the others."""
    out = []
    for well in sorted(measured):
        value, qualifier, status = (odd or {}).get(well, (None, "", ""))
        if not status:
            value, qualifier, status = float(measured[well]), "=", "ok"
        out.append([plate, well, value, qualifier, status])
    return out


def grid(
    measured: dict[str, str], *, rows: int = 8, columns: int = 12, corner: str = "", sep: str = ",", tail: str | None = None
) -> list[str]:
    """Draw a plate: the line of column numbers, then a line a row; `tail` stands behind every row."""
    lines = [sep.join([corner, *map(str, range(1, columns + 1))])]
    for letter in LETTERS[:rows]:
        cells = [measured.get(f"{letter}{column:02d}", "") for column in range(1, columns + 1)]
        lines.append(sep.join([letter, *cells, *([tail] if tail else [])]))
    return lines


def text(lines: list[str], end: str = "\n") -> str:
    return end.join(lines) + end


def comma(measured: dict[str, str]) -> dict[str, str]:
    """Write the values with a decimal comma."""
    return {well: value.replace(".", ",") for well, value in measured.items()}
