"""The bootstrapped ensemble that Design-Bench's baselines share: what searches and generators ask for a design's value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from labloop.methods._forward import ForwardModel, Proxy, View, bootstrap, fit
from labloop.proposing.dataset import Dataset
from labloop.registry import plugin
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.types import Designs, Values

if TYPE_CHECKING:
    from jaxtyping import Float


@plugin
class ProxyModel:
    """Options of the ensemble."""

    members: Annotated[int, Field(ge=2)] = 5
    """Networks, each trained from another start; their mean and spread are used."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (128, 128)
    """Widths of the hidden layers."""
    epochs: PositiveInt = 50
    """Passes over the data."""
    min_steps: PositiveInt = 500
    """Training steps at least, however few the data are."""
    max_steps: PositiveInt | None = 3_000
    """Training steps at most, however many the data are; null for no bound."""

    @property
    def forward(self) -> ForwardModel:
        """The options of training."""
        return ForwardModel(
            hidden=self.hidden,
            epochs=self.epochs,
            min_steps=self.min_steps,
            max_steps=self.max_steps,
            slope=0.3,
            relaxation="onehot",
        )


PAPER: dict[str, Any] = {"members": 5, "hidden": (256,), "epochs": 100, "min_steps": 1, "max_steps": None}
"""The ensemble of Design-Bench's code, but for its Gaussian likelihood."""


@dataclass(frozen=True, eq=False)
class Ensembled:
    """The fitted ensemble, its mixture's normal parts all of one spread: that of the residuals."""

    proxy: Proxy
    spread: float
    """Of a reading about a member's prediction, standardised."""
    counts: Float[Tensor, "E N"]
    """Bootstrap multiplicities."""

    @property
    def view(self) -> View:
        return self.proxy.view

    def score(self, X: Designs) -> Values:
        """The mean of the members in y."""
        return self.proxy.each(X).mean(0)  # type: ignore[no-any-return]

    def above(self, X: Designs, level: float) -> Values:
        """P(y > level) of each design by the mixture of all members; `level` in y."""
        z = (self.proxy.each(X) - level) / (self.spread * self.view.scale * math.sqrt(2))
        return 0.5 * (1 + torch.erf(torch.tensor(z))).numpy().mean(0)  # type: ignore[no-any-return]


def ensembled(data: Dataset, options: ProxyModel, *, seed: int, proposer: str) -> Ensembled:
    """Fit the ensemble.

    Raises:
        MethodError: fewer than two designs are measured.
    """
    forward = options.forward
    view = View.of(data, forward.relaxation, proposer=proposer)
    counts = bootstrap(view, options.members, derive(seed, proposer, "bags"))
    proxy = fit(view, forward, seed=seed, proposer=proposer, members=options.members, counts=counts)
    return Ensembled(proxy, residual_spread(proxy), counts)


def residual_spread(proxy: Proxy) -> float:
    """Root mean square of y less the members' predictions, standardised, at least 0.01."""
    with torch.no_grad():
        errors = [
            (proxy(z) - y).square().mean(0) for z, y in zip(proxy.view.Z.split(8_192), proxy.view.y.split(8_192), strict=True)
        ]
    return max(0.01, float(torch.cat(errors).mean().sqrt()))


def onehot_rows(space: DesignSpace) -> list[tuple[slice, int, int]]:
    """The one-hot blocks of X: columns, rows and classes."""
    return [(slice(b.start, b.stop), b.rows, b.classes) for b in space.blocks if b.kind == "onehot"]


def number_columns(space: DesignSpace) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The columns of X that are no letters."""
    return np.array([i for b in space.blocks if b.kind != "onehot" for i in range(b.start, b.stop)], dtype=np.int64)
