"""Types that every room shares.

Arrays in signatures have names that tell their shape: m designs are (m, d) in X; k is a second set of designs, or the properties
of a goal. In one signature equal letters are equal lengths. `tests/test_shapes.py` checks it: where `jaxtyping` is loaded before
labloop the names are its types, else any array.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING or "jaxtyping" not in sys.modules:
    FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
    Array: TypeAlias = np.ndarray[Any, Any]
    Designs: TypeAlias = FloatArray
    Others: TypeAlias = FloatArray
    Values: TypeAlias = FloatArray
    ByProperty: TypeAlias = FloatArray
    Distances: TypeAlias = FloatArray
    Flags: TypeAlias = Array
    Rows: TypeAlias = Array
else:
    from jaxtyping import Bool, Float, Integer

    FloatArray = Array = np.ndarray
    Designs, Others = Float[np.ndarray, "m d"], Float[np.ndarray, "k d"]
    Values, ByProperty = Float[np.ndarray, "m"], Float[np.ndarray, "m k"]
    Distances = Float[np.ndarray, "m k"]
    Flags, Rows = Bool[np.ndarray, "m"], Integer[np.ndarray, "r"]
