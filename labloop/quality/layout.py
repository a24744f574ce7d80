"""Is this plate the one that it was read as? Controls move from plate to plate, so that swapped and turned plates show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labloop.parameter import Array, FloatArray
from labloop.quality.rules import RATE
from labloop.quality.statistics import ROBUST

Spot = tuple[int, int]
Layout = Mapping[str, Sequence[Spot]]
"""Each control's wells as row and column from 1."""
_DRAWS = 9_999


@dataclass(frozen=True)
class Fit:
    """How well a plate's readings fit a layout."""

    misfit: float
    """Distance of the control wells from their levels, in spreads of what random wells of the plate give; lower is better."""
    p: float
    """How often random wells fit as well."""


def turned(layout: Layout, shape: tuple[int, int]) -> dict[str, list[Spot]]:
    """Where the controls are when the plate is turned by 180 degrees."""
    return {name: [(shape[0] + 1 - r, shape[1] + 1 - c) for r, c in spots] for name, spots in layout.items()}


def fits(
    values: Mapping[Spot, float], layouts: Mapping[str, Layout], levels: Mapping[str, float], rng: np.random.Generator
) -> dict[str, Fit]:
    """Hold a plate's readings against several layouts of its controls.

    A control is expected at its known level; where none is known, its wells are expected to agree among themselves. What random
    wells of the same plate would give says how much a fit is worth, so no normal distribution is assumed and an extreme design
    does no harm.

    Args:
        values: reading of each well, on the scale that the campaign learns on.
        layouts: by name; those with a control well that was not read are left out of the answer.
        levels: of controls, from other rounds' plates.
    """
    pool = np.array(list(values.values()))
    draws: dict[tuple[tuple[str, int], ...], FloatArray] = {}
    found = {}
    for name, layout in layouts.items():
        layout = {control: spots for control, spots in layout.items() if control in levels or len(spots) > 1}
        if not layout or not all(spot in values for spots in layout.values() for spot in spots):
            continue
        sizes = tuple((control, len(spots)) for control, spots in sorted(layout.items()))
        k = sum(n for _, n in sizes)
        if len(pool) < 3 * k:
            continue
        if sizes not in draws:
            drawn = np.array([rng.choice(len(pool), size=k, replace=False) for _ in range(_DRAWS)])
            draws[sizes] = _misfit(pool[drawn], sizes, levels)
        by_chance = draws[sizes]
        middle = float(np.median(by_chance))
        spread = ROBUST * float(np.median(np.abs(by_chance - middle))) or 1.0
        mine = np.array([[values[spot] for control, _ in sizes for spot in layout[control]]])
        misfit = float(_misfit(mine, sizes, levels)[0])
        found[name] = Fit((misfit - middle) / spread, float(1 + (by_chance <= misfit).sum()) / (_DRAWS + 1))
    return found


def _misfit(values: Array, sizes: Sequence[tuple[str, int]], levels: Mapping[str, float]) -> FloatArray:
    """Sum of absolute distances (draws,) of the values (draws, k) from their controls' levels."""
    total, start = np.zeros(len(values)), 0
    for control, n in sizes:
        part = values[:, start : start + n]
        level = levels.get(control)
        centre = np.median(part, axis=1, keepdims=True) if level is None else level
        total += np.abs(part - centre).sum(1)
        start += n
    return total


def mistaken(found: Mapping[str, Fit], own: str) -> str | None:
    """Name the layout that a plate was read in, where it is surely not its own; None where its own will do.

    Another layout has to fit better than the own one, and so well that random wells do it in fewer than `RATE` of all cases over
    all layouts tried.
    """
    if own not in found or len(found) < 2:
        return None
    name = min(found, key=lambda one: (found[one].misfit, one))
    sure = found[name].p * (len(found) - 1) <= RATE
    return name if name != own and sure else None
