"""How a start file is understood, before there is a campaign that it could be ingested into."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from labloop.assays.ingest import explain_assay, read_assay
from labloop.assays.readings import MEASURED
from labloop.config.campaign import CampaignConfig
from labloop.errors import IngestError
from labloop.proposing.dataset import Dataset
from labloop.registry import create

BEST = 3
ENOUGH = 12
"""Measured designs from which descriptors are compared."""


def start_file(path: Path | str, config: CampaignConfig) -> tuple[dict[str, Any], IngestError | None]:
    """Read a file as the first `ingest` would and tell what was understood, as plain values; nothing is stored.

    Returns:
        `file`, `reader`, `what`, `read_as`, `columns` (labloop's to the file's), and of a file that would be taken `rows`,
        `designs`, `measured`, `failed`, `outside` (designs that the space's rules would not let be proposed), `units` by assay,
        `range` of the objective's values, the `best` three designs, and `sees`: by what is seen of options and letters, how well
        a Gaussian process predicts designs that are left out, `correlation` and log `density`, where there is anything to choose;
        and why it would be refused, with every fault by its row.

    Raises:
        IngestError: the file is not there.
    """
    nobody: dict[str, Any] = {
        "wells": pd.DataFrame(columns=["round", "plate", "well", "design_id", "control"]),
        "designs": pd.DataFrame(columns=list(config.space.columns), index=pd.Index([], name="design_id")),
    }
    told = explain_assay(path, config, **nobody)
    found: dict[str, Any] = {
        "file": told.file, "reader": told.reader, "what": told.what, "read_as": told.dialect, "columns": dict(told.columns or {}),
        "refused": None if told.refusal is None else str(told.refusal),
    }  # fmt: skip
    if told.refusal is not None:
        return found, told.refusal
    file = read_assay(path, config, **nobody)
    rows = file.measurements
    good = rows[rows["status"].isin(MEASURED) & rows["value"].notna()]
    values = good.loc[good["assay"] == config.objective.assay]
    found |= {
        "rows": len(rows), "designs": len(file.designs), "measured": len(good), "failed": len(rows) - len(good),
        "outside": int((~file.designs["in_space"].astype(bool)).sum()),
        "units": {str(name): str(some["unit"].iloc[0]) for name, some in rows.groupby("assay", sort=False)},
        "range": [float(values["value"].min()), float(values["value"].max())] if len(values) else None,
        "best": _best(values, file.designs, config),
        "sees": _sees(values, file.designs, config),
    }  # fmt: skip
    return found, None


def _best(values: pd.DataFrame, designs: pd.DataFrame, config: CampaignConfig) -> list[dict[str, Any]]:
    """The best three designs by the mean of their readings, each with the rows that they stand in."""
    by = values.groupby("design_id", sort=False).agg(value=("value", "mean"), rows=("row", list)).reset_index()
    y = config.objective.to_y(by["value"].to_numpy(float))
    best = by.iloc[np.argsort(-y, kind="stable")[:BEST]].merge(designs, on="design_id", how="left")
    return [
        {"row": ", ".join(str(int(row)) for row in one["rows"][:4]), **{name: one[name] for name in config.space.columns},
         "value": float(one["value"])}
        for one in best.to_dict("records")
    ]  # fmt: skip


class Compares(Protocol):
    """A surrogate that can tell what each set of descriptors is worth to it."""

    def compare(self, data: Dataset, *, seed: int) -> dict[str, dict[str, float]]: ...


def _sees(values: pd.DataFrame, designs: pd.DataFrame, config: CampaignConfig) -> dict[str, dict[str, float]]:
    """How well each set of descriptors predicts designs that are left out; nothing where there are none, or few designs."""
    if not (config.space.described or config.space.embedded):
        return {}
    table = values.merge(designs, on="design_id", how="left")
    data = Dataset.from_measurements(config.space, table, table["value"].to_numpy(float), objective=config.objective)
    gp: Compares = create("surrogates", "gp", {})
    return gp.compare(data, seed=config.seed) if len(data) >= ENOUGH else {}
