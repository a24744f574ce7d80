"""How a round's wells are shared by its arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from labloop.config.base import Config


def _by_name(value: Any) -> Any:
    return {"rule": value} if isinstance(value, str) else value


class Allocation(Config):
    """How the wells that no arm names as its own (`arms.*.wells`) are shared."""

    rule: Literal["equal", "fixed", "evidence"] = "equal"
    """`equal`: evenly. `fixed`: by `weights`. `evidence`: by what the arms achieved in earlier rounds, see
    `labloop.proposing.evidence`, and within arms that take designs as proposed by what their proposers achieved; the numbers are
    fixed in the ledger before the round trains."""
    weights: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(default_factory=dict)
    """For `fixed`: each arm's share, in any unit; an arm that is not named weighs 1."""
    floor: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """For `evidence`: wells that every arm gets whatever it achieved, so that it can still prove itself; by default 8, or half an
    equal share where the plate is small."""

    @model_validator(mode="after")
    def _sense(self) -> Self:
        if self.weights and self.rule != "fixed":
            raise ValueError(f"weights are for the rule fixed, not {self.rule}: leave them out, or set rule: fixed")
        if self.floor is not None and self.rule != "evidence":
            raise ValueError(f"floor is for the rule evidence, not {self.rule}: leave it out, or set rule: evidence")
        return self

    def least(self, wells: int, n_arms: int) -> int:
        """Say how many of so many wells every arm gets at least under `evidence`."""
        return self.floor or max(1, min(8, wells // (2 * max(n_arms, 1))))


Allocated = Annotated[Allocation, BeforeValidator(_by_name)]
"""An allocation, or the name of a rule alone."""


def apportion(total: int, weights: Mapping[str, float], *, least: int = 0) -> dict[str, int]:
    """Split a number of wells in proportion to weights, by largest remainder; ties go to the first.

    Args:
        least: what everyone gets before the rest is split.
    """
    names: Sequence[str] = list(weights)
    left = total - least * len(names)
    whole = sum(weights.values())
    exact = {name: left * (weights[name] / whole if whole > 0 else 1 / len(names)) for name in names}
    share = {name: int(exact[name] + 1e-9) for name in names}
    for name in sorted(names, key=lambda one: share[one] - exact[one])[: left - sum(share.values())]:
        share[name] += 1
    return {name: least + share[name] for name in names}
