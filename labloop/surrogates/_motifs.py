"""The term of motifs: long words of a sequence, wherever they stand, that are alike as far as their letters agree.

    k(x, x') = v Σ_u∈x Σ_u'∈x' (Π_t (1 if u_t = u'_t else exp(-γ_t)) - m)

over all words u of x and u' of x' of one length, m being what any word has in common with all words on average: a sum over a
sequence's places of one Gaussian process over words (additive convolutional kernels: van der Wilk et al., NeurIPS 2017). A
binding site of six letters, four of which matter, is one thing here, with interactions of every order among them; counts of short
gapped words see its parts alone. Rates γ of their own tell which letters of a motif matter.

Words of DNA or RNA are few, so that nothing runs over pairs of words. The words' covariance is a Kronecker product of matrices
of one letter each; what a design shares with each of all words is its counts times that, and what two designs share is looked up
there. While hyper-parameters are fitted, pairs of measured designs are counted once by which letters of their words agree: each
step then is one product with that many weights.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labloop.space.parameters import Block
from labloop.surrogates._latest import MOST, Made
from labloop.surrogates._logs import Logs
from labloop.types import Array

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LENGTH = 6
"""Letters of a word at most."""
SHORT = 3
"""Letters of words that `labloop.surrogates._kernels` counts one by one already."""
WORDS = 4_096
"""Different words at most: six letters of DNA."""
COUNTED = 2_000
"""Designs up to which pairs are counted by the letters that agree: a quarter of a gigabyte."""
COMPARED = 4e6
"""Pairs of a design's own words, times the designs, up to which counting costs less than to look words up at each step."""
ROWS = 2**12
"""Pairs of designs that are weighed at once: what stays in a processor's cache."""
PAIRS = 2**22
"""Pairs of words that are compared at once."""
MANY = 1_000
"""Pairs of words of one design from which what all words share is cheaper than comparing them."""


def length_of(block: Block) -> int | None:
    """Say how many letters the words of a sequence have; None where they are too short, or too many."""
    fit = [n for n in range(SHORT + 1, min(LENGTH, block.rows - 1) + 1) if block.letters**n <= WORDS]
    return max(fit, default=None)


class Motifs(nn.Module):
    """The term of one sequence block."""

    mask: Float[Tensor, "p w"]

    def __init__(self, block: Block, length: int) -> None:
        super().__init__()
        self.block, self.length = block, length
        self.places = block.rows - length + 1
        self.words = block.letters**length
        rate = 2.4 / length  # two random words then are as alike as two random designs are by their letters
        self.variance = Logs(1, centre=0.1, spread=2.0, start=0.3)
        self.rates = Logs(length, centre=rate, spread=1.0, start=rate)
        differs = 1 - (np.arange(2**length)[:, None] >> np.arange(length) & 1)
        self.register_buffer("mask", torch.tensor(differs, dtype=torch.float64))
        self._index: Made[Tensor] = Made()
        self._words: Made[Tensor] = Made()
        self._counted: tuple[Tensor, Tensor] | None = None  # counts are given back when a fit is over

    def forward(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], twins: Int[Tensor, "g d"], diag: bool
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        j = self._kept(x2, twins)  # measured designs, asked for first, as the last two are kept
        i = j if x1 is x2 else self._kept(x1, twins)
        fitting = self.rates.log.requires_grad and torch.is_grad_enabled()
        if not fitting:
            self._counted = None
        if diag:
            return self._each(i, j)
        if fitting and x1 is x2 and i.dim() == 2 and len(i) <= COUNTED and i.numel() * i.shape[-1] <= COMPARED:
            return self._agreeing(x1, i)
        return self._looked_up(i, j)

    def _scale(self, k: int) -> tuple[Float[Tensor, ""], Float[Tensor, " one"]]:
        """What any word has in common with all words on average; and the factor by which designs of k words, those of all twins
        counted, have about one unit of variance, times the term's own."""
        letters = self.block.letters
        usual = ((1 + (letters - 1) * (-self.rates()).exp()) / letters).prod()
        return usual, self.variance() * self.places / (k**2 * (1 - usual))

    def _by_pattern(self, k: int) -> Float[Tensor, " p"]:
        """What two words of designs of k words share, by which of their letters agree."""
        usual, scale = self._scale(k)
        return scale * ((-self.mask @ self.rates()).exp() - usual)

    def _kept(self, x: Float[Tensor, "*b d"], twins: Int[Tensor, "g d"]) -> Int[Tensor, "*b k"]:
        """Number the words of x as `index` does, once as long as it is asked for."""
        return self.index(x, twins) if x.requires_grad else self._index(x, lambda x: self.index(x, twins))

    def index(self, x: Float[Tensor, "*b d"], twins: Int[Tensor, "g d"]) -> Int[Tensor, "*b k"]:
        """Number the words of x, of all its twins, by its likeliest letters; `words` where one would reach beyond the end."""
        b, found = self.block, []
        steps = b.letters ** torch.arange(self.length - 1, -1, -1, device=x.device)
        for twin in twins:
            letter = x[..., twin[b.start : b.stop]].detach().reshape(*x.shape[:-1], b.rows, b.classes).argmax(-1)
            word = letter.unfold(-1, self.length, 1)
            found.append(torch.where((word < b.letters).all(-1), (word * steps).sum(-1), self.words))
        return torch.cat(found, -1)

    def _looked_up(self, i: Int[Tensor, "*b n k"], j: Int[Tensor, "*b m k"]) -> Float[Tensor, "*b n m"]:
        """What pairs of designs share, by what the fewer of them share with every word."""
        if i.dim() > 2 or j.dim() > 2:
            lead = torch.broadcast_shapes(i.shape[:-2], j.shape[:-2])
            pairs = (one.expand(*lead, *one.shape[-2:]).reshape(-1, *one.shape[-2:]) for one in (i, j))
            found = [self._looked_up(a, b) for a, b in zip(*pairs, strict=True)]
            return torch.stack(found).reshape(*lead, i.shape[-2], j.shape[-2])
        if len(i) > len(j):
            return self._looked_up(j, i).mT
        once = self.rates.log.requires_grad or len(i) > MOST  # else rates stay as they are, and measured designs come again
        return F.embedding_bag(j, self._by_word(i) if once else self._words(i, self._by_word), mode="sum").mT

    def _by_word(self, i: Int[Tensor, "n k"]) -> Float[Tensor, "u n"]:
        """What every word, and none in the last row, shares with each design."""
        return F.pad(self._table(i), (0, 1)).T.contiguous()

    def _table(self, i: Int[Tensor, "n k"]) -> Float[Tensor, "n v"]:
        """What each design shares with every word."""
        same = self._alike()
        counts = torch.zeros(len(i), self.words + 1, dtype=same.dtype, device=i.device)
        counts.scatter_add_(1, i, torch.ones_like(i, dtype=same.dtype))
        half = self.length // 2
        front, back = _product(same[:half]), _product(same[half:])
        common = (front @ counts[:, :-1].reshape(len(i), len(front), len(back)) @ back).flatten(1)
        usual, scale = self._scale(i.shape[-1])
        return scale * (common - usual * counts[:, :-1].sum(1, keepdim=True))

    def _alike(self) -> Float[Tensor, "w a a"]:
        """Covariances of letters at each place of a word."""
        far = (-self.rates()).exp()[:, None, None]
        return far + (1 - far) * torch.eye(self.block.letters, dtype=far.dtype, device=far.device)

    def _each(self, i: Int[Tensor, "*b k"], j: Int[Tensor, "*b k"]) -> Float[Tensor, "*b"]:
        """What designs share with their like, one by one."""
        shape, k = i.shape[:-1], i.shape[-1]
        share = self._from_all if k**2 >= MANY else self._compared
        size = max(1, PAIRS // (self.words if k**2 >= MANY else k**2))
        parts = zip(i.reshape(-1, k).split(size), j.reshape(-1, k).split(size), strict=True)
        return torch.cat([share(a, b) for a, b in parts]).reshape(shape)

    def _from_all(self, i: Int[Tensor, "n k"], j: Int[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """What designs share, by what the one shares with every word."""
        return F.pad(self._table(i), (0, 1)).gather(1, j).sum(1)

    def _compared(self, i: Int[Tensor, "n k"], j: Int[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """What designs share, by their words pair by pair."""
        weights = self._by_pattern(i.shape[-1])
        agree = torch.as_tensor(agreement(self.block.letters, self.length), device=i.device)
        there = (i < self.words)[:, :, None] & (j < self.words)[:, None, :]
        pattern = agree[i.clamp(max=self.words - 1)[:, :, None], j.clamp(max=self.words - 1)[:, None, :]]
        return (weights[pattern.long()] * there).sum((1, 2))

    def _agreeing(self, x: Float[Tensor, "n d"], i: Int[Tensor, "n k"]) -> Float[Tensor, "n n"]:
        """What pairs of measured designs share, by pairs of their words counted by which letters agree.

        They are counted once, as long as the same designs are asked for.
        """
        if self._counted is None or self._counted[0] is not x:
            counts = _counted(i.cpu().numpy(), self.block.letters, self.length)
            self._counted = x, torch.as_tensor(counts, device=x.device)
        above = _Weighed.apply(self._counted[1], self._by_pattern(i.shape[-1]))  # type: ignore[no-untyped-call]
        row, column = torch.triu_indices(len(x), len(x), device=x.device)
        upper = above.new_zeros(len(x), len(x)).index_put((row, column), above)
        return upper + upper.triu(1).mT


class _Weighed(torch.autograd.Function):
    """Counts (r, p) of a byte or two each times weights (p,), in pieces: as floats they would be a fit's largest thing by far."""

    @staticmethod
    def forward(ctx: Any, counts: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(counts)
        return torch.cat([part.to(weights.dtype) @ weights for part in counts.split(ROWS)])

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[None, Tensor]:
        (counts,) = ctx.saved_tensors
        parts = zip(slope.split(ROWS), counts.split(ROWS), strict=True)
        return None, torch.stack([one @ part.to(slope.dtype) for one, part in parts]).sum(0)


def _product(parts: Float[Tensor, "w a a"]) -> Float[Tensor, "v v"]:
    whole = parts[0]
    for part in parts[1:]:
        whole = torch.kron(whole, part)
    return whole


@cache
def agreement(letters: int, length: int) -> Array:
    """Tell for each two words which of their letters agree, as bits, (v, v) uint8."""
    digits = np.arange(letters**length)[:, None] // letters ** np.arange(length - 1, -1, -1) % letters
    out = np.zeros((letters**length,) * 2, dtype=np.uint8)
    for t in range(length):
        out |= (digits[:, None, t] == digits[None, :, t]).astype(np.uint8) << t
    return out


def _counted(index: Array, letters: int, length: int) -> Array:
    """Count pairs of words of each two designs, whose words are numbered (n, k), by pattern of agreement.

    Returns:
        A row of 2 ** length counts for each pair of the upper triangle, row by row.
    """
    n, k = index.shape
    words, patterns = letters**length, 2**length
    agree = agreement(letters, length)
    found = []
    for a in range(n):
        left, right = index[a][index[a] < words], index[a:].ravel()
        there = right < words
        column = np.repeat(np.arange(n - a) * patterns, k)[there]
        place = agree[left[:, None], right[there][None, :]] + column
        counts = np.bincount(place.ravel(), minlength=(n - a) * patterns)
        found.append(counts.astype(np.uint8 if k**2 < 2**8 else np.int16 if k**2 < 2**15 else np.int32).reshape(n - a, patterns))
    return np.concatenate(found)
