"""The Design-Bench table as a flow: every job of `labloop benchmark` is a task of its own, with the same results folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from labloop.benchmark import REPORT, Job, ensure, jobs
from labloop.files import write_text
from labloop.ranking import markdown


# No caching: the results folder knows what is finished. Each job runs in a process of its own, whatever runs the task.
@task(task_run_name="{job[method]}-{job[task]}-{job[seed]}", cache_policy=NO_CACHE, persist_result=False)
def run_job(job: dict[str, Any], out: str) -> dict[str, Any]:
    """Run one method on one task with one seed, unless its result is there."""
    return ensure(Job(**job), Path(out))


# One at a time, so that methods do not slow each other's clocks: `run_benchmark.with_options(task_runner=…)` for more.
@flow(name="labloop-benchmark", persist_result=False, task_runner=ThreadPoolTaskRunner(max_workers=1))
def run_benchmark(
    tasks: list[str],
    methods: list[str],
    out: str = "out/benchmark",
    seeds: int = 8,
    q: int = 128,
    fraction: float = 1.0,
    noise: float = 0.0,
    baselines: bool = True,
    data_dir: str | None = None,
) -> str:
    """Score offline methods by the Design-Bench protocol; returns the path of the Markdown table.

    Args:
        tasks: as `labloop benchmark --tasks`.
        methods: as `labloop benchmark --methods`.
        out: folder of the results; what is finished there is not run again.
        seeds: runs of each method on each task.
        q: designs that a method offers.
        fraction: share of the visible data that methods see.
        noise: noise on the values that methods see, as a share of their full range.
        baselines: run the free baselines too.
        data_dir: folder of Design-Bench's files.
    """
    todo = jobs(
        tasks,
        methods,
        seeds,
        q=q,
        fraction=fraction,
        noise=noise,
        baselines=baselines,
        data_dir=Path(data_dir) if data_dir else None,
    )
    rows = run_job.map([asdict(job) for job in todo], out).result()
    table = markdown(pd.DataFrame(rows))
    create_markdown_artifact(table, key="labloop-benchmark", description="Methods by the Design-Bench protocol")
    return str(write_text(Path(out) / REPORT, table))
