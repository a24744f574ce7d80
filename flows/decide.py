"""What is decided about wells, as flows: designs by hand, vetoes, what a plate can show, arms tried on what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from labloop.campaign.facade import Campaign
from labloop.runtime.prefect_api import report_key
from labloop.studies.backtest import backtest


@task(task_run_name="pick-{arm}", cache_policy=NO_CACHE, persist_result=False)
def store_picks(
    campaign: str, file: str, arm: str, by: str, wells: int | None, home: str | None, ledger: str | None
) -> str:  # fmt: skip
    """Store a person's list as an arm of the next plate."""
    return Campaign.open(campaign, home=home, ledger=ledger).pick(Path(file), arm=arm, by=by, wells=wells).said


@flow(name="labloop-pick", flow_run_name="{campaign}-pick-{arm}", persist_result=False)
def pick_designs(
    campaign: str, file: str, arm: str, by: str = "", wells: int | None = None, home: str | None = None, ledger: str | None = None
) -> str:  # fmt: skip
    """Let designs that a person chose become an arm of the next plate, as `labloop pick`; run again, the list is replaced.

    Args:
        campaign: the campaign's name.
        file: a CSV file of designs, the most wanted first.
        arm: the arm's name.
        by: who chose them.
        wells: wells that the arm asks for.
        home: folder of ledger and reports, as `labloop --home`.
        ledger: database URL, as `labloop --ledger`.
    """
    return store_picks(campaign, file, arm, by, wells, home, ledger)


@task(task_run_name="veto-{well}", cache_policy=NO_CACHE, persist_result=False)
def take_out(campaign: str, well: str, reason: str, by: str, home: str | None, ledger: str | None) -> str:
    """Take a well's design out of a plate that is not exported yet."""
    return Campaign.open(campaign, home=home, ledger=ledger).veto(well, reason=reason, by=by).said


@flow(name="labloop-veto", flow_run_name="{campaign}-veto", persist_result=False)
def veto_well(
    campaign: str, well: str, reason: str, by: str = "", home: str | None = None, ledger: str | None = None
) -> str:  # fmt: skip
    """Take a well out of a proposed plate, as `labloop veto`: its arm's next choice comes in.

    Args:
        campaign: the campaign's name.
        well: PLATE:WELL.
        reason: kept in the ledger.
        by: who says so.
        home: folder of ledger and reports, as `labloop --home`.
        ledger: database URL, as `labloop --ledger`.
    """
    return take_out(campaign, well, reason, by, home, ledger)


@task(task_run_name="plan", cache_policy=NO_CACHE, persist_result=False)
def look_ahead(campaign: str, config: str | None, worth: float | None, home: str | None, ledger: str | None) -> dict[str, Any]:
    """Tell what the next plate can show, and show the verdict in Prefect."""
    told = Campaign.open(campaign, home=home, ledger=ledger).plan(config, worth=worth)
    lines = [f"- {one.first} and {one.second}, {one.plates} plates, {one.replicates} readings each: {told.effect(one.difference)}"
             for one in told.shown]  # fmt: skip
    text = "\n".join([f"# {campaign}", told.stop, "Smallest differences shown with 80 %:", "", *lines, *told.notes])
    create_markdown_artifact(text, key=f"{report_key(campaign)}-plan", description=f"What the next plate of {campaign} can show")
    return told.to_dict()


@flow(name="labloop-plan", flow_run_name="{campaign}-plan", persist_result=False)
def plan_plate(
    campaign: str, config: str | None = None, worth: float | None = None, home: str | None = None, ledger: str | None = None
) -> dict[str, Any]:
    """Tell what the next plate can show and gain, as `labloop plan`; nothing is stored.

    Args:
        campaign: the campaign's name.
        config: the round's YAML file that is planned.
        worth: the smallest gain that is worth another plate.
        home: folder of ledger and reports, as `labloop --home`.
        ledger: database URL, as `labloop --ledger`.
    """
    return look_ahead(campaign, config, worth, home, ledger)


@task(task_run_name="backtest", cache_policy=NO_CACHE, persist_result=False)
def try_arms(
    campaign: str, config: str | None, arms: list[str] | None, splits: int, replay: bool, workers: int | str, home: str | None,
    ledger: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Try arms on what is measured, and show the verdict in Prefect."""
    run = Campaign.open(campaign, home=home, ledger=ledger)
    told = backtest(run, config, arms=arms, splits=splits, replay=replay, workers=workers, keep=True)
    text = "\n".join([f"# {campaign}", told.sentence, "", *(f"- {one}" for one in told.caveats)])
    create_markdown_artifact(
        text, key=f"{report_key(campaign)}-backtest", description=f"Arms tried on what {campaign} has measured"
    )
    return told.to_dict()


@flow(name="labloop-backtest", flow_run_name="{campaign}-backtest", persist_result=False)
def backtest_arms(
    campaign: str, config: str | None = None, arms: list[str] | None = None, splits: int = 8, replay: bool = False,
    workers: int | str = 1, home: str | None = None, ledger: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Try arms on what the campaign has measured, as `labloop backtest`; it is kept, and `propose_round` with the config `auto`
    takes its arms from it.

    Args:
        campaign: the campaign's name.
        config: the round's YAML file, with its arms.
        arms: names of arms or proposers.
        splits: how often measurements are split.
        replay: replay past rounds instead.
        workers: side by side on so many processes, or on the Dask cluster of this address.
        home: folder of ledger and reports, as `labloop --home`.
        ledger: database URL, as `labloop --ledger`.
    """
    return try_arms(campaign, config, arms, splits, replay, workers, home, ledger)
