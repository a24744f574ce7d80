"""Forward models that are changed by the search: their contracts, and their equations in numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labloop.methods import _mentors, ict
from labloop.methods._forward import ForwardModel, Proxy, View, fit
from labloop.methods._mentors import alone, learned, predict
from labloop.methods.bdi import BDI, bidirectional, ntk
from labloop.methods.ict import ICT, around
from labloop.methods.match_opt import MatchOPT, line_mismatch
from labloop.methods.nemo import NEMO, nml_mean
from labloop.methods.roma import ROMA, Smooth, adapt, worst_weights
from labloop.methods.tri_mentoring import TriMentoring, votes
from labloop.surrogates.networks import StackedMLP
from labloop.surrogates.training import torch_generator
from labloop.testing import TOY_SPACES, ProposerContract, toy_data

TINY = {"hidden": (16,), "min_steps": 40, "max_steps": 40, "batch_size": 32, "lr": 2e-2, "particle_steps": 6, "particle_lr": 0.5}
TWO = {kind: TOY_SPACES[kind] for kind in ("duplex", "mixed")}


class TestROMA(ProposerContract):
    proposer = ROMA(**TINY)
    spaces = TWO


class TestMatchOPT(ProposerContract):
    proposer = MatchOPT(**TINY)
    spaces = TWO


class TestBDI(ProposerContract):
    proposer = BDI(layers=2, particle_steps=20, particle_lr=0.5)
    spaces = TWO
    learns_not_on = ("mixed",)  # its target pulls numbers and letters alike, and the data hold the worst corner


class TestNEMO(ProposerContract):
    proposer = NEMO(**TINY, bins=6)
    spaces = TWO
    learns_not_on = ("mixed",)


class TestICT(ProposerContract):
    proposer = ICT(**TINY, neighbours=12, exchanged=2)
    spaces = TWO
    learns_not_on = ("mixed",)


class TestTriMentoring(ProposerContract):
    proposer = TriMentoring(**TINY, neighbours=5)
    spaces = TWO
    learns_not_on = ("mixed",)


@pytest.fixture(scope="module")
def view() -> View:
    return View.of(toy_data(TOY_SPACES["duplex"]), "logits", proposer="test")


@pytest.fixture(scope="module")
def smooth(view) -> Proxy:
    net = Smooth(1, view.Z.shape[1], (16,), generator=torch_generator(0))
    return fit(view, ForwardModel(**TINY), seed=0, proposer="test", net=net)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch_generator(seed, *shape))


# ---- ROMA


def test_the_worst_weights_are_as_far_as_allowed_and_worse_than_random_ones(smooth):
    z, net = draw(20, smooth.view.Z.shape[1]), smooth.net
    target = net(z) + 0.5
    worst = worst_weights(net, z, target, relative=0.05, steps=2)
    for delta, weight in zip(worst, net.parameters(), strict=True):
        assert float(delta.norm()) == pytest.approx(0.05 * float(weight.norm()), rel=1e-3)
    other = [draw(*delta.shape, seed=1) for delta in worst]
    other = [one * delta.norm() / one.norm() for one, delta in zip(other, worst, strict=True)]

    def loss(deltas: list[torch.Tensor]) -> float:
        moved = {name: weight + one for (name, weight), one in zip(net.named_parameters(), deltas, strict=True)}
        return float((torch.func.functional_call(net, moved, (z,)) - target).square().mean())

    assert loss(worst) > max(loss(other), loss([torch.zeros_like(delta) for delta in worst]))


def test_adapting_flattens_the_model_where_the_solutions_are_and_keeps_its_values(smooth):
    z = smooth.view.starts(8)

    def steepness(model) -> float:
        at = z.clone().requires_grad_()
        return float(torch.autograd.grad(model(at).sum(), at)[0].square().sum(1).mean())

    adapted = adapt(smooth, z, steps=30, lr=5e-3, keep=1.0)
    assert steepness(adapted) < 0.9 * steepness(smooth)
    assert float((adapted(z) - smooth(z)).abs().mean()) < 0.3


# ---- Match-OPT


def test_the_line_integral_of_a_smooth_models_gradient_is_its_gain():
    """Where the model is exact the mismatch vanishes, up to the error of the midpoint rule."""
    net = Smooth(2, 5, (8,), generator=torch_generator(0))
    low, high = draw(7, 5), draw(7, 5, seed=1)
    gain = (net(high) - net(low)).detach()
    assert line_mismatch(net, low, high, gain[0], 64)[0].max() < 1e-5
    off = line_mismatch(net, low, high, gain[0] + 0.3, 64)[0]
    np.testing.assert_allclose(off.detach().numpy(), 0.09, rtol=0.02)


# ---- BDI


def test_the_tangent_kernel_is_that_of_very_wide_networks():
    """Against the empirical kernel ⟨∂f(a)/∂θ, ∂f(b)/∂θ⟩ of two dense layers, width 20,000."""
    A, width = draw(4, 3).double(), 20_000
    W, v = (torch.randn(*shape, generator=torch_generator(2), dtype=torch.float64) for shape in ((width, 3), (width,)))
    # f = √(2/width)·v·relu(W·x/√r), in whose kernel each layer has its weights' derivative
    pre = A @ W.T / math.sqrt(3)
    hidden, open_ = pre.clamp_min(0), (pre > 0).double()
    outer = 2 / width * hidden @ hidden.T
    inner = 2 / width * ((open_ * v) @ (open_ * v).T) * (A @ A.T) / 3
    np.testing.assert_allclose(ntk(A, A, 2).numpy(), (outer + inner).numpy(), rtol=0.06, atol=0.03)


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_both_directions_of_bdi_are_their_formula(layers):
    X, y, z = draw(9, 4).double(), draw(9).double(), draw(3, 4, seed=2).double()
    K = ntk(X, X, layers) + 1e-6 * torch.eye(9, dtype=torch.float64)
    alpha, weights = torch.linalg.solve(K, y), (0.5 * y).softmax(0)
    loss = bidirectional(z, X, y, alpha, weights, target=10.0, layers=layers)
    for i in range(3):
        k, own = ntk(z[i : i + 1], X, layers)[0], ntk(z[i : i + 1], z[i : i + 1], layers)[0, 0]
        forward, backward = float(k @ torch.linalg.solve(K, y)) - 10, k / own * 10 - y
        assert float(loss[i]) == pytest.approx(0.5 * forward**2 + 0.5 * float(weights @ backward**2), rel=1e-4)


# ---- NEMO


@pytest.mark.parametrize("width", [0, -3])
def test_layers_without_a_width_are_refused(width):
    with pytest.raises(ValueError, match="greater than 0"):
        NEMO(hidden=(width,))


def test_a_value_counts_as_its_own_model_can_be_fitted_to_it():
    labels = torch.tensor([-1.0, 0.0, 2.0])
    contradicted = torch.zeros(3, 1)  # every model says 0: only the middle bin is explained
    assert float(nml_mean(contradicted, labels, 0.1)) == pytest.approx(0.0, abs=1e-6)
    free = labels[:, None]  # each model can be fitted to its bin: all are as likely, and g is the mean of the bins
    assert float(nml_mean(free, labels, 0.1)) == pytest.approx(float(labels.mean()))
    some = draw(3, 4)
    p = np.exp(-0.5 * ((some.numpy() - labels.numpy()[:, None]) / 0.7) ** 2)
    np.testing.assert_allclose(nml_mean(some, labels, 0.7).numpy(), (p * labels.numpy()[:, None]).sum(0) / p.sum(0), rtol=1e-5)


# ---- proxies that mentor each other


def test_one_proxy_of_the_stack_predicts_alone_what_it_predicts_among_others():
    net, z = StackedMLP(3, 6, (8, 8), generator=torch_generator(0)), draw(5, 6)
    for member in range(3):
        torch.testing.assert_close(predict(alone(net, member), z), net(z)[member])


def test_weights_are_learned_against_the_error_on_the_data():
    """The gradient is the closed form −η·⟨∇ error on data at the stepped parameters, ∇ each sample's loss⟩."""
    net, z, samples = StackedMLP(1, 4, (6,), generator=torch_generator(0)), draw(10, 4), draw(3, 4, seed=3)
    y, labels, ones, inner = draw(10), draw(3), torch.ones(3), 0.05
    params = alone(net, 0)

    def lesson(at, weights):
        return (weights * (predict(at, samples) - labels).square()).mean()

    found = learned(params, lesson, ones, z, y, inner=inner, rate=0.3, clamp=10.0, low=-9.0, high=9.0)
    leaf = {name: value.detach().requires_grad_() for name, value in params.items()}
    each = [torch.autograd.grad((predict(leaf, samples) - labels).square()[i] / 3, list(leaf.values())) for i in range(3)]
    total = [sum(one[k] for one in each) for k in range(len(leaf))]
    there = {
        name: (value - inner * slope).detach().requires_grad_() for (name, value), slope in zip(leaf.items(), total, strict=True)
    }
    outer = torch.autograd.grad((predict(there, z) - y).square().mean(), list(there.values()))
    by_hand = torch.stack([-inner * sum((a * b).sum() for a, b in zip(outer, one, strict=True)) for one in each])
    torch.testing.assert_close(found, ones - 0.3 * by_hand, rtol=1e-4, atol=1e-6)
    cut = learned(params, lesson, ones, z, y, inner=50.0, rate=0.3, clamp=0.2, low=0.0, high=2.0)
    assert (cut - ones).abs().max() <= 0.3 * 0.2 + 1e-6


def test_neighbours_have_a_draw_of_their_own_in_every_column():
    """Upstream one number shifts all columns."""
    near = around(torch.zeros(1, 5), 400, 0.1, torch_generator(0))
    assert near.std(0).min() > 0.08
    assert np.abs(np.corrcoef(near.numpy().T) - np.eye(5)).max() < 0.3


def test_each_pupil_learns_what_its_peer_finds_easiest(view, monkeypatch):
    """Each proxy in turn labels; of the other two, each gets the samples on which the other's error is least."""
    drawn, lessons = [], []
    monkeypatch.setattr(ict, "around", lambda *given: drawn.append(around(*given)) or drawn[-1])
    monkeypatch.setattr(ICT, "_learn", lambda self, net, pupil, z, labels, *_: lessons.append((net, pupil, z, labels)))
    ICT(**{**TINY, "particle_steps": 1}, neighbours=12, exchanged=3).propose(view.data, 4, seed=0)
    ((z,), net) = drawn, lessons[0][0]
    f, turns = net(z), [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    assert [pupil for _, pupil, _, _ in lessons] == [pupil for _, pupil, _ in turns]
    for (teacher, _, peer), (_, _, samples, labels) in zip(turns, lessons, strict=True):
        easy = (f[peer] - f[teacher]).square().argsort()[:3]
        torch.testing.assert_close(samples, z[easy])
        torch.testing.assert_close(labels, f[teacher][easy])


def test_two_proxies_outvote_the_third():
    f, g = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    vote, outvoted = votes(f, g)
    assert vote.tolist() == [1.0, 0.0]
    assert outvoted.tolist() == [[False, False], [False, False], [True, False]]


def test_mentoring_changes_the_proxies_and_only_the_pupil(view):
    options = ICT(**TINY, neighbours=12, exchanged=2)
    seen = []

    def mentor(net, at, adams, gen):
        before = [value.detach().clone() for value in net.parameters()]
        options._learn(net, 1, at[:2], torch.ones(2), adams[1], view, gen)
        seen.append([(old - new).abs().flatten(1).sum(1) for old, new in zip(before, net.parameters(), strict=True)])

    _, steps = _mentors.mentored(view, options, 4, seed=0, proposer="test", mentor=mentor)
    list(steps)
    assert len(seen) == options.particle_steps
    moved = torch.stack([change for step in seen for change in step]).sum(0)
    assert moved[1] > 0
    assert moved[0] == moved[2] == 0
