"""MINs: learn the inverse map from a value to designs, and ask it for a high value (Kumar and Levine, "Model Inversion Networks
for Model-Based Optimization", NeurIPS 2020), with the settings of Design-Bench's code.

The inverse map x = G(z, y) is the generator of a Wasserstein GAN with gradient penalty, whose critic sees x with y. Measurements
are drawn with the weight of their bin of values: exp((y − y_max)/τ)·h/(h + k), h the bin's share, so that high values count more,
unless hardly anything has them. Designs are drawn at y = the largest measured value.

Where this differs from that code, and why:

 1. Three hidden layers of 128, 300 generator steps; `paper()` has 1,024 and its 200 passes over TF Bind 8.
 2. Letters are drawn as softmax, and real ones shown as one-hot smoothed to 0.99, at one temperature; theirs anneals it.
 3. Numbers pass a sigmoid, mixtures a softmax. Designs are offered as they are drawn, those drawn most often first; nothing else
    judges them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from labloop.errors import MethodError
from labloop.methods import _offer
from labloop.methods._diffusion import build
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.surrogates.training import Adam, torch_generator, without_denormals
from labloop.types import Designs, FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float

SMOOTHED = 0.99
"""What a real letter keeps; the rest is spread over all of them."""


@plugin
class MINs:
    """A generator of designs given their value, asked for the largest measured one."""

    family: ClassVar[str] = "generative"
    source: ClassVar[str] = "Kumar and Levine, NeurIPS 2020"
    cost: ClassVar[str] = "a generative adversarial network"
    name: ClassVar[str] = "mins"

    width: PositiveInt = 128
    """Units of a hidden layer."""
    layers: PositiveInt = 3
    """Hidden layers of both networks."""
    latent: PositiveInt = 32
    """Numbers that a design is squeezed into."""
    steps: PositiveInt = 300
    """Of the generator."""
    critic_steps: PositiveInt = 10
    """For each step of the generator."""
    penalty: PositiveFloat = 10.0
    """Weight of the gradient penalty."""
    lr: PositiveFloat = 2e-4
    """Learning rate."""
    batch_size: PositiveInt = 128
    """Designs a training step."""
    tau: PositiveFloat = 0.1
    """How steeply higher values count, in ranges of y."""
    bins: PositiveInt = 20
    """Bins of values, by which designs are weighed in training."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The settings of Design-Bench's code, its 200 epochs of TF Bind 8 as steps; hours on a CPU."""
        return cls(**{"width": 1024, "layers": 3, "latent": 32, "steps": 5_120, "critic_steps": 10, "lr": 2e-4, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train and draw at the largest measured value; the score is how often a design was drawn.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        y, p = conditions(data, self.bins, self.tau, proposer=self.name)
        gen, space = torch_generator(seed, self.name), data.space
        twins = space.orbit(data.X)
        real = torch.tensor(smooth(space, np.concatenate(twins)), dtype=torch.float32)
        y, p = y.repeat(len(twins)), p.repeat(len(twins))
        G = layers(self.latent + 1, self.width, self.layers, space.d, gen)
        D = layers(space.d + 1, self.width, self.layers, 1, gen)
        adams = [Adam(net.parameters(), lr=self.lr, betas=(0.0, 0.9)) for net in (G, D)]
        batch = min(self.batch_size, len(real))

        def fake(y: Tensor) -> Tensor:
            z = torch.randn(len(y), self.latent, generator=gen)
            return onto(space, G(torch.cat([z, y[:, None]], 1)))

        with without_denormals():
            for _ in track(self.steps, "mins: training"):
                for _ in range(self.critic_steps):
                    index = torch.multinomial(p, batch, replacement=True, generator=gen)
                    loss = critic_loss(D, real[index], fake(y[index]).detach(), y[index], self.penalty, gen)
                    adams[1].zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    adams[1].step()
                index = torch.multinomial(p, batch, replacement=True, generator=gen)
                loss = -D(torch.cat([fake(y[index]), y[index, None]], 1)).mean()
                adams[0].zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                adams[0].step()

        def draw(k: int) -> FloatArray:
            with torch.no_grad():
                return space.repair(fake(torch.full((k,), float(y.max()))).double().numpy())

        return _offer.drawn(data, draw, n, seed=derive(seed, self.name), proposer=self.name, notes={"steps": self.steps})


def conditions(
    data: Dataset, bins: int, tau: float, *, proposer: str
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:  # fmt: skip
    """Standardise y, and give each measurement's weight by its bin, the weights' mean 1 before they are cut at 5.

    Raises:
        MethodError: fewer than two designs are measured.
    """
    if len(data) < 2:
        raise MethodError(f"{proposer} learns from at least two measured designs, there are {len(data)}: measure a first plate")
    y = (data.y - data.y.mean()) / (data.y.std() or 1.0)
    unit = (data.y - data.y.min()) / (np.ptp(data.y) or 1.0)
    place = np.minimum((unit * bins).astype(int), bins - 1)
    share = np.bincount(place, minlength=bins) / len(data)
    w = (np.exp(((np.arange(bins) + 0.5) / bins - 1) / tau) * share / (share + 1e-3) / np.maximum(share, 1e-12))[place]
    w = np.minimum(w / w.mean(), 5.0)
    return torch.tensor(y, dtype=torch.float32), torch.tensor(w, dtype=torch.float32)


def smooth(space: DesignSpace, X: Designs) -> Designs:
    """Smooth the letters of X to `SMOOTHED`."""
    X = X.copy()
    for block in space.blocks:
        if block.kind == "onehot":
            X[:, block.start : block.stop] = SMOOTHED * X[:, block.start : block.stop] + (1 - SMOOTHED) / block.classes
    return X


def onto(space: DesignSpace, out: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Turn a network's output into a soft design: softmax over letters and mixtures, sigmoid of numbers."""
    parts = []
    for block in space.blocks:
        part = out[:, block.start : block.stop]
        if block.kind == "onehot":
            part = part.reshape(len(out), block.rows, -1).softmax(2).flatten(1)
        else:
            part = part.softmax(1) if block.kind == "simplex" else part.sigmoid()
        parts.append(part)
    return torch.cat(parts, 1)


def layers(d: int, width: int, depth: int, out: int, gen: torch.Generator) -> nn.Module:
    """A perceptron with layer norms and leaky ReLUs."""

    def make() -> nn.Module:
        parts: list[nn.Module] = []
        for i in range(depth):
            parts += [nn.Linear(d if i == 0 else width, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)]
        return nn.Sequential(*parts, nn.Linear(width, out))

    return build(make, gen)


def critic_loss(
    D: nn.Module, real: Float[Tensor, "b d"], fake: Float[Tensor, "b d"], y: Float[Tensor, " b"], penalty: float,
    gen: torch.Generator,
) -> Float[Tensor, ""]:  # fmt: skip
    """Wasserstein loss of the critic with gradient penalty (Gulrajani et al., NeurIPS 2017)."""
    u = torch.rand(len(real), 1, generator=gen)
    between = (u * real + (1 - u) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(D(torch.cat([between, y[:, None]], 1)).sum(), between, create_graph=True)
    gap = D(torch.cat([fake, y[:, None]], 1)) - D(torch.cat([real, y[:, None]], 1))
    return gap.mean() + penalty * (slope.norm(dim=1) - 1).square().mean()
