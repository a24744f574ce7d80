"""What the ledger says of a campaign, as values: the dataset, what is missing, what each pick came to, where things stand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.readings import MEASURED, standing_flags, usable, weights
from labloop.errors import QualityError
from labloop.ledger import Round
from labloop.ledger.memory import Memory
from labloop.ledger.states import AT_THE_LAB, TRAINING, RoundState
from labloop.proposing.dataset import Dataset
from labloop.proposing.history import ENOUGH
from labloop.rounds import planned, properties, spending
from labloop.rounds.decisions import decisions, waiting
from labloop.rounds.results import contradictions, results
from labloop.space.goal import Goal
from labloop.types import Array

__all__ = [
    "AT_THE_LAB", "ENOUGH", "MEASURED", "beyond_plan", "dataset", "designs", "enough", "missing", "results", "rounds_now",
    "standing", "waiting_plates",
]  # fmt: skip


def designs(memory: Memory) -> pd.DataFrame:
    """Give every design that the campaign knows, indexed by `design_id`, with the space's columns (also where there is none)."""
    return memory.ledger.designs(memory.name).reindex(columns=list(memory.config.space.columns))


def dataset(memory: Memory, *, until: int | None = None, before_round: int | None = None, normalised: bool = True) -> Dataset:
    """Take every measurement so far, with the designs that are in the lab now as pending.

    Flagged readings are dropped or count less as the assay's policies say, and values are normalised as it declares. A design
    that failed by itself (`failed_design`) and was never measured is held like a pending one: it is not proposed again.

    Args:
        until: only measurements up to this ledger id: the view that a past round had.
        before_round: only earlier rounds count as pending, and only flags from before this round opened.
        normalised: False leaves values as the lab sent them.

    Raises:
        QualityError: the declared normalisation cannot be done, or lowers the agreement of replicates.
    """
    if until is None and before_round is None:
        return memory.kept(("dataset", normalised), partial(_dataset, memory, None, None, normalised=normalised))
    return _dataset(memory, until, before_round, normalised=normalised)


def _dataset(memory: Memory, until: int | None, before_round: int | None, *, normalised: bool) -> Dataset:
    if memory.config.goal is not None:
        return _several(memory, memory.config.goal, until=until, before_round=before_round, normalised=normalised)
    rows, use = _learnt(memory, until=until, before_round=before_round, normalised=normalised)
    failed = rows[(rows["status"] == "failed_design").to_numpy(dtype=bool)]
    failed = failed[(failed["assay"] == memory.config.objective.assay) & failed["design_id"].notna()]
    known = designs(memory)
    codes, distinct = pd.factorize(use["design_id"])
    gone = set(failed["design_id"]) - set(distinct)
    held = _pending(memory, until, before_round) | gone
    return Dataset.from_measurements(
        memory.config.space,
        known.loc[distinct].iloc[codes].reset_index(drop=True),
        use["value"].to_numpy(float),
        objective=memory.config.objective,
        qualifiers=use["qualifier"].to_numpy(dtype=object).tolist(),
        weights=weights(use),
        pending=known.loc[sorted(held)],
        failed=known.loc[sorted(gone)],
    )


_A_FEW = 2_000


def enough(memory: Memory) -> bool:
    """Say whether designs enough are measured for a first model, or others know some; of many readings the first nearly always
    tell."""
    if memory.config.begins_with_history:
        return True
    taken = int(memory.ledger.files(memory.name)["n_rows"].sum())
    if memory.config.goal is None and taken > 2 * _A_FEW:
        until = memory.ledger.newest(memory.name) - taken + _A_FEW  # ids of a campaign are one or more apart
        with suppress(QualityError):
            if _learnt(memory, until=until, before_round=None, normalised=True)[1]["design_id"].nunique() >= ENOUGH:
                return True
    return len(dataset(memory)) >= ENOUGH


def _several(memory: Memory, goal: Goal, *, until: int | None, before_round: int | None, normalised: bool) -> Dataset:
    """Take the readings of every property, each as `dataset` takes those of one."""
    rows = memory.ledger.measurements(memory.name, until=until)
    known, space = designs(memory), memory.config.space
    parts, measured = [], set[str]()
    for objective in goal.properties.values():
        use = usable(memory, assay=objective.assay, rows=rows, before_round=before_round, normalised=normalised).rows
        use = use[use["design_id"].notna()]
        part = Dataset.from_measurements(
            space, known.loc[use["design_id"]].reset_index(drop=True), use["value"].to_numpy(float), objective=objective,
            qualifiers=use["qualifier"].to_numpy(dtype=object).tolist(), weights=weights(use),
        )  # fmt: skip
        parts.append(part)
        measured |= set(use["design_id"].unique())
    gone = rows.loc[(rows["status"] == "failed_design") & rows["assay"].isin(goal.assays), "design_id"].dropna()
    failed = set(gone) - measured
    held = (_pending(memory, until, before_round) | failed) - measured
    encoded = [space.encode(known.loc[sorted(some)], strict=False) if some else np.zeros((0, space.d)) for some in (held, failed)]
    return Dataset.of_properties(goal, parts, pending=encoded[0], failed=encoded[1])


_NEEDED = ("id", "assay", "design_id", "status", "value", "qualifier")
"""What a dataset takes of a reading whose value stays as it is."""


def _learnt(
    memory: Memory, *, until: int | None, before_round: int | None, normalised: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read what stands, and those of it that models learn from: readings of designs, with a value and a weight."""
    plain = not normalised or memory.config.assays[memory.config.objective.assay].normalise == "none"
    rows = memory.ledger.measurements(memory.name, until=until, columns=_NEEDED if plain else None)
    use = usable(memory, rows=rows, before_round=before_round, normalised=normalised).rows
    return rows, use[use["design_id"].notna()]


def _pending(memory: Memory, until: int | None, before_round: int | None) -> set[str]:
    waiting = [
        entry.number
        for entry in memory.ledger.rounds(memory.name)
        if entry.state in AT_THE_LAB and (before_round is None or entry.number < before_round)
    ]
    wells = memory.ledger.wells(memory.name)
    wells = wells[wells["round"].isin(waiting) & wells["design_id"].notna()]
    return set(_unread(memory, wells, *memory.config.required, until=until)["design_id"])


def missing(memory: Memory, *numbers: int) -> pd.DataFrame:
    """List the wells of some rounds that hold a design and have no result yet, not even a failed one."""
    return _unread(memory, _with_designs(memory, *numbers), *memory.config.required)


def awaited(memory: Memory, number: int) -> list[str]:
    """List the assays that a round waits for."""
    wells = _with_designs(memory, number)
    return [assay for assay, left in _lacking(memory, wells, *memory.config.required).items() if left.any()]


def _with_designs(memory: Memory, *numbers: int) -> pd.DataFrame:
    wells = memory.ledger.wells(memory.name, numbers[0] if len(numbers) == 1 else None)
    return wells[wells["round"].isin(numbers) & wells["design_id"].notna()]


def rounds_now(memory: Memory) -> list[Round]:
    """List the rounds as `Ledger.rounds`; one whose last well came in is MEASURED, whether or not that is written yet."""
    rounds = memory.ledger.rounds(memory.name)
    done = set(complete(memory, rounds))
    return [replace(one, state=RoundState.MEASURED) if one.number in done else one for one in rounds]


def complete(memory: Memory, rounds: Sequence[Round]) -> list[int]:
    """Number those of the rounds whose plates are at the lab with no well left to come in."""
    out = [one.number for one in rounds if one.state in AT_THE_LAB]
    waiting = set(missing(memory, *out)["round"]) if out else set()
    return [number for number in out if number not in waiting]


def round_state(memory: Memory, number: int) -> RoundState | None:
    """Tell a round's state; None where it has not been opened."""
    return next((entry.state for entry in memory.ledger.rounds(memory.name) if entry.number == number), None)


def waiting_plates(memory: Memory, assay: str) -> tuple[str, ...]:
    """List the plates with wells that this assay has no result for yet, of rounds that are not closed."""
    laid_out = (*AT_THE_LAB, RoundState.MEASURED)
    open_rounds = [entry.number for entry in memory.ledger.rounds(memory.name) if entry.state in laid_out]
    if not open_rounds:
        return ()
    wells = memory.ledger.wells(memory.name)
    left = _unread(memory, wells[wells["round"].isin(open_rounds) & wells["design_id"].notna()], assay)
    return tuple(dict.fromkeys(left["plate"].astype(str)))


def _unread(memory: Memory, wells: pd.DataFrame, *assays: str, until: int | None = None) -> pd.DataFrame:
    """Give the wells that one of some assays has no reading of."""
    if wells.empty:
        return wells
    return wells[np.any([*_lacking(memory, wells, *assays, until=until).values()], axis=0)]


def _lacking(memory: Memory, wells: pd.DataFrame, *assays: str, until: int | None = None) -> dict[str, Array]:
    """Say by assay which wells (n,) have no reading of it, of the design that they hold; only their plates' are looked at.

    A well that one of several assays gave up, as its design failed, waits for no other.
    """
    told = ("assay", "status", "plate", "well", "design_id")
    plates, since = wells["plate"].unique().tolist(), _before(memory, wells)
    rows = memory.ledger.measurements(memory.name, until=until, since=since, plates=plates, columns=told)
    read: dict[str, set[tuple[str, ...]]] = {assay: set() for assay in assays}
    for assay, status, *spot in zip(*(rows[name].tolist() for name in told)):
        for one in assays if status == "failed_design" and len(assays) > 1 else (assay,):
            if one in read:
                read[one].add(tuple(spot))
    places = list(zip(*(wells[name].tolist() for name in told[2:])))
    return {assay: np.array([place not in there for place in places], dtype=bool) for assay, there in read.items()}


def _before(memory: Memory, wells: pd.DataFrame) -> int:
    """Give the id of the last reading from before these wells' rounds opened: none of their plates came in by then."""
    numbers = set(wells["round"])
    return min((entry.snapshot for entry in memory.ledger.rounds(memory.name) if entry.number in numbers), default=0)


def standing(memory: Memory) -> dict[str, Any]:
    """Tell where the campaign stands and what comes next, as plain values."""
    trouble = None
    try:
        data = dataset(memory)
    except QualityError as error:
        data, trouble = dataset(memory, normalised=False), str(error)
    rounds = _rounds(memory)
    known = data if trouble is None else data.take(np.zeros(0, dtype=int))  # values on no common scale have no best
    lead = known.lead
    return {
        "campaign": memory.name,
        "designs": len(data),
        "best": float(memory.config.objective.to_value(lead.y[[lead.best]])[0]) if len(lead) else None,
        "unit": memory.config.objective.unit,
        "rounds": rounds,
        "planned": memory.config.rounds,
        "next": trouble or _next(memory, rounds, len(data)),
        **({} if known.properties is None else properties.standing(known)),
        **_more(memory),
        **spending.told(memory),
    }


def outlook(memory: Memory) -> dict[str, Any]:
    """Tell `next` and any `warnings` as `standing` does, from counts: no dataset is made."""
    trouble = None
    try:
        use = _learnt(memory, until=None, before_round=None, normalised=True)[1]
    except QualityError as error:
        use, trouble = _learnt(memory, until=None, before_round=None, normalised=False)[1], str(error)
    return {"next": trouble or _next(memory, _rounds(memory), use["design_id"].nunique()), **_more(memory)}


def _rounds(memory: Memory) -> list[dict[str, Any]]:
    """Each round with its state and how many of its wells there are and are missing."""
    entries = rounds_now(memory)
    if not entries:
        return []
    wells = memory.ledger.wells(memory.name)
    laid = wells.loc[wells["design_id"].notna(), "round"].value_counts()
    left = missing(memory, *(entry.number for entry in entries))["round"].value_counts()
    return [
        {
            "round": entry.number,
            "state": entry.state.value,
            "wells": int(laid.get(entry.number, 0)),
            "missing": int(left.get(entry.number, 0)),
        }
        for entry in entries
    ]


def _more(memory: Memory) -> dict[str, Any]:
    """Readings of assays beside the objective's, flags by rule, lists by hand that wait and what was decided about the latest
    round's wells, where there are any."""
    rows = memory.ledger.measurements(memory.name, columns=("id", "assay", "status"))
    statuses = rows["status"]
    own = [memory.config.objective.assay] if memory.config.goal is None else memory.config.goal.assays
    others = rows.loc[~rows["assay"].isin(own) & rows["status"].isin(MEASURED), "assay"].value_counts()
    flags = standing_flags(memory)
    rules = flags.loc[flags["measurement"].isin(rows["id"]), "rule"].value_counts()
    told: dict[str, Any] = {}
    for name, counts in (("other_assays", others), ("flags", rules)):
        if len(counts):
            told[name] = {str(key): int(n) for key, n in counts.sort_index().items()}
    if flags["rule"].isin(_MISTAKEN).any():
        rows = memory.ledger.measurements(memory.name, columns=("id", "plate", "file"))
        if warnings := mistaken_plates(rows, flags):
            told["warnings"] = warnings
    if warnings := contradictions(memory, statuses):
        told["warnings"] = [*told.get("warnings", ()), *warnings]
    if lists := waiting(memory):
        told["by_hand"] = lists
    rounds = memory.ledger.rounds(memory.name)
    if rounds and (said := decisions(memory, rounds[-1].number)):
        told["decisions"] = said
    return told


_MISTAKEN = ("swapped", "turned")


def mistaken_plates(rows: pd.DataFrame, flags: pd.DataFrame) -> list[str]:
    """Say which plates are not the ones that they were read as, and what to do about it."""
    mixed = flags[flags["rule"].isin(_MISTAKEN)].join(rows.set_index("id")[["plate", "file"]], on="measurement", how="inner")
    told = []
    for one in mixed.drop_duplicates(["plate", "file"]).to_dict("records"):
        looks = one["detail"].get("reads_like")
        where = f"where plate {looks} has them" if looks else "as on the plate turned by 180 degrees"
        told.append(
            f"plate {one['plate']} of {one['file']} seems to be another: its controls lie {where} (p = {one['detail']['p']:g}). "
            "Look at the plates, then ingest them again under their right names and wells (the later reading counts), or set the "
            f"policy of {one['rule']} to keep"
        )
    return told


def beyond_plan(memory: Memory) -> str | None:
    """Say so where the next round would be one more than planned; None where it would not, or one is open."""
    rounds = rounds_now(memory)
    return None if rounds and rounds[-1].state not in planned.DONE else planned.ended(memory.config, _done(memory))


def _done(memory: Memory) -> int:
    return planned.done(rounds_now(memory), memory.ledger.wells(memory.name), memory.ledger.events(memory.name))


def _next(memory: Memory, rounds: Sequence[dict[str, Any]], n_designs: int) -> str:
    last = rounds[-1] if rounds else None
    step = f"labloop step {memory.name}" if memory.config.schedule else ""  # which keeps to the schedule, and to its approval
    propose = step or f"labloop propose {memory.name}"
    if last is not None and last["state"] in TRAINING:
        return f"finish round {last['round']}: {propose}"
    if last is not None and last["state"] == RoundState.PROPOSED and last["missing"] == last["wells"]:
        return f"write the files of round {last['round']} for the lab: {step or f'labloop export {memory.name}'}"
    if last is not None and last["state"] in AT_THE_LAB:
        lack = awaited(memory, last["round"]) if len(memory.config.required) > 1 and last["missing"] else []
        named = " and ".join(filter(None, [", ".join(lack[:-1]), *lack[-1:]]))
        of = f", assay{'s' if len(lack) > 1 else ''} {named}" if lack else ""
        waits = f"round {last['round']} waits for {last['missing']} of {last['wells']} wells{of}"
        return f"{waits}: {memory.to_ingest(*(lack or memory.config.required))}"
    if n_designs < ENOUGH and not memory.config.begins_with_history:
        told = f"ingest the lab's measurements: {memory.to_ingest()}"
        start = f"; or begin with random designs: {step or f'{propose} config/rounds/first.yaml'}"
        return told if rounds else told + start
    n_done = _done(memory)
    if end := planned.ended(memory.config, n_done) or (None if step else spending.short(memory)):
        return end
    done = f" ({n_done} of {memory.config.rounds} planned rounds are done)" if rounds else ""
    return f"propose round {len(rounds) + 1}: {propose}{done}"
