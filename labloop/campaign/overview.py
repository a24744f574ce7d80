"""What waits for whom: every campaign of a folder, and the ledger's view of scheduled ones beside the Prefect server's."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labloop.assays.ingest.cells import count
from labloop.campaign.facade import Campaign
from labloop.campaign.step import situation
from labloop.errors import LabloopError
from labloop.ledger.memory import campaigns, nearest_home
from labloop.rounds.policy import Action, decide
from labloop.rounds.state import outlook
from labloop.runtime.prefect_api import LOGIN, OPEN, NoAnswer, Planned, Server


def scheduled(*, home: Path | str | None = None, ledger: str | None = None) -> list[Campaign]:
    """Open every campaign of a ledger that has a schedule."""
    every = [Campaign.open(name, home=home, ledger=ledger) for name in campaigns(home=home, ledger=ledger)]
    return [one for one in every if one.config.schedule is not None]


def overview(
    *, home: Path | str | None = None, ledger: str | None = None, server: Server | None = None, now: datetime | None = None
) -> dict[str, Any]:
    """Tell for each scheduled campaign its round, whom it waits for, until when, and when Prefect looks at it next.

    Returns:
        `server`: a sentence; `campaigns`: a row of plain values each, with its deployment's and its page's address in Prefect.
    """
    now = now or datetime.now(UTC)
    server = server or Server.configured()
    served: dict[str, str] = {}
    runs: list[Planned] = []
    asked = False
    if server is None:
        said = "No Prefect server is named (PREFECT_API_URL): campaigns go on by labloop step NAME."
    else:
        try:
            served, runs, asked = server.deployments(), server.planned(), True
            known = count(len(served), "campaign")
            said = f"The Prefect server at {server.url} answers and knows {known}: {LOGIN}."
            if server.is_open():
                said = f"The Prefect server at {server.url} knows {known} and has no password: {OPEN}."
        except NoAnswer as error:
            said = f"{str(error)[:1].upper()}{str(error)[1:]}: nothing runs by itself now; labloop step NAME goes on by hand."
    rows = [_row(one, now, served, runs, asked=asked) for one in scheduled(home=home, ledger=ledger)]
    for row in rows:
        there = server if server is not None and row["campaign"] in served else None
        row["prefect_url"] = f"{there.site}/deployments/deployment/{served[row['campaign']]}" if there else None
        row["prefect_page"] = there.page_of(row["campaign"]) if there else None
    return {"server": said, "campaigns": rows}


def waiting(run: Campaign, *, now: datetime | None = None) -> dict[str, Any]:
    """Tell of a campaign, scheduled or not, its round, whom it waits for, with what, and until when; nothing is written."""
    state, since, now = None, None, now or datetime.now(UTC)
    try:
        at = situation(run, now=now, remember=False)
        action, state, since = decide(at), at.state, at.since
    except LabloopError as error:  # such as a round's file that is gone: the others' rows are wanted all the same
        action = Action(kind="wait", waits_for="a person", reason=str(error))
    return {
        "campaign": run.name,
        "round": action.round or None,
        "state": state,
        "since": _local(since),
        "waits_for": action.waits_for or ("nobody" if action.kind == "done" else "the scheduler"),
        "what": action.reason or f"{action.kind} {action.label}".strip(),
        "until": _local(action.until),
        "overdue": action.overdue,
    }


def _row(run: Campaign, now: datetime, served: dict[str, str], runs: list[Planned], *, asked: bool) -> dict[str, Any]:
    mine = [one for one in runs if one.campaign == run.name]
    look = "no run is planned" if run.name in served else "not served: labloop schedule runs for another folder, or not at all"
    if mine:
        look = f"{mine[0].state.lower()}, {_local(datetime.fromisoformat(mine[0].at))}"
    return {**waiting(run, now=now), "prefect": look if asked else None}


def _local(moment: datetime | None) -> str | None:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else None


def here(*, home: Path | str | None = None, ledger: str | None = None, folder: Path | str = ".") -> dict[str, Any]:
    """Tell what comes next in a folder: of each campaign of the ledger, or how to begin; nothing is made or written.

    Returns:
        `campaigns`: a row each (`campaign`, `waits_for`, `until`, `next`); where there is none, `begin`: commands, each with what
        it is for.
    """
    rows = []
    for name in campaigns(home=home, ledger=ledger):
        run = Campaign.open(name, home=home, ledger=ledger)
        if run.config.schedule is None:
            row = {"campaign": name, "waits_for": None, "until": None, "next": outlook(run)["next"]}
        else:
            told = waiting(run, now=datetime.now(UTC))
            what = f"{told['what']}: labloop step {name}" if told["waits_for"] == "the scheduler" else told["what"]
            row = {"campaign": name, "waits_for": told["waits_for"], "until": told["until"], "next": what}
        rows.append(row)
    return {"campaigns": rows, "begin": [] if rows else _beginnings(Path(folder))}


def _beginnings(folder: Path) -> list[dict[str, str]]:
    """How to begin in a folder without a campaign: with a ledger or a campaign's file that lies there, or by a demonstration."""
    found = [
        {"command": f"labloop next --home {one.parent.name}", "what": f"the campaigns of {one.parent.name}/, which has a ledger"}
        for one in sorted(folder.glob("*/ledger.db"))
    ]
    if (above := nearest_home(folder)) is not None:
        found.append({"command": f"labloop next --home {above}", "what": "the campaigns of a folder above this one"})
    files = [one for one in (*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))) if _is_campaign(one)]
    for one in files[:5]:
        found += [
            {"command": f"labloop check {one.name}", "what": "see what labloop understands of it; nothing is stored"},
            {"command": f"labloop init {one.name}", "what": "start it; then labloop ingest HISTORY.csv -c NAME"},
        ]
    if not files:
        found += [
            {"command": "labloop demo", "what": "see a whole campaign, three plates of a measured landscape; some minutes"},
            {
                "command": "labloop check my_campaign.yaml",
                "what": "begin your own: one file says what a design is and what is measured",
            },
        ]
    return found


def _is_campaign(path: Path) -> bool:
    """Say whether a file looks like a campaign's: `space:` begins one of its lines. What cannot be read is none."""
    try:
        if not path.is_file():  # a pipe would keep us waiting
            return False
        with path.open("rb") as file:
            return any(line.startswith(b"space:") for line in file.read(100_000).splitlines())
    except OSError:
        return False
