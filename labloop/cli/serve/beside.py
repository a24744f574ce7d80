"""Counting over many readings, in a process beside the pages: where it shared their interpreter, each page would stand still."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from labloop.campaign.facade import Campaign
from labloop.cli.serve.settings import Settings
from labloop.errors import LabloopError
from labloop.ledger.memory import open_ledger, stored_config
from labloop.runtime.allowance import allow

MANY = 50_000
"""Readings from which a campaign is counted beside the pages."""


class Beside:
    """One process that answers questions about campaigns, one after the other; it is begun by the first, and again if it dies."""

    def __init__(self, settings: Settings) -> None:
        self._told = settings.home, settings.ledger, settings.plugins
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def ask(self, question: Callable[..., Any], campaign: str, more: Sequence[Any]) -> Any:
        """Call a function, importable by its name, on a campaign there.

        Raises:
            LabloopError: it cannot be answered.
        """
        try:
            value, refused = self._pool_now().submit(_answer, question, campaign, more).result()
        except BrokenProcessPool as error:
            with self._lock:
                self._pool = None
            raise LabloopError("the counting was ended from outside, perhaps for want of memory: open the page again") from error
        if refused:
            raise LabloopError(refused)
        return value

    def _pool_now(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=self._told)
            return self._pool

    def close(self) -> None:
        """End with the run."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            for process in list(pool._processes.values()):
                process.terminate()  # what it counts is wanted no more
            pool.shutdown(wait=True, cancel_futures=True)  # or its semaphores outlive this process


# ---- in the process

_PLACE: tuple[Path | None, str | None] = (None, None)
_HELD: dict[str, tuple[str, Campaign]] = {}


def _begin(home: Path | None, ledger: str | None, plugins: tuple[str, ...]) -> None:
    global _PLACE
    _PLACE = home, ledger
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the pages, which end this process
    allow(*plugins)


def _answer(question: Callable[..., Any], name: str, more: Sequence[Any]) -> tuple[Any, str]:
    try:
        return question(_opened(name), *more), ""
    except LabloopError as error:
        return None, str(error)


def _opened(name: str) -> Campaign:
    """Give a campaign with what it holds of its readings; one at a time, for they are many."""
    if name in _HELD:
        config, run = _HELD[name]
        if (now := run.ledger.config(name)) != config:
            _HELD[name] = now, Campaign(stored_config(run.ledger, name), run.ledger, run.folder.parent)
    else:
        place, ledger = open_ledger(*_PLACE)
        _HELD.clear()
        _HELD[name] = ledger.config(name), Campaign(stored_config(ledger, name), ledger, place)
    return _HELD[name][1]
