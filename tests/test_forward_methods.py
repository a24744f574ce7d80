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
from labloop.methods.pgs import PGS, REACH, Agent, gradient, step_between
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


class TestPGS(ProposerContract):
    proposer = PGS(**TINY, policy_hidden=16, policy_steps=30, policy_batch=32)
    spaces = {kind: TOY_SPACES[kind] for kind in ("duplex", "mixed")}
    learns_not_on = ("duplex", "mixed")  # what a policy learns in thirty steps is no direction; see the test of its own below


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


# ---- PGS


def test_an_action_is_the_step_between_two_designs_in_gradients(view):
    low, slope = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.5, -0.1, 0.0]])
    high = torch.tensor([[2.5, 0.5, 1.0]])
    a = step_between(low, high, slope)
    torch.testing.assert_close(a, torch.tensor([[0.5, 0.5, 0.0]]))  # nothing is reached without a slope
    torch.testing.assert_close((low + REACH * a * slope)[:, :2], high[:, :2])
    assert not step_between(low, 3 * high, slope)[0, 0]  # 1.5 is more than an action can be


def test_the_policy_tells_the_density_of_what_it_does():
    gen = torch_generator(0)
    agent, z = Agent.draw(3, 8, gen, torch.device("cpu")), torch.randn(5, 3, generator=gen)
    a, density = agent.act(z, gen)
    mean, spread = agent.policy(z).chunk(2, -1)
    normal = torch.distributions.Normal(mean, spread.exp())
    squashed = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform())
    torch.testing.assert_close(density, squashed.log_prob(a).sum(-1), atol=1e-4, rtol=1e-4)


def test_conservatism_adds_the_gap_to_what_the_data_do_not_show():
    gen = torch_generator(1)
    agent = Agent.draw(2, 8, gen, torch.device("cpu"))
    z, after, a = (torch.randn(6, 2, generator=gen) for _ in range(3))
    given = (z, a.tanh(), torch.ones(6), after, torch.zeros(6))
    plain, once, twice = (
        agent.critic_loss(*given, torch_generator(2), actions=500, conservatism=weight) for weight in (0.0, 1.0, 2.0)
    )
    q = agent.value(z, a.tanh())
    torch.testing.assert_close(plain, (q - 1).square().mean(1).sum())  # without a next step the reward is the target
    torch.testing.assert_close(twice - plain, 2 * (once - plain))
    # log of the mean over a fine grid of actions, whose volume is 4, against three estimates of the same integral
    grid = torch.cartesian_prod(*[torch.linspace(-0.995, 0.995, 200)] * 2)
    whole = agent.value(z.repeat_interleave(len(grid), 0), grid.repeat(6, 1)).unflatten(1, (6, -1)).logsumexp(2)
    exact = (whole - np.log(len(grid)) + np.log(4.0) + np.log(3 * 500) - q).mean(1).sum()
    torch.testing.assert_close(once - plain, exact, atol=0.05, rtol=0)


def test_a_policy_learns_which_columns_pay():
    """Two columns with the same slope, of which only steps in the first are followed by gains."""
    gen = torch_generator(3)
    data = toy_data(TOY_SPACES["continuous"])
    view = View.of(data, "logits", proposer="test")
    proxy = fit(view, PGS(**TINY), seed=0, proposer="test")
    Z = torch.rand(200, view.Z.shape[1], generator=gen)
    agent = Agent.draw(Z.shape[1], 32, gen, torch.device("cpu"))
    PGS(policy_steps=400, policy_lr=3e-3, conservatism=1.0)._learn(agent, proxy, Z, 5 * Z[:, 0], gen)
    slope = gradient(proxy, Z)[:, 0]
    assert float((agent.mode(Z)[:, 0] * slope).mean()) > 0  # it moves up the first, whatever the model's slope says
