"""COMs: the contract of a proposer, the numerics of the paper's method, and what labloop does differently."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from labloop.errors import MethodError
from labloop.methods import coms
from labloop.methods._relaxation import Relaxation
from labloop.methods.coms import COMs, Networks, ascend, train
from labloop.proposing.dataset import Dataset
from labloop.runtime.progress import listening
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.studies.labs.tfbind8 import SPACE as DUPLEX
from labloop.studies.labs.tfbind8 import truth
from labloop.surrogates.training import Adam
from labloop.testing import TOY_SPACES, ProposerContract, toy_data, toy_truth

SMALL = COMs(hidden_sizes=(32, 32), epochs=1, min_steps=60, lr=4e-3, particle_train_gradient_steps=5,
             particle_evaluate_gradient_steps=80, overestimation_limit=4.0)  # fmt: skip
"""The toy data are the worst of the space, so a search that must beat random designs may overestimate by more than usual."""
OCTAMERS = DesignSpace(parameters=(Sequence(name="dna", length=8),))


class TestCOMs(ProposerContract):
    proposer = SMALL
    spaces = {name: TOY_SPACES[name] for name in ("duplex", "continuous", "mixed")}


class TestCOMsClimbing(ProposerContract):
    proposer = replace(SMALL, search="ascent")
    spaces = {name: TOY_SPACES[name] for name in ("sequence", "duplex")}


class TestCOMsAsPublished(ProposerContract):
    proposer = replace(SMALL, search="ascent", projected=False)
    spaces = {name: TOY_SPACES[name] for name in ("categorical", "continuous")}


# ---- the relaxation


@pytest.fixture(scope="module")
def octamers() -> Dataset:
    X = OCTAMERS.listing()
    return Dataset(
        space=OCTAMERS, X=X, y=np.arange(len(X)) / len(X), sem=np.full(len(X), np.nan), censored=np.zeros(len(X), dtype=int),
        n_replicates=np.ones(len(X), dtype=int), ids=OCTAMERS.listing_ids, pending=np.zeros((0, 32)),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["logits", "onehot"])
def test_every_octamer_survives_the_relaxation(octamers, kind):
    relaxation = Relaxation.of(octamers, kind)
    Z = relaxation.encode(octamers.X)
    assert Z.shape == (65_536, 24 if kind == "logits" else 32)
    np.testing.assert_array_equal(OCTAMERS.project(relaxation.decode(Z)), octamers.X)


def test_logits_have_the_three_values_of_design_bench(octamers):
    Z = Relaxation.of(octamers, "logits").encode(octamers.X).reshape(-1, 8, 3)
    assert sorted(np.unique(Z.round(4))) == [-1.9459, 0.0, 1.9459]
    codes = octamers.X.reshape(-1, 8, 4).argmax(-1)
    np.testing.assert_allclose(Z[codes == 0], -np.log(7))  # on 0.7, off 0.1
    np.testing.assert_allclose(Z[codes == 2], np.tile([0, np.log(7), 0], ((codes == 2).sum(), 1)), atol=1e-12)


def test_onehot_columns_treat_all_letters_alike():
    space = TOY_SPACES["categorical"]
    Z = Relaxation.of(toy_data(space), "onehot").encode(np.tile(np.eye(4), 4))
    apart = np.linalg.norm(Z[:, None] - Z, axis=-1)[~np.eye(4, dtype=bool)]
    np.testing.assert_allclose(apart, apart[0])


@pytest.mark.parametrize("kind", ["logits", "onehot"])
def test_projected_particles_are_designs_before_grids_and_constraints(kind):
    data = toy_data(TOY_SPACES["mixed"])
    relaxation = Relaxation.of(data, kind)
    wild = torch.randn(50, len(relaxation.discrete), generator=torch.Generator().manual_seed(0)) * 5
    at = relaxation.decode(relaxation.projection(torch.device("cpu"))(wild).numpy())
    expected = data.space.project(relaxation.decode(wild.numpy()))
    for block in data.space.blocks:
        mine, grid = at[:, block.start : block.stop], expected[:, block.start : block.stop]
        if block.kind == "onehot":
            mine = mine.reshape(50, block.rows, -1).argmax(-1)
            np.testing.assert_array_equal(mine, grid.reshape(50, block.rows, -1).argmax(-1))
        else:
            np.testing.assert_allclose(mine, grid, atol=0.051)  # the mixture's grid is 0.05, the integer's 1/29


# ---- the ascent


def networks(members: int = 3, r: int = 24) -> Networks:
    return Networks.draw(range(members), (r, 64, 48, 1), torch.device("cpu"))


def particles(members: int = 3, r: int = 24) -> torch.Tensor:
    return torch.randn(members, 40, r, generator=torch.Generator().manual_seed(0))


def test_the_written_out_gradient_is_the_one_of_autograd():
    nets, z, rate = networks(), particles(), torch.linspace(0.5, 2, 24)
    there = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(nets(there).sum(), there)
    (moved,) = ascend(nets, z, rate, 1)
    torch.testing.assert_close(moved - z, rate * gradient, rtol=1e-4, atol=1e-6)
    (moved,) = ascend(nets, z, rate, 1, dtype=torch.bfloat16)
    # Rounding flips a unit here and there, so single entries may differ; the direction may not.
    assert torch.cosine_similarity((moved - z).flatten(1), (rate * gradient).flatten(1)).min() > 0.99


def test_the_entropy_term_adds_the_gradient_of_the_spread():
    nets, z, rate, kappa = networks(1), particles(1), torch.full((24,), 0.3), 0.7
    (plain,) = ascend(nets, z, rate, 1)
    (spread,) = ascend(nets, z, rate, 1, kappa=kappa, gens=[torch.Generator().manual_seed(5)])
    perm = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    there = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(40 * kappa * ((there - there[:, perm]) ** 2).mean(), there)
    torch.testing.assert_close(spread - plain, rate * gradient, rtol=1e-4, atol=1e-5)


def test_particles_at_rest_are_left_out_and_end_where_they_would_have():
    nets, z, rate, asked = networks(), particles(), torch.full((24,), 6.0), []

    def project(x: torch.Tensor) -> torch.Tensor:
        asked.append(x.shape[1])
        return x.sign()

    path = list(ascend(nets, z, rate, 10, project=project, settles=True))
    for before, after in itertools.pairwise([z, *path]):
        (expected,) = ascend(nets, before, rate, 1, project=torch.sign)
        assert torch.equal(after, expected)
    assert len(path) == 10
    assert 40 == asked[0] > asked[-1] > 0


def test_small_steps_only_climb():
    nets, z = networks(), particles()
    heights = torch.stack([nets(at).detach() for at in [z, *ascend(nets, z, torch.full((24,), 1e-3), 20)]])
    assert (heights.diff(dim=0) > -1e-6).all()


# ---- training


@pytest.mark.parametrize("projected", [True, False])
def test_one_seed_alone_is_the_same_as_among_others(projected):
    data = toy_data(TOY_SPACES["sequence"])
    options = replace(SMALL, min_steps=40, projected=projected)
    several = train(data, options, [11, 12, 13])
    for member, seed in enumerate([11, 12, 13]):
        alone = train(data, options, [seed])
        np.testing.assert_allclose(several.score(data.X)[member], alone.score(data.X)[0], atol=1e-4)
        np.testing.assert_allclose(several.alpha[member], alone.alpha[0], rtol=1e-4)
    assert np.ptp(several.score(data.X), axis=0).max() > 0.01


def test_with_alpha_fixed_at_zero_it_is_gradient_ascent_on_a_plain_network():
    """Sanity assert (i): the same batches through torch's own layers, loss and autograd give the same designs."""
    data = toy_data(TOY_SPACES["sequence"])
    options = replace(SMALL, alpha=0.0, val_size=0, min_steps=30, batch_size=20, projected=False, search="ascent")
    model = train(data, options, [3])

    drawn = Networks.draw([3], (18, 32, 32, 1), torch.device("cpu"))
    plain = nn.Sequential(nn.Linear(18, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    with torch.no_grad():
        for layer, weight, bias in zip(plain[::2], drawn.weights, drawn.biases, strict=True):
            layer.weight.copy_(weight[0].T)
            layer.bias.copy_(bias[0, 0])
    Z = torch.tensor(model.relaxation.encode(data.X), dtype=torch.float32)
    y = torch.tensor((data.y - data.y.mean()) / data.y.std(), dtype=torch.float32)
    gen = coms.torch_generator(3, "coms", "batches")
    rows = torch.randperm(len(data), generator=gen)
    adam = Adam(plain.parameters(), lr=options.lr)  # whose steps are those of torch's, without its compiler
    for _ in range(10):
        for batch in rows[torch.randperm(len(data), generator=gen)].split(20):
            adam.zero_grad()
            nn.functional.mse_loss(plain(Z[batch])[:, 0], y[batch]).backward()
            adam.step()
    z = Z[data.top(8).tolist()]
    for _ in range(80):
        z.requires_grad_()
        (gradient,) = torch.autograd.grad(plain(z).sum(), z)
        z = (z + 2.0 * np.sqrt(18) * gradient).detach()

    expected = data.space.repair(model.relaxation.decode(z.numpy()))
    np.testing.assert_array_equal(model.climb(data.X[data.top(8)])[-1, 0], expected)
    assert model.alpha[0] == 0


def test_alpha_moves_until_held_out_overestimation_meets_the_limit():
    """Sanity asserts (ii) and (iii): the mean of Δ on held-out designs ends near τ, where without the term it is far above."""
    space = TOY_SPACES["continuous"]
    X = space.sample(400, generator(0, "test"))
    data = Dataset.from_measurements(space, space.decode(X), toy_truth(space, X))
    options = COMs(hidden_sizes=(32, 32), epochs=1, min_steps=300, lr=2e-3, particle_train_gradient_steps=20)
    model = train(data, options, [0, 1])
    free = train(data, replace(options, alpha=0.0), [0, 1])
    assert model.tau == 0.5
    assert (free.delta > 1.0).all()
    np.testing.assert_allclose(model.delta, model.tau, atol=0.25)
    assert (np.abs(np.log(model.alpha_path[100] / 0.1)) > 0.5).all()


def test_the_limit_follows_the_space():
    few = replace(SMALL, overestimation_limit=None, min_steps=1)
    limits = {name: train(toy_data(space), few, [0]).tau for name, space in TOY_SPACES.items()}
    assert limits == {"sequence": 2.0, "duplex": 2.0, "categorical": 2.0, "continuous": 0.5, "mixed": 0.5}


def test_small_data_still_get_a_number_of_steps_and_large_data_their_passes():
    data = toy_data(TOY_SPACES["sequence"])
    assert train(data, replace(SMALL, min_steps=70), [0]).steps == 70
    assert train(data, replace(SMALL, min_steps=1, epochs=9, batch_size=10, val_size=4), [0]).steps == 9 * 5
    assert train(data, replace(SMALL, min_steps=1, epochs=9, batch_size=10, val_size=4, max_steps=20), [0]).steps == 20


def test_bounds_are_errors_on_their_wrong_side_only():
    f, y = torch.tensor([[1.0, 1.0, 1.0]]), torch.zeros(1, 3)
    error = coms._squared_error(f, y, torch.tensor([[-1.0, 0.0, 1.0]]))
    assert error.item() == pytest.approx(2 / 3)  # above an upper bound and an exact value, not above a lower bound


def test_both_strands_of_a_duplex_score_alike_and_are_held_out_together():
    data = toy_data(TOY_SPACES["duplex"])
    model = train(data, replace(SMALL, min_steps=5), [0])
    here, there = data.space.orbit(data.X)
    np.testing.assert_allclose(model.score(here), model.score(there), rtol=1e-6)
    assert model.options.val_size > 0
    assert np.isfinite(model.delta).all()


# ---- proposing


def test_projected_training_ranks_designs_better_than_the_published_one_from_500_octamers():
    """With 500 of the lower half, unprojected particles cost the model its ranking of real designs."""
    X = DUPLEX.listing()
    y = truth(X)
    rows = generator(1, "start").choice(np.flatnonzero(y <= np.median(y)), 500, replace=False)
    data = Dataset.from_measurements(DUPLEX, DUPLEX.decode(X[rows]), y[rows])
    few = COMs(hidden_sizes=(128, 128), min_steps=150, lr=1e-3, epochs=1, particle_train_gradient_steps=10)
    batch = {projected: truth(replace(few, projected=projected).propose(data, 96, seed=0).X) for projected in (True, False)}
    assert batch[True].mean() > 0.65
    assert batch[True].mean() > batch[False].mean()


def test_the_pool_tells_how_it_was_made():
    labels = set()
    with listening(lambda label, done, total: labels.add(label)):
        pool = SMALL.propose(toy_data(TOY_SPACES["mixed"]), 4, seed=0)
    assert labels == {"coms: training"}
    assert pool.notes.keys() >= {"alpha", "delta_validation", "overestimation_limit", "steps", "device", "seconds", "search"}
    assert pool.notes["search"] == "ascent"
    assert (np.diff(pool.score) <= 0).all()


def test_more_designs_than_the_paths_visit_are_found_by_search():
    data = toy_data(TOY_SPACES["sequence"]).take(np.arange(6))
    options = replace(SMALL, search="ascent", min_steps=5, particle_evaluate_gradient_steps=1)
    pool = options.propose(data, 40, seed=0)
    assert len(set(pool.ids) - data.taken) == 40


def test_it_says_what_it_cannot_do():
    mixed = toy_data(TOY_SPACES["mixed"])
    with pytest.raises(MethodError, match="cannot enumerate"):
        replace(SMALL, search="enumerate").propose(mixed, 4, seed=0)
    with pytest.raises(MethodError, match="at least two measured designs"):
        SMALL.propose(mixed.take(np.arange(1)), 4, seed=0)
