"""Put plates on one scale, as the campaign declares, and see whether replicates then agree better or worse.

A normalised value keeps the lab's unit, its direction and its scale: it is what the well would have read on the campaign's first
plate. So `percent_of_control` divides by each plate's controls and multiplies by the first plate's, and so on; the percentages
themselves differ from it by one factor for all wells. The first plate's values stay as they are (but for row and column effects,
which `b_score` removes there too), and a well's value never moves when later plates come in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labloop.assays.quality.statistics import ROBUST, Figure, icc, median_polish
from labloop.config.policies import Method
from labloop.errors import QualityError
from labloop.types import Array, FloatArray

_LEAST = 8
"""Designs that a plate needs for a level and a spread of its own."""
_LOSS = 0.005
"""A loss of agreement smaller than this is rounding."""


@dataclass(frozen=True)
class Agreement:
    """Replicates across plates before and after: ICC(1), the share of the variance that lies between designs."""

    before: Figure
    after: Figure
    n_groups: int
    """Designs, and controls that the normalisation does not itself hang on, that were read on two plates or more."""
    n_readings: int

    @property
    def told(self) -> bool:
        return self.before.value is not None and self.after.value is not None

    @property
    def lowered(self) -> bool:
        return self.told and float(self.after.value or 0) < float(self.before.value or 0) - _LOSS


@dataclass(frozen=True, eq=False)
class Normalised:
    """Values (n,) in the lab's unit, and what the normalisation did to the agreement of replicates."""

    value: FloatArray
    agreement: Agreement | None
    """None where nothing was normalised."""
    note: str


def normalise(readings: pd.DataFrame, method: Method, *, log: bool, place: str) -> Normalised:
    """Normalise the readings of one assay, and refuse it where replicates agree less afterwards.

    Args:
        readings: with a value, in the order they came in: `plate`, `row`, `column`, `design_id`, `control`, `role`, `status`,
            `value` and `file`.
        log: whether the campaign learns on the value's logarithm; z and B scores are then taken of it, and it decides how
            agreement is measured.
        place: the assay's key in the campaign's file, for messages.

    Raises:
        QualityError: a reading has no plate while others do, a plate lacks what the method needs, or replicates agree less.
    """
    raw = readings["value"].to_numpy(float)
    if method == "none" or readings.empty:
        return Normalised(raw, None, "not normalised")
    plated = readings["plate"].notna().to_numpy(dtype=bool)
    if not plated.any():
        return Normalised(raw, None, f"{method}: no reading names a plate, so all are taken as read on one")
    if not plated.all():
        files = ", ".join(sorted({str(one) for one in readings.loc[~plated, "file"].dropna()})[:3])
        raise QualityError(
            f"{place}.normalise: {method} needs every reading's plate, but {int((~plated).sum())} of {len(plated)} have none "
            f"(from {files}): send those files with a column plate (and well), or write 'normalise: none'"
        )
    codes, plates = pd.factorize(readings["plate"].astype(str))
    if method == "percent_of_control":
        value = _by_control(raw, readings, codes, list(plates), place)
    else:
        scaled = np.log(raw) if log else raw
        value = _by_designs(scaled, readings, codes, list(plates), method, place)
        value = np.exp(value) if log else value
    if log and (value <= 0).any():
        raise QualityError(
            f"{place}.normalise: {method} makes {int((value <= 0).sum())} values zero or negative, which have no logarithm: give "
            "one control only a role, so that plates are divided by it, or write 'normalise: none'"
        )
    agreement = _agreement(raw, value, readings, codes, method, log=log)
    _judge(agreement, method, len(plates), place)
    return Normalised(value, agreement, f"{method} over {len(plates)} plates, in the lab's unit as if read on {plates[0]}")


def _judge(agreement: Agreement, method: Method, n_plates: int, place: str) -> None:
    if agreement.lowered:
        raise QualityError(
            f"{place}.normalise: {method} lowers the agreement of replicates: ICC {agreement.before.value:.2f} before, "
            f"{agreement.after.value:.2f} after ({agreement.n_groups} designs and controls, {agreement.n_readings} readings on "
            f"several plates): write 'normalise: none' (labloop revise), or mend the controls"
        )
    if method != "percent_of_control" and n_plates > 1 and not agreement.told:
        raise QualityError(
            f"{place}.normalise: {method} takes all plates for equally good, which later rounds should not be, and nothing that "
            f"was read on two plates can tell ({agreement.before.why or agreement.after.why}): put the same controls on every "
            "plate, use percent_of_control, or write 'normalise: none'"
        )


def _by_control(raw: FloatArray, readings: pd.DataFrame, codes: Array, plates: list[str], place: str) -> FloatArray:
    """Divide by each plate's control; with a positive and a negative one, put both where the first plate has them."""
    high, low = _anchors(readings, place)

    def levels(role: str) -> FloatArray:
        mine = (readings["role"] == role).to_numpy(dtype=bool) & (readings["status"] == "ok").to_numpy(dtype=bool)
        out = np.zeros(len(plates))
        for i, plate in enumerate(plates):
            wells = raw[mine & (codes == i)]
            if len(wells) < 2:
                raise QualityError(
                    f"{place}.normalise: percent_of_control needs 2 measured wells of the {role} control on every plate, but "
                    f"{plate} has {len(wells)}: ingest its control wells, or write 'normalise: none'"
                )
            out[i] = float(np.median(wells))
        return out

    top = levels(high)
    bottom = np.zeros(len(plates)) if low is None else levels(low)
    span = top - bottom
    for i, plate in enumerate(plates):
        if span[i] == 0 or span[i] * span[0] < 0:
            what = f"{high} control" if low is None else f"{high} and {low} controls"
            raise QualityError(
                f"{place}.normalise: the {what} of {plate} give no scale (from {bottom[i]:g} to {top[i]:g}, on {plates[0]} from "
                f"{bottom[0]:g} to {top[0]:g}): see `labloop quality`, exclude the plate's wells, or write 'normalise: none'"
            )
    return np.asarray((raw - bottom[codes]) * (span[0] / span)[codes] + bottom[0])


def _anchors(readings: pd.DataFrame, place: str) -> tuple[str, str | None]:
    """Which roles the scale hangs on: the 100 % and, where there is one, the 0 %."""
    there = set(readings["role"].dropna())
    if not there:
        raise QualityError(
            f"{place}.normalise: percent_of_control needs a control with a role: write role: positive, negative or reference "
            "at plate.controls, or 'normalise: none'"
        )
    high = next(role for role in ("positive", "reference", "negative") if role in there)
    return high, "negative" if "negative" in there and high != "negative" else None


def _by_designs(
    scaled: FloatArray,
    readings: pd.DataFrame,
    codes: Array,
    plates: list[str],
    method: Method,
    place: str,
) -> FloatArray:
    """Give every plate's designs the level and spread of the first plate's."""
    of_designs = (readings["design_id"].notna() & (readings["status"] == "ok")).to_numpy(dtype=bool)
    flat = _polished(scaled, readings, codes, len(plates), of_designs) if method == "b_score" else scaled
    level: Callable[[FloatArray], float] = lambda v: float(np.mean(v) if method == "z_score" else np.median(v))  # noqa: E731
    levels, spreads = np.zeros(len(plates)), np.zeros(len(plates))
    for i, plate in enumerate(plates):
        v = flat[of_designs & (codes == i)]
        if len(v) < _LEAST:
            raise QualityError(
                f"{place}.normalise: {method} needs {_LEAST} measured designs on every plate, but {plate} has {len(v)}: ingest "
                "the rest of it, or write 'normalise: none'"
            )
        levels[i] = level(v)
        spreads[i] = float(np.std(v, ddof=1)) if method == "z_score" else ROBUST * float(np.median(np.abs(v - levels[i])))
        if spreads[i] == 0:
            raise QualityError(f"{place}.normalise: the designs of {plate} have no spread: write 'normalise: none'")
    return np.asarray((flat - levels[codes]) * (spreads[0] / spreads)[codes] + levels[0])


def _polished(scaled: FloatArray, readings: pd.DataFrame, codes: Array, n: int, of_designs: Array) -> FloatArray:
    """Take each plate's row and column effects off, those of the design wells, from all its wells."""
    out = scaled.copy()
    row, column = (readings[name].to_numpy(float) for name in ("row", "column"))
    placed = np.isfinite(row) & np.isfinite(column)
    for i in range(n):
        here = (codes == i) & placed
        if not here.any():
            continue
        mine = here & of_designs
        grid = np.full((int(row[here].max()), int(column[here].max())), np.nan)
        grid[row[mine].astype(int) - 1, column[mine].astype(int) - 1] = scaled[mine]
        polish = median_polish(grid)
        out[here] -= polish.rows[row[here].astype(int) - 1] + polish.columns[column[here].astype(int) - 1]
    return out


def _agreement(
    raw: FloatArray, value: FloatArray, readings: pd.DataFrame, codes: Array, method: Method, *, log: bool
) -> Agreement:
    """Compare the agreement of what was read on two plates or more before and after."""
    group = readings["design_id"].where(readings["design_id"].notna(), "control " + readings["control"].astype(str))
    usable = (readings["status"] == "ok").to_numpy(dtype=bool, copy=True)
    if method == "percent_of_control":  # the controls that it hangs on agree by construction
        usable &= ~readings["role"].isin(_anchors_used(readings)).to_numpy(dtype=bool)
    usable &= (readings["design_id"].notna() | readings["control"].notna()).to_numpy(dtype=bool)
    frame = pd.DataFrame({"group": group.to_numpy(), "plate": codes})[usable]
    several = frame.groupby("group")["plate"].nunique()
    kept = np.flatnonzero(usable)[frame["group"].isin(several[several > 1].index).to_numpy(dtype=bool)]
    names = group.to_numpy()[kept]
    before, after = (np.log(x[kept]) if log else x[kept] for x in (raw, value))
    if (several > 1).sum() < 2:
        nothing = Figure(None, f"{int((several > 1).sum())} designs and controls were read on two plates or more, it takes 2")
        return Agreement(nothing, nothing, int((several > 1).sum()), len(kept))
    return Agreement(icc(before, names), icc(after, names), int((several > 1).sum()), len(kept))


def _anchors_used(readings: pd.DataFrame) -> list[str]:
    high, low = _anchors(readings, "")
    return [high] if low is None else [high, low]
