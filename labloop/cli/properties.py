"""What is said of several properties on a terminal: lines and rows, which `labloop.cli.show` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labloop.runtime.numbers import spelt


def rows(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give a row a property of what `labloop.rounds.properties.standing` tells; none where there is one objective only."""
    return [
        {"property": name, "designs": one["designs"], "best": one.get("best"), "unit": one["unit"],
         "limit": one.get("limit"), "designs that keep it": one.get("keep_it")}
        for name, one in status.get("properties", {}).items()
    ]  # fmt: skip


def lines(status: Mapping[str, Any]) -> list[str]:
    """Say how many compromises there are, or the best that keeps the limits, and what failed."""
    told = []
    if "compromises" in status:
        n = status["compromises"]
        what = "design is a compromise" if n == 1 else "designs are compromises"
        told.append(f"{n} {what} that no other beats: labloop report shows them")
        if n := status.get("compromises_not_measured"):
            told.append(f"Of these, {n} are taken to keep a limit that was not measured")
    if status.get("best_that_keeps_limits") is not None:
        lead: Mapping[str, Any] = next(iter(status.get("properties", {}).values()), {})
        best = f"Best that keeps the limits: {spelt(status['best_that_keeps_limits'])} {lead.get('unit') or ''}".rstrip()
        unknown = ", ".join(status.get("taken_as_kept") or ())
        told.append(best + (f" (its {unknown} is not measured, and taken as kept)" if unknown else ""))
    if n := status.get("failed_designs"):
        what = "design failed by itself" if n == 1 else "designs failed by themselves"
        told.append(f"{n} {what}: where designs fail is learned, and fewer such are proposed")
    return told


def checked(understood: Mapping[str, Any]) -> list[str]:
    """Say how objectives and limits were understood."""
    told = []
    for name, one in understood.get("objectives", {}).items():
        unit = f" in {one['unit']}" if one["unit"] else ""
        better = "lower" if one["direction"] == "min" else "higher"
        more = [f"weight {one['weight']:g}"] * (one["weight"] != 1)
        more += [f"worth having from {one['threshold']:g}"] if one["threshold"] is not None else []
        more += ["not every design is measured"] * (not one["required"])
        told_more = f" ({', '.join(more)})" if more else ""
        told.append(f"Objective {name}: assay {one['assay']}{unit}, {better} is better{told_more}")
    told += [f"Limit {name}: assay {one['assay']}, {one['says']}" for name, one in understood.get("constraints", {}).items()]
    if understood.get("waits_for"):
        told.append(f"A round waits for a value of {', '.join(understood['waits_for'])} in every well")
    return told
