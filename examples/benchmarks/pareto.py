"""Several objectives or a limit: labloop's arms beside a plain BoTorch loop, from the same starts.

    python examples/benchmarks/pareto.py [PROBLEM …] [--seeds 3] [--batch 8] [--arms bo,offline] [--judge gp] [--only labloop]

The BoTorch loop is its multi-objective tutorial's: a SingleTaskGP a property in a ModelListGP and
qLogNoisyExpectedHypervolumeImprovement (with a limit on one objective: constrained qLogNoisyExpectedImprovement), optimised
well by well over the whole cube. Told is the hypervolume above the problem's thresholds, or the best value within the limit,
after each of three plates; mean and standard error. `--judge gp` lets a Gaussian process alone judge, and offer in `judge_only`:
seconds a campaign rather than a minute.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
from botorch.acquisition.objective import GenericMCObjective
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.mlls import SumMarginalLogLikelihood

from labloop.config import CampaignConfig, RoundConfig, load_config, preset
from labloop.space.pareto import hypervolume
from labloop.studies.simulate import open_lab, simulate, start_of

PROBLEMS = ("branincurrin", "dtlz2", "limitedbranin")


def botorch_loop(campaign: CampaignConfig, problem: str, *, start: int, batch: int, rounds: int, seed: int) -> list[float]:
    """Run the tutorial's loop on a problem; what it came to after each plate."""
    lab, goal, space = open_lab(problem), campaign.goal, campaign.space
    assert goal is not None
    table = start_of(campaign, lab, start, seed=seed, quantile=1.0)
    X, Y = space.encode(table[list(space.columns)], strict=False), goal.to_y(table[list(goal.names)].to_numpy(float))
    told = []
    torch.manual_seed(seed)
    for number in range(rounds):
        x = torch.tensor(X)
        models = [SingleTaskGP(x, torch.tensor(Y[:, j : j + 1]), outcome_transform=Standardize(1)) for j in range(Y.shape[1])]
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        sampler = SobolQMCNormalSampler(torch.Size([128]), seed=seed + number)
        limits = [
            (lambda s, j=j, high=high: s[..., j] - high) for j, high in enumerate(goal.bounds[1].tolist()) if np.isfinite(high)
        ] or None
        if goal.m > 1:
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                model, goal.reference(Y).tolist(), x, sampler=sampler, prune_baseline=True, constraints=limits,
                objective=IdentityMCMultiOutputObjective(list(range(goal.m)), num_outcomes=Y.shape[1]),
            )  # fmt: skip
        else:
            acquisition = qLogNoisyExpectedImprovement(
                model, x, sampler=sampler, prune_baseline=True, constraints=limits,
                objective=GenericMCObjective(lambda s, X=None: s[..., 0]),
            )  # fmt: skip
        bounds = torch.stack([torch.zeros(space.d, dtype=torch.float64), torch.ones(space.d, dtype=torch.float64)])
        found, _ = optimize_acqf(
            acquisition,
            bounds,
            q=batch,
            num_restarts=5,
            raw_samples=128,
            sequential=True,
            options={"maxiter": 100, "batch_limit": 5},
        )
        designs = space.decode(found.detach().numpy())
        result = lab.measure(designs, seed=number)
        X = np.concatenate([X, space.encode(designs, strict=False)])
        Y = np.concatenate([Y, goal.to_y(result[list(goal.names)].to_numpy(float))])
        front = Y[goal.front(Y)][:, : goal.m]
        told.append(
            hypervolume(front, goal.reference(Y))
            if goal.m > 1
            else float(goal.to_value(front[:1])[0, 0])
            if len(front)
            else np.nan
        )
    return told


def judged_by(judge: str) -> RoundConfig:
    """Give quick.yaml with a judge, which `judge_only` offers by too."""
    config = load_config(preset("rounds/quick.yaml"), RoundConfig)
    if judge == "auto":
        return config
    alone = config.arms["offline"].model_copy(update={"proposers": {"judge_only": {"members": [judge]}}})
    return config.model_copy(update={"arms": {**config.arms, "judge_only": alone}, "judge": {judge: {}}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=list(PROBLEMS), metavar="PROBLEM")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--start", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arms", default="random,bo,judge_only")
    parser.add_argument("--judge", choices=("auto", "gp"), default="auto")
    parser.add_argument("--only", choices=("labloop", "botorch"))
    told = parser.parse_args()
    for problem in told.problems:
        campaign = load_config(preset(f"campaigns/{problem}.yaml"), CampaignConfig)
        rows, began = [], time.process_time()
        for seed in range(told.seeds if told.only != "labloop" else 0):
            for number, value in enumerate(
                botorch_loop(campaign, problem, start=told.start, batch=told.batch, rounds=told.rounds, seed=seed), start=1
            ):
                rows.append({"arm": "botorch", "seed": seed, "round": number, "value": value})
        print(f"{problem}: botorch took {time.process_time() - began:.0f} s of CPU")
        began = time.process_time()
        column = "hypervolume" if campaign.goal is not None and campaign.goal.m > 1 else "best_in_limits"
        table = pd.DataFrame(rows)
        if told.only != "botorch":
            found = simulate(
                campaign, problem, start=told.start, start_quantile=1.0, rounds=told.rounds, batch=told.batch, seeds=told.seeds,
                arms=told.arms.split(","), round_config=judged_by(told.judge),
            )  # fmt: skip
            print(f"{problem}: labloop's arms took {time.process_time() - began:.0f} s of CPU")
            table = pd.concat([table, found.rename(columns={column: "value"})[["arm", "seed", "round", "value"]]])
        shown = table.groupby(["arm", "round"], sort=False)["value"].agg(["mean", "sem"])
        text = shown["mean"].map("{:.3f}".format) + shown["sem"].map(" ± {:.3f}".format)
        print(text.unstack("round").rename_axis(f"{problem}: {column} after plate").to_string())


if __name__ == "__main__":
    main()
