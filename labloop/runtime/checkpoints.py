"""Where trainings keep their finished stages, so that one that was interrupted goes on at the last of them.

A campaign says where (`keeping`); a method asks what was kept (`labloop.methods._checkpoint`). Where nobody said anything,
nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from labloop.runtime.artifacts import Artifacts
from labloop.runtime.files import hash_of


@dataclass(frozen=True)
class Keeper:
    """Where stages are kept, and where earlier rounds kept those of the same proposer."""

    store: Artifacts
    earlier: tuple[str, ...] = ()
    """Folders in the store as `folder_of` names them, newest first."""


_keeper: ContextVar[Keeper | None] = ContextVar("labloop_checkpoints", default=None)


@contextmanager
def keeping(store: Artifacts | Path | str, earlier: tuple[str, ...] = ()) -> Iterator[None]:
    """Keep the finished stages of every training inside the block, and take up those that are there.

    Args:
        store: a folder or URL, see `Artifacts`.
        earlier: folders of the same proposer's trainings in earlier rounds, newest first: where a `warm_start` begins.
    """
    token = _keeper.set(Keeper(store if isinstance(store, Artifacts) else Artifacts(store), earlier))
    try:
        yield
    finally:
        _keeper.reset(token)


def keeper() -> Keeper | None:
    """Tell who keeps the stages of what is trained here."""
    return _keeper.get()


def folder_of(proposer: Any, fingerprint: str, seed: int) -> str:
    """Name the folder of a training: its dataset's fingerprint, then all else that it depends on.

    An option that names a file counts by the file's bytes.
    """
    told = {field.name: _plain(getattr(proposer, field.name)) for field in fields(proposer)}
    kind = type(proposer)
    key = json.dumps([kind.__module__, kind.__qualname__, told, seed], sort_keys=True, default=str)
    return f"{fingerprint}/{kind.__name__.lower()}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _plain(value: Any) -> Any:
    if isinstance(value, Path) and value.is_file():
        return hash_of(value)
    return value
