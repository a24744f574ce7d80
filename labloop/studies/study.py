"""Studies: arms against each other over many simulated labs, with paired starts; what is finished is kept and never redone.

A study's YAML names labs, arms, sizes of the start, noises and seeds. Each combination is a job: a simulated campaign of one arm,
by the very code and seeds of `labloop.studies.simulate`. A job's result is a file of its own in the output folder, named by a
hash of all that the job depends on but labloop's code: choose another folder after changing a method.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.config.round import Arm, RoundConfig
from labloop.errors import ConfigError, LabloopError
from labloop.proposing.checks import check_plugins
from labloop.registry import create
from labloop.rounds import related
from labloop.runtime.counts import check_count
from labloop.runtime.files import write_all, write_text
from labloop.runtime.workers import Workers, spread
from labloop.studies.arms import pick_arms
from labloop.studies.bench import ENDED, Bench
from labloop.studies.labs.lab import content_of
from labloop.studies.properties import COMPROMISE, came_to, check_properties, share_of
from labloop.studies.standing_tables import markdown
from labloop.studies.standings import MEASURES, standings
from labloop.studies.study_config import StudyConfig, read_study
from labloop.studies.study_job import Job

__all__ = [
    "COLUMNS",
    "Job",
    "Result",
    "StudyConfig",
    "attempt",
    "beside",
    "conclude",
    "ensure",
    "finished",
    "jobs",
    "read_study",
    "study",
]

log = logging.getLogger("labloop")

COLUMNS = (
    "lab", "start", "noise", "arm", "seed", "round", "n_wells", "n_failed", "batch_mean", "top10_mean", "best",
    "batch_mean_share", "top10_mean_share", "best_share", "coverage", "cpu_seconds", "seconds", "note",
)  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """What a study found."""

    rows: pd.DataFrame
    """One row a lab, start, noise, arm, seed and round with the columns `COLUMNS`.

    `batch_mean`, `top10_mean` and `best` are in the lab's unit, over the wells that have a value, the latter two over those that
    keep the limits. `NAME_share` is the same as a share of the lab's range, 1 the best whatever the direction; there a well
    whose design failed by itself (`n_failed`) counts as 0, the lab's worst. In a lab of several properties the three shares are
    the hypervolume's (`hypervolume`; with one objective and limits, of the best that keeps them, `best_in_limits`), so that arms
    are ranked by it: 1 is the most that any arm came to, 0 nothing. `batch_mean` averages it over the rounds, the other two take
    it at the end. `coverage` is the share of chosen designs whose reading lay within the judge's 90 % interval.
    """
    summary: dict[str, Any]
    """See `labloop.studies.standings.standings`."""
    failures: tuple[str, ...]
    """Jobs that failed, with the reason; they run again next time."""
    files: Mapping[str, Path]
    """What was written: `csv`, `json`, `markdown` and `page`."""


def study(
    config: StudyConfig | Path | str,
    *,
    out: Path | None = None,
    labs: Sequence[str] | None = None,
    arms: Sequence[str] | None = None,
    starts: Sequence[int | str] | None = None,
    seeds: int | None = None,
    workers: Workers = 1,
) -> Result:
    """Run every job of a study that `out` does not hold yet, and sum all of them up.

    Arms can be added to a study that was run: those of its file that `out` holds whole, for all labs, starts and seeds asked for,
    are summed up beside the ones that run now. They began with the same data, and their wells had the same noise.

    Args:
        out: folder of the jobs' results (`jobs/`) and of `rows.csv`, `study.json`, `study.md` and `study.html`; nothing is kept
            where none is given.
        labs: only these of the study's labs.
        arms: run only these of its arms.
        starts: only these of its sizes of a start.
        seeds: that many seeds rather than the study's.
        workers: side by side on so many processes, or on a Dask cluster: see `labloop.runtime.workers`.

    Raises:
        ConfigError: the study does not make sense; nothing has run then.
        LabloopError: every job failed.
    """
    config = read_study(config)
    todo = beside(config, jobs(config, labs=labs, arms=arms, starts=starts, seeds=seeds), out=out)
    open_jobs = [job for job in todo if finished(job, out) is None]
    if kept := len(todo) - len(open_jobs):
        log.warning("%d of %d jobs were finished before, in %s", kept, len(todo), out)
    fresh: dict[str, dict[str, Any]] = {}
    for i, outcome in spread(attempt, open_jobs, f"study {config.name}", workers=workers):
        fresh[open_jobs[i].key] = outcome
        _keep(open_jobs[i], outcome, out)
    outcomes = [fresh.get(job.key) or finished(job, out) or {"error": "its result is gone"} for job in todo]
    return conclude(config, todo, outcomes, out=out)


def jobs(
    config: StudyConfig, *, labs: Sequence[str] | None = None, arms: Sequence[str] | None = None,
    starts: Sequence[int | str] | None = None, seeds: int | None = None,
) -> list[Job]:  # fmt: skip
    """List a study's jobs, checked; those of a seed stand together, so that an interrupted study holds whole comparisons.

    Raises:
        ConfigError: a lab, an arm, a start, a file or an option is unknown or does not fit, or there is no seed.
    """
    if seeds is not None:
        check_count("seeds", seeds)
    sizes = {str(size) for told in config.labs.values() for size in told.starts or config.starts}
    wanted = sizes if starts is None else {str(size) for size in starts}
    if strange := sorted(wanted - sizes):
        raise ConfigError(f"no lab of the study starts from {strange[0]}; there are: {', '.join(sorted(sizes))}")
    rounds = _rounds(config, _chosen("arm", arms, list(config.arms)))
    for arm in rounds.values():
        check_plugins(arm, number=1, rounds=config.rounds)
    found = []
    for name in _chosen("lab", labs, list(config.labs)):
        told = config.labs[name]
        ((plugin, options),) = (told.lab or {name: {}}).items()
        campaign = load_config(told.campaign, CampaignConfig).anchored(told.campaign.parent)
        campaign, batch = campaign.model_copy(update={"schedule": None}), told.batch or config.batch
        history = _checked(name, campaign, batch)
        for noise in told.noise or config.noise:
            chosen = {**options, "noise": noise} if noise else options
            lab = create("labs", plugin, chosen)
            content = content_of(lab)
            if set(lab.space.columns) != set(campaign.space.columns):
                raise ConfigError(
                    f"labs.{name}: campaign {campaign.name} designs {', '.join(campaign.space.columns)}, "
                    f"but the lab measures {', '.join(lab.space.columns)}"
                )
            try:
                check_properties(campaign, lab)
            except ConfigError as error:
                raise ConfigError(f"labs.{name}: {error}") from error
            found += [
                Job(
                    lab=name, plugin=plugin, options=chosen, campaign=campaign, arm=arm, config=one, start=start,
                    noise=noise or options.get("noise", 0.0), quantile=told.quantile or config.quantile,
                    batch=batch, rounds=config.rounds, seed=seed, history=history, content=content,
                )
                for start in told.starts or config.starts
                if str(start) in wanted
                for arm, one in rounds.items()
                for seed in range(config.seeds if seeds is None else seeds)
            ]  # fmt: skip
    return sorted(found, key=lambda job: job.seed)


def _checked(name: str, campaign: CampaignConfig, batch: int) -> tuple[dict[str, Any], ...]:
    """See that a lab's batches keep its campaign's bench, and read what its history knows.

    Raises:
        ConfigError: its first batch cannot, or the history cannot be read.
    """
    try:
        if (bench := Bench.of(campaign, batch)) is not None:
            bench.check()
        sources = related.read(campaign, None, related.open_home()) if campaign.history else []
    except LabloopError as error:
        raise ConfigError(f"labs.{name}: campaign {campaign.name}: {error}") from error
    return tuple(asdict(one) for one in sources)


def beside(config: StudyConfig, todo: Sequence[Job], *, out: Path | None) -> list[Job]:
    """Add the study's other arms of which the folder holds every job that these have: same labs, starts, noises and seeds."""
    if out is None:
        return list(todo)
    settings = {(job.lab, job.start, job.noise, job.seed) for job in todo}
    there = {job.arm for job in todo}
    more: dict[str, list[Job]] = {}
    every = jobs(
        config, labs=list({job.lab for job in todo}), starts=list({job.start for job in todo}),
        arms=[arm for arm in config.arms if arm not in there], seeds=1 + max(job.seed for job in todo),
    )  # fmt: skip
    for job in every:
        if (job.lab, job.start, job.noise, job.seed) in settings:
            more.setdefault(job.arm, []).append(job)
    kept = {arm: mine for arm, mine in more.items() if all(_path(job, out).is_file() for job in mine)}
    if not kept:
        return list(todo)
    log.info("summed up beside, as %s holds them: %s", out, ", ".join(kept))
    order = {arm: i for i, arm in enumerate(config.arms)}
    return sorted([*todo, *(job for mine in kept.values() for job in mine)], key=lambda job: (job.seed, order[job.arm]))


def ensure(job: Job, out: Path | None) -> dict[str, Any]:
    """Run a job unless `out` has its result, and keep the result there; one that failed gives `error` and is not kept."""
    outcome = finished(job, out)
    if outcome is None:
        _keep(job, outcome := attempt(job), out)
    return outcome


def attempt(job: Job) -> dict[str, Any]:
    """Run a job; one that cannot be done tells its `error`, so that it does not take the others with it."""
    try:
        return job.run()
    except LabloopError as error:
        log.warning("%s failed: %s", job.label, error)
        return {"error": " ".join(str(error).split())}


def finished(job: Job, out: Path | None) -> dict[str, Any] | None:
    """Read a job's result, None where there is none, or what there is cannot be read or is not whole."""
    if out is None:
        return None
    path = _path(job, out)
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s): its job runs again", path, error)
        return None
    if not _is_whole(found, job.rounds):
        log.warning("%s holds no result of %d rounds: its job runs again", path, job.rounds)
        return None
    return found  # type: ignore[no-any-return]


def _is_whole(found: Any, rounds: int) -> bool:
    """Does a result have its rows, one a round, with what is summed up of them, and the ends of the lab's values?"""
    if not isinstance(found, dict) or not found.keys() >= {"rows", "range", "seen"} or not isinstance(found["rows"], list):
        return False
    needed = {"round", "n_wells", "n_failed", "coverage", "cpu_seconds", "seconds", "note", *MEASURES}
    return len(found["rows"]) == rounds and all(isinstance(row, dict) and row.keys() >= needed for row in found["rows"])


def conclude(
    config: StudyConfig, todo: Sequence[Job], outcomes: Sequence[Mapping[str, Any]], *, out: Path | None = None
) -> Result:
    """Sum the outcomes of jobs up, and write the tables and the page where there is a folder for them.

    Raises:
        LabloopError: every job failed, or a file cannot be written.
    """
    failures = tuple(f"{job.label}: {one['error']}" for job, one in zip(todo, outcomes, strict=True) if "error" in one)
    done = [(job, one) for job, one in zip(todo, outcomes, strict=True) if "error" not in one]
    if not done:
        raise LabloopError(f"study {config.name}: every job failed, the first one: {failures[0]}")
    rows = _rows(done)
    summary = standings(rows, list(dict.fromkeys(job.arm for job in todo)), reference=config.reference)
    files: dict[str, Path] = {}
    if out is not None:
        texts = {
            "rows.csv": rows.to_csv(index=False, lineterminator="\n"),
            "study.json": json.dumps({"study": config.name, "failures": failures, **summary}, indent=1, ensure_ascii=False)
            + "\n",
            "study.md": markdown(summary, title=config.name, description=config.description, failures=failures),
        }
        write_all(out, {name: text.encode("utf-8") for name, text in texts.items()})
        files = {"csv": out / "rows.csv", "json": out / "study.json", "markdown": out / "study.md"}
        from labloop.studies.page import write_page

        try:
            files["page"] = write_page(
                out / "study.html", summary, title=config.name, description=config.description, failures=failures
            )
        except ModuleNotFoundError as error:
            log.warning("no page is written: it needs the package %r: pip install 'labloop-toolkit[report]'", error.name)
    return Result(rows=rows, summary=summary, failures=failures, files=files)


def _rows(done: Sequence[tuple[Job, Mapping[str, Any]]]) -> pd.DataFrame:
    rows = []
    for job, outcome in done:
        place = {"lab": job.lab, "start": job.start, "noise": job.noise, "arm": job.arm, "seed": job.seed}
        low, high = _scale(job.lab, done)
        came = [came_to(one) for other, each in done if other.lab == job.lab for one in each["rows"]]
        for row in outcome["rows"]:
            values = {measure: np.nan if row[measure] is None else row[measure] for measure in MEASURES}
            shares = {f"{measure}_share": _share(value, low, high, row["n_failed"]) for measure, value in values.items()}
            good = row["n_wells"] - row["n_failed"]
            shares["batch_mean_share"] *= good / max(1, good + row["n_failed"]) if good else 1.0
            if job.campaign.goal is not None:
                shares = dict.fromkeys(shares, share_of(job.campaign.goal, came_to(row), came))
            if row["note"].startswith(ENDED):  # a plate that was not made is none of no value
                shares["batch_mean_share"] = np.nan
            rows.append({**row, **place, **values, **shares})
    table = pd.DataFrame(rows)
    table = table[[*COLUMNS, *(name for name in ("price", *COMPROMISE) if name in table)]]
    return table.astype({"coverage": float})


def _share(value: float, low: float, high: float, n_failed: int) -> float:
    """The value as a share of the range; 0 where there is none because all designs failed by themselves."""
    return 0.0 if np.isnan(value) and n_failed else (value - low) / (high - low)


def _scale(lab: str, done: Sequence[tuple[Job, Mapping[str, Any]]]) -> tuple[float, float]:
    """The lab's worst and best value: its own range, else from the start data's worst to its optimum or the best found."""
    mine = [(job, outcome) for job, outcome in done if job.lab == lab]
    ends = mine[0][1]["range"]
    if ends is None:
        found = [row["best"] for _, outcome in mine for row in outcome["rows"] if row["best"] is not None]
        ends = [*(end for _, outcome in mine for end in outcome["seen"]), *(one for one in found if np.isfinite(one))]
    low, high = float(min(ends)), float(max(ends))
    high = high if high > low else low + 1.0
    return (low, high) if mine[0][0].campaign.objective.sign > 0 else (high, low)


def _rounds(config: StudyConfig, names: Sequence[str]) -> dict[str, RoundConfig]:
    """Each arm as a round of its own."""
    known = load_config(config.round or preset("rounds/default.yaml"), RoundConfig)
    found = {}
    for name in names:
        told = config.arms[name]
        if told is None:
            arm, judge = pick_arms(known, [name], split=False).arms[name], known.judge
        else:
            arm = Arm(**told.model_dump(exclude={"judge"}, exclude_unset=True))
            judge = told.judge if "judge" in told.model_fields_set else known.judge
        found[name] = RoundConfig(arms={name: arm.whole}, judge=judge)
    return found


def _chosen(kind: str, names: Sequence[str] | None, there: list[str]) -> list[str]:
    if names is None:
        return there
    if strange := [name for name in names if name not in there]:
        raise ConfigError(f"{kind} {strange[0]!r} is not in the study; there are: {', '.join(there)}")
    return [name for name in there if name in names]


def _path(job: Job, out: Path) -> Path:
    return out / "jobs" / f"{job.key}.json"


def _keep(job: Job, outcome: Mapping[str, Any], out: Path | None) -> None:
    if out is not None and "error" not in outcome:
        told = {"job": job.label, **outcome}
        write_text(_path(job, out), json.dumps(_no_nan(told), allow_nan=False) + "\n")


def _no_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _no_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_no_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
