"""What a plate can show is told before it is spent."""

from __future__ import annotations

import json
import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.compare.measures import plates as plates_of
from labloop.compare.pairs import pair_of
from labloop.compare.prospect import Spread, found_best, next_plate, powers, smallest
from labloop.compare.statistics import holm
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, ConfigError
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab

ROUND = parse_config(
    {"arms": {"near": {"proposers": "fakes:Near"}, "free": {"proposers": "random"}}, "judge": "fakes:Flat"}, RoundConfig
)


def test_power_grows_with_wells_plates_and_difference_and_falls_with_arms():
    base = smallest([24, 24], 1.0)
    assert base == pytest.approx(2.80 * np.sqrt(2 / 24), rel=0.06)  # the normal approximation
    assert smallest([48, 48], 1.0) < base
    assert smallest([24, 24], 1.0, plates=2) == pytest.approx(base / np.sqrt(2), rel=0.06)
    assert smallest([24, 24, 24], 1.0) > base
    assert smallest([24, 24], 3.0) == pytest.approx(3 * base)
    assert smallest([16, 80], 1.0) == pytest.approx(smallest([16, 16], 1.0), rel=0.02), "both are compared at equal depth"
    assert np.isnan(smallest([1, 24], 1.0))
    found = powers([24, 24], 1.0, np.array([0.0, base, 2 * base]))
    assert found[0] < 0.05
    assert found[1] == pytest.approx(0.8, abs=0.02)
    assert found[2] > 0.99


@pytest.mark.parametrize("wells", [(16, 80), (12, 24, 48)], ids=["two arms", "three arms"])
def test_the_promised_power_is_that_of_the_comparison_itself(wells):
    """Arms of unequal wells, whose ranks are known, as in a ledger; nested depths of three arms included."""
    plates, level, ahead = 300, 0.03, 1.1
    shown = 0
    for seed in range(plates):
        rng = np.random.default_rng(seed)
        names = [f"arm{i}" for i in range(len(wells))]
        rows = {
            name: pd.DataFrame({"round": 1, "design_id": [f"{name}-{k}" for k in range(n)], "rank": range(n), "status": "ok",
                                "y": rng.normal(size=n) + ahead * (name == "arm0"), "incumbent": np.nan})
            for name, n in zip(names, wells, strict=True)
        }  # fmt: skip
        pairs = [pair_of(rows, a, b, share=0.8) for a, b in combinations(names, 2)]
        found = [plates_of(pair) for pair in pairs]
        shown += holm([one.p for one in found])[0] <= level and found[0].estimate > 0
    promised = powers(wells, 1.0, np.array([ahead]), level=level)[0]
    assert shown / plates == pytest.approx(promised, abs=4 * np.sqrt(promised * (1 - promised) / plates))


def test_a_spread_has_an_interval_that_covers():
    rng = np.random.default_rng(0)
    inside = [(one := Spread.of(rng.normal(0, 2, 20).var(ddof=1), 19, "")).low < 2 < one.high for _ in range(400)]
    assert 0.9 < np.mean(inside) < 0.99
    assert not Spread.of(np.nan, 0, "").known


def test_replicates_pay_where_noise_is_large_only():
    assert found_best(48, 1.0, 0.1, 1) > found_best(24, 1.0, 0.1, 2)
    assert found_best(48, 0.3, 1.0, 1) < found_best(24, 0.3, 1.0, 2)


@pytest.mark.parametrize("kind", ["normal", "below a limit"])
def test_another_plate_is_as_likely_to_hold_the_best_as_the_last_one_was(kind):
    rng = np.random.default_rng(0)
    y = rng.normal(size=40) if kind == "normal" else rng.beta(2, 0.6, size=40)
    drawn = next_plate(y, 40, float(y.max()), 0.0, seed=0)
    assert (drawn > 0).mean() == pytest.approx(0.5, abs=0.05)
    if kind == "below a limit":  # nothing is above one
        assert drawn.mean() < 0.1 * y.std()


def test_the_next_plate_gains_what_its_wells_promise():
    rng = np.random.default_rng(0)
    near, far = rng.normal(1.0, 0.3, 40), rng.normal(0.0, 0.3, 40)
    assert next_plate(near, 32, 1.0, 0.1, seed=0).mean() > 0.3
    assert next_plate(far, 32, 2.0, 0.1, seed=0).mean() == 0
    assert (next_plate(far, 32, 0.0, 0.1, seed=0) >= 0).all()


def test_a_plate_may_beat_the_best_that_the_last_one_read():
    """The best of as many new wells beats the best of the old ones in every second campaign; the gain is told without bias."""
    told, came = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=24)
        told.append(next_plate(y, 24, float(y.max()), 0.0, seed=seed).mean())
        came.append(max(0.0, rng.normal(size=24).max() - y.max()))
    assert np.mean(told) == pytest.approx(np.mean(came), abs=0.12)
    assert min(told) > 0


@pytest.fixture
def campaign(tmp_path, tfbind8_config):
    run = Campaign.create(tfbind8_config, home=tmp_path / "home")
    draw_start(open_lab("tfbind8"), 120, seed=1).to_csv(tmp_path / "history.csv", index=False)
    run.ingest(tmp_path / "history.csv")
    return run


def test_a_campaign_is_planned_by_its_own_history_and_nothing_is_stored(campaign, tmp_path, capsys):
    before = campaign.ledger.ends(campaign.name).head
    first = campaign.plan(ROUND)
    assert "best quarter" in first.reading.source
    assert "spend one" in first.stop
    assert not first.noise.known
    assert campaign.ledger.ends(campaign.name).head == before
    campaign.propose(ROUND, out=tmp_path / "out")
    lab = open_lab("tfbind8", noise=0.05)
    campaign.ingest(measure_plate(campaign, lab, tmp_path / "out", tmp_path / "back", number=1))
    told = campaign.plan(ROUND)
    assert "round 1" in told.reading.source
    assert {(one.replicates, one.plates) for one in told.shown} == {(1, 1), (1, 2)}  # the noise is unknown
    one, two = (next(s for s in told.shown if (s.replicates, s.plates) == (1, p)) for p in (1, 2))
    assert two.difference < one.difference
    assert one.low < one.difference < one.high
    assert {gain.arm for gain in told.gains} == {"near", "free"}
    assert all(0 <= gain.chance <= 1 for gain in told.gains)
    (tmp_path / "round.yaml").write_text("arms: {a: {proposers: random}, b: {proposers: mutate}}\njudge: null\n")
    home = ["--home", str(tmp_path / "home")]
    assert main(["plan", "tfbind8", str(tmp_path / "round.yaml"), "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out)["wells"] == {"a": 48, "b": 48}
    assert main(["plan", "tfbind8", str(tmp_path / "round.yaml"), *home]) == 0
    assert "Smallest difference of arms" in capsys.readouterr().out


def test_the_gain_that_stops_is_the_users(campaign, tmp_path):
    campaign.propose(ROUND, out=tmp_path / "out")
    campaign.ingest(measure_plate(campaign, open_lab("tfbind8"), tmp_path / "out", tmp_path / "back", number=1))
    assert "Stopping is reasonable" in campaign.plan(ROUND, worth=10.0).stop
    assert "is expected to gain more than what is worth a plate" in campaign.plan(ROUND, worth=0.0).stop
    for worth in (-1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match=f"worth is {worth:g}"):
            campaign.plan(ROUND, worth=worth)


def test_noise_is_taken_from_designs_that_were_read_twice(campaign, tmp_path):
    rng, history = np.random.default_rng(0), pd.read_csv(tmp_path / "history.csv")
    history.assign(value=history["value"] + rng.normal(0, 0.03, len(history))).to_csv(tmp_path / "again.csv", index=False)
    campaign.ingest(tmp_path / "again.csv")
    told = campaign.plan(ROUND)
    assert "120 designs read more than once" in told.noise.source
    assert told.noise.low < told.noise.sd < told.noise.high
    assert set(told.best) == {1, 2, 3}
    assert {(one.replicates, one.plates) for one in told.shown} == {(1, 1), (1, 2), (2, 1), (3, 1)}


def test_replicates_of_the_plate_count_as_readings_of_one_design(tmp_path, tfbind8_config):
    """Every design is read twice, before and on the plate: the mean scatters less than a reading, and designs still differ."""
    plate = tfbind8_config.plate.model_copy(update={"replicates": 2})
    run = Campaign.create(tfbind8_config.model_copy(update={"plate": plate}), home=tmp_path / "home")
    start, rng = draw_start(open_lab("tfbind8"), 80, seed=1, quantile=1.0), np.random.default_rng(0)
    noise = 1.5 * float(start.nlargest(20, "value")["value"].std())
    both = pd.concat([start.assign(value=start["value"] + rng.normal(0, noise, len(start))) for _ in range(2)])
    both.to_csv(tmp_path / "history.csv", index=False)
    run.ingest(tmp_path / "history.csv")
    told = run.plan(ROUND)
    assert told.replicates == 2
    assert told.noise.sd == pytest.approx(noise, rel=0.2)
    assert {one.replicates for one in told.shown} == {2, 4, 6}
    assert set(told.best) == {2, 4, 6}
    assert told.reading.sd**2 >= told.noise.sd**2 / 2


@pytest.mark.parametrize(("measured", "said"), [(25, True), (24, False)])
def test_a_plan_says_where_a_space_has_fewer_designs_left_than_the_plate_has_wells(tmp_path, measured, said):
    parameters = [{"type": "choice", "name": "s", "options": ["a", "b"]}, {"type": "integer", "name": "t", "low": 1, "high": 24}]
    told = {"name": "small", "space": {"parameters": parameters}, "plate": {"wells": 24}}
    run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path)
    every = run.config.space.decode(run.config.space.listing()).head(measured)
    every.assign(value=range(measured)).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    assert ("24 wells but only 23 designs of this space" in " ".join(run.plan(ROUND).notes)) == said


def test_too_little_to_plan_by_is_said(tmp_path, tfbind8_config):
    with pytest.raises(CampaignError, match="too few to plan by"):
        Campaign.create(tfbind8_config, home=tmp_path).plan(ROUND)
