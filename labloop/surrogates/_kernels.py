"""A Gaussian process kernel for any design space: letters and options, motifs, numbers and mixtures, symmetric twins as one.

With h the differing sites, m the scaled numbers and φ motif counts, k is a sum of terms, each with a variance of its own:

    k(x, x') = v₁ H + v₂ M + v₃ H M + Σ_o v_o ⟨φ_o(x), φ_o(x')⟩ + v_w W      H = exp(-Σ_s w_s [x_s ≠ x'_s])      M = Matérn-5/2

* H is the product over sites of compound-symmetric kernels (what BoTorch's CategoricalKernel computes, with one rate a site).
* Where options or letters have descriptors, w_s [x_s ≠ x'_s] may be joined or replaced by w_so ‖e_s - e_s'‖² for each set o, with
  e the places of `labloop.space.descriptors`: alike options are alike. Which sets, the fit decides (`labloop.surrogates.gp`).
* Of several numbers, v₄ mean_i M_i with one number each and length scales of their own lets what each does by itself be told from
  few measurements (additive kernels: Duvenaud et al., NeurIPS 2011); without it, corners far from all data look best of all.
* Where sequences have vectors, such as embeddings, v_e Matérn-5/2(‖e(x) - e(x')‖ / ℓ_e) is one more term: designs that the
  vectors hold to be alike are alike, whatever letters they differ in.
* M has one length scale a column; mixtures enter as fractions. A space with H or M only has that one term.
* H M beside H and M is the mixed kernel of Ru et al. (ICML 2020, eq. 4), with length scales shared between its terms.
* φ_o counts gapped words of o letters within `WINDOW` positions, wherever in the sequence they stand (gapped k-mers: Ghandi
  et al., PLoS Comput Biol 2014; the local features under convolutional Gaussian processes: van der Wilk et al., NeurIPS 2017).
  Proteins bind motifs, not positions; where position is what matters, the marginal likelihood turns v_o down.
* W compares words of up to six letters in a row, wherever they stand, as H compares designs: whole motifs, with all that their
  letters do together (`labloop.surrogates._motifs`). For DNA, RNA and other small alphabets.
* Symmetric twins: H is averaged over the twins of both designs, φ and W over the twins of each, so k(x, x') is the same for
  every twin of x and of x'.

All hyper-parameters are logarithms with normal priors, so that a maximum a posteriori fit is smooth and unconstrained.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gpytorch
import numpy as np
import torch
from torch import Tensor, nn

from labloop.space.descriptors import Described, squares
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Block
from labloop.space.vectors import Embedded, weights
from labloop.surrogates._latest import Made
from labloop.surrogates._logs import Logs
from labloop.surrogates._motifs import Motifs, length_of
from labloop.surrogates._related import TaskTerm

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LETTERS = "letters"
"""What a kernel sees of options and letters without descriptors: whether they differ."""
WINDOW = 4
"""Positions that a gapped word spans at most."""
SHARE = 0.5
"""Of a site's rate, what the letters have where descriptors have the rest."""
MAX_WORDS = 2_048
"""Orders of words are added while all of them together are at most so many: three letters of DNA, two of protein."""


def encodings(space: DesignSpace) -> list[tuple[str, ...]]:
    """List what a kernel may see of options and letters: that they differ, each set of descriptors, all of it; vectors last."""
    names = tuple(dict.fromkeys(one.name for one in space.described))
    vectors = tuple(dict.fromkeys(one.name for one in space.embedded))
    every = [(LETTERS,), *((name,) for name in names), *([(LETTERS, *names)] if names else [])]
    return [*every, (LETTERS, *names, *vectors)] if vectors else every


class DesignKernel(gpytorch.kernels.Kernel):  # type: ignore[misc]
    """The kernel above, over float64 encodings of one space."""

    has_lengthscale = False

    def __init__(
        self,
        space: DesignSpace,
        *,
        motifs: bool = True,
        sets: tuple[str, ...] = (LETTERS,),
        related: Sequence[TaskTerm] = (),
        effects: bool = False,
    ) -> None:
        """
        Args:
            effects: whether what each number does by itself is a term of its own, where there are several.
            sets: what is seen of options and letters: `LETTERS`, that they differ, and names of descriptor sets. One that has
                none of these is seen as letters.
            related: terms of what other campaigns found.
        """
        super().__init__()
        described = [one for one in space.described if one.name in sets]
        told = {one.block for one in described}
        every = [b for b in space.blocks if b.kind == "onehot"]
        sites = [b for b in every if LETTERS in sets or b not in told]
        columns = [i for b in space.blocks if b.kind != "onehot" for i in range(b.start, b.stop)]
        classes = [b.classes for b in sites for _ in range(b.rows)]
        self.register_buffer("site_columns", torch.tensor([i for b in sites for i in range(b.start, b.stop)], dtype=torch.long))
        self.register_buffer("classes", torch.tensor(classes, dtype=torch.long))
        self.register_buffer("number_columns", torch.tensor(columns, dtype=torch.long))
        twins = space.orbit(np.eye(space.d)).argmax(1)  # twin g of x is x[twins[g]]: twins only move columns about
        self.register_buffer("twins", torch.tensor(twins, dtype=torch.long))
        terms = 1 if not (every and columns) else 3
        self.variances = Logs(terms, centre=0.3, spread=2.0, start=1.0 / terms)
        # Two random designs differ in most of s sites: rates of 2.4/s put their correlation near e⁻² before any data.
        rate = 2.4 / max(sum(b.rows for b in every), 1)
        self.discrete = bool(every)
        if sites:
            # What descriptors say is said by letters too: together they count as much as letters would alone.
            shared = [(SHARE if b in told else 1.0) * rate for b in sites for _ in range(b.rows)]
            self.rates = Logs(len(classes), centre=shared, spread=1.0, start=shared)
        self.alike = nn.ModuleList(
            _Alike(one, (SHARE if LETTERS in sets else 1.0) * rate / sum(other.block == one.block for other in described))
            for one in described
        )
        if columns:
            # The dimension-scaled prior of Hvarfner et al. (ICML 2024), BoTorch's default: log ℓ ~ N(√2 + ½ log k, 3). BoTorch
            # maximises the density of ℓ, not of log ℓ, which is this prior with its centre 3 lower; that centre predicts better.
            centre = math.exp(math.sqrt(2) - 3) * math.sqrt(len(columns))
            self.lengths = Logs(len(columns), centre=centre, spread=math.sqrt(3), start=0.5 * math.sqrt(len(columns)))
        sequences = [b for b in every if motifs and b.rows > WINDOW]
        self.words = nn.ModuleList(
            _Words(b, order)
            for b in sequences
            for order in range(1, WINDOW)
            if sum(_count(b, o) for o in range(1, order + 1)) <= MAX_WORDS
        )
        self.motifs = nn.ModuleList(Motifs(b, length) for b in sequences if (length := length_of(b)) is not None)
        self.vectors = nn.ModuleList(_Vectors(one) for one in space.embedded if one.name in sets)
        self.related = nn.ModuleList(related)
        self.effects = _Effects(columns, 1.0 / (terms + 1)) if effects and len(columns) > 1 else None

    @property
    def tasks(self) -> list[TaskTerm]:
        """The terms of other campaigns."""
        return [one for one in self.related if isinstance(one, TaskTerm)]

    def penalty(self) -> Float[Tensor, ""]:
        """Give minus the log prior density of all hyper-parameters, up to a constant."""
        return torch.stack([module.penalty() for module in self.modules() if isinstance(module, Logs)]).sum()

    def forward(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], diag: bool = False, **_: Any
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        """Give covariances, or the diagonal of two of one length."""
        v = self.variances()
        parts = []
        if self.discrete:
            parts.append(self._hamming(x1, x2, diag))
        if len(self.number_columns):
            parts.append(self._matern(x1, x2, diag))
        K = v[0] * parts[0] if len(parts) == 1 else v[0] * parts[0] + v[1] * parts[1] + v[2] * parts[0] * parts[1]
        if self.effects is not None:
            K = K + self.effects(x1, x2, diag)
        for vectors in self.vectors:
            K = K + vectors(x1, x2, diag)
        for words in (*self.words, *self.motifs):
            K = K + words(x1, x2, self.twins, diag)
        for task in self.related:
            K = K + task(x1, x2, diag)
        return K

    def _hamming(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], diag: bool
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        rates = self.rates() if len(self.classes) else x1.new_zeros(0)
        roots, every = rates.sqrt().repeat_interleave(self.classes), rates.sum()

        def weighted(x: Tensor, last: Tensor, *, left: bool) -> list[Tensor]:
            """Twins of x with a last column, so that one product is minus the rates of all sites that differ."""
            column = last.expand(*x.shape[:-1], 1)
            return [
                torch.cat(
                    [x[..., twin[self.site_columns]] * roots, column, *(one(x[..., twin], left=left) for one in self.alike)], -1
                )
                for twin in self.twins
            ]

        first, second = weighted(x1, torch.ones_like(every), left=True), weighted(x2, -every, left=False)
        same = x1 is x2 and not diag
        K: Tensor | float = 0.0
        for g, a in enumerate(first):
            for h, b in enumerate(second):
                if same and h < g:
                    continue  # the transpose of one already there
                k = _inner(a, b, diag).exp()
                K = K + (k + k.mT if same and h > g else k)
        return K / len(self.twins) ** 2  # type: ignore[return-value]

    def _matern(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], diag: bool
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        a, b = (x[..., self.number_columns] / self.lengths() for x in (x1, x2))
        squares = ((a - b) ** 2).sum(-1) if diag else _Squares.apply(a, b)  # type: ignore[no-untyped-call]
        return _matern52((squares + 1e-14).sqrt())  # the root has no slope at zero


def _matern52(distance: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Give Matérn's kernel of order 5/2 of distances in length scales, in as few passes over them as there can be."""
    r = math.sqrt(5) * distance
    return torch.addcmul(1 + r, r, r, value=1 / 3) * (-r).exp()


class _Squares(torch.autograd.Function):
    """Squared Euclidean distances (..., n, m) of a (..., n, k) and b (..., m, k), from the differences themselves.

    a² + b² - 2ab would cost less, but of two points that are close to each other and far from zero it keeps no digit, and the
    kernel then is no covariance. Only the slopes are products of matrices: there the lost digits are those of rounding.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square_()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        towards_a = 2 * (slope.sum(-1)[..., None] * a - slope @ b)
        towards_b = 2 * (slope.sum(-2)[..., None] * b - slope.mT @ a)
        return towards_a.sum_to_size(a.shape), towards_b.sum_to_size(b.shape)


class _Alike(nn.Module):
    """A set of descriptors as part of the product over sites: minus the weighted squared distances of options, as a product."""

    squares: Float[Tensor, "o o"]

    def __init__(self, described: Described, rate: float) -> None:
        super().__init__()
        self.block = described.block
        self.register_buffer("squares", torch.tensor(squares(described.places), dtype=torch.float64))
        self.rate = Logs(1, centre=rate, spread=2.0, start=rate)  # worth much or nothing: the data say

    def forward(self, x: Float[Tensor, "*b d"], *, left: bool) -> Float[Tensor, "*b k"]:
        """Give x's factor of the product."""
        b = self.block
        one = x[..., b.start : b.stop]
        if not left:
            return one
        return -self.rate() * (one.reshape(*x.shape[:-1], b.rows, b.classes) @ self.squares).flatten(-2)


class _Vectors(nn.Module):
    """The term of one parameter's vectors."""

    keys: Int[Tensor, " v"]
    places: Float[Tensor, "v m"]
    hash: Int[Tensor, " rows"]

    def __init__(self, embedded: Embedded) -> None:
        super().__init__()
        self.block = embedded.block
        self.register_buffer("keys", torch.tensor(embedded.keys))
        self.register_buffer("places", torch.tensor(embedded.places, dtype=torch.float64))
        self.register_buffer("hash", torch.tensor(weights(embedded.block.rows)))
        self.variance = Logs(1, centre=0.3, spread=2.0, start=0.5)
        self.length = Logs(1, centre=0.7, spread=1.0, start=0.7)  # two designs are at a squared distance of one on average

    def forward(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], diag: bool
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        a = self._places(x1)
        b = a if x2 is x1 else self._places(x2)
        apart = (a - b).square().sum(-1) if diag else torch.cdist(a, b).square()
        return self.variance() * _matern52((apart + 1e-14).sqrt() / self.length())

    def _places(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b m"]:
        """Coordinates of x by its likeliest letters; the mean, zero, where there is no vector."""
        b = self.block
        codes = x[..., b.start : b.stop].detach().reshape(*x.shape[:-1], b.rows, b.classes).argmax(-1)
        wanted = ((codes + 1) * self.hash).sum(-1)
        at = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        return torch.where((self.keys[at] == wanted)[..., None], self.places[at], 0.0)


class _Effects(nn.Module):
    """The term of main effects: a mean over numbers of kernels of one number each, with length scales of their own."""

    def __init__(self, columns: list[int], start: float) -> None:
        super().__init__()
        self.columns = columns
        self.variance = Logs(1, centre=0.3, spread=2.0, start=start)
        # A number's whole range: what it does by itself is smooth, and goes on beyond the data.
        self.lengths = Logs(len(columns), centre=1.0, spread=math.sqrt(3), start=1.0)

    def forward(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], diag: bool
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        total = x1.new_zeros(())
        for column, length in zip(self.columns, self.lengths(), strict=True):
            a, b = x1[..., column] / length, x2[..., column] / length
            total = total + _matern52((a - b if diag else a[..., :, None] - b[..., None, :]).abs())
        return self.variance() * total / len(self.columns)


class _Words(nn.Module):
    """The term of all gapped words of one order in one sequence block."""

    def __init__(self, block: Block, order: int) -> None:
        super().__init__()
        self.block, self.order = block, order
        self.offsets = [(0, *rest) for rest in itertools.combinations(range(1, WINDOW), order - 1)]
        # A random sequence has about one unit of variance: its words count once a place, each centred on 1 - 1/A.
        places = sum(block.rows - offsets[-1] for offsets in self.offsets)
        self.scale = 1 / math.sqrt(places * (1 - 1 / block.letters) ** order)
        self.variance = Logs(1, centre=0.1, spread=2.0, start=0.3)
        self._made: Made[Tensor] = Made()

    def forward(
        self, x1: Float[Tensor, "... n d"], x2: Float[Tensor, "... m d"], twins: Int[Tensor, "g d"], diag: bool
    ) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
        second = self._kept(x2, twins)
        return self.variance() * _inner(second if x1 is x2 else self._kept(x1, twins), second, diag)

    def _kept(self, x: Float[Tensor, "*b d"], twins: Int[Tensor, "g d"]) -> Float[Tensor, "*b w"]:
        """Count the words of x as `counts` does, once as long as it is asked for."""
        return self.counts(x, twins) if x.requires_grad else self._made(x, lambda x: self.counts(x, twins))

    def counts(self, x: Float[Tensor, "*b d"], twins: Int[Tensor, "g d"]) -> Float[Tensor, "*b w"]:
        """Count the words of x, averaged over twins and scaled."""
        b = self.block
        out: list[Tensor] = []
        for twin in twins:
            letters = x[..., twin[b.start : b.stop]].reshape(*x.shape[:-1], b.rows, b.classes)[..., : b.letters]
            letters = letters - (letters.sum(-1, keepdim=True) if b.gap else 1) / b.letters  # beyond the end stands nothing
            found = []
            for offsets in self.offsets:
                places = b.rows - offsets[-1]
                word = letters[..., :places, :]
                for at in offsets[1:-1]:  # the outer product of the letters at each place
                    word = (word.unsqueeze(-1) * letters[..., at : at + places, None, :]).flatten(-2)
                last = letters[..., offsets[-1] : offsets[-1] + places, :]
                found.append(word.sum(-2) if self.order == 1 else (word.mT @ last).flatten(-2))
            out.append(torch.cat(found, -1))
        return torch.stack(out).mean(0) * self.scale


def _count(block: Block, order: int) -> int:
    return math.comb(WINDOW - 1, order - 1) * int(block.letters**order)


def _inner(
    a: Float[Tensor, "... n k"], b: Float[Tensor, "... m k"], diag: bool
) -> Float[Tensor, "... n m"] | Float[Tensor, "... n"]:  # fmt: skip
    return (a * b).sum(-1) if diag else a @ b.mT
