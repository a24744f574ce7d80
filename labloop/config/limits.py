"""What holds for a batch as a whole: levels that designs share, amounts in total, what is out of stock, prices and the budget."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from labloop.config.base import Config
from labloop.space.design_space import DesignSpace
from labloop.space.parameter import canonical_text
from labloop.space.parameters import Choice, Integer, Real, Sequence
from labloop.types import FloatArray

_BAND = re.compile(r"([1-9]\d?) (column|row)s?")


def _scope(text: str) -> str:
    if text not in ("plate", "round", "campaign") and not _BAND.fullmatch(text):
        raise ValueError(f"{text!r} is no part of a campaign: write plate, round, campaign, or columns or rows such as 2 columns")
    return text


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Limit(Config):
    """One limit on what the designs of a plate, of some of its columns or rows, of a round, or of the campaign hold together."""

    per: Annotated[str, AfterValidator(_scope)] = "plate"
    """`plate`, `round`, `campaign`, or bands of a plate: `2 columns`, `1 row`."""
    at_most: int | None = Field(default=None, ge=1)
    """Different values that the parameter may have there."""
    total: Amount | dict[str, Amount] | None = None
    """Sum over wells of a number or a component; of an option, wells that may hold it: `{XPhos: 12}`."""
    out_of_stock: Annotated[tuple[str | float, ...], BeforeValidator(lambda one: [one] if isinstance(one, str) else one)] = ()
    """Options that are not proposed until this is revised."""

    @property
    def split(self) -> tuple[int, int] | None:
        """Rows and columns of its scope on a plate, 0 for all; None where plates do not matter."""
        if match := _BAND.fullmatch(self.per):
            return (0, int(match[1])) if match[2] == "column" else (int(match[1]), 0)
        return (0, 0) if self.per == "plate" else None

    def describe(self, name: str) -> list[str]:
        """Say in words what it asks of a parameter or component."""
        told = []
        if self.at_most is not None:
            told.append(f"at most {self.at_most} {'value' if self.at_most == 1 else 'values'} of {name} per {self.per}")
        if isinstance(self.total, float):
            told.append(f"at most {self.total:g} of {name} per {self.per}, summed over wells")
        elif self.total is not None:
            told += [f"{option} of {name} in at most {n:g} wells per {self.per}" for option, n in self.total.items()]
        if self.out_of_stock:
            told.append(f"{', '.join(map(canonical_text, self.out_of_stock))} of {name} out of stock")
        return told

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.at_most is None and self.total is None and not self.out_of_stock:
            raise ValueError("says nothing: give at_most, total or out_of_stock")
        if self.at_most is not None and self.per == "campaign":
            raise ValueError("at_most holds for a plate, some of its columns or rows, or a round; use total for a campaign")
        return self

    def check(self, name: str, space: DesignSpace) -> None:
        """See that the space has what the limit speaks of.

        Raises:
            ValueError: it has not.
        """
        of = {column: parameter for parameter in space for column in parameter.columns}
        if name not in of:
            raise ValueError(f"limits.{name}: the space has no such parameter or component; it has {', '.join(of)}")
        parameter = of[name]
        options = [canonical_text(one) for one in parameter.options] if isinstance(parameter, Choice) else []
        if self.at_most is not None and not isinstance(parameter, Choice | Integer | Real):
            raise ValueError(f"limits.{name}.at_most: {name} is of type {parameter.type}; it takes a choice or a number")
        if isinstance(parameter, Sequence):
            raise ValueError(f"limits.{name}: {name} is a sequence: limits are of choices, numbers and components")
        if isinstance(self.total, float) and options:
            raise ValueError(f"limits.{name}.total: {name} is no amount; of a choice name options: {{{options[0]}: 12}}")
        named = [*self.out_of_stock, *(self.total if isinstance(self.total, dict) else ())]
        if named and not options:
            raise ValueError(f"limits.{name}: {name} has no options; give total as a number")
        if strange := [one for one in map(canonical_text, named) if one not in options]:
            raise ValueError(f"limits.{name}: {', '.join(strange)} is no option of it; there are {', '.join(options)}")
        if self.out_of_stock and set(options) <= set(map(canonical_text, self.out_of_stock)):
            raise ValueError(f"limits.{name}.out_of_stock: leaves no option")


def _several(one: Any) -> Any:
    """Take a single limit for a list of one."""
    if one is None or one == [] or isinstance(one, int | float | str):
        raise ValueError(f"says nothing of a limit: write what it is, such as {{at_most: 1}} or {{total: 50}}, not {one!r}")
    return [one] if isinstance(one, Mapping | Limit) else one


Limits = Annotated[dict[str, Annotated[tuple[Limit, ...], BeforeValidator(_several)]], Field(default_factory=dict)]
"""By parameter, or component of a mixture; one limit or a list."""


class Prices(Config):
    """What designs cost, in one currency."""

    unit: str = ""
    """Of all prices, such as EUR."""
    design: Amount = 0.0
    """Of making a design once, however many wells it fills."""
    well: Amount = 0.0
    """Of measuring a well; those of controls too."""
    parameters: dict[str, Amount | dict[str, Amount]] = Field(default_factory=dict)
    """Of an option in a well, by its name (others are free); of a number or component, for each unit of it in a well; of a
    sequence, for each letter, once a design."""

    def check(self, space: DesignSpace) -> None:
        """See that the space has what is priced.

        Raises:
            ValueError: it has not.
        """
        of = {column: parameter for parameter in space for column in parameter.columns}
        for name, price in self.parameters.items():
            if name not in of:
                raise ValueError(f"prices.parameters.{name}: the space has no such parameter; it has {', '.join(of)}")
            parameter = of[name]
            options = [canonical_text(one) for one in parameter.options] if isinstance(parameter, Choice) else []
            if bool(options) != isinstance(price, dict):
                right = f"a price for each option, such as {{{options[0]}: 3.5}}" if options else "one number"
                raise ValueError(f"prices.parameters.{name}: takes {right}")
            if isinstance(price, dict) and (strange := sorted(set(map(canonical_text, price)) - set(options))):
                raise ValueError(f"prices.parameters.{name}: {', '.join(strange)} is no option; there are {', '.join(options)}")

    def of(self, designs: pd.DataFrame, space: DesignSpace, *, replicates: int) -> FloatArray:
        """Price each design of a table (n,), with all its wells."""
        kinds = {column: parameter.type for parameter in space for column in parameter.columns}
        once, each = np.full(len(designs), self.design), np.full(len(designs), self.well)
        for name, price in self.parameters.items():
            cells = designs[name]
            if isinstance(price, dict):
                known = {canonical_text(option): one for option, one in price.items()}
                each = each + np.array([known.get(canonical_text(cell), 0.0) for cell in cells.tolist()], dtype=float)
            elif kinds[name] == "sequence":
                once = once + price * cells.astype(str).str.len().to_numpy(float)
            else:
                each = each + price * cells.to_numpy(float)
        return np.asarray(once + replicates * each, dtype=float)


class Budget(Config):
    """What a campaign may spend in all."""

    wells: int | None = Field(default=None, ge=1)
    """Wells of all plates, controls and replicates included."""
    price: Annotated[float, Field(gt=0)] | None = None
    """In the unit of `prices`."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.wells is None and self.price is None:
            raise ValueError("says nothing: give wells, price, or both")
        return self


def shown(limits: Mapping[str, Any]) -> list[str]:
    """Say all limits in words."""
    return [told for name, several in limits.items() for limit in several for told in limit.describe(name)]
