"""What other campaigns and old assays know: read when a round opens, kept with it in the ledger, and taken from there ever after.

A round is replayed on what the ledger keeps, whatever became of the file since. Equal contents are kept once: a later round says
in which round they stand.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.ingest.read import content_of, digest, printable
from labloop.assays.ingest.related import not_ours, on_steps, related_rows
from labloop.config.campaign import CampaignConfig
from labloop.config.history import Related
from labloop.errors import CampaignError, ConfigError, IngestError, LabloopError, LedgerError
from labloop.ledger.memory import HISTORY, Memory, open_ledger, place_of, stored_config
from labloop.ledger.store import Ledger
from labloop.proposing.dataset import Dataset
from labloop.rounds import state
from labloop.space.objective import Objective

log = logging.getLogger("labloop")

MOST = 1_000
"""Designs of one campaign or file that are used at most: half of them the best, the others as chance of their ids has it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RelatedSource:
    """One related campaign or file, as it was read."""

    label: str
    origin: str
    """Where it was read, for people."""
    column: int
    """Which of the campaign's properties it speaks of."""
    table: Mapping[str, list[Any]]
    """The designs' columns and `y`, larger is better: one row a design."""
    measured: int
    """Designs that there were, before `MOST` of them were taken."""
    skipped: tuple[str, ...] = ()
    note: str = ""
    """Such as that the file is gone and the ledger's copy is used."""
    source: str = ""
    """SHA-256 of the file's own bytes, or the fingerprint of the other campaign's data; '' in a ledger of an older labloop."""

    @property
    def sha256(self) -> str:
        """Of what models see."""
        return hashlib.sha256(json.dumps([self.column, self.table], sort_keys=True).encode()).hexdigest()

    @property
    def sentence(self) -> str:
        """Say what it is."""
        n = len(self.table["y"])
        used = f"{self.measured} designs" if n == self.measured else f"{n} of {self.measured} designs"
        return "; ".join([f"{self.label}: {used} ({self.origin})", *self.skipped, *([self.note] if self.note else [])])

    def dataset(self, config: CampaignConfig) -> Dataset:
        """Give it as a dataset in the campaign's space."""
        columns = {name: self.table[name] for name in config.space.columns}
        made = Dataset.from_measurements(config.space, pd.DataFrame(columns), np.array(self.table["y"], dtype=float))
        return replace(made, label=self.label, column=self.column)


def read(config: CampaignConfig, ledger: Ledger | None, home: Path) -> list[RelatedSource]:
    """Read every related campaign and file that a configuration names.

    Args:
        ledger: the campaign's own; None where there is none yet.

    Raises:
        CampaignError: a campaign is not there, or is this one.
        ConfigError: a campaign has other columns.
        IngestError: a file cannot be read, or has no design of the space.
    """
    return [_file(one, config) if one.file is not None else _campaign(one, config, ledger, home) for one in config.history]


def _file(told: Related, config: CampaignConfig) -> RelatedSource:
    assert told.file is not None
    name = printable(told.file.name)
    content = content_of(told.file)
    rows = related_rows(content, name, told, config)
    own = _property(told, config)
    objective = own if told.direction in (None, own.direction) else own.model_copy(update={"direction": told.direction})
    good = np.ones(len(rows.values), dtype=bool) if objective.transform == "identity" else rows.values > 0
    skipped = list(rows.skipped)
    if not good.all():
        skipped.append(f"{int((~good).sum())} rows have no logarithm (transform {objective.transform})")
    designs, y = rows.designs[good].reset_index(drop=True), objective.to_y(rows.values[good])
    return replace(_source(told, config, f"file {name}", designs, y, tuple(skipped)), source=digest(content))


def check(config: CampaignConfig, ledger: Ledger, home: Path) -> None:
    """See that the related campaigns that are there have this one's columns; one that is not may yet come.

    Raises:
        ConfigError: one lacks some.
    """
    for told in config.history:
        if told.campaign is not None:
            with suppress(CampaignError, LedgerError):
                _theirs(told, config, ledger, home)


def _theirs(told: Related, config: CampaignConfig, ledger: Ledger | None, home: Path) -> Memory:
    assert told.campaign is not None
    place, other = (home, ledger) if ledger is not None and told.home is None else open_ledger(told.home or home, None)
    theirs = Memory(stored_config(other, told.campaign), other, place)
    columns = theirs.config.space.columns
    if missing := [one for one in config.space.columns if one not in columns]:
        raise ConfigError(
            f"history: campaign {told.campaign} has no column {', '.join(missing)} (it designs {', '.join(columns)}): "
            "only campaigns of the same columns can be related, so take it out of history"
        )
    return theirs


def _campaign(told: Related, config: CampaignConfig, ledger: Ledger | None, home: Path) -> RelatedSource:
    theirs = _theirs(told, config, ledger, home)
    data = state.dataset(theirs).lead
    if not len(data):
        raise IngestError(f"history: {told.label} has no measured designs yet: take it out of history until it has some")
    designs = theirs.config.space.decode_as_written(data.X)
    designs = on_steps(designs.astype(object), config.space)
    outside, why = not_ours(designs, config.space, what="designs")
    where = f"campaign {told.campaign}" + (f" of {told.home}" if told.home is not None else "")
    found = _source(told, config, where, designs[~outside].reset_index(drop=True), data.y[~outside], why)
    return replace(found, source=data.fingerprint)


def _property(told: Related, config: CampaignConfig) -> Objective:
    return config.objective if config.goal is None or not told.of else config.goal.properties[told.of]


def _source(
    told: Related, config: CampaignConfig, origin: str, designs: pd.DataFrame, y: Any, skipped: Sequence[str]
) -> RelatedSource:  # fmt: skip
    if not len(designs):
        raise IngestError(
            f"history: {told.label} has no measured design of this space"
            + (f" ({'; '.join(skipped)})" if skipped else "")
            + ": mend its columns, or take it out of history"
        )
    column = 0 if config.goal is None or not told.of else config.goal.names.index(told.of)
    made = Dataset.from_measurements(config.space, designs, y)
    rows = np.arange(len(made))
    if len(made) > MOST:
        top = made.top(MOST // 2)
        rows = np.sort(np.concatenate([top, np.setdiff1d(rows, top)[: MOST - len(top)]]))  # in the order of their ids, a hash
    kept = config.space.decode_as_written(made.X[rows])
    table = {name: [_plain(cell) for cell in kept[name]] for name in config.space.columns} | {"y": made.y[rows].tolist()}
    return RelatedSource(label=told.label, origin=origin, column=column, table=table, measured=len(made), skipped=tuple(skipped))


def _plain(cell: Any) -> Any:
    return cell.item() if isinstance(cell, np.generic) else cell


# ---- with a round


def now(memory: Memory) -> list[RelatedSource]:
    """Read what is related now; a file that is gone counts as the ledger keeps it.

    Raises:
        CampaignError, ConfigError, IngestError: as `read`, where the ledger keeps nothing either.
    """
    if not memory.config.history:
        return []
    known = {one.label: one for one in reversed(_latest(memory))}
    found = []
    for told in memory.config.history:
        try:
            one = read(memory.config.model_copy(update={"history": (told,)}), memory.ledger, memory.folder.parent)[0]
        except (CampaignError, ConfigError, IngestError) as error:
            old = known.get(told.label)
            if old is None:
                raise
            log.warning("%s: history %s: %s; what the ledger keeps of it is used", memory.name, told.label, error)
            found.append(replace(old, note="it cannot be read any more, and what the ledger kept of it is used"))
            continue
        old = known.get(told.label)
        if old is not None and old.sha256 != one.sha256:
            if old.source and old.source == one.source:  # the space is wider, or a column is read otherwise
                one = replace(one, note=f"it is the same, but gave {old.measured} designs before the campaign was revised")
            else:
                one = replace(one, note="it has changed since the round before")
            log.warning("%s: history %s", memory.name, one.sentence)
        found.append(one)
    return found


def with_history(memory: Memory, data: Dataset, sources: Sequence[RelatedSource]) -> Dataset:
    """Give a dataset with what others know."""
    return data if not sources else replace(data, history=tuple(one.dataset(memory.config) for one in sources))


def keep(memory: Memory, number: int, sources: Sequence[RelatedSource]) -> None:
    """Keep with a round what it knows of others: `sources`, each with `label`, `from`, `sha256`, `designs` (how many), `skipped`,
    and `table`, columns of designs and `y`, or `same_as`, the round that has the table."""
    if not sources:
        return
    stands = {detail["sha256"]: int(of) for of, detail in reversed(_kept(memory)) if "table" in detail}
    told = []
    for one in sources:
        detail: dict[str, Any] = {
            "label": one.label, "from": one.origin, "column": one.column, "sha256": one.sha256, "designs": len(one.table["y"]),
            "measured": one.measured, "skipped": list(one.skipped), "note": one.note, "said": one.sentence,
            "source": one.source,
        }  # fmt: skip
        told.append(detail | ({"same_as": stands[one.sha256]} if one.sha256 in stands else {"table": dict(one.table)}))
    memory.ledger.add_event(memory.name, HISTORY, {"sources": told}, number)


def of_round(memory: Memory, number: int) -> list[RelatedSource]:
    """Take from the ledger what a round knew of others.

    Raises:
        CampaignError: the ledger's copy is not what it was.
    """
    return _as_read(memory, _kept(memory), number)


def _as_read(memory: Memory, every: Sequence[tuple[int, dict[str, Any]]], number: int) -> list[RelatedSource]:
    tables = {detail["sha256"]: detail["table"] for _, detail in every if "table" in detail}
    found = []
    for of, detail in every:
        if of != number:
            continue
        one = RelatedSource(
            label=detail["label"], origin=detail["from"], column=detail["column"], table=tables.get(detail["sha256"], {}),
            measured=detail["measured"], skipped=tuple(detail["skipped"]), note=detail["note"],
            source=detail.get("source", ""),
        )  # fmt: skip
        if one.sha256 != detail["sha256"]:
            raise CampaignError(f"what round {number} of {memory.name} knew of {one.label} is damaged: run 'labloop verify'")
        found.append(one)
    return found


def _kept(memory: Memory) -> list[tuple[int, dict[str, Any]]]:
    events = memory.ledger.events(memory.name)
    events = events[events["kind"] == HISTORY]
    return [(int(of), one) for of, detail in zip(events["round"], events["detail"], strict=True) for one in detail["sources"]]


def _latest(memory: Memory) -> list[RelatedSource]:
    every = _kept(memory)
    return _as_read(memory, every, max(of for of, _ in every)) if every else []


# ---- before there is a campaign


def datasets(config: CampaignConfig) -> list[Dataset]:
    """Give what is related as datasets, without a ledger of this campaign.

    Raises:
        CampaignError, ConfigError, IngestError: as `read`.
    """
    return [one.dataset(config) for one in read(config, None, open_home())] if config.history else []


def told(config: CampaignConfig, home: Path | None = None) -> list[str]:
    """Say what is related, one sentence each, without a ledger of this campaign.

    Raises:
        ConfigError: a file cannot be read, or a campaign has other columns, with what to do; a campaign that is not here, or has
            no measured design of this space, is only said to be so, as it may yet come.
    """
    said = []
    for i, one in enumerate(config.history):
        alone = config.model_copy(update={"history": (one,)})
        try:
            said.append(read(alone, None, home or open_home())[0].sentence)
        except LabloopError as error:
            if one.file is not None or isinstance(error, ConfigError):
                raise ConfigError(f"history.{i}: {error}") from error
            away = isinstance(error, CampaignError | LedgerError)
            why = f"cannot be looked up from here ({error})" if away else str(error).removeprefix(f"history: {one.label} ")
            said.append(f"{one.label}: {why}")
    return said


def open_home() -> Path:
    """The folder of the ledger that commands use here."""
    return place_of(None, None)[0]
