"""The relaxation in which gradients move designs: one-hot positions as real vectors, numbers z-scored, and the way back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from labloop.proposing.dataset import Dataset
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Block
from labloop.types import Array, FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float

Kind = Literal["logits", "onehot"]

BETA = 0.6
"""How much of a relaxed one-hot position is the letter itself; the rest is spread evenly (Design-Bench's `map_to_logits`)."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The real vectors in which particles move: X (n, d) to Z (n, r) and back.

    A one-hot position is o, p = β·o + (1−β)/K, then log p_k − log p_0 for k = 1 … K−1 (`logits`; for K = 4 the values are
    −1.9459, 0 and 1.9459), or log p_k − log((1−β)/K) for all k (`onehot`; 0 and 1.9459). Other columns are z-scored.
    """

    space: DesignSpace
    kind: Kind
    mean: FloatArray
    """(r,), 0 for one-hot columns."""
    std: FloatArray
    """(r,), 1 for one-hot columns."""

    @classmethod
    def of(cls, data: Dataset, kind: Kind) -> Relaxation:
        """Take means and standard deviations from the data; a column that never changes keeps its scale."""
        plain = cls(data.space, kind, np.zeros(1), np.ones(1))
        Z = plain.encode(data.X)
        std = Z.std(0)
        fixed = plain.discrete
        return cls(data.space, kind, np.where(fixed, 0.0, Z.mean(0)), np.where(fixed | (std < 1e-9), 1.0, std))

    @cached_property
    def _slices(self) -> list[tuple[Block, slice]]:
        widths = [
            block.rows * (block.classes - 1) if block.kind == "onehot" and self.kind == "logits" else block.stop - block.start
            for block in self.space.blocks
        ]
        ends = list(itertools.accumulate(widths))
        return [(b, slice(end - width, end)) for b, width, end in zip(self.space.blocks, widths, ends, strict=True)]

    @cached_property
    def discrete(self) -> Array:
        """Which columns of Z belong to one-hot positions, (r,) bool."""
        out = np.zeros(self._slices[-1][1].stop, dtype=bool)
        for block, columns in self._slices:
            out[columns] = block.kind == "onehot"
        return out

    def _letters(self, classes: int) -> FloatArray:
        """The relaxed position of each letter, (K, K−1) or (K, K)."""
        p = BETA * np.eye(classes) + (1 - BETA) / classes
        if self.kind == "logits":
            return np.log(p[:, 1:]) - np.log(p[:, :1])  # type: ignore[no-any-return]
        return np.log(p) - math.log((1 - BETA) / classes)  # type: ignore[no-any-return]

    def encode(self, X: FloatArray) -> FloatArray:
        """Relax valid encodings X (n, d) to Z (n, r)."""
        parts = []
        for block, _ in self._slices:
            part = X[:, block.start : block.stop]
            if block.kind == "onehot":
                codes = part.reshape(len(X), block.rows, block.classes).argmax(-1)
                part = self._letters(block.classes)[codes].reshape(len(X), -1)
            parts.append(part)
        return (np.concatenate(parts, axis=1) - self.mean) / self.std

    def decode(self, Z: FloatArray) -> FloatArray:
        """Turn any Z (n, r) into the (n, d) matrix whose projection onto the space is the design."""
        Z = np.asarray(Z, dtype=float) * self.std + self.mean
        parts = []
        for block, columns in self._slices:
            part = Z[:, columns]
            if block.kind == "onehot" and self.kind == "logits":
                part = part.reshape(len(Z), block.rows, block.classes - 1)
                part = np.concatenate([np.zeros((len(Z), block.rows, 1)), part], axis=2).reshape(len(Z), -1)
            parts.append(part)
        return np.concatenate(parts, axis=1)

    def projection(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Give the map of particles (…, r) onto the space: nearest letter, range, simplex; grids and constraints aside."""
        maps = []
        for block, columns in self._slices:
            if block.kind == "onehot":
                table = torch.tensor(self._letters(block.classes), dtype=torch.float32, device=device)
                maps.append((columns, _to_letters(block.rows, table)))
            else:
                mean, std = (torch.tensor(a[columns], dtype=torch.float32, device=device) for a in (self.mean, self.std))
                maps.append((columns, _to_range(mean, std, _unit if block.kind == "unit" else _simplex)))
        if len(maps) == 1:
            return maps[0][1]
        return lambda z: torch.cat([move(z[..., columns]) for columns, move in maps], -1)


def _to_letters(rows: int, table: Tensor) -> Callable[[Tensor], Tensor]:
    """Replace each position by the relaxed letter it decodes to; `table` is (K, K−1) log odds or (K, K) columns."""
    missing = table.shape[0] - table.shape[1]  # the first letter's log odds against itself, 0, is left out of the former
    return lambda z: table[F.pad(z.reshape(*z.shape[:-1], rows, -1), (missing, 0)).argmax(-1)].flatten(-2)


def _to_range(mean: Tensor, std: Tensor, onto: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda z: (onto(z * std + mean) - mean) / std


def _unit(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    return x.clamp(0, 1)


def _simplex(x: Float[Tensor, "*b k"]) -> Float[Tensor, "*b k"]:
    """Project rows onto the simplex (Duchi et al., ICML 2008, figure 1)."""
    ordered = x.sort(-1, descending=True).values
    excess = (ordered.cumsum(-1) - 1) / torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    last = (ordered > excess).sum(-1, keepdim=True) - 1
    return (x - excess.gather(-1, last)).clamp(min=0)
