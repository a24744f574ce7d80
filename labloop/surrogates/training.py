"""What every torch method needs: a device, a generator of its own, arithmetic without denormals."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from labloop.runtime.devices import device_name
from labloop.seeds import derive

log = logging.getLogger("labloop")


def pick_device() -> torch.device:
    """Choose where to compute: see `labloop.runtime.devices.device_name`."""
    return torch.device(device_name())


def torch_generator(seed: int, *parts: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Give a torch generator for one use; the global one is never touched."""
    return torch.Generator(device=device).manual_seed(derive(seed, *parts))


@contextmanager
def without_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero inside the block: on CPUs they slow a float32 product down a hundredfold."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
