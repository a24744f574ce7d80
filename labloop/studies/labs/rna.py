"""RNA binding as a lab: how tightly a short RNA binds a hidden target, by the nearest-neighbour model of the ViennaRNA package.

The folding itself is ViennaRNA's (R. Lorenz et al., "ViennaRNA Package 2.0", Algorithms for Molecular Biology 6:26, 2011), which
is an extra: `pip install 'labloop-toolkit[rna]'`, under a licence of its own. The landscape is of the kind that S. Sinai et al.
use ("AdaLead", arXiv:2010.02141, section 4). Only pairs between the two strands count, none within one (its `duplexfold`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from labloop.errors import MethodError
from labloop.registry import plugin
from labloop.seeds import derive, generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.studies.labs.wells import Wells
from labloop.types import FloatArray

_PARTNER = str.maketrans("ACGU", "UGCA")


@plugin
class RNA(Wells):
    """Binding of an RNA to a hidden target: 0 is none, 1 that of the best perfect complement of a stretch of the target."""

    length: Annotated[int, Field(ge=4, le=200)] = 14
    """Letters of the designs: 4^length of them, too many to list from 11 on."""
    target_length: Annotated[int, Field(ge=4, le=400)] = 50
    """Letters of the hidden target."""
    target: Annotated[str, Field(pattern="^[ACGU]{4,400}$")] | None = None
    """The target itself, where it shall not be drawn."""
    seed: int = 0
    """Draws the target."""

    @cached_property
    def space(self) -> DesignSpace:
        return DesignSpace(parameters=(Sequence(name="rna", length=self.length, alphabet="ACGU"),))

    def bounds(self) -> tuple[float, float]:
        """Give 0 and 1. A few designs with a bulge may lie above 1."""
        return 0.0, 1.0

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Bind each design to the target: a table of `value` and `status` (`ok`, `failed_technical`) in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
            MethodError: ViennaRNA is not installed.
        """
        words = self.space.decode(self.space.encode(designs))["rna"]
        return self.reported(self._energies(words.tolist()) / self._best, designs, seed=derive(seed, "rna"))

    @cached_property
    def hidden(self) -> str:
        """The target."""
        return self.target or "".join(generator(self.seed, "rna", "target").choice(list("ACGU"), self.target_length))

    @cached_property
    def _best(self) -> float:
        """Binding energy of the best perfect complement, kcal/mol, its sign turned."""
        other = self.hidden.translate(_PARTNER)[::-1]
        windows = {other[i : i + self.length] for i in range(max(1, len(other) - self.length + 1))}
        best = float(self._energies(sorted(windows)).max())
        if best <= 0:
            raise MethodError(f"lab rna: nothing binds the target {self.hidden}: draw another one with `seed`, or give `target`")
        return best

    def _energies(self, words: list[str]) -> FloatArray:
        """Energy that binding sets free, kcal/mol, 0 where nothing binds, (n,)."""
        fold = _vienna().duplexfold
        return np.maximum(0.0, np.array([-fold(word, self.hidden).energy for word in words], dtype=float))


def _vienna() -> Any:
    try:
        import RNA as vienna
    except ModuleNotFoundError as error:
        raise MethodError("lab rna needs the package ViennaRNA: pip install 'labloop-toolkit[rna]'") from error
    return vienna
