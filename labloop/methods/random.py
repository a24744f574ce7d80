"""Random designs: what every other proposer has to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.protocols import ALL_KINDS
from labloop.registry import plugin
from labloop.seeds import generator
from labloop.types import FloatArray

DRAWS = 50
"""A space that cannot be listed is drawn from this many times at most before it counts as used up."""


@plugin
class Random:
    """Designs drawn uniformly from all that are neither measured nor pending."""

    family: ClassVar[str] = "baseline"
    cost: ClassVar[str] = "nothing"

    kinds: ClassVar[frozenset[str]] = ALL_KINDS

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Draw n designs; the score is the draw's place, as there is no opinion to give.

        Raises:
            MethodError: fewer than n new designs exist.
        """
        rng = generator(seed, "random")
        X = _shuffled(data, n, rng) if data.space.listable else _drawn(data, n, rng)
        return Pool.best(data, X, -np.arange(len(X), dtype=float), n, proposer="random")


def _shuffled(data: Dataset, n: int, rng: np.random.Generator) -> FloatArray:
    X = data.space.listing()
    return X[rng.permutation(len(X))[: n + len(data.taken)]]


def _drawn(data: Dataset, n: int, rng: np.random.Generator) -> FloatArray:
    X = np.zeros((0, data.space.d))
    for _ in range(DRAWS):
        X = np.concatenate([X, data.space.sample(n + 16, rng)])
        X = X[data.space.fresh(X, known=data.taken)]
        if len(X) >= n:
            return X
    raise MethodError(f"random found {len(X)} of the {n} new designs asked for: ask for fewer, or widen the space")
