"""To look is not to write: reading verbs change nothing, and work where nothing can be written."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import exc
from test_campaign import send
from test_damage import fill

from labloop.assays.readings import standing_flags
from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.errors import LedgerError
from labloop.ledger import Ledger, database, examine
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import open_lab

READS: dict[str, Callable[[Campaign, Path], Any]] = {
    "dataset": lambda run, _: run.dataset().fingerprint,
    "status": lambda run, _: run.status(),
    "quality": lambda run, _: run.quality().to_dict(),
    "compare": lambda run, _: run.compare().sentence,
    "report": lambda run, folder: run.report(folder / "report.html").read_bytes(),
    "explain": lambda run, folder: run.explain(folder / "history.csv"),
    "export_dataset": lambda run, folder: run.export_dataset(folder / "tidy.csv")[0].read_bytes(),
    "audit": lambda run, _: run.audit(run.batch(1).picks["design_id"].iloc[0]).steps,
    "batch": lambda run, _: run.batch(1).manifest,
}


class Killed(BaseException):
    """Stands for a process that dies at this point."""


def die_with_the_last_wells(folder):
    send(folder)
    campaign = Campaign.open("tfbind8", home=folder / "home")
    sheet = measure_plate(campaign, open_lab("tfbind8"), folder / "out", folder / "back", number=1)
    sheet = pd.read_csv(sheet, dtype=str)
    again = sheet[:4].assign(value=[str(float(one) * 1.01) for one in sheet["value"][:4]])

    def dies(*_: object) -> None:
        raise Killed

    for name, part in (("all.csv", sheet), ("again.csv", again)):
        part.to_csv(folder / name, index=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("labloop.rounds.intake.catch_up", dies)
            with pytest.raises(Killed):
                campaign.ingest(folder / name)
    campaign.ledger.close()


@pytest.fixture
def waiting(tmp_path, made_once):
    """A home whose last wells came in with a process that died before flags and the round's state were written."""
    campaign = Campaign.open("tfbind8", home=made_once(die_with_the_last_wells, tmp_path) / "home")
    assert campaign.ledger.rounds(campaign.name)[0].state == "EXPORTED"
    campaign.ledger.close()
    return campaign


def opened(run: Campaign, path: Path) -> Campaign:
    return Campaign(run.config, Ledger.open(path, read_only=True), run.folder.parent)


@pytest.mark.parametrize("verb", READS)
def test_a_reading_verb_changes_no_byte(waiting, tmp_path, verb):
    home = tmp_path / "home"
    before = {one.name: one.read_bytes() for one in home.iterdir() if one.is_file()}
    run = opened(waiting, home / "ledger.db")
    READS[verb](run, tmp_path)
    run.ledger.close()
    READS[verb](Campaign.open(waiting.name, home=home), tmp_path)  # nor where it might
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        assert connection.execute("SELECT count(*) FROM event WHERE kind = 'quality' AND link > 1").fetchone()[0] == 1
    assert {name: (home / name).read_bytes() for name in before} == before


def test_what_is_not_written_yet_is_told_as_it_will_be(waiting, tmp_path):
    run = opened(waiting, tmp_path / "home" / "ledger.db")
    status, found = run.status(), standing_flags(run)
    assert status["rounds"][0]["state"] == "MEASURED"
    assert len(found) == 4
    data = run.dataset().fingerprint
    later = Campaign.open(waiting.name, home=tmp_path / "home")
    later.close()
    told = ["measurement", "rule", "detail"]
    assert later.ledger.flags(later.name)[told].equals(found[told])
    assert later.dataset().fingerprint == data
    assert later.status()["rounds"][0]["state"] == "CLOSED"


def test_a_ledger_opened_for_reading_says_so_to_whoever_writes(waiting, tmp_path):
    run = opened(waiting, tmp_path / "home" / "ledger.db")
    with pytest.raises(LedgerError, match="is read-only"):
        run.ledger.add_event(run.name, "note")
    assert run.dataset().fingerprint


def test_a_folder_that_nobody_may_write_to_can_be_read_and_verified(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with Ledger.open(home / "ledger.db") as ledger:
        fill(ledger)
        ledger.backup(home / "backup.db")
    assert Path(home / "ledger.db").read_bytes()[18:20] == b"\x02\x02"  # of the kind that has a log beside it

    def look() -> str:
        told = []
        for name in ("ledger.db", "backup.db"):
            told += [examine(home / name).faults, len(Ledger.open(home / name).measurements("dna"))]
        try:
            Ledger.open(home / "ledger.db").add_event("dna", "note")
        except LedgerError as error:
            told.append("is read-only" in str(error))
        return repr(told)

    home.chmod(0o555)
    if os.geteuid() == 0:
        for above in (tmp_path, *tmp_path.parents):  # the tests' own folders, which nobody else may enter
            if "pytest-of-" in str(above):
                above.chmod(0o755)
    try:
        said = as_nobody(look)
    finally:
        home.chmod(0o755)
    assert said == "[(), 5, (), 5, True]"
    assert sorted(one.name for one in home.iterdir()) == ["backup.db", "ledger.db", "ledger.db.heads"]


def as_nobody(work: Callable[[], str]) -> str:
    """Work as a user whom permissions bind, in a child of its own; gives what it returned, or how it failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            said = work()
        except BaseException as error:  # noqa: BLE001  (the child has no other way to tell)
            said = repr(error)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def test_verifying_leaves_nothing_beside_a_ledger(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        fill(ledger)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert main(["verify", "--home", str(tmp_path)]) == 0
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_reading_a_backup_leaves_it_a_single_file(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        fill(ledger)
        ledger.backup(tmp_path / "backup.db")
    before = (tmp_path / "backup.db").read_bytes()
    with Ledger.open(tmp_path / "backup.db") as copy:
        assert len(copy.measurements("dna")) == 5
        assert sorted(one.name for one in tmp_path.glob("backup*")) == ["backup.db"]
    assert (tmp_path / "backup.db").read_bytes() == before
    assert examine(tmp_path / "backup.db").faults == ()


@pytest.mark.parametrize("name", ["SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_WRITE", "SQLITE_CANTOPEN", "SQLITE_FULL"])
def test_a_full_disk_is_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ledger = Ledger.open(tmp_path / "ledger.db")
    ledger.add_campaign("dna", "{}")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name

    def fails() -> None:
        with ledger.begin():
            raise exc.OperationalError("INSERT", {}, error)

    monkeypatch.setattr(database, "tempfile", SimpleNamespace(TemporaryFile=full))
    with pytest.raises(LedgerError, match="the disk is full: free some space"):
        fails()
    monkeypatch.undo()
    with pytest.raises(LedgerError) as caught:
        fails()
    assert ("the disk is full" in str(caught.value)) == (name == "SQLITE_FULL")
