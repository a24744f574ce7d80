"""Each plate's figures, and the readings that a rule speaks of. Frames in, values out; nothing here knows the ledger.

`readings` has one row a standing reading: `id`, `assay`, `plate`, `well`, `row`, `column` (numbers from 1, NaN where the reading
has no place), `n_rows`, `n_columns` (of its plate, as it was laid out), `round`, `design_id`, `control`, `role`, `value`,
`scaled` (the value on the scale that the campaign learns on: its logarithm where the objective has one), `status`, `measured_at`
and `note`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.quality import layout
from labloop.assays.quality.screen import having, outer, worth_a_look
from labloop.assays.quality.statistics import (  # fmt: skip
    Effect,
    Figure,
    cv,
    drift,
    edge_effect,
    icc,
    median_polish,
    outliers,
    pooled_sd,
    signal_window,
    z_prime,
)
from labloop.config.policies import DRIFT_SIZE, EDGE_SIZE, RATE, TRANSFER, Rule
from labloop.seeds import generator
from labloop.types import FloatArray

Flag = tuple[int, Rule, dict[str, Any]]
"""A reading's id, the rule that speaks of it, and its figures."""


@dataclass(frozen=True)
class ControlLevel:
    """What one control came to on one plate."""

    name: str
    role: str | None
    n: int
    mean: float | None
    """In the lab's unit."""
    median: float | None
    cv: Figure


@dataclass(frozen=True)
class PlateQuality:
    """One plate of one assay in figures."""

    assay: str
    plate: str
    round: int | None
    n_designs: int
    """Wells with a value that hold a design."""
    z_prime: Figure
    robust_z_prime: Figure
    window: Figure
    controls: tuple[ControlLevel, ...]
    edge: Effect
    """Outer wells against inner ones, in the inner wells' robust standard deviations."""
    drift: Effect
    """Spearman's correlation of the values with the order of reading."""
    order: str
    """What the order of reading is taken from."""
    rows: Figure
    """The largest row effect of the median polish, in robust standard deviations of its residuals."""
    columns: Figure


@dataclass(frozen=True)
class Replicates:
    """How well readings of the same thing agree, on the scale that the campaign learns on."""

    n_designs: int
    """Designs measured more than once."""
    n_readings: int
    sd: Figure
    """Pooled over designs."""
    icc: Figure


def plates_of(readings: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Give each assay's plates in the order in which they came in, with their readings that have a value."""
    known = readings[having(readings, "plate", "row", "value")]
    for key, rows in known.groupby(["assay", "plate"], sort=False):
        yield (str(key[0]), str(key[1])), rows  # type: ignore[index]


def plate_quality(assay: str, plate: str, rows: pd.DataFrame) -> PlateQuality:
    """Take one plate's figures from its readings that have a value, each well once."""
    held = _held(rows)
    designs = rows[rows["design_id"].notna()]
    edge, trend, said = _edge_and_drift(plate, designs)
    if lacking := [role for role, values in held.items() if not len(values)]:
        nothing = Figure(None, f"no well of a {' and no well of a '.join(lacking)} control (role, under plate.controls)")
        z = robust = window = nothing
    else:
        z, robust = (z_prime(*held.values(), robust=one) for one in (False, True))
        window = signal_window(*held.values())
    row_effect, column_effect = _effects(designs)
    numbers = rows["round"].dropna()
    return PlateQuality(
        assay=assay, plate=plate, round=int(numbers.iloc[0]) if len(numbers) else None, n_designs=len(designs),
        z_prime=z, robust_z_prime=robust, window=window, controls=tuple(_controls(rows)),
        edge=edge, drift=trend, order=said, rows=row_effect, columns=column_effect,
    )  # fmt: skip


def _held(rows: pd.DataFrame) -> dict[str, FloatArray]:
    """The values of the controls of either role, the positive ones first."""
    return {role: rows.loc[rows["role"] == role, "value"].to_numpy(float) for role in ("positive", "negative")}


def _edge_and_drift(plate: str, designs: pd.DataFrame, *, for_flags: bool = False) -> tuple[Effect, Effect, str]:
    """What the place of a plate's designs and the order of reading did to them, and what the order is taken from.

    Args:
        for_flags: leave untested what is too small for a flag, since a history has thousands of plates.
    """
    values = designs["scaled"].to_numpy(float)
    order, said = _order(designs)
    edge = edge_effect(values, outer(designs), worth=EDGE_SIZE if for_flags else 0.0)
    rng = generator(0, "quality", "drift", plate)
    return edge, drift(values, order, rng, worth=DRIFT_SIZE if for_flags else 0.0), said


def _controls(rows: pd.DataFrame) -> Iterator[ControlLevel]:
    for name, wells in rows[rows["control"].notna()].groupby("control", sort=True):
        values = wells["value"].to_numpy(float)
        role = wells["role"].iloc[0]
        yield ControlLevel(
            name=str(name), role=None if pd.isna(role) else str(role), n=len(values), mean=float(values.mean()),
            median=float(np.median(values)), cv=cv(values),
        )  # fmt: skip


def _order(rows: pd.DataFrame) -> tuple[FloatArray, str]:
    """The order of reading: times where the wells have their own, else well after well as most readers go."""
    if rows["measured_at"].notna().all() and rows["measured_at"].nunique() > 2:
        at = pd.to_datetime(rows["measured_at"], format="ISO8601", utc=True)
        return np.asarray(at.astype("int64"), dtype=np.float64), "measured_at"
    return rows["row"].to_numpy(float) * 100 + rows["column"].to_numpy(float), "wells, row by row"


def _effects(rows: pd.DataFrame) -> tuple[Figure, Figure]:
    """The largest row and column effects of the design wells."""
    if rows["row"].nunique() < 3 or rows["column"].nunique() < 3:
        nothing = Figure(None, "fewer than 3 rows or columns are measured")
        return nothing, nothing
    grid = np.full((int(rows["row"].max()), int(rows["column"].max())), np.nan)
    grid[rows["row"].to_numpy(int) - 1, rows["column"].to_numpy(int) - 1] = rows["scaled"].to_numpy(float)
    polish = median_polish(grid)
    left = polish.residual[np.isfinite(polish.residual)]
    spread = 1.4826 * float(np.median(np.abs(left)))
    if spread == 0:
        nothing = Figure(None, "half of the wells read as their row and column do")
        return nothing, nothing
    rows_, columns = (effects[np.abs(effects).argmax()] / spread for effects in (polish.rows, polish.columns))
    return Figure(float(rows_)), Figure(float(columns))


def replicates(readings: pd.DataFrame) -> Replicates:
    """See how replicates of designs agree, wherever they were measured; what is only a bound agrees with nothing."""
    rows = readings[having(readings, "design_id", "value") & (readings["status"] == "ok").to_numpy(dtype=bool)]
    values, groups = rows["scaled"].to_numpy(float), rows["design_id"].to_numpy()
    n = rows["design_id"].value_counts()
    several = rows["design_id"].isin(n[n > 1].index)
    return Replicates(
        n_designs=int((n > 1).sum()), n_readings=int(several.sum()), sd=pooled_sd(values, groups), icc=icc(values, groups)
    )


# ---- flags


def find_flags(readings: pd.DataFrame, wells: pd.DataFrame) -> list[Flag]:
    """Say which readings a rule speaks of; the same readings always get the same flags.

    Args:
        readings: all that stand, of every assay, in the order they came in.
        wells: what labloop laid out: `round`, `plate`, `row`, `column`, `control`.
    """
    found = _of_wells(readings)
    left = _without(readings, found)
    mixed = _mistaken(left, wells)
    found += mixed
    left = _without(left, mixed)  # whose wells hold something else than they seem to
    for (_, plate), rows in plates_of(worth_a_look(left)):
        found += _of_plate(plate, rows)
    return found + _of_replicates(left)


def _without(readings: pd.DataFrame, found: list[Flag]) -> pd.DataFrame:
    return readings[~readings["id"].isin({one for one, _, _ in found})] if found else readings


def _of_wells(readings: pd.DataFrame) -> list[Flag]:
    """Rules about one well: read again, excluded later, or never filled."""
    place = ["plate", "well"]
    rows = readings[["id", "assay", *place, "status", "value", "note"]]  # each column that goes along costs its part
    rows = rows[having(rows, "plate", "well")]
    valued = rows[having(rows, "value") & (rows["status"] != "excluded").to_numpy(dtype=bool)]
    found: list[Flag] = []
    empty = rows[(rows["status"] == "failed_technical").to_numpy(dtype=bool)]
    said = {
        (plate, well): note
        for plate, well, note in zip(empty["plate"].tolist(), empty["well"].tolist(), empty["note"].tolist())
        if str(note).startswith(TRANSFER)
    }
    if said:
        for one, *key in valued[["id", *place]].itertuples(index=False):
            if tuple(key) in said:
                found.append((int(one), "transfer_failed", {"report": said[tuple(key)]}))
    excluded = rows[(rows["status"] == "excluded").to_numpy(dtype=bool)]
    last: dict[tuple[Any, ...], int] = {}
    for one, *key in zip(*(excluded[name].tolist() for name in ("id", "assay", *place))):
        last[tuple(key)] = max(one, last.get(tuple(key), one))
    if last:
        for one, *key in zip(*(valued[name].tolist() for name in ("id", "assay", *place))):
            if one < last.get(tuple(key), one):
                found.append((int(one), "excluded", {"by": int(last[tuple(key)])}))
    again = valued[valued.duplicated(["assay", *place], keep=False)]
    if len(again):
        latest = again.groupby(["assay", *place])["id"].transform("max")
        found += [(int(one), "reread", {"by": int(later)}) for one, later in zip(again["id"], latest, strict=True) if one < later]
    return found


def _of_plate(plate: str, rows: pd.DataFrame) -> list[Flag]:
    """Rules about a whole plate; only the figures that they go by are taken."""
    found: list[Flag] = []
    designs = rows[rows["design_id"].notna()]
    e, d, said = _edge_and_drift(plate, designs, for_flags=True)
    if e.size is not None and e.p is not None and e.p <= RATE:
        worth = {"size": _short(e.size), "p": _short(e.p)}
        found += [(int(one), "edge", worth) for one in rows.loc[outer(rows), "id"]]
    if d.size is not None and d.p is not None and d.p <= RATE:
        detail: dict[str, Any] = {"rho": _short(d.size), "p": _short(d.p), "order": said}
        found += [(int(one), "drift", detail) for one in rows["id"]]
    if len(designs) < len(rows):
        z = z_prime(*_held(rows).values()).value
        if z is not None and z < 0:
            found += [(int(one), "z_prime", {"z_prime": _short(z)}) for one in rows["id"]]
    return found


def _of_replicates(readings: pd.DataFrame) -> list[Flag]:
    """Outliers among replicates of a design, and among the wells of a control on a plate."""
    known = readings.loc[
        having(readings, "value") & (readings["status"] == "ok").to_numpy(dtype=bool),
        ["id", "assay", "plate", "design_id", "control", "scaled"],
    ]
    found: list[Flag] = []
    for _, rows in known.groupby("assay", sort=True):
        ids, scaled = rows["id"].to_numpy(), rows["scaled"].to_numpy(float)
        controls = sorted(rows["control"].dropna().unique())
        kinds = [("design_id", having(rows, "design_id"))]
        kinds += [("plate", (rows["control"] == control).to_numpy(dtype=bool)) for control in controls]
        for name, mine in kinds:
            groups = pd.factorize(rows.loc[mine, name])[0]
            several = (np.bincount(groups) > 1)[groups]
            at = np.flatnonzero(mine)[several]
            # The rate is for all kinds of replicates together.
            bad, off = outliers(scaled[at], groups[several], rate=RATE / len(kinds))
            found += [(int(one), "outlier", {"spreads": _short(by)}) for one, by in zip(ids[at][bad], off[bad])]
    return found


def _mistaken(readings: pd.DataFrame, wells: pd.DataFrame) -> list[Flag]:
    """Find plates that were read as another plate of their round, or turned by 180 degrees."""
    layouts = _layouts(wells)
    found: list[Flag] = []
    if not layouts:
        return found
    ours = readings["plate"].isin({plate for plates in layouts.values() for plate in plates})  # others have no place to mistake
    laid = ours.to_numpy(dtype=bool) & having(readings, "value", "row")
    if not laid.any():
        return found
    columns = ["id", "assay", "round", "plate", "row", "column", "n_rows", "n_columns", "control", "scaled"]
    for _, rows in readings.loc[laid, columns].groupby("assay", sort=True):
        controls = rows[rows["control"].notna()]
        by_plate = controls.groupby(["control", "round", "plate"])["scaled"].median().reset_index()
        for (number, plate), here in rows.groupby(["round", "plate"], sort=True):  # type: ignore[misc]
            own = layouts.get(number, {}).get(str(plate))
            if own is None:
                continue
            others = by_plate[by_plate["round"] != number]
            levels = others.groupby("control")["scaled"].median().to_dict()
            spots = zip(here["row"].astype(int), here["column"].astype(int), strict=True)
            values = dict(zip(spots, here["scaled"].astype(float), strict=True))
            shape = (int(here["n_rows"].iloc[0]), int(here["n_columns"].iloc[0]))
            tried: dict[str, layout.Layout] = {**layouts[number], "": layout.turned(own, shape)}
            rng = generator(0, "quality", "layout", str(plate))
            known = {str(name): float(level) for name, level in levels.items()}
            instead = layout.mistaken(values, tried, str(plate), known, rng)
            if instead is None:
                continue
            rule: Rule = "swapped" if instead.name else "turned"
            detail: dict[str, Any] = {"p": _short(instead.p), "own_p": _short(instead.own_p)}
            if instead.name:
                detail["reads_like"] = instead.name
            found += [(int(one), rule, detail) for one in here["id"]]
    return found


def _layouts(wells: pd.DataFrame) -> dict[Any, dict[str, dict[str, list[layout.Spot]]]]:
    """Where each round's plates have their controls."""
    found: dict[Any, dict[str, dict[str, list[layout.Spot]]]] = {}
    held = wells[having(wells, "control")]
    for number, plate, control, *spot in zip(*(held[name].tolist() for name in ("round", "plate", "control", "row", "column"))):
        place = found.setdefault(float(number), {}).setdefault(str(plate), {})
        place.setdefault(str(control), []).append((int(spot[0]), int(spot[1])))
    return found


def _short(x: float) -> float:
    return float(f"{x:.3g}")
