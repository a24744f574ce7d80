"""What a comparison of arms says: its figures, and its sentence for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import pandas as pd

from labloop.compare.statistics import LEVEL
from labloop.space.objective import Objective

Measure = Literal["mean", "top_mean", "hit_rate"]


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """What one arm, or one proposer within it, got from its wells. `…_value` fields are in the lab's unit, the rest in y."""

    arm: str
    proposer: str | None
    n_wells: int
    n_measured: int
    n_failed: int
    n_pending: int
    best: float
    best_id: str | None
    mean: float
    mean_low: float
    mean_high: float
    mean_method: str
    """How the interval was made, or why there is none."""
    top_mean: float
    n_hits: int | None
    """Measured wells above the incumbent stored when their round was proposed; None where no incumbent is known."""
    hit_rate: float
    hit_low: float
    hit_high: float
    best_value: float
    mean_value: float
    """The mean y turned into the lab's unit: under a log transform the geometric mean."""
    mean_value_low: float
    mean_value_high: float
    top_mean_value: float
    seconds: float
    """Computing time of its proposers' runs; NaN where none is recorded."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First arm minus second arm, in y (larger is better), over the rounds in which both have measured wells."""

    first: str
    second: str
    measure: Measure
    n_first: int
    n_second: int
    n_shared: int
    estimate: float
    low: float
    high: float
    method: str
    """How the interval was made, or why there is none."""
    p: float
    p_holm: float
    """Corrected over the pairs of arms, within this measure."""
    wells_needed: int | None
    """Measured wells an arm that would show a true difference of this size with 80 % power; for the mean alone."""
    effect: float
    effect_low: float
    effect_high: float
    effect_kind: Literal["difference", "ratio", "rate"]
    """`effect` is in the lab's unit: difference of values, ratio of values (log transforms), or difference of rates."""

    @property
    def decided(self) -> bool:
        """Whether the data tell the two arms apart on this measure."""
        return self.p_holm <= 1 - LEVEL and (self.low > 0 or self.high < 0)

    def flipped(self) -> Difference:
        """The same difference seen from the second arm."""

        def turn(effect: float) -> float:
            return 1 / effect if self.effect_kind == "ratio" else -effect

        return replace(
            self, first=self.second, second=self.first, n_first=self.n_second, n_second=self.n_first, estimate=-self.estimate,
            low=-self.high, high=-self.low, effect=turn(self.effect), effect_low=turn(self.effect_high),
            effect_high=turn(self.effect_low),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How the stored predictions of the reference surrogate held up; a calibrated one covers 68 % and 95 %."""

    arm: str | None
    """None: all arms, each design once."""
    n: int
    within_1_std: float
    within_2_std: float
    above_lcb: float
    rho: float
    """Spearman's rank correlation of predicted mean and measured y."""
    optimism: float
    """Mean of predicted minus measured y: above zero, the picks promised more than they held."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Designs that two arms have in common, among their pools or among their picks."""

    first: str
    second: str
    of: Literal["pools", "picks"]
    n_first: int
    n_second: int
    n_shared: int
    jaccard: float


_PARTS = {"arms": ArmSummary, "proposers": ArmSummary, "differences": Difference, "calibration": Calibration, "overlaps": Overlap}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that can honestly be said about the arms of these rounds."""

    rounds: tuple[int, ...]
    top_k: int
    objective: Objective
    arms: tuple[ArmSummary, ...]
    proposers: tuple[ArmSummary, ...]
    differences: tuple[Difference, ...]
    calibration: tuple[Calibration, ...]
    overlaps: tuple[Overlap, ...]
    notes: tuple[str, ...]
    """What could not be computed, or must be read with care."""

    @property
    def sentence(self) -> str:
        """Say which arm is better, with interval and number of wells, or that the data cannot decide. For people."""
        return _sentence(self)

    def of(self, first: str, second: str, measure: Measure = "mean") -> Difference:
        """Give the difference first minus second, whichever way round it is stored.

        Raises:
            KeyError: no such pair of arms.
        """
        for found in self.differences:
            if found.measure == measure and {found.first, found.second} == {first, second}:
                return found if found.first == first else found.flipped()
        raise KeyError(f"{first} and {second} were not compared")

    def frame(self, part: Literal["arms", "proposers", "differences", "calibration", "overlaps"]) -> pd.DataFrame:
        """Give one part as a table, one row an entry."""
        columns = [field.name for field in fields(_PARTS[part])]
        return pd.DataFrame([asdict(row) for row in getattr(self, part)], columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON types; a number that is not finite is None."""
        return _plain({"sentence": self.sentence, **asdict(self), "objective": self.objective.model_dump()})  # type: ignore[no-any-return]


def spell(x: float, scale: float, *, digits: int = 2) -> str:
    """Write a number with as many decimals as a difference of this scale deserves, thousands apart; "–" where it is none."""
    if not math.isfinite(x):
        return "–"
    if not (math.isfinite(scale) and scale > 0):
        return f"{x:.3g}".replace("-", "−")
    decimals = digits - 1 - math.floor(math.log10(scale))
    if decimals > 6 or decimals < -6:
        return f"{x:.3g}".replace("-", "−")
    text = f"{round(x, decimals):,.{max(0, decimals)}f}"
    return (text[1:] if float(text.replace(",", "")) == 0 and text[0] == "-" else text).replace("-", "−")


def _sentence(c: Comparison) -> str:
    if not c.arms:
        return "No wells were picked in these rounds, so there is nothing to compare."
    where = _rounds(c.rounds)
    measured = [arm for arm in c.arms if arm.n_measured]
    total = sum(arm.n_wells for arm in c.arms)
    if not measured:
        return f"{where}, none of the {total} wells has a value yet, so there is nothing to compare."
    if len(c.arms) == 1:
        arm = c.arms[0]
        half = (arm.mean_value_high - arm.mean_value_low) / 2
        unit = f" {c.objective.unit}" if c.objective.unit else ""
        limits = f" (95 % interval {spell(arm.mean_value_low, half)} to {spell(arm.mean_value_high, half)})"
        return (
            f"{where}, {arm.arm} is the only arm: the mean of its {_count(arm.n_measured)} is {spell(arm.mean_value, half)}{unit}"
            f"{limits if math.isfinite(half) else ''}. A comparison needs a second arm."
        )
    if len(measured) == 1:
        waiting = _join([arm.arm for arm in c.arms if not arm.n_measured])
        return f"{where}, only {measured[0].arm} has measured wells; nothing can be compared until {waiting} has some too."

    wins = {arm.arm: [o.arm for o in measured if o is not arm and _wins(c, arm.arm, o.arm)] for arm in measured}
    leader = max(measured, key=lambda arm: (len(wins[arm.arm]), arm.mean)).arm
    others = [arm.arm for arm in measured if arm.arm != leader]
    beaten, level = wins[leader], [name for name in others if name not in wins[leader]]
    said = []
    if beaten:
        nearest = min(beaten, key=lambda name: c.of(leader, name).estimate)
        closest = ", its closest rival" if len(beaten) > 1 else ""
        said.append(f"{where}, {leader} is better than {_join(beaten)}: {_gap(c, leader, nearest, closest)}.")
    if level:
        rival = max(level, key=lambda name: -abs(c.of(leader, name).estimate) if _known(c, leader, name) else -math.inf)
        lead = f"{'Between' if said else where + ', the data cannot decide between'} {_join([leader, *level])}"
        said.append(f"{lead}{' the data cannot decide' if said else ''}: {_gap(c, leader, rival, '')}.")
        needed = c.of(leader, rival).wells_needed
        if needed is not None:
            said.append(_power(needed))
    also = [f"{name} is better than {_join(wins[name])}" for name in others if wins[name]]
    if also:
        said.append(f"{_join(also)}.")
    if all(arm.n_hits is not None for arm in measured):
        hits = [f"{arm.n_hits} of {arm.n_measured} for {arm.arm}" for arm in measured]
        said.append(f"Wells that beat the incumbent: {_join(hits)}.")
    return " ".join(said)


def _known(c: Comparison, first: str, second: str) -> bool:
    return math.isfinite(c.of(first, second).estimate)


def _wins(c: Comparison, first: str, second: str) -> bool:
    gap = c.of(first, second)
    return gap.decided and gap.estimate > 0


def _gap(c: Comparison, first: str, second: str, aside: str) -> str:
    """Say by how much the first arm's mean differs from the second's, in the lab's unit."""
    gap = c.of(first, second)
    if not math.isfinite(gap.estimate):
        return f"{first} and {second} share no round with measured wells"
    unit = f" {c.objective.unit}" if c.objective.unit else ""
    what = f"{first}'s {_count(gap.n_first)} is"
    against = f"that of {second}'s {gap.n_second}{aside}"
    # Folds are said as differences of logarithms are: their sign is the way, their size the fold.
    fold = gap.effect_kind == "ratio"
    effect, low, high = (math.log(x) if fold else x for x in (gap.effect, gap.effect_low, gap.effect_high))
    half = (high - low) / 2

    def size(x: float) -> str:
        if not fold:
            return spell(abs(x), half)
        times = math.exp(abs(x))
        return f"{spell(times, times * min(1.0, half))}-fold"

    way = f"{size(effect)}{unit if not fold else ''} {'higher' if effect > 0 else 'lower'} than" if effect else "the same as"
    text = f"the {'geometric ' if fold else ''}mean of {what} {way} {against}"
    if not math.isfinite(half):
        return f"{text}, with no interval ({gap.method.removeprefix('none: ')})"
    if low < 0 < high:
        limits = f"{size(low)} lower to {size(high)} higher"
    else:
        limits = " to ".join(size(x) for x in sorted((low, high), key=abs)) + (" higher" if low >= 0 else " lower")
    p = "p < 0.001" if gap.p_holm < 0.001 else f"p = {gap.p_holm:.2g}"
    return f"{text} (95 % interval {limits}; {p})"


def _power(needed: int) -> str:
    if needed > 5_000:
        return "If the true difference is as small as that, more than 5,000 wells an arm would be needed to show it."
    step = 10 ** max(0, len(str(needed)) - 2)
    return f"If the true difference is of that size, about {math.ceil(needed / step) * step:,} wells an arm would show it."


def _rounds(rounds: Sequence[int]) -> str:
    if len(rounds) < 2:
        return f"In round {rounds[0]}" if rounds else "So far"
    whole = list(rounds) == list(range(rounds[0], rounds[-1] + 1))
    return f"Over rounds {rounds[0]} to {rounds[-1]}" if whole else f"Over rounds {_join([str(r) for r in rounds])}"


def _count(n: int) -> str:
    return f"{n} measured well" + ("" if n == 1 else "s")


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
