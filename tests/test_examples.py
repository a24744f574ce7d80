"""Every example runs, at smoke size where it would take long."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from labloop.studies.labs.tfbind8 import table
from labloop.testing import ProposerContract

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import my_method  # noqa: E402

SMOKE = """
schema_version: 1
arms:
  offline: {proposers: {coms: {epochs: 1, min_steps: 20, hidden_sizes: [16]}}, selector: {conservative: {beta: 1}}}
  bo: {proposers: {"my_method:NearestBest": {parents: 5}}}
  free: {proposers: [random, pairwise]}
judge: {ensemble: {members: 3, hidden: [16], steps: 20}}
"""


class TestMyMethod(ProposerContract):
    proposer = my_method.NearestBest()
    learns = False  # near the best of a poor start is not yet better than random


def test_the_start_data_are_500_designs_of_the_lower_half():
    start = pd.read_csv(ROOT / "examples" / "data" / "tfbind8_start.csv")
    assert start["dna"].nunique() == 500
    assert start["value"].max() <= np.median(table()[1]) + 1e-6


def run(script, monkeypatch, capsys, *arguments):
    """Run a script as its command line does, in this process: it loads torch and its like once; returns what it printed."""
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(script), run_name="__main__")
    return capsys.readouterr().out


def test_one_round_runs_from_history_to_report(tmp_path, monkeypatch, capsys):
    for folder in ("examples", "config"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "config" / "rounds" / "quick.yaml").write_text(SMOKE)
    monkeypatch.chdir(tmp_path)
    for name in ("LABLOOP_HOME", "LABLOOP_LEDGER"):
        monkeypatch.delenv(name, raising=False)
    assert "offline" in run("examples/one_round.py", monkeypatch, capsys)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_plain_botorch_script_tells_both_figures(monkeypatch, capsys):
    smoke = ["--seeds", "1", "--start", "8", "--rounds", "1", "--batch", "2", "--restarts", "1", "--raw", "8", "--samples", "8"]
    told = run(ROOT / "examples" / "benchmarks" / "botorch_plain.py", monkeypatch, capsys, *smoke)
    assert {"labloop", "botorch", "labloop_share", "botorch_share"} <= set(told.split())


def test_the_manual_shows_the_example_that_runs():
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "howto" / "python.md").read_text(), re.DOTALL)
    assert code is not None

    def lines(text):
        return sorted(line for line in text.splitlines() if line.strip() and not line.startswith('"""'))

    assert lines(code[1]) == lines((ROOT / "examples" / "one_round.py").read_text())


def test_the_benchmark_of_history_tells_the_paired_difference(monkeypatch, capsys):
    told = run(
        ROOT / "examples" / "benchmarks" / "history.py", monkeypatch, capsys, "--seeds", "2", "--rounds", "1", "--arms", "bo"
    )
    assert {"without", "with", "gain", "interval", "reaction"} <= set(told.split())
