"""Tables of people (pandas) to columns of plain values for the database, and back. Missing is None there and NaN here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import infer_dtype, is_float_dtype, is_integer_dtype
from sqlalchemy import Connection, Executable, Table

from labloop.ledger.database import fetch_blocks

TEXT: Any = "str" if pd.Series(["a"]).dtype == "str" else np.dtype(object)
"""The dtype of text: `str` since pandas 3, kept as its options say at that moment; `object` before."""
_PART = 50_000
"""Cells of a column that live as Python's objects at a time."""
_DTYPES = {float: np.dtype(float), int: pd.Int64Dtype(), str: TEXT}


def to_columns(
    frame: pd.DataFrame, table: Table, names: Iterable[str], *, defaults: Mapping[str, Any] | None = None
) -> dict[str, list[Any]]:
    """Take the columns `names` of a frame as lists that suit the table's columns.

    Args:
        defaults: what an absent column or a missing cell stands for; an absent column without a default is missing throughout.

    Raises:
        ValueError: the frame has other columns than these, an infinite number, a gap where the table allows none, or a cell of
            the wrong type.
    """
    names = list(names)
    unknown = [str(name) for name in frame.columns if name not in names]
    if unknown:
        raise ValueError(f"the ledger's {table.name} table has no column {', '.join(unknown)}; it takes {', '.join(names)}")
    out = {}
    for name in names:
        default = (defaults or {}).get(name)
        if name in frame.columns:
            out[name] = _cells(frame[name], table.c[name].type.python_type, default)
        else:
            out[name] = [default] * len(frame)
        if not table.c[name].nullable and None in out[name]:
            raise ValueError(f"{table.name}.{name} may not be missing (row {out[name].index(None)})")
    return out


def _cells(series: pd.Series[Any], kind: type, default: Any) -> list[Any]:
    missing = series.isna().to_numpy(dtype=bool)
    if kind is str:
        return _texts(series, missing, default)
    numbers = pd.to_numeric(series)
    if kind is int and is_integer_dtype(numbers) and not missing.any():
        return numbers.tolist()
    values = numbers.to_numpy(dtype=float, na_value=np.nan) + 0.0  # no minus zero: SQLite does not keep its sign
    if np.isinf(values).any():
        raise ValueError(f"column {series.name!r} holds an infinite number: a reading off the scale needs a qualifier instead")
    if kind is int and (values[~missing] % 1 != 0).any():
        raise ValueError(f"column {series.name!r} holds a number that is not whole")
    cells: list[Any] = np.where(missing, 0, values).astype(int).tolist() if kind is int else values.tolist()
    return [default if gone else cell for cell, gone in zip(cells, missing.tolist())] if missing.any() else cells


def _texts(series: pd.Series[Any], missing: NDArray[np.bool_], default: str | None) -> list[Any]:
    texts = series.to_numpy(dtype=object, copy=True)
    texts[missing] = default
    cells: list[Any] = texts.tolist()
    if infer_dtype(texts, skipna=True) in ("string", "empty"):
        return cells
    return [cell if isinstance(cell, str) or gone else str(cell) for cell, gone in zip(cells, missing.tolist())]


def to_frame(rows: Sequence[Sequence[Any]], columns: Mapping[str, type]) -> pd.DataFrame:
    """Make a frame of rows from the database; `columns` names each one's type: float, int (may have gaps) or str."""
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    made = {name: _array(list(cell), kind) for (name, kind), cell in zip(columns.items(), cells)}
    return pd.DataFrame(made, copy=False)


def _array(cells: Sequence[Any], kind: type) -> Any:
    """Make a column's array: of few rows, a frame of series takes three times as long, as it aligns them."""
    return pd.array(cells, dtype=_DTYPES[kind])  # type: ignore[call-overload]


def read_frame(connection: Connection, query: Executable, columns: Mapping[str, type]) -> pd.DataFrame:
    """Read a query into a frame, as `to_frame`; block by block, which takes a third of the time and of the memory."""
    kinds = list(columns.values())
    parts: list[list[Any]] = [[] for _ in columns]
    held: list[list[Any]] = [[] for _ in columns]

    def settle() -> None:
        for part, cells, kind in zip(parts, held, kinds):
            part.append(_array(cells, kind))
            cells.clear()

    for block in fetch_blocks(connection, query):
        for cells, more in zip(held, zip(*block)):
            cells.extend(more)
        if len(held[0]) >= _PART:
            settle()
    if held and held[0]:
        settle()
    whole = {
        name: part[0] if len(part) == 1 else pd.concat(map(pd.Series, part), ignore_index=True) if part else _array([], kind)
        for name, part, kind in zip(columns, parts, kinds)
    }
    return pd.DataFrame(whole, copy=False)


def column_of(cells: Sequence[Any], table: Table, name: str) -> pd.Series[Any]:
    """Make a column of cells of a table's column, as `read_frame` would read them."""
    return pd.Series(cells, dtype=_DTYPES[table.c[name].type.python_type])


def types_of(table: Table, names: Iterable[str]) -> dict[str, type]:
    """Name the Python type of each of a table's columns."""
    return {name: table.c[name].type.python_type for name in names}


def to_texts(designs: pd.DataFrame) -> list[str]:
    """Write each row as a JSON object of its columns; whole numbers stay whole, missing cells are null.

    Raises:
        ValueError: a number is infinite.
    """
    for name in designs.columns:
        if is_float_dtype(designs[name]) and np.isinf(designs[name].to_numpy(dtype=float, na_value=np.nan)).any():
            raise ValueError(f"column {name!r} holds an infinite number, which no design can")
    names = [json.dumps(str(name), ensure_ascii=False) for name in designs.columns]
    if not names:
        return ["{}"] * len(designs)
    # One call a column instead of one a row: JSON escapes every line break in a text, so that a bare one parts the cells.
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=("\n", ":"), default=_plain).encode
    cells = []
    for name in designs.columns:
        values = designs[name].to_numpy(dtype=object, copy=True)
        values[designs[name].isna().to_numpy(dtype=bool)] = None
        cells.append(encode(values.tolist())[1:-1].split("\n"))
    template = "{" + ",".join(name.replace("%", "%%") + ":%s" for name in names) + "}"
    return [template % row for row in zip(*cells, strict=True)] if len(designs) else []


def from_texts(texts: Sequence[str]) -> pd.DataFrame:
    """Read rows written by `to_texts`; rows with other columns than their neighbours get NaN in those that they lack."""
    rows = json.loads(f"[{','.join(texts)}]")  # one call: a million small ones cost ten times as much
    if not rows:
        return pd.DataFrame()
    names = list(rows[0])
    if all(list(row) == names for row in rows):
        return pd.DataFrame({name: [row[name] for row in rows] for name in names})
    return pd.DataFrame(rows)


def to_json(value: Any) -> str:
    """Write what a proposer or a person tells as JSON: NaN becomes null, an infinite number the text "inf" or "-inf"."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def from_json(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Read what `to_json` wrote, None where there is nothing."""
    return pd.Series([json.loads(one) if isinstance(one, str) else None for one in texts], dtype=object)


def plain_number(value: float | None) -> float | None:
    """Give a number as a cell: None where there is none.

    Raises:
        ValueError: it is infinite.
    """
    if value is None or np.isnan(value):
        return None
    if np.isinf(value):
        raise ValueError("the ledger takes no infinite number")
    return float(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _finite(value.tolist())
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a design cannot hold {value!r} ({type(value).__name__})")
