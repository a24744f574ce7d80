"""How a start file was understood, for a terminal; `labloop.cli.show` prints it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.text import Text


def started(
    told: Mapping[str, Any], objective: Mapping[str, Any], *, say: Callable[[Text], None], table: Callable[..., None],
    number: Callable[[Any], str],
) -> None:  # fmt: skip
    """Show how a start file was understood."""
    recognised = f"{told['what']} (reader {told['reader']})" if told["reader"] else "not recognised"
    say(Text(f"Start file {told['file']}: {recognised}"))
    if told["read_as"]:
        say(Text(f"Read as {told['read_as']}"))
    columns = [{"labloop's column": name, "the file's": place} for name, place in told["columns"].items()]
    table(columns, title="Columns")
    if told["refused"] is not None:
        return
    units = ", ".join(f"{name} in {unit or 'no unit'}" for name, unit in told["units"].items())
    failed = f", {told['failed']} without a value" if told["failed"] else ""
    say(Text(f"{told['rows']} rows: {told['designs']} designs, {told['measured']} values{failed}; {units}"))
    if told["outside"]:
        say(Text(f"{told['outside']} designs break a rule of the space: they are learned from, and never proposed"))
    unit = f" {objective['unit']}" if objective["unit"] else ""
    if told["range"]:
        low, high = map(number, told["range"])
        say(Text(f"Values of {objective['assay']} from {low} to {high}{unit}"))
    better = "lower" if objective["direction"] == "min" else "higher"
    table(told["best"], title=f"The best three of {objective['assay']}{unit and f', in{unit}'} ({better} is better)")
    if told["sees"]:
        best = max(told["sees"], key=lambda name: told["sees"][name]["density"])
        learned = told["sees"][best]["correlation"] > 0
        rows = [
            {"seen": name, "rank correlation": f"{one['correlation']:.2f}", "log density": f"{one['density']:.3f}",
             "": "predicts best" if learned and name == best else ""}
            for name, one in told["sees"].items()
        ]  # fmt: skip
        table(rows, title="What a Gaussian process predicts left-out designs by")
        if not learned:
            said = "None of them tells these designs apart yet: left out, each is given little more than the mean of the others"
            say(Text(f"{said}, which alone makes the correlation negative."))
    for one in told["history"]:
        how = (
            f"{one['designs']} designs measured in both"
            if not one["predicted"]
            else f"what it lets expect of {one['designs']} designs"
        )
        agrees = "nothing can be told" if one["correlation"] is None else f"rank correlation {one['correlation']:.2f}"
        say(Text(f"History {one['label']} and this file: {agrees} ({how})"))
