"""The reference surrogate: a calibrated bootstrapped ensemble."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.protocols import Posterior, Surrogate
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Real, Sequence
from labloop.studies.labs import tfbind8
from labloop.surrogates.ensemble import Ensemble, _bags
from labloop.surrogates.networks import StackedCNN, StackedMLP
from labloop.testing import TOY_SPACES, toy_data, toy_truth

SMALL = Ensemble(members=5, hidden=(32,), steps=200)


def sample(space: DesignSpace, n: int, *, seed: int = 0, noise: float = 0.0) -> Dataset:
    """Random designs from all of a toy space, the better ones too."""
    rng = np.random.default_rng(seed)
    X = space.sample(n, rng)
    X = X[space.fresh(X)]
    return Dataset.from_measurements(space, space.decode(X), toy_truth(space, X) + noise * rng.normal(size=len(X)))


@pytest.mark.parametrize("kind", sorted(TOY_SPACES))
def test_it_learns_every_kind_of_space(kind: str) -> None:
    space = TOY_SPACES[kind]
    posterior = SMALL.fit(sample(space, 150), seed=0)
    X = space.sample(400, np.random.default_rng(9))
    mean, std = posterior(X)
    assert isinstance(posterior, Posterior)
    assert mean.shape == std.shape == (400,)
    assert mean.dtype == std.dtype == np.float64
    assert (std > 0).all()
    assert np.corrcoef(mean, toy_truth(space, X))[0, 1] > 0.75


def test_equal_seeds_agree_other_seeds_do_not_and_no_global_generator_moves() -> None:
    data = toy_data(TOY_SPACES["sequence"])
    before = torch.get_rng_state()
    first, again, other = (SMALL.fit(data, seed=seed)(data.X)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_both_strands_of_a_duplex_are_predicted_alike() -> None:
    data = toy_data(TOY_SPACES["duplex"])
    posterior = SMALL.fit(data, seed=0)
    own, twin = data.space.orbit(data.X)
    assert not np.array_equal(own, twin)
    np.testing.assert_allclose(posterior(own), posterior(twin), rtol=1e-5)


def test_z_scores_of_new_measurements_have_about_unit_variance() -> None:
    space = TOY_SPACES["sequence"]
    ratios = []
    for seed in range(4):
        posterior = SMALL.fit(sample(space, 200, seed=seed, noise=0.3), seed=seed)
        X = space.sample(1_000, np.random.default_rng(100 + seed))
        truth = toy_truth(space, X) + 0.3 * np.random.default_rng(seed).normal(size=len(X))
        mean, std = posterior(X)
        ratios.append(np.mean(((truth - mean) / std) ** 2))
    assert 0.6 < np.mean(ratios) < 1.4


def test_std_grows_away_from_the_data() -> None:
    space = DesignSpace(parameters=(Real(name="t", low=0, high=1), Real(name="u", low=0, high=1)))
    X = 0.25 * np.random.default_rng(0).random((80, 2))
    data = Dataset.from_measurements(space, space.decode(X), np.sin(8 * X[:, 0]) + X[:, 1])
    _, std = Ensemble(members=8, hidden=(64,), steps=300).fit(data, seed=0)(np.array([[0.12, 0.12], [0.95, 0.95]]))
    assert std[1] > 2 * std[0]


def test_a_censored_reading_is_a_bound_and_not_a_value() -> None:
    space = DesignSpace(parameters=(Real(name="t", low=0, high=1),))
    t = np.linspace(0, 1, 40)
    truth = 2 * t
    bound = np.where(t > 0.5, ">", "=")
    data = Dataset.from_measurements(space, space.decode(t[:, None]), np.minimum(truth, 1.0), qualifiers=bound.tolist())
    as_values = replace(data, censored=np.zeros(len(data), dtype=np.int64))
    top = np.array([[0.9]])
    assert SMALL.fit(data, seed=0)(top)[0][0] > SMALL.fit(as_values, seed=0)(top)[0][0] + 0.2


def test_bags_are_bootstrap_samples() -> None:
    bags = _bags(500, 200, np.random.default_rng(0))
    assert (bags.sum(1) == 500).all()
    assert (bags == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_training_stops_earlier_where_the_values_are_noise() -> None:
    space = TOY_SPACES["sequence"]
    clean = sample(space, 150)
    noise = replace(clean, y=np.random.default_rng(0).normal(size=len(clean)))
    learnt, guessed = (SMALL.fit(data, seed=0) for data in (clean, noise))
    assert learnt.out_of_bag_correlation > 0.7
    assert guessed.out_of_bag_correlation < 0.4
    X = space.sample(300, np.random.default_rng(1))
    assert guessed(X)[1].min() > 0.7  # about the standard deviation of the noise


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_handful_of_measurements_gives_a_belief_as_wide_as_their_spread(n: int) -> None:
    data = sample(TOY_SPACES["mixed"], n)
    mean, std = SMALL.fit(data, seed=0)(TOY_SPACES["mixed"].sample(20, np.random.default_rng(0)))
    assert np.isfinite(mean).all()
    assert (std >= (data.y.std() or 1.0) * 0.99).all()


def test_nothing_measured_is_an_error_with_a_next_step() -> None:
    empty = sample(TOY_SPACES["sequence"], 5).take(np.arange(0))
    with pytest.raises(MethodError, match="ingest some"):
        SMALL.fit(empty, seed=0)


def test_it_is_a_surrogate_and_refuses_unknown_options() -> None:
    assert isinstance(SMALL, Surrogate)
    with pytest.raises(ValueError, match="nonsense"):
        Ensemble(nonsense=1)  # type: ignore[call-arg]


@pytest.mark.slow
def test_on_the_visible_half_of_tfbind8_its_best_128_lie_far_above_the_data() -> None:
    data = tfbind8.visible()
    mean, _ = Ensemble().fit(data, seed=0)(data.space.listing())
    mean[np.isin(data.space.listing_ids, list(data.taken))] = -np.inf
    scores = tfbind8.truth(data.space.listing()[np.argsort(-mean)[:128]])
    assert np.median(scores) > 0.8
    assert scores.max() > 0.95


LONG = DesignSpace(parameters=(Sequence(name="dna", length=20),))


def motif_count(X) -> np.ndarray:
    codes = X.reshape(len(X), 20, 4).argmax(-1)
    return sum(((codes[:, i] == 2) & (codes[:, i + 1] == 1)).astype(float) for i in range(19))


@pytest.mark.parametrize(("n", "kind"), [(999, StackedMLP), (1000, StackedCNN)])
def test_of_a_thousand_long_sequences_the_networks_are_of_the_kind_that_predicts_better(n: int, kind: type) -> None:
    X = LONG.sample(n, np.random.default_rng(0))
    data = Dataset.from_measurements(LONG, LONG.decode(X), motif_count(X))
    assert len(data) == n
    posterior = replace(SMALL, members=2, steps=150, features="letters").fit(data, seed=0)
    assert type(posterior.net) is kind
    new = LONG.sample(300, np.random.default_rng(1))
    assert (np.corrcoef(posterior(new)[0], motif_count(new))[0, 1] > 0.8) == (kind is StackedCNN)


def test_convolutions_without_a_long_sequence_are_refused() -> None:
    with pytest.raises(MethodError, match="more than 16 letters"):
        Ensemble(network="convolutional").fit(toy_data(TOY_SPACES["sequence"]), seed=0)


def test_belief_and_noise_make_up_the_std_of_a_reading() -> None:
    data = sample(TOY_SPACES["sequence"], 120, noise=0.3)
    posterior = SMALL.fit(data, seed=0)
    X = data.space.sample(50, np.random.default_rng(1))
    mean, std = posterior(X)
    believed, apart = posterior.belief(X)
    np.testing.assert_array_equal(believed, mean)
    np.testing.assert_allclose(np.hypot(apart, posterior.noise_std), std)


def test_replicates_tell_the_noise_and_what_else_was_missed_belongs_to_the_belief() -> None:
    plain = sample(TOY_SPACES["sequence"], 120, noise=0.3)
    exact = replace(plain, sem=np.full(len(plain), 0.01), n_replicates=np.full(len(plain), 4))
    assert SMALL.fit(exact, seed=0).noise_std == pytest.approx(0.02)
    assert SMALL.fit(exact, seed=0).noise_std < SMALL.fit(plain, seed=0).noise_std


def test_out_of_bag_predictions_know_nothing_of_their_own_reading() -> None:
    data = sample(TOY_SPACES["sequence"], 200)
    noise = replace(data, y=np.random.default_rng(0).normal(size=len(data)))
    mean, std = SMALL.fit(noise, seed=0).out_of_bag
    told = np.isfinite(mean)
    assert mean.shape == std.shape == data.y.shape
    assert told.mean() > 0.5
    assert abs(np.corrcoef(mean[told], noise.y[told])[0, 1]) < 0.25
    assert np.mean(((noise.y - mean)[told] / std[told]) ** 2) == pytest.approx(1, abs=0.3)
    mean, _ = SMALL.fit(data, seed=0).out_of_bag
    assert np.corrcoef(mean[np.isfinite(mean)], data.y[np.isfinite(mean)])[0, 1] > 0.5


def test_the_optimiser_takes_the_steps_of_torch_s_without_its_compiler() -> None:
    script = """
import sys, torch
from labloop.surrogates.training import Adam, rate_of
def trained(kind):
    x = torch.linspace(-1, 2, 6).requires_grad_()
    adam = kind([{"params": [x], "lr": 0.1}], fused=True)
    rate = rate_of(adam, "falling", 20)
    for _ in range(20):
        adam.zero_grad()
        torch.autograd.backward((x**4 - x).sum())
        adam.step()
        rate.step()
    return x
mine = trained(Adam)
assert "torch._dynamo" not in sys.modules
assert torch.equal(mine, trained(torch.optim.Adam))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
