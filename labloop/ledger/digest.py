"""The digest of rows: one SHA-256 for all, which shows that something differs, and a 32-bit code for each, which shows where.

Both are worked out column by column and block by block, so that a million rows cost about a second. The form of the bytes is
part of the ledger's format and must not change: old links of the chain would no longer match their rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BLOCK = 10_000
"""Rows that are digested at a time; part of the format."""

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no difference is lost by multiplying; 2^64 over the golden ratio
_NONE = np.uint64(1 << 33)  # no text has this code


class RowDigest:
    """The digest of rows that come in one after the other, `BLOCK` at a time."""

    def __init__(self) -> None:
        self.n = 0
        """Rows so far."""
        self._sha = hashlib.sha256()
        self._codes: list[NDArray[np.uint32]] = []

    def add(self, columns: Sequence[Sequence[Any]], n: int) -> NDArray[np.uint32]:
        """Add a block: for each column its n plain cells (float, int, bool, text or None); returns the rows' codes.

        Raises:
            ValueError: rows follow a block that was not full.
        """
        if self.n % BLOCK or n > BLOCK:
            raise ValueError(f"rows are digested in blocks of {BLOCK}, and only the last may be shorter")
        mixed = np.zeros(n, dtype=np.uint64)
        for cells in columns:
            kind, content, numbers = _column(cells)
            self._sha.update(f"{kind}{len(content)}:".encode())
            self._sha.update(content)
            mixed = (mixed ^ numbers) * _MIX
        codes: NDArray[np.uint32] = (mixed >> np.uint64(32)).astype(np.uint32)
        self._codes.append(codes)
        self.n += n
        return codes

    @property
    def sha256(self) -> str:
        """Of all rows, 64 hex digits."""
        return self._sha.hexdigest()

    @property
    def codes(self) -> bytes:
        """Four bytes a row, little endian."""
        return b"".join(block.astype("<u4").tobytes() for block in self._codes)


def blocks(n: int) -> Iterator[slice]:
    """Cut n rows into blocks."""
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


class _Codes(dict[str, int]):
    """The CRC-32 of texts, remembered: the blocks of a file, and of a chain, speak of the same designs, plates and wells."""

    def __missing__(self, text: str) -> int:
        code = self[text] = crc32(text.encode("utf-8", "surrogatepass"))
        return code

    def trim(self) -> None:
        """Forget all where they have become many."""
        if len(self) > _REMEMBERED:
            self.clear()


_REMEMBERED = 100_000
_CODES = _Codes()


def said_once(cells: Sequence[Any]) -> bool:
    """Whether all cells of a column are one text, one whole number or empty, as most columns of a file are."""
    first = cells[0]
    if type(first) not in (str, int, type(None)) or cells[-1] != first or cells.count(first) < len(cells):
        return False
    return type(first) is not int or set(map(type, cells)) == {int}  # true and 1.0 are equal to 1


def _json(texts: list[str]) -> bytes:
    """Give the bytes of `json.dumps`, at a third of its time where no letter needs an escape."""
    letters = "".join(texts)
    if letters.isascii() and letters.isprintable() and '"' not in letters and "\\" not in letters:
        return b'["%b"]' % '", "'.join(texts).encode()
    return json.dumps(texts).encode()


def _column(cells: Sequence[Any]) -> tuple[str, bytes, NDArray[np.uint64]]:
    """Write a column's cells as bytes, and each as a 64-bit number that depends on nothing but the cell."""
    n, once = len(cells), said_once(cells)
    first = cells[0] if once else next(cell for cell in cells if cell is not None)
    if first is None:
        return "n", b"", np.full(n, _NONE)
    if once and type(first) is str:  # the same bytes as below
        number = np.uint64(crc32(first.encode("utf-8", "surrogatepass")))
        return "t", bytes(4 * n) + json.dumps([first]).encode(), np.full(n, number)
    if type(first) is str:
        codes, texts = pd.factorize(np.array(cells, dtype=object))
        said = texts.tolist()
        if set(map(type, said)) == {str}:
            numbers = np.append(np.fromiter(map(_CODES.__getitem__, said), dtype=np.uint64, count=len(said)), _NONE)
            _CODES.trim()
            return "t", codes.astype("<i4").tobytes() + _json(said), numbers[codes]
    kinds = {type(first)} if once else set(map(type, cells))
    if kinds == {int}:  # the same bytes as below, as keys and lines are never missing
        whole = np.full(n, first, dtype="<i8") if once else np.array(cells, dtype="<i8")
        return "i", whole.tobytes() + np.packbits(np.ones(n, dtype=bool)).tobytes(), whole.view("<u8")
    kinds -= {type(None)}
    if kinds == {float}:
        floats = np.array(cells, dtype="<f8")  # None becomes NaN, which the ledger never holds
        return "f", floats.tobytes(), np.where(np.isnan(floats), _NONE, floats.view("<u8"))
    if kinds <= {int, bool}:
        given = np.array([cell is not None for cell in cells])
        whole = np.array([cell or 0 for cell in cells], dtype="<i8")
        return "i", whole.tobytes() + np.packbits(given).tobytes(), np.where(given, whole.view("<u8"), _NONE)
    # only SQLite lets another hand put a cell there that is not of the column's type
    plain = [cell if isinstance(cell, str | int | float | None) else repr(cell) for cell in cells]
    return "m", repr(list(cells)).encode(), np.concatenate([_column([cell])[2] for cell in plain])
