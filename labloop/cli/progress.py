"""Progress of long work on a terminal, with the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
"""Where a person reads what is not the command's own output."""


@contextmanager
def progress(*, json: bool) -> Iterator[None]:
    """Show bars with the time left of long work, where a person looks on; one that only moves where no end is known."""
    if json or not err.is_terminal:
        yield
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from labloop.runtime.progress import listening

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bars:
        tasks: dict[str, Any] = {}
        somehow = bars.add_task("at work", total=None)

        def listener(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)
            if done == total:
                bars.remove_task(tasks.pop(label))
            bars.update(somehow, visible=not tasks)

        with listening(listener):
            yield
