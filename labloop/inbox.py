"""A folder that the lab drops assay files into: taken when whole, then kept under done/ or, with what is wrong, under rejected/.

A file is first moved to `.taken/`, where nobody writes over it, then ingested, then filed away. A process that dies in between
leaves it in `.taken/`; the next one begins with it, and the ledger knows the bytes that it has already.
"""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labloop.errors import DesignError, IngestError, LabloopError
from labloop.files import write_text
from labloop.spreadsheet import neutral

if TYPE_CHECKING:
    from labloop.campaign import Campaign

SETTLE = 10.0
"""Seconds that a file must have stayed as it is: whoever copies it over a slow network writes more often than that."""

LARGEST = 64 * 2**20
"""Bytes; a plate reader's workbook has less than a hundredth of it."""

_UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".swp", ".lock", "~")


@dataclass(frozen=True, kw_only=True)
class Found:
    """The names of the files that lie in an inbox, oldest first."""

    whole: tuple[str, ...] = ()
    arriving: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Filed:
    """What became of one file."""

    file: str
    accepted: bool
    place: Path
    """Where it lies now."""
    said: str


def look(inbox: Path, *, now: float | None = None) -> Found:
    """List the files of an inbox; hidden and temporary names and folders are left alone, missing folders are made.

    Args:
        now: the system's clock (seconds since 1970) where not the present.

    Raises:
        LabloopError: the inbox or one of its folders cannot be made, or is not a folder of its own but a link elsewhere.
    """
    now = time.time() if now is None else now
    for folder in (inbox, inbox / ".taken", inbox / "done", inbox / "rejected"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabloopError(
                f"{folder}: cannot be made: {error.strerror}; name another inbox in the campaign's file"
            ) from error
        if folder != inbox and folder.is_symlink():
            raise LabloopError(f"{folder}: is a link; labloop moves files only within the inbox: replace it by a folder")
    whole: list[tuple[float, str]] = []
    arriving: list[str] = []
    for entry in _entries(inbox):
        about = entry.stat(follow_symlinks=False)
        # A copy may carry the original's date; when the inode last changed is the system's own. A date to come means nothing.
        touched = max(about.st_ctime, about.st_mtime if about.st_mtime <= now else 0)
        if stat.S_ISREG(about.st_mode) and now - touched < SETTLE:
            arriving.append(entry.name)
        else:
            whole.append((touched, entry.name))
    left = [entry.name for entry in _entries(inbox / ".taken")]
    return Found(whole=(*left, *(name for _, name in sorted(whole))), arriving=tuple(arriving))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            hidden = entry.name.startswith((".", "~$")) or entry.name.lower().endswith(_UNFINISHED)
            if not hidden and not entry.is_dir(follow_symlinks=False):
                yield entry


def take(campaign: Campaign, inbox: Path, name: str) -> Filed | None:
    """Ingest one file of the campaign's inbox and file it away; None where it is gone.

    Args:
        name: as `look` gives it: a name in this folder, never a path.

    Raises:
        LedgerError: the ledger cannot take it now; the file stays, and the next call begins with it.
    """
    if name != os.path.basename(name):
        raise ValueError(f"{name!r} is a path, not a name in the inbox")
    taken = inbox / ".taken" / safe(name)
    if not os.path.lexists(taken):
        try:
            (inbox / name).rename(taken)
        except FileNotFoundError:
            return None
    about = taken.lstat()
    if not stat.S_ISREG(about.st_mode):
        return _reject(inbox, taken, LabloopError(f"{taken.name}: is not a file but a link or a device: drop the file itself"))
    if about.st_size > LARGEST:
        limit = f"{about.st_size / 2**20:.0f} MB, more than the {LARGEST / 2**20:.0f} MB that an inbox takes"
        told = f"{taken.name}: has {limit}: is it an assay file? If so: labloop ingest FILE -c {campaign.name}"
        return _reject(inbox, taken, LabloopError(told))
    try:
        receipt = campaign.ingest(taken)
    except (IngestError, DesignError) as error:
        return _reject(inbox, taken, error)
    place = _free(inbox / "done" / taken.name)
    write_text(place.with_name(place.name + ".receipt.json"), json.dumps(asdict(receipt), indent=2, ensure_ascii=False) + "\n")
    taken.rename(place)
    said = f"{receipt.n_measured} measured, {receipt.n_failed} without a value" if receipt.stored else receipt.note
    return Filed(file=taken.name, accepted=True, place=place, said=said)


def _reject(inbox: Path, taken: Path, error: LabloopError) -> Filed:
    place = _free(inbox / "rejected" / taken.name)
    summary = error.summary if isinstance(error, IngestError | DesignError) else str(error)
    faults = error.faults if isinstance(error, IngestError | DesignError) else ()
    why = f"{summary}\n\nNothing of this file was stored. Mend it and drop it into the inbox again.\n"
    if faults:
        table = io.StringIO()
        rows = [("row", "column", "rule", "cell"), *((str(f.row), f.column, f.rule, f.cell) for f in faults)]
        csv.writer(table, lineterminator="\n").writerows([neutral(cell) for cell in row] for row in rows)
        write_text(place.with_name(place.name + ".faults.csv"), table.getvalue())
        why += f"\n{len(faults)} faults, also in {place.name}.faults.csv:\n" + "".join(f"  {fault}\n" for fault in faults[:50])
    write_text(place.with_name(place.name + ".why.txt"), why)
    taken.rename(place)
    return Filed(file=taken.name, accepted=False, place=place, said=summary)


def safe(name: str) -> str:
    """A name that any program can print, whatever bytes it was dropped with."""
    kept = "".join(letter if letter.isprintable() and letter not in '\\/:*?"<>|' else "_" for letter in name)
    stem, dot, end = kept.rpartition(".")
    return kept if len(kept.encode()) <= 150 else f"{(stem or end).encode()[:120].decode(errors='ignore')}{dot}{end[:20]}"


def _free(place: Path) -> Path:
    """The same name, or NAME.2, NAME.3, … where an earlier file of the name lies there: nothing is written over."""
    number, free = 1, place
    while os.path.lexists(free):
        number += 1
        free = place.with_name(f"{place.stem}.{number}{place.suffix}")
    return free
