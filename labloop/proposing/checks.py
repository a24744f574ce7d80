"""What a round and a campaign ask for is looked at before anything is stored or trained, so that mistakes show then."""

from __future__ import annotations

from labloop.config.campaign import CampaignConfig
from labloop.config.ramp import ramped
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, MethodError
from labloop.proposing.dataset import Dataset
from labloop.registry import Kind, Options, create, load


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
