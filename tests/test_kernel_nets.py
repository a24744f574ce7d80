"""Networks that know words: the counts, and members fitted in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from labloop.methods._ranked_proxies import predict
from labloop.methods.gtg import GTG, train_proxies
from labloop.proposing.dataset import Dataset
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Sequence
from labloop.surrogates import kernel_networks as _kernel_nets
from labloop.surrogates._kernels import _Words
from labloop.surrogates.ensemble import Ensemble
from labloop.surrogates.features import Words
from labloop.surrogates.kernel_networks import StackedKernel, fit_kernel
from labloop.surrogates.networks import load_stacked
from labloop.testing import TOY_SPACES, toy_data

DUPLEX = DesignSpace(parameters=(Sequence(name="dna", length=8),), symmetries=("reverse_complement",))
RNA = DesignSpace(parameters=(Sequence(name="rna", length=14, alphabet="ACGU"),))
SPACES = {**TOY_SPACES, "octamers": DUPLEX}


def designs(space: DesignSpace, n: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.tensor(space.sample(n, np.random.default_rng(seed)))


def motif(X: np.ndarray) -> np.ndarray:
    """How well the best place of a sequence of RNA fits GAUCA, wherever it is."""
    x, wanted = X.reshape(len(X), 14, 4), np.eye(4)[[2, 0, 3, 1, 0]]
    return np.max([np.einsum("nlk,lk->n", x[:, i : i + 5], wanted) for i in range(10)], axis=0)


def measured(n: int = 300, seed: int = 0) -> Dataset:
    X = RNA.sample(n, np.random.default_rng(seed))
    X = X[RNA.fresh(X)]
    return Dataset.from_measurements(RNA, RNA.decode(X), motif(X) + 0.1 * np.random.default_rng(1).normal(size=len(X)))


def fit(data: Dataset, members: int = 4, seed: int = 0) -> tuple[StackedKernel, torch.Tensor]:
    x = torch.tensor(data.space.orbit(data.X), dtype=torch.float32)
    bags = torch.as_tensor(np.random.default_rng(seed).multinomial(len(data), np.full(len(data), 1 / len(data)), size=members))
    return fit_kernel(data, x, torch.tensor(data.y, dtype=torch.float32), bags, unit=(1.0, 0.0), seed=seed), bags


@pytest.mark.parametrize("space", [DUPLEX, RNA], ids=["duplex", "rna"])
def test_words_are_those_of_the_gaussian_processs_kernel(space):
    x, words = designs(space), Words(space)
    terms = [_Words(space.blocks[0], order) for order in (1, 2, 3)]
    K = sum(counts @ counts.T for counts in (term.counts(x, words.twins) for term in terms))
    torch.testing.assert_close(words(x) @ words(x).T, K)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_twins_have_equal_features_and_soft_letters_a_gradient(name):
    space = SPACES[name]
    x, words = designs(space), Words(space)
    for twin in space.orbit(x.numpy()):
        torch.testing.assert_close(words(torch.tensor(twin)), words(x))
    soft = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(words(soft).square().sum(), soft)
    assert words.width > 0
    assert slope.abs().sum() > 0
    np.testing.assert_array_equal(words.of(x.numpy()), words(x).numpy())


def test_of_options_it_counts_pairs_unless_there_are_too_many():
    few = DesignSpace(parameters=tuple(Choice(name=f"c{i}", options=("a", "b", "c")) for i in range(3)))
    assert Words(few).width == 27
    many = DesignSpace(parameters=tuple(Choice(name=f"c{i}", options=tuple(f"o{j}" for j in range(40))) for i in range(3)))
    assert Words(many).width == 0


def test_weights_solve_the_ridge_regression_on_the_rows_that_a_member_drew():
    x, rng = torch.tensor(RNA.sample(30, np.random.default_rng(0)))[None], np.random.default_rng(1)
    phi, t = torch.tensor(rng.normal(size=(30, 5))), torch.tensor(rng.normal(size=30))
    counts = torch.tensor(rng.multinomial(30, np.full(30, 1 / 30), size=2))
    reach = torch.full((56,), 0.4, dtype=torch.float64)
    tail = _kernel_nets._Solver(x, phi, torch.arange(30), _kernel_nets._Metric(reach, reach.new_zeros(len(reach), 0)), 0.3, 0.1)(
        t, counts
    )
    K = (-(0.4**2) * (14 - x[0] @ x[0].T)).exp() + 0.3 * phi @ phi.T
    for weights, count in zip(tail, counts, strict=True):
        seen = count > 0
        torch.testing.assert_close((K @ weights + 0.1 * weights / count)[seen], t[seen])
        assert (weights[~seen] == 0).all()


def test_equal_seeds_agree():
    (first, _), (again, _) = (fit(toy_data(TOY_SPACES["duplex"], 40)) for _ in range(2))
    torch.testing.assert_close(again.tail, first.tail, atol=0, rtol=0)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_it_predicts_twins_alike_and_more_rows_than_it_has_units_no_worse(name, monkeypatch):
    space = SPACES[name]
    data = toy_data(space, 120)
    exact, _ = fit(data)
    monkeypatch.setattr(_kernel_nets, "EXACT", 30)
    monkeypatch.setattr(_kernel_nets, "UNITS", 30)
    fewer, _ = fit(data)
    assert fewer.units.shape[1] == 30
    x = torch.tensor(data.X, dtype=torch.float32)
    for net in (exact, fewer):
        with torch.no_grad():
            mean = net(x).mean(0)
            for twin in space.orbit(data.X):
                torch.testing.assert_close(net(torch.tensor(twin, dtype=torch.float32)).mean(0), mean, atol=1e-3, rtol=1e-3)
        assert np.corrcoef(mean.numpy(), data.y)[0, 1] > 0.7


def test_each_member_may_have_rows_of_its_own():
    net, _ = fit(measured(60))
    x = torch.tensor(RNA.sample(5, np.random.default_rng(2)), dtype=torch.float32)
    torch.testing.assert_close(net(x.expand(4, -1, -1)), net(x), atol=1e-5, rtol=1e-4)


def test_a_bound_that_is_kept_counts_for_nothing():
    data = measured(80)
    bound = np.where(np.arange(len(data)) == 0, 1, 0)  # the truth of this one is y or higher
    low = replace(data, censored=bound, y=np.where(bound, data.y.min() - 3, data.y))
    counts = torch.ones(1, len(data))
    x, y = torch.tensor(RNA.orbit(data.X), dtype=torch.float32), torch.tensor(low.y, dtype=torch.float32)
    told = [fit_kernel(one, x, y, counts, unit=(1.0, 0.0), seed=0)(x[0, :1]) for one in (low, replace(low, censored=0 * bound))]
    assert told[0] > told[1]


def test_units_for_some_of_the_designs_only_have_to_be_ahead():
    assert _kernel_nets.handicap(0.5, _kernel_nets.EXACT) == 0
    assert 0 < _kernel_nets.handicap(0.5, 100_000) < _kernel_nets.handicap(0.5, 10_000) < 0.01


def test_where_a_motif_counts_wherever_it_stands_words_are_kept_and_predict_better():
    data, X = measured(), RNA.sample(1_000, np.random.default_rng(5))
    by_features = {
        features: Ensemble(steps=300, members=4, features=features).fit(data, seed=0) for features in ("letters", "auto")
    }
    assert isinstance(by_features["auto"].net, StackedKernel)
    correlation = {name: np.corrcoef(posterior.belief(X)[0], motif(X))[0, 1] for name, posterior in by_features.items()}
    assert correlation["auto"] > correlation["letters"]
    s = (data.y - data.y.min()) / np.ptp(data.y)
    weights, told = train_proxies(data, s, GTG(proxy_steps=100), seed=0)
    assert told["proxies_words"] == 1
    proxies = load_stacked(weights, space=RNA)
    guess = predict(proxies, 2 * torch.tensor(RNA.orbit(X), dtype=torch.float32) - 1).mean(0).numpy()
    assert np.corrcoef(guess, motif(X))[0, 1] > correlation["letters"]
