"""`labloop schedule` with a real Prefect server: rounds run by themselves, and a person finds them on its page."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from browser import CHROMIUM, browser
from conftest import set_up_bench
from scheduling import ROUND, die_with_the_test, process, run, until

from labloop.campaign import step as steps
from labloop.campaign.facade import Campaign
from labloop.campaign.overview import overview
from labloop.cli import main
from labloop.runtime.prefect_api import NoAnswer, Server, wake
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import open_lab

ROOT = Path(__file__).parent.parent


@pytest.fixture
def server(prefect_server, bench, monkeypatch):
    """The real server, named in the environment of this test."""
    for name, value in prefect_server.items():
        monkeypatch.setenv(name, value)
    return Server.configured()


SCHEDULE = [sys.executable, "-c", "from labloop.cli import run; run()", "schedule", "--cron"]


def approve(capsys) -> str:
    """Approve the plate as soon as the tick that proposed it has let go of the campaign."""
    capsys.readouterr()
    until(lambda: main(["approve", "tfbind8"]) == 0)
    printed = capsys.readouterr()
    return printed.out + printed.err


@pytest.mark.server
def test_a_file_starts_its_tick_and_a_training_that_is_killed_ends_its_own_run_and_nothing_else(server, bench, capsys):
    """One scheduler, which takes seconds to start, serves a campaign for each; its clock wakes neither before New Year."""
    (bench / "other.yaml").write_text((bench / "campaign.yaml").read_text().replace("name: tfbind8", "name: other"))
    (bench / "calm.yaml").write_text((bench / "round.yaml").read_text())
    (bench / "other.yaml").write_text((bench / "other.yaml").read_text().replace("rounds: round.yaml", "rounds: calm.yaml"))
    run(capsys, "init", "other.yaml")
    arms = {**ROUND["arms"], "bold": {"proposers": {"fakes:Dies": {"mark": str(bench / "died")}}}}
    (bench / "round.yaml").write_text(yaml.safe_dump({**ROUND, "arms": arms}))
    run(capsys, "ingest", "start.csv", "-c", "tfbind8")
    campaign, other = Campaign.open("tfbind8"), Campaign.open("other")
    began = datetime.now(UTC).isoformat()

    def runs(**state):
        wanted = {"state": state, "start_time": {"after_": began}}
        return server._ask("POST", "flow_runs/filter", {"flow_runs": wanted})

    with process([*SCHEDULE, "0 0 1 1 *"], dict(os.environ), bench / "schedule.log") as scheduler:
        until(lambda: runs(name={"any_": ["Crashed"]}))
        assert "exited with status code: -9" in runs(name={"any_": ["Crashed"]})[0]["state"]["message"]
        # Its look at the other one at the beginning; a run of the first may be over before it.
        until(lambda: [one for one in runs(type={"any_": ["COMPLETED"]}) if one["parameters"]["campaign"] == "other"])
        assert other.state(1) is None
        shutil.copy(bench / "start.csv", steps.inbox_of(other) / "start.csv")
        until(lambda: other.state(1) == "PROPOSED")
        assert "other: files have come into its inbox" in (bench / "schedule.log").read_text()

        wake("tfbind8", "again")
        until(lambda: campaign.state(1) == "PROPOSED")
        assert scheduler.poll() is None
        (forks,) = [child for child in children(scheduler.pid) if b"forkserver" in command_of(child)]
        os.kill(forks, signal.SIGKILL)
        approve(capsys)
        until(lambda: campaign.state(1) == "EXPORTED")
        assert scheduler.poll() is None


def children(parent: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.fixture(scope="module")
def clocked(prefect_server, tmp_path_factory):
    """A scheduler, which takes seconds to start, whose clock goes every minute, with two campaigns: the folder.

    One has its start data in its inbox, the other's first round is measured.
    """
    with pytest.MonkeyPatch.context() as patch:
        bench = set_up_bench(tmp_path_factory.mktemp("clocked"), patch)
        (bench / "label.yaml").write_text((bench / "campaign.yaml").read_text().replace("name: tfbind8", "name: tfbind8_b"))
        commands = ["init label.yaml", "ingest start.csv -c tfbind8_b"]
        commands += [f"{verb} tfbind8_b" for verb in ("step --until waiting", "approve", "step --until waiting")]
        for command in commands:
            assert main(command.split()) == 0
        campaign = Campaign.open("tfbind8_b")
        form = measure_plate(campaign, open_lab("tfbind8"), steps.plates_of(campaign), bench / "back", number=1)
        assert main(["ingest", str(form), "-c", "tfbind8_b"]) == 0
        (bench / "start.csv").rename(steps.inbox_of(Campaign.open("tfbind8")) / "start.csv")
        for name, value in prefect_server.items():
            patch.setenv(name, value)
        log = bench / "schedule.log"
        with process([*SCHEDULE, "* * * * *"], dict(os.environ), log):
            yield bench
        assert "Error" not in log.read_text()


@pytest.mark.server
def test_a_scheduled_run_appears_and_takes_a_file_from_the_inbox_to_the_next_plate(clocked, capsys):
    campaign, server = Campaign.open("tfbind8"), Server.configured()
    with pytest.raises(NoAnswer, match="password"):
        Server(server.url).deployments()
    until(lambda: campaign.state(1) == "PROPOSED")
    until(lambda: overview()["campaigns"][0]["waits_for"] == "a person")
    assert "a person" in run(capsys, "schedule", "--status")
    assert "another labloop schedule" in run(capsys, "schedule", code=1)
    assert "goes on now" in approve(capsys)
    until(lambda: campaign.state(1) == "EXPORTED")
    form = measure_plate(campaign, open_lab("tfbind8"), steps.plates_of(campaign), clocked / "back", number=1)
    assert "goes on now" in run(capsys, "ingest", form, "-c", "tfbind8")
    until(lambda: campaign.state(2) == "PROPOSED")
    assert {one.campaign for one in server.planned()} >= {"tfbind8", "tfbind8_b"}
    watching = server._ask("POST", "automations/filter", {})
    assert [one["name"] for one in watching] == ["labloop: a dead tick is crashed"]


@pytest.mark.server
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_person_finds_the_campaigns_form_schedule_and_page_in_prefect(clocked):
    server, folder = Server.configured(), clocked / "pages"
    site = server.url.removesuffix("/api")
    folder.mkdir()
    with browser(folder / "profile") as page:
        until(lambda: server._ask("POST", "artifacts/latest/filter", {"artifacts": {"key": {"any_": ["tfbind8-b-report"]}}}))
        page.open(f"{site}/login")
        page.value("localStorage.setItem('prefect-password', btoa('lab:secret'))")
        deployment = f"{site}/deployments/deployment/{server.deployments()['tfbind8_b']}"

        page.open(deployment)
        page.text("tfbind8_b-round-", "Completed", "Every minute every day", "labloop.flows.tick.tick")
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


@pytest.mark.server
def test_the_clock_itself_makes_a_run_that_runs_to_its_end(clocked):
    """What a pinned-version fault breaks silently."""
    server, done = Server.configured(), {"state": {"type": {"any_": ["COMPLETED"]}}}
    until(lambda: [one for one in server._ask("POST", "flow_runs/filter", {"flow_runs": done}) if one["auto_scheduled"]])


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="the processes are killed the way Linux does it")
@pytest.mark.parametrize("more", [[], ["--forget"]], ids=["kills", "kills and a lost database"])
def test_killed_at_random_a_campaign_ends_with_the_plates_of_an_undisturbed_one(tmp_path, more):
    pytest.importorskip("prefect", reason="pip install 'labloop-toolkit[flows]'")
    command = [sys.executable, ROOT / "examples" / "benchmarks" / "prefect_kills.py", "--rounds", "2", "--kills", "1", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, preexec_fn=die_with_the_test)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "plates equal: True" in done.stdout
