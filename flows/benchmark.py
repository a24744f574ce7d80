"""The Design-Bench table as a flow: every job of `labloop benchmark` is a task of its own, with the same results folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, task, unmapped
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from labloop.errors import ConfigError
from labloop.runtime.allowance import allow, allowed
from labloop.runtime.workers import local_cluster
from labloop.studies.benchmark import Job, ensure, jobs
from labloop.studies.ranking import REPORT, conclude, markdown


# No caching: the results folder knows what is finished. Each job runs in a process of its own, whatever runs the task.
@task(task_run_name="{job[method]}-{job[task]}-{job[seed]}", cache_policy=NO_CACHE, persist_result=False)
def run_job(job: dict[str, Any], out: str, plugins: list[str]) -> dict[str, Any]:
    """Run one method on one task with one seed, unless its result is there; on a worker that may know nothing of our plug-ins."""
    allow(*plugins)
    return ensure(Job(**job), Path(out))


@flow(name="labloop-benchmark-jobs", flow_run_name="{out}", persist_result=False)
def run_jobs(todo: list[dict[str, Any]], out: str) -> Sequence[dict[str, Any] | BaseException]:
    """Run the jobs on this flow's task runner; rows in their order, or why there is none."""
    plugins = unmapped(sorted(allowed()))  # from the environment, never from a caller of Prefect's API
    return run_job.map(todo, out, plugins).result(raise_on_failure=False)  # type: ignore[no-any-return]


def runner(workers: int | str) -> TaskRunner[Any]:
    """Give the task runner that does jobs one at a time, on so many processes here, or on a Dask cluster."""
    if workers == 1:  # one at a time, so that methods do not slow each other's clocks
        return ThreadPoolTaskRunner(max_workers=1)
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ConfigError(f"workers {workers!r} need the package {error.name!r}: pip install 'labloop-toolkit[dask]'") from error
    if isinstance(workers, str):
        return DaskTaskRunner(address=workers)
    return DaskTaskRunner(cluster_class="distributed.SpecCluster", cluster_kwargs=local_cluster(workers))


@flow(name="labloop-benchmark", persist_result=False)
def run_benchmark(
    tasks: list[str],
    methods: list[str],
    out: str = "out/benchmark",
    seeds: int = 8,
    q: int = 128,
    fraction: float = 1.0,
    noise: float = 0.0,
    baselines: bool = True,
    round: str | None = None,
    data_dir: str | None = None,
    workers: int | str = 1,
) -> str:
    """Score offline methods by the Design-Bench protocol; returns the path of the Markdown table.

    Args:
        tasks: as `labloop benchmark --tasks`.
        methods: as `labloop benchmark --methods`.
        out: folder of the results; what is finished there is not run again.
        seeds: runs of each method on each task.
        q: designs that a method offers.
        fraction: share of the visible data that methods see, where the task does not say so itself.
        noise: noise on the values that methods see, as a share of their full range.
        baselines: run the free baselines too.
        round: the round's YAML file, whose arms `methods` may name; the shipped `rounds/default.yaml` where none is given.
        data_dir: folder of Design-Bench's files.
        workers: run jobs side by side: a number of processes, or the address of a Dask scheduler, `tcp://host:8786`.
    """
    todo = jobs(
        tasks,
        methods,
        seeds,
        q=q,
        fraction=fraction,
        noise=noise,
        baselines=baselines,
        round_config=round,
        data_dir=Path(data_dir) if data_dir else None,
    )
    outcomes = run_jobs.with_options(task_runner=runner(workers))([asdict(job) for job in todo], out)
    table = markdown(conclude(outcomes, Path(out)))
    create_markdown_artifact(table, key="labloop-benchmark", description="Methods by the Design-Bench protocol")
    return str(Path(out) / REPORT)
