"""Compare the arms of a campaign on what the lab measured, with intervals, and say so when the data cannot decide.

The question is fixed beforehand: one arm is better than another where its mean y is higher round by round (from the third round
that both took part in), and its designs on these plates are better where the mean y of their wells is higher; p ≤ 0.05 after
Holm's correction over the pairs of arms and the plan's for looking after every round. Best, top-k mean and hit rate stand beside
it and decide nothing. The level and when it is spent: `labloop.compare.plan`; tests and intervals: `labloop.compare.measures`.

Under limits means are those of all wells, statements on the property; best, top-k mean and hits are of wells that keep them. In a
second difference of means a well that breaks a limit counts as its round's worst: where that turns, nobody is named.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy  # which loads scipy.stats on first use: it takes a second

from labloop.compare import statistics
from labloop.compare.differences import ALL_BUT_PROPOSERS, against_free, best_free, differences
from labloop.compare.notes import notes
from labloop.compare.pairs import LOST, Pair, pair_of
from labloop.compare.plan import Plan
from labloop.compare.results import ArmSummary, Calibration, Comparison, Hits, Overlap
from labloop.compare.statistics import Draws
from labloop.plates.statuses import BOUNDS
from labloop.space.objective import Objective

__all__ = ["COLUMNS", "LOST", "Comparison", "compare"]

COLUMNS = ("round", "arm", "design_id", "proposer", "mean", "std", "lcb", "y", "status")
"""What picks must have; with `rank`, an arm's own order of choice, arms of unequal wells are compared at equal depth, and with
`censored`, as in a dataset, y are bounds where that says so; without it, where the status does."""
_NAN = float("nan")
_PLAN = Plan()


def compare(
    picks: pd.DataFrame,
    *,
    incumbent: float | Mapping[int, float | None] | None,
    objective: Objective,
    seed: int,
    runs: pd.DataFrame | None = None,
    pools: Mapping[str, Collection[str]] | None = None,
    rounds: Sequence[int] | None = None,
    top_k: int = 10,
    n_resamples: int = 4_999,
    plan: Plan = _PLAN,
) -> Comparison:
    """Compare the arms over some rounds. Same input and seed, same answer.

    Args:
        picks: one row a (round, arm, design) with the columns `COLUMNS`; mean, std, lcb and y in y (larger is better), y NaN
            where nothing was measured, `status` starting with one of `LOST` where nothing will be. Under limits with `kept`,
            whether the design keeps them all.
        incumbent: the best y known when a round was proposed, one for all rounds or by round; None or NaN where there was none.
        runs: one row a run: `proposer` and `seconds`, and `arm` and `round` where known.
        pools: design ids of each arm's pool.
        rounds: which rounds; all by default.
        top_k: wells in the top-k mean.
        plan: the level, how it is spent over the campaign's rounds, and the share of wells that a verdict waits for.

    Raises:
        ValueError: a column is missing, or an arm has one design twice in a round.
    """
    if missing := [column for column in COLUMNS if column not in picks.columns]:
        raise ValueError(f"picks lack the columns {', '.join(missing)}")
    if rounds is not None:
        picks = picks[picks["round"].isin(list(rounds))]
    if picks.duplicated(["round", "arm", "design_id"]).any():
        raise ValueError("picks hold one design twice in one round and arm")
    over = tuple(sorted({int(r) for r in (picks["round"] if rounds is None else rounds)}))
    known = incumbent if isinstance(incumbent, Mapping) else dict.fromkeys(over, incumbent)
    y = pd.to_numeric(picks["y"]).astype(float)
    picks = picks.assign(
        y=y.where(np.isfinite(y)), censored=_sides(picks, objective),
        incumbent=[_number(known.get(int(r))) for r in picks["round"]],
        arm=picks["arm"].astype(str), proposer=picks["proposer"].astype(str), status=picks["status"].astype(str),
    )  # fmt: skip
    limited = "kept" in picks.columns
    picks = picks.assign(usable=_usable(picks) if limited else picks["y"])
    names = list(dict.fromkeys(picks["arm"]))
    by_arm = {arm: picks[picks["arm"] == arm] for arm in names}
    spent = _spent(picks, runs, over)
    draws = Draws(seed, n_resamples)
    arms = tuple(_summary(rows, arm, None, objective, top_k, spent, draws) for arm, rows in by_arm.items())
    proposers = tuple(
        _summary(rows, str(arm), str(proposer), objective, top_k, spent, draws)
        for (arm, proposer), rows in picks.groupby(["arm", "proposer"], sort=False)
    )

    def paired(by: Mapping[str, pd.DataFrame]) -> list[Pair]:
        return [pair_of(by, first, second, share=plan.share) for first, second in combinations(names, 2)]

    pairs = paired(by_arm)
    usable = paired({arm: rows.assign(y=rows["usable"]) for arm, rows in by_arm.items()}) if limited else None
    keeping = paired({arm: _keeping(rows) for arm, rows in by_arm.items()}) if limited else None
    free = against_free(picks, plan, over)
    hits = tuple(
        Hits(round=int(number), arm=arm, n_hits=int(_beats(rows).sum()), n_measured=len(rows))
        for arm, mine in by_arm.items()
        for number, rows in mine[mine["y"].notna() & mine["incumbent"].notna()].groupby("round")
    )
    calibration = [_calibration(rows, arm) for arm, rows in by_arm.items()]
    if len(names) > 1:
        calibration.append(_calibration(picks.drop_duplicates(["round", "design_id"]), None))
    chosen = {arm: set(zip(rows["round"], rows["design_id"], strict=True)) for arm, rows in by_arm.items()}
    offered = {arm: set(pools[arm]) for arm in names if arm in pools} if pools else {}
    return Comparison(
        rounds=over, top_k=top_k, objective=objective, plan=plan, arms=arms, proposers=proposers,
        differences=differences(
            pairs, plan, over, objective, top_k, draws, part=ALL_BUT_PROPOSERS if free else 1.0, usable=usable, keeping=keeping
        ),
        against_free=free, best_free=best_free(picks, plan), hits=hits,
        calibration=tuple(calibration), overlaps=(*_overlaps(offered, "pools"), *_overlaps(chosen, "picks")),
        notes=notes(picks, arms, pairs, hits, plan, top_k),
    )  # fmt: skip


def _summary(
    rows: pd.DataFrame, arm: str, proposer: str | None, objective: Objective, top_k: int,
    spent: Mapping[tuple[str, str | None], float], draws: Draws,
) -> ArmSummary:  # fmt: skip
    y, known, numbers, side = (rows[name].to_numpy(dtype=float) for name in ("y", "incumbent", "round", "censored"))
    measured = np.flatnonzero(~np.isnan(y))  # as arrays: frames of so few rows take far longer
    failed = sum(rows["status"].iloc[i].startswith(LOST) for i in np.flatnonzero(np.isnan(y)))
    n_against, hits = int((~np.isnan(known[measured])).sum()), int(_beats(rows).sum())
    y, numbers, above = y[measured], numbers[measured], side[measured] < 0
    kept = rows["kept"].to_numpy(dtype=bool)[measured] if "kept" in rows else np.ones(len(y), dtype=bool)
    by_round = {int(number): y[numbers == number] for number in np.unique(numbers)}
    low, high, method = statistics.mean_limits(list(by_round.values()), draws, arm, proposer or "")
    hit_low, hit_high = statistics.wilson(hits, n_against)
    keep_low, keep_high = statistics.wilson(int(kept.sum()), len(y)) if "kept" in rows else (_NAN, _NAN)
    order = np.lexsort((-y, above))  # best first; how good bounds from above are nobody knows
    order = order[kept[order]]
    mean, top_mean = (float(one.mean()) if len(one) else _NAN for one in (y, y[order][:top_k]))
    first = next((i for i in order.tolist() if not above[i]), None)
    best = _NAN if first is None else float(y[first])
    values = objective.to_value(np.array([best, mean, top_mean, low, high])).tolist()
    return ArmSummary(
        arm=arm, proposer=proposer, rounds=tuple(by_round), n_wells=len(rows), n_measured=len(y), n_failed=failed,
        n_pending=len(rows) - len(y) - failed, best=best,
        best_id=None if first is None else str(rows["design_id"].iloc[measured[first]]),
        mean=mean, mean_low=low, mean_high=high, mean_method=method, top_mean=top_mean,
        n_hits=hits if n_against else None, hit_rate=hits / n_against if n_against else _NAN, hit_low=hit_low,
        hit_high=hit_high, n_kept=int(kept.sum()) if "kept" in rows else None, keep_low=keep_low, keep_high=keep_high,
        best_value=values[0], mean_value=values[1], mean_value_low=min(values[3:]),
        mean_value_high=max(values[3:]), top_mean_value=values[2], seconds=spent.get((arm, proposer), _NAN),
    )  # fmt: skip


def _sides(picks: pd.DataFrame, objective: Objective) -> pd.Series[int]:
    if "censored" in picks:
        return picks["censored"].fillna(0).astype(int)
    return objective.sign * picks["status"].map(BOUNDS).fillna(0).astype(int)


def _beats(rows: pd.DataFrame) -> pd.Series[bool]:
    """Say which wells are above their incumbent for sure, and may be used."""
    return (rows["usable"] > rows["incumbent"]) & (rows["censored"] >= 0)


def _spent(picks: pd.DataFrame, runs: pd.DataFrame | None, rounds: Sequence[int]) -> dict[tuple[str, str | None], float]:
    """Seconds by (arm, proposer), and by (arm, None) for the whole arm; a run that serves two arms counts for both."""
    if runs is None or runs.empty:
        return {}
    if "round" in runs.columns:
        runs = runs[runs["round"].isin(list(rounds))]
    if "arm" not in runs.columns or runs["arm"].isna().any():
        runs = runs.drop(columns="arm", errors="ignore").merge(picks[["arm", "proposer"]].drop_duplicates(), on="proposer")
    spent: dict[tuple[str, str | None], float] = {}
    for arm, proposer, seconds in zip(runs["arm"].astype(str), runs["proposer"].astype(str), runs["seconds"], strict=True):
        if math.isfinite(seconds):
            for key in ((arm, proposer), (arm, None)):
                spent[key] = spent.get(key, 0.0) + float(seconds)
    return spent


def _calibration(rows: pd.DataFrame, arm: str | None) -> Calibration:
    told = np.array([pd.to_numeric(rows[column]).to_numpy(dtype=float) for column in ("y", "mean", "std", "lcb")])
    y, mean, std, lcb = told[:, ~np.isnan(told[:2]).any(axis=0)]
    off, spread, bound = np.abs(y - mean), std[np.isfinite(std)], lcb[np.isfinite(lcb)]
    ranked = len(y) > 2 and np.ptp(y) > 0 and np.ptp(mean) > 0
    return Calibration(
        arm=arm, n=len(y), within_1_std=_share(off[np.isfinite(std)] <= spread),
        within_2_std=_share(off[np.isfinite(std)] <= 2 * spread), above_lcb=_share(y[np.isfinite(lcb)] >= bound),
        rho=float(scipy.stats.spearmanr(mean, y).statistic) if ranked else _NAN,
        optimism=float((mean - y).mean()) if len(y) else _NAN,
    )  # fmt: skip


def _usable(picks: pd.DataFrame) -> pd.Series[Any]:
    """Give y, and for wells that break a limit the worst y of their round, what was known before it counted."""
    worst = np.fmin(picks.groupby("round")["y"].transform("min"), picks["incumbent"])
    return picks["y"].where(picks["kept"].astype(bool) | picks["y"].isna(), worst)


def _keeping(rows: pd.DataFrame) -> pd.DataFrame:
    """Take the value of wells that break a limit away, as of wells that were lost."""
    broken = rows["y"].notna() & ~rows["kept"].astype(bool)
    return rows.assign(y=rows["y"].mask(broken), status=rows["status"].mask(broken, "excluded"))


def _number(x: float | None) -> float:
    return _NAN if x is None else float(x)


def _share(true: np.ndarray[Any, Any]) -> float:
    return float(true.mean()) if len(true) else _NAN


def _overlaps(sets: Mapping[str, Collection[Any]], of: Literal["pools", "picks"]) -> list[Overlap]:
    found = []
    for (first, a), (second, b) in combinations(sets.items(), 2):
        shared, either = len(set(a) & set(b)), len(set(a) | set(b))
        found.append(Overlap(
            first=first, second=second, of=of, n_first=len(a), n_second=len(b), n_shared=shared,
            jaccard=shared / either if either else _NAN,
        ))  # fmt: skip
    return found
