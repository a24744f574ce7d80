"""A whole campaign against a simulated lab, round by round, to see the flows at work before a lab depends on them."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from labloop.campaign.facade import Campaign
from labloop.config.read import preset
from labloop.ledger.states import RoundState
from labloop.studies.demo import begin, measure_plate
from labloop.studies.simulate import open_lab

from .round import close_round, propose_round


@task(task_run_name="start-data", cache_policy=NO_CACHE, persist_result=False)
def start_data(folder: str, config: str | None, lab: str, start: int, ledger: str | None) -> str:
    """Make the campaign and ingest its start data, unless that is done; returns its name."""
    return begin(Path(folder), campaign=config, lab=open_lab(lab), start=start, ledger=ledger).name


@task(task_run_name="measure-round-{number}", cache_policy=NO_CACHE, persist_result=False)
def measure(campaign: str, folder: str, lab: str, number: int, ledger: str | None) -> str:
    """Play the bench: fill the plate's empty assay CSV in."""
    run = Campaign.open(campaign, home=folder, ledger=ledger)
    place = Path(folder)
    return str(measure_plate(run, open_lab(lab), place / "to_the_lab", place / "from_the_lab", number=number))


@flow(name="labloop-simulated-campaign", flow_run_name="simulated-{lab}", persist_result=False)
def simulated_campaign(
    folder: str,
    lab: str = "tfbind8",
    config: str | None = None,
    round_config: str | None = None,
    start: int = 500,
    rounds: int = 3,
    ledger: str | None = None,
) -> str:
    """Run a campaign of several rounds with a simulated lab; returns the last comparison's sentence.

    Args:
        folder: gets the ledger, the plates' files and the report.
        lab: `tfbind8`, or `lookup:FILE.csv`.
        config: the campaign's YAML file; TF Bind 8 where none is given.
        round_config: the round's YAML file; the shipped `rounds/quick.yaml` where none is given.
        start: measured designs to begin with.
        rounds: plates in a row.
        ledger: database URL, as `labloop --ledger`.
    """
    campaign = start_data(folder, config, lab, start, ledger)
    out, verdict = str(Path(folder) / "to_the_lab"), ""
    for number in range(1, rounds + 1):
        state = Campaign.open(campaign, home=folder, ledger=ledger).state(number)
        if state in (RoundState.MEASURED, RoundState.CLOSED):
            verdict = close_round(campaign, None, number, None, folder, ledger)
            continue
        propose_round(campaign, round_config or str(preset("rounds/quick.yaml")), out, folder, ledger)
        verdict = close_round(campaign, [measure(campaign, folder, lab, number, ledger)], number, None, folder, ledger)
    return verdict
