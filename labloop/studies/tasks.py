"""Tasks of a benchmark: a landscape whose better part is hidden, and what of the rest a method sees.

A task is written `NAME`, or `NAME/option=value/…`. `NAME` is `tfbind8`, a Design-Bench name such as `UTR-RandomForest-v0`,
`lookup:FILE.csv`, or any simulated lab; options are those of the lab (`ehrlich/length=16`), but for five of the task's own:

- `fraction` is the share of the visible rows that methods see, another one for each seed;
- `noise` is the noise on the values that they see, as a share of the landscape's full range;
- `q` is how many designs they offer;
- `visible` is the share of the landscape, its worst part, whose designs are visible: a half unless told otherwise;
- `direction=min` says that the lab's values are to become small.

A lab with a table shows a part of it. One without shows a part of `SURVEY` random designs, of its own library where it has one,
the same ones always; values are then normalised by the lab's bounds where it knows them. Design-Bench's tasks know themselves
what is visible.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labloop.errors import ConfigError, MethodError
from labloop.proposing.dataset import Dataset
from labloop.registry import available, create, parse_plugin
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.studies.labs.lab import Lab, content_of
from labloop.studies.starts import survey
from labloop.types import FloatArray

SURVEY = 10_000
"""Random designs that are measured where a lab has no table."""

STANDARD = "standard"
"""Stands for the tasks of `STANDARD_TASKS`."""

STANDARD_TASKS = (
    "tfbind8",
    "tfbind8/fraction=0.01",
    "tfbind8/noise=0.1",
    "tfbind8/q=16",
    "gb1/visible=0.95/fraction=0.01",
    "ehrlich/length=15/letters=4/banned=0/fraction=0.1",
    "rna/fraction=0.1",
)
"""DNA whole, sparse, noisy and for few wells; a protein of which a twentieth does anything; motifs that work together only;
binding of RNA of 14 letters. The last two cannot be listed."""

_DESIGN_BENCH = re.compile(r"\w+-\w+-v\d+")
_OWN = ("fraction", "noise", "q")


@dataclass(frozen=True, kw_only=True)
class View:
    """A task as it is asked for: which landscape, how much of it a method sees, and how many designs it offers."""

    task: str
    """The landscape, its options in alphabetical order."""
    label: str
    """As it was written."""
    q: int
    fraction: float
    noise: float

    @classmethod
    def of(cls, spec: str, *, q: int = 128, fraction: float = 1.0, noise: float = 0.0) -> View:
        """Read a task; what it does not say of itself is given.

        Raises:
            ConfigError: the name or an option is unknown, or a number does not make sense.
        """
        head, options = _parts(spec)
        try:
            own = {
                "q": _whole(options.pop("q", q)),
                **{k: float(options.pop(k, v)) for k, v in (("fraction", fraction), ("noise", noise))},
            }
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"task {spec!r}: fraction and noise are numbers, and q is a whole one") from error
        for good, rule in (
            (own["q"] >= 1, "q of at least 1"), (0 < own["fraction"] <= 1, "a fraction above 0 and up to 1"),
            (0 <= own["noise"] < np.inf, "a finite noise of 0 or more"),
        ):  # fmt: skip
            if not good:
                raise ConfigError(f"task {spec!r} needs {rule}")
        kept = "/".join(part for part in sorted(spec[len(head) :].split("/")) if part and part.partition("=")[0] not in _OWN)
        task = f"{head}/{kept}" if kept else head
        _check(task)
        return cls(task=task, label=spec, **own)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """A landscape: the visible rows as they are listed, (N,), what measures designs, and the range of all values."""

    lab: Lab
    space: DesignSpace
    designs: pd.DataFrame
    values: FloatArray
    """Larger is better, also where the lab's own values are to become small."""
    low: float
    high: float
    sign: float = 1.0
    """-1 where the lab's values are to become small."""

    def data(self, *, fraction: float = 1.0, noise: float = 0.0, seed: int = 0) -> Dataset:
        """Give what a method sees: a random share of the visible rows, with noise on each; equal rows count once."""
        rows = np.arange(len(self.values))
        if fraction < 1:
            size = max(1, int(fraction * len(rows)))
            rows = np.sort(generator(seed, "fraction").permutation(rows)[:size])
        seen = self.designs.iloc[rows].assign(**{"": self.values[rows]}).drop_duplicates()
        values = seen.pop("").to_numpy(dtype=float)
        if noise:
            values = values + noise * (self.high - self.low) * generator(seed, "noise").standard_normal(len(values))
        return Dataset.from_measurements(self.space, seen, values)

    def scores(self, X: FloatArray) -> FloatArray:
        """Score designs X (m, d): normalised (m,), 0 the landscape's least value, 1 its largest; NaN where a design has none."""
        found = self.lab.measure(self.space.decode(X), seed=0)["value"].to_numpy(dtype=float)
        return self.normalised(self.sign * found)

    def normalised(self, values: FloatArray) -> FloatArray:
        return (values - self.low) / (self.high - self.low)


def content(spec: str) -> str:
    """Hash the files of its user's that a landscape is read from; empty where there are none.

    Raises:
        ConfigError: nobody knows the name, or an option.
        MethodError: a package is missing, or a file cannot be read.
    """
    return content_of(_lab(spec, None)[0])


@cache
def open_task(spec: str, data_dir: str | None = None, content: str = "") -> Task:
    """Open a landscape by its name and options.

    Args:
        content: what `content` gave: a file that changes is read again.

    Raises:
        ConfigError: nobody knows the name, or an option.
        MethodError: a package or file that the task needs is missing.
    """
    lab, sign, visible = _lab(spec, data_dir)
    if hasattr(lab, "visible") and hasattr(lab, "bounds"):
        designs, values = lab.visible()
        ends = lab.bounds()
    else:
        tabled = hasattr(lab, "table")
        designs, values = lab.table() if tabled else survey(lab, SURVEY, generator(0, "survey"), seed=0)
        ends = lab.bounds() if hasattr(lab, "bounds") and not tabled else (float(values.min()), float(values.max()))
        shown = sign * values <= np.quantile(sign * values, visible)
        designs, values = designs[shown], values[shown]
    low, high = sorted(sign * end for end in ends)
    if not high > low:
        raise MethodError(f"task {spec!r}: all values are {low}, so there is nothing to find")
    return Task(
        lab=lab, space=lab.space, designs=designs.reset_index(drop=True), values=sign * values, low=low, high=high, sign=sign
    )


def _lab(spec: str, data_dir: str | None) -> tuple[Any, float, float]:
    """Make a landscape's lab; with the sign of its values, and the share of it that is visible."""
    name, options = _check(spec)
    sign = -1.0 if options.pop("direction", "max") == "min" else 1.0
    visible = options.pop("visible", 0.5)
    if name == "tfbind8" and not options:
        name, options = "design_bench", {"source": "table"}
    elif _DESIGN_BENCH.fullmatch(name):
        name, options = "design_bench", {"task": name, "data_dir": data_dir, "source": "package", **options}
    return create("labs", name, options), sign, visible


def _whole(value: Any) -> int:
    if int(value) != float(value):
        raise ValueError
    return int(value)


def _parts(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a task into its name, with its file, and its options; a path may hold slashes."""
    head, told = spec, []
    while found := re.fullmatch(r"(.+)/(\w+=[^/]*)", head):
        head = found[1]
        told.append(found[2])
    if ":" not in head and "/" in head:
        raise ConfigError(f"task {spec!r}: write options as name/option=value")
    return head, parse_plugin("/".join(["task", *reversed(told)]))[1]


def _own_view(head: str) -> bool:
    return head == "tfbind8" or head.startswith("design_bench") or bool(_DESIGN_BENCH.fullmatch(head))


def _check(spec: str) -> tuple[str, dict[str, Any]]:
    """Give the lab's name, or Design-Bench's, and its options.

    Raises:
        ConfigError: nobody knows them.
    """
    head, options = _parts(spec)
    name, _, path = head.partition(":")
    labs = available("labs")
    if options.get("direction", "max") not in ("min", "max"):
        raise ConfigError(f"task {spec!r}: direction is min or max")
    part = options.get("visible", 0.5)
    if not isinstance(part, float | int) or not 0 < part < 1 or ("visible" in options and _own_view(head)):
        raise ConfigError(f"task {spec!r}: visible is a share between 0 and 1, and not for tasks of Design-Bench")
    if path and name in labs:
        return name, {**options, "path": Path(path)}
    if head in labs or _DESIGN_BENCH.fullmatch(head):
        return head, options
    raise ConfigError(
        f"task {spec!r} is unknown; there are: {STANDARD}, {', '.join(sorted(labs))}, lookup:FILE.csv, and Design-Bench's names "
        "such as TFBind8-Exact-v0"
    )
