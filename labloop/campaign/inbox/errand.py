"""The other side of `apart`: a process that reads one file after another for its parent, each in a fork of its own.

It imports labloop once and opens nothing itself, so that a fork begins at once and inherits neither a database nor a lock. Where
there is no fork it reads one file and ends.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import exc

from labloop.assays.ingest import ReadOptions, sha256_of
from labloop.assays.ingest.cells import count
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.errors import DesignError, IngestError, LabloopError, LedgerError, in_one_line
from labloop.ledger import Ledger
from labloop.ledger.memory import Memory
from labloop.rounds import intake

BEGINS = "begins"
"""The line that is written before the file is touched: what comes after it is the file's doing."""

ENDED = "ended"
"""Begins the line that tells a fork's exit code, negative for a signal."""

_MANY = 2_000
"""Faults that are told of one file."""

_TRANSIENT = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EROFS)
"""What an OSError says of the machine, not of the file."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A file to be read and stored, and within what bounds."""

    campaign: str
    url: str
    """The ledger's, with its password."""
    patience: float
    """Seconds to wait for another writer."""
    path: str
    grown_from: int | None
    """Rows that the file had when it was taken, where it was written on since."""
    seconds: int
    """Of computing."""
    wall: int
    """Seconds by the clock, the wait for other writers among them."""
    memory: int
    """Bytes beyond what this process has when it begins."""
    folder: str
    """The parent's working directory."""
    path_of_modules: list[str]
    environment: dict[str, str]
    """What the parent's environment says to labloop."""


def main() -> None:
    """Do the errands that standard input names, a line of JSON each, until it ends; answer on standard output."""
    answers = os.dup(1)
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    while line := orders.readline():
        errand = Errand(**json.loads(line))
        if not hasattr(os, "fork"):
            return _do(errand, answers, nowhere)
        if (child := os.fork()) == 0:
            orders.close()
            _do(errand, answers, nowhere)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        _say(answers, f"{ENDED} {code}")


def _do(errand: Errand, answers: int, nowhere: int) -> None:
    code = 1
    try:
        _say(answers, json.dumps(_answer(errand, answers, nowhere)))
        code = 0
    except BaseException:  # noqa: BLE001 - the fork ends here, whatever happens, and its parent tells that it did
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)  # no thread or exit handler of a reader keeps it


def _say(answers: int, line: str) -> None:
    told = memoryview(line.encode() + b"\n")
    while told:
        told = told[os.write(answers, told) :]


def _answer(errand: Errand, answers: int, nowhere: int) -> dict[str, Any]:
    os.environ.update(errand.environment)
    os.chdir(errand.folder)
    sys.path[:] = errand.path_of_modules
    try:
        with Ledger.open(errand.url, create=False, timeout=errand.patience) as ledger:
            source = f"ledger entry of {errand.campaign}"
            config = parse_config(json.loads(ledger.config(errand.campaign)), CampaignConfig, source=source)
            _say(answers, BEGINS)
            os.dup2(nowhere, 1)  # what a reader prints is no answer
            os.dup2(nowhere, 2)
            _bound(errand)
            return _told(Memory(config, ledger, Path(errand.folder)), errand)
    except LedgerError as error:
        return {"kind": "ledger", "said": str(error)}


def _bound(errand: Errand) -> None:
    """Limit this process to its errand's time and memory, as far as the system can."""
    try:
        import resource
    except ImportError:  # Windows: its parent ends it
        return
    signal.alarm(errand.wall)
    seconds = int(time.process_time()) + errand.seconds
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        room = int(statm.read_text().split()[0]) * resource.getpagesize() + errand.memory
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.getrlimit(resource.RLIMIT_AS)[1]))
        Path("/proc/self/oom_score_adj").write_text("500")  # where memory ends for all, this one goes first


def _told(memory: Memory, errand: Errand) -> dict[str, Any]:
    path = Path(errand.path)
    digest = ""
    try:
        digest = sha256_of(path)
        if errand.grown_from is not None:
            return _corrected(memory, path, errand.grown_from)
        receipt = intake.ingest(memory, path, ReadOptions(), dry_run=False)
        said = f"{receipt.n_measured} measured, {receipt.n_failed} without a value" if receipt.stored else receipt.note
        return {"kind": "stored", "said": said, "receipt": asdict(receipt)}
    except BaseException as error:  # noqa: BLE001 - whatever a reader raises, SystemExit too, is an answer about the file
        log = "".join(traceback.format_exception(error, limit=-30))[-20_000:]
        if digest and _has(memory.ledger, errand.campaign, digest):  # stored; only what follows from it failed
            return {"kind": "stored", "said": f"stored, but then: {in_one_line(error, 1_000)}", "log": log}
        if _is_passing(error):
            return {"kind": "ledger", "said": in_one_line(error, 1_000)}
        if isinstance(error, IngestError | DesignError):
            return {"kind": "refused", "said": error.summary, "faults": [asdict(one) for one in error.faults[:_MANY]]}
        if isinstance(error, LabloopError):
            return {"kind": "refused", "said": str(error), "log": log}
        return {"kind": "failed", "said": f"{path.name}: {_why(error, memory, errand)}", "log": log}


def _corrected(memory: Memory, path: Path, before: int) -> dict[str, Any]:
    reason = f"{path.name} was written on after it was taken with {count(before, 'row')}"
    done = intake.correct(memory, path, ReadOptions(), reason=reason, dry_run=False, grown_from=before)
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


def _why(error: BaseException, memory: Memory, errand: Errand) -> str:
    if isinstance(error, MemoryError):
        room = f"{errand.memory / 2**30:.2g} GB of memory"
        return f"needs more than {room}: is it an assay file? If so: {memory.to_ingest()}"
    what = in_one_line(error, 1_000)
    named = type(error).__name__ if what == type(error).__name__ else f"{type(error).__name__}: {what}"
    return (
        f"its reader fails over it ({named}); save the file in another way, such as CSV UTF-8, or send it to who keeps the reader"
    )
