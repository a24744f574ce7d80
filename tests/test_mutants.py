"""Mutants of a parent: their names, their number, and that nothing proposes one with more substitutions than allowed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from labloop.campaign.checks import check_start
from labloop.errors import DesignError
from labloop.proposing.dataset import Dataset
from labloop.registry import create
from labloop.space import mutants
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence

AMINO = "ACDEFGHIKLMNPQRSTVWY"
PARENT = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKA"


def space_of(parent: str = PARENT, mutations: int = 5, alphabet: str = AMINO) -> DesignSpace:
    return DesignSpace(parameters=(Sequence(name="protein", parent=parent, mutations=mutations, alphabet=alphabet),))


def differing(space: DesignSpace, X: np.ndarray) -> np.ndarray:
    parent = space.parameters[0].parent
    return np.array([sum(a != b for a, b in zip(one, parent, strict=True)) for one in space.decode(X)["protein"]])


def test_a_parent_is_written_as_designs_are():
    wrapped = "\n".join([PARENT[:30].lower(), PARENT[30:].lower()])
    assert space_of(wrapped) == space_of()


def test_names_spell_mutants_and_spelled_ones_are_named():
    space = space_of()
    told = pd.DataFrame({"protein": ["WT", "M1A", "p.K2R;T3S", "T3S, K2R", "MKTAYIAKQR" + PARENT[10:]]})
    spelled = space.decode(space.encode(told))["protein"].tolist()
    assert spelled[0] == spelled[4] == PARENT
    assert spelled[2] == spelled[3]
    assert [mutants.named(one, PARENT) for one in spelled[:3]] == ["WT", "M1A", "K2R;T3S"]


@pytest.mark.parametrize("cell", ["p.[Lys2Arg;Thr3Ser]", "p.Lys2Arg;p.THR3SER", "Lys2Arg-T3S", "K2R_T3S", "K2R + T3S", "k2r|t3s"])
def test_names_are_read_as_labs_write_them(cell):
    space = space_of()
    (spelled,) = space.decode(space.encode(pd.DataFrame({"protein": [cell]})))["protein"]
    assert mutants.named(spelled, PARENT) == "K2R;T3S"


@pytest.mark.parametrize("alphabet", ["acgt", "ACGTm", "ACGT"])
def test_names_are_read_in_either_case_where_the_alphabet_has_one(alphabet):
    parent = alphabet[0] * 3 + alphabet[1] * 3
    space = DesignSpace(parameters=(Sequence(name="dna", parent=parent, mutations=2, alphabet=alphabet),))
    name = f"{alphabet[0]}2{alphabet[-1]};{alphabet[1]}4{alphabet[2]}"
    texts = space.decode(space.encode(pd.DataFrame({"dna": [name, name.swapcase()]})))["dna"].tolist()
    assert [mutants.named(one, parent) for one in texts] == [name, name]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("V1A", "at 1 the parent has M"), ("M99A", "positions 1 to"), ("24", "no substitution"), ("Xyz1Ala", "no substitution"),
        ("M1B", "'B' are not in the alphabet"),
        ("M1A;K2A;T3A;A4C;Y5A;I6A", "at most 5 mutations"), ("M1A;M1C", "position 1 is changed already"),
    ],
    ids=["other letter", "beyond", "no name", "no code", "no letter", "too many", "twice"],
)  # fmt: skip
def test_a_name_that_cannot_be_is_refused_with_its_reason(cell, said):
    with pytest.raises(DesignError) as told:
        space_of().encode(pd.DataFrame({"protein": [cell]}))
    assert said in told.value.faults[0].rule


@pytest.mark.parametrize(
    "options",
    [{"parent": "ACGT"}, {"length": 4, "mutations": 2}, {"parent": "ACGT", "length": 5, "mutations": 1},
     {"parent": "ACGX", "mutations": 1}, {"parent": "ACGT", "mutations": 5}],
    ids=["no number", "no parent", "two lengths", "strange letter", "more than letters"],
)  # fmt: skip
def test_a_parent_that_does_not_fit_is_refused(options):
    with pytest.raises(ValidationError):
        Sequence(name="dna", **options)


def test_what_people_write_for_letters_and_numbers_of_mutations_is_understood():
    spelled = Sequence(name="p", alphabet="ACDEFGHIKLMNPQRSTVWY", parent="MKTAY", mutations=3)
    assert Sequence.model_validate({"name": "p", "alphabet": "protein", "parent": "MKTAY", "mutations": [1, 3]}) == spelled
    assert Sequence.model_validate({"name": "p", "alphabet": "Protein", "parent": "MKTAY", "mutations": [1, 3]}) == spelled
    assert Sequence(name="s", alphabet="rna", length=4).alphabet == "ACGU"
    assert Sequence(name="s", alphabet="DNA", length=4).alphabet == "ACGT"
    assert Sequence(name="s", alphabet="DNA", parent="ACGT", mutations=1).alphabet == "ACGT"
    assert Sequence(name="s", alphabet="DNA", parent="DNAN", mutations=1).alphabet == "DNA", "asparagine is no base"
    with pytest.raises(ValidationError, match="mutations"):
        Sequence.model_validate({"name": "p", "alphabet": "protein", "parent": "MKTAY", "mutations": [2, 3]})


def test_small_spaces_are_listed_whole():
    space = space_of("ACGT", 2, "ACGT")
    X = space.listing()
    assert len(X) == space.size == 1 + 4 * 3 + 6 * 9
    assert len(set(space.ids(X))) == len(X)
    assert differing(space, X).max() == 2


def test_more_mutants_than_any_number_says_are_without_end():
    assert mutants.count(1_200, 20, 600) == np.inf


def test_random_mutated_and_repaired_designs_keep_the_number_of_mutations():
    space, rng = space_of(), np.random.default_rng(0)
    X = space.sample(200, rng)
    assert set(differing(space, X)) == {1, 2, 3, 4, 5}
    for _ in range(3):
        X = space.mutate(X, rng, steps=2)
    assert differing(space, X).mean() > 1
    assert differing(space, X).max() <= 5
    assert differing(space, space.repair(rng.random((20, space.d)))).max() <= 5
    near = space.neighbours(X[0])
    assert differing(space, near).max() <= 5


@pytest.mark.parametrize("proposer", ["random", "mutate", "gp_mean"])
def test_proposers_offer_mutants_of_the_parent(proposer):
    space, rng = space_of(PARENT[:12], 3), np.random.default_rng(1)
    X = space.sample(30, rng)
    data = Dataset.from_measurements(space, space.decode(X), differing(space, X).astype(float))
    options = {"generations": 3} if proposer == "gp_mean" else {}
    pool = create("proposers", proposer, options).propose(data, 8, seed=0)
    assert differing(space, pool.X).max() <= 3


def test_check_names_the_best_mutants_of_a_start_file(tmp_path):
    parameter = "{type: sequence, name: protein, parent: MKTAYI, mutations: 2, alphabet: protein}"
    (tmp_path / "campaign.yaml").write_text(f"name: m\nspace: {{parameters: [{parameter}]}}\nobjective: {{assay: od}}\n")
    (tmp_path / "start.csv").write_text("protein,value\nK2A,1\nA4G;M1V,3\nWT,2\n")
    told, refused = check_start(tmp_path / "campaign.yaml", tmp_path / "start.csv")
    assert refused is None
    assert [one["protein_mutations"] for one in told["best"]] == ["M1V;A4G", "WT", "K2A"]
