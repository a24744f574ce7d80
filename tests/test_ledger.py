"""The ledger's contract, kept on SQLite and on PostgreSQL alike, and what is particular to each."""

from __future__ import annotations

import gc
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crash_driver import together
from sqlalchemy import Connection, Engine, create_engine, event, text

from labloop.errors import CampaignError, LedgerError
from labloop.ledger import STATES, Ledger, RoundState, migrations


@pytest.fixture
def ledger(where: str) -> Iterator[Ledger]:
    """A ledger with the campaign `dna`."""
    with Ledger.open(where, timeout=20) as ledger:
        ledger.add_campaign("dna", '{"name": "dna"}')
        yield ledger


# ---- things to store


def designs(*ids: str) -> pd.DataFrame:
    """Designs with a text, a fraction and a whole number, which depend on their id only."""
    return pd.DataFrame(
        {
            "dna": [f"ACGT{one}" for one in ids],
            "ph": [len(one) + 0.1 for one in ids],
            "cycles": [ord(one[0]) for one in ids],
            "in_space": [one != "odd" for one in ids],
        },
        index=pd.Index(list(ids), name="design_id"),
    )


def readings(*ids: str | None, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"design_id": list(ids), "assay": "binding", "value": np.arange(float(len(ids))), **columns})


def add_readings(ledger: Ledger, *ids: str, sha256: str = "aa", **columns: Any) -> bool:
    table = pd.DataFrame({**readings(*ids), **columns})
    return ledger.add_file("dna", sha256=sha256, name=f"{sha256}.csv", designs=designs(*ids), measurements=table)


def open_round(ledger: Ledger, number: int = 1, **changes: Any) -> bool:
    options = {"config": '{"arms": {}}', "seed": 2**63 - 1, "fingerprint": "f00", "incumbent": 0.25, **changes}
    return ledger.open_round("dna", number, **options)


def train_round(ledger: Ledger, number: int = 1) -> None:
    open_round(ledger, number)
    ledger.advance("dna", number, "TRAINED")


def add_run(ledger: Ledger, key: str = "coms-1", ids: tuple[str, ...] = ("a", "b"), **changes: Any) -> bool:
    pool = pd.DataFrame({"design_id": ids, "rank": np.arange(1, len(ids) + 1), "score": np.linspace(1, 0, len(ids))})
    options: dict[str, Any] = {
        "proposer": "coms", "arm": "offline", "options": {"epochs": 5}, "seed": 3, "fingerprint": "f00", "device": "cpu",
        "seconds": 1.5, "cpu_seconds": 2.5, "versions": {"torch": "2"}, "notes": {"alpha": 0.5}, "designs": designs(*ids),
        "pool": pool,
    }  # fmt: skip
    return ledger.add_run("dna", 1, key=key, **{**options, **changes})


def add_batch(ledger: Ledger, *ids: str, number: int = 1, plate: str = "R1P1", **changes: Any) -> bool:
    n = len(ids)
    picks = pd.DataFrame(
        {"arm": "bo", "rank": range(1, n + 1), "design_id": ids, "proposer": "qei", "score": 0.5, "mean": 0.25, "std": 0.5,
         "lcb": -0.25, "nearest_id": "a", "nearest_distance": 2.0}
    )  # fmt: skip
    wells = pd.DataFrame(
        {"plate": plate, "well": [f"A{i}" for i in range(1, n + 2)], "row": 1, "column": range(1, n + 2),
         "design_id": [*ids, None], "control": [None] * n + ["blank"]}
    )  # fmt: skip
    return ledger.add_batch("dna", number, **{"designs": designs(*ids), "picks": picks, "wells": wells, **changes})


def everything(ledger: Ledger) -> dict[str, Any]:
    """All that can be read of the campaign, comparable."""
    verbs = (ledger.files, ledger.measurements, ledger.designs, ledger.runs, ledger.picks, ledger.wells, ledger.events)
    return {"campaigns": ledger.campaigns(), "rounds": ledger.rounds("dna"), **{v.__name__: v("dna").to_csv() for v in verbs}}


# ---- ways to look and to interfere


class Stop(Exception):
    """Stands for an end at this very point."""


@contextmanager
def stopping_after(table: str) -> Iterator[None]:
    """Raise once rows went into a table."""

    def stop(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.split()[:2] == ["INSERT", "INTO"] and statement.split()[2].strip('"') == table:
            raise Stop

    event.listen(Engine, "after_cursor_execute", stop)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", stop)


@contextmanager
def watching() -> Iterator[list[str]]:
    """Collect the statements sent to any database."""
    seen: list[str] = []

    def see(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", see)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", see)


def add_colour(connection: Connection) -> None:
    """A migration, such as a later version will bring."""
    connection.execute(text("ALTER TABLE campaign ADD COLUMN colour TEXT DEFAULT 'blue'"))


@pytest.fixture
def future(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make this labloop one ledger version newer; undo() brings the present back."""
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, add_colour))
    return monkeypatch


class TestContract:
    """What the ledger promises on every database."""

    # ---- campaigns

    def test_a_campaign_gives_back_the_very_text_of_its_config(self, ledger: Ledger) -> None:
        config = '{"b": 1.0,   "a": "µM — ΔG"}'
        ledger.add_campaign("other", config)
        assert ledger.config("other") == config
        assert ledger.campaigns() == ["dna", "other"]

    def test_a_campaign_that_exists_is_refused_with_the_next_step(self, ledger: Ledger) -> None:
        with pytest.raises(CampaignError, match=r"'dna' exists already.*labloop status dna"):
            ledger.add_campaign("dna", "{}")
        assert ledger.config("dna") == '{"name": "dna"}'

    def test_an_unknown_campaign_is_refused_and_the_known_are_listed(self, ledger: Ledger) -> None:
        calls: list[Callable[[], object]] = [
            lambda: ledger.config("dan"),
            lambda: ledger.measurements("dan"),
            lambda: ledger.rounds("dan"),
            lambda: ledger.advance("dan", 1, "TRAINED"),
            lambda: ledger.add_event("dan", "note"),
        ]
        for call in calls:
            with pytest.raises(CampaignError, match=r"no campaign 'dan'.*there are: dna"):
                call()

    def test_what_was_read_is_kept_until_anybody_writes_and_is_the_readers_own(self, ledger: Ledger) -> None:
        asked: list[str] = []
        event.listen(ledger._store.database.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
        ledger.add_event("dna", "note", {"n": 1})
        mine = ledger.events("dna")
        mine["kind"] = "spoiled"
        asked.clear()
        assert ledger.events("dna")["kind"].tolist() == ["note"]
        assert asked
        assert not [one for one in asked if "FROM event" in one]
        with Ledger.open(ledger.reach[0]) as other:
            other.add_event("dna", "of another process")
        assert ledger.events("dna")["kind"].tolist() == ["note", "of another process"]
        with suppress(ZeroDivisionError), ledger.begin():
            ledger.add_event("dna", "undone")
            assert len(ledger.events("dna")) == 3
            raise ZeroDivisionError
        assert len(ledger.events("dna")) == 2

    # ---- files

    def test_a_file_comes_back_as_it_was_given(self, ledger: Ledger) -> None:
        given = readings(
            "a", "odd", None, "a",
            value=[1.5, np.nan, 1 / 3, 1e-300], qualifier=["=", "=", ">", "<"], unit=["nM", None, "nM", "nM"],
            status=["ok", "failed_technical", "ok", "censored_low"], plate=["R1P1", "R1P1", "R1P1", None],
            well=["A1", "A2", "H12", None], round=[1, 1, 1, None], measured_at=["2024-05-01T10:00:00+00:00", None, None, None],
            note=["ΔG \"quoted\", 'single'\nline", None, None, None], row=[2, 3, 4, 9],
        )  # fmt: skip
        assert ledger.add_file("dna", sha256="aa", name="plate 1.csv", designs=designs("odd", "a"), measurements=given)
        found = ledger.measurements("dna")
        assert list(found) == [
            "design_id", "assay", "value", "qualifier", "unit", "status", "plate", "well", "round", "measured_at", "note", "file",
            "row", "id",
        ]  # fmt: skip
        assert set(found["file"]) == {"plate 1.csv"}
        for name in given:
            assert found[name].isna().tolist() == given[name].isna().tolist(), name
            assert found[name].dropna().tolist() == given[name].dropna().tolist(), name
        pd.testing.assert_frame_equal(ledger.designs("dna"), designs("a", "odd"))
        assert ledger.files("dna")[["sha256", "name", "n_rows"]].to_numpy().tolist() == [["aa", "plate 1.csv", 4]]

    def test_single_columns_are_those_of_the_whole_also_when_more_came_in_or_were_corrected(self, ledger: Ledger) -> None:
        add_readings(ledger, "a", "b", value=[1.0, 2.0], plate=["P", "Q"], well=["A1", "A2"])
        assert list(ledger.measurements("dna", columns=("value", "id"))) == ["value", "id"]
        old = int(ledger.measurements("dna", columns=("id",))["id"].iloc[0])
        add_readings(ledger, "a", sha256="bb", value=[3.0], supersedes=[old], plate=["P"], well=["A1"])
        for columns in (("value", "file"), ("id", "value", "plate")):
            some = ledger.measurements("dna", columns=columns)
            pd.testing.assert_frame_equal(some, ledger.measurements("dna")[list(columns)])
        assert ledger.measurements("dna", columns=("value",))["value"].tolist() == [2.0, 3.0]
        assert ledger.measurements("dna", plates=["P"], columns=("value",))["value"].tolist() == [3.0]
        assert ledger.measurements("dna", until=old, columns=("value",))["value"].tolist() == [1.0]
        with ledger.begin():
            add_readings(ledger, "a", sha256="cc", value=[4.0])
            assert ledger.measurements("dna", columns=("value",))["value"].tolist() == [2.0, 3.0, 4.0]

    @pytest.mark.parametrize("note", ['it\'s 5 % of "all" :x ?', "1", None])
    def test_what_thousands_of_rows_have_alike_comes_back_as_it_was_given(self, ledger: Ledger, note: str | None) -> None:
        n = 12_345  # more than one block, and than whole statements
        given = readings(*["a"] * n, value=np.arange(n) / 7, note=[note] * n, round=[0] * n, plate=["P"] * (n - 1) + ["Q"])
        assert ledger.add_file("dna", sha256="aa", name="long.csv", designs=designs("a"), measurements=given)
        found = ledger.measurements("dna")
        assert found["value"].tolist() == given["value"].tolist()
        assert found["plate"].tolist() == given["plate"].tolist()
        assert set(found["round"]) == {0}
        assert set(found["note"].fillna("nothing")) == {note or "nothing"}
        assert ledger.verify("dna")[0].faults == ()

    def test_cells_left_out_mean_an_exact_reading_that_is_ok_in_file_order(self, ledger: Ledger) -> None:
        add_readings(ledger, "a", "b", qualifier=[None, "<"])
        found = ledger.measurements("dna")
        assert found["qualifier"].tolist() == ["=", "<"]
        assert found["status"].tolist() == ["ok", "ok"]
        assert found["row"].tolist() == [1, 2]
        assert found[["unit", "plate", "well", "round", "measured_at", "note"]].isna().all(axis=None)

    def test_the_same_bytes_twice_change_nothing(self, ledger: Ledger) -> None:
        assert not ledger.has_file("dna", "aa")
        assert add_readings(ledger, "a")
        before = everything(ledger)
        assert ledger.has_file("dna", "aa")
        assert not add_readings(ledger, "a", "b")
        assert everything(ledger) == before

    def test_the_same_bytes_are_news_to_another_campaign(self, ledger: Ledger) -> None:
        add_readings(ledger, "a")
        ledger.add_campaign("other", "{}")
        assert ledger.measurements("other").empty
        assert ledger.add_file("other", sha256="aa", name="f", designs=designs("a"), measurements=readings("a"))
        assert len(ledger.measurements("other")) == len(ledger.measurements("dna")) == 1

    def test_a_known_design_stays_as_it_was_first_stored(self, ledger: Ledger) -> None:
        add_readings(ledger, "a")
        ledger.add_file("dna", sha256="bb", name="b", designs=designs("a", "b").assign(ph=9.0), measurements=readings("b"))
        assert ledger.designs("dna")["ph"].tolist() == [1.1, 9.0]

    def test_designs_come_in_the_order_asked_for_without_the_unknown(self, ledger: Ledger) -> None:
        add_readings(ledger, "a", "b", "c")
        pd.testing.assert_frame_equal(ledger.designs("dna", ["c", "nobody", "a", "c"]), designs("c", "a"))
        assert ledger.designs("dna", ["nobody"]).empty
        assert ledger.designs("dna", []).empty

    def test_designs_with_the_id_as_a_column_and_given_twice_are_taken_too(self, ledger: Ledger) -> None:
        twice = designs("b", "a", "b").reset_index()
        ledger.add_file("dna", sha256="a", name="a", designs=twice, measurements=readings("a", "b"))
        pd.testing.assert_frame_equal(ledger.designs("dna"), designs("a", "b"))

    def test_numbers_of_designs_survive_to_the_last_bit(self, ledger: Ledger) -> None:
        numbers = {"x": [0.1 + 0.2, 5e-324, -1.7976931348623157e308], "k": [1, 2, 3]}
        given = pd.DataFrame(numbers, index=pd.Index(["a", "b", "c"], name="design_id"))
        ledger.add_file("dna", sha256="a", name="a", designs=given, measurements=readings("a", "b", "c"))
        found = ledger.designs("dna")
        assert found["x"].tolist() == numbers["x"]
        assert found["k"].tolist() == numbers["k"]
        assert found["k"].dtype == np.int64

    def test_designs_of_a_space_that_was_widened_live_beside_the_old(self, ledger: Ledger) -> None:
        add_readings(ledger, "a")
        ledger.add_file("dna", sha256="b", name="b", designs=designs("b").assign(salt=0.5), measurements=readings("b"))
        found = ledger.designs("dna")
        assert found.loc["b", "salt"] == 0.5
        assert np.isnan(found.loc["a", "salt"])
        assert found["cycles"].tolist() == [97, 98]

    def test_a_reading_of_a_design_that_nobody_knows_is_refused_whole(self, ledger: Ledger) -> None:
        before = everything(ledger)
        with pytest.raises(LedgerError, match="nothing was written"):
            ledger.add_file("dna", sha256="a", name="a", designs=designs("a"), measurements=readings("a", "ghost"))
        assert everything(ledger) == before

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"value": [np.inf]}, "infinite"),
            ({"value": [-np.inf]}, "infinite"),
            ({"colour": ["red"]}, "no column colour"),
            ({"assay": [None]}, "assay may not be missing"),
            ({"round": [1.5]}, "not whole"),
        ],
        ids=["inf", "-inf", "unknown column", "no assay", "half a round"],
    )
    def test_a_table_that_makes_no_sense_is_refused_before_anything_is_written(
        self, ledger: Ledger, columns: dict[str, list[Any]], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            add_readings(ledger, "a", **columns)
        assert ledger.files("dna").empty
        assert ledger.designs("dna").empty

    def test_an_infinite_number_in_a_design_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="column 'ph' holds an infinite number"):
            ledger.add_file("dna", sha256="a", name="a", designs=designs("a").assign(ph=np.inf), measurements=readings("a"))

    def test_a_file_without_a_reading_is_remembered(self, ledger: Ledger) -> None:
        empty = {"sha256": "e", "name": "empty.csv", "designs": designs(), "measurements": readings()}
        assert ledger.add_file("dna", **empty)
        assert not ledger.add_file("dna", **empty)
        assert ledger.files("dna")["n_rows"].tolist() == [0]

    # ---- corrections

    def test_a_correction_supersedes_and_can_be_corrected_in_turn(self, ledger: Ledger) -> None:
        add_readings(ledger, "a", "b", value=[1.0, 2.0])
        first = ledger.measurements("dna")
        add_readings(ledger, "a", sha256="bb", value=[10.0], supersedes=[first["id"][0]])
        second = ledger.measurements("dna")
        assert second[["design_id", "value", "file"]].to_numpy().tolist() == [["b", 2.0, "aa.csv"], ["a", 10.0, "bb.csv"]]
        add_readings(ledger, "a", sha256="cc", value=[11.0], supersedes=[second["id"][1]])
        assert ledger.measurements("dna")["value"].tolist() == [2.0, 11.0]

    def test_a_reading_is_superseded_once_and_only_in_its_own_campaign(self, ledger: Ledger) -> None:
        add_readings(ledger, "a", "b")
        ledger.add_campaign("other", "{}")
        ledger.add_file("other", sha256="a", name="a", designs=designs("a"), measurements=readings("a"))
        old, stands = ledger.measurements("dna")["id"].tolist()
        strange = ledger.measurements("other")["id"][0]
        add_readings(ledger, "a", sha256="bb", supersedes=[old])
        before = everything(ledger)
        with pytest.raises(CampaignError, match=f"measurement {old} would be superseded twice"):
            add_readings(ledger, "a", sha256="cc", supersedes=[old])
        with pytest.raises(CampaignError, match=f"measurement {stands} would be superseded twice"):
            add_readings(ledger, "a", "a", sha256="cc", supersedes=[stands, stands])
        for unknown in (strange, 10**9):
            with pytest.raises(CampaignError, match=f"measurement {unknown}, to be superseded, is not one of this campaign"):
                add_readings(ledger, "a", sha256="cc", supersedes=[unknown])
        assert everything(ledger) == before

    # ---- rounds

    def test_a_round_opens_ready_and_opens_once(self, ledger: Ledger) -> None:
        assert open_round(ledger)
        assert not open_round(ledger, seed=8, config="{}", incumbent=7.0)
        (one,) = ledger.rounds("dna")
        assert (one.number, one.state, one.config, one.seed) == (1, "READY", '{"arms": {}}', 2**63 - 1)
        assert (one.fingerprint, one.incumbent) == ("f00", 0.25)

    def test_a_round_may_have_no_incumbent_but_no_infinite_one(self, ledger: Ledger) -> None:
        open_round(ledger, 1, incumbent=None)
        open_round(ledger, 2, incumbent=np.nan)
        with pytest.raises(ValueError, match="infinite"):
            open_round(ledger, 3, incumbent=np.inf)
        assert [one.incumbent for one in ledger.rounds("dna")] == [None, None]

    def test_a_round_goes_through_its_states_one_by_one_and_never_back(self, ledger: Ledger) -> None:
        open_round(ledger, 2)
        open_round(ledger, 1)
        for i, state in enumerate(STATES[1:], start=1):
            for skipped in STATES[i + 1 :]:
                with pytest.raises(CampaignError, match=f"is {STATES[i - 1]} and cannot be {skipped}"):
                    ledger.advance("dna", 1, skipped)
            assert ledger.advance("dna", 1, state, {"step": i})
            assert [ledger.advance("dna", 1, past) for past in STATES[: i + 1]] == [False] * (i + 1)
            assert [(one.number, one.state) for one in ledger.rounds("dna")] == [(1, state), (2, "READY")]
        events = ledger.events("dna")
        events = events[events["round"] == 1]
        assert events["state"].tolist() == list(STATES)
        assert events["detail"].tolist()[1:] == [{"step": i} for i in range(1, 6)]

    def test_a_state_is_one_of_six_names_and_its_text_is_what_is_stored(self, ledger: Ledger) -> None:
        open_round(ledger, 1)
        assert ledger.rounds("dna")[0].state is RoundState.READY
        assert ledger.advance("dna", 1, "TRAINED")
        assert ledger.advance("dna", 1, RoundState.PROPOSED)
        assert ledger.rounds("dna")[0].state is RoundState.PROPOSED
        assert ledger.events("dna")["state"].dropna().tolist() == ["READY", "TRAINED", "PROPOSED"]
        assert {type(one) for one in ledger.events("dna")["state"].dropna()} == {str}
        with pytest.raises(ValueError, match="'LOST' is not a state of a round: READY, TRAINED"):
            ledger.advance("dna", 1, "LOST")
        assert ledger.verify("dna")[0].faults == ()

    def test_a_round_that_is_not_open_is_refused_and_the_open_are_listed(self, ledger: Ledger) -> None:
        open_round(ledger, 3)
        calls: list[Callable[[], object]] = [
            lambda: ledger.advance("dna", 1, "TRAINED"),
            lambda: add_run(ledger),
            lambda: add_batch(ledger, "a"),
            lambda: ledger.add_event("dna", "note", number=1),
        ]
        for call in calls:
            with pytest.raises(CampaignError, match=r"round 1 of 'dna' is not open \(open: 3\)"):
                call()
        with pytest.raises(ValueError, match="'DONE' is not a state"):
            ledger.advance("dna", 3, "DONE")

    # ---- runs

    def test_a_run_and_its_pool_come_back_as_given(self, ledger: Ledger) -> None:
        open_round(ledger)
        notes = {"loss": [1.0, np.nan], "last": np.float32(0.5), "best": np.inf, "by": "ΔG"}
        assert add_run(ledger, ids=("b", "a", "c"), notes=notes, seconds=np.nan)
        (row,) = ledger.runs("dna").to_dict("records")
        assert row["options"] == {"epochs": 5}
        assert row["versions"] == {"torch": "2"}
        assert row["notes"] == {"loss": [1.0, None], "last": 0.5, "best": "inf", "by": "ΔG"}
        assert (row["round"], row["key"], row["proposer"], row["arm"], row["device"]) == (1, "coms-1", "coms", "offline", "cpu")
        assert np.isnan(row["seconds"])
        assert row["cpu_seconds"] == 2.5
        pool = ledger.pool("dna", 1, "coms-1")
        assert list(pool) == ["design_id", "rank", "score", "dna", "ph", "cycles"]
        assert pool["design_id"].tolist() == ["b", "a", "c"]
        assert pool["dna"].tolist() == ["ACGTb", "ACGTa", "ACGTc"]
        assert pool["score"].tolist() == [1.0, 0.5, 0.0]

    def test_a_run_is_stored_once_and_the_first_stays(self, ledger: Ledger) -> None:
        open_round(ledger)
        assert add_run(ledger)
        before = everything(ledger)
        assert not add_run(ledger, ids=("x", "y", "z"), notes={"alpha": 9.0})
        assert everything(ledger) == before
        assert add_run(ledger, key="coms-2", ids=("b",))
        assert ledger.pool("dna", 1, "coms-1")["design_id"].tolist() == ["a", "b"]
        assert ledger.offers("dna", 1) == [("coms-1", "a"), ("coms-1", "b"), ("coms-2", "b")]

    def test_a_pool_of_a_run_that_is_not_there_lists_the_runs(self, ledger: Ledger) -> None:
        open_round(ledger)
        add_run(ledger)
        with pytest.raises(CampaignError, match=r"no run 'gtg' \(there are: coms-1\)"):
            ledger.pool("dna", 1, "gtg")

    def test_runs_picks_and_wells_can_be_listed_by_round(self, ledger: Ledger) -> None:
        open_round(ledger, 2)
        train_round(ledger)
        add_run(ledger)
        add_batch(ledger, "a")
        for listing in (ledger.runs, ledger.picks, ledger.wells):
            assert not listing("dna", 1).empty
            assert listing("dna", 2).empty
            assert listing("dna", 2).dtypes.tolist() == listing("dna", 1).dtypes.tolist()

    # ---- batches

    def test_a_batch_proposes_the_round_and_comes_back_as_given(self, ledger: Ledger) -> None:
        train_round(ledger)
        assert add_batch(ledger, "b", "a")
        assert ledger.rounds("dna")[0].state == "PROPOSED"
        picks = ledger.picks("dna", 1)
        assert picks[["round", "arm", "rank", "design_id", "proposer"]].to_numpy().tolist() == [
            [1, "bo", 1, "b", "qei"],
            [1, "bo", 2, "a", "qei"],
        ]
        reasons = ["score", "mean", "std", "lcb", "nearest_id", "nearest_distance"]
        assert picks.loc[0, reasons].tolist() == [0.5, 0.25, 0.5, -0.25, "a", 2.0]
        wells = ledger.wells("dna", 1)
        assert list(wells) == ["round", "plate", "well", "row", "column", "design_id", "control"]
        assert wells["well"].tolist() == ["A1", "A2", "A3"]
        assert wells["design_id"].tolist()[:2] == ["b", "a"]
        assert wells["design_id"].isna().tolist() == [False, False, True]
        assert wells["control"].isna().tolist() == [True, True, False]

    def test_a_second_batch_changes_nothing_at_any_later_state(self, ledger: Ledger) -> None:
        train_round(ledger)
        add_batch(ledger, "a", "b")
        for state in STATES[2:]:
            ledger.advance("dna", 1, state)
            before = everything(ledger)
            assert not add_batch(ledger, "c", "d", plate="other")
            assert everything(ledger) == before

    def test_a_batch_before_the_training_is_refused(self, ledger: Ledger) -> None:
        open_round(ledger)
        with pytest.raises(CampaignError, match="READY and cannot be PROPOSED before it is TRAINED"):
            add_batch(ledger, "a")
        assert ledger.picks("dna").empty

    def test_a_design_picked_by_two_arms_counts_for_both(self, ledger: Ledger) -> None:
        train_round(ledger)
        both = pd.DataFrame({"arm": ["bo", "offline"], "rank": 1, "design_id": "a", "proposer": ["qei", "coms"]})
        assert add_batch(ledger, "a", picks=both)
        assert ledger.picks("dna")["arm"].tolist() == ["bo", "offline"]
        assert ledger.picks("dna")["mean"].isna().all()

    def test_a_plate_is_named_once_in_a_campaign(self, ledger: Ledger) -> None:
        train_round(ledger, 1)
        train_round(ledger, 2)
        add_batch(ledger, "a")
        with pytest.raises(CampaignError, match="has a plate R1P1 already"):
            add_batch(ledger, "b", number=2)
        assert [one.state for one in ledger.rounds("dna")] == ["PROPOSED", "TRAINED"]
        assert add_batch(ledger, "b", number=2, plate="R2P1")

    def test_a_well_that_stands_twice_leaves_nothing_of_the_batch(self, ledger: Ledger) -> None:
        train_round(ledger)
        before = everything(ledger)
        twice = pd.DataFrame({"plate": "P", "well": "A1", "row": 1, "column": 1, "design_id": ["a", "b"]})
        with pytest.raises(LedgerError, match="nothing was written"):
            add_batch(ledger, "a", "b", wells=twice)
        assert everything(ledger) == before

    # ---- atomicity

    @pytest.mark.parametrize(
        ("verb", "table"),
        [
            *((add_readings, table) for table in ("source_file", "design", "measurement")),
            *((add_batch, table) for table in ("event", "design", "pick", "well")),
            *((add_run, table) for table in ("run", "design", "proposal")),
            *((open_round, table) for table in ("round", "event")),
        ],
        ids=lambda one: one if isinstance(one, str) else one.__name__,
    )
    def test_a_verb_that_breaks_off_anywhere_leaves_nothing(self, ledger: Ledger, verb: Callable[..., bool], table: str) -> None:
        arguments: dict[str, Any] = {}
        if verb is open_round:
            arguments = {"number": 2}
        train_round(ledger)
        names = ("a", "b") if verb in (add_readings, add_batch) else ()
        before = everything(ledger)
        with pytest.raises(Stop), stopping_after(table):
            verb(ledger, *names, **arguments)
        assert everything(ledger) == before
        assert verb(ledger, *names, **arguments)
        assert not verb(ledger, *names, **arguments)

    def test_verbs_joined_by_begin_are_stored_together_or_not_at_all(self, ledger: Ledger) -> None:
        def both() -> None:
            add_readings(ledger, "a")
            assert len(ledger.measurements("dna")) == 1
            open_round(ledger)

        before = everything(ledger)
        with pytest.raises(Stop), ledger.begin():  # noqa: PT012  (it is the end of the block that is looked at)
            both()
            raise Stop
        assert everything(ledger) == before
        with ledger.begin():
            both()
        assert len(ledger.measurements("dna")) == len(ledger.rounds("dna")) == 1

    def test_a_verb_that_fails_inside_begin_takes_back_its_own_part_only(self, ledger: Ledger) -> None:
        train_round(ledger)
        with ledger.begin():
            add_readings(ledger, "a")
            with pytest.raises(Stop), stopping_after("pick"):
                add_batch(ledger, "a")
        assert len(ledger.measurements("dna")) == 1
        assert ledger.rounds("dna")[0].state == "TRAINED"

    # ---- events and time

    def test_events_come_in_the_order_they_were_noted_whatever_the_clock_says(self, where: str) -> None:
        noon = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
        times = iter([noon, noon, noon, noon - timedelta(hours=1)])  # for the version, the campaign and the two events
        with Ledger.open(where, clock=lambda: next(times)) as ledger:
            ledger.add_campaign("dna", "{}")
            ledger.add_event("dna", "first", {"who": "Ada", "n": np.int64(3)})
            ledger.add_event("dna", "second")
            found = ledger.events("dna")
        assert found["kind"].tolist() == ["first", "second"]
        assert found["at"].tolist() == ["2024-05-01T10:00:00.000000+00:00", "2024-05-01T09:00:00.000000+00:00"]
        assert found["detail"].tolist() == [{"who": "Ada", "n": 3}, None]
        assert found["round"].isna().all()

    def test_times_are_utc_and_of_now(self, ledger: Ledger) -> None:
        open_round(ledger)
        opened = datetime.fromisoformat(ledger.rounds("dna")[0].opened_at)
        assert opened.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - opened) < timedelta(hours=1)

    # ---- quality control

    def test_flags_stand_as_their_last_row_says_and_as_a_round_saw_them(self, ledger: Ledger) -> None:
        add_readings(ledger, "a", "b")
        first, second = ledger.measurements("dna")["id"].tolist()
        assert ledger.last_check("dna") == (0, True)
        rows = [(first, "edge", True, {"p": 0.001}), (second, "edge", True, None)]
        assert ledger.add_flags("dna", rows, until=second, after=0)
        assert not ledger.add_flags("dna", rows, until=second, after=0)  # another process was quicker
        check, waits = ledger.last_check("dna")
        assert not waits
        open_round(ledger)
        assert ledger.add_flags("dna", [(first, "edge", False, None)], until=second, after=check)
        assert ledger.flags("dna")["measurement"].tolist() == [second]
        before = ledger.flags("dna", before_round=1)
        assert before["measurement"].tolist() == [first, second]
        assert before["detail"].tolist() == [{"p": 0.001}, {}]

    def test_a_revised_configuration_counts_from_then_on_and_old_rounds_keep_theirs(self, ledger: Ledger) -> None:
        open_round(ledger)
        assert ledger.revise("dna", '{"name": "dna", "rounds": 9}', reason="more")
        assert not ledger.revise("dna", '{"name": "dna", "rounds": 9}', reason="more")
        assert ledger.config("dna") == '{"name": "dna", "rounds": 9}'
        assert ledger.config("dna", before_round=1) == '{"name": "dna"}'

    # ---- append-only

    def test_no_verb_changes_or_removes_a_row(self, where: str) -> None:
        with watching() as statements, Ledger.open(where) as ledger:
            ledger.add_campaign("dna", "{}")
            for _ in range(2):
                add_readings(ledger, "a", "b")
                train_round(ledger)
                add_run(ledger)
                add_batch(ledger, "a", "b")
            add_readings(ledger, "a", sha256="bb", supersedes=[ledger.measurements("dna")["id"][0]])
            for state in STATES:
                ledger.advance("dna", 1, state)
            ledger.add_event("dna", "note")
            with ledger.begin():
                ledger.add_event("dna", "note", number=1)
            everything(ledger)
            ledger.pool("dna", 1, "coms-1")
        words = [set(statement.upper().split()) for statement in statements]
        assert sum("INSERT" in one for one in words) > 20
        assert not [one for one in statements if {"UPDATE", "DELETE", "REPLACE", "TRUNCATE", "DROP"} & set(one.upper().split())]

    # ---- several at once

    def test_two_processes_that_write_at_once_store_each_thing_once(self, where: str, ledger: Ledger, tmp_path: Path) -> None:
        ledger.close()  # what is open is not for a fork

        def write(name: str) -> None:
            with Ledger.open(where) as mine:
                for i in range(12):
                    ids = [f"d{(i * 7 + k) % 30}" for k in range(10)]
                    add_readings(mine, *(ids if name == "left" else reversed(ids)), sha256=f"s{i}")
                train_round(mine)
                add_run(mine)
                (tmp_path / name).write_text(str(add_batch(mine, name, "b")))

        together([partial(write, name) for name in ("left", "right")])
        ledger = Ledger.open(where)
        said = [(tmp_path / name).read_text() for name in ("left", "right")]
        assert sorted(said) == ["False", "True"]
        found = ledger.measurements("dna")
        assert found.groupby("file").size().tolist() == [10] * 12
        assert len(ledger.designs("dna")) == len({*found["design_id"], "a", "b", "left"})
        assert ledger.picks("dna")["design_id"].tolist() == [("left", "right")[said.index("True")], "b"]
        assert ledger.events("dna")["state"].tolist() == ["READY", "TRAINED", "PROPOSED"]

    def test_a_ledger_that_another_writer_holds_is_named_as_locked_and_can_be_read(self, where: str, ledger: Ledger) -> None:
        with Ledger.open(where, timeout=0.2) as other:
            with ledger.begin():
                ledger.add_event("dna", "held")
                with pytest.raises(LedgerError, match=r"is locked by another process.*run this again"):
                    other.add_event("dna", "late")
                assert other.events("dna").empty
            assert other.events("dna")["kind"].tolist() == ["held"]

    # ---- opening

    def test_a_ledger_opened_again_remembers(self, where: str, ledger: Ledger) -> None:
        add_readings(ledger, "a")
        with Ledger.open(where) as again:
            assert everything(again) == everything(ledger)

    def test_a_ledger_from_a_newer_labloop_is_refused(self, where: str, ledger: Ledger, future: pytest.MonkeyPatch) -> None:
        newer = migrations.newest()
        Ledger.open(where).close()
        future.undo()
        with pytest.raises(LedgerError, match=rf"newer labloop \(ledger version {newer}, this one knows {newer - 1}\): upgrade"):
            Ledger.open(where)

    def test_an_older_ledger_is_brought_up_to_date_with_all_it_holds(
        self, where: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_readings(ledger, "a")
        before = everything(ledger)
        monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, add_colour))
        for _ in range(2):
            with Ledger.open(where) as newer:
                assert everything(newer) == before
                with newer.begin() as connection:
                    assert connection.execute(text("SELECT colour FROM campaign")).scalar() == "blue"

    def test_a_migration_that_fails_leaves_the_old_ledger(
        self, where: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def breaking(connection: Connection) -> None:
            add_colour(connection)
            raise Stop

        with monkeypatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, breaking))
            with pytest.raises(Stop):
                Ledger.open(where)
        with Ledger.open(where) as again:
            assert again.campaigns() == ["dna"]


class TestSQLite:
    """What only a file can do to us."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "ledger.db"

    def test_the_file_is_kept_safe_against_crashes_and_dangling_keys(self, path: Path) -> None:
        with Ledger.open(path) as ledger, ledger.begin() as connection:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
            }
        assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 60_000}

    def test_a_writer_locks_before_it_reads(self, path: Path) -> None:
        with Ledger.open(path) as ledger:
            with watching() as written:
                ledger.add_campaign("dna", "{}")
            with watching() as read:
                ledger.config("dna")
        assert next(one for one in written if not one.startswith("PRAGMA")) == "BEGIN IMMEDIATE"
        assert read[0] == "BEGIN"

    def test_a_read_only_ledger_can_be_read_and_says_why_it_is_not_written(self, path: Path) -> None:
        with Ledger.open(path) as ledger:
            ledger.add_campaign("dna", "{}")
        with Ledger.open(f"sqlite:///file:{path}?mode=ro&uri=true") as ledger:
            assert ledger.campaigns() == ["dna"]
            with pytest.raises(LedgerError, match=f"{path}: is read-only: make the file and its folder writable"):
                ledger.add_campaign("other", "{}")

    def test_a_full_disk_is_named_and_nothing_is_written(self, path: Path) -> None:
        many = [f"d{i}" for i in range(5_000)]
        with Ledger.open(path) as ledger:
            ledger.add_campaign("dna", "{}")
            before = everything(ledger)
            with ledger.begin() as connection:
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
            with pytest.raises(LedgerError, match="the disk is full: free some space"):
                add_readings(ledger, *many)
            assert everything(ledger) == before
            with ledger.begin() as connection:
                connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")
            assert add_readings(ledger, *many)

    @pytest.mark.parametrize("content", [b"\x89PNG\r\n" * 500, b"well,value\nA1,0.5\n" * 100], ids=["binary", "csv"])
    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(LedgerError, match=f"{path}: is not a ledger"):
            Ledger.open(path)
        assert path.read_bytes() == content

    def test_the_database_of_another_program_is_refused_and_left_alone(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE flow_run (id INTEGER)")
        with pytest.raises(LedgerError, match=r"another program.*flow_run"):
            Ledger.open(path)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("flow_run",)]
        connection.close()

    def test_a_damaged_file_is_named_as_damaged(self, path: Path) -> None:
        with Ledger.open(path) as ledger:
            ledger.add_campaign("dna", "{}")
            add_readings(ledger, *[f"d{i}" for i in range(2_000)])
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) // 3] + b"\xa5" * (len(raw) - len(raw) // 3))
        with pytest.raises(LedgerError, match=r"is damaged: .*restore it from a backup"), Ledger.open(path) as ledger:
            everything(ledger)

    @pytest.mark.parametrize(
        ("place", "message"),
        [
            ("nowhere/ledger.db", "its folder does not exist: create nowhere first"),
            (".", "is a folder: name a file in it"),
            ("mysql://host/db", "in an SQLite file .* or in PostgreSQL"),
            ("sqlite://", "in an SQLite file .* or in PostgreSQL"),
            ("://", "cannot be read"),
            ("sqlite:////nowhere/at/all.db", "check that its folder exists"),
        ],
    )
    def test_a_place_where_no_ledger_can_be_is_refused(
        self, place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(LedgerError, match=message):
            Ledger.open(place)
        assert not list(tmp_path.iterdir())

    def test_a_missing_ledger_is_not_made_where_one_must_exist(self, path: Path) -> None:
        with pytest.raises(LedgerError, match="there is no ledger here: run `labloop init` first"):
            Ledger.open(path, create=False)
        assert not path.exists()
        Ledger.open(path).close()
        Ledger.open(path, create=False).close()

    def test_an_older_ledger_is_copied_before_it_is_changed(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        old = migrations.newest()
        with Ledger.open(path) as ledger:
            ledger.add_campaign("dna", "{}")
            with monkeypatch.context() as patch:  # while the first is open: its last rows are in the write-ahead log still
                patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, add_colour))
                Ledger.open(path).close()
        backup = path.with_name(f"ledger.db.v{old}.bak")
        assert {one.name for one in tmp_files(path)} == {path.name, f"{path.name}.heads", backup.name}
        with Ledger.open(backup) as older:
            assert older.campaigns() == ["dna"]

    def test_processes_that_open_a_new_ledger_at_once_make_it_once(self, path: Path) -> None:
        def begin(name: str) -> None:
            with Ledger.open(path) as ledger:
                ledger.add_campaign(name, "{}")

        together([partial(begin, f"c{i}") for i in range(2)])
        with Ledger.open(path) as ledger:
            assert sorted(ledger.campaigns()) == ["c0", "c1"]


def tmp_files(path: Path) -> list[Path]:
    """The files beside a ledger, SQLite's own helpers left out."""
    return [one for one in path.parent.iterdir() if not one.name.endswith(("-wal", "-shm"))]


class TestPostgreSQL:
    """What only a server can do to us."""

    def test_a_database_that_is_not_there_is_refused_with_the_next_step(self, postgres: str) -> None:
        with pytest.raises(LedgerError, match=r"user and database are right .*nobody_made_it"):
            Ledger.open(postgres.replace("/postgres?", "/nobody_made_it?"))

    def test_a_server_that_does_not_answer_is_named_without_the_password(self, tmp_path: Path) -> None:
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        with pytest.raises(LedgerError, match="cannot be reached: see that the server runs") as caught:
            Ledger.open(f"postgresql://lab:geheim@/lab?host={tmp_path}")
        assert "geheim" not in str(caught.value)

    def test_a_server_that_takes_no_writes_is_named_as_read_only(self, new_database: str) -> None:
        with Ledger.open(new_database) as ledger:
            ledger.add_campaign("dna", "{}")
        with Ledger.open(new_database + "%20-cdefault_transaction_read_only%3Don") as ledger:
            assert ledger.campaigns() == ["dna"]
            with pytest.raises(LedgerError, match="is read-only"):
                ledger.add_campaign("other", "{}")

    def test_a_cell_that_the_server_cannot_hold_stops_the_file(self, new_database: str) -> None:
        with Ledger.open(new_database) as ledger:
            ledger.add_campaign("dna", "{}")
            with pytest.raises(LedgerError, match="nothing was written"):
                add_readings(ledger, "a", note=["\x00"])
            assert ledger.files("dna").empty

    def test_other_tables_of_the_database_are_left_alone_unless_a_name_is_taken(self, new_database: str) -> None:
        engine = create_engine(new_database)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE stock (id INTEGER)"))
        with Ledger.open(new_database) as ledger:
            assert ledger.campaigns() == []
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE ledger_version"))
        with pytest.raises(LedgerError, match="another program"):
            Ledger.open(new_database)
        engine.dispose()


def test_a_ledger_that_nobody_holds_gives_its_connection_to_the_server_back(make_database: Callable[[], str]) -> None:
    """A server has places for a hundred: none waits for a garbage collection, so no circle may hold the database."""
    gc.disable()
    try:
        ledger: Ledger | None = Ledger.open(make_database())
        ledger.add_campaign("dna", '{"name": "dna"}')
        database = weakref.ref(ledger._store.database)
        assert database() is not None
        ledger = None
        assert database() is None
    finally:
        gc.enable()


# ---- readings kept from the file that was stored


def _readings(n: int, first: int = 0) -> pd.DataFrame:
    rows = np.arange(first, first + n)
    return pd.DataFrame(
        {
            "design_id": [None if i % 5 == 4 else f"d{i % 3}" for i in rows],
            "assay": "binding",
            "value": [None if i % 4 == 3 else -0.0 if i == 0 else i / 7 for i in rows],
            "status": ["failed_technical" if i % 4 == 3 else "ok" for i in rows],
            "plate": [f"P{i // 4}" for i in rows],
            "well": [f"A{i % 4 + 1:02d}" for i in rows],
            "round": [None if i % 2 else 1 for i in rows],
        }
    )


def _designs() -> pd.DataFrame:
    return pd.DataFrame({"x": ["A", "C", "G"]}, index=pd.Index(["d0", "d1", "d2"], name="design_id"))


def _as_read_anew(where, columns=None) -> pd.DataFrame:
    with Ledger.open(where) as other:
        return other.measurements("c", columns=columns)


def test_readings_that_were_just_stored_are_those_that_are_read(tmp_path):
    with Ledger.open(tmp_path / "l.db") as ledger:
        ledger.add_campaign("c", "{}")
        ledger.add_file("c", sha256="a", name="a.csv", designs=_designs(), measurements=_readings(11))
        some = ("id", "assay", "value", "round", "measured_at")
        pd.testing.assert_frame_equal(ledger.measurements("c", columns=some), _as_read_anew(tmp_path / "l.db", some))
        ledger.add_campaign("other", "{}")
        ledger.add_file("other", sha256="a", name="a.csv", designs=_designs(), measurements=_readings(3))
        ledger.add_file("c", sha256="b", name="b.csv", designs=_designs(), measurements=_readings(6, 11))
        pd.testing.assert_frame_equal(ledger.measurements("c"), _as_read_anew(tmp_path / "l.db"))


def test_readings_of_a_file_that_was_undone_are_not_kept(tmp_path):
    with Ledger.open(tmp_path / "l.db") as ledger, Ledger.open(tmp_path / "l.db") as other:
        ledger.add_campaign("c", "{}")
        with pytest.raises(CampaignError), ledger.begin():  # noqa: PT012
            ledger.add_file("c", sha256="a", name="a.csv", designs=_designs(), measurements=_readings(4))
            ledger.add_campaign("c", "{}")  # the name is taken: all of the block is undone
        other.add_file("c", sha256="b", name="b.csv", designs=_designs(), measurements=_readings(4, 20))
        pd.testing.assert_frame_equal(ledger.measurements("c"), _as_read_anew(tmp_path / "l.db"))


def test_a_corrected_reading_is_not_kept(tmp_path):
    with Ledger.open(tmp_path / "l.db") as ledger:
        ledger.add_campaign("c", "{}")
        ledger.add_file("c", sha256="a", name="a.csv", designs=_designs(), measurements=_readings(3))
        first = int(ledger.measurements("c")["id"].iloc[0])
        ledger.add_file("c", sha256="b", name="b.csv", designs=_designs(), measurements=_readings(1).assign(supersedes=first))
        assert first not in set(ledger.measurements("c")["id"])
        pd.testing.assert_frame_equal(ledger.measurements("c"), _as_read_anew(tmp_path / "l.db"))


def test_what_some_verbs_wrote_stands_while_their_last_link_is_the_same(ledger: Ledger) -> None:
    add_readings(ledger, "a")
    before = {verb: ledger.last("dna", verb) for verb in ("file", "batch", "veto", "event")}
    assert before == {"file": 2, "batch": 0, "veto": 0, "event": 0}
    ledger.add_event("dna", "noted")
    assert ledger.last("dna", "batch", "veto") == 0
    assert ledger.last("dna", "file", "event") == ledger.last("dna", "event") == 3
