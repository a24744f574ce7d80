"""Where things go on a plate: controls that move from plate to plate, and arms that share every corner of it fairly.

A layout depends on the plate, the picks and the seed alone. Rows and columns count from 1; wells are named `A01`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class PlatePart:
    """Wells of one plate that share what a batch-wide limit asks for, such as one temperature: a plate, some of its columns."""

    plate: int
    """Counted from 0."""
    wells: tuple[tuple[int, int], ...]
    """Rows and columns of the wells for designs, column after column."""
    scopes: tuple[tuple[int, ...], ...] = ()
    """For each split that was asked for, the scope that these wells lie in: plate, band of rows, band of columns."""


def parts_of(plate: Plate, *, plates: int, seed: int, splits: Sequence[tuple[int, int]]) -> list[PlatePart]:
    """Cut a round's plates into parts that lie in one scope of every split; wells of controls are in none.

    Args:
        seed: the layout's, which places the controls.
        splits: rows and columns of a scope, 0 for all that the plate has: (0, 2) is every two columns.
    """
    found: dict[tuple[tuple[int, ...], ...], list[tuple[int, int]]] = {}
    for i, held in enumerate(_rotating_controls(plate, plates, generator(seed, "layout", "controls"))):
        for r, c in plate.usable:
            if (r, c) not in held:
                scopes = tuple((i, (r - 1) // high if high else 0, (c - 1) // wide if wide else 0) for high, wide in splits)
                found.setdefault(((i,), *scopes), []).append((r, c))
    return [PlatePart(plate=key[0][0], wells=tuple(wells), scopes=key[1:]) for key, wells in found.items()]


def lay_out(
    plate: Plate, picks: pd.DataFrame, *, plates: int, names: Sequence[str], seed: int, parts: Sequence[PlatePart] = (),
    places: Mapping[str, int] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Give every control and every picked design its wells, as many as the plate has replicates; two arms share a design.

    Controls come first: spread over the inside of the plate, in a pattern that moves from plate to plate, so that swapped
    plates show. Designs share the plates evenly and fill each from column 1 on. Neighbourhoods of about 4 by 3 wells each hold
    every arm's proportional share, to less than one well, in random order; over seeds, every well goes to an arm with exactly
    the probability that is its share. So no arm sits on one side, on one plate or at the edge. Replicates of a design stand as
    far apart as there is room: the wells are cut into as many stretches, over all plates, and each design has one in each.

    Args:
        picks: one row an arm's pick, with columns `arm` and `design_id`; the order of rows does not matter.
        names: the plates' names, in order.
        parts: what `parts_of` gave for this seed, where limits say which designs may stand together.
        places: by `design_id`, the position of its part.

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
    _check_room(plate, n, plates)
    rng = generator(seed, "layout", "designs")
    controls = _rotating_controls(plate, plates, generator(seed, "layout", "controls"))
    wells: list[dict[tuple[int, int], tuple[object, object]]] = [
        {where: (np.nan, control) for where, control in held_by.items()} for held_by in controls
    ]
    if places is None:
        total = n * plate.replicates
        sizes = [total // plates + (i < total % plates) for i in range(plates)]
        stretch = [
            (i, where)
            for i, (held_by, size) in enumerate(zip(controls, sizes, strict=True))
            for where in [where for where in plate.usable if where not in held_by][:size]
        ]
        _fill(wells, strata, stretch, plate.replicates, rng)
    else:
        for k, part in enumerate(parts):
            mine = [[one for one in designs if places[one] == k] for designs in strata]
            _fill(wells, [one for one in mine if one], [(part.plate, where) for where in part.wells], plate.replicates, rng)
    rows = [
        (name, well_name(*where), *where, *there[where])
        for name, there in zip(names, wells, strict=True)
        for where in sorted(there)
    ]
    return pd.DataFrame(rows, columns=list(LAYOUT_COLUMNS)).astype({"design_id": object, "control": object})


def _check_room(plate: Plate, n: int, plates: int) -> None:
    room = plate.designs(plates)
    if n > room:
        edge = ", the outer ones empty" if plate.edge == "empty" else ""
        held = sum(control.wells for control in plate.controls)
        used = "" if plate.use is None else f", {len(plate.usable)} used"
        copies = "" if plate.replicates == 1 else f" of {plate.replicates} wells each"
        raise BatchError(
            f"{n} designs do not fit: {plates} x {plate.wells} wells{edge}{used}, with {held} controls a plate, leave {room} "
            f"for designs{copies}; pick {n - room} fewer, or raise plates in the round's file"
        )
    if n * plate.replicates < plates:
        raise BatchError(f"{n} designs leave a plate of {plates} without any: lower plates in the round's file")


def _fill(
    wells: list[dict[tuple[int, int], tuple[object, object]]], strata: Sequence[Sequence[str]],
    places: Sequence[tuple[int, tuple[int, int]]], replicates: int, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Put every design into one well of each of so many stretches of places, which are pairs of plate and well."""
    n = sum(map(len, strata))
    for copy in range(replicates if n else 0):
        queues = [list(rng.permutation(np.array(designs, dtype=object))) for designs in strata]
        stretch = places[copy * n : (copy + 1) * n]
        pieces = {i: [where for plate, where in stretch if plate == i] for i in dict.fromkeys(plate for plate, _ in stretch)}
        sizes = np.array([len(piece) for piece in pieces.values()])
        shares = apportion(sizes, np.array([len(queue) for queue in queues]), rng)
        for (i, piece), share in zip(pieces.items(), shares, strict=True):
            tiles = _tiles(piece)
            for tile, counts in zip(tiles, apportion(np.array([len(tile) for tile in tiles]), share, rng), strict=True):
                order = rng.permutation(np.repeat(np.arange(len(queues)), counts))
                wells[i] |= {where: (queues[stratum].pop(), np.nan) for where, stratum in zip(tile, order.tolist(), strict=True)}


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


def apportion(sizes: Array, totals: Array, rng: np.random.Generator) -> Array:
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
    (top, left), (bottom, right) = ((1, 1), plate.shape) if plate.use is None else _around(plate.usable)
    if plate.use is not None and len(plate.usable) < (bottom - top + 1) * (right - left + 1):
        return _scattered(order, plate.usable, plates, rng)
    ring = int(plate.use is None or plate.edge == "use")
    inside = len(order) <= max(bottom - top + 1 - 2 * ring, 0) * max(right - left + 1 - 2 * ring, 0)
    ring = ring if inside else 0
    shape = (bottom - top + 1 - 2 * ring, right - left + 1 - 2 * ring)
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
        placed.append({(int(r) + top + ring, int(c) + left + ring): names[grid[r, c] - 1] for r, c in np.argwhere(grid)})
        shared = ((shifted == grid) & (grid > 0)).sum((1, 2))
        worst, total = np.maximum(worst, shared), total + shared
    return placed


def _around(wells: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give the first and the last row and column of wells."""
    rows, columns = zip(*wells, strict=True)
    return (min(rows), min(columns)), (max(rows), max(columns))


def _scattered(
    order: Sequence[str], wells: Sequence[tuple[int, int]], plates: int, rng: np.random.Generator
) -> list[dict[tuple[int, int], str]]:  # fmt: skip
    """Place controls among wells that make no rectangle: far from each other, in wells that earlier plates have not used."""
    places = np.array(wells)
    used = np.zeros(len(places))
    placed: list[dict[tuple[int, int], str]] = []
    for _ in range(plates):
        gap = np.full(len(places), float(places.max() * 2))
        chosen: list[int] = []
        for _name in order:
            i = int(
                (gap - 1e3 * used - np.where(np.isin(np.arange(len(places)), chosen), np.inf, 0) + rng.random(len(gap))).argmax()
            )
            chosen.append(i)
            gap = np.minimum(gap, np.hypot(*(places - places[i]).T))
        used[chosen] += 1
        placed.append({wells[i]: name for i, name in zip(chosen, order, strict=True)})
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
