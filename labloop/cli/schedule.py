"""The commands of rounds that run by themselves: step, approve, reject, schedule."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Group
from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, app

if TYPE_CHECKING:
    from labloop.step import Step

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
    from labloop import step as steps

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
        by: who says so [default: the name you are logged in with].
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
        by: who says so [default: the name you are logged in with].
    """
    common.start()
    run = common.open(campaign)
    number = run.reject(by=by, reason=reason)
    _decided({"campaign": campaign, "round": number, "verdict": "rejected", "next": f"labloop step {campaign}"}, common)


def _decided(told: dict[str, Any], common: Common) -> None:
    if common.json:
        return show.dump(told)
    show.out.print(f"Round {told['round']} of {told['campaign']} is {told['verdict']}. Next: {told['next']}")


def _say(step: Step) -> None:
    if step.action.kind == "wait":
        show.out.print(Text(f"Waiting for {step.action.waits_for}: {step.said}"))
    else:
        show.out.print(Text(step.said))


def _told(step: Step) -> dict[str, Any]:
    told = asdict(step.action)
    told["what"] = step.action.what.encode(errors="replace").decode()  # a file's name may hold bytes that are no text
    return {"campaign": step.campaign, **told, "said": step.said}
