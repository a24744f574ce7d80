"""The free baselines: what a method has to beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from labloop.errors import MethodError
from labloop.methods.ensemble import EnsembleMean
from labloop.methods.forest import Forest
from labloop.methods.gp_mean import GPMean
from labloop.methods.mutate import Mutate
from labloop.methods.pairwise import Pairwise
from labloop.methods.random import Random
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.protocols import Proposer
from labloop.proposing.search import search
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Real, Sequence
from labloop.studies.labs import tfbind8
from labloop.studies.simulate import draw_start as start
from labloop.surrogates import ridge
from labloop.testing import TOY_SPACES, ProposerContract, toy_data, toy_truth
from labloop.types import FloatArray

SMALL = DesignSpace(parameters=(Sequence(name="dna", length=3),), symmetries=("reverse_complement",))
"""32 duplexes: small enough to ask for all of them."""

LISTED_AND_SEARCHED = {kind: TOY_SPACES[kind] for kind in ("duplex", "continuous", "mixed")}
"""Spaces for the slower proposers: one scored whole, two searched, all kinds of parameter among them."""


class TestRandomKeepsTheContract(ProposerContract):
    proposer = Random()
    learns = False


class TestMutateKeepsTheContract(ProposerContract):
    proposer = Mutate()
    learns = False  # mutants of designs from the worst quarter stay below the mean of the space


@pytest.mark.usefixtures("short_search")
class TestPairwiseKeepsTheContract(ProposerContract):
    proposer = Pairwise()


@pytest.mark.usefixtures("short_search")
class TestForestKeepsTheContract(ProposerContract):
    proposer = Forest(trees=8)
    spaces = LISTED_AND_SEARCHED
    learns_not_on = ("continuous",)  # trees are flat beyond the data, which hold the worst corner of the square only


@pytest.mark.usefixtures("short_search")
class TestEnsembleKeepsTheContract(ProposerContract):
    proposer = EnsembleMean(members=4, hidden=(32,), steps=300)
    spaces = LISTED_AND_SEARCHED


EVERYONE = [Random(), Mutate(), Pairwise(), Forest(trees=4), EnsembleMean(members=3, hidden=(8,), steps=20)]


@pytest.mark.parametrize("proposer", EVERYONE, ids=lambda p: type(p).__name__)
def test_n_means_n_up_to_the_whole_space_with_both_strands_as_one(proposer: Proposer) -> None:
    X = SMALL.listing()[:8]
    data = Dataset.from_measurements(SMALL, SMALL.decode(X), toy_truth(SMALL, X))
    pool = proposer.propose(data, 24, seed=0)
    assert len(set(pool.ids)) == 24
    assert set(pool.ids) | set(data.ids) == set(SMALL.listing_ids)
    with pytest.raises(MethodError, match="24 of the 25 new designs"):
        proposer.propose(data, 25, seed=0)


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("proposer", EVERYONE, ids=lambda p: type(p).__name__)
def test_the_labs_unit_does_not_matter(proposer: Proposer) -> None:
    data = toy_data(TOY_SPACES["duplex"])
    small = replace(data, y=2.0**-40 * data.y)  # about 1e-12, as dissociation constants in mol/l are
    pools = [proposer.propose(one, 20, seed=0) for one in (data, small)]
    assert pools[0].ids == pools[1].ids


# ---- search


def test_search_of_a_listable_space_is_exact() -> None:
    data = toy_data(TOY_SPACES["duplex"])
    _, scores = search(data, lambda X: toy_truth(data.space, X), 10, seed=0, label="toy")
    new = ~np.isin(data.space.listing_ids, list(data.taken))
    truth = toy_truth(data.space, data.space.listing()[new])
    np.testing.assert_allclose(scores[:10], -np.sort(-truth)[:10])


@pytest.mark.parametrize("kind", ["continuous", "mixed"])
def test_search_elsewhere_climbs_beyond_any_random_design(kind: str) -> None:
    data = toy_data(TOY_SPACES[kind])
    assert not data.space.listable
    random = toy_truth(data.space, data.space.sample(5_000, np.random.default_rng(0)))
    X, scores = search(data, lambda X: toy_truth(data.space, X), 100, seed=0, label="toy")
    assert len(set(data.space.ids(X)) - data.taken) == len(X) >= 100
    np.testing.assert_allclose(toy_truth(data.space, X), scores)
    assert scores[0] > random.max()
    assert scores[99] > np.quantile(random, 0.99)


def test_search_finds_the_best_of_a_space_too_large_to_list() -> None:
    space = DesignSpace(parameters=(Sequence(name="dna", length=20),), symmetries=("reverse_complement",))
    goal = space.sample(1, np.random.default_rng(5))
    data = toy_data(space)

    def score(X: FloatArray) -> FloatArray:
        return -space.distance(X, goal)[:, 0]

    _, scores = search(data, score, 61, seed=0, label="toy")
    assert scores[0] == 0
    assert (scores[1:61] >= -2).all()


def test_designs_of_equal_score_come_in_an_order_of_chance() -> None:
    data = toy_data(TOY_SPACES["sequence"])
    firsts = [search(data, lambda X: np.zeros(len(X)), 5, seed=seed, label="flat")[0][:1] for seed in range(8)]
    assert len({data.space.ids(X)[0] for X in firsts}) > 4


def test_constraints_hold_where_parents_break_them() -> None:
    ab = [Real(name=name, low=0, high=1) for name in "ab"]
    free = DesignSpace(parameters=tuple(ab))
    rule = {"type": "linear", "weights": {"a": 1, "b": 1}, "high": 0.5}
    space = DesignSpace.model_validate({"parameters": [p.model_dump() for p in ab], "constraints": [rule]})
    outside = free.decode(np.array([[0.9, 0.9], [0.8, 0.9], [0.1, 0.2]]))
    data = Dataset.from_measurements(space, outside, [3.0, 2.0, 1.0])
    X, _ = search(data, lambda X: X.sum(1), 30, seed=0, label="toy")
    assert len(X) >= 30
    assert space.feasible(X).all()
    assert space.feasible(Mutate().propose(data, 30, seed=0).X).all()


@pytest.mark.parametrize(("n", "sides"), [(12, 2), (60, 1)])
def test_designs_of_numbers_are_found_apart_as_far_as_there_are_so_many(n: int, sides: int) -> None:
    """One side holds 21 designs a twentieth apart at most: asked for 60, the others are near to them."""
    space = DesignSpace(parameters=tuple(Real(name=name, low=0, high=1) for name in "ab"[:sides]))
    data = Dataset.from_measurements(space, space.decode(space.sample(8, np.random.default_rng(0))), np.arange(8.0))

    def peak(X: FloatArray) -> FloatArray:
        return -np.square(X - 0.7).sum(1)

    def nearest(X: FloatArray) -> FloatArray:
        D = space.distance(X, X)
        return np.where(np.eye(len(X), dtype=bool), np.inf, D).min(1)

    one, same = search(data, peak, n, seed=0, label="toy"), search(data, peak, n, seed=0, label="toy", spaced=True)
    X, scores = same
    assert np.median(nearest(one[0][:n])) < 0.01
    assert len(X) == n
    assert (np.diff(scores) <= 0).all()
    assert scores[0] == one[1][0]
    assert (nearest(X) >= 0.05 - 1e-9).all() if sides == 2 else len(np.unique(np.round(X, 2))) > 15


def test_a_plain_model_does_not_fill_a_plate_with_one_condition() -> None:
    space = DesignSpace(parameters=(Choice(name="solvent", options=("DMF", "THF")), Real(name="loading", low=1, high=10)))
    X = space.sample(15, np.random.default_rng(1))
    data = Dataset.from_measurements(space, space.decode(X), X[:, -1] + X[:, 0])
    for proposer in (GPMean(iterations=30, generations=10), Forest(trees=8), Pairwise()):
        found = proposer.propose(data, 12, seed=0).X
        D = space.distance(found, found) + 9 * np.eye(12)
        assert D.min() >= 0.05 - 1e-9, type(proposer).__name__


# ---- pairwise ridge


@pytest.mark.parametrize("kind", sorted(TOY_SPACES))
def test_both_ways_to_solve_the_ridge_agree(kind: str) -> None:
    space = TOY_SPACES[kind]
    data = toy_data(space, noise=0.5)
    features = ridge._Pairs(space)
    X = space.sample(50, np.random.default_rng(0))
    one, other = ridge._by_features(data, features), ridge._by_designs(data, features, np.arange(len(data)))
    np.testing.assert_allclose(one(X), other(X), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(one(space.orbit(X)[-1]), one(X), atol=1e-5)


def test_the_ridge_is_ridge_regression_on_the_features_it_names() -> None:
    data = toy_data(TOY_SPACES["mixed"], noise=0.5)
    features = ridge._Pairs(data.space)
    model = ridge.fit(data, seed=0)
    reference = Ridge(alpha=model.strength).fit(features.of(data.X), data.y)
    X = data.space.sample(50, np.random.default_rng(0))
    np.testing.assert_allclose(model(X), reference.predict(features.of(X)), rtol=1e-4, atol=1e-4)


def test_the_ridge_recovers_a_landscape_of_pairs() -> None:
    space = TOY_SPACES["sequence"]
    rng = np.random.default_rng(0)
    B = rng.normal(size=(space.d, space.d))
    X = space.sample(1_200, rng)
    X = X[space.fresh(X)]
    data = Dataset.from_measurements(space, space.decode(X), np.einsum("nd,de,ne->n", X, B, X))
    new = space.sample(200, rng)
    np.testing.assert_allclose(ridge.fit(data, seed=0)(new), np.einsum("nd,de,ne->n", new, B, new), atol=0.05)


def test_more_measurements_than_the_largest_system_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "LARGEST", 40)
    data = toy_data(TOY_SPACES["sequence"], 60)
    assert Pairwise().propose(data, 5, seed=0).notes["rows"] == 40


# ---- what the baselines reach on TF Bind 8


def truth_of(pool: Pool) -> FloatArray:
    return tfbind8.truth(pool.X)


def test_128_random_designs_of_tfbind8_already_reach_0_937() -> None:
    data = tfbind8.visible().take(np.arange(1))
    best = [truth_of(Random().propose(data, 128, seed=seed)).max() for seed in range(100)]
    assert np.mean(best) == pytest.approx(0.937, abs=0.012)  # three standard errors of a mean of 100
    assert np.std(best) == pytest.approx(0.038, abs=0.01)


def test_mutants_of_the_best_beat_the_designs_they_come_from() -> None:
    data = tfbind8.visible()
    pool = Mutate(parents=128, two_steps=0).propose(data, 128, seed=0)
    assert truth_of(pool).max() > data.y.max()
    assert (data.space.distance(pool.X, data.X[data.top(128)]).min(1) == 1).all()


def test_the_pairwise_ridge_reaches_its_known_figures_on_the_visible_half() -> None:
    """Of all 65,536 strands the best 128 have maximum 0.979 and median 0.882; a duplex fills two of those places."""
    data = tfbind8.visible()
    pool = Pairwise().propose(data, 128, seed=0)
    codes, scores = tfbind8.design_bench_arrays()
    codes, first = np.unique(codes, axis=0, return_index=True)
    strands = np.eye(4)[codes].reshape(-1, 32)
    best = np.argsort(-ridge.fit(data, seed=0)(strands), kind="stable")[:128]
    assert scores[first[best]].max() == pytest.approx(0.979, abs=0.001)
    assert np.median(scores[first[best]]) == pytest.approx(0.882, abs=0.005)
    assert truth_of(pool).max() == pytest.approx(0.979, abs=0.001)
    assert np.median(truth_of(pool)) > 0.85


@pytest.fixture(scope="module")
def campaign_start() -> Dataset:
    begun = start(tfbind8.TFBind8(), 500, seed=0)
    return Dataset.from_measurements(tfbind8.SPACE, begun[["dna"]], begun["value"].to_numpy())


@pytest.mark.parametrize("proposer", [Pairwise(), Forest()], ids=lambda p: type(p).__name__)
def test_what_learns_beats_random_on_the_first_plate(proposer: Proposer, campaign_start: Dataset) -> None:
    random = np.mean([truth_of(Random().propose(campaign_start, 96, seed=seed)).mean() for seed in range(5)])
    assert truth_of(proposer.propose(campaign_start, 96, seed=0)).mean() > random + 0.04


def test_the_ensemble_fills_a_first_plate_well(campaign_start: Dataset) -> None:
    plate = truth_of(EnsembleMean(members=5, steps=300).propose(campaign_start, 96, seed=0))
    assert plate.mean() > 0.65
    assert np.sort(plate)[-10:].mean() > 0.88
