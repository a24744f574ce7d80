"""Wells that move by evidence: what arms achieved decides what they get, and the ledger says so before the round."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from labloop.campaign.facade import Campaign
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError
from labloop.proposing.evidence import share, within
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab, simulate

ARMS = {"a": {"proposers": "fakes:Near"}, "b": {"proposers": "random"}}


def config(**more):
    return parse_config({"arms": ARMS, "judge": None, **more}, RoundConfig)


def history(shifts: dict[str, float], *, rounds: int = 2, n: int = 32, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [(arm, r, y) for r in range(1, rounds + 1) for arm, shift in shifts.items() for y in rng.normal(shift, 1, n)]
    return pd.DataFrame(rows, columns=["arm", "round", "y"])


def given(shifts, *, seed=0, **more):
    told = {"wells": 96, "floor": 8, "incumbent": {1: 1.0, 2: 1.5}, "number": 3, "seed": seed, **more}
    return share(history(shifts, seed=seed), list(shifts), **told)


def test_the_better_arm_gets_more_and_nobody_less_than_the_floor():
    for seed in range(5):
        found = given({"a": 1.5, "b": 0.0, "c": 0.0}, seed=seed)
        assert found.wells["a"] > 48
        assert min(found.wells.values()) >= 8
        assert sum(found.wells.values()) == 96
    assert "a " in found.sentence.split(":")[1]


def test_equal_arms_get_equal_shares_on_average_and_the_order_of_arms_does_not_matter():
    shares = np.mean([list(given({"a": 0.0, "b": 0.0, "c": 0.0}, seed=s).wells.values()) for s in range(40)], axis=0)
    assert np.abs(shares - 32).max() < 10
    mirrored = np.mean([given({"b": 0.0, "a": 1.0}, seed=s).wells["a"] for s in range(10)])
    assert mirrored > 60


def test_nothing_known_is_shared_evenly_and_an_arm_that_is_new_gets_its_chance():
    nothing = share(history({"a": 1.0}, rounds=0), ["a", "b"], wells=96, floor=8, incumbent={}, number=1, seed=0)
    assert nothing.wells == {"a": 48, "b": 48}
    assert nothing.rounds == ()
    new = share(history({"a": 0.5, "b": 0.0}), ["a", "b", "c"], wells=96, floor=8, incumbent={}, number=3, seed=0)
    assert new.wells["c"] > new.wells["b"]


def test_a_well_that_breaks_a_limit_earns_nothing():
    told = {"wells": 96, "floor": 8, "incumbent": {1: -9.0, 2: -9.0}, "number": 3, "seed": 0}
    known = history({"a": 1.5, "b": 0.0})
    assert share(known, ["a", "b"], **told).wells["a"] > 48
    broken = known.assign(kept=known["arm"] == "b")
    found = share(broken, ["a", "b"], **told)
    assert found.wells["b"] > 80
    assert found.arms[0].worth < found.arms[1].worth
    assert share(known.assign(kept=True), ["a", "b"], **told) == share(known, ["a", "b"], **told)


def standings(rows: list[tuple[str, int, float]], *, number: int = 3):
    told = share(
        pd.DataFrame(rows, columns=["arm", "round", "y"]),
        ["a", "b"],
        wells=96,
        floor=8,
        incumbent={1: 0.0, 2: 0.0},
        number=number,
        seed=0,
    )
    return {one.arm: one for one in told.arms}


def plate(round_: int, best: str, *, n: int = 32) -> list[tuple[str, int, float]]:
    """A plate of two arms alike, but that one of them is two deviations ahead."""
    y = np.random.default_rng(round_).normal(size=n)
    return [(arm, round_, one + 2 * (arm == best)) for arm in "ab" for one in y.tolist()]


def test_what_came_back_last_counts_most_and_the_round_itself_not_at_all():
    found = standings([*plate(1, "a"), *plate(2, "b")])
    assert found["b"].wells > found["a"].wells + 16
    assert standings([*plate(1, "a"), *plate(2, "b")], number=2) == standings(plate(1, "a"), number=2)


def test_the_wells_of_one_round_tell_less_than_as_many_of_several():
    together, apart = (
        standings([(arm, 2 - (i % rounds), float(i // 2 % 2)) for arm in "ab" for i in range(32)]) for rounds in (1, 2)
    )
    assert apart["a"].worth_sd < together["a"].worth_sd


def test_a_lucky_reading_is_worth_so_much_and_no_more():
    """Of 400 wells one beyond all bounds lies twenty deviations above the others, of two each fourteen."""
    worth = [
        standings([(arm, 2, 1e6 if arm == "a" and i < lucky else 0.0) for arm in "ab" for i in range(200)])["a"].worth
        for lucky in (1, 2)
    ]
    assert worth[1] == pytest.approx(2 * worth[0], rel=0.01)


def test_bounds_from_above_earn_no_wells():
    told = history({"a": 0.0, "b": 0.0})
    bounds = told.assign(y=np.where(told["arm"] == "a", 50.0, told["y"]), censored=np.where(told["arm"] == "a", -1, 0))
    found = share(bounds, ["a", "b"], wells=96, floor=8, incumbent={1: 1.0, 2: 1.5}, number=3, seed=0)
    assert found.wells["a"] < found.wells["b"]


def test_the_rules_are_read_and_faults_are_refused():
    assert config().allocation.rule == "equal"
    assert config(allocation="evidence").allocation.least(96, 2) == 8
    assert config(allocation={"rule": "fixed", "weights": {"a": 3}}).wells(96) == {"a": 72, "b": 24}
    with pytest.raises(ConfigError, match="c is no arm"):
        config(allocation={"rule": "fixed", "weights": {"c": 3}})
    with pytest.raises(ConfigError, match="floor is for the rule evidence"):
        config(allocation={"floor": 3})
    with pytest.raises(ConfigError, match=r"allocation\.floor gives 60 wells"):
        config(allocation={"rule": "evidence", "floor": 60}).wells(96)


def test_a_campaign_fixes_the_shares_before_the_round_trains(tmp_path, tfbind8_config):
    run, lab = Campaign.create(tfbind8_config, home=tmp_path / "home"), open_lab("tfbind8")
    draw_start(lab, 120, seed=1).to_csv(tmp_path / "history.csv", index=False)
    run.ingest(tmp_path / "history.csv")
    told = config(allocation={"rule": "evidence", "floor": 6})
    assert len(run.propose(told).picks) == 96
    assert "shared evenly" in run.status()["decisions"][0]
    run.export(tmp_path / "out")
    run.ingest(measure_plate(run, lab, tmp_path / "out", tmp_path / "back", number=1))
    number = run.ensure_round(told)
    fixed = run.status()["decisions"][0]
    assert "by what the arms achieved in round 1" in fixed
    wells = run.round_config(run.round(number)).wells(96)
    assert wells["a"] != wells["b"]
    assert min(wells.values()) >= 6
    batch = run.propose(told)
    assert batch.round == number
    assert {arm: int((batch.picks["arm"] == arm).sum()) for arm in wells} == wells
    assert run.status()["decisions"][0] == fixed


def test_a_simulation_shares_alike(tfbind8_config):
    table = simulate(
        tfbind8_config,
        "tfbind8",
        round_config=config(allocation="evidence"),
        start=60,
        rounds=2,
        batch=24,
        seeds=1,
        mode="shared",
    )
    wells = table.pivot(index="round", columns="arm", values="n_wells")
    assert wells.loc[1].tolist() == [12, 12]
    assert wells.loc[2, "a"] != wells.loc[2, "b"]


# ---- proposers of one arm

TURNS = {"free": {"proposers": {"fakes:Near": {"shift": 1}, "random": {}}}, "b": {"proposers": ["random"], "wells": 16}}


def test_the_better_proposer_of_an_arm_gets_more_of_its_wells():
    told = history({"near": 1.5, "random": 0.0, "mutate": 0.0}).assign(proposer=lambda rows: rows["arm"], arm="free")
    others = history({"bo": 3.0}, seed=9).assign(proposer="near", arm="bo")  # the same proposer elsewhere proves nothing here
    setting = {"incumbent": {1: 1.0, 2: 1.5}, "number": 3, "seed": 0}
    found = within(pd.concat([told, others]), "free", ["near", "random", "mutate"], wells=48, **setting)
    assert found.wells["near"] > 24
    assert sum(found.wells.values()) == 48
    assert min(found.wells.values()) >= 8
    assert "48 wells by what the proposers of free achieved in rounds 1, 2: near" in found.sentence
    assert within(told, "free", ["near", "random", "mutate"], wells=2, **setting) is None


def test_shares_are_for_arms_that_take_designs_as_proposed_and_for_their_own_proposers():
    arm = {"proposers": ["random", "mutate"], "shares": {"random": 3}}
    assert config(arms={"free": arm}).arms["free"].shares == {"random": 3}
    with pytest.raises(ConfigError, match="coms is no proposer of this arm"):
        config(arms={"free": {**arm, "shares": {"coms": 1}}})
    with pytest.raises(ConfigError, match="conservative chooses among all that is offered"):
        config(arms={"free": {**arm, "selector": "conservative"}})
    assert config(arms={"free": arm}).without("free", "random").arms["free"].shares == {}


def test_a_campaign_fixes_the_shares_of_proposers_before_the_round_trains(tmp_path, tfbind8_config):
    run, lab = Campaign.create(tfbind8_config, home=tmp_path / "home"), open_lab("tfbind8")
    draw_start(lab, 120, seed=1).to_csv(tmp_path / "history.csv", index=False)
    run.ingest(tmp_path / "history.csv")
    told = config(arms=TURNS, allocation="evidence")
    first = run.propose(told).picks
    assert first[first["arm"] == "free"]["proposer"].value_counts().tolist() == [40, 40]
    assert "decisions" not in run.status()
    run.export(tmp_path / "out")
    run.ingest(measure_plate(run, lab, tmp_path / "out", tmp_path / "back", number=1))
    number = run.ensure_round(told)
    (fixed,) = run.status()["decisions"]
    assert "80 wells by what the proposers of free achieved in round 1" in fixed
    shares = run.round_config(run.round(number)).arms["free"].shares
    assert shares["fakes:Near"] != shares["random"]
    picks = run.propose(told).picks
    assert picks[picks["arm"] == "free"]["proposer"].value_counts().to_dict() == shares
    assert run.status()["decisions"] == [fixed]
