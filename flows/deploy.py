"""`labloop schedule`: every scheduled campaign as a deployment of the tick, served by this process, one run at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.runner import Runner
from prefect.states import Crashed

from labloop.campaign.facade import Campaign
from labloop.campaign.overview import scheduled
from labloop.campaign.step import inbox_of
from labloop.errors import LabloopError
from labloop.runtime.environment import VARIABLES, Environment
from labloop.runtime.files import turn
from labloop.runtime.prefect_api import LOGIN, OPEN, NoAnswer, Server, bench_page, report_key

from .arrivals import keep_watching
from .tick import tick

log = logging.getLogger("labloop")

HEARTBEAT = 60
"""Seconds between a run's signs of life."""

DEAD = 10
"""Signs of life that a run may miss before it counts as dead: a busy computer misses some."""

_ALIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]

NEW = 30
"""Seconds between looks for campaigns that were made meanwhile."""

ABOUT = """\
Brings {campaign} as far as it can go now, then ends: takes files from the inbox, trains, lays out the plate, compares.

[Where {campaign} stands](/artifacts/key/{page}): whom it waits for, its rounds, the verdict, the figure; the newest is on top.
{back}
"Run" looks at once; the schedule and `labloop ingest` do so by themselves. A run too many does no harm.

Whoever should see this page logs in with all of what stands behind `PREFECT_SERVER_API_AUTH_STRING=`, such as `lab:PASSWORD`, in
the one field of the login; "Authentication failed" means that it is not that.
"""
"""What a person reads beside a deployment, in Markdown; Prefect's menu does not lead to the page."""

AUTOMATION = "labloop: a dead tick is crashed"


def serve(
    *, home: Path | str | None = None, ledger: str | None = None, cron: str = "*/15 * * * *", patience: float = 60,
    no_auth: bool = False,
) -> None:  # fmt: skip
    """Serve the tick of every scheduled campaign until the process is stopped.

    Args:
        home: folder of ledger and reports, as `labloop --home`.
        ledger: database URL, as `labloop --ledger`.
        cron: when each campaign is looked at.
        patience: seconds to wait for the server, which may be starting too.
        no_auth: serve a server that has no password too.

    Raises:
        LabloopError: no server is named or answers, it has no password, or another process serves this folder.
    """
    place = Path(home or Environment.now().home or "labloop-data").absolute()
    server = _wait_for_server(patience)
    _want_password(server, no_auth=no_auth)
    # Runs are processes of their own: they find the ledger through the environment, never through what Prefect stores.
    os.environ[VARIABLES["home"]] = str(place)
    if ledger is not None:
        os.environ[VARIABLES["ledger"]] = ledger
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT))
    with turn(place / ".schedule") as free:
        if not free:
            raise LabloopError(f"another labloop schedule serves {place}: stop it first, or name another folder with --home")
        log.info("serving the campaigns in %s by the Prefect server at %s", place, server.url)
        asyncio.run(_serve(place, cron))


async def deployment_of(campaign: str, *, cron: str) -> RunnerDeployment:
    """The deployment of one campaign's tick. It names a module, not a file: it runs wherever labloop is installed."""
    made = await tick.ato_deployment(
        name=campaign, cron=cron, parameters={"campaign": campaign}, tags=["labloop"],
        description=_about(campaign), entrypoint_type=EntrypointType.MODULE_PATH,
    )  # fmt: skip
    return made


def _runner() -> Runner:
    """Prefect's runner; its ticks begin warm where this Prefect still has the inner parts that this takes."""
    # A restart must not stop the clock, so schedules stay on while nobody serves; one run at a time has the device to itself.
    how: dict[str, Any] = {"name": "labloop", "pause_on_shutdown": False, "limit": 1}
    try:
        from .warm import WarmRunner
    except ImportError as error:
        log.warning("every run starts a Python of its own, which takes seconds: this Prefect has no %s", error.name)
        return Runner(**how)
    return WarmRunner(**how)


async def _serve(place: Path, cron: str) -> None:
    """Run what is due, and register campaigns that are new, or that a new database of the server no longer knows."""
    runner = _runner()

    async def add_missing() -> None:
        async with get_client() as client:
            served = {
                one.name for one in await client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[tick.name])))
            }
        here = scheduled(home=place)
        for campaign in here:
            if campaign.name not in served & known:
                identity = await runner.aadd_deployment(await deployment_of(campaign.name, cron=cron))
                await _clear_leftovers(campaign, identity)
                await _look_now(identity)
                log.info("%s is served", campaign.name)
        if not known or known - served:
            await _watch_for_dead_runs()
        known.update(campaign.name for campaign in here)
        inboxes.update({campaign.name: inbox_of(campaign) for campaign in here})

    async def keep_adding() -> None:
        while True:
            await asyncio.sleep(NEW)
            try:
                await add_missing()
            except (httpx.HTTPError, LabloopError) as error:  # a server or ledger that is away for a while
                log.warning("no new campaign is looked for now: %s", error)

    known: set[str] = set()
    inboxes: dict[str, Path] = {}
    await add_missing()
    beside = [asyncio.create_task(keep_adding()), asyncio.create_task(keep_watching(inboxes))]
    try:
        await runner.start()
    finally:
        for task in beside:
            task.cancel()


async def _clear_leftovers(campaign: Campaign, deployment: UUID) -> None:
    """Say of runs that a crash left as running that they are dead; a process that is still at work keeps its run."""
    with turn(campaign.folder) as free:
        if not free:
            return
        async with get_client() as client:
            left = await client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ALIVE))),
            )
            for run in left:
                await client.set_flow_run_state(run.id, Crashed(message="left behind by a process that died"), force=True)
                log.info("%s: the run %s was left behind by a process that died", campaign.name, run.name)


async def _look_now(deployment: UUID) -> None:
    """Ask for one run at once: what came in while nobody served need not wait for the clock."""
    async with get_client() as client:
        await client.create_flow_run_from_deployment(deployment, tags=["labloop"])


async def _watch_for_dead_runs() -> None:
    """Have the server itself call a tick crashed that gives no sign of life any more."""
    wanted = Automation(
        name=AUTOMATION,
        description="A tick whose process died would count as running for ever.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification({"prefect.resource.role": ["flow"], "prefect.resource.name": [tick.name]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=HEARTBEAT * DEAD),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no sign of life any more")],
    )
    async with get_client() as client:
        for old in await client.read_automations_by_name(AUTOMATION):
            await client.delete_automation(old.id)
    await wanted.acreate()


def _about(campaign: str) -> str:
    back = bench_page(campaign)
    told = f"\n[Plates, results and approval]({back}) are on the page of `labloop serve`.\n" if back else ""
    return ABOUT.format(campaign=campaign, page=report_key(campaign), back=told)


def _want_password(server: Server, *, no_auth: bool) -> None:
    """Refuse a server that obeys everybody, unless that is wanted; tell how to log in on the others' page."""
    if not server.is_open():
        log.info("%s: %s", server.url.removesuffix("/api"), LOGIN)
    elif no_auth:
        log.warning("the Prefect server at %s has no password: %s", server.url, OPEN)
    else:
        raise LabloopError(
            f"the Prefect server at {server.url} has no password: {OPEN}. Start it with "
            "PREFECT_SERVER_API_AUTH_STRING=lab:PASSWORD, and this with PREFECT_API_AUTH_STRING=lab:PASSWORD; "
            "--no-auth serves it as it is"
        )


def _wait_for_server(patience: float) -> Server:
    server = Server.configured()
    if server is None:
        raise LabloopError(
            "no Prefect server is named: start one with 'prefect server start' and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    until = time.monotonic() + patience
    while True:
        try:
            server.deployments()
            return server
        except NoAnswer as error:
            if time.monotonic() > until:
                raise LabloopError(f"{error}: start it with 'prefect server start', then run this again") from error
            time.sleep(1)
