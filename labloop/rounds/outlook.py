"""What the next plate of a campaign can show and gain, from the lab's own history, before it is spent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.compare.differences import ALL_BUT_PROPOSERS, allowed
from labloop.compare.figures import spell, whose
from labloop.compare.prospect import Spread, found_best, next_plate, smallest
from labloop.compare.statistics import variance
from labloop.config.read import load_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, ConfigError, MethodError
from labloop.ledger.memory import Memory
from labloop.proposing.checks import check_room
from labloop.proposing.dataset import Dataset
from labloop.rounds import state
from labloop.rounds.outcome import limited, plan_of
from labloop.seeds import derive
from labloop.space.objective import Objective

LAST = 2
"""Measured rounds whose wells say how an arm's next ones will spread."""
SKEWED = 1.5
"""Skewness of an arm's wells from which on is said that figures suppose about normal ones."""
NONE_KEEPS = "Go on: no measured design keeps the limits yet."


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What plates of one kind can show of two arms."""

    first: str
    second: str
    wells: tuple[int, int]
    replicates: int
    plates: int
    difference: float
    """Smallest true difference of means that is found with 80 % power, in y; NaN where none can be."""
    low: float
    high: float
    """What it is where the spread is as small, or as large, as the history allows."""


@dataclass(frozen=True, kw_only=True)
class ArmGain:
    """What another plate may gain with one arm's wells."""

    arm: str
    wells: int
    n_measured: int
    gain: float
    """Expected gain of the best true value over the incumbent, in y; NaN where the arm has no history, or too few wells of it
    keep the limits."""
    low: float
    high: float
    """Four of five plates gain as much as this."""
    chance: float
    """Probability that anything is gained."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the next plate can show and gain."""

    campaign: str
    objective: Objective
    wells: Mapping[str, int]
    """Designs of each arm."""
    replicates: int
    """Wells that every one of them fills."""
    reading: Spread
    """Of what the wells of a design tell, within an arm: designs and noise."""
    noise: Spread
    """Of the readings of one design."""
    shown: tuple[Shown, ...]
    best: Mapping[int, float]
    """By readings of a design: expected true value, above the mean, of what reads best in an arm's share of the plate."""
    gains: tuple[ArmGain, ...]
    incumbent: float
    """The best y of designs that keep the limits; NaN where none does."""
    stop: str
    """When stopping is reasonable, in words."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {**asdict(self), "objective": self.objective.model_dump(), "wells": dict(self.wells), "best": dict(self.best)}

    def effect(self, difference: float) -> str:
        """Say a difference of y in the lab's unit: as a difference, or as a ratio under a logarithm."""
        base = {"identity": None, "log": math.e, "log10": 10.0}[self.objective.transform]
        if not math.isfinite(difference):
            return "–"
        if base is not None:
            return f"{spell(base**difference, base**difference)} ×"
        return f"{spell(difference, abs(difference))} {self.objective.unit}".rstrip()


def outlook(memory: Memory, config: RoundConfig | Path | str | None = None, *, worth: float | None = None) -> Outlook:
    """Tell what the next plate can show of its arms and gain over the best known; nothing is trained or stored.

    Args:
        config: the round that is planned; the shipped default where none is given.
        worth: the smallest gain, in y, that is worth another plate; a reading's noise where None.

    Raises:
        CampaignError: too few designs are measured to say anything.
        ConfigError: `worth` is negative or not finite.
    """
    if worth is not None and not 0 <= worth < math.inf:
        raise ConfigError(f"worth is {worth:g}: give the smallest gain that is worth a plate, 0 or more")
    config = preset("rounds/default.yaml") if config is None else config
    config = config if isinstance(config, RoundConfig) else load_config(config, RoundConfig)
    whole, results = state.dataset(memory), limited(memory, state.results(memory))
    data, usable = whole.lead, whole.keeping  # wells are compared by the leading objective
    if len(data) < state.ENOUGH:
        raise CampaignError(f"{memory.name} has {len(data)} measured designs, too few to plan by: {memory.to_ingest()}")
    wells = config.designs(memory.config.plate)
    levels = _levels(memory, config)
    results = results[results["y"].notna()]
    last = sorted(results["round"].unique())[-LAST:]
    recent = results[results["round"].isin(last)]
    each, one = memory.config.plate.replicates, _noise(memory, data)
    noise = one.over(each)  # of what a plate tells of a design
    reading = _reading(recent, data, one, each)
    incumbent = float(usable.y[usable.best]) if len(usable) else math.nan
    gains = tuple(_gain(memory, arm, n, recent, incumbent, noise) for arm, n in wells.items())
    between = math.sqrt(max(reading.sd**2 - noise.sd**2, 0.0)) if noise.known and reading.known else math.nan
    mean_share = max(1, round(sum(wells.values()) / len(wells)))
    best = {
        r * each: found_best(max(1, mean_share // r), between, noise.sd, r) for r in (1, 2, 3)
    } if math.isfinite(between) else {}  # fmt: skip
    return Outlook(
        campaign=memory.name, objective=memory.config.objective, wells=wells, replicates=each,
        reading=reading, noise=one,
        shown=tuple(_shown(wells, reading, noise, levels, each)), best=best, gains=gains, incumbent=incumbent,
        stop=_stop(gains, one, worth) if len(usable) else NONE_KEEPS,
        notes=(*_lacking(memory, sum(wells.values())), *_few_keep(gains), *_notes(reading, noise, recent, wells)),
    )  # fmt: skip


def _reading(recent: pd.DataFrame, data: Dataset, noise: Spread, each: int) -> Spread:
    groups = [rows["y"].to_numpy(float) for _, rows in recent.groupby(["round", "arm"])]
    within, freedom = variance(groups)
    if freedom >= 3:
        rounds = ", ".join(str(int(one)) for one in sorted(recent["round"].unique()))
        return Spread.of(within, freedom, f"wells within arms of round {rounds}")
    top = data.y[data.top(max(4, len(data) // 4))]
    spread = float(top.var(ddof=1))
    if noise.known:  # these designs were read as often as they were, the plate's will be read `each` times
        often = float(np.median(data.n_replicates[data.top(len(top))]))
        spread = max(spread - noise.sd**2 / often, 0.0) + noise.sd**2 / each
    return Spread.of(spread, len(top) - 1, "the best quarter of what was measured, as no plate has come back yet")


def _noise(memory: Memory, data: Dataset) -> Spread:
    several = data.n_replicates > 1
    if several.any() and np.isfinite(data.sem[several]).any():
        one = float(np.nanmedian(data.sem * np.sqrt(data.n_replicates)))
        return Spread.of(one**2, int((data.n_replicates[several] - 1).sum()), f"{int(several.sum())} designs read more than once")
    events = memory.ledger.events(memory.name)
    told = [detail["noise_std"] for detail in events.loc[events["kind"] == "judged", "detail"] if detail.get("noise_std")]
    if told:
        sd = float(told[-1])
        return Spread(sd=sd, low=math.nan, high=math.nan, freedom=0, source="what the last round's judge took for noise")
    return Spread(sd=math.nan, low=math.nan, high=math.nan, freedom=0, source="no design was read twice")


def _shown(wells: Mapping[str, int], reading: Spread, noise: Spread, levels: Mapping[int, float], each: int) -> list[Shown]:
    """One plate, two plates, and one plate of designs read twice and three times: the largest arm against each other one."""
    if len(wells) < 2 or not reading.known:
        return []
    order = sorted(wells, key=lambda arm: -wells[arm])
    rows = []
    for second in order[1:]:
        rest = [arm for arm in order[1:] if arm != second]
        for replicates, plates in ((1, 1), (1, 2), (2, 1), (3, 1)):
            if replicates > 1 and not noise.known:
                continue
            n = [wells[arm] // replicates for arm in (order[0], second, *rest)]
            factor = 1.0
            if replicates > 1:
                between = max(reading.sd**2 - noise.sd**2, 0.0)
                factor = math.sqrt((between + noise.sd**2 / replicates) / reading.sd**2)
            found = smallest(n, 1.0, plates=plates, level=levels[plates]) * factor  # which grows with the spread in proportion
            rows.append(Shown(
                first=order[0], second=second, wells=(n[0], n[1]), replicates=replicates * each, plates=plates,
                difference=found * reading.sd, low=found * reading.low, high=found * reading.high,
            ))  # fmt: skip
    return rows


def _levels(memory: Memory, config: RoundConfig) -> dict[int, float]:
    """Give what the comparison may spend of its level on the next plate, and on the next two together."""
    plan, number = plan_of(memory), len(memory.ledger.rounds(memory.name)) + 1
    names = {name for arm in config.arms.values() for name in arm.proposers}
    part = ALL_BUT_PROPOSERS if names & set(plan.free) and names - set(plan.free) else 1.0
    looks = ((1, [number]), (2, [number, number + 1]))
    return {plates: allowed(plan, "plates", over, waiting=False, part=part) for plates, over in looks}


def _gain(memory: Memory, arm: str, n: int, recent: pd.DataFrame, incumbent: float, noise: Spread) -> ArmGain:
    mine = recent[recent["arm"] == arm]
    mine = mine[mine["round"] == mine["round"].max()]
    kept = mine[mine["kept"].to_numpy(dtype=bool)] if "kept" in mine else mine
    if len(kept) < 3 or not math.isfinite(incumbent):
        return ArmGain(arm=arm, wells=n, n_measured=len(mine), gain=math.nan, low=math.nan, high=math.nan, chance=math.nan)
    drawn = next_plate(
        kept["y"].to_numpy(float), max(1, round(n * len(kept) / len(mine))), incumbent, noise.sd if noise.known else 0.0,
        seed=derive(memory.config.seed, "outlook", arm),
    )  # fmt: skip
    low, high = np.quantile(drawn, [0.1, 0.9])
    return ArmGain(
        arm=arm, wells=n, n_measured=len(mine), gain=float(drawn.mean()), low=float(low), high=float(high),
        chance=float((drawn > 0).mean()),
    )  # fmt: skip


def _few_keep(gains: tuple[ArmGain, ...]) -> list[str]:
    """Name arms whose gain cannot be told, as what they measured breaks the limits."""
    few = [one.arm for one in gains if one.n_measured >= 3 and not math.isfinite(one.gain)]
    return (
        [f"Too few of the last wells of {', '.join(few)} keep the limits: what more such wells gain cannot be told."]
        if few
        else []
    )


def _stop(gains: tuple[ArmGain, ...], noise: Spread, worth: float | None) -> str:
    known = [one for one in gains if math.isfinite(one.gain)]
    if not known and _few_keep(gains):
        return "Go on: too few of the last wells keep the limits to tell what more of them gain."
    if not known:
        return "No arm of this round has a plate behind it: spend one before thinking of the end."
    limit = worth if worth is not None else noise.sd if noise.known else 0.0
    what = "what is worth a plate" if worth is not None else "the noise of one reading" if noise.known else "nothing"
    best = max(known, key=lambda one: one.gain)
    if best.high <= limit:
        return (
            f"Stopping is reasonable: not even {best.arm}, the most hopeful arm, gains more than {what} with nine plates of ten, "
            "if its next wells are like its last."
        )
    if best.gain <= limit:
        return f"Stopping comes near: the gain to expect, {whose(best.arm)}, is below {what}, but one plate of ten gains more."
    return f"Go on: {whose(best.arm)} next plate is expected to gain more than {what}. Ask again when it is back."


def _skewed(recent: pd.DataFrame) -> bool:
    """Whether the wells of arms, each against its arm's mean in its round, are skewed to the better side."""
    y = recent["y"].to_numpy(float) - recent.groupby(["round", "arm"])["y"].transform("mean").to_numpy(float)
    if len(y) < 8 or not y.std() > 0:
        return False
    return float((y**3).mean() / y.std() ** 3) > SKEWED


def _lacking(memory: Memory, wells: int) -> list[str]:
    try:
        check_room(state.dataset(memory), wells)
    except MethodError as error:
        return [f"There is no such plate: {error}."]
    return []


def _notes(reading: Spread, noise: Spread, recent: pd.DataFrame, wells: Mapping[str, int]) -> list[str]:
    notes = []
    if not noise.known:
        notes.append("Noise is not known: read some designs twice (or give controls) to have replicates weighed against designs.")
    elif reading.known and noise.sd >= reading.sd:
        notes.append("Designs of one arm hardly differ beyond their noise: replicates cost little and new designs show little.")
    if recent.empty:
        notes.append("The spread will be another one once arms choose: plan again after the first plate.")
    shared = recent[recent.duplicated(["round", "design_id"], keep=False)]
    if len(recent) and len(shared) > 0.1 * len(recent):
        notes.append("Arms chose the same designs in part; those cannot tell them apart, and it takes larger differences.")
    if _skewed(recent):
        notes.append(
            "Readings within an arm are skewed towards better ones: the intervals of spreads and gains hold less often than said "
            "(where all values are positive, objective: {transform: log} may mend that)."
        )
    if len(wells) > 1 and max(wells.values()) > 1.5 * min(wells.values()):
        notes.append(
            "Unequal wells show less than equal ones: two arms are compared by as many wells as the smaller of them has."
        )
    notes.append("A difference that changes from round to round needs rounds, not wells: one or two plates speak of themselves.")
    return notes
