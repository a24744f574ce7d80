"""Open a file: find the reader that knows it, and let it read."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labloop.assays.ingest.cells import Part
from labloop.assays.ingest.reader import Reader
from labloop.assays.ingest.text import decode
from labloop.errors import IngestError
from labloop.registry import available, create

LARGEST = 1 << 30
"""Bytes of a file: ten times what a million readings take."""

_GENERAL = "long"
"""The reader that takes any text; one that knows the format better comes first."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A file as its reader gives it."""

    reader: str
    what: str
    """What the reader recognised, one line."""
    parts: tuple[Part, ...]


def recognise(content: bytes, name: str) -> dict[str, str]:
    """Ask every reader; returns what those who know the file say it is."""
    found = {reader: what for reader, plugin in _readers().items() if (what := plugin.recognise(content, name)) is not None}
    return {reader: what for reader, what in found.items() if reader != _GENERAL} or found


@cache
def _readers() -> dict[str, Reader]:
    """Make every reader once a process: they have neither options nor state, and finding them takes longer than a small file."""
    return {name: create("readers", name) for name in available("readers")}


def open_file(content: bytes, name: str, known: Collection[str], *, reader: str | None = None) -> Opened:
    """Read a file with the reader that recognises it, or with the one that is asked for.

    Args:
        known: column names that the campaign knows.

    Raises:
        IngestError: no reader knows it, or several do and none is asked for, or it cannot be read.
        ConfigError: there is no reader of that name.
    """
    asked = reader
    if reader is None:
        found = recognise(content, name)
        if not found:
            decode(content, name)  # says what is wrong with the file, where it is no text
            raise IngestError(
                f"{name}: no reader knows this file; there are: {', '.join(_readers()) or 'none, install labloop again'}"
            )
        if len(found) > 1:
            what = " or ".join(f"{what} (--reader {one})" for one, what in found.items())
            raise IngestError(f"{name}: can be read as {what}: choose one, or set assays.….reader")
        reader, what = next(iter(found.items()))
    else:
        what = f"what reader {reader!r} makes of it"
    plugin: Reader = _readers().get(reader) or create("readers", reader)
    parts: Sequence[Part] = plugin.read(content, name, known=known)
    if not parts and asked is None and (table := _readers()[_GENERAL].recognise(content, name)) is not None:
        reader, what, parts = _GENERAL, table, _readers()[_GENERAL].read(content, name, known=known)
    if not parts:
        raise IngestError(f"{name}: reader {reader!r} found no table in it")
    return Opened(reader, what, tuple(parts))


def sha256_of(path: Path | str) -> str:
    """Give the SHA-256 of a file's bytes, by which the same file is known again.

    Raises:
        IngestError: it cannot be read.
    """
    return digest(content_of(Path(path)))


def digest(content: bytes) -> str:
    """Give the SHA-256 of bytes as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def content_of(path: Path) -> bytes:
    """Read a file's bytes.

    Raises:
        IngestError: it cannot be read, or is no file, or has more bytes than any file of a lab.
    """
    if open_now := re.match(r"~\$(.+)|\.~lock\.(.+)#$", printable(path.name)):
        name = open_now[1] or open_now[2]
        raise IngestError(f"{printable(path)}: only says that {name} is open in a spreadsheet: close it there, and name {name}")
    try:
        # A pipe that nobody writes to would keep a plain `open` waiting for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or a device"
                raise IngestError(f"{printable(path)}: is {kind}, not a file: name the file itself")
            if about.st_size > LARGEST:
                raise IngestError(
                    f"{printable(path)}: has {about.st_size >> 20} MB, more than the {LARGEST >> 20} MB of one file: split it"
                )
            return file.read(LARGEST + 1)
    except OSError as error:
        hints = {
            FileNotFoundError: "; mend its name, or name the folder that it is in",
            IsADirectoryError: ": name the file itself",
        }
        hint = hints.get(type(error), "")
        raise IngestError(f"{printable(path)}: cannot be read: {error.strerror or error}{hint}") from error


def printable(path: Path | str) -> str:
    """Give a path, or a file's name, as any program can print and store it: a byte that is no UTF-8 is shown as `�`."""
    return os.fsencode(path).decode("utf-8", errors="replace")
