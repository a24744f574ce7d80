"""Tables beside a campaign's file: descriptors and molecules of options, libraries; the configuration takes them in whole.

The ledger keeps what was read, so that a campaign needs the tables once, when its file is read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from labloop.config.base import Place
from labloop.config.embeddings import embeddings
from labloop.errors import ConfigError
from labloop.space.parameter import canonical_text

SIZE = 2**24
"""Bytes that a table may have."""


def with_tables(values: Mapping[str, Any], folder: Path, where: Callable[[Place], str]) -> dict[str, Any]:
    """Put what tables say in the place of their names: `descriptors` and `smiles` of choices, `library`; paths from `folder`.

    A choice without options has those of its table, in its order, and a sequence of a library the lengths that are there. What
    names no file stays as it is.

    Raises:
        ConfigError: with the key, the table, its row and column.
    """
    found = copy.deepcopy(dict(values))
    space = found.get("space")
    for i, one in _parameters(space):
        if one.get("type") != "choice":
            continue
        for what in ("descriptors", "smiles"):
            told = one.get(what)
            if not isinstance(told, str) or told == "options":
                continue
            try:
                if what == "descriptors" and told.endswith(".safetensors"):
                    one[what] = embeddings(_content(folder / told), Path(told).name)
                else:
                    table = _read(folder / told, str(one.get("name", "")))
                    one[what] = _numbers(table, told) if what == "descriptors" else _molecules(table, told)
            except ConfigError as error:
                raise ConfigError(f"{where(('space', 'parameters', i, what))}: {error}") from error
            one.setdefault("options", list(one[what]))
    if isinstance(space, dict) and isinstance(space.get("library"), str):
        try:
            space["library"] = _library(folder / space["library"], space)
        except ConfigError as error:
            raise ConfigError(f"{where(('space', 'library'))}: {error}") from error
    return found


def _parameters(space: Any) -> list[tuple[int, dict[str, Any]]]:
    """List the parameters that have a name, with their places; what else stands there is refused with the rest of the file."""
    told = space.get("parameters") if isinstance(space, dict) else None
    every = enumerate(told if isinstance(told, list) else ())
    return [(i, one) for i, one in every if isinstance(one, dict) and isinstance(one.get("name"), str)]


def _library(path: Path, space: Mapping[str, Any]) -> dict[str, list[str]]:
    """Read a library's columns, those of the parameters; others are the lab's own. Parameters learn from it what they lack."""
    table = _table(path)
    found: dict[str, list[str]] = {}
    for _, one in _parameters(space):
        components = one.get("components")
        for column in map(str, components if isinstance(components, list) else [one["name"]]):
            if column not in table.columns:
                raise ConfigError(f"{path.name} has no column {column!r} ({', '.join(map(str, table.columns))})")
            found[column] = [str(cell).strip() for cell in table[column]]
            blank = next((i for i, cell in enumerate(found[column]) if not cell), None)
            if blank is not None:
                raise ConfigError(f"{path.name}, row {blank + 2}: {column} is blank: mend it, or take the row out")
        if one.get("type") == "choice":
            one.setdefault("options", list(dict.fromkeys(canonical_text(cell) for cell in found.get(one["name"], ()))))
        lengths = {len(cell) for cell in found.get(one["name"], ())}
        if one.get("type") == "sequence" and lengths and not one.get("parent"):
            one.setdefault("length", [min(lengths), max(lengths)] if len(lengths) > 1 else max(lengths))
    return found


def _read(path: Path, parameter: str) -> pd.DataFrame:
    """Read a table keyed by the option: the column named as the parameter, else `option`, else the first."""
    table = _table(path)
    key = next((one for one in (parameter, "option") if one in table.columns), table.columns[0])
    table.index = pd.Index([canonical_text(cell) for cell in table[key].tolist()], dtype=object)
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise ConfigError(f"{path.name}: {key} {twice!r} stands there twice: keep one row an option")
    return table.drop(columns=key)


def _content(path: Path) -> bytes:
    """Read a file that is there, is one, and is not too large."""
    try:
        if path.exists() and not path.is_file():  # a pipe may never end
            raise ConfigError(f"{path.name or path} is no file: name a table")
        with path.open("rb") as file:
            content = file.read(SIZE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path.name} cannot be read ({reason}); paths start at the campaign's file") from error
    if len(content) > SIZE:
        raise ConfigError(f"{path.name} is larger than {SIZE // 2**20} MiB")
    return content


def _table(path: Path) -> pd.DataFrame:
    """Read a CSV of text."""
    try:
        table = pd.read_csv(BytesIO(_content(path)), dtype=str, skipinitialspace=True, keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ConfigError(f"{path.name} is not a CSV table: {' '.join(str(error).split())}") from error
    if not isinstance(table.index, pd.RangeIndex):  # what pandas makes of cells that the header does not name
        raise ConfigError(f"{path.name}: rows have more cells than the header names ({', '.join(map(str, table.columns))})")
    return table


def _numbers(table: pd.DataFrame, name: str) -> dict[str, dict[str, float]]:
    """All columns but SMILES, as numbers."""
    kept = table[[column for column in table.columns if str(column).lower() != "smiles"]]
    if not kept.shape[1]:
        raise ConfigError(f"{name} has no column of numbers beside the options")
    values = kept.apply(pd.to_numeric, errors="coerce")
    bad = [(row, column) for column in kept.columns for row in kept.index[values[column].isna()]]
    if bad:
        row, column = bad[0]
        cell = kept.loc[row, column]
        raise ConfigError(f"{name}, row {row!r}: {column} {cell!r} is not a number: mend it, or leave the column out")
    return {str(row): {str(column): float(values.loc[row, column]) for column in kept.columns} for row in kept.index}


def _molecules(table: pd.DataFrame, name: str) -> dict[str, str]:
    """The column `smiles`, else the only one."""
    named = [column for column in table.columns if str(column).lower() == "smiles"] or list(table.columns)
    if len(named) != 1:
        raise ConfigError(f"{name} has no column `smiles` ({', '.join(map(str, table.columns))})")
    return {str(row): str(cell) for row, cell in table[named[0]].items()}
