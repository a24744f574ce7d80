"""What changes something: each form calls one verb of the campaign, in the name of the person who is logged in."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, UploadFile
from fastapi.requests import Request
from fastapi.responses import RedirectResponse, Response

from labloop.campaign import step as steps
from labloop.cli.serve.desk import Desk, desk_of
from labloop.cli.serve.pages import PRESETS, wished
from labloop.cli.serve.sessions import COOKIE, HOURS, KNOCK, Session, TooMany, clean
from labloop.cli.serve.uploads import Upload
from labloop.config.read import preset
from labloop.errors import CampaignError
from labloop.runtime.prefect_api import Server, wake

actions = APIRouter()

Text = Annotated[str, Form(max_length=2000)]


def person(request: Request, csrf: Annotated[str, Form()] = "") -> Session:
    """Give who is logged in, where the form is one of theirs.

    Raises:
        HTTPException: nobody is, or the form was not made by this page for this person.
    """
    session: Session | None = request.state.session
    if session is None:
        raise HTTPException(401, "Log in first: nothing was done.")
    if not desk_of(request).sessions.sealed(session.key, csrf):
        raise HTTPException(403, "This form does not come from this page: open it again. Nothing was done.")
    return session


Person = Annotated[Session, Depends(person)]

# ---- login


@actions.get("/login")
def login_page(request: Request, next: str = "/") -> Response:
    """Show the login."""
    return _login(request, next)


@actions.post("/login")
def login(
    request: Request,
    name: Annotated[str, Form(max_length=200)] = "",
    token: Annotated[str, Form(max_length=1000)] = "",
    csrf: Annotated[str, Form()] = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Begin a session; what the ledger then notes bears the name."""
    desk, who = desk_of(request), clean(name)
    if not desk.sessions.sealed(request.cookies.get(KNOCK, ""), csrf):
        return _login(request, next, "This form had grown old: try again.", 403)
    if not who:
        return _login(request, next, "Say who you are: the ledger notes it.", 400)
    try:
        session = desk.sessions.login(who, token)
    except TooMany:
        return _login(request, next, "Too many wrong tokens: wait a minute.", 429)
    if session is None:
        return _login(request, next, "That is not the token that labloop serve printed.", 403)
    answer = RedirectResponse(_inside(next), 303)
    _set(desk, answer, COOKIE, session.key, int(HOURS * 3600))
    answer.delete_cookie(KNOCK)
    return answer


@actions.post("/logout")
def logout(request: Request, who: Person) -> Response:
    """End a session."""
    desk_of(request).sessions.logout(who.key)
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _login(request: Request, next: str, said: str = "", status: int = 200) -> Response:
    desk, knock = desk_of(request), secrets.token_urlsafe(24)
    page = desk.page(request, "login.html", status, next=_inside(next), said=said, seal=desk.sessions.seal(knock))
    _set(desk, page, KNOCK, knock, 1800)
    return page


def _set(desk: Desk, answer: Response, cookie: str, value: str, seconds: int) -> None:
    answer.set_cookie(cookie, value, max_age=seconds, httponly=True, samesite="strict", secure=desk.settings.secure)


def _inside(path: str) -> str:
    """Keep a way back on this page: no other site, however it is written."""
    return path if path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path else "/"


# ---- the plate


@actions.post("/c/{name}/approve")
def approve(request: Request, name: str, who: Person, reason: Text = "") -> Response:
    """Say yes to a plate, and let its files be written."""
    desk = desk_of(request)
    with desk.writing(name, who) as run:
        number = run.approve(by=who.name, reason=reason)
    desk.say(who, f"Round {number} is approved. {_onwards(desk, name, who, f'approved-{number}')}")
    return RedirectResponse(f"/c/{name}", 303)


@actions.post("/c/{name}/reject")
def reject(request: Request, name: str, who: Person, reason: Text = "") -> Response:
    """Say no to a plate."""
    desk = desk_of(request)
    with desk.writing(name, who) as run:
        number = run.reject(by=who.name, reason=reason)
    desk.say(who, f"Round {number} is rejected. {wake(name, f'rejected-{number}')}")
    return RedirectResponse(f"/c/{name}", 303)


@actions.post("/c/{name}/veto")
def veto(request: Request, name: str, who: Person, well: Text, reason: Text = "") -> Response:
    """Take a well out of a plate."""
    desk = desk_of(request)
    with desk.writing(name, who) as run:
        told = run.veto(well, by=who.name, reason=reason)
    desk.say(who, f"{told.said}.")
    return RedirectResponse(f"/c/{name}/round/{told.round}", 303)


@actions.post("/c/{name}/close")
def close(request: Request, name: str, who: Person, reason: Text = "") -> Response:
    """Close a round."""
    desk = desk_of(request)
    with desk.writing(name, who) as run:
        number = run.round().number
        told = run.close(number, reason=reason.strip() or None)
    desk.say(who, f"Round {number} is closed. {told.sentence if told is not None else ''}")
    return RedirectResponse(f"/c/{name}/round/{number}", 303)


@actions.post("/c/{name}/go")
def go(request: Request, name: str, who: Person, now: Annotated[bool, Form()] = False) -> Response:
    """Do what the campaign needs next until somebody is waited for; `now` opens the next round without waiting."""
    desk = desk_of(request)
    desk.campaign(name)
    what = "opens the next round" if now else "does what comes next"
    desk.jobs.start(name, ["step", name, "--until", "waiting", *(["--now"] if now else [])], what=what, by=who.name)
    return RedirectResponse(f"/c/{name}/job", 303)


@actions.post("/c/{name}/propose")
def propose(request: Request, name: str, who: Person, round: Text = "quick") -> Response:
    """Open a round of a campaign without a schedule, train, choose the wells and write the files."""
    desk = desk_of(request)
    if round not in PRESETS:
        raise HTTPException(422, f"There is no round {clean(round)}: take {', '.join(PRESETS)}.")
    run = desk.campaign(name)
    command = ["propose", name, str(preset(f"rounds/{round}.yaml")), "--out", str(steps.plates_of(run))]
    desk.jobs.start(name, command, what=f"proposes a plate ({round})", by=who.name)
    return RedirectResponse(f"/c/{name}/job", 303)


@actions.post("/c/{name}/pick")
def pick(
    request: Request, name: str, who: Person, file: UploadFile, arm: Text, wells: Annotated[str, Form(max_length=6)] = ""
) -> Response:  # fmt: skip
    """Let designs of a person's own become an arm of the next plate."""
    if wells.strip() and not wells.strip().isdecimal():
        raise CampaignError(f"{clean(wells)!r} is no number of wells: leave it empty for an equal share")
    desk = desk_of(request)
    held = desk.uploads.take(file.file, file.filename, campaign=name, session=who)
    try:
        with desk.writing(name, who) as run:
            told = run.pick(held.path, arm=arm.strip(), by=who.name, wells=int(wells) if wells.strip() else None, name=held.name)
    finally:
        desk.uploads.drop(held)
    desk.say(who, f"{told.said}.")
    return RedirectResponse(f"/c/{name}", 303)


# ---- results


@actions.post("/c/{name}/file")
def drop(request: Request, name: str, who: Person, file: UploadFile, assay: Text = "") -> Response:
    """Take a file to be looked at; nothing is stored yet."""
    desk = desk_of(request)
    desk.campaign(name)
    held = desk.uploads.take(file.file, file.filename, campaign=name, session=who)
    desk.uploads.wish(held, {"assay": assay} if assay else {})
    return RedirectResponse(f"/c/{name}/file/{held.key}", 303)


@actions.post("/c/{name}/file/{key}/look")
def look(
    request: Request, name: str, key: str, who: Person,
    assay: Text = "", read: Text = "", plate: Text = "", reader: Text = "", again: Text = "",
) -> Response:  # fmt: skip
    """Look at a file again, with what a person says of it."""
    desk, held = _held(request, name, key, who)
    wish = {"assay": assay, "read": read, "plate": plate, "reader": reader, "again": again}
    desk.uploads.wish(held, {name: text.strip() for name, text in wish.items() if text.strip()})
    return RedirectResponse(f"/c/{name}/file/{key}", 303)


@actions.post("/c/{name}/file/{key}/store")
def store(request: Request, name: str, key: str, who: Person) -> Response:
    """Take a file that was looked at into the ledger."""
    desk, held = _held(request, name, key, who)
    wish = dict(held.wish)
    with desk.writing(name, who) as run:
        told = run.ingest(held.path, name=held.name, again="again" in wish, **wished(wish))
        scheduled = run.config.schedule is not None
    desk.uploads.drop(held)
    woken = wake(name, told.sha256) if scheduled else ""
    desk.say(who, f"{f'Stored. {told.counted}.' if told.stored else told.note} {woken}".strip())
    return RedirectResponse(f"/c/{name}", 303)


@actions.post("/c/{name}/file/{key}/correct")
def correct(request: Request, name: str, key: str, who: Person, reason: Text = "") -> Response:
    """Let a file's readings take the place of those that stand."""
    desk, held = _held(request, name, key, who)
    if not reason.strip():
        raise CampaignError("a correction needs a reason, which the ledger keeps")
    with desk.writing(name, who) as run:
        told = run.correct(held.path, name=held.name, reason=reason, **wished(dict(held.wish)))
    desk.uploads.drop(held)
    desk.say(who, f"{held.name} corrects {len(told.changes)} readings; {told.equal} rows said what stood already.")
    return RedirectResponse(f"/c/{name}", 303)


@actions.post("/c/{name}/file/{key}/drop")
def forget(request: Request, name: str, key: str, who: Person) -> Response:
    """Throw a file away that was not stored."""
    desk, held = _held(request, name, key, who)
    desk.uploads.drop(held)
    return RedirectResponse(f"/c/{name}", 303)


def _held(request: Request, name: str, key: str, who: Session) -> tuple[Desk, Upload]:
    desk = desk_of(request)
    held = desk.uploads.get(key, campaign=name, session=who)
    if held is None:
        raise HTTPException(404, "This file is not here any more: drop it again.")
    return desk, held


def _onwards(desk: Desk, name: str, who: Session, key: str) -> str:
    """Let the scheduler go on, or where there is none go on here."""
    if Server.configured() is not None:
        return wake(name, key)
    try:
        desk.jobs.start(name, ["step", name, "--until", "waiting"], what="writes the plate's files", by=who.name)
    except CampaignError as error:  # the word that was given holds all the same
        return f"{error}."
    return "Its files are being written."
