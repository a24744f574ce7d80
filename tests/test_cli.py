"""The command line as people and programs meet it: what is printed, what the exit code says, what is imported."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading

import pandas as pd
import pytest
import yaml
from rich.console import Console

from labloop.cli import main, progress, show
from labloop.cli.progress import Log
from labloop.config.read import preset
from labloop.errors import MethodError
from labloop.methods.bonet import BONET
from labloop.methods.mutate import Mutate
from labloop.methods.random import Random
from labloop.runtime.progress import listening, track
from labloop.studies.simulate import draw_start, open_lab, summary

CAMPAIGN = preset("campaigns/tfbind8.yaml")
ROUND = {
    "arms": {
        "offline": {"proposers": "fakes:Near", "selector": {"conservative": {"beta": 1.0}}, "pool": 150},
        "free": {"proposers": "random"},
    },
    "judge": "fakes:Flat",
}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """An empty folder with a start CSV and a cheap round, as a person would stand in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABLOOP_HOME", raising=False)
    draw_start(open_lab("tfbind8"), 100, seed=0).to_csv("start.csv", index=False)
    (tmp_path / "round.yaml").write_text(yaml.safe_dump(ROUND))
    return tmp_path


def run(capsys, *arguments, code=0):
    assert main([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_a_campaign_from_the_command_line(lab, capsys):
    assert "labloop ingest" in run(capsys, "init", CAMPAIGN)
    assert "100 measured" in run(capsys, "ingest", "start.csv", "-c", "tfbind8")
    assert "propose round 1" in run(capsys, "status")
    text = run(capsys, "propose", "tfbind8", "round.yaml", "-o", "out")
    assert "round 1: 96 designs" in text
    assert "tfbind8-R01_assay.csv" in text
    assert "waits for 96 of 96 wells" in run(capsys, "status", "tfbind8")
    sheet = pd.read_csv("out/tfbind8-R01_assay.csv", dtype=str)
    plate = pd.read_csv("out/tfbind8-R01_platemap.csv", dtype=str)
    measured = open_lab("tfbind8").measure(plate[["dna"]], seed=0)
    sheet["value"] = measured["value"].map("{:.5f}".format).to_numpy()
    sheet.to_csv("results.csv", index=False)
    assert "Stored" in run(capsys, "ingest", "results.csv", "-c", "tfbind8")
    assert "offline" in run(capsys, "compare", "tfbind8")
    assert "CLOSED" in run(capsys, "close", "tfbind8") + run(capsys, "status", "tfbind8")
    report = run(capsys, "report", "tfbind8", "-o", "report.html")
    assert "report.html" in report
    assert "<html" in (lab / "report.html").read_text()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (["ingest", "tfbind8", "start.csv"], "labloop ingest start.csv -c tfbind8"),
        (["ingest", "start.csv", "tfbind8"], "labloop ingest start.csv -c tfbind8"),
        (["ingest", "start.csv"], "labloop ingest start.csv -c CAMPAIGN; labloop status lists them"),
        (["ingest"], "labloop ingest FILE.csv -c CAMPAIGN"),
        (["correct", "tfbind8", "start.csv", "--reason", "swapped"], "labloop correct start.csv -c tfbind8"),
    ],
    ids=["other order", "no -c", "no campaign", "nothing", "a correction"],
)
def test_a_file_without_its_campaign_is_told_how_it_is_named(lab, capsys, told, said):
    assert main(told) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_labloop_alone_says_what_comes_next_here(lab, capsys):
    text = run(capsys)
    assert "labloop demo" in text
    assert not (lab / "labloop-data").exists()  # looking makes nothing
    (lab / "mine.yaml").write_text(CAMPAIGN.read_text())
    assert "labloop init mine.yaml" in run(capsys)
    run(capsys, "init", "mine.yaml", "--home", "elsewhere")
    assert "labloop next --home elsewhere" in run(capsys)
    assert "tfbind8. Next: ingest" in run(capsys, "next", "--home", "elsewhere")
    (told,) = json.loads(run(capsys, "next", "--home", "elsewhere", "--json"))["campaigns"]
    assert told["campaign"] == "tfbind8"
    scheduled = yaml.safe_load(CAMPAIGN.read_text()) | {"name": "by_itself", "schedule": {"rounds": [ROUND], "approval": True}}
    (lab / "scheduled.yaml").write_text(yaml.safe_dump(scheduled))
    run(capsys, "init", "scheduled.yaml", "--home", "elsewhere")
    assert "by_itself waits for the lab" in run(capsys, "next", "--home", "elsewhere")


def test_what_cannot_be_read_is_no_beginning(lab, capsys):
    (lab / "folder.yaml").mkdir()
    (lab / "gone.yaml").symlink_to("nowhere")
    os.mkfifo(lab / "pipe.yaml")
    (lab / "mine.yaml").write_text(CAMPAIGN.read_text())
    assert "labloop init mine.yaml" in run(capsys)


def test_no_name_commands_the_terminal(lab, capsys):
    (lab / "a\x1b[2Jb\u202ec.yaml").write_text("name: [")
    assert main(["check", "a\x1b[2Jb\u202ec.yaml"]) == 1
    assert main(["nosuch\x1b[2J"]) == 2
    shown = capsys.readouterr()
    assert "nosuch\\x1b[2J" in shown.err
    assert "a\\x1b[2Jb\\u202ec.yaml" in shown.err
    show.out.print("tab\tstays\n\x9b1m")
    show._table([{"file": "d\x1b[31m"}])
    assert Log("%(message)s").format(logging.makeLogRecord({"msg": "e\x1b[0m"})) == "e\\x1b[0m"
    table = capsys.readouterr().out
    assert "\\x9b1m" in table
    assert "d\\x1b[31m" in table
    assert not set("\x1b\x9b\u202e") & set(shown.out + shown.err + table)


def test_a_terminal_shows_how_far_long_work_is(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(progress, "err", Console(file=said, force_terminal=True, width=100))
    with progress.progress(json=False):
        assert sum(track(3, "counting")) == 3
    assert "at work" in said.getvalue()
    said.truncate(0)
    with progress.progress(json=True):
        assert sum(track(3, "counting")) == 3
    assert "counting" not in said.getvalue()


def test_work_that_is_soon_done_shows_nothing_and_work_that_is_not_says_what_it_is(monkeypatch):
    said, drawn = io.StringIO(), threading.Event()

    class Told(io.StringIO):
        def write(self, text):
            if "comparing arms" in text:
                drawn.set()
            return said.write(text)

    monkeypatch.setattr(progress, "err", Console(file=Told(), force_terminal=True, width=100))
    with progress.progress(json=False, what="comparing arms", after=600):
        pass
    assert said.getvalue().strip() == ""
    with progress.progress(json=False, what="comparing arms", after=0.001):
        assert drawn.wait(30)


def test_verify_tells_how_far_it_is(lab, capsys):
    run(capsys, "init", CAMPAIGN)
    heard = []
    with listening(lambda label, done, total: heard.append((label, done, total))):
        run(capsys, "verify")
    assert heard[-1][0] == "tfbind8: tables verified"
    assert heard[-1][1] == heard[-1][2] == len(heard)


def test_the_shell_learns_the_commands(lab, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(lab))
    monkeypatch.setenv("SHELL", "/bin/bash")
    run(capsys, "--install-completion")
    assert any("labloop" in path.read_text() for path in lab.rglob("labloop") if path.is_file())


def test_json_is_for_programs(lab, capsys):
    run(capsys, "init", CAMPAIGN)
    receipt = json.loads(run(capsys, "ingest", "start.csv", "-c", "tfbind8", "--json"))
    assert receipt["n_measured"] == 100
    assert receipt["stored"] is True
    assert json.loads(run(capsys, "ingest", "start.csv", "-c", "tfbind8", "--json"))["stored"] is False
    batch = json.loads(run(capsys, "propose", "tfbind8", "round.yaml", "--json"))
    assert len({well["design_id"] for well in batch["wells"]}) == 96
    assert json.loads(run(capsys, "status", "--json"))[0]["rounds"][0]["state"] == "EXPORTED"
    assert "coms" in [one["name"] for one in json.loads(run(capsys, "methods", "--json"))["proposers"]]
    understood = json.loads(run(capsys, "check", CAMPAIGN, "round.yaml", "--json"))
    assert understood["size"] == 32_896
    assert [arm["wells"] for arm in understood["arms"]] == [48, 48]


def test_check_shows_how_the_start_file_is_understood(lab, capsys):
    text = preset("campaigns/tfbind8.yaml").read_text()
    (lab / "campaign.yaml").write_text(text + "\n")
    rows = ["dna,value", "ACGTACGA,0.25", "ACGTACGC,<0.1", "ACGGACGC,0.75", "ACGGACCC,0.5", "AAGGACCC,0.6"]
    (lab / "some.csv").write_text("\n".join(rows) + "\n")
    text = run(capsys, "check", "campaign.yaml", "round.yaml", "--data", "some.csv")
    assert "5 rows: 5 designs, 5 values" in text
    assert "Values of" in text
    assert "All good" in text
    told = json.loads(run(capsys, "check", "campaign.yaml", "--data", "some.csv", "--json"))["start"]
    assert told["columns"] == {"value": "value", "dna": "dna"}
    assert [(one["row"], one["value"]) for one in told["best"]] == [("4", 0.75), ("6", 0.6), ("5", 0.5)]
    assert told["outside"] == 0
    (lab / "bad.csv").write_text("\n".join([*rows, "ACGT,0.5", "ACGGACCA,high"]) + "\n")
    text = run(capsys, "check", "campaign.yaml", "--data", "bad.csv", code=1)
    assert "Columns" in text
    assert "length 4 is not 8" in text
    assert "All good" not in text
    refused = json.loads(run(capsys, "check", "campaign.yaml", "--data", "bad.csv", "--json", code=1).split("\nRefused")[0])
    assert "row 7" in refused["start"]["refused"]


def test_check_tells_the_rules_and_for_how_many_rounds_the_budget_lasts(lab, capsys):
    text = run(capsys, "check", preset("campaigns/promoter_lengths.yaml"))
    assert "Rule: " in text
    assert "GGTCTC" in text
    (lab / "campaign.yaml").write_text(preset("campaigns/tfbind8.yaml").read_text() + "\nbudget: {wells: 200}\n")
    told = run(capsys, "check", "campaign.yaml", "round.yaml")
    assert "Such a round takes 96 wells: the budget lasts for 2 of 4 rounds" in told


def test_a_table_keeps_words_together_where_there_is_room(capsys, monkeypatch):
    names = ("predicted_mean", "predicted_best", "bound,_mean", "from_nearest_measured")
    row = {"arm": "offline", "wells": 123, "shared": 0, "proposers": "gp_mean, mutate", **dict.fromkeys(names, 1234.5)}
    monkeypatch.setattr(show, "out", Console(width=80))
    show._table([{**row, "beta": -0.6667}])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for word in ("offline", "gp_mean,", "predicted", "measured", "-0.6667", "proposers"):
        assert word in text
    show._table([{"dna": "ACGT" * 40, "value": 1.0}])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_check_says_that_a_space_is_continuous(lab, capsys):
    text = run(capsys, "check", preset("campaigns/hartmann6.yaml"))
    assert "hartmann6: a continuous space (x1, x2, x3, x4, x5, x6), which has no number of designs, so it is searched" in text
    assert " inf" not in text
    understood = json.loads(run(capsys, "check", preset("campaigns/hartmann6.yaml"), "--json"))
    assert understood["size"] is None
    assert understood["continuous"] == ["x1", "x2", "x3", "x4", "x5", "x6"]
    assert "tfbind8: 32,896 designs, few enough to score every one" in run(capsys, "check", CAMPAIGN)
    assert "designs, too many to score every one, so they are searched" in run(capsys, "check", preset("campaigns/rna50.yaml"))


def test_simulate_prints_one_object_an_arm_seed_and_round(lab, capsys):
    arguments = ("--lab", "tfbind8", "--round", "round.yaml", "--start", 60, "--rounds", 2, "--batch", 8, "--seeds", 2, "--json")
    rows = json.loads(run(capsys, "simulate", CAMPAIGN, *arguments))
    assert {(row["arm"], row["seed"], row["round"]) for row in rows} == {
        (arm, seed, number) for arm in ("offline", "free") for seed in (0, 1) for number in (1, 2)
    }
    assert set(rows[0]) == {"lab", "arm", "seed", "round", "n_wells", "best", "top10_mean", "batch_mean", "seconds", "note"}
    assert all(row["n_wells"] == 8 for row in rows)
    again = json.loads(run(capsys, "simulate", CAMPAIGN, *arguments))
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in again]
    shared = json.loads(run(capsys, "simulate", CAMPAIGN, *arguments, "--mode", "shared", "--arms", "free,mutate"))
    assert {(row["arm"], row["n_wells"]) for row in shared} >= {("free", 4), ("mutate", 4)}


@pytest.mark.parametrize(
    ("unit", "offset", "told"),
    [
        (1.0, 0.0, ["0.696 ± 0.008", "0.702 ± 0.017"]), (1e-9, 0.0, ["6.96e−10 ± 8.49e−12", "7.02e−10 ± 1.7e−11"]),
        (1.0, 3e4, ["30,000.696 ± 0.008", "30,000.702 ± 0.017"]), (1e4, 0.0, ["6,960 ± 80", "7,020 ± 170"]),
        (0.0, 0.0, ["0 ± 0"] * 2),
    ],
)  # fmt: skip
def test_what_arms_found_is_told_by_the_digits_that_tell_them_apart(unit, offset, told):
    rows = [
        {"arm": arm, "round": number, "seed": seed, "batch_mean": offset + unit * (low + 0.012 * number * seed)}
        for arm, low in (("one", 0.69), ("other", 0.81)) for number in (1, 2) for seed in (0, 1)
    ]  # fmt: skip
    assert summary(pd.DataFrame(rows)).iloc[0].tolist() == ["one", *told]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--rounds=0", "rounds is 0: give a whole number, 1 or more"), ("--rounds=-2", "rounds is -2: give a whole number"),
        ("--seeds=0", "seeds is 0: give a whole number"), ("--seeds=-1", "seeds is -1: give a whole number"),
        ("--batch=-8", "batch is -8: give a whole number"),
        ("--start=-8", "a start of -8 designs was asked for"), ("--arms=", "arm '' is neither an arm of the round"),
    ],
)  # fmt: skip
def test_a_simulation_of_nothing_is_refused(lab, capsys, option, said):
    assert said in " ".join(run(capsys, "simulate", CAMPAIGN, "--lab", "tfbind8", option, code=1).split())


def test_simulate_goes_on_without_an_arm_that_fails_and_says_so(lab, capsys, monkeypatch):
    propose = Mutate.propose

    def fails_once(self, data, n, *, seed):
        if len(data) == 60:
            raise MethodError("no mutant today")
        return propose(self, data, n, seed=seed)

    monkeypatch.setattr(Mutate, "propose", fails_once)
    setting = ("--lab", "tfbind8", "--start", 60, "--rounds", 2, "--batch", 8, "--seeds", 1)
    separate = json.loads(run(capsys, "simulate", CAMPAIGN, *setting, "--arms", "random,mutate", "--json"))
    told = {(row["arm"], row["round"]): row for row in separate}
    assert [told["random", number]["n_wells"] for number in (1, 2)] == [8, 8]
    assert [told["mutate", number]["n_wells"] for number in (1, 2)] == [0, 0]
    assert told["mutate", 1]["batch_mean"] is None
    assert "mutate failed: no mutant today" in told["mutate", 1]["note"]
    together = run(capsys, "simulate", CAMPAIGN, *setting, "--arms", "random,mutate", "--mode", "shared", "--json")
    shared = {(row["arm"], row["round"]): row for row in json.loads(together)}
    assert [shared[arm, number]["n_wells"] for number in (1, 2) for arm in ("random", "mutate")] == [8, 0, 4, 4]
    assert shared["mutate", 2]["note"] == ""
    assert "no mutant today" in run(capsys, "simulate", CAMPAIGN, *setting, "--arms", "random,mutate")
    assert "no mutant today" in run(capsys, "simulate", CAMPAIGN, *setting, "--arms", "mutate", code=1)
    assert "no mutant today" in run(
        capsys, "simulate", CAMPAIGN, *setting, "--arms", "random,mutate", "--on-failure", "stop", code=1
    )


def test_a_proposer_that_fails_is_named_while_the_others_train_and_can_be_dropped(lab, capsys, monkeypatch):
    def fails(self, data, n, *, seed):
        raise MethodError("no mutant today")

    monkeypatch.setattr(Mutate, "propose", fails)
    arms = {"one": {"proposers": ["mutate"]}, "two": {"proposers": ["random", "pairwise"]}}
    (lab / "three.yaml").write_text(yaml.safe_dump({"arms": arms, "judge": "fakes:Flat"}))
    run(capsys, "init", CAMPAIGN)
    run(capsys, "ingest", "start.csv", "-c", "tfbind8")
    told = " ".join(run(capsys, "propose", "tfbind8", "three.yaml", code=1).split())
    assert "mutate of arm one failed: no mutant today" in told
    assert "the other 2 are trained" in told
    assert "--on-failure drop" in told
    monkeypatch.setattr(Random, "propose", fails)  # which is trained already: nobody asks it again
    batch = json.loads(run(capsys, "propose", "tfbind8", "three.yaml", "--on-failure", "drop", "--json"))
    assert len({well["design_id"] for well in batch["wells"]}) == 96
    assert {pick["arm"] for pick in batch["picks"]} == {"two"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simulate", CAMPAIGN, "--lab", "tfbind8", "--start-quantile", 2), "start_quantile"),
        (("init", "none.yaml"), "No such file"),
        (("status", "nobody"), "labloop init"),
        (("ingest", "start.csv", "-c", "nobody"), "labloop init"),
        (("check", "round.yaml"), "this is a round's file"),
        (("simulate", CAMPAIGN, "--lab", "moon"), "'moon' is unknown"),
        (("simulate", CAMPAIGN, "--lab", "tfbind8", "--arms", "luck"), "luck"),
        (("simulate", CAMPAIGN, "--lab", "lookup:none.csv"), "none.csv"),
    ],
)
def test_what_a_user_can_mend_ends_with_1_and_says_how(lab, capsys, arguments, message):
    text = run(capsys, *arguments, code=1)
    assert message in text.replace("\n", " ")
    assert "Traceback" not in text


def test_wrong_usage_ends_with_2(lab, capsys):
    run(capsys, "propse", code=2)
    run(capsys, "ingest", "start.csv", code=2)
    run(capsys, "simulate", CAMPAIGN, "--lab", "tfbind8", "--seeds", "many", code=2)


@pytest.mark.parametrize("option", ["--workers=2.5", "--start=10.5", "--seeds=1.5"])
def test_a_part_is_not_rounded_where_a_whole_number_is_wanted(lab, capsys, option):
    text = run(capsys, "simulate", CAMPAIGN, "--lab", "tfbind8", option, code=2)
    name, _, told = option.partition("=")
    assert f"Invalid value for {name}: write a whole number, not {told}" in text


def test_a_fault_of_ours_ends_with_70(lab, capsys, monkeypatch):
    monkeypatch.setattr("labloop.registry.describe", None)
    assert "report it" in run(capsys, "methods", code=70)


def test_a_refused_file_shows_every_faulty_cell(lab, capsys):
    run(capsys, "init", CAMPAIGN)
    (lab / "bad.csv").write_text("dna,value\nACGTACGN,0.5\nACGTACGT,lots\nAAAAAAAA,0.1\n")
    text = run(capsys, "ingest", "bad.csv", "-c", "tfbind8", code=1)
    assert "ACGTACGN" in text
    assert "lots" in text
    assert "Nothing was stored" in text
    assert "ingest the lab's measurements" in run(capsys, "status", "tfbind8")


def test_a_folder_that_cannot_be_written_is_named(lab, capsys):
    (lab / "file").write_text("")
    assert "file" in run(capsys, "init", CAMPAIGN, "--home", "file", code=1)
    run(capsys, "init", CAMPAIGN)
    run(capsys, "ingest", "start.csv", "-c", "tfbind8")
    assert "file" in run(capsys, "propose", "tfbind8", "round.yaml", "-o", "file/out", code=1)


def test_a_bench_computer_loads_nothing_that_it_does_not_need(lab, capsys):
    """One fresh interpreter does them in an order in which each loads more than the one before."""
    run(capsys, "init", CAMPAIGN)
    code = """
import sys
from labloop.cli import main
heavy = {"torch", "botorch", "gpytorch", "prefect", "altair", "sklearn"}
for arguments, more in [
    (["--help"], {"pandas", "scipy", "sqlalchemy"}),
    (["status", "tfbind8"], {"scipy.stats"}),
    (["ingest", "start.csv", "-c", "tfbind8"], set()),
]:
    assert main(arguments) == 0
    assert not (heavy | more) & set(sys.modules), (arguments, (heavy | more) & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_method_is_told_in_full_and_a_misspelt_one_by_what_it_may_mean(capsys):
    (told,) = json.loads(run(capsys, "methods", "bonet", "--json"))
    assert (told["kind"], told["paper"]) == ("proposers", True)
    assert "ICML 2023" in told["source"]
    assert all(option["means"] for option in told["options"])
    assert next(one["default"] for one in told["options"] if one["name"] == "length") == BONET.length
    assert "Where this differs" in told["about"][1]
    shown = run(capsys, "methods", "ensemble")  # a proposer and a surrogate
    assert "one of the proposers" in shown
    assert "one of the surrogates" in shown
    assert "do you mean bonet" in run(capsys, "methods", "bonnet", code=1)
