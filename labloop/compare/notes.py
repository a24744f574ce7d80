"""What could not be computed, or must be read with care."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labloop.compare import measures, statistics
from labloop.compare.figures import ArmSummary, Hits, whose
from labloop.compare.pairs import Pair
from labloop.compare.plan import Plan

FAR = 10.0
"""A single reading is pointed at that lies so many times the range of the middle half of its arm's wells from their median: 13
standard deviations of normal ones."""
FEWEST = 8
"""Wells of an arm in a round below which none is."""


def notes(
    picks: pd.DataFrame, arms: Sequence[ArmSummary], pairs: Sequence[Pair], hits: Sequence[Hits], plan: Plan, top_k: int
) -> tuple[str, ...]:
    """Give the notes of a comparison, one sentence or two each."""
    told = []
    if lost := [f"{arm.arm} {arm.n_failed} of {arm.n_wells}" for arm in arms if arm.n_failed]:
        told.append(
            f"Lost wells: {', '.join(lost)}. They are left out, never counted as zero; where bad designs fail more often, "
            "that flatters an arm."
        )
    if waiting := [f"{arm.arm} {arm.n_pending} of {arm.n_wells}" for arm in arms if arm.n_pending]:
        told.append(f"Wells without a result yet: {', '.join(waiting)}.")
    if few := [arm.arm for arm in arms if 0 < arm.n_measured < statistics.TOP_WELLS]:
        told.append(f"Fewer than {statistics.TOP_WELLS} measured wells: {', '.join(few)}. Read such figures as anecdotes.")
    counted = {one.arm for one in hits}
    if unknown := [arm.arm for arm in arms if arm.n_measured and arm.arm not in counted]:
        told.append(f"Nothing was known when these rounds began, so hits cannot be counted: {', '.join(unknown)}.")
    bounds = int(((picks["censored"] != 0) & picks["y"].notna()).sum())
    if bounds:
        read, are = ("1 well reads", "is") if bounds == 1 else (f"{bounds} wells read", "are")
        told.append(f"{read} beyond the assay's range and {are} counted at the bound.")
        if any(pair.leaning for pair in pairs):
            told[-1] += " A verdict holds wherever their truth lies, up to the worst and the best reading."
    told += _far(picks)
    for pair in pairs:
        told += _of_pair(pair, plan, top_k)
    return tuple(told)


def _far(picks: pd.DataFrame) -> list[str]:
    """Name single readings that lie far from all others of their arm and round, which a mean follows."""
    told = []
    for (arm, number), mine in picks[picks["y"].notna()].groupby(["arm", "round"], sort=False):
        y = mine["y"].to_numpy(float)
        if len(y) < FEWEST:
            continue
        low, middle, high = np.quantile(y, [0.25, 0.5, 0.75])
        far = np.abs(y / 2 - middle / 2) > FAR / 2 * (high - low)
        if high > low and far.sum() == 1:
            design = mine["design_id"].to_numpy()[far][0]
            told.append(
                f"{whose(str(arm))} design {design} of round {number} read more than {FAR:.0f} times as far from its other wells "
                "as they lie apart: means and their intervals follow it, so see whether it can be true."
            )
    return told


def _of_pair(pair: Pair, plan: Plan, top_k: int) -> list[str]:
    names, told = f"{pair.first} and {pair.second}", []
    if not pair.blocks:
        return [f"{names} have no round in which both have measured wells."]
    if pair.refused:
        told.append(f"{names}: no verdict before {100 * plan.share:.0f} % of each arm's wells have a result; too many are out.")
    elif pair.left_out:
        late = ", ".join(map(str, pair.left_out))
        told.append(
            f"{names}: round {late} does not count yet, as too many of its wells are out ({100 * plan.share:.0f} % are needed)."
        )
    if measures.heterogeneity(pair) < 1 - statistics.LEVEL:
        told.append(f"The difference between {names} changes from round to round; its mean over the rounds hides that.")
    if pair.n_shared:
        told.append(f"{names} both chose {pair.n_shared} of these designs; they count for both and cannot tell them apart.")
    given = [sum(block.wells[side] for block in pair.blocks) for side in (0, 1)]
    if given[0] != given[1]:
        few, many = (pair.first, pair.second) if given[0] < given[1] else (pair.second, pair.first)
        if pair.uneven:
            told.append(
                f"{names} had {given[0]} and {given[1]} wells, whose order is not known: that flatters {few} in the mean, as the "
                f"first wells of an arm tend to be its best, and {many} in best and top {top_k}."
            )
        else:
            told.append(
                f"{names} had {given[0]} and {given[1]} wells: as many of {whose(many)} are compared as {few} had, those that it "
                f"chose first. The table counts all wells, which flatters {few} in the mean, {many} in best and top {top_k}."
            )
    return told
