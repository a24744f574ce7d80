"""`labloop schedule` and the commands around it: without a server all goes on by hand; with one, rounds run by themselves."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from browser import CHROMIUM, browser

from labloop.campaign import step as steps
from labloop.campaign.facade import Campaign
from labloop.campaign.overview import agenda
from labloop.cli import main
from labloop.config.read import parse_config, preset
from labloop.config.schedule import Schedule
from labloop.runtime.prefect_api import NoAnswer, Server, wake
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab

ROOT = Path(__file__).parent.parent
ROUND = {
    "arms": {
        "offline": {"proposers": "fakes:Near", "selector": {"conservative": {"beta": 1.0}}, "pool": 150},
        "free": {"proposers": "random"},
    },
    "judge": "fakes:Flat",
}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A folder with a campaign that has a schedule, its round's file and a start CSV; no server is named."""
    monkeypatch.chdir(tmp_path)
    for name in ("LABLOOP_HOME", "LABLOOP_LEDGER", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("labloop.campaign.inbox.folder.SETTLE", 0)
    text = preset("campaigns/tfbind8.yaml").read_text()
    (tmp_path / "campaign.yaml").write_text(text + "schedule: {rounds: round.yaml, approval: true, deadline: 14 days}\n")
    (tmp_path / "round.yaml").write_text(yaml.safe_dump(ROUND))
    draw_start(open_lab("tfbind8"), 100, seed=0).to_csv("start.csv", index=False)
    assert main(["init", "campaign.yaml"]) == 0
    return tmp_path


def run(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# ---- without a server


def test_a_round_by_hand_from_the_inbox_to_the_lab(bench, capsys):
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
    assert "Round 2 of tfbind8 is approved" in run(capsys, "approve", "tfbind8")
    assert "round 2 is at the lab" in run(capsys, "step", "tfbind8", "--until", "waiting")
    assert sorted(path.name for path in (bench / "labloop-data" / "tfbind8" / "plates").glob("*_assay.csv")) == [
        "tfbind8-R02_assay.csv"
    ]
    assert "EXPORTED" in run(capsys, "approve", "tfbind8", code=1)
    assert "labloop status tfbind8" in run(capsys, "reject", "tfbind8", "--reason", "late", code=1)


def test_status_is_useful_without_a_server(bench, capsys):
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
    (bench / "round.yaml").unlink()
    run(capsys, "reject", "tfbind8", "--reason", "no")
    assert "round.yaml" in run(capsys, "schedule", "--status")


def test_a_campaign_without_a_schedule_is_nobodys_business(bench, capsys):
    run(capsys, "init", preset("campaigns/promoter.yaml"))
    assert [one["campaign"] for one in agenda()["campaigns"]] == ["tfbind8"]


def test_schedule_needs_a_server_and_says_how_to_start_one(bench, capsys):
    assert "prefect server start" in run(capsys, "schedule", code=1)


def test_ingest_never_fails_for_want_of_a_server(bench, capsys, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    text = run(capsys, "ingest", "start.csv", "-c", "tfbind8")
    assert "Stored" in text
    assert "no Prefect server answers" in text
    assert "labloop step tfbind8" in text
    assert "nothing runs by itself now" in run(capsys, "schedule", "--status")


def test_the_readmes_schedule_is_one(bench):
    (shown,) = [
        text for text in re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL) if "schedule" in text
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
    """A server on a free port that answers each path with (status, JSON) and remembers what it was asked."""
    wanted = None if password is None else "Basic " + base64.b64encode(password.encode()).decode()
    asked: list[tuple[str, dict | None, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked.append((self.path, body, self.headers.get("Authorization") or ""))
            status, answer = routes.get(self.path, (404, {}))
            if wanted is not None and self.headers.get("Authorization") != wanted:
                status, answer = 401, {}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
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


def test_the_readme_tells_how_to_log_in():
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert "`lab:PASSWORD`, in its one field" in readme
    assert "--no-auth" in readme


def test_no_wake_up_where_no_server_is_named(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert wake("c", "abc") == ""
    monkeypatch.setenv("PREFECT_API_URL", "file:///etc/passwd")
    assert Server.configured() is None


def test_what_runs_are_forked_from_has_touched_neither_a_device_nor_a_thread():
    pytest.importorskip("prefect", reason="pip install 'labloop-toolkit[flows]'")
    told = "import sys, threading, labloop.flows.warm; print('torch' in sys.modules, threading.active_count())"
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    assert subprocess.check_output([sys.executable, "-c", told], text=True, env=environment).split() == ["False", "1"]


# ---- with the real one


def _die_with_the_test() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing of ours outlives the tests


@contextmanager
def process(arguments, environment, log):
    """A process with a group of its own, all of which is killed at the end."""
    with log.open("wb") as file:
        child = subprocess.Popen(
            arguments, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=_die_with_the_test,
        )  # fmt: skip
        try:
            yield child
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def until(what, seconds: float):
    """Wait for something true, looking twice a second; returns it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def prefect(tmp_path_factory):
    """A real server with a password, for this file: what the environment says of it. It takes seconds to start."""
    pytest.importorskip("prefect", reason="pip install 'labloop-toolkit[flows]'")
    if sys.platform != "linux":
        pytest.skip("the processes are killed the way Linux does it")
    folder, port = tmp_path_factory.mktemp("prefect"), free_port()
    told = {
        "PREFECT_HOME": str(folder), "PREFECT_SERVER_API_PORT": str(port), "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": "lab:secret", "PREFECT_API_AUTH_STRING": "lab:secret",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    server = Server(told["PREFECT_API_URL"], "lab:secret")

    def answers():
        try:
            return server.deployments() is not None
        except NoAnswer:
            return False

    with process([sys.executable, "-m", "prefect", "server", "start"], {**os.environ, **told}, folder / "server.log"):
        until(answers, 180)
        yield told


@pytest.fixture
def server(prefect, bench, monkeypatch):
    """The real server, named in the environment of this test."""
    for name, value in prefect.items():
        monkeypatch.setenv(name, value)
    return Server.configured()


SCHEDULE = [sys.executable, "-c", "from labloop.cli import run; run()", "schedule", "--cron", "* * * * *"]


@pytest.mark.server
def test_a_scheduled_run_appears_and_takes_a_file_from_the_inbox_to_the_next_plate(server, bench, capsys):
    campaign = Campaign.open("tfbind8")
    (bench / "start.csv").rename(steps.inbox_of(campaign) / "start.csv")
    with pytest.raises(NoAnswer, match="password"):
        Server(server.url).deployments()
    with process(SCHEDULE, dict(os.environ), bench / "schedule.log"):
        until(lambda: campaign.state(1) == "PROPOSED", 180)
        until(lambda: agenda()["campaigns"][0]["waits_for"] == "a person", 60)
        assert "a person" in run(capsys, "schedule", "--status")
        assert "another labloop schedule" in run(capsys, "schedule", code=1)
        assert "goes on now" in run(capsys, "approve", "tfbind8")
        until(lambda: campaign.state(1) == "EXPORTED", 60)
        form = measure_plate(campaign, open_lab("tfbind8"), steps.plates_of(campaign), bench / "back", number=1)
        assert "goes on now" in run(capsys, "ingest", form, "-c", "tfbind8")
        until(lambda: campaign.state(2) == "PROPOSED", 90)
        # What a pinned-version fault breaks silently: the clock itself makes a run, and it runs to its end.
        done = {"state": {"type": {"any_": ["COMPLETED"]}}}
        until(
            lambda: [one for one in server._ask("POST", "flow_runs/filter", {"flow_runs": done}) if one["auto_scheduled"]],
            120,
        )
        assert {one.campaign for one in server.planned()} == {"tfbind8"}
        watching = server._ask("POST", "automations/filter", {})
        assert [one["name"] for one in watching] == ["labloop: a dead tick is crashed"]
    assert "Error" not in (bench / "schedule.log").read_text()


@pytest.mark.server
def test_a_file_starts_the_tick_when_it_arrives(server, bench, capsys):
    campaign = Campaign.open("tfbind8")
    began = datetime.now(UTC).isoformat()
    with process([*SCHEDULE[:-1], "0 0 1 1 *"], dict(os.environ), bench / "schedule.log"):
        completed = {"state": {"type": {"any_": ["COMPLETED"]}}, "start_time": {"after_": began}}
        until(lambda: server._ask("POST", "flow_runs/filter", {"flow_runs": completed}), 120)  # the look at the beginning
        (bench / "start.csv").rename(steps.inbox_of(campaign) / "start.csv")
        until(lambda: campaign.state(1) == "PROPOSED", 120)
    assert "files have come into its inbox" in (bench / "schedule.log").read_text()


@pytest.mark.server
def test_a_training_that_is_killed_ends_its_own_run_and_nothing_else(server, bench, capsys):
    arms = {**ROUND["arms"], "bold": {"proposers": {"fakes:Dies": {"mark": str(bench / "died")}}}}
    (bench / "round.yaml").write_text(yaml.safe_dump({**ROUND, "arms": arms}))
    run(capsys, "ingest", "start.csv", "-c", "tfbind8")
    campaign = Campaign.open("tfbind8")
    with process(SCHEDULE, dict(os.environ), bench / "schedule.log") as scheduler:

        def crashed():
            wanted = {"state": {"name": {"any_": ["Crashed"]}}, "start_time": {"after_": began}}
            return server._ask("POST", "flow_runs/filter", {"flow_runs": wanted})

        began = datetime.now(UTC).isoformat()
        until(crashed, 120)
        assert "exited with status code: -9" in crashed()[0]["state"]["message"]
        wake("tfbind8", "again")
        until(lambda: campaign.state(1) == "PROPOSED", 120)
        assert scheduler.poll() is None
        (forks,) = [child for child in children(scheduler.pid) if b"forkserver" in command_of(child)]
        os.kill(forks, signal.SIGKILL)
        run(capsys, "approve", "tfbind8")
        until(lambda: campaign.state(1) == "EXPORTED", 120)
        assert scheduler.poll() is None


def children(parent: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.server
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_person_finds_the_campaigns_form_schedule_and_page_in_prefect(server, bench, capsys):
    (bench / "label.yaml").write_text((bench / "campaign.yaml").read_text().replace("name: tfbind8", "name: tfbind8_b"))
    run(capsys, "init", "label.yaml")
    run(capsys, "ingest", "start.csv", "-c", "tfbind8_b")
    for verb in ("step", "approve", "step"):
        run(capsys, verb, "tfbind8_b", *(["--until", "waiting"] if verb == "step" else []))
    campaign = Campaign.open("tfbind8_b")
    form = measure_plate(campaign, open_lab("tfbind8"), steps.plates_of(campaign), bench / "back", number=1)
    run(capsys, "ingest", form, "-c", "tfbind8_b")
    site, folder = server.url.removesuffix("/api"), bench / "pages"
    folder.mkdir()
    with process(SCHEDULE, dict(os.environ), bench / "schedule.log"), browser(folder / "profile") as page:
        until(lambda: server._ask("POST", "artifacts/latest/filter", {"artifacts": {"key": {"any_": ["tfbind8-b-report"]}}}), 120)
        page.open(f"{site}/login")
        page.value("localStorage.setItem('prefect-password', btoa('lab:secret'))")
        deployment = f"{site}/deployments/deployment/{server.deployments()['tfbind8_b']}"

        page.open(deployment)
        page.text("tfbind8_b-round-1", "Completed", "Every minute every day", "labloop.flows.tick.tick")
        page.picture(folder / "deployment.png")
        page.open(f"{deployment}?tab=Parameters")
        assert {"campaign\ttfbind8_b\t\tstring", "once\t\tfalse\tboolean"} <= set(page.text("campaign", "once").splitlines())

        page.open(f"{deployment}/run")
        form = page.text("The campaign's name, as labloop init gave it.", "Stop after one action", "Submit")
        assert form.index("\ncampaign\n") < form.index("\nonce (Optional)\n")
        assert page.value("document.querySelector('textarea').value") == "tfbind8_b"
        page.picture(folder / "form.png")

        page.open(f"{deployment}?tab=Description")
        page.text("Brings tfbind8_b as far as it can go now")
        page.picture(folder / "description.png")
        page.open(page.value("[...document.querySelectorAll('a')].find(one => one.innerText === 'Where tfbind8_b stands').href"))
        page.text("tfbind8-b-report", "tfbind8_b: waiting for a person", "Flow run")
        page.picture(folder / "versions.png")
        page.open(page.value("document.querySelector('a[href*=\"/artifacts/artifact/\"]').href"))
        page.text("Waiting for a person: round 2 waits for approval", "In round 1, ", "2\tPROPOSED\t96\t96")
        assert page.value("document.documentElement.scrollWidth <= window.innerWidth"), "the page is wider than its window"
        (image,) = page.value("[...document.querySelectorAll('img')].map(one => [one.src.slice(0, 22), one.naturalWidth])")
        assert image[0] == "data:image/png;base64,"
        assert image[1] > 300
        page.picture(folder / "page.png")


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="the processes are killed the way Linux does it")
@pytest.mark.parametrize("more", [[], ["--forget"]], ids=["kills", "kills and a lost database"])
def test_killed_at_random_a_campaign_ends_with_the_plates_of_an_undisturbed_one(tmp_path, more):
    pytest.importorskip("prefect", reason="pip install 'labloop-toolkit[flows]'")
    command = [sys.executable, ROOT / "examples" / "benchmarks" / "prefect_kills.py", "--rounds", "2", "--kills", "1", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, preexec_fn=_die_with_the_test)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "plates equal: True" in done.stdout
