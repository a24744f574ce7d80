"""Jobs side by side: the same results as one after the other, and a dead worker costs a repeat."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from fakes import exported

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'labloop-toolkit[dask]'")

import dask
from distributed import SpecCluster

from labloop.campaign.facade import Campaign
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, MethodError
from labloop.runtime.workers import local_cluster, spread
from labloop.studies.benchmark import COLUMNS, benchmark
from labloop.studies.simulate import draw_start, open_lab, simulate

pytestmark = pytest.mark.processes

SCORES = ["task", "method", "seed", "max", "median", "mean", "n_unique", "share_in_data"]


@pytest.fixture(scope="module", autouse=True)
def importable():
    """Workers are new processes: they find what the tests find. They are forked from one that has imported what Dask needs."""
    with pytest.MonkeyPatch.context() as patch, dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        yield


@pytest.fixture(scope="module")
def two(importable):
    """The address of a scheduler with two workers, for those tests that do not ask how workers begin: that takes seconds."""
    with SpecCluster(**local_cluster(2), silence_logs=40) as cluster:
        yield cluster.scheduler_address


def square(number: int) -> int:
    return number * number


def die_once(place: str) -> str:
    mark = Path(place)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return "done"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def devices(_: int) -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def refuse(number: int) -> int:
    raise ConfigError(f"job {number} makes no sense")


@pytest.mark.parametrize("where", ["here", "on two workers"])
def test_every_job_comes_back_once_with_its_number(where, request):
    workers = 1 if where == "here" else request.getfixturevalue("two")
    assert sorted(spread(square, [3, 1, 2, 2], "squares", workers=workers)) == [(0, 9), (1, 1), (2, 4), (3, 4)]


def test_a_killed_worker_costs_a_repeat_and_nothing_else(two, tmp_path):
    jobs = [str(tmp_path / name) for name in "ab"]
    assert sorted(spread(die_once, jobs, "deaths", workers=two)) == [(0, "done"), (1, "done")]


def test_devices_are_dealt_out_to_workers_who_come_and_go_without_a_word(monkeypatch, capfd, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setattr("labloop.runtime.devices._cuda_devices", lambda asked: 2)
    options = [one["options"]["env"] for one in local_cluster(3)["workers"].values()]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in options] == ["4", "5", "4"]
    assert {found for _, found in spread(devices, range(6), "devices", workers=2)} <= {"4", "5"}
    assert "tcp://" not in capfd.readouterr().err + caplog.text  # as Dask tells where who listens


def test_what_a_job_refuses_is_told_as_it_would_be_here(two):
    with pytest.raises(ConfigError, match="job 0 makes no sense"):
        list(spread(refuse, [0], "refusals", workers=two))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("labloop.runtime.workers.PATIENCE", "1s")
    with pytest.raises(ConfigError, match=r"tcp://127\.0\.0\.1:1.*no Dask scheduler answers"):
        list(spread(square, [1], "squares", workers="tcp://127.0.0.1:1"))
    with pytest.raises(ConfigError, match="1 or more"):
        list(spread(square, [1], "squares", workers=0))


def test_a_benchmark_on_two_workers_gives_the_table_of_one(two, tmp_path):
    methods = ["random", "mutate"]
    setting = {"seeds": 2, "q": 16, "fraction": 0.02, "baselines": False, "in_process": True}
    here = benchmark(["tfbind8"], methods, **setting, out=tmp_path / "here")
    there = benchmark(["tfbind8"], methods, **setting, out=tmp_path / "there", workers=two)
    assert list(there.columns) == list(COLUMNS)
    assert here[SCORES].equals(there[SCORES])
    assert len(here) == 4
    again = benchmark(["tfbind8"], methods, **setting, out=tmp_path / "there")
    assert again.equals(there)


def test_simulated_campaigns_on_two_workers_are_those_of_one(two):
    setting = {"start": 50, "rounds": 2, "batch": 8, "seeds": 2, "arms": ["random", "mutate"]}
    here = simulate("config/campaigns/tfbind8.yaml", "tfbind8", **setting)
    there = simulate("config/campaigns/tfbind8.yaml", "tfbind8", **setting, workers=two)
    columns = [column for column in here.columns if column != "seconds"]
    assert here[columns].equals(there[columns])


ROUND = {
    "arms": {
        "offline": {"proposers": ["fakes:Near", {"coms": {"min_steps": 20, "epochs": 1}}], "pool": 60},
        "free": {"proposers": ["random", "mutate"]},
    },
    "judge": "fakes:Flat",
}


def test_a_round_trained_on_two_workers_has_the_files_of_one_trained_here(two, tmp_path, tfbind8_config):
    def propose(name: str, **how) -> Campaign:
        run = Campaign.create(tfbind8_config, home=tmp_path / name)
        draw_start(open_lab("tfbind8"), 60, seed=0).to_csv(tmp_path / "start.csv", index=False)
        run.ingest(tmp_path / "start.csv")
        run.propose(parse_config(ROUND, RoundConfig), out=tmp_path / name / "out", **how)
        return run

    here, there = propose("here"), propose("there", workers=two)
    assert exported(tmp_path / "here" / "out") == exported(tmp_path / "there" / "out")
    assert set(here.ledger.runs(here.name)["key"]) == set(there.ledger.runs(there.name)["key"])


def test_a_training_that_fails_on_a_worker_loses_none_that_was_finished(two, tmp_path, tfbind8_config):
    run = Campaign.create(tfbind8_config, home=tmp_path)
    draw_start(open_lab("tfbind8"), 60, seed=0).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    number = run.ensure_round(
        parse_config({"arms": {"a": {"proposers": ["random", "fakes:Broken"]}}, "judge": None}, RoundConfig)
    )
    with pytest.raises(MethodError, match="contract"):
        run.train_all(number, workers=1)
    kept = set(run.ledger.runs(run.name)["key"])
    with pytest.raises(MethodError, match="contract"):
        run.train_all(number, workers=two)
    assert set(run.ledger.runs(run.name)["key"]) == kept
    assert len(kept) == 1
