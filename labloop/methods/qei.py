"""Batch Bayesian optimisation by expected improvement over what is measured: the `bo` arm.

The acquisition is noisy expected improvement of a joint batch (Letham et al., Bayesian Analysis 2019; parallel: Balandat et al.,
NeurIPS 2020), chosen greedily well by well (Wilson et al., NeurIPS 2018, section 3.2: the batch value is submodular), as in
BoTorch's qLogNoisyExpectedImprovement (Ament et al., NeurIPS 2023). With f drawn jointly at all designs involved,

    gain(x | batch) = E[ (f(x) - max(f(measured), f(pending), f(batch)))₊ ]

The incumbent is a maximum of samples, so a lucky reading is not taken at its word, and pending designs count as if their results
were integrated out.

1. Candidates: the designs of highest log EI, analytic and against the best posterior mean, over the whole space where it can be
   listed and by evolutionary search elsewhere, and a random share that covers the rest.
2. Where numbers or mixtures vary too freely to be listed, the first wells are placed between the candidates: BoTorch's gradient
   optimiser over the numbers, then steps to neighbours over all, each well with those before it pending.
3. One joint draw over the candidates serves the rest of the batch: with the samples fixed, a well costs one pass over a matrix.
   BoTorch's own discrete optimiser would condition the model anew for each well, which takes hours for a plate.

Differences from BoTorch, with reasons: the samples are antithetic normal draws, as a Sobol sequence over thousands of dimensions
is no better; (f - best)₊ has BoTorch's fat tail (Ament et al., eq. 12) but no smoothed maximum and no logarithm, as nothing is
differentiated in step 3; only the `BASELINE` measured designs of highest posterior mean enter the incumbent.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from typing import Annotated, ClassVar

import botorch
import gpytorch
import numpy as np
import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.exceptions.warnings import OptimizationWarning
from botorch.optim.optimize import optimize_acqf
from botorch.sampling.normal import SobolQMCNormalSampler
from gpytorch.utils.errors import NanError, NotPSDError
from gpytorch.utils.warnings import NumericalWarning
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from labloop.methods._pareto import Fits, few
from labloop.proposing.dataset import Dataset
from labloop.proposing.gain import BASELINE, TAIL, greedy, log_ei
from labloop.proposing.pool import Pool, too_few
from labloop.proposing.search import search
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive, generator, normal_seed
from labloop.space.constraints import LinearInequality
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Integer, Mixture, Real
from labloop.surrogates.gp import GP, FittedGP
from labloop.surrogates.training import torch_generator
from labloop.types import FloatArray

log = logging.getLogger("labloop")

SHORTLIST = 128
"""Candidates whose joint value is looked at for the start of a gradient search."""
STEPS = 5
"""Most neighbour steps after it."""
AWAITED = 1_024
"""Pending designs that are drawn jointly with a batch: of more, the most hopeful, as memory grows with their square."""


Acquire = Callable[[FloatArray], AcquisitionFunction]
"""Makes the acquisition function of one more well, given those chosen before it, (p, d)."""


@plugin
class QEI:
    """Joint noisy expected improvement of a Gaussian process (BoTorch's log-EI family), greedy over one joint posterior draw."""

    family: ClassVar[str] = "Bayesian"
    source: ClassVar[str] = "Ament et al., NeurIPS 2023"
    cost: ClassVar[str] = "one Gaussian process, then well by well"
    several_tasks: ClassVar[bool] = True

    samples: Annotated[int, Field(ge=2)] = 512
    """Joint posterior samples; at least four a well, so that each well still has samples to improve."""
    candidates: PositiveInt = 2_048
    """Designs that the batch is chosen from; at least twice the batch."""
    explore: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of the candidates drawn at random instead of by log EI."""
    optimised: NonNegativeInt = 8
    """Wells placed by gradient where numbers or mixtures vary freely; the rest of the batch comes from the candidates."""
    restarts: PositiveInt = 3
    """Starts of each gradient search."""
    max_points: PositiveInt = 2_000
    """Up to so many designs the Gaussian process is exact."""
    iterations: PositiveInt = 200
    """Most iterations of its fit."""
    generations: PositiveInt = 40
    """Generations of the search for candidates where the space cannot be listed."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer a joint batch of n; the score is each well's gain over those before it, in y."""
        if data.properties is not None:
            return self._several(data, n, seed)
        fitted = GP(max_points=self.max_points, iterations=self.iterations).fit(data, seed=seed)
        mean, _ = fitted.belief(data.X)
        baseline = data.X[np.argsort(-mean, kind="stable")[:BASELINE]]
        best = float(mean.max())
        X = self._candidates(data, lambda X: log_ei(*fitted.belief(X), best), n, seed)
        sampler = SobolQMCNormalSampler(torch.Size([min(self.samples, 128)]), seed=normal_seed(derive(seed, "qei", "sobol")))

        def hope(X: FloatArray) -> FloatArray:
            mean, std = fitted.belief(X)
            return mean + std

        pending = _awaited(data, hope)

        def acquire(chosen: FloatArray) -> AcquisitionFunction:
            return qLogNoisyExpectedImprovement(
                fitted.botorch_model(), fitted.tensor(baseline), sampler=sampler, prune_baseline=False,
                X_pending=fitted.tensor(np.concatenate([pending, chosen])),
            )  # fmt: skip

        X, placed = self._placed(data, fitted, acquire, hope, X, n)
        known = np.concatenate([pending, baseline])
        draws = fitted.draw(np.concatenate([X, known]), max(self.samples, 4 * n), generator=torch_generator(seed, "qei", "draw"))
        batch, gains = greedy(draws[:, : len(X)], draws[:, len(X) :].amax(1), n, tail=TAIL * fitted.scale, first=placed)
        notes = {"candidates": len(X), "noise_std": fitted.noise_std, **fitted.pool_notes}
        return Pool.of(data.space, X[batch], gains, proposer="qei", notes=notes)

    def _several(self, data: Dataset, n: int, seed: int) -> Pool:
        """Offer a joint batch of n for several objectives, or one with limits; the score is each well's part of the gain."""
        fits = Fits.of(data, GP(max_points=self.max_points, iterations=self.iterations), seed=seed)
        baseline, directions = fits.baseline(data.X, BASELINE), few(fits.goal)
        X = self._candidates(data, lambda X: fits.scores(X, directions), n, seed)

        def hope(X: FloatArray) -> FloatArray:
            return fits.scores(X, directions)

        pending = _awaited(data, hope)

        def acquire(chosen: FloatArray) -> AcquisitionFunction:
            return fits.acquisition(baseline, np.concatenate([pending, chosen]), samples=min(self.samples, 128), seed=seed)

        X, placed = self._placed(data, fits.models[0], acquire, hope, X, n)
        draws = fits.draws(np.concatenate([X, pending, baseline]), max(self.samples // 2, 4 * n), seed=seed)
        incumbent = draws[:, len(X) :].amax(1)
        worth = incumbent[:, None] + (draws[:, : len(X)] - incumbent[:, None]).clamp_min(0) * torch.as_tensor(fits.chances(X))
        batch, gains = greedy(worth, incumbent, n, tail=0.0, first=placed)
        notes = {"candidates": len(X), **fits.models[0].pool_notes}
        return Pool.of(data.space, X[batch], gains, proposer="qei", notes=notes)

    def _candidates(self, data: Dataset, score: Callable[[FloatArray], FloatArray], n: int, seed: int) -> FloatArray:
        """Give distinct new designs: the front by a score such as log EI, then the random share."""
        space, wanted = data.space, max(self.candidates, 2 * n)
        drawn = round(self.explore * wanted)
        front, _ = search(
            data, score, wanted - drawn, seed=derive(seed, "qei"), label="qei", generations=self.generations
        )  # fmt: skip
        rng = generator(seed, "qei", "explore")
        everything = space.listing() if space.listable else None
        if everything is None:
            rest = space.sample(drawn, rng)
        else:
            rest = everything[rng.choice(len(everything), size=min(len(everything), 2 * drawn + len(data.taken)), replace=False)]
        X = np.concatenate([front[: wanted - drawn], rest])
        return X[space.fresh(X, known=data.taken)][:wanted]

    def _placed(
        self, data: Dataset, fitted: FittedGP, acquire: Acquire, hope: Callable[[FloatArray], FloatArray], X: FloatArray, n: int
    ) -> tuple[FloatArray, int]:  # fmt: skip
        """Put the wells that are placed by gradient, where there are such, before the candidates X; and how many they are.

        Raises:
            MethodError: there are fewer than n new designs.
        """
        between = not data.space.listable and _has_numbers(data.space) and len(X) > self.optimised
        first = self._place(data, fitted, acquire, hope, X, min(n, self.optimised)) if between else X[:0]
        X = np.concatenate([first, X])
        X = X[data.space.fresh(X, known=data.taken)]
        if len(X) < n:
            raise too_few(data, len(X), n, proposer="qei")
        return X, len(first)

    def _place(
        self, data: Dataset, fitted: FittedGP, acquire: Acquire, hope: Callable[[FloatArray], FloatArray], X: FloatArray, n: int
    ) -> FloatArray:  # fmt: skip
        """Place n wells by gradient and neighbour steps, each with those before it pending; new, distinct, (n, d)."""
        chosen = X[:0]
        # BoTorch touches torch's global generator in places that depend on its version: whatever it does there is undone.
        with (
            torch.random.fork_rng(devices=[]), botorch.settings.validate_input_scaling(False), warnings.catch_warnings(),
            gpytorch.settings.cholesky_max_tries(6),
        ):  # fmt: skip
            # A line search that ends early still ends uphill of its start, and jitter is part of the trade.
            warnings.simplefilter("ignore", OptimizationWarning)
            warnings.simplefilter("ignore", NumericalWarning)
            warnings.filterwarnings("ignore", "Optimization failed", RuntimeWarning)
            # The front by log EI and every so many of the rest: more than n of them, so one is always left.
            half = SHORTLIST // 2
            rows = np.concatenate([np.arange(min(half, len(X))), np.linspace(0, len(X) - 1, half + n).astype(int)])
            shortlist = X[np.unique(rows)]
            for _ in track(n, "qei wells"):
                taken = data.taken | set(data.space.ids(chosen))
                try:
                    acquisition = acquire(chosen)
                    found = _climb(data.space, acquisition, fitted, hope, shortlist, self.restarts, taken)
                except (NotPSDError, NanError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
                    # Designs nearly coincide, pending ones perhaps: the joint draw over candidates needs less of them.
                    log.warning("qei: wells after the first %d come from the candidates: %s", len(chosen), error)
                    break
                chosen = np.concatenate([chosen, found[None]])
        return chosen


def _awaited(data: Dataset, hope: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Give the pending designs (p, d) that a batch takes account of: all, or the `AWAITED` most hopeful of more."""
    if len(data.pending) <= AWAITED:
        return data.pending
    return data.pending[np.argsort(-hope(data.pending), kind="stable")[:AWAITED]]


def _has_numbers(space: DesignSpace) -> bool:
    return any(block.kind != "onehot" for block in space.blocks)


def _climb(
    space: DesignSpace,
    acquisition: AcquisitionFunction,
    fitted: FittedGP,
    hope: Callable[[FloatArray], FloatArray],
    X: FloatArray,
    restarts: int,
    taken: frozenset[str],
) -> FloatArray:
    """Find the new design (d,) of highest acquisition: by gradient over the numbers from the best of X, then by neighbours."""

    def value(X: FloatArray) -> FloatArray:
        with torch.no_grad():
            return acquisition(fitted.tensor(X)[:, None]).cpu().numpy()  # type: ignore[no-any-return]

    X = X[space.fresh(X, known=taken)]
    starts = X[np.argsort(-value(X), kind="stable")[:restarts]]
    ends = space.repair(np.concatenate([starts, _ascend(space, acquisition, fitted, starts)]))
    ends = ends[space.fresh(ends, known=taken)]
    values = value(ends)
    x, at = ends[values.argmax()], values.max()
    for _ in range(STEPS):
        near = space.neighbours(x)
        near = near[space.fresh(near, known=taken)]
        if not len(near):
            break
        # The joint value of a design costs far more than its own: the promising neighbours are enough.
        near = near[np.argsort(-hope(near), kind="stable")[:SHORTLIST]]
        values = value(near)
        if values.max() <= at:
            break
        x, at = near[values.argmax()], values.max()
    return x


def _ascend(
    space: DesignSpace, acquisition: AcquisitionFunction, fitted: FittedGP, starts: FloatArray
) -> FloatArray:  # fmt: skip
    """Move the numbers of each start uphill with BoTorch's `optimize_acqf`, letters and options fixed; (restarts, d)."""
    sites = [i for b in space.blocks if b.kind == "onehot" for i in range(b.start, b.stop)]
    device = fitted.Z.device
    sums = [
        (torch.arange(b.start, b.stop, device=device), torch.ones(b.stop - b.start, dtype=torch.float64, device=device), 1.0)
        for b in space.blocks
        if b.kind == "simplex"
    ]
    bounds = fitted.tensor(np.stack([np.zeros(space.d), np.ones(space.d)]))
    # Starts with the same letters and options climb together; others cannot, as BoTorch fixes features for a whole call.
    groups = [starts] if not sites else [start[None] for start in starts]
    ends = []
    for group in groups:
        found, _ = optimize_acqf(
            acquisition, bounds, q=1, num_restarts=len(group), return_best_only=False,
            batch_initial_conditions=fitted.tensor(group)[:, None], fixed_features={i: float(group[0, i]) for i in sites} or None,
            equality_constraints=sums or None, inequality_constraints=_inequalities(space, device) or None,
            options={"maxiter": 50},
        )  # fmt: skip
        ends.append(found.detach()[:, 0].cpu().numpy())
    return np.concatenate(ends)


def _inequalities(space: DesignSpace, device: torch.device) -> list[tuple[Tensor, Tensor, float]]:
    """Give the space's linear inequalities over columns of X, as BoTorch reads them: Σ coefficient · x ≥ bound.

    One that weighs a number on a log scale is not linear in X: `DesignSpace.repair` mends what breaks it.
    """
    columns: dict[str, tuple[int, float, float] | None] = {}  # of X, and the value as offset + factor · x
    for parameter, block in zip(space.parameters, space.blocks, strict=True):
        if isinstance(parameter, Mixture):
            columns |= {name: (block.start + j, 0.0, 1.0) for j, name in enumerate(parameter.columns)}
        elif isinstance(parameter, Real | Integer):
            linear = not (isinstance(parameter, Real) and parameter.scale == "log")
            columns[parameter.name] = (block.start, parameter.low, parameter.high - parameter.low) if linear else None
    out = []
    for constraint in space.constraints:
        if not isinstance(constraint, LinearInequality):
            continue
        terms = [(columns[name], weight) for name, weight in constraint.weights.items()]
        known = [(place, weight) for place, weight in terms if place is not None]
        if len(known) < len(terms):
            continue
        index = torch.tensor([place[0] for place, _ in known], device=device)
        slope = torch.tensor([weight * place[2] for place, weight in known], dtype=torch.float64, device=device)
        offset = sum(weight * place[1] for place, weight in known)
        if constraint.low is not None and math.isfinite(constraint.low):
            out.append((index, slope, constraint.low - offset))
        if constraint.high is not None and math.isfinite(constraint.high):
            out.append((index, -slope, offset - constraint.high))
    return out
