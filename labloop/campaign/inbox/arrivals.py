"""Watch the inboxes of several campaigns: who has files that are whole, and has not been told of them yet."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from labloop.assays.ingest.read import digest
from labloop.campaign.inbox import folder as inbox
from labloop.campaign.inbox.taken import LATE
from labloop.errors import LabloopError

log = logging.getLogger("labloop")


class Arrivals:
    """Looks at inboxes again and again; a look lists a folder and costs next to nothing."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._silent: set[str] = set()

    def due(self, inboxes: Mapping[str, Path]) -> dict[str, str]:
        """The campaigns that have files to take that are news, each with a key that stands for these very files.

        What a step has taken already is its own business and no news.
        """
        keys = {name: self._key(name, folder) for name, folder in inboxes.items()}
        return {name: key for name, key in keys.items() if key and self._told.get(name) != key}

    def told(self, campaign: str, key: str) -> None:
        """Note that somebody is on the way to these files."""
        self._told[campaign] = key

    def _key(self, campaign: str, folder: Path) -> str:
        try:
            found = inbox.look(folder)
            self._silent.discard(campaign)
        except (LabloopError, OSError) as error:  # one campaign's folder that is away hides no other's
            if campaign not in self._silent:
                log.warning("%s: its inbox is not watched now: %s", campaign, error)
            self._silent.add(campaign)
            return ""
        there = []
        for name in found.whole:
            with suppress(OSError):
                path = folder / ".late" / name.removeprefix(LATE) if name.startswith(LATE) else folder / name
                about = path.lstat()
                there.append((name, about.st_size, about.st_mtime_ns, about.st_ino))
        return digest(repr(there).encode())[:16] if there else ""
