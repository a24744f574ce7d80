"""Arms against each other, by measurement alone, with intervals."""

from __future__ import annotations

from labloop.compare.arms import compare
from labloop.compare.plan import Plan
from labloop.compare.results import Comparison

__all__ = ["Comparison", "Plan", "compare"]
