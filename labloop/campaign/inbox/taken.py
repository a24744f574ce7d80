"""What an inbox remembers of a file that it took: how often it was tried, and whether somebody writes on in it.

The lab's own file is read once and its copy is ingested, so nothing that is written into it later changes what was taken. It is
kept for a day in `.late/`: whoever still had it open writes into that one, and it comes back.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from labloop.runtime.files import write_text

LATE = ".late-"
"""Begins the name by which a file that was written on is taken again; no other name in an inbox begins with a dot."""

SEEN = ".seen"
"""In `.late/`: what earlier looks saw."""

KEPT = 86400.0
"""Seconds that a file which was taken is watched for somebody who writes on in it."""


@dataclass(frozen=True, kw_only=True)
class Before:
    """What a file was when it was taken the last time."""

    title: str
    """Its name in the inbox."""
    sha256: str
    size: int
    changed: int
    """mtime, in nanoseconds."""
    inode: int
    stored: bool
    """Whether the ledger has it as it was then."""
    place: str
    """Where that lies now: `done/NAME`."""
    rows: int = 0
    """Rows that it had; 0 where that is not known."""

    def is_now(self, about: os.stat_result) -> bool:
        """Whether nobody has written into it since."""
        return (self.size, self.changed) == (about.st_size, about.st_mtime_ns)


@dataclass(frozen=True, kw_only=True)
class Note:
    """What stands beside a file in `.taken/` until it is filed away."""

    inode: int
    """The file's that it is about; one of another file is a leftover."""
    tries: int = 0
    """Tries that began and whose end nobody has seen: the process that read the inbox was killed."""
    deaths: int = 0
    """Tries whose own process was killed."""
    passed_over: int = 0
    """Times that others were to go first."""
    before: Before | None = None


def note_of(taken: Path) -> Note:
    """The note beside a file in `.taken/`; an empty one where there is none of this file."""
    inode = taken.lstat().st_ino
    with suppress(OSError, ValueError, TypeError, AttributeError):
        told = json.loads(_beside(taken).read_bytes())
        before = Before(**told.pop("before")) if told.get("before") else None
        note = Note(**{**told, "before": before})
        if note.inode == inode:
            return note
    return Note(inode=inode)


def write_note(taken: Path, note: Note) -> Note:
    """Write the note beside a file in `.taken/`, before the file where that is still to come."""
    write_text(_beside(taken), json.dumps(asdict(note)))
    return note


def forget(taken: Path) -> None:
    """Remove the note of a file that is filed away."""
    _beside(taken).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


# ---- files that were taken, and may be written on


def keep(folder: Path, taken: Path, before: Before) -> None:
    """Move a file that was taken to `.late/`, where whoever has it open writes on; its bytes stand elsewhere already."""
    name, number = taken.name, 1
    while os.path.lexists(folder / name):
        number += 1
        name = f"{taken.stem}.{number}{taken.suffix}"
    place = folder / name
    write_text(_beside(place), json.dumps(asdict(replace(before, inode=taken.lstat().st_ino))))
    try:
        os.replace(taken, place)
    except OSError:  # a system that moves no open file has nobody who writes on either
        taken.unlink(missing_ok=True)
        _beside(place).unlink(missing_ok=True)


def before_of(place: Path) -> Before | None:
    """What a file in `.late/` was when it was taken."""
    with suppress(OSError, ValueError, TypeError):
        before = Before(**json.loads(_beside(place).read_bytes()))
        if before.inode == place.lstat().st_ino:
            return before
    return None


def written_on(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files in `.late/` that are no longer as they were, each with the name by which it is taken."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.name.startswith(".") and _is_live(Path(entry.path)):
                yield LATE + entry.name, Path(entry.path)


def _is_live(place: Path) -> bool:
    before = before_of(place)
    with suppress(OSError):
        return before is not None and not before.is_now(place.lstat())
    return False


def sweep(folder: Path) -> None:
    """Remove from `.late/` what was watched for a day and has stayed as it was, and notes whose file is gone."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in list(entries):
            path = Path(entry.path)
            with suppress(OSError):
                if entry.name.startswith("."):
                    is_note = entry.name.endswith(".json")
                    if is_note and not os.path.lexists(folder / entry.name[1:-5]):
                        path.unlink()
                elif not _is_live(path) and time.time() - path.lstat().st_ctime > KEPT:
                    path.unlink()
                    _beside(path).unlink(missing_ok=True)
