"""Looking at all plates at once leaves out only plates on which no rule of place could speak."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from labloop.assays.quality import plates
from labloop.assays.quality.plates import find_flags, plates_of
from labloop.assays.quality.screen import worth_a_look
from labloop.assays.quality.statistics import rank_test

SHAPE = (8, 12)
NO_WELLS = pd.DataFrame(columns=["round", "plate", "row", "column", "control"])


def history(n: int, *, seed: int = 0, timed: bool = False) -> pd.DataFrame:
    """Plates of a lab's own, each with an edge and a drift of random strength, and some gaps."""
    rng = np.random.default_rng(seed)
    row, column = (one.ravel() for one in np.indices(SHAPE))
    parts = []
    for i in range(n):
        order = rng.permutation(len(row)) if timed else np.arange(len(row))
        outside = (row == 0) | (row == 7) | (column == 0) | (column == 11)
        value = rng.normal(size=len(row)) + rng.choice([0, 1.0]) * outside + rng.choice([0, 1.5]) * order / len(row)
        part = pd.DataFrame({"row": row + 1.0, "column": column + 1.0, "value": value, "scaled": value})
        times = pd.Timestamp("2026-01-01T00:00:00Z") + pd.to_timedelta(order, unit="s")
        part["measured_at"] = [one.isoformat() for one in times] if timed else None
        part.loc[rng.random(len(row)) < 0.1, ["value", "scaled"]] = np.nan
        parts.append(part.assign(plate=f"P{i}", well=[f"W{j}" for j in range(len(row))]))
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(
        id=np.arange(1, len(rows) + 1), assay="a", status="ok", round=np.nan, control=None, role=None, note=None,
        design_id=[f"d{i}" for i in range(len(rows))], n_rows=SHAPE[0], n_columns=SHAPE[1],
    )  # fmt: skip


@pytest.mark.parametrize("timed", [False, True])
def test_flags_are_those_of_looking_at_every_plate(timed: bool) -> None:
    rows = history(24, timed=timed)
    slow = [flag for (_, plate), one in plates_of(rows) for flag in plates._of_plate(plate, one)]
    assert {rule for _, rule, _ in slow} == {"edge", "drift"}
    assert find_flags(rows, NO_WELLS) == slow
    looked_at = worth_a_look(rows)["plate"].nunique()
    assert looked_at < rows["plate"].nunique()


def test_a_plate_with_controls_is_always_looked_at() -> None:
    rows = history(1).assign(value=1.0, scaled=1.0)
    assert not len(worth_a_look(rows.assign(scaled=np.arange(len(rows)) % 2)))
    rows.loc[0, ["design_id", "control", "role"]] = [None, "blank", "negative"]
    assert len(worth_a_look(rows)) == len(rows)
    assert not len(worth_a_look(rows.iloc[:0]))


@pytest.mark.parametrize("digits", [1, 6])
def test_the_rank_test_is_mann_and_whitneys(digits: int) -> None:
    rng = np.random.default_rng(0)
    for n, m in ((6, 6), (30, 54), (36, 60)):
        a, b = np.round(rng.normal(size=n), digits), np.round(rng.normal(0.4, size=m), digits)
        expected = scipy.stats.mannwhitneyu(a, b, alternative="two-sided", method="asymptotic").pvalue
        assert rank_test(a, b) == pytest.approx(expected, rel=1e-9)
    assert rank_test(np.ones(6), np.ones(7)) == 1
