"""Selectors: which candidates of a pool go into an arm's wells, and why.

A selector puts a pool in an order that does not depend on how many are asked for, so that a longer selection starts with the
shorter one. Designs measured or pending by now, and second copies of a design, are dropped first, whatever the selector.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from labloop.dataset import Dataset
from labloop.errors import MethodError
from labloop.parameters import Array, FloatArray
from labloop.pool import Picks, Pool
from labloop.protocols import Posterior
from labloop.registry import plugin
from labloop.seeds import generator
from labloop.space import DesignSpace

log = logging.getLogger("labloop")

SUPPORT_ROWS = 1_000
"""Measured designs that the distance limit is taken from at most."""
CELLS = 8_000_000
"""Distances that are held at once."""


@plugin
class Conservative:
    """The best by lower confidence bound of the judge, near enough to the data and far enough from each other."""

    beta: float = 1.0
    """Standard deviations taken off the mean; below zero the selector is an optimist."""
    min_distance: Annotated[float, Field(ge=0)] = 0.0
    """Least distance between two picks: differing letters and options, plus the Euclidean distance of the scaled numbers."""
    support: Annotated[float, Field(gt=0, le=1)] | None = 0.99
    """A candidate lacks data support where it lies farther from all measured designs than this share of the measured designs
    lie from their nearest other one. None: no such rule."""
    relax: bool = True
    """Where fewer than n candidates have support, fill up with those nearest to the data (and log it) instead of raising."""

    def select(self, pool: Pool, posterior: Posterior, data: Dataset, n: int, *, seed: int) -> Picks:
        """Choose n of the pool by lower confidence bound, best first; those that only `relax` lets in come last.

        Raises:
            MethodError: fewer than n are left; the message says which rule dropped how many.
        """
        rows, dropped = _choosable(pool, data)
        fresh = pool.take(rows)
        reasons = explain(fresh, posterior, data, self.beta)
        limit = np.inf if self.support is None else support_limit(data, self.support)
        far = reasons.nearest_distance > limit
        # Supported ones by bound; behind them the others, the nearest to the data first.
        order = np.lexsort((-reasons.lcb, np.where(far, reasons.nearest_distance, 0.0)))
        if not self.relax:
            order = order[~far[order]]
            dropped["lack data support"] = int(far.sum())
        spread = _apart(data.space, fresh.X[order], self.min_distance, n)
        if len(spread) < n:
            dropped[f"are nearer than {self.min_distance:g} to a better pick"] = len(order) - len(spread)
            raise _too_few("conservative", n, pool, dropped)
        chosen = order[spread]
        relaxed = int(far[chosen].sum())
        if relaxed:
            log.warning(
                "conservative: only %d of %d picks have data support (nearest measured design within %.3g); "
                "the others are the nearest to the data",
                n - relaxed, n, limit,
            )  # fmt: skip
        notes = {"beta": self.beta, "support_limit": float(limit), "without_support": int(far.sum()), "relaxed": relaxed}
        return _picked(reasons, chosen, notes)


@plugin
class AsProposed:
    """The first of the pool in the proposers' own order: the selector of methods that choose a batch jointly."""

    def select(self, pool: Pool, posterior: Posterior, data: Dataset, n: int, *, seed: int) -> Picks:
        """Choose the first n; the bound given with each pick is one standard deviation below the mean.

        Raises:
            MethodError: fewer than n are left.
        """
        rows, dropped = _choosable(pool, data)
        if len(rows) < n:
            raise _too_few("as_proposed", n, pool, dropped)
        return explain(pool.take(rows[:n]), posterior, data, 1.0)


@plugin
class RandomSelection:
    """Any of the pool: what a selector has to beat."""

    def select(self, pool: Pool, posterior: Posterior, data: Dataset, n: int, *, seed: int) -> Picks:
        """Choose n at random; the bound given with each pick is one standard deviation below the mean.

        Raises:
            MethodError: fewer than n are left.
        """
        rows, dropped = _choosable(pool, data)
        if len(rows) < n:
            raise _too_few("random", n, pool, dropped)
        return explain(pool.take(generator(seed, "random selection").permutation(rows)[:n]), posterior, data, 1.0)


def explain(pool: Pool, posterior: Posterior, data: Dataset, beta: float) -> Picks:
    """Give every row of a pool its reasons: the judge's mean, std and mean - beta · std, and the nearest measured design.

    Without measured designs the nearest id is empty and its distance infinite.
    """
    mean, std = posterior(pool.X)
    if len(data):
        index, distance = data.space.nearest(pool.X, data.X, chunk=max(1, CELLS // len(data)))
        nearest = tuple(data.ids[i] for i in index.tolist())
    else:
        nearest, distance = ("",) * len(pool), np.full(len(pool), np.inf)
    return Picks(pool=pool, mean=mean, std=std, lcb=mean - beta * std, nearest_id=nearest, nearest_distance=distance)


def support_limit(data: Dataset, share: float) -> float:
    """Find the distance within which this share of the measured designs have another measured one.

    With fewer than two measured designs there is nothing to go by, and the limit is infinite.
    """
    if len(data) < 2:
        return np.inf
    near = []
    rows = min(SUPPORT_ROWS, len(data))  # rows stand in the order of a hash, so the first are as good as random ones
    step = max(1, CELLS // len(data))
    for start in range(0, rows, step):
        own = np.arange(start, min(start + step, rows))
        D = data.space.distance(data.X[own], data.X)
        D[np.arange(len(own)), own] = np.inf
        near.append(D.min(1))
    return float(np.quantile(np.concatenate(near), share, method="higher"))


def _choosable(pool: Pool, data: Dataset) -> tuple[Array, dict[str, int]]:
    """Rows of the pool that may be chosen at all, in order, and how many each rule dropped."""
    unique = np.sort(np.unique(np.array(pool.ids, dtype=str), return_index=True)[1])
    taken = np.array([pool.ids[i] in data.taken for i in unique.tolist()], dtype=bool)
    dropped = {"are measured or pending": int(taken.sum()), "are second copies": len(pool) - len(unique)}
    return unique[~taken].astype(np.int64), dropped


def _apart(space: DesignSpace, X: FloatArray, least: float, n: int) -> Array:
    """Go through X (m, d) in order and keep rows that are at least this far from all kept before: up to n indices."""
    if least <= 0:
        return np.arange(min(n, len(X)))
    kept: list[int] = []
    open_ = np.ones(len(X), dtype=bool)
    while len(kept) < n and open_.any():
        i = int(open_.argmax())
        kept.append(i)
        open_ &= space.distance(X, X[i : i + 1])[:, 0] >= least - 1e-9
        open_[i] = False
    return np.array(kept, dtype=np.int64)


def _picked(reasons: Picks, rows: Array, notes: dict[str, float]) -> Picks:
    pool = reasons.pool.take(rows)
    return Picks(
        pool=replace(pool, notes={**pool.notes, "selection": notes}),
        mean=reasons.mean[rows], std=reasons.std[rows], lcb=reasons.lcb[rows],
        nearest_id=tuple(reasons.nearest_id[i] for i in rows.tolist()), nearest_distance=reasons.nearest_distance[rows],
    )  # fmt: skip


def _too_few(name: str, n: int, pool: Pool, dropped: dict[str, int]) -> MethodError:
    told = ", ".join(f"{count} {rule}" for rule, count in dropped.items() if count) or "none was dropped"
    left = len(pool) - sum(dropped.values())
    return MethodError(
        f"{name} was asked for {n} picks, but {left} of the pool's {len(pool)} candidates are left ({told}): "
        "offer a larger pool (arms.*.pool), or loosen the rule"
    )
