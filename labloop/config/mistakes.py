"""Mistakes of a file, said as somebody does who does not program: the place as the file has it, what is wanted, what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from pydantic import BaseModel

from labloop.config.base import Place
from labloop.runtime.words import like, said_of, truths


def mistakes(
    faults: Sequence[Mapping[str, Any]], raw: Any, model: type[BaseModel], most: int
) -> tuple[list[tuple[Place, str]], int]:  # fmt: skip
    """Give Pydantic's faults as places of the file and words, one a place; what a list or map holds stands for itself.

    Returns:
        The first `most` of them, and how many there are.
    """
    return said_of(faults, raw, lambda fault: _meant(fault, model), most)


def untrue(raw: Any, config: BaseModel) -> list[tuple[Place, str]]:
    """Tell where a file says true or false and a number was made of it, which no one means."""
    return [
        (place, f"{str(value).lower()} is no number: write one, or quotes around it if it is a name, or leave the key out")
        for place, value in truths(raw)
        if type(_at(config, place)) in (int, float)
    ]


def _meant(fault: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Name the key that an unknown one is nearest to; '' where none is near."""
    if fault["type"] != "extra_forbidden":
        return ""
    *place, key = fault["loc"]
    return like(str(key), _keys(model, tuple(place)))


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


@lru_cache(maxsize=256)
def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """List the keys that may stand at a place of a file."""
    whole = _schema(model)

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


def _at(value: Any, place: Place) -> Any:
    """Give what a checked configuration has at a place of its file; None where it has nothing there."""
    for part in place:
        if isinstance(value, tuple) and not isinstance(part, int) and len(value) == 1:
            value = value[0]  # of a list that was made of a single value
        if isinstance(value, BaseModel) and isinstance(part, str):
            value = getattr(value, part, None)
        elif isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value
