"""What Pydantic finds wrong, said as somebody does who does not program: the place, what is wanted, what is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

Place = tuple[str | int, ...]
"""Keys and positions on the way into what was written."""
NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"
"""How campaigns, arms and studies are named."""
PROPERTY = r"^[A-Za-z][A-Za-z0-9_ -]{0,62}$"
"""How properties are named."""
WORD = r"^[A-Za-z][A-Za-z0-9_-]*$"
"""How arms and controls are named."""
PLATE = r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$"
"""How plates are named that others prepared."""
BASES = "^[ACGT]*$"
"""How DNA is written."""

_LEAD = re.compile(r"^([A-Za-z_]\w*(?=:)|[A-Za-z_]\w*(?:\.\w+)+(?=[: ]))")
"""The place that a rule of the whole file begins its message with."""
LACKING = "is missing: write it"
LONGEST = 40
"""Characters shown of what is there."""

_KEYS, _LIST = "write keys with values, such as {key: value}", "write a list, such as [A, B]"
_WANTED = {
    "int": "write a whole number", "float": "write a number without its unit", "bool": "write true or false",
    "string": "write text", "tuple": _LIST, "list": _LIST, "dict": _KEYS, "model": _KEYS, "mapping": _KEYS,
    "path": "write the name of a file", "finite": "write a finite number",
    "time": "write a span of time, such as 14 days or 36 hours",
}  # fmt: skip
_PATTERNS = {
    NAME: "must begin with a letter and hold letters, digits, _ and - only, 63 at most",
    PROPERTY: "must begin with a letter and hold letters, digits, blanks, _ and - only, 63 at most",
    WORD: "must begin with a letter and hold letters, digits, _ and - only",
    PLATE: "must begin with a letter or a digit and hold letters, digits, blanks, ., _ and - only",
    BASES: "must hold A, C, G and T only",
}
UNKNOWN = {"extra_forbidden": "key", "unexpected_keyword_argument": "option"}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"), "greater_than": ("gt", "more than"), "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}  # fmt: skip


def said_of(
    faults: Sequence[Mapping[str, Any]], raw: Any, meant: Callable[[Mapping[str, Any]], str], most: int
) -> tuple[list[tuple[Place, str]], int]:  # fmt: skip
    """Give Pydantic's faults as places of what was written and words, one a place; what a list or map holds stands for itself.

    Args:
        meant: what an unknown key was meant for, said in brackets; '' where that cannot be told.

    Returns:
        The first `most` of them, and how many there are.
    """
    found: dict[Place, list[tuple[Mapping[str, Any], str]]] = {}
    for fault in faults:
        place, said = _placed(fault, raw)
        found.setdefault(place, []).append((fault, said))
    around = {place[:depth] for place in found for depth in range(len(place))}
    places = [place for place in found if place not in around]
    told = [(place, dict.fromkeys(said + meant(fault) for fault, said in found[place])) for place in places[:most]]
    return [(place, _joined([*said])) for place, said in told], len(places)


def like(key: str, known: Sequence[str]) -> str:
    """Name what a key is nearest to; '' where nothing is near."""
    near = get_close_matches(key, known, n=1, cutoff=0.7)
    return f" (did you mean {near[0]}?)" if near else ""


def _placed(fault: Mapping[str, Any], raw: Any) -> tuple[Place, str]:
    place, said = _within(fault["loc"], raw, lacking=fault["type"] in ("missing", *UNKNOWN)), _said(fault)
    if not place and isinstance(raw, Mapping) and (lead := _LEAD.match(said)):
        parts = tuple(int(part) if part.isdigit() else part for part in lead[1].split("."))
        if parts[0] in raw:
            return parts, said[lead.end() :].removeprefix(":").strip()
    return place, said


def _within(place: Place, raw: Any, *, lacking: bool) -> Place:
    """Keep what of a place the file has: kinds of value and lists that are made of a single value are ours."""
    kept: list[str | int] = []
    for i, part in enumerate(place):
        found = _step(raw, part)
        if not found and not (lacking and i == len(place) - 1):
            continue
        kept.append(part)
        raw = found[0] if found else None
    return tuple(kept)


def _step(raw: Any, part: str | int) -> tuple[Any, ...]:
    """Go down one key or place, also to a name in a list of names and {name: options}; nothing where there is none."""
    if isinstance(raw, Mapping):
        return (raw[part],) if part in raw else ()
    if not isinstance(raw, list | tuple):
        return ()
    if isinstance(part, int):
        return (raw[part],) if part < len(raw) else ()
    return next(((one[part],) for one in raw if isinstance(one, Mapping) and part in one), (None,) if part in raw else ())


def _said(fault: Mapping[str, Any]) -> str:
    told, kind, there = fault.get("ctx", {}), str(fault["type"]), fault.get("input")
    if kind in UNKNOWN:
        return f"unknown {UNKNOWN[kind]}; remove it or mend its spelling"
    if kind == "union_tag_invalid":
        return f"there is no type {told['tag']!r}: take {told['expected_tags']}"
    if kind == "union_tag_not_found":
        return "say its type: type: NAME is missing"
    if kind == "invalid_key":
        return "a key must be text: mend it, or put quotes around it"
    if kind == "missing":
        return LACKING
    if kind == "literal_error":
        return f"write {told['expected']}, not {_shown(there)}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"write {words} {told[key]:g}, not {_shown(there)}"
    if kind == "too_short":
        return f"holds {told['actual_length']}: at least {told['min_length']} are needed"
    if kind == "too_long":
        return f"holds {told['actual_length']}: {told['max_length']} is the most"
    if kind == "string_too_short":
        return f"write text, not {_shown(there)}"
    if kind == "string_pattern_mismatch":
        must = _PATTERNS.get(told["pattern"], f"is not written as it must be ({told['pattern']})")
        return f"{_shown(there)} {must}"
    wanted = _WANTED.get(kind.partition("_")[0])
    if wanted is not None and kind.endswith(("_type", "_parsing", "_from_float", "_attributes_type", "_number")):
        return f"{wanted}, not {_shown(there)}"
    return str(fault["msg"]).removeprefix("Value error, ").replace("Input should be ", "must be ", 1)


def _joined(said: Sequence[str]) -> str:
    """Join what several kinds of value want at one place, what is there once."""
    heads = [one.partition(", not ")[0] for one in said]
    tails = {one.partition(", not ")[2] for one in said}
    if len(said) == 1 or len(tails) != 1 or "" in tails:
        return "; ".join(said)
    return f"{' or '.join([heads[0], *(one.removeprefix('write ') for one in heads[1:])])}, not {tails.pop()}"


def _shown(there: Any) -> str:
    text = "nothing" if there is None else str(there).lower() if isinstance(there, bool) else repr(there)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def truths(raw: Any, place: Place = ()) -> list[tuple[Place, bool]]:
    """List every true and false of a file."""
    if isinstance(raw, bool):
        return [(place, raw)]
    inner = raw.items() if isinstance(raw, Mapping) else enumerate(raw) if isinstance(raw, list | tuple) else ()
    return [found for key, value in inner for found in truths(value, (*place, key))]
