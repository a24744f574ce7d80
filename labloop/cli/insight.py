"""Commands that ask the judge: `labloop predict` of designs, `labloop why` of a pick or of the judge itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, _lab, app

if TYPE_CHECKING:
    from labloop.proposing.insight import Insight
    from labloop.rounds.predict import Predictions

SHOWN = 20
"""Rows on a terminal; files and JSON have all."""
_LONG = 24
"""Characters of a design from which a terminal shows its name in the file (of FASTA always there) instead."""


@app.command(group=_lab)
def predict(
    campaign: str,
    designs: Path,
    round: Path | None = None,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    common: Common = Common(),
) -> None:
    """Ask the judge about designs: value, interval, doubt, whether they are allowed, what lies nearest, and their rank.

    Args:
        campaign: the campaign's name.
        designs: a CSV, Excel or FASTA file with the design's columns in any order, or ids of known designs.
        round: a round's YAML file with the judge that is meant [default: the latest round's, else auto].
        out: write all rows into this FILE.csv, FILE.xlsx, FILE.parquet or FILE.json.
    """
    common.start()
    run = common.open(campaign)
    with show.progress(json=common.json):
        found = run.predict(designs, config=round)
    path = None if out is None else found.write(out)
    if common.json:
        return show.dump({**found.to_dict(), "path": None if path is None else str(path)})
    _predicted(found)
    if path is not None:
        from labloop.assays.ingest.cells import count

        show.out.print(f"{path}: {count(len(found.table), 'design')}, one a row")


@app.command(group=_lab)
def why(
    campaign: str,
    what: str | None = None,
    *,
    round: Path | None = None,
    property: str | None = None,
    fits: int = 5,
    common: Common = Common(),
) -> None:
    """Tell why a design is in its well; without one, what the judge looks at, and whether it can be trusted.

    Args:
        campaign: the campaign's name.
        what: a well as PLATE:WELL, or a design_id.
        round: a round's YAML file with the judge that is meant [default: the latest round's, else auto].
        property: which of several properties the judge is asked about [default: the leading objective].
        fits: how often the judge is fitted, each time with other designs held out.
    """
    common.start()
    run = common.open(campaign)
    if what is not None:
        told = run.why(what)
        if common.json:
            return show.dump(told.to_dict())
        return show.out.print(Text(told.said))
    with show.progress(json=common.json):
        found = run.insight(config=round, fits=fits, property=property)
    if common.json:
        return show.dump(found.to_dict())
    _looked_at(found)


def _predicted(found: Predictions) -> None:
    table = found.table.sort_values("rank", kind="stable", na_position="last").head(SHOWN)
    rows = [_row(one, found) for one in show._records(table)]
    same = {"allowed": "yes", "known": "new"}  # what is so of all is not worth a column
    rows = [{key: cell for key, cell in row.items() if any(one[key] != same.get(key) for one in rows)} for row in rows]
    n = len(found.table)
    more = f", the best {SHOWN} of {n} (-o FILE.csv has all)" if n > SHOWN else ""
    title = f"{found.campaign}: judge {found.judge} after {found.n_measured} measured designs{more}"
    show._table(rows, title=title, whole=[f"{name} [{unit}]" for name, unit in found.units.items()])
    told = ["90 %: where nine readings of ten lie"]
    if "chance" in found.table:
        told += ["chance: that of keeping every limit"] * bool(found.table["chance"].notna().any())
        told += ["rank: by what a design may add to those measured, doubt counted"]
    else:
        told += ["doubt: one standard deviation of what the design itself is worth"]
    show.out.print("; ".join(told))
    for note in found.notes:
        show.out.print(Text(note))


def _row(one: dict[str, Any], found: Predictions) -> dict[str, Any]:
    """What fits on a terminal of a design: files and JSON have the rest."""
    row: dict[str, Any] = {"rank": one["rank"], "row": one["row"]}
    design = ", ".join(show.design_cells(one, found.columns))
    row["design"] = one["name"] if len(design) > _LONG and one.get("name") else design
    for name, unit in found.units.items():
        lead = "" if name == "predicted" else f"{name}_"
        row[f"{name} [{unit}]" if unit else name] = one[name]
        ends = f"{show._number(one[f'{lead}low'])} to {show._number(one[f'{lead}high'])}"
        row[f"{name} 90 %" if lead else "90 %"] = None if one[name] is None else ends
        if not lead:
            row["doubt"] = one["belief_std"]
    if "chance" in one:
        row["chance"] = one["chance"]
    allowed = "yes" if one["allowed"] else "no"
    return {**row, "allowed": allowed, "known": one["known"], "distance": one["nearest_distance"]}


def _looked_at(found: Insight) -> None:
    unit = f", {found.unit}" if found.unit else ""
    what = f" of {found.property}" if found.property else ""
    show.out.print(Text(found.trust), style="bold" if found.trusted else "bold yellow")
    factors = [
        {"factor": one.name, "correlation lost": f"{one.importance:+.3f} ± {one.spread:.3f}"} for one in found.factors[:SHOWN]
    ]
    held = f"held-out rank correlation lost when shuffled, mean ± sd over {found.fits} fits"
    show._table(factors, title=f"What judge {found.judge}{what} looks at ({held})")
    ahead = {one.name for one in found.factors[:SHOWN]}
    effects = [
        {"factor": one.factor, "level": one.level, "designs": one.n, f"mean prediction{unit}": show._number(one.value),
         "from": show._number(one.low), "to": show._number(one.high)}
        for one in found.effects if one.factor in ahead
    ]  # fmt: skip
    show._table(effects, title=f"Mean prediction with all designs at one level (mean of all {show._number(found.mean)}{unit})")
    if len(found.factors) > SHOWN:
        show.out.print(f"… {len(found.factors) - SHOWN} more factors with --json")
    for note in found.notes:
        show.out.print(Text(note))
    show.out.print("labloop report shows this as figures.")
