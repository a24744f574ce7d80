"""Is a chemist better served elsewhere? labloop's arms and BayBE from the same readings, with the CPU time of both.

    python examples/benchmarks/peers.py --campaign config/campaigns/arylation_smiles.yaml --lab arylation --seeds 10

24 conditions drawn at random, then three plates of 12. Every seed's start is the same for all. BayBE (the extra `peers`) gets its
own encodings of the molecules, by default Mordred's descriptors and ECFP, and its default recommender; labloop the arms of
`config/rounds/small.yaml`, with the campaign's descriptors and, as `… without`, with names alone. Another complete
table: `--lab lookup:FILE.csv` and a campaign for it. `--only labloop` or `--only baybe` runs a half, `--out` keeps the rows.
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
    parser.add_argument("--arms", nargs="+", default=["gp"])
    parser.add_argument("--encodings", nargs="+", default=["MORDRED", "ECFP"])
    parser.add_argument("--start", type=int, default=24)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=10)
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
        for encoding, seed in itertools.product(args.encodings, range(args.seeds)):
            rows += theirs(campaign, lab, encoding, seed, args)
    table = pd.DataFrame(rows)
    if args.out:
        table.to_csv(args.out, index=False)
    print(summary(table, campaign.objective.direction).to_string())


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


if __name__ == "__main__":
    main()
