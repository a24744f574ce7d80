"""A simulated lab that looks values up in a complete table of designs."""

from __future__ import annotations

import gzip
import zlib
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from labloop.config.tables import all_named, parsed
from labloop.errors import ConfigError, DesignError, Fault, MethodError
from labloop.registry import plugin
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import ALPHABETS, Choice, Integer, Parameter, Real, Sequence
from labloop.studies.labs.wells import Noise, Share, Tabulated, readings
from labloop.types import Array, FloatArray

__all__ = ["Lookup", "Noise", "Share", "readings"]


@plugin
class Lookup(Tabulated):
    """Any complete table of designs and values as a lab: what it measures is the table's value, plus noise if asked for."""

    path: Path
    """A CSV file in UTF-8, UTF-16 or Latin-1, gzipped or not; one by semicolons or tabs may have decimal commas."""
    value: str = "value"
    """The column of the values; all others that hold more than one value are the design, unless `columns` names them."""
    properties: tuple[str, ...] = ()
    """Columns of what else was measured: several properties, told beside `value` under these names, each empty cell a gap. The
    leading one is the column of the values."""
    columns: tuple[str, ...] | None = None
    """The design columns."""
    design_space: DesignSpace | None = None
    """The space of the designs; read from the table where none is given."""
    missing: Literal["refuse", "failed"] = "refuse"
    """What becomes of valid designs that the table lacks: the table is refused, or their wells fail (`failed_design`)."""

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Look designs up as every table does; with `properties` each is a column more, NaN in a well that has no value.

        Noise and effects of plates are of the leading one, as their unit is its unit.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        if not self.properties:
            return super().measure(designs, seed=seed)
        rows = self._rows_of(designs)
        result = self._looked_up(rows, designs, seed)
        gone = result["value"].isna().to_numpy()
        others = {name: np.where(gone, np.nan, known[rows]) for name, known in self._others.items()}
        return result.assign(**{name: others.get(name, result["value"]) for name in self.properties})

    @cached_property
    def _others(self) -> dict[str, FloatArray]:
        """The properties that are not the leading one, in the table's order."""
        raw, there = self._raw, [str(one) for one in self._raw.columns]
        if self.value not in self.properties or (set(self.properties) - set(there)):
            raise MethodError(
                f"lab lookup: properties are {', '.join(self.properties)}: name columns of {self.path.name}, the leading one, "
                f"{self.value!r}, among them (there are: {', '.join(there)})"
            )
        return {name: self._numbers(raw, name, gaps=True) for name in self.properties if name != self.value}

    @cached_property
    def _raw(self) -> pd.DataFrame:
        return self._read()

    @cached_property
    def _table(self) -> tuple[DesignSpace, FloatArray, FloatArray]:
        """The space, its designs X (n, d) and their values (n,)."""
        raw = self._raw
        values = self._values(raw)
        columns = self._design_columns(raw)
        space = self.design_space or _space_of(raw, columns, self.path.name)
        try:
            X = space.encode(raw)
        except DesignError as error:
            faults = [Fault(fault.row + 2, fault.column, fault.rule, fault.cell) for fault in error.faults]
            raise DesignError(f"{self.path.name}: {error.summary}", faults) from error
        ids = np.array(space.ids(X))
        _, first, group = np.unique(ids, return_index=True, return_inverse=True)
        twice = np.flatnonzero(first[group] != np.arange(len(ids)))
        if len(twice):
            faults = [
                Fault(int(i) + 2, ", ".join(space.columns), f"is the design of row {first[group[i]] + 2} again",
                      ", ".join(str(raw[c].iloc[i]) for c in space.columns)) for i in twice
            ]  # fmt: skip
            raise DesignError(f"{self.path.name}: each design needs one value; keep one row a design, or its mean", faults)
        self._complete(space, set(ids.tolist()))
        return space, X, values

    def _read(self) -> pd.DataFrame:
        try:
            content = self.path.read_bytes()
            content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
            for how in ({}, {"decimal": "."}):  # commas in names are no decimal ones
                raw = parsed(content, self.path.name, keep_default_na=False, na_values=[""], **how)
                numeric = self.value in raw.columns and pd.api.types.is_numeric_dtype(raw[self.value])
                if numeric or not raw.attrs["commas"]:
                    break
        except (OSError, EOFError, zlib.error) as error:
            raise MethodError(f"lab lookup: {self.path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
        except ConfigError as error:
            raise MethodError(f"lab lookup: {error}") from error
        return raw

    def _values(self, raw: pd.DataFrame) -> FloatArray:
        there = ", ".join(map(str, raw.columns))
        if self.value not in raw.columns:
            raise MethodError(f"lab lookup: {self.path.name} has no column {self.value!r} (there are: {there}); set `value`")
        return self._numbers(raw, self.value)

    def _numbers(self, raw: pd.DataFrame, column: str, *, gaps: bool = False) -> FloatArray:
        """Read a column of values (n,); with gaps an empty cell is NaN."""
        values = pd.to_numeric(raw[column], errors="coerce").to_numpy(dtype=float)
        bad = np.flatnonzero(~np.isfinite(values) & ~(raw[column].isna().to_numpy() & gaps))
        if len(bad):
            faults = [Fault(int(i) + 2, column, "is not a finite number", str(raw[column].iloc[i])) for i in bad]
            told = "leave a cell empty where nothing was measured" if gaps else "every design needs a value"
            raise DesignError(f"{self.path.name}: {told}", faults)
        return values

    def _design_columns(self, raw: pd.DataFrame) -> list[str]:
        wanted = self.columns or (self.design_space.columns if self.design_space else None)
        others = [str(column) for column in raw.columns if column not in (self.value, *self.properties)]
        columns = list(wanted or [column for column in others if raw[column].nunique(dropna=False) > 1] or others)
        missing = [column for column in columns if column not in raw.columns]
        if missing or not columns:
            raise MethodError(f"lab lookup: {self.path.name} has no design column {', '.join(missing)}".rstrip())
        empty = [(i, column) for column in columns for i in np.flatnonzero(raw[column].isna())]
        if empty:
            faults = [Fault(int(i) + 2, column, "is empty", "") for i, column in sorted(empty)]
            raise DesignError(f"{self.path.name}: every design needs all of its columns", faults)
        if not wanted:
            all_named(columns, self.path.name)
        return columns

    def _complete(self, space: DesignSpace, ids: set[str]) -> None:
        if self.missing == "failed" or not space.listable:
            return
        absent = np.array([i for i, one in enumerate(space.listing_ids) if one not in ids], dtype=np.int64)
        if len(absent):
            shown = "; ".join(", ".join(map(str, row)) for row in space.decode(space.listing()[absent[:3]]).to_numpy())
            raise MethodError(
                f"lab lookup: {self.path.name} lacks {len(absent):,} of the {len(space.listing()):,} designs of its space, "
                f"such as {shown}: add them, name the design columns in `columns`, give the space, or set `missing: failed`"
            )


def _space_of(raw: pd.DataFrame, columns: list[str], name: str) -> DesignSpace:
    try:
        return DesignSpace(parameters=tuple(_parameter_of(column, raw[column], alone=len(columns) == 1) for column in columns))
    except ValidationError as error:
        raise MethodError(f"lab lookup: {name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error


def _parameter_of(name: str, cells: pd.Series, *, alone: bool) -> Parameter:
    """Read one column as a parameter: letters of one length standing alone, even steps of a number, else options."""
    if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells):
        levels = np.unique(cells.to_numpy(dtype=float))
        return _number_of(name, levels)
    texts = cells.astype(str).str.strip()
    lengths = texts.str.len().unique()
    if alone and len(lengths) == 1:
        return Sequence(name=name, length=int(lengths[0]), alphabet=_alphabet_of("".join(texts.str.upper())))
    return _choice_of(name, sorted(texts.unique().tolist()))


def _number_of(name: str, levels: Array) -> Parameter:
    gaps = np.diff(levels)
    if len(levels) < 3 or not np.allclose(gaps, gaps[0], rtol=1e-6):
        return _choice_of(name, [int(level) if level == round(level) else float(level) for level in levels])
    if gaps[0] == 1 and levels[0] == round(levels[0]):
        return Integer(name=name, low=int(levels[0]), high=int(levels[-1]))
    return Real(name=name, low=float(levels[0]), high=float(levels[-1]), step=float(gaps.mean()))


def _choice_of(name: str, options: list[str] | list[int | float]) -> Choice:
    if len(options) < 2:
        raise MethodError(f"lab lookup: column {name!r} holds one value only: leave it out of `columns`")
    return Choice(name=name, options=tuple(options))


def _alphabet_of(letters: str) -> str:
    """Give the first of DNA, RNA and protein that has all of these letters, else the letters."""
    used = set(letters)
    return next((alphabet for alphabet in ALPHABETS.values() if used <= set(alphabet)), "".join(sorted(used)))
