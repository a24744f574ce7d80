"""Designs in and out of the ledger, and the check that a corrected reading is one that still stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, select

from labloop.errors import CampaignError
from labloop.ledger.database import insert_many
from labloop.ledger.frames import TEXT, from_texts, to_texts
from labloop.ledger.tables import design, measurement

Columns = dict[str, Iterable[Any]]
_MANY = 5_000  # names in one IN (…): both databases take this many


def design_columns(designs: pd.DataFrame) -> Columns:
    """Take a table of designs apart for `add_designs`, sorted by id: a B-tree takes sorted keys fastest.

    Args:
        designs: indexed by `design_id` or with that column, the design's own columns, and `in_space` where not True throughout.
    """
    if "design_id" in designs.columns:
        designs = designs.set_index("design_id")
    designs = designs[~designs.index.duplicated()].sort_index()
    inside = designs["in_space"].astype(bool).tolist() if "in_space" in designs.columns else repeat(True)
    ids = [str(one) for one in designs.index.tolist()]
    return {"design_id": ids, "values": to_texts(designs.drop(columns="in_space", errors="ignore")), "in_space": inside}


def add_designs(connection: Connection, campaign_id: int, columns: Columns) -> None:
    """Insert the designs that the campaign does not know yet."""
    insert_many(connection, design, {"campaign": repeat(campaign_id), **columns}, ignore=True)


def designs_of(connection: Connection, campaign_id: int, ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Read designs, in the order of `ids` where given and by id otherwise; see `Ledger.designs`."""
    query = select(design.c.design_id, design.c["values"], design.c.in_space).filter_by(campaign=campaign_id)
    if ids is None:
        rows = connection.execute(query.order_by(design.c.design_id)).tuples().all()
    else:
        found: dict[str, Any] = {}
        for start in range(0, len(ids), _MANY):
            some = connection.execute(query.where(design.c.design_id.in_(ids[start : start + _MANY]))).tuples().all()
            found.update((row[0], row) for row in some)
        rows = [found[one] for one in ids if one in found]
    frame = from_texts([row[1] for row in rows])
    frame["in_space"] = np.array([row[2] for row in rows], dtype=bool)
    frame.index = pd.Index([row[0] for row in rows], dtype=TEXT, name="design_id")
    return frame


def check_supersedes(connection: Connection, campaign_id: int, ids: Sequence[int]) -> None:
    """See that each reading to be superseded is the campaign's and stands.

    Raises:
        CampaignError: one is not, or would be superseded twice.
    """
    m = measurement.c
    own: set[int] = set()
    gone: set[int] = {one for one in ids if ids.count(one) > 1} if len(set(ids)) < len(ids) else set()
    for start in range(0, len(ids), _MANY):
        some = ids[start : start + _MANY]
        own.update(connection.execute(select(m.id).filter_by(campaign=campaign_id).where(m.id.in_(some))).scalars())
        newer = connection.execute(select(m.supersedes).where(m.supersedes.in_(some))).scalars()
        gone.update(one for one in newer if one is not None)
    if strange := sorted(set(ids) - own):
        raise CampaignError(f"measurement {strange[0]}, to be superseded, is not one of this campaign: look its id up again")
    if gone:
        raise CampaignError(f"measurement {min(gone)} would be superseded twice: supersede the reading that stands instead")
