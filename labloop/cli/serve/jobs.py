"""Long work that a page starts: a command of labloop's own in a process beside it, one at a time a campaign."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from labloop.cli.serve.settings import Settings
from labloop.errors import CampaignError
from labloop.runtime.environment import VARIABLES

_TAIL = 4000
_RUN = [sys.executable, "-c", "from labloop.cli import run; run()"]


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


@dataclass(kw_only=True)
class _Job:
    what: str
    by: str
    child: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float
    ended: float | None = None


class Jobs:
    """The jobs of one run. A command that is ended with it goes on where it stopped when it is called again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()

    def start(self, campaign: str, command: Sequence[str], *, what: str, by: str) -> None:
        """Start a command for a campaign.

        Raises:
            CampaignError: one is at work for it already.
        """
        given = [("--home", self._settings.home), ("--ledger", self._settings.ledger)]
        options = [text for name, value in given if value is not None for text in (name, str(value))]
        options += [text for one in self._settings.plugins for text in ("--plugins", one)]
        with self._lock:
            now = self._jobs.get(campaign)
            if now is not None and now.child.poll() is None:
                raise CampaignError(f"labloop is at work for {campaign} already: {now.what}, started by {now.by}")
            log = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the job is remembered)
            environment = {key: value for key, value in os.environ.items() if key != VARIABLES["serve_token"]}
            child = subprocess.Popen(
                [*_RUN, *command, *options, "--verbose"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**environment, VARIABLES["user"]: by},
            )  # fmt: skip
            if now is not None:
                now.log.close()
            self._jobs[campaign] = _Job(what=what, by=by, child=child, log=log, began=time.monotonic())

    def of(self, campaign: str) -> Told | None:
        """Tell how a campaign's last job stands; None where there was none."""
        with self._lock:
            job = self._jobs.get(campaign)
            if job is None:
                return None
            ended = job.child.poll()
            if ended is not None and job.ended is None:
                job.ended = time.monotonic()
            size = os.fstat(job.log.fileno()).st_size
            text = os.pread(job.log.fileno(), _TAIL, max(0, size - _TAIL)).decode(errors="replace")
            lines = tuple(line for line in text.splitlines() if line.strip())[-12:]
            return Told(
                what=job.what, by=job.by, running=ended is None, failed=bool(ended), lines=lines,
                seconds=int((job.ended or time.monotonic()) - job.began),
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
                job.log.close()
