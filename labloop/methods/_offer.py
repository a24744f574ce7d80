"""From what a search has visited, or a generator drawn, to a pool of exactly n new designs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool, too_few
from labloop.proposing.search import Score, search
from labloop.types import FloatArray

WAVES = 8
"""Times that a generator draws while new designs are lacking."""
GENERATIONS = 10
"""Of the search that fills a pool up."""
LEAST_STEPS = 500
"""Of a generative model, however few the data are."""
POPULATION = 128
"""Children of each of them, or as many as designs are asked for."""


def within_passes(steps: int, rows: int, batch: int, passes: int | None) -> int:
    """Cut training steps to so many passes over the rows, but not below `LEAST_STEPS`: more would learn few data by heart."""
    return steps if passes is None else min(steps, max(LEAST_STEPS, passes * -(-rows // batch)))


def listed(data: Dataset, how: Literal["auto", "ascent", "enumerate"], proposer: str) -> bool:
    """Say whether the option `search` means to score the whole space.

    Raises:
        MethodError: it says so of a space that cannot be listed.
    """
    if how == "enumerate" and not data.space.listable:
        raise MethodError(f"{proposer} cannot enumerate {data.space.extent}: use search='auto' or 'ascent'")
    return data.space.listable and how != "ascent"


def everything(data: Dataset, score: Score, n: int, *, proposer: str, notes: Mapping[str, Any]) -> Pool:
    """Offer the n best new designs of a space that can be listed."""
    X = data.space.listing()
    return Pool.best(data, X, score(X), n, proposer=proposer, notes={**notes, "search": "enumerate"})


def paths(
    data: Dataset, path: FloatArray, score: Score, n: int, *, seed: int, proposer: str, notes: Mapping[str, Any],
    generations: int = GENERATIONS, population: int = POPULATION,
) -> Pool:  # fmt: skip
    """Offer n new designs of paths (t, b, d), each start's best first in turn; what lacks is found by search on the score.

    Raises:
        MethodError: there are fewer than n new designs.
    """
    space = data.space
    X = path.reshape(-1, space.d)
    values = np.asarray(score(X), dtype=float)
    place = (-values.reshape(path.shape[:2])).argsort(0, kind="stable").argsort(0, kind="stable")
    order = np.lexsort((-values, place.ravel()))
    return ranked(
        data, X[order], values[order], score, n, seed=seed, proposer=proposer, notes={**notes, "search": "ascent"},
        generations=generations, population=population,
    )  # fmt: skip


def ranked(
    data: Dataset, X: FloatArray, values: FloatArray, score: Score, n: int, *,
    seed: int, proposer: str, notes: Mapping[str, Any], resort: bool = True,
    generations: int = GENERATIONS, population: int = POPULATION,
) -> Pool:  # fmt: skip
    """Offer the first n new designs of X (m, d), best first by value; what lacks is found by search on the score.

    Args:
        resort: False leaves the order as it is, and fills up behind it.

    Raises:
        MethodError: there are fewer than n new designs.
    """
    space = data.space
    keep = space.fresh(X, known=data.taken)[:n]
    X, values = X[keep], values[keep]
    if len(X) < n:
        more, its_values = search(
            data, score, n, seed=seed, label=f"{proposer}: searching", generations=generations, population=population
        )
        if not resort and len(values):
            its_values = np.minimum(its_values, values.min())
        X, values = np.concatenate([X, more]), np.concatenate([values, its_values])
        notes = {**notes, "found_by_search": n - len(keep)}
        keep = space.fresh(X)[:n]
        X, values = X[keep], values[keep]
    if len(X) < n:
        raise too_few(data, len(X), n, proposer=proposer)
    order = np.argsort(-values, kind="stable") if resort else np.arange(n)
    return Pool.of(space, X[order], values[order], proposer=proposer, notes=notes)


def drawn(
    data: Dataset, draw: Callable[[int], FloatArray], n: int, *, seed: int, proposer: str, notes: Mapping[str, Any],
    score: Score | None = None,
) -> Pool:  # fmt: skip
    """Offer n new designs of a generator, best first by `score`, or by how often each was drawn, the first drawn first.

    `draw(k)` gives k designs (k, d), canonical and valid. It is called until n are new, `WAVES` times at most; what then lacks
    are mutants of what was drawn, behind it.

    Raises:
        MethodError: there are fewer than n new designs.
    """
    space, rng = data.space, np.random.default_rng(seed)
    X = draw(max(n, 32))
    first = space.fresh(X, known=data.taken)
    for _ in range(WAVES - 1):
        if len(first) >= n:
            break
        X = np.concatenate([X, draw(max(n, 32))])
        first = space.fresh(X, known=data.taken)
    if score is None:
        ids = np.array(space.ids(X))
        names, times = np.unique(ids, return_counts=True)
        values = times[np.searchsorted(names, ids)].astype(float)
    else:
        values = np.asarray(score(X), dtype=float)
    first = first[np.argsort(-values[first], kind="stable")][:n]
    X, values = X[first], values[first]
    notes = {**notes, "drawn": len(first)}
    if len(X) < n:
        parents = X if len(X) else data.X[data.top(32)]
        parents = parents[space.feasible(parents)] if len(parents) else parents
        floor = (values.min() if len(values) else 0.0) - 1.0
        more = (
            [space.mutate(parents[np.arange(2 * n) % len(parents)], rng, steps=1 + i) for i in range(6)] if len(parents) else []
        )
        rest = rng.permutation(space.listing()) if space.listable else space.sample(4 * n, rng)
        X = np.concatenate([X, *more, rest])
        values = np.concatenate([values, np.full(len(X) - len(values), floor)])
        keep = space.fresh(X, known=data.taken)[:n]
        X, values = X[keep], values[keep]
    if len(X) < n:
        raise too_few(data, len(X), n, proposer=proposer)
    return Pool.of(space, X, values, proposer=proposer, notes=notes)
