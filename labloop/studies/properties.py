"""Several properties in a simulated campaign: the lab's columns, the dataset, and what was come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.errors import ConfigError
from labloop.proposing.dataset import Dataset
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.goal import Goal
from labloop.space.pareto import hypervolume
from labloop.studies.labs.lab import Lab

COMPROMISE = ("hypervolume", "best_in_limits")
"""What rows of a simulation tell of several properties."""


def check_properties(campaign: CampaignConfig, lab: Lab) -> None:
    """See that a lab measures what a campaign improves and limits.

    Raises:
        ConfigError: a property is none of the lab's columns.
    """
    if campaign.goal is None:
        return
    designs = lab.space.decode(lab.space.sample(1, generator(0, "properties")))
    told = list(lab.measure(designs, seed=0).columns)
    if lacking := [name for name in campaign.goal.names if name not in told]:
        raise ConfigError(
            f"campaign {campaign.name} improves or limits {', '.join(lacking)}, but the lab tells {', '.join(told)}"
        )


def dataset(space: DesignSpace, goal: Goal, measured: pd.DataFrame) -> Dataset:
    """Make a dataset of a table of measurements: the space's columns, each property and `status`."""
    designs = measured[list(space.columns)]
    parts = []
    for name, objective in goal.properties.items():
        here = measured[name].to_numpy(float)
        told = np.isfinite(here)
        parts.append(Dataset.from_measurements(space, designs[told], here[told], objective=objective))
    failed = designs[(measured["status"] == "failed_design").to_numpy(dtype=bool)]
    gone = space.encode(failed, strict=False) if len(failed) else np.zeros((0, space.d))
    return Dataset.of_properties(goal, parts, pending=gone, failed=gone)


def compromise(goal: Goal, known: pd.DataFrame) -> dict[str, float]:
    """Tell what a table of measurements came to: the hypervolume, or the best that keeps the limits."""
    Y = goal.to_y(known[list(goal.names)].to_numpy(float))
    front = Y[goal.front(Y)][:, : goal.m]
    if goal.m > 1:
        return {"hypervolume": hypervolume(front, goal.reference(Y)) if len(front) else 0.0}
    return {"best_in_limits": float(goal.to_value(front[:1])[0, 0]) if len(front) else np.nan}


def came_to(row: Mapping[str, Any]) -> float:
    """Give what a row of a simulation of several properties had come to; NaN where nothing kept the limits."""
    return next((float(row[name]) for name in COMPROMISE if row.get(name) is not None), np.nan)


def share_of(goal: Goal, value: float, came: Sequence[float]) -> float:
    """Put what a campaign came to on a scale from 0, nothing, to 1, the most of all that campaigns of its lab came to.

    A hypervolume is more the better whatever its objectives' directions; of a value within limits the worst is nothing.
    """
    known = [one for one in came if np.isfinite(one)]
    if not np.isfinite(value):
        return 0.0
    up = goal.m > 1 or next(iter(goal.targets.values())).direction == "max"
    best = max(known) if up else min(known)
    none = 0.0 if goal.m > 1 else (min(known) if up else max(known))
    return (value - none) / (best - none) if best != none else 1.0 if value == best and goal.m == 1 else 0.0
