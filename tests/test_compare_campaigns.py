"""Over several campaigns each of them counts once."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_compare import equal_arms, quick

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.compare.campaigns import Across, across
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError
from labloop.space.objective import Objective
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab

ROUND = parse_config(
    {"arms": {"pairs": {"proposers": "pairwise"}, "chance": {"proposers": "random"}}, "judge": None}, RoundConfig
)


def begun(n: int, *, ahead: float, luck: float, seed: int = 0) -> dict:
    """Campaigns in whose every round the first arm is ahead, each with luck of its own that comes again in all its rounds."""
    lucks = np.random.default_rng(seed).normal(size=n) * luck
    return {f"c{i}": quick(equal_arms(4, seed=i, shift=ahead + lucks[i])) for i in range(n)}


def test_a_campaign_is_one_observation():
    found = across(begun(5, ahead=1.0, luck=0.2))
    [gap] = found.gaps
    expected = stats.ttest_1samp(list(gap.by_campaign.values()), 0)
    assert gap.p == pytest.approx(expected.pvalue)
    assert (gap.low, gap.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert gap.decided
    assert found.sentence.startswith("Over 5 campaigns, a is better than b: its mean is")
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_hangs_on_where_bounds_lie_decides_nothing_over_campaigns():
    picks = [equal_arms(4, seed=i, shift=5.0) for i in range(5)]
    assert across({str(i): quick(one) for i, one in enumerate(picks)}).gaps[0].decided
    bounds = [one.assign(censored=np.where(one["arm"] == "a", -1, 0)) for one in picks]
    [gap] = across({str(i): quick(one) for i, one in enumerate(bounds)}).gaps
    assert not gap.decided
    assert gap.low < 0 < gap.high


def test_luck_of_a_start_that_comes_again_in_every_round_decides_nothing_over_campaigns():
    one = begun(6, ahead=0.0, luck=2.0)
    assert any(found.of("a", "b").decided for found in one.values()), "within its one start a campaign cannot see it"
    together = across(one)
    assert not together.gaps[0].decided
    assert "the campaigns cannot tell" in together.sentence


def test_arms_that_began_apart_are_not_compared():
    first, second = (quick(equal_arms(4, seed=i).query("arm == @arm")) for i, arm in enumerate("ab"))
    found = across({"one": first, "two": second})
    assert not found.gaps[0].decided
    assert "a and b share no campaign: of arms that began from different starts nothing can be told" in found.sentence


def test_two_campaigns_are_too_few():
    found = across(begun(2, ahead=5.0, luck=0.0))
    assert math.isnan(found.gaps[0].p)
    assert "it takes 3 campaigns or more" in found.sentence


def test_lower_is_better_where_the_lab_says_so():
    picks = {f"c{i}": quick(equal_arms(4, seed=i, shift=3.0), objective=Objective(direction="min", unit="nM")) for i in range(4)}
    assert "a is better than b" in across(picks).sentence


def within(ahead: float, keeps: float, seed: int) -> pd.DataFrame:
    """Rounds in which the first arm leads by so much, and so large a share of its wells, the worst, keeps the limits."""
    picks = equal_arms(4, seed=seed, shift=ahead)
    place = picks.groupby(["round", "arm"])["y"].rank(pct=True)
    return picks.assign(kept=(picks["arm"] == "b") | (place <= keeps))


def test_wells_that_break_a_limit_are_no_gain_over_campaigns_either():
    def of(keeps: float) -> Across:
        return across({f"c{i}": quick(within(1.0 + i / 10, keeps, i)) for i in range(5)})

    told, plain = of(0.25), begun(5, ahead=1.0, luck=0.2)
    [gap] = told.gaps
    assert gap.p_holm < 0.05
    assert gap.usable < 0 < gap.estimate
    assert not gap.decided
    assert "the campaigns cannot tell a from b" in told.sentence
    assert "Wells that keep the limits: 80 of 320 for a and 320 of 320 for b. A well that breaks a limit is" in told.sentence
    assert json.loads(json.dumps(told.to_dict(), allow_nan=False))["kept"] == {"a": [80, 320], "b": [320, 320]}
    assert of(1.0).gaps[0].decided
    assert "limit" not in across(plain).sentence + json.dumps(sorted(across(plain).to_dict()))


def test_a_campaign_without_limits_counts_beside_others_as_it_is():
    limited = {f"c{i}": quick(within(1.0, 0.25, i)) for i in range(2)}
    free = {f"c{i}": quick(equal_arms(4, seed=i, shift=9.0)) for i in range(2, 5)}
    [gap] = across(limited | free).gaps
    each = [one.of("a", "b").usable for one in limited.values()] + [one.of("a", "b").estimate for one in free.values()]
    assert gap.usable == pytest.approx(np.mean(each))
    assert not gap.outweighed
    assert across(limited | free).kept == {"a": (32, 128), "b": (128, 128)}


def test_from_the_command_line(tmp_path, tfbind8_config, capsys):
    lab, names = open_lab("tfbind8"), ["one", "two", "three"]
    for i, name in enumerate(names):
        run = Campaign.create(tfbind8_config.model_copy(update={"name": name, "seed": i}), home=tmp_path)
        draw_start(lab, 60, seed=i, quantile=1.0).to_csv(tmp_path / "start.csv", index=False)
        run.ingest(tmp_path / "start.csv")
        run.propose(ROUND, out=tmp_path / name)
        run.ingest(measure_plate(run, lab, tmp_path / name, tmp_path / f"{name}-back", number=1))
    at = ["--home", str(tmp_path)]
    assert main(["compare", *names, *at, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["campaigns"] == names
    assert set(told["gaps"][0]["by_campaign"]) == set(names)
    assert main(["compare", *names, *at]) == 0
    assert "Over 3 campaigns" in capsys.readouterr().out
    assert main(["compare", "one", "one", *at]) != 0
    assert "named twice" in capsys.readouterr().err
    assert main(["compare", "one", "two", "--round", "1", *at]) != 0
    for name, told in (("low", {"direction": "min"}), ("elsewhere", {"assay": "counter"})):
        objective = tfbind8_config.objective.model_copy(update=told)
        assays = {**tfbind8_config.assays, "counter": next(iter(tfbind8_config.assays.values()))}
        changed = tfbind8_config.model_copy(update={"name": name, "objective": objective, "assays": assays})
        other = Campaign.create(changed, home=tmp_path)
        with pytest.raises(CampaignError, match=f"differ in {next(iter(told))}"):
            Campaign.open("one", home=tmp_path).compare_with(other)
