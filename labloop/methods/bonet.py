"""BONET: a transformer that has seen many paths from bad to good designs, and walks on (Krishnamoorthy, Mashkaria and Grover,
"Generative Pretraining for Black-Box Optimization", ICML 2023).

Measured designs are sorted into bins of value, paths take designs of each bin and are sorted low to high. Each step of a path
carries its regret to go, Σ (y* − y) over it and what follows. A causal transformer learns the next design from the path so far
and the regret to go. It then continues paths of measured designs, told that hardly any regret is left.

Where this differs from the authors' code, and why:

 1. y* is the largest measured value; theirs is the true optimum, which a lab does not know.
 2. One token a step, (regret to go of this step, design and value of the one before) where theirs has two; smaller, and shorter
    paths of 32 steps, half of them given. `paper()` has their sizes.
 3. Bins that hold more designs give more of them to a path, in proportion to the square root of their number.
 4. Designs are offered as they are walked to, those met most often first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from labloop.errors import MethodError
from labloop.methods import _offer
from labloop.methods._diffusion import build
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.surrogates.training import Adam, torch_generator, without_denormals
from labloop.types import Array, FloatArray, Values

if TYPE_CHECKING:
    from jaxtyping import Float, Int

REGRETS = (0.0, 0.01, 0.05, 0.1)
"""Regrets to go that a walk is told, a step's worth each, in ranges of y."""


@plugin
class BONET:
    """A transformer trained on paths from bad to good designs, which walks on beyond them."""

    family: ClassVar[str] = "generative"
    source: ClassVar[str] = "Krishnamoorthy et al., ICML 2023"
    cost: ClassVar[str] = "a small transformer"
    name: ClassVar[str] = "bonet"

    length: PositiveInt = 32
    """Steps of a path; half of them are given when it is walked on."""
    trajectories: PositiveInt = 400
    """Climbs from bad designs to good ones that it is trained on."""
    bins: PositiveInt = 32
    """Bins of values that a climb goes through."""
    width: PositiveInt = 64
    """Width of the transformer; a multiple of its heads."""
    depth: PositiveInt = 2
    """Layers of the transformer."""
    heads: Annotated[int, Field(gt=0, validate_default=True)] = 4
    """Heads of its attention."""
    steps: PositiveInt = 600
    """Training steps."""
    batch_size: PositiveInt = 32
    """Designs a training step."""
    lr: PositiveFloat = 1e-3
    """Learning rate."""

    @field_validator("heads")
    @classmethod
    def _shares(cls, heads: int, told: ValidationInfo) -> int:
        width = told.data.get("width", heads)
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared by {heads} heads: make it a multiple of heads")
        return heads

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The settings of the authors' code on TF Bind 8 (32 layers elsewhere); hours on a CPU."""
        settings = {"length": 128, "trajectories": 800, "bins": 64, "width": 512, "depth": 8, "heads": 8, "steps": 470,
                    "batch_size": 128, "lr": 1e-4}  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train and walk; the score is how often a design was met.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        if len(data) < 2:
            raise MethodError(f"bonet learns from at least two measured designs, there are {len(data)}: measure a first plate")
        space, gen = data.space, torch_generator(seed, self.name)
        unit = (data.y - data.y.min()) / (np.ptp(data.y) or 1.0)
        rows = sorted_paths(unit, self.trajectories, self.length, self.bins, np.random.default_rng(derive(seed, self.name)))
        X = torch.tensor(2 * data.X - 1, dtype=torch.float32)[rows]
        y = torch.tensor(unit, dtype=torch.float32)[rows]
        tokens = path_tokens(X, y)
        net = transformer(tokens.shape[2], space.d, self.width, self.depth, self.heads, self.length, gen)
        adam = Adam(net.parameters(), lr=self.lr)
        with without_denormals():
            for _ in track(self.steps, "bonet: training"):
                index = torch.randint(len(X), (min(self.batch_size, len(X)),), generator=gen)
                loss = F.mse_loss(net(tokens[index]), X[index])
                adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
        half = max(1, self.length // 2)

        def draw(k: int) -> FloatArray:
            walks = -(-k // half)
            which = torch.randint(len(X), (walks,), generator=gen)
            regret = torch.tensor(REGRETS)[torch.randint(len(REGRETS), (walks,), generator=gen)]
            # A second half of noise: walks of equal starts would be one walk.
            found = walk(net, X[which, -half:], y[which, -half:], regret, self.length - half, gen)
            return space.repair((found.flatten(0, 1).double().numpy() + 1) / 2)

        return _offer.drawn(data, draw, n, seed=derive(seed, self.name), proposer=self.name, notes={"steps": self.steps})


def sorted_paths(y: Values, paths: int, length: int, bins: int, rng: np.random.Generator) -> Int[Array, "k H"]:
    """Draw rows of y within 0 and 1 as paths of so many steps, each sorted low to high, from bins of equal width."""
    place = np.minimum((y * bins).astype(int), bins - 1)
    size = np.bincount(place, minlength=bins).astype(float)
    p = (np.sqrt(size) / size.clip(1))[place]
    rows = rng.choice(len(y), size=(paths, length), p=p / p.sum())
    return np.take_along_axis(rows, y[rows].argsort(1, kind="stable"), 1)


def regret_to_go(y: Float[Tensor, "k H"]) -> Float[Tensor, "k H"]:
    """Σ (1 − y) over each step and those after it, per step of a path, 1 the best value."""
    return (1 - y).flip(1).cumsum(1).flip(1) / y.shape[1]


def path_tokens(X: Float[Tensor, "k H d"], y: Float[Tensor, "k H"]) -> Float[Tensor, "k H d+2"]:
    """Make the tokens: regret to go of the step, then design and value of the one before, 0 at the first."""
    before = torch.cat([X, y[..., None]], 2)
    before = torch.cat([torch.zeros_like(before[:, :1]), before[:, :-1]], 1)
    return torch.cat([regret_to_go(y)[..., None], before], 2)


def walk(
    net: Transformer, X: Float[Tensor, "k h d"], y: Float[Tensor, "k h"], regret: Float[Tensor, " k"], steps: int,
    gen: torch.Generator,
) -> Float[Tensor, "k H d"]:  # fmt: skip
    """Continue paths X, y by so many designs, told `regret` for each step to go."""
    with torch.no_grad():
        total = regret[:, None] * torch.arange(steps, 0, -1) / (X.shape[1] + steps)
        togo = torch.cat([regret_to_go(y) * y.shape[1] / (y.shape[1] + steps) + total[:, :1], total], 1)
        level = (1 - regret)[:, None]
        for _ in range(steps):
            at = torch.cat([X, torch.zeros_like(X[:, :1])], 1)
            value = torch.cat([y, torch.zeros_like(y[:, :1])], 1)
            tokens = path_tokens(at, value)
            tokens[..., 0] = togo[:, : tokens.shape[1]]
            new = net(tokens)[:, -1:]
            X = torch.cat([X, (new + 0.1 * torch.randn(new.shape, generator=gen)).clamp(-1, 1)], 1)
            y = torch.cat([y, level], 1)
    return X[:, -steps:]


def transformer(inputs: int, d: int, width: int, depth: int, heads: int, length: int, gen: torch.Generator) -> Transformer:
    """Draw a transformer's weights from the generator."""
    net = build(lambda: Transformer(inputs, d, width, depth, heads, length), gen)
    assert isinstance(net, Transformer)
    return net


class Transformer(nn.Module):
    """A causal transformer: tokens to designs, each from the tokens up to its own."""

    def __init__(self, inputs: int, d: int, width: int, depth: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter, self.leave = nn.Linear(inputs, width), nn.Linear(width, d)
        self.place = nn.Linear(length, width, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.attend = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(depth))
        self.merge = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.think = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) for _ in range(depth)
        )

    def forward(self, tokens: Float[Tensor, "b h w"]) -> Float[Tensor, "b h d"]:
        h = self.enter(tokens) + self.place.weight.T[: tokens.shape[1]]
        for i, (attend, merge, think) in enumerate(zip(self.attend, self.merge, self.think, strict=True)):
            q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in attend(self.norms[2 * i](h)).chunk(3, 2))
            h = h + merge(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
            h = h + think(self.norms[2 * i + 1](h))
        return self.leave(h)
