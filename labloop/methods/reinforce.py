"""REINFORCE: a distribution of designs, moved up the score of an ensemble of proxies by the policy gradient (Williams, Machine
Learning 1992; run as a baseline by Trabucco et al., "Design-Bench", ICML 2022).

The policy has a categorical distribution for each letter and option, and a normal one for each number; rewards are standardised
within a batch, and the gradient is that of mean[reward · log π(x)].

Where this differs from Design-Bench's code, and why:

 1. The ensemble is fitted by squared error on relaxed letters; theirs embeds them.
 2. A space may mix letters and numbers; normal draws are moved onto the space, their density is that of the draw.
 3. Batches of 256 for numbers too, where theirs takes 2,048. `paper()` has its sizes of discrete tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from labloop.methods import _offer
from labloop.methods._proxy import PAPER, ProxyModel, ensembled, number_columns, onehot_rows
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.surrogates.training import Adam, torch_generator
from labloop.types import FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float


@plugin
class Reinforce(ProxyModel):
    """The policy gradient on an ensemble of proxies, from the composition of the best measured designs."""

    family: ClassVar[str] = "search on a proxy"
    source: ClassVar[str] = "Williams, Machine Learning 1992"
    cost: ClassVar[str] = "five networks"
    name: ClassVar[str] = "reinforce"

    iterations: PositiveInt = 200
    """Steps of the fit or the search, at most."""
    samples: PositiveInt = 256
    """Designs drawn a step."""
    policy_lr: PositiveFloat = 0.01
    """Learning rate of the policy."""
    parents: PositiveInt = 128
    """Best measured designs from which the policy begins."""
    std: PositiveFloat = 0.1
    """Of numbers at the start, as a share of their range."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The settings of Design-Bench's code for discrete tasks."""
        return cls(**{**PAPER, "iterations": 200, "samples": 256, "policy_lr": 0.01, "parents": 128, "std": 0.1, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, move the policy, and draw from it; scores are the ensemble's mean, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        model = ensembled(data, self, seed=seed, proposer=self.name)
        gen = torch_generator(seed, self.name)
        policy = Policy(data.space, data.X[data.top(self.parents)], self.std)
        adam = Adam(policy.parameters, lr=self.policy_lr)
        for _ in track(self.iterations, "reinforce: policy"):
            X, logp = policy.draw(self.samples, gen)
            reward = torch.tensor(model.score(data.space.project(X)))
            reward = (reward - reward.mean()) / (reward.std() + 1e-8 * model.view.scale)
            adam.zero_grad()
            (-(reward * logp).mean()).backward()  # type: ignore[no-untyped-call]
            adam.step()

        def draw(k: int) -> FloatArray:
            with torch.no_grad():
                return data.space.repair(policy.draw(k, gen)[0])

        notes = {**model.proxy.notes, "entropy": policy.entropy()}
        return _offer.drawn(data, draw, n, seed=derive(seed, self.name), proposer=self.name, notes=notes, score=model.score)


class Policy:
    """Independent letters and numbers: logits (rows, K) of each one-hot block, mean and log std of each number."""

    def __init__(self, space: DesignSpace, parents: FloatArray, std: float) -> None:
        self.space, self.blocks, self.numbers = space, onehot_rows(space), number_columns(space)
        mean = parents.mean(0)
        self.logits = [
            torch.tensor(np.log(mean[cols].reshape(rows, k) + 1e-2), requires_grad=True) for cols, rows, k in self.blocks
        ]
        self.mean = torch.tensor(mean[self.numbers], requires_grad=True)
        self.log_std = torch.full_like(self.mean, float(np.log(std)), requires_grad=True)
        self.parameters = [*self.logits, *([self.mean, self.log_std] if len(self.numbers) else [])]

    def draw(self, k: int, gen: torch.Generator) -> tuple[Float[FloatArray, "k d"], Float[Tensor, " k"]]:
        """Draw k rows of X, not yet moved onto the space, and their log density."""
        X, logp = np.zeros((k, self.space.d)), torch.zeros(k, dtype=torch.float64)
        for (cols, rows, classes), logits in zip(self.blocks, self.logits, strict=True):
            p = logits.detach().softmax(1)
            codes = torch.multinomial(p, k, replacement=True, generator=gen).T
            X[:, cols] = np.eye(classes)[codes.numpy()].reshape(k, -1)
            logp = logp + logits.log_softmax(1)[torch.arange(rows), codes].sum(1)
        if len(self.numbers):
            noise = torch.randn(k, len(self.numbers), generator=gen, dtype=torch.float64)
            at = (self.mean + self.log_std.exp() * noise).detach()
            X[:, self.numbers] = at.numpy()
            logp = logp + (-0.5 * ((at - self.mean) / self.log_std.exp()) ** 2 - self.log_std).sum(1)
        return X, logp

    def entropy(self) -> float:
        """Of the letters, in nats."""
        with torch.no_grad():
            return float(-sum((one.softmax(1) * one.log_softmax(1)).sum() for one in self.logits))
