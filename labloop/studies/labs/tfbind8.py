"""TF Bind 8 as a lab: every DNA 8-mer and how strongly the protein SIX6 binds it, from the real table that ships with labloop.

Source of the numbers, citation and form: `data/README.md`. A value is the E-score in Design-Bench's normalised units,
(E - min) / (max - min) over the whole table: 0 is the weakest binder of all, 1 the strongest. Both strands are one design.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from labloop.proposing.dataset import Dataset
from labloop.registry import plugin
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.studies.labs.wells import Wells
from labloop.types import Array, FloatArray

SPACE = DesignSpace(parameters=(Sequence(name="dna", length=8),), symmetries=("reverse_complement",))
"""All 8-mers, the two strands as one: 32,896 designs."""

_PLACES = 4 ** np.arange(7, -1, -1)


@plugin
class TFBind8(Wells):
    """The TF Bind 8 landscape (SIX6, all DNA 8-mers) as a lab; its unit is that of the table, which spans 0 to 1."""

    @property
    def space(self) -> DesignSpace:
        return SPACE

    def table(self) -> tuple[pd.DataFrame, FloatArray]:
        """Give all 32,896 designs and their normalised scores, see the function of this name."""
        return table()

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Look 8-mers up, either strand: a table of `value` and `status` (`ok`, `failed_technical`) in the same order.

        Raises:
            DesignError: a design is not an 8-mer of A, C, G and T.
        """
        return self.reported(truth(SPACE.encode(designs)), designs, seed=derive(seed, "tfbind8"))


def truth(X: FloatArray) -> FloatArray:
    """Look up the noise-free normalised score (n,) of canonical encodings X (n, 32)."""
    codes = X.reshape(len(X), 8, 4).argmax(-1) @ _PLACES
    return _scores()[np.searchsorted(_codes(), codes)]


def table() -> tuple[pd.DataFrame, FloatArray]:
    """Give the 32,896 designs (column `dna`, one strand each) in order of their code, and their normalised scores (32896,)."""
    return _designs().copy(), _scores().copy()


@cache
def _designs() -> pd.DataFrame:
    return SPACE.decode_as_written(SPACE.listing())


def visible() -> Dataset:
    """Give the lower half, what Design-Bench shows to an offline method: the 16,449 designs that score up to the median."""
    designs, scores = table()
    low = scores <= np.median(scores)
    return Dataset.from_measurements(SPACE, designs[low], scores[low])


def design_bench_arrays() -> tuple[Array, Array]:
    """Rebuild the arrays of Design-Bench's `TFBind8-Exact-v0` bit for bit: x (65792, 8) int32 and y (65792, 1) float32.

    One strand of every design, then the other strand of every design: palindromes stand there twice.
    """
    letters = _letters(_codes())
    both = np.concatenate([letters, 3 - letters[:, ::-1]])
    return both.astype(np.int32), np.tile(_scores(), 2).astype(np.float32)[:, None]


def _letters(codes: Array) -> Array:
    return codes[:, None] // _PLACES % 4


@cache
def _codes() -> Array:
    """Base-4 codes of the canonical 8-mers, ascending, (32896,)."""
    codes = np.arange(4**8)
    other = (3 - _letters(codes)[:, ::-1]) @ _PLACES
    return codes[codes <= other]


@cache
def _scores() -> FloatArray:
    with (
        (files("labloop.studies.labs.data") / "six6_ref_r1_compact.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        e_score = arrays["e_score_x1e5"] / 1e5
    return (e_score - e_score.min()) / (e_score.max() - e_score.min())
