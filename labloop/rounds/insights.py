"""What the judge of a campaign looks at, worked out once for the same data and kept beside the ledger."""

from __future__ import annotations

from pathlib import Path

from labloop.config.round import RoundConfig
from labloop.errors import CampaignError
from labloop.ledger.memory import Memory
from labloop.proposing.dataset import Dataset
from labloop.proposing.insight import FEWEST, Insight, look
from labloop.rounds import judging
from labloop.rounds.judging import Bench
from labloop.space.objective import Objective

FITS = 5


def insight(
    memory: Memory, *, config: RoundConfig | Path | str | None = None, fits: int = FITS, property: str | None = None
) -> Insight:
    """Tell what the judge of the open or the next round looks at; nothing in the ledger changes.

    Args:
        config: a round with the judge that is meant; the latest round's, else `auto`, where left out.
        fits: how often the judge is fitted; two at least.
        property: which of several properties; the leading objective where left out.

    Raises:
        CampaignError: too few designs are measured to hold any out, or there is no such property.
    """
    if fits < 2:
        raise CampaignError(f"fits is {fits}: a spread needs two at least")
    told = judging.bench(memory, config)
    data, objective, name = _of(memory, told, property)
    if len(data) < FEWEST:
        raise CampaignError(
            f"{memory.name} has {len(data)} measured designs{f' of {name}' if name else ''}, too few to hold some out and see "
            f"whether the judge knows them: ingest {FEWEST - len(data)} more ('{memory.to_ingest(objective.assay)}')"
        )
    place = _place(told, name, fits)
    if found := _noted(memory, place):
        return found
    made = look(
        lambda part, seed: told.plain(part, seed=seed), data, judge=told.name, fits=fits, seed=told.seed,
        to_value=objective.to_value, unit=objective.unit, property=name,
    )  # fmt: skip
    judging.keep(memory, place, made.to_dict())
    return made


def kept_of(memory: Memory, told: Bench | None = None) -> Insight | None:
    """Give what was worked out for the data as they are now; None where nobody asked yet."""
    try:
        told = told or judging.bench(memory)
    except CampaignError:
        return None
    return _noted(memory, _place(told, _of(memory, told, None)[2], FITS))


def _noted(memory: Memory, place: str) -> Insight | None:
    """Read what was kept; None where there is nothing, or what another release or an accident left there."""
    found = judging.kept(memory, place)
    try:
        return None if found is None else Insight.noted(found)
    except (KeyError, TypeError):
        return None


def _place(told: Bench, property: str, fits: int) -> str:
    return f"{told.data.fingerprint}/why-{told.key}-{property or 'value'}-{fits}.json"


def _of(memory: Memory, told: Bench, property: str | None) -> tuple[Dataset, Objective, str]:
    goal = memory.config.goal
    if goal is None or told.data.properties is None:
        if property not in (None, memory.config.objective.assay):
            raise CampaignError(f"{memory.name} has one property, {memory.config.objective.assay}, not {property!r}")
        return told.data, memory.config.objective, ""
    if property is not None and property not in goal.names:
        raise CampaignError(f"{memory.name} has no property {property!r}; it has {', '.join(goal.names)}")
    name = property or goal.names[0]
    return told.data.of(goal.names.index(name)), goal.properties[name], name
