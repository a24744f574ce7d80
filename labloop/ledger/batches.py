"""Runs with the pools that they offer, and batches: picks and the wells of their plates, in and out of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import Any

import pandas as pd
from sqlalchemy import Connection, bindparam, func, select

from labloop.errors import CampaignError
from labloop.ledger import tables as t
from labloop.ledger.chained import read_rows
from labloop.ledger.designs import NewDesigns, add_designs, design_columns, designs_of
from labloop.ledger.frames import from_json, to_columns, to_frame, types_of
from labloop.ledger.hash_chain import Link
from labloop.ledger.rounds import advance
from labloop.ledger.states import RoundState

PICK = ("arm", "rank", "design_id", "proposer", "score", "mean", "std", "lcb", "nearest_id", "nearest_distance")
WELL = ("plate", "well", "row", "column", "design_id", "control")
RUN = (
    "round", "key", "proposer", "arm", "options", "seed", "fingerprint", "device", "seconds", "cpu_seconds", "versions", "notes",
    "at", "by",
)  # fmt: skip
VETO = "veto"
"""The kind of event by which a well is taken out of a plate, see `labloop.ledger.vetoes`."""
_OFFERED = ("design_id", "rank", "score")


@dataclass(frozen=True)
class Offered:
    """A pool as `add_run` takes it."""

    designs: NewDesigns
    columns: dict[str, list[Any]]
    n: int


@dataclass(frozen=True)
class NewBatch:
    """A batch as `add_batch` takes it."""

    designs: NewDesigns
    picks: dict[str, list[Any]]
    wells: dict[str, list[Any]]
    n_picks: int
    n_wells: int


def run_columns(pool: pd.DataFrame, designs: pd.DataFrame) -> Offered:
    """Take a pool apart for `add_run`."""
    return Offered(design_columns(designs), to_columns(pool, t.proposal, _OFFERED), len(pool))


def add_run(link: Link, offered: Offered, **told: Any) -> bool:
    """Insert a run and its pool, unless one of its key is there (then False)."""
    run = link.once(t.run, **told)
    if run is None:
        return False
    add_designs(link, offered.designs)
    link.many(t.proposal, {"run": repeat(run), **offered.columns}, offered.n)
    return True


def runs_of(connection: Connection, campaign_id: int, number: int | None) -> pd.DataFrame:
    """List runs; see `Ledger.runs`."""
    frame = read_rows(connection, campaign_id, t.run, RUN, number)
    return frame.assign(**{name: from_json(frame[name]) for name in ("options", "versions", "notes")})


_RUNS = select(t.run.c.key, t.run.c.id).where(t.run.c.campaign == bindparam("campaign"), t.run.c.round == bindparam("round"))
_POOL = select(*(t.proposal.c[name] for name in _OFFERED)).where(t.proposal.c.run == bindparam("run")).order_by(t.proposal.c.rank)


def pool_of(connection: Connection, campaign_id: int, campaign: str, number: int, key: str) -> pd.DataFrame:
    """Read the pool that a run offered; see `Ledger.pool`.

    Raises:
        CampaignError: the round has no such run.
    """
    runs = dict(connection.execute(_RUNS, {"campaign": campaign_id, "round": number}).tuples().all())
    if key not in runs:
        known = ", ".join(runs) or "none yet"
        raise CampaignError(f"round {number} of {campaign!r} has no run {key!r} (there are: {known}): train it first")
    rows = connection.execute(_POOL, {"run": runs[key]}).all()
    frame = to_frame(rows, types_of(t.proposal, _OFFERED))
    points = designs_of(connection, campaign_id, frame["design_id"].tolist()).drop(columns="in_space")
    return pd.concat([frame, points.reset_index(drop=True)], axis=1)


_OFFERS = (
    select(t.run.c.key, t.proposal.c.design_id)
    .join_from(t.run, t.proposal, t.proposal.c.run == t.run.c.id)
    .where(t.run.c.campaign == bindparam("campaign"), t.run.c.round == bindparam("round"))
    .order_by(t.run.c.id, t.proposal.c.rank)
)


def offers_of(connection: Connection, campaign_id: int, number: int) -> list[tuple[str, str]]:
    """List a round's offers; see `Ledger.offers`."""
    found = connection.execute(_OFFERS, {"campaign": campaign_id, "round": number})
    return [(key, design_id) for key, design_id in found.tuples()]


def batch_columns(designs: pd.DataFrame, picks: pd.DataFrame, wells: pd.DataFrame) -> NewBatch:
    """Take a batch apart for `add_batch`."""
    chosen, laid = to_columns(picks, t.pick, PICK), to_columns(wells, t.well, WELL)
    return NewBatch(design_columns(designs), chosen, laid, len(picks), len(wells))


def add_batch(link: Link, campaign: str, number: int, batch: NewBatch) -> bool:
    """Insert a round's picks and wells and move it to PROPOSED, unless it is there (then False); see `Ledger.add_batch`.

    Raises:
        CampaignError: the round is not TRAINED, or a plate's name is taken.
    """
    if not advance(link, campaign, number, RoundState.PROPOSED, {"n_wells": batch.n_wells}):
        return False
    plates = select(t.well.c.plate).distinct().filter_by(campaign=link.campaign)
    if twice := sorted(set(link.connection.execute(plates).scalars()) & set(batch.wells["plate"])):
        raise CampaignError(f"campaign {campaign!r} has a plate {', '.join(twice)} already: name round {number}'s otherwise")
    add_designs(link, batch.designs)
    link.many(t.pick, {"round": repeat(number), **batch.picks}, batch.n_picks)
    link.many(t.well, {"round": repeat(number), **batch.wells}, batch.n_wells)
    return True


def head_of(connection: Connection, campaign_id: int, number: int) -> dict[str, Any]:
    """Name the link that a round's batch, or the last veto of it, came with: link and head, None where there is no batch."""
    w, k = t.well.c, t.link.c
    e = t.event.c
    laid = connection.execute(select(func.max(w.link)).where(w.campaign == campaign_id, w.round == number)).scalar()
    vetoed = select(func.max(e.link)).where(e.campaign == campaign_id, e.round == number, e.kind == VETO)
    mine = None if laid is None else max(laid, connection.execute(vetoed).scalar() or 0)
    found = connection.execute(select(k.number, k.hash).where(k.campaign == campaign_id, k.number == mine)).tuples().first()
    return {"link": found[0] if found else None, "head": found[1] if found else None}
