"""Commands of labloop's own in processes that begin at once: forks of one that has imported labloop, and opened nothing.

A new Python imports for seconds before it looks at the campaign. Python's forkserver imports once, beside the pages; a command
that is killed or takes all memory ends nothing but itself.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import IO, Any, Protocol

_HERE = sys.platform == "linux"
"""On other systems a library may not work in a process that was forked: each command is a Python of its own."""
_NEEDED = (
    "labloop.campaign.facade", "labloop.campaign.step", "labloop.cli.app", "labloop.rounds.judging", "labloop.studies.backtest",
    "labloop.report.page", "scipy.stats",
)  # fmt: skip
"""What commands import; nothing of it touches a device or starts a thread. What is not installed is left out."""


class Child(Protocol):
    """A process that was started."""

    def poll(self) -> int | None:
        """Give its exit code, negative for a signal; None while it is at work."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends.

        Raises:
            subprocess.TimeoutExpired: it is at work still.
        """
        ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


def get_ready() -> None:
    """Let what commands are forked from import, while none is wanted yet."""
    if _HERE:
        multiprocessing.set_forkserver_preload([__name__, *_NEEDED])
        forkserver.ensure_running()


def begin(command: Sequence[str], *, environment: Mapping[str, str], out: IO[bytes], err: IO[bytes]) -> Child:
    """Begin a command of the command line, without the program's name, in the folder of this process."""
    if not _HERE:
        run = [sys.executable, "-c", "from labloop.cli import run; run()"]
        return subprocess.Popen([*run, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(environment))
    get_ready()
    return _Fork(command, environment, out, err)


class _Fork:
    """A command in a fork."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], out: IO[bytes], err: IO[bytes]) -> None:
        told = list(command), dict(environment), Path.cwd(), _Handed(out.fileno()), _Handed(err.fileno())
        self._process = multiprocessing.get_context("forkserver").Process(target=_do, args=told)
        self._command = command
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._command, timeout or 0.0)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


class _Handed:
    """A file's number, which in the other process is another one."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _taken, (reduction.DupFd(self.number),)


def _taken(file: Any) -> _Handed:
    return _Handed(file.detach())


def _do(command: list[str], environment: dict[str, str], folder: Path, out: _Handed, err: _Handed) -> None:
    """Be the command."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(out.number, 1)
    os.dup2(err.number, 2)
    sys.exit(import_module("labloop.cli").main(command))
