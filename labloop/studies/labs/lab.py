"""The seam of whatever measures."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pandas as pd

from labloop.space.design_space import DesignSpace


@runtime_checkable
class Lab(Protocol):
    """Whatever measures: a simulated lab here, people and machines otherwise."""

    @property
    def space(self) -> DesignSpace: ...

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Measure designs: a table of the same length and order with `value` (n,), NaN where a well failed, and `status`."""
        ...
