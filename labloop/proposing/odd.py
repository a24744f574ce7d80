"""Readings at absurd distances from all others, such as a slipped decimal point, held where they do no harm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labloop.proposing.dataset import Dataset
from labloop.types import Array, FloatArray

ODD = 1e3
"""Readings further from the median of all others than so many of their standard deviations are held at a limit."""
LIMIT = 5.0
"""The limit, in these standard deviations; it is as well the standard deviation of the doubt about what is held there."""
ODD_SHARE = 0.05
"""At most this share of the readings is odd (but always one of ten or more); else they are what the data are like."""
FAR = 1e100
"""Values of this size, and their inverses, are told in another unit."""


def odd(y: FloatArray) -> tuple[Array, FloatArray, float]:
    """Find the few readings of y (n,) that lie absurdly far from all others, where each is held, and how far from its median."""
    most = max(int(ODD_SHARE * len(y)), 1) if len(y) >= 10 else 0
    order = np.argsort(-np.abs(y - np.median(y)), kind="stable")
    rest = y[order[most:]]
    if np.abs(y[order[0]] - np.median(rest)) <= ODD * rest.std():  # the usual case, told without a look at every number of them
        return order[:0], y[:0], 0.0
    for k in range(most, 0, -1):
        rest = y[order[k:]]
        centre, spread = np.median(rest), rest.std()
        found = order[:k]
        if spread > 1e-12 * np.abs(rest).max() and (np.abs(y[found] - centre) > ODD * spread).all():
            return found, centre + np.sign(y[found] - centre) * LIMIT * spread, float(LIMIT * spread)
    return order[:0], y[:0], 0.0


def held(data: Dataset) -> Dataset:
    """Give the dataset with odd readings at their limit; the very same where there are none.

    Values too large or too small to be squared are told in a unit in which they can be; scores have a unit of their own anyway.
    """
    if not len(data):
        return data
    unit = unit_of(data.y)
    y = data.y / unit
    rows, limits, _ = odd(y)
    y[rows] = limits
    if not 1 / FAR < unit < FAR:
        return replace(data, y=y, sem=data.sem / unit)
    return replace(data, y=y * unit) if len(rows) else data


def unit_of(y: FloatArray) -> float:
    """Give a power of two about as large as y, by which dividing loses nothing, and after which no square overflows or fades."""
    return float(2.0 ** np.floor(np.log2(np.abs(y).max()))) if y.any() else 1.0
