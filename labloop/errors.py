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

from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True)
class FaultGroup:
    """Equal faults together, as text for people."""

    rows: str
    """Such as `3, 5-9`."""
    column: str
    rule: str
    cells: str
    """The distinct cells, the first few."""

    def __str__(self) -> str:
        several = "rows" if {",", "-", "…"} & set(self.rows) else "row"
        return f"{several} {self.rows}, {self.column}: {self.rule} (got {self.cells})"


def grouped(faults: Sequence[Fault]) -> list[FaultGroup]:
    """Put faults of one column that break one rule together, in the order of their first rows."""
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.column.rpartition(", ")[2], fault.rule), []).append(fault)
    return [
        FaultGroup(
            _rows(sorted({fault.row for fault in some})),
            ", ".join([*_first(fault.column.rpartition(", ")[0] for fault in some), column]),  # `well A07, well B01, value`
            rule,
            ", ".join(_first(repr(fault.cell) for fault in some)),
        )
        for (column, rule), some in groups.items()
    ]


_SHOWN = 4
"""Distinct cells, or places of cells, that a group of faults shows."""
_RANGES = 12


def _first(texts: Iterable[str]) -> list[str]:
    distinct = list(dict.fromkeys(filter(None, texts)))
    return distinct if len(distinct) <= _SHOWN else [*distinct[:_SHOWN], "…"]


def _rows(rows: Sequence[int]) -> str:
    """Write `3, 5-9`; of many ranges the first, and how many rows there are."""
    ranges: list[list[int]] = []
    for row in rows:
        if ranges and row == ranges[-1][1] + 1:
            ranges[-1][1] = row
        else:
            ranges.append([row, row])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:_RANGES]]
    return ", ".join(shown) + (f", … ({len(rows):,} rows)" if len(ranges) > _RANGES else "")


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
        groups = grouped(faults)
        shown = "".join(f"\n  {group}" for group in groups[:8])
        super().__init__(message + shown + (f"\n  … and {len(groups) - 8} more" if len(groups) > 8 else ""))


class DesignError(_FaultyTable):
    """Designs that are not of the space; `faults` names each cell."""


class IngestError(_FaultyTable):
    """An assay file that was refused as a whole; `faults` names each cell. Nothing of it was stored."""


def in_one_line(error: BaseException, most: int | None = None) -> str:
    """Give what an error says in one line, cut to so many letters; its kind where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__
