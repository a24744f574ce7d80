"""Verify a ledger: follow each campaign's chain, take every row's digest again, and say where something differs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from sqlalchemy import Column, Connection, Table, Text, exc, select, text

from labloop.errors import in_one_line
from labloop.ledger import tables as t
from labloop.ledger.database import ROWS, fetch_blocks
from labloop.ledger.digest import BLOCK, RowDigest
from labloop.ledger.hash_chain import START, chained_hash, columns_of, rows_of
from labloop.ledger.heads import Head
from labloop.runtime.progress import track

DAMAGE = (exc.SQLAlchemyError, sqlite3.Error, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError)
"""What reading a damaged ledger may raise, from the database's own errors to cells that are not what their column says."""
_TABLES = {table.name: table for table in t.CHAINED}

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
_LINKS = 100  # that are read at a time: a large file's holds megabytes of codes
_Rows = list[tuple[Any, ...]]


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
    hashes: tuple[str, ...] = field(default=(), repr=False)
    """All links', in order."""


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
    said: list[str] = []
    try:
        for one in connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars():
            said += [f"the file: {plain(line)}" for line in str(one).splitlines() if line != "ok"]
        for table, row, other, _ in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(20):
            said.append(f"{plain(table)}: row {row} refers to a row of {plain(other)} that is not there")
    except DAMAGE as error:
        said.append(f"the file: {reason(error)}")
    return said


def ends_of(connection: Connection, campaign: int, name: str) -> Head:
    """Tell where a campaign's chain ends."""
    query = select(t.link.c.number, t.link.c.hash, t.link.c.at).filter_by(campaign=campaign).order_by(t.link.c.number.desc())
    found = connection.execute(query.limit(1)).tuples().first()
    number, head, at = found or (0, START, "")
    return Head(campaign=name, id=campaign, links=number, head=head, rows=rows_of(connection, campaign), at=at)


def verify_campaign(connection: Connection, campaign: int, name: str, *, head: str | None = None) -> Verified:
    """Verify a campaign's chain and all its rows; damage is told, never raised.

    Args:
        head: a hash noted earlier, which must still stand in the chain.
    """
    faults: list[str] = []
    expected: dict[str, dict[int, _Part | None]] = {table.name: {} for table in t.CHAINED}
    chain = _Chain()
    try:
        for block in _select(connection, t.link, campaign, [*t.link.c.keys()][1:], [t.link.c.number], size=_LINKS):
            for row in block:
                faults += _check_link(campaign, chain, row, expected)
    except DAMAGE as error:
        faults.append(f"link: cannot be read to its end: {reason(error)}")
    if not chain.hashes:
        faults.append("link: the chain is gone")
    if head is not None and head not in chain.hashes:
        faults.append(f"link: no link has the hash {head}: the chain was written anew, or it is another campaign's")
    for at in track(len(t.CHAINED), f"{plain(name)}: tables verified"):
        table = t.CHAINED[at]
        faults += _check_table(connection, table, campaign, expected[table.name], chain.damaged)
    rows = sum(part.n for parts in expected.values() for part in parts.values() if part)
    return Verified(
        campaign=plain(name), links=len(chain.hashes), rows=rows, head=plain(chain.before), faults=tuple(map(plain, faults)),
        hashes=tuple(chain.hashes),
    )  # fmt: skip


@dataclass
class _Chain:
    before: str = START
    last: int = 0
    hashes: list[str] = field(default_factory=list)
    damaged: set[int] = field(default_factory=set)
    """Links that cannot say what their rows were."""


def _check_link(campaign: int, chain: _Chain, row: Sequence[Any], expected: dict[str, dict[int, _Part | None]]) -> Iterator[str]:
    """Hold a link against the one before, and note what it says of its rows."""
    number, verb, at, by, content, checks, hashed = row
    of = f"link {number} ({verb} by {by}, {at})"
    if not isinstance(number, int) or not isinstance(hashed, str):
        yield f"link: {of} is damaged"
        return
    checks = bytes(checks) if isinstance(checks, bytes | memoryview) else str(checks).encode("utf-8", "surrogatepass")
    if number != chain.last + 1:
        yield f"link: {_span(chain.last + 1, number - 1)} missing from the chain"
    elif hashed != chained_hash(chain.before, campaign, number, verb, at, by, content, checks):
        yield f"link: {of} differs from what was written, or the one before it does"
    chain.before, chain.last = hashed, number
    chain.hashes.append(hashed)
    place = 0
    try:
        for name, told in json.loads(content).items():
            n, columns = int(told["n"]), tuple(told["columns"].split())
            if not set(columns) <= set(columns_of(_TABLES[name])):
                raise ValueError(columns)
            expected[name][number] = _Part(columns, n, told["sha256"], checks[place : place + _BYTES * n], of)
            place += _BYTES * n
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        chain.damaged.add(number)
        yield f"link: {of} does not say what its rows were, so that they cannot be checked"


def _check_table(
    connection: Connection, table: Table, campaign: int, expected: dict[int, _Part | None], damaged: set[int]
) -> Iterator[str]:
    left = {number: part for number, part in expected.items() if number not in damaged}
    try:
        for number, runs in groupby(_runs(_rows(connection, table, campaign)), key=_number):
            if number in damaged:
                continue
            part = left.pop(number, None)
            if part is None:
                first = next(runs)[0]
                shown = _shown(connection, table, first)
                yield f"{table.name}: {shown} belongs to no link of the chain, or does not stand in its place"
            elif fault := _check_rows(connection, table, part, runs):
                yield f"{table.name}: {fault}, {part.of}"
    except DAMAGE as error:  # a page that cannot be read, a cell of a strange type, a table that is gone
        yield f"{table.name}: cannot be read to its end: {reason(error)}"
        return
    for part in left.values():
        if part is not None and part.n:
            yield (
                f"{table.name}: all {part.n} rows are gone, {part.of}"
                if part.n > 1
                else f"{table.name}: a row is gone, {part.of}"
            )


def _number(rows: _Rows) -> Any:
    """The number of the link of rows that have the same."""
    return rows[0][0]


def _runs(blocks: Iterable[_Rows]) -> Iterator[_Rows]:
    """Part blocks of rows where the link's number changes."""
    for block in blocks:
        if len(set(map(itemgetter(0), block))) == 1:  # most of the rows of a large file
            yield block
        else:
            yield from (list(rows) for _, rows in groupby(block, key=itemgetter(0)))


def _rows(connection: Connection, table: Table, campaign: int) -> Iterator[_Rows]:
    """Read a campaign's rows, each with its link's number before it, in the order in which the links took them in."""
    names = columns_of(table)
    if table is t.campaign:
        yield from ([(1, *row) for row in block] for block in _select(connection, table, campaign, names, [table.c.id]))
        return
    keys = (
        [table.c.id] if "id" in table.c else [table.c.link, *(key for key in table.primary_key.columns if key.name != "campaign")]
    )
    yield from _select(connection, table, campaign, ["link", *names], keys)


def _select(
    connection: Connection, table: Table, campaign: int, names: Sequence[str], order: Sequence[Column[Any]], size: int = ROWS
) -> Iterator[_Rows]:
    """Read a campaign's rows with their cells as the driver gives them: a type would choke on a cell that is not of it."""
    quote = connection.dialect.identifier_preparer.quote
    collate = ' COLLATE "C"' if connection.dialect.name == "postgresql" and table is t.design else ""  # as SQLite sorts
    by = ", ".join(quote(column.name) + (collate if isinstance(column.type, Text) else "") for column in order)
    own = "id" if table is t.campaign else "campaign"
    cells = ", ".join(map(quote, names))
    query = text(f"SELECT {cells} FROM {quote(table.name)} WHERE {own} = :campaign ORDER BY {by}")
    yield from fetch_blocks(connection, query.bindparams(campaign=campaign), size)


def _check_rows(connection: Connection, table: Table, part: _Part, runs: Iterator[_Rows]) -> str:
    """Hold rows against what their link says of them; returns what differs."""
    names = columns_of(table)
    pick = [1 + names.index(name) for name in part.columns]
    digest = RowDigest()
    codes = np.frombuffer(part.codes, dtype="<u4")
    found = ""
    for columns in _blocks(runs):
        start, n = digest.n, len(columns[0])
        here = digest.add([columns[i] for i in pick], n)
        if not found:
            there = codes[start : start + n]
            wrong = np.flatnonzero(here[: len(there)] != there)
            if len(wrong) or len(here) > len(there):
                at = int(wrong[0]) if len(wrong) else len(there)
                found = _shown(connection, table, [cells[at] for cells in columns])
    if digest.sha256 == part.sha256:
        return ""
    if digest.n < part.n:
        where = f"; the first that stands in a gap is {found}" if found else ""
        return f"{part.n - digest.n} of {part.n} rows are gone{where}"
    if digest.n > part.n:
        return f"{digest.n - part.n} rows were added to {part.n}; the first that differs is {found}"
    return f"{found or 'a row'} differs from what was written"


def _blocks(runs: Iterator[_Rows]) -> Iterator[list[list[Any]]]:
    """Give rows of one link as columns, in the blocks that they were digested in."""
    held: list[list[Any]] = []
    for run in runs:
        held = held or [[] for _ in run[0]]
        for cells, more in zip(held, zip(*run)):
            cells.extend(more)
        while len(held[0]) > BLOCK:
            yield [cells[:BLOCK] for cells in held]
            held = [cells[BLOCK:] for cells in held]
        if len(held[0]) == BLOCK:  # so it is in a large file: nothing is copied
            yield held
            held = []
    if held:
        yield held


def _shown(connection: Connection, table: Table, row: Sequence[Any]) -> str:
    """Name a row as a person would look for it."""
    names = columns_of(table)
    cells = {name: row[1 + names.index(name)] for name in _KEYS[table.name]}
    if table is t.measurement:
        try:
            file = connection.execute(text("SELECT name FROM source_file WHERE id = :id"), {"id": cells["file"]}).scalar()
        except DAMAGE:
            file = None
        place = " ".join(f"{name} {cells[name]}" for name in ("plate", "well", "design_id") if cells[name] is not None)
        return f"row {cells['row']} of {file} ({place})"
    return " ".join(f"{name} {cell}" for name, cell in cells.items() if cell is not None)


def plain(said: object) -> str:
    """Give a text that any terminal or file takes, whatever a damaged cell holds."""
    return str(said).encode("utf-8", "backslashreplace").decode()


def reason(error: BaseException) -> str:
    """Say what went wrong in one line, in the database's words where they are its own."""
    return plain(in_one_line(getattr(error, "orig", None) or error))


def _span(first: int, last: int) -> str:
    return f"link {first} is" if first == last else f"links {first} to {last} are"
