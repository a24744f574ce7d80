"""The step to the version with chains: every row that stands gets into the first link of its campaign.

From then on the chain shows what becomes of these rows; what became of them before, nobody can tell.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from labloop.ledger.digest import BLOCK, RowDigest
from labloop.ledger.hash_chain import START, chained_hash, whoami

_ROWS = {
    "campaign": ("id", "id name config at"),
    "design": ("design_id", "campaign design_id values in_space"),
    "source_file": ("id", "id campaign sha256 name n_rows at"),
    "measurement": (
        "id",
        "id campaign file row design_id assay value qualifier unit status plate well round measured_at note supersedes",
    ),
    "round": ("number", "campaign number config seed fingerprint incumbent snapshot at"),
    "run": (
        "id",
        "id campaign round key proposer arm options seed fingerprint device seconds cpu_seconds versions notes at",
    ),
    "proposal": ("run, rank", "run rank campaign design_id score"),
    "pick": (
        "id",
        "id campaign round arm rank design_id proposer score mean std lcb nearest_id nearest_distance",
    ),
    "well": ("id", "id campaign round plate well row column design_id control"),
    "event": ("id", "id campaign round kind state detail at"),
    "flag": ("id", "id campaign measurement rule raised detail event at"),
}
"""Tables of the version before: the order of their rows and their columns."""


def begin_chains(connection: Connection) -> None:
    """Add the table of links and each row's link, 1, write that link for every campaign, and let files say how they were read."""
    blob = "BLOB" if connection.dialect.name == "sqlite" else "BYTEA"
    connection.execute(
        text(
            "CREATE TABLE link (campaign INTEGER NOT NULL REFERENCES campaign (id), number INTEGER NOT NULL, verb TEXT NOT NULL, "
            f'at TEXT NOT NULL, "by" TEXT NOT NULL, content TEXT NOT NULL, checks {blob} NOT NULL, hash TEXT NOT NULL, '
            "PRIMARY KEY (campaign, number))"
        )
    )
    for table in _ROWS:
        if table != "campaign":
            connection.execute(text(f'ALTER TABLE "{table}" ADD COLUMN link INTEGER NOT NULL DEFAULT 1'))
    for column in ("reader", "dialect"):
        connection.execute(text(f"ALTER TABLE source_file ADD COLUMN {column} TEXT"))
    at, by = datetime.now(UTC).isoformat(timespec="microseconds"), whoami()
    for campaign in connection.execute(text("SELECT id FROM campaign ORDER BY id")).scalars().all():
        digests = {table: _digest(connection, table, campaign) for table in _ROWS}
        content = json.dumps(
            {
                table: {"n": digest.n, "columns": _ROWS[table][1], "sha256": digest.sha256}
                for table, digest in digests.items()
                if digest.n
            }
        )
        checks = b"".join(digest.codes for digest in digests.values())
        row = {"campaign": campaign, "number": 1, "verb": "migration", "at": at, "by": by, "content": content, "checks": checks}
        hashed = chained_hash(START, campaign, 1, "migration", at, by, content, checks)
        connection.execute(
            text("INSERT INTO link VALUES (:campaign, :number, :verb, :at, :by, :content, :checks, :hash)"),
            {**row, "hash": hashed},
        )


def _digest(connection: Connection, table: str, campaign: int) -> RowDigest:
    order, names = _ROWS[table]
    if table == "design" and connection.dialect.name == "postgresql":
        order += ' COLLATE "C"'  # as SQLite sorts, whatever the server's language
    listed = ", ".join(f'"{name}"' for name in names.split())
    key = "id" if table == "campaign" else "campaign"
    rows = connection.execute(
        text(f'SELECT {listed} FROM "{table}" WHERE {key} = :campaign ORDER BY {order}'), {"campaign": campaign}
    )
    digest = RowDigest()
    for block in rows.partitions(BLOCK):
        digest.add(list(zip(*block)), len(block))
    return digest
