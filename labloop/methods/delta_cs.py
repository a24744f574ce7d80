"""δ-CS: keep most of a good sequence, rewrite the rest, and rewrite less where the model doubts (Kim et al., "Improved Off-policy
Reinforcement Learning in Biological Sequence Design", ICML 2025).

A parent is drawn from the measured designs and those found so far, better ones more often. Each of its sites is masked with
probability δ(x) = δ − λ·σ(x), σ the ensemble's standard deviation, and masked sites are written anew. So the search stays
close to data where the model does not know, and goes further where it does.

Where this differs from the paper, and why:

 1. The paper trains a GFlowNet to write the masked sites in proportion to a power of the reward. Here each masked site in turn is
    drawn from that distribution given the rest, softmax of the score over its letters (Gibbs sampling): no network to train.
 2. λ is set so that λ·σ is `doubt`·δ for a parent of mean σ; δ(x) stays within 0 and 1, and one site at least is masked.
 3. The score is the ensemble's mean plus `optimism` standard deviations; parents are drawn by 1/(0.01·N + rank).

Sequences and choices only: a number has no letters to draw from.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from labloop.errors import MethodError
from labloop.methods import _offer
from labloop.methods._proxy import ProxyModel, ensembled, onehot_rows
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.search import Score
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive, generator
from labloop.space.design_space import DesignSpace
from labloop.types import Array, FloatArray


@plugin
class DeltaCS(ProxyModel):
    """Rewrite a part of good sequences, the smaller the more the ensemble doubts, in proportion to what it believes."""

    kinds: ClassVar[frozenset[str]] = frozenset({"sequence", "choice"})
    family: ClassVar[str] = "batched campaign"
    source: ClassVar[str] = "Kim et al., ICML 2025"
    cost: ClassVar[str] = "five networks"
    name: ClassVar[str] = "delta_cs"

    delta: Annotated[float, Field(gt=0, le=1)] = 0.5
    """δ, share of sites that are rewritten where there is no doubt."""
    doubt: NonNegativeFloat = 0.5
    """How much the ensemble's doubt lowers the share that is rewritten."""
    temperature: PositiveFloat = 0.1
    """Of the letters drawn, in standard deviations of y."""
    optimism: float = 0.0
    """Standard deviations added to a prediction."""
    rounds: PositiveInt = 10
    """Rounds of the search."""
    parents: PositiveInt = 256
    """Parents a round."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, rewrite in rounds, and offer the n new designs of highest score, in y.

        Raises:
            MethodError: the space has numbers, fewer than two designs are measured, or fewer than n new ones exist.
        """
        if strange := data.space.kinds - self.kinds:
            raise MethodError(
                f"delta_cs rewrites sequences and choices, and this space has {', '.join(sorted(strange))}: use cbas or mutate"
            )
        model, rng, space = ensembled(data, self, seed=seed, proposer=self.name), generator(seed, self.name), data.space

        def score(X: FloatArray) -> FloatArray:
            each = model.proxy.each(X)
            return each.mean(0) + self.optimism * each.std(0)  # type: ignore[no-any-return]

        X, value = data.X, data.y
        for _ in track(self.rounds, "delta_cs: rewriting"):
            rank = (-value).argsort(kind="stable").argsort(kind="stable")
            p = 1 / (0.01 * len(X) + 1 + rank)
            some = space.canonical(X[rng.choice(len(X), size=max(self.parents, n), p=p / p.sum())])
            doubt = model.proxy.each(some).std(0)
            share = masked_share(doubt, self.delta, self.doubt)
            new = space.repair(rewrite(space, some, share, score, self.temperature * model.view.scale, rng))
            new = new[space.fresh(new, known=space.ids(X))]
            X, value = np.concatenate([X, new]), np.concatenate([value, score(new)])
        X, value = X[len(data) :], value[len(data) :]
        order = np.argsort(-value, kind="stable")
        notes = {**model.proxy.notes, "masked": float(share.mean())}
        return _offer.ranked(
            data, X[order], value[order], score, n, seed=derive(seed, self.name), proposer=self.name, notes=notes
        )


def masked_share(doubt: FloatArray, delta: float, strength: float) -> FloatArray:
    """δ(x) = δ − λ·σ(x) within 0 and 1, λ such that a mean σ takes `strength` of δ away, (m,)."""
    return np.clip(delta * (1 - strength * doubt / (float(doubt.mean()) or 1.0)), 0, 1)


def rewrite(
    space: DesignSpace, X: FloatArray, share: FloatArray, score: Score, temperature: float, rng: np.random.Generator
) -> FloatArray:  # fmt: skip
    """Mask sites of X (m, d) with probability `share` (m,), one at least, and draw each anew given the others, (m, d)."""
    sites = [(cols.start + i * k, k) for cols, rows, k in onehot_rows(space) for i in range(rows)]
    masked: Array = rng.random((len(X), len(sites))) < share[:, None]
    masked[np.arange(len(X)), rng.integers(len(sites), size=len(X))] |= ~masked.any(1)
    X = X.copy()
    for site in rng.permutation(len(sites)).tolist():
        start, k = sites[site]
        rows = np.flatnonzero(masked[:, site])
        if not len(rows):
            continue
        trial = np.repeat(X[rows], k, axis=0)
        trial[:, start : start + k] = np.tile(np.eye(k), (len(rows), 1))
        logits = np.asarray(score(trial)).reshape(len(rows), k) / temperature
        letters = (logits + rng.gumbel(size=logits.shape)).argmax(1)
        X[rows, start : start + k] = np.eye(k)[letters]
    return X
