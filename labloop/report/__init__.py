"""One self-contained HTML page about a campaign, for people: opens offline, prints, and needs nothing beside it.

`ReportData` is everything the page shows; the façade fills it from the ledger. Drawing libraries load when a page is written.
"""

from __future__ import annotations

from pathlib import Path

from labloop.errors import LabloopError
from labloop.ledger.memory import Memory
from labloop.report.data import ReportData
from labloop.runtime.files import write_text

__all__ = ["ReportData", "figure_of", "report_of", "write_report"]


def report_of(campaign: Memory) -> ReportData:
    """Take everything that a report shows from a campaign's ledger."""
    from labloop.report.collect import collect

    return collect(campaign)


def write_report(path: Path | str, data: ReportData) -> Path:
    """Write the page, whole or not at all; equal data give equal bytes.

    Raises:
        LabloopError: the drawing packages are not installed, or the file cannot be written.
    """
    path = Path(path)
    try:
        from labloop.report.page import render
    except ModuleNotFoundError as error:
        raise LabloopError(f"a report needs the package {error.name!r}: pip install 'labloop-toolkit[report]'") from error
    return write_text(path, render(data))


def figure_of(data: ReportData) -> bytes | None:
    """Draw the report's first figure, best so far by round, as a PNG; None before anything is measured.

    Raises:
        LabloopError: the drawing packages are not installed.
    """
    try:
        from labloop.report.page import picture
    except ModuleNotFoundError as error:
        raise LabloopError(f"a figure needs the package {error.name!r}: pip install 'labloop-toolkit[report]'") from error
    return picture(data, "progress")
