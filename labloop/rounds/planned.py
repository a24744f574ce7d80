"""How much of a campaign's plan is done, and what to say when all of it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.ledger import Round, RoundState

DONE = (RoundState.MEASURED, RoundState.CLOSED)


def done(rounds: Sequence[Round], wells: pd.DataFrame, events: pd.DataFrame, *, states: Collection[str] = DONE) -> int:
    """Count the rounds of the plan that are done: those that had a plate which nobody rejected.

    Args:
        wells: the campaign's, with `round`.
        events: the campaign's, as `Ledger.events` gives them.
        states: in which a round counts.
    """
    rejected = set(events.loc[events["kind"] == "rejected", "round"])
    had = set(wells["round"])
    return sum(one.state in states and one.number in had and one.number not in rejected for one in rounds)


def ended(config: CampaignConfig, n_done: int) -> str | None:
    """Say that all planned rounds are done, and how to go on all the same; None where some are left."""
    if n_done < config.rounds:
        return None
    verb = "step" if config.schedule else "propose"
    planned = "the planned round is" if config.rounds == 1 else f"all {config.rounds} planned rounds are"
    return f"{planned} done: labloop report {config.name}; labloop {verb} {config.name} --now goes on with another"
