"""What came of a campaign's rounds: its arms against each other, by what the ledger says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from labloop.compare.arms import compare
from labloop.compare.campaigns import Across, across
from labloop.compare.hypervolume import Fronts, compare_fronts
from labloop.compare.plan import Plan
from labloop.compare.results import Comparison
from labloop.errors import CampaignError
from labloop.ledger.memory import Memory
from labloop.proposing.dataset import Dataset
from labloop.rounds import planned, state
from labloop.seeds import derive


def compare_round(memory: Memory, number: int | None = None, *, results: pd.DataFrame | None = None) -> Comparison:
    """Compare the arms of one round (the latest that has results, where no number is given).

    Args:
        results: those of `state.results`, where they are known already.

    Raises:
        CampaignError: no well of a round has been measured yet.
    """
    results = state.results(memory) if results is None else results
    if number is None:
        with_results = results.loc[results["y"].notna(), "round"]
        if with_results.empty:
            last = state.rounds_now(memory)[-1:]
            done = not last or last[0].state in planned.DONE
            none = f"no well of round {last[0].number} has a value: " if done and last else ""
            first = f"run 'labloop propose {memory.name}', then " if done else ""
            then = f"{none}{first}ingest its plate: {memory.to_ingest()}"
            raise CampaignError(f"{memory.name} has no measured round to compare: {then}")
        number = int(with_results.max())
    results = limited(memory, results)
    entry = memory.round(number)
    runs = memory.ledger.runs(memory.name, number)
    pools: dict[str, set[str]] = {}
    _add_offers(pools, memory, runs, number)
    found = compare(
        results[results["round"] == number], incumbent=entry.incumbent, runs=runs, pools=pools,
        objective=memory.config.objective, seed=derive(memory.seed(number), "round", number, "compare"), plan=plan_of(memory),
    )  # fmt: skip
    return _with_replicates(memory, found, [number])


def limited(memory: Memory, results: pd.DataFrame) -> pd.DataFrame:
    """Add to picks whether their designs keep every limit, `kept`, where there are any; what nobody measured counts as kept."""
    goal = memory.config.goal
    if goal is None or not goal.limits:
        return results
    kept = state.dataset(memory).kept
    return results.assign(kept=[kept.get(one, True) for one in results["design_id"]])


def _with_replicates(memory: Memory, found: Comparison, numbers: Sequence[int]) -> Comparison:
    """Say that the wells of a comparison of rounds are designs, where each has several on its plate."""
    each = sorted({memory.at(number).config.plate.replicates for number in numbers})
    if each == [1]:
        return found
    several = " or ".join(map(str, each))
    of = ", by its round" if len(each) > 1 else ""
    return replace(
        found, notes=(f"Every design has {several} wells{of}, which count as one here, with their mean.", *found.notes)
    )


def _add_offers(pools: dict[str, set[str]], memory: Memory, runs: pd.DataFrame, number: int) -> None:
    """Add to each arm's designs those that its runs of a round offered."""
    arms = dict(zip(runs["key"].tolist(), runs["arm"].astype(str).tolist()))
    for arm in arms.values():
        pools.setdefault(arm, set())
    for key, design_id in memory.ledger.offers(memory.name, number):
        if key in arms:
            pools[arms[key]].add(design_id)


def compare_properties(memory: Memory, data: Dataset) -> Fronts | None:
    """Compare the arms by what their wells added to the hypervolume, over all rounds; None with one objective."""
    if data.properties is None or data.properties.goal.m < 2:
        return None
    picks = memory.ledger.picks(memory.name)
    place = {one: i for i, one in enumerate(data.ids)}
    known = picks[picks["design_id"].isin(place)]
    Y = data.properties.sure
    arms = {
        str(arm): Y[[place[one] for one in mine["design_id"].drop_duplicates()]] for arm, mine in known.groupby("arm", sort=False)
    }
    chosen = set(known["design_id"])
    before = Y[[i for one, i in place.items() if one not in chosen]]
    return compare_fronts(data.properties.goal, before, arms, seed=derive(memory.config.seed, "fronts"))


def compare_rounds(memory: Memory) -> Comparison:
    """Compare the arms over all measured rounds: the campaign's verdict.

    Raises:
        CampaignError: no well of a round has been measured yet.
    """
    results = state.results(memory)
    found = compare_all(memory, results, sorted({int(number) for number in results.loc[results["y"].notna(), "round"]}))
    return found or compare_round(memory)  # which tells that there is nothing to compare


_OF_ONE = ("assay", "direction", "unit", "transform")
"""What campaigns of one objective have in common."""


def compare_campaigns(memories: Sequence[Memory]) -> Across:
    """Compare arms over several campaigns, each of which counts once.

    Raises:
        CampaignError: a campaign stands there twice, has another objective than the first, or no measured wells.
    """
    names, objective = [memory.name for memory in memories], memories[0].config.objective
    for memory in memories[1:]:
        if names.count(memory.name) > 1:
            raise CampaignError(f"{memory.name} is named twice: name each campaign once")
        other = memory.config.objective
        if differing := [one for one in _OF_ONE if getattr(other, one) != getattr(objective, one)]:
            raise CampaignError(
                f"{memory.name} and {names[0]} differ in {' and '.join(differing)} of their objective, so that their arms cannot "
                "be compared together: name campaigns of one objective"
            )
    return across({memory.name: compare_rounds(memory) for memory in memories})


def compare_all(memory: Memory, results: pd.DataFrame, measured: Sequence[int]) -> Comparison | None:
    """Compare the arms over all measured rounds; None where there is none.

    Args:
        results: what `state.results` gives.
    """
    if not measured:
        return None
    results = limited(memory, results)
    runs = memory.ledger.runs(memory.name)
    pools: dict[str, set[str]] = {}
    for number in measured:
        _add_offers(pools, memory, runs[(runs["round"] == number).to_numpy(dtype=bool)], number)
    found = compare(
        results, rounds=measured, incumbent={entry.number: entry.incumbent for entry in memory.ledger.rounds(memory.name)},
        objective=memory.config.objective, runs=runs, pools=pools, seed=derive(memory.seed(measured[0]), "compare"),
        plan=plan_of(memory),
    )  # fmt: skip
    return _with_replicates(memory, found, measured)


def plan_of(memory: Memory) -> Plan:
    """Give the plan of verdicts, by the configuration with which the first round opened: no revision moves it."""
    first = memory.at(1).config
    return Plan(rounds=first.rounds, share=first.verdict.share)
