"""The tables of a report: cells as people read them, each number with the decimals it deserves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from labloop.compare.figures import spell_apart
from labloop.compare.results import AgainstFree, ArmSummary, Calibration, Comparison, Difference, Overlap, spell
from labloop.compare.sentence import p_value
from labloop.runtime.numbers import spelt
from labloop.space.objective import Objective

NONE = "–"


@dataclass(frozen=True)
class Heading:
    """A column's title, how its cells look, and what it means where the title does not say it."""

    title: str
    kind: Literal["text", "number", "code", "arm", "small"] = "text"
    help: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table of the page: columns, and rows of text."""

    columns: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Numbers:
    """Writes values of one assay alike: decimals follow their spread, or three digits where they span decades."""

    objective: Objective
    spread: float

    @property
    def unit(self) -> str:
        """The lab's unit as it follows a title."""
        return f", {self.objective.unit}" if self.objective.unit else ""

    def value(self, x: float | None) -> str:
        if x is None or pd.isna(x):
            return NONE
        return spell(float(x), abs(float(x)) if self.objective.transform != "identity" else self.spread, digits=3)

    def y(self, x: float) -> str:
        """Write a difference of y: in the lab's unit, or in units of the logarithm."""
        text = spell(x, self.spread if self.objective.transform == "identity" else 0.1, digits=2)
        return f"+{text}" if math.isfinite(x) and x > 0 else text

    def between(self, low: float, high: float) -> str:
        return f"{self.value(low)} to {self.value(high)}" if math.isfinite(low) and math.isfinite(high) else NONE


def percent(rate: float) -> str:
    """Write a rate in per cent."""
    return f"{100 * rate:.0f} %" if math.isfinite(rate) else NONE


def seconds(spent: float | None) -> str:
    """Write a time as people say it."""
    if spent is None or pd.isna(spent):
        return NONE
    if spent < 90:
        return f"{spent:.0f} s" if spent >= 10 else f"{spent:.1f} s"
    return f"{spent / 60:.0f} min" if spent < 5400 else f"{spent / 3600:.1f} h"


def arms(summaries: Iterable[ArmSummary], numbers: Numbers, top_k: int, *, proposers: bool = False) -> PageTable:
    """What each arm, or each proposer of each arm, got from its wells."""
    summaries = tuple(summaries)
    limited = any(one.n_kept is not None for one in summaries)
    of = " that keep the limits" * limited
    columns = (
        Heading("Arm", "arm"),
        *((Heading("Proposer"),) if proposers else ()),
        Heading("Wells", "number", "measured of picked; the rest failed or has no result yet"),
        Heading(f"Mean{numbers.unit}", "number", "geometric where the campaign works on logarithms"),
        Heading("95 % interval", "number", "of the mean"),
        Heading(
            f"Top {top_k}{numbers.unit}", "number", f"mean of the {top_k} best wells{of}; an arm with more wells has it easier"
        ),
        Heading(f"Best{numbers.unit}", "number"),
        Heading("Hits", "number", "wells better than the best value that was known when the round was proposed"),
        Heading("Hit rate", "number", "with Wilson's 95 % interval"),
        *((Heading("Keep the limits", "number", "with Wilson's 95 % interval; top, best and hits are of these"),) * limited),
        Heading("Computing", "number", "seconds its proposers ran"),
    )
    rows = []
    for one in summaries:
        keep = f"{one.n_kept} of {one.n_measured} ({percent(one.keep_low)} to {percent(one.keep_high)})"
        rate = f"{percent(one.hit_rate)} ({percent(one.hit_low)} to {percent(one.hit_high)})" if one.n_hits is not None else NONE
        hits = f"{one.n_hits} of {one.n_measured}" if one.n_hits is not None else NONE
        rows.append((
            one.arm, *((one.proposer or NONE,) if proposers else ()), f"{one.n_measured} of {one.n_wells}",
            numbers.value(one.mean_value), numbers.between(one.mean_value_low, one.mean_value_high),
            numbers.value(one.top_mean_value), numbers.value(one.best_value), hits, rate, *((keep,) * limited),
            seconds(one.seconds),
        ))  # fmt: skip
    return PageTable(columns, tuple(rows))


def differences(comparison: Comparison) -> PageTable:
    """Every difference between two arms, with how its interval was made."""
    columns = (
        Heading("First", "arm"), Heading("Second", "arm"), Heading("Measure"),
        Heading("Of", "text", "these plates' wells, or the arms, with rounds as the sample"), Heading("Rounds"),
        Heading("First minus second", "number"), Heading("95 % interval", "number"),
        Heading("p", "number", "below .05 exactly where the interval leaves no difference out"),
        Heading("p, all looks", "number", "corrected for pairs of arms and for looking after every round: a verdict needs .05"),
        Heading("Needed", "number", "what would show a true difference of this size with 80 % power: wells an arm, or rounds"),
        Heading("How", "small"),
    )  # fmt: skip
    words = {"mean": "mean", "top_mean": f"top {comparison.top_k}", "hit_rate": "hit rate"}
    rows = []
    for gap in comparison.differences:
        scale = (gap.effect_high - gap.effect_low) / 2
        ratio, rate = gap.effect_kind == "ratio", gap.effect_kind == "rate"
        unit = "×" if ratio else "%" if rate else ""
        effect, low, high = (
            (f"{spell_apart(100 * x, 10.0)} {unit}" if math.isfinite(x) else NONE)
            if rate
            else f"{spell(x, abs(x) if ratio else scale)}{unit}"
            for x in (gap.effect, gap.effect_low, gap.effect_high)
        )
        rows.append((
            gap.first, gap.second, words[gap.measure], gap.scope, ", ".join(map(str, gap.rounds)) or NONE,
            effect.replace("-", "−"),
            f"{low} to {high}".replace("-", "−") if math.isfinite(scale) else NONE, _p(gap.p), _p(gap.p_looks),
            needed(gap), gap.method,
        ))  # fmt: skip
    return PageTable(columns, tuple(rows))


def needed(gap: Difference) -> str:
    """Say what would show a difference of this size."""
    if gap.scope == "arms":
        return f"{gap.rounds_needed} rounds" if gap.rounds_needed is not None else NONE
    return f"{gap.wells_needed:,} wells" if gap.wells_needed is not None else NONE


def against_free(entries: Sequence[AgainstFree], numbers: Numbers) -> PageTable:
    """Every other proposer against the best of the free baselines."""
    unit, logs = (numbers.unit, "") if numbers.objective.transform == "identity" else ("", " of logarithms")
    columns = (
        Heading("Arm", "arm"), Heading("Proposer"),
        Heading("Against", "text", "the free baseline that is hardest for it to beat"),
        Heading("Of", "text", "these plates' wells, or the proposers, with rounds as the sample"), Heading("Rounds"),
        Heading("Wells", "number"), Heading(f"Difference{unit}", "number", f"of means{logs}, in the direction of better"),
        Heading("95 % interval", "number"), Heading("p", "number"), Heading("p, all looks", "number"),
    )  # fmt: skip
    rows = tuple(
        (
            one.arm, one.proposer, one.baseline, one.scope, ", ".join(map(str, one.rounds)), f"{one.n} to {one.n_baseline}",
            numbers.y(one.estimate), f"{numbers.y(one.low)} to {numbers.y(one.high)}", _p(one.p), _p(one.p_looks),
        ) for one in entries
    )  # fmt: skip
    return PageTable(columns, rows)


def calibration(
    entries: Sequence[Calibration], numbers: Numbers, betas: Mapping[str, Sequence[float]] | None = None
) -> PageTable:
    """How the reference surrogate's stored predictions held up.

    Args:
        betas: by arm, those that its bounds were taken with.
    """
    logs = " (in logarithms)" if numbers.objective.transform != "identity" else numbers.unit
    columns = (
        Heading("Arm", "arm"), Heading("Wells", "number"), Heading("Within 1 std", "number", "a calibrated judge: 68 %"),
        Heading("Within 2 std", "number", "a calibrated judge: 95 %"),
        Heading("Better than the bound", "number", "readings better than what the design was worth at β standard deviations"),
        Heading("β of the bound", "number", "standard deviations on the worse side, in the order of rounds"),
        Heading("Spearman's ρ", "number", "of predicted and measured"),
        Heading(f"Over-optimism{logs}", "number", "predicted minus measured, in the direction of better"),
    )  # fmt: skip
    rows = tuple(
        (
            one.arm or "all arms", str(one.n), percent(one.within_1_std), percent(one.within_2_std), percent(one.above_lcb),
            beta(betas.get(one.arm, ()) if betas and one.arm else ()), spell(one.rho, 0.1), numbers.y(one.optimism),
        ) for one in entries
    )  # fmt: skip
    return PageTable(columns, rows)


def beta(found: Sequence[float]) -> str:
    """Say which β bounds were taken with: one, or the first and the last."""
    known = [spell(one, 1.0, digits=3) for one in found if math.isfinite(one)]
    return NONE if not known else known[0] if len(set(known)) == 1 else f"{known[0]} to {known[-1]}"


def overlaps(entries: Sequence[Overlap]) -> PageTable:
    """Designs that arms have in common."""
    columns = (
        Heading("First", "arm"), Heading("Second", "arm"), Heading("Among"), Heading("In both", "number"),
        Heading("First has", "number"), Heading("Second has", "number"), Heading("Jaccard", "number"),
    )  # fmt: skip
    rows = tuple(
        (o.first, o.second, o.of, str(o.n_shared), str(o.n_first), str(o.n_second), spell(o.jaccard, 0.1)) for o in entries
    )
    return PageTable(columns, rows)


def top(frame: pd.DataFrame, numbers: Numbers) -> PageTable:
    """The best designs, best first."""
    has_mean = "mean" in frame.columns
    columns = (
        Heading("", "number"), Heading("Design", "code"), Heading(f"Value{numbers.unit}", "number"),
        *((Heading(f"Predicted{numbers.unit}", "number", "by the judge before it was measured"),) if has_mean else ()),
        Heading("Round"), Heading("Arm", "arm"), Heading("Proposer"), Heading("Id", "small"),
    )  # fmt: skip
    rows = []
    for i, one in enumerate(frame.to_dict("records"), start=1):
        predicted = (numbers.value(_value(numbers.objective, one["mean"])),) if has_mean else ()
        rows.append((
            str(i), text(one["design"]), numbers.value(one["value"]), *predicted, round_name(one["round"]), text(one["arm"]),
            text(one["proposer"]), text(one["design_id"]),
        ))  # fmt: skip
    return PageTable(columns, tuple(rows))


def runs(frame: pd.DataFrame) -> PageTable:
    """How each batch was made."""
    columns = (
        Heading("Round"), Heading("Arm", "arm"), Heading("Proposer"), Heading("Time", "number"), Heading("Device"),
        Heading("Seed", "small"), Heading("Data fingerprint", "small"), Heading("Notes", "small"),
    )  # fmt: skip
    rows = tuple(
        (
            round_name(one["round"]), text(one["arm"]), text(one["proposer"]), seconds(one["seconds"]), text(one["device"]),
            text(one["seed"]), text(one["fingerprint"]), notes(one["notes"]),
        ) for one in frame.to_dict("records")
    )  # fmt: skip
    return PageTable(columns, rows)


def notes(told: Any, *, longest: int = 160) -> str:
    """Say what a proposer told of its work on one line, whether a mapping, its JSON or plain text."""
    if isinstance(told, str) and told.startswith("{"):
        with suppress(json.JSONDecodeError):
            told = json.loads(told)
    if isinstance(told, Mapping):
        told = ", ".join(f"{key} {_short(value)}" for key, value in told.items() if not isinstance(value, (list, tuple, Mapping)))
    line = text(told)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def text(cell: Any) -> str:
    """A cell as text, a dash where there is nothing."""
    if cell is None or cell == "" or pd.isna(cell):
        return NONE
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def round_name(number: Any) -> str:
    """Name a round; the start data have none, or 0."""
    return "start" if number is None or pd.isna(number) or int(number) == 0 else str(int(number))


def _value(objective: Objective, y: Any) -> float | None:
    return None if y is None or pd.isna(y) else float(objective.to_value(np.array([float(y)]))[0])


def _short(value: Any) -> str:
    return spelt(value) if isinstance(value, float) else str(value)


def _p(p: float) -> str:
    return p_value(p) if math.isfinite(p) else NONE
