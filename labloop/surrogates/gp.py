"""Gaussian process: an exact posterior over y in float64, with a kernel that fits the space and the lab's replicate noise.

The model, for y standardised to mean 0 and variance 1 over the designs it is fitted to:

    y_i = c + f(x_i) + ε_i        f ~ GP(0, k)        ε_i ~ N(0, sem_i² + s²)

k is `labloop.surrogates._kernels.DesignKernel`. sem_i² counts where replicates tell it. s² is inferred always: it stands for
the noise where there are no replicates, and for what the kernel cannot follow and a pooled sem of few replicates misses.

1. Hyper-parameters maximise the log posterior density (exact marginal likelihood and priors) by L-BFGS-B. The gradient takes
   dL/dK = ½ (K⁻¹ - K⁻¹y yᵀK⁻¹) by hand (Rasmussen and Williams 2006, eq. 5.9) and the rest by autograd, which is several times
   cheaper than going back through the Cholesky factor. The number of iterations is capped, never the time.
2. Above `max_points` designs, hyper-parameters are fitted to `inducing` of them (half of these the best by y, the rest drawn at
   random) and the posterior is the fully independent training conditional of all designs on these (FITC:
   Quiñonero-Candela and Rasmussen, JMLR 2005, section 6). The log says so.
3. A censored reading enters as its bound, so the belief errs towards the bound. The log counts them.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Annotated
from weakref import WeakKeyDictionary

import numpy as np
import torch
from botorch.models import SingleTaskGP
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
from gpytorch.means import ConstantMean
from pydantic import Field, PositiveInt
from scipy.optimize import minimize
from torch import Tensor, nn

from labloop.dataset import Dataset
from labloop.errors import MethodError
from labloop.methods._train import pick_device
from labloop.parameters import FloatArray
from labloop.registry import plugin
from labloop.seeds import generator
from labloop.surrogates._kernels import DesignKernel, Logs

log = logging.getLogger("labloop")

CHUNK = 4_096
"""Designs predicted at a time: memory stays at CHUNK × the training designs, whatever the space."""
JITTER = 1e-8
"""Least variance added to a diagonal before its Cholesky factor, relative to the variance of y; tenfold until it succeeds."""
_EXACT: WeakKeyDictionary[Dataset, dict[GP, FittedGP]] = WeakKeyDictionary()
"""Exact fits by dataset, as long as somebody holds the dataset."""


@plugin
class GP:
    """Exact Gaussian process with a kernel that fits the space; FITC above `max_points` designs."""

    max_points: PositiveInt = 2_000
    """Up to so many designs the posterior is exact."""
    inducing: PositiveInt = 1_000
    """Designs that carry the posterior above that."""
    iterations: Annotated[int, Field(ge=1)] = 200
    """Most L-BFGS iterations of the fit; it usually converges in 20 to 60."""
    motifs: bool = True
    """Whether short words of a sequence count wherever they stand, besides letters at their places."""

    def fit(self, data: Dataset, *, seed: int) -> FittedGP:
        """Fit to all measured designs; the seed only draws inducing designs.

        Raises:
            MethodError: there are fewer than two measured designs.
        """
        if len(data) < 2:
            raise MethodError(f"a Gaussian process needs at least 2 measured designs, not {len(data)}")
        if (data.censored != 0).any():
            log.info("gp: %d of %d designs are censored; their bounds enter as values", (data.censored != 0).sum(), len(data))
        if len(data) > self.max_points:
            return self._fit(data, seed)
        known = _EXACT.setdefault(data, {})  # the seed plays no part: two proposers of one round share the fit
        if self not in known:
            known[self] = self._fit(data, seed)
        return known[self]

    def _fit(self, data: Dataset, seed: int) -> FittedGP:
        device = pick_device()
        rows = self._support(data, seed)
        shift, scale = float(data.y[rows].mean()), float(data.y[rows].std()) or 1.0
        X, t = (torch.tensor(a, dtype=torch.float64, device=device) for a in (data.X, (data.y - shift) / scale))
        known = torch.tensor(np.nan_to_num((data.sem / scale) ** 2, nan=0.0), dtype=torch.float64, device=device)
        prior = _Prior(data, motifs=self.motifs, measured_noise=bool(np.isfinite(data.sem).any())).to(device)
        support = torch.as_tensor(rows, device=device)
        _maximise(prior, X[support], t[support], known[support], self.iterations)
        # One well of a design that is not replicated yet: the pooled variance of one reading, and what was inferred.
        one = float(np.nanmean((data.sem / scale) ** 2 * data.n_replicates)) if np.isfinite(data.sem).any() else 0.0
        with torch.no_grad():
            noise = known + prior.noise()
            root, weights, inner = _condition(prior, X, t, noise, None if len(rows) == len(data) else support)
        return FittedGP(
            prior=prior, Z=X[support], t=t[support], noise=noise[support], root=root, weights=weights, inner=inner,
            shift=shift, scale=scale, well_variance=one + float(prior.noise()),
        )  # fmt: skip

    def _support(self, data: Dataset, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if len(data) <= self.max_points:
            return np.arange(len(data))
        m = min(self.inducing, len(data))
        top = data.top(m // 2)
        rest = np.setdiff1d(np.arange(len(data)), top)
        spread = generator(seed, "gp", "inducing").choice(rest, size=m - len(top), replace=False)
        log.info(
            "gp: %d designs are more than max_points=%d: FITC on %d inducing designs (the best %d and %d drawn at random)",
            len(data), self.max_points, m, len(top), len(spread),
        )  # fmt: skip
        return np.sort(np.concatenate([top, spread]))


class _Prior(nn.Module):
    """What is fitted: the kernel, the inferred noise variance s² and the constant mean c."""

    def __init__(self, data: Dataset, *, motifs: bool, measured_noise: bool) -> None:
        super().__init__()
        self.kernel = DesignKernel(data.space, motifs=motifs)
        centre = 0.01 if measured_noise else 0.1  # where replicates tell the noise, less is left to infer
        self.noise = Logs(1, centre=centre, spread=2.0, start=3 * centre)
        self.mean = nn.Parameter(torch.zeros(1, dtype=torch.float64))


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedGP:
    """The belief after the data. It is a `Posterior`; proposers ask for `belief`, `draw` and `botorch_model` besides."""

    prior: _Prior
    Z: Tensor
    """Designs that carry the posterior, (m, d): all measured ones, or the inducing ones."""
    t: Tensor
    """Standardised y of these, (m,)."""
    noise: Tensor
    """Noise variances of these, (m,), standardised."""
    root: Tensor
    """Cholesky factor of K_ZZ, with the noise where the posterior is exact."""
    weights: Tensor
    """The posterior mean of f is k(x, Z) @ weights."""
    inner: Tensor | None
    """FITC only: the factor of the variance that all the data leave, in coordinates of `root`."""
    shift: float
    scale: float
    well_variance: float
    """Noise variance of one new well, standardised."""

    @property
    def noise_std(self) -> float:
        """Standard deviation of one well's reading about its design's own value, in y."""
        return self.scale * math.sqrt(self.well_variance)

    def __call__(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Predict one new measurement of each design X (m, d): mean (m,) and std (m,) with the noise of a well in it."""
        mean, std = self.belief(X)
        return mean, np.hypot(std, self.noise_std)

    def belief(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Tell what each design X (m, d) is worth without noise: mean (m,) and std (m,) in y, in chunks of bounded memory."""
        means, stds = [np.zeros(0)], [np.zeros(0)]
        with torch.no_grad():
            for start in range(0, len(X), CHUNK):
                x = self.tensor(X[start : start + CHUNK])
                k, V, W = self._project(x)
                variance = self.prior.kernel(x, x, diag=True) - (V**2).sum(0) + (0 if W is None else (W**2).sum(0))
                means.append((self.prior.mean + k @ self.weights).cpu().numpy())
                stds.append(variance.clamp_min(1e-12).sqrt().cpu().numpy())
        return self.shift + self.scale * np.concatenate(means), self.scale * np.concatenate(stds)

    def joint(self, X: FloatArray) -> tuple[Tensor, Tensor]:
        """Give mean (m,) and covariance (m, m) of designs without noise, standardised, on the model's device."""
        with torch.no_grad():
            x = self.tensor(X)
            k, V, W = self._project(x)
            covariance = self.prior.kernel.forward(x, x) - V.T @ V
            if W is not None:
                covariance += W.T @ W
            return self.prior.mean + k @ self.weights, covariance

    def draw(self, X: FloatArray, n: int, *, generator: torch.Generator) -> Tensor:
        """Draw n joint samples of designs X (m, d) without noise, in antithetic pairs: (n, m) in y, on the model's device."""
        mean, covariance = self.joint(X)
        root = _cholesky(covariance)
        half = torch.randn(math.ceil(n / 2), len(X), generator=generator, dtype=torch.float64, device=generator.device)
        z = torch.cat([half, -half])[:n].to(mean.device)
        return self.shift + self.scale * (mean + z @ root.T)

    def botorch_model(self) -> SingleTaskGP:
        """Give the exact posterior on `Z` as a BoTorch model of standardised y, for BoTorch's own optimisers."""
        mean = ConstantMean().to(self.Z)
        mean.constant.data.fill_(float(self.prior.mean))
        model = SingleTaskGP(
            self.Z, self.t[:, None], self.noise[:, None], likelihood=FixedNoiseGaussianLikelihood(self.noise),
            mean_module=mean, covar_module=self.prior.kernel, outcome_transform=None,
        )  # fmt: skip
        return model.eval().requires_grad_(False)

    def tensor(self, X: FloatArray) -> Tensor:
        """Give X on the model's device."""
        return torch.tensor(np.asarray(X), dtype=torch.float64, device=self.Z.device)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        k = self.prior.kernel.forward(x, self.Z)
        V = torch.linalg.solve_triangular(self.root, k.T, upper=False)
        return k, V, None if self.inner is None else torch.linalg.solve_triangular(self.inner, V, upper=False)


def _maximise(prior: _Prior, X: Tensor, t: Tensor, known: Tensor, iterations: int) -> None:
    """Move the prior's hyper-parameters to the mode of their posterior given X (n, d), standardised y t (n,), sem² (n,)."""
    parameters = list(prior.parameters())
    bounds = [(-15.0, 7.0) for p in parameters for _ in range(p.numel())]

    def objective(z: FloatArray) -> tuple[float, FloatArray]:
        nn.utils.vector_to_parameters(torch.tensor(z, device=X.device), parameters)
        K = prior.kernel.forward(X, X)
        noise = prior.noise()
        with torch.no_grad():
            root = _cholesky(K, noise + known)
            inverse = torch.cholesky_inverse(root)
            residual = t - prior.mean
            weights = inverse @ residual
            value = 0.5 * residual @ weights + root.diagonal().log().sum() + 0.5 * len(t) * math.log(2 * math.pi)
            slope = inverse.addr_(weights, weights, alpha=-1).mul_(0.5)  # dL/dK
        rest = slope.trace() * noise.sum() - weights.sum() * prior.mean.sum() + prior.kernel.penalty() + prior.noise.penalty()
        gradient = torch.autograd.grad([K, rest], parameters, [slope, torch.ones_like(rest)])
        penalty = (prior.kernel.penalty() + prior.noise.penalty()).detach()
        return float(value + penalty), torch.cat([g.flatten() for g in gradient]).cpu().numpy()

    start = nn.utils.parameters_to_vector(parameters).detach().cpu().numpy()
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations})
    nn.utils.vector_to_parameters(torch.tensor(found.x, device=X.device), parameters)
    prior.requires_grad_(False)
    log.info("gp: %d designs, -log posterior %.4f a design after %d iterations", len(t), found.fun / len(t), found.nit)
    if found.nit >= iterations:
        log.warning("gp: the fit did not converge in %d iterations; raise `iterations`", iterations)


def _condition(
    prior: _Prior, X: Tensor, t: Tensor, noise: Tensor, support: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Condition f on all data, exactly or by FITC on the rows `support`: the root, weights and inner root of a `FittedGP`."""
    if support is None:
        root = _cholesky(prior.kernel.forward(X, X), noise)
        return root, torch.cholesky_solve((t - prior.mean)[:, None], root)[:, 0], None
    Z = X[support]
    eye = torch.eye(len(Z), dtype=torch.float64, device=X.device)
    root = _cholesky(prior.kernel.forward(Z, Z))
    precision, pull = eye.clone(), torch.zeros(len(Z), dtype=torch.float64, device=X.device)
    for start in range(0, len(X), CHUNK):
        part = slice(start, start + CHUNK)
        V = torch.linalg.solve_triangular(root, prior.kernel.forward(Z, X[part]), upper=False)
        left = prior.kernel.forward(X[part], X[part], diag=True) - (V**2).sum(0)
        scaled = V / (noise[part] + left.clamp_min(0))
        precision += scaled @ V.T
        pull += scaled @ (t[part] - prior.mean)
    inner = _cholesky(precision)
    weights = torch.linalg.solve_triangular(root.T, torch.cholesky_solve(pull[:, None], inner), upper=True)[:, 0]
    return root, weights, inner


def _cholesky(K: Tensor, noise: Tensor | None = None) -> Tensor:
    """Factor K (n, n) with `noise` (n,) and the least jitter that works on its diagonal.

    Raises:
        MethodError: no jitter up to 1e-3 makes it positive definite.
    """
    jitter = JITTER
    while jitter <= 1e-3:
        A = K.clone()
        A.diagonal().add_(jitter if noise is None else noise + jitter)
        root, failed = torch.linalg.cholesky_ex(A)
        if not failed:
            return root  # type: ignore[no-any-return]
        jitter *= 10
    raise MethodError("the Gaussian process found no stable fit: are there values of very different size among the measurements?")
