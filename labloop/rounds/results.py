"""What every pick of a campaign came to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from labloop.assays.readings import usable
from labloop.ledger.frames import TEXT
from labloop.ledger.memory import Memory
from labloop.ledger.states import RoundState
from labloop.plates.statuses import BOUNDS
from labloop.proposing.dataset import SIDES, summed_up


def results(memory: Memory, *, until: int | None = None, before_round: int | None = None) -> pd.DataFrame:
    """List every pick of every arm with its stored predictions and its measured y (NaN where it failed or is missing).

    As in the dataset, policies and normalisation are applied, `censored` says on which side of y the truth is, and readings are
    joined as `labloop.proposing.dataset.summed_up` says; a pick whose only readings a policy dropped is `excluded`, and one that
    bounds hem in from both sides `ok`.

    Args:
        until: only measurements up to this ledger id.
        before_round: with the flags that stood when this round opened.
    """
    if until is None and before_round is None:
        return memory.kept("results", partial(_results, memory, None, None)).copy(deep=False)
    return _results(memory, until, before_round)


def _results(memory: Memory, until: int | None, before_round: int | None) -> pd.DataFrame:
    picks = memory.ledger.picks(memory.name)
    everything = memory.ledger.measurements(memory.name, until=until)
    use = usable(memory, rows=everything, before_round=before_round)

    keys = list(zip(picks["round"].tolist(), picks["design_id"].tolist()))
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    rows = everything[(everything["assay"] == memory.config.objective.assay).to_numpy(dtype=bool)]
    status: dict[int, str] = {}  # the first exact one, else the first that carries a value, else the first
    dropped = set(use.dropped["id"].tolist())
    for i, one, told in zip(_places(place, rows), rows["id"].tolist(), rows["status"].tolist()):
        told = "excluded" if one in dropped else told
        if i >= 0 and (i not in status or _TELLS.get(told, 0) > _TELLS.get(status[i], 0)):
            status[i] = told
    at = np.array(_places(place, use.rows), dtype=int)
    rows, objective = use.rows[at >= 0], memory.config.objective
    sides = np.array([SIDES[one] for one in rows["qualifier"]], dtype=np.int64) * objective.sign
    y = objective.to_y(rows["value"].to_numpy(float))
    mean, censored = summed_up(at[at >= 0], y, sides, rows["weight"].to_numpy(float), len(place))
    closed = {entry.number for entry in memory.ledger.rounds(memory.name) if entry.state == RoundState.CLOSED}
    wells = [place[key] for key in keys]
    states = [status.get(i, "missing" if key[0] in closed else "pending") for i, key in zip(wells, keys)]
    states = ["ok" if told in BOUNDS and censored[i] == 0 and mean[i] == mean[i] else told for i, told in zip(wells, states)]
    at = np.array(wells, dtype=int)
    return picks.assign(y=mean[at], censored=censored[at], status=pd.Series(states, index=picks.index, dtype=TEXT))


_TELLS = {"ok": 2} | dict.fromkeys(BOUNDS, 1)
"""How much a reading tells by its status; all others tell nothing of a value."""


def _places(place: Mapping[tuple[int, str], int], rows: pd.DataFrame) -> list[int]:
    """Find where each reading's round and design stand; -1 where they stand nowhere."""
    numbers = rows["round"].to_numpy(dtype=float, na_value=np.nan).tolist()
    return [place.get(key, -1) for key in zip(numbers, rows["design_id"].tolist())]  # type: ignore[arg-type]


def contradictions(memory: Memory, status: pd.Series[str]) -> list[str]:
    """Say of which designs an assay has a bound from below that is higher than one from above, and nothing exact.

    Args:
        status: of all readings; nothing is looked up where they hold no two kinds of bounds.
    """
    if not set(BOUNDS) <= set(status.unique()):
        return []
    rows = memory.ledger.measurements(memory.name, columns=("id", "assay", "design_id", "status", "value"))
    rows = rows[rows["status"].isin(_TELLS) & rows["design_id"].notna()]
    low, high = (rows["value"].where(rows["status"] == one) for one in ("censored_high", "censored_low"))
    by = rows.assign(low=low, high=high, exact=rows["status"] == "ok").groupby(["assay", "design_id"])  # whole: rows are many
    found = by.agg(low=("low", "max"), high=("high", "min"), exact=("exact", "any"))
    found = found[~found["exact"] & (found["low"] > found["high"])]
    return [
        f"design {design} reads above {low:g} and below {high:g} in {assay}, which cannot both be: the "
        f"middle stands for it until one of them is corrected (labloop correct FILE -c {memory.name} --reason …)"
        for (assay, design), low, high in zip(found.index, found["low"], found["high"], strict=True)
    ]
