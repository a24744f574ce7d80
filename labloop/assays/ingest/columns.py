"""Find out what a file's columns are: by the campaign's mapping, else by labloop's own names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from labloop.assays.ingest.cells import fold
from labloop.config.assay import ROLES
from labloop.config.campaign import CampaignConfig
from labloop.errors import IngestError
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence

_OWN: tuple[tuple[set[str], str], ...] = (
    ({"arm", "proposer", "rank", "design_id"}, "labloop's pick list"),
    ({"plate", "well", "sample"}, "labloop's plate map"),
)
"""Columns by which labloop's own files are known that hold no results."""
_NEEDED_WHEN_MAPPED = ("value", "unit", "status")
"""Without these a number means something else, so a file that lost one of them is not read."""


def known_names(config: CampaignConfig, assay: str) -> tuple[str, ...]:
    """List every column name that this campaign can understand."""
    several = [name for one in config.goal.assays for name in config.column_of(one)] if config.goal is not None else []
    shared = [told for names in _shared(config).values() for told in names]
    return (*ROLES, *config.space.columns, *config.assays[assay].columns.values(), *shared, *several, *_own_name(config, assay))


def _own_name(config: CampaignConfig, assay: str) -> tuple[str, ...]:
    """Give an assay's name as that of its values' column, where that is free."""
    return () if assay in (*ROLES, *config.space.columns) else (assay,)


def value_column(header: Collection[str], config: CampaignConfig, assay: str, *, file: str) -> str | None:
    """Give the column in which a table of several properties has this one's values; None where it has none of its own."""
    mapped = config.assays[assay].columns.get("value")
    for name in (*([mapped] if mapped else []), *config.column_of(assay)):
        if place := _locate(name, header, file):
            return place
    return None


def lost_column(header: Collection[str], config: CampaignConfig, assay: str) -> str | None:
    """Find a column that is a property's by its name, but for a unit behind it: `potency (nM)`, `potency_nM`."""
    unit = re.escape(config.property_of(assay).unit or "\0")
    names = "|".join(map(re.escape, config.column_of(assay)))
    shape = re.compile(rf"(?:{names})[\s_/-]*(?:\(.*\)|\[.*\]|(?:in )?{unit})", re.IGNORECASE)
    return next((one for one in header if shape.fullmatch(one)), None)


def find_columns(
    header: Collection[str], config: CampaignConfig, assay: str, *, file: str, value: str | None = None
) -> dict[str, str]:
    """Give for each of labloop's columns that the file has the lab's name of it.

    Args:
        value: the column of the values, where properties have columns of their own; unit and status then are `VALUE_unit` and
            `VALUE_status` where there are such columns, and a `unit` that several properties have in common is nobody's.

    Raises:
        IngestError: there is no value or no key; the message lists the file's columns and the YAML to add.
    """
    mapping = config.assays[assay].columns
    names = (*ROLES, *config.space.columns)
    shared = _shared(config)
    if value is not None:
        own = {role: f"{value}_{role}" for role in ("unit", "status") if _locate(f"{value}_{role}", header, file)}
        mapping = {**mapping, "value": value, **own}
        beside = [one for one in (config.goal.assays if config.goal else ()) if one != assay]
        if any(value_column(header, config, one, file=file) for one in beside):
            names = tuple(name for name in names if name != "unit" or "unit" in mapping)
    if strange := sorted(set(mapping) - set(names)):
        raise IngestError(
            f"{file}: assays.{assay}.columns maps {', '.join(strange)}, which labloop does not know; it knows {', '.join(names)}"
        )
    found = {}
    for name in names:
        place = _locate(mapping[name], header, file) if name in mapping else None
        place = (
            place
            or _locate(name, header, file)
            or next((one for told in shared.get(name, ()) if (one := _locate(told, header, file))), None)
        )
        if place is None and name == "value" and name not in mapping:
            place = next((one for own in _own_name(config, assay) if (one := _locate(own, header, file))), None)
        if place is not None:
            found[name] = place
        elif name == "value" and (ours := next((said for columns, said in _OWN if columns <= set(header)), "")):
            raise IngestError(f"{file}: is {ours}, which holds no results: fill the form in, …_assay.csv, and ingest that")
        elif name in mapping and name in _NEEDED_WHEN_MAPPED:
            raise IngestError(
                f"{file}: has no column {mapping[name]!r}, which assays.{assay}.columns.{name} names. "
                f"{_listed(header)} Mend the name there, or the file."
            )
    twice = sorted({place for place in found.values() if list(found.values()).count(place) > 1})
    if twice:
        uses = ", ".join(name for name, place in found.items() if place == twice[0])
        raise IngestError(f"{file}: column {twice[0]!r} is read as {uses}: mend assays.{assay}.columns so that each has its own")
    alike = [one for one in header if fold(one) == "value"]
    if found.get("value") in alike and len(alike) > 1 and "value" not in mapping:
        raise IngestError(f"{file}: columns {' and '.join(map(repr, alike))} could both be 'value': rename one, or delete it")
    if "value" not in found:
        raise IngestError(f"{file}: has no column 'value'. {_listed(header)} Say which one it is:\n{_yaml(assay, ['value'])}")
    if not tells_designs(found, config.space) and "sample" not in found:
        half = next((name for name in ("plate", "well") if name in found), None)
        keys = ["plate", "well"] if half is None else [name for name in ("plate", "well") if name != half]
        designs = [name for name in config.space.columns if name not in found]
        raise IngestError(
            f"{file}: no column says which design a row is: it takes plate and well (--plate says that of all rows), or sample "
            f"(see plate map), or design_id, or {' and '.join(config.space.columns)}. {_listed(header)} "
            f"Say which they are, for instance:\n{_yaml(assay, keys)}"
            f"\nor, where a row tells its design:\n{_yaml(assay, designs)}"
        )
    if beside := _beside(header, found):
        raise IngestError(
            f"{file}: columns {', '.join(beside)} look like a second table beside the first, which would be lost: put its rows "
            "below the others, or delete it"
        )
    return found


def _beside(header: Collection[str], found: Mapping[str, str]) -> list[str]:
    """Find a second table to the right of the first: columns of values and keys with the same names and one number behind."""
    again: dict[str, dict[str, str]] = {}
    for one in header:
        if one not in found.values() and (match := re.fullmatch(r"(.*?)[\s_.-]*([0-9]+)", one)):
            again.setdefault(match[2], {})[fold(match[1])] = one
    used = [name for name in ("plate", "well") if name in found] or [name for name in ("design_id", "sample") if name in found]
    for alike in again.values():
        keys = [alike[fold(found[name])] for name in used if fold(found[name]) in alike]
        if keys and fold(found["value"]) in alike:
            return [*keys, alike[fold(found["value"])]]
    return []


def tells_designs(found: Collection[str], space: DesignSpace) -> bool:
    """Whether columns tell what a row is of without its tube's name."""
    return all(column in found for column in space.columns) or "design_id" in found or {"plate", "well"} <= set(found)


def _shared(config: CampaignConfig) -> dict[str, list[str]]:
    """Give the names that any assay's files have for what tells a row's design or well: a file of several has them once."""
    keys = ("plate", "well", "design_id", *config.space.columns)
    return {key: [one.columns[key] for one in config.assays.values() if key in one.columns] for key in keys}


def design_columns(header: Collection[str], config: CampaignConfig, *, file: str) -> dict[str, str]:
    """Give for each of the space's columns, and for `design_id`, the file's name of it, where the file has it."""
    mapping = config.assays[config.objective.assay].columns
    found = {}
    for name in (*config.space.columns, "design_id"):
        place = _locate(mapping[name], header, file) if name in mapping else None
        if place := place or _locate(name, header, file):
            found[name] = place
    return found


def check_sequences(reader: str, header: Collection[str], config: CampaignConfig, *, file: str) -> None:
    """See that a campaign whose designs have no sequence is not sent FASTA; one whose headers say the designs is.

    Raises:
        IngestError: it is.
    """
    if reader != "fasta" or any(isinstance(parameter, Sequence) for parameter in config.space):
        return
    if not tells_designs({*header, *design_columns(header, config, file=file)}, config.space):
        raise IngestError(
            f"{file}: is FASTA, but the designs of {config.name} have no sequence: send a table, one row a design, with "
            f"{', '.join(config.space.columns)}"
        )


def lacks_plate(header: Collection[str], config: CampaignConfig, assay: str, *, file: str) -> bool:
    """Whether a table's rows name wells but neither plates nor designs."""
    mapping = config.assays[assay].columns

    def has(name: str) -> bool:
        return any(_locate(one, header, file) for one in (mapping.get(name), name) if one)

    return has("well") and not (has("plate") or has("design_id") or all(map(has, config.space.columns)))


def _locate(name: str, header: Collection[str], file: str) -> str | None:
    if name in header:
        return name
    alike = [one for one in header if fold(one) == fold(name)]
    if len(alike) > 1:
        raise IngestError(f"{file}: columns {' and '.join(map(repr, alike))} could both be {name!r}: rename one")
    return alike[0] if alike else None


def _listed(header: Collection[str]) -> str:
    return f"Its columns are: {', '.join(header)}."


def _yaml(assay: str, names: list[str]) -> str:
    lines = ["assays:", f"  {assay}:", "    columns:", *[f"      {name}: <the file's name for it>" for name in names]]
    return "\n".join("    " + line for line in lines)
