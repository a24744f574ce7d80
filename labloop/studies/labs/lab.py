"""The seam of whatever measures."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from labloop.errors import MethodError
from labloop.runtime.files import hash_of
from labloop.space.design_space import DesignSpace


@runtime_checkable
class Lab(Protocol):
    """Whatever measures: a simulated lab here, people and machines otherwise."""

    @property
    def space(self) -> DesignSpace: ...

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Measure designs: a table of the same length and order with `value` (n,), NaN where a well failed, and `status`."""
        ...


def content_of(lab: Any) -> str:
    """Hash the files that a lab's options name; empty where they name none.

    Raises:
        MethodError: a file cannot be read.
    """
    told = hashlib.sha256()
    read = [path for field in fields(lab) if isinstance(path := getattr(lab, field.name), Path) and path.is_file()]
    for path in read:
        try:
            told.update(bytes.fromhex(hash_of(path)))
        except OSError as error:
            raise MethodError(f"lab {type(lab).__name__.lower()}: {path} cannot be read: {error.strerror}") from error
    return told.hexdigest() if read else ""
