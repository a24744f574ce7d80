"""Shared fixtures. Nothing is autouse but the logging put back after a command: a test shows what it stands on."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache, partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from sqlite3 import connect
from typing import Any

import forks
import pandas as pd
import pytest
import yaml
from browser import CHROMIUM
from hypothesis import settings
from kept import copied
from scheduling import ROUND, free_port, process, until
from sqlalchemy import Connection, Engine, MetaData, create_engine, create_mock_engine, text

from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.ledger import database
from labloop.ledger.tables import metadata
from labloop.proposing import search
from labloop.runtime.allowance import allow
from labloop.runtime.prefect_api import Server
from labloop.studies.simulate import draw_start, open_lab

# A fixed profile: the same examples on every run, no clock in the verdict.
settings.register_profile("labloop", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("labloop")

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Configurations of the tests name plug-ins that stand in the tests and the examples.
_HERE = Path(__file__).parent
allow(*(path.stem for folder in (_HERE, _HERE.parent / "examples") for path in folder.glob("*.py")))


_COMPILED: dict[Any, Any] = {}
_DIALECTS: dict[str, Any] = {}


def _with_known_statements(*told: Any, **options: Any) -> Engine:
    """Make an engine that writes no SQLite statement anew which another one has written: each test opens ledgers of its own."""
    engine = create_engine(*told, **options)
    if engine.dialect.name == "sqlite":
        engine.dialect = _DIALECTS.setdefault("sqlite", engine.dialect)
        engine.update_execution_options(compiled_cache=_COMPILED)
    return engine


database.create_engine = _with_known_statements


@cache
def _statements(backend: str) -> list[str]:
    """Write what makes the tables of a ledger."""
    said: list[str] = []
    engine = create_mock_engine(f"{backend}://", lambda one, *_, **__: said.append(str(one.compile(dialect=engine.dialect))))
    MetaData.create_all(metadata, engine, checkfirst=False)
    return said


def _make_tables(connection: Connection, **_: bool) -> None:
    """Make a ledger's tables by statements that are written once a process, not for each ledger."""
    for one in _statements(connection.dialect.name):
        connection.exec_driver_sql(one)


metadata.create_all = _make_tables  # type: ignore[method-assign,assignment]


_SERVER = ExitStack()
_ASKING: set[str] = set()
"""The last test that asks Prefect's server something."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """End Prefect's server behind the last test that needs it: it is never idle, and the session may go on for long."""
    yield
    if item.nodeid in _ASKING:
        _SERVER.close()


TOGETHER = {"tests/test_flows.py": "prefect", "tests/test_prefect.py": "prefect"}
"""Files that share a server, which takes longer to start than their tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files that wait for processes begin first: `make test` gives them out in this order, so that they do not end last."""
    first = {item.path for item in items if item.get_closest_marker("server") or item.get_closest_marker("processes")}
    items.sort(key=lambda item: item.path not in first)


def group_of(nodeid: str) -> str:
    """The group of a test: its file, or class of a contract, which share a fixture or trainings, or files that share a server."""
    scope = nodeid.partition("[")[0].rpartition("::")[0]
    return TOGETHER.get(scope, scope)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forks", type=int, default=0, help="run the tests in so many forks of this process (Linux)")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in forks where that is wanted."""
    options = session.config.option
    if not options.forks or options.collectonly or (session.testsfailed and not options.continue_on_collection_errors):
        return None
    forks.run(session, options.forks, group_of)
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a worker of pytest-xdist a group at a time."""
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Sharing(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what is imported by now, torch and its like, out of every later search for garbage, and search less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    _ASKING.update([item.nodeid for item in session.items if "prefect_server" in getattr(item, "fixturenames", ())][-1:])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in a line that the browser's tests did not run, where they could not."""
    if CHROMIUM is None:
        terminalreporter.write_line("No Chromium is at hand: the tests of pages in a real browser did not run.")


ARROW = {"campaign", "correct", "dataset", "exchange", "ingest", "ledger", "readers"}
"""Nouns whose tests have texts of pyarrow, as where labloop is imported beside it; all others those of a plain install."""


@pytest.fixture(autouse=True)
def _texts(request: pytest.FixtureRequest) -> Iterator[None]:
    with pd.option_context("mode.string_storage", "pyarrow" if request.path.stem.removeprefix("test_") in ARROW else "python"):
        yield


@pytest.fixture(autouse=True)
def _no_home_left_behind() -> Iterator[None]:
    """What serves a schedule names its ledger in the environment; the next test has a folder of its own."""
    before = {name: os.environ.get(name) for name in ("LABLOOP_HOME", "LABLOOP_LEDGER")}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Take off what a command put on the loggers: it would write to a standard error that is closed by the next test."""
    root, ours = logging.getLogger(), logging.getLogger("labloop")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)  # a schedule that is served tells more


@pytest.fixture(scope="class")
def short_search() -> Iterator[None]:
    """A search of few generations of few designs: it costs the baselines of a contract more than their models do."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ensemble", "forest", "judge_only", "pairwise"):
            module = import_module(f"labloop.methods.{name}")
            patch.setattr(module, "search", partial(module.search, generations=8, population=128))
        yield


@pytest.fixture
def brief_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any search through a space that cannot be listed ends after a few generations: it costs more than all around it."""
    evolve = search._evolve

    def briefly(data: Any, score: Any, n: int, label: str, rng: Any, generations: int, *rest: Any) -> Any:
        return evolve(data, score, n, label, rng, min(generations, 4), *rest)

    monkeypatch.setattr(search, "_evolve", briefly)


@pytest.fixture
def tfbind8_config() -> CampaignConfig:
    return load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig)


@pytest.fixture(scope="session")
def made_once() -> Callable[[Callable[[Path], object], Path], Path]:
    """Copy into a folder what a function makes in an empty one, see `kept`."""
    return lambda make, place: copied(make, make, place)


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


# ---- a Prefect server of our own

_UNASKED = ("LATE_RUNS", "FOREMAN", "CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "REPOSSESSOR", "CLEANUP_RECONCILER")
"""Prefect's services that look every few seconds for what no test asks about."""


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[dict[str, str]]:
    """A real server with a password: what the environment says of it. It takes seconds to start.

    Most of them go into its database, so an empty one is kept among what pytest keeps from run to run, and taken as it is.
    """
    pytest.importorskip("prefect", reason="pip install 'labloop-toolkit[flows]'")
    if sys.platform != "linux":
        pytest.skip("the processes are killed the way Linux does it")
    folder, port = tmp_path_factory.mktemp("prefect"), free_port()
    empty, database = pytestconfig.cache.mkdir("prefect") / f"{version('prefect')}.db", folder / "prefect.db"  # type: ignore[union-attr]
    if empty.exists():
        shutil.copy(empty, database)
    told = {
        "PREFECT_HOME": str(folder), "PREFECT_SERVER_API_PORT": str(port), "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": "lab:secret", "PREFECT_API_AUTH_STRING": "lab:secret",
        "PYTHONPATH": os.pathsep.join(sys.path), "PREFECT_RUNNER_POLL_FREQUENCY": "1",  # ten seconds otherwise, for each run
        **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _UNASKED},
        **{f"PREFECT_SERVER_{name}_ON_START": str(not empty.exists()) for name in ("DATABASE_MIGRATE", "REGISTER_BLOCKS")},
    }  # fmt: skip
    server = Server(told["PREFECT_API_URL"], "lab:secret")
    with _SERVER:
        _SERVER.enter_context(
            process([sys.executable, "-m", "prefect", "server", "start"], {**os.environ, **told}, folder / "server.log")
        )
        until(lambda: server.deployments() is not None)
        if not empty.exists() and database.exists():
            with closing(connect(database)) as source, closing(connect(empty.with_suffix(".new"))) as kept:
                source.backup(kept)
            empty.with_suffix(".new").replace(empty)
        yield told


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
