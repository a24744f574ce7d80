"""What bytes are, and which text they hold, whoever wrote them."""

from __future__ import annotations

import codecs

_MAGIC = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip archive",
    b"\x89PNG": "a picture",
    b"PAR1": "a Parquet file",
}


def no_text(content: bytes) -> str | None:
    """Name what a file is by its first bytes, where that is no text."""
    return next((what for magic, what in _MAGIC.items() if content.startswith(magic)), None)


def decoded(content: bytes) -> tuple[str, str]:
    """Turn bytes into text, and say by which of Python's encodings.

    Raises:
        UnicodeDecodeError: they are none of UTF-8, UTF-16 and Latin-1 as Windows has it.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16"), "utf-16"
    if 4 * content.count(0) >= len(content):
        # UTF-16 without its mark: in mostly Latin text every other byte is zero.
        encoding = "utf-16-be" if content[::2].count(0) > content[1::2].count(0) else "utf-16-le"
        return content.decode(encoding), encoding
    try:
        return content.decode("utf-8-sig"), "utf-8-sig"
    except UnicodeDecodeError:
        # Windows' Latin-1 differs from the standard's only where the standard has control characters.
        return content.decode("cp1252"), "cp1252"
