"""Made-up reactions of options and numbers: a product that forms under a catalyst and decays where it is heated for long.

Two steps of first order, A → P → D, whose rates follow Arrhenius; their constants are drawn once for each `reaction`:

    ln k₁ = ligand + base + solvent + (ligand, base) + ln loading - E₁(ligand) / R · (1/T - 1/T₀)
    ln k₂ = base' + solvent' - E₂ / R · (1/T - 1/T₀)
    yield = 100 · k₁ / (k₁ - k₂) · (exp(-k₂ t) - exp(-k₁ t))

Ligands differ in E₁, so that the best one depends on the temperature, and decay, which has the higher barrier, bounds temperature
and time. No reaction of the literature is meant.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.special import exprel

from labloop.registry import plugin
from labloop.seeds import derive, generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Real
from labloop.studies.labs.wells import Wells
from labloop.types import FloatArray

R = 8.314e-3
"""Gas constant, kJ / (mol K)."""
T0 = 353.15
"""K, at which the rates are those of the sums above."""
OPTIONS = {
    "ligand": tuple(f"L{i}" for i in range(1, 9)), "base": ("K2CO3", "Cs2CO3", "K3PO4"),
    "solvent": ("dioxane", "toluene", "DMF", "BuOH"),
}  # fmt: skip


@plugin
class Kinetics(Wells):
    """Yield in per cent of a made-up reaction: 8 ligands, 3 bases, 4 solvents, and any temperature, time and loading."""

    reaction: Annotated[int, Field(ge=0)] = 0
    """Which one: each number is a landscape of its own."""

    @property
    def space(self) -> DesignSpace:
        """Columns ligand, base, solvent, temperature (°C), time (h) and loading (mol %)."""
        return DesignSpace(
            parameters=(
                *(Choice(name=name, options=options) for name, options in OPTIONS.items()),
                Real(name="temperature", low=30, high=130, decimals=1),
                Real(name="time", low=0.25, high=24, scale="log", decimals=2),
                Real(name="loading", low=0.5, high=5, scale="log", decimals=2),
            )
        )

    def bounds(self) -> tuple[float, float]:
        """A yield's."""
        return 0.0, 100.0

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Compute the yield of designs: a table of `value` and `status` (`ok`, `failed_technical`) in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        told = self.space.decode(self.space.encode(designs))
        return self.reported(self._yields(told), designs, seed=derive(seed, "kinetics"))

    def _yields(self, designs: pd.DataFrame) -> FloatArray:
        rng = generator(self.reaction, "kinetics")
        ligand, base, solvent = (designs[name].map(options.index).to_numpy(dtype=int) for name, options in OPTIONS.items())
        temperature, time, loading = (designs[name].to_numpy(float) for name in ("temperature", "time", "loading"))
        sizes = {name: len(options) for name, options in OPTIONS.items()}
        of_ligand, of_base, of_solvent = (
            rng.normal(0, sd, size=n) for sd, n in zip((1.6, 0.8, 1.0), sizes.values(), strict=True)
        )
        pair = rng.normal(0, 0.8, size=(sizes["ligand"], sizes["base"]))
        barrier = rng.uniform(55, 100, size=sizes["ligand"])
        decay_of_base, decay_of_solvent = rng.normal(0, 0.7, size=sizes["base"]), rng.normal(0, 0.9, size=sizes["solvent"])
        colder = (1 / (temperature + 273.15) - 1 / T0) / R
        forms = np.exp(
            of_ligand[ligand] + of_base[base] + of_solvent[solvent] + pair[ligand, base] + np.log(loading) - 3.0
            - barrier[ligand] * colder
        )  # fmt: skip
        decays = np.exp(decay_of_base[base] + decay_of_solvent[solvent] - 3.0 - 115 * colder)
        # The difference of two exponentials over that of their rates, which may be equal.
        slower = np.exp(-np.minimum(forms, decays) * time) * exprel(-np.abs(forms - decays) * time)
        return 100 * forms * time * slower  # type: ignore[no-any-return]
