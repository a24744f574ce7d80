"""What leaves the ledger: a plate's files once more, with order sheets and worklists, and all measurements as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from labloop.cli import show
from labloop.cli.app import Common, _lab, app


@app.command(group=_lab)
def export(
    campaign: str,
    *,
    round: int | None = None,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("out"),
    exporters: Annotated[str | None, Parameter(name="--for")] = None,
    dataset: Path | None = None,
    assay: str | None = None,
    controls: bool = False,
    common: Common = Common(),
) -> None:
    """Write the files of a proposed round again, for robots and vendors too; or every measurement as one table.

    Args:
        campaign: the campaign's name.
        round: which round [default: the latest].
        out: folder for the files.
        exporters: order sheets and worklists: echo, hamilton, opentrons, idt, twist, or your own by its import path (allow its
            module with --plugins); with commas between, options after slashes: idt,echo/volume=50 (`labloop methods` lists them);
            or none [default: the campaign's].
        dataset: write no plate, but a row a reading into this FILE.csv, FILE.xlsx or FILE.parquet.
        assay: with --dataset: only this assay's readings, which `labloop ingest` takes back [default: all].
        controls: with --dataset: the readings of controls too.
    """
    common.start()
    run = common.open(campaign)
    if dataset is not None:
        with show.progress(json=common.json):
            written = run.export_dataset(dataset, assay=assay, controls=controls)
        show.exported(*written, json=common.json)
        return
    from labloop.registry import parse_plugin

    labels = [] if exporters in (None, "none") else exporters.split(",")
    asked = None if exporters is None else dict(parse_plugin(label.strip()) for label in labels)
    batch = run.batch(round)
    show.batch(batch, run.export(out, number=batch.round, exporters=asked), json=common.json)
