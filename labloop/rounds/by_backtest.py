"""A round whose arms come from the campaign's last backtest that was kept: the best one and those that it was not told from."""

from __future__ import annotations

import json
import logging
from typing import Any

from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError
from labloop.ledger import Round
from labloop.ledger.memory import BACKTESTED, BY_BACKTEST, Memory

log = logging.getLogger("labloop")

AUTO = "auto"
"""What stands for a round's file where its arms are to come from a backtest."""
FEWEST, MOST = 2, 3
"""Arms of such a round: one alone would be compared with nothing, many would each have few wells."""


def opened_so(memory: Memory, entry: Round) -> bool:
    """Were the arms of this round taken from a backtest?"""
    events = memory.ledger.events(memory.name)
    return bool(((events["kind"] == BY_BACKTEST) & (events["round"] == entry.number)).any())


def round_of(memory: Memory) -> tuple[RoundConfig, dict[str, Any]]:
    """Give the round that the last kept backtest speaks for, and what the ledger is to be told of it.

    Its arms are the best one and those that the backtest could not tell from it, two at least and three at most, best first;
    wells are shared as the backtest's round file has it.

    Raises:
        CampaignError: no backtest was kept, or fewer than two of its arms chose anything.
    """
    events = memory.ledger.events(memory.name)
    kept = events[events["kind"] == BACKTESTED]
    if kept.empty:
        raise CampaignError(
            f"{memory.name} has no backtest to take a round's arms from: run 'labloop backtest {memory.name} --arms …' first, or "
            "name the round's file"
        )
    when, told = str(kept["at"].iloc[-1])[:10], kept["detail"].iloc[-1]
    able = [one for one in told["arms"] if not one["failed"]]
    if len(able) < FEWEST:
        raise CampaignError(
            f"{memory.name}: in the last backtest {'only one' if able else 'no'} arm chose designs in every split, and a round "
            f"needs {FEWEST} to compare: run 'labloop backtest {memory.name} --arms …' with {FEWEST} that can, or more"
        )
    close = [one["arm"] for i, one in enumerate(able) if i == 0 or not one["told_apart"]]
    arms = close[:MOST] if len(close) >= FEWEST else [one["arm"] for one in able[:FEWEST]]
    config = parse_config(told["round"], RoundConfig, source=f"the backtest of {when}")
    weights = {arm: weight for arm, weight in config.allocation.weights.items() if arm in arms}
    change = {"arms": {arm: config.arms[arm] for arm in arms}}
    if config.allocation.weights:
        change["allocation"] = config.allocation.model_copy(update={"weights": weights})  # type: ignore[assignment]
    return config.model_copy(update=change), {"arms": arms, "at": when, "said": _said(told, able, close, arms, when)}


def _said(told: dict[str, Any], able: list[dict[str, Any]], close: list[str], arms: list[str], when: str) -> str:
    first = able[0]
    found = f"{first['arm']} found {100 * first['found']:.0f} % of the best hidden designs"
    if len(close) == 1:
        why = f"{found}, more than every other, and {arms[1]} came next"
    else:
        why = f"{found}, and was not told from {' and '.join(close[1:])}"
    over = "past rounds" if told["replay"] else "splits"
    left = [one["arm"] for one in told["arms"] if one["arm"] not in arms]
    out = f"; left out: {', '.join(left)}" if left else ""
    return (
        f"arms {' and '.join(arms)} by the backtest of {when} ({told['splits']} {over}, {told['n_designs']} designs): {why}{out}"
    )


def note(memory: Memory, number: int, told: dict[str, Any]) -> None:
    """Fix in the ledger which arms a round took from which backtest, and why."""
    memory.ledger.add_event(memory.name, BY_BACKTEST, told, number)
    log.info("%s: round %d: %s", memory.name, number, told["said"])


def keep(memory: Memory, told: dict[str, Any], config: RoundConfig) -> None:
    """Keep what a backtest found, with its arms as a round has them, so that a round can take its arms from it."""
    detail = {**told, "round": json.loads(config.model_dump_json(exclude_defaults=True))}
    memory.ledger.add_event(memory.name, BACKTESTED, detail)
