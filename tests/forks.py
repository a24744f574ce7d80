"""`pytest --forks 3`: the tests in forks of this process, which has imported what they need: torch and its like take seconds.

A fork does one group of tests after the other, such as a file: what shares a fixture. Linux only; `-n` of pytest-xdist, whose
workers import for themselves, does the same elsewhere.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest

Group = list[int]
"""Tests by their place among those that were collected."""


def run(session: pytest.Session, forks: int, group_of: Callable[[str], str]) -> None:
    """Run what was collected in so many forks, the groups in the order of their first tests.

    Args:
        group_of: the group of a test, by its node id.
    """
    groups: dict[str, Group] = {}
    for place, item in enumerate(session.items):
        groups.setdefault(group_of(item.nodeid), []).append(place)
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # made here, for all
    todo = deque(groups.values())
    crew = [_Worker(session, number) for number in range(min(forks, len(todo)))]
    try:
        while crew:
            for pipe in wait([one.pipe for one in crew]):
                (worker,) = [one for one in crew if one.pipe is pipe]
                if not worker.hear(todo):
                    crew.remove(worker)
                    if worker.end(todo):
                        crew.append(_Worker(session, worker.number + forks))
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)
    finally:
        for worker in crew:
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)


class _Worker:
    """A fork, as its parent sees it."""

    def __init__(self, session: pytest.Session, number: int) -> None:
        self.number, self.session, self.hook = number, session, session.config.hook
        self.rest: deque[int] = deque()
        """What is left of its group, the test that it is at first."""
        self.pipe, theirs = Pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self.pipe.close()
            _be_worker(session, number, theirs)
        theirs.close()

    def hear(self, todo: deque[Group]) -> bool:
        """Take what it tells; False where it has ended."""
        try:
            what, *told = self.pipe.recv()
        except (EOFError, ConnectionError):
            return False
        if what == "next":
            self.rest = deque(todo.popleft() if todo else ())
            self.pipe.send(list(self.rest))
        elif what == "report":
            report = self.hook.pytest_report_from_serializable(config=self.session.config, data=told[0])
            self.hook.pytest_runtest_logreport(report=report)
        elif what == "warning":
            message, when, nodeid, location = told
            self.hook.pytest_warning_recorded.call_historic(
                kwargs={"warning_message": message, "when": when, "nodeid": nodeid, "location": location}
            )
        else:
            item = self.session.items[self.rest[0]]
            getattr(self.hook, f"pytest_runtest_log{what}")(nodeid=item.nodeid, location=item.location)
            if what == "finish":
                self.rest.popleft()
        return True

    def end(self, todo: deque[Group]) -> bool:
        """Take note of how it ended: a test that it died of has failed; True where its place is to be filled."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if not code and not self.rest:
            return False
        place = self.rest.popleft() if self.rest else -1
        item = self.session.items[place]
        told = f"the process of this test ended with {code}; it printed why, if it could" if place >= 0 else "a worker failed"
        self.hook.pytest_runtest_logreport(
            report=pytest.TestReport(item.nodeid, item.location, {}, "failed", f"{item.nodeid}: {told}", "call")
        )
        if self.rest:
            todo.appendleft(list(self.rest))
        return bool(todo)


def _be_worker(session: pytest.Session, number: int, pipe: Connection) -> None:
    """Do as a fork does; never returns."""
    code = 1
    try:
        _work(session, number, pipe)
        atexit._run_exitfuncs()
        code = 0
    except BaseException:  # noqa: BLE001  (it must not return into the parent's pytest)
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def _work(session: pytest.Session, number: int, pipe: Connection) -> None:
    config = session.config
    config.pluginmanager.unregister(name="terminalreporter")
    teller = _Teller(config, pipe)
    config.pluginmanager.register(teller)  # which is told all earlier warnings
    teller.listens = True
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()  # its files are the parent's too
    capture.start_global_capturing()
    factory: Any = config._tmp_path_factory  # type: ignore[attr-defined]
    factory._basetemp = factory.getbasetemp() / f"fork{number}"
    factory._basetemp.mkdir()
    while True:
        pipe.send(("next",))
        if not (group := pipe.recv()):
            break
        items = [session.items[place] for place in group]
        for item, after in zip(items, [*items[1:], _Elsewhere(items[-1])]):
            pipe.send(("start",))
            config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            pipe.send(("finish",))
    session._setupstate.teardown_exact(None)


class _Elsewhere:
    """Stands for a test of another file: what belongs to the session stays, all else of the last test ends."""

    def __init__(self, item: pytest.Item) -> None:
        self._above = [node for node in item.listchain() if not isinstance(node, pytest.Module | pytest.Class | pytest.Item)]

    def listchain(self) -> Iterable[pytest.Collector | pytest.Item]:
        return self._above


class _Teller:
    """Tells the parent what a fork's tests say."""

    def __init__(self, config: pytest.Config, pipe: Connection) -> None:
        self.config, self.pipe, self.listens = config, pipe, False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.pipe.send(("report", self.config.hook.pytest_report_to_serializable(config=self.config, report=report)))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        if not self.listens:
            return
        told = UserWarning(f"{warning_message.category.__name__}: {warning_message.message}")  # what can be sent for sure
        plain = warnings.WarningMessage(told, UserWarning, warning_message.filename, warning_message.lineno)
        self.pipe.send(("warning", plain, when, nodeid, location))
