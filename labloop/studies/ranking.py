"""Methods side by side over tasks and seeds: means, spreads and ranks, as a table or as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.errors import MethodError
from labloop.runtime.files import write_text
from labloop.seeds import generator
from labloop.types import FloatArray

SCORES = ("max", "median", "mean")
COSTS = ("n_unique", "share_in_data", "seconds", "cpu_seconds", "peak_mb")
FIRST = ("gp_mean", "random", "mutate", "pairwise", "ensemble")
"""What stands above all others in a table: what they must beat."""
LEVEL = 0.95
DRAWS = 4000


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Sum a benchmark up, one row a task and method, best median first: mean and sd over seeds, and mean ranks.

    Ranks are among the methods of one task and seed, 1 the best, ties sharing the mean of their places.
    """
    table = table.assign(
        rank_max=table.groupby(["task", "seed"])["max"].rank(ascending=False),
        rank_median=table.groupby(["task", "seed"])["median"].rank(ascending=False),
    )
    groups = table.groupby(["task", "method"], sort=False)
    costs = [name for name in (*COSTS, "share_without_value") if name in table]
    means = groups[[*SCORES, "rank_max", "rank_median", *costs]].mean()
    spreads = groups[list(SCORES)].std().add_suffix("_sd")
    found = pd.concat([groups.size().rename("seeds"), means, spreads], axis=1).reset_index()
    place = {task: i for i, task in enumerate(dict.fromkeys(table["task"]))}
    found["_task"] = found["task"].map(place)
    found = found.sort_values(["_task", "median"], ascending=[True, False], kind="stable").drop(columns="_task")
    return found.reset_index(drop=True)


def mean_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Rank methods over tasks: mean rank, 1 the best, by the median and by the maximum of their designs, with 95 % intervals.

    Ranks are among the methods of one task and seed. Views of one landscape are averaged first, so that each landscape counts
    once; a method that a landscape is not for is ranked on the others. The intervals are percentiles of a bootstrap that draws
    landscapes, and seeds within each task; few landscapes leave them wide, or, where all agree, too narrow. One landscape with
    one seed has none: NaN.

    Returns:
        One row a method, the best by median first: `method`, `tasks` (how many), and `rank_median`, `rank_max`, each with `_low`
        and `_high`.
    """
    if "landscape" not in table:
        table = table.assign(landscape=table["task"])
    methods = list(dict.fromkeys(table["method"]))
    found: dict[str, object] = {"method": methods, "tasks": table.groupby("method")["task"].nunique()[methods].to_numpy()}
    for score in ("median", "max"):
        seen, drawn = [], []
        for _, views in table.groupby("landscape", sort=False):
            ranks = [
                one.pivot_table(index="seed", columns="method", values=score)
                .rank(axis=1, ascending=False)
                .reindex(columns=methods)
                for _, one in views.groupby("task", sort=False)
            ]
            rng = generator(0, "ranking", score, str(views["landscape"].iloc[0]))
            seen.append(_mean([_mean(one.to_numpy()) for one in ranks]))
            picked = [one.to_numpy()[rng.integers(len(one), size=(DRAWS, len(one)))] for one in ranks]
            drawn.append(_mean([_mean(one, axis=1) for one in picked]))
        found[f"rank_{score}"] = _mean(seen)
        low, high = resampled(np.array(drawn), generator(0, "ranking", score))
        known = len(seen) > 1 or table["seed"].nunique() > 1
        found |= {f"rank_{score}_low": low if known else np.nan, f"rank_{score}_high": high if known else np.nan}
    return pd.DataFrame(found).sort_values("rank_median", kind="stable").reset_index(drop=True)


def resampled(drawn: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Give 95 % intervals of means over landscapes, (k,) each, of `DRAWS` draws within each of them: (landscapes, DRAWS, k)."""
    which = rng.integers(len(drawn), size=(DRAWS, len(drawn)))
    means = _mean(drawn[which, np.arange(DRAWS)[:, None]], axis=1)
    low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def _mean(values: Sequence[FloatArray] | FloatArray, axis: int = 0) -> FloatArray:
    """Mean of what is there, NaN where nothing is."""
    values = np.asarray(values, dtype=float)
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(axis) / there.sum(axis)  # type: ignore[no-any-return]


REPORT = "benchmark.md"
"""Name of the table's file."""


def conclude(outcomes: Sequence[dict[str, Any] | BaseException], out: Path | None) -> pd.DataFrame:
    """Give the rows of a benchmark, and write their table into `out`.

    Args:
        outcomes: of each job its row, or why there is none.

    Raises:
        MethodError: jobs failed; the table has all others.
    """
    failed = [one for one in outcomes if isinstance(one, BaseException)]
    rows = pd.DataFrame([one for one in outcomes if not isinstance(one, BaseException)])
    if out is not None and len(rows):
        write_text(out / REPORT, markdown(rows))
    if not failed:
        return rows
    told = f"{len(failed)} of {len(outcomes)} jobs failed, all others are kept in {out}; run again, they alone are tried"
    raise MethodError(f"{told}: {failed[0]}" + (f"; and {len(failed) - 1} more" if failed[1:] else "")) from failed[0]


def markdown(rows: pd.DataFrame) -> str:
    """Write results as Markdown: a table a task, scores as mean ± sd over seeds; where there are several, mean ranks over tasks.

    Args:
        rows: results as `ensure` gives them, with `q`, `fraction`, `noise` and the visible rows.
    """
    table = summary(rows)
    table = table.iloc[np.argsort([_place(one) for one in table["method"]], kind="stable")]
    table = table.sort_values("task", key=lambda task: task.map(list(dict.fromkeys(rows["task"])).index), kind="stable")
    parts = [_over_tasks(rows, table)] if table["task"].nunique() > 1 else []
    for task, found in table.groupby("task", sort=False):
        one = rows[rows["task"] == task].iloc[0]
        view = [f"{one['n_visible']:,} visible rows, the best of them {one['best_visible']:.3f}"]
        view += [f"{one['fraction']:.2%} of these shown"] if one["fraction"] < 1 else []
        view += [f"noise of {one['noise']:g} on their values"] if one["noise"] else []
        seeds = "seed" if found["seeds"].max() == 1 else "seeds, mean ± sd"
        lines = [
            f"## {task}", "", f"Q = {one['q']} designs, {found['seeds'].max()} {seeds}; {'; '.join(view)}. "
            "Scores are normalised, 1 is the best value of the whole data set; ranks are means over seeds.", "",
            "| method | max | median | mean | rank by max | rank by median | distinct | share in data | seconds | CPU seconds "
            "| peak MB |", "|---|" + "---:|" * 10,
        ]  # fmt: skip
        for row in found.to_dict("records"):
            cells = [str(row["method"]).replace("|", "\\|")]
            cells += [spread(row[name], row[f"{name}_sd"]) for name in SCORES]
            cells += [
                f"{row['rank_max']:.1f}",
                f"{row['rank_median']:.1f}",
                f"{row['n_unique']:g}",
                f"{row['share_in_data']:.1%}",
            ]
            cells += [f"{row['seconds']:.1f}", f"{row['cpu_seconds']:.1f}", f"{row['peak_mb']:.0f}"]
            lines.append("| " + " | ".join(cells) + " |")
        if "share_without_value" in found and (lost := found[found["share_without_value"] > 0]).size:
            told = ", ".join(f"{row['method']} {row['share_without_value']:.1%}" for row in lost.to_dict("records"))
            lines += ["", f"Designs that have no value here count as 0: {told}."]
        parts.append("\n".join(lines))
    return "# Benchmark\n\n" + "\n\n".join(parts) + "\n"


def _place(method: str) -> int:
    return FIRST.index(method) if method in FIRST else len(FIRST)


def _over_tasks(rows: pd.DataFrame, table: pd.DataFrame) -> str:
    """Write mean ranks over tasks, and each task's median beside them."""
    ranks = mean_ranks(rows)
    ranks = ranks.iloc[np.argsort([_place(one) for one in ranks["method"]], kind="stable")]
    tasks = list(dict.fromkeys(rows["task"]))
    medians = table.set_index(["method", "task"])["median"]
    lines = [
        "## Over tasks", "", "Mean rank of methods, 1 the best, with a 95 % interval over landscapes and seeds; each landscape "
        "counts once. Then each task's median.", "", "| method | rank by median | rank by max | " + " | ".join(tasks) + " |",
        "|---|" + "---:|" * (2 + len(tasks)),
    ]  # fmt: skip
    for row in ranks.to_dict("records"):
        cells = [str(row["method"]).replace("|", "\\|")]
        cells += [_ranked(row, name) for name in ("rank_median", "rank_max")]
        found = [medians.get((row["method"], task)) for task in tasks]
        lines.append("| " + " | ".join(cells + ["" if one is None else f"{one:.3f}" for one in found]) + " |")
    return "\n".join(lines)


def _ranked(row: Mapping[Any, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.1f}" if np.isnan(low) else f"{row[name]:.1f} ({low:.1f} to {high:.1f})"


def spread(mean: float, sd: float | None) -> str:
    """Write mean ± sd to three places, the mean alone where one seed gives no sd."""
    return f"{mean:.3f}" if sd is None or np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"
