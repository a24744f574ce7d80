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
4. No dataset ends a fit: where the numbers are bad it steps back (`labloop.surrogates._fit`), and `FittedGP.notes` and the log
   say how.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from botorch.models import SingleTaskGP
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
from gpytorch.means import ConstantMean
from pydantic import Field, PositiveInt
from torch import Tensor

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.history import ENOUGH
from labloop.proposing.insight import spearman
from labloop.registry import plugin
from labloop.seeds import generator
from labloop.surrogates._fit import ITERATIONS, Prior, believable, cholesky, maximise, scaled
from labloop.surrogates._kernels import LETTERS, encodings
from labloop.surrogates._latest import Answer, Latest
from labloop.surrogates._related import TaskEvidence, TaskTerm, helped
from labloop.surrogates.training import pick_device
from labloop.types import Designs, FloatArray, Others, Values

if TYPE_CHECKING:
    from jaxtyping import Float, Int

log = logging.getLogger("labloop")

CHOOSE = 300
"""Designs by which sets of descriptors are chosen at most."""
FEWEST = 12
"""Designs without which nothing is chosen: all that is known is used."""
CHUNK = 4_096
"""Designs predicted at a time: memory stays at CHUNK × the training designs, whatever the space."""
TOLD_JITTER = 1e-5
"""More jitter than that is told."""
SOME = 400
"""Designs of another campaign that its hyper-parameters are fitted to at most."""
_EXACT: WeakKeyDictionary[Dataset, dict[GP, FittedGP]] = WeakKeyDictionary()
"""Exact fits by dataset, as long as somebody holds the dataset."""


@plugin
class GP:
    """Exact Gaussian process with a kernel that fits the space; FITC above `max_points` designs."""

    max_points: PositiveInt = 2_000
    """Up to so many designs the posterior is exact."""
    inducing: PositiveInt = 1_000
    """Designs that carry the posterior above that."""
    iterations: Annotated[int, Field(ge=1)] = ITERATIONS
    """Most L-BFGS iterations of the fit; it usually converges in 20 to 60."""
    descriptors: Literal["all", "left_out", "none"] = "all"
    """What is used of the space's descriptors. `all`: every set and the letters in one kernel, where the marginal likelihood
    tells what each is worth, and vectors of sequences where left-out designs are predicted better with them; `left_out`: the one
    set, or all of them, that predicts designs best that are left out; or `none`."""
    motifs: bool = True
    """Whether words of a sequence count wherever they stand, besides letters at their places."""
    effects: bool = True
    """Whether what each factor does by itself is a term of its own, where a space has several factors and little is measured."""

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
        """Fit with those of the other campaigns that make left-out designs likelier, else without any."""
        alone = self._alone(data, seed)
        if not data.history or not ENOUGH <= len(data) <= self.max_points:
            return alone
        return helped(alone, data, lambda tasks: self._fitted(data, seed, alone.sets, related=tasks), _task)

    def _alone(self, data: Dataset, seed: int) -> FittedGP:
        """Fit as `descriptors` says, without history."""
        known = encodings(data.space)
        if len(known) == 1 or self.descriptors == "none":
            return self._fitted(data, seed, known[0])
        if len(data) < FEWEST or (self.descriptors == "all" and not data.space.embedded):
            return self._fitted(data, seed, known[-1])
        some, fits = self._tried(data, seed, known[-2:] if self.descriptors == "all" else known)
        told = {sets: fitted.density() for sets, fitted in fits.items()}
        best = max(told, key=lambda sets: told[sets])
        shown = ", ".join(f"{'+'.join(sets)} {density:.3f}" for sets, density in told.items())
        log.info("gp: sees %s of options and letters (left-out log density a design: %s)", "+".join(best), shown)
        return fits[best] if some is data else self._fitted(data, seed, best)

    def compare(self, data: Dataset, *, seed: int) -> dict[str, dict[str, float]]:
        """Tell how well each set of descriptors predicts designs that are left out, of `CHOOSE` at most.

        Returns:
            By what is seen: `correlation`, Spearman's of left-out means with y, and `density`, the mean log density of left-out
            readings; the greater, the better.
        """
        some, fits = self._tried(data, seed, encodings(data.space))
        return {
            "+".join(sets): {"correlation": spearman(fitted.left_out()[0], some.y), "density": fitted.density()}
            for sets, fitted in fits.items()
        }

    def _tried(
        self, data: Dataset, seed: int, sets: Sequence[tuple[str, ...]]
    ) -> tuple[Dataset, dict[tuple[str, ...], FittedGP]]:
        """Fit with each of these sets, to all data or `CHOOSE` of them."""
        some = data
        if len(data) > CHOOSE:
            top = data.top(CHOOSE // 2)
            rest = generator(seed, "gp", "sets").permutation(np.setdiff1d(np.arange(len(data)), top))
            some = data.take(np.sort(np.concatenate([top, rest[: CHOOSE - len(top)]])))
        return some, {one: self._fitted(some, seed, one) for one in sets}

    def _fitted(self, data: Dataset, seed: int, sets: tuple[str, ...], related: Sequence[TaskTerm] = ()) -> FittedGP:
        rows = self._support(data, seed)
        y = scaled(data.y, rows)
        device = pick_device()
        notes: dict[str, str] = {}
        if len(y.odd):
            shown = ", ".join(f"{value:.6g}" for value in data.y[y.odd[:3]]) + (", …" if len(y.odd) > 3 else "")
            notes["held"] = f"{len(y.odd)} readings lie absurdly far from all others and hardly count (y {shown}): check them"
        sem = believable(data.sem / y.scale, data.n_replicates, notes)
        X, t, doubt = (torch.tensor(a, dtype=torch.float64, device=device) for a in (data.X, y.t, y.doubt))
        known = torch.tensor(np.nan_to_num(sem**2, nan=0.0), dtype=torch.float64, device=device) + doubt
        known_noise = bool(np.isfinite(sem).any())
        prior = Prior(data, motifs=self.motifs, measured_noise=known_noise, sets=sets, related=related, effects=self.effects).to(
            device
        )
        support = torch.as_tensor(rows, device=device)
        if told := maximise(prior, X[support], t[support], known[support], self.iterations):
            notes["fit"] = told
        # One well of a design that is not replicated yet: the pooled variance of one reading, and what was inferred.
        one = float(np.nanmean(sem**2 * data.n_replicates)) if np.isfinite(sem).any() else 0.0
        with torch.no_grad():
            noise = known + prior.noise()
            root, weights, inner, noise = _condition(prior, X, t, noise, None if len(rows) == len(data) else support, notes)
        for said in notes.values():
            log.warning("gp: %s", said)
        return FittedGP(
            prior=prior, Z=X[support], t=t[support], noise=noise[support], root=root, weights=weights, inner=inner,
            shift=y.shift, scale=y.scale, well_variance=one + float(prior.noise()), notes=notes, sets=sets,
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


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedGP:
    """The belief after the data. It is a `Posterior`; proposers ask for `belief`, `draw` and `botorch_model` besides."""

    prior: Prior
    Z: Float[Tensor, "m d"]
    """Designs that carry the posterior: all measured ones, or the inducing ones."""
    t: Float[Tensor, " m"]
    """Standardised y of these."""
    noise: Float[Tensor, " m"]
    """Noise variances of these, standardised."""
    root: Float[Tensor, "m m"]
    """Cholesky factor of K_ZZ, with the noise where the posterior is exact."""
    weights: Float[Tensor, " m"]
    """The posterior mean of f is k(x, Z) @ weights."""
    inner: Float[Tensor, "m m"] | None
    """FITC only: the factor of the variance that all the data leave, in coordinates of `root`."""
    shift: float
    scale: float
    well_variance: float
    """Noise variance of one new well, standardised."""
    sets: tuple[str, ...] = (LETTERS,)
    """What is seen of options and letters: that they differ, or which descriptors."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """How the fit stepped back, for a person to read; empty where it did not."""
    history: tuple[TaskEvidence, ...] = ()
    """What was found of other campaigns, whether they are used or not."""
    _latest: Latest = field(default_factory=Latest, init=False)

    @property
    def noise_std(self) -> float:
        """Standard deviation of one well's reading about its design's own value, in y."""
        return self.scale * math.sqrt(self.well_variance)

    @property
    def pool_notes(self) -> dict[str, str]:
        """The notes as a proposer hands them on with its pool."""
        seen = {} if self.sets == (LETTERS,) else {"gp_sees": ", ".join(self.sets)}
        used = {"history": ", ".join(one.label for one in self.history if one.used)} if self.history else {}
        return seen | used | {f"gp_{name}": said for name, said in self.notes.items()}

    def __call__(self, X: Designs) -> tuple[Values, Values]:
        """Predict one new measurement of each design X (m, d): mean (m,) and std (m,) with the noise of a well in it."""
        mean, std = self.belief(X)
        return mean, np.hypot(std, self.noise_std)

    def belief(self, X: Designs) -> tuple[Values, Values]:
        """Tell what each design X (m, d) is worth without noise: mean (m,) and std (m,) in y, in chunks of bounded memory."""
        means, stds = [np.zeros(0)], [np.zeros(0)]
        with torch.no_grad():
            for start in range(0, len(X), CHUNK):
                x = self.tensor(X[start : start + CHUNK])
                k, V, W = self._project(x)
                variance = self._left(x, V, W)
                means.append((self.prior.mean + k @ self.weights).cpu().numpy())
                stds.append(variance.clamp_min(1e-12).sqrt().cpu().numpy())
        return self.shift + self.scale * np.concatenate(means), self.scale * np.concatenate(stds)

    def joint(self, X: Designs) -> tuple[Float[Tensor, " m"], Float[Tensor, "m m"]]:
        """Give mean and covariance of designs without noise, standardised, on the model's device."""
        with torch.no_grad():
            x = self.tensor(X)
            k, V, W = self._project(x)
            covariance = self.prior.kernel.forward(x, x) - V.T @ V
            if W is not None:
                covariance += W.T @ W
            return self.prior.mean + k @ self.weights, covariance

    def correlation(self, X: Designs, others: Others | None = None) -> FloatArray:
        """Tell how far designs X (m, d) are believed to be good or bad together, (m, m), or with others (k, d), (m, k)."""
        if others is None:
            covariance = self.joint(X)[1]
            return _scaled(covariance, covariance.diagonal(), covariance.diagonal())
        with torch.no_grad():
            (_, U, R), (_, V, W) = self._project(z := self.tensor(others)), self._project(x := self.tensor(X))
            covariance = self.prior.kernel.forward(x, z) - V.T @ U + (0 if W is None or R is None else W.T @ R)
            return _scaled(covariance, self._left(x, V, W), self._left(z, U, R))

    def draw(self, X: Designs, n: int, *, generator: torch.Generator) -> Float[Tensor, "n m"]:
        """Draw n joint samples of designs X without noise, in antithetic pairs, in y, on the model's device."""
        mean, covariance = self.joint(X)
        root, _ = cholesky(covariance)
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

    def conditioned(self, data: Dataset) -> FittedGP:
        """Give the exact posterior that these hyper-parameters have after other data, absurd readings held as in the fit."""
        y, notes = scaled(data.y, np.arange(len(data))), dict(self.notes)
        X, t = self.tensor(data.X), self.tensor((y.t * y.scale + y.shift - self.shift) / self.scale)
        sem = believable(data.sem / self.scale, data.n_replicates, notes)
        noise = self.tensor(np.nan_to_num(sem**2, nan=0.0) + y.doubt * (y.scale / self.scale) ** 2)
        with torch.no_grad():
            root, weights, _, noise = _condition(self.prior, X, t, noise + self.prior.noise(), None, notes)
        return replace(self, Z=X, t=t, noise=noise, root=root, weights=weights, inner=None, notes=notes)

    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """Tell what each of its designs would be believed to be worth without its own reading: mean (n,) and std (n,) in y.

        In closed form, hyper-parameters kept (Rasmussen and Williams 2006, eq. 5.10 to 5.12); of an exact posterior only.
        """
        precision = torch.cholesky_inverse(self.root).diagonal()
        mean, variance = self.t - self.weights / precision, 1 / precision - self.noise
        std = variance.clamp_min(1e-12).sqrt()
        return self.shift + self.scale * mean.cpu().numpy(), self.scale * std.cpu().numpy()

    def density(self) -> float:
        """Tell the mean log density of each of its standardised y given all others, hyper-parameters kept; exact ones only."""
        precision = torch.cholesky_inverse(self.root).diagonal()
        return float((0.5 * precision.log() - 0.5 * self.weights**2 / precision).mean()) - 0.5 * math.log(2 * math.pi)

    def mean_and_prior(self, x: Float[Tensor, "*b n d"]) -> tuple[Float[Tensor, "*b n"], Float[Tensor, "*b n m"]]:
        """Give the mean of designs x about the constant c, and their prior covariance with Z."""
        k = self.prior.kernel.forward(x, self.Z)
        return k @ self.weights, k

    def prior_covariance(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], diag: bool
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        """Give the covariance of designs before any data."""
        return self.prior.kernel.forward(x1, x2, diag=diag)

    def tensor(self, X: Float[FloatArray, "*m"]) -> Float[Tensor, "*m"]:
        """Give X on the model's device."""
        return torch.tensor(np.asarray(X), dtype=torch.float64, device=self.Z.device)

    def _left(
        self, x: Float[Tensor, "m d"], V: Float[Tensor, "z m"], W: Float[Tensor, "z m"] | None
    ) -> Float[Tensor, " m"]:  # fmt: skip
        """Give the variance that the data leave of designs x, from what `_project` says of them."""
        return self.prior.kernel(x, x, diag=True) - (V**2).sum(0) + (0 if W is None else (W**2).sum(0))  # type: ignore[no-any-return]

    def _project(self, x: Float[Tensor, "m d"]) -> Answer:
        """Give the covariances of designs x with Z, (m, z), and what they are by `root` and by `inner`, (z, m)."""
        return self._latest(x, self._projected)

    def _projected(self, x: Float[Tensor, "m d"]) -> Answer:
        k = self.prior.kernel.forward(x, self.Z)
        V = torch.linalg.solve_triangular(self.root, k.T, upper=False)
        return k, V, None if self.inner is None else torch.linalg.solve_triangular(self.inner, V, upper=False)


_SOURCES: WeakKeyDictionary[Dataset, FittedGP] = WeakKeyDictionary()
"""Fits of other campaigns' datasets, as long as somebody holds them."""


def _scaled(
    covariance: Float[Tensor, "m k"], rows: Float[Tensor, " m"], columns: Float[Tensor, " k"]
) -> Float[FloatArray, "m k"]:  # fmt: skip
    """Turn a covariance into correlations by the variances of its rows and columns, on the CPU."""
    scale = [side.clamp_min(1e-300).sqrt() for side in (rows, columns)]
    return (covariance / scale[0][:, None] / scale[1]).detach().to("cpu", torch.float64).numpy()  # type: ignore[no-any-return]


def _task(data: Dataset) -> TaskTerm:
    """Make a term of another campaign's dataset: hyper-parameters fitted to `SOME` of its designs at most, conditioned on all."""
    if data not in _SOURCES:
        some = data if len(data) <= SOME else data.take(generator(0, "gp", "history").permutation(len(data))[:SOME])
        fitted = GP(max_points=max(len(some), 2)).fit(some, seed=0)
        _SOURCES[data] = fitted if some is data else fitted.conditioned(data)
    return TaskTerm(_SOURCES[data])


def _condition(
    prior: Prior, X: Float[Tensor, "n d"], t: Float[Tensor, " n"], noise: Float[Tensor, " n"],
    support: Int[Tensor, " z"] | None, notes: dict[str, str],
) -> tuple[Float[Tensor, "z z"], Float[Tensor, " z"], Float[Tensor, "z z"] | None, Float[Tensor, " n"]]:  # fmt: skip
    """Condition f on all data, exactly or by FITC on the rows `support`.

    Returns:
        The root, weights and inner root of a `FittedGP`, and the noise with the jitter that made the root possible.
    """
    if support is None:
        root, jitter = cholesky(prior.kernel.forward(X, X), noise)
        _note(jitter, notes)
        return root, torch.cholesky_solve((t - prior.mean)[:, None], root)[:, 0], None, noise + jitter
    Z = X[support]
    eye = torch.eye(len(Z), dtype=torch.float64, device=X.device)
    root, jitter = cholesky(prior.kernel.forward(Z, Z))
    _note(jitter, notes)
    precision, pull = eye.clone(), torch.zeros(len(Z), dtype=torch.float64, device=X.device)
    for start in range(0, len(X), CHUNK):
        part = slice(start, start + CHUNK)
        V = torch.linalg.solve_triangular(root, prior.kernel.forward(Z, X[part]), upper=False)
        left = prior.kernel.forward(X[part], X[part], diag=True) - (V**2).sum(0)
        weighed = V / (noise[part] + left.clamp_min(0))
        precision += weighed @ V.T
        pull += weighed @ (t[part] - prior.mean)
    inner, _ = cholesky(precision)
    weights = torch.linalg.solve_triangular(root.T, torch.cholesky_solve(pull[:, None], inner), upper=True)[:, 0]
    return root, weights, inner, noise


def _note(jitter: float, notes: dict[str, str]) -> None:
    if jitter > TOLD_JITTER:
        notes["jitter"] = f"designs are too alike to be told apart exactly: noise of variance {jitter:.0e} of y's was added"
