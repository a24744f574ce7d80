"""Arms tried on what a lab has measured already."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, ConfigError
from labloop.seeds import generator
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


@pytest.fixture
def campaign(tmp_path, tfbind8_config):
    run = Campaign.create(tfbind8_config, home=tmp_path / "home")
    draw_start(open_lab("tfbind8"), 400, seed=1, quantile=1.0).to_csv(tmp_path / "history.csv", index=False)
    run.ingest(tmp_path / "history.csv")
    return run


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
    assert "past rounds" in told.sentence
    assert any("were chosen by near, pairs" in one for one in told.caveats)


def test_too_little_to_test_on_and_unknown_arms_are_said(campaign, tmp_path, tfbind8_config):
    with pytest.raises(ConfigError, match="'nobody' is neither an arm"):
        backtest(campaign, ROUND, arms=["nobody"])
    few = Campaign.create(tfbind8_config, home=tmp_path / "few")
    with pytest.raises(CampaignError, match="a backtest needs"):
        backtest(few, ROUND)
    for nothing, said in (
        ({"splits": 0}, "a split"),
        ({"rounds": 0}, "a round"),
        ({"batch": 0}, "a design"),
        ({"arms": []}, "an arm"),
    ):
        with pytest.raises(ConfigError, match=f"needs {said}"):
            backtest(campaign, ROUND, **nothing)
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
