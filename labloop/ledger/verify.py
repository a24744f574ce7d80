"""Verify a ledger: follow each campaign's chain, take every row's digest again, and say where something differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, exc, select

from labloop.ledger import tables as t
from labloop.ledger.digest import BLOCK, RowDigest
from labloop.ledger.links import START, chained_hash, columns_of

_KEYS = {
    "campaign": ("name",),
    "design": ("design_id",),
    "source_file": ("name",),
    "measurement": ("file", "row", "plate", "well", "design_id"),
    "round": ("number",),
    "run": ("round", "key"),
    "proposal": ("run", "rank", "design_id"),
    "pick": ("round", "arm", "rank"),
    "well": ("plate", "well"),
    "event": ("round", "kind", "state", "at"),
    "flag": ("measurement", "rule", "at"),
}
"""By what a person finds a row again."""
_BYTES = 4  # of a row's code


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What came of verifying one campaign."""

    campaign: str
    links: int
    """Links of the chain."""
    rows: int
    """Rows that the chain vouches for."""
    head: str
    """The last link's hash: note it elsewhere, and nobody can rewrite the chain unseen."""
    faults: tuple[str, ...]
    """Each names the place and who wrote it when; none where all is as it was written."""


@dataclass(frozen=True)
class _Part:
    """What one link says of the rows that its verb wrote to one table."""

    columns: tuple[str, ...]
    n: int
    sha256: str
    codes: bytes
    of: str
    """The link, for people."""


def check_file(connection: Connection) -> list[str]:
    """Let SQLite check its file's pages and indexes, and what refers to rows that are not there; nothing to say on a server."""
    if connection.dialect.name != "sqlite":
        return []
    said = [str(one) for one in connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars()]
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(20)
    return [f"the file: {' '.join(one.split())}" for one in said if one != "ok"] + [
        f"{table}: row {row} refers to a row of {other} that is not there" for table, row, other, _ in dangling
    ]


def verify_campaign(connection: Connection, campaign: int, name: str, *, head: str | None = None) -> Verified:
    """Verify a campaign's chain and all its rows.

    Args:
        head: a hash noted earlier, which must still stand in the chain.
    """
    faults: list[str] = []
    expected: dict[str, dict[int, _Part]] = {table.name: {} for table in t.CHAINED}
    before, last, hashes = START, 0, []
    links = select(t.link).filter_by(campaign=campaign).order_by(t.link.c.number)
    for _, number, verb, at, by, content, checks, hashed in connection.execute(links):
        of = f"link {number} ({verb} by {by}, {at})"
        if number != last + 1:
            faults.append(f"link: {_span(last + 1, number - 1)} missing from the chain")
        elif hashed != chained_hash(before, campaign, number, verb, at, by, content, checks):
            faults.append(f"link: {of} differs from what was written, or the one before it does")
        before, last = hashed, number
        hashes.append(hashed)
        place = 0
        for name_of, told in _told(content).items():
            size = _BYTES * int(told["n"])
            part = _Part(tuple(told["columns"].split()), int(told["n"]), told["sha256"], checks[place : place + size], of)
            expected.setdefault(name_of, {})[number] = part
            place += size
    if not hashes:
        faults.append("link: the chain is gone")
    if head is not None and head not in hashes:
        faults.append(f"link: no link has the hash {head}: the chain was written anew, or it is another campaign's")
    for table in t.CHAINED:
        faults += _check_table(connection, table, campaign, expected[table.name])
    rows = sum(part.n for parts in expected.values() for part in parts.values())
    return Verified(campaign=name, links=len(hashes), rows=rows, head=before, faults=tuple(faults))


def _told(content: str) -> dict[str, Any]:
    """What a link says of its tables; nothing where its text was damaged, which its hash has shown already."""
    try:
        told = json.loads(content)
    except json.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _check_table(connection: Connection, table: Table, campaign: int, expected: dict[int, _Part]) -> Iterator[str]:
    left = dict(expected)
    try:
        for number, rows in groupby(_rows(connection, table, campaign), key=itemgetter(0)):
            part = left.pop(number, None)
            if part is None:
                first = next(rows)
                shown = _shown(connection, table, first)
                yield f"{table.name}: {shown} belongs to no link of the chain, or does not stand in its place"
            elif fault := _check_rows(connection, table, part, rows):
                yield f"{table.name}: {fault}, {part.of}"
    except (exc.DatabaseError, ValueError, TypeError) as error:  # a page that cannot be read, or a cell of a strange type
        yield f"{table.name}: cannot be read to its end: {' '.join(str(getattr(error, 'orig', error)).split())}"
        return
    for part in left.values():
        yield f"{table.name}: all {part.n} rows are gone, {part.of}" if part.n > 1 else f"{table.name}: a row is gone, {part.of}"


def _rows(connection: Connection, table: Table, campaign: int) -> Iterator[Sequence[Any]]:
    """Read a campaign's rows, each with its link's number before it, in the order in which the links took them in."""
    own, names = (table.c.id, []) if table is t.campaign else (table.c.campaign, [table.c.link])
    query = select(*names, *(table.c[name] for name in columns_of(table))).where(own == campaign)
    if "id" in table.c:
        query = query.order_by(table.c.id)
    else:
        keys = [column for column in table.primary_key.columns if column.name != "campaign"]
        text = connection.dialect.name == "postgresql" and table is t.design
        query = query.order_by(table.c.link, *(key.collate("C") if text else key for key in keys))
    for block in connection.execute(query, execution_options={"yield_per": BLOCK}).partitions():
        yield from ((1, *row) for row in block) if table is t.campaign else block


def _check_rows(connection: Connection, table: Table, part: _Part, rows: Iterator[Sequence[Any]]) -> str:
    """Hold rows against what their link says of them; returns what differs."""
    names = columns_of(table)
    pick = [1 + names.index(name) for name in part.columns]
    digest = RowDigest()
    codes = np.frombuffer(part.codes, dtype="<u4")
    found = ""
    for block in _blocks(rows):
        columns = list(zip(*block))
        start = digest.n
        here = digest.add([columns[i] for i in pick], len(block))
        if not found:
            there = codes[start : start + len(block)]
            wrong = np.flatnonzero(here[: len(there)] != there)
            if len(wrong) or len(here) > len(there):
                at = int(wrong[0]) if len(wrong) else len(there)
                found = _shown(connection, table, block[at])
    if digest.sha256 == part.sha256:
        return ""
    if digest.n < part.n:
        where = f"; the first that stands in a gap is {found}" if found else ""
        return f"{part.n - digest.n} of {part.n} rows are gone{where}"
    if digest.n > part.n:
        return f"{digest.n - part.n} rows were added to {part.n}; the first that differs is {found}"
    return f"{found or 'a row'} differs from what was written"


def _blocks(rows: Iterator[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    block: list[Sequence[Any]] = []
    for row in rows:
        block.append(row)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _shown(connection: Connection, table: Table, row: Sequence[Any]) -> str:
    """Name a row as a person would look for it."""
    names = columns_of(table)
    cells = {name: row[1 + names.index(name)] for name in _KEYS[table.name]}
    if table is t.measurement:
        file = connection.execute(select(t.source_file.c.name).filter_by(id=cells["file"])).scalar()
        place = " ".join(f"{name} {cells[name]}" for name in ("plate", "well", "design_id") if cells[name] is not None)
        return f"row {cells['row']} of {file} ({place})"
    return " ".join(f"{name} {cell}" for name, cell in cells.items() if cell is not None)


def _span(first: int, last: int) -> str:
    return f"link {first} is" if first == last else f"links {first} to {last} are"
