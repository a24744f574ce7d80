"""A campaign that runs by itself: what is decided, what one step does, and that a step may die anywhere and be run again."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import exported

from labloop.campaign import step as steps
from labloop.campaign.checks import check_configs
from labloop.campaign.facade import Campaign
from labloop.campaign.overview import scheduled
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.config.schedule import Schedule
from labloop.errors import CampaignError, ConfigError, MethodError
from labloop.ledger.database import Database
from labloop.rounds.policy import Situation, Wanted, decide
from labloop.studies.demo import measure_plate
from labloop.studies.simulate import draw_start, open_lab

ROUND = {
    "arms": {
        "offline": {"proposers": "fakes:Near", "selector": {"conservative": {"beta": 1.0}}, "pool": 150},
        "free": {"proposers": "random"},
    },
    "judge": "fakes:Flat",
}
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday


def at(**given) -> Situation:
    schedule = parse_config(given.pop("schedule", {}), Schedule)
    return Situation(campaign="c", now=given.pop("now", NOW), schedule=schedule, planned=4, **given)


A, B = Wanted(key="a", proposer="coms", arm="offline"), Wanted(key="b", proposer="qei", arm="bo")


def failed(one: Wanted, times: int) -> Wanted:
    return Wanted(key=one.key, proposer=one.proposer, arm=one.arm, failures=times, error="out of memory")


def finished(one: Wanted) -> Wanted:
    return Wanted(key=one.key, proposer=one.proposer, arm=one.arm, finished=True)


@pytest.mark.parametrize(
    ("situation", "kind", "detail"),
    [
        (at(), "open", {"round": 1}),
        (at(can_learn=False), "wait", {"waits_for": "the lab"}),
        (at(can_learn=False, files=("x.csv",)), "ingest", {"what": "x.csv"}),
        (at(schedule={"start": "by_hand"}), "wait", {"waits_for": "a person"}),
        (at(schedule={"start": "by_hand"}, called=True), "open", {"round": 1}),
        (at(round=1, state="READY", trainings=(finished(A), B)), "train", {"what": "b"}),
        (at(round=1, state="READY", trainings=(failed(A, 2), B)), "train", {"what": "a"}),
        (at(round=1, state="READY", trainings=(failed(A, 3), B)), "train", {"what": "b"}),
        (at(round=1, state="READY", trainings=(failed(A, 3), finished(B))), "wait", {"waits_for": "a person"}),
        (
            at(round=1, state="READY", trainings=(failed(A, 3), finished(B)), schedule={"on_failure": "drop"}),
            "drop",
            {"what": "a", "reason": "out of memory"},
        ),
        (
            at(round=1, state="READY", trainings=(failed(A, 3), failed(B, 3)), schedule={"on_failure": "drop"}),
            "wait",
            {"waits_for": "a person"},
        ),
        (at(round=1, state="READY", trainings=(finished(A), finished(B))), "propose", {"round": 1}),
        (at(round=1, state="TRAINED"), "propose", {"round": 1}),
        (at(round=1, state="PROPOSED"), "export", {"round": 1}),
        (at(round=1, state="PROPOSED", schedule={"approval": True}), "ask", {"round": 1}),
        (at(round=1, state="PROPOSED", schedule={"approval": True}, verdict="asked"), "wait", {"waits_for": "a person"}),
        (at(round=1, state="PROPOSED", schedule={"approval": True}, verdict="approved"), "export", {"round": 1}),
        (at(round=1, state="PROPOSED", schedule={"approval": True}, verdict="rejected"), "close", {"round": 1}),
        (at(round=1, state="MEASURED"), "close", {"reason": ""}),
        (at(round=2, state="CLOSED", done=2, wells=96), "open", {"round": 3}),
        (at(round=2, state="CLOSED", done=2, wells=96, missing=96), "wait", {"waits_for": "a person"}),
        (at(round=2, state="CLOSED", done=1, verdict="rejected", schedule={"start": "by_hand"}), "open", {"round": 3}),
        (at(round=2, state="CLOSED", done=2, wells=96, short="no money is left"), "wait", {"reason": "no money is left"}),
        (at(round=4, state="CLOSED", done=4), "done", {}),
        (at(round=4, state="CLOSED", done=4, called=True), "open", {"round": 5}),
        (at(round=4, state="CLOSED", done=4, files=("late.csv",)), "ingest", {"what": "late.csv"}),
    ],
)
def test_each_situation_has_one_next_action(situation, kind, detail):
    action = decide(situation)
    assert action.kind == kind
    for name, value in detail.items():
        assert getattr(action, name) == value


def test_a_plate_is_waited_for_then_overdue_then_closed_with_wells_missing():
    schedule = {"expected": "5 days", "deadline": "14 days"}
    plate = {"round": 1, "state": "EXPORTED", "since": NOW, "wells": 96, "missing": 40, "schedule": schedule}
    early = decide(at(**plate, now=NOW + timedelta(days=4)))
    assert (early.kind, early.waits_for, early.overdue, early.until) == ("wait", "the lab", False, NOW + timedelta(days=14))
    late = decide(at(**plate, now=NOW + timedelta(days=6)))
    assert (late.kind, late.overdue) == ("wait", True)
    assert "6 days" in late.reason
    over = decide(at(**plate, now=NOW + timedelta(days=14)))
    assert (over.kind, over.reason) == ("close", "deadline of 14 days passed with 40 of 96 wells missing")
    rest = decide(at(**plate, now=NOW + timedelta(days=14), arriving=("rest.csv",), why=("rest.csv was written 2 s ago",)))
    assert rest.waits_for == "a file"
    assert rest.reason == "rest.csv was written 2 s ago. Besides, the deadline of 14 days has passed"
    assert decide(at(**{**plate, "schedule": {}}, now=NOW + timedelta(days=999))).kind == "wait"


@pytest.mark.parametrize(
    ("given", "waits_for", "said"),
    [
        ({"can_learn": False}, "a file", "start.csv ends in the middle of a line. Besides, too few designs are measured"),
        ({"round": 4, "state": "CLOSED", "done": 4}, "a file", "Besides, all 4 planned rounds are closed"),
        ({"schedule": {"start": "by_hand"}}, "a person", "no round is open"),
    ],
)
def test_a_wait_names_the_file_that_is_not_taken_yet_and_why(given, waits_for, said):
    why = {"arriving": ("start.csv",), "why": ("start.csv ends in the middle of a line",), "settles": NOW + timedelta(minutes=2)}
    action = decide(at(**given, **why))
    assert (action.kind, action.waits_for) == ("wait", waits_for)
    assert said in action.reason
    assert why["why"][0] in action.reason
    assert action.until == (why["settles"] if waits_for == "a file" else None)
    assert decide(at(round=1, state="READY", trainings=(A,), **why)).kind == "train"  # nothing else is held up


def test_a_calendar_opens_the_round_at_its_next_time_and_a_missed_time_is_made_up_for():
    berlin = {"start": {"cron": "0 8 * * 1", "timezone": "Europe/Berlin"}}
    closed = {"round": 1, "state": "CLOSED", "done": 1, "wells": 96, "since": NOW, "schedule": berlin}
    waits = decide(at(**closed, now=NOW + timedelta(days=1)))
    assert (waits.kind, waits.waits_for) == ("wait", "the calendar")
    assert waits.until == datetime(2026, 3, 9, 7, tzinfo=UTC)  # 8 in Berlin, winter time
    assert decide(at(**closed, now=datetime(2026, 3, 9, 7, tzinfo=UTC))).kind == "open"
    assert decide(at(**closed, now=datetime(2026, 3, 20, tzinfo=UTC))).kind == "open"
    summer = decide(at(**{**closed, "since": datetime(2026, 3, 24, tzinfo=UTC)}, now=datetime(2026, 3, 24, tzinfo=UTC)))
    assert summer.until == datetime(2026, 3, 30, 6, tzinfo=UTC)  # the clocks went forward on the 29th


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"deadline": 14}, "14 days"),
        ({"deadline": "0 days"}, "longer than nothing"),
        ({"start": {"cron": "every monday"}}, "five fields"),
        ({"start": {"cron": "0 8 30 2 *"}}, "names no time"),
        ({"start": {"cron": "0 8 * * 1", "timezone": "Mars/Base"}}, "Europe/Berlin"),
        ({"inboxes": "in"}, "unknown key"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(schedule, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(schedule, Schedule)


# ---- steps on a ledger


@pytest.fixture(scope="module")
def lab():
    return open_lab("tfbind8")


@pytest.fixture
def make(tmp_path, tfbind8_config, lab, monkeypatch):
    """Make a campaign with a schedule, its start data in the inbox; without its page, which costs more than the rest."""

    def made(home="home", *, page=False, planned=2, **schedule) -> Campaign:
        if not page:
            monkeypatch.setattr(Campaign, "report", lambda run: run.folder / "report.html")
        section = parse_config({"rounds": [ROUND], **schedule}, Schedule)
        run = Campaign.create(tfbind8_config.model_copy(update={"schedule": section, "rounds": planned}), home=tmp_path / home)
        inbox = steps.inbox_of(run)
        inbox.mkdir(parents=True)
        draw_start(lab, 100, seed=0).to_csv(inbox / "start.csv", index=False)
        return run

    return made


def walk(run: Campaign, *, days: float = 0.01) -> list[str]:
    """Step until something is waited for; returns what was done."""
    done = []
    while not (one := steps.step(run, now=datetime.now(UTC) + timedelta(days=days))).action.rests:
        done.append(one.action.kind)
    return [*done, one.action.waits_for or one.action.kind]


def measure(run: Campaign, lab, folder, number: int):
    """The lab measures a round and drops the form into the inbox."""
    return measure_plate(run, lab, steps.plates_of(run), folder, number=number)


def test_a_whole_campaign_runs_by_itself_from_files_in_the_inbox(make, lab):
    run = make(page=True)
    assert walk(run) == ["ingest", "open", "train", "train", "propose", "export", "the lab"]
    measure(run, lab, steps.inbox_of(run), 1)
    assert walk(run) == ["ingest", "close", "open", "train", "train", "propose", "export", "the lab"]
    measure(run, lab, steps.inbox_of(run), 2)
    assert walk(run) == ["ingest", "close", "done"]
    assert [entry["state"] for entry in run.status()["rounds"]] == ["CLOSED", "CLOSED"]
    assert (run.folder / "report.html").exists()
    steps.call(run)
    assert walk(run)[0] == "open"


def test_steps_give_the_same_files_as_the_verbs(make, lab, tmp_path, tfbind8_config):
    run = make()
    walk(run)
    plain = Campaign.create(tfbind8_config.model_copy(update={"rounds": 2}), home=tmp_path / "plain")
    plain.ingest(steps.inbox_of(run) / "done" / "start.csv")
    plain.propose(parse_config(ROUND, RoundConfig), out=tmp_path / "out")
    assert exported(steps.plates_of(run)) == exported(tmp_path / "out")


def test_a_round_asks_a_person_and_goes_out_when_approved(make):
    run = make(approval=True, page=True)
    assert walk(run)[-3:] == ["propose", "ask", "a person"]
    assert not steps.plates_of(run).exists()
    assert (run.folder / "report.html").exists()
    assert run.approve(by="Ana", reason="looks right") == 1
    assert run.approve(by="Ben") == 1
    events = run.ledger.events(run.name)
    assert [detail["by"] for detail in events.loc[events["kind"] == "approved", "detail"]] == ["Ana"]
    with pytest.raises(CampaignError, match="is approved"):
        run.reject(reason="too late")
    assert walk(run) == ["export", "the lab"]
    with pytest.raises(CampaignError, match="EXPORTED"):
        run.approve()


def test_a_rejected_plate_is_replaced_by_another_one_and_its_wells_are_free(make, lab):
    run = make(approval=True, planned=1)
    walk(run)
    first = set(run.batch(1).picks["design_id"])
    with pytest.raises(CampaignError, match="reason"):
        run.reject(reason=" ")
    assert run.reject(reason="too many look-alikes", by="Ana") == 1
    assert run.state(1) == "CLOSED"
    assert len(run.dataset().pending) == 0
    assert walk(run)[0] == "open"
    assert set(run.batch(2).picks["design_id"]) != first
    closing = run.ledger.events(run.name)
    detail = closing[(closing["round"] == 1) & (closing["state"] == "CLOSED")]["detail"].iloc[0]
    assert "rejected by Ana: too many look-alikes" in detail["reason"]
    run.approve()
    walk(run)
    measure(run, lab, steps.inbox_of(run), 2)
    assert walk(run)[-1] == "done"  # one round was planned: the rejected one is none


def test_what_comes_next_is_the_persons_word_where_a_schedule_waits_for_it(make):
    run = make(approval=True)
    walk(run)
    assert "labloop approve tfbind8, or labloop reject tfbind8" in run.status()["next"]
    run.approve()
    assert run.status()["next"] == "write the files of round 1 for the lab: labloop step tfbind8"


def test_a_wait_for_the_lab_names_the_file_that_was_rejected_until_it_comes_again(make, lab, tmp_path):
    run = make()
    walk(run)
    sheet = measure(run, lab, tmp_path / "back", 1).read_text().splitlines(keepends=True)
    dropped = steps.inbox_of(run) / "part.csv"
    dropped.write_text("".join(sheet[:41]).replace("0.", "o.", 1))
    assert walk(run) == ["ingest", "the lab"]
    rejected = steps.inbox_of(run) / "rejected"
    (rejected / "folder.csv.why.txt").mkdir()
    (rejected / "red\x1b[31m.csv.why.txt").write_text("not of the inbox, and no name to print")
    told = "; part.csv was rejected: rejected/part.csv.why.txt in the inbox says what to mend"
    assert steps.next_action(run).reason == run.status()["next"] == f"round 1 waits for 96 of 96 wells{told}"
    dropped.write_text("".join(sheet[:41]))
    assert walk(run) == ["ingest", "the lab"]
    assert steps.next_action(run).reason == "round 1 waits for 56 of 96 wells"


def test_a_deadline_closes_a_round_that_came_back_in_part(make, lab, tmp_path):
    run = make(deadline="14 days", expected="5 days")
    walk(run)
    sheet = measure(run, lab, tmp_path / "back", 1).read_text().splitlines(keepends=True)
    (steps.inbox_of(run) / "part.csv").write_text("".join(sheet[:41]))
    assert walk(run) == ["ingest", "the lab"]
    overdue = steps.next_action(run, now=datetime.now(UTC) + timedelta(days=6))
    assert overdue.overdue
    assert walk(run, days=15)[:2] == ["close", "open"]
    (steps.inbox_of(run) / "rest.csv").write_text("".join([sheet[0], *sheet[41:]]))  # late results count all the same
    before = len(run.dataset())
    assert walk(run)[0] == "ingest"
    assert len(run.dataset()) == before + 56


def test_a_round_that_came_back_empty_waits_for_a_person(make):
    run = make(deadline="14 days")
    walk(run)
    assert walk(run, days=15) == ["close", "a person"]
    steps.call(run)
    steps.call(run)
    assert walk(run)[:1] == ["open"]


def test_a_file_of_the_round_is_read_when_the_round_opens(tmp_path, lab):
    (tmp_path / "campaign.yaml").write_text(
        "name: c\nspace: {parameters: [{type: sequence, name: dna, alphabet: ACGT, length: 8}]}\nschedule: {rounds: r.yaml}\n"
    )
    with pytest.raises(ConfigError, match=r"schedule\.rounds\.0: .*r\.yaml: cannot be read"):
        Campaign.create(tmp_path / "campaign.yaml", home=tmp_path / "home")
    assert not (tmp_path / "home").exists()
    (tmp_path / "r.yaml").write_text("arms: {free: {proposers: random}}\n")
    run = Campaign.create(tmp_path / "campaign.yaml", home=tmp_path / "home")
    assert run.config.schedule.rounds == (tmp_path / "r.yaml",)
    assert "rounds: [config/rounds/first.yaml" in run.status()["next"]  # a judge has nothing to learn from
    (tmp_path / "r.yaml").unlink()
    with pytest.raises(ConfigError, match=r"r\.yaml"):
        steps.step(run)
    assert "r.yaml: cannot be read" in run.status()["next"]
    assert run.status()["next"].endswith(
        "put it back, or where the campaign's files lie elsewhere now: labloop revise c CAMPAIGN.yaml --reason moved"
    )
    (tmp_path / "r.yaml").write_text("arms: {free: {proposers: random}}\njudge: null\n")
    assert walk(run) == ["open", "train", "propose", "export", "the lab"]


def test_a_schedule_may_name_rounds_that_ship(tmp_path, monkeypatch):
    (tmp_path / "config" / "rounds").mkdir(parents=True)
    own = tmp_path / "config" / "rounds" / "quick.yaml"
    own.write_text("arms: {free: {proposers: random}}\njudge: null\n")
    (tmp_path / "campaign.yaml").write_text(
        "name: c\nspace: {parameters: [{type: sequence, name: dna, alphabet: ACGT, length: 8}]}\n"
        "schedule: {rounds: [config/rounds/first.yaml, config/rounds/quick.yaml]}\n"
    )
    here = tmp_path / "elsewhere" / "config" / "rounds" / "first.yaml"  # where a command is called plays no part
    here.parent.mkdir(parents=True)
    here.write_text("arms: {mine: {proposers: random}}\njudge: null\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    check_configs(tmp_path / "campaign.yaml")
    run = Campaign.create(tmp_path / "campaign.yaml", home=tmp_path / "home")
    assert run.config.schedule.rounds == (Path("config/rounds/first.yaml"), own)
    assert run.config.schedule.round(0) == load_config(preset("rounds/first.yaml"), RoundConfig)
    assert list(run.config.schedule.round(1).arms) == ["free"]


def test_a_schedule_made_in_python_reads_the_rounds_of_the_folder_that_it_was_made_in(tmp_path, monkeypatch, tfbind8_config):
    own = tmp_path / "config" / "rounds" / "first.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("arms: {mine: {proposers: random}}\njudge: null\n")
    schedule = Schedule(rounds=["config/rounds/first.yaml", "config/rounds/quick.yaml"])
    monkeypatch.chdir(tmp_path)
    run = Campaign.create(tfbind8_config.model_copy(update={"schedule": schedule}), home=tmp_path / "home")
    assert run.config.schedule.rounds == (own, Path("config/rounds/quick.yaml"))
    (own.parent / "quick.yaml").write_text("arms: {later: {proposers: random}}\njudge: null\n")
    told = run.revise(run.config.model_copy(update={"rounds": 9}), reason="more")
    assert len(told) == 1, "what a schedule read stays what it reads"
    run.revise(run.config.model_copy(update={"schedule": Schedule(rounds=["config/rounds/quick.yaml"])}), reason="mine")
    monkeypatch.chdir(tmp_path / "home")
    assert list(Campaign.open(run.name, home=tmp_path / "home").config.schedule.round(0).arms) == ["later"]


def test_a_running_campaign_gets_and_changes_its_schedule_by_a_revision(tmp_path, tfbind8_config):
    run = Campaign.create(tfbind8_config, home=tmp_path / "home")
    assert scheduled(home=tmp_path / "home") == []
    for start, waits in (("by_hand", "a person"), ({"cron": "0 8 1 1 *"}, "the calendar")):
        section = parse_config({"rounds": [{"arms": {"free": {"proposers": "random"}}, "judge": None}], "start": start}, Schedule)
        assert run.revise(tfbind8_config.model_copy(update={"schedule": section}), reason="runs by itself")
        (again,) = scheduled(home=tmp_path / "home")
        assert steps.next_action(again).waits_for == waits


def test_a_proposer_that_fails_stops_the_round_until_it_is_mended(make):
    run = make(rounds=[{**ROUND, "arms": {**ROUND["arms"], "bad": {"proposers": "fakes:Broken"}}}])
    for _ in range(3):
        with pytest.raises(MethodError, match="contract"):
            walk(run)
    assert walk(run) == ["a person"]
    assert run.state(1) == "READY"
    steps.retry(run)
    with pytest.raises(MethodError):
        walk(run)


@pytest.mark.parametrize("proposers", ["fakes:Broken", ["fakes:Broken", "random"]], ids=["whole arm", "one of two"])
def test_a_proposer_that_fails_is_dropped_where_the_schedule_says_so(make, proposers):
    arms = {"bad": {"proposers": proposers, "wells": 30}, "free": {"proposers": {"fakes:Near": {"shift": 2}}, "wells": 66}}
    run = make(rounds=[{**ROUND, "arms": arms}], on_failure="drop")
    for _ in range(3):
        with pytest.raises(MethodError):
            walk(run)
    assert "drop" in walk(run)
    batch = run.batch(1)
    assert batch.picks["design_id"].nunique() == 96
    assert set(batch.picks["arm"]) == ({"free"} if proposers == "fakes:Broken" else {"bad", "free"})
    events = run.ledger.events(run.name)
    (dropped,) = events.loc[events["kind"] == "training_dropped", "detail"]
    assert dropped["proposer"] == "fakes:Broken"
    assert "contract" in dropped["reason"]
    assert list(batch.manifest["round"]["arms"]) == (["free"] if proposers == "fakes:Broken" else ["bad", "free"])


def test_a_second_process_does_not_step_at_the_same_time(make):
    run = make()
    with steps.turn(run.folder):
        other = Campaign.open(run.name, home=run.folder.parent).step()
    assert other.action.waits_for == "another process"


def die_at(place: int, home) -> None:
    """Step until something is waited for; die at the n-th call of what stores or moves anything."""
    left = place

    def dying(function):
        def called(*arguments, **named):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return called

    Path.rename, os.replace, Database.begin = dying(Path.rename), dying(os.replace), dying(Database.begin)
    walk(Campaign.open("tfbind8", home=home))
    os._exit(0)  # Prefect's threads, which other tests have left in the process that was forked, cannot be ended here


def test_killed_at_every_turn_a_round_ends_as_if_nothing_had_happened(make):
    calm, run = make("calm"), make("shaken")
    walk(calm)
    codes = []
    for place in [*range(1, 8), 999]:
        child = multiprocessing.get_context("fork").Process(target=die_at, args=(place, run.folder.parent))
        child.start()
        child.join()
        codes.append(child.exitcode)
    assert set(codes) == {0, -signal.SIGKILL}
    assert codes.count(-signal.SIGKILL) >= 5
    assert run.state(1) == "EXPORTED"
    plates = [exported(steps.plates_of(one), "tfbind8*") for one in (calm, run)]
    assert plates[0] == plates[1]
    assert len(run.ledger.runs(run.name, 1)) == 2
    assert len(run.dataset()) == 100
    assert [path.name for path in (steps.inbox_of(run) / "done").glob("*.csv")] == ["start.csv"]
    for folder in (".taken", ".work", "rejected"):
        assert list((steps.inbox_of(run) / folder).iterdir()) == []


def test_looking_on_while_a_round_opens_finds_no_state_without_its_entry(make, monkeypatch):
    run = make()
    assert steps.step(run, now=datetime.now(UTC) + timedelta(days=0.01)).action.kind == "ingest"
    look = type(run.ledger).events

    def meanwhile(ledger, campaign):
        found = look(ledger, campaign)
        if not ledger.rounds(campaign):
            run.ensure_round(steps.schedule_of(run).round(0))
        return found

    monkeypatch.setattr(type(run.ledger), "events", meanwhile)
    assert steps.next_action(run).kind == "open"
    assert steps.next_action(run).kind == "train"
