"""Forward models and ascents on them: the contract of each, and its equations in numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from labloop.errors import MethodError
from labloop.methods import _forward, _offer
from labloop.methods._forward import View, ascend, bootstrap, fit, listnet, rank_cosine
from labloop.methods.gradient import GradientAscent, GradientMean, GradientMin, combined
from labloop.methods.ram import RaM, RaMCosine
from labloop.surrogates.training import torch_generator
from labloop.testing import TOY_SPACES, ProposerContract, toy_data, toy_truth

TINY = {"hidden": (16,), "min_steps": 60, "max_steps": 60, "batch_size": 32, "lr": 2e-2, "particle_steps": 20, "particle_lr": 0.2}
LISTED_AND_SEARCHED = {kind: TOY_SPACES[kind] for kind in ("duplex", "mixed")}
DISCRETE = {kind: TOY_SPACES[kind] for kind in ("duplex", "categorical")}


class TestGradient(ProposerContract):
    proposer = GradientAscent(**TINY)
    spaces = {kind: TOY_SPACES[kind] for kind in ("duplex", "continuous", "mixed")}
    learns_not_on = ("continuous",)  # the worst corner holds all data: the way out of it is a matter of luck


class TestGradientMin(ProposerContract):
    proposer = GradientMin(**TINY, search="ascent")
    spaces = LISTED_AND_SEARCHED


class TestRaM(ProposerContract):
    proposer = RaM(**TINY)
    spaces = LISTED_AND_SEARCHED


class TestRaMCosineAsPublished(ProposerContract):
    proposer = RaMCosine.paper(**TINY)
    spaces = DISCRETE


@pytest.fixture(scope="module")
def view() -> View:
    return View.of(toy_data(TOY_SPACES["duplex"]), "logits", proposer="test")


def test_the_mean_is_no_minimum(view):
    """Upstream both branches call `reduce_min`."""
    f = torch.tensor([[1.0, 5.0], [3.0, 1.0]])
    torch.testing.assert_close(combined(f, "mean"), torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(combined(f, "min"), torch.tensor([1.0, 1.0]))
    X = view.data.space.listing()[:50]
    proxy = fit(view, GradientMean(**TINY), seed=0, proposer="test", members=3, counts=bootstrap(view, 3, 0))
    each = proxy.each(X)
    assert (each.mean(0) - each.min(0)).min() > 0
    mean, least = (replace(GradientMean(**TINY), ensemble=how).propose(view.data, 12, seed=0) for how in ("mean", "min"))
    assert (mean.score != least.score).all()


def test_plain_steps_are_the_rate_times_the_gradient_and_adam_starts_with_its_sign(view):
    z = view.starts(4)
    slope = torch.linspace(-2, 2.5, z.shape[1])
    options = GradientAscent.paper(particle_steps=3)
    steps = list(ascend(lambda at: at @ slope, z, view, options))
    torch.testing.assert_close(steps[-1] - z, (3 * 0.01 * np.sqrt(z.shape[1]) * slope).expand_as(z))
    adam = replace(options, optimiser="adam", particle_steps=1)
    (first,) = ascend(lambda at: at @ slope, z, view, replace(adam, particle_lr=0.1))
    torch.testing.assert_close(first - z, (0.1 * slope.sign()).expand_as(z), atol=1e-5, rtol=0)


def test_an_ascent_in_the_box_stays_among_designs():
    mixed = View.of(toy_data(TOY_SPACES["mixed"]), "logits", proposer="test")
    far = mixed.box(mixed.starts(20) * 50)
    at = mixed.relaxation.decode(far.double().numpy())
    for block in mixed.data.space.blocks:
        part = at[:, block.start : block.stop]
        if block.kind != "onehot":
            assert part.min() >= -1e-6
            assert part.max() <= 1 + 1e-6
    letters = far[:, torch.tensor(mixed.relaxation.discrete)]
    assert letters.abs().max() <= np.log(7) + 1e-5  # four letters: on 0.7, off 0.1


def test_listnet_and_rank_cosine_are_their_formulas():
    f, y = torch.randn(2, 6, generator=torch_generator(0)), torch.randn(6, generator=torch_generator(1))
    p, q = np.exp(y.numpy()) / np.exp(y.numpy()).sum(), np.exp(f.numpy()) / np.exp(f.numpy()).sum(1, keepdims=True)
    np.testing.assert_allclose(listnet(f, y).numpy(), -(p * np.log(q)).sum(1), rtol=1e-5)
    cosine = (f.numpy() @ y.numpy()) / np.linalg.norm(f.numpy(), axis=1) / np.linalg.norm(y.numpy())
    np.testing.assert_allclose(rank_cosine(f, y).numpy(), (1 - cosine) / 2, rtol=1e-5)
    best = listnet(y[None].clone(), y)
    assert (listnet(f, y) > best).all()  # least where f orders, and spaces, as y does


def test_ranked_scores_are_standardised_on_the_training_designs(view):
    proxy = fit(view, RaM(**TINY), seed=0, proposer="test")
    seen = proxy(view.Z)
    assert float(seen.mean()) == pytest.approx(0, abs=1e-4)
    assert float(seen.std(unbiased=False)) == pytest.approx(1, abs=1e-4)
    assert np.corrcoef(proxy.each(view.data.X)[0], view.data.y)[0, 1] > 0.5


def test_any_forward_model_takes_a_ranking_loss(view):
    plain, ranking = (GradientMean(**TINY, loss=loss).propose(view.data, 6, seed=0) for loss in ("mse", "listnet"))
    assert not np.allclose(plain.score, ranking.score)
    assert toy_truth(view.data.space, ranking.X).mean() > view.data.y.max()


def test_a_bootstrap_weighs_rows_as_often_as_they_were_drawn(view):
    counts = bootstrap(view, 4, 0)
    n = len(view.data)
    np.testing.assert_array_equal(counts.sum(1).numpy(), np.full(4, 2 * n))  # both strands
    np.testing.assert_array_equal(counts[:, :n].numpy(), counts[:, n:].numpy())
    assert (bootstrap(view, 1, 0) == 1).all()


def test_forward_models_tell_what_they_cannot_do(view):
    with pytest.raises(MethodError, match="at least two measured designs"):
        GradientAscent(**TINY).propose(view.data.take(np.arange(1)), 4, seed=0)
    with pytest.raises(MethodError, match="cannot enumerate"):
        _offer.listed(toy_data(TOY_SPACES["mixed"]), "enumerate", "gradient")
    assert _forward.ForwardModel(max_steps=7, min_steps=0).steps(10_000) == 7
