"""When a campaign's rounds run by themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Discriminator, Tag, field_validator, model_validator

from labloop.config.base import Config
from labloop.config.read import load_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, LabloopError
from labloop.runtime.yamlfile import ships


class Calendar(Config):
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


def _lasting(span: timedelta) -> str:
    """Say how long a span is in the largest unit that makes it a whole number, or one with a single decimal."""
    minutes = span / timedelta(minutes=1)
    sizes = [(size, unit) for parts in (1, 10) for size, unit in ((1_440, "day"), (60, "hour")) if parts * minutes % size == 0]
    size, unit = next(iter(sizes), (1, "minute"))
    return f"{minutes / size:.10g} {unit}{'' if minutes == size else 's'}"


RoundFile = Annotated[
    Annotated[RoundConfig, Tag("round")] | Annotated[Path, Tag("file")],
    Discriminator(lambda value: "file" if isinstance(value, str | Path) else "round"),
]


class Schedule(Config):
    """When a campaign's rounds run by themselves, and what a person is asked."""

    rounds: Annotated[tuple[RoundFile, ...], BeforeValidator(_several)] = ()
    """The rounds' files in order (or rounds written out); the last one serves all later rounds, the shipped default where there
    is none. A file is read when its round opens; a relative path is read from the campaign's file, and `config/rounds/first.yaml`
    and its like are those that ship where there is none."""
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

    def anchored(self, folder: Path) -> Self:
        """Read relative paths of rounds from `folder` from now on, but for those of files that ship and are not there."""
        found: list[RoundConfig | Path] = []
        for one in self.rounds:
            if isinstance(one, Path) and ((folder / one).exists() or not ships(one)):
                one = folder.absolute() / one
            found.append(one)
        return self.model_copy(update={"rounds": tuple(found)})

    def each(self, check: Callable[[RoundConfig], object] = lambda _: None) -> None:
        """Read every round that is named, as it is now, and check it.

        Raises:
            ConfigError: a file cannot be read or does not make sense, or `check` says so; with its place in the schedule.
        """
        for i in range(len(self.rounds)):
            try:
                check(self.round(i))
            except LabloopError as error:
                raise ConfigError(f"schedule.rounds.{i}: {error}") from error

    def described(self) -> list[str]:
        """Say in sentences when rounds open, of which files, what a person is asked, and where files go."""
        files = [str(one) if isinstance(one, Path) else "one written out here" for one in self.rounds]
        if len(files) > 1:
            files[-1] += " for all later ones"
        if isinstance(self.start, Calendar):
            following = self.start.after(datetime.now().astimezone())
            when = f"a round opens by cron {self.start.cron!r}, {self.start.timezone}: next on {following:%A %d %B %Y at %H:%M}"
        else:
            measured = self.start == "when_measured"
            when = f"a round opens {'once the last one is measured' if measured else 'when a person says so'}"
        spans = [f"overdue after {_lasting(self.expected)}"] if self.expected else []
        spans += [f"closed after {_lasting(self.deadline)} without the wells that are missing"] if self.deadline else []
        failed = "a person is asked" if self.on_failure == "stop" else "the round goes on without it"
        return [
            f"{when}{''.join(f'; {one}' for one in spans)}",
            f"rounds: {', then '.join(files) or 'the shipped default'}",
            f"{'a person approves each plate' if self.approval else 'nobody is asked before a plate is written'}; "
            f"where a proposer fails three times {failed}",
            f"assay files are taken from {self.inbox}, plates written to {self.out}",
        ]

    def round(self, position: int) -> RoundConfig:
        """Give the configuration of the planned round at a position, counted from 0; its file is read now.

        Raises:
            ConfigError: the file cannot be read or does not make sense.
        """
        if not self.rounds:
            return load_config(preset("rounds/default.yaml"), RoundConfig)
        one = self.rounds[min(position, len(self.rounds) - 1)]
        return load_config(ships(one) or one, RoundConfig) if isinstance(one, Path) else one
