"""A study as a flow: every job of `labloop study` is a task of its own, with the same folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from labloop.studies.study import Job, beside, conclude, ensure, jobs, read_study

from .benchmark import runner


# No caching: the folder knows what is finished.
@task(task_run_name="{job[arm]}-{job[lab]}-{job[start]}-{job[seed]}", cache_policy=NO_CACHE, persist_result=False)
def run_study_job(job: dict[str, Any], out: str) -> dict[str, Any]:
    """Simulate one arm's campaign in one lab, unless its result is there; one that fails tells its error."""
    return ensure(Job.model_validate(job), Path(out))


@flow(name="labloop-study-jobs", flow_run_name="{out}", persist_result=False)
def run_study_jobs(todo: list[dict[str, Any]], out: str) -> list[dict[str, Any]]:
    """Run the jobs on this flow's task runner; outcomes in their order."""
    return run_study_job.map(todo, out).result()  # type: ignore[no-any-return]


@flow(name="labloop-study", persist_result=False)
def run_study(
    config: str,
    out: str = "out/study",
    labs: list[str] | None = None,
    arms: list[str] | None = None,
    seeds: int | None = None,
    starts: list[int | str] | None = None,
    workers: int | str = 1,
) -> str:
    """Compare arms over many simulated labs; returns the path of the page, or of the Markdown where pages cannot be drawn.

    Args:
        config: the study's YAML file.
        out: folder of the results; what is finished there is not run again.
        labs: only these of the study's labs.
        arms: run only these of its arms; others of the study that the folder holds whole are summed up beside them.
        seeds: that many seeds rather than the study's.
        starts: only these of its sizes of a start.
        workers: run jobs side by side: a number of processes, or the address of a Dask scheduler, `tcp://host:8786`.
    """
    study = read_study(config)
    todo = beside(study, jobs(study, labs=labs, arms=arms, seeds=seeds, starts=starts), out=Path(out))
    outcomes = run_study_jobs.with_options(task_runner=runner(workers))([job.model_dump(mode="json") for job in todo], out)
    result = conclude(study, todo, outcomes, out=Path(out))
    text = result.files["markdown"].read_text(encoding="utf-8")
    create_markdown_artifact(text, key="labloop-study", description="Arms over labs")
    return str(result.files.get("page", result.files["markdown"]))
