"""Design-Bench's BO-qEI: Bayesian optimisation in which an ensemble of proxies plays the lab (Trabucco et al., ICML 2022).

A Gaussian process begins with the best `known` designs at the values that the ensemble gives them. In each of `rounds` rounds qei
proposes `batch` designs, which the ensemble "measures". The best n of all that it has "measured" are offered.

Where this differs from that code, and why:

 1. Only new designs are offered. Theirs offers the best of starts and proposals together, which are mostly designs that it was
    given: hence its median at the best visible value, and its standard deviation of 0.
 2. Rounds go on until there are n new designs; each is the method `qei` with fewer candidates.
 3. The ensemble is fitted by squared error; see `labloop.methods._proxy`. The noise is inferred where theirs is held at 0.1².
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from pydantic import PositiveInt

from labloop.errors import MethodError
from labloop.methods._proxy import PAPER, ProxyModel, ensembled
from labloop.methods.qei import QEI
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.types import FloatArray


@plugin
class QEIProxy(ProxyModel):
    """Bayesian optimisation against an ensemble of proxies in place of the lab."""

    family: ClassVar[str] = "search on a proxy"
    source: ClassVar[str] = "Trabucco et al., Design-Bench, ICML 2022"
    cost: ClassVar[str] = "five networks, and a Gaussian process each round"
    name: ClassVar[str] = "qei_proxy"

    known: PositiveInt = 300
    """Best measured designs to begin with."""
    rounds: PositiveInt = 4
    """Rounds at least."""
    batch: PositiveInt = 32
    """Designs chosen together a round of the search."""
    candidates: PositiveInt = 512
    """Designs looked at each time."""
    iterations: PositiveInt = 50
    """Of the Gaussian process's fit."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The settings of Design-Bench's code."""
        return cls(**{**PAPER, "known": 500, "rounds": 10, "batch": 32, "iterations": 200, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, run the rounds, and offer the n best new designs by the ensemble's mean, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        model = ensembled(data, self, seed=seed, proposer=self.name)
        X = start = data.X[data.top(self.known)]
        bo = QEI(candidates=self.candidates, iterations=self.iterations, generations=10)
        rounds = max(self.rounds, -(-n // self.batch))
        for round_ in track(rounds, "qei_proxy: rounds"):
            size = min(self.batch, max(1, n - (len(X) - len(start)))) if round_ >= self.rounds else self.batch
            try:
                found = bo.propose(pretended(data, X, model.score(X)), size, seed=derive(seed, self.name, round_))
            except MethodError:
                if size == 1 or len(X) - len(start) >= n:
                    break
                left = n - (len(X) - len(start))
                found = bo.propose(pretended(data, X, model.score(X)), left, seed=derive(seed, self.name, round_))
            X = np.concatenate([X, found.X])
        new = X[len(start) :]
        return Pool.best(data, new, model.score(new), n, proposer=self.name, notes={**model.proxy.notes, "rounds": rounds})


def pretended(data: Dataset, X: FloatArray, y: FloatArray) -> Dataset:
    """Make the dataset of designs X (m, d) that the ensemble measured as y (m,); what the lab knows is pending."""
    return Dataset(
        space=data.space, X=X, y=y, sem=np.full(len(X), np.nan), censored=np.zeros(len(X), dtype=np.int64),
        n_replicates=np.ones(len(X), dtype=np.int64), ids=tuple(data.space.ids(X)),
        pending=np.concatenate([data.X, data.pending]),
    )  # fmt: skip
