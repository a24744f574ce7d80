"""One way to make a seed: every random number of labloop derives from a seed and the name of its use."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *parts: str | int) -> int:
    """Derive a 63-bit seed from a seed and the parts that name its use, stable across machines and versions.

    Example: `derive(campaign_seed, "round", 2, "coms")`.
    """
    text = "\x1f".join([str(int(seed)), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *parts: str | int) -> np.random.Generator:
    """Give a NumPy generator for one use; no global generator is ever touched."""
    return np.random.default_rng(derive(seed, *parts))


def normal_seed(seed: int) -> int:
    """Fold any seed into the 32 bits that older generators take."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])
