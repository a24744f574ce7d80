"""A scale on which a model can follow the measurements: as they are, or their logarithm above a floor, whichever predicts better.

Where effects multiply, as in fitness or binding that saturates, most measurements lie near nothing and say little as they stand;
on the scale of their logarithm the same effects add up, and a model goes on beyond the best of them (warped Gaussian processes:
Snelson, Rasmussen and Ghahramani, NeurIPS 2004). With lo the least measurement and s their standard deviation

    z = log(c + (y - lo) / s)

c is the one of a grid under which a Gaussian process makes left-out measurements likeliest. Each counts by the probability that
it lies nearer to its own value than to the next ones that were measured, which no scale changes by itself: by densities, many
equal readings at the floor, such as yields of zero, would speak for any warp. One that gains less than `GAIN` for each of them is
left: where measurements are merely skewed a warp exaggerates what is near the floor.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from scipy.special import log_ndtr

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.seeds import generator
from labloop.surrogates.gp import GP
from labloop.types import FloatArray

log = logging.getLogger("labloop")

FLOORS = (1.0, 0.2, 0.04, 0.008)
"""c, mildest first; a stronger one is tried while the one before it gained."""
GAIN = 0.5
"""Least gain in log probability a measurement, in nats: proteins of saturating fitness gain about one and more, reactions, whose
first plates a warp made worse, less than a third."""
HYPER = 500
"""Designs that the judge's process fits its hyper-parameters to at most: these need fewer than the posterior does, and cost the
most. It shares the fit to measurements as they are, as it is made with the same options."""
PROBE = 200
"""Measurements that c is chosen on at most, drawn at random."""
FEWEST = 20
"""Measurements without which nothing is chosen."""
ITERATIONS = 50
"""Most iterations of a fit to logarithms: a comparison needs no more."""
_CHOSEN: WeakKeyDictionary[Dataset, Warp] = WeakKeyDictionary()
"""What was chosen by a whole dataset, as long as somebody holds it."""


@dataclass(frozen=True, kw_only=True)
class Warp:
    """z = log(floor + (y - low) / unit); beyond `best`, a straight line with the slope there. Without a floor, y itself."""

    floor: float | None = None
    low: float = 0.0
    unit: float = 1.0
    best: float = 0.0
    """The highest measurement, in y."""

    @classmethod
    def of(cls, y: FloatArray, floor: float) -> Warp:
        return cls(floor=floor, low=float(y.min()), unit=float(y.std()) or 1.0, best=float(y.max()))

    def __call__(self, y: FloatArray) -> FloatArray:
        """Give z of y, at least `low`."""
        return y if self.floor is None else np.log(self.floor + (y - self.low) / self.unit)

    def slope(self, y: FloatArray) -> FloatArray:
        """Give dz/dy at y, at least `low`."""
        return np.ones_like(y) if self.floor is None else 1 / (self.unit * self.floor + y - self.low)

    def back(self, z: FloatArray) -> FloatArray:
        """Give y of z."""
        if self.floor is None:
            return z
        top = float(self(np.array(self.best)))
        below = self.low + self.unit * (np.exp(np.minimum(z, top)) - self.floor)
        return below + np.maximum(z - top, 0.0) / float(self.slope(np.array(self.best)))

    def spread(self, mean: FloatArray, std: FloatArray) -> FloatArray:
        """Give the std in y of what is believed to be mean ± std in z."""
        return std if self.floor is None else (self.back(mean + std) - self.back(mean - std)) / 2

    def seen(self, data: Dataset) -> Dataset:
        """Give the data with z for y, without other campaigns, which are on a scale of their own."""
        if self.floor is None:
            return data
        return replace(data, y=self(data.y), sem=data.sem * self.slope(data.y), history=())


def chosen(data: Dataset, *, seed: int) -> Warp:
    """Choose the scale on which a Gaussian process predicts left-out measurements best."""
    if len(data) > PROBE:
        return _chosen(data, seed)
    if data not in _CHOSEN:  # the seed plays no part: a round's judge and who asks it as a proposer share the choice
        _CHOSEN[data] = _chosen(data, seed)
    return _CHOSEN[data]


def _chosen(data: Dataset, seed: int) -> Warp:
    if len(data) < FEWEST or not 0 < data.y.std() < np.inf:  # values whose squares overflow have no logarithm worth a try
        return Warp()
    some = replace(data, history=()) if data.history else data
    if len(data) > PROBE:
        some = some.take(np.sort(generator(seed, "warp").permutation(len(data))[:PROBE]))
    best = plain = _likelihood(Warp(), some, seed)
    found = Warp()
    for floor in FLOORS:
        warp = Warp.of(data.y, floor)
        likelihood = _likelihood(warp, some, seed)
        if not likelihood > best:
            break
        best, found = likelihood, warp
    if best - plain < GAIN:
        return Warp()
    log.info("judge: sees the logarithm above a floor of %g: %.2f nats a measurement better", found.floor, best - plain)
    return found


def _likelihood(warp: Warp, data: Dataset, seed: int) -> float:
    """Mean log probability of each measurement's own cell of values given all others."""
    model = GP(max_points=HYPER) if warp.floor is None else GP(max_points=HYPER, iterations=ITERATIONS)
    try:
        fitted = model.fit(warp.seen(data), seed=seed)
    except MethodError:
        return -np.inf
    mean, std = fitted.left_out()
    spread = np.sqrt(std**2 + fitted.noise.cpu().numpy() * fitted.scale**2)
    known, cell = np.unique(data.y, return_inverse=True)
    edges = np.concatenate([[-np.inf], warp((known[1:] + known[:-1]) / 2), [np.inf]])
    return float(_log_between((edges[cell] - mean) / spread, (edges[cell + 1] - mean) / spread).mean())


def _log_between(low: FloatArray, high: FloatArray) -> FloatArray:
    """Give the log probability that a standard normal lies between, in the tails too."""
    low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
    under = log_ndtr(high)
    return under + np.log1p(-np.exp(np.minimum(log_ndtr(low) - under, -1e-16)))  # type: ignore[no-any-return]
