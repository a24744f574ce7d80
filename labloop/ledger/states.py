"""The states of a round. What the ledger stores is their text; comparing with that text works too."""

from __future__ import annotations

from enum import StrEnum


class RoundState(StrEnum):
    """Where a round stands; it moves by one at a time, in this order, and never back."""

    READY = "READY"
    """Opened: its proposers train."""
    TRAINED = "TRAINED"
    """Every pool is in; wells are to be chosen."""
    PROPOSED = "PROPOSED"
    """Its plates are laid out."""
    EXPORTED = "EXPORTED"
    """The plates' files were written."""
    MEASURED = "MEASURED"
    """Every well has come back."""
    CLOSED = "CLOSED"
    """Compared, or closed with a reason."""

    @property
    def place(self) -> int:
        """Its place in the order, from 0."""
        return STATES.index(self)


STATES = tuple(RoundState)
"""All of them, in order."""

TRAINING = (RoundState.READY, RoundState.TRAINED)
"""Before the round has a plate."""

AT_THE_LAB = (RoundState.PROPOSED, RoundState.EXPORTED)
"""Its plates wait for results."""
