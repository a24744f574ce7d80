"""Flags of quality control, and the configuration as it was when a round opened: the order of events tells what came first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import pandas as pd
from sqlalchemy import Connection, bindparam, select

from labloop.ledger.frames import to_frame, to_json, types_of
from labloop.ledger.hash_chain import Link
from labloop.ledger.readings import newest
from labloop.ledger.states import RoundState
from labloop.ledger.tables import campaign, event, flag

CHECKED, REVISED = "quality", "revised"
"""Kinds of events: readings were checked, the campaign's configuration was replaced."""


_E = event.c
_OPENED = select(_E.id).where(
    _E.campaign == bindparam("campaign"), _E.round == bindparam("round"), _E.state == RoundState.READY.value
)
_OF_KIND = (
    select(_E.id, _E.detail)
    .where(_E.campaign == bindparam("campaign"), _E.kind == bindparam("kind"))
    .order_by(_E.id.desc())
    .limit(1)
)
_OF_KIND_BEFORE = _OF_KIND.where(_E.id < bindparam("before"))
_FIRST = select(campaign.c.config).where(campaign.c.id == bindparam("campaign"))
_F, _FLAG = flag.c, ("measurement", "rule", "detail", "at")
_FLAGS = select(*(_F[name] for name in _FLAG), _F.raised).where(_F.campaign == bindparam("campaign")).order_by(_F.id)
_FLAGS_BEFORE = _FLAGS.where(_F.event < bindparam("before"))
_KINDS = types_of(flag, _FLAG)


def opening(connection: Connection, campaign_id: int, number: int | None) -> int | None:
    """Give the id of the event that opened a round; None where there is no such round, which stands for now."""
    if number is None:
        return None
    return connection.execute(_OPENED, {"campaign": campaign_id, "round": number}).scalar()


def revisions_of(connection: Connection, campaign_id: int, before: int | None) -> str | None:
    """Give the configuration that the last revision brought, as text; None where the first one stands."""
    query = _OF_KIND if before is None else _OF_KIND_BEFORE
    found = connection.execute(query, {"campaign": campaign_id, "kind": REVISED, "before": before}).tuples().first()
    return None if found is None else str(json.loads(str(found[1]))["config"])


def config_of(connection: Connection, campaign_id: int, before_round: int | None) -> str:
    """Give a campaign's configuration as text: its last revision's before a round opened, else the first; see `Ledger.config`."""
    revised = revisions_of(connection, campaign_id, opening(connection, campaign_id, before_round))
    return connection.execute(_FIRST, {"campaign": campaign_id}).scalar_one() if revised is None else revised


def last_check(connection: Connection, campaign_id: int) -> tuple[int, bool]:
    """Give the id of the last event that a check left (0 before any), and whether something came in since."""
    found = connection.execute(_OF_KIND, {"campaign": campaign_id, "kind": CHECKED}).tuples().first()
    last, until = (0, 0) if found is None else (found[0], json.loads(str(found[1]))["until"])
    latest = newest(connection, campaign_id)
    revised = connection.execute(_OF_KIND, {"campaign": campaign_id, "kind": REVISED}).tuples().first()
    return last, latest > until or (revised is not None and revised[0] > last and latest > 0)


def add_check(link: Link, rows: Sequence[tuple[int, str, bool, Any]], *, until: int, after: int) -> bool:
    """Insert a check's event and what it found, unless another check came between (then False); see `Ledger.add_flags`."""
    if last_check(link.connection, link.campaign)[0] != after:
        return False
    raised = sum(row[2] for row in rows)
    told = {"until": until, "raised": raised, "taken_back": len(rows) - raised}
    check = link.once(event, kind=CHECKED, detail=to_json(told))
    if rows and check is not None:
        add_flags(link, check, rows)
    return True


def add_flags(link: Link, check: int, rows: Sequence[tuple[int, str, bool, Any]]) -> None:
    """Insert rows of reading, rule, raised and detail under the event of their check."""
    columns: dict[str, Any] = dict(
        zip(("measurement", "rule", "raised", "detail"), map(list, zip(*rows, strict=True)), strict=True)
    )
    columns["detail"] = [None if one is None else to_json(one) for one in columns["detail"]]
    link.many(flag, {"event": repeat(check), "at": repeat(link.at), **columns}, len(rows))


def flags_of(connection: Connection, campaign_id: int, before_round: int | None) -> pd.DataFrame:
    """List the flags that stand: the last row of each reading and rule, where it is raised; see `Ledger.flags`."""
    before = opening(connection, campaign_id, before_round)
    query = _FLAGS if before is None else _FLAGS_BEFORE
    rows = connection.execute(query, {"campaign": campaign_id, "before": before}).all()
    last = {(measurement, rule): i for i, (measurement, rule, *_) in enumerate(rows)}  # frames of so few rows take far longer
    frame = to_frame([rows[i][:-1] for i in sorted(last.values()) if rows[i][-1]], _KINDS)
    details = [json.loads(one) if isinstance(one, str) else {} for one in frame["detail"]]
    return frame.assign(detail=pd.Series(details, index=frame.index, dtype=object))
