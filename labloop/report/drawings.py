"""The page's figures: which there are, and the rows that each is drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from altair.utils.schemapi import debug_mode

from labloop.compare.arms import LOST
from labloop.compare.results import ArmSummary, spell
from labloop.plates.wells import row_name
from labloop.report import best, figures, quality, tables
from labloop.report.facts import Facts, rounded, short
from labloop.report.figures import Spec
from labloop.report.tables import NONE, Numbers
from labloop.space.objective import Objective

PLATES = 12
"""Plates drawn, the latest first; a long campaign's page stays light."""


@dataclass(frozen=True, eq=False)
class Drawings:
    """Every figure, each under the name that the template draws it by."""

    facts: Facts

    @cached_property
    def specs(self) -> dict[str, Spec]:
        with debug_mode(False):  # a test holds whole specifications against the schema: each part of one takes long to check
            return self._specs()

    def _specs(self) -> dict[str, Spec]:
        found: dict[str, Spec] = {}
        if len(self.facts.designs):
            found["progress"] = self._progress()
        if len(self.facts.measured_rounds) > 1 and (rows := self._learning()):
            found["learning"] = figures.learning(
                rows, self._best_by_round(), arms=list(self.facts.arms), objective=self.facts.data.objective
            )
        if self.best is not None:
            found |= best.figures(self.best)
        if self.facts.measured_rounds:
            found["strips"] = self._strips(self.facts.measured_rounds[-1])
        if self.facts.promised:
            found["promised"] = self._promises(self.facts.promised)
        if rows := self._difference_rows():
            ratio = self.facts.data.objective.transform != "identity"
            found["differences"] = figures.differences(rows, ratio=ratio)
        found |= {name: spec for name, _, spec in self.predictions}
        for plate in self.plates:
            found |= plate["specs"]
        objective = self.facts.data.objective
        if self.facts.has_quality and self.facts.data.quality is not None:
            drawn = quality.levels(self.facts.data.quality, objective.assay, objective, self.facts.numbers)
            found |= {} if drawn is None else {"controls": drawn}
        return found

    def _progress(self) -> Spec:
        rounds = [r.number for r in self.facts.data.rounds]
        numbers, rows = self.facts.numbers, self.facts.readings
        start = rows[(rows["round"] == 0) & rows["y"].notna() & rows["design_id"].notna()]
        box: dict[str, Any] | None = None
        if len(start):
            marks = start["value"].quantile([0, 0.25, 0.5, 0.75, 1]).tolist()
            box = dict(zip(("low", "q1", "median", "q3", "high"), rounded(marks), strict=True))
            box["shown"] = f"{numbers.value(marks[2])} ({numbers.between(marks[1], marks[3])}), {len(start):,} readings"
        measured = self.facts.picks[self.facts.picks["value"].notna()]
        width = 0.74 / max(1, len(self.facts.arms))
        wells: list[dict[str, Any]] = []
        places: dict[tuple[Any, Any], list[tuple[float | None, str]]] = {}
        for i, arm in enumerate(self.facts.arms):
            for number, rows in measured[measured["arm"] == arm].groupby("round"):
                centre = float(number) + (i - (len(self.facts.arms) - 1) / 2) * width  # type: ignore[arg-type]
                at = [short(centre + offset) for offset in figures.spread_out(rows["value"], 0.7 * width)]
                wells += [{"x": x, **row} for x, row in zip(at, self.facts.tips(rows), strict=True)]
                for x, one in zip(at, rows["design_id"], strict=True):
                    places.setdefault((number, one), []).append((x, arm))
        line = self._best(places)
        waiting = [number for number in rounds if number not in self.facts.measured_rounds]
        return figures.progress(
            box, wells, line, waiting=waiting, rounds=rounds, arms=list(self.facts.arms), objective=self.facts.data.objective
        )

    def _best(self, places: Mapping[tuple[Any, Any], Sequence[tuple[float | None, str]]]) -> list[dict[str, Any]]:
        """The best design after each round, where the line turns: at the well of the arm that found it, the first of several.

        Args:
            places: by round and design, x of each arm's well and the arm.

        Returns:
            Rows with `x` and `value`, and with `label`, `design` and `arm` where a round found it; the last one ends the line.
        """
        line: list[dict[str, Any]] = []
        found = None
        for number in [0, *self.facts.measured_rounds]:
            so_far = self.facts.designs[self.facts.designs["round"] <= number]
            if len(so_far) and so_far.index[0] != found:
                top, found = so_far.iloc[0], so_far.index[0]
                there = places.get((number, found), [(float(number), "start data" if number == 0 else NONE)])
                line.append({
                    "x": there[0][0], "value": short(top["value"]), "label": self.facts.numbers.value(top["value"]),
                    "design": tables.text(top["design"]), "arm": " + ".join(arm for _, arm in there),
                })  # fmt: skip
        if line and self.facts.measured_rounds:
            line.append({"x": self.facts.measured_rounds[-1] + 0.45, "value": line[-1]["value"]})
        return line

    @cached_property
    def best(self) -> best.Best | None:
        """What the best designs have in common."""
        return best.best_of(self.facts.data.space, self.facts.data.designs, self.facts.designs.index)

    def _learning(self) -> list[dict[str, Any]]:
        """Each arm's mean of each round, as the round's comparison has it."""
        rows = []
        for number in self.facts.measured_rounds:
            known = self.facts.data.comparisons.get(number)
            rows += [{"round": number, **_mean(one, self.facts.numbers)} for one in known.arms if one.n_measured] if known else []
        return rows

    def _best_by_round(self) -> list[dict[str, Any]]:
        found = []
        for number in self.facts.measured_rounds:
            so_far = self.facts.designs[self.facts.designs["round"] <= number]
            if len(so_far):
                found.append({"round": number, "value": short(so_far["value"].iloc[0])})
        return found

    def _strips(self, number: int) -> Spec:
        rows = self.facts.picks[(self.facts.picks["round"] == number) & self.facts.picks["value"].notna()]
        wells = []
        for arm in self.facts.arms:
            mine = rows[rows["arm"] == arm]
            jitter = figures.spread_out(mine["value"], 1.0)
            wells += [{"jitter": short(at), **row} for at, row in zip(jitter, self.facts.tips(mine), strict=True)]
        known = self.facts.data.comparisons.get(number)
        means = [_mean(one, self.facts.numbers) for one in known.arms if one.n_measured] if known else []
        arms = [arm for arm in self.facts.arms if (rows["arm"] == arm).any()]
        return figures.strips(wells, means, self.facts.incumbent(number), arms=arms, objective=self.facts.data.objective)

    def _promises(self, number: int) -> Spec:
        rows = self.facts.picks[(self.facts.picks["round"] == number) & self.facts.picks["predicted"].notna()]
        wells = []
        for arm in self.facts.arms:
            mine = rows[rows["arm"] == arm]
            tips = self.facts.tips(mine, predictions=True)
            wells += [
                {**row, "value": row["mean"], "jitter": short(at)}
                for at, row in zip(figures.spread_out(mine["predicted"], 1.0), tips, strict=True)
            ]
        arms = [arm for arm in self.facts.arms if (rows["arm"] == arm).any()]
        at = self.facts.incumbent(number)
        return figures.strips(wells, [], at, arms=arms, objective=self.facts.data.objective, shown="promise")

    def _difference_rows(self) -> list[dict[str, Any]]:
        by = {f"round {n}": c for n, c in sorted(self.facts.data.comparisons.items())}
        if self.facts.data.overall is not None and len(by) > 1:
            by = {"all rounds": self.facts.data.overall, **by}
        rows = []
        for over, comparison in by.items():
            for one in comparison.differences:
                gap = comparison.of(one.first, one.second)  # of the arms, where the rounds allow it
                if one.measure == "mean" and one.scope == "plates" and np.isfinite(gap.effect):
                    ratio, half = gap.effect_kind == "ratio", (gap.effect_high - gap.effect_low) / 2
                    effect, low, high = (
                        spell(x, abs(x) if ratio else half) for x in (gap.effect, gap.effect_low, gap.effect_high)
                    )
                    rows.append({
                        "pair": f"{gap.first} {'÷' if ratio else '−'} {gap.second}", "over": over, "effect": short(gap.effect),
                        "low": short(gap.effect_low), "high": short(gap.effect_high),
                        "whole": over == "all rounds" or len(by) == 1,
                        "shown": f"{effect} ({low} to {high})" if np.isfinite(half) else f"{effect}, no interval",
                    })  # fmt: skip
        return rows

    @cached_property
    def predictions(self) -> list[tuple[str, str, Spec]]:
        rows = self.facts.picks[self.facts.picks["value"].notna() & self.facts.picks["predicted"].notna()]
        if rows.empty:
            return []
        limits = figures.limits_of([*rows["predicted"], *rows["value"]], log=self.facts.data.objective.transform != "identity")
        found = []
        for i, (arm, colour) in enumerate(self.facts.arms.items()):
            mine = rows[rows["arm"] == arm]
            if len(mine):
                spec = figures.predicted(self.facts.tips(mine, predictions=True), colour, limits, self.facts.data.objective)
                found.append((f"predicted{i}", arm, spec))
        return found

    @cached_property
    def plates(self) -> list[dict[str, Any]]:
        """Title, words, figures of each plate and what each of them shows, the latest plate first."""
        wells, shapes = self.facts.data.wells, {one.number: one.shape for one in self.facts.data.rounds}
        keys = wells[["round", "plate"]].drop_duplicates().sort_values(["round", "plate"], kind="stable").to_numpy().tolist()
        lead, *others = self._read
        found = []
        for i, (number, plate) in enumerate(reversed(keys)):
            if i == PLATES:
                break
            mine, shape = wells[wells["plate"] == plate].to_dict("records"), shapes[number]
            here = [self._well(well, lead) for well in mine]
            specs: dict[str, Spec] = {}
            names: dict[str, str] = {}
            for k, one in enumerate((lead, *others)):
                read = here if one is lead else [self._well(well, one) for well in mine]
                if any(well["value"] is not None for well in read):
                    name = f"plate{i}value{k or ''}"
                    specs[name] = figures.plate(read, shape, one.objective, limits=one.limits)
                    names |= {name: one.axis} if others else {}
            specs[f"plate{i}arm"] = figures.plate(here, shape, lead.objective, limits=lead.limits, arms=list(self.facts.arms))
            names |= {f"plate{i}arm": "arm"} if others else {}
            n = {kind: sum(well["kind"] == kind for well in here) for kind in ("well", "control", "lost")}
            held = len({well["design"] for well in here if well["kind"] != "control"})
            wells_of = n["well"] + n["lost"]
            parts = [f"{held} designs" + (f" in {wells_of} wells" if held < wells_of else ""), f"{n['control']} controls"]
            parts += [f"{n['lost']} lost"] if n["lost"] else []
            title = f"Round {int(number)}, plate {plate}"
            found.append({"title": title, "words": ", ".join(parts), "specs": specs, "names": names})
        return found

    @cached_property
    def _read(self) -> list[_Read]:
        """What was read in wells: of the leading property, then of the others."""
        data = self.facts.data
        drawn = list(zip(data.wells["plate"], data.wells["well"], strict=True))
        lead = "" if data.several is None else next(iter(data.several["goal"].properties), "")
        found = [_Read.of(lead, data.objective, self.facts.readings, drawn, self.facts.numbers)]
        return found + [_Read.of(name, one, rows, drawn, None) for name, (one, rows) in data.properties.items()]

    def _well(self, well: Mapping[str, Any], read: _Read) -> dict[str, Any]:
        status, value = read.by_well.get((well["plate"], well["well"]), ("", None))
        is_control = not pd.isna(well["control"])
        lost = value is None and status.startswith(LOST)
        arm = "control" if is_control else tables.text(well["arm"])
        return {
            "row": row_name(int(well["row"])), "column": int(well["column"]), "well": str(well["well"]),
            "value": short(value), "kind": "control" if is_control else "lost" if lost else "well", "arm": arm,
            "side": arm if arm in self.facts.arms or is_control else "several arms",
            "design": str(well["control"]) if is_control else tables.text(well["design"]),
            "shown": read.numbers.value(value) if value is not None else status.replace("_", " ") or "no result yet",
            "flag": self.facts.flagged.get((str(well["plate"]), str(well["well"]))),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Read:
    """What was read of one property."""

    name: str
    objective: Objective
    latest: pd.DataFrame
    """Its last reading of each plate and well."""
    limits: tuple[float, float]
    """Of the values on all plates, so that their colours compare."""
    numbers: Numbers

    @classmethod
    def of(
        cls, name: str, objective: Objective, rows: pd.DataFrame, drawn: list[tuple[str, str]], numbers: Numbers | None
    ) -> _Read:  # fmt: skip
        latest = rows.drop_duplicates(["plate", "well"], keep="last").set_index(["plate", "well"])
        values = latest["value"].loc[latest.index.isin(drawn)].astype(float)
        limits = figures.limits_of(values, log=objective.transform != "identity")
        return cls(
            name,
            objective,
            latest,
            limits,
            numbers or Numbers(objective, float(values.std()) if len(values.dropna()) > 1 else 0.0),
        )

    @cached_property
    def by_well(self) -> dict[tuple[Any, Any], tuple[str, float | None]]:
        """Status and value, None where it has none, by plate and well."""
        values = self.latest["value"].to_numpy(dtype=float, na_value=np.nan).tolist()
        told = zip(self.latest.index.tolist(), self.latest["status"].tolist(), values)
        return {key: (str(status), value if math.isfinite(value) else None) for key, status, value in told}

    @property
    def axis(self) -> str:
        """The property with its unit."""
        return f"{self.name}, {self.objective.unit}" if self.objective.unit else self.name


def _mean(one: ArmSummary, numbers: Numbers) -> dict[str, Any]:
    """An arm's mean with its 95 % interval, ends None where there is none."""
    has = np.isfinite(one.mean_value_low)
    ends = f" ({numbers.between(one.mean_value_low, one.mean_value_high)})" if has else ""
    return {
        "arm": one.arm, "value": short(one.mean_value), "low": short(one.mean_value_low), "high": short(one.mean_value_high),
        "shown": f"{numbers.value(one.mean_value)}{ends}",
    }  # fmt: skip
