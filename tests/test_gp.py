"""The Gaussian process and the proposer of its mean."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from labloop.errors import MethodError
from labloop.methods.gp_mean import GPMean
from labloop.proposing.dataset import Dataset
from labloop.proposing.protocols import Posterior, Surrogate
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Real, Sequence
from labloop.studies.labs.tfbind8 import visible
from labloop.surrogates._kernels import _Words
from labloop.surrogates._latest import Answer
from labloop.surrogates.gp import GP, FittedGP
from labloop.testing import TOY_SPACES, ProposerContract, toy_data, toy_truth

LINE = DesignSpace(parameters=(Real(name="x", low=0, high=1),))
DUPLEX8 = DesignSpace(parameters=(Sequence(name="dna", length=8),), symmetries=("reverse_complement",))


def line(x: np.ndarray, y: np.ndarray) -> Dataset:
    return Dataset.from_measurements(LINE, LINE.decode(np.reshape(x, (-1, 1))), y)


class TestGPMean(ProposerContract):
    proposer = GPMean(iterations=30, generations=8)
    spaces = {kind: TOY_SPACES[kind] for kind in ("duplex", "continuous", "mixed")}


def test_is_a_surrogate_and_gives_a_posterior():
    assert isinstance(GP(), Surrogate)
    assert isinstance(GP().fit(toy_data(TOY_SPACES["mixed"]), seed=0), Posterior)


def test_goes_through_noiseless_data_and_doubts_more_away_from_it():
    x = np.linspace(0, 0.5, 12)
    fitted = GP().fit(line(x, np.sin(6 * x)), seed=0)
    at_data, std_at_data = fitted.belief(x[:, None])
    np.testing.assert_allclose(at_data, np.sin(6 * x), atol=0.02)
    _, away = fitted.belief(np.array([[0.6], [0.75], [1.0]]))
    assert std_at_data.max() < away[0] < away[1] < away[2]


def test_neighbours_are_believed_to_be_good_or_bad_together():
    fitted = GP().fit(line(np.linspace(0, 0.5, 12), np.sin(6 * np.linspace(0, 0.5, 12))), seed=0)
    alike = fitted.correlation(np.array([[0.8], [0.8], [0.82], [0.1]]))
    np.testing.assert_allclose(np.diag(alike), 1.0, atol=1e-6)
    np.testing.assert_allclose(alike, alike.T, atol=1e-6)
    assert alike[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert 0.9 < alike[0, 2] < 1
    assert abs(alike[0, 3]) < 0.9


def test_a_new_well_is_less_certain_than_the_design_itself():
    data = toy_data(TOY_SPACES["categorical"], noise=0.3)
    fitted = GP().fit(data, seed=0)
    (mean, std), (f_mean, f_std) = fitted(data.X), fitted.belief(data.X)
    np.testing.assert_array_equal(mean, f_mean)
    assert (std > f_std).all()


def test_noise_between_replicates_lowers_trust_in_the_readings():
    x = np.repeat(np.linspace(0, 1, 10), 2)
    truth, wiggle = np.cos(3 * x), np.tile([1.0, -1.0], 10)
    quiet, loud = (GP().fit(line(x, truth + size * wiggle), seed=0) for size in (0.001, 0.5))
    np.testing.assert_allclose(quiet.noise.mean() * 1e4, 0, atol=10)
    assert loud.noise.mean() > 100 * quiet.noise.mean()
    assert loud.belief(x[:, None])[1].mean() > 3 * quiet.belief(x[:, None])[1].mean()


@pytest.mark.parametrize("name", sorted(TOY_SPACES))
def test_the_chunked_posterior_is_the_one_of_gpytorch(name):
    data = toy_data(TOY_SPACES[name], n=40)
    fitted = GP(iterations=20).fit(data, seed=0)
    X = data.space.sample(30, generator(1, "test"))
    with torch.no_grad():
        reference = fitted.botorch_model().posterior(fitted.tensor(X))
    mean, std = fitted.belief(X)
    np.testing.assert_allclose((mean - fitted.shift) / fitted.scale, reference.mean[:, 0], atol=1e-6)
    np.testing.assert_allclose((std / fitted.scale) ** 2, reference.variance[:, 0], atol=1e-6)
    _, covariance = fitted.joint(X)
    np.testing.assert_allclose(covariance, reference.distribution.covariance_matrix, atol=1e-6)


def test_chunks_do_not_show(monkeypatch):
    data = toy_data(TOY_SPACES["sequence"])
    fitted = GP(iterations=5).fit(data, seed=0)
    X = data.space.listing()[:100]
    whole = fitted.belief(X)
    monkeypatch.setattr("labloop.surrogates.gp.CHUNK", 7)
    np.testing.assert_allclose(fitted.belief(X), whole, rtol=1e-10)


def test_words_of_measured_designs_are_counted_once_for_all_predictions_and_those_of_others_once_for_each(monkeypatch):
    fitted = GP(iterations=5).fit(toy_data(TOY_SPACES["sequence"]), seed=0)
    X = fitted.Z.numpy()[:20]
    fitted.belief(X)
    counted, counts = [], _Words.counts
    monkeypatch.setattr(_Words, "counts", lambda self, x, twins: (counted.append(len(x)), counts(self, x, twins))[1])
    fitted.belief(X[:5])
    fitted.belief(X[5:12])
    orders = len(fitted.prior.kernel.words)
    assert counted == [5] * orders + [7] * orders != []


def test_what_is_asked_of_designs_and_of_their_picks_is_worked_out_once_and_told_alike(monkeypatch):
    data = toy_data(TOY_SPACES["continuous"])
    fitted = GP(iterations=5).fit(data, seed=0)
    X, picks, asked, projected = data.X + 0.01, data.X[:3], [], FittedGP._projected

    def answers(one: FittedGP) -> tuple[np.ndarray, ...]:
        return (*one.belief(X), one.correlation(picks, X))

    def counted(self: FittedGP, x: torch.Tensor) -> Answer:
        asked.append(len(x))
        return projected(self, x)

    monkeypatch.setattr(FittedGP, "_projected", counted)
    first = answers(fitted)
    assert asked == [len(X), 3]
    fitted.correlation(picks, X[:7])
    assert asked == [len(X), 3, 7]  # the picks are still known
    for again, alone in zip(answers(fitted), first, strict=True):
        np.testing.assert_array_equal(again, alone)
    X[0] += 0.01
    assert answers(fitted)[0][0] != first[0][0]
    asked.clear()
    answers(replace(fitted))
    assert asked == [len(X), 3]  # another belief has a memory of its own


def test_both_strands_of_a_duplex_are_one_design_to_the_kernel():
    rng = generator(0, "test")
    X = DUPLEX8.sample(60, rng)
    fitted = GP(iterations=20).fit(Dataset.from_measurements(DUPLEX8, DUPLEX8.decode(X), X[:, :16] @ rng.normal(size=16)), seed=0)
    one, other = DUPLEX8.orbit(DUPLEX8.sample(20, rng))
    assert (one != other).any(1).all()
    np.testing.assert_allclose(fitted.belief(one), fitted.belief(other), atol=1e-9)
    draws = fitted.draw(np.concatenate([one, other]), 8, generator=torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(draws[:, :20], draws[:, 20:], atol=0.01 * fitted.scale)


@pytest.mark.parametrize("name", sorted(TOY_SPACES))
def test_the_kernel_is_a_covariance(name):
    data = toy_data(TOY_SPACES[name], n=30)
    kernel = GP(iterations=3).fit(data, seed=0).prior.kernel
    with torch.no_grad():
        K = kernel.forward(torch.tensor(data.X), torch.tensor(data.X))
        diagonal = kernel.forward(torch.tensor(data.X), torch.tensor(data.X), diag=True)
    torch.testing.assert_close(K, K.T)
    torch.testing.assert_close(K.diagonal(), diagonal)
    assert torch.linalg.eigvalsh(K).min() > -1e-9


def test_motifs_and_both_strands_raise_the_likelihood_of_unseen_binding_data():
    """On the visible half of TF Bind 8, over two draws of 250 designs: what the kernel was chosen by."""
    every = visible()
    one_strand = DesignSpace(parameters=every.space.parameters)

    def density(fitted: Posterior, test: Dataset) -> float:
        mean, std = fitted(test.X)
        return float(np.mean(-0.5 * ((test.y - mean) / std) ** 2 - np.log(std)))

    told = []
    for seed in range(2):
        order = generator(seed, "halves").permutation(len(every))
        train, test = every.take(order[:250]), every.take(order[250:1250])
        strand = Dataset.from_measurements(one_strand, one_strand.decode(train.X), train.y)
        fits = (GP().fit(train, seed=0), GP(motifs=False).fit(train, seed=0), GP(motifs=False).fit(strand, seed=0))
        told.append([density(fitted, test) for fitted in fits])
    both, positions, one = np.mean(told, axis=0)
    assert both > positions > one


def test_a_motif_is_recognised_wherever_it_stands():
    space = DesignSpace(parameters=(Sequence(name="dna", length=12),))
    rng = generator(3, "motif")
    background = np.array([list("".join(rng.choice(list("AT"), size=12))) for _ in range(80)])
    for i in range(40):  # GCG in the first half only
        at = rng.integers(0, 4)
        background[i, at : at + 3] = list("GCG")
    table = space.decode(space.encode(_table(background)))
    fitted = GP().fit(Dataset.from_measurements(space, table, np.repeat([1.0, 0.0], 40) + 0.05 * rng.normal(size=80)), seed=0)
    late, never = (_table(np.array([list("ATATATAT" + tail)])) for tail in ("GCGA", "TTTA"))
    assert fitted.belief(space.encode(late))[0] > fitted.belief(space.encode(never))[0] + 0.2


def _table(letters: np.ndarray):
    import pandas as pd

    return pd.DataFrame({"dna": ["".join(row) for row in letters]})


def test_the_fit_ends_at_a_mode_of_the_posterior_density():
    """Moving any hyper-parameter either way from the fit lowers gpytorch's own marginal likelihood plus the priors."""
    from gpytorch.distributions import MultivariateNormal

    data = toy_data(TOY_SPACES["categorical"], noise=0.2)
    prior = GP().fit(data, seed=0).prior
    X = torch.tensor(data.X)
    t = torch.tensor((data.y - data.y.mean()) / data.y.std())

    def density() -> float:
        with torch.no_grad():
            K = prior.kernel.forward(X, X) + (prior.noise() + 1e-8) * torch.eye(len(t), dtype=torch.float64)
            likelihood = MultivariateNormal(prior.mean.expand(len(t)), K).log_prob(t)
            return float(likelihood - prior.kernel.penalty() - prior.noise.penalty())

    best = density()
    for parameter in prior.parameters():
        for i in range(len(parameter)):
            for step in (-0.05, 0.05):
                parameter[i] += step
                assert density() < best + 1e-4
                parameter[i] -= step


def test_above_max_points_it_says_so_and_still_learns_from_all(caplog):
    space = TOY_SPACES["sequence"]
    data = toy_data(space, n=400, noise=0.3)
    with caplog.at_level(logging.INFO, logger="labloop"):
        sparse = GP(max_points=100, inducing=80).fit(data, seed=0)
    assert "FITC on 80 inducing designs" in caplog.text
    few = GP(max_points=100).fit(data.take(np.sort(generator(0, "few").choice(len(data), 80, replace=False))), seed=0)
    X = space.listing()
    truth = toy_truth(space, X)
    wrong = {name: np.mean((fitted.belief(X)[0] - truth) ** 2) for name, fitted in {"sparse": sparse, "few": few}.items()}
    assert wrong["sparse"] < wrong["few"]


def test_fitc_on_all_designs_is_the_exact_posterior():
    data = toy_data(TOY_SPACES["sequence"], n=50, noise=0.2)
    exact = GP(iterations=10).fit(data, seed=0)
    same = GP(iterations=10, max_points=10, inducing=50).fit(data, seed=0)
    X = data.space.sample(20, generator(0, "test"))
    np.testing.assert_allclose(same.belief(X), exact.belief(X), atol=1e-4)


def test_censored_readings_enter_as_their_bound_and_the_log_counts_them(caplog):
    space, x = LINE, np.linspace(0, 1, 8)
    data = Dataset.from_measurements(space, space.decode(x[:, None]), np.minimum(4 * x, 3), qualifiers=["="] * 6 + [">"] * 2)
    with caplog.at_level(logging.INFO, logger="labloop"):
        fitted = GP().fit(data, seed=0)
    assert "2 of 8 designs are censored" in caplog.text
    assert fitted.belief(np.array([[1.0]]))[0] == pytest.approx(3, abs=0.3)


def test_one_measurement_is_too_little():
    with pytest.raises(MethodError, match="at least 2"):
        GP().fit(line(np.array([0.5]), np.array([1.0])), seed=0)


def test_equal_readings_are_no_reason_to_fail():
    fitted = GP().fit(line(np.linspace(0, 1, 5), np.ones(5)), seed=0)
    np.testing.assert_allclose(fitted.belief(np.array([[0.3]]))[0], 1)


def test_options_without_order_are_told_apart():
    space = DesignSpace(parameters=tuple(Choice(name=name, options=("a", "b", "c")) for name in "uvwx"))
    X = space.listing()
    truth = X @ generator(5, "weights").normal(size=space.d)
    rows = generator(6, "rows").permutation(len(X))
    fitted = GP().fit(Dataset.from_measurements(space, space.decode(X[rows[:50]]), truth[rows[:50]]), seed=0)
    assert np.corrcoef(fitted.belief(X[rows[50:]])[0], truth[rows[50:]])[0, 1] > 0.95
