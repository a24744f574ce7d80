"""Commands that decide about wells: designs by hand, vetoes, and what a plate can show before it is spent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, _lab, _research, app
from labloop.cli.progress import PATIENCE
from labloop.errors import CampaignError

if TYPE_CHECKING:
    from labloop.rounds.outlook import Outlook
    from labloop.studies.backtest import Backtested


@app.command(group=_lab)
def pick(
    campaign: str,
    file: Path | None = None,
    *,
    arm: str,
    by: str = "",
    wells: int | None = None,
    withdraw: Annotated[bool, Parameter(negative="")] = False,
    reason: str = "",
    common: Common = Common(),
) -> None:
    """Let designs that people chose become an arm of the next plate: checked, blinded, judged and compared like the others.

    Args:
        campaign: the campaign's name.
        file: a CSV, Excel or FASTA file of designs, the most wanted first. This arm's list is replaced, unless it is on a plate.
        arm: the name that the arm gets, such as chemist.
        by: who chose them [default: $LABLOOP_USER, else the name you are logged in with].
        wells: wells that the arm asks for [default: an equal share of the plate, or as many as there are designs].
        withdraw: take the list back instead, as long as it is on no plate.
        reason: why it is withdrawn, kept in the ledger.
    """
    common.start()
    run = common.open(campaign)
    if withdraw == (file is not None):
        raise CampaignError(
            f"name the file of designs (labloop pick {campaign} designs.csv --arm {arm}), or take the list back with --withdraw"
        )
    told = run.pick(file, arm=arm, by=by, wells=wells) if file is not None else run.withdraw(arm, by=by, reason=reason)
    if common.json:
        return show.dump(asdict(told))
    show.out.print(Text(f"{told.said}."))


@app.command(group=_lab)
def veto(campaign: str, well: str, *, reason: str, by: str = "", common: Common = Common()) -> None:
    """Take a well out of a proposed plate before its files are written: its arm's next choice comes in, nothing is trained again.

    Args:
        campaign: the campaign's name.
        well: the well, as PLATE:WELL.
        reason: why, kept in the ledger.
        by: who says so [default: $LABLOOP_USER, else the name you are logged in with].
    """
    common.start()
    told = common.open(campaign).veto(well, reason=reason, by=by)
    if common.json:
        return show.dump(asdict(told))
    show.out.print(Text(f"{told.said}. Next: labloop export {campaign}"))


@app.command(group=_research)
def plan(campaign: str, round: Path | None = None, *, worth: float | None = None, common: Common = Common()) -> None:
    """Tell what the next plate can show and gain, from the lab's own noise and history; nothing is trained or stored.

    Args:
        campaign: the campaign's name.
        round: the round's YAML file that is planned [default: config/rounds/default.yaml].
        worth: the smallest gain that is worth another plate, in the lab's unit, under a log transform in logarithms
            [default: the noise of one reading].
    """
    common.start()
    run = common.open(campaign)
    with show.progress(json=common.json, what="drawing plates", after=PATIENCE):
        told = run.plan(round, worth=worth)
    if common.json:
        return show.dump(told.to_dict())
    _planned(told)


@app.command(group=_research)
def backtest(
    campaign: str,
    round: Path | None = None,
    *,
    arms: str | None = None,
    splits: int = 8,
    rounds: int = 3,
    batch: int | None = None,
    replay: bool = False,
    workers: int | str = 1,
    keep: Annotated[bool, Parameter(negative="--no-keep")] = True,
    common: Common = Common(),
) -> None:
    """Try arms on what the campaign has measured: its best part is hidden, and every arm chooses among what is hidden.

    Args:
        campaign: the campaign's name.
        round: the round's YAML file, with its arms [default: config/rounds/quick.yaml].
        arms: names of arms or proposers, with commas between [default: all of the file].
        splits: how often measurements are split into a start and what is hidden.
        rounds: rounds in a row.
        batch: designs that an arm chooses a round [default: a quarter of what is hidden, over all rounds].
        replay: replay past rounds instead: what would today's arms have chosen of each plate?
        workers: side by side: a number of processes, or the address of a Dask scheduler, tcp://host:8786.
        keep: keep it in the ledger, for labloop propose --round auto, which takes the next round's arms from it; of one arm
            alone nothing is kept.
    """
    from labloop.studies.backtest import backtest as run

    common.start()
    memory = common.open(campaign)
    with show.progress(json=common.json):
        told = run(
            memory, round, arms=None if arms is None else arms.split(","), splits=splits, rounds=rounds, batch=batch,
            replay=replay, workers=workers, keep=keep,
        )  # fmt: skip
    if common.json:
        return show.dump(told.to_dict())
    rows = [
        {"arm": one.arm, "found, averaged": f"{100 * one.found:.0f} %", "at the end": f"{100 * one.found_at_end:.0f} %",
         "behind the best": "" if i == 0 else _behind(one),
         "told apart": "" if i == 0 else "yes" if one.told_apart else "no", "failed": one.failed}
        for i, one in enumerate(told.arms)
    ]  # fmt: skip
    size = f"{told.n_designs} designs, {told.n_start} to start, {told.batch} a round"
    show._table(rows, title=f"{told.campaign}: the {told.n_best} best hidden designs ({size})")
    show.out.print(Text(told.sentence, style="bold"))
    for caveat in told.caveats:
        show.out.print(Text(f"- {caveat}"))
    if keep and len(told.arms) > 1:
        show.out.print(Text(f"Kept: labloop propose {campaign} --round auto takes the next round's arms from it"))


def _behind(one: Backtested) -> str:
    """Say how far an arm is behind the best, in points; one split leaves its interval open."""
    if one.low != one.low:
        return f"{100 * one.behind:.0f} points, no interval"
    return f"{100 * one.behind:.0f} ({100 * one.low:.0f} to {100 * one.high:.0f}) points"


def _planned(told: Outlook) -> None:
    wells = ", ".join(f"{arm} {n}" for arm, n in told.wells.items())
    of = "wells" if told.replicates == 1 else f"designs of {told.replicates} wells"
    mean = "One reading" if told.replicates == 1 else f"The mean of {told.replicates} readings"
    show.out.print(Text(f"{told.campaign}, the next plate: {wells} {of}", style="bold"))
    for what, one in ((f"{mean} within an arm", told.reading), ("One reading of one design", told.noise)):
        interval = f", 95 % {one.low:.3g} to {one.high:.3g}" if one.low == one.low else ""
        known = f"{one.sd:.3g}{interval}" if one.known else "unknown"
        show.out.print(Text(f"{what} scatters by {known} ({one.source})"))
    rows = [
        {"arms": f"{one.first} and {one.second}", "designs": "{} and {}".format(*one.wells), "readings each": one.replicates,
         "plates": one.plates, "smallest difference": told.effect(one.difference),
         "if the spread is least": told.effect(one.low), "or largest": told.effect(one.high)} for one in told.shown
    ]  # fmt: skip
    show._table(rows, title="Smallest difference of arms that is shown with 80 %")
    rows = [{"readings each": r, "found best, above the mean": told.effect(best)} for r, best in told.best.items()]
    show._table(rows, title="Replicates or new designs: how good the design is that reads best, with one arm's wells")
    rows = [
        {"arm": one.arm, "wells": one.wells, "last measured": one.n_measured, "expected gain": told.effect(one.gain),
         "8 of 10 plates": f"{told.effect(one.low)} to {told.effect(one.high)}",
         "any gain": f"{100 * one.chance:.0f} %" if one.chance == one.chance else "–"} for one in told.gains
    ]  # fmt: skip
    show._table(rows, title="What another plate gains on the best known, if an arm's next wells are like its last")
    show.out.print(Text(told.stop))
    for note in told.notes:
        show.out.print(Text(f"- {note}"))
