"""The environment's variables are named in one module, and told on one page."""

from __future__ import annotations

import re
from pathlib import Path

from labloop.runtime.environment import PREFIX, VARIABLES, Environment

ROOT = Path(__file__).parent.parent


def test_values_are_read_when_they_are_asked_for_and_a_blank_is_none(monkeypatch):
    monkeypatch.setenv("LABLOOP_HOME", "/somewhere")
    monkeypatch.setenv("LABLOOP_USER", " ")
    monkeypatch.delenv("LABLOOP_LEDGER", raising=False)
    said = Environment.now()
    assert (said.home, said.user, said.ledger) == ("/somewhere", None, None)
    monkeypatch.setenv("LABLOOP_HOME", "/elsewhere")
    assert Environment.now().home == "/elsewhere"


def test_no_other_module_reads_a_variable_of_labloops():
    read = re.compile(rf"""(?:environ|getenv)\W+(?:get\W+|setdefault\W+)?["'](?:{PREFIX}|PREFECT_API)""")
    found = [path for folder in ("labloop", "flows") for path in (ROOT / folder).rglob("*.py") if read.search(path.read_text())]
    assert not found
    assert read.search('os.environ.get("LABLOOP_HOME")')
    assert read.search("os.environ['PREFECT_API_URL']")


def test_the_page_tells_every_variable_and_no_other():
    page = (ROOT / "docs" / "reference" / "environment.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE)) == set(VARIABLES.values())
