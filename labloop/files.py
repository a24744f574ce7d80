"""Files that are there whole or not at all, and the file that says whose turn it is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from labloop.errors import LabloopError


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file under a temporary name beside its place, then rename it: nobody ever sees half of it.

    Raises:
        LabloopError: the folder cannot be made or written, or the disk is full; an older file of the name stays as it was.
    """
    name = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        raise LabloopError(f"{path}: cannot be written: {error.strerror}; free the disk or choose another folder") from error
    return path


def write_text(path: Path, content: str) -> Path:
    """Write UTF-8 text whole or not at all, see `write_bytes`."""
    return write_bytes(path, content.encode("utf-8"))


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
