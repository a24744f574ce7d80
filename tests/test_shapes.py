"""Arrays of the rooms that pass them on, and tensors of those that compute with them, have the shapes that signatures say."""

from __future__ import annotations

import json

import pytest
from crash_driver import in_child


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a fork saw: it alone is held, and what is imported here it need not import."""
    told = tmp_path_factory.mktemp("shapes") / "seen.json"

    def look():
        from shaped import seen

        told.write_text(json.dumps(seen()))

    assert in_child(look)[0]
    return json.loads(told.read_text())


@pytest.mark.parametrize(
    "name",
    [
        "space.design_space.DesignSpace.distance", "proposing.dataset.Dataset", "proposing.pool.Picks",
        "proposing.panel.View.gains", "proposing.belief.Judgement.correlation", "surrogates.auto.Stacked.belief",
        "surrogates.gp.FittedGP.belief", "proposing.search.search", "surrogates.ensemble._out_of_bag", "methods._ascent.ascend",
        "methods.coms.Model", "methods.gtg.sample", "methods.braid.sample",
    ],
)  # fmt: skip
def test_what_a_round_calls_keeps_the_shapes_of_its_signature(seen, name):
    assert seen["calls"][f"labloop.{name}"]


@pytest.mark.parametrize("room", ["surrogates", "methods"])
def test_every_function_that_speaks_of_a_tensors_shape_is_held_to_it(seen, room):
    mine = {name: n for name, n in seen["calls"].items() if name.startswith(f"labloop.{room}.")}
    assert mine
    assert not [name for name, n in mine.items() if not n]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("one design, no row", "DesignSpace.distance: A is to be Float[ndarray, 'm d'], and is float64(2,)"),
        ("other columns", "DesignSpace.distance: B is to be Float[ndarray, 'k d'], and is float64(3, 1)"),
        ("integers", "DesignSpace.ids: X is to be Float[ndarray, 'm d'], and is int64(3, 2)"),
        ("a field of another length", "Dataset: y is to be Float[ndarray, 'm'], and is float64(2,)"),
        ("an answer of another shape", "Plain.belief: what it returns is to be Float[ndarray, 'm'], and is float64(3, 2)"),
        ("a step for another number of columns", "ascend: rate is to be Float[Tensor, 'r'], and is torch.float32(2,)"),
        (
            "particles that change on their way",
            "ascend: what it returns is to be Float[Tensor, 'E b r'], and is torch.float32(5, 3)",
        ),
        ("an array for a tensor", "cholesky: K is to be Float[Tensor, 'n n'], and is float64(2, 2)"),
        ("a noise for every pair", "cholesky: noise is to be Float[Tensor, 'n'], and is torch.float32(2, 2)"),
    ],
)
def test_a_wrong_shape_is_told(seen, wrong, said):
    assert said in seen["wrong"][wrong]
