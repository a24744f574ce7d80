"""What quality control can say of a reading, and what a campaign may do about it."""

from __future__ import annotations

from typing import Literal

Rule = Literal["transfer_failed", "excluded", "reread", "swapped", "turned", "outlier", "edge", "drift", "z_prime"]
Policy = Literal["drop", "downweight", "keep"]
Method = Literal["none", "percent_of_control", "z_score", "robust_z", "b_score"]
"""How plates are put on one scale, see `labloop.assays.quality.normalise`."""

POLICIES: dict[Rule, Policy] = {
    "transfer_failed": "drop",
    "excluded": "drop",
    "reread": "drop",
    "swapped": "drop",
    "turned": "drop",
    "outlier": "keep",
    "edge": "keep",
    "drift": "keep",
    "z_prime": "keep",
}
"""What happens where the campaign says nothing: a reading is left out only where it is known not to be of its design."""

MEANING: dict[Rule, str] = {
    "transfer_failed": "the dispenser reported the well as not filled, in whichever order report and value came in",
    "excluded": "a later file excludes the well",
    "reread": "the well was read again later; the latest reading counts",
    "swapped": "its plate's controls lie where another plate of the round has them",
    "turned": "its plate's controls lie where they would be on the plate turned by 180 degrees",
    "outlier": "it disagrees with its own replicates; never said of a design that was measured once or twice",
    "edge": "an outer well of a plate whose outer wells read differently from the inner ones",
    "drift": "on a plate whose values rise or fall over the order of reading",
    "z_prime": "on a plate whose positive and negative controls overlap (Z' below 0)",
}

DOWNWEIGHT = 0.25
"""A downweighted reading counts as a quarter of one: its standard error doubles."""
RATE = 0.01
"""How often a clean plate (for outliers: a clean campaign) may get a flag of each rule by chance."""
EDGE_SIZE = 0.5
"""An edge effect below half the inner wells' robust standard deviation is not worth a flag, however sure it is."""
DRIFT_SIZE = 0.25
"""Nor is a drift whose rank correlation is smaller than this."""
TRANSFER = "Echo: "
"""How the note of a well begins that the Echo's report gives as failed."""
