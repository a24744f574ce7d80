"""How many designs of a listable space can still be chosen together, as levels and totals leave them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labloop.proposing.dataset import Dataset
from labloop.proposing.terms import Terms
from labloop.space.parameter import canonical_text
from labloop.types import Array, Designs, FloatArray

Level = str | int | float


@dataclass(frozen=True, kw_only=True)
class Left:
    """What there is to choose within: levels that are settled and that are not, and totals."""

    fixed: Sequence[tuple[str, Sequence[Level]]]
    """The values that a parameter has."""
    open: Sequence[tuple[str, Sequence[Level], int]]
    """The values that a parameter has so far, and how many may join them: those that most designs have are counted on."""
    totals: Sequence[tuple[int, float, float]]
    """A resource, by its position, with what is left of it beyond what is held back, and what is held back for each design."""


@dataclass(eq=False, kw_only=True)
class Listed:
    """The designs of a space (m, d) with what limits speak of."""

    X: Designs
    values: dict[str, Array]
    """By parameter, its values."""
    codes: dict[str, Array]
    """By parameter, the position of each design's value there, (m,)."""
    amounts: tuple[FloatArray, ...]
    """What each design takes of each resource, (m,)."""
    free: Array
    """Whether each may still be chosen, (m,) bool."""
    seen: int = 0
    """How much of what was chosen is left out."""

    @classmethod
    def of(cls, data: Dataset, terms: Terms) -> Listed:
        """List what a round of a listable space begins with."""
        space = data.space
        table = space.decode_as_written(space.listing())
        found = {name: pd.factorize(table[name]) for name, _ in terms.levels}
        return cls(
            X=space.listing(), values={name: np.asarray(values, dtype=object) for name, (_, values) in found.items()},
            codes={name: codes for name, (codes, _) in found.items()},
            amounts=tuple(one.amounts(table) for one in terms.resources),
            free=np.array([one not in data.taken for one in space.listing_ids], dtype=bool),
        )  # fmt: skip

    def take(self, chosen: Sequence[Designs]) -> None:
        """Leave out what was chosen so far in the round."""
        for x in (x for X in chosen[self.seen :] for x in X):
            rows = np.flatnonzero(self.free)
            for column in range(len(x)):
                rows = rows[np.abs(self.X[rows, column] - x[column]) < 1e-9]
            self.free[rows] = False
        self.seen = len(chosen)

    def counter(self, name: str, left: Left) -> Callable[[Sequence[Level]], int]:
        """Give what counts the designs with one of some values of a parameter that can be chosen together."""
        good = self.free.copy()
        for other, values in left.fixed:
            good &= np.isin(self.codes[other], self._of(other, values))
        for r, most, held in left.totals:
            good &= self.amounts[r] - held <= most + 1e-9
        rows = np.flatnonzero(good)
        codes = self.codes[name][rows]
        rows = rows[np.argsort(codes, kind="stable")]
        ends = np.cumsum(np.bincount(codes, minlength=len(self.values[name])))
        having = np.split(rows, ends[:-1])

        def count(values: Sequence[Level]) -> int:
            rows = np.concatenate([np.zeros(0, dtype=np.int64), *(having[code] for code in self._of(name, values))])
            for other, so_far, more in left.open:
                n = np.bincount(self.codes[other][rows], minlength=len(self.values[other])).astype(float)
                n[self._of(other, so_far)] = np.inf
                keep = np.argsort(-n, kind="stable")[: len(so_far) + more]
                rows = rows[np.isin(self.codes[other][rows], keep)]
            fits = [_fitting(self.amounts[r][rows] - held, most) for r, most, held in left.totals]
            return min([len(rows), *fits])

        return count

    def _of(self, name: str, values: Sequence[Level]) -> list[int]:
        place: dict[str, Any] = {canonical_text(value): code for code, value in enumerate(self.values[name].tolist())}
        return [place[text] for text in map(canonical_text, values) if text in place]


def _fitting(amounts: FloatArray, most: float) -> int:
    """Count the designs that fit into a total together, those that take least first."""
    fits = np.flatnonzero(np.cumsum(np.sort(amounts)) <= most + 1e-9)
    return int(fits[-1]) + 1 if len(fits) else 0
