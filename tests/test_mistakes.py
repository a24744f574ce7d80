"""What people at a lab do by mistake: each is refused in words that name the place and the next step, and changes nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from labloop.campaign.facade import Campaign
from labloop.cli import main

CAMPAIGN = """\
schema_version: 1
name: spacer
space:
  parameters:
    - {type: sequence, name: spacer, alphabet: ACGT, length: 8}
objective: {assay: fluorescence, direction: max, unit: RFU}
assays:
  fluorescence:
    columns: {value: "F/OD", spacer: Sequence}
    low: 0
plate:
  wells: 24
  controls: [{name: wildtype, wells: 2}]
rounds: 3
seed: 1
"""
ROUND = "schema_version: 1\narms:\n  free: {proposers: [random]}\njudge: null\n"
HISTORY = "Sequence,F/OD\nACGTACGT,812\nTTGACATA,1930\nGGCCGGAA,390\nTATAATGC,2210\nCCGGTTAA,560\nATATATAC,2480\n"
PLATE = "spacer-R01-P1"
NO_JUDGE = ("conservative chooses by what a judge says", "name one, such as judge: auto")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a campaign whose first plate is at the lab; no mistake changes it."""
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, text in (("spacer.yaml", CAMPAIGN), ("round.yaml", ROUND), ("history.csv", HISTORY)):
            Path(name).write_text(text)
        assert main(["init", "spacer.yaml"]) == 0
        assert main(["ingest", "history.csv", "-c", "spacer"]) == 0
        assert main(["propose", "spacer", "round.yaml", "-o", "out"]) == 0
        Path("sub").mkdir()
    return folder


@pytest.fixture
def here(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(lab)
    monkeypatch.delenv("LABLOOP_SERVE_TOKEN", raising=False)
    return lab


def saved(content: str | bytes, name: str = "mine.csv") -> Path:
    """Save a file as somebody made it."""
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def form(change: Callable[[int, list[str]], list[str]] = lambda row, cells: cells) -> Path:
    """Save the form filled in, and changed: cells are plate, well, value, unit, status, measured_at, note; rows count from 2."""
    head, *rows = Path(f"out/{PLATE[:-3]}_assay.csv").read_text().splitlines()
    filled = [[*cells[:2], str(100 + row), *cells[3:]] for row, cells in enumerate((one.split(",") for one in rows), start=2)]
    return saved("\n".join([head, *(",".join(change(row, cells)) for row, cells in enumerate(filled, start=2))]) + "\n")


def cell(row: int, place: int, text: str) -> Path:
    """Save the form with one cell as somebody wrote it."""
    return form(lambda at, cells: [*cells[:place], text, *cells[place + 1 :]] if at == row else cells)


def _ingest(path: Path | str) -> list[str]:
    return ["ingest", str(path), "-c", "spacer"]


def _check_round(old: str, new: str) -> list[str]:
    return ["check", "spacer.yaml", str(saved(ROUND.replace(old, new), "mine.yaml"))]


def _simulate(lab: str) -> list[str]:
    return ["simulate", "spacer.yaml", "--lab", lab]


def _check(old: str, new: str) -> list[str]:
    return ["check", str(saved(CAMPAIGN.replace(old, new), "mine.yaml"))]


MISTAKES: dict[str, tuple[Callable[[], list[str]], tuple[str, ...]]] = {
    "a tab in the YAML": (lambda: _check("  parameters", "\tparameters"), ("mine.yaml: line 4", "a tab begins the line")),
    "a key misspelt": (lambda: _check("objective:", "objektive:"), ("mine.yaml: line 6, objektive", "did you mean objective?")),
    "a key that is a number": (lambda: _check("objective:", "1: 2\nobjective:"), ("line 6, 1: a key must be text", "quotes")),
    "a key misspelt below": (lambda: _check("direction:", "direktion:"), ("line 6", "did you mean direction?")),
    "a parameter's key misspelt": (lambda: _check("length: 8", "lenght: 8"), ("line 5", "did you mean length?")),
    "a word that is none": (
        lambda: _check("direction: max", "direction: higher"),
        ("line 6", "write 'max' or 'min', not 'higher'"),
    ),
    "a method misspelt": (
        lambda: _check_round("random", "randon"), ("mine.yaml: line 3", "did you mean random?"),
    ),
    "a proposer's option misspelt": (
        lambda: _check_round("random", "mutate: {tempratur: 3}"),
        ("mine.yaml: line 3, arms.free.proposers.mutate", "unknown option", "(options: "),
    ),
    "a judge's option misspelt": (
        lambda: _check_round("null", "{gp: {iteration: 3}}"), ("mine.yaml: line 4, judge.gp", "did you mean iterations?"),
    ),
    "words for a number": (
        lambda: _check_round("null", "{gp: {iterations: many}}"), ("iterations: write a whole number, not 'many'",),
    ),
    "a number out of bounds": (lambda: _check_round("null", "{gp: {iterations: -3}}"), ("iterations: write ", "not -3")),
    "true for an option's number": (
        lambda: _check_round("null", "{gp: {iterations: true}}"), ("iterations: write a number, not true",),
    ),
    "one of a list's names misspelt": (
        lambda: _check_round("null", "{auto: {members: [gq]}}"), ("members.0: write 'gp'", "not 'gq'"),
    ),
    "two plug-ins' options at once": (
        lambda: _check_round(
            "[random]}\njudge: null", "[random], selector: {conservative: {beta: high}}}\njudge: {gp: {iterations: many}}"
        ),
        ("line 3, arms.free.selector", "beta: write a number without its unit, not 'high'", "line 4, judge.gp", "not 'many'"),
    ),
    "a selector that goes by a judge, and none": (
        lambda: _check_round("[random]", "[random], selector: conservative"), ("mine.yaml: line 3, arms.free", *NO_JUDGE),
    ),
    "the same proposed": (
        lambda: ["propose", "spacer", str(saved(ROUND.replace("[random]", "[random], selector: conservative"), "mine.yaml"))],
        ("arms.free.selector", *NO_JUDGE),
    ),
    "a lab's option misspelt": (lambda: _simulate("tfbind8/noize=0.1"), ("lab 'tfbind8'", "noize", "did you mean noise?")),
    "a lab's option with a unit": (lambda: _simulate("tfbind8/noise=3 nM"), ("write a number without its unit, not '3 nM'",)),
    "a round in a campaign's place": (lambda: ["init", "round.yaml"], ("round.yaml", "this is a round's file")),
    "a campaign in a round's place": (
        lambda: ["propose", "spacer", "spacer.yaml"], ("spacer.yaml", "this is a campaign's file"),
    ),
    "a table in a campaign's place": (lambda: ["init", "history.csv"], ("history.csv", "name a campaign's or a round's")),
    "a file that is not there": (lambda: ["check", "spacr.yaml"], ("spacr.yaml", "mend its name")),
    "beginning twice": (lambda: ["init", "spacer.yaml"], ("'spacer' exists already", "labloop revise spacer")),
    "the campaign misspelt": (lambda: ["ingest", "history.csv", "-c", "spacr"], ("'spacr'", "did you mean spacer?")),
    "the campaign in capitals": (lambda: ["status", "Spacer"], ("'Spacer'", "did you mean spacer?")),
    "results that are not there": (lambda: _ingest("histroy.csv"), ("histroy.csv", "mend its name")),
    "a folder for a file": (lambda: _ingest("out"), ("out", "name the file itself")),
    "the same readings saved otherwise": (
        lambda: _ingest(saved(HISTORY.replace("\n", "\r\n"))), ("mine.csv", "6 from history.csv", "--again"),
    ),
    "the mark of an open workbook": (
        lambda: _ingest(saved(b"\x05Ann" + b"\x00" * 150, "~$mine.xlsx")), ("mine.xlsx is open", "close it there"),
    ),
    "a PDF": (lambda: _ingest(saved(b"%PDF-1.4\n\x00")), ("mine.csv: is a PDF", "save it as CSV")),
    "an old workbook": (lambda: _ingest(saved(b"\xd0\xcf\x11\xe0" + b"\x01" * 600, "mine.xls")), ("mine.xls", "save it as CSV")),
    "a web page that is called a workbook": (
        lambda: _ingest(saved("<html><table><tr><td>F/OD</td></tr></table></html>", "mine.xls")), ("web page", "save it as CSV"),
    ),
    "an empty file": (lambda: _ingest(saved("")), ("mine.csv: is empty", "to its end")),
    "a head alone": (lambda: _ingest(saved("Sequence,F/OD\n")), ("mine.csv", "a header but no rows")),
    "a column renamed": (
        lambda: _ingest(saved(HISTORY.replace("F/OD", "Fluo"))), ("mine.csv", "'F/OD'", "Sequence, Fluo", "Mend the name"),
    ),
    "the designs' column renamed": (
        lambda: _ingest(saved(HISTORY.replace("Sequence", "Seq"))), ("mine.csv", "Seq, F/OD", "plate: <the file's name for it>"),
    ),
    "another campaign's file": (
        lambda: _ingest(saved("catalyst,temp,yield\nPd,80,0.4\n")), ("mine.csv", "catalyst, temp, yield"),
    ),
    "a column twice": (lambda: _ingest(saved(HISTORY.replace("F/OD", "F/OD,F/OD"))), ("F/OD stands twice", "rename one")),
    "a decimal comma between commas": (
        lambda: _ingest(saved(HISTORY.replace("812", "812,5"))), ("row", "2", "has 3 fields, the header 2"),
    ),
    "a unit in the value's cell": (
        lambda: _ingest(saved(HISTORY.replace("812", "812 RFU"))), ("'812 RFU'", "put the unit 'RFU' into a"),
    ),
    "a letter that is none": (lambda: _ingest(saved(HISTORY + "ACGTXCGT,5\n")), ("8", "'ACGTXCGT'", "letters 'X'")),
    "a design cut short": (lambda: _ingest(saved(HISTORY + "ACG,5\n")), ("'ACG'", "length 3 is not 8")),
    "a negative value": (lambda: _ingest(saved(HISTORY + "ACGTTTGA,-5\n")), ("'-5'", "assays.fluorescence.low")),
    "a word for a value": (lambda: _ingest(saved(HISTORY + "ACGTTTGA,bright\n")), ("'bright'", "is not a number")),
    "names that became dates": (lambda: _ingest(saved("Sequence,F/OD\n01/03/2024,8\n")), ("'01/03/2024'", "import that column")),
    "the empty form": (lambda: _ingest(f"out/{PLATE[:-3]}_assay.csv"), ("empty template", "fill in column 'value'")),
    "the plate map": (lambda: _ingest(f"out/{PLATE[:-3]}_platemap.csv"), ("is labloop's plate map", "fill the form in")),
    "the pick list": (lambda: _ingest(f"out/{PLATE[:-3]}_picks.csv"), ("is labloop's pick list", "fill the form in")),
    "wells shifted by one": (
        lambda: _ingest(form(lambda _, cells: [cells[0], f"{cells[1][0]}{int(cells[1][1:]) + 1:02d}", *cells[2:]])),
        ("'A07'", "is empty: labloop laid", "nothing out there"),
    ),
    "another round's plate": (
        lambda: _ingest(form(lambda _, cells: [cells[0].replace("R01", "R07"), *cells[1:]])), ("'spacer-R07-P1'", "no plate"),
    ),
    "a well twice": (lambda: _ingest(cell(5, 1, "A01")), ("5", "row 2 already", "keep")),
    "a status misspelt": (lambda: _ingest(cell(5, 4, "broken")), ("'broken'", "failed_technical")),
    "another unit": (lambda: _ingest(cell(5, 3, "mM")), ("'mM'", "assays.fluorescence.units")),
    "per cent": (lambda: _ingest(cell(6, 2, "12%")), ("'12%'", "percent sign")),
    "a formula's error": (lambda: _ingest(cell(7, 2, "#DIV/0!")), ("'#DIV/0!'", "mend the formula")),
    "a date of two meanings": (lambda: _ingest(cell(8, 5, "03/04/24")), ("'03/04/24'", "2026-03-31")),
    "proposing while a plate is out": (
        lambda: ["propose", "spacer", str(saved(ROUND.replace("free", "other"), "mine.yaml"))], ("round 1", "ingest its wells"),
    ),
    "closing too early": (lambda: ["close", "spacer"], ("waits for 22 wells (A0", "labloop close spacer --reason")),
    "a veto too late": (lambda: ["veto", "spacer", f"{PLATE}:A1", "--reason", "no"], ("exported", "'excluded'")),
    "approving what is none": (lambda: ["approve", "spacer"], ("labloop status spacer",)),
    "another aim in the middle": (
        lambda: ["revise", "spacer", str(saved(CAMPAIGN.replace("max", "min"), "mine.yaml")), "--reason", "x"],
        ("objective", "begin a new campaign"),
    ),
    "a space that leaves all out": (
        lambda: ["revise", "spacer", str(saved(CAMPAIGN.replace("length: 8", "length: 9"), "mine.yaml")), "--reason", "x"],
        ("would be lost", "begin a new campaign"),
    ),
    "a file where a folder should be": (
        lambda: ["export", "spacer", "-o", str(saved("x", "mine"))], ("mine: cannot be written", "choose another folder"),
    ),
    "a folder where a file should be": (lambda: ["report", "spacer", "-o", "out"], ("out: cannot be written",)),
    "a method that there is not": (lambda: ["methods", "qie"], ("'qie'", "do you mean qei?")),
    "a home that there is not": (lambda: ["status", "spacer", "--home", "elsewhere"], ("elsewhere holds no ledger", "--home")),
    "designs with another column": (
        lambda: ["predict", "spacer", str(saved("Seq\nACGTACGT\n"))], ("mine.csv", "no column spacer", "there are: Seq"),
    ),
    "a design of one's own that is none": (
        lambda: ["pick", "spacer", str(saved("spacer\nACG\n")), "--arm", "me"], ("mine.csv", "'ACG'", "length 3 is not 8"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_the_next_step_and_changes_nothing(mistake, here, capsys):
    command, words = MISTAKES[mistake]
    told, before = command(), _state(here)
    assert main(told) == 1
    said = capsys.readouterr().err
    flat = " ".join(said.replace("│", " ").split())
    assert [word for word in words if word not in flat] == [], said
    assert "Traceback" not in said
    assert _state(here) == before


def _state(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The chain's end, and the files that stand there."""
    heads = Campaign.open("spacer", home=folder / "labloop-data").ledger.heads()
    return heads, sorted(str(one) for one in folder.rglob("*") if "labloop-data" not in one.parts)


def test_in_a_folder_below_one_is_told_where_the_ledger_is(here, monkeypatch, capsys):
    monkeypatch.chdir(here / "sub")
    assert main(["status", "spacer"]) == 1
    assert "--home ../labloop-data" in " ".join(capsys.readouterr().err.split())
    assert main(["next"]) == 0
    assert "labloop next --home ../labloop-data" in " ".join(capsys.readouterr().out.split())
    assert main(["status"]) == 0
    assert "labloop status --home ../labloop-data" in " ".join(capsys.readouterr().out.split())


def test_a_port_that_is_taken_is_told_with_what_may_have_it(here, capsys):
    pytest.importorskip("fastapi", reason="pip install 'labloop-toolkit[serve]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"http://127.0.0.1:{port}" in said
    assert "another --port" in said


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the system's owner may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(here, capsys):
    Path("shut").mkdir(mode=0o500)
    assert main(["export", "spacer", "-o", "shut"]) == 1
    assert "shut" in capsys.readouterr().err


def test_a_file_of_wells_that_were_read_before_says_which_reading_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in (("spacer.yaml", CAMPAIGN), ("round.yaml", ROUND), ("history.csv", HISTORY)):
        saved(text, name)
    for command in (["init", "spacer.yaml"], _ingest("history.csv"), ["propose", "spacer", "round.yaml", "-o", "out"]):
        assert main(command) == 0
    assert main(_ingest(form())) == 0
    capsys.readouterr()
    assert main(_ingest(cell(4, 2, "999"))) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 well read before, and otherwise: the later reading counts" in said
    assert "labloop correct" in said
