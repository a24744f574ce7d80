"""Are sequences composed as others are? Three neighbouring letters at a time, as libraries and genomes are told apart by."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import jensenshannon

from labloop.types import Array


def count_3mers(X: Array, letters: int) -> Array:
    """Count 3-mers over all places of sequences X (n, rows·letters), soft ones by their likeliest letters: (letters³,)."""
    codes = X.reshape(len(X), -1, letters).argmax(-1)
    return np.bincount(((codes[:, :-2] * letters + codes[:, 1:-1]) * letters + codes[:, 2:]).ravel(), minlength=letters**3)


def distance_of_3mers(some: Array, others: Array) -> float:
    """Jensen-Shannon distance of two distributions given as counts: 0 where they are equal, 1 where they have nothing in common.

    Few sequences are never at 0, even from their like: compare sets of one size with each other.
    """
    return float(jensenshannon(some, others, base=2))
