"""What a report shows, taken from a campaign's ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.quality.report import inspect
from labloop.assays.readings import usable
from labloop.config.limits import shown
from labloop.errors import LabloopError
from labloop.ledger.memory import Memory
from labloop.ledger.states import RoundState
from labloop.proposing.belief import Correction
from labloop.proposing.dataset import Dataset
from labloop.proposing.pipeline import versions
from labloop.report.data import ReportData, RoundInfo
from labloop.rounds import properties, spending, state
from labloop.rounds.bounds import with_beta
from labloop.rounds.decisions import decisions
from labloop.rounds.insights import kept_of
from labloop.rounds.outcome import compare_all, compare_properties, compare_round
from labloop.rounds.outlook import outlook
from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective

N_TOP = 15
PLATES = 60
"""Plates of an assay that quality control tells of one by one; more are summed up."""


def collect(campaign: Memory) -> ReportData:
    """Read a campaign's ledger for its report; the same ledger gives the same report."""
    config, ledger = campaign.config, campaign.ledger
    designs = ledger.designs(campaign.name)
    texts = _texts(_short(config.space, designs), list(config.space.columns))
    results = with_beta(state.results(campaign), ledger.events(campaign.name))
    results = results.assign(design=results["design_id"].map(texts))
    entries = state.rounds_now(campaign)
    measured = sorted({int(n) for n in results.loc[results["y"].notna(), "round"]})
    picked = results["round"].value_counts()
    data, now = state.dataset(campaign), state.outlook(campaign)
    return ReportData(
        name=campaign.name, description=config.description, objective=config.objective,
        planned_rounds=config.rounds,
        rounds=tuple(
            RoundInfo(
                number=entry.number, state=entry.state, n_picks=int(picked.get(entry.number, 0)),
                incumbent=np.nan if entry.incumbent is None else entry.incumbent,
                shape=campaign.at(entry.number).config.plate.shape,
            ) for entry in entries
        ),
        measurements=_measurements(campaign, texts, config.objective), properties=_properties(campaign, texts),
        picks=results, wells=_wells(campaign, results, texts),
        top=_top(campaign, data.keeping, results, texts), runs=ledger.runs(campaign.name),
        comparisons={number: compare_round(campaign, number, results=results) for number in measured},
        overall=compare_all(campaign, results, measured), quality=inspect(campaign, most=PLATES), others=_others(campaign),
        several=_several(campaign, data, results, texts), insight=kept_of(campaign),
        spent=spending.in_words(spent["spent"]) if (spent := spending.told(campaign)) else "", limits=tuple(shown(config.limits)),
        space=config.space, designs=designs,
        next=_next(campaign, now["next"]), flags=_flags(campaign, now.get("warnings", ())),
        head=ledger.ends(campaign.name).head, version=versions().get("labloop-toolkit", ""),
    )  # fmt: skip


def _next(campaign: Memory, step: str) -> tuple[str, ...]:
    """The next step; and whether to go on, if the last round were planned once more and there is enough to plan by."""
    said = (f"{step[:1].upper()}{step[1:]}",)
    try:
        return (*said, outlook(campaign, campaign.round_config(campaign.round(), by_hand=False)).stop)
    except LabloopError:  # no round yet, too few designs, or wells that the plate no longer has
        return said


def _several(campaign: Memory, data: Dataset, picks: pd.DataFrame, texts: dict[str, str]) -> dict[str, Any] | None:
    """Every property of every measured design, and the compromises; None where there is one objective only."""
    if data.properties is None or not len(data):
        return None
    arms = picks.groupby("design_id")["arm"].agg(lambda names: " + ".join(dict.fromkeys(names)))

    def named(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(design=frame["design_id"].map(texts), arm=frame["design_id"].map(arms).fillna("").astype(object))

    values, front = named(properties.values(data)), named(properties.compromises(data))
    return {"goal": data.properties.goal, "values": values, "front": front, "fronts": compare_properties(campaign, data)}


def _short(space: DesignSpace, designs: pd.DataFrame) -> pd.DataFrame:
    """Put mutants' names in the place of their letters."""
    names = space.names(designs)
    return designs.assign(**{str(column).removesuffix("_mutations"): names[column] for column in names})


def _texts(designs: pd.DataFrame, columns: list[str]) -> dict[str, str]:
    """Write each design as people do: a lone parameter by its value, several by name."""
    values = designs.reindex(columns=columns).to_dict("list")  # nothing is known of a campaign that has just begun
    rows = zip(*values.values(), strict=True)
    if len(columns) == 1:
        return dict(zip(designs.index, (_cell(row[0]) for row in rows), strict=True))
    return {
        key: ", ".join(f"{name} {_cell(value)}" for name, value in zip(columns, row, strict=True))
        for key, row in zip(designs.index, rows, strict=True)
    }


def _cell(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _properties(campaign: Memory, texts: dict[str, str]) -> dict[str, tuple[Objective, pd.DataFrame]]:
    goal = campaign.config.goal
    known = {} if goal is None else dict(list(goal.properties.items())[1:])
    return {name: (one, _measurements(campaign, texts, one)) for name, one in known.items()}


def _measurements(campaign: Memory, texts: dict[str, str], objective: Objective) -> pd.DataFrame:
    """Readings of an objective's assay; where a policy leaves one out of the dataset, it keeps its value and has no `y`."""
    everything = campaign.ledger.measurements(campaign.name)
    rows = everything[everything["assay"] == objective.assay].set_index("id", drop=False)
    used = usable(campaign, rows=everything, assay=objective.assay).rows.set_index("id")["value"]
    known = rows["status"].isin(state.MEASURED) & rows["value"].notna()
    y = pd.Series(objective.to_y(used.to_numpy(float)), index=used.index)
    value = used.reindex(rows.index).fillna(rows["value"].where(known))
    return rows.assign(design=rows["design_id"].map(texts), y=y.reindex(rows.index), value=value).reset_index(drop=True)


def _others(campaign: Memory) -> pd.DataFrame:
    rows = campaign.ledger.measurements(campaign.name)
    own = [campaign.config.objective.assay] if campaign.config.goal is None else list(campaign.config.goal.assays)
    rows = rows[~rows["assay"].isin(own) & rows["status"].isin(state.MEASURED)]
    by = rows.groupby("assay", sort=True)
    return by.agg(
        readings=("value", "size"), designs=("design_id", "nunique"), median=("value", "median"), unit=("unit", "first")
    ).reset_index()  # fmt: skip


def _wells(campaign: Memory, picks: pd.DataFrame, texts: dict[str, str]) -> pd.DataFrame:
    wells = campaign.ledger.wells(campaign.name)
    arms = picks.groupby(["round", "design_id"])["arm"].agg(" + ".join).rename("arm").reset_index()
    return wells.merge(arms, how="left", on=["round", "design_id"]).assign(design=lambda w: w["design_id"].map(texts))


def _top(campaign: Memory, data: Dataset, picks: pd.DataFrame, texts: dict[str, str]) -> pd.DataFrame:
    """The best of measured designs with the arms of the first round that asked for each; the lab's own have none."""
    rows = data.top(N_TOP)
    frame = pd.DataFrame(
        {"design_id": np.array(data.ids, dtype=object)[rows], "value": campaign.config.objective.to_value(data.y[rows])}
    )
    mine = picks[picks["design_id"].isin(frame["design_id"])]
    first = mine[mine["round"] == mine.groupby("design_id")["round"].transform("min")].groupby("design_id")
    asked = (
        first[["round", "mean"]]
        .first()
        .assign(**{name: first[name].agg(lambda names: " + ".join(dict.fromkeys(names))) for name in ("arm", "proposer")})
    )
    return frame.join(asked, on="design_id").assign(design=frame["design_id"].map(texts))


def _flags(campaign: Memory, warnings: Sequence[str]) -> tuple[str, ...]:
    """Plates that are not what they were read as, and rounds that were closed without all of their wells, with the reason."""
    flags = [f"{one[0].upper()}{one[1:]}." for one in warnings]
    for event in campaign.ledger.events(campaign.name).to_dict("records"):
        detail = event["detail"] or {}
        if event["state"] == RoundState.CLOSED and detail.get("missing"):
            reason = f": {detail['reason']}" if detail.get("reason") else ""
            flags.append(f"Round {event['round']} was closed without {detail['missing']} of its wells{reason}.")
    return (*flags, *_judged(campaign), *(f"{one}." for one in decisions(campaign)))


def _judged(campaign: Memory) -> list[str]:
    """Say of each round who judged it, and how much of the judge earlier plates corrected."""
    events = campaign.ledger.events(campaign.name)
    told = []
    for event in events[events["kind"] == "judged"].drop_duplicates("round", keep="last").to_dict("records"):
        detail = event["detail"]
        if not (weights := {name: w for name, w in detail.get("weights", {}).items() if w}):
            continue
        by = ", ".join(f"{name} {100 * w:.0f} %" for name, w in sorted(weights.items(), key=lambda one: -one[1]))
        correction = Correction.noted(detail["correction"])
        shift, wide = (float(one.mean()) for one in correction.reading(np.array(correction.distance)))
        side = "better" if shift >= 0 else "worse"
        after = (
            f"; earlier plates moved it by {abs(shift):.2f} std to the {side} side and its std by {wide:.2f}"
            if correction.readings
            else ""
        )
        evidence = "weighed by how well each predicts measurements that it has not seen"
        told.append(f"Round {int(event['round'])} was judged by {by}, {evidence}{after}.")
    return told
