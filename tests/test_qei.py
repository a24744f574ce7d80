"""Joint expected improvement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.monte_carlo import qExpectedImprovement
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.utils.errors import NotPSDError

from labloop.methods import qei
from labloop.methods.gp_mean import GPMean
from labloop.methods.qei import QEI, _inequalities
from labloop.proposing.dataset import Dataset
from labloop.proposing.gain import greedy, log_ei
from labloop.seeds import generator
from labloop.space.constraints import ForbiddenMotifs, LinearInequality
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Integer, Mixture, Real, Sequence
from labloop.studies.labs.tfbind8 import truth, visible
from labloop.surrogates.gp import GP, FittedGP
from labloop.testing import TOY_SPACES, ProposerContract, toy_data

SMOKE = {"samples": 64, "candidates": 192, "optimised": 1, "restarts": 1, "iterations": 30, "generations": 6}


class TestQEI(ProposerContract):
    proposer = QEI(**SMOKE)
    spaces = {kind: TOY_SPACES[kind] for kind in ("duplex", "continuous", "mixed")}


def test_log_ei_is_botorchs_near_and_far_from_the_incumbent():
    space = TOY_SPACES["categorical"]
    data = toy_data(space)
    fitted = GP(iterations=20).fit(data, seed=0)
    X = space.listing()
    for best in (data.y.max(), data.y.max() + 30):
        reference = LogExpectedImprovement(fitted.botorch_model(), best_f=(best - fitted.shift) / fitted.scale)
        with torch.no_grad():
            expected = reference(fitted.tensor(X)[:, None]).numpy() + np.log(fitted.scale)
        np.testing.assert_allclose(log_ei(*fitted.belief(X), best), expected, rtol=1e-4)


def test_log_ei_orders_designs_that_are_hopeless():
    values = log_ei(np.array([-1.0, -2.0, -3.0]), np.full(3, 1e-6), best=0.0)
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()


def test_the_gain_of_a_small_batch_is_botorchs_expected_improvement():
    """Stated tolerance: 3 % of the batch value, with 2^15 samples on either side."""
    data = toy_data(TOY_SPACES["continuous"], n=15)
    fitted = GP(iterations=20).fit(data, seed=0)
    X = data.space.sample(4, generator(2, "batch"))
    best = float(np.quantile(data.y, 0.7))
    draws = fitted.draw(X, 2**15, generator=torch.Generator().manual_seed(0))
    _, gains = greedy(draws, torch.full((len(draws),), best, dtype=torch.float64), 4, tail=0.0)
    sampler = SobolQMCNormalSampler(torch.Size([2**15]), seed=1)
    reference = qExpectedImprovement(fitted.botorch_model(), (best - fitted.shift) / fitted.scale, sampler=sampler)
    with torch.no_grad():
        expected = float(reference(fitted.tensor(X))) * fitted.scale
    assert gains.sum() == pytest.approx(expected, rel=0.03)


def test_the_first_well_is_the_one_botorchs_noisy_ei_prefers():
    data = toy_data(TOY_SPACES["categorical"], noise=0.5)
    fitted = GP(iterations=30).fit(data, seed=0)
    X = data.space.listing()
    X = X[data.space.fresh(X, known=data.taken)]
    draws = fitted.draw(np.concatenate([X, data.X]), 2**12, generator=torch.Generator().manual_seed(0))
    (first,), _ = greedy(draws[:, : len(X)], draws[:, len(X) :].amax(1), 1, tail=1e-3)
    sampler = SobolQMCNormalSampler(torch.Size([512]), seed=1)
    reference = qLogNoisyExpectedImprovement(fitted.botorch_model(), fitted.tensor(data.X), sampler=sampler, prune_baseline=False)
    with torch.no_grad():
        values = reference(fitted.tensor(X)[:, None]).numpy()
    assert values[first] > values.max() - 0.1  # in log: within 10 % of the best


def two_peaks() -> tuple[DesignSpace, Dataset]:
    """A line measured coarsely, with one promising region on either side."""
    space = DesignSpace(parameters=(Integer(name="x", low=0, high=400),))
    x = np.array([0, 40, 80, 100, 120, 160, 200, 240, 285, 300, 315, 360, 400])
    y = np.exp(-(((x - 100) / 25) ** 2)) + 0.97 * np.exp(-(((x - 300) / 25) ** 2))
    return space, Dataset.from_measurements(space, space.decode(x[:, None] / 400), y)


def test_a_joint_batch_covers_both_peaks_where_the_top_of_ei_sits_on_fewer_places():
    space, data = two_peaks()
    fitted = GP().fit(data, seed=0)
    X = space.listing()
    X = X[space.fresh(X, known=data.taken)]
    mean, std = fitted.belief(X)
    top = X[np.argsort(-log_ei(mean, std, fitted.belief(data.X)[0].max()))[:6], 0]
    batch = QEI(candidates=400, iterations=100).propose(data, 6, seed=0).X[:, 0]
    gaps = [np.diff(np.sort(x)).mean() for x in (top, batch)]
    assert ((batch < 0.5).any(), (batch > 0.5).any()) == (True, True)
    assert np.median(np.diff(np.sort(batch))) > 2 * np.median(np.diff(np.sort(top))), gaps


def test_what_is_pending_is_not_sought_again():
    """With a design pending at one peak, the next well goes elsewhere than without it."""
    _, data = two_peaks()
    alone = QEI(candidates=400).propose(data, 1, seed=0)
    pending = Dataset(**{**vars_of(data), "pending": np.clip(alone.X + np.linspace(-0.02, 0.02, 9)[:, None], 0, 1)})
    again = QEI(candidates=400).propose(pending, 1, seed=0)
    assert np.abs(again.X - alone.X).min() > 0.02
    assert again.score[0] < alone.score[0]


def test_of_very_many_pending_designs_the_hopeful_alone_are_drawn_with_the_batch(monkeypatch):
    """Thousands may have failed, or be what an ensemble knows: a joint draw over all of them would not fit into memory."""
    space, data = two_peaks()
    alone = QEI(candidates=400).propose(data, 1, seed=0)
    near = np.clip(alone.X + np.linspace(-0.02, 0.02, 9)[:, None], 0, 1)
    hopeless = space.canonical(np.linspace(0.41, 0.59, 60)[:, None])
    few, many = (Dataset(**{**vars_of(data), "pending": X}) for X in (near, np.concatenate([hopeless, near])))
    monkeypatch.setattr(qei, "AWAITED", len(near))
    drawn: list[int] = []
    draw = FittedGP.draw
    monkeypatch.setattr(FittedGP, "draw", lambda self, X, *given, **named: drawn.append(len(X)) or draw(self, X, *given, **named))
    found = [QEI(candidates=400).propose(one, 1, seed=0) for one in (few, many)]
    assert drawn[0] - found[0].notes["candidates"] == drawn[1] - found[1].notes["candidates"] == len(near) + len(data.X)
    assert np.abs(found[1].X - alone.X).min() > 0.02


def vars_of(data: Dataset) -> dict[str, object]:
    return {name: getattr(data, name) for name in ("space", "X", "y", "sem", "censored", "n_replicates", "ids", "pending")}


def test_the_gradient_search_finds_more_than_the_candidates_hold():
    space = DesignSpace(parameters=tuple(Real(name=name, low=0, high=1) for name in "abcdef"))
    X = space.sample(40, generator(0, "x"))
    data = Dataset.from_measurements(space, space.decode(X), -((X - 0.6) ** 2).sum(1))
    fitted = GP().fit(data, seed=0)
    best = fitted.belief(data.X)[0].max()
    few = {"candidates": 32, "explore": 0.9, "samples": 256, "generations": 1}
    placed, drawn = (QEI(**few, optimised=k).propose(data, 1, seed=1) for k in (1, 0))
    assert log_ei(*fitted.belief(placed.X), best)[0] > log_ei(*fitted.belief(drawn.X), best)[0] + 0.1


def test_a_well_placed_by_gradient_counts_those_before_it_as_pending(monkeypatch):
    real, pending = qei.qLogNoisyExpectedImprovement, []

    def seen(*arguments, **options):
        pending.append(len(options["X_pending"]))
        return real(*arguments, **options)

    monkeypatch.setattr(qei, "qLogNoisyExpectedImprovement", seen)
    QEI(**{**SMOKE, "optimised": 3}).propose(toy_data(TOY_SPACES["continuous"]), 4, seed=0)
    assert pending == [0, 1, 2]


def test_constraints_hold_for_wells_placed_by_gradient():
    space = DesignSpace(
        parameters=(
            Sequence(name="dna", length=4),
            Real(name="salt", low=0, high=10),
            Real(name="sugar", low=5, high=20),
            Mixture(name="buffer", components=("tris", "hepes", "pbs"), step=0.05),
        ),
        constraints=(
            LinearInequality(weights={"salt": 1.0, "sugar": 0.5, "tris": 2.0}, high=9.0),
            ForbiddenMotifs(parameter="dna", motifs=("AC",)),
        ),
    )
    X = space.sample(40, generator(0, "x"))
    data = Dataset.from_measurements(space, space.decode(X), X @ np.linspace(-1, 1, space.d) + 3 * X[:, 16])
    pool = QEI(**{**SMOKE, "optimised": 3}).propose(data, 6, seed=0)
    assert not space.check(space.decode(pool.X))
    assert len(set(pool.ids)) == 6


def test_a_space_too_large_to_list_is_searched():
    space = DesignSpace(parameters=(Sequence(name="dna", length=24),))
    rng = generator(0, "long")
    weights = rng.normal(size=space.d)
    X = space.sample(60, rng)
    data = Dataset.from_measurements(space, space.decode(X), X @ weights)
    pool = QEI(**SMOKE).propose(data, 24, seed=0)
    assert len(set(pool.ids)) == 24
    assert (pool.X @ weights).mean() > np.quantile(X @ weights, 0.8)


def test_a_plate_over_the_whole_of_a_listable_space_comes_in_order_of_gain():
    data = toy_data(DesignSpace(parameters=(Sequence(name="dna", length=6),)), n=80)
    pool = QEI(candidates=512, samples=128, iterations=30).propose(data, 96, seed=0)
    assert len(set(pool.ids)) == 96
    assert (np.diff(pool.score) <= 1e-12).all()


@pytest.mark.parametrize("proposer", [QEI(samples=64, candidates=512), GPMean()], ids=["qei", "gp_mean"])
def test_the_first_plate_of_tf_bind_8_is_far_better_than_random(proposer):
    """From 200 weak binders, 32 wells out of 32,896: random designs have a mean near 0.45, the goal of a plate is 0.69."""
    every = visible()
    data = every.take(generator(0, "start").permutation(len(every))[:200])
    assert truth(proposer.propose(data, 32, seed=0).X).mean() > 0.6


def test_linear_constraints_are_made_on_the_models_device():
    space = DesignSpace(
        parameters=(Real(name="a", low=0, high=2), Real(name="b", low=0, high=1)),
        constraints=(LinearInequality(weights={"a": 1.0, "b": 2.0}, high=2.5),),
    )
    ((index, slope, _),) = _inequalities(space, torch.device("meta"))
    assert index.device.type == slope.device.type == "meta"


def test_a_gradient_search_that_breaks_down_leaves_its_wells_to_the_candidates(monkeypatch, caplog):
    real, calls = qei._climb, []

    def brittle(*arguments):
        calls.append(1)
        if len(calls) > 1:
            raise NotPSDError("designs nearly coincide")
        return real(*arguments)

    monkeypatch.setattr(qei, "_climb", brittle)
    data = toy_data(TOY_SPACES["continuous"])
    pool = QEI(**{**SMOKE, "optimised": 4}).propose(data, 6, seed=0)
    assert len(set(pool.ids)) == 6
    assert len(calls) == 2
    assert "wells after the first 1 come from the candidates: designs nearly coincide" in caplog.text


def test_smooth_data_in_clusters_are_no_end_to_a_plate():
    rng = generator(0, "clusters")
    space = DesignSpace(parameters=tuple(Real(name=name, low=0, high=1) for name in "abcdef"))
    X = np.clip(np.repeat(rng.random((16, 6)), 3, axis=0) + 1e-4 * rng.standard_normal((48, 6)), 0, 1)
    data = Dataset.from_measurements(space, space.decode(X), np.exp(-((X - 0.5) ** 2).sum(1)))
    pool = QEI(**{**SMOKE, "optimised": 3}).propose(data, 12, seed=0)
    assert len(set(pool.ids)) == 12
