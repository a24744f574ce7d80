"""Dense or convolutional networks for long sequences? The reference surrogate on untranslated regions of 50 letters.

    python examples/benchmarks/long_sequences.py --data utr_280k.npz --n 300 1000 3000 10000

The data are those of `utr.py`. For each number of measured sequences, drawn from the full range: the out-of-bag correlation that
`network: auto` chooses by, and of 3,000 sequences that the surrogate never saw the correlation of prediction and measurement and
the mean squared z-score, which is 1 where std is right.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from utr import SPACE, read, words

from labloop.proposing.dataset import Dataset
from labloop.seeds import derive, generator
from labloop.surrogates.ensemble import Ensemble


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the NumPy archive that utr.py describes")
    parser.add_argument("--n", type=int, nargs="+", default=[300, 1000, 3000])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    codes, y = read(args.data)
    for n in args.n:
        for network in (Ensemble(network="dense"), Ensemble(network="convolutional")):
            found = np.array([judged(network, codes, y, n, seed) for seed in range(args.seeds)])
            shown = "  ".join(
                f"{name} {mean:.3f} ± {sd:.3f}"
                for name, mean, sd in zip(
                    ("out of bag", "correlation", "z²", "CPU-s"),
                    found.mean(0),
                    found.std(0, ddof=min(1, args.seeds - 1)),
                    strict=True,
                )
            )
            print(f"{n:6,}  {network.network:14}{shown}", flush=True)


def judged(surrogate: Ensemble, codes: np.ndarray, y: np.ndarray, n: int, seed: int) -> list[float]:
    """Fit to n sequences and predict others."""
    order = generator(seed, "long sequences").permutation(len(y))
    tested, seen = order[:3000], order[3000 : 3000 + n]
    data = Dataset.from_measurements(SPACE, pd.DataFrame({"utr": words(codes[seen])}), y[seen])
    cpu = time.process_time()
    posterior = surrogate.fit(data, seed=derive(seed, "long sequences"))
    mean, std = posterior(SPACE.encode(pd.DataFrame({"utr": words(codes[tested])})))
    cpu = time.process_time() - cpu
    z = (y[tested] - mean) / std
    return [posterior.out_of_bag_correlation, float(np.corrcoef(mean, y[tested])[0, 1]), float(np.mean(z**2)), cpu]


if __name__ == "__main__":
    main()
