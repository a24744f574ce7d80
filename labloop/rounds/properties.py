"""Several properties of a campaign as tables: what each came to, and the best compromises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.proposing.dataset import Dataset
from labloop.runtime.numbers import spelt
from labloop.space.pareto import hypervolume
from labloop.types import Array

LIMITS = "chance of all limits"
"""Column of a pick list."""


def standing(data: Dataset) -> dict[str, Any]:
    """Tell of every property how many designs it has and the best value, and how many compromises there are; plain values."""
    assert data.properties is not None
    goal, Y = data.properties.goal, data.properties.Y
    told: dict[str, Any] = {}
    for j, (name, objective) in enumerate(goal.properties.items()):
        part = data.of(j)
        one: dict[str, Any] = {"assay": objective.assay, "unit": objective.unit, "designs": len(part)}
        if name in goal.targets:
            one["best"] = float(objective.to_value(part.y[[part.best]])[0]) if len(part) else None
        limits = [limit for limit in goal.limits.values() if limit.assay == objective.assay]
        if limits:
            one["limit"] = "; ".join(limit.describe() for limit in limits)
            low, high = goal.bounds[:, j]
            one["keep_it"] = int(((part.y >= low) & (part.y <= high)).sum())
        told[name] = one
    out: dict[str, Any] = {"properties": told}
    if goal.m > 1:
        front = goal.front(Y)
        reference = goal.reference(Y) if len(Y) else np.zeros(goal.m)
        out["compromises"] = len(front)
        out["compromises_not_measured"] = int(unmeasured(data)[front].sum())
        out["hypervolume"] = hypervolume(Y[front][:, : goal.m], reference)
    else:
        good = data.keeping
        best = data.ids.index(good.ids[good.best]) if len(good) else None
        out["best_that_keeps_limits"] = None if best is None else float(goal.to_value(Y[[best]])[0, 0])
        limited = np.flatnonzero(goal.limited)
        out["taken_as_kept"] = [] if best is None else [goal.names[j] for j in limited if np.isnan(Y[best, j])]
    if data.failed is not None and len(data.failed):
        out["failed_designs"] = len(data.failed)
    return out


def compromises(data: Dataset) -> pd.DataFrame:
    """Table the designs that no other beats: `design_id`, the space's columns, each property in the lab's unit.

    In the order of the leading objective, best first; with one objective and limits, the ten best that keep them. First those of
    which every limit was measured, compared among themselves; then those taken to keep a limit that nobody measured.
    """
    assert data.properties is not None
    goal, Y, open_ = data.properties.goal, data.properties.Y, unmeasured(data)

    def best(among: Array) -> Array:
        rows = goal.front(Y[among]) if goal.m > 1 else np.flatnonzero(np.isfinite(Y[among, 0]) & goal.feasible(Y[among]))
        rows = among[rows]
        rows = rows[np.argsort(-Y[rows, 0], kind="stable")]
        return rows if goal.m > 1 else rows[:10]

    every = best(np.arange(len(Y)))
    rows = np.concatenate([best(np.flatnonzero(~open_)), every[open_[every]]])
    values = pd.DataFrame(goal.to_value(Y[rows]), columns=list(goal.names))
    ids = pd.DataFrame({"design_id": [data.ids[i] for i in rows.tolist()]})
    return pd.concat([ids, data.space.decode(data.X[rows]), values], axis=1)


def unmeasured(data: Dataset) -> Array:
    """Say which designs lack a measurement that a limit asks for, (n,) bool: such a limit counts as kept."""
    assert data.properties is not None
    return np.asarray(np.isnan(data.properties.Y[:, data.properties.goal.limited]).any(1))


def values(data: Dataset) -> pd.DataFrame:
    """Table every measured design: `design_id`, each property in the lab's unit (NaN: not measured), and `feasible`, `front`."""
    assert data.properties is not None
    goal, Y = data.properties.goal, data.properties.Y
    table = pd.DataFrame(goal.to_value(Y), columns=list(goal.names))
    front = np.zeros(len(Y), dtype=bool)
    front[goal.front(Y)] = True
    return table.assign(design_id=list(data.ids), feasible=goal.feasible(Y), front=front)


def chance(config: CampaignConfig, events: pd.DataFrame, number: int | None, design_id: str) -> float | None:
    """Give the chance that a round's design keeps every limit, as its judge saw it; None where that is not known."""
    told = None if number is None else foretold(config, events, number)
    found = np.nan if told is None or LIMITS not in told else float(told[LIMITS].get(design_id, np.nan))
    return found if np.isfinite(found) else None


def broken(data: Dataset, design_id: str) -> tuple[str, ...]:
    """Say which limits a measured design breaks, each with what it came to in the lab's unit."""
    if data.properties is None or design_id not in data.ids:
        return ()
    goal, row = data.properties.goal, data.properties.Y[[data.ids.index(design_id)]]
    values = dict(zip(goal.assays, goal.to_value(row)[0].tolist(), strict=True))
    bad = dict(zip(goal.assays, ((row < goal.bounds[0]) | (row > goal.bounds[1]))[0].tolist(), strict=True))
    return tuple(
        f"{name} {spelt(values[limit.assay])}, where {limit.describe()} will do" for name, limit in goal.limits.items()
        if bad[limit.assay]
    )  # fmt: skip


def foretold(config: CampaignConfig, events: pd.DataFrame, number: int) -> pd.DataFrame | None:
    """Give what the judge said of a round's designs in the properties after the leading one, and of the limits.

    Args:
        events: the campaign's, as `Ledger.events` gives them.

    Returns:
        Indexed by `design_id`: a column `predicted NAME (unit)` a property, `chance of all limits` where there are limits; None
        where the campaign has one property, or nobody judged.
    """
    told = events.loc[(events["kind"] == "judged") & (events["round"] == number), "detail"]
    known = dict(told.iloc[-1].get("properties") or {}) if len(told) else {}
    if config.goal is None or not known:
        return None
    columns: dict[str, dict[str, float | None]] = {}
    for name, objective in list(config.goal.properties.items())[1:]:
        unit = f" ({objective.unit})" if objective.unit else ""
        columns[f"predicted {name}{unit}"] = {one: (said.get(name) or [None])[0] for one, said in known.items()}
    if config.goal.limits:
        columns[LIMITS] = {one: said.get("chance") for one, said in known.items()}
    return pd.DataFrame(columns, dtype=float)
