"""The report is one calm page that opens offline, says what the data say, and lets nothing in a campaign run as markup."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from html import unescape

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from labloop.campaign.facade import Campaign
from labloop.compare.arms import compare
from labloop.config.read import parse_config
from labloop.config.round import RoundConfig
from labloop.errors import LabloopError
from labloop.report import report_of, write_report
from labloop.report.data import MEASUREMENTS, PICKS, RUNS, TOP, WELLS, ReportData, RoundInfo
from labloop.report.facts import Facts
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective
from labloop.space.parameters import Choice, Real, Sequence
from labloop.studies.demo import rehearse

alt = pytest.importorskip("altair", reason="the packages of labloop-toolkit[report] are not installed")
_page = pytest.importorskip("labloop.report.page")
render, PageView = _page.render, _page.PageView

BINDING = Objective(assay="binding", unit="E")
SECONDS = Objective(assay="run time", direction="min", unit="s")
EVIL = "<script>alert('x')</script>"
ARMS = {"offline": ("coms",), "bo": ("qei",), "free": ("random", "forest", "gp_mean", "ensemble")}
GAIN = {"offline": 0.10, "bo": 0.06, "free": 0.02}


@cache
def campaign(
    *, rounds: int = 3, measured: int | None = None, objective: Objective = BINDING, n_start: int = 400, evil: bool = False,
    lost: float = 0.04, seed: int = 0,
) -> ReportData:  # fmt: skip
    """A made-up campaign with three arms on 96-well plates, of which the first `measured` rounds came back."""
    rng = generator(seed, "fake campaign")
    measured = rounds if measured is None else measured
    base = 0 if objective.transform == "identity" else -3

    def design() -> str:
        return "".join(rng.choice(list("ACGT"), 8))

    start = [(math.nan, f"s{i:04d}", design(), y, "ok", None, None) for i, y in enumerate(rng.normal(base - 0.05, 0.1, n_start))]
    picks, wells, readings, runs, infos = [], [], [*start], [], []
    best = max(row[3] for row in start) if start else math.nan
    for number in range(1, rounds + 1):
        plate, back = f"{'evil' if evil else 'demo'}-R{number:02d}-P1", number <= measured
        places = [(r, c) for c in range(1, 13) for r in range(1, 9)]
        places = [places[i] for i in rng.permutation(96)]
        made = []
        for arm, proposers in ARMS.items():
            for i in range(30):
                truth = base + 0.1 + GAIN[arm] * number + rng.normal(0, 0.13)
                mean = truth + rng.normal(0.03, 0.08)
                name = EVIL if evil and i == 0 else design()
                made.append(
                    [number, arm, f"{arm[0]}{number}{i:03d}", proposers[i % len(proposers)], mean, 0.09, mean - 0.09, truth, name]
                )
        made[30][2], made[30][8] = made[0][2], made[0][8]  # one design of two arms
        made[30][7] = made[0][7]
        failed = {row[2] for row in made if rng.random() < lost}
        sides: dict[str, list[str]] = {}
        for row in made:
            sides.setdefault(row[2], []).append(row[1])
            status = "pending" if not back else "failed_technical" if row[2] in failed else "ok"
            y = row[7] if status == "ok" else math.nan
            picks.append((*row[:7], y, status, row[8]))
        at = iter(places)
        for one, arms in sides.items():
            row = next(r for r in made if r[2] == one)
            r, c = next(at)
            well = f"{'ABCDEFGH'[r - 1]}{c:02d}"
            wells.append((number, plate, well, r, c, one, row[8], None, " + ".join(arms)))
            if back:
                ok = one not in failed
                readings.append(
                    (number, one, row[8], row[7] if ok else math.nan, "ok" if ok else "failed_technical", plate, well)
                )
        for r, c in list(at)[:6]:
            well = f"{'ABCDEFGH'[r - 1]}{c:02d}"
            wells.append((number, plate, well, r, c, None, None, "parent", None))
            if back:
                readings.append((number, None, None, base - 0.05 + rng.normal(0, 0.02), "ok", plate, well))
        infos.append(RoundInfo(number=number, state="CLOSED" if back else "EXPORTED", n_picks=90, incumbent=best))
        if back:
            best = max([best, *(row[7] for row in made if row[2] not in failed)])
        for arm, proposers in ARMS.items():
            for proposer in proposers:
                runs.append((
                    number, arm, proposer, float(rng.gamma(2, 15)), "cpu", int(rng.integers(1 << 40)), f"{number}f3a9c2d41b7e60",
                    EVIL if evil else json.dumps({"epochs": 50, "loss": 0.0123456}),
                ))  # fmt: skip
    columns = ["round", "design_id", "design", "y", "status", "plate", "well"]
    table = pd.DataFrame(readings, columns=columns)
    table["value"] = objective.to_value(table["y"].to_numpy(float))
    picked = pd.DataFrame(picks, columns=["round", "arm", "design_id", "proposer", "mean", "std", "lcb", "y", "status", "design"])
    ledger = pd.DataFrame(runs, columns=list(RUNS))
    incumbents = {info.number: info.incumbent for info in infos}
    options = {"incumbent": incumbents, "objective": objective, "seed": 3, "runs": ledger, "n_resamples": 199}
    done = list(range(1, measured + 1))
    top = table[table["y"].notna() & table["design_id"].notna()].sort_values("y", ascending=False).head(10)
    top = top.merge(picked.drop_duplicates("design_id")[["design_id", "arm", "proposer", "mean"]], how="left", on="design_id")
    return ReportData(
        name="six6", description=f"Find DNA 8-mers that SIX6 binds tightly. {EVIL if evil else ''}".strip(), objective=objective,
        planned_rounds=4, rounds=tuple(infos), measurements=table[list(MEASUREMENTS)], picks=picked[list(PICKS)],
        wells=pd.DataFrame(wells, columns=list(WELLS)), top=top[[*TOP, "mean"]], runs=ledger,
        comparisons={n: compare(picked, rounds=[n], **options) for n in done},
        overall=compare(picked, rounds=done, **options) if done else None,
        flags=(EVIL if evil else "Plate demo-R01-P1: the controls drift from left to right (p = 0.01).",) if measured else (),
        version="0.1.0",
    )  # fmt: skip


KD = Objective(assay="Kd", unit="nM", direction="min", transform="log10")
CASES = {
    "three rounds": lambda: campaign(),
    "start data alone": lambda: campaign(rounds=0),
    "nothing at all": lambda: ReportData(name="empty"),
    "one round at the lab": lambda: campaign(rounds=1, measured=0),
    "second round at the lab": lambda: campaign(rounds=2, measured=1),
    "no start data": lambda: campaign(rounds=1, n_start=0),
    "every well lost": lambda: campaign(rounds=1, lost=1.1),
    "lower is better": lambda: campaign(rounds=2, objective=SECONDS),
    "a Kd over decades": lambda: campaign(rounds=2, objective=KD),
    "markup for names": lambda: campaign(rounds=1, evil=True),
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request) -> tuple[str, ReportData, str]:
    data = CASES[request.param]()
    return request.param, data, render(data)


@pytest.fixture(scope="module")
def page() -> str:
    return render(campaign())


def html_of(text: str) -> str:
    return str(escape(text))


def markup(html: str) -> str:
    """The page without what its scripts and style hold."""
    return re.sub(r"(<(script|style)\b[^>]*>).*?</\2>", r"\1", html, flags=re.S)


def specs(html: str) -> dict[str, dict]:
    found = re.findall(r'<script type="application/json" id="f-(\w+)">(.*?)</script>', html, flags=re.S)
    return {name: json.loads(text) for name, text in found}


def policy_of(html: str) -> str:
    return unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1])


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup(html)).split())


# One file


def test_every_state_of_a_campaign_gives_a_whole_page(case):
    _, data, html = case
    assert html.rstrip().endswith("</html>")
    assert data.name in words(html)
    assert not re.search(r"\b(nan|NaN|None|inf)\b", words(html))


def test_the_page_asks_the_network_for_nothing(case):
    html = case[2]
    assert "://" not in markup(html)
    assert not re.search(r"<(link|iframe|object|embed|img|base)\b", markup(html))
    assert not re.search(r"\b(src|href)\s*=", markup(html))
    assert policy_of(html).startswith("default-src 'none';")
    assert not re.search(r"url\(|@import", re.search(r"<style>(.*?)</style>", html, flags=re.S)[1])


def test_the_drawing_library_is_inlined_once_and_the_page_stays_light(page):
    assert page.count('<script type="module">') == 1
    assert 0.8e6 < len(page.encode()) < 2.0e6


def test_the_policy_lets_the_pages_own_script_run_and_no_other(page):
    script = re.search(r'<script type="module">(.*?)</script>', page, flags=re.S)[1]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in policy_of(page)
    assert "unsafe-eval" not in policy_of(page)


def test_equal_data_give_equal_bytes(page):
    assert render(campaign.__wrapped__()) == page


def test_names_that_look_like_markup_stay_text():
    html = render(campaign(rounds=1, evil=True))
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") >= 3, "description, flag and the runs' notes"
    assert EVIL in {well["design"] for well in specs(html)["plate0arm"]["datasets"]["wells"]}, "figures carry it as data"


def test_figures_follow_the_vega_lite_schema():
    logs, waiting = campaign(rounds=2, objective=KD), campaign(rounds=1, measured=0)
    found = PageView(known(logs)).figures | {"promised": PageView(waiting).figures["promised"]}
    kinds = {re.sub(r"\d", "", name): spec for name, spec in found.items()}
    assert set(kinds) == {
        "progress", "strips", "differences", "predicted", "platevalue", "platearm", "promised", "learning", "logo",
        "levels",
    }  # fmt: skip
    for spec in kinds.values():
        few = {name: rows[:2] for name, rows in spec["datasets"].items()}
        assert alt.LayerChart.from_dict({**spec, "datasets": few}, validate=True).layer


def test_figures_hold_no_addresses_and_no_missing_numbers(case):
    text = json.dumps(list(specs(case[2]).values()), allow_nan=False)
    assert "://" not in text


MIXED = DesignSpace(parameters=(
    Sequence(name="dna", alphabet="dna", length=8), Choice(name="base", options=("K2CO3", "none")),
    Real(name="T", low=20, high=90),
))  # fmt: skip


def known(data):
    """The same campaign with its designs, in which the best have a G first and a base, at high temperatures."""
    rng, rows = generator(1, "designs"), data.measurements.dropna(subset=["design_id", "y"]).drop_duplicates("design_id")
    best = set(rows.sort_values("y", ascending=False)["design_id"].head(60))
    table = pd.DataFrame({
        one: {
            "dna": ("G" if one in best else "A") + "".join(rng.choice(list("ACGT"), 7)),
            "base": "K2CO3" if one in best else "none", "T": rng.uniform(80, 90) if one in best else rng.uniform(20, 90),
        }
        for one in rows["design_id"]
    }).T  # fmt: skip
    return replace(data, space=MIXED, designs=table)


# What it says


def test_what_sets_the_best_apart_stands_high_and_what_does_not_stands_low():
    view = PageView(known(campaign()))
    letters = pd.DataFrame(view.drawn.best.letters)
    bits = letters.groupby("position")["bits"].first()
    assert bits.idxmax() == 1
    assert letters[(letters["position"] == 1) & (letters["letter"] == "G")]["share"].item() == 1
    levels = pd.DataFrame(view.drawn.best.levels).set_index(["parameter", "level"])
    assert levels.loc[("base", "K2CO3"), "share"] == 1 > levels.loc[("base", "K2CO3"), "before"]
    assert levels.loc["T", "share"].iloc[-1] > 0.9
    assert levels.groupby(level=0)["before"].sum().tolist() == pytest.approx([1, 1])
    assert "sets the best 60 of" in words(render(view.data))


def test_arms_are_drawn_round_by_round_as_the_comparisons_have_them():
    data = campaign()
    rows = PageView(data).figures["learning"]["datasets"]["rows"]
    assert [(row["round"], row["arm"]) for row in rows] == [(n, arm.arm) for n in (1, 2, 3) for arm in data.comparisons[n].arms]
    assert all(row["low"] < row["value"] < row["high"] for row in rows)
    assert "learning" not in PageView(campaign(rounds=1)).figures


def test_labels_of_differences_stand_on_the_axis_where_no_line_crosses_them():
    spec = PageView(campaign()).figures["differences"]
    assert not [layer for layer in spec["layer"] if layer["mark"]["type"] == "text"]
    keys = next(layer["encoding"]["y"] for layer in spec["layer"] if "y" in layer["encoding"])["scale"]["domain"]
    assert {row["key"] for row in spec["datasets"]["rows"]} < set(keys)


def test_a_judge_that_cannot_be_trusted_is_said_in_words():
    data = campaign()
    assert not PageView(data).judge_words
    (every,) = [one for one in data.overall.calibration if one.arm is None]
    weak = replace(every, rho=0.05, within_1_std=0.2)
    said = PageView(replace(data, overall=replace(data.overall, calibration=(weak,)))).judge_words
    assert "cannot be trusted" in said[0]
    assert "too sure" in said[1]


def test_values_in_tables_have_their_unit():
    titles = [column.title for column in PageView(campaign(objective=SECONDS, rounds=2)).tables()["arms"].columns]
    assert {"Mean, s", "Best, s"} < set(titles)


def test_it_leads_with_the_comparisons_own_sentence(page):
    data = campaign()
    assert data.overall is not None
    verdict, proof = re.split(r": |\. ", data.overall.sentence, maxsplit=1)
    assert f'<p class="verdict">{html_of(verdict)}.</p>' in page
    assert html_of(proof[1:]) in page  # its first letter begins a sentence there


def test_the_tiles_tell_the_best_the_start_and_what_was_lost():
    data = campaign()
    said = words(render(data))
    top = data.top.iloc[0]
    assert f"Best so far {top['value']:.3f} E {top['design']}" in said
    lost = data.picks.drop_duplicates("design_id")["status"].eq("failed_technical").sum()
    assert lost > 0
    assert f"{lost} lost" in said
    assert "3 of 4" in said


def test_an_overflow_beside_exact_replicates_is_not_the_best():
    data = campaign()
    wild = data.measurements.dropna(subset=["design_id", "y"]).query("status == 'ok'").iloc[[0]]
    wild = wild.assign(status="censored_high", y=9.0, value=data.objective.to_value(np.array([9.0])))
    facts = [Facts(one).designs for one in (data, replace(data, measurements=pd.concat([data.measurements, wild])))]
    pd.testing.assert_frame_equal(*facts)


def test_best_so_far_never_gets_worse():
    for data, better in ((campaign(), np.maximum), (campaign(rounds=2, objective=SECONDS), np.minimum)):
        line = [row["value"] for row in PageView(data).figures["progress"]["datasets"]["best"]]
        assert 2 <= len(line) <= len(data.rounds) + 2
        assert line == better.accumulate(line).tolist()


def test_the_best_is_marked_at_the_well_of_the_arm_that_found_it():
    for data in (campaign(), campaign(rounds=2, objective=SECONDS), campaign(rounds=4, measured=3, seed=5)):
        tables = PageView(data).figures["progress"]["datasets"]
        dots, found = pd.DataFrame(tables["wells"]), pd.DataFrame(tables["found"])
        assert found["x"].iloc[0] == 0
        assert len(found) > 1
        for mark in found.iloc[1:].to_dict("records"):
            under = dots[(dots["x"] == mark["x"]) & (dots["design"] == mark["design"])]
            assert under["arm"].tolist() == [mark["arm"].split(" + ")[0]]
            assert under["value"].tolist() == pytest.approx([mark["value"]])


def test_a_bound_is_told_with_its_beta():
    data = campaign(rounds=2)
    beta = data.picks["arm"].map({"offline": 1.5, "bo": 1.0, "free": np.nan}) - (data.picks["round"] == 2) * 0.5
    told = PageView(replace(data, picks=data.picks.assign(beta=beta))).tables()["calibration"]
    titles = [column.title for column in told.columns]
    rows = {row[0]: dict(zip(titles, row, strict=True)) for row in told.rows}
    assert {arm: row["β of the bound"] for arm, row in rows.items()} == {
        "all arms": "–", "offline": "1.50 to 1.00", "bo": "1.00 to 0.50", "free": "–",
    }  # fmt: skip
    assert "Better than the bound" in titles
    assert PageView(data).tables()["calibration"].rows[1][titles.index("β of the bound")] == "–"


def test_each_measured_well_is_a_dot_in_its_arms_colour():
    data = campaign()
    spec = PageView(data).figures["progress"]
    dots = pd.DataFrame(spec["datasets"]["wells"])
    assert dots["arm"].value_counts().to_dict() == data.picks[data.picks["y"].notna()]["arm"].value_counts().to_dict()
    assert len({json.dumps(layer.get("mark")) for layer in spec["layer"]}) > 3


def test_a_plate_shows_every_well_with_value_design_and_arm():
    data = campaign(rounds=1)
    found = PageView(data).figures
    wells = pd.DataFrame(found["plate0value"]["datasets"]["wells"]).set_index("well")
    assert len(wells) == len(data.wells)
    expected = data.measurements.dropna(subset=["well"]).set_index("well")
    for well, row in wells.iterrows():
        value = expected.loc[well, "value"]
        assert row["kind"] == ("control" if data.wells.set_index("well").loc[well, "control"] == "parent" else
                               "lost" if math.isnan(value) else "well")  # fmt: skip
        assert row["value"] == (None if math.isnan(value) else pytest.approx(value, rel=1e-4)) or math.isnan(row["value"])
    assert set(wells["side"]) == {"offline", "bo", "free", "control", "several arms"}


def test_values_and_predictions_are_in_the_labs_unit():
    data = campaign(rounds=1, objective=KD)
    rows = pd.DataFrame(PageView(data).figures["predicted0"]["datasets"]["rows"])
    picks = data.picks[(data.picks["arm"] == "offline") & data.picks["y"].notna()]
    assert rows["value"].tolist() == pytest.approx((10.0 ** -picks["y"]).tolist(), rel=1e-4)
    assert (rows["low"] < rows["mean"]).all()
    assert (rows["mean"] < rows["high"]).all()


def test_a_round_at_the_lab_shows_what_it_promises():
    html = render(campaign(rounds=1, measured=0))
    assert "What round 1 promises" in words(html)
    assert "no result yet" in words(html)
    assert len(specs(html)["promised"]["datasets"]["wells"]) == 90
    assert "plate0arm" in specs(html)
    assert "plate0value" not in specs(html)


def test_small_arms_get_their_warning():
    data = campaign(rounds=1)
    few = data.picks.groupby("arm").head(4)
    comparison = compare(few, incumbent=0.2, objective=data.objective, seed=1, n_resamples=199)
    said = words(render(replace(data, picks=few, comparisons={1: comparison}, overall=None)))
    assert "Read such figures as anecdotes" in said


def test_more_plates_than_are_drawn_are_counted():
    data = campaign(rounds=1)
    plates = [data.wells.assign(plate=f"P{i:02d}") for i in range(15)]
    html = render(replace(data, wells=pd.concat(plates)))
    assert len([name for name in specs(html) if name.endswith("arm")]) == 12
    assert "3 earlier plates are not drawn" in words(html)


# Files


def test_the_report_is_written_whole_or_not_at_all(tmp_path):
    path = write_report(tmp_path / "deep" / "report.html", ReportData(name="empty"))
    assert path.read_text(encoding="utf-8") == render(ReportData(name="empty"))
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabloopError, match=re.escape(str(tmp_path / "file"))):
        write_report(tmp_path / "file" / "report.html", ReportData(name="empty"))


def test_a_table_without_its_columns_is_refused_by_name():
    with pytest.raises(ValueError, match=r"picks lacks the columns .*proposer"):
        ReportData(name="x", picks=campaign(rounds=0).picks.drop(columns="proposer"))


def test_a_real_campaigns_ledger_fills_the_page(tmp_path):
    config = parse_config(
        {"arms": {"near": {"proposers": {"fakes:Near": {}}, "wells": 40}, "far": {"proposers": {"fakes:Near": {"shift": 4}}}},
         "judge": "fakes:Flat"}, RoundConfig,
    )  # fmt: skip
    tmp_path.mkdir(exist_ok=True)
    run = rehearse(tmp_path / "demo", round_config=config, rounds=1, start=60)
    data = report_of(run)
    assert (len(data.picks), len(data.wells), data.rounds[0].n_picks) == (96, 96, 96)
    assert data.measurements["round"].isna().sum() == 60
    assert data.top["value"].is_monotonic_decreasing
    assert data.overall is not None
    html = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert all(html_of(part[1:]) in html for part in re.split(r": |\. ", data.overall.sentence, maxsplit=1))
    assert data.next[0].startswith("Propose round 2: labloop propose tfbind8")
    assert all(html_of(line) in html for line in data.next)
    assert len(data.next) == 2  # and whether another plate is worth it
    assert render(report_of(run)) == (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")


def test_a_campaign_that_has_just_begun_has_a_page(tmp_path, tfbind8_config):
    assert "labloop ingest" in Campaign.create(tfbind8_config, home=tmp_path).report().read_text()


def test_the_best_designs_name_every_arm_that_asked_for_them(tmp_path):
    alike = {"proposers": {"pairwise": {}}}
    config = parse_config({"arms": {"one": {**alike, "wells": 40}, "other": alike}, "judge": "fakes:Flat"}, RoundConfig)
    run = rehearse(tmp_path, round_config=config, rounds=1, start=60)
    arms = run.ledger.picks(run.name).groupby("design_id")["arm"].agg(" + ".join)
    top = report_of(run).top.dropna(subset="arm").set_index("design_id")
    assert "one + other" in set(top["arm"])
    assert top["arm"].to_dict() == arms[top.index].to_dict()
    assert set(top["proposer"]) == {"pairwise"}


# In a browser


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_draws_every_figure_and_runs_nothing_else(tmp_path):
    html = render(campaign(rounds=1, evil=True))
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
            "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,4000",
            "--virtual-time-budget=8000", "--dump-dom", (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    drawn = re.findall(r'<div class="draw[^"]*"[^>]*data-figure="f-(\w+)".*?(<svg.*?</svg>)', done.stdout, flags=re.S)
    assert {name for name, _ in drawn} == set(specs(html))
    assert all(svg.count("<path") > 5 for _, svg in drawn)
    assert "<script>alert" not in done.stdout
    assert "Arm against arm" in done.stdout
