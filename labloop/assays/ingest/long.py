"""The reader of long tables: delimited text with a header, one row a well."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import methodcaller

import numpy as np

from labloop.assays.ingest.cells import Column, Part, Table, count, fold, listed
from labloop.assays.ingest.frame import cells_of, footer, preamble
from labloop.assays.ingest.text import DELIMITERS, ENDS, SOME_TEXT, decode, peek
from labloop.assays.ingest.titles import plate_said
from labloop.errors import Fault, IngestError
from labloop.registry import plugin

_CHUNK = 8192
_HEAD = 65536
_KINETIC = re.compile(r'^"?(?:cycle nr\.|cycles / well|zyklus nr\.|zyklen / well)"?[,;\t]', re.IGNORECASE | re.MULTILINE)
_NO_END = "no line end after the last row"


class NoRowsError(IngestError):
    """A table with a header alone."""


@plugin
class LongText:
    """Delimited text, one row a well: comma, semicolon or tab, point or comma, in the usual encodings."""

    def recognise(self, content: bytes, name: str) -> str | None:
        """Any text may be a long table; a reader that knows the format better comes first."""
        return "a long table" if SOME_TEXT.search(peek(content)) else None

    def read(self, content: bytes, name: str, *, known: Collection[str]) -> Sequence[Part]:
        """Read the table; lines about the measurement above the header and remarks below the rows are passed over.

        Raises:
            IngestError: the file is empty, binary, cut short, or has no rows or no proper header.
        """
        text, encoding = decode(content, name)
        if _KINETIC.search(text[:_HEAD]):
            raise IngestError(
                f"{name}: is a kinetic run (cycles or times of every well): export one value a well, such as the endpoint"
            )
        folded = {fold(one) for one in known}
        skipped, declared = 0, re.match(r'"?sep=([,;\t])"?(\r\n|\r|\n)', text, re.IGNORECASE)
        if declared:
            text, skipped = text[declared.end() :], 1
        above, about = preamble(text, folded)
        text, skipped = text[above:], skipped + len(about)
        delimiter = declared[1] if declared else _delimiter(text, folded, name)
        below, remarks = footer(text, delimiter, _header_line(text).count(delimiter) + 1)
        parsed = _records(text[:below], delimiter, skipped, name)
        passed = [
            f"passed over {count(len(some), 'line')} {side}" for side, some in (("above", about), ("below", remarks)) if some
        ]
        table = tabulate(
            name, parsed.header, parsed.columns, parsed.lines,
            form=f"{encoding}, {DELIMITERS[delimiter]}-separated", remarks=[*parsed.remarks, *passed],
        )  # fmt: skip
        table = replace(table, delimiter=delimiter, faults=tuple(parsed.faults))
        plate, firm = plate_said([cells_of(line, delimiter) for line in about])
        return [Part(table=table, where="the table", plate=plate, firm=firm, texts=("\n".join(about),))]


def tabulate(
    name: str, header: Sequence[str], cells: Sequence[Sequence[str]], lines: Sequence[int], *, form: str, remarks: Sequence[str]
) -> Table:
    """Make a table of a header and its columns; blank rows and nameless columns are left out.

    Raises:
        IngestError: the header names nothing, or one thing twice, or there are no rows.
    """
    twice = sorted({one for one in header if one and header.count(one) > 1})
    if twice:
        raise IngestError(f"{name}: columns must have distinct names, but {', '.join(twice)} stands twice: rename one")
    columns = {one: Column.of(column) for one, column in zip(header, cells) if one}
    nameless = [i + 1 for i, (one, column) in enumerate(zip(header, cells)) if not one and any(map(str.strip, column))]
    if nameless:
        remarks = [*remarks, f"ignored column {', '.join(map(str, nameless))}, which has no name"]
    if not columns:
        raise IngestError(f"{name}: the first line must name the columns, but it names none")
    kept = np.flatnonzero(np.any([column.given for column in columns.values()], axis=0))
    if not len(kept):
        raise NoRowsError(f"{name}: has a header but no rows: nothing was measured, or the wrong file was saved")
    return Table(
        name=name,
        columns={one: column.take(kept) for one, column in columns.items()},
        lines=np.array(lines, dtype=np.int64)[kept],
        form=form,
        remarks=tuple(remarks),
    )


def _header_line(text: str) -> str:
    """The first line that says anything."""
    top = _top(text)
    return re.split("[\r\n]", text[top : top + _HEAD], maxsplit=1)[0]


def _top(text: str) -> int:
    first = SOME_TEXT.search(text)
    return 0 if first is None else max(text.rfind(end, 0, first.start()) for end in ENDS) + 1


def _delimiter(text: str, known: Collection[str], name: str) -> str:
    """Find the separator: the one that shows the campaign's names, else the one that cuts all rows alike."""
    top = _top(text)
    head = text[top : top + _HEAD]
    ranks = {}
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in islice(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), 50) if any(row)]
        except csv.Error as error:
            raise IngestError(f"{name}: is no CSV: {error}") from error
        header = rows[0]
        whole = rows[1 : len(rows) - (top + len(head) < len(text))]
        alike = float(np.mean([len(row) == len(header) for row in whole])) if whole else 1.0
        ranks[delimiter] = (sum(fold(cell) in known for cell in header), alike if len(header) > 1 else 0.0, len(header))
    best = max(ranks.values())
    found = [delimiter for delimiter, rank in ranks.items() if rank == best]
    if len(found) > 1 and best[2] > 1:
        choices = " or ".join(DELIMITERS[one] for one in found)
        raise IngestError(
            f"{name}: columns may be separated by {choices}: put 'sep={found[0]}' or the right one on the first line"
        )
    return found[0]


@dataclass
class _Records:
    """A text split into columns, while it is being read."""

    header: list[str]
    columns: list[list[str]]
    lines: list[int]
    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def _records(text: str, delimiter: str, skipped: int, name: str) -> _Records:
    """Split the text into header and columns; rows too long become faults, blank cells fill rows too short."""
    ended = text.endswith(ENDS)
    if (found := _regular(text, delimiter, skipped)) is not None:
        found.remarks += [] if ended else [_NO_END]
        return found
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found = _Records([], [], [])
    short: list[tuple[int, int]] = []
    parked: list[int] = []
    chunk: list[list[str]] = []
    next_line = skipped + 1
    try:
        for row in reader:
            line, next_line = next_line, skipped + reader.line_num + 1
            width = len(found.header)
            if not row:
                continue
            if not width:
                if any(map(str.strip, row)):
                    found.header = [cell.strip() for cell in row]
                    found.columns = [[] for _ in row]
                continue
            if len(row) != width:
                extra = [cell.strip() for cell in row[width:]]
                if any(extra[:1]):
                    rule = f"has {len(row)} fields, the header {width}: put text with a {DELIMITERS[delimiter]} in quotes"
                    found.faults.append(Fault(line, "the row's end", rule, delimiter.join(extra)))
                elif any(extra):
                    parked.append(line)  # a gap keeps figures that somebody put beside the table apart from it
                if len(row) < width:
                    short.append((line, len(row)))
                row = (row + [""] * width)[:width]
            found.lines.append(line)
            chunk.append(row)
            if len(chunk) == _CHUNK:
                _append(found.columns, chunk)
    except csv.Error as error:
        where = f"{name}: line {next_line}"
        if "unexpected end" in str(error):
            raise IngestError(f"{where}: a quote is opened and never closed: the file is cut short, export it again") from error
        raise IngestError(f"{where}: is no proper CSV: {error}") from error
    _append(found.columns, chunk)
    last = found.lines[-1] if found.lines else 0
    if short and short[-1][0] == last and (not ended or all(fields != short[-1][1] for _, fields in short[:-1])):
        raise IngestError(
            f"{name}: the last row (line {last}) has {short[-1][1]} of {len(found.header)} fields: "
            "the file is cut short, export it again"
        )
    found.remarks += [] if ended else [_NO_END]
    if short:
        # Excel leaves the separators of trailing blank cells out, so a short row is one whose last cells are blank.
        found.remarks.append(f"{len(short)} rows end before the last column, read as blank")
    if parked:
        found.remarks.append(f"ignored what stands to the right of the columns on line {listed(map(str, parked))}")
    return found


def _regular(text: str, delimiter: str, skipped: int) -> _Records | None:
    """Split a text without quotes, all rows equally long, at one go; None for any other text."""
    if '"' in text:
        return None
    rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = np.arange(skipped + 1, skipped + 1 + len(rows))
    if "" in rows:
        lines = lines[np.fromiter(map(bool, rows), dtype=bool, count=len(rows))]
        rows = list(filter(None, rows)) or [""]
    width = rows[0].count(delimiter) + 1
    if not rows[0].replace(delimiter, "").strip() or set(map(methodcaller("count", delimiter), rows)) != {width - 1}:
        return None
    cells = delimiter.join(rows).split(delimiter)
    columns = [cells[i::width] for i in range(width, 2 * width)]
    return _Records([cell.strip() for cell in cells[:width]], columns, lines[1:].tolist())


def _append(columns: list[list[str]], chunk: list[list[str]]) -> None:
    """Move a chunk of rows to the columns; few rows live at once, which spares the garbage collector."""
    for column, cells in zip(columns, zip(*chunk)):
        column.extend(cells)
    chunk.clear()
