"""Networks of several seeds side by side, and the ascent on them: what conservative objective models mine and search with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from labloop.surrogates.training import torch_generator

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Networks:
    """E ReLU networks, one a seed; each layer has weights and biases."""

    weights: list[Float[Tensor, "E _ _"]]
    biases: list[Float[Tensor, "E 1 _"]]

    @classmethod
    def draw(cls, seeds: Sequence[int], widths: Sequence[int], device: torch.device) -> Networks:
        """Draw each network from its own seed alone, as Keras does (uniform within √(6/(in + out)), biases 0)."""
        gens = [torch_generator(seed, "coms", "weights") for seed in seeds]
        weights, biases = [], []
        for fan_in, fan_out in itertools.pairwise(widths):
            drawn = torch.stack([torch.rand(fan_in, fan_out, generator=gen) for gen in gens])
            weights.append(((2 * drawn - 1) * math.sqrt(6 / (fan_in + fan_out))).to(device).requires_grad_())
            biases.append(torch.zeros(len(seeds), 1, fan_out, device=device, requires_grad=True))
        return cls(weights, biases)

    def __call__(self, z: Float[Tensor, "E b r"]) -> Float[Tensor, "E b"]:
        """Predict standardised y, larger is better."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = F.relu(torch.baddbmm(bias, z, weight))
        return torch.baddbmm(self.biases[-1], z, self.weights[-1])[..., 0]


def ascend(
    nets: Networks, z: Float[Tensor, "E b r"], rate: Float[Tensor, " r"], steps: int, *,
    dtype: torch.dtype = torch.float32, project: Callable[[Tensor], Tensor] | None = None,
    settles: bool = False, kappa: float = 0.0, gens: Sequence[torch.Generator] = (),
) -> Iterator[Float[Tensor, "E b r"]]:  # fmt: skip
    """Climb f_θ from z by x ← x + η·∇[f_θ(x) + κ·H]; yield the particles after each step. Mining and solving.

    The gradient of a ReLU network is written out, w_L masked by each layer on the way back, which is 3 to 4.5 times faster than
    autograd. H = mean (x − x_perm)² over particles and columns, x_perm a random permutation, summed over the batch as f_θ is.

    Args:
        rate: η, one a column.
        project: applied to the particles after each step.
        settles: whether it leaves most of them where they were before long, as letters are: none of these is moved again, which
            without κ changes nothing.
        gens: one generator a network, used where κ is not 0.
    """
    with torch.no_grad():
        into = [weight.to(dtype) for weight in nets.weights[:-1]]
        biases = [bias.to(dtype) for bias in nets.biases[:-1]]
        last = nets.weights[-1].transpose(1, 2).to(dtype)
        back = [weight.transpose(1, 2).contiguous() for weight in into[1:]]
        home = (nets.weights[0].detach() * rate[:, None]).transpose(1, 2).to(dtype).contiguous()
        moving = torch.arange(z.shape[1], device=z.device)
        for _ in range(steps):
            if not len(moving):
                yield z
                continue
            x = z if len(moving) == z.shape[1] else z[:, moving]
            h, hidden = x.to(dtype), []
            for weight, bias in zip(into[:-1], biases[:-1], strict=True):
                h = torch.baddbmm(bias, h, weight).relu_()
                hidden.append(h)
            h = torch.baddbmm(biases[-1], h, into[-1])  # of the last layer only the sign is needed
            g = torch.ops.aten.threshold_backward(last.expand_as(h), h, 0)
            for weight, h in zip(reversed(back), reversed(hidden), strict=True):
                g = torch.ops.aten.threshold_backward(torch.bmm(g, weight), h, 0)
            there = x + torch.bmm(g, home).float()
            if kappa:
                there = there + rate * kappa * _spread(x, gens)
            if project is not None:
                there = project(there)
            z = there if x is z else z.index_copy(1, moving, there)
            yield z
            if settles and not kappa:
                moving = moving[(there != x).any((0, 2))]


def _spread(z: Float[Tensor, "E b r"], gens: Sequence[torch.Generator]) -> Float[Tensor, "E b r"]:
    """∂(b·H)/∂x of every particle: each occurs once as x and once as another's x_perm."""
    perm = torch.stack([torch.randperm(z.shape[1], generator=gen) for gen in gens]).to(z.device)[..., None].expand_as(z)
    return 2 / z.shape[-1] * (2 * z - z.gather(1, perm) - z.gather(1, perm.argsort(1)))


def last(steps: Iterator[Float[Tensor, "E b r"]]) -> Float[Tensor, "E b r"]:
    """Climb to the end and give the last particles; there must be one step at least."""
    for z in steps:  # noqa: B007
        pass
    return z
