"""What people work with beside the plate map: the results form as a workbook, and sequences as FASTA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from labloop.errors import BatchError
from labloop.plates.batch import form_lines
from labloop.plates.statuses import STATUSES
from labloop.plates.transfer import TransferPlan
from labloop.plates.wells import parse_well
from labloop.registry import plugin
from labloop.runtime.spreadsheet import xlsx_bytes


@plugin
class Form:
    """The empty results form as an Excel workbook, its statuses as a drop-down; `labloop ingest` takes it back filled in."""

    def export(self, plan: TransferPlan) -> Mapping[str, bytes]:
        """Write `…_form.xlsx`: a row a well, plate after plate and row by row."""
        order = {plate: i for i, plate in enumerate(sorted(set(plan.transfers["plate"]), key=lambda one: (len(one), one)))}
        wells = sorted(
            zip(plan.transfers["plate"].astype(str), plan.transfers["well"].astype(str), strict=True),
            key=lambda one: (order[one[0]], parse_well(one[1])),
        )
        lines = form_lines(wells, unit=plan.unit, properties=plan.properties)
        return {"form.xlsx": xlsx_bytes({"results": lines}, choices={"status": STATUSES})}


@plugin
class Fasta:
    """Sequences of the plate as FASTA: DNA, RNA or protein, each under its tube's name and `design_id`."""

    parameter: str | None = None
    """Which of the design's sequences; all, each under its name, where left out."""
    flanks: bool = False
    """With the constant sequence around it that is ordered."""
    width: Annotated[int, Field(ge=1)] = 60
    """Letters a line."""

    def export(self, plan: TransferPlan) -> Mapping[str, bytes]:
        """Write `…_designs.fasta`.

        Raises:
            BatchError: designs have no sequence, or none of that name.
        """
        known = [one.name for one in plan.space if one.type == "sequence"]
        wanted = [one for one in known if self.parameter in (None, one)]
        if not wanted:
            what = f"no sequence {self.parameter!r}; it has {', '.join(known)}" if known else "no sequence"
            raise BatchError(f"fasta: the space has {what}: leave fasta out of the exporters")
        lines = []
        for _, _, name, design in plan.tubes():
            row = plan.designs.loc[plan.designs["design_id"] == design].iloc[0]
            for parameter in wanted:
                before, after = plan.flanks.get(parameter, ("", "")) if self.flanks else ("", "")
                text = f"{before}{row[parameter]}{after}"
                lines.append(f">{name} {design}" + (f" {parameter}" if len(wanted) > 1 else ""))
                lines += [text[i : i + self.width] for i in range(0, len(text), self.width)]
        return {"designs.fasta": ("\n".join(lines) + "\n").encode()}
