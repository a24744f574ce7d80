"""The rows of the ledger that speak of one design or one well, each with the link that brought it: number, time and who."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Connection, Select, Table, and_, or_, select

from labloop.ledger import tables as t


def _link(at: ColumnElement[str] = t.link.c.at) -> tuple[ColumnElement[Any], ...]:
    """Which link brought the row; `at` is the row's own time where it has one, as rows from before the chain do."""
    return (t.link.c.number.label("link"), at.label("at"), t.link.c.by, t.link.c.verb)


@dataclass(frozen=True, eq=False)
class Trail:
    """All frames begin with link, at, by and verb; `by` is whoever migrated for rows from before the chain."""

    wells: pd.DataFrame
    """round, plate, well, design_id, control"""
    readings: pd.DataFrame
    """All readings, also those that were superseded: the measurement's columns, file, sha256, reader and dialect."""
    flags: pd.DataFrame
    """measurement, rule, raised (or taken back), detail (JSON text): quality control's, of these readings."""
    proposals: pd.DataFrame
    """round, rank, n (of the pool), score and the run: proposer, arm, seed, options, versions, device (JSON texts)."""
    picks: pd.DataFrame
    """round, arm, rank, proposer, score, mean, std, lcb, nearest_id, nearest_distance"""
    events: pd.DataFrame
    """round, kind, state, detail (JSON text): all of the campaign's."""
    rounds: pd.DataFrame
    """number, seed, fingerprint, incumbent, snapshot"""


def plates_of(connection: Connection, campaign: int) -> list[str]:
    """Name the plates that were laid out or measured; see `Ledger.plates`."""
    queries = (select(one.c.plate).distinct().filter_by(campaign=campaign) for one in (t.well, t.measurement))
    return sorted({plate for query in queries for plate in connection.execute(query).scalars() if plate is not None})


def trail_of(connection: Connection, campaign: int, *, design_id: str | None, spot: tuple[str, str] | None) -> Trail:
    """Collect the rows; see `Ledger.trail`."""
    m, f, w, p, r = t.measurement.c, t.source_file.c, t.well.c, t.proposal.c, t.run.c

    def rows(query: Select[Any], table: Table, *where: ColumnElement[bool], order: Sequence[Any]) -> pd.DataFrame:
        chain = and_(t.link.c.campaign == campaign, t.link.c.number == table.c.link)
        found = connection.execute(query.join(t.link, chain).where(table.c.campaign == campaign, *where).order_by(*order))
        return pd.DataFrame(found.all(), columns=list(found.keys()), dtype=object)  # None stays None

    at_spot = and_(w.plate == spot[0], w.well == spot[1]) if spot else None
    laid = select(*_link(), w.round, w.plate, w.well, w.design_id, w.control).select_from(t.well)
    wells = rows(laid, t.well, at_spot if at_spot is not None else w.design_id == design_id, order=[w.id])
    numbers = [] if spot is None else [int(one) for one in wells["round"]]
    design_id = design_id or next(iter(wells["design_id"].dropna()), None)

    of = m.design_id == design_id
    if spot is not None:  # what was read there, and what was read of the design in that round without saying where
        of = or_(and_(m.plate == spot[0], m.well == spot[1]), and_(of, m.well.is_(None), m.round.in_(numbers)))
    columns = [column for column in m if column.name not in ("campaign", "file", "link")]
    read = select(*_link(f.at), *columns, f.name.label("file"), f.sha256, f.reader, f.dialect).select_from(t.measurement)
    readings = rows(read.join(t.source_file, m.file == f.id), t.measurement, of, order=[m.id])

    g = t.flag.c
    of_readings = g.measurement.in_([int(one) for one in readings["id"]])
    said = select(*_link(g.at), g.measurement, g.rule, g.raised, g.detail).select_from(t.flag)
    flags = rows(said, t.flag, of_readings, order=[g.id])

    of_round = [] if spot is None else [r.round.in_(numbers)]
    offered = select(
        *_link(r.at), r.round, p.rank, p.run, p.score, r.proposer, r.arm, r.seed, r.options, r.versions, r.device, r.fingerprint
    ).select_from(t.proposal)
    proposals = rows(offered.join(t.run, p.run == r.id), t.proposal, p.design_id == design_id, *of_round, order=[p.run, p.rank])
    k = t.pick.c
    why = [column for column in k if column.name not in ("id", "campaign", "link")]
    of_round = [] if spot is None else [k.round.in_(numbers)]
    picks = rows(select(*_link(), *why).select_from(t.pick), t.pick, k.design_id == design_id, *of_round, order=[k.id])
    e, o = t.event.c, t.round_.c
    events = rows(select(*_link(e.at), e.round, e.kind, e.state, e.detail).select_from(t.event), t.event, order=[e.id])
    opened = select(*_link(o.at), o.number, o.seed, o.fingerprint, o.incumbent, o.snapshot).select_from(t.round_)
    return Trail(wells, readings, flags, proposals, picks, events, rows(opened, t.round_, order=[o.number]))
