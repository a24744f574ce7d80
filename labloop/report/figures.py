"""The figures of a report as Vega-Lite specifications, in the lab's unit. Same data, same specification.

Colours: arms take the Okabe and Ito palette in their order, which people of all colour visions tell apart; values take one ramp
of steadily falling lightness, which survives a black-and-white printer too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from labloop.comparison import Comparison, spell
from labloop.objective import Objective

INK, SOFT, FAINT = "#1d2730", "#66727d", "#d9dee2"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a7a00")
RAMP = ("#f0f3ec", "#c5ddcb", "#7dbdb9", "#3a86a4", "#1a4f7c", "#0c2749")
SHARED = "#7b7f86"
"""Wells of two arms."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
Spec = dict[str, Any]
Records = Sequence[Mapping[str, Any]]

_CONFIG: Spec = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT, "titleColor": SOFT, "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12,
        "gridColor": "#eceff1", "domainColor": FAINT, "tickColor": FAINT, "titlePadding": 8, "labelPadding": 4,
    },
    "legend": {"labelColor": SOFT, "titleColor": SOFT, "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 11},
}  # fmt: skip


def colours(arms: Sequence[str]) -> dict[str, str]:
    """Give each arm its colour."""
    return {arm: OKABE_ITO[i % len(OKABE_ITO)] for i, arm in enumerate(arms)}


def axis_title(objective: Objective, what: str = "") -> str:
    """Name the measured value with its unit, and which way is better."""
    unit = f", {objective.unit}" if objective.unit else ""
    better = "lower" if objective.direction == "min" else "higher"
    return f"{what or objective.assay}{unit} ({better} is better)"


def spread_out(values: pd.Series[float], width: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Offsets that keep points of like value apart: steps of the golden ratio along their order, within ± width / 2."""
    order = values.rank(method="first").to_numpy(float)
    return (order * 0.6180339887498949 % 1 - 0.5) * width


def progress(
    start: Mapping[str, float] | None, wells: Records, best: Records, rounds: Sequence[int], arms: Sequence[str], objective: Objective
) -> Spec:
    """Best so far by round, over each arm's wells.

    Args:
        start: `low`, `q1`, `median`, `q3`, `high` of the start data, or None.
        wells: `x` (round, set apart by arm), `value`, `arm` and texts to show.
        best: `round`, `value`, `label`.
    """
    y = alt.Y("value:Q", title=axis_title(objective), scale=_scale(objective))
    x = alt.X(
        "x:Q", title=None, scale=alt.Scale(domain=[-0.5, max([0, *rounds]) + 0.5], nice=False),
        axis=alt.Axis(
            values=[0, *rounds], grid=False, ticks=False, domain=False, labelFontSize=13, labelColor=INK,
            labelExpr="datum.value == 0 ? 'start data' : 'round ' + datum.value",
        ),
    )  # fmt: skip
    layers = []
    if start is not None:
        base = alt.Chart(alt.Data(values=[{"x": 0, "what": "start data", **start}])).encode(x=x)
        tip = [alt.Tooltip("what:N", title="Wells"), alt.Tooltip("shown:N", title="Median (quartiles)")]
        thin = base.mark_rule(color="#aab3ba", strokeWidth=1.5).encode(y=alt.Y("low:Q", title=None), y2="high:Q", tooltip=tip)
        layers += [
            thin,
            base.mark_rule(color="#aab3ba", strokeWidth=14).encode(y="q1:Q", y2="q3:Q", tooltip=tip),
            base.mark_tick(color="white", thickness=2, size=14, orient="horizontal").encode(y="median:Q", tooltip=tip),
        ]
    points = alt.Chart(alt.Data(values=list(wells))).mark_circle(size=34, opacity=0.6)
    layers.append(points.encode(x=x, y=y, color=_by_arm(arms), tooltip=_tips("design", "arm", "proposer", "shown")))
    line = alt.Chart(alt.Data(values=[{"x": row["round"], **row} for row in best])).encode(x=x, y=y)
    tip_best = [alt.Tooltip("label:N", title="Best so far"), alt.Tooltip("design:N", title="Design")]
    layers += [
        line.mark_line(interpolate="step-after", color=INK, strokeWidth=1.6),
        line.mark_point(color=INK, fill="white", opacity=1, size=60, strokeWidth=1.6).encode(tooltip=tip_best),
        line.mark_text(color=INK, dy=-13 if objective.sign > 0 else 15, fontSize=12, fontWeight="bold").encode(text="label:N"),
    ]
    return _finished(alt.layer(*layers), height=340)


def strips(wells: Records, means: Records, incumbent: float | None, arms: Sequence[str], objective: Objective) -> Spec:
    """Each arm's wells of one round with mean and interval.

    Args:
        wells: `arm`, `value`, `jitter`, texts. means: `arm`, `value`, `low`, `high` (None where there is none), `shown`.
        incumbent: in the lab's unit.
    """
    y = alt.Y(
        "arm:N", sort=list(arms), title=None, scale=alt.Scale(paddingInner=0.25, paddingOuter=0.15),
        axis=alt.Axis(domain=False, ticks=False, labelFontSize=13, labelColor=INK, labelFontWeight="bold", labelLimit=140),
    )  # fmt: skip
    x = alt.X("value:Q", title=axis_title(objective), scale=_scale(objective))
    offset = alt.YOffset("jitter:Q", scale=alt.Scale(domain=[-0.7, 0.7]))
    points = alt.Chart(alt.Data(values=list(wells))).mark_circle(size=40, opacity=0.5)
    layers = [points.encode(x=x, y=y, yOffset=offset, color=_by_arm(arms), tooltip=_tips("design", "proposer", "shown"))]
    if incumbent is not None:
        mark = alt.Chart(alt.Data(values=[{"value": incumbent, "label": "incumbent"}])).encode(x=x)
        layers += [
            mark.mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1),
            mark.mark_text(color=SOFT, y=-6, fontSize=11, align="center").encode(text="label:N"),
        ]
    tip = [alt.Tooltip("arm:N", title="Arm"), alt.Tooltip("shown:N", title="Mean (95 % interval)")]
    bars = alt.Chart(alt.Data(values=[m for m in means if m["low"] is not None]))
    # White below the dark lets the interval stand out from the wells behind it.
    for colour, extra in (("white", 4), (INK, 0)):
        layers.append(bars.mark_rule(color=colour, strokeWidth=2 + extra).encode(x=alt.X("low:Q", title=None), x2="high:Q", y=y))
    centre = alt.Chart(alt.Data(values=list(means))).mark_point(color=INK, fill="white", opacity=1, size=75, strokeWidth=2)
    layers.append(centre.encode(x=x, y=y, tooltip=tip))
    return _finished(alt.layer(*layers), height=max(1, len(arms)) * 78)


def differences(rows: Records, objective: Objective, *, ratio: bool) -> Spec:
    """Differences between pairs of arms with intervals, round by round and over all rounds.

    Args:
        rows: `pair`, `over` ("round 2", "all rounds"), `effect`, `low`, `high` (None where none), `whole`, `shown`.
    """
    pairs, over = list(dict.fromkeys(r["pair"] for r in rows)), list(dict.fromkeys(r["over"] for r in rows))
    unit = f", {objective.unit}" if objective.unit and not ratio else ""
    side = "below" if objective.direction == "min" else "above"
    title = f"{'ratio of geometric means' if ratio else 'difference of means'}{unit} ({side} {1 if ratio else 0}: the first is better)"
    y = alt.Y(
        "pair:N", sort=pairs, title=None, scale=alt.Scale(paddingInner=0.3),
        axis=alt.Axis(domain=False, ticks=False, labelFontSize=13, labelColor=INK, labelLimit=160),
    )  # fmt: skip
    offset = alt.YOffset("over:N", sort=over, scale=alt.Scale(paddingOuter=0.2))
    kind = alt.Scale(type="log") if ratio else alt.Scale(zero=True, nice=True)
    colour = alt.Color("whole:N", scale=alt.Scale(domain=[True, False], range=[INK, "#9aa5ad"]), legend=None)
    tip = [alt.Tooltip("pair:N", title="Arms"), alt.Tooltip("over:N", title="Over"), alt.Tooltip("shown:N", title="Difference")]
    base = alt.Chart(alt.Data(values=[{"at": 1 if ratio else 0}]))
    zero = base.mark_rule(color=SOFT, strokeDash=[4, 3]).encode(x=alt.X("at:Q", title=title, scale=kind))
    bars = alt.Chart(alt.Data(values=[row for row in rows if row["low"] is not None])).mark_rule(strokeWidth=2.2)
    x = alt.X("effect:Q", title=title, scale=kind)
    every = alt.Chart(alt.Data(values=list(rows))).encode(x=x, y=y, yOffset=offset, color=colour, tooltip=tip)
    texts = [{**row, "right": row["high"] if row["high"] is not None else row["effect"]} for row in rows]
    label = alt.Chart(alt.Data(values=texts)).mark_text(align="left", dx=7, fontSize=11, baseline="middle")
    layers = [
        zero,
        bars.encode(x=alt.X("low:Q", title=title), x2="high:Q", y=y, yOffset=offset, color=colour, tooltip=tip),
        every.mark_point(filled=True, size=60, opacity=1),
        label.encode(x=alt.X("right:Q", title=title), y=y, yOffset=offset, color=colour, text="over:N"),
    ]
    return _finished(alt.layer(*layers), height=max(1, len(pairs)) * (22 * len(over) + 18))


def predicted(rows: Records, arm: str, colour: str, limits: tuple[float, float], objective: Objective) -> Spec:
    """One arm's measured values against the reference surrogate's predictions, mean and one standard deviation.

    Args:
        rows: `mean`, `low`, `high`, `value` and texts. limits: the same for all arms, so that panels compare.
    """
    scale = _scale(objective, domain=limits)
    x, y = alt.X("mean:Q", title="predicted", scale=scale), alt.Y("value:Q", title="measured", scale=scale)
    ends = alt.Chart(alt.Data(values=[{"mean": end, "value": end} for end in limits]))
    base = alt.Chart(alt.Data(values=list(rows)))
    tip = _tips("design", "proposer", "round", "promise", "shown")
    layers = [
        ends.mark_line(color="#b4bcc3", strokeDash=[4, 3], strokeWidth=1).encode(x=x, y=y),
        base.mark_rule(color=colour, opacity=0.22, strokeWidth=1.2, clip=True).encode(
            x=alt.X("low:Q", title="predicted"), x2="high:Q", y=y
        ),
        base.mark_circle(color=colour, opacity=0.75, size=36, clip=True).encode(x=x, y=y, tooltip=tip),
    ]
    return _finished(alt.layer(*layers), height=250)


def plate(
    wells: Records, shape: tuple[int, int], objective: Objective, *, limits: tuple[float, float], arms: Sequence[str] | None = None
) -> Spec:
    """A plate's wells by value, or by arm where `arms` are given.

    Args:
        wells: `row` (letter), `column`, `value` (None where none), `kind` (well, control, lost), `arm` and texts.
    """
    rows, columns = shape
    letters = list("ABCDEFGHIJKLMNOP"[:rows])
    look = {"labelFontSize": 10 if rows <= 8 else 8, "domain": False, "ticks": False, "grid": False, "labelPadding": 3}
    x = alt.X(
        "column:O", title=None, scale=alt.Scale(domain=list(range(1, columns + 1)), padding=0.07),
        axis=alt.Axis(orient="top", labelAngle=0, labelOverlap=True, **look),
    )  # fmt: skip
    y = alt.Y("row:O", title=None, scale=alt.Scale(domain=letters, padding=0.07), axis=alt.Axis(**look))
    tip = _tips("well", "design", "arm", "shown")
    used = alt.Chart(alt.Data(values=list(wells)))
    ground = [{"row": letter, "column": column} for letter in letters for column in range(1, columns + 1)]
    layers = [alt.Chart(alt.Data(values=ground)).mark_rect(fill="#f6f7f8", cornerRadius=3).encode(x=x, y=y)]
    if arms is None:
        ramp = list(RAMP) if objective.sign > 0 else list(reversed(RAMP))
        kind = "log" if objective.transform != "identity" else "linear"
        bar = alt.Legend(title=None, orient="bottom", direction="horizontal", gradientLength=180, gradientThickness=8, tickCount=4)
        fill = alt.Fill("value:Q", scale=alt.Scale(domain=list(limits), range=ramp, type=kind, clamp=True), legend=bar)
        measured, lost = used.transform_filter("datum.value != null"), used.transform_filter("datum.value == null")
        layers += [
            measured.mark_rect(cornerRadius=3).encode(x=x, y=y, fill=fill, tooltip=tip),
            lost.mark_rect(fill="#e6e9ec", cornerRadius=3).encode(x=x, y=y, tooltip=tip),
            used.transform_filter("datum.kind == 'lost'").mark_text(text="×", color=INK, fontSize=13).encode(x=x, y=y, tooltip=tip),
        ]
    else:
        shown = [*arms, "control", "two arms"]
        hues = [*colours(arms).values(), INK, SHARED]
        fill = alt.Fill("side:N", scale=alt.Scale(domain=shown, range=hues), legend=None)
        layers.append(used.mark_rect(cornerRadius=3, opacity=0.85).encode(x=x, y=y, fill=fill, tooltip=tip))
    ring = used.transform_filter("datum.kind == 'control'")
    layers.append(ring.mark_rect(filled=False, stroke=INK, strokeWidth=1.5, cornerRadius=3).encode(x=x, y=y, tooltip=tip))
    return _finished(alt.layer(*layers), height=28 * rows if rows <= 8 else 16 * rows)


def limits_of(values: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest finite value, apart even where they are one."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if low < high else (low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9)


def difference_rows(comparisons: Mapping[str, Comparison], digits_of: float) -> list[dict[str, Any]]:
    """Rows of `differences` from comparisons by what they cover; pairs that were never compared are left out."""
    rows = []
    for over, comparison in comparisons.items():
        for gap in comparison.differences:
            if gap.measure == "mean" and np.isfinite(gap.effect):
                known = np.isfinite(gap.low)
                ends = f" ({spell(gap.effect_low, digits_of)} to {spell(gap.effect_high, digits_of)})" if known else ""
                rows.append({
                    "pair": f"{gap.first} {'÷' if gap.effect_kind == 'ratio' else '−'} {gap.second}", "over": over,
                    "effect": gap.effect, "low": gap.effect_low if known else None, "high": gap.effect_high if known else None,
                    "whole": over == "all rounds", "shown": f"{spell(gap.effect, digits_of)}{ends}",
                })  # fmt: skip
    return rows


def _scale(objective: Objective, domain: tuple[float, float] | None = None) -> alt.Scale:
    kind = {"type": "log"} if objective.transform != "identity" else {"type": "linear", "zero": False}
    return alt.Scale(**kind, nice=domain is None, **({"domain": list(domain)} if domain else {}))


def _by_arm(arms: Sequence[str]) -> alt.Color:
    known = colours(arms)
    return alt.Color("arm:N", scale=alt.Scale(domain=list(known), range=list(known.values())), legend=None)


def _tips(*names: str) -> list[alt.Tooltip]:
    titles = {"shown": "Measured", "promise": "Predicted"}
    return [alt.Tooltip(f"{name}:N", title=titles.get(name, name.capitalize())) for name in names]


def _finished(chart: alt.LayerChart, *, height: int) -> Spec:
    spec = chart.properties(width="container", height=height).to_dict(validate=True)
    spec.pop("$schema", None)  # an address; the page says itself that these are Vega-Lite
    return {**spec, "config": _CONFIG, "autosize": {"type": "fit-x", "contains": "padding"}}
