"""The chain over everything that is written: whoever changes a row, a link or a byte is found, and the place is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, text
from test_ledger import add_batch, add_readings, add_run, designs, everything, readings, train_round

from labloop.errors import LedgerError
from labloop.ledger import Ledger, migrations
from labloop.ledger.digest import BLOCK, RowDigest

DATA = Path(__file__).parent / "data"


@pytest.fixture
def ledger(where: str) -> Iterator[Ledger]:
    """A ledger in which every table has rows."""
    with Ledger.open(where, by="ada") as ledger:
        ledger.add_campaign("dna", "{}")
        ledger.add_campaign("other", "{}")
        add_readings(ledger, "a", "b", "c", plate="P1", well=["A1", "A2", "A3"], round=[1, None, 2])
        add_readings(ledger, "b", "d", sha256="bb")
        train_round(ledger)
        add_run(ledger)
        add_batch(ledger, "a", "e")
        ledger.add_event("dna", "note", {"who": "Bob"})
        yield ledger


def tamper(where: str, *statements: str) -> None:
    """Change a ledger behind labloop's back."""
    engine = create_engine(where if "://" in where else f"sqlite:///{where}")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def faults(ledger: Ledger, **options: Any) -> list[str]:
    (verified,) = ledger.verify("dna", **options)
    return list(verified.faults)


def test_a_ledger_that_nobody_touched_verifies(ledger: Ledger) -> None:
    dna, other = ledger.verify()
    assert dna.faults == other.faults == ()
    assert dna.links == 8  # campaign, two files, round, state, run, batch, note
    assert dna.rows == 1 + 2 + 5 + 5 + 1 + 1 + 2 + 2 + 3 + 4
    assert (other.links, other.rows) == (1, 1)
    assert ledger.check_file() == []


def test_verbs_that_change_nothing_add_no_link(ledger: Ledger) -> None:
    before = ledger.verify("dna")
    add_readings(ledger, "a")
    train_round(ledger)
    add_run(ledger)
    assert not add_batch(ledger, "a", "e")
    assert ledger.verify("dna") == before


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE measurement SET value = 7 WHERE id = 2",
            r"measurement: row 2 of aa.csv \(plate P1 well A2 design_id b\) differs",
        ),
        ("UPDATE measurement SET value = NULL WHERE id = 1", r"measurement: row 1 of aa.csv .* differs"),
        ("UPDATE measurement SET status = 'excluded' WHERE id = 5", r"measurement: row 2 of bb.csv \(design_id d\) differs"),
        ("UPDATE measurement SET round = 0 WHERE id = 2", r"measurement: row 2 of aa.csv .* differs"),
        ("UPDATE measurement SET file = 2 WHERE id = 3", r"measurement: row 3 of bb.csv .* differs.*link 2"),
        ("DELETE FROM measurement WHERE id = 2", r"measurement: 1 of 3 rows are gone; .* is row 3 of aa.csv"),
        ("DELETE FROM measurement WHERE id > 3", r"measurement: all 2 rows are gone, link 3 \(file by ada"),
        ("UPDATE source_file SET name = 'x.csv' WHERE id = 2", "source_file: name x.csv differs"),
        ("UPDATE design SET in_space = NOT in_space WHERE design_id = 'b'", "design: design_id b differs.*link 2"),
        ("UPDATE round SET seed = seed - 1", "round: number 1 differs"),
        ("UPDATE run SET seconds = 0.1", "run: round 1 key coms-1 differs.*run by ada"),
        ("UPDATE proposal SET score = 0.75 WHERE rank = 2", "proposal: run 1 rank 2 design_id b differs"),
        ("UPDATE pick SET lcb = -lcb WHERE rank = 2", "pick: round 1 arm bo rank 2 differs"),
        ("UPDATE well SET well = 'B9' WHERE id = 2", "well: plate R1P1 well B9 differs"),
        ("UPDATE event SET detail = '{}' WHERE kind = 'note'", "event: kind note .* differs"),
        ("UPDATE campaign SET config = '[]' WHERE id = 1", "campaign: name dna differs"),
        ("UPDATE link SET \"by\" = 'eve' WHERE campaign = 1 AND number = 3", r"link 3 \(file by eve.* differs"),
        ("DELETE FROM link WHERE campaign = 1 AND number = 4", "link: link 4 is missing"),
        ("UPDATE pick SET link = 3 WHERE rank = 2", "pick: .* belongs to no link"),
        (
            "INSERT INTO event (id, campaign, kind, at, link) VALUES (99, 1, 'note', 'now', 8)",
            "event: 1 rows were added to 1; the first that differs is kind note at now",
        ),
    ],
    ids=lambda one: one[:40],
)
def test_whatever_is_changed_is_found_and_named(ledger: Ledger, where: str, statement: str, said: str) -> None:
    before = ledger.verify("other")
    tamper(where, statement)
    found = faults(ledger)
    assert any(pd.Series([one]).str.contains(said, regex=True).iloc[0] for one in found), found
    assert ledger.verify("other") == before


def test_a_chain_written_anew_is_found_by_a_hash_that_was_noted(ledger: Ledger, where: str) -> None:
    (noted,) = ledger.verify("other")
    tamper(where, "DELETE FROM link WHERE campaign = 2", "DELETE FROM campaign WHERE id = 2")
    ledger.add_campaign("other", "{}")
    (anew,) = ledger.verify("other")
    assert anew.faults == ()
    assert anew.head != noted.head
    (caught,) = ledger.verify("other", head=noted.head)
    assert "no link has the hash" in caught.faults[0]
    ledger.add_event("other", "later")
    assert ledger.verify("other", head=anew.head)[0].faults == ()


def test_a_row_is_found_among_many(where: str) -> None:
    n = 2 * BLOCK + 17
    names = [f"d{i:06d}" for i in range(n)]
    many = pd.DataFrame({"x": np.arange(n) / 7}, index=pd.Index(names, name="design_id"))
    with Ledger.open(where) as ledger:
        ledger.add_campaign("dna", "{}")
        table = readings(*names, well=[None if i % 3 else "A1" for i in range(n)])
        ledger.add_file("dna", sha256="aa", name="long.csv", designs=many, measurements=table)
        assert faults(ledger) == []
        assert ledger.measurements("dna")["value"].tolist() == table["value"].tolist()
        tamper(where, f"UPDATE measurement SET value = value + 1 WHERE id = {BLOCK + 5}")
        (found,) = faults(ledger)
    assert f"row {BLOCK + 5} of long.csv (well A1 design_id d010004)" in found or f"row {BLOCK + 5} of long.csv" in found


def test_minus_zero_verifies_though_a_database_may_not_keep_its_sign(ledger: Ledger) -> None:
    add_readings(ledger, "a", sha256="zero", value=[-0.0])
    assert faults(ledger) == []


def test_who_wrote_is_kept_with_files_runs_and_events(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABLOOP_USER", "Grace")
    with Ledger.open(where) as ledger:
        ledger.add_campaign("dna", "{}")
        add_readings(ledger, "a")
        train_round(ledger)
        add_run(ledger)
    with Ledger.open(where, by="Ada") as ledger:
        ledger.add_event("dna", "note")
        assert ledger.files("dna")["by"].tolist() == ["Grace"]
        assert ledger.runs("dna")["by"].tolist() == ["Grace"]
        assert ledger.events("dna")["by"].tolist() == ["Grace", "Grace", "Ada"]


def test_a_digest_tells_apart_what_could_be_mistaken() -> None:
    columns: list[list[Any]] = [
        ["a", None], [None, "a"], ["a", ""], ["", "a"], ["a", "a"], ["None", "a"], [1, 0], [0, 1], [1, None], [None, 1],
        [1.0, 0.0], [1.0, None], [None, None], ["1", "0"], ["ab", "c"], ["a", "bc"],
    ]  # fmt: skip
    digests = []
    for column in columns:
        digest = RowDigest()
        digest.add([column], 2)
        digests.append(digest.sha256)
    assert len(set(digests)) == len(columns)


@pytest.mark.parametrize("letter", ["/", '"', "\\", "\n", "\x7f", "é", "\ud800", ""])
def test_texts_are_digested_in_the_form_of_json_whatever_their_letters(letter: str) -> None:
    texts = ["plain", letter]
    content = np.array([0, 1], dtype="<i4").tobytes() + json.dumps(texts).encode()
    digest = RowDigest()
    digest.add([texts], 2)
    assert digest.sha256 == sha256(f"t{len(content)}:".encode() + content).hexdigest()


def test_a_code_of_a_row_changes_with_any_of_its_cells() -> None:
    row: list[Any] = [3, 0.5, "x", None, 2**62]
    changed: list[list[Any]] = [[4, 0.5, "x", None, 2**62], [3, 0.5000000001, "x", None, 2**62], [3, -0.5, "x", None, 2**62]]
    changed += [[3, 0.5, "y", None, 2**62], [3, 0.5, "x", "", 2**62], [3, 0.5, "x", None, 2**62 + 1], [3, 0.5, "x", None, None]]
    codes = []
    for cells in [row, *changed]:
        digest = RowDigest()
        codes.append(int(digest.add([[cell] for cell in cells], 1)[0]))
    assert len(set(codes)) == len(codes)


class TestSQLite:
    def test_a_flipped_byte_in_the_file_is_found(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.db"
        with Ledger.open(path) as ledger:
            ledger.add_campaign("dna", "{}")
            add_readings(ledger, "a", note=["a remark that stands nowhere else"])
        raw = path.read_bytes()
        assert raw.count(b"stands nowhere else") == 1
        path.write_bytes(raw.replace(b"stands nowhere else", b"stands nowhere elsf"))
        with Ledger.open(path) as ledger:
            assert ledger.check_file() == []  # the page is as good as any to SQLite
            (found,) = faults(ledger)
        assert found.startswith("measurement: row 1 of aa.csv (design_id a) differs from what was written, link 2")

    def test_damaged_pages_are_named_as_damage(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.db"
        names = [f"d{i}" for i in range(3_000)]
        with Ledger.open(path) as ledger:
            ledger.add_campaign("dna", "{}")
            add_readings(ledger, *names)
        raw = bytearray(path.read_bytes())
        middle = len(raw) // 4096 // 2 * 4096
        raw[middle : middle + 4096] = bytes(4096)
        path.write_bytes(raw)
        with Ledger.open(path) as ledger:
            try:
                said = [*ledger.check_file(), *faults(ledger)]
            except LedgerError as error:
                said = [str(error)]
        assert any("damaged" in one or "the file:" in one for one in said), said

    def test_a_cell_of_a_type_that_the_column_does_not_have_is_found(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.db"
        with Ledger.open(path) as ledger:
            ledger.add_campaign("dna", "{}")
            add_readings(ledger, "a", "b")
            tamper(str(path), "UPDATE measurement SET value = 'high' WHERE id = 2")
            assert "row 2 of aa.csv (design_id b) differs" in faults(ledger)[0]


# ---- ledgers from before the chain


@pytest.fixture
def first_version(where: str) -> str:
    """A ledger of the first version, as labloop 0.1's first ledgers were: tables without links."""
    kind = "postgresql" if "://" in where else "sqlite"
    lines = [line for part in (kind, "rows") for line in (DATA / f"ledger_v1_{part}.sql").read_text("utf-8").splitlines()]
    engine = create_engine(where if "://" in where else f"sqlite:///{where}")
    with engine.begin() as connection:
        for line in lines:
            connection.exec_driver_sql(line)
    engine.dispose()
    return where


def test_a_ledger_of_the_first_version_is_brought_up_with_all_it_holds(first_version: str) -> None:
    with Ledger.open(first_version, by="ada") as ledger:
        assert ledger.campaigns() == ["dna", "empty"]
        found = ledger.measurements("dna")
        assert found["value"].dropna().tolist() == [1 / 3, 1e-300, 1.75]
        assert found["note"].tolist()[-1] == "re-read"
        assert ledger.designs("dna").index.tolist() == ["a", "b", "c", "odd"]
        assert ledger.designs("dna")["in_space"].tolist() == [True, True, True, False]
        assert ledger.rounds("dna")[0].state == "EXPORTED"
        assert ledger.pool("dna", 1, "coms-1")["score"].tolist() == [1.0, 0.0]
        assert ledger.events("dna")["detail"].tolist()[-1] == {"who": "Ada"}
        dna, empty = ledger.verify()
        assert dna.faults == empty.faults == ()
        assert dna.links == empty.links == 1
    with Ledger.open(first_version) as again:
        assert again.verify()[0] == dna


def test_a_ledger_brought_up_goes_on_with_its_chain(first_version: str) -> None:
    with Ledger.open(first_version) as ledger:
        add_readings(ledger, "a", "new", sha256="cc", supersedes=[5, None])
        ledger.advance("dna", 1, "MEASURED")
        assert ledger.measurements("dna")["id"].tolist() == [2, 3, 4, 6, 7]
        (verified,) = ledger.verify("dna")
        assert (verified.links, verified.faults) == (3, ())
        before = everything(ledger)
        tamper(first_version, "UPDATE measurement SET value = 2 WHERE id = 1")
        assert "row 1 of history.csv (plate H1 well A1 design_id a) differs" in faults(ledger)[0]
        tamper(first_version, "UPDATE measurement SET value = 1.5 WHERE id = 1")
        assert (faults(ledger), everything(ledger)) == ([], before)


def test_a_first_version_file_is_kept_beside_the_new_one(first_version: str) -> None:
    if "://" in first_version:
        pytest.skip("a server's database has no file to copy")
    Ledger.open(first_version).close()
    kept = Path(first_version).with_name("ledger.db.v1.bak")
    engine = create_engine(f"sqlite:///{kept}")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT max(version) FROM ledger_version")).scalar() == 1
        assert connection.execute(text("SELECT count(*) FROM measurement")).scalar() == 5
    engine.dispose()
    assert migrations.newest() > 1


def test_designs_that_were_known_belong_to_the_link_that_brought_them(ledger: Ledger) -> None:
    ledger.add_file("dna", sha256="cc", name="c", designs=designs("a", "z").assign(ph=9.0), measurements=readings("a", "z"))
    assert faults(ledger) == []
    assert ledger.designs("dna", ["a", "z"])["ph"].tolist() == [1.1, 9.0]


# ---- copies


def test_a_backup_taken_while_another_writes_holds_what_was_finished(ledger: Ledger, tmp_path: Path) -> None:
    before = everything(ledger)
    with ledger.begin():
        add_readings(ledger, "x", sha256="unfinished")
        assert Ledger.open(ledger_url(ledger)).backup(tmp_path / "copy.db") == tmp_path / "copy.db"
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("copy")] == ["copy.db"]
    assert (tmp_path / "copy.db").read_bytes()[18:20] == b"\x01\x01"  # no log of its own, so that no folder need be writable
    with Ledger.open(tmp_path / "copy.db") as copy:
        assert everything(copy) == before
        assert [one.faults for one in copy.verify()] == [(), ()]
        add_readings(copy, "x", sha256="goes on")
        assert faults(copy) == []


def test_a_backup_overwrites_nothing_and_needs_a_folder(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LedgerError, match=r"notes.txt: exists already: name a new file"):
        ledger.backup(tmp_path / "notes.txt")
    with pytest.raises(LedgerError, match=r"cannot be written .*see that the folder"):
        ledger.backup(tmp_path / "nowhere" / "copy.db")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def ledger_url(ledger: Ledger) -> str:
    return ledger._store.database.engine.url.render_as_string(hide_password=False)
