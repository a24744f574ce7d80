"""Run a round with every array of a signature held against the shape that it is said to have, and tell what was seen.

For a process of its own, such as a fork: all of labloop is held from then on.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import runpy
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args, get_origin

import jaxtyping
from jaxtyping import AbstractArray, jaxtyped

import labloop.types

CALLS: Counter[str] = Counter()
"""What is held, and how often it was called."""
SHAPES = {name: getattr(jaxtyping, name) for name in ("Bool", "Float", "Float64", "Int")}
NAMES = {"Designs", "Others", "Values", "ByProperty", "Distances", "Flags", "Rows", *SHAPES}
MEANT = runpy.run_path(labloop.types.__file__)
"""What `labloop.types` gives its names for a meaning now that `jaxtyping` is loaded."""


def told(thing: Any) -> dict[str, Any]:
    """The annotations of a function or a class that speak of shapes; torch's modules import the words for type checkers only."""
    names = SHAPES | vars(sys.modules[thing.__module__]) | MEANT
    texts = vars(thing).get("__annotations__", {}) if inspect.isclass(thing) else thing.__annotations__
    return {key: eval(text, names) for key, text in texts.items() if NAMES & set(re.findall(r"\w+", str(text)))}


def hold(hint: Any, value: Any, where: str) -> None:
    """Raise where a value has not the shape that is said of it, or none of several."""
    if get_origin(hint) is tuple:
        for one, part in zip(get_args(hint), value, strict=True):
            hold(one, part, where)
    elif get_origin(hint) is list:
        for part in value:
            hold(get_args(hint)[0], part, where)
    else:
        every = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        shapes = [one for one in every if inspect.isclass(one) and issubclass(one, AbstractArray)]
        other = len(every) > len(shapes) and not hasattr(value, "shape")  # such as None, where that may be
        if shapes and not other and not any(isinstance(value, one) for one in shapes):
            said = " or ".join(one.__name__ for one in shapes)
            raise TypeError(
                f"{where} is to be {said}, and is {getattr(value, 'dtype', type(value))}{tuple(getattr(value, 'shape', ()))}"
            )


@jaxtyped(typechecker=None)
def agree(hints: dict[str, Any], values: dict[str, Any], name: str) -> None:
    """Hold values that belong together: equal letters are equal lengths."""
    for key, value in values.items():
        hold(hints.get(key), value, f"{name}: {'what it returns' if key == 'return' else key}")


def held(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function with its arrays held against its annotations, and each that it yields."""
    hints, signature = told(fn), inspect.signature(fn)
    yields = get_origin(hints.get("return")) is Iterator
    if yields:
        hints["return"] = get_args(hints["return"])[0]
    CALLS[name] = 0

    def each(given: dict[str, Any], found: Iterator[Any]) -> Iterator[Any]:
        for out in found:
            agree(hints, {**given, "return": out}, name)
            yield out

    @functools.wraps(fn)
    def checked(*args: Any, **options: Any) -> Any:
        CALLS[name] += 1
        given = signature.bind(*args, **options).arguments
        agree(hints, given, name)
        out = fn(*args, **options)
        if yields:
            return each(given, out)
        agree(hints, {**given, "return": out}, name)
        return out

    return checked


def held_fields(cls: type, name: str) -> Callable[..., None]:
    """The `__init__` of a class, with its fields held against their annotations afterwards."""
    hints, make = told(cls), cls.__init__
    CALLS[name] = 0

    @functools.wraps(make)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        CALLS[name] += 1
        make(self, *args, **options)
        agree(hints, {key: getattr(self, key) for key in hints}, name)

    return checked


def rebuilt(owner: type, name: str, where: str) -> None:
    """Hold a method, a class method or a property whose annotations speak of shapes."""
    made, inner = vars(owner)[name], {classmethod: "__func__", property: "fget", functools.cached_property: "func"}
    fn = getattr(made, inner[type(made)]) if type(made) in inner else made
    if not inspect.isfunction(fn) or not told(fn):
        return
    checked = held(fn, where)
    new = type(made)(checked) if type(made) in inner else checked
    setattr(owner, name, new)
    if isinstance(new, functools.cached_property):
        new.__set_name__(owner, name)


def modules(*rooms: str) -> Iterator[types.ModuleType]:
    for room in rooms:
        package = importlib.import_module(f"labloop.{room}")
        yield package
        for one in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"{package.__name__}.{one.name}")


def hold_all(*rooms: str) -> None:
    """Hold every function, class and method of these rooms whose annotations speak of shapes."""
    everything = list(modules(*rooms))
    for module in everything:
        for name, thing in list(vars(module).items()):
            if getattr(thing, "__module__", "") != module.__name__:
                continue
            where = f"{module.__name__}.{name}"
            if inspect.isclass(thing) and not getattr(thing, "_is_protocol", False):
                for method in list(vars(thing)):
                    if method != "__init__" or not dataclasses.is_dataclass(thing):
                        rebuilt(thing, method, f"{where}.{method}")
                if told(thing):
                    thing.__init__ = held_fields(thing, where)  # type: ignore[misc]
            elif inspect.isfunction(thing) and told(thing):
                checked = held(thing, where)
                for other in [*everything, *[m for k, m in sys.modules.items() if k.startswith("labloop.")]]:
                    for key, value in list(vars(other).items()):
                        if value is thing:
                            setattr(other, key, checked)
                        elif isinstance(value, dict):
                            value |= {k: checked for k, v in value.items() if v is thing}


def play() -> None:
    """Fit judges and choose picks, of one property in a mixed space and among sequences, and of two, by what a round calls."""
    import numpy as np

    from labloop.config import CampaignConfig, parse_config
    from labloop.proposing.belief import Correction, Judgement, Past
    from labloop.proposing.dataset import Dataset
    from labloop.proposing.panel import panel_of
    from labloop.proposing.search import search
    from labloop.registry import create

    rng = np.random.default_rng(0)
    number = {"name": "t", "type": "real", "low": 0, "high": 1}
    option, letters = {"name": "c", "type": "choice", "options": ["a", "b"]}, {"name": "s", "type": "sequence", "length": 5}
    for parameters, goals in (
        ([number, option], {"gloss": {}, "cost": {"direction": "min"}}),
        ([number, option, letters], {"gloss": {}}),
        ([letters | {"length": 40}], {"gloss": {}}),
    ):
        made = parse_config({"name": "x", "space": {"parameters": parameters}, "objectives": goals}, CampaignConfig)
        space = made.space
        X = space.sample(24, rng)
        X = X[space.fresh(X)]
        parts = [Dataset.from_measurements(space, space.decode(X), X @ rng.normal(size=space.d)) for _ in goals]
        data, none = parts[0], X[:0]
        judge = create("surrogates", "gp", {})
        if made.goal is not None:
            data = Dataset.of_properties(made.goal, parts, pending=none, failed=none)
            judged = panel_of(judge, data, seed=0)
            create("proposers", "qei", METHODS["qei"]).propose(data, 4, seed=0)
        else:
            fitted = create("surrogates", "auto", {"members": ["gp", "pairwise", "forest"]}).fit(data, seed=0)
            mean, std = fitted(X)
            past = Past.of(mean, std, mean + rng.normal(size=len(X)), rng.random(len(X)), np.arange(len(X)) % 2)
            judged = Judgement(posterior=fitted, data=data, correction=Correction.learnt(past), past=past)
        search(data, lambda X: X.sum(1), 20, seed=0, label="best", generations=2, population=16)
        pool = create("proposers", "mutate", {}).propose(data, 30, seed=0)
        for options in ({"beta": -1.0, "refine": 2}, {"beta": 1.0}):
            create("selectors", "conservative", options).select(pool, judged, data, 6, seed=0)


def measured(n: int, space: Any, **more: Any) -> Any:
    """Random designs of a space with a value each."""
    import numpy as np

    from labloop.proposing.dataset import Dataset

    rng = np.random.default_rng(0)
    X = space.sample(n, rng)
    X = X[space.fresh(X)]
    return Dataset.from_measurements(space, space.decode(X), X @ rng.normal(size=space.d), **more)


def fit(folder: Path) -> None:
    """Fit surrogates where each part of them has a say: words, vectors, descriptors, bounds, many designs, other campaigns."""
    import pandas as pd
    import torch

    from labloop.config import CampaignConfig, load_config
    from labloop.registry import create
    from labloop.space.design_space import DesignSpace
    from labloop.space.parameters import Choice, Real, Sequence

    letters = DesignSpace(parameters=(Sequence(name="s", length=17),))
    for options in ({}, {"network": "convolutional"}):
        tiny = {"members": 6, "hidden": [8], "steps": 50, **options}
        data = measured(30, letters, qualifiers=["<", *"=" * 29])
        fitted = create("surrogates", "ensemble", tiny).fit(data, seed=0)
        fitted(data.X)
        fitted.belief(data.X)
        fitted.left_out()
    sized = {one: {"size": float(i)} for i, one in enumerate("abcde")}
    options = Choice(name="c", options=tuple(sized), descriptors=sized)
    described = DesignSpace(parameters=(options, Real(name="t", low=0, high=1), Real(name="u", low=0, high=1)))
    data = measured(24, described)
    told = dataclasses.replace(measured(20, described), history=(dataclasses.replace(data, label="other"),))
    for some, options in ((data, {}), (told, {}), (data, {"max_points": 20, "inducing": 10})):
        fitted = create("surrogates", "gp", {"iterations": 3, **options}).fit(some, seed=0)
        fitted.draw(data.X, 3, generator=torch.Generator())
        fitted.correlation(data.X, data.X[:3])
    words = pd.DataFrame({"s": [format(i, "05b").replace("0", "A").replace("1", "C") for i in range(32)]})
    words.assign(e=words["s"].str.count("A"), f=range(32)).to_csv(folder / "vectors.csv", index=False)
    (folder / "campaign.yaml").write_text(
        "{name: x, space: {parameters: [{type: sequence, name: s, length: 5, alphabet: AC, descriptors: vectors.csv}]}}"
    )
    create("surrogates", "gp", {"iterations": 3}).fit(
        measured(30, load_config(folder / "campaign.yaml", CampaignConfig).space), seed=0
    )


def train(folder: Path) -> None:
    """Train each method whose tensors have shapes in their signatures, as little as can be, and let it offer designs."""
    from labloop.registry import create
    from labloop.space.design_space import DesignSpace
    from labloop.space.parameters import Choice, Mixture, Real, Sequence

    letters = DesignSpace(parameters=(Sequence(name="s", length=4),))
    parts = Mixture(name="m", components=("p", "q", "r"))
    mixed = DesignSpace(parameters=(Real(name="t", low=0, high=1), Choice(name="c", options=("a", "b")), parts))
    (folder / "library.csv").write_text("s\nACGT\nAACC\n")
    for space, more in ((letters, {"unlabelled": folder / "library.csv"}), (mixed, {})):
        for name, options in METHODS.items():
            full = options | (more if name == "braid" else {})
            create("proposers", name, full).propose(measured(40, space), 4, seed=0)


_NETWORK = {"hidden": [8], "epochs": 1, "min_steps": 3, "max_steps": 3}
_CLIMB = {**_NETWORK, "particle_steps": 2}
_CBAS = {**_NETWORK, "members": 2, "width": 8, "latent": 2, "prior_steps": 3, "rounds": 2, "samples": 20, "round_steps": 2}
_DIFFUSED = {"heads": 2, "hidden": [8], "reward_steps": 8, "prior_steps": 3, "iterations": 2, "n_samples": 16, "steps": 3}
METHODS: dict[str, dict[str, Any]] = {
    "autofocused_cbas": {**_CBAS, "focus_steps": 2},
    "bdi": _CLIMB,
    "bonet": {"length": 4, "trajectories": 8, "width": 8, "depth": 1, "heads": 2, "steps": 2},
    "braid": _DIFFUSED, "braid_bonus": _DIFFUSED, "guidance": _DIFFUSED,
    "coms": {"hidden_sizes": [8], "epochs": 1, "min_steps": 3, "particle_entropy_coefficient": 0.1},
    "ddom": {"width": 8, "steps": 2, "sampling_steps": 2},
    "gradient": {**_CLIMB, "search": "ascent"},
    "gtg": {
        "n_traj": 8, "horizon": 4, "dim": 8, "dim_mults": [1, 2], "steps": 3, "proxies": 2, "proxy_hidden": [8], "proxy_steps": 8,
        "context": 2, "n_samples": 8, "sampling_steps": 2, "timesteps": 4,
    },
    "ict": {**_CLIMB, "neighbours": 8},
    "match_opt": _CLIMB,
    "mins": {"width": 8, "layers": 1, "latent": 2, "steps": 2, "critic_steps": 1},
    "nemo": {**_CLIMB, "bins": 3},
    "pgs": {**_CLIMB, "policy_hidden": 8, "policy_steps": 2},
    "qei": {"samples": 8, "candidates": 16, "optimised": 0, "iterations": 2, "generations": 1},
    "qpo": {"samples": 8, "candidates": 16, "iterations": 2, "generations": 1},
    "ram": _NETWORK, "ram_cosine": _NETWORK,
    "reinforce": {**_NETWORK, "members": 2, "iterations": 2, "samples": 8},
    "roma": _CLIMB, "tri_mentoring": _CLIMB,
}  # fmt: skip
"""Options with which a training takes a moment."""


def wrong() -> dict[str, str]:
    """Give arrays of wrong shapes and kinds, and what is said of each."""
    import numpy as np
    import torch

    from labloop.methods._ascent import Networks, ascend
    from labloop.proposing.belief import Plain
    from labloop.proposing.dataset import Dataset
    from labloop.space.design_space import DesignSpace
    from labloop.space.parameters import Real
    from labloop.surrogates._fit import cholesky

    space = DesignSpace(parameters=(Real(name="t", low=0, high=1), Real(name="u", low=0, high=1)))
    X = np.full((3, 2), 0.5)
    made = {"space": space, "X": X, "y": np.zeros(3), "sem": np.zeros(3), "censored": np.zeros(3), "n_replicates": np.ones(3)}
    data = Dataset(**made, ids=("a", "b", "c"), pending=X[:1])
    nets = Networks.draw([0, 1], (3, 8, 1), torch.device("cpu"))
    z = torch.zeros(2, 5, 3)
    tries: dict[str, Callable[[], Any]] = {
        "one design, no row": lambda: space.distance(X[0], X),
        "other columns": lambda: space.distance(X, X[:, :1]),
        "integers": lambda: space.ids(X.astype(np.int64)),
        "a field of another length": lambda: dataclasses.replace(data, y=np.zeros(2)),
        "an answer of another shape": lambda: Plain(posterior=lambda X: (X[:, 0], X)).belief(X),
        "a step for another number of columns": lambda: next(ascend(nets, z, torch.ones(2), 1)),
        "particles that change on their way": lambda: next(ascend(nets, z, torch.ones(3), 1, project=lambda z: z[0])),
        "an array for a tensor": lambda: cholesky(np.eye(2)),
        "a noise for every pair": lambda: cholesky(torch.eye(2), torch.zeros(2, 2)),
    }
    said = {}
    for name, one in tries.items():
        try:
            one()
            said[name] = ""
        except TypeError as error:
            said[name] = str(error)
    return said


def seen() -> dict[str, Any]:
    """Hold all rooms that compute and play; gives how often each was called, and what was said of wrong shapes."""
    hold_all("space", "proposing", "surrogates", "methods")
    play()
    with TemporaryDirectory() as made:
        fit(Path(made))
        train(Path(made))
    return {"calls": CALLS, "wrong": wrong()}
