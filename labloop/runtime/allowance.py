"""Whose code a file may name: the modules that the user has allowed outside of all files, for this process and its children.

The list is the environment's `LABLOOP_PLUGINS`, so processes that are started from here have it too.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from labloop.errors import ConfigError
from labloop.runtime.environment import VARIABLES, Environment

VARIABLE = VARIABLES["plugins"]


def allow(*modules: str | type) -> None:
    """Let files name plug-ins of these modules by import path, `my_module:MyMethod`; nothing is imported now.

    Only call this with modules whose code you would run: never with a name that came from a file.

    Args:
        modules: names as `import` takes them, each for itself (a package does not allow what is in it), or a plug-in's class.

    Raises:
        ConfigError: a name is none of a module.
    """
    names = [one.__module__ if isinstance(one, type) else one for one in modules]
    for name in names:
        if not _is_a_name(name):
            raise ConfigError(
                f"plug-ins: {name!r} is no module's name: write it as import takes it, such as my_module or my.module"
            )
    os.environ[VARIABLE] = ",".join(sorted(allowed() | set(names)))


def allow_found(*modules: str) -> None:
    """Allow modules that somebody names now, who mistypes some.

    Raises:
        ConfigError: a name is none of a module, or Python finds none of that name.
    """
    for name in modules:
        root = name.partition(".")[0]  # what is within a package is found by importing it, later
        if _is_a_name(name) and root not in sys.modules and find_spec(root) is None:
            raise ConfigError(f"plug-ins: Python finds no module {name!r}: install it, or name its folder in PYTHONPATH")
    allow(*modules)


def _is_a_name(module: str) -> bool:
    return all(part.isidentifier() for part in module.split("."))


def allowed() -> frozenset[str]:
    """The modules that the user has allowed."""
    return frozenset(name for part in (Environment.now().plugins or "").split(",") if (name := part.strip()))
