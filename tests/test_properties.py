"""Several properties of a campaign: its file, the lab's form and files, the dataset, where it stands, and its revision."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from fakes import Flat

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.cli.properties import lines
from labloop.compare.hypervolume import _farthest, compare_fronts
from labloop.compare.statistics import holm
from labloop.config import CampaignConfig, RoundConfig, load_config, parse_config, preset
from labloop.errors import ConfigError, IngestError, MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.panel import panel_of
from labloop.proposing.pool import Pool
from labloop.proposing.selectors import Conservative
from labloop.proposing.success import Success
from labloop.report.collect import collect
from labloop.report.compromises import Several, open_limits, sentences
from labloop.report.compromises import table as tabled
from labloop.rounds.outcome import compare_rounds
from labloop.rounds.outlook import outlook
from labloop.rounds.properties import compromises
from labloop.rounds.why import why
from labloop.space.goal import Goal
from labloop.space.pareto import expected_reach, hypervolume, nondominated, rays, reach, unit_volume
from labloop.studies.simulate import open_lab, simulate
from labloop.surrogates.gp import GP

BASE = {
    "name": "paint",
    "space": {
        "parameters": [{"name": "a", "type": "real", "low": 0, "high": 1}, {"name": "b", "type": "real", "low": 0, "high": 1}]
    },
    "plate": {"wells": 96, "edge": False},
}
TWO = {"objectives": {"gloss": {"unit": "GU"}, "cost": {"direction": "min", "unit": "EUR"}}}
LIMITED = {**TWO, "constraints": {"smell": {"at_most": 3}}}
ROUND = parse_config({"arms": {"near": {"proposers": "fakes:Near", "selector": "random"}}, "judge": "fakes:Flat"}, RoundConfig)


def config(**more: object) -> CampaignConfig:
    return parse_config({**BASE, "plate": {"wells": 24}, **more}, CampaignConfig)


def start(n: int = 20, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.random((n, 2)).round(3), columns=["a", "b"])
    return table.assign(
        gloss=(100 * table["a"]).round(3), cost=(10 * table["a"] + 5 * table["b"] + 1).round(3), smell=(5 * table["b"]).round(3)
    )


def begin(folder):
    run = Campaign.create(config(**LIMITED), home=folder)
    start().to_csv(folder / "start.csv", index=False)
    run.ingest(folder / "start.csv")
    run.ledger.close()


@pytest.fixture
def paint(tmp_path, made_once):
    return Campaign.open("paint", home=made_once(begin, tmp_path))


# ---- the file


def test_the_first_objective_leads_and_every_property_has_an_assay():
    made = config(**LIMITED)
    assert (made.objective.assay, made.objective.unit) == ("gloss", "GU")
    assert list(made.assays) == ["gloss", "cost", "smell"]
    assert made.goal is not None
    assert made.goal.names == ("gloss", "cost", "smell")
    assert parse_config(json.loads(made.model_dump_json()), CampaignConfig) == made


def test_one_objective_stays_as_it_was():
    assert config().goal is None
    assert config(objectives={"gloss": {}}).goal is None  # one of several is one


def test_a_limit_of_an_objective_is_of_the_same_values():
    goal = config(
        objectives={"gloss": {}, "cost": {"direction": "min", "transform": "log"}}, constraints={"cost": {"at_most": 8}}
    ).goal
    assert goal is not None
    assert goal.names == ("gloss", "cost")
    assert goal.bounds[:, 1].tolist() == [-np.log(8), np.inf]
    assert goal.feasible(goal.to_y(np.array([[1.0, 7.9], [1.0, 8.1]]))).tolist() == [True, False]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"constraints": {"smell": {}}}, "constraints.smell: gives no limit"),
        ({"constraints": {"smell": {"at_least": 4, "at_most": 3}}}, "nothing would do"),
        ({"objectives": {"gloss": {"weight": 0}, "cost": {}}}, "objectives.gloss.weight"),
        ({"objectives": {"gloss": {"treshold": 0}, "cost": {}}}, "objectives.gloss.treshold: unknown key"),
        ({"objectives": {"gloss": {"assay": "x"}, "cost": {"assay": "x"}}}, "measures two of them"),
        ({"objectives": {"gloss": {}, "cost": {}}, "objective": {"assay": "smell"}}, "give one of them"),
        ({"objectives": {"a": {}, "cost": {}}}, "objectives.a: is the name of another column, of the design"),
        ({"objectives": {"gloss": {"required": False}, "cost": {"required": False}}}, "one at least must be required"),
        ({"constraints": {"smell": {"at_least": -1, "transform": "log"}}}, "no logarithm"),
        (
            {"objectives": {"gloss": {"assay": ["x", "y"]}, "cost": {}}},
            r"objectives.gloss.assay: is one assay's name, not \['x', 'y'\]",
        ),
        ({"constraints": {"smell": {"at_least": 4, "assay": ["x"]}}}, "constraints.smell.assay: is one assay's name"),
        ({"objective": {"assay": ["x", "y"]}}, "objective.assay: is the name of one assay"),
    ],
)
def test_a_mistake_is_told_with_its_place(more, said):
    with pytest.raises(ConfigError, match=said):
        config(**more)


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ("objectives: {gloss: {column: x}, cost: {column: x}}", "objectives.cost.column: column 'x' is read as 'gloss' already"),
        ("objectives: {gloss: {}, cost: {column: gloss}}", "objectives.cost.column: column 'gloss' is read as 'gloss' already"),
        ("objectives: {gloss: {}, cost: {}}\nconstraints: {smell: {column: cost, at_least: 1}}", "constraints.smell.column"),
    ],
    ids=["one column", "another's name", "a limit's"],
)
def test_two_properties_cannot_be_read_from_one_column(properties, said, tmp_path):
    file = tmp_path / "paint.yaml"
    file.write_text(f"name: paint\nspace: {{parameters: [{{type: real, name: a, low: 0, high: 1}}]}}\n{properties}\n")
    with pytest.raises(ConfigError, match=said):
        load_config(file, CampaignConfig)


# ---- the lab's files


def test_a_table_with_a_column_a_property_is_one_file(paint, tmp_path):
    data = paint.dataset()
    assert data.properties is not None
    assert data.properties.Y.shape == (20, 3)
    table = (
        start()
        .assign(design_id=data.space.ids(data.space.encode(start()[["a", "b"]])))
        .set_index("design_id")
        .loc[list(data.ids)]
    )
    assert np.allclose(data.properties.Y, table[["gloss", "cost", "smell"]].to_numpy() * [1, -1, 1])
    assert "in the ledger already" in paint.ingest(tmp_path / "start.csv").note


def test_a_table_of_several_properties_needs_its_design_columns_named_once(tmp_path):
    run = Campaign.create(config(**LIMITED, assays={"gloss": {"columns": {"a": "Binder", "b": "Filler"}}}), home=tmp_path)
    start().rename(columns={"a": "Binder", "b": "Filler"}).to_csv(tmp_path / "start.csv", index=False)
    assert run.ingest(tmp_path / "start.csv").n_measured == 60


def test_a_table_without_designs_is_told_both_ways_to_name_them(tmp_path):
    run = Campaign.create(config(**LIMITED), home=tmp_path)
    start().rename(columns={"a": "Binder", "b": "Filler"}).to_csv(tmp_path / "start.csv", index=False)
    with pytest.raises(IngestError) as told:
        run.ingest(tmp_path / "start.csv")
    assert "well: <the file's name for it>" in str(told.value)
    assert "b: <the file's name for it>" in str(told.value)


def test_a_blank_cell_is_a_value_that_was_not_measured(tmp_path):
    run = Campaign.create(config(**LIMITED), home=tmp_path)
    start().assign(cost=start()["cost"].where(start().index % 2 == 0)).to_csv(tmp_path / "start.csv", index=False)
    receipt = run.ingest(tmp_path / "start.csv")
    assert receipt.n_measured == 50
    data = run.dataset()
    assert data.properties is not None
    assert np.isnan(data.properties.Y).sum(0).tolist() == [0, 10, 0]
    assert np.isfinite(data.y).all()
    assert len(data.of(1)) == 10


def test_an_assay_each_is_taken_by_name(tmp_path):
    run = Campaign.create(config(**TWO), home=tmp_path)
    for name in ("gloss", "cost"):
        start()[["a", "b", name]].rename(columns={name: "value"}).to_csv(tmp_path / f"{name}.csv", index=False)
    with pytest.raises(IngestError, match="which of the campaign's properties"):
        run.ingest(tmp_path / "gloss.csv")
    run.ingest(tmp_path / "gloss.csv", assay="gloss")
    run.ingest(tmp_path / "cost.csv", assay="cost")
    assert run.status()["properties"]["cost"]["designs"] == 20


def test_faults_of_all_properties_are_told_at_once(tmp_path):
    run = Campaign.create(config(**TWO), home=tmp_path)
    table = start(6).astype(object)
    table.loc[1, "gloss"], table.loc[4, "cost"] = "high", "low?"
    table.to_csv(tmp_path / "start.csv", index=False)
    with pytest.raises(IngestError) as refused:
        run.ingest(tmp_path / "start.csv")
    assert {(fault.row, fault.column) for fault in refused.value.faults} == {(3, "gloss"), (6, "cost")}


def test_explain_shows_every_property(paint, tmp_path):
    start(4, seed=5).to_csv(tmp_path / "more.csv", index=False)
    told = paint.explain(tmp_path / "more.csv")
    assert told.refusal is None
    assert set(told.columns) >= {"gloss", "cost", "smell"}
    assert told.rows is not None
    assert set(told.rows["assay"]) == {"gloss", "cost", "smell"}


def test_a_form_in_excel_has_a_column_a_property_and_is_taken_back(paint, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    paint.propose(ROUND)
    place = paint.export(tmp_path / "out", exporters={"form": {}})["form"]
    book = openpyxl.load_workbook(place)
    sheet = book["results"]
    header = [cell.value for cell in sheet[1]]
    assert header[:-1] == list(pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv").columns)[:-1]
    assert header[:5] == ["plate", "well", "gloss", "cost", "smell"]
    for row in range(2, sheet.max_row + 1):
        for column, value in ((3, 20 + row), (4, 2 + row / 10), (5, 1 + row / 100)):
            sheet.cell(row, column).value = value
    book.save(place)
    assert paint.ingest(place).n_rows == 3 * (sheet.max_row - 1)
    assert paint.state(1) == "MEASURED"


def test_only_what_is_read_is_not_called_ignored(paint, tmp_path):
    start(4, seed=5).assign(gloss_unit="GU", ink="red").to_csv(tmp_path / "more.csv", index=False)
    assert "ignored ink;" in paint.ingest(tmp_path / "more.csv", dry_run=True).dialect
    assert "ignored cost, smell, ink" in paint.ingest(tmp_path / "more.csv", assay="gloss", dry_run=True).dialect


@pytest.mark.parametrize("header", ["cost (EUR)", "Cost [EUR]", "cost_EUR", "cost in eur"])
def test_a_property_whose_column_has_a_unit_in_its_name_is_not_passed_over(paint, tmp_path, monkeypatch, header):
    start(4, seed=5).rename(columns={"cost": header}).to_csv(tmp_path / "more.csv", index=False)
    with pytest.raises(IngestError, match="looks like cost, but would be passed over: name it 'cost'"):
        paint.ingest(tmp_path / "more.csv", dry_run=True)
    assert paint.ingest(tmp_path / "more.csv", assay="gloss", dry_run=True).n_rows == 4
    monkeypatch.setitem(paint.config.assays["smell"].columns, "value", header)
    start(4, seed=5).drop(columns="smell").rename(columns={"cost": header}).to_csv(tmp_path / "more.csv", index=False)
    assert paint.ingest(tmp_path / "more.csv", dry_run=True).n_rows == 8
    start(4, seed=5).drop(columns="cost").assign(cost_note=1).to_csv(tmp_path / "more.csv", index=False)
    assert paint.ingest(tmp_path / "more.csv", dry_run=True).n_rows == 8


@pytest.mark.parametrize("unit", ["unit", "cost_unit"])
def test_the_unit_of_a_property_that_stands_alone_is_heeded(unit, tmp_path):
    run = Campaign.create(config(**TWO, assays={"cost": {"units": {"ct": 0.01}}}), home=tmp_path)
    table = start()[["a", "b", "cost"]]
    table.assign(**{unit: "ct"}).to_csv(tmp_path / "cost.csv", index=False)
    run.ingest(tmp_path / "cost.csv")
    assert np.allclose(run.ledger.measurements("paint")["value"], table["cost"] / 100)
    table.assign(**{unit: "USD"}).to_csv(tmp_path / "dollars.csv", index=False)
    with pytest.raises(IngestError, match="20 faults"):
        run.ingest(tmp_path / "dollars.csv")


def test_one_file_holds_the_reads_of_two_assays(tmp_path):
    reads = {"gloss": {"read": "485"}, "cost": {"read": "600"}}
    run = Campaign.create(config(**TWO, assays=reads), home=tmp_path)
    start().to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    run.propose(ROUND, out=tmp_path / "out")
    n = len(pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv"))
    head = ",".join(["", *map(str, range(1, 7))])
    grids = [
        [",".join([row, *(f"{scale * (6 * i + j + 1):g}" for j in range(6))]) for i, row in enumerate("ABCD")]
        for scale in (1, 0.1)
    ]
    lines = [line for read, grid in zip(("485", "600"), grids) for line in (read, head, *grid, "")]
    (tmp_path / "reader.csv").write_text("\n".join(lines))
    assert run.ingest(tmp_path / "reader.csv", assay="gloss").n_rows == n
    assert run.explain(tmp_path / "reader.csv", assay="cost").refusal is None
    assert run.ingest(tmp_path / "reader.csv", assay="cost").n_rows == n
    assert run.status()["rounds"][0]["state"] == "MEASURED"
    for assay in ("gloss", "cost"):
        assert "in the ledger already: nothing to do" in run.ingest(tmp_path / "reader.csv", assay=assay).note


def test_replicates_and_controls_of_two_assays_are_told_apart(tmp_path, capsys):
    plate = {"wells": 24, "replicates": 2, "controls": [{"name": "blank", "wells": 2}]}
    run = Campaign.create(config(**TWO, plate=plate), home=tmp_path)
    start().to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    run.propose(ROUND, out=tmp_path / "out")
    form = pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv").astype(object)
    form.assign(gloss=np.arange(len(form)) + 20.0, cost=np.arange(len(form)) + 3.0).to_csv(tmp_path / "back.csv", index=False)
    run.ingest(tmp_path / "back.csv")
    assert run.compare().notes[0] == "Every design has 2 wells, which count as one here, with their mean."
    run.revise(config(**TWO, plate={"wells": 24}), reason="noise is small")
    assert run.compare(1).notes[0] == "Every design has 2 wells, which count as one here, with their mean."  # as it was laid out
    run.propose(ROUND, out=tmp_path / "out")
    form = pd.read_csv(tmp_path / "out" / "paint-R02_assay.csv").astype(object)
    form.assign(gloss=np.arange(len(form)) + 20.0, cost=np.arange(len(form)) + 3.0).to_csv(tmp_path / "back.csv", index=False)
    run.ingest(tmp_path / "back.csv")
    assert not any("which count as one" in one for one in run.compare(2).notes)
    assert compare_rounds(run).notes[0].startswith("Every design has 1 or 2 wells, by its round, which count as one here")
    assert main(["quality", "paint", "--home", str(tmp_path)]) == 0
    controls = capsys.readouterr().out.partition("Controls")[2]
    assert all(f"│ {assay} " in controls for assay in ("gloss", "cost"))


def test_a_file_that_reads_as_another_assay_did_is_said_to(paint, tmp_path):
    paint.propose(ROUND, out=tmp_path / "out")
    form = pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv")[["plate", "well"]]
    form.assign(value=np.arange(len(form)) / 10 + 1).to_csv(tmp_path / "gloss.csv", index=False)
    assert "reads in" not in paint.ingest(tmp_path / "gloss.csv", assay="gloss").dialect
    said = f"paint-R01-P1 reads in {len(form)} wells of cost as it does of gloss (gloss.csv)"
    assert said in paint.explain(tmp_path / "gloss.csv", assay="cost").dialect
    assert said in paint.ingest(tmp_path / "gloss.csv", assay="cost", dry_run=True).dialect


def test_values_of_another_scale_than_all_before_are_pointed_at(paint, tmp_path):
    table = start(10, seed=5)
    table.assign(cost=table["cost"] * 1000, gloss=table["gloss"] * 2).to_csv(tmp_path / "more.csv", index=False)
    told = paint.ingest(tmp_path / "more.csv", dry_run=True).dialect
    assert "10 values of cost, most from" in told
    assert "see that the unit is right" in told
    assert "of gloss, most" not in told
    assert "the unit is right" not in paint.ingest(tmp_path / "more.csv").dialect.replace(told, "")
    start(10, seed=6).to_csv(tmp_path / "other.csv", index=False)
    assert "the unit is right" not in paint.ingest(tmp_path / "other.csv").dialect


def test_a_round_waits_for_no_assay_that_only_failed_designs_lack(paint, tmp_path):
    paint.propose(ROUND, out=tmp_path / "out")
    filled = pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv").astype(object)
    filled.loc[:, ["gloss", "cost", "smell"]] = [[50.0, 4.0, 1.0]] * len(filled)
    assert "wells, assays gloss, cost and smell: " in paint.status()["next"]
    assert "paint (--assay gloss or --assay cost or --assay smell, where the file does not say" in paint.status()["next"]
    first = filled.drop(columns=["cost", "smell"])
    first.loc[0, ["gloss", "status"]] = [np.nan, "failed_design"]
    first.to_csv(tmp_path / "gloss.csv", index=False)
    paint.ingest(tmp_path / "gloss.csv")
    assert "wells, assays cost and smell: " in paint.status()["next"]
    rest = filled.drop(columns="gloss").iloc[1:].copy()
    rest.loc[1, "smell"] = np.nan
    rest.to_csv(tmp_path / "rest.csv", index=False)
    paint.ingest(tmp_path / "rest.csv")
    assert "waits for 1 of " in paint.status()["next"]
    assert paint.status()["next"].endswith("wells, assay smell: labloop ingest FILE.csv -c paint --assay smell")


def test_the_form_has_a_column_a_property_and_comes_back(paint, tmp_path):
    paint.propose(ROUND, out=tmp_path / "out")
    form = pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv")
    assert list(form.columns[:5]) == ["plate", "well", "gloss", "cost", "smell"]
    assert "gloss in GU" in form.columns[-1]
    filled = form.astype(object)
    filled.loc[:, ["gloss", "cost", "smell"]] = [[50.0, 4.0, 1.0]] * len(form)
    filled.loc[0, ["gloss", "cost", "smell"]] = np.nan
    filled.loc[0, "status"] = "failed_design"
    filled.loc[1, "smell"] = np.nan
    filled.drop(columns="smell").to_csv(tmp_path / "first.csv", index=False)
    assert "assays gloss, cost" in paint.status()["next"].replace(" and ", ", ")
    paint.ingest(tmp_path / "first.csv")
    assert "wells, assay smell: " in paint.status()["next"]
    filled.to_csv(tmp_path / "back.csv", index=False)
    paint.ingest(tmp_path / "back.csv")
    assert paint.status()["rounds"][0]["missing"] == 1  # the smell of one well; what failed waits for nothing
    data = paint.dataset()
    assert data.failed is not None
    assert len(data.failed) == 1
    assert paint.status()["failed_designs"] == 1
    assert "1 design failed by itself: where designs fail is learned, and fewer such are proposed" in lines(paint.status())
    assert any(one.startswith("2 designs failed by themselves") for one in lines({"failed_designs": 2}))
    assert "1 design is a compromise that no other beats: labloop report shows them" in lines({"compromises": 1})
    filled.loc[1, "smell"] = 2.0
    filled.to_csv(tmp_path / "whole.csv", index=False)
    assert paint.ingest(tmp_path / "whole.csv").n_rows == 1
    assert paint.status()["rounds"][0]["state"] == "MEASURED"


def test_a_round_does_not_wait_for_what_measures_some_designs(tmp_path):
    limits = {"smell": {"at_most": 3, "required": False}}
    run = Campaign.create(config(**TWO, constraints=limits), home=tmp_path)
    start().to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    run.propose(ROUND, out=tmp_path / "out")
    form = pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv").astype(object)
    form.loc[:, ["gloss", "cost"]] = [[50.0, 4.0]] * len(form)
    form.to_csv(tmp_path / "back.csv", index=False)
    run.ingest(tmp_path / "back.csv")
    assert run.status()["rounds"][0]["state"] == "MEASURED"


def test_a_correction_finds_the_property(paint, tmp_path):
    table = start()
    table.loc[3, "cost"] = 99.0
    table.to_csv(tmp_path / "start.csv", index=False)
    done = paint.correct(tmp_path / "start.csv", reason="a price was wrong")
    assert len(done.changes) == 1
    assert paint.dataset().properties.Y[:, 1].min() == -99


# ---- what stands


def test_status_tells_every_property(paint):
    told = paint.status()
    assert told["properties"]["cost"]["best"] == start()["cost"].min()
    assert told["properties"]["smell"]["keep_it"] == int((start()["smell"] <= 3).sum())
    good = start()[start()["smell"] <= 3]
    gloss, cost = good["gloss"].to_numpy(), good["cost"].to_numpy()
    beaten = [((gloss >= g) & (cost <= c) & ((gloss > g) | (cost < c))).any() for g, c in zip(gloss, cost)]
    assert told["compromises"] == len(good) - sum(beaten)
    assert told["best"] == start()["gloss"].max()


def test_status_says_which_limits_of_the_best_nobody_measured(tmp_path):
    from labloop.cli.properties import lines

    run = Campaign.create(config(objectives={"gloss": {"unit": "GU"}}, constraints={"smell": {"at_most": 3}}), home=tmp_path)
    table = start()[["a", "b", "gloss", "smell"]]
    table.loc[table["gloss"].idxmax(), "smell"] = np.nan
    table.to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    told = run.status()
    assert told["taken_as_kept"] == ["smell"]
    best = start()["gloss"].max()
    assert f"Best that keeps the limits: {best:.4g} GU (its smell is not measured, and taken as kept)" in lines(told)


def test_a_dataset_is_the_same_in_whatever_order_its_files_came(paint, tmp_path):
    other = Campaign.create(config(**LIMITED), home=tmp_path / "other")
    start().iloc[::-1].to_csv(tmp_path / "turned.csv", index=False)
    other.ingest(tmp_path / "turned.csv")
    assert other.dataset().fingerprint == paint.dataset().fingerprint


# ---- revision


def test_weights_limits_and_more_properties_can_come_in_mid_campaign(paint):
    more = {
        "objectives": {
            "gloss": {"unit": "GU", "threshold": 20},
            "cost": {"direction": "min", "unit": "EUR", "weight": 2},
            "shine": {},
        },
        "constraints": {"smell": {"at_most": 2}},
    }
    told = paint.revise(config(**more), reason="the customer cares for cost")
    assert {"objectives: cost is changed", "objectives: shine is new", "constraints: smell is changed"} <= set(told)
    data = paint.dataset()
    assert data.properties.Y.shape == (20, 4)
    assert np.isnan(data.properties.Y[:, data.properties.goal.names.index("shine")]).all()
    assert np.isfinite(data.y).all()


@pytest.mark.parametrize(
    "objectives", [{"gloss": {"unit": "GU"}, "cost": {"unit": "EUR"}}, {"gloss": {"unit": "GU"}, "shine": {}}]
)
def test_a_direction_stays(paint, objectives):
    with pytest.raises(ConfigError, match=r"objectives\.cost"):
        paint.revise(config(objectives=objectives, constraints=LIMITED["constraints"]), reason="x")


def test_a_goal_can_be_kept_as_a_value():
    goal = config(**LIMITED).goal
    assert Goal.model_validate_json(goal.model_dump_json()) == goal


# ---- the front, and what a set of designs is worth


def test_the_front_and_its_volume_agree_with_counting_by_hand():
    Y = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [1.5, 1.5], [np.nan, 9.0]])
    assert nondominated(Y).tolist() == [True, True, True, False, False]
    assert hypervolume(Y[:4], np.zeros(2)) == 6.0
    assert hypervolume(np.ones((1, 3)) * 2, np.zeros(3)) == 8.0


@pytest.mark.parametrize("m", [2, 3, 4])
def test_rays_share_the_volume_out(m):
    Y = np.random.default_rng(m).random((20, m))
    summed = unit_volume(m) * reach(Y, rays(m, n=4096)).max(0).mean()
    assert summed == pytest.approx(hypervolume(Y, np.zeros(m)), rel=0.02)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_expected_reach_is_the_mean_of_what_normals_reach_beyond_the_best(m):
    rng = np.random.default_rng(m)
    mean, std, directions = (
        rng.normal(size=(6, m)),
        rng.uniform(0.05, 1.0, size=(6, m)),
        rays(m, n=4) if m > 1 else np.ones((1, 1)),
    )
    best = rng.uniform(0.0, 0.8, size=len(directions))
    found = expected_reach(mean, std, best, directions)
    for i in range(len(mean)):
        drawn = reach(mean[i] + std[i] * rng.normal(size=(40_000, m)), directions)
        np.testing.assert_allclose(found[i], np.maximum(drawn - best, 0.0).mean(0), rtol=0.05, atol=0.01)
    sure = expected_reach(mean, np.zeros((6, m)), best, directions)
    np.testing.assert_allclose(sure, np.maximum(reach(mean, directions) - best, 0.0), atol=0.1)
    hopeless = expected_reach(np.full((2, m), [[-3.0], [-5.0]]), np.ones((2, m)), best, directions)
    assert (hopeless[0] > hopeless[1]).all()
    assert (hopeless[1] > 0).all()


def test_every_compromise_is_worth_more_to_learn_from_than_what_it_beats():
    goal = config(**TWO).goal
    rng = np.random.default_rng(0)
    Y = rng.random((40, 2))
    y = goal.scalar(Y, np.full((40, 2), np.nan))
    front = goal.front(Y)
    assert y[front].min() >= np.delete(y, front).max()


def test_what_breaks_a_limit_is_worth_less_the_surer_that_is():
    goal = config(objective={"assay": "gloss"}, constraints={"smell": {"at_most": 3}}).goal
    y = goal.scalar(np.array([[1.0, 1.0], [5.0, 2.0], [5.0, 3.1], [5.0, 6.0]]), np.full((4, 2), np.nan))
    assert y[1] > y[2] > y[3]
    assert y[3] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_of_an_arm_of_more_wells_every_choice_of_so_many_counts_alike(k):
    R, start = np.random.default_rng(0).random((5, 3)), np.full(3, 0.3)
    above = np.maximum(R - start, 0.0)
    every = [above[list(some)].max(0) for some in itertools.combinations(range(5), k)]
    assert _farthest(above, k) == pytest.approx(np.mean(every, axis=0))


def test_arms_that_add_nothing_add_exactly_nothing():
    goal = config(**TWO).goal
    rng = np.random.default_rng(3)
    before = np.concatenate([[[5.0, 5.0]], rng.random((10, 2))])
    told = compare_fronts(goal, before, {"a": 4 * rng.random((5, 2)), "b": 4 * rng.random((12, 2))}, seed=0)
    assert [(one.gain, one.low, one.high) for one in told.arms] == [(0.0, 0.0, 0.0)] * 2
    assert (told.differences[0].low, told.differences[0].high) == (0.0, 0.0)


def test_compromises_whose_limits_are_measured_stand_before_those_that_nobody_measured():
    table = start(12).assign(smell=1.0, cost=2.0)
    table.loc[table["gloss"].nlargest(3).index, "smell"] = np.nan
    made = config(objectives={"gloss": {}}, constraints={"smell": {"at_most": 3, "required": False}})
    parts = []
    for name, one in made.goal.properties.items():
        known = table[table[name].notna()]
        parts.append(Dataset.from_measurements(made.space, known[["a", "b"]], known[name].to_numpy(), objective=one))
    data = Dataset.of_properties(made.goal, parts, pending=np.zeros((0, 2)), failed=np.zeros((0, 2)))
    front = compromises(data)
    assert front["smell"].isna().tolist() == [False] * 9 + [True] * 3
    assert front["gloss"].iloc[9:].is_monotonic_decreasing
    told = Several(goal=made.goal, values=front, front=front.assign(design="x", arm=""), fronts=None)
    assert [row[2] for row in tabled(told).rows][-3:] == ["not measured"] * 3
    assert "3 of these designs are taken to keep a limit that was not measured" in open_limits(told)


def test_arms_are_compared_by_the_volume_they_add():
    goal = config(**TWO).goal
    rng = np.random.default_rng(0)
    before, poor = rng.random((20, 2)), rng.random((12, 2))
    good = poor + 0.5
    told = compare_fronts(goal, before, {"good": good, "poor": poor}, seed=0, draws=400)
    assert [one.arm for one in told.arms] == ["good", "poor"]
    assert told.differences[0].difference > 0
    assert told.differences[0].p < 0.05
    same = compare_fronts(goal, before, {"a": poor, "b": poor}, seed=0, draws=400)
    assert same.differences[0].difference == 0
    assert same.differences[0].p == 1.0
    assert told.differences[0].p_holm == told.differences[0].p  # one pair
    three = compare_fronts(goal, before, {"good": good, "poor": poor, "worse": poor - 0.1}, seed=0, draws=400)
    assert [one.p_holm for one in three.differences] == holm([one.p for one in three.differences])
    assert all(one.p_holm >= one.p for one in three.differences)
    assert "with all pairs counted" in sentences(three)[0]
    assert "cannot decide" in sentences(same)[0]


def test_what_an_arm_adds_is_a_hypervolume_whatever_the_weights():
    told = {name: {**one, "weight": 10 if name == "cost" else 1} for name, one in TWO["objectives"].items()}
    goal, rng = config(**{**TWO, "objectives": told}).goal, np.random.default_rng(0)
    before = rng.random((20, 2))
    wells = before[:12] + 0.3
    every = np.concatenate([before, wells])
    exact = hypervolume(every, goal.reference(every)) - hypervolume(before, goal.reference(every))
    gain = compare_fronts(goal, before, {"one": wells}, seed=0, draws=4).arms[0].gain
    assert gain == pytest.approx(exact / goal.scale(every).prod(), rel=0.02)


# ---- a round


def test_a_round_picks_by_what_each_adds_and_the_report_shows_it(paint, tmp_path):
    judged = {"arms": {"offline": {"proposers": "fakes:Near", "selector": "conservative"}}, "judge": {"gp": {"iterations": 10}}}
    batch = paint.propose(parse_config(judged, RoundConfig), out=tmp_path / "out")
    assert batch.picks["design_id"].nunique() == paint.config.plate.capacity
    told = paint.ledger.events("paint")
    said = told.loc[told["kind"] == "judged", "detail"].iloc[0]["properties"]
    assert set(said) == set(batch.picks["design_id"])
    assert all(0 <= one["chance"] <= 1 and set(one) == {"chance", "gloss", "cost", "smell"} for one in said.values())
    listed = pd.read_csv(tmp_path / "out" / "paint-R01_picks.csv").set_index("design_id")
    assert [one for one in listed if one.startswith(("predicted ", "chance"))] == list(batch.predictions)
    np.testing.assert_allclose(listed["chance of all limits"], [said[one]["chance"] for one in listed.index], rtol=1e-5)
    page = paint.report(tmp_path / "report.html").read_text()
    assert "Compromises" in page
    assert "f-plate0value" not in page  # nothing is measured yet
    listed = pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv")
    wells = listed.assign(gloss=range(len(listed)), cost=2.0, smell=[1.0] + [np.nan] * (len(listed) - 1))
    wells.to_csv(tmp_path / "back.csv", index=False)
    paint.ingest(tmp_path / "back.csv")
    page = paint.report(tmp_path / "report.html").read_text()
    for name, said in {
        "plate0value": "gloss, GU",
        "plate0value1": "cost, EUR",
        "plate0value2": "smell",
        "plate0arm": "arm",
    }.items():
        assert f'<p class="axis">{said}</p><div class="draw" data-figure="f-{name}">' in page
    assert "f-pareto0" in page


def test_with_a_limit_the_best_is_of_designs_that_keep_it_everywhere(tmp_path):
    run = Campaign.create(config(objectives={"gloss": {}}, constraints=LIMITED["constraints"]), home=tmp_path)
    start()[["a", "b", "gloss", "smell"]].to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    best = start().loc[start()["smell"] <= 3, "gloss"].max()
    assert start()["gloss"].max() > best
    judged = {"arms": {"offline": {"proposers": "fakes:Near", "selector": "conservative"}}, "judge": {"gp": {"iterations": 10}}}
    run.propose(parse_config(judged, RoundConfig), out=tmp_path / "out")
    assert run.ledger.rounds("paint")[0].incumbent == best == run.status()["best_that_keeps_limits"]
    wells = pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv")
    smell = [9.0] * 20 + [1.0] * (len(wells) - 20)
    wells.assign(gloss=[200.0 + i for i in range(20)] + [150.0] * (len(wells) - 20), smell=smell).to_csv(
        tmp_path / "back.csv", index=False
    )
    run.ingest(tmp_path / "back.csv")
    told = run.compare()
    assert (told.arms[0].best, told.arms[0].n_kept, told.arms[0].n_hits) == (150.0, len(wells) - 20, len(wells) - 20)
    assert outlook(run, parse_config(judged, RoundConfig)).incumbent == 150.0
    page = run.report(tmp_path / "report.html").read_text()
    assert "Best so far that keeps the limits" in page
    held = run.ledger.wells("paint").set_index("well")["design_id"].dropna()
    breaks, keeps = (str(held[wells["well"].iloc[i]]) for i in (0, -1))
    top = collect(run).top
    assert top["value"].max() == 150.0
    assert keeps in set(top["design_id"])
    assert run.dataset().kept[breaks] is False
    told = why(run, breaks)
    assert told.chance is not None
    assert f"It gave all limits a chance of {told.chance:.2g} to be kept." in told.said
    assert told.said.endswith("It breaks a limit: smell 9, where at most 3 will do.")
    assert why(run, keeps).breaks == ()


def panel_on(table, surrogate=None, **more):
    """A surrogate of each property, Gaussian processes where none is given, and the data it learnt from."""
    made = config(**more)
    parts = [
        Dataset.from_measurements(made.space, table[["a", "b"]], table[name].to_numpy(), objective=one)
        for name, one in made.goal.properties.items()
    ]
    none = np.zeros((0, 2))
    data = Dataset.of_properties(made.goal, parts, pending=none, failed=none)
    return panel_of(surrogate or GP(iterations=30), data, seed=0), data


def test_a_bound_from_above_adds_no_hypervolume():
    made, table = config(**TWO), start(6)
    parts = [
        Dataset.from_measurements(
            made.space, table[["a", "b"]], table[name].to_numpy(), objective=one,
            qualifiers=[{1: "<", -1: ">"}[one.sign], *"====="],
        ) for name, one in made.goal.properties.items()
    ]  # fmt: skip
    none = np.zeros((0, made.space.d))
    known = Dataset.of_properties(made.goal, parts, pending=none, failed=none).properties
    above, m = known.censored < 0, made.goal.m
    assert above.sum() == len(parts)
    np.testing.assert_array_equal(known.sure[:, :m][above[:, :m]], known.Y[:, :m].min(0))
    np.testing.assert_array_equal(known.sure[~above], known.Y[~above])


def test_what_nobody_measured_is_foretold_of_no_pick_and_counts_as_kept(tmp_path):
    limited = {**LIMITED, "constraints": {**LIMITED["constraints"], "cost": {"at_least": 1}}}
    run = Campaign.create(config(**limited), home=tmp_path)
    start()[["a", "b", "gloss"]].to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    judged = {"arms": {"offline": {"proposers": "fakes:Near", "selector": "conservative"}}, "judge": {"gp": {"iterations": 10}}}
    said = run.propose(parse_config(judged, RoundConfig)).predictions
    assert said.columns.tolist() == ["predicted cost (EUR)", "predicted smell", "chance of all limits"]
    assert said.isna().all().all()
    panel = panel_of(Flat(), run.dataset(), seed=0)
    X = run.dataset().X
    assert panel.chances(X, *panel.beliefs(X)).tolist() == [1.0] * len(X)


def picked(panel, data, n, **options):
    X = data.space.sample(600, np.random.default_rng(5))
    X = X[data.space.fresh(X, known=data.taken)]
    pool = Pool.of(data.space, X, np.zeros(len(X)), proposer="near")
    return Conservative(**options).select(pool, panel, data, n, seed=0)


def test_picks_share_the_compromises_out_and_a_longer_list_begins_with_the_shorter():
    panel, data = panel_on(start(20), **TWO)
    few = picked(panel, data, 6, beta=0.0, refine=3)
    assert picked(panel, data, 12, beta=0.0, refine=3).pool.ids[:6] == few.pool.ids
    gloss, cost = panel.goal.to_value(panel.beliefs(few.pool.X)[0]).T[:2]
    assert np.ptp(gloss) > 30  # of 100
    assert np.ptp(cost) > 3  # of 10
    assert few.pool.X[:, 1].mean() < 0.2  # the other direction costs and gives nothing
    near = data.space.distance(few.pool.X, few.pool.X) + 9 * np.eye(6)
    assert near.min() >= 0.01 - 1e-9


class Sure:
    """Knows gloss and smell: 100 a and 5 b, within 1 GU and a tenth."""

    def fit(self, data, *, seed):
        column, std = (0, 1.0) if data.y.max() > 10 else (1, 0.1)
        scale = 100 if column == 0 else 5
        return lambda X: (scale * X[:, column], np.full(len(X), std))


def limited_to(candidates):
    """Order candidates by what they add to 20 measured designs, the best of which that keeps the limit has a = 0.9."""
    table = start(20)
    table.loc[0, ["a", "b", "gloss", "smell"]] = [0.9, 0.1, 90.0, 0.5]
    panel, _ = panel_on(table, surrogate=Sure(), objectives={"gloss": {"unit": "GU"}}, constraints=LIMITED["constraints"])
    X = np.array(candidates)
    view = panel.at(0.0)
    assert np.argsort(-panel.along(X, np.ones((1, 1)), 0.0)[:, 0], kind="stable")[-1] == 0  # whom a search leaves behind
    return X[view.order(X, least=0.0, seed=0)], panel.chances(X, *panel.beliefs(X))


def test_no_well_goes_to_a_design_that_breaks_a_limit_while_one_is_left_that_keeps_it():
    safe = [[0.95, 0.2], [0.88, 0.1], [0.86, 0.1], [0.8, 0.3], [0.5, 0.1]]
    forbidden = [[1.0, 1.0], [0.99, 0.9], [0.98, 0.8], [0.97, 0.70]]
    order, chance = limited_to(forbidden + safe)
    assert (chance[:4] < 1e-6).all()
    assert (chance[4:] > 0.999).all()
    assert order[:5].tolist() == safe  # by what they add, then by how little they lack
    assert order[5:].tolist() == forbidden[::-1]  # the nearest to the limit first


def test_a_pick_that_may_break_a_limit_leaves_those_behind_it_their_worth():
    order, chance = limited_to([[0.995, 0.62], [0.96, 0.2], [1.0, 0.59]])
    assert chance.round(2).tolist() == [0.16, 1.0, 0.69]
    assert order.tolist() == [[1.0, 0.59], [0.96, 0.2], [0.995, 0.62]]


def test_caution_takes_the_doubt_from_expected_gains():
    panel, data = panel_on(start(12), **TWO)
    far, near = np.array([[0.99, 0.99]]), data.X[:1]
    assert panel.beliefs(far)[1].sum() > panel.beliefs(near)[1].sum()
    assert panel.at(2.0).bounds(far)[1].max() == 0
    hope = [panel.at(beta).gains(far).max() - panel.at(beta).gains(near).max() for beta in (1.0, 0.0, -1.0)]
    assert hope[0] < hope[1] < hope[2]


def test_a_judge_that_cannot_say_of_one_property_is_refused_with_its_name():
    class Halting:
        fits = 0

        def fit(self, data, *, seed):
            Halting.fits += 1
            value = 1.0 if Halting.fits == 1 else np.nan
            return lambda X: (np.full(len(X), value), np.ones(len(X)))

    _, data = panel_on(start(12), **TWO)
    with pytest.raises(MethodError, match="surrogate Halting of cost has no finite mean and std of 0 or more for 12 of 12"):
        panel_of(Halting(), data, seed=0).beliefs(data.X)


def test_where_designs_fail_is_learned():
    space = config().space
    X = np.random.default_rng(0).random((60, 2)).round(3)
    broken = X[:, 0] > 0.6
    frame = space.decode(X)
    data = Dataset.from_measurements(
        space, frame[~broken].reset_index(drop=True), np.ones((~broken).sum()), pending=frame[broken], failed=frame[broken]
    )
    success = Success.learned(data)
    assert success is not None
    assert success(np.array([[0.9, 0.5]]))[0] < 0.3 < 0.8 < success(np.array([[0.2, 0.5]]))[0]
    mixed = np.random.default_rng(1).random(60) < 0.4
    nothing = Dataset.from_measurements(
        space, frame[~mixed].reset_index(drop=True), np.ones((~mixed).sum()), pending=frame[mixed], failed=frame[mixed]
    )
    assert Success.learned(nothing) is None


def test_an_arm_earns_no_wells_by_what_breaks_a_limit(tmp_path):
    run = Campaign.create(config(objectives={"gloss": {}}, constraints=LIMITED["constraints"]), home=tmp_path)
    start()[["a", "b", "gloss", "smell"]].to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    arms = {"a": {"proposers": "random"}, "b": {"proposers": "fakes:Near"}}
    told = parse_config({"arms": arms, "judge": None, "allocation": {"rule": "evidence", "floor": 3}}, RoundConfig)
    picks = run.propose(told, out=tmp_path / "out").picks
    arm_of = dict(zip(picks["design_id"], picks["arm"], strict=True))
    held = run.ledger.wells("paint").set_index("well")["design_id"]
    wells = pd.read_csv(tmp_path / "out" / "paint-R01_assay.csv")
    bad = wells["well"].map(lambda well: arm_of.get(held[well]) == "a")
    gloss = np.where(bad, 500.0, 100.0) + np.arange(len(wells))
    wells.assign(gloss=gloss, smell=np.where(bad, 9.0, 1.0)).to_csv(tmp_path / "back.csv", index=False)
    run.ingest(tmp_path / "back.csv")
    given = run.round_config(run.round(run.ensure_round(told))).wells(24)
    assert given["b"] > given["a"]


# ---- simulated


@pytest.mark.parametrize(
    ("lab", "column"), [("branincurrin", "hypervolume"), ("limitedbranin", "best_in_limits"), ("dtlz2", "hypervolume")]
)
def test_labs_of_several_properties_are_simulated(lab, column):
    arms = {"picked": {"proposers": {"fakes:Near": {}}, "selector": "conservative"}, "random": {"proposers": {"random": {}}}}
    table = simulate(
        preset(f"campaigns/{lab}.yaml"), lab, start=15, start_quantile=1.0, rounds=2, batch=6, seeds=1,
        round_config=parse_config({"arms": arms, "judge": {"gp": {"iterations": 10}}}, RoundConfig),
    )  # fmt: skip
    assert len(table) == 4
    better = -1 if column == "best_in_limits" else 1
    for _, mine in table.groupby("arm"):
        known = mine[column].dropna().to_numpy()
        assert (better * np.diff(known) >= -1e-9).all()


def test_a_simulation_shares_wells_by_those_that_keep_the_limits(monkeypatch):
    seen = []

    def shared(config, history, **more):
        seen.append(history)
        return None, {}

    monkeypatch.setattr("labloop.studies.simulate.shared", shared)
    arms = {"a": {"proposers": "random"}, "b": {"proposers": "fakes:Near"}}
    table = simulate(
        preset("campaigns/limitedbranin.yaml"), "limitedbranin", start=15, start_quantile=1.0, rounds=2, batch=12, seeds=1,
        mode="shared", round_config=parse_config({"arms": arms, "judge": None, "allocation": "evidence"}, RoundConfig),
    )  # fmt: skip
    assert set(seen[1]["kept"]) == {True, False}
    limited = preset("campaigns/limitedbranin.yaml")
    for arm, mine in seen[1].groupby("arm"):
        told = table[(table["arm"] == arm) & (table["round"] == 1)].iloc[0]
        y = mine.loc[mine["kept"].astype(bool), "y"].to_numpy(float)
        values = np.sort(load_config(limited, CampaignConfig).objective.to_value(y))
        assert told["best"] == pytest.approx(values[0])  # the lab's lowest is best
        assert told["top10_mean"] == pytest.approx(values[:10].mean())


def test_labs_of_several_properties_take_more_or_fewer():
    limited, plain = open_lab("branincurrin/limited=true"), open_lab("branincurrin")
    designs = plain.space.decode(plain.space.sample(20, np.random.default_rng(0)))
    told = limited.measure(designs, seed=0)
    np.testing.assert_array_equal(told[["branin", "currin"]], plain.measure(designs, seed=0)[["branin", "currin"]])
    np.testing.assert_array_equal(told["side"], open_lab("limitedbranin").measure(designs, seed=0)["side"])
    lab = open_lab("dtlz2/objectives=2")
    best = pd.DataFrame({f"x{i}": [0.3 if i == 1 else 0.5] for i in range(1, 7)})
    np.testing.assert_allclose((lab.measure(best, seed=0)[["f1", "f2"]] ** 2).sum(axis=1), 1.0)
    with pytest.raises(ConfigError, match="5 objectives need as many numbers"):
        open_lab("dtlz2/objectives=5/d=3")


@pytest.mark.parametrize("more", [TWO, {"objective": {"assay": "gloss"}, "constraints": {"smell": {"at_most": 3}}}])
def test_bo_takes_several_properties(more):
    made = config(**more)
    table, goal = start(12), made.goal
    parts = [
        Dataset.from_measurements(made.space, table[["a", "b"]], table[name].to_numpy(), objective=one)
        for name, one in goal.properties.items()
    ]
    none = np.zeros((0, made.space.d))
    data = Dataset.of_properties(goal, parts, pending=none, failed=none)
    from labloop.methods.qei import QEI

    quick = QEI(samples=16, candidates=32, optimised=1, restarts=1, iterations=10, generations=2)
    pool = quick.propose(data, 4, seed=0)
    assert len(set(pool.ids)) == 4
    assert not set(pool.ids) & data.taken
    assert pool.ids == quick.propose(data, 4, seed=0).ids
