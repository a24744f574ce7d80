"""Is this plate the one that it was read as? Controls move from plate to plate, so that swapped and turned plates show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labloop.config.policies import RATE
from labloop.types import Array, FloatArray

Spot = tuple[int, int]
Layout = Mapping[str, Sequence[Spot]]
"""Each control's wells as row and column from 1."""
_DRAWS = 4_999


@dataclass(frozen=True)
class Mistake:
    """A layout that a plate's readings fit better than the one that they were read in."""

    name: str
    p: float
    """How often random wells of the plate fit any of the layouts tried as well."""
    own_p: float
    """How often random wells fit the plate's own layout as well as it does."""


def turned(layout: Layout, shape: tuple[int, int]) -> dict[str, list[Spot]]:
    """Where the controls are when the plate is turned by 180 degrees."""
    return {name: [(shape[0] + 1 - r, shape[1] + 1 - c) for r, c in spots] for name, spots in layout.items()}


def mistaken(
    values: Mapping[Spot, float], layouts: Mapping[str, Layout], own: str, levels: Mapping[str, float], rng: np.random.Generator
) -> Mistake | None:
    """Hold a plate's readings against several layouts of its controls; None where its own will do, or nothing can be told.

    A control is expected at its known level; where none is known, its wells are expected to agree among themselves. What random
    wells of the same plate would give says how much a fit is worth, so no normal distribution is assumed and an extreme design
    does no harm. Another layout has to fit better than the own one, and so well that random wells do it in fewer than `RATE` of
    all cases, divided by the layouts tried.

    Args:
        values: reading of each well, on the scale that the campaign learns on.
        layouts: by name; one with a control well that was not read is not tried.
        levels: of controls, from other rounds' plates.
    """
    telling = {
        name: {control: spots for control, spots in sorted(layout.items()) if control in levels or len(spots) > 1}
        for name, layout in layouts.items()
    }
    if own not in telling:
        return None
    sizes = tuple((control, len(spots)) for control, spots in telling[own].items())
    k = sum(n for _, n in sizes)
    misfits = {
        name: float(_misfit(np.array([[values[spot] for spots in layout.values() for spot in spots]]), sizes, levels)[0])
        for name, layout in telling.items()
        if tuple((control, len(spots)) for control, spots in layout.items()) == sizes
        and all(spot in values for spots in layout.values() for spot in spots)
    }
    if own not in misfits or not k or len(values) < 3 * k:
        return None
    best = min(misfits, key=lambda one: (misfits[one], one != own))
    if best == own or misfits[best] == misfits[own]:
        return None
    pool = np.array(list(values.values()))
    by_chance = _misfit(pool[_drawn(len(pool), k, rng)], sizes, levels)
    p, own_p = (float(1 + (by_chance <= misfits[one]).sum()) / (_DRAWS + 1) for one in (best, own))
    p *= len(misfits) - 1
    return Mistake(best, p, own_p) if p <= RATE else None


def _drawn(n: int, k: int, rng: np.random.Generator) -> Array:
    """Draw k of n wells without replacement, in random order, (draws, k)."""
    keys = rng.random((_DRAWS, n))
    some = np.argpartition(keys, k, axis=1)[:, :k]
    order = np.take_along_axis(keys, some, 1).argsort(1)
    return np.take_along_axis(some, order, 1)


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
