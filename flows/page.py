"""The page of a campaign in Prefect: one Markdown artifact, a new version whenever a tick has done something, or could not."""

from __future__ import annotations

import base64

from prefect.artifacts import create_markdown_artifact, create_progress_artifact

from labloop.campaign.facade import Campaign
from labloop.errors import LabloopError
from labloop.report import figure_of, report_of
from labloop.rounds.policy import Action
from labloop.runtime.prefect_api import bench_page, report_key


def publish(campaign: Campaign, action: Action) -> None:
    """Show where the campaign stands, with the figure and verdict of the report."""
    # The page's time line shows nothing of a version but this.
    told = f"{campaign.name}: waiting for {action.waits_for}" if action.kind == "wait" else f"Where {campaign.name} stands"
    create_markdown_artifact(markdown(campaign, action), key=report_key(campaign.name), description=told)
    for one in campaign.status()["rounds"][-1:]:
        if one["wells"]:
            done, back = one["wells"] - one["missing"], bench_page(campaign.name)
            said = f"{campaign.name}, round {one['round']} ({one['state'].lower()}): {done} of {one['wells']} wells are in"
            said += f" · [its page]({back}/round/{one['round']})" if back else ""
            create_progress_artifact(100 * done / one["wells"], key=f"{report_key(campaign.name)}-round", description=said)


def markdown(campaign: Campaign, action: Action) -> str:
    """Write the page: what is waited for, the rounds, the verdict, and best so far by round as an inline picture."""
    standing = campaign.status()
    best = f", best {standing['best']:.4g} {standing['unit']}".rstrip() if standing["best"] is not None else ""
    waits = f"**Waiting for {action.waits_for}:** {action.reason}" if action.kind == "wait" else action.reason
    back = bench_page(campaign.name)
    lines = [f"# {campaign.name}", "", *([f"[Plates, results and approval at the bench]({back})", ""] if back else [])]
    lines += [f"{standing['designs']} measured designs{best}.", "", waits, ""]
    if standing["rounds"]:
        lines += ["| round | state | wells | without a result |", "|---|---|---|---|"]
        lines += [f"| {one['round']} | {one['state']} | {one['wells']} | {one['missing']} |" for one in standing["rounds"]]
        lines.append("")
    data = report_of(campaign)
    for _, comparison in sorted(data.comparisons.items(), reverse=True):
        lines += [comparison.sentence, ""]  # no quotation: Prefect sets those in one endless line
    try:
        picture = figure_of(data)
    except LabloopError as error:
        lines += [str(error), ""]
        picture = None
    if picture is not None:
        lines += [f"![Best so far, by round](data:image/png;base64,{base64.b64encode(picture).decode()})", ""]
        if arms := list(dict.fromkeys(data.picks["arm"])):
            objective = campaign.config.objective
            what = f"{objective.assay} ({objective.unit})" if objective.unit else objective.assay
            lines += [f"{what}: best so far, and every well; the arms of a round from left to right: {', '.join(arms)}.", ""]
    return "\n".join([*lines, f"The whole report is `report.html` in the folder of {campaign.name}."])
