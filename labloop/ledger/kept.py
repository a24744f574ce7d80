"""The readings that stand, kept in columns between calls: rows never change, so that only new ones make it read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import func, select

from labloop.ledger import tables as t
from labloop.ledger.chained import Chained
from labloop.ledger.frames import column_of
from labloop.ledger.hash_chain import Link
from labloop.ledger.readings import newest, readings_of

_FED = ("assay", "design_id", "value", "qualifier", "status", "plate", "well", "round", "measured_at", "note")
"""Columns of a file that are kept as they are stored; the others are read where somebody asks for them."""


@dataclass(frozen=True, eq=False)
class _Stored:
    """A file's readings as they went into the ledger, in a transaction that may yet be undone."""

    campaign: str
    link: Link
    before: int
    """The campaign's last reading before them, 0 where there was none."""
    last: int
    columns: dict[str, pd.Series[Any]]
    """By name: all n rows, or one row where all are the same."""
    n: int

    def column(self, name: str) -> pd.Series[Any]:
        if name == "id":
            return pd.Series(np.arange(self.last - self.n + 1, self.last + 1)).astype("Int64")
        one = self.columns[name]
        return one if len(one) == self.n else one.repeat(self.n).reset_index(drop=True)


class KeptReadings:
    """What was read last of one campaign; each column is read when it is first asked for."""

    def __init__(self, store: Chained) -> None:
        self._store = store
        self._held: tuple[str, int, pd.DataFrame] = "", -1, pd.DataFrame()
        self._stored: _Stored | None = None

    def feed(self, link: Link, campaign: str, readings: dict[str, Any]) -> None:
        """Take the readings that a link has just inserted, so that they need not be read back once they are committed."""
        n, m = len(readings["row"]), t.measurement.c
        if not n or readings["supersedes"].count(None) < n:  # what stood may stand no more
            return
        last = newest(link.connection, link.campaign)
        before = select(func.max(m.id)).filter_by(campaign=link.campaign).where(m.id <= last - n)
        same = {name: readings[name].count(readings[name][0]) == n for name in _FED}
        columns = {name: column_of(readings[name][: 1 if same[name] else n], t.measurement, name) for name in _FED}
        self._stored = _Stored(campaign, link, link.connection.execute(before).scalar() or 0, last, columns, n)

    def get(
        self, campaign: str, until: int | None, since: int, plates: Sequence[str] | None, columns: Sequence[str]
    ) -> pd.DataFrame:
        """Give readings as `Ledger.measurements`; those of all plates as they stand now are kept."""
        # What is not committed yet may be undone, and its numbers be given again.
        if until is None and not since and plates is None and not self._store.database.writing:
            return self._latest(campaign, columns)
        return self._read(campaign, until, since, plates, columns)

    def _latest(self, campaign: str, columns: Sequence[str]) -> pd.DataFrame:
        last = self._store.answer(campaign, newest)
        known, number, frame = self._held
        if (known, number) != (campaign, last):
            frame = self._grown(campaign, last, columns)
        if lacking := [name for name in columns if name not in frame.columns]:
            if self._is_all(campaign, last):
                frame = frame.assign(**{name: self._stored.column(name) for name in lacking if name in (*_FED, "id")})  # type: ignore[union-attr]
                lacking = [name for name in lacking if name not in frame.columns]
            if lacking:
                frame = pd.concat([frame, self._read(campaign, last, 0, None, lacking)], axis=1)
        self._held = campaign, last, frame
        return frame[list(columns)]

    def _grown(self, campaign: str, last: int, columns: Sequence[str]) -> pd.DataFrame:
        """Add the file that was stored last to what is held from before it; an empty frame where that is not all there is."""
        known, number, frame = self._held
        stored = self._stored
        if (
            stored is None
            or not stored.before
            or (known, number) != (campaign, stored.before)
            or not self._stands(campaign, last)
        ):
            return pd.DataFrame()
        both = [name for name in frame.columns if name in (*_FED, "id")]
        return pd.concat([frame[both], pd.DataFrame({name: stored.column(name) for name in both})], ignore_index=True)

    def _is_all(self, campaign: str, last: int) -> bool:
        """Whether the file that was stored last holds all that the campaign has."""
        return self._stored is not None and not self._stored.before and self._stands(campaign, last)

    def _stands(self, campaign: str, last: int) -> bool:
        """Whether the file that was stored last is in the ledger, and its readings the campaign's latest."""
        stored = self._stored
        if stored is None or (stored.campaign, stored.last) != (campaign, last):
            return False
        chain = select(t.link.c.hash).filter_by(campaign=stored.link.campaign, number=stored.link.number)
        with self._store.read() as connection:
            return connection.execute(chain).scalar() == stored.link.hash

    def _read(
        self, campaign: str, until: int | None, since: int, plates: Sequence[str] | None, columns: Sequence[str]
    ) -> pd.DataFrame:
        some = None if plates is None else tuple(plates)
        return self._store.answer(campaign, readings_of, until, some, tuple(columns), since)
