"""The tables of the ledger. Rows are inserted and read, never changed: what is true now is derived from what was written.

Keys are the field's own where there are any (campaign and design_id, campaign and round number), so that reading needs few joins.
Text that holds JSON is stored as the text itself: the bytes that were given are the bytes that come back.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)  # fmt: skip

metadata = MetaData()

_Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only where the key is INTEGER


def _campaign(*, key: bool = False) -> Column[int]:
    return Column("campaign", Integer, ForeignKey("campaign.id"), nullable=False, primary_key=key)


def _design(column: str = "design_id") -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["campaign", column], ["design.campaign", "design.design_id"])


def _round() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["campaign", "round"], ["round.campaign", "round.number"])


def _link() -> Column[int]:
    """The number of the link that vouches for the row: who wrote it and when; 1 in rows from before there were links."""
    return Column("link", Integer, nullable=False, server_default=text("1"))


version = Table(
    "ledger_version", metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
)  # fmt: skip
"""One row for each version that the ledger has had; the highest is the present one."""

campaign = Table(
    "campaign", metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("config", Text, nullable=False),
    Column("at", Text, nullable=False),
)  # fmt: skip

design = Table(
    "design", metadata,
    _campaign(key=True),
    Column("design_id", Text, primary_key=True),
    Column("values", Text, nullable=False),
    Column("in_space", Boolean, nullable=False),
    _link(),
    sqlite_with_rowid=False,  # the key is the only way in: one B-tree instead of two
)  # fmt: skip
"""Every design ever measured or offered; `values` is a JSON object of the design's columns."""

source_file = Table(
    "source_file", metadata,
    Column("id", Integer, primary_key=True),
    _campaign(),
    Column("sha256", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("n_rows", Integer, nullable=False),
    Column("at", Text, nullable=False),
    Column("reader", Text),
    Column("dialect", Text),
    _link(),
    UniqueConstraint("campaign", "sha256"),
)  # fmt: skip
"""A file taken in; `reader` and `dialect` say who read it and what was recognised."""

measurement = Table(
    "measurement", metadata,
    Column("id", _Id, primary_key=True),
    _campaign(),
    Column("file", Integer, ForeignKey("source_file.id"), nullable=False),
    Column("row", Integer, nullable=False),
    Column("design_id", Text),
    Column("assay", Text, nullable=False),
    Column("value", Float(53)),
    Column("qualifier", Text, nullable=False),
    Column("unit", Text),
    Column("status", Text, nullable=False),
    Column("plate", Text),
    Column("well", Text),
    Column("round", Integer),
    Column("measured_at", Text),
    Column("note", Text),
    Column("supersedes", _Id, ForeignKey("measurement.id")),
    _link(),
    _design(),
    CheckConstraint("qualifier IN ('=', '<', '>')", name="qualifier_known"),
)  # fmt: skip
"""One reading of one well. A control's reading has no design; a failed one has no value. The seed data's round is 0 or none."""

# A dataset takes a campaign as a whole. An index by design would cost every file more than a scan costs the rare audit.
Index("measurement_of_campaign", measurement.c.campaign)
# A reading is corrected at most once (the correction may be corrected in turn). Nearly no reading is: only those are indexed.
Index(
    "measurement_superseded", measurement.c.supersedes, unique=True,
    sqlite_where=measurement.c.supersedes.is_not(None), postgresql_where=measurement.c.supersedes.is_not(None),
)  # fmt: skip

round_ = Table(
    "round", metadata,
    _campaign(key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("config", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("incumbent", Float(53)),
    Column("snapshot", BigInteger, nullable=False),
    Column("at", Text, nullable=False),
    _link(),
)  # fmt: skip

run = Table(
    "run", metadata,
    Column("id", Integer, primary_key=True),
    _campaign(),
    Column("round", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("proposer", Text, nullable=False),
    Column("arm", Text),
    Column("options", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("device", Text),
    Column("seconds", Float(53)),
    Column("cpu_seconds", Float(53)),
    Column("versions", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("at", Text, nullable=False),
    _link(),
    UniqueConstraint("campaign", "round", "key"),
    _round(),
)  # fmt: skip
"""One proposer's finished training in one round."""

proposal = Table(
    "proposal", metadata,
    Column("run", Integer, ForeignKey("run.id"), primary_key=True),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    _campaign(),
    Column("design_id", Text, nullable=False),
    Column("score", Float(53)),
    _link(),
    _design(),
    UniqueConstraint("run", "design_id"),
)  # fmt: skip
"""The pool that a run offered."""

pick = Table(
    "pick", metadata,
    Column("id", Integer, primary_key=True),
    _campaign(),
    Column("round", Integer, nullable=False),
    Column("arm", Text, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("design_id", Text, nullable=False),
    Column("proposer", Text, nullable=False),
    Column("score", Float(53)),
    Column("mean", Float(53)),
    Column("std", Float(53)),
    Column("lcb", Float(53)),
    Column("nearest_id", Text),
    Column("nearest_distance", Float(53)),
    _link(),
    UniqueConstraint("campaign", "round", "arm", "rank"),
    UniqueConstraint("campaign", "round", "arm", "design_id"),
    _round(),
    _design(),
)  # fmt: skip
"""What each arm chose and why; a design may be picked by two arms and still fills one well."""

well = Table(
    "well", metadata,
    Column("id", Integer, primary_key=True),
    _campaign(),
    Column("round", Integer, nullable=False),
    Column("plate", Text, nullable=False),
    Column("well", Text, nullable=False),
    Column("row", Integer, nullable=False),
    Column("column", Integer, nullable=False),
    Column("design_id", Text),
    Column("control", Text),
    _link(),
    # Results come back as plate and well alone, so a plate's name is used once in a campaign.
    UniqueConstraint("campaign", "plate", "well"),
    CheckConstraint("design_id IS NULL OR control IS NULL", name="design_or_control"),
    _round(),
    _design(),
)  # fmt: skip

event = Table(
    "event", metadata,
    Column("id", _Id, primary_key=True),
    _campaign(),
    Column("round", Integer),
    Column("kind", Text, nullable=False),
    Column("state", Text),
    Column("detail", Text),
    Column("at", Text, nullable=False),
    _link(),
    UniqueConstraint("campaign", "round", "state"),
    _round(),
)  # fmt: skip
"""What happened, in order of `id` (clocks may go backwards). A row with a `state` is a round's transition and stands once."""

flag = Table(
    "flag", metadata,
    Column("id", _Id, primary_key=True),
    _campaign(),
    Column("measurement", _Id, ForeignKey("measurement.id"), nullable=False),
    Column("rule", Text, nullable=False),
    Column("raised", Boolean, nullable=False),
    Column("detail", Text),
    Column("event", _Id, ForeignKey("event.id"), nullable=False),
    Column("at", Text, nullable=False),
    _link(),
)  # fmt: skip
"""What quality control says of readings. The last row of a reading and rule counts: a flag that more data refute is followed by a
row that is not `raised`. `event` is the check that found it, so that every round can be seen with the flags of its own time."""

Index("flag_of_campaign", flag.c.campaign)


link = Table(
    "link", metadata,
    _campaign(key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("verb", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("checks", LargeBinary, nullable=False),
    Column("hash", Text, nullable=False),
)  # fmt: skip
"""The campaign's chain, one link for each verb that wrote something; see `links`. `content` is JSON: for each table the rows'
number, columns and digest; `checks` holds the rows' codes, four bytes each, in the same order."""

CHAINED = (campaign, design, source_file, measurement, round_, run, proposal, pick, well, event, flag)
"""The tables that the chain vouches for. A campaign's own row belongs to its first link."""
