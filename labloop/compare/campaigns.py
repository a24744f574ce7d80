"""Arms against each other over campaigns, each of which is one observation: what rounds of one campaign cannot tell.

Rounds of one campaign go back to one start, whose luck comes again in every round. Where the question is whether an arm is better
in campaigns like these, a campaign counts once, with its arms' difference over its rounds, and all campaigns count alike
(Student's t). Arms that share no campaign are not compared, as the difference of two starts would count for theirs.

Under limits the campaigns' second differences (`Difference.usable`) are averaged alike: where their mean is none, or turns,
nobody is named. A campaign without limits counts there with its difference as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from labloop.compare import measures, statistics
from labloop.compare.figures import Difference, spell_apart
from labloop.compare.measures import Found
from labloop.compare.results import Comparison
from labloop.compare.sentence import keeping, no_gain
from labloop.space.objective import Objective

CAMPAIGNS = 3
"""From so many campaigns on that two arms share there is a verdict."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """First arm minus second arm over campaigns, in y (larger is better)."""

    first: str
    second: str
    by_campaign: Mapping[str, float]
    """The difference of means in each campaign that both took part in."""
    estimate: float
    low: float
    high: float
    p: float
    p_holm: float
    """Corrected over the pairs of arms, for a number of campaigns that was fixed beforehand."""
    method: str
    usable: float = math.nan
    """The mean of the campaigns' differences where a well that breaks a limit counts as its round's worst; NaN where none has
    limits."""

    @property
    def outweighed(self) -> bool:
        """Whether the difference is none any more, or turns, where wells that break a limit are no gain."""
        return self.usable * self.estimate <= 0 and self.estimate != 0

    @property
    def decided(self) -> bool:
        return not self.outweighed and self.p_holm <= 1 - statistics.LEVEL


@dataclass(frozen=True, kw_only=True)
class Across:
    """What several campaigns together say of their arms."""

    campaigns: tuple[str, ...]
    objective: Objective
    gaps: tuple[Gap, ...]
    kept: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By arm its measured wells that keep every limit, and all, of the campaigns that have limits; empty where none has."""

    @property
    def sentence(self) -> str:
        """Say for each pair of arms which is better in campaigns like these, or that they cannot tell."""
        said = [self._said(gap) for gap in self.gaps] or ["No campaign has measured wells of two arms."]
        none = [no_gain(gap.first, gap.second, gap.estimate) for gap in self.gaps if gap.outweighed]
        kept = [f"Wells that keep the limits: {keeping(self.kept)}."] if self.kept else []
        return " ".join([*said, *kept, *none])

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON types; a number that is not finite is None."""
        rows = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(gap).items()} |
                {"decided": gap.decided} for gap in self.gaps]  # fmt: skip
        objective = self.objective.model_dump()
        kept = {"kept": {arm: list(wells) for arm, wells in self.kept.items()}} if self.kept else {}
        return {"sentence": self.sentence, "campaigns": list(self.campaigns), "objective": objective, "gaps": rows} | kept

    def _said(self, gap: Gap) -> str:
        n = len(gap.by_campaign)
        names = f"{gap.first} and {gap.second}"
        if n == 0:
            return f"{names} share no campaign: of arms that began from different starts nothing can be told."
        if not math.isfinite(gap.low):
            why = gap.method.removeprefix("none: ")
            return f"{names} share {n} campaign{'s' if n > 1 else ''}, which cannot tell which is better ({why})."
        ahead = sum(one * gap.estimate > 0 for one in gap.by_campaign.values())
        half = (gap.high - gap.low) / 2
        logs = "" if self.objective.transform == "identity" else " in logarithms"
        unit = f" {self.objective.unit}" if self.objective.unit and not logs else ""
        better, worse = (gap.first, gap.second) if gap.estimate > 0 else (gap.second, gap.first)
        low, high = (gap.low, gap.high) if gap.estimate > 0 else (-gap.high, -gap.low)
        least = spell_apart(low, half) if low > 0 else f"{spell_apart(-low, half)} worse"
        told = f"{least} to {spell_apart(high, half)} better"
        size = spell_apart(abs(gap.estimate), half)
        head = f"{better} is better than {worse}" if gap.decided else f"the campaigns cannot tell {better} from {worse}"
        return (
            f"Over {n} campaigns, {head}: its mean is {size}{unit}{logs} better, campaign by campaign "
            f"(95 % interval {told}; p = {gap.p_holm:.2g} if their number was fixed beforehand), so in {ahead} of {n}."
        )


def across(found: Mapping[str, Comparison]) -> Across:
    """Compare arms over campaigns.

    Args:
        found: by campaign its comparison over all its rounds; all of one objective.
    """
    arms = list(dict.fromkeys(arm.arm for one in found.values() for arm in one.arms))
    made: list[tuple[str, str, dict[str, Difference], Found]] = []
    for first, second in combinations(arms, 2):
        gaps = {name: gap for name, one in found.items() if (gap := _gap(one, first, second)) is not None}
        made.append((first, second, gaps, _tested([*gaps.values()])))
    corrected = statistics.holm([gap.p for *_, gap in made])
    told = tuple(
        Gap(first=first, second=second, by_campaign={name: one.estimate for name, one in gaps.items()}, estimate=gap.estimate,
            low=gap.low, high=gap.high, p=gap.p, p_holm=p, method=gap.method, usable=_usable([*gaps.values()]))
        for (first, second, gaps, gap), p in zip(made, corrected, strict=True)
    )  # fmt: skip
    objective = next(iter(found.values())).objective
    return Across(campaigns=tuple(found), objective=objective, gaps=told, kept=_kept(found, arms))


def _kept(found: Mapping[str, Comparison], arms: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Count by arm the measured wells that keep every limit, and all, over the campaigns that have limits."""
    known = [arm for told in found.values() for arm in told.arms if arm.n_kept is not None]
    of = {arm: [one for one in known if one.arm == arm] for arm in arms}
    return {arm: (sum(one.n_kept or 0 for one in mine), sum(one.n_measured for one in mine)) for arm, mine in of.items() if mine}


def _usable(gaps: Sequence[Difference]) -> float:
    """Average the second differences; a campaign without limits has none that breaks one, so that its first one stands."""
    if all(math.isnan(gap.usable) for gap in gaps):
        return math.nan
    return float(np.mean([gap.estimate if math.isnan(gap.usable) else gap.usable for gap in gaps]))


def _gap(one: Comparison, first: str, second: str) -> Difference | None:
    try:
        gap = one.of(first, second)
    except KeyError:
        return None
    return None if gap.refused or not math.isfinite(gap.estimate) else gap


def _tested(gaps: Sequence[Difference]) -> Found:
    few = f"it takes {CAMPAIGNS} campaigns or more"

    def of(estimates: list[float]) -> Found:
        return measures.over(np.array(estimates), "campaigns", "their", fewest=CAMPAIGNS, few=few)

    found = of([gap.estimate for gap in gaps])
    if not any(gap.bounds for gap in gaps):
        return found
    return measures.wherever(found, of([gap.estimate_low for gap in gaps]), of([gap.estimate_high for gap in gaps]))
