"""A random forest and its best designs: what most labs with a laptop would try first."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from sklearn.ensemble import RandomForestRegressor

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.odd import unit_of
from labloop.proposing.pool import Pool
from labloop.proposing.protocols import ALL_KINDS
from labloop.proposing.search import search
from labloop.registry import plugin
from labloop.seeds import derive, normal_seed
from labloop.surrogates.features import described
from labloop.surrogates.sees import sees
from labloop.types import Array, FloatArray


@plugin
class Forest:
    """The n best designs by the mean of a random forest (Breiman, Machine Learning 45, 2001)."""

    family: ClassVar[str] = "baseline"
    source: ClassVar[str] = "Breiman, Machine Learning 2001"
    cost: ClassVar[str] = "one forest"

    trees: Annotated[int, Field(ge=1)] = 100
    """Trees of the forest."""
    max_features: Annotated[float, Field(gt=0, le=1)] = 1 / 3
    """Share of the columns that each split chooses from."""

    kinds: ClassVar[frozenset[str]] = ALL_KINDS

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer the n designs of highest mean; symmetric twins are all learnt from and averaged over, ties are broken by chance.

        A censored reading counts as its bound.

        Raises:
            MethodError: fewer than n new designs exist, or nothing is measured yet.
        """
        if not len(data):
            raise MethodError("forest needs measured designs: start the campaign with some, or with `random`")
        model = RandomForestRegressor(
            n_estimators=self.trees, max_features=self.max_features, n_jobs=1, random_state=normal_seed(derive(seed, "forest"))
        )

        told = sees(data)

        def seen(X: FloatArray) -> Array:
            return np.concatenate([X, described(data.space, X, told)], axis=-1).astype(np.float32)

        twins, unit = data.space.orbit(data.X), unit_of(data.y - data.y.min())  # trees do not split variances below 2e-16
        model.fit(np.concatenate([seen(twin) for twin in twins]), np.tile(data.y / unit, len(twins)))

        def mean(X: FloatArray) -> FloatArray:
            return unit * np.mean([model.predict(seen(twin)) for twin in data.space.orbit(X)], axis=0)

        X, score = search(data, mean, n, seed=seed, label="score forest", spaced=True)
        return Pool.best(data, X, score, n, proposer="forest", notes={"trees": self.trees})
