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
"""Scores designs X (m, d) of proposers (m,) as (m,), larger is better."""

ELITE = 512
"""Designs that have children at most."""
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
    order = np.argsort(-score, kind="stable")[:size]
    elite, line, worth = pool.X[order], pool.proposer[order], score[order]
    known = set(keys(data.measured)) | set(keys(data.pending)) | set(keys(pool.X))
    new_X, new_line, new_worth = [np.zeros((0, space.d))], [np.zeros(0, dtype=object)], [np.zeros(0)]
    spread, front, waited = float(worth.std()) or 1.0, float(worth[:n].mean()), 0
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
        order = np.argsort(-worth, kind="stable")[:size]
        elite, line, worth = elite[order], line[order], worth[order]
        waited = 0 if worth[:n].mean() > front + GAIN * spread else waited + 1
        front = max(front, float(worth[:n].mean()))
        if waited >= PATIENCE:
            break
    X, mine, found = np.concatenate(new_X), np.concatenate(new_line), np.concatenate(new_worth)
    best = np.argsort(-found, kind="stable")[:size]
    ids = space.ids(X[best])
    keep = [i for i, one in enumerate(ids) if one not in data.taken]
    best = best[keep]
    return Pool(
        space=space, X=np.concatenate([pool.X, X[best]]), score=np.concatenate([pool.score, np.full(len(best), np.nan)]),
        proposer=np.concatenate([pool.proposer, mine[best]]), ids=(*pool.ids, *(ids[i] for i in keep)), notes=pool.notes,
    )  # fmt: skip
