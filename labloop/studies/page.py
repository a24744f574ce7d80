"""The page of a study: mean ranks, differences to the reference arm and curves, with the tables that hold the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from labloop.report import figures
from labloop.report.figures import INK, SOFT, Records, Spec
from labloop.report.page import document
from labloop.runtime.files import write_text
from labloop.runtime.numbers import spelt
from labloop.studies.standing_tables import NAMES, NOTE, sections
from labloop.studies.standings import place

_SHOWN = ("batch_mean", "top10_mean")
"""Measures that are drawn; the tables have all."""
_TOLD = {"arm": "Arm", "round": "Plate", "shown": "Mean, in the lab's unit"}


def write_page(path: Path, found: Mapping[str, Any], *, title: str, description: str = "", failures: Sequence[str] = ()) -> Path:
    """Write a study's summary (`labloop.studies.standings.standings`) as one HTML page; equal summaries, equal bytes."""
    return write_text(path, render(found, title=title, description=description, failures=failures))


def render(found: Mapping[str, Any], *, title: str, description: str = "", failures: Sequence[str] = ()) -> str:
    """Make the page's HTML."""
    arms = found["arms"]
    drawn = {f"ranks-{measure}": _ranks(found, measure) for measure in _SHOWN}
    if found["differences"]:
        drawn |= {f"differences-{measure}": _differences(found, measure) for measure in _SHOWN}
    panels = []
    for i, where in enumerate(dict.fromkeys(place(one) for one in found["curves"])):
        drawn[f"curves-{i}"] = _curves([one for one in found["curves"] if place(one) == where], arms)
        panels.append((f"curves-{i}", where))
    return document(
        "study.html", drawn, title=title, description=description, failures=failures, note=NOTE, reference=found["reference"],
        arms=figures.colours(arms), measures={measure: NAMES[measure] for measure in _SHOWN}, panels=panels,
        sections=sections(found),
    )  # fmt: skip


def _ranks(found: Mapping[str, Any], measure: str) -> Spec:
    rows = [{"arm": row["arm"], **row[measure]} for row in found["ranks"]]
    rows = [{**row, "shown": f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"} for row in rows]
    order = [row["arm"] for row in sorted(rows, key=lambda row: row["mean"])]
    return _intervals(rows, order, found["arms"], domain=(0.8, len(rows) + 0.2), title="mean rank", tip="Mean rank")


def _intervals(
    rows: Records, order: Sequence[str], arms: Sequence[str], *, domain: tuple[float, float], title: str, tip: str
) -> Spec:
    scale = alt.Scale(domain=list(domain), nice=False)
    axis = alt.Axis(values=list(range(1, len(rows) + 1)), format="d")
    x = alt.X("mean:Q", title=title, scale=scale, axis=axis)
    y = alt.Y("arm:N", sort=list(order), title=None, axis=alt.Axis(domain=False, ticks=False, labelFontSize=13, labelColor=INK))
    tips = [alt.Tooltip("arm:N", title="Arm"), alt.Tooltip("shown:N", title=tip)]
    base = figures._of("rows").encode(y=y, color=figures._by_arm(arms), tooltip=tips)
    layers = [
        base.mark_rule(strokeWidth=2.2).encode(x=alt.X("low:Q", title=title, scale=scale, axis=axis), x2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x),
    ]
    return figures.finished(layers, 30 * len(rows) + 10, rows=rows)


def _differences(found: Mapping[str, Any], measure: str) -> Spec:
    rows = [one for one in found["differences"] if one["measure"] == measure and one["mean"] is not None]
    arms = [arm for arm in found["arms"] if arm != found["reference"]]
    told = [{**one, "where": place(one), "shown": _shown(one)} for one in rows]
    places = list(dict.fromkeys(one["where"] for one in told))
    ends = [end for one in rows for end in (one["low"], one["high"], one["mean"], 0.0) if end is not None]
    scale = alt.Scale(domain=list(figures.limits_of(ends)), nice=False)
    look = alt.Axis(domain=False, ticks=False, labelFontSize=12, labelColor=INK, labelLimit=240)
    y = alt.Y("where:N", sort=places, title=None, scale=alt.Scale(paddingInner=0.25), axis=look)
    offset = alt.YOffset("arm:N", sort=arms, scale=alt.Scale(paddingOuter=0.2))
    tips = [
        alt.Tooltip("where:N", title="Setting"),
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("shown:N", title="Difference"),
    ]
    colour = figures._by_arm(found["arms"])
    zero = figures._of("zero").mark_rule(color=SOFT, strokeDash=[4, 3]).encode(x=alt.X("at:Q", title=None, scale=scale))
    said = "share of the lab's range"
    sides = {"y": y, "yOffset": offset, "color": colour, "tooltip": tips}
    bars = figures._of("bars").mark_rule(strokeWidth=2)
    points = figures._of("rows").mark_point(filled=True, size=46, opacity=1)
    layers = [
        zero,
        bars.encode(x=alt.X("low:Q", title=said, scale=scale), x2="high:Q", **sides),
        points.encode(x=alt.X("mean:Q", title=said, scale=scale), **sides),
    ]
    known = [one for one in told if one["low"] is not None]
    height = len(places) * (15 * len(arms) + 14)
    return figures.finished(layers, height, rows=told, bars=known, zero=[{"at": 0}])


def _shown(one: Mapping[str, Any]) -> str:
    return f"{one['mean']:+.3f}" + ("" if one["low"] is None else f" [{one['low']:+.3f}, {one['high']:+.3f}]")


def _curves(rows: Records, arms: Sequence[str]) -> Spec:
    """The plates' means round by round in one setting, with bands where there are several seeds."""
    plates = [one for one in rows if one["measure"] == "batch_mean" and one["mean"] is not None]
    # A plate whose designs all failed by themselves has a share, the worst, but no value.
    mine = [{**one, "shown": "no value" if one["value"] is None else spelt(one["value"])} for one in plates]
    rounds = sorted({one["round"] for one in mine})
    low, high = figures.limits_of(one["mean"] for one in mine)
    room = (high - low) / 3  # bands of few seeds are wide: they are cut off rather than the curves made flat
    scale = alt.Scale(domain=[low - room, high + room], nice=False)
    x = alt.X(
        "round:Q", title="plate", scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(values=rounds, grid=False, format="d")
    )
    y = alt.Y("mean:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5))
    colour = figures._by_arm(arms)
    tips = [alt.Tooltip(f"{name}:N", title=said) for name, said in _TOLD.items()]
    bands = figures._of("bands").mark_area(opacity=0.12, clip=True).encode(
        x=x, y=alt.Y("low:Q", title=None, scale=scale), y2="high:Q", color=colour, detail="arm:N"
    )  # fmt: skip
    lines = figures._of("rows").mark_line(strokeWidth=2).encode(x=x, y=y, color=colour)
    points = figures._of("rows").mark_circle(size=44, opacity=1).encode(x=x, y=y, color=colour, tooltip=tips)
    return figures.finished([bands, lines, points], 190, rows=mine, bands=[one for one in mine if one["low"] is not None])
