"""The U-Net over time of Diffuser (Janner et al., ICML 2022) and Decision Diffuser (Ajay et al., ICLR 2023), which GTG trains."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, Self

import torch
from torch import Tensor, nn

from labloop.methods._diffusion import initialise, time_features

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class _Conv(nn.Module):
    """Convolution over time, width 5, group norm, curve. Images of height one in channels-last order are the fastest on CPUs."""

    def __init__(self, a: int, b: int, curve: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.curve = nn.Conv2d(a, b, (1, 5), padding=(0, 2)), nn.GroupNorm(8, b), curve

    def forward(self, x: Float[Tensor, "b _ 1 H"]) -> Float[Tensor, "b _ 1 H"]:
        return self.curve(self.norm(self.conv(x)))


class _Residual(nn.Module):
    """Two convolutions with the embedding of time and return added between them."""

    def __init__(self, a: int, b: int, embedding: int, curve: nn.Module) -> None:
        super().__init__()
        self.first, self.second = _Conv(a, b, curve), _Conv(b, b, curve)
        self.embed = nn.Sequential(curve, nn.Linear(embedding, b))
        self.skip = nn.Conv2d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: Float[Tensor, "b _ 1 H"], e: Float[Tensor, "b e"]) -> Float[Tensor, "b _ 1 H"]:
        return self.second(self.first(x) + self.embed(e)[:, :, None, None]) + self.skip(x)


class _Level(nn.Module):
    """Two residual blocks, then a change of length: gives what the skip connection takes, and what goes on."""

    def __init__(self, a: int, b: int, embedding: int, curve: nn.Module, resample: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.resample = _Residual(a, b, embedding, curve), _Residual(b, b, embedding, curve), resample

    def forward(
        self, x: Float[Tensor, "b _ 1 H"], e: Float[Tensor, "b e"]
    ) -> tuple[Float[Tensor, "b o 1 H"], Float[Tensor, "b o 1 _"]]:  # fmt: skip
        x = self.second(self.first(x, e), e)
        return x, self.resample(x)


class TemporalUNet(nn.Module):
    """States x, times, returns and whether these are shown, to noise.

    H must be a multiple of 2^(levels - 1).
    """

    def __init__(self, c: int, dim: int, mults: tuple[int, ...], activation: Literal["mish", "silu"] = "mish") -> None:
        """
        Args:
            dim: channels of the first level, `mults` the levels' multiples of it; all channel counts are multiples of 8.
        """
        super().__init__()
        curve = nn.Mish() if activation == "mish" else nn.SiLU()
        self.dim = dim
        self.of_time = nn.Sequential(nn.Linear(dim, 4 * dim), curve, nn.Linear(4 * dim, dim))
        self.of_return = nn.Sequential(nn.Linear(1, dim), curve, nn.Linear(dim, 4 * dim), curve, nn.Linear(4 * dim, dim))
        widths, e = [c, *(dim * mult for mult in mults)], 2 * dim
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (a, b) in enumerate(itertools.pairwise(widths), start=1):
            shrink = nn.Conv2d(b, b, (1, 3), (1, 2), (0, 1)) if level < len(mults) else nn.Identity()
            self.down.append(_Level(a, b, e, curve, shrink))
        self.middle = nn.ModuleList([_Residual(widths[-1], widths[-1], e, curve) for _ in range(2)])
        for a, b in itertools.pairwise(widths[:0:-1]):
            self.up.append(_Level(2 * a, b, e, curve, nn.ConvTranspose2d(b, b, (1, 4), (1, 2), (0, 1))))
        self.head = nn.Sequential(_Conv(widths[1], widths[1], curve), nn.Conv2d(widths[1], c, 1))

    @classmethod
    def fresh(
        cls, c: int, dim: int, mults: tuple[int, ...], activation: Literal["mish", "silu"], *, generator: torch.Generator
    ) -> Self:
        """Build one on the generator's device, its weights drawn from the generator."""
        with torch.device("meta"):
            net = cls(c, dim, mults, activation)
        net.to_empty(device=generator.device)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        initialise(net, generator)
        return net

    def forward(
        self, x: Float[Tensor, "b H c"], t: Int[Tensor, " b"], returns: Float[Tensor, " b"], shown: Float[Tensor, " b"]
    ) -> Float[Tensor, "b H c"]:  # fmt: skip
        told = self.of_return(returns[:, None]) * shown[:, None]
        e = torch.cat([self.of_time(time_features(t, self.dim)), told], 1)
        h, passed = x.mT[:, :, None].contiguous(memory_format=torch.channels_last), []
        for level in self.down:
            skip, h = level(h, e)
            passed.append(skip)
        for block in self.middle:
            h = block(h, e)
        for level in self.up:
            _, h = level(torch.cat([h, passed.pop()], 1), e)
        return self.head(h)[:, :, 0].mT
