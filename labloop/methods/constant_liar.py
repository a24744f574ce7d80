"""The constant liar: a batch chosen one after the other, each taken as measured at a made-up value (Ginsbourger, Le Riche and
Carraro, "Kriging is well-suited to parallelize optimization", 2010); FolDE chooses its protein batches so.

The design of highest mean is taken, its value is claimed to be a constant below what is believed, the posterior learns that, and
so on: what is much like a chosen design is believed less of, and the batch spreads without a distance having to be set.

Where this differs, and why:

 1. FolDE's settings could not be read, hence no `paper()`. The claim here is the largest value that is measured (`lie="max"`);
    the mean and the least (`mean`, `min`) spread more.
 2. The belief is a Gaussian process, whose update by a claim is exact and closed; FolDE trains networks.
 3. The batch comes from the `candidates` of highest mean.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from labloop.methods import _offer
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.search import search
from labloop.registry import plugin
from labloop.seeds import derive
from labloop.surrogates.gp import GP
from labloop.types import Array, FloatArray


@plugin
class ConstantLiar:
    """The highest mean of a Gaussian process, one well after the other, each claimed to have been a disappointment."""

    family: ClassVar[str] = "batched campaign"
    source: ClassVar[str] = "Ginsbourger et al., 2010; FolDE"
    cost: ClassVar[str] = "one Gaussian process"
    several_tasks: ClassVar[bool] = True
    name: ClassVar[str] = "constant_liar"
    deterministic: ClassVar[bool] = True

    lie: Literal["min", "mean", "max"] = "max"
    """The value that a design already chosen is taken to have: the least, the mean or the greatest measured."""
    candidates: PositiveInt = 1_500
    """Designs looked at each time."""
    generations: PositiveInt = 20
    """Of the search where the space cannot be listed."""
    max_points: PositiveInt = 2_000
    """Measured designs up to which the Gaussian process is exact; beyond, it is approximated (FITC)."""
    iterations: PositiveInt = 200
    """Steps of the fit or the search, at most."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer a batch of n in the order of choice; the score is the mean believed when it was chosen, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        fitted = GP(max_points=self.max_points, iterations=self.iterations).fit(data, seed=seed)

        def mean_of(X: FloatArray) -> FloatArray:
            return fitted.belief(X)[0]

        wanted = max(self.candidates, 2 * n)
        X, _ = search(data, mean_of, wanted, seed=derive(seed, self.name), label="liar: candidates", generations=self.generations)
        X = X[:wanted]
        centre, covariance = (part.cpu().numpy() for part in fitted.joint(X))
        claim = {"min": data.y.min(), "mean": data.y.mean(), "max": data.y.max()}[self.lie]
        noise = (fitted.noise_std / fitted.scale) ** 2
        chosen, values = liar(centre, covariance, (float(claim) - fitted.shift) / fitted.scale, noise, min(n, len(X)))
        values = np.minimum.accumulate(fitted.shift + fitted.scale * values)
        return _offer.ranked(
            data, X[chosen], values, mean_of, n, seed=derive(seed, self.name, "more"), proposer=self.name,
            notes=fitted.pool_notes, resort=False,
        )  # fmt: skip


def liar(mean: FloatArray, covariance: FloatArray, claim: float, noise: float, n: int) -> tuple[Array, FloatArray]:
    """Choose n of m designs, each of highest mean after those before it were "measured" as `claim`.

    Args:
        mean: (m,), with covariance (m, m) of the belief without noise; noise: variance of a reading.

    Returns:
        The rows (n,) and the mean of each when it was chosen (n,).
    """
    mean, C, open_ = mean.copy(), covariance.copy(), np.ones(len(mean), dtype=bool)
    rows, values = [], []
    for _ in range(n):
        i = int(np.where(open_, mean, -np.inf).argmax())
        rows.append(i)
        values.append(mean[i])
        open_[i] = False
        gain = C[:, i] / (C[i, i] + noise + 1e-10)
        mean += gain * min(0.0, claim - mean[i])  # a claim above the belief would draw the batch together
        C -= np.outer(gain, C[i])
    return np.array(rows, dtype=np.int64), np.array(values)
