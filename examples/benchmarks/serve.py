"""Time the pages of `labloop serve` on a ledger of many campaigns, one of them with 10^6 readings and a plate that came back.

    python examples/benchmarks/serve.py [--rows 1000000] [--campaigns 50]

First: the page's first answer after the ledger has changed, when all is to be counted anew; it may say that something is being
counted, and is then shown in full within seconds. Then: the median of ten answers after it. Both in ms, without a network,
and the CPU-ms of either: what it would take where nothing else runs (of the first: with all that was counted in these threads).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from fastapi.testclient import TestClient
from ledger import create, measured, write_history

from labloop.campaign.facade import Campaign
from labloop.cli.serve.settings import settings_of
from labloop.cli.serve.site import site
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig

TOKEN = "a-token-for-this-benchmark"


def fill(home: str, csv: Path, campaigns: int) -> None:
    """Ingest the history, lay a plate out and measure it, and begin the other campaigns."""
    run = Campaign.open("history", home=home)
    run.ingest(csv)
    run.propose(parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig))
    run.export(Path(home) / "plates")
    wells = run.ledger.wells("history", 1)
    back = Path(home) / "back.csv"
    value = np.random.default_rng(1).random(len(wells)).round(4)
    pd.DataFrame({"plate": wells["plate"], "well": wells["well"], "value": value}).to_csv(back, index=False)
    run.ingest(back)
    for i in range(campaigns - 1):
        raw = run.config.model_dump(mode="json") | {"name": f"other{i:03d}"}
        Campaign.create(parse_config(raw, CampaignConfig), home=home)


def note(home: str) -> None:
    """Change the ledger of the large campaign: all that depends on it is counted anew."""
    Campaign.open("history", home=home).ledger.add_event("history", "noted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--campaigns", type=int, default=50)
    parser.add_argument(
        "--home", type=Path, help="a folder to make the ledger in, or with one that was made so; else a temporary one"
    )
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="labloop-serve-") as folder:
        home = told.home or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "ledger.db").exists():
            csv = home / "history.csv"
            write_history(csv, told.rows, min(32_896, told.rows))
            measured(create, str(home), None)
            measured(fill, str(home), csv, told.campaigns)
        show(str(home))


def show(home: str) -> None:
    """Ask for each page, and print what it took."""
    run = Campaign.open("history", home=home)
    n = int(run.ledger.files("history")["n_rows"].sum())
    well = run.ledger.wells("history", 1)[["plate", "well"]].iloc[0].str.cat(sep=":")
    run.ledger.close()
    print(
        f"{n:,} readings, {len(Campaign.open('history', home=home).ledger.campaigns())} campaigns, load {os.getloadavg()[0]:.0f}"
    )
    print(f"{'page':34}{'first, ms':>10}{'CPU-ms':>8}{'then, ms':>10}{'CPU-ms':>8}{'in full after, s':>18}")
    with TestClient(site(settings_of(home=Path(home), token=TOKEN)), base_url="http://127.0.0.1:8791") as client:
        key = re.search(r'name="csrf" value="(\w+)"', client.get("/login").text)
        assert key is not None
        client.post("/login", data={"csrf": key[1], "name": "Ann", "token": TOKEN}, headers={"Origin": "http://127.0.0.1:8791"})
        while "data-refresh" in client.get("/").text:
            time.sleep(0.2)
        for page in (
            "/", "/c/history", "/c/history/round/1", f"/c/history/round/1?well={well}", "/c/history/plan", "/c/history/report",
            "/c/other001", "/schedule",
        ):  # fmt: skip
            note(home)
            began, busy = time.perf_counter(), time.process_time()
            answer = client.get(page)
            first, busy = time.perf_counter() - began, time.process_time() - busy
            while "data-refresh" in answer.text and time.perf_counter() < began + 300:
                time.sleep(0.2)
                answer = client.get(page)
            whole = time.perf_counter() - began
            took, cpu = [], time.process_time()
            for _ in range(10):
                at = time.perf_counter()
                answer = client.get(page)
                took.append(time.perf_counter() - at)
            cpu = (time.process_time() - cpu) / 10
            answer.raise_for_status()
            print(
                f"{page.split(':')[0]:34}{1e3 * first:10.0f}{1e3 * busy:8.0f}"
                f"{1e3 * statistics.median(took):10.0f}{1e3 * cpu:8.0f}{whole:18.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
