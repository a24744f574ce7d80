"""The machine's device: which it is, who trains on it, and what to do when its memory does not suffice.

Torch is imported here only where there is a CUDA device to ask it about.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from filelock import FileLock

from labloop.errors import ConfigError
from labloop.runtime.environment import Environment

log = logging.getLogger("labloop")

_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/nvhost-gpu")
"""Where Linux shows a driver of NVIDIA's, AMD's, Windows' below it, or of a Jetson."""


def device_name() -> str:
    """Choose where to compute, as torch names it: `cpu`, `cuda:1`, …; the one rule, for every training and for the device's lock.

    `LABLOOP_DEVICE` where set, else the first CUDA device where torch sees one, else the CPU. A CUDA device that is wanted where
    there is none is a warning, and the CPU.

    Raises:
        ConfigError: `LABLOOP_DEVICE` names no device, or one that there is not.
    """
    wanted = (Environment.now().device or "").strip()
    kind, colon, number = wanted.partition(":")
    if (wanted and kind not in _KINDS) or (colon and not (number.isascii() and number.isdigit())):
        raise ConfigError(f"LABLOOP_DEVICE is {wanted!r}: set it to cpu, cuda or cuda:0, or leave it out")
    if wanted and kind != "cuda":
        return wanted
    there = _cuda_devices(asked=bool(wanted))
    if there == 0:
        if wanted:
            log.warning("LABLOOP_DEVICE is %s but no CUDA device is there: using the CPU", wanted)
        return "cpu"
    if number and int(number) >= there:
        raise ConfigError(f"LABLOOP_DEVICE is {wanted!r}, but there are {there} CUDA devices, counted from 0")
    return f"cuda:{int(number or 0)}"


_KINDS = ("cpu", "cuda", "mps", "xpu")


def _cuda_devices(*, asked: bool) -> int:
    """Count the CUDA devices that torch sees. It is not imported for that where none is asked for and nothing shows one."""
    if named_devices() == []:
        return 0
    if not asked and sys.platform == "linux" and not any(Path(driver).exists() for driver in _DRIVERS):
        return 0
    try:
        import torch
    except ImportError:
        return 0
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cuda_device() -> str | None:
    """Name the machine's CUDA device that a training here uses, `cuda-0`; None where it uses another device or the CPU."""
    kind, _, number = device_name().partition(":")
    if kind != "cuda":
        return None
    devices = named_devices()
    return f"cuda-{devices[int(number)] if devices and int(number) < len(devices) else number}"


def dealt_devices() -> list[str]:
    """The CUDA devices that workers of this machine can be dealt, one each, as `CUDA_VISIBLE_DEVICES` names them.

    None where trainings use no CUDA device, or the one that `LABLOOP_DEVICE` names.
    """
    if not device_name().startswith("cuda") or ":" in (Environment.now().device or ""):
        return []
    named = named_devices()
    return [str(i) for i in range(_cuda_devices(asked=True))] if named is None else named


def named_devices() -> list[str] | None:
    """List the devices that `CUDA_VISIBLE_DEVICES` leaves this process, in torch's order; None where it is not set: all."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return None
    return list(takewhile(lambda one: one and not one.startswith("-"), (one.strip() for one in named.split(","))))


@contextmanager
def device_lock(folder: Path | None = None) -> Iterator[None]:
    """Wait until nobody else of this machine trains on this CUDA device, then hold it; on the CPU trainings may run side by side.

    It is a file lock: the kernel frees it when its process dies, however it dies. Processes that should wait for each other must
    see one folder, by default the system's for temporary files.
    """
    device = cuda_device()
    if device is None:
        yield
        return
    with FileLock((folder or Path(tempfile.gettempdir())) / f"labloop-{device}.lock", mode=0o666):
        yield


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device's or the machine's memory did not suffice."""
    told = str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in told


def free_memory() -> None:
    """Give back what a training that failed still holds."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
