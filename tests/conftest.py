"""Shared fixtures. Nothing is autouse but the logging put back after a command: a test shows what it stands on."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import CHROMIUM
from hypothesis import settings
from scheduling import ROUND
from sqlalchemy import create_engine, text

from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.runtime.allowance import allow
from labloop.studies.simulate import draw_start, open_lab

# A fixed profile: the same examples on every run, no clock in the verdict.
settings.register_profile("labloop", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("labloop")

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Configurations of the tests name plug-ins that stand in the tests and the examples.
_HERE = Path(__file__).parent
allow(*(path.stem for folder in (_HERE, _HERE.parent / "examples") for path in folder.glob("*.py")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files that wait for processes begin first: `make test` gives them out in this order, so that they do not end last.

    It gives a worker a file, or a class of a contract, at a time (`--dist loadscope`): what shares a fixture or trainings. There
    is a worker more than there are cores, for while one of them waits.
    """
    first = {item.path for item in items if item.get_closest_marker("server") or item.get_closest_marker("processes")}
    items.sort(key=lambda item: item.path not in first)


def pytest_collection_finish() -> None:
    """Take what is imported by now, torch and its like, out of every later search for garbage."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in a line that the browser's tests did not run, where they could not."""
    if CHROMIUM is None:
        terminalreporter.write_line("No Chromium is at hand: the tests of pages in a real browser did not run.")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Take off what a command put on the root logger: it would write to a standard error that is closed by the next test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="class")
def short_search() -> Iterator[None]:
    """A search of few generations of few designs: it costs the baselines of a contract more than their models do."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ensemble", "forest", "pairwise"):
            module = import_module(f"labloop.methods.{name}")
            patch.setattr(module, "search", partial(module.search, generations=8, population=128))
        yield


@pytest.fixture
def tfbind8_config() -> CampaignConfig:
    return load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], object], Path], Path]:
    """Copy into a folder what a function makes in an empty one: it is made once, and each test has its own to change.

    Not for what keeps the path of where it was made, such as a schedule that names the files of its rounds.
    """
    kept: dict[Callable[[Path], object], Path] = {}

    def copy(make: Callable[[Path], object], place: Path) -> Path:
        if make not in kept:
            folder = tmp_path_factory.mktemp("once")
            make(folder)
            kept[make] = folder
        return shutil.copytree(kept[make], place, dirs_exist_ok=True)

    return copy


@cache
def _start() -> str:
    return draw_start(open_lab("tfbind8"), 100, seed=0).to_csv(index=False)


def set_up_bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with a campaign that has a schedule, its round's file and a start CSV; no server is named."""
    monkeypatch.chdir(folder)
    for name in ("LABLOOP_HOME", "LABLOOP_LEDGER", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("labloop.campaign.inbox.folder.SETTLE", 0)
    text = preset("campaigns/tfbind8.yaml").read_text()
    (folder / "campaign.yaml").write_text(text + "schedule: {rounds: round.yaml, approval: true, deadline: 14 days}\n")
    (folder / "round.yaml").write_text(yaml.safe_dump(ROUND))
    (folder / "start.csv").write_text(_start())
    assert main(["init", "campaign.yaml"]) == 0
    return folder


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a campaign that has a schedule, its round's file and a start CSV."""
    return set_up_bench(tmp_path, monkeypatch)


# ---- a PostgreSQL server of our own, thrown away at the end


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL cluster on a Unix socket: the URL of its maintenance database."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    config = shutil.which("pg_config")
    programs = Path(subprocess.check_output([config, "--bindir"], text=True).strip()) if config else Path("/nowhere")
    if not (programs / "initdb").exists():
        pytest.skip("no PostgreSQL server is installed")
    # Not under tmp_path: a socket's path may have 107 bytes at most, and the server's user must be able to reach it.
    folder = Path(tempfile.mkdtemp(prefix="labloop-pg-", dir="/tmp"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        user = {"user": "nobody", "extra_groups": []}
        shutil.chown(folder, "nobody")

    def call(program: str, *options: str) -> None:
        log = folder / f"{program}.log"  # a file, as the server keeps its parent's pipes open
        with log.open("w") as out:
            done = subprocess.run([programs / program, *options], stdout=out, stderr=out, cwd=folder, check=False, **user)
        if done.returncode:
            raise RuntimeError(f"{program}: {log.read_text()}")

    data = str(folder / "data")
    try:
        call("initdb", "-D", data, "-U", "lab", "-A", "trust", "-E", "UTF8", "--no-sync")
        call("pg_ctl", "-D", data, "-w", "-o", f"-c listen_addresses= -k {folder} -F", "start")
        try:
            yield f"postgresql+psycopg://lab@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def make_database(postgres: str) -> Callable[[], str]:
    """Make a new, empty schema, as good as a database of its own and made in no time; gives its URL."""

    def make() -> str:
        name = f"lab_{os.urandom(6).hex()}"
        engine = create_engine(postgres)
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        engine.dispose()
        return f"{postgres}&options=-csearch_path%3D{name}"

    return make


@pytest.fixture
def new_database(make_database: Callable[[], str]) -> str:
    """The URL of a new, empty schema."""
    return make_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The place of a ledger that does not exist yet, on each backend."""
    return str(tmp_path / "ledger.db") if request.param == "sqlite" else request.getfixturevalue("new_database")
