"""The commands of rounds that run by themselves: step, approve, reject, schedule."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Group
from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, app
from labloop.errors import LabloopError

if TYPE_CHECKING:
    from labloop.campaign.step import Step

_alone = Group("By itself", sort_key=1)
_DEFAULTS = Common()


@app.command(group=_alone)
def step(
    campaign: str,
    *,
    until: Literal["waiting"] | None = None,
    now: bool = False,
    retry: bool = False,
    common: Common = _DEFAULTS,
) -> None:
    """Do the one thing that a campaign needs next, as its `schedule` says: ingest, open, train, propose, export, close.

    Args:
        campaign: the campaign's name.
        until: `waiting`: go on until a person, the lab or the calendar is waited for.
        now: open the next round without waiting for the calendar or a person's call.
        retry: try trainings again that failed too often.
    """
    from labloop.campaign import step as steps

    common.start()
    run = common.open(campaign)
    if now:
        steps.call(run)
    if retry:
        steps.retry(run)
    taken: list[Step] = []
    with show.progress(json=common.json):
        while not taken or (until == "waiting" and not taken[-1].action.rests):
            taken.append(run.step())
            if not common.json:
                _say(taken[-1])
    if common.json:
        show.dump([_told(one) for one in taken])


@app.command(group=_alone)
def approve(campaign: str, *, reason: str = "", by: str = "", common: Common = _DEFAULTS) -> None:
    """Say yes to a proposed plate: its files are written for the lab at the next step.

    Args:
        campaign: the campaign's name.
        reason: kept in the ledger.
        by: who says so [default: $LABLOOP_USER, else the name you are logged in with].
    """
    common.start()
    run = common.open(campaign)
    number = run.approve(by=by, reason=reason)
    _decided({"campaign": campaign, "round": number, "verdict": "approved", "next": f"labloop step {campaign}"}, common)


@app.command(group=_alone)
def reject(campaign: str, *, reason: str, by: str = "", common: Common = _DEFAULTS) -> None:
    """Say no to a proposed plate: its round closes unmeasured, and the next step opens another with a seed of its own.

    Args:
        campaign: the campaign's name.
        reason: why, kept in the ledger. To change what the next round does, change its file first.
        by: who says so [default: $LABLOOP_USER, else the name you are logged in with].
    """
    common.start()
    run = common.open(campaign)
    number = run.reject(by=by, reason=reason)
    _decided({"campaign": campaign, "round": number, "verdict": "rejected", "next": f"labloop step {campaign}"}, common)


@app.command(group=_alone)
def schedule(
    *,
    status: bool = False,
    cron: str = "*/15 * * * *",
    no_auth: bool = False,
    common: Common = _DEFAULTS,
) -> None:
    """Run the rounds of all campaigns that have a `schedule`, by a Prefect server's clock; stays until it is stopped.

    Args:
        status: only tell what is planned and what waits for whom, with or without a server.
        cron: when each campaign is looked at; a look costs about a second.
        no_auth: serve a Prefect server that has no password, though whoever reaches it can run code on this computer.
    """
    common.start()
    if status:
        from labloop.campaign.overview import overview

        told = overview(home=common.home, ledger=common.ledger)
        return show.dump(told) if common.json else _print_overview(told)
    logging.getLogger("labloop").setLevel(logging.INFO)
    os.environ.setdefault("DO_NOT_TRACK", "1")  # before Prefect is imported
    try:
        deploy = import_module("labloop.flows.deploy")  # types are checked without the flows
    except ModuleNotFoundError as error:
        raise LabloopError(f"a schedule needs the package {error.name!r}: pip install 'labloop-toolkit[flows]'") from error
    deploy.serve(home=common.home, ledger=common.ledger, cron=cron, no_auth=no_auth)


def _print_overview(told: dict[str, Any]) -> None:
    show.out.print(Text(told["server"]))
    if not told["campaigns"]:
        show.out.print("No campaign has a schedule: put a section `schedule:` into its file before labloop init.")
    for one in told["campaigns"]:
        place = f", round {one['round']} {one['state']} since {one['since']}" if one["state"] else ""
        show.out.print(Text(f"\n{one['campaign']}{place}", style="bold"))
        show.out.print(Text(f"  waits for {one['waits_for']}: {one['what']}", style="yellow" if one["overdue"] else ""))
        if one["until"]:
            show.out.print(Text(f"  until {one['until']}, then it goes on by itself"))
        if one["prefect"]:
            show.out.print(Text(f"  Prefect: {one['prefect']}"))


def _decided(told: dict[str, Any], common: Common) -> None:
    from labloop.runtime.prefect_api import wake

    woken = wake(told["campaign"], f"{told['verdict']}-{told['round']}")
    if common.json:
        return show.dump(told)
    then = "" if woken else f" Next: {told['next']}"  # else the scheduler goes on, or it is said what to do in its place
    show.out.print(f"Round {told['round']} of {told['campaign']} is {told['verdict']}.{then}")
    show.note(woken)


def _say(step: Step) -> None:
    if step.action.kind == "wait":
        show.out.print(Text(f"Waiting for {step.action.waits_for}: {step.said}"))
    else:
        show.out.print(Text(step.said))


def _told(step: Step) -> dict[str, Any]:
    told = asdict(step.action)
    told["what"] = step.action.what.encode(errors="replace").decode()  # a file's name may hold bytes that are no text
    return {"campaign": step.campaign, **told, "said": step.said}
