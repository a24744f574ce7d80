"""The readings that stand, kept in columns between calls: rows never change, so that only new ones make it read again."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from labloop.ledger.chained import Chained
from labloop.ledger.readings import newest, readings_of


class KeptReadings:
    """What was read last of one campaign; each column is read when it is first asked for."""

    def __init__(self, store: Chained) -> None:
        self._store = store
        self._held: tuple[str, int, pd.DataFrame] = "", -1, pd.DataFrame()

    def get(self, campaign: str, until: int | None, plates: Sequence[str] | None, columns: Sequence[str]) -> pd.DataFrame:
        """Give readings as `Ledger.measurements`; those of all plates as they stand now are kept."""
        # What is not committed yet may be undone, and its numbers be given again.
        if until is None and plates is None and not self._store.database.writing:
            return self._latest(campaign, columns)
        return self._read(campaign, until, plates, columns)

    def _latest(self, campaign: str, columns: Sequence[str]) -> pd.DataFrame:
        with self._store.read() as connection:
            last = newest(connection, self._store.id(connection, campaign))
        known, number, frame = self._held
        if (known, number) != (campaign, last):
            frame = pd.DataFrame()
        if lacking := [name for name in columns if name not in frame.columns]:
            frame = pd.concat([frame, self._read(campaign, last, None, lacking)], axis=1)
            self._held = campaign, last, frame
        return frame[list(columns)]

    def _read(self, campaign: str, until: int | None, plates: Sequence[str] | None, columns: Sequence[str]) -> pd.DataFrame:
        with self._store.read() as connection:
            return readings_of(connection, self._store.id(connection, campaign), until, plates, columns)
