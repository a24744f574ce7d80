"""Worklists of liquid handlers: from the source plates to the assay plate, one row a transfer.

Columns are those found in users' files and documentation; what no vendor's document was at hand for is said at each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from labloop.errors import BatchError
from labloop.plates.transfer import TransferPlan
from labloop.plates.wells import parse_well, row_name
from labloop.registry import plugin
from labloop.runtime.spreadsheet import csv_bytes

_DROP = 2.5


def short_well(well: str) -> str:
    """Write `A01` as `A1`, as most robots want it."""
    row, column = parse_well(well)
    return f"{row_name(row)}{column}"


@plugin
class Echo:
    """Beckman (Labcyte) Echo: a pick list, nL in drops of 2.5.

    The columns are those that the Echo software reads (kithairon's documentation), wells unpadded. That a transfer is a multiple
    of 2.5 nL and at most 10 µL is from users' scripts for the Echo 55x. That its source plates have 384 wells (or 1536) is
    common knowledge of the instrument; both are not verified with the vendor.
    """

    volume: Annotated[float, Field(gt=0, le=10_000)]
    """nL of every transfer."""
    source_type: str = "384PP_AQ_BP"
    """The Echo's name for the source plates' type."""
    plate_type: str = ""
    """The Echo's name for the assay plates' type; its software asks where it is empty."""

    def export(self, plan: TransferPlan) -> Mapping[str, bytes]:
        """Write `…_echo.csv`.

        Raises:
            BatchError: the volume is no number of drops, a source plate does not fit the Echo, a control has no source.
        """
        if abs(self.volume / _DROP - round(self.volume / _DROP)) > 1e-9:
            low = self.volume // _DROP * _DROP
            either = f"volume={low:g} or {low + _DROP:g}" if low else f"volume={_DROP:g}"
            raise BatchError(f"echo: {self.volume:g} nL are no whole drops of 2.5 nL: take {either}")
        transfers = plan.sourced()
        if self.source_type.startswith("384") and plan.source_wells != 384:
            first = transfers.iloc[0]
            raise BatchError(
                f"echo: plate {first['source_plate']} (well {first['source_well']}: {first['sample']}) has {plan.source_wells} "
                f"wells, a source plate of type {self.source_type} has 384: set plate.source_wells: 384 in the campaign, or name "
                "your plates' type with source_type"
            )
        header = (
            "Source Plate Name", "Source Plate Type", "Source Well", "Destination Plate Name", "Destination Plate Type",
            "Destination Well", "Transfer Volume", "Sample Name",
        )  # fmt: skip
        lines = (
            (plate, self.source_type, short_well(well), to, self.plate_type, short_well(place), f"{self.volume:g}", sample)
            for plate, well, to, place, sample in _moves(plan)
        )
        return {"echo.csv": csv_bytes([header, *lines])}


@plugin
class Hamilton:
    """Hamilton or Biomek: a worklist in µL, as TeselaGen writes it for both.

    Source Plate Name, Source Well, Destination Plate Name, Destination Well, Transfer Volume; wells unpadded. A method on the
    robot has to read these columns; the 1,000 µL that a tip holds at most is not verified with the vendor.
    """

    volume: Annotated[float, Field(gt=0, le=1_000)]
    """µL of every transfer."""

    def export(self, plan: TransferPlan) -> Mapping[str, bytes]:
        """Write `…_hamilton.csv`.

        Raises:
            BatchError: a control has no source.
        """
        header = ("Source Plate Name", "Source Well", "Destination Plate Name", "Destination Well", "Transfer Volume")
        plan.sourced()
        lines = ((plate, short_well(w), to, short_well(p), f"{self.volume:g}") for plate, w, to, p, _ in _moves(plan))
        return {"hamilton.csv": csv_bytes([header, *lines])}


@plugin
class Opentrons:
    """Opentrons: a CSV for a protocol that takes a CSV parameter, µL.

    The documentation's cherry-picking example has `source slot,source well,volume`; since a layout is random, these are joined by
    `destination slot,destination well` and the plates' names. A protocol of your own reads it, with `parse_as_csv()`. The columns
    of the protocol library's own cherry-picking protocol are not verified.
    """

    volume: Annotated[float, Field(gt=0, le=1_000)]
    """µL of every transfer."""
    slots: tuple[str, ...] = ("1", "2", "3", "4", "5", "6", "7", "8", "9")
    """Deck slots for source plates, then assay plates, in order; two of an OT-2's eleven are left for tips. Flex: D1, D2, …"""

    def export(self, plan: TransferPlan) -> Mapping[str, bytes]:
        """Write `…_opentrons.csv`.

        Raises:
            BatchError: there are more plates than slots, or a control has no source.
        """
        transfers = plan.sourced()
        plates = list(dict.fromkeys([*transfers["source_plate"], *transfers["plate"]]))
        if len(plates) > len(self.slots):
            raise BatchError(
                f"opentrons: {len(plates)} plates ({', '.join(plates[:4])}, …) do not fit {len(self.slots)} slots: "
                "propose fewer plates a round, or take source plates of 384 wells (plate.source_wells in the campaign)"
            )
        slot = dict(zip(plates, self.slots))
        header = (
            "source slot", "source well", "volume", "destination slot", "destination well", "source plate", "destination plate",
            "sample",
        )  # fmt: skip
        lines = (
            (slot[plate], short_well(well), f"{self.volume:g}", slot[to], short_well(place), plate, to, sample)
            for plate, well, to, place, sample in _moves(plan)
        )
        return {"opentrons.csv": csv_bytes([header, *lines])}


def _moves(plan: TransferPlan) -> Iterable[tuple[Any, ...]]:
    return plan.transfers[["source_plate", "source_well", "plate", "well", "sample"]].itertuples(index=False, name=None)
