"""Simulated labs: the TF Bind 8 table, any complete table, and the start data drawn from one."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.errors import ConfigError, DesignError, LabloopError, MethodError
from labloop.registry import create
from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective
from labloop.space.parameters import Choice, Integer, Mixture, Real, Sequence
from labloop.studies.labs import tfbind8
from labloop.studies.labs.lab import Lab
from labloop.studies.labs.lookup import Lookup
from labloop.studies.labs.tfbind8 import TFBind8
from labloop.studies.simulate import draw_start as start
from labloop.studies.simulate import open_lab, start_of


def reverse_complement(dna: str) -> str:
    return dna[::-1].translate(str.maketrans("ACGT", "TGCA"))


def saved(array: np.ndarray) -> str:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


# ---- TF Bind 8


def test_design_bench_arrays_are_rebuilt_bit_for_bit() -> None:
    x, y = tfbind8.design_bench_arrays()
    assert (x.shape, y.shape) == ((65_792, 8), (65_792, 1))
    assert saved(x) == "8957a728704d2e6c5dbba921dd9e16cbd76797489b081c5dc7f39ca23582d95d"
    assert saved(y) == "a61dd97796a4173d3a2a3d016db44e5d42e1f1d6a39d9f1ad2465d2c6b94fcb7"


def test_the_table_holds_every_duplex_once_from_zero_to_one() -> None:
    designs, y = tfbind8.table()
    assert len(designs) == len(y) == 32_896
    both = set(designs["dna"]) | {reverse_complement(dna) for dna in designs["dna"]}
    assert len(both) == 4**8
    assert (y.min(), y.max()) == (0.0, 1.0)
    assert designs["dna"][y.argmax()] in {"TGATACCT", "AGGTATCA"}


def test_the_lab_reads_either_strand_as_the_table_has_it() -> None:
    x, y = tfbind8.design_bench_arrays()
    rows = np.random.default_rng(0).choice(len(x), 300, replace=False)
    words = ["".join("ACGT"[code] for code in x[row]) for row in rows]
    measured = TFBind8().measure(pd.DataFrame({"dna": words}), seed=0)
    np.testing.assert_allclose(measured["value"], y[rows, 0], atol=1e-7)
    assert set(measured["status"]) == {"ok"}


def test_the_visible_half_is_what_design_bench_shows() -> None:
    x, y = tfbind8.design_bench_arrays()
    shown = y[:, 0] <= np.percentile(y, 50)
    assert shown.sum() == 32_898
    words = {"".join("ACGT"[code] for code in row) for row in x[shown]}
    data = tfbind8.visible()
    mine = data.space.decode(data.X)["dna"]
    assert set(mine) | {reverse_complement(dna) for dna in mine} == words
    assert data.y.max() == pytest.approx(0.439296, abs=1e-6)


def test_noise_and_failures_follow_the_options_and_the_seed() -> None:
    designs, y = tfbind8.table()
    lab = TFBind8(noise=0.05, failures=0.1)
    measured = lab.measure(designs, seed=3)
    lost = measured["status"] == "failed_technical"
    assert (measured["value"].isna() == lost).all()
    assert lost.mean() == pytest.approx(0.1, abs=0.01)
    assert (measured["value"] - y).std() == pytest.approx(0.05, rel=0.05)
    pd.testing.assert_frame_equal(measured, lab.measure(designs, seed=3))
    assert not measured["value"].equals(lab.measure(designs, seed=4)["value"])


def test_labs_are_labs_and_refuse_impossible_options() -> None:
    assert isinstance(create("labs", "tfbind8"), Lab)
    for options in ({"noise": -1}, {"failures": 2}, {"nonsense": 1}):
        with pytest.raises(LabloopError, match=next(iter(options))):
            create("labs", "tfbind8", options)
    with pytest.raises(DesignError, match="length 7"):
        TFBind8().measure(pd.DataFrame({"dna": ["ACGTACG"]}), seed=0)


def test_a_start_is_distinct_random_designs_of_the_worse_half() -> None:
    lab = TFBind8()
    _, y = tfbind8.table()
    first, again, other = start(lab, 500, seed=1), start(lab, 500, seed=1), start(lab, 500, seed=2)
    assert list(first.columns) == ["dna", "value", "status"]
    assert len(set(lab.space.ids(lab.space.encode(first)))) == 500
    assert first["value"].max() <= np.median(y)
    pd.testing.assert_frame_equal(first, again)
    assert set(first["dna"]) != set(other["dna"])
    assert start(lab, 300, seed=0, quantile=0.1)["value"].max() <= np.quantile(y, 0.1)
    upper = start(lab, 300, seed=0, objective=Objective(direction="min"))
    assert upper["value"].min() >= np.median(y)
    with pytest.raises(MethodError, match="16449"):
        start(lab, 17_000, seed=0)
    for few in (-8, 0, 1, 2.5, True, "offlin"):
        with pytest.raises(ConfigError, match=f"a start of {few} designs was asked for: it is a whole number, 2 at least, or"):
            start(lab, few, seed=0)  # type: ignore[arg-type]


def test_a_start_needs_no_table() -> None:
    class Wave:
        space = DesignSpace(parameters=(Real(name="t", low=0, high=1),))

        def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
            return pd.DataFrame({"value": np.sin(7 * designs["t"].to_numpy(float)), "status": "ok"})

    begun = start(Wave(), 20, seed=0)
    assert len(begun) == 20
    assert begun["value"].max() < 0.4  # the sine's median over the range is 0.19


# ---- lookup tables


def write(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, index=False)
    return path


def factorial(**levels: list[object]) -> pd.DataFrame:
    table = pd.DataFrame(list(itertools.product(*levels.values())), columns=list(levels))
    return table.assign(value=np.arange(len(table)) / 7)


def test_a_table_of_sequences_becomes_a_sequence_space(tmp_path: Path) -> None:
    words = ["".join(letters) for letters in itertools.product("ACGU", repeat=3)]
    lab = Lookup(path=write(tmp_path / "rna.csv", pd.DataFrame({"rna": words, "value": np.arange(64.0)})))
    assert lab.space == DesignSpace(parameters=(Sequence(name="rna", length=3, alphabet="ACGU"),))
    shuffled = list(np.random.default_rng(0).permutation(words))
    assert lab.measure(pd.DataFrame({"rna": shuffled}), seed=0)["value"].tolist() == [words.index(word) for word in shuffled]


def test_columns_become_options_steps_and_whole_numbers(tmp_path: Path) -> None:
    table = factorial(base=["KOAc", "CsOPiv"], conc=[0.057, 0.1, 0.153], temp=[90, 105, 120], cycles=[1, 2, 3, 4])
    lab = create("labs", "lookup", {"path": str(write(tmp_path / "yields.csv", table))})
    assert isinstance(lab, Lab)
    assert lab.space.parameters == (
        Choice(name="base", options=("CsOPiv", "KOAc")),
        Choice(name="conc", options=(0.057, 0.1, 0.153)),
        Real(name="temp", low=90, high=120, step=15),
        Integer(name="cycles", low=1, high=4),
    )
    mixed = table.sample(frac=1, random_state=0)
    np.testing.assert_allclose(lab.measure(mixed, seed=0)["value"], mixed["value"])
    designs, values = lab.table()
    np.testing.assert_allclose(lab.measure(designs, seed=0)["value"], values)


def test_a_given_space_and_failing_designs_take_an_incomplete_table(tmp_path: Path) -> None:
    space = DesignSpace(parameters=(Mixture(name="metals", components=("Ni", "Fe", "Co"), step=0.5),))
    table = pd.DataFrame({"Ni": [1, 0.5, 0], "Fe": [0, 0.5, 0.5], "Co": [0, 0, 0.5], "mV": [310.0, 290.0, 305.0]})
    path = write(tmp_path / "oxides.csv", table)
    with pytest.raises(MethodError, match="lacks 3 of the 6 designs"):
        _ = Lookup(path=path, value="mV", design_space=space).space
    lab = Lookup(path=path, value="mV", design_space=space, missing="failed")
    asked = pd.DataFrame({"Ni": [0.5, 0.0], "Fe": [0.5, 1.0], "Co": [0.0, 0.0]})
    measured = lab.measure(asked, seed=0)
    assert measured["value"][0] == 290.0
    assert np.isnan(measured["value"][1])
    assert measured["status"].tolist() == ["ok", "failed_design"]


def test_a_table_of_several_properties_tells_each(tmp_path: Path) -> None:
    table = factorial(base=["KOAc", "CsOPiv"], temp=[90, 105, 120]).rename(columns={"value": "yield"})
    table = table.assign(cost=[1.0, 2.0, np.nan, 4.0, 5.0, 6.0])
    path = write(tmp_path / "yields.csv", table)
    lab = open_lab(f"lookup/value=yield/properties=[yield, cost]:{path}")
    assert lab.space.columns == ("base", "temp")
    told = lab.measure(table, seed=0)
    np.testing.assert_allclose(told[["value", "yield", "cost"]], table[["yield", "yield", "cost"]])
    lost = open_lab(f"lookup/value=yield/properties=[yield, cost]/failures=1:{path}").measure(table, seed=0)
    assert lost[["yield", "cost"]].isna().to_numpy().all()
    for wrong in ("[cost]", "[yield, price]"):
        with pytest.raises(MethodError, match="name columns of"):
            open_lab(f"lookup/value=yield/properties={wrong}/columns=[base, temp]:{path}").measure(table, seed=0)


def test_a_property_that_is_no_number_is_told_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("base,yield,cost\nA,1,2\nB,3,\nC,5,cheap\nD,6,inf\n")
    with pytest.raises(DesignError, match="leave a cell empty where nothing was measured") as refused:
        open_lab(f"lookup/value=yield/properties=[yield, cost]:{path}").measure(pd.DataFrame({"base": ["A"]}), seed=0)
    assert [(fault.row, fault.column) for fault in refused.value.faults] == [(4, "cost"), (5, "cost")]


@pytest.mark.parametrize(
    "text",
    [
        "base;pH;yield\nA;6,5;1,25\nB;7;2\nA;7;3\nB;6,5;4\n",
        "base\tpH\tyield\nA\t6.5\t1.25\nB\t7\t2\nA\t7\t3\nB\t6.5\t4\n",
        'base,pH,"yield","a;b;c;d"\nA,6.5,1.25,1\nB,7,2,2\nA,7,3,1\nB,6.5,4,2\n',
        "base,pH,yield,\nA,6.5,1.25,\nB,7,2,\nA,7,3,\nB,6.5,4,\n,,,\n",
    ],
    ids=["commas", "points", "quoted", "trailing"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_is_read_as_spreadsheets_write_it(text, encoding, tmp_path):
    (tmp_path / "table.csv").write_text(text, encoding=encoding)
    lab = open_lab(f"lookup/value=yield/columns=[base, pH]:{tmp_path / 'table.csv'}")
    assert lab.measure(pd.DataFrame({"base": ["A"], "pH": [6.5]}), seed=0)["value"].tolist() == [1.25]


def test_what_a_table_holds_one_value_of_is_no_part_of_its_designs(tmp_path: Path) -> None:
    table = factorial(base=["KOAc", "CsOPiv"], temp=[90, 105, 120])
    write(tmp_path / "table.csv", table.assign(solvent="DMAc", scale=5))
    assert Lookup(path=tmp_path / "table.csv").space.columns == ("base", "temp")
    with pytest.raises(MethodError, match="'solvent' holds one value only"):
        _ = Lookup(path=tmp_path / "table.csv", columns=("base", "temp", "solvent")).space


def broken(edit: str) -> pd.DataFrame | str:
    table = factorial(base=["KOAc", "CsOPiv"], temp=[90, 105, 120])
    tables = {
        "incomplete": table.drop(index=4),
        "twice": pd.concat([table, table.iloc[[1]]]),
        "not a number": table.assign(value=["1", "2", "OVRFLW", "3", "4", "5"]),
        "no value": table.rename(columns={"value": "yield"}),
        "empty cell": table.assign(base=["KOAc", None, "KOAc", "CsOPiv", "CsOPiv", "CsOPiv"]),
        "no name": table.assign(**{"": table.index}),
    }
    texts = {
        "empty": "",
        "header only": "base,temp,value\n",
        "one design": "base,value\nx,1\n",
        "binary": "\x00\xff\x00",
        "ragged": "a,value\n1,2\n1,2,3,4\n",
        "one name": "a,value,a\n1,2,1\n2,3,1\n",
    }
    return tables[edit] if edit in tables else texts[edit]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ("incomplete", r"lacks 1 of the 6 designs of its space, such as CsOPiv, 105"),
        ("twice", r"row 8, base, temp: is the design of row 3 again"),
        ("not a number", r"row 4, value: is not a finite number \(got 'OVRFLW'\)"),
        ("no value", r"no column 'value' \(there are: base, temp, yield\)"),
        ("empty cell", r"row 3, base: is empty"),
        ("no name", r"column 4 has no name"),
        ("empty", r"is not a CSV table"),
        ("header only", r"has no rows"),
        ("one design", r"lab lookup: broken.csv: alphabet 'X' of 'base' needs at least two letters"),
        ("binary", r"broken.csv"),
        ("ragged", r"broken.csv is not a CSV table"),
        ("one name", r"broken.csv has two columns 'a'"),
    ],
)
def test_a_table_that_cannot_be_a_lab_is_refused_with_the_place(edit: str, told: str, tmp_path: Path) -> None:
    content = broken(edit)
    path = tmp_path / "broken.csv"
    if isinstance(content, str):
        path.write_bytes(content.encode("latin-1"))
    else:
        write(path, content)
    with pytest.raises(LabloopError, match=told):
        _ = Lookup(path=path).space


def test_a_spoiled_archive_is_told(tmp_path: Path) -> None:
    content = bytearray(gzip.compress("".join(f"{i},{i * i}\n" for i in range(500)).encode()))
    content[20:40] = bytes(20)
    (tmp_path / "spoiled.csv.gz").write_bytes(content)
    with pytest.raises(MethodError, match=r"spoiled\.csv\.gz cannot be read: "):
        _ = Lookup(path=tmp_path / "spoiled.csv.gz").space


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"nowhere.csv cannot be read: No such file"):
        _ = Lookup(path=tmp_path / "nowhere.csv").space


def test_a_real_table_of_reaction_yields_is_a_lab() -> None:
    path = Path(__file__).parents[2] / "shared/data/direct_arylation/experiment_index.csv"
    if not path.exists():
        pytest.skip("the table of direct arylation yields is not beside the repository")
    raw = pd.read_csv(path)
    columns = tuple(c for c in raw.columns if c.endswith("SMILES") or c in {"Concentration", "Temp_C"})
    lab = Lookup(path=path, value="yield", columns=columns)
    assert lab.space.size == len(raw) == 1728
    np.testing.assert_allclose(lab.measure(raw, seed=0)["value"], raw["yield"])


# ---- functions of the literature


@pytest.mark.parametrize(("name", "reference"), [("hartmann6", "Hartmann"), ("levy10", "Levy")])
def test_a_function_is_botorchs_and_its_optimum_the_one_that_is_known(name: str, reference: str) -> None:
    import torch
    from botorch import test_functions

    lab = create("labs", name)
    known = getattr(test_functions, reference)(dim=lab.space.d)
    designs = lab.space.decode(lab.space.sample(200, np.random.default_rng(0)))
    value = lab.measure(designs, seed=0)["value"].to_numpy()
    np.testing.assert_allclose(value, known(torch.tensor(designs.to_numpy())).numpy(), atol=1e-6)
    design, best = lab.optimum
    assert best == pytest.approx(known.optimal_value, abs=1e-5)
    assert lab.measure(design, seed=0)["value"][0] == pytest.approx(best, abs=1e-9)
    assert best < value.min()


@pytest.mark.parametrize("name", ["hartmann6", "levy10"])
def test_a_function_lab_is_the_one_of_its_campaign_and_takes_noise_and_failures(name: str) -> None:
    campaign = load_config(preset(f"campaigns/{name}.yaml"), CampaignConfig)
    lab = open_lab(f"{name}/noise=0.5/failures=0.2")
    assert isinstance(lab, Lab)
    assert campaign.space == lab.space
    assert campaign.objective.direction == "min"
    designs = lab.space.decode(lab.space.sample(400, np.random.default_rng(0)))
    noisy, clean = lab.measure(designs, seed=1), create("labs", name).measure(designs, seed=1)
    lost = noisy["value"].isna()
    assert lost.mean() == pytest.approx(0.2, abs=0.08)
    assert (noisy["value"] - clean["value"])[~lost].std() == pytest.approx(0.5, rel=0.15)


def test_a_made_up_reaction_is_the_one_of_its_campaign_and_every_number_is_another() -> None:
    campaign, lab = load_config(preset("campaigns/kinetics.yaml"), CampaignConfig), create("labs", "kinetics")
    assert campaign.space == lab.space
    assert not lab.space.listable
    assert lab.bounds() == (0, 100)
    designs = lab.space.decode(lab.space.sample(300, np.random.default_rng(0)))
    values = [create("labs", "kinetics", {"reaction": number}).measure(designs, seed=0)["value"] for number in (0, 1)]
    assert all(value.between(0, 100).all() and value.std() > 5 for value in values)
    assert np.corrcoef(*values)[0, 1] < 0.9
    written = designs.astype(str).assign(ligand=" " + designs["ligand"] + " ")
    np.testing.assert_array_equal(values[0], lab.measure(written, seed=1)["value"])
    assert (open_lab("kinetics/noise=3").measure(designs, seed=1)["value"] - values[0]).std() == pytest.approx(3, rel=0.2)


def test_a_reaction_forms_its_product_and_loses_it_where_it_is_heated_for_long() -> None:
    lab = create("labs", "kinetics")
    best = lab.space.decode(lab.space.sample(500, np.random.default_rng(0)))
    one = best.iloc[[lab.measure(best, seed=0)["value"].argmax()] * 4].assign(
        temperature=[30.0, 80.0, 130.0, 130.0], time=[1.0, 4.0, 4.0, 24.0]
    )
    cold, warm, hot, hot_for_long = lab.measure(one, seed=0)["value"]
    assert cold < warm
    assert hot_for_long < hot
    slower = one.iloc[:1].assign(loading=0.5)
    assert lab.measure(slower, seed=0)["value"][0] < lab.measure(slower.assign(loading=5.0), seed=0)["value"][0]


def test_a_start_from_the_whole_lab_is_not_the_worse_half() -> None:
    lab, campaign = create("labs", "hartmann6"), load_config(preset("campaigns/hartmann6.yaml"), CampaignConfig)
    worse, whole = (start_of(campaign, lab, 400, seed=0, quantile=quantile)["value"] for quantile in (0.5, 1.0))
    assert whole.min() < worse.min() - 0.5
    assert worse.median() > whole.median()
