"""Measured landscapes that ship with labloop: a protein, a reaction, a mixture. Sources: `data/README.md`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from labloop.registry import plugin
from labloop.seeds import derive
from labloop.space.constraints import MaxComponents
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import ALPHABETS, Choice, Mixture, Real, Sequence
from labloop.studies.labs.wells import Tabulated, Wells
from labloop.types import Array, FloatArray

METALS = ("Ni", "Fe", "Co", "Mn", "Ce", "La")


@plugin
class GB1(Wells):
    """Fitness of protein G's domain B1 at the sites V39, D40, G41 and V54, the wild type VDGV being 1 (Wu et al. 2016).

    149,361 of the 160,000 variants were measured; a well with another one fails (`failed_design`).
    """

    @property
    def space(self) -> DesignSpace:
        return _GB1

    def table(self) -> tuple[pd.DataFrame, FloatArray]:
        """Give the measured variants (column `sites`) and their fitness (149361,)."""
        fitness = _fitness()
        codes = np.flatnonzero(np.isfinite(fitness))
        letters = np.array(list(ALPHABETS["protein"]))[codes[:, None] // _PLACES % 20]
        return pd.DataFrame({"sites": np.ascontiguousarray(letters).view("U4").reshape(-1).astype(object)}), fitness[codes]

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Look variants up: a table of `value` and `status` (`ok`, `failed_technical`, `failed_design`) in the same order.

        Raises:
            DesignError: a design is not four amino acids.
        """
        codes = _GB1.encode(designs).reshape(-1, 4, 20).argmax(-1) @ _PLACES
        return self.reported(_fitness()[codes], designs, seed=derive(seed, "gb1"))


@plugin
class Arylation(Tabulated):
    """Yield in per cent of a palladium-catalysed direct arylation under 1,728 conditions, all measured (Shields et al. 2021).

    Bases, ligands and solvents are SMILES; concentration in mol/l, temperature in °C.
    """

    @property
    def _table(self) -> tuple[DesignSpace, FloatArray, FloatArray]:
        return _arylation()


@plugin
class OER(Tabulated):
    """Overpotential in V of oxygen evolution on mixtures of six metals, to be lowered (plate 3496 of the Olympus data sets).

    2,121 mixtures of at most four metals in steps of a tenth, all of them measured.
    """

    @property
    def _table(self) -> tuple[DesignSpace, FloatArray, FloatArray]:
        return _oer()


_GB1 = DesignSpace(parameters=(Sequence(name="sites", length=4, alphabet=ALPHABETS["protein"]),))
_PLACES = 20 ** np.arange(3, -1, -1)


def _arrays(name: str) -> dict[str, Array]:
    with (files("labloop.studies.labs.data") / name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


@cache
def _fitness() -> FloatArray:
    """Fitness by code, (160000,), NaN where none was measured."""
    stored = _arrays("gb1_four_site.npz")["fitness_x1e5"]
    return np.where(stored < 0, np.nan, stored / 1e5)


@cache
def _arylation() -> tuple[DesignSpace, FloatArray, FloatArray]:
    arrays = _arrays("direct_arylation.npz")
    options = {name: tuple(arrays[name].tolist()) for name in ("base", "ligand", "solvent", "concentration", "temperature")}
    low, high = options.pop("temperature")[0], arrays["temperature"].tolist()[-1]
    space = DesignSpace(
        parameters=(
            *(Choice(name=name, options=levels) for name, levels in options.items()),
            Real(name="temperature", low=low, high=high, step=15),
        )
    )
    return space, space.listing(), arrays["yield_x100"].reshape(-1) / 100


@cache
def _oer() -> tuple[DesignSpace, FloatArray, FloatArray]:
    arrays = _arrays("oer_plate_3496.npz")
    space = DesignSpace(
        parameters=(Mixture(name="metals", components=METALS, step=0.1),),
        constraints=(MaxComponents(parameter="metals", count=4),),
    )
    designs = pd.DataFrame(arrays["tenths"] / 10, columns=list(METALS))
    return space, space.encode(designs), arrays["overpotential_uv"] / 1e6
