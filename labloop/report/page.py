"""The page: what `ReportData` holds, said in words, tables and figures, all in one file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import vl_convert
from markupsafe import Markup

from labloop.compare.arms import LOST
from labloop.compare.results import Comparison, spell
from labloop.report import figures, quality, tables
from labloop.report.data import ReportData
from labloop.report.figures import Spec
from labloop.report.tables import NONE, Numbers
from labloop.types import FloatArray

PLATES = 12
"""Plates drawn, the latest first; a long campaign's page stays light."""
_HERE = Path(__file__).parent
_DRAW = """
for (const place of document.querySelectorAll("[data-figure]")) {
  const spec = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  vegaEmbed(place, spec, {mode: "vega-lite", renderer: "svg", actions: false, ast: true});
}
"""


def render(data: ReportData) -> str:
    """Make the page's HTML."""
    view = View(data)
    return document("page.html", view.figures, data=data, view=view)


def document(template: str, figures: Mapping[str, Spec], **shown: Any) -> str:
    """Fill a template of this folder in, with figures by name.

    Its own policy forbids the browser to ask the network for anything, and to run any other script.
    """
    script = _library()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    specs = {name: _json(spec) for name, spec in figures.items()}
    style = Markup((_HERE / "style.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(specs=specs, style=style, script=Markup(script), policy=policy, **shown)


def picture(data: ReportData, name: str) -> bytes | None:
    """Draw one of the page's figures as a PNG; None where the data have none of this name."""
    spec = View(data).figures.get(name)
    return None if spec is None else bytes(vl_convert.vegalite_to_png({**spec, "width": 640, "background": "white"}, scale=1.5))


@lru_cache(maxsize=1)
def _library() -> str:
    """Vega, Vega-Lite, Vega-Embed and the lines that draw every figure, as one script; bundling takes a second."""
    return str(vl_convert.javascript_bundle(_DRAW)).replace("</script", "<\\/script")


def _json(spec: Mapping[str, Any]) -> Markup:
    """JSON that cannot end its script element, whatever a design is called."""
    return Markup(json.dumps(spec, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


@dataclass(frozen=True, eq=False)
class View:
    """Everything the template shows, ready to print."""

    data: ReportData

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Readings with `round` 0 for the start data, controls included."""
        rows = self.data.measurements
        return rows.assign(
            round=pd.to_numeric(rows["round"]).fillna(0).astype(int), y=pd.to_numeric(rows["y"]).astype(float),
            value=pd.to_numeric(rows["value"]).astype(float), status=rows["status"].fillna("").astype(str),
        )  # fmt: skip

    @cached_property
    def picks(self) -> pd.DataFrame:
        """Picks with predictions and readings in the lab's unit, `value` NaN where there is none."""
        rows = self.data.picks
        numbers = {column: pd.to_numeric(rows[column]).astype(float) for column in ("mean", "std", "lcb", "y")}
        rows = rows.assign(round=rows["round"].astype(int), arm=rows["arm"].astype(str), **numbers)

        def value(y: pd.Series[float]) -> FloatArray:
            return self.data.objective.to_value(y.to_numpy(float))

        ends = np.sort([value(rows["mean"] - rows["std"]), value(rows["mean"] + rows["std"])], axis=0)
        return rows.assign(value=value(rows["y"]), predicted=value(rows["mean"]), low=ends[0], high=ends[1])

    @cached_property
    def designs(self) -> pd.DataFrame:
        """Measured designs with mean value and y and the first round, bounds that tell of no success aside; best first."""
        worse = "censored_low" if self.data.objective.sign > 0 else "censored_high"
        rows = self.readings[self.readings["y"].notna() & self.readings["design_id"].notna()]
        rows = rows[rows["status"] != worse]
        by = rows.groupby("design_id", sort=True).agg(
            y=("y", "mean"), value=("value", "mean"), round=("round", "min"), design=("design", "first")
        )
        return by.sort_values("y", ascending=False, kind="stable")

    @cached_property
    def numbers(self) -> Numbers:
        value = self.readings.loc[self.readings["value"].notna(), "value"]
        return Numbers(self.data.objective, float(value.std()) if len(value) > 1 else 0.0)

    @cached_property
    def arms(self) -> dict[str, str]:
        """Each arm's colour, in the order of their first picks."""
        return figures.colours(list(dict.fromkeys(self.picks["arm"])))

    @cached_property
    def measured_rounds(self) -> list[int]:
        return sorted(self.picks.loc[self.picks["y"].notna(), "round"].unique().tolist())

    @property
    def comparison(self) -> Comparison | None:
        """The comparison that leads: over all rounds, else the latest."""
        latest = max(self.data.comparisons, default=None)
        return self.data.overall or (self.data.comparisons[latest] if latest is not None else None)

    @property
    def verdict(self) -> str:
        if self.comparison is not None:
            return self.comparison.sentence
        if self.data.rounds:
            last = self.data.rounds[-1]
            return f"Round {last.number} has {last.n_picks} picks and no result yet, so there is nothing to compare."
        return "No round has been proposed yet: this page shows the start data alone."

    @property
    def sentences(self) -> list[tuple[int, str]]:
        """What each round said by itself; the verdict says it already where there is one round."""
        return [(n, c.sentence) for n, c in sorted(self.data.comparisons.items())] if len(self.data.comparisons) > 1 else []

    def tiles(self) -> list[tuple[str, str, str, str]]:
        """Label, figure, what it is about, and whether that is a design."""
        unit = f" {self.data.objective.unit}" if self.data.objective.unit else ""
        start = self.designs[self.designs["round"] == 0]
        found = []
        if len(self.designs):
            best = self.designs.iloc[0]
            found.append(("Best so far", f"{self.numbers.value(best['value'])}{unit}", tables.text(best["design"]), "code"))
        first = self.numbers.value(start["value"].iloc[0]) + unit if len(start) else NONE
        found.append(("Best at the start", first, f"of {len(start):,} designs", ""))
        planned = f" of {self.data.planned_rounds}" if self.data.planned_rounds else ""
        states = [f"round {r.number} {r.state.lower()}" for r in self.data.rounds[-1:]]
        found.append(("Rounds measured", f"{len(self.measured_rounds)}{planned}", states[0] if states else "none proposed", ""))
        wells = self.picks.drop_duplicates(["round", "design_id"])
        lost = int(wells["status"].astype(str).str.startswith(LOST).sum())
        waiting = int(wells["y"].isna().sum()) - lost
        rest = ", ".join([f"{n} {word}" for n, word in ((lost, "lost"), (waiting, "without result")) if n]) or "none lost"
        found.append(("Designs measured", f"{int(wells['y'].notna().sum())}", rest, ""))
        return found

    @property
    def axis(self) -> str:
        """What is measured, in what unit, and which way is better."""
        o = self.data.objective
        return f"{o.assay}{f', {o.unit}' if o.unit else ''}: {'lower' if o.direction == 'min' else 'higher'} is better"

    @property
    def axis_of_differences(self) -> str:
        o = self.data.objective
        side = "below" if o.direction == "min" else "above"
        if o.transform != "identity":
            return f"ratio of geometric means: {side} 1 the first arm is better"
        return f"difference of means{f', {o.unit}' if o.unit else ''}: {side} 0 the first arm is better"

    # Figures, each under the name that the template draws it by

    @cached_property
    def figures(self) -> dict[str, Spec]:
        found: dict[str, Spec] = {}
        if len(self.designs):
            found["progress"] = self._progress()
        if self.measured_rounds:
            found["strips"] = self._strips(self.measured_rounds[-1])
        if self.promised:
            found["promised"] = self._promises(self.promised)
        if rows := self._difference_rows():
            ratio = self.data.objective.transform != "identity"
            found["differences"] = figures.differences(rows, ratio=ratio)
        found |= {name: spec for name, _, spec in self._predictions}
        for plate in self.plates:
            found |= plate["specs"]
        if self.has_quality and self.data.quality is not None:
            drawn = quality.levels(self.data.quality, self.data.objective.assay, self.data.objective, self.numbers)
            found |= {} if drawn is None else {"controls": drawn}
        return found

    @property
    def has_quality(self) -> bool:
        """Whether there is a plate to judge, or a flag to explain."""
        found = self.data.quality
        return found is not None and (len(found.flags) > 0 or bool(quality.of_assay(found, self.data.objective.assay)))

    @property
    def quality_words(self) -> list[str]:
        return [] if self.data.quality is None else quality.sentences(self.data.quality, self.data.objective.assay)

    @cached_property
    def _flagged(self) -> dict[tuple[str, str], str]:
        return quality.flagged(self.data.quality, self.data.objective.assay)

    def _progress(self) -> Spec:
        rounds = [r.number for r in self.data.rounds]
        start = self.readings[(self.readings["round"] == 0) & self.readings["y"].notna() & self.readings["design_id"].notna()]
        box: dict[str, Any] | None = None
        if len(start):
            marks = start["value"].quantile([0, 0.25, 0.5, 0.75, 1]).tolist()
            box = dict(zip(("low", "q1", "median", "q3", "high"), _rounded(marks), strict=True))
            box["shown"] = f"{self.numbers.value(marks[2])} ({self.numbers.between(marks[1], marks[3])}), {len(start):,} readings"
        measured = self.picks[self.picks["value"].notna()]
        width = 0.74 / max(1, len(self.arms))
        wells: list[dict[str, Any]] = []
        places: dict[tuple[Any, Any], list[tuple[float | None, str]]] = {}
        for i, arm in enumerate(self.arms):
            for number, rows in measured[measured["arm"] == arm].groupby("round"):
                centre = float(number) + (i - (len(self.arms) - 1) / 2) * width  # type: ignore[arg-type]
                at = [_round(centre + offset) for offset in figures.spread_out(rows["value"], 0.7 * width)]
                wells += [{"x": x, **row} for x, row in zip(at, self._tips(rows), strict=True)]
                for x, one in zip(at, rows["design_id"], strict=True):
                    places.setdefault((number, one), []).append((x, arm))
        best = self._best(places)
        waiting = [number for number in rounds if number not in self.measured_rounds]
        return figures.progress(
            box, wells, best, waiting=waiting, rounds=rounds, arms=list(self.arms), objective=self.data.objective
        )

    def _best(self, places: Mapping[tuple[Any, Any], Sequence[tuple[float | None, str]]]) -> list[dict[str, Any]]:
        """The best design after each round, where the line turns: at the well of the arm that found it, the first of several.

        Args:
            places: by round and design, x of each arm's well and the arm.

        Returns:
            Rows with `x` and `value`, and with `label`, `design` and `arm` where a round found it; the last one ends the line.
        """
        best: list[dict[str, Any]] = []
        found = None
        for number in [0, *self.measured_rounds]:
            so_far = self.designs[self.designs["round"] <= number]
            if len(so_far) and so_far.index[0] != found:
                top, found = so_far.iloc[0], so_far.index[0]
                there = places.get((number, found), [(float(number), "start data" if number == 0 else NONE)])
                best.append({
                    "x": there[0][0], "value": _round(top["value"]), "label": self.numbers.value(top["value"]),
                    "design": tables.text(top["design"]), "arm": " + ".join(arm for _, arm in there),
                })  # fmt: skip
        if best and self.measured_rounds:
            best.append({"x": self.measured_rounds[-1] + 0.45, "value": best[-1]["value"]})
        return best

    def _strips(self, number: int) -> Spec:
        rows = self.picks[(self.picks["round"] == number) & self.picks["value"].notna()]
        wells, means = [], []
        for arm in self.arms:
            mine = rows[rows["arm"] == arm]
            jitter = figures.spread_out(mine["value"], 1.0)
            wells += [{"jitter": _round(at), **row} for at, row in zip(jitter, self._tips(mine), strict=True)]
        known = self.data.comparisons.get(number)
        for one in known.arms if known else ():
            if one.n_measured:
                has = np.isfinite(one.mean_value_low)
                ends = f" ({self.numbers.between(one.mean_value_low, one.mean_value_high)})" if has else ""
                means.append({
                    "arm": one.arm, "value": _round(one.mean_value), "low": _round(one.mean_value_low),
                    "high": _round(one.mean_value_high), "shown": f"{self.numbers.value(one.mean_value)}{ends}",
                })  # fmt: skip
        arms = [arm for arm in self.arms if (rows["arm"] == arm).any()]
        return figures.strips(wells, means, self._incumbent(number), arms=arms, objective=self.data.objective)

    @cached_property
    def promised(self) -> int | None:
        """The latest round, where it has predictions and no result yet."""
        last = int(self.picks["round"].max()) if len(self.picks) else 0
        waits = last not in self.measured_rounds and self.picks.loc[self.picks["round"] == last, "predicted"].notna().any()
        return last if last and waits else None

    def _promises(self, number: int) -> Spec:
        rows = self.picks[(self.picks["round"] == number) & self.picks["predicted"].notna()]
        wells = []
        for arm in self.arms:
            mine = rows[rows["arm"] == arm]
            tips = self._tips(mine, predictions=True)
            wells += [
                {**row, "value": row["mean"], "jitter": _round(at)}
                for at, row in zip(figures.spread_out(mine["predicted"], 1.0), tips, strict=True)
            ]
        arms = [arm for arm in self.arms if (rows["arm"] == arm).any()]
        at = self._incumbent(number)
        return figures.strips(wells, [], at, arms=arms, objective=self.data.objective, shown="promise")

    def _incumbent(self, number: int) -> float | None:
        y = next((r.incumbent for r in self.data.rounds if r.number == number), np.nan)
        return _round(float(self.data.objective.to_value(np.array([y]))[0]))

    def _difference_rows(self) -> list[dict[str, Any]]:
        by = {f"round {n}": c for n, c in sorted(self.data.comparisons.items())}
        if self.data.overall is not None and len(by) > 1:
            by = {"all rounds": self.data.overall, **by}
        rows = []
        for over, comparison in by.items():
            for gap in comparison.differences:
                if gap.measure == "mean" and np.isfinite(gap.effect):
                    ratio, half = gap.effect_kind == "ratio", (gap.effect_high - gap.effect_low) / 2
                    effect, low, high = (
                        spell(x, abs(x) if ratio else half) for x in (gap.effect, gap.effect_low, gap.effect_high)
                    )
                    rows.append({
                        "pair": f"{gap.first} {'÷' if ratio else '−'} {gap.second}", "over": over, "effect": _round(gap.effect),
                        "low": _round(gap.effect_low), "high": _round(gap.effect_high),
                        "whole": over == "all rounds" or len(by) == 1,
                        "shown": f"{effect} ({low} to {high})" if np.isfinite(half) else f"{effect}, no interval",
                    })  # fmt: skip
        return rows

    @cached_property
    def _predictions(self) -> list[tuple[str, str, Spec]]:
        rows = self.picks[self.picks["value"].notna() & self.picks["predicted"].notna()]
        if rows.empty:
            return []
        limits = figures.limits_of([*rows["predicted"], *rows["value"]], log=self.data.objective.transform != "identity")
        found = []
        for i, (arm, colour) in enumerate(self.arms.items()):
            mine = rows[rows["arm"] == arm]
            if len(mine):
                spec = figures.predicted(self._tips(mine, predictions=True), colour, limits, self.data.objective)
                found.append((f"predicted{i}", arm, spec))
        return found

    @property
    def panels(self) -> list[tuple[str, str, str]]:
        """Figure, arm and what its points amount to."""
        known = {one.arm: one for one in self.comparison.calibration} if self.comparison else {}
        return [
            (name, arm, f"ρ = {spell(known[arm].rho, 0.1)}, {known[arm].n} wells" if arm in known else "")
            for name, arm, _ in self._predictions
        ]

    @cached_property
    def plates(self) -> list[dict[str, Any]]:
        """Title, figures and words of each plate, the latest first."""
        wells = self.data.wells
        keys = wells[["round", "plate"]].drop_duplicates().sort_values(["round", "plate"], kind="stable").to_numpy().tolist()
        rows, columns = self.data.plate_shape
        latest = self.readings.drop_duplicates(["plate", "well"], keep="last").set_index(["plate", "well"])
        drawn = latest.index.isin(list(zip(wells["plate"], wells["well"], strict=True)))
        limits = figures.limits_of(latest["value"].loc[drawn], log=self.data.objective.transform != "identity")
        found = []
        for i, (number, plate) in enumerate(reversed(keys)):
            if i == PLATES:
                break
            here = [self._well(well, latest) for well in wells[wells["plate"] == plate].to_dict("records")]
            specs = {}
            if any(well["value"] is not None for well in here):
                specs[f"plate{i}value"] = figures.plate(here, (rows, columns), self.data.objective, limits=limits)
            specs[f"plate{i}arm"] = figures.plate(here, (rows, columns), self.data.objective, limits=limits, arms=list(self.arms))
            n = {kind: sum(well["kind"] == kind for well in here) for kind in ("well", "control", "lost")}
            parts = [f"{n['well'] + n['lost']} designs", f"{n['control']} controls"] + (
                [f"{n['lost']} lost"] if n["lost"] else []
            )
            found.append({"title": f"Round {int(number)}, plate {plate}", "words": ", ".join(parts), "specs": specs})
        return found

    @property
    def plates_left_out(self) -> int:
        return max(0, len(self.data.wells[["round", "plate"]].drop_duplicates()) - PLATES)

    def _well(self, well: Mapping[str, Any], latest: pd.DataFrame) -> dict[str, Any]:
        key = (well["plate"], well["well"])
        reading = latest.loc[key] if key in latest.index else None
        status = "" if reading is None else str(reading["status"])
        value = None if reading is None or not np.isfinite(reading["value"]) else float(reading["value"])
        is_control = not pd.isna(well["control"])
        lost = value is None and status.startswith(LOST)
        arm = "control" if is_control else tables.text(well["arm"])
        return {
            "row": "ABCDEFGHIJKLMNOP"[int(well["row"]) - 1], "column": int(well["column"]), "well": str(well["well"]),
            "value": _round(value), "kind": "control" if is_control else "lost" if lost else "well", "arm": arm,
            "side": arm if arm in self.arms or is_control else "several arms",
            "design": str(well["control"]) if is_control else tables.text(well["design"]),
            "shown": self.numbers.value(value) if value is not None else status.replace("_", " ") or "no result yet",
            "flag": self._flagged.get((str(well["plate"]), str(well["well"]))),
        }  # fmt: skip

    def _tips(self, rows: pd.DataFrame, *, predictions: bool = False) -> list[dict[str, Any]]:
        found = []
        for row in rows.to_dict("records"):
            one: dict[str, Any] = {
                "value": _round(row["value"]), "arm": row["arm"], "design": tables.text(row["design"]),
                "proposer": tables.text(row["proposer"]), "shown": self.numbers.value(row["value"]),
            }  # fmt: skip
            if predictions:
                between = f" ({self.numbers.between(row['low'], row['high'])})" if np.isfinite(row["low"]) else ""
                one |= {
                    "mean": _round(row["predicted"]), "low": _round(row["low"]), "high": _round(row["high"]),
                    "round": str(row["round"]), "promise": f"{self.numbers.value(row['predicted'])}{between}",
                }  # fmt: skip
            found.append(one)
        return found

    # Tables

    def tables(self) -> dict[str, tables.Table]:
        found = {}
        if (c := self.comparison) is not None:
            found["arms"] = tables.arms(c.arms, self.numbers, c.top_k)
            if len(c.proposers) > len(c.arms):
                found["proposers"] = tables.arms(c.proposers, self.numbers, c.top_k, proposers=True)
            if c.differences:
                found["differences"] = tables.differences(c)
            if any(one.n for one in c.calibration):
                found["calibration"] = tables.calibration(c.calibration, self.numbers, self._betas(c.rounds))
            if c.overlaps:
                found["overlaps"] = tables.overlaps(c.overlaps)
        if self.has_quality and self.data.quality is not None:
            assay = self.data.objective.assay
            found["quality"] = quality.plates(self.data.quality, assay)
            found["policies"] = quality.policies(self.data.quality)
            found["controls"] = quality.controls(self.data.quality, assay, self.numbers)
        if len(self.data.others):
            found["others"] = quality.others(self.data.others)
        if len(self.data.top):
            found["top"] = tables.top(self.data.top, self.numbers)
        if len(self.data.runs):
            found["runs"] = tables.runs(self.data.runs)
        return found

    def _betas(self, rounds: Sequence[int]) -> dict[str, list[float]]:
        """By arm, the beta of its bounds round after round."""
        if "beta" not in self.picks:
            return {}
        rows = self.picks[self.picks["round"].isin(list(rounds))].sort_values("round", kind="stable")
        return {str(arm): mine.groupby("round")["beta"].first().tolist() for arm, mine in rows.groupby("arm")}

    def notes(self) -> list[str]:
        return list(dict.fromkeys([*self.data.flags, *(self.comparison.notes if self.comparison else ())]))

    @property
    def over(self) -> str:
        """Which rounds the leading comparison covers."""
        rounds: Sequence[int] = self.comparison.rounds if self.comparison else ()
        return f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}" if rounds else ""


def _round(x: float | None) -> float | None:
    """Five digits are more than any figure can show; no number is None."""
    return None if x is None or not np.isfinite(x) else float(f"{float(x):.5g}")


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{x:.5g}") for x in values]
