"""Other campaigns and old assays as related tasks: they help where they predict what is measured here, else they do nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labloop import Campaign
from labloop.assays.ingest.related import not_ours, on_steps
from labloop.campaign.checks import check_configs
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.history import Related
from labloop.config.read import load_config, parse_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, ConfigError, IngestError
from labloop.proposing.dataset import Dataset
from labloop.proposing.history import cold, is_cold
from labloop.proposing.pipeline import Training, judge, train
from labloop.space.design_space import DesignSpace
from labloop.space.goal import Goal, Target
from labloop.space.parameters import Choice, Mixture, Real, Sequence
from labloop.surrogates.auto import Auto
from labloop.surrogates.gp import GP
from labloop.surrogates.lending import Lending

SPACE = DesignSpace(parameters=(Sequence(name="dna", length=5, alphabet="ACGT"),))
DESIGNS = SPACE.decode(SPACE.listing())


def landscape(seed: int) -> np.ndarray:
    """A value for each design of the space, of letters and of pairs of neighbours."""
    rng = np.random.default_rng(seed)
    letters = DESIGNS["dna"].map(lambda text: [("ACGT").index(one) for one in text]).to_list()
    one, two = rng.normal(size=(5, 4)), rng.normal(size=(5, 4, 4))
    return np.array([sum(one[i, a] for i, a in enumerate(x)) + sum(two[i, a, b] for i, (a, b) in enumerate(pairwise(x)))
                     for x in letters])  # fmt: skip


HERE, OTHER = landscape(0), landscape(1)


def measured(values: np.ndarray, n: int, seed: int = 0) -> Dataset:
    rows = np.random.default_rng(seed).permutation(len(DESIGNS))[:n]
    return Dataset.from_measurements(SPACE, DESIGNS.iloc[rows].reset_index(drop=True), values[rows])


def related(values: np.ndarray, n: int = 150, label: str = "old") -> Dataset:
    return replace(measured(values, n, seed=9), label=label)


def error(fitted: object, values: np.ndarray = HERE) -> float:
    return float(np.sqrt(np.mean((fitted.belief(SPACE.listing())[0] - values) ** 2)))  # type: ignore[attr-defined]


class TestGaussianProcess:
    def test_it_predicts_better_with_a_campaign_that_is_alike_upside_down_or_on_another_scale(self):
        data = measured(HERE, 20)
        alone = GP().fit(data, seed=0)
        for values in (HERE + 0.2 * OTHER, -HERE, 100 * HERE + 7):
            helped = GP().fit(replace(data, history=(related(values),)), seed=0)
            assert [one.used for one in helped.history] == [True]
            assert error(helped) < 0.7 * error(alone)

    def test_a_campaign_that_says_nothing_of_this_one_changes_nothing(self):
        data = measured(HERE, 20)
        alone = GP().fit(data, seed=0)
        fitted = GP().fit(replace(data, history=(related(OTHER),)), seed=0)
        assert [one.used for one in fitted.history] == [False]
        np.testing.assert_array_equal(fitted.belief(SPACE.listing())[0], alone.belief(SPACE.listing())[0])

    def test_of_several_only_those_that_help_are_used(self):
        data = replace(measured(HERE, 20), history=(related(OTHER, label="strange"), related(HERE, label="alike")))
        fitted = GP().fit(data, seed=0)
        assert {one.label: one.used for one in fitted.history} == {"strange": False, "alike": True}
        assert {one.label: one.correlation > 0.6 for one in fitted.history} == {"strange": False, "alike": True}
        assert fitted.pool_notes["history"] == "alike"

    def test_left_out_predictions_are_those_of_a_fit_without_the_design(self):
        fitted = GP().fit(replace(measured(HERE, 20), history=(related(HERE + OTHER),)), seed=0)
        data = measured(HERE, 20)
        mean, _ = fitted.left_out()
        rows = np.arange(1, len(data))
        without = fitted.conditioned(data.take(rows))
        assert without.belief(data.X[:1])[0][0] == pytest.approx(mean[0], abs=0.1 * data.y.std())

    def test_numbers_are_placed_by_gradient_with_history_too(self):
        space = DesignSpace(parameters=(Real(name="a", low=0, high=1), Real(name="b", low=0, high=1)))
        rng = np.random.default_rng(0)

        def made(n: int) -> Dataset:
            designs = pd.DataFrame(rng.random((n, 2)), columns=["a", "b"])
            return Dataset.from_measurements(space, designs, -((designs["a"] - 0.3) ** 2) - (designs["b"] - 0.6) ** 2)

        data = replace(made(8), history=(replace(made(40), label="old"),))
        brief = {"optimised": 2, "samples": 32, "candidates": 128, "generations": 4, "restarts": 1}
        pool = train(Training(arm="a", proposer="qei", options=brief, n=4, seed=0), data).pool
        assert len(set(pool.ids)) == 4
        assert np.abs(pool.X[:2] - [0.3, 0.6]).max() < 0.2


class TestOtherModels:
    def test_members_of_the_judge_learn_what_is_left(self):
        data = replace(measured(HERE, 20), history=(related(HERE),))
        names = ("gp", "forest", "pairwise")
        alone, helped = (Auto(members=names).fit(one, seed=0) for one in (replace(data, history=()), data))
        assert error(helped) < 0.7 * error(alone)
        assert helped.history[0].used

    def test_factors_left_out_are_those_of_fits_without_the_design(self):
        found = Lending.of(replace(measured(HERE, 12), history=(related(HERE),)))
        assert found is not None
        fitted, data = found.fitted, found.data
        all_but_first = fitted.conditioned(replace(data, history=()).take(np.arange(1, 12)))
        without = replace(found, fitted=all_but_first)
        assert without._factors[0][0] == pytest.approx(found._factors[1][0, 0], rel=0.1)

    def test_generators_are_lent_designs_that_they_may_propose(self):
        data = replace(measured(HERE, 20), history=(related(HERE),))
        lent = Auto().lent(data)
        assert len(lent) > len(data)
        assert lent.taken == data.taken
        assert not lent.history
        mine = [i for i, one in enumerate(lent.ids) if one not in lent.borrowed]
        np.testing.assert_array_equal(lent.X[mine], data.X)
        pool = train(Training(arm="a", proposer="fakes:Near", options={}, n=200, seed=0), data).pool
        assert set(pool.ids) & lent.borrowed

    def test_a_campaign_that_does_not_help_lends_nothing(self):
        data = measured(HERE, 20)
        assert Auto().lent(replace(data, history=(related(OTHER),))).fingerprint == data.fingerprint


class TestColdStart:
    def test_history_alone_is_taken_at_its_word(self):
        data = replace(measured(HERE, 2), history=(related(10 * HERE, label="a"), related(HERE, n=60, label="b")))
        assert is_cold(data)
        made = cold(data)
        assert made.taken == data.taken
        assert np.corrcoef(made.y, [dict(zip(SPACE.ids(SPACE.listing()), HERE))[one] for one in made.ids])[0, 1] > 0.9
        assert not is_cold(measured(HERE, 2))
        assert not is_cold(replace(measured(HERE, 5), history=data.history))

    def test_a_judge_and_a_pool_come_of_history_alone(self):
        data = replace(measured(HERE, 0), history=(related(HERE),))
        config = RoundConfig.model_validate({"judge": "gp", "arms": {"a": {"proposers": "gp_mean"}}})
        told = judge(config, data, seed=0, number=1, rounds=2)
        assert told.notes["history"] == [{"label": "old", "designs": 150, "correlation": None, "gain": None, "used": True}]
        pool = train(Training(arm="a", proposer="gp_mean", options={}, n=10, seed=0), data).pool
        value = dict(zip(SPACE.ids(SPACE.listing()), HERE))
        assert np.mean([value[one] for one in pool.ids]) > np.quantile(HERE, 0.9)


def test_each_property_has_its_own_history():
    goal = Goal(targets={"a": Target(assay="a"), "b": Target(assay="b")})
    nobody = np.zeros((0, SPACE.d))
    parts = [measured(HERE, 20), measured(OTHER, 20)]
    data = Dataset.of_properties(goal, parts, pending=nobody, failed=nobody)
    data = replace(data, history=(replace(related(OTHER), column=1),))
    assert [len(data.of(j).history) for j in range(2)] == [0, 1]
    config = RoundConfig.model_validate({"judge": "gp", "arms": {"a": {"proposers": "gp_mean"}}})
    told = judge(config, data, seed=0, number=1, rounds=2).notes["history"]
    assert [(one["label"], one["used"]) for one in told] == [("old", True)]
    nothing = replace(Dataset.of_properties(goal, [measured(HERE, 0)] * 2, pending=nobody, failed=nobody), history=data.history)
    assert not is_cold(nothing)  # of the leading property nobody knows anything
    lead = replace(nothing, history=(*data.history, related(HERE, label="lead")))
    assert len(train(Training(arm="a", proposer="gp_mean", options={}, n=4, seed=0), lead).pool) == 4


def test_history_is_part_of_the_fingerprint_and_follows_its_property():
    data = measured(HERE, 20)
    assert replace(data, history=(related(HERE),)).fingerprint != data.fingerprint
    assert replace(data, history=(related(HERE),)).fingerprint != replace(data, history=(related(OTHER),)).fingerprint


# ---- from file to ledger

CAMPAIGN = """
name: new
space: {parameters: [{name: dna, type: sequence, length: 5, alphabet: ACGT}]}
plate: {wells: 96, use: 8}
rounds: 2
history: {file: old.csv}
"""
ROUND = {"judge": "gp", "arms": {"bo": {"proposers": "gp_mean"}}}


def table(values: np.ndarray, n: int, seed: int = 0) -> pd.DataFrame:
    rows = np.random.default_rng(seed).permutation(len(DESIGNS))[:n]
    return DESIGNS.iloc[rows].assign(value=values[rows])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABLOOP_HOME", raising=False)
    (tmp_path / "campaign.yaml").write_text(CAMPAIGN)
    old = pd.concat([table(HERE, 150, seed=9), pd.DataFrame({"dna": ["AAAAU", "ACG"], "value": [1.0, 2.0]})])
    old.to_csv(tmp_path / "old.csv", index=False)
    table(HERE, 20).to_csv(tmp_path / "start.csv", index=False)
    return tmp_path


def test_a_round_stands_on_what_the_ledger_keeps_of_a_file(folder: Path):
    campaign = Campaign.create("campaign.yaml")
    campaign.ingest("start.csv")
    number = campaign.ensure_round(RoundConfig.model_validate(ROUND))
    (folder / "old.csv").unlink()
    again = Campaign.open("new")
    made = again.propose(RoundConfig.model_validate(ROUND))
    assert made.round == number
    said = again.status()["decisions"]
    assert any("old.csv: 150 designs" in one and "2 rows are of no design of this space" in one for one in said)
    assert any("used old.csv, which ranks today's measurements with a correlation of" in one for one in said)
    told = again.audit(made.picks["design_id"].iloc[0])
    assert any(step.what == "history" and "old.csv" in step.said and "SHA-256" in step.said for step in told.steps)
    assert [one.faults for one in again.ledger.verify()] == [()]


def test_amounts_of_another_campaign_are_moved_to_the_steps_of_this_one():
    space = DesignSpace(
        parameters=(Real(name="dose", low=0, high=1, step=0.1), Mixture(name="m", components=("a", "b"), step=0.5))
    )
    old = pd.DataFrame({"dose": [0.12, 0.5, 1.2, "x"], "a": [0.4, 0.5, 0.3, 0.3], "b": [0.6, 0.5, 0.7, 0.9]}, dtype=object)
    moved = on_steps(old, space)
    assert moved["dose"].tolist() == [0.1, 0.5, 1.2, "x"]
    assert moved[["a", "b"]].to_numpy().tolist() == [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.3, 0.9]]
    assert not_ours(moved, space)[0].tolist() == [False, False, True, True]


def test_a_file_that_changes_or_goes_is_told_and_equal_content_is_kept_once(folder: Path, caplog: pytest.LogCaptureFixture):
    campaign = Campaign.create("campaign.yaml")
    campaign.ingest("start.csv")
    config = RoundConfig.model_validate(ROUND)

    def sources() -> list[dict]:
        events = campaign.ledger.events("new")
        return [one for detail in events.loc[events["kind"] == "history", "detail"] for one in detail["sources"]]

    for _ in range(2):
        campaign.ensure_round(config)
        campaign.close(reason="only to open the next")
    table(HERE, 100, seed=3).to_csv(folder / "old.csv", index=False)
    campaign.ensure_round(config)
    campaign.close(reason="only to open the next")
    (folder / "old.csv").unlink()
    campaign.ensure_round(config)
    assert [one.get("same_as") for one in sources()] == [None, 1, None, 3]
    assert [one["note"] for one in sources()[:3]] == ["", "", "it has changed since the round before"]
    assert "cannot be read any more" in sources()[3]["note"]
    assert "history old.csv: 100 designs (file old.csv)" in caplog.text


def test_the_same_file_in_a_wider_space_is_not_said_to_have_changed(folder: Path, caplog: pytest.LogCaptureFixture):
    campaign = Campaign.create("campaign.yaml")
    campaign.ingest("start.csv")
    campaign.ensure_round(RoundConfig.model_validate(ROUND))
    campaign.close(reason="only to open the next")
    old = pd.read_csv(folder / "old.csv")
    wider = CAMPAIGN.replace("ACGT", "ACGTN")
    assert wider != CAMPAIGN
    with (folder / "old.csv").open("a") as file:
        print(*["ANNNA" if name == "dna" else 1 for name in old.columns], sep=",", file=file)
    campaign.ensure_round(RoundConfig.model_validate(ROUND))
    campaign.close(reason="only to open the next")
    (folder / "campaign.yaml").write_text(wider)
    campaign.revise("campaign.yaml", reason="N is sold")
    campaign.ensure_round(RoundConfig.model_validate(ROUND))
    assert "it is the same, but gave 150 designs before the campaign was revised" in caplog.text
    assert "has changed" not in caplog.text


def test_a_campaign_of_other_columns_is_refused_as_soon_as_both_are_there(folder: Path):
    """It was accepted, called well by `labloop check`, and stopped the first round."""
    (folder / "first.yaml").write_text(
        CAMPAIGN.replace("name: new", "name: first").replace("history: {file: old.csv}", "").replace("dna", "rna")
    )
    (folder / "campaign.yaml").write_text(CAMPAIGN.replace("{file: old.csv}", "[{campaign: first}]"))
    assert "cannot be looked up from here" in check_configs("campaign.yaml")["history"][0]
    Campaign.create("first.yaml")
    for call in (check_configs, Campaign.create):
        with pytest.raises(ConfigError, match=r"first has no column dna \(it designs rna\): .*take it out of history"):
            call("campaign.yaml")
    (folder / "campaign.yaml").write_text(CAMPAIGN)
    campaign = Campaign.create("campaign.yaml")
    (folder / "campaign.yaml").write_text(CAMPAIGN.replace("{file: old.csv}", "[{campaign: first}]"))
    with pytest.raises(ConfigError, match="first has no column dna"):
        campaign.revise("campaign.yaml", reason="related")


def test_a_file_that_was_never_there_stops_a_round_with_its_name(folder: Path):
    campaign = Campaign.create("campaign.yaml")
    campaign.ingest("start.csv")
    (folder / "old.csv").unlink()
    with pytest.raises(IngestError, match=r"old\.csv: cannot be read"):
        campaign.ensure_round(RoundConfig.model_validate(ROUND))


def test_another_campaign_is_history_and_nothing_measured_here_makes_a_first_plate(folder: Path):
    (folder / "first.yaml").write_text(CAMPAIGN.replace("name: new", "name: first").replace("history: {file: old.csv}", ""))
    first = Campaign.create("first.yaml")
    table(HERE, 150, seed=9).to_csv("first.csv", index=False)
    first.ingest("first.csv")
    (folder / "campaign.yaml").write_text(CAMPAIGN.replace("{file: old.csv}", "[{campaign: first}]"))
    campaign = Campaign.create("campaign.yaml")
    assert campaign.status()["next"].startswith("propose round 1")
    made = campaign.propose(RoundConfig.model_validate(ROUND))
    value = dict(zip(SPACE.ids(SPACE.listing()), HERE))
    assert np.mean([value[one] for one in made.picks["design_id"]]) > np.quantile(HERE, 0.9)
    assert any("took first at its word" in one for one in campaign.status()["decisions"])


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ("{campaign: new}", "is this campaign itself"),
        ("{}", "name either a campaign or a file"),
        ("{campaign: old, file: old.csv}", "name either a campaign or a file"),
        ("{campaign: old, value: y}", "are of files"),
        ("[{file: a.csv}, {file: a.csv}]", "stands there twice"),
        ("{file: a.csv, of: yield}", "is no property of this campaign"),
        ("{file: a.csv, columns: {rna: seq}}", "is no column of the space"),
        ("{file: a.csv, nonsense: 1}", "unknown key"),
    ],
)
def test_a_wrong_key_is_told_with_its_place(folder: Path, history: str, said: str):
    (folder / "campaign.yaml").write_text(CAMPAIGN.replace("{file: old.csv}", history))
    with pytest.raises(ConfigError, match="history") as error:
        load_config("campaign.yaml", CampaignConfig)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seq,value\nAAAAA,1\n", "has no column 'dna'.*name it under history: columns"),
        ("dna,score\nAAAAA,1\n", "which column has the values.*history: value"),
        ("dna,value\nAAAAA,1\nAAAAC,one\n", "row 3, value: is no number"),
        ("dna,value\nAAAAU,1\n", "no measured design of this space"),
    ],
)
def test_a_wrong_file_is_told_with_row_and_key(folder: Path, text: str, said: str):
    (folder / "old.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"(?s)history\.0: .*{said}"):
        check_configs("campaign.yaml")


def test_columns_values_directions_and_failures_of_a_file_are_understood(folder: Path):
    (folder / "old.csv").write_text("Seq;Kd;status\nAAAAA;1,5;ok\nAAAAC;2,5;\nAAAAG;;failed_technical\nAAAAT;n/a;\n")
    told = parse_config(
        {**load_config("campaign.yaml", CampaignConfig).model_dump(),
         "history": [{"file": "old.csv", "columns": {"dna": "seq"}, "value": "Kd", "direction": "min"}]}, CampaignConfig,
    )  # fmt: skip
    from labloop.rounds import related as reading

    (one,) = reading.read(told.anchored(folder), None, folder)
    assert dict(zip(one.table["dna"], one.table["y"])) == {"AAAAA": -1.5, "AAAAC": -2.5}
    assert one.skipped == ("2 rows without a value",)


def test_check_says_what_is_read_and_a_campaign_that_is_not_here_is_no_error(folder: Path, capsys: pytest.CaptureFixture[str]):
    main(["check", "campaign.yaml"])
    assert "History: old.csv: 150 designs (file old.csv); 2 rows are of no design" in " ".join(capsys.readouterr().out.split())
    (folder / "campaign.yaml").write_text(CAMPAIGN.replace("{file: old.csv}", "{campaign: gone}"))
    assert "gone: cannot be looked up from here" in check_configs("campaign.yaml")["history"][0]
    with pytest.raises(CampaignError, match="gone"):
        Campaign.create("campaign.yaml").ensure_round(RoundConfig.model_validate(ROUND))


def test_a_campaign_that_has_measured_nothing_yet_is_told_as_one(folder: Path):
    (folder / "first.yaml").write_text(CAMPAIGN.replace("name: new", "name: first").replace("history: {file: old.csv}", ""))
    first = Campaign.create("first.yaml")
    (folder / "campaign.yaml").write_text(CAMPAIGN.replace("{file: old.csv}", "{campaign: first}"))
    none_yet = "has no measured designs yet: take it out of history until it has some"
    assert check_configs("campaign.yaml")["history"] == [f"first: {none_yet}"]
    campaign = Campaign.create("campaign.yaml")
    with pytest.raises(IngestError, match=f"history: first {none_yet}"):
        campaign.ensure_round(RoundConfig.model_validate(ROUND))
    table(HERE, 20, seed=9).to_csv("first.csv", index=False)
    first.ingest("first.csv")
    assert check_configs("campaign.yaml")["history"] == ["first: 20 designs (campaign first)"]


@pytest.mark.parametrize(("seed", "how"), [(9, "designs measured in both"), (0, "what it lets expect of 20 designs")])
def test_check_tells_how_history_ranks_the_start_file(folder: Path, capsys: pytest.CaptureFixture[str], seed: int, how: str):
    rows = np.random.default_rng(9).permutation(len(DESIGNS))
    some = rows[:20] if seed == 9 else rows[-20:]
    DESIGNS.iloc[some].assign(value=HERE[some]).to_csv("start.csv", index=False)
    assert main(["check", "campaign.yaml", "--data", "start.csv"]) == 0
    told = re.search(
        r"History old.csv and this file: rank correlation (\S+) \((.*?)\)", " ".join(capsys.readouterr().out.split())
    )
    assert float(told[1]) > 0.8
    assert how in told[2]


def test_check_says_that_a_history_of_one_design_tells_nothing(folder: Path, capsys: pytest.CaptureFixture[str]):
    old = pd.read_csv("old.csv")
    old.iloc[:1].to_csv("old.csv", index=False)
    DESIGNS.iloc[-20:].assign(value=HERE[-20:]).to_csv("start.csv", index=False)
    assert main(["check", "campaign.yaml", "--data", "start.csv"]) == 0
    assert "History old.csv and this file: nothing can be told" in " ".join(capsys.readouterr().out.split())


def test_options_that_do_not_exist_here_are_told():
    from labloop.assays.ingest.related import not_ours

    space = DesignSpace(parameters=(Choice(name="base", options=("KOAc", "CsOAc")),))
    bad, why = not_ours(pd.DataFrame({"base": ["KOAc", "KOPiv", "KOPiv"]}), space)
    assert bad.tolist() == [False, True, True]
    assert why[0].startswith("2 rows are of no design of this space: base 'KOPiv'")
    assert Related(file=Path("x/old.csv")).label == "old.csv"
