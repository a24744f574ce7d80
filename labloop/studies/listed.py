"""A campaign's own measurements as a lab: a space of the designs that were measured, and nothing beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from labloop.proposing.dataset import Dataset
from labloop.space.design_space import DesignSpace
from labloop.space.library import Listing
from labloop.types import Array, FloatArray


class ListedSpace(DesignSpace):
    """A space of listed designs: parameters, encoding and distance are the campaign's; no other design can be proposed."""

    table: tuple[tuple[float, ...], ...]
    """Encoded designs, canonical, one row each."""

    @classmethod
    def of(cls, space: DesignSpace, X: FloatArray) -> ListedSpace:
        """List designs X (n, d) of a space; constraints are left aside, since a lab may have measured designs that break one."""
        rows = tuple(tuple(row) for row in np.asarray(X, dtype=float).tolist())
        return cls(parameters=space.parameters, symmetries=space.symmetries, table=rows)

    @property
    def listable(self) -> bool:
        """A list is scored whole."""
        return True

    @property
    def size(self) -> float:
        return float(len(self.table))

    @cached_property
    def _listing(self) -> FloatArray:
        X = np.array(self.table, dtype=float)
        X.setflags(write=False)
        return X

    @cached_property
    def _shelf(self) -> Listing:
        return Listing(self._listing, self.distance)

    def broken(self, X: FloatArray) -> dict[str, Array]:
        """Tell which rows of valid encodings are not listed."""
        return {"is in the list": np.flatnonzero(~self.feasible(X))}


@dataclass(frozen=True, eq=False)
class MeasuredLab:
    """A lab that gives each listed design the value that the campaign measured."""

    space: ListedSpace
    value: dict[str, float]
    """By `design_id`, in the lab's unit."""

    @classmethod
    def of(cls, data: Dataset, values: FloatArray) -> MeasuredLab:
        """Make a lab of a campaign's dataset and its values (n,) in the lab's unit."""
        return cls(ListedSpace.of(data.space, data.X), dict(zip(data.ids, values.tolist(), strict=True)))

    def table(self) -> tuple[pd.DataFrame, FloatArray]:
        """Give every design once and its value (n,)."""
        X = self.space.listing()
        return self.space.decode(X), np.array([self.value[one] for one in self.space.ids(X)])

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Give what was measured; the same each time."""
        found: list[Any] = [self.value.get(one, np.nan) for one in self.space.ids(self.space.encode(designs, strict=False))]
        value = np.array(found, dtype=float)
        return pd.DataFrame({"value": value, "status": np.where(np.isfinite(value), "ok", "failed_design")})
