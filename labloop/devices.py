"""The machine's device: who trains on it, and what to do when its memory does not suffice. Nothing here imports torch."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


def cuda_device() -> str | None:
    """Name the CUDA device that a training here would use, `cuda-0`; None where it would use the CPU.

    `LABLOOP_DEVICE` and `CUDA_VISIBLE_DEVICES` count as they do for torch.
    """
    wanted = os.environ.get("LABLOOP_DEVICE", "")
    devices = named_devices()
    if devices == [] or (wanted and not wanted.startswith("cuda")) or (not wanted and not Path("/dev/nvidiactl").exists()):
        return None
    number = wanted.partition(":")[2] or "0"
    return f"cuda-{devices[int(number)] if devices and int(number) < len(devices) else number}"


def named_devices() -> list[str] | None:
    """List the devices that `CUDA_VISIBLE_DEVICES` leaves this process, in torch's order; None where it is not set: all."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if named is None else [one.strip() for one in named.split(",") if one.strip()]


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
