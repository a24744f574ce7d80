"""The report's part on what the best designs have in common: letters by position, and options and ranges, among all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from labloop.report.facts import short
from labloop.report.figures import OKABE_ITO, SOFT, Spec, finished, grouped, row_of
from labloop.runtime.numbers import spelt
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.types import Array

SHARE, FEWEST, MOST = 0.1, 10, 60
"""The best are a tenth of what is measured, between these bounds."""
ENOUGH = 30
"""Measured designs without which the best are hardly set apart from the rest."""
POSITIONS = 40
"""Positions that are drawn, those that tell most."""
BINS = 4
FEW = 6
"""Numbers with so few different values are options."""
LEVELS = 40


@dataclass(frozen=True, kw_only=True)
class Best:
    """How often the best designs have what, and how often all measured ones do."""

    n: int
    of: int
    letters: tuple[dict[str, Any], ...]
    """`parameter`, `position` from 1, `letter`, `share`, `before` (of all), `bits`: of the position, by which the best differ."""
    levels: tuple[dict[str, Any], ...]
    """`parameter`, `level`, `share`, `before`."""


def best_of(space: DesignSpace | None, designs: pd.DataFrame, order: pd.Index[str]) -> Best | None:
    """Count letters, options and ranges; None where too few designs are measured.

    Args:
        designs: by design_id, with the space's columns.
        order: ids of the measured designs, the best first.
    """
    if space is None or len(order) < ENOUGH or not set(space.columns) <= set(designs.columns):
        return None
    rows = designs.reindex(order)[list(space.columns)]
    if rows.isna().any().any():  # columns of an earlier configuration
        return None
    n = min(MOST, max(FEWEST, round(SHARE * len(rows))))
    letters: list[dict[str, Any]] = []
    levels: list[dict[str, Any]] = []
    for parameter in space:
        if isinstance(parameter, Sequence):
            letters += _letters(parameter.name, rows[parameter.name].astype(str).tolist(), n)
        else:
            for column in parameter.columns:
                levels += _levels(str(column), rows[column], n)
    return Best(n=n, of=len(rows), letters=tuple(letters), levels=tuple(levels[:LEVELS]))


def _letters(name: str, texts: list[str], n: int) -> list[dict[str, Any]]:
    """Letters of the best at the positions that set them apart most; nothing where lengths differ."""
    if len({len(text) for text in texts}) != 1 or not texts[0]:
        return []
    table = np.array([list(text) for text in texts])
    found = []
    for place in range(table.shape[1]):
        kinds = np.unique(table[:, place])
        share, before = (_shares(some, kinds) for some in (table[:n, place], table[:, place]))
        bits = float(sum(p * math.log2(p / q) for p, q in zip(share, before, strict=True) if p > 0))
        rows = [
            {"parameter": name, "position": place + 1, "letter": str(letter), "share": p, "before": q, "bits": bits}
            for letter, p, q in zip(kinds.tolist(), share, before, strict=True)
        ]
        found.append((bits, place, rows))
    ahead = sorted(found, key=lambda one: -one[0])[:POSITIONS]
    return [row for _, _, rows in sorted(ahead, key=lambda one: one[1]) for row in rows]


def _shares(some: Array, kinds: Iterable[Any]) -> list[float]:
    return [float((some == one).mean()) for one in kinds]


def _levels(name: str, cells: pd.Series[Any], n: int) -> list[dict[str, Any]]:
    numbers = pd.to_numeric(cells, errors="coerce")
    if numbers.notna().all() and numbers.nunique() > FEW:
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)))
        names = [f"{spelt(low)} to {spelt(high)}" for low, high in pairwise(edges.tolist())]
        told = pd.Series(np.array(names, dtype=object)[np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, len(names) - 1)])
    else:
        whole = numbers.notna().all()
        told = pd.Series([f"{one:.10g}" for one in numbers] if whole else cells.astype(str).tolist(), dtype=object)
        names = [f"{one:.10g}" for one in sorted(numbers.unique())] if whole else sorted(told.unique())
    share, before = (_shares(some, names) for some in (told.to_numpy()[:n], told.to_numpy()))
    return [
        {"parameter": name, "level": level, "share": p, "before": q}
        for level, p, q in zip(names, share, before, strict=True)
    ]  # fmt: skip


def figures(told: Best) -> dict[str, Spec]:
    """Draw a logo a sequence, and the shares of options and ranges."""
    found = {
        f"logo{i}": _logo([row for row in told.letters if row["parameter"] == name])
        for i, name in enumerate(dict.fromkeys(row["parameter"] for row in told.letters))
    }
    if told.levels:
        found["levels"] = _shown(told.levels)
    return found


def _logo(rows: list[dict[str, Any]]) -> Spec:
    """Stack each position's letters, the commonest on top; a stack is as high as the position sets the best apart."""
    places = list(dict.fromkeys(row["position"] for row in rows))
    top = max(max(row["bits"] for row in rows), 0.2)
    stacked = []
    for place in places:
        low = 0.0
        for row in sorted((one for one in rows if one["position"] == place), key=lambda one: (one["share"], one["letter"])):
            high = low + row["share"] * row["bits"]
            if row["share"] > 0:
                stacked.append({
                    "position": place, "letter": row["letter"], "low": short(low), "high": short(high),
                    "middle": short((low + high) / 2), "legible": high - low > 0.065 * top,
                    "shown": f"{100 * row['share']:.0f} % of the best, {100 * row['before']:.0f} % of all measured",
                })  # fmt: skip
            low = high
    kinds = sorted({row["letter"] for row in stacked})
    colours = [OKABE_ITO[i % len(OKABE_ITO)] for i in range(len(kinds))]
    x = alt.X("position:O", title="position", axis=alt.Axis(labelAngle=0, labelOverlap=True, domain=False, ticks=False))
    scale = alt.Scale(domain=[0, short(1.05 * top)], nice=False)
    y = alt.Y("low:Q", title="bits", scale=scale, axis=alt.Axis(tickCount=4))
    fill = alt.Fill("letter:N", scale=alt.Scale(domain=kinds, range=colours), legend=None)
    tip = [alt.Tooltip("letter:N", title="Letter"), alt.Tooltip("shown:N", title="Share")]
    base = alt.Chart(alt.NamedData(name="rows"))
    layers = [
        base.mark_bar(stroke="white", strokeWidth=1, opacity=0.85).encode(x=x, y=y, y2="high:Q", fill=fill, tooltip=tip),
        base.transform_filter("datum.legible")
        .mark_text(color="white", fontWeight="bold", fontSize=13, baseline="middle")
        .encode(x=x, y=alt.Y("middle:Q", title="bits", scale=scale), text="letter:N", tooltip=tip),
    ]
    return finished(layers, 190, rows=stacked)


def _shown(levels: tuple[dict[str, Any], ...]) -> Spec:
    """A row a level: its share among the best (full) and among all measured (ring), in per cent."""
    rows, parts = [], []
    for name in dict.fromkeys(one["parameter"] for one in levels):
        parts.append(row_of(name))
        for one in levels:
            if one["parameter"] == name:
                parts.append(row_of(name, one["level"]))
                rows.append({
                    "key": parts[-1], "level": f"{name} {one['level']}",
                    "best": short(100 * one["share"]), "all": short(100 * one["before"]),
                    "shown": f"{100 * one['share']:.0f} % of the best, {100 * one['before']:.0f} % of all measured",
                    "more": one["share"] >= one["before"],
                })  # fmt: skip
    y = grouped(parts)
    scale = alt.Scale(domain=[0, max(5.0, max(max(row["best"], row["all"]) for row in rows) * 1.04)], nice=False)
    title = "share of designs, %"
    x, ring = (alt.X(f"{one}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6)) for one in ("best", "all"))
    tip = [alt.Tooltip("level:N", title="Level"), alt.Tooltip("shown:N", title="Share")]
    colour = alt.Color("more:N", scale=alt.Scale(domain=[True, False], range=["#0a5c7f", "#9aa5ad"]), legend=None)
    base = alt.Chart(alt.NamedData(name="rows"))
    layers = [
        base.mark_rule(strokeWidth=2).encode(x=ring, x2="best:Q", y=y, color=colour, tooltip=tip),
        base.mark_point(color=SOFT, fill="white", opacity=1, size=45).encode(x=ring, y=y, tooltip=tip),
        base.mark_point(filled=True, opacity=1, size=75).encode(x=x, y=y, color=colour, tooltip=tip),
    ]  # fmt: skip
    return finished(layers, 21 * len(parts), rows=rows)
