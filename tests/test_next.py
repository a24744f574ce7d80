"""`labloop` alone: in whatever state a folder is, it says what to do next, with the command."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from test_mistakes import CAMPAIGN, HISTORY, ROUND, form

from labloop.campaign.facade import Campaign
from labloop.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begun(name: str = "spacer", rounds: int = 3) -> Campaign:
    """A campaign with readings enough for a round."""
    Path("round.yaml").write_text(ROUND)
    Path("history.csv").write_text(HISTORY)
    Path(f"{name}.yaml").write_text(
        CAMPAIGN.replace("name: spacer\nspace", f"name: {name}\nspace").replace("rounds: 3", f"rounds: {rounds}")
    )
    assert main(["init", f"{name}.yaml"]) == 0
    assert main(["ingest", "history.csv", "-c", name]) == 0
    return Campaign.open(name)


def _empty():
    return ["labloop demo", "labloop check my_campaign.yaml"]


def _a_file():
    Path("spacer.yaml").write_text(CAMPAIGN)
    return ["labloop check spacer.yaml", "labloop init spacer.yaml"]


def _several():
    begun("one")
    begun("two")
    return ["one. Next: propose round 1: labloop propose one", "two. Next: propose round 1: labloop propose two"]


def _scheduled():
    begun().ledger.close()
    Path("other.yaml").write_text(
        CAMPAIGN.replace("name: spacer\nspace", "name: other\nspace") + "schedule: {rounds: [round.yaml]}\n"
    )
    assert main(["init", "other.yaml"]) == 0
    assert main(["ingest", "history.csv", "-c", "other"]) == 0
    return [
        "spacer. Next: propose round 1: labloop propose spacer",
        "other waits for the scheduler. Next: open: labloop step other",
    ]


def _training():
    begun().ensure_round("round.yaml")
    return ["finish round 1: labloop propose spacer"]


def _proposed():
    begun()
    assert main(["propose", "spacer", "round.yaml", "--hold"]) == 0
    return ["write the files of round 1 for the lab: labloop export spacer"]


def _at_the_lab():
    begun()
    assert main(["propose", "spacer", "round.yaml"]) == 0
    return ["round 1 waits for 22 of 22 wells: labloop ingest FILE.csv -c spacer"]


def _finished():
    begun(rounds=1)
    assert main(["propose", "spacer", "round.yaml"]) == 0
    assert main(["ingest", str(form()), "-c", "spacer"]) == 0
    assert main(["close", "spacer"]) == 0
    return ["planned", "labloop report spacer"]


@pytest.mark.parametrize("situation", [_empty, _a_file, _several, _scheduled, _training, _proposed, _at_the_lab, _finished])
def test_labloop_alone_says_what_to_do_next(situation, capsys):
    words = situation()
    capsys.readouterr()
    assert main([]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert [word for word in words if word not in said] == [], said


def test_a_scheduled_campaign_is_led_on_by_its_schedule(capsys):
    _scheduled()
    assert "Next: propose round 1: labloop step other" in capsys.readouterr().out
    run = Campaign.open("other")
    run.ensure_round("round.yaml")
    assert run.status()["next"] == "finish round 1: labloop step other"
    run.propose("round.yaml")
    assert run.status()["next"] == "write the files of round 1 for the lab: labloop step other"


def test_the_command_that_is_named_finishes_the_open_round(capsys):
    _training()
    assert main(["propose", "spacer"]) == 0
    run = Campaign.open("spacer")
    assert [one["state"] for one in run.status()["rounds"]] == ["EXPORTED"]
    assert run.status()["next"].startswith("round 1 waits for")


def test_of_another_folder_the_commands_are_told_to_name_it(capsys):
    begun()
    capsys.readouterr()
    assert main(["next", "--home", "labloop-data"]) == 0
    assert "Add --home labloop-data to each of these commands." in capsys.readouterr().out


def test_a_ledger_that_is_none_is_told_as_such(capsys):
    Path("labloop-data").mkdir()
    Path("labloop-data/ledger.db").write_bytes(b"hello" * 1000)
    assert main([]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "labloop-data/ledger.db: is not a ledger" in said
    assert "move this one away" in said


def test_a_ledger_that_is_damaged_leads_to_verify(capsys):
    begun()
    path = Path("labloop-data/ledger.db")
    with sqlite3.connect(path) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it is in the file now
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    capsys.readouterr()
    assert main([]) == 1
    assert "labloop verify" in " ".join(capsys.readouterr().err.split())
