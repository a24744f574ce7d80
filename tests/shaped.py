"""Run a round with every array of a signature held against the shape that it is said to have; as a script, it prints what it saw.

In a process of its own: `labloop.types` gives its names a meaning where `jaxtyping` is loaded before it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
import pkgutil
import re
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin

from jaxtyping import AbstractArray, jaxtyped

CALLS: Counter[str] = Counter()
NAMES = {"Designs", "Others", "Values", "ByProperty", "Distances", "Flags", "Rows"}


def told(thing: Any) -> dict[str, Any]:
    """The annotations of a function or a class that speak of shapes."""
    names = vars(sys.modules[thing.__module__])
    texts = vars(thing).get("__annotations__", {}) if inspect.isclass(thing) else thing.__annotations__
    return {key: eval(text, names) for key, text in texts.items() if NAMES & set(re.findall(r"\w+", str(text)))}


def hold(hint: Any, value: Any, where: str) -> None:
    """Raise where a value has not the shape that is said of it."""
    if isinstance(hint, types.UnionType):
        if value is not None:
            hold(next(one for one in get_args(hint) if one is not type(None)), value, where)
    elif get_origin(hint) is tuple:
        for one, part in zip(get_args(hint), value, strict=True):
            hold(one, part, where)
    elif inspect.isclass(hint) and issubclass(hint, AbstractArray) and not isinstance(value, hint):
        raise TypeError(
            f"{where} is to be {hint.__name__}, and is {getattr(value, 'dtype', type(value))}{getattr(value, 'shape', '')}"
        )


def held(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function with its arrays held against its annotations; equal letters of one call are equal lengths."""
    hints, signature = told(fn), inspect.signature(fn)

    @jaxtyped(typechecker=None)
    @functools.wraps(fn)
    def checked(*args: Any, **options: Any) -> Any:
        CALLS[name] += 1
        for key, value in signature.bind(*args, **options).arguments.items():
            hold(hints.get(key), value, f"{name}: {key}")
        out = fn(*args, **options)
        hold(hints.get("return"), out, f"{name}: what it returns")
        return out

    return checked


def held_fields(cls: type, name: str) -> Callable[..., None]:
    """Make of a dataclass, with its fields held against their annotations."""
    hints, make = told(cls), cls.__init__

    @jaxtyped(typechecker=None)
    @functools.wraps(make)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        CALLS[name] += 1
        make(self, *args, **options)
        for key, hint in hints.items():
            hold(hint, getattr(self, key), f"{name}: {key}")

    return checked


def modules(*rooms: str) -> Iterator[types.ModuleType]:
    for room in rooms:
        package = importlib.import_module(f"labloop.{room}")
        yield package
        for one in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"{package.__name__}.{one.name}")


def hold_all(*rooms: str) -> None:
    """Hold every function and method of these rooms whose annotations speak of shapes."""
    everything = list(modules(*rooms))
    for module in everything:
        for name, thing in list(vars(module).items()):
            if getattr(thing, "__module__", "") != module.__name__:
                continue
            if inspect.isclass(thing) and not getattr(thing, "_is_protocol", False):
                if dataclasses.is_dataclass(thing) and told(thing):
                    thing.__init__ = held_fields(thing, f"{module.__name__}.{name}")  # type: ignore[misc]
                for method, fn in list(vars(thing).items()):
                    if inspect.isfunction(fn) and method != "__init__" and told(fn):
                        setattr(thing, method, held(fn, f"{module.__name__}.{name}.{method}"))
            elif inspect.isfunction(thing) and told(thing):
                checked = held(thing, f"{module.__name__}.{name}")
                for other in [*everything, *[m for k, m in sys.modules.items() if k.startswith("labloop.")]]:
                    for key, value in list(vars(other).items()):
                        if value is thing:
                            setattr(other, key, checked)


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
    option, letters = {"name": "c", "type": "choice", "options": ["a", "b"]}, {"name": "s", "type": "sequence", "length": 4}
    for parameters, goals in (
        ([number, option], {"gloss": {}, "cost": {"direction": "min"}}),
        ([number, option, letters], {"gloss": {}}),
        ([letters], {"gloss": {}}),
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
        else:
            fitted = create("surrogates", "auto", {"members": ["gp", "pairwise"]}).fit(data, seed=0)
            mean, std = fitted(X)
            past = Past.of(mean, std, mean + rng.normal(size=len(X)), rng.random(len(X)), np.arange(len(X)) % 2)
            judged = Judgement(posterior=fitted, data=data, correction=Correction.learnt(past), past=past)
        search(data, lambda X: X.sum(1), 20, seed=0, label="best", generations=2, population=16)
        pool = create("proposers", "mutate", {}).propose(data, 30, seed=0)
        for options in ({"beta": -1.0, "refine": 2}, {"beta": 1.0}):
            create("selectors", "conservative", options).select(pool, judged, data, 6, seed=0)


def wrong() -> dict[str, str]:
    """Give arrays of wrong shapes and kinds, and what is said of each."""
    import numpy as np

    from labloop.proposing.belief import Judgement
    from labloop.proposing.dataset import Dataset
    from labloop.space.design_space import DesignSpace
    from labloop.space.parameters import Real

    space = DesignSpace(parameters=(Real(name="t", low=0, high=1), Real(name="u", low=0, high=1)))
    X = np.full((3, 2), 0.5)
    made = {"space": space, "X": X, "y": np.zeros(3), "sem": np.zeros(3), "censored": np.zeros(3), "n_replicates": np.ones(3)}
    data = Dataset(**made, ids=("a", "b", "c"), pending=X[:1])
    odd = types.SimpleNamespace(belief=lambda X: (X[:, 0], X))
    tries: dict[str, Callable[[], Any]] = {
        "one design, no row": lambda: space.distance(X[0], X),
        "other columns": lambda: space.distance(X, X[:, :1]),
        "integers": lambda: space.ids(X.astype(np.int64)),
        "a field of another length": lambda: dataclasses.replace(data, y=np.zeros(2)),
        "an answer of another shape": lambda: Judgement(posterior=odd, data=data).belief(X),
    }
    said = {}
    for name, one in tries.items():
        try:
            one()
            said[name] = ""
        except TypeError as error:
            said[name] = str(error)
    return said


if __name__ == "__main__":
    hold_all("space", "proposing", "surrogates")
    play()
    sys.stdout.write(json.dumps({"calls": CALLS, "wrong": wrong()}))
