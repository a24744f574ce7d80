"""Does a warm start pay? The second round's training afresh, and from the first round's model with fewer steps.

    python examples/benchmarks/warm_start.py --seeds 3

TF Bind 8, both strands one design: 500 measured designs of the lower half, a first plate of 96 of the method's own, then
the second round's training three ways, from the same data with the same seed: afresh, warm with the share of the steps given by
`--share`, and afresh with that share, which is what the earlier model must beat. Columns: CPU-seconds of training and proposing,
the loss of the generative model (of different trainings on the same data), mean and best true value of the 96 designs offered.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.methods.braid import BRAID
from labloop.methods.gtg import GTG
from labloop.proposing.dataset import Dataset
from labloop.runtime.checkpoints import folder_of, keeping
from labloop.seeds import derive
from labloop.studies.labs.tfbind8 import truth
from labloop.studies.simulate import draw_start, open_lab

METHODS: dict[str, tuple[Any, str, str]] = {
    "gtg": (GTG(), "steps", "denoiser_loss"),
    "braid": (BRAID(), "prior_steps", "prior_heldout_loss"),
}
WELLS = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    args = parser.parse_args()
    campaign = load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig)
    lab = open_lab("tfbind8")
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for seed in range(args.seeds):
        start = draw_start(lab, 500, seed=derive(seed, "start"), objective=campaign.objective)
        for name in args.methods:
            cold, steps, loss = METHODS[name]
            ways = {
                "afresh": cold,
                f"warm, {args.share:.0%} of the steps": replace(cold, warm_start=args.share),
                f"afresh, {args.share:.0%} of the steps": replace(cold, **{steps: round(args.share * getattr(cold, steps))}),
            }
            with tempfile.TemporaryDirectory() as folder:
                first = data_of(start)
                with keeping(folder):
                    plate = cold.propose(first, WELLS, seed=derive(seed, name, 1))
                measured = pd.DataFrame({**first.space.decode(plate.X), "value": truth(plate.X)})
                second = data_of(pd.concat([start[["dna", "value"]], measured], ignore_index=True))
                for way, proposer in ways.items():
                    cpu = time.process_time()
                    with keeping(folder, (folder_of(cold, first.fingerprint, derive(seed, name, 1)),)):
                        pool = proposer.propose(second, WELLS, seed=derive(seed, name, 2))
                    y = truth(pool.X)
                    row = [time.process_time() - cpu, float(pool.notes[loss]), y.mean(), y.max()]
                    rows.setdefault((name, way), []).append(row)
                    print(f"seed {seed}  {name:6}{way:28}{line(row)}", flush=True)
    print(f"\nmean ± sd of {args.seeds} seeds")
    for (name, way), found in rows.items():
        print(f"  {name:6}{way:28}{line(np.mean(found, 0), np.std(found, 0, ddof=1) if args.seeds > 1 else None)}")


def data_of(table: pd.DataFrame) -> Dataset:
    return Dataset.from_measurements(open_lab("tfbind8").space, table[["dna"]], table["value"].to_numpy(float))


def line(row: list[float], spread: list[float] | None = None) -> str:
    names = ("CPU-s", "loss", "mean", "best")
    if spread is None:
        return "  ".join(f"{name} {value:.3f}" for name, value in zip(names, row, strict=True))
    return "  ".join(f"{name} {value:.3f} ± {sd:.3f}" for name, value, sd in zip(names, row, spread, strict=True))


if __name__ == "__main__":
    main()
