"""Ingest one file in a process of its own, with a bound on memory and time: whatever the file does, it does it there.

The process is a new Python, not a fork: neither an open database nor another thread's lock comes along. What it stores, it stores
in one transaction, so it may be killed at any moment and run again.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from sqlalchemy import exc

from labloop import intake
from labloop.config import CampaignConfig, parse_config
from labloop.errors import DesignError, Fault, IngestError, LabloopError, LedgerError
from labloop.ingest import sha256_of
from labloop.intake import Request
from labloop.ledger import Ledger
from labloop.table import count

SECONDS = 60
"""Of computing that a file may take; a whole 1,536-well plate takes less than one."""

MEMORY = 2 * 2**30
"""Bytes that a file may take beyond what labloop itself does."""

_MANY = 2_000
"""Faults that are told of one file."""

_TRANSIENT = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EROFS)
"""What an OSError says of the machine, not of the file."""


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


@dataclass(frozen=True, kw_only=True)
class _Task:
    campaign: str
    url: str
    patience: float
    """Seconds to wait for another writer."""
    path: str
    grown_from: int | None
    seconds: int
    memory: int
    parent: int


def ingest(ledger: Ledger, campaign: str, path: Path, *, grown_from: int | None = None) -> Outcome:
    """Read a file, check all of it and append it to the ledger, in another process.

    Args:
        grown_from: rows that the file had when it was taken, where it was written on since: it corrects what it was.

    Raises:
        LedgerError: the ledger cannot take it now, which is not the file's fault.
        LabloopError: no process can be started now.
    """
    url, patience = ledger.reach
    task = _Task(
        campaign=campaign, url=url, patience=patience, path=str(path), grown_from=grown_from, seconds=SECONDS, memory=MEMORY,
        parent=os.getpid(),
    )  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one or os.getcwd() for one in sys.path)}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from labloop.apart import main; main()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise LabloopError(
            f"no process can be started to read {path.name} ({error.strerror}): end others, then try again"
        ) from error
    with process:
        try:
            # A lock that another writer holds costs no computing, and is waited for in the child.
            told, wrong = process.communicate(json.dumps(asdict(task)).encode(), timeout=SECONDS + patience + 30)
        except subprocess.TimeoutExpired:
            return Outcome(kind="slow", said=f"{path.name}: {_slow(campaign)}")
        finally:
            process.kill()
    lines = told.decode("utf-8", errors="replace").splitlines()
    answer = _parsed(lines[-1]) if lines else {}
    if answer.get("kind") == "ledger":
        raise LedgerError(answer["said"])
    if answer.get("kind") in ("stored", "refused", "failed"):
        return Outcome(**{**answer, "faults": tuple(Fault(**one) for one in answer.get("faults", ()))})
    if not lines:  # it did not get as far as the file
        last = wrong.decode("utf-8", errors="replace").strip().splitlines()[-1:] or [_ended(process.returncode)]
        raise LabloopError(f"{path.name} cannot be read now: labloop's own process does not start ({last[0]})")
    if process.returncode == -getattr(signal, "SIGXCPU", 0):
        return Outcome(kind="slow", said=f"{path.name}: {_slow(campaign)}")
    return Outcome(kind="killed", said=f"{path.name}: the process that read it {_ended(process.returncode)}")


def _slow(campaign: str) -> str:
    return (
        f"takes more than {SECONDS} s to read: is it an assay file? If so: labloop ingest FILE -c {campaign}, which has no limit"
    )


def _ended(code: int) -> str:
    name = signal.Signals(-code).name if -code in set(signal.Signals) else ""
    return (
        f"was ended by {name}" + (", as for want of memory" if name == "SIGKILL" else "") if name else f"ended with code {code}"
    )


def _parsed(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:  # cut off when it was killed
        return {}
    return told if isinstance(told, dict) else {}


# ---- in the process


def main() -> None:
    """Do the task that standard input names; answer on standard output, a line of JSON after one that says that it begins."""
    task = _Task(**json.loads(sys.stdin.readline()))
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    threading.Thread(target=_end_with, args=(task.parent,), daemon=True).start()
    try:
        with Ledger.open(task.url, create=False, timeout=task.patience) as ledger:
            config = parse_config(
                json.loads(ledger.config(task.campaign)), CampaignConfig, source=f"ledger entry of {task.campaign}"
            )
            print("begins", file=answers, flush=True)  # from here on it is the file's doing
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)  # what a reader prints is no answer
            os.dup2(nowhere, 2)
            _bound(task)
            told = _told(config, ledger, task)
    except LedgerError as error:
        told = {"kind": "ledger", "said": str(error)}
    _answer(answers, told)


def _answer(answers: TextIO, told: Mapping[str, Any]) -> None:
    answers.write(json.dumps(told) + "\n")
    answers.flush()
    os._exit(0)  # no thread or exit handler of a reader keeps it


def _end_with(parent: int) -> None:
    """End this process when the one that began it is gone: that one's successor reads the file anew."""
    while os.name != "posix" or os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _bound(task: _Task) -> None:
    """Limit this process to its task's time and memory, as far as the system can."""
    try:
        import resource
    except ImportError:  # Windows: the wall clock alone bounds it
        return
    seconds = int(time.process_time()) + task.seconds
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        room = int(statm.read_text().split()[0]) * resource.getpagesize() + task.memory
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.getrlimit(resource.RLIMIT_AS)[1]))
        Path("/proc/self/oom_score_adj").write_text("500")  # where memory ends for all, this one goes first


def _told(config: CampaignConfig, ledger: Ledger, task: _Task) -> dict[str, Any]:
    path = Path(task.path)
    digest = ""
    try:
        digest = sha256_of(path)
        if task.grown_from is not None:
            return _corrected(config, ledger, path, task.grown_from)
        receipt = intake.ingest(config, ledger, path, Request(), dry_run=False)
        said = f"{receipt.n_measured} measured, {receipt.n_failed} without a value" if receipt.stored else receipt.note
        return {"kind": "stored", "said": said, "receipt": asdict(receipt)}
    except BaseException as error:  # noqa: BLE001 - whatever a reader raises, SystemExit too, is an answer about the file
        log = "".join(traceback.format_exception(error, limit=-30))[-20_000:]
        if digest and _has(ledger, task.campaign, digest):  # stored; only what follows from it failed
            return {"kind": "stored", "said": f"stored, but then: {_sentence(error)}", "log": log}
        if _is_passing(error):
            return {"kind": "ledger", "said": _sentence(error)}
        if isinstance(error, IngestError | DesignError):
            return {"kind": "refused", "said": error.summary, "faults": [asdict(one) for one in error.faults[:_MANY]]}
        if isinstance(error, LabloopError):
            return {"kind": "refused", "said": str(error), "log": log}
        return {"kind": "failed", "said": f"{path.name}: {_why(error, task)}", "log": log}


def _corrected(config: CampaignConfig, ledger: Ledger, path: Path, before: int) -> dict[str, Any]:
    reason = f"{path.name} was written on after it was taken with {count(before, 'row')}"
    done = intake.correct(config, ledger, path, Request(), reason=reason, dry_run=False, grown_from=before)
    said = f"written on after it was taken: {len(done.changes)} readings corrected, {done.added} new, {done.equal} as they were"
    receipt = {"file": done.file, "sha256": done.sha256, "reason": reason, "n_rows": len(done.changes) + done.added + done.equal,
               "n_corrected": len(done.changes), "n_new": done.added,
               "n_equal": done.equal, "stored": done.stored}  # fmt: skip
    return {"kind": "stored", "said": said, "receipt": receipt}


def _has(ledger: Ledger, campaign: str, digest: str) -> bool:
    try:
        return ledger.has_file(campaign, digest)
    except (LabloopError, exc.SQLAlchemyError, MemoryError):
        return False


def _is_passing(error: BaseException) -> bool:
    """Whether an error is of the ledger or the machine as they are now, and none of the file's."""
    if isinstance(error, LedgerError):
        cause = error.__cause__
        return not (
            isinstance(cause, exc.DataError | exc.IntegrityError)
            or getattr(getattr(cause, "orig", None), "sqlite_errorname", "") == "SQLITE_TOOBIG"
        )
    return isinstance(error, exc.OperationalError | exc.InterfaceError) or (
        isinstance(error, OSError) and error.errno in _TRANSIENT
    )


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:1000] or type(error).__name__


def _why(error: BaseException, task: _Task) -> str:
    if isinstance(error, MemoryError):
        room = f"{task.memory / 2**30:.2g} GB of memory"
        return f"needs more than {room}: is it an assay file? If so: labloop ingest FILE -c {task.campaign}"
    what = _sentence(error)
    named = type(error).__name__ if what == type(error).__name__ else f"{type(error).__name__}: {what}"
    return (
        f"its reader fails over it ({named}); save the file in another way, such as CSV UTF-8, or send it to who keeps the reader"
    )
