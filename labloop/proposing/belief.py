"""What a judge believes of designs, told apart from what one reading of them would show, and corrected by what came back.

A posterior predicts a reading: the design's own value and the noise of a well. A choice among designs goes by the value alone:
noise is the same everywhere, and a bound taken on readings hardly tells a design that is known from one that is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labloop.proposing.contracts import asking, posterior_of, prediction_of
from labloop.proposing.dataset import Dataset
from labloop.proposing.protocols import Belief, Posterior, Surrogate
from labloop.types import Array, Designs, FloatArray, Others, Values

LEAST = 16
"""Readings of earlier picks without which nothing is corrected."""
PRIOR = 16
"""Imaginary readings that agree with the judge, which every correction is shrunk by."""
LASTING = 0.35
"""Part of a shift that is taken to last beyond the next fit before two plates have told: on TF Bind 8 a judge that had been
5.8 std too low was 1.6 too low once it had learnt from the plate that said so."""
FADE = 0.5
"""What a plate counts for against the next one: a judge learns from each, so the latest tells most of the next."""
ALIKE = 0.5
"""Variance, in that of a reading, of the error that a plate's wells share; counts as half a plate. Wells chosen together err
together: in ten campaigns in five simulated labs most plates were off by more than their own wells differed."""
FARTHEST = 5.0
"""Standard deviations that one reading is off at most: one odd well must not move every interval."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Plain:
    """A posterior that knows readings only, such as a plain function: what it says of a reading is its belief."""

    posterior: Posterior
    noise_std: float = 0.0

    def __call__(self, X: Designs) -> tuple[Values, Values]:
        return self.posterior(X)

    def belief(self, X: Designs) -> tuple[Values, Values]:
        return self.posterior(X)


def fitted(surrogate: Surrogate, data: Dataset, *, seed: int, name: str = "") -> Belief:
    """Fit a surrogate, which is told by its name.

    Raises:
        MethodError: it gives no posterior, or writes into the data.
    """
    name = name or type(surrogate).__name__
    with asking(f"surrogate {name}", "surrogates"):
        return believing(posterior_of(name, surrogate.fit(data, seed=seed)))


def believing(posterior: Posterior) -> Belief:
    """Give a posterior that tells beliefs from readings; one that does not is taken at its word."""
    return posterior if isinstance(posterior, Belief) else Plain(posterior=posterior)


@dataclass(frozen=True, eq=False, kw_only=True)
class Past:
    """Earlier picks that have come back, with what the judge of their round predicted before any correction. All (k,), in y."""

    mean: Values
    std: Values
    """Of one reading."""
    y: Values
    distance: Values
    """To the nearest design measured then; NaN where it is not known."""
    round: Array
    noise_std: Values
    """How much of std was a reading's noise; NaN where it is not known."""
    proposer: Array
    """Whose candidates they were; empty where it is not known."""

    @classmethod
    def of(
        cls, mean: Array, std: Array, y: Array, distance: Array | None = None, round: Array | None = None,
        noise_std: Array | None = None, proposer: Array | None = None,
    ) -> Past:  # fmt: skip
        """Take the columns of a table; what is left out is not known, and without rounds all count alike."""
        n = len(y)
        return cls(
            mean=np.asarray(mean, dtype=float), std=np.asarray(std, dtype=float), y=np.asarray(y, dtype=float),
            distance=np.full(n, np.nan) if distance is None else np.asarray(distance, dtype=float),
            round=np.ones(n, dtype=np.int64) if round is None else np.asarray(round, dtype=np.int64),
            noise_std=np.full(n, np.nan) if noise_std is None else np.asarray(noise_std, dtype=float),
            proposer=np.full(n, "", dtype=object) if proposer is None else np.asarray(proposer, dtype=object),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, kw_only=True)
class Correction:
    """How far a judge was off where designs were chosen: location and scale, in standard deviations of a reading.

    A corrected reading has mean + shift · std, and √(stretch² + common²) · std. Shift and stretch may differ by the distance from
    what was measured: they are given at some distances, straight lines between them, the last value beyond.
    """

    distance: tuple[float, ...] = (0.0,)
    shift: tuple[float, ...] = (0.0,)
    """Above zero: the judge was too low."""
    stretch: tuple[float, ...] = (1.0,)
    """Above one: the judge was too sure."""
    common: float = 0.0
    """What the wells of a plate may all be off by beyond the shift: it widens an interval, and tells no design from another."""
    doubt: float = 0.0
    """What doubt was worth: how much better than the judge said a design was for each std of belief about it. Above zero,
    optimism paid."""
    proposers: Mapping[str, float] = field(default_factory=dict)
    """How much better than the judge said each proposer's candidates were beyond the shift, in std of a reading."""
    readings: int = 0
    """Readings that it was learnt from."""

    @classmethod
    def learnt(cls, past: Past | None) -> Correction:
        """Learn from earlier picks: signed mean and root mean square of (y - mean) / std, shrunk towards no correction.

        A plate counts half of the one after it. Where picks lay at different distances from the data, the nearer and the farther
        half have corrections of their own, shrunk towards the common one.
        """
        if past is None:
            return cls()
        known = np.isfinite(past.mean) & np.isfinite(past.y) & (past.std > 0)
        if known.sum() < LEAST:
            return cls()
        z = np.clip((past.y[known] - past.mean[known]) / past.std[known], -FARTHEST, FARTHEST)
        when, far = past.round[known], past.distance[known]
        weight = FADE ** (when.max() - when).astype(float)
        shift, stretch = _location_and_scale(z, weight, 0.0, 1.0)
        lasts = _share_that_lasts(z, when)
        whole: dict[str, Any] = {
            "common": _common(z, when, lasts),
            "doubt": _doubt(z - shift, past.std[known], past.noise_std[known], weight),
            "proposers": _by_proposer(z - shift, past.proposer[known], weight),
            "readings": int(known.sum()),
        }
        cut = float(np.nanmedian(far)) if np.isfinite(far).all() else np.nan
        halves = [far <= cut, far > cut]
        if min(half.sum() for half in halves) < LEAST:
            shift, stretch = _lasting(shift, stretch, lasts)
            return cls(shift=(shift,), stretch=(stretch,), **whole)
        parts = [_lasting(*_location_and_scale(z[half], weight[half], shift, stretch), lasts) for half in halves]
        return cls(
            distance=tuple(float(np.average(far[half], weights=weight[half])) for half in halves),
            shift=tuple(part[0] for part in parts), stretch=tuple(part[1] for part in parts), **whole,
        )  # fmt: skip

    @classmethod
    def noted(cls, notes: Mapping[str, Any]) -> Correction:
        """Take what `notes` gave."""
        lists = {name: tuple(map(float, notes[name])) for name in ("distance", "shift", "stretch")}
        return cls(
            **lists, common=float(notes.get("common", 0.0)),  # rounds of version 0.1.0 have none
            doubt=float(notes["doubt"]), proposers=dict(notes["proposers"]), readings=int(notes["readings"]),
        )  # fmt: skip

    def undone(self, mean: Values, std: Values, distance: Values) -> tuple[Values, Values]:
        """Give mean (k,) and std (k,) of readings as they were before this correction."""
        shift, wide = self.reading(np.where(np.isfinite(distance), distance, self.distance[-1]))
        return mean - shift * std / wide, std / wide

    @property
    def none(self) -> bool:
        return set(self.shift) == {0.0} and set(self.stretch) == {1.0} and not self.common

    def at(self, distance: Values) -> tuple[Values, Values]:
        """Give shift (m,) and stretch (m,) at distances (m,) from the nearest measured design."""
        return (
            np.interp(distance, self.distance, self.shift),
            np.interp(distance, self.distance, self.stretch),
        )

    def reading(self, distance: Values) -> tuple[Values, Values]:
        """Give shift (m,) and what widens a reading's std (m,) at distances (m,)."""
        shift, stretch = self.at(distance)
        return shift, np.hypot(stretch, self.common)

    def notes(self) -> dict[str, Any]:
        """Tell of it in plain numbers."""
        return {
            "distance": list(self.distance), "shift": list(self.shift), "stretch": list(self.stretch), "common": self.common,
            "doubt": self.doubt, "proposers": dict(self.proposers), "readings": self.readings,
        }  # fmt: skip


def _location_and_scale(z: FloatArray, weight: FloatArray, location: float, scale: float) -> tuple[float, float]:
    """Mean and root mean square deviation of z (k,), as if `PRIOR` more readings had this location and scale."""
    total = weight.sum() + PRIOR
    mean = float((weight @ z + PRIOR * location) / total)
    square = float((weight @ (z - mean) ** 2 + PRIOR * scale**2) / total)
    return mean, float(np.sqrt(square))


def _share_that_lasts(z: FloatArray, when: Array) -> float:
    """Tell what part of its error a judge keeps after learning from the plate that showed it: plates against the ones before.

    Shrunk towards `LASTING`, which counts as half a pair of plates like those seen; within 0 and 1.
    """
    means = np.array([z[when == number].mean() for number in np.unique(when)])
    before, after = means[:-1], means[1:]
    typical = 0.5 * float(np.mean(means**2))
    if typical == 0:
        return LASTING
    return float(np.clip((before @ after + LASTING * typical) / (before @ before + typical), 0.0, 1.0))


def _common(z: FloatArray, when: Array, share: float) -> float:
    """Give the std of what a plate's wells are off by together once the share of the last plate's error that stays is taken off.

    The variance `ALIKE` counts as half a plate, and each plate half of the one after it.
    """
    means = np.array([z[when == number].mean() for number in np.unique(when)])
    left = np.concatenate([LASTING * means[:1], means[1:] - share * means[:-1]])
    weight = FADE ** np.arange(len(left) - 1, -1, -1.0)
    return float(np.sqrt((0.5 * ALIKE + weight @ left**2) / (0.5 + weight.sum())))


def _lasting(shift: float, stretch: float, share: float) -> tuple[float, float]:
    """Keep the part of a shift that the next fit leaves, and widen by half of it, as that part is a guess.

    The judge learns from the very plates that showed where it was off, so some of that is mended by its next fit.
    """
    kept = share * shift
    return kept, float(np.hypot(stretch, 0.5 * kept))


def _doubt(z: FloatArray, std: FloatArray, noise_std: FloatArray, weight: FloatArray) -> float:
    """Slope of what is left of z (k,) on the belief's share of std, shrunk towards 0 as if `PRIOR` average readings had none."""
    share = np.sqrt(np.clip(1 - (noise_std / std) ** 2, 0, 1))
    if not np.isfinite(share).all():
        return 0.0
    centred = share - np.average(share, weights=weight)
    typical = float(np.average(share**2, weights=weight))
    return float(weight @ (centred * z)) / (float(weight @ centred**2) + PRIOR * typical) if typical > 0 else 0.0


def _by_proposer(z: FloatArray, proposer: Array, weight: FloatArray) -> dict[str, float]:
    """Mean of what is left of z (k,) by proposer, shrunk towards 0."""
    found = {}
    for name in sorted(set(proposer.tolist()) - {""}):
        mine = proposer == name
        found[str(name)] = float((weight[mine] @ z[mine]) / (weight[mine].sum() + PRIOR))
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Judgement:
    """The judge of a round: a fitted surrogate with its correction. What it predicted before that is `raw`."""

    posterior: Belief
    data: Dataset
    correction: Correction = field(default_factory=Correction)
    past: Past | None = None
    """What the correction was learnt from."""
    progress: tuple[int, int] = (1, 1)
    """The round's number and the last planned one's."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What the surrogate tells of itself."""

    @property
    def noise_std(self) -> float:
        return float(self.posterior.noise_std)

    @property
    def skill(self) -> float:
        """The judge's correlation with measurements that it has not seen; 0 if it does not tell."""
        return float(getattr(self.posterior, "skill", 0.0))

    @property
    def beyond_chance(self) -> float:
        """The judge's correlation with measurements that it has not seen, in standard errors of none; ∞ if it does not tell."""
        return float(getattr(self.posterior, "beyond_chance", np.inf))

    def raw(self, X: Designs) -> tuple[Values, Values]:
        """Predict a reading of each design X (m, d) without the correction: mean (m,) and std (m,).

        Raises:
            MethodError: the surrogate cannot.
        """
        return prediction_of(self._name, self.posterior(X), len(X))

    @property
    def _name(self) -> str:
        return str(self.notes.get("judge", type(self.posterior).__name__))

    def __call__(self, X: Designs) -> tuple[Values, Values]:
        """Predict a reading of each design X (m, d): mean (m,) and std (m,) of y."""
        mean, std = self.raw(X)
        shift, wide = self.correction.reading(self._far(X))
        return mean + shift * std, wide * std

    def belief(self, X: Designs) -> tuple[Values, Values]:
        """Tell what each design X (m, d) is worth without noise: mean (m,) and std (m,) of y."""
        mean, std, _ = self._believed(X)
        return mean, std

    def optimistic(self, X: Designs) -> tuple[Values, Values]:
        """Tell the belief as an optimist may take it, no wider than before correction: errors are no reason to hope for more."""
        mean, std, stretch = self._believed(X)
        return mean, std / np.maximum(stretch, 1.0)

    def _believed(self, X: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give the corrected belief, mean (m,) and std (m,), and how far that was stretched (m,)."""
        mean, std = prediction_of(self._name, self.posterior.belief(X), len(X))
        if self.correction.none:
            return mean, std, np.ones(len(X))
        shift, stretch = self.correction.at(self._far(X))
        return mean + shift * np.hypot(std, self.noise_std), stretch * std, stretch

    def correlation(self, X: Designs, others: Others | None = None) -> FloatArray | None:
        """Tell how far designs X (m, d) are believed to be good or bad together, (m, m), or with others (k, d), (m, k).

        None where the surrogate cannot say.
        """
        known = getattr(self.posterior, "correlation", None)
        found: FloatArray | None = None if known is None else known(X) if others is None else known(X, others)
        return found

    def _far(self, X: Designs) -> Values:
        """Give distances (m,) to the nearest measured design, zero where the correction is the same everywhere."""
        if len(self.correction.distance) == 1 or not len(self.data):
            return np.zeros(len(X))
        return self.data.space.nearest(X, self.data.X, chunk=max(1, 8_000_000 // len(self.data)))[1]
