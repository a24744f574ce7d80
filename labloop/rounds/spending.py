"""What a campaign has spent, in wells and in money, and what that leaves for a round."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.config.limits import Prices
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, ConfigError
from labloop.ledger.memory import Memory
from labloop.proposing.terms import Terms, cheapest
from labloop.seeds import derive


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Wells that were laid out, controls included, on plates that nobody rejected, and their price."""

    wells: int
    price: float | None
    """Each round at the prices that stood when it opened; None where the campaign has no prices."""
    price_now: float | None
    """All rounds at the present prices; None where there are none."""


def laid_out(memory: Memory, *, before: int | None = None) -> pd.DataFrame:
    """List the wells of plates that nobody rejected, of rounds before one where it is given."""
    wells = memory.ledger.wells(memory.name)
    events = memory.ledger.events(memory.name)
    wells = wells[~wells["round"].isin(set(events.loc[events["kind"] == "rejected", "round"]))]
    return wells if before is None else wells[wells["round"] < before]


def spent(memory: Memory, *, before: int | None = None) -> Spent:
    """Count what the rounds so far have taken.

    A round that had no prices, or those of another unit, is counted at the present ones.

    Args:
        before: the rounds before this one only.
    """
    wells, now = laid_out(memory, before=before), memory.config.prices
    if now is None:
        return Spent(wells=len(wells), price=None, price_now=None)
    known = memory.ledger.designs(memory.name, wells["design_id"].dropna().unique().tolist())
    price, price_now, lists = 0.0, 0.0, dict[str, tuple[Prices, list[int]]]()
    for number in wells["round"].unique().tolist():
        then = memory.at(number).config.prices
        prices = then if then is not None and then.unit == now.unit else now
        lists.setdefault(prices.model_dump_json(), (prices, []))[1].append(number)
    for prices, numbers in lists.values():
        mine = wells[wells["round"].isin(numbers)]
        controls = int(mine["control"].notna().sum())
        price, price_now = price + prices.well * controls, price_now + now.well * controls
        ids = mine["design_id"].dropna()
        counts = ids.groupby([mine.loc[ids.index, "round"], ids]).size()
        for n, some in counts.groupby(counts):
            designs = known.loc[some.index.get_level_values("design_id")].reset_index(drop=True)
            cost = float(prices.of(designs, memory.config.space, replicates=int(n)).sum())
            price += cost
            price_now += cost if prices == now else float(now.of(designs, memory.config.space, replicates=int(n)).sum())
    return Spent(wells=len(wells), price=price, price_now=price_now)


def told(memory: Memory) -> dict[str, Any]:
    """Tell what is spent and what was to be, as plain values; nothing where the campaign has neither budget nor prices."""
    budget, prices = memory.config.budget, memory.config.prices
    if budget is None and prices is None:
        return {}
    so_far = spent(memory)
    return {
        "spent": {
            "wells": so_far.wells, "price": so_far.price, "unit": prices.unit if prices else "",
            "budget_wells": budget.wells if budget else None, "budget_price": budget.price if budget else None,
            **({} if _same(so_far.price_now, so_far.price) else {"price_now": so_far.price_now}),
        }
    }  # fmt: skip


def _same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isclose(one, other))


def revised(memory: Memory, old: CampaignConfig) -> list[str]:
    """Say how the rounds so far are counted after a revision of the prices, where that is not at these."""
    counted, prices = spent(memory), memory.config.prices
    so_far, now = counted.price, counted.price_now
    if prices is None or so_far is None or now is None or _same(now, so_far):
        return []
    then, anew, by = (f"{price:,.6g} {prices.unit}".rstrip() for price in (so_far, now, abs(now - so_far)))
    told = f"prices: the rounds so far are counted at those that they opened with, {then}; at these it would be {anew}"
    budget = memory.config.budget
    if budget is not None and budget == old.budget and budget.price is not None and budget.price > now - so_far:
        told += f": if the old ones were mistyped, {'lower' if now > so_far else 'raise'} budget.price by {by}"
    return [told]


def in_words(spending: dict[str, Any]) -> str:
    """Say what `told` gave in one line."""
    parts = [f"{spending['wells']} wells" + (f" of {spending['budget_wells']}" if spending["budget_wells"] else "")]
    if spending["price"] is not None:
        of = f" of {spending['budget_price']:,.6g}" if spending["budget_price"] else ""
        parts.append(f"{spending['price']:,.6g}{of} {spending['unit']}".rstrip())
    if "price_now" in spending:
        parts[-1] += f" at the prices that rounds opened with ({spending['price_now']:,.6g} at those of now)"
    return ", ".join(parts)


def terms_of(memory: Memory, number: int, config: RoundConfig, *, seed: int) -> Terms:
    """Take the terms of a round: its limits with what earlier wells have left of them, and the money that is left.

    Args:
        seed: the round's.
    """
    run = memory.config
    before = None
    if any(limit.per == "campaign" for several in run.limits.values() for limit in several):
        wells = laid_out(memory, before=number)
        ids = wells["design_id"].dropna().tolist()
        before = memory.ledger.designs(memory.name, list(dict.fromkeys(ids))).loc[ids] if ids else None
    money = None
    if run.budget is not None and run.budget.price is not None and run.prices is not None:
        controls = config.plates * sum(control.wells for control in run.plate.controls)
        money = run.budget.price - (spent(memory, before=number).price or 0.0) - run.prices.well * controls
    return Terms.of(run, plates=config.plates, seed=derive(seed, "round", number, "layout"), before=before, money=money)


def check(memory: Memory, number: int, config: RoundConfig, *, seed: int) -> None:
    """Refuse a round that the budget or the limits cannot bear, before anything is trained.

    Raises:
        CampaignError: what is left of the budget is too little for the round's plates.
        ConfigError: no batch can keep the limits.
    """
    n = sum(config.designs(memory.config.plate).values())
    if short := _short(memory, n, plates=config.plates, before=number):
        raise CampaignError(f"round {number} of {memory.name} {short}")
    try:
        terms_of(memory, number, config, seed=seed).check(n)
    except ConfigError as error:
        raise ConfigError(f"{memory.name}: {error}") from error


def short(memory: Memory, config: RoundConfig | None = None) -> str | None:
    """Say so where what is left of the budget is too little for the next round, and what to do; None where it is enough.

    Args:
        config: the next round, where it is known; another full plate else.
    """
    plate, plates = memory.config.plate, 1 if config is None else config.plates
    n = plate.designs(1) if config is None else sum(config.designs(plate).values())
    told = _short(memory, n, plates=plates)
    return f"{'another full plate' if config is None else 'the next round'} {told}" if told else None


def _short(memory: Memory, n: int, *, plates: int, before: int | None = None) -> str | None:
    """Say what so many designs on so many plates take of what is left of the budget, where that is too little.

    Args:
        before: what was spent before this round counts; all where left out.
    """
    run = memory.config
    if run.budget is None:
        return None
    so_far = spent(memory, before=before)
    each = n * run.plate.replicates + plates * sum(control.wells for control in run.plate.controls)
    mend = (
        "take fewer plates in the round's file, or fewer wells of each (plate.use in the campaign), or raise budget in the "
        f"campaign's file (labloop revise {memory.name} FILE.yaml --reason …)"
    )
    if run.budget.wells is not None and so_far.wells + each > run.budget.wells:
        return f"takes {each} wells, but {so_far.wells} of the budget's {run.budget.wells} are spent: {mend}"
    if run.budget.price is not None and run.prices is not None:
        controls = run.prices.well * (each - n * run.plate.replicates)
        least = n * cheapest(run.prices, run.space, run.plate.replicates) + controls
        if (so_far.price or 0.0) + least > run.budget.price:
            unit = f" {run.prices.unit}".rstrip()
            return (
                f"costs at least {least:,.6g}{unit}, but {so_far.price or 0:,.6g} of the budget's {run.budget.price:,.6g}{unit} "
                f"are spent: {mend}"
            )
    return None
