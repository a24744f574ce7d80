"""Witnesses outside of the database: after each verb that wrote, its campaign's last link is noted in a small file beside it.

A chain vouches for what stands in it, never for links that are gone together with their rows. Whoever empties, shortens or
exchanges the database would have to rewrite this file too. It is only ever added to, a line of JSON a verb, so that processes
need not wait for each other and a crash costs a line at most; a file that lags behind the ledger is no fault.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

log = logging.getLogger("labloop")

ENDING = ".heads"
"""What the file is named after the ledger's."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """Where a campaign's chain ended at a moment."""

    campaign: str
    """Its name."""
    id: int
    """Its number in the ledger."""
    links: int
    """The last link's number."""
    head: str
    """The last link's hash."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows by table."""
    at: str = ""
    """When the link was written, ISO 8601 in UTC."""

    @property
    def size(self) -> str:
        """What it stands for, in words."""
        readings = f", {self.rows['measurement']:,} of them readings" if self.rows.get("measurement") else ""
        return f"{self.links} link{'s' if self.links > 1 else ''}, {sum(self.rows.values()):,} rows{readings}"


@dataclass(frozen=True)
class Heads:
    """The file of a ledger's heads; without a path nothing is noted and nothing is known."""

    path: Path | None
    ledger: str = ""
    """Which ledger the lines are of, where the file is not one ledger's own: a server's, in a home folder."""

    def note(self, heads: Iterable[Head]) -> None:
        """Add heads; that it cannot be done is logged, as what they are of is in the ledger already."""
        self._append([vars(head) for head in heads])

    def accept(self, heads: Iterable[Head], *, by: str, reason: str) -> None:
        """Let nothing that was noted so far count any more, and note these.

        Raises:
            OSError: the file cannot be written.
        """
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        self._append([{"accepted": reason, "by": by, "at": at}, *(vars(head) for head in heads)], strict=True)

    def read(self) -> tuple[list[Head], list[str]]:
        """Give what was noted since the last acceptance, in order, and say which lines cannot be read."""
        if self.path is None:
            return [], []
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], []
        except OSError as error:
            return [], [f"{self.path.name}: cannot be read ({error.strerror})"]
        heads: list[Head] = []
        faults: list[str] = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            row = _row(line)
            if row is None:
                faults.append(f"{self.path.name}: line {number} is damaged and tells nothing")
            elif row.get("ledger", "") != self.ledger:
                continue
            elif "accepted" in row:
                heads, faults = [], []
            else:
                heads.append(Head(**{name: row[name] for name in ("campaign", "id", "links", "head", "rows", "at")}))
        return heads, faults

    def _append(self, rows: list[dict[str, Any]], *, strict: bool = False) -> None:
        if self.path is None or not rows:
            return
        if self.ledger:
            rows = [{"ledger": self.ledger, **row} for row in rows]
        try:
            new = not self.path.exists()
            with self.path.open("ab+", buffering=0) as file:
                begun = file.seek(0, os.SEEK_END)
                if begun:
                    file.seek(begun - 1)
                torn = begun > 0 and file.read(1) != b"\n"  # a process died, or the disk was full, in the middle of a line
                file.write(b"\n" * torn + b"".join(map(_line, rows)))
                os.fsync(file.fileno())
            if new:
                self._share()
        except OSError as error:
            if strict:
                raise
            log.warning(
                "%s: cannot be written (%s): what was stored is in the ledger, but `labloop verify` would not miss it",
                self.path, error.strerror,
            )  # fmt: skip

    def _share(self) -> None:
        """Let whoever may write the ledger write this file too."""
        assert self.path is not None
        with suppress(OSError):
            self.path.chmod(self.path.with_name(self.path.name.removesuffix(ENDING)).stat().st_mode & 0o666)


def _line(row: Mapping[str, Any]) -> bytes:
    text = json.dumps(row, ensure_ascii=False, default=dict)
    return f"{crc32(text.encode()):08x} {text}\n".encode()


def _row(line: bytes) -> dict[str, Any] | None:
    """Give a line's content; None where it is not as it was written."""
    if line[8:9] != b" " or f"{crc32(line[9:]):08x}".encode() != line[:8]:
        return None
    row = json.loads(line[9:])
    return row if isinstance(row, dict) else None


def lost(noted: Iterable[Head], chains: Mapping[int, tuple[list[str], str]]) -> list[str]:
    """Hold noted heads against the chains of a ledger; says what is missing, one sentence a campaign.

    Args:
        chains: by the campaign's number, the hashes of its links in order, and its name.
    """
    furthest: dict[int, Head] = {}
    others: dict[int, Head] = {}
    for one in noted:
        hashes, _ = chains.get(one.id, ([], ""))
        if one.links <= len(hashes) and hashes[one.links - 1] == one.head:
            continue
        into = furthest if one.links > len(hashes) else others
        if one.id not in into or one.links >= into[one.id].links:
            into[one.id] = one
    said = []
    for key in sorted({*furthest, *others}):
        if (gone := furthest.get(key)) is not None and not chains.get(key, ([], ""))[0]:
            said.append(f"campaign {gone.campaign} is gone: {gone.size} were noted, the last of {gone.at}")
        elif gone is not None:
            have = len(chains[key][0])
            missing = f"link {gone.links} is" if gone.links == have + 1 else f"links {have + 1} to {gone.links} are"
            said.append(f"campaign {gone.campaign}: {missing} missing: {gone.size} were noted, the last of {gone.at}")
        else:
            one = others[key]
            said.append(
                f"campaign {one.campaign}: link {one.links} is not the one that was noted ({one.at}): the chain was written "
                "anew, or goes on from an older copy"
            )
    return said
