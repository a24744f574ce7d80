"""One step of a campaign: look at ledger and inbox, decide, do it. Run at any moment, by anyone, it goes on where it stands."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd

from labloop.campaign.approval import verdict_of
from labloop.campaign.inbox import folder as inbox
from labloop.campaign.inbox.filing import safe
from labloop.campaign.inbox.taken import LATE
from labloop.config.round import RoundConfig
from labloop.config.schedule import Schedule
from labloop.errors import ConfigError, LabloopError
from labloop.ledger.memory import Memory
from labloop.ledger.states import RoundState
from labloop.report import report_of, write_report
from labloop.rounds import planned, spending, state, training, verbs
from labloop.rounds.policy import Action, Situation, Wanted, decide
from labloop.runtime.files import turn

log = logging.getLogger("labloop")


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did, or what is waited for."""

    campaign: str
    action: Action
    said: str
    """For a person."""


def schedule_of(campaign: Memory) -> Schedule:
    """The campaign's schedule; the defaults where it has none."""
    return campaign.config.schedule or Schedule()


def inbox_of(campaign: Memory) -> Path:
    """The folder that the lab drops assay files into."""
    return campaign.folder / schedule_of(campaign).inbox


def plates_of(campaign: Memory) -> Path:
    """The folder that gets the plates' files."""
    return campaign.folder / schedule_of(campaign).out


def step(campaign: Memory, *, now: datetime | None = None) -> Step:
    """Advance a campaign by at most one action.

    Args:
        now: the time that deadlines and calendars go by; the present where none is given.
    """
    with turn(campaign.folder) as free:
        if not free:
            return busy(campaign)
        return perform(campaign, next_action(campaign, now=now))


def busy(campaign: Memory) -> Step:
    """What a step says while another process is at one."""
    action = Action(kind="wait", waits_for="another process", reason="another process works on this campaign now")
    return Step(campaign=campaign.name, action=action, said=action.reason)


def next_action(campaign: Memory, *, now: datetime | None = None) -> Action:
    """Decide what the campaign needs next; nothing is changed but that the inbox notes what was seen in it."""
    return decide(situation(campaign, now=now))


def situation(campaign: Memory, *, now: datetime | None = None, remember: bool = True) -> Situation:
    """Read from ledger and inbox what the next action depends on.

    Args:
        now: the time that deadlines and calendars go by; the present where none is given.
        remember: note in the inbox what was seen there, see `inbox.look`; without it nothing at all is written.
    """
    now = now or datetime.now(UTC)
    schedule, files = schedule_of(campaign), inbox.look(inbox_of(campaign), now=now.timestamp(), remember=remember)
    told = campaign.kept("situation", partial(_told, campaign))
    number, done = told.get("round", 0), told["done"]
    turned_back = inbox.rejected(inbox_of(campaign), since=told["since"].timestamp())
    closed = not number or told["state"] == RoundState.CLOSED
    due = closed and (told["called"] or not number or done < campaign.config.rounds)
    following = _next_round(campaign, done) if due else None
    return Situation(
        **told, campaign=campaign.name, now=now, schedule=schedule, planned=campaign.config.rounds,
        files=files.whole, arriving=files.arriving, why=files.why, rejected=tuple(turned_back),
        settles=now + timedelta(seconds=files.settles) if files.settles is not None else None,
        can_learn=following is None or _can_learn(campaign, following),
        short=_short(campaign, following) if following is not None else "",
    )  # fmt: skip


def _short(campaign: Memory, following: RoundConfig) -> str:
    """Say why the next round does not fit the plate or the budget; files of the inbox are taken in all the same."""
    try:
        return spending.short(campaign, following) or ""
    except ConfigError as error:
        return f"the next round does not fit the plate: {error}"


def _next_round(campaign: Memory, done: int) -> RoundConfig:
    """Read the schedule's next round.

    Raises:
        ConfigError: its file is gone, or does not make sense.
    """
    try:
        return schedule_of(campaign).round(done)
    except ConfigError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        moved = f"labloop revise {campaign.name} CAMPAIGN.yaml --reason moved"
        raise ConfigError(f"{error}: put it back, or where the campaign's files lie elsewhere now: {moved}") from error


def asked(campaign: Memory) -> str:
    """What a scheduled campaign wants of people before it can go on, but for a plate's results; '' where it is nothing else."""
    if campaign.config.schedule is None:
        return ""
    try:
        at = situation(campaign, remember=False)
    except LabloopError as error:  # such as a round's file that is gone
        return str(error)
    action = decide(at)
    from_the_lab = action.waits_for == "the lab" and (at.rejected or not at.can_learn)
    return action.reason if action.waits_for == "a person" or from_the_lab else ""


def _told(campaign: Memory) -> dict[str, Any]:
    """What of a situation the ledger alone tells."""
    ledger = campaign.ledger
    rounds = ledger.rounds(campaign.name)
    events = ledger.events(campaign.name)  # read last: it has the entry of every state seen, also while another process goes on
    done = planned.done(rounds, ledger.wells(campaign.name), events, states=(RoundState.CLOSED,))
    if not rounds:
        return {"done": done, "since": pd.Timestamp(ledger.begun(campaign.name)).to_pydatetime(), "called": _called(events, 0)}
    last = rounds[-1]
    verdict, reason = verdict_of(campaign, last.number)
    entered = events[(events["round"] == last.number) & (events["state"] == last.state)]["at"].iloc[-1]
    return {
        "done": done, "round": last.number, "state": last.state,
        "trainings": _trainings(campaign, last.number, events) if last.state == RoundState.READY else (),
        "verdict": cast(Literal["", "asked", "approved", "rejected"], verdict), "reason": reason,
        "wells": int(ledger.wells(campaign.name, last.number)["design_id"].notna().sum()),
        "missing": len(state.missing(campaign, last.number)),
        "since": pd.Timestamp(entered).to_pydatetime(),
        "called": last.state == RoundState.CLOSED and _called(events, last.number),
    }  # fmt: skip


def perform(campaign: Memory, action: Action) -> Step:
    """Do an action, unless that is done by now; returns what came of it.

    Raises:
        LabloopError: it cannot be done; a failed training is noted in the ledger first.
    """
    said = _VERBS[action.kind](campaign, action) if action.kind in _VERBS else action.reason
    if action.kind in ("ingest", "ask", "export", "close"):  # the others' verbs tell themselves
        log.info("%s: %s", campaign.name, said)
    return Step(campaign=campaign.name, action=action, said=said)


def retry(campaign: Memory) -> None:
    """Let trainings that failed too often be tried again."""
    campaign.ledger.add_event(campaign.name, "retry", number=campaign.ledger.rounds(campaign.name)[-1].number)


def call(campaign: Memory) -> None:
    """Call for the next round now, whatever the calendar says and however many rounds were planned."""
    rounds = campaign.ledger.rounds(campaign.name)
    number = rounds[-1].number if rounds else 0
    if (not rounds or rounds[-1].state == RoundState.CLOSED) and not _called(campaign.ledger.events(campaign.name), number):
        campaign.ledger.add_event(campaign.name, "called", {"round": number + 1})


# ---- what each action does


def _ingest(campaign: Memory, action: Action) -> str:
    filed = inbox.take(campaign, inbox_of(campaign), action.what)
    if filed is None:
        return f"{safe(action.what.removeprefix(LATE))} is gone from the inbox"
    if filed.waits:
        return f"{filed.file} waits: {filed.said}"
    what = "ingested" if filed.accepted else "rejected"
    return f"{filed.file} {what}: {filed.said} (now in {filed.place.parent.name}/{filed.place.name})"


def _open(campaign: Memory, action: Action) -> str:
    number = verbs.ensure_round(campaign, _next_round(campaign, situation(campaign).done))
    return f"round {number} opened on {len(state.dataset(campaign))} measured designs"


def _train(campaign: Memory, action: Action) -> str:
    try:
        training.ensure_trained(campaign, action.round, action.what)
    except Exception as error:
        detail = {"key": action.what, "proposer": action.label, "error": " ".join(str(error).split())[:300] or repr(error)}
        campaign.ledger.add_event(campaign.name, "training_failed", detail, action.round)
        raise
    return f"round {action.round}: {action.label} is trained"


def _drop(campaign: Memory, action: Action) -> str:
    training.drop_training(campaign, action.round, action.what, proposer=action.label, reason=action.reason)
    return f"round {action.round} goes on without {action.label}: {action.reason}"


def _propose(campaign: Memory, action: Action) -> str:
    batch = verbs.ensure_proposed(campaign, action.round)
    return f"round {action.round} has its plate of {batch.picks['design_id'].nunique()} designs"


def _ask(campaign: Memory, action: Action) -> str:
    report = _report(campaign)
    campaign.ledger.add_event(campaign.name, "approval_asked", {"report": report}, action.round)
    return f"round {action.round} asks for approval; {report}"


def _export(campaign: Memory, action: Action) -> str:
    folder = plates_of(campaign)
    written = verbs.export(campaign, folder, number=action.round)
    return f"round {action.round} is at the lab: {len(written)} files in {folder}"


def _close(campaign: Memory, action: Action) -> str:
    comparison = verbs.close(campaign, action.round, reason=action.reason or None)
    told = comparison.sentence if comparison is not None else action.reason or "no well of it has a value"
    return f"round {action.round} is closed: {told.rstrip('.')}; {_report(campaign)}"


_VERBS = {
    "ingest": _ingest, "open": _open, "train": _train, "drop": _drop, "propose": _propose, "ask": _ask, "export": _export,
    "close": _close,
}  # fmt: skip


def _report(campaign: Memory) -> str:
    try:
        return f"report: {write_report(campaign.folder / 'report.html', report_of(campaign))}"
    except LabloopError as error:  # a round does not wait for its page
        log.warning("%s: no report: %s", campaign.name, error)
        return f"no report: {error}"


# ---- what the ledger says


def _can_learn(campaign: Memory, config: RoundConfig) -> bool:
    return config.judge is None or state.enough(campaign)


def _called(events: pd.DataFrame, number: int) -> bool:
    calls = events.loc[events["kind"] == "called", "detail"]
    return any((detail or {}).get("round") == number + 1 for detail in calls)


def _trainings(campaign: Memory, number: int, events: pd.DataFrame) -> tuple[Wanted, ...]:
    finished = set(campaign.ledger.runs(campaign.name, number)["key"])
    mine = events[events["round"] == number]
    again = mine.index[mine["kind"] == "retry"]
    since = mine.loc[again[-1] :] if len(again) else mine
    failed = [detail for detail in since.loc[since["kind"] == "training_failed", "detail"] if detail]

    def wanted(key: str, proposer: str, arm: str) -> Wanted:
        errors = [str(detail["error"]) for detail in failed if detail["key"] == key]
        last = errors[-1] if errors else ""
        return Wanted(key=key, proposer=proposer, arm=arm, finished=key in finished, failures=len(errors), error=last)

    return tuple(wanted(key, one.proposer, one.arm) for key, one in training.trainings(campaign, number).items())
