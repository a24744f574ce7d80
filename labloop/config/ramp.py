"""Options that change over the planned rounds: caution is scheduled here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labloop.errors import ConfigError
from labloop.registry import Options


def ramped(options: Mapping[str, Any], *, round_number: int, rounds: int) -> Options:
    """Replace each schedule `{first: a, last: b}` by its number in this round (linear from round 1 to the last planned)."""
    progress = min(max((round_number - 1) / max(rounds - 1, 1), 0.0), 1.0)
    found = dict(options)
    for name, value in options.items():
        if isinstance(value, Mapping) and set(value) == {"first", "last"}:
            first, last = value["first"], value["last"]
            if not (isinstance(first, int | float) and isinstance(last, int | float)):
                raise ConfigError(f"{name}: first and last must be numbers, not {first!r} and {last!r}")
            found[name] = first + (last - first) * progress
    return found
