"""The intake: files of the lab read with what the campaign knows, appended to the memory, and what follows from their readings.

Every verb can be run again: known bytes change nothing unless they are to be read otherwise, and what follows is read from the
memory, never done twice.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from labloop.assays import readings
from labloop.assays.ingest import AssayFile, Explanation, ReadOptions, explain_assay, printable, read_assay, sha256_of
from labloop.assays.ingest.cells import count
from labloop.config.assay import assay_options
from labloop.errors import IngestError, LabloopError
from labloop.ledger.memory import Memory
from labloop.ledger.states import RoundState
from labloop.rounds import correction, state
from labloop.rounds.correction import Corrected
from labloop.rounds.doubts import doubts
from labloop.rounds.repeats import fresh, has_all


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What one ingest did, or would do in a dry run."""

    file: str
    sha256: str
    dialect: str
    n_rows: int
    """Readings."""
    n_measured: int
    n_failed: int
    n_new_designs: int
    """Designs that labloop had neither proposed nor seen: the lab's own."""
    stored: bool
    note: str
    """What comes next, or why nothing was stored, for a person."""
    warnings: tuple[str, ...] = ()
    """What to look at before that, a sentence each."""

    @property
    def counted(self) -> str:
        """The readings in words: of several properties a row has several."""
        return f"{count(self.n_rows, 'reading')}: {self.n_measured:,} measured, {self.n_failed:,} without a value"


def known(memory: Memory, options: ReadOptions, digest: str = "") -> dict[str, Any]:
    """Give all that a file is read with: wells laid out, designs, and what is said or waited for.

    Args:
        digest: what the file is known by; one that was taken in is of the plates that it was of then, whatever waits now.
    """

    @cache
    def waiting() -> tuple[str, ...]:
        assay = options.assay or memory.config.objective.assay
        return (
            _plates(memory, digest, assay) if memory.ledger.has_file(memory.name, digest) else state.waiting_plates(memory, assay)
        )

    return {
        "wells": memory.ledger.wells(memory.name),
        "designs": state.designs(memory),
        "options": replace(options, waiting=waiting),
    }


def _plates(memory: Memory, digest: str, assay: str) -> tuple[str, ...]:
    """Give the plates whose readings came in with a file."""
    files = memory.ledger.files(memory.name)
    told = memory.ledger.known(memory.name, assay, plates=memory.ledger.plates(memory.name))
    for one in files[files["sha256"] == digest].itertuples():
        told = told[(told["file"] == one.name) & (told["at"] == one.at)]
    return tuple(told["plate"].dropna().unique())


def ingest(memory: Memory, path: Path, options: ReadOptions, *, dry_run: bool) -> Receipt:
    """Read a file, check all of it, and append it in one transaction; see `Campaign.ingest`."""
    digest = _identity(memory, sha256_of(path), options)
    name = options.name or printable(path.name)
    if _is_known(memory, digest, options):
        return _known(memory, name, digest, _revised(memory, path, options, digest))
    file = _read(memory, path, options, digest)
    if memory.ledger.has_file(memory.name, file.sha256):
        return _known(memory, name, file.sha256)
    if dry_run:
        return _receipt(_fresh(memory, file, options), stored=False, note="checked, nothing stored (dry run)")
    with memory.ledger.begin():  # nobody stores the same readings between the look and the deed
        file = _otherwise(memory, file)
        there = memory.ledger.has_file(memory.name, file.sha256)
        file = file if there else _fresh(memory, file, options)
        stored = not there and memory.ledger.add_file(
            memory.name, sha256=file.sha256, name=file.name, designs=file.designs,
            measurements=file.measurements.drop(columns="control"), reader=file.reader, dialect=file.dialect,
        )  # fmt: skip
    if not stored:
        return _known(memory, name, file.sha256)
    catch_up(memory)
    told = state.outlook(memory)
    return _receipt(file, stored=stored, note=told["next"], warnings=tuple(told.get("warnings", ())))


def _identity(memory: Memory, digest: str, options: ReadOptions) -> str:
    """Give what a file is known by: its bytes' SHA-256; bytes and assay where another assay of a reader's export came first."""
    has = memory.ledger.has_file
    if options.assay is None or not has(memory.name, digest) or has(memory.name, digest, assay=options.assay):
        return digest
    return sha256(f"{digest} {options.assay}".encode()).hexdigest()


def _is_known(memory: Memory, digest: str, options: ReadOptions) -> bool:
    """Whether a file was taken in, and nothing is said by which it could be read otherwise now."""
    said = options.read or options.plates or options.reader
    return not said and memory.ledger.has_file(memory.name, digest)


def _read(memory: Memory, path: Path | str, options: ReadOptions, digest: str) -> AssayFile:
    file = read_assay(path, memory.config, **known(memory, options, digest))
    return _otherwise(memory, replace(file, sha256=digest))


def _otherwise(memory: Memory, file: AssayFile) -> AssayFile:
    """Know a file by its bytes and readings where its bytes were taken in with other readings: of another read or plate."""
    if not memory.ledger.has_file(memory.name, file.sha256) or has_all(memory, file):
        return file
    readings = file.measurements.drop(columns=["row", "note"]).to_csv(index=False)
    return replace(file, sha256=sha256(f"{file.sha256} {readings}".encode()).hexdigest())


def _revised(memory: Memory, path: Path, options: ReadOptions, digest: str) -> str:
    """Say what to do where a known file, of before a revision, is read otherwise now than it was taken in; '' where it is not."""
    files, events = memory.ledger.files(memory.name), memory.ledger.events(memory.name)
    if not (events.loc[events["kind"] == "revised", "at"] > files.loc[files["sha256"] == digest, "at"].max()).any():
        return ""
    try:
        file = read_assay(path, memory.config, **known(memory, options, digest))
    except LabloopError:  # more was said of it then than is now
        return ""
    if has_all(memory, file):
        return ""
    of = f"{shlex.quote(options.name or printable(str(path)))} -c {memory.name}"
    of += f" {assay_options([options.assay])}" if options.assay else ""
    return (
        "but as the campaign reads it now it holds other values: where those are right, "
        f"labloop correct {of} --reason … puts them in the place of what stands"
    )


def _known(memory: Memory, name: str, digest: str, otherwise: str = "") -> Receipt:
    """Known bytes change nothing.

    Args:
        otherwise: what is to be said of them nevertheless.
    """
    catch_up(memory)  # the process that stored it may have died before it got here
    return Receipt(
        file=name, sha256=digest, dialect="", n_rows=0, n_measured=0, n_failed=0, n_new_designs=0, stored=False,
        note=f"{name} is in the ledger already{f', {otherwise}' if otherwise else ': nothing to do'}",
    )  # fmt: skip


def _fresh(memory: Memory, file: AssayFile, options: ReadOptions) -> AssayFile:
    """Leave out what the ledger has already, or refuse the file; one that is said to be measured anew is taken as it is."""
    if options.again:
        return replace(file, dialect=f"{file.dialect}; measured anew, as was said")
    file = replace(file, dialect="; ".join([file.dialect, *doubts(memory, file)]))
    rows, left_out = fresh(memory, file)
    if not left_out:
        return file
    designs = file.designs[file.designs["design_id"].isin(rows["design_id"])]
    return replace(
        file, measurements=rows, designs=designs, new=tuple(one for one in file.new if one in set(designs["design_id"])),
        dialect=f"{file.dialect}; {left_out}",
    )  # fmt: skip


def _receipt(read: AssayFile, *, stored: bool, note: str, warnings: tuple[str, ...] = ()) -> Receipt:
    measured = read.measurements["status"].isin(state.MEASURED)
    return Receipt(
        file=read.name, sha256=read.sha256, dialect=read.dialect, n_rows=len(read.measurements),
        n_measured=int(measured.sum()), n_failed=int((~measured).sum()), n_new_designs=len(read.new), stored=stored, note=note,
        warnings=warnings,
    )  # fmt: skip


def correct(
    memory: Memory, path: Path | str, options: ReadOptions, *, reason: str, dry_run: bool,
    grown_from: int | None = None,
) -> Corrected:  # fmt: skip
    """Read a corrected file and let its readings supersede those that stand of the same wells; see `Campaign.correct`.

    Args:
        grown_from: rows that the file had, where an inbox's file was written on after it was taken; see `correction`.
    """
    file = _read(memory, path, options, _identity(memory, sha256_of(path), options))
    done = correction.correct(memory.ledger, memory.name, file, reason=reason, dry_run=dry_run, grown_from=grown_from)
    if not dry_run:
        catch_up(memory)
    return done


def explain(memory: Memory, path: Path | str, options: ReadOptions) -> Explanation:
    """Tell what `ingest` would make of a file."""
    digest = _identity(memory, sha256_of(path), options)
    told = explain_assay(path, memory.config, **known(memory, options, digest))
    if told.refusal is not None or _is_known(memory, digest, options):
        return told
    file = _read(memory, path, options, digest)
    if not memory.ledger.has_file(memory.name, file.sha256):
        try:
            return replace(told, dialect=_fresh(memory, file, options).dialect)
        except IngestError as error:
            return replace(told, refusal=error)
    return told


def catch_up(memory: Memory) -> None:
    """Do what follows from readings in the ledger: quality control, and rounds whose last well came in. Safe to repeat."""
    readings.check(memory)
    for number in state.complete(memory, memory.ledger.rounds(memory.name)):
        memory.ledger.advance(memory.name, number, RoundState.EXPORTED)
        memory.ledger.advance(memory.name, number, RoundState.MEASURED)
