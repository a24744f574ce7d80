"""Options without order: a solvent, a ligand, a plasmid, and what is known of each besides its name."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, FiniteFloat, SerializerFunctionWrapHandler, model_serializer, model_validator

from labloop.errors import Fault
from labloop.space.chemistry import molecules, one_molecule
from labloop.space.descriptors import placed, standardised
from labloop.space.parameter import Block, ParameterBase, canonical_text, slim
from labloop.types import Array, FloatArray

Option = str | int | FiniteFloat


class Choice(ParameterBase):
    """One of several options without order: a solvent, a ligand, a plasmid."""

    type: Literal["choice"] = "choice"
    options: tuple[Option, ...] = Field(min_length=2)
    """What can be chosen; with a table of descriptors, its rows where left out."""
    descriptors: dict[str, dict[str, float]] | None = None
    """Numbers known of each option, by option and name; a campaign's file may name a table of them instead (CSV)."""
    smiles: dict[str, str] | Literal["options"] | None = None
    """The molecule of each option; `options` where the options are SMILES themselves. A file may name a table instead."""
    computed: dict[str, tuple[tuple[float, ...], ...]] | None = None
    """What RDKit made of the molecules when the file was first read: written by labloop, one row an option, and kept."""

    @model_validator(mode="before")
    @classmethod
    def _keyed_by_text(cls, raw: Any) -> Any:
        """Let keys be written as options are: 90, 90.0 and '90' are one."""
        if not isinstance(raw, dict):
            return raw
        keyed = {
            key: {canonical_text(option): value for option, value in raw[key].items()}
            for key in ("descriptors", "smiles")
            if isinstance(raw.get(key), dict)
        }
        return {**raw, **keyed}

    @model_validator(mode="after")
    def _distinct_options(self) -> Self:
        if len(set(self._texts)) != len(self.options):
            raise ValueError(f"options of {self.name!r} must be distinct: {self.options}")
        return self

    @model_validator(mode="after")
    def _all_described(self) -> Self:
        for what, told in (("descriptors", self.descriptors), ("smiles", self.smiles)):
            if isinstance(told, dict) and (missing := [one for one in self._texts if one not in told]):
                raise ValueError(f"{what} of {self.name!r} say nothing of {', '.join(missing[:5])}: add a row for each option")
        if self.descriptors is not None:
            names = {one: tuple(sorted(self.descriptors[one])) for one in self._texts}
            odd = next((one for one in self._texts if names[one] != names[self._texts[0]]), None)
            if odd is not None:
                raise ValueError(f"descriptors of {self.name!r}: {odd} has other ones than {self._texts[0]}")
            if not all(math.isfinite(value) for one in self._texts for value in self.descriptors[one].values()):
                raise ValueError(f"descriptors of {self.name!r} must be finite numbers")
        if self.smiles is None and self.computed is not None:
            raise ValueError(f"computed of {self.name!r} is what labloop keeps of its smiles: leave it out, or add them")
        if self.smiles is not None:
            if self.computed is None:
                made = {name: tuple(map(tuple, rows)) for name, rows in molecules(self._molecules).items()}
                object.__setattr__(self, "computed", made)
            elif any(len(rows) != len(self.options) for rows in self.computed.values()):
                raise ValueError(f"computed of {self.name!r} has not one row an option: leave it out, and it is made again")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return slim(dump(self), "descriptors", "smiles", "computed")

    @property
    def described(self) -> dict[str, FloatArray]:
        sets = {name: np.array(rows) for name, rows in (self.computed or {}).items()}
        if self.descriptors is not None:
            names = sorted(self.descriptors[self._texts[0]])
            table = standardised(np.array([[self.descriptors[one][name] for name in names] for one in self._texts]))
            sets["table"] = placed(table)
        return {name: one for name, one in sets.items() if one.size and one.any()}

    @property
    def same(self) -> list[tuple[str, ...]]:
        """Options that are one molecule by their SMILES, as far as RDKit is there to say so."""
        return one_molecule(self._molecules)

    @property
    def _molecules(self) -> dict[str, str]:
        if self.smiles is None:
            return {}
        return {one: one if self.smiles == "options" else self.smiles[one] for one in self._texts}

    def joined(self, old: Self) -> Self:
        """Give a parameter whose options begin with those of an older one; what is known of each is the newer word."""
        options = (*old.options, *(one for one in self.options if one not in old.options))
        changed: dict[str, Any] = {"options": options, "computed": None}
        for what in ("descriptors", "smiles"):
            was, now = getattr(old, what), getattr(self, what)
            if isinstance(was, dict) and isinstance(now, dict):
                changed[what] = {**was, **now}
        return type(self).model_validate({**self.model_dump(), **changed})

    @property
    def _texts(self) -> list[str]:
        return [canonical_text(option) for option in self.options]

    @property
    def width(self) -> int:
        return len(self.options)

    @property
    def size(self) -> float:
        return float(len(self.options))

    def block(self, start: int) -> Block:
        return Block("onehot", start, start + self.width, 1, len(self.options), self.name)

    def parse(self, cells: pd.DataFrame) -> tuple[Array, list[Fault]]:
        lookup = {text: code for code, text in enumerate(self._texts)}
        codes = np.zeros(len(cells), dtype=np.int64)
        faults = []
        for i, cell in enumerate(cells[self.name].tolist()):
            code = lookup.get(canonical_text(cell))
            if code is None:
                shown = ", ".join(self._texts[:6]) + (", …" if len(self.options) > 6 else "")
                faults.append(Fault(i, self.name, f"is none of the options ({shown})", str(cell)))
            else:
                codes[i] = code
        return codes, faults

    def encode(self, values: Array) -> FloatArray:
        return np.eye(len(self.options))[values]

    def decode(self, X: FloatArray) -> Array:
        return X.argmax(-1)

    def text(self, values: Array) -> list[Array]:
        return [np.array(self._texts)[values]]

    def typed(self, values: Array) -> list[Array]:
        options = np.empty(len(self.options), dtype=object)
        options[:] = self.options
        return [options[values]]

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return rng.integers(len(self.options), size=n)

    def listing(self) -> Array:
        return np.arange(len(self.options))

    def mutate(self, values: Array, rng: np.random.Generator) -> Array:
        k = len(self.options)
        return (values + rng.integers(1, k, size=len(values))) % k

    def neighbours(self, value: Array) -> Array:
        k = len(self.options)
        return (value + np.arange(1, k)) % k
