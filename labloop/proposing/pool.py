"""Candidates offered in a round, and picks chosen from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.sealed import Sealed
from labloop.space.design_space import DesignSpace
from labloop.types import Array, Designs, Rows, Values


def too_few(data: Dataset, found: int, n: int, *, proposer: str) -> MethodError:
    """Make the refusal of a proposer that found fewer new designs than it was asked for."""
    return MethodError(
        f"{proposer} found {found} of the {n} new designs asked for "
        f"({len(data.taken)} are measured or pending): ask for fewer, or widen the space"
    )


def scored(proposer: str, score: Sequence[float] | Array, n: int) -> Values:
    """Take a proposer's scores of n designs.

    Raises:
        MethodError: there are not n, or some are not finite.
    """
    score = np.asarray(score, dtype=float)
    if lost := n - int(np.isfinite(score).sum()):
        raise MethodError(
            f"{proposer} has no finite score for {lost} of {n} designs: measured values, or its options, are beyond what it can "
            "compute with"
        )
    return score


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Sealed):
    """Distinct, valid, unmeasured designs, best first, in read-only arrays. Shapes: X (m, d), score (m,), proposer (m,)."""

    space: DesignSpace
    X: Designs
    score: Values
    """The proposer's own opinion, in its own unit; larger is better within one proposer, not across two."""
    proposer: Array
    """Name of the proposer of each row."""
    ids: tuple[str, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What the proposer tells of its work: losses, alpha, device. Plain numbers and strings."""

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def best(
        cls, data: Dataset, X: Designs, score: Sequence[float] | Array, n: int, *,
        proposer: str, notes: Mapping[str, Any] | None = None,
    ) -> Pool:  # fmt: skip
        """Keep the n best of scored candidates, each design once and none that is measured or pending.

        X may be any canonical valid encodings, (m, d); ties keep their order.

        Raises:
            MethodError: fewer than n different new designs are among the candidates.
        """
        score = np.asarray(score, dtype=float)
        order = np.argsort(-score, kind="stable")
        # Ids cost more than the sort: look at the front first and go on only where it holds too few new designs.
        reach = min(len(order), 2 * n + len(data.taken))
        while True:
            front = order[:reach]
            keep = front[data.space.fresh(X[front], known=data.taken)][:n]
            if len(keep) == n or reach == len(order):
                break
            reach = min(len(order), 4 * reach)
        if len(keep) < n:
            raise too_few(data, len(keep), n, proposer=proposer)
        return cls.of(data.space, X[keep], score[keep], proposer=proposer, notes=notes)

    @classmethod
    def of(cls, space: DesignSpace, X: Designs, score: Array, *, proposer: str, notes: Mapping[str, Any] | None = None) -> Pool:
        """Make a pool of designs in the order given.

        Raises:
            MethodError: a score is not finite.
        """
        return cls(
            space=space, X=X, score=scored(proposer, score, len(X)), proposer=np.full(len(X), proposer, dtype=object),
            ids=tuple(space.ids(X)), notes=dict(notes or {}),
        )  # fmt: skip

    @classmethod
    def interleave(cls, pools: Sequence[Pool], shares: Mapping[str, int] | None = None) -> Pool:
        """Join pools by turns: everyone's first, everyone's second, …; a design offered twice keeps its first place.

        Args:
            shares: how many turns a proposer has beside the others, 1 where it is not named; of the first designs, as many as
                the shares' sum, everyone then has its share, and one whose design came up before has another turn.
        """
        ids = np.array([one for pool in pools for one in pool.ids], dtype=object)
        if shares is None:
            order = np.argsort(np.concatenate([np.arange(len(pool)) for pool in pools]), kind="stable")
            keep = order[np.sort(np.unique(ids[order].astype(str), return_index=True)[1])]
        else:
            keep = by_shares(pools, [shares.get(str(pool.proposer[0]), 1) if len(pool) else 1 for pool in pools])
        return cls(
            space=pools[0].space,
            X=np.concatenate([pool.X for pool in pools])[keep],
            score=np.concatenate([pool.score for pool in pools])[keep],
            proposer=np.concatenate([pool.proposer for pool in pools])[keep],
            ids=tuple(ids[keep].tolist()),
        )

    @classmethod
    def joined(cls, several: Sequence[Pool]) -> Pool:
        """Put pools one behind the other; notes are the first one's."""
        return cls(
            space=several[0].space, X=np.concatenate([one.X for one in several]),
            score=np.concatenate([one.score for one in several]), proposer=np.concatenate([one.proposer for one in several]),
            ids=tuple(one for pool in several for one in pool.ids), notes=several[0].notes,
        )  # fmt: skip

    def take(self, rows: Rows) -> Pool:
        """Keep only these rows, in this order."""
        return Pool(
            space=self.space, X=self.X[rows], score=self.score[rows], proposer=self.proposer[rows],
            ids=tuple(self.ids[i] for i in np.asarray(rows).tolist()), notes=self.notes,
        )  # fmt: skip

    def without(self, ids: Iterable[str]) -> Pool:
        """Leave out the designs of some ids."""
        gone = set(ids)
        return self.take(np.array([i for i, one in enumerate(self.ids) if one not in gone], dtype=np.int64))


def by_shares(pools: Sequence[Pool], shares: Sequence[int], before: Sequence[int] | None = None) -> Array:
    """Order the rows of pools that stand one behind the other: next comes whoever is furthest behind its share.

    Args:
        before: how many each has had already.
    """
    first = np.cumsum([0, *(len(pool) for pool in pools)])
    at, had = [0] * len(pools), [0] * len(pools) if before is None else list(before)
    seen: set[str] = set()
    order: list[int] = []
    while True:
        for i, pool in enumerate(pools):
            while at[i] < len(pool) and pool.ids[at[i]] in seen:
                at[i] += 1
        open_ = [i for i, pool in enumerate(pools) if at[i] < len(pool)]
        if not open_:
            return np.array(order, dtype=np.int64)
        i = min(open_, key=lambda i: (had[i] + 0.5) / shares[i])
        seen.add(pools[i].ids[at[i]])
        order.append(int(first[i]) + at[i])
        had[i] += 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Picks:
    """What a selector chose for one arm, best first, each pick with its reasons. All arrays (n,), X (n, d).

    `mean`, `std` and `lcb` are the reference surrogate's, in y (larger is better).
    """

    pool: Pool
    """The chosen rows."""
    mean: Values
    std: Values
    lcb: Values
    nearest_id: tuple[str, ...]
    """The measured design nearest to each pick."""
    nearest_distance: Values
    part: Array | None = None
    """(n,) which part of the round's plates each pick is for, where batch-wide limits say so."""

    def __len__(self) -> int:
        return len(self.pool)

    def take(self, rows: Rows) -> Picks:
        """Keep only these rows, in this order."""
        kept = np.asarray(rows, dtype=np.int64)
        part = None if self.part is None else self.part[kept]
        return Picks(
            pool=self.pool.take(kept), mean=self.mean[kept], std=self.std[kept], lcb=self.lcb[kept],
            nearest_id=tuple(self.nearest_id[i] for i in kept.tolist()), nearest_distance=self.nearest_distance[kept], part=part,
        )  # fmt: skip

    @classmethod
    def joined(cls, several: Sequence[Picks]) -> Picks:
        """Put picks one behind the other."""
        parts = [one.part for one in several]
        return cls(
            pool=Pool.joined([one.pool for one in several]), mean=np.concatenate([one.mean for one in several]),
            std=np.concatenate([one.std for one in several]), lcb=np.concatenate([one.lcb for one in several]),
            nearest_id=tuple(i for one in several for i in one.nearest_id),
            nearest_distance=np.concatenate([one.nearest_distance for one in several]),
            part=None if any(part is None for part in parts) else np.concatenate([part for part in parts if part is not None]),
        )  # fmt: skip
