"""The terms of a round's batch: its limits with what is left of each, and the parts of the plates that they speak of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.config.limits import Limit, Prices
from labloop.errors import ConfigError
from labloop.plates.layout import PlatePart, parts_of
from labloop.space.constraints import Allowed
from labloop.space.design_space import DesignSpace
from labloop.space.parameter import canonical_text
from labloop.space.parameters import Choice, Mixture
from labloop.space.parameters import Sequence as Letters
from labloop.types import FloatArray

Amounts = Callable[[pd.DataFrame], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Something of which a batch may take only so much in each scope: a reagent, wells of an option, money."""

    label: str
    amounts: Amounts
    """Of each design of a table (n,), all its wells together."""
    least: float
    """That any design takes at least."""
    total: float
    """In each scope."""
    limit: Limit | None = None
    graded: bool = True
    """Whether designs take more or less of it, not all or nothing: then something is held back for those chosen last."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a round's batch must keep as a whole."""

    space: DesignSpace
    replicates: int
    parts: tuple[PlatePart, ...]
    """Parts of the plates with one scope of each limit; a single part without wells where no limit speaks of plates."""
    splits: tuple[tuple[int, int], ...]
    levels: tuple[tuple[str, Limit], ...]
    """Limits on how many values a parameter has."""
    resources: tuple[Resource, ...]
    prices: Prices | None = None
    placed: bool = field(default=False)
    """Whether designs must lie in their own part."""

    @classmethod
    def of(
        cls, config: CampaignConfig, *, plates: int, seed: int, before: pd.DataFrame | None = None, money: float | None = None
    ) -> Terms:  # fmt: skip
        """Take a campaign's terms for one round.

        Args:
            seed: the layout's, which places the controls that parts lie around.
            before: designs of earlier wells, a row a well, which campaign-wide totals have been spent on.
            money: what designs may cost, where there is a budget.
        """
        every = [
            (name, limit)
            for name, several in config.limits.items()
            for limit in several
            if limit.at_most is not None or limit.total is not None
        ]
        splits = tuple(dict.fromkeys(one.split for _, one in every if one.split is not None))
        each = config.plate.replicates
        whole = PlatePart(plate=0, wells=())
        parts = tuple(parts_of(config.plate, plates=plates, seed=seed, splits=splits)) if splits else (whole,)
        resources = [one for name, limit in every for one in _resources(name, limit, config.space, each, before)]
        if money is not None and config.prices is not None:
            prices, space = config.prices, config.space

            def cost(designs: pd.DataFrame) -> FloatArray:
                return prices.of(designs, space, replicates=each)

            resources.append(Resource(label="price", amounts=cost, least=cheapest(prices, space, each), total=money))
        return cls(
            space=config.space, replicates=each, parts=parts, splits=splits, placed=bool(splits), prices=config.prices,
            levels=tuple((name, limit) for name, limit in every if limit.at_most is not None), resources=tuple(resources),
        )  # fmt: skip

    def price(self, X: FloatArray) -> FloatArray:
        """Price each of valid designs X (m, d), with all its wells; (m,)."""
        assert self.prices is not None
        return self.prices.of(self.space.decode(X), self.space, replicates=self.replicates)

    @property
    def none(self) -> bool:
        return not self.levels and not self.resources

    def scope(self, limit: Limit | None, part: int) -> tuple[int, ...]:
        """Name the scope of a limit that a part lies in; one for all where plates do not matter."""
        split = None if limit is None else limit.split
        return () if split is None else self.parts[part].scopes[self.splits.index(split)]

    def sizes(self, n: int) -> list[int]:
        """Spread n designs over the parts: as many as its wells take, evenly where they are fewer.

        Raises:
            ConfigError: with their replicates they do not fit.
        """
        if not self.placed:
            return [n]
        room = [len(part.wells) // self.replicates for part in self.parts]
        if sum(room) < n:
            raise ConfigError(
                f"limits: parts of {', '.join(map(str, sorted({len(part.wells) for part in self.parts})))} wells hold "
                f"{sum(room)} designs of {self.replicates} wells each, not {n}: take parts, use or controls that leave multiples "
                "of replicates"
            )
        sizes = [0] * len(room)
        while sum(sizes) < n:
            free = [i for i in range(len(room)) if sizes[i] < room[i]]
            sizes[min(free, key=lambda i: (sizes[i] / room[i], i))] += 1
        return sizes

    def check(self, n: int) -> None:
        """Refuse limits that no batch of n designs can keep.

        Raises:
            ConfigError: with the limit and the reason.
        """
        sizes = self.sizes(n)
        for name, limit in self.levels:
            most = max(self._by_scope(limit, sizes).values())
            known = _designs_by_value(self.space, name)
            if known and limit.at_most is not None and sum(known[: limit.at_most]) < most:
                raise ConfigError(
                    f"limits.{name}: at most {limit.at_most} {'value' if limit.at_most == 1 else 'values'} per {limit.per} leave "
                    f"{sum(known[: limit.at_most])} designs for {most}: raise at_most, or limit a smaller part of a plate"
                )
        for one in self.resources:
            most = max(self._by_scope(one.limit, sizes).values())
            if one.least * most > one.total * (1 + 1e-9):
                where = f" per {one.limit.per}" if one.limit else ", what is left of the budget"
                raise ConfigError(
                    f"limits: {one.label}: {most} designs take at least {one.least * most:.6g}, more than {one.total:.6g}"
                    f"{where}: raise the total, or propose fewer wells"
                )

    def _by_scope(self, limit: Limit | None, sizes: Sequence[int]) -> dict[tuple[int, ...], int]:
        found: dict[tuple[int, ...], int] = {}
        for i, size in enumerate(sizes):
            found[self.scope(limit, i)] = found.get(self.scope(limit, i), 0) + size
        return found


def narrowed(space: DesignSpace, *rules: Allowed) -> DesignSpace:
    """Keep a space, with its encoding, to further rules."""
    told = {name: getattr(space, name) for name in DesignSpace.model_fields}
    return DesignSpace.model_validate({**told, "constraints": (*space.constraints, *rules)}) if rules else space


def cheapest(prices: Prices, space: DesignSpace, replicates: int) -> float:
    """Give a price below which no design is; of listable spaces that of the cheapest design."""
    if space.listable:
        return float(prices.of(space.decode(space.listing()), space, replicates=replicates).min())
    least = prices.design + replicates * prices.well
    for parameter in space:
        price = prices.parameters.get(parameter.name)
        if parameter.type in ("real", "integer") and isinstance(price, float):
            least += replicates * price * max(getattr(parameter, "low", 0.0), 0.0)
        elif isinstance(parameter, Choice) and isinstance(price, Mapping):
            known = {canonical_text(option): one for option, one in price.items()}
            least += replicates * min(known.get(canonical_text(option), 0.0) for option in parameter.options)
        elif isinstance(parameter, Letters) and isinstance(price, float):
            least += price * parameter.shortest
        elif isinstance(parameter, Mixture):
            amounts = [prices.parameters.get(component, 0.0) for component in parameter.components]
            least += replicates * min(one for one in amounts if isinstance(one, float))
    return float(least)


def _resources(
    name: str, limit: Limit, space: DesignSpace, replicates: int, before: pd.DataFrame | None
) -> list[Resource]:  # fmt: skip
    """Make the resources of a limit; one for a campaign has only what earlier wells have left."""
    spent = before if limit.per == "campaign" and before is not None else None
    if isinstance(limit.total, float):
        parameter = next(one for one in space if name in one.columns)
        least = replicates * max(float(getattr(parameter, "low", 0.0)), 0.0)
        used = 0.0 if spent is None else float(spent[name].astype(float).sum())

        def amount(designs: pd.DataFrame) -> FloatArray:
            return replicates * designs[name].to_numpy(float)

        return [Resource(label=name, amounts=amount, least=least, total=max(limit.total - used, 0.0), limit=limit)]
    found = []
    options = [canonical_text(one) for parameter in space if parameter.name == name for one in getattr(parameter, "options", ())]
    for option, n in (limit.total or {}).items():
        text = canonical_text(option)
        used = 0.0 if spent is None else float((spent[name].map(canonical_text) == text).sum())
        least = float(replicates) if options == [text] else 0.0
        found.append(Resource(label=f"{name} {text}", amounts=_holding(name, text, replicates), least=least,
                              total=max(n - used, 0.0), limit=limit, graded=False))  # fmt: skip
    return found


def _holding(name: str, option: str, replicates: int) -> Amounts:
    def amount(designs: pd.DataFrame) -> FloatArray:
        return replicates * np.array([canonical_text(cell) == option for cell in designs[name].tolist()], dtype=float)

    return amount


def _designs_by_value(space: DesignSpace, name: str) -> list[int]:
    """Count the designs of a listable space by the parameter's value, most first; none where it cannot be listed."""
    if not space.listable:
        return []
    return [int(n) for n in space.decode(space.listing())[name].value_counts()]
