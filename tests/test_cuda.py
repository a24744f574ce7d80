"""The same on a CUDA device as on the CPU. Where there is no device these are skipped; every other test runs there too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labloop.methods.braid import BRAID, STRL, BRAIDBonus, Guidance
from labloop.methods.coms import COMs
from labloop.methods.ensemble import EnsembleMean
from labloop.methods.gp_mean import GPMean
from labloop.methods.gtg import GTG
from labloop.methods.qei import QEI
from labloop.proposing.dataset import Dataset
from labloop.proposing.protocols import Proposer
from labloop.seeds import generator
from labloop.surrogates.ensemble import Ensemble
from labloop.surrogates.gp import GP
from labloop.testing import TOY_SPACES, toy_data, toy_truth

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")

OF_BRAID = {"hidden": (64, 64), "reward_steps": 200, "width": 32, "prior_steps": 200, "iterations": 30, "n_samples": 512}
PROPOSERS: dict[str, Proposer] = {
    "coms": COMs(hidden_sizes=(64, 64), epochs=1, min_steps=150, lr=2e-3),
    "coms ascent": COMs(hidden_sizes=(64, 64), epochs=1, min_steps=150, lr=2e-3, search="ascent"),
    "gtg": GTG(n_traj=128, horizon=8, dim=16, dim_mults=(1, 2), context=4, steps=60, proxies=4, proxy_steps=300, n_samples=128),
    "braid": BRAID(**OF_BRAID, heads=3),
    "braid_bonus": BRAIDBonus(**OF_BRAID, heads=3),
    "strl": STRL(**OF_BRAID),
    "guidance": Guidance(**OF_BRAID),
    "ensemble": EnsembleMean(members=4, hidden=(64,), steps=400),
    "gp_mean": GPMean(iterations=40, generations=8),
    "qei": QEI(samples=64, candidates=128, optimised=2, restarts=2, iterations=40, generations=8),
}


@pytest.fixture(scope="module", params=["duplex", "mixed"])
def data(request: pytest.FixtureRequest) -> Dataset:
    return toy_data(TOY_SPACES[request.param])


def on(monkeypatch: pytest.MonkeyPatch, device: str, data: Dataset) -> Dataset:
    """Compute on this device from here on, with a dataset that nobody has fitted anything to."""
    monkeypatch.setenv("LABLOOP_DEVICE", device)
    return data.take(np.arange(len(data)))


@pytest.mark.parametrize("name", sorted(PROPOSERS))
def test_equal_seeds_agree_on_the_device_and_offer_what_is_worth_as_much_as_the_cpus(name, data, monkeypatch):
    first, again = (PROPOSERS[name].propose(on(monkeypatch, "cuda", data), 12, seed=1) for _ in range(2))
    assert first.ids == again.ids
    np.testing.assert_array_equal(first.score, again.score)
    assert not data.space.check(data.space.decode(first.X))
    assert not set(first.ids) & data.taken
    here = PROPOSERS[name].propose(on(monkeypatch, "cpu", data), 12, seed=1)
    everything = toy_truth(data.space, data.space.sample(2_000, np.random.default_rng(0)))
    apart = toy_truth(data.space, first.X).mean() - toy_truth(data.space, here.X).mean()
    assert abs(apart) < 1.5 * everything.std()


def test_a_gaussian_process_is_the_same_on_both(data, monkeypatch):
    X = data.space.sample(200, generator(0, "asked"))
    mean, std = GP().fit(on(monkeypatch, "cpu", data), seed=0).belief(X)
    other_mean, other_std = GP().fit(on(monkeypatch, "cuda", data), seed=0).belief(X)
    assert np.corrcoef(mean, other_mean)[0, 1] > 0.99
    np.testing.assert_allclose(other_std.mean(), std.mean(), rtol=0.1)


def test_an_ensemble_says_nearly_the_same_on_both(data, monkeypatch):
    X = data.space.sample(200, generator(0, "asked"))
    mean, std = Ensemble(steps=600).fit(on(monkeypatch, "cpu", data), seed=0)(X)
    other_mean, other_std = Ensemble(steps=600).fit(on(monkeypatch, "cuda", data), seed=0)(X)
    assert np.corrcoef(mean, other_mean)[0, 1] > 0.9
    np.testing.assert_allclose(other_std.mean(), std.mean(), rtol=0.3)
