"""What a campaign's and a round's files mean, before anything is stored or trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from labloop.campaign.start import start_file
from labloop.config.campaign import CampaignConfig
from labloop.config.limits import shown
from labloop.config.ramp import ramped
from labloop.config.read import load_config
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, LabloopError, MethodError, SpaceError
from labloop.proposing.checks import check_judge, check_room, unjudged
from labloop.proposing.dataset import Dataset
from labloop.proposing.terms import Terms, cheapest
from labloop.registry import create
from labloop.rounds import exports, related
from labloop.runtime.yamlfile import at_hand, read_yaml
from labloop.seeds import derive, generator
from labloop.space.parameters import Choice, Sequence
from labloop.space.vectors import summary


def check_configs(campaign: Path | str, round_config: Path | str | None = None) -> dict[str, Any]:
    """Load the files, make every plug-in and sample the space; returns what was understood, as plain values.

    Nothing is imported but plug-ins that are registered, or of modules that the user has allowed.

    Raises:
        ConfigError: a file, an option or the number of wells does not make sense; with the file and its line.
        SpaceError: the constraints leave next to no design.
    """
    config = load_config(campaign, CampaignConfig)
    _make(campaign, config, rounds=config.rounds)
    space = config.space
    try:
        examples = space.decode(space.sample(3, generator(config.seed, "examples")))
    except SpaceError as error:
        raise SpaceError(f"{campaign}: space.constraints: {error}") from error
    examples = examples.join(space.names(examples))  # mutants by their names too
    understood: dict[str, Any] = {
        "campaign": config.name,
        "parameters": [summary(parameter.model_dump(mode="json")) for parameter in space.parameters],
        "size": len(space.listing()) if space.listable else space.size,
        "listable": space.listable,
        "continuous": list(space.continuous),
        "extent": f"{len(space.listing()):,} designs" if space.listable and space.library is None else space.extent,
        "examples": examples.to_dict("records"),
        "objective": config.objective.model_dump(mode="json"),
        **(
            {}
            if config.goal is None
            else {
                "objectives": {name: one.model_dump(mode="json") for name, one in config.objectives.items()},
                "constraints": {
                    name: {**one.model_dump(mode="json"), "says": one.describe()} for name, one in config.constraints.items()
                },
                "waits_for": list(config.goal.required),
            }
        ),
        "plate": {
            "wells": config.plate.wells,
            "rows": config.plate.shape[0],
            "columns": config.plate.shape[1],
            "used": len(config.plate.usable),
            "for_designs": config.plate.capacity,
            "replicates": config.plate.replicates,
            "designs": config.plate.designs(1),
            "described": config.plate.described,
        },
    }
    understood["vectors"] = [
        f"{one.name}: {one.descriptors.sentence}" for one in space if isinstance(one, Sequence) and one.descriptors is not None
    ]
    understood["doubts"] = [
        f"{' and '.join(options)} of {one.name} are one molecule by their SMILES, and each counts for itself: if they are one "
        "substance, leave all but one out"
        for one in space if isinstance(one, Choice) for options in one.same
    ]  # fmt: skip
    understood["rules"] = [f"Rule: {one.describe()}" for one in space.rules]
    understood["limits"] = [f"Limit: {told}" for told in shown(config.limits)]
    understood["costs"] = _costs(config)
    round_ = None
    if round_config is not None:
        round_ = load_config(round_config, RoundConfig)
        _make(round_config, round_, rounds=config.rounds)
        with _of(round_config):
            round_.designs(config.plate)
        with _of(campaign):
            understood["arms"] = _check_round(round_, config)
        understood["costs"] += _paid(round_, config)
        understood["allocation"] = _allocation(round_, config)
    with _of(campaign):
        there = config.anchored(at_hand(campaign).parent)
        understood["history"] = related.told(there)
        if there.schedule is not None:
            there.schedule.each(lambda one: _check_round(one, there))
        understood["schedule"] = [] if config.schedule is None else config.schedule.described()
        exports.rehearse(config, plates=1 if round_ is None else round_.plates)
    return understood


def check_start(
    campaign: Path | str, data: Path | str, round_config: Path | str | None = None
) -> tuple[dict[str, Any], LabloopError | None]:  # fmt: skip
    """Tell how a start file is understood with a campaign's file, and why a round could not begin with it, see `start_file`."""
    round_ = None if round_config is None else load_config(round_config, RoundConfig)
    return start_file(data, load_config(campaign, CampaignConfig).anchored(at_hand(campaign).parent), round_)


@contextmanager
def _of(path: Path | str) -> Iterator[None]:
    """Name the file that has to be changed."""
    try:
        yield
    except (ConfigError, MethodError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _costs(config: CampaignConfig) -> list[str]:
    told = []
    unit = f" {config.prices.unit}".rstrip() if config.prices else ""
    if config.prices is not None:
        told.append(f"Price: a design costs at least {cheapest(config.prices, config.space, config.plate.replicates):,.6g}{unit}")
    if config.budget is not None:
        parts = [f"{config.budget.wells} wells"] if config.budget.wells else []
        parts += [f"{config.budget.price:,.6g}{unit}"] if config.budget.price else []
        told.append(f"Budget: {', '.join(parts)} in all")
    return told


def _wells(config: RoundConfig, campaign: CampaignConfig) -> int:
    """Count the wells of a round, controls' too."""
    designs = sum(config.designs(campaign.plate).values()) * campaign.plate.replicates
    return designs + config.plates * sum(control.wells for control in campaign.plate.controls)


def _paid(config: RoundConfig, campaign: CampaignConfig) -> list[str]:
    """Say for how many of the planned rounds the wells last, where for fewer."""
    each, budget = _wells(config, campaign), campaign.budget
    n = campaign.rounds if budget is None or budget.wells is None else budget.wells // each
    return (
        [f"Such a round takes {each} wells: the budget lasts for {n} of {campaign.rounds} rounds"] if n < campaign.rounds else []
    )


def _check_round(config: RoundConfig, campaign: CampaignConfig) -> list[dict[str, Any]]:
    check_judge(config)
    wells = config.designs(campaign.plate)
    n, plate, budget = sum(wells.values()), campaign.plate, campaign.budget
    each = _wells(config, campaign)
    if budget is not None and budget.wells is not None and each > budget.wells:
        raise ConfigError(f"budget.wells: {budget.wells} are fewer than the {each} of one round: raise it, or take fewer wells")
    controls = 0.0 if campaign.prices is None else campaign.prices.well * (each - n * plate.replicates)
    money = budget.price - controls if budget is not None and budget.price is not None else None
    seed = derive(derive(campaign.seed, "round", 1), "round", 1, "layout")
    Terms.of(campaign, plates=config.plates, seed=seed, money=money).check(n)
    check_room(Dataset.from_measurements(campaign.space, pd.DataFrame(columns=list(campaign.space.columns)), []), n)
    each = plate.replicates
    return [
        {
            "arm": name,
            "wells": each * wells[name],
            **({"designs": wells[name]} if each > 1 else {}),
            "proposers": list(arm.proposers),
            "selector": next(iter(arm.selector)),
        }
        for name, arm in config.arms.items()
    ]


def _allocation(config: RoundConfig, campaign: CampaignConfig) -> str:
    """Say how the wells are shared that no arm names as its own."""
    names, wells = config.sharing, config.designs(campaign.plate)
    total = sum(wells[name] for name in names)
    evidence = config.allocation.rule == "evidence"
    inside = f"; those of {' and '.join(config.turns)} by what its proposers achieved" if evidence and config.turns else ""
    if len(names) < 2:
        return ("every arm names its wells" if not names else f"{names[0]} gets the wells that no other arm names") + inside
    if evidence:
        floor = config.allocation.least(total, len(names))
        return f"{total} designs by what the arms achieved, at least {floor} each{inside}; evenly until the first round came back"
    return f"{total} designs by weights" if config.allocation.weights else f"{total} designs evenly"


def _make(path: Path | str, config: CampaignConfig | RoundConfig, *, rounds: int) -> None:
    """Make every plug-in that a file names, as in each planned round, so that all mistakes show with their lines."""
    document, faults = read_yaml(path), []
    for one in config.plugins():
        made = None
        try:
            for number in range(1, rounds + 1):
                told = ramped(one.options, round_number=number, rounds=rounds)
                if told != made:
                    create(one.kind, one.name, told)
                made = told
        except ConfigError as error:
            faults.append(f"{document.where(one.place)}: {error}")
    if isinstance(config, RoundConfig) and not faults:
        faults += [f"{document.where(place)}: {told}" for place, told in unjudged(config)]
    if faults:
        raise ConfigError(f"{document.source}: " + "; ".join(dict.fromkeys(faults)))
