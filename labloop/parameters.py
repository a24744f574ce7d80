"""The kinds of parameter a design can have, each with its own encoding.

A parameter turns columns of a table into a slice of X and back: `parse` reads cells, `encode` gives (n, width) float64,
`project` moves any real matrix onto the nearest valid encoding, `decode` gives the values again. Values are codes
(n, length) for sequences, codes (n,) for choices, numbers (n,) for reals and integers, and fractions (n, k) for mixtures.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from labloop.errors import Fault

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Array = np.ndarray[Any, Any]

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


@dataclass(frozen=True)
class Block:
    """A slice of X that belongs together: `rows` one-hot positions of `classes`, or one scaled number, or a simplex."""

    kind: Literal["onehot", "unit", "simplex"]
    start: int
    stop: int
    rows: int
    classes: int
    parameter: str


class _Parameter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)

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
    def sites(self) -> int:
        """Independent places at which a step can happen."""
        return 1

    def project(self, X: FloatArray) -> FloatArray:
        """Move any (n, width) matrix onto the nearest valid encoding."""
        return self.encode(self.decode(X))


class Sequence(_Parameter):
    """A string of fixed length over an alphabet: DNA, RNA, protein, or any letters."""

    type: Literal["sequence"] = "sequence"
    length: int = Field(ge=1)
    alphabet: str = "ACGT"

    @model_validator(mode="after")
    def _distinct_letters(self) -> Self:
        if len(set(self.alphabet)) != len(self.alphabet) or len(self.alphabet) < 2:
            raise ValueError(f"alphabet {self.alphabet!r} of {self.name!r} needs at least two letters, each once")
        return self

    @property
    def width(self) -> int:
        return self.length * len(self.alphabet)

    @property
    def size(self) -> float:
        return float(len(self.alphabet)) ** self.length

    @property
    def sites(self) -> int:
        return self.length

    @property
    def complement(self) -> Array | None:
        """For each letter the code of its Watson-Crick partner; None where the alphabet is not DNA."""
        if set(self.alphabet) != set(COMPLEMENT):
            return None
        return np.array([self.alphabet.index(COMPLEMENT[letter]) for letter in self.alphabet])

    def block(self, start: int) -> Block:
        return Block("onehot", start, start + self.width, self.length, len(self.alphabet), self.name)

    def parse(self, cells: pd.DataFrame) -> tuple[Array, list[Fault]]:
        codes = np.zeros((len(cells), self.length), dtype=np.int64)
        faults = []
        lookup = np.full(256, -1)
        lookup[[ord(letter) for letter in self.alphabet]] = np.arange(len(self.alphabet))
        fold = self.alphabet == self.alphabet.upper()
        for i, cell in enumerate(cells[self.name].tolist()):
            letters = "".join(str(cell).split())
            letters = letters.upper() if fold else letters
            if len(letters) != self.length:
                rule = f"length {len(letters)} is not {self.length}"
                faults.append(Fault(i, self.name, rule, str(cell)))
                continue
            row = lookup[np.minimum(np.frombuffer(letters.encode("utf-32-le"), dtype=np.uint32), 255)]
            if (row < 0).any():
                strange = "".join(sorted({letters[j] for j in np.flatnonzero(row < 0)}))
                faults.append(Fault(i, self.name, f"letters {strange!r} are not in the alphabet {self.alphabet}", str(cell)))
                continue
            codes[i] = row
        return codes, faults

    def encode(self, values: Array) -> FloatArray:
        return np.eye(len(self.alphabet))[values].reshape(len(values), -1)

    def decode(self, X: FloatArray) -> Array:
        return X.reshape(len(X), self.length, len(self.alphabet)).argmax(-1)

    def text(self, values: Array) -> list[Array]:
        letters = np.array(list(self.alphabet), dtype="U1")[values]
        return [np.ascontiguousarray(letters).view(f"U{self.length}").reshape(-1)]

    def typed(self, values: Array) -> list[Array]:
        return [self.text(values)[0].astype(object)]

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return rng.integers(len(self.alphabet), size=(n, self.length))

    def listing(self) -> Array:
        k = len(self.alphabet)
        codes = np.arange(k**self.length)
        return codes[:, None] // k ** np.arange(self.length - 1, -1, -1) % k

    def mutate(self, values: Array, rng: np.random.Generator) -> Array:
        k, n = len(self.alphabet), len(values)
        changed = values.copy()
        place = rng.integers(self.length, size=n)
        changed[np.arange(n), place] = (changed[np.arange(n), place] + rng.integers(1, k, size=n)) % k
        return changed

    def neighbours(self, value: Array) -> Array:
        k = len(self.alphabet)
        out = np.repeat(value, self.length * (k - 1), axis=0)
        place = np.repeat(np.arange(self.length), k - 1)
        shift = np.tile(np.arange(1, k), self.length)
        out[np.arange(len(out)), place] = (out[np.arange(len(out)), place] + shift) % k
        return out


class Choice(_Parameter):
    """One of several options without order: a solvent, a ligand, a plasmid."""

    type: Literal["choice"] = "choice"
    options: tuple[str | int | float, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _distinct_options(self) -> Self:
        if len(set(self._texts)) != len(self.options):
            raise ValueError(f"options of {self.name!r} must be distinct: {self.options}")
        return self

    @property
    def _texts(self) -> list[str]:
        return [_text(option) for option in self.options]

    @property
    def width(self) -> int:
        return len(self.options)

    @property
    def size(self) -> float:
        return float(len(self.options))

    def block(self, start: int) -> Block:
        return Block("onehot", start, start + self.width, 1, len(self.options), self.name)

    def parse(self, cells: pd.DataFrame) -> tuple[Array, list[Fault]]:
        lookup = {text: code for code, text in enumerate(self._texts)}
        codes = np.zeros(len(cells), dtype=np.int64)
        faults = []
        for i, cell in enumerate(cells[self.name].tolist()):
            code = lookup.get(_text(cell))
            if code is None:
                shown = ", ".join(self._texts[:6]) + (", …" if len(self.options) > 6 else "")
                faults.append(Fault(i, self.name, f"is none of the options ({shown})", str(cell)))
            else:
                codes[i] = code
        return codes, faults

    def encode(self, values: Array) -> FloatArray:
        return np.eye(len(self.options))[values]

    def decode(self, X: FloatArray) -> Array:
        return X.argmax(-1)

    def text(self, values: Array) -> list[Array]:
        return [np.array(self._texts)[values]]

    def typed(self, values: Array) -> list[Array]:
        options = np.empty(len(self.options), dtype=object)
        options[:] = self.options
        return [options[values]]

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return rng.integers(len(self.options), size=n)

    def listing(self) -> Array:
        return np.arange(len(self.options))

    def mutate(self, values: Array, rng: np.random.Generator) -> Array:
        k = len(self.options)
        return (values + rng.integers(1, k, size=len(values))) % k

    def neighbours(self, value: Array) -> Array:
        k = len(self.options)
        return (value + np.arange(1, k)) % k


class _Number(_Parameter):
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"range of {self.name!r} must be finite with low < high, not {self.low} … {self.high}")
        return self

    @property
    def width(self) -> int:
        return 1

    def block(self, start: int) -> Block:
        return Block("unit", start, start + 1, 1, 1, self.name)

    def parse(self, cells: pd.DataFrame) -> tuple[Array, list[Fault]]:
        values = np.full(len(cells), self.low)
        faults = []
        for i, cell in enumerate(cells[self.name].tolist()):
            try:
                value = float(cell)
            except (TypeError, ValueError):
                value = math.nan
            rule = self._fault(value)
            if rule:
                faults.append(Fault(i, self.name, rule, str(cell)))
            else:
                values[i] = value
        return self._settle(values), faults

    def _fault(self, value: float) -> str | None:
        if not math.isfinite(value):
            return "is not a finite number"
        if not self.low <= value <= self.high:
            return f"is outside {_text(self.low)} … {_text(self.high)}"
        return None

    def _settle(self, values: FloatArray) -> FloatArray:
        """Round to what the parameter can hold, so that equal designs compare equal."""
        raise NotImplementedError

    def encode(self, values: Array) -> FloatArray:
        return ((values - self.low) / (self.high - self.low)).reshape(-1, 1)

    def decode(self, X: FloatArray) -> Array:
        unit = np.clip(np.nan_to_num(X[:, 0], nan=0.5), 0.0, 1.0)
        return self._settle(self.low + unit * (self.high - self.low))

    def text(self, values: Array) -> list[Array]:
        return [np.array([_text(value) for value in values.tolist()], dtype=str)]

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return self.decode(rng.random((n, 1)))


class Real(_Number):
    """A number in a range, on a linear or logarithmic scale, on a grid where `step` is given."""

    type: Literal["real"] = "real"
    step: float | None = Field(default=None, gt=0)
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _scale_fits(self) -> Self:
        if self.scale == "log" and (self.low <= 0 or self.step is not None):
            raise ValueError(f"{self.name!r}: a log scale needs low > 0 and no step")
        return self

    @property
    def size(self) -> float:
        return math.inf if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def _settle(self, values: FloatArray) -> FloatArray:
        if self.step is not None:
            grid = np.clip(np.round((values - self.low) / self.step), 0, self.size - 1)
            values = self.low + grid * self.step
        if self.scale == "log":
            return np.clip(np.array([float(f"{value:.8e}") for value in values.tolist()]), self.low, self.high)
        decimals = 9 - math.floor(math.log10(self.high - self.low))
        return np.clip(np.round(values, decimals), self.low, self.high)

    def encode(self, values: Array) -> FloatArray:
        if self.scale == "log":
            return (np.log(values / self.low) / math.log(self.high / self.low)).reshape(-1, 1)
        return super().encode(values)

    def decode(self, X: FloatArray) -> Array:
        if self.scale == "log":
            unit = np.clip(np.nan_to_num(X[:, 0], nan=0.5), 0.0, 1.0)
            return self._settle(np.asarray(self.low * (self.high / self.low) ** unit, dtype=np.float64))
        return super().decode(X)

    def typed(self, values: Array) -> list[Array]:
        return [values.astype(float)]

    def listing(self) -> Array:
        return self._settle(self.low + np.arange(int(self.size)) * (self.step or 0.0))

    def mutate(self, values: Array, rng: np.random.Generator) -> Array:
        unit = self.encode(values)
        width = 0.1 if self.step is None else max(0.1, 1.0 / max(self.size - 1, 1))
        return self.decode(np.abs(1.0 - np.abs(1.0 - (unit + rng.normal(0.0, width, unit.shape)))))  # reflected at the ends

    def neighbours(self, value: Array) -> Array:
        unit = self.encode(value)[0, 0]
        width = 0.1 if self.step is None else 1.0 / max(self.size - 1, 1)
        near = self.decode(np.array([[unit - width], [unit + width]]))
        return near[near != value[0]]


class Integer(_Number):
    """A whole number in a range."""

    type: Literal["integer"] = "integer"
    low: int  # type: ignore[assignment]
    high: int  # type: ignore[assignment]

    @property
    def size(self) -> float:
        return float(self.high - self.low + 1)

    def _fault(self, value: float) -> str | None:
        return super()._fault(value) or (None if value == round(value) else "is not a whole number")

    def _settle(self, values: FloatArray) -> FloatArray:
        return np.clip(np.round(values), self.low, self.high)

    def typed(self, values: Array) -> list[Array]:
        return [values.astype(np.int64)]

    def listing(self) -> Array:
        return np.arange(self.low, self.high + 1, dtype=float)

    def mutate(self, values: Array, rng: np.random.Generator) -> Array:
        reach = max(1, round((self.high - self.low) * 0.1))
        move = rng.integers(1, reach + 1, size=len(values)) * rng.choice([-1, 1], size=len(values))
        moved = values + move
        return np.where((moved < self.low) | (moved > self.high), np.clip(values - move, self.low, self.high), moved)

    def neighbours(self, value: Array) -> Array:
        near = np.array([value[0] - 1, value[0] + 1])
        return near[(near >= self.low) & (near <= self.high)]


class Mixture(_Parameter):
    """Fractions of several components that sum to one, in steps of `step` (1e-6 where the lab names none)."""

    type: Literal["mixture"] = "mixture"
    components: tuple[str, ...] = Field(min_length=2)
    step: float = Field(default=1e-6, gt=0, le=0.5)

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        if len(set(self.components)) != len(self.components):
            raise ValueError(f"components of {self.name!r} must be distinct: {self.components}")
        if abs(self._parts * self.step - 1) > 1e-9:
            raise ValueError(f"step {self.step} of {self.name!r} must divide one, such as 0.1 or 0.05")
        return self

    @cached_property
    def _parts(self) -> int:
        return round(1 / self.step)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.components

    @property
    def width(self) -> int:
        return len(self.components)

    @property
    def size(self) -> float:
        if self.step < 1e-3:
            return math.inf
        return float(math.comb(self._parts + self.width - 1, self.width - 1))

    def block(self, start: int) -> Block:
        return Block("simplex", start, start + self.width, 1, self.width, self.name)

    def parse(self, cells: pd.DataFrame) -> tuple[Array, list[Fault]]:
        raw = cells[list(self.components)].apply(pd.to_numeric, errors="coerce").to_numpy(float)
        faults = []
        for i, j in np.argwhere(~np.isfinite(raw)):
            rule = "is not a finite number"
            faults.append(Fault(int(i), self.components[j], rule, str(cells[self.components[j]].iloc[i])))
        for i, j in np.argwhere(np.isfinite(raw) & ((raw < 0) | (raw > 1))):
            faults.append(Fault(int(i), self.components[j], "is not a fraction from 0 to 1", str(raw[i, j])))
        bad = {fault.row for fault in faults}
        off = np.abs(raw.sum(1) - 1) > 1e-3
        faults += [
            Fault(int(i), self.name, f"{' + '.join(self.components)} is {raw[i].sum():.6g}, not 1", str(raw[i].tolist()))
            for i in np.flatnonzero(off)
            if int(i) not in bad
        ]
        return self.decode(np.nan_to_num(raw, nan=0.0, posinf=0.0, neginf=0.0)), faults

    def encode(self, values: Array) -> FloatArray:
        return values.astype(float)

    def decode(self, X: FloatArray) -> Array:
        """Project onto the simplex (Duchi et al., ICML 2008), then round to the grid by largest remainder."""
        X = np.clip(np.nan_to_num(X, nan=0.0), -1e6, 1e6)
        ordered = -np.sort(-X, axis=1)
        excess = (np.cumsum(ordered, axis=1) - 1) / np.arange(1, self.width + 1)
        last = self.width - 1 - (ordered > excess)[:, ::-1].argmax(1)
        fractions = np.maximum(X - np.take_along_axis(excess, last[:, None], 1), 0)
        parts = fractions / fractions.sum(1, keepdims=True) * self._parts
        floor = np.floor(parts + 1e-6)
        short = np.round(self._parts - floor.sum(1)).astype(int)
        order = np.argsort(-(parts - floor), axis=1, kind="stable")
        bonus = np.zeros_like(parts)
        np.put_along_axis(bonus, order, (np.arange(self.width) < short[:, None]).astype(float), 1)
        return (floor + bonus) / self._parts

    def text(self, values: Array) -> list[Array]:
        return [np.array([_text(round(value, 6)) for value in column]) for column in values.T.tolist()]

    def typed(self, values: Array) -> list[Array]:
        return list(np.round(values, 6).T)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return self.decode(rng.dirichlet(np.ones(self.width), size=n))

    def listing(self) -> Array:
        """All compositions, in lexicographic order."""
        rows = np.zeros((1, 0), dtype=np.int64)
        for _ in range(self.width - 1):
            left = self._parts - rows.sum(1)
            repeats = left + 1
            offsets = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
            rows = np.column_stack([np.repeat(rows, repeats, axis=0), offsets])
        return np.column_stack([rows, self._parts - rows.sum(1)]) / self._parts

    def mutate(self, values: Array, rng: np.random.Generator) -> Array:
        n = len(values)
        giver = (rng.random(values.shape) * (values > 0)).argmax(1)
        taker = (giver + rng.integers(1, self.width, size=n)) % self.width
        largest = values[np.arange(n), giver]
        amount = np.minimum(np.maximum(rng.random(n) * 0.2, self.step), largest)
        moved = values.copy()
        moved[np.arange(n), giver] -= amount
        moved[np.arange(n), taker] += amount
        return self.decode(moved)

    def neighbours(self, value: Array) -> Array:
        amount = max(self.step, 0.1) if self.step < 1e-3 else self.step
        moves = []
        for giver in range(self.width):
            for taker in range(self.width):
                if giver != taker and value[0, giver] > 0:
                    moved = value[0].copy()
                    shift = min(amount, moved[giver])
                    moved[giver] -= shift
                    moved[taker] += shift
                    moves.append(moved)
        return self.decode(np.array(moves))


Parameter = Annotated[Sequence | Real | Integer | Choice | Mixture, Field(discriminator="type")]


def _text(value: object) -> str:
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
