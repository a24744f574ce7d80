"""Every registered plug-in with its options, their defaults and what is written under them."""

from __future__ import annotations

from dataclasses import MISSING, fields

from _pages.text import code, line, table
from labloop.registry import Kind, available, describe, load, meanings

KINDS: dict[Kind, str] = {
    "proposers": "Proposers offer designs: `arms.*.proposers` of a round.",
    "selectors": "Selectors choose among them: `arms.*.selector` of a round.",
    "surrogates": "Surrogates judge: `judge` of a round.",
    "readers": "Readers know files that labs send: `assays.*.reader` of a campaign, where several know them.",
    "exporters": "Exporters write files for robots and vendors: `plate.exports` of a campaign, `labloop export --for`.",
    "labs": "Simulated labs measure without a lab: `labloop simulate --lab`, and studies.",
}


def plugins() -> str:
    """Write the page."""
    parts = [
        "# Plug-ins and their options",
        "Made from the code. Name one alone, `coms`, or with options: `{coms: {epochs: 20}}` in a file, `coms/epochs=20` on the "
        "command line. `labloop methods` lists what is installed, with plug-ins of others. How to write one: "
        "[a method of your own](../../tutorials/own_method.md).",
    ]
    for kind, told in KINDS.items():
        parts += [f"## {kind.capitalize()}", told]
        for name in available(kind):
            parts += [f"### {name}", _one(kind, name)]
    return "\n\n".join(parts) + "\n"


def _one(kind: Kind, name: str) -> str:
    cls = load(kind, name)
    told = describe(kind, name)
    meant = meanings(cls)
    words = [told["summary"], *(f"Source: {told['source']}." for _ in [0] if told["source"])]
    rows = []
    for field in fields(cls):
        default = field.default
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        rows.append((code(field.name), "required" if default is MISSING else code(default), meant.get(field.name, "")))
    text = line(" ".join(words))
    return f"{text}\n\n{table(('option', 'default', 'what it says'), rows)}" if rows else text
