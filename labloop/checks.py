"""What a campaign's and a round's files mean, before anything is stored or trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labloop.config import CampaignConfig, RoundConfig, load_config
from labloop.rounds import check_exporters, check_plugins
from labloop.seeds import generator


def check_configs(campaign: Path | str, round_config: Path | str | None = None) -> dict[str, Any]:
    """Load the files, make every plug-in and sample the space; returns what was understood, as plain values.

    Raises:
        ConfigError: a file, an option or the number of wells does not make sense.
        SpaceError: the constraints leave next to no design.
    """
    config = load_config(campaign, CampaignConfig)
    check_exporters(config)
    space = config.space
    examples = space.decode(space.sample(3, generator(config.seed, "examples")))
    understood: dict[str, Any] = {
        "campaign": config.name,
        "parameters": [parameter.model_dump(mode="json") for parameter in space.parameters],
        "size": len(space.listing()) if space.listable else space.size,
        "listable": space.listable,
        "examples": examples.to_dict("records"),
        "objective": config.objective.model_dump(mode="json"),
        "plate": {"wells": config.plate.wells, "for_designs": config.plate.capacity},
    }
    if round_config is not None:
        understood["arms"] = _check_round(load_config(round_config, RoundConfig), config)
    return understood


def _check_round(config: RoundConfig, campaign: CampaignConfig) -> list[dict[str, Any]]:
    wells = config.wells(campaign.plate.capacity * config.plates)
    check_plugins(config, number=1, rounds=campaign.rounds)
    return [
        {"arm": name, "wells": wells[name], "proposers": list(arm.proposers), "selector": next(iter(arm.selector))}
        for name, arm in config.arms.items()
    ]
