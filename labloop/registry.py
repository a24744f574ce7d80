"""Names to plug-ins: the one place where a name becomes a class, and the only way to reach methods from the core."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from functools import cache, wraps
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Literal, TypeVar, dataclass_transform, get_args
from weakref import WeakSet

import yaml
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as _validated
from pydantic.fields import FieldInfo

from labloop.errors import ConfigError, MethodError
from labloop.runtime.allowance import VARIABLE, allow, allowed
from labloop.runtime.counts import check_count
from labloop.runtime.words import LACKING, Place, like, said_of
from labloop.runtime.yamlfile import yaml_value

Kind = Literal["proposers", "surrogates", "selectors", "labs", "readers", "exporters"]
T = TypeVar("T")
Options = dict[str, Any]
"""A plug-in's options by name."""

PROTOCOLS: dict[Kind, str] = {
    "proposers": "labloop.proposing.protocols:Proposer",
    "surrogates": "labloop.proposing.protocols:Surrogate",
    "selectors": "labloop.proposing.protocols:Selector",
    "labs": "labloop.studies.labs.lab:Lab",
    "readers": "labloop.assays.ingest.reader:Reader",
    "exporters": "labloop.plates.exporter:Exporter",
}
"""What a plug-in of each kind can do: each protocol lives in the room of its noun, and is reached by its name from here."""

SHOWN = 8
"""Mistaken options that are told at once."""
_GIVE = "has to be given (after a slash, as in NAME/option=…, or in the YAML file)"
_MADE: WeakSet[type] = WeakSet()
"""The classes that `plugin` made."""

__all__ = [
    "PROTOCOLS", "Kind", "Options", "allow", "allowed", "available", "create", "describe", "explain", "find", "load",
    "meanings", "parse_plugin", "plugin", "specs",
]  # fmt: skip


@dataclass_transform(frozen_default=True, kw_only_default=True)
def plugin(cls: type[T]) -> type[T]:
    """Make a class a plug-in: a frozen dataclass whose options are checked: unknown ones, and numbers not finite, are refused.

    So is, by `propose` and `select`, an n that is no whole number of designs, 0 or more.
    """
    for verb in ("propose", "select"):
        if inspect.isfunction(asked := vars(cls).get(verb)) and "n" in inspect.signature(asked).parameters:
            setattr(cls, verb, _counting(asked))
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    made: type[T] = _validated(cls, frozen=True, kw_only=True, config=config)  # type: ignore[call-overload,assignment]
    _MADE.add(made)
    return made


def _counting(verb: Callable[..., T]) -> Callable[..., T]:
    """Have a verb refuse an n that counts nothing; one that is left out, or what stands for that, is the verb's own affair."""
    parameters = inspect.signature(verb).parameters
    place, default = [*parameters].index("n"), parameters["n"].default

    @wraps(verb)
    def counted(*given: Any, **named: Any) -> T:
        n = given[place] if place < len(given) else named.get("n", default)
        if n is not default:
            check_count(f"n of {type(given[0]).__name__}.{verb.__name__}", n, least=0, error=ValueError)
        return verb(*given, **named)

    return counted


def available(kind: Kind) -> dict[str, EntryPoint]:
    """List the plug-ins of a kind by name, sorted; nothing is imported."""
    return {entry.name: entry for entry in sorted(_registered(kind), key=lambda entry: entry.name)}


@cache
def _registered(kind: Kind) -> EntryPoints:
    """Ask every installed package once a process: it takes longer than many a command."""
    if kind not in PROTOCOLS:
        raise ConfigError(f"there is no kind of plug-in {kind!r}; there are: {', '.join(PROTOCOLS)}")
    return entry_points(group=f"labloop.{kind}")


def find(kind: Kind, name: str) -> EntryPoint:
    """Find where a plug-in is, by its registered name or by its import path `package.module:Class`; nothing is imported.

    A path is followed into what is registered, and into modules that the user has allowed (see `labloop.runtime.allowance`): a
    file, or a ledger that somebody sent, must not choose which code runs.

    Raises:
        ConfigError: nobody knows the name, or nobody has allowed the module.
    """
    registered = available(kind)
    if name in registered:
        return registered[name]
    module, colon, attribute = name.partition(":")
    if not (colon and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        like = get_close_matches(name.lower(), registered, 1)
        meant = f" (did you mean {like[0]}?)" if like else ""
        raise ConfigError(f"{kind[:-1]} {name!r} is unknown; there are: {', '.join(registered) or 'none'}{meant}")
    if module not in allowed() and name not in {entry.value for entry in registered.values()}:
        raise ConfigError(
            f"{kind[:-1]} {name!r}: its module is not allowed, so it is not imported. A file must not choose what code runs: if "
            f"you trust {module}, say so with --plugins {module}, in {VARIABLE}, or by labloop.registry.allow({module!r})"
        )
    return EntryPoint(name=name, value=name, group=f"labloop.{kind}")


def load(kind: Kind, name: str) -> type[Any]:
    """Import a plug-in's class by its registered name or its import path, see `find`, and prove that it is one of this kind.

    Raises:
        ConfigError: nobody knows the name, nobody has allowed its module, or what is there is no plug-in of this kind.
        MethodError: its packages are not installed.
    """
    entry = find(kind, name)
    try:
        found = entry.load()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "labloop":
            raise ConfigError(f"{kind[:-1]} {name!r} is registered at {entry.value}, where there is nothing") from error
        if entry.module == error.name or entry.module.startswith(f"{error.name}."):
            raise ConfigError(
                f"{kind[:-1]} {name!r}: Python finds no module {error.name!r}: install it, or name its folder in PYTHONPATH"
            ) from error
        raise MethodError(
            f"{kind[:-1]} {name!r} needs the package {error.name!r}: pip install 'labloop-toolkit[models]'"
        ) from error
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{kind[:-1]} {name!r} cannot be imported: {error}") from error
    return _proved(kind, name, found)


def _proved(kind: Kind, name: str, found: object) -> type[Any]:
    """Give what was loaded, if it was made by `plugin` and has the verbs of its kind; called is nothing before that."""
    if not isinstance(found, type) or found not in _MADE:
        raise ConfigError(f"{kind[:-1]} {name!r} is no plug-in: it must be a class made with @labloop.registry.plugin")
    options = {field.name for field in fields(found)}
    verbs = [verb for verb in vars(EntryPoint(name=kind, value=PROTOCOLS[kind], group="").load()) if not verb.startswith("_")]
    if missing := [verb for verb in verbs if verb not in options and not hasattr(found, verb)]:
        raise ConfigError(f"{kind[:-1]} {name!r} is no {kind[:-1]}: it has no {' and no '.join(missing)}; see {PROTOCOLS[kind]}")
    return found


def create(kind: Kind, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """Make a plug-in with these options.

    A method's published settings are `paper: true`, and other options change them; it is then made by its `paper()`.

    Raises:
        ConfigError: an option is unknown or of the wrong type, the message lists the options there are; or there are no published
            settings.
    """
    cls = load(kind, name)
    given = {str(option): value for option, value in (options or {}).items()}
    make = cls
    if "paper" in given and "paper" not in {field.name for field in fields(cls)}:
        asked = given.pop("paper")
        if not isinstance(asked, bool) or (asked and not hasattr(cls, "paper")):
            what = "no published settings are kept" if isinstance(asked, bool) else "write paper: true, or leave it out"
            raise ConfigError(f"{kind[:-1]} {name!r}: {what}")
        make = cls.paper if asked else cls
    known = [field.name for field in fields(cls) if field.init]
    faults: list[tuple[Place, str]] = [
        ((option,), f"write a number, not {str(value).lower()}, or leave it out")
        for option, value in given.items()
        if isinstance(value, bool) and _number(cls, option)
    ]
    try:
        made = make(**given)
    except ValidationError as error:
        faults += said_of(error.errors(), given, lambda fault: _meant(fault, known), most=SHOWN)[0]
    if faults:
        told = "; ".join(f"{'.'.join(map(str, place))}: {said}" if place else said for place, said in faults)
        raise ConfigError(f"{kind[:-1]} {name!r}: {told.replace(LACKING, _GIVE)} (options: {', '.join(known) or 'none'})")
    return made


def _number(cls: type[Any], option: str) -> bool:
    """Say whether an option takes numbers, and not true and false as such."""
    field = cls.__pydantic_fields__.get(option)
    kinds = {one for one in _kinds(None if field is None else field.annotation) if one in (bool, int, float)}
    return bool(kinds) and bool not in kinds


def _kinds(annotation: Any) -> Iterator[type[Any]]:
    """Give the types that an annotation is made of, at any depth."""
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _meant(fault: Mapping[str, Any], known: list[str]) -> str:
    return like(str(fault["loc"][-1]), known) if fault["type"] == "unexpected_keyword_argument" else ""


def describe(kind: Kind, name: str) -> dict[str, Any]:
    """Tell a plug-in's first line of documentation, the space kinds it takes and its options with defaults.

    A method may tell more in class variables: its `family`, its `source` (the paper) and its `cost`; empty where it does not.
    """
    cls = load(kind, name)
    summary = (inspect.getdoc(cls) or "").split("\n", 1)[0]
    options = {field.name: _default(field) for field in fields(cls)}
    told = {key: str(getattr(cls, key, "")) for key in ("family", "source", "cost")}
    return {"name": name, "summary": summary, **told, "kinds": sorted(getattr(cls, "kinds", ())) or ["any"], "options": options}


def _default(field: Field[Any]) -> Any:
    """Tell an option's default; "required" where it has none."""
    default = field.default
    if isinstance(default, FieldInfo):
        default = MISSING if default.is_required() else default.get_default(call_default_factory=True)
    if default is MISSING and field.default_factory is not MISSING:
        default = field.default_factory()
    return "required" if default is MISSING else default


def explain(name: str) -> list[dict[str, Any]]:
    """Tell all of the plug-ins of a name, one of each kind that has one.

    Returns:
        As `describe`, with `kind`; `about`, the paragraphs of its module: what it assumes, its equations, where it differs from
        the paper; `paper`, whether its published settings are known (`Method.paper()`); and `options`, each a dict of `name`,
        `default` ("required" where it has none) and `means`.

    Raises:
        ConfigError: nobody knows the name; the message lists those that are alike.
    """
    every = {kind: available(kind) for kind in PROTOCOLS}
    found = [kind for kind, names in every.items() if name in names or (":" in name and kind == "proposers")]
    if not found:
        alike = get_close_matches(name.lower(), sorted({one for names in every.values() for one in names}), n=3)
        hint = f" (do you mean {' or '.join(alike)}?)" if alike else ""
        raise ConfigError(
            f"there is no method, surrogate, lab, reader or exporter {name!r}{hint}: labloop methods lists them all"
        )
    told = []
    for kind in found:
        cls = load(kind, name)
        said, meant = describe(kind, name), meanings(cls)
        module = inspect.getmodule(cls)
        told.append({
            **said, "kind": kind, "about": [inspect.getdoc(cls) or "", inspect.getdoc(module) or ""],
            "paper": hasattr(cls, "paper"),
            "options": [{"name": one, "default": value, "means": meant.get(one, "")} for one, value in said["options"].items()],
        })  # fmt: skip
    return told


def meanings(cls: type) -> dict[str, str]:
    """Read what is written under each attribute of a class and of its parents, each on one line; nothing without the source."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        body = getattr(_written(one.__module__).get(one.__qualname__), "body", [])
        for node, after in zip(body, [*body[1:], None]):
            said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
            if isinstance(said, str) and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = " ".join(said.split())
    return found


@cache
def _written(module: str) -> dict[str, ast.ClassDef]:
    """Read the classes of a module's source by their qualified names; none where it is built in, or typed into a shell."""

    def classes(body: list[ast.stmt], within: str) -> Iterator[tuple[str, ast.ClassDef]]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield f"{within}{node.name}", node
                yield from classes(node.body, f"{within}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                yield from classes(node.body, f"{within}{node.name}.<locals>.")

    with suppress(KeyError, OSError, TypeError, SyntaxError):
        return dict(classes(ast.parse(inspect.getsource(sys.modules[module])).body, ""))
    return {}


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
            options[key] = yaml_value(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{label!r}: the value of {key} cannot be read: {value[:60]!r}") from error
    return name, options


def specs(value: Any) -> Any:
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
            more = specs(one)
            if twice := found.keys() & more.keys():
                raise ValueError(f"{', '.join(sorted(twice))} is there twice")
            found |= more
        return found
    if isinstance(value, Mapping):
        return {name: options or {} for name, options in value.items()}
    return value
