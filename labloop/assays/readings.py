"""Readings as a campaign uses them: joined to the plates' layouts, checked, with flags, policies and normalisation applied.

The ledger keeps every reading as the lab sent it. What is written here are flags only, and only by `check`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labloop.assays.quality.normalise import Normalised, normalise
from labloop.assays.quality.plates import Flag, find_flags
from labloop.config.policies import DOWNWEIGHT
from labloop.ledger.frames import to_json
from labloop.ledger.memory import Memory
from labloop.plates.wells import holding, parse_well
from labloop.space.objective import Objective
from labloop.types import Array, FloatArray

MEASURED = ("ok", "censored_low", "censored_high")
"""Statuses of a well that carry a value to learn from."""


def with_places(memory: Memory, rows: pd.DataFrame) -> pd.DataFrame:
    """Add to readings what the layout knows: `row`, `column`, `control`, `role`, the plate's `n_rows` and `n_columns`, and
    `scaled`, which statistics are taken of.

    `value` becomes NaN where the status says that there is none to use.
    """
    laid = memory.ledger.wells(memory.name)
    wells, roles = laid[["plate", "well", "row", "column", "control"]], _roles(memory, laid)
    rows = rows.drop(columns="row", errors="ignore")  # the line of the file
    if len(wells):
        rows = rows.merge(wells, how="left", on=["plate", "well"])
    else:
        rows = rows.assign(row=np.nan, column=np.nan, control=None)
    place, bare = rows["row"].to_numpy(float, na_value=np.nan, copy=True), rows["well"].notna().to_numpy(dtype=bool)
    across = rows["column"].to_numpy(float, na_value=np.nan, copy=True)
    own = np.isnan(place) & bare
    if own.any():  # plates that labloop did not lay out
        codes, names = pd.factorize(rows.loc[own, "well"])
        spots = np.array([_spot(str(name)) for name in names], dtype=float).reshape(-1, 2)
        place[own], across[own] = spots[codes].T
    value = rows["value"].where(rows["status"].isin(MEASURED))
    rows = rows.assign(row=place, column=across)
    n_rows, n_columns = _shapes(memory, laid, rows, own).T
    return rows.assign(
        n_rows=n_rows, n_columns=n_columns, role=rows["control"].map(roles).astype(object), value=value,
        scaled=_scaled(memory, rows["assay"], value),
    )  # fmt: skip


def _roles(memory: Memory, wells: pd.DataFrame) -> dict[str, str | None]:
    """Give every control's role by its name; one that is on plates of earlier rounds only has the role that it had there."""
    roles: dict[str, str | None] = {control.name: control.role for control in memory.config.plate.controls}
    gone = wells["control"].notna() & ~wells["control"].isin(roles)
    for number in wells.loc[gone, "round"].unique().tolist():
        roles = {**{control.name: control.role for control in memory.at(number).config.plate.controls}, **roles}
    return roles


def _shapes(memory: Memory, wells: pd.DataFrame, rows: pd.DataFrame, others: Array) -> Array:
    """Give rows and columns of each reading's plate (n, 2): as it was laid out; of other plates the campaign's present ones, or
    those of the smallest usual plate that holds the wells which were read.

    Args:
        others: readings (n,) of plates that labloop did not lay out.
    """
    now, of = memory.config.plate.shape, wells.drop_duplicates("plate")[["plate", "round"]]
    then = {number: memory.at(number).config.plate.shape for number in of["round"].unique().tolist()}
    shapes = {plate: then[number] for plate, number in zip(of["plate"].tolist(), of["round"].tolist())}
    last = rows.loc[others & rows["row"].notna().to_numpy(dtype=bool)].groupby("plate")[["row", "column"]].max()
    for plate, row, column in last[(last["row"] > now[0]) | (last["column"] > now[1])].itertuples():
        shapes.setdefault(plate, holding(int(row), int(column)))
    codes, names = pd.factorize(rows["plate"])  # -1 where there is none, which is the last
    return np.array([*(shapes.get(name, now) for name in names), now])[codes]


def _spot(well: str) -> tuple[float, float]:
    try:
        return parse_well(well)
    except ValueError:
        return np.nan, np.nan


def _scaled(memory: Memory, assay: pd.Series[str], value: pd.Series[float]) -> FloatArray:
    """Values on the scale that the campaign learns on, in the lab's direction; a control at zero has no logarithm."""
    out = value.to_numpy(dtype=float, copy=True)
    for name in assay.unique():
        if is_log(memory.config.property_of(str(name))):
            mine = (assay == name).to_numpy(dtype=bool)
            with np.errstate(divide="ignore", invalid="ignore"):
                out[mine] = np.log(out[mine])
    return np.where(np.isfinite(out), out, np.nan)


def is_log(objective: Objective) -> bool:
    """Whether the campaign learns on logarithms."""
    return objective.transform != "identity"


# ---- flags

_CHECKED = ("id", "assay", "design_id", "value", "status", "plate", "well", "round", "measured_at", "note")
"""What quality control looks at."""


def check(memory: Memory) -> None:
    """Raise and take back flags until they say what quality control finds in all readings that stand; a no-op where they do.

    Two processes may check at once: the slower one looks again.
    """
    while (state := memory.ledger.last_check(memory.name))[1]:
        everything = memory.ledger.measurements(memory.name, columns=_CHECKED)
        until = int(everything["id"].max()) if len(everything) else 0
        due = due_flags(memory, everything)
        stands = memory.ledger.flags(memory.name)
        before = set(zip(stands["measurement"].astype(int), stands["rule"], strict=True))
        now = {(one, rule): detail for one, rule, detail in due}
        rows: list[tuple[int, str, bool, dict[str, Any] | None]] = [
            (one, str(rule), True, detail) for (one, rule), detail in now.items() if (one, rule) not in before
        ]
        if refuted := sorted(before - set(now)):
            standing = set(everything["id"].tolist())
            rows += [(one, rule, False, None) for one, rule in refuted if one in standing]
        if memory.ledger.add_flags(memory.name, rows, until=until, after=state[0]):
            return


def due_flags(memory: Memory, rows: pd.DataFrame) -> list[Flag]:
    """Say which flags these readings deserve."""
    placed = with_places(memory, rows)
    of_use = placed["value"].isna().to_numpy(dtype=bool) | placed["scaled"].notna().to_numpy(dtype=bool)
    placed = placed if of_use.all() else placed[of_use]
    return find_flags(placed, memory.ledger.wells(memory.name))


def standing_flags(memory: Memory, *, before_round: int | None = None) -> pd.DataFrame:
    """Give the flags that stand, as `Ledger.flags`: where readings wait for a check, those that it will find; nothing is written.

    Args:
        before_round: as they stood when this round opened.
    """
    stored = memory.ledger.flags(memory.name, before_round=before_round)
    if before_round is not None or not memory.ledger.last_check(memory.name)[1]:
        return stored
    everything = memory.ledger.measurements(memory.name, columns=_CHECKED)
    due = {(one, str(rule)): detail for one, rule, detail in due_flags(memory, everything)}
    before = list(zip(stored["measurement"].astype(int), stored["rule"], strict=True))
    gone = ~stored["measurement"].isin(everything["id"])
    stored = stored[gone.to_numpy(dtype=bool) | np.array([key in due for key in before], dtype=bool)]
    new = [(*key, plain_detail(detail), "") for key, detail in due.items() if key not in set(before)]
    if not new:
        return stored.reset_index(drop=True)
    frame = pd.DataFrame(new, columns=list(stored.columns)).astype(stored.dtypes.to_dict())
    return pd.concat([stored, frame], ignore_index=True) if len(stored) else frame


def plain_detail(detail: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give a flag's figures as they come back from the ledger."""
    return {} if detail is None else dict(json.loads(to_json(detail)))


# ---- what the campaign learns from


@dataclass(frozen=True, eq=False)
class Usable:
    """The readings of one assay that carry a value, and what was done to them."""

    rows: pd.DataFrame
    """One row a reading that is used: as the ledger gives it, with `value` normalised, `raw` as the lab sent it, and `weight` in
    (0, 1]: a reading of weight w is as good as w readings."""
    dropped: pd.DataFrame
    """Readings that a policy left out."""
    flags: pd.DataFrame
    """Flags of this assay's readings: measurement, rule, detail, at, policy."""
    normalised: Normalised


def usable(
    memory: Memory, *, assay: str | None = None, rows: pd.DataFrame | None = None,
    before_round: int | None = None, normalised: bool = True,
) -> Usable:  # fmt: skip
    """Take an assay's readings with policies and normalisation applied; controls and designs alike.

    Args:
        assay: the objective's where left out.
        rows: readings as `Ledger.measurements` gives them; all that stand where left out.
        before_round: with the flags as they stood when this round opened.
        normalised: False leaves values as the lab sent them.

    Raises:
        QualityError: the declared normalisation cannot be done, or lowers the agreement of replicates.
    """
    assay = assay or memory.config.objective.assay
    rows = memory.ledger.measurements(memory.name) if rows is None else rows
    spec = memory.config.assays[assay]
    flags = standing_flags(memory, before_round=before_round)
    rows = rows[(rows["assay"] == assay).to_numpy(dtype=bool) & rows["status"].isin(MEASURED).to_numpy(dtype=bool)]
    flags = flags[flags["measurement"].isin(rows["id"])] if len(flags) else flags
    said = spec.policies
    policies = [said.get(rule, np.nan) for rule in flags["rule"].tolist()]
    flags = flags.assign(policy=pd.Series(policies, index=flags.index, dtype=object))
    ids = list(zip(flags["measurement"].tolist(), policies))
    gone, light = (_named(rows["id"], [one for one, policy in ids if policy == less]) for less in ("drop", "downweight"))
    kept = rows[~gone] if gone.any() else rows
    weight = np.where(light[~gone], DOWNWEIGHT, 1.0)
    method = spec.normalise if normalised else "none"
    if method == "none":
        made = Normalised(kept["value"].to_numpy(float), None, "not normalised")
    else:
        placed = with_places(memory, kept)
        log = is_log(memory.config.property_of(assay))
        made = normalise(placed, method, log=log, place=f"assays.{assay}")
    return Usable(kept.assign(raw=kept["value"], weight=weight, value=made.value), rows[gone], flags, made)


def _named(ids: pd.Series[int], some: list[int]) -> NDArray[np.bool_]:
    """Say which of the ids (n,) are among some: mostly none are, and the look alone takes a while."""
    return ids.isin(some).to_numpy(dtype=bool) if len(some) else np.zeros(len(ids), dtype=bool)


def weights(rows: pd.DataFrame) -> Array | None:
    """Weights (m,) of readings, None where all count in full."""
    found = rows["weight"].to_numpy(float)
    return None if (found == 1.0).all() else found
