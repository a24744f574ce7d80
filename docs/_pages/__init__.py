"""Pages of the reference that are made from the code, so that they cannot fall behind it."""

from __future__ import annotations

from pathlib import Path

from _pages.commands import commands
from _pages.keys import keys
from _pages.plugins import plugins


def write(folder: Path) -> None:
    """Write the pages; one that is there already and has not changed stays, so that Sphinx does not read it again."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("commands", commands()), ("keys", keys()), ("plugins", plugins())):
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
