"""The plain ensemble: train bootstrapped networks, offer what they think best on average. No caution, no search tricks."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.protocols import ALL_KINDS
from labloop.proposing.search import search
from labloop.registry import plugin
from labloop.seeds import derive
from labloop.surrogates.ensemble import Ensemble, PositiveInt
from labloop.types import FloatArray


@plugin
class EnsembleMean:
    """The n best designs by the mean of a bootstrapped ensemble of networks."""

    family: ClassVar[str] = "baseline"
    cost: ClassVar[str] = "20 small networks"

    members: Annotated[int, Field(ge=2)] = 20
    """Networks, each trained from another start; their mean and spread are used."""
    hidden: tuple[PositiveInt, ...] = (128,)
    """Widths of the hidden layers."""
    steps: PositiveInt = 3_000
    """Steps at most; training stops by the rule of the reference surrogate."""

    kinds: ClassVar[frozenset[str]] = ALL_KINDS

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer the n designs of highest mean.

        Raises:
            MethodError: fewer than n new designs exist, or nothing is measured yet.
        """
        options = Ensemble(members=self.members, hidden=self.hidden, steps=self.steps)
        posterior = options.fit(data, seed=derive(seed, "ensemble proposer"))  # never the network that judges

        def mean(X: FloatArray) -> FloatArray:
            return posterior.each(X).mean(0)

        X, score = search(data, mean, n, seed=seed, label="score ensemble", spaced=True)
        notes = {"steps": posterior.steps, "out_of_bag_correlation": posterior.out_of_bag_correlation}
        return Pool.best(data, X, score, n, proposer="ensemble", notes=notes)
