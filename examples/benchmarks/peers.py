"""Is a chemist better served elsewhere? labloop's arms and BayBE from the same readings, with the CPU time of both.

    python examples/benchmarks/peers.py --campaign config/campaigns/arylation_smiles.yaml --lab arylation --seeds 10

Settings, fixed before any result was seen: 24 conditions drawn at random from the whole table, then three plates of 12; seed s
has the same start for everybody; all of both as shipped. BayBE (the extra `peers`) gets its own encodings of the molecules,
Mordred's descriptors (its default) and ECFP, and its default recommender; labloop the arms `gp` and `bo` of
`config/rounds/small.yaml`, with the campaign's descriptors and, as `… without`, with names alone. Told are the mean of each
plate, of all three, and of the ten best wells of the three plates, with standard errors over seeds; CPU-seconds of a whole
campaign; and what labloop's arms are ahead by of each BayBE, paired by seed, with a 95 % interval (Student's t).

Another complete table: `--lab lookup:FILE.csv` and a campaign for it. `--only labloop` or `--only baybe` runs a half, `--out`
adds to the rows that a file keeps, `--told FILE …` shows those of earlier runs.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.config.round import RoundConfig
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice
from labloop.studies.labs.lab import Lab
from labloop.studies.simulate import open_lab, simulate, start_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--campaign", default=str(preset("campaigns/arylation_smiles.yaml")))
    parser.add_argument("--lab", default="arylation")
    parser.add_argument("--round", default=str(preset("rounds/small.yaml")))
    parser.add_argument("--arms", nargs="+", default=["gp", "bo"])
    parser.add_argument("--encodings", nargs="+", default=["MORDRED", "ECFP"])
    parser.add_argument("--start", type=int, default=24)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first of BayBE's seeds")
    parser.add_argument("--told", type=Path, nargs="+", default=[], help="files of rows to show beside this run's")
    parser.add_argument("--only", choices=("labloop", "baybe"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    campaign, lab = load_config(args.campaign, CampaignConfig), open_lab(args.lab)
    rows: list[dict[str, Any]] = []
    if args.only != "baybe":
        for name, one in (("", campaign), (" without", without(campaign))):
            for arm in args.arms:
                rows += ours(one, lab, arm, f"{arm}{name}", args)
    if args.only != "labloop":
        for encoding, seed in itertools.product(args.encodings, range(args.first, args.first + args.seeds)):
            rows += theirs(campaign, lab, encoding, seed, args)
    if args.out:
        pd.DataFrame(rows).to_csv(args.out, mode="a", header=not args.out.exists(), index=False)
    table = pd.concat([pd.DataFrame(rows), *(pd.read_csv(path) for path in args.told)], ignore_index=True)
    print(summary(table, campaign.objective.direction).to_string())
    print(paired(table, campaign.objective.direction).to_string())


def without(campaign: CampaignConfig) -> CampaignConfig:
    """Give the campaign with names alone."""
    bare = {"descriptors": None, "smiles": None, "computed": None}
    parameters = tuple(p.model_copy(update=bare) if isinstance(p, Choice) else p for p in campaign.space.parameters)
    space = DesignSpace(parameters=parameters, constraints=campaign.space.constraints, symmetries=campaign.space.symmetries)
    return campaign.model_copy(update={"space": space})


def ours(campaign: CampaignConfig, lab: Lab, arm: str, name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run one arm of labloop in campaigns of its own."""
    begin = time.process_time()
    config = load_config(args.round, RoundConfig)
    found = simulate(
        campaign, lab, round_config=config, start=args.start, start_quantile=1.0, rounds=args.rounds,
        batch=args.batch, seeds=args.seeds, arms=[arm],
    )  # fmt: skip
    cpu = (time.process_time() - begin) / args.seeds
    kept = found[["seed", "round", "batch_mean", "top10_mean", "best"]].to_dict("records")
    return [{"arm": f"labloop/{name}", "cpu": cpu, **{str(key): value for key, value in row.items()}} for row in kept]


def theirs(campaign: CampaignConfig, lab: Lab, encoding: str, seed: int, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run BayBE on one seed's start."""
    import torch
    from baybe import Campaign
    from baybe.objectives import SingleTargetObjective
    from baybe.parameters import CategoricalParameter, NumericalDiscreteParameter, SubstanceParameter
    from baybe.searchspace import SearchSpace
    from baybe.targets import NumericalTarget

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (BayBE's own generator)
    designs = campaign.space.decode(campaign.space.listing())
    parameters: list[Any] = []
    for one in campaign.space.parameters:
        levels = list(dict.fromkeys(designs[one.name]))
        if isinstance(one, Choice) and one.smiles is not None:
            told = {str(x): str(x) if one.smiles == "options" else one.smiles[str(x)] for x in levels}
            parameters.append(SubstanceParameter(one.name, told, encoding=encoding))
        elif all(isinstance(level, int | float) for level in levels):
            designs[one.name] = designs[one.name].astype(float)
            parameters.append(NumericalDiscreteParameter(one.name, tuple(sorted(map(float, levels)))))
        else:
            designs[one.name] = designs[one.name].astype(str)
            parameters.append(CategoricalParameter(one.name, tuple(map(str, levels))))
    least = campaign.objective.direction == "min"
    target = NumericalTarget("y", minimize=True) if least else NumericalTarget("y")
    peer = Campaign(SearchSpace.from_dataframe(designs, parameters), SingleTargetObjective(target))

    def measured(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(y=lab.measure(rows, seed=seed)["value"].to_numpy(dtype=float))

    start = start_of(campaign, lab, args.start, seed=seed, quantile=1.0)
    known = campaign.space.decode(campaign.space.encode(start[list(campaign.space.columns)]))
    known = known.astype({name: designs[name].dtype for name in designs})
    peer.add_measurements(measured(known))
    begin, all_values = time.process_time(), np.zeros(0)
    for number in range(1, args.rounds + 1):
        plate = measured(peer.recommend(args.batch)[list(designs)].reset_index(drop=True))
        peer.add_measurements(plate)
        values = plate["y"].to_numpy()
        all_values = np.sort(np.concatenate([all_values, values]))[:: 1 if least else -1]
        yield {
            "arm": f"baybe/{encoding}", "seed": seed, "round": number, "batch_mean": values.mean(),
            "top10_mean": all_values[:10].mean(), "best": all_values[0], "cpu": time.process_time() - begin,
        }  # fmt: skip


def summary(table: pd.DataFrame, direction: str) -> pd.DataFrame:
    """Give each arm's plates, means over seeds, and its standard error; CPU-seconds a campaign."""
    last = table[table["round"] == table["round"].max()]
    out = table.pivot_table(index="arm", columns="round", values="batch_mean").add_prefix("plate ")
    each = table.groupby(["arm", "seed"])["batch_mean"].mean().groupby("arm")
    out["batch mean"], out["± se"] = each.mean(), each.std() / np.sqrt(each.size())
    top = last.groupby("arm")["top10_mean"]
    out["top 10"], out["± se "] = top.mean(), top.std() / np.sqrt(top.size())
    out["cpu"] = last.groupby("arm")["cpu"].mean()
    return out.sort_values("batch mean", ascending=direction == "min").round(2)


def paired(table: pd.DataFrame, direction: str) -> pd.DataFrame:
    """Give what each of labloop's arms is ahead of each BayBE by, paired by seed: mean and 95 % interval; larger is better."""
    sign = -1 if direction == "min" else 1
    batch = table.groupby(["arm", "seed"])["batch_mean"].mean().unstack("arm")
    top = table[table["round"] == table["round"].max()].pivot_table(index="seed", columns="arm", values="top10_mean")
    rows = []
    for mine, peer in itertools.product(batch, batch):
        if str(mine).startswith("labloop") and str(peer).startswith("baybe"):
            row = {"arm": mine, "less": peer}
            for name, one in (("batch mean", batch), ("top 10", top)):
                gap = sign * (one[mine] - one[peer]).dropna()
                if len(gap) > 1:
                    half = stats.t.ppf(0.975, len(gap) - 1) * gap.std() / np.sqrt(len(gap))
                    row |= {name: f"{gap.mean():+.2f} ({gap.mean() - half:+.2f} to {gap.mean() + half:+.2f})", "seeds": len(gap)}
            rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
