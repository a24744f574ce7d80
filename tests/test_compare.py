"""Arms are compared within rounds, with honest intervals, and the words say no more than the data do."""

from __future__ import annotations

import importlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from labloop.compare import measures, statistics
from labloop.compare.arms import compare
from labloop.compare.figures import spell_apart, whose
from labloop.compare.pairs import Pair, RoundPair
from labloop.compare.plan import Plan
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


def pair_of(*rounds: tuple[np.ndarray, np.ndarray]) -> Pair:
    return Pair("a", "b", tuple(RoundPair(own, np.empty(0), 0.0, number) for number, own in enumerate(rounds, 1)))


def equal_arms(rounds: int, seed: int = 0, *, shift: float = 0.0, names: str = "ab", n: int = 16) -> pd.DataFrame:
    """Rounds of arms of equal worth, of which the first is `shift` ahead on every plate."""
    rng = np.random.default_rng(seed)
    wells = {
        (r, arm): (rng.normal(size=n) + r + shift * (arm == names[0])).tolist() for r in range(1, rounds + 1) for arm in names
    }
    return picks_of(wells)


def of_bounds(mine: list[float], others: list[float], *, bound: str, direction: str = "max", **options: object) -> Comparison:
    """An arm `a` whose wells are all bounds on one side, against exact ones of `b`; in the lab's unit."""
    objective = Objective(direction=direction)
    wells = {(1, "a"): objective.to_y(mine).tolist(), (1, "b"): objective.to_y(others).tolist()}
    status = [f"censored_{bound}"] * len(mine) + ["ok"] * len(others)
    return quick(picks_of(wells, status=status), objective=objective, incumbent=objective.to_y([1100.0])[0], **options)


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


def limited(good: list[float], free: list[float], kept: tuple[int, int]) -> pd.DataFrame:
    """A round of two arms of which so many wells, the worst ones, keep the limits."""
    flags = [i < n for ys, n in zip((good, free), kept, strict=True) for i in range(len(ys))]
    return picks_of({(1, "good"): sorted(good), (1, "free"): sorted(free)}, kept=flags)


def test_a_well_that_breaks_a_limit_is_neither_the_best_nor_a_hit():
    told = quick(limited([1.0, 2.0, 9.0], [1.0, 3.0, 4.0], (2, 3)), incumbent=1.5)
    assert [(one.best, one.best_id, one.n_hits, one.n_kept) for one in told.arms] == [
        (2.0, "1good1", 1, 2),
        (4.0, "1free2", 2, 3),
    ]
    assert [one.mean for one in told.arms] == [4.0, pytest.approx(8 / 3)]
    assert told.of("good", "free", "hit_rate").estimate == pytest.approx(-1 / 3)
    assert "Wells that keep the limits: 2 of 3 for good and 3 of 3 for free (p = 1 by Fisher's exact test)." in told.sentence
    assert json.loads(json.dumps(told.to_dict()))["arms"][0]["n_kept"] == 2
    none = quick(limited([1.0, 2.0, 9.0], [1.0, 3.0, 4.0], (0, 3)), incumbent=1.5)
    assert (none.arms[0].best_id, none.arms[0].n_hits, none.arms[0].n_kept) == (None, 0, 0)
    assert math.isnan(none.arms[0].top_mean)
    assert math.isnan(none.of("good", "free", "top_mean").estimate)


def test_the_top_is_of_wells_that_keep_the_limits():
    good, free = normal(1, 24, 3.0), normal(2, 24)
    told, plain = quick(limited(good, free, (12, 24))), quick(limited(good, free, (24, 24)))
    assert told.arms[0].top_mean == pytest.approx(np.mean(sorted(good)[2:12]))
    gap = told.of("good", "free", "top_mean")
    assert gap.estimate == pytest.approx(np.mean(sorted(good)[2:12]) - np.mean(sorted(free)[-10:]))
    assert (gap.n_first, gap.n_second, gap.refused) == (12, 24, False)
    assert gap.low < gap.estimate < gap.high
    few = quick(limited(good, free, (4, 24))).of("good", "free", "top_mean")
    assert few.estimate == pytest.approx(np.mean(sorted(good)[:4]) - np.mean(sorted(free)[-4:]))
    assert math.isnan(few.low), "4 wells are too few for an interval"
    without = quick(picks_of({(1, "good"): sorted(good), (1, "free"): sorted(free)}))
    assert repr(plain.of("good", "free", "top_mean")) == repr(without.of("good", "free", "top_mean"))


def test_wells_that_are_out_are_out_whether_or_not_others_break_a_limit():
    picks = limited(normal(1, 10), normal(2, 10), (5, 10))
    waiting = picks.assign(y=picks["y"].mask(picks.index < 4), status=picks["status"].mask(picks.index < 4, "pending"))
    assert quick(waiting).of("good", "free", "top_mean").refused
    assert not quick(picks).of("good", "free", "top_mean").refused


def test_no_arm_is_named_for_wells_that_may_not_be_used():
    good, free = normal(1, 12, 55.0), normal(2, 12, 40.0)
    plain = quick(limited(good, free, (12, 12)), incumbent=30.0)
    assert plain.of("good", "free").decided
    assert "good's designs measured better than free's" in plain.sentence
    told = quick(limited(good, free, (3, 8)), incumbent=30.0)
    gap = told.of("good", "free")
    assert gap.outweighed
    assert not gap.decided
    assert (gap.estimate, gap.p) == (plain.of("good", "free").estimate, plain.of("good", "free").p)  # still said of the property
    assert gap.flipped().outweighed
    assert "the data cannot decide between good and free" in told.sentence
    assert "Wells that keep the limits: 3 of 12 for good and 8 of 12 for free (p = 0.1 by Fisher's exact test)." in told.sentence
    assert "good's mean is not better than free's, so that neither is named" in told.sentence
    assert "would show it" not in told.sentence


def test_a_share_that_is_little_lower_takes_no_verdict_away():
    told = quick(limited(normal(1, 12, 55.0), normal(2, 12, 40.0), (11, 12)), incumbent=30.0)
    assert told.of("good", "free").decided


def test_values_are_given_in_the_labs_unit_too():
    low = quick(picks_of({(1, "a"): [-3.0, -5.0]}), objective=Objective(direction="min")).arms[0]
    assert (low.best_value, low.mean_value) == (3.0, 4.0)
    assert low.mean_value_low < 4.0 < low.mean_value_high
    kd = quick(picks_of({(1, "a"): [-1.0, -3.0]}), objective=Objective(direction="min", transform="log10")).arms[0]
    assert (kd.best_value, kd.mean_value) == (pytest.approx(10.0), pytest.approx(100.0))


@pytest.mark.parametrize(("direction", "bound", "at"), [("max", "low", 5000.0), ("min", "high", 200.0)])
def test_bounds_on_the_bad_side_are_no_hits_and_no_best_value(direction, bound, at):
    found = of_bounds([at] * 12, [1002.0 + i for i in range(12)], bound=bound, direction=direction)
    arm = found.arms[0]
    assert (arm.n_measured, arm.n_hits, arm.best_id) == (12, 0, None)
    assert math.isnan(arm.best)
    assert found.of("a", "b", "hit_rate").estimate == (0 if direction == "max" else -1)


@pytest.mark.parametrize(("direction", "bound", "at"), [("max", "low", 5000.0), ("min", "high", 200.0), ("max", "high", 900.0)])
def test_no_verdict_hangs_on_where_bounds_lie(direction, bound, at):
    others = [1002.0 + i for i in range(12)]
    found = of_bounds([at] * 12, others, bound=bound, direction=direction)
    gap = found.of("a", "b")
    assert not gap.decided
    assert gap.bounds
    assert gap.low < 0 < gap.high
    assert gap.wells_needed is None
    assert "read beyond the assay's range count at their bounds there" in found.sentence
    exact = of_bounds([at] * 12, others, bound="none", direction=direction)
    assert exact.of("a", "b").decided, "read exactly, the same values tell the arms apart"


@pytest.mark.parametrize(("bound", "at"), [("low", 100.0), ("high", 5000.0)])
def test_bounds_at_the_edge_of_all_readings_decide_as_readings_do(bound, at):
    found = of_bounds([at] * 12, [1002.0 + i for i in range(12)], bound=bound)
    assert found.of("a", "b").decided
    assert not found.of("a", "b").bounds


def test_a_verdict_that_holds_wherever_bounds_lie_is_given():
    wells = {(1, "a"): [*normal(1, 23, 10.0), 20.0], (1, "b"): normal(2, 24)}
    found = quick(picks_of(wells, status=[*["ok"] * 23, "censored_low", *["ok"] * 24]))
    gap = found.of("a", "b")
    assert gap.decided
    assert gap.bounds
    assert gap.estimate_low < gap.estimate == gap.estimate_high
    assert gap.low < quick(picks_of(wells)).of("a", "b").low
    assert gap.flipped().estimate_high == -gap.estimate_low
    assert found.notes[0].startswith("1 well reads beyond the assay's range and is counted at the bound. A verdict holds")


def test_rounds_as_the_sample_hold_wherever_bounds_lie():
    wells = {(r, arm): normal(10 * r + ord(arm), 8, 2000.0 * (arm == "a")) for r in (1, 2, 3, 4) for arm in "ab"}
    status = [f"censored_{'low' if arm == 'a' else 'none'}" for _, arm in wells for _ in range(8)]
    assert quick(picks_of(wells)).of("a", "b").decided
    assert not quick(picks_of(wells, status=status)).of("a", "b").decided


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


def test_plates_get_the_textbook_welch_interval_and_its_p():
    a, b = np.array(normal(1, 6, 2)), np.array(normal(2, 8))
    expected = stats.ttest_ind(a, b, equal_var=False)
    found = quick(picks_of({(1, "a"): a.tolist(), (1, "b"): b.tolist()}).drop(columns="rank")).of("a", "b")
    assert found.method == "Welch's t"
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.estimate == pytest.approx(a.mean() - b.mean())


def test_newcombes_interval_for_two_rates():
    # The worked example (a) of Newcombe 1998: 56/70 against 48/80 has method-10 limits 0.0524 and 0.3339.
    wells = {(1, "a"): [1.0] * 56 + [-1.0] * 14, (1, "b"): [1.0] * 48 + [-1.0] * 32}
    found = quick(picks_of(wells).drop(columns="rank")).of("a", "b", "hit_rate")
    assert (found.estimate, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_a_hit_rates_p_is_the_level_at_which_its_interval_ends_at_zero():
    pair = pair_of((np.array([1.0] * 56 + [-1.0] * 14), np.array([1.0] * 48 + [-1.0] * 32)))
    _, low, high = measures._newcombe(list(pair.blocks), 1 - measures.hit_rates(pair).p)
    assert min(abs(low), abs(high)) < 1e-6


def test_a_well_as_good_as_the_incumbent_is_no_hit():
    found = quick(picks_of({(1, "a"): [0.0] * 6 + [1.0] * 6, (1, "b"): [-1.0] * 6 + [1.0] * 6}))
    assert [one.n_hits for one in found.hits] == [6, 6]
    assert found.of("a", "b", "hit_rate").estimate == found.arms[0].hit_rate - found.arms[1].hit_rate == 0


@pytest.mark.parametrize(
    "of", [measures.plates, measures.arms, lambda pair: measures.top_means(pair, 5, statistics.Draws(1, 99))]
)
def test_an_interval_leaves_zero_out_exactly_where_p_is_small(of):
    """One is the inversion of the other, whatever the distance between the arms is."""
    sides = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        pair = pair_of(*((rng.normal(size=12) + seed / 60, rng.normal(size=12)) for _ in range(4)))
        found = of(pair)
        sides.append(found.low > 0 or found.high < 0)
        assert sides[-1] == (found.p <= 0.05)
    assert {True, False} == set(sides)


def test_rounds_as_the_sample_are_the_textbook_paired_t():
    gaps = np.random.default_rng(0).normal(0.5, size=5)
    pair = pair_of(*((np.array([gap - 1, gap + 1]), np.array([-1.0, 1.0])) for gap in gaps))
    expected = stats.ttest_1samp(gaps, 0)
    found = measures.arms(pair)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_rounds_are_not_mixed_up():
    """b only joins in the good second round; pooled it would look better, within the round it is worse."""
    wells = {(1, "a"): normal(1, 30), (2, "a"): normal(2, 10, 10.5), (2, "b"): normal(3, 10, 9.5)}
    gap = quick(picks_of(wells)).of("a", "b")
    assert gap.estimate == pytest.approx(np.mean(wells[2, "a"]) - np.mean(wells[2, "b"]))
    assert (gap.rounds, gap.n_first, gap.n_second) == ((2,), 10, 10)


def test_the_larger_arm_counts_with_the_wells_that_it_chose_first():
    """Wells get worse down each arm's list, alike in both: the mean of all would favour the smaller arm."""
    fade = {
        arm: [-0.1 * i + e for i, e in enumerate(normal(seed, n))] for seed, (arm, n) in enumerate({"a": 16, "b": 80}.items())
    }
    picks = picks_of({(1, arm): wells for arm, wells in fade.items()})
    shuffled = picks.sample(frac=1, random_state=0)
    gap = quick(shuffled).of("a", "b")
    assert gap.estimate == pytest.approx(np.mean(fade["a"]) - np.mean(fade["b"][:16]))
    assert (gap.n_first, gap.n_second) == (16, 16)
    assert any("flatters a in the mean, b in best and top 10" in note for note in quick(picks).notes)
    assert any(
        "whose order is not known: that flatters a in the mean" in note for note in quick(picks.drop(columns="rank")).notes
    )


def test_unequal_shares_of_rounds_do_not_bias_the_difference():
    wells = {(1, "a"): [0.0, 0.2] * 15, (1, "b"): [0.0, 0.2] * 5, (2, "a"): [5.0, 5.2] * 5, (2, "b"): [5.0, 5.2] * 15}
    gap = quick(picks_of(wells).drop(columns="rank")).of("a", "b")
    assert gap.estimate == pytest.approx(0.0)
    assert gap.p > 0.5


def test_a_design_of_two_arms_counts_for_both_and_cannot_tell_them_apart():
    ids = {(1, "a"): ["s1", "s2", "a1", "a2"], (1, "b"): ["s1", "s2", "b1", "b2"]}
    found = quick(picks_of({(1, "a"): [9.0, 8.0, 1.0, 2.0], (1, "b"): [9.0, 8.0, 1.5, 0.5]}, ids=ids))
    gap = found.of("a", "b")
    assert [arm.mean for arm in found.arms] == [5.0, 4.75]
    assert (gap.n_first, gap.n_shared, gap.estimate) == (4, 2, 0.25)
    assert gap.p > 0.3
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
    low = [quick(picks, seed=seed).of("a", "b", "top_mean").low for seed in (1, 2)]
    assert low[0] != low[1], "that a seed has a part is what makes the first line a test"


# Verdicts


def test_few_rounds_are_never_a_verdict_on_the_arms():
    picks = equal_arms(4, shift=5.0)
    for last in (1, 2):
        found = quick(picks, rounds=range(1, last + 1))
        assert {gap.scope for gap in found.differences} == {"plates"}
        assert found.of("a", "b").decided, "of these plates there is no doubt"
        assert "a's designs measured better than b's" in found.sentence
        assert "cannot tell which arm is the better one" in found.sentence
        assert "a is better" not in found.sentence
    last = quick(picks)
    assert (last.of("a", "b").scope, last.of("a", "b").decided) == ("arms", True)
    assert "Over rounds 1 to 4, a is better than b: round by round, the mean of a's 64 measured wells is" in last.sentence
    assert "so in 4 of 4 rounds" in last.sentence
    assert "That is said of this campaign: its rounds go back to one start" in last.sentence
    assert "cannot tell" not in last.sentence


def test_rounds_that_differ_leave_the_arms_open_however_sure_their_plates_are():
    shifts = [2.0, -0.5, 2.0, -0.5]
    wells = {(r, arm): normal(10 * r + (arm == "a"), 40, at * (arm == "a")) for r, at in enumerate(shifts, 1) for arm in "ab"}
    found = quick(picks_of(wells))
    assert found.of("a", "b", scope="plates").decided
    assert not found.of("a", "b").decided
    assert found.of("a", "b").behind == (2, 4)
    for words in (
        "cannot decide between a and b",
        "the other way in rounds 2 and 4",
        "leave open which arm is better",
        "rounds like",
    ):
        assert words in found.sentence


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 10])
def test_all_looks_of_a_campaign_spend_the_level_and_no_more(rounds):
    plan = Plan(rounds=rounds)
    parts = [plan.plate(r) + plan.pooled(r) + plan.arms(r) for r in range(1, 4000)]
    assert all(part > 0 for part in parts)
    assert 0.049 < sum(parts) <= plan.level


def test_a_verdict_waits_for_the_share_that_was_fixed_beforehand():
    picks = picks_of({(1, "a"): normal(1, 20, 9), (1, "b"): normal(2, 20)})
    out = picks.assign(y=picks["y"].mask((picks["arm"] == "b") & (picks["rank"] >= 11)), status="pending")
    found = quick(out)
    assert found.of("a", "b").refused
    assert not found.of("a", "b").decided
    assert "no verdict yet on a and b: wells are still out (0 of 20 for a, 9 of 20 for b)" in found.sentence
    assert "waits for 80 % of each arm's" in found.sentence
    assert quick(out, plan=Plan(share=0.5)).of("a", "b").decided
    assert quick(out, plan=Plan(share=11 / 20)).of("a", "b").decided, "a share that is just reached is reached"
    assert not quick(out.assign(status="failed_technical")).of("a", "b").refused, "wells that are lost are not waited for"


def test_a_round_that_is_still_out_does_not_spoil_those_before_it():
    picks = equal_arms(4, shift=5.0)
    picks.loc[picks["round"] == 4, "status"] = "pending"
    picks.loc[(picks["round"] == 4) & (picks["rank"] > 2), "y"] = math.nan
    found = quick(picks)
    assert found.of("a", "b").rounds == (1, 2, 3)
    assert any("round 4 does not count yet" in note for note in found.notes)


def test_looking_early_at_a_round_costs_a_tenth_of_its_part():
    picks = picks_of({(1, "a"): normal(1, 20, 1), (1, "b"): normal(2, 20)}, status="pending")
    whole = quick(picks.assign(status="ok")).of("a", "b")
    picks.loc[picks["rank"] == 19, "y"] = math.nan
    early = quick(picks).of("a", "b")
    assert early.p_looks / early.p == pytest.approx(9 * whole.p_looks / whole.p)


def test_what_plates_decided_is_said_of_every_arm_that_the_rounds_leave_open():
    at = {"bo": (2.0, -0.4, 2.2), "offline": (1.8, -0.5, 2.4), "free": (0.0, 0.0, 0.0)}
    wells = {(r, arm): normal(50 * r + i, 40, at[arm][r - 1]) for r in (1, 2, 3) for i, arm in enumerate(at)}
    found = quick(picks_of(wells))
    assert not any(gap.decided for gap in found.differences if gap.scope == "arms" and gap.measure == "mean")
    assert "the data cannot decide between" in found.sentence
    assert re.search(
        r"(bo's and offline's|offline's and bo's) designs did measure better than free's on these plates together: that much is "
        r"known of the plates, but 3 rounds that differ as these do leave open",
        found.sentence,
    )


def test_an_arm_that_left_is_spoken_of_in_its_rounds_alone():
    wells = {(1, "free"): normal(0, 24, 3)}
    wells |= {(r, arm): normal(10 * r + (arm == "bo"), 24) for r in (1, 2, 3) for arm in ("bo", "offline")}
    said = quick(picks_of(wells)).sentence
    assert said.startswith("Over rounds 1 to 3, the data cannot decide between")
    assert "free had wells in round 1 only, where its designs measured better than bo's and offline's" in said


def test_hits_are_told_round_by_round():
    picks = picks_of({(1, "a"): [1.0, 2.0], (1, "b"): [0.0, 2.0], (2, "a"): [1.0, 2.0], (2, "b"): [2.0, 3.0]})
    found = quick(picks, incumbent={1: 0.5, 2: 1.5})
    assert "round 1, 2 of 2 for a and 1 of 2 for b; round 2, 1 of 2 for a and 2 of 2 for b" in found.sentence
    assert [(one.round, one.n_hits) for one in found.hits if one.arm == "a"] == [(1, 2), (2, 1)]


def of_proposers(wells: dict[str, list[float]], **options: object) -> Comparison:
    """One round in which `coms` is an arm of its own and all others are the arm `free`."""
    free = [(name, y) for name, ys in wells.items() if name != "coms" for y in ys]
    picks = picks_of({(1, "offline"): wells["coms"], (1, "free"): [y for _, y in free]}).drop(columns="rank")
    return quick(picks.assign(proposer=["coms"] * len(wells["coms"]) + [name for name, _ in free]), **options)


def test_a_proposer_must_beat_the_best_free_baseline_and_not_their_average():
    found = of_proposers({"coms": normal(1, 12, 2), "gp_mean": normal(2, 12, 2), "random": normal(3, 12, -3)})
    [coms] = found.against_free
    assert (coms.proposer, coms.baseline, found.best_free) == ("coms", "gp_mean", "gp_mean")
    assert coms.estimate == pytest.approx(np.mean(normal(1, 12, 2)) - np.mean(normal(2, 12, 2)))
    assert not coms.decided
    assert found.of("offline", "free").decided, "better than the average is cheap"
    assert "Of the free baselines gp_mean's wells were best; coms is not told from the best of them" in found.sentence
    better = of_proposers({"coms": normal(1, 12, 4), "gp_mean": normal(2, 12), "random": normal(3, 12)})
    assert better.against_free[0].decided
    assert "coms had better designs than" in better.sentence
    worse = of_proposers({"coms": normal(1, 12), "gp_mean": normal(2, 12, 4), "random": normal(3, 12)})
    assert worse.against_free[0].decided
    assert worse.against_free[0].high < 0
    alone = stats.ttest_ind(normal(1, 12), normal(2, 12, 4), equal_var=False).pvalue
    assert worse.against_free[0].p == pytest.approx(2 * alone), "worse than one of two is worse by chance twice as often"
    assert "coms had worse designs than gp_mean" in worse.sentence


def test_a_baseline_of_one_well_is_the_best_where_it_is():
    found = of_proposers({"coms": normal(1, 12), "gp_mean": normal(2, 12, -2), "random": [1.0], "mutate": [3.0]})
    assert (found.best_free, found.against_free[0].baseline) == ("mutate", "mutate")
    assert "Of the free baselines mutate's wells were best" in found.sentence


def test_a_proposer_that_rounds_leave_open_is_still_told_from_baselines_on_its_plates():
    shifts = [2.0, -0.4, 2.2, 2.0]
    wells = {(r, arm): normal(10 * r + (arm == "offline"), 40, at * (arm == "offline")) for r, at in enumerate(shifts, 1)
             for arm in ("offline", "free")}  # fmt: skip
    picks = picks_of(wells)
    picks = picks.assign(proposer=picks["arm"].map({"offline": "coms", "free": "gp_mean"}))
    found = quick(picks)
    arms, plates = found.against_free
    assert (arms.scope, arms.decided, plates.scope, plates.decided) == ("arms", False, "plates", True)
    assert "coms is not told from the best of them" in found.sentence
    assert "On these plates together coms's designs did measure better than gp_mean's" in found.sentence.replace(
        "coms'", "coms's"
    )
    assert "4 rounds that differ as these do leave open which is better" in found.sentence
    steady = quick(picks.assign(y=picks["y"].where(picks["arm"] == "free", picks["y"] + 9)))
    assert steady.against_free[0].decided
    assert "coms is better than gp_mean" in steady.sentence
    assert "leave open which is better" not in steady.sentence, "what the rounds tell is not said of the plates again"


def test_the_rounds_needed_are_those_that_give_the_power():
    needed = measures.rounds_needed(pair_of(*((np.full(2, gap), np.zeros(2)) for gap in (0.0, 2.0))), 1.0, 0.05)
    assert needed is not None
    rng = np.random.default_rng(0)
    found = [stats.ttest_1samp(rng.normal(1.0, np.std([0, 2], ddof=1), size=needed), 0).pvalue <= 0.05 for _ in range(1000)]
    assert 0.76 < np.mean(found) < 0.9


# Rates over many campaigns


@pytest.mark.parametrize(("n", "spread"), [(8, 1.0), (24, 1.0), (24, 3.0)], ids=["8 wells", "24 wells", "unequal spread"])
def test_intervals_cover_the_truth_as_often_as_they_say(n, spread):
    campaigns, true = 400, 0.6
    covered = 0
    for seed in range(campaigns):
        rng = np.random.default_rng(seed)
        found = measures.plates(pair_of((spread * rng.normal(size=n) + true, rng.normal(size=n))))
        covered += found.low <= true <= found.high
    assert 0.92 * campaigns <= covered <= 0.98 * campaigns


@pytest.mark.parametrize(("few", "spread"), [(2, 1.0), (2, 3.0), (3, 3.0), (5, 3.0)])
def test_few_wells_beside_many_keep_the_level_however_they_are_spread(few, spread):
    """Welch's t would find 2 wells of the threefold spread apart from 24 in a tenth of all plates."""
    campaigns, false = 400, 0
    for seed in range(campaigns):
        rng = np.random.default_rng(seed)
        false += measures.plates(pair_of((spread * rng.normal(size=few), rng.normal(size=24)))).p < 0.05
    assert false <= stats.binom.ppf(0.999, campaigns, 0.05)


@pytest.mark.parametrize(
    "name",
    ["three arms, 4 looks", "equal arms, 10 looks", "arm-by-round shift .5 sd, 4 looks", "one arm lost 22 of its 24 wells"],
)
def test_equal_arms_hardly_ever_get_a_winner_at_any_look(name, monkeypatch):
    """A hundredth of what examples/benchmarks/comparison.py counts; were every look to spend 5 %, a third of these would win."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "examples" / "benchmarks"))
    bench = importlib.import_module("comparison")
    setting = next(one for one in bench.SETTINGS if one.name == name)
    said = [bench.looks(setting, np.random.default_rng(seed), Plan(rounds=setting.rounds)) for seed in range(100)]
    false = sum(one["arms"] or (one["plates"] and not setting.shift) for one in said)
    assert false <= stats.binom.ppf(0.999, 100, 0.05)


def test_the_power_calculation_asks_for_about_the_wells_it_takes():
    a, b = np.random.default_rng(5).normal(size=(2, 4000))
    needed = measures.wells_needed(pair_of((a, b)), 0.5, 0.05)
    assert needed == pytest.approx(63, abs=3), "the textbook figure for half a standard deviation at 80 % power"


# Awkward histories


AWKWARD = {
    "one reading beyond all scales": {(1, "a"): [*normal(1, 15), 1e300], (1, "b"): normal(2, 16)},
    "one reading far off, four rounds": {
        (r, arm): [*normal(9 * r + (arm == "a"), 15), 1e6 if (r, arm) == (2, "a") else 0.0] for r in (1, 2, 3, 4) for arm in "ab"
    },
    "differences beyond all scales": {(r, arm): [1e300 * r * (arm == "a"), 0.0] for r in (1, 2, 3) for arm in "ab"},
    "the noise of the last digit": {(1, "a"): [1e12 + y for y in normal(1, 12, 3)], (1, "b"): [1e12 + y for y in normal(2, 12)]},
    "very small numbers": {(1, "a"): [1e-200 * y for y in normal(1, 12, 3)], (1, "b"): [1e-200 * y for y in normal(2, 12)]},
    "one well a round": {(r, arm): normal(9 * r + (arm == "a"), 1, 3 * (arm == "a")) for r in (1, 2, 3, 4) for arm in "ab"},
    "an arm in rounds one and three": {
        (r, arm): normal(9 * r + (arm == "a"), 16) for r in (1, 2, 3) for arm in "ab" if (r, arm) != (2, "a")
    },
    "constant against scattered": {(1, "a"): [0.0] * 12, (1, "b"): normal(1, 12)},
    "ties": {(1, "a"): [1.0, 1.0, 2.0, 3.0] * 4, (1, "b"): [1.0, 2.0, 2.0, 3.0] * 4},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("objective", [MAX, Objective(direction="min"), Objective(direction="min", transform="log10")], ids=str)
@pytest.mark.parametrize("wells", AWKWARD.values(), ids=AWKWARD)
def test_whatever_the_readings_are_interval_test_and_words_agree(wells, objective):
    found = quick(picks_of(wells), objective=objective)
    json.dumps(found.to_dict(), allow_nan=False)
    assert not re.search(r"\bnan\b|\binf\b", found.sentence + " ".join(found.notes))
    for gap in found.differences:
        if math.isfinite(gap.low):
            assert (gap.low > 0 or gap.high < 0) == (gap.p <= 0.05), gap
            assert gap.low <= gap.estimate <= gap.high
            assert gap.effect_low <= gap.effect <= gap.effect_high
        else:
            assert gap.method.startswith("none: ")
            assert not gap.decided
    gap = found.of("a", "b")
    assert ("is better than" in found.sentence or "measured better than" in found.sentence) == gap.decided


def test_a_reading_that_a_mean_follows_is_pointed_at():
    found = quick(picks_of(AWKWARD["one reading far off, four rounds"]))
    assert [note for note in found.notes if "means and their intervals follow it" in note] == [
        note for note in found.notes if note.startswith("a's design 2a15 of round 2")
    ]
    assert not any("follow it" in note for note in quick(equal_arms(4)).notes)


def test_a_verdict_for_an_arm_that_lost_most_of_its_wells_says_so():
    wells = {(1, "a"): [*normal(1, 6, 9), *[math.nan] * 10], (1, "b"): normal(2, 16)}
    said = quick(picks_of(wells)).sentence
    assert "a's designs measured better than b's" in said
    assert "But a lost 10 of its 16 wells, which do not count" in said
    alike = {**wells, (1, "b"): [*normal(2, 6), *[math.nan] * 10]}
    assert "But a lost" not in quick(picks_of(alike)).sentence, "the other lost as many"


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
    assert said.startswith("In round 1, a's designs measured better than b's: the mean of a's 24 measured wells is ")
    assert "nM higher than that of b's 24 (95 % interval" in said


def test_the_sentence_says_lower_where_lower_is_better():
    low = Objective(direction="min", unit="nM")
    said = quick(picks_of({(1, "a"): normal(1, 24, 2), (1, "b"): normal(2, 24)}), objective=low).sentence
    assert "a's designs measured better than b's" in said
    assert " nM lower than that of b's 24" in said


def test_the_sentence_says_folds_under_a_log_transform():
    said = quick(picks_of({(1, "a"): normal(1, 24, 2), (1, "b"): normal(2, 24)}), objective=Objective(transform="log10")).sentence
    assert "the geometric mean of a's 24 measured wells is" in said
    assert "-fold higher than that of b's 24" in said
    assert "1.00-fold" not in said


@pytest.mark.parametrize(("transform", "told"), [("identity", "0.2 % higher than"), ("log10", "1.003-fold higher than")])
def test_the_sentence_never_calls_a_difference_of_nothing_higher(transform, told):
    objective, step = Objective(unit="%", transform=transform), 0.2 if transform == "identity" else math.log10(1.003)
    wells = [20 * step * i for i in range(-12, 12)]
    said = quick(picks_of({(1, "a"): [y + step for y in wells], (1, "b"): wells}), objective=objective).sentence
    assert f"mean of a's 24 measured wells is {told} that of b's 24" in said
    same = quick(picks_of({(1, "a"): [y + 1e-15 for y in wells], (1, "b"): wells}), objective=objective).sentence
    assert "measured wells is the same as that of" in same


def test_the_mean_of_an_only_arm_has_two_digits_however_wide_its_interval_is():
    found = quick(picks_of({(1, "a"): [24.0, 4980.0]}, status=["censored_low", "ok"]), objective=Objective(unit="RFU"))
    assert "the mean of its 2 measured wells is 2,500 RFU (95 % interval −29,000 to 34,000)" in found.sentence
    assert "1 well reads beyond the assay's range and is counted at the bound." in found.notes


def test_the_sentence_admits_that_the_data_cannot_decide_and_tells_what_would():
    said = quick(picks_of({(1, "a"): normal(1, 12, 0.3), (1, "b"): normal(2, 12)})).sentence
    assert "the data cannot decide between" in said
    assert "wells an arm would" in said


def test_the_sentence_separates_what_is_decided_from_what_is_not():
    wells = {(1, "a"): normal(1, 30, 3), (1, "b"): normal(2, 30, 2.9), (1, "c"): normal(3, 30)}
    said = quick(picks_of(wells)).sentence
    assert "better than c's" in said
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
    assert [spell_apart(x, 10.0) for x in (-39.4, -0.26, 0.0, 1234.0, math.nan)] == ["−39", "−0.3", "0", "1,234", "–"]


def test_a_name_that_ends_in_s_is_written_as_people_do():
    assert (whose("bo"), whose("letters")) == ("bo's", "letters'")


@pytest.mark.parametrize(("wells", "moved", "k"), [(12, 5, 4), (6, 1, 6), (5, 4, 9), (8, 0, 3), (8, 8, 3)])
def test_sums_of_the_best_wells_give_their_mean_at_any_shift(wells, moved, k):
    rng = np.random.default_rng(wells)
    y, k = rng.normal(size=(50, wells)), min(k, wells)
    moves = rng.permuted(np.tile(np.arange(wells) < moved, (50, 1)), axis=1)
    sums = measures._tops(y, moves, k)
    for shift in (-3.0, 0.0, 0.4):
        there = (sums - shift * np.arange(k + 1)).max(axis=1) / k
        np.testing.assert_allclose(there, statistics.top(y - shift * moves, k), rtol=1e-12, atol=1e-12)
