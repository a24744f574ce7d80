"""Designs that people choose: a list becomes an arm of the next plate, checked by row, judged and compared like the others."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.ingest import printable
from labloop.assays.ingest.designs import cells_of_designs
from labloop.assays.ingest.read import content_of, digest
from labloop.config.allocation import apportion
from labloop.config.base import NAME
from labloop.config.round import Arm, RoundConfig
from labloop.errors import CampaignError, DesignError, Fault
from labloop.ledger import Round, whoami
from labloop.ledger.memory import JOINED, Memory
from labloop.ledger.states import RoundState
from labloop.proposing.dataset import Dataset
from labloop.proposing.placed import Placement, columns_of
from labloop.proposing.pool import Pool
from labloop.rounds import state
from labloop.rounds.decisions import PICKED, WITHDRAWN, standing_lists
from labloop.rounds.spending import terms_of
from labloop.rounds.training import round_data
from labloop.runtime.counts import check_count
from labloop.seeds import derive

log = logging.getLogger("labloop")


@dataclass(frozen=True, kw_only=True)
class HandPicked:
    """What became of a list."""

    campaign: str
    arm: str
    by: str
    designs: int
    wells: int | None
    """Wells that the arm has in the open round; None while no round has taken it up."""
    round: int | None
    """The round that it has joined; None where it waits for the next."""
    replaced: int
    """Designs of the list that this one replaces, or that was withdrawn; 0 where there was none."""
    said: str
    """For a person, with what comes next."""


def pick(
    memory: Memory, path: Path | str, *, arm: str, by: str = "", wells: int | None = None, name: str | None = None
) -> HandPicked:  # fmt: skip
    """Store a list of designs as an arm of the next plate; a list of this arm that is not on a plate yet is replaced.

    The first designs of the list take the arm's wells, what is over stands in reserve for wells that others free or that are
    vetoed. A round that is open but has no plate yet takes the list up at once, else the next one that opens does.

    Args:
        path: a CSV, Excel or FASTA file with the space's columns, or the `design_id` of known designs, one row a design, the
            most wanted first; other columns are left alone.
        by: who chose them; whoever is logged in where empty.
        wells: wells that the arm asks for; an equal share of the plate, or as many as there are designs, where None.
        name: what the file is called, where that is not its path's name.

    Raises:
        DesignError: rows that are no design of the space, break a constraint, stand there twice, or are measured or in the lab
            already; with each row. Nothing was stored.
        CampaignError: the arm's name does not do, or there are fewer designs than wells.
    """
    if wells is not None:
        check_count("wells", wells)
    by = by.strip() or whoami()
    _check_name(memory, arm)
    name = name or printable(Path(path).name)
    content = content_of(Path(path))
    with memory.lock():
        here = _open_round(memory)
        data = state.dataset(memory, normalised=False) if here is None else round_data(memory, here.number)
        designs, ids, lines = _read(memory, content, name, data)
        _keep_limits(memory, here, name, designs, lines, wells)
        each = (memory if here is None else memory.at(here.number)).config.plate.replicates
        if wells is not None and not 1 <= wells <= len(ids) * each:
            of = f" of {each} wells each (plate.replicates)" if each > 1 else ""
            raise CampaignError(
                f"{name} has {len(ids)} designs{of} and {arm} asks for {wells} wells: give as many designs as wells, or fewer "
                "wells"
            )
        if wells is not None and wells % each:
            near = max(wells // each, 1) * each
            raise CampaignError(
                f"{arm} asks for {wells} wells, which hold no whole number of designs of {each} wells each (plate.replicates): "
                f"take {near} or {near + each}"
            )
        before = standing_lists(memory, here).get(arm)
        if here is not None and arm in memory.round_config(here, by_hand=False).arms:
            raise CampaignError(
                f"round {here.number} has an arm {arm!r} of its own: give these designs another arm's name (--arm)"
            )
        told = {
            "arm": arm, "by": by, "file": name, "sha256": digest(content), "wells": wells, "ids": ids,
            "designs": designs.to_dict("records"),
        }  # fmt: skip
        with memory.ledger.begin():
            memory.ledger.add_event(memory.name, PICKED, told)
            if here is not None:
                join(memory, here, data)
    return _told(memory, arm, by, len(ids), here, 0 if before is None else len(before["ids"]))


def withdraw(memory: Memory, arm: str, *, by: str = "", reason: str = "") -> HandPicked:
    """Take an arm's list back, as long as it is on no plate.

    Raises:
        CampaignError: no list of this arm waits.
    """
    by = by.strip() or whoami()
    with memory.lock():
        here = _open_round(memory)
        lists = standing_lists(memory, here)
        if arm not in lists:
            waits = f"those of {', '.join(lists)} do" if lists else "none does"
            raise CampaignError(
                f"{memory.name}: no list of arm {arm!r} waits for a plate ({waits}); a well of a plate that is not exported yet "
                f"is taken out by labloop veto {memory.name} PLATE:WELL --reason …"
            )
        with memory.ledger.begin():
            memory.ledger.add_event(memory.name, WITHDRAWN, {"arm": arm, "by": by, "reason": reason})
            if here is not None:
                join(memory, here, round_data(memory, here.number))
    n = len(lists[arm]["ids"])
    said = f"The {n} designs of arm {arm} are withdrawn"
    return HandPicked(campaign=memory.name, arm=arm, by=by, designs=0, wells=None, round=None, replaced=n, said=said)


def join(memory: Memory, entry: Round, data: Dataset) -> None:
    """Let the lists that stand join a round that has no plate yet; asked again, the last word counts.

    The other arms give wells in proportion to what they have.

    Args:
        data: what the round learns from: what was measured since a list was made is left out of it.
    """
    lists = standing_lists(memory, entry)
    events = memory.ledger.events(memory.name)
    if not lists and not ((events["kind"] == JOINED) & (events["round"] == entry.number)).any():
        return
    config, run = memory.round_config(entry, by_hand=False), memory.at(entry.number).config
    if clash := sorted(set(lists) & set(config.arms)):
        raise CampaignError(
            f"round {entry.number} has an arm {clash[0]!r} of its own, and a list by {lists[clash[0]]['by']} waits under "
            f"that name: labloop pick {memory.name} --arm {clash[0]} --withdraw, and pick it again under another name"
        )
    base, each = config.designs(run.plate), run.plate.replicates
    total = sum(base.values())
    usable = {arm: _usable(one, data) for arm, one in lists.items()}
    share = total // (len(base) + max(1, sum(map(bool, usable.values()))))
    asked = {arm: min(len(ids), (lists[arm]["wells"] or 0) // each or max(1, share)) for arm, ids in usable.items() if ids}
    most = total - len(base)
    if len(asked) > most:
        raise CampaignError(
            f"round {entry.number} has {total} designs for {len(base)} arms of its own, and the lists of {', '.join(asked)} find "
            f"no place: plan more plates, or take a list back (labloop pick {memory.name} --arm {next(iter(asked))} --withdraw)"
        )
    if sum(asked.values()) > most:
        log.warning("%s: people's arms ask for %d designs of %d; they get %d", memory.name, sum(asked.values()), total, most)
        asked = apportion(most, asked, least=1)
    designs = apportion(total - sum(asked.values()), base, least=1) | asked
    wells = {arm: n * each for arm, n in designs.items()}
    left_out = {arm: left for arm, one in lists.items() if (left := [i for i in one["ids"] if i not in set(usable[arm])])}
    detail = {
        "arms": [{name: lists[arm][name] for name in ("arm", "by", "file", "sha256")} | {"ids": usable[arm]} for arm in asked],
        "wells": wells if asked else {},
        "replicates": each,
        "left_out": left_out,
    }
    memory.ledger.add_event(memory.name, JOINED, detail, entry.number)
    for arm, left in left_out.items():
        log.warning(
            "%s: %d designs of arm %s are measured by now, or not allowed any more: left out", memory.name, len(left), arm
        )


def pool_of(memory: Memory, number: int, arm: str) -> Pool:
    """Give the designs of a person's arm as a pool, in the person's order; the proposer is the person."""
    events = memory.ledger.events(memory.name)
    joined = events.loc[(events["kind"] == JOINED) & (events["round"] == number), "detail"].iloc[-1]
    mine = next(one for one in joined["arms"] if one["arm"] == arm)
    designs: dict[str, dict[str, Any]] = {}
    for detail in events.loc[events["kind"] == PICKED, "detail"]:
        designs |= dict(zip(detail["ids"], detail["designs"], strict=True))
    space = memory.at(number).config.space
    X = space.encode(pd.DataFrame([designs[one] for one in mine["ids"]], columns=list(space.columns)))
    return Pool.of(space, X, -np.arange(len(X), dtype=float), proposer=mine["by"])


# ---- what a round takes of them


def _open_round(memory: Memory) -> Round | None:
    """Give the round that is open and still trains, so that a list can join it."""
    rounds = memory.ledger.rounds(memory.name)
    return rounds[-1] if rounds and rounds[-1].state == RoundState.READY else None


def _usable(told: Mapping[str, Any], data: Dataset) -> list[str]:
    """Give the designs of a list that the space still allows and that nobody has measured or taken to the lab since."""
    frame = pd.DataFrame(told["designs"])
    bad = (
        {fault.row for fault in data.space.check(frame)}
        if set(data.space.columns) <= set(frame.columns)
        else set(range(len(frame)))
    )
    return [one for i, one in enumerate(told["ids"]) if i not in bad and one not in data.taken]


# ---- the file


def _check_name(memory: Memory, arm: str) -> None:
    if not re.fullmatch(NAME, arm):
        raise CampaignError(f"{arm!r} is no name of an arm: a letter, then letters, digits, _ and -, such as chemist")


def _keep_limits(
    memory: Memory, here: Round | None, name: str, designs: pd.DataFrame, lines: Sequence[int], wells: int | None
) -> None:  # fmt: skip
    """Refuse the designs of a list that do not keep the limits, or the budget, with those before them on one round's plates.

    A list that is longer than the arm's wells, or than the plates, is held against the limits as far as it can be on them.
    """
    number = len(memory.ledger.rounds(memory.name)) + 1 if here is None else here.number
    config = RoundConfig(arms={"any": Arm(proposers={"any": {}})}) if here is None else memory.round_config(here, by_hand=False)
    seed = derive(memory.config.seed, "round", number) if here is None else memory.seed(number)
    then = memory if here is None else memory.at(number)
    terms = terms_of(then, number, config, seed=seed)
    if terms.none:
        return
    total = sum(config.designs(then.config.plate).values())
    most = min(total, len(designs), total if wells is None else max(1, wells // then.config.plate.replicates))
    places = Placement.of(terms, total).place(designs.iloc[:most])
    faults = [
        Fault(line, columns_of(terms), f"{one}: leave it out, or put it further down", ", ".join(map(str, cells)))
        for line, one, cells in zip(lines, places, designs.itertuples(index=False)) if isinstance(one, str)
    ]  # fmt: skip
    if faults:
        raise DesignError(f"{name}: {len(faults)} of {len(designs)} designs do not keep {memory.name}'s limits", faults)


def _read(memory: Memory, content: bytes, name: str, data: Dataset) -> tuple[pd.DataFrame, list[str], list[int]]:
    """Read a table of designs: the designs as the space has them, in the file's order, their ids, and their rows in the file."""
    read = cells_of_designs(content, name, memory.config, known=state.designs(memory))
    lines, cells = read.lines.tolist(), read.cells
    faults = data.space.check(cells)
    bad = {fault.row for fault in faults}
    good = [i for i in range(len(lines)) if i not in bad]
    X = data.space.encode(cells.iloc[good].reset_index(drop=True))
    found = [Fault(lines[one.row], one.column, one.rule, one.cell) for one in faults]
    first: dict[str, int] = {}
    ids, columns = data.space.ids(X), ", ".join(data.space.columns)
    values = dict(zip(data.ids, data.y.tolist(), strict=True))
    for i, one in zip(good, ids, strict=True):
        shown = ", ".join(map(str, cells.iloc[i]))
        if one in first:
            found.append(Fault(lines[i], columns, f"is the design of row {first[one]} again: keep one of them", shown))
        elif one in values:
            found.append(Fault(lines[i], columns, f"was measured already (design {one}): choose another", shown))
        elif one in data.taken:
            found.append(Fault(lines[i], columns, f"is in the lab now, or failed there (design {one}): choose another", shown))
        first.setdefault(one, lines[i])
    if found:
        n = len({fault.row for fault in found})
        of = f"{n} of {len(lines)} designs" if len(lines) > 1 else "the design"
        raise DesignError(f"{name}: {of} cannot be taken", sorted(found, key=lambda fault: fault.row))
    return data.space.decode(X), ids, [lines[i] for i in good]


def _told(memory: Memory, arm: str, by: str, n: int, here: Round | None, replaced: int) -> HandPicked:
    said = f"{n} designs by {by} are arm {arm}" + (f", in place of {replaced}" if replaced else "")
    wells = None
    if here is not None:
        wells = memory.round_config(here).arms[arm].wells
        spare = n - (wells or 0) // memory.at(here.number).config.plate.replicates
        over = "" if spare <= 0 else f"; {spare} stand in reserve, in the order of the list"
        said += f" of round {here.number}, with {wells} wells{over}. Next: labloop propose {memory.name}"
    else:
        said += f" of the next round that opens. Next: labloop status {memory.name}"
    return HandPicked(
        campaign=memory.name, arm=arm, by=by, designs=n, wells=wells, round=None if here is None else here.number,
        replaced=replaced, said=said,
    )  # fmt: skip
