"""Compare the arms of a campaign on what the lab measured, with intervals, and say so when the data cannot decide.

The question is fixed beforehand: one arm is better than another where the mean y of its wells is higher, the 95 % interval of
the difference leaves zero out, and the permutation test gives p ≤ 0.05 after Holm's correction over the pairs of arms. Best,
top-k mean and hit rate stand beside it and decide nothing. How intervals and tests are made: `labloop.compare.statistics`.
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
from labloop.compare.results import ArmSummary, Calibration, Comparison, Difference, Measure, Overlap
from labloop.compare.statistics import Block, Draws, Pair
from labloop.space.objective import Objective

__all__ = ["COLUMNS", "LOST", "Comparison", "compare"]

COLUMNS = ("round", "arm", "design_id", "proposer", "mean", "std", "lcb", "y", "status")
LOST = ("failed", "excluded", "missing")
"""How the status of a well starts that will give no value."""
_NAN = float("nan")


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
) -> Comparison:
    """Compare the arms over some rounds. Same input and seed, same answer.

    Args:
        picks: one row a (round, arm, design) with the columns `COLUMNS`; mean, std, lcb and y in y (larger is better), y NaN
            where nothing was measured, `status` starting with one of `LOST` where nothing will be.
        incumbent: the best y known when a round was proposed, one for all rounds or by round; None or NaN where there was none.
        runs: one row a run: `proposer` and `seconds`, and `arm` and `round` where known.
        pools: design ids of each arm's pool.
        rounds: which rounds; all by default.
        top_k: wells in the top-k mean.

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
        y=y.where(np.isfinite(y)), incumbent=[_number(known.get(int(r))) for r in picks["round"]],
        arm=picks["arm"].astype(str), proposer=picks["proposer"].astype(str), status=picks["status"].astype(str),
    )  # fmt: skip
    names = list(dict.fromkeys(picks["arm"]))
    by_arm = {arm: picks[picks["arm"] == arm] for arm in names}
    spent = _spent(picks, runs, over)
    draws = Draws(seed, n_resamples)
    arms = tuple(_summary(rows, arm, None, objective, top_k, spent, draws) for arm, rows in by_arm.items())
    proposers = tuple(
        _summary(rows, str(arm), str(proposer), objective, top_k, spent, draws)
        for (arm, proposer), rows in picks.groupby(["arm", "proposer"], sort=False)
    )
    pairs = [_pair(picks, first, second) for first, second in combinations(names, 2)]
    differences = _differences(pairs, objective, top_k, draws)
    calibration = [_calibration(rows, arm) for arm, rows in by_arm.items()]
    if len(names) > 1:
        calibration.append(_calibration(picks.drop_duplicates(["round", "design_id"]), None))
    chosen = {arm: set(zip(rows["round"], rows["design_id"], strict=True)) for arm, rows in by_arm.items()}
    offered = {arm: set(pools[arm]) for arm in names if arm in pools} if pools else {}
    return Comparison(
        rounds=over, top_k=top_k, objective=objective, arms=arms, proposers=proposers, differences=differences,
        calibration=tuple(calibration), overlaps=(*_overlaps(offered, "pools"), *_overlaps(chosen, "picks")),
        notes=_notes(picks, arms, pairs, top_k),
    )  # fmt: skip


def _summary(
    rows: pd.DataFrame, arm: str, proposer: str | None, objective: Objective, top_k: int,
    spent: Mapping[tuple[str, str | None], float], draws: Draws,
) -> ArmSummary:  # fmt: skip
    measured = rows[rows["y"].notna()]
    y = measured["y"].to_numpy(float)
    failed = int((rows["y"].isna() & rows["status"].str.startswith(LOST)).sum())
    blocks = [block["y"].to_numpy(float) for _, block in measured.groupby("round")]
    low, high, method = statistics.mean_limits(blocks, draws, arm, proposer or "")
    against = measured[measured["incumbent"].notna()]
    hits = int((against["y"] > against["incumbent"]).sum())
    hit_low, hit_high = statistics.wilson(hits, len(against))
    best, mean, top_mean = (float(y.max()), float(y.mean()), float(np.sort(y)[-top_k:].mean())) if len(y) else (_NAN,) * 3
    values = objective.to_value(np.array([best, mean, top_mean, low, high])).tolist()
    return ArmSummary(
        arm=arm, proposer=proposer, n_wells=len(rows), n_measured=len(y), n_failed=failed,
        n_pending=len(rows) - len(y) - failed, best=best, best_id=str(measured["design_id"].iloc[y.argmax()]) if len(y) else None,
        mean=mean, mean_low=low, mean_high=high, mean_method=method, top_mean=top_mean,
        n_hits=hits if len(against) else None, hit_rate=hits / len(against) if len(against) else _NAN, hit_low=hit_low,
        hit_high=hit_high, best_value=values[0], mean_value=values[1], mean_value_low=min(values[3:]),
        mean_value_high=max(values[3:]), top_mean_value=values[2], seconds=spent.get((arm, proposer), _NAN),
    )  # fmt: skip


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


def _pair(picks: pd.DataFrame, first: str, second: str) -> Pair:
    measured = picks[picks["y"].notna() & picks["arm"].isin([first, second])]
    blocks = []
    for _, rows in measured.groupby("round"):
        a, b = (rows[rows["arm"] == arm].set_index("design_id")["y"] for arm in (first, second))
        if len(a) and len(b):
            both = a.index.intersection(b.index)
            own = a.drop(both).to_numpy(float), b.drop(both).to_numpy(float)
            blocks.append(Block(own, a[both].to_numpy(float), float(rows["incumbent"].iloc[0])))
    return Pair(first, second, tuple(blocks))


def _differences(pairs: Sequence[Pair], objective: Objective, top_k: int, draws: Draws) -> tuple[Difference, ...]:
    tests = [statistics.permutation(pair, top_k, draws) for pair in pairs]
    corrected = [statistics.holm([test[i] for test in tests]) for i in range(3)]
    found = []
    for i, pair in enumerate(pairs):
        nothing = (_NAN, _NAN, _NAN, "none: no round in which both have measured wells")
        intervals: dict[Measure, statistics.Interval] = {
            "mean": statistics.mean_difference(pair, draws) if pair.blocks else nothing,
            "top_mean": statistics.top_difference(pair, top_k, draws) if pair.blocks else nothing,
            "hit_rate": statistics.hit_difference(pair) if pair.blocks else nothing,
        }
        for j, (measure, (estimate, low, high, method)) in enumerate(intervals.items()):
            kind, effect, (effect_low, effect_high) = _effect(measure, estimate, (low, high), objective)
            needed = statistics.wells_needed(pair, estimate, len(pairs)) if measure == "mean" else None
            found.append(Difference(
                first=pair.first, second=pair.second, measure=measure, n_first=pair.n(0), n_second=pair.n(1),
                n_shared=pair.n_shared, estimate=estimate, low=low, high=high, method=method, p=tests[i][j],
                p_holm=corrected[j][i], wells_needed=needed, effect=effect, effect_low=effect_low, effect_high=effect_high,
                effect_kind=kind,
            ))  # fmt: skip
    return tuple(found)


def _effect(
    measure: Measure, estimate: float, limits: tuple[float, float], objective: Objective
) -> tuple[Literal["difference", "ratio", "rate"], float, tuple[float, float]]:
    """Say a difference of y in the lab's unit."""
    if measure == "hit_rate":
        return "rate", estimate, limits
    base = {"identity": None, "log": math.e, "log10": 10.0}[objective.transform]
    found = [objective.sign * x if base is None else base ** (objective.sign * x) for x in (estimate, *limits)]
    return "difference" if base is None else "ratio", found[0], (min(found[1:]), max(found[1:]))


def _calibration(rows: pd.DataFrame, arm: str | None) -> Calibration:
    rows = rows[rows["y"].notna() & rows["mean"].notna()]
    y, mean, std, lcb = (pd.to_numeric(rows[column]).to_numpy(float) for column in ("y", "mean", "std", "lcb"))
    off, spread, bound = np.abs(y - mean), std[np.isfinite(std)], lcb[np.isfinite(lcb)]
    ranked = len(y) > 2 and np.ptp(y) > 0 and np.ptp(mean) > 0
    return Calibration(
        arm=arm, n=len(y), within_1_std=_share(off[np.isfinite(std)] <= spread),
        within_2_std=_share(off[np.isfinite(std)] <= 2 * spread), above_lcb=_share(y[np.isfinite(lcb)] >= bound),
        rho=float(scipy.stats.spearmanr(mean, y).statistic) if ranked else _NAN,
        optimism=float((mean - y).mean()) if len(y) else _NAN,
    )  # fmt: skip


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


def _notes(picks: pd.DataFrame, arms: Sequence[ArmSummary], pairs: Sequence[Pair], top_k: int) -> tuple[str, ...]:
    notes = []
    if lost := [f"{arm.arm} {arm.n_failed} of {arm.n_wells}" for arm in arms if arm.n_failed]:
        notes.append(
            f"Lost wells: {', '.join(lost)}. They are left out, never counted as zero; where bad designs fail more often, "
            "that flatters an arm."
        )
    if waiting := [f"{arm.arm} {arm.n_pending} of {arm.n_wells}" for arm in arms if arm.n_pending]:
        notes.append(f"Wells without a result yet: {', '.join(waiting)}.")
    for arm in arms:
        if 0 < arm.n_measured < statistics.TOP_WELLS:
            notes.append(f"{arm.arm} has fewer than {statistics.TOP_WELLS} measured wells: read its figures as anecdotes.")
        if arm.n_measured and arm.n_hits is None:
            notes.append(f"{arm.arm}: no incumbent is stored for these rounds, so hits cannot be counted.")
    bounds = int((picks["status"].str.startswith("censored") & picks["y"].notna()).sum())
    if bounds:
        notes.append(f"{bounds} wells read beyond the assay's range and are counted at the bound.")
    for pair in pairs:
        names = f"{pair.first} and {pair.second}"
        if not pair.blocks:
            notes.append(f"{names} have no round in which both have measured wells.")
            continue
        if statistics.heterogeneity(pair) < 1 - statistics.LEVEL:
            notes.append(f"The difference between {names} changes from round to round; its mean over the rounds hides that.")
        if pair.n_shared:
            notes.append(f"{names} both chose {pair.n_shared} of these designs; they count for both and cannot tell them apart.")
        few, many = sorted((pair.n(0), pair.n(1)))
        if many > 1.1 * few and many > top_k:
            notes.append(f"{names} have {pair.n(0)} and {pair.n(1)} measured wells: best and top-{top_k} favour the larger arm.")
        if 2 / statistics.relabellings(pair) > 1 - statistics.LEVEL and not pair.same:
            notes.append(f"{names} have too few wells for any permutation test to reach p = 0.05.")
    return tuple(notes)
