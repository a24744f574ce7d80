"""What was read of a campaign, kept until its chain has a new link: nothing is written without one, so that it still holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd
from sqlalchemy import Connection, bindparam, select

from labloop.ledger import tables as t

T = TypeVar("T")
MOST = 20_000
"""Rows of an answer that is kept: a longer one is read again rather than held twice."""

_DEEP = int(pd.__version__.partition(".")[0]) < 3
"""Whether a frame has to be copied as a whole for somebody who may write to it: pandas 3 does so at the first writing."""

_END = (
    select(t.campaign.c.id, t.link.c.number, t.link.c.hash)
    .outerjoin_from(t.campaign, t.link, t.link.c.campaign == t.campaign.c.id)
    .where(t.campaign.c.name == bindparam("name"))
    .order_by(t.link.c.number.desc())
    .limit(1)
)


class Answers:
    """The answers of one ledger, by campaign; threads may share them."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[tuple[Any, ...], dict[Any, Any]]] = {}

    def get(self, connection: Connection, campaign: str, read: Callable[..., T], *arguments: Any) -> T | None:
        """Give `read(connection, campaign's id, *arguments)`, or a copy of what it gave since the chain moved last.

        To be asked outside of a transaction that writes, and inside one that reads: chain and answer are of one moment.

        Returns:
            None where there is no such campaign.
        """
        found = connection.execute(_END, {"name": campaign}).first()
        if found is None:
            return None
        end = tuple(found)
        held = self._held.get(campaign)
        if held is None or held[0] != end:
            held = self._held[campaign] = (end, {})
        key = (read, arguments)
        if key in held[1]:
            return _own(held[1][key])
        value = read(connection, end[0], *arguments)
        if end[1] is not None and not (isinstance(value, pd.DataFrame | list) and len(value) > MOST):
            held[1][key] = value
            return _own(value)
        return value


def _own(value: Any) -> Any:
    """Whoever is answered may change what is given to them."""
    if isinstance(value, pd.DataFrame):
        return value.copy(deep=_DEEP)
    return value.copy() if isinstance(value, list) else value
