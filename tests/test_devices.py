"""One device for many trainings, and trainings that do not fit into its memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labloop.errors import ConfigError
from labloop.proposing.dataset import Dataset
from labloop.proposing.pipeline import Training, train
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime import devices
from labloop.runtime.devices import cuda_device, device_lock, out_of_memory
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


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many CUDA devices, or of none, seen through the environment's two variables."""

    def make(count: int, wanted: str | None = None, visible: str | None = None) -> None:
        for name, value in (("LABLOOP_DEVICE", wanted), ("CUDA_VISIBLE_DEVICES", visible)):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        left = count if visible is None else len(devices.named_devices())
        monkeypatch.setattr(torch.cuda, "device_count", lambda: left)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: left > 0)
        monkeypatch.setattr(devices, "_DRIVERS", (os.sep,) if count else ("/nowhere",))

    torch = pytest.importorskip("torch", reason="torch is not installed")
    return make


@pytest.mark.parametrize(
    ("count", "wanted", "visible", "device", "lock"),
    [
        (0, None, None, "cpu", None),
        (0, "cuda", None, "cpu", None),
        (0, "cuda:3", None, "cpu", None),
        (2, None, None, "cuda:0", "cuda-0"),
        (2, "", None, "cuda:0", "cuda-0"),
        (2, "cpu", "4", "cpu", None),
        (2, "cuda", None, "cuda:0", "cuda-0"),
        (2, "cuda:1", None, "cuda:1", "cuda-1"),
        (8, "cuda:1", "4, 6", "cuda:1", "cuda-6"),
        (8, None, "GPU-ab,GPU-cd", "cuda:0", "cuda-GPU-ab"),
        (2, "cuda", "", "cpu", None),
        (2, None, "-1", "cpu", None),
        (2, "mps", None, "mps", None),
    ],
)
def test_one_rule_picks_the_device_that_is_trained_on_and_locked(machine, count, wanted, visible, device, lock):
    from labloop.surrogates.training import pick_device

    machine(count, wanted, visible)
    assert str(pick_device()) == devices.device_name() == device
    assert cuda_device() == lock


@pytest.mark.parametrize("wanted", ["gpu", "cuda:x", "cuda:-1", "cuda:2", "cuda:"])
def test_a_device_that_there_is_not_is_refused_by_name(machine, wanted):
    machine(2, wanted)
    with pytest.raises(ConfigError, match=wanted):
        devices.device_name()


@pytest.mark.parametrize(
    ("count", "wanted", "visible", "dealt"),
    [
        (2, None, None, ["0", "1"]),
        (8, "cuda", "4,5", ["4", "5"]),
        (2, "cpu", None, []),
        (2, "cuda:1", None, []),
        (0, None, "4", []),
    ],
)
def test_workers_are_dealt_the_devices_that_the_rule_leaves_them(machine, count, wanted, visible, dealt):
    machine(count, wanted, visible if count else "")
    assert devices.dealt_devices() == dealt


_HOLD = """
import sys, time
from pathlib import Path
from labloop.runtime import devices
from labloop.runtime.devices import device_lock
devices._cuda_devices = lambda asked: 1
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
    monkeypatch.setattr(devices, "_cuda_devices", lambda asked: 1)
    with device_lock(tmp_path):
        assert list(tmp_path.glob("*.lock"))


def test_trainings_on_the_cpu_need_not_wait(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LABLOOP_DEVICE", "cpu")
    with device_lock(tmp_path), device_lock(tmp_path):
        assert not list(tmp_path.iterdir())
