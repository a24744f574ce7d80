"""Turn a file's bytes into text, whoever wrote it."""

from __future__ import annotations

import re

from labloop.errors import IngestError
from labloop.runtime.text import decoded, no_text

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
ENDS = ("\n", "\r")
SOME_TEXT = re.compile(r'[^\s,;"]')

_NAMES = {"utf-8-sig": "UTF-8", "cp1252": "Latin-1"}
CELLS = 40_000_000
"""Cells of a text, by its separators and line ends: a million rows of forty columns."""
_NOTHING = "is empty: see whether it was saved, or exported, to its end"
_MARKUP = re.compile(r"\s*<(!doctype html|html|head|body|table)\b", re.IGNORECASE)
_DATA = re.compile(r'\s*(?:(<\?xml\b)|\{\s*["}]|\[\s*[{\[])', re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PEEK = 1 << 16


def peek(content: bytes) -> str:
    """Give the beginning of a file as text as well as may be, to recognise it by; '' for what is no text at all."""
    if no_text(content):
        return ""
    head = content[:_PEEK]
    try:
        text = decoded(head)[0].lstrip("\ufeff")
    except UnicodeDecodeError:
        text = head.decode("utf-8", errors="replace")  # cut within a letter, or no text
    return "" if _CONTROL.search(text) else text


def decode(content: bytes, name: str) -> tuple[str, str]:
    """Turn a file's bytes into text, and say in which encoding they were.

    Raises:
        IngestError: the file is empty, or is no text.
    """
    if not content.strip(b" \t\r\n\x00"):
        raise IngestError(f"{name}: {_NOTHING}")
    if what := no_text(content):
        raise IngestError(f"{name}: is {what}, not text: open it and save it as CSV")
    try:
        text, encoding = decoded(content)
    except UnicodeDecodeError as error:
        raise IngestError(
            f"{name}: is not text in UTF-8, UTF-16 or Latin-1 (byte {error.start}): save it as CSV UTF-8"
        ) from error
    text = text.lstrip("\ufeff")
    if found := _CONTROL.search(text):
        line = len(re.findall("\r\n|\r|\n", text[: found.start()])) + 1
        raise IngestError(f"{name}: is a binary file (line {line} holds character {ord(found[0])}): save it as CSV")
    if not SOME_TEXT.search(text):
        raise IngestError(f"{name}: {_NOTHING}")
    if _MARKUP.match(text):
        raise IngestError(f"{name}: is a web page, whatever its name says: open it in a spreadsheet and save it as CSV")
    if found := _DATA.match(text):
        kind = "XML" if found[1] else "JSON"
        raise IngestError(
            f"{name}: is {kind}, which labloop does not read: export CSV or Excel, a row a well or a plate as a grid"
        )
    if len(text) > CELLS and sum(map(text.count, (*DELIMITERS, *ENDS))) > CELLS:
        raise IngestError(
            f"{name}: has more than {CELLS:,} cells, all that labloop reads at once: split it, or leave columns out"
        )
    return text, _NAMES.get(encoding, "UTF-16")
