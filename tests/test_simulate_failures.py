"""Simulated campaigns in labs whose wells fail, or whose plates are off."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from labloop.config.campaign import CampaignConfig
from labloop.registry import plugin
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.studies.demo import measure_plate
from labloop.studies.labs.wells import Wells
from labloop.studies.simulate import simulate

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


def test_a_rehearsed_plate_lies_where_its_map_says(tmp_path: Path) -> None:
    wells = pd.DataFrame({"plate": "P1", "well": ["A01", "B02", "H12", "D06"], "dna": ["AAAA", "AAGG", "GGGG", "GGGA"]})
    wells.assign(control=np.nan).to_csv(tmp_path / "toy-R01_platemap.csv", index=False)
    wells[["plate", "well"]].assign(value="", status="", note="").to_csv(tmp_path / "toy-R01_assay.csv", index=False)
    run = SimpleNamespace(name="toy", config=CAMPAIGN)
    filled = measure_plate(run, Broken(edge_effect=10.0), tmp_path, tmp_path, number=1)  # type: ignore[arg-type]
    assert pd.read_csv(filled)["value"].tolist() == [14.0, 2.0, 10.0, 1.0]


def test_plates_that_are_left_to_chance_are_told_by_round_to_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("labloop.studies.simulate.left_to_chance", lambda picks: [f"{len(picks)} arm draws at random"])
    with caplog.at_level(logging.INFO, logger="labloop"):
        simulate(CAMPAIGN, Broken(), start=20, rounds=2, batch=5, seeds=1, arms=["random"])
    told = [one for one in caplog.records if "draws at random" in one.message]
    assert [one.message for one in told] == ["round 1: 1 arm draws at random", "round 2: 1 arm draws at random"]
    assert {one.levelno for one in told} == {logging.INFO}  # a study of many campaigns would say little else
