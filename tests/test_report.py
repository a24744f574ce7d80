"""The report is one calm page that opens offline, says what the data say, and lets nothing in a campaign run as markup."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("altair", reason="the report's packages are not installed")
pytest.importorskip("vl_convert", reason="the report's packages are not installed")

from labloop.compare import compare
from labloop.errors import LabloopError
from labloop.objective import Objective
from labloop.report import MEASUREMENTS, PICKS, RUNS, TOP, WELLS, ReportData, RoundInfo, write_report
from labloop.seeds import generator

EVIL = "<script>alert('x')</script>"
ARMS = {"offline": ("coms",), "bo": ("qei",), "free": ("random", "forest", "gp_mean", "ensemble")}
GAIN = {"offline": 0.10, "bo": 0.06, "free": 0.02}


def campaign(
    *, rounds: int = 3, measured: int | None = None, objective: Objective = Objective(assay="binding", unit="E"), n_start: int = 400,
    evil: bool = False, lost: float = 0.04, seed: int = 0,
) -> ReportData:  # fmt: skip
    """A made-up campaign with three arms on 96-well plates, of which the first `measured` rounds came back."""
    rng = generator(seed, "fake campaign")
    measured = rounds if measured is None else measured
    base = 0 if objective.transform == "identity" else -3

    def design() -> str:
        return "".join(rng.choice(list("ACGT"), 8))

    start = [(math.nan, f"s{i:04d}", design(), y, "ok", None, None) for i, y in enumerate(rng.normal(base - 0.05, 0.1, n_start))]
    picks, wells, readings, runs, infos = [], [], [*start], [], []
    best = max(row[3] for row in start) if start else math.nan
    for number in range(1, rounds + 1):
        plate, back = f"{'evil' if evil else 'demo'}-R{number:02d}-P1", number <= measured
        places = [(r, c) for c in range(1, 13) for r in range(1, 9)]
        places = [places[i] for i in rng.permutation(96)]
        made = []
        for arm, proposers in ARMS.items():
            for i in range(30):
                truth = base + 0.1 + GAIN[arm] * number + rng.normal(0, 0.13)
                mean = truth + rng.normal(0.03, 0.08)
                name = EVIL if evil and i == 0 else design()
                made.append([number, arm, f"{arm[0]}{number}{i:03d}", proposers[i % len(proposers)], mean, 0.09, mean - 0.09, truth, name])
        made[30][2], made[30][8] = made[0][2], made[0][8]  # one design of two arms
        made[30][7] = made[0][7]
        failed = {row[2] for row in made if rng.random() < lost}
        sides: dict[str, list[str]] = {}
        for row in made:
            sides.setdefault(row[2], []).append(row[1])
            status = "pending" if not back else "failed_technical" if row[2] in failed else "ok"
            y = row[7] if status == "ok" else math.nan
            picks.append((*row[:7], y, status, row[8]))
        at = iter(places)
        for one, arms in sides.items():
            row = next(r for r in made if r[2] == one)
            r, c = next(at)
            well = f"{'ABCDEFGH'[r - 1]}{c:02d}"
            wells.append((number, plate, well, r, c, one, row[8], None, " + ".join(arms)))
            if back:
                ok = one not in failed
                readings.append((number, one, row[8], row[7] if ok else math.nan, "ok" if ok else "failed_technical", plate, well))
        for r, c in list(at)[:6]:
            well = f"{'ABCDEFGH'[r - 1]}{c:02d}"
            wells.append((number, plate, well, r, c, None, None, "parent", None))
            if back:
                readings.append((number, None, None, base - 0.05 + rng.normal(0, 0.02), "ok", plate, well))
        infos.append(RoundInfo(number=number, state="CLOSED" if back else "EXPORTED", n_picks=90, incumbent=best))
        if back:
            best = max([best, *(row[7] for row in made if row[2] not in failed)])
        for arm, proposers in ARMS.items():
            for proposer in proposers:
                runs.append((
                    number, arm, proposer, float(rng.gamma(2, 15)), "cpu", int(rng.integers(1 << 40)), f"{number}f3a9c2d41b7e60",
                    EVIL if evil else json.dumps({"epochs": 50, "loss": 0.0123456}),
                ))  # fmt: skip
    columns = ["round", "design_id", "design", "y", "status", "plate", "well"]
    table = pd.DataFrame(readings, columns=columns)
    table["value"] = objective.to_value(table["y"].to_numpy(float))
    picked = pd.DataFrame(picks, columns=["round", "arm", "design_id", "proposer", "mean", "std", "lcb", "y", "status", "design"])
    ledger = pd.DataFrame(runs, columns=list(RUNS))
    incumbents = {info.number: info.incumbent for info in infos}
    options = {"incumbent": incumbents, "objective": objective, "seed": 3, "runs": ledger, "n_resamples": 499}
    done = list(range(1, measured + 1))
    top = table[table["y"].notna() & table["design_id"].notna()].sort_values("y", ascending=False).head(10)
    top = top.merge(picked.drop_duplicates("design_id")[["design_id", "arm", "proposer", "mean"]], how="left", on="design_id")
    return ReportData(
        name="six6", description=f"Find DNA 8-mers that SIX6 binds tightly. {EVIL if evil else ''}".strip(), objective=objective,
        planned_rounds=4, rounds=tuple(infos), measurements=table[list(MEASUREMENTS)], picks=picked[list(PICKS)],
        wells=pd.DataFrame(wells, columns=list(WELLS)), top=top[[*TOP, "mean"]], runs=ledger,
        comparisons={n: compare(picked, rounds=[n], **options) for n in done},
        overall=compare(picked, rounds=done, **options) if done else None,
        flags=(EVIL,) if evil else (("Plate demo-R02-P1: the controls drift from left to right (p = 0.01).",) if measured > 1 else ()),
        version="0.1.0",
    )  # fmt: skip
