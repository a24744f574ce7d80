"""The judge of several properties: one fitted surrogate each, and what they make of a candidate together.

A candidate is worth the hypervolume that it is expected to add to what is measured, times the chance that it keeps every limit
and can be made at all. The hypervolume is summed up along rays (`labloop.space.pareto.rays`), so that the gain of one design is
an integral over normals, and that of a batch, over one joint draw of all candidates, is chosen greedily over one matrix (Daulton
et al., NeurIPS 2021, with rays of Zhang and Golovin, ICML 2020). Candidates are looked for by kinds of compromise, each of which
keeps its own best. With one objective and limits the gain is that over the best known to keep them.

In the joint draw a design that is picked keeps the limits in some draws and breaks them in others: those behind it have it to
beat only where it keeps them. What no draw can see ranks below every gain: by the chance, how near the limits are, and what is
lacking of the front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from labloop.proposing.belief import Correction, Judgement, believing, fitted
from labloop.proposing.dataset import Dataset, Properties
from labloop.proposing.protocols import Belief, Posterior, Surrogate
from labloop.proposing.refine import best_first
from labloop.proposing.search import apart
from labloop.proposing.success import Success
from labloop.seeds import derive, generator
from labloop.space.goal import Goal
from labloop.space.pareto import beyond, expected_reach, nondominated, rays, reach
from labloop.types import Array, ByProperty, Designs, FloatArray, Values

RAYS = 64
"""Along which the gain of a single design is summed up."""
NICHES = 8
"""Kinds of compromise that the best are looked for apart."""
JOINT = 384
"""Candidates that are ordered over one joint draw; the rest follow by their own gains."""
SAMPLES = 256
RAYS_EACH = 8
"""Rays a sample."""
CHUNK = 2_048
"""Designs whose gains are worked out at once."""
THIN = 0.4
"""Candidates nearer to a better one than this share of the least distance of two picks are not drawn."""
WIDE = 0.1
"""Distance of those that lie well apart, in ranges, times the root of how many columns there are."""
UNLIKELY = 0.05
"""Added to a chance, so that among designs that will hardly keep the limits the better ones still come first."""
LIKELY = 0.5
"""A measured design counts as one that keeps the limits from this chance on."""
UNSEEN = 1e-6
"""Expected gain, in spreads to the power of how many are improved, that is none where limits are in doubt."""
TINY = 1e-300
"""A chance of less is told by how far beyond the limits a design is believed to be."""


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

    def beliefs(self, X: Designs, *, hopeful: bool = False) -> tuple[ByProperty, ByProperty]:
        """Tell what designs X (m, d) are worth in every property: mean and std (m, k) of Y."""
        first = self.optimistic(X) if hopeful else self.belief(X)
        found = [first, *(one.belief(X) for one in self.others)]
        return np.column_stack([mean for mean, _ in found]), np.column_stack([std for _, std in found])

    def told(self, X: Designs, ids: tuple[str, ...]) -> dict[str, Any]:
        """Tell by design what was predicted of every property in the lab's unit, and the chance that it keeps the limits.

        NaN of properties that nobody measured, and of a chance that one of them has a part in.
        """
        mean, std = self.beliefs(X)
        chance = self.chances(X, mean, std) if self.properties.limits_judged else np.full(len(X), np.nan)
        values, std = (np.where(self.properties.judged, one, np.nan) for one in (self.goal.to_value(mean), std))
        return {
            one: {
                "chance": float(chance[i]),
                **{name: [float(values[i, j]), float(std[i, j])] for j, name in enumerate(self.goal.names)},
            }
            for i, one in enumerate(ids)
        }

    def chances(self, X: Designs, mean: ByProperty, std: ByProperty) -> Values:
        """Tell the chance that designs keep every limit and can be made at all, (m,); what nobody measured counts as kept."""
        out = self.within(mean, std)
        return out if self.success is None else out * self.success(X)

    def within(self, mean: ByProperty, std: ByProperty) -> Values:
        """Tell the chance that designs of such mean and std (m, k) keep every limit, (m,)."""
        return self.goal.chances(np.where(self.properties.judged, mean, np.nan), std)

    def likelihood(self, X: Designs, chance: Values) -> Values:
        """Give the logarithm of chances (m,), and of those that are next to none how far beyond the limits designs X (m, d) are
        believed to be, (m,): larger is better, 0 where nothing is in doubt.

        How far is in spreads of what was measured, summed up over limits.
        """
        out, hopeless = np.log(np.maximum(chance, TINY)), chance <= TINY
        if not hopeless.any():
            return out  # type: ignore[no-any-return]
        limited = self.goal.limited & self.properties.judged
        low, high = self.goal.bounds[:, limited]
        mean, spread = self.beliefs(X[hopeless])[0][:, limited], np.nanstd(self.properties.Y[:, limited], axis=0)
        over = np.maximum(np.maximum(low - mean, mean - high), 0.0) / np.where(spread > 0, spread, 1.0)
        out[hopeless] -= over.sum(1)
        return out  # type: ignore[no-any-return]

    @cached_property
    def _scale(self) -> tuple[FloatArray, FloatArray]:
        """The reference point as it is believed, and the unit of each objective, (objectives,) both."""
        return self.goal.reference(self.beliefs(self.whole.X)[0]), self.goal.scale(self.properties.Y)

    def along(self, X: Designs, directions: FloatArray, optimism: float) -> FloatArray:
        """Score designs X (m, d) along rays (r, objectives), (m, r): how far mean + optimism · std reaches, times the chances.

        Those that hardly keep the limits come behind all others, as in `View.gains`.
        """
        mean, std = self.beliefs(X)
        point, unit = self._scale
        above = (mean[:, : self.goal.m] + optimism * std[:, : self.goal.m] - point) / unit
        reached = (above[:, None, :] / directions).min(2)
        chance = self.chances(X, mean, std)
        more, rank = (UNLIKELY + chance)[:, None], self.likelihood(X, chance)[:, None]
        hopeful = (reached > 0) & (chance * SAMPLES >= 1)[:, None]
        return np.where(hopeful, reached * more, np.minimum(reached, 0.0) - (1 - more) + rank)

    def worth(self, X: Designs, beta: float) -> Values:
        """Give what each design X (m, d) alone adds to what is measured, (m,); only the order has a meaning."""
        return self.at(beta).gains(X).max(1)  # type: ignore[no-any-return]

    def at(self, beta: float) -> View:
        """Look at designs with so much caution."""
        return View(self, beta)


class View:
    """A panel at one beta: the measured front as it is believed, in units of each objective's spread."""

    def __init__(self, panel: Panel, beta: float) -> None:
        goal = panel.goal
        self.panel, self.beta, self.m = panel, beta, goal.m
        mean, std = panel.beliefs(panel.whole.X)
        good = panel.within(mean, std) >= LIKELY
        known = mean[good] if good.any() else mean[:0]
        self.point, self.unit = goal.reference(mean), goal.scale(panel.properties.Y)
        front = (known[:, : self.m] - self.point) / self.unit
        self.front = front[nondominated(front)] if len(front) else front
        self.rays = rays(self.m, goal.weights, RAYS) if self.m > 1 else np.ones((1, 1))
        self.best = reach(self.front, self.rays).max(0, initial=0.0)
        self.niche = self.rays @ rays(self.m, goal.weights, NICHES).T if self.m > 1 else np.ones((1, 1))

    def _believed(self, X: Designs) -> tuple[ByProperty, ByProperty]:
        return self.panel.beliefs(X, hopeful=self.beta < 0)

    def bounds(self, X: Designs) -> tuple[ByProperty, ByProperty, Values]:
        """Give the objectives' bounds and what doubt is left beside them, both (m, objectives) in units, and the chances (m,).

        Caution takes the doubt: at a beta of one or more the bound is all there is, at zero and below all doubt is left.
        """
        mean, std = self._believed(X)
        chance = self.panel.chances(X, mean, std)
        mean, std = mean[:, : self.m], std[:, : self.m]
        doubt = std * float(np.clip(1 - self.beta, 0.0, 1.0))
        return (mean - self.beta * std - self.point) / self.unit, doubt / self.unit, chance

    def gains(self, X: Designs) -> ByProperty:
        """Give what each design X (m, d) alone is expected to add for each kind of compromise, times its chance; (m, niches).

        Only the order has a meaning.
        """
        bound, doubt, chance = self.bounds(X)
        of = self.niche.argmax(1)
        found = np.concatenate([self._along(bound[i : i + CHUNK], doubt[i : i + CHUNK]) for i in range(0, max(len(X), 1), CHUNK)])
        kept = [found[:, of == j].mean(1) for j in range(self.niche.shape[1]) if (of == j).any()]
        gain = np.column_stack(kept)
        short = np.minimum(np.minimum(beyond(bound, self.front), bound.min(1)), 0.0) + self.panel.likelihood(X, chance)
        return np.where(seen(gain, chance[:, None]), gain * chance[:, None], short[:, None])

    def _along(self, bound: FloatArray, doubt: FloatArray) -> FloatArray:
        return expected_reach(bound, doubt, self.best, self.rays)

    def order(self, X: Designs, *, least: float, seed: int) -> Array:
        """Order candidates X (m, d) by what each is expected to add to those before it, over one joint draw; the rest by gains.

        Of designs nearer to each other than `least` only the first stands among those before the rest.
        """
        gains, space = self.gains(X), self.panel.whole.space
        ranked = best_first(gains)
        near = apart(space, X[ranked], THIN * least, JOINT)
        if least > 0:  # many of the best are one design to a batch: half of the candidates lie well apart
            wide = apart(space, X[ranked], WIDE * np.sqrt(space.d), JOINT // 2)
            near = np.concatenate([wide, np.setdiff1d(near, wide)])[:JOINT]
        front = ranked[np.sort(near)]
        bound, doubt, chance = self.bounds(X[front])
        drawn = [bound[:, j] + doubt[:, j] * self._normals(X[front], j, seed) for j in range(self.m)]
        directions, known = self._directions(seed)
        reached = np.full((SAMPLES, directions.shape[1], len(front)), np.inf)
        for j in range(self.m):
            np.minimum(reached, drawn[j][:, None, :] / directions[:, :, j, None], out=reached)
        above = (np.maximum(reached, 0.0) ** self.m).reshape(len(known), len(front))
        kept = np.repeat(self._kept(X[front], seed), directions.shape[1], axis=0)
        best, open_, alone = known, np.ones(len(front), dtype=bool), gains[front].max(1)
        order: list[int] = []
        while open_.any():
            rows = np.flatnonzero(open_)
            gain = np.maximum(above[:, rows] - best[:, None], 0.0).mean(0)
            added = np.where(seen(gain, chance[rows]), gain * chance[rows], 0.0)
            i = int(rows[np.lexsort((-alone[rows], -added))[0]])
            order.append(i)
            open_[i] = False
            if least > 0:
                open_ &= space.distance(X[front], X[front[i : i + 1]])[:, 0] >= least - 1e-9
            best = best + np.maximum(above[:, i] - best, 0.0) * kept[:, i]
        return np.concatenate([front[order], ranked[~np.isin(ranked, front[order])]])

    def _directions(self, seed: int) -> tuple[FloatArray, FloatArray]:
        """Give each sample rays of its own, (SAMPLES, rays, objectives), and how far the front reaches, (SAMPLES · rays,)."""
        if self.m == 1:
            return np.ones((SAMPLES, 1, 1)), np.full(SAMPLES, self.best[0])
        n = SAMPLES * RAYS_EACH
        every = rays(self.m, self.panel.goal.weights, n)[generator(seed, "panel", "rays").permutation(n)]
        return every.reshape(SAMPLES, RAYS_EACH, self.m), reach(self.front, every).max(0, initial=0.0)

    def _kept(self, X: Designs, seed: int) -> Array:
        """Draw whether candidates X (m, d) keep every limit and can be made at all, (SAMPLES, m): near ones together."""
        goal, made, kept = self.panel.goal, self.panel.success, np.ones((SAMPLES, len(X)), dtype=bool)
        if (limited := goal.limited & self.panel.properties.judged).any():
            mean, std = self._believed(X)
            for j in np.flatnonzero(limited).tolist():
                drawn = mean[:, j] + std[:, j] * self._normals(X, j, seed)
                kept &= (goal.bounds[0, j] <= drawn) & (drawn <= goal.bounds[1, j])
        return kept if made is None else kept & (generator(seed, "panel", "made").random(kept.shape) < made(X))

    def _normals(self, X: Designs, j: int, seed: int) -> FloatArray:
        """Draw standard normals of candidates X (m, d) in a property, (SAMPLES, m): together where a judge can say what goes
        together."""
        normal = generator(seed, "panel", "draw", j).standard_normal((SAMPLES // 2, len(X)))
        known = getattr(self.panel.others[j - 1], "correlation", None) if j else self.panel.correlation
        alike = None if known is None else known(X)
        if alike is not None:
            values, vectors = np.linalg.eigh(alike)
            normal = normal @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        return np.concatenate([normal, -normal])


def seen(gain: FloatArray, chance: FloatArray) -> Array:
    """Say which gains, times their chances of the limits, a joint draw can see, of any shapes that go together: what keeps the
    limits in no draw adds nothing.

    Where nothing is in doubt every gain above zero is seen.
    """
    return (chance * SAMPLES >= 1) & (gain * chance > UNSEEN * (1 - chance))  # type: ignore[no-any-return]


def panel(lead: Judgement, surrogate: Surrogate, data: Dataset, *, seed: int) -> Panel:
    """Join the judge of the leading objective and a surrogate fitted to each of the goal's other properties."""
    assert data.properties is not None
    goal, known = data.properties.goal, data.properties.judged

    def judged(j: int, part: Dataset) -> Belief:
        if not known[j]:
            return believing(_unknown(0.0 if j < goal.m else np.nan))
        name = f"{lead.notes.get('judge', type(surrogate).__name__)} of {goal.names[j]}"
        posterior = fitted(surrogate, part, seed=derive(seed, j), name=name)
        return Judgement(posterior=posterior, data=part, notes={"judge": name})

    others = tuple(judged(j, data.of(j)) for j in range(1, len(goal.names)))
    fields: Mapping[str, Any] = {
        name: getattr(lead, name) for name in ("posterior", "data", "correction", "past", "progress", "notes")
    }
    if related := [one.notes() for other in others for one in getattr(getattr(other, "posterior", None), "history", ())]:
        fields = {**fields, "notes": {**lead.notes, "history": [*lead.notes.get("history", ()), *related]}}
    return Panel(**fields, properties=data.properties, whole=data, others=others, success=Success.learned(data))


def of_several(surrogate: Surrogate) -> Surrogate:
    """Give the surrogate as it judges one of several properties, where it has an own way of that."""
    return surrogate.of_several() if hasattr(surrogate, "of_several") else surrogate  # type: ignore[no-any-return]


def panel_of(surrogate: Surrogate, data: Dataset, *, seed: int) -> Panel:
    """Fit a surrogate to every property."""
    surrogate = of_several(surrogate)
    lead = Judgement(posterior=fitted(surrogate, data.lead, seed=seed), data=data.lead, correction=Correction())
    return panel(lead, surrogate, data, seed=seed)


def _unknown(value: float) -> Posterior:
    """Give the belief of a property that nobody measured, which tells no design from another."""
    return lambda X: (np.full(len(X), value), np.full(len(X), 1e-6))
