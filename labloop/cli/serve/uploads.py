"""Files that browsers sent, until a person has looked at them; under names of our own, in a folder that only we read."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from labloop.cli.serve.sessions import Session, file_name

_MOST = 40
_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that waits for a person's word."""

    key: str
    path: Path
    name: str
    """What it was called, for people."""
    size: int
    campaign: str
    session: str
    at: float
    wish: Mapping[str, str] = field(default_factory=dict)
    """What the person said of it: assay, read, plate, reader, again."""


class Uploads:
    """The files of one run; what nobody comes back to goes after an hour, and all at the end."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="labloop-serve-"))  # readable by this user alone
        self._held: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()
        self.asked: dict[tuple[str, str], Upload] = {}
        """By campaign and session, the designs that a person asked about last."""

    def take(self, file: BinaryIO, name: str | None, *, campaign: str, session: Session) -> Upload:
        """Keep what a browser sent."""
        key = secrets.token_urlsafe(18)
        path = self._folder / secrets.token_hex(16)
        with path.open("xb") as kept:
            shutil.copyfileobj(file, kept, 1 << 20)
            size = kept.tell()
        told = Upload(
            key=key, path=path, name=file_name(name or ""), size=size, campaign=campaign, session=session.key, at=time.monotonic()
        )
        with self._lock:
            self._held[key] = told
            old = [one for one in self._held.values() if one.at < told.at - _SECONDS]
            gone = [*old, *list(self._held.values())[: max(0, len(self._held) - _MOST)]]
        for one in gone:
            self.drop(one)
        return told

    def get(self, key: str, *, campaign: str, session: Session) -> Upload | None:
        """Find a file of this person and campaign."""
        with self._lock:
            found = self._held.get(key)
        return found if found is not None and (found.campaign, found.session) == (campaign, session.key) else None

    def wish(self, upload: Upload, wish: Mapping[str, str]) -> None:
        """Note what the person said of it."""
        with self._lock:
            if upload.key in self._held:
                self._held[upload.key] = replace(upload, wish=wish)

    def drop(self, upload: Upload) -> None:
        """Forget a file."""
        with self._lock:
            self._held.pop(upload.key, None)
            for at in [at for at, one in self.asked.items() if one.key == upload.key]:
                del self.asked[at]
        for path in (upload.path, upload.path.with_suffix(".csv")):  # and what was made of it
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Forget all."""
        shutil.rmtree(self._folder, ignore_errors=True)
