"""The methods that there are, for somebody who wonders which to ask for: told by a process beside the pages, which loads them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.requests import Request
from fastapi.responses import HTMLResponse

from labloop.campaign.facade import Campaign
from labloop.cli.serve.desk import desk_of
from labloop.registry import Kind, available, describe

methods = APIRouter()
_KINDS: tuple[tuple[Kind, str], ...] = (
    ("proposers", "Proposers, which arms are made of"), ("surrogates", "Judges"), ("selectors", "Selectors"),
)  # fmt: skip


@methods.get("/c/{name}/methods")
def page(request: Request, name: str) -> HTMLResponse:
    """List the methods, as `labloop methods` does."""
    desk = desk_of(request)
    run = desk.campaign(name)
    told = desk.ask(run, "methods", listed, apart=True, verbs=("campaign",)).answer()
    return desk.page(request, "methods.html", run=run, told=told, refresh=None if told.fresh else 2)


def listed(_: Campaign) -> list[tuple[str, list[dict[str, Any]]]]:
    """Describe every method, by what it is for, relatives together."""
    found = []
    for kind, title in _KINDS:
        every = sorted((describe(kind, one) for one in available(kind)), key=lambda one: (one["family"], one["name"]))
        rows = [{key: one[key] for key in ("name", "family", "summary", "source", "cost", "kinds")} for one in every]
        found.append((title, rows))
    return found
