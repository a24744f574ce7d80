"""What is known of options and letters besides that they differ: numbers that bring alike ones near to each other.

A set of descriptors is a matrix (k, m), one row an option. Whoever uses one takes it as `placed` gives it: columns standardised,
and the whole scaled so that two options are at a squared distance of one on average, as differing ones are without descriptors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from labloop.space.parameter import Block
from labloop.types import FloatArray

ALIKE = 0.95
"""Columns that correlate by more say the same: the first of them is kept."""
LEAST = 0.1
"""Distance of two options at least, the farthest two being at one: they are different things, however alike."""


@dataclass(frozen=True, eq=False)
class Described:
    """A set of descriptors of one parameter's options or letters."""

    name: str
    block: Block
    places: FloatArray
    """(k, m) as `placed` gives it."""


def standardised(values: FloatArray) -> FloatArray:
    """Bring columns (k, m) to mean 0 and variance 1; constant ones, and what correlates with one before, are left out."""
    varied = values[:, values.std(0) > 1e-9 * np.maximum(1.0, np.abs(values).max(0, initial=0.0))]
    z = (varied - varied.mean(0)) / varied.std(0)
    kept: list[int] = []
    for j in range(z.shape[1]):
        if not kept or np.abs(z[:, kept].T @ z[:, j]).max() < ALIKE * len(z):
            kept.append(j)
    return z[:, kept]


def placed(values: FloatArray) -> FloatArray:
    """Scale places (k, m) so that two rows are at a squared distance of one on average; (k, m)."""
    k = len(values)
    mean = float(squares(values).sum()) / (k * (k - 1))
    return values / np.sqrt(mean) if mean > 0 else values


def coordinates(similarity: FloatArray) -> FloatArray:
    """Give places whose distances a similarity matrix (k, k) tells: its principal coordinates (Gower, Biometrika 53, 1966)."""
    inner = similarity - similarity.mean(0) - similarity.mean(1)[:, None] + similarity.mean()
    values, vectors = np.linalg.eigh(inner)
    kept = values > 1e-9 * max(values.max(), 1e-300)
    found: FloatArray = (vectors[:, kept] * np.sqrt(values[kept]))[:, ::-1]
    signs = np.sign(found[np.abs(found).argmax(0), np.arange(found.shape[1])])
    return found * signs


def squares(places: FloatArray) -> FloatArray:
    """Squared distances (k, k) between rows of (k, m)."""
    found: FloatArray = ((places[:, None] - places[None]) ** 2).sum(-1)
    return found


def apart(sets: list[Described]) -> FloatArray:
    """Tell how far options are from each other, (k, k): 0 on the diagonal, between `LEAST` and 1 elsewhere, a mean over sets."""
    each = [np.sqrt(squares(one.places)) for one in sets]
    mean = np.mean([one / one.max() if one.max() > 0 else one for one in each], axis=0)
    return np.where(np.eye(len(mean), dtype=bool), 0.0, np.maximum(mean / max(mean.max(), 1e-300), LEAST))


AMINO_ACIDS: Mapping[str, tuple[float, ...]] = {
    #     hydropathy, volume, charge, polarity, helix propensity, aromatic
    "A": (1.8, 88.6, 0, 8.1, 0.00, 0), "R": (-4.5, 173.4, 1, 10.5, 0.21, 0), "N": (-3.5, 114.1, 0, 11.6, 0.65, 0),
    "D": (-3.5, 111.1, -1, 13.0, 0.69, 0), "C": (2.5, 108.5, 0, 5.5, 0.68, 0), "Q": (-3.5, 143.8, 0, 10.5, 0.39, 0),
    "E": (-3.5, 138.4, -1, 12.3, 0.40, 0), "G": (-0.4, 60.1, 0, 9.0, 1.00, 0), "H": (-3.2, 153.2, 0.1, 10.4, 0.61, 1),
    "I": (4.5, 166.7, 0, 5.2, 0.41, 0), "L": (3.8, 166.7, 0, 4.9, 0.21, 0), "K": (-3.9, 168.6, 1, 11.3, 0.26, 0),
    "M": (1.9, 162.9, 0, 5.7, 0.24, 0), "F": (2.8, 189.9, 0, 5.2, 0.54, 1), "P": (-1.6, 112.7, 0, 8.0, 3.16, 0),
    "S": (-0.8, 89.0, 0, 9.2, 0.50, 0), "T": (-0.7, 116.1, 0, 8.6, 0.66, 0), "W": (-0.9, 227.8, 0, 5.4, 0.49, 1),
    "Y": (-1.3, 193.6, 0, 6.2, 0.53, 1), "V": (4.2, 140.0, 0, 5.9, 0.61, 0),
}  # fmt: skip
"""Hydropathy (Kyte and Doolittle, J Mol Biol 157, 1982), volume in Å³ (Zamyatnin, Prog Biophys Mol Biol 24, 1972), charge at
pH 7, polarity (Grantham, Science 185, 1974), helix propensity in kcal/mol (Pace and Scholtz, Biophys J 75, 1998), aromatic."""

NUCLEOTIDES: Mapping[str, tuple[float, ...]] = {
    "A": (1, 0), "C": (0, 1), "G": (1, 1), "T": (0, 0), "U": (0, 0),
}  # fmt: skip
"""Purine; three hydrogen bonds with its partner."""

SCALES: Mapping[str, Mapping[str, tuple[float, ...]]] = {"amino_acids": AMINO_ACIDS, "nucleotides": NUCLEOTIDES}
"""Properties of letters that ship with labloop."""
