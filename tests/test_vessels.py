"""Vessels other than plates of 96: racks and blocks of any shape, parts of them, replicates, and the files that know them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from labloop import Campaign
from labloop.campaign.checks import check_configs
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import BatchError, ConfigError
from labloop.plates.layout import lay_out
from labloop.plates.vessel import Control, Plate
from labloop.plates.wells import SHAPES, parse_well, row_name, row_number, well_name
from labloop.report.collect import collect

COUPLING = {
    "name": "coupling",
    "space": {
        "parameters": [
            {"type": "choice", "name": "base", "options": ["KOAc", "KOPiv", "CsOAc", "CsOPiv"]},
            {"type": "choice", "name": "solvent", "options": ["DMAc", "BuCN", "BuOAc", "xylene"]},
            {"type": "real", "name": "loading", "low": 1, "high": 10, "step": 1},
            {"type": "integer", "name": "temperature", "low": 60, "high": 120},
        ]
    },
    "objective": {"unit": "%"},
    "rounds": 3,
}
ROUND = {
    "arms": {
        "offline": {"proposers": {"fakes:Near": {}}, "selector": "conservative", "pool": 120},
        "free": {"proposers": ["random"], "pool": 120},
    },
    "judge": "gp",
}


def config(**more: object) -> CampaignConfig:
    return parse_config({**COUPLING, **more}, CampaignConfig)


def picks(**arms: int) -> pd.DataFrame:
    rows = [(arm, f"{arm}-{i:04d}", i + 1) for arm, n in arms.items() for i in range(n)]
    return pd.DataFrame(rows, columns=["arm", "design_id", "rank"])


def lay(plate: Plate, table: pd.DataFrame, *, plates: int = 1, seed: int = 0) -> pd.DataFrame:
    return lay_out(plate, table, plates=plates, names=[f"P{i + 1}" for i in range(plates)], seed=seed)


def yields(designs: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """A lab without chemistry: bases differ, warm is better up to 100, more loading helps."""
    base = designs["base"].map({"KOAc": 10, "KOPiv": 25, "CsOAc": 15, "CsOPiv": 30}).astype(float)
    warm = -0.02 * (designs["temperature"].astype(float) - 100) ** 2
    noise = np.random.default_rng(seed).normal(size=len(designs))
    return (50 + base + warm + designs["loading"].astype(float) + noise).clip(0).to_numpy()


def started(config: CampaignConfig, home: Path, n: int = 30) -> Campaign:
    run = Campaign.create(config, home=home)
    designs = run.config.space.decode(run.config.space.sample(n, np.random.default_rng(1)))
    designs.assign(value=yields(designs)).to_csv(home / "start.csv", index=False)
    run.ingest(home / "start.csv")
    return run


def measure(run: Campaign, out: Path, number: int, measured: Callable[..., np.ndarray] = yields) -> None:
    """Fill in the form of a round as it lies there."""
    form = pd.read_csv(out / f"{run.name}-R{number:02d}_assay.csv", dtype=str)
    told = pd.read_csv(out / f"{run.name}-R{number:02d}_platemap.csv")
    form["value"] = 1.0
    held = told["control"].isna()
    form.loc[held, "value"] = measured(told[held], number)
    form["value"] = form["value"].astype(str)
    form.to_csv(out / "filled.csv", index=False)
    run.ingest(out / "filled.csv")


# ---- wells by name


def test_rows_go_on_after_z_and_names_undo_each_other() -> None:
    assert [row_name(n) for n in (1, 26, 27, 32, 52)] == ["A", "Z", "AA", "AF", "AZ"]
    assert [row_number(row_name(n)) for n in range(1, 53)] == list(range(1, 53))
    assert row_number("BA") == row_number("1") == row_number("") == 0
    assert parse_well("af48", 1536) == (32, 48)
    assert well_name(32, 48) == "AF48"
    with pytest.raises(ValueError, match=r"no well of a 15-well plate, whose wells are A1 to C5"):
        parse_well("D1", (3, 5))
    with pytest.raises(ValueError, match="on no plate"):
        row_name(53)


@pytest.mark.parametrize(("wells", "shape"), SHAPES.items())
def test_every_usual_plate_is_filled_to_its_last_well(wells: int, shape: tuple[int, int]) -> None:
    plate = Plate(wells=wells, controls=(Control(name="blank", wells=1),))
    layout = lay(plate, picks(offline=plate.capacity))
    assert plate.shape == shape
    assert len(layout) == layout["well"].nunique() == wells
    assert layout["well"].tolist()[-1] == well_name(*shape)


def test_any_rows_and_columns_make_a_vessel() -> None:
    plate = Plate(rows=5, columns=10)
    assert (plate.wells, plate.shape, plate.capacity) == (50, (5, 10), 50)
    assert plate.described == "50 wells (5 x 10)"
    assert Plate.model_validate(plate.model_dump()) == plate
    assert set(Plate(wells=384).model_dump()) == {"wells", "controls", "edge", "exports", "source_wells"}  # as it always was


@pytest.mark.parametrize(
    ("use", "used"),
    [
        (18, {(r, c) for r in (1, 2, 3) for c in range(1, 7)}),
        ("A1:C6", {(r, c) for r in (1, 2, 3) for c in range(1, 7)}),
        (["1-2", "D6"], {(r, c) for r in (1, 2, 3, 4) for c in (1, 2)} | {(4, 6)}),
        (["columns 2", "A"], {(r, 2) for r in (1, 2, 3, 4)} | {(1, c) for c in range(1, 7)}),
        (["row B - C"], {(r, c) for r in (2, 3) for c in range(1, 7)}),
        ([3], {(r, 3) for r in (1, 2, 3, 4)}),
    ],
)
def test_only_the_wells_that_are_used_are_filled(use: object, used: set[tuple[int, int]]) -> None:
    plate = Plate.model_validate({"wells": 24, "use": use, "controls": [{"name": "blank", "wells": 2}]})
    assert set(plate.usable) == used
    layout = lay(plate, picks(bo=plate.capacity), plates=1)
    assert set(zip(layout["row"], layout["column"], strict=True)) == used


@pytest.mark.parametrize(
    ("plate", "message"),
    [
        ({"wells": 20}, "20 is no usual plate"),
        ({"rows": 4}, "both rows and columns"),
        ({"rows": 4, "columns": 6, "wells": 25}, "25 are not 4 rows x 6 columns"),
        ({"wells": 24, "use": 30}, r"use: 30 wells are more than the plate has \(24 wells"),
        ({"wells": 24, "use": "A1:F6"}, "'F6' is no well of a 24-well plate, whose wells are A1 to D6"),
        ({"wells": 24, "use": "2-7"}, "columns of this plate are 1 to 6"),
        ({"wells": 24, "use": "C-E"}, "rows of this plate are A to D"),
        ({"wells": 24, "use": "C3:A1"}, "upper left well first"),
        ({"wells": 96, "edge": "empty", "use": "A"}, "names no well that edge leaves"),
        ({"wells": 24, "use": True}, "use: true is no number: say how many wells are used"),
        ({"replicates": True}, "replicates: true is no number"),
        ({"wells": 6, "use": 2, "replicates": 3}, "replicates: 3 wells a design are more than the 2"),
        ({"rows": 60, "columns": 2}, "less than or equal to 52"),
        ({"wells": 24, "replicates": 0}, "greater than or equal to 1"),
    ],
)
def test_a_vessel_that_cannot_be_is_refused_with_the_reason(plate: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Plate.model_validate(plate)


# ---- replicates


def test_replicates_stand_on_different_plates_or_in_different_parts_of_one() -> None:
    plate = Plate(wells=96, replicates=3, controls=(Control(name="blank", wells=6),))
    three = lay(plate, picks(bo=45, offline=45), plates=3).dropna(subset="design_id")
    assert (three.groupby("design_id")["plate"].nunique() == 3).all()
    one = lay(plate, picks(bo=15, offline=15)).dropna(subset="design_id")
    assert (one.groupby("design_id")["well"].nunique() == 3).all()
    first = one.groupby("design_id")["column"].agg(["min", "max"])
    assert (first["max"] - first["min"] >= 4).all()


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)), replicates=st.integers(1, 4), plates=st.integers(1, 3),
    controls=st.integers(0, 3), use=st.integers(1, 81), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_vessel_is_laid_out_exactly(
    shape: tuple[int, int], replicates: int, plates: int, controls: int, use: int, seed: int
) -> None:
    held = (Control(name="blank", wells=controls),) if controls else ()
    try:
        plate = Plate(rows=shape[0], columns=shape[1], use=min(use, shape[0] * shape[1]), replicates=replicates, controls=held)
    except ValidationError:
        return
    n = plate.designs(plates)
    layout = lay(plate, picks(bo=n // 2, offline=n - n // 2), plates=plates, seed=seed)
    assert set(zip(layout["row"], layout["column"], strict=True)) <= set(plate.usable)
    assert not layout.duplicated(["plate", "well"]).any()
    assert (layout["design_id"].value_counts() == replicates).all()
    assert layout["design_id"].nunique() == n
    assert layout["control"].count() == controls * plates


def test_too_many_designs_for_their_replicates_are_refused() -> None:
    with pytest.raises(BatchError, match=r"leave 32 for designs of 3 wells each; pick 1 fewer"):
        lay(Plate(replicates=3), picks(bo=33))


def test_an_arms_wells_hold_whole_designs() -> None:
    plate = Plate(wells=24, replicates=3)
    round_ = parse_config({"arms": {"a": {"proposers": ["random"], "wells": 6}, "b": {"proposers": ["mutate"]}}}, RoundConfig)
    assert round_.designs(plate) == {"a": 2, "b": 6}
    for wells, message in ((7, r"arms\.a\.wells: 7 wells hold no whole number of designs of 3 wells each .*: take 6 or 9"),
                           (24, "counted in designs of 3 wells each")):  # fmt: skip
        arms = {**round_.arms, "a": round_.arms["a"].model_copy(update={"wells": wells})}
        with pytest.raises(ConfigError, match=message):
            round_.model_copy(update={"arms": arms}).designs(plate)


def test_a_campaign_on_384_wells_with_three_replicates(tmp_path: Path) -> None:
    plate = {
        "wells": 384, "replicates": 3, "controls": [{"name": "blank", "wells": 6, "source": {"plate": "C", "well": "A1"}}],
        "exports": {"echo": {"volume": 50}, "hamilton": {"volume": 5}},
    }  # fmt: skip
    run = started(config(plate=plate), tmp_path)
    round_ = parse_config(ROUND, RoundConfig)
    for number in (1, 2):
        out = tmp_path / f"plates{number}"
        batch = run.propose(round_, out=out)
        assert batch.picks["design_id"].nunique() == 126
        assert (batch.wells["design_id"].value_counts() == 3).all()
        sources = pd.read_csv(out / f"coupling-R{number:02d}_sources.csv")
        assert len(sources) == 126  # one source well a design, whatever its replicates
        echo = pd.read_csv(out / f"coupling-R{number:02d}_echo.csv")
        assert len(echo) == 384
        assert echo.groupby("Sample Name").size().loc[lambda n: n != 6].eq(3).all()
        picked = pd.read_csv(out / f"coupling-R{number:02d}_picks.csv")
        assert len(picked) == 378
        measure(run, out, number)
        comparison = run.close()
        assert comparison is not None
        assert sum(arm.n_measured for arm in comparison.arms) >= 126
    data = run.dataset()
    assert (data.n_replicates == 3).sum() == 252
    assert np.isfinite(data.sem).all()
    assert "126 designs in 378 wells" in run.report(tmp_path / "report.html").read_text()


def test_plates_keep_their_shape_in_the_report_and_in_b_scores_when_later_ones_are_smaller(tmp_path: Path) -> None:
    plate = {"wells": 24, "controls": [{"name": "blank", "wells": 2}, {"name": "full", "wells": 2}]}
    scored = {"objective": {"assay": "hplc"}, "assays": {"hplc": {"normalise": "b_score"}}}
    run = Campaign.create(config(plate=plate, **scored), home=tmp_path)
    drawn = parse_config({"arms": {"free": {"proposers": ["random"]}}, "judge": None}, RoundConfig)
    wells = run.propose(drawn).wells
    levels = wells["control"].map({"blank": 5.0, "full": 90.0}).fillna(40.0) + np.arange(len(wells)) % 7
    wells[["plate", "well"]].assign(value=levels).to_csv(tmp_path / "back.csv", index=False)
    run.ingest(tmp_path / "back.csv")
    before = run.dataset().y
    run.revise(config(plate={"wells": 6}, **scored), reason="the large block is broken")
    np.testing.assert_array_equal(run.dataset().y, before)
    assert collect(run).rounds[0].shape == (4, 6)


def test_check_tells_the_vessel_and_the_replicates(tmp_path: Path) -> None:
    place = tmp_path / "c.yaml"
    place.write_text(yaml.safe_dump({**COUPLING, "plate": {"wells": 24, "use": 18, "replicates": 2}}))
    told = check_configs(place)["plate"]
    assert told == {
        "wells": 24, "rows": 4, "columns": 6, "used": 18, "for_designs": 18, "replicates": 2, "designs": 9,
        "described": "24 wells (4 x 6), 18 used",
    }  # fmt: skip


# ---- files


def test_a_grid_of_any_vessel_is_read_back(tmp_path: Path) -> None:
    run = started(config(plate={"wells": 1536, "use": "AE-AF"}), tmp_path)
    out = tmp_path / "plates"
    batch = run.propose(parse_config(ROUND, RoundConfig), out=out)
    assert set(batch.wells["row"]) == {31, 32}
    grid = (out / "coupling-R01_grid.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in grid[-6:]] == ["AA", "AB", "AC", "AD", "AE", "AF"]
    lines = [",".join(["", *map(str, range(1, 49))])]
    for row in range(1, 33):
        lines.append(",".join([row_name(row), *(f"{row + column / 100:.2f}" if row > 30 else "" for column in range(1, 49))]))
    (tmp_path / "coupling-R01-P1.csv").write_text("\n".join(lines) + "\n")
    receipt = run.ingest(tmp_path / "coupling-R01-P1.csv")
    assert receipt.n_measured == 96
    last = batch.wells.set_index("well").loc["AF48", "design_id"]
    rows = run.ledger.measurements(run.name)
    assert rows.loc[rows["well"] == "AF48", ["design_id", "value"]].to_numpy().tolist() == [[last, 32.48]]


def test_sheets_of_a_rack_name_its_own_wells(tmp_path: Path) -> None:
    plate = {"rows": 3, "columns": 5, "exports": {"opentrons": {"volume": 20}}}
    run = started(config(plate=plate), tmp_path)
    run.propose(parse_config(ROUND, RoundConfig), out=tmp_path / "out")
    sheet = pd.read_csv(tmp_path / "out" / "coupling-R01_opentrons.csv")
    assert len(sheet) == 15
    assert set(sheet["source well"]) == {f"{row}{column}" for row in "ABC" for column in range(1, 6)}


def test_a_form_in_excel_is_filled_in_and_taken_back(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    run = started(config(plate={"wells": 24, "use": 18, "exports": {"form": {}}}), tmp_path)
    run.propose(parse_config(ROUND, RoundConfig), out=tmp_path / "out")
    place = tmp_path / "out" / "coupling-R01_form.xlsx"
    book = openpyxl.load_workbook(place)
    sheet = book["results"]
    (offered,) = sheet.data_validations.dataValidation
    assert offered.formula1 == '"ok,failed_technical,failed_design,censored_low,censored_high,excluded"'
    assert str(offered.sqref) == "E2:E19"
    told = run.explain(place)
    assert told.refusal is not None  # nothing is filled in yet
    for row in range(2, 20):
        sheet.cell(row, 3).value = 40 + row
    sheet.cell(19, 3).value = None
    sheet.cell(19, 5).value = "failed_technical"
    book.save(place)
    run.export(tmp_path / "out")  # a form that is filled in stays
    receipt = run.ingest(place)
    assert (receipt.n_measured, receipt.n_failed) == (17, 1)
    assert run.close() is not None


def test_the_dataset_goes_out_and_in_as_excel(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    run = started(config(), tmp_path)
    place, n = run.export_dataset(tmp_path / "all.xlsx")
    table = pd.read_excel(place)
    assert len(table) == n == 30
    assert pd.api.types.is_numeric_dtype(table["value"])
    other = Campaign.create(config(name="other"), home=tmp_path / "other")
    assert other.ingest(place).n_measured == 30
    assert np.allclose(other.dataset().y, run.dataset().y)


def test_sequences_go_out_as_fasta(tmp_path: Path) -> None:
    space = {"parameters": [{"type": "sequence", "name": "peptide", "length": 70, "alphabet": "ACDEFGHIKL"}]}
    told = {"name": "pep", "space": space, "plate": {"wells": 6, "exports": {"fasta": {}}}}
    run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path)
    first = parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig)
    batch = run.propose(first, out=tmp_path / "out")
    records = (tmp_path / "out" / "pep-R01_designs.fasta").read_text().split(">")[1:]
    found = {record.split("\n")[0].split()[1]: "".join(record.split("\n")[1:]) for record in records}
    assert found == batch.designs["peptide"].to_dict()
    assert max(len(line) for record in records for line in record.split("\n")[1:]) == 60
    with pytest.raises(BatchError, match="no sequence 'dna'; it has peptide"):
        run.export(tmp_path / "again", exporters={"fasta": {"parameter": "dna"}})


def test_a_wrong_direction_is_mended_after_a_first_plate_that_was_drawn_at_random(tmp_path: Path) -> None:
    run = Campaign.create(config(objective={"unit": "%", "direction": "min"}, plate={"wells": 24}), home=tmp_path)
    run.propose(parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig), out=tmp_path)
    measure(run, tmp_path, 1)
    with pytest.raises(ConfigError, match="round 1 is open with it"):
        run.revise(config(plate={"wells": 24}), reason="higher is better")
    run.close()
    worst = run.status()["best"]
    assert run.revise(config(plate={"wells": 24}), reason="higher is better")
    assert run.status()["best"] > worst
    assert run.compare(1).arms[0].best_value == run.status()["best"]


def test_a_wrong_direction_is_mended_with_everything_kept_until_a_round_is_measured(tmp_path: Path) -> None:
    wrong = config(objective={"unit": "%", "direction": "min"}, plate={"wells": 24})
    run = started(wrong, tmp_path)
    values = run.config.objective.to_value(run.dataset().y)
    run.propose(parse_config(ROUND, RoundConfig))
    with pytest.raises(ConfigError, match=r"round 1 is open with it: labloop close coupling --reason"):
        run.revise(config(plate={"wells": 24}), reason="higher is better")
    run.close(reason="wrong direction")
    assert run.revise(config(plate={"wells": 24}), reason="higher is better") == [
        "objective: higher is better now; all readings are kept"
    ]
    data = run.dataset()
    assert np.allclose(run.config.objective.to_value(data.y), values)
    assert run.status()["best"] == pytest.approx(values.max())
    batch = run.propose(parse_config(ROUND, RoundConfig), out=tmp_path / "out")
    assert batch.objective.direction == "max"
    measure(run, tmp_path / "out", 2)
    with pytest.raises(ConfigError, match="rounds so far were chosen and compared by it"):
        run.close(reason="done") and run.revise(wrong, reason="no")
