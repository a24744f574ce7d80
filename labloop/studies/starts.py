"""What a simulated campaign begins with: measured designs drawn from the worse part of a lab."""

from __future__ import annotations

from numbers import Integral
from typing import Literal

import numpy as np
import pandas as pd

from labloop.config.campaign import CampaignConfig
from labloop.errors import ConfigError, MethodError
from labloop.seeds import derive, generator
from labloop.space.objective import Objective
from labloop.studies.labs.lab import Lab
from labloop.types import FloatArray


def start_of(
    campaign: CampaignConfig, lab: Lab, n: int | Literal["offline"], *, seed: int, quantile: float = 0.5
) -> pd.DataFrame:  # fmt: skip
    """Draw what the campaign of this seed in `simulate` starts from, for methods that are compared with it from outside."""
    return draw_start(lab, n, seed=derive(campaign.seed, "start", seed), quantile=quantile, objective=campaign.objective)


def draw_start(
    lab: Lab, n: int | Literal["offline"], *, seed: int, quantile: float = 0.5, objective: Objective | None = None
) -> pd.DataFrame:
    """Measure n random designs from the worse part of a lab, as the data that a campaign starts from.

    The worse part are designs whose value is not better than the quantile of the lab's whole table; a lab without a `table`
    has its quantile taken over designs of its `library`, or random ones, that it measures. `offline` takes the worse part whole.

    Returns:
        The design columns, `value` and `status`, one row a distinct design.

    Raises:
        ConfigError: fewer than two designs are asked for.
        MethodError: the part holds fewer than n designs.
    """
    if n != "offline" and (isinstance(n, bool) or not isinstance(n, Integral) or n < 2):
        raise ConfigError(
            f"a start of {n} designs was asked for: it is a whole number, 2 at least, or offline, which takes all of the part"
        )
    objective = objective or Objective()
    rng = generator(seed, "start")
    if hasattr(lab, "table"):
        designs, values = lab.table()
    else:
        size = max(2000, 4 * n if isinstance(n, int) else 0)
        designs, values = survey(lab, size, rng, seed=derive(seed, "start", "survey"))
    y = objective.to_y(values)
    low = np.flatnonzero(y <= np.quantile(y, quantile))
    n = len(low) if n == "offline" else n
    if len(low) < n:
        raise MethodError(f"a start of {n} designs was asked for, but only {len(low)} lie in the worse {quantile:.0%} of the lab")
    chosen = designs.iloc[rng.permutation(low)[:n]].reset_index(drop=True)
    return pd.concat([chosen, lab.measure(chosen, seed=derive(seed, "start", "measure"))], axis=1)


def survey(lab: Lab, size: int, rng: np.random.Generator, *, seed: int) -> tuple[pd.DataFrame, FloatArray]:
    """Measure random designs, of a lab's own `library` where it has one: distinct ones that have a value, and their values (m,).

    Raises:
        MethodError: none has a value.
    """
    X = lab.space.encode(lab.library(size, rng)) if hasattr(lab, "library") else lab.space.sample(size, rng)
    designs = lab.space.decode(X[lab.space.fresh(X)])
    found = lab.measure(designs, seed=seed)["value"].to_numpy(dtype=float)
    if not np.isfinite(found).any():
        raise MethodError(f"none of {size:,} random designs has a value in this lab: give it a `table` or a `library`")
    return designs[np.isfinite(found)].reset_index(drop=True), found[np.isfinite(found)]
