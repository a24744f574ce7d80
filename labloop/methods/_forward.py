"""Forward models: networks that predict y from a relaxed design, several side by side, by any of three losses.

What gradient ascent, rank learning, gradient matching and every search on a proxy have in common. Symbols: f the networks, z a
relaxed design (`labloop.methods._relaxation`), E members, b designs, r relaxed columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from labloop.errors import MethodError
from labloop.methods import _offer
from labloop.methods._relaxation import Kind, Relaxation
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.surrogates.networks import StackedMLP
from labloop.surrogates.training import Adam, log, pick_device, torch_generator, without_denormals
from labloop.types import Designs, FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float

Loss = Literal["mse", "listnet", "rank_cosine"]
LOOKS = 20
"""Times that a ranking loss is looked at on held-out designs."""
KEPT = 12
"""Steps of an ascent whose designs are kept, the last among them."""


@plugin
class ForwardModel:
    """Options of a forward model, and of the ascent on it."""

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (128, 128)
    """Widths of the hidden layers."""
    slope: NonNegativeFloat = 0.0
    """Of the leaky ReLU below 0; 0 is a ReLU."""
    loss: Loss = "mse"
    """Squared error, or one of RaM's losses, for which a batch is a list to be ranked (see the method `ram`)."""
    epochs: PositiveInt = 50
    """Passes over the dataset, within the two limits that follow."""
    min_steps: NonNegativeInt = 500
    """Training steps at least, however few the data are."""
    max_steps: PositiveInt | None = 3_000
    """Training steps at most, however many the data are; null for no bound."""
    batch_size: PositiveInt = 128
    """Designs a training step."""
    lr: PositiveFloat = 1e-3
    """Learning rate."""
    weight_decay: NonNegativeFloat = 0.0
    """Of the optimiser; 0 for none."""
    relaxation: Kind = "logits"
    """One-hot positions as K−1 log odds against the first letter (Design-Bench), or as K columns that treat all letters alike."""
    search: Literal["auto", "ascent", "enumerate"] = "auto"
    """Score every design where the space can be listed, climb elsewhere; or always climb, as published."""
    optimiser: Literal["adam", "plain"] = "adam"
    """How a particle steps up the gradient."""
    particle_steps: PositiveInt = 100
    """Steps that each design climbs."""
    particle_lr: PositiveFloat | None = None
    """Step of a particle; by default Adam's 0.1 for one-hot columns and 0.02 for others. A plain step is this times √r."""
    projected: bool = True
    """Keep particles in the box that designs span: log odds of letters, ranges of numbers, simplices of mixtures."""

    def steps(self, rows: int) -> int:
        """Training steps on so many rows."""
        wanted = max(self.min_steps, self.epochs * (rows // min(self.batch_size, rows)), 1)
        return wanted if self.max_steps is None else min(wanted, self.max_steps)


# ---- the data as networks see them


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """Relaxed designs and standardised y as tensors; symmetric twins are rows of their own, with the same y."""

    data: Dataset
    relaxation: Relaxation
    Z: Float[Tensor, "N r"]
    y: Float[Tensor, " N"]
    """Mean 0 and variance 1 over the designs, larger is better."""
    side: Float[Tensor, " N"]
    """-1 where y bounds the truth from above, +1 from below, 0 else."""
    location: float
    scale: float

    @classmethod
    def of(cls, data: Dataset, kind: Kind, *, proposer: str) -> View:
        """Relax and standardise a dataset.

        Raises:
            MethodError: fewer than two designs are measured.
        """
        if len(data) < 2:
            raise MethodError(
                f"{proposer} learns from at least two measured designs, there are {len(data)}: measure a first plate"
            )
        device, relaxation = pick_device(), Relaxation.of(data, kind)
        twins = [relaxation.encode(twin) for twin in data.space.orbit(data.X)]
        location, scale = float(data.y.mean()), float(data.y.std()) or 1.0
        y = torch.tensor((data.y - location) / scale, dtype=torch.float32, device=device).repeat(len(twins))
        side = torch.tensor(data.censored, dtype=torch.float32, device=device).repeat(len(twins))
        Z = torch.tensor(np.concatenate(twins), dtype=torch.float32, device=device)
        return cls(data=data, relaxation=relaxation, Z=Z, y=y, side=side, location=location, scale=scale)

    @property
    def device(self) -> torch.device:
        return self.Z.device

    def tensor(self, X: Designs) -> Float[Tensor, "m r"]:
        """Relax designs X to tensors on the device."""
        return torch.tensor(self.relaxation.encode(X), dtype=torch.float32, device=self.device)

    def designs(self, Z: Float[Tensor, "*b r"]) -> Float[FloatArray, "*b d"]:
        """Decode relaxed designs to valid canonical ones."""
        flat = self.relaxation.decode(Z.detach().reshape(-1, Z.shape[-1]).cpu().double().numpy())
        return self.data.space.repair(flat).reshape(*Z.shape[:-1], -1)

    def starts(self, n: int) -> Float[Tensor, "n r"]:
        """The n best measured designs, each again where there are fewer."""
        return self.tensor(self.data.X[np.resize(self.data.top(n), n)])

    def adam_rate(self, lr: float | None) -> Float[Tensor, " r"]:
        """The step of each relaxed column: `lr`, or 0.1 for letters and 0.02 for others."""
        return torch.where(torch.tensor(self.relaxation.discrete, device=self.device), lr or 0.1, lr or 0.02)

    @cached_property
    def box(self) -> Callable[[Tensor], Tensor]:
        """Give the map that clips one-hot columns to the letters' values and projects all others onto the space."""
        onto = self.relaxation.projection(self.device)
        discrete = torch.tensor(self.relaxation.discrete, device=self.device)
        letters = self.Z[:, discrete]
        low, high = (float(letters.min()), float(letters.max())) if letters.numel() else (0.0, 0.0)
        if bool(discrete.all()):
            return lambda z: z.clamp(low, high)
        return lambda z: torch.where(discrete, z.clamp(low, high), onto(z))


def over_twins(
    f: Callable[[FloatArray], Tensor], space: DesignSpace, X: Designs, members: int, *, chunk: int
) -> Float[FloatArray, "E m"]:  # fmt: skip
    """Predict X, `chunk` rows at a time, as the mean over symmetric twins, by f of designs (b, d) to (E, b)."""
    out = np.zeros((members, len(X)))
    with torch.no_grad(), without_denormals():
        for start in range(0, len(X), chunk):
            twins = space.orbit(X[start : start + chunk])
            for twin in twins:
                out[:, start : start + chunk] += f(twin).double().cpu().numpy() / len(twins)
    return out


# ---- losses


def squared_error(
    f: Float[Tensor, "E b"], y: Float[Tensor, "... b"], side: Float[Tensor, "... b"]
) -> Float[Tensor, "E b"]:  # fmt: skip
    """Squared errors; below an upper bound (side −1) and above a lower one (+1) is no error."""
    error = f - y
    return torch.where(error * side > 0, 0.0, error).square()


def listnet(f: Float[Tensor, "E m"], y: Float[Tensor, "... m"]) -> Float[Tensor, " E"]:
    """Cross-entropy of the lists' softmax, −Σ softmax(y)·log softmax(f) (Cao et al., ICML 2007)."""
    return -(y.softmax(-1) * f.log_softmax(-1)).sum(-1)


def rank_cosine(f: Float[Tensor, "E m"], y: Float[Tensor, "... m"]) -> Float[Tensor, " E"]:
    """Half of one less the cosine of scores and truth (Qin et al., IPM 2008)."""
    return (1 - F.cosine_similarity(f, y.expand_as(f), dim=-1)) / 2


RANKING: Mapping[Loss, Callable[[Tensor, Tensor], Tensor]] = {"listnet": listnet, "rank_cosine": rank_cosine}


def bootstrap(view: View, members: int, seed: int) -> Float[Tensor, "E N"]:
    """Draw how often each row counts for each member; twins share it. One member sees all data once."""
    n = len(view.data)
    if members == 1:
        return torch.ones(1, len(view.y), device=view.device)
    rng = np.random.default_rng(seed)
    counts = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(members)])
    return torch.tensor(counts, dtype=torch.float32, device=view.device).repeat(1, len(view.y) // n)


# ---- training


@dataclass(frozen=True, eq=False, kw_only=True)
class Proxy:
    """E trained networks: call it with relaxed designs for standardised values, ask `each` for designs in y."""

    view: View
    net: StackedMLP
    offset: Float[Tensor, "E 1"]
    """With `unit` what makes the output of a ranking loss a standardised y; 0 and 1 for squared error."""
    unit: Float[Tensor, "E 1"]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, z: Float[Tensor, "... b r"]) -> Float[Tensor, "E b"]:
        """Predict standardised y of z (b, r) or (E, b, r)."""
        return (self.net(z) - self.offset) / self.unit

    def each(self, X: Designs, *, chunk: int = 8_192) -> Float[FloatArray, "E m"]:
        """Predict y of designs X by every member, mean over symmetric twins."""
        view = self.view
        f = over_twins(lambda twin: self(view.tensor(twin)), view.data.space, X, len(self.offset), chunk=chunk)
        return view.location + view.scale * f


def fit(
    view: View, options: ForwardModel, *, seed: int, proposer: str, members: int = 1, counts: Float[Tensor, "E N"] | None = None,
    net: StackedMLP | None = None, steps: int | None = None, penalty: Callable[[StackedMLP, Tensor], Tensor] | None = None,
) -> Proxy:  # fmt: skip
    """Train networks on the data, all members on the same batches.

    Args:
        counts: how much each row counts for each member; 1 by default.
        net: networks to train on; new ones by default.
        penalty: adds to each member's loss (E,), of the networks and the batch (b, r).
    """
    gen, n = torch_generator(seed, proposer, "training"), len(view.y)
    if net is None:
        net = StackedMLP(members, view.Z.shape[1], options.hidden, generator=gen, slope=options.slope).to(view.device)
    net.requires_grad_(True)
    steps = options.steps(n) if steps is None else steps
    batch = min(options.batch_size, n)
    rank = RANKING.get(options.loss)
    held = torch.randperm(n, generator=gen)[: n // 10 if rank and n >= 20 else 0].to(view.device)
    rows = torch.ones(n, dtype=torch.bool, device=view.device)
    rows[held] = False
    rows = rows.nonzero()[:, 0]
    adam = Adam(net.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True)
    best, state = math.inf, None
    log.info("%s: %d steps of %d designs on %s", proposer, steps, batch, view.device)
    with without_denormals(), torch.enable_grad():
        for step in track(steps, f"{proposer}: training"):
            index = rows[torch.randint(len(rows), (batch,), generator=gen).to(view.device)]
            f = net(view.Z[index])
            if rank is None:
                error = squared_error(f, view.y[index], view.side[index])
                loss = (error if counts is None else error * counts[:, index]).mean(1)
            else:
                loss = rank(f, view.y[index])
            if penalty is not None:
                loss = loss + penalty(net, view.Z[index])
            adam.zero_grad()
            loss.sum().backward()  # type: ignore[no-untyped-call]
            adam.step()
            if rank and len(held) and (step + 1) % max(1, steps // LOOKS) == 0:
                with torch.no_grad():
                    missed = float(rank(net(view.Z[held]), view.y[held]).sum())
                if missed < best:
                    best, state = missed, {key: value.clone() for key, value in net.state_dict().items()}
    if state is not None:
        net.load_state_dict(state)
    net.requires_grad_(False)
    offset, unit = torch.zeros(len(net.weights[0]), 1, device=view.device), torch.ones(len(net.weights[0]), 1, device=view.device)
    if rank is not None:
        with torch.no_grad():
            seen = torch.cat([net(part) for part in view.Z.split(8_192)], 1)
        offset, unit = seen.mean(1, keepdim=True), seen.std(1, keepdim=True, unbiased=False).clamp_min(1e-6)
    return Proxy(view=view, net=net, offset=offset, unit=unit, notes={"steps": steps, "device": str(view.device)})


# ---- the ascent


def ascend(
    value: Callable[[Tensor], Tensor], z: Float[Tensor, "b r"], view: View, options: ForwardModel
) -> Iterator[Float[Tensor, "b r"]]:  # fmt: skip
    """Climb `value`, which maps particles (b, r) to (b,), from z; yield the particles after each step."""
    adam = options.optimiser == "adam"
    rate = view.adam_rate(options.particle_lr) if adam else (options.particle_lr or 0.05) * math.sqrt(z.shape[1])
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    for step in range(1, options.particle_steps + 1):
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(value(at).sum(), at)
        if adam:
            first, second = first.lerp(slope, 0.1), second.lerp(slope**2, 0.001)
            slope = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        z = z.detach() + rate * slope
        z = view.box(z) if options.projected else z
        yield z


def kept(steps: int) -> frozenset[int]:
    """Choose at most `KEPT` of so many steps, evenly spaced up to the last."""
    return frozenset(np.linspace(steps - 1, 0, min(KEPT, steps), dtype=int).tolist())


def visited(view: View, steps: Iterator[Float[Tensor, "b r"]], n_steps: int) -> Float[FloatArray, "t b d"]:
    """Decode what an ascent visits, of its steps those `kept`."""
    keep = kept(n_steps)
    with without_denormals():
        return view.designs(torch.stack([z for i, z in enumerate(steps) if i in keep]))


def offered(
    proxy: Proxy, steps: Iterator[Float[Tensor, "b r"]], n_steps: int, n: int, *, seed: int, proposer: str,
    notes: Mapping[str, Any] | None = None,
) -> Pool:  # fmt: skip
    """Offer n new designs that an ascent of `n_steps` steps visits, each start's best first, by the mean of the members in y.

    Raises:
        MethodError: there are fewer than n new designs.
    """
    path = visited(proxy.view, steps, n_steps)
    return _offer.paths(
        proxy.view.data, path, lambda X: proxy.each(X).mean(0), n, seed=derive(seed, proposer), proposer=proposer,
        notes=proxy.notes if notes is None else notes,
    )  # fmt: skip
