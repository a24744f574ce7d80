"""The dataset: replicates, censoring, direction, identity."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.history import for_proposer
from labloop.proposing.odd import held
from labloop.proposing.pool import Pool
from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective
from labloop.space.parameters import Choice, Sequence

SPACE = DesignSpace(parameters=(Sequence(name="dna", length=4),), symmetries=("reverse_complement",))


LONG = DesignSpace(parameters=(Sequence(name="dna", length=30),))


def dataset(rows, **options):
    frame = pd.DataFrame(rows, columns=["dna", "value"])
    return Dataset.from_measurements(SPACE, frame[["dna"]], frame["value"], **options)


def row(data, dna):
    return data.ids.index(SPACE.ids(SPACE.encode(pd.DataFrame({"dna": [dna]})))[0])


def test_replicates_and_strands_become_one_row_with_a_pooled_error():
    data = dataset([("AAAC", 1.0), ("GTTT", 3.0), ("CCCA", 5.0), ("CCCA", 5.2), ("ACAC", 0.0)])
    assert len(data) == 3
    i, j, k = row(data, "AAAC"), row(data, "CCCA"), row(data, "ACAC")
    assert data.y[[i, j, k]].tolist() == [2.0, 5.1, 0.0]
    pooled = np.sqrt((1 + 1 + 0.1**2 + 0.1**2) / 2)
    np.testing.assert_allclose(data.sem[[i, j, k]], [pooled / np.sqrt(2), pooled / np.sqrt(2), pooled])


def test_without_replicates_the_noise_is_unknown_not_zero():
    assert np.isnan(dataset([("AAAC", 1.0), ("CCCA", 2.0)]).sem).all()


def test_only_designs_that_may_be_proposed_take_room_in_a_space():
    rows = [("AAAC", 1.0), ("GTTT", 3.0), ("CCCA", 5.0), ("ACAC", 0.0)]
    assert dataset(rows, pending=pd.DataFrame({"dna": ["TTTT", "AAAC"]})).room == len(SPACE.listing()) - 4
    rule = {"type": "gc_range", "parameter": "dna", "low": 0.5}
    narrow = DesignSpace(parameters=SPACE.parameters, symmetries=SPACE.symmetries, constraints=[rule])
    frame = pd.DataFrame(rows, columns=["dna", "value"])
    data = Dataset.from_measurements(narrow, frame[["dna"]], frame["value"], pending=pd.DataFrame({"dna": ["TTTT", "CCCC"]}))
    assert data.room == len(narrow.listing()) - 3
    assert Dataset.from_measurements(LONG, pd.DataFrame({"dna": ["A" * 30]}), [1.0]).room == np.inf


def test_a_minimised_objective_is_maximised_inside():
    objective = Objective(direction="min", transform="log10")
    data = dataset([("AAAC", 100.0), ("CCCA", 1.0)], objective=objective)
    assert data.best == row(data, "CCCA")
    np.testing.assert_allclose(objective.to_value(data.y[[row(data, "AAAC"), row(data, "CCCA")]]), [100, 1])


def test_a_logarithm_of_a_value_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="positive"):
        dataset([("AAAC", 0.0)], objective=Objective(transform="log"))


def test_censored_readings_keep_their_side_and_the_tightest_bound():
    data = dataset(
        [("AAAC", 3.0), ("AAAC", 5.0), ("CCCA", 1.0), ("ACAC", 9.0), ("ACAC", 2.0)], qualifiers=[">", ">", "<", ">", "="]
    )
    i, j, k = row(data, "AAAC"), row(data, "CCCA"), row(data, "ACAC")
    assert data.censored[[i, j, k]].tolist() == [1, -1, 0]
    assert data.y[[i, j, k]].tolist() == [5.0, 1.0, 2.0]
    flipped = dataset([("AAAC", 3.0)], qualifiers=[">"], objective=Objective(direction="min"))
    assert flipped.censored.tolist() == [-1]


@pytest.mark.parametrize("order", [1, -1], ids=["from above first", "from below first"])
@pytest.mark.parametrize(("low", "high"), [(1.0, 5.0), (5.0, 1.0)], ids=["hemmed in", "contradictory"])
def test_bounds_on_both_sides_are_their_middle_in_whatever_order(low, high, order):
    rows = [("AAAC", high, "<"), ("AAAC", low, ">"), ("AAAC", 9.0, "<"), ("AAAC", -1.0, ">")][::order]
    data = dataset([one[:2] for one in rows], qualifiers=[one[2] for one in rows])
    assert (data.y.tolist(), data.censored.tolist()) == ([3.0], [0])


@pytest.mark.parametrize(("direction", "bound"), [("max", "<"), ("min", ">")])
def test_a_bound_on_the_bad_side_is_best_of_nothing(direction, bound):
    sign = 1 if direction == "max" else -1
    rows = [("AAAC", 5000.0 * sign), ("CCCA", 1000.0 * sign), ("ACAC", 2000.0 * sign), ("AACC", 4000.0 * sign)]
    data = dataset(rows, qualifiers=[bound, "=", "=", bound], objective=Objective(direction=direction))
    assert data.y[data.top(3)].tolist() == [2000, 1000, 5000]
    assert data.top(1) == [data.best]


@pytest.mark.parametrize("qualifiers", [["~", "="], ["="], ["=", "=", "="]])
def test_qualifiers_are_one_a_value_and_of_three_kinds(qualifiers):
    with pytest.raises(ValueError, match="qualifiers must be one a value, each of = < >"):
        dataset([("AAAC", 3.0), ("CCCA", 1.0)], qualifiers=qualifiers)


def test_nobody_writes_into_a_dataset_in_this_process_or_another():
    y = np.array([1.0, 2.0])
    data = replace(dataset([("AAAC", 1.0), ("CCCA", 2.0)]), y=y)
    for one in (data, data.take(np.array([0])), pickle.loads(pickle.dumps(data)), replace(data, history=(data,)).history[0]):
        for name in ("X", "y", "sem", "censored", "n_replicates", "pending"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(one, name)[...] = 0
    y[0] = 5.0  # whose array it was may go on with it


def test_the_fingerprint_tells_data_apart_and_forgets_row_order():
    rows = [("AAAC", 1.0), ("CCCA", 2.0), ("AAAC", 1.5)]
    assert dataset(rows).fingerprint == dataset(rows[::-1]).fingerprint
    assert dataset(rows).fingerprint != dataset(rows[:2]).fingerprint
    pending = pd.DataFrame({"dna": ["TTTT"]})
    assert dataset(rows).fingerprint != dataset(rows, pending=pending).fingerprint


def test_pending_designs_are_taken_and_not_measured():
    data = dataset([("AAAC", 1.0)], pending=pd.DataFrame({"dna": ["TTTT"]}))
    assert len(data) == 1
    assert len(data.taken) == 2


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        dataset([("AAAC", np.nan)])


def test_a_pool_keeps_the_best_new_designs_once():
    data = dataset([("AAAC", 1.0)])
    X = SPACE.encode(pd.DataFrame({"dna": ["AAAC", "CCCA", "TGGG", "ACAC", "CCCC"]}))  # TGGG is the twin of CCCA
    pool = Pool.best(data, X, [9, 1, 5, 3, 4], 3, proposer="mine")
    assert list(pool.score) == [5, 4, 3]
    assert SPACE.decode(pool.X)["dna"].tolist() == ["CCCA", "CCCC", "ACAC"]
    with pytest.raises(MethodError, match=r"mine found 3 of the 4"):
        Pool.best(data, X, [9, 1, 5, 3, 4], 4, proposer="mine")


def test_pools_interleave_by_turns_without_repeats():
    space = DesignSpace(parameters=(Choice(name="c", options=tuple("abcdef")),))
    X = space.listing()
    first = Pool.of(space, X[[0, 1, 2]], [3, 2, 1], proposer="one")
    second = Pool.of(space, X[[1, 3]], [9, 8], proposer="two")
    both = Pool.interleave([first, second])
    assert space.decode(both.X)["c"].tolist() == ["a", "b", "d", "c"]
    assert both.proposer.tolist() == ["one", "two", "two", "one"]
    assert list(both.ids) == space.ids(both.X)


def test_pools_interleave_by_shares_and_a_design_that_came_up_costs_no_turn():
    space = DesignSpace(parameters=(Choice(name="c", options=tuple("abcdefgh")),))
    X = space.listing()
    first = Pool.of(space, X[[0, 1, 2, 3]], [4, 3, 2, 1], proposer="one")
    second = Pool.of(space, X[[1, 4, 5, 6]], [9, 8, 7, 6], proposer="two")
    both = Pool.interleave([first, second], {"one": 1, "two": 3})
    assert both.proposer.tolist()[:4].count("two") == 3
    assert sorted(space.decode(both.X)["c"]) == list("abcdefg")
    assert Pool.interleave([first, second], {}).proposer.tolist()[:6] == ["one", "two"] * 3


def test_copies_of_a_reading_tell_no_noise():
    doubled = dataset([("AAAC", 1.0), ("CCCA", 2.0)] * 2)
    assert doubled.n_replicates.tolist() == [2, 2]
    assert np.isnan(doubled.sem).all()


def test_copies_beside_readings_that_differ_leave_the_noise_as_it_was():
    once = [("AAAC", 1.0), ("AAAC", 1.5), ("CCCA", 2.0), ("ACCA", 0.5), ("ACCA", 0.75)]
    sem = dataset(once).sem * np.sqrt(dataset(once).n_replicates)
    again = dataset(once + once)
    np.testing.assert_allclose(again.sem * np.sqrt(again.n_replicates), sem)
    assert (again.sem > 0).all()
    some = dataset([*once, ("CCCA", 2.0)])  # equal to the last digit: no freedom, and the pooled noise stands in
    np.testing.assert_allclose(some.sem * np.sqrt(some.n_replicates), sem)


def test_a_score_that_is_no_number_makes_no_pool():
    X = SPACE.listing()[:3]
    with pytest.raises(MethodError, match=r"mine has no finite score for 2 of 3 designs"):
        Pool.of(SPACE, X, np.array([1.0, np.nan, np.inf]), proposer="mine")


# ---- odd readings


def readings(*odd: float):
    """Forty readings within one of 10, and odd ones."""
    y = np.r_[10 + np.linspace(-1, 1, 40), odd]
    X = SPACE.listing()[: len(y)]
    return replace(dataset([("AAAA", 0.0)]), X=X, y=y, sem=np.full(len(y), np.nan), censored=np.zeros(len(y), dtype=int),
                   n_replicates=np.ones(len(y), dtype=int), ids=tuple(SPACE.ids(X)))  # fmt: skip


@pytest.mark.parametrize("slip", [1e6, -1e6])
def test_a_slipped_decimal_point_is_held(slip):
    data = readings(slip)
    found = held(data)
    np.testing.assert_array_equal(found.y[:40], data.y[:40])
    assert abs(found.y[40] - 10) == pytest.approx(5 * data.y[:40].std(), rel=1e-6)
    assert found.ids == data.ids


@pytest.mark.parametrize("unit", [1e-200, 1e200, 1e307])
def test_values_that_cannot_be_squared_are_told_in_a_unit_in_which_they_can(unit):
    plain = held(readings(1e6))
    for slip in ([], [1e6]):
        far = held(replace(data := readings(*slip), y=data.y * (unit / 1e6)))
        np.testing.assert_allclose(far.y / far.y[0], (plain.y / plain.y[0])[: len(far.y)], rtol=1e-12)
        assert np.isfinite(far.y.std())
        assert far.y.std() > 0


def test_what_the_data_are_like_is_not_odd():
    for data in (readings(), readings(50.0), readings(*[1e6] * 10), dataset([("AAAC", 1.0), ("CCCA", 1e9)])):
        assert held(data) is data


def test_a_proposer_gets_odd_readings_held_a_gaussian_process_as_they_are():
    data = readings(1e9)
    assert for_proposer("mutate", data).y.max() < 20
    assert for_proposer("gp_mean", data) is data  # it doubts them, and says so
