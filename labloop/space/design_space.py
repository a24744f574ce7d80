"""The design space: what a design is, how it becomes a row of X, and which designs are one and the same.

Methods see X (n, d) float64 and `blocks`; people see tables with one column a parameter (one a component for mixtures).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
import pandas as pd
from pydantic import ValidationInfo, model_validator

from labloop.errors import DesignError, Fault, SpaceError
from labloop.runtime.counts import check_count
from labloop.seeds import generator
from labloop.space.distance import Likeness, hamming_euclid, likeness, nearer, nearer_by_vectors
from labloop.space.library import LARGEST, Listing, row, table
from labloop.space.mutants import named
from labloop.space.parameters import Parameter
from labloop.space.shape import LISTABLE, Shape
from labloop.types import Array, Designs, Distances, Flags, FloatArray, Others, Rows, Values

WIDEST = 100_000
"""Columns of X that a space may have: a thousand designs of as many take 0.8 GB."""


class DesignSpace(Shape):
    """Parameters together, with the constraints that designs must keep and the symmetries that make two designs one.

    Every encoding that leaves this class is canonical: symmetric twins share one representative.
    """

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        columns = [column for parameter in self.parameters for column in parameter.columns]
        names = [parameter.name for parameter in self.parameters]
        for taken in (columns, names):
            twice = sorted({name for name in taken if taken.count(name) > 1})
            if twice:
                raise ValueError(f"parameter names must be distinct: {', '.join(twice)}")
        if sum(parameter.width for parameter in self.parameters) > WIDEST:
            raise ValueError(f"a design has more than {WIDEST:,} letters and options to choose from (positions times letters)")
        for constraint in self.constraints:
            constraint.check(self._by_name)
        if taken := sorted(set(self._mutants) & set(columns)):
            raise ValueError(f"{', '.join(taken)}: labloop names mutants in this column: call the parameter otherwise")
        if self.symmetries and any(p.type == "sequence" and p.parent is not None for p in self.parameters):
            raise ValueError("reverse_complement: mutants of a parent have one strand: leave symmetries out")
        if self.symmetries and any(p.type == "sequence" and p.gap for p in self.parameters):
            raise ValueError("reverse_complement: needs sequences of one length: leave symmetries out, or name one length")
        if self.symmetries and not self._strands:
            raise ValueError("reverse_complement needs a sequence parameter over ACGT")
        self._check_library(info.context)
        self._vectors_for(self.listing)
        return self

    def _check_library(self, read: dict[str, str] | None) -> None:
        if self.library is None:
            return
        told = table(self.library, self.columns)
        if len(told) * self.d > LARGEST:
            fit = LARGEST // self.d
            raise ValueError(f"library: {len(told):,} designs are more than the {fit:,} of this kind that fit in: take fewer")
        X, faults = self._read(told)
        if faults:
            one, more = faults[0], f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise ValueError(f"{row(one.row, read)}: {one.column} {one.cell!r} {one.rule}{more}")
        if not 2 <= len(self.fresh(X)) <= LISTABLE:
            raise ValueError(f"library: {len(self.fresh(X)):,} different designs, where 2 to {LISTABLE:,} can be chosen from")

    @cached_property
    def _identity(self) -> str:
        return self.model_dump_json()

    def __eq__(self, other: object) -> bool:  # pydantic's own would compare what is cached here, arrays too
        return isinstance(other, DesignSpace) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def extent(self) -> str:
        """The size in words: `65,536 designs`, `about 3.1e+30 designs`, or which parameters are continuous."""
        if self.library is not None:
            return f"{len(self.listing()):,} designs of a library"
        if self.continuous:
            return f"a continuous space ({', '.join(self.continuous)}), which has no number of designs"
        if self.listable:
            return f"{self.size:,.0f} designs"
        return "more than 1e300 designs" if math.isinf(self.size) else f"about {self.size:.3g} designs"

    # ---- tables to X and back

    def check(self, designs: pd.DataFrame) -> list[Fault]:
        """List every cell that keeps a row from being a valid design of this space, its row counted from 0."""
        X, faults = self._read(designs)
        bad = {fault.row for fault in faults}
        broken = self.broken(X)
        for rule, rows in broken.items():
            faults += [Fault(int(i), ", ".join(self.columns), f"not a design that {rule}", self._shown(designs, i))
                       for i in rows if int(i) not in bad]  # fmt: skip
        return sorted(faults, key=lambda fault: fault.row)

    def encode(self, designs: pd.DataFrame, *, strict: bool = True) -> Designs:
        """Encode a table of designs as canonical X (n, d).

        Args:
            strict: refuse designs that break a constraint too; measurements of such designs are still worth learning from,
                so the dataset encodes with `strict=False`.

        Raises:
            DesignError: with every faulty cell.
        """
        X, faults = self._read(designs)
        if strict:
            faults = self.check(designs)
        if faults:
            raise DesignError(f"{len(faults)} cells are not of this design space", faults)
        return X

    def decode(self, X: Designs) -> pd.DataFrame:
        """Turn any (n, d) matrix into valid designs: project every block, mend broken constraints, pick the canonical twin."""
        return self.decode_as_written(self.repair(X))

    def decode_as_written(self, X: Designs) -> pd.DataFrame:
        """Turn valid encodings (n, d) into a table, designs that break a rule too."""
        values = self._values(X)
        columns: dict[str, Array] = {}
        for parameter in self.parameters:
            columns.update(zip(parameter.columns, parameter.typed(values[parameter.name]), strict=True))
        return pd.DataFrame(columns, columns=list(self.columns))

    def names(self, designs: pd.DataFrame) -> pd.DataFrame:
        """Name the mutants of a table of valid designs, such as A24G;V3L: a column `…_mutations` a parameter with a parent."""
        told = {column: [named(text, parent) for text in designs[name]] for column, (name, parent) in self._mutants.items()}
        return pd.DataFrame(told, index=designs.index)

    def project(self, X: Designs) -> Designs:
        """Move each row to the nearest valid encoding (argmax, clip and grid, simplex), constraints aside; not canonical."""
        X = np.asarray(X, dtype=float).reshape(-1, self.d)
        parts = [p.project(X[:, b.start : b.stop]) for p, b in zip(self.parameters, self.blocks, strict=True)]
        return np.concatenate(parts, axis=1)

    def settable(self, X: Designs) -> Designs:
        """Move valid designs to the nearest ones that a bench can set, as far as they keep the constraints.

        What a lab measured keeps its digits; designs made from it must not ask for 139.9999991 degrees.
        """
        if not self.continuous or not len(X):
            return X
        parts = [p.settable(X[:, b.start : b.stop]) for p, b in zip(self.parameters, self.blocks, strict=True)]
        moved = np.concatenate(parts, axis=1)
        return np.where(self.feasible(moved)[:, None], moved, X)

    def repair(self, X: Designs) -> Designs:
        """Project, then walk each row that breaks a constraint from a nearby valid design towards itself as far as is valid.

        Deterministic: equal rows give equal designs. Returns canonical X (n, d); of a library, the nearest design there.
        """
        X = self.project(X)
        if self._shelf is not None:
            X = self.canonical(X)
            off = ~self.feasible(X)
            X[off] = self._shelf.nearest(X[off])
            return X
        if not self.rules:
            return self.canonical(X)
        broken = np.flatnonzero(~self.feasible(X))
        if len(broken):
            X = X.copy()
            X[broken] = self._walk(self._anchors, X[broken])
        return self.canonical(X)

    def _read(self, designs: pd.DataFrame) -> tuple[FloatArray, list[Fault]]:
        missing = [column for column in self.columns if column not in designs.columns]
        if missing:
            raise DesignError(
                f"design columns are missing: {', '.join(missing)} (there are: {', '.join(map(str, designs.columns))})"
            )
        parts, faults = [], []
        for parameter in self.parameters:
            values, found = parameter.parse(designs)
            parts.append(parameter.encode(values))
            faults += found
        return self.canonical(np.concatenate(parts, axis=1)), faults

    def _shown(self, designs: pd.DataFrame, i: int) -> str:
        return ", ".join(str(designs[column].iloc[i]) for column in self.columns)

    def _values(self, X: Designs) -> dict[str, Array]:
        return {p.name: p.decode(X[:, b.start : b.stop]) for p, b in zip(self.parameters, self.blocks, strict=True)}

    # ---- constraints

    def feasible(self, X: Designs) -> Flags:
        """Say for each row of valid encodings whether it keeps every constraint and is in the library, (n,) bool."""
        if self._shelf is not None:
            return np.array([one in self._shelved for one in self.ids(X)], dtype=bool)
        return self._keeps(X)

    @cached_property
    def _shelf(self) -> Listing | None:
        """The designs of the library that keep every constraint."""
        return None if self.library is None else Listing(self.listing(), self.distance)

    @cached_property
    def _shelved(self) -> frozenset[str]:
        return frozenset(self.listing_ids)

    def _keeps(self, X: Designs) -> Flags:
        good = np.ones(len(X), dtype=bool)
        values = self._values(X) if self.rules else {}
        for constraint in self.rules:
            good &= constraint.holds(values, self._by_name)
        return good

    def broken(self, X: Designs) -> dict[str, Array]:
        """Tell for each rule, in words, which rows of valid encodings break it."""
        values = self._values(X)
        broken = {c.describe(): np.flatnonzero(~c.holds(values, self._by_name)) for c in self.rules}
        if self.library is not None:
            kept = np.setdiff1d(np.flatnonzero(~self.feasible(X)), np.concatenate([*broken.values(), np.zeros(0, dtype=int)]))
            broken["is in the library"] = kept
        return broken

    @cached_property
    def _anchors(self) -> FloatArray:
        return self.sample(256, generator(0, "anchors"))

    def _walk(self, anchors: FloatArray, targets: FloatArray) -> FloatArray:
        """From the nearest anchor, take over one site after the other from the target wherever the design stays valid."""
        at = anchors[np.argmin(hamming_euclid(self.blocks, targets, anchors), axis=1)]
        for block in self.blocks:
            width = block.classes if block.kind == "onehot" else block.stop - block.start
            for start in range(block.start, block.stop, width):
                site = slice(start, start + width)
                shares = (1.0,) if block.kind == "onehot" else (1.0, 0.5, 0.25, 0.125, 0.0625)
                for share in shares:
                    trial = at.copy()
                    trial[:, site] += share * (targets[:, site] - at[:, site])
                    trial = self.project(trial)
                    good = self.feasible(trial)
                    at[good] = trial[good]
        return at

    # ---- symmetry and identity

    def ids(self, X: Designs) -> list[str]:
        """Give each design's `design_id`: the first 12 hex digits of the SHA-256 of its canonical text."""
        values = self._values(self.canonical(X))
        texts: dict[str, Array] = {}
        for parameter in self.parameters:
            texts.update(zip(parameter.columns, parameter.text(values[parameter.name]), strict=True))
        names = sorted(texts)
        rows = zip(*(texts[name].tolist() for name in names), strict=True)
        template = "\x1f".join(f"{name.replace('%', '%%')}=%s" for name in names)
        return [hashlib.sha256((template % row).encode()).hexdigest()[:12] for row in rows]

    def distance(self, A: Designs, B: Others) -> Distances:
        """Measure (len(A), len(B)) distances: differing letters and options, plus the Euclidean distance of the scaled numbers.

        Between sequences of unequal length it counts substitutions, insertions and deletions.

        Options and letters with descriptors differ by less than one where they are alike, and sequences of alike vectors by less
        than their letters do. Symmetric twins are at distance 0.
        """
        D = [hamming_euclid(self.blocks, twin, B) - nearer(self._likeness, twin, B) for twin in self.orbit(A)]
        return np.min(D, axis=0) - nearer_by_vectors(self.embedded, A, B)

    @cached_property
    def _likeness(self) -> tuple[Likeness, ...]:
        return likeness(self.blocks, self.described)

    def nearest(self, A: Designs, B: Others, *, chunk: int = 2_000) -> tuple[Array, Values]:
        """Find for each row of A the nearest row of B: its index (n,) and distance (n,)."""
        index, near = np.zeros(len(A), dtype=np.int64), np.zeros(len(A))
        for start in range(0, len(A), chunk):
            D = self.distance(A[start : start + chunk], B)
            index[start : start + chunk] = D.argmin(1)
            near[start : start + chunk] = D.min(1)
        return index, near

    # ---- designs from nowhere and from designs

    def listing(self) -> Designs:
        """List every valid design once (symmetric twins count as one), canonical X (N, d).

        Raises:
            SpaceError: the space has more than `LISTABLE` designs, or no valid one.
        """
        if not self.listable:
            raise SpaceError(f"the space is too large to list (at most {LISTABLE:,}): {self.extent}")
        return self._listing

    @cached_property
    def _listing(self) -> FloatArray:
        return _listing(self)

    @cached_property
    def listing_ids(self) -> tuple[str, ...]:
        """The `design_id` of every row of `listing()`."""
        return _ids(self)

    def sample(self, n: int, rng: np.random.Generator) -> Designs:
        """Draw n valid designs uniformly and independently, canonical X (n, d).

        Raises:
            SpaceError: the constraints leave next to nothing.
        """
        check_count("n of sample", n, least=0, error=ValueError)
        if self._shelf is not None:
            return self._shelf.sample(n, rng)
        found: list[FloatArray] = [np.zeros((0, self.d))]
        have = tried = 0
        while have < n:
            draw = max(256, min(100_000, 2 * (n - have)))
            X = np.concatenate([p.encode(p.sample(draw, rng)) for p in self.parameters], axis=1)
            found.append(X[self.feasible(X)])
            have, tried = have + len(found[-1]), tried + draw
            if tried >= 1_000_000 and have < n * 1e-3:
                raise SpaceError(f"only {have} of {tried:,} random designs keep all constraints: loosen one of them")
        return self.canonical(np.concatenate(found)[:n])

    def mutate(self, X: Designs, rng: np.random.Generator, *, steps: int = 1) -> Designs:
        """Change each row at `steps` random sites (a letter, an option, a number); rows that find no valid change stay.

        In a library, `steps` times to one of the nearest others.
        """
        if self._shelf is not None:
            return self._shelf.step(X, rng, steps=steps)
        before, X = X, np.array(X)
        sites = np.array([parameter.sites for parameter in self.parameters])
        for _ in range(steps):
            waiting = np.arange(len(X))
            for _attempt in range(20):
                which = rng.choice(len(self.parameters), size=len(waiting), p=sites / sites.sum())
                trial = X[waiting]
                for k, (parameter, block) in enumerate(zip(self.parameters, self.blocks, strict=True)):
                    rows = np.flatnonzero(which == k)
                    if len(rows):
                        part = slice(block.start, block.stop)
                        trial[rows, part] = parameter.encode(parameter.mutate(parameter.decode(trial[rows, part]), rng))
                good = self.feasible(trial)
                X[waiting[good]] = trial[good]
                waiting = waiting[~good]
                if not len(waiting):
                    break
        changed = (before != X).any(1)
        X[changed] = self.settable(X[changed])
        return self.canonical(X)

    def neighbours(self, x: FloatArray) -> Designs:
        """List every valid design one step from one design x (d,), without x and without twins, canonical X (m, d)."""
        x = np.asarray(x, dtype=float).reshape(1, self.d)
        if self._shelf is not None:
            return self._shelf.neighbours(x)
        known = self.ids(self.canonical(x))
        x = self.settable(x)
        near = []
        for parameter, block in zip(self.parameters, self.blocks, strict=True):
            part = parameter.encode(parameter.neighbours(parameter.decode(x[:, block.start : block.stop])))
            near.append(np.repeat(x, len(part), axis=0))
            near[-1][:, block.start : block.stop] = part
        X = np.concatenate(near)
        X = self.canonical(X[self.feasible(X)])
        return X[self.fresh(X, known=known)]

    def fresh(self, X: Designs, *, known: object = ()) -> Rows:
        """Give the indices of rows that are the first of their design and not among the `known` ids, in order."""
        seen = set(known)  # type: ignore[call-overload]
        return np.array([i for i, one in enumerate(self.ids(X)) if one not in seen and not seen.add(one)], dtype=np.int64)

    def __iter__(self) -> Iterator[Parameter]:  # type: ignore[override]
        return iter(self.parameters)


@lru_cache(maxsize=2)
def _listing(space: DesignSpace) -> FloatArray:
    """List a space's designs once for all spaces that are equal, such as those of a study's jobs."""
    X = np.zeros((1, 0))
    if space.library is not None:
        X = space._read(table(space.library, space.columns))[0]
        X = X[space.fresh(X)]
    for parameter in space.parameters if space.library is None else ():
        part = parameter.encode(parameter.listing())
        X = np.concatenate([np.repeat(X, len(part), axis=0), np.tile(part, (len(X), 1))], axis=1)
    X = X[space._keeps(X)] if space.rules else X
    X = X[(space.canonical(X) == X).all(1)] if space.symmetries else X
    if not len(X):
        raise SpaceError("no design keeps all constraints: loosen one of them")
    X.setflags(write=False)
    return X


_ids = lru_cache(maxsize=2)(lambda space: tuple(space.ids(space.listing())))
