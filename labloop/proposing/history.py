"""What other campaigns let expect before anything, or next to nothing, is measured here: a cold start."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from labloop.proposing.dataset import Dataset
from labloop.proposing.odd import held
from labloop.registry import create, load
from labloop.types import FloatArray

ENOUGH = 5
"""Measured designs from which on they tell what history is worth; before, it is taken at its word."""


def is_cold(data: Dataset) -> bool:
    """Say whether there is history of what is improved, first of all, and too little else to learn from."""
    return any(one.column == 0 for one in data.history) and len(data.lead) < ENOUGH


def cold(data: Dataset) -> Dataset:
    """Give what history lets expect as a dataset: its designs at the values that they had there; nobody measured them here.

    The campaign of most designs sets the scale, others are brought to its mean and spread; a design of several counts once, at
    their mean. What was measured here is only kept from being proposed again.
    """
    known = np.concatenate([data.pending, data.X])
    if data.properties is None:
        return _borrowed(_merged(data, data.history), data, known)
    parts = []
    for j in range(len(data.properties.goal.names)):
        related = tuple(one for one in data.history if one.column == j)
        parts.append(_merged(data, related) if related else data.of(j).take(np.zeros(0, dtype=np.int64)))
    failed = data.pending[:0] if data.failed is None else data.failed
    return _borrowed(Dataset.of_properties(data.properties.goal, parts, pending=known, failed=failed), data, known)


def of_cold(data: Dataset) -> list[dict[str, Any]]:
    """Tell of each campaign that it is taken at its word, as `TaskEvidence.notes` tells of one that was tried."""
    return [{"label": one.label, "designs": len(one), "correlation": None, "gain": None, "used": True} for one in data.history]


def for_proposer(proposer: str, data: Dataset) -> Dataset:
    """Give a proposer what it can learn from: other campaigns as tasks, or their designs at values that they may have here.

    Readings at absurd distances are held at a limit, but for a Gaussian process, which holds and doubts them itself.
    """
    if is_cold(data):
        return cold(data)
    if getattr(load("proposers", proposer), "several_tasks", False):
        return data
    data = held(data)
    if not data.history:
        return data
    if data.properties is not None:
        return replace(data, history=())
    return create("surrogates", "auto", {}).lent(data)  # type: ignore[no-any-return]


def _borrowed(made: Dataset, data: Dataset, known: FloatArray) -> Dataset:
    return replace(made, pending=known, failed=data.failed, history=(), label="", borrowed=frozenset(made.ids))


def _merged(data: Dataset, history: tuple[Dataset, ...]) -> Dataset:
    first = max(history, key=len)
    values: dict[str, list[float]] = {}
    X: dict[str, FloatArray] = {}
    for one in history:
        spread = float(one.y.std()) or 1.0
        y = one.y if one is first else first.y.mean() + (one.y - one.y.mean()) / spread * first.y.std()
        for design, row, value in zip(one.ids, one.X, y.tolist(), strict=True):
            values.setdefault(design, []).append(value)
            X.setdefault(design, row)
    ids = sorted(values)
    plain: dict[str, Any] = {
        "sem": np.full(len(ids), np.nan), "censored": np.zeros(len(ids), dtype=np.int64),
        "n_replicates": np.ones(len(ids), dtype=np.int64),
    }  # fmt: skip
    return Dataset(
        space=data.space, X=np.stack([X[one] for one in ids]), y=np.array([float(np.mean(values[one])) for one in ids]),
        ids=tuple(ids), pending=data.pending, **plain,
    )  # fmt: skip
