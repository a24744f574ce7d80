"""The mean of a Gaussian process, best first: the plainest use of a model, and a hard baseline to beat."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt

from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.search import search
from labloop.registry import plugin
from labloop.surrogates.gp import GP


@plugin
class GPMean:
    """Posterior mean of an exact Gaussian process, top n over the whole space, by evolutionary search where it is too large."""

    family: ClassVar[str] = "Bayesian"
    source: ClassVar[str] = "Rasmussen and Williams, 2006"
    cost: ClassVar[str] = "one Gaussian process"
    several_tasks: ClassVar[bool] = True

    deterministic: ClassVar[bool] = True

    max_points: PositiveInt = 2_000
    """Up to so many designs the Gaussian process is exact."""
    iterations: PositiveInt = 200
    """Most iterations of its fit."""
    generations: PositiveInt = 40
    """Generations of the search where the space cannot be listed."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer the n new designs of the highest posterior mean; the score is that mean, in y."""
        fitted = GP(max_points=self.max_points, iterations=self.iterations).fit(data, seed=seed)
        X, mean = search(
            data, lambda X: fitted.belief(X)[0], n, seed=seed, label="gp_mean", generations=self.generations, spaced=True
        )
        return Pool.best(data, X, mean, n, proposer="gp_mean", notes=fitted.pool_notes)
