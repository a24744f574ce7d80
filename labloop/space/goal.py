"""A goal of several properties: which are improved, which only have limits, and what a set of their values is worth.

Values are the lab's, one column a property; `Y` is what methods see: transformed, larger is better, NaN where an assay did not
measure a design.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import ndtr

from labloop.space.objective import Objective
from labloop.space.pareto import beyond, nondominated
from labloop.types import Array, FloatArray

MARGIN = 0.1
"""Where no threshold is given, it lies below the worst of the front by this share of the front's extent."""
BLUR = 0.1
"""A limit is as sharp as the reading's standard error, or this share of the property's spread."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Target(Objective):
    """One of several properties to improve."""

    assay: str = ""
    """Which assay measures it; one of its own name where left out."""
    column: str | None = None
    """Its column in the lab's file, where that is not its name."""
    weight: Positive = 1.0
    """How much it matters among compromises: only ratios count."""
    threshold: Finite | None = None
    """The worst value worth having, in the lab's unit: the hypervolume's reference point. Taken from the data if left out."""
    required: bool = True
    """Whether a round waits for it in every well; false for an assay that measures only some designs."""

    @property
    def objective(self) -> Objective:
        """Without what only compromises need."""
        return Objective(assay=self.assay, direction=self.direction, unit=self.unit, transform=self.transform)

    @model_validator(mode="after")
    def _sense(self) -> Self:
        if self.threshold is not None and self.transform != "identity" and self.threshold <= 0:
            raise ValueError(f"threshold {self.threshold:g} has no logarithm, as transform {self.transform} asks for")
        return self


class Threshold(BaseModel):
    """A property that must only be good enough."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_least: Finite | None = None
    """Lowest value that will do, in the lab's unit."""
    at_most: Finite | None = None
    """Highest value that will do, in the lab's unit."""
    assay: str = ""
    """Which assay measures it; one of its own name (or the objective's of that name) where left out."""
    column: str | None = None
    """Its column in the lab's file, where that is not its name."""
    unit: str = ""
    """The lab's unit of values."""
    transform: Annotated[str, Field(pattern="^(identity|log|log10)$")] = "identity"
    """The scale on which it is learned."""
    required: bool = True
    """Whether a round waits for it in every well; false for an assay that measures only some designs."""

    @model_validator(mode="after")
    def _sense(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("gives no limit: say at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} is above at_most {self.at_most:g}: nothing would do")
        if self.transform != "identity" and any(one is not None and one <= 0 for one in (self.at_least, self.at_most)):
            raise ValueError(f"a limit of zero or less has no logarithm, as transform {self.transform} asks for")
        return self

    def keeps(self, values: FloatArray) -> Array:
        """Say which values (n,), in the lab's unit, keep the limit; NaN does not."""
        low = -np.inf if self.at_least is None else self.at_least
        high = np.inf if self.at_most is None else self.at_most
        return (values >= low) & (values <= high)

    def describe(self) -> str:
        """Say it in words."""
        parts = [f"{word} {end:g}" for word, end in (("at least", self.at_least), ("at most", self.at_most)) if end is not None]
        return f"{' and '.join(parts)} {self.unit}".rstrip()


class Goal(BaseModel):
    """Objectives and limits of a campaign. Columns of values are the objectives in their order, then what only has limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: dict[str, Target] = Field(min_length=1)
    limits: dict[str, Threshold] = Field(default_factory=dict)

    @cached_property
    def properties(self) -> Mapping[str, Objective]:
        """Every column by name, as an objective: what only has limits counts upwards."""
        found: dict[str, Objective] = {name: one.objective for name, one in self.targets.items()}
        assays = {one.assay for one in found.values()}
        for name, limit in self.limits.items():
            if limit.assay not in assays:
                found[name] = Objective.model_validate({"assay": limit.assay, "unit": limit.unit, "transform": limit.transform})
                assays.add(limit.assay)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.properties)

    @property
    def assays(self) -> tuple[str, ...]:
        """Their assays, a column each."""
        return tuple(one.assay for one in self.properties.values())

    @property
    def required(self) -> tuple[str, ...]:
        """Assays that a round waits for."""
        wanted = {one.assay for one in self.targets.values() if one.required}
        wanted |= {one.assay for one in self.limits.values() if one.required}
        return tuple(one for one in self.assays if one in wanted)

    @property
    def m(self) -> int:
        """How many are improved."""
        return len(self.targets)

    @property
    def weights(self) -> FloatArray:
        return np.array([one.weight for one in self.targets.values()])

    @cached_property
    def bounds(self) -> FloatArray:
        """What Y must lie between, (2, k)."""
        out = np.array([np.full(len(self.names), -np.inf), np.full(len(self.names), np.inf)])
        for limit in self.limits.values():
            j = self.assays.index(limit.assay)
            objective = self.properties[self.names[j]]
            ends = [(-np.inf if one is None else float(objective.to_y(np.array([one]))[0])) for one in (limit.at_least,)]
            ends += [(np.inf if one is None else float(objective.to_y(np.array([one]))[0])) for one in (limit.at_most,)]
            if objective.sign < 0:  # what is lower in the lab is higher here
                ends = [-np.inf if limit.at_most is None else ends[1], np.inf if limit.at_least is None else ends[0]]
            out[0, j], out[1, j] = max(out[0, j], ends[0]), min(out[1, j], ends[1])
        return out

    @cached_property
    def limited(self) -> Array:
        """Which columns of Y have a limit, (k,) bool."""
        return np.asarray(np.isfinite(self.bounds).any(0))

    def to_y(self, values: FloatArray) -> FloatArray:
        """Turn values (n, k) in the lab's units into Y (n, k); NaN stays."""
        out = np.full(values.shape, np.nan)
        for j, objective in enumerate(self.properties.values()):
            known = np.isfinite(values[:, j])
            out[known, j] = objective.to_y(values[known, j])
        return out

    def to_value(self, Y: FloatArray) -> FloatArray:
        """Turn Y (n, k or m) back into the lab's units."""
        return np.column_stack([one.to_value(Y[:, j]) for j, one in enumerate(list(self.properties.values())[: Y.shape[1]])])

    def feasible(self, Y: FloatArray) -> Array:
        """Say which rows of Y (n, k) keep every limit; one that was not measured counts as kept; (n,) bool."""
        return ((np.isnan(Y)) | ((self.bounds[0] <= Y) & (self.bounds[1] >= Y))).all(1)

    def chances(self, mean: FloatArray, std: FloatArray) -> FloatArray:
        """Tell how likely rows of mean and std (n, k) keep every limit, (n,); a NaN mean says nothing."""
        out = np.ones(len(mean))
        for j in np.flatnonzero(self.limited):
            width = np.maximum(std[:, j], 1e-12)
            inside = ndtr((self.bounds[1, j] - mean[:, j]) / width) - ndtr((self.bounds[0, j] - mean[:, j]) / width)
            out *= np.where(np.isnan(mean[:, j]), 1.0, np.clip(inside, 0.0, 1.0))
        return out

    def front(self, Y: FloatArray) -> Array:
        """Rows of Y (n, k) that keep the limits and that no other such row beats; of those measured in all objectives."""
        rows = np.flatnonzero(np.isfinite(Y[:, : self.m]).all(1) & self.feasible(Y))
        return rows[nondominated(Y[rows, : self.m])]

    def reference(self, Y: FloatArray) -> FloatArray:
        """Give the reference point (m,) in Y: the thresholds, or a little below the worst of the front of Y (n, k)."""
        rows = self.front(Y)
        known = Y[rows, : self.m] if len(rows) else Y[np.isfinite(Y[:, : self.m]).all(1), : self.m]
        every = Y[np.isfinite(Y[:, : self.m]).all(1), : self.m]
        if len(known):
            extent = np.ptp(known, axis=0)
            extent = np.where(extent > 0, extent, np.ptp(every, axis=0))
            extent = np.where(extent > 0, extent, 1.0)
            point = known.min(0) - MARGIN * extent
        else:
            point = np.zeros(self.m)
        for j, target in enumerate(self.targets.values()):
            if target.threshold is not None:
                point[j] = float(target.to_y(np.array([target.threshold]))[0])
        return point

    def scale(self, Y: FloatArray) -> FloatArray:
        """Give the unit of each objective (m,) in Y (n, k): the spread of what was measured."""
        with np.errstate(invalid="ignore"):
            spread = np.array([np.nanstd(column) if np.isfinite(column).sum() > 1 else 0.0 for column in Y[:, : self.m].T])
        return np.where(spread > 1e-12, spread, 1.0)

    def _short(self, Y: FloatArray) -> FloatArray:
        """Tell by how much rows of Y (n, k) clear their thresholds, the one they clear least, in spreads; below zero: missed."""
        point, scale = self.reference(Y), self.scale(Y)
        told = [j for j, one in enumerate(self.targets.values()) if one.threshold is not None]
        return ((Y[:, told] - point[told]) / scale[told]).min(1) if told else np.zeros(len(Y))  # type: ignore[no-any-return]

    def scalar(self, Y: FloatArray, sem: FloatArray) -> FloatArray:
        """Give rows of Y (n, k), without gaps, one number to learn from, (n,): gain times the chance that the limits are kept.

        With one objective the gain is its y over the worst. With several it is `labloop.space.pareto.beyond` the front of the
        others, in units of each one's spread over its weight: every compromise of the front stands as high as any other, so that
        a model of it leads to all of them. One that misses a threshold is worth what it lacks of it.

        Args:
            sem: (n, k), of each reading's mean; NaN where it is not known.
        """
        if not len(Y):
            return np.zeros(0)
        if self.m == 1:
            gain = Y[:, 0].copy()
        else:
            T = Y[:, : self.m] / self.scale(Y) * (self.weights / self.weights.mean())
            rows, short = self.front(Y), self._short(Y)
            rows = rows[short[rows] >= 0] if (short[rows] >= 0).any() else rows
            gain = beyond(T, T[rows])
            for i in rows:  # one of the front is held against the others of it
                gain[i] = beyond(T[i : i + 1], T[rows[(T[rows] != T[i]).any(1)]])[0] if len(rows) > 1 else 0.0
            gain[rows] = np.clip(gain[rows], 0.0, 1.0)  # one far out is no better than the rest of the front
            gain = np.where(short < 0, np.minimum(gain, short), gain)
        blur = np.fmax(np.nan_to_num(sem), BLUR * np.nanstd(Y, axis=0))
        floor = gain.min()
        return floor + (gain - floor) * self.chances(Y, blur)
