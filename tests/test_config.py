"""Campaign and round files: what is accepted, and what a mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labloop.campaign.checks import check_configs
from labloop.config.campaign import CampaignConfig
from labloop.config.ramp import ramped
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, LabloopError
from labloop.plates.vessel import Plate
from labloop.registry import available, create, describe, load
from labloop.runtime.yamlfile import read_yaml
from labloop.studies.study_config import read_study

CONFIG = preset("campaigns/tfbind8.yaml").parent.parent
CAMPAIGN = "name: c\nspace: {parameters: [{type: sequence, name: s, length: 4}]}\n"


def test_a_file_that_ships_is_found_in_any_folder_as_the_manual_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = load_config("config/rounds/first.yaml", RoundConfig)
    assert ours == load_config(CONFIG / "rounds/first.yaml", RoundConfig)
    Path("config/rounds").mkdir(parents=True)
    Path("config/rounds/first.yaml").write_text("arms: {mine: {proposers: [random]}}\njudge: null\n")
    assert list(load_config("config/rounds/first.yaml", RoundConfig).arms) == ["mine"]
    with pytest.raises(ConfigError, match="mend its name"):
        load_config("config/rounds/fist.yaml", RoundConfig)


def test_what_a_file_that_ships_names_beside_it_is_found_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = read_study("config/studies/quick.yaml")
    assert all(lab.campaign.is_file() for lab in study.labs.values())
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml("config/../config/studies/quick.yaml")


def test_an_objective_s_assay_needs_no_more_than_its_name(tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(CAMPAIGN + "objective: {assay: elisa}\n")
    assert list(load_config(path, CampaignConfig).assays) == ["elisa"]


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
        (CAMPAIGN + "rounds: many\n", "rounds: write a whole number, not 'many'"),
        (CAMPAIGN + "rounds: 0\n", "rounds: write at least 1, not 0"),
        (CAMPAIGN.replace("name: c", "name: ../c"), "name: '../c' must begin with a letter"),
        (CAMPAIGN.replace("length: 4", "length: four"), "space.parameters.0.length: write a whole number or a list"),
        (CAMPAIGN.replace("length: 4", "length: [4.5, 6]"), "space.parameters.0.length.0: write a whole number, not 4.5"),
        (CAMPAIGN.replace("length: 4", "length: [4, 6, 8]"), "holds 3: 2 is the most"),
        (CAMPAIGN.replace("length: 4", "length: yes"), "space.parameters.0.length: true is no number"),
        (CAMPAIGN + "plate: {edge: yes}\n", "plate.edge: write 'use' or 'empty', not true"),
        (CAMPAIGN + "plate: {controls: {name: wt, wells: 2}}\n", "plate.controls: write a list, such as [A, B], not {"),
        (CAMPAIGN + "budget: 5000\n", "budget: write keys with values, such as {key: value}, not 5000"),
        (CAMPAIGN + "budget: {wells: true}\n", "budget.wells: true is no number"),
        (CAMPAIGN + "budget: {price: 5000}\n", "budget.price: needs prices"),
        (CAMPAIGN + "budget: {price: 5000 EUR}\n", "budget.price: write a number without its unit, not '5000 EUR'"),
        (CAMPAIGN + "prices: {well: 1}\nbudget: {price: .inf}\n", "budget.price: write a finite number, not inf"),
        (CAMPAIGN + "assays: {assay: {units: {kRFU: .inf}}}\n", "assays.assay.units.kRFU: write a finite number, not inf"),
        (CAMPAIGN + "plate: {wells: 50}\n", "for a rack of 50 tubes say plate: {rows: 5, columns: 10}"),
        (CAMPAIGN + "prices: {well: .inf}\n", "prices.well: write a finite number, not inf"),
        (CAMPAIGN + "history: old.csv\n", "history: 'old.csv' may be a file or a campaign: write {file: old.csv}"),
        (CAMPAIGN + "history: {file: old.csv, direction: down}\n", "history.direction: write 'max' or 'min', not 'down'"),
        (CAMPAIGN + "limits: {dna: 3}\n", "limits.dna: says nothing of a limit: write what it is"),
        (CAMPAIGN + "limits: {s: {out_of_stock: [A]}}\n", "limits.s: s is a sequence: limits are of choices"),
        (CAMPAIGN + "flanks: {s: {five_prime: ACNT}}\n", "flanks.s.five_prime: 'ACNT' must hold A, C, G and T only"),
        (CAMPAIGN + "schedule: {expected: soon}\n", "schedule.expected: write a span of time, such as 14 days or 36 hours"),
        (CAMPAIGN.replace("name: s", "name: ''"), "space.parameters.0.name: write text, not ''"),
        (CAMPAIGN + "assays: {assay: {low: 5, high: 1}}\n", "assays.assay.low: 5 is above high, 1"),
        (CAMPAIGN + "assays: {assay: {columns: {vlaue: OD}}}\n", "assays.assay.columns.vlaue: is no column of labloop's"),
        (CAMPAIGN + "limits: {rna: {at_most: 1}}\n", "limits.rna: the space has no such parameter"),
        (CAMPAIGN + "constraints: {tm: {at_least: true}}\n", "constraints.tm.at_least: true is no number"),
        (CAMPAIGN + "plate: {wells: 42}\n", "wells: 42 is no usual plate"),
        (CAMPAIGN + "plate: {wells: 96, controls: [{name: wt, wells: 96}]}\n", "leave no well"),
        (
            CAMPAIGN + "objective: {assay: elisa}\nassays: {hplc: {}}\n",
            "'elisa' is not among assays: hplc; add it there, as elisa: {}",
        ),
    ],
)
def test_a_mistake_in_a_campaign_file_is_named_with_its_place(tmp_path, text, message):
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path, CampaignConfig)
    assert str(path) in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("{type: real, name: t, low: 20, high: 90, step: 500}", "line 6, space.parameters.1.step: 500 is wider than the range"),
        ("{type: choice, name: s, options: [DMF, '']}", "line 6, space.parameters.1.options.1: is empty"),
        ("{type: choice, name: s, options: [yes, no]}", "options.0: true is no number: write one, or quotes around it"),
        ("{type: mixture, name: m, components: [a, '']}", "space.parameters.1.components.1: write text, not ''"),
        ("{type: choice, name: s, options: [1, .nan]}", "options.1: write text or a finite number, not nan"),
        ("{type: sequence, name: p, parent: '', mutations: 2}", "space.parameters.1: parent is empty: write its letters"),
        ("{type: choice, name: s, options: [DMF]}", "space.parameters.1.options: holds 1: at least 2 are needed"),
    ],
)
def test_a_parameter_that_no_lab_can_mean_is_refused_with_its_line(tmp_path, parameter, message):
    path = tmp_path / "campaign.yaml"
    path.write_text(
        f"schema_version: 1\nname: c\nspace:\n  parameters:\n    - {{type: sequence, name: dna, length: 4}}\n    - {parameter}\n"
    )
    with pytest.raises(ConfigError) as error:
        load_config(path, CampaignConfig)
    assert message in str(error.value)


def test_check_says_when_rounds_open_of_which_files_and_what_a_person_is_asked(tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(CAMPAIGN)
    assert check_configs(path)["schedule"] == []
    path.write_text(
        CAMPAIGN + "schedule: {rounds: [config/rounds/first.yaml, config/rounds/quick.yaml], expected: 36 hours,\n"
        "  deadline: 2 weeks, start: {cron: '0 8 * * 1', timezone: Europe/Berlin}, approval: true, on_failure: drop, inbox: in}\n"
    )
    when, files, asked, folders = check_configs(path)["schedule"]
    assert re.fullmatch(
        r"a round opens by cron '0 8 \* \* 1', Europe/Berlin: next on Monday \d\d \w+ \d{4} at 08:00; "
        "overdue after 36 hours; closed after 14 days without the wells that are missing",
        when,
    )
    assert files == "rounds: config/rounds/first.yaml, then config/rounds/quick.yaml for all later ones"
    assert asked == "a person approves each plate; where a proposer fails three times the round goes on without it"
    assert folders == "assay files are taken from in, plates written to plates"
    path.write_text(CAMPAIGN + "schedule: {start: by_hand}\n")
    assert check_configs(path)["schedule"][:2] == ["a round opens when a person says so", "rounds: the shipped default"]
    path.write_text(CAMPAIGN + "schedule: {rounds: [config/rounds/quick.yaml], deadline: 90.5 hours, start: by_hand}\n")
    assert "closed after 90.5 hours without" in check_configs(path)["schedule"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schedule: {rounds: [nowhere.yaml]}\n", "schedule.rounds.0: "),
        ("history: {file: nowhere.csv}\n", "history.0: "),
        (", constraints: [{type: forbidden_motifs, parameter: s, motifs: [A, C, G, T]}]", "space.constraints: only 0 of "),
    ],
)
def test_what_only_a_look_beyond_a_campaigns_file_shows_is_told_with_its_name_and_key(tmp_path, text, message):
    path = tmp_path / "campaign.yaml"
    path.write_text(CAMPAIGN.replace("4}]", f"4}}]{text}") if text.startswith(",") else CAMPAIGN + text)
    with pytest.raises(LabloopError) as error:
        check_configs(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_one_option_is_out_of_stock_without_a_list():
    space = {"parameters": [{"type": "choice", "name": "s", "options": ["DMF", "THF", "MeCN"]}]}
    made = parse_config({"name": "c", "space": space, "limits": {"s": {"out_of_stock": "DMF"}}}, CampaignConfig)
    assert made.limits["s"][0].out_of_stock == ("DMF",)
    assert len(made.space.listing()) == 2


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


def test_a_check_makes_plugins_as_in_every_planned_round(tmp_path):
    campaign, round_file = tmp_path / "campaign.yaml", tmp_path / "round.yaml"
    campaign.write_text(CAMPAIGN)
    text = (
        "schema_version: 1\narms:\n  a:\n    proposers: [mutate]\n    selector: {conservative: {own: {first: 0.1, last: %s}}}\n"
    )
    round_file.write_text(text % "-0.1")
    with pytest.raises(ConfigError, match=r"round\.yaml: line 5, .*own: write at least 0, not -0\.03"):
        check_configs(campaign, round_file)
    round_file.write_text(text % "0.5")
    assert check_configs(campaign, round_file)["campaign"]


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
