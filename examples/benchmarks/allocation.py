"""Wells that move by evidence against equal shares and against the best single arm, known only afterwards.

Stand-in arms (default): a landscape of 20,000 designs whose values are normal; each arm sees a score of every design that
correlates with the truth as its skill says, and picks by it what is not measured yet; readings have a noise of 0.3 standard
deviations. The question is about the rule, so that arms need no training. With `--labs` real arms share plates in
labloop's own labs.

    python examples/benchmarks/allocation.py --repetitions 1000
    python examples/benchmarks/allocation.py --labs tfbind8,gb1 --seeds 6
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from labloop.config.allocation import apportion
from labloop.proposing.evidence import share

SCENES = {
    "one good arm": ((0.7, 0.3, 0.1),) * 4,
    "one better arm": ((0.55, 0.4, 0.4),) * 4,
    "two good arms": ((0.6, 0.6, 0.1),) * 4,
    "equal arms": ((0.5, 0.5, 0.5),) * 4,
    "the best changes": ((0.7, 0.3, 0.3), (0.7, 0.3, 0.3), (0.3, 0.7, 0.3), (0.3, 0.7, 0.3)),
}
"""Skill of each arm in each round."""
DESIGNS, NOISE, TOP = 20_000, 0.3, 10
ARMS = ("a", "b", "c")


def campaign(skills: tuple[tuple[float, ...], ...], rule: str, *, wells: int, floor: int, seed: int) -> dict[str, float]:
    """Run four plates; returns the mean true value of the ten best readings and the best arm's share of the last plate."""
    rng = np.random.default_rng(seed)  # the same landscape and scores for every rule
    truth = rng.standard_normal(DESIGNS)
    luck = rng.standard_normal((len(ARMS), DESIGNS))
    reading = truth + NOISE * rng.standard_normal(DESIGNS)
    open_ = np.ones(DESIGNS, dtype=bool)
    open_[rng.permutation(np.argsort(truth)[: DESIGNS // 2])[:100]] = False  # the start, from the worse half
    incumbent, history, given = {1: float(reading[~open_].max())}, [], dict[str, int]()
    for number, skill in enumerate(skills, start=1):
        if rule == "evidence":
            known = pd.DataFrame(history, columns=["arm", "round", "y"])
            given = share(known, ARMS, wells=wells, floor=floor, incumbent=incumbent, number=number, seed=seed).wells
        elif rule == "equal":
            given = apportion(wells, dict.fromkeys(ARMS, 1.0))
        else:
            given = {arm: wells * (arm == rule) for arm in ARMS}
        plate: list[tuple[str, int]] = []
        for i, arm in enumerate(ARMS):
            score = np.where(open_, skill[i] * truth + np.sqrt(1 - skill[i] ** 2) * luck[i], -np.inf)
            mine = np.argpartition(-score, given[arm])[: given[arm]]
            plate += [(arm, int(j)) for j in mine]
            open_[mine] = False  # a design that two arms want goes to the first; the second has its next choice
        history += [(arm, number, float(reading[j])) for arm, j in plate]
        incumbent[number + 1] = max(incumbent[number], *(float(reading[j]) for _, j in plate))
    measured = np.flatnonzero(~open_)
    best = measured[np.argsort(-reading[measured])[:TOP]]
    leader = ARMS[int(np.argmax(skills[-1]))]
    return {"top10": float(truth[best].mean()), "best": float(truth[measured].max()), "share": given[leader] / wells}


def stand_ins(repetitions: int, wells: int, floor: int) -> pd.DataFrame:
    rows = []
    for scene, skills in SCENES.items():
        for rule in ("equal", "evidence", *ARMS):
            for seed in range(repetitions):
                found = campaign(skills, rule, wells=wells, floor=floor, seed=seed)
                rows.append({"scene": scene, "rule": rule, "seed": seed, **found})
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """One row a scene: each rule's mean, what evidence gains on equal with its 95 % interval, and the regret."""
    out = []
    for scene, mine in rows.groupby("scene", sort=False):
        by = mine.pivot(index="seed", columns="rule", values=value)
        gain = by["evidence"] - by["equal"]
        half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
        singles = [name for name in by.columns if name not in ("equal", "evidence")]
        best = by[singles].mean().idxmax()
        shares = mine[mine["rule"] == "evidence"]["share"]
        out.append({
            "scene": scene, "equal": by["equal"].mean(), "evidence": by["evidence"].mean(), "best single arm": by[best].mean(),
            "gain on equal": f"{gain.mean():+.3f} ± {half:.3f}", "regret of equal": by[best].mean() - by["equal"].mean(),
            "regret of evidence": by[best].mean() - by["evidence"].mean(), "best arm's share, plate 4": shares.mean(),
        })  # fmt: skip
    return pd.DataFrame(out)


def labs(names: list[str], arms: dict[str, dict[str, object]], *, seeds: int, wells: int, floor: int) -> pd.DataFrame:
    from labloop.config.campaign import CampaignConfig
    from labloop.config.read import load_config, parse_config, preset
    from labloop.config.round import RoundConfig
    from labloop.studies.simulate import open_lab, simulate

    rows = []
    for name in names:
        campaign_, lab = load_config(preset(f"campaigns/{name}.yaml"), CampaignConfig), open_lab(name)
        for rule in ("equal", "evidence", *arms):
            some = {rule: arms[rule]} if rule in arms else arms
            allocation = {"rule": "evidence", "floor": floor} if rule == "evidence" else "equal"
            config = parse_config({"arms": some, "judge": None, "allocation": allocation}, RoundConfig)
            found = simulate(
                campaign_, lab, round_config=config, start=300, rounds=4, batch=wells, seeds=seeds, mode="shared"
            )  # fmt: skip
            last = found[found["round"] == 4]
            for seed, mine in last.groupby("seed"):
                leader = mine.loc[mine["arm"] == next(iter(arms)), "n_wells"].sum() / wells
                rows.append({"scene": name, "rule": rule, "seed": seed, "top10": mine["top10_mean"].max(), "share": leader})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--wells", type=int, default=96)
    parser.add_argument("--floor", type=int, default=8)
    parser.add_argument("--labs", default="", help="labloop's labs with commas between, instead of stand-ins")
    parser.add_argument("--seeds", type=int, default=6)
    told = parser.parse_args()
    pd.set_option("display.width", 200, "display.max_columns", 20)
    if told.labs:
        real = {"forest": {"proposers": "forest"}, "mutate": {"proposers": "mutate"}, "random": {"proposers": "random"}}
        found = labs(told.labs.split(","), real, seeds=told.seeds, wells=told.wells, floor=told.floor)
        print(table(found, "top10").round(3).to_string(index=False))
    else:
        found = stand_ins(told.repetitions, told.wells, told.floor)
        for value in ("top10", "best"):
            print(value)
            print(table(found, value).round(3).to_string(index=False))
