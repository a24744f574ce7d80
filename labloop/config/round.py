"""A round: the arms that share its plates, and the judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from labloop.config.allocation import Allocated, Allocation, apportion
from labloop.config.base import Config, Named, Plugin, Plugins, named
from labloop.errors import ConfigError
from labloop.plates.vessel import Plate
from labloop.runtime.words import WORD

BY_HAND = "by_hand"
"""What stands for the proposer of an arm whose designs people chose; such arms join a round by `labloop pick`, never by its
file."""


class Arm(Config):
    """One side of the comparison: who proposes, who selects, how many wells."""

    proposers: Plugins
    """The methods that offer designs: a name, a list of names, or names with options."""
    selector: Plugin = {"as_proposed": {}}
    """What chooses among the offers."""
    wells: int | None = Field(default=None, ge=1, le=1_000_000)
    """Wells of the plate; arms that name none share what is left, see `RoundConfig.allocation`."""
    pool: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] | None = None
    """Candidates that each proposer offers; at least the plate's designs. `auto`: many where scoring one is cheap, see
    `labloop.proposing.pipeline.pool_size`."""
    shares: dict[str, Annotated[int, Field(ge=1, le=1_000_000)]] | None = None
    """Wells of each proposer, in any unit, where an arm takes designs as they are proposed: one that is not named counts 1; by
    turns where left out."""

    @property
    def as_proposed(self) -> bool:
        """Does it take its proposers' designs by turns, without choosing among them?"""
        return set(self.selector) == {"as_proposed"}

    @property
    def whole(self) -> Self:
        """The arm with no wells of its own, so that alone it has the whole plate."""
        return self.model_copy(update={"wells": None})

    @model_validator(mode="after")
    def _shares_make_sense(self) -> Self:
        if self.shares is None:
            return self
        if strange := sorted(set(self.shares) - set(self.proposers)):
            raise ValueError(f"shares: {strange[0]} is no proposer of this arm (there are: {', '.join(self.proposers)})")
        if not self.as_proposed:
            raise ValueError(
                f"shares: the selector {next(iter(self.selector))} chooses among all that is offered, whoever offers it: leave "
                "shares out, or take designs as_proposed"
            )
        return self


class RoundConfig(Config):
    """A round: the arms that share the plate and the surrogate that judges them."""

    schema_version: Literal[1] = 1
    arms: dict[Annotated[str, Field(pattern=WORD)], Arm] = Field(min_length=1)
    """The sides of the comparison, by name."""
    judge: Plugin | None = {"auto": {}}
    """The reference surrogate: fitted apart from all proposers, it scores every pick of every arm; null for a first plate."""
    plates: int = Field(default=1, ge=1, le=1000)
    """Plates of the round."""
    allocation: Allocated = Allocation()
    """How wells are shared that no arm names as its own."""

    @model_validator(mode="after")
    def _arms_known(self) -> Self:
        if strange := sorted(set(self.allocation.weights) - set(self.arms)):
            raise ValueError(f"allocation.weights: {strange[0]} is no arm (there are: {', '.join(self.arms)})")
        return self

    @property
    def sharing(self) -> tuple[str, ...]:
        """Arms that name no wells of their own."""
        return tuple(name for name, arm in self.arms.items() if arm.wells is None)

    @property
    def by_hand(self) -> tuple[str, ...]:
        """Arms whose designs people chose."""
        return tuple(name for name, arm in self.arms.items() if BY_HAND in arm.proposers)

    def plugins(self) -> list[Named]:
        """List the plug-ins named here."""
        found = named("surrogates", self.judge or {}, "judge")
        for name, arm in self.arms.items():
            found += named("proposers", arm.proposers, "arms", name, "proposers")
            found += named("selectors", arm.selector, "arms", name, "selector")
        return found

    def wells(self, total: int) -> dict[str, int]:
        """Split the round's design wells over the arms.

        Raises:
            ConfigError: the arms ask for more wells than there are, or for none.
        """
        fixed = {name: arm.wells for name, arm in self.arms.items() if arm.wells is not None}
        open_arms = [name for name in self.arms if name not in fixed]
        left = total - sum(fixed.values())
        if left < len(open_arms) or (left and not open_arms):
            raise ConfigError(
                f"arms ask for {sum(fixed.values())} wells and {len(open_arms)} more share the rest, "
                f"but the plates have {total} for designs: change arms.*.wells, or leave one arm's out to give it the rest"
            )
        weights = {name: self.allocation.weights.get(name, 1.0) for name in open_arms}
        uneven = bool(self.allocation.weights) and bool(open_arms)
        share = apportion(left, weights, least=1) if uneven else apportion(left, dict.fromkeys(open_arms, 1.0))
        least = self.allocation.least(left, len(open_arms))
        if self.allocation.rule == "evidence" and least * len(open_arms) > left:
            raise ConfigError(
                f"allocation.floor gives {least} wells to each of {len(open_arms)} arms, but only {left} are to be shared: "
                "lower allocation.floor, or raise plates"
            )
        return {name: fixed.get(name, share.get(name, 0)) for name in self.arms}

    @property
    def turns(self) -> tuple[str, ...]:
        """Arms that take several proposers' designs by turns, with no shares of their own."""
        return tuple(n for n, arm in self.arms.items() if arm.as_proposed and arm.shares is None and len(arm.proposers) > 1)

    def allocated(self, wells: Mapping[str, int], shares: Mapping[str, Mapping[str, int]] | None = None) -> Self:
        """Give arms these wells, and their proposers these shares; arms that are not named keep their own."""
        arms = {
            name: arm.model_copy(update={"wells": wells.get(name, arm.wells), "shares": (shares or {}).get(name, arm.shares)})
            for name, arm in self.arms.items()
        }
        return self.model_copy(update={"arms": arms})

    def joined(self, hands: Sequence[Mapping[str, Any]], wells: Mapping[str, int]) -> Self:
        """Let arms whose designs people chose join, each `arm` with what is told of it; `wells` are all arms'."""
        people = {
            one["arm"]: Arm(proposers={BY_HAND: {"by": one["by"], "file": one["file"], "designs": len(one["ids"])}}, wells=1)
            for one in hands
        }
        return self.model_copy(update={"arms": {**self.arms, **people}}).allocated(wells)

    def designs(self, plate: Plate) -> dict[str, int]:
        """Split the designs of the round's plates over the arms: an arm's wells hold its designs, each with its replicates.

        Raises:
            ConfigError: the arms ask for more wells than there are, for none, or for a part of a design's replicates.
        """
        each = plate.replicates
        if each == 1:
            return self.wells(plate.capacity * self.plates)
        for name, arm in self.arms.items():
            if arm.wells is not None and arm.wells % each:
                near = max(arm.wells // each, 1) * each
                raise ConfigError(
                    f"arms.{name}.wells: {arm.wells} wells hold no whole number of designs of {each} wells each "
                    f"(plate.replicates): take {near} or {near + each}"
                )
        arms = {n: a if a.wells is None else a.model_copy(update={"wells": a.wells // each}) for n, a in self.arms.items()}
        try:
            return self.model_copy(update={"arms": arms}).wells(plate.designs(self.plates))
        except ConfigError as error:
            raise ConfigError(f"{error} (counted in designs of {each} wells each, plate.replicates)") from error

    def without(self, arm: str, proposer: str) -> Self:
        """Leave one proposer out; an arm that has no other goes, and the arms that stay share the wells of the plate evenly."""
        kept = {name: options for name, options in self.arms[arm].proposers.items() if name != proposer}
        if kept:
            shares = self.arms[arm].shares and {name: n for name, n in (self.arms[arm].shares or {}).items() if name in kept}
            change = {"proposers": kept, "shares": shares}
            return self.model_copy(update={"arms": {**self.arms, arm: self.arms[arm].model_copy(update=change)}})
        left = {name: one if BY_HAND in one.proposers else one.whole for name, one in self.arms.items() if name != arm}
        return self.model_copy(update={"arms": left})
