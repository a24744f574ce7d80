"""Commands that tell which arm was better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labloop.cli import show
from labloop.cli.app import Common, _lab, app
from labloop.cli.progress import PATIENCE
from labloop.errors import CampaignError

if TYPE_CHECKING:
    from labloop.compare.campaigns import Across


@app.command(group=_lab)
def compare(campaign: str, *others: str, round: int | None = None, common: Common = Common()) -> None:
    """Compare the arms of a measured round, and say what all rounds together tell.

    Args:
        campaign: the campaign's name.
        others: more campaigns of the same objective: arms are then compared over campaigns, each of which counts once.
        round: which round [default: the latest with results].
    """
    common.start()
    run = common.open(campaign)
    if others:
        if round is not None:
            raise CampaignError("over several campaigns all rounds count: leave out --round, or name one campaign")
        with show.progress(json=common.json, what="comparing arms", after=PATIENCE):
            together = run.compare_with(*(common.open(other) for other in others))
        return show.dump(together.to_dict()) if common.json else _across(together)
    with show.progress(json=common.json, what="comparing arms", after=PATIENCE):
        found, over_all, fronts = run.compare(round), run.compare("all"), run.fronts()
    show.comparison(found, json=common.json, over_all=over_all, fronts=fronts)


@app.command(group=_lab)
def close(campaign: str, *, round: int | None = None, reason: str | None = None, common: Common = Common()) -> None:
    """Close a round with its comparison; wells that will never be measured need a reason.

    Args:
        campaign: the campaign's name.
        round: which round [default: the latest].
        reason: why wells are missing, kept in the ledger.
    """
    common.start()
    run = common.open(campaign)
    with show.progress(json=common.json, what="comparing arms", after=PATIENCE):
        comparison = run.close(round, reason=reason)
        over_all = None if comparison is None else run.compare("all")
    if comparison is not None:
        show.comparison(comparison, json=common.json, over_all=over_all)


def _across(told: Across) -> None:
    """Show what several campaigns together say of their arms."""
    rows = [
        {"arm": gap.first, "against": gap.second, **{name: gap.by_campaign.get(name) for name in told.campaigns},
         "mean": gap.estimate, "from": gap.low, "to": gap.high}
        for gap in told.gaps
    ]  # fmt: skip
    show._table(rows, title="Differences of means by campaign, in y (larger is better), 95 % intervals", whole=["arm", "against"])
    show.out.print(told.sentence, style="bold")
