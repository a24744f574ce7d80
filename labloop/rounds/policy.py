"""What a campaign's round needs next, as a pure function of what the ledger and the inbox say. No file, no clock, no Prefect."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from labloop.config.schedule import Schedule
from labloop.ledger.states import TRAINING, RoundState

ATTEMPTS = 3
"""Failures after which a training is not tried again by itself: a method that cannot is not worth a fourth night."""

Kind = Literal["ingest", "open", "train", "drop", "propose", "ask", "export", "close", "wait", "done"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One training of the open round."""

    key: str
    proposer: str
    arm: str
    finished: bool = False
    failures: int = 0
    error: str = ""
    """What the last failure said."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that the next action depends on."""

    campaign: str
    now: datetime
    schedule: Schedule
    planned: int
    """Rounds planned."""
    done: int = 0
    """Rounds of the plan that are closed; a rejected round is none of them."""
    files: tuple[str, ...] = ()
    """Files in the inbox that are whole."""
    arriving: tuple[str, ...] = ()
    """Files in the inbox that are still being written."""
    why: tuple[str, ...] = ()
    """Why each file in the inbox that is not whole is not taken yet, a sentence each."""
    rejected: tuple[str, ...] = ()
    """Files that were rejected since the latest round came to its state, and did not come again."""
    settles: datetime | None = None
    """When the first that arrives can be whole."""
    round: int = 0
    """The latest round; 0 before the first."""
    state: RoundState | None = None
    trainings: tuple[Wanted, ...] = ()
    """Of a round that is READY."""
    verdict: Literal["", "asked", "approved", "rejected"] = ""
    """Where a person's approval of the latest round stands."""
    reason: str = ""
    """The rejection's."""
    wells: int = 0
    missing: int = 0
    since: datetime | None = None
    """When the latest round came to its state; before the first, when the campaign was made."""
    can_learn: bool = True
    """Whether there are measurements enough for the next round's models."""
    short: str = ""
    """Why the next round does not fit the plate, or what is left of the budget, with what to do."""
    called: bool = False
    """Whether a person has called for the next round."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """The one thing to do next, or what is waited for."""

    kind: Kind
    round: int = 0
    what: str = ""
    """The file of an ingest, the key of a training."""
    label: str = ""
    """A training's proposer."""
    reason: str = ""
    """Why a round closes without all its wells, why a proposer is dropped, or what is waited for."""
    waits_for: Literal["", "the lab", "a person", "the calendar", "a file", "another process"] = ""
    until: datetime | None = None
    """When a wait ends by itself."""
    overdue: bool = False
    """Whether the lab has had the plate for longer than expected."""

    @property
    def rests(self) -> bool:
        """Whether there is nothing to do now."""
        return self.kind in ("wait", "done")


def decide(at: Situation) -> Action:
    """Choose the next action: files first, then the open round, then the next one."""
    action = _decide(at)
    if action.waits_for == "the lab" and at.rejected:
        were = "was" if len(at.rejected) == 1 else "were"
        told = f"{', '.join(at.rejected[:3])} {were} rejected: rejected/{at.rejected[0]}.why.txt in the inbox says what to mend"
        action = replace(action, reason=f"{action.reason}; {told}")
    return _with_files(action, at) if action.rests and (at.arriving or at.why) else action


def _with_files(action: Action, at: Situation) -> Action:
    """Name in a wait the files that are not taken yet, and why; where one arrives, it is the file that is waited for."""
    why = "; ".join(at.why[:3] or [f"{at.arriving[0]} is still being written"])
    if not at.arriving or action.waits_for in ("a person", "the calendar"):
        return replace(action, reason=f"{action.reason}; {why}")
    until = min((one for one in (at.settles, action.until) if one is not None), default=None)
    return replace(action, kind="wait", waits_for="a file", reason=f"{why}. Besides, {action.reason}", until=until)


def _decide(at: Situation) -> Action:
    if at.files:
        return Action(kind="ingest", what=at.files[0], round=at.round)
    if at.state in TRAINING:
        return _towards_a_plate(at)
    if at.state == RoundState.PROPOSED:
        return _towards_the_lab(at)
    if at.state == RoundState.EXPORTED:
        return _at_the_lab(at)
    if at.state == RoundState.MEASURED:
        return Action(kind="close", round=at.round)
    return _next_round(at)


def _towards_a_plate(at: Situation) -> Action:
    open_ones = [one for one in at.trainings if not one.finished]
    if not open_ones:
        return Action(kind="propose", round=at.round)
    due = [one for one in open_ones if one.failures < ATTEMPTS]
    if due:
        return Action(kind="train", round=at.round, what=due[0].key, label=due[0].proposer)
    failed = open_ones[0]
    if at.schedule.on_failure == "drop" and len(open_ones) < len(at.trainings):
        return Action(kind="drop", round=at.round, what=failed.key, label=failed.proposer, reason=failed.error)
    every = "every proposer" if len(open_ones) == len(at.trainings) else failed.proposer
    return _wait(
        at,
        "a person",
        f"{every} failed {failed.failures} times ({failed.error}): mend it, then labloop step {at.campaign} --retry",
    )


def _towards_the_lab(at: Situation) -> Action:
    if at.verdict == "rejected":
        return Action(kind="close", round=at.round, reason=at.reason)
    if at.verdict == "approved" or not at.schedule.approval:
        return Action(kind="export", round=at.round)
    if at.verdict == "asked":
        return _wait(
            at, "a person",
            f"round {at.round} waits for approval: read the report, then labloop approve {at.campaign}, "
            f"or labloop reject {at.campaign} --reason …",
        )  # fmt: skip
    return Action(kind="ask", round=at.round)


def _at_the_lab(at: Situation) -> Action:
    if not at.missing:  # the process that stored the last result died before it noted the round as measured
        return Action(kind="close", round=at.round)
    given = at.schedule.deadline
    until = at.since + given if given is not None and at.since is not None else None
    if until is not None and at.now >= until and given is not None:
        if at.arriving:
            return _wait(at, "a file", f"the deadline of {_days(given.total_seconds())} has passed")
        reason = f"deadline of {_days(given.total_seconds())} passed with {at.missing} of {at.wells} wells missing"
        return Action(kind="close", round=at.round, reason=reason)
    expected = at.schedule.expected
    overdue = expected is not None and at.since is not None and at.now >= at.since + expected
    told = f"round {at.round} waits for {at.missing} of {at.wells} wells"
    if overdue and at.since is not None:
        told += f", overdue: the lab has had the plate for {_days((at.now - at.since).total_seconds())}"
    return replace(_wait(at, "the lab", told, until=until), overdue=overdue)


def _next_round(at: Situation) -> Action:
    opening = Action(kind="open", round=at.round + 1)
    if at.done >= at.planned and not at.called:
        return Action(
            kind="done",
            round=at.round,
            reason=f"all {at.planned} planned rounds are closed: labloop step {at.campaign} --now opens another",
        )
    if not at.can_learn:
        told = "too few designs are measured to learn from: put the lab's measurements into the inbox"
        first = ", or revise the schedule to begin with random designs (rounds: [config/rounds/first.yaml, …])"
        return _wait(at, "the lab", told + ("" if at.round else first))
    if at.short:
        return _wait(at, "a person", at.short)
    if at.called or at.verdict == "rejected":
        return opening
    call = f"labloop step {at.campaign} --now opens the next"
    if at.round and at.wells and at.missing == at.wells:
        return _wait(at, "a person", f"nothing of round {at.round} came back: {call}")
    start = at.schedule.start
    if start == "by_hand":
        return _wait(at, "a person", f"round {at.round} is closed: {call}" if at.round else f"no round is open: {call}")
    if start != "when_measured" and at.since is not None:
        due = start.after(at.since)
        if at.now < due:
            return _wait(at, "the calendar", f"round {at.round + 1} opens at {due:%Y-%m-%d %H:%M %Z}", until=due)
    return opening


def _wait(
    at: Situation, whom: Literal["the lab", "a person", "the calendar", "a file"], why: str, **more: datetime | None
) -> Action:
    return Action(kind="wait", round=at.round, waits_for=whom, reason=why, until=more.get("until"))


def _days(seconds: float) -> str:
    days = seconds / 86400
    return (
        f"{days:.0f} days" if days >= 2 else f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"
    )
