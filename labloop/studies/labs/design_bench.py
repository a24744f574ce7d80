"""Tasks of the package design_bench as simulated labs, and own data as a task of that package.

TF Bind 8 needs no file: its arrays come from the table that ships with labloop, and where the package is not installed so do its
measurements, which are the same. Every other task reads the files that you have (`data_dir`). Values are in the task's own unit,
larger is better. Source: B. Trabucco, X. Geng, A. Kumar, S. Levine, "Design-Bench", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from labloop.errors import MethodError
from labloop.registry import plugin
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import ALPHABETS, Parameter, Real, Sequence
from labloop.studies.labs import _design_bench as adapter
from labloop.studies.labs.lookup import Lookup
from labloop.studies.labs.tfbind8 import design_bench_arrays
from labloop.studies.labs.wells import Wells
from labloop.types import Array, FloatArray

TFBIND8 = "TFBind8-Exact-v0"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@plugin
class DesignBench(Wells):
    """A Design-Bench task as a lab: TF Bind 8 at once, others from the files that you have, own data as a task of its own."""

    task: str = TFBIND8
    """A registered name, such as UTR-RandomForest-v0. Oracles that are not exact are fitted when the lab opens."""
    data_dir: Path | None = None
    """Folder of Design-Bench's files (`utr/utr-x-0.npy`, …); nothing is written into it."""
    path: Path | None = None
    """A CSV of own designs and values (column `value`), registered as the task `NAME-RandomForest-v0` after the file's name."""
    source: Literal["auto", "package", "table"] = "auto"
    """Who answers for TF Bind 8: the package where it is installed, always the package, or labloop's table."""

    @property
    def space(self) -> DesignSpace:
        return self._loaded.space

    def table(self) -> tuple[pd.DataFrame, FloatArray]:
        """Give every design of the data set once, the hidden ones too, and its recorded value (n,)."""
        designs = self._loaded.to_table(self._loaded.x)
        first = ~designs.duplicated().to_numpy()
        return designs[first].reset_index(drop=True), self._loaded.y[first]

    def visible(self) -> tuple[pd.DataFrame, FloatArray]:
        """Give what the task shows to an offline method: every row under its percentile, repeated rows repeated, and y (n,)."""
        mask = self._loaded.visible
        return self._loaded.to_table(self._loaded.x[mask]), self._loaded.y[mask]

    def bounds(self) -> tuple[float, float]:
        """Give the least and the largest value of the whole data set, hidden rows included: they normalise scores."""
        return float(self._loaded.y.min()), float(self._loaded.y.max())

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Ask the task's oracle: a table of `value` and `status` (`ok`, `failed_technical`) in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        x = self._loaded.to_x(designs)
        values = self._loaded.predict(x) if len(x) else np.zeros(0)
        return self.reported(values, designs, seed=derive(seed, "design_bench"))

    @cached_property
    def _loaded(self) -> _Loaded:
        if self.path is not None:
            designs, values = (lab := Lookup(path=self.path, missing="failed")).table()
            name = register("".join(c if c.isalnum() else "_" for c in self.path.stem), lab.space, designs, values)
            return _from_package(adapter.make(name, self.data_dir))
        if self.task == TFBIND8 and (self.source == "table" or (self.source == "auto" and not adapter.installed())):
            return _from_table()
        return _from_package(adapter.make(self.task, self.data_dir))


def register(name: str, space: DesignSpace, designs: pd.DataFrame, values: Array, *, visible: float = 50.0) -> str:
    """Register own data with the package as the task `NAME-RandomForest-v0`; returns that name.

    A space of one sequence becomes a discrete data set of letter codes; any other a continuous one of labloop's encoding X.
    Making the task fits the package's random forest to all rows as its oracle.

    Args:
        name: letters, digits and underscores. Own data of the same name are replaced.
        values: (n,) finite, larger is better: give the negative of what is to become small.
        visible: rows up to this percentile are shown to offline methods.

    Raises:
        DesignError: a design is not of the space.
        MethodError: the package is missing, or has a task of that name itself.
        ValueError: values are not finite, or not as many as the designs.
    """
    values = np.asarray(values, dtype=np.float32)
    if len(values) != len(designs) or not np.isfinite(values).all():
        raise ValueError(f"{len(designs)} designs need as many finite values")
    task = f"{name}-RandomForest-v0"
    registry = adapter.package().registry
    known = registry.task_specs.get(task)
    if known is not None and not isinstance(known.dataset, _OwnData):
        raise MethodError(f"Design-Bench has a task {task} of its own: choose another name")
    registry.task_specs.pop(task, None)
    registry.register(
        task,
        _OwnData(name=name, space=space, x=_own_x(space, designs), y=values[:, None]),
        "design_bench.oracles.sklearn:RandomForestOracle",
        dataset_kwargs={"max_percentile": visible},
        oracle_kwargs={"model_kwargs": {"n_estimators": 100, "max_depth": 100, "max_features": 1.0, "random_state": 0}},
    )
    return task


@dataclass(frozen=True, eq=False, kw_only=True)
class _OwnData:
    """Makes the package's data set when a task is made, as the class of a data set would."""

    name: str
    space: DesignSpace
    x: Array
    y: Array

    def __call__(self, **kwargs: Any) -> Any:
        from importlib import import_module

        if _is_sequence(self.space):
            cls = import_module("design_bench.datasets.discrete_dataset").DiscreteDataset
            kwargs["num_classes"] = self.space.blocks[0].classes
        else:
            cls = import_module("design_bench.datasets.continuous_dataset").ContinuousDataset
        dataset = cls(self.x, self.y, **kwargs)
        dataset.name = f"{self.name}/{self.name}"
        dataset.labloop_space = self.space
        return dataset


@dataclass(frozen=True, eq=False, kw_only=True)
class _Loaded:
    """A task's rows and its oracle. Shapes: x (N, …) as the package holds designs, y (N,), visible (N,) bool."""

    space: DesignSpace
    x: Array
    y: FloatArray
    visible: Array
    predict: Callable[[Array], FloatArray]
    to_x: Callable[[pd.DataFrame], Array]
    to_table: Callable[[Array], pd.DataFrame]


def _from_table() -> _Loaded:
    x, y = design_bench_arrays()
    space = _letters("dna", 8, 4)
    places = 4 ** np.arange(7, -1, -1)
    scores = np.zeros(4**8)
    scores[x @ places] = y[:, 0]
    return _sequences(space, x, y, y[:, 0] <= np.percentile(y[:, 0], 50), lambda x: scores[x @ places])


def _from_package(task: Any) -> _Loaded:
    data = task.dataset
    x = np.concatenate([data.get_shard_x(i) for i in range(data.num_shards)])
    y = np.concatenate([data.get_shard_y(i) for i in range(data.num_shards)])

    def predict(x: Array) -> FloatArray:
        return task.predict(x)[:, 0].astype(float)

    own = getattr(data, "labloop_space", None)
    if task.is_discrete:
        name = "dna" if data.x_name == "dna_sequence" else "sequence"
        space = own or _letters(name, int(np.prod(x.shape[1:])), data.num_classes)
        return _sequences(space, x, y, data.dataset_visible_mask, predict)
    x = x.astype(np.float32)
    space = own or DesignSpace(parameters=_numbers(x))

    def to_x(designs: pd.DataFrame) -> Array:
        X = space.encode(designs)
        return (X if own else designs[list(space.columns)].to_numpy()).astype(np.float32)

    def to_table(x: Array) -> pd.DataFrame:
        return space.decode(x) if own else pd.DataFrame(x.astype(float), columns=list(space.columns))

    return _Loaded(
        space=space,
        x=x,
        y=y[:, 0].astype(float),
        visible=data.dataset_visible_mask,
        predict=predict,
        to_x=to_x,
        to_table=to_table,
    )


def _sequences(space: DesignSpace, x: Array, y: Array, visible: Array, predict: Callable[[Array], FloatArray]) -> _Loaded:
    alphabet = np.array(list(space.parameters[0].alphabet))  # type: ignore[union-attr]

    def to_table(x: Array) -> pd.DataFrame:
        words = np.ascontiguousarray(alphabet[x]).view(f"U{x.shape[1]}").reshape(-1)
        return pd.DataFrame({space.columns[0]: words.astype(object)})

    return _Loaded(
        space=space, x=x, y=y[:, 0].astype(float), visible=visible, predict=predict,
        to_x=lambda designs: _own_x(space, designs), to_table=to_table,
    )  # fmt: skip


def _is_sequence(space: DesignSpace) -> bool:
    return len(space.parameters) == 1 and isinstance(space.parameters[0], Sequence)


def _own_x(space: DesignSpace, designs: pd.DataFrame) -> Array:
    X = space.encode(designs)
    if not _is_sequence(space):
        return X.astype(np.float32)
    block = space.blocks[0]
    return X.reshape(len(X), block.rows, block.classes).argmax(-1).astype(np.int32)


def _letters(name: str, length: int, classes: int) -> DesignSpace:
    """Letters stand for the package's codes 0, 1, … in order: DNA's where there are four, amino acids' where there are twenty."""
    if classes > len(LETTERS):
        raise MethodError(f"a task of {classes} classes a position has more than labloop's {len(LETTERS)} letters")
    alphabet = {4: ALPHABETS["dna"], 20: ALPHABETS["protein"]}.get(classes, LETTERS[:classes])
    return DesignSpace(parameters=(Sequence(name=name, length=length, alphabet=alphabet),))


def _numbers(x: Array) -> tuple[Parameter, ...]:
    """One parameter a column, from its least to its largest value in the whole data set."""
    low, high = x.min(0).astype(float), x.max(0).astype(float)
    high = np.where(high > low, high, low + 1.0)  # a column of one value has no range to scale by
    return tuple(Real(name=f"x{i}", low=float(low[i]), high=float(high[i])) for i in range(x.shape[1]))
