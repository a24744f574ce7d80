"""Studies: which jobs there are, that finished ones are kept, that they are `simulate`'s own, and what is made of them."""

from __future__ import annotations

import copy
import json
import pickle
import re

import altair as alt
import numpy as np
import pandas as pd
import pytest

import labloop.studies.study_job
from labloop.cli import main
from labloop.config.read import parse_config, preset
from labloop.errors import ConfigError, LabloopError, MethodError
from labloop.registry import create
from labloop.runtime.yamlfile import read_yaml
from labloop.space.goal import Goal
from labloop.studies import page
from labloop.studies.properties import share_of
from labloop.studies.simulate import simulate
from labloop.studies.standing_tables import markdown
from labloop.studies.standings import MEASURES, interval, standings
from labloop.studies.study import COLUMNS, Job, StudyConfig, jobs, read_study, study

STUDIES = preset("studies/quick.yaml").parent
CAMPAIGNS = preset("campaigns/tfbind8.yaml").parent


def config(**changes):
    """A study of a second: TF Bind 8, two arms, two seeds."""
    raw = {
        "name": "toy", "labs": {"tfbind8": {"campaign": CAMPAIGNS / "tfbind8.yaml"}}, "arms": ["random", "mutate"],
        "reference": "random", "starts": [30], "rounds": 2, "batch": 8, "seeds": 2,
    }  # fmt: skip
    return parse_config({**raw, **changes}, StudyConfig)


@pytest.fixture(scope="module", autouse=True)
def _each_job_once():
    """Many tests here run the same jobs."""
    run, kept = Job.run, {}

    def once(job):
        key = job.model_dump_json(), labloop.studies.study_job._range
        if key not in kept:
            kept[key] = run(job)
        return copy.deepcopy(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "run", once)
        yield


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The study that ships to show what one is."""
    out = tmp_path_factory.mktemp("quick")
    return study(STUDIES / "quick.yaml", out=out), out


# ---- running


def test_arms_are_ranked_by_hypervolume_where_a_lab_has_several_properties():
    labs = {"branincurrin": {"campaign": CAMPAIGNS / "branincurrin.yaml"}}
    result = study(config(labs=labs, starts=[10], batch=4, seeds=3, quantile=1.0))
    last = result.rows[result.rows["round"] == 2].set_index(["arm", "seed"])
    np.testing.assert_allclose(last["best_share"], last["hypervolume"] / result.rows["hypervolume"].max())
    table = last["hypervolume"].unstack("arm").mean()
    ranks = {row["arm"]: row["best"]["mean"] for row in result.summary["ranks"]}
    assert (ranks["random"] < ranks["mutate"]) == (table["random"] > table["mutate"])


@pytest.mark.parametrize(
    ("direction", "value", "share"), [("min", 2.0, 1.0), ("min", 6.0, 0.0), ("max", 5.0, 0.75), ("max", np.nan, 0.0)]
)
def test_a_value_within_limits_is_a_share_of_what_arms_came_to(direction, value, share):
    goal = Goal.model_validate({"targets": {"x": {"direction": direction, "assay": "x"}}, "limits": {"y": {"at_least": 1}}})
    assert share_of(goal, value, [2.0, np.nan, 6.0]) == share


def test_the_quick_study_gives_a_row_a_lab_arm_seed_and_round(quick):
    result, out = quick
    assert list(result.rows.columns) == list(COLUMNS)
    assert len(result.rows) == 3 * 3 * 2 * 2  # settings, arms, seeds, rounds
    assert set(result.rows["lab"]) == {"tfbind8", "arylation"}
    assert not result.failures
    assert {path.name for path in out.iterdir()} == {"jobs", "rows.csv", "study.json", "study.md", "study.html"}
    assert len(list((out / "jobs").glob("*.json"))) == 3 * 3 * 2
    told = json.loads((out / "study.json").read_text())
    assert [row["arm"] for row in told["ranks"]] == ["random", "mutate", "ridge"]
    assert pd.read_csv(out / "rows.csv")["seed"].nunique() == 2


def test_jobs_are_campaigns_of_simulate_with_its_seeds_and_starts(quick):
    result, _ = quick
    mine = result.rows.query("lab == 'tfbind8' and start == 60 and arm == 'mutate'")
    campaign = CAMPAIGNS / "tfbind8.yaml"
    theirs = simulate(campaign, "tfbind8", start=60, rounds=2, batch=12, seeds=2, arms=["mutate"], **_quantile(1.0))
    for column in ("batch_mean", "top10_mean", "best"):
        np.testing.assert_array_equal(mine[column], theirs[column])


def _quantile(share):
    """How `simulate` is asked for a start from that share of the lab."""
    import inspect

    if "start_quantile" not in inspect.signature(simulate).parameters:
        pytest.skip("simulate draws its starts from the worse half only")
    return {"start_quantile": share}


def test_jobs_of_the_worse_half_are_those_of_simulate_too():
    mine = study(config(seeds=1, arms=["mutate"], reference=None)).rows
    theirs = simulate(CAMPAIGNS / "tfbind8.yaml", "tfbind8", start=30, rounds=2, batch=8, seeds=1, arms=["mutate"])
    np.testing.assert_array_equal(mine["batch_mean"], theirs["batch_mean"])


def test_what_is_finished_is_kept_and_never_redone(tmp_path, monkeypatch):
    first = study(config(), out=tmp_path)
    ran = []
    run = Job.run
    monkeypatch.setattr(Job, "run", lambda job: ran.append(job.label) or run(job))
    again = study(config(), out=tmp_path)
    assert ran == []
    pd.testing.assert_frame_equal(again.rows, first.rows)
    files = sorted((tmp_path / "jobs").iterdir())
    files[0].unlink()
    files[1].write_text("{cut o")
    third = study(config(), out=tmp_path)
    assert len(ran) == 2
    pd.testing.assert_frame_equal(*(one.rows.drop(columns=["seconds", "cpu_seconds"]) for one in (third, first)))
    more = study(config(seeds=3), out=tmp_path)
    assert len(ran) == 4
    assert set(more.rows["seed"]) == {0, 1, 2}


@pytest.mark.parametrize("spoilt", [b"{}", b"[]", b"null", b"\xff", b'{"rows": [], "range": null, "seen": [0, 1]}'])
def test_a_result_that_is_not_whole_runs_again(tmp_path, spoilt):
    told = config(arms=["random"], seeds=1)
    first = study(told, out=tmp_path)
    (path,) = (tmp_path / "jobs").iterdir()
    path.write_bytes(spoilt)
    again = study(told, out=tmp_path)
    pd.testing.assert_frame_equal(*(one.rows.drop(columns=["seconds", "cpu_seconds"]) for one in (again, first)))
    assert json.loads(path.read_bytes())["rows"]


def test_arms_are_added_to_a_study_that_was_run(tmp_path, monkeypatch):
    first = study(config(arms=["random"]), out=tmp_path)
    ran = []
    run = Job.run
    monkeypatch.setattr(Job, "run", lambda job: ran.append(job.label) or run(job))
    more = study(config(), out=tmp_path, arms=["mutate"])
    assert len(ran) == 2
    assert more.summary["arms"] == ["random", "mutate"]
    assert {one["arm"] for one in more.summary["differences"]} == {"mutate"}
    pd.testing.assert_frame_equal(more.rows[more.rows["arm"] == "random"].reset_index(drop=True), first.rows)
    whole = study(config()).rows.drop(columns=["seconds", "cpu_seconds"])
    pd.testing.assert_frame_equal(more.rows.drop(columns=["seconds", "cpu_seconds"]), whole)
    third = study(config(), out=tmp_path, arms=["mutate"], seeds=3)
    assert third.summary["arms"] == ["mutate"]  # of random a seed is missing


def test_a_start_is_asked_for_by_its_size():
    many = config(starts=[20, 30])
    assert {job.start for job in jobs(many, starts=[30])} == {30}
    with pytest.raises(ConfigError, match="no lab of the study starts from 40; there are: 20, 30"):
        jobs(many, starts=[40])


def test_the_judge_and_settings_at_their_defaults_are_no_part_of_a_job_that_does_not_use_them():
    (job,) = jobs(config(arms=["random"], seeds=1))
    assert job.model_copy(update={"config": job.config.model_copy(update={"judge": {"gp": {}}})}).key == job.key
    arm = job.config.arms["random"].model_copy(update={"selector": {"conservative": {}}})
    wary = job.model_copy(update={"config": job.config.model_copy(update={"arms": {"random": arm}})})
    other = wary.model_copy(update={"config": wary.config.model_copy(update={"judge": {"gp": {}}})})
    assert len({job.key, wary.key, other.key}) == 3


def test_a_job_is_known_by_what_its_result_depends_on():
    def keys(**changes):
        return {job.key for job in jobs(config(**changes))}

    told = {"campaign": CAMPAIGNS / "tfbind8.yaml"}
    same = config(labs={"renamed": {"campaign": CAMPAIGNS / "tfbind8.yaml", "lab": "tfbind8"}}, description="other words")
    assert {job.key for job in jobs(same)} == keys()
    for changes in (
        {"starts": [31]}, {"rounds": 3}, {"batch": 9}, {"quantile": 0.6}, {"noise": [0.1]},
        {"arms": {"random": {"proposers": {"mutate": {}}}}}, {"labs": {"tfbind8": {**told, "lab": {"tfbind8": {"failures": 1}}}}},
    ):  # fmt: skip
        assert not keys(**changes) & keys(), changes


def test_a_lab_whose_table_has_changed_makes_other_jobs(tmp_path):
    conditions, values = create("labs", "arylation", {}).table()
    labs = {"mine": {"campaign": CAMPAIGNS / "arylation.yaml", "lab": {"lookup": {"path": str(tmp_path / "lab.csv")}}}}
    told = config(labs=labs, arms=["random"], seeds=1, quantile=1.0)
    found = []
    for sign in (1, -1):
        conditions.assign(value=sign * values).to_csv(tmp_path / "lab.csv", index=False)
        found.append(study(told, out=tmp_path / "out").rows["batch_mean"].tolist())
    assert found[0] == [-value for value in found[1]]
    assert len(list((tmp_path / "out" / "jobs").iterdir())) == 2
    assert {job.content for job in jobs(config())} == {""}


def test_a_job_travels_as_json_and_to_other_processes():
    for job in jobs(read_study(STUDIES / "quick.yaml")):
        assert Job.model_validate(json.loads(job.model_dump_json())).key == job.key
        assert pickle.loads(pickle.dumps(job)).key == job.key


def test_arms_of_a_seed_begin_with_the_same_data_and_noise_and_starts_make_settings():
    result = study(config(noise=[0.0, 0.2], starts=[20, 30], arms=["random"], seeds=1, rounds=1))
    assert len(result.rows.groupby(["start", "noise"])) == 4
    plates = result.rows.set_index(["start", "noise"])["batch_mean"]
    assert plates[20, 0.0] != plates[20, 0.2]


def test_an_arm_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    run = Job.run

    def fail(job):
        if (job.arm, job.seed) == ("mutate", 1):
            raise MethodError("no stable fit")
        return run(job)

    monkeypatch.setattr(Job, "run", fail)
    result = study(config(), out=tmp_path)
    assert result.failures == ("mutate on tfbind8, 30 to start, noise 0, seed 1: no stable fit",)
    (verdict,) = {one["verdict"] for one in result.summary["differences"]}
    assert verdict == "failed"
    assert not any(one["never_worse"] for one in result.summary["verdicts"])
    for name in ("study.md", "study.html"):
        assert "no stable fit" in (tmp_path / name).read_text()
    monkeypatch.setattr(Job, "run", run)
    assert not study(config(), out=tmp_path).failures


def test_a_study_of_which_nothing_is_left_says_why(monkeypatch):
    def fail(job):
        raise MethodError("no stable fit")

    monkeypatch.setattr(Job, "run", fail)
    with pytest.raises(LabloopError, match=r"every job failed, the first one: random on tfbind8.*no stable fit"):
        study(config())


def test_shares_are_1_for_the_best_whichever_way_is_better():
    labs = {"oer": {"campaign": CAMPAIGNS / "oer.yaml"}}
    rows = study(config(labs=labs)).rows
    assert np.corrcoef(rows["batch_mean"], rows["batch_mean_share"])[0, 1] < -0.9
    assert rows["best_share"].between(0, 1).all()
    assert (rows["best_share"] >= rows["top10_mean_share"]).all()


def test_a_design_that_fails_by_itself_counts_as_the_worst():
    labs = {"ehrlich": {"campaign": CAMPAIGNS / "ehrlich.yaml"}}
    rows = study(config(labs=labs, arms=["random"], seeds=1, rounds=1)).rows
    row = rows.iloc[0]
    assert row["n_failed"] > 0
    good = row["n_wells"] - row["n_failed"]
    assert row["batch_mean_share"] == pytest.approx(good and row["batch_mean"] * good / row["n_wells"])


def test_a_plate_whose_designs_all_failed_by_themselves_is_told_on_the_page(tmp_path):
    rows = table({"a": {"x": 0.0, "bo": 0.5}})
    rows.loc[rows["arm"] == "x", list(MEASURES)] = np.nan
    found = standings(rows, ["x", "bo"], reference="bo")
    assert "no value" in page.render(found, title="failed")
    assert "| x |" in markdown(found, title="failed")


def test_coverage_is_told_of_arms_that_select_by_their_own_judge():
    arms = {
        "random": None,
        "wary": {"proposers": "random", "selector": {"conservative": {"beta": 1.0}}, "pool": 40, "judge": "gp"},
    }
    rows = study(config(arms=arms, seeds=1, rounds=1)).rows.set_index("arm")
    assert 0 <= rows.loc["wary", "coverage"] <= 1
    assert np.isnan(rows.loc["random", "coverage"])
    (wary,) = [job for job in jobs(config(arms=arms, seeds=1)) if job.arm == "wary"]
    assert wary.config.judge == {"gp": {}}


def test_a_lab_without_a_range_is_scaled_by_what_was_seen(monkeypatch):
    monkeypatch.setattr(labloop.studies.study_job, "_range", lambda lab: None)
    rows = study(config()).rows
    assert rows["best_share"].max() <= 1
    assert rows["batch_mean_share"].min() >= 0
    ehrlich = {"ehrlich": {"campaign": CAMPAIGNS / "ehrlich.yaml"}}
    rows = study(config(labs=ehrlich, arms=["mutate"], reference=None)).rows
    assert rows["best_share"].max() < 1  # the optimum is known though nobody came there


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_study_that_ships_has_jobs(path):
    pytest.importorskip("RNA")
    told = read_study(path)
    assert told.name == path.stem
    todo = jobs(told)
    assert len({job.key for job in todo}) == len(todo)
    assert {job.seed for job in todo} == set(range(told.seeds))


def test_the_study_of_the_offline_arm_holds_labs_of_five_kinds():
    told = read_study(STUDIES / "offline_vs_bo.yaml")
    assert {"tfbind8", "rna14", "rna50", "gb1", "ehrlich", "arylation", "oer", "utr"} <= set(told.labs)
    assert {"offline", "bo", "gp_mean", "ensemble", "forest", "random"} <= set(told.arms)
    assert (told.seeds, told.rounds, told.reference) == (5, 3, "bo")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": ["random", "luck"]}, "'luck' is neither an arm of the round"),
        ({"reference": "bo"}, "reference 'bo' is none of the arms: random, mutate"),
        ({"arms": ["random", "random"]}, "'random' is there twice"),
        ({"starts": []}, "at least one"),
        ({"labs": {}}, "labs"),
        ({"labs": {"moon": {"campaign": CAMPAIGNS / "tfbind8.yaml"}}}, "'moon' is unknown"),
        ({"labs": {"gb1": {"campaign": CAMPAIGNS / "tfbind8.yaml"}}}, "but the lab measures sites"),
        ({"labs": {"gb1": {"campaign": "nowhere.yaml"}}}, "nowhere.yaml: cannot be read"),
        ({"arms": {"random": None, "mine": {"proposers": {"coms": {"epoch": 1}}}}}, "epoch"),
        ({"plates": 2}, "plates: unknown key"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused_before_anything_runs(changes, said):
    with pytest.raises(ConfigError, match=said):
        jobs(config(**changes))


@pytest.mark.parametrize("seeds", [0, -2, 1.5])
def test_a_study_without_a_seed_is_refused(seeds):
    with pytest.raises(ConfigError, match=f"seeds is {seeds}: give a whole number, 1 or more"):
        study(config(), seeds=seeds)


def test_parts_of_a_study_are_asked_for_by_name():
    assert {job.arm for job in jobs(config(), arms=["mutate"])} == {"mutate"}
    assert {job.seed for job in jobs(config(), seeds=1)} == {0}
    with pytest.raises(ConfigError, match="lab 'gb1' is not in the study"):
        jobs(config(), labs=["gb1"])


def test_the_command_runs_a_part_and_prints_ranks(tmp_path, capsys):
    arguments = [
        "study",
        str(STUDIES / "quick.yaml"),
        "--labs",
        "tfbind8",
        "--arms",
        "random,mutate",
        "-o",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "Mean rank over labs" in printed
    assert "study.html" in printed
    assert main([*arguments, "--seeds", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["arm"] for row in told["rows"]} == {"random", "mutate"}


# ---- what is made of it


def table(shares, *, seeds=5, rounds=2, spread=0.0):
    """Rows of made-up campaigns: `shares` by lab and arm, equal in all rounds, plus a spread that all arms of a seed share."""
    rows = [
        {
            "lab": lab, "start": 100, "noise": 0.0, "arm": arm, "seed": seed, "round": number, "coverage": np.nan,
            "cpu_seconds": 1.0, "n_wells": 12,
            **{f"{name}{end}": share + spread * seed for name in MEASURES for end in ("", "_share")},
        }
        for lab, by in shares.items() for arm, share in by.items() for seed in range(seeds) for number in range(1, rounds + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_ranks_count_each_lab_once_and_hold_their_interval():
    rows = table({"a": {"x": 0.9, "bo": 0.5, "y": 0.1}, "b": {"x": 0.5, "bo": 0.9, "y": 0.1}})
    found = {row["arm"]: row["batch_mean"] for row in standings(rows, ["x", "bo", "y"], reference="bo")["ranks"]}
    assert {arm: rank["mean"] for arm, rank in found.items()} == {"x": 1.5, "bo": 1.5, "y": 3.0}
    assert (found["x"]["low"], found["x"]["high"]) == (1.0, 2.0)
    assert found["y"]["low"] == found["y"]["high"] == 3.0
    tied = standings(table({"a": {"x": 0.5, "bo": 0.5}}), ["x", "bo"], reference="bo")["ranks"]
    assert [row["best"]["mean"] for row in tied] == [1.5, 1.5]


def test_differences_are_paired_so_that_what_seeds_share_cancels():
    rows = table({"a": {"x": 0.55, "bo": 0.5, "y": 0.3}}, spread=0.1)
    found = {
        one["arm"]: one for one in standings(rows, ["x", "bo", "y"], reference="bo")["differences"] if one["measure"] == "best"
    }
    assert found["x"]["mean"] == pytest.approx(0.05)
    assert found["x"]["low"] == pytest.approx(0.05)
    assert (found["x"]["verdict"], found["y"]["verdict"]) == ("better", "worse")


def test_never_worse_means_on_no_lab_beyond_the_interval():
    shares = {"a": {"x": 0.9, "bo": 0.5, "y": 0.9}, "b": {"x": 0.6, "bo": 0.5, "y": 0.4}}
    verdicts = standings(table(shares), ["x", "bo", "y"], reference="bo")["verdicts"]
    told = {one["arm"]: one for one in verdicts if one["measure"] == "batch_mean"}
    assert told["x"]["never_worse"]
    assert (told["y"]["better"], told["y"]["worse"], told["y"]["never_worse"]) == (1, 1, False)
    assert told["y"]["worse_on"] == ["b, 100 to start"]
    once = standings(table(shares, seeds=1), ["x", "bo", "y"], reference="bo")
    assert not any(one["never_worse"] for one in once["verdicts"])  # one seed tells of no interval


def test_that_an_arm_is_nowhere_worse_is_not_told_of_what_is_undecided():
    rows = table({"a": {"x": 0.5, "bo": 0.5}, "b": {"x": 0.6, "bo": 0.5}})
    rows.loc[(rows["arm"] == "x") & (rows["lab"] == "a"), "batch_mean_share"] += rows["seed"] % 2 / 5 - 0.1
    summary = standings(rows, ["x", "bo"], reference="bo")
    told = {one["measure"]: one for one in summary["verdicts"]}
    assert (told["batch_mean"]["better"], told["batch_mean"]["undecided"]) == (1, 1)
    assert "1 / 1 / 0 / 0 | not seen, 1 undecided" in markdown(summary, title="two labs")


def test_what_an_arm_is_worth_is_told_in_wells():
    rows = table({"a": {"x": 0.8, "bo": 0.8, "late": 0.8, "lost": 0.8}}, rounds=3)
    for arm, path in {"x": [0.5, 0.9, 0.9], "bo": [0.5, 0.7, 0.8], "late": [0.1, 0.1, 0.6], "lost": [0.5, 0.6, np.nan]}.items():
        rows.loc[rows["arm"] == arm, "top10_mean_share"] = path * 5
    found = {one["arm"]: one for one in standings(rows, ["x", "bo", "late", "lost"], reference="bo")["wells"]}
    assert set(found) == {"x", "late", "lost"}
    assert found["x"]["mean"] == pytest.approx(36 - 21)  # three quarters of the way from .5 to .9, in the second of plates of 12
    assert found["late"]["mean"] == pytest.approx(18 - 36)
    assert found["lost"]["mean"] is None
    assert found["x"]["wells"] == 36
    assert found["x"]["low"] == pytest.approx(15)  # five equal seeds
    whole = standings(rows[rows["arm"].isin(["bo", "x"])], ["bo", "x"], reference="x")["wells"]
    assert [one["mean"] for one in whole] == [pytest.approx(21 - 36)]
    assert "+15 [+15, +15]" in markdown(standings(rows, ["x", "bo", "late", "lost"], reference="bo"), title="wells")


def test_an_arm_without_a_result_comes_last_and_is_not_called_better():
    rows = table({"a": {"x": 0.9, "bo": 0.5}})
    rows = rows[~((rows["arm"] == "x") & (rows["seed"] == 3))]
    found = standings(rows, ["x", "bo"], reference="bo")
    assert [row["batch_mean"]["mean"] for row in found["ranks"]] == [2.0, 1.0]
    assert {one["verdict"] for one in found["differences"]} == {"failed"}


def test_intervals_are_students_and_of_the_mean():
    rng = np.random.default_rng(0)
    covered = [low <= 0 <= high for _, low, high in (interval(rng.normal(size=5)) for _ in range(2000))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)
    assert np.isnan(interval(np.array([1.0]))[1])


def test_nothing_that_json_cannot_hold_is_in_a_summary(quick):
    json.dumps(quick[0].summary, allow_nan=False)
    json.dumps(standings(table({"a": {"x": 0.5}}, seeds=1), ["x"], reference="bo"), allow_nan=False)


def test_markdown_and_page_hold_the_same_numbers(quick):
    result, out = quick
    text, html = (out / "study.md").read_text(), (out / "study.html").read_text()
    for number in set(re.findall(r"\d\.\d\d\d", text)):
        assert number in html
    assert "| ridge |" in text
    assert markdown(result.summary, title="a|b").startswith("# a|b")


def test_the_page_asks_the_network_for_nothing_and_escapes_names(quick):
    result, out = quick
    html = (out / "study.html").read_text()
    assert "default-src" in html
    assert not re.search(r"""(?:src|href)\s*=\s*["']?https?:""", html)
    evil = page.render(result.summary, title="<script>alert(1)</script>", failures=["<img src=x>"])
    assert "<script>alert(1)" not in evil
    assert "<img src=x>" not in evil
    assert page.render(result.summary, title="quick") == page.render(result.summary, title="quick")


def test_figures_of_a_study_follow_the_vega_lite_schema(quick):
    found = quick[0].summary
    drawn = page._ranks(found, "batch_mean"), page._differences(found, "batch_mean"), page._curves(found["curves"], found["arms"])
    for spec in drawn:
        few = {name: rows[:2] for name, rows in spec["datasets"].items()}
        assert alt.LayerChart.from_dict({**spec, "datasets": few}, validate=True).layer


# ---- the bench of a lab's campaign

BENCHES = {
    "replicates": {"plate": {"wells": 96, "replicates": 2}},
    "limits": {"limits": {"temperature": {"per": "round", "at_most": 1}}},
    "prices": {"prices": {"design": 2, "well": 0.5}},
    "budget": {"budget": {"wells": 12}},
}


def on_a_bench(tmp_path, *, write=True, **bench):
    """A study of one lab, whose campaign has rules of a bench."""
    path = tmp_path / "run.yaml"
    raw = read_yaml(CAMPAIGNS / "arylation.yaml").values
    if write:
        path.write_text(json.dumps({**raw, **bench}))
    return config(labs={"arylation": {"campaign": path}}, starts=[12], seeds=1, rounds=2, batch=8)


@pytest.mark.parametrize("bench", BENCHES.values(), ids=BENCHES)
def test_a_study_keeps_the_bench_as_simulate_does(tmp_path, bench):
    told = on_a_bench(tmp_path, **bench)
    found = study(told).rows
    alone = simulate(
        told.labs["arylation"].campaign, "arylation", start=12, rounds=2, batch=8, seeds=1, arms=["random", "mutate"]
    )
    names = [one for one in ("arm", "round", "n_wells", "batch_mean", "best", "price", "note") if one in alone]
    pd.testing.assert_frame_equal(
        found.sort_values(["arm", "round"])[names].reset_index(drop=True),
        alone.sort_values(["arm", "round"])[names].reset_index(drop=True), check_dtype=False,
    )  # fmt: skip
    (bare,) = {job.key for job in jobs(on_a_bench(tmp_path), arms=["random"])}
    (bound,) = {job.key for job in jobs(on_a_bench(tmp_path, **bench), arms=["random"])}
    assert bare != bound


def test_a_campaign_that_its_budget_ends_early_has_come_to_something(tmp_path):
    result = study(on_a_bench(tmp_path, budget={"wells": 12}))
    assert result.rows.groupby("arm")["n_wells"].agg(list).tolist() == [[8, 0], [8, 0]]
    made = result.rows[result.rows["round"] == 1].set_index("arm")
    for row in result.summary["differences"]:
        assert row["verdict"] == "undecided"
        share = made[f"{row['measure']}_share"]
        assert row["mean"] == pytest.approx(share["mutate"] - share["random"])


def test_several_properties_keep_what_they_came_to_when_the_budget_ends(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(json.dumps({**read_yaml(CAMPAIGNS / "branincurrin.yaml").values, "budget": {"wells": 4}}))
    told = config(labs={"branincurrin": {"campaign": path}}, starts=[10], batch=4, seeds=1, quantile=1.0, arms=["random"])
    rows = study(told.model_copy(update={"reference": None})).rows
    assert rows["hypervolume"].nunique() == 1
    assert rows["best_share"].tolist() == [rows["best_share"].iloc[0]] * 2


def test_a_study_knows_what_the_history_of_a_campaign_knows(tmp_path):
    told = on_a_bench(tmp_path, history={"file": "old.csv", "value": "yield"})
    lab = create("labs", "arylation", {})
    designs, values = lab.table()
    designs.assign(**{"yield": values}).head(30).to_csv(tmp_path / "old.csv", index=False)
    (job,) = jobs(told, arms=["random"])
    assert [len(one["table"]["y"]) for one in job.history] == [30]
    assert Job.model_validate(json.loads(job.model_dump_json())).key == job.key
    designs.assign(**{"yield": values}).head(31).to_csv(tmp_path / "old.csv", index=False)
    (other,) = jobs(told, arms=["random"])
    assert other.key != job.key


@pytest.mark.parametrize(
    ("bench", "said"),
    [
        ({"plate": {"wells": 96, "replicates": 3}}, "labs.arylation: campaign arylation: a batch of 8 wells holds no whole"),
        ({"budget": {"wells": 6}}, "a batch of 8 wells is more than the budget's 6"),
        ({"budget": {"price": 3}, "prices": {"well": 1}}, "a batch of 8 wells costs 8 at least, more than the budget's 3"),
        ({"limits": {"temperature": {"total": 8, "per": "round"}}}, "labs.arylation: campaign arylation: limits: temperature"),
        ({"history": {"file": "gone.csv"}}, "labs.arylation: campaign arylation: .*gone.csv"),
    ],
)
def test_a_bench_that_no_batch_of_a_study_can_keep_is_refused_with_the_lab(tmp_path, bench, said):
    with pytest.raises(ConfigError, match=said):
        jobs(on_a_bench(tmp_path, **bench))
