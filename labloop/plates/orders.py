"""Order sheets for synthesised DNA: the design between its constant flanks, in the well of the source plate that it fills."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from labloop.errors import BatchError
from labloop.plates.transfer import TransferPlan
from labloop.plates.wells import well_name
from labloop.registry import plugin
from labloop.runtime.spreadsheet import csv_bytes, xlsx_bytes

_HEADER = ("Well Position", "Name", "Sequence")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,29}")
"""A tube's name that every vendor takes: at most 30 characters, a letter first."""


@plugin
class IDT:
    """IDT plates of oligos: Well Position, Name, Sequence; one sheet (or CSV) a plate.

    A 384-well plate lists every well to P24, the empty ones too, as IDT's upload wants it. Lengths depend on the scale that is
    ordered: the bounds here are not verified with the vendor, set those of your scale.
    """

    form: Literal["xlsx", "csv"] = "xlsx"
    """A workbook with a sheet a plate, or a CSV a plate."""
    parameter: str | None = None
    """Which of the design's sequences; the only one where left out."""
    shortest: Annotated[int, Field(ge=1)] = 5
    """Bases, flanks included."""
    longest: Annotated[int, Field(ge=1)] = 100
    """Letters of an oligo, at most."""

    def export(self, plan: TransferPlan) -> Mapping[str, bytes]:
        """Write `…_idt.xlsx`, or `…_idt.csv` (`…_idt_1.csv` … where there are several plates).

        Raises:
            BatchError: there is no DNA to order, or an oligo or its name is not one that IDT takes.
        """

        def fault(oligo: str) -> str | None:
            if self.shortest <= len(oligo) <= self.longest:
                return None
            return (
                f"{len(oligo)} bases, IDT makes {self.shortest} to {self.longest} at this scale: set shortest and longest "
                "of exporter idt to those of your scale, or mend flanks in the campaign"
            )

        texts = _checked(plan, "idt", self.parameter, fault)
        plates: dict[str, dict[str, tuple[str, str]]] = {}
        for plate, well, name, design in plan.tubes():
            plates.setdefault(plate, {})[well] = (name, texts[design])
        rows, columns = plan.source_shape
        every = [well_name(r, c) for r in range(1, rows + 1) for c in range(1, columns + 1)]
        sheets = {
            plate: [_HEADER, *((well, *held.get(well, ("", ""))) for well in (every if plan.source_wells == 384 else held))]
            for plate, held in plates.items()
        }
        if self.form == "xlsx":
            return {"idt.xlsx": xlsx_bytes(sheets)}
        numbers = [f"_{i}" for i in range(1, len(sheets) + 1)] if len(sheets) > 1 else [""]
        return {f"idt{number}.csv": csv_bytes(lines) for number, lines in zip(numbers, sheets.values())}


@plugin
class Twist:
    """Twist gene fragments: Name, Sequence.

    Fragments of 300 to 1,800 bp, 25 to 75 % GC, no long homopolymer: as third-party scripts have it, and so is the header; the
    vendor's page was not verified, nor the longest homopolymer (its own upload checks more, such as repeats). Rows stand in the
    order of the source plate's wells, A01 first; check the plate map that comes with the plates before a worklist is run.
    """

    parameter: str | None = None
    """Which of the design's sequences; the only one where left out."""
    shortest: Annotated[int, Field(ge=1)] = 300
    """Base pairs, flanks included."""
    longest: Annotated[int, Field(ge=1)] = 1_800
    """Letters of a sequence, at most."""
    gc_low: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of G and C, at least."""
    gc_high: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Share of G and C, at most."""
    homopolymer: Annotated[int, Field(ge=1)] = 10
    """The longest run of one letter."""

    def export(self, plan: TransferPlan) -> Mapping[str, bytes]:
        """Write `…_twist.csv`.

        Raises:
            BatchError: there is no DNA to order, or a fragment or its name is not one that Twist takes.
        """
        texts = _checked(plan, "twist", self.parameter, self._fault)
        lines = ((name, texts[design]) for _, _, name, design in plan.tubes())
        return {"twist.csv": csv_bytes([("Name", "Sequence"), *lines])}

    def _fault(self, text: str) -> str | None:
        gc = sum(letter in "GC" for letter in text) / len(text)
        run = max((match[0] for match in re.finditer(r"(.)\1*", text)), key=len)
        if not self.shortest <= len(text) <= self.longest:
            return (
                f"{len(text)} bp, Twist makes fragments of {self.shortest:,} to {self.longest:,}: give flanks that fill it up "
                "in the campaign, or order oligos (--for idt)"
            )
        if not self.gc_low <= gc <= self.gc_high:
            takes = f"{self.gc_low:.0%} to {self.gc_high:.0%}"
            return f"{gc:.0%} GC, Twist takes {takes}: add a gc_range to the space, or mend flanks"
        if len(run) > self.homopolymer:
            takes = f"a run of {len(run)} {run[0]}, Twist takes {self.homopolymer}"
            return f"{takes}: add a max_homopolymer to the space, or mend flanks"
        return None


def _checked(plan: TransferPlan, vendor: str, parameter: str | None, fault: Callable[[str], str | None]) -> dict[str, str]:
    """Give the sequences of a plan by `design_id`, when every one of them, and its name, can be ordered.

    Raises:
        BatchError: the first that cannot, by well and design, and how many more.
    """
    texts = plan.sequences(parameter)
    found = []
    for plate, well, name, design in plan.tubes():
        said = fault(texts[design]) if _NAME.fullmatch(name) else f"a name that vendors do not take ({name})"
        if said:
            found.append(f"{plate}, well {well}, design {design} has {said}")
    if found:
        more = f" ({len(found) - 1} more like it)" if len(found) > 1 else ""
        raise BatchError(f"{vendor}: {found[0]}{more}")
    return texts
