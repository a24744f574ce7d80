"""Local search around a pool's designs on what the judge believes: an offline step, which asks no lab.

Generators reach where no single step from a measured design leads, but their own models bound how good their candidates are. What
they offer is therefore taken on by the judge: designs are crossed and changed a site at a time, and those stay that it thinks
better of. Each descends from a candidate of one proposer, and is counted as that proposer's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.search import children, keys
from labloop.seeds import generator
from labloop.types import Array, FloatArray

Bound = Callable[[FloatArray, Array], FloatArray]
"""Scores designs X (m, d) of proposers (m,), larger is better: one number a design (m,), or one for each niche (m, k)."""

ELITE = 512
"""Designs that have children at most."""
KEPT = 4
"""How many times as many stay where there are niches, as a batch takes some of each."""
PATIENCE = 4
"""Generations without a better front that end the search."""
GAIN = 1e-3
"""A better front: higher by this share of the scores' spread."""


def refined(pool: Pool, bound: Bound, data: Dataset, n: int, *, generations: int, seed: int) -> Pool:
    """Add to a pool the best that local search finds around its designs; what was there stays.

    Args:
        n: designs of the front by which progress is told, and at least so many are added where they are found.

    Returns:
        The pool with up to `max(ELITE, 2n)` more designs, none measured or pending, best first behind the pool's own. Their
        `score` is NaN: no proposer has an opinion of them.
    """
    space, rng = data.space, generator(seed, "refine")
    size = max(ELITE, 2 * n)
    score = bound(pool.X, pool.proposer)
    order = best_first(score)[:size]
    elite, line, worth = pool.X[order], pool.proposer[order], score[order]
    known = set(keys(data.measured)) | set(keys(data.pending)) | set(keys(pool.X))
    new_X, new_line, new_worth = [np.zeros((0, space.d))], [np.zeros(0, dtype=object)], [score[:0]]
    spread, front, waited = np.where(worth.std(0) > 0, worth.std(0), 1.0), _front(worth, n), 0
    for _ in range(generations):
        parents = (rng.random(size) ** 2 * len(elite)).astype(np.int64)
        others = (rng.random(size) ** 2 * len(elite)).astype(np.int64)
        made = children(space, elite[parents], elite[others], rng)
        fresh = [i for i, one in enumerate(keys(made)) if one not in known and not known.add(one)]  # type: ignore[func-returns-value]
        fresh = [i for i, good in zip(fresh, space.feasible(made[fresh]), strict=True) if good]
        if not fresh:
            break
        X, mine = made[fresh], line[parents[fresh]]
        found = bound(X, mine)
        for kept, one in ((new_X, X), (new_line, mine), (new_worth, found)):
            kept.append(one)
        elite, line, worth = (np.concatenate(pair) for pair in ((elite, X), (line, mine), (worth, found)))
        order = best_first(worth)[:size]
        elite, line, worth = elite[order], line[order], worth[order]
        waited = 0 if (_front(worth, n) > front + GAIN * spread).any() else waited + 1
        front = np.maximum(front, _front(worth, n))
        if waited >= PATIENCE:
            break
    X, mine, found = np.concatenate(new_X), np.concatenate(new_line), np.concatenate(new_worth)
    best = best_first(found)[: size if found.ndim == 1 else KEPT * size]
    ids = space.ids(X[best])
    keep = [i for i, one in enumerate(ids) if one not in data.taken]
    best = best[keep]
    return Pool(
        space=space, X=np.concatenate([pool.X, X[best]]), score=np.concatenate([pool.score, np.full(len(best), np.nan)]),
        proposer=np.concatenate([pool.proposer, mine[best]]), ids=(*pool.ids, *(ids[i] for i in keep)), notes=pool.notes,
    )  # fmt: skip


def best_first(score: FloatArray) -> Array:
    """Order designs by score (m,); with a score for each niche (m, k), by their best place in any niche."""
    if score.ndim == 1 or score.shape[1] == 1:
        return np.argsort(-score.reshape(len(score)), kind="stable")
    place = np.argsort(np.argsort(-score, axis=0, kind="stable"), axis=0, kind="stable")
    return np.lexsort((-score.max(1), place.min(1)))


def _front(worth: FloatArray, n: int) -> FloatArray:
    """Mean of the n best, shared out between the niches where there are several; () or (k,)."""
    if worth.ndim == 1:
        return worth[:n].mean()  # type: ignore[no-any-return]
    each = max(1, n // worth.shape[1])
    return np.sort(worth, axis=0)[-each:].mean(0)  # type: ignore[no-any-return]
