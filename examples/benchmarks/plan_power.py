"""Does a plate show what `labloop plan` promised? Plates with that difference are drawn and compared by `labloop.compare.arms`.

python examples/benchmarks/plan_power.py --plates 300
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from labloop.compare.arms import compare
from labloop.compare.differences import allowed
from labloop.compare.plan import Plan
from labloop.compare.prospect import powers, smallest
from labloop.space.objective import Objective

SCENES = {
    "2 arms of 12": ((12, 12), 1, "normal"),
    "2 arms of 24": ((24, 24), 1, "normal"),
    "16 and 80 wells": ((16, 80), 1, "normal"),
    "3 arms of 32": ((32, 32, 32), 1, "normal"),
    "2 arms of 24, two plates": ((24, 24), 2, "normal"),
    "2 arms of 24, skewed": ((24, 24), 1, "lognormal"),
}


def plate(wells: tuple[int, ...], rounds: int, shape: str, shift: float, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for number in range(1, rounds + 1):
        for i, n in enumerate(wells):
            y = rng.standard_normal(n) if shape == "normal" else (rng.lognormal(0, 0.6, n) - np.exp(0.18)) / 0.7883
            y = y + shift * (i == 0)
            rows += [
                {"round": number, "arm": f"arm{i}", "design_id": f"{number}-{i}-{j}", "proposer": "p", "mean": np.nan,
                 "std": np.nan, "lcb": np.nan, "y": value, "status": "ok"} for j, value in enumerate(y)
            ]  # fmt: skip
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=999)
    told = parser.parse_args()
    for name, (wells, rounds, shape) in SCENES.items():
        level = allowed(Plan(), "plates", range(1, rounds + 1), waiting=False)
        promised = smallest(wells, 1.0, plates=rounds, level=level)
        other = powers(wells, 1.0, np.array([0.75 * promised]), plates=rounds, level=level)[0]
        for difference, power in ((promised, 0.8), (0.75 * promised, other)):
            shown = 0
            for seed in range(told.plates):
                picks = plate(wells, rounds, shape, difference, np.random.default_rng(seed))
                found = compare(picks, incumbent=None, objective=Objective(), seed=seed, n_resamples=told.resamples)
                gap = found.of("arm0", "arm1")
                shown += gap.decided and gap.estimate > 0
            print(f"{name:28s} difference {difference:.3f} sd: promised {power:.3f}, shown {shown / told.plates:.3f}", flush=True)
