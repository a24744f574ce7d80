"""One pipeline: a campaign in the ledger and a simulation of it choose the same designs from the same data and seed."""

from __future__ import annotations

import itertools
from pathlib import Path

from labloop.campaign.facade import Campaign
from labloop.config import CampaignConfig, RoundConfig, load_config, preset
from labloop.studies.simulate import _Loop, draw_start, open_lab

ROUND = {
    "arms": {
        "offline": {"proposers": ["mutate", "pairwise"], "selector": {"conservative": {"beta": {"first": -1, "last": 1}}}},
        "free": {"proposers": "random"},
    },
    "judge": {"auto": {"members": ["pairwise"]}},
}


def test_the_same_seed_and_data_give_the_same_plate_in_a_simulation_and_in_a_campaign(tmp_path: Path) -> None:
    config, lab = load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig), open_lab("tfbind8")
    round_config = RoundConfig.model_validate(ROUND)
    start = draw_start(lab, 60, seed=3, objective=config.objective)
    seen: dict[str, set[str]] = {}
    loop = _Loop(
        campaign=config, config=round_config, lab=lab, seed=config.seed, rounds=config.rounds, batch=config.plate.capacity,
        watch=lambda arm, number, wells, picks: seen.update({arm: set(wells["design_id"])}),
    )  # fmt: skip
    assert len(list(itertools.islice(loop.run(start), 2))) == 2

    start.to_csv(tmp_path / "start.csv", index=False)
    campaign = Campaign.create(config, home=tmp_path)
    campaign.ingest(tmp_path / "start.csv")
    picks = campaign.propose(round_config).picks
    assert {arm: set(mine["design_id"]) for arm, mine in picks.groupby("arm")} == seen
