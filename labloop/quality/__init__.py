"""Quality control of plates: figures, flags, normalisation. Pure functions; `labloop.readings` joins them to the ledger."""

from __future__ import annotations

from labloop.quality.normalise import Agreement, Method, Normalised, normalise
from labloop.quality.plates import (
    ControlLevel,
    Flag,
    PlateQuality,
    Replicates,
    find_flags,
    plate_quality,
    plates_of,
    replicates,
)  # fmt: skip
from labloop.quality.rules import DOWNWEIGHT, MEANING, POLICIES, TRANSFER, Policy, Rule
from labloop.quality.statistics import Effect, Figure

__all__ = [
    "DOWNWEIGHT", "MEANING", "POLICIES", "TRANSFER", "Agreement", "ControlLevel", "Effect", "Figure", "Flag", "Method",
    "Normalised", "PlateQuality", "Policy", "Replicates", "Rule", "find_flags", "normalise", "plate_quality", "plates_of",
    "replicates",
]  # fmt: skip
