"""One vector a sequence, such as an embedding of a protein language model: what is known of a design besides its letters.

A file has a vector of hundreds of numbers for each design. Models ask how alike two designs are, so their principal coordinates
are kept: `MOST` at most, in float32, with the campaign, which needs the file once.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from labloop.seeds import generator
from labloop.space.parameter import Block
from labloop.types import Array, FloatArray

MOST = 32
"""Principal coordinates that are kept at most."""
ENOUGH = 0.99
"""Share of the variance with which fewer are enough."""
CELLS = 2**24
"""Numbers that are kept at most: half a million designs of 32."""
ROWS = 8_192
"""Rows that are worked on at once."""


class Vectors(BaseModel):
    """Principal coordinates of vectors, one row a design."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    """Where they were read, for people."""
    columns: int = Field(ge=1)
    """Numbers that each vector had there."""
    kept: float = Field(ge=0, le=1)
    """Share of their variance (each number standardised) that the coordinates keep."""
    designs: tuple[str, ...] = Field(min_length=2)
    """What each is a vector of: the sequence, or the name of a mutant."""
    places: str
    """The coordinates, row after row: float32, least byte first, in base64. Squared distances of two rows have a mean of one."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        numbers = self.places_of_all
        if not np.isfinite(numbers).all():
            raise ValueError(f"{self.file}: coordinates must be finite numbers")
        return self

    @classmethod
    def of(cls, designs: Sequence[str], values: Array, file: str) -> Self:
        """Reduce vectors (n, columns), one a design, to principal coordinates.

        Raises:
            ValueError: there are fewer than two, or all are alike.
        """
        if len(designs) < 2:
            raise ValueError(f"{file} has {len(designs)} vectors: two at least are needed to tell designs apart")
        places, kept = principal(values)
        if not places.shape[1]:
            raise ValueError(f"{file}: all vectors are alike, and tell no design from another")
        if places.size > CELLS:
            raise ValueError(
                f"{file} has {len(designs):,} vectors, at most {CELLS // places.shape[1]:,} are kept: leave some out"
            )
        text = base64.b64encode(places.astype("<f4").tobytes()).decode()
        return cls(file=file, columns=values.shape[1], kept=round(kept, 4), designs=tuple(designs), places=text)

    @cached_property
    def places_of_all(self) -> FloatArray:
        """The coordinates (n, m), float64, in the order of `designs`."""
        flat = np.frombuffer(base64.b64decode(self.places), dtype="<f4")
        if not len(flat) or len(flat) % len(self.designs):
            raise ValueError(f"{self.file}: {len(flat)} coordinates are not as many for each of {len(self.designs)} designs")
        return flat.reshape(len(self.designs), -1).astype(float)

    @property
    def sentence(self) -> str:
        """Say what they are."""
        m = self.places_of_all.shape[1]
        return (
            f"{len(self.designs):,} vectors of {self.columns:,} numbers ({self.file}), {m} principal coordinates with "
            f"{self.kept:.0%} of their variance"
        )

    def __eq__(self, other: object) -> bool:  # pydantic's own would compare what is cached, arrays too
        return isinstance(other, Vectors) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.file, self.designs, self.places))


def principal(values: Array) -> tuple[FloatArray, float]:
    """Give principal coordinates (n, m) of rows (n, k), each column standardised first, and the share of variance that they keep.

    Scaled so that two rows are at a squared distance of one on average.
    """
    n = len(values)
    values = values / np.maximum(np.abs(values).max(0), 1e-300)  # the square of a huge number is none
    mean = values.mean(0, dtype=float)
    spread = values.std(0, dtype=float)
    varied = np.flatnonzero(spread > 1e-9 * np.maximum(1.0, np.abs(mean)))
    if not len(varied):
        return np.zeros((n, 0)), 0.0

    def standardised(start: int) -> FloatArray:
        part: FloatArray = (values[start : start + ROWS][:, varied] - mean[varied]) / spread[varied]
        return part

    starts = range(0, n, ROWS)
    if n <= len(varied):  # the same coordinates from the rows' inner products, where these are fewer
        Z = np.concatenate([standardised(start) for start in starts])
        spectrum, vectors = np.linalg.eigh(Z @ Z.T / n)
        axes = Z.T @ vectors / np.sqrt(np.maximum(spectrum, 1e-300) * n)
    else:
        covariance = np.zeros((len(varied), len(varied)))
        for start in starts:
            part = standardised(start)
            covariance += part.T @ part / n
        spectrum, axes = np.linalg.eigh(covariance)
    spectrum, axes = np.maximum(spectrum[::-1], 0.0), axes[:, ::-1]
    share = np.cumsum(spectrum) / spectrum.sum()
    m = min(MOST, int((share < ENOUGH).sum()) + 1, int((spectrum > 1e-9 * spectrum[0]).sum()))
    signs = np.sign(axes[np.abs(axes[:, :m]).argmax(0), np.arange(m)])
    found = np.concatenate([standardised(start) @ (axes[:, :m] * signs) for start in starts])
    return found / np.sqrt(2 * spectrum[:m].sum() * n / (n - 1)), float(share[m - 1])


@dataclass(frozen=True, eq=False)
class Embedded:
    """Vectors of the values of one sequence parameter, found again by its columns of X."""

    name: str
    block: Block
    keys: Array
    """(N,) int64, ascending: what `hashed` makes of the codes of each known value."""
    places: FloatArray
    """(N, m) coordinates, in the order of `keys`."""

    def rows(self, X: FloatArray) -> Array:
        """Find the row of each design of X (…, d), soft ones by their likeliest letters; -1 where there is no vector, (…)."""
        b = self.block
        return found(self.keys, X[..., b.start : b.stop].reshape(*X.shape[:-1], b.rows, b.classes).argmax(-1))

    def of(self, X: FloatArray) -> FloatArray:
        """Give coordinates (…, m) of X (…, d): zeros, the mean, where there is no vector."""
        rows = self.rows(X)
        out: FloatArray = np.where(rows[..., None] >= 0, self.places[rows], 0.0)
        return out


def weights(length: int) -> Array:
    """One odd 64-bit number a place, by which codes become keys."""
    drawn = generator(0, "vectors").integers(-(2**62), 2**62, size=length, dtype=np.int64)
    return 2 * drawn + 1


def hashed(codes: Array) -> Array:
    """Make keys (…) int64 of codes (…, length): sums that wrap around, in which two differing sequences hardly ever meet."""
    with np.errstate(over="ignore"):
        mixed: Array = ((codes.astype(np.int64) + 1) * weights(codes.shape[-1])).sum(-1)
    return mixed


def found(keys: Array, codes: Array) -> Array:
    """Give the places of codes (…, length) among ascending keys (N,); -1 where they are not there."""
    wanted = hashed(codes)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    out: Array = np.where(keys[at] == wanted, at, -1)
    return out


def embedded(name: str, block: Block, codes: Array, places: FloatArray) -> Embedded:
    """Order vectors (n, m) of codes (n, length) by their keys; of a value that stands there twice the first counts."""
    keys, first = np.unique(hashed(codes), return_index=True)
    return Embedded(name, block, keys, places[first])


def summary(dumped: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a parameter's plain values what only a machine reads."""
    told = dumped.get("descriptors")
    if not isinstance(told, Mapping) or "places" not in told:
        return dict(dumped)
    short = {key: value for key, value in told.items() if key not in ("places", "designs")}
    return {**dumped, "descriptors": {**short, "vectors": len(told["designs"])}}
