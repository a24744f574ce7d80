"""What descriptors of options are worth to networks: those of names alone beside those that see both.

    python examples/benchmarks/described_networks.py --start 24 --seeds 3

The direct arylation (Shields et al. 2021), of whose 1,728 conditions some are drawn at random: rank correlation of what GTG's
proxies and the ensemble predict of all others with their yields, and the mean yield of the twelve that each predicts highest.
Told are the means over seeds, and how often the networks would have been shown descriptors (`labloop.surrogates.sees`). RDKit is
needed.
"""

from __future__ import annotations

import argparse
from unittest import mock

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.methods._ranked_proxies import SLOPE, fit_proxies, predict
from labloop.proposing.dataset import Dataset
from labloop.seeds import generator
from labloop.studies.simulate import open_lab
from labloop.surrogates import ensemble, sees
from labloop.surrogates.networks import load_stacked
from labloop.types import FloatArray

BEST = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--start", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="of each training")
    args = parser.parse_args()
    space = load_config(preset("campaigns/arylation_smiles.yaml"), CampaignConfig).space
    X = space.listing()
    designs = space.decode(X)
    y = open_lab("arylation").measure(designs, seed=0)["value"].to_numpy(float)
    rows = []
    for seed in range(args.seeds):
        drawn = generator(seed, "described").permutation(len(X))
        some, rest = drawn[: args.start], drawn[args.start :]
        data = Dataset.from_measurements(space, designs.iloc[some], y[some])
        shown = bool(sees.sees(data))
        for told in (frozenset[str](), frozenset({"descriptors"})):
            with mock.patch.object(sees, "sees", return_value=told), mock.patch.object(ensemble, "sees", return_value=told):
                for name, found in predictions(data, X[rest], args.steps).items():
                    best = np.argsort(-found)[:BEST]
                    rows.append({
                        "networks": name, "see": "descriptors too" if told else "names", "seed": seed, "shown": shown,
                        "rank correlation": spearmanr(found, y[rest]).statistic, "best twelve": y[rest][best].mean(),
                    })  # fmt: skip
    print(
        pd.DataFrame(rows).groupby(["networks", "see"])[["rank correlation", "best twelve", "shown"]].mean().round(3).to_string()
    )


def predictions(data: Dataset, X: FloatArray, steps: int) -> dict[str, FloatArray]:
    """What each kind of network, on letters, predicts of designs X (m, d), (m,)."""
    s = (data.y - data.y.min()) / np.ptp(data.y)
    weights, _ = fit_proxies(
        data, s, 8, (256, 256), steps=steps, batch=64, lr=1e-3, rate="falling", rank_k=0.01, features="letters", seed=0
    )
    net = load_stacked(weights, slope=SLOPE, space=data.space)
    fitted = ensemble.Ensemble(members=8, steps=steps, features="letters").fit(data, seed=0)
    twins = 2 * torch.tensor(data.space.orbit(X), dtype=torch.float32) - 1
    return {"GTG's proxies": predict(net, twins).mean(0).double().numpy(), "ensemble": fitted(X)[0]}


if __name__ == "__main__":
    main()
