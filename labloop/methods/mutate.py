"""Mutants of the best: what a bench scientist would do without a model."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.protocols import ALL_KINDS
from labloop.registry import plugin
from labloop.seeds import generator
from labloop.types import Array, FloatArray

WAVES = 40
"""Times that mutants are drawn before the neighbourhood counts as used up."""


@plugin
class Mutate:
    """One- and two-step mutants of the best measured designs."""

    family: ClassVar[str] = "baseline"
    cost: ClassVar[str] = "nothing"

    parents: Annotated[int, Field(ge=1)] = 20
    """How many of the best measured designs have mutants; more join where these have too few new ones."""
    two_steps: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of mutants that take a second step."""

    kinds: ClassVar[frozenset[str]] = ALL_KINDS

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer n mutants; the score is the parent's y, so that mutants of the best design come first.

        Every parent has about as many mutants as the others. In a wave that finds too few new designs the parents double in
        number and each mutant takes a step more, so that n designs are found wherever n exist.

        Raises:
            MethodError: fewer than n new designs exist, or nothing is measured yet.
        """
        if not len(data):
            raise MethodError("mutate needs measured designs to mutate: start the campaign with some, or with `random`")
        rng = generator(seed, "mutate")
        space = data.space
        X, score = np.zeros((0, space.d)), np.zeros(0)
        known = set(data.taken)
        for wave in range(WAVES):
            parents = data.top(self.parents * 2 ** min(wave, 30))
            chosen = parents[rng.permutation(np.arange(2 * n) % len(parents))]
            mutants = self._mutants(data, chosen, wave, rng)
            valid = space.feasible(mutants)  # a measured design may break a constraint, and so may a mutant that found no way out
            mutants, chosen = mutants[valid], chosen[valid]
            new = space.fresh(mutants, known=known)[: n - len(X)]
            X, score = np.concatenate([X, mutants[new]]), np.concatenate([score, data.y[chosen[new]]])
            known.update(space.ids(mutants[new]))
            if len(X) == n:
                break
        else:
            X, score = self._rest(data, X, score, rng)
        return Pool.best(data, X, score, n, proposer="mutate")

    def _mutants(self, data: Dataset, chosen: Array, wave: int, rng: np.random.Generator) -> FloatArray:
        once = data.space.mutate(data.X[chosen], rng, steps=1 + wave)
        twice = data.space.mutate(once, rng)
        return np.where(rng.random((len(chosen), 1)) < self.two_steps, twice, once)

    @staticmethod
    def _rest(data: Dataset, X: FloatArray, score: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Where chance has not found them all and the space can be listed, list them; they rank behind every mutant."""
        if not data.space.listable:
            return X, score
        rest = rng.permutation(data.space.listing())
        return np.concatenate([X, rest]), np.concatenate([score, np.full(len(rest), data.y.min() - 1)])
