"""Numbers of things, as Python is given them: whole and large enough, or refused by their name."""

from __future__ import annotations

from numbers import Integral

from labloop.errors import ConfigError


def check_count(what: str, n: object, *, least: int = 1, error: type[Exception] = ConfigError) -> None:
    """See that a number counts something; True and False do not.

    Args:
        what: its name, as whoever gave it knows it.
        error: what is raised: a built-in one where only Python can give the number.

    Raises:
        ConfigError: it is no whole number, or less than `least`; or `error`.
    """
    if isinstance(n, bool) or not isinstance(n, Integral) or int(n) < least:
        raise error(f"{what} is {n!r}: give a whole number, {least} or more")
