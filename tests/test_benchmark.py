"""The Design-Bench protocol: what methods see, how designs are scored, what is kept and what is told."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from labloop.cli import main
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, MethodError
from labloop.registry import parse_plugin
from labloop.runtime.progress import listening
from labloop.seeds import generator
from labloop.studies import benchmark as module
from labloop.studies import tasks as tasks_module
from labloop.studies.benchmark import COLUMNS, Job, benchmark, ensure, finished, jobs, open_task
from labloop.studies.ranking import markdown, mean_ranks, summary
from labloop.studies.simulate import simulate
from labloop.studies.tasks import STANDARD_TASKS, View

FAST = {"baselines": False, "in_process": True}


@pytest.fixture(scope="module")
def task():
    return open_task("tfbind8")


@pytest.fixture
def small(tmp_path):
    """A complete table of 4-mers as a task: the share of G, and A at the front counts half a letter."""
    words = ["".join(np.array(list("ACGT"))[codes]) for codes in np.ndindex(4, 4, 4, 4) for codes in [list(codes)]]
    value = [word.count("G") + 0.5 * word.startswith("A") for word in words]
    pd.DataFrame({"dna": words, "value": value}).to_csv(tmp_path / "small.csv", index=False)
    return f"lookup:{tmp_path / 'small.csv'}"


@pytest.fixture
def runs(monkeypatch):
    """Every job that really runs."""
    seen = []
    really = Job.run
    monkeypatch.setattr(Job, "run", lambda self: seen.append(self) or really(self))
    return seen


# ---- the protocol


def test_tfbind8_shows_the_papers_rows_and_counts_strands_apart(task):
    data = task.data()
    assert task.space.size == 65_536
    assert not task.space.symmetries
    assert len(task.values) == 32_898
    assert len(data) == 32_768
    assert data.y.max() == pytest.approx(0.43930, abs=5e-6)
    assert np.isnan(data.sem).all()  # a palindrome listed twice is no replicate
    assert (data.n_replicates == 1).all()


def test_chance_scores_as_published(task):
    """128 of all designs: 0.937 ± 0.038; of the hidden half, where a proposer draws from: 0.960 ± 0.025 (400 draws each)."""
    scores = task.scores(task.space.listing())
    rng = generator(0, "chance")
    for among, mean, sd in ((scores, 0.937, 0.038), (scores[scores > task.values.max()], 0.960, 0.025)):
        best = np.array([rng.choice(among, 128, replace=False).max() for _ in range(400)])
        assert best.mean() == pytest.approx(mean, abs=0.006)
        assert best.std() == pytest.approx(sd, abs=0.006)


def test_a_row_holds_the_protocols_numbers(task):
    table = benchmark(["tfbind8"], ["random"], [3], q=40, **FAST)
    assert tuple(table.columns) == COLUMNS
    row = table.iloc[0]
    assert (row["task"], row["method"], row["seed"], row["n_unique"], row["share_in_data"]) == ("tfbind8", "random", 3, 40, 0.0)
    assert task.values.max() < row["median"] < row["max"] <= 1.0
    assert row["seconds"] >= 0
    assert row["cpu_seconds"] >= 0
    assert 20 < row["peak_mb"] < 20_000


def test_repeats_and_known_designs_are_counted_not_trusted(task, monkeypatch):
    class Cheat:
        def propose(self, data, n, *, seed):
            from labloop.proposing.pool import Pool

            return Pool.of(data.space, np.repeat(data.X[data.top(2)], n // 2, axis=0), np.zeros(n), proposer="cheat")

    monkeypatch.setattr(module, "create", lambda kind, name, options=None: Cheat())
    monkeypatch.setattr(module, "open_task", lambda *_: task)
    row = Job(task="tfbind8", method="cheat", seed=0, q=8).run()
    assert row["n_unique"] == 2
    assert row["share_in_data"] == 1.0
    assert row["max"] == pytest.approx(0.43930, abs=5e-6)


def test_fraction_and_noise_change_what_is_seen_by_seed_and_never_the_score(task):
    whole = dict(zip((data := task.data()).ids, data.y, strict=True))
    sparse = task.data(fraction=0.01, seed=1)
    assert 320 < len(sparse) <= 328  # 1 % of 32,898 rows, repeated rows once
    assert all(whole[one] == y for one, y in zip(sparse.ids, sparse.y, strict=True))
    assert sparse.ids == task.data(fraction=0.01, seed=1).ids
    assert sparse.ids != task.data(fraction=0.01, seed=2).ids
    noisy = task.data(noise=0.1, seed=1)
    assert noisy.ids == data.ids
    assert (noisy.y - data.y).std() == pytest.approx(0.1, rel=0.05)
    assert noisy.y.min() < 0  # not clipped
    assert np.array_equal(noisy.y, task.data(noise=0.1, seed=1).y)
    assert not np.array_equal(noisy.y, task.data(noise=0.1, seed=2).y)
    quiet, loud = (benchmark(["tfbind8"], ["random"], 1, q=16, noise=noise, **FAST) for noise in (0.0, 0.5))
    assert quiet["max"].equals(loud["max"])  # random does not look at values


def test_equal_seeds_give_equal_scores_and_other_seeds_others(small):
    first, again = (benchmark([small], ["mutate"], 3, q=10, **FAST) for _ in range(2))
    scores = ["max", "median", "mean"]
    assert first[scores].equals(again[scores])
    assert first["mean"].nunique() > 1


def test_any_complete_table_is_a_task_with_its_worse_half_visible(small):
    task = open_task(small)
    assert len(task.space.listing()) == 256
    assert (task.low, task.high) == (0.0, 4.0)
    assert task.values.max() == 1.0  # the median
    table = benchmark([small], ["random", "mutate"], 2, q=5, **FAST)
    assert (table["max"] > 0.25).all()


def test_options_come_after_slashes_and_make_another_method(small):
    assert parse_plugin("coms/epochs=20/tau=2.5/device=cpu") == ("coms", {"epochs": 20, "tau": 2.5, "device": "cpu"})
    table = benchmark([small], ["mutate", "mutate/parents=1/two_steps=0"], 1, q=5, **FAST)
    assert table["method"].tolist() == ["mutate", "mutate/parents=1/two_steps=0"]
    one = Job(task=small, method="mutate/parents=1/two_steps=0", seed=0)
    assert one.key == Job(task=small, method="mutate/two_steps=0/parents=1", seed=0).key
    assert one.key != Job(task=small, method="mutate", seed=0).key


def test_the_free_baselines_always_run_unless_told_otherwise(small, monkeypatch, caplog):
    monkeypatch.setattr(module, "BASELINES", ("random", "mutate", "needs_more"))
    missing = MethodError("proposer 'needs_more' needs the package 'torch'")

    def create(kind, name, options=None, really=module.create):
        if name == "needs_more":
            raise missing
        return really(kind, name, options)

    monkeypatch.setattr(module, "create", create)
    with caplog.at_level(logging.WARNING, "labloop"):
        assert [job.method for job in jobs([small], ["mutate/parents=2"], 1)] == ["mutate/parents=2", "random", "mutate"]
    assert "needs_more is left out" in caplog.text
    assert [job.method for job in jobs([small], ["mutate"], 1, baselines=False)] == ["mutate"]


# ---- arms of a round as methods

ROUND = {
    "arms": {
        "near": {"proposers": "mutate", "selector": {"conservative": {"beta": 0.0, "refine": 2}}, "wells": 3, "pool": 20},
        "free": {"proposers": ["random", "mutate"]},
    },
    "judge": "gp",
}


def test_an_arm_of_a_round_fills_a_plate_by_its_judge_and_stands_beside_methods(small):
    config = RoundConfig(**ROUND)
    table = benchmark([small], ["near", "mutate", "free"], 3, q=8, round_config=config, **FAST)
    assert list(dict.fromkeys(table["method"])) == ["near", "mutate", "free"]
    assert (table["n_unique"] == 8).all()  # the whole plate, whatever its wells in the round
    mean = table.groupby("method")["mean"].mean()
    assert mean["near"] > mean["mutate"] + 0.1  # the judge sees that letters add up
    again = benchmark([small], ["near"], 3, q=8, round_config=config, **FAST)
    assert again["mean"].tolist() == table[table["method"] == "near"]["mean"].tolist()


def test_an_arm_is_known_by_its_configuration_which_travels_as_json(small, tmp_path):
    config = RoundConfig(**ROUND)
    (job,) = jobs([small], ["free"], 1, q=5, baselines=False, round_config=config)
    there = Job(**json.loads(json.dumps(asdict(job))))
    assert ensure(there, tmp_path, in_process=True)["median"] == job.run()["median"]
    other = config.model_copy(update={"judge": {"auto": {}}})
    assert job.key != jobs([small], ["free"], 1, q=5, baselines=False, round_config=other)[0].key
    assert job.key in finished(tmp_path)


def test_arms_of_the_shipped_round_are_there_and_unknown_ones_are_told_them(small):
    assert [job.method for job in jobs([small], ["offline", "bo"], 1, baselines=False)] == ["offline", "bo"]
    for method, message in (
        ("offlin", "'offlin' is unknown.*arms of the round: offline, bo, free"),
        ("offline/pool=3", "offline is an arm, whose options stand in the round's file"),
    ):
        with pytest.raises(ConfigError, match=message):
            jobs([small], [method], 1)
    mine = {"proposers": {"mutate": {"luck": 1}}}
    with pytest.raises(ConfigError, match="luck"):
        jobs([small], ["mine"], 1, round_config=RoundConfig(arms={"mine": mine}))


def test_an_arm_that_chooses_by_a_judge_needs_one(small):
    config = RoundConfig(arms={"mine": {"proposers": "random", "selector": "conservative"}}, judge=None)
    message = "arms.mine.selector: conservative chooses by what a judge says, and this round has none"
    with pytest.raises(ConfigError, match=message):
        jobs([small], ["mine"], 1, round_config=config)
    with pytest.raises(ConfigError, match=message):
        simulate("config/campaigns/tfbind8.yaml", "tfbind8", round_config=config)


# ---- tasks with options, and labs without a table


def test_a_task_says_what_is_seen_of_it_and_else_the_benchmark_does():
    told = {"q": 8, "fraction": 0.5, "noise": 0.2}
    plain, own = View.of("tfbind8", **told), View.of("tfbind8/noise=0.1/q=16/fraction=0.01", **told)
    assert (plain.task, plain.label, plain.q, plain.fraction, plain.noise) == ("tfbind8", "tfbind8", 8, 0.5, 0.2)
    assert (own.task, own.q, own.fraction, own.noise) == ("tfbind8", 16, 0.01, 0.1)
    found = jobs(["tfbind8/q=16"], ["random"], 1, fraction=0.5, baselines=False)[0]
    assert found.key == jobs(["tfbind8"], ["random"], 1, fraction=0.5, q=16, baselines=False)[0].key
    assert found.label == "tfbind8/q=16"
    one, other = (View.of(f"ehrlich/{options}/q=4") for options in ("length=9/letters=4", "letters=4/length=9"))
    assert one.task == other.task == "ehrlich/length=9/letters=4"


def test_a_file_in_folders_takes_options_too(small):
    view = View.of(f"{small}/value=value/q=3")
    assert (view.task, view.q) == (f"{small}/value=value", 3)
    assert open_task(view.task).high == 4.0


def test_the_standard_tasks_are_there_and_rank_together(tmp_path):
    assert [job.label for job in jobs(["standard", "tfbind8"], ["random"], 1, baselines=False)] == list(STANDARD_TASKS)
    tasks = ["tfbind8/fraction=0.01/q=4", "tfbind8/noise=0.1/q=4"]
    table = benchmark(tasks, ["random", "mutate"], 2, out=tmp_path, **FAST)
    assert list(dict.fromkeys(table["task"])) == tasks
    assert "| tfbind8/fraction=0.01/q=4 | tfbind8/noise=0.1/q=4 |" in (tmp_path / "benchmark.md").read_text()


def test_a_lab_without_a_table_shows_the_worse_half_of_a_survey(monkeypatch):
    monkeypatch.setattr(tasks_module, "SURVEY", 300)
    open_task.cache_clear()
    task = open_task("ehrlich/length=8/letters=4/motifs=1")
    open_task.cache_clear()
    again = open_task("ehrlich/length=8/letters=4/motifs=1")
    open_task.cache_clear()
    assert (task.low, task.high) == (0.0, 1.0)
    assert 100 < len(task.values) <= 300
    assert task.values.max() < 1.0
    assert task.designs.equals(again.designs)
    table = benchmark(["ehrlich/length=8/letters=4/motifs=1/q=20"], ["random"], 1, **FAST)
    assert 0 < table["share_without_value"][0] < 1  # a banned transition: its well fails
    assert table["mean"][0] < 1


def test_more_than_the_worse_half_can_be_visible(small):
    half, most = open_task(small), open_task(f"{small}/visible=0.9")
    assert len(half.values) < len(most.values) < 256
    assert most.values.max() == 2.0
    assert (half.low, half.high) == (most.low, most.high)


def test_a_lab_whose_values_are_to_become_small_hides_the_small_ones():
    low, high = open_task("oer/direction=min"), open_task("oer")
    assert low.values.max() < 0  # the overpotential, its sign turned
    assert low.scores(low.space.encode(low.designs)).max() == pytest.approx(low.normalised(low.values.max()))
    worst, best = low.space.ids(low.space.encode(low.designs)), high.space.ids(high.space.encode(high.designs))
    assert len(set(worst) & set(best)) < 0.1 * len(worst)


# ---- running and resuming


def test_what_is_finished_is_not_run_again(small, tmp_path, runs, caplog):
    setting = {"q": 6, "out": tmp_path / "kept", **FAST}
    first = benchmark([small], ["random"], 2, **setting)
    assert len(runs) == 2
    again = benchmark([small], ["random"], 2, **setting)
    assert len(runs) == 2
    assert again.equals(first)
    assert "2 of 2 jobs were finished before" in caplog.text
    more = benchmark([small], ["random", "mutate"], 3, **setting)
    assert len(runs) == 6
    assert len(more) == 6
    for other in ({"q": 7}, {"fraction": 0.5}, {"noise": 0.1}):
        benchmark([small], ["random"], 1, **{**setting, **other})
    assert len(runs) == 9


def test_a_table_that_has_changed_is_another_task(small, tmp_path, runs):
    path = tmp_path / "small.csv"
    setting = {"q": 6, "out": tmp_path / "kept", **FAST}
    first = benchmark([small], ["random"], 1, **setting)
    rows = path.read_bytes()
    pd.read_csv(path).assign(value=lambda table: 9.0 - table["value"] ** 2).to_csv(path, index=False)
    other = benchmark([small], ["random"], 1, **setting)
    assert len(runs) == 2
    assert other["mean"][0] != first["mean"][0]
    path.write_bytes(rows)
    assert benchmark([small], ["random"], 1, **setting).equals(first)
    assert len(runs) == 2
    assert {job.content for job in jobs(["tfbind8", "oer"], ["random"], 1)} == {""}  # so that what was kept of them stays


def test_labels_that_mean_the_same_run_once_and_keep_their_names(small, tmp_path, runs):
    names = ["mutate/parents=1/two_steps=0", "mutate/two_steps=0/parents=1"]
    for setting in ({**FAST}, {**FAST, "out": tmp_path / "kept"}):
        table = benchmark([small], names, 1, q=5, **setting)
        assert table["method"].tolist() == names
        assert table["max"].nunique() == 1
    assert len(runs) == 2
    assert len(finished(tmp_path / "kept")) == 1


def test_an_interrupted_run_goes_on_where_it_stopped(small, tmp_path, runs, monkeypatch, caplog):
    setting = {"q": 6, "out": tmp_path / "kept", **FAST}
    counted = Job.run

    def interrupted(job):
        if job.seed == 2:
            raise KeyboardInterrupt
        return counted(job)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            benchmark([small], ["random"], 4, **setting)
    with (tmp_path / "kept" / "results.jsonl").open("a") as file:
        file.write('{"key": "cut o')
    table = benchmark([small], ["random"], 4, **setting)
    assert [job.seed for job in runs] == [0, 1, 2, 3]
    assert table["seed"].tolist() == [0, 1, 2, 3]
    assert "line 3 is cut off" in caplog.text
    assert len(finished(tmp_path / "kept")) == 4


def test_a_line_that_is_no_result_is_left_out_and_its_job_runs_again(small, tmp_path, runs, caplog):
    setting = {"q": 6, "out": tmp_path, **FAST}
    first = benchmark([small], ["random"], 2, **setting)
    path = tmp_path / "results.jsonl"
    kept, lost = path.read_bytes().splitlines()
    half = json.dumps({"key": json.loads(lost)["key"], "max": 1.0}).encode()
    path.write_bytes(b"\n".join([b"[]", b'{"a": 1}', b"null", b"\xff\xfe", kept, half, b""]))
    again = benchmark([small], ["random"], 2, **setting)
    assert len(runs) == 3
    pd.testing.assert_frame_equal(*(one[["seed", "max", "median"]] for one in (again, first)))
    assert [f"line {i} is cut off or damaged" in caplog.text for i in range(1, 8)] == [True] * 4 + [False, True, False]


def test_a_job_in_a_process_of_its_own_scores_the_same(small, tmp_path):
    job = Job(task=small, method="fakes:Near/shift=1", seed=4, q=5)
    apart, here = ensure(job, tmp_path / "kept"), job.run()
    same = set(here) - {"seconds", "cpu_seconds", "peak_mb"}
    assert {name: apart[name] for name in same} == {name: here[name] for name in same}
    assert 20 < apart["peak_mb"] < 2_000


def test_a_job_that_fails_says_which_and_why(small, tmp_path):
    for in_process in (True, False):
        with pytest.raises(MethodError, match="new designs asked for"):
            ensure(Job(task=small, method="random", seed=0, q=250), tmp_path, in_process=in_process)
    with pytest.raises(RuntimeError, match=r"random on .*small\.csv, seed 0 broke:\n[^$]*TypeError"):
        module.run_apart(Job(task=small, method="random", seed=0, noise="loud"))
    assert finished(tmp_path) == {}


def test_jobs_that_fail_leave_all_others_their_rows(small, tmp_path, monkeypatch):
    def fragile(job, run=Job.run):
        if job.method == "mutate":
            raise MethodError("mutate broke")
        return run(job)

    told = {"q": 4, "baselines": False, "in_process": True, "out": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(Job, "run", fragile)
        with pytest.raises(MethodError, match=r"^2 of 4 jobs failed, all others are kept in .*: mutate broke; and 1 more$"):
            benchmark([small], ["mutate", "random"], 2, **told)
    assert len(finished(tmp_path)) == 2
    assert "random" in (tmp_path / "benchmark.md").read_text()
    assert benchmark([small], ["mutate", "random"], 2, **told)["method"].tolist() == ["mutate", "mutate", "random", "random"]


def test_progress_is_told_job_by_job(small):
    told = []
    with listening(lambda label, done, total: told.append((done, total)) if label == "benchmark" else None):
        benchmark([small], ["random"], 3, q=4, **FAST)
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("tasks", "methods", "setting", "message"),
    [
        (["moon"], ["random"], {}, "task 'moon' is unknown; there are: .*tfbind8"),
        (["tfbind8"], ["luck"], {}, "'luck' is unknown"),
        (["tfbind8"], ["mutate/luck=1"], {}, r"luck.*options: parents"),
        (["tfbind8"], ["mutate/parents"], {}, "name/option=value"),
        (["tfbind8"], ["mutate/parents=[1"], {}, "cannot be read"),
        ([], ["random"], {}, "at least one task"),
        (["tfbind8"], [], {"baselines": False}, "needs a method"),
        (["tfbind8"], ["random"], {"seeds": 0}, "seeds is 0: give a whole number, 1 or more"),
        (["tfbind8"], ["random"], {"q": 0}, "q of at least 1"),
        (["tfbind8"], ["random"], {"fraction": 0.0}, "fraction"),
        (["tfbind8"], ["random"], {"noise": -1.0}, "noise"),
        (["tfbind8"], ["random"], {"noise": float("inf")}, "a finite noise"),
        (["tfbind8/q=2.5"], ["random"], {}, "q is a whole one"),
        (["tfbind8/q=.inf"], ["random"], {}, "q is a whole one"),
        (["tfbind8/noise=loud"], ["random"], {}, "fraction and noise are numbers"),
        (["tfbind8/q=0"], ["random"], {}, "q of at least 1"),
        (["oer/direction=down"], ["random"], {}, "direction is min or max"),
        (["oer/visible=1.5"], ["random"], {}, "visible is a share between 0 and 1"),
        (["tfbind8/visible=0.8"], ["random"], {}, "not for tasks of Design-Bench"),
        (["tfbind8/sparse"], ["random"], {}, "name/option=value"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(tasks, methods, setting, message, runs):
    with pytest.raises(ConfigError, match=message):
        benchmark(tasks, methods, **{**FAST, **setting})
    assert runs == []


# ---- the table


def results():
    scores = {"good": [(0.9, 0.8), (1.0, 0.6)], "bad": [(0.5, 0.4), (0.7, 0.5)], "lucky": [(1.0, 0.2), (0.8, 0.5)]}
    common = {
        "n_unique": 128,
        "share_in_data": 0.0,
        "seconds": 1.0,
        "cpu_seconds": 2.0,
        "peak_mb": 100.0,
        "q": 128,
        "fraction": 0.01,
    }
    return pd.DataFrame(
        [
            {"task": task, "method": method, "seed": seed, "max": best, "median": median, "mean": median, **common,
             "noise": 0.1, "n_visible": 32_898, "best_visible": 0.4393}
            for task in ("one", "two") for method, pairs in scores.items() for seed, (best, median) in enumerate(pairs)
        ]
    )  # fmt: skip


def test_the_summary_ranks_within_task_and_seed():
    found = summary(results())
    assert found["task"].tolist() == ["one"] * 3 + ["two"] * 3
    one = found[found["task"] == "one"].set_index("method")
    assert one.index.tolist() == ["good", "bad", "lucky"]  # best median first
    assert one.loc["good", "max"] == pytest.approx(0.95)
    assert one.loc["good", "max_sd"] == pytest.approx(np.std([0.9, 1.0], ddof=1))
    assert one["rank_median"].tolist() == [1.0, 2.25, 2.75]  # seed 1 ties bad and lucky on places 2 and 3
    assert one["rank_max"].tolist() == [1.5, 3.0, 1.5]


def test_the_markdown_table_tells_the_protocol_and_the_numbers():
    text = markdown(results())
    assert "## one" in text
    assert "Q = 128 designs, 2 seeds, mean ± sd; 32,898 visible rows, the best of them 0.439; 1.00% of these shown" in text
    assert "noise of 0.1" in text
    assert "| good | 0.950 ± 0.071 | 0.700 ± 0.141 | 0.700 ± 0.141 | 1.5 | 1.0 | 128 | 0.0% | 1.0 | 2.0 | 100 |" in text
    assert text.index("| good |") < text.index("| bad |") < text.index("| lucky |")
    assert "## Over tasks" in text
    assert "| good | 1.0 (1.0 to 1.0) | 1.5 (1.0 to 2.0) | 0.700 | 0.700 |" in text
    assert text.index("| bad | 2.2") < text.index("| lucky | 2.8")
    alone = markdown(results().query("seed == 0 and task == 'one'"))
    assert "| good | 0.900 |" in alone
    assert "Over tasks" not in alone
    assert markdown(results().replace("good", "mutate").replace("lucky", "random")).count("| mutate |") == 3  # baselines lead
    lost = markdown(results().assign(share_without_value=lambda rows: 0.5 * (rows["method"] == "bad")))
    assert "Designs that have no value here count as 0: bad 50.0%." in lost


def test_each_landscape_counts_once_in_the_mean_rank():
    """Two views of one landscape, in which a is first, and one of another, in which b is."""
    rows = [
        {"task": task, "landscape": land, "method": method, "seed": seed, "median": score, "max": score}
        for task, land, scores in (("x", "one", (2, 1)), ("x/q=16", "one", (2, 1)), ("y", "two", (1, 2)))
        for method, score in zip(("a", "b"), scores, strict=True) for seed in range(2)
    ]  # fmt: skip
    found = mean_ranks(pd.DataFrame(rows)).set_index("method")
    assert found.loc["a", "rank_median"] == found.loc["b", "rank_median"] == 1.5
    assert (found["rank_max_low"] == 1).all()
    assert (found["rank_max_high"] == 2).all()  # by chance one landscape alone is drawn
    one = mean_ranks(pd.DataFrame(rows).query("task == 'y' and seed == 0"))
    assert one["rank_max_low"].isna().all()  # one landscape and one seed tell of no spread
    alone = mean_ranks(pd.DataFrame([row for row in rows if (row["task"], row["method"]) != ("y", "b")])).set_index("method")
    assert alone.loc["b", "rank_median"] == 2.0  # on the landscape that it took part in
    assert alone["tasks"].tolist() == [3, 2]


def test_the_command_prints_one_object_a_job_and_keeps_the_table(small, tmp_path, capsys):
    arguments = [
        "benchmark",
        "--tasks",
        small,
        "--methods",
        "mutate",
        "--seeds",
        "2",
        "-q",
        "4",
        "--no-baselines",
        "--in-process",
    ]
    arguments += ["-o", str(tmp_path / "table")]
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [tuple(row) for row in rows] == [COLUMNS] * 2
    assert [row["seed"] for row in rows] == [0, 1]
    assert "| mutate |" in (tmp_path / "table" / "benchmark.md").read_text()
    assert main(arguments) == 0
    assert "mutate" in capsys.readouterr().out
    assert main(["benchmark", "--tasks", "moon", "--methods", "random"]) == 1
    assert "'moon' is unknown" in capsys.readouterr().err.replace("\n", " ")


def test_all_is_every_method_that_takes_the_designs_the_baselines_first(small, monkeypatch, caplog):
    labs = module.available("labs")
    proposers = dict.fromkeys(["mutate", "gp_mean", "fussy", "random"])
    monkeypatch.setattr(module, "available", lambda kind: proposers if kind == "proposers" else labs)
    monkeypatch.setattr(module, "BASELINES", ("random", "needs_more"))
    kinds = {"fussy": ["real"], "mutate": ["any"], "gp_mean": ["any"], "random": ["sequence", "choice"]}
    monkeypatch.setattr(module, "describe", lambda kind, name: {"kinds": kinds[name]})

    def make(kind, name, options=None, really=module.create):
        if kind == "proposers" and name == "needs_more":
            raise MethodError("needs more")
        return really(kind, name, options) if kind == "labs" else None

    monkeypatch.setattr(module, "create", make)
    found = jobs([small], ["all", "mutate/parents=3"], [0])
    assert [job.method for job in found] == ["gp_mean", "random", "mutate", "mutate/parents=3"]
    assert "fussy is left out" in caplog.text
    assert "needs_more is left out" in caplog.text
