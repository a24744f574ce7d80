"""Many small networks as one batched computation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labloop.proposing.dataset import Dataset
from labloop.space.design_space import DesignSpace
from labloop.surrogates.kernel_networks import StackedKernel
from labloop.types import FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float

SHORT = 16
"""Sequences of up to this many letters are seen whole by dense layers, longer ones by convolutions."""
ENOUGH_FOR_CONVOLUTIONS = 1_000
"""Measured designs that a regression tries convolutions with. After a thousand 5' untranslated regions they predict new ones
twice as well as dense layers, after a few hundred neither is of much use (`examples/benchmarks/long_sequences.py`)."""


def length_of(space: DesignSpace) -> int:
    """Letters of a sequence that is seen by convolutions; 1 where a design is seen whole."""
    return space.blocks[0].rows if len(space.blocks) == 1 and space.blocks[0].rows > SHORT else 1


class StackedMLP(nn.Module):
    """E multilayer perceptrons side by side: one batched product a layer instead of E networks in a loop.

    Takes designs (E, b, d), or (b, d) shared by all members. Weights are drawn as `nn.Linear` draws them (uniform within
    1/√fan_in), from the given generator, so that a network depends on its seed alone.
    """

    lift: Tensor | None

    def __init__(
        self, members: int, d: int, hidden: tuple[int, ...], *, generator: torch.Generator, slope: float = 0.0,
        lift: Float[Tensor, "d m"] | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            hidden: widths of the hidden layers.
            slope: negative slope of the leaky ReLU; 0 is a ReLU.
            lift: what is seen besides the d columns, as products with them: descriptors of options, expected ones of soft
                options.
        """
        super().__init__()
        self.slope = slope
        self.register_buffer("lift", lift)
        widths = (d + (0 if lift is None else lift.shape[1]), *hidden, 1)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(widths):
            bound = 1 / math.sqrt(fan_in)
            for shape, into in (((members, fan_in, fan_out), self.weights), ((members, 1, fan_out), self.biases)):
                drawn = torch.rand(shape, generator=generator, device=generator.device)
                into.append(nn.Parameter((2 * drawn - 1) * bound))

    def features(self, x: Float[Tensor, "... b d"]) -> Float[Tensor, "E b w"]:
        """Give the last hidden layer."""
        if self.lift is not None:
            x = torch.cat([x, x @ self.lift], -1)
        if x.ndim == 2:
            x = x.expand(len(self.weights[0]), *x.shape)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = F.leaky_relu(torch.baddbmm(bias, x, weight), self.slope)
        return x

    def forward(self, x: Float[Tensor, "... b d"]) -> Float[Tensor, "E b"]:
        return torch.baddbmm(self.biases[-1], self.features(x), self.weights[-1])[..., 0]


class StackedCNN(StackedMLP):
    """E convolutional networks side by side: two convolutions along a sequence, the largest of each window, then dense layers.

    Takes designs as the others do, d = rows · letters, for any number of rows. What the first convolution finds in more than 50
    rows is thinned to 50 places, which bounds the cost of the second.
    """

    FILTERS, REACH, PLACES, WINDOWS = 32, 7, 50, 10

    def __init__(
        self, members: int, letters: int, hidden: tuple[int, ...], *, generator: torch.Generator, slope: float = 0.0
    ) -> None:
        super().__init__(members, self.WINDOWS * self.FILTERS, hidden, generator=generator, slope=slope)
        self.letters = letters
        self.filters = nn.ParameterList()
        self.offsets = nn.ParameterList()
        for channels in (letters, self.FILTERS):
            bound = 1 / math.sqrt(channels * self.REACH)
            for shape, into in (
                ((members, self.FILTERS, channels * self.REACH), self.filters), ((members, 1, self.FILTERS), self.offsets),
            ):  # fmt: skip
                into.append(nn.Parameter((2 * torch.rand(shape, generator=generator, device=generator.device) - 1) * bound))

    def features(self, x: Float[Tensor, "... b d"]) -> Float[Tensor, "E b w"]:
        members = len(self.weights[0])
        parts = x.unbind() if x.ndim == 3 else [x] * members
        return super().features(torch.stack([self._windows(part, i) for i, part in enumerate(parts)]))

    def _windows(self, x: Float[Tensor, "b d"], member: int) -> Float[Tensor, "b w"]:
        """What one member's filters find in each tenth of the sequences, w = WINDOWS · FILTERS."""
        h = _largest(self._convolve(x.reshape(len(x), -1, self.letters).mT, 0, member), self.PLACES)
        h = _largest(self._convolve(h, 1, member), self.WINDOWS)
        return F.pad(h, (0, self.WINDOWS - h.shape[2])).flatten(1)

    def _convolve(self, h: Float[Tensor, "b _ n"], layer: int, member: int) -> Float[Tensor, "b 32 n"]:
        """Run a layer's filters along the channels of h."""
        kernel = self.filters[layer][member].reshape(self.FILTERS, -1, self.REACH)
        return F.relu(F.conv1d(h, kernel, self.offsets[layer][member, 0], padding=self.REACH // 2))


def _largest(h: Float[Tensor, "*b n"], windows: int) -> Float[Tensor, "*b m"]:
    """The largest of each of at most so many windows of numbers; none is below 0."""
    width = -(-h.shape[-1] // windows)
    return h if width == 1 else F.pad(h, (0, -h.shape[-1] % width)).unflatten(-1, (-1, width)).amax(-1)


Kind = Literal["auto", "dense", "convolutional"]
Stacked = StackedMLP | StackedKernel


def networks(
    data: Dataset,
    members: int,
    hidden: tuple[int, ...],
    *,
    generator: torch.Generator,
    slope: float = 0.0,
    kind: Kind = "auto",
    columns: int | None = None,
    lift: Float[FloatArray, "d m"] | None = None,
) -> Iterator[StackedMLP]:
    """Draw the networks that a regression on these data should try, to keep what predicts better: dense ones first.

    With `auto` convolutional ones follow where the designs are long sequences and enough are measured. Each is drawn when it is
    asked for, so that a generator may also serve the training of the one before. Dense ones see `columns`, as many as the space's
    unless they are shown more; with `lift` they see what that makes of a design besides.
    """
    if kind != "convolutional":
        shown = None if lift is None or not lift.shape[1] else torch.as_tensor(lift, dtype=torch.float32, device=generator.device)
        yield StackedMLP(members, columns or data.space.d, hidden, generator=generator, slope=slope, lift=shown)
    if kind == "convolutional" or (kind == "auto" and length_of(data.space) > 1 and len(data) >= ENOUGH_FOR_CONVOLUTIONS):
        yield StackedCNN(members, data.space.blocks[0].classes, hidden, generator=generator, slope=slope)


Features = Literal["auto", "letters", "words"]
"""What networks see of a design: its letters and numbers as they stand, or as a kernel knows them (`kernel_networks`)."""


def behind(correlation: float, best: float, n: int) -> bool:
    """Whether a correlation over n rows is too far below the best one for the data to tell the two apart by chance."""
    return best - correlation > (1 - best**2) / math.sqrt(max(n - 1, 1))


def first_look(steps: int, n: int, batch: int) -> int:
    """The step at which a training that is far behind another may end: after four passes over n rows, an eighth of it at least.

    Where that is more than half of the training it is not cut short: networks on many data learn to its end.
    """
    look = max(steps // 8, 4 * n // batch)
    return look if look <= steps // 2 else steps


def load_stacked(weights: Mapping[str, Tensor], *, slope: float = 0.0, space: DesignSpace) -> Stacked:
    """Make the networks of a state dict, for predictions only; kind and sizes are read off the weights."""
    if "units" in weights:
        return StackedKernel(space, weights)
    first, *rest = (weights[f"weights.{i}"] for i in range(sum(name.startswith("weights.") for name in weights)))
    members, d, width = first.shape
    lift = weights.get("lift")
    d -= 0 if lift is None else lift.shape[1]
    hidden, fresh = (width, *(value.shape[2] for value in rest[:-1])), torch.Generator(device=first.device)
    if "filters.0" in weights:
        letters = weights["filters.0"].shape[2] // StackedCNN.REACH
        net: StackedMLP = StackedCNN(members, letters, hidden, generator=fresh, slope=slope)
    else:
        net = StackedMLP(members, d, hidden, generator=fresh, slope=slope, lift=lift)
    net.load_state_dict(weights)
    return net.requires_grad_(False)
