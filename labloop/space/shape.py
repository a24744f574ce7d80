"""The shape of a design space: its table's columns, the slices of X, its size, and the symmetries that make two designs one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from labloop.space.constraints import Constraint, MaxMutations
from labloop.space.descriptors import Described
from labloop.space.parameter import slim
from labloop.space.parameters import Block, Parameter, Sequence
from labloop.space.vectors import Embedded
from labloop.types import Array, FloatArray

LISTABLE = 2**20
"""Spaces of up to this many designs are scored whole; larger ones are searched."""


class Shape(BaseModel):
    """What is known of a space before a design of it is: `DesignSpace` adds what is done with designs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: tuple[Parameter, ...] = Field(min_length=1)
    """What a design consists of."""
    constraints: tuple[Constraint, ...] = ()
    """Rules that every design keeps."""
    symmetries: tuple[Literal["reverse_complement"], ...] = ()
    """`reverse_complement`: the two strands of double-stranded DNA are one design."""
    library: dict[str, tuple[str | int | float, ...]] | None = None
    """The only designs that there are, column by column; a campaign's file may name a table of them instead (CSV)."""

    @model_serializer(mode="wrap")
    def _without_library(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return slim(dump(self), "library")

    @cached_property
    def _by_name(self) -> dict[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns of a design table."""
        return tuple(column for parameter in self.parameters for column in parameter.columns)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The slices of X, one a parameter, in order."""
        starts = np.cumsum([0] + [parameter.width for parameter in self.parameters])
        return tuple(parameter.block(int(start)) for parameter, start in zip(self.parameters, starts, strict=False))

    @property
    def rules(self) -> tuple[Constraint | MaxMutations, ...]:
        """The constraints, and the rules that parameters bring along."""
        own = [
            MaxMutations(parameter=p.name, count=p.mutations) for p in self.parameters if isinstance(p, Sequence) and p.mutations
        ]
        return (*self.constraints, *own)

    @property
    def d(self) -> int:
        """Columns of X."""
        return self.blocks[-1].stop

    @cached_property
    def site_of_column(self) -> Array:
        """Number the sites, such as one letter, one option or one mixture: for each column of X (d,) the site it belongs to."""
        site, sites = np.zeros(self.d, dtype=np.int64), 0
        for block in self.blocks:
            width = block.classes if block.kind == "onehot" else block.stop - block.start
            site[block.start : block.stop] = sites + np.arange(block.stop - block.start) // width
            sites += (block.stop - block.start) // width
        return site

    @property
    def share_of_numbers(self) -> float:
        """Part of the sites that are numbers, not letters, options or mixtures."""
        numbers = sum(block.stop - block.start for block in self.blocks if block.kind == "unit")
        return numbers / float(self.site_of_column.max() + 1)

    @cached_property
    def described(self) -> tuple[Described, ...]:
        """Sets of descriptors of options and letters, parameter by parameter."""
        pairs = zip(self.parameters, self.blocks, strict=True)
        return tuple(Described(name, block, one) for parameter, block in pairs for name, one in parameter.described.items())

    @cached_property
    def embedded(self) -> tuple[Embedded, ...]:
        """Vectors of whole sequences, of each parameter that has them."""
        pairs = zip(self.parameters, self.blocks, strict=True)
        every = [p.embedded(block.start) for p, block in pairs if isinstance(p, Sequence)]
        return tuple(one for one in every if one is not None)

    def _vectors_for(self, listing: Callable[[], FloatArray]) -> None:
        """See that each design that can be proposed has a vector, where sequences have vectors.

        Raises:
            ValueError: one has none, or the designs cannot be listed.
        """
        for parameter, block in zip(self.parameters, self.blocks, strict=True):
            if not isinstance(parameter, Sequence) or parameter.descriptors is None:
                continue
            if self.symmetries:
                raise ValueError(f"descriptors of {parameter.name!r}: a vector is of one strand: leave symmetries out")
            if not self.listable and parameter.size > LISTABLE:
                raise ValueError(
                    f"descriptors of {parameter.name!r}: {parameter.size:.3g} sequences cannot each have a vector: name those "
                    "that have one as the space's library"
                )
            values = parameter.decode(listing()[:, block.start : block.stop]) if self.listable else parameter.listing()
            lost = np.flatnonzero(parameter.without_vector(values))
            if len(lost):
                texts = list(dict.fromkeys(parameter.text(values[lost])[0].tolist()))
                shown = ", ".join(texts[:5]) + (f" and {len(texts) - 5:,} more" if len(texts) > 5 else "")
                raise ValueError(
                    f"descriptors of {parameter.name!r}: {parameter.descriptors.file} has no vector of {shown}: add them, or "
                    "name the designs that have one as the space's library"
                )

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The parameter types in the space, such as {"sequence"} or {"real", "choice"}."""
        return frozenset(parameter.type for parameter in self.parameters)

    @property
    def size(self) -> float:
        """How many designs there are before constraints and symmetries; infinite where a parameter is continuous."""
        if self.library is not None:
            return float(len(self.library[self.columns[0]]))
        return math.prod(parameter.size for parameter in self.parameters)

    @property
    def continuous(self) -> tuple[str, ...]:
        """Names of the parameters that can take any value of a range."""
        if self.library is not None:
            return ()
        return tuple(p.name for p in self.parameters if p.type in ("real", "mixture") and math.isinf(p.size))

    @property
    def listable(self) -> bool:
        """Whether the whole space can be scored instead of searched."""
        return self.size <= LISTABLE

    @cached_property
    def _strands(self) -> tuple[tuple[Block, Array], ...]:
        return tuple(
            (block, parameter.complement)
            for block, parameter in zip(self.blocks, self.parameters, strict=True)
            if isinstance(parameter, Sequence) and parameter.complement is not None
        )

    @property
    def _mutants(self) -> dict[str, tuple[str, str]]:
        """By the column that names a parameter's mutants: the parameter, and the parent."""
        return {f"{p.name}_mutations": (p.name, p.parent) for p in self.parameters if isinstance(p, Sequence) and p.parent}

    # ---- symmetry

    def orbit(self, X: FloatArray) -> FloatArray:
        """Give all symmetric twins of each row, (g, n, d) with X itself first; g is 1 without symmetries."""
        if not self.symmetries:
            return X[None]
        out = []
        for flips in itertools.product((False, True), repeat=len(self._strands)):
            twin = X.copy()
            for (block, complement), flip in zip(self._strands, flips, strict=True):
                if flip:
                    onehot = X[:, block.start : block.stop].reshape(len(X), block.rows, block.classes)
                    twin[:, block.start : block.stop] = onehot[:, ::-1][:, :, complement].reshape(len(X), -1)
            out.append(twin)
        return np.stack(out)

    def canonical(self, X: FloatArray) -> FloatArray:
        """Replace each row by the representative of its symmetric twins (the strand that sorts first), gaps at the end."""
        X = self._without_gaps(X)
        if not self.symmetries:
            return X
        X = X.copy()
        for block, complement in self._strands:
            codes = X[:, block.start : block.stop].reshape(len(X), block.rows, block.classes).argmax(-1)
            other = complement[codes][:, ::-1]
            first = (codes != other).argmax(1)
            rows = np.arange(len(X))
            swap = other[rows, first] < codes[rows, first]
            X[swap, block.start : block.stop] = np.eye(block.classes)[other[swap]].reshape(-1, block.rows * block.classes)
        return X

    def _without_gaps(self, X: FloatArray) -> FloatArray:
        """Close gaps within sequences, as crossing two of unequal length leaves them."""
        for parameter, block in zip(self.parameters, self.blocks, strict=True):
            if block.gap:
                part = X[:, block.start : block.stop]
                tidy = parameter.project(part)
                if (tidy != part).any():
                    X = X.copy()
                    X[:, block.start : block.stop] = tidy
        return X
