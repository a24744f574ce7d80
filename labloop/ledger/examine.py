"""Examine a ledger as it lies there, whatever became of it: nothing is written, and damage is told, never raised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from labloop.errors import CampaignError, LedgerError
from labloop.ledger.chained import heads_of
from labloop.ledger.database import Database
from labloop.ledger.hash_chain import whoami
from labloop.ledger.heads import Head, lost
from labloop.ledger.migrations import newest
from labloop.ledger.schema import check_schema, check_version
from labloop.ledger.tables import link, version
from labloop.ledger.verify import DAMAGE, Verified, check_file, plain, reason, verify_campaign

_MAGIC = b"SQLite format 3\x00"
_NOT_DAMAGE = ("is locked", "may not be opened", "cannot be opened", "the disk is full", "cannot be reached", "too many clients",
               "your account", "system:")  # fmt: skip
"""In what a LedgerError says of a ledger that cannot be looked at now."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What came of examining a ledger."""

    where: str
    file: tuple[str, ...]
    """What is wrong with the file, its tables or its version."""
    campaigns: tuple[Verified, ...]
    lost: tuple[str, ...]
    """What is missing by the heads that were noted outside of the database."""
    noted: str
    """Where heads were noted; "" where they are not."""

    @property
    def faults(self) -> tuple[str, ...]:
        """All that was found, one sentence each."""
        return (*self.file, *self.lost, *(f"{one.campaign}, {fault}" for one in self.campaigns for fault in one.faults))


def examine(
    where: Path | str, *, heads: Path | None = None, campaign: str | None = None, head: str | None = None, timeout: float = 60.0,
    accept: str | None = None,
) -> Examined:  # fmt: skip
    """Verify a ledger: its file, tables, chains and rows, and that nothing is missing that was noted beside it.

    Args:
        where: as for `Ledger.open`; nothing is made there, and an older ledger is not brought up.
        heads: where a server's ledger has its heads noted.
        campaign: only this one's chain.
        head: a hash of the campaign's chain, noted earlier, that must still stand in it.
        accept: the reason why what is missing is to be taken as gone: from now on the ledger is held against its present state.

    Raises:
        CampaignError: nobody knows the campaign.
        LedgerError: the ledger is locked, cannot be reached or may not be opened; or it is of an older version, which has no
            chain yet; or, with `accept`, something else is wrong with it, or its heads cannot be noted.
    """
    database = Database(where, timeout=timeout, read_only=True, lenient=True)
    noted = heads_of(database, heads)
    known, bad = noted.read()  # first: what is written meanwhile is in the ledger before it is noted
    file = _file(database) if database.path is not None else []
    found: list[Verified] = []
    ids: dict[int, str] = {}
    try:
        if not file:
            with database.read() as connection:
                _refuse_old(connection, database.where)
                file = [*check_version(connection), *check_schema(connection), *check_file(connection)]
                ids = _campaigns(connection)
                if campaign is not None and campaign not in ids.values() and campaign not in {one.campaign for one in known}:
                    names = ", ".join(map(plain, ids.values())) or "none"
                    raise CampaignError(
                        f"{database.where}: there is no campaign {campaign!r} (there are: {names}): mend the name"
                    )
                wanted = {key: name for key, name in ids.items() if campaign in (None, name)}
                found = [verify_campaign(connection, key, name, head=head) for key, name in wanted.items()]
                ids = wanted
    except LedgerError as error:
        if any(one in str(error) for one in _NOT_DAMAGE) or _is_old(error):
            raise
        file.append(plain(error).removeprefix(f"{database.where}: "))
    except DAMAGE as error:
        file.append(f"the file: {reason(error)}")
    finally:
        database.close()
    mine = [one for one in known if campaign in (None, one.campaign)]
    chains = {key: (list(one.hashes), one.campaign) for key, one in zip(ids, found)}
    gone = [*lost(mine, chains), *bad]
    examined = Examined(
        where=database.where, file=tuple(file), campaigns=tuple(found), lost=tuple(gone),
        noted=str(noted.path) if noted.path is not None and noted.path.exists() else "",
    )  # fmt: skip
    if accept is None:
        return examined
    if file or any(one.faults for one in found):
        raise LedgerError(
            f"{database.where}: {examined.faults[0]}: what is damaged cannot be accepted; restore a backup that verifies, then "
            "accept that"
        )
    stand = [
        Head(campaign=one.campaign, id=key, links=one.links, head=one.head, rows={"": one.rows}) for key, one in zip(ids, found)
    ]
    try:
        noted.accept(stand, by=whoami(), reason=accept)
    except OSError as error:
        raise LedgerError(f"{noted.path}: cannot be written: {error.strerror}; free the disk or mend the permissions") from error
    return examined


def _file(database: Database) -> list[str]:
    """See that an SQLite file is one at all, before anything opens it."""
    path = database.path
    assert path is not None
    try:
        with path.open("rb") as file:
            first = file.read(len(_MAGIC))
    except FileNotFoundError:
        return ["the file is gone"]
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error.strerror}; make it readable for you") from error
    if not first:
        return ["the file is empty"]
    return [] if first == _MAGIC else ["the file is not an SQLite database, or its beginning is damaged"]


def _campaigns(connection: Connection) -> dict[int, str]:
    """Find the campaigns by their rows, and by their links where a row is gone."""
    found: dict[int, str] = {}
    try:
        for key, name in connection.execute(text("SELECT id, name FROM campaign ORDER BY id")):
            found[key] = str(name)
        for key in connection.execute(text("SELECT DISTINCT campaign FROM link")).scalars():
            found.setdefault(key, f"campaign {key}")
    except DAMAGE:  # told by whoever checks the tables
        return found
    return found


def _refuse_old(connection: Connection, where: str) -> None:
    """Raise where the ledger is of a version that had no chain."""
    try:
        tables = set(inspect(connection).get_table_names())
        old = version.name in tables and link.name not in tables
        numbers = list(connection.execute(text(f"SELECT version FROM {version.name}")).scalars()) if old else []
    except DAMAGE:
        return
    if numbers and all(isinstance(one, int) and 0 < one < newest() for one in numbers):
        raise LedgerError(
            f"{where}: is of version {max(numbers)}, from before the ledger had a chain to verify: `labloop status` brings it up "
            f"to version {newest()} and keeps a copy"
        )


def _is_old(error: LedgerError) -> bool:
    return "from before the ledger had a chain" in str(error)
