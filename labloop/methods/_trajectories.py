"""Paths through measured designs that improve step by step and stay local: what GTG's diffusion model learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from labloop.runtime.progress import track
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Block
from labloop.surrogates.training import torch_generator
from labloop.types import Designs, Values

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_VISITED = 1e4
"""Added to the distance of a design that the path has been to: it is chosen again only when nothing else is left."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """M paths through measured designs: rows of X, and the states as the networks see them, x and 2s-1, c = d + 1 columns."""

    rows: Int[Tensor, "M H"]
    states: Float[Tensor, "M H c"]


def build_trajectories(
    space: DesignSpace, X: Designs, s: Values, *, n_traj: int, horizon: int, k: int, eps: float,
    start_percentile: float = 20.0, seed: int, device: torch.device | str = "cpu",
) -> Trajectories:  # fmt: skip
    """Walk M paths side by side: each next state is uniform among the k nearest unvisited designs with s ≥ running best - eps.

    Distances are Hamming on one-hot blocks plus Euclidean on the others. Time and memory grow with M·N, never with N².

    Args:
        X: canonical encodings. s: scores, the best 1.
    """
    rng = torch_generator(seed, "gtg", "trajectories", device=device)
    order = np.argsort(s, kind="stable")
    # Sorted by score, the designs good enough for a path are the tail of the table.
    scores = torch.as_tensor(s[order], dtype=torch.float32, device=device).contiguous()
    twins = torch.tensor(space.orbit(X[order]), dtype=torch.float32, device=device)
    n = len(scores)
    floor = scores[max(n - horizon, 0)]
    start = int(torch.searchsorted(scores, float(np.percentile(s, start_percentile))))
    at = torch.randint(start, n, (n_traj,), generator=rng, device=device)
    twin = torch.randint(len(twins), (n_traj,), generator=rng, device=device)
    best, path, strands = scores[at], [at], [twin]
    exact = all(block.kind == "onehot" for block in space.blocks)
    for _ in track(horizon - 1, "gtg: trajectories"):
        jitter = torch.rand(n, generator=rng, device=device) * (0.5 if exact else 1e-4)
        draw = torch.rand(n_traj, generator=rng, device=device)
        lowest = torch.searchsorted(scores, torch.minimum(best - eps, floor))
        nearest = torch.empty_like(at)
        for rows in torch.split(lowest.argsort(stable=True), max(1, 4_000_000 // n)):
            first = int(lowest[rows[0]])
            here = twins[twin[rows], at[rows]]
            D = torch.stack([_distance(space.blocks, here, one[first:]) for one in twins]).amin(0) + jitter[first:]
            D.masked_fill_(torch.arange(first, n, device=device) < lowest[rows, None], torch.inf)
            seen = torch.stack([step[rows] for step in path], 1) - first
            which = torch.arange(len(rows), device=device)[:, None].expand_as(seen)[seen >= 0]
            D[which, seen[seen >= 0]] += _VISITED
            close, index = D.topk(min(k, n - first), largest=False)
            choices = torch.where((close < _VISITED).any(1), (close < _VISITED).sum(1), close.isfinite().sum(1))
            nearest[rows] = first + index.gather(1, (draw[rows] * choices).long()[:, None])[:, 0]
        here, at = twins[twin, at], nearest
        apart = torch.stack([_distance(space.blocks, here[:, None], one[at][:, None])[:, 0, 0] for one in twins])
        twin = apart.argmin(0)
        best = torch.maximum(best, scores[at])
        path.append(at)
        strands.append(twin)
    rows, flips = torch.stack(path, 1), torch.stack(strands, 1)
    states = torch.cat([2 * twins[flips, rows] - 1, 2 * scores[rows, None] - 1], 2)
    return Trajectories(torch.as_tensor(order.copy(), device=device)[rows], states)


def _distance(
    blocks: tuple[Block, ...], A: Float[Tensor, "... a d"], B: Float[Tensor, "... b d"]
) -> Float[Tensor, "... a b"]:  # fmt: skip
    """Hamming plus Euclidean distances by matrix products, as `DesignSpace.distance` without twins."""
    onehot = [i for block in blocks if block.kind == "onehot" for i in range(block.start, block.stop)]
    other = [i for block in blocks if block.kind != "onehot" for i in range(block.start, block.stop)]
    D = torch.zeros((), device=A.device)
    if onehot:
        a, b = (A, B) if not other else (A[..., onehot], B[..., onehot])
        D = sum(block.rows for block in blocks if block.kind == "onehot") - a @ b.mT
    return D + torch.cdist(A[..., other], B[..., other]) if other else D
