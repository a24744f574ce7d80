"""How far two arms are apart: estimate, 95 % interval and p, of which the interval is the test's inversion.

Plates: wells are compared within their round, never across; a difference over several rounds is the mean of the rounds'
differences weighted by n₁n₂/(n₁+n₂). Designs that both arms chose cannot tell them apart: only their own wells are tested, and
the difference is scaled by the share that these are. Means by Welch's t (Biometrika 34, 1947), spreads pooled within arms, no arm
being surer than `FOLD` times the other's wells would make it, nor their difference than the fewer wells alone can tell: two wells
that chance put close look sure beside 24, and may be spread more widely. Top-k means by relabelling wells within rounds, taken
over all shifts of one arm; hit rates by Newcombe's hybrid (Statistics in Medicine 17, 1998, method 10), rounds' limits combined
with the weights above.

Arms: each round is one observation, its difference, and all count alike (Student's t). That keeps its level whatever the
differences' spread from round to round is, and where it changes (Ibragimov & Müller, Journal of Business & Economic Statistics
28, 2010, for levels below 8 %).

Readings beyond the assay's range stand at their bounds in every estimate; interval and p hold wherever they lie between the worst
and the best reading (`Pair.leaning`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import scipy  # which loads scipy.stats on first use: it takes a second

from labloop.compare.pairs import Pair, RoundPair
from labloop.compare.statistics import LEVEL, POWER, TOP_WELLS, Draws, top, variance, wilson
from labloop.types import Array, FloatArray

_NAN = float("nan")
_RELABELLINGS = 999
FOLD = 2
"""Up to so many times the other arm's measured wells in a round Welch's t keeps its level where spreads are alike."""
TOO_FAR = "the readings lie too far apart to be squared"


@dataclass(frozen=True)
class Found:
    """A difference with its interval, which leaves zero out exactly where p is below 1 − `level`; how, or why there is none."""

    estimate: float
    low: float
    high: float
    p: float
    method: str
    ends: tuple[float, float] | None = None
    """The estimate with readings beyond the assay's range where they speak most against the first arm, and most for it; None
    where they can lie nowhere else."""


def none(estimate: float, why: str, p: float = _NAN) -> Found:
    """Give an estimate that has no interval, and why."""
    return Found(estimate, _NAN, _NAN, p, f"none: {why}")


def wherever(found: Found, against: Found, by: Found) -> Found:
    """Say what holds wherever bounds lie: the widest interval and the largest p of a difference with all bounds as they were
    read, with each where it speaks most against the first arm, and most for it."""
    every, ends = (found, against, by), (against.estimate, by.estimate)
    if not all(math.isfinite(one.low) for one in every):
        return replace(none(found.estimate, next(one.method for one in every if not math.isfinite(one.low))[6:]), ends=ends)
    p = max(one.p for one in every) if len({math.copysign(1, one.estimate) for one in every}) == 1 else 1.0
    low, high = min(one.low for one in every), max(one.high for one in every)
    return Found(found.estimate, low, high, p, f"{found.method}, wherever bounds lie", ends)


def _wherever(pair: Pair, test: Callable[[Pair], Found]) -> Found:
    if not pair.leaning:
        return test(pair)
    by, against = (test(one) for one in pair.leaning)
    return wherever(test(pair), against, by)


def plates(pair: Pair, level: float = LEVEL) -> Found:
    """Difference of the mean y of two arms on these plates."""
    return _wherever(pair, lambda one: _plates(one, level))


def _plates(pair: Pair, level: float) -> Found:
    if not pair.blocks:
        return none(_NAN, "no round in which both have measured wells")
    parts = pair.weights * np.array([block.factor for block in pair.blocks])
    estimate = float(pair.weights @ pair.gaps)
    if pair.same:
        return none(0.0, "the arms chose the same designs", 1.0)
    given = np.array([[len(own) for own in pair.own(side)] for side in (0, 1)])[:, parts > 0]
    wells = np.minimum(given, FOLD * given[::-1])
    spread, freedom = [variance(pair.own(side))[0] for side in (0, 1)], (wells - 1).sum(axis=1).tolist()
    if min(freedom) < 1:
        return none(estimate, "needs two measured wells of each arm in a round")
    errors = (spread * (parts[parts > 0] ** 2 / wells).sum(axis=1)).tolist()
    if not math.isfinite(sum(errors)):
        return none(estimate, TOO_FAR)
    if sum(errors) == 0 or math.sqrt(sum(errors)) <= 1e-12 * abs(estimate):
        return none(estimate, "the wells that tell the arms apart are all equal")
    df = sum(errors) ** 2 / sum(error**2 / free for error, free in zip(errors, freedom, strict=True))
    if (wells < given).any():
        df = min(df, *freedom)
    return student(estimate, math.sqrt(sum(errors)), df, level, "Welch's t")


def arms(pair: Pair, level: float = LEVEL) -> Found:
    """Difference of two arms, with rounds as the sample."""
    few = "needs several rounds"
    return _wherever(pair, lambda one: over(one.gaps, "rounds", "the rounds'", fewest=2, few=few, level=level))


def over(gaps: FloatArray, what: str, whose: str, *, fewest: int, few: str, level: float = LEVEL) -> Found:
    """Mean of differences (n,), each of which counts once.

    Args:
        what: what they are of, such as rounds; `whose` differences they are, in words.
        few: why there is no interval of less than `fewest`.
    """
    mean = float(gaps.mean()) if len(gaps) else _NAN
    if len(gaps) < fewest:
        return none(mean, few)
    with np.errstate(over="ignore"):
        error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    if not math.isfinite(error):
        return none(mean, TOO_FAR)
    if error <= 1e-12 * abs(mean) or error == 0:
        return none(mean, f"{whose} differences are all equal")
    return student(mean, error, len(gaps) - 1, level, f"Student's t over {len(gaps)} {what}")


def student(estimate: float, error: float, df: float, level: float, method: str) -> Found:
    """Interval and two-sided p of an estimate with its standard error."""
    half = float(scipy.special.stdtrit(df, (1 + level) / 2)) * error
    return Found(estimate, estimate - half, estimate + half, float(2 * scipy.special.stdtr(df, -abs(estimate) / error)), method)


def top_means(pair: Pair, top_k: int, draws: Draws) -> Found:
    """Difference of the mean of each arm's k best own wells, k no larger than the smaller arm has."""
    return _wherever(pair, lambda one: _top_means(one, top_k, draws))


def _top_means(pair: Pair, top_k: int, draws: Draws) -> Found:
    blocks = [block for block in pair.blocks if block.factor]
    if not blocks:
        return none(0.0, "the arms chose the same designs", 1.0) if pair.blocks else none(_NAN, "no round with both")
    first, second = (np.concatenate([block.own[side] for block in blocks]) for side in (0, 1))
    k = min(top_k, len(first), len(second))
    estimate = float(top(first, k) - top(second, k))
    if min(len(first), len(second)) < TOP_WELLS:
        return none(estimate, f"needs {TOP_WELLS} own measured wells of each arm")
    p_of = _relabelled(blocks, k, estimate, draws.of("top", pair.first, pair.second))
    width = float(np.ptp(np.concatenate([first, second])))
    if width == 0:
        return none(estimate, "the wells are all equal")
    low, high = (_edge(p_of, estimate, sign * width) for sign in (-1, 1))
    if not (math.isfinite(low) and math.isfinite(high)):
        return none(estimate, "too few wells", p_of(0.0))
    return Found(estimate, low, high, p_of(0.0), "relabelled own wells, arms a shift apart")


def _relabelled(blocks: list[RoundPair], k: int, estimate: float, rng: np.random.Generator) -> Callable[[float], float]:
    """Two-sided p that one arm is another shifted by so much, each time of the same relabellings."""
    y = [np.concatenate(block.own) for block in blocks]
    cuts = [len(block.own[0]) for block in blocks]
    order = [rng.permuted(np.broadcast_to(np.arange(len(one)), (_RELABELLINGS, len(one))), axis=1) for one in y]
    parts = [(at[:, :cut], at[:, cut:], cut) for at, cut in zip(order, cuts, strict=True)]
    tops = [
        _tops(
            np.concatenate([one[part[side]] for one, part in zip(y, parts, strict=True)], axis=1),
            np.concatenate([part[side] < part[2] for part in parts], axis=1), k,
        ) for side in (0, 1)
    ]  # fmt: skip
    shifted = np.arange(k + 1)

    @cache
    def p_of(shift: float) -> float:
        first, second = ((one - shift * shifted).max(axis=1) for one in tops)
        drawn, seen = (first - second) / k, estimate - shift
        slack = 1e-9 * abs(seen) + 1e-15
        tail = min(int((drawn >= seen - slack).sum()), int((drawn <= seen + slack).sum()))
        return min(1.0, 2 * (1 + tail) / (1 + _RELABELLINGS))

    return p_of


def _tops(y: FloatArray, moves: Array, k: int) -> FloatArray:
    """Sums (drawings, k + 1) of the j best wells that a shift moves and the k - j best that it does not, by j.

    The k best of all wells (drawings, wells) are the j best of those and the k - j best of these, for that j whose sum is the
    largest: whatever the shift is, nothing need be sorted anew.
    """
    best = -np.sort(-np.where([moves, ~moves], y, -np.inf), axis=-1)[..., :k]
    sums = np.concatenate([np.zeros((2, len(y), 1)), best.cumsum(axis=-1)], axis=-1)
    short = [(0, 0), (0, 0), (0, k + 1 - sums.shape[-1])]
    moved, fixed = np.pad(sums, short, constant_values=-np.inf)
    return moved + fixed[:, ::-1]  # type: ignore[no-any-return]


def _edge(p_of: Callable[[float], float], inside: float, step: float) -> float:
    """Find where p falls to 1 − level on one side; on which side of it zero lies is what p says of zero, whatever the scale."""
    alpha = 1 - LEVEL
    far = inside + step
    if p_of(far) > alpha and p_of(inside + 4 * step) > alpha:
        return _NAN
    outside = far if p_of(far) <= alpha else inside + 4 * step
    if min(inside, outside) < 0 < max(inside, outside):
        inside, outside = (0.0, outside) if p_of(0.0) > alpha else (inside, 0.0)
    for _ in range(20):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if p_of(middle) > alpha else (inside, middle)
    return inside


def hit_rates(pair: Pair) -> Found:
    """Difference of the rates of wells above their round's incumbent."""
    blocks = [block for block in pair.blocks if math.isfinite(block.incumbent)]
    if not blocks:
        return none(_NAN, "no incumbent is stored")
    if not any(block.factor for block in blocks):
        return none(0.0, "the arms chose the same designs", 1.0)
    estimate, low, high = _newcombe(blocks, LEVEL)
    outer, inner = 1.0, 0.0
    for _ in range(40):  # the level at which the interval's end is zero
        middle = (outer + inner) / 2
        _, below, above = _newcombe(blocks, middle)
        outer, inner = (middle, inner) if below <= 0 <= above else (outer, middle)
    return Found(estimate, low, high, 1.0 if estimate == 0 else 1 - inner, "Newcombe")


def _newcombe(blocks: list[RoundPair], level: float) -> tuple[float, float, float]:
    weights = np.array([block.weight for block in blocks])
    shares = (weights / weights.sum()).tolist()
    estimate = below = above = 0.0
    for share, block in zip(shares, blocks, strict=True):
        if not block.factor:
            continue
        part = share * block.factor
        (p, low_p, high_p), (q, low_q, high_q) = (
            (h / len(own), *wilson(h, len(own), level)) for h, own in zip(block.hits, block.own, strict=True)
        )
        estimate += part * (p - q)
        below += part**2 * ((p - low_p) ** 2 + (high_q - q) ** 2)
        above += part**2 * ((high_p - p) ** 2 + (q - low_q) ** 2)
    return estimate, estimate - math.sqrt(below), estimate + math.sqrt(above)


def wells_needed(pair: Pair, difference: float, alpha: float) -> int | None:
    """Measured wells an arm on one plate that show a true difference of this size on it with 80 % power.

    Two-sided normal approximation with the spreads seen. None where the spread or the difference is unknown or zero.
    """
    (spread_0, free_0), (spread_1, free_1) = (variance(pair.own(side)) for side in (0, 1))
    spread = spread_0 + spread_1
    if min(free_0, free_1) < 1 or not abs(difference) > 0 or spread == 0 or not math.isfinite(spread) or not alpha > 0:
        return None
    z = float(scipy.special.ndtri(1 - alpha / 2) + scipy.special.ndtri(POWER))
    return max(2, math.ceil(z**2 * (spread / difference / difference)))


def rounds_needed(pair: Pair, difference: float, alpha: float, most: int = 200) -> int | None:
    """Rounds like these that show a true difference of this size between arms with 80 % power; None beyond `most`.

    By Student's t, whose spread is that of the differences seen: wells and rounds both have their part in it.
    """
    gaps = pair.gaps
    with np.errstate(over="ignore"):
        spread = float(gaps.std(ddof=1)) if len(gaps) > 1 else 0.0
    if not abs(difference) > 0 or not 0 < spread < math.inf or not alpha > 0:
        return None
    rounds = np.arange(3, most + 1)
    bar = scipy.special.stdtrit(rounds - 1, 1 - alpha / 2)
    power = scipy.stats.nct.sf(bar, rounds - 1, abs(difference) / spread * np.sqrt(rounds))
    return int(rounds[np.argmax(power >= POWER)]) if (power >= POWER).any() else None


def heterogeneity(pair: Pair) -> float:
    """p of Cochran's Q: whether the rounds' differences of means differ by more than chance; NaN with fewer than two rounds."""
    rows = []
    for block in pair.blocks:
        first, second = block.own
        if len(first) > 1 and len(second) > 1:
            error = sum(variance([side])[0] / len(side) for side in (first, second))
            rows.append((first.mean() - second.mean(), error))
    if len(rows) < 2 or not all(0 < error < math.inf for _, error in rows):
        return _NAN
    gaps, weights = np.array(rows).T[0], 1 / np.array(rows).T[1]
    q = (weights * (gaps - np.average(gaps, weights=weights)) ** 2).sum()
    return float(scipy.special.chdtrc(len(rows) - 1, q))
