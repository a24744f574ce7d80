"""What the tests of the scheduler share: a campaign with a schedule, its command line, and processes that end with the test."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress

from labloop.cli import main
from labloop.runtime.prefect_api import NoAnswer

ROUND = {
    "arms": {
        "offline": {"proposers": "fakes:Near", "selector": {"conservative": {"beta": 1.0}}, "pool": 150},
        "free": {"proposers": "random"},
    },
    "judge": "fakes:Flat",
}


def run(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def die_with_the_test() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing of ours outlives the tests


@contextmanager
def process(arguments, environment, log):
    """A process with a group of its own, all of which is killed at the end."""
    with log.open("wb") as file:
        child = subprocess.Popen(
            arguments, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=die_with_the_test,
        )  # fmt: skip
        try:
            yield child
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


PATIENCE = 300.0
"""Seconds after which what is waited for does not come: it is long, for a machine that does much else, and costs only a fault."""


def until(what, seconds: float = PATIENCE):
    """Wait for something true, looking five times a second at first; returns it. A server without an answer is asked again."""
    begun, last = time.monotonic(), None
    while True:
        try:
            found = what()
        except NoAnswer as error:
            found, last = None, error
        if found:
            return found
        waited = time.monotonic() - begun
        assert waited < seconds, f"it did not come: {last or what}"
        time.sleep(min(1.0, 0.2 + waited / 20))  # a look costs a server as much as many a test
