"""Wells that move by evidence against equal shares and against the best single arm, known only afterwards.

Stand-in arms (default): a landscape of 20,000 designs whose values are normal; each arm sees a score of every design that
correlates with the truth as its skill says, and picks by it what is not measured yet; readings have a noise of 0.3 standard
deviations. The question is about the rule, so that arms need no training. `--study` does the same on what the ten labs of
config/studies/offline_vs_bo.yaml measure: 4,000 designs of each at random, in standard deviations of the lab, skill being the
correlation with the designs' ranks. With `--labs` arms that are trained share plates in labloop's own labs.

    python examples/benchmarks/allocation.py --repetitions 1000
    python examples/benchmarks/allocation.py --study --repetitions 1000
    python examples/benchmarks/allocation.py --labs tfbind8,gb1 --arms pairwise,mutate,random --seeds 20
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy.special import ndtri

from labloop.config.allocation import apportion
from labloop.proposing.evidence import share
from labloop.space.objective import Objective

SCENES = {
    "one good arm": ((0.7, 0.3, 0.1),) * 4,
    "one better arm": ((0.55, 0.4, 0.4),) * 4,
    "two good arms": ((0.6, 0.6, 0.1),) * 4,
    "equal arms": ((0.5, 0.5, 0.5),) * 4,
    "the best changes": ((0.7, 0.3, 0.3), (0.7, 0.3, 0.3), (0.3, 0.7, 0.3), (0.3, 0.7, 0.3)),
}
"""Skill of each arm in each round."""
DESIGNS, STUDIED, NOISE, TOP = 20_000, 4_000, 0.3, 10
LABS = {
    "tfbind8": "tfbind8", "rna14": "rna", "rna50": "rna/length=50", "utr": "utr", "gb1": "gb1", "ehrlich": "ehrlich",
    "arylation": "arylation", "oer": "oer", "hartmann6": "hartmann6", "levy10": "levy10",
}  # fmt: skip
"""The study's labs, by their campaigns."""
SMALL = ("arylation", "oer")
"""Those that have fewer designs."""
ARMS = ("a", "b", "c")


def campaign(
    skills: tuple[tuple[float, ...], ...], rule: str, *, wells: int, floor: int, seed: int, landscape: np.ndarray | None = None
) -> dict[str, float]:
    """Run four plates; returns the mean true value of the ten best readings and the best arm's share of the last plate.

    Args:
        landscape: true values (n,), ascending; normal ones by default.
    """
    rng = np.random.default_rng(seed)  # the same landscape and scores for every rule
    truth = rng.standard_normal(DESIGNS) if landscape is None else landscape
    n = len(truth)
    known = truth if landscape is None else np.array(ndtri((np.arange(n) + 0.5) / n))
    luck = rng.standard_normal((len(ARMS), n))
    reading = truth + NOISE * rng.standard_normal(n)
    open_ = np.ones(n, dtype=bool)
    open_[rng.permutation(np.argsort(truth)[: n // 2])[:100]] = False  # the start, from the worse half
    incumbent, history, given = {1: float(reading[~open_].max())}, [], dict[str, int]()
    for number, skill in enumerate(skills, start=1):
        if rule == "evidence":
            past = pd.DataFrame(history, columns=["arm", "round", "y"])
            given = share(past, ARMS, wells=wells, floor=floor, incumbent=incumbent, number=number, seed=seed).wells
        elif rule == "equal":
            given = apportion(wells, dict.fromkeys(ARMS, 1.0))
        else:
            given = {arm: wells * (arm == rule) for arm in ARMS}
        plate: list[tuple[str, int]] = []
        for i, arm in enumerate(ARMS):
            score = np.where(open_, skill[i] * known + np.sqrt(1 - skill[i] ** 2) * luck[i], -np.inf)
            mine = np.argpartition(-score, given[arm])[: given[arm]]
            plate += [(arm, int(j)) for j in mine]
            open_[mine] = False  # a design that two arms want goes to the first; the second has its next choice
        history += [(arm, number, float(reading[j])) for arm, j in plate]
        incumbent[number + 1] = max(incumbent[number], *(float(reading[j]) for _, j in plate))
    measured = np.flatnonzero(~open_)
    best = measured[np.argsort(-reading[measured])[:TOP]]
    leader = ARMS[int(np.argmax(skills[-1]))]
    return {"top10": float(truth[best].mean()), "best": float(truth[measured].max()), "share": given[leader] / wells}


def stand_ins(scenes: list[str], repetitions: int, wells: int, floor: int) -> pd.DataFrame:
    rows = []
    for scene in scenes:
        skills = SCENES[scene]
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


def study(names: list[str], repetitions: int, wells: int, floor: int) -> pd.DataFrame:
    """Stand-in arms on the values of the study's labs, arms of unequal worth and equal ones."""
    from labloop.config.campaign import CampaignConfig
    from labloop.config.read import load_config, preset
    from labloop.studies.simulate import draw_start, open_lab

    rows = []
    for name in names:
        lab, objective = open_lab(LABS[name]), load_config(preset(f"campaigns/{name}.yaml"), CampaignConfig).objective
        n = STUDIED if name not in SMALL else len(lab.table()[1])
        drawn = draw_start(lab, n, seed=0, quantile=1.0, objective=objective)
        y = objective.to_y(drawn["value"].to_numpy(float))
        y = np.sort(y[np.isfinite(y)])
        landscape = (y - y.mean()) / y.std()
        for scene in ("one good arm", "equal arms"):
            for rule in ("equal", "evidence", *ARMS):
                for seed in range(repetitions):
                    found = campaign(SCENES[scene], rule, wells=wells, floor=floor, seed=seed, landscape=landscape)
                    rows.append({"scene": f"{name}, {scene}", "rule": rule, "seed": seed, **found})
    return pd.DataFrame(rows)


def labs(names: list[str], arms: list[str], *, seeds: int, wells: int, floor: int, start: int) -> pd.DataFrame:
    """Arms that are trained, on one plate together under both rules, and each with the whole plate by itself."""
    from labloop.config.campaign import CampaignConfig
    from labloop.config.read import load_config, parse_config, preset
    from labloop.config.round import RoundConfig
    from labloop.seeds import derive
    from labloop.studies.simulate import _Loop, draw_start, open_lab

    rows = []
    for name in names:
        config, lab = load_config(preset(f"campaigns/{name}.yaml"), CampaignConfig), open_lab(name)
        for rule in ("equal", "evidence", *arms):
            some = {arm: {"proposers": arm} for arm in arms if rule in ("equal", "evidence", arm)}
            allocation = {"rule": "evidence", "floor": floor} if rule == "evidence" else "equal"
            told = parse_config({"arms": some, "judge": None, "allocation": allocation}, RoundConfig)
            for seed in range(seeds):
                found: dict[str, float] = {}
                given: dict[tuple[str, int], int] = {}

                def watch(
                    arm: str, number: int, got: pd.DataFrame, picks: object, *, found: dict[str, float] = found,
                    given: dict[tuple[str, int], int] = given, objective: Objective = config.objective,
                ) -> None:  # fmt: skip
                    found.update(zip(got["design_id"], objective.to_y(got["value"].to_numpy(float)), strict=True))
                    given[arm, number] = len(got)

                loop = _Loop(
                    campaign=config, config=told, lab=lab, seed=derive(seed, "allocation"), rounds=4, batch=wells, watch=watch
                )
                list(loop.run(draw_start(lab, start, seed=seed, objective=config.objective)))
                y = np.sort(np.array([one for one in found.values() if np.isfinite(one)]))
                last = {arm: given.get((arm, 4), 0) / wells for arm in some}
                rows.append(
                    {
                        "scene": name,
                        "rule": rule,
                        "seed": seed,
                        "top10": y[-TOP:].mean(),
                        "best": y[-1],
                        "share": last[next(iter(last))],
                    }
                )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--wells", type=int, default=96)
    parser.add_argument("--floor", type=int, default=8)
    parser.add_argument("--study", action="store_true", help="stand-ins on the values of the study's labs")
    parser.add_argument("--scenes", default=",".join(SCENES), help="of stand-ins, with commas between")
    parser.add_argument("--labs", default="", help="labs with commas between: of --study, or for arms that are trained")
    parser.add_argument("--arms", default="forest,mutate,random", help="proposers for --labs, the one that should win first")
    parser.add_argument("--start", type=int, default=300, help="measured designs to begin with, for --labs")
    parser.add_argument("--seeds", type=int, default=6)
    told = parser.parse_args()
    pd.set_option("display.width", 200, "display.max_columns", 20)
    if told.study:
        found = study(told.labs.split(",") if told.labs else list(LABS), told.repetitions, told.wells, told.floor)
    elif told.labs:
        found = labs(
            told.labs.split(","), told.arms.split(","), seeds=told.seeds, wells=told.wells, floor=told.floor, start=told.start
        )
    else:
        found = stand_ins(told.scenes.split(","), told.repetitions, told.wells, told.floor)
    for value in ("top10", "best"):
        print(value)
        print(table(found, value).round(3).to_string(index=False))
