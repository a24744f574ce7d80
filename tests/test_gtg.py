"""GTG: its contract, and the numbers of each of its stages."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from labloop.methods import _ranked_proxies, gtg
from labloop.methods._diffusion import NoiseSchedule, clean
from labloop.methods._temporal_unet import TemporalUNet
from labloop.methods._trajectories import Trajectories, build_trajectories
from labloop.methods.gtg import GTG
from labloop.proposing.dataset import Dataset
from labloop.runtime.progress import listening
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.surrogates.networks import StackedCNN, load_stacked
from labloop.surrogates.training import Adam, rate_of
from labloop.testing import TOY_SPACES, ProposerContract, toy_data, toy_truth
from labloop.types import FloatArray

TINY = GTG(
    n_traj=40, horizon=8, context=4, k=10, dim=8, dim_mults=(1, 2), steps=4, batch_size=32, proxy_batch=32,
    proxies=3, proxy_hidden=(32, 32),
    proxy_steps=120, proxy_lr=5e-3, sampling_steps=3, n_samples=64,
)  # fmt: skip


class TestGTG(ProposerContract):
    proposer = replace(TINY, n_traj=20, proxies=2, proxy_steps=40, proxy_lr=1e-2, n_samples=32)
    spaces = {kind: TOY_SPACES[kind] for kind in ("duplex", "continuous", "mixed")}


def standard(data: Dataset) -> FloatArray:
    return (data.y - data.y.min()) / (data.y.max() - data.y.min())


@pytest.fixture(params=sorted(TOY_SPACES))
def data(request: pytest.FixtureRequest) -> Dataset:
    return toy_data(TOY_SPACES[request.param], 120)


# ---- trajectories


def walk(data: Dataset, **changes: float) -> Trajectories:
    options = {"n_traj": 50, "horizon": 8, "k": 6, "eps": 0.1, "seed": 0, **changes}
    return build_trajectories(data.space, data.X, standard(data), **options)  # type: ignore[arg-type]


def test_trajectories_rise(data: Dataset) -> None:
    s = standard(data)[walk(data).rows.numpy()]
    assert (np.diff(np.maximum.accumulate(s, 1).mean(0)) >= 0).all()
    assert s[:, -1].mean() > s[:, 0].mean() + 0.1
    assert s[:, 0].min() >= np.percentile(standard(data), 20)


def test_every_next_state_is_within_eps_of_the_running_best_or_among_the_h_best(data: Dataset) -> None:
    for eps in (0.0, 0.05, 0.3):
        s = standard(data)
        path = s[walk(data, eps=eps).rows.numpy()]
        best = np.maximum.accumulate(path, 1)[:, :-1]
        assert (path[:, 1:] >= np.minimum(best - eps, np.sort(s)[-8]) - 1e-6).all()


def test_every_next_state_is_one_of_the_k_nearest_that_are_good_enough_and_new(data: Dataset) -> None:
    """Against a plain search with the space's own distances."""
    s, rows = standard(data), walk(data).rows.numpy()
    D = data.space.distance(data.X, data.X)
    floor = np.sort(s)[-8]
    for path in rows:
        for t in range(1, len(path)):
            good = s >= min(s[path[:t]].max() - 0.1, floor) - 1e-7
            good[path[:t]] = False
            reach = np.sort(D[path[t - 1], good])[: min(6, good.sum())][-1]
            assert good[path[t]]
            assert D[path[t - 1], path[t]] <= reach + 2e-4


def test_no_trajectory_visits_a_design_twice(data: Dataset) -> None:
    rows = walk(data).rows
    assert all(len(set(path)) == len(path) for path in rows.tolist())


def test_states_are_the_designs_and_scores_of_their_rows(data: Dataset) -> None:
    paths = walk(data)
    X = (paths.states[..., :-1].double().numpy() + 1) / 2
    np.testing.assert_allclose(data.space.canonical(X.reshape(-1, data.space.d)), data.X[paths.rows.flatten()], atol=1e-6)
    np.testing.assert_allclose((paths.states[..., -1] + 1) / 2, standard(data)[paths.rows], atol=1e-6)


def test_on_duplex_dna_a_trajectory_goes_on_along_the_nearer_strand() -> None:
    data = toy_data(TOY_SPACES["duplex"], 120)
    paths = walk(data)
    X = (paths.states[..., :-1] + 1) / 2
    moved = (X[:, 1:] != X[:, :-1]).sum(-1).numpy() / 2
    twins = data.space.distance(data.X, data.X)[paths.rows[:, :-1], paths.rows[:, 1:]]
    np.testing.assert_allclose(moved, twins)


def test_ties_are_broken_at_random_not_by_the_order_of_the_table() -> None:
    """From AAAA every single mutant is as near as another: with k = 1 all of them must be reached."""
    space = DesignSpace(parameters=(Sequence(name="dna", length=4),))
    X = np.concatenate([space.listing()[:1], space.neighbours(space.listing()[0])])
    paths = build_trajectories(
        space, X, np.ones(13), n_traj=400, horizon=2, k=1, eps=1.0, start_percentile=0, seed=0
    )  # fmt: skip
    steps = [
        build_trajectories(space, X, np.r_[0.0, np.ones(12)], n_traj=60, horizon=2, k=1, eps=1.0, start_percentile=0, seed=seed)
        for seed in range(30)
    ]
    reached = {path[1] for one in [paths, *steps] for path in one.rows.tolist() if path[0] == 0}
    assert reached == set(range(1, 13))


def test_no_trajectory_takes_designs_from_another() -> None:
    """Upstream what one has visited is far away for all that follow; here 200 of them go over the same ten designs."""
    data = toy_data(TOY_SPACES["sequence"], 10)
    rows = walk(data, n_traj=200, horizon=10, k=10, eps=2.0).rows.numpy()
    assert (np.sort(rows, axis=1) == np.arange(10)).all()
    first, last = (walk(data, n_traj=200, horizon=4, k=2, eps=0.1).rows[part].numpy() for part in (slice(100), slice(100, None)))
    steps = [{(a, b) for path in rows for a, b in itertools.pairwise(path)} for rows in (first.tolist(), last.tolist())]
    assert len(steps[0] & steps[1]) > 0.5 * len(steps[0] | steps[1])


def test_a_column_without_change_moves_no_other() -> None:
    """Upstream one such column shifts all of them by one."""
    data = toy_data(TOY_SPACES["mixed"], 120)
    table = data.space.decode(data.X).assign(ph=6.5)
    still = Dataset.from_measurements(data.space, table, data.y)
    paths = walk(still)
    np.testing.assert_allclose((paths.states[..., :-1].double().numpy() + 1) / 2, still.X[paths.rows], atol=1e-6)


def test_the_first_state_is_learned_as_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream its noise is zero, for a conditioning that is not used."""
    noises, noised = [], gtg.diffusion.q_sample
    monkeypatch.setattr(gtg.diffusion, "q_sample", lambda *given: noises.append(given[3]) or noised(*given))  # type: ignore[func-returns-value]
    data = toy_data(TOY_SPACES["sequence"])
    gtg.train_denoiser(walk(data).states, data.space.blocks, TINY, seed=0)
    by_state = torch.cat(noises).std((0, 2))
    torch.testing.assert_close(by_state, torch.ones(8), atol=0.1, rtol=0)


def test_each_proxy_draws_batches_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream members differ by their first weights alone, so that two that start alike stay alike."""

    def alike(*given: object, really=_ranked_proxies.networks, **options: object):  # type: ignore[no-untyped-def]
        for net in really(*given, **options):
            for weight in net.parameters():
                weight.data.copy_(weight.data[:1].expand_as(weight))
            yield net

    monkeypatch.setattr(_ranked_proxies, "networks", alike)
    data = toy_data(TOY_SPACES["sequence"], 15)  # too few to leave some out
    proxies = gtg.train_proxies(data, standard(data), replace(TINY, proxies=2), seed=0)[0]
    assert all(not torch.equal(*value) for value in proxies.values() if value.shape[0] == 2)


def test_proxies_see_the_best_designs_most(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def watched(*given: object, really=_ranked_proxies.networks, **options: object):  # type: ignore[no-untyped-def]
        for net in really(*given, **options):
            net.register_forward_pre_hook(lambda _, shown: seen.append(shown[0]) if shown[0].ndim == 3 else None)
            yield net

    monkeypatch.setattr(_ranked_proxies, "networks", watched)
    data = toy_data(TOY_SPACES["sequence"], 15)
    scores = dict(zip(data.ids, standard(data), strict=True))

    def drawn(rank_k: float) -> float:
        seen.clear()
        gtg.train_proxies(data, standard(data), replace(TINY, proxies=2, proxy_steps=20, rank_k=rank_k), seed=0)
        designs = (torch.cat(seen).flatten(0, 1).double().numpy() + 1) / 2
        return float(np.mean([scores[one] for one in data.space.ids(designs)]))

    assert drawn(0.01) > drawn(1.0) > standard(data).mean()


def test_a_handful_of_designs_is_enough() -> None:
    data = toy_data(TOY_SPACES["sequence"], 3)
    assert walk(data, horizon=4).rows.shape == (50, 4)
    assert len(TINY.propose(data, 5, seed=0)) == 5


# ---- the networks


def test_a_hidden_return_has_no_effect_and_a_shown_one_has() -> None:
    net = TemporalUNet.fresh(5, 8, (1, 2, 4), "mish", generator=torch.Generator().manual_seed(0))
    x, t = torch.randn(3, 16, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 5, 100])
    low, high, yes, no = torch.full((3,), -1.0), torch.full((3,), 2.0), torch.ones(3), torch.zeros(3)
    assert net(x, t, low, yes).shape == x.shape
    assert torch.equal(net(x, t, low, no), net(x, t, high, no))
    assert (net(x, t, low, yes) - net(x, t, high, yes)).abs().amax() > 1e-4


def test_training_lowers_the_loss_and_bfloat16_learns_as_well() -> None:
    data = toy_data(TOY_SPACES["mixed"])
    states, blocks = walk(data).states, data.space.blocks
    few, many = (replace(TINY, steps=steps, precision="float32", lr=3e-3) for steps in (2, 40))
    half = replace(many, precision="bfloat16")
    first, last, rough = (
        gtg.train_denoiser(states, blocks, options, seed=0)[1]["denoiser_loss"] for options in (few, many, half)
    )
    assert last < 0.9 * first
    assert rough == pytest.approx(last, rel=0.05)


def test_an_output_of_zero_means_the_posterior_under_letters_of_equal_chance() -> None:
    """Against Bayes' rule written out with normal densities; numbers are left as they are where noise is low."""
    space, schedule = TOY_SPACES["mixed"], NoiseSchedule.cosine(200)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, space.d + 1, generator=rng, dtype=torch.float64)
    for t in (0, 60, 199):
        level = float(schedule.alpha_bar(t, x))
        x0 = clean(schedule, space.blocks, x, torch.tensor([t, t]), torch.zeros_like(x))
        for block in space.blocks:
            part, guess = (one[..., block.start : block.stop].unflatten(-1, (block.rows, -1)) for one in (x, x0))
            if block.kind == "onehot":
                corners = 2 * torch.eye(block.classes, dtype=torch.float64) - 1
                distance = ((part[..., None, :] - level**0.5 * corners) ** 2).sum(-1)
                weight = torch.softmax(-distance / (2 * (1 - level)), -1)
                torch.testing.assert_close(guess, weight @ corners, rtol=1e-6, atol=1e-9)
            elif t == 0:
                torch.testing.assert_close(guess, part, rtol=1e-3, atol=1e-3)


def test_proxies_rank_designs_that_they_have_not_seen() -> None:
    data = toy_data(TOY_SPACES["sequence"], 400)
    _, told = gtg.train_proxies(data, standard(data), replace(TINY, proxies=4, proxy_steps=200), seed=0)
    assert told["proxy_rank_correlation"] > 0.7
    shuffled = np.random.default_rng(0).permutation(standard(data))
    _, chance = gtg.train_proxies(data, shuffled, replace(TINY, proxies=4, proxy_steps=200), seed=0)
    assert abs(chance["proxy_rank_correlation"]) < 0.3


def test_proxies_of_a_thousand_long_sequences_are_of_the_kind_that_ranks_unseen_ones_better() -> None:
    space = DesignSpace(parameters=(Sequence(name="dna", length=20),))
    X = space.sample(1000, np.random.default_rng(0))
    codes = X.reshape(1000, 20, 4).argmax(-1)
    motifs = sum(((codes[:, i] == 2) & (codes[:, i + 1] == 1)).astype(float) for i in range(19))
    data = Dataset.from_measurements(space, space.decode(X), motifs)
    options = replace(TINY, proxies=2, proxy_hidden=(64,), proxy_steps=100, features="letters")
    weights, told = gtg.train_proxies(data, standard(data), options, seed=0)
    assert told["proxies_convolutional"] == 1
    assert told["proxy_rank_correlation"] > 0.7
    assert type(load_stacked(weights, space=data.space)) is StackedCNN


def test_proxy_scores_are_in_the_unit_of_y_and_equal_for_both_strands() -> None:
    data = toy_data(TOY_SPACES["duplex"])
    options = replace(TINY, proxy_steps=150)
    trained = gtg.train(data, options, seed=0)
    score = gtg.score(trained, data.space, data.X)
    assert np.sqrt(np.mean((score - data.y) ** 2)) < 0.3 * data.y.std()
    np.testing.assert_allclose(gtg.score(trained, data.space, data.space.orbit(data.X)[1]), score, atol=1e-4)


def test_a_bound_from_below_may_be_exceeded_and_an_exact_value_is_met() -> None:
    """All designs read as 0, those with a T in front only as "0 or more", their mutants elsewhere higher."""
    space = TOY_SPACES["sequence"]
    X = space.sample(200, np.random.default_rng(0))
    X = X[space.fresh(X)]
    first, last = X[:, :4].argmax(1), X[:, -4:].argmax(1)
    values = 1.0 * (last == 0)
    bound = (first == 3) & (last == 0)
    values[bound] = 0.2
    designs = space.decode(X)
    options = replace(TINY, proxies=2, proxy_steps=150)

    def fitted(qualifiers: list[str]) -> float:
        data = Dataset.from_measurements(space, designs, values, qualifiers=qualifiers)
        return float(gtg.score(gtg.train(data, options, seed=0), space, X[bound]).mean())

    assert fitted([">" if one else "=" for one in bound]) > fitted(["="] * len(X)) + 0.2


# ---- sampling


@pytest.fixture(scope="module")
def walked() -> tuple[Dataset, GTG, gtg.Trained]:
    """A model of random local walks, whose returns differ much, that continues them from one state only."""
    data = toy_data(TOY_SPACES["sequence"], 400)
    options = replace(
        TINY, n_traj=400, eps=1.0, context=1, dim=16, steps=200, batch_size=64, lr=5e-3, proxy_steps=100, sampling_steps=10,
        temperature=1.0,
    )  # fmt: skip
    return data, options, gtg.train(data, options, seed=0)


def mean_score(walked: tuple[Dataset, GTG, gtg.Trained], **changes: float) -> float:
    data, options, trained = walked
    states = gtg.sample(trained, replace(options, **changes), 128, seed=0)
    X = (states[:, 1:, :-1].flatten(0, 1).double().numpy() + 1) / 2
    return float(gtg.score(trained, data.space, data.space.repair(X)).mean())


def test_guided_samples_score_above_unguided_ones_and_a_higher_return_gives_better_designs(walked) -> None:  # type: ignore[no-untyped-def]
    low, unguided, high = mean_score(walked, w=2.0, alpha=0.5), mean_score(walked, w=0.0), mean_score(walked, w=2.0, alpha=1.0)
    spread = walked[0].y.std()
    assert low < unguided - 0.1 * spread
    assert high > unguided + 0.3 * spread


def test_the_context_is_kept_to_the_digit_and_the_rest_is_new(walked) -> None:  # type: ignore[no-untyped-def]
    _, options, trained = walked
    for context in (1, 3):
        held = replace(trained, context=trained.context.repeat(1, context, 1))
        states = gtg.sample(held, options, 32, seed=0)
        known = {tuple(row) for row in held.context.flatten(1).tolist()}
        assert all(tuple(row) in known for row in states[:, :context].flatten(1).tolist())
        assert not torch.equal(states[:-1, context:], states[1:, context:])


def test_generated_states_stay_inside_the_space_and_below_the_score_limit(walked) -> None:  # type: ignore[no-untyped-def]
    _, options, trained = walked
    states = gtg.sample(trained, replace(options, alpha=50.0, w=5.0), 64, seed=0)
    assert states[..., :-1].abs().max() <= 1
    assert states[..., -1].abs().max() <= 2 * 50 - 1
    modest = gtg.sample(trained, options, 64, seed=0)
    assert modest[..., -1].max() <= 2 * gtg.SCORE_LIMIT - 1


def test_weights_are_plain_tensors_that_survive_a_safetensors_file(walked) -> None:  # type: ignore[no-untyped-def]
    from safetensors.torch import load, save

    data, options, trained = walked
    again = replace(trained, denoiser=load(save(dict(trained.denoiser))), proxies=load(save(dict(trained.proxies))))
    assert torch.equal(gtg.sample(again, options, 8, seed=0), gtg.sample(trained, options, 8, seed=0))
    np.testing.assert_array_equal(gtg.score(again, data.space, data.X[:9]), gtg.score(trained, data.space, data.X[:9]))


def test_too_few_generated_designs_are_filled_up_with_mutants_of_trajectory_designs() -> None:
    data = toy_data(TOY_SPACES["mixed"])
    pool = replace(TINY, n_samples=1, max_rounds=1).propose(data, 40, seed=0)
    assert len(pool) == 40
    assert pool.notes["candidates"] == 4
    assert pool.notes["filled"] >= 36


def test_more_rounds_are_sampled_only_where_one_gives_too_few() -> None:
    data = toy_data(TOY_SPACES["continuous"])
    assert TINY.propose(data, 5, seed=0).notes["sampling_rounds"] == 1
    assert TINY.propose(data, 400, seed=0).notes["sampling_rounds"] > 1


def test_the_pool_is_ranked_by_the_proxies_and_tells_of_its_making() -> None:
    data = toy_data(TOY_SPACES["sequence"])
    pool = TINY.propose(data, 10, seed=0)
    assert (np.diff(pool.score) <= 0).all()
    np.testing.assert_allclose(pool.score, gtg.score(gtg.train(data, TINY, seed=0), data.space, pool.X), rtol=1e-5)
    assert pool.notes["trajectory_mean_first"] < pool.notes["trajectory_mean_last"]
    for name in ("unique_new_share", "proxy_rank_correlation", "seconds_denoiser", "seconds_sampling", "device", "precision"):
        assert isinstance(pool.notes[name], float | int | str)


def test_every_stage_reports_its_progress() -> None:
    heard: dict[str, int] = {}
    with listening(lambda label, done, _total: heard.update({label: done})):
        replace(TINY, features="letters").propose(toy_data(TOY_SPACES["sequence"]), 3, seed=0)
    assert heard == {"gtg: trajectories": 7, "gtg: proxies": 120, "gtg: diffusion": 4, "gtg: sampling": 1}


def test_equal_measurements_everywhere_are_no_obstacle() -> None:
    space = TOY_SPACES["continuous"]
    X = space.sample(30, np.random.default_rng(0))
    data = Dataset.from_measurements(space, space.decode(X), np.full(30, 2.5))
    assert np.isfinite(TINY.propose(data, 6, seed=0).score).all()


def test_the_papers_settings_are_an_option_set() -> None:
    paper = GTG.paper(steps=5)
    assert (paper.horizon, paper.context, paper.dim, paper.sampling_steps, paper.steps) == (64, 32, 32, 200, 5)
    with pytest.raises(ValueError, match="nonsense"):
        GTG.paper(nonsense=1)


def test_the_papers_averages_reach_back_and_its_rates_stay() -> None:
    def ends(options: GTG, steps: int = 40) -> float:
        adam = Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        rate = rate_of(adam, options.rate, steps, least=1e-5)
        for _ in range(steps):
            adam.step()
            rate.step()
        return float(rate.get_last_lr()[0])

    paper = GTG.paper()
    assert gtg.decay_of(paper, paper.steps) == paper.ema_decay
    assert gtg.decay_of(GTG(), 1_000) < paper.ema_decay
    assert ends(paper) == pytest.approx(1e-3)
    assert ends(GTG()) == pytest.approx(1e-5)
    assert (paper.batch_size, paper.proxy_batch) == (256, 128)


def test_a_training_follows_its_averaging_and_its_rate() -> None:
    data = toy_data(TOY_SPACES["sequence"])
    letters = replace(TINY, features="letters")  # what is fitted in closed form has no rate
    kinds = (letters, replace(letters, rate="constant"), replace(letters, averaging="long"))
    trained = [gtg.train(data, options, seed=0) for options in kinds]
    weights, proxies = [one.denoiser for one in trained], [one.proxies for one in trained]

    def apart(one: object, other: object) -> bool:
        return any(not torch.equal(one[name], other[name]) for name in one)  # type: ignore[index,attr-defined]

    assert apart(weights[0], weights[1])
    assert apart(weights[0], weights[2])
    assert apart(proxies[0], proxies[1])
    assert not apart(proxies[0], proxies[2])


def test_it_climbs_above_what_it_was_shown() -> None:
    """The better half of a toy problem is kept out of the data; the proposals are mostly from that half."""
    data = toy_data(TOY_SPACES["sequence"], 400)
    pool = replace(TINY, proxies=6, proxy_steps=200, n_samples=64).propose(data, 24, seed=0)
    assert np.median(toy_truth(data.space, pool.X)) > data.y.max()
