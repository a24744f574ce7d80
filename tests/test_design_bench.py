"""Design-Bench's own tasks through labloop, its package mended in memory, and the same numbers without the package."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labloop.errors import MethodError
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Real
from labloop.studies.labs import _design_bench as adapter
from labloop.studies.labs.design_bench import DesignBench, register
from labloop.studies.labs.tfbind8 import design_bench_arrays

UTR = Path(__file__).parents[2] / "shared" / "data" / "utr" / "utr_280k.npz"

ORIGINAL = {
    "x": "8957a728704d2e6c5dbba921dd9e16cbd76797489b081c5dc7f39ca23582d95d",
    "y": "a61dd97796a4173d3a2a3d016db44e5d42e1f1d6a39d9f1ad2465d2c6b94fcb7",
}
"""SHA-256 of the files that Design-Bench's authors gave out."""

package = pytest.mark.skipif(not adapter.installed(), reason=f"design_bench is not installed: {adapter.INSTALL}")


@pytest.fixture(scope="module")
def real() -> DesignBench:
    return DesignBench(source="package")


@pytest.fixture(scope="module")
def ours() -> DesignBench:
    return DesignBench(source="table")


@pytest.fixture
def toy(tmp_path):
    """A folder as a user has it: the files of ToyContinuous, 140 designs of 3 numbers in 14 pieces."""
    rng = generator(0, "toy")
    return shards(tmp_path / "toy", "toy_continuous/toy_continuous", rng.random((140, 3)).astype(np.float32), 14)


def shards(folder, name, x, n):
    y = -np.square(x - 0.5).sum(1, keepdims=True).astype(np.float32)
    (folder / name).parent.mkdir(parents=True)
    for i, (part_x, part_y) in enumerate(zip(np.split(x, n), np.split(y, n))):
        np.save(folder / f"{name}-x-{i}.npy", part_x)
        np.save(folder / f"{name}-y-{i}.npy", part_y)
    return folder


def test_our_table_makes_the_original_files_byte_for_byte():
    folder = adapter.working_folder(None)
    for kind, digest in ORIGINAL.items():
        assert hashlib.sha256((folder / adapter.TFBIND8_FILES.format(kind)).read_bytes()).hexdigest() == digest


@package
def test_table_and_package_agree_on_all_65_792_rows(real, ours):
    task = adapter.make("TFBind8-Exact-v0", None)
    x, y = design_bench_arrays()
    before = task.oracle.num_evaluations
    assert np.array_equal(task.predict(x), y)
    assert task.oracle.num_evaluations == before + 65_792
    designs, values = ours.table()
    assert np.array_equal(ours.measure(designs, seed=0)["value"], values)
    assert real.visible()[0].equals(ours.visible()[0])
    assert np.array_equal(real.visible()[1], ours.visible()[1])
    assert real.space == ours.space
    assert real.bounds() == ours.bounds() == (0.0, 1.0)


@package
def test_a_lab_answers_in_the_order_it_was_asked(real, ours):
    designs, values = ours.table()
    some = designs.sample(50, random_state=1)
    assert np.array_equal(real.measure(some, seed=0)["value"], values[some.index])


def test_what_the_task_shows_is_the_lower_half_with_palindromes_twice(ours):
    designs, values = ours.visible()
    assert len(designs) == 32_898
    assert designs["dna"].nunique() == 32_768
    assert values.max() == pytest.approx(0.43930, abs=5e-6)
    everything, scores = ours.table()
    assert len(everything) == 65_536
    assert set(everything["dna"][scores == 1]) == {"TGATACCT", "AGGTATCA"}


def test_without_the_package_tfbind8_still_measures_and_others_say_what_to_install(monkeypatch, ours):
    monkeypatch.setattr(adapter, "installed", lambda: False)
    adapter.package.cache_clear()
    designs = pd.DataFrame({"dna": ["TGATACCT", "AGGTATCA"]})
    assert DesignBench().measure(designs, seed=0)["value"].tolist() == [1.0, 1.0]
    for lab in (DesignBench(task="UTR-RandomForest-v0"), DesignBench(source="package")):
        with pytest.raises(MethodError, match="--no-deps design-bench"):
            _ = lab.space


def test_noise_and_failures_are_the_labs_not_the_tasks(ours):
    designs = ours.table()[0].head(2_000)
    true = ours.measure(designs, seed=0)["value"]
    lab = DesignBench(source="table", noise=0.1, failures=0.25)
    read = lab.measure(designs, seed=0)
    assert read.equals(lab.measure(designs, seed=0))
    assert not read.equals(lab.measure(designs, seed=1))
    assert read["value"].isna().mean() == pytest.approx(0.25, abs=0.04)
    assert (read["value"] - true).std() == pytest.approx(0.1, rel=0.1)


@package
def test_the_global_numpy_and_its_generator_stay_as_they_are():
    code = (
        "import numpy as np; names, state = set(dir(np)), np.random.get_state()[1].tolist(); "
        "from labloop.studies.labs.design_bench import DesignBench; "
        "from labloop.studies.labs import _design_bench as adapter; task = 'TFBind8-RandomForest-v0'; "
        "adapter.package().registry.task_specs[task].oracle_kwargs['model_kwargs']['n_estimators'] = 1; "
        "lab = DesignBench(task=task); lab.space; "
        "assert set(dir(np)) == names and np.random.get_state()[1].tolist() == state; "
        "import sys; assert not {'deepchem', 'torch', 'tensorflow', 'gym'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@package
@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("UTR-RandomForest-v0", "utr/utr-x-0.npy.* and 24 more"),
        ("AntMorphology-Exact-v0", r"ant_morphology/ant_oracle\.npz"),
        ("DKittyMorphology-Exact-v0", r"dkitty_morphology/dkitty_oracle\.npz"),
        ("HopperController-Exact-v0", "hopper_controller/hopper_controller-x-0.npy"),
        ("TFBind10-Exact-v0", "tf_bind_10"),
        ("ChEMBL_MCHC_CHEMBL3885882-RandomForest-v0", "deepchem"),
        ("UTR-Forest-v0", "UTR-RandomForest-v0"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_downloaded(task, wanted, monkeypatch, tmp_path):
    monkeypatch.setattr("requests.get", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(MethodError, match=wanted) as caught:
        _ = DesignBench(task=task, data_dir=tmp_path).space
    if "needs files" in str(caught.value):
        assert f"put them into {tmp_path}" in str(caught.value)


@package
def test_an_oracle_whose_packages_are_missing_names_them(tmp_path):
    folder = shards(
        tmp_path, "hopper_controller/hopper_controller", np.random.default_rng(0).random((20, 4)).astype(np.float32), 1
    )
    with pytest.raises(MethodError, match="needs the package 'gym'"):
        _ = DesignBench(task="HopperController-Exact-v0", data_dir=folder).space


@package
def test_a_folder_of_the_users_is_read_and_never_written(toy):
    before = {path: path.read_bytes() for path in toy.rglob("*") if path.is_file()}
    toy.chmod(0o500)
    lab = DesignBench(task="ToyContinuous-Exact-v0", data_dir=toy)
    designs, values = lab.visible()
    assert lab.space.columns == ("x0", "x1", "x2")
    assert len(designs) == 56  # the task shows 40 %
    assert np.allclose(lab.measure(designs, seed=0)["value"], values, atol=1e-6)
    assert lab.bounds()[1] == lab.table()[1].max() > values.max()
    assert {path: path.read_bytes() for path in toy.rglob("*") if path.is_file()} == before
    with pytest.raises(MethodError, match="not a folder"):
        _ = DesignBench(task="ToyContinuous-Exact-v0", data_dir=toy / "none").space


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was read",)


@package
def test_no_pickle_is_read_or_written(tmp_path, ours):
    designs, values = ours.table()
    rows = generator(0, "pickles").permutation(len(designs))[:100]
    name = register("pickles", ours.space, designs.iloc[rows], values[rows])
    planted = tmp_path / "pickles" / "pickles" / "random_forest.zip"  # where the package keeps the oracle of these data
    planted.parent.mkdir(parents=True)
    with zipfile.ZipFile(planted, "w") as archive:
        archive.writestr("random_forest.pkl", pickle.dumps(Bomb()))
    measured = DesignBench(task=name, data_dir=tmp_path).measure(designs.head(500), seed=0)
    assert measured.equals(DesignBench(task=name).measure(designs.head(500), seed=0))
    assert not [path for path in adapter.working_folder(tmp_path).rglob("*") if path.suffix in (".zip", ".pkl")]
    with pytest.raises(MethodError, match="reads no pickled oracle"):
        adapter.package().make(name, oracle_kwargs={"disk_target": str(planted), "is_absolute": True})


def test_a_policy_is_read_as_plain_arrays_only(tmp_path):
    weights = {"base_network.network.0.weight": np.eye(3)}
    np.savez(tmp_path / "good.npz", **weights)
    np.savez(tmp_path / "objects.npz", w=np.array([Bomb()], dtype=object))
    (tmp_path / "pickled.npz").write_bytes(pickle.dumps(Bomb()))
    with (tmp_path / "good.npz").open("rb") as file:
        assert np.array_equal(adapter._weights(file)["base_network.network.0.weight"], np.eye(3))
    for name in ("objects.npz", "pickled.npz"):
        with (tmp_path / name).open("rb") as file, pytest.raises(MethodError, match=r"numpy\.savez"):
            adapter._weights(file)


@package
def test_own_sequences_become_a_true_design_bench_task(ours):
    designs, values = ours.table()
    rows = generator(0, "own").permutation(len(designs))[:400]
    name = register("binding", ours.space, designs.iloc[rows], values[rows], visible=60)
    assert name == "binding-RandomForest-v0"
    task = adapter.package().make(name, oracle_kwargs={"fit": True})
    assert task.is_discrete
    assert task.x.shape == (240, 8)
    assert task.y.max() <= np.percentile(values[rows], 60) + 1e-6
    assert -1 <= float(task.oracle.params["rank_correlation"]) <= 1
    lab = DesignBench(task=name)
    assert lab.space == ours.space
    predicted = lab.measure(designs.iloc[rows], seed=0)["value"]
    assert np.corrcoef(predicted, values[rows])[0, 1] > 0.9  # a forest remembers the rows it was grown on
    assert register("binding", ours.space, designs.iloc[rows[:50]], values[rows[:50]]) == name
    with pytest.raises(MethodError, match="another name"):
        register("UTR", ours.space, designs.iloc[rows], values[rows])
    with pytest.raises(ValueError, match="finite"):
        register("binding", ours.space, designs.iloc[rows[:2]], [1.0, np.nan])


@package
def test_own_tables_of_numbers_and_options_open_from_a_csv(tmp_path):
    space = DesignSpace(parameters=(Real(name="heat", low=20, high=90, step=0.5), Choice(name="ligand", options=("a", "b", "c"))))
    designs = space.decode(space.sample(150, generator(1, "csv"))).drop_duplicates()
    value = designs["heat"] / 90 - (designs["ligand"] == "b")
    designs.assign(value=value).to_csv(tmp_path / "yield-2.csv", index=False)
    lab = DesignBench(path=tmp_path / "yield-2.csv")
    assert lab.space.columns == ("heat", "ligand")
    assert "yield_2-RandomForest-v0" in adapter.package().registry.task_specs
    predicted = lab.measure(designs, seed=0)["value"]
    assert np.corrcoef(predicted, value)[0, 1] > 0.9
    assert len(lab.visible()[0]) == pytest.approx(len(designs) / 2, abs=1)


@package
@pytest.mark.slow
@pytest.mark.skipif(not UTR.exists(), reason="the UTR rows are not at ../shared/data")
def test_the_utr_task_runs_on_its_original_rows(tmp_path):
    with np.load(UTR) as packed:
        length = int(packed["length"])
        bits = np.stack([packed["x_packed"] >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1)
        x = bits.reshape(len(bits), -1)[:, :length].astype(np.int32)
        y = packed["y"].reshape(-1, 1).astype(np.float32)
    (tmp_path / "utr").mkdir()
    for i in range(14):
        rows = slice(20_000 * i, 20_000 * (i + 1))
        np.save(tmp_path / "utr" / f"utr-x-{i}.npy", x[rows])
        np.save(tmp_path / "utr" / f"utr-y-{i}.npy", y[rows])
    lab = DesignBench(task="UTR-RandomForest-v0", data_dir=tmp_path)
    designs, values = lab.visible()
    assert len(designs) == pytest.approx(140_000, abs=10)
    assert values.max() / lab.bounds()[1] == pytest.approx(0.594, abs=5e-4)
    everything, true = lab.table()
    rows = generator(0, "utr").permutation(len(everything))[:1_000]
    predicted = lab.measure(everything.iloc[rows], seed=0)["value"]
    assert pd.Series(predicted).corr(pd.Series(true[rows]), method="spearman") > 0.15
