"""YAML files in, checked values out; unknown, double and mistyped keys are refused with their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from labloop.config.base import Place
from labloop.config.mistakes import mistakes, untrue
from labloop.config.tables import files_of, with_tables
from labloop.errors import ConfigError
from labloop.registry import find
from labloop.runtime.yamlfile import at_hand, read_yaml, shipped

C = TypeVar("C", bound=BaseModel)

SHOWN = 20
"""Mistakes of a file that are told at once."""


def load_config(path: Path | str, model: type[C]) -> C:
    """Read a YAML file as a `CampaignConfig` or `RoundConfig`; the plug-ins that it names are known, but not imported yet.

    Raises:
        ConfigError: with the file, the line, the key's path and what is expected there.
    """
    document = read_yaml(path)
    try:
        values = with_tables(document.values, at_hand(path).parent, document.where)
    except ConfigError as error:
        raise ConfigError(f"{document.source}: {error}") from error
    config = parse_config(values, model, source=document.source, where=document.where, files=files_of(document.values))
    mistaken = [*untrue(values, config), *(config.mistaken() if hasattr(config, "mistaken") else ())]
    faults = [f"{document.where(place)}: {said}" for place, said in mistaken]
    for one in config.plugins() if hasattr(config, "plugins") else ():
        try:
            find(one.kind, one.name)
        except ConfigError as error:
            faults.append(f"{document.where(one.place)}: {error}")
    if faults:
        raise ConfigError(f"{document.source}: " + "; ".join(faults))
    return config


def parse_config(
    raw: Mapping[str, Any], model: type[C], *, source: str = "config", where: Callable[[Place], str] | None = None,
    files: Mapping[str, str] | None = None,
) -> C:  # fmt: skip
    """Check a mapping as a `CampaignConfig` or `RoundConfig`; `source` names it in errors, `where` a place in it, and `files` the
    tables beside it, see `files_of`."""
    where = where or (lambda place: ".".join(str(part) for part in place) or "file")
    try:
        return model.model_validate(raw, context=files)
    except ValidationError as error:
        if kind := _other(raw, model):
            raise ConfigError(f"{source}: this is a {kind} file, which stands in another place of the command") from error
        told, n = mistakes(error.errors(), raw, model, SHOWN)
        faults = [f"{where(place)}: {said}" for place, said in told]
        if n > SHOWN:
            faults.append(f"and {n - SHOWN} more")
        raise ConfigError(f"{source}: " + "; ".join(faults)) from error


def _other(raw: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Say of which kind a file is that is not of the kind that was asked for: '' where that cannot be told."""
    own = model.model_fields
    if "arms" in own and "arms" not in raw and {"space", "objective"} & raw.keys():
        return "campaign's"
    return "round's" if "space" in own and "space" not in raw and "arms" in raw else ""


def preset(name: str) -> Path:
    """Path of a file that ships with labloop, such as `rounds/default.yaml` (the folder config/ of the repository)."""
    return shipped(name)
