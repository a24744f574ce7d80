"""What a design adds to a batch, in expectation; and batches chosen by that.

The best candidates by any bound are alike, so that a batch of them measures one place many times. What a design x adds to the
best measured and to picks that are not read yet is their joint expected improvement,

    gain(x | picks) = E[ (f(x) - max(best, f(picks)))₊ ]

chosen greedily as the batch's value is submodular (Wilson et al., NeurIPS 2018, section 3.2). Letters and mixtures are chosen
among the candidates that there are, over joint draws of what all of them are worth (`in_turn`). In a space of numbers each pick
is searched for (`by_gain`): with each pick the place of the next one moves, and local search follows it from what it found for
the pick before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import erfcx, ndtr

from labloop.proposing.belief import Judgement
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.refine import refined
from labloop.proposing.search import apart, keys
from labloop.runtime.progress import track
from labloop.seeds import derive, generator
from labloop.types import Array, Designs, FloatArray, Values

DRAWS = 64
"""Joint draws of the picks' values, in antithetic pairs, where designs are searched for."""
JOINT_DRAWS = 512
"""The same of all candidates' values. What no draw sees improve adds nothing that a lab would see: told exactly, it would send
the last wells of a plate where little is hoped for and least is known."""
TAIL = 1e-3
"""Width τ of a fat tail of improvements, in standard deviations of y: of candidates that no draw sees improve the nearest to it
comes first (Ament et al., NeurIPS 2023, eq. 12)."""
MISSED = 5e-3
"""The same where designs are searched for, whose gain is told exactly: it is wider by so much as draws see less than that."""
BASELINE = 32
"""Measured designs, best first by the judge's belief, whose drawn values are to be improved on."""
WATCHED = 16
"""Best candidates by whose mean gain a search tells its progress."""
KEPT = 256
"""Candidates that the search for the next pick begins with."""
PART = 1_024
"""Candidates whose correlation with the picks is computed at once."""
HOPELESS = 10.0
"""A design too near to a pick counts as one that misses the best by so many standard deviations of y."""
SEARCHES = 96
"""Picks with a search each; from there on `TOGETHER` follow one search."""
TOGETHER = 8
EACH = 8
"""Of so many generations of local search each pick has one, as the search goes on from pick to pick: more of them lead farther
out into corners, and found no better designs."""
LOOKED_AT = 1_536
SURE = 256
"""Candidates of a large pool that are looked at, see `in_turn`."""
LEAST = 1e-12
"""What a doubt is at least, in standard deviations of y."""
JITTER = 1e-6
JITTERS = (JITTER, 1e-4, 1e-2)


def log_ei(mean: FloatArray, std: FloatArray, best: float | FloatArray) -> FloatArray:
    """Compute log E[(f - best)₊] of f ~ N(mean, std²), any shape, accurate far below the incumbent too (Ament et al., eq. 9)."""
    u = (mean - best) / std
    high, low = np.maximum(u, -1.0), np.clip(u, -1e5, -1.0)  # below -1e5 the last term has no digits left, and -u²/2 decides
    near = np.log(np.exp(-0.5 * high**2) / math.sqrt(2 * math.pi) + high * ndtr(high))
    far = -0.5 * u**2 - 0.5 * math.log(2 * math.pi) + np.log1p(low * math.sqrt(math.pi / 2) * erfcx(-low / math.sqrt(2)))
    return np.log(std) + np.where(u > -1, near, far)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False, kw_only=True)
class Gain:
    """Logarithm of what designs would add to the best measured and to picks (k, d) that are not read yet, in y.

    The judge is taken as it was fitted: how far it was off in earlier rounds moves its intervals, and would be hope twice here.
    """

    judge: Judgement
    hope: float
    """Standard deviations that a doubt counts for."""
    picks: FloatArray
    normal: FloatArray
    """Standard normal numbers that the picks' values are drawn with, (DRAWS, k)."""
    solve: FloatArray
    """Inverse Cholesky factor of the picks' correlation, (k, k)."""
    top: Values
    """In each draw the best measured or picked, (DRAWS,); (1,) without picks."""
    tail: float
    """Width of the fat tail by which what hardly improves is told apart."""

    @classmethod
    def over(cls, judge: Judgement, picks: FloatArray, *, hope: float, best: float, tail: float, seed: int) -> Self:
        """Draw the values of picks (k, d); the first draws are the same for every further one."""
        half = generator(seed, "gain").standard_normal((len(picks), DRAWS // 2)).T
        normal, solve, top = np.concatenate([half, -half]), np.zeros((0, 0)), np.array([best])
        if len(picks):
            mean, std = judge.posterior.belief(picks)
            root = _root(judge, picks)
            solve = solve_triangular(root, np.eye(len(picks)), lower=True)
            top = np.maximum(best, (mean + hope * std * (normal @ root.T)).max(1))
        return cls(judge=judge, hope=hope, picks=picks, normal=normal, solve=solve, top=top, tail=tail)

    def __call__(self, X: Designs, proposer: Array | None = None) -> Values:
        """Tell the gain of each design X (m, d), whoever proposed it; (m,)."""
        mean, std = self.judge.posterior.belief(X)
        std = self.hope * np.maximum(std, LEAST * spread_of(self.judge.data))
        if not len(self.picks):
            return np.log(self._added(mean, std))
        parts = []
        for start in range(0, len(X), PART):
            rows = slice(start, start + PART)
            pull, left = self._given(X[rows])
            drawn = mean[rows, None] + std[rows, None] * (pull @ self.normal.T)
            parts.append(np.log(self._added(drawn, (std[rows] * left)[:, None]).mean(1)))
        return np.concatenate([np.zeros(0), *parts])

    def _added(self, mean: FloatArray, std: FloatArray) -> FloatArray:
        """Compute what values N(mean, std²) add in each draw, (m, DRAWS) or (m,), and the tail, which is never nothing."""
        above = mean - self.top
        u = above / std
        improved = above * ndtr(u) + std * np.exp(-0.5 * u**2) / math.sqrt(2 * math.pi)
        return np.maximum(improved, 0) + _fat_tail(np.minimum(above, 0), self.tail)  # type: ignore[no-any-return]

    def _given(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """How the picks' normal numbers move designs X (m, d), (m, k), and the part of their std that is left, (m,)."""
        known = self.judge.correlation(self.picks, X)
        if known is None:
            return np.zeros((len(X), len(self.picks))), np.ones(len(X))
        pull = (self.solve @ known).T
        return pull, np.sqrt(np.maximum(1 - (pull**2).sum(1), JITTER))


def in_turn(pool: Pool, judge: Judgement, data: Dataset, n: int, *, hope: float, seed: int, own: float = 0.0) -> Array:
    """Order a pool by what each design adds to those before it, up to n rows; a longer order begins with the shorter one.

    What waits in the lab and the `BASELINE` best measured are to be improved on, each as it is drawn. Of a large pool `LOOKED_AT`
    are looked at: the best half by their gain over the measured alone, and ever fewer down to the worst, as what is left to gain
    when the best place is told lies elsewhere; and the `SURE` of highest mean.

    Args:
        hope: standard deviations that a doubt counts for.
        own: what a design's mean counts for beside its gain, both in y.
    """
    if not len(pool):
        return np.zeros(0, dtype=np.int64)
    measured, _ = judge.posterior.belief(data.X)
    before = np.concatenate([_waiting(data), data.X[np.argsort(-measured, kind="stable")[:BASELINE]]])
    mean, std = judge.posterior.belief(np.concatenate([before, pool.X]))
    spread = spread_of(data)
    std = hope * np.maximum(std, LEAST * spread)
    new = slice(len(before), None)
    alone = log_ei(mean[new], std[new], float(measured.max()))
    rows = np.union1d(thinned(np.argsort(-alone, kind="stable"), LOOKED_AT), np.argsort(-mean[new], kind="stable")[:SURE])
    kept = np.concatenate([np.arange(len(before)), len(before) + rows])
    draws = mean[kept] + std[kept] * _jointly(judge, np.concatenate([before, pool.X[rows]]), seed)
    top, drawn = draws[:, : len(before)].max(1), draws[:, len(before) :]
    order, _ = greedy(drawn, top, min(n, len(rows)), tail=TAIL * spread, worth=own * mean[new][rows])
    return rows[order]


def by_gain(
    pool: Pool, judge: Judgement, data: Dataset, n: int, *, hope: float, least: float, generations: int, seed: int
) -> Pool:  # fmt: skip
    """Search for n picks, each where it adds most to those before it, and no two nearer than `least`.

    A longer batch begins with the shorter one.

    Args:
        pool: designs to begin with; what is found around them counts as their proposers'.
        hope: standard deviations that a doubt counts for.
        generations: of local search; each pick has an eighth of them, and one at least.

    Returns:
        The picks in their order, as many as were found, and behind them the best of all others by their gain over the picks.
    """
    steps = math.ceil(generations / EACH)
    waiting, best, unit = _waiting(data), _best(judge, data), spread_of(data)
    tail = MISSED * unit
    nothing = math.log(_fat_tail(HOPELESS * unit, tail))
    offered, front, picks = set(pool.ids), pool, pool.take(np.arange(0))

    def gain_over() -> Gain:
        return Gain.over(judge, np.concatenate([waiting, picks.X]), hope=hope, best=best, tail=tail, seed=seed)

    def away(X: Designs) -> Array:
        return data.space.distance(X, picks.X).min(1, initial=np.inf) >= least - 1e-9  # type: ignore[no-any-return]

    for _ in track(min(n, SEARCHES) + math.ceil(max(n - SEARCHES, 0) / TOGETHER), "conservative wells"):
        gain = gain_over()

        def worth(X: Designs, proposer: Array | None = None, gain: Gain = gain) -> Values:
            told, far = gain(X), away(X)
            return np.where(far, told, told[far].min() if far.any() else nothing)

        front = refined(front, worth, data, WATCHED, generations=steps, seed=derive(seed, "pick", len(picks)))
        front = front.without(picks.ids)  # which the search may have come upon again
        front = front.take(np.argsort(-worth(front.X), kind="stable"))
        far = np.flatnonzero(away(front.X))
        taken = far[apart(data.space, front.X[far], least, 1 if len(picks) < SEARCHES else TOGETHER)]
        if not len(taken):
            break
        picks, front = Pool.joined([picks, front.take(taken)]), front.without([front.ids[i] for i in taken.tolist()])
        kept = [place for place, one in enumerate(front.ids) if place < KEPT or one in offered]
        front = front.take(np.array(kept, dtype=np.int64))
    return Pool.joined([picks, front.take(np.argsort(-gain_over()(front.X), kind="stable"))])


def greedy(
    draws: Any, incumbent: Any, n: int, *, tail: float, first: int = 0, worth: Any = 0.0
) -> tuple[Array, Values]:  # fmt: skip
    """Choose n candidates whose joint improvement is largest, one after the other; arrays or tensors.

    Args:
        draws: joint values of the candidates, (s, m); of equally good ones the first wins.
        incumbent: the value to improve in each draw, (s,).
        tail: width of the fat tail, in the unit of the draws; 0 is plain Monte Carlo expected improvement.
        first: so many leading candidates are chosen before all others, in their order.
        worth: what each candidate counts for by itself, beside its improvement, (m,).

    Returns:
        The candidates and the mean improvement that each adds to those before it.
    """
    columns: list[int] = []
    gains: list[float] = []
    for i in range(n):
        above = draws - incumbent[:, None]
        improved = above.clip(0)
        if i >= first:
            rank = (improved + _fat_tail(above, tail) if tail else improved).mean(0) + worth
            rank[columns] = -math.inf
        columns.append(i if i < first else int(rank.argmax()))
        gains.append(float(improved[:, columns[-1]].mean()))
        incumbent = incumbent.clip(draws[:, columns[-1]])
    return np.array(columns, dtype=np.int64), np.array(gains)


def _fat_tail(above: Any, tail: float) -> Any:
    """Tell by what a value counts beside its improvement: the more, the nearer to what is to be improved it is."""
    return 0.1 * tail / (1 + (above / tail) ** 2)


def spread_of(data: Dataset) -> float:
    """Give the standard deviation of y, and 1 where there is none."""
    return (float(data.y.std()) if len(data) else 0.0) or 1.0


def thinned(order: Array, m: int) -> Array:
    """Take at most m of an order: its first half of them, then ever fewer, down to the last."""
    if len(order) <= m:
        return order
    fewer = np.geomspace(m // 2, len(order) - 1, m - m // 2).round().astype(np.int64)
    return order[np.unique(np.concatenate([np.arange(m // 2), fewer]))]


def _jointly(judge: Judgement, X: Designs, seed: int) -> FloatArray:
    """Draw standard normal numbers for designs X (m, d), as they are believed to be good or bad together, (JOINT_DRAWS, m)."""
    half = generator(seed, "gain").standard_normal((JOINT_DRAWS // 2, len(X)), dtype=np.float32)
    return np.concatenate([half, -half]) @ _root(judge, X).T.astype(np.float32)  # type: ignore[no-any-return]


def _root(judge: Judgement, X: Designs) -> FloatArray:
    """Give the Cholesky factor of how far designs X (m, d) are believed to be good or bad together, (m, m)."""
    known, alone = judge.correlation(X), np.eye(len(X))
    for jitter in JITTERS:
        try:
            return np.linalg.cholesky((alone if known is None else known) + jitter * alone)  # type: ignore[return-value]
        except np.linalg.LinAlgError:  # designs that are nearly one
            continue
    return alone


def _best(judge: Judgement, data: Dataset) -> float:
    """What the judge believes the best measured design is worth, in y."""
    return float(judge.posterior.belief(data.X)[0].max())


def _waiting(data: Dataset) -> Designs:
    """Designs whose readings are to come, (w, d); those that failed by themselves have none."""
    failed = set() if data.failed is None else set(keys(data.failed))
    return data.pending[[one not in failed for one in keys(data.pending)]]
