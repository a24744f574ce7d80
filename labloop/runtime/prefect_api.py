"""The Prefect server over its HTTP API, without Prefect: wake a campaign, and tell what is planned.

Every answer may be "nobody there": the ledger is the memory, the server a clock.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from labloop.runtime.environment import Environment

LOGIN = (
    "log in on its page with all of what stands behind PREFECT_SERVER_API_AUTH_STRING=, such as lab:PASSWORD, in the one field"
)
"""What Prefect's page, which only says "Authentication failed", does not tell."""

OPEN = "whoever reaches it can run code on this computer"
"""What a server without a password means."""

FLOW = "tick"
"""The flow's name; each campaign's deployment has the campaign's."""

WAITS = (4.0, 8.0, 12.0)
"""Seconds that an answer may take, each time it is asked for: a bench scientist waits for it after each file."""

PAUSE = 2.0
"""Seconds before a server that says it is busy is asked again."""


def report_key(campaign: str) -> str:
    """Name a campaign's page among Prefect's artifacts, which take lower case, digits and dashes."""
    return f"{campaign.lower().replace('_', '-')}-report"


def bench_page(campaign: str) -> str:
    """Give the address of a campaign on the page of `labloop serve`; '' where the environment names none."""
    url = (Environment.now().serve_url or "").rstrip("/")
    return f"{url}/c/{quote(campaign)}" if url.startswith(("http://", "https://")) else ""


class NoAnswer(Exception):
    """The server is not there, is too slow, or refuses; the message says which."""


class Refused(NoAnswer):
    """The server wants another password."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run that Prefect knows of and that has not ended."""

    campaign: str
    state: str
    """Prefect's name of the state: Scheduled, Late, Pending, Running, …"""
    at: str
    """When it is expected to start, or has started; ISO 8601."""


@dataclass(frozen=True)
class Server:
    """A Prefect server at the URL of its API."""

    url: str
    auth: str = ""
    """`user:password`, where the server wants it."""

    @classmethod
    def configured(cls) -> Self | None:
        """The server that `PREFECT_API_URL` and `PREFECT_API_AUTH_STRING` name; None where none is named."""
        said = Environment.now()
        url = (said.prefect_url or "").rstrip("/")
        return cls(url, said.prefect_auth or "") if url.startswith(("http://", "https://")) else None

    @property
    def site(self) -> str:
        """Where people find its pages: PREFECT_UI_URL, else where its API is."""
        return (Environment.now().prefect_site or self.url.removesuffix("/api")).rstrip("/")

    def page_of(self, campaign: str) -> str:
        """Give the address of a campaign's page there, which ticks write; the newest version is on top."""
        return f"{self.site}/artifacts/key/{quote(report_key(campaign))}"

    def wake(self, campaign: str, *, key: str) -> bool:
        """Ask for a tick of a campaign now; the same key again asks for nothing more.

        Returns:
            Whether the server serves this campaign.

        Raises:
            NoAnswer: nobody is there, or it refuses.
        """
        try:
            deployment = self._ask("GET", f"deployments/name/{FLOW}/{quote(campaign, safe='')}")
        except _NotFound:
            return False
        self._ask("POST", f"deployments/{deployment['id']}/create_flow_run", {"idempotency_key": f"{campaign}:{key}"})
        return True

    def deployments(self) -> dict[str, str]:
        """The campaigns that are served, each with the id of its deployment.

        Raises:
            NoAnswer: nobody is there, or it refuses.
        """
        found = self._ask("POST", "deployments/filter", {"flows": {"name": {"any_": [FLOW]}}})
        return {one["name"]: one["id"] for one in found}

    def planned(self) -> list[Planned]:
        """Runs that are to come or under way, the next first.

        Raises:
            NoAnswer: nobody is there, or it refuses.
        """
        names = {identity: name for name, identity in self.deployments().items()}
        wanted = {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}, "deployment_id": {"any_": list(names)}}
        runs = self._ask("POST", "flow_runs/filter", {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_ASC", "limit": 200})
        return [
            Planned(
                campaign=names[run["deployment_id"]], state=run["state_name"], at=run["start_time"] or run["expected_start_time"]
            )
            for run in runs
        ]

    def is_open(self) -> bool:
        """Say whether it answers whoever has no password: its API lets them run code on this computer.

        Raises:
            NoAnswer: it cannot be reached.
        """
        try:
            type(self)(self.url)._ask("POST", "deployments/filter", {"limit": 1})
        except Refused:
            return False
        return True

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.auth:
            headers["Authorization"] = "Basic " + base64.b64encode(self.auth.encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/{path}", data=data, headers=headers, method=method)
        try:
            return _answer(request)
        except HTTPError as error:
            if error.code == 404:
                raise _NotFound(f"{self.url} does not know {path}") from error
            if error.code in (401, 403):
                raise Refused(f"the Prefect server at {self.url} wants another password: see PREFECT_API_AUTH_STRING") from error
            raise NoAnswer(f"the Prefect server at {self.url} answers {error.code}") from error
        except TimeoutError as error:
            late = f"is slow: it took the question {len(WAITS)} times and did not answer within {sum(WAITS):g} seconds"
            raise NoAnswer(f"the Prefect server at {self.url} {late}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise NoAnswer(f"no Prefect server answers at {self.url}") from error


def _answer(request: Request) -> Any:
    """Ask until there is an answer: all that labloop asks may be asked twice. Nobody there is told at once.

    Raises:
        HTTPError: the server answers something else, at last too.
        TimeoutError: it takes each question, and is slow to answer.
        OSError, HTTPException, ValueError: nobody is there, or it is no Prefect server.
    """
    for wait in WAITS[:-1]:
        try:
            return _answer_within(wait, request)
        except HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(PAUSE)  # its SQLite is busy with another run
        except TimeoutError:
            continue
    return _answer_within(WAITS[-1], request)


def _answer_within(seconds: float, request: Request) -> Any:
    with urlopen(request, timeout=seconds) as answer:
        return json.load(answer)


class _NotFound(NoAnswer):
    pass


def wake(campaign: str, key: str, *, server: Server | None = None) -> str:
    """Wake the configured server's tick of a campaign; returns what came of it for a person, nothing where none is configured.

    It never fails: whatever is not woken now is found at the scheduler's next look.

    Args:
        key: of what happened; the same again wakes nobody.
    """
    server = server or Server.configured()
    if server is None:
        return ""
    try:
        if server.wake(campaign, key=key):
            return "The scheduler is told and goes on now."
        return f"The Prefect server serves no {campaign} (labloop schedule was not started for it): labloop step {campaign}"
    except NoAnswer as error:
        return f"The scheduler is not told ({error}): it goes on at its next look, or run labloop step {campaign}"
