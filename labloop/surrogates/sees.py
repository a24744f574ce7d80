"""Whether networks are shown what is known of options, letters and sequences besides their names: where it predicts better.

The test costs a second and trains no network: regression with a kernel of designs, whose left-out predictions have a closed form
(Rasmussen and Williams 2006, eq. 5.10 to 5.12), with what is known and without. Each way has the settings of its highest marginal
likelihood.
"""

from __future__ import annotations

import itertools
import logging
import math
from weakref import WeakKeyDictionary

import numpy as np

from labloop.proposing.dataset import Dataset
from labloop.seeds import generator
from labloop.surrogates.features import factors, table, unit_scale
from labloop.types import FloatArray

log = logging.getLogger("labloop")

FEWEST = 12
"""Measured designs below which nothing can be told, and all that is known is shown."""
PROBE = 300
"""Designs that are left out at most, drawn at random."""
RATES = (0.6, 1.2, 2.4, 4.8)
"""How fast likeness falls with distance, over the number of sites."""
SHARES = (0.5, 1.0)
"""Share of the distance of names that descriptors have."""
WEIGHTS = (0.5, 2.0)
"""Variance of the part that vectors explain, over that of the rest."""
RIDGES = np.geomspace(0.01, 3.2, 7)
"""Noise variances."""
_TOLD: WeakKeyDictionary[Dataset, frozenset[str]] = WeakKeyDictionary()
"""What was found, as long as somebody holds the dataset: several networks of a round ask."""


def sees(data: Dataset) -> frozenset[str]:
    """Tell what networks should see besides names and numbers: `descriptors` of options and letters, `vectors` of sequences.

    Each is in it only if left-out designs are predicted better with it.
    """
    known = frozenset(name for name, there in (("descriptors", data.space.described), ("vectors", data.space.embedded)) if there)
    if not known or len(data) < FEWEST:
        return known
    if data not in _TOLD:
        _TOLD[data] = _found(data, known)
    return _TOLD[data]


def lift(data: Dataset) -> FloatArray:
    """The matrix (d, m) from designs to the descriptors that networks should see; m is 0 where they should see none."""
    P = table(data.space)
    return P if P.shape[1] and "descriptors" in sees(data) else P[:, :0]


def _found(data: Dataset, known: frozenset[str]) -> frozenset[str]:
    rows = generator(0, "sees").permutation(len(data))[:PROBE]
    X, y = data.X[rows], data.y[rows]
    if y.std() == 0:
        return known
    t = (y - y.mean()) / y.std()
    space, P = data.space, table(data.space)
    names, told = (P != 0).any(1), frozenset[str]()
    sites, scale = factors(space), unit_scale(space)
    twins = space.orbit(X)
    plain = _best([_near(twins, scale * math.sqrt(r / sites)) for r in RATES], t)
    best = plain
    if "descriptors" in known:
        sets = max(len({one.name for one in space.described if one.block == block}) for block in space.blocks)
        ways = [
            _near(twins, scale * np.where(names, math.sqrt(1 - w), 1) * math.sqrt(r / sites), P * math.sqrt(w * r / sites / sets))
            for r, w in itertools.product(RATES, SHARES)
        ]
        found = _best(ways, t)
        if found[0] > best[0]:
            told, best = told | {"descriptors"}, found
    if "vectors" in known:
        apart = sum(_squares(one.of(X)) for one in space.embedded)
        found = _best([best[1] + w * np.exp(-apart) for w in WEIGHTS], t)
        if found[0] > best[0]:
            told, best = told | {"vectors"}, found
    log.info(
        "networks see %s (left-out log density a design: names %.3f, so %.3f)", ", ".join(sorted(told)) or "names only",
        plain[0], best[0],
    )  # fmt: skip
    return told


def _best(kernels: list[FloatArray], t: FloatArray) -> tuple[float, FloatArray]:
    """Take the likeliest of some kernels (n, n) of t (n,), the variance of t profiled out: left-out log density, and itself."""
    found: list[tuple[float, int, FloatArray, FloatArray, float]] = []
    for K in kernels:
        values, vectors = np.linalg.eigh(K)
        wide = np.maximum(values, 0) + RIDGES[:, None]
        level = ((vectors.T @ t) ** 2 / wide).mean(1)
        cost = np.log(wide).mean(1) + np.log(np.maximum(level, 1e-300))
        k = int(cost.argmin())
        found.append((float(cost[k]), len(found), wide[k], vectors, max(float(level[k]), 1e-300)))
    _, which, wide_, vectors, size = min(found, key=lambda one: one[:2])
    precision = ((vectors**2) / wide_).sum(1) / size
    missed = (vectors @ ((vectors.T @ t) / wide_)) / size / precision
    density = 0.5 * np.log(precision) - 0.5 * missed**2 * precision - 0.5 * math.log(2 * math.pi)
    return float(density.mean()), kernels[which]


def _near(twins: FloatArray, reach: FloatArray, P: FloatArray | None = None) -> FloatArray:
    """exp(-‖x - z‖²/2) of designs (g, n, d) with each other, the mean over twins of one: (n, n)."""

    def seen(X: FloatArray) -> FloatArray:
        return X * reach if P is None else np.concatenate([X * reach, X @ P], axis=1)

    a = seen(twins[0])
    out: FloatArray = np.mean([np.exp(-0.5 * _apart(a, seen(twin))) for twin in twins], axis=0)
    return out


def _apart(a: FloatArray, b: FloatArray) -> FloatArray:
    out: FloatArray = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0)
    return out


def _squares(a: FloatArray) -> FloatArray:
    return _apart(a, a)
