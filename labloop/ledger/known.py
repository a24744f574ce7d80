"""What the ledger has of some designs and plates, corrected readings included: to see whether a file brings anything new."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from sqlalchemy import Connection, or_, select

from labloop.ledger.designs import MANY
from labloop.ledger.frames import read_frame, types_of
from labloop.ledger.readings import named
from labloop.ledger.tables import measurement, source_file

_COLUMNS = ("design_id", "value", "qualifier", "status", "plate", "well", "round", "measured_at", "file", "row", "id")


def known_readings(
    connection: Connection, campaign_id: int, assay: str, designs: Sequence[str], plates: Sequence[str], last: int
) -> pd.DataFrame:
    """List an assay's readings of these designs or of these plates (of very many names, all), in the order they came in, or its
    `last` ones, newest first: design_id, value, qualifier, status, plate, well, round, measured_at, file (its name), at (when
    taken in), row and id.
    """
    m = measurement.c
    query = select(*(m[name] for name in _COLUMNS)).filter_by(campaign=campaign_id, assay=assay)
    if last:
        query = query.order_by(m.id.desc()).limit(last)
    elif len(designs) + len(plates) <= MANY:  # of more names, all readings are looked through once instead
        query = query.where(or_(m.design_id.in_(designs), m.plate.in_(plates)))
    frame = read_frame(connection, query.order_by(m.id), types_of(measurement, _COLUMNS))
    files = connection.execute(
        select(source_file.c.id, source_file.c.name, source_file.c.at).filter_by(campaign=campaign_id)
    ).all()
    names, times = ({one[0]: one[i] for one in files} for i in (1, 2))
    return frame.assign(file=named(frame["file"], names), at=named(frame["file"], times))
