"""Wake a campaign's tick when files have come into its inbox, instead of at the clock's next look."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from labloop.campaign.inbox.arrivals import Arrivals
from labloop.runtime.prefect_api import NoAnswer, Server

log = logging.getLogger("labloop")

EVERY = 3.0
"""Seconds between looks into the inboxes."""


async def keep_watching(inboxes: Mapping[str, Path], *, every: float = EVERY) -> None:
    """Watch the campaigns' inboxes until cancelled.

    Args:
        inboxes: each campaign's folder; it may change meanwhile.
        every: seconds between two looks.
    """
    arrivals, server = Arrivals(), Server.configured()
    while server is not None:
        await asyncio.sleep(every)
        for campaign, key in (await asyncio.to_thread(arrivals.due, dict(inboxes))).items():
            try:
                if await asyncio.to_thread(server.wake, campaign, key=f"inbox-{key}"):
                    arrivals.told(campaign, key)
                    log.info("%s: files have come into its inbox", campaign)
            except NoAnswer as error:  # asked again at the next look
                log.warning("%s has files in its inbox, but is not told: %s", campaign, error)
