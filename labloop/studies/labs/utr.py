"""5' untranslated regions as a lab: how many ribosomes a messenger RNA carries, by a model fitted to 280,000 measured ones.

The measurements: mean ribosome load of a reporter in human cells, for regions of 50 random letters (P. J. Sample et al., "Human
5′ UTR design and variant effect prediction from a massively parallel translation assay", Nature Biotechnology 37, 2019; GEO
GSE114002), as Design-Bench holds them. All other of the 4^50 regions have no value, so the lab answers by a convolutional network
that ships with labloop; how it was fitted and how well it does: `data/README.md` and `examples/benchmarks/utr_lab.py`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from labloop.registry import plugin
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.studies.labs.wells import Wells
from labloop.types import Array, FloatArray

SPACE = DesignSpace(parameters=(Sequence(name="utr", length=50),))
TOP = 12.0
"""Largest mean ribosome load that there can be in the data."""


@plugin
class UTR(Wells):
    """Mean ribosome load of a 5' untranslated region of 50 letters, as a model of 280,000 measured ones predicts it."""

    @property
    def space(self) -> DesignSpace:
        return SPACE

    def bounds(self) -> tuple[float, float]:
        """Give the least and the largest prediction for the measured regions; designs may lie outside."""
        low, high = _weights()["bounds"].tolist()
        return low, high

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Predict regions: a table of `value` and `status` (`ok`, `failed_technical`) in the same order.

        Raises:
            DesignError: a design is not 50 letters of A, C, G and T.
        """
        return self.reported(predict(SPACE.encode(designs)), designs, seed=derive(seed, "utr"))


def predict(X: FloatArray, *, chunk: int = 1000) -> FloatArray:
    """Predict the mean ribosome load (n,) of one-hot regions X (n, 200)."""
    parts = [_forward(X[i : i + chunk].reshape(-1, 50, 4).astype(np.float32)) for i in range(0, len(X), chunk)]
    return np.concatenate([*parts, np.zeros(0)])


def _forward(x: Array) -> FloatArray:
    w = _weights()
    x = _convolve(x, w["filters_1"], w["bias_1"])
    x = _convolve(x, w["filters_2"], w["bias_2"])
    x = np.maximum(0, x.reshape(len(x), -1) @ w["dense"] + w["bias_3"])
    return TOP / (1 + np.exp(-(x @ w["head"] + w["bias_4"]).astype(float)))  # type: ignore[no-any-return]


def _convolve(x: Array, filters: Array, bias: Array) -> Array:
    """Convolve x (n, places, channels) with filters (width, channels, m), ends padded with zeros, and keep what is positive."""
    half = len(filters) // 2
    padded = np.pad(x, ((0, 0), (half, half), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(filters), axis=1)  # (n, places, channels, width)
    return np.maximum(0, np.tensordot(windows, filters, axes=([3, 2], [0, 1])) + bias)  # type: ignore[no-any-return]


@cache
def _weights() -> dict[str, Array]:
    with (files("labloop.studies.labs.data") / "utr_model.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: array.astype(np.float32) for name, array in arrays.items()}
