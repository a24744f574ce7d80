"""YAML files in, checked values out; unknown, double and mistyped keys are refused with their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from labloop.config.base import Place
from labloop.config.tables import with_tables
from labloop.errors import ConfigError
from labloop.registry import find
from labloop.runtime.yamlfile import read_yaml

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
        values = with_tables(document.values, Path(path).parent, document.where)
    except ConfigError as error:
        raise ConfigError(f"{document.source}: {error}") from error
    config = parse_config(values, model, source=document.source, where=document.where)
    faults = [f"{document.where(place)}: {said}" for place, said in config.mistaken()] if hasattr(config, "mistaken") else []
    for one in config.plugins() if hasattr(config, "plugins") else ():
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
    faults: list[str] = []
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        every = error.errors()
        inner = {fault["loc"] for fault in every}
        for fault in every[:SHOWN]:
            deeper = any(len(place) > len(fault["loc"]) and place[: len(fault["loc"])] == fault["loc"] for place in inner)
            if fault["type"] == "too_short" and deeper:  # of what it holds is told already
                continue
            faults.append(f"{where(fault['loc'])}: {_said(fault)}")
        if error.error_count() > SHOWN:
            faults.append(f"and {error.error_count() - SHOWN} more")
        raise ConfigError(f"{source}: " + "; ".join(faults)) from error


def _said(fault: Mapping[str, Any]) -> str:
    """Say a mistake as somebody does who does not program."""
    told = fault.get("ctx", {})
    if fault["type"] == "extra_forbidden":
        return "unknown key; remove it or mend its spelling"
    if fault["type"] == "union_tag_invalid":
        return f"there is no type {told['tag']!r}: take {told['expected_tags']}"
    if fault["type"] == "union_tag_not_found":
        return "say its type: type: NAME is missing"
    return str(fault["msg"]).removeprefix("Value error, ")


def preset(name: str) -> Path:
    """Path of a file that ships with labloop, such as `rounds/default.yaml` (the folder config/ of the repository)."""
    here = Path(__file__).parent.parent
    folder = here / "presets" if (here / "presets").is_dir() else here.parent / "config"
    return folder / name
