"""labloop's `qei` beside a plain BoTorch script on two functions whose minimum is known: the same start, the same plates.

The plain script is what BoTorch's tutorials do: `SingleTaskGP`, `fit_gpytorch_mll`, `qLogNoisyExpectedImprovement`, a plate of q
wells by `optimize_acqf(sequential=True)`. Each seed's two campaigns begin with the same random designs.

`share` is how much of the way from the best design of the start to the optimum was gone, 1 for the optimum itself.

    python examples/benchmarks/botorch_plain.py --lab hartmann6
    python examples/benchmarks/botorch_plain.py --lab levy10
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.mlls import ExactMarginalLogLikelihood

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.space.objective import Objective
from labloop.studies.labs.lab import Lab
from labloop.studies.simulate import open_lab, simulate, start_of


def plain(
    lab: Lab, start: pd.DataFrame, *, objective: Objective, rounds: int, batch: int, seed: int, restarts: int, raw: int,
    samples: int,
) -> float:  # fmt: skip
    """Run BoTorch from a start and give the best value of its plates."""
    torch.manual_seed(seed)
    space = lab.space
    X, Y = torch.tensor(space.encode(start)), torch.tensor(objective.to_y(start["value"].to_numpy()))
    bounds = torch.tensor(np.stack([np.zeros(space.d), np.ones(space.d)]))
    begun = len(X)
    for number in range(rounds):
        model = SingleTaskGP(X, Y[:, None])
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        sampler = SobolQMCNormalSampler(torch.Size([samples]), seed=1000 * seed + number)
        acquisition = qLogNoisyExpectedImprovement(model, X, sampler=sampler, prune_baseline=True)
        found, _ = optimize_acqf(
            acquisition, bounds, q=batch, num_restarts=restarts, raw_samples=raw, sequential=True,
            options={"batch_limit": 5, "maxiter": 200},
        )  # fmt: skip
        values = lab.measure(space.decode(found.numpy()), seed=number)["value"].to_numpy()
        X, Y = torch.cat([X, found]), torch.cat([Y, torch.tensor(objective.to_y(values))])
    return float(objective.to_value(np.array([float(Y[begun:].max())]))[0])


def main() -> None:
    """Print both figures by seed, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="hartmann6", choices=["hartmann6", "levy10"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--start", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--raw", type=int, default=512)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--only", choices=["labloop", "botorch"])
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    campaign = load_config(preset(f"campaigns/{asked.lab}.yaml"), CampaignConfig)
    lab, objective = open_lab(asked.lab), campaign.objective
    rows = []
    ours: pd.DataFrame | None = None
    if asked.only != "botorch":
        ours = simulate(
            campaign, asked.lab, arms=["qei"], start=asked.start, start_quantile=1, rounds=asked.rounds, batch=asked.batch,
            seeds=asked.seeds, on_failure="stop",
        )  # fmt: skip
    for seed in range(asked.seeds):
        start = start_of(campaign, lab, asked.start, seed=seed, quantile=1)
        row = {"seed": seed, "start": objective.to_value(objective.to_y(start["value"].to_numpy()).max(keepdims=True))[0]}
        if ours is not None:
            mine = ours[ours["seed"] == seed]
            row |= {"labloop": mine["best"].iloc[-1], "labloop_s": mine["seconds"].sum()}
        if asked.only != "labloop":
            began = time.process_time()
            best = plain(
                lab, start, objective=objective, rounds=asked.rounds, batch=asked.batch, seed=seed, restarts=asked.restarts,
                raw=asked.raw, samples=asked.samples,
            )  # fmt: skip
            row |= {"botorch": best, "botorch_s": time.process_time() - began}
        for name in {"labloop", "botorch"} & set(row):
            row[f"{name}_share"] = (row["start"] - row[name]) / (row["start"] - lab.optimum[1])
        rows.append(row)
        print(" ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
    print(pd.DataFrame(rows).round(4).to_string(index=False))
    print("mean", {key: round(float(value), 4) for key, value in pd.DataFrame(rows).mean().items()})


if __name__ == "__main__":
    main()
