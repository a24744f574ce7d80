"""Ridge regression on all single sites and all pairs of sites, solved in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labloop.proposing.dataset import Dataset
from labloop.proposing.search import CHUNK
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.types import Array, Designs, FloatArray, Values

LARGEST = 4_096
"""Largest system of equations that is solved; a larger data set with more features than this is thinned out at random."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Quadratic:
    """f(x) = constant + linear · z + z' B z / 2 with z the columns of X, numbers moved to -1 … 1. Call it for y (m,)."""

    space: DesignSpace
    constant: float
    linear: FloatArray
    """(d,)"""
    B: FloatArray
    """(d, d), symmetric, zero within a one-hot site."""
    strength: float
    """The ridge penalty."""
    rows: int
    features: int

    def __call__(self, X: FloatArray) -> FloatArray:
        # The quadratic form needs no pair features, and float32 products are exact enough to rank by.
        z = _columns(self.space, X).astype(np.float32)
        pairs = np.einsum("nd,nd->n", z @ self.B.astype(np.float32), z, dtype=np.float64)
        return self.constant + z @ self.linear + pairs / 2


def fit(data: Dataset, *, seed: int) -> Quadratic:
    """Fit by ridge, through whichever system of equations is smaller: features by features, or designs by designs.

    Features are averaged over symmetric twins, so that twins have one prediction. A censored reading counts as its bound.
    """
    space = data.space
    features = _Pairs(space)
    if features.count < len(data) and features.count <= LARGEST:
        return _by_features(data, features)
    return _by_designs(data, features, np.sort(generator(seed, "rows").permutation(len(data))[:LARGEST]))


class _Pairs:
    """Which products of columns are features: pairs from two sites, and squares and pairs of numbers and fractions."""

    def __init__(self, space: DesignSpace) -> None:
        self.space = space
        self.onehot = np.zeros(space.d, dtype=bool)
        site = np.arange(space.d)
        for block in space.blocks:
            if block.kind == "onehot":
                self.onehot[block.start : block.stop] = True
                site[block.start : block.stop] = (
                    block.start + np.arange(block.stop - block.start) // block.classes * block.classes
                )
        allowed = (site[:, None] != site) | (np.eye(space.d, dtype=bool) & ~self.onehot)
        self.i, self.j = np.nonzero(np.triu(allowed))
        self.count = space.d + len(self.i)

    def of(self, X: FloatArray) -> FloatArray:
        """Features (m, d + pairs) of X (m, d), averaged over twins."""
        twins = self.space.orbit(X)
        total = np.zeros((len(X), self.count))
        for twin in twins:
            z = _columns(self.space, twin)
            total += np.concatenate([z, z[:, self.i] * z[:, self.j]], axis=1)
        return total / len(twins)

    def kernel(self, A: FloatArray, B: FloatArray) -> FloatArray:
        """Inner products of the features of A (m, d) and B (n, d), (m, n), without making the features.

        The square of <a, b> holds every pair of different columns twice and every square once; products within a one-hot site are
        taken out (there they are <a, b> again), squares of numbers are completed.
        """
        a, b = _columns(self.space, A), _columns(self.space, B)
        hot, number = self.onehot, ~self.onehot
        inner = a @ b.T
        return inner + (inner**2 - a[:, hot] @ b[:, hot].T + a[:, number] ** 2 @ (b[:, number] ** 2).T) / 2

    def form(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Turn feature weights (d + pairs,) into the linear part (d,) and B (d, d)."""
        d = self.space.d
        B = np.zeros((d, d))
        B[self.i, self.j] += weights[d:]
        return weights[:d], B + B.T


def _by_features(data: Dataset, features: _Pairs) -> Quadratic:
    n, p = len(data), features.count
    mean = np.zeros(p)
    gram, cross = np.zeros((p, p)), np.zeros(p)
    y = data.y - data.y.mean()
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        F = features.of(data.X[rows])
        mean += F.sum(0) / n
        gram += F.T @ F
        cross += F.T @ y[rows]
    gram -= n * np.outer(mean, mean)  # y sums to zero, so `cross` needs no centring
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0)
    along = vectors.T @ cross
    strengths = _strengths(values)
    shrink = values[:, None] / (values[:, None] + strengths)
    explained = np.where(values > values[-1] * 1e-12, along**2 / np.maximum(values, 1e-300), 0)
    errors = (y @ y - explained.sum()) + ((1 - shrink) ** 2 * explained[:, None]).sum(0)
    best = strengths[_gcv(errors, shrink.sum(0), n)]
    weights = vectors @ (along / (values + best))
    linear, B = features.form(weights)
    constant = float(data.y.mean() - mean @ weights)
    return Quadratic(space=data.space, constant=constant, linear=linear, B=B, strength=float(best), rows=n, features=p)


def _by_designs(data: Dataset, features: _Pairs, rows: Array) -> Quadratic:
    X, n = data.X[rows], len(rows)
    y = data.y[rows] - data.y[rows].mean()
    twins = data.space.orbit(X)
    kernel = np.mean([features.kernel(twin, X) for twin in twins], axis=0)  # twins permute columns: one side's average will do
    column = kernel.mean(0)
    values, vectors = np.linalg.eigh(kernel - column - column[:, None] + column.mean())
    values = np.maximum(values, 0)
    along = vectors.T @ y
    strengths = _strengths(values)
    shrink = values[:, None] / (values[:, None] + strengths)
    best = strengths[_gcv(((1 - shrink) ** 2 * along[:, None] ** 2).sum(0), shrink.sum(0), n)]
    share = vectors @ (along / (values + best))
    share -= share.mean()  # the centring of the features, moved to the weights of the designs
    linear, B = np.zeros(data.space.d), np.zeros((data.space.d, data.space.d))
    for twin in twins:
        z = _columns(data.space, twin)
        linear += share @ z / len(twins)
        B += (z * share[:, None]).T @ z / len(twins)
    allowed = np.zeros_like(B)
    allowed[features.i, features.j] = 1
    B = B * (allowed + allowed.T)
    constant = float(data.y[rows].mean() - column @ share)
    return Quadratic(
        space=data.space, constant=constant, linear=linear, B=B, strength=float(best), rows=n, features=features.count
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Ridge:
    """The ridge of as many designs as a matrix can hold, as a belief: the Gaussian process that it is the mean of.

    With penalty λ, weights have the prior variance σ²/λ and readings the noise variance σ², which is the mean squared error of
    leaving out.
    """

    features: _Pairs
    X: FloatArray
    """(n, d)"""
    location: float
    column: FloatArray
    """Mean inner product of each design with all, (n,)."""
    vectors: FloatArray
    inverse: FloatArray
    """Eigenvectors (n, n) of the centred inner products, and 1 / (eigenvalue + λ), (n,)."""
    share: FloatArray
    """Weights of the designs, (n,)."""
    strength: float
    noise_std: float
    left_out: tuple[FloatArray, FloatArray]
    """What is believed of each design without its own reading: mean (n,) and std (n,) in y."""

    @classmethod
    def fit(cls, data: Dataset) -> Ridge:
        """Fit to all designs, the penalty by generalised cross-validation; a censored reading counts as its bound."""
        features = _Pairs(data.space)
        kernel = _twinned(data.space, features, data.X, data.X)
        column = kernel.mean(0)
        values, vectors = np.linalg.eigh(kernel - column - column[:, None] + column.mean())
        values = np.maximum(values, 0)
        n, y = len(data), data.y - data.y.mean()
        along = vectors.T @ y
        strengths = _strengths(values)
        shrink = values[:, None] / (values[:, None] + strengths)
        best = float(strengths[_gcv(((1 - shrink) ** 2 * along[:, None] ** 2).sum(0), shrink.sum(0), n)])
        inverse = 1 / (values + best)
        share = vectors @ (along * inverse)
        leverage = np.clip(1 / n + (vectors**2) @ (values * inverse), 0, 1 - 1e-6)
        error = (y - vectors @ (along * values * inverse)) / (1 - leverage)  # leaving out, Allen's PRESS
        noise = float(np.sqrt((error**2).mean())) or 1e-12
        doubt = noise * np.sqrt(leverage / (1 - leverage))  # of the value, as leaving out sees it
        return cls(
            features=features, X=data.X, location=float(data.y.mean()), column=column, vectors=vectors, inverse=inverse,
            share=share - share.mean(), strength=best, noise_std=noise, left_out=(data.y - error, doubt),
        )  # fmt: skip

    def belief(self, X: Designs) -> tuple[Values, Values]:
        """Tell what each design X (m, d) is worth without noise: mean (m,) and std (m,) of y."""
        mean, std = np.zeros(len(X)), np.zeros(len(X))
        for start in range(0, len(X), 4_096):
            part = slice(start, start + 4_096)
            inner = _twinned(self.features.space, self.features, X[part], self.X)
            mean[part] = self.location + (inner - self.column) @ self.share
            centred = inner - inner.mean(1, keepdims=True) - self.column + self.column.mean()
            own = self._norms(X[part]) - 2 * inner.mean(1) + self.column.mean()
            left = own - ((centred @ self.vectors) ** 2 @ self.inverse)
            std[part] = self.noise_std * np.sqrt(np.maximum(left, 0) / self.strength + 1 / len(self.X))
        return mean, std

    def _norms(self, X: FloatArray) -> FloatArray:
        """Squared length of each design's features, averaged over twins, (m,)."""
        total = np.zeros(len(X))
        twins = self.features.space.orbit(X)
        a = _columns(self.features.space, X)
        hot, number = self.features.onehot, ~self.features.onehot
        for twin in twins:
            b = _columns(self.features.space, twin)
            inner = (a * b).sum(1)
            total += inner + (inner**2 - (a * b)[:, hot].sum(1) + (a**2 * b**2)[:, number].sum(1)) / 2
        return total / len(twins)


def _twinned(space: DesignSpace, features: _Pairs, A: FloatArray, B: FloatArray) -> FloatArray:
    """Inner products of features averaged over twins, (m, n); twins permute columns, so one side's average will do."""
    found: FloatArray = np.mean([features.kernel(twin, B) for twin in space.orbit(A)], axis=0)
    return found


def _strengths(values: FloatArray) -> FloatArray:
    """Penalties to choose from: from a millionth of the largest eigenvalue to ten times it."""
    return np.geomspace(1e-6, 10, 57) * max(float(values[-1]), 1e-12)


def _gcv(errors: FloatArray, freedom: FloatArray, n: int) -> int:
    """Index of the least generalised cross-validation score (Golub, Heath and Wahba, Technometrics 21, 1979)."""
    left = n - 1 - freedom  # one more is spent on the mean
    return int(np.argmin(np.where(left > 1e-6 * n, errors / np.maximum(left, 1e-12) ** 2, np.inf)))


def _columns(space: DesignSpace, X: FloatArray) -> FloatArray:
    unit = np.zeros(space.d, dtype=bool)
    for block in space.blocks:
        unit[block.start : block.stop] = block.kind == "unit"
    return np.where(unit, 2 * X - 1, X)
