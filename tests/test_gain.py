"""What a design adds to a batch, and batches of numbers chosen by it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from labloop.errors import MethodError
from labloop.proposing.belief import Correction, Judgement, Past
from labloop.proposing.dataset import Dataset
from labloop.proposing.gain import TAIL, Gain, by_gain, in_turn, thinned
from labloop.proposing.pipeline import left_to_chance
from labloop.proposing.pool import Pool
from labloop.proposing.refine import refined
from labloop.proposing.selectors import Conservative
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Integer, Mixture, Parameter, Real, Sequence
from labloop.surrogates.ensemble import Ensemble
from labloop.surrogates.gp import GP, FittedGP
from labloop.surrogates.training import torch_generator
from labloop.testing import TOY_SPACES, toy_data
from labloop.types import Array, FloatArray

SPACE = DesignSpace(parameters=(Real(name="x", low=0.0, high=1.0, decimals=4), Real(name="z", low=0.0, high=1.0, decimals=4)))
PEAKS = np.array([[0.2, 0.2], [0.8, 0.75]])


def truth(X: FloatArray) -> FloatArray:
    """Two equal peaks."""
    return np.exp(-20 * ((X[:, None] - PEAKS) ** 2).sum(2)).sum(1)


@pytest.fixture(scope="module")
def data() -> Dataset:
    X = SPACE.sample(40, np.random.default_rng(1))
    return Dataset.from_measurements(SPACE, SPACE.decode(X), truth(X))


@pytest.fixture(scope="module")
def judge(data: Dataset) -> Judgement:
    return Judgement(posterior=GP().fit(data, seed=0), data=data)


def offered(data: Dataset, n: int = 60) -> Pool:
    X = SPACE.sample(2 * n, np.random.default_rng(2))
    X = X[SPACE.fresh(X, known=data.taken)][:n]
    return Pool.of(SPACE, X, np.zeros(len(X)), proposer="one")


def test_the_gain_is_what_joint_draws_show(judge: Judgement, data: Dataset) -> None:
    X, picks = SPACE.sample(30, np.random.default_rng(3)), PEAKS[:1] + 0.03
    best = 0.9 * data.y.max()
    told = np.exp(Gain.over(judge, picks, hope=1.0, best=best, tail=TAIL, seed=0)(X))
    draws = judge.posterior.draw(np.concatenate([picks, X]), 40_000, generator=torch_generator(0)).numpy()
    seen = np.maximum(draws[:, 1:] - np.maximum(draws[:, :1], best), 0).mean(0)
    np.testing.assert_allclose(told, seen, atol=0.1 * seen.max())
    alone = np.exp(Gain.over(judge, picks[:0], hope=1.0, best=best, tail=TAIL, seed=0)(X))
    assert (alone >= told - 0.02 * alone.max()).all()
    beside = np.linalg.norm(X - picks, axis=1).argmin()
    assert told[beside] < alone[beside]


def test_every_pick_is_where_it_adds_most(judge: Judgement, data: Dataset) -> None:
    """By a bound all picks are on the peak that is thought a little higher."""
    pool = offered(data)
    found = by_gain(pool, judge, data, 6, hope=1.0, least=0.05, generations=8, seed=0)
    distance = np.linalg.norm(found.X[:6, None] - PEAKS, axis=2)
    assert set(distance.argmin(1)) == {0, 1}
    assert distance.min(0).max() < 0.1
    apart = SPACE.distance(found.X[:6], found.X[:6]) + np.eye(6)
    assert apart.min() >= 0.05 - 1e-9
    assert len(set(found.ids)) == len(found) >= len(pool)
    assert not set(found.ids) & data.taken
    longer = by_gain(pool, judge, data, 8, hope=1.0, least=0.05, generations=8, seed=0)
    assert longer.ids[:6] == found.ids[:6]


def test_no_design_is_picked_twice_where_picks_may_touch() -> None:
    """On a coarse grid a search comes upon what was picked before it."""
    space = DesignSpace(parameters=(Integer(name="x", low=0, high=400), Integer(name="z", low=0, high=400)))
    X = space.sample(30, np.random.default_rng(1))
    data = Dataset.from_measurements(space, space.decode(X), truth(X))
    judge = Judgement(posterior=GP().fit(data, seed=0), data=data)
    start = space.sample(40, np.random.default_rng(2))
    start = start[space.fresh(start, known=data.taken)]
    pool = Pool.of(space, start, np.zeros(len(start)), proposer="one")
    found = by_gain(pool, judge, data, 8, hope=0.1, least=0.0, generations=6, seed=0)
    assert len(set(found.ids)) == len(found.ids)
    assert len(Conservative(beta=-0.1, min_distance=0.0, refine=6).select(pool, judge, data, 12, seed=0)) == 12


def test_what_waits_in_the_lab_is_not_sought_again(judge: Judgement, data: Dataset) -> None:
    first = by_gain(offered(data), judge, data, 1, hope=1.0, least=0.05, generations=8, seed=0)
    waiting = replace(data, pending=first.X[:1])
    pool = offered(waiting)
    after = by_gain(pool, replace(judge, data=waiting), waiting, 1, hope=1.0, least=0.05, generations=8, seed=0)
    assert np.linalg.norm(after.X[0] - first.X[0]) > 0.1
    failed = replace(waiting, failed=waiting.pending)
    again = by_gain(pool, replace(judge, data=failed), failed, 1, hope=1.0, least=0.05, generations=8, seed=0)
    assert np.linalg.norm(again.X[0] - first.X[0]) < 0.1


LETTERS = DesignSpace(parameters=(Sequence(name="s", alphabet="ACGT", length=5),))


@pytest.fixture(scope="module")
def words() -> tuple[Dataset, Judgement, Pool]:
    """Letters, a judge that has seen 40 of them, and all others."""
    data = toy_data(LETTERS, 40)
    X = LETTERS.listing()
    X = X[LETTERS.fresh(X, known=data.taken)]
    return data, Judgement(posterior=GP().fit(data, seed=0), data=data), Pool.of(LETTERS, X, np.zeros(len(X)), proposer="one")


def test_letters_are_picked_in_turn_by_what_they_add(words: tuple[Dataset, Judgement, Pool]) -> None:
    data, judge, pool = words
    order = in_turn(pool, judge, data, 12, hope=1.0, seed=0)
    assert len(set(order.tolist())) == 12
    assert in_turn(pool, judge, data, 20, hope=1.0, seed=0)[:12].tolist() == order.tolist()
    best = judge.belief(data.X)[0].max()
    # Each is the best, or nearly, by the same gain as a search for numbers takes it.
    for k in (0, 1, 5, 11):
        gain = Gain.over(judge, pool.X[order[:k]], hope=1.0, best=float(best), tail=TAIL, seed=1)(pool.X)
        gain[order[:k]] = -np.inf
        assert (gain > gain[order[k]]).mean() < 0.02  # the draws are others


def test_the_labs_unit_does_not_matter_to_picks(words: tuple[Dataset, Judgement, Pool]) -> None:
    data, _, pool = words
    small = replace(data, y=2.0**-50 * data.y)
    judges = [Judgement(posterior=GP().fit(one, seed=0), data=one) for one in (data, small)]
    for select in (Conservative(hope=1.0, refine=0), Conservative(beta=1.0, refine=0), Conservative(beta=-1.0, refine=0)):
        picks = [select.select(pool, judge, judge.data, 12, seed=0).pool.ids for judge in judges]
        assert picks[0] == picks[1], select
    first = pool.X[:1]
    gains = [
        Gain.over(judge, first, hope=1.0, best=float(judge.data.y.max()), tail=TAIL * judge.data.y.std(), seed=0)(pool.X)
        for judge in judges
    ]
    np.testing.assert_allclose(gains[0], gains[1] + 50 * np.log(2), atol=1e-6)


def test_what_waits_counts_as_picked_and_a_large_pool_is_looked_at_where_it_may_add(
    words: tuple[Dataset, Judgement, Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, judge, pool = words
    order = in_turn(pool, judge, data, 3, hope=1.0, seed=0)
    waiting = replace(data, pending=pool.X[order[:1]])
    after = in_turn(pool, replace(judge, data=waiting), waiting, 2, hope=1.0, seed=0)
    known = judge.correlation(pool.X[after[:1]], pool.X[order[:1]])
    assert known is not None
    assert known[0, 0] < 0.99
    failed = replace(waiting, failed=waiting.pending)
    assert in_turn(pool, replace(judge, data=failed), failed, 1, hope=1.0, seed=0)[0] == order[0]
    monkeypatch.setattr("labloop.proposing.gain.LOOKED_AT", 40)
    monkeypatch.setattr("labloop.proposing.gain.SURE", 10)
    assert len(pool) > 50
    assert 40 <= len(in_turn(pool, judge, data, len(pool), hope=1.0, seed=0)) <= 50


def test_an_order_is_thinned_towards_its_end() -> None:
    order = np.random.default_rng(0).permutation(9_000)
    few = thinned(order, 100)
    place = np.argsort(order)[few]
    assert len(few) == 100
    assert place[:50].tolist() == list(range(50))
    assert place[-1] == 8_999
    assert (np.diff(np.diff(place[50:])) >= -1).all()  # ever wider
    assert thinned(order[:70], 100).tolist() == order[:70].tolist()
    assert len(set(thinned(order[:101], 100).tolist())) == len(thinned(order[:101], 100)) <= 100


class Sure:
    """A judge that is nearly sure of some designs a little below the best, and knows little of all others, far below it."""

    noise_std = 0.01

    def __init__(self, known: FloatArray, near: FloatArray):
        self.known, self.near = {row.tobytes() for row in known}, {row.tobytes() for row in near}

    def belief(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        known, near = (np.array([row.tobytes() in some for row in X]) for some in (self.known, self.near))
        return np.where(known, 1.0, np.where(near, 0.95, -6.0)), np.where(known | near, 0.002, 1.0)

    __call__ = belief


def test_what_no_draw_sees_improve_comes_by_its_nearness_to_the_best(words: tuple[Dataset, Judgement, Pool]) -> None:
    """A pick's gain told exactly, however small, would fill a plate with designs of which only that they are bad is known."""
    data, judge, pool = words
    near = pool.X[::60]
    sure = replace(judge, posterior=Sure(data.X, near))
    picks = Conservative(hope=1.0).select(pool, sure, data, len(near), seed=0)
    assert {row.tobytes() for row in picks.pool.X} == {row.tobytes() for row in near}


def test_a_selector_of_letters_chooses_by_gain_if_it_shall(words: tuple[Dataset, Judgement, Pool]) -> None:
    data, judge, pool = words
    adding = Conservative(hope=1.0)
    picks = adding.select(pool, judge, data, 8, seed=0)
    assert picks.pool.ids == pool.take(in_turn(pool, judge, data, 8, hope=1.0, seed=0)).ids
    off = replace(judge, correction=Correction(shift=(2.0,), stretch=(1.5,), doubt=-0.9, readings=40))
    assert adding.select(pool, off, data, 8, seed=0).pool.ids == picks.pool.ids
    assert Conservative(beta=-1.0).select(pool, judge, data, 8, seed=0).pool.ids != picks.pool.ids
    everything = adding.select(pool, judge, data, len(pool), seed=0)
    assert everything.pool.ids[:8] == picks.pool.ids
    assert len(set(everything.pool.ids)) == len(pool)


def test_a_sequences_own_value_counts_as_far_as_the_judge_explains_what_it_has_not_seen(
    words: tuple[Dataset, Judgement, Pool],
) -> None:
    data, judge, pool = words
    mean = judge.belief(pool.X)[0]
    adding, best = in_turn(pool, judge, data, 12, hope=1.0, seed=0), np.argsort(-mean)[:12]
    some = in_turn(pool, judge, data, 12, hope=1.0, seed=0, own=0.05)
    assert mean[adding].mean() < mean[some].mean() < mean[best].mean()
    assert in_turn(pool, judge, data, 20, hope=1.0, seed=0, own=0.05)[:12].tolist() == some.tolist()
    assert set(in_turn(pool, judge, data, 12, hope=1.0, seed=0, own=1e6).tolist()) == set(best.tolist())

    def picked(skill: float, own: float) -> tuple[str, ...]:
        knowing = replace(judge, posterior=Guessing(judge.posterior, 9.0, skill))  # type: ignore[arg-type]
        return Conservative(hope=1.0, own=own).select(pool, knowing, data, 12, seed=0).pool.ids

    for skill in (-0.5, 0.0):
        assert picked(skill, 0.2) == picked(skill, 0.0)
    assert picked(0.5, 0.15) == picked(0.5**0.5, 0.05) != picked(0.0, 0.05)
    assert picked(1.0, 0.05) == picked(0.99, 0.05)


def test_own_values_count_among_letters_alone() -> None:
    space = DesignSpace(parameters=(Mixture(name="m", components=("a", "b", "c"), step=0.05),))
    data = toy_data(space, 30)
    judge = Judgement(posterior=GP().fit(data, seed=0), data=data)
    X = space.listing()[space.fresh(space.listing(), known=data.taken)]
    pool = Pool.of(space, X, np.zeros(len(X)), proposer="one")
    picks = [Conservative(hope=1.0, own=own).select(pool, judge, data, 6, seed=0).pool.ids for own in (0.0, 9.0)]
    assert picks[0] == picks[1]


def test_mixtures_are_sought_beyond_the_pool_and_letters_are_not(words: tuple[Dataset, Judgement, Pool]) -> None:
    """What is left to gain when the best mixture is picked may lie where no proposer looked."""
    space = DesignSpace(parameters=(Mixture(name="m", components=("a", "b", "c"), step=0.02),))
    data = toy_data(space, 30)
    judge = Judgement(posterior=GP().fit(data, seed=0), data=data)
    X = space.listing()[space.fresh(space.listing(), known=data.taken)]
    pool = Pool.of(space, X[:9], np.zeros(9), proposer="one")
    selector = Conservative(hope=1.0, refine=2)
    picks = selector.select(pool, judge, data, 6, seed=0)
    assert "judge" in picks.pool.proposer.tolist()
    assert selector.select(pool, judge, data, 9, seed=0).pool.ids[:6] == picks.pool.ids
    assert (Conservative(hope=1.0).select(pool, judge, data, 6, seed=0).pool.proposer == "one").all()
    letters, known, few = words
    assert (selector.select(few.take(np.arange(20)), known, letters, 6, seed=0).pool.proposer == "one").all()


OPTIONS = (Choice(name="s", options=tuple("abcdefgh")), Choice(name="t", options=tuple("uvwxyz")))


@pytest.mark.parametrize(
    ("parameters", "bound"),
    [
        (OPTIONS, True),
        ((*OPTIONS, Real(name="heat", low=90, high=120, step=15)), True),
        ((*OPTIONS[:1], Real(name="heat", low=90, high=120, step=5)), False),
        ((*OPTIONS, Mixture(name="m", components=("a", "b"), step=0.25)), False),
    ],
    ids=["alone", "a number in steps", "as many numbers", "a mixture"],
)
def test_options_go_by_the_bound_whatever_the_hope(parameters: tuple[Parameter, ...], bound: bool) -> None:
    space = DesignSpace(parameters=parameters)
    X = space.listing()[::4]
    data = Dataset.from_measurements(space, space.decode(X), X @ np.arange(float(space.d)))
    judge = Judgement(posterior=GP().fit(data, seed=0), data=data)
    rest = space.listing()[space.fresh(space.listing(), known=data.taken)]
    pool = Pool.of(space, rest, np.zeros(len(rest)), proposer="one")
    hope, plain = Conservative(hope=1.0, beyond_chance=99.0, beta=-0.5), Conservative(beta=-0.5)
    one, other = (selector.select(pool, judge, data, 9, seed=0).pool for selector in (hope, plain))
    assert (one.notes["selection"]["beta"] == other.notes["selection"]["beta"]) is bound
    assert one.ids == other.ids or not bound


class Guessing:
    """A judge that says how far its held-out predictions are from chance, and whose picks have values of their own."""

    def __init__(self, posterior: FittedGP, beyond_chance: float, skill: float = 0.0):
        self.posterior, self.beyond_chance, self.noise_std = posterior, beyond_chance, posterior.noise_std
        self.skill, self.correlation = skill, posterior.correlation

    def __call__(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.posterior(X)

    def belief(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.posterior.belief(X)


@pytest.mark.parametrize(("beyond", "by_chance"), [(-1.0, 12), (0.5, 12), (1.0, 6), (1.25, 3), (1.5, 0), (9.0, 0)])
def test_a_judge_that_cannot_be_told_from_chance_leaves_the_first_plate_to_chance(
    words: tuple[Dataset, Judgement, Pool], beyond: float, by_chance: int
) -> None:
    data, judge, pool = words
    few = pool.take(np.arange(0, len(pool), 8))
    guessing = replace(judge, posterior=Guessing(judge.posterior, beyond))  # type: ignore[arg-type]
    selector = Conservative(hope=1.0, beyond_chance=1.5)
    picks = selector.select(few, guessing, data, 12, seed=0)
    assert (picks.pool.proposer == "random").sum() == picks.pool.notes["selection"]["by_chance"] == by_chance
    told = left_to_chance({"offline": picks})
    assert [one.rpartition(": ")[2] for one in told] == [f"{by_chance} of 12 picks of arm offline are drawn at random"] * bool(
        by_chance
    )
    assert not set(picks.pool.ids) & data.taken
    longer = selector.select(few, guessing, data, 16, seed=0)
    assert longer.pool.ids[:12] == picks.pool.ids
    again = replace(guessing, past=Past.of(np.zeros(3), np.ones(3), np.zeros(3)))
    for other in (
        selector.select(few, again, data, 12, seed=0),
        Conservative(hope=1.0).select(few, guessing, data, 12, seed=0),
    ):
        assert (other.pool.proposer == "one").all()


def test_a_selector_of_numbers_chooses_by_gain_while_it_hopes(judge: Judgement, data: Dataset) -> None:
    pool, hope = offered(data), Conservative(beta=-1.0, numbers=0.5, refine=8)
    picks = hope.select(pool, judge, data, 6, seed=0)
    assert picks.pool.ids == by_gain(pool, judge, data, 6, hope=0.5, least=0.02, generations=8, seed=0).ids[:6]
    assert picks.pool.notes["selection"]["refined"] == np.isnan(picks.pool.score).sum() > 0
    said = Conservative(hope=0.5, beta=-1.0, refine=8).select(pool, judge, data, 6, seed=0)
    assert said.pool.ids == picks.pool.ids
    # How far earlier plates were off moves what is told of the picks, and not which they are.
    off = replace(judge, correction=Correction(shift=(2.0,), stretch=(1.5,), readings=40))
    told = hope.select(pool, off, data, 6, seed=0)
    assert told.pool.ids == picks.pool.ids
    assert (told.std > picks.std).all()

    cautious = Conservative(beta=1.0, refine=8, spread=0.0, adapt=False).select(pool, judge, data, 1, seed=0)

    def bound(X: FloatArray, proposer: Array) -> FloatArray:
        mean, std = judge.belief(X)
        return mean - std

    best = refined(pool, bound, data, 128, generations=8, seed=0)
    assert cautious.lcb[0] == pytest.approx(bound(best.X, best.proposer).max())


def test_a_plate_around_a_known_peak_lies_on_it_and_is_not_one_design_many_times() -> None:
    rng = np.random.default_rng(1)
    X, more = SPACE.sample(20, rng), SPACE.sample(400, rng)
    X = np.concatenate([X, more[np.argsort(np.linalg.norm(more - PEAKS[0], axis=1))[:15]]])
    data = Dataset.from_measurements(SPACE, SPACE.decode(X), np.exp(-60 * ((X - PEAKS[0]) ** 2).sum(1)))
    judge = Judgement(posterior=GP().fit(data, seed=0), data=data)
    picks = Conservative(beta=0.0, refine=30).select(offered(data), judge, data, 24, seed=0)
    assert (SPACE.distance(picks.pool.X, picks.pool.X) + np.eye(24)).min() >= 0.02 - 1e-9
    assert np.linalg.norm(picks.pool.X - PEAKS[0], axis=1).max() < 0.1
    assert picks.mean.mean() > 0.85


def test_a_whole_pool_may_be_chosen(judge: Judgement, data: Dataset) -> None:
    pool = offered(data, 6)
    assert set(Conservative(beta=-1.0).select(pool, judge, data, 6, seed=0).pool.ids) == set(pool.ids)


def test_what_no_lab_would_see_improve_is_not_told_apart_by_doubt() -> None:
    """Of a peak that is known, the rest of a plate lies around it, not where least is known."""
    space = DesignSpace(parameters=(Real(name="x", low=0.0, high=1.0, decimals=4),))
    X = np.concatenate([np.linspace(0, 0.6, 40), [0.95]])[:, None]
    data = Dataset.from_measurements(space, space.decode(X), np.exp(-60 * (X[:, 0] - 0.3) ** 2))
    judge = Judgement(posterior=GP().fit(data, seed=0), data=data)
    start = np.linspace(0.005, 0.995, 45)[:, None]
    start = start[space.fresh(start, known=data.taken)]
    pool = Pool.of(space, start, np.zeros(len(start)), proposer="one")
    picks = by_gain(pool, judge, data, 5, hope=1.0, least=0.02, generations=8, seed=0).X[:5, 0]
    assert (abs(picks - 0.3) < 0.1).all()


def test_options_among_numbers_do_not_add_to_the_hope() -> None:
    space = DesignSpace(
        parameters=(Real(name="x", low=0, high=1), Choice(name="s", options=("a", "b")), Choice(name="t", options=("c", "d")))
    )
    X = space.sample(24, np.random.default_rng(1))
    data = Dataset.from_measurements(space, space.decode(X), X[:, 0] + X[:, 1])
    judge = Judgement(posterior=GP().fit(data, seed=0), data=data)
    start = space.sample(30, np.random.default_rng(2))
    pool = Pool.of(space, start, np.zeros(len(start)), proposer="one")
    told = Conservative(beta=-2.0, numbers=0.5, refine=2).select(pool, judge, data, 2, seed=0).pool.notes["selection"]
    assert told["beta"] == pytest.approx(-1.0)


@pytest.mark.parametrize("kind", ["sequence", "continuous"])
def test_an_optimist_may_go_by_a_judge_that_cannot_say_what_goes_together(kind: str) -> None:
    data = toy_data(TOY_SPACES[kind])
    judge = Judgement(posterior=Ensemble(members=3, steps=20).fit(data, seed=0), data=data)
    X = data.space.sample(30, np.random.default_rng(2))
    X = X[data.space.fresh(X, known=data.taken)]
    pool = Pool.of(data.space, X, np.zeros(len(X)), proposer="one")
    assert len(Conservative(beta=-1.0, refine=2).select(pool, judge, data, 4, seed=0)) == 4


def test_designs_that_a_search_found_are_candidates_in_what_a_refusal_counts(judge: Judgement, data: Dataset) -> None:
    with pytest.raises(
        MethodError, match=r"asked for 8 picks, but (\d) of the pool's (\d+) candidates are left \((\d+) are nearer"
    ) as told:
        Conservative(beta=-1.0, min_distance=0.9, refine=4).select(offered(data), judge, data, 8, seed=0)
    left, candidates, near = map(int, re.findall(r"\d+", str(told.value))[1:4])
    assert candidates > 60
    assert left == candidates - near
