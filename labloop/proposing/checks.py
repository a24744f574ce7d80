"""What a round's and a campaign's files name is made once before anything is stored or trained, so that mistakes show then."""

from __future__ import annotations

from typing import Any

import numpy as np

from labloop.config.campaign import CampaignConfig
from labloop.config.ramp import ramped
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, MethodError
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Picks, Pool
from labloop.proposing.protocols import Posterior
from labloop.registry import PROTOCOLS, Kind, Options, create, load
from labloop.types import Values

ROUNDING = 1e-9
"""A std is below 0 by rounding alone where it is by less than this share of the largest mean."""


def check_plugins(config: RoundConfig, *, number: int, rounds: int) -> None:
    """Make every plug-in of a round's configuration once, so that a mistake shows before anything is stored or trained.

    Raises:
        ConfigError: a plug-in or one of its options is unknown, or a selector goes by a judge that the round does not have.
    """
    named: list[tuple[Kind, str, Options]] = [("surrogates", name, options) for name, options in (config.judge or {}).items()]
    for arm in config.arms.values():
        named += [("proposers", name, options) for name, options in arm.proposers.items()]
        named += [("selectors", name, options) for name, options in arm.selector.items()]
    for kind, name, options in named:
        create(kind, name, ramped(options, round_number=number, rounds=rounds))
    check_judge(config)


def check_exporters(config: CampaignConfig) -> None:
    """Make every exporter of a campaign's plate once, so that a mistake shows before anything is stored.

    Raises:
        ConfigError: an exporter or one of its options is unknown.
    """
    for name, options in config.plate.exports.items():
        create("exporters", name, options)


def unjudged(config: RoundConfig) -> list[tuple[tuple[str, ...], str]]:
    """Tell which arms' selectors go by a judge where the round has none: the place in its file, and what to do."""
    if config.judge is not None:
        return []
    return [
        (
            ("arms", name, "selector"),
            f"{selector} chooses by what a judge says, and this round has none (judge: null): name one, such as judge: auto, "
            "or let the arm take designs as_proposed",
        )
        for name, arm in config.arms.items()
        for selector in arm.selector
        if getattr(load("selectors", selector), "by_judge", False)
    ]


def check_judge(config: RoundConfig) -> None:
    """See that the round has a judge where an arm's selector goes by one.

    Raises:
        ConfigError: it has none.
    """
    for place, told in unjudged(config):
        raise ConfigError(f"{'.'.join(place)}: {told}")


def pool_of(proposer: str, told: object) -> Pool:
    """Take what a proposer offered.

    Raises:
        MethodError: it is no pool.
    """
    if not isinstance(told, Pool):
        raise MethodError(f"{proposer} offered {_kind(told)}, not a Pool: {_breaks('proposers')}")
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


def check_room(data: Dataset, wells: int) -> None:
    """See that the space has so many designs left.

    Raises:
        MethodError: it has fewer.
    """
    if data.room < wells:
        raise MethodError(
            f"{wells} wells but only {int(data.room)} designs of this space are neither measured nor pending: "
            "use a smaller plate, or widen the space"
        )
