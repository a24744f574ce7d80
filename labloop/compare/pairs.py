"""Two arms, or two proposers, side by side: the wells that tell them apart, round by round and at equal depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labloop.types import Array, FloatArray

LOST = ("failed", "excluded", "missing")
"""How the status of a well starts that will give no value."""


@dataclass(frozen=True, eq=False)
class RoundPair:
    """One round of two arms: y of the wells that only the first chose, only the second, and both; and the round's incumbent."""

    own: tuple[FloatArray, FloatArray]
    shared: FloatArray
    incumbent: float = float("nan")
    number: int = 1
    wells: tuple[int, int] = (0, 0)
    """Wells that each arm was given in the round."""
    out: tuple[int, int] = (0, 0)
    """Those of them that have no result yet."""
    sides: tuple[Array, Array] | None = None
    """On which side of its y the truth of each own well is, as in `Dataset.censored`; None where all are exact."""

    @property
    def n(self) -> tuple[int, int]:
        return len(self.own[0]) + len(self.shared), len(self.own[1]) + len(self.shared)

    @property
    def weight(self) -> float:
        return self.n[0] * self.n[1] / sum(self.n)

    @property
    def factor(self) -> float:
        """How much of a difference between the arms' own wells is left between the arms, which share the rest."""
        return 0.0 if not (len(self.own[0]) and len(self.own[1])) else sum(len(o) / n for o, n in zip(self.own, self.n)) / 2

    @property
    def gap(self) -> float:
        """The first arm's mean minus the second's; 0 where they chose the same."""
        return self.factor * float(self.own[0].mean() - self.own[1].mean()) if self.factor else 0.0

    @property
    def hits(self) -> tuple[int, int]:
        """Own wells of each arm that are above the incumbent for sure: a bound from above may hide anything."""
        sides = self.sides or tuple(np.zeros(len(y)) for y in self.own)
        first, second = (int(((y > self.incumbent) & (side >= 0)).sum()) for y, side in zip(self.own, sides))
        return first, second

    def leaning(self, arm: int, worst: float, best: float) -> RoundPair:
        """Put bounds where they speak most for one arm (0 or 1): its own as high as they may be, the other's as low."""
        if self.sides is None:
            return self
        low = [np.where(side < 0, worst, y) for y, side in zip(self.own, self.sides)]
        high = [np.where(side > 0, best, y) for y, side in zip(self.own, self.sides)]
        return replace(self, own=(high[0], low[1]) if arm == 0 else (low[0], high[1]), sides=None)

    def complete(self, share: float) -> bool:
        """Whether each arm has a result in so large a share of its wells."""
        return all(wells - out >= share * wells for wells, out in zip(self.wells, self.out, strict=True))


@dataclass(frozen=True, eq=False)
class Pair:
    """Two arms over the rounds in which both have measured wells."""

    first: str
    second: str
    blocks: tuple[RoundPair, ...]
    refused: bool = False
    """Whether too many wells are out for any verdict."""
    left_out: tuple[int, ...] = ()
    """Rounds that both took part in and that wait for too many wells to count."""
    uneven: bool = False
    """Whether one arm had more wells and all of them count, as their order is not known."""

    def n(self, side: int) -> int:
        return sum(block.n[side] for block in self.blocks)

    @property
    def n_shared(self) -> int:
        return sum(len(block.shared) for block in self.blocks)

    @property
    def rounds(self) -> tuple[int, ...]:
        return tuple(block.number for block in self.blocks)

    @property
    def same(self) -> bool:
        """Whether no well tells the arms apart, as they chose the same designs."""
        return not any(block.factor for block in self.blocks)

    @property
    def waiting(self) -> bool:
        return any(sum(block.out) for block in self.blocks)

    @cached_property
    def weights(self) -> FloatArray:
        """Weight of each round where plates are pooled, by its wells; they add up to one."""
        weights = np.array([block.weight for block in self.blocks])
        return weights / weights.sum()

    @property
    def gaps(self) -> FloatArray:
        """The first arm's mean minus the second's, round by round."""
        return np.array([block.gap for block in self.blocks])

    @cached_property
    def leaning(self) -> tuple[Pair, ...]:
        """The pair with every bound where it speaks most for the first arm, and for the second; none where that changes nothing.

        The truth beyond a bound may be as bad as the worst reading of these rounds, or as good as the best.
        """
        if all(block.sides is None for block in self.blocks):
            return ()
        every = np.concatenate([y for block in self.blocks for y in (*block.own, block.shared)])
        made = [tuple(block.leaning(arm, every.min(), every.max()) for block in self.blocks) for arm in (0, 1)]
        same = all(np.array_equal(one.own[i], other.own[i]) for one, other in zip(*made) for i in (0, 1))
        return () if same else tuple(replace(self, blocks=blocks) for blocks in made)

    def own(self, side: int) -> list[FloatArray]:
        """y of the wells of one arm alone, one array a round; none of a round in which they have no counterpart."""
        return [block.own[side] if block.factor else np.empty(0) for block in self.blocks]


@dataclass(frozen=True, eq=False)
class _Wells:
    """An arm's wells of one round, as arrays: frames of so few rows take a hundred times as long."""

    ids: Array
    y: FloatArray
    rank: FloatArray
    incumbent: FloatArray
    lost: NDArray[np.bool_]
    side: Array

    @classmethod
    def by_round(cls, picks: pd.DataFrame) -> dict[int, _Wells]:
        """Part an arm's picks by round, their order kept."""
        numbers = picks["round"].to_numpy(dtype=int)
        rank = picks["rank"] if "rank" in picks else pd.Series(np.nan, index=picks.index)
        y, ranks, known = (_numbers(one) for one in (picks["y"], rank, picks["incumbent"]))
        lost = picks["status"].str.startswith(LOST).to_numpy(dtype=bool)
        side = picks["censored"].to_numpy(dtype=int) if "censored" in picks else np.zeros(len(picks), dtype=int)
        whole = cls(picks["design_id"].to_numpy(dtype=object), y, ranks, known, lost, side)
        return {number: whole.take(np.flatnonzero(numbers == number)) for number in np.unique(numbers).tolist()}

    @property
    def waiting(self) -> int:
        """Wells that have no value and may still get one."""
        return int((np.isnan(self.y) & ~self.lost).sum())

    def take(self, at: Array) -> _Wells:
        return _Wells(self.ids[at], self.y[at], self.rank[at], self.incumbent[at], self.lost[at], self.side[at])


def _numbers(column: pd.Series[Any]) -> FloatArray:
    return column.to_numpy(dtype=float, na_value=np.nan)  # type: ignore[return-value]


def pair_of(rows: Mapping[str, pd.DataFrame], first: str, second: str, *, share: float) -> Pair:
    """Put two arms side by side.

    Where one has more wells in a round, each counts with its first k by its own order (`rank`), k being the wells of the smaller.
    Rounds that lack more than `share` of an arm's results are left out, unless there is no other: then no verdict is given.

    Args:
        rows: by name all its picks, with `round`, `design_id`, `y`, `status`, `incumbent`, and `rank` and `censored` where known.
    """
    left, right = _Wells.by_round(rows[first]), _Wells.by_round(rows[second])
    blocks, uneven = [], False
    for number in sorted(left.keys() & right.keys()):
        sides = [left[number], right[number]]
        wells, out = (len(sides[0].y), len(sides[1].y)), (sides[0].waiting, sides[1].waiting)
        if wells[0] != wells[1]:
            if all(not np.isnan(side.rank).any() for side in sides):
                sides = [side.take(np.argsort(side.rank, kind="stable")[: min(wells)]) for side in sides]
            else:
                uneven = True
        a, b = (side.take(np.flatnonzero(~np.isnan(side.y))) for side in sides)
        if len(a.y) and len(b.y):
            alone = [np.array([one not in others for one in side.ids]) for side, others in ((a, set(b.ids)), (b, set(a.ids)))]
            own = a.y[alone[0]], b.y[alone[1]]
            beyond = a.side[alone[0]], b.side[alone[1]]
            known = float(sides[0].incumbent[0])
            blocks.append(
                RoundPair(own, a.y[~alone[0]], known, number, wells, out, beyond if any(one.any() for one in beyond) else None)
            )
    return chosen(Pair(first, second, tuple(blocks), uneven=uneven), share)


def chosen(pair: Pair, share: float) -> Pair:
    """Keep the rounds with results enough; where none has, all, without a verdict."""
    enough = tuple(block for block in pair.blocks if block.complete(share))
    if not enough:
        return replace(pair, refused=bool(pair.blocks))
    return replace(pair, blocks=enough, left_out=tuple(b.number for b in pair.blocks if not b.complete(share)))
