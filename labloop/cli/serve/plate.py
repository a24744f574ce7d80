"""A round's plate as a page shows it: a cell a well, and all that is known of the one that was touched."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labloop.campaign.facade import Campaign
from labloop.ledger.states import RoundState
from labloop.plates.batch import Batch, wells_with_samples
from labloop.plates.wells import row_name, well_name
from labloop.rounds.state import MEASURED
from labloop.runtime.numbers import spelt

SHADES = 8
_BLIND = {
    "opened", "laid out", "exported", "measured", "corrected", "flagged", "flag taken back", "complete", "closed",
    "approval_asked", "approved", "rejected",
}  # fmt: skip
"""Steps of an audit that do not tell arms apart."""
_COLUMNS = ("id", "assay", "design_id", "value", "qualifier", "unit", "status", "plate", "well", "note", "file", "row")


@dataclass(frozen=True, kw_only=True)
class WellShown:
    """One well of the picture."""

    well: str
    shown: str
    """A few characters."""
    kind: str
    """Its classes: `design`, `control` or `empty`, and a shade where it has a value, `lost`, `flagged`, `chosen`."""
    told: str
    """For whoever hears the page rather than sees it."""


@dataclass(frozen=True, kw_only=True)
class PlateShown:
    """One plate of the picture."""

    name: str
    columns: tuple[int, ...]
    rows: tuple[tuple[str, tuple[WellShown, ...]], ...]


def is_blinded(state: RoundState) -> bool:
    """Say whether the lab has still to measure, so that nobody at the bench shall know which arm wanted a well."""
    return state in (RoundState.PROPOSED, RoundState.EXPORTED)


def readings_of(run: Campaign, number: int) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Give the readings that stand of a round's wells, with their flags: by plate and well."""
    plates = run.ledger.wells(run.name, number)["plate"].unique().tolist()
    rows = run.ledger.measurements(run.name, since=run.round(number).snapshot, plates=plates, columns=_COLUMNS)
    flags = run.ledger.flags(run.name)
    flags = flags[flags["measurement"].isin(rows["id"])]
    rules: dict[int, list[str]] = {}
    for one, rule in zip(flags["measurement"].tolist(), flags["rule"].tolist()):
        rules.setdefault(int(one), []).append(str(rule))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cells in rows.astype(object).where(rows.notna(), None).itertuples(index=False, name=None):
        row: dict[str, Any] = dict(zip(_COLUMNS, cells))
        found.setdefault((str(row["plate"]), str(row["well"])), []).append({**row, "flags": rules.get(row["id"], [])})
    return found


def plates_of(
    run: Campaign, number: int, readings: Mapping[tuple[str, str], list[dict[str, Any]]], chosen: str | None
) -> list[PlateShown]:
    """Draw a round's plates."""
    wells = run.ledger.wells(run.name, number)
    objective, shape = run.config.objective, run.at(number).config.plate.shape
    values = {spot: _value(rows, objective.assay) for spot, rows in readings.items()}
    designs = {(str(one["plate"]), str(one["well"])) for one in wells[wells["design_id"].notna()].to_dict("records")}
    known = [value for spot, value in values.items() if value is not None and spot in designs]
    shade = _shades(known, down=objective.direction == "min")
    plates = []
    for name, mine in wells.groupby("plate", sort=False):
        held = {str(one["well"]): one for one in mine.to_dict("records")}
        rows = tuple(
            (
                row_name(r),
                tuple(
                    _cell(str(name), well_name(r, c), held, readings, values, shade, objective.unit, chosen)
                    for c in range(1, shape[1] + 1)
                ),
            )
            for r in range(1, shape[0] + 1)
        )
        plates.append(PlateShown(name=str(name), columns=tuple(range(1, shape[1] + 1)), rows=rows))
    return plates


def _cell(
    plate: str, well: str, held: Mapping[str, Any], readings: Mapping[tuple[str, str], list[dict[str, Any]]],
    values: Mapping[tuple[str, str], float | None], shade: Any, unit: str, chosen: str | None,
) -> WellShown:  # fmt: skip
    spot, one = (plate, well), held.get(well)
    if one is None:
        return WellShown(well=well, shown="", kind="empty", told=f"{well}: empty")
    control = None if pd.isna(one["control"]) else str(one["control"])
    kind, what = ("control", f"control {control}") if control else ("design", "design")
    value, rows = values.get(spot), readings.get(spot, [])
    told = f"{well}: {what}"
    if value is not None:
        kind += "" if control else f" s{shade(value)}"
        told += f", {spelt(value)} {unit}".rstrip()
    elif rows:
        kind, told = f"{kind} lost", f"{told}, {rows[-1]['status']}"
    else:
        told += ", not measured yet"
    if any(row["flags"] for row in rows):
        kind, told = f"{kind} flagged", f"{told}, flagged"
    if chosen == f"{plate}:{well}":
        kind += " chosen"
    shown = "×" if "lost" in kind else f"{value:.2g}" if value is not None else "c" if control else ""
    return WellShown(well=well, shown=shown, kind=kind, told=told)


def _value(rows: Collection[Mapping[str, Any]], assay: str) -> float | None:
    """The last reading with a value, of the assay that the campaign learns from."""
    found = [row["value"] for row in rows if row["assay"] == assay and row["status"] in MEASURED and row["value"] is not None]
    return float(found[-1]) if found else None


def _shades(values: Collection[float], *, down: bool) -> Any:
    low, high = (min(values), max(values)) if values else (0.0, 0.0)

    def shade(value: float) -> int:
        place = 0.5 if high <= low or not math.isfinite(high - low) else (value - low) / (high - low)
        return min(SHADES - 1, max(0, int((1 - place if down else place) * SHADES)))

    return shade


def well_of(batch: Batch, spot: str, *, blind: bool) -> dict[str, Any] | None:
    """Tell what was laid out in one well, `PLATE:WELL`; None where the round has no such well.

    Args:
        blind: leave out all that tells arms apart.
    """
    wells = wells_with_samples(batch)
    plate, _, well = spot.rpartition(":")
    mine = wells[(wells["plate"] == plate) & (wells["well"] == well)]
    if mine.empty:
        return None
    one = mine.iloc[0]
    design_id = None if pd.isna(one["design_id"]) else str(one["design_id"])
    design = {} if design_id is None else {str(name): _short(cell) for name, cell in batch.designs.loc[design_id].items()}
    picks = batch.picks[batch.picks["design_id"] == design_id] if design_id and not blind else batch.picks.iloc[:0]
    objective, unit = batch.objective, batch.objective.unit
    wanted = [
        {
            "arm": row["arm"], "proposer": row["proposer"], "rank": int(row["rank"]),
            "predicted": "" if pd.isna(row["mean"]) else f"{spelt(float(objective.to_value(row['mean'])))} {unit}".rstrip(),
        }
        for row in picks.to_dict("records")
    ]  # fmt: skip
    return {
        "spot": spot, "plate": plate, "well": well, "sample": one["sample"], "design_id": design_id, "design": design,
        "control": None if pd.isna(one["control"]) else str(one["control"]), "wanted": wanted,
    }  # fmt: skip


def story_of(run: Campaign, spot: str, blind: bool) -> list[dict[str, str]]:
    """Tell what happened to a well of `PLATE:WELL` and its design, in order; `blind`: what does not tell arms apart."""
    steps = [step for step in run.audit(spot).steps if not blind or step.what in _BLIND]
    return [{"at": step.at[:16].replace("T", " "), "by": step.by, "what": step.what, "said": step.said} for step in steps]


def _short(cell: Any) -> str:
    return f"{cell:.10g}" if isinstance(cell, float) else str(cell)
