"""Kill everything, again and again: does a campaign that runs by itself end with the plates of an undisturbed one?

    python examples/benchmarks/prefect_kills.py --rounds 5 --kills 5
    python examples/benchmarks/prefect_kills.py --rounds 5 --kills 5 --forget   # Prefect's database deleted in mid-campaign
    python examples/benchmarks/prefect_kills.py --rounds 5 --kills 0 --down     # files arrive while nothing runs at all

A real Prefect server, `labloop schedule`, an inbox, and a lab that drops its CSVs in parts and late. Server, scheduler and the
flow's process are each killed with SIGKILL at random moments, at least `--kills` times, and started again. A training notes when
it ended, which is before the ledger has it: one that is killed in between is computed again, and counted here. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from labloop.campaign import step as steps
from labloop.campaign.facade import Campaign
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import allow, plugin
from labloop.runtime.prefect_api import wake
from labloop.seeds import generator
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab


@plugin
class Slow:
    """A proposer that takes its time, so that it can be killed, and notes each training that it finished."""

    seconds: float = 2.0

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer n mutants of the best measured designs."""
        time.sleep(self.seconds)
        rng = generator(seed, "slow")
        X = np.concatenate([data.space.mutate(data.X[data.top(20)], rng, steps=2) for _ in range(max(20, n // 2))])
        pool = Pool.best(data, X, rng.random(len(X)), n, proposer="slow")
        if place := os.environ.get("LABLOOP_FINISHED"):
            with open(place, "a") as file:
                file.write(f"{seed} {time.time()}\n")
        return pool


allow("prefect_kills")  # the rounds below name its proposer by import path; processes that are started from here may too
ROUND = {
    "arms": {
        "offline": {"proposers": "prefect_kills:Slow", "selector": {"conservative": {"beta": 1.0}}, "pool": 150},
        "bold": {"proposers": {"prefect_kills:Slow": {"seconds": 1.0}}},
        "free": {"proposers": "random"},
    },
    "judge": "ensemble",
}


def begin(home: Path, rounds: int) -> Campaign:
    """Make the campaign, its start data in the inbox."""
    config = load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig).model_dump(mode="json")
    config |= {"rounds": rounds, "schedule": {"rounds": [ROUND]}}
    run = Campaign.create(parse_config(config, CampaignConfig), home=home)
    inbox = steps.inbox_of(run)
    inbox.mkdir(parents=True)
    draw_start(open_lab("tfbind8"), 200, seed=0).to_csv(inbox / "start.csv", index=False)
    return run


def undisturbed(home: Path, rounds: int) -> Campaign:
    """The same campaign by steps in this process, nothing killed."""
    run = begin(home, rounds)
    lab = open_lab("tfbind8")
    while (one := steps.step(run, now=datetime.now(UTC) + timedelta(minutes=1))).action.kind != "done":
        if one.action.waits_for == "the lab":
            measure_plate(run, lab, steps.plates_of(run), steps.inbox_of(run), number=one.action.round)
    return run


@dataclass
class Lab:
    """A lab that measures each plate once, and sends its results in two parts, late."""

    run: Campaign
    rng: random.Random
    folder: Path
    parts: list[tuple[float, str, str]] = field(default_factory=list)
    measured: set[int] = field(default_factory=set)

    def measure(self) -> None:
        """Measure a new plate; its results are to come in two parts."""
        rounds = self.run.ledger.rounds(self.run.name)
        if rounds and rounds[-1].state == "EXPORTED" and rounds[-1].number not in self.measured:
            number = rounds[-1].number
            form = measure_plate(self.run, open_lab("tfbind8"), steps.plates_of(self.run), self.folder, number=number)
            head, *lines = form.read_text().splitlines(keepends=True)
            cut = self.rng.randrange(10, len(lines) - 10)
            now = time.monotonic()
            first, second = now + self.rng.uniform(0, 4), now + self.rng.uniform(5, 15)
            self.parts += [(first, f"R{number}-a.csv", "".join([head, *lines[:cut]]))]
            self.parts += [(second, f"R{number}-b.csv", "".join([head, *lines[cut:]]))]
            self.measured.add(number)

    def due(self) -> bool:
        """Whether results wait to be sent."""
        return any(part[0] <= time.monotonic() for part in self.parts)

    def send(self) -> None:
        """Drop what is due the way a slow copy does, piece by piece."""
        for part in [part for part in self.parts if part[0] <= time.monotonic()]:
            self.parts.remove(part)
            place = steps.inbox_of(self.run) / part[1]
            half = len(part[2]) // 2
            with place.open("w") as file:
                file.write(part[2][:half])
                file.flush()
                time.sleep(1)
                file.write(part[2][half:])


class Machines:
    """The server and the scheduler, which die and come back."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.alive: dict[str, subprocess.Popen[bytes]] = {}
        self.commands = {
            "server": [sys.executable, "-m", "prefect", "server", "start"],
            "scheduler": [
                sys.executable,
                "-c",
                "from labloop.cli import run; run()",
                "schedule",
                "--no-auth",
                "--cron",
                "* * * * *",
            ],
        }
        self.groups: list[int] = []
        self.killed_at: dict[str, int] = {}

    def see_that_all_run(self) -> None:
        """Start what is not running, as systemd does."""
        for name, command in self.commands.items():
            if name not in self.alive or self.alive[name].poll() is not None:
                with (self.folder / f"{name}.log").open("ab") as log:
                    self.alive[name] = subprocess.Popen(
                        command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                        preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL),  # dies with this process
                    )  # fmt: skip
                self.groups.append(self.alive[name].pid)

    def is_up(self, name: str) -> bool:
        """Whether it has come far enough since its last start to be worth killing."""
        if name == "flow":
            return bool(self.flows())
        if name == "scheduler":
            return self.log("scheduler").count("serving the campaigns") > self.killed_at.get(name, 0)
        try:
            return bool(urllib.request.urlopen(f"{self.environment['PREFECT_API_URL']}/health", timeout=2))
        except OSError:
            return False

    def log(self, name: str) -> str:
        """What it has printed so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> bool:
        """Kill the server, the scheduler, or the flow that the scheduler has started; False where there is none."""
        if name != "flow":
            self.killed_at[name] = self.log("scheduler").count("serving the campaigns")
            self.alive[name].kill()
            self.alive[name].wait()
            return True
        flows = self.flows()
        for pid in flows:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(flows)

    def flows(self) -> list[int]:
        """Process ids of the runs under way: the scheduler keeps a process from which it forks them."""
        return [pid for child in children(self.alive["scheduler"].pid) for pid in children(child)]

    def end(self) -> None:
        """Kill all that was ever started here, runs that outlived their scheduler too."""
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for child in self.alive.values():
            child.wait()
        self.killed_at["scheduler"] = self.log("scheduler").count("serving the campaigns")


def children(parent: int) -> list[int]:
    """Process ids of a process's children (Linux)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def torture(folder: Path, *, rounds: int, kills: int, seed: int, forget: bool, down: bool, limit: float) -> dict[str, Any]:
    """Run the campaign under fire; returns what came of it."""
    rng = random.Random(seed)
    calm, run = undisturbed(folder / "calm", rounds), begin(folder / "home", rounds)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment |= {
        "PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_API_PORT": str(port), "LABLOOP_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "LABLOOP_FINISHED": str(folder / "finished"), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])),
    }  # fmt: skip
    os.environ["PREFECT_API_URL"] = environment["PREFECT_API_URL"]
    machines, lab = Machines(folder, environment), Lab(run, rng, folder / "back")
    killed: Counter[str] = Counter()
    began, forgotten = time.monotonic(), not forget
    shot = began
    try:
        while steps.next_action(run).kind != "done":
            if time.monotonic() - began > limit:
                raise SystemExit(f"not done after {limit:.0f} s: {run.status()['rounds']}, killed {dict(killed)}")
            machines.see_that_all_run()
            lab.measure()
            if lab.due():
                if down:
                    machines.end()
                    killed["all at once"] += 1
                lab.send()
                if down:
                    time.sleep(rng.uniform(0, 15))  # a file counts as whole after ten seconds
                elif rng.random() < 0.7:
                    wake(run.name, str(time.time()))
                machines.see_that_all_run()
            # Spread over the campaign: nobody learns much from a server that is killed before it has done anything.
            so_far = max(1, len(run.ledger.rounds(run.name)))
            due = [name for name in ("server", "scheduler", "flow") if killed[name] < math.ceil(kills * so_far / rounds)]
            name = rng.choice(due) if due else ""
            if name and time.monotonic() > shot and machines.is_up(name):
                killed[name] += machines.kill(name)
                shot = time.monotonic() + rng.uniform(2, 20)
                time.sleep(rng.uniform(0, 3))
            if not forgotten and len(run.ledger.rounds(run.name)) >= 2:
                machines.kill("server")
                shutil.rmtree(folder / "prefect", ignore_errors=True)
                forgotten = True
            time.sleep(0.3)
    finally:
        machines.end()

    def plates(one: Campaign) -> dict[str, Any]:
        found: dict[str, Any] = {path.name: path.read_bytes() for path in steps.plates_of(one).glob("tfbind8*")}
        for name in [name for name in found if name.endswith("_manifest.json")]:
            found[name] = json.loads(found[name])
            del found[name]["ledger"]  # the chain's head: it holds the hours, and the files by which the results came
        return found

    told = [line.split() for line in (folder / "finished").read_text().splitlines()]
    finished, last = Counter(seed for seed, _ in told), {seed: float(at) for seed, at in told}
    runs = run.ledger.runs(run.name)
    slow = [(str(seed), datetime.fromisoformat(at)) for seed, at in zip(runs["seed"], runs["at"])]
    until_stored = sorted(at.timestamp() - last[seed] for seed, at in slow if seed in last)
    return {
        "seconds": round(time.monotonic() - began),
        "killed": dict(killed),
        "plates_equal": plates(calm) == plates(run) and len(plates(run)) == 5 * rounds,
        "trainings_in_the_ledger": len(runs),
        "trainings_planned": 3 * rounds,
        "slow_trainings_computed_twice": f"{sum(count > 1 for count in finished.values())} of {2 * rounds}",
        "milliseconds_from_a_trainings_end_to_its_row": f"{1e3 * until_stored[len(until_stored) // 2]:.0f} (median), "
        f"{1e3 * until_stored[-1]:.0f} (longest)",
        "trainings_that_failed": int((run.ledger.events(run.name)["kind"] == "training_failed").sum()),
        "readings": (len(run.ledger.measurements(run.name)), len(calm.ledger.measurements(calm.name))),
        "inbox_is_empty": not [p for p in steps.inbox_of(run).iterdir() if p.is_file()],
        "database_deleted": forget,
    }


def main() -> None:
    """Run it and print what came of it; exit code 1 where the campaign is not the undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5, help="of each of server, scheduler, flow")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forget", action="store_true", help="delete Prefect's database in mid-campaign")
    parser.add_argument("--down", action="store_true", help="kill all before each file of the lab, start it after")
    parser.add_argument("--limit", type=float, default=3600, help="seconds")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    try:
        told = torture(
            folder, rounds=given.rounds, kills=given.kills, seed=given.seed, forget=given.forget, down=given.down,
            limit=given.limit,
        )  # fmt: skip
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    for name, value in told.items():
        print(f"{name.replace('_', ' ')}: {value}")
    good = told["plates_equal"] and told["trainings_in_the_ledger"] == told["trainings_planned"] and told["inbox_is_empty"]
    raise SystemExit(0 if good and told["readings"][0] == told["readings"][1] else 1)


if __name__ == "__main__":
    main()
