"""Every key of the YAML files, from the models that check them: type, default, what is written under it."""

from __future__ import annotations

import enum
import types
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from _pages.text import code, first, table
from labloop.config.campaign import CampaignConfig
from labloop.config.round import RoundConfig
from labloop.registry import meanings
from labloop.studies.study_config import StudyConfig

FILES: dict[str, tuple[type[BaseModel], str]] = {
    "The campaign's file": (CampaignConfig, "What `labloop init` and `labloop check` read."),
    "The round's file": (RoundConfig, "What `labloop propose` and `labloop simulate` read."),
    "The study's file": (StudyConfig, "What `labloop study` reads."),
}

WORDS = {
    str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", timedelta: "time, as `5 days`",
    type(None): "`null`",
}  # fmt: skip

OWN = {"type": "Which kind it is.", "schema_version": "Version of the file's format."}
"""What keys say that are the same everywhere."""


def keys() -> str:
    """Write the page."""
    parts = [
        "# Keys of the YAML files",
        "Made from the models that check the files. Unknown keys are refused, with the line. `labloop check` says what it "
        "understood. Where a default is *required*, the key has to be there.",
    ]
    seen: set[type] = set()
    for title, (model, told) in FILES.items():
        parts += [f"## {title}", told]
        for one in _family(model):
            if one not in seen:
                parts += [*([] if one is model else [f"### {name_of(one)}"]), first(one), _table(one)]
            seen.add(one)
    return "\n\n".join(parts) + "\n"


def rows_of(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """Give key, type, default and meaning of each key of a model."""
    meant = meanings(model)
    for name, field in model.model_fields.items():
        yield (code(name), kind_of(field.annotation), default_of(field), meant.get(name) or OWN.get(name) or _of_type(field))


def _of_type(field: FieldInfo) -> str:
    """What a key says that holds a model and says nothing of its own: what the model says."""
    return next((first(one) for one in _models(field.annotation)), "")


def _table(model: type[BaseModel]) -> str:
    return table(("key", "type", "default", "what it says"), rows_of(model))


def default_of(field: FieldInfo) -> str:
    """Say what a key is where it is left out."""
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "*required*"
    if isinstance(value, BaseModel):
        return "see there"
    if isinstance(value, Mapping) and any(isinstance(one, BaseModel) for one in value.values()):
        return f"one of the name {', '.join(map(code, value))}"
    if isinstance(value, Mapping | tuple | list) and not value:
        return "none"
    return code(list(value) if isinstance(value, tuple) else value)


def name_of(model: type) -> str:
    """The name of a model on the page: its `type:` where it has one, as parameters and constraints do."""
    kind = getattr(model, "model_fields", {}).get("type")
    if kind is not None and get_origin(kind.annotation) is Literal:
        return f"{model.__name__} (type: {', '.join(map(str, get_args(kind.annotation)))})"
    return model.__name__


def anchor(model: type) -> str:
    """The anchor that MyST gives a model's heading, as GitHub does."""
    return _slug(name_of(model))


def _slug(title: str) -> str:
    return "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_").replace(" ", "-")


def kind_of(hint: Any) -> str:
    """Say a type in words; models are links to their tables."""
    hint = _bare(hint)
    origin, told = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        own = next((title for title, (model, _) in FILES.items() if model is hint), None)
        return f"[{hint.__name__}](#{_slug(own) if own else anchor(hint)})"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return ", ".join(code(one.value) for one in hint)
    if origin is Literal:
        return " or ".join(code(one) for one in told)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind_of(one) for one in told))
    if origin in (tuple, list, set, frozenset):
        inner = [one for one in told if one is not Ellipsis]
        if origin is tuple and Ellipsis not in told and len(inner) > 1:
            return f"[{', '.join(kind_of(one) for one in inner)}]"
        return f"list of {kind_of(inner[0])}" if inner else "list"
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return f"by name: {kind_of(told[1])}" if told else "mapping"
    return WORDS.get(hint, getattr(hint, "__name__", str(hint)).replace("Any", "any value"))


def _bare(hint: Any) -> Any:
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint


def _family(model: type[BaseModel], found: list[type[BaseModel]] | None = None) -> list[type[BaseModel]]:
    """The model and every model that it holds, each before what it holds; files of their own are told on their own."""
    found = [] if found is None else found
    found.append(model)
    for field in model.model_fields.values():
        for inner in _models(field.annotation):
            if inner not in found and inner not in {one for one, _ in FILES.values()}:
                _family(inner, found)
    return found


def _models(hint: Any) -> Iterator[type[BaseModel]]:
    hint = _bare(hint)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint
    for one in get_args(hint):
        if not isinstance(one, str | int | float):
            yield from _models(one)
