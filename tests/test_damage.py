"""Whatever becomes of a ledger's file: what is lost or damaged is told, nothing raises, and nothing is written by looking."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_chain import tamper
from test_ledger import Stop, add_batch, add_readings, add_run, train_round

from labloop.cli import main
from labloop.errors import LedgerError
from labloop.ledger import Ledger, examine
from labloop.ledger.heads import ENDING, Head, Heads

FLIPS, TAMPERINGS = (int(os.environ.get(name, n)) for name, n in (("LABLOOP_FLIPS", "60"), ("LABLOOP_TAMPERINGS", "20")))


def fill(ledger: Ledger) -> None:
    """Give every table rows."""
    ledger.add_campaign("dna", '{"name": "dna"}')
    ledger.add_campaign("other", '{"name": "other"}')
    add_readings(ledger, "a", "b", "c", plate="P1", well=["A1", "A2", "A3"], round=[1, None, 2], note=["µ", None, "re-read"])
    add_readings(ledger, "b", "d", sha256="bb")
    train_round(ledger)
    add_run(ledger)
    add_batch(ledger, "a", "e")
    ledger.add_event("dna", "note", {"who": "Bob"})
    check = ledger.last_check("dna")[0]
    ledger.add_flags("dna", [(1, "edge", True, {"p": 0.01})], until=5, after=check)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with rows in every table, at rest, its heads beside it; never changed."""
    path = tmp_path_factory.mktemp("whole") / "ledger.db"
    with Ledger.open(path, by="ada") as ledger:
        fill(ledger)
    assert examine(path).faults == ()
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    """A copy to do things to."""
    return copied(whole, tmp_path)


def copied(whole: Path, folder: Path) -> Path:
    for name in (whole.name, whole.name + ENDING):
        shutil.copy(whole.with_name(name), folder / name)
    return folder / whole.name


def content(path: Path) -> dict[str, Any] | None:
    """All that the ledger says, as any program would read it, but for when its version was made; None where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            schema = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
            tables = [name for kind, name, _ in schema if kind == "table" and name != "ledger_version"]
            rows = {name: sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"'))) for name in tables}
            version = connection.execute("SELECT version FROM ledger_version").fetchall()
            return {**rows, "version": version, "schema": sorted(meaning(connection, *one) for one in schema)}
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def meaning(connection: sqlite3.Connection, kind: str, name: str, sql: str | None) -> str:
    """A definition as SQLite understands it, to which names of rules and capitals are nothing."""
    told = (
        [connection.execute(f'PRAGMA {what}("{name}")').fetchall() for what in _MEANING[kind == "index"]]
        if sql or kind == "index"
        else []
    )
    conditions = re.findall(r"CHECK \(.*\)|WHERE .*", sql or "", flags=re.IGNORECASE)
    return str((kind, name, told, [re.sub(r"\s", "", one) for one in conditions])).lower()


_MEANING = (("table_xinfo", "foreign_key_list", "index_list"), ("index_info",))


# ---- losses


def test_nothing_is_missing_from_a_ledger_that_nobody_touched(path: Path) -> None:
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    seen = examine(path)
    assert (seen.faults, seen.noted) == ((), str(path) + ENDING)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before


def test_an_empty_file_is_found_and_left_empty(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(b"")
    seen = examine(path)
    assert seen.file == ("the file is empty",)
    assert [one.split(":")[0] for one in seen.lost] == ["campaign dna is gone", "campaign other is gone"]
    assert "5 of them readings" in seen.lost[0]
    assert main(["verify", "--ledger", f"sqlite:///{path}"]) == 1
    assert "campaign dna is gone" in capsys.readouterr().out
    assert path.read_bytes() == b""


def test_a_file_that_is_gone_is_found(path: Path) -> None:
    path.unlink()
    assert examine(path).file == ("the file is gone",)
    assert len(examine(path).lost) == 2
    assert main(["verify", "--home", str(path.parent)]) == 1
    assert not path.exists()


def test_an_emptied_ledger_is_not_begun_anew_over_its_loss(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match=r"is empty, but .*heads says that it held dna, other: restore it"):
        Ledger.open(path)
    assert path.read_bytes() == b""


def test_a_campaign_that_is_gone_with_all_its_rows_is_named(path: Path) -> None:
    tables = ["flag", "event", "well", "pick", "proposal", "run", "round", "measurement", "source_file", "design", "link"]
    tamper(str(path), *(f'DELETE FROM "{table}" WHERE campaign = 1' for table in tables), "DELETE FROM campaign WHERE id = 1")
    seen = examine(path)
    assert (seen.file, [one.faults for one in seen.campaigns]) == ((), [()])
    assert len(seen.lost) == 1
    assert seen.lost[0].startswith("campaign dna is gone: 9 links, ")
    assert examine(path, campaign="dna").lost == seen.lost
    assert examine(path, campaign="other").faults == ()


def test_last_links_that_are_gone_with_their_rows_are_named(path: Path) -> None:
    tamper(str(path), *(f"DELETE FROM {table} WHERE campaign = 1 AND link > 7" for table in ("flag", "event")))
    tamper(str(path), "DELETE FROM link WHERE campaign = 1 AND number > 7")
    seen = examine(path)
    assert [one.faults for one in seen.campaigns] == [(), ()]
    assert len(seen.lost) == 1
    assert "campaign dna: links 8 to 9 are missing" in seen.lost[0]


def test_a_copy_without_its_log_is_found(path: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with Ledger.open(path) as ledger:
        add_readings(ledger, "z", sha256="late")
        assert Path(f"{path}-wal").stat().st_size > 0
        there = copied(path, tmp_path / "copy")
    assert examine(path).faults == ()
    (fault,) = examine(there).faults
    assert "campaign dna: link 10 is missing" in fault


def test_an_older_copy_is_found_until_it_is_accepted(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger.open(path) as ledger:
        ledger.backup(tmp_path / "old.db")
        add_readings(ledger, "z", sha256="late")
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "old.db", path)
    assert "link 10 is missing" in examine(path).lost[0]
    with Ledger.open(path) as ledger:  # whoever goes on with it does not hide the loss
        ledger.add_event("dna", "note")
        ledger.add_event("dna", "note")
    assert "link 10 is not the one that was noted" in examine(path).lost[0]
    where = ["--ledger", f"sqlite:///{path}"]
    assert main(["verify", *where]) == 1
    assert "--accept" in capsys.readouterr().err
    assert main(["verify", *where, "--accept", "the backup was restored"]) == 0
    assert main(["verify", *where]) == 0
    with Ledger.open(path) as ledger:
        ledger.add_event("dna", "note")
    assert examine(path).faults == ()
    tamper(str(path), "DELETE FROM event WHERE link = 12", "DELETE FROM link WHERE number = 12")
    assert "link 12 is missing" in examine(path).lost[0]


def test_what_is_damaged_cannot_be_accepted(path: Path) -> None:
    tamper(str(path), "UPDATE measurement SET value = 7 WHERE id = 2")
    with pytest.raises(LedgerError, match=r"differs from what was written.*cannot be accepted"):
        examine(path, accept="never mind")


def test_a_crash_before_a_head_is_noted_is_no_fault(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(path) as ledger, monkeypatch.context() as patch:
        patch.setattr(Heads, "note", lambda self, heads: None)
        ledger.add_event("dna", "note")
    assert examine(path).faults == ()


def test_a_line_that_was_torn_is_told_and_the_others_count(path: Path) -> None:
    heads = path.with_name(path.name + ENDING)
    whole_lines = heads.read_bytes()
    heads.write_bytes(whole_lines[:-30])
    (fault,) = examine(path).faults
    assert "is damaged and tells nothing" in fault
    with Ledger.open(path) as ledger:
        ledger.add_event("dna", "note")
    assert len(examine(path).faults) == 1  # the next line begins anew
    tamper(str(path), "DELETE FROM event WHERE link = 10", "DELETE FROM link WHERE number = 10")
    assert "link 10 is missing" in examine(path).lost[0]


def test_what_is_undone_is_not_noted(path: Path) -> None:
    with Ledger.open(path) as ledger:
        before = Heads(path.with_name(path.name + ENDING)).read()
        with suppress(Stop), ledger.begin():
            ledger.add_event("dna", "note")
            raise Stop
        with ledger.begin(), suppress(Stop), ledger.begin():
            ledger.add_event("other", "note")
            raise Stop
        assert Heads(path.with_name(path.name + ENDING)).read() == before


def test_heads_that_cannot_be_noted_stop_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heads = path.with_name(path.name + ENDING)
    heads.unlink()
    heads.mkdir()
    with Ledger.open(path) as ledger, caplog.at_level(logging.WARNING):
        ledger.add_event("dna", "note")
        assert ledger.verify("dna")[0].links == 10
    assert "would not miss it" in caplog.text


def test_a_ledger_from_before_heads_has_all_its_campaigns_noted_with_the_next_verb(path: Path) -> None:
    heads = path.with_name(path.name + ENDING)
    heads.unlink()
    assert (examine(path).faults, examine(path).noted) == ((), "")
    with Ledger.open(path) as ledger:
        ledger.add_event("dna", "note")
        assert {one.campaign for one in Heads(heads).read()[0]} == {"dna", "other"}
        assert Heads(heads).read()[0] == [ledger.ends("other"), ledger.ends("dna")]


def test_a_home_that_moves_takes_its_heads_along(path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    there = copied(path, moved)
    tamper(str(there), "DELETE FROM flag", "DELETE FROM event WHERE link = 9", "DELETE FROM link WHERE number = 9")
    assert "link 9 is missing" in examine(there).lost[0]


def test_a_server_has_its_heads_noted_in_the_home_folder(new_database: str, tmp_path: Path) -> None:
    heads = tmp_path / "ledger.heads"
    with Ledger.open(new_database, heads=heads) as ledger:
        fill(ledger)
    assert examine(new_database, heads=heads).faults == ()
    other = Heads(heads, "postgresql://elsewhere/db")
    other.note([Head(campaign="x", id=7, links=3, head="00", at="now")])
    assert examine(new_database, heads=heads).faults == ()
    tamper(new_database, "DELETE FROM flag", "DELETE FROM event WHERE link = 9", "DELETE FROM link WHERE number = 9")
    assert "link 9 is missing" in examine(new_database, heads=heads).faults[0]
    assert "lab@" not in heads.read_text()


# ---- tables and version


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM ledger_version", "ledger_version: the ledger's version is gone"),
        ("UPDATE ledger_version SET version = -1", "ledger_version: -1 is no version"),
        ("UPDATE ledger_version SET version = 99", "ledger_version: 99 is no version"),
        ("UPDATE ledger_version SET version = 1", "the row of version 3 is gone"),
        ("DROP TABLE ledger_version", "ledger_version: cannot be read"),
        ("DROP TABLE link", "link: the table is gone"),
        ("DROP TABLE flag", "flag: the table is gone"),
        ("DROP INDEX measurement_of_campaign", "measurement: the index measurement_of_campaign is gone"),
        ("DROP INDEX measurement_superseded", "measurement: the index measurement_superseded is gone"),
        ("ALTER TABLE well ADD COLUMN more TEXT", "well: a column was added, more"),
        ("ALTER TABLE well RENAME COLUMN control TO controls", "well: the column control is gone"),
        ("ALTER TABLE measurement DROP COLUMN note", "measurement: the column note is gone"),
    ],
)  # fmt: skip
def test_tables_that_are_not_a_ledgers_are_reported(where: str, statement: str, said: str) -> None:
    with Ledger.open(where) as ledger:
        fill(ledger)
    tamper(where, statement)
    found = examine(where).faults
    assert any(said in one for one in found), found


@pytest.mark.parametrize("column", ["name", "tbl_name", "sql"])
def test_a_definition_that_sqlite_reads_although_it_is_no_text_is_reported(path: Path, column: str) -> None:
    there = f"UPDATE sqlite_master SET {column} = CAST({column} AS BLOB) WHERE name = 'measurement_of_campaign'"
    tamper(str(path), "PRAGMA writable_schema = ON", there)
    found = examine(path).faults
    assert any("measurement_of_campaign" in one for one in found), found


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER quiet AFTER INSERT ON measurement BEGIN DELETE FROM flag; END",
        "CREATE VIEW quiet AS SELECT 1",
        "CREATE TABLE quiet (x)",
        "CREATE INDEX quiet ON flag (rule)",
    ],
)
def test_what_was_added_to_a_file_is_named(path: Path, statement: str) -> None:
    tamper(str(path), statement)
    (fault,) = examine(path).faults
    assert "quiet" in fault


def test_a_trigger_of_a_server_is_named(new_database: str) -> None:
    with Ledger.open(new_database) as ledger:
        fill(ledger)
    assert examine(new_database).faults == ()
    tamper(
        new_database,
        "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER quietly BEFORE INSERT ON measurement FOR EACH ROW EXECUTE FUNCTION quiet()",
    )
    assert examine(new_database).faults == ("measurement: a trigger was added, quietly",)


@pytest.mark.parametrize("statement", ["DELETE FROM ledger_version", "UPDATE ledger_version SET version = -1"])
def test_a_ledger_whose_version_is_damaged_is_not_migrated(path: Path, statement: str) -> None:
    tamper(str(path), statement)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"its version is missing or not one .*labloop verify"):
        Ledger.open(path)
    assert path.read_bytes() == before


def test_other_verbs_name_damage_too(path: Path) -> None:
    with Ledger.open(path) as ledger:
        tamper(str(path), "DROP TABLE link")
        with pytest.raises(LedgerError, match="is damaged: `labloop verify` says where"):
            ledger.add_event("dna", "note")


def test_a_link_whose_content_is_damaged_is_reported(path: Path) -> None:
    contents = ["not JSON", "[]", '{"flag": 3}', '{"nothing": {"n": 1, "columns": "id", "sha256": ""}}', '{"flag": {"n": "x"}}']
    for content in contents:
        tamper(str(path), f"UPDATE link SET content = '{content.replace(':', chr(92) + ':')}' WHERE campaign = 1 AND number = 9")
        (dna, _) = examine(path).campaigns
        assert [one[:12] for one in dna.faults] == ["link: link 9", "link: link 9"], dna.faults


# ---- reading where nothing may be written


def test_an_old_ledger_is_not_brought_up_by_verifying_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    data = Path(__file__).parent / "data"
    with closing(sqlite3.connect(path)) as connection:
        for part in ("sqlite", "rows"):
            connection.executescript((data / f"ledger_v1_{part}.sql").read_text("utf-8"))
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"is of version 1, from before the ledger had a chain.*`labloop status` brings it up"):
        examine(path)
    assert path.read_bytes() == before
    Ledger.open(path).close()
    assert examine(path).faults == ()


def test_a_newer_file_of_another_program_is_reported(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("Dear diary, nothing here is a database.")
    assert examine(tmp_path / "ledger.db").file == ("the file is not an SQLite database, or its beginning is damaged",)


# ---- whatever happens to a file


def spoil(path: Path, rng: np.random.Generator) -> str:
    """Do one of the things that a person, a program or a disk does to a file; says which."""
    tables = [
        "campaign",
        "design",
        "source_file",
        "measurement",
        "round",
        "run",
        "proposal",
        "pick",
        "well",
        "event",
        "flag",
        "link",
    ]
    table = str(rng.choice([*tables, "ledger_version"]))
    kind = str(rng.choice(["change", "remove", "add", "swap", "drop", "cut", "page", "index", "heads"]))
    if kind == "cut":
        raw = path.read_bytes()
        path.write_bytes(raw[: int(rng.integers(len(raw)))])
        return kind
    if kind == "page":
        raw = bytearray(path.read_bytes())
        start = int(rng.integers(len(raw) // 4096)) * 4096
        raw[start : start + 4096] = rng.bytes(4096)
        path.write_bytes(raw)
        return kind
    if kind == "heads":
        heads = path.with_name(path.name + ENDING)
        raw = bytearray(heads.read_bytes())
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        heads.write_bytes(raw)
        return kind
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
        row, column = rows[rng.integers(len(rows))], int(rng.integers(len(columns)))
        where = " AND ".join(f'"{name}" IS ?' for name in columns)
        try:
            if kind == "change":
                other = [None, 7, -1, 2**62, 0.1, "x", "", b"\xff\xfe", "{}", rng.bytes(8)][rng.integers(10)]
                connection.execute(f'UPDATE "{table}" SET "{columns[column]}" = ? WHERE {where}', (other, *row))
            elif kind == "remove":
                connection.execute(f'DELETE FROM "{table}" WHERE {where}', row)
            elif kind == "add":
                more = [
                    min(cell, 2**62) + 100 if isinstance(cell, int) else f"{cell}-2" if isinstance(cell, str) else cell
                    for cell in row
                ]
                connection.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(more))})', more)
            elif kind == "swap":
                other_row = rows[rng.integers(len(rows))]
                for one, cell in ((row, other_row[column]), (other_row, row[column])):
                    connection.execute(f'UPDATE "{table}" SET "{columns[column]}" = ? WHERE {where}', (cell, *one))
            elif kind == "drop":
                connection.execute(f'DROP TABLE "{table}"')
            else:
                connection.execute(f"DROP INDEX {rng.choice(['measurement_of_campaign', 'flag_of_campaign'])}")
        except sqlite3.IntegrityError:  # the database would not have it
            pass
    return f"{kind} {table}"


def spoiled(whole: Path, folder: Path, n: int, *, flip: bool) -> Iterator[tuple[str, Path]]:
    rng = np.random.default_rng(7 + flip)
    raw = whole.read_bytes()
    used = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8))
    for i in range(n):
        there = copied(whole, folder)
        if flip:  # mostly where something stands: most of a small ledger is room
            byte = int(rng.integers(len(raw)) if i % 4 == 0 else rng.choice(used))
            bit = 8 * byte + int(rng.integers(8))
            mine = bytearray(raw)
            mine[bit // 8] ^= 1 << (bit % 8)
            there.write_bytes(mine)
            yield f"{i}: bit {bit}", there
        else:
            yield f"{i}: {spoil(there, rng)}", there


@pytest.mark.parametrize(("flip", "n"), [(True, FLIPS), (False, TAMPERINGS)], ids=["bits", "tamperings"])
def test_whatever_damage_is_told_or_harmless(whole: Path, tmp_path: Path, *, flip: bool, n: int) -> None:
    right, told = content(whole), 0
    heads = whole.with_name(whole.name + ENDING).read_bytes()
    for what, there in spoiled(whole, tmp_path, n, flip=flip):
        now = content(there)
        same_heads = there.with_name(there.name + ENDING).read_bytes() == heads
        faults = examine(there).faults
        assert faults or (now == right and same_heads), what
        assert all(one == one.encode("utf-8").decode() and "\n" not in one for one in faults), what
        told += bool(faults)
    assert told > n // 4


def test_damage_goes_through_the_command_as_a_finding(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(str(path), "UPDATE link SET verb = CAST(x'ff00fe' AS TEXT) WHERE campaign = 1 AND number = 2")
    for more in ((), ("--json",)):
        assert main(["verify", "--ledger", f"sqlite:///{path}", *more]) == 1
    out = capsys.readouterr().out
    assert "link 2" in out
    assert json.loads(out[out.index('{\n  "file"') :])["campaigns"][0]["faults"]
