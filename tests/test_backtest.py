"""Arms tried on what a lab has measured already."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, ConfigError
from labloop.rounds import by_backtest
from labloop.seeds import generator
from labloop.studies.arms import pick_arms
from labloop.studies.backtest import backtest
from labloop.studies.demo import measure_plate
from labloop.studies.listed import ListedSpace
from labloop.studies.simulate import draw_start, open_lab

ROUND = parse_config(
    {
        "arms": {"pairs": {"proposers": "pairwise"}, "chance": {"proposers": "random"}, "near": {"proposers": "mutate"}},
        "judge": None,
    },
    RoundConfig,
)


def begin(folder):
    run = Campaign.create(preset("campaigns/tfbind8.yaml"), home=folder / "home")
    draw_start(open_lab("tfbind8"), 400, seed=1, quantile=1.0).to_csv(folder / "history.csv", index=False)
    run.ingest(folder / "history.csv")
    run.ledger.close()


@pytest.fixture
def campaign(tmp_path, made_once):
    return Campaign.open("tfbind8", home=made_once(begin, tmp_path) / "home")


def test_a_list_is_a_space_with_no_other_design(campaign):
    data = campaign.dataset()
    space = ListedSpace.of(data.space, data.X)
    assert space.listable
    assert space.columns == data.space.columns
    assert set(space.listing_ids) == set(data.ids)
    rng = generator(0, "test")
    for X in (space.sample(20, rng), space.mutate(data.X[:20], rng, steps=2), space.neighbours(data.X[0])):
        assert space.feasible(X).all()
    assert (space.repair(data.X[:5]) == data.X[:5]).all()
    assert not space.check(space.decode_as_written(data.X[:5]))
    other = campaign.config.space.listing()[~np.isin(campaign.config.space.listing_ids, data.ids)][:20]
    assert {fault.row for fault in space.check(space.decode_as_written(other))} == set(range(len(other)))
    assert not space.feasible(other).any()
    assert space.feasible(space.repair(other)).all()


def test_an_arm_that_learns_finds_the_best_before_chance_does(campaign):
    before = campaign.ledger.ends(campaign.name).head
    told = backtest(campaign, ROUND, arms=["pairs", "chance"], splits=4, rounds=2)
    assert campaign.ledger.ends(campaign.name).head == before  # nothing is stored
    by = {one.arm: one for one in told.arms}
    assert by["pairs"].found > by["chance"].found
    assert by["pairs"].mean > by["chance"].mean
    assert by["chance"].found_at_end == pytest.approx(0.25, abs=0.15)  # a quarter of what is hidden is chosen
    assert len(told.rows) == 2 * 4 * 2
    assert len(told.caveats) >= 4
    assert told.to_dict()["sentence"] == told.sentence
    again = backtest(campaign, ROUND, arms=["pairs", "chance"], splits=4, rounds=2)
    assert again.arms == told.arms


def test_an_arm_that_chooses_by_a_judge_needs_one(campaign):
    round_ = parse_config({"arms": {"mine": {"proposers": "random", "selector": "conservative"}}, "judge": None}, RoundConfig)
    with pytest.raises(ConfigError, match="conservative chooses by what a judge says"):
        backtest(campaign, round_, splits=2, rounds=1)
    several = {"mine": {"proposers": ["random", "pairwise"], "selector": "conservative"}}
    round_ = parse_config({"arms": several, "judge": None}, RoundConfig)
    for arms in (None, ["random"], ["judge_only"]):
        with pytest.raises(ConfigError, match=r"^arms\.mine\.selector: conservative chooses"):
            backtest(campaign, round_, arms=arms, splits=2, rounds=1)


def test_arms_that_share_a_proposer_are_split_into_one_of_each():
    arms = {
        "a": {"proposers": ["random", "mutate"]},
        "b": {"proposers": ["random", "forest"]},
        "mutate": {"proposers": "pairwise"},
    }
    split = pick_arms(parse_config({"arms": arms, "judge": None}, RoundConfig), None, split=True).arms
    alone = {"a_random": ["random"], "a_mutate": ["mutate"], "b_random": ["random"], "forest": ["forest"], "mutate": ["pairwise"]}
    assert {name: [*arm.proposers] for name, arm in split.items()} == alone


def test_equal_arms_are_not_told_apart(campaign):
    same = parse_config({"arms": {"one": {"proposers": "random"}, "two": {"proposers": "random"}}, "judge": None}, RoundConfig)
    told = backtest(campaign, same, splits=5, rounds=1)
    assert told.winner is None
    assert "cannot tell" in told.sentence


def test_past_rounds_are_replayed_with_todays_arms(campaign, tmp_path):
    with pytest.raises(CampaignError, match="no round with measured wells"):
        backtest(campaign, ROUND, replay=True)
    campaign.propose(ROUND, out=tmp_path / "out")
    campaign.ingest(measure_plate(campaign, open_lab("tfbind8"), tmp_path / "out", tmp_path / "back", number=1))
    told = backtest(campaign, ROUND, arms=["pairs", "near"], replay=True)
    assert (told.splits, told.rounds, told.batch) == (1, 1, 24)
    assert "over 1 past round, but these data cannot tell the arms apart, as one past round leaves all open" in told.sentence
    assert any("were chosen by near, pairs" in one for one in told.caveats)


def test_too_little_to_test_on_and_unknown_arms_are_said(campaign, tmp_path, tfbind8_config):
    with pytest.raises(ConfigError, match="'nobody' is neither an arm"):
        backtest(campaign, ROUND, arms=["nobody"])
    few = Campaign.create(tfbind8_config, home=tmp_path / "few")
    with pytest.raises(CampaignError, match="a backtest needs"):
        backtest(few, ROUND)
    for nothing, said in (
        ({"splits": 0}, "splits is 0: give a whole number, 1 or more"),
        ({"rounds": 2.5}, "rounds is 2.5"),
        ({"batch": 0}, "batch is 0"),
        ({"arms": []}, "a backtest needs an arm"),
    ):
        with pytest.raises(ConfigError, match=said):
            backtest(campaign, ROUND, **nothing)
    with pytest.raises(
        ConfigError, match=r"3 rounds of 150 designs cannot be chosen from the 300 .* smaller batch or fewer rounds"
    ):
        backtest(campaign, ROUND, batch=150)
    space = {"parameters": [{"type": "real", "name": "heat", "low": 20, "high": 120}]}
    several = {"name": "ovens", "space": space, "objectives": {"gloss": {}, "cost": {"direction": "min"}}}
    with pytest.raises(CampaignError, match="has several properties"):
        backtest(Campaign.create(parse_config(several, CampaignConfig), home=tmp_path / "several"), ROUND)


def test_from_the_command_line(campaign, tmp_path, capsys):
    (tmp_path / "round.yaml").write_text("arms: {a: {proposers: random}, b: {proposers: mutate}}\njudge: null\n")
    told = [
        "backtest",
        "tfbind8",
        str(tmp_path / "round.yaml"),
        "--splits",
        "2",
        "--rounds",
        "1",
        "--home",
        str(tmp_path / "home"),
    ]
    assert main(told) == 0
    assert "Only measured designs can be found here" in capsys.readouterr().out
    assert main([*told, "--json"]) == 0
    assert {one["arm"] for one in json.loads(capsys.readouterr().out)["arms"]} == {"a", "b"}


# ---- a round by a backtest


def test_a_round_takes_its_arms_from_the_last_backtest_and_says_why(campaign, tmp_path, capsys):
    with pytest.raises(CampaignError, match="no backtest to take a round's arms from"):
        campaign.propose("auto")
    told = backtest(campaign, ROUND, splits=4, rounds=2, keep=True)
    backtest(campaign, ROUND, arms=["near"], splits=2, rounds=1, keep=True)  # one arm compares nothing
    at = ["--home", str(tmp_path / "home")]
    assert main(["propose", campaign.name, "--round", "auto", "-o", str(tmp_path / "out"), *at]) == 0
    run = Campaign.open(campaign.name, home=tmp_path / "home")
    arms = list(run.round_config(run.round()).arms)
    close = [one.arm for i, one in enumerate(told.arms) if i == 0 or not one.told_apart]
    assert arms == (close[:3] if len(close) > 1 else [one.arm for one in told.arms[:2]])
    (said,) = run.status()["decisions"]
    assert f"arms {' and '.join(arms)} by the backtest of" in said
    backtest(run, ROUND, arms=["chance", "near"], splits=2, rounds=1, keep=True)
    again = run.propose("auto")  # the round that is open stays what it is
    assert again.round == 1
    assert list(run.round_config(run.round()).arms) == arms


def test_of_arms_that_are_told_apart_the_next_best_stays_to_compare_with(campaign):
    def kept(**arms):
        rows = [
            {"arm": arm, "found": found, "told_apart": apart, "failed": failed} for arm, (found, apart, failed) in arms.items()
        ]
        told = {"arms": rows, "splits": 8, "replay": False, "n_designs": 400}
        by_backtest.keep(campaign, told, ROUND)
        config, why = by_backtest.round_of(campaign)
        return list(config.arms), why["said"]

    arms, said = kept(pairs=(0.8, False, ""), near=(0.5, True, ""), chance=(0.2, True, ""))
    assert arms == ["pairs", "near"]
    assert "more than every other, and near came next; left out: chance" in said
    arms, said = kept(pairs=(0.8, False, ""), near=(0.7, False, ""), chance=(0.6, False, ""))
    assert arms == ["pairs", "near", "chance"]
    assert "was not told from near and chance" in said
    with pytest.raises(CampaignError, match="only one arm chose designs in every split, and a round needs 2 to compare"):
        kept(pairs=(0.8, False, ""), near=(0.5, True, "no fit"))
