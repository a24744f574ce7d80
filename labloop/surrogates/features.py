"""What a network may be shown of a design besides its letters: gapped words of sequences, pairs of options, numbers as such.

A network on letters has to learn every motif anew at each place where it may stand; counts of gapped words (gapped k-mers: Ghandi
et al., PLoS Comput Biol 2014) say it wherever it stands. They are what the Gaussian process's kernel knows
(`labloop.surrogates._kernels`), as numbers. Of options, and of the places of a short sequence, pairs say what goes with what.

All are sums of products of letters, so they have gradients for soft letters, and symmetric twins have equal ones: the mean of
both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Block
from labloop.types import FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float

WINDOW = 4
"""Places that a gapped word spans at most; sequences of up to so many letters are seen as pairs of places."""
ORDER = 3
"""Letters of a word at most."""
MOST = 1_300
"""Features of a space at most: words of three letters of DNA, of two of protein; more would cost more than the rest of a net."""
CHUNK = 8_192


class Words:
    """Counts of gapped words and pairs of options, of designs x (…, d) in [0, 1], soft or hard: (…, width).

    Centred, and each kind (an order of words, the pairs, the numbers) scaled to one unit of variance over random designs.
    """

    def __init__(self, space: DesignSpace, device: torch.device | str = "cpu") -> None:
        onehot = [block for block in space.blocks if block.kind == "onehot"]
        self.sequences = [(block, _orders(block)) for block in onehot if block.rows > WINDOW]
        self.sequences = [(block, order) for block, order in self.sequences if order > 1]
        self.sites = [
            (block.start + i * block.classes, block.classes)
            for block in onehot if block.rows <= WINDOW for i in range(block.rows)
        ]  # fmt: skip
        self.pairs = list(itertools.combinations(range(len(self.sites)), 2))
        if sum(self.sites[i][1] * self.sites[j][1] for i, j in self.pairs) > MOST:
            self.pairs = []
        self.twins = torch.tensor(space.orbit(np.eye(space.d)).argmax(1), device=device)
        self.numbers = [block for block in space.blocks if block.kind != "onehot"]
        self.width = self._counts(torch.zeros(1, space.d, device=device)).shape[1]

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b w"]:
        if len(self.twins) == 1:
            return self._counts(x)
        return torch.stack([self._counts(x[..., twin]) for twin in self.twins]).mean(0)

    def of(self, X: FloatArray) -> FloatArray:
        """The same of an array X (n, d), (n, width)."""
        parts = (torch.tensor(X[i : i + CHUNK], device=self.twins.device) for i in range(0, len(X), CHUNK))
        return np.concatenate([np.zeros((0, self.width)), *(self(part).cpu().numpy() for part in parts)])

    def _counts(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b w"]:
        found = [one for block, order in self.sequences for one in _words(x, block, order)]
        if self.pairs:
            found.append(self._pairs(x))
        if self.numbers:
            columns = sum(block.stop - block.start for block in self.numbers)
            found += [
                (x[..., block.start : block.stop] - (1 / block.classes if block.kind == "simplex" else 0.5))
                * (spread(block) / math.sqrt(columns))
                for block in self.numbers
            ]
        return torch.cat(found, -1) if found else x[..., :0]

    def _pairs(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b w"]:
        sites = [x[..., start : start + classes] - 1 / classes for start, classes in self.sites]
        variance = sum((1 - 1 / self.sites[i][1]) * (1 - 1 / self.sites[j][1]) for i, j in self.pairs)
        found = [(sites[i].unsqueeze(-1) * sites[j].unsqueeze(-2)).flatten(-2) for i, j in self.pairs]
        return torch.cat(found, -1) / math.sqrt(variance)


def described(space: DesignSpace, X: FloatArray, sees: Container[str] = ("descriptors", "vectors")) -> FloatArray:
    """What descriptors say of the options and letters of designs X (…, d), and vectors of their sequences: (…, m).

    Each set has one unit of variance a site, so that two options are as far apart as two names are, on average.

    Args:
        sees: which of both is wanted.
    """
    told = X @ table(space) if "descriptors" in sees else X[..., :0]
    return np.concatenate([told, *(one.of(X) * math.sqrt(2) for one in space.embedded if "vectors" in sees)], axis=-1)


def table(space: DesignSpace) -> FloatArray:
    """The matrix (d, m) that turns designs X (n, d), soft ones too, into the (expected) descriptors of their options and letters.

    m is 0 where there are none.
    """
    found = [np.zeros((space.d, 0))]
    for one in space.described:
        b, k = one.block, one.places.shape[1]
        part = np.zeros((space.d, b.rows * k))
        for i in range(b.rows):
            part[b.start + i * b.classes : b.start + (i + 1) * b.classes, i * k : (i + 1) * k] = one.places * math.sqrt(2)
        found.append(part)
    return np.concatenate(found, axis=1)


def factors(space: DesignSpace) -> int:
    """How many letters, options, numbers and fractions a design has."""
    return sum(block.rows if block.kind == "onehot" else block.stop - block.start for block in space.blocks)


def unit_scale(space: DesignSpace) -> FloatArray:
    """Factors that bring numbers and fractions of designs in [0, 1] to unit variance, and leave letters; (d,)."""
    scale = np.ones(space.d)
    for block in space.blocks:
        if block.kind != "onehot":
            scale[block.start : block.stop] = spread(block)
    return scale


def spread(block: Block) -> float:
    """The factor that brings a number or a fraction in [0, 1] to unit variance (of the flat Dirichlet distribution)."""
    return math.sqrt(12) if block.kind == "unit" else block.classes * math.sqrt((block.classes + 1) / (block.classes - 1))


def _orders(block: Block) -> int:
    """The longest words of a sequence that are counted."""
    sizes = itertools.accumulate(math.comb(WINDOW - 1, order - 1) * block.letters**order for order in range(1, ORDER + 1))
    return sum(size <= MOST for size in sizes)


def _words(x: Float[Tensor, "*b d"], block: Block, orders: int) -> list[Float[Tensor, "*b _"]]:
    """Count the words of each order up to this one in a sequence, each order with one unit of variance."""
    shape = (*x.shape[:-1], block.rows, block.classes)
    letters = x[..., block.start : block.stop].reshape(shape)[..., : block.letters]
    letters = letters - (letters.sum(-1, keepdim=True) if block.gap else 1) / block.letters
    later = F.pad(letters, (0, 0, 0, WINDOW - 1))  # beyond the end stands nothing: zero counts for no word
    ahead = [later[..., at : at + block.rows, :] for at in range(WINDOW)]
    heads = {(): letters.new_ones((*shape[:-1], 1)), (0,): letters}  # the words without their last letter, at each place
    found = []
    for order in range(1, orders + 1):
        here: list[Tensor] = []
        for head in [one for one in heads if len(one) == order - 1 and (not one or one[-1] < WINDOW - 1)]:
            nexts = range(head[-1] + 1, WINDOW) if head else range(1)
            here.append((heads[head].mT @ torch.cat([ahead[at] for at in nexts], -1)).flatten(-2))
            if head and order < orders:
                heads |= {(*head, at): (heads[head].unsqueeze(-1) * ahead[at].unsqueeze(-2)).flatten(-2) for at in nexts}
        places = sum(max(block.rows - rest[-1], 0) if rest else block.rows
                     for rest in itertools.combinations(range(1, WINDOW), order - 1))  # fmt: skip
        found.append(torch.cat(here, -1) / math.sqrt(places * (1 - 1 / block.letters) ** order))
    return found
