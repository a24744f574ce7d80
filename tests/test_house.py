"""The rooms stand one above the other, small enough to read, and what is heavy stays out of all that stands above the methods."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAVY = {"torch", "botorch", "gpytorch", "linear_operator", "sklearn", "prefect", "altair"}

PLUGINS = {"labloop.methods", "labloop.surrogates"}
"""What the rooms reach by name only, and what may load torch."""

PAGES = {
    "labloop.report.page", "labloop.report.facts", "labloop.report.drawings", "labloop.report.figures", "labloop.report.quality",
    "labloop.report.insight", "labloop.report.best", "labloop.report.compromises", "labloop.studies.page",
}  # fmt: skip
"""What draws, and so loads altair; it is imported when a page is written."""

MANUAL = [
    "README.md", "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md") if "made" not in path.parts),
]  # fmt: skip


def lines_of(path: str) -> int:
    return len((ROOT / path).read_text().splitlines())


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the library and of the flows, by its name."""
    files = [path for folder in ("labloop", "flows") for path in (ROOT / folder).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports(name: str) -> Iterator[str]:
    """Give what a module imports of ours: at its top, inside functions and for its types only."""
    package = name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*outer, *([node.module] if node.module else [])])
            found = [f"{base}.{one.name}" if f"{base}.{one.name}" in modules() else base for one in node.names]
        yield from (one for one in found if one in modules() and one != name)


@cache
def graph() -> Mapping[str, frozenset[str]]:
    """What each module imports; the public names of `labloop`, which load on first use, are left out."""
    return {name: frozenset(imports(name)) - {"labloop"} for name in modules() if name != "labloop"}


def room_of(module: str) -> str:
    """The room of a module: a folder of the library, a file at its root, or the flows."""
    return module.split(".")[module.startswith("labloop.")]


def rooms() -> dict[str, set[str]]:
    """What each room imports of the others."""
    found: dict[str, set[str]] = {room_of(module): set() for module in graph()}
    for module, seen in graph().items():
        found[room_of(module)] |= {room_of(one) for one in seen} - {room_of(module)}
    return found


def ordered(what: Mapping[str, object]) -> list[str]:
    """Put the imported before what imports it; fails with the circle where there is one."""
    try:
        return list(TopologicalSorter(what).static_order())  # type: ignore[type-var]
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(reversed(error.args[1]))}")


def test_the_graph_sees_imports_of_every_kind():
    assert "labloop.ledger.memory" in graph()["labloop.campaign.facade"]
    assert "labloop.report.figures" in graph()["labloop.report.page"]
    assert "flows.tick" in graph()["flows.deploy"]  # relative
    assert "flows.warm" in graph()["flows.deploy"]  # inside a function
    assert "labloop.campaign.step" in graph()["labloop.cli.schedule"]  # for its types, and inside functions


def test_no_modules_and_no_rooms_import_in_a_circle():
    assert set(ordered(graph())) == set(graph())
    assert set(ordered(rooms())) == set(rooms())


def test_the_longest_chain_of_rooms_has_eleven_at_most():
    """Through the files at the root too (`plates -> registry -> runtime`), which are passed but are no floors."""
    seen, chain = rooms(), dict[str, list[str]]()
    for room in ordered(seen):
        floor = [room] if room == "flows" or (ROOT / "labloop" / room).is_dir() else []
        chain[room] = [*floor, *max((chain[one] for one in seen[room]), key=len, default=[])]
    longest = max(chain.values(), key=len)
    assert len(longest) > 5
    assert len(longest) <= 11, " -> ".join(longest)


def test_the_hall_holds_fifteen_rooms_and_eight_files_at_most():
    entries = [one for one in (ROOT / "labloop").iterdir() if one.name != "__pycache__"]
    folders = {one.name for one in entries if one.is_dir()}
    assert len(folders) <= 15, folders
    assert len(entries) - len(folders) <= 8, {one.name for one in entries} - folders


def test_a_file_can_be_read_in_one_sitting():
    files = [path.relative_to(ROOT).as_posix() for path in modules().values()]
    assert not {path: lines_of(path) for path in files if lines_of(path) > 400}


def test_the_words_for_shapes_are_imported_for_type_checkers_only():
    """`labloop.types` gives them a meaning where somebody else has loaded them."""
    loose = set()
    for name, text in ((name, path.read_text()) for name, path in modules().items()):
        if "jaxtyping" not in text:
            continue
        nodes = list(ast.walk(ast.parse(text)))
        guards = [node for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
        guarded = {one for guard in guards for part in guard.body for one in ast.walk(part)}
        found = [one for one in nodes if isinstance(one, ast.ImportFrom) and one.module == "jaxtyping" and one not in guarded]
        loose |= {name} if found else set()
    assert loose == {"labloop.types"}


@pytest.mark.parametrize("page", MANUAL)
def test_every_file_that_a_page_names_is_there(page):
    ours = r"(?<![\w/.-])(?:labloop|flows|tests|examples|config)/[\w/.*-]*\w"
    named = set(re.findall(ours, (ROOT / page).read_text()))
    assert named or page not in ("README.md", "CONTRIBUTING.md")
    assert not {one for one in named if not (ROOT / one).exists() and not list(ROOT.glob(f"{one}*"))}


def test_everything_above_the_methods_loads_without_what_is_heavy():
    """In an interpreter of its own, all in a row: whatever one of them loads, it would be there at the end."""
    light = [
        name
        for name in sorted(modules())
        if name.startswith("labloop") and not any(f"{name}.".startswith(f"{room}.") for room in PLUGINS) and name not in PAGES
    ]
    assert {"labloop.cli.app", "labloop.studies.labs.rna", "labloop.rounds.training", "labloop.testing"} <= set(light)
    code = f"""
import importlib, sys
def loaded(*names):
    print(sorted(set(names) & set(sys.modules)))
import labloop.assays.ingest
loaded("sqlalchemy")
for name in {light!r}:
    importlib.import_module(name)
from labloop.runtime import devices
devices._DRIVERS = ()  # nothing shows a device
devices.cuda_device()
from labloop.studies.benchmark import Job
Job(task="tfbind8", method="random", seed=0, q=2).run()  # which learns nothing
loaded("design_bench", *{sorted(HEAVY)!r})
"""
    free = {name: value for name, value in os.environ.items() if name not in ("LABLOOP_DEVICE", "CUDA_VISIBLE_DEVICES")}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=free)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == ["[]", "[]"]


MINE = """
import sys
import my_method
from labloop.testing import ProposerContract

class TestMine(ProposerContract):
    proposer = my_method.NearestBest()
    learns = False
    spaces = {name: ProposerContract.spaces[name] for name in ("duplex", "mixed")}
"""


def test_a_plug_ins_author_proves_it_without_what_is_heavy(tmp_path):
    """The contracts run where the extra `testing` alone is installed."""
    (tmp_path / "test_mine.py").write_text(MINE)
    (tmp_path / "conftest.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({sorted(HEAVY)!r}))\n")  # not importable
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # those of other packages take longer to load than this takes to run
    }  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
