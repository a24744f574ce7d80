"""RaM: a forward model that learns to rank, climbed by gradient (Tan et al., "Offline Model-Based Optimization by Learning to
Rank", ICLR 2025).

What the search needs of f is the order of designs, not their values, so f is trained by a loss of lists of m random designs:

    ListNet      −Σ_i softmax(y)_i · log softmax(f)_i          RankCosine   ½·(1 − cos(y, f))

Scores are standardised over the training designs before the ascent, whose step would otherwise depend on f's arbitrary scale; of
the training states the one of least loss on a tenth of held-out designs is kept. The loss is an option of every forward model
here (`gradient_mean/loss=listnet`).

Where this differs from the paper, and why:

 1. Lists are drawn anew each step; the paper draws 10,000 before and passes over them 200 times.
 2. Smaller networks and lists, and fewer steps. `paper()` has the published sizes; its 200 passes over 10,000 lists are
    `max_steps` = 20,000 steps here, of one list each.
 3. As in `gradient`: where the space can be listed every design is scored, and particles stay in the box that designs span.
 4. Bounds (`<`, `>`) enter as values.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import PositiveInt

from labloop.methods._forward import ForwardModel, Loss, View, fit
from labloop.methods.gradient import offer
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin


@plugin
class RaM(ForwardModel):
    """Learn to rank by ListNet, then climb; only the order of measurements counts."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Tan et al., ICLR 2025"
    cost: ClassVar[str] = "one network on lists"
    name: ClassVar[str] = "ram"

    loss: Loss = "listnet"
    batch_size: PositiveInt = 512
    """m, designs of a list."""
    min_steps: PositiveInt = 500
    """Training steps at least, however few the data are."""
    max_steps: PositiveInt | None = 2_000
    """Training steps at most, however many the data are; null for no bound."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published settings of discrete tasks (continuous ones climb 200 steps of 0.001); hours on a CPU."""
        settings: dict[str, Any] = {
            "hidden": (2048, 2048), "epochs": 200, "min_steps": 20_000, "max_steps": 20_000, "batch_size": 1000, "lr": 3e-4,
            "weight_decay": 1e-5, "search": "ascent", "optimiser": "adam", "particle_steps": 100, "particle_lr": 0.1,
            "projected": False,
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, then offer the n new designs of highest score that the search finds; the scores have y's mean and spread.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        proxy = fit(View.of(data, self.relaxation, proposer=self.name), self, seed=seed, proposer=self.name)
        return offer(proxy, self, n, seed=seed, proposer=self.name)


@plugin
class RaMCosine(RaM):
    """Learn to rank by RankCosine, then climb."""

    name: ClassVar[str] = "ram_cosine"
    loss: Loss = "rank_cosine"
