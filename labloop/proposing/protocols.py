"""The seams of labloop. Anything with these verbs plugs in through an entry point, or by its import path.
A module that is named by import path must be allowed outside of the file that names it, see `labloop.runtime.allowance`.

Plug-ins are frozen dataclasses made with `labloop.registry.plugin`: options are fields, state they have none.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Picks, Pool
from labloop.types import Designs, Values

ALL_KINDS = frozenset({"sequence", "real", "integer", "choice", "mixture"})
"""Every parameter type; a proposer that cannot handle all of them declares `kinds` as a subset."""


@runtime_checkable
class Proposer(Protocol):
    """Trains on the data and offers candidates.

    One that learns from `data.history` by itself, as a task of its own, declares `several_tasks = True`. All others are given
    data without it, in which designs of helpful campaigns stand as if they were measured here (`data.borrowed`).
    """

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer exactly n valid, distinct designs that are neither measured nor pending, best first.

        Equal seeds give equal pools; no global random generator is touched.

        Raises:
            MethodError: the space is of a kind it cannot handle, or fewer than n new designs exist.
        """
        ...


@runtime_checkable
class Posterior(Protocol):
    """A fitted belief about y."""

    def __call__(self, X: Designs) -> tuple[Values, Values]:
        """Predict a reading of each design X (m, d): mean (m,) and std (m,) of y, larger is better."""
        ...


@runtime_checkable
class Belief(Posterior, Protocol):
    """A posterior that tells a design's own value from the noise of a reading; `believing` makes one of any."""

    @property
    def noise_std(self) -> float:
        """Standard deviation of one reading about its design's value, in y."""
        ...

    def belief(self, X: Designs) -> tuple[Values, Values]:
        """Tell what each design X (m, d) is worth without noise: mean (m,) and std (m,) of y."""
        ...


@runtime_checkable
class Surrogate(Protocol):
    """Learns a belief about y; the one that judges a round never proposes in it."""

    def fit(self, data: Dataset, *, seed: int) -> Posterior:
        """Fit to all measurements. The posterior is a `Belief` where it can tell noise, and may have `notes` of plain values."""
        ...


@runtime_checkable
class Selector(Protocol):
    """Chooses an arm's wells from its pool.

    One that cannot without a judge says so by `by_judge: ClassVar[bool] = True`; a round that has none is then refused.
    """

    def select(self, pool: Pool, posterior: Posterior, data: Dataset, n: int, *, seed: int) -> Picks:
        """Choose exactly n of the pool, best first, with the judge's reasons.

        Raises:
            MethodError: fewer than n candidates may be chosen.
        """
        ...
