"""The judge of several properties: one fitted surrogate each, and what they make of a candidate together.

A candidate is worth the hypervolume that its bounds add to what is measured and already chosen, times the chance that it keeps
every limit and can be made at all. The hypervolume is summed up along rays (`labloop.space.pareto.rays`), so that a batch is
chosen greedily over one matrix, each pick counted as measured at its bounds. Where nothing adds volume, the candidate nearest to
the front comes first. With one objective and limits the worth is the bound's gain over the median design, times the same chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from labloop.proposing.belief import Correction, Judgement, believing
from labloop.proposing.dataset import Dataset, Properties
from labloop.proposing.protocols import Belief, Posterior, Surrogate
from labloop.proposing.success import Success
from labloop.seeds import derive
from labloop.space.goal import Goal
from labloop.space.pareto import beyond, nondominated, rays, reach
from labloop.types import Array, FloatArray

RAYS = 512
STEPS = 1_024
"""Picks that are chosen one after the other at most; the rest follow by their worth alone."""
UNLIKELY = 0.05
"""Added to a chance, so that among designs that will hardly keep the limits the better ones still come first."""
LIKELY = 0.5
"""A measured design counts as one that keeps the limits from this chance on."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel(Judgement):
    """A judge of several properties. As a plain judgement it speaks of the leading objective."""

    properties: Properties
    whole: Dataset
    """All measured designs, where `data` holds those of the leading objective."""
    others: tuple[Belief, ...]
    """Of the goal's columns after the first."""
    success: Success | None = None

    @property
    def goal(self) -> Goal:
        return self.properties.goal

    def beliefs(self, X: FloatArray, *, hopeful: bool = False) -> tuple[FloatArray, FloatArray]:
        """Tell what designs X (m, d) are worth in every property: mean and std (m, k) of Y."""
        first = self.optimistic(X) if hopeful else self.belief(X)
        found = [first, *(one.belief(X) for one in self.others)]
        return np.column_stack([mean for mean, _ in found]), np.column_stack([std for _, std in found])

    def told(self, X: FloatArray, ids: tuple[str, ...]) -> dict[str, Any]:
        """Tell by design what was predicted of every property in the lab's unit, and the chance that it keeps the limits."""
        mean, std = self.beliefs(X)
        values, chance = self.goal.to_value(mean), self.chances(X, mean, std)
        return {
            one: {
                "chance": float(chance[i]),
                **{name: [float(values[i, j]), float(std[i, j])] for j, name in enumerate(self.goal.names)},
            }
            for i, one in enumerate(ids)
        }

    def chances(self, X: FloatArray, mean: FloatArray, std: FloatArray) -> FloatArray:
        """Tell the chance that designs keep every limit and can be made at all, (m,)."""
        out = self.goal.chances(mean, std)
        return out if self.success is None else out * self.success(X)

    @cached_property
    def _scale(self) -> tuple[FloatArray, FloatArray]:
        """The reference point as it is believed, and the unit of each objective, (objectives,) both."""
        return self.goal.reference(self.beliefs(self.whole.X)[0]), self.goal.scale(self.properties.Y)

    def along(self, X: FloatArray, directions: FloatArray, optimism: float) -> FloatArray:
        """Score designs X (m, d) along rays (r, objectives), (m, r): how far mean + optimism · std reaches, times the chances."""
        mean, std = self.beliefs(X)
        point, unit = self._scale
        above = (mean[:, : self.goal.m] + optimism * std[:, : self.goal.m] - point) / unit
        reached = (above[:, None, :] / directions).min(2)
        chance = (UNLIKELY + self.chances(X, mean, std))[:, None]
        return np.where(reached > 0, reached * chance, reached - (1 - chance))

    def worth(self, X: FloatArray, beta: float) -> FloatArray:
        """Give what each design X (m, d) alone adds to what is measured, (m,); only the order has a meaning."""
        view = _View(self, beta)
        return view.single(*view.bounds(X))

    def order(self, X: FloatArray, beta: float) -> tuple[Array, FloatArray]:
        """Order designs X (m, d) by what each adds to those before it; the order, and each one's own worth (m,)."""
        view = _View(self, beta)
        bounds, chance = view.bounds(X)
        worth = view.single(bounds, chance)
        if self.goal.m == 1:
            return np.argsort(-worth, kind="stable"), worth
        return view.greedy(bounds, chance, worth), worth


class _View:
    """A panel at one beta: the measured front as it is believed, in units of each objective's range."""

    def __init__(self, panel: Panel, beta: float) -> None:
        goal = panel.goal
        self.panel, self.beta, self.m = panel, beta, goal.m
        mean, std = panel.beliefs(panel.whole.X)
        good = goal.chances(mean, std) >= LIKELY
        known = mean[good] if good.any() else mean[:0]
        self.point, self.unit = goal.reference(mean), goal.scale(panel.properties.Y)
        front = (known[:, : self.m] - self.point) / self.unit
        self.front = front[nondominated(front)] if len(front) else front
        self.floor = float(np.median(known[:, 0])) if len(known) else float(np.min(mean[:, 0], initial=0.0))
        self.rays = rays(self.m, goal.weights, RAYS) if self.m > 1 else np.ones((1, 1))
        self.best = reach(self.front, self.rays).max(0, initial=0.0)

    def bounds(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give the objectives' bounds (m, objectives), in units above the reference point, and the chances (m,)."""
        mean, std = self.panel.beliefs(X, hopeful=self.beta < 0)
        chance = self.panel.chances(X, mean, std)
        bound = mean[:, : self.m] - self.beta * std[:, : self.m]
        return (bound - self.point) / self.unit, chance

    def single(self, bounds: FloatArray, chance: FloatArray) -> FloatArray:
        if self.m == 1:
            gain = bounds[:, 0] - (self.floor - self.point[0]) / self.unit[0]
            return np.where(gain > 0, gain * chance, gain - (1 - chance))
        gain = np.maximum(reach(bounds, self.rays) - self.best, 0.0).mean(1)
        return np.where(
            gain > 0, gain * chance, np.minimum(np.minimum(beyond(bounds, self.front), bounds.min(1)), 0.0) - (1 - chance)
        )

    def greedy(self, bounds: FloatArray, chance: FloatArray, worth: FloatArray) -> Array:
        """Order candidates by what each adds; once none adds anything, the next layer begins from the measured front again."""
        reached, best = reach(bounds, self.rays), self.best.copy()
        open_ = np.ones(len(bounds), dtype=bool)
        order: list[int] = []
        fresh = True
        while open_.any() and len(order) < STEPS:
            rows = np.flatnonzero(open_)
            gain = np.maximum(reached[rows] - best, 0.0).mean(1) * chance[rows]
            i = int(gain.argmax())
            if gain[i] <= 1e-12:
                if fresh:
                    break
                best, fresh = self.best.copy(), True
                continue
            order.append(int(rows[i]))
            open_[rows[i]] = fresh = False
            best = np.maximum(best, reached[rows[i]])
        rest = np.flatnonzero(open_)
        return np.concatenate([np.array(order, dtype=np.int64), rest[np.argsort(-worth[rest], kind="stable")]])


def panel(lead: Judgement, surrogate: Surrogate, data: Dataset, *, seed: int) -> Panel:
    """Join the judge of the leading objective and a surrogate fitted to each of the goal's other properties."""
    assert data.properties is not None
    goal = data.properties.goal
    parts = [(j, data.of(j)) for j in range(1, len(goal.names))]
    others = tuple(
        believing(surrogate.fit(part, seed=derive(seed, j)) if len(part) > 1 else _unknown(0.0 if j < goal.m else np.nan))
        for j, part in parts
    )
    fields: Mapping[str, Any] = {
        name: getattr(lead, name) for name in ("posterior", "data", "correction", "past", "progress", "notes")
    }
    return Panel(**fields, properties=data.properties, whole=data, others=others, success=Success.learned(data))


def panel_of(surrogate: Surrogate, data: Dataset, *, seed: int) -> Panel:
    """Fit a surrogate to every property."""
    lead = Judgement(posterior=believing(surrogate.fit(data.lead, seed=seed)), data=data.lead, correction=Correction())
    return panel(lead, surrogate, data, seed=seed)


def _unknown(value: float) -> Posterior:
    """Give the belief of a property that nobody measured, which tells no design from another."""
    return lambda X: (np.full(len(X), value), np.full(len(X), 1e-6))
