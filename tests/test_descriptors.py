"""Descriptors of options and letters: read once, kept, and used where they help to predict."""

from __future__ import annotations

import gzip
import itertools
import json
import os

import numpy as np
import pandas as pd
import pytest

from labloop.campaign.checks import check_configs, check_start
from labloop.config import CampaignConfig, load_config
from labloop.errors import ConfigError
from labloop.proposing.dataset import Dataset
from labloop.rounds.revision import revised
from labloop.space.descriptors import SCALES, coordinates, squares
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Real, Sequence

CAMPAIGN = """
schema_version: 1
name: coupled
space:
  parameters:
    - {type: choice, name: solvent, %s}
    - {type: choice, name: base, options: [weak, strong]}
assays: {assay: {}}
"""
TABLE = "solvent,polarity,boiling\nwater,9,100\nTHF,4,66\ntoluene,2.4,111\nDMF,6.4,153\n"
MOLECULES = {"ethanol": "CCO", "propanol": "CCCO", "benzene": "c1ccccc1", "toluene": "Cc1ccccc1"}


def load(folder, what, table=TABLE):
    (folder / "solvents.csv").write_text(table)
    (folder / "campaign.yaml").write_text(CAMPAIGN % what)
    return load_config(folder / "campaign.yaml", CampaignConfig)


def graded(k: int) -> dict[str, dict[str, float]]:
    return {f"o{i:02d}": {"size": float(i)} for i in range(k)}


def dataset(space: DesignSpace, y_of, rows) -> Dataset:
    X = space.listing()[rows]
    n = len(rows)
    return Dataset(
        space=space, X=X, y=y_of(space.decode(X)), ids=tuple(space.ids(X)), sem=np.full(n, np.nan),
        n_replicates=np.ones(n, dtype=int), censored=np.zeros(n, dtype=int), pending=X[:0],
    )  # fmt: skip


def test_a_table_beside_the_campaign_is_taken_in_whole_and_names_the_options(tmp_path):
    config = load(tmp_path, "descriptors: solvents.csv")
    solvent = config.space.parameters[0]
    assert solvent.options == ("water", "THF", "toluene", "DMF")
    assert solvent.descriptors["THF"] == {"polarity": 4, "boiling": 66}
    (tmp_path / "solvents.csv").unlink()  # the ledger keeps what was read
    assert CampaignConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("apart", [";", "\t"], ids=["semicolons", "tabs"])
def test_a_table_of_a_spreadsheet_with_decimal_commas_is_read(tmp_path, apart):
    config = load(tmp_path, "descriptors: solvents.csv", TABLE.replace(",", apart).replace("66", "66,5"))
    assert config.space.parameters[0].descriptors["THF"] == {"polarity": 4, "boiling": 66.5}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "cp1252"])
def test_a_table_is_read_in_the_encoding_that_it_was_saved_in(tmp_path, encoding):
    table = "solvent\tpolarity\nether de pétrole\t1,5\nTHF\t4\n"
    (tmp_path / "saved.csv").write_bytes(table.encode(encoding))
    solvent = load(tmp_path, "descriptors: saved.csv").space.parameters[0]
    assert solvent.descriptors == {"ether de pétrole": {"polarity": 1.5}, "THF": {"polarity": 4}}


@pytest.mark.parametrize(
    "table",
    [TABLE.replace("\n", ",,\n"), TABLE.replace("\n", ",\n").replace("boiling,", "boiling"), TABLE + ",,\n,,\n"],
    ids=["columns", "columns of rows only", "rows"],
)
def test_what_a_spreadsheet_leaves_behind_a_table_is_no_descriptor(tmp_path, table):
    assert load(tmp_path, "descriptors: solvents.csv", table) == load(tmp_path, "descriptors: solvents.csv")


def test_names_of_a_table_with_decimal_commas_stay_as_they_are(tmp_path):
    table = "solvent;polarity\n1,2;4,5\n1,4;3\n"
    config = load(tmp_path, "descriptors: solvents.csv, options: ['1,2', '1,4']", table)
    assert config.space.parameters[0].descriptors == {"1,2": {"polarity": 4.5}, "1,4": {"polarity": 3}}


def test_numbers_of_a_library_with_decimal_commas_are_numbers_and_its_names_are_not(tmp_path):
    (tmp_path / "designs.csv").write_text("diol;heat\n1,2;20,5\n1,4;30\n")
    parameters = [{"type": "choice", "name": "diol"}, {"type": "real", "name": "heat", "low": 0, "high": 100}]
    space = {"parameters": parameters, "library": "designs.csv"}
    content = {"name": "x", "space": space, "objective": {"assay": "a"}, "assays": {"a": {}}, "plate": {"wells": 24}}
    (tmp_path / "campaign.yaml").write_text(json.dumps(content))
    listed = load_config(tmp_path / "campaign.yaml", CampaignConfig).space
    designs = listed.decode(listed.listing())
    assert sorted(zip(designs["diol"], designs["heat"].astype(float), strict=True)) == [("1,2", 20.5), ("1,4", 30.0)]


@pytest.mark.parametrize(
    ("what", "table", "said"),
    [
        ("descriptors: nowhere.csv", TABLE, "nowhere.csv cannot be read"),
        ("descriptors: solvents.csv", TABLE.replace("66", "warm"), "row 'THF': boiling 'warm' is not a number"),
        ("descriptors: solvents.csv", TABLE + "THF,1,2\n", "'THF' stands there twice"),
        ("descriptors: solvents.csv, options: [water, acetone]", TABLE, "say nothing of acetone"),
        ("smiles: solvents.csv", TABLE, "has no column `smiles`"),
        ("options: [water, THF], computed: {ecfp: [[1], [2]]}", TABLE, "leave it out"),
        ("descriptors: solvents.csv", "solvent,polarity\nwater,1,2\nTHF,3,4\n", "more cells than the header names"),
        ("descriptors: solvents.csv", TABLE.replace("boiling", "polarity"), "has two columns 'polarity'"),
        ("descriptors: .", TABLE, "is no file"),
        ('descriptors: "a\\0b.csv"', TABLE, "cannot be read"),
        ("descriptors: solvents.csv", TABLE.replace("66", "inf"), "row 'THF': boiling 'inf' is not finite"),
        ("descriptors: solvents.csv", TABLE.partition("\n")[0], "solvents.csv has no rows"),
        ("descriptors: solvents.csv", TABLE + "a,1,2,3,4\n", "saw 5: mend it, and put text with a comma in quotes"),
        ("descriptors: solvents.csv", TABLE.replace("boiling", ""), "column 3 has no name: name it in the first row"),
        ("descriptors: solvents.csv", "PK\3\4" + TABLE, "is an Excel workbook or a zip archive: open it and save it as CSV"),
    ],
    ids=[
        "missing",
        "words",
        "twice",
        "unknown option",
        "no molecules",
        "computed of nothing",
        "more cells",
        "one name",
        "folder",
        "no name",
        "infinite",
        "no rows",
        "more cells in a row",
        "nameless column",
        "workbook",
    ],
)
def test_a_bad_table_is_refused_with_its_place(tmp_path, what, table, said):
    with pytest.raises(ConfigError, match=r"campaign\.yaml") as told:
        load(tmp_path, what, table)
    assert said in str(told.value)


def test_a_choice_without_descriptors_is_written_as_ever():
    assert set(json.loads(Choice(name="base", options=("a", "b")).model_dump_json())) == {"type", "name", "options"}
    assert "scales" not in Sequence(name="dna", length=4).model_dump()


def test_molecules_are_described_once_and_kept():
    pytest.importorskip("rdkit")
    told = Choice(name="solvent", options=tuple(MOLECULES), smiles=MOLECULES)
    again = Choice.model_validate_json(told.model_dump_json())
    assert again == told
    assert set(told.described) == {"ecfp", "physical"}
    D = squares(told.described["ecfp"])
    assert D[0, 1] < D[0, 2]  # alcohols are alike
    assert D[2, 3] < D[1, 3]


def test_options_that_are_one_molecule_are_told(tmp_path):
    pytest.importorskip("rdkit")
    assert Choice(name="solvent", options=tuple(MOLECULES), smiles=MOLECULES).same == []
    assert Choice(name="solvent", options=tuple(MOLECULES)).same == []
    assert Choice(name="x", options=("OCC", "CCO", "CC"), smiles="options").same == [("OCC", "CCO")]
    (tmp_path / "campaign.yaml").write_text(
        "name: two\nspace: {parameters: [{type: choice, name: x, options: [ethanol, spirit, water], "
        "smiles: {ethanol: OCC, spirit: CCO, water: O}}]}\nplate: {wells: 24, use: 2}\n"
    )
    (said,) = check_configs(tmp_path / "campaign.yaml")["doubts"]
    assert said.startswith("ethanol and spirit of x are one molecule by their SMILES")


def test_smiles_that_are_none_are_refused_with_their_option():
    pytest.importorskip("rdkit")
    with pytest.raises(ValueError, match="'ethanol': RDKit cannot read 'C1CC'"):
        Choice(name="solvent", options=tuple(MOLECULES), smiles={**MOLECULES, "ethanol": "C1CC"})
    with pytest.raises(ValueError, match="'ethanol': has 20,000 letters, at most 2,000 are read"):
        Choice(name="solvent", options=tuple(MOLECULES), smiles={**MOLECULES, "ethanol": "C" * 20_000})


def test_coordinates_keep_the_distances_that_a_similarity_tells():
    rng = np.random.default_rng(0)
    places = rng.normal(size=(6, 3))
    assert squares(coordinates(places @ places.T)) == pytest.approx(squares(places))


@pytest.mark.parametrize("name", SCALES)
def test_scales_tell_letters_apart(name):
    alphabet = "ACDEFGHIKLMNPQRSTVWY" if name == "amino_acids" else "ACGT"
    D = squares(Sequence(name="x", length=3, alphabet=alphabet, scales=name).described[name])
    assert (D[~np.eye(len(D), dtype=bool)] > 0).all()
    if name == "amino_acids":
        at = alphabet.index
        assert D[at("I"), at("V")] < D[at("I"), at("D")]


def test_alike_options_are_near_and_differing_ones_are_never_one():
    space = DesignSpace(parameters=(Choice(name="size", options=tuple(graded(5)), descriptors=graded(5)),))
    D = space.distance(space.listing(), space.listing())
    assert np.diag(D) == pytest.approx(0)
    assert D[0, 1] < D[0, 2] < D[0, 4] == pytest.approx(1)
    assert D[0, 1] > 0


def test_the_gaussian_process_predicts_options_that_were_never_measured_by_what_they_are_like():
    from labloop.surrogates.gp import GP

    described = DesignSpace(parameters=(
        Choice(name="size", options=tuple(graded(20)), descriptors=graded(20)), Choice(name="base", options=("a", "b", "c")),
    ))  # fmt: skip
    rows = np.array([i for i in range(60) if i // 3 % 2 == 0])
    rest = np.setdiff1d(np.arange(60), rows)

    def y(designs: pd.DataFrame) -> np.ndarray:
        return np.array([int(one[1:]) for one in designs["size"]]) / 10 + (designs["base"] == "b").to_numpy()

    data = dataset(described, y, rows)
    truth, X = y(described.decode(described.listing()[rest])), described.listing()[rest]
    fits = {way: GP(descriptors=way).fit(data, seed=0) for way in ("all", "left_out", "none")}
    error = {way: np.abs(fitted.belief(X)[0] - truth).mean() for way, fitted in fits.items()}
    assert error["all"] < 0.5 * error["none"]
    assert error["left_out"] < 0.5 * error["none"]
    assert fits["left_out"].sets != ("letters",)


def test_descriptors_that_say_nothing_are_not_chosen():
    from labloop.surrogates.gp import GP

    rng = np.random.default_rng(1)
    noise = {f"o{i:02d}": {"chance": float(rng.normal())} for i in range(12)}
    worth = rng.normal(size=12)
    space = DesignSpace(parameters=(
        Choice(name="plasmid", options=tuple(noise), descriptors=noise), Real(name="dose", low=0, high=1, step=0.25),
    ))  # fmt: skip
    data = dataset(
        space, lambda d: worth[[int(one[1:]) for one in d["plasmid"]]] + 0.1 * d["dose"].to_numpy(), np.arange(60)[::2]
    )
    assert GP(descriptors="left_out").fit(data, seed=0).sets == ("letters",)


def sized(k: int, descriptors=None) -> DesignSpace:
    return DesignSpace(parameters=(
        Choice(name="size", options=tuple(graded(k)), descriptors=descriptors or graded(k)),
        Choice(name="base", options=("a", "b")),
    ))  # fmt: skip


def size_of(designs: pd.DataFrame) -> np.ndarray:
    return np.array([int(one[1:]) for one in designs["size"]]) / 10 + (designs["base"] == "b").to_numpy()


def test_soft_options_have_expected_descriptors():
    from labloop.surrogates.features import described, table

    space = sized(5)
    X = space.listing()
    told = described(space, X)
    assert told == pytest.approx(X @ table(space))
    assert (np.diff(told[::2, 0]) > 0).all()
    assert (X[:4].mean(0) @ table(space)) == pytest.approx(told[:4].mean(0))


def test_networks_are_shown_descriptors_where_left_out_designs_are_predicted_better():
    from labloop.surrogates.sees import lift, sees

    rng = np.random.default_rng(0)
    rows = rng.permutation(40)[:24]
    chance = {one: {"chance": float(rng.normal())} for one in graded(20)}
    good, bad = dataset(sized(20), size_of, rows), dataset(sized(20, chance), size_of, rows)
    assert sees(good) == {"descriptors"}
    assert sees(bad) == frozenset()
    assert (lift(good).shape, lift(bad).shape) == ((22, 1), (22, 0))
    assert (
        sees(dataset(DesignSpace(parameters=(Choice(name="base", options=("a", "b")),)), lambda d: d.index, [0, 1]))
        == frozenset()
    )


def test_networks_of_every_kind_tell_options_that_nobody_measured_by_what_they_are_like():
    """Of 20 sizes every other one is measured: by names alone nothing is known of the rest."""
    import torch

    from labloop.methods._ranked_proxies import fit_proxies, predict
    from labloop.surrogates.networks import load_stacked

    space = sized(20)
    X = space.listing()
    rows = np.array([i for i in range(40) if i // 2 % 2 == 0])
    rest = np.setdiff1d(np.arange(40), rows)
    data = dataset(space, size_of, rows)
    for features in ("letters", "words"):
        weights, _ = fit_proxies(
            data, (data.y - data.y.min()) / np.ptp(data.y), 2, (32,), steps=150, batch=20, lr=1e-2, rate="constant", rank_k=1.0,
            features=features, seed=0,
        )  # fmt: skip
        assert "lift" in weights
        net = load_stacked(weights, slope=0.01, space=space)
        told = predict(net, 2 * torch.tensor(space.orbit(X), dtype=torch.float32) - 1).mean(0).numpy()
        assert np.corrcoef(told[rest], size_of(space.decode(X[rest])))[0, 1] > 0.9
        x = torch.tensor(X[:1], dtype=torch.float32).requires_grad_()
        net(2 * x - 1).sum().backward()
        assert x.grad.abs().sum() > 0


def test_new_options_come_with_a_revision_and_old_ones_keep_their_ids(tmp_path):
    old = load(tmp_path, "descriptors: solvents.csv")
    new = load(tmp_path, "descriptors: solvents.csv", TABLE.replace("THF,4,66\n", "") + "acetone,5.1,56\n")
    designs = old.space.decode(old.space.listing())
    designs.index = old.space.ids(old.space.listing())
    joined = revised(old, new, designs=designs, assays=[])
    solvent = joined.space.parameters[0]
    assert solvent.options == ("water", "THF", "toluene", "DMF", "acetone")
    assert solvent.descriptors["acetone"]["boiling"] == 56
    assert set(joined.space.decode(joined.space.listing())["solvent"]) == {"water", "toluene", "DMF", "acetone"}


def safetensors(**arrays: np.ndarray) -> bytes:
    header, content = {"__metadata__": {"model": "a"}}, b""
    for name, one in arrays.items():
        kind = {"float64": "F64", "float32": "F32", "float16": "F16"}[one.dtype.name]
        header[name] = {"dtype": kind, "shape": list(one.shape), "data_offsets": [len(content), len(content) + one.nbytes]}
        content += one.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def test_embeddings_are_descriptors_and_a_matrix_is_its_mean_position(tmp_path):
    vectors = {"water": np.array([1, 2], "<f4"), "THF": np.array([[0, 2], [2, 4]], "<f8"), "DMF": np.array([3, 0], "<f2")}
    (tmp_path / "esm.safetensors").write_bytes(safetensors(**vectors))
    solvent = load(tmp_path, "descriptors: esm.safetensors").space.parameters[0]
    assert solvent.options == ("water", "THF", "DMF")
    assert solvent.descriptors == {"water": {"e0": 1, "e1": 2}, "THF": {"e0": 1, "e1": 3}, "DMF": {"e0": 3, "e1": 0}}


def test_a_pipe_is_no_table_and_what_is_packed_stays_so(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ConfigError, match=r"pipe\.csv is no file"):
        load(tmp_path, "descriptors: pipe.csv")
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    with pytest.raises(ConfigError, match="is a gzip archive"):
        load(tmp_path, "descriptors: packed.csv.gz")


@pytest.mark.parametrize("told", ["5", "[{name: [x], type: choice}]", "[{name: m, type: mixture, components: 5}]"])
def test_parameters_that_are_none_are_told_with_their_place(tmp_path, told):
    (tmp_path / "shelf.csv").write_text("x,m\nA,1\nB,2\n")
    (tmp_path / "campaign.yaml").write_text(f"name: c\nspace:\n  parameters: {told}\n  library: shelf.csv\n")
    with pytest.raises(ConfigError, match=r"line 3, space\.parameters"):
        load_config(tmp_path / "campaign.yaml", CampaignConfig)


def header(text: str, numbers: int = 4) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + np.zeros(numbers).tobytes()


VECTOR = '{"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header("[" * 100_000), "is not a safetensors file"),
        (header(f'{{"a": {VECTOR}, "a": {VECTOR}}}'), "'a' stands there twice"),
        (header(f'{{"a": {VECTOR}, "b": {VECTOR}}}'), "of several vectors"),
        (header(f'{{"a": {VECTOR.replace("[2]", "[]").replace("16", "8")}}}'), r"shape \[\] is of no vector"),
        (b"solvent,polarity", "is not a safetensors file"), (b"", "is not a safetensors file"),
        (safetensors(a=np.zeros(2), b=np.zeros(3)), "'a' has 2 numbers of 3"), (safetensors(), "holds no vector"),
    ],
    ids=["deep", "twice", "shared", "scalar", "words", "empty", "lengths", "none"],
)  # fmt: skip
def test_embeddings_that_are_none_are_refused(tmp_path, content, said):
    (tmp_path / "esm.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, "descriptors: esm.safetensors")


# ---- a vector a sequence

LETTERS = "ACDE"
SEQUENCES = ["".join(one) for one in itertools.product(LETTERS, repeat=3)]
MUTANTS = """
name: variants
space:
  parameters:
    - {type: sequence, name: protein, %s, alphabet: ACDE, descriptors: %s}
"""


def hidden(sequences, k: int = 8) -> np.ndarray:
    """Vectors (n, k) that tell what letters tell only together."""
    codes = np.array([[LETTERS.index(letter) for letter in one] for one in sequences]).sum(1)
    return np.cos(codes[:, None] * np.arange(1, k + 1) / 3)


def with_vectors(folder, sequences=SEQUENCES, *, file="esm.csv", what="length: 3", more="", values=None) -> CampaignConfig:
    values = hidden(SEQUENCES)[: len(sequences)] if values is None else values
    if file.endswith(".csv"):
        pd.DataFrame(values).add_prefix("e").assign(protein=sequences).to_csv(folder / file, index=False)
    else:
        (folder / file).write_bytes(safetensors(**dict(zip(sequences, values, strict=True))))
    (folder / "campaign.yaml").write_text(MUTANTS % (what, file) + more)
    return load_config(folder / "campaign.yaml", CampaignConfig)


@pytest.mark.parametrize("file", ["esm.csv", "esm.safetensors"])
def test_a_vector_a_sequence_is_kept_by_its_principal_coordinates(tmp_path, file):
    config = with_vectors(tmp_path, file=file)
    told = config.space.parameters[0].descriptors
    assert (told.file, told.columns, len(told.designs)) == (file, 8, 64)
    assert "64 vectors of 8 numbers" in told.sentence
    (tmp_path / file).unlink()  # the ledger keeps what was read
    again = CampaignConfig.model_validate_json(config.model_dump_json())
    assert again == config
    X = again.space.listing()
    places = again.space.embedded[0].of(X)
    assert squares(places).sum() / (64 * 63) == pytest.approx(1, rel=1e-5)
    z = hidden(SEQUENCES)
    z = z[:, z.std(0) > 1e-9]
    whole = squares((z - z.mean(0)) / z.std(0))
    assert np.corrcoef(squares(places).ravel(), whole.ravel())[0, 1] > 0.99


def test_mutants_may_be_named_and_other_rows_are_no_harm(tmp_path):
    names = ["WT", "A1C", "A1C;A2D", "A3E", "GGG", "CCC"]
    shelf = "  library: shelf.csv\n"
    (tmp_path / "shelf.csv").write_text("protein\nAAA\nCAA\nCDA\nAAE\n")
    space = with_vectors(tmp_path, names, what="parent: AAA, mutations: 2", more=shelf).space
    rows = space.embedded[0].rows(space.encode(pd.DataFrame({"protein": ["AAA", "CAA", "CDA", "AAE"]})))
    assert len(set(rows.tolist())) == 4
    assert (rows >= 0).all()


@pytest.mark.parametrize(
    ("sequences", "what", "more", "said"),
    [
        (SEQUENCES[:-2], "length: 3", "", "esm.csv has no vector of EED, EEE"),
        (SEQUENCES, "length: 30", "", "the rows of esm.csv must be named by sequences: 'AAA' is none"),
        (["A" * 30, "C" * 30], "length: 30", "", "sequences cannot each have a vector: name those that have one as the space's"),
        (SEQUENCES[:3], "length: 3", "  library: shelf.csv\n", "shelf.csv, row 3: protein 'EEE' has no vector in esm.csv"),
        (["AAA", "AAA"], "length: 3", "", "'AAA' stands there twice"),
    ],
    ids=["lacking", "length", "too many", "library", "twice"],
)  # fmt: skip
def test_a_design_without_a_vector_is_named_with_the_file(tmp_path, sequences, what, more, said):
    (tmp_path / "shelf.csv").write_text("protein\nAAA\nEEE\n")
    with pytest.raises(ConfigError, match=r"campaign\.yaml") as told:
        with_vectors(tmp_path, sequences, what=what, more=more)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("cell", "said"),
    [("warm", "e1 'warm' is not a number"), ("True", "e1 'True' is not a number"), ("1e400", "e1 'inf' is not finite"),
     ("", "e1 is empty")],
)  # fmt: skip
def test_vectors_that_are_no_numbers_are_refused_with_their_row(tmp_path, cell, said):
    values = hidden(SEQUENCES).astype(object)
    values[4, 1] = cell
    with pytest.raises(ConfigError, match=rf"esm\.csv, row 6 \(ACA\): {said}"):
        with_vectors(tmp_path, values=values)


def test_a_table_of_vectors_may_have_separators_behind_its_rows_and_needs_rows(tmp_path):
    plain = with_vectors(tmp_path)
    head, *rows = (tmp_path / "esm.csv").read_text().splitlines()
    (tmp_path / "esm.csv").write_text("\n".join([head, *(f"{row}," for row in rows), ""]))
    assert load_config(tmp_path / "campaign.yaml", CampaignConfig) == plain
    (tmp_path / "esm.csv").write_text(head)
    with pytest.raises(ConfigError, match=r"esm\.csv has no rows"):
        load_config(tmp_path / "campaign.yaml", CampaignConfig)


def test_a_huge_column_counts_like_any_other(tmp_path):
    values = hidden(SEQUENCES)
    huge = values * np.r_[1e300, np.ones(values.shape[1] - 1)]
    (tmp_path / "huge").mkdir()
    told = [
        with_vectors(place, values=one).space.embedded[0].places for place, one in ((tmp_path, values), (tmp_path / "huge", huge))
    ]
    np.testing.assert_allclose(told[1], told[0], atol=1e-5)


def test_vectors_that_tell_nothing_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="all vectors are alike"):
        with_vectors(tmp_path, values=np.ones((64, 3)))


def test_a_measured_design_without_a_vector_is_refused_in_its_row(tmp_path):
    (tmp_path / "shelf.csv").write_text("protein\nAAA\nAAC\n")
    space = with_vectors(tmp_path, SEQUENCES[:5], more="  library: shelf.csv\n").space
    faults = space.check(pd.DataFrame({"protein": ["AAA", "EEE"]}))
    assert [(fault.row, fault.rule.split(":")[0]) for fault in faults] == [(1, "has no vector in esm.csv")]


def test_the_gaussian_process_looks_at_vectors_where_they_predict_left_out_designs(tmp_path):
    from labloop.surrogates.gp import GP

    rng = np.random.default_rng(0)
    rows = rng.permutation(64)[:32]
    rest = np.setdiff1d(np.arange(64), rows)
    told = with_vectors(tmp_path).space
    chance = with_vectors(tmp_path, values=rng.normal(size=(64, 8))).space

    def y(designs: pd.DataFrame) -> np.ndarray:
        return hidden(designs["protein"])[:, 1]

    def plain(designs: pd.DataFrame) -> np.ndarray:
        return np.array([[LETTERS.index(letter) for letter in one] for one in designs["protein"]]) @ [1.0, 0.5, 0.2]

    good, bad = dataset(told, y, rows), dataset(chance, plain, rows)
    assert GP().fit(good, seed=0).sets == ("letters", "vectors")
    assert GP().fit(bad, seed=0).sets == ("letters",)
    truth, X = y(told.decode(told.listing()[rest])), told.listing()[rest]
    error = {how: np.abs(GP(descriptors=how).fit(good, seed=0).belief(X)[0] - truth).mean() for how in ("all", "none")}
    assert error["all"] < 0.5 * error["none"]
    found = GP().compare(good, seed=0)
    assert set(found) == {"letters", "letters+vectors"}
    assert found["letters+vectors"]["correlation"] > found["letters"]["correlation"]


def test_designs_of_as_many_differing_letters_are_in_the_order_of_their_vectors(tmp_path):
    space = with_vectors(tmp_path).space
    X = space.listing()
    D, letters = space.distance(X, X), 3 - X @ X.T
    apart = np.sqrt(squares(space.embedded[0].of(X)))
    assert np.diag(D) == pytest.approx(0)
    assert pytest.approx(D.T) == D
    assert D[letters == 1].max() <= 1 < D[letters == 2].min()
    near = np.flatnonzero(letters[0] == 1)
    assert (np.diff(D[0, near[apart[0, near].argsort()]]) >= 0).all()
    assert 0 < D[letters == 1].min() < 1


def test_check_counts_vectors_and_compares_them_on_the_start_file(tmp_path):

    space = with_vectors(tmp_path).space
    designs = space.decode(space.listing()[::3])
    designs.assign(value=hidden(designs["protein"])[:, 1]).to_csv(tmp_path / "start.csv", index=False)
    told = check_configs(tmp_path / "campaign.yaml")
    assert told["vectors"] == [f"protein: {space.parameters[0].descriptors.sentence}"]
    assert told["parameters"][0]["descriptors"]["vectors"] == 64
    assert "places" not in told["parameters"][0]["descriptors"]
    start, refused = check_start(tmp_path / "campaign.yaml", tmp_path / "start.csv")
    assert refused is None
    assert start["sees"]["letters+vectors"]["density"] > start["sees"]["letters"]["density"]


@pytest.mark.parametrize(("best", "said"), [(0.4, "predicts best"), (-0.7, "None of them tells these designs apart yet")])
def test_check_calls_nothing_best_that_has_learned_nothing(best, said, capsys):
    from labloop.cli import show

    told = {
        "file": "start.csv", "what": "a table", "reader": "long", "read_as": "", "columns": {}, "refused": None,
        "units": {"od": "mg/L"}, "rows": 9, "designs": 9, "measured": 9, "failed": 0, "outside": 0, "range": None, "best": [],
        "history": [], "sees": {"letters": {"correlation": -0.8, "density": -1.5},
                                "vectors": {"correlation": best, "density": -1.4}},
    }  # fmt: skip
    show.started(told, {"assay": "od", "unit": "mg/L", "direction": "max"}, say=show.out.print, table=show._table, number=str)
    lines = capsys.readouterr().out.split()
    assert " ".join(said.split()) in " ".join(lines)
    assert ("best" in lines[lines.index("Gaussian") :]) == (best > 0)


def test_a_campaign_that_began_without_vectors_may_be_given_them(tmp_path):
    new = with_vectors(tmp_path)
    old = CampaignConfig.model_validate({"name": "variants", "space": {"parameters": [
        {"type": "sequence", "name": "protein", "length": 3, "alphabet": "ACDE"}]}})  # fmt: skip
    designs = old.space.decode(old.space.listing()[:4])
    designs.index = old.space.ids(old.space.listing()[:4])
    assert revised(old, new, designs=designs, assays=[]).space.embedded
