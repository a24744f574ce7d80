"""A Gaussian process that always fits, and says where it stepped back."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from labloop.errors import MethodError
from labloop.methods.gp_mean import GPMean
from labloop.methods.qei import QEI
from labloop.proposing.dataset import Dataset
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Real
from labloop.studies.labs.functions import hartmann6, levy
from labloop.surrogates import _fit
from labloop.surrogates._kernels import DesignKernel, _Squares
from labloop.surrogates.gp import GP, FittedGP


def cube(d: int) -> DesignSpace:
    return DesignSpace(parameters=tuple(Real(name=f"x{i}", low=0, high=1) for i in range(d)))


def measured(X: np.ndarray, y: np.ndarray) -> Dataset:
    space = cube(X.shape[1])
    return Dataset.from_measurements(space, space.decode(X), y)


def clusters(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Designs in threes, 1e-4 apart."""
    return np.clip(np.repeat(rng.random((n // 3 + 1, d)), 3, axis=0)[:n] + 1e-4 * rng.standard_normal((n, d)), 0, 1)


def smooth(X: np.ndarray) -> np.ndarray:
    return np.sin(3 * X).sum(1) + np.cos(2 * X[:, 0])


def sound(fitted: FittedGP, X: np.ndarray) -> None:
    mean, std = fitted(X)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std > 0).all()


# ---- distances


def test_the_kernel_of_close_designs_far_from_zero_is_a_covariance():
    X = torch.tensor(clusters(120, 6, generator(0, "close")))
    kernel = DesignKernel(cube(6))
    with torch.no_grad():
        kernel.lengths.log.fill_(-12.0)  # as a bad step of a line search asks for
        kernel.variances.log.fill_(np.log(177.6))
        K = kernel.forward(X, X)
    torch.testing.assert_close(K.diagonal(), torch.full_like(K.diagonal(), 177.6), rtol=1e-9, atol=0)
    assert torch.linalg.eigvalsh(K).min() > -1e-9


def test_slopes_of_distances_are_right_at_zero_too_and_in_batches():
    draw = torch.Generator().manual_seed(0)
    a = torch.randn(3, 4, 5, dtype=torch.float64, generator=draw, requires_grad=True)
    b = torch.randn(6, 5, dtype=torch.float64, generator=draw, requires_grad=True)
    assert torch.autograd.gradcheck(_Squares.apply, (a, b))
    same = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Squares.apply, (same, same.detach()))


# ---- any data


@pytest.mark.parametrize(
    ("n", "d"), [(3, 1), (3, 60), (40, 1), (40, 60), (300, 6)], ids=lambda value: str(value)
)  # fmt: skip
@pytest.mark.parametrize("values", ["smooth", "constant", "outlier", "two outliers", "huge", "tiny", "far"])
def test_every_dataset_that_a_lab_can_have_is_fitted(n, d, values):
    rng = generator(n, "any", d)
    X = clusters(n, d, rng)
    if d > 1:
        X[:, -1] = 0.5  # a column that nobody changed
    y = smooth(X)
    if values == "constant":
        y = np.full(n, 0.1)
    if "outlier" in values:
        y[0] = 1e6
        y[1] = 1e6 if values.startswith("two") else y[1]
    y = {"huge": 1e300 * y, "tiny": 1e-300 * y, "far": 1e9 + y}.get(values, y)
    sound(GP(iterations=15).fit(measured(X, y), seed=0), np.vstack([X[:5], rng.random((5, d))]))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(3, 40), d=st.integers(1, 8), seed=st.integers(0, 10**6), spread=st.floats(-9, 0), digits=st.integers(0, 6),
    twice=st.booleans(), odd=st.sampled_from([None, 1e6, -1e6, 1e12]),
)  # fmt: skip
def test_whatever_is_measured_the_fit_gives_finite_predictions(n, d, seed, spread, digits, twice, odd):
    rng = np.random.default_rng(seed)
    X = np.clip(0.5 + 10.0**spread * rng.standard_normal((n, d)), 0, 1)
    X = np.vstack([X, X]) if twice else X
    y = np.round(smooth(X) + 10.0 ** (spread - 3) * rng.standard_normal(len(X)), digits)
    if odd:
        y[0] = odd
    data = measured(X, y)
    if len(data) > 1:
        sound(GP(iterations=10).fit(data, seed=0), np.vstack([X[:3], rng.random((3, d))]))


def test_two_thousand_designs_in_clusters_are_fitted():
    rng = generator(0, "many")
    X = clusters(2_000, 3, rng)
    sound(GP(iterations=2).fit(measured(X, smooth(X)), seed=0), rng.random((5, 3)))


# ---- one odd reading


@pytest.mark.parametrize("odd", [1e6, -1e6])
def test_one_absurd_reading_does_not_spoil_the_ranking_of_the_rest(odd, caplog):
    rng = generator(1, "odd")
    X, new = rng.random((60, 2)), rng.random((200, 2))
    clean, spoilt = smooth(X), smooth(X)
    spoilt[7] = odd
    before = GP().fit(measured(X, clean), seed=0)
    with caplog.at_level(logging.WARNING, logger="labloop"):
        after = GP().fit(measured(X, spoilt), seed=0)
    far = np.linalg.norm(new - X[7], axis=1) > 0.3
    assert spearmanr(before.belief(new[far])[0], smooth(new[far])).statistic > 0.99
    assert spearmanr(after.belief(new[far])[0], smooth(new[far])).statistic > 0.8
    assert "1 readings lie absurdly far" in after.notes["held"]
    assert f"{odd:.6g}" in caplog.text
    assert "held" not in before.notes


def test_heavy_tails_and_rare_hits_are_no_odd_readings():
    rng = generator(3, "tails")
    for y in (
        np.exp(3 * rng.standard_normal(500)),
        np.where(np.arange(500) < 495, 0.0, 7.0),
        np.concatenate([np.zeros(99), [1.0]]),
        rng.standard_cauchy(500),
        np.array([0.0, 0.001, 1.0]),
    ):
        assert not len(_fit.scaled(y).odd)


def test_one_absurd_replicate_does_not_make_everything_noise():
    rng = generator(4, "replicates")
    X = rng.random((30, 2))
    space = cube(2)
    twice = np.concatenate([smooth(X), smooth(X)])
    twice[4] = 1e6
    data = Dataset.from_measurements(space, space.decode(np.vstack([X, X])), twice)
    fitted = GP().fit(data, seed=0)
    new = rng.random((200, 2))
    assert spearmanr(fitted.belief(new)[0], smooth(new)).statistic > 0.7
    assert "bad reading" in fitted.notes["replicates"]


# ---- beside BoTorch


def test_it_foretells_at_least_as_well_as_botorchs_own_on_spaces_of_numbers():
    """Log density of 200 held-out values after 48, over two draws of each function: what the prior of lengths was chosen by."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    def density(y: np.ndarray, mean: np.ndarray, std: np.ndarray) -> float:
        return float(np.mean(-0.5 * ((y - mean) / std) ** 2 - np.log(std)))

    for function, d in ((hartmann6, 6), (lambda X: levy(20 * X - 10), 10)):
        ours, theirs = [], []
        for seed in range(2):
            X = np.random.default_rng(seed).random((248, d))
            y = function(X)
            y = (y - y.mean()) / y.std()
            ours.append(density(y[48:], *GP().fit(measured(X[:48], y[:48]), seed=0)(X[48:])))
            model = SingleTaskGP(torch.tensor(X[:48]), torch.tensor(y[:48])[:, None])
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            with torch.no_grad():
                told = model.posterior(torch.tensor(X[48:]), observation_noise=True)
            theirs.append(density(y[48:], *(a[:, 0].detach().numpy() for a in (told.mean, told.variance.sqrt()))))
        assert np.mean(ours) > np.mean(theirs)


# ---- stepping back


def test_a_step_without_a_cholesky_factor_is_turned_back_and_not_the_end(monkeypatch):
    """Every third evaluation fails: the search goes on, and ends near where it does without failures."""
    real, calls = _fit.cholesky, []

    def brittle(K, noise=None, *, most=_fit.MOST_JITTER):
        calls.append(most)
        if most == _fit.SEARCH_JITTER and len(calls) % 3 == 0:
            raise MethodError("no factor")
        return real(K, noise, most=most)

    rng = generator(0, "brittle")
    data = measured(rng.random((30, 2)), smooth(generator(0, "brittle").random((30, 2))))
    whole = GP().fit(data, seed=0)
    monkeypatch.setattr(_fit, "cholesky", brittle)
    again = GP().fit(measured(data.X, data.y), seed=0)
    assert len(calls) > 5
    new = rng.random((50, 2))
    assert np.corrcoef(whole.belief(new)[0], again.belief(new)[0])[0, 1] > 0.99


def test_a_start_that_cannot_be_evaluated_begins_anew_and_says_so(monkeypatch, caplog):
    real, calls = _fit.cholesky, []

    def late(K, noise=None, *, most=_fit.MOST_JITTER):
        calls.append(most)
        if len(calls) < 2:
            raise MethodError("no factor")
        return real(K, noise, most=most)

    monkeypatch.setattr(_fit, "cholesky", late)
    rng = generator(0, "late")
    X = rng.random((20, 2))
    with caplog.at_level(logging.WARNING, logger="labloop"):
        fitted = GP().fit(measured(X, smooth(X)), seed=0)
    assert "began anew" in fitted.notes["fit"]
    assert "began anew" in caplog.text
    sound(fitted, X)


def test_without_any_fit_the_prior_and_much_noise_stand_in(monkeypatch):
    real = _fit.cholesky

    def never(K, noise=None, *, most=_fit.MOST_JITTER):
        if most == _fit.SEARCH_JITTER:
            raise MethodError("no factor")
        return real(K, noise, most=most)

    monkeypatch.setattr(_fit, "cholesky", never)
    rng = generator(0, "never")
    X = rng.random((20, 2))
    fitted = GP().fit(measured(X, smooth(X)), seed=0)
    assert "no fit was found" in fitted.notes["fit"]
    assert float(fitted.prior.noise()) == pytest.approx(1.0)
    sound(fitted, X)


@pytest.mark.parametrize(
    "proposer", [GPMean(iterations=20, generations=3), QEI(samples=32, candidates=64, optimised=2, iterations=20)]
)
def test_a_pool_tells_how_its_fit_stepped_back(proposer):
    rng = generator(5, "pool")
    X = rng.random((40, 6))
    y = -hartmann6(X)
    y[3] = 1e6
    assert "absurdly" in proposer.propose(measured(X, y), 4, seed=0).notes["gp_held"]
