"""`labloop schedule` and the commands around it: without a server all goes on by hand; `test_prefect.py` has a real one."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from scheduling import free_port, run

from labloop.campaign.facade import Campaign
from labloop.campaign.overview import overview
from labloop.cli.app import Common
from labloop.cli.schedule import _decided
from labloop.config.read import parse_config, preset
from labloop.config.schedule import Schedule
from labloop.runtime.prefect_api import NoAnswer, Server, wake

ROOT = Path(__file__).parent.parent

# ---- without a server


@pytest.fixture
def no_page(monkeypatch):
    """Campaigns without their page, which costs more than the rest."""
    monkeypatch.setattr(Campaign, "report", lambda run: run.folder / "report.html")


def test_a_round_by_hand_from_the_inbox_to_the_lab(bench, no_page, capsys):
    assert "Waiting for the lab: too few designs" in run(capsys, "step", "tfbind8")
    inbox = bench / "labloop-data" / "tfbind8" / "inbox"
    (inbox / "start.csv").write_text((bench / "start.csv").read_text().rstrip("\n"))
    text = run(capsys, "step", "tfbind8", "--until", "waiting")
    assert "Waiting for a file: start.csv ends in the middle of a line" in text
    assert "a file: start.csv" in run(capsys, "schedule", "--status")
    assert "Not taken from the inbox yet: start.csv ends in the middle of a line" in run(capsys, "status", "tfbind8")
    (bench / "start.csv").rename(inbox / "start.csv")
    assert "start.csv ingested: 100 measured" in run(capsys, "step", "tfbind8")
    text = run(capsys, "step", "tfbind8", "--until", "waiting")
    assert "waits for approval" in text
    told = json.loads(run(capsys, "step", "tfbind8", "--json"))
    assert [(one["kind"], one["waits_for"]) for one in told] == [("wait", "a person")]
    assert "another" not in run(capsys, "reject", "tfbind8", "--reason", "not this one", "--by", "Ana")
    run(capsys, "step", "tfbind8", "--until", "waiting")
    assert "Round 2 of tfbind8 is approved. Next: labloop step tfbind8" in run(capsys, "approve", "tfbind8")
    assert "round 2 is at the lab" in run(capsys, "step", "tfbind8", "--until", "waiting")
    assert sorted(path.name for path in (bench / "labloop-data" / "tfbind8" / "plates").glob("*_assay.csv")) == [
        "tfbind8-R02_assay.csv"
    ]
    assert "EXPORTED" in run(capsys, "approve", "tfbind8", code=1)
    assert "labloop close tfbind8 --reason" in run(capsys, "reject", "tfbind8", "--reason", "late", code=1)


def test_status_is_useful_without_a_server(bench, no_page, capsys):
    text = run(capsys, "schedule", "--status")
    assert "PREFECT_API_URL" in text
    assert "waits for the lab: too few designs" in text
    run(capsys, "ingest", "start.csv", "-c", "tfbind8")
    text = run(capsys, "schedule", "--status")
    assert "waits for the scheduler: open" in text
    assert "None" not in text  # there is no round yet
    run(capsys, "step", "tfbind8", "--until", "waiting")
    told = json.loads(run(capsys, "schedule", "--status", "--json"))
    assert told["campaigns"][0]["waits_for"] == "a person"
    assert told["campaigns"][0]["prefect"] is None
    assert told["campaigns"][0]["prefect_url"] is None
    (bench / "round.yaml").unlink()
    run(capsys, "reject", "tfbind8", "--reason", "no")
    assert "round.yaml" in run(capsys, "schedule", "--status")


def test_a_campaign_without_a_schedule_is_nobodys_business(bench, capsys):
    run(capsys, "init", preset("campaigns/promoter.yaml"))
    assert [one["campaign"] for one in overview()["campaigns"]] == ["tfbind8"]


def test_schedule_needs_a_server_and_says_how_to_start_one(bench, capsys):
    assert "prefect server start" in run(capsys, "schedule", code=1)


def test_ingest_never_fails_for_want_of_a_server(bench, capsys, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    text = run(capsys, "ingest", "start.csv", "-c", "tfbind8")
    assert "Stored" in text
    assert "no Prefect server answers" in text
    assert "labloop step tfbind8" in text
    assert "nothing runs by itself now" in run(capsys, "schedule", "--status")


def test_the_manuals_schedule_is_one(bench):
    (shown,) = [
        text
        for text in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "howto" / "schedule.md").read_text(), re.DOTALL)
        if "schedule" in text
    ]
    schedule = parse_config(yaml.safe_load(shown)["schedule"], Schedule)
    assert schedule.deadline == timedelta(days=14)
    assert (schedule.approval, schedule.on_failure) == (True, "stop")


def test_the_second_machines_deployment_names_a_flow_and_a_campaign():
    (one,) = yaml.safe_load((ROOT / "flows" / "prefect.yaml").read_text())["deployments"]
    module, _, name = one["entrypoint"].rpartition(".")
    assert f"def {name}(" in (ROOT / "flows" / f"{module.removeprefix('labloop.flows.')}.py").read_text()
    assert one["pull"] == []  # no folder of the first machine is looked for on the second
    assert one["parameters"] == {"campaign": one["name"]}  # labloop ingest wakes the deployment of the campaign's name


def test_the_units_start_commands_that_exist_on_loopback_only():
    units = {path.stem: path.read_text() for path in (ROOT / "examples" / "systemd").glob("*.service")}
    assert "ExecStart=/opt/labloop/bin/labloop schedule\n" in units["labloop-schedule"]
    assert "OOMPolicy=continue\n" in units["labloop-schedule"]
    assert "PREFECT_SERVER_API_HOST=127.0.0.1" in units["labloop-prefect"]
    assert "filesystem" in units["labloop-prefect"]
    assert all("EnvironmentFile=/var/lib/labloop/auth.env" in text for text in units.values())


# ---- with a server that says what we tell it to


@contextmanager
def answering(routes, password=None):
    """A server on a free port that answers each path with (status, JSON), or a function's, and keeps what it was asked."""
    wanted = None if password is None else "Basic " + base64.b64encode(password.encode()).decode()
    asked: list[tuple[str, dict | None, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked.append((self.path, body, self.headers.get("Authorization") or ""))
            found = routes.get(self.path, (404, {}))
            status, answer = found() if callable(found) else found
            if wanted is not None and self.headers.get("Authorization") != wanted:
                status, answer = 401, {}
            with suppress(OSError):  # who asked may have gone
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


DEPLOYMENT = {"/api/deployments/name/tick/c": (200, {"id": "d1"}), "/api/deployments/d1/create_flow_run": (201, {"id": "r1"})}


def test_a_wake_up_is_one_run_whose_key_says_what_happened():
    with answering(DEPLOYMENT) as (url, asked):
        assert "goes on now" in wake("c", "abc", server=Server(url, "lab:secret"))
    assert asked[-1][:2] == ("/api/deployments/d1/create_flow_run", {"idempotency_key": "c:abc"})
    assert {one[2] for one in asked} == {"Basic bGFiOnNlY3JldA=="}


def test_who_approves_is_told_one_next_step(capsys, monkeypatch):
    told = {"campaign": "c", "round": 1, "verdict": "approved", "next": "labloop step c"}
    with answering(DEPLOYMENT) as (url, _):
        monkeypatch.setenv("PREFECT_API_URL", url)
        _decided(told, Common())
    printed = "".join(capsys.readouterr())
    assert "goes on now" in printed
    assert "labloop step" not in printed


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ({}, "serves no c"),
        ({"/api/deployments/name/tick/c": (401, {})}, "PREFECT_API_AUTH_STRING"),
        ({"/api/deployments/name/tick/c": (503, {})}, "answers 503"),
        ({"/api/deployments/name/tick/c": (200, b"<html>a router's login page")}, "no Prefect server answers"),
    ],
)
def test_a_server_that_will_not_is_told_and_no_error(routes, said, monkeypatch):
    monkeypatch.setattr("labloop.runtime.prefect_api.PAUSE", 0)
    with answering(routes) as (url, _):
        assert said in wake("c", "abc", server=Server(url))


def slowly(*, until, times):
    """Give an answer only when told, so many times, and then at once."""
    left = iter([True] * times)

    def answer():
        if next(left, False):
            until.wait()
        return DEPLOYMENT["/api/deployments/name/tick/c"]

    return answer


@pytest.mark.parametrize(("times", "said"), [(1, "goes on now"), (99, "is slow: it took the question 3 times")])
def test_a_server_that_is_slow_is_asked_again_and_told_from_one_that_is_not_there(times, said, monkeypatch):
    monkeypatch.setattr("labloop.runtime.prefect_api.WAITS", (0.01, 10.0, 10.0) if times == 1 else (0.01, 0.01, 0.01))
    told = threading.Event()
    with answering({**DEPLOYMENT, "/api/deployments/name/tick/c": slowly(until=told, times=times)}) as (url, _):
        try:
            assert said in wake("c", "abc", server=Server(url))
        finally:
            told.set()


FILTER = {"/api/deployments/filter": (200, [])}


def test_a_server_without_a_password_is_refused_unless_that_is_wanted(bench, capsys, monkeypatch):
    pytest.importorskip("prefect", reason="pip install 'labloop-toolkit[flows]'")
    served: list[str] = []

    async def serve(place, cron):
        served.append(cron)

    monkeypatch.setattr("labloop.flows.deploy._serve", serve)
    with answering(FILTER) as (url, _):
        monkeypatch.setenv("PREFECT_API_URL", url)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "lab:secret")  # the clients' word alone protects nothing
        said = " ".join(run(capsys, "schedule", code=1).split())
        assert "has no password" in said
        assert "PREFECT_SERVER_API_AUTH_STRING=lab:PASSWORD" in said
        assert "--no-auth" in said
        assert not served
        run(capsys, "schedule", "--no-auth")
        assert len(served) == 1


def test_with_a_password_it_is_served_and_told_how_to_log_in(bench, capsys, caplog, monkeypatch):
    pytest.importorskip("prefect", reason="pip install 'labloop-toolkit[flows]'")

    async def serve(place, cron):
        pass

    monkeypatch.setattr("labloop.flows.deploy._serve", serve)
    with answering(FILTER, password="lab:secret") as (url, _):
        monkeypatch.setenv("PREFECT_API_URL", url)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "lab:secret")
        with caplog.at_level("INFO", "labloop"):
            run(capsys, "schedule")
        assert "lab:PASSWORD, in the one field" in caplog.text
        with pytest.raises(NoAnswer, match="another password"):
            Server(url, "lab:wrong").deployments()


def test_the_manual_tells_how_to_log_in():
    page = " ".join((ROOT / "docs" / "howto" / "schedule.md").read_text().split())
    assert "`lab:PASSWORD`, in its one field" in page
    assert "--no-auth" in page


def test_no_wake_up_where_no_server_is_named(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert wake("c", "abc") == ""
    monkeypatch.setenv("PREFECT_API_URL", "file:///etc/passwd")
    assert Server.configured() is None


def test_what_runs_are_forked_from_has_touched_neither_a_device_nor_a_thread():
    pytest.importorskip("prefect", reason="pip install 'labloop-toolkit[flows]'")
    held = "import sys, threading, scipy.stats, labloop.flows.warm, labloop.report.page"
    told = f"{held}; print('torch' in sys.modules, threading.active_count())"
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    assert subprocess.check_output([sys.executable, "-c", told], text=True, env=environment).split() == ["False", "1"]
