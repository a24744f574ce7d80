"""What every torch method needs: a device, a generator of its own, arithmetic without denormals."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from labloop.runtime.devices import device_name
from labloop.seeds import derive

log = logging.getLogger("labloop")

Rate = Literal["falling", "constant"]
"""How a training's rate goes: down as a cosine, or as it is."""


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


def rate_of(
    adam: torch.optim.Optimizer, how: Rate, steps: int, *, least: float = 0.0
) -> torch.optim.lr_scheduler.LRScheduler:  # fmt: skip
    """Give the schedule of a training's rate: to `least` as a cosine over its steps, or constant."""
    if how == "constant":
        return torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1.0)
    return torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=least)
