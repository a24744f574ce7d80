"""A file's cells as text, before anything is known of their meaning: what every reader gives, and all that later steps see."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from labloop.errors import Fault
from labloop.runtime.spreadsheet import plain
from labloop.types import Array

Mark = Literal[".", ","]


@dataclass(frozen=True, eq=False)
class Column:
    """One column of text: its distinct cells, stripped, and for each row the place of its cell among them.

    Cells repeat (plates, units, replicates), so everything that is worked out once a distinct text is spread to the rows.
    """

    texts: Array
    """(k,) distinct texts."""
    codes: Array
    """(n,) for each row an index into `texts`."""

    @classmethod
    def of(cls, cells: Sequence[str]) -> Column:
        codes, raw = pd.factorize(np.array(cells, dtype=object))
        bare = [text.strip() for text in raw.tolist()]
        stripped = np.array([plain(text).strip() if text[:1] == "'" else text for text in bare], dtype=object)
        if (stripped == raw).all():
            return cls(raw, codes)
        again, texts = pd.factorize(stripped)
        return cls(texts, again[codes])

    def spread(self, values: Array) -> Array:
        """Give each row the value of its text: (k,) to (n,)."""
        return values[self.codes]

    @property
    def cells(self) -> Array:
        """The text of every row, (n,)."""
        return self.texts[self.codes]

    @property
    def given(self) -> Array:
        """Whether each row has any text here, (n,) bool."""
        return (self.texts != "")[self.codes]

    def take(self, rows: Array) -> Column:
        """Keep only these rows."""
        return Column(self.texts, self.codes[rows])


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """Rows of text under the lab's own column names. Blank rows are left out."""

    name: str
    """The file's name without its folder."""
    columns: Mapping[str, Column]
    """By the lab's own name, in the file's order; columns without a name are left out."""
    lines: Array
    """(n,) the line (or the sheet's row) on which each row starts, as an editor counts."""
    form: str
    """How the cells were written, for people: `UTF-8, comma-separated`."""
    delimiter: str = ","
    """What stands between the cells. A lone `1,234` between commas has a decimal comma only if it was quoted."""
    decimal: Mark | None = None
    """The decimal mark, where the reader knows it; None where the cells have to show it."""
    typed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By column, numbers with a mark that a spreadsheet holds as text: nobody knows what point and comma mean in them."""
    places: Array | None = None
    """(n,) where on the line each row stands, for rows that share one: `well A07`, `sheet P1`."""
    faults: tuple[Fault, ...] = ()
    """Such as rows with more fields than the header has."""
    remarks: tuple[str, ...] = ()
    """What a person should know although it is no fault."""

    def __len__(self) -> int:
        return len(self.lines)

    def mark(self, rows: Array, column: str, rule: str, *values: Array) -> list[Fault]:
        """Make a fault of each of these rows (indices or a mask); each `{}` in the rule is filled from one of `values` (n,)."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if not len(rows):
            return []
        cells = self.columns[column].cells[rows].tolist() if column in self.columns else [""] * len(rows)
        names = [column] * len(rows) if self.places is None else [f"{place}, {column}" for place in self.places[rows]]
        filled = zip(*(value[rows].tolist() for value in values)) if values else [()] * len(rows)
        rules = [rule.format(*one) if values else rule for one in filled]
        return [Fault(line, name, text, cell) for line, name, text, cell in zip(self.lines[rows].tolist(), names, rules, cells)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """One table of a file, and what the file says about it. A long CSV has one; a plate reader's export one a plate and read."""

    table: Table
    where: str
    """Where it stands in the file, for people: `lines 12-20`, `sheet P1`."""
    grid: tuple[int, int] | None = None
    """Rows and columns that the plate's picture reaches to; its table then has just the columns `well` and `value`."""
    read: str | None = None
    """The file's name for what was measured, such as `450` or `Raw Data (600)`; None where it has none."""
    plate: str | None = None
    """The file's name for the plate; None where it has none."""
    firm: bool = False
    """Whether `plate` was meant as the plate's own name; `Plate 1` and the name of a sheet need not be."""
    texts: tuple[str, ...] = ()
    """Text in which the plate's name may stand, nearest first: the lines above it, the name of its sheet."""


def fold(name: str) -> str:
    """Fold a column's name, so that `Measured at`, `measured_at` and `MEASURED-AT` are one."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def count(n: int, what: str) -> str:
    """Write `1 row`, `2 rows`."""
    return f"{n} {what}" + ("" if n == 1 else "s")


def listed(names: Iterable[str], most: int = 6) -> str:
    """List the first names for a message, with an ellipsis where there are more."""
    names = list(names)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
