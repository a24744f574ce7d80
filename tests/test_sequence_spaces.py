"""Mutants of a parent, libraries and sequences of unequal length, from every kind of proposer to the bench."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from labloop import Campaign
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, DesignError
from labloop.registry import create
from labloop.report.collect import collect
from labloop.space import lengths
from labloop.space.constraints import ForbiddenMotifs, GCRange, LengthRange, MaxHomopolymer
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Sequence
from labloop.testing import toy_data

AMINO = "ACDEFGHIKLMNPQRSTVWY"
TINY = {
    "random": {}, "mutate": {}, "pairwise": {}, "forest": {"trees": 4},
    "gp_mean": {"generations": 2}, "ensemble": {"members": 2, "hidden": (16,), "steps": 20},
    "qei": {"samples": 32, "candidates": 48, "optimised": 1, "restarts": 1, "iterations": 30, "generations": 2},
    "coms": {"hidden_sizes": (16,), "epochs": 1, "min_steps": 20, "particle_train_gradient_steps": 3},
    "gtg": {"n_traj": 20, "horizon": 8, "context": 4, "k": 5, "dim": 8, "dim_mults": (1, 2), "steps": 2, "batch_size": 16,
            "proxies": 1, "proxy_hidden": (16,), "proxy_steps": 20, "sampling_steps": 2, "n_samples": 32},
    "braid": {"hidden": (16,), "reward_steps": 20, "width": 8, "depth": 1, "prior_steps": 20, "steps": 4, "grad_steps": 2,
              "iterations": 2, "batch_size": 16, "n_samples": 32, "max_rounds": 1, "heads": 2},
}  # fmt: skip
"""Every way to look for designs that labloop has: lists, mutation, local search, gradients, generators."""
SPACES = {
    "mutants": DesignSpace(
        parameters=(Sequence(name="protein", parent="MKTAYIAKQRQISFVKSHFS", mutations=3, alphabet=AMINO, scales="amino_acids"),)
    ),
}
LIBRARY = DesignSpace(
    parameters=(Sequence(name="dna", length=8), Choice(name="host", options=("coli", "yeast"))),
    constraints=(GCRange(parameter="dna", low=0.2),),
    library={
        "dna": ["".join(letters) for letters in np.random.default_rng(3).choice(list("ACGT"), (90, 8))],
        "host": ["coli", "yeast", "coli"] * 30,
    },
)
SPACES["library"] = LIBRARY
UNEQUAL = DesignSpace(
    parameters=(Sequence(name="promoter", length=[8, 12]),),
    constraints=(GCRange(parameter="promoter", low=0.2, high=0.8), MaxHomopolymer(parameter="promoter", length=3)),
)
SPACES["lengths"] = UNEQUAL
ROUND = parse_config(
    {"arms": {"near": {"proposers": "fakes:Near"}, "free": {"proposers": "random"}}, "judge": "fakes:Flat"}, RoundConfig
)


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("proposer", TINY)
def test_proposers_offer_new_designs_of_the_space(proposer, kind):
    data = toy_data(SPACES[kind], 30)
    pool = create("proposers", proposer, TINY[proposer]).propose(data, 8, seed=0)
    assert not data.space.check(data.space.decode(pool.X))
    assert len(set(pool.ids) - data.taken) == 8
    assert list(pool.ids) == data.space.ids(pool.X)
    assert (data.space.canonical(pool.X) == pool.X).all()


def campaign(config, home, n=30) -> Campaign:
    run = Campaign.create(config, home=home)
    designs = run.config.space.decode(run.config.space.sample(n, np.random.default_rng(1)))
    value = [100.0 + text.count("K") for text in designs[run.config.space.columns[0]]]
    designs.assign(value=value).to_csv(home / "start.csv", index=False)
    run.ingest(home / "start.csv")
    return run


def measured(run: Campaign, out) -> None:
    form = pd.read_csv(out / f"{run.name}-R01_assay.csv", dtype=str)
    form.assign(value="100.5").to_csv(out / "filled.csv", index=False)
    run.ingest(out / "filled.csv")


def test_mutants_are_named_wherever_a_person_reads_them(tmp_path):
    config = load_config(preset("campaigns/protein.yaml"), CampaignConfig)
    run = campaign(config, tmp_path)
    parent = config.space.parameters[0].parent
    run.propose(ROUND)
    out = tmp_path / "out"
    run.export(out)
    for file in ("picks", "platemap"):
        told = pd.read_csv(out / f"protein-R01_{file}.csv").dropna(subset="protein")
        assert len(told) > 80
        for name, text in zip(told["protein_mutations"], told["protein"], strict=True):
            assert 1 <= len(name.split(";")) <= 5
            assert all(parent[int(one[1:-1]) - 1] == one[0] and text[int(one[1:-1]) - 1] == one[-1] for one in name.split(";"))
    assert told["protein_mutations"].iloc[0] in (out / "protein-R01_grid.csv").read_text()
    measured(run, out)
    table = pd.read_csv(run.export_dataset(tmp_path / "all.csv")[0])
    assert table["protein_mutations"].notna().all()
    assert set(collect(run).top["design"]) <= set(table["protein_mutations"])  # as the report shows them


def test_a_parameter_cannot_be_called_as_the_column_of_names():
    with pytest.raises(ValueError, match="protein_mutations: labloop names mutants"):
        DesignSpace(parameters=(*SPACES["mutants"].parameters, Sequence(name="protein_mutations", length=2)))


# ---- a library


SHELF = """
schema_version: 1
name: shelf
space:
  parameters:
    - {type: sequence, name: dna}
    - {type: choice, name: host}
    - {type: real, name: dose, low: 0, high: 10}
  library: designs.csv
"""
ROWS = "plate,dna,host,dose\nS1,ACGTAC,coli,1.50\nS1,TTGTAC,coli,2\nS1,ACGGGG,yeast,2.5\nS2,ACGGGG,coli,2.5\n"


def shelf(folder, rows=ROWS, text=SHELF) -> CampaignConfig:
    (folder / "designs.csv").write_text(rows)
    (folder / "campaign.yaml").write_text(text)
    return load_config(folder / "campaign.yaml", CampaignConfig)


def test_a_library_is_read_once_and_nothing_else_is_a_design(tmp_path):
    config = shelf(tmp_path)
    space = config.space
    assert space.parameters[0].length == 6
    assert space.parameters[1].options == ("coli", "yeast")
    assert space.listable
    assert not space.continuous
    assert set(space.decode(space.listing())["dna"]) == {"ACGTAC", "TTGTAC", "ACGGGG"}
    (tmp_path / "designs.csv").unlink()  # the ledger keeps what was read
    assert CampaignConfig.model_validate_json(config.model_dump_json()) == config
    assert "library" not in json.loads(SPACES["mutants"].model_dump_json())
    strange = pd.DataFrame({"dna": ["ACGTAC"], "host": ["yeast"], "dose": [1.5]})
    with pytest.raises(DesignError) as told:
        space.encode(strange)
    assert "is in the library" in told.value.faults[0].rule
    X = space.encode(strange, strict=False)  # what was measured is learned from all the same
    assert space.feasible(space.repair(X)).all()


def test_a_library_beyond_memory_is_refused_before_it_is_encoded():
    with pytest.raises(ValueError, match="more than the"):
        DesignSpace(parameters=(Sequence(name="dna", length=20_000),), library={"dna": ["A"] * 2_000})


def test_steps_through_a_library_stay_in_it_and_near():
    rng = np.random.default_rng(0)
    X = LIBRARY.sample(30, rng)
    for found in (X, LIBRARY.mutate(X, rng, steps=2), LIBRARY.neighbours(X[0]), LIBRARY.repair(rng.random((20, LIBRARY.d)))):
        assert LIBRARY.feasible(found).all()
    near, chance = LIBRARY.mutate(X, rng), LIBRARY.sample(30, rng)
    assert np.diag(LIBRARY.distance(X, near)).mean() < np.diag(LIBRARY.distance(X, chance)).mean()
    assert (np.diag(LIBRARY.distance(X, near)) > 0).all()
    assert len(LIBRARY.listing()) < 90  # the constraint holds there too


@pytest.mark.parametrize(
    ("rows", "text", "said"),
    [
        (ROWS.replace("host", "strain"), SHELF, "designs.csv has no column 'host' (plate, dna, strain, dose)"),
        (ROWS.replace("TTGTAC", "TTXTAC"), SHELF, "designs.csv, row 3: dna 'TTXTAC' letters 'X' are not in the alphabet"),
        (ROWS.replace("2.5", "25"), SHELF, "designs.csv, row 4: dose '25'"),
        (ROWS.replace("yeast", ""), SHELF, "designs.csv, row 4: host is blank"),
        (ROWS[:39], SHELF.replace("name: host}", "name: host, options: [coli, yeast]}"), "1 different designs, where 2"),
        (ROWS, SHELF.replace("designs.csv", "no.csv"), "no.csv cannot be read"),
        (ROWS, SHELF.replace("designs.csv", "{dna: [ACGTAC, ACGTAA], host: [a]}"), "library has no column dose"),
        (ROWS, SHELF.replace("designs.csv", "{dna: [ACGTAC, ACGTAA], host: [a, a], dose: [1, 25]}"), "library, design 2: dose"),
        (ROWS, SHELF.replace("designs.csv", "{dna: [A, C], host: [a], dose: [1]}"), "as many rows as the others"),
    ],
    ids=["no column", "letter", "range", "blank", "one", "no file", "by value", "place by value", "lengths"],
)
def test_a_library_that_cannot_be_is_refused_with_its_place(tmp_path, rows, text, said):
    if "{" in text.split("library:")[1]:
        text = text.replace("name: dna}", "name: dna, length: 6}").replace("name: host}", "name: host, options: [a, b]}")
    with pytest.raises(ConfigError, match=r"campaign\.yaml") as told:
        shelf(tmp_path, rows, text)
    assert said in str(told.value)


def test_a_strange_letter_of_a_long_sequence_is_told_with_its_place():
    space = DesignSpace(parameters=(Sequence(name="dna", length=(40, 60)),))
    with pytest.raises(DesignError) as told:
        space.encode(pd.DataFrame({"dna": ["ACGT" * 11, "acgt" * 5 + "n" + "acgt" * 5]}))
    (fault,) = told.value.faults
    assert fault.rule == "letters 'N' are not in the alphabet ACGT, the first at position 21"


def test_a_campaign_on_a_library_proposes_what_is_on_the_shelf_and_a_revision_brings_more(tmp_path):
    config = parse_config(
        {"name": "shelf", "space": LIBRARY.model_dump(), "assays": {"assay": {}}, "plate": {"wells": 24}}, CampaignConfig
    )
    run = campaign(config, tmp_path, n=20)
    run.propose(ROUND)
    chosen = run.batch().designs
    assert set(LIBRARY.ids(LIBRARY.encode(chosen.reset_index(drop=True)))) <= set(LIBRARY.listing_ids)
    more = {name: (*cells, one) for (name, cells), one in zip(LIBRARY.library.items(), ("GGGGCCCC", "yeast"), strict=True)}
    told = run.revise(config.model_copy(update={"space": LIBRARY.model_copy(update={"library": more})}), reason="a new tube")
    assert any("designs of a library can be proposed now" in str(line) for line in told)
    assert "GGGGCCCC" in set(run.config.space.decode(run.config.space.listing())["dna"])


# ---- sequences of unequal length


def edits(a: str, b: str) -> int:
    """Levenshtein's distance by its table."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
    return row[-1]


def texts(space: DesignSpace, X) -> list[str]:
    return space.decode(X)[space.columns[0]].tolist()


def test_sequences_of_every_length_are_read_written_and_counted():
    told = pd.DataFrame({"promoter": ["ACGTACGT", "acgt acgt acgt", "CCATGATGAA"]})
    X = UNEQUAL.encode(told)
    assert texts(UNEQUAL, X) == ["ACGTACGT", "ACGTACGTACGT", "CCATGATGAA"]
    assert len(set(UNEQUAL.ids(X))) == 3
    with pytest.raises(DesignError) as refused:
        UNEQUAL.encode(pd.DataFrame({"promoter": ["ACGT"]}))
    assert refused.value.faults[0].rule == "length 4 is not 8 to 12"
    small = DesignSpace(parameters=(Sequence(name="x", length=[1, 3], alphabet="AB"),))
    assert sorted(texts(small, small.listing())) == sorted(
        ["A", "B", "AA", "AB", "BA", "BB", "AAA", "AAB", "ABA", "ABB", "BAA", "BAB", "BBA", "BBB"]
    )
    assert small.size == 14
    assert Sequence(name="x", length=[4, 4]) == Sequence(name="x", length=4)
    assert DesignSpace.model_validate_json(UNEQUAL.model_dump_json()) == UNEQUAL


@pytest.mark.parametrize(
    ("options", "said"),
    [({"length": [6, 4]}, "is above the longest"), ({"length": [2, 4], "parent": "ACGT", "mutations": 1}, "leave length out")],
)
def test_lengths_that_cannot_be_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Sequence(name="x", **options)


def test_strands_and_unequal_lengths_do_not_go_together():
    with pytest.raises(ValueError, match="needs sequences of one length"):
        DesignSpace(parameters=UNEQUAL.parameters, symmetries=("reverse_complement",))


def test_designs_change_by_substitution_insertion_and_deletion():
    rng = np.random.default_rng(0)
    X = UNEQUAL.sample(200, rng)
    assert {len(one) for one in texts(UNEQUAL, X)} == set(range(8, 13))
    moved = UNEQUAL.mutate(X, rng)
    steps = {len(b) - len(a) for a, b in zip(texts(UNEQUAL, X), texts(UNEQUAL, moved), strict=True)}
    assert steps == {-1, 0, 1}
    assert all(edits(a, b) <= 1 for a, b in zip(texts(UNEQUAL, X), texts(UNEQUAL, moved), strict=True))
    free = DesignSpace(parameters=(Sequence(name="x", length=[2, 4], alphabet="ABC"),))
    one = free.encode(pd.DataFrame({"x": ["ABC"]}))
    near = texts(free, free.neighbours(one[0]))
    assert sorted(near) == sorted(text for text in texts(free, free.listing()) if edits(text, "ABC") == 1)


def test_gaps_within_a_sequence_close_and_short_ones_are_filled():
    rng = np.random.default_rng(1)
    X = UNEQUAL.repair(rng.random((60, UNEQUAL.d)))
    assert UNEQUAL.feasible(X).all()
    assert (UNEQUAL.canonical(X) == X).all()
    gaps = np.zeros((3, 12, 5))
    gaps[..., 4] = 2.0  # nothing but gaps, the least certain at the places of A
    gaps[:, 2:10, 0] = 1.0
    assert (lengths.compact(gaps, 8) == [0] * 8 + [4] * 4).all()
    a, b = UNEQUAL.encode(pd.DataFrame({"promoter": ["ACGTACGTAC", "CATGATGACA"]}))
    crossed = a.reshape(12, 5).copy()
    crossed[3] = b.reshape(12, 5)[11]  # a gap in the middle
    assert texts(UNEQUAL, UNEQUAL.canonical(crossed.reshape(1, -1))) == ["ACGACGTAC"]


@pytest.mark.parametrize("longest", [9, 70, 140], ids=lambda n: f"up to {n}")
def test_distance_counts_edits(longest):
    rng = np.random.default_rng(2)
    codes = lengths.sample(14, 2, longest, 4, rng)
    codes = np.concatenate([codes, lengths.mutate(codes, 2, 4, rng)])
    told = ["".join("ACGT"[one] for one in row if one < 4) for row in codes.tolist()]
    wanted = [[edits(a, b) for b in told] for a in told]
    assert (lengths.distance(codes, codes, 4) == wanted).all()


def test_rules_read_letters_and_no_gaps():
    def kept(rule, *sequences: str) -> list[bool]:
        space = DesignSpace(parameters=(Sequence(name="x", length=[2, 8]),), constraints=(rule,))
        return space.feasible(space.encode(pd.DataFrame({"x": list(sequences)}), strict=False)).tolist()

    assert kept(GCRange(parameter="x", low=0.5), "GC", "GCAT", "GCATA") == [True, True, False]
    assert kept(MaxHomopolymer(parameter="x", length=2), "AC", "AAC", "AAA") == [True, True, False]
    assert kept(ForbiddenMotifs(parameter="x", motifs=("NNNNN",)), "ACGT", "ACGTA") == [True, False]
    assert kept(LengthRange(parameter="x", low=3, high=4), "AC", "ACG", "ACGTA") == [False, True, False]


def test_words_of_models_end_where_the_sequence_ends():
    import torch

    from labloop.surrogates._kernels import DesignKernel
    from labloop.surrogates.features import Words

    longer = DesignSpace(parameters=(Sequence(name="promoter", length=[8, 20]),))
    told = pd.DataFrame({"promoter": ["ACGTTGCA", "GGCATTAC"]})
    found = []
    for space in (DesignSpace(parameters=(Sequence(name="promoter", length=8),)), longer):
        counts, words = Words(space).of(space.encode(told)), DesignKernel(space).words
        x, twins = torch.tensor(space.encode(told)), torch.arange(space.d)[None]
        K = sum(one(x, x, twins, diag=False) / one.scale**2 for one in words)
        found.append((np.sign(counts.round(9)), K.detach().numpy()))
    assert (found[0][0] == found[1][0]).all()
    np.testing.assert_allclose(found[0][1], found[1][1])


def test_a_campaign_of_promoters_orders_each_at_its_length_and_a_revision_narrows_it(tmp_path):
    config = load_config(preset("campaigns/promoter_lengths.yaml"), CampaignConfig)
    run = campaign(config, tmp_path)
    run.propose(ROUND)
    run.export(tmp_path / "out", exporters={"idt": {"form": "csv"}})
    told = pd.read_csv(next((tmp_path / "out").glob("*_idt.csv")))
    chosen = run.batch().designs["promoter"]
    flank = config.flanks["promoter"]
    assert set(told["Sequence"].dropna()) == {flank.five_prime + one + flank.three_prime for one in chosen}
    assert chosen.str.len().nunique() > 5
    narrow = config.space.parameters[0].model_copy(update={"length": (45, 50)})
    run.revise(
        config.model_copy(update={"space": config.space.model_copy(update={"parameters": (narrow,)})}), reason="too long to order"
    )
    assert len(run.dataset()) == 30
    assert {len(one) for one in texts(run.config.space, run.config.space.sample(300, np.random.default_rng(0)))} == set(
        range(45, 51)
    )
