"""What the judge is asked, as flows: designs of a file, and what the judge looks at. Nothing in the ledger changes."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from labloop.campaign.facade import Campaign
from labloop.runtime.prefect_api import report_key


@task(task_run_name="predict-{file}", cache_policy=NO_CACHE, persist_result=False)
def ask_about(campaign: str, file: str, out: str, home: str | None, ledger: str | None) -> str:
    """Predict the designs of a file and write the table."""
    return str(Campaign.open(campaign, home=home, ledger=ledger).predict(Path(file)).write(Path(out)))


@flow(name="labloop-predict", flow_run_name="{campaign}-predict", persist_result=False)
def predict_designs(
    campaign: str, file: str, out: str = "predictions.csv", home: str | None = None, ledger: str | None = None
) -> str:  # fmt: skip
    """Ask the judge about designs, as `labloop predict`; returns the path of the table.

    Args:
        campaign: the campaign's name.
        file: a CSV, Excel or FASTA file of designs.
        out: the table's path, `.csv`, `.xlsx`, `.parquet` or `.json`.
        home: folder of ledger and reports, as `labloop --home`.
        ledger: database URL, as `labloop --ledger`.
    """
    return ask_about(campaign, file, out, home, ledger)


@task(task_run_name="look-into-the-judge", cache_policy=NO_CACHE, persist_result=False)
def look(campaign: str, home: str | None, ledger: str | None) -> str:
    """Tell what the judge looks at and show it in Prefect; kept beside the ledger, it is in the next report."""
    found = Campaign.open(campaign, home=home, ledger=ledger).insight()
    rows = [f"| {one.name} | {one.importance:+.3f} ± {one.spread:.3f} |" for one in found.factors[:20]]
    table = "\n".join(["| factor | held-out rank correlation lost |", "|---|---|", *rows])
    create_markdown_artifact(
        f"# {campaign}\n\n{found.trust}\n\n{table}\n",
        key=report_key(campaign),
        description=f"What the judge of {campaign} looks at",
    )
    return found.trust


@flow(name="labloop-why", flow_run_name="{campaign}-why", persist_result=False)
def explain_judge(campaign: str, home: str | None = None, ledger: str | None = None) -> str:
    """Tell what the judge looks at, as `labloop why`; returns how far it can be trusted.

    Args:
        campaign: the campaign's name.
        home: folder of ledger and reports, as `labloop --home`.
        ledger: database URL, as `labloop --ledger`.
    """
    return look(campaign, home, ledger)
