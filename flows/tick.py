"""The tick: one short flow that brings a campaign as far as it can go now, then ends. Nothing runs while the lab works.

It holds nothing: what is done is in the ledger, and a tick that was killed, or came twice, is made good by the next one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import flow, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.states import Completed

from labloop.campaign import step as steps
from labloop.campaign.facade import Campaign
from labloop.errors import LabloopError
from labloop.ledger.states import RoundState
from labloop.rounds.policy import Action
from labloop.runtime.files import turn
from labloop.runtime.progress import listening

from .page import publish


# No caching: the ledger knows what is trained, and Prefect's cache keys do not tell two proposers apart.
@task(task_run_name="train-{proposer}", cache_policy=NO_CACHE, persist_result=False, retries=1)
def train(campaign: str, number: int, proposer: str, key: str) -> str:
    """Train one proposer and store its pool in the ledger, unless it is there."""
    with listening(_Bars(proposer)):
        return _perform(campaign, Action(kind="train", round=number, what=key, label=proposer))


@task(task_run_name="{action.kind}", cache_policy=NO_CACHE, persist_result=False)
def act(campaign: str, action: Action) -> str:
    """Do one action that is no training: ingest, open, propose, ask, export, close."""
    return _perform(campaign, action)


def _perform(campaign: str, action: Action) -> str:
    with _logged():
        return steps.perform(Campaign.open(campaign), action).said


def _run_name() -> str:
    campaign = str(flow_run.parameters["campaign"])
    rounds = Campaign.open(campaign).ledger.rounds(campaign)
    number = rounds[-1].number + (rounds[-1].state == RoundState.CLOSED) if rounds else 1
    return f"{campaign}-round-{number}"


# Prefect's default runner shares torch's threads and one device between trainings, so tasks are called one after the other.
# The ledger's place comes from the environment that serves the flow: a caller of Prefect's API names a campaign, never a path.
@flow(name="tick", flow_run_name=_run_name, persist_result=False)
def tick(campaign: str, once: bool = False) -> State[Any]:
    """Bring a campaign as far as it can go now: files of its inbox, trainings, plate, comparison.

    Args:
        campaign: The campaign's name, as labloop init gave it.
        once: Stop after one action, such as a training; else go on until the lab, a person or the calendar is waited for.
    """
    run = Campaign.open(campaign)
    with turn(run.folder) as free:
        if not free:
            return Completed(message=steps.busy(run).said)
        did: list[str] = []
        try:
            while not (action := steps.next_action(run)).rests:
                if action.kind == "train":
                    train(campaign, action.round, action.label, action.what)
                else:
                    act(campaign, action)
                did.append(action.kind)
                if once:
                    break
            if did:
                publish(run, steps.next_action(run))
        except LabloopError as error:  # the campaign's page says too what has to be mended
            with suppress(LabloopError):
                publish(run, Action(kind="wait", waits_for="a person", reason=str(error)))
            raise
    told = [", ".join(did)] if did else []
    return Completed(message=": ".join([*told, action.reason] if action.rests else told))


@contextmanager
def _logged() -> Iterator[None]:
    """Show labloop's log in the run's."""
    log, handler = logging.getLogger("labloop"), APILogHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Bars:
    """A progress artifact for each long piece of a training; each update is a call to the server, so there are few."""

    def __init__(self, proposer: str) -> None:
        self.proposer = proposer
        self.bars: dict[str, tuple[UUID, float]] = {}
        self.began = time.monotonic()

    def __call__(self, label: str, done: int, total: int) -> None:
        now = time.monotonic()
        bar, last = self.bars.get(label, (None, self.began))
        if now - last < 2 and (bar is None or done < total):
            return
        try:
            if bar is None:
                # Prefect's type counts in callers inside asyncio, who are given a coroutine; a task runs in a thread of its own.
                bar = cast("UUID", create_progress_artifact(100 * done / total, description=f"{self.proposer}: {label}"))
            else:
                update_progress_artifact(bar, 100 * done / total)
            self.bars[label] = (bar, now)
        except httpx.HTTPError:  # a server that is away for a while must not end a training
            self.began = now + 60
            self.bars.pop(label, None)
