"""A folder that the lab drops assay files into: taken when whole, then kept under done/ or, with what is wrong, under rejected/.

A file is first moved to `.taken/`, where no other is put over it, then copied once, and the copy is ingested in a process of its
own and filed away: what stands in done/ is what the ledger has. A process that dies in between leaves the file in `.taken/`; the
next one begins with it, and the ledger knows the bytes that it has already. The lab's own file is watched for a day in `.late/`:
what somebody writes on in it comes back as a correction.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from labloop.assays.ingest.read import digest
from labloop.campaign.inbox import apart
from labloop.campaign.inbox import taken as notes
from labloop.campaign.inbox.apart import Outcome
from labloop.campaign.inbox.filing import Filed, Filing, reject_unread, safe
from labloop.campaign.inbox.settling import Sights, waiting
from labloop.campaign.inbox.taken import LATE, SEEN, Note
from labloop.errors import LabloopError
from labloop.ledger.memory import Memory
from labloop.runtime.files import write_bytes

SETTLE = 10.0
"""Seconds that a file must have stayed as it is: whoever copies it over a slow network writes more often than that."""

LARGEST = 64 * 2**20
"""Bytes; a plate reader's workbook has less than a hundredth of it."""

DEATHS = 2
"""Processes that a file may end before it is rejected: one may have been the computer's."""

TRIES = 3
"""Tries that nobody saw the end of before a file is rejected."""

_UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".swp", ".lock", "~")


@dataclass(frozen=True, kw_only=True)
class InboxFiles:
    """The names of the files that lie in an inbox, oldest first."""

    whole: tuple[str, ...] = ()
    arriving: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    """Why each file is not taken yet that is not whole, or could not be moved, a sentence each: of those that arrive, in their
    order, then of others."""
    settles: float | None = None
    """Seconds until the first that arrives can be whole."""


def look(inbox: Path, *, now: float | None = None, remember: bool = True) -> InboxFiles:
    """List the files of an inbox; hidden and temporary names and folders are left alone, missing folders are made.

    Args:
        now: the system's clock (seconds since 1970) where not the present.
        remember: note what was seen for the next look, in the inbox; without it nothing is written and no folder made.

    Raises:
        LabloopError: the inbox or one of its folders cannot be made, or is not a folder of its own but a link elsewhere.
    """
    now = time.time() if now is None else now
    if remember:
        prepare(inbox)
    sights = Sights(inbox / ".late" / SEEN)
    whole: list[tuple[float, str]] = []
    arriving: list[tuple[float, str, str]] = []
    others: list[str] = []
    names = []
    late = notes.written_on(inbox / ".late")
    for name, path in [*late, *((entry.name, Path(entry.path)) for entry in _entries(inbox))]:
        try:
            about = path.lstat()
        except OSError:  # whoever put it there has taken it away
            continue
        names.append(name)
        sight, shown = sights.see(name, about), safe(name.removeprefix(LATE))
        if sight.stuck:
            others.append(f"{shown} {sight.stuck}")
            if sights.rests(sight, allowed=_allowed(inbox, path)):
                continue
        # A copy may carry the original's date; when the inode last changed is the system's own. A date to come means nothing.
        touched = max(about.st_ctime, about.st_mtime if about.st_mtime <= now else 0)
        unchanged = max(sights.age(sight), now - touched)
        is_file = stat.S_ISREG(about.st_mode)
        if is_file and (wait := waiting(path, unchanged=unchanged, settle=SETTLE)):
            if sights.restless(sight):
                others.append(f"{shown} goes on changing, so nothing waits for it")
            else:
                arriving.append((wait.seconds, name, f"{shown} {wait.why}"))
        else:
            whole.append((touched, name))
    if remember:
        sights.keep(names)
    left = sorted((notes.note_of(Path(entry.path)).passed_over, entry.name) for entry in _entries(inbox / ".taken"))
    first, again = ([name for n, name in left if (n > 0) is later] for later in (False, True))
    return InboxFiles(
        whole=(*first, *(name for _, name in sorted(whole)), *again), arriving=tuple(name for _, name, _ in arriving),
        why=(*(why for _, _, why in arriving), *others), settles=min((seconds for seconds, _, _ in arriving), default=None),
    )  # fmt: skip


def rejected(inbox: Path, *, since: float) -> list[str]:
    """Name the files that were rejected since a moment (seconds since 1970) and did not come again under their name."""
    found: list[tuple[float, str]] = []
    for why in (inbox / "rejected").glob("*.why.txt"):
        name = why.name.removesuffix(".why.txt")
        if name != safe(name) or not why.is_file():  # the inbox names none so: somebody put it there
            continue
        receipt = inbox / "done" / f"{name}.receipt.json"
        with suppress(OSError):  # somebody tidies up
            when = why.stat().st_mtime
            if when >= since and not (receipt.exists() and receipt.stat().st_mtime >= when):
                found.append((when, name))
    return [name for _, name in sorted(found)]


def prepare(inbox: Path) -> None:
    """Make an inbox and its folders.

    Raises:
        LabloopError: one cannot be made, or is not a folder of its own but a link elsewhere.
    """
    for folder in (inbox, *(inbox / name for name in (".taken", ".late", ".work", "done", "rejected"))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabloopError(
                f"{folder}: cannot be made: {error.strerror}; name another inbox in the campaign's file"
            ) from error
        if folder != inbox and folder.is_symlink():
            raise LabloopError(f"{folder}: is a link; labloop moves files only within the inbox: replace it by a folder")


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LabloopError(f"{folder}: cannot be listed: {error.strerror or error}; see whose it is and who may") from error
    for entry in listed:
        hidden = entry.name.startswith((".", "~$")) or entry.name.lower().endswith(_UNFINISHED)
        if not hidden and not entry.is_dir(follow_symlinks=False):
            yield entry


# ---- taking one


def take(campaign: Memory, inbox: Path, name: str) -> Filed | None:
    """Ingest one file of the campaign's inbox and file it away; None where it is gone.

    Args:
        name: as `look` gives it: a name in this folder, never a path.

    Raises:
        LedgerError: the ledger cannot take it now; the file stays, and a later call takes it.
        LabloopError: nor can the disk, or the computer.
    """
    if name != os.path.basename(name):
        raise ValueError(f"{name!r} is a path, not a name in the inbox")
    prepare(inbox)
    notes.sweep(inbox / ".late")
    taken = inbox / ".taken" / safe(name.removeprefix(LATE))
    if not os.path.lexists(taken):
        source = inbox / ".late" / name.removeprefix(LATE) if name.startswith(LATE) else inbox / name
        before = notes.before_of(source) if name.startswith(LATE) else None
        if before is not None:
            taken = taken.with_name(before.title)
        if os.path.lexists(taken):
            return _work(campaign, inbox, taken)
        try:
            notes.write_note(taken, Note(inode=source.lstat().st_ino, before=before))
            source.rename(taken)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _leave(inbox, source, name, error)
    return _work(campaign, inbox, taken)


def _leave(inbox: Path, source: Path, name: str, error: OSError) -> Filed:
    """Leave a file that cannot be moved where it is, and let others go first."""
    told = f"cannot be moved: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        raise LabloopError(f"{source}: {told}; free the disk or mend it, then run this again") from error
    sights = Sights(inbox / ".late" / SEEN)
    with suppress(OSError):
        told += ": close it, or see whose it is; it is tried again after a minute, or once what is allowed there changes"
        sights.stick(name, source.lstat(), told, allowed=_allowed(inbox, source))
    sights.keep(sights.names())
    return Filed(file=safe(name.removeprefix(LATE)), accepted=False, place=source, said=told, waits=True)


def _allowed(inbox: Path, source: Path) -> str:
    """Tell who may do what with a file, where it lies and where it would go."""
    told = []
    for path in (source, source.parent, inbox / ".taken"):
        with suppress(OSError):
            about = path.lstat()
            told.append(f"{about.st_mode:o} {about.st_uid} {about.st_gid}")
    return ", ".join(told)


def _work(campaign: Memory, inbox: Path, taken: Path) -> Filed:
    note, about = notes.note_of(taken), taken.lstat()
    if not stat.S_ISREG(about.st_mode):
        return reject_unread(inbox, taken, f"{taken.name}: is not a file but a link or a device: drop the file itself")
    if about.st_size > LARGEST:
        limit = f"{about.st_size / 2**20:.0f} MB, more than the {LARGEST / 2**20:.0f} MB that an inbox takes"
        told = f"{taken.name}: has {limit}: is it an assay file? If so: {campaign.to_ingest()}"
        return reject_unread(inbox, taken, told)
    try:
        content, about = _read(taken)
    except OSError as error:
        return reject_unread(
            inbox, taken, f"{taken.name}: cannot be read: {error.strerror or error}: see whose it is and who may"
        )
    sha256 = digest(content)
    if note.before is not None and note.before.sha256 == sha256:  # touched, or written over with what it was
        notes.keep(inbox / ".late", taken, replace(note.before, size=about.st_size, changed=about.st_mtime_ns))
        notes.forget(taken)
        return Filed(file=taken.name, accepted=True, place=inbox / note.before.place, said="its content is what it was")
    work = write_bytes(inbox / ".work" / taken.name, content)
    with suppress(OSError):
        os.utime(work, ns=(about.st_atime_ns, about.st_mtime_ns))
    filing = Filing(inbox=inbox, taken=taken, work=work, sha256=sha256, about=about, before=note.before)
    known = campaign.ledger.has_file(campaign.name, sha256)
    if not known and note.tries >= TRIES:
        return filing.reject(
            Outcome(kind="killed", said=f"{taken.name}: {note.tries} times the process that took it ended before it was through")
        )
    notes.write_note(taken, replace(note, tries=note.tries + 1))
    ended = False
    try:
        grown_from = note.before.rows if note.before is not None and note.before.stored else None
        outcome = apart.ingest(campaign, work, grown_from=grown_from)
        ended = True
    finally:
        if not ended:  # not of the file's doing; another goes first the next time
            notes.write_note(taken, replace(note, passed_over=note.passed_over + 1))
    if outcome.kind in ("slow", "killed") and campaign.ledger.has_file(campaign.name, sha256):
        outcome = Outcome(kind="stored", said=f"stored, but then {outcome.said}")
    if outcome.kind == "stored":
        return filing.accept(outcome, known=campaign.ledger.has_file(campaign.name, sha256))
    if outcome.kind == "killed" and note.deaths + 1 < DEATHS:
        notes.write_note(taken, replace(note, deaths=note.deaths + 1, passed_over=note.passed_over + 1))
        return Filed(file=taken.name, accepted=False, place=taken, said=f"{outcome.said}; it is tried once more", waits=True)
    return filing.reject(outcome)


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """Read a file's bytes once; what it was before they were read is told too, so that a change meanwhile shows."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):  # it was put in the place of one a moment ago
            raise OSError(errno.EINVAL, "is a device now")
        return file.read(LARGEST), about
