"""What a person or a program sees: tables on a terminal, JSON on request, progress and complaints on standard error."""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table
from rich.text import Text

from labloop.cli import properties
from labloop.cli.progress import Terminal, err, harmless
from labloop.cli.progress import progress as progress
from labloop.cli.start import started
from labloop.errors import DesignError, IngestError, grouped
from labloop.runtime.numbers import spelt

if TYPE_CHECKING:
    import pandas as pd

    from labloop.assays.ingest import Explanation
    from labloop.campaign.facade import Campaign
    from labloop.compare.arms import Comparison
    from labloop.compare.hypervolume import Fronts
    from labloop.plates.batch import Batch
    from labloop.rounds.intake import Receipt
    from labloop.space.objective import Objective
    from labloop.studies.study import Result

out = Terminal(highlight=False, soft_wrap=True, markup=False)


def dump(value: Any) -> None:
    """Print JSON that any program reads: numbers that are not finite become null."""
    print(jsonlib.dumps(_plain(value), indent=2, allow_nan=False, ensure_ascii=False))  # noqa: T201


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def complain(error: Exception | str) -> None:
    """Say what is wrong on standard error, every faulty cell of a table included."""
    if isinstance(error, IngestError | DesignError) and error.faults:
        err.print(Text(f"Refused: {error.summary}", style="bold red"))
        groups = grouped(error.faults)
        table = Table("row", "column", "rule", "cell", title="Faults", title_justify="left")
        for group in groups[:50]:
            table.add_row(*map(Text, (group.rows, group.column, group.rule, group.cells)))
        err.print(table)
        if len(groups) > 50:
            err.print(f"… and {len(groups) - 50} more")
        err.print("Nothing was stored. Mend the file, then run this again.")
        return
    err.print(Text(f"Error: {error}", style="bold red"))


def note(said: str) -> None:
    """Say something beside the command's own output; nothing where there is nothing to say."""
    if said:
        err.print(Text(said))


def _number(value: Any, digits: int = 4) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return spelt(value, digits) if isinstance(value, float) else harmless(str(value))


def design_cells(one: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Write a predicted design for people: its mutants by name, its numbers by their leading digits."""
    cells = (one.get(f"{name}_mutations", one[name]) for name in columns)
    return [f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in cells]


_WORD = 14
"""Characters of a word that a table tries to keep together; a longer one, such as a sequence, is folded."""


def _table(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str | None = None,
    columns: Sequence[str] | None = None,
    whole: Sequence[str] = (),
) -> None:
    """Print rows; numbers, words that are not long, and columns named in `whole` are broken only where nothing else helps."""
    if not rows:
        return
    names = list(columns or rows[0])
    cells = {name: [_number(row.get(name)) for row in rows] for name in names}
    words = {name: [len(one) for text in (name.replace("_", " "), *cells[name]) for one in text.split()] for name in names}
    wide = {name: max((one for one in found if one <= _WORD), default=1) for name, found in words.items()}
    dense = sum(wide.values()) + 3 * len(names) + 1 > out.width
    table = Table(title=title, title_justify="left", title_style="bold", padding=(0, 0 if dense else 1))
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(name.replace("_", " "), justify=justify, no_wrap=name in whole, overflow="fold", min_width=wide[name])
    for row in rows:
        table.add_row(*(Text(_number(row.get(name))) for name in names))
    out.print(table)


def receipt(receipt: Receipt, *, json: bool) -> None:
    """Show what `ingest` took."""
    if json:
        return dump(asdict(receipt))
    if receipt.dialect:
        out.print(f"{receipt.file}: read as {receipt.dialect}")
        out.print(f"{receipt.counted}, {receipt.n_new_designs} designs new to labloop")
    for warning in receipt.warnings:
        out.print(Text(f"Warning: {warning}", style="yellow"))
    out.print(f"Stored. Next: {receipt.note}" if receipt.stored else receipt.note)


def explanation(told: Explanation, *, json: bool) -> None:
    """Show what `ingest` would make of a file."""
    rows = [] if told.rows is None else [dict(zip(told.rows.columns, row)) for row in told.rows.to_numpy()]
    if json:
        return dump({**vars(told), "rows": rows, "refusal": None if told.refusal is None else str(told.refusal)})
    out.print(Text(f"{told.file}: {f'{told.what} (reader {told.reader})' if told.reader else 'not recognised'}"))
    _table(told.parts, title="What it holds")
    if told.dialect:
        out.print(Text(f"Read as {told.dialect}"))
    columns = [{"labloop's column": name, "the file's": place} for name, place in (told.columns or {}).items()]
    _table(columns, title="Columns")
    _table(rows, title="First rows")
    out.print("It would be stored; nothing was." if told.refusal is None else "It would be refused:")


def status(status: Mapping[str, Any], *, json: bool, title: str | None = None) -> None:
    """Show where a campaign stands and what comes next."""
    if json:
        return dump(status)
    if title:
        out.print(title, style="bold")
    best = f", best {_number(status['best'])} {status['unit']}".rstrip() if status["best"] is not None else ""
    out.print(f"{status['campaign']}: {status['designs']} measured designs{best}")
    _table(properties.rows(status))
    for line in properties.lines(status):
        out.print(Text(line))
    for assay, n in status.get("other_assays", {}).items():
        out.print(f"Beside it: {n} readings of assay {assay}, not learned from")
    if flags := status.get("flags"):
        told = ", ".join(f"{rule} {n}" for rule, n in flags.items())
        out.print(f"Quality control flags readings ({told}): labloop quality {status['campaign']}")
    for warning in status.get("warnings", ()):
        out.print(Text(f"Warning: {warning}", style="yellow"))
    if "spent" in status:
        from labloop.rounds.spending import in_words

        out.print(f"Spent: {in_words(status['spent'])}")
    _table(status["rounds"])
    for said in status.get("decisions", ()):
        out.print(Text(f"{said}."))
    for one in status.get("by_hand", ()):
        out.print(
            Text(f"{one['designs']} designs that {one['by']} chose ({one['file']}) wait as arm {one['arm']} of the next plate.")
        )
    out.print(f"Next: {status['next']}")


def statuses(found: Sequence[Mapping[str, Any]], *, json: bool) -> None:
    """Show where every campaign stands."""
    if json:
        return dump(list(found))
    if not found:
        from labloop.ledger.memory import nearest_home

        if (near := nearest_home()) is not None:
            return out.print(f"No campaign here: is it that of the folder above? labloop status --home {near}")
        out.print("No campaign here (other folders: --home). Next: labloop init config/campaigns/tfbind8.yaml")
    for one in found:
        status(one, json=False)


def way(objective: Objective) -> str:
    """Say in what unit values are and which way is better."""
    return f"{f'{objective.unit}, ' if objective.unit else ''}{'lower' if objective.direction == 'min' else 'higher'} is better"


def batch(batch: Batch, written: Mapping[str, Path], *, json: bool) -> None:
    """Show what each arm put on a plate, and the files for the lab."""
    if json:
        return dump(
            {"campaign": batch.campaign, "round": batch.round, "objective": batch.objective.model_dump(),
             "scale": "mean, std and lcb of picks are in y, transformed and larger is better, whatever the objective's direction",
             "wells": _records(batch.wells), "picks": _records(batch.picks),
             "files": {name: str(path) for name, path in written.items()}}
        )  # fmt: skip

    import numpy as np

    def value(y: float) -> float:
        return float(batch.objective.to_value(np.array([y]))[0])

    n = batch.picks["design_id"].value_counts()
    several = set(n.index[n > 1])
    held = batch.wells["design_id"].value_counts()  # replicates too
    rows = [
        {"arm": arm, "wells": int(held.reindex(picks["design_id"]).sum()), "shared": int(picks["design_id"].isin(several).sum()),
         "offered by": ", ".join(dict.fromkeys(picks["proposer"])),
         "mean": value(picks["mean"].mean()), "best": value(picks["mean"].max()), "bound": value(picks["lcb"].mean()),
         "beta": float(picks["beta"].iloc[0]), "apart": float(picks["nearest_distance"].mean())}
        for arm, picks in batch.picks.groupby("arm", sort=False)
    ]  # fmt: skip
    shared = f", {len(several)} of them in wells that several arms share" if several else ""
    _table(rows, title=f"{batch.campaign}, round {batch.round}: {len(n)} designs{shared}")
    if batch.picks["mean"].notna().any():
        out.print(Text(
            f"mean, best: what the judge predicts ({way(batch.objective)}); bound: what a design is worth at beta standard "
            "deviations on the worse side; apart: distance to the nearest measured design"
        ))  # fmt: skip
    for path in written.values():
        out.print(f"  {path}")
    if not written:
        out.print(f"Next: take wells out or none (labloop veto), then: labloop export {batch.campaign}")
        return
    sheet = next((path for path in written.values() if path.name.endswith("_assay.csv")), "the assay CSV")
    out.print(f"Next: measure the plate, fill {sheet} in, then: labloop ingest {sheet} -c {batch.campaign}")


def exported(path: Path, n_rows: int, *, json: bool) -> None:
    """Show where a dataset was written."""
    if json:
        return dump({"dataset": str(path), "n_rows": n_rows})
    out.print(f"{path}: {n_rows} readings, one a row")


def comparison(comparison: Comparison, *, json: bool, over_all: Comparison | None = None, fronts: Fronts | None = None) -> None:
    """Show which arm was better, and what all rounds together tell."""
    several = over_all is not None and len(over_all.rounds) > 1
    if json:
        volume = {} if fronts is None else {"hypervolume": fronts.to_dict()}
        return dump(comparison.to_dict() | ({"over_all": over_all.to_dict()} if several and over_all else {}) | volume)
    from labloop.compare.sentence import p_value  # which whoever has a comparison has loaded

    if fronts is not None:
        _table([vars(one) for one in fronts.arms], title=f"Hypervolume that {fronts.k} wells of an arm add, 95 % intervals")
        _table([vars(one) for one in fronts.differences], title="Differences, p by permuting wells, p_holm for all pairs")
    arms = [
        {"arm": one.arm, "wells": one.n_wells, "measured": one.n_measured, "mean": one.mean_value,
         f"top {comparison.top_k}": one.top_mean_value, "best": one.best_value,
         "hits": None if one.n_hits is None else f"{one.n_hits}/{one.n_measured}",
         **({} if one.n_kept is None else {"keep limits": f"{one.n_kept}/{one.n_measured}"}), "seconds": round(one.seconds, 1)}
        for one in comparison.arms
    ]  # fmt: skip
    rules = "a well of several arms counts for each, a hit beats the best value known when the plate was proposed"
    rules += "; top, best and hits are of wells that keep the limits" * any("keep limits" in one for one in arms)
    _table(arms, title=f"Arms ({way(comparison.objective)}; {rules})")
    gaps = [
        comparison.of(one.first, one.second) for one in comparison.differences if one.measure == "mean" and one.scope == "plates"
    ]
    ratio = any(one.effect_kind == "ratio" for one in gaps)
    means = [
        {"arm": one.first, "against": one.second, "mean is" if ratio else "mean differs by": one.effect,
         "from": one.effect_low, "to": one.effect_high, "p": p_value(one.p), "all looks": p_value(one.p_looks)}
        for one in gaps
    ]  # fmt: skip
    objective = comparison.objective
    side = "below" if objective.direction == "min" else "above"
    what = "Ratios of geometric means" if ratio else f"Differences of means{f', {objective.unit}' if objective.unit else ''}"
    said = f"{what} on these plates ({side} {1 if ratio else 0}: the first arm is better), 95 % intervals and their p"
    _table(means, title=said, whole=["arm", "against", "p", "all looks"])
    title = "Proposers against the best free baseline, in y (larger is better)"
    _table(_free(comparison), title=title, whole=["proposer", "against", "p", "all looks"])
    out.print(comparison.sentence, style="bold")
    if several and over_all:
        out.print(over_all.sentence, style="bold")
    for note in dict.fromkeys([*comparison.notes, *(over_all.notes if several and over_all else ())]):
        out.print(Text(f"- {note}"))


def _free(comparison: Comparison) -> list[dict[str, Any]]:
    from labloop.compare.sentence import p_value

    scopes = {one.scope for one in comparison.against_free}
    return [
        {"proposer": f"{one.arm}: {one.proposer}", "against": one.baseline, "differs by": one.estimate, "from": one.low,
         "to": one.high, "p": p_value(one.p), "all looks": p_value(one.p_looks), **({"of": one.scope} if len(scopes) > 1 else {})}
        for one in comparison.against_free
    ]  # fmt: skip


def written(path: Path, *, json: bool) -> None:
    """Show where a page was written."""
    if json:
        return dump({"report": str(path)})
    out.print(f"Report: {path}  (open it in a browser; it needs no network)")


def checked(understood: Mapping[str, Any], *, json: bool) -> None:
    """Show what was understood of a campaign's file."""
    if json:
        return dump(understood)
    how = "few enough to score every one" if understood["listable"] else "too many to score every one"
    how = "so it is searched" if understood["continuous"] else how if understood["listable"] else f"{how}, so they are searched"
    out.print(Text(f"{understood['campaign']}: {understood['extent']}, {how}"))
    _table(understood["examples"], title="Three random designs")
    plate, objective = understood["plate"], understood["objective"]
    better = "lower" if objective["direction"] == "min" else "higher"
    unit = f" in {objective['unit']}" if objective["unit"] else ""
    if not understood.get("objectives"):
        out.print(Text(f"Objective: assay {objective['assay']}{unit}, {better} is better"))
    for line in (*properties.checked(understood), *(f"Vectors: {one}" for one in understood["vectors"])):
        out.print(Text(line))
    for line in understood["doubts"]:
        out.print(Text(f"Warning: {line}", style="yellow"))
    copies = f": {plate['designs']} designs of {plate['replicates']} wells each" if plate["replicates"] > 1 else ""
    out.print(f"Plate: {plate['described']}, {plate['for_designs']} for designs{copies}")
    for told in (*understood["rules"], *understood["limits"], *understood["costs"]):
        out.print(Text(told))
    for kind in ("history", "schedule"):
        for told in understood[kind]:
            out.print(Text(f"{kind.capitalize()}: {told}"))
    arms = [{**arm, "proposers": ", ".join(arm["proposers"])} for arm in understood.get("arms", ())]
    more = " (wells at least: one that several arms choose counts for each, and what that frees goes to their next choices)"
    _table(arms, title=f"Arms{more if len(arms) > 1 else ''}")
    if len(arms) > 1:
        out.print(Text(f"Shared: {understood['allocation']}"))
    start = understood.get("start")
    if start is not None:
        started(start, understood["objective"], say=out.print, table=_table, number=_number)
    if start is None or (start["refused"] is None and start["lacks"] is None):
        out.print("All good.", style="bold green")


def simulated(table: pd.DataFrame, objective: Objective, *, json: bool) -> None:
    """Show what arms found in a simulated lab."""
    if json:
        return dump(_records(table))
    from labloop.studies.simulate import summary

    for column, title in (("batch_mean", "Mean of each plate"), ("top10_mean", "Mean of the ten best so far, or fewer")):
        seeds = table["seed"].nunique()
        told = f"{title} ({way(objective)}): {'one seed' if seeds == 1 else f'mean ± sd over {seeds} seeds'}"
        _table(_records(summary(table, column=column)), title=told)
    for row in _records(table[table["note"] != ""]):
        out.print(f"{row['arm']}, seed {row['seed']}, round {row['round']}: {row['note']}", style="yellow")


def studied(result: Result, *, json: bool) -> None:
    """Show how arms rank over labs."""
    if json:
        files = {name: str(path) for name, path in result.files.items()}
        return dump({**result.summary, "failures": result.failures, "files": files, "rows": _records(result.rows)})
    from labloop.studies.standing_tables import sections

    for section in sections(result.summary)[: 2 if result.summary["reference"] else 1]:
        _table([dict(zip(section.head, row, strict=True)) for row in section.rows], title=section.title)
    for failure in result.failures:
        out.print(Text(f"Failed: {failure}", style="yellow"))
    for path in result.files.values():
        out.print(f"  {path}")


def benchmarked(table: pd.DataFrame, folder: Path, *, json: bool) -> None:
    """Show the scores of methods."""
    if json:
        return dump(_records(table))
    from labloop.studies.ranking import spread, summary

    for task, found in summary(table).groupby("task", sort=False):
        rows = [
            {"method": row["method"], **{name: spread(row[name], row[f"{name}_sd"]) for name in ("max", "median")},
             **{name: row[name] for name in ("rank_max", "rank_median", "seconds", "peak_mb")}}
            for row in _records(found)
        ]  # fmt: skip
        _table(rows, title=f"{task}: normalised scores, mean ± sd over {found['seeds'].max()} seeds")
    out.print(f"Results and table: {folder}")


def demo(run: Campaign, folder: Path, *, json: bool) -> None:
    """Show the rounds of the demonstration and where its files are."""
    if json:
        return dump({"status": run.status(), "comparison": run.compare().to_dict(), "report": str(folder / "report.html")})
    status(run.status(), json=False)
    for entry in run.status()["rounds"]:
        out.print(f"\nRound {entry['round']}", style="bold")
        comparison(run.compare(entry["round"]), json=False)
    out.print(f"\nPlates went out to {folder / 'to_the_lab'} and came back in {folder / 'from_the_lab'}.")
    out.print(f"The campaign is kept: labloop status {run.name} --home {folder}")
    written(folder / "report.html", json=False)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[return-value]
