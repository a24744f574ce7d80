"""Offline methods on known landscapes by Design-Bench's protocol: see the worse part of the data, offer Q designs, be scored.

A method gets the rows that score up to a percentile and offers Q = 128 distinct designs, none of them in its data. Its row in the
table are the largest (100th percentile), the median (50th) and the mean of their scores, normalised by the least and the largest
value of the whole data set, hidden rows included. Source: Trabucco et al., "Design-Bench", ICML 2022, section 5.

`tfbind8` is that paper's TF Bind 8: all 65,536 8-mers are designs of their own, the strands of one molecule too, although the lab
`tfbind8` and campaigns take both strands for one design. 32,898 rows are visible. 130 palindromes stand there twice with one
value each; they are one reading, not replicates, so methods see 32,768 designs.

A proposer of labloop never offers what it was shown, so `random` draws from the hidden half (and from rows that `fraction` has
left out): on TF Bind 8 its best of 128 is 0.960 on average, where 128 draws from all designs reach 0.937.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from labloop.config.read import load_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, LabloopError, MethodError, in_one_line
from labloop.proposing.checks import check_plugins
from labloop.proposing.contracts import asking, pool_of
from labloop.proposing.dataset import Dataset
from labloop.proposing.pipeline import FAILURES, decide, plan, train
from labloop.proposing.pool import Pool
from labloop.registry import available, create, describe, parse_plugin
from labloop.runtime.counts import check_count
from labloop.runtime.memory import keep_freed
from labloop.runtime.workers import Workers, spread
from labloop.seeds import derive
from labloop.studies.ranking import conclude
from labloop.studies.tasks import STANDARD, STANDARD_TASKS, View, content, open_task

log = logging.getLogger("labloop")

BASELINES = ("random", "mutate", "pairwise", "ensemble")
"""What costs next to nothing and stands in every table: a method that does not beat them has shown nothing."""

ALL = "all"
"""Stands for every method there is."""

COLUMNS = (
    "task", "method", "seed", "max", "median", "mean", "n_unique", "share_in_data", "seconds", "cpu_seconds", "peak_mb",
    "share_without_value",
)  # fmt: skip

KEPT = tuple(name for name in COLUMNS if name != "share_without_value")
"""What every line of the results has; those of earlier versions know of no designs without a value."""

RESULTS = "results.jsonl"


def benchmark(
    tasks: Sequence[str], methods: Sequence[str], seeds: int | Sequence[int] = 8, *, q: int = 128, fraction: float = 1.0,
    noise: float = 0.0, baselines: bool = True, round_config: RoundConfig | Path | str | None = None,
    data_dir: Path | None = None, out: Path | None = None, in_process: bool = False, workers: Workers = 1,
) -> pd.DataFrame:  # fmt: skip
    """Run every method on every task with every seed; what is finished in `out` is not run again.

    Args:
        tasks: `tfbind8`, a Design-Bench name such as `UTR-RandomForest-v0`, `lookup:FILE.csv`, or a lab; options after slashes,
            `tfbind8/fraction=0.01`: see `labloop.studies.tasks`. `standard` stands for seven of them.
        methods: proposers, with options after slashes where wanted: `coms`, `coms/epochs=20/tau=2.0`; `all` stands for every one
            that is installed and takes the task's designs, `gp_mean` and the free baselines first. An arm of the round goes
            by its name, before a proposer of that name: its proposers, judge and selector fill one plate of q wells, as the
            first of a campaign.
        seeds: how many (0, 1, …), or which.
        q: designs that each method offers, where the task does not say so itself, as with the two that follow.
        fraction: random share of the visible rows that methods see, another one for each seed.
        noise: standard deviation of normal noise on the values that methods see, as a share of the data set's full range, so in
            units of the normalised score; not clipped. Designs are always scored without noise.
        baselines: whether the free baselines run too; one whose packages are missing is left out with a warning.
        round_config: where arms are named; the shipped `rounds/default.yaml` where none is given.
        data_dir: folder of Design-Bench's files, for tasks that need some.
        out: folder that keeps one line a finished job (`results.jsonl`), and the table (`benchmark.md`).
        in_process: run jobs in this process, where `peak_mb` is the most memory it ever had, not the job's.
        workers: side by side on so many processes, or on a Dask cluster: see `labloop.runtime.workers`. Jobs then share the
            cores, so read CPU-seconds, not seconds.

    Returns:
        One row a task, method and seed with the columns `COLUMNS`: max, median and mean are normalised scores, `n_unique` the
        distinct designs among the q, `share_in_data` the share that the method was shown, `share_without_value` the share that
        nobody can measure, which count as 0; the rest what proposing took.

    Raises:
        ConfigError: a task, a method or a number does not make sense; nothing has run then.
        MethodError: jobs failed; all others were run and are kept in `out`, with their table. Without `out` the first one that
            fails ends it.
    """
    todo = jobs(
        tasks, methods, seeds, q=q, fraction=fraction, noise=noise, baselines=baselines, round_config=round_config,
        data_dir=data_dir,
    )  # fmt: skip
    keys = [job.key for job in todo]
    kept = {} if out is None else finished(out)
    if n := sum(key in kept for key in keys):
        log.warning("%d of %d jobs were finished before, in %s/%s", n, len(todo), out, RESULTS)
    open_jobs = [(key, job) for key, job in dict(zip(keys, todo)).items() if key not in kept]
    run, failed = partial(_tried, Job.run if in_process else run_apart), dict[str, MethodError]()
    for i, row in spread(run, [job for _, job in open_jobs], "benchmark", workers=workers):
        key = open_jobs[i][0]
        if isinstance(row, MethodError):
            failed[key] = row
            if out is None:
                raise row
            continue
        kept[key] = row
        if out is not None:
            _append(out / RESULTS, {"key": key, **row})
    return conclude([failed.get(key) or job.told(kept[key]) for key, job in zip(keys, todo)], out)[list(COLUMNS)]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One method on one task with one seed."""

    task: str
    method: str
    seed: int
    q: int = 128
    fraction: float = 1.0
    noise: float = 0.0
    data_dir: str | None = None
    label: str | None = None
    """The task as it was asked for, where `task` does not say all of it."""
    arm: dict[str, Any] | None = None
    """Where `method` names an arm: the arm and its judge, as a round of its own."""
    content: str = ""
    """Hash of the user's files that the task is read from, empty where there are none."""

    def told(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Give a result under the names that were asked for."""
        mine = {"task": self.label or self.task, "method": self.method, "landscape": self.task}
        return {"share_without_value": 0.0, **result, **mine}

    @property
    def key(self) -> str:
        """What makes two jobs one and the same: what stands in a table of one's own, not the order of options nor the place of
        Design-Bench's files."""
        name, options = parse_plugin(self.method) if self.arm is None else (self.method, self.arm)
        parts = [version("labloop-toolkit"), self.task, name, options, self.seed, self.q, float(self.fraction), float(self.noise)]
        return json.dumps([*parts, self.content] if self.content else parts, sort_keys=True)

    def run(self) -> dict[str, Any]:
        """Train, propose and score in this process."""
        task = open_task(self.task, self.data_dir, self.content)
        data = task.data(fraction=self.fraction, noise=self.noise, seed=derive(self.seed, "benchmark", "data"))
        keep_freed()
        wall, cpu = time.perf_counter(), _cpu_seconds()
        try:
            pool = self._offer(data, derive(self.seed, "benchmark", "propose"))
        except MethodError:
            raise
        except FAILURES as error:
            raise MethodError(f"{self.method} failed: {in_one_line(error)}") from error
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
        if len(pool) != self.q:
            raise MethodError(f"{self.method} offered {len(pool)} designs where {self.q} were asked for")
        score = task.scores(pool.X)
        lost = ~np.isfinite(score)
        score[lost] = 0.0
        ids = data.space.ids(pool.X)
        known = set(data.ids)
        return {
            "task": self.task, "method": self.method, "seed": self.seed,
            "max": float(score.max()), "median": float(np.median(score)), "mean": float(score.mean()),
            "n_unique": len(set(ids)), "share_in_data": sum(one in known for one in ids) / self.q,
            "seconds": round(wall, 3), "cpu_seconds": round(cpu, 3), "peak_mb": round(_peak_bytes() / 1e6, 1),
            "share_without_value": float(lost.mean()), "q": self.q, "fraction": self.fraction, "noise": self.noise,
            "n_visible": len(task.values), "n_data": len(data), "best_visible": float(task.normalised(task.values).max()),
        }  # fmt: skip

    def _offer(self, data: Dataset, seed: int) -> Pool:
        """Let the method propose, or the arm fill one plate."""
        if self.arm is None:
            name, options = parse_plugin(self.method)
            with asking(name, "proposers"):
                return pool_of(name, create("proposers", name, options).propose(data, self.q, seed=seed))
        config = RoundConfig(**self.arm)
        setting: dict[str, Any] = {"seed": seed, "number": 1, "rounds": 1}
        ((name, arm),) = config.arms.items()
        offered = [train(one, data).pool for one in plan(config, data, wells=self.q, **setting)]
        picks, _ = decide(config, {name: offered}, data, {name: self.q}, judging=not arm.as_proposed, **setting)
        return picks[name].pool


def jobs(
    tasks: Sequence[str], methods: Sequence[str], seeds: int | Sequence[int] = 8, *, q: int = 128, fraction: float = 1.0,
    noise: float = 0.0, baselines: bool = True, round_config: RoundConfig | Path | str | None = None,
    data_dir: Path | None = None,
) -> list[Job]:  # fmt: skip
    """List the jobs of a benchmark, checked: see `benchmark` for the arguments.

    Raises:
        ConfigError: a task, a method, an arm, an option or a number does not make sense.
        MethodError: a method's packages are not installed.
    """
    if not isinstance(seeds, Iterable):
        check_count("seeds", seeds)
        seeds = range(seeds)
    seeds = list(dict.fromkeys(seeds))
    for good, rule in ((len(tasks) > 0, "at least one task"), (len(seeds) > 0, "at least one seed")):
        if not good:
            raise ConfigError(f"a benchmark needs {rule}")
    asked = dict.fromkeys(one for task in tasks for one in (STANDARD_TASKS if task == STANDARD else [task]))
    views = [View.of(task, q=q, fraction=fraction, noise=noise) for task in asked]
    chosen = list(dict.fromkeys(one for method in methods for one in (everyone() if method == ALL else [method])))
    arms = _arms(round_config)
    for method in chosen:
        _check(method, arms)
    if baselines:
        chosen += [name for name in BASELINES if name not in chosen and _loadable(name)]
    if not chosen:
        raise ConfigError(f"a benchmark needs a method; there are: {', '.join(available('proposers'))}")
    folder = None if data_dir is None else str(data_dir)
    read = {view.task: content(view.task) for view in views}
    return [
        Job(
            task=view.task, method=method, seed=seed, q=view.q, fraction=view.fraction, noise=view.noise, data_dir=folder,
            label=view.label, content=read[view.task],
            arm=arms[method].model_dump(mode="json", exclude_defaults=True) if method in arms else None,
        )
        for view in views
        for method in chosen
        if method in methods or ALL not in methods or _takes(method, view.task, folder, read[view.task])
        for seed in seeds
    ]  # fmt: skip


def _arms(round_config: RoundConfig | Path | str | None) -> dict[str, RoundConfig]:
    """Each arm of a round as a round of its own, which has the whole plate."""
    if not isinstance(round_config, RoundConfig):
        round_config = load_config(round_config or preset("rounds/default.yaml"), RoundConfig)
    return {name: RoundConfig(arms={name: arm.whole}, judge=round_config.judge) for name, arm in round_config.arms.items()}


def _check(method: str, arms: Mapping[str, RoundConfig]) -> None:
    """See that there is an arm or a proposer of this name, and that it takes its options."""
    name, options = parse_plugin(method)
    if method in arms:
        check_plugins(arms[method], number=1, rounds=1)
        return
    try:
        create("proposers", name, options)
    except ConfigError as error:
        if name in available("proposers") or ":" in name:
            raise
        if name in arms:
            raise ConfigError(f"{method!r}: {name} is an arm, whose options stand in the round's file (--round)") from error
        raise ConfigError(f"{error}; arms of the round: {', '.join(arms)}") from error


def everyone() -> list[str]:
    """Name every proposer whose packages are installed: `gp_mean`, the free baselines, then the others."""
    first = ["gp_mean", *BASELINES]
    return [name for name in [*first, *(one for one in available("proposers") if one not in first)] if _loadable(name)]


def _takes(method: str, task: str, data_dir: str | None, content: str) -> bool:
    """Whether a proposer can handle every parameter of a task's designs; said where it cannot."""
    name, _ = parse_plugin(method)
    strange = open_task(task, data_dir, content).space.kinds - frozenset(describe("proposers", name)["kinds"])
    if strange and "any" not in describe("proposers", name)["kinds"]:
        log.warning("%s is left out on %s: it takes no %s", method, task, ", ".join(sorted(strange)))
        return False
    return True


def ensure(job: Job, out: Path | None = None, *, in_process: bool = False) -> dict[str, Any]:
    """Run a job unless `out` has its result, and keep the result there. A process of its own tells its memory from others'."""
    if out is not None and (found := finished(out).get(job.key)) is not None:
        return job.told(found)
    row = job.run() if in_process else run_apart(job)
    if out is not None:
        _append(out / RESULTS, {"key": job.key, **row})
    return job.told(row)


def finished(out: Path) -> dict[str, dict[str, Any]]:
    """Read the results in a folder by the key of their job; a line that is cut off, or no result, is left out."""
    rows: dict[str, dict[str, Any]] = {}
    path = out / RESULTS
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and row.keys() >= {"key", *KEPT} and isinstance(row["key"], str):
            rows.setdefault(row.pop("key"), row)
        else:
            log.warning("%s line %d is cut off or damaged: its job runs again", path, number)
    return rows


def _loadable(name: str) -> bool:
    try:
        create("proposers", name)
    except MethodError as error:
        log.warning("%s is left out: %s", name, error)
        return False
    return True


def _tried(run: Callable[[Job], dict[str, Any]], job: Job) -> dict[str, Any] | MethodError:
    """Run a job, and give its error back: the others go on."""
    try:
        return run(job)
    except MethodError as error:
        return error


def run_apart(job: Job) -> dict[str, Any]:
    """Run a job in a Python of its own, which sees the same modules as this one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
    command = [sys.executable, "-m", "labloop.studies.benchmark", json.dumps(asdict(job))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    where = f"{job.method} on {job.task}, seed {job.seed}"
    if done.returncode < 0:
        raise MethodError(f"{where}: its process was ended by signal {-done.returncode}; 9 often means too little memory")
    answer = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == 1 and answer.startswith('{"error"'):
        raise MethodError(f"{where}: {json.loads(answer)['error']}")
    if done.returncode:
        broke = MethodError if ":" in job.method else RuntimeError  # whose code is the user's own
        raise broke(f"{where} broke:\n{done.stderr[-4000:]}")
    return json.loads(answer)  # type: ignore[no-any-return]


def _worker(job: str) -> int:
    try:
        answer = Job(**json.loads(job)).run()
    except LabloopError as error:
        answer = {"error": str(error)}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    return int("error" in answer)


def _append(path: Path, row: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")), path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            cut_off = end > 0 and file.read(1) != b"\n"
            file.write((b"\n" if cut_off else b"") + json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise LabloopError(f"{path}: cannot be written: {error.strerror}; free the disk or choose another folder") from error


def _cpu_seconds() -> float:
    """CPU time of this process, all threads, and of the processes it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _peak_bytes() -> int:
    """Most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage would give the parent's peak where that was higher
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(_worker(sys.argv[1]))
