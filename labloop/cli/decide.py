"""Commands that decide about wells: designs by hand, vetoes, and what a plate can show before it is spent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, _lab, app
from labloop.errors import CampaignError


@app.command(group=_lab)
def pick(
    campaign: str,
    file: Path | None = None,
    *,
    arm: str,
    by: str = "",
    wells: int | None = None,
    withdraw: Annotated[bool, Parameter(negative="")] = False,
    reason: str = "",
    common: Common = Common(),
) -> None:
    """Let designs that people chose become an arm of the next plate: checked, blinded, judged and compared like the others.

    Args:
        campaign: the campaign's name.
        file: a CSV file of designs, one a row, the most wanted first. A list of this arm that is on no plate yet is replaced.
        arm: the name that the arm gets, such as chemist.
        by: who chose them [default: $LABLOOP_USER, else the name you are logged in with].
        wells: wells that the arm asks for [default: an equal share of the plate, or as many as there are designs].
        withdraw: take the list back instead, as long as it is on no plate.
        reason: why it is withdrawn, kept in the ledger.
    """
    common.start()
    run = common.open(campaign)
    if withdraw == (file is not None):
        raise CampaignError(
            f"name the file of designs (labloop pick {campaign} designs.csv --arm {arm}), or take the list back with --withdraw"
        )
    told = run.pick(file, arm=arm, by=by, wells=wells) if file is not None else run.withdraw(arm, by=by, reason=reason)
    if common.json:
        return show.dump(asdict(told))
    show.out.print(Text(f"{told.said}."))


@app.command(group=_lab)
def veto(campaign: str, well: str, *, reason: str, by: str = "", common: Common = Common()) -> None:
    """Take a well out of a proposed plate before its files are written: its arm's next choice comes in, nothing is trained again.

    Args:
        campaign: the campaign's name.
        well: the well, as PLATE:WELL.
        reason: why, kept in the ledger.
        by: who says so [default: $LABLOOP_USER, else the name you are logged in with].
    """
    common.start()
    told = common.open(campaign).veto(well, reason=reason, by=by)
    if common.json:
        return show.dump(asdict(told))
    show.out.print(Text(f"{told.said}. Next: labloop export {campaign}"))
