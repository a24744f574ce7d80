"""The dataset: every measurement so far as X, y and sem, one row a design."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from labloop.errors import DesignError
from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective
from labloop.types import Array, FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Measured designs, replicates aggregated, in the order of their `design_id`; y is always maximised.

    Shapes: X (n, d), y (n,), sem (n,), censored (n,), n_replicates (n,), pending (p, d).
    """

    space: DesignSpace
    X: FloatArray
    y: FloatArray
    sem: FloatArray
    """Standard error of each y, from the noise that all designs share; NaN where no design's readings differ: unknown noise is
    inferred, never zero."""
    censored: Array
    """-1: the truth is y or lower, +1: y or higher, 0: y itself."""
    n_replicates: Array
    ids: tuple[str, ...]
    pending: FloatArray
    """Designs in a plate that is not measured yet, or that failed by themselves; like measured ones, they are never proposed
    again."""

    @classmethod
    def from_measurements(
        cls,
        space: DesignSpace,
        designs: pd.DataFrame,
        values: Sequence[float] | Array,
        *,
        objective: Objective | None = None,
        qualifiers: Sequence[str] | None = None,
        weights: Sequence[float] | Array | None = None,
        pending: pd.DataFrame | None = None,
    ) -> Dataset:
        """Aggregate measurements, one row a well, to one row a design.

        Args:
            designs: one row a measurement, the space's columns.
            values: (m,) in the lab's unit.
            qualifiers: `=`, `<` or `>` a measurement; a censored design with an exact replicate counts as exact.
            weights: (m,) above 0; a measurement of weight w counts as w measurements, in the mean and in the standard error.
            pending: designs that are in the lab now.

        Raises:
            DesignError: a design cannot be encoded in this space.
            ValueError: a value is not finite, or lengths differ.
        """
        objective = objective or Objective()
        values = np.asarray(values, dtype=float)
        if len(values) != len(designs):
            raise ValueError(f"{len(designs)} designs but {len(values)} values")
        if not np.isfinite(values).all():
            raise ValueError("values must be finite: leave failed wells out instead")
        X, of = _encode_distinct(space, designs)
        sides = np.zeros(len(values), dtype=np.int64)
        if qualifiers is not None:
            sides = np.array([{"=": 0, "<": -1, ">": 1}[q] for q in qualifiers], dtype=np.int64) * objective.sign
        held = np.zeros((0, space.d)) if pending is None or pending.empty else space.encode(pending, strict=False)
        worth = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
        if len(worth) != len(values) or not (worth > 0).all():
            raise ValueError("weights must be one a value, each above zero: leave a measurement that counts for nothing out")
        return cls._aggregate(space, X, of, objective.to_y(values), sides, held, worth)

    @classmethod
    def _aggregate(
        cls, space: DesignSpace, X: FloatArray, of: Array, y: FloatArray, sides: Array, pending: FloatArray, worth: FloatArray
    ) -> Dataset:
        ids, first, group = np.unique(np.array(space.ids(X), dtype="U12"), return_index=True, return_inverse=True)
        group = group[of]
        n_exact = np.bincount(group, weights=(sides == 0).astype(float), minlength=len(ids))
        # A design with any exact reading is the mean of those; one with bounds only keeps the tightest bound.
        use = (sides == 0) | (n_exact[group] == 0)
        count = np.bincount(group[use], minlength=len(ids))
        total = np.bincount(group[use], weights=worth[use], minlength=len(ids))
        mean = np.bincount(group[use], weights=worth[use] * y[use], minlength=len(ids)) / np.where(count > 0, total, 1)
        censored = np.zeros(len(ids), dtype=np.int64)
        for i in np.flatnonzero(n_exact == 0):
            rows = np.flatnonzero(group == i)
            censored[i] = sides[rows[0]]
            mean[i] = y[rows].min() if censored[i] < 0 else y[rows].max()
        exact = sides == 0
        pooled = _pooled(group[exact], y[exact], worth[exact], mean)
        sem = pooled / np.sqrt(np.where(count > 0, total, 1))
        return cls(
            space=space, X=X[first], y=mean, sem=sem, censored=censored, n_replicates=count,
            ids=tuple(ids.tolist()), pending=pending,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def taken(self) -> frozenset[str]:
        """Ids of designs that must not be proposed: measured or pending."""
        return frozenset(self.ids) | frozenset(self.space.ids(self.pending))

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of everything a method can see."""
        digest = hashlib.sha256(self.space.model_dump_json().encode())
        digest.update("\n".join(self.ids).encode())
        for array in (self.y, self.sem, self.censored, self.n_replicates):
            digest.update(np.ascontiguousarray(array).astype("<f8").tobytes())
        digest.update("\n".join(sorted(self.space.ids(self.pending))).encode())
        return digest.hexdigest()[:16]

    @property
    def best(self) -> int:
        """Row of the best design by y, bounds from above aside."""
        return int(np.where(self.censored < 0, -np.inf, self.y).argmax())

    def top(self, n: int) -> Array:
        """Rows of the n best designs, best first."""
        return np.argsort(-self.y, kind="stable")[:n]

    def take(self, rows: Array) -> Dataset:
        """Keep only these rows; the rest counts neither as measured nor as pending."""
        return Dataset(
            space=self.space, X=self.X[rows], y=self.y[rows], sem=self.sem[rows], censored=self.censored[rows],
            n_replicates=self.n_replicates[rows], ids=tuple(self.ids[i] for i in np.asarray(rows).tolist()), pending=self.pending,
        )  # fmt: skip


def _pooled(group: Array, y: FloatArray, worth: FloatArray, mean: FloatArray) -> float:
    """Give the standard deviation of a reading, one for all designs: with two or three replicates a design's own is mostly noise.

    Readings of a design that are equal to the last digit may be copies of one, so that only the first of them counts: equal
    readings never tell that there is no noise.

    Args:
        mean: (designs,) of all readings, copies too.

    Returns:
        NaN where no design has readings that differ.
    """
    order = np.lexsort((y, group))
    copy = (np.diff(group[order], prepend=-1) == 0) & (np.diff(y[order], prepend=np.nan) == 0)
    if copy.any():
        kept = np.sort(order[~copy])
        group, y, worth = group[kept], y[kept], worth[kept]
        n = np.bincount(group, weights=worth, minlength=len(mean))
        mean = np.bincount(group, weights=worth * y, minlength=len(mean)) / np.where(n > 0, n, 1)
    n = np.bincount(group, minlength=len(mean))
    freedom = float((n - 1)[n > 1].sum())
    variance = (worth * (y - mean[group]) ** 2).sum() / freedom if freedom > 0 else 0.0
    return float(np.sqrt(variance)) if variance > 0 else np.nan


def _encode_distinct(space: DesignSpace, designs: pd.DataFrame) -> tuple[FloatArray, Array]:
    """Encode each distinct row once: X (k, d), and for each row of the table its row of X, (m,).

    Raises:
        DesignError: a design cannot be encoded, its row counted in the whole table.
    """
    of = np.zeros(len(designs), dtype=np.int64)
    for name in space.columns:
        if name in designs.columns:
            codes = pd.factorize(designs[name])[0]
            of = pd.factorize(of * (codes.max(initial=0) + 2) + codes)[0]
    try:
        return space.encode(designs.iloc[np.unique(of, return_index=True)[1]], strict=False), of
    except DesignError:
        space.encode(designs, strict=False)
        raise
