"""Why a design is in its well, in a sentence: what lies nearest, what differs, what was predicted, who wanted it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd

from labloop.compare.figures import spell, whose
from labloop.ledger.memory import Memory
from labloop.proposing.selectors import BY_CHANCE
from labloop.rounds import properties, state
from labloop.rounds.audit import audit
from labloop.rounds.bounds import with_beta
from labloop.rounds.predict import Z
from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective
from labloop.space.parameters import Sequence as Letters
from labloop.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class Why:
    """The reasons of a pick, or of no pick."""

    campaign: str
    subject: str
    """As it was asked for, in full."""
    design_id: str | None
    design: dict[str, Any]
    round: int | None
    """The latest that picked it."""
    picks: tuple[dict[str, Any], ...]
    """One an arm: `arm`, `rank`, `of` (its picks, vetoed ones too), `proposer`, `predicted`, `low`, `high` (90 % of readings),
    `bound`, `beta`, in the lab's unit; None where nobody judged."""
    offers: tuple[dict[str, Any], ...]
    """One a pool that held it: `arm`, `proposer`, `rank`, `n` of the pool, `score`."""
    credits: dict[str, dict[str, int]]
    """By arm that picked it, how many of its picks each proposer offered."""
    nearest: dict[str, Any] | None
    """The nearest measured design when it was picked: `design_id`, `value`, `distance`, `differs`."""
    measured: float | None
    """In the lab's unit; None where there is no value."""
    chance: float | None
    """Of keeping every limit, as the judge saw it when the design was picked; None where nothing has limits or nobody judged."""
    breaks: tuple[str, ...]
    """Limits that its readings break, in words."""
    unit: str
    said: str

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return asdict(self)


def why(memory: Memory, what: str) -> Why:
    """Tell why the design of `PLATE:WELL`, or of an id, was picked.

    Raises:
        CampaignError: there is nothing of this name; the message names the nearest.
    """
    told = audit(memory, what)
    if told.design_id is None:
        said = f"{told.subject} holds no design: a control, or nothing."
        return Why(
            campaign=memory.name, subject=told.subject, design_id=None, design={}, round=None, picks=(), offers=(), credits={},
            nearest=None, measured=None, chance=None, breaks=(), unit=memory.config.objective.unit, said=said,
        )  # fmt: skip
    objective, one = memory.config.objective, told.design_id
    events = memory.ledger.events(memory.name)
    every = with_beta(memory.ledger.picks(memory.name), events)
    mine = every[every["design_id"] == one]
    number = None if mine.empty else int(mine["round"].max())
    here = every[every["round"] == number] if number is not None else every.iloc[:0]
    mine = here[here["design_id"] == one]
    picks = tuple(_pick(row, here, objective) for _, row in mine.iterrows())
    offers = _offers(memory, one, number)
    credits = {arm: _count(here[here["arm"] == arm]["proposer"]) for arm in mine["arm"].tolist()}
    whole = state.dataset(memory)
    data = whole.lead
    places = {name: i for i, name in enumerate(data.ids)}
    near = None if mine.empty else _nearest(memory, mine.iloc[0], one, places, data.y)
    measured = float(objective.to_value(data.y[[places[one]]])[0]) if one in places else None
    told_design = {key: value for key, value in told.design.items() if key in memory.config.space.columns}
    runs = memory.ledger.runs(memory.name)
    own = set(runs.loc[(runs["round"] == number) & (runs["proposer"] == BY_CHANCE), "arm"])  # whose own proposer it is
    by_chance = any(pick["proposer"] == BY_CHANCE and pick["arm"] not in own for pick in picks)
    chance, breaks = properties.chance(memory.config, events, number, one), properties.broken(whole, one)
    parts = _sentences(told.subject, told_design, number, picks, offers, credits, near, measured, objective, by_chance)
    if chance is not None:
        parts.insert(len(parts) - (measured is not None), f"It gave all limits a chance of {chance:.2g} to be kept.")
    if breaks:
        parts.append(f"It breaks a limit: {', '.join(breaks)}.")
    return Why(
        campaign=memory.name, subject=told.subject, design_id=one, design=told_design, round=number, picks=picks, offers=offers,
        credits=credits, nearest=near, measured=measured, chance=chance, breaks=breaks,
        unit=objective.unit, said=" ".join(parts),
    )  # fmt: skip


def _pick(row: pd.Series[Any], here: pd.DataFrame, objective: Objective) -> dict[str, Any]:
    mean, std, bound, beta = (float(row[name]) for name in ("mean", "std", "lcb", "beta"))
    ends: list[float | None] = [None, None]
    if np.isfinite(mean + std):
        ends = np.sort(objective.to_value(np.array([mean - Z * std, mean + Z * std]))).tolist()
    return {
        "arm": row["arm"], "rank": int(row["rank"]), "of": int(here.loc[here["arm"] == row["arm"], "rank"].max()),
        "proposer": row["proposer"],
        "predicted": _value(objective, mean), "low": ends[0], "high": ends[1], "bound": _value(objective, bound),
        "beta": beta if np.isfinite(beta) else None,
    }  # fmt: skip


def _offers(memory: Memory, design_id: str, number: int | None) -> tuple[dict[str, Any], ...]:
    rows = memory.ledger.trail(memory.name, design_id=design_id).proposals
    rows = rows[rows["round"] == number] if number is not None else rows
    runs = memory.ledger.runs(memory.name)
    counts = {one: Counter(key for key, _ in memory.ledger.offers(memory.name, one)) for one in set(rows["round"].astype(int))}
    sizes = {
        (int(run["round"]), run["arm"], run["proposer"]): counts[int(run["round"])][run["key"]]
        for run in runs[runs["round"].isin(rows["round"])].to_dict("records")
    }
    return tuple(
        {"round": int(row["round"]), "arm": row["arm"], "proposer": row["proposer"], "rank": int(row["rank"]),
         "n": sizes.get((int(row["round"]), row["arm"], row["proposer"])),
         "score": None if pd.isna(row["score"]) else float(row["score"])}
        for row in rows.sort_values(["arm", "rank"]).to_dict("records")
    )  # fmt: skip


def _count(proposers: pd.Series[Any]) -> dict[str, int]:
    return {str(name): int(n) for name, n in proposers.value_counts().items()}


def _nearest(
    memory: Memory, row: pd.Series[Any], design_id: str, places: dict[str, int], y: FloatArray
) -> dict[str, Any] | None:  # fmt: skip
    near = row["nearest_id"]
    if not near or pd.isna(near):
        return None
    objective = memory.config.objective
    value = float(objective.to_value(y[[places[near]]])[0]) if near in places else None
    found: dict[str, Any] = {"design_id": str(near), "value": value, "distance": float(row["nearest_distance"]), "differs": []}
    known = memory.ledger.designs(memory.name, [design_id, str(near)])
    space = memory.config.space
    if {design_id, near} <= set(known.index) and set(space.columns) <= set(known.columns):
        found["differs"] = differences(space, known.loc[[near]][list(space.columns)], known.loc[[design_id]][list(space.columns)])
    return found


def differences(space: DesignSpace, old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    """Say in which letters, options and numbers two designs differ, on the strands that differ least."""
    twins = space.orbit(space.encode(old, strict=False))
    target = space.encode(new, strict=False)
    nearest = min(range(len(twins)), key=lambda i: float(np.abs(twins[i] - target).sum()))
    values = [space.decode_as_written(X).iloc[0] for X in (twins[nearest], target)]
    told = []
    for parameter in space:
        if isinstance(parameter, Letters):
            pairs = zip_longest(*(str(one[parameter.name]) for one in values), fillvalue="–")
            told += [f"{parameter.name} {place}: {a} → {b}" for place, (a, b) in enumerate(pairs, 1) if a != b]
        else:
            told += [
                f"{name}: {_text(values[0][name])} → {_text(values[1][name])}" for name in parameter.columns
                if values[0][name] != values[1][name]
            ]  # fmt: skip
    return told


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(objective: Objective, y: float) -> float | None:
    return float(objective.to_value(np.array([y]))[0]) if np.isfinite(y) else None


def _sentences(
    subject: str, design: dict[str, Any], number: int | None, picks: Sequence[dict[str, Any]], offers: Sequence[dict[str, Any]],
    credits: dict[str, dict[str, int]], near: dict[str, Any] | None, measured: float | None, objective: Objective,
    by_chance: bool,
) -> list[str]:  # fmt: skip
    unit = f" {objective.unit}" if objective.unit else ""
    written = ", ".join(_text(value) if len(design) == 1 else f"{name} {_text(value)}" for name, value in design.items())
    first = next((one for one in picks if one["predicted"] is not None), None)
    even = objective.transform == "identity"  # under a logarithm each end has digits of its own
    scale = (first["high"] - first["low"]) / 4 if even and first and first["low"] is not None else None

    def number_of(value: float) -> str:
        return spell(value, abs(value) if scale is None or scale <= 0 else scale, digits=3)

    told = []
    if number is None:
        wanted = f"it was offered by {_offered(offers)}, but no arm picked it" if offers else "no proposer of labloop offered it"
        told.append(f"{subject} holds {written}: {wanted}." if subject != written else f"{written}: {wanted}.")
    else:
        arms = " and ".join(f"{one['arm']} ({_place(one['rank'])} of its {one['of']} picks)" for one in picks)
        told.append(f"{subject} holds {written}, picked in round {number} by {arms}.")
        if offers:
            told.append(f"Offered by {_offered(offers)}.")
        if by_chance:
            told.append("It was drawn at random, as the judge could hardly be told from chance.")
        for arm, counts in credits.items():
            if len(counts) > 1:
                told.append(f"Of {whose(arm)} picks {', '.join(f'{n} came from {name}' for name, n in counts.items())}.")
    if near is not None:
        value = "" if near["value"] is None else f" with {number_of(near['value'])}{unit}"
        differs = near["differs"]
        more = f": {', '.join(differs[:8])}" + (f" and {len(differs) - 8} more" if len(differs) > 8 else "") if differs else ""
        told.append(f"The nearest design measured then is {near['design_id']}{value}, at distance {near['distance']:.3g}{more}.")
    if first is not None:
        said = f"The judge predicted {number_of(first['predicted'])}{unit}"
        if first["low"] is not None:
            said += f", nine readings of ten between {number_of(first['low'])} and {number_of(first['high'])}"
        for one in picks:
            if one["bound"] is not None and not by_chance:
                at = "by its selector's own rule" if one["beta"] is None else f"at beta {one['beta']:.3g}"
                said += f"; {one['arm']} went by {number_of(one['bound'])} {at}"
        told.append(f"{said}.")
    elif number is not None:
        told.append("No judge predicted it.")
    if measured is not None:
        inside = ""
        if first is not None and first["low"] is not None:
            inside = ", as expected" if first["low"] <= measured <= first["high"] else ", outside of what was expected"
        told.append(f"It was measured at {number_of(measured)}{unit}{inside}.")
    return told


def _offered(offers: Sequence[dict[str, Any]]) -> str:
    return " and ".join(
        f"{one['proposer']} of {one['arm']} as its {_place(one['rank'])}{f' of {n}' if (n := one['n']) else ''}" for one in offers
    )


def _place(rank: int) -> str:
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"
