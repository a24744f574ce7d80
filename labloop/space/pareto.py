"""Several objectives at once: who is dominated, how much a set dominates, and rays that share that volume out.

All values are y: (n, m), larger is better in every column.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from labloop.types import Array, FloatArray

RAYS = 1_024
"""Rays that a hypervolume is taken along where it is summed up for many sets; its error is below a percent then."""
NODES = 12
"""Of the rule that expected reach is integrated by."""
TAILS = 4.0
"""Standard deviations that a normal is followed for."""


def nondominated(Y: FloatArray) -> Array:
    """Say which rows of Y (n, m) no other row beats: none is at least as good in all columns and better in one; (n,) bool.

    Equal rows stand or fall together; a row with NaN is never on the front, and beats nobody.
    """
    keep: Array = np.atleast_1d(np.isfinite(Y).all(axis=1))
    for i in np.flatnonzero(keep):
        if keep[i]:
            beaten = (Y[i] >= Y).all(1) & (Y[i] > Y).any(1)
            keep &= ~beaten
    return keep


def hypervolume(Y: FloatArray, reference: FloatArray) -> float:
    """Measure what rows of Y (n, m) dominate above a reference point (m,): exactly, by slicing along the last column."""
    above = Y[(reference < Y).all(1)] - reference
    return _sliced(above[nondominated(above)]) if len(above) else 0.0


def _sliced(Y: FloatArray) -> float:
    """Volume of the union of boxes from 0 to each row of Y (n, m), all above zero."""
    if Y.shape[1] == 1:
        return float(Y.max(initial=0.0))
    Y = Y[np.argsort(-Y[:, -1], kind="stable")]
    if Y.shape[1] == 2:
        widest = np.maximum.accumulate(Y[:, 0])
        return float((widest * (Y[:, 1] - np.append(Y[1:, 1], 0.0))).sum())
    depth = Y[:, -1] - np.append(Y[1:, -1], 0.0)
    flat = Y[:, :-1]
    return sum(depth[i] * _sliced(flat[: i + 1][nondominated(flat[: i + 1])]) for i in np.flatnonzero(depth > 0))


def rays(m: int, weights: FloatArray | None = None, n: int = RAYS) -> FloatArray:
    """Give n unit vectors (n, m) that fill the positive orthant evenly; those of heavier weight (m,) lean to their axis.

    The mean over even rays of the longest reach among points, see `reach`, is the hypervolume in units of `unit_volume(m)`
    (Deng and Zhang, Proc. GECCO 2019; Zhang and Golovin, ICML 2020).
    """
    half = math.ceil(m / 2)
    # Two uniforms make two normals (Box and Muller); even ones by an additive recurrence of the generalised golden ratio.
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (2 * half + 1))
    points = (0.5 + np.arange(1, n + 1)[:, None] / ratio ** np.arange(1, 2 * half + 1)) % 1.0
    length, angle = np.sqrt(-2 * np.log(np.maximum(points[:, :half], 1e-12))), 0.5 * math.pi * points[:, half:]
    found = np.concatenate([length * np.cos(angle), length * np.sin(angle)], axis=1)[:, :m]
    found = np.maximum(found, 1e-6) * (1.0 if weights is None else weights / weights.mean())
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def unit_volume(m: int) -> float:
    """Volume of the part of the m-dimensional unit ball that lies in the positive orthant."""
    return math.pi ** (m / 2) / math.gamma(m / 2 + 1) / 2**m


def reach(Y: FloatArray, directions: FloatArray) -> FloatArray:
    """Tell how far along each ray (r, m) the box from 0 to each row of Y (n, m) reaches, to the power m: (n, r)."""
    m = Y.shape[1]
    found = np.full((len(Y), len(directions)), np.inf)
    for j in range(m):
        np.minimum(found, Y[:, j, None] / directions[:, j], out=found)
    return np.maximum(found, 0.0) ** m


def expected_reach(mean: FloatArray, std: FloatArray, best: FloatArray, directions: FloatArray) -> FloatArray:
    """Tell how much farther than best^m (r,) normals of mean and std (n, m) are expected to reach along rays (r, m): (n, r).

    With reach T to the power m, E[(T^m - b^m)₊] is the integral from b on of m t^(m-1) P(T > t), and T > t where every column
    is above its part of the ray. Gauss and Legendre's rule over as far as the normals reach: no sample has to see a gain.
    """
    m = mean.shape[1]
    width = np.maximum(std, 1e-9)
    start = best ** (1 / m)
    with np.errstate(over="ignore"):
        most = ((mean + TAILS * width)[:, None, :] / directions).min(2)
        near = TAILS / (directions / width[:, None, :]).sum(2)
    length = np.maximum(most - start, near)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    out = np.zeros(length.shape)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        t = start + node * length
        chance = np.ones(length.shape)
        for j in range(m):
            chance *= ndtr((mean[:, j, None] - t * directions[:, j]) / width[:, j, None])
        out += weight * m * t ** (m - 1) * chance
    return out * length


def beyond(Y: FloatArray, front: FloatArray) -> FloatArray:
    """Tell by how much each row of Y (n, m) lies above a front (f, m), below zero where it is dominated; (n,).

    It is the step in all columns at once that takes the row to the edge of what the front dominates (the additive
    epsilon indicator of Zitzler et al., IEEE Trans. Evol. Comput. 7(2), 2003).
    """
    if not len(front):
        return Y.min(1)  # type: ignore[no-any-return]
    out = np.full(len(Y), np.inf)
    for row in front:
        np.minimum(out, (Y - row).max(1), out=out)
    return out
