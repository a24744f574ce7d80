"""CMA-ES on an ensemble of proxies, from each of the best measured designs (Hansen, arXiv 1604.00772; run as a baseline by
Trabucco et al., "Design-Bench", ICML 2022). The evolution strategy is the library `cma`: pip install 'labloop-toolkit[cma]'.

Where this differs from Design-Bench's code, and why:

 1. The ensemble is fitted by squared error; see `labloop.methods._proxy`.
 2. Points are judged where the box that designs span cuts them, and all runs' points at once.
 3. At most `runs` runs; each run's best design of an iteration is kept, and the pool has each run's best first. Theirs has one
    design a run.
 4. Letters are relaxed as K columns a position, none of which stands apart.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt

from labloop.errors import MethodError
from labloop.methods import _offer
from labloop.methods._forward import kept
from labloop.methods._proxy import PAPER, ProxyModel, ensembled
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive, generator
from labloop.surrogates.training import without_denormals


@plugin
class CMAES(ProxyModel):
    """Covariance matrix adaptation on the mean of an ensemble, one run from each of the best measured designs."""

    family: ClassVar[str] = "search on a proxy"
    source: ClassVar[str] = "Hansen, arXiv 1604.00772"
    cost: ClassVar[str] = "five networks, and up to 64 evolution strategies"
    name: ClassVar[str] = "cma_es"

    runs: PositiveInt = 64
    """Evolution strategies, each from another good design, at most."""
    iterations: PositiveInt = 50
    """Generations of each."""
    sigma: PositiveFloat = 0.5
    """Standard deviation of the first step, in relaxed units."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The settings of Design-Bench's code."""
        return cls(**{**PAPER, "runs": 128, "iterations": 100, "sigma": 0.5, **changes})

    def __post_init__(self) -> None:
        if find_spec("cma") is None:
            raise MethodError("cma_es needs the package 'cma': pip install 'labloop-toolkit[cma]'")

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, evolve, and offer each run's best designs; scores are the ensemble's mean, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its plots, which nobody asks for
            import cma
        model = ensembled(data, self, seed=seed, proposer=self.name)
        view, rng = model.view, generator(seed, self.name)
        starts = view.starts(min(n, self.runs)).double().cpu().numpy()
        # `cma` would seed NumPy's global generator: with no seed and draws of ours it does not touch it.
        common = {"seed": np.nan, "randn": lambda *shape: rng.standard_normal(shape), "verbose": -9, "maxiter": self.iterations}
        runs = [cma.CMAEvolutionStrategy(start, self.sigma, common) for start in starts]
        keep, path = kept(self.iterations), []
        with torch.no_grad(), without_denormals():
            for step in track(self.iterations, "cma_es: evolving"):
                asked = [run.ask() for run in runs]
                z = view.box(torch.tensor(np.concatenate(asked), dtype=torch.float32, device=view.device))
                f = model.proxy(z).mean(0).double().cpu().numpy().reshape(len(runs), -1)
                for run, points, values in zip(runs, asked, f, strict=True):
                    run.tell(points, (-values).tolist())
                if step in keep:
                    z = z.reshape(len(runs), -1, z.shape[1]).cpu()
                    path.append(z[torch.arange(len(runs)), torch.as_tensor(f.argmax(1))])
        return _offer.paths(
            data,
            view.designs(torch.stack(path)),
            model.score,
            n,
            seed=derive(seed, self.name),
            proposer=self.name,
            notes={**model.proxy.notes, "runs": len(runs)},
        )
