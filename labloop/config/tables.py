"""Tables beside a campaign's file: descriptors and molecules of options, libraries; the configuration takes them in whole.

The ledger keeps what was read, so that a campaign needs the tables once, when its file is read.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.config.base import Place
from labloop.config.embeddings import embeddings, vectors
from labloop.errors import ConfigError
from labloop.runtime.text import decoded, no_text
from labloop.space.parameter import canonical_text
from labloop.space.vectors import Vectors

SIZE = 2**24
"""Bytes that a table may have."""
_COMMA = r"^\s*([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)\s*$"
"""A number with a decimal comma."""
_NAMELESS = "(column "
"""How the name of a column begins that has none; its place follows."""
VECTORS = 2**30
"""Bytes that a file of vectors may have, one a design."""


def with_tables(values: Mapping[str, Any], folder: Path, where: Callable[[Place], str]) -> dict[str, Any]:
    """Put what tables say in the place of their names: `descriptors` of choices and sequences, `smiles` of choices, `library`.

    Paths start at `folder`.

    A choice without options has those of its table, in its order, and a sequence of a library the lengths that are there. What
    names no file stays as it is.

    Raises:
        ConfigError: with the key, the table, its row and column.
    """
    found = copy.deepcopy(dict(values))
    space = found.get("space")
    for i, one in _parameters(space):
        if one.get("type") == "sequence" and isinstance(one.get("descriptors"), str):
            try:
                one["descriptors"] = _vectors(folder / one["descriptors"], str(one["name"]))
            except (ConfigError, ValueError) as error:
                raise ConfigError(f"{where(('space', 'parameters', i, 'descriptors'))}: {error}") from error
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


def files_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Name the tables by whose rows designs are told: `library`, where a file names one."""
    space = values.get("space")
    named = space.get("library") if isinstance(space, dict) else None
    return {"library": Path(named).name} if isinstance(named, str) else {}


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
        columns = list(map(str, components if isinstance(components, list) else [one["name"]]))
        if one.get("type") not in ("choice", "sequence"):
            table = _pointed(table, [column for column in columns if column in table.columns])
        for column in columns:
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


def _vectors(path: Path, parameter: str) -> Vectors:
    """Read a vector a sequence: safetensors, or a CSV keyed as `_read` says."""
    content = _content(path, most=VECTORS)
    if path.suffix == ".safetensors":
        return Vectors.of(*vectors(content, path.name), path.name)
    key = _key(parsed(content, path.name, nrows=0), parameter)
    table = parsed(content, path.name, dtype={key: str})
    numbers = table.drop(columns=key)
    all_named(numbers, path.name)
    if not numbers.shape[1]:
        raise ConfigError(f"{path.name} has no column of numbers beside the sequences")
    odd = [one for one in numbers.columns if numbers[one].dtype.kind not in "iuf" or not np.isfinite(numbers[one]).all()]
    if odd:
        column = numbers[odd[0]]
        cells = pd.to_numeric(column.astype(str), errors="coerce").to_numpy(dtype=float)
        row = int((~np.isfinite(cells)).argmax())
        cell, kind = column.iloc[row], "finite" if np.isinf(cells[row]) else "a number"
        what = "is empty" if pd.isna(cell) else f"{str(cell)!r} is not {kind}"
        raise ConfigError(
            f"{path.name}, row {row + 2} ({table[key].iloc[row]}): {odd[0]} {what}: mend it, or leave the column out"
        )
    names = [str(cell).strip() for cell in table[key]]
    if twice := next((one for one, n in Counter(names).items() if n > 1), None):
        raise ConfigError(f"{path.name}: {key} {twice!r} stands there twice: keep one row a sequence")
    return Vectors.of(names, numbers.to_numpy(dtype=float), path.name)


def _key(table: pd.DataFrame, parameter: str) -> str:
    """The column that names options or sequences: the one named as the parameter, else `option`, else the first."""
    return str(next((one for one in (parameter, "option") if one in table.columns), table.columns[0]))


def _read(path: Path, parameter: str) -> pd.DataFrame:
    """Read a table keyed by the option."""
    table = _table(path)
    key = _key(table, parameter)
    table.index = pd.Index([canonical_text(cell) for cell in table[key].tolist()], dtype=object)
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise ConfigError(f"{path.name}: {key} {twice!r} stands there twice: keep one row an option")
    return _pointed(table, [column for column in table.columns if column != key]).drop(columns=key)


def _content(path: Path, most: int = SIZE) -> bytes:
    """Read a file that is there, is one, and is not too large."""
    try:
        if path.exists() and not path.is_file():  # a pipe may never end
            raise ConfigError(f"{path.name or path} is no file: name a table")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path.name} cannot be read ({reason}); paths start at the campaign's file") from error
    if len(content) > most:
        raise ConfigError(f"{path.name} is larger than {most // 2**20} MiB")
    return content


def _table(path: Path) -> pd.DataFrame:
    """Read a CSV of text."""
    return parsed(_content(path), path.name, dtype=str, keep_default_na=False)


def parsed(content: bytes, name: str, **how: Any) -> pd.DataFrame:
    """Read a CSV as pandas does, with a header over every cell; one by semicolons or tabs may have decimal commas.

    What spreadsheets leave at the end is left out: columns without a name and rows, if all of their cells are blank.

    Raises:
        ConfigError: it is no such table, or has no rows; names the file.
    """
    form = form_of(content, name)

    def read(**how: Any) -> pd.DataFrame:
        return pd.read_csv(BytesIO(content), **{**form, **how})

    try:
        names = read(header=None, nrows=1, dtype=str, na_filter=False).iloc[0].tolist()
        if twice := next((one for i, one in enumerate(names) if one and one in names[:i]), None):
            raise ConfigError(f"{name} has two columns {twice!r}: rename one, or delete it")
        called = [one or _nameless(i) for i, one in enumerate(names)]
        table = read(header=0, names=called, **how)
        if len(table) and not isinstance(table.index, pd.RangeIndex):  # what pandas makes of cells that the header does not name
            called += [_nameless(len(names) + i) for i in range(table.index.nlevels)]
            table = read(header=0, names=called, **how)
    except pd.errors.EmptyDataError as error:
        raise ConfigError(f"{name} is not a CSV table: it is empty") from error
    except pd.errors.ParserError as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"{name} is not a CSV table: {told}: mend it, and put text with a comma in quotes") from error
    blank = table.isna() | (table == "")
    if not blank.iloc[:, len(names) :].all(axis=None):
        raise ConfigError(f"{name}: rows have more cells than the header names ({', '.join(filter(None, names))})")
    kept = [not (one.startswith(_NAMELESS) and blank[one].all()) for one in called]
    table = table.iloc[: np.flatnonzero(~blank.all(axis=1)).max(initial=-1) + 1, kept]
    if table.empty and how.get("nrows") != 0:
        raise ConfigError(f"{name} has no rows")
    table.attrs["commas"] = form["decimal"] == ","
    return table


def form_of(content: bytes, name: str) -> dict[str, Any]:
    """Tell how a CSV is written, as pandas' reader takes it: encoding, separator, decimal mark.

    Raises:
        ConfigError: it is no text; names the file.
    """
    if what := no_text(content):
        raise ConfigError(f"{name} is {what}: open it and save it as CSV")
    try:
        text, encoding = decoded(content)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not text (byte {error.start}): save it as CSV UTF-8") from error
    apart = _separator(text.partition("\n")[0])
    commas = apart != "," and "," in text
    return {"encoding": encoding, "sep": apart, "decimal": "," if commas else ".", "skipinitialspace": True}


def _nameless(i: int) -> str:
    return f"{_NAMELESS}{i + 1})"


def all_named(columns: Iterable[object], name: str) -> None:
    """Refuse a table's column that has no name, where all columns count.

    Raises:
        ConfigError: there is one.
    """
    if one := next((str(one) for one in columns if str(one).startswith(_NAMELESS)), None):
        raise ConfigError(f"{name}: {one.strip('()')} has no name: name it in the first row, or delete it")


def _pointed(table: pd.DataFrame, columns: list[Any]) -> pd.DataFrame:
    """Write the numbers of some columns with a point where the table has decimal commas; names, such as 1,2, stay."""
    if table.attrs["commas"]:
        table[columns] = table[columns].replace(_COMMA, r"\1.\2", regex=True)
    return table


def _separator(heading: str) -> str:
    """Say what a CSV's columns are separated by: the comma, semicolon or tab that its first line has most of, names aside."""
    return max((",", ";", "\t"), key=re.sub(r'"[^"]*"', "", heading).count)


def _numbers(table: pd.DataFrame, name: str) -> dict[str, dict[str, float]]:
    """All columns but SMILES, as numbers."""
    kept = table[[column for column in table.columns if str(column).lower() != "smiles"]]
    if not kept.shape[1]:
        raise ConfigError(f"{name} has no column of numbers beside the options")
    all_named(kept, name)
    values = kept.apply(pd.to_numeric, errors="coerce")
    bad = [(row, column) for column in kept.columns for row in kept.index[~np.isfinite(values[column])]]
    if bad:
        row, column = bad[0]
        cell, kind = kept.loc[row, column], "finite" if np.isinf(values.loc[row, column]) else "a number"
        raise ConfigError(f"{name}, row {row!r}: {column} {cell!r} is not {kind}: mend it, or leave the column out")
    return {str(row): {str(column): float(values.loc[row, column]) for column in kept.columns} for row in kept.index}


def _molecules(table: pd.DataFrame, name: str) -> dict[str, str]:
    """The column `smiles`, else the only one."""
    named = [column for column in table.columns if str(column).lower() == "smiles"] or list(table.columns)
    if len(named) != 1:
        raise ConfigError(f"{name} has no column `smiles` ({', '.join(map(str, table.columns))})")
    return {str(row): str(cell) for row, cell in table[named[0]].items()}
