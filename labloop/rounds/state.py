"""What the ledger says of a campaign, as values: the dataset, what is missing, what each pick came to, where things stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.readings import MEASURED, standing_flags, usable, weights
from labloop.config.campaign import CampaignConfig
from labloop.errors import QualityError
from labloop.ledger import Ledger, Round
from labloop.proposing.dataset import Dataset
from labloop.rounds import planned

__all__ = [
    "AT_THE_LAB", "ENOUGH", "MEASURED", "beyond_plan", "dataset", "designs", "missing", "results", "rounds_now", "standing",
    "waiting_plates",
]  # fmt: skip

AT_THE_LAB = ("PROPOSED", "EXPORTED")
"""States of a round whose plate waits for results."""

ENOUGH = 5
"""Measured designs that the first model needs."""


def designs(config: CampaignConfig, ledger: Ledger) -> pd.DataFrame:
    """Give every design that the campaign knows, indexed by `design_id`, with the space's columns (also where there is none)."""
    return ledger.designs(config.name).reindex(columns=list(config.space.columns))


def dataset(
    config: CampaignConfig, ledger: Ledger, *, until: int | None = None, before_round: int | None = None, normalised: bool = True
) -> Dataset:
    """Take every measurement so far, with the designs that are in the lab now as pending.

    Flagged readings are dropped or count less as the assay's policies say, and values are normalised as it declares. A design
    that failed by itself (`failed_design`) and was never measured is held like a pending one: it is not proposed again.

    Args:
        until: only measurements up to this ledger id: the view that a past round had.
        before_round: only earlier rounds count as pending, and only flags from before this round opened.
        normalised: False leaves values as the lab sent them.

    Raises:
        QualityError: the declared normalisation cannot be done, or lowers the agreement of replicates.
    """
    rows = ledger.measurements(config.name, until=until)
    seen = rows[(rows["assay"] == config.objective.assay) & rows["design_id"].notna()]
    use = usable(config, ledger, rows=rows, before_round=before_round, normalised=normalised).rows
    use = use[use["design_id"].notna()]
    known = designs(config, ledger)
    held = _pending(config, ledger, seen, before_round) | (
        set(seen.loc[seen["status"] == "failed_design", "design_id"]) - set(use["design_id"])
    )
    return Dataset.from_measurements(
        config.space,
        known.loc[use["design_id"]].reset_index(drop=True),
        use["value"].to_numpy(float),
        objective=config.objective,
        qualifiers=use["qualifier"].tolist(),
        weights=weights(use),
        pending=known.loc[sorted(held)],
    )


def _pending(config: CampaignConfig, ledger: Ledger, seen: pd.DataFrame, before_round: int | None) -> set[str]:
    waiting = [
        entry.number
        for entry in ledger.rounds(config.name)
        if entry.state in AT_THE_LAB and (before_round is None or entry.number < before_round)
    ]
    wells = ledger.wells(config.name)
    wells = wells[wells["round"].isin(waiting) & wells["design_id"].notna()]
    return set(_without(wells, seen)["design_id"])


def missing(config: CampaignConfig, ledger: Ledger, number: int) -> pd.DataFrame:
    """List the wells of a round that hold a design and have no result yet, not even a failed one."""
    wells = ledger.wells(config.name, number)
    rows = ledger.measurements(config.name, plates=sorted(set(wells["plate"])))
    return _without(wells[wells["design_id"].notna()], rows[rows["assay"] == config.objective.assay])


def rounds_now(config: CampaignConfig, ledger: Ledger) -> list[Round]:
    """List the rounds as `Ledger.rounds`; one whose last well came in is MEASURED, whether or not that is written yet."""
    return [
        replace(one, state="MEASURED") if one.state in AT_THE_LAB and missing(config, ledger, one.number).empty else one
        for one in ledger.rounds(config.name)
    ]


def waiting_plates(config: CampaignConfig, ledger: Ledger, assay: str) -> tuple[str, ...]:
    """List the plates with wells that this assay has no result for yet, of rounds that are not closed."""
    open_rounds = [entry.number for entry in ledger.rounds(config.name) if entry.state in (*AT_THE_LAB, "MEASURED")]
    if not open_rounds:
        return ()
    wells = ledger.wells(config.name)
    rows = ledger.measurements(config.name)
    left = _without(wells[wells["round"].isin(open_rounds) & wells["design_id"].notna()], rows[rows["assay"] == assay])
    return tuple(dict.fromkeys(left["plate"].astype(str)))


def _without(wells: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    places = pd.MultiIndex.from_frame(wells[["plate", "well"]])
    return wells[~places.isin(pd.MultiIndex.from_frame(rows[["plate", "well"]]))]


def results(config: CampaignConfig, ledger: Ledger, *, until: int | None = None, before_round: int | None = None) -> pd.DataFrame:
    """List every pick of every arm with its stored predictions and its measured y (NaN where it failed or is missing).

    As in the dataset, policies and normalisation are applied; a pick whose only readings a policy dropped is `excluded`.

    Args:
        until: only measurements up to this ledger id.
        before_round: with the flags that stood when this round opened.
    """
    picks = ledger.picks(config.name)
    everything = ledger.measurements(config.name, until=until)
    use = usable(config, ledger, rows=everything, before_round=before_round)

    def placed(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows[rows["round"].notna() & rows["design_id"].notna()]
        return rows.assign(round=rows["round"].astype(int))

    rows = placed(everything[everything["assay"] == config.objective.assay])
    rows = rows.assign(status=rows["status"].mask(rows["id"].isin(use.dropped["id"]), "excluded"))
    good = placed(use.rows)
    key = ["round", "design_id"]
    good = good.assign(y=config.objective.to_y(good["value"].to_numpy(float)) * good["weight"])
    sums = good.groupby(key, as_index=False)[["y", "weight"]].sum()
    y = sums.assign(y=sums["y"] / sums["weight"]).drop(columns="weight")
    measured_first = rows.sort_values("status", key=lambda status: ~status.isin(MEASURED), kind="stable")
    status = measured_first.groupby(key, as_index=False)["status"].first()
    out = picks.merge(y, how="left", on=key).merge(status, how="left", on=key)
    closed = [entry.number for entry in ledger.rounds(config.name) if entry.state == "CLOSED"]
    waiting = out["round"].isin(closed).map({True: "missing", False: "pending"})
    return out.assign(status=out["status"].fillna(waiting))


def standing(config: CampaignConfig, ledger: Ledger) -> dict[str, Any]:
    """Tell where the campaign stands and what comes next, as plain values."""
    trouble = None
    try:
        data = dataset(config, ledger)
    except QualityError as error:
        data, trouble = dataset(config, ledger, normalised=False), str(error)
    rounds = []
    for entry in rounds_now(config, ledger):
        wells = ledger.wells(config.name, entry.number)["design_id"].notna().sum()
        rounds.append(
            {
                "round": entry.number,
                "state": entry.state,
                "wells": int(wells),
                "missing": len(missing(config, ledger, entry.number)),
            }
        )
    known = data if trouble is None else data.take(np.zeros(0, dtype=int))  # values on no common scale have no best
    return {
        "campaign": config.name,
        "designs": len(data),
        "best": float(config.objective.to_value(known.y[[known.best]])[0]) if len(known) else None,
        "unit": config.objective.unit,
        "rounds": rounds,
        "planned": config.rounds,
        "next": trouble or _next(config, rounds, len(data), _done(config, ledger)),
        **_more(config, ledger),
    }


def _more(config: CampaignConfig, ledger: Ledger) -> dict[str, Any]:
    """Readings of assays beside the objective's, and flags by rule, where there are any."""
    rows = ledger.measurements(config.name)
    others = rows.loc[(rows["assay"] != config.objective.assay) & rows["status"].isin(MEASURED), "assay"].value_counts()
    flags = standing_flags(config, ledger)
    rules = flags.loc[flags["measurement"].isin(rows["id"]), "rule"].value_counts()
    told: dict[str, Any] = {}
    for name, counts in (("other_assays", others), ("flags", rules)):
        if len(counts):
            told[name] = {str(key): int(n) for key, n in counts.sort_index().items()}
    if warnings := mistaken_plates(rows, flags):
        told["warnings"] = warnings
    return told


def mistaken_plates(rows: pd.DataFrame, flags: pd.DataFrame) -> list[str]:
    """Say which plates are not the ones that they were read as, and what to do about it."""
    mixed = flags[flags["rule"].isin(["swapped", "turned"])].join(
        rows.set_index("id")[["plate", "file"]], on="measurement", how="inner"
    )
    told = []
    for one in mixed.drop_duplicates(["plate", "file"]).to_dict("records"):
        looks = one["detail"].get("reads_like")
        where = f"where plate {looks} has them" if looks else "as on the plate turned by 180 degrees"
        told.append(
            f"plate {one['plate']} of {one['file']} seems to be another: its controls lie {where} (p = {one['detail']['p']:g}). "
            "Look at the plates, then ingest them again under their right names and wells (the later reading counts), or set the "
            f"policy of {one['rule']} to keep"
        )
    return told


def _done(config: CampaignConfig, ledger: Ledger) -> int:
    return planned.done(rounds_now(config, ledger), ledger.wells(config.name), ledger.events(config.name))


def beyond_plan(config: CampaignConfig, ledger: Ledger) -> str | None:
    """Say so where the next round would be one more than planned; None where it would not, or one is open."""
    rounds = rounds_now(config, ledger)
    return None if rounds and rounds[-1].state not in planned.DONE else planned.ended(config, _done(config, ledger))


def _next(config: CampaignConfig, rounds: Sequence[dict[str, Any]], n_designs: int, n_done: int) -> str:
    last = rounds[-1] if rounds else None
    if last is not None and last["state"] in ("READY", "TRAINED"):
        return f"finish round {last['round']}: labloop propose {config.name}"
    if last is not None and last["state"] in AT_THE_LAB:
        waits = f"round {last['round']} waits for {last['missing']} of {last['wells']} wells"
        return f"{waits}: labloop ingest FILE.csv -c {config.name}"
    if n_designs < ENOUGH:
        return f"ingest the lab's measurements: labloop ingest FILE.csv -c {config.name}"
    if end := planned.ended(config, n_done):
        return end
    done = f" ({n_done} of {config.rounds} planned rounds are done)" if rounds else ""
    return f"propose round {len(rounds) + 1}: labloop propose {config.name}{done}"
