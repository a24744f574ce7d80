"""Hold a database's tables against those that `tables` makes: what is missing, what was added, and what differs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from sqlalchemy import CheckConstraint, Connection, Inspector, Table, UniqueConstraint, exc, inspect, text

from labloop.ledger.migrations import newest
from labloop.ledger.tables import metadata, version
from labloop.ledger.verify import DAMAGE, plain, reason


def check_version(connection: Connection) -> list[str]:
    """Say what is wrong with the rows that tell the ledger's version."""
    try:
        known = list(connection.execute(text(f"SELECT version FROM {version.name}")).scalars())
    except DAMAGE as error:
        return [f"{version.name}: cannot be read: {reason(error)}"]
    if not known:
        return [f"{version.name}: the ledger's version is gone (this labloop writes {newest()})"]
    odd = [plain(one) for one in known if not isinstance(one, int) or not 0 < one <= newest()]
    if odd:
        known_to = f"is no version that this labloop knows (1 to {newest()})"
        return [f"{version.name}: {', '.join(odd)} {known_to}: the row is damaged, or a newer labloop wrote it"]
    if max(known) < newest():
        return [f"{version.name}: the row of version {newest()} is gone, the last is of {max(known)}"]
    return []


def check_schema(connection: Connection) -> list[str]:
    """Say where tables, columns, keys and indexes are not those of a ledger, and name triggers, which none has."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", exc.SAWarning)  # of definitions that it does not understand, which are told below
            return [plain(one) for one in _differences(connection)]
    except DAMAGE as error:
        return [f"the tables: cannot be read: {reason(error)}"]


def _differences(connection: Connection) -> Iterator[str]:
    found = inspect(connection)
    there = set(found.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in there:
            yield f"{table.name}: the table is gone"
            continue
        try:
            yield from _table(connection, found, table)
        except DAMAGE as error:
            yield f"{table.name}: the table's definition cannot be read: {reason(error)}"
    if connection.dialect.name != "sqlite":  # a server's database may hold tables of other programs
        query = (
            "SELECT 'trigger', t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND n.nspname = current_schema() "
            "UNION ALL SELECT 'rule', rulename, tablename FROM pg_rules WHERE schemaname = current_schema()"
        )
        for kind, name, of in connection.execute(text(query)):
            if of in metadata.tables:
                yield f"{of}: a {kind} was added, {name}"
        return
    for kind, name, of, sql in connection.execute(text("SELECT type, name, tbl_name, sql FROM sqlite_master")):
        if not all(isinstance(one, str) for one in (kind, name, of, sql or "")):  # SQLite reads it even so
            yield f"{of}: the definition of {plain(name)} is damaged"
        elif kind in ("trigger", "view"):
            yield f"{of}: a {kind} was added, {name}"
        elif kind not in ("table", "index") or plain(sql) != str(sql) or (sql is None and not _own(name, of)):
            yield f"{of}: the definition of {name} is damaged"
        elif kind == "table" and name not in metadata.tables and not str(name).startswith("sqlite_"):
            yield f"{name}: is no table of a ledger"


def _table(connection: Connection, found: Inspector, table: Table) -> Iterator[str]:
    name, dialect = table.name, connection.dialect.name
    if dialect == "sqlite":
        mine = {
            column.name: (column.type.compile(connection.dialect), not column.nullable, _default(column), column.primary_key)
            for column in table.columns
        }
        quoted = connection.dialect.identifier_preparer.quote(name)
        rows = connection.execute(text(f"PRAGMA table_xinfo({quoted})"))
        theirs = {row[1]: (str(row[2]), bool(row[3]), row[4], bool(row[5])) for row in rows}
    else:  # which keeps cells to their types by itself
        mine = {column.name: (not column.nullable,) for column in table.columns}  # type: ignore[misc]
        theirs = {one["name"]: (not one["nullable"],) for one in found.get_columns(name)}  # type: ignore[misc]
    for column in mine.keys() | theirs.keys():
        if column not in theirs:
            yield f"{name}: the column {column} is gone"
        elif column not in mine:
            yield f"{name}: a column was added, {column}"
        elif mine[column] != theirs[column]:
            yield f"{name}: the column {column} is defined otherwise"
    keys = {
        _key(k.column_keys, k.referred_table.name, [e.column.name for e in k.elements]) for k in table.foreign_key_constraints
    }
    have = {_key(k["constrained_columns"], k["referred_table"], k["referred_columns"]) for k in found.get_foreign_keys(name)}
    yield from _set(f"{name}: the reference of", keys, have)
    unique = {" and ".join(sorted(c.columns.keys())) for c in table.constraints if isinstance(c, UniqueConstraint)}
    have_unique = {" and ".join(sorted(k["column_names"])) for k in found.get_unique_constraints(name) if k["column_names"]}
    yield from _set(f"{name}: the rule of one row a", unique, have_unique)
    checks = {_bare(str(c.sqltext)) for c in table.constraints if isinstance(c, CheckConstraint)}
    have_checks = {_bare(k["sqltext"]) for k in found.get_check_constraints(name)}
    if checks != have_checks if dialect == "sqlite" else len(checks) != len(have_checks):
        yield f"{name}: its rules for cells are other ones"
    indexes = {
        str(one.name): _index(list(one.columns.keys()), one.unique, one.dialect_options["sqlite"]["where"])
        for one in table.indexes
    }
    listed = found.get_indexes(name)
    have_indexes = {
        str(one["name"]): _index(one["column_names"], one["unique"], one.get("dialect_options", {}).get(f"{dialect}_where"))
        for one in listed
        if not one.get("duplicates_constraint")
    }
    for index in indexes.keys() | (have_indexes.keys() if dialect == "sqlite" else set()):
        if index not in have_indexes:
            yield f"{name}: the index {index} is gone"
        elif index not in indexes:
            yield f"{name}: an index was added, {index}"
        elif indexes[index] != have_indexes[index]:
            yield f"{name}: the index {index} is of other columns"


def _own(name: Any, of: Any) -> bool:
    """Say whether an index without a definition is one that SQLite makes for a key, under the name that it has."""
    return of in metadata.tables and re.fullmatch(rf"sqlite_autoindex_{re.escape(of)}_\d", str(name)) is not None


def _key(columns: Any, of: str, referred: Any) -> str:
    pairs = sorted(zip(map(str, columns), map(str, referred)))
    return " and ".join(f"{one} to {of}.{other}" for one, other in pairs)


def _default(column: Any) -> str | None:
    return None if column.server_default is None else str(column.server_default.arg)


def _index(columns: Any, unique: Any, where: Any) -> tuple[tuple[str, ...], bool, str]:
    return tuple(map(str, columns)), bool(unique), "" if where is None else _bare(str(where)).removeprefix("measurement.")


def _bare(sql: str) -> str:
    return re.sub(r"[\s()\"]", "", sql).lower()


def _set(what: str, mine: set[str], theirs: set[str]) -> Iterator[str]:
    yield from (f"{what} {one} is gone" for one in sorted(mine - theirs))
    yield from (f"{what} {one} was added" for one in sorted(theirs - mine))
