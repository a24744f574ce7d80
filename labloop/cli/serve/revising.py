"""A campaign's configuration on a page: shown as it stands, changed with a reason; no file of this computer is read."""

from __future__ import annotations

import io
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Form, HTTPException
from fastapi.requests import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from labloop.campaign.facade import Campaign
from labloop.cli.serve.actions import Person, Text
from labloop.cli.serve.desk import Desk, desk_of
from labloop.cli.serve.sessions import Session
from labloop.errors import CampaignError, LabloopError
from labloop.runtime.yamlfile import read_yaml

revising = APIRouter()

LARGEST = 200_000
"""Letters of a configuration that a page shows."""
_TABLES = ("descriptors", "smiles", "library")
"""Keys that may name a table beside a campaign's file."""
_PATHS = ("schedule", "history")
"""Keys that name files and folders, or other ledgers."""

Yaml = Annotated[str, Form(max_length=2 * LARGEST)]


@revising.get("/c/{name}/revise")
def show(request: Request, name: str) -> HTMLResponse:
    """Show the configuration as it stands."""
    if request.state.session is None:
        raise HTTPException(401, "Log in to change a campaign.")
    desk = desk_of(request)
    run = desk.campaign(name)
    return desk.page(request, "revise.html", run=run, text=written(run), changes=None, reason="", largest=LARGEST)


@revising.post("/c/{name}/revise")
def revise(
    request: Request, name: str, who: Person, text: Yaml = "", reason: Text = "", store: Annotated[bool, Form()] = False
) -> Response:  # fmt: skip
    """Tell what a changed configuration would change, or let it take the place of the old one."""
    desk = desk_of(request)
    if store and not reason.strip():
        raise CampaignError("a change needs a reason, which the ledger keeps")
    told = _revised(desk, name, who, text, reason, store=store)
    if not store:
        run = desk.campaign(name)
        return desk.page(request, "revise.html", run=run, text=text, changes=told, reason=reason, largest=LARGEST)
    desk.say(who, f"Changed: {'; '.join(told)}." if told else "Nothing changes: this is the configuration already.")
    return RedirectResponse(f"/c/{name}", 303)


def _revised(desk: Desk, name: str, who: Session, text: str, reason: str, *, store: bool) -> list[str]:
    held = desk.uploads.take(io.BytesIO(text.replace("\r\n", "\n").encode()), "configuration.yaml", campaign=name, session=who)
    try:
        _inside(desk.campaign(name), dict(read_yaml(held.path).values))
        with desk.writing(name, who) as run:
            return run.revise(held.path, reason=reason or "a look", dry_run=not store)
    except LabloopError as error:  # which names the file by where it lay
        raise CampaignError(str(error).replace(str(held.path), "your text").replace(held.path.name, "your text")) from error
    finally:
        desk.uploads.drop(held)


def _inside(run: Campaign, values: dict[str, Any]) -> None:
    """Refuse a text that names files of this computer, which no browser may read.

    Raises:
        CampaignError: with the key, and where to do it instead.
    """
    now = yaml.safe_load(written(run) or "{}")
    space = values.get("space")
    parts = [space, *(space.get("parameters") or [])] if isinstance(space, dict) else []
    for one in parts:
        for key in _TABLES:
            if isinstance(one, dict) and isinstance(one.get(key), str) and one[key] != "options":
                raise CampaignError(f"{key}: {one[key]} is a file on the computer that labloop runs on: use labloop revise there")
    for key in _PATHS:
        if values.get(key) != now.get(key):
            raise CampaignError(
                f"{key}: it names files and folders of the computer that labloop runs on: use labloop revise there"
            )


def written(run: Campaign) -> str:
    """Write the configuration as a person would, what is left to its default left out; '' where it is too long for a page."""
    told = _with_types(run.config.model_dump(mode="json", exclude_defaults=True), run.config.model_dump(mode="json"))
    text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=110)
    return text if len(text) <= LARGEST else ""


def _with_types(told: Any, whole: Any) -> Any:
    """Put back which kind each part is: a default that files have to say."""
    if isinstance(told, dict) and isinstance(whole, dict):
        kind = {key: whole[key] for key in ("schema_version", "type") if key in whole}
        return {**kind, **{key: _with_types(value, whole.get(key)) for key, value in told.items()}}
    if isinstance(told, list) and isinstance(whole, list) and len(told) == len(whole):
        return [_with_types(one, full) for one, full in zip(told, whole, strict=True)]
    return told
