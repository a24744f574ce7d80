"""Two arms, or two proposers, side by side: the wells that tell them apart, round by round and at equal depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from labloop.types import FloatArray

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

    def own(self, side: int) -> list[FloatArray]:
        """y of the wells of one arm alone, one array a round; none of a round in which they have no counterpart."""
        return [block.own[side] if block.factor else np.empty(0) for block in self.blocks]


def pair_of(rows: Mapping[str, pd.DataFrame], first: str, second: str, *, share: float) -> Pair:
    """Put two arms side by side.

    Where one has more wells in a round, each counts with its first k by its own order (`rank`), k being the wells of the smaller.
    Rounds that lack more than `share` of an arm's results are left out, unless there is no other: then no verdict is given.

    Args:
        rows: by name all its picks, with `round`, `design_id`, `y`, `status`, `incumbent` and, where known, `rank`.
    """
    by = {name: {int(str(number)): mine for number, mine in rows[name].groupby("round")} for name in (first, second)}
    blocks, uneven = [], False
    for number in sorted(by[first].keys() & by[second].keys()):
        sides = [by[name][number] for name in (first, second)]
        wells = len(sides[0]), len(sides[1])
        out = tuple(int((side["y"].isna() & ~side["status"].str.startswith(LOST)).sum()) for side in sides)
        if wells[0] != wells[1]:
            if all("rank" in side and side["rank"].notna().all() for side in sides):
                sides = [side.sort_values("rank", kind="stable").head(min(wells)) for side in sides]
            else:
                uneven = True
        a, b = (side[side["y"].notna()].set_index("design_id")["y"] for side in sides)
        if len(a) and len(b):
            both = a.index.intersection(b.index)
            own = a.drop(both).to_numpy(float), b.drop(both).to_numpy(float)
            at = float(sides[0]["incumbent"].iloc[0])
            blocks.append(RoundPair(own, a[both].to_numpy(float), at, number, wells, (out[0], out[1])))
    return chosen(Pair(first, second, tuple(blocks), uneven=uneven), share)


def chosen(pair: Pair, share: float) -> Pair:
    """Keep the rounds with results enough; where none has, all, without a verdict."""
    enough = tuple(block for block in pair.blocks if block.complete(share))
    if not enough:
        return replace(pair, refused=bool(pair.blocks))
    return replace(pair, blocks=enough, left_out=tuple(b.number for b in pair.blocks if not b.complete(share)))
