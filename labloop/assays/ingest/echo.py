"""The reader of Echo transfer reports: wells that the dispenser did not fill are failed before they are ever measured.

The report's shape is that of Labcyte Echo Plate Reformat 1.7: `key,value` lines, then the tables `[EXCEPTIONS]` and
`[DETAILS]` with, among others, the columns Destination Plate Name, Destination Plate Barcode, Destination Well and
Transfer Status, which is empty where all went well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from labloop.assays.ingest.cells import Part, count, fold
from labloop.assays.ingest.frame import cells_of
from labloop.assays.ingest.long import tabulate
from labloop.assays.ingest.text import decode, peek
from labloop.config.policies import TRANSFER
from labloop.errors import IngestError
from labloop.registry import plugin

_SECTION = re.compile(r"^\[(EXCEPTIONS|DETAILS)\]", re.MULTILINE)
_NEEDED = ("destinationplatename", "destinationwell", "transferstatus")


@plugin
class EchoReport:
    """Transfer reports of an Echo: the wells that were not filled, as failed; filled ones say nothing yet."""

    def recognise(self, content: bytes, name: str) -> str | None:
        """Its sections and its column of transfer statuses."""
        text = peek(content)
        return "an Echo transfer report" if _SECTION.search(text) and "Transfer Status" in text else None

    def read(self, content: bytes, name: str, *, known: Collection[str]) -> Sequence[Part]:
        """List the failed transfers, one row a well, with status and the machine's own words.

        Raises:
            IngestError: a section lacks its columns, or every transfer was done.
        """
        text, encoding = decode(content, name)
        header: dict[str, int] | None = None
        fresh = False
        rows: dict[tuple[str, str], tuple[int, str]] = {}
        done = 0
        for line, cells in enumerate((cells_of(line, ",") for line in re.split("\r\n|\r|\n", text)), 1):
            cells = [cell.strip() for cell in cells]
            if cells and _SECTION.match(cells[0]):
                header, fresh = None, True
            elif fresh:
                header, fresh = {fold(cell): i for i, cell in enumerate(cells)}, False
                if missing := [one for one in _NEEDED if one not in header]:
                    raise IngestError(f"{name}: line {line}: an Echo report without the column {missing[0]!r}: export it again")
            elif header is not None and not any(cells):
                header = None
            elif header is not None:
                if len(cells) != len(header):
                    raise IngestError(
                        f"{name}: line {line}: has {len(cells)} of {len(header)} fields: the file is cut short, export it again"
                    )
                said = {one: cells[i] for one, i in header.items()}
                plate = said.get("destinationplatebarcode") or said["destinationplatename"]
                if said["transferstatus"]:
                    rows.setdefault((plate, said["destinationwell"]), (line, said["transferstatus"]))
                else:
                    done += 1
        if not rows:
            raise IngestError(f"{name}: every transfer of this Echo report was done ({done}): there is nothing to ingest")
        return [
            _part(name, encoding, plate, {well: row for (on, well), row in rows.items() if on == plate}, done)
            for plate in dict.fromkeys(plate for plate, _ in rows)
        ]


def _part(name: str, encoding: str, plate: str, failed: dict[str, tuple[int, str]], done: int) -> Part:
    lines = [line for line, _ in failed.values()]
    n = len(lines)
    table = tabulate(
        name, ["well", "value", "status", "note"],
        [list(failed), [""] * n, ["failed_technical"] * n, [f"{TRANSFER}{said}" for _, said in failed.values()]], lines,
        form=f"{encoding}, Echo transfer report",
        remarks=[f"{count(n, 'failed transfer')} to {plate}, {done} done"],
    )  # fmt: skip
    return Part(table=table, where=f"the transfers to {plate}", plate=plate, firm=re.fullmatch(r"\w+\[\d+\]", plate) is None)
