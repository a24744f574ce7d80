"""Where designs fail by themselves: the chance that one can be made and measured, learned from those that could and could not.

A kernel estimate with counts: near designs that failed weigh against near ones that did not, both against the rate over all,

    P(x) = (s · rate + Σ_ok k(x, x_i)) / (s + Σ k(x, x_i))        k = exp(-½ (distance / width)²)        s = 1

The width is the one under which each design was foreseen best from all others; where none foresees better than the rate alone,
nothing was learned, and every design has the same chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labloop.proposing.dataset import Dataset
from labloop.space.design_space import DesignSpace
from labloop.types import Array, FloatArray

LEAST = 4
"""Failed designs without which nothing is learned."""
WIDTHS = (0.5, 1.0, 2.0, 4.0)
"""Tried as multiples of the median distance to the nearest other design."""
MOST = 2_000
"""Designs that are looked at; of more, failed ones first."""
BETTER = 2.0
"""Log-likelihood that a width must gain over the rate alone."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Success:
    """A learned chance of success."""

    space: DesignSpace
    X: FloatArray
    ok: Array
    """Which of X (n, d) could be measured, (n,) bool."""
    width: float
    """Infinite where nothing was learned."""

    @classmethod
    def learned(cls, data: Dataset) -> Success | None:
        """Learn from a dataset; None where too few designs failed, or where they failed tells nothing."""
        if data.failed is None or len(data.failed) < LEAST or not len(data):
            return None
        X = np.concatenate([data.failed, data.X])[:MOST]
        ok = np.arange(len(X)) >= len(data.failed)
        distance = data.space.distance(X, X)
        np.fill_diagonal(distance, np.inf)
        unit = float(np.median(distance.min(1))) or 1.0
        plain = _likelihood(distance, ok, np.inf)
        value, width = max((_likelihood(distance, ok, unit * one), unit * one) for one in WIDTHS)
        return cls(space=data.space, X=X, ok=ok, width=width) if value > plain + BETTER else None

    def __call__(self, X: FloatArray) -> FloatArray:
        """Tell the chance that each design X (m, d) can be made and measured, (m,)."""
        return _chance(self.space.distance(X, self.X), self.ok, self.width)


def _chance(distance: FloatArray, ok: Array, width: float) -> FloatArray:
    weight = np.exp(-0.5 * (distance / width) ** 2) if np.isfinite(width) else np.zeros(distance.shape)
    return (ok.mean() + weight @ ok) / (1.0 + weight.sum(1))  # type: ignore[no-any-return]


def _likelihood(distance: FloatArray, ok: Array, width: float) -> float:
    """Log-likelihood of each outcome foreseen from all others; a distance of infinity leaves a design itself out."""
    chance = np.clip(_chance(distance, ok, width), 1e-3, 1 - 1e-3)
    return float(np.log(np.where(ok, chance, 1 - chance)).sum())
