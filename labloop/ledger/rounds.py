"""A round's state, read from its events and moved by adding one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from sqlalchemy import Connection, bindparam, select

from labloop.errors import CampaignError
from labloop.ledger.chained import read_rows
from labloop.ledger.frames import from_json, to_json
from labloop.ledger.hash_chain import Link
from labloop.ledger.states import STATES, RoundState
from labloop.ledger.tables import event, round_

OWN = {"seeds": "round"}
"""What the event that opens a round says: all its seeds derive from the round's. Rounds of labloop 0.1.0 say nothing."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round as it stands now."""

    number: int
    state: RoundState
    config: str
    """The round's configuration, the JSON text that it was opened with."""
    seed: int
    own_seed: bool
    """Whether everything of the round derives from `seed`; what labloop 0.1.0 opened derives from the campaign's."""
    fingerprint: str
    """Of the dataset that the round learns from."""
    incumbent: float | None
    """The best value when the round was opened; None before any."""
    snapshot: int
    """Id of the last reading that the round learns from; 0 where there is none."""
    opened_at: str


def events_of(connection: Connection, campaign_id: int) -> pd.DataFrame:
    """List what happened, in order; see `Ledger.events`."""
    frame = read_rows(connection, campaign_id, event, ("at", "kind", "round", "state", "detail", "by"))
    return frame.assign(detail=from_json(frame["detail"]))


_R = round_.c
_ROUNDS = (
    select(_R.number, _R.config, _R.seed, _R.fingerprint, _R.incumbent, _R.snapshot, _R.at, event.c.state, event.c.detail)
    .join_from(round_, event, (event.c.campaign == _R.campaign) & (event.c.round == _R.number))
    .where(_R.campaign == bindparam("campaign"), event.c.state.is_not(None))
    .order_by(_R.number)
)


def rounds_of(connection: Connection, campaign_id: int) -> list[Round]:
    """List a campaign's rounds by number; the state is the furthest one that has an event."""
    rounds: dict[int, Round] = {}
    own: set[int] = set()
    found = connection.execute(_ROUNDS, {"campaign": campaign_id})
    for number, config, seed, fingerprint, incumbent, snapshot, at, state, detail in found.tuples():
        if state == RoundState.READY and detail is not None and json.loads(detail).get("seeds") == OWN["seeds"]:
            own.add(number)
        if number not in rounds or RoundState(state).place > rounds[number].state.place:
            rounds[number] = Round(
                number=number,
                state=RoundState(state),
                config=config,
                seed=seed,
                own_seed=False,
                fingerprint=fingerprint,
                incumbent=incumbent,
                snapshot=snapshot,
                opened_at=at,
            )
    return [replace(one, own_seed=one.number in own) for one in rounds.values()]


def open_round(link: Link, number: int, opened: Mapping[str, Any]) -> bool:
    """Insert a round, READY, unless it is there (then False); see `Ledger.open_round`."""
    return link.once(round_, number=number, **opened) is not None and enter(link, number, RoundState.READY, OWN)


def round_of(connection: Connection, campaign_id: int, campaign: str, number: int) -> Round:
    """Find one round.

    Raises:
        CampaignError: it is not open.
    """
    rounds = {one.number: one for one in rounds_of(connection, campaign_id)}
    if number not in rounds:
        known = ", ".join(map(str, rounds)) or "none yet"
        raise CampaignError(f"round {number} of {campaign!r} is not open (open: {known}): run `labloop propose {campaign}` first")
    return rounds[number]


def advance(link: Link, campaign: str, number: int, state: RoundState | str, detail: Mapping[str, Any] | None) -> bool:
    """Move a round one state on, or say False where it is there or beyond; see `Ledger.advance`."""
    if state not in STATES:
        raise ValueError(f"{state!r} is not a state of a round: {', '.join(STATES)}")
    wanted, now = RoundState(state), round_of(link.connection, link.campaign, campaign, number).state
    if now.place >= wanted.place:
        return False
    if now.place < wanted.place - 1:
        before = STATES[wanted.place - 1]
        raise CampaignError(f"round {number} of {campaign!r} is {now} and cannot be {wanted} before it is {before}")
    return enter(link, number, wanted, detail)


def add_event(link: Link, campaign: str, kind: str, detail: Mapping[str, Any] | None, number: int | None) -> None:
    """Write an event that moves no round; see `Ledger.add_event`."""
    if number is not None:
        round_of(link.connection, link.campaign, campaign, number)
    link.once(event, round=number, kind=kind, detail=None if detail is None else to_json(detail))


def enter(link: Link, number: int, state: RoundState, detail: Mapping[str, Any] | None) -> bool:
    """Write the event of a transition unless it stands there already; the caller has checked that it is due."""
    text = None if detail is None else to_json(detail)
    return link.once(event, round=number, kind="state", state=state.value, detail=text) is not None
