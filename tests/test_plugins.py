"""A file never chooses what code runs: what is loaded is registered, or allowed outside of the file, and proved before a call.

What a plug-in answers is proved as well."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import Field

from labloop import registry
from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, MethodError
from labloop.proposing.contracts import asking, prediction_of
from labloop.registry import create, load
from labloop.runtime.allowance import VARIABLE, allow, allowed
from labloop.studies.benchmark import Job
from labloop.studies.simulate import draw_start, open_lab, simulate
from labloop.testing import TOY_SPACES, toy_data

CAMPAIGN = preset("campaigns/tfbind8.yaml").read_text()
SMALL = "name: c\nspace: {parameters: [{type: sequence, name: s, length: 4}]}\n"
MINE = """
from pathlib import Path

from labloop.registry import plugin
from labloop.proposing.selectors import AsProposed

Path(__file__).with_name("imported").touch()


@plugin
class Mine:
    '''Selects as proposed.'''

    def select(self, pool, posterior, data, n, *, seed):
        return AsProposed().select(pool, posterior, data, n, seed=seed)


class Bare:
    def __init__(self, **_):
        Path(__file__).with_name("called").touch()

    def select(self, pool, posterior, data, n, *, seed): ...


class Child(Mine):
    pass


def make(**_):
    Path(__file__).with_name("called").touch()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder that Python finds, with a module `mine_apart` that says when it is imported and called; nothing is allowed."""
    (tmp_path / "mine_apart.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("mine_apart", None)


def touching(place: Path) -> dict:
    return {"subprocess:run": {"args": ["touch", str(place)]}}


def run(capsys, *arguments, code=0) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


# ---- files


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        ("round", "arms:\n  free:\n    proposers:\n      - random\n      - NAME:\n          args: [touch, PWNED]\n", 5),
        ("round", "arms:\n  free:\n    proposers: random\n    selector: {'NAME': {args: [touch, PWNED]}}\n", 4),
        ("round", "arms:\n  free: {proposers: random}\njudge: NAME\n", 3),
        ("campaign", SMALL + "plate:\n  exports:\n    NAME: {args: [touch, PWNED]}\n", 5),
        ("campaign", SMALL + "assays:\n  assay:\n    reader: NAME\n", 5),
        ("campaign", SMALL + "schedule:\n  rounds:\n  - arms: {a: {proposers: ['NAME']}}\n", 5),
    ],
    ids=["proposer", "selector", "judge", "exporter", "reader", "round within a schedule"],
)
@pytest.mark.parametrize("name", ["subprocess:run", "mine_apart:make", "mine_apart:Mine"])
def test_check_refuses_a_file_that_names_code_tells_its_line_and_runs_nothing(mine, capsys, kind, text, line, name):
    (mine / "campaign.yaml").write_text(SMALL)
    (mine / f"{kind}.yaml").write_text(text.replace("NAME", name))
    names = ["campaign.yaml"] if kind == "campaign" else ["campaign.yaml", "round.yaml"]
    there = sorted(mine.iterdir())
    said = " ".join(run(capsys, "check", *names, code=1).split())
    assert f"{names[-1]}: line {line}, " in said
    assert name in said
    assert f"--plugins {name.partition(':')[0]}" in said
    assert sorted(mine.iterdir()) == there


def test_a_module_that_the_user_allows_is_loaded_and_its_allowance_is_inherited(mine, capsys):
    (mine / "campaign.yaml").write_text(CAMPAIGN)
    arm = {"proposers": "random", "selector": "mine_apart:Mine"}
    (mine / "round.yaml").write_text(yaml.safe_dump({"arms": {"a": arm}, "judge": None}))
    for name in ("other_module", "more"):
        (mine / f"{name}.py").touch()
    run(capsys, "check", "campaign.yaml", "round.yaml", "--plugins", "other_module", code=1)
    assert not (mine / "imported").exists()
    run(capsys, "check", "campaign.yaml", "round.yaml", "--plugins", "more,mine_apart")
    assert (mine / "imported").exists()
    told = [sys.executable, "-c", "from labloop.registry import load; print(load('selectors', 'mine_apart:Mine').__name__)"]
    assert subprocess.check_output(told, text=True) == "Mine\n"


def test_the_environment_allows_modules_too_each_for_itself(mine, monkeypatch):
    monkeypatch.setenv(VARIABLE, "other, mine_apart")
    assert load("selectors", "mine_apart:Mine").__name__ == "Mine"
    monkeypatch.setenv(VARIABLE, "mine_apart")
    with pytest.raises(ConfigError, match="not allowed"):
        load("selectors", "mine_apart.inner:Mine")


def test_python_allows_a_module_or_a_classs_own(mine):
    with pytest.raises(ConfigError, match="not allowed"):
        load("selectors", "fakes:Flat")
    import fakes

    allow(fakes.Flat, "mine_apart")
    assert allowed() == {"fakes", "mine_apart"}
    assert load("surrogates", "fakes:Flat") is fakes.Flat


@pytest.mark.parametrize("name", ["my-module", "", "a/b.py", "os;rm", "a..b"])
def test_what_is_no_modules_name_is_not_allowed(mine, name, capsys):
    with pytest.raises(ConfigError, match="no module's name"):
        allow(name)
    (mine / "campaign.yaml").write_text(CAMPAIGN)
    assert "no module's name" in " ".join(run(capsys, "check", "campaign.yaml", "--plugins", f"{name},", code=1).split())


def test_a_module_that_python_does_not_find_is_told(mine, capsys):
    (mine / "campaign.yaml").write_text(CAMPAIGN)
    for name in ("nomod", "nomod.inner"):
        said = " ".join(run(capsys, "check", "campaign.yaml", "--plugins", name, code=1).split())
        assert f"Python finds no module '{name}': install it, or name its folder in PYTHONPATH" in said
    allow("mine_apart.inner")  # for which the package would have to be imported
    assert allowed() == {"mine_apart.inner"}


def test_a_kind_that_there_is_none_of_is_told_the_kinds_there_are():
    with pytest.raises(ConfigError, match="no kind of plug-in 'proposer'; there are: proposers, surrogates, selectors, labs"):
        create("proposer", "coms")


def test_the_default_of_an_option_is_what_it_is_left_at():
    @registry.plugin
    class Options:
        plain: int = 1
        told: tuple[str, ...] = Field(default=("a",), min_length=1)
        made: dict[str, int] = Field(default_factory=dict)
        needed: str = Field(min_length=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "load", lambda kind, name: Options)
        assert registry.describe("proposers", "x")["options"] == {"plain": 1, "told": ("a",), "made": {}, "needed": "required"}
    for kind, name in (("proposers", "judge_only"), ("surrogates", "auto")):
        assert registry.describe(kind, name)["options"]["members"] == ("gp", "ensemble", "forest")


# ---- proof before a call


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("selectors", "mine_apart:make", "is no plug-in"),
        ("selectors", "mine_apart:Bare", "is no plug-in"),
        ("selectors", "mine_apart:Child", "is no plug-in"),
        ("selectors", "mine_apart:Path", "is no plug-in"),
        ("proposers", "mine_apart:Mine", "is no proposer: it has no propose"),
        ("labs", "mine_apart:Mine", "is no lab: it has no space and no measure"),
        ("selectors", "mine_apart:nothing", "cannot be imported"),
        ("selectors", "gone_apart:Mine", "finds no module 'gone_apart'"),
    ],
)
def test_what_is_loaded_is_proved_to_be_a_plug_in_of_its_kind_before_it_is_called(mine, kind, name, said):
    allow("mine_apart", "gone_apart")
    with pytest.raises(ConfigError, match=said):
        create(kind, name, {"args": ["touch", "called"]})
    assert not (mine / "called").exists()


@pytest.mark.parametrize("value", ["subprocess:run", "mine_apart:make", "mine_apart:Bare"])
def test_a_registered_name_is_proved_as_well(mine, monkeypatch, value):
    entry = EntryPoint(name="odd", value=value, group="labloop.selectors")
    monkeypatch.setattr(registry, "_registered", lambda kind: [entry])
    with pytest.raises(ConfigError, match="'odd' is no plug-in"):
        create("selectors", "odd", {"args": ["touch", str(mine / "called")]})
    assert not (mine / "called").exists()


def test_every_plug_in_that_ships_is_one_by_its_name_and_by_its_path(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    for kind in registry.PROTOCOLS:
        for name, entry in registry.available(kind).items():
            assert load(kind, entry.value) is load(kind, name)


# ---- a ledger that somebody sent


@pytest.fixture
def sent(mine, capsys):
    """A folder with a ledger whose plate was proposed, and whose configuration then was made to name code."""
    shutil.copy(preset("campaigns/tfbind8.yaml"), "campaign.yaml")
    draw_start(open_lab("tfbind8"), 60, seed=0).to_csv("start.csv", index=False)
    campaign = Campaign.create("campaign.yaml", home="home")
    campaign.ingest("start.csv")
    config = parse_config({"arms": {"a": {"proposers": "random"}}, "judge": None}, RoundConfig)
    campaign.propose(config, out="out")
    shutil.rmtree("out")
    with sqlite3.connect("home/ledger.db") as database:
        database.execute("PRAGMA writable_schema = ON")
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{trigger}"')
        named = touching(mine / "PWNED")
        for table in ("campaign", "round"):
            found = database.execute(f"SELECT rowid, config FROM {table}").fetchall()
            for row, text in found:
                told = json.loads(text)
                if table == "campaign":
                    told["plate"]["exports"] = named
                else:
                    told["arms"]["a"] |= {"proposers": named, "selector": named}
                database.execute(f"UPDATE {table} SET config = ? WHERE rowid = ?", (json.dumps(told), row))
    return mine


@pytest.mark.parametrize("verb", ["status", "report", "verify", "export", "step", "propose", "compare", "close", "quality"])
def test_no_verb_runs_what_a_ledger_names(sent, capsys, verb):
    capsys.readouterr()
    arguments = [verb, "tfbind8", "--home", "home"]
    if verb == "propose":
        (sent / "round.yaml").write_text(yaml.safe_dump({"arms": {"a": {"proposers": touching(sent / "PWNED")}}, "judge": None}))
        arguments.insert(2, "round.yaml")
    assert main(arguments) in (0, 1, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not (sent / "PWNED").exists()


def test_export_of_a_ledger_that_names_an_exporter_of_somebodys_says_which_and_how_to_allow_it(sent, capsys):
    said = " ".join(run(capsys, "export", "tfbind8", "--home", "home", code=1).split())
    assert "exporter 'subprocess:run'" in said
    assert "--plugins subprocess" in said
    run(capsys, "export", "tfbind8", "--home", "home", "--for", "none")
    assert not (sent / "PWNED").exists()


def test_an_exporter_named_on_the_command_line_needs_the_same_word(sent, capsys):
    assert "not allowed" in " ".join(
        run(capsys, "export", "tfbind8", "--home", "home", "--for", "mine_apart:make", code=1).split()
    )
    assert not (sent / "imported").exists()


# ---- workers


def name_of(path: str) -> str:
    return load("selectors", path).__name__


def test_workers_have_the_allowance_of_whoever_sends_them_work(mine, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="pip install 'labloop-toolkit[dask]'")
    from labloop.runtime.workers import local_cluster, spread

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(mine), str(Path(__file__).parent)]))
    with distributed.SpecCluster(**local_cluster(1), silence_logs=40) as elsewhere:  # it started before anything was allowed
        allow("mine_apart")
        jobs = ["mine_apart:Mine"]
        assert list(spread(name_of, jobs, "names", workers=elsewhere.scheduler_address)) == [(0, "Mine")]


# ---- lines and bounds of files

BOMB = list(zip("abcdefghij", "bcdefghijk", strict=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("description: 2026-13-45\n", "line 3: .*2026-13-45 looks like a date and is none"),
        ("x: " + "[" * 20_000, "line 3: .*levels"),
        ("x: " + "{a: " * 20_000, "line 3: .*levels"),
        ("seed: " + "9" * 5000 + "\n", "line 3: .*looks like a number and is none"),
        ("seed: 99999999999999999999\n", "line 3, seed: "),
        ("rounds: 1" + "0" * 40 + "\n", "line 3, rounds: "),
        ("? [a]\n: b\n", "line 3: .*key must be a name"),
        ("description: !!timestamp x\n", "line 3: .*looks like a date"),
        ("description: !!python/object/apply:os.getcwd []\n", "line 3: .*not valid YAML"),
        ("a: &a [*a]\n", "line 3: .*stands within what it stands for"),
        ("a: &a [x]\n" + "".join(f"{new}: &{new} [{f'*{old}, ' * 8}]\n" for old, new in BOMB), "values, aliases followed"),
        ("x" * 2**20, "larger than 1 MiB"),
        ("schedule: {deadline: 999999 weeks}\n", "line 3, schedule.deadline: must be ten years"),
        ("rounds: 0\nseed: -1\n", r"line 3, rounds: .*; line 4, seed: "),
    ],
    ids=[
        "date",
        "lists",
        "mappings",
        "digits",
        "seed",
        "rounds",
        "key",
        "tag",
        "object",
        "self",
        "aliases",
        "size",
        "span",
        "two",
    ],
)
def test_a_file_beyond_bounds_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "campaign.yaml"
    path.write_text(SMALL + text)
    with pytest.raises(ConfigError, match=said) as error:
        load_config(path, CampaignConfig)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("length", ["100000000", "1" + "0" * 400])
def test_a_sequence_of_absurd_length_is_refused_and_a_long_one_has_no_end_of_designs(tmp_path, length):
    text = "name: c\nspace:\n  parameters:\n  - {type: sequence, name: s, length: LENGTH}\n"
    (tmp_path / "c.yaml").write_text(text.replace("LENGTH", length))
    with pytest.raises(ConfigError, match=r"line 2, space: .*100,000"):
        load_config(tmp_path / "c.yaml", CampaignConfig)
    (tmp_path / "c.yaml").write_text(text.replace("LENGTH", "600"))
    assert load_config(tmp_path / "c.yaml", CampaignConfig).space.size == float("inf")


def test_what_a_file_leaves_out_has_the_line_that_it_belongs_to_or_none(tmp_path):
    (tmp_path / "c.yaml").write_text("name: c\nspace:\n  parameters:\n  - {type: sequence, name: s}\n")
    with pytest.raises(ConfigError, match=r"c.yaml: line 4, space\.parameters\.0\.length: is missing"):
        load_config(tmp_path / "c.yaml", CampaignConfig)
    (tmp_path / "c.yaml").write_text("name: c\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: space: is missing"):
        load_config(tmp_path / "c.yaml", CampaignConfig)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="is no file"):
        load_config(tmp_path / "pipe.yaml", CampaignConfig)


@pytest.mark.parametrize("value", ["2026-13-45", "[" * 20_000, "9" * 5000, "&a [*a]"], ids=["date", "lists", "digits", "self"])
def test_an_option_on_the_command_line_is_read_within_the_same_bounds(value):
    with pytest.raises(ConfigError, match="the value of epochs cannot be read"):
        registry.parse_plugin(f"coms/epochs={value}")
    assert registry.parse_plugin("coms/lr=1e-3") == ("coms", {"lr": 1e-3})


@pytest.mark.parametrize("n", [-1, 2.5, "3", True, None])
def test_an_n_that_counts_no_designs_is_refused_by_every_verb_that_takes_one(n):
    data, proposer = toy_data(TOY_SPACES["categorical"]), registry.create("proposers", "random")
    told = re.escape(f"{n!r}: give a whole number, 0 or more")
    with pytest.raises(ValueError, match=rf"^n of Random\.propose is {told}$"):
        proposer.propose(data, n, seed=0)
    pool = proposer.propose(data, np.int64(4), seed=0)
    assert (len(pool), len(proposer.propose(data, n=0, seed=0))) == (4, 0)
    with pytest.raises(ValueError, match=rf"^n of AsProposed\.select is {told}$"):
        registry.create("selectors", "as_proposed").select(pool, None, data, n, seed=0)
    for space in TOY_SPACES.values():
        assert space.sample(0, np.random.default_rng(0)).shape == (0, space.d)
    with pytest.raises(ValueError, match=f"^n of sample is {told}$"):
        data.space.sample(n, np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"^n of top is {told}$"):
        data.top(n)


def test_a_verb_of_a_plug_in_of_one_s_own_is_called_as_it_is_written():
    @registry.plugin
    class Own:
        @staticmethod
        def propose(data, n, *, seed):
            return data, n, seed

        def select(self, pool, n=None):
            return n

    assert Own().propose("data", 3, seed=0) == ("data", 3, 0)
    assert (Own().select("pool"), Own().select("pool", None), Own().select("pool", n=2)) == (None, None, 2)
    with pytest.raises(TypeError, match=r"select\(\) missing 1 required positional argument: 'pool'"):
        Own().select()
    with pytest.raises(ValueError, match=r"^n of Own\.select is 2\.5"):
        Own().select("pool", 2.5)


def test_many_mistakes_are_told_in_part(tmp_path):
    (tmp_path / "c.yaml").write_text("name: c\n" + "".join(f"key{i}: 1\n" for i in range(3000)))
    with pytest.raises(ConfigError, match=r"and \d+ more$"):
        load_config(tmp_path / "c.yaml", CampaignConfig)


def test_check_tells_the_line_of_an_option_that_there_is_none_of(tmp_path, capsys):
    (tmp_path / "campaign.yaml").write_text(CAMPAIGN)
    (tmp_path / "round.yaml").write_text(
        textwrap.dedent("""\
        judge: null
        arms:
          a:
            proposers:
              - random
              - mutate: {nonsense: 1}
        """)
    )
    said = " ".join(run(capsys, "check", tmp_path / "campaign.yaml", tmp_path / "round.yaml", code=1).split())
    assert "round.yaml: line 6, arms.a.proposers.mutate: " in said
    assert "nonsense" in said


def test_options_that_do_not_go_together_are_told_without_a_place():
    with pytest.raises(ConfigError, match=r"lab 'ehrlich': 2 motifs of 4 letters do not fit"):
        create("labs", "ehrlich", {"length": 2})


@pytest.mark.parametrize("options", [{"alpha": True}, {"particle_lr": False}, {"epochs": True}])
def test_true_is_no_number_also_where_the_number_may_be_left_out(options):
    with pytest.raises(ConfigError, match=r"write a number, not (true|false)"):
        create("proposers", "coms", options)
    assert create("proposers", "coms", {"projected": True}).projected


def test_an_option_s_name_that_is_no_text_is_unknown():
    with pytest.raises(ConfigError, match="1: unknown option"):
        create("labs", "hartmann6", {1: 2})


@pytest.mark.parametrize("given", [float("inf"), float("nan")])
def test_numbers_that_are_not_finite_are_refused(given):
    with pytest.raises(ConfigError, match="beta: write a finite number"):
        create("selectors", "conservative", {"beta": given})


# ---- plug-ins that break their contract


ANSWERS = """
from dataclasses import replace

import numpy as np

from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.seeds import generator


@plugin
class Offers:
    what: str = "nothing"

    def propose(self, data, n, *, seed):
        if self.what == "trouble":
            raise RuntimeError("the weather is bad")
        if self.what == "mistake":
            raise TypeError("the code is bad")
        if self.what == "leaves":
            raise SystemExit(3)
        if self.what == "writes":
            y = data.y
            y *= -1
        pool = Pool.best(data, data.space.sample(4 * n, generator(seed)), np.zeros(4 * n), n, proposer="offers")
        if self.what == "scoreless":
            return replace(pool, score=pool.score * np.nan)


@plugin
class Selects:
    what: str = "nothing"

    def select(self, pool, posterior, data, n, *, seed):
        if self.what == "writes":
            data.X[:] = 0


@plugin
class Judges:
    what: str

    def fit(self, data, *, seed):
        if self.what == "writes":
            data.sem.sort()

        def posterior(X):
            mean, std = np.zeros(len(X)), np.ones(len(X))
            return {
                "nan": (mean * np.nan, std), "below": (mean, -std), "short": (mean[1:], std), "none": None, "one": mean,
                "endless": (mean, std * np.inf),
            }[self.what]

        return None if self.what == "unfitted" else posterior
"""


@pytest.fixture
def answers(mine):
    (mine / "answers_apart.py").write_text(ANSWERS)
    allow("answers_apart")
    yield mine
    sys.modules.pop("answers_apart", None)


def judged(what):
    selector = {"conservative": {"refine": 0}}
    return {"arms": {"one": {"proposers": "random", "selector": selector}}, "judge": {"answers_apart:Judges": {"what": what}}}


def offered(what):
    return {"arms": {"one": {"proposers": {"answers_apart:Offers": {"what": what}}}}}


def test_what_a_surrogate_says_is_taken_in_any_form_that_can_only_mean_one_thing():
    mean = np.array([1.0, 2.0])
    column, grows = mean[:, None], torch.tensor(mean, requires_grad=True)
    for told in ((mean, [0.5, 0.5]), (column, column / column / 2), (mean, 0.5), (grows, 0 * grows + 0.5)):
        found = prediction_of("mine", told, 2)
        assert [part.tolist() for part in found] == [[1, 2], [0.5, 0.5]]
    assert prediction_of("mine", (mean, [-1e-17, 0]), 2)[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("round_", "said"),
    [
        (judged("nan"), "surrogate answers_apart:Judges has no finite mean and std of 0 or more for .* of .* designs"),
        (judged("below"), "surrogate answers_apart:Judges has no finite mean and std of 0 or more"),
        (judged("endless"), "surrogate answers_apart:Judges has no finite mean and std of 0 or more"),
        (judged("short"), "Judges does not give .* designs as many means and stds: it breaks the surrogate's contract"),
        (judged("none"), "answers_apart:Judges does not give .* designs as many means and stds"),
        (judged("one"), "answers_apart:Judges does not give .* designs as many means and stds"),
        (judged("unfitted"), "surrogate answers_apart:Judges fitted nothing, which cannot be called"),
        (judged("writes"), "surrogate answers_apart:Judges writes into an array that is read-only, such as the dataset's"),
        (offered("nothing"), "Offers offered nothing, not a Pool: it breaks the"),
        (offered("writes"), "answers_apart:Offers writes into an array that is read-only, such as the dataset's"),
        (offered("leaves"), r"answers_apart:Offers would have ended labloop \(exit status 3\): it breaks the proposer's"),
        (offered("scoreless"), "answers_apart:Offers has no finite score for .* of .* designs"),
        (
            {"arms": {"one": {"proposers": "random", "selector": {"answers_apart:Selects": {"what": "writes"}}}}},
            "answers_apart:Selects writes into an array that is read-only",
        ),
        (
            {"arms": {"one": {"proposers": "random", "selector": "answers_apart:Selects"}}},
            "Selects was asked for 6 picks and gave nothing: it breaks the selector's contract",
        ),
    ],
)  # fmt: skip
def test_a_plug_in_that_breaks_its_contract_is_named(answers, round_, said):
    campaign = CampaignConfig(name="c", space={"parameters": [{"type": "sequence", "name": "dna", "length": 8}]})
    config = RoundConfig(**{"judge": None, **round_})
    with pytest.raises(MethodError, match=said):
        simulate(campaign, "tfbind8", round_config=config, start=20, rounds=1, batch=6, seeds=1, on_failure="stop")


def test_a_benchmark_names_the_plug_in_that_it_cannot_go_on_with(answers, capsys):
    for what, said in (
        ("nothing", "Offers offered nothing, not a Pool"), ("trouble", "Offers/what=trouble failed: the weather is bad"),
    ):  # fmt: skip
        with pytest.raises(MethodError, match=said):
            Job(task="tfbind8", method=f"answers_apart:Offers/what={what}", seed=0, q=2).run()
    told = ["benchmark", "--tasks", "tfbind8", "--methods", "answers_apart:Offers/what=mistake", "--no-baselines", "--seeds", "1"]
    printed = run(capsys, *told, "--in-process", code=1)
    assert "TypeError: the code is bad" in printed
    assert "a fault of the plug-in module answers_apart" in " ".join(printed.split())
    assert "fault of labloop" not in printed


def test_a_plug_in_whose_own_store_is_read_only_is_told_of_that():
    with pytest.raises(ValueError, match=r"^the store /data is read-only$"), asking("mine", "proposers"):
        raise ValueError("the store /data is read-only")
    for write in (
        lambda y: y.sort(),
        lambda y: y.__setitem__(0, 1.0),
        lambda y: y.__iadd__(1.0),
        np.random.default_rng(0).shuffle,
    ):
        y = np.arange(3.0)
        y.flags.writeable = False
        with pytest.raises(MethodError, match="mine writes into an array"), asking("mine", "proposers"):
            write(y)
