"""What the Gaussian process knows of TF Bind 8 from 500 weak binders, and what plates of `qei` and `gp_mean` are then worth.

    python examples/benchmarks/qei.py --seeds 5 --rounds 2

First table: kernels compared by what a lab can compute, on the visible lower half alone. Fits see 500 random designs, and the
density is that of 2,000 others. `evidence` is the log marginal likelihood of y (standardised) a design, `held out` the mean log
density of the other designs' readings, `r` their correlation with the predicted mean. Larger is better in all three. `BoTorch`
is its default SingleTaskGP over the same one-hot columns.

Second table: simulated campaigns from 500 such designs, one plate of 96 a round, as means and standard deviations over seeds.
Scores are the normalised ones (1 is the strongest binder); the first plate of random designs has a batch mean of about 0.45.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings

import numpy as np
import torch
from botorch.exceptions.warnings import InputDataWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.mlls import ExactMarginalLogLikelihood

from labloop.config.read import preset
from labloop.proposing.dataset import Dataset
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.studies.labs.tfbind8 import visible
from labloop.studies.simulate import simulate
from labloop.surrogates.gp import GP


def main() -> None:
    parser = argparse.ArgumentParser(description="The Gaussian process, qei and gp_mean on TF Bind 8")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2, help="0 for the table of kernels alone")
    parser.add_argument("--start", type=int, default=500, help="measured designs to begin with")
    parser.add_argument("--wells", type=int, default=96)
    args = parser.parse_args()

    kernels = ("labloop", "one strand", "no motifs", "BoTorch")
    print(f"{'kernel':12}{'evidence':>10}{'held out':>10}{'r':>8}{'CPU-s':>8}")
    for name in kernels:
        rows = np.array([compare(name, args.start, seed) for seed in range(args.seeds)])
        print(
            f"{name:12}" + "".join(f"{value:{width}}" for value, width in zip(rows.mean(0), ("10.3f", "10.3f", "8.3f", "8.1f")))
        )
    if not args.rounds:
        return
    table = simulate(
        preset("campaigns/tfbind8.yaml"), "tfbind8", start=args.start, rounds=args.rounds, batch=args.wells, seeds=args.seeds,
        arms=["qei", "gp_mean"],
    )  # fmt: skip
    told = table.groupby(["arm", "round"], sort=False)[["batch_mean", "top10_mean", "best", "seconds"]].agg(["mean", "std"])
    print("\n" + told.round(3).to_string())


def compare(kernel: str, n: int, seed: int) -> tuple[float, float, float, float]:
    """Fit one kernel to n designs of the lower half: evidence, held-out log density, correlation, CPU-seconds."""
    every = visible()
    order = generator(seed, "benchmark").permutation(len(every))
    train, test = every.take(order[:n]), every.take(order[n : n + 2_000])
    if kernel == "one strand":  # the two strands as unrelated designs
        space = DesignSpace(parameters=every.space.parameters)
        train = Dataset.from_measurements(space, space.decode(train.X), train.y)
    began = time.process_time()
    if kernel == "BoTorch":
        evidence, mean, std = botorch_default(train, test)
    else:
        fitted = GP(motifs=kernel != "no motifs").fit(train, seed=seed)
        residual = fitted.t - fitted.prior.mean
        evidence = float(-0.5 * residual @ fitted.weights - fitted.root.diagonal().log().sum()) / n - 0.5 * math.log(2 * math.pi)
        mean, std = fitted(test.X)
    seconds = time.process_time() - began
    density = -0.5 * ((test.y - mean) / std) ** 2 - np.log(std / train.y.std()) - 0.5 * math.log(2 * math.pi)
    return evidence, float(density.mean()), float(np.corrcoef(mean, test.y)[0, 1]), seconds


def botorch_default(train: Dataset, test: Dataset) -> tuple[float, np.ndarray, np.ndarray]:
    """Fit BoTorch's default model: evidence a design, and the predicted mean and std of new readings."""
    shift, scale = train.y.mean(), train.y.std()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputDataWarning)
        model = SingleTaskGP(torch.tensor(train.X), torch.tensor((train.y - shift) / scale)[:, None], outcome_transform=None)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    model.requires_grad_(False).train()
    output = model.likelihood(model(model.train_inputs[0]))
    evidence = float(output.log_prob(model.train_targets)) / len(train)
    model.eval()
    posterior = model.posterior(torch.tensor(test.X), observation_noise=True)
    mean, std = (a[:, 0].detach().numpy() for a in (posterior.mean, posterior.variance.sqrt()))
    return evidence, shift + scale * mean, scale * std


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
