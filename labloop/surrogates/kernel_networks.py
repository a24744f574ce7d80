"""Regressions that know what a Gaussian process's kernel knows, as networks: units about measured designs, and words.

A member is f(x) = Σ_c a_c k(x, z_c) with k(x, z) = exp(-r ‖x - z‖²/2) + v ⟨φ(x), φ(z)⟩: one hidden layer whose units stand about
designs z (a radial basis function network: Broomhead and Lowe, Complex Systems 2, 1988), and a linear part on counts of gapped
words φ (`labloop.surrogates.features`), or on pairs of options. On letters ‖x - z‖²/2 is the number that differ. Only a is
fitted, each member's to its own bootstrap, and in closed form (ridge regression), so it takes a second where gradient descent
takes ten; r, v and the ridge are those of the highest marginal likelihood on a grid. On soft letters f has gradients like any
network. Where options or letters have descriptors P, a share w of ‖x - z‖² is ‖xP - zP‖², with w from the grid too: alike
options are alike, and soft ones have expected descriptors.
The units of symmetric twins share their weight, and φ is a mean over twins, so f is the same for both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from labloop.proposing.dataset import Dataset
from labloop.space.design_space import DesignSpace
from labloop.surrogates.features import Words, factors, table, unit_scale
from labloop.surrogates.training import torch_generator

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

EXACT = 2_000
"""Up to so many measured designs each has a unit of its own."""
UNITS = 768
"""Units above that: half of them the best designs, the rest drawn at random."""
PROBE = 400
"""Designs that r, v and the ridge are chosen on at most, drawn at random."""
FEWEST = 20
"""Measured designs below which nothing can be chosen."""
RATES = (0.6, 1.2, 2.4, 4.8)
"""r, over the number of sites: how far apart two random designs are."""
SHARES = (0.0, 0.1, 0.4, 2.0)
"""v, over the mean ‖φ‖²."""
DESCRIBED = (0.0, 0.5, 1.0)
"""w, the share of names' distances that descriptors have."""
RIDGES = (0.01, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Noise variances, over the variance at a design."""
CHUNK = 4_096


class StackedKernel(nn.Module):
    """E members side by side over designs x as one method scales them: (E, b, d), or (b, d) shared by all."""

    units: Float[Tensor, "g c d"]
    """All twins."""
    tail: Float[Tensor, "E c"]
    """What each unit adds."""
    words: Float[Tensor, "E w"]
    """What each word adds."""
    bias: Float[Tensor, ""]
    reach: Float[Tensor, " d"]
    """The factor on each column of a difference, r in it."""
    unit: Float[Tensor, " 2"]
    """Factor and shift from x to [0, 1]."""
    lift: Float[Tensor, "d m"]
    """What descriptors make of a difference, r in it; of no columns where none are seen."""

    def __init__(self, space: DesignSpace, weights: Mapping[str, Tensor]) -> None:
        """Take all of these but `lift`, which may be left out, from `weights`."""
        super().__init__()
        for name in ("units", "tail", "words", "bias", "reach", "unit"):
            self.register_buffer(name, weights[name])
        self.register_buffer("lift", weights.get("lift", self.reach.new_zeros(len(self.reach), 0)), persistent="lift" in weights)
        self.counted = Words(space, self.units.device)

    @property
    def weights(self) -> list[Tensor]:
        """As other networks have them: members first, the width last."""
        return [self.tail]

    def forward(self, x: Float[Tensor, "... b d"]) -> Float[Tensor, "E b"]:
        near = _near(x, self.units, _Metric(self.reach, self.lift))
        parts = [near @ self.tail.T if x.ndim == 2 else (near @ self.tail[..., None])[..., 0]]
        if self.words.shape[1]:
            found = self.counted(x * self.unit[0] + self.unit[1])
            parts.append(found @ self.words.T if x.ndim == 2 else (found @ self.words[..., None])[..., 0])
        out = torch.stack(parts).sum(0) + self.bias
        return out.T if x.ndim == 2 else out


def worth_trying(data: Dataset) -> bool:
    """Whether there are letters or options, and enough designs to choose r, v and the ridge by: numbers are a network's."""
    return len(data) >= FEWEST and any(block.kind == "onehot" for block in data.space.blocks)


def handicap(correlation: float, n: int) -> float:
    """By how much a correlation over n rows has to be ahead of a network's; 0 where each of n designs has a unit.

    Of more designs the few units know less, which shows beyond the data first: equal on held-out rows of 32,898 8-mers, they
    ranked the best of all lower than networks (median .785 for .865).
    """
    return 0.0 if n <= EXACT else (1 - correlation**2) / math.sqrt(n - 1)


def fit_kernel(
    data: Dataset, x: Float[Tensor, "g n d"], y: Float[Tensor, " n"], counts: Float[Tensor, "E n"], *,
    unit: tuple[float, float], seed: int,
) -> StackedKernel:  # fmt: skip
    """Fit every member to the rows that it drew; of a bound on y only where it is missed.

    Args:
        x: designs as the method scales them, all twins. y: what is learned, larger is better.
        counts: how much each row weighs with each member; 0 where a member has not seen it.
        unit: factor and shift from x to [0, 1].
    """
    rng = torch_generator(seed, "kernel", device=x.device)
    words, space = Words(data.space, x.device), data.space
    scale = torch.as_tensor(unit_scale(space), dtype=x.dtype, device=x.device) * unit[0]
    sites = factors(space)
    with torch.no_grad():
        phi = torch.cat([words(part * unit[0] + unit[1]) for part in x[0].split(CHUNK)])
        size = float(phi.square().sum(1).mean()) if words.width else 1.0
        phi, t = phi / math.sqrt(size), (y - y.mean()).double()
        probe = torch.randperm(len(y), generator=rng, device=x.device)[:PROBE]
        whole = _Metric.of(space, scale, unit[0])
        rate, described, share, ridge = _likeliest(x[:, probe], phi[probe], t[probe], whole, sites)
        rows, metric = _units(data, rng), whole.at(rate, described)
        solve = _Solver(x, phi, rows, metric, share, ridge)
        side = torch.tensor(data.censored, device=x.device)
        tail = solve(t, counts * (side == 0) if (side == 0).any() else counts)
        if side.any():  # a bound that is kept without it tells nothing
            tail = solve(t, counts * (side * (solve.predict(tail).mean(0) - t) <= 0))
        pull = tail @ phi[rows].double() * (share / math.sqrt(size))
    learned = {"tail": tail.float(), "words": pull.float(), "bias": y.mean(), "reach": metric.reach, "units": x[:, rows]}
    learned |= {"lift": metric.lift} if described else {}
    return StackedKernel(space, {**learned, "unit": torch.tensor(unit, device=x.device)})


@dataclass(frozen=True, eq=False)
class _Metric:
    """How far designs are apart: columns times `reach`, and descriptors by `lift`."""

    reach: Float[Tensor, " d"]
    lift: Float[Tensor, "d m"]
    names: Bool[Tensor, " d"] | None = None
    """Which columns are of described options or letters; what `at` needs."""

    @classmethod
    def of(cls, space: DesignSpace, scale: Float[Tensor, " d"], unit: float) -> _Metric:
        P = torch.as_tensor(table(space), dtype=scale.dtype, device=scale.device)
        return cls(scale, P * unit, (P != 0).any(1))

    def at(self, rate: float, described: float) -> _Metric:
        """Give the one with this rate and share of descriptors."""
        root = math.sqrt(rate)
        if not described:
            return _Metric(self.reach * root, self.lift[:, :0])
        assert self.names is not None
        kept = torch.where(self.names, math.sqrt(1 - described), 1.0)
        return _Metric(self.reach * root * kept, self.lift * (root * math.sqrt(described)))

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        near = x * self.reach
        return near if not self.lift.shape[1] else torch.cat([near, x @ self.lift], -1)


def _near(x: Float[Tensor, "*b d"], units: Float[Tensor, "g c d"], metric: _Metric) -> Float[Tensor, "*b c"]:
    """exp(-‖x - z‖²/2) by this metric, the mean over twins of the units z."""
    a, total = metric(x), []
    for unit in units:
        b = metric(unit)
        apart = 0.5 * (a.square().sum(-1)[..., None] + b.square().sum(-1)) - a @ b.mT
        total.append((-apart.clamp(min=0)).exp())
    return total[0] if len(total) == 1 else torch.stack(total).mean(0)


def _units(data: Dataset, rng: torch.Generator) -> Int[Tensor, " c"]:
    """Rows of the designs that units stand about."""
    if len(data) <= EXACT:
        return torch.arange(len(data), device=rng.device)
    top = torch.as_tensor(data.top(UNITS // 2).copy(), device=rng.device)
    drawn = torch.rand(len(data), generator=rng, device=rng.device)
    drawn[top] = -1
    return torch.cat([top, drawn.topk(UNITS - len(top)).indices]).sort().values


def _likeliest(
    x: Float[Tensor, "g n d"], phi: Float[Tensor, "n w"], t: Float[Tensor, " n"], metric: _Metric, sites: int
) -> tuple[float, float, float, float]:  # fmt: skip
    """Choose r, w, v and the ridge by marginal likelihood, the variance of t profiled out."""
    inner, found = (phi @ phi.T).double(), []
    ridges = torch.tensor(RIDGES, dtype=torch.float64, device=x.device)
    ways = itertools.product((one / sites for one in RATES), DESCRIBED if metric.lift.shape[1] else DESCRIBED[:1])
    for rate, described in ways:
        near = _near(x[0], x, metric.at(rate, described)).double()
        for share in SHARES if phi.shape[1] else SHARES[:1]:
            values, vectors = torch.linalg.eigh(near + share * inner)
            wide = values.clamp(min=0) + ridges[:, None]
            level = ((vectors.T @ t).square() / wide).mean(1).clamp(min=1e-300)
            cost = wide.log().mean(1) + level.log()
            found.append((float(cost.min()), rate, described, share, float(ridges[cost.argmin()])))
    return min(found)[1:]


class _Solver:
    """Ridge regression on units about some rows: exact where these are all, else with the penalty aᵀKa on the units alone."""

    def __init__(
        self, x: Float[Tensor, "g n d"], phi: Float[Tensor, "n w"], rows: Int[Tensor, " c"], metric: _Metric, share: float,
        ridge: float,
    ) -> None:  # fmt: skip
        self.ridge, self.exact = ridge, len(rows) == x.shape[1]
        parts = [
            _near(part, x[:, rows], metric) + share * some @ phi[rows].T
            for part, some in zip(x[0].split(CHUNK), phi.split(CHUNK), strict=True)
        ]
        self.K = torch.cat(parts).double() if self.exact else torch.cat(parts)
        self.rows = rows

    def __call__(self, t: Float[Tensor, " n"], counts: Float[Tensor, "E n"]) -> Float[Tensor, "E c"]:
        """What each unit adds, for t weighed by counts."""
        return torch.stack([self._solve(t, count.double()) for count in counts])

    def predict(self, tail: Float[Tensor, "E c"]) -> Float[Tensor, "E n"]:
        """The values at all rows."""
        return tail @ self.K.T.double()

    def _solve(self, t: Float[Tensor, " n"], count: Float[Tensor, " n"]) -> Float[Tensor, " c"]:
        out = torch.zeros(len(self.rows), dtype=torch.float64, device=t.device)
        if self.exact:
            seen = count.nonzero()[:, 0]
            if not len(seen):
                return out
            A = self.K[seen][:, seen]
            A.diagonal().add_(self.ridge / count[seen])
            out[seen] = torch.cholesky_solve(t[seen, None], torch.linalg.cholesky(A))[:, 0]
            return out
        A = self.ridge * self.K[self.rows].double()
        for part in torch.arange(len(t), device=t.device).split(CHUNK):
            K = self.K[part]
            weighed = K * count[part, None].float()
            A += (weighed.T @ K).double()
            out += (weighed.T @ t[part, None].float()).double()[:, 0]
        values, vectors = torch.linalg.eigh(0.5 * (A + A.T))  # sums in float32 need not be positive definite
        return vectors @ ((vectors.T @ out) / values.clamp(min=1e-6 * values[-1]))
