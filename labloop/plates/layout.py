"""Where things go on a plate: controls that move from plate to plate, and arms that share every corner of it fairly.

A layout depends on the plate, the picks and the seed alone. Rows and columns count from 1; wells are named `A01`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labloop.errors import BatchError
from labloop.plates.vessel import Plate
from labloop.plates.wells import well_name
from labloop.seeds import generator
from labloop.types import Array

LAYOUT_COLUMNS = ("plate", "well", "row", "column", "design_id", "control")

_TILE = (4, 3)
"""Rows and columns of the neighbourhood in which arms are balanced: 12 wells divide evenly among 2, 3, 4 or 6 arms."""


def lay_out(plate: Plate, picks: pd.DataFrame, *, plates: int, names: Sequence[str], seed: int) -> pd.DataFrame:
    """Give every control and every picked design its well; a design that two arms chose takes one.

    Controls come first: spread over the inside of the plate, in a pattern that moves from plate to plate, so that swapped
    plates show. Designs share the plates evenly and fill each from column 1 on. Neighbourhoods of about 4 by 3 wells each hold
    every arm's proportional share, to less than one well, in random order; over seeds, every well goes to an arm with exactly
    the probability that is its share. So no arm sits on one side, on one plate or at the edge.

    Args:
        picks: one row an arm's pick, with columns `arm` and `design_id`; the order of rows does not matter.
        names: the plates' names, in order.

    Returns:
        One row a used well, by plate, row and column: `plate`, `well`, `row`, `column`, `design_id` (NaN for a control) and
        `control` (NaN for a design).

    Raises:
        BatchError: there are more designs than wells for them, or fewer than plates.
        ValueError: `names` are not one for each plate, or an arm picks a design twice.
    """
    if len(names) != plates or len(set(names)) != plates:
        raise ValueError(f"{plates} plates need as many distinct names, not {list(names)}")
    strata = _strata(picks)
    n = sum(len(designs) for designs in strata)
    room = plates * plate.capacity
    if n > room:
        edge = ", the outer ones empty" if plate.edge == "empty" else ""
        held = sum(control.wells for control in plate.controls)
        raise BatchError(
            f"{n} designs do not fit: {plates} x {plate.wells} wells{edge}, with {held} controls a plate, leave {room} "
            f"for designs; pick {n - room} fewer, or raise plates in the round's file"
        )
    if n < plates:
        raise BatchError(f"{n} designs leave a plate of {plates} without any: lower plates in the round's file")
    rng = generator(seed, "layout", "designs")
    queues = [list(rng.permutation(np.array(designs, dtype=object))) for designs in strata]
    sizes = np.full(plates, n // plates) + (np.arange(plates) < n % plates)
    shares = _apportion(sizes, np.array([len(queue) for queue in queues]), rng)
    rows = []
    controls = _rotating_controls(plate, plates, generator(seed, "layout", "controls"))
    for name, held_by, size, share in zip(names, controls, sizes, shares, strict=True):
        wells: dict[tuple[int, int], tuple[object, object]] = {where: (np.nan, control) for where, control in held_by.items()}
        free = [where for where in _usable(plate) if where not in wells][:size]
        tiles = _tiles(free)
        for tile, counts in zip(tiles, _apportion(np.array([len(tile) for tile in tiles]), share, rng), strict=True):
            order = rng.permutation(np.repeat(np.arange(len(queues)), counts))
            wells |= {where: (queues[stratum].pop(), np.nan) for where, stratum in zip(tile, order.tolist(), strict=True)}
        rows += [(name, well_name(*where), *where, *wells[where]) for where in sorted(wells)]
    return pd.DataFrame(rows, columns=list(LAYOUT_COLUMNS)).astype({"design_id": object, "control": object})


def _strata(picks: pd.DataFrame) -> list[list[str]]:
    """Group the designs by the set of arms that chose them; everything sorted, so that only the content of `picks` counts."""
    if picks[["arm", "design_id"]].isna().to_numpy().any() or picks.duplicated(["arm", "design_id"]).any():
        raise ValueError("picks need an arm and a design in every row, and no design twice in one arm")
    arms: dict[str, list[str]] = {}
    for arm, design in sorted(zip(picks["arm"].tolist(), picks["design_id"].tolist(), strict=True)):
        arms.setdefault(design, []).append(arm)
    groups: dict[tuple[str, ...], list[str]] = {}
    for design in sorted(arms):
        groups.setdefault(tuple(arms[design]), []).append(design)
    return [groups[key] for key in sorted(groups)]


def _usable(plate: Plate) -> list[tuple[int, int]]:
    """List the wells that the edge policy leaves, column after column."""
    rows, columns = plate.shape
    ring = int(plate.edge == "empty")
    return [(r, c) for c in range(1 + ring, columns + 1 - ring) for r in range(1 + ring, rows + 1 - ring)]


def _tiles(wells: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Cut wells into neighbourhoods of about `_TILE`, as equal as the rectangle around them allows."""
    places = np.array(wells)
    low, high = places.min(0), places.max(0)
    n_bands = np.maximum(np.round((high - low + 1) / _TILE), 1).astype(int)
    bands = (places - low) * n_bands // (high - low + 1)
    tiles: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for where, band in zip(wells, bands.tolist(), strict=True):
        tiles.setdefault(tuple(band), []).append(where)
    return list(tiles.values())


def _apportion(sizes: Array, totals: Array, rng: np.random.Generator) -> Array:
    """Split `totals` (a,) over places of `sizes` (b,), both summing to n: counts (b, a), each less than one from its share.

    Unbiased controlled rounding (Cox, JASA 82, 1987): along a cycle of cells that still hold a fraction, move as much as makes
    one of them whole, up or down, with the odds that keep every cell's expectation. Counted in n-ths, all of it is exact.
    """
    n = int(sizes.sum())
    whole, part = np.divmod(np.outer(sizes, totals), n)
    b = len(sizes)
    while (is_open := (part > 0) & (part < n)).any():
        path = [int(np.argwhere(is_open)[0][0])]  # rows are nodes 0 … b-1, columns b …; an open cell joins its row and column
        while True:
            here, last = path[-1], path[-2] if len(path) > 1 else -1
            ends = np.flatnonzero(is_open[here]) + b if here < b else np.flatnonzero(is_open[:, here - b])
            after = int(ends[0] if ends[0] != last else ends[1])  # fractions add up to whole numbers, so a second one is there
            if after in path:
                cycle = path[path.index(after) :]
                break
            path.append(after)
        cells = [(min(p, q), max(p, q) - b) for p, q in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
        plus, minus = (tuple(np.array(side).T) for side in (cells[::2], cells[1::2]))
        up = int(min((n - part[plus]).min(), part[minus].min()))
        down = int(min(part[plus].min(), (n - part[minus]).min()))
        step = up if rng.integers(up + down) < down else -down
        part[plus] += step
        part[minus] -= step
    return whole + part // n


def _rotating_controls(plate: Plate, plates: int, rng: np.random.Generator) -> list[dict[tuple[int, int], str]]:
    """Place the controls of each plate: one spread-out pattern, shifted so that two plates share as few wells as can be.

    The pattern lives on a torus, the inside of the plate with opposite sides joined, so that every shift of it is as spread out
    as the first. It reaches the outer ring only where the inside has too few wells.
    """
    order = [
        c.name for turn in range(max((c.wells for c in plate.controls), default=0)) for c in plate.controls if turn < c.wells
    ]
    inside = len(order) <= (plate.shape[0] - 2) * (plate.shape[1] - 2)
    first = 2 if inside else 1
    shape = (plate.shape[0] - 2, plate.shape[1] - 2) if inside else plate.shape
    if not order:
        return [{} for _ in range(plates)]
    names = sorted(set(order))
    pattern = _spread([names.index(name) + 1 for name in order], shape, rng)
    shifts = [(dr, dc) for dr in range(shape[0]) for dc in range(shape[1])]
    shifts = [shifts[i] for i in rng.permutation(len(shifts))]
    shifted = np.array([np.roll(pattern, shift, axis=(0, 1)) for shift in shifts])
    placed: list[dict[tuple[int, int], str]] = []
    worst = total = np.zeros(len(shifts), dtype=int)
    for _ in range(plates):
        grid = shifted[np.lexsort((total, worst))[0]]
        placed.append({(int(r) + first, int(c) + first): names[grid[r, c] - 1] for r, c in np.argwhere(grid)})
        shared = ((shifted == grid) & (grid > 0)).sum((1, 2))
        worst, total = np.maximum(worst, shared), total + shared
    return placed


def _spread(kinds: Sequence[int], shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Put each kind in turn where it is farthest from its own and from all others, on a torus; 0 marks the wells left."""
    places = rng.permutation(np.argwhere(np.ones(shape)))
    apart = np.abs(places[:, None] - places)
    distance = np.hypot(*np.minimum(apart, np.array(shape) - apart).transpose(2, 0, 1))
    gap = dict.fromkeys([0, *kinds], np.full(len(places), float(sum(shape))))  # 0 stands for any kind
    grid = np.zeros(shape, dtype=int)
    for kind in kinds:
        chosen = int((gap[0] + gap[kind] - np.where(gap[0] == 0, np.inf, 0)).argmax())
        gap |= {which: np.minimum(gap[which], distance[chosen]) for which in (0, kind)}
        grid[tuple(places[chosen])] = kind
    return grid
