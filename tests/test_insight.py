"""What the judge says of designs, why a pick was made, and what the judge looks at, with nothing in the ledger changed."""

from __future__ import annotations

import json
import re

import fakes
import numpy as np
import openpyxl
import pandas as pd
import pytest
import yaml

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, DesignError, LabloopError
from labloop.proposing.belief import believing
from labloop.proposing.insight import LEVELS, _numbers, look
from labloop.report import report_of, write_report
from labloop.rounds.why import differences
from labloop.space.design_space import DesignSpace

SPACE = {
    "parameters": [
        {"type": "choice", "name": "solvent", "options": ["DMF", "THF", "water"]},
        {"type": "integer", "name": "temperature", "low": 20, "high": 120},
        {"type": "mixture", "name": "feed", "components": ["acid", "amine"]},
        {"type": "sequence", "name": "tag", "length": 4, "alphabet": "ACGT"},
    ],
    "constraints": [{"type": "excluded", "combinations": [{"solvent": "water", "temperature": 120}]}],
}
ROUND = parse_config(
    {"arms": {"near": {"proposers": "fakes:Near", "selector": "conservative", "pool": 60}, "free": {"proposers": "random"}},
     "judge": "fakes:Ridge"},
    RoundConfig,
)  # fmt: skip
FLAT = ROUND.model_copy(update={"judge": {"fakes:Flat": {}}})


def config(**more: object) -> CampaignConfig:
    objective = {"assay": "hplc", "unit": "%"}
    return parse_config(
        {"name": "coupling", "space": SPACE, "objective": objective, "assays": {"hplc": {}}, "plate": {"wells": 24}, **more},
        CampaignConfig,
    )


def table(n: int = 60, *, seed: int = 0) -> pd.DataFrame:
    """Designs whose yield is made by the solvent and, less, by the first letter."""
    space = DesignSpace.model_validate(SPACE)
    designs = space.decode(space.sample(n, np.random.default_rng(seed)))
    worth = designs["solvent"].map({"DMF": 60.0, "THF": 40.0, "water": 10.0}) + 8.0 * (designs["tag"].str[0] == "A")
    return designs.assign(value=worth.to_numpy(float) + 0.02 * designs["temperature"].to_numpy(float))


def begin(folder):
    made = Campaign.create(config(), home=folder / "home")
    table().to_csv(folder / "start.csv", index=False)
    made.ingest(folder / "start.csv")
    made.ledger.close()


@pytest.fixture
def run(tmp_path, made_once):
    return Campaign.open(config().name, home=made_once(begin, tmp_path) / "home")


def written(path, frame: pd.DataFrame):
    frame.to_csv(path, index=False)
    return path


def fresh(n: int = 5) -> pd.DataFrame:
    return table(n, seed=9).drop(columns="value")


# ---- predict


def test_designs_are_predicted_with_interval_doubt_rules_and_neighbours(run, tmp_path):
    asked = fresh().assign(vial=[f"v{i}" for i in range(5)])
    asked.loc[4, ["solvent", "temperature"]] = ["water", 120]
    head = run.ledger.ends(run.name).head
    found = run.predict(written(tmp_path / "ask.csv", asked[["vial", *reversed(asked.columns[:-1])]]), config=ROUND)
    rows = found.table
    assert rows["row"].tolist() == [2, 3, 4, 5, 6]
    assert rows["vial"].tolist() == ["v0", "v1", "v2", "v3", "v4"]
    assert rows["solvent"].tolist() == asked["solvent"].tolist()
    assert (rows["low"] < rows["predicted"]).all()
    assert (rows["predicted"] < rows["high"]).all()
    assert set(rows["unit"]) == {"%"}
    assert rows["allowed"].tolist() == [True] * 4 + [False]
    assert rows["refused_by"].iloc[4] == "not a design that avoids solvent=water with temperature=120"
    assert pd.isna(rows["rank"].iloc[4])
    assert any(note.endswith("1 of 5 designs is not allowed by the space: " + rows["refused_by"].iloc[4]) for note in found.notes)
    allowed = rows[rows["allowed"]].sort_values("rank")
    assert allowed["predicted"].is_monotonic_decreasing
    assert set(rows["known"]) == {"new"}
    data = run.dataset()
    near, distance = data.space.nearest(data.space.encode(asked[list(data.space.columns)], strict=False), data.X)
    assert rows["nearest_id"].tolist() == [data.ids[i] for i in near]
    assert np.allclose(rows["nearest_distance"], distance)
    assert np.allclose(rows["nearest_value"], data.y[near])
    assert run.ledger.ends(run.name).head == head


@pytest.mark.parametrize("parent", ["MKTAYIAKQRQISFVKSHFSRQLEERLG", None], ids=["mutants", "names of FASTA"])
def test_long_designs_are_told_by_their_short_names(parent, tmp_path, capsys):
    letters = "MKTAYIAKQRQISFVKSHFSRQLEERLG"
    kind = {"parent": parent, "mutations": 2} if parent else {"length": len(letters)}
    space = {"parameters": [{"type": "sequence", "name": "tag", "alphabet": "protein", **kind}]}
    made = Campaign.create(config(space=space), home=tmp_path / "home")
    singles = [f"{letters[:i]}W{letters[i + 1 :]}" for i in range(10)]
    made.ingest(written(tmp_path / "start.csv", pd.DataFrame({"tag": singles, "value": range(10)})))
    (tmp_path / "ask.fasta").write_text("".join(f">clone_{i}\n{one}\n" for i, one in enumerate(singles[:3])))
    rounds = tmp_path / "round.yaml"
    rounds.write_text(yaml.safe_dump(ROUND.model_dump(mode="json", exclude_defaults=True)))
    assert main(["predict", "coupling", str(tmp_path / "ask.fasta"), str(rounds), "--home", str(tmp_path / "home")]) == 0
    told = capsys.readouterr().out
    for i in range(3):
        assert (f"{letters[i]}{i + 1}W" if parent else f"clone_{i}") in told
    assert ("tag_mutations" in made.predict(tmp_path / "ask.fasta", config=ROUND).table) == bool(parent)


def test_a_measured_design_is_told_so_and_its_neighbour_is_another(run):
    known = table().drop(columns="value").head(1)
    rows = run.predict(known, config=ROUND).table
    assert rows["known"].tolist() == ["measured"]
    assert rows["measured"].iloc[0] == pytest.approx(table()["value"].iloc[0])
    assert rows["nearest_id"].iloc[0] != rows["design_id"].iloc[0]
    assert rows["nearest_distance"].iloc[0] > 0


def test_equal_questions_are_answered_without_another_fit_and_new_data_are_learned(run, tmp_path):
    path = written(tmp_path / "ask.csv", fresh())
    before = len(fakes.FITTED)
    first = run.predict(path, config=ROUND)
    again = Campaign.open(run.name, home=tmp_path / "home").predict(path, config=ROUND)
    assert len(fakes.FITTED) == before + 1
    pd.testing.assert_frame_equal(first.table, again.table)
    run.ingest(written(tmp_path / "more.csv", table(20, seed=5)))
    later = run.predict(path, config=ROUND)
    assert later.fingerprint != first.fingerprint
    assert len(fakes.FITTED) == before + 2


def test_the_open_rounds_own_judge_says_what_its_plate_says(run):
    batch = run.propose(ROUND)
    designs = batch.designs.loc[batch.picks["design_id"]].reset_index(drop=True)
    rows = Campaign.open(run.name, home=run.folder.parent).predict(designs).table
    assert np.allclose(rows["predicted"], batch.picks["mean"])
    assert set(rows["known"]) == {"in the lab"}


def test_faults_are_told_by_row_and_a_file_is_taken_whole_or_not_at_all(run, tmp_path):
    bad = fresh(4).astype(object)
    bad.loc[1, "solvent"] = "brine"
    bad.loc[3, "temperature"] = 500
    with pytest.raises(DesignError, match=r"ask\.csv: 2 rows of 4 cannot be designs of coupling") as error:
        run.predict(written(tmp_path / "ask.csv", bad), config=ROUND)
    assert [(one.row, one.column) for one in error.value.faults] == [(3, "solvent"), (5, "temperature")]
    with pytest.raises(DesignError, match=r"row 1: has no column tag"):
        run.predict(written(tmp_path / "ask.csv", fresh(2).drop(columns="tag")), config=ROUND)
    ids = pd.DataFrame({"design_id": [run.dataset().ids[0], "0123456789ab"]})
    with pytest.raises(DesignError, match="is no design that labloop knows"):
        run.predict(written(tmp_path / "ids.csv", ids), config=ROUND)
    assert len(run.predict(written(tmp_path / "ids.csv", ids.head(1)), config=ROUND).table) == 1


def test_predictions_go_to_csv_excel_and_json(run, tmp_path):
    found = run.predict(fresh(), config=ROUND)
    frame = pd.read_csv(found.write(tmp_path / "out.csv"))
    assert list(frame.columns) == list(found.table.columns)
    assert np.allclose(frame["predicted"], found.table["predicted"])
    book = openpyxl.load_workbook(found.write(tmp_path / "out.xlsx"))
    assert book.sheetnames == ["predictions"]
    told = json.loads(found.write(tmp_path / "out.json").read_text())
    assert told["designs"][0]["predicted"] == pytest.approx(found.table["predicted"].iloc[0])
    assert told["units"] == {"predicted": "%"}
    with pytest.raises(LabloopError, match=r"name the file \.csv, \.xlsx"):
        found.write(tmp_path / "out.txt")


@pytest.mark.parametrize("unit", ["nM", "/min"])
def test_a_unit_between_brackets_is_shown(tmp_path, capsys, unit):
    objective = {"assay": "hplc", "unit": unit}
    made = Campaign.create(config(objective=objective), home=tmp_path)
    made.ingest(written(tmp_path / "start.csv", table()))
    (tmp_path / "round.yaml").write_text(yaml.safe_dump({"arms": {"a": {"proposers": "random"}}, "judge": "fakes:Ridge"}))
    asked = written(tmp_path / "ask.csv", fresh())
    told = ["predict", made.name, str(asked), str(tmp_path / "round.yaml"), "--home", str(tmp_path), "--plugins", "fakes"]
    assert main(told) == 0
    assert f"[{unit}]" in capsys.readouterr().out


def test_all_other_columns_of_a_file_come_along(run, tmp_path):
    """Those that labloop knows of files of readings were lost: note, sample, plate, well, value, status and more."""
    theirs = {
        "note": "a", "sample": "T1", "plate": "P", "well": "A1", "value": "5", "status": "ok", "measured_at": "2026-01-02",
        "Lot": "7", "unit": "mg", "rank": "3", "row": "x", "chance": "low", "predicted": "0.5", "nearest_neighbour": "n",
    }  # fmt: skip
    asked = fresh().assign(**theirs)
    for designs in (written(tmp_path / "ask.csv", asked), asked):
        found = run.predict(designs, config=ROUND)
        rows, renamed = found.table, {"unit", "rank", "row", "chance", "predicted"}
        for name, text in theirs.items():
            assert rows[f"{name}_in_file" if name in renamed else name].tolist() == [text] * len(asked), name
        assert rows["row"].tolist() != ["x"] * len(asked)
        assert rows.columns.is_unique
        assert "The file's column unit is unit_in_file here" in found.notes
    again = run.predict(found.write(tmp_path / "out.csv"), config=ROUND).table
    assert again["rank_in_file"].tolist() == ["3"] * len(asked)
    assert again["rank_in_file_in_file"].tolist() == found.table["rank"].astype(str).tolist()
    assert "design_id_in_file" not in again  # as it says the same
    stamped = run.predict(fresh().assign(on=pd.Timestamp("2026-01-02")), config=ROUND)
    assert json.loads(stamped.write(tmp_path / "out.json").read_text())["designs"][0]["on"].startswith("2026-01-02")


@pytest.mark.parametrize("ending", ["csv", "xlsx", "parquet", "json"])
def test_whatever_a_table_in_python_holds_beside_its_designs_can_be_written(run, tmp_path, ending):
    asked = fresh().iloc[:2]
    theirs = {
        "when": pd.to_datetime(["2026-01-02", None]), "zone": pd.to_datetime(["2026-01-02", None]).tz_localize("UTC"),
        "any": [["a"], {"b": 1}], "some": [1, "x"], "predicted": [1, 2],
    }  # fmt: skip
    asked = asked.assign(**theirs)
    asked.insert(0, "predicted", [3, 4], allow_duplicates=True)
    found = run.predict(asked, config=ROUND)
    assert found.table.columns.is_unique
    assert found.table["any"].tolist() == ["['a']", "{'b': 1}"]
    assert found.write(tmp_path / f"out.{ending}").stat().st_size
    assert [row["when"] is None for row in found.to_dict()["designs"]] == [False, True]


def test_fasta_is_asked_about_and_picked(tmp_path, tfbind8_config):
    run = Campaign.create(tfbind8_config, home=tmp_path / "home")
    rng = np.random.default_rng(0)
    letters = ["".join(rng.choice(list("ACGT"), 8)) for _ in range(40)]
    run.ingest(written(tmp_path / "start.csv", pd.DataFrame({"dna": letters, "value": rng.random(40)})))
    (tmp_path / "ask.fasta").write_text(">first note=good\nACGT\nACGT\n>second\nCCCCACGA\n")
    found = run.predict(tmp_path / "ask.fasta", config=ROUND)
    assert found.table["note"].tolist() == ["good", ""]
    assert found.table["name"].tolist() == ["first", "second"]
    assert found.table["row"].tolist() == [1, 4]
    assert run.pick(tmp_path / "ask.fasta", arm="chemist", by="Anna").designs == 2


def test_every_property_is_predicted_and_the_chance_to_keep_the_limits(tmp_path):
    several = config(objectives={"gloss": {"unit": "GU"}, "cost": {"direction": "min", "unit": "EUR"}},
                     constraints={"smell": {"at_most": 3}}, objective=None, assays={})  # fmt: skip
    run = Campaign.create(several, home=tmp_path / "home")
    frame = table(40).rename(columns={"value": "gloss"})
    rng = np.random.default_rng(1)
    run.ingest(written(tmp_path / "start.csv", frame.assign(cost=frame["temperature"] / 10 + 1.0, smell=rng.uniform(1, 5, 40))))
    rows = run.predict(fresh(), config=ROUND).table
    assert {"gloss", "gloss_low", "cost", "cost_high", "smell", "chance"} <= set(rows.columns)
    assert np.corrcoef(rows["cost"], rows["temperature"])[0, 1] > 0.9
    assert rows["chance"].between(0, 1).all()
    theirs = run.predict(written(tmp_path / "theirs.csv", fresh().assign(gloss=1, row=2, cost=3)), config=ROUND).table
    assert theirs.columns.is_unique
    assert theirs["gloss"].tolist() == rows["gloss"].tolist()
    assert theirs["row"].tolist() == [2, 3, 4, 5, 6]
    plan = run.plan(ROUND)
    assert plan.incumbent == frame["gloss"].max()  # wells are compared by the leading objective
    cost = run.insight(config=ROUND, fits=2, property="cost")
    assert cost.factors[0].name == "temperature"
    with pytest.raises(CampaignError, match="has no property 'weight'"):
        run.insight(config=ROUND, property="weight")


def test_of_a_property_that_nobody_measured_nothing_is_said_and_all_else_is(tmp_path, capsys):
    several = config(objectives={"gloss": {"unit": "GU"}, "cost": {"direction": "min", "unit": "EUR"}},
                     constraints={"smell": {"at_most": 3, "required": False}}, objective=None, assays={})  # fmt: skip
    run = Campaign.create(several, home=tmp_path / "home")
    frame = table(20).rename(columns={"value": "gloss"})
    run.ingest(written(tmp_path / "start.csv", frame.assign(cost=frame["temperature"] / 10 + 1.0)))
    found = run.predict(fresh(), config=ROUND)
    assert found.table[["rank", "gloss", "cost", "cost_low"]].notna().all().all()
    assert found.table[["smell", "smell_low", "smell_belief_std", "chance"]].isna().all().all()
    assert "Nothing can be said of smell, nor of the chance of keeping every limit" in found.notes[1]
    pd.testing.assert_frame_equal(run.predict(fresh(), config=ROUND).table, found.table)  # as it was kept
    with pytest.raises(CampaignError, match=r"0 measured designs of smell, .* --assay smell"):
        run.insight(config=ROUND, property="smell")
    ask = written(tmp_path / "ask.csv", fresh())
    capsys.readouterr()
    assert main(["predict", run.name, str(ask), "--home", str(tmp_path / "home")]) == 0
    told = capsys.readouterr().out
    assert "– to –" not in told
    assert "chance: that" not in told


# ---- why a pick


def test_a_pick_is_explained_in_a_sentence(run, tmp_path):
    batch = run.propose(ROUND)
    one = batch.picks[batch.picks["arm"] == "near"].iloc[0]
    well = batch.wells[batch.wells["design_id"] == one["design_id"]].iloc[0]
    told = run.why(f"{well['plate']}:{well['well']}")
    assert told.design_id == one["design_id"]
    assert told.picks[0]["predicted"] == pytest.approx(one["mean"])
    assert told.picks[0]["low"] < one["mean"] < told.picks[0]["high"]
    assert told.picks[0]["beta"] == pytest.approx(one["beta"])
    assert any(offer["proposer"] == "fakes:Near" and offer["n"] == 60 for offer in told.offers)
    nearest = run.dataset().ids.index(told.nearest["design_id"])
    assert told.nearest["value"] == pytest.approx(run.dataset().y[nearest])
    for word in (
        "picked in round 1 by near (1st of its",
        "The nearest design measured then is",
        "nine readings of ten",
        "at beta",
        "%",
    ):
        assert word in told.said
    assert told.measured is None
    assert run.why(one["design_id"]).picks == told.picks
    last = run.veto(f"{well['plate']}:{well['well']}", reason="cloudy")
    assert f"{run.why(last.replacement).picks[0]['rank']}th of its 13 picks" in run.why(last.replacement).said
    mine = run.dataset().ids[0]
    assert "no proposer of labloop offered it" in run.why(mine).said
    assert "It was measured at" in run.why(mine).said
    with pytest.raises(CampaignError, match="knows no design"):
        run.why("ffff")


def test_under_a_logarithm_each_end_of_a_range_has_its_own_digits(tmp_path):
    logs = config(objective={"assay": "hplc", "unit": "nM", "direction": "min", "transform": "log"})
    run = Campaign.create(logs, home=tmp_path / "home")
    run.ingest(written(tmp_path / "start.csv", table(20)))
    batch = run.propose(ROUND.model_copy(update={"judge": {"fakes:Flat": {"std": 3.0}}}))
    one = run.why(batch.picks["design_id"].iloc[0])
    low, high = re.search(r"nine readings of ten between (\S+) and ([0-9,]+)", one.said).groups()
    assert float(low) == pytest.approx(one.picks[0]["low"], rel=0.01)
    assert float(high.replace(",", "")) == pytest.approx(one.picks[0]["high"], rel=0.01)


def test_a_pick_by_chance_is_said_to_be_one(run, caplog):
    selector = {"conservative": {"hope": 1.0, "beyond_chance": 1e6}}
    arm = {"proposers": "fakes:Near", "selector": selector, "pool": 60}
    batch = run.propose(parse_config({"arms": {"near": arm}, "judge": {"auto": {"members": ["pairwise"]}}}, RoundConfig))
    assert set(batch.picks["proposer"]) == {"random"}
    n = len(batch.picks)
    (warned,) = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert f"can hardly be told from chance: {n} of {n} picks of arm near are drawn at random" in warned
    said = run.why(batch.picks["design_id"].iloc[0]).said
    assert "It was drawn at random, as the judge could hardly be told from chance" in said
    assert "at beta" not in said


def test_what_differs_is_said_letter_by_letter_on_the_strand_that_is_nearest():
    mixed = DesignSpace.model_validate(SPACE)
    old = pd.DataFrame([{"solvent": "DMF", "temperature": 60, "acid": 0.5, "amine": 0.5, "tag": "ACGT"}])
    new = old.assign(solvent="THF", temperature=80, tag="ACGA")
    assert differences(mixed, old, new) == ["solvent: DMF → THF", "temperature: 60 → 80", "tag 4: T → A"]
    duplex = DesignSpace.model_validate(
        {"parameters": [{"type": "sequence", "name": "dna", "length": 6}], "symmetries": ["reverse_complement"]}
    )
    # TTTTTC is GAAAAA's other strand
    lengths = DesignSpace.model_validate({"parameters": [{"type": "sequence", "name": "tag", "length": [3, 6]}]})
    short, long = pd.DataFrame({"tag": ["ACG"]}), pd.DataFrame({"tag": ["ACGTA"]})
    assert differences(lengths, short, long) == ["tag 4: – → T", "tag 5: – → A"]
    assert differences(lengths, long, short) == ["tag 4: T → –", "tag 5: A → –"]
    assert len(differences(duplex, pd.DataFrame({"dna": ["TTTTTC"]}), pd.DataFrame({"dna": ["GAAAAC"]}))) == 1


# ---- what the judge looks at


def test_what_decides_is_found_with_its_direction_and_spread(run):
    found = run.insight(config=ROUND)
    assert found.trusted
    assert found.rho > 0.8
    assert found.rho_low < found.rho < found.rho_high
    assert [one.name for one in found.factors[:2]] == ["solvent", "tag 1"]
    assert all(one.spread >= 0 for one in found.factors)
    assert found.factors[0].importance > 3 * abs(found.factors[-1].importance)
    solvents = {one.level: one for one in found.effects if one.factor == "solvent"}
    assert solvents["DMF"].value > solvents["THF"].value > solvents["water"].value
    assert sum(one.n for one in solvents.values()) == 60
    assert solvents["DMF"].low <= solvents["DMF"].value <= solvents["DMF"].high
    letters = {one.level: one.value for one in found.effects if one.factor == "tag 1"}
    assert max(letters, key=letters.get) == "A"
    temperatures = [one for one in found.effects if one.factor == "temperature"]
    assert [one.number for one in temperatures] == sorted(one.number for one in temperatures)
    assert {one.level.split()[0] for one in found.effects if one.factor == "feed"} == {"acid", "amine"}


def test_positions_that_some_designs_do_not_have_are_told_too(tmp_path):
    space = {"parameters": [{"type": "sequence", "name": "dna", "alphabet": "ACGT", "length": [4, 6]}]}
    run = Campaign.create(config(space=space), home=tmp_path / "home")
    designs = run.config.space.decode(run.config.space.sample(40, np.random.default_rng(0)))
    run.ingest(written(tmp_path / "start.csv", designs.assign(value=designs["dna"].str.len().to_numpy(float))))
    found = run.insight(config=ROUND, fits=2)
    assert "no letter" in {one.level for one in found.effects}


def test_a_judge_that_knows_nothing_is_not_trusted(run, tmp_path):
    flat = run.insight(config=FLAT)
    assert not flat.trusted
    assert "cannot be trusted" in flat.trust
    assert all(one.importance == 0 for one in flat.factors)
    shuffled = table().assign(value=np.random.default_rng(3).permutation(table()["value"]))
    other = Campaign.create(config(name="noise"), home=tmp_path / "home")
    other.ingest(written(tmp_path / "noise.csv", shuffled))
    assert not other.insight(config=ROUND).trusted


def test_an_answer_is_kept_and_shown_in_predictions_and_report(run, tmp_path):
    run.propose(ROUND)
    assert "labloop why coupling" in " ".join(run.predict(fresh()).notes)
    assert "What the judge looks at" not in write_report(tmp_path / "before.html", report_of(run)).read_text()
    before = len(fakes.FITTED)
    found = run.insight()
    assert len(fakes.FITTED) == before + found.fits
    assert run.insight() == found
    assert len(fakes.FITTED) == before + found.fits
    assert found.trust in run.predict(fresh()).notes
    page = write_report(tmp_path / "after.html", report_of(run)).read_text()
    assert "What the judge looks at" in page
    assert found.trust in page
    assert 'data-figure="f-importance"' in page
    for kept in run.folder.rglob("*.json"):  # as another release, or an accident, may leave them
        kept.write_text('{"judge": 1}')
    assert "What the judge looks at" not in write_report(tmp_path / "spoiled.html", report_of(run)).read_text()
    assert "labloop why coupling" in " ".join(run.predict(fresh()).notes)
    assert run.insight() == found
    predicted = run.predict(fresh()).table
    for kept in run.folder.rglob("predictions-*.json"):
        kept.write_text(json.dumps({one: {"mean": [1]} for one in predicted["design_id"]}))
    pd.testing.assert_frame_equal(run.predict(fresh()).table, predicted)


def test_too_few_designs_are_said_so(tmp_path):
    run = Campaign.create(config(), home=tmp_path / "home")
    with pytest.raises(CampaignError, match=r"0 measured designs; a judge of others needs 5 at least: ingest 5 more"):
        run.predict(fresh())
    run.ingest(written(tmp_path / "one.csv", table(1, seed=5)))
    with pytest.raises(CampaignError, match=r"1 measured design; .* ingest 4 more .* 'labloop why \w+ PLATE:WELL'"):
        run.insight(config=ROUND)
    run.ingest(written(tmp_path / "few.csv", table(8)))
    with pytest.raises(CampaignError, match=r"ingest 3 more"):
        run.insight(config=ROUND)
    with pytest.raises(CampaignError, match="two at least"):
        run.insight(config=ROUND, fits=1)


def test_the_judge_is_asked_about_many_designs_at_once_and_about_none_twice(run):
    asked = []

    class Noting:
        def __init__(self, posterior):
            self.posterior = posterior

        def __call__(self, X):
            asked.append(X)
            return self.posterior(X)

    data, ridge = run.dataset(), fakes.Ridge()
    found = look(
        lambda part, seed: believing(Noting(ridge.fit(part, seed=seed))), data, judge="ridge", fits=2, seed=0, to_value=np.asarray
    )
    assert len(asked) < len(found.factors)
    assert all(len(np.unique(X, axis=0)) == len(X) for X in asked)


# ---- the commands


def test_the_commands_speak_to_people_and_programs(run, tmp_path, capsys):
    home = ["--home", str(tmp_path / "home")]
    (tmp_path / "round.yaml").write_text(json.dumps(ROUND.model_dump(mode="json")))
    ask = str(written(tmp_path / "ask.csv", fresh()))

    def said(*arguments: str, code: int = 0) -> str:
        assert main([*arguments, *home]) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    text = said("predict", "coupling", ask, str(tmp_path / "round.yaml"), "-o", str(tmp_path / "out.csv"))
    assert "predicted [%]" in text
    assert "5 designs, one a row" in text
    assert len(pd.read_csv(tmp_path / "out.csv")) == 5
    assert len(json.loads(said("predict", "coupling", ask, str(tmp_path / "round.yaml"), "--json"))["designs"]) == 5
    text = said("why", "coupling", "--round", str(tmp_path / "round.yaml"))
    assert "The judge can be read" in text
    assert "solvent" in text
    assert json.loads(said("why", "coupling", "--round", str(tmp_path / "round.yaml"), "--json"))["trusted"] is True
    one = run.dataset().ids[0]
    assert "It was measured at" in said("why", "coupling", one)
    assert json.loads(said("why", "coupling", one, "--json"))["design_id"] == one
    bad = str(written(tmp_path / "bad.csv", fresh(2).assign(solvent="brine")))
    text = said("predict", "coupling", bad, code=1)
    assert "is none of the options" in text
    assert "run this again" in text


def test_no_whole_number_is_a_level_twice():
    column = np.array([0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 119, 120, 121, 122, 123, 124, 125]) / 200
    told = [number * 200 for number, _ in _numbers(np.repeat(column, 3))]
    assert len(told) == LEVELS
    assert np.abs(np.array(told) - np.round(told)).max() < 1e-9
