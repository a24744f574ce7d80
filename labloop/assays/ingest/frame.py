"""What stands around a table: lines about the measurement above its header, remarks of the software or of a person below it."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence

from labloop.assays.ingest.cells import fold
from labloop.assays.ingest.text import DELIMITERS

_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|$)")
_ABOVE = 60
"""Lines above a header that are looked through for it."""
_BELOW = 8192
"""Characters at the end of a file that are looked through for remarks."""
_WELL = re.compile(r"[A-Za-z]{1,2}0{0,2}[1-9][0-9]?")


def header_at(rows: Sequence[Sequence[str]], known: Collection[str]) -> int:
    """Find the row that names the columns: the first, unless one further down has more names that the campaign knows.

    Where it knows none, the first that is as wide as most rows, so that people can be told what the file has.

    Args:
        rows: the first rows of a file or a sheet.
        known: folded names.
    """
    scores = [sum(fold(cell) in known for cell in row) for row in rows[:_ABOVE]]
    first = next((i for i, row in enumerate(rows) if any(map(str.strip, row))), 0)
    if not scores or scores[first] >= 2:
        return first
    best = max(scores)
    if best >= 2 or scores[first]:
        return scores.index(best) if best >= 2 else first
    widths = [reach(row) for row in rows[:_ABOVE]]
    ((usual, _),) = Counter(filter(None, widths)).most_common(1) or [(0, 0)]
    return next((i for i, width in enumerate(widths) if width >= max(usual, 1)), first)


def reach(cells: Sequence[str]) -> int:
    """How many cells there are up to the last one that holds anything."""
    return max((i for i, cell in enumerate(cells, start=1) if cell.strip()), default=0)


def preamble(text: str, known: Collection[str]) -> tuple[int, list[str]]:
    """Measure what stands above a text's header: how many characters, and the lines."""
    ends, lines = [], []
    for match in _LINE.finditer(text):
        lines.append(match[1])
        ends.append(match.end())
        if len(lines) == 1 and max(len(_names(match[1], one, known)) for one in DELIMITERS) >= 2:
            return 0, []  # the usual file begins with its header
        if len(lines) == _ABOVE or not match[2]:
            break
    heights = [header_at([cells_of(line, delimiter) for line in lines], known) for delimiter in DELIMITERS]
    names = [len(_names(lines[height], delimiter, known)) for height, delimiter in zip(heights, DELIMITERS)]
    if max(names) == 1:
        return 0, []
    cells = [len(cells_of(lines[height], delimiter)) for height, delimiter in zip(heights, DELIMITERS)]
    height = max(zip(names, cells, heights))[2]
    return (ends[height - 1], lines[:height]) if height else (0, [])


def footer(text: str, delimiter: str, width: int) -> tuple[int, list[str]]:
    """Find where the remarks below a table begin: after a blank line, and nothing like a row. Returns the place, and the lines.

    Args:
        width: fields of the header.
    """
    start = max(0, len(text) - _BELOW)
    lines = [(match.start(), match[1]) for match in _LINE.finditer(text, start)][1 if start else 0 :]
    blank = [not line.strip(f"{delimiter} \t") for _, line in lines]
    end, place = len(lines), len(text)
    while True:
        while end and blank[end - 1]:
            end -= 1
        top = end
        while top and not blank[top - 1]:
            top -= 1
        if not top or not all(
            is_remark(cells_of(line, delimiter), width) and not line.count('"') % 2 for _, line in lines[top:end]
        ):
            break
        place, end = lines[top][0], top
    return place, [line for line in re.split("\r\n|\r|\n", text[place:]) if line.strip(f"{delimiter} \t")]


def is_remark(cells: Sequence[str], width: int) -> bool:
    """Tell a remark from a row: one text, or a key and its value, that name no well and do not fill the columns."""
    given = [cell.strip() for cell in cells if cell.strip()]
    if not given or len(given) > 2 or any(_WELL.fullmatch(cell) for cell in given):
        return False
    if given[0][0] in "#*~[" or given[0].endswith(":") or (len(given) == 1 and ": " in given[0]):
        return True
    return len(given) == 1 and len(given[0].split()) > 2 and len(cells) < width


def cells_of(line: str, delimiter: str) -> list[str]:
    """Split one line by itself: a stray quote in a remark must not swallow the lines below it."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a field beyond csv's limit
        return line.split(delimiter)


def _names(line: str, delimiter: str, known: Collection[str]) -> list[str]:
    return [cell for cell in cells_of(line, delimiter) if fold(cell) in known]
