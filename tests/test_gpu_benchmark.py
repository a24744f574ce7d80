"""The benchmark of a CUDA device: it runs without one, and it notices where device and CPU do not agree."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "benchmarks"
sys.path.insert(0, str(FOLDER))

import gpu  # noqa: E402


def test_it_runs_where_there_is_no_device(tmp_path, monkeypatch, capsys):
    out = tmp_path / "gpu.json"
    options = ["--problems", "numbers-500", "--methods", "ensemble", "--share", "0.01", "--out", str(out)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)  # torch may have asked before
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options])
    gpu.main()
    said = capsys.readouterr().out
    assert "device: none" in said
    assert "| numbers-500 | ensemble |" in said
    (row,) = json.loads(out.read_text())["rows"]
    assert row["cpu_seconds_cpu"] > 0
    assert "agrees" not in row


@pytest.mark.parametrize(("sign", "agrees"), [(1, True), (-1, False)])
def test_what_a_device_learned_otherwise_shows(tmp_path, sign, agrees):
    X = gpu.numbers(20).data.X
    said = np.arange(20.0)
    for device, factor in (("cpu", 1), ("cuda", sign)):
        told = {"coms": {"seconds": 1.0, "cpu_seconds": 1.0, "worth": 0.5}}
        arrays = {"coms/said": factor * said, "coms/X": X}
        np.savez(tmp_path / f"{device}-numbers-500.npz", told=np.array(json.dumps(told)), **arrays)
    (row,) = gpu.compare("numbers-500", ["coms"], ["cpu", "cuda"], tmp_path)
    assert row["correlation"] == pytest.approx(sign)
    assert row["pool"] == pytest.approx(20 / gpu.PLATE)
    assert row["agrees"] is agrees
    assert f"| {agrees} |" in gpu.markdown([row])


def test_a_plate_worth_much_less_on_the_device_shows(tmp_path):
    for device, worth in (("cpu", 9.0), ("cuda", 0.0)):
        told = {"qei": {"seconds": 1.0, "cpu_seconds": 1.0, "worth": worth}}
        np.savez(tmp_path / f"{device}-numbers-500.npz", told=np.array(json.dumps(told)), **{"qei/X": gpu.numbers(5).data.X})
    (row,) = gpu.compare("numbers-500", ["qei"], ["cpu", "cuda"], tmp_path)
    assert row["value"] < -gpu.WORTH
    assert not row["agrees"]
