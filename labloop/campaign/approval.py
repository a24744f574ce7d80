"""A person's yes or no to a plate before its files are written for the lab: rows of the ledger with who, when and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labloop.errors import CampaignError
from labloop.ledger import whoami
from labloop.ledger.memory import Memory
from labloop.ledger.states import RoundState
from labloop.rounds import verbs
from labloop.runtime.files import turn


def approve(campaign: Memory, *, by: str = "", reason: str = "") -> int:
    """Approve the proposed round; its files are written at the next step. Approved again, it stays as it is.

    Returns:
        The round's number.

    Raises:
        CampaignError: there is no round to approve.
    """
    with _alone(campaign):
        number, verdict = _asked(campaign, "approve")
        if verdict != "approved":
            campaign.ledger.add_event(campaign.name, "approved", {"by": by or whoami(), "reason": reason}, number)
    return number


def reject(campaign: Memory, *, reason: str, by: str = "") -> int:
    """Reject the proposed round: it closes unmeasured, and the next step opens another, with its own seed, in its place.

    The next round's file is read when that round opens, so a change made before takes effect. No well of the rejected plate
    counts as pending, and the rejected round is none of the planned ones.

    Returns:
        The rejected round's number.

    Raises:
        CampaignError: there is no round to reject, it was approved, or no reason is given.
    """
    if not reason.strip():
        raise CampaignError("a rejection needs a reason, which the ledger keeps: labloop reject NAME --reason …")
    by = by or whoami()
    with _alone(campaign):
        number, verdict = _asked(campaign, "reject")
        if verdict == "approved":
            raise CampaignError(
                f"round {number} of {campaign.name} is approved: if its plate shall not be measured, close it: "
                f"labloop close {campaign.name} --reason …"
            )
        if verdict != "rejected":
            campaign.ledger.add_event(campaign.name, "rejected", {"by": by, "reason": reason}, number)
        verbs.close(campaign, number, reason=f"rejected by {by}: {reason}")
    return number


def verdict_of(campaign: Memory, number: int) -> tuple[str, str]:
    """Give where a round's approval stands (nothing, asked, approved, rejected) and the reason; the last word counts."""
    events = campaign.ledger.events(campaign.name)
    mine = events[(events["round"] == number) & events["kind"].isin(["approval_asked", "approved", "rejected"])]
    if mine.empty:
        return "", ""
    last = mine.iloc[-1]
    detail = last["detail"] or {}
    told = f"{last['kind']} by {detail.get('by', '')}: {detail.get('reason', '')}".removesuffix(": ")
    return {"approval_asked": "asked"}.get(last["kind"], last["kind"]), told


@contextmanager
def _alone(campaign: Memory) -> Iterator[None]:
    with turn(campaign.folder, wait=20) as free:
        if not free:
            raise CampaignError(f"another process works on {campaign.name} now: run this again when it is done")
        yield


def _asked(campaign: Memory, verb: str) -> tuple[int, str]:
    rounds = campaign.ledger.rounds(campaign.name)
    last = rounds[-1] if rounds else None
    if last is None or last.state != RoundState.PROPOSED:
        stands = f"round {last.number} is {last.state}" if last else "it has no round"
        out = last is not None and last.state == RoundState.EXPORTED and verb == "reject"
        then = f"what will not be measured is closed: labloop close {campaign.name} --reason …" if out else ""
        raise CampaignError(f"{campaign.name} has no plate to {verb}: {stands}; {then or f'see labloop status {campaign.name}'}")
    return last.number, verdict_of(campaign, last.number)[0]
