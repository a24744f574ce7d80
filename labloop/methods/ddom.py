"""DDOM: a diffusion model of designs given their value, asked for a high one (Krishnamoorthy, Mashkaria and Grover, "Diffusion
Models for Black-Box Optimization", ICML 2023).

x_t = m(t)·x + σ(t)·ε with m = exp(−½·∫β), σ² = 1 − m² and β rising linearly over t in [0, 1]. A network predicts ε from x_t, t
and y; y is dropped at times, so that it also knows p(x). Measurements count by the bin of their value, as in MINs. Sampling takes
Heun steps down the probability flow, ε = (1 + γ)·ε(x, y) − γ·ε(x), at y = the largest measured value.

Where this differs from the authors' code, and why:

 1. β rises from 0.1 to 20, so that x_1 is the noise that sampling starts from; theirs ends at 2, where 0.6 of x is left.
    `paper()` has theirs.
 2. Letters are one-hot columns between −1 and 1, not log odds; smaller networks and fewer steps.
 3. Few designs are passed over at most `passes` times, so that they are not learned by heart.
 4. As many designs are drawn as are asked for, those drawn most often first; theirs draws 512 and cuts them to the protocol's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from labloop.methods import _offer
from labloop.methods._diffusion import build
from labloop.methods.mins import conditions
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.surrogates.training import Adam, torch_generator, without_denormals
from labloop.types import FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float

START = 1e-3
"""The least time, at which sampling ends."""


@plugin
class DDOM:
    """A diffusion model of designs given their value, guided to the largest measured one."""

    family: ClassVar[str] = "generative"
    source: ClassVar[str] = "Krishnamoorthy et al., ICML 2023"
    cost: ClassVar[str] = "a small diffusion model"
    name: ClassVar[str] = "ddom"

    width: PositiveInt = 256
    """Units of a hidden layer."""
    steps: PositiveInt = 3_000
    """Training steps, at most."""
    passes: PositiveInt | None = 100
    """Passes of the training over the designs, at most; null for no bound."""
    batch_size: PositiveInt = 256
    """Designs a training step."""
    lr: PositiveFloat = 1e-3
    """Learning rate."""
    dropped: Annotated[float, Field(ge=0, le=1)] = 0.15
    """How often y is hidden from the network."""
    guidance: NonNegativeFloat = 2.0
    """γ."""
    sampling_steps: PositiveInt = 50
    """Steps from noise to a design."""
    beta_min: PositiveFloat = 0.1
    """Noise rate at the beginning of diffusion."""
    beta_max: PositiveFloat = 20.0
    """Noise rate at its end."""
    tau: PositiveFloat = 0.1
    """How sharply good bins are preferred; smaller is sharper."""
    bins: PositiveInt = 20
    """Bins of values, by which designs are weighed in training."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The settings of the authors' code, its 1,000 epochs of TF Bind 8 as steps; hours on a CPU."""
        settings = {
            "width": 1024, "steps": 128_000, "passes": None, "batch_size": 256, "lr": 1e-3, "dropped": 0.15, "guidance": 2.0,
            "sampling_steps": 1_000, "beta_min": 0.01, "beta_max": 2.0,
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train and draw at the largest measured value; the score is how often a design was drawn.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        y, p = conditions(data, self.bins, self.tau, proposer=self.name)
        gen, space = torch_generator(seed, self.name), data.space
        twins = space.orbit(data.X)
        x0 = torch.tensor(2 * np.concatenate(twins) - 1, dtype=torch.float32)
        y, p = y.repeat(len(twins)), p.repeat(len(twins))
        net = network(space.d, self.width, gen)
        adam = Adam(net.parameters(), lr=self.lr)
        batch = min(self.batch_size, len(x0))
        steps = _offer.within_passes(self.steps, len(x0), batch, self.passes)
        with without_denormals():
            for _ in track(steps, "ddom: training"):
                index = torch.randint(len(x0), (batch,), generator=gen)
                t = START + (1 - START) * torch.rand(batch, 1, generator=gen)
                eps = torch.randn(batch, space.d, generator=gen)
                m, s = level(t, self.beta_min, self.beta_max)
                seen = (torch.rand(batch, 1, generator=gen) >= self.dropped).float()
                error = net(torch.cat([m * x0[index] + s * eps, t, y[index, None] * seen, seen], 1)) - eps
                loss = (p[index] * error.square().sum(1)).mean()
                adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
        top = float(y.max())

        def noise(x: Tensor, t: float) -> Tensor:
            times, ones = torch.full((len(x), 1), t), torch.ones(len(x), 1)
            given = net(torch.cat([x, times, top * ones, ones], 1))
            free = net(torch.cat([x, times, 0 * ones, 0 * ones], 1))
            return (1 + self.guidance) * given - self.guidance * free

        def draw(k: int) -> FloatArray:
            with torch.no_grad():
                x = torch.randn(k, space.d, generator=gen)
                x = heun(noise, x, self.sampling_steps, self.beta_min, self.beta_max)
                return space.repair((x.double().numpy().clip(-9, 9) + 1) / 2)

        notes = {"steps": steps, "condition": top * float(data.y.std() or 1.0) + float(data.y.mean())}
        return _offer.drawn(data, draw, n, seed=derive(seed, self.name), proposer=self.name, notes=notes)


def network(d: int, width: int, gen: torch.Generator) -> nn.Module:
    """Predict ε (b, d) from x_t, t, y and whether y is told (b, d + 3)."""

    def make() -> nn.Module:
        parts: list[nn.Module] = []
        for i in range(3):
            parts += [nn.Linear(d + 3 if i == 0 else width, width), nn.SiLU()]
        return nn.Sequential(*parts, nn.Linear(width, d))

    return build(make, gen)


def level(t: Float[Tensor, "b 1"], low: float, high: float) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b 1"]]:
    """m(t) and σ(t): what is left of x at time t, and how much noise there is."""
    m = torch.exp(-0.5 * (low * t + 0.5 * (high - low) * t**2))
    return m, (1 - m**2).clamp_min(1e-12).sqrt()


def heun(
    noise: Callable[[Tensor, float], Tensor], x: Float[Tensor, "b d"], steps: int, low: float, high: float
) -> Float[Tensor, "b d"]:  # fmt: skip
    """Walk the probability flow dx/dt = −½·β·(x − ε/σ) from t = 1 to `START` by Heun steps."""

    def slope(x: Tensor, t: float) -> Tensor:
        m = math.exp(-0.5 * (low * t + 0.5 * (high - low) * t**2))
        return -0.5 * (low + t * (high - low)) * (x - noise(x, t) / math.sqrt(1 - m**2))

    times = np.linspace(1, START, steps + 1)
    for t, after in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        first = slope(x, t)
        second = slope(x + (after - t) * first, after)
        x = x + 0.5 * (after - t) * (first + second)
    return x
