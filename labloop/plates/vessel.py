"""The plates that a lab uses, and what always stands on them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from labloop.plates.wells import parse_well, well_name
from labloop.registry import Options, specs


def _well(text: str) -> str:
    return well_name(*parse_well(text))


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Spec):
    """A well that a robot takes a liquid from."""

    plate: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
    well: Annotated[str, AfterValidator(_well)]


class Control(_Spec):
    """Wells of a plate that hold the same known thing on every plate."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    wells: int = Field(ge=1)
    """How many wells of each plate."""
    source: Source | None = None
    """Where a robot finds it; worklists need it."""
    role: Literal["positive", "negative", "reference"] | None = None
    """What it is for: Z' takes a positive and a negative control, `percent_of_control` any of the three."""


class Plate(_Spec):
    """The plates that the lab uses."""

    wells: Literal[96, 384] = 96
    controls: tuple[Control, ...] = ()
    edge: Literal["use", "empty"] = "use"
    """`empty`: the outer wells, which dry out first, stay unused."""
    exports: Annotated[dict[str, Options], BeforeValidator(specs)] = Field(default_factory=dict)
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
