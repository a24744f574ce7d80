"""ROMA: a forward model made robust against changes of its own weights, and adapted to be smooth where the search is.

Source: Yu et al., "RoMA: Robust Model Adaptation for Offline Model-based Optimization", NeurIPS 2021, and the authors' code.
Symbols: f the model, x noised designs, δ a change of the weights.

 1. Training: beside the squared error at θ stands that of f_{θ+δ}(x + ε) against f_θ(x), ε normal noise, δ found by
    `inner_steps` steps that raise it, as large as `relative` times each weight's norm.
 2. Solving: T updates. In each, a copy of the weights is adapted to lower ‖∇_x f‖² at the present solutions while its predictions
    there stay, then the solutions step by Adam up f − (f − f₀)²/(2·region), f₀ the value at the start.

Where this differs from that code, and why:

 1. Squared error in place of a Gaussian likelihood; softplus layers as there, which ∇_x f needs.
 2. One inner step a training step instead of 20, 100 updates with 2 adapting steps instead of 500 with 100, for time;
    `paper()` has theirs.
 3. Visited designs are offered, each start's best first, and particles stay in the box; `paper()` leaves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from labloop.methods._forward import ForwardModel, Proxy, View, fit, offered
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.surrogates.networks import StackedMLP
from labloop.surrogates.training import Adam, torch_generator

if TYPE_CHECKING:
    from jaxtyping import Float


class Smooth(StackedMLP):
    """Networks with softplus in place of ReLU."""

    def features(self, x: Float[Tensor, "... b d"]) -> Float[Tensor, "E b w"]:
        x = x.expand(len(self.weights[0]), *x.shape) if x.ndim == 2 else x
        for i in range(len(self.weights) - 1):  # a slice would make parameters of what `functional_call` puts in their place
            x = F.softplus(torch.baddbmm(self.biases[i], x, self.weights[i]))
        return x


@plugin
class ROMA(ForwardModel):
    """Gradient ascent on a model that is robust to its own weights and smooth where the solutions are."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Yu et al., NeurIPS 2021"
    cost: ClassVar[str] = "one small network, adapted at each step of the ascent"
    name: ClassVar[str] = "roma"

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 64)
    input_noise: NonNegativeFloat = 0.2
    """Standard deviation of the noise added to designs in training, in standardised units."""
    relative: NonNegativeFloat = 2e-3
    """Size of δ over the size of the weights; 5e-4 to 5e-3 in the paper's tasks."""
    inner_steps: PositiveInt = 1
    """Steps that look for δ."""
    adapting_steps: PositiveInt = 2
    """Steps that the network is adapted by at each step of the ascent."""
    adapting_lr: PositiveFloat = 1e-3
    """Their learning rate."""
    keep: NonNegativeFloat = 1.0
    """Weight of the change in predictions while adapting."""
    region: PositiveFloat = 4.0
    """How far a prediction may rise above its start before the ascent is held back."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published settings; about an hour on a CPU."""
        settings: dict[str, Any] = {
            "hidden": (64, 64), "epochs": 50, "min_steps": 0, "max_steps": None, "lr": 1e-3, "inner_steps": 20,
            "particle_steps": 500, "particle_lr": 3e-3, "adapting_steps": 100, "projected": False,
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, adapt and climb; the scores are the unadapted model's predictions, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        view = View.of(data, self.relaxation, proposer=self.name)
        gen = torch_generator(seed, self.name)
        net = Smooth(1, view.Z.shape[1], self.hidden, generator=gen).to(view.device)
        proxy = fit(view, self, seed=seed, proposer=self.name, net=net, penalty=lambda net, z: self._worst(net, z, view, gen))

        def climb() -> Iterator[Tensor]:
            z, rate = view.starts(n), view.adam_rate(self.particle_lr)
            first, second = torch.zeros_like(z), torch.zeros_like(z)
            f0 = proxy(z)[0]
            for step in track(self.particle_steps, "roma: adapting"):
                adapted = adapt(proxy, z, steps=self.adapting_steps, lr=self.adapting_lr, keep=self.keep)
                at = z.detach().requires_grad_()
                f = adapted(at)[0]
                (slope,) = torch.autograd.grad((f - (f - f0) ** 2 / (2 * self.region)).sum(), at)
                first, second = first.lerp(slope, 0.1), second.lerp(slope**2, 0.001)
                t = step + 1
                z = z + rate * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
                z = view.box(z) if self.projected else z
                yield z

        return offered(proxy, climb(), self.particle_steps, n, seed=seed, proposer=self.name)

    def _worst(self, net: StackedMLP, z: Float[Tensor, "b r"], view: View, gen: torch.Generator) -> Float[Tensor, " 1"]:
        """What robustness adds to the loss: predictions at noised designs by weights θ + δ against those at θ, squared."""
        noised = z + self.input_noise * torch.randn(z.shape, generator=gen).to(z.device)
        with torch.no_grad():
            target = net(z)
        delta = worst_weights(net, noised, target, relative=self.relative, steps=self.inner_steps)
        moved = {name: value + shift for (name, value), shift in zip(net.named_parameters(), delta, strict=True)}
        return (torch.func.functional_call(net, moved, (noised,)) - target).square().mean(1)


def worst_weights(
    net: StackedMLP, z: Float[Tensor, "b r"], target: Float[Tensor, "E b"], *, relative: float, steps: int
) -> list[Tensor]:  # fmt: skip
    """Find the change of each weight, of norm `relative` times the weight's, that raises the squared error most."""
    named = {name: value.detach() for name, value in net.named_parameters()}
    delta = [torch.zeros_like(value) for value in named.values()]
    for _ in range(steps):
        moving = [one.requires_grad_() for one in delta]
        at = {name: value + one for (name, value), one in zip(named.items(), moving, strict=True)}
        loss = (torch.func.functional_call(net, at, (z,)) - target).square().mean()
        slopes = torch.autograd.grad(loss, moving)
        grown = [one.detach() + value.norm() * slope / (slope.norm() + 1e-12) / steps
                 for one, slope, value in zip(moving, slopes, named.values(), strict=True)]  # fmt: skip
        delta = [
            one * relative * value.norm() / one.norm().clamp_min(1e-12) for one, value in zip(grown, named.values(), strict=True)
        ]
    return [one.detach() for one in delta]


def adapt(proxy: Proxy, z: Float[Tensor, "b r"], *, steps: int, lr: float, keep: float) -> StackedMLP:
    """Give a copy of the model that is flatter at z: fewer ‖∇_x f‖², with the same predictions there."""
    net = Smooth(1, z.shape[1], tuple(w.shape[2] for w in proxy.net.weights[:-1]), generator=torch.Generator())
    net.load_state_dict(proxy.net.state_dict())
    net = net.to(z.device)
    adam = Adam(net.parameters(), lr=lr)
    with torch.no_grad():
        before = proxy(z)
    for _ in range(steps):
        at = z.detach().requires_grad_()
        f = net(at)
        (slope,) = torch.autograd.grad(f.sum(), at, create_graph=True)
        loss = slope.square().sum(1).mean() + keep * (f - before).square().mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    return net.requires_grad_(False)
