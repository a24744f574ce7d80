"""Commands about the ledger itself: is it whole, keep a copy, who did what, and mend a reading."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, _lab, app
from labloop.errors import LedgerError


@app.command(group=_lab)
def verify(campaign: str | None = None, *, head: str | None = None, common: Common = Common()) -> None:
    """Check that every row of the ledger is as it was written, and say where it is not.

    Args:
        campaign: the campaign's name [default: all].
        head: a hash that an earlier verify printed: it must still stand in the campaign's chain.
    """
    from labloop.campaign import open_ledger

    common.start()
    ledger = open_ledger(common.home, common.ledger)[1]
    file, found = ledger.check_file(), ledger.verify(campaign, head=head)
    faults = [*file, *(f"{one.campaign}, {fault}" for one in found for fault in one.faults)]
    if common.json:
        show.dump({"file": file, "campaigns": [vars(one) for one in found]})
    else:
        table = Table("campaign", "links", "rows", "head", "")
        for one in found:
            verdict = Text("as written", "green") if not one.faults else Text(f"{len(one.faults)} faults", "bold red")
            table.add_row(Text(one.campaign), f"{one.links:,}", f"{one.rows:,}", one.head, verdict)
        show.out.print(table)
        for fault in faults:
            show.out.print(Text(fault, "red"))
    if faults:
        raise LedgerError(
            f"{ledger.where}: {len(faults)} places are not as they were written: restore a backup that verifies, or find out "
            "who changed them"
        )


@app.command(group=_lab)
def backup(file: Path, *, common: Common = Common()) -> None:
    """Copy the ledger as it stands, every campaign, into a new SQLite file; others may go on writing.

    Args:
        file: the copy's path, such as backup/ledger-2026-03-31.db.
    """
    from labloop.campaign import open_ledger

    common.start()
    show.written(open_ledger(common.home, common.ledger)[1].backup(file), json=common.json)
