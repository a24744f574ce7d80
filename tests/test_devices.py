"""One device for many trainings, and trainings that do not fit into its memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labloop.dataset import Dataset
from labloop.devices import cuda_device, device_lock, out_of_memory
from labloop.pool import Pool
from labloop.registry import plugin
from labloop.rounds import Training, train
from labloop.seeds import generator
from labloop.testing import TOY_SPACES, toy_data


@plugin
class Hungry:
    """A proposer whose memory suffices for small batches only."""

    batch_size: int = 128
    fits: int = 32
    says: str = "CUDA out of memory"

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        if self.batch_size > self.fits:
            raise {"CUDA out of memory": OutOfMemoryError, "memory": MemoryError}.get(self.says, RuntimeError)(self.says)
        X = data.space.sample(50 * n, generator(seed, "hungry"))
        return Pool.best(data, X, X[:, 0], n, proposer="hungry", notes={"batch": self.batch_size})


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


def hungry(**options) -> Training:
    return Training(arm="a", proposer="test_devices:Hungry", options=options, n=4, seed=0)


@pytest.mark.parametrize("says", ["CUDA out of memory", "memory", "DefaultCPUAllocator: can't allocate memory"])
def test_a_training_that_runs_out_of_memory_is_tried_again_smaller_and_says_so(says):
    pool = train(hungry(says=says), toy_data(TOY_SPACES["sequence"])).pool
    assert pool.notes["batch"] == 32
    assert pool.notes["smaller"] == '{"batch_size": 32}'
    assert "smaller" not in train(hungry(fits=128), toy_data(TOY_SPACES["sequence"])).pool.notes


def test_a_training_that_never_fits_fails_as_it_did():
    with pytest.raises(OutOfMemoryError):
        train(hungry(fits=2), toy_data(TOY_SPACES["sequence"]))
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(hungry(says="shapes differ"), toy_data(TOY_SPACES["sequence"]))
    assert not out_of_memory(RuntimeError("shapes differ"))


@pytest.mark.parametrize(
    ("wanted", "visible", "device"),
    [("cuda", None, "cuda-0"), ("cuda:1", None, "cuda-1"), ("cuda:1", "4, 6", "cuda-6"), ("cuda", "", None), ("cpu", "4", None)],
)
def test_the_device_is_named_as_torch_counts_them(wanted, visible, device, monkeypatch):
    monkeypatch.setenv("LABLOOP_DEVICE", wanted)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cuda_device() == device


_HOLD = """
import sys, time
from pathlib import Path
from labloop.devices import device_lock
with device_lock(Path(sys.argv[1])):
    Path(sys.argv[1], "held").touch()
    time.sleep(60)
"""


def test_one_training_at_a_time_has_the_device_and_a_killed_one_frees_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LABLOOP_DEVICE", "cuda")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        while not (tmp_path / "held").exists():
            assert other.poll() is None
            time.sleep(0.05)
        waiting = subprocess.Popen(
            [sys.executable, "-c", _HOLD.replace('"held"', '"second"'), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            time.sleep(1.0)
            assert not (tmp_path / "second").exists()
            other.kill()
            other.wait()
            while not (tmp_path / "second").exists():
                assert waiting.poll() is None
                time.sleep(0.05)
        finally:
            waiting.kill()
            waiting.wait()
    finally:
        other.kill()
        other.wait()
    with device_lock(tmp_path):
        pass


def test_trainings_on_the_cpu_need_not_wait(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LABLOOP_DEVICE", "cpu")
    with device_lock(tmp_path), device_lock(tmp_path):
        assert not list(tmp_path.iterdir())
