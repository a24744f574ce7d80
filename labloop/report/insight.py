"""The report's part on what the judge looks at: which factors its ranking lives on, and what it predicts for each level."""

from __future__ import annotations

from typing import Any

import altair as alt

from labloop.proposing.insight import Insight, LevelMean
from labloop.report.facts import short
from labloop.report.figures import INK, RAMP, SOFT, Spec, finished
from labloop.report.tables import Heading, Numbers, PageTable

FACTORS = 24
"""Factors whose importance is drawn, the most important first."""


def figures(told: Insight, numbers: Numbers) -> dict[str, Spec]:
    """Draw the importance of factors, then the effects of each parameter: letters as a map of positions, others as intervals."""
    found = {"importance": _importance(told)}
    for i, parameter in enumerate(dict.fromkeys(one.parameter for one in told.effects)):
        mine = [one for one in told.effects if one.parameter == parameter]
        drawn = _letters if mine[0].position is not None else _levels
        found[f"effects{i}"] = drawn(told, mine, numbers)
    return found


def titles(told: Insight) -> dict[str, str]:
    """Name the figure of each parameter."""
    return {f"effects{i}": name for i, name in enumerate(dict.fromkeys(one.parameter for one in told.effects))}


def table(told: Insight, numbers: Numbers) -> PageTable:
    """Tabulate every level's mean prediction."""
    columns = (
        Heading("Factor"), Heading("Level", "code"), Heading("Designs", "number", "measured ones that have it"),
        Heading("Mean prediction", "number", "of all measured designs, set to this level"),
        Heading("± 1 sd over fits", "number"),
    )  # fmt: skip
    rows = tuple(
        (one.factor, one.level, str(one.n), numbers.value(one.value), numbers.between(one.low, one.high)) for one in told.effects
    )
    return PageTable(columns, rows)


def _of(name: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(name=name))


def _importance(told: Insight) -> Spec:
    some = told.factors[:FACTORS]
    rows = [
        {"factor": one.name, "lost": short(one.importance), "low": short(one.importance - one.spread),
         "high": short(one.importance + one.spread), "shown": f"{one.importance:.3f} ± {one.spread:.3f}"}
        for one in some
    ]  # fmt: skip
    y = alt.Y(
        "factor:N", sort=[one.name for one in some], title=None,
        axis=alt.Axis(domain=False, ticks=False, labelColor=INK, labelLimit=180),
    )  # fmt: skip
    x = alt.X("lost:Q", title="held-out rank correlation lost when shuffled", axis=alt.Axis(tickCount=6))
    tip = [alt.Tooltip("factor:N", title="Factor"), alt.Tooltip("shown:N", title="Lost (± sd over fits)")]
    layers = [
        _of("rows").mark_bar(color="#9cc3d5", height={"band": 0.7}).encode(x=x, y=y, tooltip=tip),
        _of("rows").mark_rule(color=INK, strokeWidth=1.6).encode(x=alt.X("low:Q", title=""), x2="high:Q", y=y, tooltip=tip),
    ]
    return finished(layers, max(60, 20 * len(rows)), rows=rows)


def _letters(told: Insight, mine: list[LevelMean], numbers: Numbers) -> Spec:
    rows = [_row(one, numbers) | {"position": one.position} for one in mine]
    letters = sorted({one.level for one in mine})
    x = alt.X("position:O", title="position", axis=alt.Axis(labelAngle=0, labelOverlap=True, domain=False, ticks=False))
    y = alt.Y("level:N", sort=letters, title=None, axis=alt.Axis(domain=False, ticks=False, labelColor=INK))
    ramp = list(RAMP) if numbers.objective.direction == "max" else list(reversed(RAMP))
    legend = alt.Legend(title=None, orient="bottom", direction="horizontal", gradientLength=180, gradientThickness=8, tickCount=4)
    fill = alt.Fill("value:Q", scale=alt.Scale(range=ramp, zero=False), legend=legend)
    layers = [_of("rows").mark_rect(cornerRadius=2).encode(x=x, y=y, fill=fill, tooltip=_tips())]
    if len({one.position for one in mine}) <= 30:  # the best letter of each position, as in a logo
        layers.append(
            _of("best")
            .mark_text(fontSize=11, fontWeight="bold", color="#D55E00")
            .encode(x=x, y=y, text="level:N", tooltip=_tips())
        )
    return finished(layers, 18 * max(4, len(letters)), rows=rows, best=_clear(rows, down=numbers.objective.direction == "min"))


def _clear(rows: list[dict[str, Any]], *, down: bool) -> list[dict[str, Any]]:
    """Give the best letter of each position, where fits agree that it is: its interval lies apart from every other's."""
    found = []
    for place in dict.fromkeys(row["position"] for row in rows):
        here = sorted((row for row in rows if row["position"] == place), key=lambda row: row["value"], reverse=not down)
        best, others = here[0], here[1:]
        if others and all(one["low"] > best["high"] if down else one["high"] < best["low"] for one in others):
            found.append(best)
    return found


def _levels(told: Insight, mine: list[LevelMean], numbers: Numbers) -> Spec:
    rows = [_row(one, numbers) for one in mine]
    y = alt.Y(
        "level:N", sort=[one.level for one in mine], title=None,
        axis=alt.Axis(domain=False, ticks=False, labelColor=INK, labelLimit=180),
    )  # fmt: skip
    x = alt.X("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
    layers = [
        _of("mean").mark_rule(color=SOFT, strokeDash=[4, 3]).encode(x=x),
        _of("rows").mark_rule(color=INK, strokeWidth=2).encode(x=alt.X("low:Q", title=""), x2="high:Q", y=y, tooltip=_tips()),
        _of("rows").mark_point(color=INK, fill="white", opacity=1, size=60, strokeWidth=2).encode(x=x, y=y, tooltip=_tips()),
    ]
    return finished(layers, max(60, 22 * len(rows)), rows=rows, mean=[{"value": short(told.mean)}])


def _row(one: LevelMean, numbers: Numbers) -> dict[str, Any]:
    return {
        "level": one.level, "value": short(one.value), "low": short(one.low), "high": short(one.high), "n": one.n,
        "shown": f"{numbers.value(one.value)} ({numbers.between(one.low, one.high)})",
    }  # fmt: skip


def _tips() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("level:N", title="Level"), alt.Tooltip("shown:N", title="Mean prediction (± sd over fits)"),
        alt.Tooltip("n:Q", title="Measured designs"),
    ]  # fmt: skip
