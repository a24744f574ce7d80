"""What a judge looks at: how much worse it ranks unseen designs without a factor, and what it predicts for each letter or option.

Every figure comes from several fits, each from a seed of its own and on designs of which a part was held out, so that its spread
shows what another fit would have said.

1. Trust: Spearman's correlation of predicted and measured values of the designs held out, averaged over the fits, with a 95 %
   interval by Fisher's transform (standard error 1.03 / sqrt(n - 3); Fieller, Hartley and Pearson, Biometrika 44, 1957).
2. Importance: what that correlation loses when a factor's values are shuffled among the held-out designs (Breiman, Machine
   Learning 45, 2001). Factors that go together hide each other: each stands in for the other, and both seem to matter little.
3. Effects: the mean prediction over the measured designs, all set to one letter, option or number (partial dependence: Friedman,
   Annals of Statistics 29, 2001). Levels that nobody measured are left out: of those a judge can only guess.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from labloop.proposing.dataset import Dataset
from labloop.proposing.protocols import Belief
from labloop.proposing.search import keys
from labloop.runtime.progress import track
from labloop.seeds import derive, generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Block, Mixture, Parameter, Sequence
from labloop.types import Array, Designs, FloatArray, Values

FEWEST = 12
"""Measured designs without which nothing can be held out."""
HELD = 6
"""Designs that each fit holds out at least, as far as two thirds are left to learn from."""
SHUFFLES = 5
LEVELS = 5
"""Numbers at which a continuous factor is looked at."""
WORK = 30_000
"""Predictions of one fit for the effects, about."""
ROWS = 4_000
"""Predictions at once, about."""
WEAK = 0.3

Fit = Callable[[Dataset, int], Belief]
"""Fits the judge to data from a seed."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A position, a choice, a number or a mixture, and what the judge loses without it."""

    name: str
    parameter: str
    position: int | None
    """Of a letter, from 1."""
    importance: float
    """Held-out rank correlation lost when its values are shuffled; mean over fits."""
    spread: float
    """Standard deviation over fits."""


@dataclass(frozen=True, kw_only=True)
class LevelMean:
    """The mean prediction with a factor at one level."""

    factor: str
    parameter: str
    position: int | None
    level: str
    number: float | None
    """The level as a number, where it is one."""
    n: int
    """Measured designs that have this level, or a number next to it."""
    value: float
    """In the lab's unit."""
    low: float
    high: float
    """One standard deviation over fits to either side."""


@dataclass(frozen=True, kw_only=True)
class Insight:
    """What a judge looks at."""

    judge: str
    n: int
    """Measured designs."""
    fits: int
    rho: float
    """Rank correlation with the values of designs held out, mean over fits."""
    rho_low: float
    rho_high: float
    trusted: bool
    trust: str
    """How far it can be trusted, in words."""
    mean: float
    """Mean prediction over the measured designs, in the lab's unit."""
    unit: str = ""
    property: str = ""
    factors: tuple[Factor, ...] = ()
    """The most important first."""
    effects: tuple[LevelMean, ...] = ()
    """In the space's order."""
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return asdict(self)

    @classmethod
    def noted(cls, told: dict[str, Any]) -> Insight:
        """Take what `to_dict` gave."""
        return cls(**{
            **told, "factors": tuple(Factor(**one) for one in told["factors"]),
            "effects": tuple(LevelMean(**one) for one in told["effects"]), "notes": tuple(told["notes"]),
        })  # fmt: skip


def look(
    fit: Fit, data: Dataset, *, judge: str, fits: int, seed: int, to_value: Callable[[FloatArray], FloatArray], unit: str = "",
    property: str = "",
) -> Insight:  # fmt: skip
    """Fit a judge several times and tell what it looks at.

    Args:
        data: of one property; `FEWEST` designs at least.
        to_value: turns y into the lab's unit.
    """
    sites = _sites(data.space)
    levels = [one for site in sites for one in _levels(data, site)]
    folds = _folds(len(data), fits, seed)
    rhos, lost, seen = np.zeros(fits), np.zeros((fits, len(sites))), np.zeros((fits, len(levels)))
    base = np.zeros(fits)
    few = generator(seed, "why", "rows").permutation(len(data))[: max(20, WORK // max(1, len(levels)))]
    for k in track(fits, "fits of the judge"):
        held = folds[k]
        rest = np.setdiff1d(np.arange(len(data)), held)
        belief = fit(data.take(rest), derive(seed, "why", k))
        X, y = data.X[held], data.y[held]
        rhos[k] = spearman(belief.belief(X)[0], y)
        rng = generator(seed, "why", "shuffle", k)
        without = _means(belief, (_shuffled(data.space, X, site, rng) for site in sites for _ in range(SHUFFLES)))
        lost[k] = rhos[k] - np.reshape([spearman(one, y) for one in without], (-1, SHUFFLES)).mean(1)
        told = _means(belief, itertools.chain([data.X[few]], (_set(data.space, data.X[few], one) for one in levels)))
        base[k], *seen[k] = (one.mean() for one in told)
    rho, low, high = _interval(rhos, sum(len(one) for one in folds), len(data))
    trusted, said = trust(rho, low, high, len(data))
    deviation = seen.std(0, ddof=1) if fits > 1 else np.full(len(levels), np.nan)
    centre = seen.mean(0)
    ends = np.sort([to_value(centre - deviation), to_value(centre + deviation)], axis=0)
    values = to_value(centre)
    effects = tuple(
        LevelMean(
            factor=one.site.name, parameter=one.site.block.parameter, position=one.site.position, level=one.label,
            number=one.number, n=one.n, value=float(values[i]), low=float(ends[0, i]), high=float(ends[1, i]),
        ) for i, one in enumerate(levels)
    )  # fmt: skip
    spread = lost.std(0, ddof=1) if fits > 1 else np.full(len(sites), np.nan)
    factors = [
        Factor(
            name=site.name, parameter=site.block.parameter, position=site.position, importance=float(lost[:, j].mean()),
            spread=float(spread[j]),
        ) for j, site in enumerate(sites)
    ]  # fmt: skip
    return Insight(
        judge=judge, n=len(data), fits=fits, rho=rho, rho_low=low, rho_high=high, trusted=trusted, trust=said,
        mean=float(to_value(np.array([base.mean()]))[0]), unit=unit, property=property,
        factors=tuple(sorted(factors, key=lambda one: -one.importance)), effects=effects, notes=tuple(_notes(data.space)),
    )  # fmt: skip


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Spearman's rank correlation of a (n,) and b (n,); 0 where one of them does not vary, which ranks nothing."""
    ranks = [pd.Series(one).rank().to_numpy(float) for one in (a, b)]
    ranks = [one - one.mean() for one in ranks]
    size = math.sqrt(float(ranks[0] @ ranks[0]) * float(ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1]) / size if size > 0 else 0.0


def trust(rho: float, low: float, high: float, n: int) -> tuple[bool, str]:
    """Say whether a judge of this held-out correlation can be trusted, and how far."""
    told = (
        f"its predictions of designs that it has not seen rank them with correlation {rho:.2f} "
        f"(95 % interval {low:.2f} to {high:.2f}, {n} designs)"
    )
    if low <= 0:
        return False, (
            f"The judge cannot be trusted: {told}, which may as well be none. What it says of designs is a guess: measure more."
        )
    if rho < WEAK:
        return True, f"The judge is weak: {told}. Read what it says as a hint."
    return True, f"The judge can be read: {told}."


# ---- sites and levels


@dataclass(frozen=True)
class _Site:
    name: str
    block: Block
    start: int
    stop: int
    position: int | None
    parameter: Parameter


@dataclass(frozen=True)
class _Level:
    site: _Site
    label: str
    n: int
    row: FloatArray
    """What the site's columns of X are set to; of a mixture, NaN but for the component that is."""
    number: float | None = None


def _sites(space: DesignSpace) -> list[_Site]:
    found = []
    for parameter, block in zip(space, space.blocks, strict=True):
        width = block.classes if block.kind == "onehot" else block.stop - block.start
        several = isinstance(parameter, Sequence)
        for i, start in enumerate(range(block.start, block.stop, width)):
            name = f"{parameter.name} {i + 1}" if several else parameter.name
            found.append(_Site(name, block, start, start + width, i + 1 if several else None, parameter))
    return found


def _levels(data: Dataset, site: _Site) -> list[_Level]:
    """Levels of a site that somebody measured: letters, options, numbers, or shares of each component."""
    part = data.X[:, site.start : site.stop]
    if site.block.kind == "onehot":
        parameter = site.parameter
        words = list(parameter.alphabet) if isinstance(parameter, Sequence) else [str(one) for one in parameter.options]  # type: ignore[union-attr]
        words += ["no letter"] if site.block.gap else []
        counts, eye = part.sum(0).round().astype(int), np.eye(part.shape[1])
        return [_Level(site, word, int(n), eye[i]) for i, (word, n) in enumerate(zip(words, counts.tolist(), strict=True)) if n]
    if isinstance(site.parameter, Mixture):
        found = []
        for j, component in enumerate(site.parameter.columns):
            for share, n in _numbers(part[:, j]):
                row = np.full(part.shape[1], np.nan)
                row[j] = share
                found.append(_Level(site, f"{component} {share:.3g}", n, row, share))
        return found
    told = []
    for scaled, n in _numbers(part[:, 0]):
        value = site.parameter.typed(site.parameter.decode(np.array([[scaled]])))[0][0]
        told.append(_Level(site, f"{float(value):.6g}", n, np.array([scaled]), float(value)))
    return told


def _numbers(column: FloatArray) -> list[tuple[float, int]]:
    """Give the numbers at which a column is looked at, and how many designs are nearest to each."""
    distinct = np.unique(column)
    if len(distinct) > LEVELS + 2:
        distinct = np.unique(np.quantile(column, np.linspace(0.05, 0.95, LEVELS), method="nearest"))  # measured ones
    near = np.abs(column[:, None] - distinct).argmin(1)
    return list(zip(distinct.tolist(), np.bincount(near, minlength=len(distinct)).tolist(), strict=True))


def _set(space: DesignSpace, X: FloatArray, level: _Level) -> FloatArray:
    out, site = X.copy(), slice(level.site.start, level.site.stop)
    if level.site.block.kind != "simplex":
        out[:, site] = level.row
        return space.canonical(out)
    j = int(np.flatnonzero(np.isfinite(level.row))[0])
    others = out[:, site].copy()
    others[:, j] = 0.0
    total = others.sum(1, keepdims=True)
    even = np.where(np.arange(others.shape[1]) == j, 0.0, 1.0 / max(1, others.shape[1] - 1))
    others = np.where(total > 0, others / np.where(total > 0, total, 1.0), even) * (1 - level.row[j])
    others[:, j] = level.row[j]
    out[:, site] = others
    return out


def _means(belief: Belief, tables: Iterable[Designs]) -> list[Values]:
    """Mean predictions of each table of designs, (n,) each; a few at a time, as they grow large, and none of them twice."""
    found: list[Values] = []
    rest = iter(tables)
    for first in rest:
        some = [first, *itertools.islice(rest, ROWS // len(first))]
        X = np.concatenate(some)
        rows = keys(X)
        place = {row: i for i, row in enumerate(rows)}
        known = dict(zip(place, belief.belief(X[list(place.values())])[0], strict=True))
        mean = np.array([known[row] for row in rows])
        found += np.split(mean, np.cumsum([len(one) for one in some[:-1]]))
    return found


def _shuffled(space: DesignSpace, X: FloatArray, site: _Site, rng: np.random.Generator) -> FloatArray:
    out = X.copy()
    out[:, site.start : site.stop] = X[rng.permutation(len(X)), site.start : site.stop]
    return space.canonical(out)


# ---- held out


def _folds(n: int, fits: int, seed: int) -> list[Array]:
    """Give the rows that each fit holds out: every row once where there are enough, else as many as leave two thirds."""
    order = generator(seed, "why", "folds").permutation(n)
    size = min(max(math.ceil(n / fits), HELD), n // 3)
    return [order[(k * size + np.arange(size)) % n] for k in range(fits)]


def _interval(rhos: FloatArray, held: int, n: int) -> tuple[float, float, float]:
    rho = float(rhos.mean())
    n_seen = min(held, n)
    half = 1.96 * 1.03 / math.sqrt(max(n_seen - 3, 1))
    z = math.atanh(min(max(rho, -0.999999), 0.999999))
    return rho, math.tanh(z - half), math.tanh(z + half)


def _notes(space: DesignSpace) -> list[str]:
    notes = []
    if space.symmetries:
        notes.append("Both strands are one design: positions count along the strand that sorts first.")
    if len(_sites(space)) > 1:
        notes.append("Factors that go together in the data hide each other: each stands in for the other when one is shuffled.")
    return notes
