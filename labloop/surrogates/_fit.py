"""Fitting a Gaussian process whatever the data: a scale that one odd reading cannot set, a search that no bad step ends.

Where the numbers are bad the fit steps back, one step after the other, and says so:

1. `scaled` holds readings that lie absurdly far from all others at a limit and doubts them, so that they cannot squeeze the
   rest to one value; `believable` leaves out replicates that one bad reading has spoilt.
2. `maximise` answers a step to hyper-parameters without a Cholesky factor with a value worse than any seen, so that the line
   search turns back; it begins anew elsewhere where a search ends nowhere, and takes the priors' centres and much noise where
   all of them do.
3. `cholesky` adds the least jitter that works.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.odd import odd, unit_of
from labloop.surrogates._kernels import LETTERS, DesignKernel
from labloop.surrogates._logs import Logs
from labloop.surrogates._related import TaskTerm
from labloop.types import Array, FloatArray, Rows, Values

if TYPE_CHECKING:
    from jaxtyping import Float

log = logging.getLogger("labloop")

ITERATIONS = 200
"""Of a fit that is not asked to be short: one that takes more is told of."""
JITTER = 1e-8
"""Least variance added to a diagonal before its Cholesky factor, relative to the variance of y; tenfold until it succeeds."""
MOST_JITTER = 0.1
"""Most of it; more would be noise by another name."""
SEARCH_JITTER = 1e-6
"""Most of it within the search, where more would bend what is maximised."""
EFFECTS = 300
"""Up to so many designs main effects have a term of their own: more tell them as well without it, at less cost."""
MOST_NOISE = 4.0
"""Replicates that differ by more, in variance relative to that between designs, tell of a bad reading and not of the noise."""
BOUNDS = (-15.0, 7.0)
"""Of every hyper-parameter's logarithm, and of the mean."""


class Prior(nn.Module):
    """What is fitted: the kernel, the inferred noise variance s² and the constant mean c."""

    def __init__(
        self, data: Dataset, *, motifs: bool, measured_noise: bool, sets: tuple[str, ...] = (LETTERS,),
        related: Sequence[TaskTerm] = (), effects: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        effects = effects and len(data) <= EFFECTS
        self.kernel = DesignKernel(data.space, motifs=motifs, sets=sets, related=related, effects=effects)
        centre = 0.01 if measured_noise else 0.1  # where replicates tell the noise, less is left to infer
        self.noise = Logs(1, centre=centre, spread=2.0, start=3 * centre)
        self.mean = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def penalty(self) -> Float[Tensor, ""]:
        """Give minus the log prior density of all hyper-parameters, up to a constant."""
        return self.kernel.penalty() + self.noise.penalty()


@dataclass(frozen=True, eq=False)
class Scale:
    """How y was standardised: t = (y - shift) / scale, odd readings at their limit."""

    t: Values
    shift: float
    scale: float
    odd: Rows
    """Those that are held at a limit."""
    doubt: Values
    """Noise variance of each t besides what is known of it: 0 but where a reading is held."""


def scaled(y: Values, rows: Array | slice = slice(None)) -> Scale:
    """Standardise y by the mean and standard deviation of `rows`, readings at absurd distances held at a limit."""
    unit = unit_of(y)
    y = y / unit
    rows_odd, limits, doubt = odd(y)
    held = y.copy()
    held[rows_odd] = limits
    shift, scale = float(held[rows].mean()), float(held[rows].std())
    if scale <= 1e-12 * np.abs(held).max():  # what rounding leaves of equal readings
        scale = 1 / unit
    variance = np.zeros(len(y))
    variance[rows_odd] = (doubt / scale) ** 2
    return Scale(t=(held - shift) / scale, shift=shift * unit, scale=scale * unit, odd=rows_odd, doubt=variance)


def believable(sem: Values, replicates: Array, notes: dict[str, str]) -> Values:
    """Give the standardised sem, all unknown where replicates differ far more than designs do: one bad reading does that."""
    with np.errstate(invalid="ignore"):
        told = sem[np.isfinite(sem)] ** 2
    if len(told) and np.median(told) > MOST_NOISE:
        notes["replicates"] = "replicates differ far more than designs do, as after a bad reading: the noise is inferred instead"
        return np.full(len(sem), np.nan)
    return sem


def maximise(
    prior: Prior, X: Float[Tensor, "n d"], t: Float[Tensor, " n"], known: Float[Tensor, " n"], iterations: int
) -> str:  # fmt: skip
    """Move the prior's hyper-parameters to the mode of their posterior given X, standardised y t, and what is known of sem².

    Returns:
        How the fit stepped back, empty where it did not.
    """
    parameters = list(prior.parameters())
    begin = nn.utils.parameters_to_vector(parameters).detach().cpu().numpy()
    objective = _Objective(prior, parameters, X, t, known)
    told = ""
    for attempt, start in enumerate(_starts(prior, begin)):
        objective.worst = -math.inf
        found = minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=[BOUNDS] * len(start), options={"maxiter": iterations}
        )
        best, value = objective.best
        if best is not None:
            _set(parameters, best)
            prior.requires_grad_(False)
            log.info("gp: %d designs, -log posterior %.4f a design after %d iterations", len(t), value / len(t), found.nit)
            if found.nit >= iterations:
                level = logging.WARNING if iterations >= ITERATIONS else logging.INFO  # one that is to be short may be
                log.log(level, "gp: the fit did not converge in %d iterations; raise `iterations`", iterations)
            return told
        told = f"the fit began anew {attempt + 1} times, as its numbers were bad where it started"
    _set(parameters, _centres(prior, begin))
    prior.requires_grad_(False)
    return "no fit was found: the kernel is the prior's, with as much noise as signal"


class _Objective:
    """Minus the log posterior density of the hyper-parameters and its slope; finite everywhere."""

    def __init__(self, prior: Prior, parameters: list[nn.Parameter], X: Tensor, t: Tensor, known: Tensor) -> None:
        self.prior, self.parameters, self.X, self.t, self.known = prior, parameters, X, t, known
        self.worst = -math.inf
        self.best: tuple[FloatArray | None, float] = (None, math.inf)

    def __call__(self, z: FloatArray) -> tuple[float, FloatArray]:
        try:
            value, slope = self._evaluate(z)
        except MethodError:
            value, slope = math.nan, np.zeros_like(z)
        if not (math.isfinite(value) and np.isfinite(slope).all()):
            # Worse than anything seen, but not by so much that the line search's interpolation would all but stand still.
            return (0.0 if self.worst == -math.inf else self.worst) + 10.0 * len(self.t), np.zeros_like(z)
        self.worst = max(self.worst, value)
        if value < self.best[1]:
            self.best = z.copy(), value
        return value, slope

    def _evaluate(self, z: FloatArray) -> tuple[float, FloatArray]:
        prior, t = self.prior, self.t
        _set(self.parameters, z)
        K = prior.kernel.forward(self.X, self.X)
        noise = prior.noise()
        with torch.no_grad():
            root, _ = cholesky(K, noise + self.known, most=SEARCH_JITTER)
            inverse = torch.cholesky_inverse(root)
            residual = t - prior.mean
            weights = inverse @ residual
            value = 0.5 * residual @ weights + root.diagonal().log().sum() + 0.5 * len(t) * math.log(2 * math.pi)
            slope = inverse.addr_(weights, weights, alpha=-1).mul_(0.5)  # dL/dK
        penalty = prior.penalty()
        rest = slope.trace() * noise.sum() - weights.sum() * prior.mean.sum() + penalty
        # As one number: to be given dL/dK itself, torch would load sympy, for longer than a small fit takes.
        gradient = torch.autograd.grad((K * slope).sum() + rest, self.parameters)
        return float(value + penalty.detach()), torch.cat([g.flatten() for g in gradient]).cpu().numpy()


def _starts(prior: Prior, begin: FloatArray) -> list[FloatArray]:
    """Give where searches begin: as the prior says, then with more noise, then at the priors' centres with as much as signal."""
    noisier = begin.copy()
    noisier[_noise_places(prior)] = math.log(0.3)
    return [begin, noisier, _centres(prior, begin)]


def _centres(prior: Prior, begin: FloatArray) -> FloatArray:
    centres = [
        torch.as_tensor(getattr(owner, "centre", 0.0)).cpu().expand(p.numel()).numpy()
        for name, p in prior.named_parameters()
        for owner in [prior.get_submodule(name.rpartition(".")[0])]
    ]
    out = np.concatenate(centres)
    out[_noise_places(prior)] = 0.0
    return np.asarray(out, dtype=begin.dtype)


def _noise_places(prior: Prior) -> Array:
    return np.concatenate([np.full(p.numel(), name.startswith("noise.")) for name, p in prior.named_parameters()])


def _set(parameters: list[nn.Parameter], z: FloatArray) -> None:
    nn.utils.vector_to_parameters(torch.tensor(z, device=parameters[0].device), parameters)


def cholesky(
    K: Float[Tensor, "n n"], noise: Float[Tensor, " n"] | None = None, *, most: float = MOST_JITTER
) -> tuple[Float[Tensor, "n n"], float]:  # fmt: skip
    """Factor K with `noise` and the least jitter that works on its diagonal; gives the jitter too.

    Raises:
        MethodError: no jitter up to `most` makes it positive definite.
    """
    jitter = JITTER
    while jitter <= 1.5 * most:
        A = K.clone()
        A.diagonal().add_(jitter if noise is None else noise + jitter)
        root, failed = torch.linalg.cholesky_ex(A)
        if not failed and bool(torch.isfinite(root.diagonal()).all()):
            return root, jitter
        jitter *= 10
    raise MethodError("the Gaussian process found no stable fit: are there values of very different size among the measurements?")
