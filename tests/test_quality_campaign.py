"""Life at the lab, through the whole campaign: what comes back late, twice, in pieces, wrong or excluded, and what it changes."""

from __future__ import annotations

import json
import sqlite3
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kept import copied
from sqlalchemy import create_engine, inspect

from labloop.assays.readings import standing_flags
from labloop.campaign.facade import Campaign
from labloop.cli import main, show
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, IngestError
from labloop.ledger import Ledger
from labloop.rounds import state
from labloop.rounds.training import round_data
from labloop.seeds import generator

RANDOM = parse_config({"arms": {"start": {"proposers": "random"}}, "judge": None, "plates": 2}, RoundConfig)
CHEAP = parse_config({"arms": {"near": {"proposers": "fakes:Near"}}, "judge": "fakes:Flat"}, RoundConfig)
ROLES = {"wildtype": "positive", "empty_vector": "negative"}


@cache
def promoter() -> CampaignConfig:
    """The shipped example: 20-nt spacers on 96 wells with an empty edge and two controls, on a log scale."""
    return load_config(preset("campaigns/promoter.yaml"), CampaignConfig)


def config(*, assay=None, roles=None, **changes) -> CampaignConfig:
    raw = promoter().model_dump()
    raw["assays"]["fluorescence"].update(assay or {})
    raw.update(changes)
    for control in raw["plate"]["controls"]:
        control["role"] = (ROLES if roles is None else roles).get(control["name"])
    return parse_config(raw, CampaignConfig)


def begin(tmp_path, **options) -> Campaign:
    return Campaign.create(config(**options), home=tmp_path / "home")


def measured(run: Campaign, number: int, *, level=1.0) -> pd.DataFrame:
    """The round's form as a careful bench fills it in: controls at their levels, designs spread widely."""
    wells = run.batch(number).wells
    rng = generator(number, "bench")
    value = np.exp(rng.normal(6, 0.8, len(wells)))
    known = wells["control"].map({"wildtype": 2000.0, "empty_vector": 50.0})
    value = np.where(known.notna(), known * np.exp(rng.normal(0, 0.05, len(wells))), value)
    form = wells[["plate", "well"]].assign(**{"F/OD": value * level})
    return form.assign(status="", note="")


def send(run: Campaign, form: pd.DataFrame, path: Path):
    form.to_csv(path, index=False)
    return run.ingest(path)


def first_round(tmp_path, config: RoundConfig = RANDOM, **options) -> tuple[Campaign, pd.DataFrame]:
    def make(folder):
        run = begin(folder, **options)
        run.propose(config)
        run.ledger.close()

    copied((config.model_dump_json(), json.dumps(options, sort_keys=True)), make, tmp_path)
    run = Campaign.open("promoter", home=tmp_path / "home")
    return run, measured(run, 1)


def designs_in(run: Campaign, form: pd.DataFrame) -> list[str | None]:
    """The design of each row of a form, None for a control."""
    wells = run.ledger.wells(run.name).set_index(["plate", "well"])["design_id"]
    found = wells.reindex(pd.MultiIndex.from_frame(form[["plate", "well"]])).tolist()
    return [one if isinstance(one, str) else None for one in found]


def of_designs(run: Campaign, form: pd.DataFrame) -> pd.Index:
    return form.index[[one is not None for one in designs_in(run, form)]]


# ---- flags in the ledger


def test_a_clean_round_has_figures_and_no_flag(tmp_path):
    run, form = first_round(tmp_path)
    send(run, form, tmp_path / "a.csv")
    found = run.quality()
    assert [plate.plate for plate in found.plates] == ["promoter-R01-P1", "promoter-R01-P2"]
    assert all(plate.z_prime.value > 0.5 for plate in found.plates)
    assert all("outer" in plate.edge.why for plate in found.plates)  # the edge is left empty
    assert found.flags.empty
    assert found.n_used == len(run.dataset()) == 108
    assert "flags" not in run.status()


def test_swapped_plates_are_left_out_named_and_mended_by_sending_them_again(tmp_path, capsys):
    run, form = first_round(tmp_path)
    other = {"promoter-R01-P1": "promoter-R01-P2", "promoter-R01-P2": "promoter-R01-P1"}
    receipt = send(run, form.assign(plate=form["plate"].map(other)), tmp_path / "mixed.csv")
    assert receipt.warnings[0].startswith("plate promoter-R01-P1 of mixed.csv seems to be another")
    assert receipt.note == run.status()["next"]
    show.receipt(receipt, json=False)
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said[-3:]] == ["Warning", "Warning", "Stored. Next"]
    assert run.status()["flags"] == {"swapped": 120}
    assert len(run.dataset()) == 0
    send(run, form, tmp_path / "right.csv")
    assert run.status()["flags"] == {"reread": 120}
    assert "warnings" not in run.status()
    told = run.audit(f"{form['plate'].iloc[0]}:{form['well'].iloc[0]}").steps
    flagged = [(step.what, step.detail["rule"]) for step in told if "flag" in step.what]
    assert flagged == [("flagged", "swapped"), ("flagged", "reread"), ("flag taken back", "swapped")]
    assert len(run.dataset()) == 108
    kept = designs_in(run, form)
    y = dict(zip(run.dataset().ids, run.dataset().y, strict=True))
    assert all(y[one] == pytest.approx(np.log10(value)) for one, value in zip(kept, form["F/OD"], strict=True) if one)


def test_flags_are_only_ever_added_and_one_that_is_refuted_is_taken_back_by_a_row(tmp_path):
    run, form = first_round(tmp_path)
    other = {"promoter-R01-P1": "promoter-R01-P2", "promoter-R01-P2": "promoter-R01-P1"}
    send(run, form.assign(plate=form["plate"].map(other)), tmp_path / "mixed.csv")
    with sqlite3.connect(tmp_path / "home" / "ledger.db") as connection:
        before = connection.execute("SELECT * FROM flag ORDER BY id").fetchall()
    send(run, form, tmp_path / "right.csv")
    with sqlite3.connect(tmp_path / "home" / "ledger.db") as connection:
        after = connection.execute("SELECT * FROM flag ORDER BY id").fetchall()
    assert after[: len(before)] == before
    assert len(after) == len(before) + 120 + 120


def test_checking_again_adds_nothing(tmp_path):
    run, form = first_round(tmp_path)
    send(run, form, tmp_path / "a.csv")
    events = len(run.ledger.events(run.name))
    run.status(), run.quality(), run.dataset()
    run.ingest(tmp_path / "a.csv")
    assert len(run.ledger.events(run.name)) == events


def test_killed_between_readings_and_their_check_the_next_command_catches_up(tmp_path, monkeypatch):
    run, form = first_round(tmp_path)
    again = form.assign(**{"F/OD": form["F/OD"] * 1.01})
    send(run, form, tmp_path / "a.csv")

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add_flags", dies)
        with pytest.raises(KeyboardInterrupt):
            send(run, again, tmp_path / "b.csv")
    assert run.ledger.flags(run.name).empty
    undisturbed = begin(tmp_path / "other")
    undisturbed.propose(RANDOM)
    for name in ("a.csv", "b.csv"):
        undisturbed.ingest(tmp_path / name)
    revived = Campaign.open("promoter", home=tmp_path / "home")
    assert revived.status()["flags"] == {"reread": 120}
    told = ["measurement", "rule", "detail"]
    assert standing_flags(revived)[told].equals(undisturbed.ledger.flags("promoter")[told])
    assert revived.ledger.flags("promoter").empty  # to look is not to write
    revived.ingest(tmp_path / "b.csv")
    assert revived.ledger.flags("promoter")[told].equals(undisturbed.ledger.flags("promoter")[told])


def test_flags_that_come_after_a_round_opened_do_not_change_its_data(tmp_path):
    run, form = first_round(tmp_path)
    send(run, form, tmp_path / "a.csv")
    run.close(1)
    number = run.ensure_round(CHEAP)
    fingerprint = run.ledger.rounds(run.name)[-1].fingerprint
    gone = form.loc[of_designs(run, form)[:5]].assign(**{"F/OD": "", "status": "excluded", "note": "dust on the lens"})
    send(run, gone, tmp_path / "late.csv")
    fresh = Campaign.open("promoter", home=tmp_path / "home")
    assert len(fresh.dataset()) == 103
    assert round_data(fresh, number).fingerprint == fingerprint
    assert len(fresh.propose(CHEAP).picks) == 54
    fresh.close(number, reason="not measured")
    assert fresh.ensure_round(CHEAP) == number + 1
    assert fresh.ledger.rounds(run.name)[-1].fingerprint != fingerprint


# ---- policies


def planted_outlier(tmp_path, policy) -> tuple[Campaign, str]:
    """Six designs read four times each on a plate of the lab's own; one reading of one is far off."""
    run = begin(tmp_path, assay={"quality": {"outlier": policy}} if policy else {})
    space, rng = run.config.space, generator(0, "own plate")
    designs = space.decode(space.sample(6, rng))["spacer"].tolist()
    rows = [(one, 1000 * (i + 1) * float(np.exp(rng.normal(0, 0.02)))) for i, one in enumerate(designs) for _ in range(4)]
    rows[0] = (rows[0][0], 90_000.0)
    pd.DataFrame(rows, columns=["Spacer sequence", "F/OD"]).to_csv(tmp_path / "own.csv", index=False)
    run.ingest(tmp_path / "own.csv")
    return run, space.ids(space.encode(pd.DataFrame({"spacer": [designs[0]]})))[0]


@pytest.mark.parametrize(
    ("policy", "n", "y"), [(None, 4, 3.5), ("drop", 3, 3.0), ("downweight", 4, 3.15)], ids=["keep", "drop", "downweight"]
)
def test_a_policy_decides_what_an_outlier_does_to_the_dataset(tmp_path, policy, n, y):
    run, one = planted_outlier(tmp_path, policy)
    assert run.quality().flags["rule"].tolist() == ["outlier"]
    data = run.dataset()
    at = data.ids.index(one)
    assert data.n_replicates[at] == n
    assert data.y[at] == pytest.approx(y, abs=0.05)
    if policy == "downweight":  # 3 + 1/4 readings instead of 4
        other = (at + 1) % len(data.ids)
        assert data.sem[at] / data.sem[other] == pytest.approx(np.sqrt(4 / 3.25))
    (effect,) = run.quality().effects()
    assert effect["policy"] == (policy or "keep")
    assert effect["readings"] == 1


def test_a_plate_read_twice_counts_once_unless_the_lab_wants_the_mean(tmp_path):
    for policy, expected in (("drop", np.log10(1.21)), ("keep", np.log10(1.1))):
        run, form = first_round(tmp_path / policy, assay={"quality": {"reread": policy}})
        send(run, form, tmp_path / f"{policy}1.csv")
        before = dict(zip(run.dataset().ids, run.dataset().y, strict=True))
        send(run, form.assign(**{"F/OD": form["F/OD"] * 1.21}), tmp_path / f"{policy}2.csv")
        after = run.dataset()
        assert np.allclose([y - before[one] for one, y in zip(after.ids, after.y, strict=True)], expected)
        assert set(after.n_replicates) == {1 if policy == "drop" else 2}


# ---- statuses


def test_an_exclusion_needs_its_reason(tmp_path):
    run, form = first_round(tmp_path)
    form = form.astype({"F/OD": object})
    form.loc[0, ["F/OD", "status"]] = ["", "excluded"]
    with pytest.raises(IngestError, match=r"excluded without a reason.*note"):
        send(run, form, tmp_path / "a.csv")
    form.loc[0, "note"] = "a hair in the well"
    send(run, form, tmp_path / "b.csv")
    assert "a hair in the well" in run.ledger.measurements(run.name)["note"].tolist()


def test_what_each_status_does_to_data_and_to_proposals(tmp_path):
    run, form = first_round(tmp_path)
    wells = of_designs(run, form)[:5]
    cells = {
        "ok": ("123", ""), "failed_technical": ("", ""), "failed_design": ("", ""), "censored_high": ("100000", ""),
        "excluded": ("77", "wrong primer"),
    }  # fmt: skip
    form = form.astype({"F/OD": object})
    for at, (status, (value, note)) in zip(wells, cells.items(), strict=True):
        form.loc[at, ["F/OD", "status", "note"]] = [value, status, note]
    ids = dict(zip(cells, designs_in(run, form.loc[wells]), strict=True))
    send(run, form, tmp_path / "a.csv")
    data = run.dataset()
    assert {status for status, one in ids.items() if one in data.ids} == {"ok", "censored_high"}
    assert data.censored[data.ids.index(ids["censored_high"])] == 1
    # A design that fails by itself will fail again; one whose well failed, or was excluded, may be tried once more.
    assert {status for status, one in ids.items() if one in data.taken} == {"ok", "censored_high", "failed_design"}


def test_an_overflow_beside_exact_replicates_counts_nowhere(tmp_path):
    run, form = first_round(tmp_path, plate={**promoter().plate.model_dump(), "replicates": 2})
    at = of_designs(run, form)[0]
    design = designs_in(run, form.loc[[at]])[0]
    form = form.astype({"F/OD": object})
    form.loc[at, "F/OD"] = "OVRFLW"
    send(run, form, tmp_path / "a.csv")
    data, told = run.dataset(), state.results(run)
    mine = told[told["design_id"] == design]
    assert mine["y"].tolist() == pytest.approx([data.y[data.ids.index(design)]])
    assert mine["status"].tolist() == ["ok"]
    agree = run.quality().replicates["fluorescence"]
    assert agree.n_designs == len(told) - 1


@pytest.mark.parametrize("order", [1, -1], ids=["from below first", "from above first"])
@pytest.mark.parametrize(("low", "high"), [("3", "5"), ("5", "3")], ids=["hemmed in", "contradictory"])
def test_bounds_on_both_sides_are_their_middle_everywhere(tmp_path, low, high, order):
    run, form = first_round(tmp_path, plate={**promoter().plate.model_dump(), "replicates": 2})
    design = designs_in(run, form.loc[[of_designs(run, form)[0]]])[0]
    mine = [at for at in of_designs(run, form) if designs_in(run, form.loc[[at]])[0] == design]
    form = form.astype({"F/OD": object})
    form.loc[mine, "F/OD"] = [f">{low}", f"<{high}"][::order]
    send(run, form, tmp_path / "a.csv")
    data, told = run.dataset(), state.results(run)
    at = data.ids.index(design)
    assert data.censored[at] == 0
    row = told[told["design_id"] == design].iloc[0]
    assert (row["y"], row["censored"], row["status"]) == (pytest.approx(data.y[at]), 0, "ok")
    assert data.y[at] == pytest.approx(run.config.objective.to_y(np.array([3.0, 5.0])).mean())
    warned = [one for one in run.status().get("warnings", []) if design in one]
    assert bool(warned) == (low == "5")
    assert all("reads above 5 and below 3 in fluorescence, which cannot both be" in one for one in warned)


ECHO = """Run ID,17001
Run Date/Time,2026-03-31 14:05

[EXCEPTIONS]
Source Plate Name,Source Well,Destination Plate Name,Destination Plate Barcode,Destination Well,Transfer Volume,Transfer Status
Source[1],A1,Destination[1],{plate},{well},25,MM0202007: Problem calc. well fluid volume
"""


@pytest.mark.parametrize("order", ["report first", "values first"])
def test_a_value_of_a_failed_transfer_does_not_count_whichever_came_first(tmp_path, order):
    run, form = first_round(tmp_path)
    at = of_designs(run, form)[3]
    (tmp_path / "echo.csv").write_text(ECHO.format(plate=form["plate"][at], well=form["well"][at]))
    form.to_csv(tmp_path / "values.csv", index=False)
    files = ["echo.csv", "values.csv"]
    for name in files if order == "report first" else reversed(files):
        run.ingest(tmp_path / name)
    assert run.status()["flags"] == {"transfer_failed": 1}
    (one,) = designs_in(run, form.loc[[at]])
    assert one not in run.dataset().taken
    assert len(run.dataset()) == 107
    comparison = run.compare(1)
    assert [(arm.n_measured, arm.n_failed) for arm in comparison.arms] == [(107, 1)]


def test_values_that_come_in_after_a_round_was_closed_without_them_count(tmp_path):
    run, form = first_round(tmp_path)
    late = form["plate"] == "promoter-R01-P2"
    send(run, form[~late], tmp_path / "a.csv")
    run.close(1, reason="second plate at the other site")
    assert len(run.dataset()) == 54
    assert run.propose(CHEAP).round == 2
    send(run, form[late], tmp_path / "late.csv")
    assert len(run.dataset()) == 108
    assert run.compare(1).arms[0].n_measured == 108
    assert run.state(1) == "CLOSED"


def test_a_design_that_was_never_proposed_is_measured_and_learned_from(tmp_path):
    run, form = first_round(tmp_path)
    send(run, form, tmp_path / "a.csv")
    pd.DataFrame({"Spacer sequence": ["ACGTACGTACGTACGTACGT"], "F/OD": [5000]}).to_csv(tmp_path / "own.csv", index=False)
    receipt = run.ingest(tmp_path / "own.csv")
    assert receipt.n_new_designs == 1
    assert len(run.dataset()) == 109


def test_controls_of_earlier_rounds_tell_that_a_later_rounds_plate_was_turned(tmp_path):
    run, form = first_round(tmp_path)
    send(run, form, tmp_path / "a.csv")
    number = run.propose(CHEAP).round
    form = measured(run, number).set_index("well")
    letters = {one: "ABCDEFGH"[7 - i] for i, one in enumerate("ABCDEFGH")}
    upside = {f"{letters[well[0]]}{13 - int(well[1:]):02d}": value for well, value in form["F/OD"].items()}
    form["F/OD"] = [upside.get(well) for well in form.index]
    send(run, form[form["F/OD"].notna()].reset_index()[["plate", "well", "F/OD"]], tmp_path / "b.csv")
    flags = run.quality().flags
    assert set(flags["rule"]) == {"turned"}
    assert set(flags["plate"]) == {"promoter-R02-P1"}


def test_a_plate_of_the_labs_own_is_judged_by_its_wells(tmp_path):
    run = begin(tmp_path)
    space, rng = run.config.space, generator(0, "own plate")
    designs = space.decode(space.sample(96, rng))["spacer"]
    wells = [f"{row}{column}" for row in "ABCDEFGH" for column in range(1, 13)]
    value = np.exp(rng.normal(6, 0.3, 96)) * np.where([w[0] in "AH" or w[1:] in ("1", "12") for w in wells], 3, 1)
    table = pd.DataFrame({"Spacer sequence": designs, "Plate ID": "OWN-1", "Well": wells, "F/OD": value})
    table.to_csv(tmp_path / "own.csv", index=False)
    run.ingest(tmp_path / "own.csv")
    assert run.status()["flags"] == {"edge": 36}
    assert run.quality().plates[0].z_prime.value is None


# ---- normalisation in a campaign


def test_percent_of_control_puts_rounds_on_one_scale_and_leaves_raw_values_in_the_ledger(tmp_path):
    run = begin(tmp_path, assay={"normalise": "percent_of_control"}, roles={"wildtype": "positive"})
    run.propose(RANDOM)
    send(run, measured(run, 1), tmp_path / "a.csv")
    first = dict(zip(run.dataset().ids, run.dataset().y, strict=True))
    number = run.propose(CHEAP).round
    form = measured(run, number, level=0.4)  # a tired lamp
    send(run, form, tmp_path / "b.csv")
    data = run.dataset()
    y = dict(zip(data.ids, data.y, strict=True))
    assert all(y[one] == first[one] for one in first)
    truth = {one: value / 0.4 for one, value in zip(designs_in(run, form), form["F/OD"], strict=True) if one}
    assert np.median([y[one] - np.log10(value) for one, value in truth.items()]) == pytest.approx(0, abs=0.05)
    stored = run.ledger.measurements(run.name)
    assert set(np.round(form["F/OD"], 6)) <= set(np.round(stored["value"], 6))
    assert "percent_of_control over 3 plates" in run.quality().normalised


def test_a_control_that_later_plates_lack_keeps_its_role_on_earlier_ones(tmp_path):
    run, form = first_round(tmp_path, assay={"normalise": "percent_of_control"}, roles={"wildtype": "positive"})
    send(run, form, tmp_path / "a.csv")
    before, controls = run.dataset().y, run.quality().to_dict()["plates"]
    raw = config(assay={"normalise": "percent_of_control"}, roles={"wildtype": "positive"}).model_dump()
    raw["plate"]["controls"] = [{"name": "standard", "wells": 4, "role": "positive"}]
    run.revise(parse_config(raw, CampaignConfig), reason="another standard")
    np.testing.assert_array_equal(run.dataset().y, before)
    assert run.quality().to_dict()["plates"] == controls


def test_seed_data_without_a_plate_stop_a_normalised_campaign_with_the_next_step(tmp_path):
    run, form = first_round(tmp_path, assay={"normalise": "percent_of_control"})
    pd.DataFrame({"Spacer sequence": ["ACGTACGTACGTACGTACGT"], "F/OD": [5000]}).to_csv(tmp_path / "seed.csv", index=False)
    run.ingest(tmp_path / "seed.csv")
    assert len(run.dataset()) == 1  # alone, they are all read on one plate as far as anybody knows
    receipt = send(run, form, tmp_path / "a.csv")
    assert receipt.stored
    assert "column plate" in receipt.note
    assert "normalise: none" in run.status()["next"]
    assert run.status()["best"] is None
    assert "have none" in run.quality().normalised


def edge_of(run: Campaign) -> set[str]:
    """The wells that are flagged for lying at an edge."""
    found = run.quality().flags
    return set(found.loc[found["rule"] == "edge", "well"])


def test_a_plates_edge_is_that_of_the_plate_as_it_was_laid_out(tmp_path):
    plate = {**promoter().model_dump()["plate"], "edge": "use"}
    run, form = first_round(tmp_path, plate=plate)
    edge = form["well"].str.match("[AH]") | form["well"].isin([f"{row}{column}" for row in "BCDEFG" for column in ("01", "12")])
    form.loc[edge, "F/OD"] *= 10
    send(run, form, tmp_path / "a.csv")
    flagged = edge_of(run)
    assert flagged == set(form.loc[edge, "well"])
    before = run.quality().to_dict()["plates"]
    run.revise(config(plate={**plate, "wells": 384}), reason="larger plates")
    pd.DataFrame({"Spacer sequence": ["ACGTACGTACGTACGTACGT"], "F/OD": [5000]}).to_csv(tmp_path / "seed.csv", index=False)
    run.ingest(tmp_path / "seed.csv")  # what comes in has all flags looked at again
    assert edge_of(run) == flagged
    assert run.quality().to_dict()["plates"] == before


def test_the_edge_of_a_larger_plate_of_a_history_is_its_own(tmp_path):
    run = begin(tmp_path)
    wells = [f"{row}{column}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
    rng = generator(0, "history")
    edge = {one for one in wells if one[0] in "AP" or one[1:] in ("1", "24")}
    value = np.exp(rng.normal(6, 0.8, len(wells))) * np.where([one in edge for one in wells], 10, 1)
    spacers = ["".join(rng.choice(list("ACGT"), 20)) for _ in wells]
    told = {"Spacer sequence": spacers, "F/OD": value, "plate": "old-1", "well": wells}
    pd.DataFrame(told).to_csv(tmp_path / "history.csv", index=False)
    run.ingest(tmp_path / "history.csv")
    assert {f"{one[0]}{int(one[1:])}" for one in edge_of(run)} == edge


# ---- a second assay


def test_a_second_assay_is_added_stored_and_shown_and_not_learned_from(tmp_path, capsys):
    run, form = first_round(tmp_path)
    send(run, form, tmp_path / "a.csv")
    before = run.dataset().fingerprint
    raw = config().model_dump()
    raw["assays"]["growth"] = {"units": {"OD": 1}, "columns": {"value": "OD600"}}
    told = run.revise(parse_config(raw, CampaignConfig), reason="growth may explain the outliers")
    assert told == ["assays: growth is new"]
    form.rename(columns={"F/OD": "OD600"}).assign(OD600=0.5).to_csv(tmp_path / "growth.csv", index=False)
    again = Campaign.open("promoter", home=tmp_path / "home")
    again.ingest(tmp_path / "growth.csv", assay="growth")
    assert again.dataset().fingerprint == before
    assert again.status()["other_assays"] == {"growth": 120}
    assert main(["status", "promoter", "--home", str(tmp_path / "home")]) == 0
    assert "120 readings of assay growth" in capsys.readouterr().out
    assert {plate.assay for plate in again.quality().plates} == {"fluorescence", "growth"}


# ---- in the report


def test_the_report_outlines_flagged_wells_and_says_what_policies_did(tmp_path):
    pytest.importorskip("altair", reason="the packages of labloop-toolkit[report] are not installed")
    from labloop.report import report_of
    from labloop.report.page import PageView, render

    run, form = first_round(tmp_path)
    at = of_designs(run, form)[3]
    (tmp_path / "echo.csv").write_text(ECHO.format(plate=form["plate"][at], well=form["well"][at]))
    run.ingest(tmp_path / "echo.csv")
    send(run, form, tmp_path / "a.csv")
    data = report_of(run)
    view = PageView(data)
    plates = {plate["title"].rsplit(" ", 1)[-1]: plate["specs"] for plate in view.plates}
    (spec,) = [one for name, one in plates[form["plate"][at]].items() if name.endswith("value")]
    assert [well["well"] for well in spec["datasets"]["wells"] if well["flag"]] == [form["well"][at]]
    fills = [layer["encoding"]["fill"]["scale"]["domain"] for layer in spec["layer"] if "fill" in layer.get("encoding", {})]
    assert fills[0][0] > 0  # a log scale that begins at zero or below draws nothing
    assert len(view.figures["controls"]["datasets"]["rows"]) == 4  # two controls on two plates
    (row,) = view.tables()["policies"].rows
    assert row[0] == "transfer_failed"
    assert row[2:4] == ("1", "drop")
    text = render(data)
    assert "Quality control" in text
    assert "107 readings are used, 1 left out" in text


def test_a_campaign_without_plates_has_no_section_on_them(tmp_path):
    pytest.importorskip("altair", reason="the packages of labloop-toolkit[report] are not installed")
    from labloop.report import report_of
    from labloop.report.page import render

    run = begin(tmp_path)
    pd.DataFrame({"Spacer sequence": ["ACGTACGTACGTACGTACGT"], "F/OD": [5000]}).to_csv(tmp_path / "own.csv", index=False)
    run.ingest(tmp_path / "own.csv")
    assert "<h2>Quality control" not in render(report_of(run))


# ---- on the command line


def test_the_command_prints_a_table_for_people_and_json_for_programs(tmp_path, capsys):
    run, form = first_round(tmp_path)
    send(run, form, tmp_path / "a.csv")
    assert main(["quality", "promoter", "--home", str(tmp_path / "home")]) == 0
    text = capsys.readouterr().out
    for word in ("promoter-R01-P2", "wildtype", "Z'", "Normalisation: not normalised", "108 readings used"):
        assert word in text
    assert main(["quality", "promoter", "--home", str(tmp_path / "home"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [plate["plate"] for plate in told["plates"]] == ["promoter-R01-P1", "promoter-R01-P2"]
    assert told["plates"][0]["edge"]["size"] is None
    assert told["plates"][0]["edge"]["why"]


# ---- older ledgers


def test_a_report_of_more_plates_than_it_shows_says_how_many_it_leaves_out(tmp_path, monkeypatch):
    run, form = first_round(tmp_path)
    send(run, form, tmp_path / "a.csv")
    monkeypatch.setattr("labloop.report.collect.PLATES", 1)
    few, every = run.quality(most=1), run.quality()
    assert [one.plate for one in few.plates] == [every.plates[-1].plate]
    assert few.replicates == every.replicates
    assert few.n_used == every.n_used
    page = run.report(tmp_path / "report.html").read_text()
    assert "2 plates: shown are 1" in page
    assert "1 are left out" in page


def test_a_ledger_of_version_1_gets_the_flags_table_and_goes_on(tmp_path):
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((Path(__file__).parent / "data" / "ledger_v1.sql").read_text(encoding="utf-8"))
    run = Campaign.open("tfbind8", home=tmp_path)
    assert run.status()["designs"] == 5
    assert (tmp_path / "ledger.db.v1.bak").exists()
    new = tmp_path / "new"
    new.mkdir()
    Ledger.open(new / "ledger.db").close()
    old, fresh = (inspect(create_engine(f"sqlite:///{at}")) for at in (path, new / "ledger.db"))
    for told in ("get_columns", "get_foreign_keys", "get_indexes"):
        one, other = (sorted(getattr(it, told)("flag"), key=lambda part: str(part.get("name") or part)) for it in (old, fresh))
        assert [{k: str(v) for k, v in part.items()} for part in one] == [{k: str(v) for k, v in part.items()} for part in other]


def test_flags_of_a_campaign_that_nobody_knows_are_refused(tmp_path):
    with Ledger.open(tmp_path / "ledger.db") as ledger, pytest.raises(CampaignError, match="nobody"):
        ledger.flags("nobody")
