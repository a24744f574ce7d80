"""All pairs of arms, and every proposer against the free baselines, with the verdicts that the plan allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from labloop.compare import measures, statistics
from labloop.compare.figures import AgainstFree, Difference, Measure, Scope
from labloop.compare.measures import Found
from labloop.compare.pairs import Pair, pair_of
from labloop.compare.plan import ROUNDS, Plan, spent
from labloop.compare.statistics import Draws
from labloop.space.objective import Objective

_PROPOSERS = 0.2
"""Part of the level for proposers, where there are any to hold against free baselines."""
ALL_BUT_PROPOSERS = 1 - _PROPOSERS
_NAN = float("nan")


def allowed(plan: Plan, scope: Scope, rounds: Sequence[int], *, waiting: bool, part: float = 1.0) -> float:
    """Part of the level that a verdict after the last of these rounds may spend."""
    last = max(rounds, default=1)
    level = plan.arms(last) if scope == "arms" else plan.plate(last) if len(rounds) < 2 else plan.pooled(last)
    return spent(part * level, waiting=waiting)


def corrected(p: float, level: float, allowance: float) -> float:
    """Correct a p-value for all other looks of the campaign: what is left of its level is its part."""
    return min(1.0, p * level / allowance) if allowance > 0 else 1.0 if p <= 1 else p


def differences(
    pairs: Sequence[Pair], plan: Plan, rounds: Sequence[int], objective: Objective, top_k: int, draws: Draws, *, part: float,
    usable: Sequence[Pair] | None = None, keeping: Sequence[Pair] | None = None,
) -> tuple[Difference, ...]:  # fmt: skip
    """Compare pairs of arms on these plates, and from the third shared round on the arms themselves.

    Args:
        rounds: those of the comparison; the last decides what this look may spend.
        part: of the level, for the pairs of arms.
        usable: the same pairs with wells that break a limit as their round's worst; None where nothing has limits.
        keeping: the same pairs without wells that break a limit, for the top-k means.
    """
    found: list[Difference] = []
    best = pairs if keeping is None else keeping
    on_plates: dict[Measure, tuple[Sequence[Pair], list[Found]]] = {
        "mean": (pairs, [measures.plates(pair) for pair in pairs]),
        "top_mean": (best, [measures.top_means(pair, top_k, draws) for pair in best]),
        "hit_rate": (pairs, [measures.hit_rates(pair) for pair in (pairs if usable is None else usable)]),
    }
    lasting = [pair for pair in pairs if len(pair.blocks) >= ROUNDS]
    for measure, (of, gaps) in on_plates.items():
        found += _corrected(of, gaps, measure, "plates", plan, rounds, objective, part)
    over_rounds = _corrected(lasting, [measures.arms(pair) for pair in lasting], "mean", "arms", plan, rounds, objective, part)
    return tuple(_with_limits(one, usable) for one in (*over_rounds, *found))


def _with_limits(gap: Difference, usable: Sequence[Pair] | None) -> Difference:
    """Add what a difference of means is where wells that break a limit are no gain."""
    if usable is None or gap.measure != "mean":
        return gap
    pair = next(one for one in usable if (one.first, one.second) == (gap.first, gap.second))
    of = measures.arms if gap.scope == "arms" else measures.plates
    return replace(gap, usable=of(pair).estimate)


def _corrected(
    pairs: Sequence[Pair], gaps: Sequence[Found], measure: Measure, scope: Scope, plan: Plan, rounds: Sequence[int],
    objective: Objective, part: float,
) -> list[Difference]:  # fmt: skip
    made = []
    for pair, gap, p_holm in zip(pairs, gaps, statistics.holm([gap.p for gap in gaps]), strict=True):
        mean = measure == "mean"
        may = allowed(plan, scope, rounds, waiting=pair.waiting, part=part)
        ends = gap.ends or (gap.estimate, gap.estimate)
        kind, effect, (effect_low, effect_high) = _effect(measure, gap, objective)
        read = gap.ends is None  # what wells or rounds would show cannot be told where bounds may lie elsewhere
        needed = measures.wells_needed(pair, gap.estimate, may / len(pairs)) if mean and read and scope == "plates" else None
        late = plan.arms(max(plan.rounds, ROUNDS, *rounds)) * part * 0.9 / len(pairs)
        more = measures.rounds_needed(pair, gap.estimate, late) if read and scope == "arms" else None
        behind = tuple(b.number for b in pair.blocks if b.gap * gap.estimate < 0) if mean else ()
        made.append(Difference(
            first=pair.first, second=pair.second, measure=measure, scope=scope, rounds=pair.rounds, n_first=pair.n(0),
            n_second=pair.n(1), n_shared=pair.n_shared, estimate=gap.estimate, low=gap.low, high=gap.high, method=gap.method,
            p=gap.p, p_holm=p_holm, p_looks=corrected(p_holm, plan.level, may) if mean and math.isfinite(gap.low) else _NAN,
            refused=pair.refused, behind=behind, wells_needed=needed, rounds_needed=more, effect=effect, effect_low=effect_low,
            effect_high=effect_high, effect_kind=kind, estimate_low=ends[0], estimate_high=ends[1],
        ))  # fmt: skip
    return made


def _effect(
    measure: Measure, gap: Found, objective: Objective
) -> tuple[Literal["difference", "ratio", "rate"], float, tuple[float, float]]:
    """Say a difference of y in the lab's unit."""
    if measure == "hit_rate":
        return "rate", gap.estimate, (gap.low, gap.high)
    base = {"identity": None, "log": math.e, "log10": 10.0}[objective.transform]
    told = (objective.sign * np.array([gap.estimate, gap.low, gap.high])).tolist()
    if base is not None:
        with np.errstate(over="ignore"):
            told = np.power(base, told).tolist()
    return "difference" if base is None else "ratio", told[0], (min(told[1:]), max(told[1:]))


def against_free(picks: pd.DataFrame, plan: Plan, rounds: Sequence[int]) -> tuple[AgainstFree, ...]:
    """Hold every proposer that is no free baseline against those that are.

    As with arms: with rounds as the sample from the third shared round on, and always on these plates.
    """
    rows = {(str(arm), str(name)): mine for (arm, name), mine in picks.groupby(["arm", "proposer"], sort=False)}
    rows = {key: mine for key, mine in rows.items() if mine["y"].notna().any()}
    free = [key for key in rows if key[1] in plan.free]
    named = {"\n".join(one): mine for one, mine in rows.items()}
    pairs = [
        [pair for one in free if (pair := pair_of(named, "\n".join(key), "\n".join(one), share=plan.share)).blocks]
        for key in rows if key not in free
    ]  # fmt: skip
    pairs = [mine for mine in pairs if mine]
    lasting = [mine for mine in pairs if all(len(pair.blocks) >= ROUNDS for pair in mine)]
    found = (*_all_against(lasting, "arms", plan, rounds), *_all_against(pairs, "plates", plan, rounds))
    if "kept" not in picks.columns or not found:
        return found
    worth = against_free(picks.assign(y=picks["usable"]).drop(columns="kept"), plan, rounds)
    return tuple(replace(one, usable=other.estimate) for one, other in zip(found, worth, strict=True))


def _all_against(pairs: Sequence[Sequence[Pair]], scope: Scope, plan: Plan, rounds: Sequence[int]) -> list[AgainstFree]:
    found = [_against(mine, scope) for mine in pairs]
    made = []
    for (gap, pair), mine, p_holm in zip(found, pairs, statistics.holm([gap.p for gap, _ in found]), strict=True):
        waiting = any(one.waiting for one in mine)
        may = allowed(plan, scope, rounds, waiting=waiting, part=_PROPOSERS)
        arm, proposer = _name(pair.first)
        made.append(AgainstFree(
            arm=arm, proposer=proposer, baseline=_name(pair.second)[1], scope=scope, rounds=pair.rounds, n=pair.n(0),
            n_baseline=pair.n(1), estimate=gap.estimate, low=gap.low, high=gap.high, p=gap.p, p_holm=p_holm,
            p_looks=corrected(p_holm, plan.level, may), refused=any(one.refused for one in mine),
        ))  # fmt: skip
    return made


def _against(pairs: Sequence[Pair], scope: Scope) -> tuple[Found, Pair]:
    of = measures.arms if scope == "arms" else measures.plates
    gaps = [of(pair) for pair in pairs]
    least = min(range(len(gaps)), key=lambda i: gaps[i].estimate)
    # A baseline without an interval can be neither beaten nor beat.
    better = max(gap.p if gap.estimate > 0 and math.isfinite(gap.low) else 1.0 for gap in gaps)
    worse = min(1.0, len(gaps) * min(gap.p if gap.estimate < 0 and math.isfinite(gap.low) else 1.0 for gap in gaps))
    low = min((gap.low for gap in gaps), key=lambda x: x if math.isfinite(x) else -math.inf)
    one_of = 1 - (1 - statistics.LEVEL) / len(gaps)
    highs = [high for pair in pairs if math.isfinite(high := of(pair, one_of).high)]
    found = Found(gaps[least].estimate, low, min(highs) if highs else _NAN, min(better, worse), gaps[least].method)
    return found, pairs[least]


def _name(joined: str) -> tuple[str, str]:
    arm, _, proposer = joined.partition("\n")
    return arm, proposer


def best_free(picks: pd.DataFrame, plan: Plan) -> str | None:
    """Name the free baseline whose wells were best, each against all baselines' wells of its round, by `usable`."""
    rows = picks[(picks["proposer"].isin(plan.free) & picks["y"].notna()).to_numpy(dtype=bool)]
    if rows.empty:
        return None
    y, numbers, proposers = rows["usable"].to_numpy(float), rows["round"].to_numpy(), rows["proposer"].to_numpy(dtype=object)
    means = {number: y[numbers == number].mean() for number in set(numbers)}
    gains = y - np.array([means[number] for number in numbers])
    by = {name: gains[proposers == name].mean() for name in dict.fromkeys(proposers)}
    return str(max(by, key=lambda name: by[name]))
