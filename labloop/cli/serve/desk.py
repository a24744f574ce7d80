"""What all requests share: the ledger as it is read, files and work that wait, who is logged in, and the templates."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from fastapi import HTTPException
from fastapi.requests import Request
from fastapi.responses import HTMLResponse

from labloop import __version__
from labloop.campaign.facade import Campaign
from labloop.campaign.overview import overview
from labloop.cli.serve import beside
from labloop.cli.serve.beside import Beside
from labloop.cli.serve.jobs import Jobs
from labloop.cli.serve.patient import Answer, Asked, Patient
from labloop.cli.serve.sessions import Session, Sessions
from labloop.cli.serve.settings import Settings
from labloop.cli.serve.uploads import Uploads
from labloop.errors import CampaignError
from labloop.ledger.memory import open_ledger, place_of, stored_config
from labloop.ledger.store import Ledger
from labloop.plates.batch import Batch
from labloop.runtime.numbers import spelt
from labloop.runtime.templates import templates

T = TypeVar("T")

_HERE = Path(__file__).parent
_HEARD = 12.0
LAID_OUT = ("batch", "veto")
"""The ledger's verbs that a plate depends on, beside the campaign's configuration: readings change nothing of it."""


class Opened(Campaign):
    """A campaign as it stood when it was opened for reading."""

    head: str
    """Its chain's last link then."""

    @cached_property
    def n_rows(self) -> int:
        """Rows of all files taken in."""
        return int(self.ledger.files(self.name)["n_rows"].sum())


class Desk:
    """One run's share of everything."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sessions = Sessions(settings.token)
        self.uploads = Uploads()
        self.jobs = Jobs(settings)
        self._patient = Patient()
        self._beside = Beside(settings)
        self._opened: dict[str, Opened] = {}
        self._reading: tuple[Path, Ledger] | None = None
        self._file: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, str]] = {}

    def names(self) -> list[str]:
        """Name the campaigns, oldest first; none where there is no ledger yet."""
        try:
            return list(self._ledger()[1].heads())
        except CampaignError:
            return []

    def campaign(self, name: str) -> Opened:
        """Open a campaign for reading; requests share its ledger.

        Raises:
            HTTPException: there is none of this name.
        """
        found = self._all(name)
        if not found:
            raise HTTPException(404, "There is no campaign of this name.")
        return found[0]

    def campaigns(self) -> list[Opened]:
        """Open every campaign for reading, oldest first."""
        return self._all()

    def _all(self, name: str | None = None) -> list[Opened]:
        """Open campaigns, or one: those that stand as they were opened last need no more than one question for all."""
        try:
            place, ledger = self._ledger()
        except CampaignError:
            return []
        found = []
        for one, head in ledger.heads().items():
            if name is None or one == name:
                run = self._opened.get(one)
                if run is None or run.head != head or run.ledger is not ledger:
                    run = self._opened[one] = Opened(stored_config(ledger, one), ledger, place)
                    run.head = head
                found.append(run)
        return found

    @contextmanager
    def writing(self, name: str, session: Session) -> Iterator[Campaign]:
        """Open a campaign for one verb, whose rows say who was logged in."""
        if name not in self.names():
            raise HTTPException(404, "There is no campaign of this name.")
        place, where, heads = place_of(self.settings.home, self.settings.ledger)
        with Ledger.open(where, create=False, by=session.name, heads=heads) as ledger:
            yield Campaign(stored_config(ledger, name), ledger, place)

    def _ledger(self) -> tuple[Path, Ledger]:
        """Give the folder and its ledger, anew where another file has taken its place, such as a backup that was restored."""
        with self._lock:
            if self._reading is None or _file_of(self._reading[1]) != self._file:
                old, self._reading = self._reading, None
                if old is not None:
                    old[1].close()
                self._reading = open_ledger(self.settings.home, self.settings.ledger)
                self._file = _file_of(self._reading[1])
            return self._reading

    def ask(
        self, campaign: Opened, what: str, question: Callable[..., Any], *about: Any, key: tuple[Any, ...] = (),
        moment: Hashable = None, heavy: bool = True, apart: bool = False, verbs: Sequence[str] = (),
    ) -> Asked:  # fmt: skip
        """Ask what takes long; the answer holds until the ledger goes on, or what is in `key` does.

        Args:
            what: the question's name.
            question: a function of the campaign and of what it is asked `about`, importable by its name.
            moment: see `Patient.ask`.
            heavy: whether it looks at all readings; of many that is done in another process.
            apart: whether it is done there however few there are, as it loads much.
            verbs: what the answer depends on, see `Ledger.last`; all that is written where left out.
        """
        count = partial(question, campaign, *about)
        if apart or (heavy and campaign.n_rows > beside.MANY):
            count = partial(self._beside.ask, question, campaign.name, about)
        return self._patient.ask((campaign.name, what), (*_as_of(campaign, verbs), *key), count, moment=moment)

    def kept(self, campaign: Opened, what: str, make: Callable[[], T], *more: Any, verbs: Sequence[str] = ()) -> T:
        """Give what a page is not shown without, made once while the ledger (and what is in `more`) stays as it is.

        Args:
            verbs: as in `ask`.
        """
        kept: T = self._patient.here((campaign.name, what), (*_as_of(campaign, verbs), *more), make)
        return kept

    def batch(self, campaign: Opened, number: int) -> Batch:
        """Give a round's batch, read once while the plate stays as it is."""
        return self.kept(campaign, f"batch {number}", partial(campaign.batch, number), verbs=LAID_OUT)

    def overview(self) -> Answer:
        """Ask ledger and Prefect server what is planned, which may take seconds."""
        count = partial(overview, home=self.settings.home, ledger=self.settings.ledger)
        return self._patient.ask("overview", int(time.monotonic() // 20), count).answer()

    def say(self, session: Session, text: str) -> None:
        """Let a person's next page begin with a sentence."""
        self._said[session.key] = time.monotonic(), text

    def page(self, request: Request, template: str, code: int = 200, **shown: Any) -> HTMLResponse:
        """Fill a page in."""
        session: Session | None = request.state.session
        told = {
            "session": session, "csrf": self.sessions.seal(session.key) if session else "", "here": request.url.path,
            "refresh": None, "settings": self.settings, "said": self._hear(session), **shown,
        }  # fmt: skip
        return HTMLResponse(_templates().get_template(template).render(told), code)

    def _hear(self, session: Session | None) -> str:
        """Give what was said to a person within the last seconds: a page that reloads itself says it again."""
        at, text = self._said.get(session.key if session else "", (0.0, ""))
        return text if time.monotonic() < at + _HEARD else ""

    def close(self) -> None:
        """End with the run."""
        self._patient.close()
        self._beside.close()
        self.jobs.close()
        self.uploads.close()
        if self._reading is not None:
            self._reading[1].close()


def _as_of(campaign: Opened, verbs: Sequence[str]) -> tuple[Hashable, ...]:
    """Name the state of the ledger that an answer is of."""
    if not verbs:
        return campaign.ledger, campaign.head
    return campaign.ledger, campaign.ledger.config(campaign.name), campaign.ledger.last(campaign.name, *verbs)


def _file_of(ledger: Ledger) -> tuple[int, int] | None:
    """Tell a ledger's file from another at its path; None where it has none."""
    try:
        found = Path(ledger.where).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


_NEXT = {
    "ingest": "a file can be read", "open": "the next round can open", "train": "models can be trained",
    "drop": "a proposer is left out", "propose": "the plate can be laid out", "ask": "approval can be asked for",
    "export": "the plate's files can be written", "close": "the round can be closed and compared",
}  # fmt: skip
"""What an action is for somebody who looks on."""


def spoken(text: str) -> str:
    """Leave out of a sentence what it says of the command line, which a page has buttons for."""
    if (word := str(text).partition(" ")[0]) in _NEXT and len(str(text).split()) <= 2:
        return _NEXT[word]
    if str(text).startswith("No Prefect server is named"):
        return "Nothing runs by itself here: a campaign goes on when somebody presses the button on its page."
    text = str(text).replace("put the lab's measurements into the inbox", "drop the lab's measurements on the campaign's page")
    return re.sub(
        r"\s*[:;,][^:;,]*\blabloop (?:step|approve|reject|close|ingest|propose|schedule|why|plan)\b.*$", "", str(text), flags=re.S
    )


@cache
def _templates() -> jinja2.Environment:
    made = templates(_HERE / "templates")
    made.filters["spoken"] = spoken
    made.filters["spelt"] = spelt
    made.globals["version"] = __version__
    return made


def desk_of(request: Request) -> Desk:
    """Give the desk of the site that a request is for."""
    desk: Desk = request.app.state.desk
    return desk
