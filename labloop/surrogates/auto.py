"""A judge chosen by evidence: several kinds of model, weighed by what each says of measurements that it has not seen.

1. Every member is fitted to all measurements and predicts each of them without having seen it, from about two thirds of the
   others: ensembles and forest out of the bag, the Gaussian process and the ridge from parts of the data, as who had seen all
   others would look better for that alone.
2. The belief's mean is the weighted mean of the members'. Weights begin at a guess, most of it for the two that know how to go
   on beyond the best measured, each in its own way, and go with a power of what each explains of held-out measurements'
   variance over what it leaves, each one's predictions put on one scale before: else whoever shrinks towards the mean gains by
   its scale, which ranks nothing. By the inverse of what it leaves alone (Bates and Granger, Operational Research Quarterly 20,
   1969), who explains a tenth and who explains a fiftieth of noisy measurements are nearly equal, while both spread what they
   expect of unseen designs as widely. How members err together is left out: nearly equal ones leave that to chance, which then
   gives one of them everything (Smith and Wallis, Oxford Bulletin 71, 2009). Of few measurements the power is lower. Plates
   that came back are measurements like others, and soon most of the good ones.
3. Where the logarithm of the measurements predicts far better than they themselves, all members see that
   (`labloop.surrogates.warp`), and what they believe is told in y again.
4. The belief's variance is the weighted mean of the members' variances and of their squared distances from the mean: where
   members disagree, nobody knows. One factor, from held-out errors, then sets the width.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.registry import plugin
from labloop.seeds import derive
from labloop.surrogates._members import MEMBERS, Member
from labloop.surrogates._related import TaskEvidence
from labloop.surrogates.kernel_networks import worth_trying
from labloop.surrogates.lending import Lending
from labloop.surrogates.warp import Warp, chosen
from labloop.types import Designs, FloatArray, Others, Values

log = logging.getLogger("labloop")

Name = Literal["gp", "ensemble", "words", "forest", "pairwise"]
GUESS: Mapping[str, float] = {"gp": 0.4, "ensemble": 0.4, "forest": 0.1, "words": 0.05, "pairwise": 0.05}
"""Weights before any evidence. A forest expects nothing beyond the best measured; words and pairs the Gaussian process knows."""
POWER = 3.0
"""Of explained over unexplained variance."""
CHANCE = 16.0
"""Squared correlation, times the measurements, that every member is given: four standard errors of none, so that of few noisy
measurements, where who explains more is a matter of chance, little follows."""
PRIOR = 20
"""Measurements of which the power is half of that."""
FARTHEST = 3.0
"""Standard deviations of the measurements that a member may expect beyond the highest and lowest of them, at most: a polynomial
far from its data answers with any number, and a trend of numbers goes straight on into corners. Without numbers the Gaussian
process alone may expect more, by the logarithm of what it is beyond: after a start of bad designs all that are worth a well are
there, and would be alike."""
LOWEST = 0.05
"""What the worst measurement counts for, the best counting one."""
WIDTHS = (0.5, 2.0)
"""Bounds of the factor on std: few measurements must not decide that nothing is known, or everything."""
FEWEST = 8
"""Held-out predictions without which the first member judges alone."""
SLIGHT = 0.05
"""A member of less weight is not asked again."""


@plugin
class Auto:
    """Gaussian process, networks and forest, weighed by how well each predicts measurements that it has not seen."""

    members: tuple[Name, ...] = Field(default=("gp", "ensemble", "forest"), min_length=1)
    """Kinds of model to listen to; those that cannot work on the data are left out. There are `words`, networks on gapped words,
    and `pairwise`, a ridge on pairs of letters, too: what they know the Gaussian process knows, and plates are no better."""
    warp: bool = True
    """See the logarithm of the measurements where that predicts far better."""
    several: bool = False
    """Whether y is one of several properties, which labloop says by itself. Designs are then chosen over joint draws, which only
    the Gaussian process can make: of numbers another member, whose doubt is wide at measured designs too, is heard only where
    held-out measurements raised its weight. Nor do few of them narrow the doubt, by which further compromises are found."""

    def of_several(self) -> Self:
        """Give the judge of one of several properties."""
        return replace(self, several=True)

    def lent(self, data: Dataset) -> Dataset:
        """Give the dataset for methods that know one task only: with what helpful campaigns of its history let expect."""
        found = Lending.of(data)
        return found.lent() if found is not None and found.helps else replace(data, history=())

    def fit(self, data: Dataset, *, seed: int) -> Stacked:
        """Fit every member and weigh them.

        Raises:
            MethodError: fewer than two designs are measured, or no member can work on them.
        """
        if len(data) < 2:
            raise MethodError(f"the judge needs at least 2 measured designs, not {len(data)}: measure a first plate")
        fitted: dict[str, Member] = {}
        told = Lending.of(data)
        lent = told if told is not None and told.helps else None
        # What other campaigns measured is on their scale, so with their help the measurements are seen as they are.
        warp = chosen(data, seed=derive(seed, "auto", "warp")) if self.warp and lent is None else Warp()
        data = warp.seen(data)
        guess = guessed(self.members, data.space.share_of_numbers)
        for name in guess:
            if name == "words" and not ("sequence" in data.space.kinds and worth_trying(data)):
                continue
            try:
                own = derive(seed, "auto", name)  # the Gaussian process knows several tasks by itself
                fitted[name] = MEMBERS[name](data, own) if lent is None or name == "gp" else lent.member(MEMBERS[name], own)
            except MethodError as error:
                log.warning("judge: goes on without %s: %s", name, error)
        if not fitted:
            raise MethodError(f"none of the judge's members ({', '.join(self.members)}) can work on these data")
        found = stacked(fitted, data.y, guess, warp, several=self.several, numbers=data.space.share_of_numbers)
        return replace(found, history=() if told is None else told.fitted.history)


@dataclass(frozen=True, eq=False, kw_only=True)
class Stacked:
    """The weighed members as one belief."""

    members: Mapping[str, Member]
    """Those that have weight."""
    weights: Mapping[str, float]
    width: float
    """Factor on every std."""
    most: float
    """A member's std at most: nobody is less sure of a design than the measurements are spread."""
    range: tuple[float, float]
    """Within which a member's mean is held."""
    slowed: tuple[str, ...] = ()
    """Members that are not held there: beyond, their mean counts for less and less, and keeps its order."""
    notes: Mapping[str, Any]
    skill: float = 0.0
    """Correlation of the members' predictions with held-out measurements, by weight; 0 of too few."""
    beyond_chance: float = 0.0
    """The same in standard errors of none."""
    history: tuple[TaskEvidence, ...] = ()
    """What was found of other campaigns."""
    warp: Warp = field(default_factory=Warp)
    """What members see of y; weights, width and most are on its scale."""

    @property
    def noise_std(self) -> float:
        """Standard deviation of one reading about its design's value, in y; at the best measured, where it grows with y."""
        square = sum(self.weights[name] * member.noise_std**2 for name, member in self.members.items())
        best = np.array([self.warp.best])
        return float(self.warp.spread(self.warp(best), self.width * np.sqrt([square]))[0])

    def __call__(self, X: Designs) -> tuple[Values, Values]:
        """Predict a reading of each design X (m, d): mean (m,) and std (m,) of y."""
        mean, std = self.belief(X)
        return mean, np.hypot(std, self.noise_std)

    def belief(self, X: Designs) -> tuple[Values, Values]:
        """Tell what each design X (m, d) is worth without noise: mean (m,) and std (m,) of y."""
        capped = []
        for name, member in self.members.items():
            mean, std = member.belief(X)
            mean = _slow(mean, *self.range, self.most) if name in self.slowed else np.clip(mean, *self.range)
            capped.append((mean, np.minimum(std, self.most)))
        mean, std = mixture(capped, np.array([self.weights[name] for name in self.members]))
        return self.warp.back(mean), self.warp.spread(mean, self.width * std)

    def correlation(self, X: Designs, others: Others | None = None) -> FloatArray | None:
        """Tell how far designs X (m, d) are believed to be good or bad together, (m, m), or with others (k, d), (m, k).

        None where no member can say.
        """
        for member in self.members.values():
            if member.correlation is not None:
                return member.correlation(X, others)
        return None


def stacked(
    members: Mapping[str, Member], y: FloatArray, guess: Mapping[str, float], warp: Warp | None = None, *,
    several: bool = False, numbers: float = 0.0,
) -> Stacked:  # fmt: skip
    """Weigh fitted members by their held-out predictions of y (n,), which is what a warp has made of it, from a guess by name.

    Args:
        several: y is one of several properties; see `Auto.several`.
        numbers: share of the sites that are numbers.
    """
    warp = warp or Warp()
    names = list(members)
    means = np.stack([members[name].mean for name in names])
    stds = np.minimum(np.stack([members[name].std for name in names]), y.std())
    known = np.isfinite(means).all(0) & np.isfinite(stds).all(0)
    if known.sum() < FEWEST or y[known].std() == 0:
        weights, told_by, width = np.eye(len(names))[0], np.full(len(names), np.nan), 1.0
    else:
        worth = importance(y[known])
        weights, told_by = weigh(means[:, known], y[known], np.array([guess[name] for name in names]))
        noise = sum(w * members[name].noise_std ** 2 for w, name in zip(weights, names, strict=True))
        mean, std = mixture(list(zip(means[:, known], stds[:, known], strict=True)), weights)
        agreeing = PRIOR if several else 0  # imaginary measurements, as doubt is what finds the second compromise
        square = float((worth @ ((y[known] - mean) ** 2 / (std**2 + noise)) + agreeing) / (worth.sum() + agreeing))
        width = float(np.clip(np.sqrt(square), *WIDTHS))
    kept = weights >= SLIGHT
    if several:
        before = np.array([guess[name] for name in names])
        joint = np.array([members[name].correlation is not None for name in names])
        heard = kept & (joint | (weights >= numbers * before / before.sum()))
        kept = heard if heard.any() else kept
    weights = np.where(kept, weights, 0.0) / weights[kept].sum()
    skill = 0.0 if np.isnan(told_by).any() else float(weights @ told_by)
    beyond = skill * float(np.sqrt(known.sum()))
    told = {name: round(float(w), 4) for name, w in zip(names, weights, strict=True)}
    notes = {
        "weights": told, "held_out": int(known.sum()), "width": round(width, 4), "beyond_chance": round(beyond, 2),
        "held_out_correlation": {name: round(float(r), 4) for name, r in zip(names, told_by, strict=True) if np.isfinite(r)},
        **({} if warp.floor is None else {"log_floor": warp.floor}),
    }  # fmt: skip
    log.info("judge: weights %s from %d held-out measurements", told, known.sum())
    return Stacked(
        members={name: members[name] for name, keep in zip(names, kept, strict=True) if keep},
        weights={name: float(w) for name, w, keep in zip(names, weights, kept, strict=True) if keep}, width=width, notes=notes,
        skill=skill, beyond_chance=beyond,
        slowed=() if numbers else ("gp",), most=float(y.std()) or 1.0,
        range=(float(y.min() - FARTHEST * y.std()), float(y.max() + FARTHEST * y.std())), warp=warp,
    )  # fmt: skip


def _slow(mean: Values, low: float, high: float, scale: float) -> Values:
    """Let each mean (m,) below low or above high go on by the logarithm of what it is beyond, in units of scale."""
    beyond = np.log1p(np.maximum(mean - high, 0.0) / scale) - np.log1p(np.maximum(low - mean, 0.0) / scale)
    return np.clip(mean, low, high) + scale * beyond


def guessed(members: Sequence[str], numbers: float) -> dict[str, float]:
    """Give members that are worth asking their weights before any evidence.

    Args:
        numbers: share of the sites that are numbers, of which networks are not asked: they go straight on into corners.
    """
    weights = {name: GUESS[name] * (1 - numbers if name == "ensemble" else 1.0) for name in members}
    return {name: weight for name, weight in weights.items() if weight > 0} or dict.fromkeys(members, 1.0)


def importance(y: FloatArray) -> FloatArray:
    """Say what each measurement (n,) counts for in the width: its rank, from `LOWEST` for the worst to one for the best."""
    rank = np.argsort(np.argsort(y, kind="stable"), kind="stable") / max(len(y) - 1, 1)
    return LOWEST + (1 - LOWEST) * rank


def weigh(means: FloatArray, y: FloatArray, guess: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Find the weights (k,) of members by their held-out means (k, n) of y (n,), from what is guessed before (k,).

    Returns:
        The weights, and the correlation of each member's own predictions with y, (k,).
    """
    spread = means.std(axis=1)
    scaled = (means - means.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, np.inf)[:, None]
    correlation = scaled @ (y - y.mean()) / (len(y) * y.std())
    explained = np.clip(correlation, 0, 1 - 1e-6) ** 2  # by the best line through its predictions
    weights = guess * ((explained + CHANCE / len(y)) / (1 - explained)) ** (POWER * len(y) / (len(y) + PRIOR))
    if (correlation > 0).any():  # who predicts no better than chance is not heard beside one who does
        weights = np.where(correlation > 0, weights, 0.0)
    return weights / weights.sum(), correlation


def mixture(found: list[tuple[FloatArray, FloatArray]], weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give mean (m,) and std (m,) of a mixture of normals, each a mean (m,) and std (m,)."""
    means, stds = (np.stack(part) for part in zip(*found, strict=True))
    mean = weights @ means
    return mean, np.sqrt(weights @ (stds**2 + (means - mean) ** 2))
