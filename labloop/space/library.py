"""A list of the only designs that there are: a library on the shelf, or what a campaign has measured.

Steps lead from a design of the list to one of the nearest others, and whatever is not in the list moves to what is nearest there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labloop.types import Array, FloatArray

NEAR = 12
"""Designs of a list that count as neighbours of one."""
LARGEST = 2**27
"""Cells of X that a library may fill, which is a gigabyte."""
CELLS = 8_000_000
"""Distances that are held at once."""


def table(library: Mapping[str, Sequence[object]], columns: Sequence[str]) -> pd.DataFrame:
    """Make a library's table, one row a design.

    Raises:
        ValueError: its columns are not these, or not equally long.
    """
    if missing := [name for name in columns if name not in library]:
        raise ValueError(f"library has no column {', '.join(missing)}; it has {', '.join(map(str, library))}")
    if strange := sorted(set(library) - set(columns)):
        raise ValueError(f"library has columns that are no parameters: {', '.join(strange)}: leave them out")
    lengths = {name: len(library[name]) for name in columns}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise ValueError(f"library: every column needs as many rows as the others ({told})")
    return pd.DataFrame({name: list(library[name]) for name in columns}, columns=list(columns))


def row(i: int, told: Mapping[str, object] | None) -> str:
    """Name the design at place i: by its file's row where what a configuration is read with tells the file (`library`)."""
    file = (told or {}).get("library")
    return f"library, design {i + 1}" if file is None else f"{file}, row {i + 2}"


@dataclass(frozen=True, eq=False)
class Listing:
    """Listed designs X (N, d), and the distance of their space."""

    X: FloatArray
    distance: Callable[[FloatArray, FloatArray], FloatArray]

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n of them, (n, d)."""
        return self.X[rng.integers(len(self.X), size=n)]

    def nearest(self, X: FloatArray) -> FloatArray:
        """Give for each row of X (n, d) the nearest listed design."""
        return self.X[self._first(X, 1, others=False)[:, 0]]

    def step(self, X: FloatArray, rng: np.random.Generator, *, steps: int) -> FloatArray:
        """Move each row of X (n, d) to one of the `NEAR` nearest others, so many times."""
        for _ in range(steps if len(X) else 0):
            near = self._first(X, NEAR, others=True)
            X = self.X[near[np.arange(len(X)), rng.integers(near.shape[1], size=len(X))]]
        return X

    def neighbours(self, x: FloatArray) -> FloatArray:
        """Give the `NEAR` nearest others of one design x (1, d)."""
        return self.X[self._first(x, NEAR, others=True)[0]]

    def _first(self, X: FloatArray, k: int, *, others: bool) -> Array:
        """Rows of the k nearest, nearest first, (n, k) or fewer where the list is short."""
        k = max(1, min(k, len(self.X) - others))
        step = max(1, CELLS // len(self.X))
        found = [np.zeros((0, k), dtype=np.int64)]
        for start in range(0, len(X), step):
            D = self.distance(X[start : start + step], self.X)
            if others:
                D[D < 1e-9] = np.inf  # itself
            found.append(np.argsort(D, axis=1, kind="stable")[:, :k])
        return np.concatenate(found)
