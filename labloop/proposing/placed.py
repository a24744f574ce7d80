"""Designs that people listed, put one after the other into the parts of a round's plates within its limits and its budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from labloop.proposing.terms import Terms
from labloop.space.parameter import canonical_text

Level = str | int | float
Key = tuple[int, tuple[int, ...]]
"""Position of a resource, and one of its scopes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Placement:
    """Where designs lie so far: levels and totals that they have taken."""

    terms: Terms
    room: list[int]
    """Designs that each part still takes."""
    levels: dict[tuple[str, int, tuple[int, ...]], list[Level]] = field(default_factory=dict)
    """Values of a parameter in one scope of a limit, by the parameter, the limit's `id` and the scope."""
    left: dict[Key, float] = field(default_factory=dict)
    open: dict[Key, int] = field(default_factory=dict)
    """Designs that are still to come in a scope: each of them takes the least there is."""

    @classmethod
    def of(cls, terms: Terms, n: int) -> Placement:
        """Begin with the empty plates of a round of n designs."""
        room = [len(part.wells) // terms.replicates for part in terms.parts] if terms.placed else [n]
        begun = cls(terms=terms, room=room)
        for r, resource in enumerate(terms.resources):
            for i, size in enumerate(terms.sizes(n)):
                key = (r, terms.scope(resource.limit, i))
                begun.left[key] = resource.total
                begun.open[key] = begun.open.get(key, 0) + size
        return begun

    def place(self, designs: pd.DataFrame) -> list[int | str]:
        """Put the designs of a table into parts, the first first; gives the part of each, or why it finds no place."""
        amounts = [resource.amounts(designs) for resource in self.terms.resources]
        found: list[int | str] = []
        for i, row in enumerate(designs.to_dict("records")):
            takes = [float(one[i]) for one in amounts]
            why = [self._refusal(part, row, takes) for part in range(len(self.room))]
            fits = [part for part, reason in enumerate(why) if reason is None]
            if not fits:
                found.append(next((one for one in reversed(why) if one and one != FULL), FULL))
                continue
            part = min(fits, key=lambda part: (self._new_levels(part, row), -self.room[part], part))
            self._take(part, row, takes)
            found.append(part)
        return found

    def _refusal(self, part: int, row: Mapping[Any, Any], takes: list[float]) -> str | None:
        if self.room[part] < 1:
            return FULL
        for name, limit in self.terms.levels:
            values = self.levels.get((name, id(limit), self.terms.scope(limit, part)), [])
            known = list(map(canonical_text, values))
            if canonical_text(row[name]) not in known and len(known) >= (limit.at_most or 0):
                most = f"the {limit.at_most} that a {limit.per} may have of {name}"
                return f"{name} {canonical_text(row[name])} is one value more than {most} (before it: {', '.join(known)})"
        for r, (resource, amount) in enumerate(zip(self.terms.resources, takes, strict=True)):
            key = (r, self.terms.scope(resource.limit, part))
            if amount > self.left[key] - resource.least * (self.open[key] - 1) + 1e-9:
                per = f"a {resource.limit.per}" if resource.limit else "the budget"
                left = f"those before it, and the least that all others take, leave of {resource.total:g} for {per}"
                return f"takes {amount:g} of {resource.label}, more than {left}"
        return None

    def _new_levels(self, part: int, row: Mapping[Any, Any]) -> int:
        there = (
            (name, self.levels.get((name, id(limit), self.terms.scope(limit, part)), [])) for name, limit in self.terms.levels
        )
        return sum(canonical_text(row[name]) not in map(canonical_text, values) for name, values in there)

    def _take(self, part: int, row: Mapping[Any, Any], takes: list[float]) -> None:
        self.room[part] -= 1
        for name, limit in self.terms.levels:
            values = self.levels.setdefault((name, id(limit), self.terms.scope(limit, part)), [])
            if canonical_text(row[name]) not in map(canonical_text, values):
                values.append(row[name])
        for r, amount in enumerate(takes):
            key = (r, self.terms.scope(self.terms.resources[r].limit, part))
            self.left[key] -= amount
            self.open[key] -= 1

    def rest(self, n: int) -> list[int]:
        """Spread n further designs over the parts, evenly as far as there is room."""
        sizes = [0] * len(self.room)
        while sum(sizes) < n:
            free = [i for i in range(len(sizes)) if sizes[i] < self.room[i]]
            sizes[min(free, key=lambda i: (sizes[i] / self.room[i], i))] += 1
        return sizes


FULL = "finds no free place on the round's plates"


def columns_of(terms: Terms) -> str:
    """Name what the terms speak of, for a fault that is of a whole row."""
    names = [name for name, _ in terms.levels] + [one.label for one in terms.resources]
    return ", ".join(dict.fromkeys(np.array(names, dtype=object).tolist()))
