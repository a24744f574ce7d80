"""Positive hyper-parameters of a Gaussian process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


class Logs(nn.Module):
    """Positive hyper-parameters held as logarithms, with independent normal priors on these.

    A prior on the logarithm is a log-normal prior; the density is taken over the logarithm, which moves no mode to zero.
    """

    centre: Float[Tensor, " k"]

    def __init__(self, k: int, *, centre: float | list[float], spread: float, start: float | list[float]) -> None:
        super().__init__()
        begin, middle = (torch.as_tensor(one, dtype=torch.float64).expand(k).log() for one in (start, centre))
        self.log = nn.Parameter(begin.clone())
        self.register_buffer("centre", middle.clone())
        self.spread = spread

    def forward(self) -> Float[Tensor, " k"]:
        return self.log.exp()

    def penalty(self) -> Float[Tensor, ""]:
        """Give minus the log prior density, up to a constant."""
        return 0.5 * (((self.log - self.centre) / self.spread) ** 2).sum()
