"""The comparison as it is handed on: its figures, its sentence for people, and both as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from labloop.compare.figures import (
    AgainstFree,
    ArmSummary,
    Calibration,
    Difference,
    Figures,
    Hits,
    Measure,
    Overlap,
    Scope,
    spell,
)
from labloop.compare.sentence import sentence

__all__ = [
    "AgainstFree", "ArmSummary", "Calibration", "Comparison", "Difference", "Hits", "Measure", "Overlap", "Scope", "spell",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Comparison(Figures):
    """Everything that can honestly be said about the arms of these rounds."""

    @property
    def sentence(self) -> str:
        """Say which arm is better, or whose designs on these plates, or that the data cannot decide. For people."""
        return sentence(self)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON types; a number that is not finite is None."""
        return _plain({"sentence": self.sentence, **asdict(self), "objective": self.objective.model_dump()})  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
