"""The audit of one well or one design: who did what and when, from the proposal to the value that stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import zip_longest
from typing import Any

import pandas as pd

from labloop.config.policies import MEANING
from labloop.errors import CampaignError
from labloop.ledger import Trail
from labloop.ledger.batches import VETO
from labloop.ledger.memory import Memory
from labloop.ledger.states import RoundState
from labloop.plates.wells import parse_well, well_name
from labloop.rounds.bounds import with_beta
from labloop.rounds.correction import reading
from labloop.rounds.decisions import said_of
from labloop.rounds.veto import RESERVE
from labloop.space.objective import Objective

_SAID = {
    RoundState.EXPORTED: "files were exported",
    RoundState.MEASURED: "wells were all in",
    RoundState.CLOSED: "was closed",
}
_LOOKED_THROUGH = 20_000
"""Ids among which a near one is looked for; beyond, only those that begin alike."""


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One thing that happened."""

    link: int
    """The link of the ledger's chain that vouches for it; steps are told in its order, whatever the clock said."""
    at: str
    by: str
    what: str
    """opened, offered, picked, laid out, exported, measured, corrected, flagged, flag taken back, complete, closed, or an event's
    own kind."""
    said: str
    """The step in words."""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The story of a well or a design."""

    campaign: str
    subject: str
    design_id: str | None
    """None for a control's well, or an empty one."""
    design: dict[str, Any]
    """The design's columns."""
    steps: tuple[Happening, ...]


def audit(memory: Memory, what: str) -> Audit:
    """Tell the story of `PLATE:WELL`, or of a design by its id or the beginning of it.

    Raises:
        CampaignError: there is nothing of this name; the message names the nearest.
    """
    name, subject = memory.name, what.strip()
    if ":" in subject:
        plate, _, text = subject.rpartition(":")
        spot = (plate, _well(text))
        trail = memory.ledger.trail(name, spot=spot)
        if trail.wells.empty and trail.readings.empty:
            raise CampaignError(_no_spot(memory, name, plate, spot[1]))
        subject, held = f"{plate}:{spot[1]}", _held(trail, spot)
        trails = [trail, *(memory.ledger.trail(name, design_id=one, spot=spot) for one in held[1:])]
    else:
        subject = _design_id(memory, name, subject)
        held, trails = [subject], [memory.ledger.trail(name, design_id=subject)]
    design_id = held[-1] if held else None
    known = memory.ledger.designs(name, held[-1:])
    design = {} if known.empty else dict(known.iloc[0].drop("in_space"))
    own = {one.number for one in memory.ledger.rounds(name) if one.own_seed}
    picks = with_beta(memory.ledger.picks(name), memory.ledger.events(name))
    betas = dict(zip(zip(picks["round"], picks["arm"], strict=True), picks["beta"], strict=True))
    told: dict[tuple[int, str], Happening] = {}
    for trail, one in zip_longest(trails, held):
        for step in _steps(trail, one, own, memory.config.objective, betas):
            told.setdefault((step.link, step.said), step)
    steps = tuple(sorted(told.values(), key=lambda step: step.link))
    return Audit(campaign=name, subject=subject, design_id=design_id, design=design, steps=steps)


def _held(trail: Trail, spot: tuple[str, str]) -> list[str]:
    """The designs of a well, one after the other: the one laid out there, and those that vetoes let in."""
    held = [*trail.wells["design_id"].dropna(), *trail.readings["design_id"].dropna()][:1]
    vetoes = [json.loads(row["detail"]) for row in _records(trail.events) if row["kind"] == VETO]
    came = [detail["replacement"] for detail in vetoes if list(spot) in detail["wells"]]
    return held + [one["design_id"] for one in came if one]


def _well(text: str) -> str:
    try:
        return well_name(*parse_well(text))
    except ValueError as error:
        raise CampaignError(f"{text!r} is no well, such as A1 or H12: write PLATE:WELL, or a design_id") from error


def _design_id(memory: Memory, name: str, text: str) -> str:
    """Find a design by its id, or by a beginning of four letters or more that only one has."""
    if not memory.ledger.designs(name, [text]).empty:
        return text
    ids = memory.ledger.designs(name).index.tolist()
    begun = [one for one in ids if one.startswith(text.lower())]
    if len(begun) == 1 and len(text) >= 4:
        return str(begun[0])
    pool = ids if len(ids) <= _LOOKED_THROUGH else [one for one in ids if one[:2] == text[:2].lower()]
    near = begun[:3] if text and begun else get_close_matches(text.lower(), pool, n=3, cutoff=0.5)
    wells = ", or a well as PLATE:WELL" + (f", such as {_example(memory, name)}" if _example(memory, name) else "")
    raise CampaignError(
        f"{name} knows no design {text!r}"
        + (f"; the nearest are {', '.join(near)}" if near else "")
        + f": give a design_id{wells}"
    )


def _example(memory: Memory, name: str) -> str:
    wells = memory.ledger.wells(name)
    return "" if wells.empty else f"{wells['plate'].iloc[-1]}:{wells['well'].iloc[-1]}"


def _no_spot(memory: Memory, name: str, plate: str, well: str) -> str:
    plates = memory.ledger.plates(name)
    if plate in plates:
        return f"{name}: well {well} of plate {plate} was neither laid out nor measured"
    near = get_close_matches(plate, plates, n=3, cutoff=0.5) or plates[-3:]
    return f"{name} has no plate {plate!r}: " + (f"the nearest are {', '.join(near)}" if near else "it has none yet")


def _steps(
    trail: Trail, design_id: str | None, own: set[int], objective: Objective, betas: dict[tuple[int, str], float]
) -> Iterator[Happening]:  # fmt: skip
    rounds = {int(one) for frame in (trail.proposals, trail.picks, trail.wells) for one in frame["round"]}
    states = {(row["round"], row["state"]): row for row in _records(trail.events) if row["state"]}
    for row in _records(trail.rounds):
        if row["number"] in rounds:
            best = "" if pd.isna(row["incumbent"]) else f", best value so far {_value(objective, row['incumbent'])}"
            seed = f"seed {row['seed']}" if row["number"] in own else "the campaign's seed"
            yield _step(row, "opened", f"round {row['number']} opened on data {row['fingerprint']}, {seed}{best}")
    for row in _records(trail.proposals):
        told = {**row, "options": json.loads(row["options"]), "versions": json.loads(row["versions"])}
        options = ", ".join(f"{key}={value}" for key, value in told["options"].items()) or "default options"
        versions = ", ".join(f"{key} {value}" for key, value in told["versions"].items())
        said = (
            f"{row['proposer']} of arm {row['arm']} offered it as number {row['rank']}, {_score(row['score'])} "
            f"(seed {row['seed']}, {options}; {versions}; on {row['device']})"
        )
        yield _step(told, "offered", said)
    for row in _records(trail.picks):
        beta = betas.get((row["round"], row["arm"]), float("nan"))
        reasons = _reasons(row, objective, beta)
        said = f"arm {row['arm']} picked it as number {row['rank']}, offered by {row['proposer']}: {reasons}"
        yield _step({**row, "beta": beta}, "picked", said)
    for row in _records(trail.wells):
        held = f"control {row['control']}" if row["control"] else f"design {row['design_id']}" if row["design_id"] else "nothing"
        yield _step(row, "laid out", f"round {row['round']} laid out {held} in well {row['well']} of plate {row['plate']}")
    for (number, state), row in states.items():
        if number in rounds and state in _SAID:
            reason = json.loads(row["detail"] or "{}").get("reason")
            said = _SAID[RoundState(state)]
            whose = f"round {int(number)}'s " if state != RoundState.CLOSED else f"round {int(number)} "
            what = "complete" if state == RoundState.MEASURED else str(state).lower()
            yield _step(row, what, whose + said + (f": {reason}" if reason else ""))
    yield from _readings(trail)
    yield from _flags(trail)
    yield from _events(trail, design_id, rounds)


def _reasons(row: dict[str, Any], objective: Objective, beta: float) -> str:
    """Say in the lab's unit what the judge thought of a pick."""
    parts = []
    if not pd.isna(row["mean"]):
        parts.append(f"predicted {_value(objective, row['mean'])}")
        if not pd.isna(row["std"]):
            ends = sorted(float(objective.to_value(row["mean"] + side * row["std"])) for side in (-1, 1))
            parts.append(f"a reading from {ends[0]:.6g} to {ends[1]:.6g} (one standard deviation)")
    if not pd.isna(row["lcb"]):
        at = "by the selector's own rule" if pd.isna(beta) else f"at beta {beta:.3g}"
        parts.append(f"bound {_value(objective, row['lcb'])} {at}")
    if not pd.isna(row["score"]):
        parts.append(_score(row["score"]))
    if row["nearest_id"] and not pd.isna(row["nearest_id"]):
        parts.append(f"nearest measured design {row['nearest_id']} at distance {_short(row['nearest_distance'])}")
    return ", ".join(parts) if not pd.isna(row["mean"]) else ", ".join([*parts, "no reference model judged it"])


def _score(score: Any) -> str:
    return "without a score" if _missing(score) else f"score {_short(score)} (its own unit, larger is better)"


def _value(objective: Objective, y: Any) -> str:
    return f"{float(objective.to_value(y)):.6g} {objective.unit}".rstrip()


def _readings(trail: Trail) -> Iterator[Happening]:
    rows = {int(row["id"]): row for row in _records(trail.readings)}
    newer = {int(row["supersedes"]): row for row in rows.values() if not pd.isna(row["supersedes"])}
    reasons = {
        told["sha256"]: told["reason"]
        for told in (json.loads(row["detail"]) for row in _records(trail.events) if row["kind"] == "correction")
    }
    for number, row in rows.items():
        place = f"well {row['well']} of plate {row['plate']}, " if not pd.isna(row["well"]) else ""
        what = f"{place}{row['assay']}: {reading(row)} (row {row['row']} of {row['file']}, read by {row['reader'] or 'unknown'})"
        note = "" if pd.isna(row["note"]) else f"; note: {row['note']}"
        detail = {**row, "stands": number not in newer}
        if pd.isna(row["supersedes"]):
            yield _step(detail, "measured", what + note + ("" if number not in newer else "; was corrected later"))
            continue
        old = rows.get(int(row["supersedes"]))
        was = "" if old is None else f", was {reading(old)} (row {old['row']} of {old['file']})"
        reason = reasons.get(row["sha256"])
        detail["reason"] = reason
        yield _step(detail, "corrected", what + was + (f"; reason: {reason}" if reason else "") + note)


def _flags(trail: Trail) -> Iterator[Happening]:
    rows = {int(row["id"]): row for row in _records(trail.readings)}
    for row in _records(trail.flags):
        of = rows[int(row["measurement"])]
        told = json.loads(row["detail"]) if row["detail"] else {}
        figures = _in_words(told)
        verb = "flagged" if row["raised"] else "no longer flagged"
        said = f"{verb} {row['rule']} ({MEANING[row['rule']]}): row {of['row']} of {of['file']}" + (
            f"; {figures}" if figures else ""
        )
        yield _step({**row, "detail": told}, "flagged" if row["raised"] else "flag taken back", said)


def _events(trail: Trail, design_id: str | None, rounds: set[int]) -> Iterator[Happening]:
    """Events that name the design or one of its rounds, besides those told above."""
    for row in _records(trail.events):
        if row["kind"] in ("state", "correction", "quality", RESERVE):
            continue
        detail = json.loads(row["detail"]) if row["detail"] else {}
        mine = design_id is not None and design_id in (row["detail"] or "")
        if mine or (not pd.isna(row["round"]) and int(row["round"]) in rounds):
            said = said_of(str(row["kind"]), detail) or _in_words(detail)
            if row["kind"] == VETO and not mine:
                continue
            yield _step({**row, "detail": detail}, str(row["kind"]), said)


def _in_words(detail: Any) -> str:
    """Say an event's detail in words: keys with their values, what belongs together in brackets, nothing of what is empty."""
    if isinstance(detail, dict):
        told = {str(key).replace("_", " "): _in_words(value) for key, value in detail.items()}
        return ", ".join(f"{key} ({said})" if isinstance(value, dict) else f"{key} {said}"
                         for (key, said), value in zip(told.items(), detail.values()) if said)  # fmt: skip
    if isinstance(detail, list):
        return " to ".join(_in_words(one) for one in detail)
    return "" if _missing(detail) else f"{detail:.6g}" if isinstance(detail, float) else str(detail)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): cell for name, cell in row.items()} for row in frame.to_dict("records")]


def _step(row: dict[str, Any], what: str, said: str) -> Happening:
    by = "unknown (before the chain)" if row["verb"] == "migration" else str(row["by"])
    detail = {key: None if _missing(value) else value for key, value in row.items() if key not in ("link", "at", "by", "verb")}
    return Happening(link=int(row["link"]), at=str(row["at"]), by=by, what=what, said=said, detail=detail)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and pd.isna(value))


def _short(value: Any) -> str:
    return "none" if _missing(value) else f"{float(value):.6g}"
