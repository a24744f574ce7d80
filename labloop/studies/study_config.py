"""What a study's YAML says: labs, arms, sizes of the start, noises and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from labloop.config.base import NAME, Plugin
from labloop.config.read import load_config
from labloop.config.round import Arm
from labloop.runtime.words import WORD
from labloop.runtime.yamlfile import at_hand

Start = Annotated[int, Field(ge=2)] | Literal["offline"]
Noises = tuple[Annotated[float, Field(ge=0)], ...]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StudyArm(Arm):
    """An arm written out in a study, with a judge of its own where it shall not have the round's."""

    judge: Plugin | None = None
    """Instead of the round's."""


class StudyLab(_Config):
    """A lab of a study, with what differs from the rest of it."""

    campaign: Path
    """The campaign's YAML file; a relative path is read from the study's file."""
    lab: Plugin | None = None
    """The simulated lab's name, or {name: options}; the key in the study where it is left out."""
    starts: tuple[Start, ...] | None = None
    """Instead of the study's."""
    noise: Noises | None = None
    """In the unit of the lab's values."""
    quantile: Annotated[float, Field(gt=0, le=1)] | None = None
    """Instead of the study's."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Instead of the study's."""

    def anchored(self, folder: Path) -> Self:
        """Read relative paths from `folder`, that of the lab's own table too."""
        plugin = self.lab and {
            name: {**options, "path": str(folder / options["path"])} if "path" in options else options
            for name, options in self.lab.items()
        }
        return self.model_copy(update={"campaign": folder / self.campaign, "lab": plugin})


def _arms(value: Any) -> Any:
    """Read names, and mappings of names to arms, as {name: arm or None}."""
    if not isinstance(value, list):
        return value
    found: dict[str, Any] = {}
    for one in value:
        for name, arm in one.items() if isinstance(one, Mapping) else [(one, None)]:
            if name in found:
                raise ValueError(f"arm {name!r} is there twice")
            found[name] = arm
    return found


class StudyConfig(_Config):
    """Which arms meet in which labs."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=NAME)]
    """What its folder and pages are called."""
    description: str = ""
    """For people."""
    labs: dict[Annotated[str, Field(pattern=WORD)], StudyLab] = Field(min_length=1)
    """The labs, by name."""
    arms: Annotated[dict[str, StudyArm | None], BeforeValidator(_arms), Field(min_length=1)]
    """Names of arms of the round's file or of proposers, or arms written out: {name: {proposers: …, selector: …, judge: …}}."""
    round: Path | None = None
    """The round's YAML file with named arms and their judge; the shipped `rounds/default.yaml` where there is none."""
    reference: str | None = "bo"
    """The arm that all others are compared with."""
    starts: tuple[Start, ...] = (500,)
    """Measured designs to begin with, as many campaigns as there are sizes; `offline` takes the worse part of a lab whole."""
    noise: Noises = (0.0,)
    """Standard deviations of the readings' noise, in the unit of each lab's values."""
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.5
    """How much of a lab, the worst of it, a start is drawn from; 1 is all of it."""
    rounds: Annotated[int, Field(ge=1)] = 3
    """Plates in a row."""
    batch: Annotated[int, Field(ge=1)] = 96
    """Wells of a plate."""
    seeds: Annotated[int, Field(ge=1)] = 5
    """Campaigns of each arm in each lab, from starts that the arms share."""

    @field_validator("starts", "noise")
    @classmethod
    def _some(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values or len(set(values)) != len(values):
            raise ValueError("needs at least one value, and none twice")
        return values

    @model_validator(mode="after")
    def _reference_takes_part(self) -> Self:
        if self.reference is not None and self.reference not in self.arms:
            raise ValueError(
                f"reference {self.reference!r} is none of the arms: {', '.join(self.arms)}; or write reference: null"
            )
        return self

    def anchored(self, folder: Path) -> Self:
        """Read relative paths from `folder`."""
        labs = {name: lab.anchored(folder) for name, lab in self.labs.items()}
        return self.model_copy(update={"labs": labs, "round": self.round and folder / self.round})


def read_study(config: StudyConfig | Path | str) -> StudyConfig:
    """Read a study's YAML file, its relative paths from its own folder; a study that is read already stays as it is."""
    if isinstance(config, StudyConfig):
        return config
    return load_config(config, StudyConfig).anchored(at_hand(config).absolute().parent)
