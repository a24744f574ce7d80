"""Which beta a pick's stored bound was taken with: a bound says nothing without it."""

from __future__ import annotations

import numpy as np
import pandas as pd


def with_beta(picks: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Add a column `beta` to picks: standard deviations that their bound `lcb` lies below the mean; NaN where nobody judged.

    The bound is taken on what a design is worth, and `beta` is what the round's event `judged` tells of the arm. In rounds of
    labloop 0.1.0, which tell nothing, it was taken on a reading, mean - beta · std, so that the numbers themselves tell beta.

    Args:
        picks: with `round`, `arm`, `mean`, `std` and `lcb`.
        events: the campaign's, as `Ledger.events` gives them.
    """
    found = pd.Series(np.nan, index=picks.index, dtype=float)
    judged = events[events["kind"] == "judged"]
    told = dict(zip(judged["round"], judged["detail"], strict=True))
    for (number, arm), mine in picks.groupby(["round", "arm"], sort=False):
        beta = (told.get(number) or {}).get("arms", {}).get(arm, {}).get("beta")
        found[mine.index] = _derived(mine) if beta is None else float(beta)
    return picks.assign(beta=found)


def _derived(picks: pd.DataFrame) -> float:
    """One beta for all picks of an arm, NaN where their bounds have none in common: a selector's own kind of bound."""
    mean, std, lcb = (picks[name].to_numpy(float) for name in ("mean", "std", "lcb"))
    known = np.isfinite(mean) & np.isfinite(lcb) & (std > 0)
    betas = (mean[known] - lcb[known]) / std[known]
    return float(np.median(betas)) if len(betas) and np.ptp(betas) < 1e-6 * max(1.0, np.abs(betas).max()) else np.nan
