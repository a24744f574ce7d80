"""The seam of readers of the lab's files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from labloop.assays.ingest.cells import Part


@runtime_checkable
class Reader(Protocol):
    """Knows a kind of file that labs send, and turns its bytes into tables of text; what the text means is not its business."""

    def recognise(self, content: bytes, name: str) -> str | None:
        """Say in one line what the file is, from a look at its beginning; None where it is of another kind. Raises nothing.

        Args:
            name: the file's name without its folder.
        """
        ...

    def read(self, content: bytes, name: str, *, known: Collection[str]) -> Sequence[Part]:
        """Read all tables, plates and reads of the file; which of them is meant is decided later.

        Gives no part where the names that the campaign knows tell that the file is a long table: that reader then takes it.

        Args:
            known: column names that the campaign knows.

        Raises:
            IngestError: the file is damaged, cut short or not what it seemed to be.
        """
        ...
