"""A whole campaign against a simulated lab, through the ledger, the plates and the CSV files, exactly as with a real one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import pandas as pd

from labloop.campaign.facade import Campaign
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.config.round import RoundConfig
from labloop.ledger.memory import campaigns
from labloop.ledger.states import RoundState
from labloop.runtime.counts import check_count
from labloop.runtime.files import write_text
from labloop.runtime.spreadsheet import plain
from labloop.seeds import derive
from labloop.studies.labs.lab import Lab
from labloop.studies.simulate import draw_start, open_lab

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
        round_config: the shipped `rounds/quick.yaml` where none is given: seconds a round.
        start: measured designs to begin with, drawn from the lower half of the lab's table; `offline` takes all of it.

    Returns:
        The campaign, its rounds closed.
    """
    check_count("rounds", rounds)
    folder = Path(folder)
    lab = open_lab(lab) if isinstance(lab, str) else lab
    run = begin(folder, campaign=campaign, lab=lab, start=start, ledger=ledger)
    for number in range(1, rounds + 1):
        state = run.state(number)
        if state not in (RoundState.MEASURED, RoundState.CLOSED):
            run.propose(round_config or preset("rounds/quick.yaml"), out=folder / "to_the_lab")
            run.ingest(measure_plate(run, lab, folder / "to_the_lab", folder / "from_the_lab", number=number))
        if state != RoundState.CLOSED:
            run.close(number)
    run.report(folder / "report.html")
    return run


def begin(
    folder: Path,
    *,
    campaign: CampaignConfig | Path | str | None = None,
    lab: Lab,
    start: int | Literal["offline"] = 500,
    ledger: str | None = None,
) -> Campaign:
    """Make the campaign and ingest its start data, unless that is done."""
    if not isinstance(campaign, CampaignConfig):
        campaign = load_config(campaign or preset("campaigns/tfbind8.yaml"), CampaignConfig)
    if campaign.name in campaigns(home=folder, ledger=ledger):
        run = Campaign.open(campaign.name, home=folder, ledger=ledger)
    else:
        run = Campaign.create(campaign, home=folder, ledger=ledger)
    table = draw_start(lab, start, seed=derive(campaign.seed, "start", 0), objective=campaign.objective)
    text = table.to_csv(index=False, lineterminator="\n")
    run.ingest(write_text(folder / "from_the_lab" / f"{run.name}-history.csv", text))
    return run


def measure_plate(run: Campaign, lab: Lab, plates: Path, results: Path, *, number: int) -> Path:
    """Play the bench: read the plate map, measure, and fill the empty assay CSV in; returns the filled copy's path."""
    stem = f"{run.name}-R{number:02d}"
    plate_map = pd.read_csv(plates / f"{stem}_platemap.csv", dtype=str)
    sheet = pd.read_csv(plates / f"{stem}_assay.csv", dtype=str, keep_default_na=False)
    columns = list(run.config.space.columns)
    designs = plate_map[plate_map["control"].isna()]
    # Where the wells lie, for a lab whose plates and edges are off.
    cells = designs[columns].map(plain, na_action="ignore").assign(plate=designs["plate"], well=designs["well"])
    measured = lab.measure(cells, seed=derive(run.config.seed, "round", number, "measure"))
    measured.index = pd.MultiIndex.from_frame(designs[["plate", "well"]])
    places = pd.MultiIndex.from_frame(sheet[["plate", "well"]])
    sheet["value"] = measured["value"].reindex(places).map("{:.6f}".format, na_action="ignore").fillna("").to_numpy()
    sheet["status"] = measured["status"].reindex(places).fillna("excluded").to_numpy()
    sheet.loc[sheet["status"] == "excluded", "note"] = "control, which a simulated lab does not hold"
    return write_text(results / f"{stem}_assay.csv", sheet.to_csv(index=False, lineterminator="\n"))
