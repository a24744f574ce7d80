"""Runs that begin at once: each is a process of its own, forked from one that has imported Prefect and labloop already.

Prefect's runner starts a new Python for every run, which imports for seconds before it looks at the campaign. Here Python's
forkserver imports once, and forks a process for each run: a training that is killed or takes all memory ends nothing but itself.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from multiprocessing import forkserver
from typing import Self
from uuid import UUID

import anyio.to_thread
import prefect.flow_engine  # noqa: F401  (what a run imports first: so it is there before the fork)
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus
from prefect.client.schemas.objects import FlowRun
from prefect.runner import Runner
from prefect.runner._control_channel import ControlChannel
from prefect.runner._process_manager import ProcessHandle

from .tick import tick


class WarmRunner(Runner):
    """Prefect's runner for ticks, but for how their processes start; on Linux only, elsewhere it is Prefect's own.

    On other systems a library may not work in a process that was forked.
    """

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if sys.platform == "linux":
            multiprocessing.set_forkserver_preload([__name__, "scipy.stats", "labloop.report.page"])  # compare and show a round
            forkserver.ensure_running()  # imports while nothing is due yet
            # Prefect has no public word for it: this is where its own ways to start a process are chosen (3.8.8 and 3.9.1 alike).
            starter = _Fork(self._control_channel)
            self._scheduled_run_poller._resolve_starter = lambda run: starter
        return self


class _Fork:
    """Starts a run in a forked process (Prefect's `ProcessStarter`)."""

    def __init__(self, channel: ControlChannel) -> None:
        self._channel = channel
        """By it Prefect tells a run that it is cancelled before it ends it."""
        self._context = multiprocessing.get_context("forkserver")

    async def start(self, flow_run: FlowRun, task_status: TaskStatus[ProcessHandle] = TASK_STATUS_IGNORED) -> None:
        environment = {"PREFECT__FLOW_RUN_ID": str(flow_run.id), "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false"}
        try:
            port, token = self._channel.register(flow_run.id)
            environment |= {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        except RuntimeError:  # there is no channel: a cancelled run is ended without a word, as Prefect does then
            pass
        process = self._context.Process(target=run_here, args=(flow_run.id, environment))
        try:
            await anyio.to_thread.run_sync(process.start)
        except OSError:  # no memory or process left: Prefect says of the run that it crashed
            self._channel.unregister(flow_run.id)
            raise
        task_status.started(ProcessHandle(process))  # type: ignore[arg-type]  # it names other start methods; all behave alike
        await anyio.to_thread.run_sync(process.join)


def run_here(identity: UUID, environment: dict[str, str]) -> None:
    """Run a tick that the server knows in this process, as `python -m prefect.engine` does: by that very module."""
    os.environ.update(environment)
    os.environ["PREFECT__FLOW_ENTRYPOINT"] = f"{tick.__module__}.{tick.fn.__name__}"
    sys.argv = ["prefect.engine", str(identity)]  # a fork has its parent's
    sys.modules.pop("prefect.engine", None)
    runpy.run_module("prefect.engine", run_name="__main__")
