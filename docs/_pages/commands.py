"""Every command with its arguments and options, as `--help` tells them."""

from __future__ import annotations

import contextlib
import io
import re

from _pages.text import line
from labloop.cli import assembled

COMMON = ("--home", "--ledger", "--json", "--verbose", "--plugins")
"""Options of every command, told once."""
ORDER = ("At the lab", "By itself", "Before a well is spent")


def commands() -> str:
    """Write the page."""
    app = assembled()
    parts = [
        "# Commands",
        "Made from the code; `labloop COMMAND --help` says the same. Exit codes: 0 done, 1 something that you can mend (the "
        "message says how), 2 wrong usage, 70 a fault of labloop's own. `labloop` alone says what comes next in this folder.",
    ]
    groups: dict[str, list[str]] = {}
    for name in sorted(app):
        if name.startswith("-"):
            continue
        group = next((one.name for one in app[name].group if getattr(one, "name", "")), "Others")
        groups.setdefault(str(group), []).append(name)
    parts += ["## Options of every command", f"```text\n{_parted(help_of('next'))[1]}\n```"]
    for group, names in sorted(groups.items(), key=lambda one: ORDER.index(one[0]) if one[0] in ORDER else len(ORDER)):
        parts.append(f"## {group}")
        for name in names:
            parts += [
                f"### labloop {name}",
                line((app[name].help or "").split("\n\n")[0]),
                f"```text\n{_parted(help_of(name))[0]}\n```",
            ]
    return "\n\n".join(parts) + "\n"


def help_of(name: str) -> str:
    """Give what `labloop NAME --help` prints, 100 letters wide and without frames and colours."""
    from rich.console import Console

    said = io.StringIO()
    console = Console(file=said, width=100, no_color=True, force_terminal=False)
    with contextlib.redirect_stdout(said):
        assembled().help_print([name], console=console)
    text = re.sub(r"^[╭╰]─*\s?(.*?)\s?─*[╮╯]$", r"\1", said.getvalue(), flags=re.MULTILINE)
    lines = [re.sub(r"^│ (.*?)\s*│$", r"  \1", one).rstrip() for one in text.splitlines()]
    usage = [one for one in lines if one.startswith("Usage")][:1]
    rest = lines[next((i for i, one in enumerate(lines) if one in ("Parameters", "Arguments", "Options")), len(lines)) :]
    return "\n".join([*usage, "", *rest]).strip()


def _parted(text: str) -> tuple[str, str]:
    """Part a help into what is the command's own and the options of every command."""
    own, common, into = [], [], 0
    for one in text.splitlines():
        if found := re.match(r"\s+(?:\*\s+)?(?:[A-Z]+ )?(--[\w-]+)", one):
            into = int(found[1] in COMMON)
        (common if into else own).append(one)
    if own and own[-1] == "Parameters":
        own.pop()
    return "\n".join(own).strip(), "\n".join(common)
