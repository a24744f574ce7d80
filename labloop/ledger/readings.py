"""Readings in and out of the ledger: their columns, those that stand, and the check that a corrected one is one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, bindparam, func, select

from labloop.errors import CampaignError
from labloop.ledger.designs import MANY, NewDesigns, add_designs, design_columns
from labloop.ledger.frames import TEXT, read_frame, to_columns, types_of
from labloop.ledger.hash_chain import Link
from labloop.ledger.tables import measurement, source_file

_COLUMNS = (
    "design_id", "assay", "value", "qualifier", "unit", "status", "plate", "well", "round", "measured_at", "note",
)  # fmt: skip
_DEFAULTS = {"qualifier": "=", "status": "ok"}


@dataclass(frozen=True)
class NewFile:
    """A file as `add_file` takes it."""

    designs: NewDesigns
    readings: dict[str, Any]
    n: int

    @classmethod
    def of(cls, designs: pd.DataFrame, measurements: pd.DataFrame) -> NewFile:
        return cls(design_columns(designs), reading_columns(measurements), len(measurements))


def add_file(link: Link, new: NewFile, *, sha256: str, name: str, reader: str | None, dialect: str | None) -> bool:
    """Insert a file, the designs that are new in it and its readings, once (then False); see `Ledger.add_file`."""
    file = link.once(source_file, sha256=sha256, name=name, n_rows=new.n, reader=reader, dialect=dialect)
    if file is None:
        return False
    check_supersedes(link.connection, link.campaign, [one for one in new.readings["supersedes"] if one is not None])
    add_designs(link, new.designs)
    add_readings(link, file, new.readings)
    return True


def has_file(connection: Connection, campaign_id: int, sha256: str, assay: str | None = None) -> bool:
    """Say whether the campaign has a file of these bytes, and readings of this assay from it; see `Ledger.has_file`."""
    query = select(source_file.c.id).filter_by(campaign=campaign_id, sha256=sha256)
    if assay is not None:
        query = query.join(measurement, measurement.c.file == source_file.c.id).where(measurement.c.assay == assay)
    return connection.execute(query.limit(1)).first() is not None


def reading_columns(measurements: pd.DataFrame) -> dict[str, Any]:
    """Take a table of readings apart for `add_readings`; rows that have no number of their own are counted from 1.

    Raises:
        ValueError: unknown columns, gaps where none may be, infinite numbers.
    """
    if "row" not in measurements.columns:
        measurements = measurements.assign(row=np.arange(1, len(measurements) + 1))
    return to_columns(measurements, measurement, (*_COLUMNS, "row", "supersedes"), defaults=_DEFAULTS)


def add_readings(link: Link, file: int, readings: dict[str, Any]) -> None:
    """Insert a file's readings."""
    link.many(measurement, {"file": repeat(file), **readings}, len(readings["row"]))


_NEWEST = select(func.max(measurement.c.id)).where(measurement.c.campaign == bindparam("campaign"))


def newest(connection: Connection, campaign_id: int) -> int:
    """Give the id of the last reading, 0 where there is none."""
    return connection.execute(_NEWEST, {"campaign": campaign_id}).scalar() or 0


READING = (*_COLUMNS, "file", "row", "id")
"""The columns of a reading as it is read."""


def readings_of(
    connection: Connection, campaign_id: int, until: int | None, plates: Sequence[str] | None, columns: Sequence[str] = READING,
    since: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """List the readings that stand, in the order they came in; see `Ledger.measurements`."""
    m = measurement.c
    seen = [] if until is None else [m.id <= until]
    late = [m.id > since] if since else []
    some = [] if plates is None else [m.plate.in_(plates)]
    superseded = select(m.supersedes).where(m.supersedes.is_not(None), *seen)
    query = select(*(m[name] for name in columns)).filter_by(campaign=campaign_id)
    query = query.where(m.id.not_in(superseded), *seen, *late, *some).order_by(m.id)
    frame = read_frame(connection, query, types_of(measurement, columns))
    if "file" not in columns:
        return frame
    files = connection.execute(select(source_file.c.id, source_file.c.name).filter_by(campaign=campaign_id)).tuples().all()
    return frame.assign(file=named(frame["file"], dict(files)))


def named(numbers: pd.Series[Any], names: Mapping[int, str]) -> pd.Series[Any]:
    """Give each row the name of its number; each distinct number is looked up once."""
    codes, distinct = pd.factorize(numbers)
    known = pd.array([names.get(int(one)) for one in distinct.tolist()], dtype=TEXT)
    return pd.Series(known.take(codes), index=numbers.index)


def check_supersedes(connection: Connection, campaign_id: int, ids: Sequence[int]) -> None:
    """See that each reading to be superseded is the campaign's and stands.

    Raises:
        CampaignError: one is not, or would be superseded twice.
    """
    m = measurement.c
    own: set[int] = set()
    gone: set[int] = {one for one in ids if ids.count(one) > 1} if len(set(ids)) < len(ids) else set()
    for start in range(0, len(ids), MANY):
        some = ids[start : start + MANY]
        own.update(connection.execute(select(m.id).filter_by(campaign=campaign_id).where(m.id.in_(some))).scalars())
        newer = connection.execute(select(m.supersedes).where(m.supersedes.in_(some))).scalars()
        gone.update(one for one in newer if one is not None)
    if strange := sorted(set(ids) - own):
        raise CampaignError(f"measurement {strange[0]}, to be superseded, is not one of this campaign: look its id up again")
    if gone:
        raise CampaignError(f"measurement {min(gone)} would be superseded twice: supersede the reading that stands instead")
