"""The judge as it stands now: fitted to all that is measured and corrected by plates that came back, as in a round's plate.

Nothing here writes to the ledger: whoever only asks changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from labloop.config.read import load_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, LabloopError
from labloop.ledger.memory import Memory
from labloop.ledger.states import RoundState
from labloop.proposing.belief import Judgement, Past
from labloop.proposing.dataset import Dataset
from labloop.proposing.pipeline import earlier, judge
from labloop.proposing.protocols import Belief
from labloop.rounds import related, state
from labloop.seeds import derive

_FITTED: WeakKeyDictionary[Memory, dict[str, Judgement]] = WeakKeyDictionary()
"""Judges that were fitted already, as long as somebody holds the memory."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """All that a judge depends on."""

    config: RoundConfig
    """With the judge; its arms mean nothing here."""
    data: Dataset
    past: Past
    number: int
    """The round that it would judge: the open one, else the next."""
    rounds: int
    seed: int

    @property
    def name(self) -> str:
        return next(iter(self.config.judge or {"nobody": {}}))

    @cached_property
    def key(self) -> str:
        """16 hex digits of all of it, to keep results under."""
        digest = hashlib.sha256(
            json.dumps([self.data.fingerprint, self.config.judge, self.number, self.rounds, self.seed], sort_keys=True).encode()
        )
        for array in (self.past.mean, self.past.std, self.past.y):
            digest.update(array.astype("<f8").tobytes())
        return digest.hexdigest()[:16]

    def fit(self) -> Judgement:
        """Fit the judge to the data."""
        return judge(self.config, self.data, seed=self.seed, number=self.number, rounds=self.rounds, past=self.past)

    def plain(self, data: Dataset, *, seed: int) -> Belief:
        """Fit the judge to other data of one property, from another seed and without any correction."""
        return judge(self.config, data, seed=seed, number=self.number, rounds=self.rounds).posterior


def bench(memory: Memory, config: RoundConfig | Path | str | None = None) -> Bench:
    """Take what the judge of the open round, or of the next one, learns from, with everything that is measured by now.

    Args:
        config: a round's configuration with the judge that is meant; the latest round's, else `auto`, where left out.

    Raises:
        CampaignError: too few designs are measured.
        ConfigError: the round's file does not make sense.
    """
    data = related.with_history(memory, state.dataset(memory), related.now(memory))
    if len(data.lead) < state.ENOUGH:
        n, goal = len(data.lead), memory.config.goal
        of = "" if goal is None else f" of {goal.names[0]}"
        raise CampaignError(
            f"{memory.name} has {n} measured design{'' if n == 1 else 's'}{of}; a judge of others needs {state.ENOUGH} at least: "
            f"ingest {state.ENOUGH - n} more ('{memory.to_ingest()}'). "
            f"Why a pick is in its well is told all the same: 'labloop why {memory.name} PLATE:WELL'"
        )
    rounds = state.rounds_now(memory)
    last = rounds[-1] if rounds else None
    is_open = last is not None and last.state not in (RoundState.MEASURED, RoundState.CLOSED)
    number = 1 if last is None else last.number if is_open else last.number + 1
    if config is None:
        known = [memory.round_config(one) for one in reversed(rounds)]
        config = next((one for one in known if one.judge is not None), RoundConfig.model_validate(_NOBODY))
    elif not isinstance(config, RoundConfig):
        config = load_config(config, RoundConfig)
    if config.judge is None:
        config = config.model_copy(update={"judge": {"auto": {}}})
    return Bench(
        config=config, data=data, past=past_of(memory, number), number=number, rounds=memory.config.rounds,
        seed=memory.seed(number) if is_open else derive(memory.config.seed, "round", number),
    )  # fmt: skip


_NOBODY = {"arms": {"free": {"proposers": "random"}}}


def fitted(memory: Memory, told: Bench) -> Judgement:
    """Fit the judge, once as long as somebody holds the memory."""
    known = _FITTED.setdefault(memory, {})
    if told.key not in known:
        known.clear()
        known[told.key] = told.fit()
    return known[told.key]


def past_of(memory: Memory, number: int) -> Past:
    """Give the picks of rounds before this one that came back, with what was predicted of them: as it was when the round opened,
    or as it is now where it has not been opened."""
    entries = memory.ledger.rounds(memory.name)
    if number <= len(entries):
        results = state.results(memory.at(number), until=entries[number - 1].snapshot, before_round=number)
    else:
        results = state.results(memory)
    events = memory.ledger.events(memory.name)
    events = events[(events["kind"] == "judged") & (events["round"] < number)]
    told = dict(zip(events["round"].astype(int).tolist(), events["detail"].tolist(), strict=True))
    # What history alone predicted of a cold start, in its own unit, tells nothing of a judge that has learnt from here.
    strange = [of for of, detail in told.items() if any(one["gain"] is None for one in detail.get("history", ()))]
    return earlier(results[(results["round"] < number) & ~results["round"].isin(strange)], told)


def kept(memory: Memory, name: str) -> dict[str, Any] | None:
    """Read what was worked out earlier and kept as an artifact; None where there is nothing, or nothing that can be read."""
    try:
        content = memory.artifacts.read(name)
        found = None if content is None else json.loads(content)
    except (LabloopError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def keep(memory: Memory, name: str, told: Mapping[str, Any]) -> None:
    """Keep what was worked out as an artifact, beside the ledger; where nothing can be written it is worked out again."""
    try:
        memory.artifacts.write(name, json.dumps(told, sort_keys=True, allow_nan=False).encode())
    except LabloopError:
        return
