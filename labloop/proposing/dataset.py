"""The dataset: every measurement so far as X, y and sem, one row a design."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from labloop.errors import DesignError
from labloop.proposing.sealed import Sealed
from labloop.runtime.counts import check_count
from labloop.space.design_space import DesignSpace
from labloop.space.goal import Goal
from labloop.space.objective import Objective
from labloop.types import Array, ByProperty, Designs, FloatArray, Others, Values

SIDES = {"=": 0, "<": -1, ">": 1}
"""What a qualifier says of its value: the truth is that, below it, above it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Properties(Sealed):
    """What designs came to in each property of a goal: all (n, k), in the goal's order of columns."""

    goal: Goal
    Y: ByProperty
    """Larger is better; NaN where no assay measured the design."""
    sem: ByProperty
    censored: Array
    n_replicates: Array

    @property
    def judged(self) -> Array:
        """Which columns (k,) are of properties that a judge can learn: at least two designs are measured in them."""
        return np.isfinite(self.Y).sum(0) > 1

    @property
    def limits_judged(self) -> bool:
        """Whether all that has limits can be learned."""
        return bool(self.judged[self.goal.limited].all())

    @property
    def sure(self) -> ByProperty:
        """Y with objectives' bounds from above at the worst value of their column: how much better they are nobody knows."""
        above = (self.censored < 0) & (np.arange(self.Y.shape[1]) < self.goal.m)
        return np.where(above, np.fmin.reduce(self.Y, axis=0, initial=np.nan), self.Y)

    def take(self, rows: Array) -> Properties:
        """Keep only these rows."""
        return replace(
            self, Y=self.Y[rows], sem=self.sem[rows], censored=self.censored[rows], n_replicates=self.n_replicates[rows]
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(Sealed):
    """Measured designs, replicates aggregated, in the order of their `design_id`; y is always maximised.

    Shapes: X (n, d), y (n,), sem (n,), censored (n,), n_replicates (n,), pending (p, d), failed (f, d).

    With several `properties` y is one number of them all, see `labloop.space.goal.Goal.scalar`: what methods of one objective
    learn from. `of` gives a property's own dataset.

    Its arrays are read-only, as arms, proposers and the judge of a round are given one and the same: who changes one copies it.
    """

    space: DesignSpace
    X: Designs
    y: Values
    sem: Values
    """Standard error of each y, from the noise that all designs share; NaN where no design's readings differ: unknown noise is
    inferred, never zero."""
    censored: Array
    """-1: the truth is y or lower, +1: y or higher, 0: y itself, or the middle of bounds on both sides."""
    n_replicates: Array
    ids: tuple[str, ...]
    pending: Others
    """Designs in a plate that is not measured yet, or that failed by themselves; like measured ones, they are never proposed
    again."""
    failed: FloatArray | None = None
    """Those of `pending` that failed by themselves, in X; None where there are none."""
    properties: Properties | None = None
    history: tuple[Dataset, ...] = ()
    """What other campaigns or assays measured of designs of this space, each with a `label`; y in its own unit."""
    label: str = ""
    """What a related dataset is called."""
    column: int = 0
    """Which of a goal's properties a related dataset speaks of."""
    borrowed: frozenset[str] = frozenset()
    """Ids of designs whose y is what history lets expect: nobody has measured them here, and they may be proposed."""

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
        failed: pd.DataFrame | None = None,
    ) -> Dataset:
        """Aggregate measurements, one row a well, to one row a design.

        Args:
            designs: one row a measurement, the space's columns.
            values: (m,) in the lab's unit.
            qualifiers: `=`, `<` or `>` a measurement, joined as in `summed_up`.
            weights: (m,) above 0; a measurement of weight w counts as w measurements, in the mean and in the standard error.
            pending: designs that are in the lab now, or failed by themselves.
            failed: those of them that did.

        Raises:
            DesignError: a design cannot be encoded in this space.
            ValueError: a value is not finite, a qualifier is none, or lengths differ.
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
            told = list(qualifiers)
            if len(told) != len(values) or not set(told) <= set(SIDES):
                raise ValueError(f"qualifiers must be one a value, each of {' '.join(SIDES)}")
            sides = np.array([SIDES[one] for one in told], dtype=np.int64) * objective.sign
        held = np.zeros((0, space.d)) if pending is None or pending.empty else space.encode(pending, strict=False)
        worth = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
        if len(worth) != len(values) or not (worth > 0).all():
            raise ValueError("weights must be one a value, each above zero: leave a measurement that counts for nothing out")
        made = cls._aggregate(space, X, of, objective.to_y(values), sides, held, worth)
        return made if failed is None or failed.empty else replace(made, failed=space.encode(failed, strict=False))

    @classmethod
    def of_properties(cls, goal: Goal, parts: Sequence[Dataset], *, pending: FloatArray, failed: FloatArray) -> Dataset:
        """Join the datasets of a goal's properties, one a column, to one row a design that any of them has.

        Gaps are filled with the nearest measured design's value for `y` alone; the properties keep them.
        """
        space = parts[0].space
        found = {one: X for part in parts for one, X in zip(part.ids, part.X, strict=True)}
        ids = sorted(found)
        place = {one: i for i, one in enumerate(ids)}
        shape = (len(ids), len(parts))
        Y, sem = np.full(shape, np.nan), np.full(shape, np.nan)
        censored, count = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for j, part in enumerate(parts):
            rows = [place[one] for one in part.ids]
            Y[rows, j], sem[rows, j], censored[rows, j], count[rows, j] = part.y, part.sem, part.censored, part.n_replicates
        X = np.array([found[one] for one in ids]).reshape(len(ids), space.d)
        filled = Y.copy()
        for j, part in enumerate(parts):
            gaps = np.isnan(Y[:, j])
            if gaps.any() and len(part):
                filled[gaps, j] = part.y[space.nearest(X[gaps], part.X)[0]]
        known = ~np.isnan(filled).any(1) if len(ids) else np.zeros(0, dtype=bool)
        if not known.all():  # a property that nobody measured yet: what is known counts
            empty = np.isnan(filled).all(0)
            filled[:, empty] = 0.0
        lead = parts[0]
        single = goal.m == 1
        return cls(
            space=space, X=X, y=goal.scalar(filled, sem), sem=sem[:, 0] if single else np.full(len(ids), np.nan),
            censored=censored[:, 0] if single else np.zeros(len(ids), dtype=np.int64), n_replicates=count.max(1, initial=0),
            ids=tuple(ids), pending=pending, failed=failed if len(failed) else lead.failed,
            properties=Properties(goal=goal, Y=Y, sem=sem, censored=censored, n_replicates=count),
        )  # fmt: skip

    @classmethod
    def _aggregate(
        cls, space: DesignSpace, X: FloatArray, of: Array, y: FloatArray, sides: Array, pending: FloatArray, worth: FloatArray
    ) -> Dataset:
        ids, first, group = np.unique(np.array(space.ids(X), dtype="U12"), return_index=True, return_inverse=True)
        group = group[of]
        exact = sides == 0
        use = telling(group, exact)
        count = np.bincount(group[use], minlength=len(ids))
        total = np.bincount(group[use], weights=worth[use], minlength=len(ids))
        mean, censored = summed_up(group, y, sides, worth, len(ids))
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
        return (frozenset(self.ids) - self.borrowed) | frozenset(self.space.ids(self.pending))

    @cached_property
    def measured(self) -> FloatArray:
        """Designs that were measured here, (m, d): X, without what is borrowed."""
        return self.X[[one not in self.borrowed for one in self.ids]] if self.borrowed else self.X

    @cached_property
    def room(self) -> float:
        """How many designs of the space may still be proposed; infinite where none lists them."""
        if not self.space.listable:
            return np.inf
        held = np.concatenate([self.measured, self.pending])
        return len(self.space.listing()) - len(self.space.fresh(held[self.space.feasible(held)]))

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of everything a method can see."""
        digest = hashlib.sha256(self.space.model_dump_json().encode())
        digest.update("\n".join(self.ids).encode())
        for array in (self.y, self.sem, self.censored, self.n_replicates):
            digest.update(np.ascontiguousarray(array).astype("<f8").tobytes())
        digest.update("\n".join(sorted(self.space.ids(self.pending))).encode())
        if self.properties is not None:
            digest.update(self.properties.goal.model_dump_json().encode())
            for array in (self.properties.Y, self.properties.sem, self.properties.censored):
                digest.update(np.ascontiguousarray(array).astype("<f8").tobytes())
        if self.history or self.borrowed:
            told = [[one.label, one.column, one.fingerprint] for one in self.history]
            digest.update(json.dumps([told, sorted(self.borrowed)]).encode())
        return digest.hexdigest()[:16]

    @property
    def best(self) -> int:
        """Row of the best design by y, bounds from above aside."""
        return int(np.where(self.censored < 0, -np.inf, self.y).argmax())

    def top(self, n: int) -> Array:
        """Rows of the n best designs, best first; bounds from above come after all others, as nobody knows how good these are."""
        check_count("n of top", n, least=0, error=ValueError)
        return np.lexsort((-self.y, self.censored < 0))[:n]

    def take(self, rows: Array) -> Dataset:
        """Keep only these rows; the rest counts neither as measured nor as pending."""
        return replace(
            self, X=self.X[rows], y=self.y[rows], sem=self.sem[rows], censored=self.censored[rows],
            n_replicates=self.n_replicates[rows], ids=tuple(self.ids[i] for i in np.asarray(rows).tolist()),
            properties=None if self.properties is None else self.properties.take(rows),
        )  # fmt: skip

    def of(self, column: int) -> Dataset:
        """Give one property's own dataset: the designs that its assay measured, with y its value."""
        return self._parts[column]

    @property
    def lead(self) -> Dataset:
        """The dataset of the leading objective: this one, where there is one objective only."""
        return self if self.properties is None else self.of(0)

    @cached_property
    def kept(self) -> dict[str, bool]:
        """Whether each design keeps every limit, by id; what was not measured counts as kept."""
        good = np.ones(len(self), dtype=bool) if self.properties is None else self.properties.goal.feasible(self.properties.Y)
        return dict(zip(self.ids, good.tolist(), strict=True))

    @cached_property
    def keeping(self) -> Dataset:
        """The dataset of the leading objective, of designs that keep every limit: among these is the best so far."""
        lead = self.lead
        return lead if all(self.kept.values()) else lead.take(np.flatnonzero([self.kept[one] for one in lead.ids]))

    @cached_property
    def _parts(self) -> tuple[Dataset, ...]:
        assert self.properties is not None
        found = []
        for j in range(self.properties.Y.shape[1]):
            rows = np.flatnonzero(np.isfinite(self.properties.Y[:, j]))
            related = tuple(one for one in self.history if one.column == j)
            part = replace(self.take(rows), properties=None, history=related)
            mine = self.properties.take(rows)
            found.append(
                replace(
                    part, y=mine.Y[:, j], sem=mine.sem[:, j], censored=mine.censored[:, j], n_replicates=mine.n_replicates[:, j]
                )
            )
        return tuple(found)


def telling(design: Array, exact: Array) -> Array:
    """Say which readings (n,) tell of their designs' values, (n,): exact ones, and bounds where a design has no exact one."""
    return exact | ~np.isin(design, design[exact])  # type: ignore[no-any-return]


def summed_up(design: Array, y: FloatArray, sides: Array, worth: FloatArray, n: int) -> tuple[Values, Array]:
    """Join the readings (m,) of n designs to one value each, whatever their order is.

    A design with an exact reading has the mean of those. One with bounds only has the tightest; where they hem it in from both
    sides, the middle of the two tightest stands for it as if it were read.

    Args:
        design: the row of each reading's design.
        sides: of each reading's truth in y, as in `Dataset.censored`.
        worth: what each counts in a mean.

    Returns:
        y (n,), NaN where there is no reading, and `censored` (n,).
    """
    exact = sides == 0
    total = np.bincount(design[exact], weights=worth[exact], minlength=n)
    mean = np.bincount(design[exact], weights=worth[exact] * y[exact], minlength=n) / np.where(total > 0, total, 1)
    most, least = np.full((2, n), np.nan)
    np.fmin.at(most, design[sides < 0], y[sides < 0])
    np.fmax.at(least, design[sides > 0], y[sides > 0])
    middle = (most + least) / 2
    bound = np.where(np.isnan(middle), np.fmin(most, least), middle)
    side = np.isfinite(least).astype(np.int64) - np.isfinite(most)
    return np.where(total > 0, mean, bound), np.where(total > 0, 0, side)


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
