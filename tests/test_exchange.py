"""What leaves labloop: order sheets that a vendor takes, worklists that lead every well to its source, and all readings."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
import yaml
from fakes import exported

from labloop.campaign.checks import check_configs
from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import BatchError, CampaignError, ConfigError, LabloopError
from labloop.plates.orders import IDT, Twist
from labloop.plates.robots import Echo, Hamilton, Opentrons
from labloop.plates.transfer import TransferPlan
from labloop.rounds.exports import transfer_plan
from labloop.rounds.tidy import tidy, write_tidy
from labloop.runtime.spreadsheet import neutral
from labloop.testing import TOY_SPACES, ExporterContract

ROBOTS, ORDERS = "labloop.plates.robots:", "labloop.plates.orders:"
FIRST = parse_config(
    {"arms": {"first": {"proposers": "random"}, "second": {"proposers": {"random": {}}}}, "judge": None}, RoundConfig
)
SOURCES = ({"plate": "CONTROLS", "well": "a1"}, {"plate": "CONTROLS", "well": "B01"})


def config(**changes: Any) -> CampaignConfig:
    """The promoter campaign, its controls in wells of a plate, designs ordered in plates of 384."""
    raw = yaml.safe_load(preset("campaigns/promoter.yaml").read_text())
    raw["flanks"] = {"spacer": {"five_prime": "GCTAGC", "three_prime": "AAGCTT"}}
    raw["plate"]["source_wells"] = 384
    for control, source in zip(raw["plate"]["controls"], SOURCES):
        control["source"] = source
    raw["plate"] |= changes.pop("plate", {})
    return parse_config({**raw, **changes}, CampaignConfig)


def started(home: Path, **changes: Any) -> Campaign:
    campaign = Campaign.create(config(**changes), home=home)
    campaign.propose(FIRST)
    return campaign


@pytest.fixture(scope="module")
def campaign(tmp_path_factory) -> Campaign:
    return started(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def sheet(campaign) -> TransferPlan:
    return transfer_plan(campaign.batch(), campaign.config)


def table(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)


def workbook(content: bytes) -> dict[str, list[tuple[Any, ...]]]:
    book = openpyxl.load_workbook(io.BytesIO(content))
    return {one.title: list(one.iter_rows(values_only=True)) for one in book.worksheets}


# ---- sources


def test_every_design_has_one_source_well_and_every_assay_well_one_source(sheet, campaign):
    assert sheet.designs["source_well"].tolist()[:3] == ["A01", "A02", "A03"]
    assert sheet.designs["source_well"].is_unique
    assert set(sheet.designs["source_plate"]) == {"promoter-R01-S1"}
    transfers = sheet.sourced()
    batch = campaign.batch()
    assert len(transfers) == len(batch.wells) == 60
    there = transfers.set_index("well")
    for well in batch.wells.itertuples():
        if pd.isna(well.design_id):
            assert there.loc[well.well, "source_plate"] == "CONTROLS"
            assert there.loc[well.well, "source_well"] == {"wildtype": "A01", "empty_vector": "B01"}[well.control]
        else:
            source = sheet.designs.set_index("design_id").loc[well.design_id]
            assert there.loc[well.well, "source_well"] == source["source_well"]


def test_neither_sources_nor_worklists_nor_orders_tell_the_arms_apart(campaign, tmp_path):
    every = {ROBOTS + "Echo": {"volume": 25}, ROBOTS + "Hamilton": {"volume": 2}, ROBOTS + "Opentrons": {"volume": 2},
             ORDERS + "IDT": {"form": "csv"}}  # fmt: skip
    written = campaign.export(tmp_path, exporters=every)
    ids = campaign.batch().picks["design_id"]
    for kind in ("sources", "echo", "hamilton", "opentrons", "idt"):
        text = written[kind].read_text()
        assert not [word for word in (*ids, "first", "second", "random") if word in text]
    arm = campaign.batch().picks.set_index("design_id")["arm"]
    order = transfer_plan(campaign.batch(), campaign.config).designs["design_id"].map(arm).tolist()
    assert len(set(order[:12])) == 2  # the arms are mixed in the order, not one after the other


def test_more_designs_than_a_source_plate_holds_go_on_in_the_next(tmp_path):
    campaign = started(tmp_path, plate={"wells": 384, "edge": "use", "source_wells": 96})
    sheet = transfer_plan(campaign.batch(), campaign.config)
    assert sheet.designs["source_plate"].value_counts().to_dict() == {
        "promoter-R01-S1": 96, "promoter-R01-S2": 96, "promoter-R01-S3": 96, "promoter-R01-S4": 90,
    }  # fmt: skip
    assert sheet.designs.groupby("source_plate")["source_well"].nunique().tolist() == [96, 96, 96, 90]
    assert set(workbook(IDT().export(sheet)["idt.xlsx"])) == set(sheet.designs["source_plate"])
    with pytest.raises(BatchError, match=r"6 plates .* do not fit 2 slots"):
        Opentrons(volume=1, slots=("1", "2")).export(sheet)


def test_names_of_source_plates_fit_a_workbooks_sheet_however_long_the_campaigns_name_is(tmp_path):
    campaign = started(tmp_path, name="a" * 60)
    sheets = workbook(IDT().export(transfer_plan(campaign.batch(), campaign.config))["idt.xlsx"])
    assert all(len(name) <= 31 for name in sheets)


# ---- robots


def test_an_echo_pick_list_has_the_echos_columns_unpadded_wells_and_nanolitres(sheet):
    found = table(Echo(volume=52.5).export(sheet)["echo.csv"])
    assert list(found) == [
        "Source Plate Name", "Source Plate Type", "Source Well", "Destination Plate Name", "Destination Plate Type",
        "Destination Well", "Transfer Volume", "Sample Name",
    ]  # fmt: skip
    assert len(found) == 60
    assert set(found["Transfer Volume"]) == {"52.5"}
    assert {"A1", "B1"} <= set(found.loc[found["Source Plate Name"] == "CONTROLS", "Source Well"])
    assert not found["Destination Well"].str.contains("[A-H]0").any()
    assert found["Destination Well"].is_unique
    designs = found["Source Plate Name"] == "promoter-R01-S1"
    assert designs.tolist() == [True] * 54 + [False] * 6  # one source plate after the other
    named = found.loc[designs, "Sample Name"].str.extract(r"_([A-H])(\d\d)$")
    assert (named[0] + named[1].astype(int).astype(str) == found.loc[designs, "Destination Well"]).all()
    assert set(found.loc[~designs, "Sample Name"]) == {"wildtype", "empty_vector"}


@pytest.mark.parametrize(
    ("volume", "message"), [(51, "take volume=50 or 52.5"), (1, "take volume=2.5"), (2.4999, "take volume=2.5")]
)
def test_an_echo_dispenses_whole_drops(sheet, volume, message):
    with pytest.raises(BatchError, match=message):
        Echo(volume=volume).export(sheet)


@pytest.mark.parametrize("volume", [2.5, 25, 7.5, 10_000])
def test_multiples_of_a_drop_are_taken(sheet, volume):
    assert set(table(Echo(volume=volume).export(sheet)["echo.csv"])["Transfer Volume"]) == {f"{volume:g}"}


def test_an_echo_takes_no_source_plate_of_96_wells_unless_its_type_is_named(sheet):
    small = replace(sheet, source_wells=96)
    with pytest.raises(BatchError, match=r"plate promoter-R01-S1 \(well A01: PROMOTER_R01_\w\d\d\) has 96 .*source_wells: 384"):
        Echo(volume=25).export(small)
    assert Echo(volume=25, source_type="96TUBE").export(small)


def test_a_hamilton_worklist_and_an_opentrons_csv_are_in_microlitres(sheet):
    found = table(Hamilton(volume=1.5).export(sheet)["hamilton.csv"])
    assert list(found) == ["Source Plate Name", "Source Well", "Destination Plate Name", "Destination Well", "Transfer Volume"]
    assert set(found["Transfer Volume"]) == {"1.5"}
    deck = table(Opentrons(volume=1.5, slots=("D1", "D2", "D3")).export(sheet)["opentrons.csv"])
    assert list(deck)[:5] == ["source slot", "source well", "volume", "destination slot", "destination well"]
    assert set(zip(deck["source slot"], deck["source plate"])) == {("D1", "promoter-R01-S1"), ("D2", "CONTROLS")}
    assert set(deck["destination slot"]) == {"D3"}
    assert (
        deck[["source well", "destination well"]].to_numpy().tolist()
        == found[["Source Well", "Destination Well"]].to_numpy().tolist()
    )


@pytest.mark.parametrize(
    "exporter", [Echo(volume=25), Hamilton(volume=1), Opentrons(volume=1)], ids=lambda one: type(one).__name__
)
def test_a_control_without_a_source_stops_a_worklist_and_the_message_shows_what_to_write(sheet, exporter):
    lost = sheet.transfers.copy()
    lost.loc[lost["control"] == "wildtype", ["source_plate", "source_well"]] = np.nan
    with pytest.raises(
        BatchError, match=r"well \w\d\d: control wildtype has no source: .*source: \{plate: CONTROLS, well: A01\}"
    ):
        exporter.export(replace(sheet, transfers=lost))


@pytest.mark.parametrize(
    ("plate", "said"),
    [
        ({"exports": {"hamilton": {"volume": 1}}, "controls": [{"name": "blank", "wells": 2}]}, "control blank has no source"),
        ({"exports": {"echo": {"volume": 3}}}, "drops"),
    ],
    ids=["source", "drops"],
)
def test_check_says_what_a_worklist_lacks_before_a_round_is_trained(tmp_path, plate, said):
    raw = yaml.safe_load(preset("campaigns/promoter.yaml").read_text())
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump({**raw, "plate": {**raw["plate"], **plate}}))
    with pytest.raises(
        ConfigError, match=rf"campaign\.yaml: plate\.exports\.\w+: random designs could not be exported: .*{said}"
    ):
        check_configs(path)
    path.write_text(yaml.safe_dump({**raw, "plate": {**raw["plate"], "exports": {"echo": {"volume": 25}, "idt": {}}}}))
    assert check_configs(path)["campaign"] == "promoter"


def test_a_source_well_that_no_plate_has_is_refused_with_the_campaign():
    with pytest.raises(ConfigError, match=r"plate\.controls\.0\.source\.well: 'Z0' is no well"):
        config(plate={"controls": [{"name": "wildtype", "wells": 1, "source": {"plate": "C", "well": "Z0"}}]})


# ---- orders


def test_an_idt_plate_lists_every_well_of_384_and_flanks_stand_around_the_design(sheet):
    (rows,) = workbook(IDT().export(sheet)["idt.xlsx"]).values()
    assert rows[0] == ("Well Position", "Name", "Sequence")
    assert [rows[1][0], rows[24][0], rows[384][0], len(rows)] == ["A01", "A24", "P24", 385]
    filled = [row for row in rows[1:] if row[1]]
    assert len(filled) == 54
    assert [f"GCTAGC{design}AAGCTT" for design in sheet.designs["spacer"]] == [sequence for _, _, sequence in filled]
    assert [row[1] for row in filled] == sheet.designs["sample"].tolist()
    assert all(row[1:] == (None, None) for row in rows[55:])


def test_an_idt_plate_of_96_lists_its_oligos_alone_as_csv_too(sheet):
    small = replace(sheet, source_wells=96, flanks={})
    found = table(IDT(form="csv").export(small)["idt.csv"])
    assert found["Sequence"].tolist() == sheet.designs["spacer"].tolist()
    (rows,) = workbook(IDT().export(small)["idt.xlsx"]).values()
    assert [list(row) for row in rows[1:]] == found.to_numpy().tolist()


def test_what_a_vendor_does_not_make_is_named_by_well_design_and_limit(sheet):
    first = sheet.designs["design_id"][0]
    with pytest.raises(BatchError, match=rf"idt: promoter-R01-S1, well A01, design {first} has 32 bases.*5 to 30 .*\(53 more"):
        IDT(longest=30).export(sheet)
    with pytest.raises(BatchError, match=rf"twist: .*well A01, design {first} has 32 bp, .*300 to 1,800.*--for idt"):
        Twist().export(sheet)
    wanted = sheet.designs.assign(sample="Ω" + sheet.designs["sample"])
    with pytest.raises(BatchError, match="a name that vendors do not take"):
        IDT().export(replace(sheet, designs=wanted))


def test_twist_fragments_are_long_enough_balanced_and_without_long_runs(sheet):
    filler = "ACGT" * 70
    long = replace(sheet, flanks={"spacer": (filler, filler)})
    found = table(Twist().export(long)["twist.csv"])
    assert list(found) == ["Name", "Sequence"]
    assert found["Sequence"].tolist() == [filler + design + filler for design in sheet.designs["spacer"]]
    with pytest.raises(BatchError, match=r"a run of 2\d A, Twist takes 10: add a max_homopolymer"):
        Twist().export(replace(sheet, flanks={"spacer": (filler, "A" * 20 + filler)}))
    with pytest.raises(BatchError, match=r"GC, Twist takes 25% to 75%"):
        Twist().export(replace(sheet, flanks={"spacer": ("AT" * 200, "AT" * 200)}))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([{"type": "sequence", "name": "protein", "alphabet": "ACDEFGHIKLMNPQRSTVWY", "length": 5}], "no DNA.*choose codons"),
        ([{"type": "real", "name": "mg", "low": 0, "high": 10}], "no sequence to order"),
        (
            [{"type": "sequence", "name": "left", "length": 6}, {"type": "sequence", "name": "right", "length": 6}],
            "several sequences: say which to order, parameter=left",
        ),
    ],
    ids=["protein", "no sequence", "two sequences"],
)
def test_what_is_no_oligo_is_not_ordered(sheet, space, message):
    other = parse_config({"name": "other", "space": {"parameters": space}}, CampaignConfig)
    for exporter in (IDT(), Twist()):
        with pytest.raises(BatchError, match=message):
            exporter.export(replace(sheet, space=other.space))


def test_one_of_two_sequences_is_ordered_where_it_is_named(sheet):
    space = config(
        flanks={}, space={"parameters": [{"type": "sequence", "name": one, "length": 20} for one in ("spacer", "rbs")]}
    ).space
    both = replace(sheet, space=space, designs=sheet.designs.assign(rbs="ACGT" * 5), flanks={"rbs": ("GG", "")})
    assert set(table(IDT(form="csv", parameter="rbs").export(both)["idt.csv"])["Sequence"].replace("", np.nan).dropna()) == {
        "GG" + "ACGT" * 5
    }
    with pytest.raises(BatchError, match="no sequence 'gene' to order; it has spacer, rbs"):
        IDT(parameter="gene").export(both)


def test_flanks_are_dna_around_a_sequence_that_there_is():
    with pytest.raises(ConfigError, match=r"flanks\.gene: the space has no sequence"):
        config(flanks={"gene": {"five_prime": "ACGT"}})
    with pytest.raises(ConfigError, match=r"flanks\.spacer\.five_prime"):
        config(flanks={"spacer": {"five_prime": "acgt"}})


# ---- the verb


def test_exports_set_once_in_the_campaign_come_with_every_plate(tmp_path):
    exports = {ROBOTS + "Echo": {"volume": 25}, ORDERS + "IDT": {}}
    campaign = Campaign.create(config(plate={"exports": exports}), home=tmp_path / "lab")
    campaign.propose(FIRST, out=tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {"promoter-R01_echo.csv", "promoter-R01_idt.xlsx", "promoter-R01_sources.csv"} <= set(before)
    written = campaign.export(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in written.values()} == before
    louder = campaign.export(tmp_path / "again", exporters={ROBOTS + "Echo": {"volume": 50}})
    assert set(table(louder["echo"].read_bytes())["Transfer Volume"]) == {"50"}
    manifest = yaml.safe_load(written["manifest"].read_text())
    assert set(manifest["files"]) == set(before) - {"promoter-R01_manifest.json"}


def test_the_same_batch_gives_the_same_bytes_in_another_second_and_another_ledger(tmp_path, monkeypatch):
    wanted = {ROBOTS + "Echo": {"volume": 25}, ORDERS + "IDT": {}}
    one = started(tmp_path / "one").export(tmp_path / "a", exporters=wanted)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    two = started(tmp_path / "two").export(tmp_path / "b", exporters=wanted)
    assert list(one) == list(two)
    assert exported(tmp_path / "a") == exported(tmp_path / "b")


def test_a_refused_order_writes_nothing_and_says_how_to_get_the_plate_without_it(campaign, tmp_path):
    with pytest.raises(BatchError, match="labloop export promoter --for none"):
        campaign.export(tmp_path / "out", exporters={ROBOTS + "Echo": {"volume": 25}, ORDERS + "Twist": {}})
    assert not (tmp_path / "out").exists()


def test_a_plate_can_be_had_without_the_orders_that_its_campaign_wants(tmp_path):
    home = tmp_path / "lab"
    Campaign.create(config(plate={"exports": [ORDERS + "Twist"]}), home=home)
    with pytest.raises(BatchError, match="twist: "):
        Campaign.open("promoter", home=home).propose(FIRST, out=tmp_path / "out")
    arguments = ["export", "promoter", "--home", str(home), "-o", str(tmp_path / "out"), "--for"]
    assert main([*arguments, "none"]) == 0
    assert {path.stem.partition("_")[2] for path in (tmp_path / "out").iterdir()} == {
        "picks", "platemap", "grid", "assay", "manifest",
    }  # fmt: skip
    assert main([*arguments, f"{ORDERS}Twist/shortest=20"]) == 0
    assert (tmp_path / "out" / "promoter-R01_twist.csv").exists()


def test_an_order_of_another_batch_is_not_overwritten(campaign, tmp_path):
    written = campaign.export(tmp_path, exporters={ORDERS + "IDT": {}})
    written["idt"].write_bytes(b"edited by hand")
    with pytest.raises(BatchError, match=r"idt\.xlsx: is there already with other content"):
        campaign.export(tmp_path, exporters={ORDERS + "IDT": {}})


def test_an_unknown_exporter_or_option_is_refused_before_anything_is_stored(campaign, tmp_path):
    with pytest.raises(ConfigError, match="'fax' is unknown"):
        Campaign.create(config(plate={"exports": ["fax"]}), home=tmp_path)
    with pytest.raises(ConfigError, match="volume: has to be given"):
        Campaign.create(config(plate={"exports": [ROBOTS + "Echo"]}), home=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="volum: "):
        campaign.export(tmp_path, exporters={ROBOTS + "Echo": {"volum": 25}})


class TestEcho(ExporterContract):
    exporter = Echo(volume=25)
    space = TOY_SPACES["mixed"]


class TestHamilton(ExporterContract):
    exporter = Hamilton(volume=2)
    space = TOY_SPACES["mixed"]


class TestOpentrons(ExporterContract):
    exporter = Opentrons(volume=2)
    space = TOY_SPACES["mixed"]


class TestIDT(ExporterContract):
    exporter = IDT()


class TestTwist(ExporterContract):
    exporter = Twist(shortest=1, gc_low=0, gc_high=1)


# ---- all readings as one table


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Campaign:
    """A campaign with a history of replicates, bounds, failures and odd notes, and a measured plate with controls."""
    folder = tmp_path_factory.mktemp("measured")
    campaign = Campaign.create(config(), home=folder / "lab")
    history = [
        "Spacer sequence,F/OD,unit,status,measured_at,note",
        'ACGTACGATCGATTACGATC,100.25,RFU,,2026-03-02,"first, with ""quotes"""',
        "ACGTACGATCGATTACGATC,140.75,RFU,,2026-03-02T14:05,'=again",
        "ACGTACGATCGATTACGATC,0.1,kRFU,,,",
        "TCGTACGATCGATTACGATG,>90000,RFU,,,-20 degrees",
        "GCGTACGATCGATTACGATG,,RFU,failed_technical,,dropped",
    ]
    (folder / "history.csv").write_text("\n".join(history) + "\n")
    campaign.ingest(folder / "history.csv")
    campaign.propose(FIRST, out=folder / "out")
    form = pd.read_csv(folder / "out" / "promoter-R01_assay.csv", dtype=str)
    values = np.random.default_rng(3).lognormal(5, 1, len(form))
    for turn, scale in enumerate((1.0, 1.01)):  # the plate was read twice: two files, the same wells
        form.assign(value=(scale * values).astype(str)).to_csv(folder / f"read{turn}.csv", index=False)
        campaign.ingest(folder / f"read{turn}.csv")
    return campaign


def test_a_dataset_has_a_row_a_reading_with_where_it_comes_from(measured, tmp_path):
    path, n = measured.export_dataset(tmp_path / "all.csv")
    found = pd.read_csv(path)
    assert len(found) == n == 5 + 2 * 54
    assert found["design_id"].notna().all()
    data = measured.dataset()
    first = found[found["spacer"] == "ACGTACGATCGATTACGATC"]
    assert first["value"].tolist() == [100.25, 140.75, 100.0]
    place = data.ids.index(first["design_id"].iloc[0])
    assert set(first["y"]) == {data.y[place]}
    assert set(first["sem"]) == {data.sem[place]}
    assert set(first["n_replicates"]) == {3}
    assert first[["file", "row"]].to_numpy().tolist() == [["history.csv", 2], ["history.csv", 3], ["history.csv", 4]]
    assert found.loc[found["qualifier"] == ">", ["value", "status"]].to_numpy().tolist() == [[90000, "censored_high"]]
    assert found.loc[found["status"] == "failed_technical", "value"].isna().all()
    plate = found[found["plate"].notna()]
    picks = measured.batch().picks.groupby("design_id")["arm"].agg("+".join)
    assert plate["arms"].tolist() == picks.loc[plate["design_id"]].tolist()
    assert set(plate["proposers"]) == {"random"}
    assert found.loc[found["plate"].isna(), "arms"].isna().all()


def test_controls_come_along_where_they_are_wanted(measured, tmp_path):
    path, _ = measured.export_dataset(tmp_path / "all.csv", controls=True)
    found = pd.read_csv(path)
    assert found["control"].value_counts().to_dict() == {"wildtype": 6, "empty_vector": 6}
    assert (found["design_id"].isna() == found["control"].notna()).all()


def test_a_dataset_comes_back_the_same_in_a_fresh_campaign(measured, tmp_path):
    path, n = measured.export_dataset(tmp_path / "all.csv")
    other = Campaign.create(config(), home=tmp_path / "elsewhere")
    receipt = other.ingest(path)
    assert (receipt.n_rows, receipt.n_failed) == (n, 1)
    one, two = measured.dataset(), other.dataset()
    assert one.ids == two.ids
    for name in ("X", "y", "sem", "censored", "n_replicates"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.fingerprint == two.fingerprint
    again = pd.read_csv(other.export_dataset(tmp_path / "again.csv")[0])
    kept = ["design_id", "value", "unit", "qualifier", "status", "plate", "well", "measured_at", "note"]
    pd.testing.assert_frame_equal(again[kept], pd.read_csv(path)[kept])


def test_what_another_campaign_measured_is_a_start_here_whatever_its_round_was(measured, tmp_path):
    path, n = measured.export_dataset(tmp_path / "all.csv")
    told = pd.read_csv(path, dtype=str)
    told.assign(round=told["plate"].notna().map({True: "17", False: ""})).to_csv(path, index=False)  # more than are planned here
    other = Campaign.create(config(), home=tmp_path / "elsewhere")
    assert other.ingest(path).n_rows == n
    assert other.ledger.measurements("promoter")["round"].isna().all()


def test_names_that_look_like_formulas_come_back_as_they_were(tmp_path):
    options = ["=1+1", "+cmd", "-2+3", "@sum", "'=quoted", "''+twice", "-20", "plain"]
    space = {"parameters": [{"type": "choice", "name": "salt", "options": options}]}
    salty = parse_config({"name": "salty", "space": space}, CampaignConfig)
    one, two = (Campaign.create(salty, home=tmp_path / name) for name in ("one", "two"))
    history = pd.DataFrame({"salt": list(map(neutral, options)), "value": range(-3, 5)})
    history.to_csv(tmp_path / "history.csv", index=False)
    one.ingest(tmp_path / "history.csv")
    path, _ = one.export_dataset(tmp_path / "all.csv")
    raw = table(path.read_bytes())
    assert raw["salt"].tolist() == list(map(neutral, options))
    assert raw["value"].astype(float).tolist() == list(range(-3, 5))  # a negative number is no formula
    two.ingest(path)
    assert two.dataset().fingerprint == one.dataset().fingerprint
    assert set(two.ledger.designs("salty")["salt"]) == set(options)


def test_parquet_holds_the_same_table_with_its_types(measured, tmp_path):
    pytest.importorskip("pyarrow")
    path, _ = measured.export_dataset(tmp_path / "all.parquet")
    whole = pd.read_parquet(path)
    told = pd.read_csv(measured.export_dataset(tmp_path / "all.csv")[0])
    assert list(whole) == list(told)
    np.testing.assert_array_equal(whole["value"], told["value"])
    assert str(whole["round"].dtype) == str(whole["row"].dtype) == "Int64"
    assert whole["note"].iloc[1] == "=again"  # nothing runs in Parquet, so nothing is neutralised
    assert told["note"].iloc[1] == "'=again"


def test_without_pyarrow_the_message_names_the_extra(measured, tmp_path, monkeypatch):
    whole = tidy(measured)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(LabloopError, match=r"labloop-toolkit\[parquet\]"):
        write_tidy(whole, tmp_path / "all.parquet")
    assert not list(tmp_path.iterdir())


def test_a_dataset_of_no_reading_no_known_ending_or_no_such_assay(measured, tmp_path):
    empty = Campaign.create(config(), home=tmp_path / "empty")
    assert empty.export_dataset(tmp_path / "none.csv")[1] == 0
    assert pd.read_csv(tmp_path / "none.csv").columns[0] == "design_id"
    with pytest.raises(LabloopError, match=r"\.csv, \.xlsx or \.parquet"):
        measured.export_dataset(tmp_path / "all.xls")
    with pytest.raises(CampaignError, match="no assay 'od'; it has fluorescence"):
        measured.export_dataset(tmp_path / "all.csv", assay="od")


def test_the_command_line_writes_orders_and_datasets(tmp_path, capsys, monkeypatch):
    started(tmp_path / "lab")
    monkeypatch.chdir(tmp_path)
    asked = f"{ORDERS}IDT/form=csv,{ROBOTS}Echo/volume=50"
    assert main(["export", "promoter", "--home", "lab", "-o", "out", "--for", asked]) == 0
    assert "promoter-R01_idt.csv" in capsys.readouterr().out
    assert set(table(Path("out/promoter-R01_echo.csv").read_bytes())["Transfer Volume"]) == {"50"}
    assert main(["export", "promoter", "--home", "lab", "--dataset", "all.csv"]) == 0
    assert "0 readings" in capsys.readouterr().out
    assert main(["export", "promoter", "--home", "lab", "-o", "out", "--for", "fax"]) == 1
    assert "exporter 'fax' is unknown" in capsys.readouterr().err
