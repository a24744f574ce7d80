"""The pure middle of a round: dataset in, pools, then the wells of every arm. No ledger, no files, no clock in the results."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from labloop.config.ramp import ramped
from labloop.config.round import Arm, RoundConfig
from labloop.errors import MethodError, SpaceError
from labloop.proposing.belief import Correction, Judgement, Past, fitted
from labloop.proposing.checks import check_room
from labloop.proposing.contracts import asking, picks_of, pool_of
from labloop.proposing.dataset import Dataset
from labloop.proposing.history import cold, for_proposer, is_cold, of_cold
from labloop.proposing.panel import Panel, of_several, panel
from labloop.proposing.pool import Picks, Pool
from labloop.proposing.priced import selector_of
from labloop.proposing.protocols import Posterior, Proposer
from labloop.proposing.selectors import BY_CHANCE
from labloop.proposing.terms import Terms
from labloop.proposing.within import choose_within
from labloop.registry import Options, create, load
from labloop.runtime.devices import free_memory, out_of_memory
from labloop.runtime.memory import keep_freed
from labloop.seeds import derive
from labloop.types import FloatArray

log = logging.getLogger("labloop")

LISTED_POOL = 1_024
GENERATED_POOL = 256
"""Candidates of `pool: auto`, at least, where the space can be listed and where it cannot."""
SPARE = 8
"""Next choices of each arm that are kept beside a plate, at least."""
SMALLEST_BATCH = 8
"""A training that runs out of memory with fewer rows at once has another reason."""

FAILURES = (MethodError, SpaceError, ArithmeticError, MemoryError, RuntimeError, np.linalg.LinAlgError)
"""What a proposer may raise because of the data or the machine; anything else is a mistake in its code, and ends the round."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One proposer to train in one round: everything its pool depends on besides the data."""

    arm: str
    proposer: str
    options: Options
    """Schedules resolved."""
    n: int
    seed: int


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedPool:
    """A pool with what it cost."""

    pool: Pool
    seconds: float
    cpu_seconds: float


def plan(config: RoundConfig, data: Dataset, *, wells: int, seed: int, number: int, rounds: int) -> list[Training]:
    """List every arm's trainings. An arm offers at least the whole plate, so that wells freed by agreement can be refilled.

    Raises:
        MethodError: the space has fewer designs left than the plate has wells.
    """
    check_room(data, wells)
    return [
        Training(
            arm=name,
            proposer=proposer,
            options=ramped(options, round_number=number, rounds=rounds),
            n=int(min(pool_size(arm, data, wells), data.room)),
            seed=derive(seed, "round", number, "propose", name, proposer),
        )
        for name, arm in config.arms.items()
        if name not in config.by_hand  # people need no training
        for proposer, options in arm.proposers.items()
    ]


def pool_size(arm: Arm, data: Dataset, wells: int) -> int:
    """Say how many candidates each of an arm's proposers offers for a round of so many wells.

    `auto` asks for many where the whole space is scored anyway, so that more candidates cost next to nothing, and for a few
    plates' worth where each has to be generated.
    """
    if arm.pool == "auto":
        return max(4 * wells, LISTED_POOL) if data.space.listable else max(4 * wells, GENERATED_POOL)
    return max(arm.pool or wells, wells)


def train(training: Training, data: Dataset) -> TrainedPool:
    """Train one proposer and let it offer its pool.

    One that runs out of memory is tried again with half its `batch_size`, as often as it takes.

    Raises:
        MethodError: it cannot work on this space, or breaks its contract.
    """
    proposer = create("proposers", training.proposer, training.options)
    kinds = getattr(load("proposers", training.proposer), "kinds", data.space.kinds)
    if not data.space.kinds <= kinds:
        raise MethodError(
            f"{training.proposer} takes {', '.join(sorted(kinds))} parameters, not {', '.join(sorted(data.space.kinds - kinds))}"
        )
    keep_freed()
    started, cpu = time.perf_counter(), time.process_time()
    pool = _offer(proposer, for_proposer(training.proposer, data), training)
    spent, cpu_spent = time.perf_counter() - started, time.process_time() - cpu
    if len(set(pool.ids)) != training.n or set(pool.ids) & data.taken:
        raise MethodError(
            f"{training.proposer} was asked for {training.n} distinct new designs and gave {len(set(pool.ids) - data.taken)}: "
            "it breaks the proposer's contract (labloop.testing.ProposerContract)"
        )
    log.info("%s offered %d designs in %.1f s", training.proposer, len(pool), spent)
    return TrainedPool(pool=pool, seconds=spent, cpu_seconds=cpu_spent)


def _offer(proposer: Proposer, data: Dataset, training: Training) -> Pool:
    """Let a proposer offer its pool; one that runs out of memory tries again with half its batch, and the pool's notes say so."""
    smaller: dict[str, int] = {}
    while True:
        try:
            with asking(training.proposer, "proposers"):
                pool = pool_of(training.proposer, proposer.propose(data, training.n, seed=training.seed))
        except (MemoryError, RuntimeError) as error:
            batch = getattr(proposer, "batch_size", 0)
            if not out_of_memory(error) or batch < 2 * SMALLEST_BATCH:
                raise
            smaller = {"batch_size": batch // 2}
            log.warning("%s ran out of memory: trying again with a batch of %d", training.proposer, batch // 2)
        else:
            return replace(pool, notes={**pool.notes, "smaller": json.dumps(smaller)}) if smaller else pool
        proposer = replace(proposer, **smaller)  # type: ignore[type-var]
        free_memory()


def judge(
    config: RoundConfig, data: Dataset, *, seed: int, number: int, rounds: int, past: Past | Sequence[FloatArray] | None = None
) -> Judgement:
    """Fit the reference surrogate, and correct it by how far it was off in earlier rounds.

    Args:
        past: earlier picks with what was predicted before any correction: new labels of designs that the surrogate had never
            seen are an honest test set away from the data. Or the columns that `Past.of` takes: mean, std and measured y.
    """
    assert config.judge is not None
    ((name, options),) = config.judge.items()
    surrogate = create("surrogates", name, ramped(options, round_number=number, rounds=rounds))
    surrogate = surrogate if data.properties is None else of_several(surrogate)
    seed_of = derive(seed, "round", number, "judge")
    related = of_cold(data) if is_cold(data) else None
    data = cold(data) if is_cold(data) else data
    posterior = fitted(surrogate, data.lead, seed=seed_of, name=name)
    if data.history:
        related = [one.notes() for one in getattr(posterior, "history", ())]
    before = past if isinstance(past, Past) else Past.of(*past) if past else None
    correction = Correction.learnt(before)
    if not correction.none:
        log.info(
            "the judge was off in earlier rounds: shifted by %s and stretched by %s of its std",
            " to ".join(f"{one:+.2f}" for one in correction.shift), " to ".join(f"{one:.2f}" for one in correction.stretch),
        )  # fmt: skip
    lead = Judgement(
        posterior=posterior, data=data.lead, correction=correction, past=before, progress=(number, rounds),
        notes={"judge": name, **getattr(posterior, "notes", {}), **({} if related is None else {"history": related})},
    )  # fmt: skip
    return lead if data.properties is None else panel(lead, surrogate, data, seed=seed_of)


def decide(
    config: RoundConfig,
    offered: Mapping[str, Sequence[Pool]],
    data: Dataset,
    wells: Mapping[str, int],
    *,
    past: Past | None = None,
    judging: bool = True,
    spare: dict[str, Picks] | None = None,
    terms: Terms | None = None,
    seed: int,
    number: int,
    rounds: int,
) -> tuple[dict[str, Picks], Judgement | None]:
    """Go from what the proposers offered to every arm's picks: a campaign and a simulation of it both come through here.

    Args:
        offered: the pools of each arm's proposers, in their order.
        wells: designs that each arm chooses.
        terms: what the batch must keep as a whole.
        judging: False leaves the judge out even where the round has one; no selector may need it then.
        spare: filled with every arm's next choices, see `choose`; with none where `terms` bind the batch as a whole.

    Returns:
        Every arm's picks, and the judge that they were chosen by.

    Raises:
        MethodError: the arms' pools hold too few designs that may be chosen.
    """
    pools = {arm: Pool.interleave(together, config.arms[arm].shares) for arm, together in offered.items()}
    posterior = judge(config, data, past=past, seed=seed, number=number, rounds=rounds) if judging and config.judge else None
    setting: dict[str, Any] = {"seed": seed, "number": number, "rounds": rounds}
    chooser = choose if terms is None or terms.prices is None else partial(choose, terms=terms)
    if terms is None or terms.none:
        picks = chooser(config, pools, posterior, data, wells, spare=spare, **setting)
    else:
        picks = choose_within(config, pools, posterior, data, wells, terms, choose=chooser, **setting)
    return picks, posterior


def left_to_chance(picks: Mapping[str, Picks]) -> list[str]:
    """Say of which arms how many picks are drawn at random, as the judge cannot be told from chance."""
    return [
        "what the judge says of measurements that it has not seen can hardly be told from chance: "
        f"{(chosen.pool.proposer == BY_CHANCE).sum()} of {len(chosen)} picks of arm {name} are drawn at random"
        for name, chosen in picks.items()
        if chosen.pool.notes.get("selection", {}).get("by_chance")
    ]


def choose(
    config: RoundConfig,
    pools: Mapping[str, Pool],
    posterior: Posterior | None,
    data: Dataset,
    wells: Mapping[str, int],
    *,
    spare: dict[str, Picks] | None = None,
    terms: Terms | None = None,
    seed: int,
    number: int,
    rounds: int,
) -> dict[str, Picks]:
    """Let every arm's selector choose; a design that two arms choose takes one well and counts for both.

    The wells that agreement frees go to the arms' next choices by turns, so that exactly `sum(wells)` designs are chosen.

    Args:
        spare: filled with every arm's next choices that no arm has picked, in its own order: `SPARE` of them or an eighth of its
            wells, as far as its pool has them. They come in for wells that a person takes out before the plate is made.

    Raises:
        MethodError: the arms' pools hold too few designs that may be chosen.
    """

    def select(name: str, n: int) -> Picks:
        arm: Arm = config.arms[name]
        ((selector, options),) = arm.selector.items()
        made = selector_of(selector, options, terms, number=number, rounds=rounds)
        with asking(selector, "selectors"):
            picks = made.select(pools[name], posterior or unjudged, data, n, seed=derive(seed, "round", number, "select", name))
        return picks_of(selector, picks, n)

    def far(name: str, n: int) -> Picks:
        """An arm's choices, n of them or as many beyond its wells as it has; by contract the first are the same."""
        try:
            return select(name, max(wells[name], min(len(pools[name]), n)))
        except MethodError:  # this arm has no further choice; the others may
            return select(name, wells[name])

    ahead = {name: max(SPARE, -(-wells[name] // 8)) if spare is not None else 0 for name in config.arms}
    longer = {name: far(name, wells[name] + ahead[name]) for name in config.arms}
    picks = {name: _first(longer[name], wells[name]) for name in config.arms}
    chosen = {one for arm in picks.values() for one in arm.pool.ids}
    total = sum(wells.values())
    if freed := total - len(chosen):
        longer = {name: far(name, wells[name] + 2 * freed + ahead[name]) for name in config.arms}
        picks = _refilled(longer, wells, chosen, total)
    if spare is not None:
        taken = {one for arm in picks.values() for one in arm.pool.ids}
        for name, more in longer.items():
            rows = [i for i, one in enumerate(more.pool.ids) if one not in taken]
            spare[name] = more.take(np.array(rows[: ahead[name]], dtype=np.int64))
    return picks


def _refilled(longer: Mapping[str, Picks], wells: Mapping[str, int], chosen: set[str], total: int) -> dict[str, Picks]:
    """Give the wells that agreement freed to the arms' next choices by turns; `chosen` grows until it has `total` designs."""
    counts = dict(wells)
    while len(chosen) < total:
        before = len(chosen)
        for name, more in longer.items():
            while counts[name] < len(more) and len(chosen) < total:
                one = more.pool.ids[counts[name]]
                counts[name] += 1
                if one not in chosen:
                    chosen.add(one)
                    break
        if len(chosen) == before:
            raise MethodError(f"the arms' pools hold only {len(chosen)} different designs for {total} wells: raise arms.*.pool")
    return {name: _first(more, counts[name]) for name, more in longer.items()}


def judged(judgement: Judgement, picks: Mapping[str, Picks]) -> dict[str, Any]:
    """Tell how a round was judged, as plain values for the ledger: who was listened to, what was corrected, what each arm did.

    The `std` stored with a pick is that of one reading, corrected; `earlier` takes the correction back.
    """
    arms = {}
    for name, chosen in picks.items():
        by = {str(one): int((chosen.pool.proposer == one).sum()) for one in dict.fromkeys(chosen.pool.proposer.tolist())}
        arms[name] = {"picks_by_proposer": by, **chosen.pool.notes.get("selection", {})}
    told = {
        **judgement.notes, "noise_std": judgement.noise_std, "std": "of one reading, corrected",
        "correction": judgement.correction.notes(), "arms": arms,
    }  # fmt: skip
    if isinstance(judgement, Panel):
        told["properties"] = {
            one: said for chosen in picks.values() for one, said in judgement.told(chosen.pool.X, chosen.pool.ids).items()
        }
    return {key: _plain(value) for key, value in told.items()}


def _plain(value: Any) -> Any:
    """Turn NumPy's numbers into Python's and what is not finite into nothing, as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def earlier(results: pd.DataFrame, told: Mapping[int, Mapping[str, Any]]) -> Past:
    """Give earlier picks that came back with what was predicted of them before any correction.

    Args:
        results: as `labloop.rounds.state.results` gives them.
        told: what `judged` told of each round; rounds from before there was a correction of location stand as they are.
    """
    mean, std, y, distance = (results[name].to_numpy(float, copy=True) for name in ("mean", "std", "y", "nearest_distance"))
    when, noise = results["round"].to_numpy(dtype=np.int64), np.full(len(results), np.nan)
    for number in sorted(set(when.tolist()) & set(told)):
        rows = when == number
        correction = Correction.noted(told[number]["correction"])
        mean[rows], std[rows] = correction.undone(mean[rows], std[rows], distance[rows])
        noise[rows] = told[number]["noise_std"]
    return Past.of(mean, std, y, distance, when, noise, results["proposer"].to_numpy(dtype=object))


def unjudged(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The posterior of nobody: NaN for every design. A selector that goes by predictions cannot work with it."""
    return np.full(len(X), np.nan), np.full(len(X), np.nan)


def _first(picks: Picks, n: int) -> Picks:
    return picks if n == len(picks) else picks.take(np.arange(n))


def notes_of(pool: Pool) -> dict[str, Any]:
    """Give a pool's notes as plain numbers and strings."""
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in pool.notes.items()}


@cache
def versions() -> Mapping[str, str]:
    """Versions of what a batch depends on."""
    found = {"python": platform.python_version()}
    for package in ("labloop-toolkit", "torch", "botorch", "gpytorch", "scikit-learn", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
