"""The Gaussian process's term of long words."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from labloop.proposing.dataset import Dataset
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.surrogates import _kernels, _motifs
from labloop.surrogates._kernels import DesignKernel
from labloop.surrogates._motifs import Motifs, length_of
from labloop.surrogates.gp import GP

SPACES = {
    "one strand": DesignSpace(parameters=(Sequence(name="dna", length=9),)),
    "duplex": DesignSpace(parameters=(Sequence(name="dna", length=7),), symmetries=("reverse_complement",)),
    "unequal": DesignSpace(parameters=(Sequence(name="dna", length=(5, 9)),)),
    "long": DesignSpace(parameters=(Sequence(name="dna", length=24),)),
    "five letters": DesignSpace(parameters=(Sequence(name="s", alphabet="ABCDE", length=7),)),
}


def made(space: DesignSpace, n: int) -> tuple[torch.Tensor, DesignKernel, Motifs]:
    """Give designs, a kernel, and its term with rates of its own."""
    kernel = DesignKernel(space)
    (motifs,) = kernel.motifs
    with torch.no_grad():
        motifs.rates.log.copy_(torch.linspace(-2, 1, motifs.length))
        motifs.variance.log.fill_(0.4)
    return torch.tensor(space.sample(n, generator(0, "motifs"))), kernel, motifs


def by_hand(space: DesignSpace, X: torch.Tensor, motifs: Motifs) -> np.ndarray:
    """Sum over all pairs of words, by their letters."""
    b, w = motifs.block, motifs.length
    far = np.exp(-motifs.rates().detach().numpy())
    usual = float(np.prod((1 + (b.letters - 1) * far) / b.letters))
    strands = space.orbit(X.numpy())
    words = []
    for i in range(len(X)):
        letters = [x[i, b.start : b.stop].reshape(b.rows, b.classes).argmax(1).tolist() for x in strands]
        every = [tuple(one[k : k + w]) for one in letters for k in range(b.rows - w + 1)]
        words.append([one for one in every if max(one) < b.letters])
    K = np.zeros((len(X), len(X)))
    for i, j in itertools.product(range(len(X)), repeat=2):
        for one, other in itertools.product(words[i], words[j]):
            K[i, j] += math.prod(1.0 if a == c else float(r) for a, c, r in zip(one, other, far, strict=True)) - usual
    return math.exp(0.4) * K / (len(strands) ** 2 * (b.rows - w + 1) * (1 - usual))


@pytest.mark.parametrize("name", sorted(SPACES))
def test_two_designs_share_what_all_pairs_of_their_words_do(name):
    space = SPACES[name]
    X, kernel, motifs = made(space, 12)
    wanted = by_hand(space, X, motifs)
    counted, looked_up = motifs(X, X, kernel.twins, False), motifs(X, X.clone(), kernel.twins, False)
    np.testing.assert_allclose(counted.detach().numpy(), wanted, atol=1e-12)
    np.testing.assert_allclose(looked_up.detach().numpy(), wanted, atol=1e-12)
    np.testing.assert_allclose(motifs(X, X, kernel.twins, True).detach().numpy(), wanted.diagonal(), atol=1e-12)
    np.testing.assert_allclose(motifs(X[:5], X, kernel.twins, False).detach().numpy(), wanted[:5], atol=1e-12)
    # Designs in batches, of which some are shared, as BoTorch asks.
    batched = motifs(X.reshape(3, 4, -1), X.expand(3, 12, -1), kernel.twins, False).detach().numpy()
    np.testing.assert_allclose(batched.reshape(12, 12), wanted, atol=1e-12)
    assert np.linalg.eigvalsh(wanted).min() > -1e-12
    slope = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    told = [torch.autograd.grad((K * slope).sum(), [motifs.rates.log, motifs.variance.log]) for K in (counted, looked_up)]
    for one, other in zip(*told, strict=True):
        torch.testing.assert_close(one, other)


def test_a_random_design_has_about_one_unit_of_variance():
    X, kernel, motifs = made(SPACES["one strand"], 2_000)
    each = motifs(X, X, kernel.twins, True).detach().numpy() / math.exp(0.4)
    assert abs(each.mean() - 1) < 0.1


@pytest.mark.parametrize("name", ["duplex", "unequal"])
def test_neither_pieces_of_bounded_memory_nor_the_way_of_long_sequences_show(name, monkeypatch):
    X, kernel, motifs = made(SPACES[name], 12)
    whole, each = motifs(X, X, kernel.twins, False), motifs(X, X, kernel.twins, True)
    for names in ({"PAIRS": 50}, {"MANY": 1}, {"MANY": 1, "PAIRS": 2**14}, {"ROWS": 5}, {"COMPARED": 0}):
        motifs._counted = None
        with monkeypatch.context() as patched:
            for one, value in names.items():
                patched.setattr(_motifs, one, value)
            torch.testing.assert_close(motifs(X, X, kernel.twins, True), each)
            torch.testing.assert_close(motifs(X, X, kernel.twins, False), whole)
        assert (motifs._counted is None) == ("COMPARED" in names)


@pytest.mark.parametrize(
    ("alphabet", "length", "words"),
    [("ACGT", 50, 6), ("ACGT", 8, 6), ("ACGT", 6, 5), ("ACGT", 5, 4), ("AB", 12, 6), ("ACDEFGHIKLMNPQRSTVWY", 60, None)],
)
def test_words_are_as_long_as_there_are_few_of_them_and_a_sequence_holds_several(alphabet, length, words):
    (block,) = DesignSpace(parameters=(Sequence(name="s", alphabet=alphabet, length=length),)).blocks
    assert length_of(block) == words


def test_counts_are_given_back_when_a_fit_is_over():
    space = SPACES["one strand"]
    X = space.sample(30, generator(1, "motifs"))
    data = Dataset.from_measurements(space, space.decode(X), X[:, 0])
    assert [one._counted for one in GP(iterations=3).fit(data, seed=0).prior.kernel.motifs] == [None]
    assert len(GP(motifs=False, iterations=3).fit(data, seed=0).prior.kernel.motifs) == 0


def test_what_measured_designs_share_with_all_words_is_worked_out_once_for_all_predictions(monkeypatch):
    space = SPACES["one strand"]
    X = space.sample(40, generator(1, "motifs"))
    fitted = GP(iterations=3).fit(Dataset.from_measurements(space, space.decode(X[:8]), X[:8, 0]), seed=0)
    told = fitted.belief(X)
    asked, table = [], Motifs._table
    monkeypatch.setattr(Motifs, "_table", lambda self, i: (asked.append(len(i)), table(self, i))[1])
    monkeypatch.setattr("labloop.surrogates.gp.CHUNK", 10)
    np.testing.assert_allclose(fitted.belief(X), told)
    assert asked == []


def test_a_site_of_six_letters_that_act_together_is_foretold_better(monkeypatch):
    """Binding of the best of all places, as RNA and repressors do: what counts of three letters see parts of."""
    space = DesignSpace(parameters=(Sequence(name="rna", alphabet="ACGU", length=16),))
    told = []
    for seed in range(2):
        rng = generator(seed, "site")
        X, energy = space.sample(450, rng), rng.normal(size=(6, 4))
        places = [np.einsum("nwa,wa->n", X.reshape(-1, 16, 4)[:, k : k + 6], energy) for k in range(11)]
        y = np.max(places, axis=0)
        found = []
        for length in (length_of, lambda block: None):
            monkeypatch.setattr(_kernels, "length_of", length)
            train = Dataset.from_measurements(space, space.decode(X[:150]), y[:150] + 0.1 * rng.normal(size=150))
            found.append(np.corrcoef(GP().fit(train, seed=0).belief(X[150:])[0], y[150:])[0, 1])
        told.append(found)
    with_motifs, without = np.mean(told, axis=0)
    assert with_motifs > without + 0.05
