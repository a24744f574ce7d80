"""Killed at any moment, run again: nothing is lost, nothing doubled, and the batch is that of the run that nobody disturbed.

`LABLOOP_KILLS=200 pytest tests/test_crash.py` (`make crash`) kills 200 times, half of them on each database; by default 6 times.
`LABLOOP_FILES=200` lets 8 processes ingest 200 files at once instead of 12.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from crash_driver import ROUND, in_child, live, together
from fakes import exported

from labloop.campaign.facade import Campaign
from labloop.config.read import preset
from labloop.ledger import Ledger
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab

pytestmark = pytest.mark.processes

CONFIG = str(preset("campaigns/tfbind8.yaml"))
KILLS = int(os.environ.get("LABLOOP_KILLS", "6"))
FILES = int(os.environ.get("LABLOOP_FILES", "12"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run, and the files that its lab sent: a history and a plate in two parts, the second holding the first."""
    home = tmp_path_factory.mktemp("reference")
    lab = open_lab("tfbind8")
    draw_start(lab, 200, seed=1).to_csv(home / "history.csv", index=False)
    run = Campaign.create(CONFIG, home=home / "first")
    run.ingest(home / "history.csv")
    run.propose(ROUND, out=home / "out")
    sheet = pd.read_csv(measure_plate(run, lab, home / "out", home / "back", number=1), dtype=str)
    sheet[:40].to_csv(home / "part1.csv", index=False)
    sheet.to_csv(home / "part2.csv", index=False)
    (home / "run").mkdir()
    live(CONFIG, str(home / "run"), f"sqlite:///{home}/run/ledger.db", *_lab_files(home))
    return home


def _lab_files(home: Path) -> tuple[str, list[str]]:
    return str(home / "history.csv"), [str(home / "part1.csv"), str(home / "part2.csv")]


def _exported(home: Path) -> dict[str, object]:
    """The files of the plate, and whatever hidden drafts were left there."""
    return exported(home / "out")


def _story(ledger: Ledger) -> dict[str, object]:
    """All that must be equal whatever happened on the way: rows but for their times, and no order of trainings."""
    name = ledger.campaigns()[0]
    runs = ledger.runs(name).drop(columns=["seconds", "cpu_seconds", "at", "by", "versions"]).sort_values("key")
    return {
        "measurements": ledger.measurements(name).to_csv(),
        "designs": ledger.designs(name).to_csv(),
        "files": ledger.files(name)[["sha256", "name", "n_rows"]].to_csv(),
        "runs": runs.to_csv(index=False),
        "picks": ledger.picks(name).to_csv(),
        "wells": ledger.wells(name).to_csv(),
        "states": sorted(ledger.events(name)["state"].dropna()),
        "rounds": [(one.number, one.state, one.config, one.seed, one.fingerprint, one.snapshot) for one in ledger.rounds(name)],
    }


def _whole(ledger: Ledger, sizes: dict[str, int]) -> None:
    """After a kill: the chain holds, and every file is there with all its rows or not at all."""
    assert ledger.check_file() == []
    for verified in ledger.verify():
        assert verified.faults == ()
    for name in ledger.campaigns():
        taken = ledger.files(name).set_index("name")["n_rows"].to_dict()
        rows = ledger.measurements(name).groupby("file").size().to_dict()
        assert rows == {file: n for file, n in taken.items() if n}
        assert taken == {file: n for file, n in sizes.items() if file in taken}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_process_killed_at_any_moment_loses_and_doubles_nothing(
    database: str,
    reference: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    with Ledger.open(reference / "run" / "ledger.db") as ledger:
        expected = _story(ledger)
        sizes = ledger.files(ledger.campaigns()[0]).set_index("name")["n_rows"].to_dict()
    expected_files = _exported(reference / "run")
    make = request.getfixturevalue("make_database") if database == "postgresql" else None

    def new_life(number: int) -> tuple[str, Path, Callable[[], None]]:
        home = tmp_path / f"life{number}"
        home.mkdir()
        url = make() if make else f"sqlite:///{home}/ledger.db"
        return url, home, lambda: live(CONFIG, str(home), url, *_lab_files(reference))

    _, seconds = in_child(new_life(0)[2])
    rng = np.random.default_rng(database == "postgresql")
    kills, lives = 0, 0
    while kills < KILLS // 2:
        lives += 1
        url, home, work = new_life(lives)
        for _ in range(min(4, KILLS // 2 - kills)):  # a life is killed up to four times, further on each time
            ended, _ = in_child(work, kill_after=float(rng.uniform(0, seconds)))
            kills += not ended
            with Ledger.open(url) as ledger:
                _whole(ledger, sizes)
            if ended:
                break
        assert ended or in_child(work)[0]
        with Ledger.open(url) as ledger:
            _whole(ledger, sizes)
            assert _story(ledger) == expected
        assert _exported(home) == expected_files
        assert (home / "comparison.txt").read_text() == (reference / "run" / "comparison.txt").read_text()
    record_property("kills", f"{kills} in {lives} lives")


# ---- several at once


def test_eight_processes_ingest_many_files_and_each_distinct_row_is_there_once(where: str, tmp_path: Path) -> None:
    """A quarter of the files are copies of others under another name, given to other processes."""
    distinct = FILES * 3 // 4
    table = draw_start(open_lab("tfbind8"), 6 * distinct, seed=3)
    paths = []
    for i in range(FILES):
        k = i if i < distinct else i - distinct
        paths.append(tmp_path / f"file{i}.csv")
        table[6 * k : 6 * k + 6].to_csv(paths[-1], index=False)
    url = where if "://" in where else f"sqlite:///{where}"
    name = Campaign.create(CONFIG, home=tmp_path / "home", ledger=url).name
    mixed = [paths[i] for i in np.random.default_rng(5).permutation(FILES)]

    def ingest(some: list[Path]) -> None:
        for path in some:
            Campaign.open(name, home=tmp_path / "home", ledger=url).ingest(path)

    together([lambda some=mixed[worker::8]: ingest(some) for worker in range(8)])  # type: ignore[misc]
    with Ledger.open(url) as ledger:
        rows = ledger.measurements(name)
        assert len(rows) == 6 * distinct
        assert len(ledger.files(name)) == ledger.files(name)["sha256"].nunique() == distinct
        assert sorted(rows["value"]) == sorted(table["value"].astype(float))
        (verified,) = ledger.verify()
        assert verified.faults == ()


def test_two_that_propose_at_once_get_one_batch(where: str, reference: Path, tmp_path: Path) -> None:
    url = where if "://" in where else f"sqlite:///{where}"
    run = Campaign.create(CONFIG, home=tmp_path / "home", ledger=url)
    run.ingest(_lab_files(reference)[0])
    run.ledger.close()

    def propose(out: Path) -> None:
        Campaign.open(run.name, home=tmp_path / "home", ledger=url).propose(ROUND, out=out)

    outs = [tmp_path / "left" / "out", tmp_path / "right" / "out"]
    together([lambda out=out: propose(out) for out in outs])  # type: ignore[misc]
    assert _exported(outs[0].parent) == _exported(outs[1].parent) == _exported(reference / "run")
    with Ledger.open(url) as ledger:
        assert len(ledger.picks(run.name)) == len(Campaign.open(run.name, home=tmp_path / "home", ledger=url).batch(1).picks)
        assert ledger.runs(run.name)["key"].is_unique
        assert ledger.verify()[0].faults == ()
