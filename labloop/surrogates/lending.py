"""What other campaigns let expect here, for models that know one task only.

The Gaussian process tells by held-out evidence which campaigns help, and by what factor ρ each counts (`_related.py`). Other
models learn what is left: y - Σ ρ m(x), with m the mean that a campaign alone predicts. Generators, which need designs and not a
function, learn from the campaigns' own designs as well, each at the value that it is believed to have here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from labloop.proposing.dataset import Dataset
from labloop.proposing.history import ENOUGH
from labloop.surrogates._members import Believes, Fit, Member
from labloop.surrogates.gp import GP, FittedGP
from labloop.types import Array, FloatArray

MOST = 500
"""Measured designs to whose evidence the campaigns' factors are fitted at most."""
LENT = 1_000
"""Designs of other campaigns that a generator learns from at most: half of these the best, the rest drawn evenly."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Lending:
    """The part of y that other campaigns account for."""

    fitted: FittedGP
    data: Dataset

    @classmethod
    def of(cls, data: Dataset) -> Lending | None:
        """Fit; None where there is no other campaign, or too little measured here to tell."""
        if not data.history or len(data) < ENOUGH:
            return None
        some = data if len(data) <= MOST else data.take(np.linspace(0, len(data) - 1, MOST).astype(np.int64))
        fitted = GP().fit(some, seed=0)
        return cls(fitted=fitted, data=data) if fitted.history else None

    @property
    def helps(self) -> bool:
        """Whether any campaign does."""
        return any(one.used for one in self.fitted.history)

    def __call__(self, X: FloatArray) -> FloatArray:
        """Give what other campaigns account for in designs X (m, d), in y about its mean, (m,)."""
        return self._means(X).T @ self._factors[0] * self.fitted.scale

    def residual(self) -> Dataset:
        """Give the dataset of what is left to learn here."""
        return replace(self.data, y=self.data.y - self(self.data.X), history=())

    def member(self, fit: Fit, seed: int) -> Member:
        """Fit a model of what is left, and give it back what the other campaigns account for."""
        own = fit(self.residual(), seed)

        def belief(X: FloatArray, /) -> tuple[FloatArray, FloatArray]:
            mean, std = own.belief(X)
            return mean + self(X), std

        held: Believes = belief
        return replace(own, belief=held, mean=own.mean + self._left_out())

    def _left_out(self) -> FloatArray:
        """Give what campaigns account for in each measured design, with factors that its own reading had no part in, (n,)."""
        out = self(self.data.X)
        place = {one.tobytes(): i for i, one in enumerate(self.fitted.Z.cpu().numpy())}
        rows = [place.get(one.tobytes(), -1) for one in self.data.X]
        known = np.flatnonzero(np.array(rows) >= 0)
        own = (self._means(self.data.X[known]) * self._factors[1][:, np.array(rows)[known]]).sum(0)
        out[known] = own * self.fitted.scale
        return out

    def _means(self, X: FloatArray) -> FloatArray:
        """Give what each campaign alone predicts of designs X (m, d), standardised, (k, m)."""
        with torch.no_grad():
            return np.stack([one.place(self.fitted.tensor(X))[0].cpu().numpy() for one in self.fitted.prior.kernel.tasks])

    @cached_property
    def _factors(self) -> tuple[FloatArray, FloatArray]:
        """Give each campaign's factor, (k,), and what it is without each of the fitted designs, (k, n)."""
        fitted = self.fitted
        with torch.no_grad():
            precision = torch.cholesky_inverse(fitted.root)
            means: Tensor = torch.stack([one.place(fitted.Z)[0] for one in fitted.prior.kernel.tasks])
            shares = torch.cat([one.share() for one in fitted.prior.kernel.tasks])
            factor = shares * (means @ fitted.weights)
            without = factor[:, None] - shares[:, None] * (means @ precision) * fitted.weights / precision.diagonal()
        return factor.cpu().numpy(), without.cpu().numpy()

    def lent(self) -> Dataset:
        """Give the dataset with the used campaigns' designs as well, each at the value that it is believed to have here."""
        data = self.data
        used = {one.label for one in self.fitted.history if one.used}
        told = {one: X for source in data.history if source.label in used for one, X in zip(source.ids, source.X, strict=True)}
        ids = [one for one in told if one not in data.taken]
        if not ids:
            return replace(data, history=())
        X = np.stack([told[one] for one in ids])
        y = self.fitted.belief(X)[0]
        rows = _some(y)
        every = np.array([*data.ids, *(ids[i] for i in rows.tolist())])
        order = np.argsort(every, kind="stable")

        def joined(mine: Array, theirs: Array) -> Array:
            return np.concatenate([mine, theirs])[order]

        n = len(rows)
        return replace(
            data, X=joined(data.X, X[rows]), y=joined(data.y, y[rows]), sem=np.full(len(every), np.nan),
            censored=joined(data.censored, np.zeros(n, dtype=np.int64)),
            n_replicates=joined(data.n_replicates, np.ones(n, dtype=np.int64)), ids=tuple(every[order].tolist()), history=(),
            borrowed=frozenset(ids[i] for i in rows.tolist()),
        )  # fmt: skip


def _some(y: FloatArray) -> Array:
    """Take rows of y (n,), `LENT` at most: half of these the best, the others drawn evenly over the rest."""
    order = np.argsort(-y, kind="stable")
    if len(order) <= LENT:
        return order
    rest = order[LENT // 2 :]
    return np.concatenate([order[: LENT // 2], rest[np.linspace(0, len(rest) - 1, LENT // 2).astype(np.int64)]])
