"""The manual: what it says runs, its reference is whole, and its links lead somewhere."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import labloop
from labloop.cli import assembled, main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PAGES = sorted(path for path in DOCS.rglob("*.md") if "made" not in path.parts)
sys.path.insert(0, str(DOCS))

from _pages.commands import commands  # noqa: E402
from _pages.keys import FILES, _family, keys, rows_of  # noqa: E402
from _pages.plugins import KINDS, plugins  # noqa: E402


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Give language and text of each fenced block of a page."""
    yield from re.findall(r"^```([a-z]+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def statements(text: str) -> Iterator[str]:
    """Split a block of shell into its statements: a line, with those that it goes on in, or a document that it writes."""
    lines = iter(text.splitlines())
    for line in lines:
        while line.endswith("\\"):
            line = line[:-1] + next(lines)
        if here := re.search(r"<<'?(\w+)'?", line):
            for more in lines:
                line += "\n" + more
                if more == here[1]:
                    break
        if line.strip() and not line.startswith("#"):
            yield line


def act(language: str, text: str) -> None:
    """Do what a block says, as its reader would: save a file that its first line names, run commands or Python."""
    named = re.match(r"# (\S+\.(?:yaml|py))\n", text)
    if named and language in ("yaml", "python"):
        Path(named[1]).write_text(text)
    elif language == "python":
        exec(compile(text, "the tutorial", "exec"), {"__name__": "__main__"})
    elif language == "sh":
        for one in statements(text):
            if one.startswith("labloop ") or one == "labloop":
                assert main(shlex.split(one, comments=True)[1:]) == 0, one
            else:
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", one], capture_output=True, text=True, check=False,
                    env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                )  # fmt: skip
                assert done.returncode == 0, f"{one}\n{done.stdout}{done.stderr}"
    else:
        assert language in ("text", "yaml", "mermaid"), f"a block of {language} runs nowhere"


@pytest.fixture
def reader(tmp_path, monkeypatch, brief_search):
    """An empty folder, as the reader of a tutorial stands in it."""
    for name in ("LABLOOP_HOME", "LABLOOP_LEDGER", "LABLOOP_PLUGINS", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page, reader, capsys):
    told = list(blocks(page))
    assert any(language == "sh" for language, _ in told)
    for language, text in told:
        act(language, text)


def test_statements_keep_documents_and_long_lines_together():
    text = "# a remark\nlabloop a \\\n  --b\ncat > f <<'END'\nx\nEND\nls\n"
    assert list(statements(text)) == ["labloop a   --b", "cat > f <<'END'\nx\nEND", "ls"]


@pytest.fixture(scope="module")
def page_of_keys():
    return keys()


def test_every_command_is_in_the_reference_with_its_options():
    page = commands()
    for name in assembled():
        assert name.startswith("-") or f"### labloop {name}\n" in page
    assert "--dry-run" in page


def test_every_key_of_the_files_is_in_the_reference_and_says_what_it_is(page_of_keys):
    page = page_of_keys
    for model, _ in FILES.values():
        for one in _family(model):
            for key, kind, default, says in rows_of(one):
                assert key in page
                assert kind, f"{one.__name__}.{key}"
                assert default, f"{one.__name__}.{key}"
                assert says, f"{one.__name__}.{key} has no docstring under it"


def test_the_reference_of_keys_links_to_tables_that_are_there(page_of_keys):
    page = page_of_keys
    heads = {re.sub(r"[^\w\s-]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= heads


def test_every_plug_in_is_in_the_reference():
    from labloop.registry import available

    page = plugins()
    for kind in ("proposers", "surrogates", "selectors", "readers", "exporters", "labs"):
        for name in available(kind):
            assert f"### {name}\n" in page


def test_every_option_of_every_plug_in_says_what_it_is():
    from labloop.registry import available, load, meanings

    bare = []
    for kind in KINDS:
        for name in available(kind):
            words = meanings(cls := load(kind, name))
            bare += [f"{cls.__name__}.{one.name}" for one in fields(cls) if not words.get(one.name)]
    assert not bare, "write a sentence under each"


def test_every_public_name_has_a_docstring():
    """Modules, and what stands at their top; of the public names every verb too, whoever it is inherited from."""
    bare = []
    for path in [*(ROOT / "labloop").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        told = [
            (path.stem, tree),
            *((f"{path.stem}.{node.name}", node) for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)),
        ]
        bare += [name for name, node in told if not ast.get_docstring(node) and "._" not in name]
    for name in labloop.__all__:
        if isinstance(one := getattr(labloop, name), type):
            verbs = {verb: getattr(one, verb) for verb in dir(one) if not verb.startswith("_") and verb in vars(one)}
            bare += [f"{name}.{verb}" for verb, what in verbs.items() if callable(what) and not what.__doc__]
    assert not bare


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not re.match(r"https?://|mailto:", target) and "made/" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_can_be_reached_from_the_first():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        name = page.relative_to(DOCS).with_suffix("").as_posix()
        assert name == "index" or f"\n{name}\n" in index, name
