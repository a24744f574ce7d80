"""Conservative objective models: learn to predict low where the search would go without support from data, then search.

Source: Trabucco, Kumar, Geng, Levine, "Conservative Objective Models for Effective Offline Model-Based Optimization", ICML
2021, with the settings of the authors' later code (`coms_cleaned` in design-baselines), which differ from the paper's text.
Symbols: f_θ the model, x_T the particle that T steps of ascent reach from x, Δ = f_θ(x_T) − f_θ(x), τ the overestimation
limit in standard deviations of y, α the weight of the conservative term.

    L_θ = mean[(f_θ(x) − y)² + α·Δ],  α a constant here     L_a = mean[α·(τ − Δ)],  α = exp(a), one Adam step together

so α grows while the mean of Δ is above τ and shrinks otherwise. Particles are constants in L_θ.

Where this differs from that code, and why:

 1. Two hidden layers of 256 instead of 2,048 (`hidden_sizes`): 25 to 30 times cheaper. Of the paper's method on TF Bind 8
    after 500 steps, 2,048 gave a median of .594 and α = .018 (one seed), 256 gave .51 to .55 and .03 to .05 (four seeds): no
    loss is seen, but the test is weak.
 2. `projected`: after each step a particle is moved onto the design space (the letter of each one-hot position, the range of
    each number, the simplex of each mixture; grids and constraints aside). What a lab orders are designs, so their value is
    what must not be overestimated. Unprojected particles run far outside, the penalty is spent out there, and with few data
    the network meets it by making every measured design a peak: on 500 8-mers of the lower half the ranking of the other
    designs is lost, and a batch of 96 that f_θ likes best is as good as random ones. A lab can see this without an oracle:
    with the best fifth and 40 other designs held out (three draws of 500, 1,000 steps), Spearman's correlation of f_θ and y
    there was .006 unprojected, .061 projected, .076 with α = 0. Projected letters soon stand still, so T is 10 for them.
    `projected=False` is the paper's ascent.
 3. `search`: where the space can be listed f_θ scores every design and nothing is climbed; projected particles, being
    designs, have guarded against exactly that. Elsewhere the search is the ascent from the n best measured designs, and the
    pool holds each start's best visited new design, then each start's second best, and so on; what then lacks to n is found
    by evolutionary search on f_θ. The paper returns each start's last particle, repeats and measured designs included:
    `Model.climb` gives those.
 4. At least `min_steps` = 250 steps: 50 passes over 60 points are no training. More steps ranked the held-out designs worse
    (projected: .070 after 500, .061 after 1,000, .051 after 2,000); trained on half of 24 to 500 measured reactions, oxides,
    8-mers and proteins, 250 steps ranked the other half as 500 did (five sets, four halvings each: at most .005 below). And at
    most `max_steps` = 2,000: of 27,000 8-mers of the lower half, the best tenth and a tenth of the rest held out, all of the
    latter were ranked by .335 after 9,200 steps, .378 after 3,680, .385 after 1,840 and .383 after 920 (three seeds).
 5. In runs of fewer than 5,000 steps log α learns faster (`alpha_lr`), or its start at 0.1 would rule the whole run: a
    network that fits its few data does not recover from an early penalty that the limit did not ask for. Seen on the held-out
    designs, projected, 500 steps: .071 with 0.01, .076 with 0.1.
 6. Mixed spaces: one-hot columns step by 2·√d and other columns by 0.05·√d, as the code's discrete and continuous tasks
    do; τ is 2 where all blocks are one-hot, else 0.5. Other columns are z-scored; one-hot ones, as in that code, are not.
    The log odds single out the first letter; `relaxation="onehot"` does not, and is an option, not the default, because the
    held-out designs of 2. could not tell them apart (.076 and .079).
 7. Symmetric twins (both strands) augment the training data with the same y; the score of a design is the mean over them.
 8. A censored value is a bound: only a prediction on its wrong side counts as an error.
 9. The ascent may run in bfloat16 (positions stay float32) where the hardware has matrix units for it.
10. Full batches only: what is left of a pass is dropped, and the next pass is shuffled anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from labloop.methods import _offer
from labloop.methods._ascent import Networks, ascend, last
from labloop.methods._checkpoint import Checkpoint, Stage
from labloop.methods._forward import View, over_twins, squared_error
from labloop.methods._relaxation import Kind, Relaxation
from labloop.proposing import search
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.surrogates.training import Adam, log, torch_generator, without_denormals
from labloop.types import Designs, FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@plugin
class COMs:
    """Conservative objective model: learn low where there is no data, then search."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Trabucco et al., ICML 2021"
    cost: ClassVar[str] = "one network and 10 to 50 ascents a step"

    hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 256)
    """Widths of the hidden ReLU layers; (2048, 2048) in the reference code."""
    epochs: PositiveInt = 50
    """Passes over the dataset."""
    min_steps: NonNegativeInt = 250
    """Train at least this many steps, however small the dataset."""
    max_steps: PositiveInt | None = 2_000
    """Train at most this many steps, however large the dataset."""
    batch_size: PositiveInt = 128
    """Designs a training step."""
    lr: PositiveFloat = 3e-4
    """Learning rate."""
    val_size: NonNegativeInt = 500
    """Designs held out to report Δ, at most a tenth of the data; never used to stop."""
    overestimation_limit: float | None = None
    """τ in standard deviations of y; by default 2.0 where every block is one-hot, 0.5 elsewhere."""
    alpha: NonNegativeFloat | None = None
    """A fixed α; by default it is learned. With 0 the model is trained by squared error alone."""
    alpha_init: PositiveFloat = 0.1
    """Weight of the conservative part of the loss at the beginning."""
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
    relaxation: Kind = "logits"
    """One-hot positions as K−1 log odds against the first letter (Design-Bench), or as K columns that treat all letters alike."""
    projected: bool = True
    """Move each particle onto the design space after each step."""
    search: Literal["auto", "ascent", "enumerate"] = "auto"
    """Score every design where the space can be listed, climb elsewhere."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the ascent; `auto` takes bfloat16 for large layers on hardware that has matrix units for it."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The settings of the authors' later code (of TF Bind 8, where step and limit follow the space): hours on a CPU.

        Theirs of July 2021, when the published figures stood there, had `particle_lr=0.05, overestimation_limit=0.5`.
        """
        settings: dict[str, Any] = {
            "hidden_sizes": (2048, 2048), "epochs": 50, "min_steps": 0, "max_steps": None, "alpha_lr": 0.01, "projected": False,
            "search": "ascent",
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train on the data and offer n new designs, best conservative value first.

        Raises:
            MethodError: fewer than two designs are measured, fewer than n new ones exist, or `search="enumerate"` in a space
                that cannot be listed.
        """
        listed = _offer.listed(data, self.search, "coms")
        model = train(data, self, [derive(seed, "coms")])

        def score(X: FloatArray) -> FloatArray:
            return model.score(X)[0]  # type: ignore[no-any-return]

        if listed:
            return _offer.everything(data, score, n, proposer="coms", notes=model.notes(0))
        path = model.climb(data.X[data.top(n)], seed=derive(seed, "climb"))[:, 0]
        return _offer.paths(
            data, path, score, n, seed=derive(seed, "search"), proposer="coms", notes=model.notes(0),
            generations=search.GENERATIONS, population=search.POPULATION,
        )  # fmt: skip


# ---- training

Climb = Callable[[Networks, Tensor, Sequence[torch.Generator]], Iterator[Tensor]]


@dataclass(frozen=True, eq=False)
class Model:
    """Trained networks and what is needed to search with them."""

    nets: Networks
    relaxation: Relaxation
    options: COMs
    rate: Float[Tensor, " r"]
    """η."""
    dtype: torch.dtype
    y_mean: float
    y_std: float
    tau: float
    steps: int
    seconds: float
    alpha: Float[FloatArray, " E"]
    """α at the end."""
    alpha_path: Float[FloatArray, "T E"]
    """α before each step."""
    delta: Float[FloatArray, " E"]
    """Mean Δ on the held-out designs; NaN where none were held out."""
    mse: Float[FloatArray, " E"]
    """Mean squared error there in variances of y; NaN likewise."""
    resumed: Mapping[str, str]
    """Tells where the training was not done again."""

    @property
    def members(self) -> int:
        return len(self.nets.weights[0])

    def score(self, X: Designs, *, chunk: int = 8_192) -> Float[FloatArray, "E m"]:
        """Give the conservative value of designs in units of y, mean over symmetric twins."""

        def f(twin: FloatArray) -> Tensor:
            return self.nets(self._tensor(self.relaxation.encode(twin)).expand(self.members, -1, -1))

        return self.y_mean + self.y_std * over_twins(f, self.relaxation.space, X, self.members, chunk=chunk)

    def climb(self, X: Designs, *, seed: int = 0) -> Float[FloatArray, "T E m d"]:
        """Climb from designs; give those after each step, repaired and canonical."""
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
            **self.resumed,
        }

    def _tensor(self, Z: Float[FloatArray, "m r"]) -> Float[Tensor, "m r"]:
        return torch.tensor(Z, dtype=torch.float32, device=self.rate.device)


def _arithmetic(options: COMs, rows: int, device: torch.device) -> torch.dtype:
    """Choose the ascent's dtype by what the hardware is and the product's size, never by timing: a run must repeat itself."""
    if options.dtype != "auto":
        return torch.bfloat16 if options.dtype == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = bool(torch.cpu.get_capabilities().get("amx_bf16", False)) if hasattr(torch.cpu, "get_capabilities") else False
    return torch.bfloat16 if fast and rows * min(options.hidden_sizes) >= 128 * 256 else torch.float32


def _climber(
    options: COMs, relaxation: Relaxation, rate: Float[Tensor, " r"], dtype: torch.dtype, *, training: bool
) -> Climb:  # fmt: skip
    """Make the ascent of these options, one and the same for mining and for solving."""
    steps = options.particle_train_gradient_steps or (10 if options.projected and relaxation.discrete.all() else 50)
    if not training:
        steps = options.particle_evaluate_gradient_steps or steps
    project = relaxation.projection(rate.device) if options.projected else None
    settles, kappa = options.projected and bool(relaxation.discrete.all()), options.particle_entropy_coefficient
    return lambda nets, z, gens: ascend(
        nets, z, rate, steps, dtype=dtype, project=project, settles=settles, kappa=kappa, gens=gens
    )


def train(data: Dataset, options: COMs, seeds: Sequence[int]) -> Model:
    """Train one conservative model a seed, all in one batched computation; each depends on its own seed alone.

    Raises:
        MethodError: fewer than two designs are measured.
    """
    began, members = time.perf_counter(), len(seeds)
    view = View.of(data, options.relaxation, proposer="coms")
    relaxation, device, Z, y, side = view.relaxation, view.device, view.Z, view.y, view.side
    n, r, discrete = len(data), Z.shape[1], relaxation.discrete
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
    rows = torch.cat([orders[:, n_val:] + k * n for k in range(len(Z) // n)], 1)  # a design's twins are held out with it
    batch = min(options.batch_size, rows.shape[1])
    steps = max(options.min_steps, options.epochs * (rows.shape[1] // batch))
    steps = min(steps, options.max_steps or steps)
    dtype = _arithmetic(options, batch, device)
    log.info("coms: %d steps of %d designs on %s (%s)", steps, batch, device, dtype)

    def fit() -> Stage:
        alpha_lr = options.alpha_lr or max(0.01, min(0.1, 50 / steps))
        nets = Networks.draw(seeds, (r, *options.hidden_sizes, 1), device)
        a = torch.full((members,), math.log(options.alpha_init), device=device, requires_grad=True)
        adam = Adam([{"params": [*nets.weights, *nets.biases], "lr": options.lr}, {"params": [a], "lr": alpha_lr}], fused=True)
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
                    x_T = last(mine(nets, x, gens))
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
                    x_T = last(mine(nets, Z[held], gens))
                    f = nets(torch.cat([Z[held], x_T], 1))
                    delta, mse = (f[:, n_val:] - f[:, :n_val]).mean(1), _squared_error(f[:, :n_val], y[held], side[held])
        networks = {f"{kind}.{i}": one.detach() for kind in ("weights", "biases") for i, one in enumerate(getattr(nets, kind))}
        learned = a.detach().exp() if fixed is None else fixed
        return {**networks, "alpha": learned, "alpha_path": torch.stack(alpha_path), "delta": delta, "mse": mse}, {}

    kept = Checkpoint.of(data, options, derive(0, *seeds), device)
    found, _ = kept.stage("networks", fit)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    layers = range(len(options.hidden_sizes) + 1)
    told = {name: found[name].cpu().double().numpy() for name in ("alpha", "alpha_path", "delta", "mse")}
    return Model(
        nets=Networks([found[f"weights.{i}"] for i in layers], [found[f"biases.{i}"] for i in layers]), relaxation=relaxation,
        options=options, rate=rate, dtype=dtype, y_mean=view.location, y_std=view.scale, tau=tau,
        steps=steps, seconds=time.perf_counter() - began, resumed=kept.notes, **told,
    )  # fmt: skip


def _batches(
    rows: Int[Tensor, "E m"], batch: int, gens: Sequence[torch.Generator]
) -> Iterator[Int[Tensor, "E b"]]:  # fmt: skip
    """Give batches of row numbers for ever; every network shuffles its own rows with its own generator."""
    while True:
        order = torch.stack([own[torch.randperm(len(own), generator=gen)] for own, gen in zip(rows, gens, strict=True)])
        for start in range(0, order.shape[1] - batch + 1, batch):
            yield order[:, start : start + batch]


def _squared_error(
    f: Float[Tensor, "E b"], y: Float[Tensor, "E b"], side: Float[Tensor, "E b"]
) -> Float[Tensor, " E"]:  # fmt: skip
    """Mean squared error of each network; below an upper bound (side −1) and above a lower one (+1) is no error."""
    return squared_error(f, y, side).mean(1)
