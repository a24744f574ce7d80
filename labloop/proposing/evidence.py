"""Wells that move by evidence: what each arm's wells were worth in earlier rounds, and how many the next plate gives it.

A well's worth is what the next plate is for: how far its reading lies above the best that was known when its round opened, and
how far above the k-th best of its own plate, half each, in standard deviations of the plate. The posterior of an arm's mean worth
is a Dirichlet process's (Ferguson, Annals of Statistics 1, 1973) around what all arms' wells were worth together, so that an arm
of few wells is drawn towards the others; older rounds count less, and the wells of one round less than as many single ones, since
a round shifts all wells of an arm at once. Each well beyond the floor goes to an arm with the probability that this arm is the
best (Thompson, Biometrika 25, 1933): what sampling would give on average, without its chance. A well that breaks a limit is worth
nothing, and is no plate's best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from labloop.config.allocation import apportion
from labloop.config.round import RoundConfig
from labloop.seeds import derive, generator
from labloop.types import Array, FloatArray

TOP = 10
"""The k of a plate's k-th best well, a quarter of its wells at most."""
CAP = 4.0
"""Standard deviations that a well can be worth at most: one lucky reading is no evidence of ten."""
PRIOR = 8.0
"""Wells that what all arms achieved together counts as."""
ALIKE = 0.05
"""Correlation of an arm's wells within a round: how many rounds there are counts, not only how many wells."""
FADE = 0.75
"""What a round counts when it is one round older."""
DRAWS = 20_000


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is believed of one arm, or of one proposer of an arm, before a round."""

    arm: str
    wells: int
    """Wells that it gets."""
    n_measured: int
    """Wells of earlier rounds that this goes by."""
    worth: float
    """Mean worth of a well, drawn towards the others."""
    worth_sd: float
    best: float
    """Probability that its wells are worth most."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How the wells of a round are shared, and why."""

    floor: int
    total: int
    arms: tuple[Standing, ...]
    rounds: tuple[int, ...]
    """Rounds that this goes by; none before the first came back."""
    who: str = "arms"
    """What shares: arms, or the proposers of one."""

    @property
    def wells(self) -> dict[str, int]:
        """Wells by arm."""
        return {one.arm: one.wells for one in self.arms}

    @property
    def sentence(self) -> str:
        """Say it in one sentence."""
        if not self.rounds:
            return f"{self.total} wells are shared evenly: nothing of these {self.who} has come back yet"
        order = sorted(self.arms, key=lambda one: -one.wells)
        told = ", ".join(f"{one.arm} {one.wells} (best with {100 * one.best:.0f} %)" for one in order)
        over = f"round {self.rounds[0]}" if len(self.rounds) == 1 else f"rounds {', '.join(map(str, self.rounds))}"
        return f"{self.total} wells by what the {self.who} achieved in {over}: {told}; each has {self.floor} whatever it achieved"

    def notes(self) -> dict[str, Any]:
        """Tell it as plain values for the ledger."""
        return {
            "rule": "evidence", "floor": self.floor, "wells": self.wells, "rounds": list(self.rounds), "said": self.sentence,
            "arms": [asdict(one) for one in self.arms],
        }  # fmt: skip


def share(
    history: pd.DataFrame, arms: Sequence[str], *, wells: int, floor: int, incumbent: Mapping[int, float | None], number: int,
    seed: int,
) -> Evidence:  # fmt: skip
    """Share a round's wells over arms by what they achieved; evenly where nothing is known.

    Args:
        history: one row a measured pick: `arm`, `round` and `y`, larger is better, and under limits `kept`, whether its design
            keeps them all; arms that are not asked for only help to say what a plate's best was.
        incumbent: the best y that was known when each round opened.
        number: the round that the wells are for.
    """
    history = history[history["y"].notna() & (history["round"] < number)]
    mine = history[history["arm"].isin(list(arms))]
    if mine.empty or len(arms) < 2:
        even = apportion(wells, dict.fromkeys(arms, 1.0))
        told = tuple(
            Standing(arm=a, wells=even[a], n_measured=0, worth=np.nan, worth_sd=np.nan, best=1 / len(arms)) for a in arms
        )
        return Evidence(floor=floor, total=wells, arms=told, rounds=())
    worth = _worth(history, incumbent)[history["arm"].isin(list(arms)).to_numpy()]
    weight = _weights(mine, number)
    means, sds = _posterior(mine["arm"].to_numpy(), worth, weight, arms)
    best = _best(means, sds, seed)
    given = apportion(wells, dict(zip(arms, best.tolist(), strict=True)), least=floor)
    told = tuple(
        Standing(arm=arm, wells=given[arm], n_measured=int((mine["arm"] == arm).sum()), worth=float(means[i]),
                 worth_sd=float(sds[i]), best=float(best[i])) for i, arm in enumerate(arms)
    )  # fmt: skip
    return Evidence(floor=floor, total=wells, arms=told, rounds=tuple(sorted({int(one) for one in mine["round"]})))


def shared(
    config: RoundConfig, history: pd.DataFrame, *, designs: Mapping[str, int], incumbent: Mapping[int, float | None], number: int,
    seed: int,
) -> tuple[Evidence | None, dict[str, Evidence]]:  # fmt: skip
    """Share a round's wells over its arms, and each arm's over the proposers that it takes by turns.

    Args:
        history: as `share` and `within` take it.
        designs: what each arm has where the rule says nothing else.

    Returns:
        How the arms share, None where fewer than two do, and by arm how its proposers share; none of these before the first
        round came back, when they take turns anyway.
    """
    sharing, found, given = config.sharing, None, dict(designs)
    if len(sharing) > 1:
        wells = sum(designs[arm] for arm in sharing)
        floor = config.allocation.least(wells, len(sharing))
        found = share(history, sharing, wells=wells, floor=floor, incumbent=incumbent, number=number, seed=seed)
        given |= found.wells
    inside = {}
    for arm in config.turns:
        proposers = list(config.arms[arm].proposers)
        one = within(
            history, arm, proposers, wells=given[arm], incumbent=incumbent, number=number, seed=derive(seed, "proposers", arm)
        )
        if one is not None and one.rounds:
            inside[arm] = one
    return found, inside


def within(
    history: pd.DataFrame, arm: str, proposers: Sequence[str], *, wells: int, incumbent: Mapping[int, float | None], number: int,
    seed: int,
) -> Evidence | None:  # fmt: skip
    """Share an arm's wells over its proposers by what they achieved in this arm; None where there are too few wells to share.

    Args:
        history: as `share` takes it, with `proposer`; the other arms' wells only help to say what a plate's best was.
    """
    if wells < len(proposers):
        return None
    mine = (history["arm"] == arm) & history["proposer"].isin(list(proposers))
    told = history.assign(arm=history["proposer"].where(mine, "(another arm)"))
    floor = max(1, min(8, wells // (2 * len(proposers))))
    found = share(told, proposers, wells=wells, floor=floor, incumbent=incumbent, number=number, seed=seed)
    return replace(found, who=f"proposers of {arm}")


def _worth(history: pd.DataFrame, incumbent: Mapping[int, float | None]) -> FloatArray:
    """Give each well's worth, in standard deviations of its plate."""
    out = np.zeros(len(history))
    y = history["y"].to_numpy(float)
    none = np.zeros(len(y), dtype=bool)
    above = (history["censored"] < 0).to_numpy(dtype=bool) if "censored" in history else none
    broken = ~history["kept"].to_numpy(dtype=bool) if "kept" in history else none
    when = history["round"].to_numpy(dtype=np.int64)
    for number in np.unique(when).tolist():
        rows = np.flatnonzero(when == number)
        mine = np.where((above | broken)[rows], y[rows].min(), y[rows])  # a bound from above promises nothing
        spread = float(mine.std()) or 1.0
        k = max(1, min(TOP, len(mine) // 4))
        bar = float(np.sort(mine)[-k:].min()) if len(mine) > 1 else float(mine[0])
        known = incumbent.get(number)
        over = np.maximum(mine - bar, 0) / spread
        gain = over if known is None or not np.isfinite(known) else np.maximum(mine - known, 0) / spread
        out[rows] = np.minimum((over + gain) / 2, CAP)
    out[broken] = 0.0
    return out


def _weights(mine: pd.DataFrame, number: int) -> FloatArray:
    """Say what each well counts: less where its round is old, and where many wells share a round's shift."""
    n = mine.groupby(["arm", "round"])["y"].transform("size").to_numpy(float)
    age = number - 1 - mine["round"].to_numpy(float)
    return np.asarray(FADE**age / (1 + ALIKE * (n - 1)), dtype=float)


def _posterior(arm: Array, worth: FloatArray, weight: FloatArray, arms: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Give mean and standard deviation of every arm's mean worth."""
    pooled = float(np.average(worth, weights=weight))
    square = float(np.average(worth**2, weights=weight))
    means, sds = [], []
    for name in arms:
        rows = arm == name
        mass = PRIOR + float(weight[rows].sum())
        mean = (PRIOR * pooled + float(weight[rows] @ worth[rows])) / mass
        second = (PRIOR * square + float(weight[rows] @ worth[rows] ** 2)) / mass
        means.append(mean)
        sds.append(np.sqrt(max(second - mean**2, 1e-12) / (mass + 1)))
    return np.array(means), np.array(sds)


def _best(means: FloatArray, sds: FloatArray, seed: int) -> FloatArray:
    draws = means + sds * generator(seed, "evidence").standard_normal((DRAWS, len(means)))
    return np.bincount(draws.argmax(axis=1), minlength=len(means)) / DRAWS
