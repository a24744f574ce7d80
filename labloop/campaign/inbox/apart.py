"""Ingest one file in a process of its own, with a bound on memory and time: whatever the file does, it does it there.

The process is a fork of a new Python that holds nothing, see `errand`: neither an open database nor another thread's lock comes
along. What it stores, it stores in one transaction, so it may be killed at any moment and run again.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from labloop.campaign.inbox.errand import BEGINS, ENDED, Errand
from labloop.errors import Fault, LabloopError, LedgerError
from labloop.ledger.memory import Memory
from labloop.runtime.environment import PREFIX

SECONDS = 60
"""Of computing that a file may take; a whole 1,536-well plate takes less than one."""

MEMORY = 2 * 2**30
"""Bytes that a file may take beyond what labloop itself does."""

_TOO_LONG = 1000
"""Stands for the exit code of a process that its parent has ended after its time."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a file in its process."""

    kind: Literal["stored", "refused", "failed", "slow", "killed"]
    """Read and in the ledger; refused in words; an exception; more than its time; a process that ended without a word."""
    said: str
    faults: tuple[Fault, ...] = ()
    log: str = ""
    """The traceback, for whoever mends labloop or the reader."""
    receipt: Mapping[str, Any] | None = None


def ingest(campaign: Memory, path: Path, *, grown_from: int | None = None) -> Outcome:
    """Read a file, check all of it and append it to the ledger, in another process.

    Args:
        grown_from: rows that the file had when it was taken, where it was written on since: it corrects what it was.

    Raises:
        LedgerError: the ledger cannot take it now, which is not the file's fault.
        LabloopError: no process can be started now.
    """
    url, patience = campaign.ledger.reach
    errand = Errand(
        # A lock that another writer holds costs no computing; the file has its own minute beside it.
        campaign=campaign.name, url=url, patience=patience, path=str(path), grown_from=grown_from, seconds=SECONDS,
        wall=int(SECONDS + patience), memory=MEMORY, folder=os.getcwd(), path_of_modules=_modules(),
        environment={name: value for name, value in os.environ.items() if name.startswith(PREFIX)},
    )  # fmt: skip
    try:
        helper = _Helper.mine()
    except OSError as error:
        why = f"no process can be started to read {path.name} ({error.strerror})"
        raise LabloopError(f"{why}: end others, then try again") from error
    return _outcome(helper.do(errand), path.name, campaign, helper)


def _outcome(lines: list[str], name: str, campaign: Memory, helper: _Helper) -> Outcome:
    code = int(lines.pop().split()[1]) if lines and lines[-1].startswith(ENDED) else None
    answer = _parsed(lines[-1]) if lines else {}
    if answer.get("kind") == "ledger":
        raise LedgerError(answer["said"])
    if answer:
        return Outcome(**{**answer, "faults": tuple(Fault(**one) for one in answer.get("faults", ()))})
    if BEGINS not in lines:  # it did not get as far as the file
        raise LabloopError(f"{name} cannot be read now: labloop's own process {_ended(code)}: {helper.last_words()}")
    if code in (_TOO_LONG, *(-getattr(signal, one, -_TOO_LONG) for one in ("SIGXCPU", "SIGALRM"))):
        told = f"takes more than {SECONDS} s to read: is it an assay file? If so: {campaign.to_ingest()}"
        return Outcome(kind="slow", said=f"{name}: {told}, which has no limit")
    return Outcome(kind="killed", said=f"{name}: the process that read it {_ended(code)}")


def _ended(code: int | None) -> str:
    if code is None:
        return "ended without a word"
    if -code not in set(signal.Signals):
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    return f"was ended by {name}" + (", as for want of memory" if name == "SIGKILL" else "")


def _parsed(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:  # no answer, or one that was cut off when it was killed
        return {}
    return told if isinstance(told, dict) else {}


def _modules() -> list[str]:
    return [one or os.getcwd() for one in sys.path]


class _Helper:
    """The process that forks for each file; it ends with this one, whose end of its pipe the kernel closes."""

    _one: _Helper | None = None

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._wrong = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_modules())}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from labloop.campaign.inbox.errand import main; main()"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._wrong, env=environment, start_new_session=True,
        )  # fmt: skip
        atexit.register(self.end)

    @classmethod
    def mine(cls) -> _Helper:
        """This process's helper; one that a fork inherits is its parent's."""
        if cls._one is None or cls._one._pid != os.getpid() or cls._one._process.poll() is not None:
            cls._one = cls()
        return cls._one

    def do(self, errand: Errand) -> list[str]:
        """Have an errand done; returns the lines of the answer, which may lack whatever comes at its end."""
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        lines: list[str] = []
        with self._lock:
            overdue = threading.Event()

            def give_up() -> None:
                overdue.set()
                self.end()

            watch = threading.Timer(errand.wall + 60, give_up)
            watch.start()
            ended = False
            try:
                with suppress(BrokenPipeError):
                    orders.write(json.dumps(asdict(errand)).encode() + b"\n")
                    orders.flush()
                for line in answers:
                    lines.append(line.decode("utf-8", errors="replace").rstrip("\n"))
                    if lines[-1].startswith(ENDED):
                        ended = True
                        break
            finally:
                watch.cancel()
                if not ended:
                    self.end()
        return [*lines, f"{ENDED} {_TOO_LONG}"] if overdue.is_set() else lines

    def last_words(self) -> str:
        """The last line that it wrote on its error output."""
        self._wrong.seek(max(0, self._wrong.seek(0, os.SEEK_END) - 2000))
        lines = self._wrong.read().decode("utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def end(self) -> None:
        """End the process and the fork that is at work."""
        if self._pid != os.getpid():
            return
        with suppress(OSError):
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
