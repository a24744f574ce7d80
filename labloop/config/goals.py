"""What `objective`, `objectives` and `constraints` of a campaign's file mean, spelled out before the file is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def spelled_out(raw: Any) -> Any:
    """Fill in what properties leave to be understood: their assays, and the leading one of several as the `objective`.

    An objective's assay needs no `assays` where nothing is said of how its files are read. Of several properties each has an
    assay of its own name unless it says otherwise; assays that nobody describes are added. The first of `objectives` is the
    leading one: it is what a single figure of a campaign is told in.

    Raises:
        ValueError: the file has both `objective` and `objectives`, and they do not agree.
    """
    if not isinstance(raw, Mapping):
        return raw
    told = dict(raw)
    if not (raw.get("objectives") or raw.get("constraints")):
        name = objective.get("assay") if isinstance(objective := raw.get("objective"), Mapping) else None
        return {**told, "assays": {name: {}}} if name and isinstance(name, str) and "assays" not in raw else raw
    if hasattr(told.get("objective"), "model_dump"):
        told["objective"] = told["objective"].model_dump()
    targets, limits = (_named(told.get(key)) for key in ("objectives", "constraints"))
    if targets is None or limits is None:
        return raw  # which is refused with its place
    for name, limit in limits.items():
        if name in targets:
            mine = {key: targets[name][key] for key in ("assay", "unit", "transform") if key in targets[name]}
            limit.update({key: value for key, value in mine.items() if not limit.get(key)})
    for part, every in (("objectives", targets), ("constraints", limits)):
        for name, one in every.items():
            one["assay"] = one.get("assay") or name
            if not isinstance(one["assay"], str):
                raise ValueError(f"{part}.{name}.assay: is one assay's name, not {one['assay']!r}: make a property of each assay")
    if targets:
        lead = next(iter(targets.values()))
        own = {key: lead[key] for key in ("assay", "direction", "unit", "transform") if key in lead}
        given = told.get("objective")
        if isinstance(given, Mapping) and any(given.get(key) != value for key, value in own.items()):
            raise ValueError("objective and objectives: give one of them; the first of objectives leads")
        told["objective"] = {**(given if isinstance(given, Mapping) else {}), **own}
        told["objectives"] = targets
    told["constraints"] = limits
    assays = told.get("assays")
    assays = dict(assays) if isinstance(assays, Mapping) else {}
    if not assays and not targets:
        given = told.get("objective")
        assays[str(given.get("assay", "assay")) if isinstance(given, Mapping) else "assay"] = {}
    for one in (*targets.values(), *limits.values()):
        if one["assay"] not in assays:
            assays[one["assay"]] = {}
    told["assays"] = assays
    return told


def _named(given: Any) -> dict[str, dict[str, Any]] | None:
    """Copy a map of properties; None where it is none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return None
    found = {}
    for name, one in given.items():
        if hasattr(one, "model_dump"):
            one = one.model_dump()
        if one is not None and not isinstance(one, Mapping):
            return None
        found[str(name)] = dict(one or {})
    return found
