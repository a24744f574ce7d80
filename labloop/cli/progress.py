"""Progress of long work on a terminal, with the time left."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

if TYPE_CHECKING:
    from rich.progress import Progress

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Terminal(Console):
    """A terminal that shows what a name or a cell holds, and is not commanded by it.

    The name of a file that somebody sent can hold a sequence that erases lines, colours them or turns them round.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Give the segments of what is printed, with every command in a text spelt out."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else harmless(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


class Log(logging.Formatter):
    """What is logged for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the message, with every command in it spelt out."""
        return harmless(super().format(record))


def harmless(text: str) -> str:
    """Spell out what a terminal would take for a command; line ends stay."""
    return _COMMANDS.sub(lambda one: ascii(one[0])[1:-1], text)


err = Terminal(stderr=True, highlight=False, soft_wrap=True, markup=False)
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
