"""Every reading of a campaign as one tidy table, for a notebook, a colleague, or another ledger."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from labloop.assays.readings import standing_flags
from labloop.errors import CampaignError, LabloopError
from labloop.ledger.memory import Memory
from labloop.proposing.dataset import Dataset
from labloop.rounds import state
from labloop.runtime.files import write_bytes
from labloop.runtime.spreadsheet import neutral, xlsx_bytes


def tidy(memory: Memory, *, assay: str | None = None, controls: bool = False) -> pd.DataFrame:
    """Give one row a reading that stands, in the order they came in.

    Columns: `design_id`, the design's own (mutants by name too), `in_space` (whether the space as it is now allows it); `assay`,
    `value`, `unit`, `qualifier` (`=`, `<`, `>`), `status`; what the reading's design came to, as methods see it: `y`
    (transformed, larger is better for the objective's assay), `sem` (of y, its variance pooled over replicates) and
    `n_replicates`; `control`, `plate`, `well`, `round`; the `arms` that chose the design in that round and the `proposers` that
    offered it, with + between; `measured_at`, `file`, `row` and `note`; `flags`, the rules of quality control that speak of the
    reading. Empty where there is none.

    Args:
        assay: only this assay's readings; all assays', if None. `labloop ingest` takes a file of one assay.
        controls: with the readings of controls; another memory, where their wells are not laid out, does not take these.

    Raises:
        CampaignError: the campaign has no such assay.
    """
    if assay is not None and assay not in memory.config.assays:
        raise CampaignError(f"campaign {memory.name} has no assay {assay!r}; it has {', '.join(memory.config.assays)}")
    rows = memory.ledger.measurements(memory.name)
    if assay is not None:
        rows = rows[rows["assay"] == assay]
    if not controls:
        rows = rows[rows["design_id"].notna()]
    known = memory.ledger.designs(memory.name, rows["design_id"].dropna().unique())
    space = memory.config.space
    told = known.reindex(columns=list(space.columns))
    told["in_space"] = space.feasible(space.encode(told.reset_index(drop=True), strict=False)) if len(told) else False
    names = space.names(told)
    flags = standing_flags(memory).groupby("measurement")["rule"].agg("+".join).rename("flags")
    out = rows.join(flags, on="id").drop(columns="id").join(told.join(names), on="design_id")
    out = out.join(_summaries(memory, rows, told), on=["assay", "design_id"])
    laid = memory.ledger.wells(memory.name)[["plate", "well", "control"]].drop_duplicates(["plate", "well"])
    out = out.merge(laid, how="left", on=["plate", "well"]).join(
        _credits(memory.ledger.picks(memory.name)), on=["round", "design_id"]
    )
    return out[
        [
            "design_id", *space.columns, *names.columns, "in_space", "assay", "value", "unit", "qualifier", "status", "y", "sem",
            "n_replicates", "control", "plate", "well", "round", "arms", "proposers", "measured_at", "file", "row", "note",
            "flags",
        ]
    ].reset_index(drop=True)  # fmt: skip


def write_tidy(table: pd.DataFrame, path: Path, *, sheet: str = "readings") -> Path:
    """Write a tidy table as `.csv` or `.xlsx` (text neutralised, numbers exact) or `.parquet`, whole or not at all.

    Raises:
        LabloopError: the name ends otherwise, Parquet's package is not installed, or the file cannot be written.
    """
    if path.suffix.lower() == ".parquet":
        return write_bytes(path, _parquet(table))
    if path.suffix.lower() == ".xlsx":
        return write_bytes(path, _workbook(table, path, sheet))
    if path.suffix.lower() != ".csv":
        raise LabloopError(f"{path}: name the file .csv, .xlsx or .parquet")
    texts = {name: _neutral(table[name]) for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])}
    return write_bytes(path, table.assign(**texts).to_csv(index=False, lineterminator="\n").encode())


_ROWS = 1_048_575
"""Rows that a sheet of Excel holds below its header."""


def _workbook(table: pd.DataFrame, path: Path, sheet: str) -> bytes:
    if len(table) > _ROWS:
        raise LabloopError(f"{path}: {len(table):,} {sheet} are more than the {_ROWS:,} rows of an Excel sheet: write a .csv")
    cells = table.astype(object).where(table.notna(), None)
    rows = (
        [one.item() if isinstance(one, np.generic) else one for one in row] for row in cells.itertuples(index=False, name=None)
    )
    return xlsx_bytes({sheet: [list(map(str, table.columns)), *rows]})


def _parquet(table: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    try:
        table.to_parquet(out, engine="pyarrow", index=False)
    except ImportError as error:
        raise LabloopError(
            "Parquet needs the package 'pyarrow': pip install 'labloop-toolkit[parquet]', or write a .csv"
        ) from error
    return out.getvalue()


def _neutral(column: pd.Series) -> pd.Series:
    codes, texts = pd.factorize(column)
    safe = np.array([neutral(text) if isinstance(text, str) else text for text in texts] + [None], dtype=object)
    return pd.Series(safe[codes], index=column.index, dtype=object)  # a missing cell has code -1, the last


def _summaries(memory: Memory, rows: pd.DataFrame, designs: pd.DataFrame) -> pd.DataFrame:
    """Each assay's designs with y, sem and n_replicates, as its dataset has them."""
    parts = []
    use = rows[rows["status"].isin(state.MEASURED) & rows["design_id"].notna()]
    for assay, seen in use.groupby("assay"):
        if assay == memory.config.objective.assay:
            data = state.dataset(memory).lead  # with all that is done to the data before methods see them
        else:
            held = designs.loc[seen["design_id"]].reset_index(drop=True)
            values, qualifiers = seen["value"].to_numpy(float), seen["qualifier"].tolist()
            data = Dataset.from_measurements(memory.config.space, held, values, qualifiers=qualifiers)
        found = pd.DataFrame({"y": data.y, "sem": data.sem, "n_replicates": data.n_replicates})
        parts.append(found.set_axis(pd.MultiIndex.from_product([[assay], data.ids], names=["assay", "design_id"])))
    nothing = pd.DataFrame({"y": [0.0], "sem": [0.0], "n_replicates": [0]}, index=pd.MultiIndex.from_tuples([("", "")]))
    return pd.concat(parts or [nothing.rename_axis(["assay", "design_id"])]).astype({"n_replicates": "Int64"})


def _credits(picks: pd.DataFrame) -> pd.DataFrame:
    """By round and design: the arms that chose it, and the proposers that offered it."""
    grouped = picks.groupby(["round", "design_id"])
    return pd.DataFrame(
        {
            name: grouped[column].agg(lambda one: "+".join(dict.fromkeys(one)))
            for name, column in (("arms", "arm"), ("proposers", "proposer"))
        }
    )
