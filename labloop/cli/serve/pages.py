"""What may be read: campaigns, plates, files to take to the lab, the report, the plan and the schedule."""

from __future__ import annotations

import time
from functools import partial
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException
from fastapi.requests import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from labloop.campaign import step as steps
from labloop.campaign.approval import verdict_of
from labloop.campaign.facade import Campaign
from labloop.campaign.overview import waiting
from labloop.cli.serve import plate
from labloop.cli.serve.desk import LAID_OUT, Desk, Opened, desk_of
from labloop.cli.serve.patient import PATIENCE, Answer, Asked
from labloop.errors import DesignError, FaultGroup, IngestError, LabloopError, grouped
from labloop.ledger.rounds import Round
from labloop.ledger.states import RoundState
from labloop.plates.batch import render
from labloop.registry import available
from labloop.rounds.exports import exported
from labloop.rounds.outlook import Outlook
from labloop.runtime.prefect_api import Server

pages = APIRouter()
_SHEETS = (RoundState.EXPORTED, RoundState.MEASURED, RoundState.CLOSED)
_SANDBOX = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'unsafe-inline'"
"""For the report, whose own policy allows no script but its own: whatever happened in it, it could not act as who reads it."""


@pages.get("/")
def index(request: Request) -> HTMLResponse:
    """List the campaigns and whom each waits for."""
    desk, end = desk_of(request), time.monotonic() + PATIENCE
    runs = desk.campaigns()
    asked = [_ask_stand(desk, run) for run in runs]  # all, before any is waited for
    rows = [{"name": run.name, **_stand(one.answer(end - time.monotonic()))} for run, one in zip(runs, asked, strict=True)]
    return desk.page(request, "index.html", campaigns=rows, refresh=2 if any(not one["known"] for one in rows) else None)


@pages.get("/schedule")
def schedule(request: Request) -> HTMLResponse:
    """Show what is planned and what waits for whom, with what the Prefect server says."""
    desk = desk_of(request)
    told = desk.overview()
    return desk.page(request, "schedule.html", told=told.value, refresh=None if told.fresh else 2)


@pages.get("/c/{name}")
def campaign(request: Request, name: str) -> HTMLResponse:
    """Show a campaign: what it waits for, its rounds, and all that can be done now."""
    desk, end = desk_of(request), time.monotonic() + PATIENCE
    run = desk.campaign(name)
    rounds = run.ledger.rounds(name)
    last = rounds[-1] if rounds else None
    stage = last.state if last is not None else None
    measured = any(one.state in (RoundState.MEASURED, RoundState.CLOSED) for one in rounds)
    asked = _ask_stand(desk, run), desk.ask(run, "status", Campaign.status)
    more = desk.ask(run, "verdict", _verdict) if measured else None, desk.ask(run, "plan", _plan)
    stand, status = _stand(asked[0].answer(end - time.monotonic())), asked[1].answer(end - time.monotonic())
    verdict, gain = (None if one is None else one.answer(0.01) for one in more)
    assert gain is not None
    server = Server.configured()
    job = desk.jobs.of(name)
    busy = job is not None and job.running
    waits = not (status.fresh and stand["known"] and gain.fresh and (verdict is None or verdict.fresh))
    return desk.page(
        request, "campaign.html", run=run, rounds=rounds, last=last, status=status, verdict=verdict,
        proposed=stage == RoundState.PROPOSED, at_lab=stage == RoundState.EXPORTED,
        asked=verdict_of(run, last.number)[0] if last is not None else "", job=job, stand=stand,
        gain=gain,
        may_open=stage in (None, RoundState.CLOSED),
        scheduled=run.config.schedule is not None,
        prefect=server.page_of(name) if server is not None and run.config.schedule is not None else "",
        presets=PRESETS, assays=list(run.config.assays),
        refresh=3 if busy else 2 if waits else None,
    )  # fmt: skip


PRESETS = {
    "quick": "quick: a proposer of each kind, a minute", "default": "default: all arms in full, many minutes",
    "small": "small: full methods for a small plate", "first": "first: random designs, before anything is measured",
}  # fmt: skip
"""Shipped rounds that a campaign without a schedule may open from the page."""


@pages.get("/c/{name}/round/{number}")
def round_page(
    request: Request, name: str, number: int, well: str | None = None, arms: bool = False, why: bool = False
) -> HTMLResponse:
    """Show a round's plates, and the well that was touched."""
    desk, end = desk_of(request), time.monotonic() + PATIENCE
    run = desk.campaign(name)
    entry = _round(run, number)
    blind = plate.is_blinded(entry.state) and not (arms and request.state.session is not None)
    hidden = _hidden(request, entry)
    measured = entry.state in (RoundState.MEASURED, RoundState.CLOSED)
    asked = {
        "readings": desk.ask(run, f"readings {number}", plate.readings_of, number, heavy=False),
        "files": desk.ask(
            run, f"files {number}", partial(_file_names, desk), entry, hidden, key=(hidden, entry.state), heavy=False,
            verbs=LAID_OUT,
        ),
        "compared": desk.ask(run, f"compare {number}", _compared, number) if measured else None,
    }  # fmt: skip
    chosen = None
    if well is not None and run.ledger.wells(name, number)["plate"].eq(well.rpartition(":")[0]).any():
        chosen = plate.well_of(desk.batch(run, number), well, blind=blind)
    if chosen is not None:
        asked["story"] = desk.ask(run, f"story {well}", plate.story_of, well, blind, key=(blind,), heavy=False)
        asked["reason"] = desk.ask(run, f"why {well}", _why, well) if why and not blind else None
    told = {what: None if one is None else one.answer(end - time.monotonic()) for what, one in asked.items()}
    found = told["readings"] or Answer()
    readings = found.value or {}
    return desk.page(
        request, "round.html", run=run, entry=entry, blind=blind, arms=arms, well=well, chosen=chosen,
        readings=readings.get(tuple((well or "").rpartition(":")[::2]), []), compared=told["compared"],
        reason=told.get("reason"), story=told.get("story"), counted=found.fresh, arms_hidden=plate.is_blinded(entry.state),
        plates=plate.plates_of(run, number, readings, well),
        files=told["files"],
        refresh=None if all(one is None or one.fresh for one in told.values()) else 2,
        may_veto=entry.state == RoundState.PROPOSED,
    )  # fmt: skip


@pages.get("/c/{name}/round/{number}/files/{file}")
def file(request: Request, name: str, number: int, file: str) -> Response:
    """Give a file of a plate: made from the ledger, never read from a disk."""
    desk = desk_of(request)
    run = desk.campaign(name)
    entry = _round(run, number)
    found = _files(desk, run, entry, _hidden(request, entry))
    if file not in found:
        raise HTTPException(404, "There is no such file, or its plate is not written for the lab yet.")
    kind = "text/csv; charset=utf-8" if file.endswith(".csv") else "application/octet-stream"
    return Response(found[file], media_type=kind, headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file)}"})


@pages.get("/c/{name}/report")
def report(request: Request, name: str) -> Response:
    """Show the report as of now."""
    desk = desk_of(request)
    run = desk.campaign(name)
    if request.state.session is None and any(plate.is_blinded(one.state) for one in run.ledger.rounds(name)):
        return RedirectResponse(f"/login?next={quote(request.url.path)}", 303)  # it tells arms apart
    drawn = desk.ask(run, "report", _report).answer()
    if not drawn.fresh or drawn.error:
        return desk.page(request, "drawing.html", run=run, drawn=drawn, refresh=None if drawn.fresh else 2)
    return HTMLResponse(drawn.value, headers={"Content-Security-Policy": _SANDBOX})


@pages.get("/c/{name}/plan")
def plan(request: Request, name: str) -> HTMLResponse:
    """Show what the next plate can show and gain."""
    desk = desk_of(request)
    run = desk.campaign(name)
    told = desk.ask(run, "plan", _plan).answer()
    return desk.page(request, "plan.html", run=run, told=told, refresh=None if told.fresh else 2)


@pages.get("/c/{name}/job")
def job(request: Request, name: str) -> HTMLResponse:
    """Show how the work stands that was started from here."""
    desk = desk_of(request)
    run = desk.campaign(name)
    told = desk.jobs.of(name)
    return desk.page(request, "job.html", run=run, job=told, refresh=2 if told is not None and told.running else None)


@pages.get("/c/{name}/file/{key}")
def upload(request: Request, name: str, key: str) -> HTMLResponse:
    """Show how a file that was dropped here is understood, before anything is stored."""
    desk = desk_of(request)
    session = request.state.session
    if session is None:
        raise HTTPException(401, "Log in to see a file that you dropped.")
    held = desk.uploads.get(key, campaign=name, session=session)
    if held is None:
        raise HTTPException(404, "This file is not here any more: drop it again.")
    run = desk.campaign(name)
    wish = dict(held.wish)
    told = run.explain(held.path, name=held.name, **wished(wish))
    counts = None
    if told.refusal is None:
        try:
            counts = run.ingest(held.path, name=held.name, dry_run=True, again="again" in wish, **wished(wish))
        except LabloopError as error:
            return desk.page(request, "error.html", 409, said=str(error), faults=(), back=f"/c/{name}")
    return desk.page(
        request, "upload.html", run=run, held=held, told=told, wish=wish, counts=counts, readers=available("readers"),
        assays=list(run.config.assays), faults=grouped_faults(told.refusal),
    )  # fmt: skip


def wished(wish: dict[str, str]) -> dict[str, Any]:
    """Turn what a person said of a file into what the verbs take."""
    told: dict[str, Any] = {key: wish[key] for key in ("assay", "read", "reader") if wish.get(key)}
    return told | ({"plates": tuple(one.strip() for one in wish["plate"].split(","))} if wish.get("plate") else {})


def grouped_faults(error: Exception | None) -> list[FaultGroup]:
    """Give the faults of a refused table, equal ones together; none where it has none."""
    return grouped(error.faults) if isinstance(error, IngestError | DesignError) else []


def _ask_stand(desk: Desk, run: Opened) -> Asked:
    """Ask whom a campaign waits for."""
    inbox = steps.inbox_of(run)
    seen = inbox.stat().st_mtime_ns if inbox.is_dir() else 0
    job = desk.jobs.of(run.name)
    depends = (seen, job is not None and job.running)
    moment = int(time.time() // 30)  # deadlines pass, files settle
    return desk.ask(run, "waiting", waiting, key=depends, moment=moment, heavy=False)


def _stand(answer: Answer) -> dict[str, Any]:
    """Tell whom a campaign waits for; nothing where the answer is not there in time."""
    none = dict.fromkeys(("round", "state", "since", "waits_for", "what", "until", "overdue"))
    value = answer.value if answer.fresh else None  # an older one would offer what is done already
    return {**none, **(value or {}), "known": answer.fresh}


def _hidden(request: Request, entry: Round) -> bool:
    """Say whether this reader may not learn yet which arm wanted a well."""
    return plate.is_blinded(entry.state) and request.state.session is None


def _round(run: Campaign, number: int) -> Round:
    found = [one for one in run.ledger.rounds(run.name) if one.number == number]
    if not found:
        raise HTTPException(404, f"{run.name} has no round {number}.")
    return found[0]


def _files(desk: Desk, run: Opened, entry: Round, blind: bool) -> dict[str, bytes]:
    """Make the files of a plate that was written for the lab, without the pick list where arms may not be told apart."""
    if entry.state not in _SHEETS or not len(run.ledger.wells(run.name, entry.number)):
        return {}
    batch = desk.batch(run, entry.number)
    made = render(batch, exported(batch, run.config, run.config.plate.exports))
    return {name: content for name, content in made.items() if not (blind and name.endswith("_picks.csv"))}


def _file_names(desk: Desk, run: Opened, entry: Round, blind: bool) -> list[str]:
    return list(_files(desk, run, entry, blind))


def _plan(run: Campaign) -> Outlook:
    """Look ahead to the next plate, with the round's file that the schedule has for it."""
    done = sum(one.state == RoundState.CLOSED for one in run.ledger.rounds(run.name))
    return run.plan(steps.schedule_of(run).round(done))


def _verdict(run: Campaign) -> str:
    return run.compare("all").sentence


def _why(run: Campaign, well: str) -> str:
    return run.why(well).said


def _compared(run: Campaign, number: int) -> dict[str, Any]:
    told = run.compare(number)
    return {
        "sentence": told.sentence,
        "arms": [
            {"arm": one.arm, "wells": one.n_wells, "measured": one.n_measured, "mean": one.mean_value, "best": one.best_value}
            for one in told.arms
        ],
        "unit": told.objective.unit,
    }  # fmt: skip


def _report(run: Campaign) -> str:
    from labloop.report import report_of

    try:
        from labloop.report.page import render as draw
    except ModuleNotFoundError as error:
        raise LabloopError(f"a report needs the package {error.name!r}: pip install 'labloop-toolkit[report]'") from error
    return draw(report_of(run))
