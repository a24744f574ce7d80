"""A campaign as a lab lives it: measure, propose, measure, compare; killed anywhere, run again, never twice."""

from __future__ import annotations

import json

import fakes
import pandas as pd
import pytest
from filelock import FileLock, Timeout

from labloop.campaign.facade import Campaign
from labloop.config.read import parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, ConfigError, IngestError, MethodError
from labloop.ledger import Ledger
from labloop.ledger.memory import campaigns
from labloop.rounds import state
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab

ROUND = parse_config(
    {
        "arms": {
            "offline": {"proposers": "fakes:Near", "selector": {"conservative": {"beta": 1.0}}, "pool": 200},
            "free": {"proposers": {"fakes:Near": {"shift": 1}, "random": {}}, "wells": 32},
        },
        "judge": "fakes:Flat",
    },
    RoundConfig,
)


@pytest.fixture(scope="module")
def lab():
    return open_lab("tfbind8")


def begin(folder):
    """Begin a campaign in a folder: `home`, with `history.csv` taken."""
    draw_start(open_lab("tfbind8"), 120, seed=1).to_csv(folder / "history.csv", index=False)
    run = Campaign.create(preset("campaigns/tfbind8.yaml"), home=folder / "home")
    run.ingest(folder / "history.csv")
    run.ledger.close()


def send(folder):
    """Begin, and send a plate of ROUND to the lab: `out`."""
    begin(folder)
    run = Campaign.open("tfbind8", home=folder / "home")
    run.propose(ROUND, out=folder / "out")
    run.ledger.close()


@pytest.fixture
def campaign(tmp_path, made_once):
    return Campaign.open("tfbind8", home=made_once(begin, tmp_path) / "home")


@pytest.fixture
def at_the_lab(tmp_path, made_once):
    return Campaign.open("tfbind8", home=made_once(send, tmp_path) / "home")


@pytest.fixture
def start(campaign, tmp_path):
    return tmp_path / "history.csv"


files = fakes.exported


def test_a_campaign_is_made_once_and_found_by_name(tmp_path, tfbind8_config):
    Campaign.create(tfbind8_config, home=tmp_path)
    with pytest.raises(CampaignError, match="tfbind8"):
        Campaign.create(tfbind8_config, home=tmp_path)
    assert campaigns(home=tmp_path) == ["tfbind8"]
    assert Campaign.open("tfbind8", home=tmp_path).config == tfbind8_config
    with pytest.raises(CampaignError, match="tfbind8"):
        Campaign.open("tfbind9", home=tmp_path)


def test_without_measurements_the_next_step_is_named(tmp_path, tfbind8_config):
    run = Campaign.create(tfbind8_config, home=tmp_path)
    assert "ingest" in run.status()["next"]
    with pytest.raises(CampaignError, match=r"too few to learn from.*first\.yaml"):
        run.propose(ROUND)


def test_a_campaign_can_begin_with_a_plate_of_random_designs(tmp_path, tfbind8_config, lab):
    run = Campaign.create(tfbind8_config, home=tmp_path)
    first = parse_config({"arms": {"start": {"proposers": "random"}}, "judge": None}, RoundConfig)
    batch = run.propose(first, out=tmp_path / "out")
    assert batch.picks["design_id"].nunique() == 96
    run.ingest(measure_plate(run, lab, tmp_path / "out", tmp_path / "back", number=1))
    assert len(run.dataset()) == 96


def test_a_proposed_round_fills_exactly_the_plate_with_new_designs(campaign, tmp_path):
    measured = set(campaign.dataset().ids)
    batch = campaign.propose(ROUND, out=tmp_path / "out")
    picks = pd.read_csv(tmp_path / "out" / "tfbind8-R01_picks.csv")
    assert len(picks) == picks["design_id"].nunique() == picks["well"].nunique() == 96
    assert not set(picks["design_id"]) & measured
    assert set(batch.picks["arm"]) == {"offline", "free"}
    assert len(batch.picks[batch.picks["arm"] == "offline"]) >= 64
    assert campaign.status()["rounds"] == [{"round": 1, "state": "EXPORTED", "wells": 96, "missing": 96}]
    assert len(campaign.dataset().pending) == 96


def test_what_follows_from_the_ledger_is_worked_out_anew_only_when_something_was_written(campaign):
    first, results = campaign.dataset(), state.results(campaign)
    assert campaign.dataset() is first
    campaign.ledger.add_event(campaign.name, "noted")
    assert campaign.dataset() is not first
    results["round"] = 7  # the caller's own
    assert not state.results(campaign)["round"].eq(7).any()
    with campaign.ledger.begin():
        campaign.ledger.add_event(campaign.name, "noted")
        assert campaign.dataset() is not campaign.dataset()  # what is being written may yet be undone


def test_proposing_again_changes_nothing(at_the_lab, tmp_path):
    campaign = at_the_lab
    before, events = files(tmp_path / "out"), len(campaign.ledger.events(campaign.name))
    fakes.CALLS.clear()
    campaign.propose(ROUND, out=tmp_path / "out")
    assert files(tmp_path / "out") == before
    assert len(campaign.ledger.events(campaign.name)) == events
    assert fakes.CALLS == []


def test_the_same_seed_on_a_new_ledger_gives_the_same_bytes(at_the_lab, tmp_path, tfbind8_config):
    start = tmp_path / "history.csv"
    other = Campaign.create(tfbind8_config, home=tmp_path / "elsewhere")
    other.ingest(start)
    other.propose(ROUND, out=tmp_path / "two")
    assert files(tmp_path / "out") == files(tmp_path / "two")
    third = Campaign.create(tfbind8_config.model_copy(update={"seed": 1}), home=tmp_path / "third")
    third.ingest(start)
    third.propose(ROUND, out=tmp_path / "three")
    assert files(tmp_path / "three")["tfbind8-R01_picks.csv"] != files(tmp_path / "out")["tfbind8-R01_picks.csv"]


def test_another_configuration_waits_until_the_open_round_is_done(at_the_lab):
    with pytest.raises(CampaignError, match="another configuration"):
        at_the_lab.propose(ROUND.model_copy(update={"plates": 2}))


def test_a_round_without_a_plate_gives_way_to_another_configuration_and_says_so(campaign, caplog):
    assert campaign.ensure_round(ROUND) == 1
    assert campaign.ensure_round(ROUND) == 1
    assert not caplog.records
    assert campaign.ensure_round(ROUND.model_copy(update={"plates": 2})) == 2
    assert "round 1 was open with another configuration" in caplog.text
    assert [one["state"] for one in campaign.status()["rounds"]] == ["CLOSED", "READY"]


def test_without_a_configuration_the_open_round_goes_on_as_it_was_opened(campaign, caplog):
    """It was closed, and the shipped default was trained in its place."""
    assert campaign.ensure_round(ROUND) == 1
    assert campaign.status()["next"] == f"finish round 1: labloop propose {campaign.name}"
    assert campaign.ensure_round() == 1
    batch = campaign.propose()
    assert batch.round == 1
    assert set(batch.picks["arm"]) == set(ROUND.arms)
    assert campaign.propose().picks.equals(batch.picks)
    assert not [one for one in caplog.records if "another configuration" in one.getMessage()]


def test_results_in_parts_close_the_round_when_the_last_well_is_in(at_the_lab, lab, tmp_path):
    campaign = at_the_lab
    sheet = pd.read_csv(measure_plate(campaign, lab, tmp_path / "out", tmp_path / "back", number=1), dtype=str)
    sheet[:40].to_csv(tmp_path / "part1.csv", index=False)
    sheet[40:].to_csv(tmp_path / "part2.csv", index=False)
    receipt = campaign.ingest(tmp_path / "part1.csv")
    assert receipt.note == campaign.status()["next"]  # told from counts, without the dataset
    assert campaign.status()["rounds"][0] == {"round": 1, "state": "EXPORTED", "wells": 96, "missing": 56}
    with pytest.raises(CampaignError, match="waits for 56 wells"):
        campaign.close()
    campaign.ingest(tmp_path / "part2.csv")
    assert campaign.status()["rounds"][0]["state"] == "MEASURED"
    comparison = campaign.close()
    assert {arm.arm: arm.n_measured for arm in comparison.arms}["offline"] >= 64
    assert len(campaign.dataset()) == 120 + 96
    assert campaign.propose(ROUND).round == 2


def test_a_measured_round_is_closed_by_the_next_proposal(at_the_lab, lab, tmp_path):
    campaign = at_the_lab
    campaign.ingest(measure_plate(campaign, lab, tmp_path / "out", tmp_path / "back", number=1))
    campaign.propose(ROUND)
    assert [entry["state"] for entry in campaign.status()["rounds"]] == ["CLOSED", "PROPOSED"]


def test_missing_wells_need_a_reason_and_may_be_proposed_again(at_the_lab):
    campaign = at_the_lab
    assert len(campaign.dataset().pending) == 96
    campaign.close(reason="plate dropped on the floor")
    assert len(campaign.dataset().pending) == 0
    assert "plate dropped" in str(campaign.ledger.events(campaign.name)["detail"].tolist())


def test_failed_wells_are_neither_data_nor_pending(at_the_lab, tmp_path):
    campaign = at_the_lab
    lab = open_lab("tfbind8", failures=0.3)
    campaign.ingest(measure_plate(campaign, lab, tmp_path / "out", tmp_path / "back", number=1))
    comparison = campaign.compare()
    failed = sum(arm.n_failed for arm in comparison.arms)
    assert failed > 5
    assert campaign.status()["rounds"][0]["state"] == "MEASURED"
    assert len(campaign.dataset().pending) == 0
    assert 120 < len(campaign.dataset()) < 120 + 96


def test_the_same_file_again_and_a_dry_run_change_nothing(campaign, start, tmp_path, lab):
    assert not campaign.ingest(start).stored
    more = tmp_path / "more.csv"
    draw_start(lab, 30, seed=2).to_csv(more, index=False)
    assert not campaign.ingest(more, dry_run=True).stored
    assert len(campaign.dataset()) == 120
    assert campaign.ingest(more).stored
    assert len(campaign.dataset()) > 120


@pytest.fixture
def undisturbed(tmp_path, made_once):
    """The files of the plate that nothing disturbed."""
    return files(made_once(send, tmp_path / "undisturbed") / "out")


def test_data_that_come_late_do_not_move_an_open_round(campaign, tmp_path, lab, undisturbed):
    number = campaign.ensure_round(ROUND)
    campaign.ensure_trained(number, next(iter(campaign.trainings(number))))
    draw_start(lab, 30, seed=2).to_csv(tmp_path / "late.csv", index=False)
    campaign.ingest(tmp_path / "late.csv")
    again = Campaign.open("tfbind8", home=tmp_path / "home")
    again.propose(ROUND, out=tmp_path / "one")
    assert files(tmp_path / "one") == undisturbed


@pytest.mark.parametrize("verb", ["open_round", "add_run", "advance", "add_batch"])
@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
def test_killed_around_any_ledger_verb_the_rerun_gives_the_same_batch(campaign, tmp_path, monkeypatch, undisturbed, verb, after):
    class Killed(BaseException):
        pass

    whole = getattr(Ledger, verb)

    def dies(self, *args, **kwargs):
        if after:
            whole(self, *args, **kwargs)
        raise Killed

    fakes.CALLS.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, verb, dies)
        with pytest.raises(Killed):
            campaign.propose(ROUND, out=tmp_path / "one")
    Campaign.open("tfbind8", home=tmp_path / "home").propose(ROUND, out=tmp_path / "one")
    assert len(fakes.CALLS) <= 2 + (verb == "add_run" and not after)  # a finished training is never done again
    assert files(tmp_path / "one") == undisturbed


def test_whoever_waits_for_a_training_finds_it_stored(campaign, monkeypatch):
    number = campaign.ensure_round(ROUND)
    key = next(iter(campaign.trainings(number)))
    add_run, seen = Ledger.add_run, []

    def look_then_add(ledger, *arguments, **given):
        with pytest.raises(Timeout):  # a second process would still wait here, and not begin to train
            FileLock(campaign.folder / "locks" / f"training-{key}.lock").acquire(timeout=0)
        seen.append(given["key"])
        return add_run(ledger, *arguments, **given)

    monkeypatch.setattr(Ledger, "add_run", look_then_add)
    campaign.ensure_trained(number, key)
    assert seen == [key]


def test_killed_while_a_last_file_came_in_the_rerun_still_ends_the_round(at_the_lab, lab, tmp_path, monkeypatch):
    campaign = at_the_lab
    sheet = measure_plate(campaign, lab, tmp_path / "out", tmp_path / "back", number=1)

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "advance", dies)
        with pytest.raises(KeyboardInterrupt):
            campaign.ingest(sheet)
    assert campaign.state(1) == "EXPORTED"
    assert not campaign.ingest(sheet).stored
    assert campaign.state(1) == "MEASURED"
    assert len(campaign.dataset()) == 120 + 96


def test_a_refused_file_leaves_the_ledger_as_it_was(campaign, tmp_path):
    (tmp_path / "bad.csv").write_text("dna,value\nACGTACGT,0.5\nACGTACGN,0.5\nAAAAAAAA,much\n")
    before = len(campaign.ledger.measurements(campaign.name)), len(campaign.ledger.events(campaign.name))
    with pytest.raises(IngestError) as error:
        campaign.ingest(tmp_path / "bad.csv")
    assert [fault.row for fault in error.value.faults] == [3, 4]
    assert (len(campaign.ledger.measurements(campaign.name)), len(campaign.ledger.events(campaign.name))) == before


def test_a_plate_that_the_arms_cannot_fill_is_refused_before_training(campaign):
    fakes.CALLS.clear()
    greedy = parse_config({"arms": {"a": {"proposers": "fakes:Near", "wells": 200}}, "judge": "fakes:Flat"}, RoundConfig)
    with pytest.raises(ConfigError, match="96 for designs"):
        campaign.propose(greedy)
    broken = parse_config({"arms": {"a": {"proposers": "fakes:Broken"}}, "judge": "fakes:Flat"}, RoundConfig)
    with pytest.raises(MethodError, match="contract"):
        campaign.propose(broken)
    assert fakes.CALLS == []


def test_the_manifest_tells_what_the_batch_was_made_from(at_the_lab, tmp_path):
    campaign = at_the_lab
    manifest = json.loads((tmp_path / "out" / "tfbind8-R01_manifest.json").read_text())
    (entry,) = campaign.ledger.rounds(campaign.name)
    assert manifest["seed"] == entry.seed
    assert campaign.ledger.verify(campaign.name, head=manifest["ledger"]["head"])[0].faults == ()
    assert len(manifest["fingerprint"]) == 16
    assert manifest["round"]["arms"]["offline"]["proposers"] == {"fakes:Near": {}}
    assert "numpy" in manifest["versions"]
    assert str(tmp_path) not in json.dumps(manifest)


def test_nothing_is_there_to_compare_before_the_lab_has_measured(campaign):
    with pytest.raises(CampaignError, match="no measured round"):
        campaign.compare()
    campaign.propose(ROUND)
    with pytest.raises(CampaignError, match="no measured round") as told:
        campaign.compare()
    assert "labloop propose" not in str(told.value), "its plate is there already"


def test_a_plate_on_which_all_failed_is_said_to_have_no_value_and_the_next_one_is_asked_for(campaign, tmp_path):
    wells = campaign.propose(ROUND).wells[["plate", "well"]]
    wells.assign(value="", status="failed_design").to_csv(tmp_path / "back.csv", index=False)
    campaign.ingest(tmp_path / "back.csv")
    with pytest.raises(CampaignError, match=r"no well of round 1 has a value: run 'labloop propose \w+', then ingest its plate"):
        campaign.compare()
