"""Arrays of the rooms that pass them on have the shapes that their signatures say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def seen():
    script = Path(__file__).with_name("shaped.py")
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert not found.returncode, found.stderr[-2000:]
    return json.loads(found.stdout)


@pytest.mark.parametrize(
    "name",
    [
        "space.design_space.DesignSpace.distance", "proposing.dataset.Dataset", "proposing.pool.Picks",
        "proposing.panel.View.gains", "proposing.belief.Judgement.correlation", "surrogates.auto.Stacked.belief",
        "surrogates.gp.FittedGP.belief", "proposing.search.search",
    ],
)  # fmt: skip
def test_what_a_round_calls_keeps_the_shapes_of_its_signature(seen, name):
    assert seen["calls"][f"labloop.{name}"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("one design, no row", "DesignSpace.distance: A is to be Float[ndarray, 'm d'], and is float64(2,)"),
        ("other columns", "DesignSpace.distance: B is to be Float[ndarray, 'k d'], and is float64(3, 1)"),
        ("integers", "DesignSpace.ids: X is to be Float[ndarray, 'm d'], and is int64(3, 2)"),
        ("a field of another length", "Dataset: y is to be Float[ndarray, 'm'], and is float64(2,)"),
        ("an answer of another shape", "Judgement.belief: what it returns is to be Float[ndarray, 'm'], and is float64(3, 2)"),
    ],
)
def test_a_wrong_shape_is_told(seen, wrong, said):
    assert said in seen["wrong"][wrong]
