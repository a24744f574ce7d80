"""A whole campaign against a simulated lab, through the ledger, the plates and the CSV files, exactly as with a real one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import pandas as pd

from labloop.campaign import Campaign
from labloop.config import CampaignConfig, RoundConfig, load_config, preset
from labloop.errors import CampaignError
from labloop.files import write_text
from labloop.protocols import Lab
from labloop.seeds import derive
from labloop.simulate import draw_start, open_lab

log = logging.getLogger("labloop")


def rehearse(
    folder: Path | str,
    *,
    campaign: CampaignConfig | Path | str | None = None,
    lab: Lab | str = "tfbind8",
    round_config: RoundConfig | Path | str | None = None,
    start: int | Literal["offline"] = 500,
    rounds: int = 3,
    ledger: str | None = None,
) -> Campaign:
    """Run a campaign of several rounds: start data, then propose, export, measure, ingest and close, round after round.

    Run again in the same folder, it goes on where it stopped; what is finished stays as it is.

    Args:
        folder: gets the ledger, the files that went to the lab and those that came back, and the report.
        start: measured designs to begin with, drawn from the lower half of the lab's table; `offline` takes all of it.

    Returns:
        The campaign, its rounds closed.
    """
    folder = Path(folder)
    config = (
        campaign
        if isinstance(campaign, CampaignConfig)
        else load_config(campaign or preset("campaigns/tfbind8.yaml"), CampaignConfig)
    )
    lab = open_lab(lab) if isinstance(lab, str) else lab
    try:
        run = Campaign.create(config, home=folder, ledger=ledger)
    except CampaignError:  # it is there: go on with it
        run = Campaign.open(config.name, home=folder, ledger=ledger)
    run.ingest(_write_start(run, lab, folder, start))
    for number in range(len([r for r in run.status()["rounds"] if r["state"] == "CLOSED"]) + 1, rounds + 1):
        run.propose(round_config, out=folder / "to_the_lab")
        run.ingest(measure_plate(run, lab, folder / "to_the_lab", folder / "from_the_lab", number=number))
        run.close(number)
    run.report(folder / "report.html")
    return run


def measure_plate(run: Campaign, lab: Lab, plates: Path, results: Path, *, number: int) -> Path:
    """Play the bench: read the plate map, measure, and fill the empty assay CSV in; returns the filled copy's path."""
    stem = f"{run.name}-R{number:02d}"
    plate_map = pd.read_csv(plates / f"{stem}_platemap.csv", dtype=str)
    sheet = pd.read_csv(plates / f"{stem}_assay.csv", dtype=str, keep_default_na=False)
    designs = plate_map.dropna(subset=list(run.config.space.columns), how="all")
    measured = lab.measure(designs[list(run.config.space.columns)], seed=derive(run.config.seed, "round", number, "measure"))
    measured.index = pd.MultiIndex.from_frame(designs[["plate", "well"]])
    places = pd.MultiIndex.from_frame(sheet[["plate", "well"]])
    sheet["value"] = measured["value"].reindex(places).map("{:.6f}".format, na_action="ignore").fillna("").to_numpy()
    sheet["status"] = measured["status"].reindex(places).fillna("excluded").to_numpy()
    return write_text(results / f"{stem}_assay.csv", sheet.to_csv(index=False, lineterminator="\n"))


def _write_start(run: Campaign, lab: Lab, folder: Path, start: int | Literal["offline"]) -> Path:
    table = draw_start(lab, start, seed=derive(run.config.seed, "start", 0))
    return write_text(folder / "from_the_lab" / f"{run.name}-history.csv", table.to_csv(index=False, lineterminator="\n"))
