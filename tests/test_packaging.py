"""What an installed labloop holds: every package, the flows, the shipped configurations and the data."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest

import labloop

NAMES = {"RNA": "viennarna", "yaml": "pyyaml", "sklearn": "scikit-learn", "vl_convert": "vl-convert-python"}
"""Distributions that are named otherwise than what is imported."""

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_of_the_tree_is_listed():
    tree = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "labloop").rglob("*.py")}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == tree | {"labloop.flows", "labloop.presets"}


def test_public_names_exist_and_are_sorted():
    assert labloop.__all__ == sorted(labloop.__all__)
    for name in labloop.__all__:
        assert getattr(labloop, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = labloop.nothing_like_it


def test_every_entry_point_leads_to_a_class():
    for group, entries in PYPROJECT["project"]["entry-points"].items():
        for name, target in entries.items():
            module, _, attribute = target.partition(":")
            path = ROOT / Path(*module.split(".")).with_suffix(".py")
            assert path.exists() or path.with_suffix("").is_dir(), f"{group}: {name} = {target}"
            assert attribute.isidentifier()


def test_the_wheel_holds_flows_presets_and_data(tmp_path):
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"  # what pip asks for
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("labloop_toolkit-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "labloop/flows/round.py", "labloop/presets/rounds/default.yaml", "labloop/presets/campaigns/tfbind8.yaml",
        "labloop/studies/labs/data/six6_ref_r1_compact.npz", "labloop/report/page.html", "labloop/py.typed",
    } <= names  # fmt: skip
    assert not [name for name in names if name.startswith(("tests", "flows/", "examples"))]
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import labloop; from labloop.config.read import preset; from labloop.studies.labs.tfbind8 import table; "
        "import importlib.util as u; assert u.find_spec('labloop.flows'); assert len(table()[1]) == 32896; "
        "assert preset('rounds/default.yaml').exists() and 'site' in labloop.__file__"
    )
    isolated = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], check=True, env=isolated, cwd=tmp_path)


@cache
def imported() -> dict[str, set[str]]:
    """Every module that labloop and its flows import, and by which files."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in ("labloop", "flows") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [] if node.level else [f"{node.module}.{one.name}" for one in node.names]
            for name in names:
                found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_what_is_imported_is_declared():
    project = PYPROJECT["project"]
    declared = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    known = {re.split(r"[^A-Za-z0-9_-]", one)[0].lower().replace("_", "-") for one in declared}
    tops = {name.split(".")[0] for name in imported()} - set(sys.stdlib_module_names) - {"labloop"}
    assert "prefect" in tops
    assert not {top for top in tops if NAMES.get(top, top).replace("_", "-") not in known}


def test_nobodys_internals_are_imported():
    assert not {name: by for name, by in imported().items() if "._internal" in name}


@pytest.mark.parametrize("how", ["bare checkout", "installed from it"])
def test_nothing_but_labloop_is_importable_as_labloop(tmp_path, how):
    """The checkout's own tests, examples and a second labloop are no part of it; its flows are, and are of the same checkout."""
    code = (
        "import importlib.util as u; import labloop; from pathlib import Path; here = Path(labloop.__file__).parent.parent; "
        "print([name for name in ('tests', 'labloop', 'examples') if u.find_spec('labloop.' + name)]); "
        "print(Path(u.find_spec('labloop.flows').origin).parent == here / 'flows', len(labloop.__path__))"
    )
    options = ["-I", "-S"] if how == "bare checkout" else []
    told = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}" if options else code
    said = subprocess.run([sys.executable, *options, "-c", told], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert said.stdout.split("\n")[:2] == ["[]", "True 1"]
