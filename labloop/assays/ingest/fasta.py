"""The reader of FASTA: sequences under headers, with values or other parameters in the header where somebody wrote them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from labloop.assays.ingest.cells import Part
from labloop.assays.ingest.long import tabulate
from labloop.assays.ingest.text import CELLS, decode, peek
from labloop.config.assay import ROLES
from labloop.errors import IngestError
from labloop.registry import plugin

_ID = re.compile(r"[0-9a-f]{12}")
_PAIR = re.compile(r"([^\s=]+)=(\S*)")
_LETTERS = re.compile(r"[A-Za-z*.\-\s]*")


@plugin
class FastaText:
    """Sequences as FASTA, `>name value=0.7` above each: a row a sequence; pairs in a header are columns."""

    def recognise(self, content: bytes, name: str) -> str | None:
        """A first line that begins with `>`, and a line of letters below it."""
        lines = [line.strip() for line in peek(content).splitlines() if line.strip() and not line.startswith(";")]
        return "FASTA" if len(lines) > 1 and lines[0].startswith(">") and _LETTERS.fullmatch(lines[1]) else None

    def read(self, content: bytes, name: str, *, known: Collection[str]) -> Sequence[Part]:
        """Read every sequence, those over several lines too; the column of sequences is named as the campaign names it.

        Raises:
            IngestError: the file is no text, does not begin with a header, or a header has no sequence.
        """
        text, encoding = decode(content, name)
        rows: list[dict[str, str]] = []
        lines: list[int] = []
        written = {
            pair[1] for line in text.splitlines() if line.startswith(">") for pair in map(_PAIR.fullmatch, line.split()) if pair
        }
        # A campaign names its space's columns right after labloop's own; the sequence is the first that no header has.
        own = next((one for one in known if one not in ROLES and one not in written), "sequence")
        for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
            if not line or line.startswith(";"):
                continue
            if line.startswith(">"):
                rows.append({**_header(line[1:]), own: ""})
                lines.append(number)
            elif not rows:
                raise IngestError(f"{name} line {number}: a sequence stands before the first header: FASTA begins with >name")
            else:
                rows[-1][own] += "".join(line.split())
        for number, row in zip(lines, rows, strict=True):
            if not row[own]:
                raise IngestError(
                    f"{name} line {number}: the header {row.get('name', '')!r} has no sequence below it: take it out"
                )
        header = list(dict.fromkeys(key for row in rows for key in row))
        if len(header) * len(rows) > CELLS:
            raise IngestError(f"{name}: its headers make {len(header):,} columns of {len(rows):,} rows, too many to read at once")
        cells = [[row.get(key, "") for row in rows] for key in header]
        return [Part(table=tabulate(name, header, cells, lines, form=f"{encoding}, FASTA", remarks=()), where="the sequences")]


def _header(text: str) -> dict[str, str]:
    """Read what stands behind `>`: a name, labloop's id where its own export wrote one, and pairs `key=value`."""
    words = text.split()
    found = {"name": words[0] if words and "=" not in words[0] else ""}
    for word in words:
        if pair := _PAIR.fullmatch(word):
            found[pair[1]] = pair[2]
        elif word is not words[0] and _ID.fullmatch(word):
            found["design_id"] = word
    return found
