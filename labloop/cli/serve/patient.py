"""Answers that take long: kept while nothing has changed, counted beside a page that does not wait for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from labloop.errors import LabloopError

PATIENCE = 0.12
"""Seconds that a page waits for an answer before it is shown without."""
_MOST = 500
"""Answers that are kept: a list of campaigns asks one of each."""


_Key = tuple[Hashable, Hashable]
"""What an answer depends on, and the moment that it is of."""


@dataclass(frozen=True)
class Answer:
    """What is known now."""

    value: Any = None
    """The answer, an older one while the new one is counted; None where there is none yet."""
    fresh: bool = False
    """Whether it is that of now."""
    error: str = ""
    """Why there is none."""


@dataclass(frozen=True)
class Asked:
    """A question that was asked."""

    so_far: Answer
    """What is known of it without waiting."""
    _going: Future[Answer] | None = None

    def answer(self, patience: float = PATIENCE) -> Answer:
        """Give the answer, if it is there within so many seconds; else what was known before."""
        if self._going is None:
            return self.so_far
        wait([self._going], timeout=max(0.0, patience))
        return self._going.result() if self._going.done() else self.so_far


class Patient:
    """Asks in a thread of its own, each question once at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="labloop-count")
        self._kept: OrderedDict[Hashable, tuple[_Key, Answer]] = OrderedDict()
        self._asked: dict[Hashable, tuple[Hashable, Future[Answer]]] = {}
        self._lock = threading.RLock()  # an answer that is there at once is kept by who asks

    def ask(self, what: Hashable, key: Hashable, count: Callable[[], Any], *, moment: Hashable = None) -> Asked:
        """Ask, without waiting: whoever has several questions asks all of them before the first answer is waited for.

        Args:
            what: the question.
            key: what the answer depends on; while it is the same, the answer is.
            count: finds the answer.
            moment: when it is asked; an answer of another moment is given all the same, and found anew for the next who asks.
        """
        with self._lock:
            (known, when), answer = self._kept.get(what, ((None, None), Answer()))
            good = known == key and answer.fresh
            if good and when == moment:
                self._kept.move_to_end(what)
                return Asked(answer)
            going = self._asked.get(what)
            if going is None:
                future = self._pool.submit(_count, count)
                going = self._asked[what] = (key, future)
                future.add_done_callback(lambda done: self._keep(what, (key, moment), done))
        return Asked(answer) if good else Asked(Answer(answer.value), going[1] if going[0] == key else None)

    def here(self, what: Hashable, key: Hashable, count: Callable[[], Any]) -> Any:
        """Give an answer that a page is not shown without: the one that is kept, else it is found now, by who asks."""
        with self._lock:
            (known, _), answer = self._kept.get(what, ((None, None), Answer()))
        if known == key and answer.fresh:
            return answer.value
        value = count()
        with self._lock:
            self._store(what, (key, None), Answer(value, True))
        return value

    def _keep(self, what: Hashable, key: _Key, done: Future[Answer]) -> None:
        with self._lock:
            self._asked.pop(what, None)
            if not done.cancelled() and done.exception() is None:
                self._store(what, key, done.result())

    def _store(self, what: Hashable, key: _Key, answer: Answer) -> None:
        self._kept[what] = key, answer
        self._kept.move_to_end(what)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)

    def close(self) -> None:
        """End what is not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _count(count: Callable[[], Any]) -> Answer:
    try:
        return Answer(count(), True)
    except LabloopError as error:  # which the page shows in the answer's place
        return Answer(None, True, str(error))
