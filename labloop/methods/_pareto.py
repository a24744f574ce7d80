"""Several objectives and limits for `labloop.methods.qei`: noisy expected hypervolume improvement of a joint batch.

A Gaussian process a property. Wells that are placed by gradient climb BoTorch's qLogNoisyExpectedHypervolumeImprovement
(Daulton et al., NeurIPS 2021; logarithms: Ament et al., NeurIPS 2023) or, with limits on one objective, its constrained
qLogNoisyExpectedImprovement. The rest of a batch is chosen greedily over one joint draw: a hypervolume is the mean over random
rays of how far they reach (Zhang and Golovin, ICML 2020), so with rays for every sample the joint gain of a batch is again a mean
of maxima, and one more well costs one pass over a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
from botorch.acquisition.objective import GenericMCObjective
from botorch.models import ModelListGP
from botorch.sampling.base import MCSampler
from botorch.sampling.normal import SobolQMCNormalSampler
from torch import Tensor

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.success import Success
from labloop.seeds import derive, normal_seed
from labloop.space.goal import Goal
from labloop.space.pareto import rays
from labloop.surrogates.gp import GP, FittedGP
from labloop.surrogates.training import torch_generator
from labloop.types import Designs, FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float

# BoTorch would compile its hypervolume when it is first used, for a minute, and where there is a compiler only: a seed would not
# give the same plate everywhere.
logei._load_attempted = True

RAYS = 8
"""Rays a sample: several hundred samples have thousands together."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Fits:
    """A fitted Gaussian process a property, and what is to be improved."""

    goal: Goal
    models: tuple[FittedGP, ...]
    point: FloatArray
    """The reference point, (objectives,), in Y."""
    unit: FloatArray
    success: Success | None

    @classmethod
    def of(cls, data: Dataset, gp: GP, *, seed: int) -> Fits:
        """Fit every property.

        Raises:
            MethodError: a property has fewer than two measured designs.
        """
        assert data.properties is not None
        goal = data.properties.goal
        for j, name in enumerate(goal.names):
            if len(data.of(j)) < 2:
                raise MethodError(f"qei needs 2 designs with a value of {name}, not {len(data.of(j))}: ingest its assay first")
        models = tuple(gp.fit(data.of(j), seed=derive(seed, j)) for j in range(len(goal.names)))
        mean = np.column_stack([one.belief(data.X)[0] for one in models])
        return cls(
            goal=goal,
            models=models,
            point=goal.reference(mean),
            unit=goal.scale(data.properties.Y),
            success=Success.learned(data),
        )

    def means(self, X: FloatArray) -> FloatArray:
        return np.column_stack([one.belief(X)[0] for one in self.models])

    def chances(self, X: FloatArray) -> FloatArray:
        """Chance (m,) that designs can be made; 1 where nothing was learned."""
        return np.ones(len(X)) if self.success is None else self.success(X)

    def baseline(self, X: FloatArray, most: int) -> FloatArray:
        """Keep the measured designs that may be on the front: likely ones first, then by how far they lie from being so."""
        mean = self.means(X)
        good = self.goal.feasible(mean)
        scaled = self.goal.scalar(mean, np.full(mean.shape, np.nan))
        return X[np.lexsort((-scaled, ~good))[:most]]

    def scores(self, X: FloatArray, directions: FloatArray) -> FloatArray:
        """Score candidates (m,) by hope along a few rays: the best reach of mean + std, times the chance of the limits."""
        parts = [one.belief(X) for one in self.models]
        mean, std = np.column_stack([one for one, _ in parts]), np.column_stack([one for _, one in parts])
        hope = (mean[:, : self.goal.m] + std[:, : self.goal.m] - self.point) / self.unit
        reached = (hope[:, None, :] / directions[None]).min(2)
        found, chance = reached.max(1), (0.05 + self.goal.chances(mean, std)) * self.chances(X)
        return np.where(found > 0, found * chance, found - (1 - chance))

    def draws(self, X: Designs, n: int, *, seed: int) -> Float[Tensor, "s m"]:
        """Draw how far n joint samples of designs X reach along rays of their own, `RAYS` each; 0 outside the limits.

        With one objective and limits it is the height over the lowest value that the draw needs to tell apart.
        """
        drawn = torch.stack(
            [one.draw(X, n, generator=torch_generator(seed, "qei", "draw", j)).cpu() for j, one in enumerate(self.models)]
        )
        low, high = (torch.as_tensor(one) for one in self.goal.bounds)
        kept = ((drawn >= low[:, None, None]) & (drawn <= high[:, None, None])).all(0)
        m = self.goal.m
        above = (drawn[:m] - torch.as_tensor(self.point)[:, None, None]) / torch.as_tensor(self.unit)[:, None, None]
        if m == 1:
            return torch.where(kept, above[0] - above[0].min(), 0.0)
        every = rays(m, self.goal.weights, n * RAYS)[np.random.default_rng(seed % 2**32).permutation(n * RAYS)]
        directions = torch.as_tensor(every).reshape(n, RAYS, m)
        reached = torch.full((n, RAYS, len(X)), torch.inf, dtype=torch.float64)
        for j in range(m):
            reached = torch.minimum(reached, above[j][:, None, :] / directions[:, :, j, None])
        return (torch.where(kept[:, None, :], reached, 0.0).clamp_min(0.0) ** m).reshape(n * RAYS, len(X))

    def acquisition(self, baseline: FloatArray, pending: FloatArray, *, samples: int, seed: int) -> AcquisitionFunction:
        """Make BoTorch's acquisition function of the goal, with the property models as one list."""
        model = ModelListGP(*[one.botorch_model() for one in self.models])
        tensor = self.models[0].tensor
        sampler: MCSampler = SobolQMCNormalSampler(torch.Size([samples]), seed=normal_seed(derive(seed, "qei", "sobol")))
        limits = self._limits()
        held = tensor(pending) if len(pending) else None
        if self.goal.m == 1:
            return qLogNoisyExpectedImprovement(
                model, tensor(baseline), sampler=sampler, prune_baseline=False, X_pending=held, constraints=limits,
                objective=GenericMCObjective(_leading),
            )  # fmt: skip
        point = [(x - one.shift) / one.scale for x, one in zip(self.point, self.models[: self.goal.m], strict=True)]
        return qLogNoisyExpectedHypervolumeImprovement(
            model, point, tensor(baseline), sampler=sampler, prune_baseline=True, X_pending=held, constraints=limits,
            objective=IdentityMCMultiOutputObjective(list(range(self.goal.m)), num_outcomes=len(self.models)),
        )  # fmt: skip

    def _limits(self) -> list[Callable[[Tensor], Tensor]] | None:
        """Limits as BoTorch takes them, on standardised samples: negative where they are kept."""
        out: list[Callable[[Tensor], Tensor]] = []
        for j, one in enumerate(self.models):
            low, high = ((end - one.shift) / one.scale for end in self.goal.bounds[:, j])
            if np.isfinite(low):
                out.append(partial(_below, j=j, low=float(low)))
            if np.isfinite(high):
                out.append(partial(_above, j=j, high=float(high)))
        return out or None


def _leading(samples: Tensor, X: Tensor | None = None) -> Tensor:
    return samples[..., 0]


def _below(samples: Tensor, *, j: int, low: float) -> Tensor:
    return low - samples[..., j]


def _above(samples: Tensor, *, j: int, high: float) -> Tensor:
    return samples[..., j] - high


def few(goal: Goal) -> FloatArray:
    """Give some rays for a first look at candidates."""
    return rays(goal.m, goal.weights, 32) if goal.m > 1 else np.ones((1, 1))
