"""What labloop makes of a file, for a person to look at before anything is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from labloop.assays.ingest.assay import describe, marks_of, named_assay, settle, understood
from labloop.assays.ingest.cells import Part
from labloop.assays.ingest.columns import known_names
from labloop.assays.ingest.options import ReadOptions
from labloop.assays.ingest.read import content_of, digest, open_file, printable
from labloop.assays.ingest.several import columns_of_properties, read_properties
from labloop.config.campaign import CampaignConfig
from labloop.errors import IngestError

_SHOWN = ("row", "plate", "well", "design_id", "control", "assay", "value", "qualifier", "unit", "status")
_FIRST = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation:
    """How far a file was understood. What comes after the step that failed is empty."""

    file: str
    reader: str = ""
    what: str = ""
    """What the reader recognised, one line."""
    parts: tuple[Mapping[str, Any], ...] = ()
    """One a table, plate and read: `where`, `plate` and `read` as the file calls them, `rows`, `grid`."""
    dialect: str = ""
    columns: Mapping[str, str] | None = None
    """labloop's columns to the file's."""
    rows: pd.DataFrame | None = None
    """The first rows as understood; as text, where the file has faults."""
    refusal: IngestError | None = None
    """Why the file would be refused; None where it would be stored."""


def explain_assay(
    path: Path | str,
    config: CampaignConfig,
    *,
    wells: pd.DataFrame,
    designs: pd.DataFrame,
    options: ReadOptions | None = None,
) -> Explanation:
    """Read a file as `read_assay` does, and tell what was recognised; a refusal is told, not raised.

    Raises:
        IngestError: the file is not there.
        ConfigError: there is no such reader.
    """
    path, options = Path(path), options or ReadOptions()
    content, name = content_of(path), options.name or printable(path.name)
    told: dict[str, Any] = {"file": name}
    try:
        asked, assay = options.assay, named_assay(config, options.assay, name)
        opened = open_file(content, name, known_names(config, assay), reader=options.reader or config.assays[assay].reader)
        told |= {"reader": opened.reader, "what": opened.what, "parts": tuple(map(_told, opened.parts))}
        columns = columns_of_properties(opened, config, asked, file=name)
        assay, value = next(iter(columns.items()), (assay, None))
        table, found = settle(opened, config, assay, wells=wells, options=options, file=name, value=value)
        marks = marks_of(table, found, config, assay)
        first = pd.DataFrame({one: table.columns[place].cells[:_FIRST] for one, place in found.items()})
        told |= {"dialect": describe(table, found, marks), "columns": found, "rows": first}
        file = (
            read_properties(opened, columns, config, wells=wells, designs=designs, options=options, content=content, file=name)
            if columns
            else understood(
                table, found, config, assay, wells=wells, designs=designs, reader=opened.reader, sha256=digest(content)
            )
        )
        if columns:
            told |= {"dialect": file.dialect, "columns": file.columns}
        rows = file.measurements.sort_values("row", kind="stable") if columns else file.measurements
        shown = [one for one in _SHOWN if columns or one != "assay"]
        told["rows"] = rows[shown].head(_FIRST * max(len(columns), 1)).dropna(axis="columns", how="all")
    except IngestError as error:
        told["refusal"] = error
    return Explanation(**told)


def _told(part: Part) -> dict[str, Any]:
    grid = f"{part.grid[0]} x {part.grid[1]}" if part.grid else None
    return {"where": part.where, "plate": part.plate, "read": part.read, "rows": len(part.table), "grid": grid}
