"""The ensemble of proxies that guided trajectory generation filters with: members that weigh the best designs most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scipy.stats import spearmanr
from torch import Tensor

from labloop.methods._checkpoint import Stage
from labloop.proposing.dataset import Dataset
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.surrogates.kernel_networks import StackedKernel, fit_kernel, handicap, worth_trying
from labloop.surrogates.networks import Features, Stacked, StackedCNN, StackedMLP, behind, first_look, networks
from labloop.surrogates.sees import lift
from labloop.surrogates.training import Adam, Rate, rate_of, torch_generator
from labloop.types import Values

if TYPE_CHECKING:
    from jaxtyping import Float

SLOPE = 0.01
"""Of the proxies' leaky ReLU."""

LEAST = 32
"""Designs in a batch at least, however few are measured: each is drawn again and again anyway."""

FOLDS = 10
"""Each proxy leaves out one design in ten."""

Fit = tuple[float, Stacked]
"""Rank correlation with designs that a proxy has not seen, and the proxies."""


def fit_proxies(
    data: Dataset, s: Values, members: int, hidden: tuple[int, ...], *, steps: int, batch: int, lr: float, rate: Rate,
    rank_k: float, features: Features, seed: int, device: torch.device | str = "cpu",
) -> Stage:  # fmt: skip
    """Fit all proxies at once to s, larger is better; designs weigh 1 / (rank_k·N + rank) (Tripp et al., NeurIPS 2020).

    With features `auto` a kernel's way is tried (`kernel_networks`), the dense one, and of many long sequences the convolutional
    one; of these the one with the highest correlation is kept, and one that is far behind after a quarter of its steps ends.

    Returns their weights; and as `proxy_rank_correlation` Spearman's of s with predictions by members that had not seen the
    design; where several were tried, as `proxies_words` and `proxies_convolutional` which it is.
    """
    rng = torch_generator(seed, "gtg", "proxies", device=device)
    n = len(s)
    twins = 2 * torch.tensor(data.space.orbit(data.X), dtype=torch.float32, device=device) - 1
    target = torch.as_tensor(s, dtype=torch.float32, device=device)
    side = torch.tensor(data.censored, device=device)
    rank = target.argsort(descending=True, stable=True).argsort()
    fold = torch.randperm(n, generator=rng, device=device) % FOLDS
    out = (fold == torch.arange(members, device=device)[:, None] % FOLDS) & (n >= 2 * FOLDS)
    reach = (~out / (rank_k * n + rank)).double().cumsum(1)

    def judged(net: Stacked) -> float:
        guess = (predict(net, twins) * out).sum(0)[out.any(0)] / out.sum(0)[out.any(0)]
        truth = target[out.any(0)]
        told = len(guess) > 2 and float(guess.std()) > 0 and float(truth.std()) > 0
        return float(spearmanr(guess.cpu().numpy(), truth.cpu().numpy()).statistic) if told else 0.0

    batch = min(batch, max(LEAST, n))

    def fit(net: StackedMLP, best: float) -> Fit:
        adam = Adam(net.parameters(), lr=lr, fused=True)
        falls = rate_of(adam, rate, steps)
        for step in track(steps, "gtg: proxies"):
            draw = torch.rand((members, batch), generator=rng, device=device, dtype=torch.float64)
            rows = torch.searchsorted(reach, draw * reach[:, -1:]).clamp(max=n - 1)
            flip = torch.randint(len(twins), rows.shape, generator=rng, device=device)
            error = net(twins[flip, rows]) - target[rows]
            error = torch.where(side[rows] < 0, error.clamp(min=0), torch.where(side[rows] > 0, error.clamp(max=0), error))
            adam.zero_grad()
            torch.autograd.backward((error**2).mean(1).sum())
            adam.step()
            falls.step()
            if step == first_look(steps, n, batch) and best > 0 and behind(judged(net), best, n):
                break
        return judged(net), net

    fits: list[Fit] = []
    if features != "letters" and n >= 2 * FOLDS and worth_trying(data):
        weight = ~out / (rank_k * n + rank)
        words = fit_kernel(data, twins, target, weight / weight.mean(), unit=(0.5, 0.5), seed=derive(seed, "gtg", "proxies"))
        fits.append((judged(words), words))
    if features != "words" or not fits:
        for net in networks(data, members, hidden, generator=rng, slope=SLOPE, lift=lift(data)):
            fits.append(fit(net, max((found for found, _ in fits), default=0.0)))
    lead = handicap(fits[0][0], n) if isinstance(fits[0][1], StackedKernel) else 0.0
    correlation, best = max(fits, key=lambda one: one[0] - lead * isinstance(one[1], StackedKernel))
    told = {"proxy_rank_correlation": correlation}
    if len(fits) > 1:
        told |= {
            "proxies_words": float(isinstance(best, StackedKernel)),
            "proxies_convolutional": float(isinstance(best, StackedCNN)),
        }
    return {name: value.detach() for name, value in best.state_dict().items()}, told


def predict(net: Stacked, twins: Float[Tensor, "g n d"]) -> Float[Tensor, "E n"]:
    """Predictions for designs scaled to ±1, as the mean over their g twins."""
    with torch.no_grad():
        parts = [net(part.flatten(0, 1)).unflatten(1, part.shape[:2]).mean(1) for part in torch.split(twins, 4096, 1)]
    return torch.cat(parts, 1)
