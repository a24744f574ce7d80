"""The judge as its own proposer: it ranks the space, and nothing generates. What generators have to be worth more than."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from labloop.proposing.dataset import Dataset
from labloop.proposing.panel import panel_of
from labloop.proposing.pool import Pool, too_few
from labloop.proposing.protocols import ALL_KINDS
from labloop.proposing.search import CHUNK, GENERATIONS, search
from labloop.registry import plugin
from labloop.seeds import derive, generator
from labloop.space.pareto import rays
from labloop.surrogates.auto import Auto, Name
from labloop.types import FloatArray

RAYS = 8
"""Compromises of several properties that the pool is made around."""
POPULATION = 64
"""Children a generation of the search for each."""


@plugin
class JudgeOnly:
    """The best of the space by the evidence-weighed judge; give it the offline arm's selector to stand beside it."""

    family: ClassVar[str] = "Bayesian"
    cost: ClassVar[str] = "the judge, once more"
    several_tasks: ClassVar[bool] = True

    members: tuple[Name, ...] = Field(default=("gp", "ensemble", "forest"), min_length=1)
    """Kinds of model that the judge listens to."""
    optimism: float = 1.0
    """Standard deviations of belief added to the mean."""

    kinds: ClassVar[frozenset[str]] = ALL_KINDS

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer the n designs of highest mean + optimism · std, of all designs or, in large spaces, by evolutionary search.

        Raises:
            MethodError: fewer than n new designs exist, or fewer than two are measured.
        """
        if data.properties is not None:
            return self._several(data, n, seed)
        judge = Auto(members=self.members).fit(data, seed=derive(seed, "judge only"))

        def score(X: FloatArray) -> FloatArray:
            mean, std = judge.belief(X)
            return mean + self.optimism * std

        X, found = search(data, score, n, seed=seed, label="judge only", spaced=True)
        return Pool.best(data, X, found, n, proposer="judge_only", notes={f"weight_{k}": w for k, w in judge.weights.items()})

    def _several(self, data: Dataset, n: int, seed: int) -> Pool:
        """Offer the best along rays from the reference point, by turns with random designs: every compromise is in the pool."""
        judge = panel_of(Auto(members=self.members), data, seed=derive(seed, "judge only"))
        directions = rays(judge.goal.m, judge.goal.weights, RAYS) if judge.goal.m > 1 else np.ones((1, 1))
        each = -(-2 * n // len(directions))  # rays lead to the same designs
        rng = generator(seed, "judge only", "wide")

        def scores(X: FloatArray) -> FloatArray:
            return judge.along(X, directions, self.optimism)

        if data.space.listable:
            every = data.space.listing()
            told = np.concatenate([scores(every[i : i + CHUNK]) for i in range(0, len(every), CHUNK)])
            best = [every[np.argsort(-one, kind="stable")[: n + len(data.taken)]] for one in told.T]
            wide = every[rng.permutation(len(every))[: n + len(data.taken)]]
        else:
            settings: dict[str, Any] = {"label": "judge only", "generations": GENERATIONS // 2, "population": POPULATION}
            best = [
                search(data, lambda X, i=i: scores(X)[:, i], each, seed=derive(seed, i), **settings)[0]  # type: ignore[misc]
                for i in range(len(directions))
            ]
            wide = data.space.sample(2 * n, rng)
        turns = [one[k : k + 1] for k in range(max(map(len, best))) for one in best if k < len(one)]
        X = np.concatenate([row for pair in itertools.zip_longest(turns, wide[:, None], fillvalue=wide[:0]) for row in pair])
        keep = data.space.fresh(X, known=data.taken)[:n]
        if len(keep) < n:
            raise too_few(data, len(keep), n, proposer="judge_only")
        return Pool.of(data.space, X[keep], scores(X[keep]).max(1), proposer="judge_only")
