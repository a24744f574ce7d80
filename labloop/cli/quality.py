"""Commands about what came back: `labloop quality` and `labloop revise`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from labloop.cli import show
from labloop.cli.app import Common, _lab, app
from labloop.cli.progress import PATIENCE

PLATES = 60
"""Plates of an assay that are shown one by one, unless all are asked for."""

if TYPE_CHECKING:
    from labloop.assays.quality.plates import PlateQuality
    from labloop.assays.quality.report import QualityReport
    from labloop.assays.quality.statistics import Effect, Figure


@app.command(group=_lab)
def quality(campaign: str, *, all: bool = False, common: Common = Common()) -> None:
    """Show what quality control finds: Z', edge, drift and controls of every plate, flags, and what became of flagged readings.

    Args:
        campaign: the campaign's name.
        all: show every plate; else of more than 60 the latest and those that are worth a look. --json has every plate always.
    """
    common.start()
    with show.progress(json=common.json):
        found = common.open(campaign).quality(most=None if all or common.json else PLATES)
    if common.json:
        return show.dump(found.to_dict())
    _print(found, campaign)


@app.command(group=_lab)
def revise(
    campaign: str, config: Path, *, reason: str, dry_run: Annotated[bool, Parameter(negative="")] = False,
    common: Common = Common(),
) -> None:  # fmt: skip
    """Replace a running campaign's configuration: a wider or narrower space, new rules, another assay, other policies.

    Args:
        campaign: the campaign's name.
        config: the whole new YAML file; name and objective stay as they are.
        reason: why, for whoever reads the ledger later.
        dry_run: tell what would change, and store nothing.
    """
    common.start()
    run = common.open(campaign)
    with show.progress(json=common.json, what="checking what is known", after=PATIENCE):
        told = run.revise(config, reason=reason, dry_run=dry_run)
    if common.json:
        return show.dump({"campaign": campaign, "changes": told, "stored": bool(told) and not dry_run})
    for line in told or ["Nothing changes: this is the configuration already."]:
        show.out.print(line)
    if dry_run:
        return show.out.print("Nothing is stored: leave --dry-run out to change it.")
    show.status(run.status(), json=False)


def _print(found: QualityReport, campaign: str) -> None:
    if not found.plates:
        show.out.print(f"No reading of {campaign} names a plate and a well, so there is no plate to look at.")
    many = len({plate.assay for plate in found.plates}) > 1
    rows = [_row(one, found.flags_of(one), many=many) for one in found.plates]
    for one in found.surveys.values():
        show.out.print(f"{one.said} All of them: labloop quality {campaign} --all")
    show._table(
        rows,
        title="Plates (edge: outer minus inner wells in robust SDs; drift: Spearman's ρ; !: p at most 0.01)",
        whole=("plate",),
    )
    levels = [
        {**({"assay": one.assay} if many else {}), "plate": one.plate, "control": level.name, "role": level.role or "–",
         "wells": level.n, "median": level.median, "mean": level.mean, "CV": _figure(level.cv, percent=True)}
        for one in found.plates for level in one.controls
    ]  # fmt: skip
    show._table(levels, title="Controls, in the lab's unit", whole=("plate",))
    for assay, agree in found.replicates.items():
        told = f"pooled SD {_figure(agree.sd)}, ICC {_figure(agree.icc)}" if agree.n_designs else "none measured twice"
        show.out.print(f"Replicates of {assay}: {agree.n_designs} designs, {told}")
    show._table(found.effects(), title="Flagged readings and what became of them")
    show.out.print(f"Dataset: {found.n_used} readings used, {found.n_dropped} left out, {found.n_downweighted} downweighted")
    show.out.print(f"Normalisation: {found.normalised}")
    reasons = {text for one in found.plates for text in (one.z_prime.why, one.edge.why, one.drift.why) if text}
    for text in sorted(reasons):
        show.out.print(f"– stands for: {text}", style="dim")


def _row(one: PlateQuality, flags: dict[str, int], *, many: bool) -> dict[str, Any]:
    return {
        **({"assay": one.assay} if many else {}),
        "plate": one.plate, "Z'": _figure(one.z_prime),
        "robust": _figure(one.robust_z_prime), "window": _figure(one.window), "edge": _effect(one.edge),
        "drift": _effect(one.drift), "flags": ", ".join(f"{rule} {n}" for rule, n in flags.items()) or "none",
    }  # fmt: skip


def _figure(figure: Figure, *, percent: bool = False) -> str:
    if figure.value is None:
        return "–"
    return f"{figure.value:.1%}" if percent else f"{figure.value:.2f}" if abs(figure.value) < 100 else f"{figure.value:.3g}"


def _effect(effect: Effect) -> str:
    from labloop.config.policies import RATE

    return "–" if effect.size is None or effect.p is None else f"{effect.size:+.2f}{' !' * (effect.p <= RATE)}"
