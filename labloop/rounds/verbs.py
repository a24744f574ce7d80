"""The verbs of a round, each of which can be run again: what is finished is read from the ledger, never done twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from labloop.assays import readings
from labloop.assays.ingest.cells import count, listed
from labloop.compare.results import Comparison
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, MethodError
from labloop.ledger import Round
from labloop.ledger.memory import Memory
from labloop.ledger.states import STATES, TRAINING, RoundState
from labloop.plates.batch import Batch, plate_names, write_batch
from labloop.plates.layout import lay_out
from labloop.proposing.checks import check_plugins, check_room
from labloop.proposing.history import is_cold
from labloop.proposing.pipeline import decide, judged, left_to_chance
from labloop.proposing.pool import Picks, Pool
from labloop.rounds import by_backtest, by_hand, intake, related, sharing, spending, state, veto
from labloop.rounds.bounds import with_beta
from labloop.rounds.exports import exported
from labloop.rounds.judging import past_of
from labloop.rounds.outcome import compare_round
from labloop.rounds.properties import foretold
from labloop.rounds.training import designs_of, round_data, train_all, trainings
from labloop.runtime.workers import Workers
from labloop.seeds import derive

log = logging.getLogger("labloop")


def propose(
    memory: Memory, config: RoundConfig | Path | str | None = None, *, out: Path | str | None = None, workers: Workers = 1,
    on_failure: Literal["stop", "drop"] | None = None, now: bool = True,
) -> Batch:  # fmt: skip
    """Run a round up to its plate: open it, train every proposer, choose and lay out the wells, export where `out` is given.

    A round that is open already is taken up where it stopped; a finished one gives its batch again, unchanged.

    Args:
        workers: train side by side on so many processes, or on a Dask cluster: see `labloop.runtime.workers`.
        on_failure: what becomes of a round with a proposer that failed, see `train_all`.
        now: open another round although all that were planned are done; the log says so.

    Raises:
        CampaignError: as `ensure_round`.
        MethodError: proposers failed, and the round does not go on without them, or no batch keeps the limits.
    """
    if now and state.beyond_plan(memory):
        log.warning("%s: one more round than the %d that were planned", memory.name, memory.config.rounds)
    number = ensure_round(memory, config, now=now)
    train_all(memory, number, workers=workers, on_failure=on_failure)
    made = ensure_proposed(memory, number)
    if out is not None:
        export(memory, out, number=number)
    return made


def ensure_round(memory: Memory, config: RoundConfig | Path | str | None = None, *, now: bool = True) -> int:
    """Open the next round, or return the number of the one that is open with this configuration.

    Args:
        config: a round, or its YAML file; `auto` takes the arms from the campaign's last kept backtest, see
            `labloop.rounds.by_backtest`. Where none is given an open round goes on as it was opened, and the next one is the
            shipped `rounds/default.yaml`.
        now: open another round although all that were planned are done.

    Raises:
        CampaignError: there is nothing to learn from, all planned rounds are done and `now` is not set, or an open round has
            another configuration or waits for the lab.
        MethodError: the space has fewer designs left than the round's plates have wells.
    """
    if not now and (end := state.beyond_plan(memory)):
        raise CampaignError(f"{memory.name}: {end}")
    auto = str(config) == by_backtest.AUTO
    if config is not None and not isinstance(config, RoundConfig) and not auto:
        config = load_config(config, RoundConfig)
    with memory.lock():
        intake.catch_up(memory)  # whoever stored the last wells may have died before it got there
        rounds = memory.ledger.rounds(memory.name)
        last = rounds[-1] if rounds else None
        open_ = last is not None and last.state not in (RoundState.MEASURED, RoundState.CLOSED)
        if last is not None and open_ and (config is None or (auto and by_backtest.opened_so(memory, last))):
            return last.number
        told = None
        if config is None:
            config = load_config(preset("rounds/default.yaml"), RoundConfig)
        if not isinstance(config, RoundConfig):
            config, told = by_backtest.round_of(memory)
        if last is not None and open_ and parse_config(json.loads(last.config), RoundConfig, source="the open round") == config:
            return last.number
        number = last.number + 1 if last else 1
        config.designs(memory.config.plate)
        check_plugins(config, number=number, rounds=memory.config.rounds)
        if last is not None and last.state in state.AT_THE_LAB:
            raise CampaignError(
                f"round {last.number} of {memory.name} is at the lab with another configuration: ingest its wells, or run "
                f"'labloop close {memory.name} --reason …', before a round with this one"
            )
        if last is not None and last.state != RoundState.CLOSED:
            replaced = last.state != RoundState.MEASURED
            close(memory, last.number, reason="replaced before it had a plate" if replaced else "")
            if replaced:
                log.warning(
                    "%s: round %d was open with another configuration and had no plate yet: it is closed, round %d takes its "
                    "place", memory.name, last.number, number,
                )  # fmt: skip
        spending.check(memory, number, config, seed=derive(memory.config.seed, "round", number))
        with memory.ledger.begin():  # what the round learns from cannot grow between taking it and noting it
            _open_round(memory, number, config)
            if told is not None:
                by_backtest.note(memory, number, told)
        return number


def _open_round(memory: Memory, number: int, config: RoundConfig) -> None:
    readings.check(memory)  # the round learns from what stands in the ledger before it opens
    sources = related.now(memory)
    data = related.with_history(memory, state.dataset(memory), sources)
    if len(data) < state.ENOUGH and config.judge is not None and not is_cold(data):
        raise CampaignError(
            f"{memory.name} has {len(data)} measured designs, too few to learn from: ingest the lab's measurements first "
            f"('{memory.to_ingest()}'), or begin with a plate of random designs "
            f"('labloop propose {memory.name} config/rounds/first.yaml')"
        )
    check_room(data, memory.config.plate.designs(config.plates))
    memory.ledger.open_round(
        memory.name, number, config=config.model_dump_json(), seed=derive(memory.config.seed, "round", number),
        fingerprint=data.fingerprint, incumbent=float(data.keeping.y[data.keeping.best]) if len(data.keeping) else None,
        snapshot=memory.ledger.newest(memory.name),
    )  # fmt: skip
    related.keep(memory, number, sources)
    sharing.allocate(memory, memory.round(number))
    by_hand.join(memory, memory.round(number), data)
    log.info("%s: round %d opened on %d measured designs", memory.name, number, len(data))


def ensure_proposed(memory: Memory, number: int) -> Batch:
    """Choose every arm's wells and lay them out, unless that is done; returns the round's batch."""
    entry = memory.round(number)
    if entry.state in TRAINING:
        with memory.lock():
            _propose(memory, entry)
    return batch(memory, number)


def _propose(memory: Memory, entry: Round) -> None:
    config, data, number = memory.round_config(entry), round_data(memory, entry.number), entry.number
    run = memory.at(number).config
    seed = memory.seed(number)
    setting: dict[str, Any] = {"seed": seed, "number": number, "rounds": run.rounds}
    offered: dict[str, list[Pool]] = {}
    for key, training in trainings(memory, number).items():
        offered.setdefault(training.arm, []).append(_pool(memory, number, key, training.proposer))
    for arm in config.by_hand:
        offered[arm] = [by_hand.pool_of(memory, number, arm)]
    memory.ledger.advance(memory.name, number, RoundState.TRAINED)
    wells = config.designs(run.plate)
    terms = spending.terms_of(memory.at(number), number, config, seed=seed)
    spare: dict[str, Picks] = {}
    past = past_of(memory, number)
    try:
        picks, posterior = decide(config, offered, data, wells, past=past, terms=terms, spare=spare, **setting)
    except MethodError as error:
        raise MethodError(
            f"{error}; round {number} keeps the campaign's file that it was opened with: after labloop revise, close it "
            f"(labloop close {memory.name} --reason …) and propose again"
        ) from error
    for drawn in left_to_chance(picks):
        log.warning(drawn)
    table = pd.concat([_table(arm, chosen) for arm, chosen in picks.items()], ignore_index=True)
    names = plate_names(memory.name, number, config.plates)
    places = {one: int(k) for chosen in picks.values() if chosen.part is not None for one, k in zip(chosen.pool.ids, chosen.part)}
    layout = lay_out(
        run.plate, table, plates=config.plates, names=names, seed=derive(seed, "round", number, "layout"), parts=terms.parts,
        places=places if terms.placed else None,
    )  # fmt: skip
    designs = pd.concat([designs_of(one.pool) for one in (*picks.values(), *spare.values())]).drop_duplicates("design_id")
    if posterior is not None:
        memory.ledger.add_event(memory.name, "judged", judged(posterior, picks), number)
    with memory.ledger.begin():
        if memory.ledger.add_batch(memory.name, number, designs=designs, picks=table, wells=layout):
            memory.ledger.add_event(memory.name, veto.RESERVE, veto.kept(spare), number)
    log.info("%s: round %d has its plate of %d designs", memory.name, number, table["design_id"].nunique())


def batch(memory: Memory, number: int | None = None) -> Batch:
    """Read a proposed round's batch back from the ledger; the latest one where no number is given."""
    entry = memory.round(number)
    picks = with_beta(memory.ledger.picks(memory.name, entry.number), memory.ledger.events(memory.name)).drop(columns="round")
    if picks.empty:
        raise CampaignError(f"round {entry.number} of {memory.name} has no batch: run 'labloop propose {memory.name}'")
    run = memory.at(entry.number).config
    manifest = {
        "campaign": run.model_dump(mode="json", exclude={"schedule"}),
        "round": memory.round_config(entry).model_dump(mode="json"),
        "number": entry.number,
        "seed": memory.seed(entry.number),
        "ledger": memory.ledger.batch_head(memory.name, entry.number),
        "fingerprint": entry.fingerprint,
        "versions": memory.ledger.runs(memory.name, entry.number)["versions"].iloc[0],
    }
    designs = memory.ledger.designs(memory.name, picks["design_id"].unique().tolist())[list(run.space.columns)]
    names = run.space.names(designs)
    return Batch(
        campaign=memory.name, round=entry.number, picks=picks, wells=memory.ledger.wells(memory.name, entry.number),
        designs=designs, names=None if names.empty else names,
        manifest=manifest, objective=run.objective, properties=_form(run), shape=run.plate.shape,
        predictions=foretold(run, memory.ledger.events(memory.name), entry.number),
        arms=tuple(memory.round_config(entry).arms),
    )  # fmt: skip


def _form(config: CampaignConfig) -> dict[str, str]:
    """Name each property's column in the results' form, with its unit; nothing where there is one property."""
    if config.goal is None:
        return {}
    columns = [config.assays[one].columns.get("value") or config.column_of(one)[0] for one in config.goal.assays]
    return {name: one.unit for name, one in zip(columns, config.goal.properties.values(), strict=True)}


def export(
    memory: Memory, out: Path | str, *, number: int | None = None, exporters: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Path]:
    """Write the files of a round's batch into a folder: pick list, plate map, manifest and the empty assay CSV.

    Args:
        exporters: the order sheets and worklists to write, with their options over those that the campaign has for them;
            the campaign's (`plate.exports`), if None.

    Raises:
        BatchError: the batch is beyond what a vendor or a robot takes, or a file cannot be written; nothing was.
    """
    entry = memory.round(number)
    with memory.lock() if entry.state == RoundState.PROPOSED else nullcontext():  # no veto between reading and writing
        return _export(memory, out, entry.number, exporters)


def _export(
    memory: Memory, out: Path | str, number: int, exporters: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, Path]:  # fmt: skip
    made = batch(memory, number)
    own = memory.config.plate.exports
    wanted = own if exporters is None else {name: {**own.get(name, {}), **more} for name, more in exporters.items()}
    written = write_batch(made, Path(out), more=exported(made, memory.config, wanted))
    memory.ledger.advance(memory.name, made.round, RoundState.EXPORTED)
    return written


def close(memory: Memory, number: int | None = None, *, reason: str | None = None) -> Comparison | None:
    """Close a measured round with its comparison. Wells without a result need a reason; they may be proposed again.

    Returns:
        The comparison of the arms; None where no well of the round has a value.

    Raises:
        CampaignError: wells are missing and no reason is given.
    """
    entry = memory.round(number)
    if entry.state != RoundState.CLOSED:
        intake.catch_up(memory)
        missing = state.missing(memory, entry.number)
        if (len(missing) or entry.state in TRAINING) and not reason:
            raise CampaignError(
                f"round {entry.number} of {memory.name} waits for {count(len(missing), 'well')} "
                f"({listed(missing['well'].tolist(), 5)}): ingest what is measured, or give a reason: "
                f"labloop close {memory.name} --reason …"
            )
        detail = {"missing": len(missing), "reason": reason or ""}
        for after in STATES[1:]:
            memory.ledger.advance(memory.name, entry.number, after, detail if after == RoundState.CLOSED else None)
    results = state.results(memory)
    measured = results.loc[results["round"] == entry.number, "y"].notna().any()
    return compare_round(memory, entry.number) if measured else None


def _pool(memory: Memory, number: int, key: str, proposer: str) -> Pool:
    rows = memory.ledger.pool(memory.name, number, key).sort_values("rank")
    space = memory.at(number).config.space
    X = space.encode(rows[list(space.columns)])
    return Pool.of(space, X, rows["score"].to_numpy(float), proposer=proposer)


def _table(arm: str, picks: Picks) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": arm,
            "design_id": picks.pool.ids,
            "rank": np.arange(1, len(picks) + 1),
            "proposer": picks.pool.proposer,
            "score": picks.pool.score,
            "mean": picks.mean,
            "std": picks.std,
            "lcb": picks.lcb,
            "nearest_id": picks.nearest_id,
            "nearest_distance": np.where(np.isfinite(picks.nearest_distance), picks.nearest_distance, np.nan),
        }
    )
