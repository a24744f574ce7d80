"""Intervals of one arm by itself, and what the comparison's tests share.

Intervals of means: BCa bootstrap within rounds (Efron, Journal of the American Statistical Association 82, 1987), its percentile
form where BCa is undefined, both expanded for small samples (Hesterberg, The American Statistician 69, 2015); Student's t below
`FEW_WELLS`; Wilson's for a rate. Of two arms: `labloop.compare.measures`.
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
"""Below so many wells means get t intervals, which cover skewed wells better there than BCa does."""
TOP_WELLS = 10
"""Below so many wells in the smaller arm top-k means get no interval."""
_NAN = float("nan")

Limits = tuple[float, float, str]
"""Low, high, and how they were made, or why there are none."""


@dataclass(frozen=True)
class Draws:
    """How often is resampled, and from which seed."""

    seed: int
    n: int

    def of(self, *use: str) -> np.random.Generator:
        """Give the generator of one use."""
        return generator(self.seed, *use)

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
        n = len(drawn) / sum(1 / len(sample) for sample in drawn)  # their harmonic mean
        level = 2 * float(scipy.special.ndtr(_t(sum(len(sample) - 1 for sample in drawn)) * math.sqrt(n / (n - 1)))) - 1
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


def wilson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a rate; that of `scipy.stats.binomtest`, without the exact test at 2,000 times the cost."""
    if n == 0:
        return _NAN, _NAN
    z = float(scipy.special.ndtri((1 + level) / 2))
    rate, z2 = hits / n, z**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_limits(blocks: Sequence[FloatArray], draws: Draws, *use: str) -> Limits:
    """Interval of the mean of one arm's wells, resampled within rounds."""
    n = sum(map(len, blocks))
    spread, freedom = variance(blocks)
    if n < 2:
        return _NAN, _NAN, "none: fewer than two measured wells"
    if freedom < 1:
        return _NAN, _NAN, "none: one measured well a round"
    if spread == 0:
        return _NAN, _NAN, "none: the wells are all equal"
    if not math.isfinite(spread):
        return _NAN, _NAN, "none: the readings lie too far apart to be squared"
    if n < FEW_WELLS:
        mean, half = float(np.concatenate(blocks).mean()), _t(freedom) * math.sqrt(spread / n)
        return mean - half, mean + half, "t"
    return draws.bootstrap(blocks, lambda *parts: np.concatenate(parts, axis=-1).mean(axis=-1), "mean", *use)


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p-values for being several (Holm, Scandinavian Journal of Statistics 6, 1979); NaN stays and does not count."""
    known = [i for i in np.argsort(ps, kind="stable").tolist() if not math.isnan(ps[i])]
    corrected, floor = [_NAN] * len(ps), 0.0
    for rank, i in enumerate(known):
        floor = max(floor, min(1.0, (len(known) - rank) * ps[i]))
        corrected[i] = floor
    return corrected


def top(y: FloatArray, k: int) -> FloatArray:
    """Mean of the k largest along the last axis."""
    return np.partition(y, y.shape[-1] - k, axis=-1)[..., -k:].mean(axis=-1)  # type: ignore[no-any-return]


def _t(freedom: float) -> float:
    return float(scipy.special.stdtrit(freedom, (1 + LEVEL) / 2))


def variance(samples: Sequence[FloatArray]) -> tuple[float, int]:
    """Variance within samples and its degrees of freedom; empty ones are passed over. Infinite where squares are."""
    filled = [y for y in samples if len(y)]
    freedom = sum(map(len, filled)) - len(filled)
    with np.errstate(over="ignore"):
        return (sum(float(((y - y.mean()) ** 2).sum()) for y in filled) / freedom if freedom > 0 else _NAN), freedom
