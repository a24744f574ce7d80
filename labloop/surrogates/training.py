"""What every torch method needs: a device, a generator of its own, an optimiser, arithmetic without denormals."""

from __future__ import annotations

import inspect
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


class Adam(torch.optim.Adam):
    """torch's Adam without the decorators that speak to torch's compiler: nothing here is compiled, and to load it takes each
    process more CPU-seconds than a small training does."""

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


def rate_of(
    adam: torch.optim.Optimizer, how: Rate, steps: int, *, least: float = 0.0
) -> torch.optim.lr_scheduler.LRScheduler:  # fmt: skip
    """Give the schedule of a training's rate: to `least` as a cosine over its steps, or constant."""
    if how == "constant":
        return torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1.0)
    return torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=least)
