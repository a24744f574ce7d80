"""How a start file is understood, before there is a campaign that it could be ingested into."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from labloop.assays.ingest import explain_assay, read_assay
from labloop.assays.ingest.cells import count
from labloop.assays.readings import MEASURED
from labloop.config.campaign import CampaignConfig
from labloop.config.round import RoundConfig
from labloop.errors import IngestError, LabloopError, MethodError
from labloop.proposing.belief import believing
from labloop.proposing.checks import check_room
from labloop.proposing.dataset import Dataset
from labloop.proposing.history import ENOUGH as FEWEST_MEASURED
from labloop.proposing.insight import spearman
from labloop.proposing.protocols import Surrogate
from labloop.registry import create
from labloop.rounds.related import datasets
from labloop.seeds import generator
from labloop.types import FloatArray

BEST = 3
ENOUGH = 12
"""Measured designs from which descriptors are compared."""
FEWEST = 5
"""Designs from which a related campaign is compared with the file."""
MOST = 300
"""Designs of a related campaign that predict those of the file at most."""


def start_file(
    path: Path | str, config: CampaignConfig, round_config: RoundConfig | None = None
) -> tuple[dict[str, Any], LabloopError | None]:  # fmt: skip
    """Read a file as the first `ingest` would and tell what was understood, as plain values; nothing is stored.

    Returns:
        `file`, `reader`, `what`, `read_as`, `columns` (labloop's to the file's), and of a file that would be taken `rows`,
        `designs`, `measured`, `failed`, `outside` (designs that the space's rules would not let be proposed), `units` by assay,
        `range` of the objective's values, the `best` three designs, and `sees`: by what is seen of options and letters, how well
        a Gaussian process predicts designs that are left out, `correlation` and log `density`, where there is anything to choose;
        `history`: how the values of each related campaign or file agree with those of this file, `common` designs measured in
        both and the rank `correlation` over them, or over all of the file's, the other's `predicted` from what it measured;
        `lacks`: why the round, where one is given, could not begin with the file;
        and why it would be refused, with every fault by its row, or why the round would.

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
        "refused": None if told.refusal is None else str(told.refusal), "sees": {}, "history": [],
        "lacks": None,
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
    }  # fmt: skip
    if config.space.described or config.space.embedded or config.history:
        table = values.merge(file.designs, on="design_id", how="left")
        own = Dataset.from_measurements(config.space, table, table["value"].to_numpy(float), objective=config.objective)
        found |= {"sees": _sees(own, config), "history": _related(own, config)}
    lacks = None if round_config is None else _lacking(rows, good, file.designs, config, round_config)
    return found | {"lacks": None if lacks is None else str(lacks)}, lacks


def _lacking(
    rows: pd.DataFrame, good: pd.DataFrame, designs: pd.DataFrame, config: CampaignConfig, round_config: RoundConfig
) -> LabloopError | None:  # fmt: skip
    """Say why a round could not begin with what was measured."""
    measured = set(good["design_id"].dropna())
    failed = set(rows.loc[rows["status"] == "failed_design", "design_id"].dropna()) - measured
    table = designs.set_index("design_id")[list(config.space.columns)]
    data = Dataset.from_measurements(
        config.space, table.loc[sorted(measured)], np.zeros(len(measured)), pending=table.loc[sorted(failed)]
    )
    if round_config.judge is not None and not config.begins_with_history and len(data) < FEWEST_MEASURED:
        return IngestError(
            f"{count(len(data), 'measured design')}, too few for a judge to learn from: measure {FEWEST_MEASURED - len(data)} "
            "more, or begin with a plate of random designs (config/rounds/first.yaml)"
        )
    try:
        check_room(data, sum(round_config.designs(config.plate).values()))
    except MethodError as error:
        return error
    return None


def _best(values: pd.DataFrame, designs: pd.DataFrame, config: CampaignConfig) -> list[dict[str, Any]]:
    """The best three designs by the mean of their readings, each with the rows that they stand in."""
    by = values.groupby("design_id", sort=False).agg(value=("value", "mean"), rows=("row", list)).reset_index()
    y = config.objective.to_y(by["value"].to_numpy(float))
    best = by.iloc[np.argsort(-y, kind="stable")[:BEST]].merge(designs, on="design_id", how="left")
    spelled = best[list(config.space.columns)]
    told = pd.concat([spelled, config.space.names(spelled)], axis=1)
    return [
        {"row": ", ".join(str(int(row)) for row in rows[:4]), **{str(name): told[name].iloc[i] for name in told},
         "value": float(value)}
        for i, (rows, value) in enumerate(zip(best["rows"], best["value"], strict=True))
    ]  # fmt: skip


class GaussianProcess(Surrogate, Protocol):
    """The surrogate that can tell what each set of descriptors is worth to it."""

    def compare(self, data: Dataset, *, seed: int) -> dict[str, dict[str, float]]: ...


def _sees(own: Dataset, config: CampaignConfig) -> dict[str, dict[str, float]]:
    """How well each set of descriptors predicts designs that are left out; nothing where there are none, or few designs."""
    if len(own) < ENOUGH or not (config.space.described or config.space.embedded):
        return {}
    gp: GaussianProcess = create("surrogates", "gp", {})
    return gp.compare(own, seed=config.seed)


def _related(own: Dataset, config: CampaignConfig) -> list[dict[str, Any]]:
    """How each related campaign agrees with the file; of one that cannot be read, or of another property, nothing is said."""
    told = []
    for one in config.history if len(own) >= FEWEST else ():
        try:
            other = datasets(config.model_copy(update={"history": (one,)}))[0]
        except LabloopError:  # which `check` has told
            continue
        if other.column != 0:
            continue
        place = {design: i for i, design in enumerate(other.ids)}
        common = [i for i, design in enumerate(own.ids) if design in place]
        predicted = len(common) < FEWEST
        if predicted:
            y, theirs = own.y, _expected(other, own.X, config.seed)
        else:
            y, theirs = own.y[common], other.y[[place[own.ids[i]] for i in common]]
        flat = np.ptp(y) == 0 or np.ptp(theirs) == 0
        told.append({
            "label": other.label, "common": len(common), "predicted": predicted, "designs": len(y),
            "correlation": None if flat else spearman(y, theirs),
        })  # fmt: skip
    return told


def _expected(other: Dataset, X: FloatArray, seed: int) -> FloatArray:
    """What a related campaign lets expect of designs X (m, d), (m,): of all the same where it has few designs."""
    if len(other) < FEWEST:
        return np.zeros(len(X))
    if len(other) > MOST:
        other = other.take(np.sort(generator(seed, "check").permutation(len(other))[:MOST]))
    gp: GaussianProcess = create("surrogates", "gp", {})
    return believing(gp.fit(other, seed=seed)).belief(X)[0]
