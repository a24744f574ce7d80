"""The pure middle of a round: who offers what, who gets which well."""

from __future__ import annotations

import numpy as np
import pytest

from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import MethodError
from labloop.proposing.pipeline import Training, choose, judge, plan, train
from labloop.proposing.pool import Pool
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice
from labloop.testing import TOY_SPACES, toy_data

SPACE = DesignSpace(parameters=(Choice(name="c", options=tuple("abcdefghijkl")), Choice(name="d", options=("x", "y", "z"))))
DATA = toy_data(SPACE, 6)
FRESH = SPACE.listing()[[one not in DATA.taken for one in SPACE.listing_ids]]
SETTING = {"seed": 0, "number": 1, "rounds": 4}


def config(**arms):
    return parse_config({"arms": {name: {"proposers": "random"} for name in arms}, "judge": "fakes:Flat"}, RoundConfig)


def pool(rows):
    return Pool.of(SPACE, FRESH[rows], -np.arange(len(rows), dtype=float), proposer="p")


def test_arms_that_agree_share_a_well_and_the_freed_ones_are_refilled():
    wells = {"one": 3, "two": 3}
    pools = {"one": pool([0, 1, 2, 3, 4, 5]), "two": pool([1, 0, 6, 3, 7, 8])}
    picks = choose(config(**wells), pools, None, DATA, wells, **SETTING)
    chosen = {name: list(arm.pool.ids) for name, arm in picks.items()}
    assert len(set(chosen["one"]) | set(chosen["two"])) == 6
    assert chosen["one"][:3] == list(pools["one"].ids[:3])
    assert chosen["two"][:3] == list(pools["two"].ids[:3])
    assert set(chosen["one"]) & set(chosen["two"]) >= set(pools["one"].ids[:2])


def test_without_agreement_every_arm_gets_its_own_wells():
    wells = {"one": 2, "two": 4}
    picks = choose(config(**wells), {"one": pool([0, 1, 2]), "two": pool([5, 6, 7, 8, 9])}, None, DATA, wells, **SETTING)
    assert {name: len(arm) for name, arm in picks.items()} == wells


def test_pools_too_small_for_the_wells_say_so():
    wells = {"one": 2, "two": 2}
    with pytest.raises(MethodError, match=r"raise arms\.\*\.pool"):
        choose(config(**wells), {"one": pool([0, 1]), "two": pool([1, 0])}, None, DATA, wells, **SETTING)


def test_a_batch_larger_than_what_is_left_of_the_space_is_refused():
    with pytest.raises(MethodError, match=f"only {36 - len(DATA)} designs"):
        plan(config(one=1), DATA, wells=36, **SETTING)


def test_pools_are_capped_by_what_is_left_of_the_space():
    big = parse_config({"arms": {"one": {"proposers": "random", "pool": 512}}}, RoundConfig)
    (training,) = plan(big, DATA, wells=4, **SETTING)
    assert training.n == 36 - len(DATA)


def test_a_proposer_that_repeats_itself_is_caught():
    with pytest.raises(MethodError, match="breaks the proposer's contract"):
        train(Training(arm="a", proposer="fakes:Broken", options={}, n=4, seed=0), toy_data(TOY_SPACES["sequence"]))


def test_the_judge_widens_its_intervals_after_rounds_that_surprised_it():
    data = toy_data(TOY_SPACES["sequence"])
    rng = np.random.default_rng(0)
    mean, std = np.zeros(64), np.ones(64)
    plain = judge(config(one=1), data, **SETTING)(data.X[:3])[1]
    for spread, low, high in ((3.0, 2.2, 3.0), (1.0, 0.85, 1.15), (0.3, 0.4, 0.7)):
        wider = judge(config(one=1), data, **SETTING, past=(mean, std, spread * rng.normal(size=64)))(data.X[:3])[1]
        assert low < (wider / plain)[0] < high
    few = judge(config(one=1), data, **SETTING, past=(mean[:8], std[:8], 9 * np.ones(8)))(data.X[:3])[1]
    np.testing.assert_array_equal(few, plain)


def test_a_schedule_reaches_the_selector():
    arms = {"a": {"proposers": "random", "selector": {"conservative": {"beta": {"first": -1.0, "last": 2.0}}}}}
    scheduled = parse_config({"arms": arms, "judge": "fakes:Flat"}, RoundConfig)
    data = toy_data(TOY_SPACES["sequence"])
    posterior = judge(scheduled, data, **SETTING)
    offered = train(Training(arm="a", proposer="random", options={}, n=40, seed=0), data).pool
    for number, beta in ((1, -1.0), (4, 2.0)):
        picks = choose(scheduled, {"a": offered}, posterior, data, {"a": 5}, seed=0, number=number, rounds=4)["a"]
        np.testing.assert_allclose(picks.lcb, picks.mean - beta * picks.std)
