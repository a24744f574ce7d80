"""What the parts of a configuration share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from labloop.registry import Kind, Options, specs
from labloop.runtime.words import NAME, Place

__all__ = ["NAME", "Config", "Named", "Place", "Plugin", "Plugins", "named"]


class Config(BaseModel):
    """What every part of a configuration is: values that do not change, unknown keys refused, and numbers that JSON can hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Plugins = Annotated[dict[str, Options], BeforeValidator(specs), Field(min_length=1)]
Plugin = Annotated[dict[str, Options], BeforeValidator(specs), Field(min_length=1, max_length=1)]


@dataclass(frozen=True)
class Named:
    """A plug-in that a configuration names."""

    kind: Kind
    name: str
    options: Options
    place: Place


def named(kind: Kind, plugins: Mapping[str, Options], *place: str | int) -> list[Named]:
    """List plug-ins with where they stand."""
    return [Named(kind, name, options, (*place, name)) for name, options in plugins.items()]
