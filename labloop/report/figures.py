"""The figures of a report as Vega-Lite specifications, in the lab's unit. Same data, same specification.

Colours: arms take the Okabe and Ito palette in their order, which people of all colour visions tell apart; values take one ramp
of steadily falling lightness, which survives a black-and-white printer too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd

from labloop.plates.wells import row_name
from labloop.space.objective import Objective

INK, SOFT, FAINT = "#1d2730", "#66727d", "#d9dee2"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a7a00")
RAMP = ("#f0f3ec", "#c5ddcb", "#7dbdb9", "#3a86a4", "#1a4f7c", "#0c2749")
SHARED = "#7b7f86"
"""Wells of several arms."""
FLAGGED = "#D55E00"
"""The outline of wells that quality control flags."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_LABELLED = 4
"""Rounds, beyond which only the line's first and last figures are written out: more would stand in each other's way."""
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


def spread_out(values: pd.Series[float], width: float) -> list[float]:
    """Offsets that keep points of like value apart: steps of the golden ratio along their order, within ± width / 2."""
    order = values.rank(method="first").to_numpy(float)
    return ((order * 0.6180339887498949 % 1 - 0.5) * width).tolist()  # type: ignore[no-any-return]


def progress(
    start: Mapping[str, Any] | None, wells: Records, best: Records, *, waiting: Sequence[int], rounds: Sequence[int],
    arms: Sequence[str], objective: Objective,
) -> Spec:  # fmt: skip
    """Best so far by round, over each arm's wells.

    Args:
        start: `low`, `q1`, `median`, `q3`, `high` of the start data, or None.
        wells: `x` (round, set apart by arm), `value`, `arm` and texts to show.
        best: `x` and `value` of the line; `label`, `design` and `arm` where there is a marker.
        waiting: rounds without any result yet.
    """
    every = [row["value"] for row in [*wells, *best]] + ([start["low"], start["high"]] if start else [])
    y = alt.Y("value:Q", title=None, scale=_scale(objective, every), axis=alt.Axis(tickCount=6))
    x = alt.X(
        "x:Q", title=None, scale=alt.Scale(domain=[-0.5, max([0, *rounds]) + 0.5], nice=False),
        axis=alt.Axis(
            values=[0, *rounds], grid=False, ticks=False, domain=False, labelFontSize=13, labelColor=INK,
            labelExpr="datum.value == 0 ? 'start data' : 'round ' + datum.value",
        ),
    )  # fmt: skip
    layers = []
    if start is not None:
        base = _of("start").encode(x=x)
        tip = [alt.Tooltip("what:N", title="Wells"), alt.Tooltip("shown:N", title="Median (quartiles)")]
        thin = base.mark_rule(color="#aab3ba", strokeWidth=1.5).encode(y=alt.Y("low:Q", title=None), y2="high:Q", tooltip=tip)
        layers += [
            thin,
            base.mark_rule(color="#aab3ba", strokeWidth=14).encode(y="q1:Q", y2="q3:Q", tooltip=tip),
            base.mark_tick(color="white", thickness=2, size=14, orient="horizontal").encode(y="median:Q", tooltip=tip),
        ]
    points = _of("wells").mark_circle(size=34, opacity=0.6)
    layers.append(points.encode(x=x, y=y, color=_by_arm(arms), tooltip=_tips("design", "arm", "proposer", "shown")))
    line = _of("best").encode(x=x, y=y)
    found = _of("found").encode(x=x, y=y)
    tip_best = [
        alt.Tooltip("label:N", title="Best so far"), alt.Tooltip("design:N", title="Design"), alt.Tooltip("arm:N", title="Arm"),
    ]  # fmt: skip
    layers += [
        line.mark_line(interpolate="step-after", color=INK, strokeWidth=1.6),
        found.mark_point(color=INK, fill="white", opacity=1, size=60, strokeWidth=1.6).encode(tooltip=tip_best),
        found.mark_text(color=INK, dy=-13 if objective.sign > 0 else 15, fontSize=12, fontWeight="bold").encode(text="label:N"),
    ]
    place = _of("waiting").mark_text(text=["no", "results", "yet"], color=SOFT, fontSize=13)
    layers.append(place.encode(x=x, y=alt.value(170)))
    data: dict[str, Records] = {"waiting": [{"x": number} for number in waiting]}
    data |= {"start": [{"x": 0, "what": "start data", **start}] if start else [], "wells": wells}
    found_rows = [row for row in best if "label" in row]
    crowded = found_rows[1:-1] if len(rounds) > _LABELLED else []
    data["found"] = [{**row, "label": ""} if row in crowded else row for row in found_rows]
    return finished(layers, 340, best=best, **data)


def learning(rows: Records, best: Records, *, arms: Sequence[str], objective: Objective) -> Spec:
    """Each arm's mean by round with its 95 % interval as a band, and the best design known.

    Args:
        rows: `round`, `arm`, `value`, `low`, `high` (None where there is none), `shown`.
        best: `round` and `value` of the best design after it.
    """
    every = [row[end] for row in rows for end in ("value", "low", "high") if row[end] is not None]
    scale = alt.Scale(
        type=_kind(objective),
        domain=list(limits_of([*every, *(row["value"] for row in best)], log=_kind(objective) == "log")),
        nice=False,
    )
    rounds = sorted({row["round"] for row in rows})
    ticks = alt.Axis(values=rounds, format="d", grid=False, labelOverlap=True, labelExpr="'round ' + datum.value")
    x = alt.X("round:Q", title=None, scale=alt.Scale(domain=[rounds[0] - 0.15, rounds[-1] + 0.15], nice=False), axis=ticks)
    y = alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=6))
    colour = _by_arm(arms)
    tip = [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("round:Q", title="Round"),
        alt.Tooltip("shown:N", title="Mean (95 % interval)"),
    ]
    hues = colours(arms)
    fill = alt.Fill("arm:N", scale=alt.Scale(domain=list(hues), range=list(hues.values())), legend=None)
    layers = [
        _of("best").mark_line(interpolate="step-after", color=SOFT, strokeDash=[4, 3], strokeWidth=1.2).encode(x=x, y=y),
        _of("bands").mark_area(opacity=0.16).encode(x=x, y=alt.Y("low:Q", title=None, scale=scale), y2="high:Q", fill=fill),
        _of("bands")
        .mark_rule(strokeWidth=1.4, opacity=0.5)
        .encode(x=x, y=alt.Y("low:Q", title=None, scale=scale), y2="high:Q", color=colour),
        _of("rows").mark_line(strokeWidth=2.2).encode(x=x, y=y, color=colour),
        _of("rows").mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=colour, tooltip=tip),
    ]
    return finished(layers, 280, rows=rows, bands=[row for row in rows if row["low"] is not None], best=best)


def strips(
    wells: Records, means: Records, incumbent: float | None, *, arms: Sequence[str], objective: Objective, shown: str = "shown"
) -> Spec:
    """Each arm's wells of one round, measured or predicted, with mean and interval.

    Args:
        wells: `arm`, `value`, `jitter`, texts. means: `arm`, `value`, `low`, `high` (None where there is none), `shown`.
        incumbent: in the lab's unit.
    """
    y = alt.Y(
        "arm:N", sort=list(arms), title=None, scale=alt.Scale(paddingInner=0.25, paddingOuter=0.15),
        axis=alt.Axis(domain=False, ticks=False, labelFontSize=13, labelColor=INK, labelFontWeight="bold", labelLimit=140),
    )  # fmt: skip
    every = [row["value"] for row in [*wells, *means]] + ([] if incumbent is None else [incumbent])
    x = alt.X("value:Q", title=None, scale=_scale(objective, every), axis=alt.Axis(tickCount=7))
    offset = alt.YOffset("jitter:Q", scale=alt.Scale(domain=[-0.7, 0.7]))
    points = _of("wells").mark_circle(size=40, opacity=0.5)
    layers = [points.encode(x=x, y=y, yOffset=offset, color=_by_arm(arms), tooltip=_tips("design", "proposer", shown))]
    if incumbent is not None:
        mark = _of("incumbent").encode(x=x)
        layers += [
            mark.mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1),
            mark.mark_text(color=SOFT, y=-6, fontSize=11, align="center").encode(text="label:N"),
        ]
    tip = [alt.Tooltip("arm:N", title="Arm"), alt.Tooltip("shown:N", title="Mean (95 % interval)")]
    bars = _of("bars")
    # White below the dark lets the interval stand out from the wells behind it.
    for colour, extra in (("white", 4), (INK, 0)):
        layers.append(bars.mark_rule(color=colour, strokeWidth=2 + extra).encode(x=alt.X("low:Q", title=None), x2="high:Q", y=y))
    centre = _of("means").mark_point(color=INK, fill="white", opacity=1, size=75, strokeWidth=2)
    layers.append(centre.encode(x=x, y=y, tooltip=tip))
    bars_of = [mean for mean in means if mean["low"] is not None]
    known = [] if incumbent is None else [{"value": incumbent, "label": "incumbent"}]
    return finished(layers, max(1, len(arms)) * 78, wells=wells, means=means, bars=bars_of, incumbent=known)


def differences(rows: Records, *, ratio: bool) -> Spec:
    """Differences between pairs of arms with intervals, round by round and over all rounds.

    Args:
        rows: `pair`, `over` ("round 2", "all rounds"), `effect`, `low`, `high` (None where none), `shown`, and `whole`: whether
            the row stands out.
    """
    keys = [
        key for pair in dict.fromkeys(row["pair"] for row in rows)
        for key in (row_of(pair), *(row_of(pair, row["over"]) for row in rows if row["pair"] == pair))
    ]  # fmt: skip
    y = grouped(keys)
    ends = [end for row in rows for end in (row["low"], row["high"], row["effect"], 1 if ratio else 0) if end is not None]
    kind = alt.Scale(type="log" if ratio else "linear", domain=list(limits_of(ends, log=ratio)), nice=False)
    colour = alt.Color("whole:N", scale=alt.Scale(domain=[True, False], range=[INK, "#9aa5ad"]), legend=None)
    tip = [alt.Tooltip("pair:N", title="Arms"), alt.Tooltip("over:N", title="Over"), alt.Tooltip("shown:N", title="Difference")]
    ticks = alt.Axis(tickCount=6)
    zero = _of("zero").mark_rule(color=SOFT, strokeDash=[4, 3]).encode(x=alt.X("at:Q", title=None, scale=kind, axis=ticks))
    x = alt.X("effect:Q", title=None, scale=kind, axis=ticks)
    bars = _of("bars").mark_rule(strokeWidth=2.2)
    layers = [
        zero,
        bars.encode(x=alt.X("low:Q", title=None), x2="high:Q", y=y, color=colour, tooltip=tip),
        _of("rows").mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, color=colour, tooltip=tip),
    ]
    told = [{"key": row_of(row["pair"], row["over"]), **row} for row in rows]
    known = [row for row in told if row["low"] is not None]
    return finished(layers, 21 * len(keys), rows=told, bars=known, zero=[{"at": 1 if ratio else 0}])


_BETWEEN = "\u001f"


def row_of(group: str, row: str = "") -> str:
    """Name a row of a grouped axis: under its group's own, which holds nothing."""
    return f"{group}{_BETWEEN}{row}"


def grouped(keys: Sequence[str]) -> alt.Y:
    """Make an axis of groups and their rows: labels stand beside the figure, where no mark and no line crosses them."""
    head = f"indexof(datum.value, '{_BETWEEN}') === length(datum.value) - 1"
    label = f"split(datum.value, '{_BETWEEN}')[{head} ? 0 : 1]"
    look: Spec = {"labelFontWeight": {"condition": {"test": head, "value": "bold"}, "value": "normal"}}
    axis = alt.Axis(domain=False, ticks=False, grid=False, labelLimit=170, labelColor=INK, labelExpr=label, **look)
    return alt.Y("key:N", title=None, scale=alt.Scale(domain=list(keys)), axis=axis)


def predicted(rows: Records, colour: str, limits: tuple[float, float], objective: Objective) -> Spec:
    """One arm's measured values against the reference surrogate's predictions, mean and one standard deviation.

    Args:
        rows: `mean`, `low`, `high`, `value` and texts. limits: the same for all arms, so that panels compare.
    """
    scale = alt.Scale(type=_kind(objective), domain=list(limits), nice=False)
    x, y = alt.X("mean:Q", title="predicted", scale=scale), alt.Y("value:Q", title="measured", scale=scale)
    base = _of("rows")
    tip = _tips("design", "proposer", "round", "promise", "shown")
    layers = [
        _of("ends").mark_line(color="#b4bcc3", strokeDash=[4, 3], strokeWidth=1).encode(x=x, y=y),
        base.mark_rule(color=colour, opacity=0.22, strokeWidth=1.2, clip=True).encode(
            x=alt.X("low:Q", title="predicted"), x2="high:Q", y=y
        ),
        base.mark_circle(color=colour, opacity=0.75, size=36, clip=True).encode(x=x, y=y, tooltip=tip),
    ]
    return finished(layers, 250, rows=rows, ends=[{"mean": end, "value": end} for end in limits])


def plate(
    wells: Records,
    shape: tuple[int, int],
    objective: Objective,
    *,
    limits: tuple[float, float],
    arms: Sequence[str] | None = None,
) -> Spec:
    """A plate's wells by value, or by arm where `arms` are given.

    Args:
        wells: `row` (letter), `column`, `value` (None where none), `kind` (well, control, lost), `arm`, `flag` (what quality
            control says of it, or None) and texts.
    """
    rows, columns = shape
    letters = [row_name(row) for row in range(1, rows + 1)]
    look: Spec = {"labelFontSize": 10 if rows <= 8 else 8, "domain": False, "ticks": False, "grid": False, "labelPadding": 3}
    x = alt.X(
        "column:O", title=None, scale=alt.Scale(domain=list(range(1, columns + 1)), padding=0.07),
        axis=alt.Axis(orient="top", labelAngle=0, labelOverlap=True, **look),
    )  # fmt: skip
    y = alt.Y("row:O", title=None, scale=alt.Scale(domain=letters, padding=0.07), axis=alt.Axis(**look))
    tip = _tips("well", "design", "arm", "shown", "flag")
    used = _of("wells")
    ground = [{"row": letter, "column": column} for letter in letters for column in range(1, columns + 1)]
    layers = [_of("ground").mark_rect(fill="#f6f7f8", cornerRadius=3).encode(x=x, y=y)]
    if arms is None:
        ramp = list(RAMP) if objective.sign > 0 else list(reversed(RAMP))
        bar = alt.Legend(
            title=None, orient="bottom", direction="horizontal", gradientLength=180, gradientThickness=8, tickCount=4
        )
        fill = alt.Fill(
            "value:Q", scale=alt.Scale(domain=list(limits), range=ramp, type=_kind(objective), clamp=True), legend=bar
        )
        measured, lost = used.transform_filter("datum.value != null"), used.transform_filter("datum.value == null")
        layers += [
            measured.mark_rect(cornerRadius=3).encode(x=x, y=y, fill=fill, tooltip=tip),
            lost.mark_rect(fill="#e6e9ec", cornerRadius=3).encode(x=x, y=y, tooltip=tip),
            used.transform_filter("datum.kind == 'lost'")
            .mark_text(text="×", color=INK, fontSize=13)
            .encode(x=x, y=y, tooltip=tip),
        ]
    else:
        shown = [*arms, "control", "several arms"]
        hues = [*colours(arms).values(), INK, SHARED]
        fill = alt.Fill("side:N", scale=alt.Scale(domain=shown, range=hues), legend=None)
        layers.append(used.mark_rect(cornerRadius=3, opacity=0.85).encode(x=x, y=y, fill=fill, tooltip=tip))
    if arms is None:
        flagged = used.transform_filter("datum.flag != null")
        layers.append(
            flagged.mark_rect(filled=False, stroke=FLAGGED, strokeWidth=2, cornerRadius=3).encode(x=x, y=y, tooltip=tip)
        )
    ring = used.transform_filter("datum.kind == 'control'")
    layers.append(ring.mark_rect(filled=False, stroke=INK, strokeWidth=1.5, cornerRadius=3).encode(x=x, y=y, tooltip=tip))
    return finished(layers, (28 if rows <= 8 else 16 if rows <= 16 else 12) * rows, wells=wells, ground=ground)


def limits_of(values: Iterable[float], *, log: bool = False) -> tuple[float, float]:
    """Smallest and largest finite value with a little room, apart even where they are one."""
    known = np.asarray(list(values), dtype=float)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if log:
        room = max(1.05, (high / low) ** 0.07)
        return low / room, high * room
    room = 0.03 * (high - low) or 0.1 * abs(low) or 1.0
    return low - room, high + room


def _kind(objective: Objective) -> Literal["linear", "log"]:
    return "linear" if objective.transform == "identity" else "log"


def _scale(objective: Objective, values: Sequence[float]) -> alt.Scale:
    """Round ends for plain numbers; a logarithm's round ends are whole decades, so there the values' own."""
    if objective.transform == "identity":
        return alt.Scale(type="linear", zero=False, nice=True)
    return alt.Scale(type="log", domain=list(limits_of(values, log=True)), nice=False)


def _by_arm(arms: Sequence[str]) -> alt.Color:
    known = colours(arms)
    return alt.Color("arm:N", scale=alt.Scale(domain=list(known), range=list(known.values())), legend=None)


def _tips(*names: str) -> list[alt.Tooltip]:
    titles = {"shown": "Measured", "promise": "Predicted"}
    return [alt.Tooltip(f"{name}:N", title=titles.get(name, name.capitalize())) for name in names]


def _of(name: str) -> alt.Chart:
    """A chart of one of the specification's named tables; the rows themselves stay out of Altair, which copies them often."""
    return alt.Chart(alt.NamedData(name=name))


def finished(layers: Sequence[alt.Chart], height: int, **tables: Records) -> Spec:
    """Layer charts into a specification of Vega-Lite with its tables inside."""
    # Checking a specification against the schema takes longer than all the rest; a test does it instead. And `alt.layer` copies
    # every layer four times over to find parameters that two of them share: there are none here.
    told = [layer.to_dict(validate=False, context={"top_level": False}) for layer in layers]
    named = {name: [dict(row) for row in rows] for name, rows in tables.items()}
    fit = {"type": "fit-x", "contains": "padding"}
    return {"config": _CONFIG, "layer": told, "height": height, "width": "container", "datasets": named, "autosize": fit}
