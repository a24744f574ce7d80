"""What the judge and the past are asked from a page; each question is one command, and nothing in the ledger changes."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, UploadFile
from fastapi.requests import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from labloop.assays.ingest.designs import read_designs
from labloop.campaign.facade import Campaign
from labloop.cli.serve.actions import Person, Text
from labloop.cli.serve.desk import desk_of
from labloop.cli.serve.sessions import clean
from labloop.cli.show import design_cells
from labloop.compare.results import spell
from labloop.errors import CampaignError
from labloop.rounds import state

questions = APIRouter()

SHOWN = 200
"""Designs that a page shows; the file has all."""
_CSV = ".csv"


@questions.get("/c/{name}/ask")
def ask(request: Request, name: str) -> HTMLResponse:
    """Show what can be asked, and what was answered last."""
    desk = desk_of(request)
    run, session = desk.campaign(name), request.state.session
    found = desk.jobs.of(name, "predict", session.key) if session is not None else None
    judge, tried = desk.jobs.of(name, "why"), desk.jobs.of(name, "backtest")
    busy = any(one is not None and one.running for one in (found, judge, tried))
    answer, looked = (None if one is None else one.answer for one in (found, judge))
    return desk.page(
        request, "ask.html", run=run, found=found, judge=judge, tried=tried, rows=_rows(run, answer),
        designs=len(answer["designs"]) if answer else 0, shown=SHOWN, factors=_factors(looked), effects=_effects(looked),
        refresh=2 if busy else None,
    )  # fmt: skip


@questions.post("/c/{name}/ask/predict")
def predict(request: Request, name: str, who: Person, file: UploadFile) -> Response:
    """Ask the judge about the designs of a file."""
    desk = desk_of(request)
    run = desk.campaign(name)
    held = desk.uploads.take(file.file, file.filename, campaign=name, session=who)
    try:
        read_designs(held.path, run.config, known=state.designs(run), name=held.name)  # faults are told at once, cell by cell
        desk.jobs.ask(
            (name, "predict", who.key), ["predict", name, str(held.path), "--out", str(held.path.with_suffix(_CSV))],
            what="predicts designs", by=who.name, subject=held.name,
        )  # fmt: skip
    except BaseException:
        desk.uploads.drop(held)
        raise
    if (old := desk.uploads.asked.get((name, who.key))) is not None:
        desk.uploads.drop(old)
    desk.uploads.asked[name, who.key] = held
    return RedirectResponse(f"/c/{name}/ask#predict", 303)


@questions.get("/c/{name}/ask/predictions.csv")
def predictions(request: Request, name: str) -> Response:
    """Give what the judge said of a person's designs, all of it."""
    desk, session = desk_of(request), request.state.session
    desk.campaign(name)
    held = desk.uploads.asked.get((name, session.key)) if session is not None else None
    made = held.path.with_suffix(_CSV) if held is not None else None
    if made is None or not made.is_file():
        raise HTTPException(404, "These predictions are not here any more: ask again.")
    told = {"Content-Disposition": f'attachment; filename="{name}-predictions.csv"'}
    return Response(made.read_bytes(), media_type="text/csv; charset=utf-8", headers=told)


@questions.post("/c/{name}/ask/why")
def why(request: Request, name: str, who: Person) -> Response:
    """Ask what the judge looks at, and whether it can be trusted."""
    desk = desk_of(request)
    desk.campaign(name)
    desk.jobs.ask((name, "why"), ["why", name], what="looks into the judge", by=who.name)
    return RedirectResponse(f"/c/{name}/ask#why", 303)


@questions.post("/c/{name}/ask/backtest")
def backtest(
    request: Request, name: str, who: Person, arms: Text = "", replay: Annotated[bool, Form()] = False
) -> Response:  # fmt: skip
    """Try arms on what is measured."""
    desk = desk_of(request)
    desk.campaign(name)
    told = ",".join(one for one in (clean(one) for one in arms.split(",")) if one)
    if told.startswith("-"):
        raise CampaignError(f"{told} is no name of an arm: write names such as bo, random")
    command = ["backtest", name, *(["--arms", told] if told else []), *(["--replay"] if replay else [])]
    desk.jobs.ask((name, "backtest"), command, what="tries arms on what is measured", by=who.name, subject=told)
    return RedirectResponse(f"/c/{name}/ask#backtest", 303)


def _rows(run: Campaign, answer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What a page shows of predictions, the best first; those that are not allowed come last."""
    if answer is None:
        return []
    designs = sorted(answer["designs"], key=lambda one: (one["rank"] is None, one["rank"] or 0))[:SHOWN]
    several = len(answer["units"]) > 1 or "predicted" not in answer["units"]
    known = {"predicted": run.config.objective} if run.config.goal is None else run.config.goal.properties
    rows = []
    for one in designs:
        cells = design_cells(one, run.config.space.columns)
        said = []
        for name, unit in answer["units"].items():
            low, high = (one[f"{name}_{end}" if several else end] for end in ("low", "high"))
            even = known[name].transform == "identity"  # under a logarithm each end has digits of its own
            scale = (high - low) / 4 if even and low is not None and high is not None and high > low else None
            value, ends = _spelled(one[name], scale), f"{_spelled(low, scale)} to {_spelled(high, scale)}"
            value, ends = (f"{value} {unit}".rstrip(), ends) if one[name] is not None else ("–", "–")
            said.append({"name": name if several else "", "value": value, "ends": ends})
        near = one["nearest_value"]
        rows.append({
            "rank": one["rank"], "row": one["row"], "cells": cells, "said": said, "refused": one["refused_by"],
            "known": one["known"],
            "near": f"{one['nearest_distance']:.3g} away, {_spelled(near, None)}" if near is not None else "–",
        })  # fmt: skip
    return rows


def _spelled(value: float | None, scale: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else spell(value, abs(value) if scale is None else scale, digits=3)


def _factors(answer: dict[str, Any] | None) -> list[dict[str, Any]]:
    return answer["factors"][:20] if answer else []


def _effects(answer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The levels of the factors that matter most, a factor a row: the best and the worst."""
    ahead = [one["name"] for one in _factors(answer)[:8]]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ahead}
    for one in answer["effects"] if answer else ():
        if one["factor"] in found:
            found[one["factor"]].append(one)
    return [
        {"factor": name, "levels": [f"{one['level']}: {spell(one['value'], abs(one['value']), digits=3)}" for one in levels]}
        for name, levels in found.items() if levels
    ]  # fmt: skip
