"""A job of a study: one arm's simulated campaign in one lab, known by all that its result depends on but labloop's code."""

from __future__ import annotations

import hashlib
import json
import time
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from labloop.config.campaign import CampaignConfig
from labloop.config.round import RoundConfig
from labloop.proposing.pool import Picks
from labloop.registry import Options, create
from labloop.rounds.related import RelatedSource
from labloop.seeds import derive
from labloop.space.objective import Objective
from labloop.studies.bench import Bench
from labloop.studies.labs.lab import Lab
from labloop.studies.simulate import _Loop, draw_start
from labloop.studies.study_config import Start

TWO_SIDED_90 = 1.6448536269514722
"""Standard deviations on either side of the mean that hold 90 % of a normal distribution."""


class Job(BaseModel):
    """One arm's simulated campaign in one lab: values only, so that it travels as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lab: str
    plugin: str
    options: Options
    campaign: CampaignConfig
    arm: str
    config: RoundConfig
    """The arm alone, and its judge."""
    start: Start
    noise: float
    quantile: float
    batch: int
    rounds: int
    seed: int
    history: tuple[dict[str, Any], ...] = ()
    """What the campaign's history knows: fields of `labloop.rounds.related.RelatedSource`."""
    content: str = ""
    """Hash of the files that the lab is read from, empty where there are none."""

    @property
    def key(self) -> str:
        """What makes two jobs one and the same.

        The lab's name in the study, what a campaign says of itself, and the judge of an arm that does not select by one do not
        matter, nor do settings at their defaults, so that a setting that labloop learns later does not make a job another.
        """
        told = self.model_dump(mode="json", exclude={"lab", "campaign", "config", "history", "content"})
        told["config"] = self.config.model_dump(mode="json", exclude_defaults=True, exclude=None if self.selects else {"judge"})
        told["campaign"] = self.campaign.model_dump(mode="json", include={"space", "objective", "seed"})
        if self.campaign.goal is not None:
            told["goal"] = self.campaign.goal.model_dump(mode="json")
        if (bench := Bench.of(self.campaign, self.batch)) is not None:
            told["bench"] = bench.told()
        if self.history:
            told["history"] = [one.sha256 for one in self._related]
        if self.content:
            told["content"] = self.content
        told["version"] = version("labloop-toolkit")
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def _related(self) -> list[RelatedSource]:
        return [RelatedSource(**one) for one in self.history]

    @property
    def selects(self) -> bool:
        """Does the arm choose by the judge?"""
        return any(set(arm.selector) != {"as_proposed"} for arm in self.config.arms.values())

    @property
    def label(self) -> str:
        return f"{self.arm} on {self.lab}, {self.start} to start, noise {self.noise:g}, seed {self.seed}"

    def run(self) -> dict[str, Any]:
        """Simulate the campaign: `rows`, one a round, the lab's `range` where known, and the ends of what was `seen` before.

        Raises:
            LabloopError: the arm or the lab cannot do it.
        """
        options = json.dumps(self.options)
        lab = _open(self.plugin, options, self.content)
        begun = _begun(
            self.plugin,
            options,
            self.content,
            self.start,
            derive(self.campaign.seed, "start", self.seed),
            self.quantile,
            self.campaign.objective,
        )
        coverage: dict[int, float] = {}
        n_failed: dict[int, int] = {}

        def watch(arm: str, number: int, wells: pd.DataFrame, picks: Picks | None) -> None:
            n_failed[number] = int((wells["status"] == "failed_design").sum())
            values = wells.set_index("design_id")["value"].dropna()
            if picks is not None and len(values):
                said = pd.DataFrame({"mean": picks.mean, "std": picks.std}, index=list(picks.pool.ids)).reindex(values.index)
                off = np.abs(self.campaign.objective.to_y(values.to_numpy(float)) - said["mean"])
                if said["mean"].notna().any():
                    coverage[number] = float((off <= TWO_SIDED_90 * said["std"])[said["mean"].notna()].mean())

        bench = Bench.of(self.campaign, self.batch)
        loop = _Loop(
            campaign=self.campaign, config=self.config, lab=lab, seed=derive(self.campaign.seed, "simulate", self.seed),
            rounds=self.rounds, batch=self.batch if bench is None else bench.designs, bench=bench, watch=watch,
            history=tuple(one.dataset(self.campaign) for one in self._related),
        )  # fmt: skip
        rows, cpu = [], time.process_time()
        for row in loop.run(begun):
            spent = round(time.process_time() - cpu, 3)
            seen = {"n_failed": n_failed.get(row["round"], 0), "coverage": coverage.get(row["round"]), "cpu_seconds": spent}
            rows.append({"note": "", **row, **seen})
            cpu = time.process_time()
        values = begun["value"].to_numpy(float)
        ends = [float(np.nanmin(values)), float(np.nanmax(values))]
        return {"rows": rows, "range": _range(lab), "seen": [*ends, lab.optimum[1]] if hasattr(lab, "optimum") else ends}


@cache
def _open(plugin: str, options: str, content: str) -> Lab:
    """Open a lab once a process; one whose files have changed is another."""
    return create("labs", plugin, json.loads(options))  # type: ignore[no-any-return]


@lru_cache(maxsize=4)
def _begun(
    plugin: str, options: str, content: str, n: Start, seed: int, quantile: float, objective: Objective
) -> pd.DataFrame:  # fmt: skip
    """The start data, which the arms of a seed share; a lab without a table surveys many designs for them."""
    return draw_start(_open(plugin, options, content), n, seed=seed, quantile=quantile, objective=objective)


def _range(lab: Lab) -> list[float] | None:
    if hasattr(lab, "bounds"):
        return [float(end) for end in lab.bounds()]
    if hasattr(lab, "table"):
        values = lab.table()[1]
        return [float(values.min()), float(values.max())]
    return None
