"""Match-OPT: a forward model whose gradient matches the differences that the data show along paths.

Source: Hoang et al., "Learning Surrogates for Offline Black-Box Optimization via Gradient Matching", ICML 2024. What ascent uses
of a model is its gradient, so that is what is fitted: for pairs (x, x') of a path from low to high values

    L = (y' − y − (x' − x)·(1/K)·Σ_k ∇f(x + t_k·(x' − x)))² + λ·(f(x) − y)²,    t_k the middles of K equal parts of [0, 1],

the first term the error of the model's gradient, integrated along the line, as a change of value.

Written from the paper's idea as later papers sum it up; no code of the authors was at hand. Choices of our own:

 1. Paths: y is cut into 64 equal-sized bins, a path takes a random design of each bin in rising order, and pairs are neighbours
    on a path.
 2. λ = 1 and K = 4. There is no `paper()`: the published settings could not be read.
 3. As in `gradient`: where the space can be listed every design is scored, and particles stay in the box that designs span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from labloop.methods._forward import ForwardModel, View, fit
from labloop.methods.gradient import offer
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.surrogates.networks import StackedMLP
from labloop.surrogates.training import torch_generator

if TYPE_CHECKING:
    from jaxtyping import Float


@plugin
class MatchOPT(ForwardModel):
    """Fit a model's gradient to the differences along paths of data, then climb it."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Hoang et al., ICML 2024"
    cost: ClassVar[str] = "one network with second derivatives"
    name: ClassVar[str] = "match_opt"

    max_steps: PositiveInt | None = 1_500
    """Training steps at most, however many the data are; null for no bound."""
    points: PositiveInt = 4
    """K, points of a line at which the gradient is taken."""
    bins: PositiveInt = 64
    """Steps of a path from the least to the largest value."""
    regression: PositiveFloat = 1.0
    """λ, weight of the squared error of values."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, then offer the n new designs of highest prediction that the search finds; scores are in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        view = View.of(data, self.relaxation, proposer=self.name)
        gen = torch_generator(seed, self.name, "paths")
        order, bins = view.y.argsort(), min(self.bins, len(view.y))

        def mismatch(net: StackedMLP, z: Tensor) -> Tensor:
            """The loss of as many pairs, neighbours on paths, as the batch has designs, over λ; (1,)."""
            step = torch.randint(max(1, bins - 1), (len(z),), generator=gen)
            draw = torch.rand(2, len(z), generator=gen)
            low, high = (order[((step + k + draw[k]) / bins * len(order)).long().clamp_max(len(order) - 1)] for k in (0, 1))
            error = line_mismatch(net, view.Z[low], view.Z[high], view.y[high] - view.y[low], self.points)
            return error.mean(1) / self.regression

        proxy = fit(view, self, seed=seed, proposer=self.name, penalty=mismatch)
        return offer(proxy, self, n, seed=seed, proposer=self.name)


def line_mismatch(
    net: StackedMLP, low: Float[Tensor, "b r"], high: Float[Tensor, "b r"], gain: Float[Tensor, " b"], points: int
) -> Float[Tensor, "E b"]:  # fmt: skip
    """Squared difference of the line integral of ∇f from low to high and the gain in y; differentiable."""
    t = (torch.arange(points, device=low.device) + 0.5) / points
    at = (low + t[:, None, None] * (high - low)).flatten(0, 1).requires_grad_()
    members = len(net.weights[0])
    at = at.expand(members, -1, -1)
    (slope,) = torch.autograd.grad(net(at).sum(), at, create_graph=True)
    along = (slope.unflatten(1, (points, len(low))).mean(1) * (high - low)).sum(-1)
    return (along - gain).square()
