"""A bootstrapped ensemble of small networks, trained as one computation and calibrated on what each network has not seen.

Bagging after Breiman (Machine Learning 24, 1996): every network sees its own bootstrap sample, so that each measurement is
out of the bag of about 37 % of them. These give an honest error at no cost, which says when to stop and how wide std must be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from labloop.errors import MethodError
from labloop.proposing.dataset import Dataset
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.surrogates.features import described
from labloop.surrogates.kernel_networks import StackedKernel, fit_kernel, handicap, worth_trying
from labloop.surrogates.networks import SHORT, Features, Kind, Stacked, StackedMLP, behind, first_look, length_of, networks
from labloop.surrogates.sees import sees
from labloop.surrogates.training import Adam, pick_device, torch_generator, without_denormals
from labloop.types import Array, Designs, FloatArray, Values

if TYPE_CHECKING:
    from jaxtyping import Float, Int

CHECK_EVERY = 50
"""Steps between two looks at the out-of-bag correlation."""
PATIENCE = 500
"""Steps without a correlation higher by `GAIN` that end the training."""
GAIN = 0.002
CHECK_ROWS = 2_000
"""Rows that a look, and the calibration, is taken over at most."""
ACTIVATIONS = 2**23
"""Numbers in a hidden layer that are held at once while predicting; this bounds memory."""
FEWEST_FOR_CALIBRATION = 12

PositiveInt = Annotated[int, Field(ge=1)]


@plugin
class Ensemble:
    """Bootstrapped multilayer perceptrons with calibrated uncertainty; symmetric twins have equal predictions.

    Training stops by a rule that needs nothing but the measurements: at the last look at which the out-of-bag correlation of
    prediction and y is within one standard error of the best look. The longest training of those the data cannot tell apart
    is taken because a shorter one shrinks predictions towards the mean, and designs beyond the data are ranked by what is left.

    On sequences of more than 16 letters, of which a thousand are measured, `network: auto` trains convolutional networks as well
    and keeps the kind of higher out-of-bag correlation. So does `features: auto` between networks on letters and members that
    know words; networks that are far behind after a quarter of their steps end there.
    """

    members: Annotated[int, Field(ge=2)] = 20
    """Networks, each trained from another start; their mean and spread are used."""
    hidden: tuple[PositiveInt, ...] = (128,)
    """Widths of the hidden layers."""
    steps: PositiveInt = 3_000
    """Steps at most."""
    batch_size: PositiveInt = 128
    """Designs a training step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of the optimiser."""
    network: Kind = "auto"
    """Which kind of network; auto takes the one for the space."""
    features: Features = "auto"
    """What members see: letters, or words too, fitted in closed form (`kernel_networks`); auto: what predicts better."""

    def fit(self, data: Dataset, *, seed: int) -> EnsemblePosterior:
        """Train on all measurements; a censored one pulls only at predictions on its wrong side.

        Raises:
            MethodError: nothing is measured yet, or the designs are nothing that convolutions could run along.
        """
        if not len(data):
            raise MethodError("the ensemble needs measured designs: ingest some, or start with the proposer `random`")
        if self.network == "convolutional" and length_of(data.space) == 1:
            raise MethodError(
                f"convolutional networks need designs of one sequence of more than {SHORT} letters: set the ensemble's `network` "
                "to dense or auto"
            )
        device = pick_device()
        bags = _bags(len(data), self.members, generator(seed, "ensemble", "bags"))
        with without_denormals(), torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
            return _train(self, data, bags, seed, device)


@dataclass(frozen=True, eq=False, kw_only=True)
class EnsemblePosterior:
    """The fitted ensemble. Call it for mean and std of y; `each` gives every member's prediction."""

    space: DesignSpace
    net: Stacked
    location: float
    """Mean of the y trained on."""
    scale: float
    """Standard deviation of the y trained on."""
    spread: float
    """Factor from the members' variance to predictive variance."""
    floor: float
    """Predictive variance where all members agree, in y²."""
    steps: int
    """Steps trained."""
    out_of_bag_correlation: float
    """Of prediction and y; NaN where there are too few measurements to tell."""
    noise_std: float
    """Standard deviation of one well's reading about its design's value, in y: what replicates tell, at most what `floor` is."""
    out_of_bag: tuple[Values, Values]
    """For each design trained on: mean and std that members which had not seen it predict of its reading, in y; NaN
    where fewer than two had not."""

    sees: frozenset[str] = frozenset()
    """What members see of options and sequences besides their names, see `labloop.surrogates.sees`."""

    def left_out(self) -> tuple[Values, Values]:
        """Tell what members that had not seen a measurement believe of its design: mean and std of y, NaN as above."""
        mean, std = self.out_of_bag
        return mean, np.sqrt(np.maximum(std**2 - self.noise_std**2, 0.0))

    def __call__(self, X: Designs) -> tuple[Values, Values]:
        """Predict mean (m,) and std (m,) of a measurement of each design X (m, d), in y, larger is better."""
        each = self.each(X)
        return each.mean(0), np.sqrt(self.spread * each.var(0, ddof=1) + self.floor)

    def belief(self, X: Designs) -> tuple[Values, Values]:
        """Tell what each design X (m, d) is worth without the noise of a reading: mean (m,) and std (m,) in y."""
        mean, std = self(X)
        return mean, np.sqrt(np.maximum(std**2 - self.noise_std**2, 0.0))

    def each(self, X: Designs) -> Float[FloatArray, "E m"]:
        """Predict every member's y."""
        device = self.net.weights[0].device
        orbit = np.asarray(self.space.orbit(np.asarray(X, dtype=float)))
        width = max(weight.shape[-1] for weight in self.net.weights)
        rows = max(1, ACTIVATIONS // (len(orbit) * len(self.net.weights[0]) * width))
        parts = []
        with torch.no_grad(), without_denormals():
            for start in range(0, orbit.shape[1], rows):
                inputs = torch.as_tensor(_seen(self.net, self.space, orbit[:, start : start + rows], self.sees), device=device)
                parts.append(_invariant(self.net, inputs).double().cpu().numpy())
        stacked = np.concatenate(parts, axis=1) if parts else np.zeros((len(self.net.weights[0]), 0))
        return self.location + self.scale * stacked


def _train(options: Ensemble, data: Dataset, bags: Array, seed: int, device: torch.device) -> EnsemblePosterior:
    rng = generator(seed, "ensemble", "batches")
    location, scale = float(data.y.mean()), float(data.y.std()) or 1.0
    told = sees(data)
    rows = _Rows(
        torch.as_tensor(_inputs(data.space, data.space.orbit(data.X), told), device=device),
        torch.as_tensor((data.y - location) / scale, dtype=torch.float32, device=device),
        torch.tensor(data.censored, device=device), torch.as_tensor(bags, dtype=torch.float32, device=device),
    )  # fmt: skip
    # Rows that can tell the error: an exact reading, out of the bag of at least two members, which have a mean and a spread.
    honest = np.flatnonzero((data.censored == 0) & ((bags == 0).sum(0) >= 2))
    honest = np.sort(rng.permutation(honest)[:CHECK_ROWS])
    fits: list[tuple[Stacked, _Watch]] = []
    if options.features != "letters" and options.network == "auto" and worth_trying(data):
        fits.append(_fit_words(data, rows, bags, honest, seed))
    if options.features != "words" or not fits:
        weights = torch_generator(seed, "ensemble", "net")
        for drawn in networks(
            data, options.members, options.hidden, generator=weights, kind=options.network, columns=rows.inputs.shape[-1]
        ):
            best = max((watch.correlation for _, watch in fits), default=np.nan)
            fits.append((drawn, _fit(drawn.to(device), options, rows, bags, data.y, honest, rng, best)))
    net, watch = max(fits, key=lambda fit: _evidence(fit[0], fit[1], len(honest)))
    if isinstance(net, StackedKernel):
        rows = replace(rows, inputs=torch.as_tensor(_seen(net, data.space, data.space.orbit(data.X), told), device=device))
    spread, floor = _calibrated(net, rows.inputs, bags, honest, data, location, scale)
    mean, std = np.full(len(data), np.nan), np.full(len(data), np.nan)
    unseen = np.flatnonzero((bags == 0).sum(0) >= 2)
    if len(unseen):
        guess, variance = _out_of_bag(net, rows.inputs, bags, unseen)
        mean[unseen], std[unseen] = location + scale * guess, np.sqrt(spread * scale**2 * variance + floor)
    return EnsemblePosterior(
        space=data.space, net=net.requires_grad_(False), location=location, scale=scale, spread=spread, floor=floor,
        steps=0 if isinstance(net, StackedKernel) else watch.step or options.steps, out_of_bag_correlation=watch.correlation,
        noise_std=_noise(data, floor), out_of_bag=(mean, std), sees=told,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Rows:
    """What the members are fitted to."""

    inputs: Float[Tensor, "g n d"]
    """Designs as the networks see them, all twins."""
    target: Float[Tensor, " n"]
    """Standardised y."""
    side: Int[Tensor, " n"]
    """-1 and 1 where it is a bound."""
    bags: Float[Tensor, "E n"]
    """How often each member sees each row."""


def _fit(
    net: StackedMLP, options: Ensemble, rows: _Rows, bags: Int[Array, "E n"], y: Float[FloatArray, " n"],
    honest: Int[Array, " h"], rng: np.random.Generator, best: float,
) -> _Watch:  # fmt: skip
    """Train a net in place, to the moment its watch chooses; one far behind the `best` correlation so far ends early."""
    n, device = len(y), rows.target.device
    optimiser = Adam(net.parameters(), lr=options.learning_rate, fused=True)
    watch = _Watch(enough=len(honest) >= FEWEST_FOR_CALIBRATION)
    batch = min(options.batch_size, n)
    for step in track(options.steps, "train ensemble"):
        some = torch.as_tensor(rng.permutation(n)[:batch] if n <= 4 * batch else rng.integers(n, size=batch), device=device)
        error = _invariant(net, rows.inputs[:, some]) - rows.target[some]
        error = torch.where(rows.side[some] * error > 0, torch.zeros_like(error), error)  # the truth may be further that way
        optimiser.zero_grad(set_to_none=True)
        (rows.bags[:, some] * error**2).mean(1).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (step + 1) % CHECK_EVERY == 0 and watch.enough:
            mean, _ = _out_of_bag(net, rows.inputs, bags, honest)
            if watch.ends(step + 1, mean, y[honest], net):
                break
            if step + 1 >= first_look(options.steps, n, batch) and behind(watch.best, best, len(honest)):
                break
    watch.restore(net)
    return watch


def _fit_words(
    data: Dataset, rows: _Rows, bags: Int[Array, "E n"], honest: Int[Array, " h"], seed: int
) -> tuple[StackedKernel, _Watch]:  # fmt: skip
    """Fit members that know words, and tell their out-of-bag correlation."""
    x = torch.tensor(data.space.orbit(data.X), dtype=torch.float32, device=rows.target.device)
    net = fit_kernel(data, x, rows.target, rows.bags, unit=(1.0, 0.0), seed=seed)
    watch = _Watch(enough=len(honest) >= FEWEST_FOR_CALIBRATION)
    if watch.enough:
        mean, _ = _out_of_bag(net, x, bags, honest)
        watch.correlation = _correlation(mean, data.y[honest])
    return net, watch


def _evidence(net: Stacked, watch: _Watch, n: int) -> float:
    """Out-of-bag correlation over n rows, less the lead that members which know words have to have."""
    if not np.isfinite(watch.correlation):
        return -np.inf
    return watch.correlation - (handicap(watch.correlation, n) if isinstance(net, StackedKernel) else 0.0)


def _correlation(mean: Values, y: Values) -> float:
    return 0.0 if mean.std() == 0 or y.std() == 0 else float(np.corrcoef(mean, y)[0, 1])


class _Watch:
    """Remembers the network of the last look whose out-of-bag correlation is within a standard error of the best one's."""

    def __init__(self, *, enough: bool) -> None:
        self.enough = enough
        self.best, self.step, self.correlation = -np.inf, 0, np.nan
        self.mark, self.mark_step = -np.inf, 0
        self._kept: dict[str, Tensor] = {}

    def ends(self, step: int, mean: Values, y: Values, net: StackedMLP) -> bool:
        """Take a look and say whether training should end."""
        found = _correlation(mean, y)
        if found > self.mark + GAIN:
            self.mark, self.mark_step = found, step
        self.best = max(self.best, found)
        good = found >= self.best - (1 - self.best**2) / np.sqrt(len(y) - 1)
        if good:
            self.step, self.correlation = step, found
            self._kept = {name: value.detach().clone() for name, value in net.state_dict().items()}
        return not good or step - self.mark_step >= PATIENCE

    def restore(self, net: StackedMLP) -> None:
        if self._kept:
            net.load_state_dict(self._kept)


def _bags(n: int, members: int, rng: np.random.Generator) -> Int[Array, "E n"]:
    """Draw how often each member sees each of n measurements: bootstrap samples as weights, without copies."""
    return rng.multinomial(n, np.full(n, 1 / n), size=members)


def _inputs(space: DesignSpace, X: Float[FloatArray, "*b d"], told: frozenset[str]) -> Float[Array, "*b c"]:
    """Centre and scale numbers and fractions to unit variance over their range; one-hot blocks stay, and what descriptors say of
    them follows; float32."""
    shift, factor = np.zeros(space.d), np.ones(space.d)
    for block in space.blocks:
        part, k = slice(block.start, block.stop), block.classes
        if block.kind == "unit":
            shift[part], factor[part] = 0.5, np.sqrt(12)
        elif block.kind == "simplex":
            shift[part], factor[part] = 1 / k, k * np.sqrt((k + 1) / (k - 1))  # of the flat Dirichlet distribution
    more = described(space, X, told) if length_of(space) == 1 else X[..., :0]  # convolutions run along letters alone
    return np.concatenate([(X - shift) * factor, more], axis=-1).astype(np.float32)


def _seen(net: Stacked, space: DesignSpace, X: Float[FloatArray, "*b d"], told: frozenset[str]) -> Float[Array, "*b c"]:
    """Designs as this kind of net sees them."""
    return X.astype(np.float32) if isinstance(net, StackedKernel) else _inputs(space, X, told)


def _invariant(net: Stacked, inputs: Float[Tensor, "g b d"]) -> Float[Tensor, "E b"]:
    """Average over symmetric twins: predictions that are equal for all twins of a design."""
    twins, rows, d = inputs.shape
    return net(inputs.reshape(-1, d)).reshape(-1, twins, rows).mean(1)


def _out_of_bag(
    net: Stacked, inputs: Float[Tensor, "g n d"], bags: Int[Array, "E n"], rows: Int[Array, " h"]
) -> tuple[Float[FloatArray, " h"], Float[FloatArray, " h"]]:  # fmt: skip
    """Mean and variance of the predictions by members that did not see a row, standardised y."""
    with torch.no_grad():
        each = _invariant(net, inputs[:, rows]).double().cpu().numpy()
    unseen = bags[:, rows] == 0
    count = unseen.sum(0)
    mean = np.where(unseen, each, 0).sum(0) / count
    return mean, np.where(unseen, (each - mean) ** 2, 0).sum(0) / (count - 1)


def _noise(data: Dataset, floor: float) -> float:
    """Standard deviation of one well about its design's value: what replicates tell, at most the root of `floor`."""
    one = data.sem**2 * data.n_replicates
    told = one[np.isfinite(one)]
    return float(np.sqrt(min(floor, float(told.mean())) if len(told) else floor))


def _calibrated(
    net: Stacked, inputs: Float[Tensor, "g n d"], bags: Int[Array, "E n"], rows: Int[Array, " h"], data: Dataset,
    location: float, scale: float,
) -> tuple[float, float]:  # fmt: skip
    """Fit predictive variance = spread · member variance + floor to out-of-bag residuals: (spread, floor).

    The floor's share is the likeliest of a grid under a normal; the level then makes the mean squared z-score one. The share is
    a half at most: rows resemble the training data, where disagreement hardly varies, but beyond them it has to count. The few
    unseen members of a row predict with more variance than all members together will, so the result errs on the wide side.
    """
    if len(rows) < FEWEST_FOR_CALIBRATION:
        return 1.0, scale**2  # nothing can be told: as uncertain as the values are spread
    mean, variance = _out_of_bag(net, inputs, bags, rows)
    residual = data.y[rows] - (location + scale * mean)
    typical = float(variance.mean()) or 1.0
    best = (np.inf, 1.0, 1.0)
    for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
        shape = (1 - share) * variance / typical + share
        level = float((residual**2 / shape).mean())
        best = min(best, (float(np.log(shape).mean() + np.log(max(level, 1e-300))), share, level))
    _, share, level = best
    return (1 - share) * level / (typical * scale**2), max(share * level, 1e-8 * scale**2)
