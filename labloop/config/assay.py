"""How an assay's files are read, and what becomes of its readings."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from labloop.config.base import Config
from labloop.config.policies import POLICIES, Method, Policy, Rule

ROLES = ("value", "unit", "round", "plate", "well", "design_id", "sample", "status", "measured_at", "note")
"""Columns that labloop understands besides those of the design space."""


def assay_options(assays: Iterable[str]) -> str:
    """Write how a command is told whose readings a file holds: an option, or several to choose from."""
    return " or ".join(f"--assay {shlex.quote(one)}" for one in assays)


class Assay(Config):
    """How one assay's files are read."""

    columns: dict[str, str] = Field(default_factory=dict)
    """labloop's column to the lab's: `value`, `plate`, `well`, `design_id`, design columns, `unit`, `measured_at`, `note`."""
    units: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Accepted units and the factor that turns each into the objective's unit."""
    low: float | None = None
    """Lowest plausible value; one below stops the file."""
    high: float | None = None
    """Highest plausible value; one above stops the file."""
    read: Annotated[str, BeforeValidator(lambda read: str(read) if isinstance(read, int) else read)] | None = None
    """The read to take from files that hold several, such as `450`."""
    decimal: Literal[".", ","] | None = None
    """The decimal mark, for files whose numbers do not show it (`1.234` alone can be a thousand)."""
    reader: str | None = None
    """The reader to use, where several know the lab's files."""
    normalise: Method = "none"
    """How plates are put on one scale when the dataset is taken, in the lab's unit; see `labloop.assays.quality.normalise`."""
    quality: dict[Rule, Policy] = Field(default_factory=dict)
    """What becomes of readings that quality control flags, by rule, where it is not what `labloop.config.policies` says."""

    @property
    def policies(self) -> dict[Rule, Policy]:
        """Every rule's policy."""
        return {**POLICIES, **self.quality}
