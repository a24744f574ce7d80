"""Long work that a page starts: a command of labloop's own in a process beside it, one at a time a campaign, and questions."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from labloop.cli.serve.children import Child, begin
from labloop.cli.serve.settings import Settings
from labloop.errors import CampaignError
from labloop.runtime.environment import VARIABLES

_TAIL = 4000
_MOST = 40
"""Jobs that are remembered, those at work besides."""
_QUESTIONS = 2
"""Questions that are worked on at once; each may take a core for minutes."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """How a job stands."""

    what: str
    by: str
    running: bool
    failed: bool
    seconds: int
    lines: tuple[str, ...]
    """The last lines that it said."""
    answer: dict[str, Any] | None = None
    """What a question was answered, where it was."""
    subject: str = ""
    """What was asked about, for people."""


@dataclass(kw_only=True)
class _Job:
    what: str
    by: str
    log: IO[bytes]
    child: Child = field(init=False)
    began: float = field(init=False)
    ended: float | None = None
    answer: IO[bytes] | None = None
    subject: str = ""

    def forget(self) -> None:
        for one in filter(None, (self.log, self.answer)):
            one.close()


class Jobs:
    """The jobs of one run. A command that is ended with it goes on where it stopped when it is called again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[tuple[str, ...], _Job] = {}
        self._lock = threading.Lock()

    def start(self, campaign: str, command: Sequence[str], *, what: str, by: str) -> None:
        """Start a command for a campaign.

        Raises:
            CampaignError: one is at work for it already.
        """
        with self._lock:
            now = self._jobs.get((campaign,))
            if now is not None and now.child.poll() is None:
                raise CampaignError(f"labloop is at work for {campaign} already: {now.what}, started by {now.by}")
            self._run((campaign,), _Job(what=what, by=by, log=_scratch()), command)

    def ask(self, key: tuple[str, ...], command: Sequence[str], *, what: str, by: str, subject: str = "") -> None:
        """Start a command that answers a question and changes nothing in the ledger; its answer is what `--json` gives.

        Args:
            key: the campaign, the question, and whose it is where it is one person's.

        Raises:
            CampaignError: it is worked on already, or others are, as many as may be.
        """
        with self._lock:
            going = [one for at, one in self._jobs.items() if len(at) > 1 and one.child.poll() is None]
            if any(one is self._jobs.get(key) for one in going) or len(going) >= _QUESTIONS:
                told = ", ".join(f"it {one.what} for {one.by}" for one in going)
                raise CampaignError(f"labloop is at work already ({told}): ask again when it is done")
            job = _Job(what=what, by=by, log=_scratch(), answer=_scratch(), subject=subject)
            self._run(key, job, [*command, "--json"])

    def _run(self, key: tuple[str, ...], job: _Job, command: Sequence[str]) -> None:
        given = [("--home", self._settings.home), ("--ledger", self._settings.ledger)]
        options = [text for name, value in given if value is not None for text in (name, str(value))]
        options += [text for one in self._settings.plugins for text in ("--plugins", one)]
        environment = {name: value for name, value in os.environ.items() if name != VARIABLES["serve_token"]}
        job.child = begin(
            [*command, *options, "--verbose"], environment={**environment, VARIABLES["user"]: job.by}, out=job.answer or job.log,
            err=job.log,
        )  # fmt: skip
        job.began = time.monotonic()
        if (old := self._jobs.pop(key, None)) is not None:
            old.forget()
        self._jobs[key] = job
        ended = [at for at, one in self._jobs.items() if one.child.poll() is not None]
        for at in ended[: max(0, len(self._jobs) - _MOST)]:
            self._jobs.pop(at).forget()

    def of(self, campaign: str, *question: str) -> Told | None:
        """Tell how a campaign's last job, or a question about it, stands; None where there was none."""
        with self._lock:
            job = self._jobs.get((campaign, *question))
            if job is None:
                return None
            ended = job.child.poll()
            if ended is not None and job.ended is None:
                job.ended = time.monotonic()
            lines = tuple(line for line in _tail(job.log).splitlines() if line.strip())[-12:]
            return Told(
                what=job.what, by=job.by, running=ended is None, failed=bool(ended), lines=lines, subject=job.subject,
                seconds=int((job.ended or time.monotonic()) - job.began), answer=_answer(job) if ended == 0 else None,
            )  # fmt: skip

    def close(self) -> None:
        """End what is at work."""
        with self._lock:
            for job in self._jobs.values():
                if job.child.poll() is None:
                    job.child.terminate()
            for job in self._jobs.values():
                try:
                    job.child.wait(10)
                except subprocess.TimeoutExpired:
                    job.child.kill()
                job.forget()


def _scratch() -> IO[bytes]:
    return tempfile.TemporaryFile()  # it lives as long as the job is remembered


def _tail(log: IO[bytes]) -> str:
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), _TAIL, max(0, size - _TAIL)).decode(errors="replace")


def _answer(job: _Job) -> dict[str, Any] | None:
    if job.answer is None:
        return None
    job.answer.seek(0)
    with suppress(ValueError):
        found = json.load(job.answer)
        return found if isinstance(found, dict) else None
    return None
