"""The judge as its own proposer: it ranks the space, and nothing generates. What generators have to be worth more than."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.protocols import ALL_KINDS
from labloop.proposing.search import search
from labloop.registry import plugin
from labloop.seeds import derive
from labloop.surrogates.auto import Auto, Name
from labloop.types import FloatArray


@plugin
class JudgeOnly:
    """The best of the space by the evidence-weighed judge; give it the offline arm's selector to stand beside it."""

    family: ClassVar[str] = "Bayesian"
    cost: ClassVar[str] = "the judge, once more"
    several_tasks: ClassVar[bool] = True

    members: tuple[Name, ...] = Field(default=("gp", "ensemble", "words", "forest", "pairwise"), min_length=1)
    """Kinds of model that the judge listens to."""
    optimism: float = 1.0
    """Standard deviations of belief added to the mean."""

    kinds: ClassVar[frozenset[str]] = ALL_KINDS

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer the n designs of highest mean + optimism · std, of all designs or, in large spaces, by evolutionary search.

        Raises:
            MethodError: fewer than n new designs exist, or fewer than two are measured.
        """
        judge = Auto(members=self.members).fit(data, seed=derive(seed, "judge only"))

        def score(X: FloatArray) -> FloatArray:
            mean, std = judge.belief(X)
            return mean + self.optimism * std

        X, found = search(data, score, n, seed=seed, label="judge only")
        return Pool.best(data, X, found, n, proposer="judge_only", notes={f"weight_{k}": w for k, w in judge.weights.items()})
