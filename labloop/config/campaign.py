"""A campaign: what can be designed, what is measured, on which plates, for how many rounds."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from labloop.config.assay import ROLES, Assay
from labloop.config.base import NAME, Config, Named, Place, named
from labloop.config.goals import spelled_out
from labloop.config.history import History
from labloop.config.limits import Budget, Limits, Prices
from labloop.config.round import RoundConfig
from labloop.config.schedule import Schedule
from labloop.plates.batch import RESERVED
from labloop.plates.vessel import Plate
from labloop.runtime.words import BASES, PROPERTY, like
from labloop.space.choice import Choice
from labloop.space.constraints import Excluded
from labloop.space.design_space import DesignSpace
from labloop.space.goal import Goal, Target, Threshold
from labloop.space.objective import Objective
from labloop.space.quantities import Real

PropertyName = Annotated[str, Field(pattern=PROPERTY)]


class Flanks(Config):
    """Constant DNA around a sequence: ordered with it, no part of the design."""

    five_prime: Annotated[str, Field(pattern=BASES)] = ""
    """Before the sequence."""
    three_prime: Annotated[str, Field(pattern=BASES)] = ""
    """After the sequence."""


class Verdict(Config):
    """What a comparison needs before it names a winner; what stood when the first round opened holds to the end."""

    share: float = Field(default=0.8, gt=0, le=1)
    """No verdict on a round before each arm has a result in so large a share of its wells."""


class CampaignConfig(Config):
    """A campaign: what can be designed, what is measured, on which plates, for how many rounds."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=NAME)]
    """What commands, files and plates call it: letters, digits, _ and -."""
    description: str = ""
    """For people; shown in the report."""
    space: DesignSpace
    """What a design is."""
    objective: Objective = Objective()
    """What is improved; of several `objectives`, the first."""
    objectives: dict[PropertyName, Target] = Field(default_factory=dict)
    """Several properties to improve at once, instead of `objective`."""
    constraints: dict[PropertyName, Threshold] = Field(default_factory=dict)
    """Properties that must only be good enough."""
    assays: dict[str, Assay] = Field(default_factory=lambda: {"assay": Assay()})
    """How each assay's files are read, by the assay's name."""
    history: History = ()
    """Other campaigns and old assays of the same designs, which count as far as they predict what is measured here."""
    plate: Plate = Plate()
    flanks: dict[str, Flanks] = Field(default_factory=dict)
    """What order sheets add before and after each sequence, by parameter."""
    limits: Limits
    prices: Prices | None = None
    budget: Budget | None = None
    rounds: int = Field(default=4, ge=1, le=10_000)
    """Rounds planned; pessimism is scheduled over them."""
    verdict: Verdict = Verdict()
    seed: int = Field(default=0, ge=0, lt=2**63)
    """From which all chance derives: the same seed and readings give the same plates."""
    schedule: Schedule | None = None
    """When rounds run by themselves; a campaign without it runs when it is told to."""

    def plugins(self) -> list[Named]:
        """List the plug-ins named here, those of rounds that are written out in the schedule too."""
        found = named("exporters", self.plate.exports, "plate", "exports")
        for name, assay in self.assays.items():
            if assay.reader is not None:
                found.append(Named("readers", assay.reader, {}, ("assays", name, "reader")))
        for i, one in enumerate(self.schedule.rounds if self.schedule else ()):
            if isinstance(one, RoundConfig):
                found += [replace(each, place=("schedule", "rounds", i, *each.place)) for each in one.plugins()]
        return found

    def anchored(self, folder: Path) -> Self:
        """Read the relative paths of schedule and history from `folder` from now on, whatever folder labloop is run in."""
        if self.history:
            related = tuple(one.anchored(folder) for one in self.history)
            self = self.model_copy(update={"history": related})
        return self if self.schedule is None else self.model_copy(update={"schedule": self.schedule.anchored(folder)})

    @cached_property
    def goal(self) -> Goal | None:
        """Several objectives or limits as one value; None for the plain campaign of one objective."""
        if len(self.objectives) < 2 and not self.constraints:
            return None
        lead = {self.objective.assay: Target.model_validate(self.objective.model_dump())}
        return Goal(targets=self.objectives or lead, limits=self.constraints)

    @property
    def begins_with_history(self) -> bool:
        """Whether history can make a first plate: it speaks of what is improved first of all."""
        return any(self.goal is None or one.of in ("", self.goal.names[0]) for one in self.history)

    @property
    def required(self) -> tuple[str, ...]:
        """Assays that a round waits for."""
        return (self.objective.assay,) if self.goal is None else self.goal.required

    def property_of(self, assay: str) -> Objective:
        """Give the objective that an assay measures, or a plain one where it measures none."""
        known = [self.objective, *(self.goal.properties.values() if self.goal is not None else ())]
        return next((one for one in known if one.assay == assay), Objective(assay=assay))

    def column_of(self, assay: str) -> tuple[str, ...]:
        """Names under which an assay's values may stand in a table that holds several properties."""
        if self.goal is None:
            return ()
        mine = [(one.column, name) for name, one in self.objectives.items() if one.assay == assay]
        mine += [(one.column, name) for name, one in self.constraints.items() if one.assay == assay]
        return tuple(dict.fromkeys([*(column for column, _ in mine if column), *(name for _, name in mine), assay]))

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, raw: Any) -> Any:
        return spelled_out(raw)

    def mistaken(self) -> list[tuple[Place, str]]:
        """Say what no file should ask for, each with its place; a ledger that was begun with it opens all the same."""
        out: list[tuple[Place, str]] = []
        read: dict[str, str] = {}  # which assay each column is of
        every: list[tuple[str, str, Target | Threshold]] = [("objectives", name, one) for name, one in self.objectives.items()]
        every += [("constraints", name, one) for name, one in self.constraints.items()]
        for part, name, one in every:
            column = one.column or name
            other = read.setdefault(column, one.assay)
            if other != one.assay:
                key = (part, name, *(("column",) if one.column else ()))
                out.append((key, f"column {column!r} is read as {other!r} already: give each property a column of its own"))
        known = (*ROLES, *self.space.columns)
        for name, assay in self.assays.items():
            if assay.low is not None and assay.high is not None and assay.low > assay.high:
                out.append((("assays", name, "low"), f"{assay.low:g} is above high, {assay.high:g}: no value would do"))
            strange = [key for key in assay.columns if key not in known]
            out += [(("assays", name, "columns", key), f"is no column of labloop's ({', '.join(known)}){like(key, known)}")
                    for key in strange]  # fmt: skip
        for i, parameter in enumerate(self.space):
            place: Place = ("space", "parameters", i)
            if isinstance(parameter, Real) and (parameter.step or 0) > parameter.high - parameter.low:
                said = f"{parameter.step:g} is wider than the range, {parameter.low:g} to {parameter.high:g}: take a smaller one"
                out.append(((*place, "step"), said))
            if isinstance(parameter, Choice) and "" in parameter.options:
                said = "is empty, which a table cannot tell from a value left out: give it a name, such as none"
                out.append(((*place, "options", parameter.options.index("")), said))
        return out

    @model_validator(mode="after")
    def _properties(self) -> Self:
        for part, every in (("objectives", self.objectives), ("constraints", self.constraints)):
            for name, one in every.items():  # type: ignore[attr-defined]
                if one.assay not in self.assays:
                    raise ValueError(f"{part}.{name}.assay {one.assay!r} is not among assays: {', '.join(self.assays)}")
        assays = [one.assay for one in self.objectives.values()]
        if twice := [one for one in assays if assays.count(one) > 1]:
            raise ValueError(f"objectives: assay {twice[0]!r} measures two of them: give each its own, or a column")
        if self.goal is not None and not self.goal.required:
            raise ValueError("objectives: one at least must be required, or a round would never wait for a value")
        for part, every in (("objectives", self.objectives), ("constraints", self.constraints)):
            for name in every:  # type: ignore[attr-defined]
                if name in RESERVED or name in self.space.columns:
                    whose = "of the design" if name in self.space.columns else "in labloop's own files"
                    raise ValueError(f"{part}.{name}: is the name of another column, {whose}: rename it")
        return self

    @model_validator(mode="after")
    def _history_known(self) -> Self:
        for i, one in enumerate(self.history):
            known = () if self.goal is None else self.goal.names
            if one.of and one.of not in known:
                told = ", ".join(known) or "one only: leave the key out"
                raise ValueError(f"history.{i}.of {one.of!r} is no property of this campaign ({told})")
            if one.campaign == self.name and one.home is None:
                raise ValueError(f"history.{i}.campaign: {self.name} is this campaign itself: name another one")
            if strange := sorted(set(one.columns) - set(self.space.columns)):
                told = ", ".join(self.space.columns)
                raise ValueError(f"history.{i}.columns.{strange[0]}: is no column of the space ({told})")
        labels = [one.label for one in self.history]
        if twice := next((one for one in labels if labels.count(one) > 1), None):
            raise ValueError(f"history: {twice} stands there twice: name each once, or give files names of their own")
        return self

    @model_validator(mode="after")
    def _in_stock(self) -> Self:
        """Write what is out of stock as a rule of the space, by which all methods keep."""
        for name, several in self.limits.items():
            for limit in several:
                limit.check(name, self.space)
        gone = [{name: one} for name, several in self.limits.items() for limit in several for one in limit.out_of_stock]
        rule = Excluded(combinations=tuple(gone)) if gone else None
        if rule is not None and rule not in self.space.constraints:
            told = {name: getattr(self.space, name) for name in DesignSpace.model_fields}
            self.__dict__["space"] = DesignSpace.model_validate({**told, "constraints": (*self.space.constraints, rule)})
        return self

    @model_validator(mode="after")
    def _assay_known(self) -> Self:
        if self.objective.assay not in self.assays:
            name, there = self.objective.assay, ", ".join(self.assays) or "there are none"
            raise ValueError(f"objective.assay {name!r} is not among assays: {there}; add it there, as {name}: {{}}, or name one")
        clash = sorted(RESERVED & set(self.space.columns))
        if clash:
            raise ValueError(f"space: columns {', '.join(clash)} have names of labloop's own files: rename these parameters")
        if self.prices is not None:
            self.prices.check(self.space)
        if self.budget is not None and self.budget.price is not None and self.prices is None:
            raise ValueError("budget.price: needs prices, such as prices: {design: 2, well: 0.5}")
        if strange := sorted(set(self.flanks) - {one.name for one in self.space if one.type == "sequence"}):
            raise ValueError(f"flanks.{strange[0]}: the space has no sequence of that name")
        return self
