"""A configuration replaced while a campaign runs: everything measured stays usable, what is withdrawn is never proposed again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, MethodError
from labloop.rounds.revision import changes
from labloop.seeds import generator

CHEAP = parse_config({"arms": {"near": {"proposers": "fakes:Near"}}, "judge": "fakes:Flat"}, RoundConfig)
RANDOM = parse_config({"arms": {"free": {"proposers": "random"}}, "judge": "fakes:Flat"}, RoundConfig)

REACTION = {
    "name": "reaction",
    "space": {
        "parameters": [
            {"type": "real", "name": "temperature", "low": 20, "high": 80},
            {"type": "integer", "name": "hours", "low": 1, "high": 24},
            {"type": "choice", "name": "solvent", "options": ["water", "DMF", "toluene"]},
            {"type": "sequence", "name": "tag", "length": 6, "alphabet": "ACGT"},
        ]
    },
    "objective": {"assay": "yield", "unit": "%"},
    "assays": {"yield": {"low": 0, "high": 100}},
}  # fmt: skip


def changed(raw, **parts):
    """A copy with some parameters' fields replaced: `solvent={"options": …}`; other parts of the file by `_`."""
    out = {**raw, **parts.pop("_", {})}
    space = {**raw["space"], **parts.pop("space", {})}
    out["space"] = {**space, "parameters": [{**one, **parts.get(one["name"], {})} for one in space["parameters"]]}
    return parse_config(out, CampaignConfig)


def start(tmp_path, raw=REACTION, n=40) -> Campaign:
    run = Campaign.create(parse_config(raw, CampaignConfig), home=tmp_path / "home")
    space, rng = run.config.space, generator(1, "start")
    table = space.decode(space.sample(n, rng))
    table.assign(value=rng.uniform(0, 100, n)).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    return run


def again(run, tmp_path) -> Campaign:
    return Campaign.open(run.name, home=tmp_path / "home")


WIDER = {
    "temperature": {"low": 5, "high": 150}, "hours": {"high": 48}, "solvent": {"options": ["DMF", "toluene", "water", "THF"]},
    "tag": {"alphabet": "ACGTN"},
}  # fmt: skip


def test_a_wider_space_keeps_every_design_its_id_and_its_value(tmp_path):
    run = start(tmp_path)
    before = run.dataset()
    told = run.revise(changed(REACTION, **WIDER), reason="the block heats further")
    after = again(run, tmp_path).dataset()
    assert after.ids == before.ids
    assert np.array_equal(after.y, before.y)
    assert "space: temperature now covers 5 to 150 (before 20 to 80)" in told
    assert "space: solvent now covers water, DMF, toluene, THF (before water, DMF, toluene)" in told
    X = after.space.sample(2000, generator(0, "wide"))
    drawn = after.space.decode(X)
    assert drawn["temperature"].max() > 80
    assert "THF" in set(drawn["solvent"])


NARROWER = {"temperature": {"low": 40, "high": 60}, "solvent": {"options": ["water", "toluene"]}, "tag": {"alphabet": "ACG"}}


def test_what_is_withdrawn_stays_in_the_dataset_and_is_never_proposed(tmp_path):
    run = start(tmp_path)
    before = run.dataset()
    run.revise(changed(REACTION, **NARROWER), reason="DMF is banned, the tags must lack T")
    later = again(run, tmp_path)
    data = later.dataset()
    assert data.ids == before.ids
    assert np.array_equal(data.y, before.y)
    assert (~data.space.feasible(data.X)).sum() > 20
    picks = later.propose(CHEAP)
    proposed = later.ledger.designs(later.name, picks.picks["design_id"].tolist())
    assert set(proposed["solvent"]) <= {"water", "toluene"}
    assert proposed["temperature"].between(40, 60).all()
    assert not proposed["tag"].str.contains("T").any()


@pytest.mark.parametrize(("hours", "fits"), [(6, True), (5, False)])
def test_what_was_measured_of_withdrawn_options_takes_no_room_on_a_plate(tmp_path, hours, fits):
    raw = {**REACTION, "space": {"parameters": REACTION["space"]["parameters"][1:3]}, "plate": {"wells": 12}}
    run = Campaign.create(parse_config(raw, CampaignConfig), home=tmp_path / "home")
    every = run.config.space.decode(run.config.space.listing())
    every[every["solvent"] == "DMF"].assign(value=range(24)).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    run.revise(changed(raw, hours={"high": hours}, solvent={"options": ["water", "toluene"]}), reason="DMF is banned")
    if fits:
        assert len(run.propose(RANDOM).wells) == 12
    else:
        with pytest.raises(MethodError, match="12 wells but only 10 designs of this space are neither measured nor pending"):
            run.propose(RANDOM)
        assert not len(run.ledger.rounds(run.name)), "a round that cannot be is not opened"


def test_a_space_may_be_narrowed_and_widened_again_and_again(tmp_path):
    run = start(tmp_path)
    ids = run.dataset().ids
    run.revise(changed(REACTION, **NARROWER), reason="one")
    run.revise(changed(REACTION, **WIDER), reason="two")
    run.revise(changed(REACTION), reason="back to the first")
    data = again(run, tmp_path).dataset()
    assert data.ids == ids
    drawn = data.space.decode(data.space.sample(2000, generator(0, "back")))
    assert drawn["temperature"].between(20, 80).all()
    assert set(drawn["solvent"]) == {"water", "DMF", "toluene"}


def test_whether_a_design_is_in_the_space_is_told_of_the_space_as_it_is_now(tmp_path):
    """It was kept from the day that the design came."""
    run = start(tmp_path)

    def told() -> pd.DataFrame:
        run.export_dataset(tmp_path / "all.csv")
        return pd.read_csv(tmp_path / "all.csv")

    assert told()["in_space"].all()
    run.revise(changed(REACTION, solvent={"options": ["water", "DMF"]}), reason="toluene is gone")
    assert (told()["in_space"] == (told()["solvent"] != "toluene")).all()
    late = parse_config(REACTION, CampaignConfig).space
    table = late.decode(late.sample(3, generator(2, "start"))).assign(solvent="toluene", value=5.0)
    table.to_csv(tmp_path / "late.csv", index=False)
    run.ingest(tmp_path / "late.csv")
    assert len(told()) == 43
    assert (told()["in_space"] == (told()["solvent"] != "toluene")).all()
    run.revise(changed(REACTION), reason="toluene is back")
    assert told()["in_space"].all()


def test_new_motif_rules_hold_for_proposals_and_not_for_data(tmp_path):
    run = start(tmp_path)
    rule = {"type": "forbidden_motifs", "parameter": "tag", "motifs": ["AA", "CC"]}
    told = run.revise(changed(REACTION, space={"constraints": [rule]}), reason="synthesis fails there")
    assert told == ["space: a design now has none of the motifs AA, CC (either strand)"]
    assert len(run.dataset()) == 40
    picks = run.propose(CHEAP).designs
    assert not picks["tag"].str.contains("AA|CC|TT|GG").any()


def test_an_open_round_keeps_the_configuration_that_it_was_opened_with(tmp_path):
    run, undisturbed = start(tmp_path / "a"), start(tmp_path / "b")
    number = run.ensure_round(CHEAP)
    run.ensure_trained(number, next(iter(run.trainings(number))))
    run.revise(changed(REACTION, **NARROWER, _={"plate": {"edge": "empty"}, "rounds": 9, "seed": 7}), reason="meanwhile")
    one = Campaign.open("reaction", home=tmp_path / "a" / "home").propose(CHEAP)
    two = undisturbed.propose(CHEAP)
    pd.testing.assert_frame_equal(one.picks, two.picks)
    pd.testing.assert_frame_equal(one.wells, two.wells)
    pd.testing.assert_frame_equal(one.designs, two.designs)
    assert one.manifest["campaign"] == two.manifest["campaign"]
    assert len(one.wells) == 96
    later = Campaign.open("reaction", home=tmp_path / "a" / "home")
    later.close(number, reason="withdrawn")
    assert len(later.propose(CHEAP).wells) == 60


def test_designs_that_are_at_the_lab_stay_pending_in_the_new_space(tmp_path):
    run = start(tmp_path)
    out = set(run.propose(CHEAP).picks["design_id"])
    run.revise(changed(REACTION, **NARROWER), reason="meanwhile")
    data = again(run, tmp_path).dataset()
    assert out <= data.taken
    assert len(data.pending) == len(out)


def test_revising_to_the_same_configuration_changes_nothing(tmp_path):
    run = start(tmp_path)
    assert run.revise(changed(REACTION, **WIDER), reason="once")
    events = len(run.ledger.events(run.name))
    assert run.revise(changed(REACTION, **WIDER), reason="twice") == []
    assert len(run.ledger.events(run.name)) == events
    reasons = [detail["reason"] for detail in run.ledger.events(run.name)["detail"] if detail and "reason" in detail]
    assert reasons == ["once"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"_": {"name": "other"}}, "name: this is campaign reaction"),
        ({"_": {"objective": {"assay": "yield", "unit": "mg"}}}, "objective: it decides"),
        ({"_": {"objective": {"assay": "purity", "unit": "%"}, "assays": {"purity": {}}}}, "objective"),
        ({"hours": {"type": "real"}}, "was of type integer"),
        ({"tag": {"length": 7}}, "length 6 is not 7"),
        ({"hours": {"name": "time"}}, "lacks hours and adds time"),
        ({"temperature": {"step": 7.5}}, "is not 20 plus steps of 7.5"),
        ({"space": {"symmetries": ["reverse_complement"]}}, "would become others"),
    ],
    ids=["name", "unit", "assay", "type", "length", "column", "grid", "symmetry"],
)
def test_what_would_lose_or_rename_data_is_refused_and_nothing_changes(tmp_path, parts, message):
    run = start(tmp_path)
    with pytest.raises(ConfigError, match=message):
        run.revise(changed(REACTION, **parts), reason="why not")
    assert again(run, tmp_path).config == parse_config(REACTION, CampaignConfig)
    assert len(run.dataset()) == 40


def test_an_assay_that_has_readings_cannot_be_dropped(tmp_path):
    raw = {**REACTION, "assays": {**REACTION["assays"], "purity": {}}}
    run = start(tmp_path, raw)
    pd.read_csv(tmp_path / "start.csv").to_csv(tmp_path / "purity.csv", index=False, float_format="%.9f")
    run.ingest(tmp_path / "purity.csv", assay="purity")
    with pytest.raises(ConfigError, match="purity has readings and must stay"):
        run.revise(changed(REACTION), reason="tidy")


def test_the_shipped_spaces_can_be_widened(tmp_path):
    """Every example campaign, its rules withdrawn: the designs measured under them stay what they are."""
    for name in ("tfbind8", "promoter", "coupling", "oxides"):
        config = load_config(preset(f"campaigns/{name}.yaml"), CampaignConfig)
        run = Campaign.create(config, home=tmp_path / name)
        space = config.space
        table = space.decode(space.sample(30, generator(0, name)))
        value = config.assays[config.objective.assay].columns.get("value", "value")
        table.assign(**{value: 1.5}).to_csv(tmp_path / f"{name}.csv", index=False)
        run.ingest(tmp_path / f"{name}.csv")
        loose = config.model_copy(update={"space": space.model_copy(update={"constraints": ()})})
        told = run.revise(parse_config(loose.model_dump(), CampaignConfig), reason="all goes")
        assert len(told) == len(space.constraints)
        assert len(run.dataset()) == len(set(table.apply(tuple, axis=1)))


def test_a_real_of_an_older_labloop_keeps_its_text_and_so_its_fingerprint():
    assert "decimals" not in parse_config(REACTION, CampaignConfig).model_dump_json()


def test_the_command_says_what_changed_and_asks_for_a_reason(tmp_path, capsys):
    start(tmp_path)
    path, home = tmp_path / "new.yaml", str(tmp_path / "home")
    path.write_text(yaml.safe_dump(changed(REACTION, **WIDER).model_dump(mode="json")))
    assert main(["revise", "reaction", str(path), "--home", home]) == 2
    assert main(["revise", "reaction", str(path), "--reason", "new heater", "--home", home]) == 0
    assert "temperature now covers 5 to 150" in capsys.readouterr().out
    assert main(["revise", "reaction", str(path), "--reason", "again", "--home", home]) == 0
    assert "Nothing changes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mutations": 2}, ["a design now has at most 2 mutations of its parent in tag",
                            "withdrawn: a design has at most 3 mutations of its parent in tag"]),
        ({"scales": None}, ["tag is changed in scales"]),
    ],
    ids=["mutations", "scales"],
)  # fmt: skip
def test_what_a_parameter_does_not_spell_is_told_too(more, said):
    tag = {"type": "sequence", "name": "tag", "parent": "MKTAYI", "mutations": 3, "alphabet": "protein", "scales": "amino_acids"}
    was, now = (
        parse_config({"name": "m", "space": {"parameters": [one]}, "objective": {"assay": "od"}}, CampaignConfig)
        for one in (tag, {**tag, **more})
    )
    assert changes(was, now) == [f"space: {one}" for one in said]
