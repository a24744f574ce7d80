"""Many small networks as one batched computation."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StackedMLP(nn.Module):
    """E multilayer perceptrons side by side: one batched product a layer instead of E networks in a loop.

    Maps (E, b, d) or (b, d), shared by all members, to (E, b). Weights are drawn as `nn.Linear` draws them (uniform within
    1/√fan_in), from the given generator, so that a network depends on its seed alone.
    """

    def __init__(self, members: int, d: int, hidden: tuple[int, ...], *, generator: torch.Generator, slope: float = 0.0) -> None:
        """
        Args:
            hidden: widths of the hidden layers.
            slope: negative slope of the leaky ReLU; 0 is a ReLU.
        """
        super().__init__()
        self.slope = slope
        widths = (d, *hidden, 1)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(widths):
            bound = 1 / math.sqrt(fan_in)
            for shape, into in (((members, fan_in, fan_out), self.weights), ((members, 1, fan_out), self.biases)):
                drawn = torch.rand(shape, generator=generator, device=generator.device)
                into.append(nn.Parameter((2 * drawn - 1) * bound))

    def features(self, x: Tensor) -> Tensor:
        """Give the last hidden layer, (E, b, width)."""
        if x.ndim == 2:
            x = x.expand(len(self.weights[0]), *x.shape)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = F.leaky_relu(torch.baddbmm(bias, x, weight), self.slope)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.biases[-1], self.features(x), self.weights[-1])[..., 0]
