"""The statistics of plates: pure functions of arrays. One that cannot be told comes with its reason, never as a number."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special  # scipy.stats takes a second to load

from labloop.types import Array, FloatArray

ROBUST = 1.4826
"""Turns a median absolute deviation into the standard deviation that normal values of it would have."""
DRAWS = 999
"""Permutations of a test: the smallest p is one in a thousand."""


@dataclass(frozen=True)
class Figure:
    """A statistic, or why there is none."""

    value: float | None
    why: str = ""
    """Why it is not available; empty where it is."""


def z_prime(positive: FloatArray, negative: FloatArray, *, robust: bool = False) -> Figure:
    """Z' = 1 - 3 (s+ + s-) / |m+ - m-| of two controls' values (n,): 1 at best, above 0.5 a good assay, below 0 bands overlap.

    Zhang, Chung and Oldenburg, J. Biomol. Screen. 4, 67 (1999). `robust` takes medians and MADs instead of means and
    standard deviations; a single bad well does not spoil it.
    """
    found = _bands(positive, negative, robust=robust)
    if isinstance(found, Figure):
        return found
    gap, spread_high, spread_low = found
    return Figure(1 - 3 * (spread_high + spread_low) / gap)


def signal_window(positive: FloatArray, negative: FloatArray) -> Figure:
    """Give (|m+ - m-| - 3 (s+ + s-)) / s+: how many standard deviations of the positive control fit between the two bands.

    After Sittampalam and others, J. Biomol. Screen. 2, 159 (1997), in the form that Zhang and others (1999) compare Z' with;
    quoted from memory of these papers, not checked against their text.
    """
    found = _bands(positive, negative, robust=False)
    if isinstance(found, Figure):
        return found
    gap, spread_high, spread_low = found
    if spread_high == 0:
        return Figure(None, "all wells of the positive control read the same")
    return Figure((gap - 3 * (spread_high + spread_low)) / spread_high)


def _bands(positive: FloatArray, negative: FloatArray, *, robust: bool) -> tuple[float, float, float] | Figure:
    """Distance of two controls and the spread of each."""
    for name, values in (("positive", positive), ("negative", negative)):
        if len(values) < 2:
            return Figure(None, f"the {name} control has {len(values)} measured wells, it takes 2")
    if robust:
        (m1, s1), (m0, s0) = ((float(np.median(v)), ROBUST * _mad(v)) for v in (positive, negative))
    else:
        (m1, s1), (m0, s0) = ((float(np.mean(v)), float(np.std(v, ddof=1))) for v in (positive, negative))
    if m1 == m0:
        return Figure(None, "the positive and the negative control read the same")
    return abs(m1 - m0), s1, s0


def cv(values: FloatArray) -> Figure:
    """Coefficient of variation, the standard deviation as a share of the mean's size."""
    if len(values) < 2:
        return Figure(None, f"{len(values)} measured wells, it takes 2")
    mean = abs(float(np.mean(values)))
    return Figure(float(np.std(values, ddof=1)) / mean) if mean else Figure(None, "its mean is zero")


def _mad(values: FloatArray) -> float:
    return float(np.median(np.abs(values - np.median(values))))


@dataclass(frozen=True, eq=False)
class Polish:
    """A plate taken apart: value = overall + row + column + residual."""

    overall: float
    rows: FloatArray
    columns: FloatArray
    residual: FloatArray
    """(rows, columns), NaN where the plate has no value."""


def median_polish(grid: FloatArray, *, sweeps: int = 20) -> Polish:
    """Take row and column effects off a plate (rows, columns; NaN where empty) by medians, Tukey's two-way median polish.

    Tukey, Exploratory Data Analysis (1977); the B score divides the residual by its MAD (Brideau and others, J. Biomol.
    Screen. 8, 634, 2003).
    """
    residual = np.array(grid, dtype=float)
    overall, rows, columns = 0.0, np.zeros(grid.shape[0]), np.zeros(grid.shape[1])
    for _ in range(sweeps):
        before = residual.copy()
        step = _medians(residual, axis=1)
        residual, rows = residual - step[:, None], rows + step
        middle = float(np.median(rows[np.isfinite(grid).any(1)])) if np.isfinite(grid).any() else 0.0
        overall, rows = overall + middle, rows - middle
        step = _medians(residual, axis=0)
        residual, columns = residual - step, columns + step
        middle = float(np.median(columns[np.isfinite(grid).any(0)])) if np.isfinite(grid).any() else 0.0
        overall, columns = overall + middle, columns - middle
        if np.allclose(residual, before, equal_nan=True, rtol=0, atol=1e-12 * (np.nanmax(np.abs(grid), initial=0) + 1e-300)):
            break
    rows[~np.isfinite(grid).any(1)] = 0.0
    columns[~np.isfinite(grid).any(0)] = 0.0
    return Polish(overall, rows, columns, residual)


def _medians(grid: FloatArray, *, axis: int) -> FloatArray:
    """Medians of what is there, 0 where nothing is."""
    lines = np.sort(grid if axis == 1 else grid.T, axis=1)  # NaN comes last
    n, at = np.isfinite(lines).sum(axis=1), np.arange(len(lines))
    if not lines.size:
        return np.zeros(len(lines))
    return np.where(n > 0, (lines[at, np.maximum(n - 1, 0) // 2] + lines[at, np.minimum(n // 2, lines.shape[1] - 1)]) / 2, 0.0)


@dataclass(frozen=True)
class Effect:
    """How strong something is, and how likely it would be this strong by chance; both None where it cannot be told."""

    size: float | None
    p: float | None
    why: str = ""


def edge_effect(values: FloatArray, outer: Array, *, least: int = 6, worth: float = 0.0) -> Effect:
    """Compare the outer wells with those inside: the difference of medians in robust standard deviations of the inner wells.

    Args:
        values: (n,) of wells whose content has nothing to do with their place: labloop's layouts see to that.
        outer: (n,) bool.
        worth: effects smaller than this are not tested, their p is None.

    Returns:
        Size, positive where the edge reads higher, and the two-sided p of Mann and Whitney's rank test: an extreme design in one
        well moves neither.
    """
    edge, inside = values[outer], values[~outer]
    if len(edge) < least or len(inside) < least:
        return Effect(None, None, f"{len(edge)} outer and {len(inside)} inner wells are measured, it takes {least} of each")
    scale = ROBUST * _mad(inside)
    if scale == 0:
        return Effect(None, None, "half of the inner wells read the same")
    size = float(np.median(edge) - np.median(inside)) / scale
    if abs(size) < worth:
        return Effect(size, None, f"an effect below {worth} is not tested")
    return Effect(size, rank_test(edge, inside))


def rank_test(a: FloatArray, b: FloatArray) -> float:
    """Give the two-sided p of Mann and Whitney's test that values of a (n,) and b (m,) rank alike: the normal approximation.

    Mann and Whitney, Ann. Math. Stat. 18, 50 (1947), with the usual corrections for ties and for continuity.
    """
    n, m = len(a), len(b)
    rank = ranks(np.concatenate([a, b]))
    u = float(rank[:n].sum()) - n * (n + 1) / 2
    ties = np.unique(rank, return_counts=True)[1].astype(float)
    variance = n * m / 12 * (n + m + 1 - float((ties**3 - ties).sum()) / ((n + m) * (n + m - 1)))
    if variance <= 0:
        return 1.0
    z = (max(u, n * m - u) - n * m / 2 - 0.5) / math.sqrt(variance)
    return float(min(1.0, 2 * special.ndtr(-z)))


def ranks(values: FloatArray) -> FloatArray:
    """Rank values (n,) from 1; equal ones share the mean of their ranks."""
    return np.asarray(pd.Series(values).rank(), dtype=np.float64)


def drift(values: FloatArray, order: FloatArray, rng: np.random.Generator, *, least: int = 10, worth: float = 0.0) -> Effect:
    """Spearman's correlation of the values (n,) with their order (n,), with the two-sided p of a permutation test.

    Args:
        worth: correlations smaller than this are not tested, their p is None.
    """
    if len(values) < least:
        return Effect(None, None, f"{len(values)} wells are measured, it takes {least}")
    x, y = ranks(order), ranks(values)
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float(x @ x) * float(y @ y))
    if norm == 0:
        return Effect(None, None, "all wells read the same, or at the same time")
    rho = float(x @ y) / norm
    if abs(rho) < worth:
        return Effect(rho, None, f"a correlation below {worth} is not tested")
    by_chance = np.abs(rng.permuted(np.tile(x, (DRAWS, 1)), axis=1) @ y) / norm
    return Effect(rho, float(1 + (by_chance >= abs(rho) - 1e-12).sum()) / (DRAWS + 1))


def icc(values: FloatArray, groups: Array) -> Figure:
    """Intraclass correlation of one reading, ICC(1) of the one-way layout: the share of the variance that lies between groups.

    Shrout and Fleiss, Psychol. Bull. 86, 420 (1979), with the usual average size for groups of unequal size. 1: replicates
    agree; 0: they differ as much as any two readings; it can be negative.
    """
    codes, n = _codes(groups)
    if len(n) < 2 or (n > 1).sum() < 2:
        return Figure(None, f"{int((n > 1).sum())} of {len(n)} designs have replicates, it takes 2")
    k, total = len(n), len(values)
    means = np.bincount(codes, values) / n
    between = float((n * (means - values.mean()) ** 2).sum()) / (k - 1)
    within = float(((values - means[codes]) ** 2).sum()) / (total - k)
    size = (total - float((n**2).sum()) / total) / (k - 1)
    if between + (size - 1) * within == 0:
        return Figure(None, "all readings are equal")
    return Figure((between - within) / (between + (size - 1) * within))


def pooled_sd(values: FloatArray, groups: Array) -> Figure:
    """Standard deviation of replicates, pooled over groups."""
    codes, n = _codes(groups)
    freedom = int((n - 1).sum())
    if freedom < 1:
        return Figure(None, "no design has replicates")
    means = np.bincount(codes, values) / n
    return Figure(math.sqrt(float(((values - means[codes]) ** 2).sum()) / freedom))


def outliers(values: FloatArray, groups: Array, *, rate: float = 0.01, least: int = 8) -> tuple[Array, FloatArray]:
    """Find readings that disagree with their own replicates.

    Each reading is held against the median of the others of its group, in units of the replicates' common spread (from the
    median size of all deviations from their group's mean). At most a minority of each group of three or more can be outliers. The
    limit is Student's t for the spread's own uncertainty, divided among all readings looked at (Bonferroni): clean data get any
    flag at all in about `rate` of all cases. A reading without two replicates is never judged: a value alone says nothing.

    Args:
        least: degrees of freedom (replicates beyond the first of each group) that the spread needs.

    Returns:
        Which (n,) are outliers, and by how many spreads each reading is off (n,), NaN where it is not judged.
    """
    found, off = np.zeros(len(values), dtype=bool), np.full(len(values), np.nan)
    codes, n = _codes(groups)
    freedom = int((n - 1).sum())
    judged = np.flatnonzero(n[codes] >= 3)
    if freedom < least or not len(judged):
        return found, off
    means = np.bincount(codes, values) / n
    many = n[codes] > 1
    scaled = (values - means[codes])[many] * np.sqrt(n[codes][many] / (n[codes][many] - 1))
    spread = ROBUST * float(np.median(np.abs(scaled)))
    if spread == 0:
        return found, off
    order = judged[np.lexsort((values[judged], codes[judged]))]
    # A median of absolute deviations knows the spread only about 0.37 times as well as the standard deviation does.
    limit = float(special.stdtrit(max(0.37 * freedom, 2.0), 1 - rate / (2 * len(judged))))
    ends = np.flatnonzero(np.append(np.diff(codes[order]) != 0, True)) + 1
    k = np.diff(ends, prepend=0)
    first, size = np.repeat(ends - k, k), np.repeat(k, k)
    place = np.arange(len(order)) - first
    sorted_values = values[order]

    def without_me(j: Array) -> FloatArray:
        """The j-th smallest of each reading's group once the reading itself is taken out."""
        return sorted_values[first + j + (j >= place)]

    others = (without_me((size - 2) // 2) + without_me((size - 1) // 2)) / 2
    noise = np.sqrt(1 + np.where(size > 4, 1.5708, 1.0 + 0.35 * (size == 4)) / (size - 1))  # of a value less a median of k - 1
    off[order] = (sorted_values - others) / (spread * noise)
    far = np.abs(off[order])
    by_distance = np.lexsort((place, -far, codes[order]))  # groups stay where they are: the j-th of a group is its j-th furthest
    worst = by_distance[place < (size - 1) // 2]
    found[order[worst]] = far[worst] > limit
    return found, off


def _codes(groups: Array) -> tuple[Array, FloatArray]:
    """Number the groups; returns each reading's (n,) and the sizes (k,)."""
    groups = np.asarray(groups)
    codes = pd.factorize(groups if groups.dtype.kind == "i" else groups.astype(object), sort=True)[0]
    return codes, np.bincount(codes).astype(float)
