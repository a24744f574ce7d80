"""Every method and a whole round, on a CUDA device against the CPU: how long each takes, and whether both give the same.

    python examples/benchmarks/gpu.py --out gpu.json
    python examples/benchmarks/gpu.py --problems dna-500 --methods coms gp --share 0.1      # a quick look

It needs torch, botorch and what these bring, of labloop only the methods: where it is not installed, `PYTHONPATH=.` will do.
Each problem is one round: the methods are trained on its measurements and offer a pool, the judge is fitted, and the pools of
COMs, GTG, BRAID and qEI share a plate of 96. `dna-500` and `dna-2000` are 8-mers from the lower half of TF Bind 8, `numbers-500`
six continuous parameters of an artificial yield. The device works through the problems alone; meanwhile the CPU takes them side
by side on the other cores, `--threads` a problem. Without a device the CPU's figures are all there is.

A device draws other random numbers than a CPU, so the two agree as two seeds of one method do, not bit for bit. The row says

* `ρ`, Spearman's correlation of what the method learned on either of 2,048 designs that were not measured, against the least
  that is taken as agreement (qEI has no model of its own: the Gaussian process's row tells);
* `pool`, the share of the first 96 of the device's pool that is in the CPU's pool of 512: of a space that cannot be listed, none;
* `value`, how much more (or less) the 96 are truly worth on the device, in standard deviations of what is measured.

The exit status is 1 where a correlation is too low or a value differs by more than `WORTH`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Real
from labloop.studies.labs.tfbind8 import SPACE as DNA
from labloop.studies.labs.tfbind8 import table, truth
from labloop.types import FloatArray

PLATE, POOL, ASKED, SEED = 96, 512, 2_048, 0
ROUND = ("coms", "gtg", "braid", "qei", "ensemble")
"""What a round costs: the proposers of the offline and the bo arm, and the judge."""
AGREES = {"coms": 0.7, "gtg": 0.6, "braid": 0.7, "braid_bonus": 0.7, "ensemble": 0.8, "gp": 0.99}
"""Least correlation with the CPU: two seeds of COMs have .87 on 500 8-mers, two of BRAID .91, but each may have a poor one."""
WORTH = 1.5
"""Most by which a plate may be worth more or less than the CPU's, in standard deviations of what is measured."""

Score = Callable[[FloatArray], FloatArray]


# ---- problems


@dataclass(frozen=True, eq=False)
class Problem:
    """What is measured, and what the rest is truly worth."""

    data: Dataset
    truth: Score

    def designs(self) -> FloatArray:
        """The designs that both are asked about, (≤ ASKED, d)."""
        space = self.data.space
        X = space.sample(2 * ASKED, generator(SEED, "asked"))
        return X[space.fresh(X, known=self.data.taken)][:ASKED]


def dna(n: int) -> Problem:
    """So many random 8-mers of the lower half of TF Bind 8."""
    designs, y = table()
    rows = generator(SEED, "start").choice(np.flatnonzero(y <= np.median(y)), n, replace=False)
    return Problem(Dataset.from_measurements(DNA, designs.iloc[rows], y[rows]), truth)


def numbers(n: int) -> Problem:
    """So many random settings of six parameters of an artificial yield, its better half kept out."""
    space = DesignSpace(parameters=tuple(Real(name=f"x{i}", low=0, high=1) for i in range(6)))

    def made(X: FloatArray) -> FloatArray:
        """One broad hill, and a ripple along its sides."""
        away = ((X - np.linspace(0.25, 0.75, 6)) ** 2).sum(1)
        return np.exp(-2 * away) + 0.1 * np.cos(7 * X[:, 0] + 5 * X[:, 1] * X[:, 2])  # type: ignore[no-any-return]

    X = space.sample(2 * n, generator(SEED, "start"))
    X = X[np.argsort(made(X))[:n]]
    return Problem(Dataset.from_measurements(space, space.decode(X), made(X)), made)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "dna-500": lambda: dna(500), "dna-2000": lambda: dna(2_000), "numbers-500": lambda: numbers(500),
}  # fmt: skip


# ---- methods: each trains, and gives its pool and what it learned of any design


def shortened(options: Any, share: float, *names: str) -> Any:
    """The options with this share of their steps."""
    return replace(options, **{name: max(8, round(share * getattr(options, name))) for name in names}) if share < 1 else options


def coms(data: Dataset, share: float) -> tuple[Pool, Score]:
    from labloop.methods import coms as method
    from labloop.seeds import derive

    options = shortened(method.COMs(), share, "epochs", "min_steps")
    model = method.train(data, options, [derive(SEED, "coms")])

    def score(X: FloatArray) -> FloatArray:
        return model.score(X)[0]

    if data.space.listable:
        every = data.space.listing()
        return Pool.best(data, every, score(every), POOL, proposer="coms"), score
    X, found = method._visit(model, data, POOL, SEED)
    return Pool.of(data.space, X, found, proposer="coms"), score


def gtg(data: Dataset, share: float) -> tuple[Pool, Score]:
    from labloop.methods import gtg as method

    options = shortened(method.GTG(proxy_steps=1_500), share, "steps", "proxy_steps", "n_samples", "n_traj")
    trained = method.train(data, options, seed=SEED)
    X, _ = method.candidates(trained, data, options, POOL, seed=SEED)

    def score(X: FloatArray) -> FloatArray:
        return method.score(trained, data.space, X)

    return Pool.best(data, X, score(X), POOL, proposer="gtg"), score


def braid(data: Dataset, share: float, *, bonus: bool = False) -> tuple[Pool, Score]:
    from labloop.methods import braid as method

    options = shortened(
        method.BRAIDBonus() if bonus else method.BRAID(), share, "prior_steps", "reward_steps", "iterations", "n_samples"
    )
    trained = method.train(data, options, seed=SEED)
    X, _ = method.candidates(trained, data, options, POOL, seed=SEED)
    return Pool.best(data, X, trained.reward.in_y(X), POOL, proposer=options.name), trained.reward.in_y


def braid_bonus(data: Dataset, share: float) -> tuple[Pool, Score]:
    return braid(data, share, bonus=True)


def ensemble(data: Dataset, share: float) -> tuple[Pool | None, Score]:
    from labloop.surrogates.ensemble import Ensemble

    posterior = shortened(Ensemble(), share, "steps").fit(data, seed=SEED)
    return None, lambda X: posterior(X)[0]


def gp(data: Dataset, share: float) -> tuple[Pool | None, Score]:
    from labloop.surrogates.gp import GP

    fitted = shortened(GP(), share, "iterations").fit(data.take(np.arange(len(data))), seed=SEED)  # a fit of its own
    return None, lambda X: fitted(X)[0]


def qei(data: Dataset, share: float) -> tuple[Pool, Score | None]:
    from labloop.methods.qei import QEI

    return shortened(QEI(), share, "iterations").propose(data, PLATE, seed=SEED), None


METHODS: dict[str, Callable[[Dataset, float], tuple[Pool | None, Score | None]]] = {
    "coms": coms, "gtg": gtg, "braid": braid, "braid_bonus": braid_bonus, "ensemble": ensemble, "gp": gp, "qei": qei,
}  # fmt: skip


# ---- one process works through problems on one device


def work(problems: list[str], methods: list[str], share: float, into: Path) -> None:
    """Run the methods on the device that this process was given; write what each took, said and offered."""
    import torch

    from labloop.surrogates.training import pick_device

    device = pick_device()

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    if device.type == "cuda":  # the first product starts the libraries, which no method should be charged for
        torch.linalg.cholesky(torch.eye(64, device=device, dtype=torch.float64) @ torch.eye(64, device=device).double())
        wait()
    for name in problems:
        problem = PROBLEMS[name]()
        data, asked = problem.data, problem.designs()
        told: dict[str, Any] = {}
        arrays: dict[str, FloatArray] = {}
        pools: list[Pool] = []
        judge: Score | None = None
        for method in methods:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            wall, cpu = time.perf_counter(), time.process_time()
            pool, score = METHODS[method](data, share)
            wait()
            told[method] = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
            if device.type == "cuda":
                told[method]["device_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
            if score is not None:
                arrays[f"{method}/said"] = score(asked)
            if pool is not None:
                arrays[f"{method}/X"] = pool.X
                told[method]["worth"] = float(problem.truth(pool.X[:PLATE]).mean())
                pools += [pool] * (method in ROUND)
            judge = score if method == "ensemble" else judge
            print(f"{device} {name:12} {method:12} {told[method]['seconds']:7.1f} s", file=sys.stderr, flush=True)
        if judge is not None and set(ROUND) <= set(methods):
            wall, cpu = time.perf_counter(), time.process_time()
            joined = Pool.interleave(pools)
            plate = joined.X[np.argsort(-judge(joined.X), kind="stable")[:PLATE]]
            told["round"] = {
                "seconds": time.perf_counter() - wall + sum(told[one]["seconds"] for one in ROUND),
                "cpu_seconds": time.process_time() - cpu + sum(told[one]["cpu_seconds"] for one in ROUND),
                "worth": float(problem.truth(plate).mean()),
            }
            arrays["round/X"] = plate
        np.savez(into / f"{device.type}-{name}.npz", told=np.array(json.dumps(told)), **arrays)  # type: ignore[arg-type]


def start(device: str, problems: list[str], args: argparse.Namespace, into: Path, cores: list[int]) -> subprocess.Popen[bytes]:
    """Start a process that works through the problems on a device, on these cores of the CPU."""
    own = {"LABLOOP_DEVICE": device, "OMP_NUM_THREADS": str(len(cores))}
    command = [sys.executable, __file__, "--worker", str(into), "--share", str(args.share), "--problems", *problems, "--methods"]
    process = subprocess.Popen([*command, *args.methods], env={**os.environ, **own})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, cores)
    return process


def devices(args: argparse.Namespace, into: Path) -> list[str]:
    """Run everything on the CPU and, where there is one, on the CUDA device; say which there were."""
    import torch

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    there = torch.cuda.is_available()
    kept = min(2, len(cores) - 1) if there else 0  # for the process that feeds the device
    mine, theirs = cores[:kept] or cores, cores[kept:]
    threads = args.threads or max(1, len(theirs) // len(args.problems))
    running = [start("cuda", args.problems, args, into, mine)] if there else []
    waiting, free = list(args.problems), max(1, len(theirs) // threads)
    # The longest first, in as many processes as there are cores for.
    waiting.sort(key=lambda name: -int(name.rpartition("-")[2]))
    shares = [waiting[i::free] for i in range(min(free, len(waiting)))]
    running += [start("cpu", one, args, into, theirs[i * threads : (i + 1) * threads]) for i, one in enumerate(shares)]
    if failed := [process.args for process in running if process.wait()]:
        raise SystemExit(f"did not end well: {failed}")
    return ["cpu", "cuda"] if there else ["cpu"]


# ---- what came of it


def compare(problem: str, methods: list[str], found: list[str], into: Path) -> list[dict[str, Any]]:
    """One row a method: what it took on either, and how well both agree."""
    read = {device: np.load(into / f"{device}-{problem}.npz") for device in found}
    told = {device: json.loads(str(arrays["told"])) for device, arrays in read.items()}
    known = PROBLEMS[problem]().data
    rows = []
    for method in [*methods, "round"]:
        if method not in told["cpu"]:
            continue
        row: dict[str, Any] = {"problem": problem, "method": method}
        row |= {f"{key}_{device}": value for device in found for key, value in told[device][method].items()}
        if "cuda" in found:
            row["faster"] = row["seconds_cpu"] / row["seconds_cuda"]
            if f"{method}/said" in read["cpu"]:
                ranks = [pd.Series(read[device][f"{method}/said"]).rank() for device in found]
                row["correlation"], row["least"] = float(np.corrcoef(*ranks)[0, 1]), AGREES[method]
            if f"{method}/X" in read["cpu"]:
                ids = [known.space.ids(read[device][f"{method}/X"]) for device in found]
                row["pool"] = len(set(ids[1][:PLATE]) & set(ids[0])) / PLATE
                row["value"] = (row["worth_cuda"] - row["worth_cpu"]) / float(known.y.std())
            row["agrees"] = row.get("correlation", 1) >= row.get("least", 0) and abs(row.get("value", 0)) <= WORTH
        rows.append(row)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table, one line a row."""
    columns = {
        "problem": "{}", "method": "{}", "seconds_cpu": "{:.1f}", "cpu_seconds_cpu": "{:.1f}", "seconds_cuda": "{:.1f}",
        "faster": "{:.1f}×", "device_mb_cuda": "{:,.0f}", "correlation": "{:.3f}", "least": "{:.2f}", "pool": "{:.2f}",
        "value": "{:+.2f}", "agrees": "{}",
    }  # fmt: skip
    heads = ("problem", "method", "CPU s", "CPU-s", "device s", "faster", "device MB", "ρ", "least", "pool", "value", "agrees")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [shape.format(row[name]) if name in row else "" for name, shape in columns.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=tuple(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--share", type=float, default=1.0, help="of every training's steps: less is a quick look, not a figure")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads a problem; by default the cores are shared out")
    parser.add_argument("--out", type=Path, help="write everything as JSON here")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.problems, args.methods, args.share, args.worker)
        return
    import torch

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = devices(args, Path(folder))
        rows = [row for problem in args.problems for row in compare(problem, args.methods, found, Path(folder))]
    about = {
        "device": torch.cuda.get_device_name() if "cuda" in found else None, "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__, "numpy": np.__version__, "python": sys.version.split()[0], "share": args.share,
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    print(f"device: {about['device'] or 'none, so there is nothing to compare with'}; CPU: {about['cores']} cores; ", end="")
    print(f"torch {about['torch']}, NumPy {about['numpy']}, Python {about['python']}; {about['seconds']:.0f} s in all\n")
    print(markdown(rows))
    if args.out:
        args.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    if apart := [f"{row['problem']} {row['method']}" for row in rows if not row.get("agrees", True)]:
        raise SystemExit(f"\ndevice and CPU do not agree: {', '.join(apart)}")


if __name__ == "__main__":
    main()
