"""Conservative objective models: learn to predict low where the search would go without support from data, then search.

Source: Trabucco, Kumar, Geng, Levine, "Conservative Objective Models for Effective Offline Model-Based Optimization", ICML
2021, with the settings of the authors' later code (`coms_cleaned` in design-baselines), which differ from the paper's text.
Symbols: f_θ the model, x_T the particle that T steps of ascent reach from x, Δ = f_θ(x_T) − f_θ(x), τ the overestimation
limit in standard deviations of y, α the weight of the conservative term.

    L_θ = mean[(f_θ(x) − y)² + α·Δ],  α a constant here     L_a = mean[α·(τ − Δ)],  α = exp(a), one Adam step together

so α grows while the mean of Δ is above τ and shrinks otherwise. Particles are constants in L_θ.

Where this differs from that code, and why:

 1. Two hidden layers of 256 instead of 2,048 (`hidden_sizes`): 25 to 30 times cheaper, no difference seen on TF Bind 8.
 2. `projected`: after each particle step the particle is moved onto the design space (argmax of each one-hot position, range
    of each number, simplex of each mixture; constraints aside), with T = 10 because projected particles soon stand still.
    A lab orders designs, so what the search may overestimate is their value; unprojected particles run far outside, the
    penalty is spent there, and with 500 points the ranking of real designs is destroyed. Seen on designs a lab has (500
    8-mers of the lower half, the top fifth and 40 others held out, three draws): Spearman correlation of f_θ and y there
    .006 unprojected, .061 projected, .076 without the conservative term, after 1,000 steps. `projected=False` with
    `search="ascent"` is the paper's method.
 3. `search`: where the space can be listed, f_θ scores every design and nothing is climbed (the particles that train f_θ
    are designs then, so training still guards against what the search can reach). Elsewhere the ascent visits designs, and
    the pool is each start's best visited new design by f_θ, then each start's second best, and so on; where starts from
    the n best measured designs do not visit n new ones, the search goes on from mutants of the best measured designs. The
    paper returns the last particle of each start, repeats and measured designs included: `climb` gives those.
 4. At least `min_steps` steps: 50 passes over 60 points are no training. 500 steps let α change by a factor of 150, and
    on the same held-out designs more steps ranked worse (.070 after 500, .061 after 1,000, .051 after 2,000).
 5. Mixed spaces: one-hot columns step by 2·√d and other columns by 0.05·√d, as the code's discrete and continuous tasks
    do; τ is 2 where all blocks are one-hot, else 0.5. Other columns are z-scored; one-hot ones, as in that code, are not.
 6. Symmetric twins (both strands) augment the training data with the same y; the score of a design is the mean over them.
 7. A censored value is a bound: only a prediction on its wrong side counts as an error.
 8. The ascent may run in bfloat16 (positions stay float32) where the hardware has matrix units for it.
 9. Batches of full size only; what is left of a pass is dropped (the next pass is shuffled anew).
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from labloop.dataset import Dataset
from labloop.errors import MethodError
from labloop.methods._train import pick_device, torch_generator, without_denormals
from labloop.parameters import Array, Block, FloatArray
from labloop.pool import Pool
from labloop.progress import track
from labloop.registry import plugin
from labloop.seeds import derive, generator
from labloop.space import DesignSpace

log = logging.getLogger("labloop")

BETA = 0.6
"""How much of a relaxed one-hot position is the letter itself; the rest is spread evenly (Design-Bench)."""


@plugin
class COMs:
    """Conservative objective model: learn low where there is no data, then search."""

    hidden_sizes: tuple[PositiveInt, ...] = (256, 256)
    """Widths of the hidden ReLU layers; (2048, 2048) in the reference code."""
    epochs: PositiveInt = 50
    """Passes over the dataset."""
    min_steps: NonNegativeInt = 500
    """Train at least this many steps, however small the dataset."""
    batch_size: PositiveInt = 128
    lr: PositiveFloat = 3e-4
    val_size: NonNegativeInt = 500
    """Designs held out to report Δ, at most a tenth of the data; never used to stop."""
    overestimation_limit: float | None = None
    """τ in standard deviations of y; by default 2.0 where every block is one-hot, 0.5 elsewhere."""
    alpha: NonNegativeFloat | None = None
    """A fixed α; by default it is learned. With 0 the model is trained by squared error alone."""
    alpha_init: PositiveFloat = 0.1
    alpha_lr: PositiveFloat | None = None
    """Adam's step on log α; by default 0.01, in runs of fewer than 5,000 steps 50/steps up to 0.1."""
    noise_std: NonNegativeFloat = 0.0
    """Standard deviation of normal noise added to the inputs in training."""
    particle_lr: PositiveFloat | None = None
    """Step of a particle over √d; by default 2.0 for one-hot columns and 0.05 for others."""
    particle_train_gradient_steps: PositiveInt | None = None
    """T in training; by default 10 where particles are projected and every block is one-hot, else 50."""
    particle_evaluate_gradient_steps: PositiveInt | None = None
    """T in the search; by default as in training."""
    particle_entropy_coefficient: NonNegativeFloat = 0.0
    """κ: weight of the mean squared distance between particles and shuffled particles."""
    relaxation: Literal["logits", "onehot"] = "logits"
    """One-hot positions as K−1 log odds against the first letter (Design-Bench), or as K columns that treat all letters alike."""
    projected: bool = True
    """Move each particle onto the design space after each step."""
    search: Literal["auto", "ascent", "enumerate"] = "auto"
    """Score every design where the space can be listed, climb elsewhere."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the ascent; `auto` takes bfloat16 for large layers on hardware that has matrix units for it."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train on the data and offer n new designs, best conservative value first.

        Raises:
            MethodError: fewer than two designs are measured, fewer than n new ones exist, or `search="enumerate"` in a space
                that cannot be listed.
        """
        listed = data.space.listable if self.search == "auto" else self.search == "enumerate"
        if listed and not data.space.listable:
            raise MethodError(f"coms cannot enumerate {data.space.size:.3g} designs: use search='auto' or 'ascent'")
        model = train(data, self, [derive(seed, "coms")])
        notes = {**model.notes(0), "search": "enumerate" if listed else "ascent"}
        if listed:
            X = data.space.listing()
            return Pool.best(data, X, model.score(X)[0], n, proposer="coms", notes=notes)
        X, score = _visit(model, data, n, seed)
        return Pool.of(data.space, X, score, proposer="coms", notes=notes)


# ---- where particles live


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The real vectors in which particles move: X (n, d) to Z (n, r) and back.

    A one-hot position is o, p = β·o + (1−β)/K, then log p_k − log p_0 for k = 1 … K−1 (`logits`; for K = 4 the values are
    −1.9459, 0 and 1.9459), or log p_k − log((1−β)/K) for all k (`onehot`; 0 and 1.9459). Other columns are z-scored.
    """

    space: DesignSpace
    kind: Literal["logits", "onehot"]
    mean: FloatArray
    """(r,), 0 for one-hot columns."""
    std: FloatArray
    """(r,), 1 for one-hot columns."""

    @classmethod
    def of(cls, data: Dataset, kind: Literal["logits", "onehot"]) -> Relaxation:
        """Take means and standard deviations from the data; a column that never changes keeps its scale."""
        plain = cls(data.space, kind, np.zeros(1), np.ones(1))
        Z = plain.encode(data.X)
        std = Z.std(0)
        fixed = plain.discrete
        return cls(data.space, kind, np.where(fixed, 0.0, Z.mean(0)), np.where(fixed | (std < 1e-9), 1.0, std))

    @cached_property
    def _slices(self) -> list[tuple[Block, slice]]:
        widths = [
            block.rows * (block.classes - 1) if block.kind == "onehot" and self.kind == "logits" else block.stop - block.start
            for block in self.space.blocks
        ]
        ends = list(itertools.accumulate(widths))
        return [(b, slice(end - width, end)) for b, width, end in zip(self.space.blocks, widths, ends, strict=True)]

    @cached_property
    def discrete(self) -> Array:
        """Which columns of Z belong to one-hot positions, (r,) bool."""
        out = np.zeros(self._slices[-1][1].stop, dtype=bool)
        for block, columns in self._slices:
            out[columns] = block.kind == "onehot"
        return out

    def _letters(self, classes: int) -> FloatArray:
        """The relaxed position of each letter, (K, K−1) or (K, K)."""
        p = BETA * np.eye(classes) + (1 - BETA) / classes
        if self.kind == "logits":
            return np.log(p[:, 1:]) - np.log(p[:, :1])  # type: ignore[no-any-return]
        return np.log(p) - math.log((1 - BETA) / classes)  # type: ignore[no-any-return]

    def encode(self, X: FloatArray) -> FloatArray:
        """Relax valid encodings X (n, d) to Z (n, r)."""
        parts = []
        for block, _ in self._slices:
            part = X[:, block.start : block.stop]
            if block.kind == "onehot":
                codes = part.reshape(len(X), block.rows, block.classes).argmax(-1)
                part = self._letters(block.classes)[codes].reshape(len(X), -1)
            parts.append(part)
        return (np.concatenate(parts, axis=1) - self.mean) / self.std

    def decode(self, Z: FloatArray) -> FloatArray:
        """Turn any Z (n, r) into the (n, d) matrix whose projection onto the space is the design."""
        Z = np.asarray(Z, dtype=float) * self.std + self.mean
        parts = []
        for block, columns in self._slices:
            part = Z[:, columns]
            if block.kind == "onehot" and self.kind == "logits":
                part = part.reshape(len(Z), block.rows, block.classes - 1)
                part = np.concatenate([np.zeros((len(Z), block.rows, 1)), part], axis=2).reshape(len(Z), -1)
            parts.append(part)
        return np.concatenate(parts, axis=1)

    def projection(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Give the map of particles (…, r) onto the space: nearest letter, range, simplex; grids and constraints aside."""
        maps = []
        for block, columns in self._slices:
            if block.kind == "onehot":
                table = torch.tensor(self._letters(block.classes), dtype=torch.float32, device=device)
                maps.append((columns, _to_letters(block.rows, table)))
            else:
                mean, std = (torch.tensor(a[columns], dtype=torch.float32, device=device) for a in (self.mean, self.std))
                maps.append((columns, _to_range(mean, std, _unit if block.kind == "unit" else _simplex)))
        if len(maps) == 1:
            return maps[0][1]
        return lambda z: torch.cat([move(z[..., columns]) for columns, move in maps], -1)


def _to_letters(rows: int, table: Tensor) -> Callable[[Tensor], Tensor]:
    """Replace each position by the relaxed letter it decodes to; `table` is (K, K−1) log odds or (K, K) columns."""
    missing = table.shape[0] - table.shape[1]  # the first letter's log odds against itself, 0, is left out of the former
    return lambda z: table[F.pad(z.unflatten(-1, (rows, -1)), (missing, 0)).argmax(-1)].flatten(-2)


def _to_range(mean: Tensor, std: Tensor, onto: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda z: (onto(z * std + mean) - mean) / std


def _unit(x: Tensor) -> Tensor:
    return x.clamp(0, 1)


def _simplex(x: Tensor) -> Tensor:
    """Project rows onto the simplex (Duchi et al., ICML 2008, figure 1)."""
    ordered = x.sort(-1, descending=True).values
    excess = (ordered.cumsum(-1) - 1) / torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    last = (ordered > excess).sum(-1, keepdim=True) - 1
    return (x - excess.gather(-1, last)).clamp(min=0)


# ---- networks of several seeds side by side


@dataclass(frozen=True, eq=False)
class Networks:
    """E ReLU networks, one a seed: weights (E, in, out) and biases (E, 1, out) of each layer."""

    weights: list[Tensor]
    biases: list[Tensor]

    @classmethod
    def draw(cls, seeds: Sequence[int], widths: Sequence[int], device: torch.device) -> Networks:
        """Draw each network from its own seed alone, as Keras does (uniform within √(6/(in + out)), biases 0)."""
        gens = [torch_generator(seed, "coms", "weights") for seed in seeds]
        weights, biases = [], []
        for fan_in, fan_out in itertools.pairwise(widths):
            drawn = torch.stack([torch.rand(fan_in, fan_out, generator=gen) for gen in gens])
            weights.append(((2 * drawn - 1) * math.sqrt(6 / (fan_in + fan_out))).to(device).requires_grad_())
            biases.append(torch.zeros(len(seeds), 1, fan_out, device=device, requires_grad=True))
        return cls(weights, biases)

    def __call__(self, z: Tensor) -> Tensor:
        """Predict standardised y: (E, b, r) to (E, b), larger is better."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = F.relu(torch.baddbmm(bias, z, weight))
        return torch.baddbmm(self.biases[-1], z, self.weights[-1])[..., 0]


def ascend(
    nets: Networks, z: Tensor, rate: Tensor, steps: int, *,
    dtype: torch.dtype = torch.float32, project: Callable[[Tensor], Tensor] | None = None,
    kappa: float = 0.0, gens: Sequence[torch.Generator] = (),
) -> Iterator[Tensor]:  # fmt: skip
    """Climb f_θ from z (E, b, r) by x ← x + η·∇[f_θ(x) + κ·H]; yield the particles after each step. Mining and solving.

    The gradient of a ReLU network is written out, w_L masked by each layer on the way back, which is 3 to 4.5 times faster than
    autograd. H = mean (x − x_perm)² over particles and columns, x_perm a random permutation, summed over the batch as f_θ is.

    Args:
        rate: η (r,), one a column.
        project: applied to the particles after each step.
        gens: one generator a network, used where κ is not 0.
    """
    with torch.no_grad():
        into = [weight.to(dtype) for weight in nets.weights[:-1]]
        biases = [bias.to(dtype) for bias in nets.biases[:-1]]
        last = nets.weights[-1].transpose(1, 2).to(dtype).expand(-1, z.shape[1], -1)
        back = [weight.transpose(1, 2).contiguous() for weight in into[1:]]
        home = (nets.weights[0].detach() * rate[:, None]).transpose(1, 2).to(dtype).contiguous()
        for _ in range(steps):
            h, hidden = z.to(dtype), []
            for weight, bias in zip(into, biases, strict=True):
                h = torch.baddbmm(bias, h, weight).relu_()
                hidden.append(h)
            g = torch.ops.aten.threshold_backward(last, hidden.pop(), 0)
            for weight, h in zip(reversed(back), reversed(hidden), strict=True):
                g = torch.ops.aten.threshold_backward(torch.bmm(g, weight), h, 0)
            move = torch.bmm(g, home).float()
            if kappa:
                move = move + rate * kappa * _spread(z, gens)
            z = z + move
            if project is not None:
                z = project(z)
            yield z


def _spread(z: Tensor, gens: Sequence[torch.Generator]) -> Tensor:
    """∂(b·H)/∂x of every particle: each occurs once as x and once as another's x_perm."""
    perm = torch.stack([torch.randperm(z.shape[1], generator=gen) for gen in gens]).to(z.device)[..., None].expand_as(z)
    return 2 / z.shape[-1] * (2 * z - z.gather(1, perm) - z.gather(1, perm.argsort(1)))


def _last(steps: Iterator[Tensor]) -> Tensor:
    for z in steps:  # noqa: B007
        pass
    return z


def _arithmetic(options: COMs, rows: int, device: torch.device) -> torch.dtype:
    """Choose the ascent's dtype by what the hardware is and the product's size, never by timing: a run must repeat itself."""
    if options.dtype != "auto":
        return torch.bfloat16 if options.dtype == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = bool(torch.cpu.get_capabilities().get("amx_bf16", False)) if hasattr(torch.cpu, "get_capabilities") else False
    return torch.bfloat16 if fast and rows * min(options.hidden_sizes) >= 128 * 256 else torch.float32


# ---- training

Climb = Callable[[Networks, Tensor, Sequence[torch.Generator]], Iterator[Tensor]]


@dataclass(frozen=True, eq=False)
class Model:
    """Trained networks and what is needed to search with them."""

    nets: Networks
    relaxation: Relaxation
    options: COMs
    rate: Tensor
    """η (r,)."""
    dtype: torch.dtype
    y_mean: float
    y_std: float
    tau: float
    steps: int
    seconds: float
    alpha: FloatArray
    """α at the end, (E,)."""
    alpha_path: FloatArray
    """α before each step, (steps, E)."""
    delta: FloatArray
    """Mean Δ on the held-out designs, (E,); NaN where none were held out."""
    mse: FloatArray
    """Mean squared error there in variances of y, (E,); NaN likewise."""

    @property
    def members(self) -> int:
        return len(self.nets.weights[0])

    def score(self, X: FloatArray, *, chunk: int = 8_192) -> FloatArray:
        """Give the conservative value of designs X (m, d) in units of y, mean over symmetric twins, (E, m)."""
        out = np.zeros((self.members, len(X)))
        with torch.no_grad(), without_denormals():
            for start in range(0, len(X), chunk):
                twins = self.relaxation.space.orbit(X[start : start + chunk])
                for twin in twins:
                    f = self.nets(self._tensor(self.relaxation.encode(twin)).expand(self.members, -1, -1))
                    out[:, start : start + chunk] += f.double().cpu().numpy() / len(twins)
        return self.y_mean + self.y_std * out

    def climb(self, X: FloatArray, *, seed: int = 0) -> FloatArray:
        """Climb from designs X (b, d); give the designs after each step, (T, E, b, d), repaired and canonical."""
        z = self._tensor(self.relaxation.encode(X)).expand(self.members, -1, -1)
        gens = [torch_generator(seed, "coms", "climb", i) for i in range(self.members)]
        with without_denormals():
            climb = _climber(self.options, self.relaxation, self.rate, self.dtype, training=False)
            path = torch.stack(list(climb(self.nets, z, gens)))
        designs = self.relaxation.space.repair(self.relaxation.decode(path.flatten(0, 2).cpu().double().numpy()))
        return designs.reshape(*path.shape[:3], -1)

    def notes(self, member: int) -> dict[str, Any]:
        """Tell of the training of one network in plain numbers."""
        held_out = {"delta_validation": self.delta[member], "mse_validation": self.mse[member]}
        return {
            "alpha": float(self.alpha[member]),
            **{key: float(value) for key, value in held_out.items() if np.isfinite(value)},
            "overestimation_limit": self.tau,
            "steps": self.steps,
            "device": str(self.rate.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "seconds": round(self.seconds, 3),
        }

    def _tensor(self, Z: FloatArray) -> Tensor:
        return torch.tensor(Z, dtype=torch.float32, device=self.rate.device)


def _climber(options: COMs, relaxation: Relaxation, rate: Tensor, dtype: torch.dtype, *, training: bool) -> Climb:
    """Make the ascent of these options, one and the same for mining and for solving."""
    steps = options.particle_train_gradient_steps or (10 if options.projected and relaxation.discrete.all() else 50)
    if not training:
        steps = options.particle_evaluate_gradient_steps or steps
    project = relaxation.projection(rate.device) if options.projected else None
    kappa = options.particle_entropy_coefficient
    return lambda nets, z, gens: ascend(nets, z, rate, steps, dtype=dtype, project=project, kappa=kappa, gens=gens)


def train(data: Dataset, options: COMs, seeds: Sequence[int]) -> Model:
    """Train one conservative model a seed, all in one batched computation; each depends on its own seed alone.

    Raises:
        MethodError: fewer than two designs are measured.
    """
    if len(data) < 2:
        raise MethodError(f"coms learns from at least two measured designs, there are {len(data)}: measure a first plate")
    began, device, members = time.perf_counter(), pick_device(), len(seeds)
    relaxation = Relaxation.of(data, options.relaxation)
    twins = [relaxation.encode(twin) for twin in data.space.orbit(data.X)]
    y_mean, y_std = float(data.y.mean()), float(data.y.std()) or 1.0
    n, r = len(data), twins[0].shape[1]
    Z = torch.tensor(np.concatenate(twins), dtype=torch.float32, device=device)
    y = torch.tensor((data.y - y_mean) / y_std, dtype=torch.float32, device=device).repeat(len(twins))
    side = torch.tensor(data.censored, dtype=torch.float32, device=device).repeat(len(twins))
    discrete = relaxation.discrete
    tau = options.overestimation_limit
    if tau is None:
        tau = 2.0 if discrete.all() else 0.5
    rate = torch.tensor(
        [(options.particle_lr or (2.0 if one else 0.05)) * math.sqrt(r) for one in discrete], dtype=torch.float32, device=device
    )

    gens = [torch_generator(seed, "coms", "batches") for seed in seeds]
    orders = torch.stack([torch.randperm(n, generator=gen) for gen in gens])
    n_val = min(options.val_size, n // 10)
    held = orders[:, :n_val].to(device)
    rows = torch.cat([orders[:, n_val:] + k * n for k in range(len(twins))], 1)  # a design's twins are held out with it
    batch = min(options.batch_size, rows.shape[1])
    steps = max(options.min_steps, options.epochs * (rows.shape[1] // batch))
    dtype = _arithmetic(options, batch, device)
    log.info("coms: %d steps of %d designs on %s (%s)", steps, batch, device, dtype)

    alpha_lr = options.alpha_lr or max(0.01, min(0.1, 50 / steps))
    nets = Networks.draw(seeds, (r, *options.hidden_sizes, 1), device)
    a = torch.full((members,), math.log(options.alpha_init), device=device, requires_grad=True)
    adam = torch.optim.Adam(
        [{"params": [*nets.weights, *nets.biases], "lr": options.lr}, {"params": [a], "lr": alpha_lr}], fused=True
    )
    fixed = None if options.alpha is None else torch.full((members,), options.alpha, device=device)
    mine = _climber(options, relaxation, rate, dtype, training=True)
    alpha_path = []
    with without_denormals():
        for _, index in zip(track(steps, "coms: training"), _batches(rows, batch, gens), strict=False):
            index = index.to(device)
            x = Z[index]
            if options.noise_std:
                drawn = torch.stack([torch.randn(batch, r, generator=gen) for gen in gens]).to(device)
                x = x + options.noise_std * drawn
            alpha = a.detach().exp() if fixed is None else fixed
            alpha_path.append(alpha)
            if options.alpha == 0:
                loss = _squared_error(nets(x), y[index], side[index]).sum()
            else:
                x_T = _last(mine(nets, x, gens))
                f = nets(torch.cat([x, x_T], 1))
                delta = (f[:, batch:] - f[:, :batch]).mean(1)
                loss = (_squared_error(f[:, :batch], y[index], side[index]) + alpha * delta).sum()
                loss = loss + (a.exp() * (tau - delta.detach())).sum()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
        delta = mse = torch.full((members,), math.nan)
        if n_val:
            with torch.no_grad():
                x_T = _last(mine(nets, Z[held], gens))
                f = nets(torch.cat([Z[held], x_T], 1))
                delta, mse = (f[:, n_val:] - f[:, :n_val]).mean(1), _squared_error(f[:, :n_val], y[held], side[held])
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Model(
        nets=nets, relaxation=relaxation, options=options, rate=rate, dtype=dtype, y_mean=y_mean, y_std=y_std, tau=tau,
        steps=steps, seconds=time.perf_counter() - began,
        alpha=(a.detach().exp() if fixed is None else fixed).cpu().double().numpy(),
        alpha_path=torch.stack(alpha_path).cpu().double().numpy(),
        delta=delta.cpu().double().numpy(), mse=mse.cpu().double().numpy(),
    )  # fmt: skip


def _batches(rows: Tensor, batch: int, gens: Sequence[torch.Generator]) -> Iterator[Tensor]:
    """Give batches of row numbers (E, batch) for ever; every network shuffles its own rows (E, m) with its own generator."""
    while True:
        order = torch.stack([own[torch.randperm(len(own), generator=gen)] for own, gen in zip(rows, gens, strict=True)])
        yield from order[:, : order.shape[1] // batch * batch].split(batch, 1)


def _squared_error(f: Tensor, y: Tensor, side: Tensor) -> Tensor:
    """Mean squared error of each network, (E,); below an upper bound (side −1) and above a lower one (+1) is no error."""
    error = f - y
    return torch.where(error * side > 0, 0.0, error).square().mean(1)


# ---- solving where the space is too large to list


def _visit(model: Model, data: Dataset, n: int, seed: int, *, rounds: int = 20) -> tuple[FloatArray, FloatArray]:
    """Collect n new designs from the paths of particles: X (n, d) and score (n,), best first.

    Raises:
        MethodError: the paths do not visit n new designs.
    """
    space, rng = data.space, generator(seed, "coms", "restarts")
    best = data.X[data.top(n)]
    starts, X, score, place = best, np.zeros((0, space.d)), np.zeros(0), np.zeros(0)
    for turn in range(rounds):
        path = model.climb(starts, seed=derive(seed, "climb", turn))[:, 0]
        path = np.concatenate([path, starts[None]])
        values = model.score(path.reshape(-1, space.d))[0].reshape(path.shape[:2])
        rank = (-values).argsort(0, kind="stable").argsort(0, kind="stable")
        X = np.concatenate([X, path.reshape(-1, space.d)])
        score = np.concatenate([score, values.ravel()])
        place = np.concatenate([place, (turn * len(path) + rank).ravel()])
        new = space.fresh(X, known=data.taken)
        if len(new) >= n:
            break
        X, score, place = X[new], score[new], place[new]
        starts = space.mutate(best, rng, steps=turn + 1)
    else:
        if space.listable:
            X = space.listing()
            pool = Pool.best(data, X, model.score(X)[0], n, proposer="coms")
            return pool.X, pool.score
        raise MethodError(f"coms found {len(new)} of the {n} new designs asked for: ask for fewer, or widen the space")
    # A design visited by several starts counts at its best place, so places are sorted before repeats are dropped.
    order = np.lexsort((-score, place))
    keep = order[space.fresh(X[order], known=data.taken)][:n]
    keep = keep[np.argsort(-score[keep], kind="stable")]
    return X[keep], score[keep]
