"""The error tree.

LabloopError
├── SpaceError      a design space that cannot exist, or has too few designs left
├── DesignError     designs that are not of the space (carries a fault per cell)
├── ConfigError     a campaign or round file that does not make sense
├── IngestError     an assay file that was refused (carries a fault per cell)
├── CampaignError   a verb that the campaign's state does not allow
├── LedgerError     the ledger cannot be opened, read or written
├── QualityError    readings that cannot be normalised as the campaign declares
├── BatchError      a plate or batch that cannot be made as asked
└── MethodError     a proposer, surrogate, selector or lab that cannot do what was asked

Everything here is something a user can mend: the message names the place and the next step. A programmer's mistake raises a
built-in exception instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one cell of a table that a person gave us.

    `row` counts as the person's editor does: the line of the file where known, else the data row counted from 1.
    """

    row: int
    column: str
    rule: str
    cell: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.column}: {self.rule} (got {self.cell!r})"


class LabloopError(Exception):
    """Something the user can mend; the message says where it is and what to do next."""


class SpaceError(LabloopError):
    """A design space that cannot exist, or that has fewer designs left than asked for."""


class ConfigError(LabloopError):
    """A campaign or round file that does not make sense."""


class CampaignError(LabloopError):
    """A verb that the campaign's present state does not allow."""


class LedgerError(LabloopError):
    """The ledger cannot be opened, read or written."""


class QualityError(LabloopError):
    """Readings that cannot be normalised as the campaign declares; the message has the figures and what to write instead."""


class BatchError(LabloopError):
    """A plate or batch that cannot be made as asked."""


class MethodError(LabloopError):
    """A proposer, surrogate, selector or lab that cannot do what was asked of it."""


class _FaultyTable(LabloopError):
    """An error over a table, with every fault at once."""

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        self.summary = message
        self.faults = tuple(faults)
        shown = "".join(f"\n  {fault}" for fault in self.faults[:8])
        more = f"\n  … and {len(self.faults) - 8} more" if len(self.faults) > 8 else ""
        super().__init__(message + shown + more)


class DesignError(_FaultyTable):
    """Designs that are not of the space; `faults` names each cell."""


class IngestError(_FaultyTable):
    """An assay file that was refused as a whole; `faults` names each cell. Nothing of it was stored."""
