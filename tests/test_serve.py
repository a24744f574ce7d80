"""`labloop serve`: a page that may be read, that only its own forms write by, and that nothing from a browser gets past."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from html import unescape
from pathlib import Path
from sqlite3 import connect
from types import SimpleNamespace

import pytest
import yaml

pytest.importorskip("fastapi", reason="pip install 'labloop-toolkit[serve]'")
pytest.importorskip("python_multipart", reason="pip install 'labloop-toolkit[serve]'")

from conftest import set_up_bench
from fastapi.testclient import TestClient
from scheduling import PATIENCE, until

from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.cli.serve.children import begin
from labloop.cli.serve.desk import Desk, spoken
from labloop.cli.serve.patient import Answer, Patient
from labloop.cli.serve.sessions import COOKIE, file_name
from labloop.cli.serve.settings import settings_of
from labloop.cli.serve.site import site
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.errors import LabloopError
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab

HERE = "http://127.0.0.1:8791"
TOKEN = "a-token-for-these-tests"


class Browser(TestClient):
    """A browser of one person: forms carry their origin and the session's key."""

    csrf = ""

    def login(self, name="Ann Bench"):
        answer = self.fill("/login", name=name, token=TOKEN, csrf=self.key("/login"))
        assert answer.status_code == 303, answer.text
        self.csrf = self.key("/")
        return self

    def key(self, page):
        return re.search(r'name="csrf" value="(\w+)"', self.get(page).text)[1]

    def fill(self, path, files=None, origin=HERE, **fields):
        return self.post(path, data={"csrf": self.csrf, **fields}, files=files, headers={"Origin": origin})

    def drop(self, content, name="results.csv", campaign="tfbind8"):
        return self.fill(f"/c/{campaign}/file", files={"file": (name, content)})

    def seen(self, path):
        """The text of a page, without its marks, once all is counted that it tells."""
        found = [""]

        def whole():
            found[0] = " ".join(re.sub(r"<[^>]+>", " ", self.get(path).text).split())
            return not re.search(r"being [a-z ]+ …", found[0])

        until(whole)
        return found[0]


def browser(app, host=HERE):
    return Browser(app, base_url=host, follow_redirects=False)


@pytest.fixture
def app(bench):
    made = site(settings_of(token=TOKEN))
    with TestClient(made):  # its beginning and its end
        yield made


@pytest.fixture
def bench_page(app):
    return browser(app).login()


def send_to_the_lab():
    """Send a round's plate to the lab; gives the filled form."""
    run = Campaign.open("tfbind8")
    run.ingest("start.csv")
    run.propose("round.yaml", out="plates")
    return measure_plate(run, open_lab("tfbind8"), Path("plates"), Path("back"), number=1)


@pytest.fixture
def at_the_lab(bench):
    """A round whose plate is at the lab; gives the filled form."""
    return send_to_the_lab()


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """The site with a plate at the lab, for many tests, none of which may change anything."""
    with pytest.MonkeyPatch.context() as patch:
        set_up_bench(tmp_path_factory.mktemp("untouched"), patch)
        send_to_the_lab()
        made = site(settings_of(token=TOKEN))
        with TestClient(made):
            yield made


@pytest.fixture(scope="module")
def ann(untouched):
    """Who is logged in there."""
    return browser(untouched).login()


@pytest.fixture(scope="module")
def ben(untouched):
    """Another one who is."""
    return browser(untouched).login("Ben")


WRITES = {
    "/c/tfbind8/approve": {}, "/c/tfbind8/reject": {"reason": "no"}, "/c/tfbind8/close": {"reason": "no"},
    "/c/tfbind8/veto": {"well": "tfbind8-R01-P1:A01", "reason": "no"}, "/c/tfbind8/go": {"now": "true"},
    "/c/tfbind8/propose": {"round": "quick"}, "/c/tfbind8/file": {"file": b"dna,value\nACGTACGT,1\n"},
    "/c/tfbind8/pick": {"file": b"dna\nACGTACGT\n", "arm": "chemist"}, "/logout": {},
    "/c/tfbind8/ask/predict": {"file": b"dna\nACGTACGT\n"}, "/c/tfbind8/ask/why": {},
    "/c/tfbind8/ask/backtest": {"arms": "random"}, "/c/tfbind8/revise": {"text": "name: x", "reason": "y", "store": "true"},
}  # fmt: skip
"""Every form that writes, filled in."""


def told(fields):
    """Split a form into fields and files."""
    files = {name: ("x.csv", one) for name, one in fields.items() if isinstance(one, bytes)}
    return {name: one for name, one in fields.items() if name not in files}, files or None


def events():
    with closing(connect("labloop-data/ledger.db")) as ledger:
        return ledger.execute("SELECT count(*) FROM event").fetchone()


# ---- who may do what


def test_every_form_of_the_site_is_among_those_that_are_tried_here(app):
    from labloop.cli.serve.actions import actions
    from labloop.cli.serve.questions import questions
    from labloop.cli.serve.revising import revising

    routes = [*actions.routes, *questions.routes, *revising.routes]
    posts = {route.path.replace("{name}", "tfbind8") for route in routes if "POST" in route.methods}
    assert posts - {"/login"} - {one for one in posts if "{key}" in one} == set(WRITES)


@pytest.mark.parametrize("path", WRITES)
def test_nothing_is_written_without_a_login(untouched, path):
    fields, files = told(WRITES[path])
    before = events()
    answer = browser(untouched).fill(path, files=files, **fields)
    assert answer.status_code == 401
    assert "Log in" in answer.text
    assert events() == before


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("forged", ["another site", "no origin", "null", "no key", "another's key"])
def test_forged_forms_are_refused(ann, ben, monkeypatch, path, forged):
    fields, files = told(WRITES[path])
    before = events()
    if forged == "no origin":
        answer = ann.post(path, data={"csrf": ann.csrf, **fields}, files=files)
    else:
        origin = {"another site": "http://evil.example", "null": "null"}.get(forged, HERE)
        if forged == "no key":
            monkeypatch.setattr(ann, "csrf", "")
        if forged == "another's key":
            monkeypatch.setattr(ann, "csrf", ben.csrf)
        answer = ann.fill(path, files=files, origin=origin, **fields)
    assert answer.status_code == 403
    assert "does not come from this page" in answer.text
    assert events() == before


def test_another_port_of_this_computer_is_another_site(ann):
    assert ann.fill("/c/tfbind8/go", origin="http://127.0.0.1:3000").status_code == 403


def test_a_name_that_leads_here_by_a_forged_address_is_not_served(untouched):
    assert browser(untouched, "http://evil.example:8791").get("/").status_code == 421
    assert browser(untouched, "http://localhost:8791").get("/").status_code == 200


def test_a_wrong_token_lets_nobody_in_and_many_wrong_ones_shut_the_door_for_a_while(app):
    page = browser(app)
    for _ in range(10):
        assert page.fill("/login", name="Eve", token="guess", csrf=page.key("/login")).status_code == 403
    assert COOKIE not in page.cookies
    assert page.fill("/login", name="Eve", token=TOKEN, csrf=page.key("/login")).status_code == 429


def test_the_login_itself_cannot_be_forged(untouched):
    page = browser(untouched)
    page.get("/login")
    assert page.fill("/login", name="Eve", token=TOKEN, csrf="0" * 64).status_code == 403
    assert COOKIE not in page.cookies


def test_a_session_is_a_cookie_that_scripts_and_other_sites_do_not_see(untouched):
    page = browser(untouched)
    answer = page.fill("/login", name="Ann", token=TOKEN, csrf=page.key("/login"), next="//evil.example/x")
    assert answer.headers["location"] == "/"
    (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith(COOKIE)]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_who_logs_out_is_out(bench_page):
    bench_page.fill("/logout")
    assert "Log in to write" in bench_page.seen("/")


@pytest.mark.parametrize("path", ["/", "/login", "/c/tfbind8", "/c/none", "/static/serve.css", "/schedule"])
def test_every_page_says_what_a_browser_may_do_with_it(untouched, path):
    headers = browser(untouched).get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


def test_pages_hold_no_script_and_no_style_of_their_own(ann):
    for path in ("/", "/c/tfbind8", "/c/tfbind8/round/1?well=tfbind8-R01-P1:A01", "/login", "/schedule"):
        text = ann.get(path).text
        assert not re.findall(r"<script(?![^>]*src=)|\sstyle=|\son\w+=|<style", text), path


# ---- beyond this computer


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"host": "0.0.0.0"}, "in clear"),
        ({"host": "192.0.2.7", "proxied": True}, "LABLOOP_SERVE_TOKEN"),
        ({"host": "0.0.0.0", "proxied": True, "token": TOKEN}, "--name"),
        ({"token": "short"}, "16"),
        ({"tls": (Path("cert.pem"), None)}, "belong together"),
        ({"tls": (Path("none.pem"), Path("none.key"))}, "no such file"),
        ({"largest": 0}, "MB"),
    ],
    ids=str,
)  # fmt: skip
def test_what_would_be_open_to_too_many_does_not_start(asked, why):
    with pytest.raises(LabloopError, match=re.escape(why)):
        settings_of(**asked)


def test_behind_a_proxy_reading_needs_a_login_and_cookies_need_tls(bench):
    settings = settings_of(proxied=True, names=("lab.example.org",), token=TOKEN)
    assert settings.url == "https://lab.example.org"
    page = browser(site(settings), "https://lab.example.org")
    answer = page.get("/c/tfbind8")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/c/tfbind8")
    answer = page.fill("/login", origin="https://lab.example.org", name="Ann", token=TOKEN, csrf=page.key("/login"))
    assert "Secure" in answer.headers["set-cookie"]
    assert page.get("/c/tfbind8").status_code == 200


# ---- what comes from a browser


HOSTILE = "<script>alert(1)<script>"


def test_hostile_names_and_cells_are_text(bench, bench_page):
    answer = bench_page.drop(f"dna,value,note\nACGTACGT,{HOSTILE},=cmd()\n".encode(), name=f"../../../etc/{HOSTILE}.csv")
    page = bench_page.get(answer.headers["location"]).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "It would be refused" in page
    assert not [one for one in bench.rglob("*") if "script" in one.name or "etc" in one.name]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("../../etc/passwd", "passwd"), (r"C:\Users\x\plate 1.csv", "plate 1.csv"), ("a\r\nX: y\x00.csv", "a X: y .csv"),
        ("‮gpj.csv", "gpj.csv"), ("..", "file"), ("", "file"), ("x" * 400, "x" * 120), (".hidden", "hidden"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_files_name_is_made_fit_to_be_shown(told, shown):
    assert file_name(told) == shown


def test_what_a_browser_calls_a_file_reaches_no_path(bench, bench_page):
    answer = bench_page.drop((bench / "start.csv").read_bytes(), name="../../../start.csv")
    assert answer.status_code == 303
    desk = bench_page.app.state.desk
    (held,) = desk.uploads._held.values()
    assert re.fullmatch(r"[0-9a-f]{32}", held.path.name)
    assert held.path.parent.stat().st_mode & 0o077 == 0
    bench_page.fill(f"{answer.headers['location']}/store")
    assert not held.path.exists()
    assert Campaign.open("tfbind8").ledger.files("tfbind8")["name"].tolist() == ["start.csv"]


def test_nobody_sees_the_file_of_another(app, bench_page):
    where = bench_page.drop(b"dna,value\nACGTACGT,0.5\n").headers["location"]
    assert browser(app).get(where).status_code == 401
    ben = browser(app).login("Ben")
    assert ben.get(where).status_code == 404
    assert ben.fill(f"{where}/store").status_code == 404


@pytest.mark.parametrize("file", ["../manifest.json", "..%2F..%2Fledger.db", "ledger.db", "tfbind8-R01_picks.csv"])
def test_no_path_of_a_browser_leads_to_the_disk(untouched, file):
    answer = browser(untouched).get(f"/c/tfbind8/round/1/files/{file}")
    assert answer.status_code == 404
    assert b"SQLite" not in answer.content


def test_two_hundred_megabytes_are_refused_before_they_are_sent(ann):
    answer = ann.post("/c/tfbind8/file", headers={"Origin": HERE, "Content-Length": str(200 << 20)}, content=b"")
    assert answer.status_code == 413
    assert "64 MB" in answer.text


@pytest.mark.parametrize("known", [True, False], ids=["logged in", "not logged in"])
def test_a_body_without_a_length_is_refused_while_it_comes(untouched, ann, known):
    """Of two hundred megabytes no more are taken than may be; of somebody who is not logged in, none."""
    asked = 0

    async def receive():
        nonlocal asked
        asked += 1
        body = bytes(1 << 20) if asked > 1 else b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        return {"type": "http.request", "body": body, "more_body": asked < 200}

    sent = []

    async def send(message):
        sent.append(message)

    cookie = f"{COOKIE}={ann.cookies[COOKIE]}" if known else "x=y"
    headers = {
        "host": "127.0.0.1:8791", "origin": HERE, "cookie": cookie, "content-type": "multipart/form-data; boundary=b",
    }  # fmt: skip
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": "",
        "path": "/c/tfbind8/file", "raw_path": b"/c/tfbind8/file", "query_string": b"", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8791), "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(untouched(scope, receive, send))
    start = next(one for one in sent if one["type"] == "http.response.start")
    assert start["status"] == (413 if known else 401)
    assert asked <= (66 if known else 0)


# ---- what the page is for


def test_a_file_is_understood_then_stored_in_the_name_of_who_is_logged_in(bench, bench_page):
    answer = bench_page.drop((bench / "start.csv").read_bytes(), name="start.csv")
    where = answer.headers["location"]
    assert "100 readings : 100 measured" in bench_page.seen(where)
    assert Campaign.open("tfbind8").ledger.files("tfbind8").empty  # a look stores nothing
    assert bench_page.fill(f"{where}/store").headers["location"] == "/c/tfbind8"
    assert "Stored. 100 readings: 100 measured, 0 without a value." in bench_page.seen("/c/tfbind8")
    assert Campaign.open("tfbind8").ledger.files("tfbind8")["by"].tolist() == ["Ann Bench"]


def test_faults_are_told_cell_by_cell_and_nothing_can_be_stored(bench, bench_page):
    spoiled = (bench / "start.csv").read_text().splitlines()
    spoiled[3] = spoiled[3].replace("0.", "much 0.")
    where = bench_page.drop("\n".join(spoiled).encode()).headers["location"]
    page = bench_page.seen(where)
    assert "It would be refused" in page
    assert "What is wrong, cell by cell" in page
    assert "Store it" not in page
    assert bench_page.fill(f"{where}/store").status_code == 409
    assert Campaign.open("tfbind8").ledger.files("tfbind8").empty


def test_a_reader_sees_a_blinded_plate_and_takes_its_form(untouched):
    page = browser(untouched)
    well = "/c/tfbind8/round/1?well=tfbind8-R01-P1:A01"
    seen = page.seen(well)
    assert "A01 of tfbind8-R01-P1" in seen
    assert "The plate is blinded" in seen
    assert "Wanted by" not in seen
    assert "picked" not in seen
    form = page.get("/c/tfbind8/round/1/files/tfbind8-R01_assay.csv")
    assert form.content == Path("plates/tfbind8-R01_assay.csv").read_bytes()
    assert "attachment" in form.headers["content-disposition"]
    assert page.get("/c/tfbind8/report").headers["location"].startswith("/login")  # it tells arms apart


def test_who_is_logged_in_may_see_who_wanted_a_well(ann):
    well = "/c/tfbind8/round/1?well=tfbind8-R01-P1:A01"
    assert "Wanted by" not in ann.seen(well)
    assert "Wanted by" in ann.seen(f"{well}&arms=true")
    assert ann.get("/c/tfbind8/round/1/files/tfbind8-R01_picks.csv").status_code == 200


def test_values_stand_in_their_wells_once_they_are_in(app, at_the_lab):
    run = Campaign.open("tfbind8")
    run.ingest(at_the_lab)
    first = run.ledger.measurements("tfbind8", plates=["tfbind8-R01-P1"]).dropna(subset=["value"]).iloc[0]
    seen = browser(app).seen(f"/c/tfbind8/round/1?well={first['plate']}:{first['well']}")
    assert f"{first['value']:.6g}" in seen
    assert "Wanted by" in seen  # the plate is measured: no secret any more


def test_a_plate_is_rejected_with_a_reason_in_the_persons_name(bench, bench_page):
    run = Campaign.open("tfbind8")
    run.ingest("start.csv")
    run.ensure_round("round.yaml")
    run.train_all(1)
    run.ensure_proposed(1)
    assert bench_page.fill("/c/tfbind8/reject", reason="").status_code == 409
    spot = run.batch(1).wells.dropna(subset=["design_id"]).iloc[0]
    well = f"{spot['plate']}:{spot['well']}"
    assert f"Design {spot['design_id']} Value" in bench_page.seen(f"/c/tfbind8/round/1?well={well}")
    answer = bench_page.fill("/c/tfbind8/veto", well=well, reason="cannot be made")
    assert answer.headers["location"] == "/c/tfbind8/round/1"
    assert f"Design {spot['design_id']} Value" not in bench_page.seen(f"/c/tfbind8/round/1?well={well}")
    assert bench_page.fill("/c/tfbind8/reject", reason="too alike").status_code == 303
    events = run.ledger.events("tfbind8")
    (detail,) = events.loc[events["kind"] == "rejected", "detail"]
    assert (detail["by"], detail["reason"]) == ("Ann Bench", "too alike")
    assert run.state(1) == "CLOSED"


def test_designs_of_ones_own_become_an_arm(bench, bench_page):
    Campaign.open("tfbind8").ingest("start.csv")
    files = {"file": ("mine.csv", b"dna\nAAAACCCC\nCCCCAAAA\n")}
    assert bench_page.fill("/c/tfbind8/pick", files=files, arm="chemist", wells="2").status_code == 303
    events = Campaign.open("tfbind8").ledger.events("tfbind8")
    told = [detail for detail in events["detail"] if detail and detail.get("arm") == "chemist"]
    assert (told[0]["by"], told[0]["file"]) == ("Ann Bench", "mine.csv")


@pytest.fixture
def children(monkeypatch):
    """Commands that the page starts find the plug-ins of the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("LABLOOP_PLUGINS", "fakes")


def answered(page, what):
    """Wait for what a question was answered."""
    found = None

    def done():
        nonlocal found
        key = next(one for one in page.app.state.desk.jobs._jobs if one[1:2] == (what,))
        found = page.app.state.desk.jobs.of(*key)
        return not found.running

    until(done)
    assert found.answer is not None, found.lines
    return found.answer


def test_designs_are_predicted_beside_the_page_and_the_answer_is_the_persons_own(bench, children, app, bench_page):
    run = Campaign.open("tfbind8")
    run.ingest("start.csv")
    run.ensure_round("round.yaml")  # whose judge is quickly trained
    before = events()
    hostile = {"file": (f"../{HOSTILE}.csv", f"dna,maker\nACGTACGT,{HOSTILE}\nAAAACCCC,=cmd()\n".encode())}
    assert bench_page.fill("/c/tfbind8/ask/predict", files=hostile).headers["location"] == "/c/tfbind8/ask#predict"
    said = answered(bench_page, "predict")
    page = bench_page.get("/c/tfbind8/ask").text
    assert len(said["designs"]) == 2
    assert "ACGTACGT" in page
    assert "<script>alert" not in page
    table = bench_page.get("/c/tfbind8/ask/predictions.csv").text
    assert len(table.splitlines()) == 3
    assert "'=cmd()" in table
    assert events() == before
    ben = browser(app).login("Ben")
    assert "ACGTACGT" not in ben.seen("/c/tfbind8/ask")
    assert ben.get("/c/tfbind8/ask/predictions.csv").status_code == 404


def test_predictions_under_a_logarithm_have_digits_at_both_ends_and_of_what_nobody_measured_a_dash():
    from labloop.cli.serve.questions import _rows

    goal = {"objectives": {"pot": {"transform": "log", "unit": "nM"}, "sol": {}}, "assays": {}}
    raw = load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig).model_dump(exclude={"objective", "assays"}) | goal
    run = SimpleNamespace(config=CampaignConfig.model_validate(raw))
    blank = dict.fromkeys(("sol", "sol_low", "sol_high", "nearest_value"))
    one = {
        "rank": 1,
        "row": 2,
        "dna": "ACGTACGT",
        "pot": 32.0,
        "pot_low": 0.021,
        "pot_high": 48_000.0,
        "refused_by": "",
        "known": "new",
    }
    (row,) = _rows(run, {"units": {"pot": "nM", "sol": ""}, "designs": [{**one, **blank}]})
    assert row["said"] == [
        {"name": "pot", "value": "32.0 nM", "ends": "0.0210 to 48,000"}, {"name": "sol", "value": "–", "ends": "–"},
    ]  # fmt: skip


def test_designs_that_cannot_be_are_told_cell_by_cell(bench, bench_page):
    Campaign.open("tfbind8").ingest("start.csv")
    answer = bench_page.fill("/c/tfbind8/ask/predict", files={"file": ("mine.csv", b"dna\nACGTACGT\nACGX\n")})
    assert answer.status_code == 409
    assert "mine.csv" in answer.text
    assert "ACGX" in answer.text
    assert not bench_page.app.state.desk.uploads._held


def test_arms_are_tried_on_what_is_measured(bench, bench_page):
    Campaign.open("tfbind8").ingest("start.csv")
    assert bench_page.fill("/c/tfbind8/ask/backtest", arms="--home, x").status_code == 409
    assert bench_page.fill("/c/tfbind8/ask/backtest", arms="random, mutate").status_code == 303
    said = answered(bench_page, "backtest")
    seen = bench_page.seen("/c/tfbind8/ask")
    assert said["sentence"] in seen
    assert {one["arm"] for one in said["arms"]} == {"random", "mutate"}


def test_a_command_beside_the_page_says_how_it_ended(bench, children):
    told = {**os.environ, "LABLOOP_HOME": str(bench / "labloop-data")}
    with (bench / "out").open("w+b") as out, (bench / "err").open("w+b") as err:
        good = begin(["status", "tfbind8", "--json"], environment=told, out=out, err=err)
        assert good.wait(PATIENCE) == 0
        assert begin(["status", "none"], environment=told, out=out, err=err).wait(PATIENCE) == 1
    assert json.loads((bench / "out").read_text())["campaign"] == "tfbind8"
    assert "there is no campaign 'none'" in (bench / "err").read_text()


def without_end(command, **_):
    """A command that ends when it is told to."""
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])


def test_no_more_questions_are_worked_on_than_the_computer_bears(bench, bench_page, monkeypatch):
    monkeypatch.setattr("labloop.cli.serve.jobs.begin", without_end)
    assert bench_page.fill("/c/tfbind8/ask/why").status_code == 303
    assert bench_page.fill("/c/tfbind8/ask/why").status_code == 409
    assert bench_page.fill("/c/tfbind8/ask/backtest").status_code == 303
    answer = bench_page.fill("/c/tfbind8/ask/predict", files={"file": ("x.csv", b"dna\nACGTACGT\n")})
    assert answer.status_code == 409
    assert "at work already" in answer.text


def test_a_touched_well_says_why_it_is_there_to_who_may_know(app, at_the_lab, bench_page):
    well = "/c/tfbind8/round/1?well=tfbind8-R01-P1:A01"
    wells = Campaign.open("tfbind8").ledger.wells("tfbind8", 1).dropna(subset=["design_id"])
    well = f"/c/tfbind8/round/1?well={wells['plate'].iloc[0]}:{wells['well'].iloc[0]}"
    assert "Why is it here?" not in bench_page.seen(well)
    assert "Why is it here?" in bench_page.seen(f"{well}&arms=true")
    said = Campaign.open("tfbind8").why(well.partition("=")[2]).said
    until(lambda: said in bench_page.seen(f"{well}&arms=true&why=true").replace("&#39;", "'"))
    assert said not in browser(app).seen(f"{well}&arms=true&why=true")


def test_a_campaign_says_whether_another_plate_is_worth_it(app, at_the_lab):
    run = Campaign.open("tfbind8")
    run.ingest(at_the_lab)
    stop = run.plan(run.config.schedule.round(0)).stop
    until(lambda: stop in unescape(browser(app).seen("/c/tfbind8")))


def revised(page, text, **more):
    return page.fill("/c/tfbind8/revise", text=text, **more)


def test_the_methods_are_told_by_a_process_beside_the_pages(app, bench):
    Campaign.open("tfbind8")
    seen = browser(app).seen("/c/tfbind8/methods")
    assert "Conservative objective" in seen
    assert "which arms are made of" in seen


def test_one_measured_round_is_told_in_the_same_words_everywhere(app, at_the_lab):
    run = Campaign.open("tfbind8")
    run.ingest(at_the_lab)
    reader, said = browser(app), run.compare(1).sentence
    assert said in unescape(reader.seen("/c/tfbind8"))
    assert said in unescape(reader.seen("/c/tfbind8/round/1"))


def test_of_several_properties_each_is_told_with_its_best(tmp_path):
    run = Campaign.create(load_config(preset("campaigns/branincurrin.yaml"), CampaignConfig), home=tmp_path)
    (tmp_path / "start.csv").write_text("x1,x2,branin,currin\n0.1,0.2,30.5,7.5\n0.5,0.5,24.1,9.25\n")
    run.ingest(tmp_path / "start.csv")
    made = site(settings_of(home=tmp_path, token=TOKEN))
    with TestClient(made):
        seen = browser(made).seen("/c/branincurrin")
    assert "Best so far, branin 24.1" in seen
    assert "Best so far, currin 7.5" in seen
    assert "Compromises 2" in seen


def test_a_campaign_is_changed_with_a_reason_once_it_was_said_what_would_change(bench, bench_page):
    text = unescape(re.search(r"<textarea[^>]*>(.*?)</textarea>", bench_page.get("/c/tfbind8/revise").text, re.DOTALL)[1])
    assert "Nothing would change" in revised(bench_page, text).text
    more = text.replace("\nrounds:", "\nrounds: 7 #", 1) if "\nrounds:" in text else f"{text}\nrounds: 7\n"
    assert "rounds is changed" in revised(bench_page, more, reason="more money").text
    assert Campaign.open("tfbind8").config.rounds != 7
    assert revised(bench_page, more, store="true").status_code == 409  # no reason
    assert revised(bench_page, more, reason="more money", store="true").status_code == 303
    assert Campaign.open("tfbind8").config.rounds == 7
    wrong = revised(bench_page, f"{more}roundz: 3\n")
    assert wrong.status_code == 409
    assert "your text" in wrong.text


def test_every_shipped_campaign_reads_the_same_as_it_is_written_on_the_page(tmp_path):
    from labloop.cli.serve.revising import written

    for path in sorted(preset("campaigns").glob("*.yaml")):
        config = load_config(path, CampaignConfig)
        (tmp_path / "same.yaml").write_text(written(SimpleNamespace(config=config)))
        assert load_config(tmp_path / "same.yaml", CampaignConfig) == config, path.name


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("library", "space: {library: /etc/passwd, parameters: []}"),
        ("smiles", "space: {parameters: [{type: choice, name: x, smiles: ../ledger.csv}]}"),
        ("schedule", "schedule: {rounds: /etc/passwd}"),
        ("schedule", "schedule: {inbox: /tmp}"),
        ("history", "history: {file: /etc/passwd}"),
        ("history", "history: [{campaign: other, home: /root}]"),
    ],
)
def test_a_changed_campaign_reads_no_file_of_the_computer(bench, bench_page, key, named):
    from labloop.cli.serve.revising import written

    said = yaml.safe_load(written(Campaign.open("tfbind8"))) | yaml.safe_load(named)
    answer = revised(bench_page, yaml.safe_dump(said))
    assert answer.status_code == 409
    assert f"{key}: " in answer.text
    assert "on the computer that labloop runs on" in answer.text or "of the computer that labloop runs on" in answer.text


def test_the_page_leads_to_prefect(app, monkeypatch):
    assert "In Prefect" not in browser(app).seen("/c/tfbind8")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    assert 'href="http://127.0.0.1:4200/artifacts/key/tfbind8-report"' in browser(app).get("/c/tfbind8").text
    row = {"campaign": "tfbind8", "prefect": "scheduled", "prefect_url": "http://127.0.0.1:4200/deployments/deployment/7"}
    told = dict.fromkeys(("round", "state", "since", "until"), None) | {"waits_for": "the lab", "what": "", "overdue": False}
    told_all = {"server": "It answers.", "campaigns": [told | row | {"prefect_page": "http://127.0.0.1:4200/artifacts/key/x"}]}
    monkeypatch.setattr("labloop.cli.serve.desk.overview", lambda **_: told_all)
    until(lambda: f'href="{row["prefect_url"]}"' in browser(app).get("/schedule").text)


def test_a_campaign_that_nobody_knows_is_a_page_that_says_so(untouched):
    answer = browser(untouched).get("/c/none")
    assert answer.status_code == 404
    assert "no campaign of this name" in answer.text


def test_a_page_speaks_of_buttons_not_of_commands():
    told = "round 1 waits for approval: read the report, then labloop approve x, or labloop reject x --reason …"
    assert spoken(told) == "round 1 waits for approval: read the report"
    assert spoken("no round is open: labloop step x --now opens the next") == "no round is open"


def test_ten_readers_and_two_writers_at_once_lose_nothing(app, at_the_lab):
    """Two people store three files each while ten look on: every reading is in the ledger once, under its writer's name."""
    rows = Path("start.csv").read_text().splitlines()
    letters = "ACGT"
    designs = ["".join(letters[(i >> (2 * k)) & 3] for k in range(8)) for i in range(40_000, 40_060)]
    parts = [designs[i : i + 10] for i in range(0, 60, 10)]
    before = len(Campaign.open("tfbind8").ledger.measurements("tfbind8"))
    assert len(rows) == before + 1
    turns, done, wrong = threading.Semaphore(0), threading.Event(), []

    def write(name, some):
        page = browser(app).login(name)
        for number, part in enumerate(some):
            text = "dna,value\n" + "".join(f"{one},0.25\n" for one in part)
            where = page.drop(text.encode(), name=f"{name}{number}.csv").headers["location"]
            turns.release(4)  # as many look at all pages while this is stored
            answer = page.fill(f"{where}/store")
            if answer.status_code != 303:
                wrong.append(answer.text)

    def read(number):
        page = browser(app)
        while turns.acquire() and not done.is_set():
            for path in ("/", "/c/tfbind8", "/c/tfbind8/round/1"):
                answer = page.get(path)
                if answer.status_code != 200:
                    wrong.append(answer.text)

    with ThreadPoolExecutor(12) as pool:
        readers = [pool.submit(read, i) for i in range(10)]
        writers = [pool.submit(write, name, parts[i::2]) for i, name in enumerate(("Ann", "Ben"))]
        try:
            for one in writers:
                one.result()
        finally:
            done.set()
            turns.release(10)
        for one in readers:
            one.result()
    assert not wrong
    run = Campaign.open("tfbind8")
    assert len(run.ledger.measurements("tfbind8")) == before + 60
    assert sorted(run.ledger.files("tfbind8")["by"].tolist()[-6:]) == ["Ann"] * 3 + ["Ben"] * 3
    assert run.ledger.verify()[0].faults == ()


def test_who_says_yes_a_second_time_is_not_told_that_nothing_was_done(bench, app, monkeypatch):
    run = Campaign.open("tfbind8")
    run.ingest("start.csv")
    run.propose("round.yaml")
    ann, ben = browser(app).login("Ann"), browser(app).login("Ben")
    monkeypatch.setattr("labloop.cli.serve.jobs.begin", without_end)
    assert ann.fill("/c/tfbind8/approve").status_code == 303
    assert ben.fill("/c/tfbind8/approve").status_code == 303
    assert "is approved. labloop is at work for tfbind8 already" in ben.seen("/c/tfbind8")


def test_a_ledger_that_took_anothers_place_is_what_is_read(app, at_the_lab, bench_page):
    assert "Round 1" in bench_page.seen("/c/tfbind8")
    home = Path("labloop-data")
    home.rename("kept")
    assert "no campaign here yet" in bench_page.seen("/")
    assert main(["init", "campaign.yaml"]) == 0
    assert "No round has been opened" in bench_page.seen("/c/tfbind8")
    home.rename("fresh")
    Path("kept").rename(home)
    assert "Round 1" in bench_page.seen("/c/tfbind8")


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e3"], ids=len)
def test_a_length_that_is_no_number_of_bytes_is_refused(untouched, length):
    answer = browser(untouched).post("/login", content=b"x", headers={"Origin": HERE, "Content-Length": length})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("host", "url"), [("::1", "http://[::1]:8791"), ("127.0.0.2", "http://127.0.0.2:8791"), ("127.0.0.1", HERE)]
)
def test_the_page_is_told_to_be_where_it_listens(host, url):
    told = settings_of(host=host, token=TOKEN)
    assert told.url == url
    assert url.removeprefix("http://") in told.hosts


def test_a_port_that_there_is_not_is_said(bench, capsys):
    assert main(["serve", "--port", "99999"]) == 1
    assert "--port" in capsys.readouterr().err


def test_an_answer_that_is_there_at_once_holds_nobody_up(monkeypatch):
    class AtOnce(ThreadPoolExecutor):
        def submit(self, *work):
            future = super().submit(*work)
            wait([future])
            return future

    monkeypatch.setattr("labloop.cli.serve.patient.ThreadPoolExecutor", AtOnce)
    patient, found = Patient(), []
    asking = threading.Thread(target=lambda: found.append(patient.ask("how many", 1, lambda: 42).answer().value), daemon=True)
    asking.start()
    asking.join(20)
    assert found == [42]


def test_the_command_refuses_what_would_be_open(bench, capsys, monkeypatch):
    monkeypatch.delenv("LABLOOP_SERVE_TOKEN", raising=False)
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "--behind-proxy" in capsys.readouterr().err


def test_a_large_campaign_is_counted_in_a_process_beside_the_pages(tmp_path, tfbind8_config, monkeypatch):
    monkeypatch.setattr("labloop.cli.serve.beside.MANY", 0)
    run = Campaign.create(tfbind8_config, home=tmp_path)
    draw_start(open_lab("tfbind8"), 60, seed=0).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    desk = Desk(settings_of(home=tmp_path, token=TOKEN))
    try:
        there = desk.campaign("tfbind8")
        assert desk.ask(there, "status", Campaign.status).answer(PATIENCE) == Answer(run.status(), True)
        assert desk.ask(there, "where", _process).answer(PATIENCE).value != os.getpid()
        assert desk.ask(there, "interrupt", _interrupted).answer(PATIENCE).value == signal.SIG_IGN  # by Ctrl+C in its terminal
        assert "no round" in desk.ask(there, "round", Campaign.round).answer(PATIENCE).error
    finally:
        desk.close()


def _process(run):
    return os.getpid()


def _interrupted(run):
    return signal.getsignal(signal.SIGINT)
