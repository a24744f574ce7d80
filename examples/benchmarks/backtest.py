"""Does a backtest name the arm that then wins? Campaigns with a history of their own are backtested, then simulated on.

The history is a random sample of a lab's designs; the backtest sees nothing else. The arm that wins is the one whose wells have
the highest top-10 mean after the simulated rounds, by more than a hundredth of the history's standard deviation.

    python examples/benchmarks/backtest.py --labs tfbind8,utr,gb1,arylation --seeds 10
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd

from labloop.campaign.facade import Campaign
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.studies.backtest import backtest
from labloop.studies.simulate import draw_start, open_lab, simulate


def one(name: str, arms: list[str], *, seed: int, history: int, batch: int, splits: int, folder: Path) -> dict[str, object]:
    lab = open_lab(name)
    base = load_config(preset(f"campaigns/{name}.yaml"), CampaignConfig)
    config = base.model_copy(update={"seed": seed, "space": lab.space})
    run = Campaign.create(config, home=folder)
    start = draw_start(lab, history, seed=seed, quantile=1.0, objective=config.objective)
    start.to_csv(folder / "history.csv", index=False)
    run.ingest(folder / "history.csv")
    told = parse_config({"arms": {arm: {"proposers": arm} for arm in arms}, "judge": None}, RoundConfig)
    found = backtest(run, told, splits=splits)
    then = simulate(
        config, lab, round_config=told, start=history, start_quantile=1.0, rounds=3, batch=batch, seeds=1, arms=arms
    )  # fmt: skip
    last = then[then["round"] == 3].set_index("arm")["top10_mean"] * config.objective.sign
    spread = config.objective.to_y(start["value"].to_numpy(float)).std()
    order = last.sort_values(ascending=False)
    won = order.index[0] if order.iloc[0] - order.iloc[1] > 0.01 * spread else None
    return {"lab": name, "seed": seed, "backtest": found.winner, "lead": found.arms[0].arm, "won": won}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labs", default="tfbind8,utr,gb1,arylation")
    parser.add_argument("--arms", default="forest,mutate,random")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--history", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--splits", type=int, default=8)
    told = parser.parse_args()
    rows = []
    for name in told.labs.split(","):
        for seed in range(told.seeds):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(one(
                    name, told.arms.split(","), seed=seed, history=told.history, batch=told.batch, splits=told.splits,
                    folder=Path(folder),
                ))  # fmt: skip
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    for name, mine in (*table.groupby("lab", sort=False), ("all", table)):
        named = mine["backtest"].notna()
        right = named & ((mine["backtest"] == mine["won"]) | mine["won"].isna())
        lead = sum(a == b or b is None for a, b in zip(mine["lead"], mine["won"], strict=True))
        print(
            f"| {name} | seeds {len(mine)} | named {named.sum()} | of them right {right.sum()} | cannot tell {(~named).sum()} | "
            f"the arm in the lead won {lead} |"
        )
