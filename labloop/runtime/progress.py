"""Progress of long work, reported to whoever listens (the terminal, a flow, nobody)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

_listener: ContextVar[Listener | None] = ContextVar("labloop_progress", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of everything inside the block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def track(total: int, label: str) -> Iterator[int]:
    """Count 0 … total-1 and report each finished step under `label`."""
    listener = _listener.get()
    for step in range(total):
        yield step
        if listener is not None:
            listener(label, step + 1, total)
