"""The command `labloop methods`: every plug-in in a table, or all that is known of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, _research, app


@app.command(group=_research)
def methods(name: str | None = None, *, common: Common = Common()) -> None:
    """List proposers, surrogates, selectors, simulated labs, readers and exporters of files, or tell all of one of them.

    Args:
        name: one of them, such as coms: what it assumes, its paper, what it costs, and each option with its default.
    """
    from labloop.registry import Kind, available, describe, explain

    if name is not None:
        return _one(explain(name), json=common.json)
    kinds: tuple[Kind, ...] = ("proposers", "surrogates", "selectors", "labs", "readers", "exporters")
    _all({kind: [describe(kind, name) for name in available(kind)] for kind in kinds}, json=common.json)


def _all(found: Mapping[str, Sequence[Mapping[str, Any]]], *, json: bool) -> None:
    """Show the plug-ins that there are."""
    if json:
        return show.dump(found)
    for kind, plugins in found.items():
        rows = [
            {
                "name": one["name"], **({"family": one["family"]} if kind == "proposers" else {}),
                "what it does": " ".join([one["summary"], *(f"{key}: {one[key]}." for key in ("source", "cost") if one[key])]),
                **({"spaces": ", ".join(one["kinds"])} if kind == "proposers" else {}), "options": ", ".join(one["options"]),
            }
            for one in sorted(plugins, key=lambda one: one["family"])
        ]  # fmt: skip
        show._table(rows, title=kind)


def _one(found: Sequence[Mapping[str, Any]], *, json: bool) -> None:
    """Show all of the plug-ins of a name."""
    if json:
        return show.dump(list(found))
    for one in found:
        show.out.print(Text(f"{one['name']}, one of the {one['kind']}", style="bold"))
        facts = {"family": one["family"], "paper": one["source"], "cost": one["cost"]}
        if one["kind"] == "proposers":
            facts["spaces"] = ", ".join(one["kinds"])
            facts["published settings"] = (
                f"known: {one['name']}/paper=true in a command, paper: true in a file, .paper() in Python"
                if one["paper"]
                else "none are kept"
            )
        for name, told in facts.items():
            if told:
                show.out.print(Text(f"  {name}: {told}"))
        for told in one["about"]:
            if told:
                show.out.print(Text(f"\n{told}"))
        if one["options"]:
            show.out.print()
        rows = [{"option": o["name"], "default": _default(o["default"]), "what it says": o["means"]} for o in one["options"]]
        show._table(rows, title="Options", whole=["option"])
        if one["options"] and one["kind"] in ("proposers", "surrogates", "selectors"):
            show.out.print(
                Text(f"In a file {{{one['name']}: {{OPTION: VALUE}}}}, on the command line {one['name']}/OPTION=VALUE.")
            )


def _default(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value) or "''"
