"""Positive hyper-parameters of a Gaussian process."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Logs(nn.Module):
    """Positive hyper-parameters (k,) held as logarithms, with independent normal priors on these.

    A prior on the logarithm is a log-normal prior; the density is taken over the logarithm, which moves no mode to zero.
    """

    def __init__(self, k: int, *, centre: float, spread: float, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.full((k,), math.log(start), dtype=torch.float64))
        self.centre, self.spread = math.log(centre), spread

    def forward(self) -> Tensor:
        return self.log.exp()

    def penalty(self) -> Tensor:
        """Give minus the log prior density, up to a constant."""
        return 0.5 * (((self.log - self.centre) / self.spread) ** 2).sum()
