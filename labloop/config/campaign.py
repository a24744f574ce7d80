"""Campaign and round files: YAML in, checked values out. Unknown, double and mistyped keys are refused with their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from labloop.config.policies import POLICIES, Method, Policy, Rule
from labloop.errors import ConfigError
from labloop.plates.layout import parse_well, well_name
from labloop.registry import Kind, find
from labloop.runtime.yamlfile import read_yaml
from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective

Options = dict[str, Any]


def _specs(value: Any) -> Any:
    """Read `name`, `{name: options}` or a list of either as {name: options}."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, list):
        found: dict[Any, Any] = {}
        for one in value:
            if not isinstance(one, str | Mapping):
                raise ValueError(
                    f"{one!r} is no name: write a list as [random, coms], or with options as [random, {{coms: {{…}}}}]"
                )
            more = _specs(one)
            if twice := found.keys() & more.keys():
                raise ValueError(f"{', '.join(sorted(twice))} is there twice")
            found |= more
        return found
    if isinstance(value, Mapping):
        return {name: options or {} for name, options in value.items()}
    return value


Plugins = Annotated[dict[str, Options], BeforeValidator(_specs), Field(min_length=1)]
Plugin = Annotated[dict[str, Options], BeforeValidator(_specs), Field(min_length=1, max_length=1)]


Place = tuple[str | int, ...]
"""Keys and positions on the way into a configuration."""


@dataclass(frozen=True)
class Named:
    """A plug-in that a configuration names."""

    kind: Kind
    name: str
    options: Options
    place: Place


def _named(kind: Kind, plugins: Mapping[str, Options], *place: str | int) -> list[Named]:
    return [Named(kind, name, options, (*place, name)) for name, options in plugins.items()]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Assay(_Config):
    """How one assay's files are read."""

    columns: dict[str, str] = Field(default_factory=dict)
    """labloop's column to the lab's: `value`, `plate`, `well`, `design_id`, design columns, `unit`, `measured_at`, `note`."""
    units: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Accepted units and the factor that turns each into the objective's unit."""
    low: float | None = None
    """Lowest plausible value; one below stops the file."""
    high: float | None = None
    read: Annotated[str, BeforeValidator(lambda read: str(read) if isinstance(read, int) else read)] | None = None
    """The read to take from files that hold several, such as `450`."""
    decimal: Literal[".", ","] | None = None
    """The decimal mark, for files whose numbers do not show it (`1.234` alone can be a thousand)."""
    reader: str | None = None
    """The reader to use, where several know the lab's files."""
    normalise: Method = "none"
    """How plates are put on one scale when the dataset is taken, in the lab's unit; see `labloop.assays.quality.normalise`."""
    quality: dict[Rule, Policy] = Field(default_factory=dict)
    """What becomes of readings that quality control flags, by rule, where it is not what `labloop.config.policies` says."""

    @property
    def policies(self) -> dict[Rule, Policy]:
        """Every rule's policy."""
        return {**POLICIES, **self.quality}


def _well(text: str) -> str:
    return well_name(*parse_well(text))


class Source(_Config):
    """A well that a robot takes a liquid from."""

    plate: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
    well: Annotated[str, AfterValidator(_well)]


class Control(_Config):
    """Wells of a plate that hold the same known thing on every plate."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    wells: int = Field(ge=1)
    """How many wells of each plate."""
    source: Source | None = None
    """Where a robot finds it; worklists need it."""
    role: Literal["positive", "negative", "reference"] | None = None
    """What it is for: Z' takes a positive and a negative control, `percent_of_control` any of the three."""


class Plate(_Config):
    """The plates that the lab uses."""

    wells: Literal[96, 384] = 96
    controls: tuple[Control, ...] = ()
    edge: Literal["use", "empty"] = "use"
    """`empty`: the outer wells, which dry out first, stay unused."""
    exports: Annotated[dict[str, Options], BeforeValidator(_specs)] = Field(default_factory=dict)
    """Order sheets and worklists written with every plate, with their options: `{idt: {}, echo: {volume: 50}}`."""
    source_wells: Literal[96, 384] | None = None
    """Wells of the plates that designs are ordered in; as many as the plate's own where left out."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (8, 12) if self.wells == 96 else (16, 24)

    @property
    def capacity(self) -> int:
        """Wells a plate has for designs, after the edge and the controls."""
        rows, columns = self.shape
        usable = rows * columns if self.edge == "use" else (rows - 2) * (columns - 2)
        return usable - sum(control.wells for control in self.controls)

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.capacity < 1:
            raise ValueError("controls and the edge leave no well for a design")
        names = [control.name for control in self.controls]
        if len(set(names)) != len(names):
            raise ValueError("controls must have distinct names")
        return self


RESERVED = frozenset(
    {
        "arm", "design_id", "rank", "proposer", "score", "mean", "std", "lcb", "nearest_id", "nearest_distance",
        "plate", "well", "value", "unit", "status", "measured_at", "note", "sample", "control", "predicted", "in_space",
        "source_plate", "source_well", "assay", "qualifier", "round", "arms", "proposers", "file", "row", "y", "sem",
        "n_replicates", "flags",
    }
)  # fmt: skip
"""Columns of labloop's own files; a design column of such a name could not be told from them."""


class Flanks(_Config):
    """Constant DNA around a sequence: ordered with it, no part of the design."""

    five_prime: Annotated[str, Field(pattern="^[ACGT]*$")] = ""
    three_prime: Annotated[str, Field(pattern="^[ACGT]*$")] = ""


class CampaignConfig(_Config):
    """A campaign: what can be designed, what is measured, on which plates, for how many rounds."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
    description: str = ""
    space: DesignSpace
    objective: Objective = Objective()
    assays: dict[str, Assay] = Field(default_factory=lambda: {"assay": Assay()})
    plate: Plate = Plate()
    flanks: dict[str, Flanks] = Field(default_factory=dict)
    """What order sheets add before and after each sequence, by parameter."""
    rounds: int = Field(default=4, ge=1, le=10_000)
    """Rounds planned; pessimism is scheduled over them."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    schedule: Schedule | None = None
    """When rounds run by themselves; a campaign without it runs when it is told to."""

    def plugins(self) -> list[Named]:
        """List the plug-ins named here, those of rounds that are written out in the schedule too."""
        found = _named("exporters", self.plate.exports, "plate", "exports")
        for name, assay in self.assays.items():
            if assay.reader is not None:
                found.append(Named("readers", assay.reader, {}, ("assays", name, "reader")))
        for i, one in enumerate(self.schedule.rounds if self.schedule else ()):
            if isinstance(one, RoundConfig):
                found += [replace(named, place=("schedule", "rounds", i, *named.place)) for named in one.plugins()]
        return found

    def anchored(self, folder: Path) -> Self:
        """Read the schedule's relative round files from `folder` from now on, whatever folder labloop is run in."""
        if self.schedule is None:
            return self
        rounds = tuple(folder.absolute() / one if isinstance(one, Path) else one for one in self.schedule.rounds)
        return self.model_copy(update={"schedule": self.schedule.model_copy(update={"rounds": rounds})})

    @model_validator(mode="after")
    def _assay_known(self) -> Self:
        if self.objective.assay not in self.assays:
            raise ValueError(f"objective.assay {self.objective.assay!r} is not among assays: {', '.join(self.assays)}")
        clash = sorted(RESERVED & set(self.space.columns))
        if clash:
            raise ValueError(f"space: columns {', '.join(clash)} have names of labloop's own files: rename these parameters")
        if strange := sorted(set(self.flanks) - {one.name for one in self.space if one.type == "sequence"}):
            raise ValueError(f"flanks.{strange[0]}: the space has no sequence of that name")
        return self


class Arm(_Config):
    """One side of the comparison: who proposes, who selects, how many wells."""

    proposers: Plugins
    selector: Plugin = {"as_proposed": {}}
    wells: int | None = Field(default=None, ge=1, le=1_000_000)
    """Wells of the plate; arms that name none share what is left evenly."""
    pool: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] | None = None
    """Candidates that each proposer offers; at least the plate's designs. `auto`: many where scoring one is cheap, see
    `labloop.proposing.pipeline.pool_size`."""


class RoundConfig(_Config):
    """A round: the arms that share the plate and the surrogate that judges them."""

    schema_version: Literal[1] = 1
    arms: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")], Arm] = Field(min_length=1)
    judge: Plugin | None = {"auto": {}}
    """The reference surrogate: fitted apart from all proposers, it scores every pick of every arm; null for a first plate."""
    plates: int = Field(default=1, ge=1, le=1000)

    def plugins(self) -> list[Named]:
        """List the plug-ins named here."""
        found = _named("surrogates", self.judge or {}, "judge")
        for name, arm in self.arms.items():
            found += _named("proposers", arm.proposers, "arms", name, "proposers")
            found += _named("selectors", arm.selector, "arms", name, "selector")
        return found

    def wells(self, total: int) -> dict[str, int]:
        """Split the round's design wells over the arms.

        Raises:
            ConfigError: the arms ask for more wells than there are, or for none.
        """
        fixed = {name: arm.wells for name, arm in self.arms.items() if arm.wells is not None}
        open_arms = [name for name in self.arms if name not in fixed]
        left = total - sum(fixed.values())
        if left < len(open_arms) or (left and not open_arms):
            raise ConfigError(
                f"arms ask for {sum(fixed.values())} wells and {len(open_arms)} more share the rest, "
                f"but the plates have {total} for designs: change arms.*.wells, or leave one arm's out to give it the rest"
            )
        share = {name: left // len(open_arms) + (i < left % len(open_arms)) for i, name in enumerate(open_arms)}
        return {name: fixed.get(name, share.get(name, 0)) for name in self.arms}

    def without(self, arm: str, proposer: str) -> Self:
        """Leave one proposer out; an arm that has no other goes, and the arms that stay share the wells of the plate evenly."""
        kept = {name: options for name, options in self.arms[arm].proposers.items() if name != proposer}
        if kept:
            return self.model_copy(update={"arms": {**self.arms, arm: self.arms[arm].model_copy(update={"proposers": kept})}})
        left = {name: one.model_copy(update={"wells": None}) for name, one in self.arms.items() if name != arm}
        return self.model_copy(update={"arms": left})


class Calendar(_Config):
    """Times of a calendar, as cron writes them."""

    cron: str
    """Minute, hour, day of the month, month, day of the week: `0 8 * * 1` is Mondays at 8."""
    timezone: str = "UTC"
    """Name in the time zone database, such as `Europe/Berlin`; its summer time is followed."""

    def after(self, moment: datetime) -> datetime:
        """Give the first time after a moment (aware)."""
        return next(CronSim(self.cron, moment.astimezone(ZoneInfo(self.timezone))))

    @model_validator(mode="after")
    def _sense(self) -> Self:
        try:
            self.after(datetime.now().astimezone())
        except (KeyError, OSError, ValueError) as error:  # what zoneinfo raises, by the kind of nonsense
            raise ValueError(f"timezone {self.timezone!r} is unknown: write it as in Europe/Berlin") from error
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"cron {self.cron!r} names no time: five fields such as '0 8 * * 1', Mondays at 8") from error
        return self


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _span(value: Any) -> Any:
    if isinstance(value, int | float) or (isinstance(value, str) and value.strip().isdigit()):
        raise ValueError("say of what: such as 14 days, 36 hours or 2 weeks")
    told = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*(minute|hour|day|week)s?", value.strip()) if isinstance(value, str) else None
    return timedelta(**{f"{told[2]}s": float(told[1])}) if told else value


Span = Annotated[timedelta, BeforeValidator(_span)]

RoundFile = Annotated[
    Annotated[RoundConfig, Tag("round")] | Annotated[Path, Tag("file")],
    Discriminator(lambda value: "file" if isinstance(value, str | Path) else "round"),
]


class Schedule(_Config):
    """When a campaign's rounds run by themselves, and what a person is asked."""

    rounds: Annotated[tuple[RoundFile, ...], BeforeValidator(_several)] = ()
    """The rounds' files in order (or rounds written out); the last one serves all later rounds, the shipped default where there
    is none. A file is read when its round opens; a relative path is read from the campaign's file."""
    start: Literal["when_measured", "by_hand"] | Calendar = "when_measured"
    """When the next round opens: once the last one is measured, when a person says so, or at the next time of a calendar."""
    expected: Span | None = None
    """How long the lab usually needs, such as `5 days`; after that its plate is called overdue."""
    deadline: Span | None = None
    """How long the lab has, such as `14 days`; then the round closes without the wells that are missing."""
    approval: bool = False
    """Whether a person must say yes before a plate's files are written for the lab."""
    on_failure: Literal["stop", "drop"] = "stop"
    """What becomes of a round with a proposer that failed three times: wait for a person, or go on without that proposer."""
    inbox: Path = Path("inbox")
    """Folder watched for assay files; a relative one lies in the campaign's folder."""
    out: Path = Path("plates")
    """Folder that gets the plates' files; a relative one lies in the campaign's folder."""

    @field_validator("expected", "deadline")
    @classmethod
    def _ahead(cls, span: timedelta | None) -> timedelta | None:
        if span is not None and span <= timedelta(0):
            raise ValueError("must be longer than nothing, such as 14 days")
        if span is not None and span > timedelta(days=3660):
            raise ValueError("must be ten years at most, such as 14 days")
        return span

    def round(self, position: int) -> RoundConfig:
        """Give the configuration of the planned round at a position, counted from 0; its file is read now.

        Raises:
            ConfigError: the file cannot be read or does not make sense.
        """
        if not self.rounds:
            return load_config(preset("rounds/default.yaml"), RoundConfig)
        one = self.rounds[min(position, len(self.rounds) - 1)]
        return load_config(one, RoundConfig) if isinstance(one, Path) else one


def resolve(options: Mapping[str, Any], *, round_number: int, rounds: int) -> Options:
    """Replace each schedule `{first: a, last: b}` by its number in this round (linear from round 1 to the last planned)."""
    progress = min(max((round_number - 1) / max(rounds - 1, 1), 0.0), 1.0)
    found = dict(options)
    for name, value in options.items():
        if isinstance(value, Mapping) and set(value) == {"first", "last"}:
            first, last = value["first"], value["last"]
            if not (isinstance(first, int | float) and isinstance(last, int | float)):
                raise ConfigError(f"{name}: first and last must be numbers, not {first!r} and {last!r}")
            found[name] = first + (last - first) * progress
    return found


SHOWN = 20
"""Mistakes of a file that are told at once."""

C = TypeVar("C", bound=BaseModel)


def load_config(path: Path | str, model: type[C]) -> C:
    """Read a YAML file as a `CampaignConfig` or `RoundConfig`; the plug-ins that it names are known, but not imported yet.

    Raises:
        ConfigError: with the file, the line, the key's path and what is expected there.
    """
    document = read_yaml(path)
    config = parse_config(document.values, model, source=document.source, where=document.where)
    faults = []
    for one in config.plugins() if isinstance(config, CampaignConfig | RoundConfig) else ():
        try:
            find(one.kind, one.name)
        except ConfigError as error:
            faults.append(f"{document.where(one.place)}: {error}")
    if faults:
        raise ConfigError(f"{document.source}: " + "; ".join(faults))
    return config


def parse_config(
    raw: Mapping[str, Any], model: type[C], *, source: str = "config", where: Callable[[Place], str] | None = None
) -> C:
    """Check a mapping as a `CampaignConfig` or `RoundConfig`; `source` names it in errors, and `where` a place in it."""
    where = where or (lambda place: ".".join(str(part) for part in place) or "file")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = []
        for fault in error.errors()[:SHOWN]:
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                message = "unknown key; remove it or mend its spelling"
            faults.append(f"{where(fault['loc'])}: {message}")
        if error.error_count() > SHOWN:
            faults.append(f"and {error.error_count() - SHOWN} more")
        raise ConfigError(f"{source}: " + "; ".join(faults)) from error


def preset(name: str) -> Path:
    """Path of a file that ships with labloop, such as `rounds/default.yaml` (the folder config/ of the repository)."""
    here = Path(__file__).parent
    folder = here / "presets" if (here / "presets").is_dir() else here.parent / "config"
    return folder / name
