"""qPO: the batch that most probably holds the best design (Fromer, Wang, Xu and Coley, "Batched Bayesian optimization by
maximizing the probability of including the optimum", JCIM 2025).

That a design is the best of all excludes every other, so the probability that a batch holds the best is the sum of its designs'
own: the n most probable ones are the best batch, and nothing has to be chosen jointly. Probabilities are shares of joint draws
from a Gaussian process.

Where this differs from the paper, and why:

 1. Draws cover the `candidates` of highest mean plus two standard deviations, not the whole library.
 2. Most candidates win no draw; those that won equally often are ordered by the chance that they exceed the draws' mean maximum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import PositiveInt
from scipy.special import ndtr
from torch import Tensor

from labloop.methods import _offer
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.search import search
from labloop.registry import plugin
from labloop.seeds import derive
from labloop.surrogates.gp import GP
from labloop.surrogates.training import torch_generator
from labloop.types import Designs, Values

if TYPE_CHECKING:
    from jaxtyping import Float

WIDTH = 2.0
"""Standard deviations above the mean by which candidates are found."""


@plugin
class QPO:
    """The n designs that are most probably the best of all, by joint draws from a Gaussian process."""

    family: ClassVar[str] = "batched campaign"
    source: ClassVar[str] = "Fromer et al., JCIM 2025"
    cost: ClassVar[str] = "one Gaussian process and joint draws"
    several_tasks: ClassVar[bool] = True
    name: ClassVar[str] = "qpo"

    candidates: PositiveInt = 1_500
    """Designs looked at each time."""
    samples: PositiveInt = 4_000
    """Joint draws of what the candidates may be worth."""
    generations: PositiveInt = 20
    """Of the search where the space cannot be listed."""
    max_points: PositiveInt = 2_000
    """Measured designs up to which the Gaussian process is exact; beyond, it is approximated (FITC)."""
    iterations: PositiveInt = 200
    """Steps of the fit or the search, at most."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer the n new designs that are most probably the best; the score is that probability.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        fitted = GP(max_points=self.max_points, iterations=self.iterations).fit(data, seed=seed)

        def upper(X: Designs) -> Values:
            mean, std = fitted.belief(X)
            return mean + WIDTH * std

        wanted = max(self.candidates, n)
        X, _ = search(data, upper, wanted, seed=derive(seed, self.name), label="qpo: candidates", generations=self.generations)
        X = X[:wanted]
        draws = fitted.draw(X, self.samples, generator=torch_generator(seed, self.name))
        p = optimal(draws)
        mean, std = fitted.belief(X)
        chance = ndtr((mean - float(draws.amax(1).mean())) / std)
        order = np.lexsort((-chance, -p))
        # A probability must not tie over hundreds of rows: the rest of the order shows as less than half a draw.
        score = p + 0.5 * chance / self.samples
        notes = {"candidates": len(X), "covered": float(p[order[:n]].sum()), **fitted.pool_notes}
        return _offer.ranked(
            data,
            X[order],
            score[order],
            upper,
            n,
            seed=derive(seed, self.name, "more"),
            proposer=self.name,
            notes=notes,
            resort=False,
        )


def optimal(draws: Float[Tensor, "n m"]) -> Values:
    """Share of n joint draws in which each design is the best; they sum to one."""
    best = draws.argmax(1).cpu().numpy()
    return np.bincount(best, minlength=draws.shape[1]) / len(best)  # type: ignore[no-any-return]
