"""A round as two short flows: one ends with the plate's files, one begins when the lab has measured. Nothing waits between."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from labloop.campaign.facade import Campaign
from labloop.runtime.prefect_api import report_key


@task(task_run_name="open-round", cache_policy=NO_CACHE, persist_result=False)
def open_round(campaign: str, config: str | None, now: bool, home: str | None, ledger: str | None) -> int:
    """Open the next round, or find the one that is open."""
    return Campaign.open(campaign, home=home, ledger=ledger).ensure_round(config, now=now)


# Prefect's default runner shares torch's threads and one device between trainings, so they are called one after the other.
# No caching: the ledger knows what is trained, and Prefect's cache keys do not tell two proposers apart.
@task(task_run_name="train-{proposer}", cache_policy=NO_CACHE, persist_result=False, retries=1)
def train(campaign: str, number: int, proposer: str, key: str, home: str | None, ledger: str | None) -> str:
    """Train one proposer and store its pool in the ledger, unless it is there."""
    run = Campaign.open(campaign, home=home, ledger=ledger)
    return run.ensure_trained(number, key)


@task(task_run_name="train-side-by-side", cache_policy=NO_CACHE, persist_result=False)
def train_all(campaign: str, number: int, workers: int | str, home: str | None, ledger: str | None) -> None:
    """Train what is not in the ledger yet on several processes or a Dask cluster."""
    Campaign.open(campaign, home=home, ledger=ledger).train_all(number, workers=workers)


@task(task_run_name="choose-wells", cache_policy=NO_CACHE, persist_result=False)
def choose_wells(campaign: str, number: int, out: str, home: str | None, ledger: str | None) -> dict[str, str]:
    """Choose and lay out the wells, unless that is done, and write the plate's files."""
    run = Campaign.open(campaign, home=home, ledger=ledger)
    run.ensure_proposed(number)
    return {name: str(path) for name, path in run.export(out, number=number).items()}


@flow(name="labloop-propose-round", flow_run_name="{campaign}-propose", persist_result=False)
def propose_round(
    campaign: str, config: str | None = None, out: str = "out", home: str | None = None, ledger: str | None = None,
    workers: int | str = 1, now: bool = False,
) -> dict[str, str]:  # fmt: skip
    """Run a campaign's round up to its plate; returns the paths of the files that go to the lab.

    Args:
        campaign: the campaign's name.
        config: the round's YAML file, `auto` for arms by the last backtest; where none is given an open round goes on as it was
            opened, and a new one is the shipped default.
        out: folder for the plate's files.
        home: folder of ledger and reports, as `labloop --home`.
        ledger: database URL, as `labloop --ledger`.
        workers: train side by side on so many processes, or on the Dask cluster of this address.
        now: open another round although all that were planned are done, as `labloop propose --now`.
    """
    number = open_round(campaign, config, now, home, ledger)
    if workers != 1:
        train_all(campaign, number, workers, home, ledger)
    for key, training in Campaign.open(campaign, home=home, ledger=ledger).trainings(number).items():
        train(campaign, number, training.proposer, key, home, ledger)
    return choose_wells(campaign, number, out, home, ledger)


@task(task_run_name="ingest-{file}", cache_policy=NO_CACHE, persist_result=False)
def ingest(campaign: str, file: str, home: str | None, ledger: str | None, again: bool = False) -> str:
    """Read one assay file into the ledger; one that is known changes nothing. Returns what to look at and what comes next."""
    receipt = Campaign.open(campaign, home=home, ledger=ledger).ingest(Path(file), again=again)
    return ". ".join([*(warning.rstrip(".") for warning in receipt.warnings), receipt.note])


@task(task_run_name="close-round", cache_policy=NO_CACHE, persist_result=False)
def compare_and_close(campaign: str, number: int | None, reason: str | None, home: str | None, ledger: str | None) -> str:
    """Close a measured round, write the report and show the verdict in Prefect; returns the verdict."""
    run = Campaign.open(campaign, home=home, ledger=ledger)
    comparison = run.close(number, reason=reason)
    report = run.report()
    verdict = comparison.sentence if comparison is not None else "No well of this round has a value."
    if comparison is not None and len((over_all := run.compare("all")).rounds) > 1:
        verdict += f" {over_all.sentence}"
    create_markdown_artifact(
        f"# {campaign}\n\n{verdict}\n\n{run.status()['next']}\n\nFull report: `{report.name}` in the campaign's folder.",
        key=report_key(campaign),
        description=f"Comparison of the arms of {campaign}",
    )
    return verdict


@flow(name="labloop-close-round", flow_run_name="{campaign}-close", persist_result=False)
def close_round(
    campaign: str,
    files: list[str] | None = None,
    number: int | None = None,
    reason: str | None = None,
    home: str | None = None,
    ledger: str | None = None,
    again: bool = False,
) -> str:
    """Ingest the lab's files, close the round and write the report; returns the comparison's sentence.

    Args:
        campaign: the campaign's name.
        files: assay CSVs that came back.
        number: which round; the latest where none is given.
        reason: why wells are missing, where some are.
        home: folder of ledger and reports, as `labloop --home`.
        ledger: database URL, as `labloop --ledger`.
        again: the files' readings were measured anew, as `labloop ingest --again`.
    """
    for file in files or []:
        ingest(campaign, file, home, ledger, again)
    return compare_and_close(campaign, number, reason, home, ledger)
