"""What vendors and robots need to know of a batch: which design stands in which well of an order, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from labloop.errors import BatchError
from labloop.plates.wells import SHAPES
from labloop.space.design_space import DesignSpace


@dataclass(frozen=True, eq=False, kw_only=True)
class TransferPlan:
    """A batch as exporters see it. It is blinded: nothing in it tells arms apart.

    Designs stand in their source plates in the order of their assay wells, which is random, so that the sources tell no arm
    either. Plates are filled row after row from A01 on; wells are named `A01`.
    """

    stem: str
    """How the names of the batch's files begin: `promoter-R02`."""
    designs: pd.DataFrame
    """One row a design: `source_plate`, `source_well`, `sample` (the tube's name), `design_id` and the space's columns."""
    transfers: pd.DataFrame
    """One row a filled well of the assay plates, source plate after source plate: `source_plate`, `source_well` (both NaN for a
    control whose source nobody declared), `plate`, `well`, `sample` (the tube's or the control's name), `design_id` (NaN for a
    control) and `control` (NaN for a design)."""
    space: DesignSpace
    flanks: Mapping[str, tuple[str, str]]
    """What stands before and after each sequence in what is ordered, by parameter; nothing where a parameter is not named."""
    source_wells: int
    """Wells of a source plate."""
    plate_wells: int
    """Wells of an assay plate."""
    unit: str = ""
    """Of what the assay reports."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Columns of the results' form with their units, where there are several properties."""
    shape: tuple[int, int] | None = None
    """Rows and columns of a source plate where it is no usual one."""

    @property
    def source_shape(self) -> tuple[int, int]:
        """Rows and columns of a source plate."""
        return self.shape or SHAPES[self.source_wells]

    def sourced(self) -> pd.DataFrame:
        """Give the transfers, every source known.

        Raises:
            BatchError: a control's source is not declared.
        """
        lost = self.transfers.loc[self.transfers["source_well"].isna(), ["plate", "well", "control"]]
        if len(lost):
            first = lost.iloc[0]
            raise BatchError(
                f"plate {first['plate']}, well {first['well']}: control {first['control']} has no source: give it one in the "
                f"campaign, plate.controls: - {{name: {first['control']}, wells: …, source: {{plate: CONTROLS, well: A01}}}}"
            )
        return self.transfers

    def tubes(self) -> list[tuple[str, str, str, str]]:
        """List source plate, source well, name and `design_id` of every design."""
        columns = ("source_plate", "source_well", "sample", "design_id")
        return list(zip(*(self.designs[name].astype(str).tolist() for name in columns), strict=True))

    def sequences(self, parameter: str | None = None) -> dict[str, str]:
        """Give what is to be synthesised, flanks included, by `design_id`, in the order of `designs`.

        Args:
            parameter: which sequence of the design; the only one where left out.

        Raises:
            BatchError: the design has no DNA sequence, or several and none is named.
        """
        letters = {one.name: set(getattr(one, "alphabet", "")) for one in self.space if one.type == "sequence"}
        if not letters:
            raise BatchError(
                f"{self.stem}: a design of {', '.join(self.space.columns)} has no sequence to order: "
                "leave the order sheet out, and make the designs by hand or with a worklist (--for hamilton)"
            )
        if parameter is None and len(letters) > 1:
            raise BatchError(f"{self.stem}: designs have several sequences: say which to order, parameter={next(iter(letters))}")
        name = parameter or next(iter(letters))
        if name not in letters:
            raise BatchError(f"{self.stem}: the space has no sequence {name!r} to order; it has {', '.join(letters)}")
        if not letters[name] <= set("ACGT"):
            raise BatchError(
                f"{self.stem}: {name} is over {''.join(sorted(letters[name]))}, which is no DNA, so it cannot be ordered "
                "as such: choose codons (or the DNA template) for the pick list with your own tool, and order those"
            )
        before, after = self.flanks.get(name, ("", ""))
        return {one: f"{before}{text}{after}" for one, text in zip(self.designs["design_id"], self.designs[name], strict=True)}
