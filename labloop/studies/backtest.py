"""Arms tried on what a lab has measured already: the best part is hidden, and every arm chooses among what is hidden.

No well is spent and no oracle is needed, but what nobody measured cannot be found: see `CAVEATS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy  # which loads scipy.stats on first use: it takes a second

from labloop.config.read import load_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, ConfigError
from labloop.ledger.memory import Memory
from labloop.proposing.dataset import Dataset
from labloop.rounds import by_backtest, state
from labloop.runtime.counts import check_count
from labloop.runtime.workers import Workers, spread
from labloop.seeds import derive, generator
from labloop.studies.arms import pick_arms
from labloop.studies.listed import MeasuredLab
from labloop.studies.simulate import _Loop
from labloop.types import Array

FEWEST = 40
"""Measured designs that a backtest needs."""
LEVEL = 0.95
SHARED = 0.1
"""Splits are of one table: the variance of their mean is taken for (1 / splits + this) times that of one (after Nadeau and
Bengio, Machine Learning 52, 2003, whose share is that of the held-out rows)."""

CAVEATS = (
    "Only measured designs can be found here: what nobody measured counts for no arm, however good it would be.",
    "Who chose the measured designs shaped the question: arms that choose alike are favoured.",
    "Readings stay as they are, noise included: a lucky reading counts as a good design.",
    "All splits are of one lab's measurements: they say little of another space or another assay.",
)


@dataclass(frozen=True, kw_only=True)
class Backtested:
    """How one arm did over the splits."""

    arm: str
    found: float
    """Share of the hidden best designs that it has found, averaged over the rounds: sooner counts more."""
    found_at_end: float
    mean: float
    """Mean y of what it chose."""
    behind: float
    """What `found` is behind the best arm's, paired by split; 0 for the best."""
    low: float
    high: float
    told_apart: bool
    """Whether the best arm is told from it."""
    failed: str
    """Why it chose nothing in some split; empty where it did."""


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """Who would have found first what the campaign knows."""

    campaign: str
    n_designs: int
    n_start: int
    n_best: int
    """Hidden designs that are to be found."""
    batch: int
    rounds: int
    splits: int
    replay: bool
    """Whether past rounds were replayed instead."""
    arms: tuple[Backtested, ...]
    """Best first."""
    rows: tuple[dict[str, Any], ...]
    """One an arm, split and round."""
    caveats: tuple[str, ...]

    @property
    def winner(self) -> str | None:
        """The arm that is told from all others; None where the data cannot tell."""
        return self.arms[0].arm if len(self.arms) > 1 and all(one.told_apart for one in self.arms[1:]) else None

    @property
    def sentence(self) -> str:
        """Say what came of it."""
        first, rest = self.arms[0], self.arms[1:]
        over = _many(self.splits, "past round" if self.replay else "split")
        of = f"of the {self.n_best} best hidden designs, averaged over {_many(self.rounds, 'round')} and {over}"
        if self.replay:
            of = f"of the best {self.n_best} designs of a plate with a quarter of its wells, over {over}"
        lead = f"{first.arm} finds {100 * first.found:.0f} % {of}"
        if not rest:
            return f"{lead}; with one arm there is nothing to compare."
        close = [one.arm for one in rest if not one.told_apart]
        if not close:
            return f"{lead}: more than every other arm."
        if len(close) == len(rest):
            why = "" if self.splits > 1 else f", as one {'past round' if self.replay else 'split'} leaves all open"
            return f"{lead}, but these data cannot tell the arms apart{why}."
        return f"{lead}; these data cannot tell it from {' and '.join(close)}."

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {"sentence": self.sentence, "winner": self.winner, **asdict(self)}


def backtest(
    memory: Memory, config: RoundConfig | Path | str | None = None, *, arms: Sequence[str] | None = None, splits: int = 8,
    rounds: int = 3, batch: int | None = None, replay: bool = False, workers: Workers = 1, keep: bool = False,
) -> Backtest:  # fmt: skip
    """Hide the best part of what a campaign measured and let every arm choose among it, round by round.

    A split begins with a quarter of the measured designs, drawn from the worse half; all others are hidden. Every arm has its own
    campaign over the same splits, with all wells.

    Args:
        config: the round whose arms are tried; the shipped `rounds/quick.yaml` where none is given.
        arms: arms of the round's file, or names of proposers; all arms of the file, split into their proposers, where None.
        splits: how often is split.
        batch: designs an arm chooses a round; by default a quarter of what is hidden over all rounds.
        replay: take past rounds instead: the arms learn from what the round knew, and choose a quarter of its plate.
        workers: side by side on so many processes, see `labloop.runtime.workers`.
        keep: keep what came of it in the ledger, so that a round can take its arms from it (`propose` with `auto`); not
            of one arm alone, which compares nothing.

    Raises:
        CampaignError: too few designs are measured, or several properties, or no round came back to be replayed, or no arm
            chose anything.
        ConfigError: no split, round, batch or arm is asked for, or more designs are to be chosen than are hidden.
    """
    config = preset("rounds/quick.yaml") if config is None else config
    config = config if isinstance(config, RoundConfig) else load_config(config, RoundConfig)
    for what, n in (("splits", splits), ("rounds", rounds), ("batch", 1 if batch is None else batch)):
        check_count(what, n)
    if arms is not None and not arms:
        raise ConfigError("a backtest needs an arm at least")
    if memory.config.goal is not None:
        raise CampaignError(
            f"{memory.name} has several properties, and a backtest tries arms by one value: compare rounds that came back "
            f"(labloop compare {memory.name})"
        )
    chosen = pick_arms(config, arms, split=True)
    data = state.dataset(memory)
    if len(data) < FEWEST:
        raise CampaignError(f"{memory.name} has {len(data)} measured designs; a backtest needs {FEWEST}: {memory.to_ingest()}")
    cuts = _replayed(memory, data) if replay else _split(memory, data, splits)
    rounds = 1 if replay else rounds
    jobs, told = [], []
    for i, (start, hidden) in enumerate(cuts):
        known = data.take(np.concatenate([start, hidden]))
        lab = MeasuredLab.of(known, memory.config.objective.to_value(known.y))
        n = batch or max(1, len(hidden) // 4 // rounds)
        if n * rounds > len(hidden):
            raise ConfigError(
                f"{_many(rounds, 'round')} of {_many(n, 'design')} cannot be chosen from the {len(hidden)} that are hidden: take "
                "a smaller batch" + (" or fewer rounds" if rounds > 1 else "")
            )
        best = hidden[np.argsort(-data.y[hidden], kind="stable")[: _n_best(len(data), len(hidden))]]
        campaign = memory.config.model_copy(update={"space": lab.space})
        frame = lab.space.decode(data.X[start])
        begun = frame.assign(value=memory.config.objective.to_value(data.y[start]), status="ok")
        for arm, spec in chosen.arms.items():
            one = chosen.model_copy(update={"arms": {arm: spec.whole}})
            seed = derive(memory.config.seed, "backtest", i)
            loop = _Loop(campaign=campaign, config=one, lab=lab, seed=seed, rounds=rounds, batch=n)
            jobs.append((loop, begun, frozenset(data.ids[j] for j in best.tolist())))
            told.append((arm, i))
    rows: list[dict[str, Any]] = []
    for k, found in spread(_played, jobs, "backtests", workers=workers):
        rows += [{"arm": told[k][0], "split": told[k][1], **row} for row in found]
    table = pd.DataFrame(rows).sort_values(["split", "round"], kind="stable")
    if not table["n"].any():
        raise CampaignError(f"{memory.name}: no arm chose anything: {'; '.join(dict.fromkeys(table['note']))}")
    start, hidden = cuts[0]
    listed = [{str(key): cell for key, cell in row.items()} for row in table.to_dict("records")]
    told_of = Backtest(
        campaign=memory.name, n_designs=len(data), n_start=len(start), n_best=_n_best(len(data), len(hidden)),
        batch=batch or max(1, len(hidden) // 4 // rounds), rounds=rounds, splits=len(cuts), replay=replay,
        arms=_judged(table, list(chosen.arms), len(cuts)), rows=tuple(listed),
        caveats=(*CAVEATS, *_own(memory, chosen)),
    )  # fmt: skip
    if keep and len(told_of.arms) > 1:
        by_backtest.keep(memory, _kept(told_of), chosen)
    return told_of


def _many(n: int, of: str) -> str:
    return f"{n} {of}" if n == 1 else f"{n} {of}s"


def _kept(told: Backtest) -> dict[str, Any]:
    """Give what a ledger keeps of a backtest as plain values."""
    arms = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in asdict(one).items()}
        for one in told.arms
    ]
    return {
        "said": told.sentence, "winner": told.winner, "n_designs": told.n_designs, "batch": told.batch, "rounds": told.rounds,
        "splits": told.splits, "replay": told.replay, "arms": arms,
    }  # fmt: skip


def _n_best(n: int, hidden: int) -> int:
    return max(1, min(hidden // 4, max(3, n // 10), 50))


def _split(memory: Memory, data: Dataset, splits: int) -> list[tuple[Array, Array]]:
    """Draw starts from the worse half, each with everything else as hidden."""
    low = np.argsort(data.y, kind="stable")[: len(data) // 2]
    cuts = []
    for i in range(splits):
        start = generator(memory.config.seed, "backtest", i).permutation(low)[: max(10, len(data) // 4)]
        cuts.append((np.sort(start), np.setdiff1d(np.arange(len(data)), start)))
    return cuts


def _replayed(memory: Memory, data: Dataset) -> list[tuple[Array, Array]]:
    """Give for each past round what it knew and what its plate measured."""
    place = {one: i for i, one in enumerate(data.ids)}
    results = state.results(memory)
    cuts = []
    for entry in memory.ledger.rounds(memory.name):
        plate = results.loc[(results["round"] == entry.number) & results["y"].notna(), "design_id"]
        hidden = sorted({place[one] for one in plate if one in place})
        before = state.dataset(memory, until=entry.snapshot, before_round=entry.number, normalised=False)
        start = sorted({place[one] for one in before.ids if one in place} - set(hidden))
        if len(hidden) >= 8 and len(start) >= state.ENOUGH:
            cuts.append((np.array(start, dtype=np.int64), np.array(hidden, dtype=np.int64)))
    if not cuts:
        raise CampaignError(f"{memory.name} has no round with measured wells to replay: run labloop backtest without --replay")
    return cuts


def _played(job: tuple[_Loop, pd.DataFrame, frozenset[str]]) -> list[dict[str, Any]]:
    """Run one arm's campaign; a row a round."""
    loop, start, best = job
    seen: set[str] = set()
    out: list[dict[str, Any]] = []
    for i, (row, chosen) in enumerate(loop.watched(start), start=1):
        ids = set() if chosen is None else set(chosen["design_id"])
        seen |= ids
        mean = (
            math.nan if not ids or chosen is None else float(loop.campaign.objective.to_y(chosen["value"].to_numpy(float)).mean())
        )
        out.append({"round": i, "n": len(ids), "found": len(seen & best) / len(best), "mean": mean, "note": row["note"]})
    return out


def _judged(table: pd.DataFrame, names: Sequence[str], n_splits: int) -> tuple[Backtested, ...]:
    by = table.groupby(["arm", "split"])["found"].mean().unstack("arm").reindex(columns=list(names))
    last = table[table["round"] == table["round"].max()].groupby("arm")["found"].mean()
    order = by.mean().sort_values(ascending=False, kind="stable").index.tolist()
    # each other arm against the best: Bonferroni's share of the level
    side = 1 - (1 - LEVEL) / (2 * max(1, len(order) - 1))
    told = []
    for arm in order:
        gap = (by[order[0]] - by[arm]).to_numpy(float)
        half = 0.0 if arm == order[0] else math.nan
        if n_splits > 1 and arm != order[0]:
            half = float(scipy.stats.t.ppf(side, n_splits - 1) * gap.std(ddof=1) * math.sqrt(1 / n_splits + SHARED))
        mine = table[table["arm"] == arm]
        told.append(Backtested(
            arm=str(arm), found=float(by[arm].mean()), found_at_end=float(last[arm]), mean=float(mine["mean"].mean()),
            behind=float(gap.mean()), low=float(gap.mean() - half), high=float(gap.mean() + half),
            told_apart=bool(half == half and gap.mean() - half > 0),
            failed="; ".join(dict.fromkeys(note for note in mine["note"] if note)),
        ))  # fmt: skip
    return tuple(told)


def _own(memory: Memory, config: RoundConfig) -> list[str]:
    """Name the arms that chose part of what is hidden themselves."""
    picks = memory.ledger.picks(memory.name)
    mine = sorted(set(config.arms) & (set(picks["arm"]) | set(picks["proposer"])))
    return [f"Part of these designs were chosen by {', '.join(mine)} in this campaign, which favours them."] if mine else []
