"""Progress of long work on a terminal, with the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress

err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
"""Where a person reads what is not the command's own output."""


PATIENCE = 5.0
"""Seconds that a person waits without being told of it."""


@contextmanager
def progress(*, json: bool, what: str = "at work", after: float = 0.0) -> Iterator[None]:
    """Show bars with the time left of long work, where a person looks on; one that only moves where no end is known.

    Args:
        what: what the work is called as long as it tells of no part of it.
        after: seconds of work before anything is shown.
    """
    if json or not err.is_terminal:
        yield
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from labloop.runtime.progress import listening

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=err, transient=True)
    with _shown(bars, after):
        tasks: dict[str, Any] = {}
        somehow = bars.add_task(what, total=None)

        def listener(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)
            if done == total:
                bars.remove_task(tasks.pop(label))
            bars.update(somehow, visible=not tasks)

        with listening(listener):
            yield


@contextmanager
def _shown(bars: Progress, after: float) -> Iterator[None]:
    """Show bars, once the work inside the block has taken so many seconds."""
    begin = Timer(after, bars.start)
    begin.daemon = True
    if after > 0:
        begin.start()
    else:
        bars.start()
    try:
        yield
    finally:
        if after > 0:
            begin.cancel()
            begin.join()
        bars.stop()
