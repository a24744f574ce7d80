"""A reward that is low where the data do not reach: bootstrapped heads, joined by their least or lowered by a bonus.

Sources: Uehara et al., "Bridging Model-Based Optimization and Generative Modeling via Conservative Fine-Tuning of Diffusion
Models" (NeurIPS 2024) for both forms; Uehara et al., "Feedback Efficient Online Fine-Tuning of Diffusion Models" (ICML 2024,
SEIKO) for the same forms with the opposite sign.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from labloop.methods._checkpoint import Stage
from labloop.methods._prior import States, is_check
from labloop.proposing.dataset import Dataset
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.surrogates.kernel_networks import StackedKernel, fit_kernel, handicap, worth_trying
from labloop.surrogates.networks import Features, Stacked, StackedCNN, StackedMLP, behind, first_look, load_stacked, networks
from labloop.surrogates.sees import lift
from labloop.surrogates.training import Adam, torch_generator, without_denormals
from labloop.types import Array, FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float, Int

BONUS_LIMIT = 10.0
"""Largest bonus, in standard deviations of y."""
CHUNK = 4096
"""Rows that pass through the heads at once."""
PATIENCE = 0.25
"""Share of the steps without a better head after which a training ends."""

Form = Literal["boot", "bonus", "none"]


def conserve(
    heads: Float[Tensor, "B b"], bonus: Float[Tensor, " b"] | None, form: Form, penalty: float
) -> Float[Tensor, " b"]:  # fmt: skip
    """Join heads, and the bonus where the form has one, to one reward.

    Boot with penalty 1 is the heads' minimum, with -1 their maximum, with 0 their mean; others lie on the lines through these.
    """
    mean = heads.mean(0)
    if form == "boot":
        furthest = heads.amin(0) if penalty > 0 else heads.amax(0)
        return mean + abs(penalty) * (furthest - mean)
    return mean if bonus is None else mean - penalty * bonus


@dataclass(frozen=True, eq=False)
class Reward:
    """A fitted reward of designs x in [0, 1], soft or hard, in standard deviations of y; symmetric twins alike."""

    states: States
    form: Form
    penalty: float
    weights: Mapping[str, Tensor]
    """State dict of the heads."""
    y_mean: float
    y_std: float
    whitening: Float[Tensor, "B w w"] | None = None
    """Of the bonus, see `_whitening`."""

    @classmethod
    def of(cls, states: States, data: Dataset, fitted: Mapping[str, Tensor], *, form: Form, penalty: float = 1.0) -> Reward:
        """Make a reward of what `train_reward` fitted to these data."""
        heads = {name: value for name, value in fitted.items() if name != "whitening"}
        return cls(states, form, penalty, heads, *_scale(data), fitted.get("whitening"))

    @cached_property
    def net(self) -> Stacked:
        return load_stacked(self.weights, space=self.states.space)

    def __call__(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The conservative reward."""
        return conserve(self.heads(x), self.bonus(x), self.form, self.penalty)

    def heads(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "B b"]:
        """What each head believes."""
        if isinstance(self.net, StackedKernel):  # is the same for all twins
            return self.net(2 * x - 1)
        found = self.net(self._seen(x))
        return found.reshape(len(found), len(self.states.twins), len(x)).mean(1)

    def bonus(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"] | None:
        """κ√(φᵀ(Σ+λI)⁻¹φ), the mean over heads; None where the form has no bonus."""
        if self.whitening is None or isinstance(self.net, StackedKernel):
            return None
        apart = torch.bmm(self.net.features(self._seen(x)), self.whitening.mT)
        lengths = (apart.square().sum(-1) + 1e-12).sqrt().clamp(max=BONUS_LIMIT)
        return lengths.reshape(len(apart), len(self.states.twins), len(x)).mean((0, 1))

    def _seen(self, x: Tensor) -> Tensor:
        """All twins, one set under the other, (g·b, d), scaled to ±1 as the heads see them."""
        return 2 * torch.cat([x.gather(1, twin.expand(len(x), -1)) for twin in self.states.twins]) - 1

    def in_y(self, X: FloatArray) -> FloatArray:
        """The conservative reward of X (m, d) in y, (m,)."""
        return self._told(X, self)

    def plain_in_y(self, X: FloatArray) -> FloatArray:
        """The mean of the heads in y, (m,): what is believed, without caution."""
        return self._told(X, lambda x: self.heads(x).mean(0))

    def _told(self, X: FloatArray, reward: Callable[[Tensor], Tensor]) -> FloatArray:
        with torch.no_grad(), without_denormals():
            parts = [reward(torch.tensor(X[i : i + CHUNK], dtype=torch.float32, device=self.states.device))
                     for i in range(0, len(X), CHUNK)]  # fmt: skip
        return self.y_mean + self.y_std * torch.cat(parts).double().cpu().numpy()


def train_reward(
    states: States, data: Dataset, *, form: Form, heads: int = 10, hidden: tuple[int, ...] = (256, 256), steps: int = 800,
    lr: float = 1e-3, batch_size: int = 256, ridge: float = 1e-3, features: Features = "letters", seed: int,
) -> Stage:  # fmt: skip
    """Fit the heads side by side, each to a bootstrap of the data.

    Each keeps the weights that had the least error on rows it did not draw. The form `none` has one head, on nine rows in ten.
    With features `auto` the heads are fitted a kernel's way too (`kernel_networks`; not for a bonus, which is one of dense
    features), and on many long sequences convolutional; the way with the least of that error is kept: where a motif counts
    wherever it stands, dense heads learn next to nothing.

    Returns:
        What `Reward.of` takes; and how good the heads' mean is on rows that they did not draw: rank correlation with y, over all
        of these and over their best quarter, and mean squared error in variances of y; where several
        ways were tried, as `reward_words` and `reward_convolutional` which it is.
    """
    device, n = states.device, len(data)
    rng = torch_generator(seed, "reward", device=device)
    mean, std = _scale(data)
    rows = _Rows(
        2 * torch.tensor(data.X, dtype=torch.float32, device=device) - 1,
        torch.as_tensor((data.y - mean) / std, dtype=torch.float32, device=device),
        torch.tensor(data.censored, device=device),
    )
    counts = _draws(n, heads, form, rng)
    nets = networks(data, len(counts), hidden, generator=rng, lift=lift(data))
    first = next(nets)  # drawn before the held rows, as its seed always was
    held = torch.randperm(n, generator=rng, device=device)[:2048]
    batch = min(batch_size, max(32, n))
    fits: list[Fit] = []
    if features != "letters" and form != "bonus" and worth_trying(data):
        twins = 2 * torch.tensor(data.space.orbit(data.X), dtype=torch.float32, device=device) - 1
        words = fit_kernel(data, twins, rows.y, counts, unit=(0.5, 0.5), seed=derive(seed, "words"))
        with torch.no_grad():
            guess = torch.cat([words(part) for part in rows.x[held].split(CHUNK)], 1)
        error = _missed(guess, rows, held, counts).mean().item()
        if features == "auto" and error < 1:
            known = (1 - error) ** 0.5
            error = 1 - (known - handicap(known, n)) ** 2
        fits.append(Fit(dict(words.state_dict()), error, guess, StackedKernel))
    if features != "words" or not fits:
        for net in itertools.chain([first], nets):
            best = min((fit.error for fit in fits), default=float("inf"))
            fits.append(_fit(
                net, rows=rows, counts=counts, held=held, twins=states.twins, steps=steps, lr=lr, batch=batch, rng=rng, best=best
            ))  # fmt: skip
    chosen = min(fits, key=lambda fit: fit.error)
    fitted, guess, told = chosen.weights, chosen.guess, {}
    if len(fits) > 1:
        told = {f"reward_{name}": float(chosen.kind is kind) for name, kind in KINDS.items()}
    out = counts[:, held] == 0
    exact = rows.side[held] == 0
    if form == "bonus":
        missed = (guess - rows.y[held]) * out * exact
        dense = load_stacked(fitted, space=data.space)
        assert isinstance(dense, StackedMLP)
        whitening = _whitening(dense, rows.x, counts, rows.x[held], missed, ridge)
        fitted = {**fitted, "whitening": whitening}
    unseen = out.any(0) & exact
    believed = ((guess * out).sum(0) / out.sum(0).clamp(min=1))[unseen].cpu().numpy()
    return fitted, {**told, **_judged(believed, rows.y[held][unseen].cpu().numpy())}


@dataclass(frozen=True, eq=False)
class Fit:
    """Fitted heads: weights, mean error on rows that a head did not draw, and what each says of the held ones."""

    weights: dict[str, Tensor]
    error: float
    guess: Float[Tensor, "B m"]
    kind: type[Stacked]


KINDS = {"words": StackedKernel, "convolutional": StackedCNN}


@dataclass(frozen=True, eq=False)
class _Rows:
    """What heads are fitted to: designs as they see them, standardised y and on which side it is a bound."""

    x: Float[Tensor, "n d"]
    y: Float[Tensor, " n"]
    side: Int[Tensor, " n"]


def _fit(
    net: StackedMLP, *, rows: _Rows, counts: Float[Tensor, "B n"], held: Int[Tensor, " m"], twins: Int[Tensor, "g d"],
    steps: int, lr: float, batch: int, rng: torch.Generator, best: float,
) -> Fit:  # fmt: skip
    """Train heads side by side, each on its bootstrap.

    Args:
        counts: how often each head sees each row.
        held: rows that each head is judged by where it did not draw them.
        best: error of the best heads so far; a training that is far above it after a quarter of its steps ends, and so does one
            in which no head has become better for `PATIENCE` of its steps.

    Returns:
        Each head's weights where it was best.
    """
    x, y, side = rows.x, rows.y, rows.side
    reach = counts.double().cumsum(1)
    out = (counts[:, held] == 0).float()
    kept, lowest, latest = dict(net.state_dict()), torch.full((len(counts),), float("inf"), device=x.device), 0
    guess = torch.zeros(len(counts), len(held), device=x.device)
    adam = Adam(net.parameters(), lr=lr, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in track(steps, "conservative reward"):
        draw = torch.rand((len(counts), batch), generator=rng, device=x.device, dtype=torch.float64)
        drawn = torch.searchsorted(reach, draw * reach[:, -1:], right=True).clamp(max=len(x) - 1)
        twin = twins[torch.randint(len(twins), drawn.shape, generator=rng, device=x.device)]
        loss = _error(net(x[drawn].gather(2, twin)), y[drawn], side[drawn]).mean(1).sum()
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        rate.step()
        if is_check(step, steps):
            with torch.no_grad():
                found = net(x[held])
            error = _missed(found, rows, held, counts)
            better = torch.where(out.sum(1) > 0, error, -step) < lowest
            latest = step if better.any() else latest
            lowest, guess = torch.where(better, error, lowest), torch.where(better[:, None], found, guess)
            learned = dict(net.named_parameters())
            kept |= {name: torch.where(better[:, None, None], value.detach(), kept[name]) for name, value in learned.items()}
            if step >= first_look(steps, len(x), batch) and best < 1 and _far_above(lowest.mean().item(), best, len(held)):
                break
            if step - latest >= PATIENCE * steps:
                break
    return Fit(kept, lowest.mean().item(), guess, type(net))


def _missed(
    guess: Float[Tensor, "B m"], rows: _Rows, held: Int[Tensor, " m"], counts: Float[Tensor, "B n"]
) -> Float[Tensor, " B"]:  # fmt: skip
    """Mean squared error of each head over the held rows that it did not draw."""
    out = (counts[:, held] == 0).float()
    return (_error(guess, rows.y[held], rows.side[held]) * out).sum(1) / out.sum(1).clamp(min=1)


def _far_above(error: float, best: float, n: int) -> bool:
    """Whether errors, in variances of y, differ by more than chance over n rows; told as the correlations that they stand for."""
    correlations = [max(1 - one, 0.0) ** 0.5 for one in (error, best)]
    return behind(correlations[0], correlations[1], n)


def _scale(data: Dataset) -> tuple[float, float]:
    """Mean and standard deviation of y, the latter 1 where all y are alike."""
    return float(data.y.mean()), float(data.y.std()) or 1.0


def _draws(n: int, heads: int, form: Form, rng: torch.Generator) -> Float[Tensor, "B n"]:
    """How often each head sees each row."""
    if form != "none":
        drawn = torch.randint(n, (heads, n), generator=rng, device=rng.device)
        return torch.zeros(heads, n, device=rng.device).scatter_add_(1, drawn, torch.ones(heads, n, device=rng.device))
    counts = torch.ones(1, n, device=rng.device)
    counts[0, torch.randperm(n, generator=rng, device=rng.device)[: max(n // 10, min(5, n // 3))]] = 0
    return counts


def _error(
    guess: Float[Tensor, "B b"], y: Float[Tensor, "... b"], side: Int[Tensor, "... b"]
) -> Float[Tensor, "B b"]:  # fmt: skip
    """Squared error; of a bound (side -1: y or lower) only where the guess is on its wrong side."""
    apart = guess - y
    apart = torch.where(side < 0, apart.clamp(min=0), torch.where(side > 0, apart.clamp(max=0), apart))
    return apart.square()


def _whitening(
    net: StackedMLP, x: Float[Tensor, "n d"], counts: Float[Tensor, "B n"], held: Float[Tensor, "m d"],
    missed: Float[Tensor, "B m"], ridge: float,
) -> Float[Tensor, "B w w"]:  # fmt: skip
    """κL⁻¹ with LLᵀ = Σφφᵀ + λI over each head's bootstrap; κ makes bonuses as large as held-out errors (in squares).

    Args:
        x: the data as the heads see it. counts: how often each head drew a row.
        missed: by how much a head that did not draw the held row was wrong, 0 where it did.
        ridge: λ relative to the mean of the Gram matrix's diagonal.
    """
    width = net.weights[-1].shape[1]
    gram = torch.zeros(len(counts), width, width, dtype=torch.float64, device=x.device)
    for i in range(0, len(x), CHUNK):
        phi = net.features(x[i : i + CHUNK])
        gram += torch.bmm((phi * counts[:, i : i + CHUNK, None]).mT, phi)
    eye = torch.eye(width, dtype=gram.dtype, device=x.device)
    small = ridge * gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-12)
    inverse = torch.linalg.solve_triangular(torch.linalg.cholesky(gram + small[:, None, None] * eye), eye, upper=False).float()
    bonus = torch.bmm(net.features(held), inverse.mT).square().sum(-1) * (missed != 0)
    factor = (missed.square().sum(1) / bonus.sum(1).clamp(min=1e-12)).sqrt()
    return inverse * torch.where(factor > 0, factor, 1.0)[:, None, None]


def _judged(believed: Array, truth: Array) -> dict[str, float]:
    high = truth >= np.quantile(truth, 0.75) if len(truth) else np.zeros(0, dtype=bool)
    return {
        "reward_rank_correlation": _spearman(believed, truth),
        "reward_rank_correlation_best_quarter": _spearman(believed[high], truth[high]),
        "reward_heldout_mse": float(np.mean((believed - truth) ** 2)) if len(truth) else float("nan"),
    }


def _spearman(a: Array, b: Array) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)
