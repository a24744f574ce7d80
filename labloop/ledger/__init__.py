"""The ledger, a campaign's only memory: append-only tables in SQLite or PostgreSQL behind one class."""

from labloop.ledger.examine import Examined, examine
from labloop.ledger.hash_chain import whoami
from labloop.ledger.heads import Head
from labloop.ledger.history import Trail
from labloop.ledger.rounds import Round
from labloop.ledger.states import STATES, RoundState
from labloop.ledger.store import Ledger
from labloop.ledger.verify import Verified

__all__ = ["STATES", "Examined", "Head", "Ledger", "Round", "RoundState", "Trail", "Verified", "examine", "whoami"]
