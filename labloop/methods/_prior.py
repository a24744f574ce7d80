"""A diffusion prior over designs: fitted to designs without values, it says what a design of this kind looks like.

A diffusion model needs a continuous state, designs are mostly discrete. A block of K letters or options becomes a one-hot
vector scaled to ±b, noised as any other vector ("analog bits", Chen, Zhang & Hinton, ICLR 2023). The mean of a one-hot vector
given its noised version is a vector of probabilities, so the network's estimate of x0 is a softmax trained by cross-entropy
(Dieleman et al., "Continuous diffusion for categorical data", 2022): every estimate is a soft one-hot, differentiable, and its
argmax a design. All letters are equally far from each other, which they are not as logits without the first class. Numbers and
mixture fractions are continuous already: they enter scaled to ±1, their estimate is linear and clipped to the range. The scale
b sets when letters are decided (Chen, "On the importance of noise scheduling for diffusion models", 2023): at `LETTER_SCALE`
and ten steps, in the later half of the walk.

The analytic part of an estimate is not learned. For letters the log-likelihood of the state is added to the logits, so the
network only learns what the other letters say; zero weights are the exact answer where letters are uniform and independent.
Numbers are preconditioned as by Karras et al. (NeurIPS 2022, table 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labloop.config.tables import form_of
from labloop.errors import ConfigError, DesignError, MethodError
from labloop.methods import _diffusion as diffusion
from labloop.methods._checkpoint import Stage, Warm, afresh
from labloop.runtime.progress import track
from labloop.space.design_space import DesignSpace
from labloop.surrogates.networks import length_of
from labloop.surrogates.training import Adam, torch_generator
from labloop.types import Array

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

LETTER_SCALE = 0.25
"""b: letters are vectors of ±b, the noise that hides them grows to variance 1."""
CHECKS = 20
"""How often a training looks at its held-out rows."""


# ---- designs as states


@dataclass(frozen=True, eq=False)
class States:
    """Designs x in [0, 1], soft or hard, as states of a diffusion, and a network's output as an estimate of x0."""

    space: DesignSpace
    schedule: diffusion.NoiseSchedule
    device: torch.device

    @cached_property
    def runs(self) -> tuple[tuple[bool, int, int, int], ...]:
        """Neighbouring blocks of one kind: (are they one-hot, first column, end, classes)."""
        runs: list[tuple[bool, int, int, int]] = []
        for block in self.space.blocks:
            letters = block.kind == "onehot"
            classes = block.classes if letters else 1
            if runs and runs[-1][0] == letters and runs[-1][3] == classes:
                runs[-1] = (letters, runs[-1][1], block.stop, classes)
            else:
                runs.append((letters, block.start, block.stop, classes))
        return tuple(runs)

    @cached_property
    def letters(self) -> Bool[Tensor, " d"]:
        """The columns of one-hot blocks."""
        return torch.cat([torch.full((stop - start,), letters) for letters, start, stop, _ in self.runs]).to(self.device)

    @cached_property
    def scale(self) -> Float[Tensor, " d"]:
        return torch.where(self.letters, LETTER_SCALE, 1.0)

    @cached_property
    def twins(self) -> Int[Tensor, "g d"]:
        """The columns in the order in which each symmetric twin reads them, the design itself first."""
        order = self.space.orbit(np.arange(self.space.d, dtype=float)[None])[:, 0]
        return torch.as_tensor(order.astype(np.int64), device=self.device)

    @cached_property
    def _tables(self) -> Float[Tensor, "3 T d"]:
        """For each time the factors of the network's input, of the state and of the network's output."""
        level = self.schedule.alpha_bar(torch.arange(len(self.schedule), device=self.device), self.scale[None])
        spread = (1 - level) / level
        enter = (level * self.scale**2 + 1 - level).rsqrt()
        skip = torch.where(self.letters, 2 * LETTER_SCALE * level.sqrt() / (1 - level), level.rsqrt() / (1 + 4 * spread))
        leave = torch.where(self.letters, 1.0, (spread / (1 + 4 * spread)).sqrt())  # numbers: a standard deviation of 1/2
        return torch.stack([enter, skip, leave]).float()

    def state(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Scale designs to states: letters to ±b, numbers to ±1."""
        return self.scale * (2 * x - 1)

    def estimate(self, net: nn.Module, z: Float[Tensor, "b d"], t: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """What a network makes of states z at times t: logits of letters; of numbers the mean, in state units."""
        enter, skip, leave = self._tables[:, t]
        return skip * z + leave * net(enter * z, t)

    def mean(self, estimate: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Turn an estimate into x̂0: probabilities of letters, clipped numbers."""
        return self._each(estimate, lambda part: part.softmax(-1), lambda part: (part / 2 + 0.5).clamp(0, 1))

    def harden(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Replace probabilities by the likeliest letter; the gradient passes as if they had not been (straight-through)."""

        def straight_through(part: Tensor) -> Tensor:
            return F.one_hot(part.argmax(-1), part.shape[-1]).to(part.dtype) + part - part.detach()

        return self._each(x, straight_through, lambda part: part)

    def loss(
        self, estimate: Float[Tensor, "b d"], x: Float[Tensor, "b d"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, " b"]:  # fmt: skip
        """Cross-entropy of letters plus preconditioned squared error of numbers, for true designs x at times t."""
        total = torch.zeros(len(x), device=x.device)
        leave = self._tables[2, t]
        for letters, start, stop, classes in self.runs:
            guess, truth = estimate[:, start:stop], x[:, start:stop]
            if letters:
                log = guess.reshape(len(x), -1, classes).log_softmax(-1)
                total = total - (truth.reshape(log.shape) * log).sum((1, 2))
            else:
                total = total + (((guess - (2 * truth - 1)) / leave[:, start:stop]) ** 2).sum(1)
        return total

    def step_kl(self, t: int, new: Float[Tensor, "b d"], old: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """KL of the reverse step from t to t-1 under one estimate from the same step under another.

        Both steps are normal with one variance σ², so it is ‖Δmean‖² / 2σ²: with ever shorter steps, Girsanov's
        ½∫g²‖Δscore‖²dt. The last step (t = 0) adds no noise: there it is the KL of the letters' probabilities, and of numbers
        as if the noise that they still had were left on.
        """
        if t == 0:
            return self._last_kl(new, old)
        level, after = self.schedule.alpha_bar(t, new), self.schedule.alpha_bar(t - 1, new)
        of_x0 = after.sqrt() * (1 - level / after) / (1 - level)  # DDPM eq. 7
        factor = of_x0**2 / (2 * diffusion.step_variance(self.schedule, t, t - 1, new))
        apart = self.state(self.mean(new)) - self.state(self.mean(old))
        return apart.square().sum(1) * factor.to(new.dtype)

    def _last_kl(self, new: Float[Tensor, "b d"], old: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        total = torch.zeros(len(new), device=new.device)
        level = self.schedule.alpha_bar(0, new)
        for letters, start, stop, classes in self.runs:
            a, b = new[:, start:stop], old[:, start:stop]
            if letters:
                p, q = (part.reshape(len(new), -1, classes).log_softmax(-1) for part in (a, b))
                total = total + (p.exp() * (p - q)).sum((1, 2))
            else:
                total = total + (a.clamp(-1, 1) - b.clamp(-1, 1)).square().sum(1) * (level / (2 * (1 - level))).to(a.dtype)
        return total

    def _each(
        self, x: Float[Tensor, "b d"], letters: Callable[[Tensor], Tensor], numbers: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "b d"]:  # fmt: skip
        """Apply one function to the one-hot runs of x, seen as (b, rows, classes), another to the rest."""
        parts = []
        for onehot, start, stop, classes in self.runs:
            part = x[:, start:stop]
            parts.append(letters(part.reshape(len(x), -1, classes)).flatten(1) if onehot else numbers(part))
        return torch.cat(parts, 1)


# ---- the network


class Denoiser(nn.Module):
    """Residual network over states and times: dense, or convolutional along a sequence of `length` letters."""

    def __init__(self, d: int, length: int, width: int, depth: int, steps: int) -> None:
        super().__init__()
        self.length, self.width = length, width
        self.enter = nn.Linear(d // length, width)
        # Given weights they draw none: drawing any on no device is what loads torch's compiler, for seconds.
        self.place = nn.Embedding.from_pretrained(torch.empty(length, width), freeze=False)
        self.time = nn.Embedding.from_pretrained(torch.empty(steps, depth * width), freeze=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Linear(width * (1 if length == 1 else 5), width) for _ in range(depth))
        self.leave = nn.Linear(width, d // length)

    def forward(self, z: Float[Tensor, "b d"], t: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        h = self.enter(z.reshape(len(z), self.length, -1)) + self.place.weight
        shifts = self.time(t).reshape(len(z), 1, -1, self.width).unbind(2)
        for i, (shift, norm, layer) in enumerate(zip(shifts, self.norms, self.layers, strict=True)):
            seen = F.silu(norm(h) + shift)
            if self.length > 1:  # a convolution as one matrix product: five letters side by side, 1, 2, 4, 1, … apart
                apart = 2 ** (i % 3)
                wide = F.pad(seen, (0, 0, 2 * apart, 2 * apart))
                seen = torch.cat([wide[:, j * apart : j * apart + self.length] for j in range(5)], -1)
            h = h + layer(seen)
        return self.leave(h).reshape(len(z), -1)


def _denoiser(states: States, width: int, depth: int) -> Denoiser:
    with torch.device("meta"):
        net = Denoiser(states.space.d, length_of(states.space), width, depth, len(states.schedule))
    return net.to_empty(device=states.device)


def load_denoiser(states: States, weights: Mapping[str, Tensor]) -> Denoiser:
    """Make the network of a state dict; its sizes are read off the weights."""
    width = len(weights["enter.weight"])
    net = _denoiser(states, width, weights["time.weight"].shape[1] // width)
    net.load_state_dict(weights)
    return net


# ---- fitting and walking


def train_prior(
    states: States, X: Float[Array, "m d"], *, width: int = 64, depth: int = 3, steps: int = 1000, lr: float = 2e-3,
    batch_size: int = 256, warm: Warm = afresh, warm_start: float = 1.0, seed: int,
) -> Stage:  # fmt: skip
    """Fit the prior to designs X, one in ten (at most 1024) held out.

    Args:
        width: channels of a convolution; dense networks are twice as wide.
        warm: may give the network an earlier round's weights; it then takes the share `warm_start` of the steps.

    Returns:
        The weights where the loss of held-out designs was lowest; that loss as `prior_heldout_loss` (nats a design where all
        blocks are letters), and the `prior_steps` taken.
    """
    device = states.device
    rng = torch_generator(seed, "prior", device=device)
    net = _denoiser(states, width if length_of(states.space) > 1 else 2 * width, depth)
    diffusion.initialise(net, rng)
    nn.init.zeros_(net.leave.weight)
    nn.init.zeros_(net.leave.bias)
    if warm(net):
        steps = max(1, round(warm_start * steps))
    x = torch.tensor(X, dtype=torch.float32, device=device)[torch.randperm(len(X), generator=rng, device=device)]
    n_held = min(len(x) // 10, 1024)
    held, x = x[:n_held], x[n_held:]
    # Every look at the held-out designs takes the same noise, at least a thousand draws over all times.
    held = held.repeat(-(-1024 // max(n_held, 1)), 1)
    held_t = torch.arange(len(held), device=device) % len(states.schedule)
    held_z = _noised(states, held, held_t, rng)
    adam = Adam(net.parameters(), lr=lr, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=0.05 * lr)
    lowest, kept = float("inf"), dict(net.state_dict())
    for step in track(steps, "diffusion prior"):
        rows = torch.randint(len(x), (batch_size,), generator=rng, device=device)
        twin = states.twins[torch.randint(len(states.twins), (batch_size,), generator=rng, device=device)]
        t = torch.randint(len(states.schedule), (batch_size,), generator=rng, device=device)
        design = x[rows].gather(1, twin)
        loss = states.loss(states.estimate(net, _noised(states, design, t, rng), t), design, t).mean()
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        rate.step()
        if is_check(step, steps):
            with torch.no_grad():
                error = states.loss(states.estimate(net, held_z, held_t), held, held_t).mean().item() if n_held else -step
            if error < lowest:
                lowest, kept = error, {name: value.clone() for name, value in net.state_dict().items()}
    return kept, {"prior_heldout_loss": lowest if n_held else float("nan"), "prior_steps": steps}


def _noised(
    states: States, x: Float[Tensor, "b d"], t: Int[Tensor, " b"], rng: torch.Generator
) -> Float[Tensor, "b d"]:  # fmt: skip
    return diffusion.q_sample(states.schedule, states.state(x), t, torch.randn(x.shape, generator=rng, device=x.device))


def is_check(step: int, steps: int) -> bool:
    """Whether training looks at its held-out rows after this step: `CHECKS` times, the last step among them."""
    return (step + 1) % max(1, steps // CHECKS) == 0 or step + 1 == steps


def walk(
    states: States, net: nn.Module, z: Float[Tensor, "b d"], *, generator: torch.Generator, frozen: nn.Module | None = None,
    grad_last: int = 0, kl_last: int | None = None, shift: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> tuple[Float[Tensor, "b d"], Float[Tensor, " b"]]:  # fmt: skip
    """Take noise z by ancestral steps to designs in [0, 1], letters as probabilities.

    Args:
        frozen: the network that the path's KL is counted from.
        grad_last: gradients flow through this many of the last steps only.
        kl_last: count the KL of this many of the last steps; of all where None.
        shift: changes x̂0 before a step is taken, given the state, its times and x̂0.

    Returns:
        The designs, and each path's KL in nats, 0 where `frozen` is None.
    """
    x, kl = z, torch.zeros(len(z), device=z.device)
    for t in reversed(range(len(states.schedule))):
        with torch.set_grad_enabled(t < grad_last):
            times = torch.full((len(z),), t, device=z.device)
            estimate = states.estimate(net, z, times)
            x = states.mean(estimate)
            if frozen is not None and (kl_last is None or t < kl_last):
                kl = kl + states.step_kl(t, estimate, states.estimate(frozen, z, times))
            if shift is not None:
                x = shift(z, times, x)
            if t:
                noise = torch.randn(z.shape, generator=generator, device=z.device)
                z = diffusion.ddpm_step(states.schedule, z, t, states.state(x), noise)
    return x, kl


# ---- designs without values


def read_unlabelled(space: DesignSpace, path: Path) -> Float[Array, "m d"]:
    """Read a CSV file of designs as X, float32; columns that are not the design's are ignored.

    Raises:
        MethodError: the file cannot be read, or a row is not a design; names the file, the rows and the cells.
    """
    place, start = f"file of unlabelled designs {path}", 0
    found = []
    try:
        content = path.read_bytes()
        form = form_of(content, path.name)
        with pd.read_csv(BytesIO(content), **form, dtype=str, keep_default_na=False, chunksize=20_000) as chunks:
            for chunk in chunks:
                if len(chunk):
                    found.append(space.encode(chunk.reset_index(drop=True), strict=False).astype(np.float32))
                start += len(chunk)
    except OSError as error:
        raise MethodError(f"{place} cannot be read: {error.strerror or error}") from error
    except ConfigError as error:
        raise MethodError(f"file of unlabelled designs {error}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise MethodError(f"{place} is not a CSV table: {' '.join(str(error).split())}") from error
    except DesignError as error:
        if not error.faults:
            raise MethodError(f"{place}: {error.summary}; name its columns as the campaign's") from error
        shown = "; ".join(f"row {start + one.row + 2}, {one.column}: {one.rule} (got {one.cell!r})" for one in error.faults[:5])
        more = f"; and {len(error.faults) - 5} more" if len(error.faults) > 5 else ""
        raise MethodError(f"{place}: {shown}{more}: mend these rows or leave them out") from error
    if not start:
        raise MethodError(f"{place} has no rows")
    return np.concatenate(found)
