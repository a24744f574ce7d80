"""The seam of order sheets and worklists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from labloop.plates.transfer import TransferPlan


@runtime_checkable
class Exporter(Protocol):
    """Writes a batch as a vendor or a robot wants it: a pure function of the plan and its own options."""

    def export(self, plan: TransferPlan) -> Mapping[str, bytes]:
        """Make the files: the end of each one's name, such as `echo.csv`, to its content; equal sheets, equal bytes.

        Raises:
            BatchError: the plan is beyond a limit of the vendor's; the message names well, design and limit.
        """
        ...
