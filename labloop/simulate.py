"""The closed loop against a simulated lab: what would these arms have found, had the lab been this one?"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from labloop.belief import Judgement, Past
from labloop.config import Arm, CampaignConfig, RoundConfig, load_config, preset
from labloop.dataset import Dataset
from labloop.errors import ConfigError, MethodError
from labloop.objective import Objective
from labloop.parameters import FloatArray
from labloop.pool import Picks, Pool
from labloop.protocols import Lab
from labloop.registry import available, create
from labloop.rounds import choose, judge, plan, train
from labloop.seeds import derive, generator
from labloop.workers import Workers, spread

log = logging.getLogger("labloop")


def open_lab(spec: str, **options: Any) -> Lab:
    """Open a simulated lab by its name, or `lookup:FILE.csv` for a complete table of designs and values."""
    name, _, path = spec.partition(":")
    if path and name in available("labs"):
        options["path"] = Path(path)
        return create("labs", name, options)  # type: ignore[no-any-return]
    return create("labs", spec, options)  # type: ignore[no-any-return]


def simulate(
    campaign: CampaignConfig | Path | str,
    lab: Lab | str,
    *,
    round_config: RoundConfig | Path | str | None = None,
    start: int | Literal["offline"] = 500,
    rounds: int = 4,
    batch: int = 96,
    seeds: int = 5,
    arms: Sequence[str] | None = None,
    mode: Literal["separate", "shared"] = "separate",
    workers: Workers = 1,
) -> pd.DataFrame:
    """Run simulated campaigns and tell what each arm's plates were worth.

    Args:
        round_config: arms and judge; the shipped `rounds/quick.yaml` where none is given.
        start: measured designs to begin with, drawn at random from the lower half of the lab's table; `offline` takes all of it.
        batch: wells of a plate.
        arms: arms of the round's configuration, or names of proposers as arms of their own. By default every arm; in separate
            mode an arm of several proposers is split into them, since they never share a batch there.
        mode: `separate`: every arm runs its own campaign with the whole plate, from the same start. `shared`: one plate, arms
            side by side, everybody learns from all wells, as in a lab.
        workers: side by side on so many processes, or on a Dask cluster: see `labloop.workers`.

    Returns:
        One row an arm, seed and round: lab, arm, seed, round, n_wells, best, top10_mean, batch_mean, seconds. Values are the
        lab's own. `best` and `top10_mean` are over all the arm's wells so far, the start left out; `batch_mean` over this
        round's; `seconds` is what training and selection took.

    Raises:
        ConfigError: an arm is unknown, or the batch does not fit the arms.
    """
    if not isinstance(campaign, CampaignConfig):
        campaign = load_config(campaign, CampaignConfig)
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
    config = _pick_arms(round_config, arms, split=mode == "separate")
    runs = (
        [
            (seed, config.model_copy(update={"arms": {arm: _whole(spec)}}))
            for seed in range(seeds)
            for arm, spec in config.arms.items()
        ]
        if mode == "separate"
        else [(seed, config) for seed in range(seeds)]
    )
    loops = [
        _Loop(campaign=campaign, config=one, lab=lab, seed=derive(campaign.seed, "simulate", seed), rounds=rounds, batch=batch)
        for seed, one in runs
    ]
    drawn = [draw_start(lab, start, seed=derive(campaign.seed, "start", s), objective=campaign.objective) for s in range(seeds)]
    starts = [drawn[seed] for seed, _ in runs]
    rows: list[dict[str, Any]] = []
    for i, found in spread(_run, list(zip(loops, starts, strict=True)), "simulated campaigns", workers=workers):
        for row in found:
            rows.append({"lab": name, "arm": row.pop("arm"), "seed": runs[i][0], **row})
            log.info("seed %d %s", runs[i][0], rows[-1])
    order = ["arm", "seed", "round"]
    return pd.DataFrame(rows).sort_values(order, kind="stable", key=_by(list(config.arms))).reset_index(drop=True)


def _run(job: tuple[_Loop, pd.DataFrame]) -> list[dict[str, Any]]:
    loop, start = job
    return list(loop.run(start))


def _by(arms: list[str]) -> Any:
    return lambda column: column.map(arms.index) if column.name == "arm" else column


def _pick_arms(config: RoundConfig, names: Sequence[str] | None, *, split: bool) -> RoundConfig:
    """Keep the arms asked for; a name that is no arm of the configuration may be a proposer of its own."""
    arms = dict(config.arms)
    if split:
        arms = {}
        for name, arm in config.arms.items():
            alone = {p: arm.model_copy(update={"proposers": {p: options}}) for p, options in arm.proposers.items()}
            arms.update({name: arm} if len(alone) == 1 else alone)
    if names is None:
        return config.model_copy(update={"arms": arms})
    chosen = {}
    for name in names:
        if name in arms or name in config.arms:
            chosen[name] = arms.get(name) or config.arms[name]
        elif name in available("proposers") or ":" in name:
            chosen[name] = _alone(name, config)
        else:
            raise ConfigError(
                f"arm {name!r} is neither an arm of the round ({', '.join(arms)}) "
                f"nor a proposer ({', '.join(available('proposers'))})"
            )
    return config.model_copy(update={"arms": chosen})


def _alone(name: str, config: RoundConfig) -> Arm:
    """Make a proposer an arm of its own; the judge as a proposer is selected from as the first arm is that has a selector."""
    selecting = [arm for arm in config.arms.values() if set(arm.selector) != {"as_proposed"}]
    if name == "judge_only" and selecting:
        return selecting[0].model_copy(update={"proposers": {name: {}}})
    return Arm(proposers={name: {}})


def _whole(arm: Arm) -> Arm:
    return arm.model_copy(update={"wells": None})


def draw_start(
    lab: Lab, n: int | Literal["offline"], *, seed: int, quantile: float = 0.5, objective: Objective | None = None
) -> pd.DataFrame:
    """Measure n random designs from the worse part of a lab, as the data that a campaign starts from.

    The worse part are designs whose value is not better than the quantile of the lab's whole table; a lab without a `table`
    has its quantile taken over random designs that it measures. `offline` takes the worse part whole.

    Returns:
        The design columns, `value` and `status`, one row a distinct design.

    Raises:
        MethodError: the part holds fewer than n designs.
    """
    objective = objective or Objective()
    rng = generator(seed, "start")
    if hasattr(lab, "table"):
        designs, values = lab.table()
    else:
        X = lab.space.sample(max(2000, 4 * n if isinstance(n, int) else 0), rng)
        designs = lab.space.decode(X[lab.space.fresh(X)])
        found = lab.measure(designs, seed=derive(seed, "start", "survey"))["value"].to_numpy(dtype=float)
        designs, values = designs[np.isfinite(found)].reset_index(drop=True), found[np.isfinite(found)]
    y = objective.to_y(values)
    low = np.flatnonzero(y <= np.quantile(y, quantile))
    n = len(low) if n == "offline" else n
    if len(low) < n:
        raise MethodError(f"a start of {n} designs was asked for, but only {len(low)} lie in the worse {quantile:.0%} of the lab")
    chosen = designs.iloc[rng.permutation(low)[:n]].reset_index(drop=True)
    return pd.concat([chosen, lab.measure(chosen, seed=derive(seed, "start", "measure"))], axis=1)


@dataclass(frozen=True, kw_only=True)
class _Loop:
    """One simulated campaign. Holds nothing: measurements travel as a table."""

    campaign: CampaignConfig
    config: RoundConfig
    lab: Lab
    seed: int
    rounds: int
    batch: int

    def run(self, measured: pd.DataFrame) -> Iterator[dict[str, Any]]:
        """Yield one row an arm and round."""
        wells = self.config.wells(self.batch)
        columns = list(self.campaign.space.columns)
        found: dict[str, list[FloatArray]] = {arm: [] for arm in wells}
        for number in range(1, self.rounds + 1):
            data = self._dataset(measured)
            picks, posterior, seconds = self._propose(data, wells, number, past=self._past(measured))
            table = pd.concat([self._table(arm, chosen, posterior, number) for arm, chosen in picks.items()])
            plate = table.drop_duplicates("design_id")
            result = self.lab.measure(plate[columns], seed=derive(self.seed, "measure", number))
            plate = plate.assign(value=result["value"].to_numpy(float))
            measured = pd.concat([measured, plate[plate["value"].notna()]], ignore_index=True)
            for arm in wells:
                mine = plate[plate["design_id"].isin(table.loc[table["arm"] == arm, "design_id"])]
                values = mine["value"].to_numpy(float)
                found[arm].append(values[np.isfinite(values)])
                yield {
                    "arm": arm,
                    "round": number,
                    "n_wells": len(mine),
                    **self._worth(found[arm]),
                    "seconds": round(seconds[arm], 3),
                }

    def _worth(self, batches: list[FloatArray]) -> dict[str, float]:
        sign = self.campaign.objective.sign
        y = -np.sort(-sign * np.concatenate(batches))
        if not len(y):
            return {"best": np.nan, "top10_mean": np.nan, "batch_mean": np.nan}
        last = batches[-1]
        return {
            "best": float(sign * y[0]),
            "top10_mean": float(sign * y[:10].mean()),
            "batch_mean": float(last.mean()) if len(last) else np.nan,
        }

    def _dataset(self, measured: pd.DataFrame) -> Dataset:
        designs = measured[list(self.campaign.space.columns)]
        return Dataset.from_measurements(
            self.campaign.space, designs, measured["value"].to_numpy(float), objective=self.campaign.objective
        )

    def _past(self, measured: pd.DataFrame) -> Past | None:
        if "mean" not in measured:
            return None
        known = measured[measured["mean"].notna()]
        y = self.campaign.objective.to_y(known["value"].to_numpy(float))
        names = ("nearest_distance", "round", "noise_std", "proposer")
        columns = {name.removeprefix("nearest_"): known[name].to_numpy() for name in names}
        return Past.of(known["mean"].to_numpy(float), known["std"].to_numpy(float), y, **columns)

    def _propose(
        self, data: Dataset, wells: dict[str, int], number: int, *, past: Past | None
    ) -> tuple[dict[str, Picks], Judgement | None, dict[str, float]]:
        setting: dict[str, int] = {"seed": self.seed, "number": number, "rounds": self.rounds}
        seconds: dict[str, float] = {}
        offered: dict[str, list[Pool]] = {}
        for training in plan(self.config, data, wells=self.batch, **setting):
            trained = train(training, data)
            offered.setdefault(training.arm, []).append(trained.pool)
            seconds[training.arm] = seconds.get(training.arm, 0.0) + trained.seconds
        pools = {arm: Pool.interleave(together) for arm, together in offered.items()}
        started = time.perf_counter()
        # Only an arm that selects needs the judge; a lab always stores its opinion, a simulation need not pay for it.
        selects = any(set(arm.selector) != {"as_proposed"} for arm in self.config.arms.values())
        posterior = judge(self.config, data, past=past, **setting) if selects and self.config.judge else None
        picks = choose(self.config, pools, posterior, data, wells, **setting)
        for arm, spec in self.config.arms.items():
            if set(spec.selector) != {"as_proposed"}:
                seconds[arm] += time.perf_counter() - started
        return picks, posterior, seconds

    def _table(self, arm: str, picks: Picks, posterior: Judgement | None, number: int) -> pd.DataFrame:
        designs = self.campaign.space.decode(picks.pool.X)
        mean, std = (picks.mean, picks.std) if posterior is None else posterior.raw(picks.pool.X)
        return designs.assign(
            arm=arm, design_id=picks.pool.ids, mean=mean, std=std, nearest_distance=picks.nearest_distance, round=number,
            noise_std=np.nan if posterior is None else posterior.noise_std, proposer=picks.pool.proposer,
        )  # fmt: skip


def summary(table: pd.DataFrame, *, column: str = "batch_mean") -> pd.DataFrame:
    """Mean and standard deviation over seeds, one row an arm, one column a round: `0.690 ± 0.012`."""
    grouped = table.groupby(["arm", "round"], sort=False)[column]
    text = grouped.mean().map("{:.3f}".format) + " ± " + grouped.std(ddof=1).fillna(0).map("{:.3f}".format)
    return text.unstack("round").rename(columns=lambda number: f"round {number}").reset_index()
