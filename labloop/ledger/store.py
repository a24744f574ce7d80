"""The ledger: all that a campaign remembers. Names in and out, frames in and out; nothing outside this folder sees SQL.

Every verb that writes is one transaction, and those that are asked to make something sure do nothing, and say so with False,
where it is there already. Nothing is ever changed or removed: a corrected reading is a new row, a round's state its last event.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.engine import URL

from labloop.errors import CampaignError, LedgerError
from labloop.ledger import flags as checks
from labloop.ledger import readings
from labloop.ledger import tables as t
from labloop.ledger.backup import copy_file, copy_tables
from labloop.ledger.database import Database
from labloop.ledger.designs import add_designs, design_columns, designs_of
from labloop.ledger.frames import to_columns, to_frame, to_json, types_of
from labloop.ledger.hash_chain import Link, rows_of, whoami
from labloop.ledger.heads import ENDING, Head, Heads
from labloop.ledger.history import Trail, trail_of
from labloop.ledger.known import known_readings
from labloop.ledger.migrations import prepare
from labloop.ledger.readings import READING
from labloop.ledger.rounds import OWN, Round, advance, enter, round_of, rounds_of
from labloop.ledger.states import RoundState
from labloop.ledger.verify import Verified, check_file, ends_of, verify_campaign

_PICK = ("arm", "rank", "design_id", "proposer", "score", "mean", "std", "lcb", "nearest_id", "nearest_distance")
_WELL = ("plate", "well", "row", "column", "design_id", "control")
_RUN = (
    "round", "key", "proposer", "arm", "options", "seed", "fingerprint", "device", "seconds", "cpu_seconds", "versions", "notes",
    "at", "by",
)  # fmt: skip


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


class Ledger:
    """An append-only ledger of campaigns in an SQLite file or a PostgreSQL database; make one with `Ledger.open`.

    Verbs that take a campaign's name raise CampaignError where nobody knows it, and all raise LedgerError where the database is
    locked, full, read-only or damaged. Threads may share a ledger; processes open their own.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], by: str, heads: Heads) -> None:
        self._database = database
        self._heads, self._has_noted = heads, False
        database.committed = self._note
        self._totals: dict[
            int, tuple[str, dict[str, int]]
        ] = {}  # by campaign: its last link's hash, and rows by table until there
        self._clock = clock
        self._by = by
        self._kept: tuple[str, int, pd.DataFrame] = "", -1, pd.DataFrame()

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
            prepare(database, ledger._now, noted=ledger._heads)
        except LedgerError:
            database.close()
            raise
        return ledger

    def close(self) -> None:
        """Give back the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def where(self) -> str:
        """The file's path or the database's URL, without its password."""
        return self._database.where

    @property
    def reach(self) -> tuple[str, float]:
        """The URL with its password, and the seconds that a writer waits: all that another process needs to open it too."""
        return self._database.engine.url.render_as_string(hide_password=False), self._database.timeout

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Join several verbs in one transaction: all of the block is stored, or nothing of it if it raises."""
        with self._database.begin() as connection:
            yield connection

    # ---- campaigns

    def add_campaign(self, name: str, config_json: str) -> None:
        """Begin a campaign.

        Raises:
            CampaignError: the name is taken.
        """
        with self.begin() as connection:
            key = 1 + (connection.execute(select(func.max(t.campaign.c.id))).scalar() or 0)
            link = Link(connection, key, "campaign", at=self._now(), by=self._by)
            if link.once(t.campaign, name=name, config=config_json) is None:
                raise CampaignError(
                    f"{self.where}: campaign {name!r} exists already: go on with it (`labloop status {name}`), "
                    "or give the new one another name"
                )
            self._close(link, name)

    def campaigns(self) -> list[str]:
        """Name the campaigns, oldest first."""
        with self._database.read() as connection:
            return list(connection.execute(select(t.campaign.c.name).order_by(t.campaign.c.id)).scalars())

    def config(self, name: str, *, before_round: int | None = None) -> str:
        """Give a campaign's configuration, the JSON text that it began with or that its last revision brought.

        Args:
            before_round: as it was when this round opened.

        Raises:
            CampaignError: nobody knows the campaign.
        """
        with self._database.read() as connection:
            key = self._id(connection, name)
            revised = checks.revisions_of(connection, key, checks.opening(connection, key, before_round))
            first = select(t.campaign.c.config).where(t.campaign.c.id == key)
            return connection.execute(first).scalar_one() if revised is None else revised

    def revise(self, name: str, config_json: str, *, reason: str) -> bool:
        """Replace a campaign's configuration from now on, unless it is this one already (then False). Open rounds keep theirs."""
        with self.begin():
            if self.config(name) == config_json:
                return False
            self.add_event(name, checks.REVISED, {"reason": reason, "config": config_json})
        return True

    def begun(self, name: str) -> str:
        """Tell when a campaign was made, ISO 8601 in UTC."""
        with self._database.read() as connection:
            return connection.execute(select(t.campaign.c.at).where(t.campaign.c.id == self._id(connection, name))).scalar_one()

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
        rows = readings.reading_columns(measurements)
        new = design_columns(designs)
        with self._write(campaign, "file") as link:
            told = {"sha256": sha256, "name": name, "n_rows": len(measurements), "reader": reader, "dialect": dialect}
            file = link.once(t.source_file, **told)
            if file is None:
                return False
            readings.check_supersedes(link.connection, link.campaign, [one for one in rows["supersedes"] if one is not None])
            add_designs(link, new)
            readings.add_readings(link, file, rows)
        return True

    def has_file(self, campaign: str, sha256: str) -> bool:
        """Say whether the campaign has a file of these bytes."""
        with self._database.read() as connection:
            query = select(t.source_file.c.id).filter_by(campaign=self._id(connection, campaign), sha256=sha256)
            return connection.execute(query).first() is not None

    def files(self, campaign: str) -> pd.DataFrame:
        """List the files taken in, oldest first: sha256, name, n_rows, at, by (whom)."""
        return self._rows(campaign, t.source_file, ("sha256", "name", "n_rows", "at", "by"))

    def measurements(
        self, campaign: str, *, until: int | None = None, plates: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """List the readings that stand, in the order they came in; those that a later one supersedes are left out.

        Columns: design_id, assay, value, qualifier, unit, status, plate, well, round, measured_at, note, file (its name), row and
        id (for `supersedes`).

        Args:
            until: the readings as they stood when the one of this id was the last.
            plates: those of these plates only.
            columns: these only; all where left out. Of a million readings each column takes its second.
        """
        wanted = READING if columns is None else tuple(columns)
        if until is None and plates is None:
            return self._latest(campaign, wanted)
        return self._readings(campaign, until, plates, wanted)

    def known(self, campaign: str, assay: str, *, designs: Sequence[str], plates: Sequence[str]) -> pd.DataFrame:
        """List an assay's readings of these designs or plates, superseded ones too; of very many names, all of the assay's.

        Columns: design_id, value, qualifier, status, plate, well, round, measured_at, file (its name), at (when that was taken
        in), row and id.
        """
        with self._database.read() as connection:
            return known_readings(connection, self._id(connection, campaign), assay, designs, plates)

    def newest(self, campaign: str) -> int:
        """Give the id of the last reading, 0 where there is none. It stands: what supersedes a reading comes after it."""
        with self._database.read() as connection:
            return readings.newest(connection, self._id(connection, campaign))

    def _latest(self, campaign: str, columns: Sequence[str]) -> pd.DataFrame:
        """All readings that stand now; columns of earlier calls are kept while none came in, since rows never change."""
        if self._database.writing:  # what is not committed yet may be undone, and its numbers be given again
            return self._readings(campaign, None, None, columns)
        last = self.newest(campaign)
        known, number, frame = self._kept
        if (known, number) != (campaign, last):
            frame = pd.DataFrame()
        if lacking := [name for name in columns if name not in frame.columns]:
            frame = pd.concat([frame, self._readings(campaign, last, None, lacking)], axis=1)
            self._kept = campaign, last, frame
        return frame[list(columns)]

    def _readings(self, campaign: str, until: int | None, plates: Sequence[str] | None, columns: Sequence[str]) -> pd.DataFrame:
        with self._database.read() as connection:
            return readings.readings_of(connection, self._id(connection, campaign), until, plates, columns)

    def designs(self, campaign: str, ids: Iterable[str] | None = None) -> pd.DataFrame:
        """Give designs by their id: the design's columns and `in_space`, indexed by `design_id`.

        Args:
            ids: which, in this order; unknown ones are left out. All the campaign's, sorted by id, if None.
        """
        with self._database.read() as connection:
            wanted = None if ids is None else list(dict.fromkeys(ids))
            return designs_of(connection, self._id(connection, campaign), wanted)

    # ---- quality control

    def last_check(self, campaign: str) -> tuple[int, bool]:
        """Say which check was the last (the id of its event, 0 before any), and whether readings wait for the next."""
        with self._database.read() as connection:
            return checks.last_check(connection, self._id(connection, campaign))

    def add_flags(
        self, campaign: str, rows: Sequence[tuple[int, str, bool, Mapping[str, Any] | None]], *, until: int, after: int
    ) -> bool:
        """Store what a check found, unless another process has checked meanwhile (then False, and nothing is written).

        Args:
            rows: reading's id, rule, whether the flag is raised or taken back, and its figures.
            until: id of the last reading that the check saw.
            after: the check before, as `last_check` gave it.
        """
        with self._write(campaign, "check") as link:
            if checks.last_check(link.connection, link.campaign)[0] != after:
                return False
            raised = sum(row[2] for row in rows)
            told = {"until": until, "raised": raised, "taken_back": len(rows) - raised}
            check = link.once(t.event, kind=checks.CHECKED, detail=to_json(told))
            if rows and check is not None:
                checks.add_flags(link, check, rows)
        return True

    def flags(self, campaign: str, *, before_round: int | None = None) -> pd.DataFrame:
        """List the flags that stand, in the order they were raised: measurement (its id), rule, detail (a dict), at.

        Args:
            before_round: as they stood when this round opened.
        """
        with self._database.read() as connection:
            key = self._id(connection, campaign)
            return checks.flags_of(connection, key, checks.opening(connection, key, before_round))

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
        with self._write(campaign, "round") as link:
            opened = {
                "number": number,
                "config": config,
                "seed": int(seed),
                "fingerprint": fingerprint,
                "snapshot": int(snapshot),
            }
            if link.once(t.round_, **opened, incumbent=_number(incumbent)) is None:
                return False
            enter(link, number, RoundState.READY, OWN)
        return True

    def rounds(self, campaign: str) -> list[Round]:
        """List the rounds by number, each with its present state."""
        with self._database.read() as connection:
            return rounds_of(connection, self._id(connection, campaign))

    def advance(self, campaign: str, number: int, state: RoundState | str, detail: Mapping[str, Any] | None = None) -> bool:
        """Move a round to its next state, unless it is there or beyond already (then False).

        Raises:
            CampaignError: the round is not open, or has not come as far as the state before.
        """
        with self._write(campaign, "state") as link:
            return advance(link, campaign, number, state, detail)

    # ---- runs and batches

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
        offered = to_columns(pool, t.proposal, ("design_id", "rank", "score"))
        new = design_columns(designs)
        told = {"options": to_json(options), "versions": to_json(versions), "notes": to_json(notes)}
        with self._write(campaign, "run") as link:
            round_of(link.connection, link.campaign, campaign, number)
            run = link.once(
                t.run, round=number, key=key, **told, proposer=proposer, arm=arm, seed=int(seed), fingerprint=fingerprint,
                device=device, seconds=_number(seconds), cpu_seconds=_number(cpu_seconds),
            )  # fmt: skip
            if run is None:
                return False
            add_designs(link, new)
            link.many(t.proposal, {"run": repeat(run), **offered}, len(pool))
        return True

    def runs(self, campaign: str, number: int | None = None) -> pd.DataFrame:
        """List the runs of a round, or of all, oldest first; options, versions and notes are dicts."""
        frame = self._rows(campaign, t.run, _RUN, number)
        return frame.assign(**{name: _from_json(frame[name]) for name in ("options", "versions", "notes")})

    def pool(self, campaign: str, number: int, key: str) -> pd.DataFrame:
        """Give the pool that a run offered, best first: design_id, rank, score and the design's columns.

        Raises:
            CampaignError: the round has no such run.
        """
        p = t.proposal
        with self._database.read() as connection:
            campaign_id = self._id(connection, campaign)
            runs = (
                connection.execute(select(t.run.c.key, t.run.c.id).filter_by(campaign=campaign_id, round=number)).tuples().all()
            )
            if key not in dict(runs):
                known = ", ".join(one for one, _ in runs) or "none yet"
                raise CampaignError(f"round {number} of {campaign!r} has no run {key!r} (there are: {known}): train it first")
            query = select(p.c.design_id, p.c.rank, p.c.score).filter_by(run=dict(runs)[key]).order_by(p.c.rank)
            frame = to_frame(connection.execute(query).all(), types_of(p, ("design_id", "rank", "score")))
            points = designs_of(connection, campaign_id, frame["design_id"].tolist()).drop(columns="in_space")
        return pd.concat([frame, points.reset_index(drop=True)], axis=1)

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
        chosen, laid = to_columns(picks, t.pick, _PICK), to_columns(wells, t.well, _WELL)
        new = design_columns(designs)
        with self._write(campaign, "batch") as link:
            if not advance(link, campaign, number, RoundState.PROPOSED, {"n_wells": len(wells)}):
                return False
            plates = select(t.well.c.plate).distinct().filter_by(campaign=link.campaign)
            if twice := sorted(set(link.connection.execute(plates).scalars()) & set(laid["plate"])):
                raise CampaignError(
                    f"campaign {campaign!r} has a plate {', '.join(twice)} already: name round {number}'s otherwise"
                )
            add_designs(link, new)
            link.many(t.pick, {"round": repeat(number), **chosen}, len(picks))
            link.many(t.well, {"round": repeat(number), **laid}, len(wells))
        return True

    def picks(self, campaign: str, number: int | None = None) -> pd.DataFrame:
        """List the picks of a round, or of all, in the order they were stored: round, arm, rank, design_id and the reasons."""
        return self._rows(campaign, t.pick, ("round", *_PICK), number)

    def wells(self, campaign: str, number: int | None = None) -> pd.DataFrame:
        """List the wells of a round, or of all: round, plate, well, row, column, design_id, control."""
        return self._rows(campaign, t.well, ("round", *_WELL), number)

    # ---- events

    def add_event(self, campaign: str, kind: str, detail: Mapping[str, Any] | None = None, number: int | None = None) -> None:
        """Note that something happened, in a round where `number` is given."""
        with self._write(campaign, "event") as link:
            if number is not None:
                round_of(link.connection, link.campaign, campaign, number)
            text = None if detail is None else to_json(detail)
            link.once(t.event, round=number, kind=kind, detail=text)

    def events(self, campaign: str) -> pd.DataFrame:
        """List what happened, in order: at, kind, round, state (of a round's transitions), detail (a dict or None), by (whom)."""
        frame = self._rows(campaign, t.event, ("at", "kind", "round", "state", "detail", "by"))
        return frame.assign(detail=_from_json(frame["detail"]))

    # ---- the ledger itself

    def trail(self, campaign: str, *, design_id: str | None = None, spot: tuple[str, str] | None = None) -> Trail:
        """Find every row that speaks of a design, or of a spot (plate, well) and the design that was laid out there."""
        with self._database.read() as connection:
            return trail_of(connection, self._id(connection, campaign), design_id=design_id, spot=spot)

    def plates(self, campaign: str) -> list[str]:
        """Name the plates that were laid out or measured, in order."""
        with self._database.read() as connection:
            key = self._id(connection, campaign)
            queries = (select(one.c.plate).distinct().filter_by(campaign=key) for one in (t.well, t.measurement))
            return sorted({plate for query in queries for plate in connection.execute(query).scalars() if plate is not None})

    def verify(self, campaign: str | None = None, *, head: str | None = None) -> list[Verified]:
        """Follow the chain of a campaign, or of each, and hold every row against it.

        Args:
            head: a hash of the campaign's chain, noted earlier, that must still stand in it.
        """
        with self._database.read() as connection:
            names = self.campaigns() if campaign is None else [campaign]
            return [verify_campaign(connection, self._id(connection, name), name, head=head) for name in names]

    def ends(self, campaign: str) -> Head:
        """Tell where the chain of a campaign ends."""
        with self._database.read() as connection:
            return ends_of(connection, self._id(connection, campaign), campaign)

    def batch_head(self, campaign: str, number: int) -> dict[str, Any]:
        """Name the link of the chain that a round's batch came with, for whoever keeps the files: campaign, link, head."""
        w, k = t.well.c, t.link.c
        with self._database.read() as connection:
            key = self._id(connection, campaign)
            mine = select(func.max(w.link)).where(w.campaign == key, w.round == number).scalar_subquery()
            found = connection.execute(select(k.number, k.hash).where(k.campaign == key, k.number == mine)).tuples().first()
        return {"campaign": campaign, "link": found[0] if found else None, "head": found[1] if found else None}

    def check_file(self) -> list[str]:
        """Name what is wrong with an SQLite file's pages and indexes; nothing to say of a server's database."""
        with self._database.read() as connection:
            return check_file(connection)

    def backup(self, target: Path | str) -> Path:
        """Write the ledger as it stands this moment, every campaign, into a new SQLite file; others may write meanwhile.

        Raises:
            LedgerError: the file exists, or cannot be written.
        """
        target = Path(target)
        if target.exists():
            raise LedgerError(f"{target}: exists already: name a new file, or move this one away")
        if self._database.path is not None:
            return copy_file(self._database.path, target, why="is copied")
        with self._database.read() as connection:
            return copy_tables(connection, target)

    # ---- below the verbs

    @contextmanager
    def _write(self, campaign: str, verb: str) -> Iterator[Link]:
        """Write a verb's rows in one transaction and close its link of the chain."""
        with self.begin() as connection:
            link = Link(connection, self._id(connection, campaign), verb, at=self._now(), by=self._by)
            yield link
            self._close(link, campaign)

    def _close(self, link: Link, campaign: str) -> None:
        if (head := link.close()) is None:
            return
        until, rows = self._totals.get(link.campaign, ("", {}))
        if until == link.before and until:
            rows = {name: rows.get(name, 0) + link.written.get(name, 0) for name in {**rows, **link.written}}
        else:  # somebody else wrote in between
            rows = rows_of(link.connection, link.campaign)
        self._totals[link.campaign] = head, rows
        told = Head(campaign=campaign, id=link.campaign, links=link.number, head=head, rows=rows, at=link.at)
        self._database.note(told)

    def _note(self, heads: list[Head]) -> None:
        """Note heads beside the ledger; those of all campaigns where nothing was noted yet."""
        if heads and self._heads.path is not None and not self._has_noted:
            if not self._heads.read()[0]:
                others = (self.ends(name) for name in self.campaigns())
                heads = [*(one for one in others if one.id not in {head.id for head in heads}), *heads]
            self._has_noted = True
        self._heads.note({head.id: head for head in heads}.values())

    def _now(self) -> str:
        """The one place where rows get their time: ISO 8601, UTC."""
        return self._clock().astimezone(UTC).isoformat(timespec="microseconds")

    def _id(self, connection: Connection, name: str) -> int:
        found = connection.execute(select(t.campaign.c.id).filter_by(name=name)).scalar()
        if found is None:
            known = ", ".join(self.campaigns()) or "none yet"
            raise CampaignError(
                f"{self.where}: there is no campaign {name!r} (there are: {known}): run `labloop init`, or mend the name"
            )
        return found

    def _rows(self, campaign: str, table: Table, columns: Sequence[str], number: int | None = None) -> pd.DataFrame:
        """Read a campaign's rows of a table in the order they were written."""
        with self._database.read() as connection:
            key = self._id(connection, campaign)
            query = select(*(table.c[name] for name in columns if name != "by")).where(table.c.campaign == key)
            if "by" in columns:  # the last one
                chain = (t.link.c.campaign == table.c.campaign) & (t.link.c.number == table.c.link)
                query = query.add_columns(t.link.c.by).outerjoin_from(table, t.link, chain)
            if number is not None:
                query = query.where(table.c.round == number)
            kinds = {**types_of(table, [name for name in columns if name != "by"]), **({"by": str} if "by" in columns else {})}
            return to_frame(connection.execute(query.order_by(table.c.id)).all(), kinds)


def heads_of(database: Database, path: Path | None = None) -> Heads:
    """Give the heads of a ledger: beside an SQLite file, in the file that is named for a server's."""
    if database.path is not None:
        return Heads(database.path.with_name(database.path.name + ENDING))
    url = database.engine.url
    query = {name: value for name, value in url.query.items() if "pass" not in name and name != "user"}
    return Heads(
        path, URL.create("postgresql", host=url.host, port=url.port, database=url.database, query=query).render_as_string()
    )


def _number(value: float | None) -> float | None:
    if value is None or np.isnan(value):
        return None
    if np.isinf(value):
        raise ValueError("the ledger takes no infinite number")
    return float(value)


def _from_json(texts: pd.Series[Any]) -> pd.Series[Any]:
    return pd.Series([json.loads(one) if isinstance(one, str) else None for one in texts], dtype=object)
