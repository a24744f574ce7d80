"""The last answers about designs: a search asks what some are worth and then how they go with its picks, again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

T = TypeVar("T")
Answer = tuple[Tensor, Tensor, Tensor | None]
MOST = 1_024
"""Designs of a question whose answer is kept at most; this bounds memory."""
KEPT = 2
"""Answers that are kept."""


class Latest:
    """Remembers what was answered last, by the designs themselves."""

    def __init__(self) -> None:
        self._answers: dict[bytes, Answer] = {}

    def __call__(self, x: Float[Tensor, "m d"], answer: Callable[[Tensor], Answer]) -> Answer:
        """Give the answer about designs x, made anew where it is not among the last."""
        if len(x) > MOST:
            return answer(x)
        key = x.detach().cpu().numpy().tobytes()
        found = self._answers.pop(key, None) or answer(x)
        self._answers[key] = found  # as the last of all
        while len(self._answers) > KEPT:
            self._answers.pop(next(iter(self._answers)), None)
        return found


class Made(Generic[T]):
    """Remembers what was made of the last tensors, by the tensors themselves: measured designs are in each step of a fit and in
    each prediction, which asks for its own designs twice."""

    def __init__(self) -> None:
        self._made: tuple[tuple[Tensor, T], ...] = ()

    def __call__(self, x: Tensor, make: Callable[[Tensor], T]) -> T:
        """Give what is made of a tensor, made anew where it is not among the last."""
        last = self._made  # as another thread may ask for other designs meanwhile
        found = next((one for one in last if one[0] is x), None) or (x, make(x))
        self._made = (found, *(one for one in last if one[0] is not x))[:KEPT]
        return found[1]
