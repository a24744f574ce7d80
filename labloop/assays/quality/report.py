"""Quality control of a whole campaign, for people: every plate's figures, every flag, and what was done about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from labloop.assays.quality.normalise import Agreement
from labloop.assays.quality.plates import PlateQuality, Replicates, plate_quality, plates_of, replicates
from labloop.assays.quality.survey import Survey, survey
from labloop.assays.readings import Usable, usable, with_places
from labloop.errors import QualityError
from labloop.ledger.memory import Memory
from labloop.runtime.progress import track

_SAID = ["rule", "detail", "policy"]


@dataclass(frozen=True, eq=False, kw_only=True)
class QualityReport:
    """What quality control found in a campaign, in the order in which plates came in."""

    plates: tuple[PlateQuality, ...]
    replicates: dict[str, Replicates]
    """By assay."""
    flags: pd.DataFrame
    """One row a flagged reading and rule: measurement, assay, plate, well, design_id, control, value, rule, detail, policy."""
    normalised: str
    """What the declared normalisation of the objective's assay did, or why it was refused."""
    agreement: Agreement | None
    """Replicates across plates before and after it; None where nothing is normalised, or it was refused."""
    n_used: int
    """Readings that the dataset is made of, controls aside."""
    n_dropped: int
    n_downweighted: int
    noise_known: bool
    """Whether replicates that differ tell the noise: if not, standard errors are unknown and downweighting a design's only
    reading does nothing."""
    surveys: dict[str, Survey] = field(default_factory=dict)
    """By assay, where `plates` holds some of its plates only."""

    def flags_of(self, plate: PlateQuality) -> dict[str, int]:
        """Count a plate's flagged readings by rule."""
        here = self.flags[(self.flags["assay"] == plate.assay) & (self.flags["plate"] == plate.plate)]
        return {str(rule): int(n) for rule, n in here["rule"].value_counts(sort=False).items()}

    def effects(self) -> list[dict[str, Any]]:
        """Count the flagged readings of each assay and rule, and say what its policy did to the dataset."""
        if self.flags.empty:
            return []
        counts = self.flags.groupby(["assay", "rule", "policy"], sort=True).size().reset_index(name="readings")
        words = {"drop": "left out of the dataset", "downweight": "counted as a quarter", "keep": "kept as they are"}
        if not self.noise_known:
            words["downweight"] = "counted as a quarter beside others of their design; no replicates tell the noise"
        return [{**row, "effect": words[row["policy"]]} for row in counts.to_dict("records")]  # type: ignore[dict-item]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        flags = self.flags.astype(object).where(self.flags.notna(), None)
        return {
            "plates": [asdict(plate) for plate in self.plates],
            "replicates": {assay: asdict(found) for assay, found in self.replicates.items()},
            "flags": flags.to_dict("records"),
            "effects": self.effects(),
            "normalised": self.normalised,
            "agreement": None if self.agreement is None else asdict(self.agreement),
            "n_used": self.n_used, "n_dropped": self.n_dropped, "n_downweighted": self.n_downweighted,
            "noise_known": self.noise_known, "surveys": {assay: asdict(found) for assay, found in self.surveys.items()},
        }  # fmt: skip


def inspect(memory: Memory, *, most: int | None = None) -> QualityReport:
    """Take the figures of every plate and assay from readings that stand, those aside that a rule about the well sets aside.

    Args:
        most: of an assay with more plates, only the latest and those that are worth a look are taken one by one; see `survey`.
    """
    rows = memory.ledger.measurements(memory.name)
    placed = with_places(memory, rows)
    by_assay = {assay: _usable(memory, assay, rows)[0] for assay in memory.config.assays if (rows["assay"] == assay).any()}
    flags = pd.concat([found.flags.assign(assay=assay) for assay, found in by_assay.items()]) if by_assay else _no_flags()
    of_wells = flags.loc[flags["rule"].isin(["transfer_failed", "excluded", "reread"]), "measurement"]
    left = placed[~placed["id"].isin(of_wells) & placed["assay"].isin(list(by_assay))]
    shown, surveys = (left, {}) if most is None else survey(left, flags, most)
    objective = memory.config.objective.assay
    used, refused = _usable(memory, objective, rows)
    designs = used.rows[used.rows["design_id"].notna()]
    dropped = used.dropped[used.dropped["design_id"].notna()]
    told = ["plate", "well", "design_id", "control", "value"]
    where = placed.set_index("id")[told]
    every = list(plates_of(shown))
    return QualityReport(
        plates=tuple(
            plate_quality(assay, plate, held)
            for (assay, plate), held in (every[at] for at in track(len(every), "plates inspected"))
        ),
        surveys=surveys,
        replicates={assay: replicates(left[left["assay"] == assay]) for assay in by_assay},
        flags=flags.join(where, on="measurement").reset_index(drop=True)[["measurement", "assay", *told, *_SAID]],
        normalised=refused or used.normalised.note, agreement=used.normalised.agreement, n_used=len(designs),
        n_dropped=len(dropped), n_downweighted=int((designs["weight"] < 1).sum()),
        noise_known=bool((designs[designs["qualifier"] == "="].groupby("design_id")["value"].nunique() > 1).any()),
    )  # fmt: skip


def _usable(memory: Memory, assay: str, rows: pd.DataFrame) -> tuple[Usable, str]:
    """Take an assay's readings; where its normalisation is refused, as the lab sent them, with the refusal."""
    try:
        return usable(memory, assay=assay, rows=rows), ""
    except QualityError as error:
        return usable(memory, assay=assay, rows=rows, normalised=False), str(error)


def _no_flags() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=object) for name in ("measurement", "rule", "detail", "at", "policy", "assay")})
