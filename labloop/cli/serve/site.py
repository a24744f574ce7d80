"""The site: pages, forms and files of our own, behind the guard."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from labloop.cli.serve.actions import actions
from labloop.cli.serve.desk import Desk, desk_of
from labloop.cli.serve.guard import Guard
from labloop.cli.serve.methods import methods
from labloop.cli.serve.pages import grouped_faults, pages
from labloop.cli.serve.questions import questions
from labloop.cli.serve.revising import revising
from labloop.cli.serve.settings import Settings
from labloop.errors import DesignError, IngestError, LabloopError


def site(settings: Settings) -> FastAPI:
    """Make the site that is served."""
    desk = Desk(settings)

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(title="labloop", docs_url=None, redoc_url=None, openapi_url=None, lifespan=alive)
    app.state.desk = desk
    app.include_router(pages)
    app.include_router(actions)
    app.include_router(questions)
    app.include_router(methods)
    app.include_router(revising)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.add_exception_handler(LabloopError, _mendable)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_middleware(Guard, settings=settings, sessions=desk.sessions)
    return app


def _mendable(request: Request, error: Exception) -> Response:
    said = error.summary if isinstance(error, IngestError | DesignError) else str(error)
    return desk_of(request).page(request, "error.html", 409, said=said, faults=grouped_faults(error), back=_back(request))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {404: "There is no such page."}.get(error.status_code) if error.detail == "Not Found" else None
    page = desk_of(request).page(
        request, "error.html", error.status_code, said=told or str(error.detail), faults=(), back=_back(request)
    )
    page.headers.update(error.headers or {})
    return page


def _unreadable(request: Request, _: Exception) -> Response:
    said = "Something in this form or address is missing, too long or no number: go back and look at it."
    return desk_of(request).page(request, "error.html", 422, said=said, faults=(), back=_back(request))


def _back(request: Request) -> str:
    """Lead back to the campaign that it was about."""
    found = re.match(r"/c/[A-Za-z][A-Za-z0-9_-]{0,62}(?=/)", request.url.path)
    return found[0] if found else "/"
