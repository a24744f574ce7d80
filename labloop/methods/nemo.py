"""NEMO: climb the mean of the normalised maximum likelihood distribution of a design's value.

Source: Fu and Levine, "Offline Model-Based Optimization via Normalized Maximum Likelihood Estimation", ICLR 2021. y is cut into
K bins. For each bin k a model θ_k is fitted to the data and to (x, ŷ_k): how well can this value of x be explained? Then

    p_NML(ŷ_k | x) ∝ p_{θ_k}(ŷ_k | x),       g(x) = Σ_k ŷ_k·p_NML(ŷ_k | x)

and each candidate x climbs g, the models learning on as it moves: where the data do not contradict any value all bins are likely,
and g is pulled to the mean of the bins.

Written from the paper's idea; no code of the authors was at hand, and other papers leave the method out for that reason. Ours:

 1. p_θ is normal about the network's prediction, its spread that of the network's residuals.
 2. One set of K networks for all candidates: in each step each takes a batch of the data and all candidates labelled ŷ_k.
 3. The bins reach from the least to `reach` ranges above the largest measured y, or no candidate could be thought better than
    the data. There is no `paper()`: the published settings could not be read.
 4. Visited designs are offered, each start's best by g first; what lacks to n is found by search on g of the last models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from labloop.methods import _offer
from labloop.methods._forward import ForwardModel, Proxy, View, fit, squared_error, visited
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.surrogates.networks import StackedMLP
from labloop.surrogates.training import Adam, torch_generator
from labloop.types import FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float


@plugin
class NEMO(ForwardModel):
    """Normalised maximum likelihood: a value counts as far as a model could be fitted to it, and to the data."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Fu and Levine, ICLR 2021"
    cost: ClassVar[str] = "twenty small networks, trained on while designs move"
    name: ClassVar[str] = "nemo"

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 64)
    bins: Annotated[int, Field(ge=2)] = 20
    """K."""
    reach: NonNegativeFloat = 1.0
    """How far the bins go beyond the data, in ranges of y."""
    candidate_weight: PositiveFloat = 0.1
    """Of the candidates' loss beside the data's."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, climb while the models learn on, and offer what was visited; scores are g at the end, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        view = View.of(data, self.relaxation, proposer=self.name)
        low, high = float(view.y.min()), float(view.y.max())
        labels = torch.linspace(low, high + self.reach * (high - low), self.bins, device=view.device)
        one = fit(view, self, seed=seed, proposer=self.name)
        with torch.no_grad():
            spread = float((one(view.Z)[0] - view.y).std()) + 0.05
        net = StackedMLP(self.bins, view.Z.shape[1], self.hidden, generator=torch_generator(seed, self.name)).to(view.device)
        net.load_state_dict({key: value.expand_as(net.state_dict()[key]).clone() for key, value in one.net.state_dict().items()})
        adam = Adam(net.parameters(), lr=self.lr / 3, fused=True)
        gen, rate = torch_generator(seed, self.name, "batches"), view.adam_rate(self.particle_lr)

        def climb() -> Iterator[Tensor]:
            z = view.starts(n)
            for _ in track(self.particle_steps, "nemo: climbing"):
                index = torch.randint(len(view.y), (min(self.batch_size, len(view.y)),), generator=gen).to(view.device)
                loss = squared_error(net(view.Z[index]), view.y[index], view.side[index]).mean(1)
                loss = loss + self.candidate_weight * (net(z.detach()) - labels[:, None]).square().mean(1)
                adam.zero_grad()
                loss.sum().backward()  # type: ignore[no-untyped-call]
                adam.step()
                at = z.detach().requires_grad_()
                (slope,) = torch.autograd.grad(nml_mean(net(at), labels, spread).sum(), at)
                z = z + rate * slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-12) * slope.shape[1] ** 0.5
                z = view.box(z) if self.projected else z
                yield z

        path = visited(view, climb(), self.particle_steps)
        net.requires_grad_(False)
        last = Proxy(view=view, net=net, offset=one.offset.expand(self.bins, 1), unit=one.unit.expand(self.bins, 1))

        def score(X: FloatArray) -> FloatArray:
            f = torch.tensor((last.each(X) - view.location) / view.scale)
            g: FloatArray = nml_mean(f, labels.double().cpu(), spread).numpy()
            return view.location + view.scale * g

        notes = {**one.notes, "bins": self.bins, "spread": spread * view.scale}
        return _offer.paths(data, path, score, n, seed=derive(seed, self.name), proposer=self.name, notes=notes)


def nml_mean(f: Float[Tensor, "K b"], labels: Float[Tensor, " K"], spread: float) -> Float[Tensor, " b"]:
    """g(x): f holds what the model of each bin predicts, labels the bins."""
    p = (-0.5 * ((f - labels[:, None]) / spread) ** 2).softmax(0)
    return (p * labels[:, None]).sum(0)
