"""The flows run labloop's verbs, and a flow that ran before finds nothing left to do."""

from __future__ import annotations

import asyncio
import io
import logging
from importlib.util import find_spec

import fakes
import pandas as pd
import pytest
import yaml

from labloop.campaign.facade import Campaign
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.errors import CampaignError, IngestError, MethodError
from labloop.runtime.files import turn
from labloop.runtime.prefect_api import NoAnswer
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab

pytestmark = pytest.mark.skipif(not find_spec("prefect"), reason="pip install 'labloop-toolkit[flows]'")  # a second to import


@pytest.fixture(scope="module")
def served(prefect_server):
    """Flows run here, and tell the tests' server; without heartbeat, which costs a second a flow."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in prefect_server.items():
            environment.setenv(name, value)
        from prefect import settings

        told = {
            settings.PREFECT_API_URL: prefect_server["PREFECT_API_URL"],
            settings.PREFECT_API_AUTH_STRING: prefect_server["PREFECT_API_AUTH_STRING"],
            settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            settings.PREFECT_LOGGING_TO_API_ENABLED: False,
        }
        with settings.temporary_settings(told):
            yield


ROUND = {
    "arms": {
        "offline": {"proposers": "fakes:Near", "selector": {"conservative": {"beta": 1.0}}, "pool": 150},
        "free": {"proposers": "random"},
    },
    "judge": "fakes:Flat",
}


files = fakes.exported


def test_the_task_that_takes_a_file_in_says_what_to_look_at_first(monkeypatch):
    from labloop.flows.round import ingest

    from labloop.rounds.intake import Receipt

    class Taken:
        def ingest(self, path, *, again):
            warnings = ("plate P1 seems to be another.", "so does P2")
            counts = dict.fromkeys(("n_rows", "n_measured", "n_failed", "n_new_designs"), 0)
            return Receipt(file=path.name, sha256="", dialect="", **counts, stored=True, note="close round 1", warnings=warnings)

    monkeypatch.setattr(Campaign, "open", lambda *_, **__: Taken())
    assert ingest.fn("c", "f.csv", None, None) == "plate P1 seems to be another. so does P2. close round 1"


@pytest.mark.server
def test_a_round_through_flows_gives_the_same_files_as_without(served, tmp_path, tfbind8_config):
    from labloop.flows import close_round, propose_round

    (tmp_path / "round.yaml").write_text(yaml.safe_dump(ROUND))
    draw_start(open_lab("tfbind8"), 100, seed=0).to_csv(tmp_path / "start.csv", index=False)
    for home in ("with", "without"):
        Campaign.create(tfbind8_config, home=tmp_path / home).ingest(tmp_path / "start.csv")
    setting = {"campaign": "tfbind8", "config": str(tmp_path / "round.yaml"), "home": str(tmp_path / "with")}
    fakes.CALLS.clear()
    propose_round(**setting, out=str(tmp_path / "out"))
    assert len(fakes.CALLS) == 1
    propose_round(**setting, out=str(tmp_path / "out"))
    assert len(fakes.CALLS) == 1
    run = Campaign.open("tfbind8", home=tmp_path / "without")
    run.propose(tmp_path / "round.yaml", out=tmp_path / "plain")
    assert files(tmp_path / "out") == files(tmp_path / "plain")

    sheet = pd.read_csv(tmp_path / "out" / "tfbind8-R01_assay.csv", dtype=str)
    plate = pd.read_csv(tmp_path / "out" / "tfbind8-R01_platemap.csv", dtype=str)
    sheet["value"] = open_lab("tfbind8").measure(plate[["dna"]], seed=0)["value"].astype(str).to_numpy()
    sheet.to_csv(tmp_path / "results.csv", index=False)
    verdict = close_round("tfbind8", files=[str(tmp_path / "results.csv")], home=str(tmp_path / "with"))
    assert "offline" in verdict
    assert Campaign.open("tfbind8", home=tmp_path / "with").state(1) == "CLOSED"


def test_a_flow_opens_no_round_beyond_the_plan_unless_it_is_told_to(tmp_path, tfbind8_config):
    from labloop.flows.round import open_round

    (tmp_path / "round.yaml").write_text(yaml.safe_dump(ROUND))
    draw_start(open_lab("tfbind8"), 100, seed=0).to_csv(tmp_path / "start.csv", index=False)
    run = Campaign.create(tfbind8_config.model_copy(update={"rounds": 1}), home=tmp_path / "home")
    run.ingest(tmp_path / "start.csv")
    run.propose(tmp_path / "round.yaml", out=tmp_path / "out")
    run.close(reason="spilt")
    setting = {"config": str(tmp_path / "round.yaml"), "home": str(tmp_path / "home"), "ledger": None}
    with pytest.raises(CampaignError, match="the planned round is done"):
        open_round.fn("tfbind8", now=False, **setting)
    assert open_round.fn("tfbind8", now=True, **setting) == 2


@pytest.mark.server
def test_a_simulated_campaign_runs_as_a_flow_and_again_changes_nothing(served, tmp_path):
    from labloop.flows import simulated_campaign

    (tmp_path / "round.yaml").write_text(yaml.safe_dump(ROUND))
    setting = {"folder": str(tmp_path / "sim"), "round_config": str(tmp_path / "round.yaml"), "start": 80, "rounds": 2}
    first = simulated_campaign(**setting)
    fakes.CALLS.clear()
    assert simulated_campaign(**setting) == first
    assert fakes.CALLS == []
    assert [entry["state"] for entry in Campaign.open("tfbind8", home=tmp_path / "sim").status()["rounds"]] == ["CLOSED"] * 2


@pytest.mark.server
def test_a_study_runs_as_a_flow_and_goes_on_where_the_command_stopped(served, tmp_path):
    from labloop.flows import run_study

    from labloop.studies.study import study

    config, out = preset("studies/quick.yaml"), tmp_path / "out"
    part = {"labs": ["tfbind8"], "arms": ["random", "mutate"]}
    study(config, out=out, seeds=1, **part)
    kept = {path: path.stat().st_mtime_ns for path in (out / "jobs").iterdir()}
    page = run_study(str(config), str(out), seeds=2, **part)
    assert page == str(out / "study.html")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    told = study(config, seeds=2, **part).rows
    found = pd.read_csv(out / "rows.csv")
    pd.testing.assert_series_equal(found["batch_mean"], told["batch_mean"])


@pytest.mark.server
def test_a_benchmark_flow_on_two_dask_workers_goes_on_where_the_command_stopped_and_gives_its_rows(served, tmp_path):
    pytest.importorskip("prefect_dask", reason="Dask is not installed: pip install 'labloop-toolkit[dask]'")
    import dask
    from labloop.flows import run_benchmark

    from labloop.studies.benchmark import benchmark, finished

    setting = {"q": 4, "baselines": False}
    here = benchmark(["tfbind8"], ["random", "mutate"], 1, **setting, in_process=True)
    kept = benchmark(["tfbind8"], ["random"], 1, **setting, out=tmp_path, in_process=True)
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):  # imports what Dask needs once
        report = run_benchmark(["tfbind8"], ["random", "mutate"], out=str(tmp_path), seeds=1, **setting, workers=2)
    rows = {row["method"]: row for row in finished(tmp_path).values()}
    assert set(rows) == {"random", "mutate"}
    assert rows["random"]["seconds"] == kept["seconds"].item()
    with open(report) as file:
        assert "| mutate |" in file.read()
    scores = ["method", "seed", "max", "median", "mean"]
    assert pd.DataFrame([rows["random"], rows["mutate"]])[scores].equals(here[scores])


@pytest.mark.server
def test_a_job_that_fails_in_a_benchmark_flow_leaves_the_others_their_table(served, tmp_path, monkeypatch):
    from labloop.flows import benchmark, run_benchmark

    def fragile(job, out, ensure=benchmark.ensure):
        if job.method == "mutate":
            raise MethodError("mutate broke")
        return ensure(job, out, in_process=True)

    monkeypatch.setattr(benchmark, "ensure", fragile)
    with pytest.raises(MethodError, match=r"^1 of 2 jobs failed, all others are kept in .*: mutate broke$"):
        run_benchmark(["tfbind8"], ["mutate", "random"], out=str(tmp_path), seeds=1, q=4, baselines=False)
    table = (tmp_path / "benchmark.md").read_text()
    assert "| random |" in table
    assert "| mutate |" not in table


@pytest.mark.server
def test_a_tick_brings_a_campaign_as_far_as_it_can_go_and_the_next_finds_nothing_to_do(served, tmp_path, monkeypatch):
    from labloop.flows import tick
    from prefect.client.orchestration import get_client

    from labloop.campaign import step as steps
    from labloop.config.read import parse_config
    from labloop.config.schedule import Schedule

    def run_names(of, **which):
        with get_client(sync_client=True) as client:
            return [
                run.name for run in getattr(client, of)(**which) if run.name.startswith(("ticking", "train", "open", "export"))
            ]

    monkeypatch.setenv("LABLOOP_HOME", str(tmp_path))
    monkeypatch.setattr("labloop.campaign.inbox.folder.SETTLE", 0)
    config = load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig).model_copy(
        update={"name": "ticking", "schedule": parse_config({"rounds": [ROUND]}, Schedule)}
    )
    run, lab = Campaign.create(config), open_lab("tfbind8")
    start = draw_start(lab, 100, seed=0).to_csv(index=False)
    (tmp_path / "ticking" / "inbox").mkdir(parents=True)
    (tmp_path / "ticking" / "inbox" / "start.csv").write_text(start)
    monkeypatch.setenv("LABLOOP_SERVE_URL", "https://lab.example.org/")
    state = tick("ticking", return_state=True)
    assert state.message == "ingest, open, train, train, propose, export: round 1 waits for 96 of 96 wells"
    assert run.state(1) == "EXPORTED"
    assert set(run_names("read_task_runs")) >= {"train-random", "train-fakes:Near", "open", "export"}
    before = len(run_names("read_task_runs"))
    assert tick("ticking", return_state=True).message == "round 1 waits for 96 of 96 wells"
    with turn(run.folder):
        assert "another process" in tick("ticking", return_state=True).message
    assert len(run_names("read_task_runs")) == before
    measure_plate(run, lab, steps.plates_of(run), steps.inbox_of(run), number=1)
    assert tick("ticking", once=True, return_state=True).message == "ingest"
    assert tick("ticking", once=True, return_state=True).message == "close"
    assert run_names("read_flow_runs") == ["ticking-round-1"] * 5
    with get_client(sync_client=True) as client:
        pages = [one for one in client.read_artifacts() if one.key == "ticking-report"]
        bars = [one for one in client.read_artifacts() if one.key == "ticking-report-round"]
    assert len(pages) == 3  # one each time that something was done
    page = max(pages, key=lambda one: one.created).data
    assert "| 1 | CLOSED | 96 | 0 |" in page
    assert "data:image/png;base64,iVBOR" in page
    assert "offline" in page
    assert "(https://lab.example.org/c/ticking)" in page
    assert {one.data for one in bars} == {0.0, 100.0}
    last = max(bars, key=lambda one: one.created).description
    assert last.endswith("96 of 96 wells are in · [its page](https://lab.example.org/c/ticking/round/1)")


@pytest.mark.server
def test_a_training_that_fails_is_tried_again_and_fails_the_run_in_sight(served, tmp_path, monkeypatch):
    from labloop.flows import tick
    from prefect.client.orchestration import get_client

    from labloop.config.read import parse_config
    from labloop.config.schedule import Schedule

    monkeypatch.setenv("LABLOOP_HOME", str(tmp_path))
    arms = {"bad": {"proposers": "fakes:Broken"}, "free": {"proposers": "random"}}
    config = load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig).model_copy(
        update={"schedule": parse_config({"rounds": [{"arms": arms, "judge": None}]}, Schedule)}
    )
    run = Campaign.create(config)
    draw_start(open_lab("tfbind8"), 100, seed=0).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    state = tick("tfbind8", return_state=True)
    assert state.is_failed()
    with get_client(sync_client=True) as client:
        page = max((one for one in client.read_artifacts() if one.key == "tfbind8-report"), key=lambda one: one.created)
    assert page.description == "tfbind8: waiting for a person"
    assert "fakes:Broken" in page.data
    events = run.ledger.events("tfbind8")
    assert len(events[events["kind"] == "training_failed"]) == 2
    assert tick("tfbind8", return_state=True).is_failed()
    last = tick("tfbind8", return_state=True)
    assert last.is_completed()
    assert "labloop step tfbind8 --retry" in last.message


@pytest.mark.server
def test_an_error_that_a_user_can_mend_is_logged_in_its_own_words_and_without_the_way_through_prefect(
    served, tmp_path, tfbind8_config
):
    from labloop.flows import close_round

    Campaign.create(tfbind8_config, home=tmp_path)
    (tmp_path / "bad.csv").write_text("dna,value\nACGTACGT,lots\n")
    log = io.StringIO()
    handler, loggers = logging.StreamHandler(log), [logging.getLogger(f"prefect.{of}_runs") for of in ("flow", "task")]
    for one in loggers:
        one.addHandler(handler)
    try:
        with pytest.raises(IngestError) as raised:
            close_round("tfbind8", files=[str(tmp_path / "bad.csv")], home=str(tmp_path))
        told = log.getvalue()
        assert told.count(str(raised.value)) >= 2  # the task's, then the flow's; several lines are several lines
        assert "Traceback" not in told
        loggers[0].error("a fault of ours", exc_info=ZeroDivisionError("by zero"))
        assert "ZeroDivisionError: by zero" in log.getvalue()
    finally:
        for one in loggers:
            one.removeHandler(handler)


def test_a_file_that_has_come_wakes_its_campaign_once(tmp_path, monkeypatch):
    from labloop.flows import arrivals

    asked, looks = [], []

    class Deaf:
        """A server that does not answer the first time."""

        def wake(self, campaign, *, key):
            asked.append((campaign, key))
            if len(asked) == 1:
                raise NoAnswer("nobody there")
            return True

    async def sleep(seconds):
        looks.append(seconds)
        if len(looks) > 4:
            raise asyncio.CancelledError

    monkeypatch.setattr("labloop.campaign.inbox.folder.SETTLE", 0)
    monkeypatch.setattr(arrivals.Server, "configured", Deaf)
    monkeypatch.setattr(arrivals.asyncio, "sleep", sleep)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "plate.csv").write_text("dna,value\n")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(arrivals.keep_watching({name: tmp_path / name for name in ("a", "b")}))
    assert [campaign for campaign, _ in asked] == ["a", "a"]
    assert asked[0] == asked[1]


@pytest.mark.server
def test_decisions_about_wells_are_flows_too(served, tmp_path, tfbind8_config):
    from labloop.flows import backtest_arms, pick_designs, plan_plate, veto_well

    home = str(tmp_path / "home")
    run = Campaign.create(tfbind8_config, home=home)
    draw_start(open_lab("tfbind8"), 120, seed=1).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    (tmp_path / "mine.csv").write_text("dna\nACGTACGT\n")
    assert "are arm chemist" in pick_designs("tfbind8", str(tmp_path / "mine.csv"), "chemist", by="Anna", home=home)
    (tmp_path / "round.yaml").write_text("arms: {a: {proposers: random}, b: {proposers: mutate}}\njudge: null\n")
    assert plan_plate("tfbind8", str(tmp_path / "round.yaml"), home=home)["wells"] == {"a": 48, "b": 48}
    batch = run.propose(tmp_path / "round.yaml")
    assert (batch.picks["proposer"] == "Anna").sum() == 1
    spot = batch.wells.iloc[0]
    assert "is out of" in veto_well("tfbind8", f"{spot['plate']}:{spot['well']}", "no", home=home)
    told = backtest_arms("tfbind8", str(tmp_path / "round.yaml"), splits=2, home=home)
    assert {one["arm"] for one in told["arms"]} == {"a", "b"}


@pytest.mark.server
def test_the_judge_is_asked_by_flows_too(served, tmp_path, tfbind8_config):
    from labloop.flows import explain_judge, predict_designs

    home = str(tmp_path / "home")
    run = Campaign.create(tfbind8_config, home=home)
    draw_start(open_lab("tfbind8"), 40, seed=1).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    (tmp_path / "round.yaml").write_text("arms: {a: {proposers: random}}\njudge: fakes:Ridge\n")
    run.ensure_round(tmp_path / "round.yaml")
    (tmp_path / "ask.csv").write_text("dna\nACGTACGT\n")
    table = pd.read_csv(predict_designs("tfbind8", str(tmp_path / "ask.csv"), str(tmp_path / "said.csv"), home=home))
    assert table["predicted"].notna().all()
    assert explain_judge("tfbind8", home=home).startswith("The judge")
