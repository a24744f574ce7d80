"""YAML files in, checked values out; unknown, double and mistyped keys are refused with their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from labloop.config.base import Place
from labloop.config.mistakes import mistakes, untrue
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
    raw: Mapping[str, Any], model: type[C], *, source: str = "config", where: Callable[[Place], str] | None = None
) -> C:
    """Check a mapping as a `CampaignConfig` or `RoundConfig`; `source` names it in errors, and `where` a place in it."""
    where = where or (lambda place: ".".join(str(part) for part in place) or "file")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        every = mistakes(error.errors(), raw, hint=lambda fault: _meant(fault, model, raw))
        faults = [f"{where(place)}: {said}" for place, said in every[:SHOWN]]
        if len(every) > SHOWN:
            faults.append(f"and {len(every) - SHOWN} more")
        if kind := _other(raw, model):
            faults = [f"this is a {kind} file, which stands in another place of the command"]
        raise ConfigError(f"{source}: " + "; ".join(faults)) from error


def _other(raw: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Say of which kind a file is that is not of the kind that was asked for: '' where that cannot be told."""
    own = model.model_fields
    if "arms" in own and "arms" not in raw and {"space", "objective"} & raw.keys():
        return "campaign's"
    return "round's" if "space" in own and "space" not in raw and "arms" in raw else ""


def _meant(fault: Mapping[str, Any], model: type[BaseModel], raw: Mapping[str, Any]) -> str:
    """Name the key that an unknown one is nearest to; '' where none is near."""
    if fault["type"] != "extra_forbidden":
        return ""
    *place, key = fault["loc"]
    like = get_close_matches(str(key), _keys(model, tuple(place)), n=1, cutoff=0.7)
    return f" (did you mean {like[0]}?)" if like else ""


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """List the keys that may stand at a place of a file."""
    whole = model.model_json_schema()

    def plain(node: Any) -> Iterator[dict[str, Any]]:
        if "$ref" in node:
            node = whole["$defs"][node["$ref"].rpartition("/")[2]]
        choices = [one for name in ("anyOf", "oneOf", "allOf") for one in node.get(name, ())]
        for one in choices:
            yield from plain(one)
        if not choices:
            yield node

    nodes = list(plain(whole))
    for part in place:
        below: list[dict[str, Any]] = []
        for node in nodes:
            more = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
            inner = node.get("properties", {}).get(part, more if isinstance(more, dict) else None)
            inner = node.get("items") if isinstance(part, int) else inner
            below += plain(inner) if isinstance(inner, dict) else []
        if not below:  # the name of a kind of value, which stands in a key `type` of the file
            below = [node for node in nodes if node.get("properties", {}).get("type", {}).get("const", part) == part]
        nodes = below
    return sorted({name for node in nodes for name in node.get("properties", {})})


def preset(name: str) -> Path:
    """Path of a file that ships with labloop, such as `rounds/default.yaml` (the folder config/ of the repository)."""
    here = Path(__file__).parent.parent
    folder = here / "presets" if (here / "presets").is_dir() else here.parent / "config"
    return folder / name
