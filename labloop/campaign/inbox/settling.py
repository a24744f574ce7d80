"""When a file that somebody writes is whole: it has not changed for a while, and it ends as files of its kind do.

How long it has not changed is told by two looks at it and a clock that nobody sets, or by the system's dates where they lie in
the past: a clock that is set back, or a file from a computer whose clock is ahead, makes it wait no longer.
"""

from __future__ import annotations

import json
import os
import platform
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from labloop.errors import LabloopError
from labloop.runtime.files import write_text

GRACE = 180.0
"""Seconds that a file which does not end as it should must have stayed as it is: many an instrument never ends its last line."""

AGAIN = 60.0
"""Seconds after which a file that could not be taken is tried again: somebody may have closed it."""

RESTLESS = 3600.0
"""Seconds after which nothing waits any more for a file that goes on changing, such as a log."""

_TAIL = 1 << 16
_BINARY = re.compile(b"[\x00-\x08\x0e-\x1f]")


@dataclass(frozen=True)
class Sight:
    """What a file looked like, and since when; the seconds are of this computer's clock since it started."""

    size: int
    changed: int
    """mtime, in nanoseconds."""
    inode: int
    since: float
    first: float
    stuck: str = ""
    """Why it could not be taken."""
    barred: str = ""
    """Who was allowed what there when it could not."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Why a file is not taken yet, and for how many seconds it must stay as it is."""

    why: str
    seconds: float


class Sights:
    """What was seen at earlier looks, kept in a small file that may be lost at any time: then looking begins anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._now = time.monotonic()
        self._before: dict[str, Sight] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):
            told = json.loads(path.read_bytes())
            if told["computer"] == _computer():
                self._before = {name: Sight(**one) for name, one in told["files"].items()}
        self._seen = dict(self._before)

    def see(self, name: str, about: os.stat_result) -> Sight:
        """Note a file as it is now; tells since when it is so."""
        old = self._seen.get(name)
        if old is None or old.first > self._now:
            sight = Sight(about.st_size, about.st_mtime_ns, about.st_ino, self._now, self._now)
        elif (old.size, old.changed, old.inode) == (about.st_size, about.st_mtime_ns, about.st_ino):
            sight = old
        else:
            sight = replace(old, size=about.st_size, changed=about.st_mtime_ns, inode=about.st_ino, since=self._now, stuck="")
        self._seen[name] = sight
        return sight

    def age(self, sight: Sight) -> float:
        """Seconds since a file is as it is, as far as it was looked at."""
        return self._now - sight.since

    def restless(self, sight: Sight) -> bool:
        """Whether a file has gone on changing for so long that nothing waits for it."""
        return self._now - sight.first > RESTLESS

    def stick(self, name: str, about: os.stat_result, why: str, *, allowed: str) -> None:
        """Note that a file cannot be taken; it is tried again once it is another one, `allowed` changes, or after `AGAIN`."""
        self._seen[name] = replace(self.see(name, about), since=self._now, stuck=why, barred=allowed)

    def rests(self, sight: Sight, *, allowed: str) -> bool:
        """Whether a file that could not be taken is left alone for now."""
        return bool(sight.stuck) and self.age(sight) < AGAIN and sight.barred == allowed

    def keep(self, names: Iterable[str]) -> None:
        """Remember the files of these names, forget all others, and write it down where that is new."""
        names = set(names)
        self._seen = {name: sight for name, sight in self._seen.items() if name in names}
        if self._seen != self._before:
            told = {"computer": _computer(), "files": {name: asdict(sight) for name, sight in self._seen.items()}}
            with suppress(LabloopError):  # a folder that nobody may write to: the system's dates must do
                write_text(self._path, json.dumps(told))

    def names(self) -> set[str]:
        """The files that are remembered."""
        return set(self._seen)


def _computer() -> str:
    """Which run of which computer the clock is of."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    with suppress(OSError):
        return f"{platform.node()} {boot.read_text().strip()}"
    return platform.node()


def waiting(path: Path, *, unchanged: float, settle: float) -> Waiting | None:
    """Say why a regular file is not whole yet; None where it is.

    Args:
        unchanged: seconds that it has stayed as it is.
        settle: seconds that any file must have stayed so.
    """
    if unchanged < settle:
        told = f"was written {max(unchanged, 0):.0f} s ago and is taken once it has not changed for {settle:.0f} s"
        return Waiting(why=told, seconds=settle - unchanged)
    if unchanged < GRACE and (odd := _unfinished(path)):
        told = f"{odd}: it is taken once the rest has come, or once it has not changed for {GRACE / 60:.0f} minutes"
        return Waiting(why=told, seconds=GRACE - unchanged)
    return None


def _unfinished(path: Path) -> str:
    """What is missing at the end of a file, '' where nothing is or where it cannot be told."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with suppress(OSError):  # whoever takes it says why it cannot be read
        with os.fdopen(os.open(path, flags), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            head = file.read(4096)
            file.seek(max(0, size - _TAIL))
            tail = file.read(_TAIL)
        if not head:
            return "is empty so far"
        if head.startswith(b"PK\x03\x04"):
            return "" if b"PK\x05\x06" in tail else "is a workbook without its end"
        wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
        if (wide or not _BINARY.search(head)) and not tail.rstrip(b"\0").endswith((b"\n", b"\r")):
            return "ends in the middle of a line"
    return ""
