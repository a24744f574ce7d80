"""The ledger: all that a campaign remembers. Names in and out, frames in and out; nothing outside this folder sees SQL.

Every verb that writes is one transaction, and those that are asked to make something sure do nothing, and say so with False,
where it is there already. Nothing is ever changed or removed: a corrected reading is a new row, a round's state its last event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import pandas as pd
from sqlalchemy import Connection, select

from labloop.errors import LedgerError
from labloop.ledger import batches, readings
from labloop.ledger import flags as checks
from labloop.ledger import tables as t
from labloop.ledger.backup import backup
from labloop.ledger.chained import Chained, heads_of, last_link, utc_now
from labloop.ledger.database import Database
from labloop.ledger.designs import designs_of
from labloop.ledger.frames import plain_number, to_json
from labloop.ledger.hash_chain import whoami
from labloop.ledger.heads import Head, Heads
from labloop.ledger.history import Trail, plates_of, trail_of
from labloop.ledger.kept import KeptReadings
from labloop.ledger.known import known_readings
from labloop.ledger.migrations import prepare
from labloop.ledger.rounds import Round, add_event, advance, events_of, open_round, round_of, rounds_of
from labloop.ledger.states import RoundState
from labloop.ledger.verify import Verified, check_file, verify_campaign
from labloop.ledger.vetoes import add_veto, picks_of, wells_of


class Ledger:
    """An append-only ledger of campaigns in an SQLite file or a PostgreSQL database; make one with `Ledger.open`.

    Verbs that take a campaign's name raise CampaignError where nobody knows it, and all raise LedgerError where the database is
    locked, full, read-only or damaged. Threads may share a ledger; processes open their own.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], by: str, heads: Heads) -> None:
        self._store = Chained(database, clock, by, heads)
        self._kept = KeptReadings(self._store)

    @classmethod
    def open(
        cls, where: Path | str, *, create: bool = True, timeout: float = 60.0, clock: Callable[[], datetime] = utc_now,
        by: str | None = None, heads: Path | None = None, read_only: bool = False,
    ) -> Ledger:  # fmt: skip
        """Open a ledger; make it where there is none, bring it up to date where it is older.

        Where file or folder cannot be written, an SQLite ledger is read as it is, and verbs that write say so.

        Args:
            where: a path, or `sqlite:///path` or `postgresql+psycopg://user@host/database`.
            create: whether a missing SQLite file is made.
            timeout: seconds to wait for another writer.
            clock: gives the time that rows are stamped with.
            by: who writes; `$LABLOOP_USER` or this computer's user where left out.

        Raises:
            LedgerError: it is missing, locked, read-only, full, someone else's, or newer than this labloop.
        """
        database = Database(where, timeout=timeout, read_only=read_only)
        if not create and database.path is not None and not database.path.exists():
            raise LedgerError(f"{database.path}: there is no ledger here: run `labloop init` first, or name the ledger's place")
        ledger = cls(database, clock, by or whoami(), heads_of(database, heads))
        try:
            prepare(database, ledger._store.now, noted=ledger._store.heads)
        except LedgerError:
            database.close()
            raise
        return ledger

    def close(self) -> None:
        """Give back the connections."""
        self._store.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def where(self) -> str:
        """The file's path or the database's URL, without its password."""
        return self._store.database.where

    @property
    def reach(self) -> tuple[str, float]:
        """The URL with its password, and the seconds that a writer waits: all that another process needs to open it too."""
        return self._store.database.engine.url.render_as_string(hide_password=False), self._store.database.timeout

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Join several verbs in one transaction: all of the block is stored, or nothing of it if it raises."""
        with self._store.database.begin() as connection:
            yield connection

    def add_campaign(self, name: str, config_json: str) -> None:
        """Begin a campaign.

        Raises:
            CampaignError: the name is taken.
        """
        self._store.add(name, config_json)

    def campaigns(self) -> list[str]:
        """Name the campaigns, oldest first."""
        return self._store.names()

    def config(self, name: str, *, before_round: int | None = None) -> str:
        """Give a campaign's configuration, the JSON text that it began with or that its last revision brought.

        Args:
            before_round: as it was when this round opened.

        Raises:
            CampaignError: nobody knows the campaign.
        """
        return self._store.answer(name, checks.config_of, before_round)

    def revise(self, name: str, config_json: str, *, reason: str) -> bool:
        """Replace a campaign's configuration from now on, unless it is this one already (then False). Open rounds keep theirs."""
        with self.begin():
            if new := self.config(name) != config_json:
                self.add_event(name, checks.REVISED, {"reason": reason, "config": config_json})
        return new

    def begun(self, name: str) -> str:
        """Tell when a campaign was made, ISO 8601 in UTC."""
        with self._store.read() as connection:
            key = self._store.id(connection, name)
            return connection.execute(select(t.campaign.c.at).where(t.campaign.c.id == key)).scalar_one()

    # ---- designs and measurements

    def add_file(
        self, campaign: str, *, sha256: str, name: str, designs: pd.DataFrame, measurements: pd.DataFrame,
        reader: str | None = None, dialect: str | None = None,
    ) -> bool:  # fmt: skip
        """Store a file's measurements and the designs they are of, once.

        Args:
            designs: one row a design, indexed by `design_id` (or with that column): the design's own columns, and `in_space`
                where it is not True throughout. Designs that are known already stay as they are.
            measurements: one row a reading: `design_id` (missing for controls), `assay`, `value` (missing for failed wells), and
                any of `qualifier` (else "="), `unit`, `status` (else "ok"), `plate`, `well`, `round`, `measured_at`, `note`,
                `row` (else counted from 1) and `supersedes` (the `id` of the reading that this one corrects).
            reader: who read the file.
            dialect: what was recognised in it.

        Returns:
            False, with nothing written, where the campaign has these bytes already.

        Raises:
            CampaignError: a superseded reading is not the campaign's, or is superseded already.
            LedgerError: a design is neither given nor known.
            ValueError: unknown columns, gaps where none may be, infinite numbers.
        """
        file = readings.NewFile.of(designs, measurements)
        with self._store.write(campaign, "file") as link:
            if stored := readings.add_file(link, file, sha256=sha256, name=name, reader=reader, dialect=dialect):
                self._kept.feed(link, campaign, file.readings)
        return stored

    def has_file(self, campaign: str, sha256: str, *, assay: str | None = None) -> bool:
        """Say whether the campaign has a file of these bytes; with `assay`, whether it has readings of this assay from it."""
        with self._store.read() as connection:
            return readings.has_file(connection, self._store.id(connection, campaign), sha256, assay)

    def files(self, campaign: str) -> pd.DataFrame:
        """List the files taken in, oldest first: sha256, name, n_rows, at, by (whom)."""
        return self._store.rows(campaign, t.source_file, ("sha256", "name", "n_rows", "at", "by"))

    def measurements(
        self, campaign: str, *, until: int | None = None, since: int = 0, plates: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """List the readings that stand, in the order they came in: design_id, assay, value, qualifier, unit, status, plate, well,
        round, measured_at, note, file (its name), row and id (for `supersedes`); those that a later one supersedes are left out.

        Args:
            until: the readings as they stood when the one of this id was the last.
            since: those that came in after the one of this id.
            plates: those of these plates only.
            columns: these only; all where left out. Of a million readings each column takes its second.
        """
        return self._kept.get(campaign, until, since, plates, readings.READING if columns is None else tuple(columns))

    def known(
        self, campaign: str, assay: str, *, designs: Sequence[str] = (), plates: Sequence[str] = (), last: int = 0
    ) -> pd.DataFrame:
        """List an assay's last readings, or those of these designs or plates; superseded ones too; see `known_readings`."""
        with self._store.read() as connection:
            return known_readings(connection, self._store.id(connection, campaign), assay, designs, plates, last)

    def newest(self, campaign: str) -> int:
        """Give the id of the last reading, 0 where there is none. It stands: what supersedes a reading comes after it."""
        return self._store.answer(campaign, readings.newest)

    def designs(self, campaign: str, ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Give designs by their id, indexed by `design_id`: the design's columns, and `in_space` as it was when each first came.

        Args:
            ids: which, in this order; unknown ones are left out. All the campaign's, sorted by id, if None.
        """
        if ids is None:
            return self._store.answer(campaign, designs_of)
        with self._store.read() as connection:
            return designs_of(connection, self._store.id(connection, campaign), list(dict.fromkeys(ids)))

    def last_check(self, campaign: str) -> tuple[int, bool]:
        """Say which check was the last (the id of its event, 0 before any), and whether readings wait for the next."""
        return self._store.answer(campaign, checks.last_check)

    def add_flags(
        self, campaign: str, rows: Sequence[tuple[int, str, bool, Mapping[str, Any] | None]], *, until: int, after: int
    ) -> bool:
        """Store what a check found, unless another process has checked meanwhile (then False, and nothing is written).

        Args:
            rows: reading's id, rule, whether the flag is raised or taken back, and its figures.
            until: id of the last reading that the check saw.
            after: the check before, as `last_check` gave it.
        """
        with self._store.write(campaign, "check") as link:
            return checks.add_check(link, rows, until=until, after=after)

    def flags(self, campaign: str, *, before_round: int | None = None) -> pd.DataFrame:
        """List the flags that stand, in the order they were raised: measurement (its id), rule, detail (a dict), at.

        Args:
            before_round: as they stood when this round opened.
        """
        return self._store.answer(campaign, checks.flags_of, before_round)

    # ---- rounds

    def open_round(
        self, campaign: str, number: int, *, config: str, seed: int, fingerprint: str, incumbent: float | None, snapshot: int = 0
    ) -> bool:
        """Open a round, READY, unless it is open already (then False, and the round stays as it was opened).

        Args:
            config: the round's configuration as JSON text.
            fingerprint: of the dataset that the round learns from.
            incumbent: the best value now, which the round's results will be held against; None or NaN where there is none.
            snapshot: id of the last reading that the round learns from; 0 where there is none.
        """
        with self._store.write(campaign, "round") as link:
            return open_round(link, number, {
                "config": config, "seed": int(seed), "fingerprint": fingerprint, "snapshot": int(snapshot),
                "incumbent": plain_number(incumbent),
            })  # fmt: skip

    def rounds(self, campaign: str) -> list[Round]:
        """List the rounds by number, each with its present state."""
        return self._store.answer(campaign, rounds_of)

    def advance(self, campaign: str, number: int, state: RoundState | str, detail: Mapping[str, Any] | None = None) -> bool:
        """Move a round to its next state, unless it is there or beyond already (then False).

        Raises:
            CampaignError: the round is not open, or has not come as far as the state before.
        """
        with self._store.write(campaign, "state") as link:
            return advance(link, campaign, number, state, detail)

    def add_run(
        self, campaign: str, number: int, *, key: str, proposer: str, arm: str | None, options: Mapping[str, Any], seed: int,
        fingerprint: str, device: str | None, seconds: float, cpu_seconds: float, versions: Mapping[str, Any],
        notes: Mapping[str, Any], designs: pd.DataFrame, pool: pd.DataFrame,
    ) -> bool:  # fmt: skip
        """Store a finished training and the pool it offers, unless one of this key is there (then False, nothing written).

        Args:
            key: what the run is a function of: round, proposer, options, seed, dataset.
            designs: the pool's designs, as in `add_file`.
            pool: design_id, rank, score.
        """
        offered = batches.run_columns(pool, designs)
        told = {"options": to_json(options), "versions": to_json(versions), "notes": to_json(notes)}
        with self._store.write(campaign, "run") as link:
            round_of(link.connection, link.campaign, campaign, number)
            return batches.add_run(
                link, offered, round=number, key=key, **told, proposer=proposer, arm=arm, seed=int(seed),
                fingerprint=fingerprint, device=device, seconds=plain_number(seconds), cpu_seconds=plain_number(cpu_seconds),
            )  # fmt: skip

    def runs(self, campaign: str, number: int | None = None) -> pd.DataFrame:
        """List the runs of a round, or of all, oldest first; options, versions and notes are dicts."""
        return self._store.answer(campaign, batches.runs_of, number)

    def pool(self, campaign: str, number: int, key: str) -> pd.DataFrame:
        """Give the pool that a run offered, best first: design_id, rank, score and the design's columns.

        Raises:
            CampaignError: the round has no such run.
        """
        return self._store.answer(campaign, batches.pool_of, campaign, number, key)

    def offers(self, campaign: str, number: int) -> list[tuple[str, str]]:
        """List what the runs of a round offered, best first: the run's key and the design's id."""
        return self._store.answer(campaign, batches.offers_of, number)

    def add_batch(self, campaign: str, number: int, *, designs: pd.DataFrame, picks: pd.DataFrame, wells: pd.DataFrame) -> bool:
        """Store the round's batch and move the round to PROPOSED, unless it has one (then False: the first batch stands).

        Args:
            designs: the picks' designs, as in `add_file`.
            picks: arm, rank, design_id, proposer and any of score, mean, std, lcb, nearest_id, nearest_distance.
            wells: plate (a name that the campaign has not used before), well, row, column, and design_id or control.

        Raises:
            CampaignError: the round is not TRAINED, or a plate's name is taken.
            LedgerError: a pick stands twice in its arm, or a well twice on its plate.
        """
        batch = batches.batch_columns(designs, picks, wells)
        with self._store.write(campaign, "batch") as link:
            return batches.add_batch(link, campaign, number, batch)

    def picks(self, campaign: str, number: int | None = None) -> pd.DataFrame:
        """List the picks of a round, or of all, in the order they were stored: round, arm, rank, design_id and the reasons."""
        return self._store.answer(campaign, picks_of, number)

    def wells(self, campaign: str, number: int | None = None) -> pd.DataFrame:
        """List the wells of a round, or of all: round, plate, well, row, column, design_id, control."""
        return self._store.answer(campaign, wells_of, number)

    def add_veto(self, campaign: str, number: int, detail: Mapping[str, Any], picks: pd.DataFrame) -> None:
        """Take a design's wells out of a plate that is PROPOSED, see `labloop.ledger.vetoes`; `picks` come in for it."""
        with self._store.write(campaign, "veto") as link:
            add_veto(link, campaign, number, detail, picks)

    def add_event(self, campaign: str, kind: str, detail: Mapping[str, Any] | None = None, number: int | None = None) -> None:
        """Note that something happened, in a round where `number` is given."""
        with self._store.write(campaign, "event") as link:
            add_event(link, campaign, kind, detail, number)

    def events(self, campaign: str) -> pd.DataFrame:
        """List what happened, in order: at, kind, round, state (of a round's transitions), detail (a dict or None), by (whom)."""
        return self._store.answer(campaign, events_of)

    # ---- the ledger itself

    def trail(self, campaign: str, *, design_id: str | None = None, spot: tuple[str, str] | None = None) -> Trail:
        """Find every row that speaks of a design, or of a spot (plate, well) and the design that was laid out there."""
        with self._store.read() as connection:
            return trail_of(connection, self._store.id(connection, campaign), design_id=design_id, spot=spot)

    def plates(self, campaign: str) -> list[str]:
        """Name the plates that were laid out or measured, in order."""
        return self._store.answer(campaign, plates_of)

    def verify(self, campaign: str | None = None, *, head: str | None = None) -> list[Verified]:
        """Follow the chain of a campaign, or of each, and hold every row against it.

        Args:
            head: a hash of the campaign's chain, noted earlier, that must still stand in it.
        """
        with self._store.read() as connection:
            names = self.campaigns() if campaign is None else [campaign]
            return [verify_campaign(connection, self._store.id(connection, name), name, head=head) for name in names]

    def ends(self, campaign: str) -> Head:
        """Tell where the chain of a campaign ends."""
        return self._store.ends(campaign)

    def heads(self) -> dict[str, str]:
        """Tell the hash of each campaign's last link, oldest campaign first; nothing while this thread writes."""
        return self._store.now_at()

    def last(self, campaign: str, *verbs: str) -> int:
        """Number the last link of these verbs, such as `batch` or `veto`; 0 where there is none."""
        return self._store.answer(campaign, last_link, verbs)

    def batch_head(self, campaign: str, number: int) -> dict[str, Any]:
        """Name the link of the chain that a round's batch came with: campaign, link, head."""
        with self._store.read() as connection:
            return {"campaign": campaign, **batches.head_of(connection, self._store.id(connection, campaign), number)}

    def check_file(self) -> list[str]:
        """Name what is wrong with an SQLite file's pages and indexes; nothing to say of a server's database."""
        with self._store.read() as connection:
            return check_file(connection)

    def backup(self, target: Path | str) -> Path:
        """Write the ledger as it stands this moment, every campaign, into a new SQLite file; others may write meanwhile.

        Raises:
            LedgerError: the file exists, or cannot be written.
        """
        return backup(self._store.database, Path(target))
