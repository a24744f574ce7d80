"""Names to plug-ins: the one place where a name becomes a class, and the only way to reach methods from the core."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Literal, TypeVar, dataclass_transform

import yaml
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as _validated

from labloop.errors import ConfigError, MethodError

Kind = Literal["proposers", "surrogates", "selectors", "labs", "readers", "exporters"]
T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def plugin(cls: type[T]) -> type[T]:
    """Make a class a plug-in: a frozen dataclass whose options are checked, unknown ones refused."""
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return _validated(cls, frozen=True, kw_only=True, config=config)  # type: ignore[call-overload,no-any-return,return-value]


def available(kind: Kind) -> dict[str, EntryPoint]:
    """List the plug-ins of a kind by name, sorted; nothing is imported."""
    return {entry.name: entry for entry in sorted(_registered(kind), key=lambda entry: entry.name)}


@cache
def _registered(kind: Kind) -> EntryPoints:
    """Ask every installed package once a process: it takes longer than many a command."""
    return entry_points(group=f"labloop.{kind}")


def load(kind: Kind, name: str) -> type[Any]:
    """Import a plug-in's class by its registered name, or by its import path `package.module:Class`.

    Raises:
        ConfigError: nobody knows the name.
        MethodError: its packages are not installed.
    """
    entry = available(kind).get(name)
    if entry is None and ":" in name:
        entry = EntryPoint(name=name, value=name, group=f"labloop.{kind}")
    if entry is None:
        raise ConfigError(f"{kind[:-1]} {name!r} is unknown; there are: {', '.join(available(kind)) or 'none'}")
    try:
        return entry.load()  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("labloop"):
            raise ConfigError(f"{kind[:-1]} {name!r} is registered at {entry.value}, where there is nothing") from error
        raise MethodError(
            f"{kind[:-1]} {name!r} needs the package {error.name!r}: pip install 'labloop-toolkit[models]'"
        ) from error
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{kind[:-1]} {name!r} cannot be imported: {error}") from error


def create(kind: Kind, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """Make a plug-in with these options.

    Raises:
        ConfigError: an option is unknown or of the wrong type; the message lists the options there are.
    """
    cls = load(kind, name)
    try:
        return cls(**(options or {}))
    except ValidationError as error:
        known = ", ".join(field.name for field in fields(cls))
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {_said(fault['type'], fault['msg'])}" for fault in error.errors()
        )
        raise ConfigError(f"{kind[:-1]} {name!r}: {faults} (options: {known or 'none'})") from error


def _said(type_: str, message: str) -> str:
    return "has to be given (after a slash, as in NAME/option=…, or in the YAML file)" if type_ == "missing" else message


def describe(kind: Kind, name: str) -> dict[str, Any]:
    """Tell a plug-in's first line of documentation, the space kinds it takes and its options with defaults."""
    cls = load(kind, name)
    summary = (inspect.getdoc(cls) or "").split("\n", 1)[0]
    options = {field.name: "required" if field.default is MISSING else field.default for field in fields(cls)}
    return {"name": name, "summary": summary, "kinds": sorted(getattr(cls, "kinds", ())) or ["any"], "options": options}


def parse_plugin(label: str) -> tuple[str, dict[str, Any]]:
    """Split `name/option=value/option=value` into the name and its options, values read as YAML.

    Raises:
        ConfigError: an option has no value, or one that is not YAML.
    """
    name, *parts = label.split("/")
    options = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not (key and equals):
            raise ConfigError(f"{label!r}: write options as name/option=value, not {part!r}")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{label!r}: the value of {key} cannot be read: {value!r}") from error
    return name, options
