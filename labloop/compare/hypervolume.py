"""Arms of several objectives against each other: what k of an arm's wells add to the hypervolume of what was known before.

Arms may have different numbers of wells, so each is asked what any k of its wells add on average, k being the smallest arm's:
along a ray (`labloop.space.pareto.rays`) the mean of the farthest of k wells drawn without replacement has a closed form. The
p-value is of permuting wells between two arms, and corrected for the number of pairs (Holm); the intervals are percentiles over
resampled wells, which lean towards zero a little, as a resample holds fewer different wells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from labloop.compare.statistics import holm
from labloop.seeds import generator
from labloop.space.goal import Goal
from labloop.space.pareto import rays, reach, unit_volume
from labloop.types import FloatArray

DRAWS = 2_000
ROUNDING = 1e-9
"""Gains that differ by a smaller share are one gain, summed up in another order."""
RAYS = 256


@dataclass(frozen=True, kw_only=True)
class HypervolumeGain:
    """What an arm's wells add, in units of the standard deviation of each objective."""

    arm: str
    n_wells: int
    n_front: int
    """Wells of the arm on the front of all that is known."""
    gain: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class GainDifference:
    """One arm's gain less another's."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    """Corrected over pairs."""

    @property
    def decided(self) -> bool:
        return self.p_holm <= 0.05


@dataclass(frozen=True, kw_only=True)
class Fronts:
    """Arms compared by hypervolume."""

    k: int
    """Wells that each arm's gain is of."""
    arms: tuple[HypervolumeGain, ...]
    differences: tuple[GainDifference, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_fronts(
    goal: Goal, before: FloatArray, arms: Mapping[str, FloatArray], *, seed: int, draws: int = DRAWS
) -> Fronts | None:
    """Compare arms by what their wells add to what was known.

    Args:
        before: Y (n, k) of designs measured before.
        arms: Y (wells, k) of each arm; wells that break a limit, or lack an objective, add nothing.

    Returns:
        None where no arm has a well, or the goal has one objective.
    """
    arms = {name: Y for name, Y in arms.items() if len(Y)}
    if goal.m < 2 or not arms:
        return None
    every = np.concatenate([before, *arms.values()])
    point, unit = goal.reference(every), goal.scale(every)
    directions = rays(goal.m, n=RAYS)
    reached = {name: _reached(goal, Y, point, unit, directions) for name, Y in arms.items()}
    start = _reached(goal, before, point, unit, directions).max(0, initial=0.0)
    volume = unit_volume(goal.m)
    k = min(len(one) for one in reached.values())

    def gain(R: FloatArray) -> float:
        return volume * float(_farthest(np.maximum(R - start, 0.0), k).mean())  # exactly 0 where no row is beyond the start

    rng = generator(seed, "hypervolume")
    resampled = {
        name: np.array([gain(R[rng.integers(len(R), size=len(R))]) for _ in range(draws // 4)]) for name, R in reached.items()
    }
    front = {Y.tobytes() for Y in every[goal.front(every)]}
    told = tuple(
        HypervolumeGain(
            arm=name, n_wells=len(R), n_front=sum(one.tobytes() in front for one in arms[name]), gain=gain(R),
            low=float(np.quantile(resampled[name], 0.025)), high=float(np.quantile(resampled[name], 0.975)),
        ) for name, R in reached.items()
    )  # fmt: skip
    found: list[dict[str, Any]] = []
    for a, b in combinations(reached, 2):
        gap = gain(reached[a]) - gain(reached[b])
        both, n = np.concatenate([reached[a], reached[b]]), len(reached[a])
        beyond = 0
        for _ in range(draws // 4):
            order = rng.permutation(len(both))
            beyond += abs(gain(both[order[:n]]) - gain(both[order[n:]])) >= abs(gap) - 1e-12
        spread = resampled[a] - resampled[b]
        spread[np.abs(spread) <= ROUNDING * np.maximum(resampled[a], resampled[b])] = 0.0
        low, high = np.quantile(spread, [0.025, 0.975])
        p = (beyond + 1) / (draws // 4 + 1)
        found.append({"first": a, "second": b, "difference": gap, "low": float(low), "high": float(high), "p": p})
    ps = holm([one["p"] for one in found])
    differences = tuple(GainDifference(**one, p_holm=p) for one, p in zip(found, ps, strict=True))
    return Fronts(k=k, arms=told, differences=differences)


def _reached(goal: Goal, Y: FloatArray, point: FloatArray, unit: FloatArray, directions: FloatArray) -> FloatArray:
    """Reach of rows of Y (n, k) along rays, (n, r); 0 of those that break a limit or lack an objective."""
    good = np.isfinite(Y[:, : goal.m]).all(1) & goal.feasible(Y)
    found = np.zeros((len(Y), len(directions)))
    found[good] = reach((Y[good, : goal.m] - point) / unit, directions)
    return found


def _farthest(R: FloatArray, k: int) -> FloatArray:
    """Mean along each ray of the farthest of k rows of R (n, r) drawn without replacement."""
    n = len(R)
    ordered = np.sort(R, axis=0)
    if k >= n:
        return ordered[-1]  # type: ignore[no-any-return]
    # The farthest is the i-th of n in C(i-1, k-1) of the C(n, k) ways, from the last one down.
    weight = np.zeros(n)
    weight[n - 1] = k / n
    for i in range(n - 1, k - 1, -1):
        weight[i - 1] = weight[i] * (i - k + 1) / i
    return weight @ ordered  # type: ignore[no-any-return]
