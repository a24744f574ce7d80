"""What is measured and which way is better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

from labloop.types import Array, FloatArray

_FORWARD: dict[str, Callable[[Array], Array]] = {"identity": lambda v: v, "log": np.log, "log10": np.log10}
_BACK: dict[str, Callable[[Array], Array]] = {"identity": lambda y: y, "log": np.exp, "log10": lambda y: 10.0**y}


def _one(assay: Any) -> Any:
    if isinstance(assay, list | tuple | dict):
        raise ValueError("is the name of one assay; of several properties, each from an assay of its own, make `objectives`")
    return assay


class Objective(BaseModel):
    """Direction, unit and transform of the value that a campaign improves.

    A `value` is what the lab reports; `y` is what methods see: transformed, and always larger is better.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    assay: Annotated[str, BeforeValidator(_one)] = "assay"
    """Which assay's values are improved."""
    direction: Literal["max", "min"] = "max"
    """Which way is better."""
    unit: str = ""
    """The lab's unit of values."""
    transform: Literal["identity", "log", "log10"] = "identity"
    """Applied before learning; `log` suits values that spread over decades, such as a Kd."""

    @property
    def sign(self) -> int:
        return 1 if self.direction == "max" else -1

    def to_y(self, values: Array) -> FloatArray:
        """Turn measured values (n,) into y (n,), larger is better.

        Raises:
            ValueError: a log transform of values that are not positive.
        """
        values = np.asarray(values, dtype=float)
        if self.transform != "identity" and (values <= 0).any():
            raise ValueError(f"transform {self.transform} needs positive values of {self.assay}")
        return self.sign * _FORWARD[self.transform](values)

    def to_value(self, y: Array) -> FloatArray:
        """Turn y (n,) back into values (n,) in the lab's unit."""
        return _BACK[self.transform](self.sign * np.asarray(y, dtype=float))
