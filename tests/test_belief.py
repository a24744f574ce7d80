"""Belief and reading told apart, and the judge corrected by what came back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.proposing.belief import LEAST, Correction, Judgement, Past, believing
from labloop.proposing.pipeline import choose, earlier, judge, judged
from labloop.proposing.pool import Pool
from labloop.proposing.protocols import Belief
from labloop.proposing.selectors import Conservative
from labloop.registry import create
from labloop.testing import TOY_SPACES, toy_data
from labloop.types import FloatArray

DATA = toy_data(TOY_SPACES["sequence"])
CONFIG = parse_config(
    {"arms": {"one": {"proposers": "random", "selector": {"conservative": {"beta": 1.0}}}}, "judge": "fakes:Flat"}, RoundConfig
)


class Sure:
    """A belief with noise: designs are worth their first column, their std is their second."""

    noise_std = 2.0

    def belief(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        return X[:, 0].copy(), 0.1 + X[:, 1]

    def __call__(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean, std = self.belief(X)
        return mean, np.hypot(std, self.noise_std)


def plates(rounds: int, *, shift: float, spread: float, n: int = 48) -> Past:
    """What a judge of std 1 that says 0 sees come back."""
    rng = np.random.default_rng(0)
    y = shift + spread * rng.normal(size=rounds * n)
    return Past.of(np.zeros(rounds * n), np.ones(rounds * n), y, round=np.repeat(np.arange(rounds), n))


def test_a_plain_function_is_taken_at_its_word() -> None:
    plain = believing(lambda X: (X[:, 0], X[:, 1] + 1))
    assert isinstance(plain, Belief)
    np.testing.assert_array_equal(plain.belief(DATA.X), plain(DATA.X))
    assert plain.noise_std == 0
    assert believing(Sure()).noise_std == 2


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
def test_a_judge_three_times_too_sure_is_widened_as_much_after_every_round(rounds: int) -> None:
    """Fed with what the judge said before it was stretched, the factor does not wear off."""
    found = Correction.learnt(plates(rounds, shift=0, spread=3))
    assert 2.0 < found.stretch[0] < 3.1
    assert abs(found.shift[0]) < 0.5


def test_the_stretch_of_four_rounds_comes_from_what_was_said_before_stretching() -> None:
    """The whole way of a campaign: what is stored is corrected, what is learnt from is not."""
    rng = np.random.default_rng(1)
    stored: list[dict[str, FloatArray]] = []
    told, factors = {}, []
    for number in range(1, 5):
        past = None
        if stored:
            past = earlier(pd.DataFrame({k: np.concatenate([one[k] for one in stored]) for k in stored[0]}), told)
            np.testing.assert_allclose(past.std, 1.0)
        found = judge(CONFIG, DATA, seed=0, number=number, rounds=4, past=past)
        factors.append(found.correction.stretch[0])
        offered = Pool.best(DATA, DATA.space.sample(200, rng), np.zeros(200), 48, proposer="near")
        picks = choose(CONFIG, {"one": offered}, found, DATA, {"one": 48}, seed=0, number=number, rounds=4)["one"]
        told[number] = judged(found, {"one": picks})
        raw, _ = found.raw(picks.pool.X)
        stored.append({
            "mean": picks.mean, "std": picks.std, "y": raw + 3 * rng.normal(size=48), "nearest_distance": picks.nearest_distance,
            "round": np.full(48, number), "proposer": picks.pool.proposer,
        })  # fmt: skip
    assert factors[0] == 1
    assert min(factors[1:]) > 2.2
    assert max(factors[1:]) < 3.3


def test_a_judge_that_was_too_low_is_shifted_not_widened() -> None:
    found = Correction.learnt(plates(2, shift=2.5, spread=1))
    assert 1.3 < found.shift[0] < 2.6
    assert found.stretch[0] < 1.4
    low = Correction.learnt(plates(2, shift=-2.5, spread=1))
    assert low.shift[0] < -1.3


def test_what_is_kept_of_a_shift_is_a_guess_and_widens_by_half_of_it() -> None:
    around = np.tile([-1.0, 1.0], 400)
    plain, shifted = (Correction.learnt(Past.of(np.zeros(800), np.ones(800), off + around)) for off in (0.0, 3.0))
    assert plain.shift[0] == pytest.approx(0.0)
    assert shifted.shift[0] > 0.5
    assert shifted.stretch[0] ** 2 - plain.stretch[0] ** 2 == pytest.approx((shifted.shift[0] / 2) ** 2, rel=0.1)


def test_ninety_per_cent_intervals_hold_at_the_next_plate() -> None:
    for shift, spread in ((0, 3), (2, 1), (-2, 2), (0, 0.4)):
        found = Correction.learnt(plates(3, shift=shift, spread=spread))
        y = shift + spread * np.random.default_rng(5).normal(size=2000)
        assert 0.8 < (np.abs(y - found.shift[0]) <= 1.645 * found.reading(np.zeros(1))[1]).mean() <= 0.995


def test_intervals_hold_where_the_wells_of_a_plate_err_together() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(200):
        shared = rng.normal(size=4)
        y = np.repeat(shared[:3], 48) + 0.3 * rng.normal(size=144)
        found = Correction.learnt(Past.of(np.zeros(144), np.ones(144), y, round=np.repeat([1, 2, 3], 48)))
        shift, wide = found.reading(np.zeros(1))
        held.append((np.abs(shared[3] + 0.3 * rng.normal(size=100) - shift) <= 1.645 * wide).mean())
    assert 0.8 < np.mean(held) < 0.97


def test_what_wells_share_widens_a_reading_and_moves_no_bound() -> None:
    past = plates(2, shift=0, spread=1)
    apart, alike = Correction.learnt(past), replace(Correction.learnt(past), common=2.0)
    one, other = (Judgement(posterior=Sure(), data=DATA, correction=each) for each in (apart, alike))
    assert (other(DATA.X)[1] > 1.5 * one(DATA.X)[1]).all()
    np.testing.assert_array_equal(other.belief(DATA.X), one.belief(DATA.X))
    np.testing.assert_array_equal(other.optimistic(DATA.X), one.optimistic(DATA.X))


def test_few_readings_correct_nothing() -> None:
    few = plates(1, shift=3, spread=3, n=LEAST - 1)
    assert Correction.learnt(few) == Correction() == Correction.learnt(None)
    assert Correction().none


def test_the_latest_plate_tells_most() -> None:
    y = np.repeat([4.0, 0.0], 48)
    found = Correction.learnt(Past.of(np.zeros(96), np.ones(96), y, round=np.repeat([1, 2], 48)))
    assert found.shift[0] < 0.5 < Correction.learnt(Past.of(np.zeros(96), np.ones(96), y)).shift[0]


def test_most_of_an_error_is_mended_by_the_next_fit_until_plates_tell_that_it_is_not() -> None:
    def shift(*means: float) -> float:
        y, when = np.repeat(means, 48), np.repeat(np.arange(len(means)), 48)
        return Correction.learnt(Past.of(np.zeros(len(y)), np.ones(len(y)), y, round=when)).shift[0]

    assert shift(4.0) < 0.5 * 4
    assert shift(4.0, 4.0) > 0.5 * 4
    assert abs(shift(4.0, 0.5)) < 0.5


def test_near_and_far_designs_are_corrected_apart() -> None:
    far = np.tile([1.0, 5.0], 60)
    y = np.where(far > 2, 3.0, 0.0) + 0.1 * np.random.default_rng(0).normal(size=120)
    found = Correction.learnt(Past.of(np.zeros(120), np.ones(120), y, far, np.repeat([1, 2], 60)))
    near, mid, beyond = found.at(np.array([0.0, 3.0, 9.0]))[0]
    assert near < mid < beyond
    assert near < 0.8
    assert beyond > 1.6


def test_what_doubt_was_worth_and_who_offered_better_than_was_said() -> None:
    rng = np.random.default_rng(0)
    doubt = rng.uniform(0, 2, size=200)
    std = np.hypot(doubt, 0.5)
    names = np.array(["a", "b"] * 100, dtype=object)
    y = 1.5 * doubt + np.where(names == "a", 0.5, -0.5)
    past = Past.of(np.zeros(200), std, y, noise_std=np.full(200, 0.5), proposer=names)
    found = Correction.learnt(past)
    assert found.doubt > 0.3
    assert found.proposers["a"] > 0.1 > -0.1 > found.proposers["b"]
    assert Correction.learnt(Past.of(np.zeros(200), std, -y, noise_std=np.full(200, 0.5), proposer=names)).doubt < -0.3


def test_a_correction_is_taken_back_and_written_down_whole() -> None:
    far = np.tile([1.0, 5.0], 60)
    found = Correction.learnt(Past.of(np.zeros(120), np.ones(120), np.where(far > 2, 3.0, 1.0), far))
    assert Correction.noted(found.notes()) == found
    mean, std = np.linspace(-1, 1, 7), np.linspace(1, 2, 7)
    shift, wide = found.reading(np.linspace(0, 8, 7))
    back = found.undone(mean + shift * std, wide * std, np.linspace(0, 8, 7))
    np.testing.assert_allclose(back, (mean, std), atol=1e-12)
    told = {key: value for key, value in found.notes().items() if key != "common"}  # as rounds of 0.1 wrote it
    before = Correction.noted(told)
    np.testing.assert_allclose(
        before.undone(mean + shift * std, before.at(np.linspace(0, 8, 7))[1] * std, np.linspace(0, 8, 7)), (mean, std), atol=1e-12
    )


def test_bounds_are_taken_on_the_belief_not_on_the_reading() -> None:
    space = TOY_SPACES["sequence"]
    X = space.sample(60, np.random.default_rng(3))
    X = X[space.fresh(X, known=DATA.taken)]
    pool = Pool.of(space, X, np.zeros(len(X)), proposer="toy")
    judgement = Judgement(posterior=Sure(), data=DATA)
    picks = Conservative(beta=1.5, support=None, spread=0).select(pool, judgement, DATA, 10, seed=0)
    np.testing.assert_allclose(picks.lcb, picks.pool.X[:, 0] - 1.5 * (0.1 + picks.pool.X[:, 1]))
    np.testing.assert_allclose(picks.std, np.hypot(0.1 + picks.pool.X[:, 1], 2.0))


def test_a_corrected_judge_moves_belief_and_reading_alike() -> None:
    correction = Correction(shift=(0.5,), stretch=(2.0,), readings=40)
    judgement = Judgement(posterior=Sure(), data=DATA, correction=correction)
    raw_mean, raw_std = judgement.raw(DATA.X)
    mean, std = judgement(DATA.X)
    np.testing.assert_allclose(mean, raw_mean + 0.5 * raw_std)
    np.testing.assert_allclose(std, 2 * raw_std)
    believed, doubt = judgement.belief(DATA.X)
    np.testing.assert_allclose(believed, mean)
    np.testing.assert_allclose(doubt, 2 * Sure().belief(DATA.X)[1])


def test_a_selector_takes_earlier_plates_into_account_unless_told_not_to() -> None:
    space = TOY_SPACES["sequence"]
    X = space.sample(80, np.random.default_rng(3))
    X = X[space.fresh(X, known=DATA.taken)]
    pool = Pool.of(space, X, np.zeros(len(X)), proposer="toy")
    judgement = Judgement(posterior=Sure(), data=DATA, correction=Correction(doubt=0.7, readings=40))
    adapted, plain = (
        create("selectors", "conservative", {"beta": 1.0, "adapt": adapt}).select(pool, judgement, DATA, 5, seed=0)
        for adapt in (True, False)
    )
    assert adapted.pool.notes["selection"]["beta"] == pytest.approx(0.3)
    assert plain.pool.notes["selection"]["beta"] == 1


class Twins(Sure):
    """Designs of one first letter are good or bad together."""

    noise_std = 0.1

    def belief(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        return 0.01 * X[:, 5], np.ones(len(X))

    def correlation(self, X: FloatArray, others: FloatArray | None = None) -> FloatArray:
        return np.where(X[:, :4].argmax(1)[:, None] == X[:, :4].argmax(1), 0.99, 0.0) + 0.01 * np.eye(len(X))


def test_an_optimist_hopes_for_a_doubt_once() -> None:
    space = TOY_SPACES["sequence"]
    X = space.sample(120, np.random.default_rng(3))
    X = X[space.fresh(X, known=DATA.taken)]
    pool = Pool.of(space, X, np.zeros(len(X)), proposer="toy")
    judgement = Judgement(posterior=Twins(), data=DATA)
    picks = Conservative(beta=-2, support=None).select(pool, judgement, DATA, 4, seed=0)
    assert len(set(picks.pool.X[:, :4].argmax(1))) == 4
    longer = Conservative(beta=-2, support=None).select(pool, judgement, DATA, 20, seed=0)
    assert longer.pool.ids[:4] == picks.pool.ids


def test_a_judge_that_was_too_sure_is_no_reason_to_hope_for_more() -> None:
    wide = Judgement(posterior=Sure(), data=DATA, correction=Correction(stretch=(2.0,), readings=40))
    np.testing.assert_allclose(wide.optimistic(DATA.X)[1], Sure().belief(DATA.X)[1])
    narrow = Judgement(posterior=Sure(), data=DATA, correction=Correction(stretch=(0.5,), readings=40))
    np.testing.assert_allclose(narrow.optimistic(DATA.X)[1], 0.5 * Sure().belief(DATA.X)[1])
