"""The kinds of parameter that a design can have: letters here, options in `choice`, amounts in `quantities`."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from labloop.errors import Fault
from labloop.space import lengths, mutants
from labloop.space.choice import Choice
from labloop.space.descriptors import SCALES, placed, standardised
from labloop.space.parameter import Block, ParameterBase, slim
from labloop.space.quantities import Integer, Mixture, Real
from labloop.space.vectors import Embedded, Vectors, embedded, found
from labloop.types import Array, FloatArray

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}
ALPHABETS = {"dna": "ACGT", "rna": "ACGU", "protein": "ACDEFGHIKLMNPQRSTVWY"}
"""Names that stand for letters, in any case; DNA is an alphabet of three only for a parent of these that is no DNA."""


Length = Annotated[int, Field(ge=1)]


class Sequence(ParameterBase):
    """A string over an alphabet, of one length or of `length: [40, 60]`: DNA, RNA, protein, or any letters."""

    type: Literal["sequence"] = "sequence"
    length: Length | tuple[Length, Length]
    """Letters, or the shortest and the longest; with `parent`, the parent's."""
    alphabet: str = "ACGT"
    """The letters that there are, or dna, rna or protein for their usual ones."""
    scales: Literal["amino_acids", "nucleotides"] | None = None
    """Properties of the letters that models may use besides the letters themselves."""
    descriptors: Vectors | None = None
    """A vector of each sequence, such as a language model's embedding; a file names a table of them (CSV or safetensors)."""
    parent: str | None = None
    """The sequence that all designs are mutants of."""
    mutations: int | None = Field(default=None, ge=1)
    """Substitutions that a mutant has at most; [1, 5] says the same as 5."""

    @model_serializer(mode="wrap")
    def _without_scales(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return slim(dump(self), "scales", "parent", "mutations", "descriptors")

    @model_validator(mode="before")
    @classmethod
    def _as_people_write(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        told, parent = dict(raw), raw.get("parent")
        if isinstance(named := raw.get("alphabet"), str):
            letters = ALPHABETS.get(named.lower(), named)
            spelled = isinstance(parent, str) and set(parent) <= set(named) and not set(parent) <= set(letters)
            told["alphabet"] = named if spelled else letters
        if isinstance(parent, str):  # written as designs are: in lines, in small letters
            if not (parent := "".join(parent.split())):
                raise ValueError("parent is empty: write its letters, or leave parent and mutations out")
            told["parent"] = parent.upper() if (letters := str(told.get("alphabet", ""))) == letters.upper() else parent
            told.setdefault("length", len(parent))
        ends = {key: raw[key] for key in ("length", "mutations") if isinstance(raw.get(key), list | tuple) and len(raw[key]) == 2}
        if "length" in ends and ends["length"][0] == ends["length"][1]:
            told["length"] = ends["length"][0]
        if "mutations" in ends and ends["mutations"][0] in (0, 1) and not any(isinstance(end, bool) for end in ends["mutations"]):
            told["mutations"] = ends["mutations"][1]
        return told

    @property
    def shortest(self) -> int:
        """Letters at least."""
        return self.length if isinstance(self.length, int) else self.length[0]

    @property
    def longest(self) -> int:
        """Letters at most, and places of an encoding."""
        return self.length if isinstance(self.length, int) else self.length[1]

    @property
    def gap(self) -> bool:
        """Whether lengths differ: a class more then stands for the places beyond the end."""
        return self.shortest < self.longest

    @model_validator(mode="after")
    def _a_parent_that_can_be(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"length of {self.name!r}: the shortest, {self.shortest}, is above the longest, {self.longest}")
        if (self.parent is None) != (self.mutations is None):
            raise ValueError(f"{self.name!r}: parent and mutations belong together: say of what, and how many at most")
        if self.parent is None or self.mutations is None:
            return self
        if self.gap:
            raise ValueError(f"{self.name!r}: mutants by substitution are as long as their parent: leave length out, or parent")
        if len(self.parent) != self.length:
            raise ValueError(f"parent of {self.name!r} has {len(self.parent)} letters, not {self.length}: leave length out")
        if strange := "".join(sorted(set(self.parent) - set(self.alphabet))):
            raise ValueError(f"parent of {self.name!r} has letters {strange!r} that are not in the alphabet {self.alphabet}")
        if self.mutations > self.longest:
            raise ValueError(f"{self.name!r} has {self.length} positions, fewer than {self.mutations} mutations")
        return self

    @property
    def origin(self) -> Array | None:
        """Codes (length,) of the parent."""
        return None if self.parent is None else np.array([self.alphabet.index(letter) for letter in self.parent])

    @model_validator(mode="after")
    def _distinct_letters(self) -> Self:
        if len(set(self.alphabet)) != len(self.alphabet) or len(self.alphabet) < 2:
            raise ValueError(f"alphabet {self.alphabet!r} of {self.name!r} needs at least two letters, each once")
        if self.scales and (strange := sorted(set(self.alphabet) - set(SCALES[self.scales]))):
            raise ValueError(f"scales {self.scales} of {self.name!r} say nothing of the letters {', '.join(strange)}")
        return self

    @model_validator(mode="after")
    def _vectors_of_its_sequences(self) -> Self:
        if self.descriptors is not None and len(self._vectors[0]) < 2:
            first, rules = self.descriptors.designs[0], self._read([*self.descriptors.designs[:1]])[1]
            raise ValueError(
                f"descriptors of {self.name!r}: the rows of {self.descriptors.file} must be named by sequences"
                f"{', or mutants such as A24G' if self.parent else ''}: {first!r} is none ({rules.get(0, 'it stands alone')})"
            )
        return self

    @cached_property
    def _vectors(self) -> tuple[Array, FloatArray]:
        """Codes (n, longest) and coordinates (n, m) of all sequences of which a vector is known."""
        assert self.descriptors is not None
        codes, rules = self._read(list(self.descriptors.designs))
        mine = np.array([i for i in range(len(codes)) if i not in rules], dtype=np.int64)
        return codes[mine], self.descriptors.places_of_all[mine]

    def embedded(self, start: int) -> Embedded | None:
        """Give the vectors of its sequences, by its columns of X from `start`; None where it has none."""
        return None if self.descriptors is None else embedded("vectors", self.block(start), *self._vectors)

    @cached_property
    def _keys(self) -> Array:
        return embedded("vectors", self.block(0), *self._vectors).keys

    def without_vector(self, values: Array) -> Array:
        """Say of which values (n, longest) no vector is known, (n,) bool."""
        return np.zeros(len(values), dtype=bool) if self.descriptors is None else found(self._keys, values) < 0

    @property
    def described(self) -> dict[str, FloatArray]:
        if self.scales is None:
            return {}
        values = standardised(np.array([SCALES[self.scales][letter] for letter in self.alphabet], dtype=float))
        return {self.scales: placed(np.pad(values, ((0, int(self.gap)), (0, 0))))}

    @property
    def width(self) -> int:
        return self.longest * self._classes

    @property
    def _classes(self) -> int:
        return len(self.alphabet) + self.gap

    @property
    def size(self) -> float:
        if self.mutations is not None:
            return mutants.count(self.longest, len(self.alphabet), self.mutations)
        exponent = self.longest * math.log(len(self.alphabet))
        if exponent >= 700:
            return math.inf
        return float(sum(float(len(self.alphabet)) ** length for length in range(self.shortest, self.longest + 1)))

    @property
    def sites(self) -> int:
        return self.longest

    @property
    def complement(self) -> Array | None:
        """For each letter the code of its Watson-Crick partner; None where the alphabet is not DNA."""
        if set(self.alphabet) != set(COMPLEMENT):
            return None
        return np.array([self.alphabet.index(COMPLEMENT[letter]) for letter in self.alphabet])

    def block(self, start: int) -> Block:
        return Block("onehot", start, start + self.width, self.longest, self._classes, self.name, gap=self.gap)

    def parse(self, cells: pd.DataFrame) -> tuple[Array, list[Fault]]:
        given = [str(cell) for cell in cells[self.name].tolist()]
        codes, rules = self._read(given)
        if self.descriptors is not None:
            lost = f"has no vector in {self.descriptors.file}: add it there, or leave the design out"
            rules = dict.fromkeys(np.flatnonzero(self.without_vector(codes)).tolist(), lost) | rules
        return codes, [Fault(i, self.name, rules[i], given[i]) for i in sorted(rules)]

    def _read(self, given: list[str]) -> tuple[Array, dict[int, str]]:
        """Read texts into codes (n, longest); a rule for each that is none of the sequences."""
        codes = np.zeros((len(given), self.longest), dtype=np.int64)
        lookup = np.full(256, -1)
        lookup[[ord(letter) for letter in self.alphabet]] = np.arange(len(self.alphabet))
        fold = self.alphabet == self.alphabet.upper()
        texts = [text if text.isalpha() else "".join(text.split()) for text in given]
        texts = [text.upper() for text in texts] if fold else texts
        unnamed: dict[int, str] = {}
        parent = self.parent
        for i, text in enumerate(given) if parent is not None else ():
            if parent is not None and mutants.is_name(text, parent):
                try:
                    texts[i] = mutants.spelled(text, parent, self.alphabet)
                except ValueError as error:
                    unnamed[i], texts[i] = str(error), parent
        long = np.array([len(text) for text in texts], dtype=np.int64)
        fits = (long >= self.shortest) & (long <= self.longest)
        whole = np.flatnonzero(fits)
        even = "".join([texts[i].ljust(self.longest) for i in whole.tolist()])  # no text has a blank in it
        letters = np.frombuffer(even.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).reshape(len(whole), self.longest)
        beyond = np.arange(self.longest) >= long[whole, None]
        codes[whole] = np.where(beyond, len(self.alphabet), lookup[np.minimum(letters, 255)])
        wanted = f"{self.shortest} to {self.longest}" if self.gap else self.length
        rules = {i: f"length {long[i]} is not {wanted}" for i in np.flatnonzero(~fits).tolist()}
        for i in np.flatnonzero((codes < 0).any(axis=1)).tolist():
            at = np.flatnonzero(codes[i] < 0)
            strange = "".join(sorted({texts[i][j] for j in at}))
            where = f", the first at position {at[0] + 1}" if len(texts[i]) > 10 else ""
            rules[i] = f"letters {strange!r} are not in the alphabet {self.alphabet}{where}"
            codes[i] = 0
        return codes, rules | unnamed

    def encode(self, values: Array) -> FloatArray:
        return np.eye(self._classes)[values].reshape(len(values), self.width)

    def decode(self, X: FloatArray) -> Array:
        cells = X.reshape(len(X), self.longest, self._classes)
        return lengths.compact(cells, self.shortest) if self.gap else cells.argmax(-1)

    def text(self, values: Array) -> list[Array]:
        letters = np.array([*self.alphabet, ""], dtype="U1")[values]  # NumPy takes nothing at the end of a text as its end
        return [np.ascontiguousarray(letters).view(f"U{self.longest}").reshape(-1)]

    def typed(self, values: Array) -> list[Array]:
        return [self.text(values)[0].astype(object)]

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        if (origin := self.origin) is not None and self.mutations is not None:
            return mutants.sample(n, origin, len(self.alphabet), self.mutations, rng)
        if self.gap:
            return lengths.sample(n, self.shortest, self.longest, len(self.alphabet), rng)
        return rng.integers(len(self.alphabet), size=(n, self.longest))

    def listing(self) -> Array:
        if (origin := self.origin) is not None and self.mutations is not None:
            return mutants.listing(origin, len(self.alphabet), self.mutations)
        return lengths.listing(self.shortest, self.longest, len(self.alphabet))

    def mutate(self, values: Array, rng: np.random.Generator) -> Array:
        k, n = len(self.alphabet), len(values)
        if self.gap:
            return lengths.mutate(values, self.shortest, k, rng)
        changed = values.copy()
        place = rng.integers(self.longest, size=n)
        changed[np.arange(n), place] = (changed[np.arange(n), place] + rng.integers(1, k, size=n)) % k
        if (origin := self.origin) is not None and self.mutations is not None:
            return mutants.within(changed, origin, self.mutations, rng)
        return changed

    def neighbours(self, value: Array) -> Array:
        return lengths.neighbours(value[0], self.shortest, len(self.alphabet))


Parameter = Annotated[Sequence | Real | Integer | Choice | Mixture, Field(discriminator="type")]


__all__ = ["COMPLEMENT", "Array", "Block", "Choice", "FloatArray", "Integer", "Mixture", "Parameter", "Real", "Sequence"]
