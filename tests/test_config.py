"""Campaign and round files: what is accepted, and what a mistake is told."""

from __future__ import annotations

import pytest

from labloop.config.campaign import CampaignConfig
from labloop.config.ramp import ramped
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError
from labloop.plates.vessel import Plate
from labloop.registry import available, create, describe, load

CONFIG = preset("campaigns/tfbind8.yaml").parent.parent
CAMPAIGN = "name: c\nspace: {parameters: [{type: sequence, name: s, length: 4}]}\n"


@pytest.mark.parametrize("path", sorted(CONFIG.glob("campaigns/*.yaml")), ids=lambda path: path.name)
def test_every_campaign_file_that_ships_loads(path):
    config = load_config(path, CampaignConfig)
    assert config.name == path.stem
    assert config.plate.capacity > 0


@pytest.mark.parametrize("path", sorted(CONFIG.glob("rounds/*.yaml")), ids=lambda path: path.name)
def test_every_round_file_that_ships_loads_and_makes_its_plugins(path):
    config = load_config(path, RoundConfig)
    assert sum(config.wells(96).values()) == 96
    for arm in config.arms.values():
        for kind, plugins in (("proposers", arm.proposers), ("selectors", arm.selector)):
            for name, options in plugins.items():
                create(kind, name, ramped(options, round_number=1, rounds=4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no YAML file of keys and values"),
        ("- a\n- b\n", "is no YAML file of keys and values"),
        ("name: [", "not valid YAML"),
        (CAMPAIGN + "nmae: d\n", "nmae: unknown key"),
        (CAMPAIGN + "name: d\n", "key 'name' stands twice"),
        (CAMPAIGN + "rounds: many\n", "rounds: must be a valid integer"),
        (CAMPAIGN + "rounds: 0\n", "rounds: must be greater than or equal to 1"),
        (CAMPAIGN.replace("name: c", "name: ../c"), "name: String should match"),
        (CAMPAIGN.replace("length: 4", "length: four"), "space.parameters.0.sequence.length"),
        (CAMPAIGN + "plate: {wells: 42}\n", "wells: 42 is no usual plate"),
        (CAMPAIGN + "plate: {wells: 96, controls: [{name: wt, wells: 96}]}\n", "leave no well"),
        (CAMPAIGN + "objective: {assay: elisa}\n", "'elisa' is not among assays"),
    ],
)
def test_a_mistake_in_a_campaign_file_is_named_with_its_place(tmp_path, text, message):
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path, CampaignConfig)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml", CampaignConfig)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "binary.yaml", CampaignConfig)


def test_plugins_are_written_as_a_name_a_list_or_a_mapping():
    arms = {
        "a": {"proposers": "random"},
        "b": {"proposers": ["random", "mutate"]},
        "c": {"proposers": {"coms": {"epochs": 2}, "qei": None}},
    }
    config = parse_config({"arms": arms}, RoundConfig)
    assert [arm.proposers for arm in config.arms.values()] == [
        {"random": {}}, {"random": {}, "mutate": {}}, {"coms": {"epochs": 2}, "qei": {}},
    ]  # fmt: skip


def test_a_list_of_proposers_may_give_some_of_them_options():
    arm = {"proposers": ["random", {"coms": {"epochs": 2}}, {"qei": None}]}
    config = parse_config({"arms": {"a": arm}}, RoundConfig)
    assert config.arms["a"].proposers == {"random": {}, "coms": {"epochs": 2}, "qei": {}}


@pytest.mark.parametrize(
    ("proposers", "message"), [(["random", "random"], "twice"), (["random", ["coms"]], "no name"), ([1], "no name")]
)
def test_a_list_of_proposers_that_makes_no_sense_is_refused(proposers, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"arms": {"a": {"proposers": proposers}}}, RoundConfig)


def test_wells_are_shared_out_to_the_last_one():
    config = parse_config({"arms": {n: {"proposers": "random"} for n in "abc"}}, RoundConfig)
    assert config.wells(96) == {"a": 32, "b": 32, "c": 32}
    assert config.wells(94) == {"a": 32, "b": 31, "c": 31}
    fixed = parse_config({"arms": {"a": {"proposers": "random", "wells": 90}, "b": {"proposers": "random"}}}, RoundConfig)
    assert fixed.wells(96) == {"a": 90, "b": 6}


@pytest.mark.parametrize("wells", [(97,), (96, None), (40,), (50, 50)])
def test_a_batch_that_does_not_fit_the_plate_is_refused(wells):
    arms = {f"a{i}": {"proposers": "random", "wells": n} for i, n in enumerate(wells)}
    with pytest.raises(ConfigError, match="96 for designs"):
        parse_config({"arms": arms}, RoundConfig).wells(96)


def test_edge_and_controls_take_their_wells():
    assert Plate(wells=96).capacity == 96
    assert Plate(wells=96, edge="empty").capacity == 60
    assert Plate(wells=384, edge="empty", controls=({"name": "wt", "wells": 8},)).capacity == 14 * 22 - 8


def test_schedules_run_from_the_first_round_to_the_last():
    options = {"beta": {"first": -1.0, "last": 2.0}, "keep": 3}
    beta = [ramped(options, round_number=r, rounds=4)["beta"] for r in (1, 2, 3, 4, 7)]
    assert beta == [-1.0, 0.0, 1.0, 2.0, 2.0]
    assert ramped(options, round_number=2, rounds=4)["keep"] == 3


def test_unknown_plugins_and_options_are_named_with_what_there_is():
    with pytest.raises(ConfigError, match=r"proposer 'com' is unknown; there are: .*coms"):
        load("proposers", "com")
    with pytest.raises(ConfigError, match=r"nonsense.*options: "):
        create("proposers", "random", {"nonsense": 1})


def test_every_registered_plugin_loads_and_describes_itself():
    for kind in ("proposers", "surrogates", "selectors", "labs"):
        for name in available(kind):
            assert describe(kind, name)["summary"].endswith(".")


def test_a_plugin_can_be_named_by_its_import_path():
    assert load("selectors", "labloop.proposing.selectors:AsProposed").__name__ == "AsProposed"
