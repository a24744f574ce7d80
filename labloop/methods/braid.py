"""BRAID: fine-tune a diffusion model on a reward that is low where the data do not reach (Uehara et al., "Bridging Model-Based
Optimization and Generative Modeling via Conservative Fine-Tuning of Diffusion Models", NeurIPS 2024).

Four stages, one function each: `train_prior` fits a diffusion model p_pre to designs without values, `train_reward` fits the
conservative reward r - g, `finetune` moves a copy of the prior towards max E[r - g] - α·KL(P_θ ‖ P_pre), and `sample` draws from it.
STRL is the same without g; Guidance leaves the weights alone and bends the sampling instead. Rewards are in standard deviations of
the measured y, KL in nats.

The relaxation. A diffusion model needs a continuous state, designs are mostly discrete. A block of K letters or options becomes a
one-hot vector scaled to ±b, noised as any other vector ("analog bits", Chen, Zhang & Hinton, ICLR 2023). The mean of a one-hot
vector given its noised version is a vector of probabilities, so the network's estimate of x0 is a softmax trained by cross-entropy
(Dieleman et al., "Continuous diffusion for categorical data", 2022): every estimate is a soft one-hot, differentiable, and its argmax
a design. All letters are equally far from each other, which logits without the first class are not. Numbers and mixture fractions
are continuous already: they enter scaled to ±1 and the estimate is a linear one, clipped to the range. The scale b sets when letters
are decided (Chen, "On the importance of noise scheduling", 2023): at `LETTER_SCALE` it happens in the last quarter of the walk, which is
where fine-tuning has its gradient.

Symbols: T steps, x_t the noised state, x̂0 the network's estimate, K last steps with gradient, B heads, φ a head's last hidden layer.

Where this differs from the paper and the authors' released sequence code, and why:

 1. A Gaussian diffusion of T = 20 steps in place of the Jacobi diffusion on the simplex with 50: the same steps serve letters, options,
    numbers and mixtures, and float32 is enough. The network is small (8-mers have no long range): 0.1 M weights in place of 13 M.
 2. p_pre is fitted to the campaign's own designs and a file of unlabelled ones where there is one. It stops where the loss of held-out
    designs is lowest: with 30 designs it would otherwise learn them by heart and could offer nothing new.
 3. The analytic part of the estimate is not learned: for letters the likelihood of x_t enters as a term of the logits, so the
    network learns the context only; numbers are preconditioned (Karras et al., NeurIPS 2022, table 1).
 4. The KL of a Gaussian step is ‖Δmean‖²/2σ², which is Girsanov's g² in continuous time; the released code has g³. The last step adds no
    noise, so its KL is that of the letters' probabilities, and of numbers as if the last noise level were left on.
 5. The released notebooks set α to 0; here it is above. As in the code, the loss counts the KL of the last K steps only; the whole path's
    is reported in the notes (`path_kl`).
 6. One Adam for the whole run: the released code makes a new one each iteration, which turns it into signed gradient descent.
 7. The reward sees the argmax of the last estimate and passes its gradient on to the probabilities (straight-through): a reward fitted to
    designs has never seen soft ones. The released code sharpens them by a temperature of 0.1 instead.
 8. Heads stop where the error of rows outside their bootstrap is lowest; five heads, not three. `penalty` p scales Boot between the mean of
    the heads (0), their minimum (1, the paper's) and their maximum (-1, its optimistic sibling SEIKO's).
 9. Bonus uses the features of all heads, each with its own Gram matrix, and is scaled so that rows outside the bootstrap have errors
    of one bonus on average. The paper's c in units of an arbitrary feature scale cannot be set by a lab; `penalty` is c in calibrated
    units. Like the sibling code it is clipped.
10. STRL's plain reward is one network, one row in ten held out for stopping; `BRAID(penalty=0)` is the mean of the heads.
11. Guidance takes the gradient of r(x̂0(x_t)), not of r(x_t): the reward knows no noised designs.
12. Designs are ranked by the reward and offered once; those measured already are left out. The paper scores raw samples.
13. Bounds (`<`, `>`) cost a head only where it is on the wrong side. The two strands of DNA are shown to all networks at random
    and share one reward, the mean.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from labloop.dataset import Dataset
from labloop.errors import DesignError, MethodError
from labloop.methods import _diffusion as diffusion
from labloop.methods._nets import StackedMLP
from labloop.methods._train import pick_device, torch_generator, without_denormals
from labloop.parameters import Array, FloatArray
from labloop.pool import Pool
from labloop.progress import track
from labloop.registry import plugin
from labloop.seeds import derive, generator
from labloop.space import DesignSpace

LETTER_SCALE = 0.15
"""b, the height of a one-hot vector's ±b before noise of unit variance."""
SHORT = 16
"""Sequences of up to this many letters are seen whole by dense layers, longer ones by convolutions."""
BONUS_LIMIT = 10.0
"""Largest bonus, in standard deviations of y."""
CHECKS = 20
"""How often a training looks at its held-out rows."""


@plugin
class BRAID:
    """Conservative fine-tuning of a diffusion model: generate designs that a reward likes which distrusts what it has not seen."""

    name: ClassVar[str] = "braid"

    form: Literal["boot", "bonus", "none"] = "boot"
    """How the reward is conservative: least of bootstrapped heads, mean less a bonus for unknown features, or not at all."""
    mode: Literal["finetune", "guidance"] = "finetune"
    """Move the model's weights, or only guide its sampling by the reward's gradient."""
    penalty: float = 1.0
    """How much the conservatism counts: 1 is the paper's, 0 none, below 0 it seeks the unknown."""
    kl: NonNegativeFloat = 0.02
    """α: standard deviations of y that a nat of divergence from the prior costs."""
    heads: PositiveInt = 5
    """B, bootstrapped reward heads; `form: none` has one on all data."""
    hidden: tuple[PositiveInt, ...] = (256, 256)
    """Hidden layers of a head."""
    reward_steps: PositiveInt = 800
    """Training steps of the heads at most."""
    ridge: PositiveFloat = 1e-3
    """λ of the bonus, relative to the Gram matrix's mean diagonal."""
    unlabelled: Path | None = None
    """CSV file of designs without values (natural sequences, a library) that the prior learns too; its columns are the design's."""
    width: Annotated[int, Field(ge=8)] = 64
    """Channels of the prior's network; four times as many where it is dense: on short sequences, options, numbers."""
    depth: PositiveInt = 4
    """Residual layers of the prior's network."""
    prior_steps: PositiveInt = 1000
    """Training steps of the prior at most."""
    steps: Annotated[int, Field(ge=2)] = 20
    """T, steps of the reverse walk."""
    grad_steps: PositiveInt = 5
    """K, last steps with gradient."""
    iterations: PositiveInt = 200
    """Fine-tuning steps."""
    batch_size: PositiveInt = 128
    lr: PositiveFloat = 1e-3
    """Learning rate of fine-tuning."""
    guidance: PositiveFloat = 10.0
    """Weight of the reward's gradient where `mode` is guidance."""
    n_samples: PositiveInt = 2048
    """Designs drawn in a round of sampling."""
    max_rounds: PositiveInt = 4
    """Rounds of sampling before mutants of samples fill the pool."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train on all measurements, fine-tune, sample. Scores are the conservative reward in y.

        Raises:
            MethodError: fewer than n new designs are left, or the file of unlabelled designs cannot be used.
        """
        trained = train(data, self, seed=seed)
        X, notes = candidates(trained, data, self, n, seed=seed)
        score = trained.reward.in_y(X)
        return Pool.best(data, X, score, n, proposer=self.name, notes={**trained.notes, **notes})


@plugin
class BRAIDBonus(BRAID):
    """BRAID with the bonus form: the reward falls with the distance of a design's features from those of the data."""

    name: ClassVar[str] = "braid_bonus"
    form: Literal["boot", "bonus", "none"] = "bonus"


@plugin
class STRL(BRAID):
    """Fine-tuning of the diffusion model on the plain reward, without conservatism: what BRAID is compared with."""

    name: ClassVar[str] = "strl"
    form: Literal["boot", "bonus", "none"] = "none"


@plugin
class Guidance(BRAID):
    """The prior guided by the plain reward's gradient while it samples, no weight changed: what BRAID is compared with."""

    name: ClassVar[str] = "guidance"
    form: Literal["boot", "bonus", "none"] = "none"
    mode: Literal["finetune", "guidance"] = "guidance"


# ---- the relaxation


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Designs as states of the diffusion: one-hot blocks at ±b, all else at ±1, and the network's output as an estimate of x0."""

    space: DesignSpace
    schedule: diffusion.Schedule
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
    def letters(self) -> Tensor:
        """(d,) bool: the columns of one-hot blocks."""
        width = [torch.full((stop - start,), letters) for letters, start, stop, _ in self.runs]
        return torch.cat(width).to(self.device)

    @cached_property
    def scale(self) -> Tensor:
        return torch.where(self.letters, LETTER_SCALE, 1.0)

    @cached_property
    def twins(self) -> Tensor:
        """(g, d): the columns in the order in which each symmetric twin reads them, itself first."""
        order = self.space.orbit(np.arange(self.space.d, dtype=float)[None])[:, 0]
        return torch.as_tensor(order.astype(np.int64), device=self.device)

    def state(self, x: Tensor) -> Tensor:
        """Scale designs, soft or hard, in [0, 1] to states."""
        return self.scale * (2 * x - 1)

    @cached_property
    def tables(self) -> Tensor:
        """For each time the factors of the network's input, of z and of the network's output in the estimate: (3, T, d)."""
        level = self.schedule.alpha_bar(torch.arange(len(self.schedule), device=self.device), self.scale[None])
        spread = (1 - level) / level
        enter = (level * self.scale**2 + 1 - level).rsqrt()
        # Letters: the log-likelihood of z, up to a constant. Numbers: Karras et al., table 1, with data of standard deviation 1/2.
        skip = torch.where(self.letters, 2 * LETTER_SCALE * level.sqrt() / (1 - level), level.rsqrt() / (1 + 4 * spread))
        leave = torch.where(self.letters, 1.0, (spread / (1 + 4 * spread)).sqrt())
        return torch.stack([enter, skip, leave]).float()

    def estimate(self, net: nn.Module, z: Tensor, t: Tensor) -> Tensor:
        """What the network makes of states z (b, d) at times t (b,): logits of letters, the mean of numbers in state units."""
        enter, skip, leave = self.tables[:, t]
        return skip * z + leave * net(enter * z, t)

    def mean(self, estimate: Tensor) -> Tensor:
        """Turn an estimate into x̂0 in [0, 1]: probabilities of letters, clipped numbers."""
        parts = []
        for letters, start, stop, classes in self.runs:
            part = estimate[:, start:stop]
            if letters:
                part = part.reshape(len(part), -1, classes).softmax(-1).flatten(1)
            else:
                part = (part / 2 + 0.5).clamp(0, 1)
            parts.append(part)
        return torch.cat(parts, 1)

    def harden(self, x: Tensor) -> Tensor:
        """Replace probabilities by the likeliest letter; the gradient passes as if they had not been (straight-through)."""
        parts = []
        for letters, start, stop, classes in self.runs:
            part = x[:, start:stop]
            if letters:
                soft = part.reshape(len(part), -1, classes)
                hard = F.one_hot(soft.argmax(-1), classes).to(x.dtype)
                part = (hard + soft - soft.detach()).flatten(1)
            parts.append(part)
        return torch.cat(parts, 1)

    def loss(self, estimate: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Cross-entropy of letters plus preconditioned squared error of numbers, (b,), for true designs x in [0, 1]."""
        total = torch.zeros(len(x), device=x.device)
        leave = self.tables[2, t]
        for letters, start, stop, classes in self.runs:
            guess, truth = estimate[:, start:stop], x[:, start:stop]
            if letters:
                log = guess.reshape(len(x), -1, classes).log_softmax(-1)
                total = total - (truth.reshape(log.shape) * log).sum((1, 2))
            else:
                total = total + (((guess - (2 * truth - 1)) / leave[:, start:stop]) ** 2).sum(1)
        return total

    def last_kl(self, new: Tensor, old: Tensor) -> Tensor:
        """KL of the last step, (b,): of the letters' probabilities; of numbers as normals with the variance of the last noise."""
        total = torch.zeros(len(new), device=new.device)
        level = self.schedule.alpha_bar(0, new)
        for letters, start, stop, classes in self.runs:
            a, b = new[:, start:stop], old[:, start:stop]
            if letters:
                p, q = (e.reshape(len(new), -1, classes).log_softmax(-1) for e in (a, b))
                total = total + (p.exp() * (p - q)).sum((1, 2))
            else:
                apart = a.clamp(-1, 1) - b.clamp(-1, 1)
                total = total + (apart**2).sum(1) * (level / (2 * (1 - level))).to(a.dtype)
        return total


def step_kl(schedule: diffusion.Schedule, t: int, t_next: int, new: Tensor, old: Tensor) -> Tensor:
    """KL of one ancestral step between two estimates of x0 (b, d): ‖Δmean‖² / 2σ², (b,); t_next is at least 0."""
    now, after = schedule.alpha_bar(t, new), schedule.alpha_bar(t_next, new)
    variance = diffusion.step_variance(schedule, t, t_next, new)
    of_x0 = after.sqrt() - (1 - after - variance).clamp(min=0).sqrt() * (now / (1 - now)).sqrt()
    return ((new - old) ** 2).sum(1) * (of_x0**2 / (2 * variance)).to(new.dtype)


# ---- 1: the prior


class Denoiser(nn.Module):
    """Residual network over states (b, d) and times (b,): dense, or convolutional along a sequence of `length` letters."""

    def __init__(self, d: int, length: int, width: int, depth: int, steps: int) -> None:
        super().__init__()
        self.length, self.width = length, width
        self.enter = nn.Linear(d // length, width)
        self.place = nn.Embedding(length, width)
        self.time = nn.Embedding(steps, depth * width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Linear(width * (1 if length == 1 else 5), width) for _ in range(depth))
        self.leave = nn.Linear(width, d // length)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
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


def _denoiser(space: DesignSpace, options: BRAID, device: torch.device) -> Denoiser:
    sequence = len(space.blocks) == 1 and space.blocks[0].rows > SHORT
    length, width = (space.blocks[0].rows, options.width) if sequence else (1, 4 * options.width)
    with torch.device("meta"):
        net = Denoiser(space.d, length, width, options.depth, options.steps)
    return net.to_empty(device=device)


def relaxation(space: DesignSpace, options: BRAID, device: torch.device) -> Relaxation:
    return Relaxation(space, diffusion.Schedule.cosine(options.steps), device)


def train_prior(
    relax: Relaxation, X: Array, options: BRAID, *, seed: int, batch_size: int = 256, lr: float = 2e-3
) -> tuple[dict[str, Tensor], float]:
    """Fit p_pre to designs X (m, d); the weights where held-out designs had the lowest loss, and that loss in nats a design."""
    device = relax.device
    rng = torch_generator(seed, "braid", "prior", device=device)
    net = diffusion.initialise(_denoiser(relax.space, options, device), rng)
    nn.init.zeros_(net.leave.weight)  # type: ignore[arg-type]
    nn.init.zeros_(net.leave.bias)  # type: ignore[arg-type]
    x = torch.as_tensor(X, dtype=torch.float32, device=device)[torch.randperm(len(X), generator=rng, device=device)]
    held, x = x[: min(len(x) // 10, 1024)], x[min(len(x) // 10, 1024) :]
    # Every check sees the same noise: 1024 draws or more over all times.
    checked = held.repeat(max(1, 1024 // max(len(held), 1)), 1)
    checks = _noised(relax, checked, torch.arange(len(checked), device=device) % options.steps, rng)
    adam = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, options.prior_steps, eta_min=0.05 * lr)
    best, kept = float("inf"), {name: value.clone() for name, value in net.state_dict().items()}
    for step in track(options.prior_steps, "braid: prior"):
        rows = torch.randint(len(x), (batch_size,), generator=rng, device=device)
        flip = relax.twins[torch.randint(len(relax.twins), (batch_size,), generator=rng, device=device)]
        t = torch.randint(options.steps, (batch_size,), generator=rng, device=device)
        z, design = _noised(relax, x[rows].gather(1, flip), t, rng)
        loss = relax.loss(relax.estimate(net, z, t), design, t).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()
        if _is_check(step, options.prior_steps):
            with torch.no_grad():
                t = torch.arange(len(checked), device=device) % options.steps
                error = relax.loss(relax.estimate(net, checks[0], t), checked, t).mean().item() if len(held) else -float(step)
            if error < best:
                best, kept = error, {name: value.clone() for name, value in net.state_dict().items()}
    return kept, best if len(held) else float("nan")


def _noised(relax: Relaxation, x: Tensor, t: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    noise = torch.randn(x.shape, generator=rng, device=x.device)
    return diffusion.q_sample(relax.schedule, relax.state(x), t, noise), x


def _is_check(step: int, steps: int) -> bool:
    return (step + 1) % max(1, steps // CHECKS) == 0 or step + 1 == steps


def read_unlabelled(space: DesignSpace, path: Path) -> Array:
    """Read a CSV of designs as X (m, d) float32; columns that are not the design's are ignored.

    Raises:
        MethodError: the file cannot be read, or a row is not a design; names the file, the row and the cell.
    """
    place = f"file of unlabelled designs {path}"
    try:
        found = []
        with pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True, chunksize=20_000) as chunks:
            for chunk in chunks:
                start = int(chunk.index[0])
                found.append(space.encode(chunk.reset_index(drop=True), strict=False).astype(np.float32))
    except OSError as error:
        raise MethodError(f"{place} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise MethodError(f"{place} is not a CSV table: {' '.join(str(error).split())}") from error
    except DesignError as error:
        faults = "; ".join(
            f"row {start + fault.row + 2}, {fault.column}: {fault.rule} (got {fault.cell!r})" for fault in error.faults[:5]
        )
        more = f"; and {len(error.faults) - 5} more" if len(error.faults) > 5 else ""
        raise MethodError(f"{place}: {faults or error.summary}{more}; mend or remove these rows") from error
    if not found:
        raise MethodError(f"{place} has no rows")
    return np.concatenate(found)


# ---- 2: the conservative reward


def conserve(heads: Tensor, bonus: Tensor | None, form: str, penalty: float) -> Tensor:
    """Join heads (B, b), and bonus (b,) where the form has one, to the reward that is climbed, (b,)."""
    mean = heads.mean(0)
    if form == "boot":
        worst = heads.amin(0) if penalty > 0 else heads.amax(0)
        return mean + abs(penalty) * (worst - mean)
    return mean if bonus is None else mean - penalty * bonus


@dataclass(frozen=True, eq=False)
class Reward:
    """A fitted conservative reward of designs x in [0, 1], soft or hard, in standard deviations of y; twins alike."""

    relax: Relaxation
    options: BRAID
    weights: Mapping[str, Tensor]
    y_mean: float
    y_std: float
    whitening: Tensor | None = None
    """(B, w, w): L⁻¹ of the Cholesky factor of Σφφᵀ + λI, times the calibration; only for the bonus."""

    @cached_property
    def net(self) -> StackedMLP:
        net = _heads(self.relax, self.options)
        net.load_state_dict(self.weights)
        return net.requires_grad_(False)

    def __call__(self, x: Tensor) -> Tensor:
        """The conservative reward, (b,)."""
        return conserve(self.heads(x), self.bonus(x), self.options.form, self.options.penalty)

    def heads(self, x: Tensor) -> Tensor:
        """What each head believes, (B, b)."""
        found = self.net(self._seen(x))
        return found.reshape(len(found), len(self.relax.twins), len(x)).mean(1)

    def bonus(self, x: Tensor) -> Tensor | None:
        """√(φᵀ(Σ+λI)⁻¹φ), calibrated, the mean over heads, (b,); None where the form has no bonus."""
        if self.whitening is None:
            return None
        far = torch.bmm(self.net.features(self._seen(x)), self.whitening.mT)
        lengths = (far.square().sum(-1) + 1e-12).sqrt().clamp(max=BONUS_LIMIT)
        return lengths.reshape(len(far), len(self.relax.twins), len(x)).mean((0, 1))

    def _seen(self, x: Tensor) -> Tensor:
        """All twins one under the other, (g·b, d), scaled to ±1."""
        return 2 * torch.cat([x.gather(1, twin.expand(len(x), -1)) for twin in self.relax.twins]) - 1

    def in_y(self, X: FloatArray) -> FloatArray:
        """The conservative reward of X (m, d) in y, (m,)."""
        with torch.no_grad(), without_denormals():
            parts = [self(torch.as_tensor(X[i : i + 4096], dtype=torch.float32, device=self.relax.device))
                     for i in range(0, len(X), 4096)]  # fmt: skip
        return self.y_mean + self.y_std * torch.cat(parts).double().cpu().numpy()


def _heads(relax: Relaxation, options: BRAID, rng: torch.Generator | None = None) -> StackedMLP:
    members = 1 if options.form == "none" else options.heads
    return StackedMLP(members, relax.space.d, options.hidden, generator=rng or torch.Generator(device=relax.device))


def train_reward(
    relax: Relaxation, data: Dataset, options: BRAID, *, seed: int, batch_size: int = 256, lr: float = 1e-3
) -> tuple[Reward, dict[str, float]]:
    """Fit all heads side by side, each to its bootstrap; each keeps the weights with the lowest error on rows it did not draw."""
    device, n = relax.device, len(data)
    rng = torch_generator(seed, "braid", "reward", device=device)
    x = 2 * torch.as_tensor(data.X, dtype=torch.float32, device=device) - 1
    mean, std = float(data.y.mean()), float(data.y.std()) or 1.0
    y = torch.as_tensor((data.y - mean) / std, dtype=torch.float32, device=device)
    side = torch.as_tensor(data.censored, device=device)
    net = _heads(relax, options, rng)
    members = len(net.weights[0])
    if options.form == "none":
        counts = torch.ones(1, n, device=device)
        counts[0, torch.randperm(n, generator=rng, device=device)[: max(n // 10, min(5, n // 3))]] = 0
    else:
        drawn = torch.randint(n, (members, n), generator=rng, device=device)
        counts = torch.zeros(members, n, device=device).scatter_add_(1, drawn, torch.ones(members, n, device=device))
    reach = counts.double().cumsum(1)
    looked = torch.randperm(n, generator=rng, device=device)[:2048]
    out = (counts[:, looked] == 0).float()
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    lowest = torch.full((members,), float("inf"), device=device)
    guess = torch.zeros(members, len(looked), device=device)
    adam = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, options.reward_steps)
    batch = min(batch_size, max(32, n))
    for step in track(options.reward_steps, "braid: reward"):
        draw = torch.rand((members, batch), generator=rng, device=device, dtype=torch.float64)
        rows = torch.searchsorted(reach, draw * reach[:, -1:], right=True).clamp(max=n - 1)
        flip = relax.twins[torch.randint(len(relax.twins), rows.shape, generator=rng, device=device)]
        loss = _error(net(x[rows].gather(2, flip)), y[rows], side[rows]).mean(1).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()
        if _is_check(step, options.reward_steps):
            with torch.no_grad():
                found = net(x[looked])
            error = (_error(found, y[looked], side[looked]) * out).sum(1) / out.sum(1).clamp(min=1)
            error = torch.where(out.sum(1) > 0, error, -float(step))
            better = error < lowest
            lowest = torch.where(better, error, lowest)
            guess = torch.where(better[:, None], found, guess)
            for name, value in net.state_dict().items():
                kept[name] = torch.where(better[:, None, None], value, kept[name])
    reward = Reward(relax, options, kept, mean, std)
    exact = side[looked] == 0
    if options.form == "bonus":
        missed = (guess - y[looked]) * out * exact
        reward = Reward(relax, options, kept, mean, std, _whitening(reward.net, x, counts, x[looked], missed, options.ridge))
    seen = (out.sum(0) > 0) & exact
    told = ((guess * out).sum(0) / out.sum(0).clamp(min=1))[seen].cpu().numpy()
    truth = y[looked][seen].cpu().numpy()
    high = truth >= np.quantile(truth, 0.75) if len(truth) else np.zeros(0, dtype=bool)
    return reward, {
        "reward_rank_correlation": _spearman(told, truth), "reward_rank_correlation_top_quarter": _spearman(told[high], truth[high]),
        "reward_heldout_mse": float(np.mean((told - truth) ** 2)) if len(truth) else float("nan"),
    }  # fmt: skip


def _error(guess: Tensor, y: Tensor, side: Tensor) -> Tensor:
    """Squared error; of a bound only where the guess is on its wrong side."""
    apart = guess - y
    apart = torch.where(side < 0, apart.clamp(min=0), torch.where(side > 0, apart.clamp(max=0), apart))
    return apart.square()


def _whitening(net: StackedMLP, x: Tensor, counts: Tensor, held: Tensor, missed: Tensor, ridge: float) -> Tensor:
    """L⁻¹ of each head's Gram matrix Σφφᵀ + λI over its bootstrap, scaled so that bonuses are as large as held-out errors.

    Args:
        x: (n, d) the data as the heads see it. counts: (B, n) how often each head drew a row.
        held: (m, d) rows, and `missed`: (B, m) by how much a head that did not draw them was wrong, 0 where it did.
    """
    parts = [(net.features(x[i : i + 4096]), counts[:, i : i + 4096, None]) for i in range(0, len(x), 4096)]
    gram = sum((torch.bmm((phi * count).mT, phi).double() for phi, count in parts), torch.zeros((), device=x.device))
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=x.device)
    small = ridge * gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-12)
    inverse = torch.linalg.solve_triangular(torch.linalg.cholesky(gram + small[:, None, None] * eye), eye, upper=False).float()
    bonus = torch.bmm(net.features(held), inverse.mT).square().sum(-1) * (missed != 0)
    factor = (missed.square().sum(1) / bonus.sum(1).clamp(min=1e-12)).sqrt()
    return inverse * torch.where(factor > 0, factor, 1.0)[:, None, None]


def _spearman(a: Array, b: Array) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


# ---- 3: fine-tuning


def walk(
    relax: Relaxation, net: nn.Module, z: Tensor, *, generator: torch.Generator, frozen: nn.Module | None = None,
    grad_last: int = 0, kl_last: int | None = None, shift: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Take noise z (b, d) back to designs x̂0 in [0, 1], (b, d), by ancestral steps; and the path's KL from `frozen`, (b,).

    Args:
        grad_last: gradients flow through this many of the last steps only.
        kl_last: count the KL of this many of the last steps; all where None.
        shift: changes x̂0 before the step is taken, given z, t and x̂0, such as guidance does.
    """
    steps = len(relax.schedule)
    total = torch.zeros(len(z), device=z.device)
    x = z
    for t in reversed(range(steps)):
        with torch.set_grad_enabled(t < grad_last):
            times = torch.full((len(z),), t, device=z.device)
            estimate = relax.estimate(net, z, times)
            x = relax.mean(estimate)
            if frozen is not None and t < (steps if kl_last is None else kl_last):
                old = relax.estimate(frozen, z, times)
                if t:
                    total = total + step_kl(relax.schedule, t, t - 1, relax.state(x), relax.state(relax.mean(old)))
                else:
                    total = total + relax.last_kl(estimate, old)
            if shift is not None:
                x = shift(z, times, x)
            if t:
                noise = torch.randn(z.shape, generator=generator, device=z.device)
                z = diffusion.ddpm_step(relax.schedule, z, t, relax.state(x), noise)
    return x, total


def finetune(
    relax: Relaxation, prior: Mapping[str, Tensor], reward: Callable[[Tensor], Tensor], options: BRAID, *, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Move a copy of the prior towards a larger E[reward] - α·KL by gradients through the last K steps of the walk.

    Args:
        reward: maps designs x in [0, 1], (b, d), to (b,), larger is better.
    """
    rng = torch_generator(seed, "braid", "finetune", device=relax.device)
    net, frozen = (load_denoiser(relax, prior, options) for _ in range(2))
    frozen.requires_grad_(False)
    adam = torch.optim.Adam(net.parameters(), lr=options.lr, fused=True)
    first, gained, spent = float("nan"), float("nan"), float("nan")
    for step in track(options.iterations, "braid: fine-tuning"):
        z = torch.randn((options.batch_size, relax.space.d), generator=rng, device=relax.device)
        x, kl = walk(
            relax, net, z, generator=rng, frozen=frozen if options.kl > 0 else None, grad_last=options.grad_steps,
            kl_last=options.grad_steps,
        )  # fmt: skip
        won = reward(relax.harden(x)).mean()
        loss = options.kl * kl.mean() - won
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        adam.step()
        if step == 0:
            first = won.item()
        gained, spent = won.item(), kl.mean().item()
    return {name: value.detach() for name, value in net.state_dict().items()}, {
        "reward_before": first, "reward_after": gained, "kl_last_steps": spent,
    }  # fmt: skip


def load_denoiser(relax: Relaxation, weights: Mapping[str, Tensor], options: BRAID) -> Denoiser:
    net = _denoiser(relax.space, options, relax.device)
    net.load_state_dict(weights)
    return net


@dataclass(frozen=True, eq=False)
class Trained:
    """Everything that sampling needs; the weights are plain state dicts."""

    relax: Relaxation
    prior: Mapping[str, Tensor]
    policy: Mapping[str, Tensor]
    """The fine-tuned weights; the prior's own where `mode` is guidance."""
    reward: Reward
    notes: Mapping[str, float | str]


def train(data: Dataset, options: BRAID, *, seed: int) -> Trained:
    """Fit the prior and the reward, then fine-tune.

    Raises:
        MethodError: the file of unlabelled designs cannot be used.
    """
    device = pick_device()
    relax = relaxation(data.space, options, device)
    designs = data.X
    if options.unlabelled is not None:
        designs = np.concatenate([data.X.astype(np.float32), read_unlabelled(data.space, options.unlabelled)])
    notes: dict[str, float | str] = {"device": str(device), "form": options.form, "mode": options.mode, "designs_of_prior": len(designs)}
    clock = time.perf_counter()
    with without_denormals(), torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        prior, notes["prior_heldout_nats"] = train_prior(relax, designs, options, seed=seed)
        clock, notes["seconds_prior"] = time.perf_counter(), round(time.perf_counter() - clock, 2)
        reward, of_reward = train_reward(relax, data, options, seed=seed)
        clock, notes["seconds_reward"] = time.perf_counter(), round(time.perf_counter() - clock, 2)
        policy: Mapping[str, Tensor] = prior
        of_tuning: dict[str, float] = {}
        if options.mode == "finetune":
            policy, of_tuning = finetune(relax, prior, reward, options, seed=seed)
            notes["seconds_finetuning"] = round(time.perf_counter() - clock, 2)
    return Trained(relax, prior, policy, reward, {**notes, **of_reward, **of_tuning})


# ---- 4: sampling


def sample(trained: Trained, options: BRAID, n: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Draw n designs x in [0, 1], (n, d), letters as probabilities; and the KL of each path from the prior's, (n,)."""
    relax = trained.relax
    rng = torch_generator(seed, "braid", "sample", device=relax.device)
    net = load_denoiser(relax, trained.policy, options)
    prior = load_denoiser(relax, trained.prior, options) if options.mode == "finetune" else None
    net.requires_grad_(False)
    found, spent = [], []
    with without_denormals(), torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        parts = [min(512, n - start) for start in range(0, n, 512)]
        for part in track(len(parts), "braid: sampling"):
            z = torch.randn((parts[part], relax.space.d), generator=rng, device=relax.device)
            shift = None if options.mode == "finetune" else _guide(relax, net, trained.reward, options.guidance)
            x, kl = walk(relax, net, z, generator=rng, frozen=prior, shift=shift)
            found.append(x)
            spent.append(kl)
    return torch.cat(found), torch.cat(spent)


def _guide(
    relax: Relaxation, net: nn.Module, reward: Callable[[Tensor], Tensor], weight: float
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Move x̂0 by the gradient of weight·reward(x̂0(z)) in z, as classifier guidance moves the noise estimate."""

    def shift(z: Tensor, t: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(weight * reward(relax.harden(relax.mean(relax.estimate(net, at, t)))).sum(), at)
        level = relax.schedule.alpha_bar(t, z).to(z.dtype)
        moved = relax.state(x) + (1 - level) * level.rsqrt() * slope
        return ((moved / relax.scale + 1) / 2).clamp(0, 1)

    return shift


def candidates(trained: Trained, data: Dataset, options: BRAID, n: int, *, seed: int) -> tuple[FloatArray, dict[str, float]]:
    """Collect distinct new designs X (m, d), at least n unless the space has no more.

    Samples first; where `max_rounds` of sampling hold too few, mutants of samples one to four changes away; then the whole space where
    it can be listed, random designs where it cannot.
    """
    clock, space = time.perf_counter(), data.space
    seen, found = set(data.taken), [np.zeros((0, space.d))]

    def add(X: FloatArray) -> None:
        X = np.unique(X, axis=0)
        found.append(X[space.fresh(X, known=seen)])
        seen.update(space.ids(found[-1]))

    def short() -> bool:
        return len(seen) - len(data.taken) < n

    made, spent = [], []
    while short() and len(made) < options.max_rounds:
        x, kl = sample(trained, options, options.n_samples, seed=derive(seed, "braid", "round", len(made)))
        made.append(space.repair(x.double().cpu().numpy()))
        spent.append(kl.mean().item())
        add(made[-1])
    samples = np.concatenate(made)
    generated = len(seen) - len(data.taken)
    rng = generator(seed, "braid", "fill")
    for steps in (1, 2, 3, 4):
        if short():
            add(space.mutate(samples[rng.integers(len(samples), size=8 * n + 64)], rng, steps=steps))
    if short():
        add(space.listing() if space.listable else space.sample(8 * n + 64, rng))
    notes = {
        "samples": len(samples), "unique_share": round(len(np.unique(samples, axis=0)) / len(samples), 4), "new_designs": generated,
        "filled": len(seen) - len(data.taken) - generated, "reward_of_samples": float(trained.reward.in_y(samples).mean()),
        "seconds_sampling": round(time.perf_counter() - clock, 2),
    }  # fmt: skip
    return np.concatenate(found), notes if options.mode == "guidance" else {**notes, "path_kl": float(np.mean(spent))}
