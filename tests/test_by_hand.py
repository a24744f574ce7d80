"""Designs that people choose, and wells that they take out: an arm like the others, in the ledger for good."""

from __future__ import annotations

import json

import fakes
import numpy as np
import pandas as pd
import pytest
from test_campaign import begin

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, DesignError
from labloop.plates.vessel import Plate
from labloop.report import report_of
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import open_lab

ROUND = parse_config(
    {"arms": {"near": {"proposers": "fakes:Near"}, "free": {"proposers": "random"}}, "judge": "fakes:Flat"}, RoundConfig
)

FREE = parse_config({"arms": {"free": {"proposers": "random"}}, "judge": None}, RoundConfig)


@pytest.fixture(scope="module")
def lab():
    return open_lab("tfbind8")


@pytest.fixture
def campaign(tmp_path, made_once):
    return Campaign.open("tfbind8", home=made_once(begin, tmp_path) / "home")


def new_designs(campaign: Campaign, n: int, *, seed: int = 0) -> pd.DataFrame:
    space = campaign.config.space
    X = space.listing()[np.random.default_rng(seed).permutation(len(space.listing()))[: n + 500]]
    return space.decode(X[space.fresh(X, known=campaign.dataset().taken)][:n])


def listed(campaign: Campaign, path, n: int, *, seed: int = 0):
    new_designs(campaign, n, seed=seed).to_csv(path, index=False)
    return path


def close_with_plate(campaign, lab, tmp_path, number):
    campaign.export(tmp_path / "out", number=number)
    campaign.ingest(measure_plate(campaign, lab, tmp_path / "out", tmp_path / "back", number=number))
    return campaign.close(number)


def test_a_list_becomes_an_arm_that_is_judged_blinded_and_compared_like_the_others(campaign, lab, tmp_path):
    told = campaign.pick(listed(campaign, tmp_path / "mine.csv", 20), arm="chemist", by="Anna")
    assert (told.designs, told.round) == (20, None)
    assert campaign.status()["by_hand"] == [{"arm": "chemist", "by": "Anna", "file": "mine.csv", "designs": 20, "wells": None}]
    batch = campaign.propose(ROUND)
    mine = batch.picks[batch.picks["arm"] == "chemist"]
    assert len(mine) == 20
    assert set(mine["proposer"]) == {"Anna"}
    assert mine["mean"].notna().all()  # the judge's
    assert batch.picks["design_id"].nunique() == 96
    assert {arm: len(rows) for arm, rows in batch.picks.groupby("arm")} == {"chemist": 20, "free": 38, "near": 38}
    assert "by_hand" not in campaign.status()
    assert "20 designs that Anna chose (mine.csv), 20 wells" in " ".join(campaign.status()["decisions"])
    campaign.export(tmp_path / "out")
    for name in ("platemap", "assay"):  # blinded
        assert "chemist" not in (tmp_path / "out" / f"tfbind8-R01_{name}.csv").read_text()
    comparison = close_with_plate(campaign, lab, tmp_path, 1)
    assert {arm.arm for arm in comparison.arms} == {"near", "free", "chemist"}
    assert {one.proposer for one in comparison.proposers} >= {"Anna"}
    assert any("that Anna chose" in flag for flag in report_of(campaign).flags)
    audit = campaign.audit(mine["design_id"].iloc[0])
    assert {"by_hand", "hand_arms", "picked", "laid out"} <= {step.what for step in audit.steps}
    assert campaign.propose(ROUND).picks["arm"].nunique() == 2  # a list is for one plate


def test_faults_are_told_by_row_and_nothing_is_stored(campaign, tmp_path):
    good = new_designs(campaign, 3)["dna"].tolist()
    known = campaign.config.space.decode(campaign.dataset().X[:1])["dna"].iloc[0]
    rows = [good[0], "ACGT", good[1], good[0], known, "ACGTACGX"]
    (tmp_path / "bad.csv").write_text("who,dna\n" + "\n".join(f"Anna,{row}" for row in rows) + "\n")
    before = len(campaign.ledger.events(campaign.name))
    with pytest.raises(DesignError, match=r"bad\.csv: 4 of 6 designs") as error:
        campaign.pick(tmp_path / "bad.csv", arm="chemist", by="Anna")
    assert [fault.row for fault in error.value.faults] == [3, 5, 6, 7]
    assert "row 2 again" in str(error.value)
    assert "measured already" in str(error.value)
    (tmp_path / "other.csv").write_text("sequence\nACGTACGT\n")
    with pytest.raises(DesignError, match=r"other\.csv row 1: has no column dna \(there are: sequence\)"):
        campaign.pick(tmp_path / "other.csv", arm="chemist")
    (tmp_path / "none.csv").write_text("dna\n\n")
    with pytest.raises(DesignError, match="has no design"):
        campaign.pick(tmp_path / "none.csv", arm="chemist")
    with pytest.raises(CampaignError, match="asks for 9 wells"):
        campaign.pick(listed(campaign, tmp_path / "few.csv", 4), arm="chemist", wells=9)
    with pytest.raises(CampaignError, match="no name of an arm"):
        campaign.pick(tmp_path / "few.csv", arm="the chemist")
    assert len(campaign.ledger.events(campaign.name)) == before


def test_more_designs_than_wells_stand_in_reserve_and_a_later_list_replaces_the_earlier(campaign, tmp_path):
    campaign.pick(listed(campaign, tmp_path / "one.csv", 5), arm="chemist", by="Anna")
    told = campaign.pick(listed(campaign, tmp_path / "two.csv", 60, seed=2), arm="chemist", by="Bob")
    assert told.replaced == 5
    batch = campaign.propose(ROUND)
    mine = batch.picks[batch.picks["arm"] == "chemist"]
    assert len(mine) == 32  # an equal share of 96 wells
    space = campaign.config.space
    assert mine["design_id"].tolist() == space.ids(space.encode(pd.read_csv(tmp_path / "two.csv")))[:32]
    assert "28 in reserve" in " ".join(campaign.status()["decisions"])


def test_a_list_can_join_a_round_that_trains_and_leave_it(campaign, tmp_path):
    number = campaign.ensure_round(ROUND)
    assert campaign.pick(listed(campaign, tmp_path / "one.csv", 12), arm="chemist", wells=8).wells == 8
    assert "chemist" in campaign.round_config(campaign.round(number)).arms
    assert campaign.ensure_round(ROUND) == number  # the same round, whatever joined it
    campaign.withdraw("chemist", reason="made elsewhere")
    assert "chemist" not in campaign.round_config(campaign.round(number)).arms
    with pytest.raises(CampaignError, match="none does"):
        campaign.withdraw("chemist")
    assert set(campaign.propose(ROUND).picks["arm"]) == {"near", "free"}
    with pytest.raises(CampaignError, match="labloop veto"):
        campaign.withdraw("chemist")


def test_an_arm_of_the_file_and_of_a_person_cannot_have_one_name(campaign, tmp_path):
    campaign.pick(listed(campaign, tmp_path / "one.csv", 3), arm="near", by="Anna")
    with pytest.raises(CampaignError, match=r"waits under that name: .*--withdraw"):
        campaign.propose(ROUND)
    campaign.withdraw("near")
    campaign.propose(ROUND)


def test_designs_measured_meanwhile_are_left_out_and_a_closed_round_gives_the_list_back(campaign, lab, tmp_path):
    designs = new_designs(campaign, 6)
    designs.to_csv(tmp_path / "one.csv", index=False)
    campaign.pick(tmp_path / "one.csv", arm="chemist", by="Anna")
    number = campaign.ensure_round(ROUND)
    campaign.close(number, reason="never mind")  # before it had a plate
    assert campaign.status()["by_hand"][0]["designs"] == 6
    pd.concat([designs[:2], lab.measure(designs[:2], seed=0)], axis=1).to_csv(tmp_path / "late.csv", index=False)
    campaign.ingest(tmp_path / "late.csv")
    batch = campaign.propose(ROUND)
    assert (batch.picks["arm"] == "chemist").sum() == 4
    assert "2 designs of arm chemist were measured by then" in " ".join(campaign.status()["decisions"])


def test_a_person_who_copies_an_arm_is_tied_with_it(campaign, lab, tmp_path, tfbind8_config):
    alone = Campaign.create(tfbind8_config, home=tmp_path / "elsewhere")
    alone.ingest(tmp_path / "history.csv")
    copied = alone.propose(ROUND).picks
    copied = copied[copied["arm"] == "near"]["design_id"]
    alone.ledger.designs(alone.name, copied[:30])[["dna"]].to_csv(tmp_path / "copy.csv", index=False)
    campaign.pick(tmp_path / "copy.csv", arm="chemist", by="Anna")
    campaign.propose(ROUND)
    comparison = close_with_plate(campaign, lab, tmp_path, 1)
    gap = comparison.of("chemist", "near")
    assert gap.n_shared >= 30
    assert not gap.decided


def test_a_veto_lets_the_arms_next_choice_in_and_trains_nothing(campaign, lab, tmp_path):
    before = campaign.propose(ROUND)
    head = before.manifest["ledger"]
    well = before.wells[before.wells["design_id"].isin(before.picks.loc[before.picks["arm"] == "near", "design_id"])].iloc[5]
    place = f"{well['plate']}:{well['well']}"
    fakes.CALLS.clear()
    told = campaign.veto(place, reason="precipitates", by="Bob")
    assert fakes.CALLS == []
    after = campaign.batch()
    assert after.manifest["ledger"] != head
    assert (told.design_id, told.arms, told.arm) == (well["design_id"], ("near",), "near")
    assert told.replacement not in set(before.picks["design_id"])
    at = after.wells[after.wells["well"] == well["well"]].iloc[0]
    assert at["design_id"] == told.replacement
    assert (after.wells["well"] == before.wells["well"]).all()
    assert set(before.picks["design_id"]) - set(after.picks["design_id"]) == {well["design_id"]}
    assert len(after.picks) == len(before.picks)
    pool = campaign.ledger.pool(campaign.name, 1, campaign.ledger.runs(campaign.name, 1)["key"].iloc[0])
    left = [one for one in pool["design_id"] if one not in set(before.picks["design_id"])]
    assert told.replacement == left[0]  # the arm's own order
    audit = campaign.audit(place)
    assert {"veto", "laid out", "picked"} <= {step.what for step in audit.steps}
    assert any("Bob took design" in step.said and "precipitates" in step.said for step in audit.steps)
    assert audit.design_id == told.replacement
    again = campaign.veto(place, reason="toxic", by="Bob")
    audit = campaign.audit(place)
    assert audit.design_id == again.replacement
    assert [step.detail["detail"]["reason"] for step in audit.steps if step.what == "veto"] == ["precipitates", "toxic"]
    assert sum(step.what == "picked" for step in audit.steps) == 3
    assert campaign.ledger.verify(campaign.name)[0].faults == ()
    close_with_plate(campaign, lab, tmp_path, 1)
    data = campaign.dataset()
    assert again.replacement in data.ids
    assert not {told.design_id, told.replacement} & set(data.ids)
    assert len(data) == 120 + 96


def test_what_cannot_be_vetoed_is_refused_with_the_next_step(campaign, tmp_path):
    batch = campaign.propose(ROUND)
    spot = f"{batch.wells['plate'].iloc[0]}:{batch.wells['well'].iloc[0]}"
    with pytest.raises(CampaignError, match="needs a reason"):
        campaign.veto(spot, reason=" ")
    with pytest.raises(CampaignError, match="write PLATE:WELL, such as tfbind8-R01-P1:"):
        campaign.veto("nonsense", reason="x")
    with pytest.raises(CampaignError, match="was not laid out"):
        campaign.veto("elsewhere:A1", reason="x")
    campaign.export(tmp_path / "out")
    with pytest.raises(CampaignError, match=r"were exported.*excluded"):
        campaign.veto(spot, reason="x")


def test_a_well_that_was_measured_cannot_be_vetoed(campaign, tmp_path):
    spot = campaign.propose(ROUND).wells.iloc[0]
    (tmp_path / "early.csv").write_text(f"plate,well,value\n{spot['plate']},{spot['well']},0.7\n")
    assert f"no files of {spot['plate']} were written yet" in campaign.ingest(tmp_path / "early.csv").dialect
    with pytest.raises(CampaignError, match=r"has a reading \(row 2 of early\.csv\).*'excluded'.*labloop correct"):
        campaign.veto(f"{spot['plate']}:{spot['well']}", reason="oops")
    other = {"arm": "near", "design_id": campaign.ledger.designs(campaign.name).index[0], "rank": 99}
    detail = {"design_id": spot["design_id"], "arms": [], "wells": [[spot["plate"], spot["well"]]], "replacement": other}
    detail |= {"by": "Bob", "reason": "oops"}
    campaign.ledger.add_veto(campaign.name, 1, detail, pd.DataFrame())  # as an older labloop let it be
    assert campaign.status()["rounds"][0]["missing"] == 96


def test_a_veto_of_a_shared_or_a_persons_last_design(campaign, tmp_path):
    path = listed(campaign, tmp_path / "mine.csv", 3)
    campaign.pick(path, arm="chemist", by="Anna")
    campaign.pick(path, arm="biologist", by="Bob")
    batch = campaign.propose(ROUND)
    shared = batch.picks.loc[batch.picks["arm"] == "chemist", "design_id"].iloc[0]
    assert set(batch.picks.loc[batch.picks["design_id"] == shared, "arm"]) == {"chemist", "biologist"}
    spot = batch.wells[batch.wells["design_id"] == shared].iloc[0]
    told = campaign.veto(f"{spot['plate']}:{spot['well']}", reason="toxic")
    assert told.arms == ("chemist", "biologist")
    assert told.replacement is None
    assert "stays empty" in told.said
    after = campaign.batch()
    assert after.wells["design_id"].notna().sum() == batch.wells["design_id"].notna().sum() - 1
    files = campaign.export(tmp_path / "out")
    assert not any(shared in path.read_text() for path in files.values())
    assert len(pd.read_csv(tmp_path / "out" / "tfbind8-R01_picks.csv")) == after.picks["design_id"].nunique()


def test_wells_of_replicates_are_asked_for_in_whole_designs(tmp_path, tfbind8_config):
    config = tfbind8_config.model_copy(update={"plate": Plate(wells=24, replicates=3)})
    run = Campaign.create(config, home=tmp_path / "three")
    path = listed(run, tmp_path / "mine.csv", 4)
    for wells, said in ((2, "take 3 or 6"), (4, "take 3 or 6"), (15, "4 designs of 3 wells each")):
        with pytest.raises(CampaignError, match=said):
            run.pick(path, arm="chemist", by="Anna", wells=wells)
    run.pick(path, arm="chemist", by="Anna", wells=12)
    assert (run.propose(FREE).picks["arm"] == "chemist").sum() == 4


def test_a_list_that_joins_an_open_round_has_that_rounds_replicates(tmp_path, tfbind8_config):
    config = tfbind8_config.model_copy(update={"plate": Plate(wells=24, replicates=3)})
    run = Campaign.create(config, home=tmp_path / "three")
    run.ensure_round(FREE)
    run.revise(tfbind8_config.model_copy(update={"plate": Plate(wells=24)}), reason="noise is small")
    path = listed(run, tmp_path / "mine.csv", 4)
    with pytest.raises(CampaignError, match="take 3 or 6"):
        run.pick(path, arm="chemist", by="Anna", wells=4)
    assert "; 2 stand in reserve" in run.pick(path, arm="chemist", by="Anna", wells=6).said


def test_a_list_that_finds_no_place_is_said_before_the_round_trains(tmp_path, tfbind8_config):
    run = Campaign.create(tfbind8_config.model_copy(update={"plate": Plate(wells=24, use=("A1",))}), home=tmp_path / "one")
    run.pick(listed(run, tmp_path / "mine.csv", 2), arm="chemist", by="Anna")
    with pytest.raises(CampaignError, match=r"lists of chemist find no place.*--arm chemist --withdraw"):
        run.propose(FREE)
    run.withdraw("chemist")
    assert len(run.propose(FREE).picks) == 1


def test_measured_numbers_named_by_their_ids_are_refused_by_row(tmp_path):
    space = {"parameters": [{"type": "real", "name": "heat", "low": 20, "high": 120}]}
    run = Campaign.create(parse_config({"name": "ovens", "space": space}, CampaignConfig), home=tmp_path / "home")
    (tmp_path / "start.csv").write_text("heat,value\n20,1\n30,2\n")
    run.ingest(tmp_path / "start.csv")
    (tmp_path / "ids.csv").write_text("design_id\n" + "\n".join(run.dataset().ids))
    with pytest.raises(DesignError, match="2 of 2 designs cannot be taken") as error:
        run.pick(tmp_path / "ids.csv", arm="chemist")
    assert {fault.cell for fault in error.value.faults} == {"20.0", "30.0"}


def test_from_the_command_line(campaign, tmp_path, capsys):
    home = ["--home", str(tmp_path / "home"), "--json"]
    path = listed(campaign, tmp_path / "mine.csv", 9)
    assert main(["pick", "tfbind8", str(path), "--arm", "chemist", "--by", "Anna", *home]) == 0
    assert json.loads(capsys.readouterr().out)["designs"] == 9
    assert main(["pick", "tfbind8", "--arm", "chemist", "--withdraw", *home]) == 0
    assert json.loads(capsys.readouterr().out)["replaced"] == 9
    assert main(["pick", "tfbind8", "--arm", "chemist", *home]) == 1
    (tmp_path / "round.yaml").write_text("arms: {a: {proposers: random}, b: {proposers: mutate}}\njudge: null\n")
    assert main(["propose", "tfbind8", str(tmp_path / "round.yaml"), "--hold", "-o", str(tmp_path / "out"), *home]) == 0
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    spot = campaign.batch().wells.iloc[3]
    place = f"{spot['plate']}:{spot['well']}"
    assert main(["veto", "tfbind8", place, "--reason", "no", *home]) == 0
    assert json.loads(capsys.readouterr().out)["wells"] == [place]
