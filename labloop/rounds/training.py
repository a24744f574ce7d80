"""The trainings of a round: what each proposer offers, stored as soon as it is there, and never done twice."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import ExitStack
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from labloop.errors import CampaignError, MethodError, in_one_line
from labloop.ledger import Round
from labloop.ledger.memory import Memory
from labloop.ledger.states import RoundState
from labloop.proposing.dataset import Dataset
from labloop.proposing.pipeline import (
    FAILURES,
    TrainedPool,
    Training,
    notes_of,
    plan,
    train,
    versions,
)
from labloop.proposing.pool import Pool
from labloop.registry import create
from labloop.rounds import related, state
from labloop.runtime.artifacts import Artifacts
from labloop.runtime.checkpoints import folder_of, keeping
from labloop.runtime.devices import device_lock
from labloop.runtime.workers import Workers, spread

log = logging.getLogger("labloop")

_SNAPSHOTS: WeakKeyDictionary[Memory, dict[int, Dataset]] = WeakKeyDictionary()
"""Datasets of rounds that were taken already, as long as somebody holds the memory."""


def trainings(memory: Memory, number: int) -> dict[str, Training]:
    """List the trainings of a round by their key; two arms that ask for the same share it."""
    entry = memory.round(number)
    config, run = memory.round_config(entry), memory.at(number).config
    wells = run.plate.designs(config.plates)
    planned = plan(config, round_data(memory, number), wells=wells, seed=memory.seed(number), number=number, rounds=run.rounds)
    return {_key(memory, entry, training): training for training in planned}


def ensure_trained(memory: Memory, number: int, key: str) -> str:
    """Do one of the round's trainings and store its pool, unless that is done; returns the key."""
    entry = memory.round(number)
    if key in set(memory.ledger.runs(memory.name, number)["key"]):
        return key
    with memory.lock(f"training-{key}"):
        if key in set(memory.ledger.runs(memory.name, number)["key"]):
            return key
        training = trainings(memory, number)[key]
        trained = _train_kept((training, round_data(memory, number), memory.artifacts, _earlier(memory, training, number)))
        _store_run(memory, entry, key, training, trained)  # whoever waits for the lock must find it
    return key


def train_all(memory: Memory, number: int, *, workers: Workers = 1, on_failure: Literal["stop", "drop"] | None = None
) -> None:  # fmt: skip
    """Do a round's trainings that are not done, one after the other or side by side; each is stored as soon as it is.

    One that fails keeps none of the others from training.

    Args:
        on_failure: `drop` leaves the failed ones out of the round, `stop` waits for a person; what the campaign's schedule
            says by default, `stop` where there is none.

    Raises:
        MethodError: with the name and the reason of each that failed.
    """
    planned = trainings(memory, number)
    failed = _train_one_by_one(memory, number) if workers == 1 else _train_beside(memory, number, workers)
    if not failed:
        return
    schedule = memory.config.schedule
    told = "; ".join(f"{planned[key].proposer} of arm {planned[key].arm} failed: {why}" for key, why in failed.items())
    if (on_failure or (schedule.on_failure if schedule else "stop")) == "drop" and len(failed) < len(planned):
        log.warning("%s: round %d goes on without what failed: %s", memory.name, number, told)
        for key, why in failed.items():
            drop_training(memory, number, key, proposer=planned[key].proposer, reason=why)
        return
    rest = len(planned) - len(failed)
    raise MethodError(
        told + (f" (the other {rest} are trained: mend it and propose again, or go on with --on-failure drop)" if rest else "")
    )


def _train_one_by_one(memory: Memory, number: int) -> dict[str, str]:
    failed = {}
    for key in trainings(memory, number):
        try:
            ensure_trained(memory, number, key)
        except FAILURES as error:
            failed[key] = in_one_line(error, 300)
            log.warning("%s: round %d: a training failed: %s", memory.name, number, failed[key])
    return failed


def _train_beside(memory: Memory, number: int, workers: Workers) -> dict[str, str]:
    entry, data, planned = memory.round(number), round_data(memory, number), trainings(memory, number)
    failed = {}
    with ExitStack() as held:
        for key in sorted(planned):  # in one order for all, so that no two wait for each other
            held.enter_context(memory.lock(f"training-{key}"))
        done = set(memory.ledger.runs(memory.name, number)["key"])
        todo = [(key, training) for key, training in planned.items() if key not in done]
        jobs = [(training, data, memory.artifacts, _earlier(memory, training, number)) for _, training in todo]
        for i, trained in spread(_tried, jobs, "trainings", workers=workers):
            if isinstance(trained, str):
                failed[todo[i][0]] = trained
            else:
                _store_run(memory, entry, *todo[i], trained)
    return failed


def _store_run(memory: Memory, entry: Round, key: str, training: Training, trained: TrainedPool) -> None:
    pool, notes = trained.pool, notes_of(trained.pool)
    memory.ledger.add_run(
        memory.name, entry.number, key=key, proposer=training.proposer, arm=training.arm, options=training.options,
        seed=training.seed, fingerprint=entry.fingerprint, device=str(notes.get("device", "cpu")), seconds=trained.seconds,
        cpu_seconds=trained.cpu_seconds, versions=versions(), notes=notes, designs=designs_of(pool),
        pool=pd.DataFrame({"design_id": pool.ids, "rank": np.arange(1, len(pool) + 1), "score": pool.score}),
    )  # fmt: skip


def _earlier(memory: Memory, training: Training, number: int) -> tuple[str, ...]:
    """Name where earlier rounds of this arm kept this proposer's models, newest first; for a warm start only."""
    if not training.options.get("warm_start"):
        return ()
    runs = memory.ledger.runs(memory.name).sort_values("round", ascending=False, kind="stable")
    same = (runs["proposer"] == training.proposer) & (runs["arm"] == training.arm) & (runs["round"] < number)
    space = memory.at(number).config.space
    alike = {one for one in runs.loc[same, "round"].unique() if memory.at(int(one)).config.space == space}
    same &= runs["round"].isin(alike)  # a model of a space that was revised since has other inputs
    return tuple(
        folder_of(create("proposers", training.proposer, run["options"]), run["fingerprint"], int(run["seed"]))
        for run in runs[same].to_dict("records")
    )


def drop_training(memory: Memory, number: int, key: str, *, proposer: str, reason: str) -> None:
    """Leave one training of an open round out, as an event: its arm goes on without it, or its wells go to the other arms."""
    with memory.lock():
        entry = memory.round(number)
        if entry.state == RoundState.READY and key in trainings(memory, number):
            detail = {"key": key, "arm": trainings(memory, number)[key].arm, "proposer": proposer, "reason": reason}
            memory.ledger.add_event(memory.name, "training_dropped", detail, number)
            log.warning("%s: round %d goes on without %s: %s", memory.name, number, proposer, reason)


def round_data(memory: Memory, number: int) -> Dataset:
    """The dataset as it was when the round opened, whatever came in since."""
    known = _SNAPSHOTS.setdefault(memory, {})
    if number not in known:
        entry = memory.round(number)
        then = memory.at(number)
        data = state.dataset(then, until=entry.snapshot, before_round=number)
        data = related.with_history(then, data, related.of_round(memory, number))
        if data.fingerprint != entry.fingerprint:
            raise CampaignError(
                f"the data that round {number} of {memory.name} was opened on cannot be taken again (fingerprint "
                f"{data.fingerprint}, not {entry.fingerprint}): close the round with a reason and open the next"
            )
        known[number] = data
    return known[number]


def _key(memory: Memory, entry: Round, training: Training) -> str:
    parts = [memory.name, entry.number, entry.fingerprint, training.proposer, training.options, training.n, training.seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def designs_of(pool: Pool) -> pd.DataFrame:
    """Give a pool's designs as the ledger stores them."""
    return pool.space.decode(pool.X).assign(design_id=pool.ids, in_space=True)


def _train_kept(job: tuple[Training, Dataset, Artifacts, tuple[str, ...]]) -> TrainedPool:
    """Train on this machine, on its device when that is free, stages kept; see `keeping`."""
    training, data, store, earlier = job
    with device_lock(), keeping(store, earlier):
        return train(training, data)


def _tried(job: tuple[Training, Dataset, Artifacts, tuple[str, ...]]) -> TrainedPool | str:
    """Train as `_train_kept` does; the reason where that fails, so that the others' processes go on."""
    try:
        return _train_kept(job)
    except FAILURES as error:
        return in_one_line(error, 300)
