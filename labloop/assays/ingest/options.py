"""What a person says of a file that the file may leave open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What is said about a file, by option or in the campaign's YAML."""

    assay: str | None = None
    """The assay that it is of; the objective's where left out, or every property's that has a column."""
    read: str | None = None
    """The read to take, where a plate reader's file holds several: `450`; the campaign's where left out."""
    plates: Sequence[str] = ()
    """The plate that it shows, where the file does not say, or pairs `Plate 1=NAME` where it has names of its own; one
    that ends with = leaves its picture out."""
    reader: str | None = None
    """The reader to use; the campaign's, or whichever knows the file, where left out."""
    again: bool = False
    """Whether readings that equal some of the ledger's were measured anew."""
    name: str | None = None
    """What the file is called, where that is not its path's name."""
    waiting: Callable[[], Sequence[str]] = tuple
    """Gives the plates that wait for results: the one meant where nothing is said, if there is only one. Asked only then."""
    place: str = "assays.….read"
    """Where the campaign's YAML names the read."""
