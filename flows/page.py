"""The page of a campaign in Prefect: one Markdown artifact, a new version whenever a tick has done something."""

from __future__ import annotations

import base64

from prefect.artifacts import create_markdown_artifact

from labloop.campaign.facade import Campaign
from labloop.errors import LabloopError
from labloop.report import figure_of, report_of
from labloop.rounds.policy import Action


def key_of(campaign: str) -> str:
    """The artifact's key; Prefect takes lower case, digits and dashes."""
    return f"{campaign.lower().replace('_', '-')}-report"


def publish(campaign: Campaign, action: Action) -> None:
    """Show where the campaign stands, with the figure and verdict of the report."""
    # The page's time line shows nothing of a version but this.
    told = f"{campaign.name}: waiting for {action.waits_for}" if action.kind == "wait" else f"Where {campaign.name} stands"
    create_markdown_artifact(markdown(campaign, action), key=key_of(campaign.name), description=told)


def markdown(campaign: Campaign, action: Action) -> str:
    """Write the page: what is waited for, the rounds, the verdict, and best so far by round as an inline picture."""
    standing = campaign.status()
    best = f", best {standing['best']:.4g} {standing['unit']}".rstrip() if standing["best"] is not None else ""
    waits = f"**Waiting for {action.waits_for}:** {action.reason}" if action.kind == "wait" else action.reason
    lines = [f"# {campaign.name}", "", f"{standing['designs']} measured designs{best}.", "", waits, ""]
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
