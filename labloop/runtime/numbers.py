"""How a number is written for people: by its leading digits, without an exponent as long as a bench would write none."""

from __future__ import annotations

MOST = 1e7
"""Numbers below are written out, such as 10810 for 10,812.3 of a plate reader."""


def spelt(value: float, digits: int = 4) -> str:
    """Write a number by so many leading digits."""
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text and abs(value) < MOST else text
