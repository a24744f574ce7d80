"""Intervals and tests for two arms that share plates: wells are compared within their round, never across rounds.

Arms are given as blocks, one a round. A difference over several blocks is the mean of the blocks' differences weighted by
n₁n₂/(n₁+n₂). A design that both arms chose cannot tell them apart: it is resampled once for both and never relabelled.

Intervals: BCa bootstrap within blocks (Efron, Journal of the American Statistical Association 82, 1987), its percentile form
where BCa is undefined, both expanded for small samples (Hesterberg, The American Statistician 69, 2015); Welch's t below
`FEW_WELLS`; Wilson's for a rate, Newcombe's hybrid (Statistics in Medicine 17, 1998, method 10), block limits combined
with the weights above, for the difference of two rates.
Test: studentised permutation (Janssen, Statistics & Probability Letters 36, 1997), right too where the arms spread differently.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # which loads scipy.stats on first use: it takes a second

from labloop.seeds import generator
from labloop.types import FloatArray

LEVEL = 0.95
POWER = 0.8
FEW_WELLS = 20
"""Below so many wells in the smaller arm means get t intervals, which cover skewed wells better there than BCa does."""
TOP_WELLS = 10
"""Below so many wells in the smaller arm top-k means get no interval; above, theirs is rough: on skewed wells it covers 90 %."""
_NAN = float("nan")

Limits = tuple[float, float, str]
"""Low, high, and how they were made, or why there are none."""
Interval = tuple[float, float, float, str]
"""Estimate, then `Limits`."""


@dataclass(frozen=True, eq=False)
class Block:
    """One round of two arms: y of the wells that only the first chose, only the second, and both; and the round's incumbent."""

    own: tuple[FloatArray, FloatArray]
    shared: FloatArray
    incumbent: float

    @property
    def n(self) -> tuple[int, int]:
        return len(self.own[0]) + len(self.shared), len(self.own[1]) + len(self.shared)

    @property
    def weight(self) -> float:
        return self.n[0] * self.n[1] / sum(self.n)

    def arm(self, side: int) -> FloatArray:
        return np.concatenate([self.own[side], self.shared])


@dataclass(frozen=True, eq=False)
class Pair:
    """Two arms over the rounds in which both have measured wells."""

    first: str
    second: str
    blocks: tuple[Block, ...]

    def n(self, side: int) -> int:
        return sum(block.n[side] for block in self.blocks)

    @property
    def n_shared(self) -> int:
        return sum(len(block.shared) for block in self.blocks)

    @property
    def same(self) -> bool:
        """Whether the arms chose the same designs."""
        return not any(len(own) for block in self.blocks for own in block.own)

    def arms(self) -> tuple[list[FloatArray], list[FloatArray]]:
        """y of the first and of the second arm, one array a block."""
        return [b.arm(0) for b in self.blocks], [b.arm(1) for b in self.blocks]

    def blocked(self, first: Sequence[FloatArray], second: Sequence[FloatArray]) -> FloatArray:
        """Weighted mean of the blocks' differences of means; arrays (…, n), one a block."""
        weights = np.array([block.weight for block in self.blocks])
        gaps = np.stack([a.mean(axis=-1) - b.mean(axis=-1) for a, b in zip(first, second, strict=True)], axis=-1)
        return gaps @ (weights / weights.sum())


@dataclass(frozen=True)
class Draws:
    """How often is resampled, and from which seed."""

    seed: int
    n: int

    def bootstrap(self, samples: Sequence[FloatArray], statistic: Callable[..., FloatArray], *use: str) -> Limits:
        """Interval of a statistic of independent samples; a sample of one well has nothing to draw from and stays as it is."""
        moves = [i for i, sample in enumerate(samples) if len(sample) > 1]

        def of(*drawn: FloatArray, axis: int = -1) -> FloatArray:
            shape = drawn[0].shape[:-1]
            parts = [np.broadcast_to(sample, (*shape, len(sample))) for sample in samples]
            for i, sample in zip(moves, drawn, strict=True):
                parts[i] = sample
            return statistic(*parts)

        if all(np.ptp(samples[i]) == 0 for i in moves):
            return _NAN, _NAN, "none: the wells are all equal"
        batch = max(1, 2_000_000 // sum(map(len, samples)))
        drawn = [samples[i] for i in moves]
        # Resampling n wells shows (n - 1)/n of their variance and a normal's tails: ask for more, so that the t level comes out.
        n = scipy.stats.hmean([len(sample) for sample in drawn])
        level = 2 * scipy.stats.norm.cdf(_t(sum(len(sample) - 1 for sample in drawn)) * math.sqrt(n / (n - 1))) - 1
        for method in ("BCa", "percentile"):
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                # SciPy warns and gives NaN where every resample lies on one side: that is what the percentile form is for.
                warnings.simplefilter("ignore")
                found = scipy.stats.bootstrap(
                    drawn, of, vectorized=True, axis=-1, n_resamples=self.n, confidence_level=level, batch=batch,
                    method=method, random_state=generator(self.seed, "bootstrap", *use),
                ).confidence_interval  # fmt: skip
            low, high = float(found.low), float(found.high)
            if low < high:
                return low, high, "BCa bootstrap" if method == "BCa" else "percentile bootstrap, BCa being undefined here"
        return _NAN, _NAN, "none: resampling does not vary"


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a rate."""
    if n == 0:
        return _NAN, _NAN
    z = float(scipy.stats.norm.ppf((1 + LEVEL) / 2))
    rate, z2 = hits / n, z**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_limits(blocks: Sequence[FloatArray], draws: Draws, *use: str) -> Limits:
    """Interval of the mean of one arm's wells, resampled within rounds."""
    n = sum(map(len, blocks))
    spread, freedom = _variance(blocks)
    if n < 2:
        return _NAN, _NAN, "none: fewer than two measured wells"
    if freedom < 1:
        return _NAN, _NAN, "none: one measured well a round"
    if spread == 0:
        return _NAN, _NAN, "none: the wells are all equal"
    if n < FEW_WELLS:
        mean, half = float(np.concatenate(blocks).mean()), _t(freedom) * math.sqrt(spread / n)
        return mean - half, mean + half, "t"
    return draws.bootstrap(blocks, lambda *parts: np.concatenate(parts, axis=-1).mean(axis=-1), "mean", *use)


def mean_difference(pair: Pair, draws: Draws) -> Interval:
    """Difference of the mean y of two arms."""
    first, second = pair.arms()
    estimate = float(pair.blocked(first, second))
    (spread_0, free_0), (spread_1, free_1) = _variance(first), _variance(second)
    if pair.same:
        return estimate, _NAN, _NAN, "none: the arms chose the same designs"
    if free_0 < 1 or free_1 < 1:
        return estimate, _NAN, _NAN, "none: needs two measured wells of each arm in a round"
    if spread_0 == spread_1 == 0:
        return estimate, _NAN, _NAN, "none: the wells of an arm are all equal"
    if min(pair.n(0), pair.n(1)) >= FEW_WELLS:
        return estimate, *draws.bootstrap(*_samples(pair, pair.blocked), "mean", pair.first, pair.second)
    weights = np.array([b.weight for b in pair.blocks])
    # Shared wells cancel as far as the arms are of one size; what is left of them is small and counted as if they were own.
    part_0 = spread_0 * sum(w**2 * len(b.own[0]) / b.n[0] ** 2 for w, b in zip(weights / weights.sum(), pair.blocks, strict=True))
    part_1 = spread_1 * sum(w**2 * len(b.own[1]) / b.n[1] ** 2 for w, b in zip(weights / weights.sum(), pair.blocks, strict=True))
    if part_0 + part_1 == 0:
        return estimate, _NAN, _NAN, "none: the wells that tell the arms apart are all equal"
    freedom = (part_0 + part_1) ** 2 / (part_0**2 / free_0 + part_1**2 / free_1)
    half = _t(freedom) * math.sqrt(part_0 + part_1)
    return estimate, estimate - half, estimate + half, "Welch's t"


def top_difference(pair: Pair, top_k: int, draws: Draws) -> Interval:
    """Difference of the mean of each arm's k best wells, k no larger than the smaller arm."""
    k = min(top_k, pair.n(0), pair.n(1))

    def gap(first: Sequence[FloatArray], second: Sequence[FloatArray]) -> FloatArray:
        return top(np.concatenate(first, axis=-1), k) - top(np.concatenate(second, axis=-1), k)

    estimate = float(gap(*pair.arms()))
    if pair.same:
        return estimate, _NAN, _NAN, "none: the arms chose the same designs"
    if min(pair.n(0), pair.n(1)) < TOP_WELLS:
        return estimate, _NAN, _NAN, f"none: needs {TOP_WELLS} measured wells of each arm"
    return estimate, *draws.bootstrap(*_samples(pair, gap), "top", pair.first, pair.second)


def hit_difference(pair: Pair) -> Interval:
    """Difference of the rates of wells above their round's incumbent."""
    blocks = [b for b in pair.blocks if math.isfinite(b.incumbent)]
    if not blocks:
        return _NAN, _NAN, _NAN, "none: no incumbent is stored"
    estimate = below = above = 0.0
    for b in blocks:
        share = b.weight / sum(other.weight for other in blocks)
        hits = [int((b.arm(side) > b.incumbent).sum()) for side in (0, 1)]
        (p, low_p, high_p), (q, low_q, high_q) = ((h / n, *wilson(h, n)) for h, n in zip(hits, b.n, strict=True))
        estimate += share * (p - q)
        below += share**2 * ((p - low_p) ** 2 + (high_q - q) ** 2)
        above += share**2 * ((high_p - p) ** 2 + (q - low_q) ** 2)
    if pair.same:
        return estimate, _NAN, _NAN, "none: the arms chose the same designs"
    return estimate, estimate - math.sqrt(below), estimate + math.sqrt(above), "Newcombe"


def permutation(pair: Pair, top_k: int, draws: Draws) -> tuple[float, float, float]:
    """Two-sided p of mean, top-k mean and hit rate: wells of one arm only are relabelled within their round."""
    blocks = [b for b in pair.blocks if len(b.own[0]) and len(b.own[1])]
    if not blocks:
        return (1.0, 1.0, 1.0) if pair.blocks and pair.same else (_NAN, _NAN, _NAN)
    k = min(top_k, *(sum(b.n[side] for b in blocks) for side in (0, 1)))
    observed = _statistics(blocks, [b.own[0][None] for b in blocks], [b.own[1][None] for b in blocks], k)[:, 0]
    slack = 1e-9 * np.where(np.isfinite(observed), np.abs(observed), 0.0) + 1e-15
    rng = generator(draws.seed, "permutation", pair.first, pair.second)
    pooled = [np.concatenate(b.own) for b in blocks]
    cuts = [len(b.own[0]) for b in blocks]
    at_least, at_most = np.zeros(3), np.zeros(3)
    chunk = max(1, 2_000_000 // sum(map(len, pooled)))
    for start in range(0, draws.n, chunk):
        m = min(chunk, draws.n - start)
        relabelled = [rng.permuted(np.broadcast_to(y, (m, len(y))), axis=1) for y in pooled]
        first = [y[:, :cut] for y, cut in zip(relabelled, cuts, strict=True)]
        second = [y[:, cut:] for y, cut in zip(relabelled, cuts, strict=True)]
        drawn = _statistics(blocks, first, second, k)
        at_least += (drawn >= (observed - slack)[:, None]).sum(axis=1)
        at_most += (drawn <= (observed + slack)[:, None]).sum(axis=1)
    p = np.where(np.isnan(observed), _NAN, np.minimum(1.0, 2 * (1 + np.minimum(at_least, at_most)) / (1 + draws.n)))
    return float(p[0]), float(p[1]), float(p[2])


def relabellings(pair: Pair) -> int:
    """How many different relabellings a permutation test of this pair has; the smallest p is about two over this."""
    return math.prod(math.comb(len(b.own[0]) + len(b.own[1]), len(b.own[0])) for b in pair.blocks)


def heterogeneity(pair: Pair) -> float:
    """p of Cochran's Q: whether the rounds' differences of means differ by more than chance; NaN with fewer than two rounds."""
    rows = []
    for first, second in zip(*pair.arms(), strict=True):
        if len(first) > 1 and len(second) > 1:
            variance = first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second)
            rows.append((first.mean() - second.mean(), variance))
    if len(rows) < 2 or min(variance for _, variance in rows) == 0:
        return _NAN
    gaps, weights = np.array(rows).T[0], 1 / np.array(rows).T[1]
    q = (weights * (gaps - np.average(gaps, weights=weights)) ** 2).sum()
    return float(scipy.stats.chi2.sf(q, len(rows) - 1))


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p-values for being several (Holm, Scandinavian Journal of Statistics 6, 1979); NaN stays and does not count."""
    known = [i for i in np.argsort(ps, kind="stable").tolist() if not math.isnan(ps[i])]
    corrected, floor = [_NAN] * len(ps), 0.0
    for rank, i in enumerate(known):
        floor = max(floor, min(1.0, (len(known) - rank) * ps[i]))
        corrected[i] = floor
    return corrected


def wells_needed(pair: Pair, difference: float, n_pairs: int) -> int | None:
    """Measured wells an arm that show a true difference of this size with 80 % power, the worst of Holm's steps assumed.

    Two-sided normal approximation with the spreads seen. None where the spread or the difference is unknown or zero.
    """
    (spread_0, free_0), (spread_1, free_1) = (_variance(arm) for arm in pair.arms())
    if min(free_0, free_1) < 1 or not abs(difference) > 0 or spread_0 + spread_1 == 0:
        return None
    z = float(scipy.stats.norm.ppf(1 - (1 - LEVEL) / (2 * n_pairs)) + scipy.stats.norm.ppf(POWER))
    return max(2, math.ceil(z**2 * (spread_0 + spread_1) / difference**2))


def top(y: FloatArray, k: int) -> FloatArray:
    """Mean of the k largest along the last axis."""
    return np.partition(y, y.shape[-1] - k, axis=-1)[..., -k:].mean(axis=-1)  # type: ignore[no-any-return]


def _t(freedom: float) -> float:
    return float(scipy.stats.t.ppf((1 + LEVEL) / 2, freedom))


def _variance(blocks: Sequence[FloatArray]) -> tuple[float, int]:
    """Variance within rounds and its degrees of freedom."""
    freedom = sum(map(len, blocks)) - len(blocks)
    return (sum(float(((y - y.mean()) ** 2).sum()) for y in blocks) / freedom if freedom > 0 else _NAN), freedom


def _samples(
    pair: Pair, statistic: Callable[[Sequence[FloatArray], Sequence[FloatArray]], FloatArray]
) -> tuple[list[FloatArray], Callable[..., FloatArray]]:
    """Write a statistic of two arms as one of independent samples: own, own and shared wells of each round."""

    def of(*parts: FloatArray) -> FloatArray:
        rounds = [parts[i : i + 3] for i in range(0, len(parts), 3)]
        first = [np.concatenate([own, shared], axis=-1) for own, _, shared in rounds]
        return statistic(first, [np.concatenate([own, shared], axis=-1) for _, own, shared in rounds])

    return [part for b in pair.blocks for part in (*b.own, b.shared)], of


def _statistics(blocks: Sequence[Block], first: Sequence[FloatArray], second: Sequence[FloatArray], k: int) -> FloatArray:
    """Studentised mean, top-k mean and hit-rate differences of m labellings, (3, m); a side is (m, n), one a block."""
    n = np.array([[a.shape[1], b.shape[1]] for a, b in zip(first, second, strict=True)], dtype=float)
    weight = n.prod(axis=1) / n.sum(axis=1)
    m = first[0].shape[0]
    gap, rate, error = np.zeros(m), np.full(m, _NAN), np.zeros(m)
    for w, a, b, block in zip(weight, first, second, blocks, strict=True):
        gap += w * (a.mean(axis=1) - b.mean(axis=1))
        if math.isfinite(block.incumbent):
            rate = np.nan_to_num(rate) + w * ((a > block.incumbent).mean(axis=1) - (b > block.incumbent).mean(axis=1))
    freedom = n.sum(axis=0) - len(n)
    if (freedom > 0).all():
        for side, arms in enumerate((first, second)):
            squares = sum(len_y * y.var(axis=1) for y, len_y in zip(arms, n[:, side], strict=True))
            error += squares / freedom[side] * (weight**2 / n[:, side]).sum()
        scale = np.sqrt(error)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.where(scale > 1e-12 * np.abs(gap), gap / scale, np.where(gap == 0, 0.0, np.sign(gap) * np.inf))
    tops = [
        top(np.concatenate([*arms, *(np.broadcast_to(b.shared, (m, len(b.shared))) for b in blocks)], axis=1), k)
        for arms in (first, second)
    ]
    return np.stack([gap, tops[0] - tops[1], rate])
