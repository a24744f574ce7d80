"""Does caution pay? BRAID in both forms against STRL, the same fine-tuning on a reward without caution; paired over seeds.

    python examples/benchmarks/braid.py                                        # a landscape with a cliff
    python examples/benchmarks/braid.py --task tfbind8 --fraction 0.01 --noise 0.1
    python examples/benchmarks/braid.py --task tfbind8                         # full: Design-Bench's 32,898 visible points

`ehrlich`: a holo-bench function (Stanton et al., "Closed-Form Test Functions for Biophysical Sequence Design Benchmarking", 2024)
of 8 letters, small enough to list. A design's value is the product of how much it has of two spaced motifs, and 0 where it
holds one of four forbidden pairs of letters, which is true of most designs. The data are 300 of the designs without a forbidden
pair, from the worse 70 % and with noise: nothing in them tells a reward what lies beyond the cliff, so STRL believes in it.

`tfbind8`: designs from the lower half, all or a fraction of them, with noise in units of the whole table's range. Nothing beyond
these data is worse than they are, so what a reward believes is an understatement, and caution has little to prevent.

Columns: the best, median and mean true value of 128 offered designs; `believed`, by how much their plain predicted value (the
mean of the heads) lies above the true one; `valid`, the share without forbidden pairs. Then each method's mean less STRL's, seed
by seed.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from labloop.methods.braid import BRAID, STRL, BRAIDBonus, Guidance, candidates, train
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.studies.labs.tfbind8 import SPACE as DUPLEX
from labloop.studies.labs.tfbind8 import table, truth
from labloop.types import Array, FloatArray

Q = 128
STRAND = DesignSpace(parameters=(Sequence(name="dna", length=8),))
METHODS = {"boot": BRAID, "bonus": BRAIDBonus, "mean of heads": BRAID, "strl": STRL, "guidance": Guidance}

Task = tuple[Dataset, Callable[[FloatArray], FloatArray]]
"""What is visible, and the true value of any designs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=("ehrlich", "tfbind8"), default="ehrlich")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--fraction", type=float, default=1.0, help="of TF Bind 8's visible designs")
    parser.add_argument("--noise", type=float, help="standard deviation; 0.1 for ehrlich, 0 for tfbind8")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--options", type=json.loads, default={}, help="BRAID options as JSON, such as '{\"kl\": 0.1}'")
    args = parser.parse_args()

    rows: dict[str, list[list[float]]] = {"random": []}
    for seed in range(args.seeds):
        data, value = ehrlich(seed, args.noise) if args.task == "ehrlich" else tfbind8(seed, args.fraction, args.noise)
        print(f"seed {seed}: {len(data):,} measurements, mean {data.y.mean():.3f}, best {data.y.max():.3f}")
        nowhere = data.space.sample(4 * Q, generator(seed, "benchmark"))
        y = value(nowhere[data.space.fresh(nowhere, known=data.taken)][:Q])
        rows["random"].append([y.max(), float(np.median(y)), y.mean(), np.nan, (y > 0).mean(), np.nan])
        for name in args.methods:
            options = METHODS[name](**{**args.options, **({"penalty": 0.0} if name == "mean of heads" else {})})
            cpu = time.process_time()
            trained = train(data, options, seed=seed)
            X, notes = candidates(trained, data, options, Q, seed=seed)
            pool = Pool.best(data, X, trained.reward.in_y(X), Q, proposer=name)
            y, believed = value(pool.X), trained.reward.plain_in_y(pool.X)
            cpu = time.process_time() - cpu
            rows.setdefault(name, []).append([y.max(), float(np.median(y)), y.mean(), (believed - y).mean(), (y > 0).mean(), cpu])
            told = {**trained.notes, **notes}
            shown = " ".join(
                f"{key}={told[key]:.3g}" for key in ("reward_rank_correlation", "path_kl", "unique_share") if key in told
            )
            print(f"  {name:14}{_line(rows[name][-1])}   {shown}", flush=True)

    print(f"\nmean of {args.seeds} seeds")
    for name, found in rows.items():
        print(f"  {name:14}{_line(np.mean(found, 0))}")
    for name in rows:
        if name not in ("strl", "random") and "strl" in rows and args.seeds > 1:
            print(f"  {name:14}{_paired(np.array(rows[name])[:, 2] - np.array(rows['strl'])[:, 2])}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    print(f"peak memory {peak:,.0f} MB")


# ---- tasks


def ehrlich(seed: int, noise: float | None) -> Task:
    """Draw a function and its data; see the head of this file."""
    rng = generator(seed, "ehrlich")
    X = STRAND.listing()
    codes = X.reshape(len(X), 8, 4).argmax(-1)
    forbidden: list[tuple[int, int]] = []
    for a, b in rng.permutation([(a, b) for a in range(4) for b in range(4) if a != b]).tolist():
        if len(forbidden) < 4 and sum(a == first for first, _ in forbidden) < 2:  # every letter keeps two that may follow it
            forbidden.append((a, b))
    valid = np.ones(len(X), dtype=bool)
    for a, b in forbidden:
        valid &= ~((codes[:, :-1] == a) & (codes[:, 1:] == b)).any(1)
    y = valid.astype(float)
    for _ in range(2):
        motif = rng.integers(4, size=3)
        while any(pair in forbidden for pair in zip(motif.tolist(), motif[1:].tolist(), strict=False)):
            motif = rng.integers(4, size=3)
        places = np.concatenate([[0], np.sort(rng.permutation(3)[:2] + 1)])
        present = [sum(codes[:, at + p] == m for p, m in zip(places, motif, strict=True)) for at in range(8 - places[-1])]
        y *= np.max(present, axis=0) / 3
    worse = np.flatnonzero(valid & (y <= np.quantile(y[valid], 0.7)))
    rows = rng.permutation(worse)[:300]
    data = _measured(STRAND, X[rows], y[rows], 0.1 if noise is None else noise, rng)
    weights = 4 ** np.arange(7, -1, -1)
    return data, lambda designs: y[designs.reshape(len(designs), 8, 4).argmax(-1) @ weights]


def tfbind8(seed: int, fraction: float, noise: float | None) -> Task:
    """Show a random fraction of the lower half, both strands as one design."""
    rng = generator(seed, "tfbind8")
    designs, y = table()
    low = np.flatnonzero(y <= np.median(y))
    rows = rng.permutation(low)[: max(1, round(fraction * len(low)))]
    return _measured(DUPLEX, DUPLEX.encode(designs.iloc[rows]), y[rows], noise or 0.0, rng), truth


def _measured(space: DesignSpace, X: FloatArray, y: FloatArray, noise: float, rng: np.random.Generator) -> Dataset:
    return Dataset.from_measurements(space, space.decode(X), y + noise * rng.standard_normal(len(y)))


# ---- words


def _line(row: list[float] | Array) -> str:
    names = ("max", "median", "mean", "believed", "valid", "CPU-s")
    return "  ".join(
        f"{name} {value:+.3f}" if name == "believed" else f"{name} {value:.3f}" for name, value in zip(names, row, strict=True)
    )


def _paired(gain: FloatArray) -> str:
    """Tell the mean gain with its 95 % interval and the seeds won."""
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    return f"minus strl: {gain.mean():+.3f} ± {half:.3f}, better on {(gain > 0).sum()} of {len(gain)} seeds"


if __name__ == "__main__":
    main()
