"""Cheap plug-ins for tests of everything around the methods, named in configs by import path (`fakes:Flat`)."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
from sqlalchemy import exc

from labloop.errors import LedgerError
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import create, plugin
from labloop.seeds import generator
from labloop.types import FloatArray


def exported(folder: Path, names: str = "*") -> dict[str, object]:
    """The files of a plate as they were written, a manifest without the link of the chain, which has the moment in it."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in sorted(folder.glob(names))}
    for name in found:
        if name.endswith("_manifest.json"):
            found[name] = {key: value for key, value in json.loads(str(found[name], "utf-8")).items() if key != "ledger"}  # type: ignore[call-overload]
    return found


@plugin
class Flat:
    """A surrogate that believes the data's mean everywhere."""

    std: float = 1.0

    def fit(self, data: Dataset, *, seed: int):
        mean = float(data.y.mean()) if len(data) else 0.0

        def posterior(X: FloatArray) -> tuple[FloatArray, FloatArray]:
            return np.full(len(X), mean), np.full(len(X), self.std)

        return posterior


@plugin
class Ridge:
    """A surrogate that learns a straight line in X: it finds what matters where that adds up, in no time."""

    def fit(self, data: Dataset, *, seed: int):
        FITTED.append(seed)
        A = np.column_stack([np.ones(len(data)), data.X])
        w = np.linalg.solve(A.T @ A + 0.1 * np.eye(A.shape[1]), A.T @ data.y)
        std = float(np.std(data.y - A @ w)) + 1e-6

        def posterior(X: FloatArray) -> tuple[FloatArray, FloatArray]:
            return np.column_stack([np.ones(len(X)), X]) @ w, np.full(len(X), std)

        return posterior


FITTED: list[int] = []


@plugin
class Near:
    """A proposer that offers random mutants of the best measured designs; counts how often it was asked."""

    shift: int = 0

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        CALLS.append(seed)
        rng = generator(seed, "near", self.shift)
        X = data.space.mutate(np.tile(data.X[data.top(20)], (max(20, n // 2), 1)), rng, steps=2)
        return Pool.best(data, X, rng.random(len(X)), n, proposer="near", notes={"device": "cpu", "epochs": np.int64(3)})


CALLS: list[int] = []


def _refused() -> None:
    raise LedgerError("the database refuses what was to be written") from exc.DataError("INSERT", {}, ValueError("out of range"))


def _climbs(n: int = 0) -> int:
    return _climbs(n + 1) + 1


def _raises(error: BaseException) -> None:
    raise error


def _runs() -> None:
    while True:
        pass


DEEDS = {
    "type": lambda: _raises(TypeError("cannot safely cast non-equivalent float64 to int64")),
    "overflow": lambda: int(float("1e400")),
    "data": lambda: _raises(exc.DataError("INSERT", {}, ValueError("out of range"))),
    "refused": _refused,
    "recursion": _climbs,
    "memory": lambda: bytearray(3 * 2**30),  # never touched, so it costs nothing where no limit holds
    "exit": lambda: sys.exit(3),
    "locked": lambda: _raises(LedgerError("is locked by another process")),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "run": _runs,
}  # fmt: skip
"""What a file can make a process do, by the word that it begins with."""


@plugin
class Obedient:
    """A reader that does what a file says before it reads the rest as a long table."""

    def recognise(self, content: bytes, name: str) -> str | None:
        return "an order"

    def read(self, content: bytes, name: str, *, known):
        word, _, rest = content.partition(b"\n")
        if word.decode() in DEEDS:
            DEEDS[word.decode()]()
            content = rest
        return create("readers", "long").read(content, name, known=known)


@plugin
class Broken:
    """A proposer that breaks its contract: every design is the same one."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        X = data.space.sample(1, generator(seed, "broken"))
        return Pool.of(data.space, np.repeat(X, n, axis=0), np.zeros(n), proposer="broken")


@plugin
class Dies:
    """A proposer whose process is killed at its first training, as one that takes all memory is."""

    mark: str
    """A file that says that it has died."""

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        if not Path(self.mark).exists():
            Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Near().propose(data, n, seed=seed)
