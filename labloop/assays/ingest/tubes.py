"""Tubes by the names that labloop gave them on plate map, order sheets and worklists."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from labloop.assays.ingest.cells import Column, Table
from labloop.errors import Fault
from labloop.plates.batch import tubes
from labloop.types import Array

_END = re.compile(r"_R[0-9]{2,}(?:_P[0-9]+)?_[A-Z]{1,2}[0-9]{2}")
"""How the name of a tube ends, behind its campaign's."""


def designs_of_tubes(table: Table, place: str, campaign: str, wells: pd.DataFrame) -> tuple[Array, Array, list[Fault]]:
    """Find designs by the names of their tubes.

    Returns:
        The designs' ids (n,); each row's well where its tube fills no other, as a row of `wells`, else -1 (what was measured of a
        tube that fills several belongs to none of them); and the faults.
    """
    laid = tubes(campaign, wells)
    named = {str(name): (rows.index, rows["design_id"].iloc[0]) for name, rows in laid.groupby("sample")}
    column = table.columns[place]
    asked = [named.get(text.upper(), (laid.index[:0], np.nan)) for text in column.texts.tolist()]
    ids = column.spread(np.array([one for _, one in asked], dtype=object))
    alone = column.spread(np.array([rows[0] if len(rows) == 1 else -1 for rows, _ in asked], dtype=np.int64))
    known = column.spread(np.array([len(rows) > 0 for rows, _ in asked], dtype=bool))
    shown = ", ".join([*named][:3]) + (", …" if len(named) > 3 else "")
    rule = f"is no sample that labloop named ({shown or 'there is none yet'}): mend it, or give plate and well"
    return ids, alone, table.mark(column.given & ~known, place, rule)


def ours(column: Column, laid: pd.DataFrame) -> Array:
    """Whether each of a column's distinct texts is a tube's name of the campaign of these, (k,) bool, laid out or not."""
    begin = {_END.sub("", name) for name in laid["sample"]}
    upper = [text.upper() for text in column.texts.tolist()]
    ends = [_END.search(text) for text in upper]
    return np.array(
        [end is not None and not text[end.end() :] and text[: end.start()] in begin for text, end in zip(upper, ends)], dtype=bool
    )


def other_tubes(
    table: Table, found: Mapping[str, str], campaign: str, wells: pd.DataFrame, *, row_of: Array, own: Array
) -> list[Fault]:
    """Rows that name a tube of labloop's beside a well, or a design, that is another tube's.

    Args:
        row_of: each row's well as a row of `wells`, (n,), -1 where it names none.
        own: the design that it names besides, (n,), NaN where there is none.
    """
    place, column = found["sample"], table.columns[found["sample"]]
    laid = tubes(campaign, wells)
    said = column.spread(np.array([text.upper() for text in column.texts.tolist()], dtype=object))
    mine = column.spread(ours(column, laid))
    name = laid["sample"].reindex(row_of).to_numpy(dtype=object)
    faults = table.mark(
        mine & (row_of >= 0) & (name != said),
        place,
        "is not the tube of the row's well, which is {}: mend the one or the other",
        name,
    )
    design = laid.drop_duplicates("sample").set_index("sample")["design_id"].reindex(said).to_numpy(dtype=object)
    other = mine & (row_of < 0) & ~pd.isna(own) & (design != own)
    return [*faults, *table.mark(other, place, "is not a tube of the row's design: mend the one or the other")]
