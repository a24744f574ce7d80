"""What another campaign found, as a term of a kernel: the two-task Gaussian process, conditioned on the other task already.

With f' the other task's function and all of its data seen, f'(x) has the mean m(x) and covariance c(x, x'), both known. Then

    f = ρ f' + δ        ρ ~ N(0, v)        δ ~ GP(0, k + w k')

has the covariance v (m(x) m(x') + c(x, x')) + w k'(x, x') + k(x, x'): the linear model of two tasks (Kennedy and O'Hagan,
Biometrika 87, 2000; Bonilla et al., NeurIPS 2007), with the coefficient between the tasks integrated out. v and w are fitted, so
an unrelated task is turned down, ρ may be negative, and w lends no more than the shape of the other task's kernel k'. It costs
what a term of the kernel costs: the other task is fitted once, and its designs never enter the matrix that is factored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from labloop.proposing.dataset import Dataset
from labloop.surrogates._logs import Logs

if TYPE_CHECKING:
    from jaxtyping import Float

log = logging.getLogger("labloop")

GAIN = 1.0
"""What a campaign has to add to the log density of all designs that are left out, before it is used."""

KEPT = 3
"""Sets of designs whose places in the other task are kept between calls."""


class OtherTask(Protocol):
    """An exact fitted Gaussian process, standardised."""

    @property
    def root(self) -> Float[Tensor, "z z"]:
        """Cholesky factor of the covariance of its designs Z with the noise."""
        ...

    def mean_and_prior(self, x: Float[Tensor, "*b n d"]) -> tuple[Float[Tensor, "*b n"], Float[Tensor, "*b n z"]]:
        """Give the mean of designs x about the task's own constant, and their prior covariance with Z."""
        ...

    def prior_covariance(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], diag: bool
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        """Give k' of designs before any data."""
        ...


class TaskTerm(nn.Module):
    """The term of one other task."""

    def __init__(self, task: OtherTask) -> None:
        super().__init__()
        self._task = task
        self.share = Logs(1, centre=0.1, spread=2.0, start=0.3)
        """v"""
        self.shape = Logs(1, centre=0.1, spread=2.0, start=0.3)
        """w"""
        self._seen: list[tuple[Tensor, tuple[Tensor, Tensor]]] = []
        self._last: tuple[Tensor, Tensor, bool, tuple[Tensor, Tensor]] | None = None

    def forward(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], diag: bool
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        """Give the term, or its diagonal."""
        last = self._last
        if last is not None and last[0] is x1 and last[1] is x2 and last[2] == diag:
            told, prior = last[3]
        else:
            told, prior = self._parts(x1, x2, diag)
            if x1 is x2 and not x1.requires_grad:
                self._last = x1, x2, diag, (told, prior)
        return self.share() * told + self.shape() * prior

    def _parts(self, x1: Tensor, x2: Tensor, diag: bool) -> tuple[Tensor, Tensor]:
        """Give m m' + c and k'."""
        m1, V1 = self.place(x1)
        m2, V2 = (m1, V1) if x2 is x1 else self.place(x2)
        prior = self._task.prior_covariance(x1, x2, diag)
        if diag:
            return m1 * m2 + prior - (V1 * V2).sum(-2), prior
        return m1[..., :, None] * m2[..., None, :] + prior - V1.mT @ V2, prior

    def place(self, x: Float[Tensor, "*b n d"]) -> tuple[Float[Tensor, "*b n"], Float[Tensor, "*b z n"]]:
        """Give m of designs x, and what its data took of their covariance, as a root."""
        for known, found in self._seen:
            if known is x:
                return found
        mean, k = self._task.mean_and_prior(x)
        found = mean, torch.linalg.solve_triangular(self._task.root, k.mT, upper=False)
        if not x.requires_grad:
            self._seen = [(x, found), *self._seen][:KEPT]
        return found


@dataclass(frozen=True, kw_only=True)
class TaskEvidence:
    """How far another campaign predicts what is measured here."""

    label: str
    designs: int
    """Measured there."""
    correlation: float
    """Rank correlation of what it alone predicts with what was measured here; NaN where nothing varies."""
    gain: float
    """What it adds to the log density of all designs measured here, each left out once."""
    used: bool

    def notes(self) -> dict[str, Any]:
        """Tell it in plain values."""
        return asdict(self)


class Fitted(Protocol):
    """What `helped` chooses among: fitted Gaussian processes, for which `dataclasses.replace` works."""

    def density(self) -> float:
        """Tell the mean log density of each design given all others."""
        ...


F = TypeVar("F", bound=Fitted)


def helped(alone: F, data: Dataset, fit: Callable[[Sequence[TaskTerm]], F], task: Callable[[Dataset], TaskTerm]) -> F:
    """Fit with other campaigns where held-out designs say so: none, the best one, or all that help by themselves, together.

    Args:
        alone: the fit without any.
        fit: fits to `data` with some terms.
        task: makes the term of a campaign; a fit moves its shares, so that each has its own.
    """
    n = len(data)
    base = n * alone.density()
    singles = [fit([task(one)]) for one in data.history]
    gains = [n * one.density() - base for one in singles]
    helping = [i for i, gain in enumerate(gains) if gain > GAIN]
    best, used = alone, list[int]()
    if helping:
        first = max(helping, key=lambda i: gains[i])
        best, used = singles[first], [first]
        if len(helping) > 1:
            together = fit([task(data.history[i]) for i in helping])
            if n * together.density() - base > gains[first]:
                best, used = together, helping
    found = tuple(
        TaskEvidence(label=one.label, designs=len(one), correlation=agreement(task(one), data), gain=gains[i], used=i in used)
        for i, one in enumerate(data.history)
    )
    for one in found:
        log.info(
            "gp: history %s (%d designs): rank correlation %.2f with the %d measured here, log density %+.1f: %s",
            one.label, one.designs, one.correlation, n, one.gain, "used" if one.used else "not used",
        )  # fmt: skip
    return replace(best, history=found)  # type: ignore[type-var]


def agreement(term: TaskTerm, data: Dataset) -> float:
    """Give the rank correlation of what a campaign alone predicts with what is measured here, which it has never seen.

    NaN where one of them does not vary.
    """
    with torch.no_grad():
        told = term.place(torch.tensor(data.X, dtype=torch.float64, device=term.share.log.device))[0].cpu().numpy()
    return float(spearmanr(told, data.y).statistic) if np.ptp(told) and np.ptp(data.y) else float("nan")
