"""Gradient ascent on a forward model: one network, or five by their mean or their minimum.

Source: the baselines of Trabucco et al., "Design-Bench", ICML 2022, with the settings of their code (`design-baselines`): climb
f from the best measured designs, f a network fitted by maximum likelihood, or the mean or the minimum of bootstrapped ones.

Where this differs from that code, and why:

 1. The mean is the mean. In that code both branches call `reduce_min`, so its published "Grad Mean" is a second "Grad Min".
 2. Squared error in place of a Gaussian likelihood with a learned spread: the ascent uses the mean only. One network sees all
    data once where theirs sees one bootstrap.
 3. `search`: where the space can be listed every design is scored. `search="ascent"` is the published way; the pool then holds
    each start's best visited new design first, and what lacks to n is found by evolutionary search on f.
 4. Adam steps in the box that designs span (`projected`), as later papers' code has it (without the box); `paper()` takes plain
    steps of 0.01·√r without bounds.
 5. Smaller networks, at most 3,000 steps. Letters are log odds, not z-scored again; numbers are z-scored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import PositiveInt
from torch import Tensor

from labloop.methods import _offer
from labloop.methods._forward import ForwardModel, Proxy, View, ascend, bootstrap, fit, visited
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.seeds import derive
from labloop.types import FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float


@plugin
class GradientAscent(ForwardModel):
    """Gradient ascent on one network from the best measured designs."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Trabucco et al., Design-Bench, ICML 2022"
    cost: ClassVar[str] = "one network"
    name: ClassVar[str] = "gradient"

    members: PositiveInt = 1
    """Networks, each trained from another start; their mean and spread are used."""
    ensemble: Literal["mean", "min"] = "mean"
    """What of the members is climbed."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published settings of TF Bind 8; minutes to hours on a CPU."""
        settings: dict[str, Any] = {
            "hidden": (2048, 2048), "slope": 0.3, "epochs": 100, "min_steps": 0, "max_steps": None, "batch_size": 128, "lr": 3e-4,
            "search": "ascent", "optimiser": "plain", "particle_steps": 200, "particle_lr": 0.01, "projected": False,
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, then offer the n new designs of highest prediction that the search finds; scores are in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        view = View.of(data, self.relaxation, proposer=self.name)
        counts = bootstrap(view, self.members, derive(seed, self.name, "bags"))
        proxy = fit(view, self, seed=seed, proposer=self.name, members=self.members, counts=counts)
        return offer(proxy, self, n, seed=seed, proposer=self.name, ensemble=self.ensemble)


@plugin
class GradientMean(GradientAscent):
    """Gradient ascent on the mean of five bootstrapped networks."""

    name: ClassVar[str] = "gradient_mean"
    cost: ClassVar[str] = "five networks"
    members: PositiveInt = 5
    """Networks, each trained from another start; their mean and spread are used."""


@plugin
class GradientMin(GradientAscent):
    """Gradient ascent on the least prediction of five bootstrapped networks."""

    name: ClassVar[str] = "gradient_min"
    cost: ClassVar[str] = "five networks"
    members: PositiveInt = 5
    """Networks, each trained from another start; their mean and spread are used."""
    ensemble: Literal["mean", "min"] = "min"


def combined(f: Float[Tensor, "E b"], how: Literal["mean", "min"]) -> Float[Tensor, " b"]:
    """One value a design of the members'."""
    return f.mean(0) if how == "mean" else f.amin(0)


def offer(
    proxy: Proxy, options: ForwardModel, n: int, *, seed: int, proposer: str, ensemble: Literal["mean", "min"] = "mean"
) -> Pool:  # fmt: skip
    """Search on a trained proxy as the options say, and offer n new designs."""
    data, view = proxy.view.data, proxy.view

    def score(X: FloatArray) -> FloatArray:
        each = proxy.each(X)
        return each.mean(0) if ensemble == "mean" else each.min(0)  # type: ignore[no-any-return]

    if _offer.listed(data, options.search, proposer):
        return _offer.everything(data, score, n, proposer=proposer, notes=proxy.notes)
    steps = ascend(lambda z: combined(proxy(z), ensemble), view.starts(n), view, options)
    path = visited(view, steps, options.particle_steps)
    return _offer.paths(data, path, score, n, seed=derive(seed, proposer), proposer=proposer, notes=proxy.notes)
