"""Positive hyper-parameters of a Gaussian process."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Logs(nn.Module):
    """Positive hyper-parameters (k,) held as logarithms, with independent normal priors on these.

    A prior on the logarithm is a log-normal prior; the density is taken over the logarithm, which moves no mode to zero.
    """

    centre: Tensor

    def __init__(self, k: int, *, centre: float | list[float], spread: float, start: float | list[float]) -> None:
        super().__init__()
        begin, middle = (torch.as_tensor(one, dtype=torch.float64).expand(k).log() for one in (start, centre))
        self.log = nn.Parameter(begin.clone())
        self.register_buffer("centre", middle.clone())
        self.spread = spread

    def forward(self) -> Tensor:
        return self.log.exp()

    def penalty(self) -> Tensor:
        """Give minus the log prior density, up to a constant."""
        return 0.5 * (((self.log - self.centre) / self.spread) ** 2).sum()
