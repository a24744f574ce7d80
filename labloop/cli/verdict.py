"""Commands that tell which arm was better."""

from __future__ import annotations

from labloop.cli import show
from labloop.cli.app import Common, _lab, app
from labloop.cli.progress import PATIENCE


@app.command(group=_lab)
def compare(campaign: str, *, round: int | None = None, common: Common = Common()) -> None:
    """Compare the arms of a measured round, and say what all rounds together tell.

    Args:
        campaign: the campaign's name.
        round: which round [default: the latest with results].
    """
    common.start()
    run = common.open(campaign)
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
