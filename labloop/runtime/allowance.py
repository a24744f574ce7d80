"""Whose code a file may name: the modules that the user has allowed outside of all files, for this process and its children.

The list is the environment's `LABLOOP_PLUGINS`, so processes that are started from here have it too.
"""

from __future__ import annotations

import os

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
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(
                f"plug-ins: {name!r} is no module's name: write it as import takes it, such as my_module or my.module"
            )
    os.environ[VARIABLE] = ",".join(sorted(allowed() | set(names)))


def allowed() -> frozenset[str]:
    """The modules that the user has allowed."""
    return frozenset(name for part in (Environment.now().plugins or "").split(",") if (name := part.strip()))
