"""A whole round on the page of `labloop serve`, by a person with a real browser; its pictures are those of the docs.

LABLOOP_PICTURES=docs/images pytest tests/test_serve_browser.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from browser import CHROMIUM, browser
from scheduling import PATIENCE, ROUND, free_port, process, until

from labloop.campaign.facade import Campaign
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import open_lab

TOKEN = "a-token-for-these-tests"
PICTURES = Path(told).absolute() if (told := os.environ.get("LABLOOP_PICTURES")) else None  # the test leaves this folder


@pytest.fixture
def served(bench):
    """The page, served by a process of its own: its address."""
    pytest.importorskip("python_multipart", reason="pip install 'labloop-toolkit[serve]'")
    pytest.importorskip("websockets", reason="Chromium is spoken to by websockets")
    if CHROMIUM is None or sys.platform != "linux":
        pytest.skip("Chromium is not installed")
    port = free_port()
    told = {"LABLOOP_SERVE_TOKEN": TOKEN, "LABLOOP_PLUGINS": "fakes", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", "from labloop.cli import run; run()", "serve", "--port", str(port)]
    with process(command, {**os.environ, **told}, bench / "serve.log") as child:

        def answers():
            assert child.poll() is None, (bench / "serve.log").read_text()
            try:
                return urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE).status == 200
            except OSError:
                return False

        until(answers)
        yield f"http://127.0.0.1:{port}"


@pytest.mark.server
def test_a_whole_round_is_done_on_the_page(served, bench, tmp_path_factory):
    home, run = f"{served}/c/tfbind8", Campaign.open("tfbind8")
    # One that can be asked; the pictures show that of everyday, which each process that asks it takes seconds to import.
    judge = {"ensemble": {"members": 4, "steps": 200, "features": "letters"}} if PICTURES else {"fakes:Ridge": {}}
    (bench / "round.yaml").write_text(yaml.safe_dump({**ROUND, "judge": judge}))
    with browser(tmp_path_factory.mktemp("chromium")) as page:

        def keep(name):
            for width in (1400, 400):
                page.size(width)
                assert page.now("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {width} pixels"
                if PICTURES:
                    page.picture(PICTURES / f"serve-{name}-{width}.png", whole=True)
            page.size(1400)

        def drop(file):
            page.open(home)
            page.choose("#file", file)
            page.press("Look at it")

        def work(button):
            """Let labloop work, and look on until it is done."""
            page.open(home)
            page.text(button)
            page.press(button)
            page.text("Done")
            page.press("Go on")

        page.size(1400)
        page.open(f"{served}/login")
        page.type("#name", "Ann Bench")
        page.type("#token", TOKEN)
        page.press("Log in")

        # History, with a fault; nothing of it is stored, and the mended file is.
        spoiled = bench / "history.csv"
        spoiled.write_text((bench / "start.csv").read_text().replace("0.", "O.", 1))
        drop(spoiled)
        page.text("It would be refused", "cell by cell", "O.")
        keep("faults")
        assert run.ledger.files("tfbind8").empty
        drop(bench / "start.csv")
        page.text("100 readings: 100 measured", "Read as")
        page.press("Store it")
        page.text("Stored. 100 readings")

        # A plate, looked at and approved; its files are taken to the lab.
        work("Do what comes next")
        page.text("Round 1: is this the plate?")
        page.press("Approve the plate")
        page.text("Round 1 is approved")
        until(lambda: run.state(1) == "EXPORTED")
        page.open(f"{home}/round/1")
        page.text("To take to the lab", "The plate is blinded")
        taken = bench / "taken"
        taken.mkdir()
        for link in page.value("[...document.querySelectorAll('.files a')].map(one => one.href)"):
            (taken / link.rpartition("/")[2]).write_bytes(urlopen(link).read() if "picks" not in link else b"")

        # The form comes back filled in half, then whole.
        form = measure_plate(run, open_lab("tfbind8"), taken, bench / "back", number=1)
        empty = (taken / form.name).read_text().splitlines()
        filled = form.read_text().splitlines()
        half = bench / "half.csv"
        half.write_text("\n".join([*filled[:49], *empty[49:]]) + "\n")
        drop(half)
        page.text("not measured yet, which go on waiting")
        keep("upload")
        page.press("Store it")
        page.text("Stored.")
        well = f"{run.ledger.wells('tfbind8', 1)['plate'].iloc[0]}:B02"
        page.open(f"{home}/round/1?well={well}")
        page.text("Its whole story")
        until(lambda: not page.value("document.body.dataset.refresh"))
        keep("plate")
        page.value("document.querySelector('.wells a.chosen').focus()")
        for key in ("ArrowRight", "ArrowDown"):
            page.key(key)
        assert page.value("document.activeElement.getAttribute('aria-label')").startswith("C03")
        page.press("show it now")
        page.press("Why is it here?")
        page.text("Wanted by", run.why(well).said)
        drop(form)
        page.text("48 readings: 48 measured", "48 rows left out")
        page.press("Store it")
        page.text("Stored.")
        assert run.state(1) == "MEASURED"

        # Compared, and the next plate approved.
        work("Do what comes next")
        page.text("Round 2: is this the plate?", "Waits for a person", "Designs measured\n196")
        until(lambda: "being counted" not in page.text("Best so far"))
        keep("campaign")
        page.open(f"{home}/round/1")
        page.text("What each arm got", "offline", "free")

        # The judge is asked: about designs of a file, and what it looks at.
        mine = bench / "mine.csv"
        mine.write_text("dna,remark\nTTAATTAA,known site\nGGGGCCCC,control\nTGATATCA,mine\n")
        page.open(f"{home}/ask")
        page.choose("#designs", mine)
        page.press("Ask about them")
        page.text("TTAATTAA", f"mine.csv: judge {next(iter(judge))} after 196 measured designs")
        page.press("Look into the judge")
        page.text("rank correlation lost", "dna 1")
        keep("ask")

        # The past is asked what another arm would have found.
        page.open(f"{home}/ask")
        page.type("#arms", "random")
        page.press("Try them")
        page.text("Averaged over rounds", "At the end", "random")
        page.open(home)
        page.press("Approve the plate")
        page.text("Round 2 is approved")
        until(lambda: run.state(2) == "EXPORTED")
        page.open(f"{home}/report")
        page.text("CAMPAIGN REPORT", "Arm against arm")
    assert "Traceback" not in (bench / "serve.log").read_text()
    assert set(run.ledger.files("tfbind8")["by"]) == {"Ann Bench"}
