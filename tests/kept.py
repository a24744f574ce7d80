"""What tests begin with, made once: each has a copy of its own to change."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path

_FOLDER = tempfile.TemporaryDirectory(prefix="labloop-kept-")
_KEPT: dict[Hashable, Path] = {}


def copied(key: Hashable, make: Callable[[Path], object], place: Path) -> Path:
    """Copy into a folder what a function makes in an empty one: it is made once a process and key.

    Not for what keeps the path of where it was made, such as a schedule that names the files of its rounds.
    """
    if key not in _KEPT:
        folder = Path(tempfile.mkdtemp(dir=_FOLDER.name))
        make(folder)
        _KEPT[key] = folder
    return shutil.copytree(_KEPT[key], place, dirs_exist_ok=True)
