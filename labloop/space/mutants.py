"""Mutants of a parent: how they are named, drawn and listed. Codes are those of a sequence's letters.

A name lists substitutions as HGVS does for proteins in codes of one letter or three: A24G, or Ala24Gly, is an A at position 24,
counted from 1, that became a G. Several are joined by `;`, and the parent itself is WT.
"""

from __future__ import annotations

import itertools
import math
import re
import sys

import numpy as np

from labloop.types import Array

PARENT = "WT"
_ONE = re.compile(r"(?:[pP]\.)?([A-Za-z]{3}|[A-Za-z])(\d+)([A-Za-z]{3}|[A-Za-z])")
_APART = re.compile(r"[\s,;:/+_|-]+")
_LETTERS = {
    "ala": "A", "arg": "R", "asn": "N", "asp": "D", "cys": "C", "gln": "Q", "glu": "E", "gly": "G", "his": "H", "ile": "I",
    "leu": "L", "lys": "K", "met": "M", "phe": "F", "pro": "P", "ser": "S", "thr": "T", "trp": "W", "tyr": "Y", "val": "V",
}  # fmt: skip
"""Amino acids by their codes of three letters."""


def is_name(text: str, parent: str) -> bool:
    """Whether a text names a mutant, such as `A24G;V3L` or `WT`, instead of spelling it."""
    text = text.strip()
    if len(text) == len(parent) and text.isalpha():
        return False
    return text.upper() == PARENT or any(letter.isdigit() for letter in text)


def spelled(text: str, parent: str, alphabet: str) -> str:
    """Spell the mutant that a text names; where the alphabet has a letter in one case only, either names it.

    Raises:
        ValueError: the text is no such name, or another letter stands there in the parent; the message completes a rule.
    """
    letters, changed = list(parent), set[int]()
    if text.strip().upper() == PARENT:
        return parent
    for part in _APART.split(text.strip().removeprefix("p.").strip("[]")):
        found = _ONE.fullmatch(part)
        if not found or any(len(one) == 3 and one.lower() not in _LETTERS for one in (found[1], found[3])):
            raise ValueError(f"{part!r} is no substitution such as {parent[0]}1{parent[-1]}")
        old, place, new = _letter(found[1], alphabet), int(found[2]), _letter(found[3], alphabet)
        if not 1 <= place <= len(parent):
            raise ValueError(f"{part}: the parent has positions 1 to {len(parent)}")
        if parent[place - 1] != old:
            raise ValueError(f"{part}: at {place} the parent has {parent[place - 1]}")
        if place in changed:
            raise ValueError(f"{part}: position {place} is changed already, by what stands before")
        changed.add(place)
        letters[place - 1] = new
    return "".join(letters)


def _letter(letter: str, alphabet: str) -> str:
    """Give a letter, or an amino acid's code of three, as the alphabet writes it."""
    letter = _LETTERS.get(letter.lower(), letter)
    return letter if letter in alphabet else next((one for one in (letter.upper(), letter.lower()) if one in alphabet), letter)


def named(text: str, parent: str) -> str:
    """Name a mutant that is spelled."""
    changed = [f"{old}{place}{new}" for place, (old, new) in enumerate(zip(parent, text, strict=True), 1) if old != new]
    return ";".join(changed) or PARENT


def count(length: int, letters: int, most: int) -> float:
    """How many mutants of at most so many substitutions there are, the parent among them."""
    n = sum(math.comb(length, k) * (letters - 1) ** k for k in range(most + 1))
    return float(n) if n < sys.float_info.max else math.inf


def listing(parent: Array, letters: int, most: int) -> Array:
    """List all of them, (n, length), the parent first."""
    found = [parent[None]]
    for k in range(1, most + 1):
        places = np.array(list(itertools.combinations(range(len(parent)), k)))
        shifts = np.array(list(itertools.product(range(1, letters), repeat=k)))
        codes = np.repeat(parent[None], len(places) * len(shifts), axis=0)
        rows = np.arange(len(codes))[:, None]
        at = np.repeat(places, len(shifts), axis=0)
        codes[rows, at] = (codes[rows, at] + np.tile(shifts, (len(places), 1))) % letters
        found.append(codes)
    return np.concatenate(found)


def sample(n: int, parent: Array, letters: int, most: int, rng: np.random.Generator) -> Array:
    """Draw n mutants, (n, length): each number of substitutions from one on is equally likely, then each place and letter."""
    rank = rng.random((n, len(parent))).argsort(1).argsort(1)
    changed = rank < rng.integers(1, most + 1, size=n)[:, None]
    return np.where(changed, (parent + rng.integers(1, letters, size=(n, len(parent)))) % letters, parent)


def within(codes: Array, parent: Array, most: int, rng: np.random.Generator) -> Array:
    """Take back substitutions of mutants (n, length) that have too many, at random but for none of the others; (n, length)."""
    differs = codes != parent
    rank = np.where(differs, rng.random(codes.shape), 2.0).argsort(1).argsort(1)
    return np.where(differs & (rank < (differs.sum(1) - most)[:, None]), parent, codes)
