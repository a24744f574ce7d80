"""Copies of a ledger, taken while others write: SQLite's own backup, and a server's tables into an SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, create_engine, event, exc, select

from labloop.errors import LedgerError
from labloop.ledger.database import Database, connect_read_only
from labloop.ledger.digest import BLOCK
from labloop.ledger.tables import metadata


def backup(database: Database, target: Path) -> Path:
    """Copy a ledger into a new SQLite file; see `Ledger.backup`."""
    if target.exists():
        raise LedgerError(f"{target}: exists already: name a new file, or move this one away")
    if database.path is not None:
        return copy_file(database.path, target, why="is copied")
    with database.read() as connection:
        return copy_tables(connection, target)


def copy_file(path: Path, target: Path, *, why: str) -> Path:
    """Copy an SQLite ledger, with what still lies in its write-ahead log, whole or not at all, into one file without a log.

    Args:
        why: what the message says of the ledger where it cannot be done.

    Raises:
        LedgerError: the copy cannot be made.
    """

    def fill(unfinished: Path) -> None:
        source, copy = connect_read_only(path), sqlite3.connect(unfinished)
        try:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # the source's comes with its pages, and needs a writable folder
        finally:
            source.close()
            copy.close()

    return _whole(fill, target, f"{path}: {why}")


def copy_tables(connection: Connection, target: Path) -> Path:
    """Copy all tables of a server's ledger, as the connection sees them, into an SQLite ledger: the same rows, the same chain.

    Raises:
        LedgerError: the copy cannot be made.
    """

    def fill(unfinished: Path) -> None:
        engine = create_engine(f"sqlite:///{unfinished}")
        event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA synchronous = OFF"))  # synced once, at the end
        try:
            with engine.begin() as copy:
                metadata.create_all(copy, checkfirst=False)
                for table in metadata.sorted_tables:
                    rows = connection.execute(select(table).order_by(*table.primary_key), execution_options={"yield_per": BLOCK})
                    for block in rows.mappings().partitions():
                        copy.execute(table.insert(), [dict(row) for row in block])
        finally:
            engine.dispose()

    return _whole(fill, target, "the ledger is copied")


def _whole(fill: Callable[[Path], None], target: Path, why: str) -> Path:
    unfinished = target.with_name(target.name + ".tmp")
    try:
        unfinished.unlink(missing_ok=True)
        fill(unfinished)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except (sqlite3.Error, exc.DBAPIError, OSError) as error:
        unfinished.unlink(missing_ok=True)
        reason = " ".join(str(getattr(error, "orig", error)).split())
        raise LedgerError(
            f"{why}, but {target.name} cannot be written ({reason}): make room and see that the folder {target.parent} is there "
            "and writable, then run this again"
        ) from error
    return target
