"""The ledger's version: a new ledger is made whole, an older one is brought up step by step, a newer one is refused."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, inspect, select, text

from labloop.errors import LedgerError
from labloop.ledger.backup import copy_file
from labloop.ledger.database import Database
from labloop.ledger.heads import Heads
from labloop.ledger.migration_chain import begin_chains
from labloop.ledger.tables import metadata, version

Step = Callable[[Connection], None]


def _add_flags(connection: Connection) -> None:
    """Version 2: the table of quality control's flags."""
    number = "INTEGER" if connection.dialect.name == "sqlite" else "BIGINT"
    key = "INTEGER" if connection.dialect.name == "sqlite" else "BIGSERIAL"
    connection.execute(
        text(
            f"CREATE TABLE flag (id {key} NOT NULL, campaign INTEGER NOT NULL, measurement {number} NOT NULL, "
            f"rule TEXT NOT NULL, raised BOOLEAN NOT NULL, detail TEXT, event {number} NOT NULL, at TEXT NOT NULL, "
            "PRIMARY KEY (id), FOREIGN KEY(campaign) REFERENCES campaign (id), "
            "FOREIGN KEY(measurement) REFERENCES measurement (id), FOREIGN KEY(event) REFERENCES event (id))"
        )
    )
    connection.execute(text("CREATE INDEX flag_of_campaign ON flag (campaign)"))


MIGRATIONS: tuple[Step, ...] = (_add_flags, begin_chains)
"""Step i brings a ledger from version i + 1 to i + 2. A step that has been released never changes again; it may use its own SQL
only, as `tables` describes the newest version."""


_NOWHERE = Heads(None)


def newest() -> int:
    """The version that this labloop writes."""
    return 1 + len(MIGRATIONS)


def present(connection: Connection, where: str) -> int:
    """The ledger's version, 0 in an empty database.

    Raises:
        LedgerError: the database is someone else's, or its version is damaged.
    """
    tables = set(inspect(connection).get_table_names())
    if version.name in tables:
        known = connection.execute(select(version.c.version)).scalars().all()
        if not known or not all(isinstance(one, int) and one > 0 for one in known):
            raise LedgerError(
                f"{where}: is damaged: its version is missing or not one that labloop gives: `labloop verify` says what else; "
                "restore it from a backup"
            )
        return max(known)
    # An SQLite file belongs to one program; a PostgreSQL database may hold tables of several.
    others = tables if connection.dialect.name == "sqlite" else tables & set(metadata.tables)
    if others:
        raise LedgerError(
            f"{where}: is the database of another program (it has the tables "
            f"{', '.join(sorted(others)[:3])}, …): name another place for the ledger"
        )
    return 0


def prepare(database: Database, now: Callable[[], str], *, noted: Heads = _NOWHERE) -> None:
    """Bring the database to the newest version: make the tables, or run the missing steps, in one transaction.

    An older SQLite ledger is copied to `NAME.v1.bak` (its version) beside it first.

    Args:
        noted: where the ledger's heads are: an empty database that had campaigns once has lost them, and is left as it is.

    Raises:
        LedgerError: the ledger is newer than this labloop, or someone else's, or has lost its content, or cannot be written.
    """
    with database.read() as connection:
        old = present(connection, database.where)
        if _current(database, old):
            return
    if old == 0 and (lost := noted.read()[0]):
        names = ", ".join(dict.fromkeys(one.campaign for one in lost))
        raise LedgerError(
            f"{database.where}: is empty, but {noted.path} says that it held {names}: restore it from a backup, or move that "
            "file away to begin a new ledger"
        )
    if database.read_only:
        what = "is empty: there is no ledger here" if old == 0 else f"is of version {old} and this labloop reads {newest()}"
        raise LedgerError(f"{database.where}: {what}, and it cannot be written: work on a copy in a folder that you may write to")
    with database.begin() as connection:
        old = present(connection, database.where)  # again: another process may have been quicker
        if _current(database, old):
            return
        if old == 0:
            metadata.create_all(connection, checkfirst=False)
        else:
            if database.path is not None:
                backup = database.path.with_name(f"{database.path.name}.v{old}.bak")
                copy_file(database.path, backup, why=f"is of an older version and is copied to {backup.name} first")
            for step in MIGRATIONS[old - 1 :]:
                step(connection)
        connection.execute(version.insert().values(version=newest(), at=now()))


def _current(database: Database, found: int) -> bool:
    if found > newest():
        raise LedgerError(
            f"{database.where}: was written by a newer labloop (ledger version {found}, this one knows {newest()}): "
            "upgrade labloop, or name another ledger"
        )
    return found == newest()
