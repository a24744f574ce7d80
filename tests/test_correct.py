"""Corrections and second reads: what stands, what it replaced, why, and the audit that tells it all."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from test_campaign import ROUND, files

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.read import preset
from labloop.errors import CampaignError, IngestError
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab


@pytest.fixture(scope="module")
def lab():
    return open_lab("tfbind8")


def live(folder: Path) -> None:
    lab = open_lab("tfbind8")
    draw_start(lab, 60, seed=1).to_csv(folder / "history.csv", index=False)
    run = Campaign.create(preset("campaigns/tfbind8.yaml"), home=folder / "home")
    run.ingest(folder / "history.csv")
    run.propose(ROUND, out=folder / "out")
    run.ingest(measure_plate(run, lab, folder / "out", folder / "back", number=1))
    run.ledger.close()


@pytest.fixture
def campaign(tmp_path: Path, made_once, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A campaign with a history and a measured plate."""
    monkeypatch.setenv("LABLOOP_USER", "ada")
    return Campaign.open("tfbind8", home=made_once(live, tmp_path) / "home")


@pytest.fixture
def sheet(campaign: Campaign, tmp_path: Path) -> pd.DataFrame:
    """The plate's file as the lab sent it."""
    (path,) = (tmp_path / "back").iterdir()
    return pd.read_csv(path, dtype=str)


def save(sheet: pd.DataFrame, path: Path) -> Path:
    sheet.to_csv(path, index=False)
    return path


def changed(sheet: pd.DataFrame, values: dict[int, str]) -> pd.DataFrame:
    out = sheet.copy()
    for row, value in values.items():
        out.loc[row, "value"] = value
    return out


def test_a_corrected_file_replaces_what_differs_and_keeps_both(campaign, sheet, tmp_path):
    before = campaign.dataset()
    path = save(changed(sheet, {3: "0.125", 7: "0.25"}), tmp_path / "mended.csv")
    done = campaign.correct(path, reason="two wells were swapped")
    assert done.stored
    assert done.equal == len(sheet) - 2
    assert done.changes["new"].tolist() == ["0.125", "0.25"]
    assert done.changes["well"].tolist() == sheet["well"][[3, 7]].tolist()
    after = campaign.dataset()
    assert len(after) == len(before)
    assert sorted(set(after.y) - set(before.y)) == [0.125, 0.25]
    standing = campaign.ledger.measurements(campaign.name)
    assert len(standing) == 60 + len(sheet)
    assert campaign.ledger.verify(campaign.name)[0].faults == ()


def test_a_dry_run_shows_old_and_new_and_stores_nothing(campaign, sheet, tmp_path):
    before = campaign.ledger.verify(campaign.name)
    done = campaign.correct(save(changed(sheet, {0: "0.5"}), tmp_path / "m.csv"), reason="typo", dry_run=True)
    assert not done.stored
    assert done.changes["old"].tolist() == [f"{float(sheet['value'][0]):.6g}"]
    assert done.changes["new"].tolist() == ["0.5"]
    assert campaign.ledger.verify(campaign.name) == before


def test_a_correction_can_be_corrected_and_the_same_again_changes_nothing(campaign, sheet, tmp_path):
    first = save(changed(sheet, {0: "0.5"}), tmp_path / "first.csv")
    assert campaign.correct(first, reason="typo").stored
    links = campaign.ledger.verify(campaign.name)[0].links
    again = campaign.correct(first, reason="typo")
    assert (again.stored, len(again.changes)) == (False, 0)
    assert campaign.ledger.verify(campaign.name)[0].links == links
    done = campaign.correct(save(changed(sheet[:1], {0: "0.625"}), tmp_path / "second.csv"), reason="another typo")
    assert done.changes[["old", "new"]].to_numpy().tolist() == [["0.5", "0.625"]]
    with pytest.raises(CampaignError, match="a later correction stands"):
        campaign.correct(first, reason="back")


def test_a_failed_well_becomes_a_value_and_a_value_a_failed_well(campaign, sheet, tmp_path):
    gone = sheet[:2].assign(status=["failed_technical", "ok"], value=["", "0.75"])
    done = campaign.correct(save(gone, tmp_path / "gone.csv"), reason="bubble")
    assert done.changes["new"].tolist() == ["failed_technical", "0.75"]
    assert len(campaign.dataset()) == 60 + len(sheet) - 1


def test_a_row_of_nothing_known_stops_the_correction(campaign, sheet, tmp_path):
    strange = pd.DataFrame({"dna": ["AAAAAAAT", "ACGTACGA"], "value": ["0.1", "0.2"]})
    before = campaign.ledger.verify(campaign.name)
    with pytest.raises(IngestError, match="no reading stands here that it could correct") as caught:
        campaign.correct(save(strange, tmp_path / "strange.csv"), reason="?")
    assert caught.value.faults[0].row == 2
    assert campaign.ledger.verify(campaign.name) == before


def test_history_without_wells_is_corrected_by_design(campaign, tmp_path):
    history = pd.read_csv(tmp_path / "history.csv", dtype=str)
    done = campaign.correct(save(changed(history, {5: "0.3"}), tmp_path / "h.csv"), reason="unit slip")
    assert (len(done.changes), done.equal) == (1, 59)
    assert 0.3 in campaign.dataset().y


def test_replicates_are_matched_by_file_and_row_or_not_at_all(campaign, tmp_path):
    twins = pd.DataFrame({"dna": ["AACCAACC"] * 3, "value": ["0.1", "0.2", "0.3"]})
    (tmp_path / "a").mkdir()
    campaign.ingest(save(twins, tmp_path / "twins.csv"))
    with pytest.raises(IngestError, match=r"2 readings could be meant \(row 2 of twins.csv, row 3 of twins.csv\)"):
        campaign.correct(save(changed(twins, {0: "0.11", 1: "0.22"}), tmp_path / "other.csv"), reason="?")
    done = campaign.correct(save(changed(twins, {0: "0.11", 1: "0.22"}), tmp_path / "a" / "twins.csv"), reason="re-exported")
    assert done.changes[["old", "new"]].to_numpy().tolist() == [["0.1", "0.11"], ["0.2", "0.22"]]
    one = campaign.correct(save(changed(twins, {0: "0.11", 1: "0.22", 2: "0.33"}), tmp_path / "third.csv"), reason="third")
    assert one.changes[["old", "new"]].to_numpy().tolist() == [["0.3", "0.33"]]


def test_a_correction_needs_a_reason(campaign, sheet, tmp_path):
    with pytest.raises(CampaignError, match="needs a reason"):
        campaign.correct(save(changed(sheet, {0: "0.5"}), tmp_path / "m.csv"), reason="  ")


def test_of_a_well_read_twice_the_latest_reading_is_corrected(campaign, sheet, tmp_path):
    campaign.ingest(save(changed(sheet[:1], {0: "0.9"}), tmp_path / "again.csv"))
    done = campaign.correct(save(changed(sheet[:1], {0: "0.8"}), tmp_path / "mended.csv"), reason="wrong gain")
    assert done.changes[["old", "new"]].to_numpy().tolist() == [["0.9", "0.8"]]
    assert 0.8 in campaign.dataset().y
    assert len(campaign.dataset()) == 60 + len(sheet)


def test_history_on_plates_of_the_labs_own_is_taken_and_corrected_by_well(tmp_path, tfbind8_config, lab):
    run = Campaign.create(tfbind8_config, home=tmp_path / "home")
    table = draw_start(lab, 8, seed=2).drop(columns="status").assign(plate="P1", well=[f"A{c}" for c in range(1, 9)])
    run.ingest(save(table, tmp_path / "history.csv"))
    done = run.correct(save(table[:1].assign(value="0.5"), tmp_path / "mended.csv"), reason="typo")
    assert done.changes[["plate", "well", "new"]].to_numpy().tolist() == [["P1", "A01", "0.5"]]
    assert [step.what for step in run.audit("P1:a1").steps if step.what in ("measured", "corrected")] == ["measured", "corrected"]


# ---- audit


def test_an_audit_tells_a_well_from_proposal_to_value(campaign, sheet, tmp_path):
    plate, well = sheet.loc[3, "plate"], sheet.loc[3, "well"]
    campaign.correct(save(changed(sheet, {3: "0.125"}), tmp_path / "mended.csv"), reason="a bubble in the tip")
    campaign.close()
    found = campaign.audit(f"{plate}:{well.lower()}")
    pick = campaign.ledger.picks(campaign.name, 1).set_index("design_id").loc[[found.design_id]].iloc[0]
    assert found.design == dict(campaign.ledger.designs(campaign.name, [found.design_id]).iloc[0].drop("in_space"))
    what = [step.what for step in found.steps]
    assert what[0] == "opened"
    assert "offered" in what
    assert what.index("picked") < what.index("laid out") < what.index("exported") < what.index("corrected") < what.index("closed")
    steps = {step.what: step for step in found.steps}
    assert steps["picked"].detail["mean"] == pick["mean"]
    assert steps["offered"].detail["versions"]["python"]
    assert "round 1 laid out design" in steps["laid out"].said
    old = next(step for step in found.steps if step.what == "measured" and step.detail.get("file"))
    assert old.detail["value"] == float(sheet.loc[3, "value"])
    assert old.detail["stands"] is False
    assert old.detail["reader"] == "long"
    new = steps["corrected"]
    assert (new.detail["value"], new.detail["stands"], new.detail["reason"]) == (0.125, True, "a bubble in the tip")
    assert f"(row 5 of {old.detail['file']})" in new.said
    assert {step.by for step in found.steps} == {"ada"}
    assert [step.link for step in found.steps] == sorted(step.link for step in found.steps)


def test_an_audit_by_design_finds_the_same_values_and_takes_a_beginning(campaign, sheet):
    spot = campaign.audit(f"{sheet.loc[0, 'plate']}:{sheet.loc[0, 'well']}")
    design = campaign.audit(spot.design_id[:8])
    assert design.design_id == spot.design_id
    values = [[step.detail["value"] for step in one.steps if "value" in step.detail] for one in (spot, design)]
    assert values[0] == values[1]
    assert len(values[0]) == 1


def test_an_audit_of_history_knows_the_file_and_row(campaign, tmp_path):
    row = campaign.ledger.measurements(campaign.name).iloc[4]
    (step,) = [one for one in campaign.audit(row["design_id"]).steps if one.what == "measured"]
    assert (step.detail["file"], step.detail["row"], step.detail["value"]) == ("history.csv", 6, row["value"])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("tfbind8-R01-P2:A1", r"has no plate 'tfbind8-R01-P2': the nearest are tfbind8-R01-P1"),
        ("tfbind8-R01-P1:P24", r"well P24 of plate tfbind8-R01-P1 was neither laid out nor measured"),
        ("tfbind8-R01-P1:well", r"'well' is no well"),
        ("zzzz", r"knows no design 'zzzz': give a design_id, or a well as PLATE:WELL, such as tfbind8-R01-P1:"),
    ],
)
def test_an_unknown_well_or_design_is_refused_with_the_nearest(campaign, what, said):
    with pytest.raises(CampaignError, match=said):
        campaign.audit(what)


def test_a_design_id_with_a_slip_names_the_nearest(campaign):
    known = campaign.dataset().ids[0]
    slip = known[:5] + ("0" if known[5] != "0" else "1") + known[6:]
    with pytest.raises(CampaignError, match=f"the nearest are .*{known}"):
        campaign.audit(slip)


# ---- at the terminal


def test_the_commands_print_for_people_and_programs(campaign, sheet, tmp_path, capsys):
    home = ["--home", str(tmp_path / "home")]
    path = save(changed(sheet, {3: "0.125"}), tmp_path / "mended.csv")
    place = f"{sheet.loc[3, 'plate']}:{sheet.loc[3, 'well']}"
    assert main(["correct", str(path), "-c", "tfbind8", "--reason", "swap", "--dry-run", *home]) == 0
    assert f"{place}  {float(sheet.loc[3, 'value']):.6g} (row 5 of " in capsys.readouterr().out
    assert main(["correct", str(path), "-c", "tfbind8", "--reason", "swap", "--json", *home]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["stored"], told["equal"], told["changes"][0]["new"]) == (True, len(sheet) - 1, "0.125")
    assert main(["audit", "tfbind8", place, *home]) == 0
    shown = capsys.readouterr().out
    assert "reason: swap" in shown
    assert "ada" in shown
    assert main(["audit", "tfbind8", place, "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out)["steps"][-1]["what"]
    assert main(["verify", *home]) == 0
    assert "tfbind8: as written" in capsys.readouterr().out
    assert main(["backup", str(tmp_path / "copy.db"), *home]) == 0
    assert main(["verify", "tfbind8", "--json", "--ledger", f"sqlite:///{tmp_path / 'copy.db'}", *home]) == 0
    told = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert told["campaigns"][0]["faults"] == []
    assert main(["verify", "--head", "0" * 64, *home]) == 1
    assert "no link has the hash" in capsys.readouterr().out
    assert set(files(tmp_path / "out"))
