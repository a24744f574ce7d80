"""A proposer of your own: a frozen dataclass with one verb, named in a round's YAML as `my_method:NearestBest`.

Allow its module outside of the file: `PYTHONPATH=examples labloop propose my_campaign my_round.yaml --plugins my_method`.
"""

import numpy as np

from labloop import Dataset, Pool
from labloop.registry import plugin
from labloop.seeds import generator


@plugin
class NearestBest:
    """Mutants of the best measured designs, scored by how close they are to them."""

    parents: int = 10
    """How many of the best measured designs to start from."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        rng = generator(seed, "nearest best")
        best = data.X[data.top(self.parents)]
        candidates = np.concatenate([data.space.mutate(best, rng, steps=steps) for steps in (1, 2, 3) for _ in range(n)])
        _, distance = data.space.nearest(candidates, best)
        return Pool.best(data, candidates, -distance, n, proposer="nearest_best")
