"""Selection by what a design may gain for its price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from labloop.config.ramp import ramped
from labloop.errors import ConfigError
from labloop.proposing.belief import believing
from labloop.proposing.dataset import Dataset
from labloop.proposing.gain import LEAST, log_ei, spread_of
from labloop.proposing.pool import Picks, Pool
from labloop.proposing.protocols import Posterior, Selector
from labloop.proposing.selectors import AsProposed
from labloop.proposing.terms import Terms
from labloop.registry import Options, create, plugin
from labloop.types import FloatArray

Price = Callable[[FloatArray], FloatArray]
"""Prices designs X (m, d), (m,)."""


def selector_of(name: str, options: Options, terms: Terms | None, *, number: int, rounds: int) -> Selector:
    """Make a selector as it is in a round; one that goes by prices is told the campaign's where it has any.

    Args:
        options: as the arm has them, schedules over the rounds included.
    """
    made: Selector = create("selectors", name, ramped(options, round_number=number, rounds=rounds))
    if terms is not None and terms.prices is not None and hasattr(made, "priced"):
        made = made.priced(terms.price)
    return made


@plugin
class GainPerPrice:
    """The most expected improvement over the best measured design for the money: expected gain divided by the design's price.

    The gain is the judge's, of what a design is worth (without the noise of a reading). Needs the campaign's `prices`.
    """

    by_judge: ClassVar[bool] = True

    power: Annotated[float, Field(ge=0, le=4)] = 1.0
    """Price to this power: 0 asks for gain alone, 1 for gain per price."""

    def priced(self, price: Price) -> Selector:
        """Give the selector that knows what designs cost."""
        return _Priced(power=self.power, price=price)

    def select(self, pool: Pool, posterior: Posterior, data: Dataset, n: int, *, seed: int) -> Picks:
        """Refuse: nobody told a price.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("gain_per_price needs the campaign's prices: add prices: {design: …, parameters: {…}} to its file")


@dataclass(frozen=True, kw_only=True)
class _Priced:
    power: float
    price: Price

    def select(self, pool: Pool, posterior: Posterior, data: Dataset, n: int, *, seed: int) -> Picks:
        """Choose n, the most gain for the price first; the bound given is the conservative selector's for beta 1.

        Raises:
            MethodError: fewer than n are left.
        """
        mean, std = believing(posterior).belief(pool.X)
        best = float(data.y[data.best]) if len(data) else float(np.min(mean, initial=0.0))
        gain = np.exp(log_ei(mean, np.maximum(std, LEAST * spread_of(data)), best))
        worth = gain / np.maximum(self.price(pool.X), 1e-12) ** self.power if len(pool) else gain
        order = np.lexsort((-mean, -worth))
        picks = AsProposed().select(pool.take(order), posterior, data, n, seed=seed)
        notes = {**picks.pool.notes, "selection": {"beta": 1.0, "power": self.power}}
        return replace(picks, pool=replace(picks.pool, notes=notes))
