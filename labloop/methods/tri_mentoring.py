"""Tri-mentoring: three proxies that vote on pairs around the candidates (Chen et al., "Parallel-mentoring for Offline
Model-based Optimization", NeurIPS 2023).

As candidates climb the proxies' mean, in each step K neighbours are drawn around them and each proxy says which of two neighbours
is better. Where two proxies outvote the third, the third learns from the vote, by the pairwise ranking loss

    −s·log σ(f(x) − f(x')) − (1 − s)·log σ(f(x') − f(x)),

s a soft label that begins at the vote and is learned, so that a step on the pairs lowers the proxy's error on the data.

Where this differs from the paper, and why:

 1. All candidates climb together and share the proxies and the neighbours, drawn around random ones of them. The paper mentors
    anew for each candidate, which costs as many times more.
 2. Smaller proxies; `paper()` has the published size. At most `pairs` outvoted pairs a proxy and step.
 3. Visited designs are offered, each start's best by the proxies' mean at the end first; particles stay in the box (not by
    `paper()`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from labloop.methods._forward import ForwardModel, View, offered
from labloop.methods._mentors import PROXIES, Params, mentored, predict, teach
from labloop.methods.ict import around
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.surrogates.networks import StackedMLP
from labloop.surrogates.training import Adam

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@plugin
class TriMentoring(ForwardModel):
    """Three proxies, of which two outvote the third on pairs of designs around the candidates."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Chen et al., NeurIPS 2023"
    cost: ClassVar[str] = "three networks, trained on while designs move"
    name: ClassVar[str] = "tri_mentoring"

    neighbours: PositiveInt = 10
    """K."""
    pairs: PositiveInt = 16
    """Outvoted pairs that a network learns from a step, at most."""
    neighbour_noise: NonNegativeFloat = 0.1
    """Standard deviation of the noise that makes neighbours of a design, in standardised units."""
    label_lr: PositiveFloat = 0.1
    """Learning rate of the labels that networks teach each other."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published settings of discrete tasks (continuous ones climb 200 steps of 0.001)."""
        settings: dict[str, Any] = {
            "hidden": (2048, 2048), "epochs": 200, "min_steps": 0, "max_steps": None, "lr": 1e-3, "particle_steps": 100,
            "particle_lr": 0.1, "projected": False, "pairs": 45,
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, mentor while climbing, and offer what was visited; scores are the proxies' mean at the end, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        view = View.of(data, self.relaxation, proposer=self.name)

        def mentor(net: StackedMLP, at: Tensor, adams: list[Adam], gen: torch.Generator) -> None:
            z = around(at, self.neighbours, self.neighbour_noise, gen)
            i, j = torch.triu_indices(len(z), len(z), 1).to(z.device)
            with torch.no_grad():
                f = net(z)
            vote, outvoted = votes(f[:, i], f[:, j])
            for pupil in range(PROXIES):
                pairs = outvoted[pupil].nonzero()[: self.pairs, 0]
                if len(pairs):
                    self._learn(net, pupil, z[i[pairs]], z[j[pairs]], vote[pairs], adams[pupil], view, gen)

        proxy, steps = mentored(view, self, n, seed=seed, proposer=self.name, mentor=mentor)
        return offered(proxy, steps, self.particle_steps, n, seed=seed, proposer=self.name)

    def _learn(
        self, net: StackedMLP, pupil: int, a: Float[Tensor, "p r"], b: Float[Tensor, "p r"], vote: Float[Tensor, " p"],
        adam: Adam, view: View, gen: torch.Generator,
    ) -> None:  # fmt: skip
        def lesson(params: Params, labels: Tensor) -> Tensor:
            gap = predict(params, a, self.slope) - predict(params, b, self.slope)
            return F.binary_cross_entropy_with_logits(gap, labels)

        teach(net, pupil, lesson, vote, adam, view, self, gen, rate=self.label_lr, clamp=1.0, low=0.0, high=1.0)


def votes(f: Float[Tensor, "E p"], g: Float[Tensor, "E p"]) -> tuple[Float[Tensor, " p"], Bool[Tensor, "E p"]]:
    """Give the majority's label of each pair, 1 where f is the better, and who was outvoted."""
    each = (f > g).float()
    vote = (each.mean(0) > 0.5).float()
    return vote, each != vote
