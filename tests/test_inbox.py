"""The folder that the lab drops files into: whole files are taken, the rest is left; what is wrong is said beside the file."""

from __future__ import annotations

import csv
import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from labloop.assays.ingest import sha256_of
from labloop.campaign.facade import Campaign
from labloop.campaign.inbox import apart, errand
from labloop.campaign.inbox import folder as inbox
from labloop.campaign.inbox.arrivals import Arrivals
from labloop.config.read import parse_config
from labloop.errors import LabloopError, LedgerError, QualityError

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


def test_a_fault_of_many_rows_is_told_once(run, box):
    (box / "plate.csv").write_text("dna,value\n" + "ACGTACGA,lots\n" * 60 + "ACGTACGN,0.5\n")
    inbox.take(run, box, "plate.csv")
    why = (box / "rejected" / "plate.csv.why.txt").read_text()
    assert "61 faults, also in plate.csv.faults.csv:\n  rows 2-61, value: " in why
    assert "  row 62, dna: " in why
    assert len((box / "rejected" / "plate.csv.faults.csv").read_text().splitlines()) == 62


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
    assert look(box) == inbox.InboxFiles()


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
    assert set(look(box).whole) == {"link.csv", "nowhere.csv", "pipe.csv"}
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


def test_a_huge_file_is_rejected_unread(obeying, box):
    with (box / "raw.csv").open("wb") as file:
        file.truncate(inbox.LARGEST + 1)
    filed = inbox.take(obeying, box, "raw.csv")
    assert not filed.accepted
    assert "64 MB" in filed.said
    assert obeying.to_ingest() in filed.said


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


def test_a_file_that_is_gone_is_no_error(run, box):
    assert inbox.take(run, box, "gone.csv") is None


# ---- whatever a file does


@pytest.fixture
def obeying(tmp_path, tfbind8_config, monkeypatch):
    """A campaign of two assays whose reader does what a file's first line says."""
    monkeypatch.setenv("LABLOOP_PLUGINS", "fakes")
    told = tfbind8_config.model_dump(mode="json") | {"assays": {"pbm": {"reader": "fakes:Obedient"}, "selex": {}}}
    return Campaign.create(parse_config(told, type(tfbind8_config)), home=tmp_path / "obeying")


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("type", "TypeError: cannot safely cast"),
        ("overflow", "OverflowError"),
        ("data", "DataError"),
        ("refused", "refuses what was to be written"),
        ("recursion", "RecursionError"),
        ("memory", "GB of memory: is it an assay file? If so: labloop ingest FILE.csv -c tfbind8 (--assay pbm or --assay selex"),
        ("exit", "SystemExit"),
    ],
)
def test_a_file_that_raises_anything_is_rejected_with_a_sentence_and_a_log(obeying, box, deed, said):
    (box / "bad.csv").write_text(f"{deed}\n{GOOD}")
    filed = inbox.take(obeying, box, "bad.csv")
    assert (filed.accepted, filed.waits, filed.place) == (False, False, box / "rejected" / "bad.csv")
    why = (box / "rejected" / "bad.csv.why.txt").read_text()
    assert said in why
    assert "Traceback" not in why
    assert "Traceback" in (box / "rejected" / "bad.csv.log.txt").read_text()
    assert look(box) == inbox.InboxFiles()
    assert len(obeying.ledger.files(obeying.name)) == 0


def test_a_file_that_is_stored_is_done_though_what_follows_from_it_fails(run, box, monkeypatch):
    def failing(*arguments, **named):
        ingest(*arguments, **named)
        raise QualityError("the plate has no controls")

    ingest = errand.intake.ingest
    monkeypatch.setattr(errand.intake, "ingest", failing)
    (box / "plate.csv").write_text(GOOD)
    job = SimpleNamespace(campaign=run.name, path=str(box / "plate.csv"), grown_from=None, memory=0)
    told = errand._told(run, job)
    assert told["kind"] == "stored"
    assert "no controls" in told["said"]


def test_a_round_that_is_no_whole_number_holds_up_no_other_file(run, box):
    (box / "a.csv").write_text("dna,value,round\nACGTACGA,0.5,1.5\n")
    (box / "b.csv").write_text(GOOD)
    filed = [inbox.take(run, box, name) for name in ("a.csv", "b.csv")]
    assert [one.place.parent.name for one in filed] == ["rejected", "done"]
    assert len(run.dataset()) == 2


def test_a_file_that_kills_its_process_is_tried_once_more_after_the_others_then_rejected(obeying, box):
    (box / "a.csv").write_text(f"kill\n{GOOD}")
    (box / "b.csv").write_text(GOOD)
    first = inbox.take(obeying, box, "a.csv")
    assert first.waits
    assert look(box).whole == ("b.csv", "a.csv")
    assert inbox.take(obeying, box, "b.csv").accepted
    last = inbox.take(obeying, box, "a.csv")
    assert last.place == box / "rejected" / "a.csv"
    assert "SIGKILL" in (box / "rejected" / "a.csv.why.txt").read_text()
    assert look(box).whole == ()


def test_a_number_that_the_database_does_not_take_rejects_the_file_and_no_other(tmp_path, tfbind8_config, box, make_database):
    run = Campaign.create(tfbind8_config, home=tmp_path / "home", ledger=make_database())
    (box / "a.csv").write_text("dna,value,round\nACGTACGA,0.5,1000000000000000000\n")
    (box / "b.csv").write_text(GOOD)
    filed = [inbox.take(run, box, name) for name in ("a.csv", "b.csv")]
    assert [one.place.parent.name for one in filed] == ["rejected", "done"]
    run.ledger.close()


def test_a_file_that_takes_too_long_is_rejected(obeying, box, monkeypatch):
    monkeypatch.setattr(apart, "SECONDS", 1)
    (box / "endless.csv").write_text(f"run\n{GOOD}")
    assert inbox.take(obeying, box, "endless.csv").place == box / "rejected" / "endless.csv"
    why = (box / "rejected" / "endless.csv.why.txt").read_text()
    assert "more than 1 s" in why
    assert obeying.to_ingest() in why


def test_a_file_with_which_the_process_of_the_inbox_dies_again_and_again_is_rejected(run, box, monkeypatch):
    def dying(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    (box / "plate.csv").write_text(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr(apart, "ingest", dying)
        for _ in range(inbox.TRIES):
            child = multiprocessing.get_context("fork").Process(target=inbox.take, args=(run, box, "plate.csv"))
            child.start()
            child.join()
            assert child.exitcode == -signal.SIGKILL
            assert look(box).whole == ("plate.csv",)
    filed = inbox.take(run, box, "plate.csv")
    assert not filed.accepted
    assert "ended before it was through" in filed.said
    (box / "plate.csv").write_text(GOOD)  # dropped again it is a new file
    assert inbox.take(run, box, "plate.csv").accepted


def test_a_process_that_does_not_start_rejects_nothing(run, box, monkeypatch):
    (box / "a.csv").write_text(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr(apart._Helper, "_one", None)
        patched.setattr(apart, "_modules", lambda: ["/nowhere"])
        patched.setattr(apart.sys, "executable", "false")
        with pytest.raises(LabloopError, match="own process ended"):
            inbox.take(run, box, "a.csv")
    assert list((box / "rejected").iterdir()) == []
    assert inbox.take(run, box, "a.csv").accepted


def test_a_ledger_that_is_locked_now_rejects_nothing_and_lets_others_go_first(run, box):
    run.ledger._store.database.timeout = 0.01
    for name in ("a.csv", "b.csv"):
        (box / name).write_text(GOOD)
    with run.ledger.begin(), pytest.raises(LedgerError, match="locked"):
        inbox.take(run, box, "a.csv")
    assert list((box / "rejected").iterdir()) == []
    assert look(box).whole == ("b.csv", "a.csv")
    run.ledger._store.database.timeout = 60.0
    assert inbox.take(run, box, "a.csv").accepted


def test_a_full_disk_and_a_computer_without_processes_reject_nothing(run, box, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.EAGAIN, "no more processes")

    (box / "a.csv").write_text(GOOD)
    for place in ("labloop.runtime.files._draft", "labloop.campaign.inbox.apart.subprocess.Popen"):
        with monkeypatch.context() as patched:
            patched.setattr(apart._Helper, "_one", None)
            patched.setattr(place, full)
            with pytest.raises(LabloopError):
                inbox.take(run, box, "a.csv")
        assert look(box).whole == ("a.csv",)
        assert list((box / "rejected").iterdir()) == []


def test_a_file_that_cannot_be_moved_is_named_and_holds_up_no_other(run, box, monkeypatch):
    def refuse(path, target):
        raise PermissionError(13, "Permission denied")

    for name in ("a.csv", "b.csv"):
        (box / name).write_text(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        assert inbox.take(run, box, "a.csv").waits
    found = look(box)
    assert found.whole == ("b.csv",)
    assert "a.csv cannot be moved: Permission denied" in found.why[0]
    (box / "a.csv").write_text(GOOD + "CCCCCCCC,0.1\n")
    assert set(look(box).whole) == {"a.csv", "b.csv"}


@pytest.mark.parametrize("mended", ["file", "folder", "where it would go"])
def test_a_file_that_could_not_be_moved_is_tried_again_once_that_is_mended(run, box, monkeypatch, mended):
    (box / "a.csv").write_text(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        assert inbox.take(run, box, "a.csv").waits
    assert look(box).whole == ()
    assert "tried again after a minute, or once what is allowed there changes" in look(box).why[0]
    {"file": box / "a.csv", "folder": box, "where it would go": box / ".taken"}[mended].chmod(0o700)
    assert look(box).whole == ("a.csv",)
    assert inbox.take(run, box, "a.csv").accepted


@pytest.fixture
def clock(monkeypatch):
    """The clock that nobody sets, in the hands of a test."""
    hands = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr("labloop.campaign.inbox.settling.time", SimpleNamespace(monotonic=lambda: hands.seconds))
    return hands


def test_a_file_that_a_program_holds_is_told_at_once_and_taken_a_minute_later_if_it_is_free(run, box, clock, monkeypatch):
    """It waited for an hour after the program had let it go."""
    (box / "a.csv").write_text(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        for _ in range(2):
            assert look(box).whole == ("a.csv",)
            assert inbox.take(run, box, "a.csv").waits
            found = look(box)
            assert (found.whole, found.arriving) == ((), ())
            assert found.why[0].startswith("a.csv cannot be moved: Permission denied: close it")
            clock.seconds += 61
    found = look(box)
    assert found.whole == ("a.csv",)
    assert "cannot be moved" in found.why[0]  # until it is taken
    assert inbox.take(run, box, "a.csv").accepted
    assert look(box).why == ()


# ---- when a file is whole


def test_a_clock_that_is_set_back_makes_no_file_wait_for_ever(box, clock):
    (box / "plate.csv").write_text(GOOD)
    yesterday = time.time() - 86400
    assert inbox.look(box, now=yesterday).arriving == ("plate.csv",)
    clock.seconds += inbox.SETTLE / 2
    (box / "plate.csv").write_text(GOOD + GOOD)  # it goes on
    inbox.look(box, now=yesterday)
    clock.seconds += inbox.SETTLE - 1
    found = inbox.look(box, now=yesterday)
    assert found.arriving == ("plate.csv",)
    assert found.settles == pytest.approx(1)
    assert "plate.csv was written 9 s ago" in found.why[0]
    clock.seconds += 1
    assert inbox.look(box, now=yesterday).whole == ("plate.csv",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"dna,value\nACGTACGA,0.5\nAAAAAAAC,0.7", "ends in the middle of a line"),
        ("dna,value\nACGTACGA,0.5".encode("utf-16"), "ends in the middle of a line"),
        (b"PK\x03\x04" + bytes(500), "workbook without its end"),
        (b"", "is empty so far"),
    ],
)
def test_a_file_that_does_not_end_as_it_should_waits_longer(box, content, why):
    (box / "plate").write_bytes(content)
    now = time.time()
    found = inbox.look(box, now=now + 60)
    assert found.arriving == ("plate",)
    assert why in found.why[0]
    assert 100 < found.settles < 130
    assert inbox.look(box, now=now + 200).whole == ("plate",)


def test_a_workbook_or_utf_16_table_that_is_whole_is_taken_at_once(box):
    (box / "a.xlsx").write_bytes(b"PK\x03\x04" + bytes(500) + b"PK\x05\x06" + bytes(18))
    (box / "b.csv").write_bytes("dna,value\nACGTACGA,0.5\n".encode("utf-16"))
    assert set(look(box).whole) == {"a.xlsx", "b.csv"}


def test_nothing_waits_for_a_file_that_changes_for_ever(box, clock):
    for n in range(70):
        (box / "log.csv").write_text(GOOD * (n + 1))
        found = inbox.look(box)
        clock.seconds += 60
    assert (found.whole, found.arriving, found.settles) == ((), (), None)
    assert "log.csv goes on changing" in found.why[0]


def test_a_look_that_remembers_nothing_writes_nothing(tmp_path):
    assert inbox.look(tmp_path / "nowhere", remember=False) == inbox.InboxFiles()
    assert list(tmp_path.iterdir()) == []


# ---- what is written after it was taken


def written_on(run, box, first, more, mode="a"):
    """Take a file that somebody has open still, then let them write; gives what becomes of that."""
    with (box / "plate.csv").open(mode) as file:
        file.write(first)
        file.flush()
        inbox.take(run, box, "plate.csv")
        assert look(box).whole == ()
        if mode == "w":
            file.seek(0)
            file.truncate()
        file.write(more)
    assert inbox.look(box).arriving == (".late-plate.csv",)
    (name,) = look(box).whole
    return inbox.take(run, box, name)


def test_a_file_that_was_taken_in_mid_number_comes_back_as_a_correction(run, box):
    first, more = "dna,value\nACGTACGA,0.5\nAAAAAAAC,0.7", "345\nCCCCCCCC,0.125\n"
    filed = written_on(run, box, first, more)
    assert filed.accepted
    assert "1 readings corrected, 1 new, 1 as they were" in filed.said
    assert sorted(run.ledger.measurements(run.name)["value"]) == [0.125, 0.5, 0.7345]
    assert (box / "done" / "plate.csv").read_text() == first
    assert (box / "done" / "plate.2.csv").read_text() == first + more
    kept = {sha256_of(box / "done" / name) for name in ("plate.csv", "plate.2.csv")}
    assert kept == set(run.ledger.files(run.name)["sha256"])
    assert look(box) == inbox.InboxFiles()


def test_a_file_that_was_rejected_half_written_comes_back_whole(run, box):
    filed = written_on(run, box, "dna,value\nACGTACGA,0.5\nAAAA", "AAAC,0.25\n")
    assert filed.place == box / "done" / "plate.csv"
    assert len(run.dataset()) == 2
    assert (box / "rejected" / "plate.csv").exists()


def test_a_file_of_which_it_cannot_be_told_what_changed_comes_back_as_a_question(run, box):
    filed = written_on(run, box, GOOD, "dna,value\nACGTACGA,0.75\n", mode="w")
    assert filed.place == box / "rejected" / "plate.csv"
    why = (box / "rejected" / "plate.csv.why.txt").read_text()
    assert "has 1 row now, where it had 2" in why
    assert "labloop correct" in why
    assert sorted(run.ledger.measurements(run.name)["value"]) == [0.25, 0.5]


def test_a_new_row_of_what_another_file_measured_is_a_question(run, box, tmp_path):
    (tmp_path / "history.csv").write_text("dna,value\nCCCCCCCC,0.9\n")
    run.ingest(tmp_path / "history.csv")
    filed = written_on(run, box, GOOD, "CCCCCCCC,0.125\n")
    assert not filed.accepted
    assert "another file's reading stands here" in (box / "rejected" / "plate.csv.why.txt").read_text()
    assert sorted(run.ledger.measurements(run.name)["value"]) == [0.25, 0.5, 0.9]


def test_a_file_that_grows_again_and_again_comes_back_each_time(run, box):
    with (box / "log.csv").open("w") as file:
        file.write("dna,value\n")
        for n, letter in enumerate("ACG"):
            file.write(f"TTTTTTT{letter},0.{n + 1}\n")
            file.flush()
            (name,) = look(box).whole
            assert inbox.take(run, box, name).accepted
    assert sorted(run.ledger.measurements(run.name)["value"]) == [0.1, 0.2, 0.3]
    assert len(run.ledger.files(run.name)) == 3


def test_a_process_that_died_while_it_filed_a_file_away_leaves_one_file_and_its_receipt(run, box, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    (box / "plate.csv").write_text(GOOD)
    with monkeypatch.context() as patched:
        patched.setattr("labloop.campaign.inbox.taken.keep", die)
        with pytest.raises(KeyboardInterrupt):
            inbox.take(run, box, "plate.csv")
    receipt = (box / "done" / "plate.csv.receipt.json").read_text()
    assert look(box).whole == ("plate.csv",)
    assert inbox.take(run, box, "plate.csv").place == box / "done" / "plate.csv"
    assert sorted(path.name for path in (box / "done").iterdir()) == ["plate.csv", "plate.csv.receipt.json"]
    assert (box / "done" / "plate.csv.receipt.json").read_text() == receipt
    assert json.loads(receipt)["n_measured"] == 2


def test_what_was_watched_for_a_day_is_cleared_away_but_never_what_is_still_to_be_taken(run, box, monkeypatch):
    for name in ("a.csv", "b.csv"):
        (box / name).write_text(GOOD)
    inbox.take(run, box, "a.csv")
    (box / "b.csv").rename(box / ".taken" / "b.csv")
    monkeypatch.setattr("labloop.campaign.inbox.taken.KEPT", -1.0)
    inbox.take(run, box, "c.csv")
    assert [path.name for path in (box / ".late").iterdir() if path.name != ".seen"] == []
    assert look(box).whole == ("b.csv",)


def test_a_file_that_was_only_touched_changes_nothing(run, box):
    (box / "plate.csv").write_text(GOOD)
    inbox.take(run, box, "plate.csv")
    os.utime(box / ".late" / "plate.csv", (5, 5))
    (name,) = look(box).whole
    assert "what it was" in inbox.take(run, box, name).said
    assert look(box).whole == ()
    assert [path.name for path in (box / "done").glob("*.csv")] == ["plate.csv"]


# ---- who is told


def test_each_arrival_is_news_once_and_what_a_step_has_taken_is_none(run, box, monkeypatch):
    monkeypatch.setattr(inbox, "SETTLE", 0)
    arrivals, boxes = Arrivals(), {"tfbind8": box, "gone": box / "nothing" / ".taken"}
    (box / "nothing").write_text(GOOD)  # a file where a folder should be
    (told,) = arrivals.due(boxes).items()
    assert told[0] == "tfbind8"
    assert arrivals.due(boxes) == dict([told])  # nobody is on the way yet
    arrivals.told(*told)
    assert arrivals.due(boxes) == {}
    (box / "plate.csv").write_text(GOOD)
    (later,) = arrivals.due(boxes).items()
    assert later != told
    (box / "plate.csv").rename(box / ".taken" / "plate.csv")
    (box / "nothing").unlink()
    assert arrivals.due(boxes) == {}
