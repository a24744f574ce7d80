"""The page: what `ReportData` holds, said in words, tables and figures, all in one file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vl_convert
from markupsafe import Markup

from labloop.compare.arms import LOST
from labloop.compare.results import spell
from labloop.report import compromises, insight, quality, tables
from labloop.report.data import ReportData
from labloop.report.drawings import PLATES, Drawings
from labloop.report.facts import Facts
from labloop.report.figures import Spec
from labloop.report.tables import NONE
from labloop.runtime.files import cached
from labloop.runtime.templates import templates

JUDGED = 12
"""Wells without which nothing is said of the judge."""
WEAK, SURE = 0.2, 0.45
"""A rank correlation, and a share of wells within one standard deviation, below which a judge is not to be trusted."""
_HERE = Path(__file__).parent
_DRAW = """
for (const place of document.querySelectorAll("[data-figure]")) {
  const spec = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  vegaEmbed(place, spec, {mode: "vega-lite", renderer: "svg", actions: false, ast: true});
}
"""


def render(data: ReportData) -> str:
    """Make the page's HTML."""
    view = PageView(data)
    return document("page.html", view.figures, data=data, view=view)


def document(template: str, figures: Mapping[str, Spec], **shown: Any) -> str:
    """Fill a template of this folder in, with figures by name.

    Its own policy forbids the browser to ask the network for anything, and to run any other script.
    """
    script = _library()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    specs = {name: _json(spec) for name, spec in figures.items()}
    style = Markup((_HERE / "style.css").read_text(encoding="utf-8"))
    return templates(_HERE).get_template(template).render(specs=specs, style=style, script=Markup(script), policy=policy, **shown)


def picture(data: ReportData, name: str) -> bytes | None:
    """Draw one of the page's figures as a PNG; None where the data have none of this name."""
    spec = PageView(data).figures.get(name)
    return None if spec is None else bytes(vl_convert.vegalite_to_png({**spec, "width": 640, "background": "white"}, scale=1.5))


@lru_cache(maxsize=1)
def _library() -> str:
    """Vega, Vega-Lite, Vega-Embed and the lines that draw every figure, as one script; bundling takes a second or two."""
    name = f"vega-{version('vl-convert-python')}-{hashlib.sha256(_DRAW.encode()).hexdigest()[:12]}.js"
    return cached(name, lambda: str(vl_convert.javascript_bundle(_DRAW)).replace("</script", "<\\/script"))


def _json(spec: Mapping[str, Any]) -> Markup:
    """JSON that cannot end its script element, whatever a design is called."""
    return Markup(json.dumps(spec, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


@dataclass(frozen=True, eq=False)
class PageView:
    """Everything the template shows, ready to print."""

    data: ReportData

    @cached_property
    def facts(self) -> Facts:
        return Facts(self.data)

    @cached_property
    def drawn(self) -> Drawings:
        return Drawings(self.facts)

    @property
    def figures(self) -> dict[str, Spec]:
        more = {} if self.several is None else compromises.figures(self.several)
        looked = {} if self.data.insight is None else insight.figures(self.data.insight, self.facts.numbers)
        return {**self.drawn.specs, **more, **looked}

    @cached_property
    def several(self) -> compromises.Several | None:
        """What there is to show of several properties."""
        return None if self.data.several is None else compromises.Several(**self.data.several)

    @property
    def paretos(self) -> list[str]:
        """Figures of pairs of objectives."""
        return [name for name in self.figures if name.startswith("pareto")]

    @property
    def effects(self) -> dict[str, str]:
        """Figures of what the judge predicts for each level, with the parameter's name."""
        return {} if self.data.insight is None else insight.titles(self.data.insight)

    @property
    def judge_words(self) -> list[str]:
        """Say in words where the judge cannot be trusted; nothing where it can, or too little is known."""
        found = [] if self.data.insight is None or self.data.insight.trusted else [self.data.insight.trust]
        every = [one for one in (self.facts.comparison.calibration if self.facts.comparison else ()) if one.arm is None]
        for one in every:
            if one.n >= JUDGED and one.rho < WEAK:
                found.append(
                    f"The judge cannot be trusted to rank designs: of {one.n} wells, what it predicted and what they gave go "
                    f"together by ρ = {spell(one.rho, 0.1)}, where 1 is perfect and 0 is chance."
                )
            if one.n >= JUDGED and one.within_1_std < SURE:
                found.append(
                    f"The judge is too sure of itself: {tables.percent(one.within_1_std)} of {one.n} wells came within the one "
                    "standard deviation that it gave, where 68 % should."
                )
        return found

    @property
    def best_words(self) -> str:
        """Say which designs are called the best."""
        told = self.drawn.best
        return "" if told is None else f"the best {told.n} of {told.of:,} measured designs{self.facts.keeping}"

    @property
    def logos(self) -> dict[str, str]:
        """Figures of letters, with the sequence's name."""
        told = self.drawn.best
        names = [] if told is None else dict.fromkeys(str(row["parameter"]) for row in told.letters)
        return {f"logo{i}": name for i, name in enumerate(names)}

    @property
    def open_limits(self) -> str:
        """Say of how many compromises a limit was not measured."""
        return "" if self.several is None else compromises.open_limits(self.several)

    @property
    def gains(self) -> list[str]:
        """Which arm added more to the hypervolume."""
        fronts = None if self.several is None else self.several.fronts
        return [] if fronts is None else compromises.sentences(fronts)

    @property
    def plates(self) -> list[dict[str, Any]]:
        return self.drawn.plates

    @property
    def verdict(self) -> tuple[str, str]:
        """The verdict in one line, and what proves it."""
        parts = re.split(r"(?<=\w)(?:: |\. |\.$)", self._verdict, maxsplit=1)
        rest = parts[1] if len(parts) > 1 else ""
        return f"{parts[0]}.", f"{rest[:1].upper()}{rest[1:]}"

    @property
    def _verdict(self) -> str:
        if self.facts.comparison is not None:
            return self.facts.comparison.sentence
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
        start = self.facts.designs[self.facts.designs["round"] == 0]
        found = []
        if len(self.facts.designs):
            best = self.facts.designs.iloc[0]
            found.append(
                (
                    f"Best so far{self.facts.keeping.replace('keep', 'keeps')}",
                    f"{self.facts.numbers.value(best['value'])}{unit}",
                    tables.text(best["design"]),
                    "code",
                )
            )
        first = self.facts.numbers.value(start["value"].iloc[0]) + unit if len(start) else NONE
        if not len(self.facts.designs) and self.facts.keeping:
            found.append(("Best so far", NONE, "no measured design keeps the limits", ""))
        found.append(("Best at the start", first, f"of {len(start):,} designs{self.facts.keeping}", ""))
        planned = f" of {self.data.planned_rounds}" if self.data.planned_rounds else ""
        states = [f"round {r.number} {r.state.lower()}" for r in self.data.rounds[-1:]]
        measured = f"{len(self.facts.measured_rounds)}{planned}"
        found.append(("Rounds measured", measured, states[0] if states else "none proposed", ""))
        wells = self.facts.picks.drop_duplicates(["round", "design_id"])
        lost = int(wells["status"].astype(str).str.startswith(LOST).sum())
        waiting = int(wells["y"].isna().sum()) - lost
        rest = ", ".join([f"{n} {word}" for n, word in ((lost, "lost"), (waiting, "without result")) if n]) or "none lost"
        found.append(("Designs measured", f"{int(wells['y'].notna().sum())}", rest, ""))
        if self.data.spent:
            found.append(("Spent", self.data.spent.partition(", ")[0], self.data.spent.partition(", ")[2], ""))
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

    @property
    def quality_words(self) -> list[str]:
        return [] if self.data.quality is None else quality.sentences(self.data.quality, self.data.objective.assay)

    @property
    def panels(self) -> list[tuple[str, str, str]]:
        """Figure, arm and what its points amount to."""
        known = {one.arm: one for one in self.facts.comparison.calibration} if self.facts.comparison else {}
        return [
            (name, arm, f"ρ = {spell(known[arm].rho, 0.1)}, {known[arm].n} wells" if arm in known else "")
            for name, arm, _ in self.drawn.predictions
        ]

    @property
    def plates_left_out(self) -> int:
        return max(0, len(self.data.wells[["round", "plate"]].drop_duplicates()) - PLATES)

    def tables(self) -> dict[str, tables.PageTable]:
        found = {}
        if (c := self.facts.comparison) is not None:
            found["arms"] = tables.arms(c.arms, self.facts.numbers, c.top_k)
            if len(c.proposers) > len(c.arms):
                found["proposers"] = tables.arms(c.proposers, self.facts.numbers, c.top_k, proposers=True)
            if c.differences:
                found["differences"] = tables.differences(c)
            if c.against_free:
                found["against_free"] = tables.against_free(c.against_free, self.facts.numbers)
            if any(one.n for one in c.calibration):
                found["calibration"] = tables.calibration(c.calibration, self.facts.numbers, self._betas(c.rounds))
            if c.overlaps:
                found["overlaps"] = tables.overlaps(c.overlaps)
        if self.facts.has_quality and self.data.quality is not None:
            assay = self.data.objective.assay
            found["quality"] = quality.plates(self.data.quality, assay)
            found["policies"] = quality.policies(self.data.quality)
            found["controls"] = quality.controls(self.data.quality, assay, self.facts.numbers)
        if self.several is not None:
            found["compromises"] = compromises.table(self.several)
            if self.several.fronts is not None:
                found["gains"] = compromises.gains(self.several.fronts)
        if self.data.insight is not None:
            found["effects"] = insight.table(self.data.insight, self.facts.numbers)
        if len(self.data.others):
            found["others"] = quality.others(self.data.others)
        if len(self.data.top):
            found["top"] = tables.top(self.data.top, self.facts.numbers)
        if len(self.data.runs):
            found["runs"] = tables.runs(self.data.runs)
        return found

    def _betas(self, rounds: Sequence[int]) -> dict[str, list[float]]:
        """By arm, the beta of its bounds round after round."""
        if "beta" not in self.facts.picks:
            return {}
        rows = self.facts.picks[self.facts.picks["round"].isin(list(rounds))].sort_values("round", kind="stable")
        return {str(arm): mine.groupby("round")["beta"].first().tolist() for arm, mine in rows.groupby("arm")}

    def notes(self) -> list[str]:
        return list(dict.fromkeys([*self.data.flags, *(self.facts.comparison.notes if self.facts.comparison else ())]))

    @property
    def over(self) -> str:
        """Which rounds the leading comparison covers."""
        rounds: Sequence[int] = self.facts.comparison.rounds if self.facts.comparison else ()
        return f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}" if rounds else ""
