"""Designs in and out of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, bindparam, select

from labloop.ledger.frames import TEXT, from_texts, to_texts
from labloop.ledger.hash_chain import Link
from labloop.ledger.tables import design

MANY = 5_000
"""Names in one IN (…): both databases take so many."""


@dataclass(frozen=True)
class NewDesigns:
    """Designs as `add_designs` takes them, sorted by id: a B-tree takes sorted keys fastest."""

    ids: list[str]
    texts: list[str]
    inside: list[bool]


def design_columns(designs: pd.DataFrame) -> NewDesigns:
    """Take a table of designs apart for `add_designs`.

    Args:
        designs: indexed by `design_id` or with that column, the design's own columns, and `in_space` where not True throughout.
    """
    if "design_id" in designs.columns:
        designs = designs.set_index("design_id")
    designs = designs[~designs.index.duplicated()].sort_index()
    inside = designs["in_space"].astype(bool).tolist() if "in_space" in designs.columns else [True] * len(designs)
    ids = [str(one) for one in designs.index.tolist()]
    return NewDesigns(ids, to_texts(designs.drop(columns="in_space", errors="ignore")), inside)


_D = design.c
_SOME = _D.design_id.in_(bindparam("some", expanding=True))
_IDS = select(_D.design_id).where(_D.campaign == bindparam("campaign"))
_ANY, _KNOWN = _IDS.limit(1), _IDS.where(_SOME)
_WHOLE = select(_D.design_id, _D["values"], _D.in_space).where(_D.campaign == bindparam("campaign"))
_SORTED, _CHOSEN = _WHOLE.order_by(_D.design_id), _WHOLE.where(_SOME)


def add_designs(link: Link, designs: NewDesigns) -> None:
    """Insert the designs that the campaign does not know yet."""
    known: set[str] = set()
    if link.connection.execute(_ANY, {"campaign": link.campaign}).first():
        for start in range(0, len(designs.ids), MANY):
            some = {"campaign": link.campaign, "some": designs.ids[start : start + MANY]}
            known.update(link.connection.execute(_KNOWN, some).scalars())
    ids, texts, inside = designs.ids, designs.texts, designs.inside
    if known:
        new = [i for i, one in enumerate(ids) if one not in known]
        ids, texts, inside = [ids[i] for i in new], [texts[i] for i in new], [inside[i] for i in new]
    link.many(design, {"design_id": ids, "values": texts, "in_space": inside}, len(ids))


def designs_of(connection: Connection, campaign_id: int, ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Read designs, in the order of `ids` where given and by id otherwise; see `Ledger.designs`."""
    if ids is None:
        rows = connection.execute(_SORTED, {"campaign": campaign_id}).tuples().all()
    else:
        found: dict[str, Any] = {}
        for start in range(0, len(ids), MANY):
            some = {"campaign": campaign_id, "some": ids[start : start + MANY]}
            found.update((row[0], row) for row in connection.execute(_CHOSEN, some).tuples())
        rows = [found[one] for one in ids if one in found]
    frame = from_texts([row[1] for row in rows])
    frame["in_space"] = np.array([row[2] for row in rows], dtype=bool)
    frame.index = pd.Index([row[0] for row in rows], dtype=TEXT, name="design_id")
    return frame
