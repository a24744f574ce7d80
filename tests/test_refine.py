"""Local search on the judge around what was offered: better designs, each with its proposer."""

from __future__ import annotations

import numpy as np
import pytest

from labloop.proposing.pool import Pool
from labloop.proposing.refine import refined
from labloop.proposing.search import apart
from labloop.proposing.selectors import Conservative
from labloop.testing import TOY_SPACES, toy_data, toy_truth
from labloop.types import Array, FloatArray


def offered(kind: str, n: int = 40) -> Pool:
    space, data = TOY_SPACES[kind], toy_data(TOY_SPACES[kind])
    X = space.sample(4 * n, np.random.default_rng(0))
    X = X[space.fresh(X, known=data.taken)][:n]
    pool = Pool.of(space, X, np.arange(len(X))[::-1], proposer="one")
    return Pool.interleave([pool.take(np.arange(0, n, 2)), Pool.of(space, X[1::2], np.zeros(n // 2), proposer="two")])


@pytest.mark.parametrize("kind", sorted(TOY_SPACES))
def test_finds_better_designs_that_are_new_valid_and_told_apart(kind: str) -> None:
    space, data, pool = TOY_SPACES[kind], toy_data(TOY_SPACES[kind]), offered(kind)

    def bound(X: FloatArray, proposer: Array) -> FloatArray:
        return toy_truth(space, X)

    found = refined(pool, bound, data, 10, generations=12, seed=0)
    assert found.ids[: len(pool)] == pool.ids
    np.testing.assert_array_equal(found.X[: len(pool)], pool.X)
    assert len(set(found.ids)) == len(found.ids)
    assert not set(found.ids) & data.taken
    assert not space.check(space.decode(found.X))
    assert list(found.ids) == space.ids(found.X)
    new = toy_truth(space, found.X[len(pool) :])
    assert np.sort(new)[-5:].mean() > np.sort(toy_truth(space, pool.X))[-5:].mean()
    assert np.isnan(found.score[len(pool) :]).all()
    assert set(found.proposer) <= {"one", "two"}
    again = refined(pool, bound, data, 10, generations=12, seed=0)
    assert again.ids == found.ids


def test_descendants_are_their_ancestors_proposers() -> None:
    space, data, pool = TOY_SPACES["sequence"], toy_data(TOY_SPACES["sequence"]), offered("sequence")

    def bound(X: FloatArray, proposer: Array) -> FloatArray:
        return toy_truth(space, X) + 10.0 * (proposer == "two")

    found = refined(pool, bound, data, 10, generations=8, seed=0)
    assert (found.proposer[len(pool) :][:50] == "two").all()


def test_a_selector_refines_its_pool_and_says_how_much_of_it_it_took() -> None:
    space, data, pool = TOY_SPACES["sequence"], toy_data(TOY_SPACES["sequence"]), offered("sequence")

    def judge(X: FloatArray) -> tuple[FloatArray, FloatArray]:
        return toy_truth(space, X), np.full(len(X), 0.1)

    plain, better = (Conservative(refine=g, support=None).select(pool, judge, data, 12, seed=0) for g in (0, 15))
    assert better.mean.mean() > plain.mean.mean()
    assert plain.pool.notes["selection"]["refined"] == 0
    assert better.pool.notes["selection"]["refined"] == np.isnan(better.pool.score).sum() > 0
    longer = Conservative(refine=15, support=None).select(pool, judge, data, 20, seed=0)
    assert longer.pool.ids[:12] == better.pool.ids


def test_with_niches_each_keeps_its_own_best() -> None:
    """A common order would keep the far better ones of one end only."""
    data, pool = toy_data(TOY_SPACES["continuous"]), offered("continuous")

    def bound(X: FloatArray, proposer: Array) -> FloatArray:
        return np.column_stack([100 * X[:, 0], -X[:, 0]])

    found = refined(pool, bound, data, 10, generations=8, seed=0).X[len(pool) :, 0]
    assert (found < 0.1).sum() > 100
    assert (found > 0.9).sum() > 100


def test_designs_apart_are_taken_in_their_order() -> None:
    space = TOY_SPACES["continuous"]
    X = space.sample(200, np.random.default_rng(0))
    rows = apart(space, X, 0.3, 8)
    assert rows[0] == 0
    assert (np.diff(rows) > 0).all()
    assert (space.distance(X[rows], X[rows]) + 9 * np.eye(len(rows))).min() >= 0.3 - 1e-9
    assert apart(space, X, 0.0, 8).tolist() == list(range(8))
