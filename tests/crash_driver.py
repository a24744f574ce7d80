"""The driver of the crash test: a server process, warm with all imports, that forks a child to do a lab's steps and kills it.

A child that dies by SIGKILL leaves locks, half-written files and open transactions exactly as a killed `labloop` does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from labloop.campaign.facade import Campaign
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig

ROUND = parse_config(
    {
        "arms": {
            "offline": {"proposers": "fakes:Near", "selector": {"conservative": {"beta": 1.0}}, "pool": 100},
            "free": {"proposers": {"fakes:Near": {"shift": 1}, "random": {}}, "wells": 32},
        },
        "judge": "fakes:Flat",
    },
    RoundConfig,
)


def live(config: str, home: str, ledger: str, start: str, parts: list[str]) -> None:
    """Do all that a lab does in a round, each step as a person would run it again after a crash."""
    from labloop.ledger.memory import campaigns

    if not campaigns(home=home, ledger=ledger):
        Campaign.create(config, home=home, ledger=ledger)
    name = campaigns(home=home, ledger=ledger)[0]
    Campaign.open(name, home=home, ledger=ledger).ingest(start)
    run = Campaign.open(name, home=home, ledger=ledger)
    if run.state(1) in (None, "READY", "TRAINED", "PROPOSED"):
        run.propose(ROUND, out=Path(home) / "out")
    for part in parts:
        Campaign.open(name, home=home, ledger=ledger).ingest(part)
    run = Campaign.open(name, home=home, ledger=ledger)
    comparison = run.close(1)
    assert comparison is not None
    (Path(home) / "comparison.txt").write_text(comparison.sentence)


def together(works: Sequence[Callable[[], None]]) -> None:
    """Do several things at once, each in a child of its own.

    Raises:
        RuntimeError: one of them failed.
    """
    children = [_fork(work) for work in works]
    ended = [_well(os.waitpid(child, 0)[1]) for child in children]
    assert all(ended)


def in_child(work: Callable[[], None], *, kill_after: float | None = None) -> tuple[bool, float]:
    """Fork, work in the child, kill it after some seconds if it still runs; returns whether it ended well, and the seconds.

    Raises:
        RuntimeError: the child failed of itself; what it said stands on standard error.
    """
    begun = time.perf_counter()
    child = _fork(work)
    if kill_after is not None:
        while time.perf_counter() - begun < kill_after:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return _well(status), time.perf_counter() - begun
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return _well(status), time.perf_counter() - begun


def _fork(work: Callable[[], None]) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001  (the child must not return into pytest)
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def _well(status: int) -> bool:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError("the child failed of itself")
    return True
