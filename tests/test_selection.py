"""Selectors: exactly n, in an order of their own, with the reasons for every pick."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

from labloop.errors import ConfigError, MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.protocols import Selector
from labloop.proposing.selectors import AsProposed, Conservative, RandomSelection, explain, support_limit
from labloop.registry import create
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Mixture, Real, Sequence
from labloop.testing import TOY_SPACES, toy_data, toy_truth
from labloop.types import FloatArray

SPACE = TOY_SPACES["duplex"]
LINE = DesignSpace(parameters=(Real(name="t", low=0, high=1),))
SELECTORS = [Conservative(support=None), Conservative(beta=-1.5, min_distance=2), AsProposed(), RandomSelection()]


@dataclass(frozen=True)
class Judge:
    """A posterior that knows the toy truth and is unsure of designs by their first column."""

    space: DesignSpace = SPACE

    def __call__(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        return toy_truth(self.space, X), 0.1 + 2.0 * X[:, 0]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return toy_data(SPACE, 40)


@pytest.fixture(scope="module")
def pool(data: Dataset) -> Pool:
    X = SPACE.listing()
    X = X[SPACE.fresh(X, known=data.taken)][::3]
    return Pool.of(SPACE, X, np.arange(len(X))[::-1], proposer="toy")


def line(measured: list[float], candidates: list[float]) -> tuple[Dataset, Pool]:
    data = Dataset.from_measurements(LINE, LINE.decode(np.array([measured]).T), np.zeros(len(measured)))
    X = LINE.encode(LINE.decode(np.array([candidates]).T))
    return data, Pool.of(LINE, X, np.zeros(len(X)), proposer="toy")


def rising(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    return X[:, 0].copy(), np.ones(len(X))


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda s: type(s).__name__)
class TestEverySelector:
    def test_picks_exactly_n_distinct_candidates(self, selector: Selector, data: Dataset, pool: Pool) -> None:
        assert isinstance(selector, Selector)
        picks = selector.select(pool, Judge(), data, 17, seed=0)
        assert len(picks) == 17 == len(set(picks.pool.ids))
        assert set(picks.pool.ids) <= set(pool.ids)

    def test_a_longer_selection_starts_with_the_shorter_one(self, selector: Selector, data: Dataset, pool: Pool) -> None:
        short, long = (selector.select(pool, Judge(), data, n, seed=3) for n in (9, 20))
        assert long.pool.ids[:9] == short.pool.ids

    def test_gives_the_reasons_of_every_pick(self, selector: Selector, data: Dataset, pool: Pool) -> None:
        picks = selector.select(pool, Judge(), data, 12, seed=0)
        mean, std = Judge()(picks.pool.X)
        np.testing.assert_array_equal(picks.mean, mean)
        np.testing.assert_array_equal(picks.std, std)
        np.testing.assert_allclose(picks.lcb, mean - getattr(selector, "beta", 1.0) * std)
        D = SPACE.distance(picks.pool.X, data.X)
        np.testing.assert_array_equal(picks.nearest_distance, D.min(1))
        rows = [data.ids.index(one) for one in picks.nearest_id]
        np.testing.assert_array_equal(D[np.arange(12), rows], D.min(1))
        assert (picks.pool.proposer == "toy").all()

    def test_drops_measured_pending_and_twins_and_says_so(self, selector: Selector, data: Dataset, pool: Pool) -> None:
        selector = type(selector)()
        twin = SPACE.orbit(pool.X[:1])[1]
        X = np.concatenate([data.X[:5], pool.X[:6], twin, pool.X[6:7]])
        stale = Pool.of(SPACE, X, np.zeros(len(X)), proposer="toy")
        held = Dataset(**{**{f.name: getattr(data, f.name) for f in fields(data)}, "pending": pool.X[6:7]})
        picks = selector.select(stale, Judge(), held, 6, seed=0)
        assert set(picks.pool.ids) == set(pool.ids[:6])
        with pytest.raises(MethodError, match=r"7 picks, but 6 of the pool's 13.*6 are measured or pending, 1 are second copies"):
            selector.select(stale, Judge(), held, 7, seed=0)


def test_conservative_follows_the_lower_confidence_bound(data: Dataset, pool: Pool) -> None:
    for beta in (-1.0, 0.0, 2.0):
        picks = Conservative(beta=beta, support=None).select(pool, Judge(), data, 25, seed=0)
        bound = toy_truth(SPACE, pool.X) - beta * (0.1 + 2.0 * pool.X[:, 0])
        np.testing.assert_allclose(picks.lcb, -np.sort(-bound)[:25])
    optimist, pessimist = (Conservative(beta=b, support=None).select(pool, Judge(), data, 25, seed=0) for b in (-1.0, 2.0))
    assert optimist.std.mean() > pessimist.std.mean()


def test_picks_keep_their_distance_across_strands(data: Dataset, pool: Pool) -> None:
    picks = Conservative(min_distance=3, support=None).select(pool, Judge(), data, 6, seed=0)
    D = SPACE.distance(picks.pool.X, picks.pool.X)
    assert D[~np.eye(6, dtype=bool)].min() >= 3
    with pytest.raises(MethodError, match=r"are nearer than 3 to a better pick"):
        Conservative(min_distance=3, support=None).select(pool, Judge(), data, 60, seed=0)


def test_the_support_limit_is_how_far_measured_designs_lie_from_each_other() -> None:
    data, _ = line([0.0, 0.1, 0.2, 0.5], [0.9])
    assert support_limit(data, 1.0) == pytest.approx(0.3)
    assert support_limit(data, 0.5) == pytest.approx(0.1)
    assert support_limit(data.take(np.array([0])), 0.9) == np.inf


def test_candidates_beyond_the_data_are_refused_or_come_last_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    data, pool = line([0.0, 0.1, 0.2, 0.3], [0.95, 0.35, 0.05, 0.5, 0.38])
    strict = Conservative(support=1.0, relax=False, min_distance=0)
    assert strict.select(pool, rising, data, 3, seed=0).pool.X[:, 0].tolist() == pytest.approx([0.38, 0.35, 0.05])
    with pytest.raises(MethodError, match=r"asked for 4 picks, but 3 of the pool's 5 .*2 lack data support"):
        strict.select(pool, rising, data, 4, seed=0)
    with caplog.at_level(logging.WARNING, logger="labloop"):
        picks = Conservative(support=1.0, min_distance=0).select(pool, rising, data, 5, seed=0)
    assert picks.pool.X[:, 0].tolist() == pytest.approx([0.38, 0.35, 0.05, 0.5, 0.95])
    assert "only 3 of 5 picks have data support" in caplog.text
    assert picks.pool.notes["selection"]["relaxed"] == 2


@pytest.mark.parametrize(("beta", "refused"), [(0.5, True), (0.0, False), (-0.5, False)])
def test_only_who_is_cautious_keeps_to_the_data(beta: float, refused: bool) -> None:
    data, pool = line([0.0, 0.1, 0.2, 0.3], [0.95, 0.35])
    picks = Conservative(beta=beta, support=1.0, min_distance=0).select(pool, rising, data, 2, seed=0)
    assert picks.pool.X[:, 0].tolist() == pytest.approx([0.35, 0.95] if refused else [0.95, 0.35])
    assert np.isfinite(picks.pool.notes["selection"]["support_limit"]) == refused


def test_the_default_keeps_nearly_all_of_a_new_campaigns_pool() -> None:
    space = DesignSpace(parameters=(Sequence(name="dna", length=8),), symmetries=("reverse_complement",))
    data = toy_data(space, 200)
    X = space.sample(300, np.random.default_rng(1))
    X = X[space.fresh(X, known=data.taken)]
    pool = Pool.of(space, X, np.zeros(len(X)), proposer="toy")
    picks = Conservative().select(pool, Judge(space), data, 200, seed=0)
    assert picks.pool.notes["selection"]["without_support"] < 0.1 * len(pool)
    assert picks.pool.notes["selection"]["relaxed"] == 0


def test_as_proposed_keeps_the_proposers_order(data: Dataset, pool: Pool) -> None:
    assert AsProposed().select(pool, Judge(), data, 10, seed=0).pool.ids == pool.ids[:10]


def test_random_selection_depends_on_its_seed_alone(data: Dataset, pool: Pool) -> None:
    first, again, other = (RandomSelection().select(pool, Judge(), data, 10, seed=seed).pool.ids for seed in (1, 1, 2))
    assert first == again != other


def test_without_measurements_there_is_no_nearest_design(data: Dataset, pool: Pool) -> None:
    nothing = data.take(np.arange(0))
    reasons = explain(pool, Judge(), nothing, 1.0)
    assert set(reasons.nearest_id) == {""}
    assert len(Conservative().select(pool, Judge(), nothing, 5, seed=0)) == 5


def test_a_schedule_must_be_resolved_to_a_number_first() -> None:
    with pytest.raises(ConfigError, match="beta"):
        create("selectors", "conservative", {"beta": {"first": -1, "last": 1}})


def test_picks_are_values(data: Dataset, pool: Pool) -> None:
    kept = replace(pool, X=pool.X.copy())
    Conservative(min_distance=2).select(pool, Judge(), data, 10, seed=0)
    np.testing.assert_array_equal(pool.X, kept.X)


@dataclass(frozen=True)
class Noisy(Judge):
    """The toy judge, which knows that a reading has noise."""

    noise_std: float = 1.0

    def belief(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self(X)


def test_nearly_equal_candidates_are_taken_far_apart_at_no_price(data: Dataset, pool: Pool) -> None:
    plain, spread = (Conservative(beta=0, support=None, spread=s).select(pool, Noisy(), data, 15, seed=0) for s in (0.0, 0.5))

    def apart(X: FloatArray) -> float:
        D = SPACE.distance(X, X)
        return float((D + 99 * np.eye(len(X))).min(1).mean())

    assert apart(spread.pool.X) > apart(plain.pool.X)
    assert plain.lcb.mean() - 0.5 <= spread.lcb.mean() < plain.lcb.mean()
    longer = Conservative(beta=0, support=None, spread=0.5).select(pool, Noisy(), data, 25, seed=0)
    assert longer.pool.ids[:15] == spread.pool.ids


def test_picks_of_numbers_are_not_all_but_one_by_default() -> None:
    data, pool = line([0.0, 0.5], [0.9, 0.91, 0.92, 0.6, 0.93])
    picks = Conservative(support=None).select(pool, rising, data, 2, seed=0)
    assert picks.pool.X[:, 0].tolist() == pytest.approx([0.93, 0.6])
    everything = Conservative(support=None).select(pool, rising, data, 5, seed=0)
    assert everything.pool.X[:2, 0].tolist() == pytest.approx([0.93, 0.6])
    assert len(set(everything.pool.ids)) == 5


def test_hope_counts_less_in_numbers_and_caution_counts_everywhere() -> None:
    numbers, candidates = line([0.0, 0.5], [0.9, 0.6])
    letters = (toy_data(SPACE, 8), Pool.of(SPACE, SPACE.listing()[-4:], np.zeros(4), proposer="toy"))

    def beta(given: float, pool: Pool, data: Dataset) -> float:
        told = Conservative(beta=given, numbers=0.2, support=None).select(pool, rising, data, 1, seed=0)
        return float(told.pool.notes["selection"]["beta"])

    assert beta(-2.5, candidates, numbers) == pytest.approx(-0.5)
    assert beta(1.0, candidates, numbers) == 1.0
    assert beta(-2.5, letters[1], letters[0]) == -2.5
    both = DesignSpace(parameters=(Real(name="t", low=0, high=1), Choice(name="s", options=("a", "b"))))
    assert both.share_of_numbers == pytest.approx(0.5)
    assert DesignSpace(parameters=(Mixture(name="m", components=("a", "b", "c")),)).share_of_numbers == 0
