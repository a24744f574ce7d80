"""BRAID: the contract in all its forms, and what its mathematics promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'labloop-toolkit[models]'")

from torch import nn  # noqa: E402

from labloop.config.ramp import ramped  # noqa: E402
from labloop.errors import ConfigError, MethodError  # noqa: E402
from labloop.methods import braid  # noqa: E402
from labloop.methods._composition import count_3mers, distance_of_3mers  # noqa: E402
from labloop.methods._conservative import Reward, _whitening, conserve, train_reward  # noqa: E402
from labloop.methods._diffusion import NoiseSchedule  # noqa: E402
from labloop.methods._prior import States, load_denoiser, read_unlabelled, train_prior, walk  # noqa: E402
from labloop.methods.braid import BRAID, STRL, BRAIDBonus, Guidance, finetune, sample, train  # noqa: E402
from labloop.proposing.dataset import Dataset  # noqa: E402
from labloop.registry import create  # noqa: E402
from labloop.space.design_space import DesignSpace  # noqa: E402
from labloop.space.parameters import Real, Sequence  # noqa: E402
from labloop.surrogates.networks import StackedCNN, StackedMLP  # noqa: E402
from labloop.surrogates.training import Adam  # noqa: E402
from labloop.testing import TOY_SPACES, ProposerContract, toy_data  # noqa: E402

TINY = {
    "hidden": (32, 32), "reward_steps": 60, "reward_lr": 1e-2, "width": 8, "depth": 2, "prior_steps": 60, "prior_lr": 1e-2,
    "steps": 8, "grad_steps": 4, "iterations": 12, "batch_size": 32, "lr": 5e-3, "kl": 0.1, "n_samples": 96, "max_rounds": 2,
}  # fmt: skip
QUICK = {**TINY, "reward_steps": 30, "prior_steps": 10, "steps": 4, "grad_steps": 2, "iterations": 6, "n_samples": 64}
"""For the contract: every stage runs, and that is all."""
DNA = TOY_SPACES["sequence"]
TWO = {kind: TOY_SPACES[kind] for kind in ("duplex", "mixed")}


class TestBoot(ProposerContract):
    proposer = BRAID(**QUICK, heads=2)
    spaces = {kind: TOY_SPACES[kind] for kind in ("duplex", "continuous", "mixed")}


class TestBonus(ProposerContract):
    # At full size the bonus keeps to the data, and the contract's data are the worse half: the random designs would win.
    proposer = BRAIDBonus(**QUICK, heads=2, penalty=0.3)
    spaces = TWO


class TestSTRL(ProposerContract):
    proposer = STRL(**QUICK)
    spaces = TWO


class TestGuidance(ProposerContract):
    proposer = Guidance(**QUICK)
    spaces = TWO


def states_of(space: DesignSpace, steps: int = 8) -> States:
    return States(space, NoiseSchedule.cosine(steps), torch.device("cpu"))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encode(*sequences: str) -> np.ndarray:
    space = DesignSpace(parameters=(Sequence(name="dna", length=len(sequences[0])),))
    return space.encode(pd.DataFrame({"dna": sequences}))


# ---- the prior


def test_the_prior_learns_which_letters_go_together():
    letters = np.array(list("ACGT"))[np.random.default_rng(0).integers(4, size=(400, 3))]
    X = encode(*("".join(a + a for a in row) for row in letters))
    states = states_of(DNA, 12)
    weights, told = train_prior(states, X, width=48, depth=2, steps=400, lr=1.5e-2, seed=0)
    x, _ = walk(states, load_denoiser(states, weights), torch.randn(500, 24, generator=seeded()), generator=seeded(1))
    codes = x.reshape(500, 6, 4).argmax(-1)
    assert (codes[:, ::2] == codes[:, 1::2]).float().mean() > 0.8  # 0.25 by chance
    assert codes.float().std() > 0.9  # of all letters, not of one
    assert told["prior_heldout_loss"] < 6 * np.log(4)


def test_the_prior_of_a_long_sequence_is_convolutional_and_reads_neighbours():
    rng = np.random.default_rng(0)
    X = encode(*("".join("AC"[(i + j) % 2] for i in range(20)) for j in rng.integers(2, size=200)))
    states = states_of(DesignSpace(parameters=(Sequence(name="dna", length=20),)), 12)
    weights, _ = train_prior(states, X, width=16, depth=2, steps=80, lr=2e-2, seed=0)
    net = load_denoiser(states, weights)
    assert net.length == 20
    x, _ = walk(states, net, torch.randn(100, 80, generator=seeded()), generator=seeded(1))
    codes = x.reshape(100, 20, 4).argmax(-1)
    assert (codes[:, 1:] != codes[:, :-1]).float().mean() > 0.9


def test_numbers_of_the_prior_keep_their_mean_and_spread():
    space = DesignSpace(parameters=(Real(name="ph", low=0, high=10), Real(name="salt", low=0, high=1)))
    X = np.random.default_rng(0).normal([0.3, 0.7], [0.05, 0.15], size=(400, 2)).clip(0, 1)
    states = states_of(space, 20)
    weights, _ = train_prior(states, X, width=16, depth=2, steps=200, lr=1e-2, seed=0)
    x, _ = walk(states, load_denoiser(states, weights), torch.randn(1000, 2, generator=seeded()), generator=seeded(1))
    np.testing.assert_allclose(x.mean(0), [0.3, 0.7], atol=0.03)
    np.testing.assert_allclose(x.std(0), [0.05, 0.15], rtol=0.35)


def test_hard_designs_pass_the_gradient_on_as_soft_ones_do():
    states = states_of(TOY_SPACES["mixed"])
    soft = torch.rand(5, states.space.d, generator=seeded()).requires_grad_()
    weight = torch.randn(states.space.d, generator=seeded(1))
    hard = states.harden(soft)
    letters = hard[:, states.letters]
    assert set(letters.detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(hard[:, ~states.letters], soft[:, ~states.letters])
    (gradient,) = torch.autograd.grad((hard * weight).sum(), soft)
    torch.testing.assert_close(gradient, weight.expand(5, -1))


# ---- the heads of long sequences

LONG = DesignSpace(parameters=(Sequence(name="dna", length=24),))


@pytest.mark.parametrize("length", [17, 23, 50, 120])
def test_convolutional_networks_side_by_side_are_so_many_separate_ones(length):
    net = StackedCNN(3, 4, (16,), generator=seeded())
    x = torch.randn(3, 5, 4 * length, generator=seeded(1))
    found = net(x)
    for i in range(3):
        one = StackedCNN(1, 4, (16,), generator=seeded())
        one.load_state_dict({name: value[i : i + 1] for name, value in net.state_dict().items()})
        torch.testing.assert_close(found[i], one(x[i])[0])
    torch.testing.assert_close(net(x[0])[0], found[0])


def test_a_convolutional_network_finds_a_letter_at_either_end_of_a_sequence():
    """Against the definition, with filters that see one letter: the largest in each window, and 0 where nothing is left."""
    net = StackedCNN(1, 4, (16,), generator=seeded())
    for filters, offsets in zip(net.filters, net.offsets, strict=True):
        filters.data.zero_()
        offsets.data.zero_()
        filters.data[0, 0, 3] = 1.0  # the middle of the first channel
    seen = []
    for length in (17, 50, 120):
        for place in (0, length - 1):
            x = torch.zeros(1, length, 4)
            x[0, place, 0] = 1.0
            found = net._windows(x.flatten(1), 0).reshape(32, 10)
            seen.append(int(found[0].argmax()))
            assert found.sum() == 1
    assert seen == [0, 8, 0, 9, 0, 9]  # of 17 letters nine windows of two, of 120 forty places and ten windows of four


@pytest.mark.parametrize("convolutional", [True, False])
def test_the_heads_of_a_thousand_long_sequences_are_of_the_kind_that_predicts_better(convolutional):
    rng = np.random.default_rng(0)
    X = LONG.sample(1000, rng)
    codes = X.reshape(1000, 24, 4).argmax(-1)
    if convolutional:  # how often one motif stands anywhere
        y = sum(((codes[:, i] == 2) & (codes[:, i + 1] == 1)).astype(float) for i in range(23))
    else:  # a weight of its own for each letter at each place
        y = X @ rng.standard_normal(X.shape[1])
    data = Dataset.from_measurements(LONG, LONG.decode(X), y)
    states = states_of(LONG)
    fitted, told = train_reward(states, data, form="bonus", heads=2, hidden=(64,), steps=100, seed=0)
    assert told["reward_convolutional"] == convolutional
    assert told["reward_rank_correlation"] > 0.7
    reward = Reward.of(states, data, fitted, form="bonus")
    assert np.corrcoef(reward.plain_in_y(data.X), data.y)[0, 1] > 0.8  # the kind that was fitted is the kind that is loaded
    assert (reward.in_y(data.X) < reward.plain_in_y(data.X)).all()


def test_a_row_counts_in_a_heads_gram_matrix_as_often_as_the_head_drew_it():
    """Counts are the same as the rows repeated; a row that a head never drew makes nothing there familiar."""
    rng = torch.Generator().manual_seed(0)
    net = StackedMLP(2, 6, (8,), generator=rng)
    x = torch.randn(30, 6, generator=rng)
    counts = torch.arange(30) % 3  # none, one or two of each
    held, missed = x[:9], torch.ones(2, 9)

    def whitening(rows, often):
        with torch.no_grad():
            return _whitening(net, rows, often.expand(2, -1).float(), held, missed, 1e-3)

    drawn = whitening(x, counts)
    torch.testing.assert_close(drawn, whitening(x.repeat_interleave(counts, 0), torch.ones(30)), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(drawn, whitening(x, torch.ones(30)), rtol=1e-2)
    with torch.no_grad():  # and bonuses are as large as the errors on rows that were held out, in squares
        bonus = torch.bmm(net.features(held), drawn.mT).square().sum(-1)
    torch.testing.assert_close(bonus.sum(1), missed.square().sum(1), rtol=1e-3, atol=1e-3)


def test_3mers_are_counted_at_every_place_and_sets_of_sequences_compared_by_them():
    counts = count_3mers(encode("AACGT", "AACGG"), 4)
    word = {"AAC": 1, "ACG": 6, "CGT": 27, "CGG": 26}  # A, C, G, T as digits to the base 4
    assert {name: counts[i] for name, i in word.items()} == {"AAC": 2, "ACG": 2, "CGT": 1, "CGG": 1}
    assert counts.sum() == 6
    assert distance_of_3mers(counts, 7 * counts) == pytest.approx(0, abs=1e-7)
    assert distance_of_3mers(counts, count_3mers(encode("TTTTT"), 4)) == pytest.approx(1)


def test_the_notes_tell_how_far_from_the_data_long_sequences_are_composed_and_a_larger_kl_keeps_them_near():
    X = LONG.sample(150, np.random.default_rng(0))
    data = Dataset.from_measurements(LONG, LONG.decode(X), X.reshape(150, 24, 4)[:, :, 2].sum(1))  # the more G the better
    short = {**TINY, "iterations": 12, "lr": 1e-2, "prior_steps": 20, "n_samples": 64}
    loose, tight = (STRL(**{**short, "kl": kl}).propose(data, 20, seed=0).notes for kl in (0.01, 30.0))
    assert loose["3mer_distance_of_prior"] == tight["3mer_distance_of_prior"]
    assert loose["3mer_distance"] > tight["3mer_distance"] + 0.05
    assert "3mer_distance" not in STRL(**QUICK).propose(toy_data(DNA), 5, seed=0).notes


# ---- the KL of a path


class _Shifted(nn.Module):
    """A network, linear in the state, whose estimate of x0 is one constant at all times."""

    def __init__(self, states: States, constant: torch.Tensor) -> None:
        super().__init__()
        self.states, self.constant = states, constant

    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        enter, skip, leave = self.states._tables[:, t]
        return (self.constant - skip * z / enter) / leave


def test_the_path_kl_of_linear_networks_is_half_the_squared_shift_times_the_gain_in_signal_to_noise():
    states = states_of(TOY_SPACES["continuous"], 30)
    here, there = torch.tensor([0.2, -0.1]), torch.tensor([0.25, 0.1])
    z = torch.randn(4, 2, generator=seeded())
    _, kl = walk(states, _Shifted(states, here), z, generator=seeded(1), frozen=_Shifted(states, there))
    level = torch.cumprod(1 - states.schedule.betas, 0)
    snr = level / (1 - level)
    # The steps telescope (Kingma et al., "Variational Diffusion Models", 2021, eq. 14); the last one keeps the noise of time 0.
    expected = 0.5 * (here - there).square().sum() * (snr[0] - snr[-1] + snr[0])
    torch.testing.assert_close(kl, expected.float().expand(4), rtol=2e-3, atol=0)


def test_the_kl_of_a_step_is_that_of_two_normal_distributions():
    states = states_of(TOY_SPACES["mixed"], 10)
    new, old = torch.randn(2, 6, states.space.d, generator=seeded())
    level = torch.cumprod(1 - states.schedule.betas, 0)
    for t in (1, 5, 9):
        beta, before = states.schedule.betas[t], level[t - 1]
        x = [states.state(states.mean(e)).double() * before.sqrt() * beta / (1 - level[t]) for e in (new, old)]
        deviation = ((1 - before) / (1 - level[t]) * beta).sqrt()
        apart = torch.distributions.kl_divergence(*(torch.distributions.Normal(mean, deviation) for mean in x)).sum(1)
        torch.testing.assert_close(states.step_kl(t, new, old), apart.float(), rtol=1e-4, atol=1e-5)


def test_the_last_step_of_letters_has_the_kl_of_their_probabilities():
    states = states_of(DNA)
    new, old = torch.randn(2, 6, 24, generator=seeded())
    p, q = (torch.distributions.Categorical(logits=e.reshape(6, 6, 4)) for e in (new, old))
    torch.testing.assert_close(states.step_kl(0, new, old), torch.distributions.kl_divergence(p, q).sum(1))


def test_a_path_of_the_prior_itself_costs_nothing():
    states = states_of(TOY_SPACES["mixed"])
    weights, _ = train_prior(states, toy_data(states.space).X, width=8, depth=2, steps=5, seed=0)
    net = load_denoiser(states, weights)
    _, kl = walk(states, net, torch.randn(5, states.space.d, generator=seeded()), generator=seeded(1), frozen=net)
    assert kl.abs().max() == 0


# ---- fine-tuning


@pytest.fixture(scope="module")
def prior():
    states = states_of(DNA)
    X = DNA.sample(300, np.random.default_rng(0))
    return states, train_prior(states, X, width=8, depth=2, steps=60, seed=0)[0]


def likes_a(x: torch.Tensor) -> torch.Tensor:
    """How many letters are A."""
    return x.reshape(len(x), -1, 4)[..., 0].sum(1)


def test_fine_tuning_raises_the_reward_and_its_kl_falls_as_the_coefficient_rises(prior):
    states, weights = prior
    won, spent = [], []
    for kl in (0.0, 0.3, 3.0):
        notes = finetune(states, weights, likes_a, BRAID(**{**TINY, "iterations": 25, "lr": 2e-2, "kl": kl}), seed=0)[1]
        won.append(notes["reward_after"])
        spent.append(notes["kl_last_steps"])
    assert won[0] > won[1] > won[2]
    assert won[1] > 3  # of six letters; the prior has 1.5
    assert spent[0] > spent[1] > spent[2]
    assert won[2] < 2.5


def test_one_optimiser_serves_the_whole_fine_tuning(prior, monkeypatch):
    """Upstream makes a new one each iteration, whose every step is then the gradient's sign."""
    made = []
    monkeypatch.setattr(braid, "Adam", lambda *given, **options: made.append(Adam(*given, **options)) or made[-1])
    finetune(*prior, likes_a, BRAID(**TINY), seed=0)
    (one,) = made
    assert {int(state["step"]) for state in one.state.values()} == {TINY["iterations"]}


def test_gradients_flow_through_the_last_steps_only(prior):
    states, weights = prior
    net = load_denoiser(states, weights)
    x, _ = walk(states, net, torch.randn(64, 24, generator=seeded()), generator=seeded(1), grad_last=3)
    torch.autograd.backward(likes_a(states.harden(x)).sum())
    by_time = net.time.weight.grad.abs().sum(1)
    assert (by_time[3:] == 0).all()
    assert (by_time[:3] > 0).all()


def test_fine_tuning_leaves_the_prior_as_it_was(prior):
    states, weights = prior
    before = {name: value.clone() for name, value in weights.items()}
    tuned, _ = finetune(states, weights, likes_a, BRAID(**QUICK), seed=0)
    assert all(torch.equal(before[name], weights[name]) for name in before)
    assert any(not torch.equal(before[name], tuned[name]) for name in before)


def test_guidance_moves_samples_and_not_weights():
    data = toy_data(DNA)
    options = Guidance(**TINY)
    trained = train(data, options, seed=0)
    assert trained.policy is trained.prior
    plain = train(data, replace(options, guidance=1e-6), seed=0)
    better, _ = sample(trained, options, 200, seed=0)
    usual, _ = sample(plain, replace(options, guidance=1e-6), 200, seed=0)
    reward = trained.reward
    assert reward(trained.states.harden(better)).mean() > reward(trained.states.harden(usual)).mean() + 0.3


# ---- the conservative reward


def narrow_data() -> tuple[Dataset, torch.Tensor, torch.Tensor]:
    """Data whose first three letters are A or C; designs like these, and designs whose first three are G or T."""
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.integers(2, size=(300, 3)), rng.integers(4, size=(300, 3))], axis=1)
    X = np.eye(4)[codes].reshape(300, -1)
    y = codes[:, 3:].sum(1) + codes[:, 0] * codes[:, 1] + 0.1 * rng.normal(size=300)
    beyond = codes.copy()
    beyond[:, :3] = 3 - beyond[:, :3]
    data = Dataset.from_measurements(DNA, DNA.decode(X[:200]), y[:200])
    return data, torch.tensor(X[200:]).float(), torch.tensor(np.eye(4)[beyond[200:]].reshape(100, -1)).float()


@pytest.mark.parametrize("form", ["boot", "bonus"])
def test_the_conservative_reward_is_below_the_plain_one_and_more_so_off_the_data(form):
    data, near, far = narrow_data()
    fitted, notes = train_reward(states_of(DNA), data, form=form, heads=4, hidden=(32, 32), steps=200, lr=5e-3, seed=0)
    reward = Reward.of(states_of(DNA), data, fitted, form=form)
    off, on = (reward.heads(x).mean(0) - reward(x) for x in (far, near))
    assert on.min() > 0
    assert off.mean() > 1.5 * on.mean()
    assert notes["reward_rank_correlation"] > 0.7


@pytest.mark.parametrize("form", ["boot", "bonus"])
def test_the_sign_of_the_penalty_turns_caution_into_optimism(form):
    data, _, far = narrow_data()
    fitted, _ = train_reward(states_of(DNA), data, form=form, heads=3, hidden=(16, 16), steps=50, lr=5e-3, seed=0)
    reward = Reward.of(states_of(DNA), data, fitted, form=form)
    bold, plain, cautious = (replace(reward, penalty=penalty)(far) for penalty in (-0.5, 0.0, 1.0))
    assert (bold > plain).all()
    assert (plain > cautious).all()


def test_boot_is_the_least_of_the_heads_or_the_greatest_and_bonus_is_taken_off():
    heads, bonus = torch.tensor([[1.0, 5.0], [3.0, 4.0]]), torch.tensor([0.5, 2.0])
    assert conserve(heads, None, "boot", 1.0).tolist() == [1, 4]
    assert conserve(heads, None, "boot", -1.0).tolist() == [3, 5]
    assert conserve(heads, None, "boot", 0.5).tolist() == [1.5, 4.25]
    assert conserve(heads, bonus, "bonus", 2.0).tolist() == [1.0, 0.5]
    assert conserve(heads, bonus, "bonus", -1.0).tolist() == [2.5, 6.5]
    assert conserve(heads, None, "none", 1.0).tolist() == [2, 4.5]


def test_a_round_file_schedules_the_penalty():
    options = {"penalty": {"first": -0.5, "last": 1.0}}
    first, last = (create("proposers", "labloop.methods.braid:BRAID", ramped(options, round_number=i, rounds=4)) for i in (1, 4))
    assert (first.penalty, last.penalty) == (-0.5, 1.0)
    with pytest.raises(ConfigError, match="options: form, mode, penalty, kl"):
        create("proposers", "labloop.methods.braid:STRL", {"penalti": 1})


def test_both_strands_of_a_duplex_have_one_reward():
    data = toy_data(TOY_SPACES["duplex"])
    fitted, _ = train_reward(states_of(data.space), data, form="bonus", heads=2, hidden=(16,), steps=20, seed=0)
    reward = Reward.of(states_of(data.space), data, fitted, form="bonus")
    a, b = (torch.tensor(twin).float() for twin in data.space.orbit(data.X))
    torch.testing.assert_close(reward(a), reward(b))


def test_an_upper_bound_costs_nothing_while_the_belief_is_below_it():
    X = encode("AAAAAA", "CCCCCC", "GGGGGG", "TTTTTT")
    designs = DNA.decode(np.repeat(X, 1, axis=0))
    bound = Dataset.from_measurements(DNA, designs, [1.0, 1.0, 0.0, 3.0], qualifiers=["=", "=", "=", "<"])
    value = Dataset.from_measurements(DNA, designs, [1.0, 1.0, 0.0, 3.0])
    believed = []
    for data in (bound, value):
        fitted, _ = train_reward(states_of(DNA), data, form="none", hidden=(16,), steps=200, lr=1e-2, seed=0)
        reward = Reward.of(states_of(DNA), data, fitted, form="none")
        believed.append(reward.in_y(encode("TTTTTT"))[0])
    assert believed[0] < believed[1]


# ---- few data, small spaces, files


def test_few_measurements_are_enough_and_the_notes_tell_what_was_done():
    pool = BRAID(**QUICK, heads=3).propose(toy_data(DNA, 25), 24, seed=0)
    assert len(set(pool.ids)) == 24
    assert {"path_kl", "kl_last_steps", "reward_before", "reward_after", "reward_rank_correlation", "unique_share", "device",
            "seconds_prior", "seconds_reward", "seconds_finetuning", "seconds_sampling", "filled"} <= set(pool.notes)  # fmt: skip
    assert all(isinstance(value, str | int | float) for value in pool.notes.values())


def test_a_collapsed_model_still_fills_the_pool_with_mutants_of_its_samples():
    pool = BRAID(**{**TINY, "kl": 0.0, "iterations": 30, "lr": 2e-2, "n_samples": 32}, heads=2).propose(
        toy_data(DNA), 200, seed=0
    )
    assert len(set(pool.ids)) == 200
    assert pool.notes["filled"] > 0


def unlabelled(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def test_unlabelled_designs_shape_the_prior(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["".join(rng.choice(list("ACGT"), 4)) + "GG" for _ in range(400)]
    path = unlabelled(tmp_path / "library.csv", "name,dna", *(f"clone{i},{row}" for i, row in enumerate(rows)))
    options = Guidance(**{**TINY, "prior_steps": 80, "guidance": 1e-6})
    shares = []
    for one in (options, replace(options, unlabelled=path)):
        trained = train(toy_data(DNA), one, seed=0)
        x, _ = sample(trained, one, 200, seed=0)
        shares.append((x.reshape(200, 6, 4).argmax(-1)[:, 4:] == 2).all(1).float().mean())
    assert trained.notes["prior_designs"] == 460
    assert shares[1] > 0.6 > 0.3 > shares[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(["dna", "ACGTAC", "ACGTNC"], r"library\.csv: row 3, dna: letters 'N'.*'ACGTNC'", id="letter"),
        pytest.param(["dna", "ACGT"], r"library\.csv: row 2, dna: length 4 is not 6", id="length"),
        pytest.param(["seq", "ACGTAC"], r"library\.csv: design columns are missing: dna \(there are: seq\)", id="column"),
        pytest.param(["dna"], r"library\.csv has no rows", id="no rows"),
        pytest.param([""], r"library\.csv is not a CSV table", id="empty"),
        pytest.param(["PK\3\4"], r"library\.csv is an Excel workbook.*save it as CSV", id="workbook"),
    ],
)
def test_a_wrong_file_of_unlabelled_designs_is_refused_with_its_place(tmp_path, rows, message):
    with pytest.raises(MethodError, match=message):
        read_unlabelled(DNA, unlabelled(tmp_path / "library.csv", *rows))


def test_a_missing_file_of_unlabelled_designs_is_named(tmp_path):
    with pytest.raises(MethodError, match=r"nowhere\.csv cannot be read: No such file"):
        BRAID(**TINY, unlabelled=tmp_path / "nowhere.csv").propose(toy_data(DNA), 4, seed=0)
