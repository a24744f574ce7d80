"""Commands about the ledger itself: is it whole, keep a copy, who did what, and mend a reading."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, _lab, app
from labloop.cli.progress import PATIENCE
from labloop.errors import CampaignError, LedgerError


@app.command(group=_lab)
def verify(campaign: str | None = None, *, head: str | None = None, accept: str | None = None, common: Common = Common()) -> None:
    """Check that every row of the ledger is as it was written and that none is lost, and say where not; nothing is changed.

    Args:
        campaign: the campaign's name [default: all].
        head: a hash that stands in an earlier verify, a report or a manifest: it must still stand in the campaign's chain.
        accept: a reason, such as "backup of 31 March restored": what is missing is taken as gone, and noted so beside the ledger.
    """
    from labloop.assays.ingest.cells import count
    from labloop.ledger import examine
    from labloop.ledger.heads import ENDING
    from labloop.ledger.memory import place_of

    common.start()
    place, where, heads = place_of(common.home, common.ledger)
    if isinstance(where, Path) and not where.exists() and not where.with_name(where.name + ENDING).exists():
        raise CampaignError(f"{place} holds no ledger: start a campaign with 'labloop init', or name its folder with --home")
    with show.progress(json=common.json):
        seen = examine(where, heads=heads, campaign=campaign, head=head, accept=accept)
    found, faults = seen.campaigns, [*seen.file, *([] if accept else seen.lost)]
    faults += [f"{one.campaign}, {fault}" for one in found for fault in one.faults]
    if common.json:
        told = [{name: value for name, value in vars(one).items() if name != "hashes"} for one in found]
        show.dump({"file": seen.file, "lost": seen.lost, "noted": seen.noted, "campaigns": told})
    else:
        for one in found:
            verdict = Text("as written", "green") if not one.faults else Text(count(len(one.faults), "fault"), "bold red")
            show.out.print(Text(f"{one.campaign}:"), verdict, Text(f"({one.rows:,} rows, {count(one.links, 'link')}) {one.head}"))
        for fault in faults:
            show.out.print(Text(f"  {fault}", "red"))
        if accept:
            what = "; ".join(seen.lost) or "nothing was missing"
            show.out.print(Text(f"Accepted: {what}"))
        elif not seen.noted:
            show.note(
                "No heads are noted beside this ledger, so that a loss of its last rows cannot be told: compare with --head."
            )
    if faults:
        step = "something is not as it was written; find out who changed it, or restore a backup that verifies"
        if seen.lost and len(seen.lost) == len(faults):
            step = (
                "something is missing that was noted beside the ledger: look for the newest copy (with its -wal), or, where an "
                "older one was restored knowingly, say so with --accept '…'"
            )
        raise LedgerError(f"{seen.where}: {count(len(faults), 'fault')}: {step}")


@app.command(group=_lab)
def backup(file: Path, *, common: Common = Common()) -> None:
    """Copy the ledger as it stands, every campaign, into a new SQLite file; others may go on writing.

    Args:
        file: the copy's path, such as backup/ledger-2026-03-31.db.
    """
    from labloop.ledger.memory import open_ledger

    common.start()
    with show.progress(json=common.json):
        copy = open_ledger(common.home, common.ledger)[1].backup(file)
    if common.json:
        show.dump({"backup": str(copy)})
    else:
        show.out.print(Text(f"Copied to {copy}; check it with: labloop verify --ledger sqlite:///{copy.resolve()}"))


@app.command(group=_lab)
def correct(
    file: Path,
    *,
    campaign: Annotated[str, Parameter(name=["--campaign", "-c"])],
    reason: str,
    assay: str | None = None,
    read: str | None = None,
    plate: tuple[str, ...] = (),
    reader: str | None = None,
    dry_run: bool = False,
    common: Common = Common(),
) -> None:
    """Let a corrected file's readings replace those that stand of the same wells; both stay in the ledger, with the reason.

    Args:
        file: the corrected file; rows that say what stands are left out.
        campaign: the campaign that it belongs to.
        reason: why, kept in the ledger.
        assay: which assay it holds [default: the objective's].
        read: which read to take, where the file holds several, such as 450.
        plate: the plate that it shows, where the file does not say; see `labloop ingest`.
        reader: which reader to use, where several know the file.
        dry_run: show old and new, and store nothing.
    """
    from labloop.assays.ingest.cells import count

    common.start()
    with show.progress(json=common.json):
        done = common.open(campaign).correct(
            file, reason=reason, assay=assay, dry_run=dry_run, read=read, plates=plate, reader=reader
        )
    if common.json:
        show.dump({**vars(done), "changes": done.changes.to_dict("records")})
        return
    for row in done.changes.head(40).to_dict("records"):
        where = f"{row['plate']}:{row['well']}" if isinstance(row["well"], str) else row["design_id"]
        show.out.print(
            Text(f"  {where}  {row['old']} (row {row['old_row']} of {row['old_file']}) -> {row['new']} (row {row['row']})")
        )
    if len(done.changes) > 40:
        show.out.print(Text(f"  … and {len(done.changes) - 40} more"))
    what = (
        f"{count(len(done.changes), 'reading')} replaced"
        if done.stored
        else f"{count(len(done.changes), 'reading')} would change"
    )
    what = what if len(done.changes) else "nothing differs from what stands, nothing stored"
    show.out.print(Text(f"{done.file}: {what}; {count(done.equal, 'row')} as before"))


@app.command(group=_lab)
def audit(campaign: str, what: str, *, common: Common = Common()) -> None:
    """Tell who did what and when with a well or a design, from the proposal to the value that stands.

    Args:
        campaign: the campaign's name.
        what: a well as PLATE:WELL, or a design_id (its beginning will do).
    """
    common.start()
    with show.progress(json=common.json, what="looking through the ledger", after=PATIENCE):
        found = common.open(campaign).audit(what)
    if common.json:
        show.dump({**vars(found), "steps": [vars(step) for step in found.steps]})
        return
    design = ", ".join(f"{name} {value}" for name, value in found.design.items())
    title = found.subject if found.design_id in (None, found.subject) else f"{found.subject}, design {found.design_id}"
    show.out.print(Text(f"{title}: {design}" if design else title, "bold"))
    for step in found.steps:
        show.out.print(Text(f"{step.at[:19].replace('T', ' ')}  {step.by} "), Text(f"{step.what}:", "bold"), Text(step.said))
