"""Wells that a person took out of a proposed plate: events that change what the rows of picks and wells mean, never the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any

import pandas as pd
from sqlalchemy import Connection, bindparam, select

from labloop.errors import CampaignError
from labloop.ledger import tables as t
from labloop.ledger.batches import PICK, VETO, WELL
from labloop.ledger.chained import read_rows
from labloop.ledger.frames import to_columns
from labloop.ledger.hash_chain import Link
from labloop.ledger.rounds import add_event, round_of
from labloop.ledger.states import RoundState

__all__ = ["VETO", "add_veto", "picks_of", "wells_of"]

Vetoes = list[tuple[int, dict[str, Any]]]
"""Round and detail: `design_id`, the `arms` that had picked it, `wells` (a list of plate and well), `by`, `reason`, and
`replacement`, the arm, design and rank that came in, or nothing where the wells stay empty."""


def picks_of(connection: Connection, campaign_id: int, number: int | None) -> pd.DataFrame:
    """List picks without those that were vetoed; what came in for them has rows of its own. See `Ledger.picks`."""
    picks, vetoes = read_rows(connection, campaign_id, t.pick, ("round", *PICK), number), _vetoes(connection, campaign_id, number)
    if not vetoes:
        return picks
    gone = {(number, arm, told["design_id"]) for number, told in vetoes for arm in told["arms"]}
    kept = [key not in gone for key in zip(picks["round"], picks["arm"], picks["design_id"], strict=True)]
    return picks[kept].reset_index(drop=True)


def wells_of(connection: Connection, campaign_id: int, number: int | None) -> pd.DataFrame:
    """List used wells: a vetoed one holds what came in, or is used no more. See `Ledger.wells`."""
    wells, vetoes = read_rows(connection, campaign_id, t.well, ("round", *WELL), number), _vetoes(connection, campaign_id, number)
    if not vetoes:
        return wells
    held = dict(_held(vetoes))
    spots = zip(wells["plate"], wells["well"], wells["design_id"], strict=True)
    designs = [held.get((plate, well), design) for plate, well, design in spots]
    wells = wells.assign(design_id=pd.Series(designs, index=wells.index, dtype=object))
    return wells[wells["design_id"].notna() | wells["control"].notna()].reset_index(drop=True)


def _held(vetoes: Vetoes) -> Iterator[tuple[tuple[str, str], Any]]:
    for _, told in vetoes:
        new = (told.get("replacement") or {}).get("design_id")
        yield from (((plate, well), new) for plate, well in told["wells"])


_E = t.event.c
_VETOES = select(_E.round, _E.detail).where(_E.campaign == bindparam("campaign"), _E.kind == VETO).order_by(_E.id)
_VETOES_OF = _VETOES.where(_E.round == bindparam("round"))


def _vetoes(connection: Connection, campaign_id: int, number: int | None) -> Vetoes:
    query = _VETOES if number is None else _VETOES_OF
    found = connection.execute(query, {"campaign": campaign_id, "round": number}).tuples()
    return [(int(number), json.loads(detail)) for number, detail in found]


def add_veto(link: Link, campaign: str, number: int, detail: Mapping[str, Any], picks: pd.DataFrame) -> None:
    """Write a veto with the pick that comes in; see `Ledger.add_veto`.

    Raises:
        CampaignError: the round's plate is not, or no longer, only proposed.
    """
    state = round_of(link.connection, link.campaign, campaign, number).state
    if state != RoundState.PROPOSED:
        raise CampaignError(f"round {number} of {campaign!r} is {state}: a well can be vetoed while its plate is PROPOSED only")
    add_event(link, campaign, VETO, detail, number)
    if len(picks):
        link.many(t.pick, {"round": repeat(number), **to_columns(picks, t.pick, PICK)}, len(picks))
