"""Simulated campaigns in labs whose wells fail."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from labloop.config import CampaignConfig
from labloop.labs.wells import Wells
from labloop.parameters import Sequence
from labloop.registry import plugin
from labloop.simulate import simulate
from labloop.space import DesignSpace

SPACE = DesignSpace(parameters=(Sequence(name="dna", length=4),))
CAMPAIGN = CampaignConfig(name="toy", space=SPACE)
ASKED: list[str] = []


@plugin
class Broken(Wells):
    """Counts A; what begins with C cannot be made."""

    @property
    def space(self) -> DesignSpace:
        return SPACE

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        ASKED.extend(designs["dna"])
        values = designs["dna"].map(lambda word: np.nan if word.startswith("C") else float(word.count("A")))
        return self.reported(values.to_numpy(float), designs, seed=seed)


def test_a_design_that_failed_by_itself_is_not_offered_again() -> None:
    ASKED.clear()
    simulate(CAMPAIGN, Broken(), start=20, rounds=3, batch=30, seeds=1, arms=["random"])
    plates = ASKED[-90:]
    assert any(word.startswith("C") for word in plates)
    assert max(Counter(plates).values()) == 1


def test_wells_of_the_start_data_may_fail() -> None:
    rows = simulate(CAMPAIGN, Broken(failures=0.3), start=40, rounds=2, batch=10, seeds=1, arms=["random", "mutate"])
    assert np.isfinite(rows["batch_mean"]).all()
