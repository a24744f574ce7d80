"""The plates that a lab uses, and what always stands on them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from labloop.plates.wells import LARGEST, SHAPES, parse_well, spot_range, well_name
from labloop.registry import Options, specs
from labloop.runtime.words import PLATE, WORD


def _well(text: str) -> str:
    return well_name(*parse_well(text))


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Spec):
    """A well that a robot takes a liquid from."""

    plate: Annotated[str, Field(pattern=PLATE)]
    """Name of the source plate."""
    well: Annotated[str, AfterValidator(_well)]
    """Its well, such as A1."""


_WANTED = {"use": "say how many wells are used, such as 18, or which, such as A1:C6; leave it out to use all"}


class Control(_Spec):
    """Wells of a plate that hold the same known thing on every plate."""

    name: Annotated[str, Field(pattern=WORD)]
    """Its name on plate maps."""
    wells: int = Field(ge=1)
    """How many wells of each plate."""
    source: Source | None = None
    """Where a robot finds it; worklists need it."""
    role: Literal["positive", "negative", "reference"] | None = None
    """What it is for: Z' takes a positive and a negative control, `percent_of_control` any of the three."""


class Plate(_Spec):
    """The plates, blocks or racks that the lab uses."""

    wells: int = 96
    """6, 12, 24, 48, 96, 384 or 1536; of any other vessel give rows and columns instead."""
    rows: Annotated[int, Field(ge=1, le=LARGEST[0])] | None = None
    """Of a vessel that is no usual plate."""
    columns: Annotated[int, Field(ge=1, le=LARGEST[1])] | None = None
    """Of a vessel that is no usual plate."""
    use: Annotated[int, Field(ge=1)] | tuple[str, ...] | None = None
    """Wells that are used at all: so many, row after row from A1 on, or parts of the plate such as `A1:C6`, `B4`, columns `1-3`
    or rows `A-C`; all, where left out."""
    replicates: int = Field(default=1, ge=1, le=100)
    """Wells that every design gets, spread over the round's plates and over each plate."""
    controls: tuple[Control, ...] = ()
    """What always stands on a plate."""
    edge: Literal["use", "empty"] = "use"
    """`empty`: the outer wells, which dry out first, stay unused."""
    exports: Annotated[dict[str, Options], BeforeValidator(specs)] = Field(default_factory=dict)
    """Order sheets and worklists written with every plate, with their options: `{idt: {}, echo: {volume: 50}}`."""
    source_wells: Literal[6, 12, 24, 48, 96, 384, 1536] | None = None
    """Wells of the plates that designs are ordered in; as many as the plate's own where left out."""

    @model_validator(mode="before")
    @classmethod
    def _told(cls, told: Any) -> Any:
        """Count the wells of a vessel that is given by rows and columns, and take a single part of a plate for a list."""
        if not isinstance(told, Mapping):
            return told
        told = dict(told)
        for key in ("wells", "rows", "columns", "use", "replicates"):
            if isinstance(told.get(key), bool):
                raise ValueError(f"{key}: {str(told[key]).lower()} is no number: {_WANTED.get(key, 'say how many')}")
        if isinstance(told.get("use"), str):
            told["use"] = [told["use"]]
        elif isinstance(told.get("use"), list | tuple):
            told["use"] = [str(one) for one in told["use"]]
        rows, columns = told.get("rows"), told.get("columns")
        if isinstance(rows, int) and isinstance(columns, int):
            told.setdefault("wells", rows * columns)
        return told

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what nobody set, so that plates of an older labloop keep their text."""
        unset = {"rows": None, "columns": None, "use": None, "replicates": 1}
        return {name: value for name, value in handler(self).items() if name not in unset or value != unset[name]}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.rows, self.columns) if self.rows and self.columns else SHAPES[self.wells]

    @cached_property
    def usable(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the wells that `edge` and `use` leave, column after column."""
        rows, columns = self.shape
        ring = int(self.edge == "empty")
        left = [(r, c) for r in range(1 + ring, rows + 1 - ring) for c in range(1 + ring, columns + 1 - ring)]
        if isinstance(self.use, int):
            left = left[: self.use]
        elif self.use is not None:
            wanted = {spot for part in self.use for spot in spot_range(part, self.shape)}
            left = [spot for spot in left if spot in wanted]
        return tuple(sorted(left, key=lambda spot: (spot[1], spot[0])))

    @property
    def capacity(self) -> int:
        """Wells a plate has for designs, after the edge, what is not used, and the controls."""
        return len(self.usable) - sum(control.wells for control in self.controls)

    def designs(self, plates: int) -> int:
        """How many designs so many plates take, each with its replicates."""
        return self.capacity * plates // self.replicates

    @property
    def described(self) -> str:
        """The vessel in words, such as `24 wells (4 x 6), 18 used`."""
        rows, columns = self.shape
        used = "" if len(self.usable) == self.wells else f", {len(self.usable)} used"
        return f"{self.wells} wells ({rows} x {columns}){used}"

    @model_validator(mode="after")
    def _room(self) -> Self:
        if (self.rows is None) != (self.columns is None):
            raise ValueError("give both rows and columns, such as {rows: 4, columns: 6}")
        if self.rows and self.columns and self.wells != self.rows * self.columns:
            raise ValueError(f"wells: {self.wells} are not {self.rows} rows x {self.columns} columns: leave wells out")
        if self.rows is None and self.wells not in SHAPES:
            raise ValueError(
                f"wells: {self.wells} is no usual plate ({', '.join(map(str, SHAPES))}): for a rack of 50 tubes "
                "say plate: {rows: 5, columns: 10}"
            )
        if isinstance(self.use, int) and self.use > len(self.model_copy(update={"use": None}).usable):
            raise ValueError(f"use: {self.use} wells are more than the plate has ({self.described.replace(', ', ' with ')})")
        if self.use is not None and not self.usable:
            raise ValueError("use: names no well that edge leaves")
        if self.capacity < 1:
            raise ValueError("controls and the edge leave no well for a design")
        if self.capacity < self.replicates:
            raise ValueError(
                f"replicates: {self.replicates} wells a design are more than the {self.capacity} that a plate has for designs"
            )
        names = [control.name for control in self.controls]
        if len(set(names)) != len(names):
            raise ValueError("controls must have distinct names")
        return self
