"""Several objectives or limits: labloop's arms beside BoTorch's own loop and Ax, from the same starts, plate by plate.

    python examples/benchmarks/pareto.py [PROBLEM …] [--arms offline judge_only bo random botorch ax] [--seeds 3] [--out ROWS.csv]

| problem | objectives, all lower is better unless said | start, wells a plate |
| --- | --- | --- |
| branincurrin | Branin's and Currin's functions of two numbers | 10, 6 |
| limitedbranincurrin | the same within a circle, a measured limit (BoTorch's ConstrainedBraninCurrin) | 10, 6 |
| limitedbranin | Branin's function within that circle: one objective | 10, 6 |
| dtlz2of2, dtlz2 | two and three functions of six numbers | 14, 6 |
| arylation | yield (higher) and cost of 1,728 measured conditions; `--table` names the file | 24, 12 |

The table is experiments_yield_and_cost.csv of EDBO+ (github.com/doyle-lab-ucla/edboplus, MIT; Garrido Torres et al., JACS 2022),
examples/publication/BMS_yield_cost/data. Thresholds are the problems' own, of the table the worst of each column.

Arms: those of labloop's `rounds/quick.yaml`, or names of proposers; `NAME:gp` has a Gaussian process alone for a judge, and as
what `judge_only` offers by. `botorch` is the loop of BoTorch's multi-objective tutorial: a SingleTaskGP a property and
qLogNoisyExpectedHypervolumeImprovement (one objective and a limit: qLogNoisyExpectedImprovement), well by well over the whole
space. `ax` is Ax's default strategy, told the same start (pip install ax-platform). All see the same starts, seed by seed.
BoTorch compiles its hypervolume once for both: where they stand still, delete the `lock` below `~/.cache/torch_extensions` that a
compilation left when it was killed.

Told is the hypervolume above the thresholds, or the best value within the limit, after each plate: mean ± standard deviation over
seeds; what each arm is ahead of BoTorch and of Ax by after the last plate and on average over plates, paired by seed, with 95 %
intervals (Student's t); CPU-seconds a campaign. `--out` adds rows to a file, `--told FILE …` shows those of earlier runs.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
from botorch.acquisition.objective import GenericMCObjective
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf, optimize_acqf_discrete
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.mlls import SumMarginalLogLikelihood
from scipy import stats

from labloop.config import CampaignConfig, RoundConfig, load_config, parse_config, preset
from labloop.space.goal import Goal
from labloop.space.parameters import Choice, Real
from labloop.studies.labs.lab import Lab
from labloop.studies.properties import compromise
from labloop.studies.simulate import open_lab, simulate, start_of
from labloop.types import FloatArray

PEERS = ("botorch", "ax")
"""Arms that are not labloop's."""
CONDITIONS = "[base, ligand, solvent, concentration, temperature]"
SEVERAL = {"branin": {"direction": "min", "threshold": 18}, "currin": {"direction": "min", "threshold": 6}}


@dataclass(frozen=True)
class Problem:
    """A lab, what is asked of it, and how a campaign begins."""

    lab: str
    goal: dict[str, Any]
    start: int = 10
    batch: int = 6


def dtlz2(m: int) -> Problem:
    goal = {f"f{i}": {"direction": "min", "threshold": 1.1} for i in range(1, m + 1)}
    return Problem(f"dtlz2/objectives={m}", {"objectives": goal}, start=14)


PROBLEMS = {
    "branincurrin": Problem("branincurrin", {"objectives": SEVERAL}),
    "limitedbranincurrin": Problem(
        "branincurrin/limited=true",
        {
            "objectives": {"branin": {"direction": "min", "threshold": 80}, "currin": {"direction": "min", "threshold": 12}},
            "constraints": {"side": {"at_most": 0}},
        },
    ),
    "limitedbranin": Problem(
        "limitedbranin", {"objective": {"assay": "branin", "direction": "min"}, "constraints": {"side": {"at_most": 0}}}
    ),
    "dtlz2of2": dtlz2(2),
    "dtlz2": dtlz2(3),
    "arylation": Problem(
        f"lookup/value=yield/properties=[yield, cost]/columns={CONDITIONS}",
        {"objectives": {"yield": {"threshold": 0}, "cost": {"direction": "min", "threshold": 0.4832}}},
        start=24,
        batch=12,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", metavar="PROBLEM")
    parser.add_argument("--arms", nargs="+", default=["offline", "judge_only", "bo", "random", "botorch"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--start", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", type=Path, help="the file of the problem arylation")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--told", type=Path, nargs="+", default=[])
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    every = [name for name in PROBLEMS if name != "arylation" or args.table]
    names = args.problems or ([] if args.told else every)
    if unknown := set(names) - set(every):
        parser.error(f"no problem {', '.join(sorted(unknown))}: take some of {', '.join(PROBLEMS)} (arylation with --table)")
    rows: list[dict[str, Any]] = []
    for name in names:
        lab, campaign = opened(name, args.table)
        start, batch = args.start or PROBLEMS[name].start, args.batch or PROBLEMS[name].batch
        for arm in args.arms:
            settings = {"start": start, "batch": batch, "rounds": args.rounds, "seeds": args.seeds}
            found = [{"problem": name, "arm": arm, **row} for row in run(arm, campaign, lab, **settings)]
            rows += found
            if args.out:
                pd.DataFrame(found).to_csv(args.out, mode="a", header=not args.out.exists(), index=False)
    table = pd.concat([pd.DataFrame(rows), *(pd.read_csv(path) for path in args.told)], ignore_index=True)
    for name, mine in table.groupby("problem", sort=False):
        print(f"\n{name}\n{summary(mine).to_string()}")
        for peer in [one for one in PEERS if one in set(mine["arm"]) and mine["arm"].nunique() > 1]:
            print(paired(mine, peer, lower=name == "limitedbranin").to_string())


def opened(name: str, table: Path | None) -> tuple[Lab, CampaignConfig]:
    """Open a problem's lab, and make its campaign."""
    lab = open_lab(PROBLEMS[name].lab + (f":{table}" if name == "arylation" else ""))
    space = lab.space.model_dump(mode="json", exclude_none=True)
    return lab, parse_config({"name": name, "space": space, **PROBLEMS[name].goal}, CampaignConfig)


def run(arm: str, campaign: CampaignConfig, lab: Lab, *, start: int, batch: int, rounds: int, seeds: int) -> list[dict[str, Any]]:
    """Run an arm in campaigns of its own: what each had come to after each plate, and its CPU-seconds."""
    began, rows = time.process_time(), list[dict[str, Any]]()
    if arm in PEERS:
        loop = botorch_loop if arm == "botorch" else ax_loop
        for seed in range(seeds):
            known = start_of(campaign, lab, start, seed=seed, quantile=1.0)
            told = loop(campaign, lab, known, batch=batch, rounds=rounds, seed=seed)
            rows += [{"seed": seed, "round": number, "value": value} for number, value in enumerate(told, start=1)]
    else:
        name, _, judge = arm.partition(":")
        found = simulate(
            campaign, lab, start=start, start_quantile=1.0, rounds=rounds, batch=batch, seeds=seeds, arms=[name],
            round_config=judged_by(judge or "auto"),
        )  # fmt: skip
        column = "hypervolume" if "hypervolume" in found else "best_in_limits"
        rows += found.rename(columns={column: "value"})[["seed", "round", "value"]].to_dict("records")  # type: ignore[arg-type]
    cpu = (time.process_time() - began) / seeds
    return [{**row, "cpu": round(cpu, 1)} for row in rows]


def judged_by(judge: str) -> RoundConfig:
    """Give quick.yaml with a judge, which `judge_only` offers by too."""
    config = load_config(preset("rounds/quick.yaml"), RoundConfig)
    if judge == "auto":
        return config
    alone = config.arms["offline"].model_copy(update={"proposers": {"judge_only": {"members": [judge]}}})
    return config.model_copy(update={"arms": {**config.arms, "judge_only": alone}, "judge": {judge: {}}})


def botorch_loop(
    campaign: CampaignConfig, lab: Lab, start: pd.DataFrame, *, batch: int, rounds: int, seed: int
) -> Iterator[float]:
    """Run the tutorial's loop; what it came to after each plate."""
    goal, space = goal_of(campaign), campaign.space
    X, Y = space.encode(start[list(space.columns)], strict=False), goal.to_y(start[list(goal.names)].to_numpy(float))
    measured = start
    torch.manual_seed(seed)
    for number in range(rounds):
        acquisition = acquisition_of(goal, torch.tensor(X), torch.tensor(Y), seed=seed + number)
        if space.listable:
            every = space.listing()
            left = torch.tensor(every[space.fresh(every, known=frozenset(space.ids(X)))])
            found, _ = optimize_acqf_discrete(acquisition, batch, choices=left, unique=True)
        else:
            bounds = torch.stack([torch.zeros(space.d, dtype=torch.float64), torch.ones(space.d, dtype=torch.float64)])
            found, _ = optimize_acqf(
                acquisition, bounds, q=batch, num_restarts=5, raw_samples=128, sequential=True,
                options={"maxiter": 100, "batch_limit": 5},
            )  # fmt: skip
        designs = space.decode(found.detach().numpy())
        result = lab.measure(designs, seed=number)
        measured = pd.concat([measured, pd.concat([designs, result], axis=1)], ignore_index=True)
        X = np.concatenate([X, space.encode(designs, strict=False)])
        Y = np.concatenate([Y, goal.to_y(result[list(goal.names)].to_numpy(float))])
        yield next(iter(compromise(goal, measured).values()))


def acquisition_of(goal: Goal, x: torch.Tensor, y: torch.Tensor, *, seed: int) -> AcquisitionFunction:
    """Fit the tutorial's model and make its acquisition function."""
    models = [SingleTaskGP(x, y[:, j : j + 1], outcome_transform=Standardize(1)) for j in range(y.shape[1])]
    model = ModelListGP(*models)
    fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    sampler = SobolQMCNormalSampler(torch.Size([128]), seed=seed)
    limits: list[Callable[[torch.Tensor], torch.Tensor]] = [
        (lambda s, j=j, high=high: s[..., j] - high) for j, high in enumerate(goal.bounds[1].tolist()) if np.isfinite(high)
    ]
    if goal.m > 1:
        return qLogNoisyExpectedHypervolumeImprovement(
            model, goal.reference(y.numpy()).tolist(), x, sampler=sampler, prune_baseline=True, constraints=limits or None,
            objective=IdentityMCMultiOutputObjective(list(range(goal.m)), num_outcomes=y.shape[1]),
        )  # fmt: skip
    return qLogNoisyExpectedImprovement(
        model, x, sampler=sampler, prune_baseline=True, constraints=limits or None,
        objective=GenericMCObjective(lambda s, X=None: s[..., 0]),
    )  # fmt: skip


def ax_loop(campaign: CampaignConfig, lab: Lab, start: pd.DataFrame, *, batch: int, rounds: int, seed: int) -> Iterator[float]:
    """Run Ax with its default strategy; what it came to after each plate."""
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    goal, space = goal_of(campaign), campaign.space
    client = Client(random_seed=seed)
    parameters: list[Any] = []
    for one in space.parameters:
        if isinstance(one, Choice):
            kind: Any = "str" if isinstance(one.options[0], str) else "float"
            parameters.append(ChoiceParameterConfig(name=one.name, values=list(one.options), parameter_type=kind))
        elif isinstance(one, Real):
            parameters.append(
                RangeParameterConfig(name=one.name, bounds=(one.low, one.high), parameter_type="float", step_size=one.step)
            )
    client.configure_experiment(parameters=parameters)
    called = {name: f"measured_{name}" for name in goal.names}  # Ax reads formulas, in which `yield` is a word of Python
    told = [(called[name], one, "" if one.direction == "max" else "-") for name, one in goal.targets.items()]
    limits = [f"{name} {'>=' if sign == '' else '<='} {one.threshold}" for name, one, sign in told if one.threshold is not None]
    limits += [f"{called[name]} <= {one.at_most}" for name, one in goal.limits.items() if one.at_most is not None]
    client.configure_optimization(", ".join(f"{sign}{name}" for name, _, sign in told), outcome_constraints=limits or None)
    client.configure_generation_strategy(initialization_budget=0, initialize_with_center=False)
    names, measured = [one.name for one in space.parameters], start
    for row in start.to_dict("records"):
        trial = client.attach_trial(parameters={name: plain(row[name]) for name in names})
        client.complete_trial(trial, raw_data={called[name]: float(row[name]) for name in goal.names})
    for number in range(rounds):
        asked = client.get_next_trials(max_trials=batch)
        designs = pd.DataFrame(list(asked.values()))[names]
        result = lab.measure(designs, seed=number)
        for trial, row in zip(asked, result.to_dict("records"), strict=True):
            client.complete_trial(trial, raw_data={called[name]: float(row[name]) for name in goal.names})
        measured = pd.concat([measured, pd.concat([designs, result], axis=1)], ignore_index=True)
        yield next(iter(compromise(goal, measured).values()))


def goal_of(campaign: CampaignConfig) -> Goal:
    assert campaign.goal is not None
    return campaign.goal


def plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Give each arm's mean ± standard deviation after each plate, its seeds, and its CPU-seconds a campaign."""
    each = table.groupby(["arm", "round"], sort=False)["value"]
    mean, std = each.mean().map("{:.3f}".format), each.std().map(" ± {:.3f}".format)
    out = (mean + std).unstack("round").add_prefix("plate ")
    by = table.groupby("arm", sort=False)
    return out.assign(seeds=by["seed"].nunique(), cpu=by["cpu"].mean().round(1))


def paired(table: pd.DataFrame, peer: str, *, lower: bool) -> pd.DataFrame:
    """Give what each arm is ahead of a peer by, paired by seed: mean and 95 % interval; above 0 is better."""
    rows: dict[str, dict[str, str]] = {}
    for told, mine in (("last plate", table[table["round"] == table["round"].max()]), ("all plates", table)):
        wide: pd.DataFrame = mine.groupby(["seed", "arm"])["value"].mean().unstack("arm")
        for arm in [str(one) for one in table["arm"].unique() if one != peer]:
            gap: FloatArray = (wide[arm] - wide[peer]).dropna().to_numpy(float) * (-1 if lower else 1)
            if len(gap) > 1:
                half = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap))
                shown = f"{gap.mean():+.3f} ({gap.mean() - half:+.3f} to {gap.mean() + half:+.3f})"
                rows.setdefault(arm, {})[told] = shown
    return pd.DataFrame(rows).T.add_prefix(f"ahead of {peer}, ")


if __name__ == "__main__":
    main()
