"""How a round's wells were shared, fixed in the ledger before the round trains."""

from __future__ import annotations

import logging
from dataclasses import replace

from labloop.ledger import Round
from labloop.ledger.memory import ALLOCATED, Memory
from labloop.proposing.evidence import share
from labloop.rounds import state
from labloop.seeds import derive

log = logging.getLogger("labloop")


def allocate(memory: Memory, entry: Round) -> None:
    """Share the wells of a round that opens by what its arms achieved, where its file says `allocation: evidence`."""
    config = memory.round_config(entry)
    if config.allocation.rule != "evidence" or len(config.sharing) < 2:
        return
    plate = memory.at(entry.number).config.plate
    even = config.designs(plate)
    wells = sum(even[arm] for arm in config.sharing)
    history = state.results(memory, until=entry.snapshot, before_round=entry.number)
    found = share(
        history, config.sharing, wells=wells, floor=config.allocation.least(wells, len(config.sharing)),
        incumbent={one.number: one.incumbent for one in memory.ledger.rounds(memory.name)}, number=entry.number,
        seed=derive(memory.seed(entry.number), "round", entry.number, "allocation"),
    )  # fmt: skip
    if each := plate.replicates - 1:  # counted in designs until here
        arms = tuple(replace(one, wells=one.wells * (each + 1)) for one in found.arms)
        found = replace(found, floor=found.floor * (each + 1), total=found.total * (each + 1), arms=arms)
    memory.ledger.add_event(memory.name, ALLOCATED, found.notes(), entry.number)
    log.info("%s: round %d: %s", memory.name, entry.number, found.sentence)
