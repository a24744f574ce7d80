"""The folder that the lab drops files into: whole files are taken, the rest is left; what is wrong is said beside the file."""

from __future__ import annotations

import csv
import json
import os
import time

import pytest

from labloop import inbox
from labloop.campaign import Campaign
from labloop.errors import LabloopError, LedgerError

LATER = 60.0
GOOD = "dna,value\nACGTACGA,0.5\nAAAAAAAC,0.25\n"
BAD = "dna,value\nACGTACGN,0.5\nACGTACGT,lots\n=1+2,0.1\n"


@pytest.fixture
def run(tmp_path, tfbind8_config):
    return Campaign.create(tfbind8_config, home=tmp_path / "home")


@pytest.fixture
def box(tmp_path):
    folder = tmp_path / "inbox"
    inbox.look(folder)
    return folder


def look(box):
    return inbox.look(box, now=time.time() + LATER)


def test_a_good_file_ends_in_done_with_its_receipt(run, box):
    (box / "plate.csv").write_text(GOOD)
    assert look(box).whole == ("plate.csv",)
    filed = inbox.take(run, box, "plate.csv")
    assert (filed.accepted, filed.place) == (True, box / "done" / "plate.csv")
    assert filed.place.read_text() == GOOD
    assert json.loads((box / "done" / "plate.csv.receipt.json").read_text())["n_measured"] == 2
    assert len(run.dataset()) == 2
    assert look(box).whole == ()


def test_a_bad_file_ends_in_rejected_with_every_fault_beside_it(run, box):
    (box / "plate.csv").write_text(BAD)
    filed = inbox.take(run, box, "plate.csv")
    assert (filed.accepted, filed.place) == (False, box / "rejected" / "plate.csv")
    rows = list(csv.DictReader((box / "rejected" / "plate.csv.faults.csv").open()))
    assert {"row", "column", "rule", "cell"} == set(rows[0])
    assert {row["cell"] for row in rows} >= {"ACGTACGN", "lots"}
    assert not [row for row in rows if row["cell"].startswith("=")]  # a spreadsheet opens this file
    assert "Nothing of this file was stored" in (box / "rejected" / "plate.csv.why.txt").read_text()
    assert len(run.dataset()) == 0


def test_a_file_that_is_no_assay_is_rejected_in_words(run, box):
    (box / "holiday.jpg").write_bytes(bytes(range(256)) * 40)
    assert not inbox.take(run, box, "holiday.jpg").accepted
    assert "holiday.jpg" in (box / "rejected" / "holiday.jpg.why.txt").read_text()


def test_a_file_still_being_written_is_left_until_it_rests(box):
    (box / "plate.csv").write_text(GOOD)
    os.utime(box / "plate.csv", (1, 1))  # a copy that carries its original's date
    assert inbox.look(box).arriving == ("plate.csv",)
    assert inbox.look(box).whole == ()
    assert look(box).whole == ("plate.csv",)
    os.utime(box / "plate.csv", (time.time() + 1e6, time.time() + 1e6))  # a computer whose clock is ahead
    assert look(box).whole == ("plate.csv",)


def test_temporary_names_and_folders_are_left_alone(run, box):
    for name in (".hidden.csv", "~$plate.xlsx", "plate.csv.part", "plate.csv.TMP", "plate.csv~", "plate.crdownload"):
        (box / name).write_text(GOOD)
    (box / "last week").mkdir()
    assert look(box) == inbox.Found()


def test_the_oldest_file_comes_first(box):
    for name in ("b.csv", "a.csv"):
        (box / name).write_text(GOOD)
        time.sleep(0.02)
    assert look(box).whole == ("b.csv", "a.csv")


def test_links_and_devices_are_never_opened(run, box, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text(GOOD)
    (box / "link.csv").symlink_to(secret)
    (box / "nowhere.csv").symlink_to(tmp_path / "nothing")
    os.mkfifo(box / "pipe.csv")  # reading it would wait for ever
    for name in ("link.csv", "nowhere.csv", "pipe.csv"):
        filed = inbox.take(run, box, name)
        assert not filed.accepted
        assert "link or a device" in filed.said
    assert secret.read_text() == GOOD
    assert len(run.dataset()) == 0


def test_a_path_is_no_name(run, box):
    for name in ("../secret.csv", "done/plate.csv", "/etc/passwd"):
        with pytest.raises(ValueError, match="is a path"):
            inbox.take(run, box, name)


def test_folders_that_lead_elsewhere_are_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    box = tmp_path / "inbox"
    box.mkdir()
    (box / "done").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LabloopError, match="is a link"):
        inbox.look(box)


def test_a_huge_file_is_rejected_unread(run, box):
    with (box / "raw.csv").open("wb") as file:
        file.truncate(inbox.LARGEST + 1)
    filed = inbox.take(run, box, "raw.csv")
    assert not filed.accepted
    assert "64 MB" in filed.said


def test_odd_names_become_names_that_can_be_printed(run, box):
    odd = os.fsdecode(b"pl\xffte\n:1.csv")
    (box / odd).write_text(GOOD)
    assert look(box).whole == (odd,)
    filed = inbox.take(run, box, odd)
    assert filed.accepted
    assert filed.place.name == "pl_te__1.csv"
    long = "x" * 240 + ".csv"
    (box / long).write_text(BAD)
    place = inbox.take(run, box, long).place
    assert place.suffix == ".csv"
    assert place.with_name(place.name + ".faults.csv").exists()


def test_the_same_name_again_writes_nothing_over(run, box):
    for value in ("0.5", "0.6"):
        (box / "results.csv").write_text(f"dna,value\nACGTACGA,{value}\n")
        inbox.take(run, box, "results.csv")
    assert sorted(path.name for path in (box / "done").glob("*.csv")) == ["results.2.csv", "results.csv"]
    assert len(run.ledger.files(run.name)) == 2


def test_a_process_that_died_after_the_ingest_leaves_a_file_that_is_only_filed_away(run, box):
    (box / ".taken" / "plate.csv").write_text(GOOD)
    run.ingest(box / ".taken" / "plate.csv")
    assert inbox.look(box).whole == ("plate.csv",)
    (box / "plate.csv").write_text("dna,value\nAAAAAAAC,0.7\n")  # the lab dropped another file of the same name since
    assert inbox.take(run, box, "plate.csv").place == box / "done" / "plate.csv"
    assert len(run.ledger.files(run.name)) == 1
    assert look(box).whole == ("plate.csv",)
    assert inbox.take(run, box, "plate.csv").place == box / "done" / "plate.2.csv"
    assert len(run.ledger.files(run.name)) == 2


def test_a_ledger_that_cannot_write_now_rejects_nothing(run, box, monkeypatch):
    def locked(*_, **__):
        raise LedgerError("locked")

    (box / "plate.csv").write_text(GOOD)
    monkeypatch.setattr(run, "ingest", locked)
    with pytest.raises(LedgerError):
        inbox.take(run, box, "plate.csv")
    monkeypatch.undo()
    assert list((box / "rejected").iterdir()) == []
    assert inbox.look(box).whole == ("plate.csv",)
    assert inbox.take(run, box, "plate.csv").accepted


def test_a_file_that_is_gone_is_no_error(run, box):
    assert inbox.take(run, box, "gone.csv") is None
