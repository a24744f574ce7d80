"""Molecules as numbers: what RDKit makes of SMILES, once, when a campaign's file is read; the ledger keeps the numbers.

Two sets are made. `ecfp`: principal coordinates of the Tanimoto similarity of counts of circular substructures (Rogers and Hahn,
J Chem Inf Model 50, 2010; radius 2). `physical`: size, shape, polarity, charges and flexibility, decorrelated.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from labloop.space.descriptors import coordinates, placed, standardised
from labloop.types import FloatArray

RADIUS = 2
BITS = 2_048
DIGITS = 6
MOST = 64
"""Coordinates kept of a set at most."""
LONGEST = 2_000
"""Letters of a molecule at most: RDKit takes hours for a polymer that is spelled out."""
PHYSICAL = (
    "MolWt", "MolLogP", "TPSA", "MolMR", "NumHAcceptors", "NumHDonors", "NumRotatableBonds", "RingCount", "NumAromaticRings",
    "FractionCSP3", "LabuteASA", "MaxPartialCharge", "MinPartialCharge", "NumHeteroatoms", "NumValenceElectrons", "BalabanJ",
    "Kappa1", "Kappa2", "Kappa3", "HallKierAlpha", "BertzCT", "MaxEStateIndex", "MinEStateIndex",
)  # fmt: skip
"""RDKit's names of what `physical` is made of; what a molecule has no finite value of is left out."""


def molecules(smiles: Mapping[str, str]) -> dict[str, list[list[float]]]:
    """Describe the molecule of each option: one set a name, a row (m,) an option, in order; numbers of six decimals.

    Raises:
        ValueError: RDKit is not there, or cannot read one of them, or one is too long.
    """
    if long := [option for option, text in smiles.items() if len(text) > LONGEST]:
        raise ValueError(
            f"smiles of {long[0]!r}: has {len(smiles[long[0]]):,} letters, at most {LONGEST:,} are read: leave it out"
        )
    try:
        chem = importlib.import_module("rdkit.Chem")
        fingerprints = importlib.import_module("rdkit.Chem.rdFingerprintGenerator")
        descriptors = importlib.import_module("rdkit.Chem.Descriptors")
        logs = importlib.import_module("rdkit.RDLogger")
    except ImportError:
        raise ValueError("smiles need RDKit: pip install 'labloop-toolkit[chem]'") from None
    logs.DisableLog("rdApp.*")
    read = {option: chem.MolFromSmiles(text) for option, text in smiles.items()}
    if bad := [option for option, molecule in read.items() if molecule is None or not molecule.GetNumAtoms()]:
        raise ValueError(f"smiles of {bad[0]!r}: RDKit cannot read {smiles[bad[0]]!r}")
    generator = fingerprints.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    counts = np.array([generator.GetCountFingerprintAsNumPy(molecule) for molecule in read.values()], dtype=float)
    functions: dict[str, Any] = dict(descriptors.descList)
    names = [name for name in PHYSICAL if name in functions]
    values = np.array([[functions[name](molecule) for name in names] for molecule in read.values()], dtype=float)
    values = standardised(values[:, np.isfinite(values).all(0)])
    sets = {"ecfp": placed(coordinates(tanimoto(counts)))[:, :MOST], "physical": placed(values)[:, :MOST]}
    return {name: (np.round(one, DIGITS) + 0.0).tolist() for name, one in sets.items() if one.size and one.any()}


def one_molecule(smiles: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Group the options whose SMILES are one molecule, written alike or not; [] where there are none, or RDKit is not there."""
    try:
        chem = importlib.import_module("rdkit.Chem")
    except ImportError:
        return []
    found: dict[str, list[str]] = {}
    for option, text in smiles.items():
        if (molecule := chem.MolFromSmiles(text)) is not None:
            found.setdefault(chem.MolToSmiles(molecule), []).append(option)
    return [tuple(options) for options in found.values() if len(options) > 1]


def tanimoto(counts: FloatArray) -> FloatArray:
    """Similarity (k, k) of rows of counts (k, m): what both have over what either has."""
    total = counts.sum(1)
    both = np.array([np.minimum(row, counts).sum(1) for row in counts])
    either = total[:, None] + total - both
    return np.where(either > 0, both / np.where(either > 0, either, 1.0), 1.0)
