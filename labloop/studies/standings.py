"""What a study of arms over labs says: curves, ranks and differences to a reference, each with its interval.

Values are shares of the lab's range (0 its worst, 1 its best) wherever labs are put together. Three measures of a campaign:
`batch_mean`, the mean over its rounds of each plate's mean; `top10_mean` and `best`, of all its wells at the end. A setting is a
lab with a size of start and a noise; seeds are paired, as all arms of a seed begin with the same data. What an arm is worth in
wells is how many fewer it took to the ten best that both it and the reference came to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy  # which loads scipy.stats on first use: it takes a second

from labloop.seeds import generator
from labloop.studies.bench import ENDED
from labloop.studies.ranking import DRAWS, LEVEL, resampled
from labloop.types import FloatArray

MEASURES = ("batch_mean", "top10_mean", "best")
SETTING = ["lab", "start", "noise"]


def standings(rows: pd.DataFrame, arms: Sequence[str], *, reference: str | None) -> dict[str, Any]:
    """Sum a study up.

    Args:
        rows: one row a setting, arm, seed and round, as `labloop.studies.study.study` gives them, shares as `NAME_share`.
        reference: the arm that others are compared with; none where it took no part.

    Returns:
        Plain values: `ranks`, `differences` (a row a setting, arm and measure), `overall` (a row an arm and measure), `verdicts`,
        `wells` (a row a setting and arm), `curves`, `coverage` and `costs`. A number that cannot be known, such as an interval of
        one seed, is None.
    """
    finals = _finals(rows, arms)
    against = reference if reference in arms else None
    differences = _differences(finals, against) if against else []
    return _plain(
        {
            "arms": list(arms),
            "reference": against,
            "ranks": _ranks(finals, arms),
            "differences": differences,
            "overall": _overall(finals, against) if against else [],
            "verdicts": _verdicts(differences, arms, against) if against else [],
            "wells": _wells(rows, arms, against) if against else [],
            "curves": _curves(rows, arms),
            "coverage": _mean_of(rows, "coverage", [*SETTING, "arm", "round"]),
            "costs": _mean_of(rows, "cpu_seconds", [*SETTING, "arm"]),
        }
    )  # type: ignore[return-value]


def interval(values: FloatArray) -> tuple[float, float, float]:
    """Mean of independent values (n,) and its 95 % interval by Student's t; NaN where one value tells of no spread."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return (float(values.mean()) if len(values) else math.nan), math.nan, math.nan
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def _finals(rows: pd.DataFrame, arms: Sequence[str]) -> dict[str, dict[tuple[Any, ...], pd.DataFrame]]:
    """By measure and setting the arms' shares, one row a seed and one column an arm; NaN where an arm did not come to its end."""
    last = rows["round"].max()
    found: dict[str, dict[tuple[Any, ...], pd.DataFrame]] = {}
    for measure in MEASURES:
        column = f"{measure}_share"
        for setting, part in rows.groupby(SETTING, sort=False):
            if measure == "batch_mean":
                note = part["note"].astype(str) if "note" in part else pd.Series("", index=part.index)
                made = part[~note.str.startswith(ENDED)]  # with the budget the campaign ends, not the arm
                by = made.groupby(["seed", "arm"])[column].agg(lambda share: share.mean(skipna=False))
            else:
                by = part[part["round"] == last].groupby(["seed", "arm"])[column].first()
            found.setdefault(measure, {})[setting] = by.unstack("arm").reindex(columns=list(arms))
    return found


def _ranks(finals: Mapping[str, Mapping[tuple[Any, ...], pd.DataFrame]], arms: Sequence[str]) -> list[dict[str, Any]]:
    """Mean rank of each arm over labs, 1 the best, of its mean over seeds; an arm without a result comes last.

    Intervals are percentiles of a bootstrap that draws labs with all their settings, and seeds within each setting.
    """
    rows: list[dict[str, Any]] = [{"arm": arm} for arm in arms]
    for measure, settings in finals.items():
        labs: dict[str, list[tuple[FloatArray, FloatArray]]] = {}
        for (lab, start, noise), table in settings.items():
            y = table.to_numpy(float)
            draws = generator(0, "standings", measure, lab, start, str(noise)).integers(len(y), size=(DRAWS, len(y)))
            labs.setdefault(lab, []).append((_rank(y.mean(axis=0)[None])[0], _rank(y[draws].mean(axis=1))))
        seen = np.array([np.mean([rank for rank, _ in lab], axis=0) for lab in labs.values()])
        drawn = np.array([np.mean([drawn for _, drawn in lab], axis=0) for lab in labs.values()])  # (labs, DRAWS, arms)
        low, high = resampled(drawn, generator(0, "standings", measure))
        for i, row in enumerate(rows):
            row[measure] = {"mean": seen[:, i].mean(), "low": low[i], "high": high[i]}
    return rows


def _rank(shares: FloatArray) -> FloatArray:
    """Ranks along the last axis, 1 the largest, ties sharing the mean of their places, NaN last."""
    return scipy.stats.rankdata(-np.where(np.isnan(shares), -np.inf, shares), axis=-1)  # type: ignore[no-any-return]


def _differences(finals: Mapping[str, Mapping[tuple[Any, ...], pd.DataFrame]], reference: str) -> list[dict[str, Any]]:
    """Paired differences of every arm to the reference in every setting, in shares: above zero, the arm found more."""
    found = []
    for measure, settings in finals.items():
        for setting, table in settings.items():
            for arm in table.columns:
                if arm == reference:
                    continue
                gaps = (table[arm] - table[reference]).to_numpy(float)
                mean, low, high = interval(gaps)
                lost = int((table[arm].isna() & table[reference].notna()).sum())
                verdict = "failed" if lost else "better" if low > 0 else "worse" if high < 0 else "undecided"
                row = dict(zip(SETTING, setting, strict=True)) | {"arm": arm, "measure": measure}
                row |= {"mean": mean, "low": low, "high": high, "seeds": int(np.isfinite(gaps).sum()), "verdict": verdict}
                found.append(row)
    return found


def _overall(finals: Mapping[str, Mapping[tuple[Any, ...], pd.DataFrame]], reference: str) -> list[dict[str, Any]]:
    """Differences to the reference over all labs, each lab counting once; the interval is over labs (Student's t)."""
    found = []
    for measure, settings in finals.items():
        arms = next(iter(settings.values())).columns
        for arm in arms:
            if arm == reference:
                continue
            labs: dict[str, list[float]] = {}
            for (lab, *_), table in settings.items():
                labs.setdefault(lab, []).append(float((table[arm] - table[reference]).mean()))
            mean, low, high = interval(np.array([np.mean(gaps) for gaps in labs.values()]))
            found.append({"arm": arm, "measure": measure, "mean": mean, "low": low, "high": high, "labs": len(labs)})
    return found


def _verdicts(differences: Sequence[Mapping[str, Any]], arms: Sequence[str], reference: str) -> list[dict[str, Any]]:
    """Count for each arm and measure the settings in which it is better, worse and undecided against the reference."""
    found = []
    for arm in arms:
        for measure in MEASURES:
            mine = [one for one in differences if one["arm"] == arm and one["measure"] == measure]
            if arm == reference or not mine:
                continue
            counts = {
                verdict: sum(one["verdict"] == verdict for one in mine) for verdict in ("better", "worse", "undecided", "failed")
            }
            where = [place(one) for one in mine if one["verdict"] in ("worse", "failed")]
            # One seed decides nothing: a setting without an interval does not show that an arm holds its own.
            judged = all(math.isfinite(one["low"]) for one in mine)
            found.append({"arm": arm, "measure": measure, **counts, "never_worse": judged and not where, "worse_on": where})
    return found


def _wells(rows: pd.DataFrame, arms: Sequence[str], reference: str) -> list[dict[str, Any]]:
    """How many wells fewer than the reference each arm took to the ten best that both came to, paired by seed: above zero, it was
    there earlier. `wells` are those of the reference's campaign."""
    found = []
    for setting, part in rows.groupby(SETTING, sort=False):
        paths = {key: _path(one) for key, one in part.groupby(["arm", "seed"])}
        seeds = sorted(part.loc[part["arm"] == reference, "seed"].unique())
        for arm in arms:
            pairs = [(paths[arm, seed], paths[reference, seed]) for seed in seeds if (arm, seed) in paths]
            if arm == reference or not pairs:
                continue
            mean, low, high = interval(np.array([_ahead(mine, theirs) for mine, theirs in pairs]))
            spent = float(np.mean([theirs[0][-1] for _, theirs in pairs]))
            row = dict(zip(SETTING, setting, strict=True)) | {"arm": arm, "wells": spent}
            found.append(row | {"mean": mean, "low": low, "high": high})
    return found


def _path(campaign: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """One campaign's wells up to each round's end, (rounds,), and the mean of its ten best so far, as a share, (rounds,)."""
    plates = campaign.sort_values("round")
    return plates["n_wells"].to_numpy(float).cumsum(), plates["top10_mean_share"].to_numpy(float)


def _ahead(mine: tuple[FloatArray, FloatArray], theirs: tuple[FloatArray, FloatArray]) -> float:
    """Wells that `theirs` took to what both came to, less those that `mine` took; NaN where either has no value."""
    both = min(mine[1][-1], theirs[1][-1])
    return _taken(*theirs, both) - _taken(*mine, both) if math.isfinite(both) else math.nan


def _taken(wells: FloatArray, best: FloatArray, value: float) -> float:
    """Wells after which a path first came to a value; between two rounds it is a line, before the first nothing is known."""
    i = int(np.argmax(best >= value))
    return float(wells[0] if i == 0 else np.interp(value, best[i - 1 : i + 1], wells[i - 1 : i + 1]))


def place(row: Mapping[str, Any]) -> str:
    """Write a setting as people do: `gb1, 100 to start, noise 0.02`."""
    noise = row["noise"]
    told = f"{row['lab']}, {row['start']} to start" if row["start"] != "offline" else f"{row['lab']}, its worse part to start"
    return told if noise is None or not noise > 0 else f"{told}, noise {noise:g}"


def _curves(rows: pd.DataFrame, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Mean and interval over seeds of every measure after every round, in the lab's own unit and in shares."""
    found = []
    for key, part in rows.groupby([*SETTING, "arm", "round"], sort=False):
        place = dict(zip([*SETTING, "arm", "round"], key, strict=True))
        for measure in MEASURES:
            mean, low, high = interval(part[f"{measure}_share"].to_numpy(float))
            value = float(part[measure].mean())
            found.append({**place, "measure": measure, "value": value, "mean": mean, "low": low, "high": high})
    order = {arm: i for i, arm in enumerate(arms)}
    return sorted(found, key=lambda one: order[one["arm"]])


def _mean_of(rows: pd.DataFrame, column: str, by: list[str]) -> list[dict[str, Any]]:
    means = rows.dropna(subset=[column]).groupby(by, sort=False)[column].mean().reset_index()
    return means.to_dict("records")  # type: ignore[return-value]


def _plain(value: Any) -> Any:
    """Plain Python values that JSON can hold; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
