"""The models that a judge may listen to, each with what it says of measurements that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sklearn.tree import DecisionTreeRegressor

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.odd import unit_of
from labloop.seeds import derive, generator, normal_seed
from labloop.space.design_space import DesignSpace
from labloop.surrogates import features
from labloop.surrogates.ensemble import Ensemble
from labloop.surrogates.gp import GP, FittedGP
from labloop.surrogates.ridge import Ridge
from labloop.surrogates.warp import HYPER
from labloop.types import Array, Designs, FloatArray, Others, Values

EXACT = 2_000
"""Measured designs up to which the Gaussian process is exact and the ridge is tried."""
INDUCING = 600
"""Designs that carry it where there are more than `EXACT`."""
HELD_OUT = 1_000
"""Measurements kept from it there, to judge it by."""
PARTS = 3
"""Parts of the data that are left out in turn: models see two thirds then, as many as a bootstrap sample holds."""
FEWEST = 4
"""Measurements in a part without which they are left out one by one."""
TREES = 60
TREE_ROWS = 4_000
"""Measurements that one tree sees at most."""


class Believes(Protocol):
    """A model that tells a design's own value from the noise of a reading."""

    def __call__(self, X: Designs, /) -> tuple[Values, Values]: ...


class Correlates(Protocol):
    """How far designs X (m, d) are good or bad together, (m, m), or with others (k, d), (m, k)."""

    def __call__(self, X: Designs, others: Others | None = None, /) -> FloatArray: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Member:
    """One fitted model and its predictions of measurements that it has not seen. Belief and noise are in y."""

    belief: Believes
    noise_std: float
    mean: FloatArray
    """Held-out belief about each measured design, (n,); NaN where the model has seen its measurement."""
    std: FloatArray
    """(n,)"""
    correlation: Correlates | None = None
    """How far designs are believed to be good or bad together, where the model knows it."""


Fit = Callable[[Dataset, int], Member]


def gaussian_process(data: Dataset, seed: int) -> Member:
    """Fit the Gaussian process: exact, a third left out at a time; above `EXACT` designs FITC, judged by a hold-out."""
    rng = generator(seed, "judge", "gp")
    held = np.zeros(0, dtype=np.int64)
    fitted: FittedGP
    if len(data) <= EXACT:
        some = np.arange(len(data)) if len(data) <= HYPER else _half_best(data, HYPER, rng)
        # Options of its own: the fit that the Gaussian process's proposers of a round share is never this one.
        fitted = GP(max_points=max(HYPER, 2)).fit(data if len(some) == len(data) else data.take(some), seed=derive(seed, "fit"))
        if len(some) < len(data):
            fitted = fitted.conditioned(data)
        mean, std = _from_parts(data, lambda rest: fitted.conditioned(rest).belief, rng) or fitted.left_out()
    else:
        held = np.sort(rng.permutation(len(data))[:HELD_OUT])
        rest = np.setdiff1d(np.arange(len(data)), held)
        fitted = GP(max_points=EXACT, inducing=INDUCING).fit(data.take(rest), seed=derive(seed, "fit"))
        mean, std = np.full(len(data), np.nan), np.full(len(data), np.nan)
        mean[held], std[held] = fitted.belief(data.X[held])
    return Member(belief=fitted.belief, noise_std=fitted.noise_std, mean=mean, std=std, correlation=fitted.correlation)


def ensemble(data: Dataset, seed: int, **options: object) -> Member:
    """Train the ensemble of networks; each measurement is out of the bag of about a third of them."""
    made = Ensemble(**{"members": 16, "steps": 2_000, "features": "letters", **options})  # type: ignore[arg-type]
    fitted = made.fit(data, seed=derive(seed, "judge", "ensemble"))
    mean, std = fitted.left_out()
    return Member(belief=fitted.belief, noise_std=fitted.noise_std, mean=mean, std=std)


def words(data: Dataset, seed: int) -> Member:
    """Train the ensemble on gapped words of the sequences."""
    return ensemble(data, derive(seed, "words"), features="words")


def forest(data: Dataset, seed: int) -> Member:
    """Grow a random forest (Breiman, Machine Learning 45, 2001); a measurement's twins are in a bag or out of it together.

    Where options or letters have descriptors, or sequences vectors, one grows with them and one without; the one that predicts
    better is kept.
    """
    ways = (False, True) if data.space.described or data.space.embedded else (False,)
    return max((_forest(data, seed, described=way) for way in ways), key=lambda made: _agreement(made.mean, data.y))


def _agreement(mean: FloatArray, y: FloatArray) -> float:
    known = np.isfinite(mean)
    if known.sum() < 3 or mean[known].std() == 0 or y[known].std() == 0:
        return -1.0
    return float(np.corrcoef(mean[known], y[known])[0, 1])


def _forest(data: Dataset, seed: int, *, described: bool) -> Member:
    rng = generator(seed, "judge", "forest")
    n, unit = len(data), unit_of(data.y - data.y.min())  # trees do not split variances below 2e-16
    size = min(n, TREE_ROWS)
    bags = rng.multinomial(size, np.full(n, 1 / n), size=TREES)
    twins = _branches(data.space, data.X, described)
    trees = []
    for i, bag in enumerate(bags):
        rows = np.flatnonzero(bag)
        tree = DecisionTreeRegressor(max_features=1 / 3, random_state=normal_seed(derive(seed, "judge", "tree", i)))
        X = twins[:, rows].reshape(-1, twins.shape[-1])
        y, weight = np.tile(data.y[rows] / unit, len(twins)), np.tile(bag[rows], len(twins)).astype(float)
        trees.append(tree.fit(X, y, sample_weight=weight))
    grown = _Forest(space=data.space, trees=tuple(trees), unit=unit, described=described)
    each = grown.each(data.X)
    unseen = bags == 0
    count = np.where(unseen.sum(0) > 1, unseen.sum(0), np.nan)
    mean = np.where(unseen, each, 0).sum(0) / count
    variance = np.where(unseen, (each - mean) ** 2, 0).sum(0) / (count - 1)
    # Trees differ by their leaves' noise too; what the residuals have beyond a share of that is the reading's own.
    noise = np.nanmean((data.y - mean) ** 2 - BELIEVED * variance) if np.isfinite(mean).any() else data.y.var()
    noise = max(noise, 0.05 * float(data.y.var()))
    return Member(
        belief=grown.belief, noise_std=max(float(np.sqrt(noise)), 1e-6 * unit), mean=mean, std=np.sqrt(BELIEVED * variance)
    )


def _branches(space: DesignSpace, X: FloatArray, described: bool) -> Array:
    """What trees split on: all twins of X (m, d) with what descriptors say of them, (g, m, …) float32."""
    twins = space.orbit(X)
    told = [twins, features.described(space, twins)] if described else [twins]
    return np.concatenate(told, axis=-1).astype(np.float32)


BELIEVED = 0.5
"""Share of the variance between trees that is doubt about the design's value."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Forest:
    space: DesignSpace
    trees: tuple[DecisionTreeRegressor, ...]
    unit: float
    """Of what the trees say, in y."""
    described: bool = False

    def each(self, X: FloatArray) -> FloatArray:
        """Predict by every tree, averaged over twins, (trees, m)."""
        twins = _branches(self.space, X, self.described)
        # The trees themselves: what scikit-learn checks of each call costs several times what they do.
        each = np.stack([np.mean([tree.tree_.predict(twin)[:, 0] for twin in twins], axis=0) for tree in self.trees])
        return self.unit * each  # type: ignore[no-any-return]

    def belief(self, X: Designs) -> tuple[Values, Values]:
        each = self.each(X) if len(X) else np.zeros((2, 0))
        return each.mean(0), np.sqrt(BELIEVED * each.var(0, ddof=1))


def pairwise(data: Dataset, seed: int) -> Member:
    """Fit the ridge on sites and pairs of sites, and to the rest of the data for each third.

    Raises:
        MethodError: there are more than `EXACT` designs.
    """
    if len(data) > EXACT:
        raise MethodError(f"the judge's ridge takes up to {EXACT} designs, not {len(data)}")
    fitted = Ridge.fit(data)
    mean, std = _from_parts(data, lambda rest: Ridge.fit(rest).belief, generator(seed, "judge", "pairwise")) or fitted.left_out
    return Member(belief=fitted.belief, noise_std=fitted.noise_std, mean=mean, std=std)


def _from_parts(
    data: Dataset, fit: Callable[[Dataset], Believes], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray] | None:  # fmt: skip
    """Believe each design by what a fit to the other parts of the data says: mean (n,) and std (n,) in y; None of too few."""
    if len(data) < PARTS * FEWEST:
        return None
    part = rng.permutation(len(data)) % PARTS
    mean, std = np.zeros(len(data)), np.zeros(len(data))
    for one in range(PARTS):
        mean[part == one], std[part == one] = fit(data.take(np.flatnonzero(part != one)))(data.X[part == one])
    return mean, std


def _half_best(data: Dataset, n: int, rng: np.random.Generator) -> Array:
    """Take n rows: half of them the best by y, the others drawn from the rest."""
    top = data.top(n // 2)
    rest = rng.permutation(np.setdiff1d(np.arange(len(data)), top))[: n - len(top)]
    return np.sort(np.concatenate([top, rest]))


MEMBERS: dict[str, Fit] = {
    "gp": gaussian_process, "ensemble": ensemble, "words": words, "forest": forest, "pairwise": pairwise,
}  # fmt: skip
