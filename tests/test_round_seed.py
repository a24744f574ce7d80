"""One seed a round: the one that ledger, audit and manifest show is the one that everything of the round derives from."""

from __future__ import annotations

import pandas as pd
import pytest
from test_campaign import ROUND, campaign, lab, start  # noqa: F401  (fixtures)

from labloop.campaign.facade import Campaign
from labloop.config.campaign import Verdict
from labloop.seeds import derive
from labloop.studies.demo import measure_plate


def measured(run: Campaign, lab, tmp_path, **how) -> Campaign:  # noqa: F811
    run.propose(ROUND, out=tmp_path / "out")
    run.ingest(measure_plate(run, lab, tmp_path / "out", tmp_path / "back", number=1))
    return run


def intervals(run: Campaign) -> list[tuple[float, ...]]:
    found = run.compare(1)
    return [(arm.mean_low, arm.mean_high) for arm in found.arms] + [(d.low, d.high, d.p) for d in found.differences]


def test_all_of_a_round_derives_from_the_seed_that_the_ledger_shows(campaign):  # noqa: F811
    number = campaign.ensure_round(ROUND)
    (entry,) = campaign.ledger.rounds(campaign.name)
    assert campaign.seed(number) == entry.seed
    planned = campaign.trainings(number).values()
    assert {one.seed for one in planned} == {
        derive(entry.seed, "round", 1, "propose", arm, proposer)
        for arm, spec in ROUND.arms.items()
        for proposer in spec.proposers
    }


def test_another_seed_or_other_terms_of_a_verdict_in_the_file_leave_closed_rounds_alone(campaign, lab, tmp_path):  # noqa: F811
    run = measured(campaign, lab, tmp_path)
    run.close()
    before, page = intervals(run), run.report(tmp_path / "before.html")
    plan = run.compare("all").plan
    other = {"seed": 99, "rounds": plan.rounds + 3, "verdict": Verdict(share=plan.share / 2)}
    run.revise(run.config.model_copy(update=other), reason="a fresh start")
    later = Campaign.open(run.name, home=tmp_path / "home")
    assert (later.config.seed, later.config.verdict.share) == (99, plan.share / 2)
    assert later.compare("all").plan == plan, "what a verdict needs was fixed when the first round opened"
    assert intervals(later) == before
    assert run.seed(1) == later.seed(1)
    assert page.exists()


def test_rounds_of_the_first_version_go_on_deriving_from_the_campaigns_seed(campaign, lab, tmp_path, monkeypatch):  # noqa: F811
    with monkeypatch.context() as patch:
        patch.setattr(
            "labloop.ledger.rounds.OWN", {"seeds": "the campaign's"}
        )  # as good as nothing, which is how it opened rounds
        number = campaign.ensure_round(ROUND)
    (entry,) = campaign.ledger.rounds(campaign.name)
    assert not entry.own_seed
    seed = campaign.config.seed
    assert campaign.seed(number) == seed
    assert {one.seed for one in campaign.trainings(number).values()} == {
        derive(seed, "round", 1, "propose", arm, proposer) for arm, spec in ROUND.arms.items() for proposer in spec.proposers
    }
    run = measured(campaign, lab, tmp_path)
    before = intervals(run)
    run.revise(run.config.model_copy(update={"seed": 99}), reason="a fresh start")
    assert intervals(Campaign.open(run.name, home=tmp_path / "home")) == before
    design = run.batch(1).picks["design_id"].iloc[0]
    assert "the campaign's seed" in next(step.said for step in run.audit(design).steps if step.what == "opened")


@pytest.mark.parametrize("seed", [3, 4])
def test_the_audit_shows_the_rounds_seed(campaign, seed):  # noqa: F811
    campaign.revise(campaign.config.model_copy(update={"seed": seed}), reason="another")
    batch = campaign.propose(ROUND)
    (entry,) = campaign.ledger.rounds(campaign.name)
    step = next(one for one in campaign.audit(pd.unique(batch.picks["design_id"])[0]).steps if one.what == "opened")
    assert f"seed {entry.seed}" in step.said
    assert batch.manifest["seed"] == entry.seed == derive(seed, "round", 1)
