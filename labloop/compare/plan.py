"""What a campaign's comparison is to decide and at what level, fixed before its first plate is looked at.

Arms are looked at after every round. So that looking is free, the level (5 % false winners in a whole campaign) is spent in
parts that are known beforehand and add up to it, however long the campaign goes on:

- One half goes to *plates*: whether the designs that two arms put on these plates differ in worth. The first round has .6 of it,
  the other planned rounds share .35 evenly, rounds beyond the plan the rest (6/π²j² of it for the j-th). From the second round
  on a round's part is halved: its own plates, and all plates so far together.
- The other half goes to *arms*: whether one arm is better than the other, which needs rounds as the sample. From the third
  round on: look r of the planned rounds has a part in proportion to r − 2, as later looks know more; .1 is kept for rounds
  beyond the plan. A campaign of one or two planned rounds leaves this half to its plates, but for a fifth of it.
- Nine tenths of any of these parts are spent when the round is complete, one tenth while some of its wells are out.
- Where proposers are held against the free baselines too, they have a fifth, the pairs of arms the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["FREE", "ROUNDS", "Plan", "spent"]

FREE = ("random", "mutate", "pairwise", "forest", "gp_mean", "ensemble")
"""Proposers that cost next to nothing: what every other must beat."""

ROUNDS = 3
"""From so many rounds on rounds are the sample."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything about verdicts that is fixed beforehand."""

    rounds: int = 4
    """Rounds planned when the campaign began."""
    share: float = 0.8
    """No verdict on a round before each of the two arms has a result in so large a share of its wells there."""
    level: float = 0.05
    """Chance that a campaign of arms of equal worth ever names a winner."""
    free: tuple[str, ...] = FREE
    """Proposers that are baselines."""

    def plate(self, number: int) -> float:
        """Part of the level for one round's plates by themselves."""
        return self._plates(number) * (1.0 if number <= 1 else 0.5)

    def pooled(self, number: int) -> float:
        """Part of the level for all plates up to a round together."""
        return 0.0 if number <= 1 else self._plates(number) / 2

    def arms(self, number: int) -> float:
        """Part of the level for the arms themselves after a round."""
        if number < ROUNDS:
            return 0.0
        budget = self.level * (0.5 if self.rounds >= ROUNDS else 0.1)
        planned = self.rounds - ROUNDS + 1
        if self.rounds < ROUNDS:
            return budget * _basel(number - ROUNDS + 1)
        if number > self.rounds:
            return 0.1 * budget * _basel(number - self.rounds)
        return 0.9 * budget * (number - ROUNDS + 1) / (planned * (planned + 1) / 2)

    def _plates(self, number: int) -> float:
        budget = self.level * (0.5 if self.rounds >= ROUNDS else 0.9)
        if number <= 1:
            return (0.6 if self.rounds > 1 else 0.95) * budget
        if number > self.rounds:
            return 0.05 * budget * _basel(number - self.rounds)
        return 0.35 * budget / (self.rounds - 1)


def spent(part: float, *, waiting: bool) -> float:
    """Part of a round's part that a look may spend: nine tenths when the round is complete, one while wells are out."""
    return part * (0.1 if waiting else 0.9)


def _basel(j: int) -> float:
    """Parts that add up to one over all whole numbers."""
    return 6 / (math.pi * j) ** 2
