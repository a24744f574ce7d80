"""The same readings are not new readings, whatever bytes, order or part of them a file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.read import parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, IngestError
from labloop.rounds import intake
from labloop.rounds.repeats import matches

DESIGNS = ("ACGTACGA", "TTTTTTTT", "AAAACCCC", "GGGGTTTA", "CATGCATA", "AACCGGTA")
VALUES = (0.41, 0.123456789, 0.87, 0.5, 0.75, 0.002)
ROWS = [f"{dna},{value}" for dna, value in zip(DESIGNS, VALUES)]
FIRST = parse_config({"arms": {"start": {"proposers": "random"}}, "judge": None}, RoundConfig)


def begin(folder: Path) -> None:
    run = Campaign.create(preset("campaigns/tfbind8.yaml"), home=folder / "home")
    run.ingest(save(folder, "history.csv", "dna,value", *ROWS))
    run.propose(FIRST, out=folder / "out")
    run.ledger.close()


@pytest.fixture
def campaign(tmp_path: Path, made_once) -> Campaign:
    """A campaign whose history is in the ledger, and whose first plate is at the lab."""
    return Campaign.open("tfbind8", home=made_once(begin, tmp_path) / "home")


@pytest.fixture
def form(campaign: Campaign, tmp_path: Path) -> pd.DataFrame:
    """The empty form of the plate that is at the lab."""
    return pd.read_csv(next((tmp_path / "out").glob("*_assay.csv")), dtype=str)


def save(folder: Path, name: str, *lines: str, end: str = "\n") -> Path:
    path = folder / name
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def filled(form: pd.DataFrame, values: dict[int, float], path: Path) -> Path:
    """The form with some of its rows filled in."""
    form.assign(value=[values.get(i, "") for i in range(len(form))]).to_csv(path, index=False)
    return path


def stored(campaign: Campaign) -> int:
    return len(campaign.ledger.measurements(campaign.name))


@pytest.mark.parametrize(
    ("header", "rows", "end"),
    [
        ("dna,value", ROWS, "\r\n"),
        ("dna,value", ROWS[::-1], "\n"),
        ("dna,value", ROWS[1:4], "\n"),
        ("dna,value,note", [f"{row},again" for row in ROWS], "\n"),
        ("dna,value,measured_at", [f"{row},2026-03-01" for row in ROWS], "\n"),
        ("value;dna", [";".join(row.split(",")[::-1]).replace(".", ",") for row in ROWS], "\n"),
        ("dna,value", [row.lower().replace("0.123456789", "0.1234567890000001") for row in ROWS], "\n"),
    ],
    ids=["line ends", "another order", "a part", "notes", "dates", "separators", "digits"],
)
def test_a_history_that_comes_again_is_refused_with_where_it_came_from(campaign, tmp_path, header, rows, end):
    path = save(tmp_path, "copy.csv", header, *rows, end=end)
    before = campaign.dataset().fingerprint
    for ingest in (campaign.ingest, lambda file: campaign.ingest(file, dry_run=True)):
        with pytest.raises(
            IngestError, match=rf"all its {len(rows)} readings .*{len(rows)} from history\.csv, taken in \d{{4}}-.*--again"
        ):
            ingest(path)
    assert "history.csv" in str(campaign.explain(path).refusal)
    assert stored(campaign) == len(ROWS)
    assert campaign.dataset().fingerprint == before


def test_a_history_that_was_measured_anew_is_taken_when_that_is_said(campaign, tmp_path, capsys):
    copy = str(save(tmp_path, "copy.csv", "dna,value", *ROWS, end="\r\n"))
    home = ["-c", campaign.name, "--home", str(tmp_path / "home")]
    assert main(["ingest", copy, *home]) == 1
    assert "--again" in capsys.readouterr().err
    assert main(["ingest", copy, *home, "--again"]) == 0
    assert "6 readings: 6 measured, 0 without a value" in capsys.readouterr().out
    assert main(["ingest", copy, *home]) == 0
    assert capsys.readouterr().out.strip() == "copy.csv is in the ledger already: nothing to do"
    assert stored(campaign) == 2 * len(ROWS)
    data = campaign.dataset()
    assert data.n_replicates.tolist() == [2] * len(ROWS)
    assert np.isnan(data.sem).all()  # readings that are equal to the last digit tell no noise


def test_rows_that_a_longer_history_repeats_are_named(campaign, tmp_path):
    rows = ["CCCCCCCC,0.3", *ROWS[:2], "AGAGAGAG,0.6", ROWS[4]]
    with pytest.raises(IngestError, match=r"3 rows of 5 in the ledger already .*take them out") as caught:
        campaign.ingest(save(tmp_path, "longer.csv", "dna,value", *rows))
    assert [fault.row for fault in caught.value.faults] == [3, 4, 6]
    assert "rows 3-4, 6, value: is in the ledger already, from history.csv" in str(caught.value)
    assert stored(campaign) == len(ROWS)


@pytest.mark.parametrize(
    "row", ["ACGTACGA,0.42,", "ACGTACGA,>0.41,", "AACCGGTT,0.41,"], ids=["another value", "a bound", "another design"]
)
def test_readings_that_differ_are_new(campaign, tmp_path, row):
    campaign.ingest(save(tmp_path, "new.csv", "dna,value,status", row, "CCCCCCCC,0.3,"))
    assert stored(campaign) == len(ROWS) + 2


def test_a_replicate_in_one_file_is_a_replicate_and_repeats_as_often_as_it_stands(campaign, tmp_path):
    campaign.ingest(save(tmp_path, "twice.csv", "dna,value", "CCCCCCCC,0.3", "CCCCCCCC,0.3"))
    with pytest.raises(IngestError, match="all its 2 readings"):
        campaign.ingest(save(tmp_path, "copy.csv", "dna,value", "CCCCCCCC,0.30", "CCCCCCCC,0.30"))
    with pytest.raises(IngestError, match="2 rows of 3"):
        campaign.ingest(save(tmp_path, "thrice.csv", "dna,value", *["CCCCCCCC,0.3"] * 3))


def test_readings_of_other_days_are_new_where_both_files_tell_the_day(campaign, tmp_path):
    header = "dna,value,measured_at"
    campaign.ingest(save(tmp_path, "monday.csv", header, "CCCCCCCC,0.3,2026-03-02"))
    campaign.ingest(save(tmp_path, "tuesday.csv", header, "CCCCCCCC,0.3,2026-03-03"))
    with pytest.raises(IngestError, match=r"monday\.csv"):
        campaign.ingest(save(tmp_path, "copy.csv", header, "CCCCCCCC,0.30,2026-03-02"))


def test_bounds_and_failures_that_agree_prove_no_repetition(campaign, tmp_path):
    header = "dna,value,status"
    first = ["CCCCCCCC,<0.1,", "AGAGAGAG,,failed_technical", "TGTGTGTA,0.2,"]
    campaign.ingest(save(tmp_path, "first.csv", header, *first))
    campaign.ingest(save(tmp_path, "second.csv", header, *first[:2], "TGTGTGTA,0.21,"))
    with pytest.raises(IngestError, match="all its 3 readings"):
        campaign.ingest(save(tmp_path, "copy.csv", header, *first[::-1]))


def test_what_was_corrected_does_not_come_back(campaign, tmp_path):
    campaign.correct(save(tmp_path, "mended.csv", "dna,value", "ACGTACGA,0.9"), reason="typo")
    with pytest.raises(IngestError, match="all its 6 readings"):
        campaign.ingest(save(tmp_path, "copy.csv", "dna,value", *ROWS, end="\r\n"))


def test_a_form_that_comes_again_with_more_wells_adds_those(campaign, form, tmp_path):
    half, whole = {i: 0.1 + i / 1000 for i in range(48)}, {i: 0.1 + i / 1000 for i in range(len(form))}
    receipt = campaign.ingest(filled(form, half, tmp_path / "half.csv"))
    assert receipt.n_rows == 48
    assert campaign.state(1) == "EXPORTED"
    receipt = campaign.ingest(filled(form, whole, tmp_path / "whole.csv"))
    assert receipt.n_rows == len(form) - 48
    assert "48 rows left out that the ledger has already (48 from half.csv, taken in" in receipt.dialect
    assert campaign.state(1) == "MEASURED"
    assert stored(campaign) == len(ROWS) + len(form)
    with pytest.raises(IngestError, match=rf"all its {len(form)} readings .*half\.csv.*whole\.csv"):
        campaign.ingest(save(tmp_path, "copy.csv", *(tmp_path / "whole.csv").read_text().splitlines(), end="\r\n"))


def test_a_plate_that_reads_as_the_one_before_in_every_well_is_said_to_be_its_file(campaign, form, tmp_path):
    values = {i: 0.3 + i / 1000 for i in range(len(form))}
    assert "reads in" not in campaign.ingest(filled(form, values, tmp_path / "first.csv")).dialect
    campaign.propose(FIRST, out=tmp_path / "two")
    second = pd.read_csv(next((tmp_path / "two").glob("*_assay.csv")), dtype=str)
    told = campaign.ingest(filled(second, values, tmp_path / "second.csv"), dry_run=True).dialect
    assert "tfbind8-R02-P1 reads in 96 wells as tfbind8-R01-P1 does (first.csv)" in told
    assert "reads in" not in campaign.ingest(filled(second, {**values, 5: 0.9}, tmp_path / "own.csv"), dry_run=True).dialect


def test_a_plate_that_was_read_again_is_taken_whole(campaign, form, tmp_path):
    values = {i: 0.1 + i / 1000 for i in range(len(form))}
    campaign.ingest(filled(form, values, tmp_path / "first.csv"))
    campaign.ingest(filled(form, values | {0: 0.9}, tmp_path / "second.csv"))
    assert stored(campaign) == len(ROWS) + 2 * len(form)
    assert len(campaign.dataset()) <= len(ROWS) + len(form)  # of a well that was read again, the latest reading counts


def test_a_history_without_wells_repeats_a_plate(campaign, form, tmp_path):
    campaign.ingest(filled(form, {i: 0.1 + i / 1000 for i in range(len(form))}, tmp_path / "plate.csv"))
    table = campaign.export_dataset(tmp_path / "all.csv")[0]
    columns = pd.read_csv(table, dtype=str)[["dna", "value"]]
    columns[columns["dna"].notna()].iloc[::-1].to_csv(tmp_path / "back.csv", index=False)
    with pytest.raises(IngestError, match=r"plate\.csv"):
        campaign.ingest(tmp_path / "back.csv")


def test_each_old_reading_is_repeated_once_by_the_row_that_tells_most_alike():
    def rows(*told: tuple[str, str | None]) -> pd.DataFrame:
        columns = {"design_id": "d", "value": 1.0, "qualifier": "=", "status": "ok", "plate": None, "well": None}
        return pd.DataFrame([{**columns, "round": np.nan, "plate": plate, "measured_at": day} for plate, day in told])

    old = rows(("P1", None), (None, "2026-03-01"), ("P2", "2026-03-02"))
    new = rows((None, None), ("P2", "2026-03-02"), ("P1", "2026-03-02"), ("P9", "2026-03-09"))
    assert matches(new, old).tolist() == [1, 2, 0, -1]
    assert matches(new.iloc[::-1], old.iloc[:0]).tolist() == [-1] * 4


def test_bytes_that_another_process_stored_meanwhile_change_nothing(campaign, tmp_path, monkeypatch):
    path = save(tmp_path, "more.csv", "dna,value", "CCCCCCCC,0.3")
    read = intake.read_assay

    def slowly(*args, **options):
        file = read(*args, **options)
        monkeypatch.setattr(intake, "read_assay", read)
        assert Campaign.open(campaign.name, home=tmp_path / "home").ingest(path).stored
        return file

    monkeypatch.setattr(intake, "read_assay", slowly)
    receipt = campaign.ingest(path)
    assert not receipt.stored
    assert "in the ledger already" in receipt.note
    assert stored(campaign) == len(ROWS) + 1


def test_bytes_that_are_read_otherwise_are_no_repetition(campaign, tmp_path):
    reads = [("450", (0.1, 0.2, 0.3)), ("600", (10, 20, 30))]
    lines = [line for read, values in reads for line in (read, ",1,2,3", "A,{},{},{}".format(*values), "")]
    path = save(tmp_path, "reader.csv", *lines)
    assert campaign.ingest(path, read="450").n_rows == 3
    campaign.close(reason="enough")
    campaign.propose(FIRST, out=tmp_path / "two")
    one, two = ({"plates": [f"tfbind8-R0{number}-P1"]} for number in (1, 2))
    assert not campaign.ingest(path, read="450").stored  # of the plate that it was of, not of the one that waits now
    assert campaign.ingest(path, read="600", **two).n_rows == 3
    assert not campaign.ingest(path, read="600", again=True, **two).stored
    assert "3 wells read before, and otherwise" in campaign.explain(path, read="600", **one).dialect
    assert len(campaign.correct(path, read="600", reason="wrong wavelength").changes) == 3
    assert not campaign.correct(path, read="600", reason="wrong wavelength").stored
    assert not campaign.ingest(path, read="450", **one).stored
    with pytest.raises(CampaignError, match="a later correction stands"):
        campaign.correct(path, read="450", reason="wrong wavelength", **one)
    found = campaign.ledger.measurements(campaign.name, plates=[*one["plates"], *two["plates"]])
    assert found["value"].tolist() == [10, 20, 30] * 2
    assert not any(each.faults for each in campaign.ledger.verify())
