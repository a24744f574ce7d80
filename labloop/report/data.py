"""Everything that a report shows, as one value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from labloop.assays.quality.report import QualityReport
from labloop.compare import arms as compare
from labloop.compare.results import Comparison
from labloop.ledger.states import RoundState
from labloop.proposing.insight import Insight
from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective

MEASUREMENTS = ("round", "design_id", "design", "value", "y", "status", "plate", "well")
PICKS = (*compare.COLUMNS, "design")
WELLS = ("round", "plate", "well", "row", "column", "design_id", "design", "control", "arm")
TOP = ("design_id", "design", "value", "round", "arm", "proposer")
OTHERS = ("assay", "readings", "designs", "median", "unit")
RUNS = ("round", "arm", "proposer", "seconds", "device", "seed", "fingerprint", "notes")


def _no_rows(*columns: str) -> Callable[[], pd.DataFrame]:
    return lambda: pd.DataFrame(columns=list(columns))


@dataclass(frozen=True, kw_only=True)
class RoundInfo:
    """One round as the ledger knows it."""

    number: int
    state: RoundState
    n_picks: int
    incumbent: float = math.nan
    """The best y known when the round was proposed."""
    shape: tuple[int, int] = (8, 12)
    """Rows and columns of its plates."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportData:
    """Everything a report shows. Tables may hold more columns than named here, and no rows.

    `y`, `mean`, `std` and `lcb` are in y (larger is better), `value` is in the lab's unit; `design` is written as people do.
    """

    name: str
    description: str = ""
    objective: Objective = field(default_factory=Objective)
    planned_rounds: int | None = None
    rounds: tuple[RoundInfo, ...] = ()
    measurements: pd.DataFrame = field(default_factory=_no_rows(*MEASUREMENTS))
    """One row a reading: `round` (missing or 0 for the start data), `status` as ingested; value and y NaN where a well failed."""
    picks: pd.DataFrame = field(default_factory=_no_rows(*PICKS))
    """One row a (round, arm, design), as for `labloop.compare.arms.compare`; with each bound's `beta` where that is known."""
    wells: pd.DataFrame = field(default_factory=_no_rows(*WELLS))
    """One row a used well: `row` and `column` from 1, `control` its name or missing, `arm` (arms joined by " + ")."""
    top: pd.DataFrame = field(default_factory=_no_rows(*TOP))
    """The best designs, best first; a predicted `mean` is shown where the column is there."""
    runs: pd.DataFrame = field(default_factory=_no_rows(*RUNS))
    """One row a finished training."""
    comparisons: Mapping[int, Comparison] = field(default_factory=dict)
    """By round."""
    overall: Comparison | None = None
    """Over all measured rounds."""
    quality: QualityReport | None = None
    """What quality control found."""
    others: pd.DataFrame = field(default_factory=_no_rows(*OTHERS))
    """One row an assay beside the objective's: its readings with a value, designs, median and unit."""
    several: Mapping[str, Any] | None = None
    """Fields of `labloop.report.compromises.Several`, where there are several properties."""
    properties: Mapping[str, tuple[Objective, pd.DataFrame]] = field(default_factory=dict)
    """Of several properties those beside the leading one, by name: what each is, and its readings as in `measurements`."""
    insight: Insight | None = None
    """What the judge looks at, where somebody has asked with the data as they are."""
    flags: tuple[str, ...] = ()
    """Warnings that people must see: quality control, fallbacks, lost wells."""
    next: tuple[str, ...] = ()
    """What comes next: the next step, and whether another plate is worth it as far as `labloop plan` can tell."""
    spent: str = ""
    """Wells and money so far, in words, where the campaign has a budget or prices."""
    space: DesignSpace | None = None
    """What a design is; with `designs`, what the best have in common is drawn."""
    designs: pd.DataFrame = field(default_factory=_no_rows())
    """Every known design by its id, with the space's columns."""
    limits: tuple[str, ...] = ()
    """Batch-wide limits, in words."""
    head: str = ""
    """Where the campaign's chain in the ledger ended when the page was written."""
    version: str = ""
    """labloop's own, for the foot of the page."""

    def __post_init__(self) -> None:
        wanted = {"measurements": MEASUREMENTS, "picks": PICKS, "wells": WELLS, "top": TOP, "runs": RUNS}
        for name, columns in wanted.items():
            if missing := [column for column in columns if column not in getattr(self, name).columns]:
                raise ValueError(f"report: {name} lacks the columns {', '.join(missing)}")
