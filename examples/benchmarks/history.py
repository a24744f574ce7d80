"""What is a related campaign worth at the start, and what does one cost that misleads?

    python examples/benchmarks/history.py --pair reaction --arms bo gp --seeds 8

20 designs drawn at random and two plates, with a related campaign and without it, from the same starts. `reaction`: yields at
120 °C of the direct arylation, with 200 of the 576 conditions measured at 90 °C (Shields et al. 2021). `dna`: binding of SIX6
(Barrera et al. 2016), with 400 8-mers of an older assay that is made up: on a logarithmic scale, with noise, two fifths of it
another protein's (SIX6 with its letters exchanged). `reaction-misleads` and `dna-misleads`: a campaign that looks the same and is
not: options, or letters, exchanged for one another. `reaction-flipped`: the 90 °C yields with their sign turned. `--start 0`
makes the first plate of history alone, beside a random one. The table gives means over the seeds, and of the paired differences
the mean with its 95 % interval.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.config.round import RoundConfig
from labloop.proposing.dataset import Dataset
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice
from labloop.studies.labs.lab import Lab
from labloop.studies.simulate import open_lab, simulate
from labloop.types import FloatArray

Table = tuple[pd.DataFrame, FloatArray]


class Known:
    """A complete table as a lab."""

    def __init__(self, space: DesignSpace, designs: pd.DataFrame, values: FloatArray) -> None:
        self.space = space
        self._table = designs, values
        self._value = dict(zip(space.ids(space.encode(designs)), values.tolist(), strict=True))

    def table(self) -> Table:
        """Give every design and its value."""
        return self._table

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Look designs up."""
        values = [self._value[one] for one in self.space.ids(self.space.encode(designs))]
        return pd.DataFrame({"value": values, "status": "ok"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pair", choices=tuple(PAIRS), default="reaction")
    parser.add_argument("--round", default=str(preset("rounds/small.yaml")))
    parser.add_argument("--arms", nargs="+", default=["bo", "gp"])
    parser.add_argument("--start", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first", type=int, default=0, help="the first seed, to run the seeds in parts")
    parser.add_argument("--out", type=Path, help="keep the rows, after those that are there")
    args = parser.parse_args()
    make, n_other, batch = PAIRS[args.pair]
    config = load_config(args.round, RoundConfig)
    rows: list[pd.DataFrame] = [pd.read_csv(args.out)] if args.out and args.out.exists() else []
    for seed in range(args.first, args.first + args.seeds):
        lab, (designs, values) = make()
        campaign = CampaignConfig(name="history", space=lab.space, seed=seed)
        some = generator(seed, "history").permutation(len(values))[:n_other]
        other = Dataset.from_measurements(lab.space, designs.iloc[some].reset_index(drop=True), values[some])
        for name, history in (("without", ()), ("with", (replace(other, label="other"),))):
            arms = ["random"] if not args.start and not history else args.arms
            for arm in arms:
                begin = time.process_time()
                found = simulate(
                    campaign, lab, round_config=config, start=args.start, start_quantile=1.0, rounds=args.rounds, batch=batch,
                    seeds=1, arms=[arm], history=history,
                )  # fmt: skip
                kept = found[["round", "batch_mean", "best"]].assign(pair=args.pair, seed=seed, history=name)
                kept["cpu"] = (time.process_time() - begin) / args.rounds
                rows += [kept.assign(arm=one) for one in (args.arms if arm == "random" else [arm])]
        if args.out:
            pd.concat(rows).to_csv(args.out, index=False)
    print(summary(pd.concat(rows)).to_string(index=False))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means with and without history and the paired difference, one row a pair, arm and round."""
    told = []
    for (pair, arm, number), mine in table.groupby(["pair", "arm", "round"], sort=False):
        wide = mine.pivot(index="seed", columns="history", values="batch_mean")
        gain = (wide["with"] - wide["without"]).to_numpy()
        half = student.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
        cpu = mine.groupby("history")["cpu"].mean()
        told.append({
            "pair": pair, "arm": arm, "plate": number, "seeds": len(gain), "without": f"{wide['without'].mean():.3f}",
            "with": f"{wide['with'].mean():.3f}", "gain": f"{gain.mean():+.3f}",
            "interval": f"{gain.mean() - half:+.3f} to {gain.mean() + half:+.3f}",
            "cpu": f"{cpu['without']:.1f} / {cpu['with']:.1f}",
        })  # fmt: skip
    return pd.DataFrame(told)


@cache
def _arylation(temperature: float) -> tuple[DesignSpace, Table]:
    """The reaction at one temperature; names instead of structures, so that nothing but history knows more."""
    designs, values = open_lab("arylation").table()  # type: ignore[attr-defined]
    keep = np.isclose(designs["temperature"].astype(float), temperature)
    names = [one for one in designs.columns if one != "temperature"]
    text = designs[names].astype(str)
    space = DesignSpace(parameters=tuple(Choice(name=one, options=tuple(dict.fromkeys(text[one]))) for one in names))
    return space, (text[keep].reset_index(drop=True), np.asarray(values)[keep])


def reaction() -> tuple[Lab, Table]:
    """120 °C here, 90 °C there."""
    space, here = _arylation(120.0)
    return Known(space, *here), _arylation(90.0)[1]


def reaction_flipped() -> tuple[Lab, Table]:
    """120 °C here, 90 °C with the sign turned there."""
    lab, (designs, values) = reaction()
    return lab, (designs, -values)


def reaction_misleads() -> tuple[Lab, Table]:
    """120 °C here, 90 °C with every option named as another one there."""
    lab, (designs, values) = reaction()
    rng = generator(0, "exchanged")
    shuffled = {
        name: designs[name].map(dict(zip(options, np.roll(options, 1 + rng.integers(len(options) - 1)))))
        for name in designs.columns
        for options in [sorted(designs[name].unique())]
    }
    return lab, (pd.DataFrame(shuffled), values)


@cache
def _dna() -> tuple[DesignSpace, Table, FloatArray]:
    """SIX6, and the value that each 8-mer has with its letters exchanged."""
    lab = open_lab("tfbind8")
    designs, values = lab.table()  # type: ignore[attr-defined]
    space = lab.space
    value = dict(zip(space.ids(space.encode(designs)), values.tolist(), strict=True))
    other = pd.DataFrame({"dna": designs["dna"].str.translate(str.maketrans("ACGT", "TACG"))})
    exchanged = np.array([value.get(one, 0.0) for one in space.ids(space.encode(other))])
    return space, (designs, np.asarray(values)), exchanged


def dna() -> tuple[Lab, Table]:
    """SIX6 here, an older assay of it there."""
    space, (designs, values), exchanged = _dna()
    noise = 0.1 * generator(0, "older assay").standard_normal(len(values))
    return Known(space, designs, values), (designs, np.exp(2 * (0.6 * values + 0.4 * exchanged) + noise))


def dna_misleads() -> tuple[Lab, Table]:
    """SIX6 here, SIX6 with its letters exchanged there."""
    space, (designs, values), exchanged = _dna()
    return Known(space, designs, values), (designs, exchanged)


PAIRS: dict[str, tuple[Callable[[], tuple[Lab, Table]], int, int]] = {
    "reaction": (reaction, 200, 12), "reaction-flipped": (reaction_flipped, 200, 12),
    "reaction-misleads": (reaction_misleads, 200, 12), "dna": (dna, 400, 48), "dna-misleads": (dna_misleads, 400, 48),
}  # fmt: skip
"""How a pair is made, how many designs the other campaign measured, and the wells of a plate."""


if __name__ == "__main__":
    main()
