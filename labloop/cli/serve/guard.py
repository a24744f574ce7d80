"""What every request passes before its body is read: the name it came by, where it comes from, who sends it, and how much."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import HTTPException
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labloop.cli.serve.sessions import COOKIE, Sessions
from labloop.cli.serve.settings import Settings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""What a browser may load for a page: our own files, and nothing that stands in the page itself."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_OPEN = ("/login", "/static/")
"""What is there for whoever is not logged in, also where reading needs a login."""
_DIGITS = 18
_SMALL = 64 << 10
"""Bytes of a request by somebody who is not logged in."""


class Guard:
    """The outermost layer of the site."""

    def __init__(self, app: ASGIApp, settings: Settings, sessions: Sessions) -> None:
        self.app, self.settings, self.sessions = app, settings, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        session = self.sessions.get(HTTPConnection(scope).cookies.get(COOKIE))
        scope.setdefault("state", {})["session"] = session
        largest = self.settings.largest if session is not None else _SMALL
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers, session is not None, largest)
        if refusal is not None:
            await refusal(scope, receive, self._dressed(send))
            return
        await self.app(scope, _counted(receive, largest), self._dressed(send))

    def _refusal(self, scope: Scope, headers: Headers, known: bool, largest: int) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self.settings.hosts:
            return _no(421, "This page is not served under that name; whoever serves it adds it with --name.")
        path = str(scope["path"])
        is_open = path == _OPEN[0] or path.startswith(_OPEN[1])
        if scope["method"] not in ("GET", "HEAD"):
            origins = headers.getlist("origin")
            inside = origins == [] and headers.get("sec-fetch-site") == "same-origin"
            if not inside and (len(origins) != 1 or origins[0].lower() not in self.settings.origins):
                return _no(403, "This form does not come from this page.")
            if not known and not is_open:
                return _no(401, "Log in first: nothing was done.")
        elif self.settings.private and not known and not is_open:
            return RedirectResponse(f"/login?next={quote(path, safe='/')}", 303)
        told = headers.get("content-length", "0")
        if not told.isdecimal() or len(told) > _DIGITS or int(told) > largest:
            return _no(413, too_much(largest))
        return None

    def _dressed(self, send: Send) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self.settings.secure:
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        return dressed


def too_much(largest: int) -> str:
    """Say that a request is larger than what is taken."""
    size = f"{largest >> 20} MB" if largest >= 1 << 20 else f"{largest >> 10} kB"
    return f"That is more than the {size} that one request may have: nothing was stored. Use labloop ingest for larger files."


def _counted(receive: Receive, largest: int) -> Receive:
    """Hand on a request's body until it is too large, whatever its header said."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > largest:
            raise HTTPException(413, too_much(largest))
        return message

    return counted


def _no(status: int, said: str) -> Response:
    return PlainTextResponse(said + "\n", status, headers={"Connection": "close"})
