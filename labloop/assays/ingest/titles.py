"""What the lines around a plate say of it: which plate it is, and what was read.

Shapes, from exports of the programs named: BMG MARS writes `ID1: …` and a title `Raw Data (450)`; Gen5 the line
`Plate Number<tab>Plate 1`; i-control `Label: Label1` and `Measurement Wavelength<tab>450<tab>nm`; SoftMax Pro a line
`Plate:<tab>Plate1<tab>…` whose 16th field lists the wavelengths; EnVision a small table with the columns `Plate` and `Barcode`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]

_PLATE_KEY = re.compile(r"(?:assay |micro)?plate(?: |_)?(?:number|name|id|barcode|no\.?)|barcode", re.IGNORECASE)
_PLATE_PAIR = re.compile(rf"({_PLATE_KEY.pattern}|plate)\s*[:=]\s*(.*)", re.IGNORECASE | re.DOTALL)
_NUMBERED = re.compile(r"(?:plate|platte|sheet|tabelle|feuil|table|hoja|blad)?[ #_.-]*[0-9]{0,3}", re.IGNORECASE)
"""Names that programs give by counting; they need not be the lab's."""
_COUNTED = re.compile(r"(?:plate|platte)[ #_.-]*[0-9]{1,3}", re.IGNORECASE)
"""A title that counts a plate, above its picture."""
_LABEL = re.compile(r"label\s*:\s*(.+)", re.IGNORECASE)
_WAVELENGTH = re.compile(r"(?:measurement |emission )?wavelength|(?:mess|emissions)wellenlänge", re.IGNORECASE)
_NO_TITLE = re.compile(
    r"(?:(?:start|end)?\s*(?:time|date|zeit|datum)|(?:actual )?temperatur(?:e)?|id[123]|(?:assay |micro)?plate)\b.*|~end",
    re.IGNORECASE,
)


def plate_said(rows: Rows) -> tuple[str | None, bool]:
    """Find the name that the lines give their plate; and whether it is meant as a name, not just counted."""
    for above, row in zip([[], *rows], rows):
        table = [cell.casefold() for cell in above]
        if "barcode" in table and "plate" in table and len([cell for cell in above if cell]) > 3:
            about = dict(zip(table, row))
            barcode = re.sub(r'^="(.*)"$', r"\1", about.get("barcode", ""))
            if barcode or about.get("plate"):
                return (barcode, not _NUMBERED.fullmatch(barcode)) if barcode else (f"Plate {about['plate']}", False)
    for row in rows:
        cells = [cell for cell in row if cell]
        for cell, after in zip(cells, [*cells[1:], ""]):
            pair = _PLATE_PAIR.fullmatch(cell)
            said = (pair[2] or after) if pair else after if _PLATE_KEY.fullmatch(cell) and len(cells) == 2 else ""
            if said := said.strip():
                return said, not _NUMBERED.fullmatch(said)
    titles = [cells[0] for row in rows if len(cells := [cell for cell in row if cell]) == 1 and _COUNTED.fullmatch(cells[0])]
    return titles[-1] if titles else None, False


def softmax_reads(rows: Rows) -> list[str]:
    """List the wavelengths that SoftMax Pro's line above its plates names, in the order of the plates below it."""
    for row in reversed(rows):
        if row and row[0] == "Plate:" and len(row) > 15:
            names = row[15].split()
            counts = [names[: i + 1].count(name) for i, name in enumerate(names)]
            return [f"{name} ({n})" if n > 1 else name for name, n in zip(names, counts)]
    return []


def is_softmax(rows: Rows) -> bool:
    """Whether SoftMax Pro wrote these lines; its plates have no letters before their rows."""
    return any(row and (row[0] == "Plate:" or row[0].startswith("##BLOCKS")) for row in rows)


def read_said(rows: Rows, column: int) -> str | None:
    """Find what the lines above a plate call its read: a label, else a title just above it.

    Args:
        column: where the plate's numbers begin; a title of its own may stand there, where plates stand side by side.
    """
    label = wavelength = ""
    for row in rows:
        cells = [cell for cell in row if cell]
        for cell in cells:
            if match := _LABEL.fullmatch(cell):
                label, wavelength = match[1].strip(), ""
        if len(cells) > 1 and _WAVELENGTH.fullmatch(cells[0]):
            wavelength = next((cell for cell in cells[1:] if re.fullmatch(r"[0-9]{3,4}", cell)), wavelength)
    if label or wavelength:
        return f"{label} ({wavelength})" if label and wavelength else label or wavelength
    for row in reversed(rows):
        cells = [cell for cell in row if cell]
        if not cells:
            continue
        own = next((cell for cell in row[max(column - 1, 0) : column + 1] if cell), cells[0])
        if not _NO_TITLE.fullmatch(own):
            title = " ".join(own.split())
            return title if (len(cells) == 1 or own is not cells[0]) and len(title) <= 60 else None
    return None


def matches(wanted: str, read: str) -> bool:
    """Whether a read's name has the words asked for: `450` is in `Raw Data (450)` and in `abs450:450`, not in `1450`."""
    words, asked = _words(read), _words(wanted)
    return bool(asked) and any(words[i : i + len(asked)] == asked for i in range(len(words)))


def same(one: str, other: str) -> bool:
    """Whether two names are one, but for case and blanks."""
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def mentions(name: str, text: str) -> bool:
    """Whether a text names this plate as a word of its own."""
    return re.search(rf"(?<![A-Za-z0-9-]){re.escape(name)}(?![A-Za-z0-9-])", text, re.IGNORECASE) is not None


def _words(text: str) -> list[str]:
    return re.findall(r"[0-9]+|[^\W\d_]+", text.casefold())
