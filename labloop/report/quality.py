"""The report's section on quality control: what every plate's controls and wells say, and what flags and policies did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from labloop.assays.quality.plates import PlateQuality
from labloop.assays.quality.report import QualityReport
from labloop.assays.quality.statistics import Effect, Figure
from labloop.config.policies import MEANING, RATE
from labloop.report import figures
from labloop.report.figures import OKABE_ITO, Spec
from labloop.report.tables import NONE, Heading, Numbers, PageTable
from labloop.runtime.numbers import spelt
from labloop.space.objective import Objective


def plates(found: QualityReport, assay: str) -> PageTable:
    """One row a plate: how good its controls are, whether its place tells on a well, what was flagged."""
    columns = (
        Heading("Plate"), Heading("Designs", "number"),
        Heading("Z′", "number", "1 less three spreads of both controls over the gap between them; above 0.5 is a good assay"),
        Heading("Robust Z′", "number", "of medians and median deviations: one bad well does not spoil it"),
        Heading("Window", "number", "spreads of the positive control that fit between the two controls' bands"),
        Heading("Edge", "number", f"outer minus inner wells in robust standard deviations; ! where p is at most {RATE:g}"),
        Heading("Drift", "number", f"Spearman's ρ of value and order of reading; ! where p is at most {RATE:g}"),
        Heading("Flags", "small"),
    )  # fmt: skip
    rows = tuple(
        (
            one.plate, str(one.n_designs), figure(one.z_prime), figure(one.robust_z_prime), figure(one.window), effect(one.edge),
            effect(one.drift), ", ".join(f"{rule} {n}" for rule, n in found.flags_of(one).items()) or NONE,
        ) for one in found.plates if one.assay == assay
    )  # fmt: skip
    return PageTable(columns, rows)


def policies(found: QualityReport) -> PageTable:
    """What each rule flagged, what that means, and what its policy did to the dataset."""
    columns = (
        Heading("Rule"), Heading("What it says", "small"), Heading("Readings", "number"), Heading("Policy"),
        Heading("Dataset", "small"),
    )  # fmt: skip
    several = found.flags["assay"].nunique() > 1
    rows = tuple(
        (
            f"{one['rule']} ({one['assay']})" if several else one["rule"],
            MEANING[one["rule"]],
            str(one["readings"]),
            one["policy"],
            one["effect"],
        )
        for one in found.effects()
    )
    return PageTable(columns, rows)


def controls(found: QualityReport, assay: str, numbers: Numbers) -> PageTable:
    """Each control's level on each plate."""
    columns = (
        Heading("Plate"), Heading("Control"), Heading("Role"), Heading("Wells", "number"), Heading("Median", "number"),
        Heading("Mean", "number"), Heading("CV", "number", "standard deviation as a share of the mean"),
    )  # fmt: skip
    rows = tuple(
        (
            one.plate, level.name, level.role or NONE, str(level.n), numbers.value(level.median), numbers.value(level.mean),
            NONE if level.cv.value is None else f"{100 * level.cv.value:.1f} %",
        ) for one in found.plates if one.assay == assay for level in one.controls
    )  # fmt: skip
    return PageTable(columns, rows)


def sentences(found: QualityReport, assay: str) -> list[str]:
    """What there is to say beside the tables."""
    agree = found.replicates.get(assay)
    told = [found.surveys[assay].said] if assay in found.surveys else []
    told += [f"{found.n_used:,} readings are used, {found.n_dropped} left out and {found.n_downweighted} downweighted."]
    if agree is not None and agree.n_designs:
        told.append(
            f"Replicates: {agree.n_designs} designs were read more than once, pooled standard deviation {figure(agree.sd)}, "
            f"ICC {figure(agree.icc)}, on the scale that the campaign learns on."
        )
    else:
        told.append("No design was read more than once, so nothing tells the noise of a single well.")
    told.append(f"Normalisation: {found.normalised}.".replace("..", "."))
    if found.agreement is not None:
        both = f"{figure(found.agreement.before)} before and {figure(found.agreement.after)} after"
        told.append(f"Agreement of {found.agreement.n_groups} designs and controls across plates: ICC {both}.")
    whys = {why for one in found.plates if one.assay == assay for why in (one.z_prime.why, one.edge.why, one.drift.why) if why}
    return told + [f"{NONE} stands for: {why}." for why in sorted(whys)]


def flagged(found: QualityReport | None, assay: str) -> dict[tuple[str, str], str]:
    """The flags of each well, in words: plate and well to the rules."""
    if found is None or found.flags.empty:
        return {}
    flags = found.flags[(found.flags["assay"] == assay) & (found.flags["rule"] != "reread")]
    flags = flags[flags["plate"].notna() & flags["well"].notna()]
    told: dict[tuple[str, str], str] = {}
    for one in flags.to_dict("records"):
        key = (str(one["plate"]), str(one["well"]))
        told[key] = ", ".join(dict.fromkeys([*told.get(key, "").split(", "), str(one["rule"])])).strip(", ")
    return told


def levels(found: QualityReport, assay: str, objective: Objective, numbers: Numbers) -> Spec | None:
    """Every control's median over the plates, in the order in which they came in; None where there are no controls."""
    held = [(one, level) for one in found.plates if one.assay == assay for level in one.controls if level.median is not None]
    if objective.transform != "identity":
        held = [(one, level) for one, level in held if (level.median or 0) > 0]
    if not held:
        return None
    rows: list[dict[str, Any]] = [
        {
            "plate": one.plate,
            "control": level.name,
            "value": float(f"{level.median or 0:.5g}"),
            "shown": numbers.value(level.median),
        }
        for one, level in held
    ]
    return _drawn(rows, list(dict.fromkeys(one.plate for one, _ in held)), sorted({row["control"] for row in rows}), objective)


def _drawn(rows: list[dict[str, Any]], names: Sequence[str], kinds: Sequence[str], objective: Objective) -> Spec:
    log = objective.transform != "identity"
    ends = figures.limits_of([row["value"] for row in rows], log=log)
    x = alt.X("plate:N", sort=list(names), title=None, axis=alt.Axis(labelAngle=-30 if len(names) > 4 else 0, labelLimit=160))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(type="log" if log else "linear", domain=list(ends), nice=False))
    legend = alt.Legend(title=None, orient="top")
    colour = alt.Color("control:N", scale=alt.Scale(domain=list(kinds), range=list(OKABE_ITO[: len(kinds)])), legend=legend)
    tip = [
        alt.Tooltip("plate:N", title="Plate"),
        alt.Tooltip("control:N", title="Control"),
        alt.Tooltip("shown:N", title="Median"),
    ]
    base = alt.Chart(alt.NamedData(name="rows")).encode(x=x, y=y, color=colour, tooltip=tip)
    layers = [base.mark_line(strokeWidth=1.4, opacity=0.6), base.mark_point(filled=True, size=70, opacity=1)]
    return figures.finished(layers, 240, rows=rows)


def figure(value: Figure) -> str:
    """Two decimals, or a dash."""
    return NONE if value.value is None or not math.isfinite(value.value) else f"{value.value:.2f}".replace("-", "−")


def effect(found: Effect) -> str:
    """Its size, marked where chance does not explain it."""
    if found.size is None or found.p is None:
        return NONE
    return f"{found.size:+z.2f}{' !' * (found.p <= RATE)}".replace("-", "−")


def of_assay(found: QualityReport | None, assay: str) -> list[PlateQuality]:
    """The assay's plates."""
    return [] if found is None else [one for one in found.plates if one.assay == assay]


def others(frame: pd.DataFrame) -> PageTable:
    """Assays beside the objective's: what came in of each."""
    columns = (
        Heading("Assay"), Heading("Readings", "number"), Heading("Designs", "number"), Heading("Median", "number"),
        Heading("Unit"),
    )  # fmt: skip
    rows = tuple(
        (str(one["assay"]), str(one["readings"]), str(one["designs"]), spelt(one["median"]), str(one["unit"] or NONE))
        for one in frame.to_dict("records")
    )
    return PageTable(columns, rows)
