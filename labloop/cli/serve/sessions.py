"""Who is logged in: sessions in memory, the token held against, and a key in every form that only this page can have written."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
import unicodedata
from collections import OrderedDict, deque
from dataclasses import dataclass

COOKIE = "labloop-session"
KNOCK = "labloop-login"
"""The cookie of the login's own form, before there is a session."""
HOURS = 12.0
_MOST = 500
_WRONG = 10
"""Wrong tokens a minute, after which nobody may try until it is over."""


@dataclass(frozen=True)
class Session:
    """A person who is logged in."""

    key: str
    name: str
    until: float


class TooMany(Exception):
    """Too many wrong tokens within a minute."""


class Sessions:
    """The sessions of one run; they end with it."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._secret = secrets.token_bytes(32)
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._wrong: deque[float] = deque()
        self._lock = threading.Lock()

    def login(self, name: str, token: str) -> Session | None:
        """Begin a session; None where the token is another one.

        Raises:
            TooMany: it was tried too often.
        """
        now = time.monotonic()
        with self._lock:
            while self._wrong and self._wrong[0] < now - 60:
                self._wrong.popleft()
            if len(self._wrong) >= _WRONG:
                raise TooMany
            if not hmac.compare_digest(token.encode(errors="replace"), self._token):
                self._wrong.append(now)
                return None
            session = Session(secrets.token_urlsafe(32), name, now + HOURS * 3600)
            self._open[session.key] = session
            while len(self._open) > _MOST:
                self._open.popitem(last=False)
            return session

    def get(self, key: str | None) -> Session | None:
        """Find the session of a cookie; None where there is none, or it has ended."""
        with self._lock:
            session = self._open.get(key or "")
            if session is not None and session.until < time.monotonic():
                del self._open[session.key]
                return None
            return session

    def logout(self, key: str) -> None:
        """End a session."""
        with self._lock:
            self._open.pop(key, None)

    def seal(self, key: str) -> str:
        """Make the key that stands in every form of a session (or of a login's cookie)."""
        return hmac.new(self._secret, key.encode(), hashlib.sha256).hexdigest()

    def sealed(self, key: str, told: str) -> bool:
        """Say whether a form's key is this session's."""
        return hmac.compare_digest(self.seal(key).encode(), told.encode(errors="replace"))


def clean(text: str, longest: int = 60) -> str:
    """Make one line of what a browser sent, to be shown and stored: no control characters and none that turn text around."""
    line = "".join(one if unicodedata.category(one)[0] not in "CZ" or one == " " else " " for one in text)
    return " ".join(line.split())[:longest].strip()


def file_name(told: str) -> str:
    """Give the name of a file for people to see; no path, and never used as one."""
    return clean(told.replace("\\", "/").rpartition("/")[2], 120).lstrip(".") or "file"
