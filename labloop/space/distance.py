"""How far designs are apart: differing letters and options, less where they are known to be alike, and numbers apart."""

from __future__ import annotations

import numpy as np

from labloop.space import lengths
from labloop.space.descriptors import LEAST, Described, apart
from labloop.space.parameters import Block
from labloop.space.vectors import Embedded
from labloop.types import FloatArray

Likeness = tuple[Block, FloatArray]
"""A described parameter's block, and how alike its options are: 0 of the farthest and of one and itself."""


def likeness(blocks: tuple[Block, ...], described: tuple[Described, ...]) -> tuple[Likeness, ...]:
    """Say of each described parameter how alike its options are."""
    found = []
    for block in blocks:
        if sets := [one for one in described if one.block == block and not block.gap]:
            D = apart(sets)
            found.append((block, np.where(np.eye(len(D), dtype=bool), 0.0, 1.0 - D)))
    return tuple(found)


def nearer(alike: tuple[Likeness, ...], A: FloatArray, B: FloatArray) -> FloatArray | float:
    """By how much descriptors bring designs nearer than their differing options and letters do, (len(A), len(B))."""
    total: FloatArray | float = 0.0
    for block, less in alike:
        step = block.classes
        for start in range(block.start, block.stop, step):
            total = total + A[:, start : start + step] @ less @ B[:, start : start + step].T
    return total


def nearer_by_vectors(embedded: tuple[Embedded, ...], A: FloatArray, B: FloatArray) -> FloatArray | float:
    """By how much vectors bring designs nearer than their differing letters do, (len(A), len(B)): by less than one in all.

    Designs of as many differing letters are so in the order of their vectors, and none is nearer than one of fewer.
    """
    total: FloatArray | float = 0.0
    for one in embedded:
        rows = one.rows(A)[:, None], one.rows(B)[None, :]
        a, b = one.places[rows[0][:, 0]], one.places[rows[1][0]]
        apart_ = np.sqrt(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0))
        told = (rows[0] >= 0) & (rows[1] >= 0) & (rows[0] != rows[1])
        total = total + np.where(told, (1 - LEAST) * (1 - np.minimum(apart_, 1.0)), 0.0)
    return total


def hamming_euclid(blocks: tuple[Block, ...], A: FloatArray, B: FloatArray) -> FloatArray:
    """Distances (len(A), len(B)) between valid encodings, twins aside."""
    onehot = [i for b in blocks if b.kind == "onehot" and not b.gap for i in range(b.start, b.stop)]
    other = [i for b in blocks if b.kind != "onehot" for i in range(b.start, b.stop)]
    D = np.zeros((len(A), len(B)))
    if onehot:
        rows = sum(b.rows for b in blocks if b.kind == "onehot" and not b.gap)
        D += rows - A[:, onehot].astype(np.float32) @ B[:, onehot].astype(np.float32).T
    for b in (b for b in blocks if b.gap):
        codes = [X[:, b.start : b.stop].reshape(-1, b.rows, b.classes).argmax(-1) for X in (A, B)]
        D += lengths.distance(codes[0], codes[1], b.letters)
    if other:
        squares = (A[:, other] ** 2).sum(1)[:, None] + (B[:, other] ** 2).sum(1) - 2 * A[:, other] @ B[:, other].T
        D += np.sqrt(np.where(squares > 1e-14, squares, 0.0))  # below is cancellation, not distance
    return D
