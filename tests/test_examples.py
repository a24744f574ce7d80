"""Every example runs, at smoke size where it would take long."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from labloop.studies.labs.tfbind8 import table
from labloop.testing import ProposerContract

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import my_method  # noqa: E402

SMOKE = """
schema_version: 1
arms:
  offline: {proposers: {coms: {epochs: 1}}, selector: {conservative: {beta: 1}}}
  bo: {proposers: {"my_method:NearestBest": {parents: 5}}}
  free: {proposers: [random, pairwise]}
judge: ensemble
"""


class TestMyMethod(ProposerContract):
    proposer = my_method.NearestBest()
    learns = False  # near the best of a poor start is not yet better than random


def test_the_start_data_are_500_designs_of_the_lower_half():
    start = pd.read_csv(ROOT / "examples" / "data" / "tfbind8_start.csv")
    assert start["dna"].nunique() == 500
    assert start["value"].max() <= np.median(table()[1]) + 1e-6


def test_one_round_runs_from_history_to_report(tmp_path):
    for folder in ("examples", "config"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "config" / "rounds" / "quick.yaml").write_text(SMOKE)
    done = subprocess.run(
        [sys.executable, "examples/one_round.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path / 'examples'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "offline" in done.stdout
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_plain_botorch_script_tells_both_figures():
    smoke = ["--seeds", "1", "--start", "8", "--rounds", "1", "--batch", "2", "--restarts", "1", "--raw", "8", "--samples", "8"]
    done = subprocess.run(
        [sys.executable, "examples/benchmarks/botorch_plain.py", *smoke], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {"labloop", "botorch", "labloop_share", "botorch_share"} <= set(done.stdout.split())


def test_the_manual_shows_the_example_that_runs():
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "howto" / "python.md").read_text(), re.DOTALL)
    assert code is not None

    def lines(text):
        return sorted(line for line in text.splitlines() if line.strip() and not line.startswith('"""'))

    assert lines(code[1]) == lines((ROOT / "examples" / "one_round.py").read_text())
