"""The one door to the package design_bench 2.0.20, which does not import or run as published; no file of it is edited.

What is mended, all of it in memory and before anyone else sees the package:

1. `oracles.feature_extractors.morgan_fingerprint_features` needs deepchem, which cannot be imported beside TensorFlow: a stand-in
   takes its place and the ChEMBL tasks raise when they are used.
2. `oracles.exact` imports the oracles of all tasks, MuJoCo's too: a stand-in imports each of them when it is asked for.
3. `datasets.dataset_builder` uses names that NumPy 2 has dropped, and the global random generator: that module, and no other,
   sees a copy of NumPy's namespace with those names and a generator of its own.
4. `DATA_DIR` points into the package: it points at a working folder of this process, and nothing is ever downloaded, as the
   place that the package downloads from has closed.
5. `max_features="auto"` of the random forests, which scikit-learn has dropped, becomes 1.0, what it stood for; the forests get a
   seed.

Fitted oracles stay in memory. The package would keep them as pickles, which run code when they are read: here it neither writes
nor reads one.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import tempfile
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from labloop.errors import MethodError
from labloop.seeds import generator
from labloop.studies.labs.tfbind8 import design_bench_arrays
from labloop.types import Array

INSTALL = "pip install 'labloop-toolkit[designbench]', then pip install --no-deps design-bench==2.0.20"
TFBIND8_FILES = "tf_bind_8-SIX6_REF_R1/tf_bind_8-{}-0.npy"

_SHARD = re.compile(r"\w+-[xy]-\d+\.npy")
_EXACT = {
    "HopperControllerOracle": "hopper_controller_oracle",
    "AntMorphologyOracle": "ant_morphology_oracle",
    "DKittyMorphologyOracle": "dkitty_morphology_oracle",
    "ToyContinuousOracle": "toy_continuous_oracle",
    "ToyDiscreteOracle": "toy_discrete_oracle",
    "NASBenchOracle": "nas_bench_oracle",
    "TFBind8Oracle": "tf_bind_8_oracle",
    "TFBind10Oracle": "tf_bind_10_oracle",
}


def installed() -> bool:
    """Say whether the package design_bench can be found; it is not imported for that."""
    return importlib.util.find_spec("design_bench") is not None


@cache
def package() -> Any:
    """Import design_bench, mended.

    Raises:
        MethodError: it, or a package that it needs, is not installed.
    """
    if not installed():
        raise MethodError(f"lab design_bench needs the package design_bench: {INSTALL}")
    if "design_bench" not in sys.modules:
        _stand_in_for_morgan()
        _stand_in_for_exact()
    try:
        design_bench = importlib.import_module("design_bench")
        resources = importlib.import_module("design_bench.disk_resource")
        builder = importlib.import_module("design_bench.datasets.dataset_builder")
        approximate = importlib.import_module("design_bench.oracles.approximate_oracle")
        registration = importlib.import_module("design_bench.registration")
    except ImportError as error:
        raise MethodError(f"package design_bench cannot be imported ({error}): {INSTALL}") from error
    builder.np = _numpy()  # type: ignore[attr-defined]
    resources.DiskResource.download = _never_download  # type: ignore[attr-defined]
    approximate.ApproximateOracle.save_params = _keep  # type: ignore[attr-defined]
    approximate.ApproximateOracle.load_params = _kept  # type: ignore[attr-defined]
    for spec in registration.registry.task_specs.values():  # type: ignore[attr-defined]
        model = spec.oracle_kwargs.get("model_kwargs") or {}
        if model.get("max_features") == "auto":
            model["max_features"] = 1.0
        if str(spec.oracle).endswith(":RandomForestOracle"):
            model.setdefault("random_state", 0)
    return design_bench


def make(name: str, data_dir: Path | None) -> Any:
    """Make a task of the package, approximate oracles freshly fitted.

    Args:
        name: such as `TFBind8-Exact-v0`.
        data_dir: a folder with Design-Bench's files, only ever read.

    Raises:
        MethodError: the package, a file or a package that this task needs is missing, or nobody knows the task.
    """
    design_bench = package()
    known = design_bench.registry.task_specs
    if name not in known:
        near = get_close_matches(name, known, n=5, cutoff=0.3) or sorted(known)[:5]
        raise MethodError(f"Design-Bench has no task {name!r}; of its {len(known)} tasks these are nearest: {', '.join(near)}")
    spec = known[name]
    resources = importlib.import_module("design_bench.disk_resource")
    resources.DATA_DIR = str(working_folder(data_dir))  # type: ignore[attr-defined]
    try:
        _refuse_missing(spec, data_dir)
        kwargs = {} if "Exact" in spec.oracle_name else {"oracle_kwargs": {"fit": True}}
        return spec.make(**kwargs)
    except ImportError as error:
        wanted = getattr(error, "name", None) or error
        raise MethodError(
            f"Design-Bench's {name} needs the package {wanted!r}, which labloop does not install: install it beside labloop"
        ) from error


def _refuse_missing(spec: Any, data_dir: Path | None) -> None:
    if not isinstance(spec.dataset, str):  # own data, in memory
        return
    if spec.dataset_name.startswith("ChEMBL"):
        raise MethodError(f"Design-Bench's {spec.task_name} needs deepchem, which labloop does not load: it cannot be used here")
    module, _, name = spec.dataset.partition(":")
    dataset = getattr(importlib.import_module(module), name)
    resources = importlib.import_module("design_bench.disk_resource")
    shards = [*dataset.register_x_shards(), *dataset.register_y_shards()]
    wanted = [_relative(shard.disk_target) for shard in shards if not shard.is_downloaded]
    policies = {"AntMorphology": "ant_morphology/ant_oracle", "DKittyMorphology": "dkitty_morphology/dkitty_oracle"}
    policy = policies.get(spec.dataset_name) if spec.oracle_name == "Exact" else None
    if policy and not resources.DiskResource(f"{policy}.pkl", is_absolute=False).is_downloaded:
        wanted.append(
            f"{policy}.npz (the policy's weights: labloop reads no pickle, so convert {policy}.pkl where you trust it, "
            "with numpy.savez(path, **weights))"
        )
    if wanted:
        raise MethodError(_missing(spec.task_name, wanted, data_dir))


def _missing(task: str, wanted: list[str], data_dir: Path | None) -> str:
    shown = ", ".join(wanted[:4]) + (f" and {len(wanted) - 4} more" if len(wanted) > 4 else "")
    where = f"put them into {data_dir}" if data_dir else "put them into one folder and name it as data_dir"
    return f"Design-Bench's {task} needs files that are not there: {shown}; {where} (they can no longer be downloaded)"


def working_folder(data_dir: Path | None) -> Path:
    """Give the folder that the package reads from and writes into: TF Bind 8, and links to the user's files as they are now."""
    folder = _folder(data_dir)
    if data_dir is None:
        return folder
    if not data_dir.is_dir():
        raise MethodError(
            f"data_dir {data_dir} is not a folder: name the one that holds Design-Bench's files (utr/utr-x-0.npy, …)"
        )
    for source in sorted(data_dir.rglob("*.np[yz]")):
        target = folder / source.relative_to(data_dir)
        if target.suffix == ".npz":  # a policy's weights, under the name that its oracle asks for
            target = target.with_suffix(".pkl")
        elif not _SHARD.fullmatch(target.name):  # such as splits, which the package writes: never through a link
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(source.resolve())
    return folder


@cache
def _folder(data_dir: Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(dir=_temporary().name))
    for kind, array in zip("xy", design_bench_arrays(), strict=True):
        target = folder / TFBIND8_FILES.format(kind)
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, array)
    return folder


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="labloop-design-bench-")  # removed when this process ends


def _relative(path: str) -> str:
    resources = importlib.import_module("design_bench.disk_resource")
    return Path(path).relative_to(resources.DATA_DIR).as_posix()


def _never_download(self: Any, unzip: bool = True) -> bool:
    raise MethodError(
        f"Design-Bench's file {_relative(self.disk_target)} is not there and can no longer be downloaded: put it into data_dir"
    )


def _keep(self: Any, file: str, params: dict[str, Any]) -> None:
    self.labloop_params = params


def _kept(self: Any, file: str) -> Any:
    params = getattr(self, "labloop_params", None)
    if params is None:
        raise MethodError(f"labloop reads no pickled oracle such as {file}: make the task with oracle_kwargs=dict(fit=True)")
    return params


def _numpy() -> Any:
    """NumPy as `dataset_builder` knows it: dropped names are back, and random choices are the same every time."""

    def choice(a: Any, size: Any = None, replace: bool = True, p: Array | None = None) -> Any:
        return generator(0, "design_bench", "choice").choice(a, size, replace=replace, p=p)

    class Proxy(ModuleType):
        NINF = -np.inf
        PINF = np.inf
        bool = np.bool_
        random = SimpleNamespace(choice=choice)

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

    return Proxy("numpy")


def _stand_in_for_morgan() -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise MethodError("Design-Bench's ChEMBL tasks need deepchem, which labloop does not load: they cannot be used")

    class MorganFingerprintFeatures:
        """Made at import for every ChEMBL task, so it complains when it is used, not before."""

        name = "morgan_fingerprint"
        dataset_to_oracle_x = dataset_to_oracle_y = input_shape = input_dtype = is_discrete = num_classes = refuse

        def __init__(self, *_: Any, **__: Any) -> None: ...

    name = "design_bench.oracles.feature_extractors.morgan_fingerprint_features"
    module: Any = ModuleType(name)
    module.MorganFingerprintFeatures = MorganFingerprintFeatures
    sys.modules[name] = module


def _stand_in_for_exact() -> None:
    name = "design_bench.oracles.exact"
    found = importlib.util.find_spec("design_bench")
    assert found is not None
    assert found.submodule_search_locations
    module: Any = ModuleType(name)
    module.__path__ = [str(Path(found.submodule_search_locations[0]) / "oracles" / "exact")]

    def lazily(oracle: str) -> Any:
        if oracle not in _EXACT:
            raise AttributeError(f"module {name!r} has no attribute {oracle!r}")
        source: Any = importlib.import_module(f"{name}.{_EXACT[oracle]}")
        if hasattr(source, "pkl"):
            source.pkl = SimpleNamespace(load=_weights)
        return getattr(source, oracle)

    module.__getattr__ = lazily
    sys.modules[name] = module


def _weights(file: Any) -> dict[str, Array]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except ValueError as error:
        path = Path(file.name).resolve()
        raise MethodError(f"{path} holds more than plain arrays: write it with numpy.savez(path, **weights)") from error
