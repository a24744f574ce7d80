"""What plug-ins give is taken as their protocols say, or refused with the plug-in's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from labloop.errors import MethodError
from labloop.proposing.pool import Picks, Pool, scored
from labloop.proposing.protocols import Posterior
from labloop.registry import PROTOCOLS, Kind
from labloop.types import Values

ROUNDING = 1e-9
"""A std is below 0 by rounding alone where it is by less than this share of the largest mean."""


@contextmanager
def asking(name: str, kind: Kind) -> Iterator[None]:
    """Run code of a plug-in: where it writes into what it was given, or would end the program, that is told as its own fault.

    Raises:
        MethodError: it does either.
    """
    try:
        yield
    except SystemExit as error:
        raise MethodError(f"{name} would have ended labloop (exit status {error.code}): {_breaks(kind)}") from error
    except ValueError as error:
        if not str(error).endswith(("array is read-only", "destination is read-only")):  # NumPy's, not a file's or a store's
            raise
        raise MethodError(
            f"{name} writes into an array that is read-only, such as the dataset's, which others learn from, and must copy it "
            f"first: {_breaks(kind)}"
        ) from error


def pool_of(proposer: str, told: object) -> Pool:
    """Take what a proposer offered.

    Raises:
        MethodError: it is no pool, or lacks a finite score of a design.
    """
    if not isinstance(told, Pool):
        raise MethodError(f"{proposer} offered {_kind(told)}, not a Pool: {_breaks('proposers')}")
    scored(proposer, told.score, len(told))
    return told


def picks_of(selector: str, told: object, n: int) -> Picks:
    """Take what a selector chose of n that were asked for.

    Raises:
        MethodError: they are no picks, or not n.
    """
    if not isinstance(told, Picks) or len(told) != n:
        chose = f"{len(told)} picks" if isinstance(told, Picks) else _kind(told)
        raise MethodError(f"{selector} was asked for {n} picks and gave {chose}: {_breaks('selectors')}")
    return told


def posterior_of(surrogate: str, told: object) -> Posterior:
    """Take what a surrogate fitted.

    Raises:
        MethodError: it cannot be asked.
    """
    if not callable(told):
        raise MethodError(f"surrogate {surrogate} fitted {_kind(told)}, which cannot be called: {_breaks('surrogates')}")
    return told


def prediction_of(surrogate: str, told: Any, n: int) -> tuple[Values, Values]:
    """Take what a surrogate says of n designs: mean (n,) and std (n,); columns (n, 1) and one std for all are taken as these.

    Raises:
        MethodError: it is not so many finite numbers, with stds of 0 or more.
    """
    try:
        mean, std = (np.asarray(part.detach().cpu() if hasattr(part, "detach") else part, dtype=float) for part in told)
    except (TypeError, ValueError, RuntimeError):
        mean = std = np.zeros((0, 0))
    mean, std = (part[:, 0] if part.shape == (n, 1) else part for part in (mean, std))
    std = np.full(n, float(std)) if std.ndim == 0 else std
    if mean.shape != (n,) or std.shape != (n,):
        raise MethodError(f"surrogate {surrogate} does not give {n} designs as many means and stds: {_breaks('surrogates')}")
    std = np.where((std < 0) & (std > -ROUNDING * np.abs(mean).max(initial=0)), 0.0, std)
    if lost := int((~(np.isfinite(mean) & np.isfinite(std) & (std >= 0))).sum()):
        raise MethodError(
            f"surrogate {surrogate} has no finite mean and std of 0 or more for {lost} of {n} designs: measured values, or its "
            "options, are beyond what it can compute with"
        )
    return mean, std


def _kind(told: object) -> str:
    return "nothing" if told is None else f"a {type(told).__name__}"


def _breaks(kind: Kind) -> str:
    suite = " (labloop.testing.ProposerContract)" if kind == "proposers" else f" ({PROTOCOLS[kind].replace(':', '.')})"
    return f"it breaks the {kind[:-1]}'s contract{suite}"
