"""What a simulated campaign keeps of its bench: replicates, batch-wide limits, prices, and the end of the money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError
from labloop.proposing.terms import Terms, cheapest
from labloop.seeds import derive

ENDED = "no batch: "
"""Begins the note of a round that the bench, such as a spent budget, leaves without wells."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The rules of a campaign's bench, for batches of so many wells."""

    campaign: CampaignConfig
    wells: int

    @classmethod
    def of(cls, campaign: CampaignConfig, wells: int) -> Bench | None:
        """Give the bench of a campaign, None where it asks for nothing that a simulation could keep."""
        bound = campaign.limits or campaign.prices or campaign.budget or campaign.plate.replicates > 1
        return cls(campaign=campaign, wells=wells) if bound else None

    def told(self) -> dict[str, Any]:
        """Give what results depend on as plain values."""
        run = self.campaign
        told = run.model_dump(mode="json", include={"limits", "prices", "budget"})
        return {**told, "plate": run.plate.model_dump(mode="json", exclude={"exports", "source_wells"})}

    @property
    def replicates(self) -> int:
        return self.campaign.plate.replicates

    @property
    def designs(self) -> int:
        """Designs of a batch.

        Raises:
            ConfigError: a batch holds no whole number of them.
        """
        if self.wells % self.replicates or self.wells < self.replicates:
            raise ConfigError(
                f"a batch of {self.wells} wells holds no whole number of designs of {self.replicates} wells each "
                f"(plate.replicates): take a batch of {max(self.wells // self.replicates, 1) * self.replicates}"
            )
        return self.wells // self.replicates

    def in_designs(self, config: RoundConfig) -> RoundConfig:
        """Count the wells that arms name in designs."""
        arms = {
            name: arm if arm.wells is None else arm.model_copy(update={"wells": max(arm.wells // self.replicates, 1)})
            for name, arm in config.arms.items()
        }
        return config if self.replicates == 1 else config.model_copy(update={"arms": arms})

    def price(self, designs: pd.DataFrame) -> float | None:
        """Price the wells of designs, controls left out; None where the campaign has no prices."""
        prices = self.campaign.prices
        if prices is None:
            return None
        return float(prices.of(designs, self.campaign.space, replicates=self.replicates).sum()) if len(designs) else 0.0

    def check(self) -> None:
        """See that a first batch can keep the rules.

        Raises:
            ConfigError: it cannot.
        """
        if self.designs:
            self.terms(nothing(list(self.campaign.space.columns)), seed=0, number=1)

    def terms(self, spent: pd.DataFrame, *, seed: int, number: int) -> Terms | None:
        """Take the terms of a round, given the designs that earlier rounds chose; None where the campaign has none.

        Raises:
            ConfigError: no batch can keep them; the message says which.
        """
        run = self.campaign
        if not run.limits and run.prices is None and run.budget is None:
            return None
        budget = run.budget
        so_far = len(spent) * self.replicates
        if budget is not None and budget.wells is not None and so_far + self.wells > budget.wells:
            raise ConfigError(
                f"{so_far} of the budget's {budget.wells} wells are spent"
                if so_far
                else f"a batch of {self.wells} wells is more than the budget's {budget.wells} (budget.wells): take fewer"
            )
        money = None
        if budget is not None and budget.price is not None and run.prices is not None:
            money = budget.price - (self.price(spent) or 0.0)
            if self.designs * cheapest(run.prices, run.space, self.replicates) > money:
                least = self.designs * cheapest(run.prices, run.space, self.replicates)
                raise ConfigError(
                    f"{budget.price - money:,.6g} of the budget's {budget.price:,.6g} are spent"
                    if so_far
                    else f"a batch of {self.wells} wells costs {least:,.6g} at least, more than the budget's {budget.price:,.6g} "
                    "(budget.price): take a smaller batch"
                )
        plates = max(1, -(-self.wells // run.plate.capacity))
        before = spent.loc[spent.index.repeat(self.replicates)].reset_index(drop=True) if len(spent) else None
        terms = Terms.of(run, plates=plates, seed=derive(seed, "round", number, "layout"), before=before, money=money)
        terms.check(self.designs)
        return terms


def whole(table: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Join the wells of each design to one row: the mean of its readings, the first status; for what is told, not learned."""
    if not table["design_id"].duplicated().any():
        return table
    how: dict[str, Any] = {str(name): "mean" if name in ("value", *names) else "first" for name in table if name != "design_id"}
    return table.groupby("design_id", sort=False, as_index=False).agg(how)[list(table)]


def nothing(columns: list[str]) -> pd.DataFrame:
    """Give a table of no designs."""
    return pd.DataFrame({name: np.zeros(0, dtype=object) for name in columns})
