"""The reader of plates drawn as grids in text, as plate readers export them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from labloop.assays.ingest.blocks import DrawnPlate, Sheet, find_blocks
from labloop.assays.ingest.cells import Column, Part, Table, fold
from labloop.assays.ingest.frame import cells_of
from labloop.assays.ingest.parse import is_reading, shown_mark
from labloop.assays.ingest.text import DELIMITERS, ENDS, decode, peek
from labloop.assays.ingest.titles import is_softmax, plate_said, read_said, softmax_reads
from labloop.errors import IngestError
from labloop.plates.wells import row_number, well_name
from labloop.registry import plugin

_HEADER = re.compile(
    r'(?:<>|[\r\n,;\t]|^)"?\s*0?1(?:\.0)?\s*"?([,;\t])"?\s*0?2(?:\.0)?\s*"?\1"?\s*0?3(?:\.0)?\s*"?(?:\1|[\r\n]|$)'
)
_CORNER = re.compile(r'<>"?([,;\t])')
_LAYOUT = re.compile(r"(?:plate ?)?(?:layout|map)|template", re.IGNORECASE)


@plugin
class GridText:
    """Plates drawn as grids in text, from 2 x 3 to 32 x 48: BMG MARS, Gen5, i-control, SoftMax Pro, EnVision, or by hand."""

    def recognise(self, content: bytes, name: str) -> str | None:
        """A line of column numbers, with rows of a plate below it."""
        text = peek(content)
        found = _HEADER.search(text) or _CORNER.search(text)
        if found is None:
            return None
        try:
            grids = sum(map(len, find_blocks(_sheet(text, found[1], name))))
        except IngestError:
            return "plate grids"
        return "plate grids" if grids else None

    def read(self, content: bytes, name: str, *, known: Collection[str]) -> Sequence[Part]:
        """Read every plate and read of the file; none where it is a table with rows that look like one.

        Raises:
            IngestError: the file is no text, or a plate in it is cut short or has a gap.
        """
        text, encoding = decode(content, name)
        found = _HEADER.search(text) or _CORNER.search(text)
        if found is None:
            raise IngestError(f"{name}: has no line of column numbers 1, 2, 3, … above a plate's rows")
        sheet = _sheet(text, found[1], name)
        form = f"{encoding}, {DELIMITERS[found[1]]}-separated"
        return parts_of(sheet, {fold(one) for one in known}, form=form, delimiter=found[1])


def parts_of(sheet: Sheet, known: Collection[str], *, form: str, delimiter: str) -> list[Part]:
    """Make a part of every plate and read that a sheet draws; layouts and empty plates are left out, with a remark.

    Args:
        known: folded names of columns that the campaign knows.

    Raises:
        IngestError: a plate is cut short or has a gap, or none was measured.
    """
    parts: list[Part] = []
    passed: list[str] = []
    found = find_blocks(sheet, known)
    drawn = {row for blocks in found for row in range(blocks[0].top, blocks[0].bottom + 1)}
    decimal = shown_mark("\n".join("\n".join(row) for i, row in enumerate(sheet.rows) if i not in drawn))
    texts: tuple[str, ...] = (sheet.name,)
    after, plate, firm = 0, sheet.name or None, False
    for blocks in found:
        section = sheet.rows[after : blocks[0].top]
        after = blocks[0].bottom + 1
        text = "\n".join(" ".join(filter(None, row)) for row in section)
        said = plate_said(section)
        if said[0] is not None and said != (plate, firm):
            (plate, firm), texts = said, (f"{text}\n{sheet.name}",)
        else:
            texts = (f"{text}\n{sheet.name}", *texts)  # a further read of the plate above, unless its own lines tell otherwise
        for i, block in enumerate(blocks):
            title = _title(section, blocks, i, sheet)
            for label in dict.fromkeys(cell.label for cell in block.cells):
                cells = [cell for cell in block.cells if cell.label == label]
                where = f"{f'sheet {sheet.name}, rows' if sheet.name else 'lines'} {block.top + 1}-{block.bottom + 1}"
                if not any(is_reading(cell.text) for cell in cells) or (title is not None and _LAYOUT.fullmatch(title)):
                    passed.append(f"{'a layout' if any(cell.text for cell in cells) else 'an empty plate'} on {where}")
                    continue
                typed = frozenset(filter(None, (sheet.typed.get((cell.row, block.place(cell))) for cell in cells)))
                table = Table(
                    name=sheet.file,
                    columns={
                        "well": Column.of([well_name(row_number(cell.letter), cell.column) for cell in cells]),
                        "value": Column.of([cell.text for cell in cells]),
                    },
                    lines=np.array([cell.row + 1 for cell in cells], dtype=np.int64),
                    form=form,
                    delimiter=delimiter,
                    decimal=decimal,
                    typed={"value": typed} if typed else {},
                    places=np.array(
                        [f"{f'sheet {sheet.name}, ' if sheet.name else ''}well {cell.letter}{cell.column}" for cell in cells],
                        dtype=object,
                    ),
                    remarks=tuple(block.remarks),
                )
                parts.append(
                    Part(table=table, where=where, grid=block.shape, read=label or title, plate=plate, firm=firm, texts=texts)
                )
    if passed and not parts:
        raise IngestError(f"{sheet.file}: holds no measured plate, only {', '.join(passed)}")
    if passed:
        first = parts[0]
        parts[0] = replace(first, table=replace(first.table, remarks=(*first.table.remarks, f"passed over {', '.join(passed)}")))
    return parts


def _title(section: Sequence[Sequence[str]], blocks: Sequence[DrawnPlate], i: int, sheet: Sheet) -> str | None:
    """Name the read of the i-th plate of those that stand side by side."""
    if is_softmax(section):
        reads = softmax_reads(section)
        return reads[i] if i < len(reads) else None
    if is_softmax(sheet.rows[: blocks[0].top]) and not any(sheet.cell(blocks[0].top, j) for j in range(blocks[0].left)):
        return "Reduced"
    return read_said(section, blocks[i].left)


def _sheet(text: str, delimiter: str, name: str) -> Sheet:
    lines = re.split("\r\n|\r|\n", text)
    ended = text.endswith(ENDS)
    rows = [[cell.strip() for cell in cells_of(line, delimiter)] for line in (lines[:-1] if ended else lines)]
    return Sheet(file=name, rows=rows, ended=ended)
