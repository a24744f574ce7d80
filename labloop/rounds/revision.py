"""Change a campaign's configuration while it runs, so that all that was measured stays usable.

The encoding of the space covers whatever was ever allowed, and what is allowed now is written as constraints: a narrowed range, a
withdrawn option or letter leaves its measured designs in the dataset and keeps them from being proposed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config
from labloop.errors import CampaignError, ConfigError, DesignError
from labloop.ledger.memory import Memory, stored_config
from labloop.ledger.states import RoundState
from labloop.proposing.checks import check_exporters
from labloop.rounds import intake, related, spending, state
from labloop.runtime.yamlfile import at_hand
from labloop.space.constraints import Constraint, Excluded, ForbiddenMotifs, LengthRange, LinearInequality
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Integer, Mixture, Parameter, Real, Sequence


def checked(config: CampaignConfig | Path | str, stood: CampaignConfig | None = None) -> CampaignConfig:
    """Give a configuration from a caller or a file, its exporters made and scheduled rounds read once: mistakes show at once.

    Relative paths in it are read from the file's folder from now on, a caller's from the one that it runs in.

    Args:
        stood: what it replaces: a schedule that stays reads what it did.

    Raises:
        ConfigError: it does not make sense.
    """
    if not isinstance(config, CampaignConfig):
        config = load_config(config, CampaignConfig).anchored(at_hand(config).parent)
    elif stood is None or config.schedule != stood.schedule:
        config = config.anchored(Path())
    check_exporters(config)
    if config.schedule is not None:
        config.schedule.each()
    return config


def revise(
    memory: Memory, config: CampaignConfig | Path | str, *, reason: str, dry_run: bool = False
) -> tuple[CampaignConfig, list[str]]:
    """Replace a campaign's configuration; see `Campaign.revise`. Returns the one that stands now, and what changed."""
    config = checked(config, memory.config)
    if not reason.strip():
        raise CampaignError(f"{memory.name}: say why it is revised (--reason '…'), for whoever reads the ledger later")
    with memory.lock(), memory.ledger.begin():
        old = stored_config(memory.ledger, memory.name)
        assays = memory.ledger.measurements(memory.name)["assay"].unique()
        new = revised(old, config, designs=state.designs(memory), assays=assays, compared=_compared(memory))
        related.check(new, memory.ledger, memory.folder.parent)
        told = changes(old, new)
        if old.prices != new.prices:
            told += spending.revised(Memory(new, memory.ledger, memory.folder.parent), old)
        if dry_run:
            return old, told
        if told:
            memory.ledger.revise(memory.name, new.model_dump_json(), reason=reason)
    intake.catch_up(Memory(new, memory.ledger, memory.folder.parent))
    return new, told


def _compared(memory: Memory) -> str:
    """Say what the rounds so far have settled on the objective; '' where none that knew a value is measured, and none is open."""
    rounds = memory.ledger.rounds(memory.name)
    for entry in rounds:
        if entry.state != RoundState.CLOSED:
            return f"round {entry.number} is open with it: labloop close {memory.name} --reason …, then revise"
    results, knowing = state.results(memory), [entry.number for entry in rounds if entry.incumbent is not None]
    if (results["y"].notna() & results["round"].isin(knowing)).any():
        return "rounds so far were chosen and compared by it"
    return ""


def revised(
    old: CampaignConfig, new: CampaignConfig, *, designs: pd.DataFrame, assays: Iterable[str], compared: str = "rounds go by it"
) -> CampaignConfig:  # fmt: skip
    """Join a new configuration to the one that a campaign has run with so far.

    Args:
        old: as it stands, with whatever earlier revisions brought.
        new: as a person wrote it: its ranges, options and constraints are what may be proposed from now on.
        designs: every design that the campaign knows, indexed by `design_id`, with the space's columns.
        assays: assays that have readings.
        compared: why direction and transform of the objective must stay; '' where they need not.

    Returns:
        The new configuration with a space that encodes every design of the campaign under the id that it has.

    Raises:
        ConfigError: the name, the objective or the columns change, an assay that has readings vanishes, or a known design would
            be lost or get another id.
    """
    start_anew = (
        "begin a new campaign for it, by another name, and take the readings along: "
        f"labloop export {old.name} --dataset measured.csv, then labloop ingest measured.csv -c THE_NEW_NAME"
    )
    if new.name != old.name:
        raise ConfigError(f"name: this is campaign {old.name}, the file's is {new.name}: mend the name, or {start_anew}")
    mended = old.objective.model_copy(update={"direction": new.objective.direction, "transform": new.objective.transform})
    if new.objective == mended != old.objective and compared:
        raise ConfigError(
            "objective: it decides what rounds are compared by; direction and transform can be mended until a round "
            f"that knew a value is measured, but {compared}; else {start_anew}"
        )
    if new.objective != mended:
        raise ConfigError(
            f"objective: it decides what all rounds so far were compared by and cannot change ({old.objective} to "
            f"{new.objective}): {start_anew}"
        )
    _same_properties(old, new, start_anew)
    if lost := sorted(set(assays) - set(new.assays)):
        raise ConfigError(f"assays: {', '.join(lost)} has readings and must stay: add it to the file")
    before, after = ({p.name: p for p in config.space.parameters} for config in (old, new))
    if set(old.space.columns) != set(new.space.columns) or before.keys() != after.keys():
        gone, come = (
            sorted(set(old.space.columns) - set(new.space.columns)),
            sorted(set(new.space.columns) - set(old.space.columns)),
        )
        what = " and ".join([f"lacks {', '.join(gone)}"] * bool(gone) + [f"adds {', '.join(come)}"] * bool(come))
        raise ConfigError(
            f"space: the file {what or 'names its parameters otherwise'}; measured designs have other columns: {start_anew}"
        )
    merged, rules = [], list(new.space.constraints)
    for name, was in before.items():
        parameter, more = _merged(was, after[name])
        merged.append(parameter)
        rules += [rule for rule in more if rule not in rules]
    told = {"parameters": tuple(merged), "constraints": tuple(rules), "symmetries": new.space.symmetries}
    try:
        space = DesignSpace.model_validate({**told, "library": new.space.library})
    except ValidationError as error:
        raise ConfigError(f"space: {error.errors()[0]['msg'].removeprefix('Value error, ')}; {start_anew}") from error
    _check(space, designs, start_anew)
    return new.model_copy(update={"space": space})


def _same_properties(old: CampaignConfig, new: CampaignConfig, start_anew: str) -> None:
    """See that every property is still improved in its direction, on its scale: weights, thresholds and limits may change."""
    for name, was in old.objectives.items():
        now = new.objectives.get(name)
        if now is None or now.objective != was.objective:
            what = "is gone" if now is None else f"changes from {was.objective} to {now.objective}"
            raise ConfigError(
                f"objectives.{name}: {what}; weight, threshold and required may change, and another may be added, but what all "
                f"rounds so far were compared by cannot: {start_anew}"
            )


def changes(old: CampaignConfig, new: CampaignConfig) -> list[str]:
    """Say in words what differs, one line a part."""
    told = []
    if old.objective.direction != new.objective.direction:
        told.append(
            f"objective: {'lower' if new.objective.direction == 'min' else 'higher'} is better now; all readings are kept"
        )
    if old.objective.transform != new.objective.transform:
        told.append(f"objective: transform {new.objective.transform} (before {old.objective.transform})")
    for was, now in zip(old.space.parameters, new.space.parameters, strict=True):
        if _spoken(was) != _spoken(now):
            told.append(f"space: {was.name} now covers {_spoken(now)} (before {_spoken(was)})")
        elif differing := [
            one for one in type(was).model_fields if one != "mutations" and getattr(was, one) != getattr(now, one)
        ]:
            told.append(f"space: {was.name} is changed in {' and '.join(differing)}")  # mutations are a rule, see below
    for rule in new.space.rules:
        if rule not in old.space.rules:
            told.append(f"space: a design now {rule.describe()}")
    for rule in old.space.rules:
        if rule not in new.space.rules:
            told.append(f"space: withdrawn: a design {rule.describe()}")
    if old.space.symmetries != new.space.symmetries:
        told.append(f"space: symmetries {', '.join(new.space.symmetries) or 'none'}")
    if old.space.library != new.space.library:
        told.append(f"space: {new.space.extent} can be proposed now")
    for name in new.assays:
        if name not in old.assays:
            told.append(f"assays: {name} is new")
        elif old.assays[name] != new.assays[name]:
            told.append(f"assays: {name} is read or judged otherwise")
    told += [f"assays: {name} is gone" for name in old.assays if name not in new.assays]
    for part in ("objectives", "constraints"):
        was, now = getattr(old, part), getattr(new, part)
        told += [f"{part}: {name} is {'new' if name not in was else 'changed'}" for name in now if now[name] != was.get(name)]
        told += [f"{part}: {name} is gone" for name in was if name not in now]
    own = ("name", "objective", "objectives", "constraints", "space", "assays")
    parts = [name for name in CampaignConfig.model_fields if name not in own]
    return told + [f"{part} is changed" for part in parts if getattr(old, part) != getattr(new, part)]


def _merged(old: Parameter, new: Parameter) -> tuple[Parameter, list[Constraint]]:
    """Give a parameter that covers both, and the rules that keep proposals to the new one."""
    if type(old) is not type(new):
        raise ConfigError(
            f"space: {new.name} was of type {old.type} and cannot become {new.type}: begin a new campaign, and ingest the old "
            "files there"
        )
    if isinstance(old, Real | Integer) and isinstance(new, Real | Integer):
        low, high = min(old.low, new.low), max(old.high, new.high)
        rules: list[Constraint] = []
        if (low, high) != (new.low, new.high):
            rules.append(LinearInequality(weights={new.name: 1.0}, low=new.low, high=new.high))
        return _as_fine(old, new.model_copy(update={"low": low, "high": high})), rules
    if isinstance(old, Choice) and isinstance(new, Choice):
        gone = [one for one in old.options if one not in new.options]
        rules = [Excluded(combinations=tuple({new.name: one} for one in gone))] if gone else []
        return _joined(old, new), rules
    if isinstance(old, Sequence) and isinstance(new, Sequence):
        letters = old.alphabet + "".join(one for one in new.alphabet if one not in old.alphabet)
        gone = [one for one in old.alphabet if one not in new.alphabet]
        rules = [ForbiddenMotifs(parameter=new.name, motifs=tuple(gone), reverse_complement=False)] if gone else []
        low, high = min(old.shortest, new.shortest), max(old.longest, new.longest)
        if (old.gap or new.gap) and (low, high) != (new.shortest, new.longest) and new.parent is None:
            rules = [*rules, LengthRange(parameter=new.name, low=new.shortest, high=new.longest)]
            new = new.model_copy(update={"length": (low, high) if low < high else low})
        return Sequence.model_validate({**new.model_dump(), "alphabet": letters}), rules
    assert isinstance(old, Mixture)
    assert isinstance(new, Mixture)
    return new.model_copy(update={"components": old.components}), []


def _joined(old: Choice, new: Choice) -> Choice:
    try:
        return new.joined(old)
    except ValidationError as error:
        told = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"space: {told} (options that are withdrawn stay known: leave them in the table)") from error


def _as_fine(old: Real | Integer, new: Real | Integer) -> Real | Integer:
    """Keep as many decimals as designs have so far: over a wider range labloop would round them, and so rename them."""
    both = isinstance(old, Real) and isinstance(new, Real) and new.step is None and new.scale == "linear"
    if both and new.places < old.places:  # type: ignore[union-attr]
        return new.model_copy(update={"decimals": old.places})  # type: ignore[union-attr]
    return new


def _check(space: DesignSpace, designs: pd.DataFrame, start_anew: str) -> None:
    """See that every design that the campaign knows is a design of the space, under its own id."""
    if designs.empty:
        return
    try:
        X = space.encode(designs.reset_index(drop=True), strict=False)
    except DesignError as error:
        first = error.faults[0]
        raise ConfigError(
            f"space: {len({fault.row for fault in error.faults})} designs of this campaign would be lost, such as "
            f"{designs.index[first.row]}: {first.column} {first.cell!r} {first.rule}; {start_anew}"
        ) from error
    changed = [(one, i) for i, (one, now) in enumerate(zip(designs.index, space.ids(X), strict=True)) if one != now]
    if changed:
        shown = ", ".join(f"{name} {designs.iloc[changed[0][1]][name]}" for name in space.columns)
        raise ConfigError(
            f"space: {len(changed)} of {len(designs)} designs of this campaign would become others, such as {changed[0][0]} "
            f"({shown}): keep step and symmetries so that the old designs fit in, or {start_anew}"
        )


def _spoken(parameter: Parameter) -> str:
    if isinstance(parameter, Real | Integer):
        return f"{parameter.low:g} to {parameter.high:g}"
    if isinstance(parameter, Choice):
        return ", ".join(map(str, parameter.options))
    if isinstance(parameter, Sequence):
        long = f"{parameter.shortest} to {parameter.longest}" if parameter.gap else parameter.length
        told = f", with {parameter.descriptors.sentence}" if parameter.descriptors is not None else ""
        return f"{long} letters of {parameter.alphabet}{told}"
    return f"{', '.join(parameter.components)} in steps of {parameter.step:g}"
