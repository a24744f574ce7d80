"""The judge that is chosen by evidence, and what its members say of measurements that they have not seen."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from scipy.stats import norm

from labloop.errors import MethodError
from labloop.methods.judge_only import JudgeOnly
from labloop.proposing.dataset import Dataset
from labloop.proposing.protocols import Belief
from labloop.surrogates import _members
from labloop.surrogates.auto import FARTHEST, Auto, Stacked, importance, mixture, stacked, weigh
from labloop.surrogates.gp import GP
from labloop.surrogates.ridge import Ridge, _twinned
from labloop.surrogates.warp import Warp, _log_between, chosen
from labloop.testing import TOY_SPACES, Offers, ProposerContract, toy_data, toy_truth
from labloop.types import FloatArray

CHEAP = ("gp", "forest", "pairwise")


@pytest.mark.usefixtures("short_search")
class TestJudgeOnlyKeepsTheContract(ProposerContract):
    proposer = JudgeOnly(members=("gp",))
    spaces = {kind: TOY_SPACES[kind] for kind in ("duplex", "mixed")}
    deterministic = True

    def test_equal_seeds_agree_and_other_seeds_do_not(self, data: Dataset, offers: Offers) -> None:
        first, again = offers(data, 12, seed=0), self.proposer.propose(replace(data), 12, seed=0)  # a copy: all is fitted anew
        assert first.ids == again.ids  # other seeds agree too, where the judge is a Gaussian process and the space is listed


def member(mean: FloatArray, std: float = 0.1) -> _members.Member:
    return _members.Member(
        belief=lambda X: (np.zeros(len(X)), np.full(len(X), std)), noise_std=0.1, mean=mean, std=np.full(len(mean), std)
    )


def alike(members: dict[str, _members.Member], y: FloatArray) -> Stacked:
    """Weigh members of whom nothing is guessed."""
    return stacked(members, y, dict.fromkeys(members, 1.0))


def test_weight_goes_to_whoever_predicts_what_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    good, fair, blind = y + 0.2 * rng.normal(size=300), y + 1.0 * rng.normal(size=300), rng.normal(size=300)
    found = alike({"blind": member(blind), "fair": member(fair), "good": member(good)}, y)
    assert found.weights["good"] > 0.8
    assert found.notes["weights"]["blind"] < 0.1
    assert sum(found.notes["weights"].values()) == pytest.approx(1, abs=1e-3)


def test_who_predicts_no_better_than_chance_is_not_heard_beside_one_who_does() -> None:
    rng = np.random.default_rng(8)
    y = rng.normal(size=24)
    fair, wrong = member(y + 2.0 * rng.normal(size=24)), member(-y + 2.0 * rng.normal(size=24))
    found = alike({"fair": fair, "wrong": wrong}, y)
    assert set(found.weights) == {"fair"}
    assert found.beyond_chance == pytest.approx(np.corrcoef(fair.mean, y)[0, 1] * np.sqrt(24))
    assert found.notes["beyond_chance"] == pytest.approx(found.beyond_chance, abs=0.01)
    lost = alike({"one": wrong, "other": member(-y + 2.0 * rng.normal(size=24))}, y)
    assert min(lost.weights.values()) == pytest.approx(0.5)
    assert lost.beyond_chance < 0
    assert alike({"one": member(y[:7]), "other": member(y[:7])}, y[:7]).beyond_chance == 0


def test_of_one_of_several_properties_numbers_hear_who_draws_jointly_and_whom_evidence_speaks_for() -> None:
    rng = np.random.default_rng(6)
    y = rng.normal(size=60)
    joint = replace(member(y + 0.5 * rng.normal(size=60)), correlation=lambda X, others=None: np.eye(len(X)))
    behind, ahead = member(y + 0.7 * rng.normal(size=60)), member(y + 0.3 * rng.normal(size=60))

    def heard(other: _members.Member, *, several: bool = True, numbers: float = 1.0) -> set[str]:
        found = stacked({"gp": joint, "other": other}, y, {"gp": 0.8, "other": 0.2}, several=several, numbers=numbers)
        return set(found.weights)

    assert heard(behind) == {"gp"}
    assert heard(ahead) == {"gp", "other"}
    assert heard(behind, several=False) == heard(behind, numbers=0.0) == {"gp", "other"}


def test_of_one_of_several_properties_few_measurements_do_not_narrow_the_doubt() -> None:
    y = np.random.default_rng(7).normal(size=200)
    alone = {n: stacked({"gp": member(y[:n] + 1e-6)}, y[:n], {"gp": 1.0}).width for n in (12, 200)}
    one_of = {n: stacked({"gp": member(y[:n] + 1e-6)}, y[:n], {"gp": 1.0}, several=True).width for n in (12, 200)}
    assert alone[12] < one_of[12]
    assert one_of[200] < one_of[12] < 1


def test_two_that_err_apart_share_the_weight() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=400)
    pair = {name: member(y + 0.7 * rng.normal(size=400)) for name in ("one", "two")}
    found = alike(pair, y)
    assert min(found.weights.values()) > 0.3
    mean, _ = mixture([(pair[name].mean, pair[name].std) for name in pair], np.array(list(found.weights.values())))
    assert np.mean((mean - y) ** 2) < 0.8 * min(np.mean((pair[name].mean - y) ** 2) for name in pair)


def test_who_is_a_little_behind_another_that_errs_alike_keeps_a_share() -> None:
    """Least squares would give it nothing, by chance."""
    rng = np.random.default_rng(4)
    y = rng.normal(size=600)
    ahead = y + 0.7 * rng.normal(size=600)
    behind = ahead + 0.15 * rng.normal(size=600)
    found = alike({"gp": member(ahead), "ensemble": member(behind)}, y)
    assert 0.35 < found.weights["ensemble"] < found.weights["gp"]


def test_a_guess_speaks_first_and_a_long_record_last() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(size=400)
    means = np.stack([y + 2.0 * rng.normal(size=400), y + 0.3 * rng.normal(size=400)])
    early, late = (weigh(means[:, :n], y[:n], np.array([0.9, 0.1]))[0] for n in (8, 400))
    assert early[0] > 0.5 > 0.1 > late[0]


def test_networks_are_not_asked_about_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_members.MEMBERS, "ensemble", partial(_members.ensemble, members=2, steps=50))
    data = toy_data(TOY_SPACES["continuous"], 20)
    assert "ensemble" not in Auto(members=("gp", "ensemble"), warp=False).fit(data, seed=0).notes["weights"]
    assert "ensemble" in Auto(members=("ensemble",), warp=False).fit(data, seed=0).notes["weights"]


def test_few_measurements_move_weights_less_than_many() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=2_000)
    means = np.stack([y + 0.1 * rng.normal(size=2_000), rng.normal(size=2_000)])
    few, many = (weigh(means[:, :n], y[:n], np.ones(2))[0] for n in (16, 2_000))
    assert 0.5 < few[0] < many[0]


def test_of_noisy_measurements_who_explains_a_tenth_is_heard_before_who_explains_next_to_nothing() -> None:
    """By what they leave unexplained the two are alike, and the designs that the second is wrong about would fill the plate."""
    rng = np.random.default_rng(7)
    y = rng.normal(size=500)
    means = np.stack([y + 2.5 * rng.normal(size=500), y + 7 * rng.normal(size=500)])
    weights, correlation = weigh(means, y, np.ones(2))
    assert (correlation > 0).all()
    assert weights[0] > 0.8


def test_no_member_expects_any_number_far_from_the_data() -> None:
    y = np.random.default_rng(0).normal(size=60)
    wild = replace(member(y + 0.1), belief=lambda X: (np.full(len(X), 1e6), np.full(len(X), 0.1)))
    mean, _ = alike({"wild": wild}, y).belief(np.zeros((3, 1)))
    assert mean == pytest.approx(np.full(3, y.max() + FARTHEST * y.std()))


@pytest.mark.parametrize("numbers", [0.0, 0.5], ids=["letters", "numbers"])
def test_what_a_process_expects_far_beyond_bad_measurements_keeps_its_order_among_letters(numbers: float) -> None:
    """Or all designs that are worth a well after a start of bad ones would count alike, and the doubt alone choose among them."""
    y = np.random.default_rng(0).normal(size=60)
    high = y.max() + FARTHEST * y.std()
    far = np.concatenate([high - np.arange(5.0, 0, -1), high + np.arange(0.0, 9.0)])
    hopeful = replace(member(y + 0.1), belief=lambda X: (far, np.full(len(X), 0.1)))
    mean, _ = stacked({"gp": hopeful}, y, {"gp": 1.0}, numbers=numbers).belief(np.zeros((len(far), 1)))
    assert mean[:6] == pytest.approx(far[:6])
    if numbers:
        assert mean[6:] == pytest.approx(np.full(8, high))
    else:
        assert (np.diff(mean[5:]) > 0.1).all()
        assert (mean[6:] < far[6:]).all()


def test_shrinking_towards_the_mean_costs_no_weight() -> None:
    """Two that rank designs equally well are worth as much, whatever the scale of what they say."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=400)
    one, two = (y + 0.7 * rng.normal(size=400) for _ in range(2))
    weights, correlation = weigh(np.stack([0.1 * one, two]), y, np.ones(2))
    assert weights[0] == pytest.approx(weigh(np.stack([one, two]), y, np.ones(2))[0][0])
    assert correlation[0] == pytest.approx(np.corrcoef(one, y)[0, 1])


def test_the_width_goes_by_the_best_most() -> None:
    y = np.arange(100.0)
    worth = importance(y[::-1])
    assert (np.diff(worth) < 0).all()
    assert worth[0] == 1


def test_nobody_is_less_sure_than_the_measurements_are_spread() -> None:
    y = np.random.default_rng(0).normal(size=60)
    wild = member(y + 0.1, std=1e6)
    _, std = alike({"wild": wild}, y).belief(np.zeros((3, 1)))
    assert (std <= 2 * y.std() + 1e-9).all()


def test_too_few_held_out_predictions_leave_the_first_member_alone() -> None:
    y = np.arange(5.0)
    found = alike({"one": member(y[::-1].copy()), "two": member(y)}, y)
    assert found.weights == {"one": 1.0}


def test_what_members_disagree_on_is_doubtful() -> None:
    mean, std = mixture([(np.zeros(3), np.ones(3)), (np.array([0.0, 1.0, 4.0]), np.ones(3))], np.array([0.5, 0.5]))
    np.testing.assert_allclose(mean, [0, 0.5, 2])
    np.testing.assert_allclose(std, np.sqrt([1, 1.25, 5]))


@pytest.mark.parametrize("kind", ["duplex", "mixed", "continuous"])
def test_it_is_a_belief_on_any_space_with_twenty_measurements(kind: str) -> None:
    data = toy_data(TOY_SPACES[kind], 20)
    found = Auto(members=CHEAP).fit(data, seed=0)
    assert isinstance(found, Belief)
    X = TOY_SPACES[kind].sample(50, np.random.default_rng(0))
    mean, std = found.belief(X)
    np.testing.assert_array_equal(found(X)[0], mean)
    np.testing.assert_allclose(found(X)[1], np.hypot(std, found.noise_std))
    assert np.isfinite(mean).all()
    assert (std > 0).all()
    assert set(found.notes["weights"]) == set(CHEAP)
    again = Auto(members=CHEAP).fit(replace(data), seed=0)  # a copy: all is fitted anew
    np.testing.assert_array_equal(again.belief(X), (mean, std))


def test_it_judges_better_than_the_worst_of_its_members(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHEAP:
        monkeypatch.setitem(_members.MEMBERS, name, cache(_members.MEMBERS[name]))  # equal calls have equal answers
    space = TOY_SPACES["sequence"]
    data = toy_data(space, 120)
    X = space.sample(500, np.random.default_rng(9))
    truth = toy_truth(space, X)
    alone = [np.corrcoef(Auto(members=(name,)).fit(data, seed=0).belief(X)[0], truth)[0, 1] for name in CHEAP]
    together = np.corrcoef(Auto(members=CHEAP).fit(data, seed=0).belief(X)[0], truth)[0, 1]
    assert together > min(alone) + 0.5 * (max(alone) - min(alone))


def test_the_judges_process_is_never_the_one_that_a_proposer_fitted() -> None:
    data = toy_data(TOY_SPACES["sequence"], 30)
    mine = _members.gaussian_process(data, 0)
    shared = GP().fit(data, seed=0)
    assert mine.belief.__self__ is not shared  # type: ignore[attr-defined]
    assert GP().fit(data, seed=1) is shared


def test_it_says_what_it_needs() -> None:
    data = toy_data(TOY_SPACES["sequence"], 30)
    with pytest.raises(MethodError, match="at least 2 measured"):
        Auto().fit(data.take(np.arange(1)), seed=0)


def test_many_designs_are_judged_by_a_hold_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("EXACT", 60), ("HYPER", 40), ("INDUCING", 30), ("HELD_OUT", 25)):
        monkeypatch.setattr(_members, name, value)
    data = toy_data(TOY_SPACES["sequence"], 120)
    found = Auto(members=CHEAP).fit(data, seed=0)
    assert found.notes["held_out"] == 25
    assert "pairwise" not in found.notes["weights"]


def test_more_designs_than_hyper_parameters_need_are_all_conditioned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_members, "HYPER", 40)
    data = toy_data(TOY_SPACES["sequence"], 90)
    found = _members.gaussian_process(data, 0)
    assert len(found.mean) == 90
    assert np.corrcoef(found.belief(data.X)[0], data.y)[0, 1] > np.corrcoef(found.mean, data.y)[0, 1]


def test_leaving_out_in_closed_form_is_leaving_out() -> None:
    data = toy_data(TOY_SPACES["mixed"], 25)
    fitted = GP().fit(data, seed=0)
    mean, std = fitted.left_out()
    for i in (0, 7, 24):
        rest = fitted.conditioned(data.take(np.delete(np.arange(25), i)))
        np.testing.assert_allclose(np.ravel(rest.belief(data.X[i : i + 1])), (mean[i], std[i]), rtol=1e-4)


def test_a_third_is_predicted_from_the_others() -> None:
    data = toy_data(TOY_SPACES["mixed"], 24)
    seen: list[Dataset] = []

    def fit(rest: Dataset) -> _members.Believes:
        seen.append(rest)
        return lambda X: (np.full(len(X), float(len(seen))), np.ones(len(X)))

    found = _members._from_parts(data, fit, np.random.default_rng(0))
    assert found is not None
    for one, rest in enumerate(seen, start=1):
        assert {data.ids[i] for i in np.flatnonzero(found[0] == one)} == set(data.ids) - set(rest.ids)
        assert len(rest) == 16
    assert _members._from_parts(data.take(np.arange(11)), fit, np.random.default_rng(0)) is None


def test_the_ridge_left_out_is_the_ridge_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_data(TOY_SPACES["duplex"], 25)
    whole = Ridge.fit(data)
    monkeypatch.setattr("labloop.surrogates.ridge._strengths", lambda values: np.array([whole.strength]))
    for i in (0, 11, 24):
        rest = Ridge.fit(data.take(np.delete(np.arange(25), i)))
        mean, std = rest.belief(data.X[i : i + 1])
        assert mean[0] == pytest.approx(whole.left_out[0][i], rel=1e-6)
        assert std[0] / rest.noise_std == pytest.approx(whole.left_out[1][i] / whole.noise_std, rel=1e-3)


def test_the_ridge_is_surest_where_it_has_measured() -> None:
    data = toy_data(TOY_SPACES["duplex"], 25)
    fitted = Ridge.fit(data)
    X = data.space.listing()
    new = X[data.space.fresh(X, known=data.taken)]
    assert fitted.belief(data.X)[1].mean() < fitted.belief(new)[1].mean()
    inner = _twinned(data.space, fitted.features, new[:5], new[:5])
    np.testing.assert_allclose(fitted._norms(new[:5]), np.diag(inner))


def test_a_forests_twins_are_out_of_the_bag_together() -> None:
    data = toy_data(TOY_SPACES["duplex"], 40)
    flat = replace(data, y=np.random.default_rng(0).normal(size=40))
    found = _members.forest(flat, 0)
    known = np.isfinite(found.mean)
    assert np.corrcoef(found.mean[known], flat.y[known])[0, 1] < 0.4  # there is nothing to learn
    assert np.corrcoef(found.belief(flat.X)[0], flat.y)[0, 1] > 0.6


def test_a_forest_learns_in_any_unit() -> None:
    data = toy_data(TOY_SPACES["duplex"], 40)
    plain, small = (_members.forest(replace(data, y=unit * data.y), 0) for unit in (1.0, 2.0**-40))
    np.testing.assert_array_equal(small.mean, 2.0**-40 * plain.mean)
    np.testing.assert_array_equal(small.belief(data.X)[1], 2.0**-40 * plain.belief(data.X)[1])
    assert small.noise_std == 2.0**-40 * plain.noise_std


def multiplied(n: int = 120) -> Dataset:
    """Measurements whose effects multiply, the better half kept out, as after a screen that found little."""
    plain = toy_data(TOY_SPACES["categorical"], n, noise=0.0)
    return replace(plain, y=np.exp(1.5 * plain.y))


def test_a_logarithm_is_seen_where_effects_multiply_and_nowhere_else() -> None:
    plain = toy_data(TOY_SPACES["categorical"], 120, noise=0.0)
    assert chosen(plain, seed=0).floor is None
    assert chosen(multiplied(), seed=0).floor is not None


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_many_equal_readings_at_the_floor_do_not_speak_for_a_logarithm(share) -> None:
    """As yields of zero do: by densities, each of them would gain what the scale is stretched by there."""
    plain = toy_data(TOY_SPACES["categorical"], 120, noise=0.0)
    y = np.maximum(plain.y, np.quantile(plain.y, share))
    assert chosen(replace(plain, y=y), seed=0).floor is None
    assert chosen(replace(plain, y=np.where(y > y.min(), 1.0, 0.0)), seed=0).floor is None


def test_the_probability_between_two_values_holds_in_the_tails() -> None:
    low, high = np.array([-np.inf, -1.0, 0.5, 9.0, -40.0]), np.array([-2.0, 0.3, np.inf, 9.5, -39.0])
    plain = norm.cdf(high[:3]) - norm.cdf(low[:3])
    np.testing.assert_allclose(_log_between(low, high)[:3], np.log(plain))
    np.testing.assert_allclose(_log_between(low, high)[3:], [norm.logsf(9.0) + np.log1p(-norm.sf(9.5) / norm.sf(9.0)),
                                                            norm.logcdf(-39.0)], rtol=1e-6)  # fmt: skip


def test_a_warp_goes_there_and_back_and_straight_on_beyond_the_best() -> None:
    y = np.exp(np.linspace(-6, 2, 50))
    warp = Warp.of(y, 0.04)
    np.testing.assert_allclose(warp.back(warp(y)), y)
    top = float(warp(np.array(y.max())))
    steps = np.diff(warp.back(top + np.arange(4.0)))
    np.testing.assert_allclose(steps, steps[0])
    np.testing.assert_allclose(
        1e-6 / (warp.back(np.array(top)) - warp.back(np.array(top - 1e-6))), warp.slope(y.max()), rtol=1e-4
    )
    low, high = warp.spread(np.array([warp(y[5]), warp(y[-5])]), np.array([0.1, 0.1]))
    assert low < high  # a factor of doubt is more where there is more


def test_the_judge_sees_the_logarithm_and_tells_y() -> None:
    data = multiplied()
    found = Auto(members=CHEAP).fit(data, seed=0)
    assert found.notes["log_floor"] == found.warp.floor
    mean, std = found.belief(data.X)
    assert np.corrcoef(mean, data.y)[0, 1] > 0.95
    assert (mean > data.y.min() - 3 * data.y.std()).all()
    assert (std > 0).all()
    plain = Auto(members=CHEAP, warp=False).fit(data, seed=0)
    assert "log_floor" not in plain.notes
    unseen = TOY_SPACES["categorical"].listing()
    truth = toy_truth(TOY_SPACES["categorical"], unseen)
    best = [truth[np.argsort(-one.belief(unseen)[0])[:20]].mean() for one in (found, plain)]
    assert best[0] > best[1]
