"""Ehrlich functions as a lab: motifs that must stand at set distances in a sequence that can be made at all.

S. Stanton, R. Alberstein, N. Frey, et al., "Closed-Form Test Functions for Biophysical Sequence Design Benchmarking",
arXiv:2407.00236, 2024. A sequence x of L letters is feasible if no two neighbouring letters are a banned transition. There are c
motifs a of k letters, each with a spacing s (offsets from its first letter, the span at most L // c). With

    h(x, a, s) = max over places l of  floor(q / k · #{i : x[l + s_i] = a_i}) / q

a feasible sequence is worth f(x) = Π h over the motifs: 0 to 1 in steps that the quantisation q sets. Motifs therefore work only
together (epistasis), and with q < k so do letters within a motif. At least one feasible sequence is worth 1.

Where this differs from the authors' text:

1. Which transitions are banned is set by a share of them; a random cycle through all letters and the repetition of a letter are
   always allowed, so that every letter can be reached from every other.
2. All motifs together are one walk along allowed transitions, no letter twice within a motif. Motif after motif, each letter
   repeated over the gap that follows it, is then feasible, which proves that 1 is reached.
3. A start draws each next letter uniformly among the allowed ones; there are no transition probabilities.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from labloop.errors import MethodError
from labloop.registry import plugin
from labloop.seeds import derive, generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import ALPHABETS, Sequence
from labloop.studies.labs.wells import Share, Wells
from labloop.types import Array, FloatArray

OTHERS = "BJOUXZ"
"""Letters of no amino acid, for more than twenty."""


@plugin
class Ehrlich(Wells):
    """Hidden motifs at hidden spacings, in sequences without banned transitions; 1 is the best there is, 0 the least."""

    length: Annotated[int, Field(ge=2, le=512)] = 32
    """Letters of a design."""
    letters: Annotated[int, Field(ge=2, le=26)] = 20
    """Letters of the alphabet: DNA's for 4, the first amino acids otherwise."""
    motifs: Annotated[int, Field(ge=1)] = 2
    """Hidden motifs."""
    motif_length: Annotated[int, Field(ge=2)] = 4
    """Letters of a motif."""
    quantisation: Annotated[int, Field(ge=1)] | None = None
    """Steps in which a motif counts, at most its length; each of its letters counts where none is given."""
    banned: Share = 0.2
    """Share of the transitions from a letter to another that are banned, as far as every letter can still be reached."""
    infeasible: Literal["failed", "zero"] = "failed"
    """What a well with a banned transition gives: no value (`failed_design`), or 0."""
    seed: int = 0
    """Draws motifs, spacings and banned transitions."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.motif_length > self.letters:
            raise ValueError(f"motif_length {self.motif_length} is above letters {self.letters}: a motif has no letter twice")
        if self.motifs * self.motif_length > self.length:
            raise ValueError(
                f"{self.motifs} motifs of {self.motif_length} letters do not fit into length {self.length}: lower one of them"
            )
        if self.quantisation is not None and self.quantisation > self.motif_length:
            raise ValueError(f"quantisation {self.quantisation} is above motif_length {self.motif_length}")
        return self

    @cached_property
    def space(self) -> DesignSpace:
        alphabet = ALPHABETS["dna"] if self.letters == 4 else (ALPHABETS["protein"] + OTHERS)[: self.letters]
        return DesignSpace(parameters=(Sequence(name="sequence", length=self.length, alphabet=alphabet),))

    def bounds(self) -> tuple[float, float]:
        """Give the least and the largest value there is."""
        return 0.0, 1.0

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Measure sequences: a table of `value` and `status` (`ok`, `failed_technical`, `failed_design`) in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        codes = self._codes(self.space.encode(designs))
        worth = np.prod([self._met(codes, motif, places) for motif, places in zip(*self._hidden)], axis=0)
        bad = np.nan if self.infeasible == "failed" else 0.0
        return self.reported(np.where(self._feasible(codes), worth, bad), designs, seed=derive(seed, "ehrlich"))

    def library(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """Draw n feasible designs, as a lab has some to begin with: few of all sequences are."""
        codes = np.empty((n, self.length), dtype=np.int64)
        codes[:, 0] = rng.integers(self.letters, size=n)
        for place in range(1, self.length):
            chance = self._allowed[codes[:, place - 1]] * rng.random((n, self.letters))
            codes[:, place] = chance.argmax(1)
        return self._designs(codes)

    @property
    def optimum(self) -> tuple[pd.DataFrame, float]:
        """One of the best designs, and its value."""
        motifs, spacings = self._hidden
        spans = [np.diff([*places, self.length // self.motifs]) for places in spacings]
        codes = np.concatenate([np.repeat(motif, span) for motif, span in zip(motifs, spans)])
        rest = np.full(self.length - len(codes), codes[-1])
        return self._designs(np.concatenate([codes, rest])[None]), 1.0

    def _designs(self, codes: Array) -> pd.DataFrame:
        return self.space.decode(np.eye(self.letters)[codes].reshape(len(codes), -1))

    def _codes(self, X: FloatArray) -> Array:
        return X.reshape(len(X), self.length, self.letters).argmax(-1)

    def _feasible(self, codes: Array) -> Array:
        return np.all(self._allowed[codes[:, :-1], codes[:, 1:]], axis=1)

    def _met(self, codes: Array, motif: Array, places: Array) -> FloatArray:
        """How far a motif is there, h (n,)."""
        windows = np.lib.stride_tricks.sliding_window_view(codes, places[-1] + 1, axis=1)
        matched = (windows[:, :, places] == motif).sum(-1).max(1)
        steps = self.quantisation or self.motif_length
        return matched * steps // self.motif_length / steps

    @cached_property
    def _allowed(self) -> Array:
        """Whether the second letter may follow the first, (letters, letters) bool."""
        rng = generator(self.seed, "ehrlich", "transitions")
        cycle = rng.permutation(self.letters)
        kept = np.eye(self.letters, dtype=bool)
        kept[cycle, np.roll(cycle, -1)] = True
        allowed = np.ones_like(kept)
        for letter in range(self.letters):
            others = rng.permutation(np.flatnonzero(~kept[letter]))
            allowed[letter, others[: round(self.banned * (self.letters - 1))]] = False
        return allowed

    @cached_property
    def _hidden(self) -> tuple[list[Array], list[Array]]:
        """Motifs, codes (k,) each, and their spacings, offsets (k,) each."""
        rng = generator(self.seed, "ehrlich", "motifs")
        span = self.length // self.motifs
        spacings = [
            np.concatenate([[0], np.sort(rng.choice(np.arange(1, span), self.motif_length - 1, replace=False))])
            for _ in range(self.motifs)
        ]
        for _ in range(1000):
            if (walk := self._walk(rng)) is not None:
                return list(walk), spacings
        raise MethodError(f"lab ehrlich: no motifs keep clear of the banned transitions: lower `banned` ({self.banned:g})")

    def _walk(self, rng: np.random.Generator) -> Array | None:
        """All motifs as one walk along allowed transitions, (c, k); None where it came to an end too early."""
        walk: list[int] = []
        for i in range(self.motifs * self.motif_length):
            open_ = np.ones(self.letters, dtype=bool) if not walk else self._allowed[walk[-1]].copy()
            open_[walk[i - i % self.motif_length :]] = False
            if not open_.any():
                return None
            walk.append(int(rng.choice(np.flatnonzero(open_))))
        return np.array(walk).reshape(self.motifs, self.motif_length)
