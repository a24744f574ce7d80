"""What the environment says to labloop: every variable that it reads for itself, in one place.

They are read when they are asked for, so that a process may change them, and processes that it starts have them too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Self


def _named(variable: str) -> str | None:
    return field(default=None, metadata={"variable": variable})  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The variables' values; None where one is not set, or blank."""

    home: str | None = _named("LABLOOP_HOME")
    """Folder of ledger and reports; `labloop-data` where not set."""
    ledger: str | None = _named("LABLOOP_LEDGER")
    """URL of the ledger's database; an SQLite file in the home folder where not set."""
    user: str | None = _named("LABLOOP_USER")
    """Who writes into the ledger; the computer's user where not set."""
    artifacts: str | None = _named("LABLOOP_ARTIFACTS")
    """Folder or fsspec URL of trained models that machines share; the campaign's folder where not set."""
    device: str | None = _named("LABLOOP_DEVICE")
    """Where trainings compute: `cpu`, `cuda`, `cuda:1`; the first CUDA device that there is where not set."""
    plugins: str | None = _named("LABLOOP_PLUGINS")
    """Modules whose plug-ins files may name by import path, with commas between."""
    serve_token: str | None = _named("LABLOOP_SERVE_TOKEN")
    """What `labloop serve` wants of whoever writes; made anew at each start where not set."""
    serve_url: str | None = _named("LABLOOP_SERVE_URL")
    """Where browsers find the page of `labloop serve`; Prefect's pages of a campaign lead there."""
    prefect_url: str | None = _named("PREFECT_API_URL")
    """The Prefect server that serves the schedules."""
    prefect_auth: str | None = _named("PREFECT_API_AUTH_STRING")
    """`user:password`, where that server wants it."""
    prefect_site: str | None = _named("PREFECT_UI_URL")
    """Where browsers find that server's pages, if not where its API is."""

    @classmethod
    def now(cls) -> Self:
        """Read them all."""
        return cls(**{one: value for one, name in VARIABLES.items() if (value := os.environ.get(name, "")).strip()})


VARIABLES = {one.name: str(one.metadata["variable"]) for one in fields(Environment)}
"""The variables' names, by field."""

PREFIX = "LABLOOP_"
"""What labloop's own begin with."""
