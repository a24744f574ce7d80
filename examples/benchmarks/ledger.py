"""Time the ledger on a history of 10^6 readings, beside the floor: pandas.read_csv and one bulk INSERT of the same columns.

    python examples/benchmarks/ledger.py [--rows 1000000] [--designs 32896] [--ledger postgresql+psycopg://user@host/database]

Each step runs in a process of its own, so that its peak memory is its own too. The floor of the reading steps is one SELECT of
the bare table into a frame.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.campaign.facade import Campaign
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config

LENGTH = 12


def write_history(path: Path, rows: int, designs: int) -> None:
    """Write a lab's history: plates of 384 wells, DNA of 12 bases, replicates drawn at random."""
    rng = np.random.default_rng(0)
    codes = rng.choice(4**LENGTH, size=designs, replace=False)
    letters = np.array(list("ACGT"))[(codes[:, None] // 4 ** np.arange(LENGTH)) % 4]
    dna = np.ascontiguousarray(letters).view(f"U{LENGTH}").ravel()[rng.permutation(np.arange(rows) % designs)]
    place = np.arange(rows)
    pd.DataFrame(
        {
            "plate": [f"H{i:04d}" for i in place // 384],
            "well": [f"{'ABCDEFGHIJKLMNOP'[i // 24]}{i % 24 + 1}" for i in place % 384],
            "dna": dna,
            "value": np.round(rng.random(rows), 5),
        }
    ).to_csv(path, index=False)


def floor_of_ingest(csv: Path, database: str) -> None:
    """pandas.read_csv and one bulk INSERT, committed."""
    frame = pd.read_csv(csv)
    rows = list(frame.itertuples(index=False, name=None))
    if database.startswith("postgresql"):
        import psycopg

        with psycopg.connect(database.replace("postgresql+psycopg", "postgresql")) as connection:
            connection.execute("CREATE TABLE bare (plate TEXT, well TEXT, dna TEXT, value DOUBLE PRECISION)")
            with connection.cursor().copy("COPY bare FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        return
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE bare (plate TEXT, well TEXT, dna TEXT, value REAL)")
        connection.executemany("INSERT INTO bare VALUES (?, ?, ?, ?)", rows)


def floor_of_reading(database: str) -> None:
    """One SELECT of the bare table, into a frame."""
    if database.startswith("postgresql"):
        import psycopg

        with psycopg.connect(database.replace("postgresql+psycopg", "postgresql")) as connection:
            pd.DataFrame(connection.execute("SELECT * FROM bare").fetchall())
        return
    with sqlite3.connect(database) as connection:
        pd.DataFrame(connection.execute("SELECT * FROM bare").fetchall())


def measured(step: Callable[..., Any], *arguments: Any) -> tuple[float, float, float]:
    """Run a step in a new process: seconds, CPU-seconds and peak MB, without what importing labloop takes."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (step, arguments))


def _measure(step: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[float, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    step(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.perf_counter() - wall, time.process_time() - cpu, peak


def create(home: str, ledger: str | None) -> None:
    raw = {
        "name": "history",
        "space": {"parameters": [{"type": "sequence", "name": "dna", "length": LENGTH}]},
        "objective": {"assay": "binding", "direction": "max"},
        "assays": {"binding": {}},
    }
    Campaign.create(parse_config(raw, CampaignConfig), home=home, ledger=ledger)


def ingest(home: str, ledger: str | None, csv: Path) -> None:
    Campaign.open("history", home=home, ledger=ledger).ingest(csv)


def status(home: str, ledger: str | None) -> None:
    Campaign.open("history", home=home, ledger=ledger).status()


def dataset(home: str, ledger: str | None) -> None:
    Campaign.open("history", home=home, ledger=ledger).dataset()


def audit(home: str, ledger: str | None) -> None:
    Campaign.open("history", home=home, ledger=ledger).audit("H0001:B7")


def verify(home: str, ledger: str | None) -> None:
    (verified,) = Campaign.open("history", home=home, ledger=ledger).ledger.verify()
    assert not verified.faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--designs", type=int, default=32_896)
    parser.add_argument("--ledger", help="a PostgreSQL database that may be filled; an SQLite file where left out")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="labloop-ledger-") as folder:
        csv, home = Path(folder) / "history.csv", folder
        write_history(csv, told.rows, told.designs)
        bare = told.ledger or str(Path(folder) / "bare.db")
        writing, reading = measured(floor_of_ingest, csv, bare), measured(floor_of_reading, bare)
        measured(create, home, told.ledger)
        print(f"{told.rows:,} readings of {told.designs:,} designs, {'PostgreSQL' if told.ledger else 'SQLite'}")
        print(f"{'step':22}{'seconds':>9}{'CPU-s':>8}{'peak MB':>9}{'CPU to floor':>14}")
        print(f"{'read_csv + INSERT':22}{writing[0]:9.1f}{writing[1]:8.1f}{writing[2]:9.0f}{'1':>14}", flush=True)
        print(f"{'SELECT to a frame':22}{reading[0]:9.1f}{reading[1]:8.1f}{reading[2]:9.0f}{'1':>14}", flush=True)
        for step, more in ((ingest, (csv,)), (status, ()), (dataset, ()), (audit, ()), (verify, ())):
            found, floor = measured(step, home, told.ledger, *more), writing if step is ingest else reading
            ratio = found[1] / floor[1]
            print(f"{step.__name__:22}{found[0]:9.1f}{found[1]:8.1f}{found[2]:9.0f}{ratio:14.1f}", flush=True)


if __name__ == "__main__":
    main()
