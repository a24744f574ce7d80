"""What a plate can show before it is spent: power of the comparison, replicates against new designs, what another plate may gain.

All in y, larger is better. Power is that of the comparison's question (`labloop.compare.arms`): the pair of the best arm and
another one, where the best is better than each other arm by one difference, tested by t within rounds and at equal depth, with
Holm's correction over the pairs of arms. It is found by drawing the arms' means, the same draws for every difference, so that no
arm is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
import scipy  # which loads scipy.stats on first use: it takes a second

from labloop.compare.statistics import LEVEL, POWER
from labloop.seeds import generator
from labloop.types import Array, FloatArray

DRAWS = 8_000
"""Plates that power is taken from: known to half a point."""
PLATES = 2_000
"""Next plates that are drawn of each arm."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A standard deviation with its interval, and how it is known."""

    sd: float
    low: float
    high: float
    freedom: int
    source: str

    @property
    def known(self) -> bool:
        return math.isfinite(self.sd) and self.sd > 0

    @classmethod
    def of(cls, variance: float, freedom: int, source: str) -> Spread:
        """Give the spread of a variance with so many degrees of freedom, its 95 % interval by the chi-squared distribution."""
        if not (freedom > 0 and math.isfinite(variance) and variance >= 0):
            return cls(sd=math.nan, low=math.nan, high=math.nan, freedom=0, source=source)
        low, high = (variance * freedom / scipy.stats.chi2.ppf(q, freedom) for q in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
        return cls(sd=math.sqrt(variance), low=math.sqrt(low), high=math.sqrt(high), freedom=freedom, source=source)

    def over(self, n: int) -> Spread:
        """Give that of the mean of so many."""
        root = math.sqrt(n)
        return replace(self, sd=self.sd / root, low=self.low / root, high=self.high / root)


def powers(
    wells: Sequence[int], sd: float, differences: FloatArray, *, plates: int = 1, level: float = 1 - LEVEL, seed: int = 0
) -> FloatArray:
    """Give the power for each difference (k,): how often the best arm, the first, is told from the second one.

    Args:
        wells: of each arm on one plate; only the first differs from the others, which are equal. Two arms are compared at the
            depth of the smaller one, as `labloop.compare.pairs` does.
        sd: of a reading within an arm.
        plates: plates in a row, compared together.
        level: what the look may spend of the campaign's level, see `labloop.compare.plan`.
    """
    drawn = _Drawn.of(wells, sd, plates, seed)
    return np.array([drawn.told(difference, level).mean() for difference in differences])


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Plates drawn once for every difference between the best arm and the others."""

    first: list[tuple[FloatArray, FloatArray, FloatArray]]
    """Of the first arm with each other one: how far their means lie apart (DRAWS,), its standard error, and Welch's freedom."""
    others: list[FloatArray]
    """p of the pairs among the others, whatever the first one is ahead."""

    @classmethod
    def of(cls, wells: Sequence[int], sd: float, plates: int, seed: int) -> _Drawn:
        rng = generator(seed, "power", len(wells))
        drawn = [_nested(rng, n, sorted({min(n, other) for other in wells}), plates) for n in wells]
        pairs = []
        for i, j in combinations(range(len(wells)), 2):  # those of the first arm come first
            depth = min(wells[i], wells[j])
            (mean, ss), (other, other_ss) = drawn[i][depth], drawn[j][depth]
            freedom = max(plates * (depth - 1), 1)
            error, other_error = (sd**2 * one / freedom / (depth * plates) for one in (ss, other_ss))
            welch = freedom * (error + other_error) ** 2 / (error**2 + other_error**2)
            pairs.append((sd * (mean - other), np.sqrt(error + other_error), welch))
        n = len(wells) - 1
        return cls(pairs[:n], [_one_sided(gap / error, welch) for gap, error, welch in pairs[n:]])

    def told(self, difference: float, level: float) -> Array:
        """On which plates (DRAWS,) the first arm, so far ahead, is told from the second one; further ahead it is on them too."""
        ps = [_one_sided((gap + difference) / error, welch) for gap, error, welch in self.first]
        return _holm_first(np.array([*ps, *self.others])) <= level  # type: ignore[no-any-return]

    def take(self, some: Array) -> _Drawn:
        """Leave some of the plates."""
        return _Drawn([(gap[some], error[some], welch[some]) for gap, error, welch in self.first], [p[some] for p in self.others])


def _one_sided(t: FloatArray, freedom: FloatArray) -> FloatArray:
    """Two-sided p of Student's t; above 1 the wrong way round, which is not found."""
    return 2 * scipy.special.stdtr(freedom, -np.abs(t)) + 2.0 * (t < 0)  # type: ignore[no-any-return]


def _nested(rng: np.random.Generator, n: int, depths: Sequence[int], plates: int) -> dict[int, tuple[FloatArray, FloatArray]]:
    """Draw by depth the mean of an arm's first wells over its plates, and their sum of squares within plates, (DRAWS,) each.

    Wells are standard normal; those of a smaller depth are among those of a larger one.
    """
    means, squares, before = np.zeros((plates, DRAWS)), np.zeros((plates, DRAWS)), 0
    out = {}
    for depth in depths:
        more = depth - before
        new = rng.standard_normal((plates, DRAWS)) / math.sqrt(more)
        squares += before * more / depth * (means - new) ** 2
        if more > 1:
            squares += rng.chisquare(more - 1, size=(plates, DRAWS))
        means = (before * means + more * new) / depth
        out[depth], before = (means.mean(axis=0), squares.sum(axis=0)), depth
    return out


def smallest(wells: Sequence[int], sd: float, *, plates: int = 1, level: float = 1 - LEVEL) -> float:
    """Find the smallest difference between the best arm and the others that is shown with 80 % power; NaN where none can be."""
    return sd * _smallest(tuple(wells), plates, level) if min(wells) > 1 and sd > 0 else math.nan


@cache
def _smallest(wells: tuple[int, ...], plates: int, level: float) -> float:
    scale = math.sqrt(2 / min(wells[:2]) / plates)
    low, high = 0.0, 60.0
    left, sure = _Drawn.of(wells, 1.0, plates, 0), 0  # plates that may still be told or not, and those that will be
    for _ in range(22):
        middle = (low + high) / 2
        told = left.told(middle * scale, level)
        if (sure + told.sum()) / DRAWS >= POWER:
            high, left = middle, left.take(told)
        else:
            low, left, sure = middle, left.take(~told), sure + told.sum()
    return high * scale if high < 59 else math.nan


def expected_best(n: int) -> float:
    """Expected largest of n standard normal draws (Blom, 1958)."""
    return float(scipy.stats.norm.ppf((n - 0.375) / (n + 0.25))) if n > 1 else 0.0


def found_best(n: int, between: float, noise: float, replicates: int) -> float:
    """Expected true value, above the arm's mean, of the design that reads best of n, each read `replicates` times."""
    total = math.sqrt(between**2 + noise**2 / replicates)
    return expected_best(n) * between**2 / total if total > 0 else 0.0


def next_plate(y: FloatArray, n: int, incumbent: float, noise: float, *, seed: int) -> FloatArray:
    """Draw what the best of n further wells like an arm's last ones gains on the incumbent, in true values, (PLATES,), 0 or more.

    A further well is as likely to lie between any two neighbours of the last ones, in order, as below or above them all (Hill,
    J. Am. Stat. Assoc. 63, 1968): n wells beat the best of m with a chance of n / (n + m), whatever the values are like. By how
    much goes by an exponential tail (Weissman, J. Am. Stat. Assoc. 73, 1978) whose scale the spacings of the best tell, the
    nearest to the top most: where values crowd below a limit, little is left to gain.

    Args:
        y: the arm's readings on its last plate.
        incumbent: the best known value; what noise flattered it by is taken off.
        noise: standard deviation of a reading of one design; 0 where it is not known.
    """
    rng, m = generator(seed, "next plate"), len(y)
    variance = float(y.var(ddof=1)) if m > 1 else noise**2
    share = max(0.1, 1 - noise**2 / variance) if variance > 0 else 1.0
    centre = float(y.mean())
    worth = np.sort(centre + math.sqrt(share) * (y - centre))  # as widely spread as true values are
    scale, known_by = _tail(worth) if m > 1 else (math.sqrt(share * variance), 1.0)
    edges = rng.dirichlet(np.ones(m + 1), size=PLATES).cumsum(axis=1)[:, :-1]
    cell = (rng.random((PLATES, n, 1)) > edges[:, None, :]).sum(axis=2)
    highest, beyond = cell.max(axis=1), (cell == m).sum(axis=1)
    tails = scale * known_by / rng.gamma(known_by + 1, size=PLATES)
    excess = -tails * np.log1p(-(rng.random(PLATES) ** (1 / np.maximum(beyond, 1))))
    low, high = worth[np.maximum(highest - 1, 0)], worth[np.minimum(highest, m - 1)]
    best = np.where(beyond > 0, worth[-1] + excess, low + rng.random(PLATES) * (high - low))
    known = centre + share * (incumbent - centre) if incumbent > centre else incumbent
    return np.asarray(np.maximum(best - known, 0.0), dtype=float)


def _tail(worth: FloatArray) -> tuple[float, float]:
    """Scale of the tail above ascending values (m,), from the spacings of the best √m, and how many spacings that is worth."""
    k = min(max(2, math.ceil(math.sqrt(len(worth)))), len(worth) - 1)
    place = np.arange(1, k + 1)
    spacings = place * np.diff(worth)[::-1][:k]  # each of an exponential tail's has its scale as its mean (Rényi)
    weights = 1 / place
    return float(weights @ spacings / weights.sum()), float(weights.sum() ** 2 / (weights**2).sum())


def _holm_first(ps: FloatArray) -> FloatArray:
    """Correct p-values (pairs, draws) by Holm; returns the first pair's, (draws,)."""
    order = np.argsort(ps, axis=0)
    ranked = np.take_along_axis(ps, order, axis=0)
    steps = np.arange(len(ps), 0, -1)[:, None]
    corrected = np.maximum.accumulate(np.minimum(ranked * steps, 1.0), axis=0)
    place = (order == 0).argmax(axis=0)
    return np.asarray(np.take_along_axis(corrected, place[None], axis=0)[0], dtype=float)
