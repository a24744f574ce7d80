"""An assay file from its path to checked measurements, of one assay or of several properties."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from labloop.assays.ingest.assay import AssayFile, named_assay, settle, understood
from labloop.assays.ingest.columns import known_names
from labloop.assays.ingest.options import ReadOptions
from labloop.assays.ingest.read import content_of, digest, open_file, printable
from labloop.assays.ingest.several import columns_of_properties, read_properties
from labloop.config.campaign import CampaignConfig


def read_assay(
    path: Path | str,
    config: CampaignConfig,
    *,
    wells: pd.DataFrame,
    designs: pd.DataFrame,
    options: ReadOptions | None = None,
) -> AssayFile:
    """Read a file as the lab sends it, a row or a grid's cell a well, and check all of it.

    Args:
        wells: what labloop has laid out, one row a well: `round`, `plate`, `well`, `design_id` (NaN for a control) and
            `control` (its name, NaN for a design).
        designs: designs that labloop knows: the space's columns, by `design_id`.
        options: what a person says that the file may leave open: its assay, its reader, which read and which plate is meant.

    Raises:
        IngestError: with every fault at once, each with the line of the file and the lab's own column name.
        ConfigError: there is no such reader.
    """
    path, options = Path(path), options or ReadOptions()
    content, name = content_of(path), options.name or printable(path.name)
    asked, assay = options.assay, named_assay(config, options.assay, name)
    opened = open_file(content, name, known_names(config, assay), reader=options.reader or config.assays[assay].reader)
    if columns := columns_of_properties(opened, config, asked, file=name):
        return read_properties(opened, columns, config, wells=wells, designs=designs, options=options, content=content, file=name)
    table, found = settle(opened, config, assay, wells=wells, options=options, file=name)
    return understood(table, found, config, assay, wells=wells, designs=designs, reader=opened.reader, sha256=digest(content))
