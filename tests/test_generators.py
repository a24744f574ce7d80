"""Generators and searches on a proxy, and the batches of campaigns: contracts, and their equations in numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from labloop.errors import ConfigError, MethodError
from labloop.methods import _offer, bonet, cma_es, ddom, delta_cs, mins
from labloop.methods._proxy import ensembled
from labloop.methods.bonet import BONET
from labloop.methods.cbas import AutofocusedCbAS, CbAS, autoencoder, importance, learn
from labloop.methods.cma_es import CMAES
from labloop.methods.constant_liar import ConstantLiar, liar
from labloop.methods.ddom import DDOM
from labloop.methods.delta_cs import DeltaCS
from labloop.methods.mins import MINs
from labloop.methods.qei_proxy import QEIProxy, pretended
from labloop.methods.qpo import QPO, optimal
from labloop.methods.reinforce import Policy, Reinforce
from labloop.registry import available, create, describe, load
from labloop.surrogates.training import torch_generator
from labloop.testing import TOY_SPACES, ProposerContract, toy_data, toy_truth

TINY = {"members": 2, "hidden": (16,), "min_steps": 40, "max_steps": 40}
TWO = {kind: TOY_SPACES[kind] for kind in ("duplex", "mixed")}
VAE_TINY = {"latent": 4, "width": 16, "prior_steps": 40, "rounds": 2, "samples": 60, "round_steps": 8, "focus_steps": 5}


class TestReinforce(ProposerContract):
    proposer = Reinforce(**TINY, iterations=20, samples=48, policy_lr=0.2)
    spaces = TWO


if find_spec("cma"):

    class TestCMAES(ProposerContract):
        proposer = CMAES(**TINY, runs=4, iterations=8)
        spaces = TWO


def test_without_its_library_cma_es_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cma_es, "find_spec", lambda name: None)
    with pytest.raises(MethodError, match=r"labloop-toolkit\[cma\]"):
        CMAES()


class TestCbAS(ProposerContract):
    proposer = CbAS(**TINY, **VAE_TINY)
    spaces = TWO
    learns_not_on = ("mixed",)


class TestAutofocusedCbAS(ProposerContract):
    proposer = AutofocusedCbAS(**TINY, **VAE_TINY)
    spaces = {"duplex": TOY_SPACES["duplex"]}


class TestMINs(ProposerContract):
    proposer = MINs(width=16, layers=1, latent=4, steps=10, critic_steps=2)
    spaces = TWO
    learns = False  # it asks for the largest measured value, which in the toy data is below most random designs


class TestDDOM(ProposerContract):
    proposer = DDOM(width=32, steps=60, sampling_steps=5)
    spaces = TWO
    learns = False  # as MINs


class TestBONET(ProposerContract):
    proposer = BONET(length=8, trajectories=30, width=16, depth=1, heads=2, steps=20)
    spaces = TWO
    learns = False  # as MINs


class TestQEIProxy(ProposerContract):
    proposer = QEIProxy(**TINY, known=20, rounds=1, candidates=64, iterations=5)
    spaces = {"duplex": TOY_SPACES["duplex"]}


class TestDeltaCS(ProposerContract):
    proposer = DeltaCS(**TINY, rounds=3, parents=32)
    spaces = {kind: TOY_SPACES[kind] for kind in ("duplex", "categorical")}


class TestQPO(ProposerContract):
    proposer = QPO(candidates=100, samples=200, iterations=20, generations=3)
    spaces = TWO


class TestConstantLiar(ProposerContract):
    proposer = ConstantLiar(candidates=100, iterations=20, generations=3)
    spaces = {"duplex": TOY_SPACES["duplex"]}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch_generator(seed, *shape))


# ---- the ensemble, and the pools


def test_the_chance_to_be_above_a_level_is_the_mixtures():
    data = toy_data(TOY_SPACES["duplex"])
    model = ensembled(data, Reinforce(**TINY), seed=0, proposer="test")
    X, level = data.space.listing()[:20], float(np.quantile(data.y, 0.7))
    each, spread = model.proxy.each(X), model.spread * model.view.scale
    by_hand = np.mean([[0.5 * math.erfc((level - f) / spread / math.sqrt(2)) for f in row] for row in each], 0)
    np.testing.assert_allclose(model.above(X, level), by_hand, atol=1e-6)


@pytest.mark.parametrize("proposer", [Reinforce(**TINY, iterations=5, samples=16), DeltaCS(**TINY, rounds=2)])
def test_the_labs_unit_does_not_matter(proposer):
    data = toy_data(TOY_SPACES["duplex"])
    one, other = (proposer.propose(replace(data, y=unit * data.y), 20, seed=0) for unit in (1.0, 2.0**-60))
    assert one.ids == other.ids
    np.testing.assert_array_equal(2.0**60 * other.score, one.score)


def test_designs_drawn_more_often_come_first_and_mutants_fill_up():
    data = toy_data(TOY_SPACES["duplex"])
    new = data.space.listing()[data.space.fresh(data.space.listing(), known=data.taken)][:3]
    pool = _offer.drawn(data, lambda k: new[[0, 1, 1, 2, 2, 2]], 6, seed=0, proposer="test", notes={})
    assert list(pool.ids[:3]) == data.space.ids(new[[2, 1, 0]])
    assert pool.notes["drawn"] == 3
    assert (np.diff(pool.score) <= 0).all()


@pytest.mark.parametrize(
    ("rows", "passes", "steps"), [(20_000, 100, 3_000), (2_000, 100, 2_000), (50, 100, 500), (50, None, 3_000)]
)
def test_few_designs_are_not_learned_by_heart(rows, passes, steps):
    assert _offer.within_passes(3_000, rows, 100, passes) == steps


# ---- REINFORCE


def test_a_policys_density_is_that_of_its_draws():
    space = TOY_SPACES["mixed"]
    policy = Policy(space, toy_data(space).X, 0.1)
    X, logp = policy.draw(50, torch_generator(0))
    expected = np.zeros(50)
    for (cols, rows, k), logits in zip(policy.blocks, policy.logits, strict=True):
        p = logits.detach().softmax(1).numpy()
        expected += np.log((X[:, cols].reshape(50, rows, k) * p).sum(2)).sum(1)
    error = (X[:, policy.numbers] - policy.mean.detach().numpy()) / 0.1
    expected += (-0.5 * error**2 - math.log(0.1)).sum(1)
    np.testing.assert_allclose(logp.detach().numpy(), expected, rtol=1e-9)


# ---- CbAS


def test_importance_is_the_ratio_over_its_mean_and_cut():
    ratio, factor = torch.tensor([0.0, math.log(3.0), -1000.0]).double(), torch.tensor([1.0, 1.0, 1.0])
    np.testing.assert_allclose(importance(ratio, factor, 20.0).numpy(), [0.75, 2.25, 0.0], atol=1e-9)
    assert importance(ratio, factor, 2.0).max() == 2.0
    np.testing.assert_allclose(importance(ratio, torch.zeros(3), 20.0)[:2].numpy(), [0.75, 2.25], atol=1e-9)


def test_the_autoencoder_bounds_the_probability_of_designs_from_below():
    """Log Σ p(x|z) over many z is at least the mean bound of each design; teaching raises it."""
    space = TOY_SPACES["categorical"]
    X = toy_data(space).X[:40]
    x, gen = torch.tensor(X, dtype=torch.float32), torch_generator(0)
    vae = autoencoder(space, 2, 16, gen)
    with torch.no_grad():
        before = float(vae.elbo(x, gen).mean())
    learn(vae, x, torch.ones(40), 150, 1e-2, gen)
    with torch.no_grad():
        bound = torch.stack([vae.elbo(x[:5], gen) for _ in range(200)]).mean(0)
        z = torch.randn(20_000, 2, generator=gen)
        exact = torch.stack([torch.logsumexp(vae.logp(one.expand(len(z), -1), z), 0) - math.log(len(z)) for one in x[:5]])
    assert (bound < exact + 0.1).all()
    assert float(bound.mean()) > before


# ---- MINs and DDOM


def test_values_weigh_by_the_share_and_height_of_their_bin():
    data = toy_data(TOY_SPACES["sequence"])
    y, w = mins.conditions(data, 4, 0.5, proposer="test")
    unit = (data.y - data.y.min()) / np.ptp(data.y)
    place = np.minimum((unit * 4).astype(int), 3)
    share = np.bincount(place, minlength=4) / len(data)
    height = np.exp(((np.arange(4) + 0.5) / 4 - 1) / 0.5)
    total = np.array([w.numpy()[place == b].sum() for b in range(4)])
    expected = height * share / (share + 1e-3)
    uncut = expected / (expected.sum() / len(data))
    few = np.array([w.numpy()[place == b].max(initial=0) < 5 for b in range(4)])
    np.testing.assert_allclose(total[few], uncut[few], rtol=1e-4)
    assert float(y.mean()) == pytest.approx(0, abs=1e-5)


def test_the_critics_loss_is_wassersteins_with_a_penalty_on_other_slopes_than_one():
    slope = torch.tensor([3.0, 4.0, 0.0])  # of norm 5
    critic = torch.nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        critic.weight.copy_(slope[None])
    real, fake, y = draw(6, 2), draw(6, 2, seed=1), torch.zeros(6)
    gap = ((fake - real) @ slope[:2]).mean()
    found = mins.critic_loss(critic, real, fake, y, 10.0, torch_generator(0))
    assert float(found.detach()) == pytest.approx(float(gap) + 10 * (5 - 1) ** 2, rel=1e-5)


def test_the_probability_flow_ends_at_the_data_it_was_told_of():
    """For data N(μ, s²) the best ε is known in closed form, and the flow must carry N(0, 1) to N(μ, s²)."""
    mu, s = 0.4, 0.2

    def noise(x: torch.Tensor, t: float) -> torch.Tensor:
        m, sigma = (float(one) for one in ddom.level(torch.tensor(t), 0.1, 20.0))
        return sigma * (x - m * mu) / (m**2 * s**2 + sigma**2)

    x = ddom.heun(noise, draw(4_000, 1), 200, 0.1, 20.0)
    assert float(x.mean()) == pytest.approx(mu, abs=0.02)
    assert float(x.std()) == pytest.approx(s, abs=0.02)


def test_diffusion_ends_where_sampling_begins():
    """With the authors' rates six tenths of a design are left at time 1, and sampling starts from none of it."""
    own, theirs = (float(ddom.level(torch.tensor(1.0), one.beta_min, one.beta_max)[0]) for one in (DDOM(), DDOM.paper()))
    assert own < 0.01
    assert theirs == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("proposer", [TestMINs.proposer, TestDDOM.proposer, TestBONET.proposer])
def test_no_generator_knows_more_of_the_scale_than_the_best_measured_value(proposer):
    """Upstream a true optimum of 1, or the hidden rows' range, enters; a lab that measures four times as much changes nothing."""
    data = toy_data(TOY_SPACES["duplex"])
    louder = type(data)(**{**{name: getattr(data, name) for name in data.__dataclass_fields__}, "y": 4 * data.y})
    pools = [proposer.propose(one, 8, seed=0) for one in (data, louder)]
    assert pools[0].ids == pools[1].ids
    if "condition" in pools[0].notes:
        assert pools[0].notes["condition"] == pytest.approx(data.y.max())


# ---- BONET


def test_paths_rise_and_their_regret_falls_to_the_last_steps_own():
    y = np.random.default_rng(0).random(300)
    rows = bonet.sorted_paths(y, 5, 12, 8, np.random.default_rng(1))
    assert (np.diff(y[rows], axis=1) >= 0).all()
    path = torch.tensor(y[rows], dtype=torch.float32)
    regret = bonet.regret_to_go(path)
    np.testing.assert_allclose(regret[:, 0].numpy(), (1 - y[rows]).sum(1) / 12, rtol=1e-5)
    np.testing.assert_allclose(regret[:, -1].numpy(), (1 - y[rows][:, -1]) / 12, rtol=1e-5)


def test_the_transformer_sees_no_later_token():
    net = bonet.transformer(7, 5, 16, 2, 2, 6, torch_generator(0))
    tokens = draw(2, 6, 7)
    changed = tokens.clone()
    changed[:, 4:] += 1.0
    one, other = net(tokens), net(changed)
    torch.testing.assert_close(one[:, :4], other[:, :4])
    assert not torch.allclose(one[:, 4:], other[:, 4:])


@pytest.mark.parametrize("options", [{"width": 64, "heads": 5}, {"heads": 5}, {"width": 65}])
def test_a_width_that_its_heads_cannot_share_is_refused_before_any_training(options):
    with pytest.raises(ConfigError, match="multiple of heads"):
        create("proposers", "bonet", options)


def test_the_best_value_a_path_knows_is_the_best_measured_one():
    """Upstream regret counts from the true optimum; a lab that measures twice as high must not change what is learned."""
    data = toy_data(TOY_SPACES["duplex"])
    proposer = TestBONET.proposer
    doubled = type(data)(**{**{f: getattr(data, f) for f in data.__dataclass_fields__}, "y": 2 * data.y + 1})
    assert proposer.propose(data, 8, seed=0).ids == proposer.propose(doubled, 8, seed=0).ids


# ---- batches of campaigns


def test_doubt_shrinks_what_is_rewritten():
    share = delta_cs.masked_share(np.array([0.0, 1.0, 2.0, 9.0]), 0.5, 0.5)
    np.testing.assert_allclose(share, [0.5, 0.5 * (1 - 0.5 / 3), 0.5 * (1 - 1 / 3), 0.0])


def test_masked_sites_are_drawn_in_proportion_to_the_tempered_score():
    space = TOY_SPACES["sequence"]
    X = np.repeat(space.listing()[:1], 6_000, axis=0)
    first = np.array([0.0, 1.0, 2.0, 0.5])
    new = delta_cs.rewrite(space, X, np.ones(6_000), lambda rows: rows[:, :4] @ first, 0.7, np.random.default_rng(0))
    p = np.exp(first / 0.7) / np.exp(first / 0.7).sum()
    np.testing.assert_allclose(new[:, :4].mean(0), p, atol=0.03)
    np.testing.assert_allclose(new[:, 4:8].mean(0), 0.25, atol=0.03)
    kept = delta_cs.rewrite(space, X[:200], np.zeros(200), lambda rows: np.zeros(len(rows)), 0.7, np.random.default_rng(0))
    assert ((kept != X[:200]).reshape(200, 6, 4).any(2).sum(1) <= 1).all()


def test_delta_cs_refuses_numbers():
    with pytest.raises(MethodError, match="rewrites sequences and choices, and this space has real"):
        DeltaCS(**TINY).propose(toy_data(TOY_SPACES["continuous"]), 4, seed=0)


def test_the_chance_to_be_the_best_is_counted_and_the_pool_adds_it_up():
    draws = torch.tensor([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [1.0, 5.0, 0.0], [1.0, 2.0, 0.0]])
    np.testing.assert_allclose(optimal(draws), [0.25, 0.75, 0.0])
    pool = TestQPO.proposer.propose(toy_data(TOY_SPACES["duplex"]), 20, seed=0)
    assert 0 < pool.notes["covered"] <= 1
    assert (np.diff(pool.score) <= 0).all()


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_liar_believes_its_claims_as_a_gaussian_process_would(noise):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(7, 7))
    mean, C = rng.normal(size=7), A @ A.T
    rows, values = liar(mean, C, -5.0, noise, 4)
    for i in range(1, 4):
        told = rows[:i]
        K = C[np.ix_(told, told)] + (noise + 1e-10) * np.eye(i)
        belief = mean + C[:, told] @ np.linalg.solve(K, np.full(i, -5.0) - mean[told])
        belief[told] = -np.inf
        assert rows[i] == belief.argmax()
        assert values[i] == pytest.approx(belief.max())


def test_what_a_proxy_measures_is_never_offered_and_what_the_lab_measured_neither():
    """Upstream's answer is mostly what it was given."""
    data = toy_data(TOY_SPACES["duplex"])
    asked = pretended(data, data.X[:5], np.arange(5.0))
    assert set(data.ids) <= asked.taken
    pool = TestQEIProxy.proposer.propose(data, 10, seed=0)
    assert not set(pool.ids) & data.taken
    assert toy_truth(data.space, pool.X).mean() > data.y.max()


# ---- all of them


@pytest.mark.parametrize("name", [name for name in available("proposers") if name != "cma_es" or find_spec("cma")])
def test_every_method_says_what_it_is_and_its_published_form_can_be_made_and_changed(name):
    told = describe("proposers", name)
    assert told["family"]
    assert told["cost"]
    method = load("proposers", name)
    if hasattr(method, "paper"):
        assert told["source"]
        published = method.paper()
        option = "lr" if hasattr(published, "lr") else next(key for key in ("members", "layers") if hasattr(published, key))
        changed = method.paper(**{option: 7})
        assert getattr(changed, option) == 7
        assert published == replace(changed, **{option: getattr(published, option)})
        assert published != method()
        assert create("proposers", name, {"paper": True, option: 7}) == changed
        assert create("proposers", name, {"paper": False}) == method()
    else:
        with pytest.raises(ConfigError, match="no published settings"):
            create("proposers", name, {"paper": True})


def test_published_settings_are_asked_for_or_not():
    with pytest.raises(ConfigError, match="write paper: true"):
        create("proposers", "coms", {"paper": "yes, please"})
    with pytest.raises(ConfigError, match="nonsense"):
        create("proposers", "coms", {"paper": True, "nonsense": 1})
