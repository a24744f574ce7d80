"""Take a well out of a plate before its files go to the lab: its arm's next choice comes in, and nothing is trained again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labloop.compare.figures import whose
from labloop.errors import CampaignError
from labloop.ledger import whoami
from labloop.ledger.batches import VETO
from labloop.ledger.memory import Memory
from labloop.ledger.states import TRAINING, RoundState
from labloop.plates.wells import parse_well, well_name
from labloop.proposing.pool import Picks

RESERVE = "reserve"
"""The kind of event that keeps each arm's next choices beside a plate: `arms`, each a list of picks in the arm's order."""


@dataclass(frozen=True, kw_only=True)
class Vetoed:
    """A well that was taken out."""

    campaign: str
    round: int
    wells: tuple[str, ...]
    """All wells that held the design, as PLATE:WELL."""
    design_id: str
    arms: tuple[str, ...]
    """The arms that had picked it."""
    arm: str | None
    """The arm whose next choice came in; None where none had one, and the wells stay empty."""
    replacement: str | None
    """The design that came in."""
    reason: str
    said: str


def veto(memory: Memory, well: str, *, reason: str, by: str = "") -> Vetoed:
    """Take the design of a well out of the proposed plate and let the next choice of its arm in, by the arm's own order.

    The design leaves all of its wells of the round. Where two arms had picked it, the one with fewer wells left chooses. It may
    be proposed again in a later round: `labloop revise` forbids it for good.

    Args:
        well: `PLATE:WELL`.
        reason: kept in the ledger.

    Raises:
        CampaignError: there is no such well, it holds no design, its files were exported, it was measured, or no reason is
            given.
    """
    if not reason.strip():
        raise CampaignError(f"a veto needs a reason, which the ledger keeps: labloop veto {memory.name} {well} --reason …")
    with memory.lock(), memory.ledger.begin():
        number, design_id, spots = _held(memory, well)
        _proposed(memory, number)
        _unread(memory, spots)
        return _replace(memory, number, design_id, spots, reason=reason.strip(), by=by.strip() or whoami())


def kept(reserves: Mapping[str, Picks]) -> dict[str, Any]:
    """Tell each arm's next choices as plain values for the ledger."""
    return {"arms": {arm: _rows(picks) for arm, picks in reserves.items()}}


def _rows(picks: Picks) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {
        "design_id": list(picks.pool.ids), "proposer": picks.pool.proposer.tolist(), "nearest_id": list(picks.nearest_id)
    }  # fmt: skip
    for name, values in (
        ("score", picks.pool.score), ("mean", picks.mean), ("std", picks.std), ("lcb", picks.lcb),
        ("nearest_distance", picks.nearest_distance),
    ):  # fmt: skip
        columns[name] = [None if not abs(one) < float("inf") else float(one) for one in values.tolist()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _held(memory: Memory, text: str) -> tuple[int, str, list[tuple[str, str]]]:
    """Find the round, the design and all its wells that `PLATE:WELL` names."""
    plate, colon, name = text.strip().rpartition(":")
    try:
        well = well_name(*parse_well(name)) if colon else ""
    except ValueError:
        well = ""
    wells = memory.ledger.wells(memory.name)
    if not well or wells.empty:
        example = "" if wells.empty else f", such as {wells['plate'].iloc[-1]}:{wells['well'].iloc[-1]}"
        raise CampaignError(f"{text!r} is no well of {memory.name}: write PLATE:WELL{example}")
    found = wells[(wells["plate"] == plate) & (wells["well"] == well)]
    if found.empty:
        plates = ", ".join(dict.fromkeys(wells["plate"].tolist()[::-1]))
        raise CampaignError(f"{memory.name}: well {well} of plate {plate!r} was not laid out (plates: {plates})")
    row = found.iloc[0]
    if pd.isna(row["design_id"]):
        held = "is empty" if pd.isna(row["control"]) else f"holds the control {row['control']}"
        raise CampaignError(f"{memory.name}: well {well} of plate {plate} {held}: only wells with a design can be vetoed")
    same = wells[(wells["round"] == row["round"]) & (wells["design_id"] == row["design_id"])]
    return int(row["round"]), str(row["design_id"]), list(zip(same["plate"].astype(str), same["well"].astype(str), strict=True))


def _proposed(memory: Memory, number: int) -> None:
    entry = memory.round(number)
    if entry.state in (RoundState.PROPOSED, *TRAINING):
        return
    if entry.state == RoundState.EXPORTED:
        raise CampaignError(
            f"the files of round {number} of {memory.name} were exported, so that its plate may be under way: leave the well out "
            "at the bench and give it as 'excluded' in the assay file, with the reason in the column note"
        )
    raise CampaignError(f"round {number} of {memory.name} is {entry.state}: nothing of its plate can be taken out any more")


def _unread(memory: Memory, spots: list[tuple[str, str]]) -> None:
    """Raise CampaignError where a well has a reading: its design was on the plate."""
    rows = memory.ledger.measurements(memory.name, plates=list({plate for plate, _ in spots}))
    for plate, well, row, file in zip(rows["plate"], rows["well"], rows["row"], rows["file"]):
        if (plate, well) in spots:
            raise CampaignError(
                f"{memory.name}: well {well} of plate {plate} has a reading (row {row} of {file}), so its plate is under way: to "
                "leave the reading out, send the well as 'excluded' in a corrected file, with the reason in the column note: "
                f"labloop correct FILE.csv -c {memory.name} --reason …"
            )


def _replace(
    memory: Memory, number: int, design_id: str, spots: list[tuple[str, str]], *, reason: str, by: str
) -> Vetoed:  # fmt: skip
    picks = memory.ledger.picks(memory.name, number)
    arms = picks.loc[picks["design_id"] == design_id, "arm"].tolist()
    order = list(memory.round_config(memory.round(number)).arms)
    wells_left = picks[picks["design_id"] != design_id]["arm"].value_counts()
    events = memory.ledger.events(memory.name)
    mine = events[events["round"] == number]
    vetoes = mine.loc[mine["kind"] == VETO, "detail"]
    gone = {detail["design_id"] for detail in vetoes} | set(picks["design_id"])
    reserve = mine.loc[mine["kind"] == RESERVE, "detail"]
    if reserve.empty:
        raise CampaignError(
            f"round {number} of {memory.name} was proposed by an older labloop, which kept no next choices: close it "
            f"(labloop close {memory.name} --reason …) and propose again"
        )
    for arm in sorted(arms, key=lambda one: (int(wells_left.get(one, 0)), order.index(one))):
        left = [one for one in reserve.iloc[-1]["arms"].get(arm, []) if one["design_id"] not in gone]
        if left:
            ranks = [*picks.loc[picks["arm"] == arm, "rank"], *_ranks(vetoes, arm)]
            rank = int(max(ranks)) + 1
            came = pd.DataFrame([{"arm": arm, "rank": rank, **left[0]}])
            told: dict[str, Any] | None = {"arm": arm, "design_id": left[0]["design_id"], "rank": rank}
            break
    else:
        came, told = pd.DataFrame(), None
    detail = {
        "design_id": design_id, "arms": arms, "wells": [list(spot) for spot in spots], "by": by, "reason": reason,
        "replacement": told,
        "ranks": {arm: int(picks.loc[(picks["arm"] == arm) & (picks["design_id"] == design_id), "rank"].iloc[0]) for arm in arms},
    }  # fmt: skip
    memory.ledger.add_veto(memory.name, number, detail, came)
    names = tuple(f"{plate}:{well}" for plate, well in spots)
    comes = (
        f"{whose(told['arm'])} next choice, {told['design_id']}, takes"
        if told
        else f"{' and '.join(arms)} had no next choice left for"
    )
    place = "its place" if told else "it: the well stays empty"
    return Vetoed(
        campaign=memory.name, round=number, wells=names, design_id=design_id, arms=tuple(arms), arm=told["arm"] if told else None,
        replacement=told["design_id"] if told else None, reason=reason,
        said=f"Design {design_id} is out of {', '.join(names)}; {comes} {place}",
    )  # fmt: skip


def _ranks(vetoes: pd.Series, arm: str) -> list[int]:
    """Ranks of an arm's picks that were vetoed: they stay in the ledger, so that none is given twice."""
    return [detail["ranks"][arm] for detail in vetoes if arm in detail["ranks"]]
