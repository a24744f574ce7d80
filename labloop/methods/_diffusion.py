"""Gaussian diffusion, written once: schedules, forward and reverse steps, guidance, in-painting, averaging of weights.

Pure functions of tensors. A clean sample is x0, shape (b, …); x_t = √ᾱ_t·x0 + √(1-ᾱ_t)·ε for t = 0 … T-1, and t = -1 stands
for no noise at all (ᾱ = 1). Steps take the predicted x0; `x0_from_eps` makes it of a predicted ε. Sources: DDPM is Ho et al.
(NeurIPS 2020), DDIM is Song et al. (ICLR 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from labloop.space.parameters import Block

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64, Int

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Predicts the clean x0 from x_t (b, …) and the times t (b,)."""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """How much noise each of T steps adds. `betas` is float64: rounded in float32, late ᾱ would lose most of its digits."""

    betas: Float64[Tensor, " T"]

    @classmethod
    def cosine(cls, steps: int, *, s: float = 0.008, max_beta: float = 0.999) -> NoiseSchedule:
        """ᾱ follows a squared cosine (Nichol & Dhariwal, ICML 2021, eq. 17); each β at most `max_beta`."""
        angle = (torch.arange(steps + 1, dtype=torch.float64) / steps + s) / (1 + s) * (math.pi / 2)
        level = torch.cos(angle) ** 2
        return cls((1 - level[1:] / level[:-1]).clamp(max=max_beta))

    @classmethod
    def linear(cls, steps: int, *, start: float = 1e-4, end: float = 0.02) -> NoiseSchedule:
        """β grows evenly from `start` to `end` (DDPM, section 4, where T = 1000)."""
        return cls(torch.linspace(start, end, steps, dtype=torch.float64))

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """Move it to the device of the samples, which spares every step a wait."""
        return NoiseSchedule(self.betas.to(device))

    def __len__(self) -> int:
        return len(self.betas)

    @cached_property
    def _levels(self) -> Float64[Tensor, " levels"]:
        return torch.cat([torch.ones(1, dtype=torch.float64, device=self.betas.device), torch.cumprod(1 - self.betas, 0)])

    def alpha_bar(self, t: Int[Tensor, " b"] | int, like: Tensor) -> Float64[Tensor, " ..."]:
        """ᾱ_t on the device of `like`, shaped to broadcast over it: () for a number, (b, 1, …) for times."""
        times = torch.as_tensor(t, device=self._levels.device) + 1
        level = self._levels[times].to(like.device)
        return level.reshape(level.shape + (1,) * (like.ndim - 1)) if level.ndim else level

    def times(self, steps: int) -> list[int]:
        """Choose `steps` of the T times, evenly, from T-1 down to 0; all of them where `steps` is T or more."""
        steps = min(steps, len(self))
        if steps == 1:
            return [len(self) - 1]
        return [round((len(self) - 1) * (1 - i / (steps - 1))) for i in range(steps)]


# ---- forward, and between the ways to say what the network knows


def q_sample(
    schedule: NoiseSchedule, x0: Float[Tensor, " b *s"], t: Int[Tensor, " b"] | int, noise: Float[Tensor, " b *s"]
) -> Float[Tensor, " b *s"]:  # fmt: skip
    """Noise clean samples to time t (DDPM eq. 4)."""
    level = schedule.alpha_bar(t, x0)
    return level.sqrt().to(x0.dtype) * x0 + (1 - level).sqrt().to(x0.dtype) * noise


def x0_from_eps(
    schedule: NoiseSchedule, x: Float[Tensor, " b *s"], t: Int[Tensor, " b"] | int, eps: Float[Tensor, " b *s"]
) -> Float[Tensor, " b *s"]:  # fmt: skip
    """The clean sample that x_t and its noise imply."""
    level = schedule.alpha_bar(t, x)
    return (x - (1 - level).sqrt().to(x.dtype) * eps) * level.rsqrt().to(x.dtype)


def eps_from_x0(
    schedule: NoiseSchedule, x: Float[Tensor, " b *s"], t: Int[Tensor, " b"] | int, x0: Float[Tensor, " b *s"]
) -> Float[Tensor, " b *s"]:  # fmt: skip
    """The noise that x_t and its clean sample imply."""
    level = schedule.alpha_bar(t, x)
    return (x - level.sqrt().to(x.dtype) * x0) * (1 - level).rsqrt().to(x.dtype)


def x0_from_v(
    schedule: NoiseSchedule, x: Float[Tensor, " b *s"], t: Int[Tensor, " b"] | int, v: Float[Tensor, " b *s"]
) -> Float[Tensor, " b *s"]:  # fmt: skip
    """The clean sample that x_t and v = √ᾱ·ε - √(1-ᾱ)·x0 imply (Salimans & Ho, ICLR 2022): x_t itself where noise is low."""
    level = schedule.alpha_bar(t, x)
    return level.sqrt().to(x.dtype) * x - (1 - level).sqrt().to(x.dtype) * v


# ---- reverse


def step_variance(
    schedule: NoiseSchedule, t: Int[Tensor, " b"] | int, t_next: Int[Tensor, " b"] | int, like: Tensor
) -> Float64[Tensor, " ..."]:  # fmt: skip
    """Variance of the exact reverse step from t to t_next < t given x0: β̃_t where t_next = t-1 (DDPM eq. 7), 0 where it is -1."""
    now, after = schedule.alpha_bar(t, like), schedule.alpha_bar(t_next, like)
    return (1 - after) / (1 - now) * (1 - now / after)


def ddpm_step(
    schedule: NoiseSchedule, x: Float[Tensor, " b *s"], t: Int[Tensor, " b"] | int, x0: Float[Tensor, " b *s"],
    noise: Float[Tensor, " b *s"],
) -> Float[Tensor, " b *s"]:  # fmt: skip
    """Ancestral step from t to t-1: draw from the posterior of x_{t-1} given x_t and the predicted x0 (DDPM eq. 6-7)."""
    now, after = schedule.alpha_bar(t, x), schedule.alpha_bar(t - 1, x)
    alpha = now / after
    of_x0, of_x = after.sqrt() * (1 - alpha) / (1 - now), alpha.sqrt() * (1 - after) / (1 - now)
    deviation = step_variance(schedule, t, t - 1, x).sqrt()
    return of_x0.to(x.dtype) * x0 + of_x.to(x.dtype) * x + deviation.to(x.dtype) * noise


def ddim_step(
    schedule: NoiseSchedule, x: Float[Tensor, " b *s"], t: Int[Tensor, " b"] | int, t_next: Int[Tensor, " b"] | int,
    x0: Float[Tensor, " b *s"], noise: Float[Tensor, " b *s"], *, eta: float = 0.0,
) -> Float[Tensor, " b *s"]:  # fmt: skip
    """Step from t to any earlier t_next (DDIM eq. 12): `eta` 0 adds no noise, 1 as much as an ancestral step.

    The direction comes from x0 as given: where that was clipped, so is the noise estimate.
    """
    after = schedule.alpha_bar(t_next, x)
    variance = eta**2 * step_variance(schedule, t, t_next, x)
    direction = (1 - after - variance).clamp(min=0).sqrt().to(x.dtype) * eps_from_x0(schedule, x, t, x0)
    return after.sqrt().to(x.dtype) * x0 + direction + variance.sqrt().to(x.dtype) * noise


def sample(
    schedule: NoiseSchedule,
    denoise: Denoiser,
    x: Float[Tensor, " b *s"],
    *,
    steps: int,
    generator: torch.Generator,
    eta: float = 0.0,
    temperature: float = 1.0,
    clip: Callable[[Tensor], Tensor] | None = None,
    after: Callable[[Tensor], Tensor] | None = None,
    grad_last: int = 0,
) -> Float[Tensor, " b *s"]:
    """Walk from noise x back to clean samples.

    Args:
        steps: how many of the T times are visited; T of them with `eta` 1 is DDPM.
        temperature: factor on the noise of each step; the caller scales the first x.
        clip: applied to every predicted x0.
        after: applied to x after every step, such as `inpaint` with its known part.
        grad_last: gradients flow through this many of the last steps only.
    """
    times = schedule.times(steps)
    for i, (t, t_next) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        with torch.set_grad_enabled(i >= len(times) - grad_last):
            x0 = denoise(x, torch.full((len(x),), t, device=x.device))
            x0 = x0 if clip is None else clip(x0)
            quiet = eta == 0 or t_next < 0
            noise = torch.zeros_like(x) if quiet else torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = ddim_step(schedule, x, t, t_next, x0, temperature * noise, eta=eta)
            x = x if after is None else after(x)
    return x


# ---- steering


def classifier_free(
    unconditional: Float[Tensor, "*s"], conditional: Float[Tensor, "*s"], w: float
) -> Float[Tensor, "*s"]:  # fmt: skip
    """Combine predictions, of x0 or of ε alike: w = 0 ignores the condition, 1 obeys it, more exaggerates it."""
    return unconditional + w * (conditional - unconditional)


def gradient_guidance(
    schedule: NoiseSchedule, x: Float[Tensor, " b *s"], t: Int[Tensor, " b"] | int, eps: Float[Tensor, " b *s"],
    value: Callable[[Tensor], Tensor],
) -> Float[Tensor, " b *s"]:  # fmt: skip
    """Shift the noise estimate towards larger `value` of x_t (Dhariwal & Nichol, NeurIPS 2021, algorithm 2).

    Args:
        value: maps x (b, …) to (b,), a log-probability or any scaled reward.
    """
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(value(at).sum(), at)
    return eps - (1 - schedule.alpha_bar(t, x)).sqrt().to(x.dtype) * slope


def clean(
    schedule: NoiseSchedule, blocks: tuple[Block, ...], x: Float[Tensor, "b H c"], t: Int[Tensor, " b"],
    output: Float[Tensor, "b H c"],
) -> Float[Tensor, "b H c"]:  # fmt: skip
    """Make the clean trajectory x̂0 of the network's output, so that an output of 0 is a sensible guess already.

    Numbers and the score: output is v, which leaves x_t alone where noise is low. One-hot blocks: output is the logits of a
    prior, and Bayes' rule adds the likelihood of x_t, log p(x_t | letter) = 2√ᾱ·x_t / (1-ᾱ) + const for letters at ±1, so the
    network learns which letters go together and nothing about noise (after Dieleman et al., "Continuous diffusion for
    categorical data", 2022).
    """
    level = schedule.alpha_bar(t, x)
    logits = output + (2 * level.sqrt() / (1 - level)).to(x.dtype) * x
    parts = list(x0_from_v(schedule, x, t, output).split([block.stop - block.start for block in blocks] + [1], -1))
    for i, block in enumerate(blocks):
        if block.kind == "onehot":
            letters = logits[..., block.start : block.stop].unflatten(-1, (block.rows, block.classes))
            parts[i] = 2 * letters.softmax(-1).flatten(-2) - 1
    return torch.cat(parts, -1)


def inpaint(x: Float[Tensor, "*s"], known: Float[Tensor, "*s"], mask: Bool[Tensor, " ..."]) -> Float[Tensor, "*s"]:
    """Put the known part back: `known` where `mask` (broadcast over x) is true."""
    return torch.where(mask, known, x)


# ---- networks


def time_features(t: Int[Tensor, " b"], width: int, *, period: float = 10_000.0) -> Float[Tensor, "b w"]:
    """Sines and cosines of times, their wavelengths geometric up to `period`; `width` is even."""
    rates = torch.exp(-math.log(period) * torch.arange(width // 2, device=t.device) / max(width // 2 - 1, 1))
    angle = t.float()[:, None] * rates
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def initialise(net: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw every weight from the given generator, as torch's own layers do (uniform within 1/√fan_in); norms start as identity.

    Build the network under `torch.device("meta")`, move it with `to_empty`, then call this: the global generator stays untouched.
    """
    with torch.no_grad():
        for module in net.modules():
            own = dict(module.named_parameters(recurse=False))
            if "weight" in own and own["weight"].ndim < 2:
                own["weight"].fill_(1.0)
                own["bias"].zero_()
            elif "weight" in own:
                bound = 1 / math.sqrt(own["weight"][0].numel())
                for parameter in own.values():
                    parameter.uniform_(-bound, bound, generator=generator)
    return net


def build(make: Callable[[], nn.Module], generator: torch.Generator) -> nn.Module:
    """Make a network on the CPU whose every weight comes from the given generator; the global one stays untouched."""
    with torch.device("meta"):
        net = make()
    return initialise(net.to_empty(device="cpu"), generator)


def ema_update(average: Mapping[str, Tensor], net: nn.Module, decay: float) -> None:
    """Move the running average of a network's weights a step towards its present ones; decay 0 copies them."""
    with torch.no_grad():
        for name, value in net.state_dict().items():
            average[name].lerp_(value, 1 - decay)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products run in hardware here (tensor cores; AMX or AVX512-BF16). Asked of the hardware, not timed,
    so that equal seeds take equal paths."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
