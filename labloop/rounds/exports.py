"""From a batch to the files of vendors and robots."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.errors import BatchError, ConfigError
from labloop.plates.batch import PICK_COLUMNS, Batch, plate_names, short_name, wells_with_samples
from labloop.plates.exporter import Exporter
from labloop.plates.layout import lay_out
from labloop.plates.transfer import TransferPlan
from labloop.plates.wells import SHAPES, well_name
from labloop.registry import Options, create
from labloop.runtime.spreadsheet import csv_bytes
from labloop.seeds import generator

_SHEET_NAME = 31
"""Characters that a workbook's sheet may be named with; plates are named no longer."""


def exported(batch: Batch, config: CampaignConfig, exporters: Mapping[str, Options]) -> dict[str, bytes]:
    """Make the files that exporters want of a batch: name to content; none without exporters.

    With them comes `…_sources.csv`: which design, under which name, stands in which well of which source plate.

    Raises:
        BatchError: the batch is beyond what a vendor or a robot takes; the message names well, design and limit.
        ConfigError: there is no such exporter or option.
    """
    if not exporters:
        return {}
    plan = transfer_plan(batch, config)
    files = {f"{batch.stem}_sources.csv": _sources(plan)}
    for name, options in exporters.items():
        exporter: Exporter = create("exporters", name, options)
        try:
            made = exporter.export(plan)
        except BatchError as error:
            without = f"labloop export {batch.campaign} --for none"
            raise BatchError(f"{error}. The plate's own files come without it: {without}") from error
        files |= {f"{batch.stem}_{ending}": content for ending, content in made.items()}
    return files


def rehearse(config: CampaignConfig, *, plates: int) -> None:
    """Try the campaign's own order sheets and worklists on plates of random designs, so that what they lack shows before a round.

    Raises:
        ConfigError: one of them cannot be made, with why.
    """
    if not config.plate.exports:
        return
    X = config.space.sample(config.plate.designs(plates), generator(config.seed, "rehearsal"))
    designs = config.space.decode(X).set_index(pd.Index(config.space.ids(X), name="design_id"))
    designs = designs[~designs.index.duplicated()]
    picks = pd.DataFrame({"design_id": designs.index}).assign(arm="arm").reindex(columns=list(PICK_COLUMNS))
    plates = min(plates, len(designs))
    wells = lay_out(config.plate, picks, plates=plates, names=plate_names(config.name, 1, plates), seed=config.seed)
    batch = Batch(
        campaign=config.name, round=1, picks=picks, wells=wells, designs=designs, manifest={}, objective=config.objective,
        arms=("arm",), shape=config.plate.shape,
    )  # fmt: skip
    plan = transfer_plan(batch, config)
    for name, options in config.plate.exports.items():
        try:
            create("exporters", name, options).export(plan)
        except BatchError as error:
            raise ConfigError(f"plate.exports.{name}: random designs could not be exported: {error}") from error


def transfer_plan(batch: Batch, config: CampaignConfig) -> TransferPlan:
    """Give every design of a batch its well in a source plate, and every assay well its source."""
    size = config.plate.source_wells or config.plate.wells
    wells = wells_with_samples(batch)
    held = wells.index[wells["design_id"].notna()].to_numpy()
    shape = SHAPES[size] if config.plate.source_wells else config.plate.shape
    stem = short_name(batch.campaign, _SHEET_NAME - len("-R000-S000")) + f"-R{batch.round:02d}"
    source = pd.DataFrame({"source_plate": np.nan, "source_well": np.nan}, index=wells.index, dtype=object)
    turn = pd.factorize(wells.loc[held, "design_id"])[0].tolist()  # replicates of a design are taken from one source well
    source.loc[held, "source_plate"] = [f"{stem}-S{i // size + 1}" for i in turn]
    source.loc[held, "source_well"] = [well_name(i % size // shape[1] + 1, i % size % shape[1] + 1) for i in turn]
    for control in config.plate.controls:
        if control.source is not None:
            mine = wells["control"] == control.name
            source.loc[mine, ["source_plate", "source_well"]] = [control.source.plate, control.source.well]
    named = wells.assign(sample=wells["control"].fillna(wells["sample"]))
    transfers = pd.concat([source, named[["plate", "well", "sample", "design_id", "control"]]], axis=1)
    designs = transfers.loc[held, ["source_plate", "source_well", "sample", "design_id"]].drop_duplicates().reset_index(drop=True)
    # A robot takes up one source plate after the other: first the designs', as they are named, then the controls'.
    turns = {plate: i for i, plate in enumerate(dict.fromkeys([*designs["source_plate"], *source["source_plate"]]))}
    transfers = transfers.sort_values("source_plate", key=lambda plates: plates.map(turns), kind="stable", ignore_index=True)
    told = batch.designs.loc[designs["design_id"]].reset_index(drop=True)
    flanks = {name: (one.five_prime, one.three_prime) for name, one in config.flanks.items()}
    return TransferPlan(
        stem=batch.stem, designs=pd.concat([designs, told], axis=1), transfers=transfers, space=config.space, flanks=flanks,
        source_wells=size, plate_wells=config.plate.wells, shape=shape, unit=config.objective.unit, properties=batch.properties,
    )  # fmt: skip


def _sources(plan: TransferPlan) -> bytes:
    columns = ["source_plate", "source_well", "sample", *plan.space.columns]
    table = plan.designs[columns].astype(object).map(lambda cell: f"{cell:.10g}" if isinstance(cell, float) else str(cell))
    return csv_bytes([columns, *table.itertuples(index=False, name=None)])
