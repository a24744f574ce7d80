"""ICT: importance-aware co-teaching of three proxies (Yuan et al., NeurIPS 2023), with the settings of the authors' code.

As candidates climb the proxies' mean, in each step K neighbours are drawn around them, and each proxy in turn labels these for
the other two. Those two exchange their M samples of least loss: each learns from what the other finds easiest, for noise is
not easy to both. Each sample has a weight ω, learned so that a step on the samples lowers the proxy's error on the data.

Where this differs from that code, and why:

 1. Noise is drawn for each column; theirs draws one number for all columns, so that neighbours lie on one line.
 2. All candidates climb together and share the proxies and the K neighbours, drawn around random ones of them. Theirs fine-tunes
    anew for each candidate, which costs as many times more.
 3. Smaller proxies; `paper()` has theirs. The inner step uses a batch of the data as validation set where theirs uses all.
 4. Visited designs are offered, each start's best by the proxies' mean at the end first; particles stay in the box (not by
    `paper()`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from labloop.methods._forward import ForwardModel, View, offered
from labloop.methods._mentors import PROXIES, Params, mentored, predict, teach
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.surrogates.networks import StackedMLP
from labloop.surrogates.training import Adam

if TYPE_CHECKING:
    from jaxtyping import Float


@plugin
class ICT(ForwardModel):
    """Three proxies that label neighbours of the candidates for each other, weighed by what helps on the data."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Yuan et al., NeurIPS 2023"
    cost: ClassVar[str] = "three networks, trained on while designs move"
    name: ClassVar[str] = "ict"

    neighbours: PositiveInt = 128
    """K."""
    exchanged: PositiveInt = 8
    """M."""
    neighbour_noise: NonNegativeFloat = 0.1
    """Standard deviation of the noise that makes neighbours of a design, in standardised units."""
    weight_lr: PositiveFloat = 0.3
    """Step of ω, on a gradient cut at ±0.2; ω stays within 0 and 2."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published settings of discrete tasks (continuous ones climb by 0.001)."""
        settings: dict[str, Any] = {
            "hidden": (2048, 2048), "epochs": 200, "min_steps": 0, "max_steps": None, "lr": 1e-3, "particle_steps": 100,
            "particle_lr": 0.1, "projected": False,
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, co-teach while climbing, and offer what was visited; scores are the proxies' mean at the end, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        view = View.of(data, self.relaxation, proposer=self.name)

        def mentor(net: StackedMLP, at: Tensor, adams: list[Adam], gen: torch.Generator) -> None:
            z = around(at, self.neighbours, self.neighbour_noise, gen)
            for teacher in range(PROXIES):
                with torch.no_grad():
                    labels = net(z)[teacher]
                    error = (net(z) - labels).square()
                pupils = [k for k in range(PROXIES) if k != teacher]
                for pupil, peer in (pupils, pupils[::-1]):
                    easy = error[peer].argsort()[: self.exchanged]
                    self._learn(net, pupil, z[easy], labels[easy], adams[pupil], view, gen)

        proxy, steps = mentored(view, self, n, seed=seed, proposer=self.name, mentor=mentor)
        return offered(proxy, steps, self.particle_steps, n, seed=seed, proposer=self.name)

    def _learn(
        self, net: StackedMLP, pupil: int, z: Float[Tensor, "b r"], labels: Float[Tensor, " b"], adam: Adam,
        view: View, gen: torch.Generator,
    ) -> None:  # fmt: skip
        def lesson(params: Params, weights: Tensor) -> Tensor:
            return (weights * (predict(params, z, self.slope) - labels).square()).mean()

        teach(
            net, pupil, lesson, torch.ones_like(labels), adam, view, self, gen, rate=self.weight_lr, clamp=0.2, low=0.0, high=2.0
        )


def around(z: Float[Tensor, "b r"], k: int, noise: float, gen: torch.Generator) -> Float[Tensor, "k r"]:
    """Draw k neighbours of random particles z, normal noise in every column."""
    centre = torch.randint(len(z), (k,), generator=gen).to(z.device)
    return z[centre] + noise * torch.randn(k, z.shape[1], generator=gen).to(z.device)
