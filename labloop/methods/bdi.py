"""BDI: high designs that the data predict, and that predict the data, by one kernel (Chen et al., "Bidirectional Learning for
Offline Infinite-width Model-based Optimization", NeurIPS 2022).

The model is an infinitely wide ReLU network, whose training is regression with its neural tangent kernel K. For each of the best
designs x_h, given the target y_h (10 standard deviations above the mean):

    L = ½·(k(x_h, X)·K(X, X)⁻¹·y − y_h)²  +  ½·Σ_i w_i·(k(x_i, x_h)·k(x_h, x_h)⁻¹·y_h − y_i)²,     w_i ∝ exp(γ·y_i), Σ w_i = 1

forward: the data predict x_h high, and backward: x_h alone predicts the data. x_h takes Adam steps down L.

Where this differs from the authors' code, and why:

 1. The kernel's matrix of N = 32,768 designs takes 8.6 GB: above `max_points` designs half are the best, the others drawn.
 2. Particles stay in the box that designs span, and all that they visit is offered, each start's best first by the forward
    prediction; `paper()` leaves the box.
 3. Weights sum to one, so that L does not grow with the data; γ = 0 weighs all alike, as theirs on TF Bind 8.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from labloop.methods import _offer
from labloop.methods._forward import ForwardModel, View, ascend, over_twins, visited
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.seeds import derive, generator
from labloop.surrogates.training import without_denormals
from labloop.types import FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float


@plugin
class BDI(ForwardModel):
    """Bidirectional learning by the kernel of an infinitely wide network: predicted high by the data, and predicting them."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Chen et al., NeurIPS 2022"
    cost: ClassVar[str] = "one kernel matrix, and kernels of all particles at each step"
    name: ClassVar[str] = "bdi"
    deterministic: ClassVar[bool] = True
    """Up to `max_points` designs; above, the seed draws those that carry the kernel."""

    max_points: PositiveInt = 1_000
    """Designs that carry the kernel."""
    layers: PositiveInt = 6
    """Dense layers of the infinitely wide network."""
    ridge: PositiveFloat = 1e-6
    """Added to the kernel matrix's diagonal, over its mean."""
    target: PositiveFloat = 10.0
    """y_h, in standard deviations of y."""
    gamma: NonNegativeFloat = 0.0
    """How strongly good designs weigh where the measured ones are predicted back; 0 weighs all alike."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published settings of discrete tasks (continuous ones take steps of 0.001 and γ = 0.001)."""
        settings: dict[str, Any] = {
            "particle_steps": 200, "particle_lr": 0.1, "projected": False, "max_points": 10_000, "layers": 6, "target": 10.0,
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Climb, then offer the n new designs of highest forward prediction among those visited; scores are in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        view = View.of(data, self.relaxation, proposer=self.name)
        top = data.top(self.max_points // 2)
        rest = generator(seed, self.name).permutation(np.setdiff1d(np.arange(len(data)), top))[: self.max_points - len(top)]
        rows = torch.as_tensor(np.concatenate([top, rest]), device=view.device)
        X, y = view.Z[rows].double(), view.y[rows].double()
        K = ntk(X, X, self.layers)
        K.diagonal().add_(self.ridge * K.diagonal().mean())
        root = torch.linalg.cholesky(K)
        alpha = torch.cholesky_solve(y[:, None], root)[:, 0]
        weights = (self.gamma * y).softmax(0)

        def value(z: Tensor) -> Tensor:
            return -bidirectional(z.double(), X, y, alpha, weights, target=self.target, layers=self.layers)

        def score(designs: FloatArray) -> FloatArray:
            f = over_twins(
                lambda twin: ntk(view.tensor(twin).double(), X, self.layers) @ alpha, data.space, designs, 1, chunk=2_048
            )
            return view.location + view.scale * f[0]

        with without_denormals():
            path = visited(view, ascend(value, view.starts(n), view, self), self.particle_steps)
            return _offer.paths(
                data, path, score, n, seed=derive(seed, self.name), proposer=self.name, notes={"points": len(rows)}
            )


def ntk(A: Float[Tensor, "a r"], B: Float[Tensor, "b r"], layers: int) -> Float[Tensor, "a b"]:
    """Neural tangent kernel of a ReLU network of so many dense layers, no biases, weights N(0, 2/width).

    The arc-cosine recursion (Jacot et al., NeurIPS 2018; Cho and Saul, NIPS 2009): Σ' = √(aa·bb)·(sin t + (π − t)·cos t)/π and
    Θ' = Σ' + Θ·(π − t)/π, t the angle of the layer before.
    """
    scale = 1 / A.shape[1]
    norm_a, norm_b = (A.square().sum(1) * scale + 1e-12).sqrt(), (B.square().sum(1) * scale + 1e-12).sqrt()
    norm = norm_a[:, None] * norm_b
    cosine = (A @ B.T) * scale / norm
    theta = cosine
    for _ in range(layers - 1):
        cosine = cosine.clamp(-1 + 1e-10, 1 - 1e-10)
        angle = torch.arccos(cosine)
        open_ = (math.pi - angle) / math.pi
        cosine, theta = (1 - cosine**2).sqrt() / math.pi + open_ * cosine, theta * open_
        theta = theta + cosine
    return theta * norm


def bidirectional(
    z: Float[Tensor, "b r"], X: Float[Tensor, "N r"], y: Float[Tensor, " N"], alpha: Float[Tensor, " N"],
    weights: Float[Tensor, " N"], *, target: float, layers: int,
) -> Float[Tensor, " b"]:  # fmt: skip
    """L of each candidate z; alpha is K(X, X)⁻¹·y, weights sum to one."""
    k = ntk(z, X, layers)
    own = layers * (z.square().sum(1) / z.shape[1] + 1e-12)  # each layer adds Σ = ‖z‖²/r to Θ(z, z)
    forward = 0.5 * (k @ alpha - target) ** 2
    backward = 0.5 * ((k / own[:, None] * target - y) ** 2 @ weights)
    return forward + backward
