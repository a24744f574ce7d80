"""Parameters that are amounts: reals, integers and mixtures."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from labloop.errors import Fault
from labloop.space.parameter import Block, ParameterBase, canonical_text, canonical_texts
from labloop.types import Array, FloatArray

STEPS = 3
"""Decimals of a range that a bench can set where the lab names no steps: a thousandth of it, or a little less."""

FINEST = 1e-6
"""Steps of a mixture where the lab names none."""

NEAR = 0.05
"""Share of a step that what is written may be off: more is no rounding, but another amount."""
FINER = "a finer step takes it, or all its decimals where it was rounded"


def to_digits(values: FloatArray, digits: int) -> FloatArray:
    """Round positive numbers (n,) to one digit before the point and so many after it, to the bit as their text is read back.

    A whole number below 2**53 over a power of ten up to 10**22 is rounded once, as text is; what lies next to a tie, or beyond
    such powers, goes by way of its text.
    """
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        places = digits - np.floor(np.log10(values))
        inside = np.abs(places) <= 22
        power = 10.0 ** np.where(inside, np.abs(places), 0)
        scaled = np.where(places >= 0, values * power, values / power)
        whole = np.round(scaled)
        rounded = np.where(places >= 0, whole / power, whole * power)
        sure = inside & (np.abs(np.abs(scaled - whole) - 0.5) > 1e-4) & (whole < 2**53)
    for i in np.flatnonzero(~sure):
        rounded[i] = float(f"{values[i]:.{digits}e}")
    return rounded


class _Number(ParameterBase):
    low: float
    """Least value."""
    high: float
    """Greatest value."""

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
        off = np.flatnonzero(self._strays(values)).tolist()
        faults += [Fault(i, self.name, self._off, str(cells[self.name].iloc[i])) for i in off]
        return self._settle(values), faults

    def _fault(self, value: float) -> str | None:
        if not math.isfinite(value):
            return "is not a finite number"
        if not self.low <= value <= self.high:
            return f"is outside {canonical_text(self.low)} … {canonical_text(self.high)}"
        return None

    def _settle(self, values: FloatArray) -> FloatArray:
        """Round to what the parameter can hold, so that equal designs compare equal."""
        raise NotImplementedError

    def _strays(self, values: FloatArray) -> Array:
        """Say which numbers (n,) are farther off any that can be set than what is written may be."""
        return np.zeros(len(values), dtype=bool)

    @property
    def _off(self) -> str:
        """What is said of them."""
        raise NotImplementedError

    def encode(self, values: Array) -> FloatArray:
        return ((values - self.low) / (self.high - self.low)).reshape(-1, 1)

    def decode(self, X: FloatArray) -> Array:
        unit = np.clip(np.nan_to_num(X[:, 0], nan=0.5), 0.0, 1.0)
        return self._settle(self.low + unit * (self.high - self.low))

    def text(self, values: Array) -> list[Array]:
        return [np.array(canonical_texts(values), dtype=str)]

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return self.decode(rng.random((n, 1)))


class Real(_Number):
    """A number in a range, on a linear or logarithmic scale, on a grid where `step` is given.

    What the lab measured is kept to the digit; where `step` is given it has to lie on its grid. What labloop makes up is set on a
    bench: it comes in steps of `step` or of `decimals`, else of about a thousandth of the range (three decimals of it, or so many
    digits on a logarithmic scale).
    """

    type: Literal["real"] = "real"
    step: float | None = Field(default=None, gt=0)
    """Distance of the values that can be set, from `low` on."""
    scale: Literal["linear", "log"] = "linear"
    """On which of them values are even."""
    decimals: int | None = Field(default=None, ge=0, le=15)
    """Decimals at which two values are one, on a linear scale without step; ten digits of the range where left out."""

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `decimals` out where nobody set it: a space of an older labloop keeps its text, and so its fingerprints."""
        return {name: value for name, value in handler(self).items() if name != "decimals" or value is not None}

    def _strays(self, values: FloatArray) -> Array:
        if self.step is None:
            return super()._strays(values)
        return np.abs(self._gridded(values, self.step) - values) > max(NEAR * self.step, 0.501 * 10.0**-self.places)

    @property
    def _off(self) -> str:
        return f"is not {canonical_text(self.low)} plus steps of {canonical_text(self.step)} ({FINER})"

    @property
    def places(self) -> int:
        """Decimals that values are rounded to."""
        return 9 - math.floor(math.log10(self.high - self.low)) if self.decimals is None else self.decimals

    @model_validator(mode="after")
    def _scale_fits(self) -> Self:
        if self.scale == "log" and (self.low <= 0 or self.step is not None):
            raise ValueError(f"{self.name!r}: a log scale needs low > 0 and no step")
        return self

    @property
    def size(self) -> float:
        return math.inf if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def _gridded(self, values: FloatArray, step: float) -> FloatArray:
        return self.low + np.clip(np.round((values - self.low) / step), 0, self.size - 1) * step  # type: ignore[no-any-return]

    def _settle(self, values: FloatArray) -> FloatArray:
        if self.step is not None:
            values = self._gridded(values, self.step)
        if self.scale == "log":
            return np.clip(to_digits(values, 8), self.low, self.high)
        return np.clip(np.round(values, self.places), self.low, self.high)

    def _set(self, values: FloatArray) -> FloatArray:
        """Round to what a bench can set."""
        if self.step is not None or (self.decimals is not None and self.scale == "linear"):
            return values
        if self.scale == "linear":
            return self._settle(np.round(values, STEPS - math.floor(math.log10(self.high - self.low))))
        digits = max(0, round(STEPS - math.log10(math.log(self.high / self.low))))
        return self._settle(to_digits(values, digits))

    def project(self, X: FloatArray) -> FloatArray:
        """Leave valid encodings as they are; move all else to the nearest one that a bench can set."""
        valid = self.encode(self.decode(X))
        return np.where(valid == X, valid, self.settable(X))

    def settable(self, X: FloatArray) -> FloatArray:
        return self.encode(self._set(self.decode(X)))

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return self._set(super().sample(n, rng))

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
        return self._settle(np.asarray(self.low + np.arange(int(self.size)) * (self.step or 0.0), dtype=np.float64))

    def mutate(self, values: Array, rng: np.random.Generator) -> Array:
        unit = self.encode(values)
        width = 0.1 if self.step is None else max(0.1, 1.0 / max(self.size - 1, 1))
        moved = np.abs(1.0 - np.abs(1.0 - (unit + rng.normal(0.0, width, unit.shape))))  # reflected at the ends
        return self._set(self.decode(moved))

    def neighbours(self, value: Array) -> Array:
        unit = self.encode(value)[0, 0]
        width = 0.1 if self.step is None else 1.0 / max(self.size - 1, 1)
        near = self._set(self.decode(np.array([[unit - width], [unit + width]])))
        return near[near != value[0]]


class Integer(_Number):
    """A whole number in a range."""

    type: Literal["integer"] = "integer"
    low: Annotated[int, Field(ge=-(2**53), le=2**53)]  # type: ignore[assignment]
    """Least value."""
    high: Annotated[int, Field(ge=-(2**53), le=2**53)]  # type: ignore[assignment]
    """Greatest value."""

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


class Mixture(ParameterBase):
    """Fractions of several components that sum to one, in steps of `step`.

    What was measured has to be in them. Where the lab names none, it is kept in steps of 1e-6, and what labloop makes up comes in
    thousandths.
    """

    type: Literal["mixture"] = "mixture"
    components: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=2)
    """Columns of the fractions."""
    step: float = Field(default=FINEST, ge=1e-9, le=0.5)
    """The least change of a fraction."""

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        if len(set(self.components)) != len(self.components):
            raise ValueError(f"components of {self.name!r} must be distinct: {self.components}")
        if abs(self._parts * self.step - 1) > 1e-9:
            raise ValueError(f"step {self.step} of {self.name!r} must divide one, as {1 / self._parts:.10g} does")
        return self

    @cached_property
    def _parts(self) -> int:
        return round(1 / self.step)

    @cached_property
    def _bench(self) -> Mixture:
        """The same mixture in steps that a bench can set."""
        return self if self.step != FINEST else Mixture(name=self.name, components=self.components, step=10.0**-STEPS)

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
        bad = {fault.row for fault in faults}
        steps = np.nan_to_num(raw, posinf=0.0, neginf=0.0) / self.step
        faults += [
            Fault(int(i), self.components[j], f"is not in steps of {canonical_text(self.step)} ({FINER})", str(raw[i, j]))
            for i, j in np.argwhere((np.abs(steps - np.round(steps)) > NEAR) & (self.step != FINEST))
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

    def project(self, X: FloatArray) -> FloatArray:
        """Leave valid encodings as they are; move all else to the nearest one that a bench can set."""
        valid = self.decode(X)
        return np.where((valid == X).all(1, keepdims=True), valid, self.settable(X))

    def settable(self, X: FloatArray) -> FloatArray:
        return self._bench.decode(X)

    def text(self, values: Array) -> list[Array]:
        return [np.array(canonical_texts([round(value, 6) for value in column])) for column in values.T.tolist()]

    def typed(self, values: Array) -> list[Array]:
        return list(np.round(values, 6).T)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return self._bench.decode(rng.dirichlet(np.ones(self.width), size=n))

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
        return self._bench.decode(moved)

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
        return self._bench.decode(np.array(moves))
