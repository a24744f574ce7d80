"""The closed loop against a simulated lab: what would these arms have found, had the lab been this one?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from labloop.compare.figures import spell
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, MethodError, in_one_line
from labloop.proposing.belief import Judgement, Past
from labloop.proposing.dataset import Dataset
from labloop.proposing.evidence import shared
from labloop.proposing.pipeline import FAILURES, decide, left_to_chance, plan, train
from labloop.proposing.pool import Picks, Pool
from labloop.proposing.terms import Terms
from labloop.registry import available, create, parse_plugin
from labloop.rounds import related
from labloop.runtime.counts import check_count
from labloop.runtime.workers import Workers, spread
from labloop.runtime.yamlfile import at_hand
from labloop.seeds import derive
from labloop.studies.arms import pick_arms
from labloop.studies.bench import ENDED, Bench, nothing, whole
from labloop.studies.labs.lab import Lab
from labloop.studies.properties import COMPROMISE, check_properties, compromise, dataset
from labloop.studies.starts import draw_start, start_of
from labloop.types import Array, FloatArray

__all__ = ["draw_start", "open_lab", "simulate", "start_of", "summary"]

log = logging.getLogger("labloop")

_NOTHING = np.zeros(0)


def open_lab(spec: str, **options: Any) -> Lab:
    """Open a simulated lab by its name, with options as in `hartmann6/noise=0.1`, or a complete table by `lookup:FILE.csv`.

    A table takes options as well: `lookup/value=yield/properties=[yield, cost]:FILE.csv`.
    """
    named, _, path = spec.partition(":")
    name, told = parse_plugin(named) if path and named.partition("/")[0] in available("labs") else ("", {})
    if name:
        return create("labs", name, {**told, **options, "path": Path(path)})  # type: ignore[no-any-return]
    if not path:
        spec, told = parse_plugin(spec)
        options = {**told, **options}
    return create("labs", spec, options)  # type: ignore[no-any-return]


def simulate(
    campaign: CampaignConfig | Path | str,
    lab: Lab | str,
    *,
    round_config: RoundConfig | Path | str | None = None,
    start: int | Literal["offline"] = 500,
    start_quantile: float = 0.5,
    rounds: int = 4,
    batch: int = 96,
    seeds: int = 5,
    arms: Sequence[str] | None = None,
    mode: Literal["separate", "shared"] = "separate",
    on_failure: Literal["stop", "drop"] = "drop",
    workers: Workers = 1,
    history: Sequence[Dataset] | None = None,
) -> pd.DataFrame:
    """Run simulated campaigns and tell what each arm's plates were worth.

    Args:
        round_config: arms and judge; the shipped `rounds/quick.yaml` where none is given.
        start: measured designs to begin with, drawn at random from the worse part of the lab's table; `offline` takes all of it.
        start_quantile: how much of the table that part is: 0.5 is the worse half, 1 all of it.
        batch: wells of a plate. The campaign's bench holds: replicates (a design fills as many wells), batch-wide limits, prices,
            and the budget, with which rounds end.
        arms: arms of the round's configuration, or names of proposers as arms of their own. By default every arm; in separate
            mode an arm of several proposers is split into them, since they never share a batch there.
        mode: `separate`: every arm runs its own campaign with the whole plate, from the same start. `shared`: one plate, arms
            side by side, everybody learns from all wells, as in a lab.
        on_failure: what becomes of a proposer that fails in a round: `drop` goes on without it there, an arm without any other
            has no wells in that round, and `note` has the reason; `stop` ends the simulation.
        workers: side by side on so many processes, or on a Dask cluster: see `labloop.runtime.workers`.
        history: what other campaigns know; what the campaign's file names under `history`, if None.

    Returns:
        One row an arm, seed and round: lab, arm, seed, round, n_wells, best, top10_mean, batch_mean, seconds, note, and `price`
        where the campaign has prices. Values are the lab's own, of a design with replicates the mean of its wells. `best` and
        `top10_mean` are over all the arm's wells so far that keep the limits, the start left out (the latter of all of them while
        they are fewer than ten, so that it can fall); `batch_mean` over this round's; `seconds` is what training and selection
        took.

    Raises:
        ConfigError: an arm is unknown, or the batch does not fit the arms, the quantile is not a share, no arm is asked for, or
            rounds, batch, seeds or start are no whole number that is large enough.
        MethodError: no proposer of any arm gave a single well; or one failed and `on_failure` is `stop`.
    """
    for what, n in (("rounds", rounds), ("batch", batch), ("seeds", seeds)):
        check_count(what, n)
    if arms is not None and not arms:
        raise ConfigError("a simulation needs an arm at least")
    if not 0 < start_quantile <= 1:
        raise ConfigError(
            f"start_quantile is {start_quantile:g}: it is the share of the lab to start from, above 0 and at most 1"
        )
    if not isinstance(campaign, CampaignConfig):
        campaign = load_config(campaign, CampaignConfig).anchored(at_hand(campaign).parent)
    if history is None:
        history = related.datasets(campaign)
    if round_config is None:
        round_config = preset("rounds/quick.yaml")
    if not isinstance(round_config, RoundConfig):
        round_config = load_config(round_config, RoundConfig)
    name = lab if isinstance(lab, str) else type(lab).__name__.lower()
    lab = open_lab(lab) if isinstance(lab, str) else lab
    if set(lab.space.columns) != set(campaign.space.columns):
        raise ConfigError(
            f"campaign {campaign.name} designs {', '.join(campaign.space.columns)}, "
            f"but the lab measures {', '.join(lab.space.columns)}"
        )
    check_properties(campaign, lab)
    config = pick_arms(round_config, arms, split=mode == "separate")
    bench = Bench(campaign=campaign, wells=batch)
    config = bench.in_designs(config)
    runs = (
        [
            (seed, config.model_copy(update={"arms": {arm: spec.whole}}))
            for seed in range(seeds)
            for arm, spec in config.arms.items()
        ]
        if mode == "separate"
        else [(seed, config) for seed in range(seeds)]
    )
    loops = [
        _Loop(
            campaign=campaign, config=one, lab=lab, seed=derive(campaign.seed, "simulate", seed), rounds=rounds,
            batch=bench.designs, on_failure=on_failure, bench=bench, history=tuple(history),
        )
        for seed, one in runs
    ]  # fmt: skip
    drawn = [start_of(campaign, lab, start, seed=s, quantile=start_quantile) for s in range(seeds)]
    starts = [drawn[seed] for seed, _ in runs]
    rows: list[dict[str, Any]] = []
    for i, found in spread(_run, list(zip(loops, starts, strict=True)), "simulated campaigns", workers=workers):
        for row in found:
            rows.append({"lab": name, "arm": row.pop("arm"), "seed": runs[i][0], **row})
            log.info("seed %d %s", runs[i][0], rows[-1])
    if rows and not any(row["n_wells"] for row in rows):
        raise MethodError("no proposer gave a single well: " + "; ".join(dict.fromkeys(row["note"] for row in rows)))
    order = ["arm", "seed", "round"]
    return pd.DataFrame(rows).sort_values(order, kind="stable", key=_by(list(config.arms))).reset_index(drop=True)


def _run(job: tuple[_Loop, pd.DataFrame]) -> list[dict[str, Any]]:
    loop, start = job
    return list(loop.run(start))


def _by(arms: list[str]) -> Any:
    return lambda column: column.map(arms.index) if column.name == "arm" else column


@dataclass(frozen=True, kw_only=True)
class _Loop:
    """One simulated campaign. Holds nothing: measurements travel as a table."""

    campaign: CampaignConfig
    config: RoundConfig
    watch: Callable[[str, int, pd.DataFrame, Picks | None], None] | None = None
    """Told each arm's name, the round, its wells (designs, `design_id`, `value`, `status`) and its picks, judged or not."""
    lab: Lab
    seed: int
    rounds: int
    batch: int
    """Designs of a round."""
    on_failure: Literal["stop", "drop"] = "drop"
    bench: Bench | None = None
    """Whose replicates, limits and prices hold; none do where it is left out."""
    history: tuple[Dataset, ...] = ()

    def run(self, measured: pd.DataFrame) -> Iterator[dict[str, Any]]:
        """Yield one row an arm and round."""
        self.config.wells(self.batch)  # which refuses a batch that does not fit
        columns = list(self.campaign.space.columns)
        found: dict[str, list[FloatArray]] = {arm: [] for arm in self.config.arms}
        seen: dict[str, set[str]] = {arm: set() for arm in self.config.arms}
        if self.campaign.goal is not None:
            measured = measured.assign(design_id=None)
        history, incumbent = pd.DataFrame(columns=["arm", "proposer", "round", "y"]), dict[int, float | None]()
        chosen, came = nothing(columns), dict[str, dict[str, float]]()
        for number in range(1, self.rounds + 1):
            try:
                terms = self.bench.terms(chosen, seed=self.seed, number=number) if self.bench is not None else None
            except ConfigError as error:
                if number == 1:
                    raise
                said = [f"{ENDED}{error}"]
                yield from (self._row(arm, number, 0, found[arm], {}, {arm: said}) | came.get(arm, {}) for arm in found)
                continue
            data = self._dataset(measured)
            incumbent[number] = float(data.keeping.y[data.keeping.best]) if len(data.keeping) else None
            now = replace(self, config=self._shared(history, incumbent, number))
            picks, posterior, seconds, notes = now._propose(data, number, past=self._past(measured), terms=terms)
            if not picks:
                yield from (self._row(arm, number, 0, found[arm], seconds, notes) | came.get(arm, {}) for arm in found)
                continue
            table = pd.concat([self._table(arm, mine, posterior, number) for arm, mine in picks.items()])
            plate = table.drop_duplicates("design_id").reset_index(drop=True)  # arms number their picks alike
            chosen = pd.concat([chosen, plate[columns]], ignore_index=True)
            if self.bench is not None:
                plate = plate.loc[plate.index.repeat(self.bench.replicates)]
            result = self.lab.measure(plate[columns].reset_index(drop=True), seed=derive(self.seed, "measure", number))
            plate = plate.assign(value=result["value"].to_numpy(float), status=result["status"].to_numpy())
            plate = plate.assign(**{name: result[name].to_numpy(float) for name in self._names})
            # A design that fails by itself is not offered again; a well that failed for another reason may be.
            gone = plate.loc[plate["status"] == "failed_design", [*columns, "value", "status", *self._names]]
            measured = pd.concat([measured, gone], ignore_index=True)
            measured = pd.concat([measured, plate[plate["value"].notna()]], ignore_index=True)
            for arm in found:
                wells = plate[plate["design_id"].isin(table.loc[table["arm"] == arm, "design_id"])]
                mine = whole(wells, self._names)
                values = mine["value"].to_numpy(float)
                y = self.campaign.objective.to_y(values[np.isfinite(values)])
                offered_by = table[table["arm"] == arm].set_index("design_id")["proposer"]
                by = offered_by.reindex(mine.loc[np.isfinite(values), "design_id"]).to_numpy()
                told = pd.DataFrame({"arm": arm, "proposer": by, "round": number, "y": y})
                kept = self._kept(mine)
                if self.campaign.goal is not None:
                    told["kept"] = kept[np.isfinite(values)]
                history = pd.concat([history, told], ignore_index=True)
                if self.watch is not None:
                    self.watch(arm, number, mine, picks.get(arm))
                found[arm].append(values[np.isfinite(values) & kept])
                row = self._row(arm, number, len(wells), found[arm], seconds, notes, plate=values[np.isfinite(values)])
                if self.bench is not None and self.campaign.prices is not None:
                    row["price"] = self.bench.price(mine[columns])
                if self.campaign.goal is not None:
                    known = measured[
                        measured["design_id"].isna() | measured["design_id"].isin(seen[arm] | set(mine["design_id"]))
                    ]
                    seen[arm] |= set(mine["design_id"])
                    row |= compromise(self.campaign.goal, known)
                    came[arm] = {name: row[name] for name in COMPROMISE if name in row}
                yield row

    @property
    def _names(self) -> tuple[str, ...]:
        """Columns of a lab's table that are properties."""
        return () if self.campaign.goal is None else self.campaign.goal.names

    def watched(self, measured: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame | None]]:
        """Yield what `run` yields of a campaign of one arm, each row with the round's wells; None where there were none."""
        seen: list[pd.DataFrame] = []
        loop = replace(self, watch=lambda arm, number, wells, picks: seen.append(wells))
        for row in loop.run(measured):
            yield row, seen.pop() if seen else None

    def _shared(self, history: pd.DataFrame, incumbent: dict[int, float | None], number: int) -> RoundConfig:
        """Share the wells of a round by what the arms and their proposers achieved, where the configuration says so."""
        if self.config.allocation.rule != "evidence":
            return self.config
        seed, even = derive(self.seed, "round", number, "allocation"), self.config.wells(self.batch)
        found, inside = shared(self.config, history, designs=even, incumbent=incumbent, number=number, seed=seed)
        return self.config.allocated(found.wells if found else {}, {arm: one.wells for arm, one in inside.items()})

    def _kept(self, measured: pd.DataFrame) -> Array:
        """Say which designs of a table keep every limit, (n,) bool."""
        goal = self.campaign.goal
        if goal is None:
            return np.ones(len(measured), dtype=bool)
        return goal.feasible(goal.to_y(measured[list(goal.names)].to_numpy(float)))

    def _row(
        self, arm: str, number: int, n_wells: int, found: list[FloatArray], seconds: dict[str, float],
        notes: dict[str, list[str]], plate: FloatArray = _NOTHING,
    ) -> dict[str, Any]:  # fmt: skip
        return {
            "arm": arm, "round": number, "n_wells": n_wells, **self._worth(found, plate),
            "seconds": round(seconds.get(arm, 0.0), 3), "note": "; ".join(notes.get(arm, ())),
        }  # fmt: skip

    def _worth(self, batches: list[FloatArray], plate: FloatArray) -> dict[str, float]:
        """Sum up the values so far that keep the limits, and all of this round's plate."""
        sign = self.campaign.objective.sign
        y = -np.sort(-sign * np.concatenate([_NOTHING, *batches]))
        return {
            "best": float(sign * y[0]) if len(y) else np.nan,
            "top10_mean": float(sign * y[:10].mean()) if len(y) else np.nan,
            "batch_mean": float(plate.mean()) if len(plate) else np.nan,
        }

    def _dataset(self, measured: pd.DataFrame) -> Dataset:
        return replace(self._measured(measured), history=self.history)

    def _measured(self, measured: pd.DataFrame) -> Dataset:
        designs, values = measured[list(self.campaign.space.columns)], measured["value"].to_numpy(float)
        known, failed = np.isfinite(values), designs[measured["status"] == "failed_design"]
        space, goal = self.campaign.space, self.campaign.goal
        if goal is None:
            return Dataset.from_measurements(
                space, designs[known], values[known], objective=self.campaign.objective, pending=failed, failed=failed
            )
        return dataset(space, goal, measured)

    def _past(self, measured: pd.DataFrame) -> Past | None:
        if "mean" not in measured:
            return None
        known = measured[measured["mean"].notna()]
        y = self.campaign.objective.to_y(known["value"].to_numpy(float))
        names = ("nearest_distance", "round", "noise_std", "proposer")
        columns = {name.removeprefix("nearest_"): known[name].to_numpy() for name in names}
        return Past.of(known["mean"].to_numpy(float), known["std"].to_numpy(float), y, **columns)

    def _propose(
        self, data: Dataset, number: int, *, past: Past | None, terms: Terms | None = None
    ) -> tuple[dict[str, Picks], Judgement | None, dict[str, float], dict[str, list[str]]]:
        """Give every arm's picks, the judge, what they took in seconds, and which proposers failed and why, by arm."""
        setting: dict[str, Any] = {"seed": derive(self.seed, "round", number), "number": number, "rounds": self.rounds}
        seconds: dict[str, float] = {}
        failed: dict[str, list[str]] = {}
        offered: dict[str, list[Pool]] = {}
        config = self.config
        for training in plan(config, data, wells=self.batch, **setting):
            started = time.perf_counter()
            try:
                offered.setdefault(training.arm, []).append(train(training, data).pool)
            except FAILURES as error:
                if self.on_failure == "stop":
                    raise
                reason = f"{training.proposer} failed: {in_one_line(error)}"
                log.warning("round %d: arm %s goes on without what failed: %s", number, training.arm, reason)
                failed.setdefault(training.arm, []).append(reason)
                config = config.without(training.arm, training.proposer)
            seconds[training.arm] = seconds.get(training.arm, 0.0) + time.perf_counter() - started
        if not config.arms:
            return {}, None, seconds, failed
        started = time.perf_counter()
        # Only an arm that selects needs the judge; a lab always stores its opinion, a simulation need not pay for it.
        selects = any(set(arm.selector) != {"as_proposed"} for arm in config.arms.values())
        together = {arm: offered[arm] for arm in config.arms}
        picks, posterior = decide(
            config, together, data, config.wells(self.batch), past=past, judging=selects, terms=terms, **setting
        )
        for drawn in left_to_chance(picks):
            log.info("round %d: %s", number, drawn)
        for arm, spec in config.arms.items():
            if set(spec.selector) != {"as_proposed"}:
                seconds[arm] += time.perf_counter() - started
        return picks, posterior, seconds, failed

    def _table(self, arm: str, picks: Picks, posterior: Judgement | None, number: int) -> pd.DataFrame:
        designs = self.campaign.space.decode(picks.pool.X)
        mean, std = (picks.mean, picks.std) if posterior is None else posterior.raw(picks.pool.X)
        return designs.assign(
            arm=arm, design_id=picks.pool.ids, mean=mean, std=std, nearest_distance=picks.nearest_distance, round=number,
            noise_std=np.nan if posterior is None else posterior.noise_std, proposer=picks.pool.proposer,
        )  # fmt: skip


def summary(table: pd.DataFrame, *, column: str = "batch_mean") -> pd.DataFrame:
    """Mean and standard deviation over seeds, one row an arm, one column a round: `0.690 ± 0.012`; a dash where nothing is known.

    One seed has no deviation. At least three digits of the largest mean are told, and two of how far apart means or seeds are.
    """
    grouped = table.groupby(["arm", "round"], sort=False)[column]
    mean, spread = grouped.mean(), grouped.std(ddof=1)
    largest = mean.abs().max()
    scale = min([largest, *(10 * one for one in (mean.max() - mean.min(), spread.max()) if one > 1e-9 * largest)])
    text = mean.map(lambda one: spell(one, scale, digits=3))
    text += spread.map(lambda one: f" ± {spell(one, scale, digits=3)}").where(spread.notna(), "")
    return text.unstack("round").rename(columns=lambda number: f"round {number}").reset_index()
