"""Many plates at a glance: how good they are on the whole, and which of them are worth showing one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

GOOD = 0.5
"""Z' of a good assay; Zhang, Chung and Oldenburg, J. Biomol. Screen. 4, 67 (1999)."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """All plates of an assay that has more than are shown one by one."""

    n: int
    shown: int
    n_flagged: int
    """Plates with a flagged reading."""
    n_controlled: int
    """Plates whose controls give a Z'."""
    n_poor: int
    """Those of them whose Z' is below 0.5."""
    z_prime: tuple[float, float, float] | None
    """The lowest, the median and the highest Z'."""

    @property
    def said(self) -> str:
        """It in words."""
        parts = [
            f"{self.n:,} plates: shown are {self.shown}, the latest, those with most flags and those with the lowest Z′; "
            f"{self.n - self.shown:,} are left out"
        ]
        parts.append(f"{self.n_flagged:,} plates have a flagged reading" if self.n_flagged else "no plate has a flagged reading")
        if self.z_prime is not None:
            low, middle, high = (f"{one:.2f}".replace("-", "−") for one in self.z_prime)
            good = f"{self.n_poor:,} below {GOOD}" if self.n_poor else f"none below {GOOD}"
            parts.append(f"Z′ of {self.n_controlled:,} plates with controls: median {middle}, from {low} to {high}, {good}")
        return f"{'. '.join(f'{one[0].upper()}{one[1:]}' for one in parts)}."


def survey(readings: pd.DataFrame, flags: pd.DataFrame, most: int) -> tuple[pd.DataFrame, dict[str, Survey]]:
    """Keep the readings of plates that are worth showing, and sum up the assays that have more plates than `most`.

    Args:
        readings: as `labloop.assays.quality.plates` takes them, in the order they came in.
        flags: `assay`, `measurement` of flagged readings.
        most: plates of an assay; a third of them the latest, a third those with most flags, the rest those with the lowest Z'.
    """
    known = readings[readings["plate"].notna() & readings["row"].notna() & readings["value"].notna()]
    told: dict[str, Survey] = {}
    left = []
    for assay, rows in known.groupby("assay", sort=False):
        codes, names = pd.factorize(rows["plate"])
        n = len(names)
        if n <= most:
            left.append(rows)
            continue
        mine = flags.loc[flags["assay"] == assay, "measurement"]
        flagged = np.bincount(codes[rows["id"].isin(mine).to_numpy(dtype=bool)], minlength=n)
        z = _z_primes(rows, codes, n)
        found = z[np.isfinite(z)]
        third = max(1, most // 3)
        chosen = dict.fromkeys(range(n - third, n))
        chosen |= dict.fromkeys(i for i in np.argsort(-flagged, kind="stable")[:third].tolist() if flagged[i])
        for i in [*np.argsort(np.where(np.isfinite(z), z, np.inf), kind="stable").tolist()[: len(found)], *range(n - 1, -1, -1)]:
            if len(chosen) >= most:
                break
            chosen.setdefault(i)
        told[str(assay)] = Survey(
            n=n, shown=len(chosen), n_flagged=int((flagged > 0).sum()), n_controlled=len(found), n_poor=int((found < GOOD).sum()),
            z_prime=(float(found.min()), float(np.median(found)), float(found.max())) if len(found) else None,
        )  # fmt: skip
        left.append(rows[np.isin(codes, list(chosen))])
    return (pd.concat(left).sort_index() if left else known), told


def _z_primes(rows: pd.DataFrame, codes: np.ndarray, n: int) -> np.ndarray:
    """Z' of each plate (n,), NaN where its controls do not tell it."""
    sides = []
    for role in ("positive", "negative"):
        mine = (rows["role"] == role).to_numpy(dtype=bool)
        by = rows.loc[mine, "value"].astype(float).groupby(codes[mine])
        sides.append(by.agg(["mean", "std"]).reindex(range(n)))
    high, low = sides
    gap = (high["mean"] - low["mean"]).abs().to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = 1 - 3 * (high["std"] + low["std"]).to_numpy(float) / gap
    return np.where(gap > 0, z, np.nan)
