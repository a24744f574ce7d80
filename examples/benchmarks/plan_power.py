"""Does a plate show what `labloop plan` promised? Plates with that difference are drawn and tested as `labloop compare` does.

The tests are those of `labloop.compare` by themselves, without figures and words, so that a thousand plates take seconds; one
plate in fifty goes through the whole comparison too, which must say the same.

    python examples/benchmarks/plan_power.py --plates 1000
"""

from __future__ import annotations

import argparse
from itertools import combinations

import numpy as np
import pandas as pd

from labloop.compare import measures
from labloop.compare.arms import compare
from labloop.compare.differences import allowed
from labloop.compare.pairs import Pair, RoundPair
from labloop.compare.plan import Plan
from labloop.compare.prospect import powers, smallest
from labloop.compare.statistics import holm
from labloop.space.objective import Objective

SCENES = {
    "2 arms of 12": ((12, 12), 1, "normal"),
    "2 arms of 24": ((24, 24), 1, "normal"),
    "16 and 80 wells": ((16, 80), 1, "normal"),
    "3 arms of 32": ((32, 32, 32), 1, "normal"),
    "48, 24 and 24 wells": ((48, 24, 24), 1, "normal"),
    "2 arms of 24, two plates": ((24, 24), 2, "normal"),
    "2 arms of 24, skewed": ((24, 24), 1, "lognormal"),
}
CHECKED = 50
"""One plate in so many is compared as a whole."""

Wells = dict[tuple[int, int], np.ndarray]
"""By round and arm what its wells read, in the order in which it chose them."""


def drawn(wells: tuple[int, ...], rounds: int, shape: str, shift: float, rng: np.random.Generator) -> Wells:
    """Draw the plates of some rounds; the first arm is ahead by `shift` standard deviations."""
    found = {}
    for number in range(1, rounds + 1):
        for i, n in enumerate(wells):
            y = rng.standard_normal(n) if shape == "normal" else (rng.lognormal(0, 0.6, n) - np.exp(0.18)) / 0.7883
            found[number, i] = y + shift * (i == 0)
    return found


def told(y: Wells, level: float) -> bool:
    """Whether the first arm is told from the second, the right way round."""
    rounds, arms = (sorted({key[side] for key in y}) for side in (0, 1))
    pairs = []
    for i, j in combinations(arms, 2):
        depth = {number: min(len(y[number, i]), len(y[number, j])) for number in rounds}
        blocks = tuple(
            RoundPair((y[r, i][: depth[r]], y[r, j][: depth[r]]), np.empty(0), number=r) for r in rounds
        )  # fmt: skip
        pairs.append(Pair(str(i), str(j), blocks))
    found = [measures.plates(pair) for pair in pairs]
    return bool(holm([one.p for one in found])[0] <= level and found[0].estimate > 0)


def whole(y: Wells, seed: int) -> bool:
    """Say the same by the comparison that users see."""
    rows = [
        {"round": number, "arm": f"arm{i}", "design_id": f"{number}-{i}-{j}", "rank": j, "proposer": "p", "mean": np.nan,
         "std": np.nan, "lcb": np.nan, "y": value, "status": "ok"}
        for (number, i), values in y.items() for j, value in enumerate(values)
    ]  # fmt: skip
    gap = compare(pd.DataFrame(rows), incumbent=None, objective=Objective(), seed=seed, n_resamples=99).of("arm0", "arm1")
    return gap.decided and gap.estimate > 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=1000)
    asked = parser.parse_args()
    print("| plate | difference, sd | promised | shown | at three quarters of it: promised | shown |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (wells, rounds, shape) in SCENES.items():
        level = allowed(Plan(), "plates", range(1, rounds + 1), waiting=False)
        promised = smallest(wells, 1.0, plates=rounds, level=level)
        cells = [f"{promised:.2f}"]
        for difference in (promised, 0.75 * promised):
            power = powers(wells, 1.0, np.array([difference]), plates=rounds, level=level)[0]
            shown = 0
            for seed in range(asked.plates):
                y = drawn(wells, rounds, shape, difference, np.random.default_rng([seed, 1]))
                here = told(y, level)
                shown += here
                if seed % CHECKED == 0:
                    assert whole(y, seed) == here, "the comparison says something else"
            cells += [f"{power:.3f}", f"{shown / asked.plates:.3f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
