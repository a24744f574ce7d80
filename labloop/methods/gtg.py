"""GTG: guided trajectory generation (Yun, Yun, Lee & Park, "Guided Trajectory Generation with Diffusion Models for Offline
Model-based Optimization", NeurIPS 2024).

Four stages in the paper's order: `build_trajectories` joins measured designs to paths that improve,
`train_proxies` and `train_denoiser` fit an ensemble of proxies and a diffusion model of whole paths, `sample` continues paths
under a high return and a clamped context, `candidates` decodes what is on them for the proxies to filter.

Symbols: M trajectories of H states, a state being a design and its score s; s = (y - y_min) / (y_max - y_min) over what has been
measured, so the best measured design has s = 1; R, the return of a trajectory, is the mean of its s; C context states; c = d + 1.

Where this differs from the paper and its released code, and why:

 1. Scores are normalised with the measured minimum and maximum; the released code takes the hidden data's, which no lab has.
    So `eps` and `alpha` are in units of the measured range: the paper's 0.05 and 0.8 on TF Bind 8 are 0.114 and 1.82 here.
 2. The return is standardised over the trajectories before it enters the network, and `alpha` is relative to the best measured
    value: the default, a tenth above it throughout, asks for improvement without leaving all returns in training tens of standard
    deviations behind, as the paper's 0.8 does. With the best fifth of the visible TF Bind 8 held out, targets from 1 to 1.3 and
    `w` from 1 to 4 differ by no more than noise (one seed); so `w` stays at the paper's 1.2.
 3. Return conditioning is on, as in the paper; the released configurations switch it off.
 4. Letters and options enter as one-hot blocks scaled to ±1, not as logits without the first class: the logits put that class at
    three times the squared distance of any other pair. Numbers are scaled by the parameter's range, not by the data's, so the
    clip of x̂0 to ±1 is exactly the space; scores may rise to `SCORE_LIMIT`, since a clip at 1 would forbid improving.
 5. A trajectory avoids the designs that itself has visited; upstream marks them in a matrix shared by all trajectories and never
    cleared, which uses the data up. Equal distances are broken at random, not by the order of an unstable sort.
 6. With few data H is at most N/4, and at least H designs count as within `eps` of the best, so that no trajectory runs dry.
 7. Each proxy draws its own batches and leaves a tenth of the designs out, so every design has a prediction by a member that has
    not seen it. The rate falls as a cosine. Rank weighting is milder (`rank_k` 0.1 for 0.01): chosen by ranking the held-out
    best fifth of the visible TF Bind 8. On a thousand or more long sequences convolutional proxies are fitted too, and of
    letters and options ones that know words; what ranks unseen designs better is kept. For up to 500 designs 600 steps do.
 8. Default sizes suit two CPU cores: shorter horizon, smaller U-Net with SiLU for Mish, a fiftieth of the steps, at a higher,
    falling rate with weights averaged over the last tenth of them, DDIM in place of 200 ancestral steps, narrower proxies. It
    predicts the clean trajectory and starts from a guess that Bayes' rule gives (`clean`): predicting noise, it spends those
    steps on learning to copy noise through few channels, and ignores the return. `GTG.paper()` has the paper's choices.
 9. All noise is `temperature` times what the model was trained for, 1 by default: with the paper's 0.5 fewer designs were
    distinct and fewer were of that held-out fifth. Upstream's step noise is half the variance where a standard deviation belongs;
    it zeroes the noise at the first state, for a conditioning that is not used; here it is kept.
10. Candidates are decoded before they are scored, once each, measured designs left out; the paper keeps duplicates. 4,096
    trajectories are sampled for the paper's 128: it is the filter that finds the best designs, and the more it is given, the
    better it does. On TF Bind 8 the generated designs themselves are no better than random new ones (examples/benchmarks/gtg.py).
11. A bound (`<`, `>`) costs a proxy only where its prediction is on the wrong side. Symmetric twins (two strands of DNA) are one
    design: a trajectory goes on along the nearer strand, a proxy's score is the mean over both.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from labloop.methods import _diffusion as diffusion
from labloop.methods._checkpoint import Checkpoint, Stage, Warm, afresh
from labloop.methods._ranked_proxies import SLOPE, fit_proxies, predict
from labloop.methods._temporal_unet import TemporalUNet
from labloop.methods._trajectories import build_trajectories
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive, generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Block
from labloop.surrogates.networks import Features, load_stacked
from labloop.surrogates.training import Adam, Rate, pick_device, rate_of, torch_generator, without_denormals
from labloop.types import Designs, FloatArray, Values

if TYPE_CHECKING:
    from jaxtyping import Float

SCORE_LIMIT = 2.0
"""Largest s that a generated state may claim."""
BATCH = 256
"""Trajectories sampled at once: memory, not results of a seed, would grow with more."""
SAMPLES = 4
"""Trajectories sampled a measured design at most, beside `BATCH`: few measurements have few trajectories to continue."""

Fraction = Annotated[float, Field(ge=0, le=1)]


@plugin
class GTG:
    """Guided trajectory generation: diffuse over paths of improving designs, continue them, keep what the proxies like."""

    family: ClassVar[str] = "generative"
    source: ClassVar[str] = "Yun et al., NeurIPS 2024"
    cost: ClassVar[str] = "a diffusion model and proxies"

    n_traj: PositiveInt = 1000
    """M, trajectories built from the data."""
    horizon: Annotated[int, Field(ge=4)] = 16
    """H, states of a trajectory (rounded down to what the U-Net can halve)."""
    k: PositiveInt = 50
    """Nearest designs that the next state is drawn from."""
    eps: Annotated[float, Field(ge=0)] = 0.1
    """How far below the running best the next state may lie, in measured ranges."""
    start_percentile: Annotated[float, Field(ge=0, lt=100)] = 20.0
    """Trajectories start at designs of at least this percentile."""
    dim: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    """Channels of the U-Net's first level."""
    dim_mults: tuple[PositiveInt, ...] = (1, 2, 4)
    """Widths of the network's levels, as multiples of the first."""
    activation: Literal["mish", "silu"] = "silu"
    """The U-Net's curve: the paper's Mish costs a CPU four times as much as SiLU, which lies close to it."""
    predict: Literal["x0", "eps"] = "x0"
    """What the U-Net predicts, and the loss is on: the clean trajectory (see `clean`), or its noise as in the paper."""
    timesteps: PositiveInt = 200
    """T, steps of the noise schedule."""
    steps: PositiveInt = 200
    """Training steps of the diffusion model."""
    batch_size: PositiveInt = 64
    """Designs a training step."""
    lr: PositiveFloat = 2e-3
    """Learning rate."""
    score_weight: PositiveFloat = 10.0
    """Weight of the score channel in the loss."""
    p_uncond: Fraction = 0.25
    """How often training hides the return."""
    ema_decay: Fraction = 0.995
    """Of the averaged weights, every tenth step."""
    averaging: Literal["recent", "long"] = "recent"
    """How far back the average goes: over the last tenth of the training at most, or as `ema_decay` says, as in the paper."""
    rate: Rate = "falling"
    """How learning rates go, the proxies' too: down as a cosine, or as they are, as in the paper."""
    proxies: PositiveInt = 10
    """Members of the proxy ensemble."""
    proxy_hidden: tuple[PositiveInt, ...] = (256, 256)
    """Widths of the hidden layers of the network that judges."""
    proxy_steps: PositiveInt | None = None
    """Training steps of the proxies; by default six passes over the designs, 600 at least and 1,500 at most."""
    proxy_batch: PositiveInt = 128
    """Designs in a batch of the proxies, at most; as many as are measured where these are fewer."""
    proxy_lr: PositiveFloat = 1e-3
    """Its learning rate."""
    rank_k: PositiveFloat = 0.1
    """Rank weighting of the proxies' batches: 1 / (rank_k·N + rank); smaller looks more at the best."""
    features: Features = "auto"
    """What the proxies see: letters, or words too; auto: whichever ranks unseen designs better."""
    context: PositiveInt = 8
    """C, last states of a measured trajectory that a sample continues; less than H."""
    alpha: float = 1.1
    """Return asked for: 1 is a trajectory all of whose states equal the best measured value."""
    w: float = 1.2
    """Classifier-free guidance: 0 ignores the return, 1 obeys it, more exaggerates it."""
    sampling_steps: PositiveInt = 8
    """Steps from noise to a design."""
    eta: Fraction = 0.0
    """DDIM's noise: 0 none after the start, 1 ancestral."""
    temperature: PositiveFloat = 1.0
    """Factor on all noise when sampling."""
    n_samples: PositiveInt = 4096
    """Trajectories sampled in a round of sampling, at most; fewer where fewer than 1,000 designs are measured (`SAMPLES`)."""
    max_rounds: PositiveInt = 4
    """Rounds of sampling before mutants of trajectory designs fill the pool."""
    warm_start: Fraction = 0.0
    """Share of `steps` where the diffusion model starts from the one that an earlier round kept; 0 starts afresh every round."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the U-Net's products. auto: bfloat16 from `dim` 32 on where the hardware has it; below, conversions eat the gain."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The paper's TF Bind 8 settings, `eps` and `alpha` in units of the measured range; hours on a CPU."""
        settings: dict[str, Any] = {
            "horizon": 64, "context": 32, "eps": 0.114, "alpha": 1.82, "dim": 32, "dim_mults": (1, 4, 8), "activation": "mish",
            "predict": "eps", "steps": 10_000, "batch_size": 256, "lr": 2e-4, "averaging": "long", "rate": "constant",
            "proxy_steps": 1000, "proxy_hidden": (1024, 1024), "proxy_batch": 128, "rank_k": 0.01, "features": "letters",
            "sampling_steps": 200, "eta": 1.0, "temperature": 0.5, "n_samples": 128,
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train on all measurements, generate, filter. Scores are the proxies' mean prediction, in y.

        Raises:
            MethodError: fewer than n new designs are left.
        """
        trained = train(data, self, seed=seed)
        X, notes = candidates(trained, data, self, n, seed=seed)
        return Pool.best(data, X, score(trained, data.space, X), n, proposer="gtg", notes={**trained.notes, **notes})


# ---- training


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """Everything that sampling needs, as tensors and numbers; weights are plain state dicts."""

    denoiser: Mapping[str, Tensor]
    """Averaged weights of the `TemporalUNet`."""
    proxies: Mapping[str, Tensor]
    """Weights of the stacked networks."""
    context: Float[Tensor, "M C c"]
    """Last C states of every trajectory."""
    blocks: tuple[Block, ...]
    horizon: int
    low: float
    high: float
    """y at s = 0 and at s = 1."""
    return_mean: float
    return_std: float
    notes: Mapping[str, float | str]


def train(data: Dataset, options: GTG, *, seed: int) -> Trained:
    """Build trajectories, then fit the proxies and the diffusion model."""
    device, seconds = pick_device(), [time.perf_counter()]
    kept = Checkpoint.of(data, options, seed, device)
    low, high = float(data.y.min()), float(data.y.max())
    s = (data.y - low) / (high - low if high > low else 1.0)
    unit = 2 ** (len(options.dim_mults) - 1)
    horizon = max(unit * (min(options.horizon, len(data) // 4) // unit), unit, 2)
    context = min(options.context, horizon - 1 if horizon == options.horizon else horizon // 2)
    with without_denormals(), torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        paths = build_trajectories(
            data.space, data.X, s, n_traj=options.n_traj, horizon=horizon, k=options.k, eps=options.eps,
            start_percentile=options.start_percentile, seed=seed, device=device,
        )  # fmt: skip
        seconds.append(time.perf_counter())
        proxies, judged = kept.stage("proxies", lambda: train_proxies(data, s, options, seed=seed, device=device))
        seconds.append(time.perf_counter())
        warm = partial(kept.warm, "denoiser") if options.warm_start else afresh
        blocks = data.space.blocks
        denoiser, fitted = kept.stage("denoiser", lambda: train_denoiser(paths.states, blocks, options, seed=seed, warm=warm))
        seconds.append(time.perf_counter())
    along = (paths.states[:, :, -1] + 1) / 2
    notes: dict[str, float | str] = {
        "device": str(device), "precision": "bfloat16" if _half(options, device) else "float32", "horizon": horizon,
        "context": context, "trajectory_mean_first": along[:, 0].mean().item(),
        "trajectory_mean_last": along[:, -1].mean().item(), **judged, **fitted, **kept.notes,
    }  # fmt: skip
    for stage, start, end in zip(("trajectories", "proxies", "denoiser"), seconds, seconds[1:], strict=False):
        notes[f"seconds_{stage}"] = round(end - start, 2)
    return Trained(
        denoiser=denoiser, proxies=proxies, context=paths.states[:, horizon - context :].clone(),
        blocks=data.space.blocks, horizon=horizon, low=low, high=high, notes=notes, **_standard(along.mean(1)),
    )  # fmt: skip


def _standard(returns: Float[Tensor, " M"]) -> dict[str, float]:
    """Mean and standard deviation of returns; data without spread count as spread by a thousandth of the range."""
    return {"return_mean": returns.mean().item(), "return_std": max(returns.std(correction=0).item(), 1e-3)}


def _half(options: GTG, device: torch.device) -> bool:
    wide = options.precision == "auto" and options.dim >= 32 and diffusion.fast_bfloat16(device)
    return wide or options.precision == "bfloat16"


def train_proxies(data: Dataset, s: Values, options: GTG, *, seed: int, device: torch.device | str = "cpu") -> Stage:
    """Fit all proxies at once to s, larger is better, as `fit_proxies` tells."""
    steps = options.proxy_steps or min(1_500, max(600, 6 * len(data) // options.proxy_batch))
    return fit_proxies(
        data, s, options.proxies, options.proxy_hidden, steps=steps, batch=options.proxy_batch, lr=options.proxy_lr,
        rate=options.rate, rank_k=options.rank_k, features=options.features, seed=seed, device=device,
    )  # fmt: skip


def score(trained: Trained, space: DesignSpace, X: Designs) -> Values:
    """Give the proxies' mean prediction of designs X in y."""
    device = trained.context.device
    net = load_stacked(trained.proxies, slope=SLOPE, space=space)
    twins = 2 * torch.tensor(space.orbit(X), dtype=torch.float32, device=device) - 1
    with without_denormals():
        s = predict(net, twins).mean(0).double().cpu().numpy()
    return trained.low + s * (trained.high - trained.low if trained.high > trained.low else 1.0)


def train_denoiser(
    states: Float[Tensor, "M H c"], blocks: tuple[Block, ...], options: GTG, *, seed: int, warm: Warm = afresh
) -> Stage:  # fmt: skip
    """Fit the noise of whole trajectories, the return hidden at random: averaged weights and `denoiser_loss`.

    Where `warm` gives the network an earlier round's weights, it takes `warm_start` of the steps.
    """
    device = states.device
    rng = torch_generator(seed, "gtg", "denoiser", device=device)
    net = TemporalUNet.fresh(states.shape[2], options.dim, options.dim_mults, options.activation, generator=rng)
    steps = max(1, round(options.warm_start * options.steps)) if warm(net) else options.steps
    average = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in net.state_dict().items()}
    schedule = diffusion.NoiseSchedule.cosine(options.timesteps).to(device)
    returns = (states[:, :, -1].mean(1) + 1) / 2
    standard = _standard(returns)
    returns = (returns - standard["return_mean"]) / standard["return_std"]
    weight = torch.ones(states.shape[2], device=device)
    weight[-1] = options.score_weight
    adam = Adam(net.parameters(), lr=options.lr, fused=True)
    rate = rate_of(adam, options.rate, steps, least=0.05 * options.lr)
    decay, recent = decay_of(options, steps), 0.0
    for step in track(steps, "gtg: diffusion"):
        rows = torch.randint(len(states), (options.batch_size,), generator=rng, device=device)
        t = torch.randint(options.timesteps, (options.batch_size,), generator=rng, device=device)
        shown = (torch.rand(options.batch_size, generator=rng, device=device) >= options.p_uncond).float()
        noise = torch.randn((len(rows), *states.shape[1:]), generator=rng, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=_half(options, device)):
            guess = net(x := diffusion.q_sample(schedule, states[rows], t, noise), t, returns[rows], shown).float()
        error = diffusion.clean(schedule, blocks, x, t, guess) - states[rows] if options.predict == "x0" else guess - noise
        loss = (error**2 * weight).mean()
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        rate.step()
        if step % 10 == 9 or step == steps - 1:
            diffusion.ema_update(average, net, decay if step >= steps // 5 else 0.0)
            recent = 0.9 * recent + 0.1 * loss.item() if recent else loss.item()
    return average, {"denoiser_loss": recent, "denoiser_steps": steps}


def decay_of(options: GTG, steps: int) -> float:
    """Decay of weights averaged every tenth step: 0.995 remembers 2,000, far too many where there are fewer than 10,000."""
    return options.ema_decay if options.averaging == "long" else min(options.ema_decay, max(1 - 100 / steps, 0.0))


# ---- sampling and filtering


def sample(trained: Trained, options: GTG, n: int, *, seed: int) -> Float[Tensor, "n H c"]:
    """Generate n trajectories: the first C states are the last C of a measured one, the model writes the rest."""
    context = trained.context
    device, (c, channels) = context.device, context.shape[1:]
    rng = torch_generator(seed, "gtg", "sample", device=device)
    net = TemporalUNet.fresh(channels, options.dim, options.dim_mults, options.activation, generator=torch.Generator(device))
    net.load_state_dict(dict(trained.denoiser))
    schedule = diffusion.NoiseSchedule.cosine(options.timesteps).to(device)
    target = (options.alpha - trained.return_mean) / trained.return_std
    limit = torch.ones(channels, device=device)
    limit[-1] = 2 * max(SCORE_LIMIT, options.alpha) - 1
    mask = (torch.arange(trained.horizon, device=device) < c)[:, None]

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        twice, when, shown = torch.cat([x, x]), torch.cat([t, t]), torch.cat([torch.ones_like(t), torch.zeros_like(t)]).float()
        with torch.autocast(device.type, torch.bfloat16, enabled=_half(options, device)):
            both = net(twice, when, torch.full_like(shown, target), shown).float()
        if options.predict == "x0":
            both = diffusion.clean(schedule, trained.blocks, twice, when, both)
        conditional, unconditional = both.chunk(2)
        guided = diffusion.classifier_free(unconditional, conditional, options.w)
        return guided if options.predict == "x0" else diffusion.x0_from_eps(schedule, x, t, guided)

    rows = torch.randint(len(context), (n,), generator=rng, device=device)
    known = F.pad(context[rows], (0, 0, 0, trained.horizon - c))
    clamp = partial(diffusion.inpaint, known=known, mask=mask)
    x = options.temperature * torch.randn(known.shape, generator=rng, device=device)
    with without_denormals(), torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        return diffusion.sample(
            schedule, denoise, clamp(x), steps=options.sampling_steps, generator=rng, eta=options.eta,
            temperature=options.temperature, clip=lambda x0: x0.clamp(-torch.ones_like(limit), limit), after=clamp,
        )  # fmt: skip


def candidates(trained: Trained, data: Dataset, options: GTG, n: int, *, seed: int) -> tuple[Designs, dict[str, float]]:
    """Collect distinct new designs X, at least n unless the space has no more.

    Generated ones first; where `max_rounds` of sampling hold too few, mutants of the designs that trajectories end in, one to
    four changes away; then the whole space where it can be listed, random designs where it cannot.
    """
    clock, space = time.perf_counter(), data.space
    seen, found = set(data.taken), [np.zeros((0, space.d))]

    def add(X: FloatArray) -> None:
        X = np.unique(X, axis=0)
        found.append(X[[i for i, one in enumerate(space.ids(X)) if not (one in seen or seen.add(one))]])  # type: ignore[func-returns-value]

    def short() -> bool:
        return len(seen) - len(data.taken) < n

    made = rounds = 0
    wanted = min(options.n_samples, BATCH + SAMPLES * len(data))
    while short() and rounds < options.max_rounds:
        for part in track(-(-wanted // BATCH), "gtg: sampling"):
            b = min(BATCH, wanted - part * BATCH)
            states = sample(trained, options, b, seed=derive(seed, "gtg", "sample", rounds, part))
            raw = _designs(states[:, trained.context.shape[1] :])
            add(space.repair(raw))
            made += len(raw)
        rounds += 1
    generated = len(seen) - len(data.taken)
    rng = generator(seed, "gtg", "fill")
    parents = space.repair(_designs(trained.context))
    for steps in (1, 2, 3, 4):
        if short():
            add(space.mutate(parents[rng.integers(len(parents), size=8 * n + 64)], rng, steps=steps))
    if short():
        add(space.listing() if space.listable else space.sample(8 * n + 64, rng))
    return np.concatenate(found), {
        "candidates": made, "sampling_rounds": rounds, "new_designs": generated, "unique_new_share": round(generated / made, 4),
        "filled": len(seen) - len(data.taken) - generated, "seconds_sampling": round(time.perf_counter() - clock, 2),
    }  # fmt: skip


def _designs(states: Float[Tensor, "M H c"]) -> Designs:
    """The design part of states, one after the other, scaled back to X (m·H, d); not projected."""
    return (states[:, :, :-1].flatten(0, 1).double().cpu().numpy() + 1) / 2
