"""One open database: the one way to write, the one way to read, and every database error in a user's words."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Executable, QueuePool, Table, create_engine, event, exc, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL

from labloop.errors import LedgerError
from labloop.ledger.digest import said_once
from labloop.ledger.heads import Head

ROWS = 500
"""Rows that are read at a time: so few stay in the processor's cache until they are columns."""

_WORTH_COPYING = 1_000
"""Rows from which PostgreSQL's COPY is quicker than inserting."""

_TOGETHER = 100
"""Rows that one statement inserts into SQLite at most."""

_BOUND = 999
"""Cells that a statement may bind in an SQLite before 3.32."""

_POSTGRES_LOCK = 0x6C61626C6F6F70  # the letters "labloop": the advisory lock that every writer holds
_STEPS = {
    "SQLITE_BUSY": "is locked by another process: wait for it to end or end it, then run this again",
    "SQLITE_LOCKED": "is locked by another process: wait for it to end or end it, then run this again",
    "SQLITE_FULL": "the disk is full: free some space, then run this again (nothing was written)",
    "SQLITE_READONLY": "is read-only: make the file and its folder writable for you, or work on a copy",
    "SQLITE_NOTADB": "is not a ledger, nor any SQLite database: name another file, or move this one away to begin a new ledger",
    "SQLITE_CORRUPT": "is damaged: `labloop verify` says where; restore it from a backup",
    "SQLITE_CANTOPEN": "cannot be opened: check that its folder exists and that you may read and write it",
    "SQLITE_PERM": "may not be opened: make the file and its folder readable and writable for you",
    "SQLITE_AUTH": "may not be opened: make the file and its folder readable and writable for you",
    "SQLITE_IOERR": "could not be read or written by the system: check the disk (a network folder is no place for a ledger)",
    "SQLITE_PROTOCOL": "could not be locked: move it from the network folder to a local disk",
    "SQLITE_TOOBIG": "cannot hold a text this long: shorten the cell",
    "55P03": "is locked by another process: wait for it to end or end it, then run this again",
    "40P01": "was wanted by two processes at once: run this again",
    "57014": "the server ended the statement: run this again",
    "53100": "the server's disk is full: free some space, then run this again (nothing was written)",
    "53300": "the server has too many clients: close some, then run this again",
    "25006": "is read-only: connect to the server that takes writes",
    "42501": "your account may not do this: ask for the right to create and write tables there",
}
"""What each error code means for a user and what to do; the SQLite names also stand for their finer kinds."""


_DAMAGED = ("no such table", "no such column", "has no column named", "Could not decode to UTF-8", "malformed")
"""How SQLite, or its driver, speaks of a ledger that lacks a part, where it has no code of its own for it."""


class Database:
    """A SQLite file or PostgreSQL database behind one `begin()` for writing and one `read()`."""

    def __init__(self, where: Path | str, *, timeout: float, read_only: bool = False, lenient: bool = False) -> None:
        """Connect lazily to a path, or to a URL (`sqlite:///…`, `postgresql+psycopg://…`); see `Ledger.open`.

        Args:
            read_only: never write to an SQLite file nor leave anything beside it, whatever is asked.
            lenient: read a text that is no UTF-8 as it is, instead of failing.
        """
        url = _url(where)
        self.path: Path | None = None
        if url.get_backend_name() == "sqlite":
            self.path = Path(str(url.database).removeprefix("file:"))
        self.where = str(self.path) if self.path else url.render_as_string(hide_password=True)
        self.timeout = timeout
        self.read_only = self.path is not None and (read_only or not writable(self.path))
        self.committed: Callable[[list[Head]], None] = lambda heads: None
        """Called after a transaction with the heads that it left."""
        self._lenient = lenient
        self._thread = threading.local()
        try:
            if self.path is not None and self.read_only:
                file = self.path
                self.engine = create_engine("sqlite://", creator=lambda: connect_read_only(file), poolclass=QueuePool)
            else:
                self.engine = create_engine(url)
        except ModuleNotFoundError as error:
            raise LedgerError(
                f"{self.where}: needs the package {error.name!r}: pip install 'labloop-toolkit[postgres]'"
            ) from error
        if self.path is None:  # a server has places for a hundred: nobody shall wait for a garbage collection to give one back
            weakref.finalize(self, self.engine.dispose)
        else:
            event.listen(self.engine, "connect", self._set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Write in one transaction: all of the block, or nothing of it if it raises.

        Writers take turns, on both databases, for `timeout` seconds at most. A block inside a block of the same thread is a part
        of the outer one: undone alone if it raises, kept only if the outer one ends well.

        Raises:
            LedgerError: the database is locked, full, read-only, gone or not a ledger's.
        """
        outer: Connection | None = getattr(self._thread, "connection", None)
        if outer is not None:
            kept = list(self._thread.heads)
            try:
                with outer.begin_nested():
                    yield outer
            except BaseException:
                self._thread.heads = kept
                raise
            return
        self._thread.heads = []
        with self._explained(), self.engine.connect() as connection:
            connection = connection.execution_options(labloop_writes=True)
            with connection.begin():
                if self.path is None:
                    connection.execute(text("SELECT set_config('lock_timeout', :ms, true)"), {"ms": f"{self.timeout * 1000:.0f}"})
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
                self._thread.connection = connection
                try:
                    yield connection
                finally:
                    self._thread.connection = None
        self.committed(self._thread.heads)

    def note(self, head: Head) -> None:
        """Remember, inside `begin()`, where a chain ends once this is committed."""
        self._thread.heads.append(head)

    @property
    def writing(self) -> bool:
        """Whether this thread is inside `begin()`."""
        return getattr(self._thread, "connection", None) is not None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read; inside `begin()` of the same thread this sees what was written so far.

        Raises:
            LedgerError: the database cannot be read.
        """
        outer: Connection | None = getattr(self._thread, "connection", None)
        if outer is not None:
            yield outer
            return
        with self._explained(), self.engine.connect() as connection:
            if self.path is None:  # all statements see the same moment, as they do in SQLite
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def close(self) -> None:
        """Give back all connections; a later verb opens a new one."""
        self.engine.dispose()

    def _set_up_sqlite(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own
        for pragma in (
            f"busy_timeout = {self.timeout * 1000:.0f}",
            "foreign_keys = ON",
            "synchronous = FULL",
            "cache_size = -131072",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if self._lenient:
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (exc.IntegrityError, exc.DataError) as error:
            reason = " ".join(str(error.orig).split())
            raise LedgerError(f"{self.where}: refuses what was to be written ({reason}): mend it; nothing was written") from error
        except exc.DatabaseError as error:
            code = getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None)
            step = _STEPS.get(code or "") or next((_STEPS[name] for name in _STEPS if (code or "").startswith(name + "_")), None)
            if (
                self.path is not None
                and (code or "").startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN"))
                and is_full(self.path.parent)
            ):
                step = _STEPS["SQLITE_FULL"]
            if step is None and self.path is not None and any(one in str(error.orig) for one in _DAMAGED):
                step = _STEPS["SQLITE_CORRUPT"]
            if step is None and self.path is None and (code is None or code[:2] in {"08", "57"}):
                step = "cannot be reached: see that the server runs and that the URL's host, port, user and database are right"
            if step is None:
                raise
            raise LedgerError(f"{self.where}: {step} [{' '.join(str(error.orig).split())}]") from error


def fetch_blocks(connection: Connection, query: Executable, size: int = ROWS) -> Iterator[list[tuple[Any, ...]]]:
    """Read a query's rows as the driver gives them, `size` at a time: few rows live at once, and none is wrapped.

    Raises:
        sqlalchemy.exc.DBAPIError: as of any other statement.
    """
    result = connection.execute(query)
    cursor: Any = result.cursor
    errors: Any = connection.dialect.loaded_dbapi
    try:
        while block := cursor.fetchmany(size):
            yield block
    except errors.Error as error:
        raise exc.DBAPIError.instance(str(query), None, error, errors.Error, dialect=connection.dialect) from error
    finally:
        result.close()


def insert_once(connection: Connection, table: Table, **row: Any) -> bool:
    """Insert a row unless its key is there already, and say whether it was inserted."""
    statement, order = _insert(connection.dialect.name, table, tuple(row), ignoring=True)
    cells = tuple(row.values())
    return connection.exec_driver_sql(statement, tuple(cells[i] for i in order)).rowcount == 1


def insert_block(connection: Connection, table: Table, names: Sequence[str], cells: Sequence[Iterable[Any]]) -> None:
    """Insert rows given as columns of plain Python values (None where missing), as fast as the driver allows."""
    n = min((len(one) for one in cells if isinstance(one, Sequence)), default=0)
    if connection.dialect.name == "sqlite" and n >= _WORTH_COPYING:
        _insert_long(connection, table, names, cells, n)
        return
    if n >= _WORTH_COPYING:
        given = [(name, one) for name, one in zip(names, cells) if not (isinstance(one, Sequence) and _is_empty(one))]
        _copy_in(connection, table, [name for name, _ in given], islice(zip(*(one for _, one in given)), n))
        return
    rows = list(zip(*cells, strict=False))  # a constant column has no end
    statement, order = _insert(connection.dialect.name, table, tuple(names))
    if order != tuple(range(len(order))):
        rows = [tuple(row[i] for i in order) for row in rows]
    connection.exec_driver_sql(statement, rows)


@cache
def _insert(backend: str, table: Table, names: tuple[str, ...], *, ignoring: bool = False) -> tuple[str, tuple[int, ...]]:
    """Write the statement that inserts a row, and say which of `names` each of its places takes.

    With positional parameters the driver takes tuples as they are, where SQLAlchemy would carry every row as a dict, and write a
    statement that may do nothing (`ignoring`) anew each time.
    """
    module: Any = sqlite if backend == "sqlite" else postgresql
    dialect = module.dialect(paramstyle="qmark" if backend == "sqlite" else "format")
    insert = module.insert(table).inline()
    compiled = (insert.on_conflict_do_nothing() if ignoring else insert).compile(dialect=dialect, column_keys=list(names))
    return str(compiled), tuple(names.index(name) for name in compiled.positiontup or ())


def _insert_long(connection: Connection, table: Table, names: Sequence[str], cells: Sequence[Iterable[Any]], n: int) -> None:
    """Insert many rows into SQLite, many by one statement: to begin and end one costs as much as two rows.

    Cells that are the same in all rows are said once, in the statement: binding a cell costs as much as storing it, and of a
    file's readings most columns are of one text, or empty.
    """
    quote = connection.dialect.identifier_preparer
    columns = [one if isinstance(one, Sequence) else list(islice(one, n)) for one in cells]
    said = [_constant(connection, column) for column in columns]
    places = ", ".join("?" if one is None else one for one in said)
    left = [column for column, one in zip(columns, said) if one is None]
    bound = tuple(chain.from_iterable(zip(*left)))
    many = min(_TOGETHER, _BOUND // max(1, len(left)))
    for size, start, stop in ((many, 0, n - n % many), (1, n - n % many, n)):
        rows = ", ".join([f"({places})"] * size)
        statement = f"INSERT INTO {quote.format_table(table)} ({', '.join(map(quote.quote, names))}) VALUES {rows}"
        given = [bound[at * len(left) : (at + size) * len(left)] for at in range(start, stop, size)]
        if given:
            connection.exec_driver_sql(statement, given)


def _constant(connection: Connection, cells: Sequence[Any]) -> str | None:
    """Write the cell that a whole column holds as SQLite would, None where its cells differ or are no plain text or number."""
    first = cells[0]
    if not said_once(cells):
        return None
    if isinstance(first, str) and "\0" in first:  # where SQLite's own quoting ends
        return None
    return str(connection.exec_driver_sql("SELECT quote(?)", (first,)).scalar_one())


def _is_empty(cells: Sequence[Any]) -> bool:
    """Whether a column holds nothing, which the database puts there by itself."""
    return cells[0] is None and said_once(cells)


def _copy_in(connection: Connection, table: Table, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Send rows by PostgreSQL's COPY, through the driver's own connection and in its open transaction."""
    quote = connection.dialect.identifier_preparer
    statement = f"COPY {quote.format_table(table)} ({', '.join(map(quote.quote, names))}) FROM STDIN"
    driver: Any = connection.connection.driver_connection
    errors: Any = connection.dialect.loaded_dbapi
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except errors.Error as error:  # in SQLAlchemy's words, as those of any other statement
        raise exc.DBAPIError.instance(statement, None, error, errors.Error, dialect=connection.dialect) from error


def writable(path: Path) -> bool:
    """Say whether an SQLite file, there or to be made, can be written: itself, and its folder for what SQLite puts beside it."""
    beside = path.with_name(path.name + "-shm")
    folder = os.access(path.parent, os.W_OK) or (beside.exists() and os.access(beside, os.W_OK))
    return folder and (not path.exists() or os.access(path, os.W_OK))


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open an SQLite file so that nothing in it, and nothing that stays beside it, is written; also on a read-only medium."""
    log = path.with_name(path.name + "-wal")
    logged = log.exists() and log.stat().st_size > 0
    try:
        with path.open("rb") as file:
            wal_mode = file.read(20)[18:] == b"\x02\x02"
    except OSError:  # which SQLite will say in its own words
        wal_mode = False
    if not os.access(path.parent, os.W_OK) and not logged:
        how = "mode=ro&immutable=1"  # nobody can write there, and SQLite could put no lock beside it
    elif logged or not wal_mode:
        how = "mode=ro"
    else:
        how = "mode=rw"  # read-only, SQLite would leave an empty log behind; `query_only` forbids to write
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{how}", uri=True, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def is_full(folder: Path) -> bool:
    """Say whether a folder's disk, or the user's share of it, takes no more."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False


def _begin_sqlite(connection: Connection) -> None:
    # A writer locks at once: one that reads first and locks later can find the ledger changed and has to give up.
    writes = connection.get_execution_options().get("labloop_writes")
    if writes and connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":  # readers leave a file as it is
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except exc.OperationalError as error:  # another process is at it this moment, or the file is read-only
            if not str(getattr(error.orig, "sqlite_errorname", "")).startswith(("SQLITE_BUSY", "SQLITE_READONLY")):
                raise
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _url(where: Path | str) -> URL:
    if isinstance(where, Path) or "://" not in where:
        path = Path(where).expanduser()
        if path.is_dir():
            raise LedgerError(f"{path}: is a folder: name a file in it, such as {path / 'ledger.db'}")
        if not path.parent.is_dir():
            raise LedgerError(f"{path}: its folder does not exist: create {path.parent} first, or name another place")
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(where)
    except exc.ArgumentError as error:
        raise LedgerError(
            f"the ledger's URL cannot be read: write postgresql+psycopg://user@host/database, or a path ({error})"
        ) from error
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return url
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    shown = url.render_as_string(hide_password=True)
    raise LedgerError(
        f"{shown}: a ledger lives in an SQLite file (a path) or in PostgreSQL (postgresql+psycopg://user@host/database)"
    )
