"""What people are told: one sign and unit, a bound with its beta, numbers that a bench can set, and the end of the plan."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError
from labloop.rounds.bounds import with_beta
from labloop.runtime.numbers import spelt

WASTE = parse_config(
    {
        "name": "waste",
        "space": {
            "parameters": [
                {"type": "real", "name": "heat", "low": 40, "high": 140},
                {"type": "real", "name": "h", "low": 1, "high": 9},
            ]
        },
        "objective": {"assay": "efactor", "direction": "min", "unit": "g/g"},
        "assays": {"efactor": {}},
        "plate": {"controls": [{"name": "blank", "wells": 72}]},
        "rounds": 2,
    },
    CampaignConfig,
)  # fmt: skip
ROUND = parse_config(
    {
        "arms": {
            "offline": {"proposers": "fakes:Near", "selector": {"conservative": {"beta": 1.5}}, "pool": 60},
            "free": {"proposers": "fakes:Near", "selector": "as_proposed"},
        },
        "judge": {"fakes:Flat": {"std": 0.1}},
    },
    RoundConfig,
)  # fmt: skip


@pytest.fixture
def waste(tmp_path):
    """A campaign that lowers a positive value; one of its reactions was run at 139.9999991 degrees."""
    rng = np.random.default_rng(0)
    heat, hours = np.append(rng.uniform(40, 140, 29), 139.9999991), rng.uniform(1, 9, 30)
    pd.DataFrame({"heat": heat, "h": hours, "value": 0.2 + heat / 200}).to_csv(tmp_path / "history.csv", index=False)
    run = Campaign.create(WASTE, home=tmp_path / "home")
    run.ingest(tmp_path / "history.csv")
    return run


def fill(run, folder, number):
    """Measure a round's plate as a bench does, with the form."""
    sheet = pd.read_csv(folder / f"waste-R{number:02d}_assay.csv", dtype=str)
    sheet["value"] = np.random.default_rng(number).permutation(np.linspace(0.9, 0.3, len(sheet))).round(3).astype(str)
    sheet.to_csv(folder / f"back{number}.csv", index=False)
    run.ingest(folder / f"back{number}.csv")


def cli(capsys, tmp_path, *words, code=0):
    assert main([*map(str, words), "--home", str(tmp_path / "home")]) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_everything_that_a_person_sees_has_the_labs_sign(waste, tmp_path, capsys):
    (tmp_path / "round.yaml").write_text(json.dumps(ROUND.model_dump(mode="json")))
    shown = {"propose": cli(capsys, tmp_path, "propose", "waste", tmp_path / "round.yaml", "-o", tmp_path / "out")}
    fill(waste, tmp_path / "out", 1)
    well = waste.batch(1).wells.dropna(subset="design_id").iloc[0]
    spot = f"{well['plate']}:{well['well']}"
    shown |= {
        "audit": cli(capsys, tmp_path, "audit", "waste", spot),
        "status": cli(capsys, tmp_path, "status", "waste"),
        "compare": cli(capsys, tmp_path, "compare", "waste").split("Differences")[0],
        "picks.csv": (tmp_path / "out" / "waste-R01_picks.csv").read_text().split("\n", 1)[1],
    }
    for what, text in shown.items():
        assert not re.search(r"(?<![\w-])-\d", text), f"{what} shows a value below zero: {text}"
        assert not re.search(r"\b(nan|inf|None)\b", text), f"{what}: {text}"
    assert "g/g, lower is better" in shown["propose"]
    assert "g/g, lower is better" in shown["compare"]
    assert "(below 0: the first arm is better)" in cli(capsys, tmp_path, "compare", "waste").replace("\n", " ")


def test_every_arm_has_the_same_bound_with_a_beta_of_its_own(waste, tmp_path, capsys):
    waste.propose(ROUND, out=tmp_path / "out")
    picks = waste.batch(1).picks
    assert picks.groupby("arm")["beta"].unique().map(list).to_dict() == {"offline": [1.5], "free": [1.0]}
    np.testing.assert_allclose(picks["lcb"], picks["mean"] - picks["beta"] * picks["std"])
    told = pd.read_csv(tmp_path / "out" / "waste-R01_picks.csv")
    assert set(told["bound_beta"]) == {1.5, 1.0}
    assert (told["bound"] > told["predicted"]).all()
    pick = waste.batch(1).picks.iloc[0]
    (step,) = [one for one in waste.audit(pick["design_id"]).steps if one.what == "picked" and pick["arm"] in one.said]
    assert f"predicted {-pick['mean']:.6g} g/g" in step.said
    assert f"bound {-pick['lcb']:.6g} g/g at beta {pick['beta']:.3g}" in step.said
    assert "score" not in step.said or "(its own unit, larger is better)" in step.said


def test_rounds_of_older_ledgers_tell_beta_by_their_numbers():
    picks = pd.DataFrame({"round": [1, 1, 1, 2, 2], "arm": ["a", "a", "b", "a", "a"], "mean": [1.0, 2, 3, 4, 5], "std": 0.5})
    picks = picks.assign(lcb=[0.25, 1.25, 2.5, 3.0, 4.9])
    events = pd.DataFrame({"kind": ["opened", "judged"], "round": [1, 2], "detail": [None, {"arms": {"a": {"beta": -0.5}}}]})
    assert with_beta(picks, events)["beta"].tolist() == [1.5, 1.5, 1.0, -0.5, -0.5]
    own = with_beta(picks, events.iloc[:1])["beta"]
    assert own.iloc[:3].tolist() == [1.5, 1.5, 1.0]
    assert own.iloc[3:].isna().all()  # a selector's own kind of bound has no beta
    assert with_beta(picks.assign(mean=np.nan, std=np.nan, lcb=np.nan), events.iloc[:1])["beta"].isna().all()


def test_a_plate_asks_for_what_a_bench_can_set(waste, tmp_path):
    waste.propose(ROUND, out=tmp_path / "out")
    plate = pd.read_csv(tmp_path / "out" / "waste-R01_platemap.csv", dtype=str).dropna(subset="heat")
    assert len(plate) == 24
    assert plate["heat"].str.fullmatch(r"\d+(\.\d)?").all()
    assert plate["h"].str.fullmatch(r"\d(\.\d{1,3})?").all()
    designs = waste.batch(1).designs
    assert sorted(map(float, plate["heat"])) == sorted(designs["heat"])  # what is printed is what the ledger holds


def test_after_the_planned_rounds_a_person_says_whether_to_go_on(waste, tmp_path, capsys, caplog):
    (tmp_path / "round.yaml").write_text(json.dumps(ROUND.model_dump(mode="json")))
    propose = ("propose", "waste", tmp_path / "round.yaml", "-o", tmp_path / "out")
    for number in (1, 2):
        cli(capsys, tmp_path, *propose)
        assert "labloop ingest" in cli(capsys, tmp_path, "status", "waste")
        cli(capsys, tmp_path, *propose)  # the round that is open is taken up without a word
        fill(waste, tmp_path / "out", number)
        assert ("all 2 planned rounds are done" in waste.status()["next"]) == (number == 2)
    said = cli(capsys, tmp_path, *propose, code=1)
    assert "all 2 planned rounds are done" in said
    assert "labloop propose waste --now" in " ".join(said.split())
    assert "--now goes on with another" in cli(capsys, tmp_path, "status", "waste")
    assert len(waste.status()["rounds"]) == 2
    with pytest.raises(CampaignError, match="all 2 planned rounds are done"):
        waste.propose(ROUND, now=False)
    assert "round 3" in cli(capsys, tmp_path, *propose, "--now")
    assert "one more round than the 2 that were planned" in caplog.text


def test_check_tells_the_wells_that_an_arm_gets(waste, tmp_path, capsys):
    (tmp_path / "round.yaml").write_text(json.dumps(ROUND.model_dump(mode="json")))
    (tmp_path / "waste.yaml").write_text(json.dumps(WASTE.model_dump(mode="json")))
    assert main(["check", str(tmp_path / "waste.yaml"), str(tmp_path / "round.yaml")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "wells at least" in shown
    assert "a continuous space (heat, h)" in shown
    batch = waste.propose(ROUND)
    told = {arm: len(rows) for arm, rows in batch.picks.groupby("arm")}
    shared = batch.picks["design_id"].duplicated().sum()
    assert sum(told.values()) - shared == 24
    assert min(told.values()) >= 12


@pytest.mark.parametrize(
    ("value", "text"), [(10812.3, "10810"), (-123456.0, "-123500"), (3.1e7, "3.1e+07"), (0.00001234, "1.234e-05"), (5.0, "5")]
)
def test_numbers_of_a_plate_reader_have_no_exponent(value, text):
    assert spelt(value) == text


def test_status_tells_the_best_without_an_exponent(waste, capsys, tmp_path):
    (tmp_path / "large.csv").write_text("heat,h,value\n50,2,60123\n")
    run = Campaign.create(waste.config.model_copy(update={"name": "large"}), home=tmp_path / "large")
    run.ingest(tmp_path / "large.csv")
    assert main(["status", "large", "--home", str(tmp_path / "large")]) == 0
    assert "best 60120 g/g" in capsys.readouterr().out
