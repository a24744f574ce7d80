"""BRAID: fine-tune a diffusion model on a reward that is low where the data do not reach (Uehara et al., "Bridging Model-Based
Optimization and Generative Modeling via Conservative Fine-Tuning of Diffusion Models", NeurIPS 2024).

Four stages: a diffusion prior p_pre is fitted to designs without values (`labloop.methods._prior`, with the reasons for its
continuous picture of discrete designs), a conservative reward r - g to the measurements (`labloop.methods._conservative`),
`finetune` moves a copy of the prior towards max E[r - g] - α·KL(P_θ ‖ P_pre), and `sample` draws from it. STRL is the same
without g; Guidance leaves the weights alone and bends the sampling. Rewards are in standard deviations of the measured y, KL in
nats.

Symbols: T steps, x_t the noised state, x̂0 the network's estimate, K last steps with gradient, B heads, φ a head's last hidden
layer.

Where this differs from the paper and from the authors' released sequence code, and why:

 1. A Gaussian diffusion of T = 10 steps in place of the Jacobi diffusion on the simplex with 50: one process serves letters,
    options, numbers and mixtures, float32 is enough for it, and letters are decided within the K steps that have a gradient.
    The network is small: fewer than 0.1 M weights in place of 13 M.
 2. p_pre is fitted to the campaign's own designs, and to a file of unlabelled ones where there is one. It stops where the loss
    of held-out designs is lowest: thirty designs it would otherwise learn by heart, and have nothing new to offer.
 3. The KL of a step is ‖Δmean‖²/2σ², Girsanov's g² in continuous time; the released code has g³. The last step, which adds no
    noise, has the KL of the letters' probabilities.
 4. α is 0 in the released notebooks. Here it is relative to the reward's standard deviation over the prior's designs, which a
    lab need not know: at 0.3 a design three deviations above the mean is worth ten nats, a plate's worth of designs is left to
    choose from. As in the code the loss counts the last K steps; the notes tell the whole path's KL (`path_kl`), and of long
    sequences how differently from the data samples (`3mer_distance`) and the prior's own (`3mer_distance_of_prior`) are
    composed: where the former is far above the latter, a larger `kl` keeps them at home.
 5. One Adam for the whole run: the released code makes a new one each iteration, which turns it into signed gradient descent.
 6. The reward sees the likeliest letters of the last estimate and passes its gradient on to their probabilities
    (straight-through): one fitted to designs has never seen soft ones. The released code sharpens them by a temperature of 0.1.
 7. Heads are dense; on long sequences convolutional ones are fitted too, and what is better on held-out rows is kept. They stop
    where the error of rows outside their bootstrap is lowest; ten heads, not three. `penalty` p scales Boot from the mean of
    the heads (0) to their minimum (1, the paper's), or to their maximum (-1, SEIKO's optimism).
 8. Bonus takes the features of all heads, each with its own Gram matrix, and is scaled so that it is as large as the errors on
    rows outside the bootstrap: c in units of a network's features is nothing a lab could set, `penalty` is c in these. As in
    the sibling code it is clipped.
 9. STRL's reward is one network, a tenth of the rows held out for stopping. `BRAID(penalty=0)` has the mean of the heads
    instead.
10. Guidance climbs r(x̂0(x_t)), not r(x_t): the reward knows no noised designs.
11. Samples are ranked by the reward and offered once, measured ones left out; the paper scores raw samples. As many are drawn as
    still raise the reward of the 128 best: on TF Bind 8 those of 8,192 come within a thousandth of the best there are.
12. Bounds (`<`, `>`) cost a head only where it is on their wrong side. The two strands of DNA are shown to the networks at
    random and share one reward, the mean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from labloop.methods import _diffusion as diffusion
from labloop.methods._checkpoint import Checkpoint, Stage, Warm, afresh
from labloop.methods._composition import count_3mers, distance_of_3mers
from labloop.methods._conservative import Form, Reward, train_reward
from labloop.methods._prior import States, load_denoiser, read_unlabelled, train_prior, walk
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive, generator
from labloop.space.design_space import DesignSpace
from labloop.surrogates.networks import Features, length_of
from labloop.surrogates.training import Adam, pick_device, torch_generator, without_denormals
from labloop.types import Array, FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float


@plugin
class BRAID:
    """Conservative fine-tuning of a diffusion model: designs that look real and that a cautious reward likes."""

    family: ClassVar[str] = "generative"
    source: ClassVar[str] = "Uehara et al., NeurIPS 2024"
    cost: ClassVar[str] = "a diffusion model, fine-tuned, and ten networks"

    name: ClassVar[str] = "braid"

    form: Form = "boot"
    """How the reward is cautious: least of bootstrapped heads, their mean less a bonus for unknown features, or not at all."""
    mode: Literal["finetune", "guidance"] = "finetune"
    """Move the model's weights, or only bend its sampling by the reward's gradient."""
    penalty: float = 1.0
    """How much caution counts: 1 is the paper's, 0 none, below 0 the unknown is sought."""
    kl: NonNegativeFloat = 0.3
    """α: what a nat of divergence from the prior costs, in standard deviations of the reward over the prior's designs."""
    heads: PositiveInt = 10
    """B, bootstrapped reward heads; `form: none` has one on all data."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 256)
    """Hidden layers of a head."""
    reward_steps: PositiveInt = 800
    """Training steps of the heads at most."""
    reward_lr: PositiveFloat = 1e-3
    """Learning rate of the networks that judge."""
    ridge: PositiveFloat = 1e-3
    """λ of the bonus, relative to the Gram matrix's mean diagonal."""
    features: Features = "auto"
    """What the reward sees: letters, or words too; auto: whichever predicts unseen designs better. A bonus is one of letters."""
    unlabelled: Path | None = None
    """CSV file of designs without values (natural sequences, a library) that the prior learns too; columns as in the campaign."""
    width: Annotated[int, Field(ge=8)] = 64
    """Channels of the prior's network; twice as many where it is dense: on short sequences, options, numbers."""
    depth: PositiveInt = 3
    """Residual layers of the prior's network."""
    prior_steps: PositiveInt = 1000
    """Training steps of the prior at most."""
    prior_lr: PositiveFloat = 2e-3
    """Learning rate of the diffusion model."""
    warm_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of `prior_steps` where the prior starts from the one that an earlier round kept; 0 starts afresh every round."""
    steps: Annotated[int, Field(ge=2)] = 10
    """T, steps of the reverse walk."""
    grad_steps: PositiveInt = 5
    """K, last steps with gradient."""
    iterations: PositiveInt = 120
    """Fine-tuning steps."""
    batch_size: PositiveInt = 128
    """Designs a training step."""
    lr: PositiveFloat = 1e-3
    """Learning rate of fine-tuning."""
    guidance: PositiveFloat = 10.0
    """Weight of the reward's gradient where `mode` is guidance, in the unit of `kl`."""
    n_samples: PositiveInt = 8192
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
        return Pool.best(data, X, trained.reward.in_y(X), n, proposer=self.name, notes={**trained.notes, **notes})


@plugin
class BRAIDBonus(BRAID):
    """BRAID with the bonus: the reward falls with the distance of a design's features from those of the data."""

    name: ClassVar[str] = "braid_bonus"
    form: Form = "bonus"


@plugin
class STRL(BRAID):
    """Fine-tuning of the diffusion model on the plain reward, without caution: what BRAID is compared with."""

    name: ClassVar[str] = "strl"
    form: Form = "none"


@plugin
class Guidance(BRAID):
    """The prior bent by the plain reward's gradient as it samples, no weight changed: what BRAID is compared with."""

    name: ClassVar[str] = "guidance"
    form: Form = "none"
    mode: Literal["finetune", "guidance"] = "guidance"


# ---- training


@dataclass(frozen=True, eq=False)
class Trained:
    """Everything that sampling needs; weights are plain state dicts."""

    states: States
    prior: Mapping[str, Tensor]
    policy: Mapping[str, Tensor]
    """The fine-tuned weights; the prior's own where `mode` is guidance."""
    reward: Reward
    unit: float
    """Standard deviation of the reward over the prior's designs."""
    notes: Mapping[str, float | str]
    counts: Array | None = None
    """3-mers of the designs that the prior learned, where these are long sequences."""


def train(data: Dataset, options: BRAID, *, seed: int) -> Trained:
    """Fit the prior and the reward, then fine-tune.

    Raises:
        MethodError: the file of unlabelled designs cannot be used.
    """
    device = pick_device()
    kept = Checkpoint.of(data, options, seed, device)
    states = States(data.space, diffusion.NoiseSchedule.cosine(options.steps).to(device), device)
    designs = data.X.astype(np.float32)
    if options.unlabelled is not None:
        designs = np.concatenate([designs, read_unlabelled(data.space, options.unlabelled)])
    notes: dict[str, float | str] = {
        "device": str(device),
        "form": options.form,
        "mode": options.mode,
        "prior_designs": len(designs),
    }
    with without_denormals(), torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        clock = time.perf_counter()
        warm = partial(kept.warm, "prior") if options.warm_start else afresh
        prior, learned = kept.stage("prior", lambda: learn_prior(
            states, designs, options, warm=warm, seed=derive(seed, "braid", "prior")
        ))  # fmt: skip
        clock, notes["seconds_prior"] = time.perf_counter(), round(time.perf_counter() - clock, 2)
        fitted, judged = kept.stage("reward", lambda: learn_reward(states, data, options, seed=derive(seed, "braid", "reward")))
        reward = Reward.of(states, data, fitted, form=options.form, penalty=options.penalty)
        clock, notes["seconds_reward"] = time.perf_counter(), round(time.perf_counter() - clock, 2)
        typical = prior_designs(states, prior, seed=seed)
        unit = reward_spread(reward, typical)
        counts = None
        if length_of(data.space) > 1:
            counts = count_3mers(designs, data.space.blocks[0].classes)
            notes["3mer_distance_of_prior"] = _distance(typical.cpu().numpy(), counts, data.space)
        policy: Mapping[str, Tensor] = prior
        tuned: dict[str, float] = {}
        if options.mode == "finetune":
            policy, tuned = kept.stage("policy", lambda: finetune(states, prior, reward, options, unit=unit, seed=seed))
            notes["seconds_finetuning"] = round(time.perf_counter() - clock, 2)
    told = {**notes, "reward_spread": unit, **learned, **judged, **tuned, **kept.notes}
    return Trained(states, prior, policy, reward, unit, told, counts)


def learn_prior(states: States, designs: Array, options: BRAID, *, warm: Warm = afresh, seed: int) -> Stage:
    """Fit the prior to designs (m, d); see `train_prior`."""
    return train_prior(
        states, designs, width=options.width, depth=options.depth, lr=options.prior_lr,
        steps=min(options.prior_steps, prior_steps(len(designs))), batch_size=prior_batch(states.space, len(designs)),
        warm=warm, warm_start=options.warm_start, seed=seed,
    )  # fmt: skip


def prior_batch(space: DesignSpace, designs: int) -> int:
    """Designs a step of the prior. Of few long sequences, whose steps are dear, 64 teach as much as 256: held-out loss is alike
    (100 of 32 amino acids, 500 and 2,000 of 50 nucleotides)."""
    return 64 if length_of(space) > 1 and prior_steps(designs) == prior_steps(0) else 256


def prior_steps(designs: int) -> int:
    """Steps of the prior that so many designs are worth: thirty passes over them, 300 at least."""
    return max(300, 30 * designs // 256)


def learn_reward(states: States, data: Dataset, options: BRAID, *, seed: int) -> Stage:
    """Fit the reward's heads to the measurements; see `train_reward`."""
    return train_reward(
        states, data, form=options.form, heads=options.heads, hidden=options.hidden, steps=options.reward_steps,
        lr=options.reward_lr, ridge=options.ridge, features=options.features, seed=seed,
    )  # fmt: skip


def prior_designs(states: States, prior: Mapping[str, Tensor], *, seed: int) -> Float[Tensor, "512 d"]:
    """Draw 512 designs of the prior, letters one-hot."""
    rng = torch_generator(seed, "braid", "spread", device=states.device)
    with torch.no_grad():
        z = torch.randn((512, states.space.d), generator=rng, device=states.device)
        return states.harden(walk(states, load_denoiser(states, prior), z, generator=rng)[0])


def reward_spread(reward: Callable[[Tensor], Tensor], designs: Float[Tensor, "n d"]) -> float:
    """Standard deviation of a reward over designs; 1 where all are alike."""
    with torch.no_grad():
        spread = reward(designs).std().item()
    return spread if spread > 1e-6 else 1.0


def _distance(X: Array, counts: Array, space: DesignSpace) -> float:
    """How differently from `counts` the first 512 sequences X are composed."""
    return round(distance_of_3mers(count_3mers(X[:512], space.blocks[0].classes), counts), 4)


def finetune(
    states: States, prior: Mapping[str, Tensor], reward: Callable[[Tensor], Tensor], options: BRAID, *, unit: float = 1.0,
    seed: int,
) -> Stage:  # fmt: skip
    """Move a copy of the prior towards a larger E[reward]/unit - α·KL, by gradients through the last K steps of the walk.

    Args:
        reward: maps designs in [0, 1], (b, d), letters one-hot, to (b,), larger is better.

    Returns:
        The weights; the mean reward of the first and of the last tenth of the iterations, and the last steps' KL in the latter.
    """
    rng = torch_generator(seed, "braid", "finetune", device=states.device)
    net, frozen = load_denoiser(states, prior), load_denoiser(states, prior).requires_grad_(False)
    adam = Adam(net.parameters(), lr=options.lr, fused=True)
    gained, spent = [], []
    for _ in track(options.iterations, "braid: fine-tuning"):
        z = torch.randn((options.batch_size, states.space.d), generator=rng, device=states.device)
        x, kl = walk(states, net, z, generator=rng, frozen=frozen, grad_last=options.grad_steps, kl_last=options.grad_steps)
        won, cost = reward(states.harden(x)).mean(), kl.mean()
        adam.zero_grad()
        torch.autograd.backward(options.kl * cost - won / unit)
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        adam.step()
        gained.append(won.detach())
        spent.append(cost.detach())
    tenth = max(1, options.iterations // 10)
    return {name: value.detach() for name, value in net.state_dict().items()}, {
        "reward_before": torch.stack(gained[:tenth]).mean().item(), "reward_after": torch.stack(gained[-tenth:]).mean().item(),
        "kl_last_steps": torch.stack(spent[-tenth:]).mean().item(),
    }  # fmt: skip


# ---- sampling


def sample(
    trained: Trained, options: BRAID, n: int, *, seed: int
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:  # fmt: skip
    """Draw n designs in [0, 1], letters as probabilities; and the KL of each whole path from the prior's."""
    states = trained.states
    rng = torch_generator(seed, "braid", "sample", device=states.device)
    net, frozen, shift = load_denoiser(states, trained.policy).requires_grad_(False), None, None
    if options.mode == "finetune":
        frozen = load_denoiser(states, trained.prior).requires_grad_(False)
    else:
        shift = _guide(states, net, trained.reward, options.guidance / trained.unit)
    designs, kls = [], []
    with without_denormals(), torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        parts = [min(512, n - start) for start in range(0, n, 512)]
        for part in track(len(parts), "braid: sampling"):
            z = torch.randn((parts[part], states.space.d), generator=rng, device=states.device)
            x, kl = walk(states, net, z, generator=rng, frozen=frozen, shift=shift)
            designs.append(x)
            kls.append(kl)
    return torch.cat(designs), torch.cat(kls)


def _guide(
    states: States, net: nn.Module, reward: Callable[[Tensor], Tensor], weight: float
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Shift x̂0 as classifier guidance shifts the noise estimate, by the gradient of weight·reward(x̂0(x_t)) in x_t."""

    def shift(z: Tensor, t: Tensor, x: Tensor) -> Tensor:
        def value(at: Tensor) -> Tensor:
            return weight * reward(states.harden(states.mean(states.estimate(net, at, t))))

        eps = diffusion.eps_from_x0(states.schedule, z, t, states.state(x))
        guided = diffusion.gradient_guidance(states.schedule, z, t, eps, value)
        return ((diffusion.x0_from_eps(states.schedule, z, t, guided) / states.scale + 1) / 2).clamp(0, 1)

    return shift


def candidates(trained: Trained, data: Dataset, options: BRAID, n: int, *, seed: int) -> tuple[FloatArray, dict[str, float]]:
    """Collect distinct new designs X (m, d), at least n unless the space has no more.

    Samples first; where `max_rounds` of sampling hold too few, mutants of samples one to four changes away; then the whole space
    where it can be listed, random designs where it cannot.
    """
    clock, space = time.perf_counter(), data.space
    seen, found = set(data.taken), [np.zeros((0, space.d))]

    def add(X: FloatArray) -> None:
        X = np.unique(X, axis=0)
        found.append(X[space.fresh(X, known=seen)])
        seen.update(space.ids(found[-1]))

    def short() -> bool:
        return len(seen) - len(data.taken) < n

    drawn: list[FloatArray] = []
    kls: list[float] = []
    while short() and len(drawn) < options.max_rounds:
        x, kl = sample(trained, options, options.n_samples, seed=derive(seed, "braid", "round", len(drawn)))
        drawn.append(space.repair(x.double().cpu().numpy()))
        kls.append(kl.mean().item())
        add(drawn[-1])
    samples, generated = np.concatenate(drawn), len(seen) - len(data.taken)
    rng = generator(seed, "braid", "fill")
    for steps in (1, 2, 3, 4):
        if short():
            add(space.mutate(samples[rng.integers(len(samples), size=8 * n + 64)], rng, steps=steps))
    if short():
        add(space.listing() if space.listable else space.sample(8 * n + 64, rng))
    notes = {
        "samples": len(samples), "unique_share": round(len(np.unique(samples, axis=0)) / len(samples), 4),
        "new_designs": generated, "filled": len(seen) - len(data.taken) - generated,
        "reward_of_samples": float(trained.reward.in_y(samples).mean()),
        "seconds_sampling": round(time.perf_counter() - clock, 2),
    }  # fmt: skip
    if trained.counts is not None:
        notes["3mer_distance"] = _distance(samples, trained.counts, space)
    return np.concatenate(found), notes if options.mode == "guidance" else {**notes, "path_kl": float(np.mean(kls))}
