"""The report's part on several properties: a figure of two objectives at a time, and the compromises as a table."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import altair as alt
import pandas as pd

from labloop.compare.hypervolume import Fronts, GainDifference
from labloop.report.tables import Heading, PageTable
from labloop.runtime.numbers import spelt
from labloop.space.goal import Goal

Spec = dict[str, Any]

SHOWN = 3
"""Pairs of objectives that are drawn at most."""
ROWS = 30
"""Compromises in the table at most."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Several:
    """What a report shows of several properties."""

    goal: Goal
    values: pd.DataFrame
    """One row a measured design: every property in the lab's unit, `design` as people write it, `arm`, `feasible`, `front`."""
    front: pd.DataFrame
    """The compromises, as `labloop.rounds.properties.compromises` gives them, with `design` and `arm`."""
    fronts: Fronts | None
    """The arms compared by hypervolume."""


def figures(told: Several) -> dict[str, Spec]:
    """Draw each pair of objectives: what was measured, what breaks a limit, and the compromises."""
    names = list(told.goal.targets)
    return {f"pareto{i}": _drawn(told, a, b) for i, (a, b) in enumerate(list(combinations(names, 2))[:SHOWN])}


def _drawn(told: Several, a: str, b: str) -> Spec:
    rows = told.values.dropna(subset=[a, b])
    kind = rows["front"].map({True: "compromise", False: "measured"}).where(rows["feasible"], "breaks a limit")
    data = rows.assign(kind=kind)[[a, b, "design", "arm", "kind"]].rename(columns={a: "first", b: "second"})
    x, y = (
        alt.X("first:Q", title=_axis(told.goal, a), scale=alt.Scale(zero=False)),
        alt.Y("second:Q", title=_axis(told.goal, b), scale=alt.Scale(zero=False)),
    )
    colour = alt.Color(
        "kind:N", title=None,
        scale=alt.Scale(domain=["compromise", "measured", "breaks a limit"], range=["#1f5f8b", "#9aa5ad", "#c9785b"]),
    )  # fmt: skip
    tips = [
        alt.Tooltip("design:N", title="Design"), alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("first:Q", title=a, format=".4g"), alt.Tooltip("second:Q", title=b, format=".4g"),
    ]  # fmt: skip
    size = alt.condition(alt.datum.kind == "compromise", alt.value(70), alt.value(28))
    chart = alt.Chart(
        alt.InlineData(values=[{str(key): cell for key, cell in row.items()} for row in data.to_dict("records")])
    ).mark_circle(opacity=0.8)
    return dict(chart.encode(x=x, y=y, color=colour, tooltip=tips, size=size).properties(width="container", height=320).to_dict())


def _axis(goal: Goal, name: str) -> str:
    one = goal.targets[name]
    return f"{name}{f', {one.unit}' if one.unit else ''} ({'lower' if one.direction == 'min' else 'higher'} is better)"


def table(told: Several) -> PageTable:
    """Tabulate the compromises in their order, with what is not measured of a limit."""
    names = list(told.goal.names)
    units = [told.goal.properties[name].unit for name in names]
    limited = _limited(told.goal)

    def lacking(name: str) -> str:
        return "not measured" if name in limited else "–"

    columns = (
        Heading("Design", "code"), *(Heading(f"{n}, {u}" if u else n, "number") for n, u in zip(names, units)), Heading("Arm"),
    )  # fmt: skip
    rows = tuple(
        (str(one["design"]), *((lacking(n) if pd.isna(one[n]) else spelt(one[n])) for n in names), str(one["arm"] or "–"))
        for one in told.front.head(ROWS).to_dict("records")
    )
    return PageTable(columns, rows)


def open_limits(told: Several) -> str:
    """Say how many designs of the table are taken to keep a limit that nobody measured; '' where none is."""
    n = int(told.front.head(ROWS)[_limited(told.goal)].isna().any(axis=1).sum())
    if not n:
        return ""
    return f"{n} of these designs are taken to keep a limit that was not measured: they come behind those of which every one was."


def _limited(goal: Goal) -> list[str]:
    return [name for name, limited in zip(goal.names, goal.limited, strict=True) if limited]


def gains(fronts: Fronts) -> PageTable:
    """Tabulate what each arm adds to the hypervolume, with 95 % intervals."""
    columns = (
        Heading("Arm"), Heading("Wells", "number"), Heading("On the front", "number"), Heading(f"{fronts.k} wells add", "number"),
        Heading("95 % interval", "number"),
    )  # fmt: skip
    rows = tuple(
        (one.arm, str(one.n_wells), str(one.n_front), f"{one.gain:.3g}", f"{one.low:.3g} to {one.high:.3g}")
        for one in fronts.arms
    )
    return PageTable(columns, rows)


def sentences(fronts: Fronts) -> list[str]:
    """Say of each pair of arms which added more, and whether that is more than chance with all pairs counted."""
    several = len(fronts.differences) > 1

    def said(one: GainDifference) -> str:
        counted = f", {one.p_holm:.2g} with all pairs counted" if several else ""
        open_ = "" if one.decided else ": the data cannot decide"
        return (
            f"{one.first} added {one.difference:+.3g} to the hypervolume against {one.second} "
            f"({one.low:.3g} to {one.high:.3g}, p = {one.p:.2g} by permuting wells{counted}){open_}"
        )

    return [said(one) for one in fronts.differences]
