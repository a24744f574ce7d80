"""What a page is about: the report's tables as frames with the lab's values, worked out once and only where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from labloop.compare.results import Comparison
from labloop.plates.statuses import BOUNDS
from labloop.proposing.dataset import summed_up
from labloop.report import figures, quality, tables
from labloop.report.data import ReportData
from labloop.report.tables import Numbers
from labloop.types import FloatArray


@dataclass(frozen=True, eq=False)
class Facts:
    """What words, tables and figures take their numbers from."""

    data: ReportData

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Readings with `round` 0 for the start data, controls included."""
        rows = self.data.measurements
        return rows.assign(
            round=pd.to_numeric(rows["round"]).fillna(0).astype(int), y=pd.to_numeric(rows["y"]).astype(float),
            value=pd.to_numeric(rows["value"]).astype(float), status=rows["status"].fillna("").astype(str),
        )  # fmt: skip

    @cached_property
    def picks(self) -> pd.DataFrame:
        """Picks with predictions and readings in the lab's unit, `value` NaN where there is none."""
        rows = self.data.picks
        numbers = {column: pd.to_numeric(rows[column]).astype(float) for column in ("mean", "std", "lcb", "y")}
        rows = rows.assign(round=rows["round"].astype(int), arm=rows["arm"].astype(str), **numbers)

        def value(y: pd.Series[float]) -> FloatArray:
            return self.data.objective.to_value(y.to_numpy(float))

        ends = np.sort([value(rows["mean"] - rows["std"]), value(rows["mean"] + rows["std"])], axis=0)
        return rows.assign(value=value(rows["y"]), predicted=value(rows["mean"]), low=ends[0], high=ends[1])

    @cached_property
    def designs(self) -> pd.DataFrame:
        """Measured designs with value and y, joined as in the dataset, and the first round, best first.

        Bounds that tell of no success are left out, and so are designs that break a limit.
        """
        rows = self.readings[self.readings["y"].notna() & self.readings["design_id"].notna()]
        rows = rows[~rows["design_id"].isin(self.breaking)]
        by = rows.groupby("design_id", sort=True).agg(round=("round", "min"), design=("design", "first"))
        sides = rows["status"].map(BOUNDS).fillna(0).to_numpy(dtype=np.int64)
        place, y = by.index.get_indexer(pd.Index(rows["design_id"])), rows["y"].to_numpy(float)
        y, side = summed_up(place, y, sides * self.data.objective.sign, np.ones(len(rows)), len(by))
        by = by.assign(y=y, value=self.data.objective.to_value(y))[side >= 0]
        return by.sort_values("y", ascending=False, kind="stable")

    @cached_property
    def breaking(self) -> frozenset[str]:
        """Ids of designs that break a limit."""
        if self.data.several is None:
            return frozenset()
        values = self.data.several["values"]
        return frozenset(values.loc[~values["feasible"].to_numpy(dtype=bool), "design_id"])

    @property
    def keeping(self) -> str:
        """Say of designs that they keep the limits, where there are limits."""
        return " that keep the limits" if self.data.several is not None and self.data.several["goal"].limits else ""

    @cached_property
    def numbers(self) -> Numbers:
        value = self.readings.loc[self.readings["value"].notna(), "value"]
        return Numbers(self.data.objective, float(value.std()) if len(value) > 1 else 0.0)

    @cached_property
    def arms(self) -> dict[str, str]:
        """Each arm's colour, in the order of their first picks."""
        return figures.colours(list(dict.fromkeys(self.picks["arm"])))

    @cached_property
    def measured_rounds(self) -> list[int]:
        return sorted(self.picks.loc[self.picks["y"].notna(), "round"].unique().tolist())

    @property
    def has_quality(self) -> bool:
        """Whether there is a plate to judge, or a flag to explain."""
        found = self.data.quality
        return found is not None and (len(found.flags) > 0 or bool(quality.of_assay(found, self.data.objective.assay)))

    @property
    def comparison(self) -> Comparison | None:
        """The comparison that leads: over all rounds, else the latest."""
        latest = max(self.data.comparisons, default=None)
        return self.data.overall or (self.data.comparisons[latest] if latest is not None else None)

    @cached_property
    def flagged(self) -> dict[tuple[str, str], str]:
        return quality.flagged(self.data.quality, self.data.objective.assay)

    @cached_property
    def promised(self) -> int | None:
        """The latest round, where it has predictions and no result yet."""
        last = int(self.picks["round"].max()) if len(self.picks) else 0
        waits = last not in self.measured_rounds and self.picks.loc[self.picks["round"] == last, "predicted"].notna().any()
        return last if last and waits else None

    def incumbent(self, number: int) -> float | None:
        y = next((r.incumbent for r in self.data.rounds if r.number == number), np.nan)
        return short(float(self.data.objective.to_value(np.array([y]))[0]))

    def tips(self, rows: pd.DataFrame, *, predictions: bool = False) -> list[dict[str, Any]]:
        found = []
        for row in rows.to_dict("records"):
            one: dict[str, Any] = {
                "value": short(row["value"]), "arm": row["arm"], "design": tables.text(row["design"]),
                "proposer": tables.text(row["proposer"]), "shown": self.numbers.value(row["value"]),
            }  # fmt: skip
            if predictions:
                between = f" ({self.numbers.between(row['low'], row['high'])})" if np.isfinite(row["low"]) else ""
                one |= {
                    "mean": short(row["predicted"]), "low": short(row["low"]), "high": short(row["high"]),
                    "round": str(row["round"]), "promise": f"{self.numbers.value(row['predicted'])}{between}",
                }  # fmt: skip
            found.append(one)
        return found


def short(x: float | None) -> float | None:
    """Five digits are more than any figure can show; no number is None."""
    return None if x is None or not np.isfinite(x) else float(f"{float(x):.5g}")


def rounded(values: Sequence[float]) -> list[float]:
    """Round to five digits, which is more than a screen shows."""
    return [float(f"{x:.5g}") for x in values]
