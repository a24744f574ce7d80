"""Arrays that many are handed, of which each must find what the others found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np


class Sealed:
    """A frozen dataclass whose arrays cannot be written into, nor where it is sent to another process.

    They are seen and not copied: who made them still can write into them.
    """

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                seen = value.view()
                seen.flags.writeable = False
                object.__setattr__(self, field.name, seen)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()
