"""Arms are compared within rounds, with honest intervals, and the words say no more than the data do."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from labloop.compare import statistics
from labloop.compare.arms import compare
from labloop.compare.results import Comparison, spell
from labloop.space.objective import Objective

MAX = Objective(unit="nM")


def picks_of(wells: dict[tuple[int, str], list[float]], *, ids: dict | None = None, **columns: object) -> pd.DataFrame:
    """Picks of (round, arm) -> y; designs are all different unless `ids` names them."""
    rows = [
        {"round": r, "arm": arm, "design_id": (ids or {}).get((r, arm), [f"{r}{arm}{i}" for i in range(len(ys))])[i],
         "proposer": arm, "rank": i, "score": 0.0, "mean": y, "std": 1.0, "lcb": y - 1, "y": y,
         "status": "failed_technical" if math.isnan(y) else "ok"}
        for (r, arm), ys in wells.items() for i, y in enumerate(ys)
    ]  # fmt: skip
    columns_ = ["round", "arm", "design_id", "proposer", "rank", "score", "mean", "std", "lcb", "y", "status"]
    return pd.DataFrame(rows, columns=columns_).assign(**columns)


def normal(seed: int, n: int, at: float = 0.0) -> list[float]:
    return (np.random.default_rng(seed).normal(size=n) + at).tolist()


def quick(picks: pd.DataFrame, **options: object) -> Comparison:
    settings: dict[str, object] = {"incumbent": 0.0, "objective": MAX, "seed": 1, "n_resamples": 499}
    return compare(picks, **(settings | options))  # type: ignore[arg-type]


def pair_of(first: np.ndarray, second: np.ndarray, shared: np.ndarray | None = None) -> statistics.Pair:
    return statistics.Pair("a", "b", (statistics.Block((first, second), np.empty(0) if shared is None else shared, 0.0),))


# What an arm got


def test_an_arm_is_summed_up_over_its_measured_wells():
    arm = quick(picks_of({(1, "a"): [3.0, -1.0, math.nan, 2.0]}), top_k=2).arms[0]
    assert (arm.n_wells, arm.n_measured, arm.n_failed, arm.n_pending) == (4, 3, 1, 0)
    assert (arm.best, arm.best_id, arm.top_mean) == (3.0, "1a0", 2.5)
    assert arm.mean == pytest.approx(4 / 3)
    assert (arm.n_hits, arm.hit_rate) == (2, pytest.approx(2 / 3))


def test_a_well_that_the_lab_still_holds_is_pending_and_not_lost():
    arm = quick(picks_of({(1, "a"): [1.0, math.nan]}, status=["ok", "pending"])).arms[0]
    assert (arm.n_failed, arm.n_pending) == (0, 1)


def test_hits_count_against_the_incumbent_of_their_own_round():
    picks = picks_of({(1, "a"): [1.0, 2.0], (2, "a"): [1.0, 2.0]})
    assert quick(picks, incumbent={1: 0.5, 2: 1.5}).arms[0].n_hits == 3
    assert quick(picks, incumbent=2.0).arms[0].n_hits == 0, "equal to the incumbent is not above it"
    assert quick(picks, incumbent={1: 0.5, 2: math.nan}).arms[0].hit_rate == 1.0
    assert quick(picks, incumbent=math.nan).arms[0].n_hits is None
    assert quick(picks, incumbent=None).arms[0].n_hits is None


def test_values_are_given_in_the_labs_unit_too():
    low = quick(picks_of({(1, "a"): [-3.0, -5.0]}), objective=Objective(direction="min")).arms[0]
    assert (low.best_value, low.mean_value) == (3.0, 4.0)
    assert low.mean_value_low < 4.0 < low.mean_value_high
    kd = quick(picks_of({(1, "a"): [-1.0, -3.0]}), objective=Objective(direction="min", transform="log10")).arms[0]
    assert (kd.best_value, kd.mean_value) == (pytest.approx(10.0), pytest.approx(100.0))


def test_each_proposer_of_an_arm_has_its_own_row():
    picks = picks_of({(1, "free"): [1.0, 2.0, 3.0, 4.0]}, proposer=["random", "forest", "random", "forest"])
    assert {(p.proposer, p.mean) for p in quick(picks).proposers} == {("random", 2.0), ("forest", 3.0)}


def test_wilson_agrees_with_scipy():
    for hits, n in [(0, 5), (3, 24), (24, 24)]:
        expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert statistics.wilson(hits, n) == pytest.approx((expected.low, expected.high))


def test_seconds_add_up_by_arm_and_proposer():
    picks = picks_of({(1, "a"): [1.0], (1, "b"): [1.0]}, proposer=["coms", "qei"])
    runs = pd.DataFrame({"round": [1, 1, 2], "proposer": ["coms", "qei", "coms"], "seconds": [10.0, 3.0, 99.0]})
    assert [arm.seconds for arm in quick(picks, runs=runs).arms] == [10.0, 3.0]
    assert math.isnan(quick(picks).arms[0].seconds)


# Two arms


def test_few_wells_get_the_textbook_welch_interval():
    a, b = np.array(normal(1, 6, 2)), np.array(normal(2, 8))
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    found = quick(picks_of({(1, "a"): a.tolist(), (1, "b"): b.tolist()})).of("a", "b")
    assert found.method == "Welch's t"
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.estimate == pytest.approx(a.mean() - b.mean())


def test_many_wells_get_a_bca_interval_of_about_the_same_length():
    a, b = np.array(normal(1, 60, 2)), np.array(normal(2, 60))
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    found = quick(picks_of({(1, "a"): a.tolist(), (1, "b"): b.tolist()}), n_resamples=4_999).of("a", "b")
    assert found.method == "BCa bootstrap"
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05)


def test_newcombes_interval_for_two_rates():
    # The worked example (a) of Newcombe 1998: 56/70 against 48/80 has method-10 limits 0.0524 and 0.3339.
    wells = {(1, "a"): [1.0] * 56 + [-1.0] * 14, (1, "b"): [1.0] * 48 + [-1.0] * 32}
    found = quick(picks_of(wells)).of("a", "b", "hit_rate")
    assert (found.estimate, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_permutation_test_agrees_with_scipy_on_equal_spreads():
    a, b = np.array(normal(3, 15, 0.7)), np.array(normal(4, 15))
    expected = stats.permutation_test(
        (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), vectorized=True, n_resamples=9_999, rng=np.random.default_rng(0)
    )
    found = statistics.permutation(pair_of(a, b), 10, statistics.Draws(1, 9_999))
    assert found[0] == pytest.approx(expected.pvalue, abs=0.02)


def test_rounds_are_not_mixed_up():
    """b only joins in the good second round; pooled it would look better, within the round it is worse."""
    wells = {(1, "a"): normal(1, 30), (2, "a"): normal(2, 10, 10.5), (2, "b"): normal(3, 30, 9.5)}
    gap = quick(picks_of(wells)).of("a", "b")
    assert gap.estimate == pytest.approx(np.mean(wells[2, "a"]) - np.mean(wells[2, "b"]))
    assert (gap.n_first, gap.n_second) == (10, 30)


def test_unequal_shares_of_rounds_do_not_bias_the_difference():
    wells = {(1, "a"): [0.0, 0.2] * 15, (1, "b"): [0.0, 0.2] * 5, (2, "a"): [5.0, 5.2] * 5, (2, "b"): [5.0, 5.2] * 15}
    gap = quick(picks_of(wells)).of("a", "b")
    assert gap.estimate == pytest.approx(0.0)
    assert gap.p > 0.5


def test_a_design_of_two_arms_counts_for_both_and_cannot_tell_them_apart():
    ids = {(1, "a"): ["s1", "s2", "a1", "a2"], (1, "b"): ["s1", "s2", "b1", "b2"]}
    found = quick(picks_of({(1, "a"): [9.0, 8.0, 1.0, 2.0], (1, "b"): [9.0, 8.0, 1.5, 0.5]}, ids=ids))
    gap = found.of("a", "b")
    assert [arm.mean for arm in found.arms] == [5.0, 4.75]
    assert (gap.n_first, gap.n_shared, gap.estimate) == (4, 2, 0.25)
    assert gap.p >= 2 / 6, "two and two own wells have six relabellings"
    assert any("both chose 2" in note for note in found.notes)


def test_arms_with_the_same_picks_are_never_told_apart():
    ids = {(1, "a"): list("pqrst"), (1, "b"): list("pqrst")}
    gap = quick(picks_of({(1, "a"): normal(1, 5), (1, "b"): normal(1, 5)}, ids=ids)).of("a", "b")
    assert (gap.estimate, gap.p, gap.decided) == (0.0, 1.0, False)
    assert "same designs" in gap.method


def test_a_difference_that_turns_between_rounds_is_noted():
    turning = {(1, "a"): normal(1, 20, 2), (1, "b"): normal(2, 20), (2, "a"): normal(3, 20), (2, "b"): normal(4, 20, 2)}
    steady = {**turning, (2, "a"): normal(3, 20, 2), (2, "b"): normal(4, 20)}
    assert any("changes from round to round" in note for note in quick(picks_of(turning)).notes)
    assert not any("changes from round to round" in note for note in quick(picks_of(steady)).notes)


def test_holm_corrects_over_pairs():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.02, math.nan, 0.5])[0] == pytest.approx(0.04)


def test_flipping_a_pair_flips_every_sign():
    picks = picks_of({(1, "a"): normal(1, 12, 1), (1, "b"): normal(2, 12)})
    there, back = quick(picks).of("a", "b"), quick(picks).of("b", "a")
    assert (back.estimate, back.low, back.high) == (-there.estimate, -there.high, -there.low)
    kd = quick(picks, objective=Objective(transform="log10"))
    assert kd.of("b", "a").effect == pytest.approx(1 / kd.of("a", "b").effect)
    assert kd.of("a", "b").effect == pytest.approx(10**there.estimate)


def test_same_seed_same_comparison():
    picks = picks_of({(1, "a"): normal(1, 25, 0.3), (1, "b"): normal(2, 25)})
    assert quick(picks).to_dict() == quick(picks).to_dict()
    assert quick(picks, seed=2).of("a", "b").low != quick(picks).of("a", "b").low


# Rates over many campaigns


@pytest.mark.parametrize(("n", "spread"), [(8, 1.0), (24, 1.0), (24, 3.0)], ids=["8 wells", "24 wells", "unequal spread"])
def test_identical_arms_rarely_get_a_winner_and_intervals_cover_the_truth(n, spread):
    campaigns, true = 400, 0.6
    winners = covered = 0
    for seed in range(campaigns):
        rng = np.random.default_rng(seed)
        a, b = spread * rng.normal(size=n), rng.normal(size=n)
        draws = statistics.Draws(seed, 199)
        # Shifting an arm moves the interval and nothing else, so one campaign serves both questions.
        _, low, high, _ = statistics.mean_difference(pair_of(a + true, b), draws)
        covered += low <= true <= high
        winners += statistics.permutation(pair_of(a, b), 10, draws)[0] <= 0.05 and (low > true or high < true)
    assert winners <= 0.05 * campaigns
    assert covered >= 0.9 * campaigns


@pytest.mark.slow
def test_three_identical_arms_over_two_rounds_rarely_get_a_winner():
    decided = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        wells = {(r, arm): (rng.normal(size=16) + r).tolist() for r in (1, 2) for arm in "abc"}
        found = quick(picks_of(wells), seed=seed)
        decided += any(gap.decided for gap in found.differences if gap.measure == "mean")
    assert decided <= 0.05 * 400


def test_the_power_calculation_asks_for_about_the_wells_it_takes():
    a, b = np.random.default_rng(5).normal(size=(2, 4000))
    needed = statistics.wells_needed(pair_of(a, b), 0.5, 1)
    assert needed == pytest.approx(63, abs=3), "the textbook figure for half a standard deviation at 80 % power"


# Calibration and overlap


def test_calibration_of_a_judge_that_knows_its_noise():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=400)
    y = mean + rng.normal(size=400)
    picks = picks_of({(1, "a"): y.tolist()}).assign(mean=mean + 0.5, std=1.0, lcb=mean - 1)
    found = quick(picks).calibration[0]
    assert found.n == 400
    assert found.optimism == pytest.approx(0.5, abs=0.15)
    assert found.above_lcb == pytest.approx(stats.norm.cdf(1), abs=0.05)
    assert found.rho == pytest.approx(stats.spearmanr(mean, y).statistic)
    centred = quick(picks.assign(mean=mean)).calibration[0]
    assert (centred.within_1_std, centred.within_2_std) == pytest.approx((0.683, 0.954), abs=0.05)


def test_pools_and_picks_are_compared_as_sets():
    picks = picks_of({(1, "a"): [1.0], (1, "b"): [1.0]}, ids={(1, "a"): ["x"], (1, "b"): ["x"]})
    pools, chosen = quick(picks, pools={"a": ["x", "y", "z"], "b": ["x", "w"]}).overlaps
    assert (pools.of, pools.n_shared, pools.jaccard) == ("pools", 1, 0.25)
    assert (chosen.of, chosen.jaccard) == ("picks", 1.0)


# Words


def test_the_sentence_names_the_better_arm_with_interval_and_wells():
    said = quick(picks_of({(1, "a"): normal(1, 24, 2), (1, "b"): normal(2, 24)})).sentence
    assert said.startswith("In round 1, a is better than b: the mean of a's 24 measured wells is ")
    assert "nM higher than that of b's 24 (95 % interval" in said


def test_the_sentence_says_lower_where_lower_is_better():
    low = Objective(direction="min", unit="nM")
    said = quick(picks_of({(1, "a"): normal(1, 24, 2), (1, "b"): normal(2, 24)}), objective=low).sentence
    assert "a is better than b" in said
    assert " nM lower than that of b's 24" in said


def test_the_sentence_says_folds_under_a_log_transform():
    said = quick(picks_of({(1, "a"): normal(1, 24, 2), (1, "b"): normal(2, 24)}), objective=Objective(transform="log10")).sentence
    assert "the geometric mean of a's 24 measured wells is" in said
    assert "-fold higher than that of b's 24" in said
    assert "1.00-fold" not in said


def test_the_sentence_admits_that_the_data_cannot_decide_and_tells_what_would():
    said = quick(picks_of({(1, "a"): normal(1, 12, 0.3), (1, "b"): normal(2, 12)})).sentence
    assert "the data cannot decide between" in said
    assert "wells an arm would" in said


def test_the_sentence_separates_what_is_decided_from_what_is_not():
    wells = {(1, "a"): normal(1, 30, 3), (1, "b"): normal(2, 30, 2.9), (1, "c"): normal(3, 30)}
    said = quick(picks_of(wells)).sentence
    assert "better than c" in said
    assert "Between a and b the data cannot decide" in said or "Between b and a the data cannot decide" in said


@pytest.mark.parametrize(
    ("wells", "words"),
    [
        ({}, "nothing to compare"),
        ({(1, "a"): [1.0]}, "only arm"),
        ({(1, "a"): [math.nan], (1, "b"): [math.nan]}, "none of the 2 wells has a value"),
        ({(1, "a"): [1.0, 2.0], (1, "b"): [math.nan]}, "only a has measured wells"),
        ({(1, "a"): [1.0], (1, "b"): [2.0]}, "no interval (needs two"),
        ({(1, "a"): [1.0, 2.0], (1, "b"): [2.0, 3.5]}, "cannot decide"),
        ({(1, "a"): [2.0] * 12, (1, "b"): [2.0] * 12}, "cannot decide"),
        ({(1, "a"): [3.0] * 12, (1, "b"): [2.0] * 12}, "cannot decide"),
        ({(1, "a"): [1.0, 2.0], (2, "b"): [1.0, 2.0]}, "share no round"),
        ({(1, "a"): [1.0] * 11 + [2.0], (1, "b"): [1.0] * 12}, "cannot decide"),
    ],
    ids=[
        "nothing", "one arm", "all failed", "one arm failed", "one well each", "two wells each", "all equal", "constant arms",
        "different rounds", "one well off",
    ],
)  # fmt: skip
def test_little_data_never_crashes_and_says_what_is_missing(wells, words):
    found = quick(picks_of(wells))
    assert words in found.sentence
    json.dumps(found.to_dict(), allow_nan=False)


def test_missing_predictions_leave_calibration_empty():
    picks = picks_of({(1, "a"): [1.0, 2.0, 3.0]}).assign(mean=None, std=None, lcb=None)
    found = quick(picks).calibration[0]
    assert found.n == 0
    assert math.isnan(found.rho)


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="proposer"):
        quick(picks_of({}).drop(columns="proposer"))


def test_a_design_twice_in_an_arm_is_refused():
    with pytest.raises(ValueError, match="twice"):
        quick(picks_of({(1, "a"): [1.0, 2.0]}, ids={(1, "a"): ["x", "x"]}))


def test_numbers_get_the_decimals_their_uncertainty_deserves():
    assert [spell(0.123456, 0.02), spell(1234.6, 300.0), spell(-0.0001, 0.1)] == ["0.123", "1,230", "0.00"]
    assert [spell(-1.5, 0.3), spell(math.nan, 1.0)] == ["−1.50", "–"]
