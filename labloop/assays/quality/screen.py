"""Which plates are worth a look: the effects of place on all plates of a history at once, as columns.

A history has thousands of plates and hardly one with a flag. What is left out here is what the rules of `plates` would leave
untested: effects below the size from which they are tested.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from labloop.assays.quality.statistics import ROBUST
from labloop.config.policies import DRIFT_SIZE, EDGE_SIZE
from labloop.types import Array, FloatArray

_SLACK = 1e-9
"""Sums in another order differ by less; what lies so near a limit is looked at."""


def outer(rows: pd.DataFrame) -> Array:
    """Whether each well (n,) lies at its plate's edge."""
    row, column = rows["row"].to_numpy(float), rows["column"].to_numpy(float)
    last_row, last_column = rows["n_rows"].to_numpy(float), rows["n_columns"].to_numpy(float)
    return (row == 1) | (row == last_row) | (column == 1) | (column == last_column)


def having(readings: pd.DataFrame, *columns: str) -> Array:
    """Where readings (n,) have something in each of these columns."""
    return np.all([readings[name].notna().to_numpy(dtype=bool) for name in columns], axis=0)  # type: ignore[no-any-return]


def worth_a_look(readings: pd.DataFrame) -> pd.DataFrame:
    """Keep the readings of plates that hold controls, or whose edge or order of reading seems to matter."""
    known = readings[having(readings, "plate", "row", "value")]
    if known.empty:
        return known
    plate = known.groupby(["assay", "plate"], sort=False).ngroup().to_numpy()
    n = int(plate.max()) + 1
    filled = having(known, "design_id")
    designs, of = known.loc[filled, ["row", "column", "n_rows", "n_columns", "scaled", "measured_at"]], plate[filled]
    values = designs["scaled"].to_numpy(float)
    look = np.bincount(plate[~filled], minlength=n) > 0
    look |= _edges(values, of, outer(designs), n) | _trends(values, of, orders(designs, of, n), n)
    return known[look[plate]]


def orders(designs: pd.DataFrame, of: Array, n: int) -> FloatArray:
    """Give the order of reading (m,) of the wells of n plates: times where a plate's wells have their own, else row by row."""
    place = designs["row"].to_numpy(float) * 100 + designs["column"].to_numpy(float)
    given = having(designs, "measured_at")
    whole = np.bincount(of[given], minlength=n) == np.bincount(of, minlength=n)
    given = whole[of]
    if not given.any():
        return place
    times = designs.loc[given, "measured_at"]
    several = times.groupby(of[given]).transform("nunique").to_numpy() > 2
    at = pd.to_datetime(times[several], format="ISO8601", utc=True)
    place[np.flatnonzero(given)[several]] = np.asarray(at.astype("int64"), dtype=np.float64)
    return place


def _edges(values: FloatArray, of: Array, edge: Array, n: int) -> Array:
    """Whether the median of each plate's edge is far enough from that of the wells inside, (n,) bool."""
    inside = _medians(values[~edge], of[~edge], n)
    spread = _medians(np.abs(values - inside[of])[~edge], of[~edge], n)
    gap = np.abs(_medians(values[edge], of[edge], n) - inside)
    return gap >= EDGE_SIZE * ROBUST * spread * (1 - _SLACK)


def _trends(values: FloatArray, of: Array, order: FloatArray, n: int) -> Array:
    """Whether Spearman's correlation with the order of reading is large enough on each plate, (n,) bool."""
    size = np.maximum(np.bincount(of, minlength=n), 1)
    x, y = (pd.Series(one).groupby(of).rank().to_numpy() for one in (order, values))
    x, y = (one - (np.bincount(of, one, n) / size)[of] for one in (x, y))
    together, norm = np.bincount(of, x * y, n), np.sqrt(np.bincount(of, x * x, n) * np.bincount(of, y * y, n))
    return np.abs(together) >= (DRIFT_SIZE - _SLACK) * norm


def _medians(values: FloatArray, of: Array, n: int) -> FloatArray:
    """Median of each plate's values, (n,); NaN where it has none."""
    return np.asarray(pd.Series(values).groupby(of).median().reindex(range(n)), dtype=np.float64)
