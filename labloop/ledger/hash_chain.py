"""The chain: each verb that writes closes with a link that vouches for its rows and for all links before it.

A link holds, for each table that the verb wrote to, how many rows, in which columns, and their digest; its own hash covers that
and the hash of the link before. Whoever changes, adds or removes a row, or a link, has to write all later links anew. So
`verify` finds bit rot and edits by hand; a forger who recomputes the chain is found by comparing its last hash with one that was
noted elsewhere.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from itertools import repeat
from typing import Any

from sqlalchemy import Connection, Executable, Table, bindparam, func, select

from labloop.ledger import tables as t
from labloop.ledger.database import insert_block, insert_once
from labloop.ledger.digest import RowDigest, blocks
from labloop.runtime.environment import Environment

START = ""
"""What the first link of a campaign has for the hash before."""


_LAST = (
    select(t.link.c.number, t.link.c.hash)
    .where(t.link.c.campaign == bindparam("campaign"))
    .order_by(t.link.c.number.desc())
    .limit(1)
)


@cache
def _highest(table: Table) -> Executable:
    return select(func.max(table.c.id))


def rows_of(connection: Connection, campaign: int) -> dict[str, int]:
    """Count the rows that a campaign's chain vouches for, by table, as its links tell them."""
    found: dict[str, int] = {}
    for content in connection.execute(select(t.link.c.content).filter_by(campaign=campaign)).scalars():
        with suppress(ValueError, TypeError, KeyError, AttributeError):  # a damaged link, which `verify` names
            for name, told in json.loads(content).items():
                found[name] = found.get(name, 0) + int(told["n"])
    return found


def whoami() -> str:
    """Name who writes: `$LABLOOP_USER`, else the user of this computer."""
    if name := (Environment.now().user or "").strip():
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user need not have a name
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def columns_of(table: Table) -> list[str]:
    """Name the columns that a link vouches for: all but the link's own number."""
    return [column.name for column in table.columns if column.name != "link"]


def chained_hash(before: str, campaign: int, number: int, verb: str, at: str, by: str, content: str, checks: bytes) -> str:
    """Give a link's hash, 64 hex digits."""
    parts = [before, campaign, number, verb, at, by, content, hashlib.sha256(checks).hexdigest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Link:
    """One verb on its way into the ledger: its rows go in through `once` and `many`, and `close` vouches for them.

    Writers take turns, so that numbers can be counted on from the last one, on both databases alike.
    """

    def __init__(self, connection: Connection, campaign: int, verb: str, *, at: str, by: str) -> None:
        self.connection = connection
        self.campaign = campaign
        self.at = at
        self._verb = verb
        self._by = by
        last = connection.execute(_LAST, {"campaign": campaign}).tuples().first()
        self.number = 1 + (last[0] if last else 0)
        self.before = last[1] if last else START
        """The hash of the link before."""
        self.hash: str | None = None
        """Its own, once it is closed."""
        self._digests: dict[str, tuple[list[str], RowDigest]] = {}

    def next(self, table: Table) -> int:
        """Give the id of the table's next row."""
        return 1 + (self.connection.execute(_highest(table)).scalar() or 0)

    def once(self, table: Table, **row: Any) -> int | None:
        """Insert a row of this campaign unless its key is there; returns its id (0 in a table without), None if it was there."""
        row = {"campaign": self.campaign, "at": self.at, **row}
        if "id" in table.c:
            row["id"] = self.next(table)
        row = {column.name: row.get(column.name) for column in table.columns if column.name != "link"}
        if not insert_once(self.connection, table, **row, **self._number(table)):
            return None
        self._digest(table).add([[cell] for cell in row.values()], 1)
        return int(row.get("id") or 0)

    def many(self, table: Table, columns: Mapping[str, Iterable[Any]], n: int) -> None:
        """Insert n rows of this campaign, given as columns: lists of n plain cells, or `repeat(…)` of one."""
        if not n:
            return
        columns = {"campaign": repeat(self.campaign), **columns}
        if "id" in table.c:
            first = self.next(table)
            columns["id"] = range(first, first + n)
        digest = self._digest(table)
        names = columns_of(table)
        for some in blocks(n):
            size = some.stop - some.start
            cells = [_cut(columns.get(name), some, size) for name in names]
            digest.add(cells, size)
            insert_block(self.connection, table, [*names, "link"], [*cells, repeat(self.number)])

    def close(self) -> str | None:
        """Write the link, if any row was written; returns its hash."""
        if not self._digests:
            return None
        told = {
            name: {"n": digest.n, "columns": " ".join(names), "sha256": digest.sha256}
            for name, (names, digest) in self._digests.items()
        }
        content = json.dumps(told)
        checks = b"".join(digest.codes for _, digest in self._digests.values())
        row: dict[str, Any] = {
            "campaign": self.campaign,
            "number": self.number,
            "verb": self._verb,
            "at": self.at,
            "by": self._by,
        }
        self.hash = chained_hash(self.before, content=content, checks=checks, **row)
        row |= {"content": content, "checks": checks, "hash": self.hash}
        insert_block(self.connection, t.link, list(row), [[cell] for cell in row.values()])
        return self.hash

    @property
    def written(self) -> dict[str, int]:
        """Rows so far by table."""
        return {name: digest.n for name, (_, digest) in self._digests.items()}

    def _digest(self, table: Table) -> RowDigest:
        if table.name in self._digests:
            raise ValueError(f"a verb writes to {table.name} at one go")
        self._digests[table.name] = columns_of(table), RowDigest()
        return self._digests[table.name][1]

    def _number(self, table: Table) -> dict[str, int]:
        return {"link": self.number} if "link" in table.c else {}


def _cut(column: Iterable[Any] | None, some: slice, size: int) -> list[Any]:
    if column is None:
        return [None] * size
    if isinstance(column, repeat):
        return [next(column)] * size
    return list(column[some])  # type: ignore[index]
