"""The gene-name trap: a spreadsheet takes a name for a date, and `SEPT1` comes back as `1-Sep`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from labloop.assays.ingest.cells import Table, fold
from labloop.config.campaign import CampaignConfig
from labloop.errors import Fault

_MONTH = "jan|feb|mar|mär|mrz|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez"
_MADE = re.compile(rf"[0-9]{{1,2}}[-. /](?:{_MONTH})|(?:{_MONTH})[-. /][0-9]{{1,4}}", re.IGNORECASE)
"""What a spreadsheet makes of a short name such as MARCH2 or 2-3."""
_DATE = re.compile(
    rf"{_MADE.pattern}|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[T ]00:00(?::00)?)?|[0-9]{{1,2}}[-./][0-9]{{1,2}}[-./][0-9]{{2,4}}"
    rf"|[0-9]{{1,2}}[-. /](?:{_MONTH})[-. /][0-9]{{2,4}}",
    re.IGNORECASE,
)
_NAMES = frozenset({"sample", "samplename", "sampleid", "name", "variant", "mutant", "construct", "clone", "gene", "oligo"})
"""Columns that labs keep names in; labloop does not need them, but a name that became a date was changed in other columns too."""
_HINT = "a spreadsheet took a name for a date: mend it at its source, and import that column as text"


def explain_dates(faults: Sequence[Fault], table: Table, found: Mapping[str, str], config: CampaignConfig) -> list[Fault]:
    """Add to each fault of a name that looks like a date where it comes from, and find such names in columns of samples."""
    keys = {found[name] for name in ("plate", "well", "design_id", *config.space.columns) if name in found}
    out = [
        replace(fault, rule=f"{fault.rule} ({_HINT})")
        if fault.column.rpartition(", ")[2] in keys and _DATE.fullmatch(fault.cell)
        else fault
        for fault in faults
    ]
    for name, column in table.columns.items():
        if fold(name) in _NAMES and name not in found.values():
            made = column.spread(pd.Series(column.texts, dtype=object).str.fullmatch(_MADE).to_numpy(dtype=bool))
            out += table.mark(made, name, f"looks like a date: {_HINT}")
    return sorted(out, key=lambda fault: fault.row)
