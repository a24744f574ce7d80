"""What a comparison of arms says: its figures, one class a table."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import pandas as pd

from labloop.compare.plan import Plan
from labloop.space.objective import Objective

Measure = Literal["mean", "top_mean", "hit_rate"]
Scope = Literal["plates", "arms"]
"""What a difference is about: the wells of these plates, or the arms, with rounds as the sample."""


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """What one arm, or one proposer within it, got from its wells. `…_value` fields are in the lab's unit, the rest in y."""

    arm: str
    proposer: str | None
    rounds: tuple[int, ...]
    """Those in which it has measured wells."""
    n_wells: int
    n_measured: int
    n_failed: int
    n_pending: int
    best: float
    """Bounds from above aside, which may hide anything; NaN where there is nothing else."""
    best_id: str | None
    mean: float
    mean_low: float
    mean_high: float
    mean_method: str
    """How the interval was made, or why there is none."""
    top_mean: float
    """Bounds from above come last in it."""
    n_hits: int | None
    """Measured wells above the incumbent stored when their round was proposed; None where no incumbent is known. A bound from
    above is none."""
    hit_rate: float
    hit_low: float
    hit_high: float
    n_kept: int | None
    """Measured wells that keep every limit, as far as that was measured; None where nothing has limits. `best`, `top_mean` and
    `n_hits` are of these, means of all wells."""
    keep_low: float
    keep_high: float
    """Wilson's 95 % interval of their share."""
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
    """First arm minus second arm, in y (larger is better), over rounds in which both have measured wells, at equal depth."""

    first: str
    second: str
    measure: Measure
    scope: Scope
    rounds: tuple[int, ...]
    """Which rounds: those that both arms took part in and that have results enough."""
    n_first: int
    """Measured wells that count, in `top_mean` those that keep the limits; where one arm was given more, those that it chose
    first."""
    n_second: int
    n_shared: int
    estimate: float
    low: float
    high: float
    """The 95 % interval leaves zero out exactly where p is below .05."""
    method: str
    """How the interval was made, or why there is none."""
    p: float
    p_holm: float
    """Corrected over the pairs of arms, within measure and scope."""
    p_looks: float
    """Corrected for looking after every round too, as the plan has it; for the mean alone."""
    refused: bool
    """Too many wells are out for a verdict."""
    behind: tuple[int, ...]
    """Rounds whose own difference goes the other way."""
    wells_needed: int | None
    """Measured wells an arm on one plate that would show, there, a true difference of this size with 80 % power; for the mean."""
    rounds_needed: int | None
    """Rounds like these that would show a true difference of this size between the arms with 80 % power; for the mean of arms."""
    effect: float
    effect_low: float
    effect_high: float
    effect_kind: Literal["difference", "ratio", "rate"]
    """`effect` is in the lab's unit: difference of values, ratio of values (log transforms), or difference of rates."""
    estimate_low: float
    estimate_high: float
    """The estimate with readings beyond the assay's range where they speak most against the first arm, and most for it: as far as
    the worst and the best reading. `estimate` has them at their bounds; interval and p hold for all of these."""
    usable: float = math.nan
    """The difference of means, in y, where a well that breaks a limit counts as its round's worst; NaN where none has limits."""

    @property
    def bounds(self) -> bool:
        """Whether the estimate hangs on where readings beyond the assay's range lie."""
        return self.estimate_low < self.estimate_high

    @property
    def outweighed(self) -> bool:
        """Whether the difference is none any more, or turns, where wells that break a limit are no gain."""
        return self.usable * self.estimate <= 0 and self.estimate != 0

    @property
    def decided(self) -> bool:
        """Whether the data tell the two apart: the arms, or for the scope `plates` the wells that they put on these plates."""
        return not self.refused and not self.outweighed and self.p_looks <= 0.05

    def flipped(self) -> Difference:
        """The same difference seen from the second arm."""

        def turn(effect: float) -> float:
            return -effect if self.effect_kind != "ratio" else 1 / effect if effect else math.inf

        return replace(
            self, first=self.second, second=self.first, n_first=self.n_second, n_second=self.n_first, estimate=-self.estimate,
            usable=-self.usable,
            low=-self.high, high=-self.low, effect=turn(self.effect), effect_low=turn(self.effect_high),
            effect_high=turn(self.effect_low), estimate_low=-self.estimate_high, estimate_high=-self.estimate_low,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AgainstFree:
    """One proposer against the best free baseline: the least of its differences of means to each of them, in y.

    Better than the best is better than each: the test is the one against the baseline that is hardest to beat, and no baseline
    is chosen by its own luck (Hsu, The Annals of Statistics 12, 1984; Berger, Technometrics 24, 1982). Worse than the best is
    worse than one of them, corrected for their number.
    """

    arm: str
    proposer: str
    baseline: str
    """The one hardest to beat."""
    scope: Scope
    rounds: tuple[int, ...]
    n: int
    """Measured wells that count, against this baseline."""
    n_baseline: int
    estimate: float
    low: float
    high: float
    p: float
    p_holm: float
    """Corrected over proposers."""
    p_looks: float
    refused: bool
    usable: float = math.nan
    """The least difference where a well that breaks a limit counts as its round's worst; NaN where none has limits."""

    @property
    def decided(self) -> bool:
        return not self.refused and not self.usable * self.estimate <= 0 and self.p_looks <= 0.05


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Measured wells of an arm in one round that beat the best value known when it was proposed, and keep the limits."""

    round: int
    arm: str
    n_hits: int
    n_measured: int


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


_PARTS = {
    "arms": ArmSummary, "proposers": ArmSummary, "differences": Difference, "against_free": AgainstFree, "hits": Hits,
    "calibration": Calibration, "overlaps": Overlap,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All figures of a comparison."""

    rounds: tuple[int, ...]
    top_k: int
    objective: Objective
    plan: Plan
    arms: tuple[ArmSummary, ...]
    proposers: tuple[ArmSummary, ...]
    differences: tuple[Difference, ...]
    against_free: tuple[AgainstFree, ...]
    """Every other proposer against the free baselines; empty where there are none of either."""
    best_free: str | None
    """The free baseline whose wells were best within their rounds; it was chosen by them, so that its own mean flatters it."""
    hits: tuple[Hits, ...]
    calibration: tuple[Calibration, ...]
    overlaps: tuple[Overlap, ...]
    notes: tuple[str, ...]
    """What could not be computed, or must be read with care."""

    def of(self, first: str, second: str, measure: Measure = "mean", scope: Scope | None = None) -> Difference:
        """Give the difference first minus second, whichever way round it is stored.

        Args:
            scope: of the arms where the rounds allow it, else of these plates, if None.

        Raises:
            KeyError: no such pair of arms.
        """
        for wanted in (scope,) if scope else ("arms", "plates"):
            for found in self.differences:
                if found.measure == measure and found.scope == wanted and {found.first, found.second} == {first, second}:
                    return found if found.first == first else found.flipped()
        raise KeyError(f"{first} and {second} were not compared")

    def frame(
        self, part: Literal["arms", "proposers", "differences", "against_free", "hits", "calibration", "overlaps"]
    ) -> pd.DataFrame:
        """Give one part as a table, one row an entry."""
        columns = [field.name for field in fields(_PARTS[part])]
        return pd.DataFrame([asdict(row) for row in getattr(self, part)], columns=columns)


def whose(name: str) -> str:
    """Write the possessive of a name."""
    return f"{name}'" if name.endswith("s") else f"{name}'s"


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


def spell_apart(x: float, scale: float, *, origin: float = 0.0) -> str:
    """Write a size as `spell` does, with a digit more where it would read as if there were no difference to the origin."""
    text, gap = spell(x, scale), abs(x - origin)
    lost = gap > 1e-9 * scale and float(text.replace(",", "").replace("−", "-")) == origin
    return spell(x, gap, digits=1) if lost else text
