"""How the wells of a simulated lab err: readings scatter, plates and their edges are off, wells fail.

A lab is given designs, not wells. Where their table has the columns `plate` and `well`, those are where they lie; else they are
dealt at random to as many plates of 96 wells as they fill.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from labloop.plates.wells import SHAPES, parse_well
from labloop.registry import plugin
from labloop.seeds import derive, generator
from labloop.space.design_space import DesignSpace
from labloop.types import Array, FloatArray

Share = Annotated[float, Field(ge=0, le=1)]
Noise = Annotated[float, Field(ge=0)]


@plugin
class Wells:
    """What every simulated lab can be asked for, in the unit of its values; by default its readings are exact."""

    noise: Noise = 0.0
    """Standard deviation of normal noise added to each reading, in the unit of the values."""
    failures: Share = 0.0
    """Share of wells that fail for technical reasons: their value is NaN."""
    plate_effect: Noise = 0.0
    """Standard deviation, over plates, of an offset that all wells of a plate share, in the unit of the values."""
    edge_effect: float = 0.0
    """Added to the wells at the edge of a plate (36 of 96), in the unit of the values."""

    def reported(self, values: FloatArray, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Turn true values (n,), NaN for a design that fails, into what its wells report: a table of `value` and `status`."""
        if self.plate_effect or self.edge_effect:
            plates, edge = _places(designs, generator(seed, "places"))
            offsets = self.plate_effect * generator(seed, "plates").standard_normal(plates.max(initial=0) + 1)
            values = values + offsets[plates] + self.edge_effect * edge
        return readings(values, noise=self.noise, failures=self.failures, seed=seed)


class Tabulated(Wells, ABC):
    """A lab whose designs and values can all be listed."""

    @property
    @abstractmethod
    def _table(self) -> tuple[DesignSpace, FloatArray, FloatArray]:
        """The space, the designs that have a value, X (n, d), and their values (n,)."""

    @property
    def space(self) -> DesignSpace:
        return self._table[0]

    def table(self) -> tuple[pd.DataFrame, FloatArray]:
        """Give every design of the table once, in canonical form, and its value (n,)."""
        space, X, values = self._table
        return space.decode(X), values.copy()

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Look designs up: a table of `value` and `status` (`ok`, `failed_technical`, `failed_design`) in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        return self._looked_up(self._rows_of(designs), designs, seed)

    def _looked_up(self, rows: Array, designs: pd.DataFrame, seed: int) -> pd.DataFrame:
        """Report the values of the table's rows (n,), where designs lie as their columns say."""
        values = np.where(rows < 0, np.nan, self._table[2][rows])
        return self.reported(values, designs, seed=derive(seed, "lookup"))

    def _rows_of(self, designs: pd.DataFrame) -> Array:
        """Find designs in the table, (n,); -1 where it lacks one."""
        return np.array([self._row.get(one, -1) for one in self.space.ids(self.space.encode(designs))], dtype=np.int64)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {one: i for i, one in enumerate(self.space.ids(self._table[1]))}


def readings(values: FloatArray, *, noise: float, failures: float, seed: int) -> pd.DataFrame:
    """Turn true values (n,) into what wells report: noise added, a share of wells failed; NaN stands for a design that fails."""
    rng = generator(seed, "readings")
    value = values + noise * rng.standard_normal(len(values))
    status = np.where(np.isfinite(values), "ok", "failed_design").astype(object)
    lost = (rng.random(len(values)) < failures) & (status == "ok")
    status[lost] = "failed_technical"
    return pd.DataFrame({"value": np.where(lost, np.nan, value), "status": status})


def _places(designs: pd.DataFrame, rng: np.random.Generator) -> tuple[Array, Array]:
    """Say of each design which plate it lies on, counted from 0, and whether at its edge, (n,) each."""
    if {"plate", "well"} <= set(designs.columns):
        plates = pd.factorize(designs["plate"])[0]
        where = np.array([parse_well(well) for well in designs["well"]]).reshape(-1, 2)
        shape = np.zeros_like(where)
        for plate in np.unique(plates):  # the smallest usual plate of 96 wells or more that has them all
            last = where[plates == plate].max(axis=0)
            shape[plates == plate] = next((one for n, one in SHAPES.items() if n >= 96 and (last <= one).all()), tuple(last))
        return plates, ((where == 1) | (where == shape)).any(axis=1)
    rows, columns = SHAPES[96]
    size = rows * columns
    place = rng.permutation(-(-len(designs) // size) * size)[: len(designs)]
    row, column = place % size // columns, place % columns
    return place // size, (row == 0) | (row == rows - 1) | (column == 0) | (column == columns - 1)
