"""What the made pages share: what is written under an attribute, and tables of Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence


def line(text: str) -> str:
    """Put a text on one line."""
    return " ".join(text.split())


def first(cls: type) -> str:
    """Give the first paragraph of a class's own docstring."""
    return line((inspect.cleandoc(cls.__doc__) if cls.__doc__ else "").split("\n\n")[0])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines) + "\n"


def code(value: object) -> str:
    """Put a value as YAML writes it between backticks; nothing where there is none."""
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    text = str(value) if value != "" else "''"
    return f"``{text}``" if "`" in text else f"`{text}`"
