"""Rules that a design must keep: what can be synthesised, pipetted or is simply not wanted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from labloop.space.parameters import COMPLEMENT, Choice, Mixture, Parameter, Sequence
from labloop.types import Array

IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
"""The nucleotide ambiguity letters of IUPAC-IUB (Cornish-Bowden, Nucleic Acids Research 1985)."""


class _Constraint(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        """Say for each row whether the rule is kept, (n,) bool. `values` is by parameter name, see `labloop.space.parameters`."""

    @abstractmethod
    def check(self, parameters: Mapping[str, Parameter]) -> None:
        """Raise ValueError where the rule does not fit the parameters."""

    @abstractmethod
    def describe(self) -> str:
        """Say the rule in words, for a fault table."""


class _SequenceConstraint(_Constraint):
    parameter: str
    """The sequence that is meant."""

    def check(self, parameters: Mapping[str, Parameter]) -> None:
        if not isinstance(parameters.get(self.parameter), Sequence):
            raise ValueError(f"{self.describe()}: {self.parameter!r} is not a sequence parameter of this space")

    def _sequence(self, parameters: Mapping[str, Parameter]) -> Sequence:
        found = parameters[self.parameter]
        assert isinstance(found, Sequence)
        return found


class ForbiddenMotifs(_SequenceConstraint):
    """No motif may occur, such as a restriction site; on DNA, IUPAC letters and the other strand count too."""

    type: Literal["forbidden_motifs"] = "forbidden_motifs"
    motifs: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """The words, such as GAATTC."""
    reverse_complement: bool = True
    """Also forbid each motif on the other strand (DNA only; without effect on other alphabets)."""

    def check(self, parameters: Mapping[str, Parameter]) -> None:
        super().check(parameters)
        sequence = self._sequence(parameters)
        for motif in self.motifs:
            for letter in motif:
                if not self._letters(letter, sequence):
                    raise ValueError(f"motif {motif!r}: letter {letter!r} is not in the alphabet {sequence.alphabet}")

    @staticmethod
    def _letters(letter: str, sequence: Sequence) -> list[int]:
        allowed = IUPAC.get(letter, letter) if sequence.complement is not None else letter
        return [sequence.alphabet.index(one) for one in allowed if one in sequence.alphabet]

    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        sequence, codes = self._sequence(parameters), values[self.parameter]
        good = np.ones(len(codes), dtype=bool)
        for motif in self.motifs:
            if len(motif) > sequence.longest:
                continue
            mask = np.zeros((len(motif), len(sequence.alphabet)), dtype=bool)
            for i, letter in enumerate(motif):
                mask[i, self._letters(letter, sequence)] = True
            strands = [mask]
            if self.reverse_complement and sequence.complement is not None:
                strands.append(mask[::-1, sequence.complement])
            places = codes.shape[1] - len(motif) + 1
            for strand in strands:
                fits = np.pad(strand, ((0, 0), (0, 1)))  # beyond a sequence's end stands no letter
                found = np.ones((len(codes), places), dtype=bool)
                for i, letters in enumerate(fits):
                    found &= letters[codes[:, i : i + places]]
                good &= ~found.any(1)
        return good

    def describe(self) -> str:
        both = " (either strand)" if self.reverse_complement else ""
        return f"has none of the motifs {', '.join(self.motifs)}{both}"


class GCRange(_SequenceConstraint):
    """The fraction of G and C must lie in a range."""

    type: Literal["gc_range"] = "gc_range"
    low: float = Field(default=0.0, ge=0, le=1)
    """Least fraction."""
    high: float = Field(default=1.0, ge=0, le=1)
    """Greatest fraction."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"gc_range: low {self.low} is above high {self.high}")
        return self

    def check(self, parameters: Mapping[str, Parameter]) -> None:
        super().check(parameters)
        if not {"G", "C"} <= set(self._sequence(parameters).alphabet):
            raise ValueError("gc_range: the alphabet has no G and C")

    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        sequence = self._sequence(parameters)
        strong = np.array([*(letter in "GC" for letter in sequence.alphabet), False])
        codes = values[self.parameter]
        fraction = strong[codes].sum(1) / (codes < len(sequence.alphabet)).sum(1)
        return (fraction >= self.low - 1e-9) & (fraction <= self.high + 1e-9)

    def describe(self) -> str:
        return f"has a GC fraction from {self.low:g} to {self.high:g}"


class MaxHomopolymer(_SequenceConstraint):
    """No letter may repeat more than `length` times in a row."""

    type: Literal["max_homopolymer"] = "max_homopolymer"
    length: int = Field(ge=1)
    """Repeats that are still allowed."""

    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        codes = values[self.parameter]
        if codes.shape[1] <= self.length:
            return np.ones(len(codes), dtype=bool)
        windows = np.lib.stride_tricks.sliding_window_view(codes, self.length + 1, axis=1)
        letters = windows[..., 0] < len(self._sequence(parameters).alphabet)
        return ~((windows == windows[..., :1]).all(-1) & letters).any(-1)

    def describe(self) -> str:
        return f"repeats no letter more than {self.length} times in a row"


class LengthRange(_SequenceConstraint):
    """A sequence of unequal lengths must have so many letters."""

    type: Literal["length_range"] = "length_range"
    low: int = Field(ge=1)
    """Fewest letters."""
    high: int = Field(ge=1)
    """Most letters."""

    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        length = (values[self.parameter] < len(self._sequence(parameters).alphabet)).sum(1)
        return (length >= self.low) & (length <= self.high)

    def describe(self) -> str:
        return f"has {self.low} to {self.high} letters in {self.parameter}"


class MaxMutations(_SequenceConstraint):
    """At most so many letters differ from the parent's; a sequence with a parent brings this rule along."""

    type: Literal["max_mutations"] = "max_mutations"
    count: int = Field(ge=1)

    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        origin = self._sequence(parameters).origin
        return (values[self.parameter] != origin).sum(1) <= self.count  # type: ignore[no-any-return]

    def describe(self) -> str:
        return f"has at most {self.count} mutations of its parent in {self.parameter}"


class LinearInequality(_Constraint):
    """A weighted sum of numbers and mixture components (by column) must lie in a range."""

    type: Literal["linear"] = "linear"
    weights: dict[str, float] = Field(min_length=1)
    """Each column's weight in the sum."""
    low: float | None = None
    """Least sum."""
    high: float | None = None
    """Greatest sum."""

    def check(self, parameters: Mapping[str, Parameter]) -> None:
        numeric = {c for p in parameters.values() if not isinstance(p, Sequence | Choice) for c in p.columns}
        for column in self.weights:
            if column not in numeric:
                raise ValueError(f"linear: {column!r} is not a number or mixture component of this space")

    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        total: Array = np.zeros(len(next(iter(values.values()))))
        for parameter in parameters.values():
            for j, column in enumerate(parameter.columns):
                if column in self.weights:
                    held = values[parameter.name]
                    total = total + self.weights[column] * (held if held.ndim == 1 else held[:, j])
        low, high = self._limits
        return (total >= low - 1e-9) & (total <= high + 1e-9)

    @property
    def _limits(self) -> tuple[float, float]:
        return -np.inf if self.low is None else self.low, np.inf if self.high is None else self.high

    def describe(self) -> str:
        terms = " + ".join(f"{weight:g}·{column}" for column, weight in self.weights.items())
        low, high = self._limits
        return f"keeps {low:g} ≤ {terms} ≤ {high:g}"


class MaxComponents(_Constraint):
    """A mixture may hold only so many of its components at once."""

    type: Literal["max_components"] = "max_components"
    parameter: str
    """The mixture that is meant."""
    count: int = Field(ge=1)
    """Components that are not zero, at most."""

    def check(self, parameters: Mapping[str, Parameter]) -> None:
        if not isinstance(parameters.get(self.parameter), Mixture):
            raise ValueError(f"max_components: {self.parameter!r} is not a mixture of this space")

    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        return (values[self.parameter] > 1e-9).sum(1) <= self.count

    def describe(self) -> str:
        return f"holds at most {self.count} components of {self.parameter}"


class _WrittenConstraint(_Constraint):
    """A rule about values as a person writes them, which are read once for a space: a search asks many times."""

    @property
    @abstractmethod
    def _written(self) -> list[dict[str, str | int | float]]:
        """Values by the names of their parameters."""

    @cached_property
    def _read(self) -> list[tuple[Any, Any, list[dict[str, Array]]]]:
        """One entry, which copies share: the parameters of the space that asked last, what was written, and what it means."""
        return [(None, None, [])]

    def _codes(self, parameters: Mapping[str, Parameter]) -> list[dict[str, Array]]:
        """Read what is written.

        Raises:
            ValueError: it does not fit the parameters.
        """
        of, written, codes = self._read[0]
        if of is not parameters or written != self._written:
            codes = [self._code(one, parameters) for one in self._written]
            self._read[0] = parameters, self._written, codes
        return codes

    @staticmethod
    def _code(combination: Mapping[str, str | int | float], parameters: Mapping[str, Parameter]) -> dict[str, Array]:
        import pandas as pd

        codes = {}
        for name, value in combination.items():
            parameter = parameters.get(name)
            if parameter is None or parameter.columns != (name,):
                raise ValueError(f"excluded: {name!r} is not a single-column parameter of this space")
            code, faults = parameter.parse(pd.DataFrame({name: [value]}))
            if faults:
                raise ValueError(f"excluded: {name} = {value!r} {faults[0].rule}")
            codes[name] = code
        return codes


class Excluded(_WrittenConstraint):
    """Combinations of values that must not occur together, such as a base with a solvent it does not dissolve in."""

    type: Literal["excluded"] = "excluded"
    combinations: tuple[dict[str, str | int | float], ...] = Field(min_length=1)
    """Each a mapping of parameters to values."""

    @property
    def _written(self) -> list[dict[str, str | int | float]]:
        return list(self.combinations)

    def check(self, parameters: Mapping[str, Parameter]) -> None:
        self._codes(parameters)

    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        good = np.ones(len(next(iter(values.values()))), dtype=bool)
        for codes in self._codes(parameters):
            hit = np.ones_like(good)
            for name, code in codes.items():
                same = values[name] == code
                hit &= same if same.ndim == 1 else same.all(1)
            good &= ~hit
        return good

    def describe(self) -> str:
        return "avoids " + "; ".join(" with ".join(f"{k}={v}" for k, v in c.items()) for c in self.combinations)


class Allowed(_WrittenConstraint):
    """A choice or a number may only have some of its values, such as the temperatures of the blocks that are free."""

    type: Literal["allowed"] = "allowed"
    parameter: str
    """The parameter that is meant."""
    values: tuple[str | int | float, ...] = Field(min_length=1)
    """The values that are left."""

    @property
    def _written(self) -> list[dict[str, str | int | float]]:
        return [{self.parameter: value} for value in self.values]

    def check(self, parameters: Mapping[str, Parameter]) -> None:
        self._codes(parameters)
        if isinstance(parameters[self.parameter], Sequence):
            raise ValueError(f"allowed: {self.parameter!r} is a sequence, not a choice or a number")

    def holds(self, values: Mapping[str, Array], parameters: Mapping[str, Parameter]) -> Array:
        held = values[self.parameter]
        good = np.zeros(len(held), dtype=bool)
        for codes in self._codes(parameters):
            good |= np.isclose(held, codes[self.parameter], rtol=1e-9, atol=1e-12)
        return good

    def describe(self) -> str:
        return f"has {self.parameter} of {', '.join(map(str, self.values))}"


Constraint = Annotated[
    ForbiddenMotifs | GCRange | LengthRange | MaxHomopolymer | LinearInequality | MaxComponents | Excluded | Allowed,
    Field(discriminator="type"),
]

__all__ = [
    "COMPLEMENT", "Allowed", "Constraint", "Excluded", "ForbiddenMotifs", "GCRange", "LengthRange", "LinearInequality",
    "MaxComponents", "MaxHomopolymer",
]  # fmt: skip
