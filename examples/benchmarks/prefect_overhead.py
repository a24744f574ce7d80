"""What Prefect costs a round: seconds until training starts without it, with its ephemeral server, with a running one; a tick.

    python examples/benchmarks/prefect_overhead.py --repeats 3

Every number is wall-clock time of a whole process, imports included, unless said otherwise. Needs `labloop-toolkit[flows]`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np

from labloop.campaign.facade import Campaign
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import allow, plugin
from labloop.runtime.prefect_api import Server
from labloop.seeds import generator
from labloop.studies.simulate import draw_start, open_lab


@plugin
class Clock:
    """A proposer that notes when its training began, and offers random designs."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer n random designs."""
        Path(os.environ["LABLOOP_CLOCK"]).write_text(str(time.time()))
        X = data.space.sample(3 * n, generator(seed, "clock"))
        return Pool.best(data, X, np.arange(len(X), dtype=float), n, proposer="clock")


allow("prefect_overhead")  # the rounds below name its proposer by import path; processes that are started from here may too
ROUND = {"arms": {"only": {"proposers": "prefect_overhead:Clock"}}, "judge": None}


def fresh(home: Path, start: Path, *, schedule: bool = False) -> Campaign:
    """Make a campaign with 500 measured designs."""
    config = load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig)
    if schedule:
        rounds = {**config.model_dump(mode="json"), "schedule": {"rounds": [ROUND]}}
        config = parse_config(rounds, CampaignConfig)
    run = Campaign.create(config, home=home)
    run.ingest(start)
    return run


def until_training(command: list[str], environment: dict[str, str], clock: Path) -> tuple[float, float]:
    """Seconds from the start of a process to the start of its training, and to its end."""
    clock.unlink(missing_ok=True)
    began = time.time()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return float(clock.read_text()) - began, time.time() - began


def written(folder: Path) -> tuple[int, float]:
    """Files below a folder, and their megabytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files) / 1e6


def row(what: str, pairs: list[tuple[float, float]], extra: str = "") -> None:
    """Print a line of the table: medians."""
    first, last = (statistics.median(column) for column in zip(*pairs))
    print(f"| {what} | {first:.1f} | {last:.1f} | {extra} |", flush=True)


def served_ticks(server: Server, environment: dict[str, str], repeats: int) -> None:
    """Print what a tick with nothing to do takes under `labloop schedule`, from its being taken up to the end of its process."""
    command = [sys.executable, "-c", "from labloop.cli import run; run()", "schedule", "--no-auth", "--cron", "0 0 1 1 *"]
    scheduler = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        whole, worked = [], []
        while not runs_of(scheduler.pid):  # it looks once by itself when it starts
            time.sleep(0.01)
        for i in range(repeats + 1):
            while not (pids := runs_of(scheduler.pid)):
                time.sleep(0.01)
            while any(Path(f"/proc/{pid}").exists() for pid in pids):
                time.sleep(0.01)
            ended = time.time()
            newest = {"sort": "START_TIME_DESC", "limit": 1, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
            (run,) = server._ask("POST", "flow_runs/filter", newest)
            states = server._ask("GET", f"flow_run_states/?flow_run_id={run['id']}")
            at = {one["type"]: datetime.fromisoformat(one["timestamp"]).timestamp() for one in reversed(states)}
            whole.append(ended - at["PENDING"])
            worked.append(at["COMPLETED"] - at["PENDING"])
            server.wake("tfbind8", key=str(i))
        whole, worked = whole[1:], worked[1:]  # the first waits for the imports that all later ones are spared
        print(f"Under labloop schedule: {statistics.median(worked):.2f} s from taken up to completed,")
        print(
            f"{statistics.median(whole):.2f} s to the end of its process ({max(worked):.2f} and {max(whole):.2f} at the longest)."
        )
    finally:
        scheduler.kill()
        scheduler.wait()


def runs_of(scheduler: int) -> list[int]:
    """Process ids of the runs that `labloop schedule` has under way: its children's children (Linux)."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    return [pid for pid, parent in parents.items() if parents.get(parent) == scheduler]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), repeats)


def measure(folder: Path, repeats: int) -> None:
    """Measure in a folder; every process started here ends here."""
    start, clock, round_file = folder / "start.csv", folder / "clock", folder / "round.yaml"
    draw_start(open_lab("tfbind8"), 500, seed=0).to_csv(start, index=False)
    round_file.write_text(json.dumps(ROUND))  # JSON is YAML
    parse_config(ROUND, RoundConfig)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment |= {
        "LABLOOP_CLOCK": str(clock), "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }  # fmt: skip
    print(
        "| from the command to | training starts, s | command ends, s | files written by Prefect |\n|---|---|---|---|", flush=True
    )

    def propose(i: int, kind: str) -> list[str]:
        home = folder / f"{kind}{i}"
        fresh(home, start)
        if kind == "plain":
            arguments = ["propose", "tfbind8", str(round_file), "-o", f"{home}/out", "--home", str(home)]
            code = f"from labloop.cli import main; main({arguments})"
        else:
            code = (
                "from labloop.flows import propose_round; "
                f"propose_round('tfbind8', '{round_file}', out='{home}/out', home='{home}')"
            )
        return [sys.executable, "-c", code]

    row("`labloop propose`, no Prefect", [until_training(propose(i, "plain"), environment, clock) for i in range(repeats)], "0")

    prefect = folder / "ephemeral"
    ephemeral = {**environment, "PREFECT_HOME": str(prefect), "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"}
    first = until_training(propose(0, "first"), ephemeral, clock)
    row("flow, ephemeral server, first time", [first], "{} files, {:.1f} MB".format(*written(prefect)))
    later = [until_training(propose(i, "later"), ephemeral, clock) for i in range(repeats)]
    row("flow, ephemeral server, later", later, "{} files, {:.1f} MB".format(*written(prefect)))

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, prefect = f"http://127.0.0.1:{port}/api", folder / "served"
    served = {**environment, "PREFECT_HOME": str(prefect), "PREFECT_SERVER_API_PORT": str(port), "PREFECT_API_URL": url}
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start"], env=served, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        runs = [until_training(propose(i, "running"), served, clock) for i in range(repeats)]
        row("flow, running server", runs, "{} files, {:.1f} MB".format(*written(prefect)))
        home = folder / "ticks"
        fresh(home, start, schedule=True)
        code = "from labloop.flows import tick; tick('tfbind8'); [tick('tfbind8') for _ in range(5)]"
        tick_environment = {**served, "LABLOOP_HOME": str(home)}
        subprocess.run([sys.executable, "-c", code], env=tick_environment, check=True, stderr=subprocess.DEVNULL)
        found = Server(url)._ask("POST", "flow_runs/filter", {"flows": {"name": {"any_": ["tick"]}}, "sort": "START_TIME_ASC"})
        spent = [one["total_run_time"] for one in found]
        print(f"\nA tick's own time on a running server: {spent[0]:.1f} s for a whole round to the plate (2 s of it the page), ")
        print(f"{statistics.median(spent[1:]):.1f} s where there is nothing to do.")
        began = time.time()
        code = "from labloop.flows import tick; tick('tfbind8')"
        subprocess.run([sys.executable, "-c", code], env=tick_environment, check=True, stderr=subprocess.DEVNULL)
        print(f"In a new Python, imports and all: {time.time() - began:.1f} s.")
        served_ticks(Server(url), tick_environment, 2 * repeats + 2)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


if __name__ == "__main__":
    main()
