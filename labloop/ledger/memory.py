"""One campaign's memory, as one value: its configuration, the ledger that it is in, and the folder beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from filelock import FileLock

from labloop.config.assay import assay_options
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, LedgerError
from labloop.ledger.rounds import Round
from labloop.ledger.store import Ledger
from labloop.runtime.artifacts import Artifacts
from labloop.runtime.environment import Environment

T = TypeVar("T")

HOME = "labloop-data"
"""The folder of ledger and campaigns, where none is named."""

ALLOCATED = "allocated"
"""The kind of event that fixes how a round's wells are shared, before it trains: `wells` by arm, and why; `proposers` tells the
same of the wells of each arm whose proposers take turns."""
BACKTESTED = "backtested"
"""The kind of event that keeps a backtest: its `arms`, best first, and the `round` that has them."""
BY_BACKTEST = "arms_by_backtest"
"""The kind of event that tells which arms a round took from a backtest, and why, before it trains."""
HISTORY = "history"
"""The kind of event that keeps what a round knew of other campaigns: `sources`, see `labloop.rounds.related`."""
JOINED = "hand_arms"
"""The kind of event by which people's lists join a round: `arms`, a list, and `wells` of every arm of the round."""


class Memory:
    """What a campaign knows. Every verb takes it; `labloop.Campaign` is one, with all verbs as methods."""

    def __init__(self, config: CampaignConfig, ledger: Ledger, home: Path) -> None:
        self.config = config
        self.ledger = ledger
        self.folder = home / config.name
        """Reports, locks and trained models of this campaign; everything in it can be made again from the ledger."""
        self._kept: dict[Hashable, tuple[str, CampaignConfig, Any]] = {}

    @property
    def name(self) -> str:
        return self.config.name

    @cached_property
    def artifacts(self) -> Artifacts:
        """Trained models: in the campaign's folder, or below `$LABLOOP_ARTIFACTS`, a folder or URL that machines share."""
        shared = Environment.now().artifacts
        return Artifacts(f"{shared.rstrip('/')}/{self.name}" if shared else self.folder / "models")

    def to_ingest(self, *assays: str) -> str:
        """Give the command that takes in a file of the lab, of one of these assays, or of any, where none is named."""
        told = f"labloop ingest FILE.csv -c {self.name}"
        if len(self.config.assays) < 2:
            return told
        options = assay_options(assays or self.config.assays)
        return f"{told} {options}" if len(assays) == 1 else f"{told} ({options}, where the file does not say which)"

    def round(self, number: int | None = None) -> Round:
        """Give a round, the latest one where no number is given.

        Raises:
            CampaignError: there is none.
        """
        rounds = self.ledger.rounds(self.name)
        if not rounds:
            raise CampaignError(f"{self.name} has no round yet: run 'labloop propose {self.name}'")
        if number is None:
            return rounds[-1]
        if not 1 <= number <= len(rounds):
            raise CampaignError(f"{self.name} has rounds 1 … {len(rounds)}, not {number}")
        return rounds[number - 1]

    def round_config(self, entry: Round, *, by_hand: bool = True) -> RoundConfig:
        """Read a round's configuration: with the wells that were allocated, the arms whose designs people chose, and without the
        proposers that were dropped from it.

        Args:
            by_hand: False leaves people's arms out.
        """
        config = _round(entry.config, entry.number)
        events = self.ledger.events(self.name)
        rounds = events["round"].to_numpy(dtype=float, na_value=np.nan).tolist()
        said = zip(rounds, events["kind"].tolist(), events["detail"].tolist())  # frames of so few rows take far longer
        told = [(kind, detail) for number, kind, detail in said if number == entry.number]
        for detail in (detail for kind, detail in told if kind == ALLOCATED):
            proposers = {arm: one["wells"] for arm, one in detail.get("proposers", {}).items()}
            config = config.allocated(detail.get("wells", {}), proposers)
        joined = [detail for kind, detail in told if kind == JOINED] if by_hand else []
        if joined and joined[-1]["arms"]:  # the last word counts
            config = config.joined(joined[-1]["arms"], joined[-1]["wells"])
        for detail in (detail for kind, detail in told if kind == "training_dropped"):
            config = config.without(detail["arm"], detail["proposer"])
        return config

    def kept(self, what: Hashable, make: Callable[[], T]) -> T:
        """Give what `make` works out of the ledger alone: once, while nothing is written to the campaign's chain.

        Args:
            what: its name; the last answer of each is kept.
        """
        head = self.ledger.heads().get(self.name)
        known, config, value = self._kept.get(what, (None, None, None))
        if head is not None and known == head and config is self.config:
            return cast(T, value)
        made = make()
        if head is not None:
            self._kept[what] = head, self.config, made
        return made

    def at(self, number: int) -> Memory:
        """Give this memory with the configuration that stood when a round opened, whatever was revised since."""
        return Memory(stored_config(self.ledger, self.name, before_round=number), self.ledger, self.folder.parent)

    def seed(self, number: int) -> int:
        """Give the seed that everything of a round derives from: its own, or the campaign's of that time in rounds of 0.1.0."""
        entry = self.round(number)
        return entry.seed if entry.own_seed else self.at(number).config.seed

    @contextmanager
    def lock(self, what: str = "campaign") -> Iterator[None]:
        """Hold a file lock; the kernel frees it if this process dies."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{what}.lock"):
            yield


def open_ledger(home: Path | str | None, ledger: str | None, *, create: bool = False) -> tuple[Path, Ledger]:
    """Open the ledger of a home folder, or at a URL; returns the folder too.

    Raises:
        CampaignError: there is none.
        LedgerError: it cannot be opened or made.
    """
    place, where, heads = place_of(home, ledger)
    if isinstance(where, Path) and not create and not where.exists():
        there = f": is it that of --home {near}? Else" if (near := nearest_home()) is not None else ":"
        raise CampaignError(
            f"{place} holds no ledger{there} start a campaign with 'labloop init', or name its folder with --home"
        )
    if create:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"{place}: cannot be made: {error.strerror}; choose another folder with --home") from error
    return place, Ledger.open(where, heads=heads)


def place_of(home: Path | str | None, ledger: str | None) -> tuple[Path, Path | str, Path]:
    """Tell the home folder, the ledger's file or URL, and where a server's ledger has its heads noted; nothing is opened."""
    said = Environment.now()
    place = Path(home or said.home or HOME)
    return place, ledger or said.ledger or place / "ledger.db", place / "ledger.heads"


def nearest_home(folder: Path | str = ".") -> Path | None:
    """Give the home folder of a ledger one or two folders above, as a path from here: whoever is in a sub-folder means it."""
    here = Path(folder).resolve()
    for up, above in enumerate(here.parents[:2], start=1):
        back = Path(*[".."] * up)
        if (above / "ledger.db").is_file():
            return back
        if (above / HOME / "ledger.db").is_file():
            return back / HOME
    return None


def stored_config(ledger: Ledger, name: str, before_round: int | None = None) -> CampaignConfig:
    """Read a campaign's configuration; with `before_round`, as it was when that round opened."""
    return _campaign(ledger.config(name, before_round=before_round), name)


@lru_cache(maxsize=8)
def _campaign(text: str, name: str) -> CampaignConfig:
    """Read a configuration, one value for one text: its space may list a hundred thousand designs, once."""
    return parse_config(json.loads(text), CampaignConfig, source=f"ledger entry of {name}")


@lru_cache(maxsize=64)
def _round(text: str, number: int) -> RoundConfig:
    return parse_config(json.loads(text), RoundConfig, source=f"round {number}")


def campaigns(*, home: Path | str | None = None, ledger: str | None = None) -> list[str]:
    """List the names of the campaigns in a ledger; none where there is no ledger yet."""
    try:
        return open_ledger(home, ledger)[1].campaigns()
    except CampaignError:
        return []
