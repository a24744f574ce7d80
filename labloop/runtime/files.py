"""Files that are there whole or not at all, and the file that says whose turn it is."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from labloop.errors import LabloopError

_DRAFT = ".labloop-draft"


def hash_of(path: Path) -> str:
    """Give the SHA-256 of a file's bytes, in hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder: each whole under a hidden name, and once all are on the disk renamed in their order.

    Nobody ever sees half of a file. Hidden drafts of a process that was killed are cleared away by the next that writes there.

    Raises:
        LabloopError: the folder cannot be made or written, or the disk is full; older files stay as they were. Only a rename
            that fails can leave some files new and others not.
    """
    at = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        with ExitStack() as drafts:
            written = []
            for name, content in files.items():
                at = folder / name
                file = drafts.enter_context(_draft(at))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                written.append((file, at))
            for file, at in written:
                file.close()  # no earlier: an open draft is not cleared away; and no later: Windows renames no open file
                os.replace(file.name, at)
        if os.name == "posix":
            _sync(folder)
    except OSError as error:
        raise LabloopError(
            f"{at}: cannot be written: {error.strerror or error}; free the disk or choose another folder"
        ) from error


@contextmanager
def _draft(path: Path) -> Iterator[BinaryIO]:
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_DRAFT}")
    try:
        with name.open("xb") as file:
            with suppress(OSError):  # a network folder that knows no locks: nobody can clear away there either
                _hold(file)
            yield file
    finally:
        name.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    """Remove the drafts that no living process holds; the kernel lets go of them when their process dies, however it dies."""
    for draft in folder.glob(f".*{_DRAFT}"):
        with suppress(OSError):  # it is being written, or somebody else has cleared it away
            with draft.open("rb+") as file:
                _hold(file)
            draft.unlink()


def _hold(file: BinaryIO) -> None:
    if os.name == "posix":  # elsewhere an open file cannot be removed, which serves as well
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync(folder: Path) -> None:
    """Make renames in a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write one file whole or not at all, see `write_all`."""
    write_all(path.parent, {path.name: content})
    return path


def write_text(path: Path, content: str) -> Path:
    """Write UTF-8 text whole or not at all, see `write_bytes`."""
    return write_bytes(path, content.encode("utf-8"))


def cached(name: str, make: Callable[[], str]) -> str:
    """Give a text that takes long to make and is always the same: made once, then read from this user's folder for such.

    It is made again where that folder is not there and cannot be made.
    """
    with suppress(OSError, RuntimeError, UnicodeDecodeError):  # there may be no home
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labloop" / name
        if place.exists():
            return place.read_text(encoding="utf-8")
        with suppress(LabloopError):
            write_text(place, text := make())
        return text
    return make()


@contextmanager
def turn(folder: Path, *, wait: float = 0) -> Iterator[bool]:
    """Take a folder's turn to be worked on, and say whether it was free; the kernel frees it if this process dies.

    Args:
        wait: seconds to wait for another process to end its turn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "step.lock")
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
