"""A study's summary as tables, for a terminal, for Markdown and for a page: cells are text, ready to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labloop.studies.standings import MEASURES, place

NAMES = {"batch_mean": "plates", "top10_mean": "top ten", "best": "best"}
NOTE = (
    "Values are shares of each lab's range: 0 its worst, 1 its best; a design that fails by itself counts as 0. Plates: the mean "
    "of the plates' means; top ten and best: of all wells at the end. Brackets are 95 % intervals: of ranks over labs and seeds "
    "(bootstrap), of differences over paired seeds (Student's t), or over labs where labs are put together."
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table with its title and a note on how to read it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def sections(found: Mapping[str, Any]) -> list[Section]:
    """Lay out a summary (`labloop.studies.standings.standings`), the most important table first."""
    reference = found["reference"]
    told = [_ranks(found)]
    if reference:
        told += [_overall(found, reference), _differences(found, reference), _wells(found, reference)]
    plates = [one for one in found["curves"] if one["measure"] == "batch_mean"]
    note = "The mean of each plate, round by round, mean over seeds, in the lab's own unit, over the wells that have a value."
    told.append(_by_round(found, plates, "value", ".3g", "Plates", note))
    if found["coverage"]:
        note = (
            "Share of chosen designs whose reading lay within the judge's 90 % interval, round by round; arms that select by it."
        )
        told.append(_by_round(found, found["coverage"], "coverage", ".2f", "Coverage", note))
    costs = [{**one, "round": 0} for one in found["costs"]]
    told.append(
        _by_round(found, costs, "cpu_seconds", ".1f", "CPU-seconds a plate", "Training, selecting and simulated measuring.")
    )
    return told


def markdown(found: Mapping[str, Any], *, title: str, description: str = "", failures: Sequence[str] = ()) -> str:
    """Write a summary as Markdown."""
    parts = [f"# {title}", *([description] if description else []), NOTE]
    if failures:
        parts.append("Jobs that failed and are missing in these tables:\n\n" + "\n".join(f"- {one}" for one in failures))
    for section in sections(found):
        parts += [f"## {section.title}", *([section.note] if section.note else []), _markdown(section)]
    return "\n\n".join(parts) + "\n"


def _ranks(found: Mapping[str, Any]) -> Section:
    rows = sorted(found["ranks"], key=lambda row: row["batch_mean"]["mean"])
    return Section(
        title="Mean rank over labs",
        head=["arm", *(NAMES[measure] for measure in MEASURES)],
        rows=[[row["arm"], *(_told(row[measure], ".2f") for measure in MEASURES)] for row in rows],
        note="1 is the best arm of a lab; each lab counts once, whatever its starts and noises.",
    )


def _overall(found: Mapping[str, Any], reference: str) -> Section:
    verdicts = {(one["arm"], one["measure"]): one for one in found["verdicts"]}
    rows = []
    for one in found["overall"]:
        verdict = verdicts[one["arm"], one["measure"]]
        told = [verdict[name] for name in ("better", "undecided", "worse", "failed")]
        counts = " / ".join(map(str, told))
        held = f"not seen, {verdict['undecided']} undecided" if verdict["undecided"] else "no"
        worse = "yes: " + "; ".join(verdict["worse_on"]) if verdict["worse_on"] else held if verdict["never_worse"] else "unknown"
        rows.append([one["arm"], NAMES[one["measure"]], _told(one, "+.3f"), counts, worse])
    return Section(
        title=f"Against {reference}",
        head=["arm", "measure", "difference over labs", "better / undecided / worse / failed", "worse anywhere"],
        rows=rows,
        note="Worse: in a setting the whole 95 % interval of the paired difference is below zero; with many settings some are by "
        "chance. Where it holds zero the setting is undecided: not seen is not shown. Unknown: one seed tells of no interval.",
    )


def _differences(found: Mapping[str, Any], reference: str) -> Section:
    arms = [arm for arm in found["arms"] if arm != reference]
    by: dict[tuple[str, str], dict[str, str]] = {}
    for one in found["differences"]:
        mark = {"better": " ▲", "worse": " ▼", "failed": " failed"}.get(one["verdict"], "")
        by.setdefault((place(one), one["measure"]), {})[one["arm"]] = _told(one, "+.3f") + mark
    rows = [[where, NAMES[measure], *(cells.get(arm, "–") for arm in arms)] for (where, measure), cells in by.items()]
    return Section(
        title=f"Against {reference}, lab by lab",
        head=["setting", "measure", *arms],
        rows=sorted(rows, key=lambda row: row[0]),
        note="▲ better and ▼ worse beyond the 95 % interval.",
    )


def _wells(found: Mapping[str, Any], reference: str) -> Section:
    arms = [arm for arm in found["arms"] if arm != reference]
    by: dict[str, dict[str, str]] = {}
    spent: dict[str, float] = {}
    for one in found["wells"]:
        by.setdefault(place(one), {})[one["arm"]] = _told(one, "+.0f")
        spent[place(one)] = one["wells"]
    return Section(
        title=f"Wells ahead of {reference}",
        head=["setting", f"wells of {reference}", *arms],
        rows=[[where, f"{spent[where]:.0f}", *(cells.get(arm, "–") for arm in arms)] for where, cells in by.items()],
        note="How many wells fewer an arm took to the ten best that both came to; below zero, how many more. Between two plates "
        "its path counts as a line, and what the first plate came to as all of its wells.",
    )


def _by_round(
    found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], name: str, form: str, title: str, note: str
) -> Section:
    """One row a setting and one column an arm; a cell holds the rounds' numbers with slashes between."""
    by: dict[str, dict[str, dict[int, str]]] = {}
    for one in rows:
        text = "–" if one[name] is None else format(one[name], form)
        by.setdefault(place(one), {}).setdefault(one["arm"], {})[one["round"]] = text
    arms = [arm for arm in found["arms"] if any(arm in cells for cells in by.values())]
    told = [
        [where, *(" / ".join(text for _, text in sorted(cells.get(arm, {}).items())) or "–" for arm in arms)]
        for where, cells in by.items()
    ]
    return Section(title=title, head=["setting", *arms], rows=told, note=note)


def _told(one: Mapping[str, Any], form: str) -> str:
    if one["mean"] is None:
        return "–"
    mean = format(one["mean"], form)
    return mean if one["low"] is None else f"{mean} [{format(one['low'], form)}, {format(one['high'], form)}]"


def _markdown(section: Section) -> str:
    lines = ["| " + " | ".join(section.head) + " |", "|---" * len(section.head) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in section.rows]
    return "\n".join(lines)
