"""Read a delimited text file as text, whoever wrote it: encoding, separator, line numbers, and whether it is whole.

A `Table` is what every reader gives and all that the later steps see: a reader of another format only has to make one.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from labloop.errors import Fault, IngestError
from labloop.parameters import Array

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}

_MAGIC = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip archive",
    b"\x89PNG": "a picture",
    b"PAR1": "a Parquet file",
}
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TEXT = re.compile(r'[^\s,;"]')
_GUARD = re.compile(r"^'(?=[=+@-])")
"""The apostrophe by which labloop's own files keep a spreadsheet from taking text for a formula."""
_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Column:
    """One column of text: its distinct cells, stripped, and for each row the place of its cell among them.

    Cells repeat (plates, units, replicates), so everything that is worked out once a distinct text is spread to the rows.
    """

    texts: Array
    """(k,) distinct texts."""
    codes: Array
    """(n,) for each row an index into `texts`."""

    @classmethod
    def of(cls, cells: list[str]) -> Column:
        codes, raw = pd.factorize(np.array(cells, dtype=object))
        stripped = np.array([_GUARD.sub("", text.strip()) for text in raw], dtype=object)
        if (stripped == raw).all():
            return cls(raw, codes)
        again, texts = pd.factorize(stripped)
        return cls(texts, again[codes])

    def spread(self, values: Array) -> Array:
        """Give each row the value of its text: (k,) to (n,)."""
        return values[self.codes]

    @property
    def cells(self) -> Array:
        """The text of every row, (n,)."""
        return self.texts[self.codes]

    @property
    def given(self) -> Array:
        """Whether each row has any text here, (n,) bool."""
        return (self.texts != "")[self.codes]

    def take(self, rows: Array) -> Column:
        """Keep only these rows."""
        return Column(self.texts, self.codes[rows])


@dataclass(frozen=True, eq=False)
class Table:
    """A file's rows as text, before anything is known of their meaning. Blank rows are left out."""

    name: str
    """The file's name without its folder."""
    sha256: str
    columns: Mapping[str, Column]
    """By the lab's own name, in the file's order; columns without a name are left out."""
    lines: Array
    """(n,) the line of the file on which each row starts, as an editor counts."""
    encoding: str
    delimiter: str
    faults: tuple[Fault, ...] = ()
    """Rows with more fields than the header has."""
    remarks: tuple[str, ...] = ()
    """What a person should know although it is no fault."""

    def __len__(self) -> int:
        return len(self.lines)

    def mark(self, rows: Array, column: str, rule: str, *values: Array) -> list[Fault]:
        """Make a fault of each of these rows (indices or a mask); each `{}` in the rule is filled from one of `values` (n,)."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if not len(rows):
            return []
        cells = self.columns[column].cells[rows].tolist() if column in self.columns else [""] * len(rows)
        filled = zip(*(value[rows].tolist() for value in values)) if values else [()] * len(rows)
        rules = [rule.format(*one) if values else rule for one in filled]
        return [Fault(line, column, text, cell) for line, text, cell in zip(self.lines[rows].tolist(), rules, cells)]


def fold(name: str) -> str:
    """Fold a column's name, so that `Measured at`, `measured_at` and `MEASURED-AT` are one."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def read_table(path: Path, known: Collection[str]) -> Table:
    """Read a delimited text file.

    Args:
        known: column names that the campaign knows; where several separators are possible, the one that shows these is right.

    Raises:
        IngestError: the file is missing, empty, binary, cut short, or has no rows or no proper header.
    """
    data = _bytes(path)
    text, encoding = decode(data, path.name)
    text, delimiter, skipped = _delimiter(text, {fold(name) for name in known}, path.name)
    header, cells, lines, faults, remarks = _records(text, delimiter, skipped, path.name)
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise IngestError(f"{path.name}: columns must have distinct names, but {', '.join(twice)} stands twice: rename one")
    columns = {name: Column.of(column) for name, column in zip(header, cells) if name}
    nameless = [i + 1 for i, (name, column) in enumerate(zip(header, cells)) if not name and any(map(str.strip, column))]
    if nameless:
        remarks.append(f"ignored column {', '.join(map(str, nameless))}, which has no name")
    if not columns:
        raise IngestError(f"{path.name}: the first line must name the columns, but it names none")
    kept = np.flatnonzero(np.any([column.given for column in columns.values()], axis=0))
    if not len(kept):
        raise IngestError(f"{path.name}: has a header but no rows: nothing was measured, or the wrong file was saved")
    return Table(
        name=path.name,
        sha256=_digest(data),
        columns={name: column.take(kept) for name, column in columns.items()},
        lines=np.array(lines, dtype=np.int64)[kept],
        encoding=encoding,
        delimiter=delimiter,
        faults=tuple(faults),
        remarks=tuple(remarks),
    )


def sha256_of(path: Path | str) -> str:
    """Give the SHA-256 of a file's bytes, by which the same file is known again.

    Raises:
        IngestError: it cannot be read.
    """
    return _digest(_bytes(Path(path)))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IngestError(f"{path}: cannot be read: {error.strerror or error}") from error


def decode(data: bytes, name: str) -> tuple[str, str]:
    """Turn a file's bytes into text, and say in which encoding they were.

    Raises:
        IngestError: the file is empty, or is no text.
    """
    if not data.strip(b" \t\r\n\x00"):
        raise IngestError(f"{name}: is empty")
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise IngestError(f"{name}: is {what}, not text: open it and save it as CSV")
    try:
        text, encoding = _text(data)
    except UnicodeDecodeError as error:
        raise IngestError(
            f"{name}: is not text in UTF-8, UTF-16 or Latin-1 (byte {error.start}): save it as CSV UTF-8"
        ) from error
    text = text.lstrip("\ufeff")
    if found := _CONTROL.search(text):
        line = len(re.findall("\r\n|\r|\n", text[: found.start()])) + 1
        raise IngestError(f"{name}: is a binary file (line {line} holds character {ord(found[0])}): save it as CSV")
    if not _TEXT.search(text):
        raise IngestError(f"{name}: is empty")
    return text, encoding


def _text(data: bytes) -> tuple[str, str]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16"), "UTF-16"
    if 4 * data.count(0) >= len(data):
        # UTF-16 without its mark: in mostly Latin text every other byte is zero.
        high = data[::2].count(0) > data[1::2].count(0)
        return data.decode("utf-16-be" if high else "utf-16-le"), "UTF-16"
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        # Windows' Latin-1 differs from the standard's only where the standard has control characters.
        return data.decode("cp1252"), "Latin-1"


def _delimiter(text: str, known: set[str], name: str) -> tuple[str, str, int]:
    """Find the separator; returns the text after Excel's `sep=` line, the separator, and how many lines were skipped."""
    if declared := re.match(r'"?sep=([,;\t])"?(\r\n|\r|\n)', text, re.IGNORECASE):
        return text[declared.end() :], declared[1], 1
    first = _TEXT.search(text)
    top = 0 if first is None else max(text.rfind(end, 0, first.start()) for end in _ENDS) + 1
    head = text[top : top + 65536]
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
    return text, found[0], 0


def _records(
    text: str, delimiter: str, skipped: int, name: str
) -> tuple[list[str], list[list[str]], list[int], list[Fault], list[str]]:
    """Split the text into header and columns; rows too long become faults, blank cells fill rows too short."""
    if (regular := _regular(text, delimiter, skipped)) is not None:
        return *regular, [], [] if text.endswith(_ENDS) else [_NO_END]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    columns: list[list[str]] = []
    lines: list[int] = []
    short: list[tuple[int, int]] = []
    faults: list[Fault] = []
    chunk: list[list[str]] = []
    last, next_line = 0, skipped + 1
    try:
        for row in reader:
            line, next_line = next_line, skipped + reader.line_num + 1
            if not row:
                continue
            if not columns:
                if not any(map(str.strip, row)):
                    continue
                header = [cell.strip() for cell in row]
                columns = [[] for _ in header]
                continue
            if len(row) != len(header):
                extra = [cell.strip() for cell in row[len(header) :]]
                if any(extra):
                    rule = f"has {len(row)} fields, the header {len(header)}: put text with a {DELIMITERS[delimiter]} in quotes"
                    faults.append(Fault(line, "the row's end", rule, delimiter.join(extra)))
                if len(row) < len(header):
                    short.append((line, len(row)))
                row = (row + [""] * len(header))[: len(header)]
            last = line
            lines.append(line)
            chunk.append(row)
            if len(chunk) == _CHUNK:
                _append(columns, chunk)
    except csv.Error as error:
        where = f"{name}: line {next_line}"
        if "unexpected end" in str(error):
            raise IngestError(f"{where}: a quote is opened and never closed: the file is cut short, export it again") from error
        raise IngestError(f"{where}: is no proper CSV: {error}") from error
    _append(columns, chunk)
    ended = text.endswith(_ENDS)
    if short and short[-1][0] == last and (not ended or all(fields != short[-1][1] for _, fields in short[:-1])):
        raise IngestError(
            f"{name}: the last row (line {last}) has {short[-1][1]} of {len(header)} fields: "
            "the file is cut short, export it again"
        )
    remarks = [] if ended else [_NO_END]
    if short:
        # Excel leaves the separators of trailing blank cells out, so a short row is one whose last cells are blank.
        remarks.append(f"{len(short)} rows end before the last column, read as blank")
    return header, columns, lines, faults, remarks


_ENDS = ("\n", "\r")
_NO_END = "no line end after the last row"


def _regular(text: str, delimiter: str, skipped: int) -> tuple[list[str], list[list[str]], list[int]] | None:
    """Split a text without quotes, all rows equally long, at one go; None for any other text."""
    if '"' in text:
        return None
    rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [line for line, row in enumerate(rows, skipped + 1) if row]
    rows = list(filter(None, rows)) or [""]
    width = rows[0].count(delimiter) + 1
    if not rows[0].replace(delimiter, "").strip() or any(row.count(delimiter) != width - 1 for row in rows):
        return None
    cells = delimiter.join(rows).split(delimiter)
    return [cell.strip() for cell in cells[:width]], [cells[i::width] for i in range(width, 2 * width)], lines[1:]


def _append(columns: list[list[str]], chunk: list[list[str]]) -> None:
    """Move a chunk of rows to the columns; few rows live at once, which spares the garbage collector."""
    for column, cells in zip(columns, zip(*chunk)):
        column.extend(cells)
    chunk.clear()
