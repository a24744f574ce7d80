"""How a round's wells were shared, fixed in the ledger before the round trains."""

from __future__ import annotations

import logging
from dataclasses import replace

from labloop.ledger import Round
from labloop.ledger.memory import ALLOCATED, Memory
from labloop.proposing.evidence import Evidence, shared
from labloop.rounds import state
from labloop.rounds.outcome import limited
from labloop.seeds import derive

log = logging.getLogger("labloop")


def allocate(memory: Memory, entry: Round) -> None:
    """Share the wells of a round that opens by what its arms, and the proposers in them, achieved, where its file says so."""
    config = memory.round_config(entry)
    if config.allocation.rule != "evidence":
        return
    plate = memory.at(entry.number).config.plate
    history = limited(memory, state.results(memory, until=entry.snapshot, before_round=entry.number))
    incumbent = {one.number: one.incumbent for one in memory.ledger.rounds(memory.name)}
    seed = derive(memory.seed(entry.number), "round", entry.number, "allocation")
    found, inside = shared(config, history, designs=config.designs(plate), incumbent=incumbent, number=entry.number, seed=seed)
    if found is None and not inside:
        return
    notes = {} if found is None else _in_wells(found, plate.replicates).notes()
    within = {arm: _in_wells(one, plate.replicates).notes() for arm, one in inside.items()}
    memory.ledger.add_event(memory.name, ALLOCATED, notes | ({"proposers": within} if within else {}), entry.number)
    for one in [*([found] if found else []), *inside.values()]:
        log.info("%s: round %d: %s", memory.name, entry.number, one.sentence)


def _in_wells(found: Evidence, replicates: int) -> Evidence:
    """Count in wells what was counted in designs."""
    arms = tuple(replace(one, wells=one.wells * replicates) for one in found.arms)
    return replace(found, floor=found.floor * replicates, total=found.total * replicates, arms=arms)
