"""Labs that measure several properties: two problems of the multi-objective literature, and one with a limit.

1. Branin and Currin (Belakaria et al., NeurIPS 2019), two numbers in [0, 1], both functions lower is better; if asked for with
   the circle of 3 as a third column, `side` (BoTorch's ConstrainedBraninCurrin).
2. DTLZ2 (Deb et al., CEC 2002) of two or more objectives and six numbers: the best compromises lie on a sphere of radius 1.
3. Branin under a limit: its value, lower is better, inside a circle: `side` must be at most 0 (Gelbart et al., UAI 2014).

`value` is the leading property; beside it stands a column a property, under the names that the campaigns give them.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from labloop.registry import plugin
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Real
from labloop.studies.labs.lookup import Noise, Share, readings
from labloop.types import FloatArray


def branin(x: FloatArray) -> FloatArray:
    """Compute Branin's function of x (n, 2) in [0, 1], scaled from [-5, 10] x [0, 15]; (n,), lower is better."""
    u, v = 15 * x[:, 0] - 5, 15 * x[:, 1]
    bend = v - 5.1 / (4 * math.pi**2) * u**2 + 5 / math.pi * u - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * np.cos(u) + 10  # type: ignore[no-any-return]


def currin(x: FloatArray) -> FloatArray:
    """Compute Currin's function of x (n, 2) in [0, 1]; (n,), lower is better."""
    a, b = x[:, 0], x[:, 1]
    first = 1 - np.where(b > 0, np.exp(-1 / (2 * np.maximum(b, 1e-12))), 0.0)
    return first * (2300 * a**3 + 1900 * a**2 + 2092 * a + 60) / (100 * a**3 + 500 * a**2 + 4 * a + 20)  # type: ignore[no-any-return]


def dtlz2(x: FloatArray, m: int) -> FloatArray:
    """Compute DTLZ2 of x (n, d) in [0, 1]: (n, m), lower is better."""
    g = ((x[:, m - 1 :] - 0.5) ** 2).sum(1)
    angle = x[:, : m - 1] * math.pi / 2
    out = []
    for i in range(m):
        one = 1 + g
        for j in range(m - 1 - i):
            one = one * np.cos(angle[:, j])
        out.append(one * np.sin(angle[:, m - 1 - i]) if i else one)
    return np.column_stack(out)


def side(x: FloatArray) -> FloatArray:
    """Tell how far x (n, 2) in [0, 1] lies outside a circle of Branin's plane, (n,): 0 or less is inside."""
    return (15 * x[:, 0] - 5 - 2.5) ** 2 + (15 * x[:, 1] - 7.5) ** 2 - 50  # type: ignore[no-any-return]


class _Several:
    """What such labs share: readings of each property with noise of its own; a well that fails has none."""

    def _measured(
        self, Y: FloatArray, names: tuple[str, ...], scale: tuple[float, ...], noise: float, failures: float, seed: int
    ) -> pd.DataFrame:
        parts = [
            readings(Y[:, j], noise=noise * scale[j], failures=failures if j == 0 else 0.0, seed=derive(seed, name))
            for j, name in enumerate(names)
        ]
        gone = parts[0]["value"].isna()
        columns = {name: part["value"].mask(gone) for name, part in zip(names, parts, strict=True)}
        return parts[0].assign(**columns)


@plugin
class BraninCurrin(_Several):
    """Branin's and Currin's functions of two numbers, both to be minimised."""

    limited: bool = False
    """Whether the circle of `limitedbranin` is measured too, as `side`."""
    noise: Noise = 0.0
    """Standard deviation of normal noise, as a share of each function's own."""
    failures: Share = 0.0
    """Share of wells that fail for technical reasons."""

    @property
    def space(self) -> DesignSpace:
        """Columns x1 and x2."""
        return _unit_cube(2)

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Compute `branin` (also as `value`), `currin`, `side` where it is asked for, and `status` of designs, in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        x, n = self.space.encode(designs), 2 + self.limited
        Y = np.column_stack([branin(x), currin(x), side(x)])[:, :n]
        names, scale = ("branin", "currin", "side")[:n], (51.0, 2.9, 40.0)[:n]
        return self._measured(Y, names, scale, self.noise, self.failures, derive(seed, "branincurrin"))


@plugin
class DTLZ2(_Several):
    """DTLZ2 of three objectives, or as many as are asked for, all to be minimised."""

    objectives: Annotated[int, Field(ge=2, le=6)] = 3
    """Functions that are measured, `f1` and so on."""
    d: Annotated[int, Field(ge=3, le=100)] = 6
    """Numbers of a design, more than there are objectives or as many."""
    noise: Noise = 0.0
    """Standard deviation of normal noise, as a share of each function's own."""
    failures: Share = 0.0
    """Share of wells that fail for technical reasons."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.objectives > self.d:
            raise ValueError(f"{self.objectives} objectives need as many numbers, not {self.d}: raise d")
        return self

    @property
    def space(self) -> DesignSpace:
        """Columns x1 to x6, or as many as `d` says."""
        return _unit_cube(self.d)

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Compute `f1` (also as `value`), `f2` and so on, and `status` of designs, in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        m = self.objectives
        Y, names = dtlz2(self.space.encode(designs), m), tuple(f"f{i}" for i in range(1, m + 1))
        return self._measured(Y, names, (0.4,) * m, self.noise, self.failures, derive(seed, "dtlz2"))


@plugin
class LimitedBranin(_Several):
    """Branin's function inside a circle, `side` at most 0: two of its three valleys lie outside."""

    noise: Noise = 0.0
    """Standard deviation of normal noise, as a share of each function's own."""
    failures: Share = 0.0
    """Share of wells that fail for technical reasons."""

    @property
    def space(self) -> DesignSpace:
        """Columns x1 and x2."""
        return _unit_cube(2)

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Compute `branin` (also as `value`), `side` and `status` of designs, in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        x = self.space.encode(designs)
        Y = np.column_stack([branin(x), side(x)])
        return self._measured(Y, ("branin", "side"), (51.0, 40.0), self.noise, self.failures, derive(seed, "limitedbranin"))


def _unit_cube(d: int) -> DesignSpace:
    return DesignSpace(parameters=tuple(Real(name=f"x{i}", low=0, high=1) for i in range(1, d + 1)))
