"""What an installed labloop holds: every package, the flows, the shipped configurations and the data."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import labloop

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
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("labloop_toolkit-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "labloop/flows/round.py", "labloop/presets/rounds/default.yaml", "labloop/presets/campaigns/tfbind8.yaml",
        "labloop/data/six6_ref_r1_compact.npz", "labloop/report/page.html", "labloop/py.typed",
    } <= names  # fmt: skip
    assert not [name for name in names if name.startswith(("tests", "flows/", "examples"))]
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(tmp_path / "site")], check=True)
    code = (
        "import labloop; from labloop.config import preset; from labloop.labs.tfbind8 import table; "
        "import importlib.util as u; assert u.find_spec('labloop.flows'); assert len(table()[1]) == 32896; "
        "assert preset('rounds/default.yaml').exists() and 'site' in labloop.__file__"
    )
    isolated = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], check=True, env=isolated, cwd=tmp_path)
