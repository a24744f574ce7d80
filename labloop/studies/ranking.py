"""Methods side by side over tasks and seeds: means, spreads and ranks, as a table or as Markdown."""

from __future__ import annotations

import numpy as np
import pandas as pd

SCORES = ("max", "median", "mean")
COSTS = ("n_unique", "share_in_data", "seconds", "cpu_seconds", "peak_mb")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Sum a benchmark up, one row a task and method, best median first: mean and sd over seeds, and mean ranks.

    Ranks are among the methods of one task and seed, 1 the best, ties sharing the mean of their places.
    """
    table = table.assign(
        rank_max=table.groupby(["task", "seed"])["max"].rank(ascending=False),
        rank_median=table.groupby(["task", "seed"])["median"].rank(ascending=False),
    )
    groups = table.groupby(["task", "method"], sort=False)
    means = groups[[*SCORES, "rank_max", "rank_median", *COSTS]].mean()
    spreads = groups[list(SCORES)].std().add_suffix("_sd")
    found = pd.concat([groups.size().rename("seeds"), means, spreads], axis=1).reset_index()
    place = {task: i for i, task in enumerate(dict.fromkeys(table["task"]))}
    found["_task"] = found["task"].map(place)
    found = found.sort_values(["_task", "median"], ascending=[True, False], kind="stable").drop(columns="_task")
    return found.reset_index(drop=True)


def markdown(rows: pd.DataFrame) -> str:
    """Write results as Markdown: a table a task, scores as mean ± sd over seeds; where there are several, mean ranks over tasks.

    Args:
        rows: results as `finished` or `ensure` give them, with `q`, `fraction`, `noise` and the visible rows.
    """
    table = summary(rows)
    parts = []
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
        parts.append("\n".join(lines))
    if table["task"].nunique() > 1:
        ranks = table.groupby("method", sort=False)[["rank_max", "rank_median"]].mean().sort_values("rank_median", kind="stable")
        lines = ["## Mean rank over tasks", "", "| method | by max | by median |", "|---|---:|---:|"]
        lines += [f"| {method} | {row['rank_max']:.2f} | {row['rank_median']:.2f} |" for method, row in ranks.iterrows()]
        parts.append("\n".join(lines))
    return "# Benchmark\n\n" + "\n\n".join(parts) + "\n"


def spread(mean: float, sd: float | None) -> str:
    """Write mean ± sd to three places, the mean alone where one seed gives no sd."""
    return f"{mean:.3f}" if sd is None or np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"
