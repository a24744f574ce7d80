"""File away what was taken from an inbox: its copy under done/ with a receipt, or under rejected/ with what is wrong with it."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from labloop.assays.ingest.read import digest
from labloop.campaign.inbox import taken as notes
from labloop.campaign.inbox.apart import Outcome
from labloop.campaign.inbox.taken import Before
from labloop.errors import LabloopError, grouped
from labloop.runtime.files import write_text
from labloop.runtime.spreadsheet import neutral


@dataclass(frozen=True, kw_only=True)
class Filed:
    """What became of one file."""

    file: str
    accepted: bool
    place: Path
    """Where it lies now."""
    said: str
    waits: bool = False
    """Whether it is neither accepted nor rejected, and is tried again."""


@dataclass(frozen=True, kw_only=True)
class Filing:
    """A file on its way to done/ or rejected/."""

    inbox: Path
    taken: Path
    """The lab's own file."""
    work: Path
    """The copy that was read."""
    sha256: str
    about: os.stat_result
    before: Before | None

    def accept(self, outcome: Outcome, *, known: bool) -> Filed:
        """File the copy under done/, with its receipt; `known`: whether the ledger has these very bytes."""
        if not known:  # it says nothing that the ledger does not have: the file that the ledger knows stays in done/
            self.work.unlink(missing_ok=True)
            return self._end(True, self.inbox / (self.before.place if self.before else "done"), outcome)
        place = self._free(self.inbox / "done" / self.taken.name)
        receipt = place.with_name(place.name + ".receipt.json")
        if not receipt.exists():
            told = dict(outcome.receipt or {"file": self.taken.name, "sha256": self.sha256, "note": outcome.said})
            write_text(receipt, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        if outcome.log:
            write_text(place.with_name(place.name + ".log.txt"), outcome.log)
        self._move(place)
        return self._end(True, place, outcome)

    def reject(self, outcome: Outcome) -> Filed:
        """File the copy under rejected/, with what is wrong beside it."""
        place = self._free(self.inbox / "rejected" / self.taken.name)
        _write_reasons(place, outcome, _advice(self.before))
        self._move(place)
        return self._end(False, place, outcome)

    def _free(self, place: Path) -> Path:
        """A name that is free, or under which these bytes lie already since a process died here."""
        number, free = 1, place
        while os.path.lexists(free) and not self._is_there(free):
            number += 1
            free = place.with_name(f"{place.stem}.{number}{place.suffix}")
        return free

    def _is_there(self, place: Path) -> bool:
        with suppress(OSError):
            about = place.lstat()
            same = stat.S_ISREG(about.st_mode) and about.st_size == self.work.lstat().st_size
            return same and digest(place.read_bytes()) == self.sha256
        return False

    def _move(self, place: Path) -> None:
        try:
            os.replace(self.work, place)
            if digest(place.read_bytes()) != self.sha256:
                raise LabloopError(f"{place}: is not what was read: somebody else writes in this folder")
        except OSError as error:
            raise LabloopError(
                f"{place}: cannot be written: {error.strerror or error}; free the disk, then run this again"
            ) from error

    def _end(self, accepted: bool, place: Path, outcome: Outcome) -> Filed:
        now = Before(
            title=self.taken.name, sha256=self.sha256, size=self.about.st_size, changed=self.about.st_mtime_ns,
            inode=self.about.st_ino, stored=accepted, place=place.relative_to(self.inbox).as_posix(),
            rows=int((outcome.receipt or {}).get("n_rows", 0)),
        )  # fmt: skip
        if not accepted and self.before is not None and self.before.stored:  # what the ledger has is still what it was first
            now = replace(self.before, size=now.size, changed=now.changed, inode=now.inode)
        notes.keep(self.inbox / ".late", self.taken, now)
        notes.forget(self.taken)
        return Filed(file=self.taken.name, accepted=accepted, place=place, said=outcome.said)


def reject_unread(inbox: Path, taken: Path, told: str) -> Filed:
    """Move a file that is not to be opened, or cannot be, to rejected/ as it is."""
    number, place = 1, inbox / "rejected" / taken.name
    while os.path.lexists(place):
        number += 1
        place = place.with_name(f"{Path(taken.name).stem}.{number}{taken.suffix}")
    _write_reasons(place, Outcome(kind="refused", said=told), _advice(notes.note_of(taken).before))
    taken.rename(place)
    notes.forget(taken)
    return Filed(file=taken.name, accepted=False, place=place, said=told)


def _advice(before: Before | None) -> str:
    if before is None or not before.stored:
        return "Nothing of this file was stored. Mend it and drop it into the inbox again."
    return (
        f"Somebody wrote on in this file after it was taken. The ledger has it as it was then ({before.place}, SHA-256 "
        f"{before.sha256}); of what was written since nothing was stored, as it cannot be told what corrects a reading and what "
        "is a new one. Where it corrects: labloop correct FILE -c CAMPAIGN --reason …; new readings: drop a file of them alone "
        "into the inbox."
    )


def _write_reasons(place: Path, outcome: Outcome, advice: str) -> None:
    faults = outcome.faults
    why = f"{outcome.said}\n\n{advice}\n"
    if outcome.log:
        why += f"\nWhere it failed, for whoever mends it, is in {place.name}.log.txt.\n"
        write_text(place.with_name(place.name + ".log.txt"), outcome.log)
    if faults:
        table = io.StringIO()
        rows = [("row", "column", "rule", "cell"), *((str(f.row), f.column, f.rule, f.cell) for f in faults)]
        csv.writer(table, lineterminator="\n").writerows([neutral(cell) for cell in row] for row in rows)
        write_text(place.with_name(place.name + ".faults.csv"), table.getvalue())
        why += f"\n{len(faults)} faults, also in {place.name}.faults.csv:\n"
        why += "".join(f"  {one}\n" for one in grouped(faults)[:50])
    write_text(place.with_name(place.name + ".why.txt"), why)


def safe(name: str) -> str:
    """A name that any program can print, whatever bytes it was dropped with."""
    kept = "".join(letter if letter.isprintable() and letter not in '\\/:*?"<>|' else "_" for letter in name)
    stem, dot, end = kept.rpartition(".")
    return kept if len(kept.encode()) <= 150 else f"{(stem or end).encode()[:120].decode(errors='ignore')}{dot}{end[:20]}"
