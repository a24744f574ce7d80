"""Finding the best designs of a model: all of the space where it can be listed, evolutionary local search elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labloop.proposing.dataset import Dataset
from labloop.runtime.progress import track
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.types import Array, Designs, FloatArray, Values

Score = Callable[[FloatArray], FloatArray]
"""Scores designs X (m, d) as (m,), larger is better; always called with at most `CHUNK` rows."""

CHUNK = 16_384
GENERATIONS = 40
POPULATION = 512
APART = 0.05
"""Least distance of two picks where a space has numbers or mixtures: a twentieth of a range."""


def search(
    data: Dataset, score: Score, n: int, *, seed: int, label: str, generations: int = GENERATIONS, population: int = POPULATION,
    spaced: bool = False,
) -> tuple[Designs, Values]:  # fmt: skip
    """Find at least n distinct designs, neither measured nor pending, that score best; fewer only where no more were found.

    A space that can be listed is scored whole, so the answer is exact. Elsewhere an elite of the best designs so far (it
    starts with the best measured and random ones) has `max(population, n)` children a generation: a child takes some sites of
    a second parent, one or two steps of mutation, and joins the elite if it is good enough. Designs of equal score are
    ordered at random.

    Args:
        label: what progress is reported as.
        spaced: numbers that vary too freely to be listed have a peak's whole neighbourhood for best designs, which is one design
            to a lab: leave out what is nearer than `APART` to a better one, as far as n are left.

    Returns:
        Canonical X (m, d) and score (m,), best first.
    """
    rng = generator(seed, "search", label)
    if data.space.listable:
        return _everything(data, score, n, label, rng)
    least = APART if spaced and data.space.kinds & {"real", "integer", "mixture"} else 0.0
    return _evolve(data, score, n, label, rng, generations, max(population, n), least)


def chunked(score: Score, X: Designs, label: str | None = None) -> Values:
    """Score X (m, d) in pieces of `CHUNK` rows, which bounds the memory a model needs."""
    starts = range(0, len(X), CHUNK)
    steps = starts if label is None else (starts[i] for i in track(len(starts), label))
    parts = [np.asarray(score(X[start : start + CHUNK]), dtype=float) for start in steps]
    return np.concatenate(parts) if parts else np.zeros(0)


def _everything(data: Dataset, score: Score, n: int, label: str, rng: np.random.Generator) -> tuple[Designs, Values]:
    X = data.space.listing()
    scores = chunked(score, X, label)
    # The front of the order holds n new designs for sure where there are as many: each known one takes a place at most once.
    front = np.lexsort((rng.random(len(X)), -scores))[: n + len(data.taken)]
    keep = front[data.space.fresh(X[front], known=data.taken)]
    return X[keep], scores[keep]


def _evolve(
    data: Dataset, score: Score, n: int, label: str, rng: np.random.Generator, generations: int, population: int, least: float
) -> tuple[FloatArray, FloatArray]:
    space = data.space
    measured = data.X[data.top(population // 2)]
    measured = measured[space.feasible(measured)]
    known, seen = set(keys(data.measured)) | set(keys(data.pending)), set[bytes]()
    elite = found = np.zeros((0, space.d))
    elite_score = found_score = np.zeros(0)
    X = np.concatenate([measured, space.sample(population - len(measured), rng)])
    for generation in track(generations + 1, label):
        if generation:
            rank = (rng.random((2, population)) ** 2 * len(elite)).astype(np.int64)  # better ones are parents more often
            X = children(space, elite[rank[0]], elite[rank[1]], rng)
        X, new = _unseen(X, seen, known)
        scores = chunked(score, X)
        elite, elite_score = _best(np.concatenate([elite, X]), np.concatenate([elite_score, scores]), population)
        found, found_score = _best(np.concatenate([found, X[new]]), np.concatenate([found_score, scores[new]]), population, least)
    if len(found) < n:  # few designs are valid: chance may still know some that no parent leads to
        X, new = _unseen(space.sample(20 * n, rng), seen, known)
        found, found_score = _best(
            np.concatenate([found, X[new]]), np.concatenate([found_score, chunked(score, X[new])]), population
        )
    keep = space.fresh(found, known=data.taken)
    if least:
        keep = keep[_filled(apart(space, found[keep], least, n), len(keep), n)]
    return found[keep], found_score[keep]


def apart(
    space: DesignSpace, X: Designs, least: float, n: int, *, worth: Values | None = None, slack: float = 0.0
) -> Array:  # fmt: skip
    """Choose rows of X (m, d), which is in order of preference, at least so far from all chosen before: up to n indices.

    Of rows whose `worth` (m,) is within `slack` of the first one's left, the farthest from all chosen comes next.
    """
    if least <= 0 and slack <= 0:
        return np.arange(min(n, len(X)))
    kept: list[int] = []
    open_ = np.ones(len(X), dtype=bool)
    near = np.full(len(X), np.inf)
    while len(kept) < n and open_.any():
        i = int(open_.argmax())
        if kept and slack > 0 and worth is not None and np.isfinite(worth[i]):
            rivals = np.flatnonzero(open_ & (worth >= worth[i] - slack))
            i = int(rivals[near[rivals].argmax()])
        kept.append(i)
        near = np.minimum(near, space.distance(X, X[i : i + 1])[:, 0])
        if least > 0:
            open_ &= near >= least - 1e-9
        open_[i] = False
    return np.array(kept, dtype=np.int64)


def keys(X: Designs) -> list[bytes]:
    """Tell encodings X (m, d) apart by their bytes, which costs far less than their ids."""
    return [row.tobytes() for row in X + 0.0]  # which makes -0.0 a 0.0


def _unseen(X: Designs, seen: set[bytes], known: set[bytes]) -> tuple[FloatArray, Array]:
    """Keep designs not seen before (and remember them); say which of them are neither measured nor pending, (m,) bool."""
    mine = keys(X)
    rows = [i for i, key in enumerate(mine) if key not in seen and not seen.add(key)]  # type: ignore[func-returns-value]
    return X[rows], np.array([mine[i] not in known for i in rows], dtype=bool)


def _best(X: Designs, score: Values, n: int, least: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Keep the n best, best first; of those in one cell of a grid of mesh `least` the best comes before all seconds."""
    order = np.argsort(-score, kind="stable")
    if least:
        cells: dict[bytes, int] = {}
        for i, cell in enumerate(np.floor(X[order] / least).astype(np.int64)):
            cells.setdefault(cell.tobytes(), i)
        order = order[_filled(np.array([*cells.values()][:n], dtype=np.int64), len(order), n)]
    return X[order[:n]], score[order[:n]]


def _filled(first: Array, m: int, n: int) -> Array:
    """Give rows `first` of m and, where these are fewer than n, as many of the others; ascending."""
    others = np.setdiff1d(np.arange(m), first)
    return np.sort(np.append(first, others[: max(n - len(first), 0)]))


def children(space: DesignSpace, one: Designs, other: Designs, rng: np.random.Generator) -> Designs:
    """Make a child (n, d) a pair of parents (n, d): half of them take some sites of the other, all take one or two mutations."""
    n, twins = len(one), space.orbit(other)
    other = twins[rng.integers(len(twins), size=n), np.arange(n)]  # a strand of DNA crosses with either strand of another
    # A site is one letter, one option, one number, one mixture: it changes hands as a whole, so the child is a valid encoding.
    site = space.site_of_column
    taken = rng.random((n, site.max() + 1)) < rng.random((n, 1)) * 0.5 * (rng.random((n, 1)) < 0.5)
    crossed = np.where(taken[:, site], other, one)
    crossed = np.where(space.feasible(crossed)[:, None], crossed, one)
    once = space.mutate(crossed, rng)
    return np.where(rng.random((n, 1)) < 0.3, space.mutate(once, rng), once)
