"""What every kind of parameter promises, and what the kinds share.

A parameter turns columns of a table into a slice of X and back: `parse` reads cells, `encode` gives (n, width) float64,
`project` moves any real matrix onto the nearest valid encoding, `decode` gives the values again. Values are codes
(n, length) for sequences, codes (n,) for choices, numbers (n,) for reals and integers, and fractions (n, k) for mixtures.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from labloop.errors import Fault
from labloop.types import Array, FloatArray


@dataclass(frozen=True)
class Block:
    """A slice of X that belongs together: `rows` one-hot positions of `classes`, or one scaled number, or a simplex."""

    kind: Literal["onehot", "unit", "simplex"]
    start: int
    stop: int
    rows: int
    classes: int
    parameter: str
    gap: bool = False
    """Whether the last class is no letter, but a place beyond a sequence's end."""

    @property
    def letters(self) -> int:
        """Classes that are letters or options."""
        return self.classes - self.gap


class ParameterBase(BaseModel):
    """What every kind of parameter shares."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    """Its column in every file."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the design table that hold this parameter."""
        return (self.name,)

    @property
    @abstractmethod
    def width(self) -> int:
        """Columns of X that hold this parameter."""

    @property
    @abstractmethod
    def size(self) -> float:
        """How many values there are; infinite for a continuous parameter."""

    @abstractmethod
    def block(self, start: int) -> Block: ...

    @abstractmethod
    def parse(self, cells: pd.DataFrame) -> tuple[Array, list[Fault]]:
        """Read cells into values; a fault for each cell that cannot be one (its row counted from 0)."""

    @abstractmethod
    def encode(self, values: Array) -> FloatArray: ...

    @abstractmethod
    def decode(self, X: FloatArray) -> Array: ...

    @abstractmethod
    def text(self, values: Array) -> list[Array]:
        """Give the canonical text of the values, one array of strings a column."""

    @abstractmethod
    def typed(self, values: Array) -> list[Array]:
        """Give the values as a person writes them in a table, one array a column."""

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Array: ...

    @abstractmethod
    def listing(self) -> Array:
        """List all values in order; only where `size` is finite."""

    @abstractmethod
    def mutate(self, values: Array, rng: np.random.Generator) -> Array:
        """Change each row by one small random step."""

    @abstractmethod
    def neighbours(self, value: Array) -> Array:
        """List every one-step change of one value (its leading axis kept at one)."""

    @property
    def described(self) -> dict[str, FloatArray]:
        """Sets of descriptors of the options or letters, (k, m) each, as `labloop.space.descriptors.placed` gives them."""
        return {}

    def without_vector(self, values: Array) -> Array:
        """Say of which values (n, …) a vector should be known and is not, (n,) bool."""
        return np.zeros(len(values), dtype=bool)

    @property
    def sites(self) -> int:
        """Independent places at which a step can happen."""
        return 1

    def project(self, X: FloatArray) -> FloatArray:
        """Move any (n, width) matrix onto the nearest valid encoding."""
        return self.encode(self.decode(X))

    def settable(self, X: FloatArray) -> FloatArray:
        """Move valid encodings (n, width) to the nearest ones that a bench can set; most parameters have no others."""
        return X


def slim(dumped: dict[str, Any], *names: str) -> dict[str, Any]:
    """Leave out what is not set: keys that came later than a ledger was written are not in its files."""
    return {key: value for key, value in dumped.items() if key not in names or value is not None}


def canonical_text(value: object) -> str:
    """The canonical text of a value: numbers with at most ten significant digits, so that 90, 90.0 and '90' are one."""
    if isinstance(value, str):
        value = value.strip()
        try:
            number = float(value)
        except ValueError:
            return value
        return f"{number + 0.0:.10g}" if math.isfinite(number) else value
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return f"{float(value) + 0.0:.10g}"
    return str(value)


def canonical_texts(numbers: Array | list[float]) -> list[str]:
    """The canonical texts of numbers (n,), as `canonical_text` has them one by one."""
    return [f"{number:.10g}" for number in (np.asarray(numbers, dtype=float) + 0.0).tolist()]
