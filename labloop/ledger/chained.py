"""An open ledger below its verbs: transactions that each close with a link of the chain, and the heads noted beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakMethod

import pandas as pd
from sqlalchemy import Connection, Select, Table, bindparam, func, select
from sqlalchemy.engine import URL

from labloop.errors import CampaignError
from labloop.ledger import tables as t
from labloop.ledger.answers import Answers
from labloop.ledger.database import Database
from labloop.ledger.frames import to_frame, types_of
from labloop.ledger.hash_chain import Link, rows_of
from labloop.ledger.heads import ENDING, Head, Heads
from labloop.ledger.verify import ends_of

T = TypeVar("T")

_ID = select(t.campaign.c.id).where(t.campaign.c.name == bindparam("name"))
_NAMES = select(t.campaign.c.name).order_by(t.campaign.c.id)
_HEAD = select(t.link.c.hash).where(t.link.c.campaign == t.campaign.c.id).order_by(t.link.c.number.desc()).limit(1)
_HEADS = select(t.campaign.c.name, _HEAD.scalar_subquery()).order_by(t.campaign.c.id)


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


def _told(noting: WeakMethod[Any], heads: list[Head]) -> None:
    if (note := noting()) is not None:
        note(heads)


class Chained:
    """A database that is written to by links only: whoever writes gets one, and it is closed and noted behind them."""

    def __init__(self, database: Database, clock: Callable[[], datetime], by: str, heads: Heads) -> None:
        self.database = database
        self.heads = heads
        self._clock, self._by, self._has_noted = clock, by, False
        self._answers = Answers()
        self._totals: dict[int, tuple[str, dict[str, int]]] = {}
        """By campaign: its last link's hash, and rows by table until there."""
        noting = WeakMethod(self._note)  # no circle: a server's connection goes back when the last of us is gone
        database.committed = lambda heads: _told(noting, heads)

    def read(self) -> AbstractContextManager[Connection]:
        """Read; see `Database.read`."""
        return self.database.read()

    def add(self, name: str, config_json: str) -> None:
        """Begin a campaign's chain; see `Ledger.add_campaign`."""
        with self.database.begin() as connection:
            key = 1 + (connection.execute(select(func.max(t.campaign.c.id))).scalar() or 0)
            link = self.link(connection, key, "campaign")
            if link.once(t.campaign, name=name, config=config_json) is None:
                raise CampaignError(
                    f"{self.database.where}: campaign {name!r} exists already: go on with it (`labloop status {name}`), "
                    f"change it (`labloop revise {name} FILE.yaml --reason …`), or give the new one another name"
                )
            self.shut(link, name)

    @contextmanager
    def write(self, campaign: str, verb: str) -> Iterator[Link]:
        """Write a verb's rows in one transaction and close its link of the chain."""
        with self.database.begin() as connection:
            link = self.link(connection, self.id(connection, campaign), verb)
            yield link
            self.shut(link, campaign)

    def link(self, connection: Connection, campaign: int, verb: str) -> Link:
        """Begin the next link of a campaign's chain."""
        return Link(connection, campaign, verb, at=self.now(), by=self._by)

    def shut(self, link: Link, campaign: str) -> None:
        """Close a link, and remember where the chain ends once this is committed."""
        if (head := link.close()) is None:
            return
        until, rows = self._totals.get(link.campaign, ("", {}))
        if until == link.before and until:
            rows = {name: rows.get(name, 0) + link.written.get(name, 0) for name in {**rows, **link.written}}
        else:  # somebody else wrote in between
            rows = rows_of(link.connection, link.campaign)
        self._totals[link.campaign] = head, rows
        told = Head(campaign=campaign, id=link.campaign, links=link.number, head=head, rows=rows, at=link.at)
        self.database.note(told)

    def _note(self, heads: list[Head]) -> None:
        """Note heads beside the ledger; those of all campaigns where nothing was noted yet."""
        if heads and self.heads.path is not None and not self._has_noted:
            if not self.heads.read()[0]:
                others = (self.ends(name) for name in self.names())
                heads = [*(one for one in others if one.id not in {head.id for head in heads}), *heads]
            self._has_noted = True
        self.heads.note({head.id: head for head in heads}.values())

    def now(self) -> str:
        """The one place where rows get their time: ISO 8601, UTC."""
        return self._clock().astimezone(UTC).isoformat(timespec="microseconds")

    def id(self, connection: Connection, name: str) -> int:
        """Give a campaign's number.

        Raises:
            CampaignError: nobody knows it.
        """
        found = connection.execute(_ID, {"name": name}).scalar()
        if found is None:
            names = {one.lower(): one for one in self.names()}
            known = ", ".join(names.values()) or "none yet"
            like = get_close_matches(name.lower(), names, n=1)
            mend = f"did you mean {names[like[0]]}?" if like else "run `labloop init`, or mend the name"
            raise CampaignError(f"{self.database.where}: there is no campaign {name!r} (there are: {known}): {mend}")
        return found

    def names(self) -> list[str]:
        """Name the campaigns, oldest first."""
        with self.read() as connection:
            return list(connection.execute(_NAMES).scalars())

    def ends(self, campaign: str) -> Head:
        """Tell where the chain of a campaign ends."""
        with self.read() as connection:
            return ends_of(connection, self.id(connection, campaign), campaign)

    def answer(self, campaign: str, read: Callable[..., T], *arguments: Any) -> T:
        """Give `read(connection, campaign's id, *arguments)`, as it was read since the last write where nobody is writing."""
        with self.read() as connection:
            kept = not self.database.writing  # what is not committed yet may be undone
            if kept and (found := self._answers.get(connection, campaign, read, *arguments)) is not None:
                return found
            return read(connection, self.id(connection, campaign), *arguments)

    def now_at(self) -> dict[str, str]:
        """Tell the hash of each campaign's last link, oldest first, by one question; nothing while this thread writes."""
        if self.database.writing:
            return {}
        with self.read() as connection:
            return {name: head or "" for name, head in connection.execute(_HEADS).tuples()}

    def rows(self, campaign: str, table: Table, columns: Sequence[str], number: int | None = None) -> pd.DataFrame:
        """Read a campaign's rows of a table in the order they were written."""
        return self.answer(campaign, read_rows, table, tuple(columns), number)


_LAST_OF = select(func.max(t.link.c.number)).where(
    t.link.c.campaign == bindparam("campaign"), t.link.c.verb.in_(bindparam("verbs", expanding=True))
)


def last_link(connection: Connection, key: int, verbs: Sequence[str]) -> int:
    """Number the last link that one of these verbs wrote; see `Ledger.last`."""
    return connection.execute(_LAST_OF, {"campaign": key, "verbs": list(verbs)}).scalar() or 0


def read_rows(connection: Connection, key: int, table: Table, columns: Sequence[str], number: int | None = None) -> pd.DataFrame:
    """Read the rows of the campaign with this id, of one round where it is given, in the order they were written."""
    query, kinds = _rows(table, tuple(columns), number is not None)
    return to_frame(connection.execute(query, {"campaign": key, "round": number}).all(), kinds)


@cache
def _rows(table: Table, columns: tuple[str, ...], of_round: bool) -> tuple[Select[Any], dict[str, type]]:
    query = select(*(table.c[name] for name in columns if name != "by")).where(table.c.campaign == bindparam("campaign"))
    if "by" in columns:  # the last one
        chain = (t.link.c.campaign == table.c.campaign) & (t.link.c.number == table.c.link)
        query = query.add_columns(t.link.c.by).outerjoin_from(table, t.link, chain)
    if of_round:
        query = query.where(table.c.round == bindparam("round"))
    kinds = {**types_of(table, [name for name in columns if name != "by"]), **({"by": str} if "by" in columns else {})}
    return query.order_by(table.c.id), kinds


def heads_of(database: Database, path: Path | None = None) -> Heads:
    """Give the heads of a ledger: beside an SQLite file, in the file that is named for a server's."""
    if database.path is not None:
        return Heads(database.path.with_name(database.path.name + ENDING))
    url = database.engine.url
    query = {name: value for name, value in url.query.items() if "pass" not in name and name != "user"}
    return Heads(
        path, URL.create("postgresql", host=url.host, port=url.port, database=url.database, query=query).render_as_string()
    )
