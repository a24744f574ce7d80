"""Mutants of a parent from end to end: every kind of proposer keeps to them, and the bench reads their names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from labloop import Campaign
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.registry import create
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
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
ROUND = parse_config(
    {"arms": {"near": {"proposers": "fakes:Near"}, "free": {"proposers": "random"}}, "judge": "fakes:Flat"}, RoundConfig
)


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("proposer", TINY)
def test_proposers_offer_new_designs_of_the_space(proposer, kind):
    data = toy_data(SPACES[kind], 30)
    pool = create("proposers", proposer, TINY[proposer]).propose(data, 8, seed=0)
    assert not data.space.check(data.space.decode(pool.X))
    assert len(set(pool.ids) - data.taken) == 8
    assert list(pool.ids) == data.space.ids(pool.X)


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
    page = run.report(tmp_path / "page.html").read_text()
    assert table["protein_mutations"].iloc[0] in page


def test_a_parameter_cannot_be_called_as_the_column_of_names():
    with pytest.raises(ValueError, match="protein_mutations: labloop names mutants"):
        DesignSpace(parameters=(*SPACES["mutants"].parameters, Sequence(name="protein_mutations", length=2)))
