"""What people and rules decided about a round's wells, as the ledger has it: lists by hand, vetoes, allocations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labloop.compare.figures import whose
from labloop.ledger import Round
from labloop.ledger.batches import VETO
from labloop.ledger.memory import ALLOCATED, BY_BACKTEST, HISTORY, JOINED, Memory
from labloop.ledger.states import RoundState

JUDGED = "judged"
"""The kind of event that tells how a round was judged."""
PICKED = "by_hand"
"""The kind of event that stores a list: `arm`, `by`, `file`, `sha256`, `wells` (or nothing), `ids` and `designs`, in order."""
WITHDRAWN = "by_hand_withdrawn"
"""The kind of event that takes the list of an `arm` back before it is on a plate."""


def standing_lists(memory: Memory, entry: Round | None = None) -> dict[str, dict[str, Any]]:
    """Give the lists that are on no plate, by arm.

    A round that closed without a plate, or whose plate was rejected, gives its lists back.

    Args:
        entry: a round whose lists count as on no plate, too.
    """
    events = memory.ledger.events(memory.name)
    if not (events["kind"] == PICKED).any():
        return {}
    laid = set(memory.ledger.wells(memory.name)["round"])
    rejected = set(events.loc[events["kind"] == "rejected", "round"])
    closed = {one.number for one in memory.ledger.rounds(memory.name) if one.state == RoundState.CLOSED}
    void = rejected | (closed - laid) | ({entry.number} if entry else set())
    lists: dict[str, dict[str, Any]] = {}
    for kind, number, detail in zip(events["kind"], events["round"], events["detail"], strict=True):
        if kind == PICKED:
            lists[detail["arm"]] = detail
        elif kind == WITHDRAWN:
            lists.pop(detail["arm"], None)
        elif kind == JOINED and number not in void:
            for arm in [*(one["arm"] for one in detail["arms"]), *detail["left_out"]]:
                lists.pop(arm, None)
    return lists


def waiting(memory: Memory) -> list[dict[str, Any]]:
    """List what waits for the next round that opens: `arm`, `by`, `file`, `designs` (how many) and `wells`."""
    return [
        {"arm": one["arm"], "by": one["by"], "file": one["file"], "designs": len(one["ids"]), "wells": one["wells"]}
        for one in standing_lists(memory).values()
    ]


def decisions(memory: Memory, number: int | None = None) -> list[str]:
    """Say in sentences what was decided about the wells of a round, or of all rounds."""
    events = memory.ledger.events(memory.name)
    events = events[events["kind"].isin([ALLOCATED, BY_BACKTEST, HISTORY, JUDGED, JOINED, VETO])]
    events = events[events["round"] == number] if number is not None else events
    events = events[~(events["kind"].eq(JOINED) & events.duplicated(["kind", "round"], keep="last"))]  # the last word counts
    return [
        sentence
        for kind, of, detail in zip(events["kind"], events["round"], events["detail"], strict=True)
        for sentence in _told(str(kind), int(of), detail)
    ]


def said_of(kind: str, detail: dict[str, Any]) -> str | None:
    """Say a decision's event in words for an audit; None for an event of another kind."""
    if kind == PICKED:
        return f"{detail['by']} chose {len(detail['ids'])} designs as arm {detail['arm']} ({detail['file']})"
    if kind == WITHDRAWN:
        return f"{detail['by']} withdrew the designs of arm {detail['arm']}" + (
            f": {detail['reason']}" if detail["reason"] else ""
        )
    if kind == HISTORY:
        return "knew " + "; ".join(f"{one['said']}, SHA-256 {one['sha256'][:12]}" for one in detail["sources"])
    if kind in (ALLOCATED, BY_BACKTEST, JOINED, VETO):
        return "; ".join(_told(kind, None, detail)) or "no list by hand"
    return None


def _told(kind: str, number: int | None, detail: dict[str, Any]) -> Iterator[str]:
    if kind in (ALLOCATED, BY_BACKTEST):
        for one in (detail, *detail.get("proposers", {}).values()):
            if "said" in one:
                yield (f"Round {number}: " if number else "") + one["said"]
    elif kind == HISTORY:
        yield from (f"Round {number} knew {one['said']}" for one in detail["sources"])
    elif kind == JUDGED:
        yield from (f"Round {number} {_evidence(one)}" for one in detail.get("history", ()))
    elif kind == JOINED:
        for one in detail["arms"]:
            wells, n = detail["wells"][one["arm"]], len(one["ids"])
            spare = n - wells // detail.get("replicates", 1)
            over = f", {spare} in reserve" if spare > 0 else ""
            of = f" of round {number}" if number else ""
            yield f"Arm {one['arm']}{of}: {n} designs that {one['by']} chose ({one['file']}), {wells} wells{over}"
        for arm, left in detail["left_out"].items():
            yield f"{len(left)} designs of arm {arm} were measured by then or not allowed any more, and were left out"
    else:
        spots = ", ".join(f"{plate}:{well}" for plate, well in detail["wells"])
        new = detail["replacement"]
        came = f"{whose(new['arm'])} next choice {new['design_id']} came in" if new else "the well stays empty"
        of = f" of round {number}" if number else ""
        arms = " and ".join(detail["arms"])
        yield f"{detail['by']} took design {detail['design_id']} of {arms} out of {spots}{of}: {detail['reason']}; {came}"


def _evidence(one: dict[str, Any]) -> str:
    """Say what a related campaign was worth."""
    if one["gain"] is None:
        return f"took {one['label']} at its word, as next to nothing was measured here"
    known = one["correlation"] is not None
    of = f"ranks today's measurements with a correlation of {one['correlation']:.2f}, " if known else ""
    how = "makes them likelier when they are left out" if one["gain"] > 0 else "does not make them likelier"
    verb = "used" if one["used"] else "did not use"
    return f"{verb} {one['label']}, which {of}and {how} (log density {one['gain']:+.1f} over all)"
