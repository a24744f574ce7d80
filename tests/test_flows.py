"""The flows run labloop's verbs, and a flow that ran before finds nothing left to do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import fakes
import pandas as pd
import pytest
import yaml

from labloop.campaign import Campaign
from labloop.simulate import draw_start, open_lab

pytest.importorskip("prefect", reason="pip install 'labloop-toolkit[flows]'")


@pytest.fixture(scope="module")
def prefect_server():
    """One temporary Prefect server for this file, its database thrown away; no heartbeat, which costs a second a flow."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_HOME": tempfile.mkdtemp(),
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        }.items():
            environment.setenv(name, value)
        environment.delenv("PREFECT_API_URL", raising=False)
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
        from prefect.testing.utilities import prefect_test_harness

        quiet = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
        with prefect_test_harness(server_startup_timeout=180), temporary_settings(quiet):
            yield


ROUND = {
    "arms": {
        "offline": {"proposers": "fakes:Near", "selector": {"conservative": {"beta": 1.0}}, "pool": 150},
        "free": {"proposers": "random"},
    },
    "judge": "fakes:Flat",
}


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.server
def test_a_round_through_flows_gives_the_same_files_as_without(prefect_server, tmp_path, tfbind8_config):
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


@pytest.mark.server
def test_a_simulated_campaign_runs_as_a_flow_and_again_changes_nothing(prefect_server, tmp_path):
    from labloop.flows import simulated_campaign

    (tmp_path / "round.yaml").write_text(yaml.safe_dump(ROUND))
    setting = {"folder": str(tmp_path / "sim"), "round_config": str(tmp_path / "round.yaml"), "start": 80, "rounds": 2}
    first = simulated_campaign(**setting)
    fakes.CALLS.clear()
    assert simulated_campaign(**setting) == first
    assert fakes.CALLS == []
    assert [entry["state"] for entry in Campaign.open("tfbind8", home=tmp_path / "sim").status()["rounds"]] == ["CLOSED"] * 2


@pytest.mark.server
def test_a_benchmark_runs_as_a_flow_and_goes_on_where_the_command_stopped(prefect_server, tmp_path):
    from labloop.flows import run_benchmark

    from labloop.benchmark import benchmark, finished

    kept = benchmark(["tfbind8"], ["random"], 1, q=4, baselines=False, out=tmp_path, in_process=True)
    report = run_benchmark(["tfbind8"], ["random", "mutate"], out=str(tmp_path), seeds=1, q=4, baselines=False)
    rows = {row["method"]: row for row in finished(tmp_path).values()}
    assert set(rows) == {"random", "mutate"}
    assert rows["random"]["seconds"] == kept["seconds"].item()
    with open(report) as file:
        assert "| mutate |" in file.read()


@pytest.mark.server
def test_a_benchmark_flow_on_two_dask_workers_gives_the_rows_of_the_command(prefect_server, tmp_path):
    pytest.importorskip("prefect_dask", reason="Dask is not installed: pip install 'labloop-toolkit[dask]'")
    from labloop.flows import run_benchmark

    from labloop.benchmark import benchmark, finished

    scores = ["method", "seed", "max", "median", "mean"]
    here = benchmark(["tfbind8"], ["random", "mutate"], 2, q=4, baselines=False, in_process=True)
    run_benchmark(["tfbind8"], ["random", "mutate"], out=str(tmp_path), seeds=2, q=4, baselines=False, workers=2)
    there = pd.DataFrame(finished(tmp_path).values()).sort_values(["method", "seed"], ignore_index=True)
    assert there[scores].equals(here.sort_values(["method", "seed"], ignore_index=True)[scores])


def test_labloop_itself_never_imports_prefect():
    code = (
        "import labloop.campaign, labloop.demo, labloop.simulate, labloop.report, labloop.cli.app, sys; "
        "assert 'prefect' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "DO_NOT_TRACK": "1"})
