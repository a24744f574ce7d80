"""The labs beside TF Bind 8: measured tables, RNA binding, Ehrlich functions, untranslated regions, and how their wells err."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.errors import ConfigError, DesignError, MethodError
from labloop.registry import create, parse_plugin
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Sequence
from labloop.studies.labs.ehrlich import Ehrlich
from labloop.studies.labs.rna import RNA
from labloop.studies.labs.tables import GB1, METALS, OER, Arylation
from labloop.studies.labs.tfbind8 import TFBind8
from labloop.studies.labs.utr import SPACE as UTR_SPACE
from labloop.studies.labs.utr import UTR
from labloop.studies.labs.wells import readings
from labloop.studies.simulate import draw_start
from labloop.testing import LabContract

SHARED = Path(__file__).parents[2] / "shared/data"


class TestTFBind8(LabContract):
    lab = TFBind8()


class TestGB1(LabContract):
    lab = GB1()


class TestArylation(LabContract):
    lab = Arylation()


class TestOER(LabContract):
    lab = OER()


class TestEhrlich(LabContract):
    lab = Ehrlich(length=15, motifs=2, motif_length=3)


class TestUTR(LabContract):
    lab = UTR()


class TestRNA(LabContract):
    lab = RNA()

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("RNA")


# ---- measured tables


def test_protein_g_is_the_table_of_its_authors() -> None:
    lab = GB1()
    designs, fitness = lab.table()
    assert len(designs) == 149_361
    assert designs["sites"][fitness.argmax()] == "FWAA"
    assert lab.measure(pd.DataFrame({"sites": ["VDGV"]}), seed=0)["value"][0] == 1.0
    assert (fitness > 1).mean() == pytest.approx(0.024, abs=0.001)


def test_a_variant_that_was_not_measured_fails() -> None:
    lab = GB1()
    measured = set(lab.table()[0]["sites"])
    absent = next(w for w in map("".join, itertools.product("ACDEFGHIKLMNPQRSTVWY", repeat=4)) if w not in measured)
    found = lab.measure(pd.DataFrame({"sites": [absent, "FWAA"]}), seed=0)
    assert found["status"].tolist() == ["failed_design", "ok"]
    assert np.isnan(found["value"][0])


def test_all_conditions_of_the_arylation_have_a_yield() -> None:
    lab = Arylation()
    designs, yields = lab.table()
    assert len(designs) == lab.space.size == 1728
    assert yields.max() == 100
    assert (yields >= 95).sum() == 10


def test_the_mixtures_are_all_of_at_most_four_metals() -> None:
    designs, potentials = (lab := OER()).table()
    assert len(designs) == len(lab.space.listing()) == 2121
    assert (designs[list(METALS)] > 0).sum(axis=1).max() == 4
    assert potentials.min() > 0
    five = pd.DataFrame([[0.2, 0.2, 0.2, 0.2, 0.2, 0.0]], columns=list(METALS))
    with pytest.raises(DesignError, match="at most 4 components of metals"):
        lab.measure(five, seed=0)
    mended = lab.space.decode(lab.space.repair(np.array([[0.2, 0.2, 0.2, 0.2, 0.2, 0.0]])))
    assert (mended[list(METALS)].to_numpy(float) > 0).sum() <= 4
    assert mended.to_numpy(float).sum() == pytest.approx(1)


def test_only_a_mixture_has_components_to_limit() -> None:
    limit = {"type": "max_components", "parameter": "dna", "count": 2}
    with pytest.raises(ValueError, match="'dna' is not a mixture"):
        DesignSpace(parameters=(Sequence(name="dna", length=4),), constraints=(limit,))


def test_the_tables_hold_what_their_sources_do() -> None:
    if not SHARED.exists():
        pytest.skip("the sources are not beside the repository")
    raw = pd.read_csv(SHARED / "gb1/gb1_four_site.csv.gz").sample(500, random_state=0)
    found = GB1().measure(pd.DataFrame({"sites": raw["Variants"]}), seed=0)["value"]
    np.testing.assert_allclose(found, raw["Fitness"], atol=5.1e-6)
    raw = pd.read_csv(SHARED / "direct_arylation/experiment_index.csv")
    names = {"Base_SMILES": "base", "Ligand_SMILES": "ligand", "Solvent_SMILES": "solvent"}
    raw = raw.rename(columns={**names, "Concentration": "concentration", "Temp_C": "temperature"})
    np.testing.assert_allclose(Arylation().measure(raw, seed=0)["value"], raw["yield"])
    raw = pd.read_csv(SHARED / "oer/data.csv", header=None, names=[*METALS, "V"])
    np.testing.assert_allclose(OER().measure(raw, seed=0)["value"], raw["V"], atol=1e-9)


# ---- RNA binding


def test_the_best_complement_of_a_stretch_of_the_target_binds_with_1() -> None:
    pytest.importorskip("RNA")
    lab = RNA(seed=3)
    other = lab.hidden.translate(str.maketrans("ACGU", "UGCA"))[::-1]
    windows = pd.DataFrame({"rna": [other[i : i + 14] for i in range(37)]})
    assert lab.measure(windows, seed=0)["value"].max() == 1.0
    random = lab.measure(lab.space.decode(lab.space.sample(100, np.random.default_rng(0))), seed=0)["value"]
    assert (random >= 0).all()
    assert random.median() < 0.6
    assert lab.measure(pd.DataFrame({"rna": ["A" * 14]}), seed=0)["status"].tolist() == ["ok"]


def test_each_seed_hides_a_target_of_its_own() -> None:
    pytest.importorskip("RNA")
    designs = RNA().space.decode(RNA().space.sample(5, np.random.default_rng(0)))
    values = [RNA(seed=seed).measure(designs, seed=0)["value"].tolist() for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    given = RNA(target=RNA(seed=1).hidden)
    assert given.measure(designs, seed=0)["value"].tolist() == values[2]
    assert create("labs", "rna", {"length": 50}).space.columns == ("rna",)


def test_without_viennarna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "RNA", None)
    with pytest.raises(MethodError, match=r"labloop-toolkit\[rna\]"):
        RNA().measure(pd.DataFrame({"rna": ["ACGU" * 3 + "AC"]}), seed=0)


# ---- Ehrlich functions


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("options", [{}, {"length": 32, "letters": 4, "motifs": 4, "banned": 0.34}, {"length": 8, "motifs": 2}])
def test_1_is_reached_and_nothing_lies_above(options: dict[str, int], seed: int) -> None:
    lab = Ehrlich(**options, seed=seed)
    design, value = lab.optimum
    assert lab.measure(design, seed=0)["value"].tolist() == [value] == [1.0]
    X = lab.space.mutate(np.repeat(lab.space.encode(design), 300, axis=0), np.random.default_rng(seed), steps=2)
    near = lab.measure(lab.space.decode(X), seed=0)
    assert near["value"].max() <= 1
    assert near["value"].dropna().lt(1).any()


def test_values_are_products_of_quantised_motifs() -> None:
    lab = Ehrlich(motifs=2, motif_length=4, quantisation=2)
    values = lab.measure(lab.library(2000, np.random.default_rng(0)), seed=0)["value"]
    assert set(values) <= {0.0, 0.25, 0.5, 1.0}
    finer = Ehrlich(motifs=2, motif_length=4)
    assert len(set(finer.measure(finer.library(2000, np.random.default_rng(0)), seed=0)["value"])) > 4


def test_a_quantised_motif_counts_in_whole_steps_only() -> None:
    lab = Ehrlich(length=8, motifs=1, motif_length=4, quantisation=2, banned=0.0)
    (motif,), (places,) = lab._hidden
    strange = next(code for code in range(20) if code not in motif)
    for matched, worth in ((4, 1.0), (3, 0.5), (2, 0.5), (1, 0.0), (0, 0.0)):
        codes = np.full(8, strange)
        codes[places[:matched]] = motif[:matched]
        assert lab.measure(lab._designs(codes[None]), seed=0)["value"].tolist() == [worth]


def test_banned_transitions_make_a_design_fail() -> None:
    lab = Ehrlich()
    first, second = np.argwhere(~lab._allowed)[0]
    codes = np.concatenate([[first], np.full(lab.length - 1, second)])
    banned = lab._designs(codes[None])
    assert lab.measure(banned, seed=0)["status"].tolist() == ["failed_design"]
    zero = Ehrlich(infeasible="zero").measure(banned, seed=0)
    assert (zero["value"][0], zero["status"][0]) == (0.0, "ok")
    assert lab._allowed.diagonal().all()
    reach = np.linalg.matrix_power(lab._allowed.astype(float), lab.letters) > 0
    assert reach.all()


def test_a_start_of_a_lab_with_few_feasible_designs_is_drawn_from_its_library() -> None:
    lab = Ehrlich(length=64, banned=0.5)
    begun = draw_start(lab, 100, seed=0, quantile=1.0)
    assert (begun["status"] == "ok").all()
    assert lab.space.size > 1e80


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"motif_length": 5, "letters": 4}, "no letter twice"),
        ({"motifs": 9}, "do not fit into length 32"),
        ({"quantisation": 5}, "above motif_length"),
    ],
)
def test_impossible_ehrlich_functions_are_refused(options: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        create("labs", "ehrlich", options)


# ---- untranslated regions


def test_a_start_codon_out_of_frame_costs_ribosomes() -> None:
    X = UTR_SPACE.sample(300, np.random.default_rng(0))
    words = UTR_SPACE.decode(X)["utr"]
    plain = words[~words.str.contains("ATG")]
    begun = plain.str.slice(0, 24) + "GCCACCATGG" + plain.str.slice(34)
    lab = UTR()
    gap = lab.measure(pd.DataFrame({"utr": plain}), seed=0)["value"] - lab.measure(pd.DataFrame({"utr": begun}), seed=0)["value"]
    assert (gap > 0).mean() > 0.9


def test_the_model_of_untranslated_regions_knows_the_measurements() -> None:
    path = SHARED / "utr/utr_280k.npz"
    if not path.exists():
        pytest.skip("the measurements are not beside the repository")
    with np.load(path) as archive:
        packed, y = archive["x_packed"][::100], archive["y"][::100].reshape(-1)
    codes = (packed[:, :, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3).reshape(len(packed), -1)[:, :50]
    said = UTR().measure(UTR_SPACE.decode(np.eye(4)[codes].reshape(len(codes), -1)), seed=0)["value"]
    assert np.corrcoef(said, y)[0, 1] > 0.8


# ---- wells


def test_a_plate_of_384_has_an_edge_of_its_own() -> None:
    lab = TFBind8(edge_effect=100.0)
    designs = pd.DataFrame({"dna": ["ACGTACGT"] * 4, "plate": "P1", "well": ["H12", "P24", "D06", "A13"]})
    assert (lab.measure(designs, seed=0)["value"] > 50).tolist() == [False, True, False, True]


def test_effects_that_are_not_asked_for_change_no_reading() -> None:
    designs, values = TFBind8().table()
    plain = readings(values[:50], noise=0.1, failures=0.2, seed=5)
    pd.testing.assert_frame_equal(TFBind8(noise=0.1, failures=0.2).reported(values[:50], designs[:50], seed=5), plain)


# ---- campaigns


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("tfbind8", "tfbind8"), ("gb1", "gb1"), ("arylation", "arylation"), ("oer", "oer"), ("utr", "utr"), ("rna14", "rna"),
        ("rna50", "rna/length=50"), ("ehrlich", "ehrlich"),
    ],
)  # fmt: skip
def test_each_lab_has_a_campaign_of_its_very_space(name: str, spec: str) -> None:
    campaign = load_config(preset(f"campaigns/{name}.yaml"), CampaignConfig)
    lab, options = parse_plugin(spec)
    assert create("labs", lab, options).space == campaign.space
    assert campaign.name == name
